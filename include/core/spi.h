/*
 * spi.h
 *	  Short forms of SPI for the catalog's own statements.
 *
 * All of them connect and disconnect by themselves; results are palloc'd in
 * the caller's memory context.  Statements name every relation with its
 * schema.  Formats are appendStringInfo's.
 */
#ifndef FA_CORE_SPI_H
#define FA_CORE_SPI_H

/* Rows as text; NULL entries are SQL nulls. */
typedef struct FaRows
{
	int			nrows;
	int			ncols;
	char	 ***value;			/* [row][column] */
} FaRows;

extern uint64 fa_spi_exec(const char *fmt,...) pg_attribute_printf(1, 2);
extern FaRows *fa_spi_rows(const char *fmt,...) pg_attribute_printf(1, 2);
/* The same, with a new snapshot even in REPEATABLE READ; for SELECT only. */
extern FaRows *fa_spi_rows_latest(const char *fmt,...) pg_attribute_printf(1, 2);
/* First column of the first row, or NULL. */
extern char *fa_spi_value(const char *fmt,...) pg_attribute_printf(1, 2);

#endif							/* FA_CORE_SPI_H */
