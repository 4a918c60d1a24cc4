/*
 * function.h
 *	  Statements of PL/pgSQL functions, and whose snapshot theirs is.
 */
#ifndef FA_ROUTE_FUNCTION_H
#define FA_ROUTE_FUNCTION_H

#include "executor/execdesc.h"
#include "nodes/params.h"

/*
 * The plan cache has a statement planned with these values: is it a function's?
 * The answer is kept for when it is planned without any.
 */
extern void fa_function_note(const char *query_string, ParamListInfo params);
extern bool fa_function_is_known(const char *query_string);

/*
 * May the snapshot of a statement that is about to start be replaced by a newer
 * one, as nobody else has read with it?  In doubt: no.
 */
extern bool fa_function_may_renew(QueryDesc *desc);

#endif							/* FA_ROUTE_FUNCTION_H */
