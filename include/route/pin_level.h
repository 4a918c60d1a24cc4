/*
 * pin_level.h
 *	  What is known of the columns at one level of a statement; for pin*.c.
 */
#ifndef FA_ROUTE_PIN_LEVEL_H
#define FA_ROUTE_PIN_LEVEL_H

#include "nodes/primnodes.h"

#include "route/pin.h"

typedef struct FaLevel
{
	struct FaLevel *outer;
	Query	   *query;
	int			nrtes;
	int		   *natts;			/* by rti - 1; 0: not of interest */
	FaKnown   **known;			/* by rti - 1, attno - 1 */
	List	   *equalities;
	int			natts_of_one;	/* where natts and known are when nrtes is 1 */
	FaKnown    *known_of_one;
} FaLevel;

/* in pin.c: of a variable, also of the levels around; NULL: not of interest */
extern FaKnown *fa_level_known(FaLevel *level, Var *var);

/* Has the expression a value outside of the query, the same for all rows? */
extern bool fa_pin_has_value(Node *node);

/* in pin_equality.c */

/* May values be equal in it that are not the same? */
extern bool fa_pin_collation_is_loose(Oid collation);
/* What a domain is made of; cheap for the server's own types. */
extern Oid	fa_pin_base_type(Oid type);
/* The column's own equality, as its table's partitions have it, or a stricter. */
extern bool fa_pin_is_equality(Oid op, Oid collation, Var *var);

/* in pin_possible.c: a table, or one bucket of one, used with its partitions */
extern bool fa_pin_is_distributed(Query *query, Index rti, RangeTblEntry *rte);

/* in pin_written.c */

/* Sets written and becomes of a pin on the modified relation. */
extern void fa_pin_find_written(FaLevel *level, FaPin *pin);

/* Relations under a node of the join tree. */
extern Bitmapset *fa_pin_relids(Node *node);

#endif							/* FA_ROUTE_PIN_LEVEL_H */
