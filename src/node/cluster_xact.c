/*
 * cluster_xact.c
 *	  One transaction over several nodes; the steps are in cluster_xact.h.
 *
 * Parts are of two kinds: transactions on connections of our own, for what the
 * extension itself does, and those that postgres_fdw has opened for a client's
 * statements.  The latter are prepared through postgres_fdw (fdw.c): its own
 * COMMIT afterwards finds nothing to do.  That needs a transaction callback
 * before its own, and callbacks run newest first, so one of ours is registered
 * once postgres_fdw has registered its (the early one).  The late one was
 * registered at the start of the process, and so runs after postgres_fdw's: it
 * is enough for parts of the first kind, and at an abort it comes when
 * postgres_fdw has ended what its sessions were doing.
 *
 * The decision row is written by the local transaction itself, so the local
 * commit record is the decision.  A remote part is named
 * fragaffinity:<cluster>:<origin>:<xid>:<node>, followed by the user's OID for
 * a session of postgres_fdw.  By that the resolver finds its decision row,
 * whose gid is the name up to the xid.
 *
 * When the server dies between PREPARE and the local commit, the remote part
 * keeps its locks until the server is back and the resolver has rolled it
 * back: nobody else can know the decision.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_type.h"
#include "foreign/fdwapi.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/format.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "node/cluster_join.h"
#include "node/cluster_part.h"
#include "node/cluster_xact.h"
#include "node/fdw.h"
#include "node/node.h"
#include "node/peer_use.h"
#include "node/role_session.h"
#include "node/xact_stats.h"

static List *parts = NIL;		/* of FaPart, in cluster_context */
static MemoryContext cluster_context = NULL;	/* reset at transaction end */
static char *cluster_gid = NULL;
static bool prepared = false;	/* the early callback has done its work */
static bool forwarded = false;	/* a peer decides */

static void cluster_early_callback(XactEvent event, void *arg);

char *
fa_xact_gid_prefix(void)
{
	return psprintf(FA_GID_PREFIX "%s:", fa_node_cluster_prefix());
}

static MemoryContext
cluster_memory(void)
{
	if (cluster_context == NULL)
		cluster_context = AllocSetContextCreate(TopMemoryContext,
												"fragaffinity cluster transaction",
												ALLOCSET_SMALL_SIZES);
	return cluster_context;
}

static FaPart *
cluster_add_part(int node)
{
	MemoryContext old = MemoryContextSwitchTo(cluster_memory());
	FaPart	   *part = palloc0(sizeof(FaPart));

	part->node = node;
	parts = lappend(parts, part);
	MemoryContextSwitchTo(old);
	return part;
}

static void
cluster_add_conn(FaConn *conn, bool enlisted)
{
	FaPart	   *part = cluster_add_part(conn->node);

	part->conn = conn;
	part->enlisted = enlisted;
	fa_peer_use_note(conn->node, GetUserNameFromId(GetUserId(), false),
					 PQbackendPID(conn->pg));
}

List *
fa_xact_parts(void)
{
	return parts;
}

FaConn *
fa_part_borrow(FaPart *part, PGconn *pg)
{
	FaConn	   *conn = MemoryContextAllocZero(cluster_memory(), sizeof(FaConn));

	conn->pg = pg;
	conn->node = part->node;
	conn->name = MemoryContextStrdup(cluster_memory(), fa_node_name(part->node));
	conn->borrowed = true;
	return conn;
}

/* A connection to a node for our own work in this transaction, or NULL. */
static FaConn *
cluster_conn(int node)
{
	ListCell   *lc;

	foreach(lc, parts)
	{
		FaPart	   *part = lfirst(lc);

		if (!part->fdw && part->node == node)
			return part->conn;
	}
	return fa_join_conn(node);
}

static void
cluster_check_allowed(void)
{
	if (IsSubTransaction())
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("changes to several nodes cannot run in a subtransaction"),
				 errhint("Do not call the function inside a savepoint or an exception block.")));
}

