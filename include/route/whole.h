/*
 * whole.h
 *	  What a statement's text has in the place of values; for whole*.c.
 */
#ifndef FA_ROUTE_WHOLE_H
#define FA_ROUTE_WHOLE_H

#include "nodes/parsenodes.h"

typedef struct FaWhole
{
	Query	   *top;			/* the statement */
	List	   *pins;
	List	   *params;			/* expressions to evaluate here */
	List	   *fallible;		/* places in it, from 0, of those whose errors must
								 * not be raised here: the next one is for it */
	List	   *checks;			/* of row security, to be made here */
	bool		once;			/* what is evaluated here is so once there, too */
	bool		conditional;	/* perhaps not evaluated at all */
	bool		where;			/* in WHERE or ON, under nothing but AND and OR */
	bool		subqueries;		/* that need no rows have values here */
	bool		by_table;		/* the text names the table, not a bucket */
	bool		failed;
} FaWhole;

/*
 * in whole.c: targets of an INSERT without those that the user has not named and
 * that are defaults of the same value there: he may lack the right to write them
 */
extern List *fa_whole_named_targets(Query *query);

/* in whole_param.c */

/* Can a value of the type be sent as text? */
extern bool fa_whole_can_send(Oid type);

/* A parameter with the value of an expression; may set failed. */
extern Node *fa_whole_parameter(Node *expr, FaWhole *cx);

/*
 * In the place of an expression that is evaluated here, its value.  Sets failed
 * when it has none: it needs the rows, or is to be evaluated for each of them.
 */
extern Node *fa_whole_value(Node *expr, FaWhole *cx);

/*
 * For a subquery that needs no row of the statement: the same, or a comparison with
 * an array, to be looked at in its place.  NULL when it is not such a one, or is not
 * to be evaluated here.
 */
extern Node *fa_whole_subquery(SubLink *link, FaWhole *cx);

/*
 * Plans of parameters with subqueries, each in its place, where exprs gets a
 * NULL; NIL: there are none.
 */
extern List *fa_whole_queries(List *exprs);

/* in whole_text.c: of the query as it is sent; which is changed by that */
extern char *fa_whole_text(Query *query, FaWhole *cx);
extern void fa_whole_text_init(void);	/* with the router */

#endif							/* FA_ROUTE_WHOLE_H */
