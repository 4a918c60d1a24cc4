/*
 * isolation.c
 *	  A client's isolation level on the nodes that work for it.
 *
 * postgres_fdw runs every remote transaction in REPEATABLE READ at least.  For
 * a client in READ COMMITTED that is stricter than what it would see on one
 * server: a row changed meanwhile, or a fragment that has moved to a node
 * where its transaction has been before, would end in 40001.  So a peer's
 * session runs such a transaction in READ COMMITTED.
 *
 * postgres_fdw does not tell REPEATABLE READ from READ COMMITTED, but it does
 * pass SERIALIZABLE on.  While a client in REPEATABLE READ executes, its level
 * is therefore shown as SERIALIZABLE to postgres_fdw, and the peer runs its
 * part as such: stricter, and with errors that REPEATABLE READ has to expect
 * as well.  Locally nothing changes: its snapshot is taken by then.
 */
#include "postgres.h"

#include "access/xact.h"
#include "nodes/value.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "core/settings.h"
#include "route/hooks.h"

/* Must postgres_fdw be told a stricter level than the transaction's? */
static bool
isolation_must_raise(void)
{
	return XactIsoLevel == XACT_REPEATABLE_READ && FirstSnapshotSet &&
		!fa_maintenance;
}

bool
fa_isolation_raise(void)
{
	if (!isolation_must_raise())
		return false;
	XactIsoLevel = XACT_SERIALIZABLE;
	return true;
}

void
fa_isolation_restore(bool raised)
{
	if (raised)
		XactIsoLevel = XACT_REPEATABLE_READ;
}

bool
fa_isolation_is_peers_begin(TransactionStmt *statement)
{
	ListCell   *lc;

	if (fa_origin == 0 || fa_maintenance ||
		statement->kind != TRANS_STMT_START)
		return false;
	foreach(lc, statement->options)
	{
		DefElem    *def = lfirst(lc);
		A_Const    *value = (A_Const *) def->arg;

		if (strcmp(def->defname, "transaction_isolation") == 0 &&
			strcmp(strVal(&value->val), "repeatable read") == 0)
			return true;
	}
	return false;
}

void
fa_isolation_lower(void)
{
	(void) set_config_option("transaction_isolation", "read committed",
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL,
							 true, 0, false);
}