/* What a savepoint undoes here would stay done over connections that are there. */
static void
cluster_check_connected(void)
{
	ListCell   *lc;

	foreach(lc, parts)
		if (fa_part_is_own(lfirst(lc)))
			cluster_check_allowed();
}

void
fa_xact_enlist(FaConn *conn)
{
	cluster_check_allowed();
	cluster_add_conn(conn, true);
}

#define BEGIN_PART "BEGIN ISOLATION LEVEL READ COMMITTED"

FaConn *
fa_xact_conn(int node)
{
	FaConn	   *conn = cluster_conn(node);
	MemoryContext old;

	if (conn)
		return conn;
	cluster_check_allowed();
	old = MemoryContextSwitchTo(cluster_memory());
	conn = fa_remote_connect(node, FA_CONNECT_TIMEOUT_MS);
	MemoryContextSwitchTo(old);
	fa_remote_exec(conn, 0, BEGIN_PART);
	cluster_add_conn(conn, false);
	return conn;
}

List *
fa_xact_conn_all(void)
{
	int			self = fa_node_require_cluster();
	List	   *missing = NIL;
	List	   *opened;
	List	   *conns = NIL;
	List	   *nodes = fa_node_list();
	MemoryContext old;
	ListCell   *lc;

	foreach(lc, nodes)
	{
		int			node = ((FaNode *) lfirst(lc))->id;

		if (node != self && cluster_conn(node) == NULL)
			missing = lappend_int(missing, node);
	}
	if (missing)
	{
		cluster_check_allowed();
		old = MemoryContextSwitchTo(cluster_memory());
		opened = fa_remote_connect_many(missing, FA_CONNECT_TIMEOUT_MS);
		MemoryContextSwitchTo(old);
		fa_remote_exec_many(opened, 0, BEGIN_PART);
		foreach(lc, opened)
			cluster_add_conn(lfirst(lc), false);
	}
	foreach(lc, nodes)
	{
		int			node = ((FaNode *) lfirst(lc))->id;

		if (node != self)
			conns = lappend(conns, cluster_conn(node));
	}
	return conns;
}

void
fa_xact_exec_all(const char *fmt,...)
{
	char	   *sql;

	cluster_check_connected();
	FA_FORMAT(sql, fmt);
	fa_remote_exec_many(fa_xact_conn_all(), 0, "%s", sql);
}

char *
fa_xact_ask_coordinator(const char *sql)
{
	int			coordinator = fa_node_coordinator();

	return coordinator == fa_node_self() ? fa_spi_value("%s", sql) :
		fa_remote_value(fa_xact_conn(coordinator), 0, "%s", sql);
}

void
fa_xact_lock_cluster(void)
{
	static const char lock[] =
	"SELECT pg_advisory_xact_lock('fragaffinity.node'::regclass::oid::int, 1)";
	int			self = fa_node_require_cluster();
	int			coordinator = fa_node_coordinator();

	cluster_check_connected();
	if (coordinator == self)
		(void) fa_spi_rows("%s", lock);
	else if (LockTimeout == 0)
		fa_remote_exec(fa_xact_conn(coordinator), 0, "%s", lock);
	else
		fa_remote_exec(fa_xact_conn(coordinator), 0,
					   "SET LOCAL lock_timeout = %d; %s; SET LOCAL lock_timeout = 0",
					   LockTimeout, lock);
}

