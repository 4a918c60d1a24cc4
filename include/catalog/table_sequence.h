/*
 * table_sequence.h
 *	  Serial and identity columns of distributed tables.
 */
#ifndef FA_CATALOG_TABLE_SEQUENCE_H
#define FA_CATALOG_TABLE_SEQUENCE_H

#include "nodes/pg_list.h"

/* A node's sequence yields the values that are its id modulo the stride. */
#define FA_STRIDE_BIGINT 1024
#define FA_STRIDE_INTEGER 64

typedef struct FaSequence
{
	Oid			oid;			/* on this node */
	char	   *column;
	char	   *schema;
	char	   *name;
	char	   *type;			/* as format_type writes it */
	char		kind;			/* 'a', 'd': identity always, by default;
								 * 's': serial */
	bool		cycle;
	int64		increment;
	int64		start;
	int64		min;
	int64		max;
	int64		cache;
	int64		last;			/* nothing up to here is to be given out */
	List	   *grants;			/* of char *, statements */
} FaSequence;

/* in table_sequence.c.  All want fa_ddl_begin(). */

/* Sequences of a table's columns; last is read from the sequence. */
extern List *fa_sequence_list(Oid rel);
/* Raises last to the largest value in the table. */
extern void fa_sequence_add_values(List *sequences, Oid rel);
/* Values per round; 0 when the type is too small. */
extern int	fa_sequence_stride(const FaSequence *sequence);

/* As kept in distributed_table.definition. */
extern char *fa_sequence_json(List *sequences);
extern List *fa_sequence_parse(const char *json);

/*
 * Sequences of a distributed table as they were kept, with the names and
 * grants of now, and last the largest value that is known to be in use.
 */
extern List *fa_sequence_current(Oid rel, const char *json);

/*
 * Statements that make them, before and after CREATE TABLE of "table"
 * (quoted) and before its owner is set.  node 0: as on a table of one node,
 * with the stored increment.
 */
extern List *fa_sequence_before(List *sequences, int node);
extern List *fa_sequence_after(List *sequences, const char *table, int node);

#endif							/* FA_CATALOG_TABLE_SEQUENCE_H */
