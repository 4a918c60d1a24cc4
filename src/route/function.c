/*
 * function.c
 *	  Statements of PL/pgSQL functions, and whose snapshot theirs is.
 *
 * A statement of a volatile function has a snapshot of its own, which is taken
 * when the plan cache has locked the tables; one of any other function shares its
 * caller's.  An old one can be replaced by a new one in the first case only.
 * PL/pgSQL tells: its parameters lead to the function's state; and what it opens as
 * a cursor has in its portal either a new snapshot or one that somebody else has,
 * too.
 *
 * Such a statement may wait for its parameters like a client's own (deferred.c).
 * When the plan cache asks for a plan that serves all values, nothing says whose
 * it is; but it has asked for some with values before.
 */
#include "postgres.h"

#include "fmgr.h"
#include "plpgsql.h"
#include "tcop/pquery.h"
#include "utils/portal.h"
#include "utils/snapshot.h"

#include "route/function.h"

/*
 * Texts of statements that functions were seen to execute, as the plan cache has
 * them, by the low bits of their addresses.
 */
#define NSEEN 256
static const char *seen[NSEEN];

static inline const char **
function_place(const char *query_string)
{
	return &seen[((uintptr_t) query_string / MAXIMUM_ALIGNOF) % NSEEN];
}

/* Are they those of a statement in a PL/pgSQL function? */
static bool
function_has(ParamListInfo params)
{
	static void *setup = NULL;
	static bool known = false;

	if (params == NULL || params->paramFetch == NULL || params->parserSetup == NULL)
		return false;
	if (!known)
	{
		setup = load_external_function("$libdir/plpgsql", "plpgsql_parser_setup",
									   false, NULL);
		known = true;
	}
	return setup != NULL && (void *) params->parserSetup == setup;
}

void
fa_function_note(const char *query_string, ParamListInfo params)
{
	const char **place = function_place(query_string);

	if (function_has(params))
		*place = query_string;
	else if (*place == query_string)
		*place = NULL;
}

bool
fa_function_is_known(const char *query_string)
{
	return *function_place(query_string) == query_string;
}

bool
fa_function_may_renew(QueryDesc *desc)
{
	ParamListInfo params = desc->params;

	if (params == NULL)
		return false;
	/* PortalStart has pushed it, and so has whoever else reads with it */
	if (ActivePortal && ActivePortal->status == PORTAL_DEFINED &&
		ActivePortal->portalParams == params)
		return desc->snapshot->active_count == 1;
	return function_has(params) &&
		!((PLpgSQL_execstate *) params->paramFetchArg)->readonly_func;
}