static FaPart *
cluster_fdw_part(Oid server, Oid user)
{
	ListCell   *lc;
	UserMapping *mapping;
	PGconn	   *session;
	int			node;
	FaPart *part;

	foreach(lc, parts)
	{
		part = lfirst(lc);
		if (part->fdw && part->server == server && part->user == user)
			return part;
	}
	node = fa_node_of_server(server);
	if (node == 0)
		return NULL;
	/* a mapping for PUBLIC means one session for all its users */
	mapping = GetUserMapping(user, server);
	foreach(lc, parts)
	{
		part = lfirst(lc);
		if (part->fdw && part->mapping == mapping->umid)
			return part;
	}
	session = fa_fdw_mapping_session(mapping);
	fa_peer_use_note(node, fa_role_mapped(server, user),
					 session ? PQbackendPID(session) : 0);
	part = cluster_add_part(node);
	part->fdw = true;
	part->server = server;
	part->mapping = mapping->umid;
	part->user = user;
	part->use = FA_USE_READ;
	return part;
}

void
fa_xact_note_use(Oid foreign_table, Oid user, FaUse use)
{
	static bool registered = false;
	FaPart *part;

	if (!fa_shmem_available())
		return;
	if (!registered)
		fa_fdw_register_before(cluster_early_callback);
	registered = true;
	part = cluster_fdw_part(GetForeignServerIdByRelId(foreign_table), user);
	if (part == NULL)
		return;
	part->use = Max(part->use, use);
}

void
fa_xact_claim(Oid foreign_table, Oid user)
{
	FaPart	   *part;

	fa_xact_note_use(foreign_table, user, FA_USE_READ);
	part = cluster_fdw_part(GetForeignServerIdByRelId(foreign_table), user);
	if (part)
		part->changes = true;
}

bool
fa_xact_has_parts(void)
{
	return parts != NIL;
}

/*
 * Leaves in parts what must be prepared; false when nothing must.  Row locks
 * are kept until after the decision, too: who gets them should see all of it.
 */
static bool
cluster_choose_parts(void)
{
	int			written = TransactionIdIsValid(GetTopTransactionIdIfAny()) ? 1 : 0;
	int			held = written;
	bool		own = false;
	ListCell   *lc;

	foreach(lc, parts)
	{
		FaPart	   *part = lfirst(lc);

		own = own || fa_part_is_own(part);
		if (fa_part_is_own(part) || part->use == FA_USE_WRITE)
			written++;
		if (fa_part_is_own(part) || part->use >= FA_USE_LOCK)
			held++;
	}
	/* after DROP EXTENSION CASCADE there is nowhere to decide */
	if (!own && (!fa_atomic_commit || written == 0 || held < 2 ||
				 !fa_extension_exists()))
	{
		parts = NIL;
		return false;
	}
	foreach(lc, parts)
	{
		FaPart	   *part = lfirst(lc);

		if (!fa_part_is_own(part) &&
			(!fa_atomic_commit || part->use < FA_USE_LOCK))
			parts = foreach_delete_current(parts, lc);
	}
	return true;
}

/* Not SPI: whoever commits need not have rights on our catalog. */
static void
cluster_write_decision(void)
{
	char	   *gid = psprintf("%s" UINT64_FORMAT, fa_xact_gid_prefix(),
							   U64FromFullTransactionId(GetTopFullTransactionId()));
	Relation	rel = table_open(fa_catalog_relid("decision"), RowExclusiveLock);
	Datum	   *nodes = palloc(sizeof(Datum) * list_length(parts));
	int			n = 0;
	Datum		values[3];
	bool		nulls[3] = {false};
	ListCell   *lc;

	foreach(lc, parts)
		nodes[n++] = Int32GetDatum(((FaPart *) lfirst(lc))->node);
	values[0] = CStringGetTextDatum(gid);
	values[1] = PointerGetDatum(construct_array(nodes, n, INT4OID,
												sizeof(int32), true,
												TYPALIGN_INT));
	values[2] = TimestampTzGetDatum(GetCurrentTimestamp());
	/* for what is put out of line */
	PushActiveSnapshot(GetTransactionSnapshot());
	CatalogTupleInsert(rel, heap_form_tuple(RelationGetDescr(rel), values,
											nulls));
	PopActiveSnapshot();
	table_close(rel, NoLock);
	cluster_gid = MemoryContextStrdup(cluster_memory(), gid);
	/* parts may be committed as soon as we are: so we must stay committed */
	ForceSyncCommit();
}

