/*
 * cluster_join.c
 *	  Work of our own in the sessions that a transaction's statements have; see
 *	  cluster_join.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "foreign/fdwapi.h"
#include "miscadmin.h"
#include "storage/proc.h"

#include "core/fa_compat.h"
#include "core/settings.h"
#include "node/act_as.h"
#include "node/cluster_join.h"
#include "node/cluster_part.h"
#include "node/fdw.h"
#include "node/node.h"
#include "node/role_session.h"

static LocalTransactionId joining_in = InvalidLocalTransactionId;

static bool
join_is_on(void)
{
	return joining_in != InvalidLocalTransactionId && joining_in == fa_my_lxid();
}

/* The session of this transaction at a node that has changed rows, or another one. */
static FaPart *
join_part(int node)
{
	FaPart	   *found = NULL;
	ListCell   *lc;

	foreach(lc, fa_xact_parts())
	{
		FaPart	   *part = lfirst(lc);

		if (part->fdw && part->node == node &&
			(found == NULL || part->changes || part->use >= FA_USE_LOCK))
			found = part;
	}
	return found;
}

void
fa_xact_join(void)
{
	int			missing = 0;
	ListCell   *lc;

	if (join_is_on() || IsSubTransaction() ||
		IsolationUsesXactSnapshot() ||
		!fa_shmem_available() || !fa_fdw_has_conn())
		return;
	foreach(lc, fa_xact_parts())
		if (!((FaPart *) lfirst(lc))->fdw)
			return;
	foreach(lc, fa_node_list())
	{
		int			node = ((FaNode *) lfirst(lc))->id;

		if (node != fa_node_self() && join_part(node) == NULL)
			missing++;
	}
	if (missing <= FA_JOIN_OPEN_MAX)
		joining_in = fa_my_lxid();
}

/* As the client's role: his statements on rows will use it. */
static FaPart *
join_open(int node, Oid table, Oid server)
{
	Oid			user = fa_role_session(server, GetOuterUserId());

	(void) fa_fdw_session(user, server);
	fa_xact_note_use(table, user, FA_USE_READ);
	return join_part(node);
}

FaConn *
fa_join_conn(int node)
{
	Oid			table;
	Oid			server;
	FaPart	   *part;
	PGconn	   *pg;

	if (!join_is_on())
		return NULL;
	part = join_part(node);
	if (part && part->joined &&
		PQtransactionStatus(part->joined->pg) == PQTRANS_INERROR)
		return part->joined;	/* for ROLLBACK TO where it has been the node */
	if (IsSubTransaction() && (part == NULL || part->joined == NULL))
		return NULL;
	table = fa_catalog_relid(fa_fdw_session_table(node));
	server = GetForeignServerIdByRelId(table);
	if (part == NULL)
		part = join_open(node, table, server);
	if (part == NULL)
		return NULL;
	fa_role_act_node(table, part->user);
	if (part->joined)
		return part->joined;
	pg = fa_fdw_session(part->user, server);
	if (pg == NULL || PQtransactionStatus(pg) != PQTRANS_INTRANS)
		return NULL;
	fa_xact_claim(table, part->user);
	part->joined = fa_part_borrow(part, pg);
	return part->joined;
}

void
fa_join_end(void)
{
	List	   *acting = NIL;
	List	   *conns = NIL;
	ListCell   *lc;

	if (!join_is_on())
		return;
	foreach(lc, fa_xact_parts())
	{
		FaPart	   *part = lfirst(lc);

		if (part->joined == NULL || !fa_fdw_acts_as_node(part->node, part->user))
			continue;
		acting = lappend(acting, part);
		conns = lappend(conns, part->joined);
	}
	fa_remote_exec_many(conns, 0, "SET " FA_ACT_AS " TO DEFAULT");
	foreach(lc, acting)
	{
		FaPart	   *part = lfirst(lc);

		fa_fdw_acts_as_itself(part->node, part->user);
	}
}
