/*
 * peer_error.c
 *	  Errors that a statement raises where it is executed; see peer_error.h.
 */
#include "postgres.h"

#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"

#include "route/peer_error.h"

#define VARIABLE "fragaffinity.peer_error"

static char *peer_error = NULL;

static bool
peer_error_check(char **newval, void **extra, GucSource source)
{
	const char *text = *newval;

	if (*text == '\0')
		return true;
	if (strlen(text) <= FA_PEER_ERROR_STATE)
	{
		GUC_check_errdetail("It is set by statements of other nodes.");
		return false;
	}
	GUC_check_errcode(MAKE_SQLSTATE(text[0], text[1], text[2], text[3], text[4]));
	GUC_check_errmsg("%s", text + FA_PEER_ERROR_STATE);
	return false;
}

Node *
fa_peer_error(Node *text)
{
	List	   *args = list_make3(makeConst(TEXTOID, -1, DEFAULT_COLLATION_OID, -1,
											CStringGetTextDatum(VARIABLE), false,
											false),
								  text, makeBoolConst(true, false));
	NullTest   *test = makeNode(NullTest);

	test->arg = (Expr *) makeFuncExpr(F_SET_CONFIG, TEXTOID, args,
									  DEFAULT_COLLATION_OID,
									  DEFAULT_COLLATION_OID,
									  COERCE_EXPLICIT_CALL);
	test->nulltesttype = IS_NULL;
	test->location = -1;
	return (Node *) test;
}

bool
fa_peer_error_is(Node *node)
{
	FuncExpr   *func = (FuncExpr *) node;
	Const	   *name;

	if (!IsA(node, FuncExpr) || func->funcid != F_SET_CONFIG)
		return false;
	name = linitial(func->args);
	return IsA(name, Const) && !name->constisnull &&
		strcmp(TextDatumGetCString(name->constvalue), VARIABLE) == 0;
}

void
fa_peer_error_init(void)
{
	DefineCustomStringVariable(VARIABLE,
							   "Raises the error that it is set to.",
							   "Set by statements of other nodes.",
							   &peer_error, "",
							   PGC_USERSET, GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE,
							   peer_error_check, NULL, NULL);
}
