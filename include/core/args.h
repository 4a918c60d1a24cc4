/*
 * args.h
 *	  Arguments of functions that act: a null is an error, not a null result.
 */
#ifndef FA_CORE_ARGS_H
#define FA_CORE_ARGS_H

#include "fmgr.h"

/* Raises NULL_VALUE_NOT_ALLOWED, naming the argument. */
static inline void
fa_require_argument(FunctionCallInfo fcinfo, int arg, const char *name)
{
	if (PG_ARGISNULL(arg))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
}

#endif							/* FA_CORE_ARGS_H */
