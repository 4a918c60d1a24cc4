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
/*
 * The same two as a user, in a security-restricted operation: for statements about
 * rows of a table, in which its owner's code (checks, expressions of indexes, which
 * the planner computes, functions of types) may run.  A query's names are looked up
 * before, as ourselves; a utility statement's as the user.  InvalidOid: as ourselves.
 */
extern uint64 fa_spi_exec_as(Oid user, const char *sql);
extern FaRows *fa_spi_rows_as(Oid user, const char *sql);
/* First column of the first row, or NULL. */
extern char *fa_spi_value(const char *fmt,...) pg_attribute_printf(1, 2);

#endif							/* FA_CORE_SPI_H */
