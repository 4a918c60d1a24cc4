/*
 * fdw_settings.c
 *	  What postgres_fdw's sessions are told of the client's.
 *
 * What ends a statement is decided where its client is.  A client that wants to
 * wait for locks only so long wants so on all nodes, and cannot see the wait
 * itself: so the sessions that work for its transaction are told its lock_timeout,
 * each once, and when it changes.  Most clients never set it, and pay nothing.
 * And what they read as of (fdw_as_of.h), when that is not now; and who they act as,
 * when that is another role.  A session that itself works for a peer tells how far from
 * the client it is (hops.c).
 */
#include "postgres.h"

#include "access/xact.h"
#include "foreign/fdwapi.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "node/act_as.h"
#include "node/cluster_xact.h"
#include "node/fdw.h"
#include "node/node.h"
#include "node/role_session.h"
#include "node/vouch.h"

/* A session that has been told in this transaction. */
typedef struct ToldSession
{
	int			node;
	Oid			user;
	/* -1: not known, as a savepoint was undone */
	int			lock_timeout;	/* ms */
	int			hops;
	int			as_of;			/* fdw_as_of.h */
	Oid			acting;			/* who it is now (act_as.h); invalid: not known */
} ToldSession;

static List *told = NIL;		/* in TopTransactionContext */

static void
told_forget(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT ||
		event == XACT_EVENT_PREPARE)
		told = NIL;
}

static void
told_doubt(SubXactEvent event, SubTransactionId my, SubTransactionId parent,
		   void *arg)
{
	ListCell   *lc;

	foreach(lc, event == SUBXACT_EVENT_ABORT_SUB ? told : NIL)
	{
		((ToldSession *) lfirst(lc))->lock_timeout = -1;
		((ToldSession *) lfirst(lc))->hops = -1;
		((ToldSession *) lfirst(lc))->as_of = -1;
		((ToldSession *) lfirst(lc))->acting = InvalidOid;
	}
}

static ToldSession *
told_session(int node, Oid user)
{
	static bool registered = false;
	MemoryContext caller;
	ToldSession *session;
	ListCell   *lc;

	foreach(lc, told)
	{
		session = lfirst(lc);
		if (session->node == node && session->user == user)
			return session;
	}
	if (!registered)
	{
		RegisterXactCallback(told_forget, NULL);
		RegisterSubXactCallback(told_doubt, NULL);
		registered = true;
	}
	caller = MemoryContextSwitchTo(TopTransactionContext);
	session = palloc0(sizeof(ToldSession));
	session->node = node;
	session->user = session->acting = user;
	told = lappend(told, session);
	MemoryContextSwitchTo(caller);
	return session;
}

void
fa_fdw_pass_settings(Oid foreign_table, Oid user)
{
	ToldSession *session;
	int			node;
	int			hops = fa_hops_next();

	if (LockTimeout == 0 && hops == 0 && told == NIL)
		return;
	node = fa_fdw_node(foreign_table);
	if (node == 0)
		return;
	session = told_session(node, user);
	if (session->hops != hops)
	{
		fa_fdw_exec(node, user, psprintf("SET LOCAL fragaffinity.hops = %d", hops));
		session->hops = hops;
	}
	if (session->lock_timeout == LockTimeout)
		return;
	fa_fdw_exec(node, user, psprintf("SET LOCAL lock_timeout = %d", LockTimeout));
	session->lock_timeout = LockTimeout;
}

void
fa_fdw_tell_as_of(int node, Oid user, int mark)
{
	ToldSession *session;

	if (mark == 0 && told == NIL)
		return;
	session = told_session(node, user);
	if (session->as_of == mark)
		return;
	fa_fdw_exec(node, user, psprintf("SET LOCAL fragaffinity.as_of = %d", mark));
	session->as_of = mark;
}

void
fa_fdw_tell_role(Oid foreign_table, Oid role, Oid user)
{
	int			node = fa_fdw_node(foreign_table);
	Oid			server = GetForeignServerIdByRelId(foreign_table);
	ToldSession *session;

	if (node == 0)
		return;
	session = told_session(node, role);
	if (session->acting == user)
		return;
	session->acting = InvalidOid;
	if (user == role)
		fa_fdw_exec(node, role, "SET " FA_ACT_AS " TO DEFAULT");
	else if (user == FA_ACTS_AS_NODE)
	{
		fa_vouch_for_session(server, role);
		fa_fdw_exec(node, role, "SET " FA_ACT_AS " = ''");
		session->lock_timeout = -1;
		session->as_of = 0;
	}
	else
	{
		fa_vouch_for_session(server, role);
		fa_fdw_exec(node, role,
					psprintf("SET " FA_ACT_AS " = %s",
							 quote_literal_cstr(fa_role_mapped(server, user))));
	}
	session->acting = user;
}

bool
fa_fdw_acts_as_node(int node, Oid role)
{
	return told_session(node, role)->acting == FA_ACTS_AS_NODE;
}

void
fa_fdw_acts_as_itself(int node, Oid role)
{
	told_session(node, role)->acting = role;
}