static void
cluster_refuse_prepare(void)
{
	ListCell   *lc;

	foreach(lc, parts)
	{
		FaPart	   *part = lfirst(lc);

		if (!fa_part_is_own(part) && part->use == FA_USE_READ)
			continue;			/* postgres_fdw refuses by itself */
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has changed or locked rows on other nodes"),
				 errhint("Use COMMIT: it is atomic over the nodes.")));
	}
}

void
fa_xact_forward_prepare(const char *gid)
{
	ListCell   *lc;

	if (parts == NIL)
		return;
	if (GetCurrentTransactionNestLevel() > 1)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction in a savepoint that has used other nodes")));
	forwarded = true;
	foreach(lc, parts)
	{
		FaPart	   *part = lfirst(lc);

		if (!part->fdw)
			cluster_refuse_prepare();
		if (part->use < FA_USE_LOCK)
			continue;
		part->conn = fa_finish_conn(part->node, part->user);
		fa_part_prepare(part, gid);
		fa_forward_note(gid, part->node);
		fa_xact_count(FA_XACT_FORWARDED);
	}
	if (!fa_fdw_end_sessions())
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not prepare transaction due to a move of a fragment"),
				 errhint("The transaction might succeed if retried.")));
}

static void
cluster_prepare(void)
{
	ListCell   *lc;

	if (prepared)
		return;
	prepared = true;
	if (!cluster_choose_parts())
		return;
	PushActiveSnapshot(GetTransactionSnapshot());
	cluster_write_decision();
	/* first, so that a peer without a free connection costs nothing */
	foreach(lc, parts)
	{
		FaPart	   *part = lfirst(lc);

		if (part->fdw)
			part->conn = fa_finish_conn(part->node, part->user);
	}
	fa_parts_stop_point(parts, "commit_begun", "cluster_begun");
	fa_parts_prepare(parts, cluster_gid);
	PopActiveSnapshot();
	fa_parts_stop_point(parts, "commit_before_decision", "cluster_before_decision");
}

/* After the local end.  Must not raise: the resolver does the rest. */
static void
cluster_finish(bool commit)
{
	fa_parts_finish(parts, commit);
	if (commit || cluster_gid)
		fa_xact_count(commit ? FA_XACT_COMMITS : FA_XACT_ABORTS);
}

/* Closes our connections but those of finish.c. */
static void
cluster_forget(void)
{
	parts = NIL;
	cluster_gid = NULL;
	forwarded = false;
	prepared = false;
	fa_peer_use_forget();
	fa_role_session_forget();
	if (cluster_context)
		MemoryContextReset(cluster_context);
}

/* Before postgres_fdw's. */
static void
cluster_early_callback(XactEvent event, void *arg)
{
	if (parts == NIL)
		return;
	if (event == XACT_EVENT_PRE_COMMIT)
		cluster_prepare();
	else if (event == XACT_EVENT_PRE_PREPARE && !forwarded)
		cluster_refuse_prepare();
}

/* After postgres_fdw's, except in a session that has not used it. */
static void
cluster_late_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (prepared)
				fa_stop_point("commit_peers_done");
			if (parts != NIL)
				cluster_prepare();
			break;
		case XACT_EVENT_PRE_PREPARE:
			if (!forwarded)
				cluster_refuse_prepare();
			break;
		case XACT_EVENT_PREPARE:
			cluster_forget();	/* the peer that gave the name finishes it */
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
			if (parts != NIL)
			{
				if (event == XACT_EVENT_COMMIT)
					fa_parts_stop_point(parts, "commit_decided", "cluster_decided");
				cluster_finish(event == XACT_EVENT_COMMIT);
			}
			cluster_forget();
			break;
		default:
			break;
	}
}

void
fa_xact_init(void)
{
	RegisterXactCallback(cluster_late_callback, NULL);
}
