/*
 * announce.c
 *	  How nodes that took no part in a move hear of it.
 *
 * The mover tells every node at once.  A node that was down, or whose
 * message was lost, notices by itself: each node counts changes of its map
 * (the generation), peers ask for that number each second, and when it has
 * changed, for the fragments that the node owns.  Versions only ascend, so
 * news may come twice, late or in any order.
 *
 * Until it has heard, a node sends statements to the old owner, which
 * forwards them: the right answer, one hop more.
 *
 * A transaction must keep to one way, though: by the new one it would meet
 * itself at the owner as a stranger, not see what it wrote and wait for its
 * own row locks.  So a leaf is repointed only while no transaction that has
 * written or locked rows through it is open; if there is one, the news is
 * left for later.
 *
 * A node that was restored from an older backup has heaps of fragments that
 * have moved away since, and would take them for the truth.  It hears of it by
 * the same questions.  Such a heap is set aside, but not dropped, as clients may
 * have written to it already.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_class.h"
#include "catalog/pg_foreign_server.h"
#include "catalog/pg_foreign_table.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "catalog/table_ddl.h"
#include "core/background.h"
#include "core/lock_poll.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "migrate/move.h"
#include "node/node.h"
#include "node/peer_pool.h"

#define ANNOUNCE_TIMEOUT_MS 2000
#define LEARN_TIMEOUT_MS 200	/* for open transactions to end */
#define GATED_MS 100			/* the same, with the gate closed */
#define GATED_EVERY_MS 5000		/* the worker, of which no client waits */

typedef struct FaAnnounce
{
	pg_atomic_uint64 generation;	/* changes of the map since start */
} FaAnnounce;

static FaAnnounce *announce = NULL;

static Size
announce_size(void)
{
	return sizeof(FaAnnounce);
}

static void
announce_init(void *ptr, bool found)
{
	announce = ptr;
	/* starts elsewhere after a restart, so peers look again */
	if (!found)
		pg_atomic_init_u64(&announce->generation,
						   (uint64) GetCurrentTimestamp());
}

const FaShmemPart fa_announce_part = {
	"fragaffinity announce", announce_size, announce_init
};

uint64
fa_map_generation(void)
{
	return pg_atomic_read_u64(&announce->generation);
}

void
fa_map_generation_advance(void)
{
	pg_atomic_fetch_add_u64(&announce->generation, 1);
}

/*
 * Points a foreign leaf at another server.  There is no ALTER for it; the
 * row and its dependency are changed as ALTER would.  The caller has locked
 * the leaf against writers; readers under way go on with the old server, which
 * forwards.
 */
static void
announce_repoint(Oid leaf, int owner)
{
	Oid			server = GetForeignServerByName(fa_node_server_name(owner), false)->serverid;
	Relation	rel;
	HeapTuple	tuple;
	Form_pg_foreign_table form;
	Oid			old_server;

	rel = table_open(ForeignTableRelationId, RowExclusiveLock);
	tuple = SearchSysCacheCopy1(FOREIGNTABLEREL, ObjectIdGetDatum(leaf));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "leaf %u is not a foreign table", leaf);
	form = (Form_pg_foreign_table) GETSTRUCT(tuple);
	old_server = form->ftserver;
	if (old_server != server)
	{
		form->ftserver = server;
		/* for what is put out of line */
		PushActiveSnapshot(GetTransactionSnapshot());
		CatalogTupleUpdate(rel, &tuple->t_self, tuple);
		PopActiveSnapshot();
		if (changeDependencyFor(RelationRelationId, leaf,
								ForeignServerRelationId, old_server,
								server) != 1)
			elog(ERROR, "dependency of foreign table %u on its server is missing",
				 leaf);
		CacheInvalidateRelcacheByRelid(leaf);
	}
	heap_freetuple(tuple);
	table_close(rel, RowExclusiveLock);
}

static void
announce_open_gate(int code, Datum slot)
{
	fa_gate_open(DatumGetInt32(slot));
}

/* All of them, or none; true when it is granted. */
static bool
announce_lock(const FaFragment *f, const Oid *relids, int n, LOCKMODE mode,
			  int timeout_ms, bool gated)
{
	Datum		slot = Int32GetDatum(f->slot);
	bool		granted;

	if (fa_lock_poll(relids, n, mode, timeout_ms))
		return true;
	if (!gated)
		return false;
	fa_gate_close(f->slot);
	PG_ENSURE_ERROR_CLEANUP(announce_open_gate, slot);
	{
		granted = fa_lock_poll(relids, n, mode, GATED_MS);
	}
	PG_END_ENSURE_ERROR_CLEANUP(announce_open_gate, slot);
	announce_open_gate(0, slot);
	return granted;
}

/*
 * Learns an owner, if it is news; in a transaction.  False when the leaf is
 * in use.
 */
static bool
announce_learn(int64 fragment, int owner, int64 version, int timeout_ms,
			   bool gated)
{
	FaFragment *f = fa_map_fragment(fragment);

	if (f == NULL || f->version >= version || owner == fa_node_self() ||
		f->local)
		return true;
	if (!announce_lock(f, &f->leaf, 1, ExclusiveLock, timeout_ms, gated))
		return false;
	f = fa_map_fragment(fragment);
	if (f == NULL || f->version >= version || f->local)
		return true;
	announce_repoint(f->leaf, owner);
	(void) fa_spi_exec("UPDATE fragaffinity.fragment SET owner = %d, "
					   "version = " INT64_FORMAT ", "
					   "changed_xid = pg_catalog.pg_current_xact_id() "
					   "WHERE fragment = " INT64_FORMAT
					   " AND version < " INT64_FORMAT,
					   owner, version, fragment, version);
	fa_map_note_change(GetTopFullTransactionId());
	fa_map_invalidate(f->leaf);
	return true;
}

PG_FUNCTION_INFO_V1(fa_sql_fragment_moved);
PG_FUNCTION_INFO_V1(fa_sql_map_generation);

/*
 * fragment_moved(fragment, owner, version, move): from the mover.  What cannot
 * be learnt now, the worker asks for again.
 */
Datum
fa_sql_fragment_moved(PG_FUNCTION_ARGS)
{
	fa_shmem_require();
	(void) announce_learn(PG_GETARG_INT64(0), PG_GETARG_INT32(1),
						  PG_GETARG_INT64(2), LEARN_TIMEOUT_MS, true);
	if (!PG_ARGISNULL(3))
		(void) fa_spi_exec("INSERT INTO fragaffinity.move "
						   "SELECT * FROM pg_catalog.jsonb_populate_record("
						   "NULL::fragaffinity.move, %s) "
						   "ON CONFLICT (move) DO NOTHING",
						   quote_literal_cstr(text_to_cstring(PG_GETARG_TEXT_PP(3))));
	PG_RETURN_VOID();
}

Datum
fa_sql_map_generation(PG_FUNCTION_ARGS)
{
	fa_shmem_require();
	PG_RETURN_INT64((int64) fa_map_generation());
}

static void
announce_node(FaMove *move, FaNode *node, const char *row)
{
	FaNodeHealth health;

	if (fa_node_health(node->id, &health) && health.known && !health.alive)
		return;
	fa_remote_exec(fa_remote_connect(node->id, ANNOUNCE_TIMEOUT_MS),
				   ANNOUNCE_TIMEOUT_MS,
				   "SELECT fragaffinity.fragment_moved(" INT64_FORMAT ", %d, "
				   INT64_FORMAT ", %s)",
				   move->fragment.fragment, move->self,
				   move->fragment.version + 1, quote_literal_cstr(row));
}

void
fa_move_announce(FaMove *move)
{
	MemoryContext context = CurrentMemoryContext;
	MemoryContext work = AllocSetContextCreate(context, "fragaffinity announce",
											   ALLOCSET_DEFAULT_SIZES);
	List	   *nodes;
	ListCell   *lc;
	char	   *row;

	MemoryContextSwitchTo(work);
	fa_background_begin();
	MemoryContextSwitchTo(work);
	nodes = fa_node_list();
	row = fa_spi_value("SELECT pg_catalog.to_jsonb(m) FROM fragaffinity.move m "
					   "WHERE move = " INT64_FORMAT, move->move);
	CommitTransactionCommand();
	foreach(lc, nodes)
	{
		FaNode	   *node = lfirst(lc);

		if (node->id == move->self)
			continue;
		MemoryContextSwitchTo(work);
		PG_TRY();
		{
			fa_background_begin();
			announce_node(move, node, row);
			CommitTransactionCommand();
		}
		PG_CATCH();
		{
			/* it will ask when it is back */
			MemoryContextSwitchTo(work);
			EmitErrorReport();
			FlushErrorState();
			AbortOutOfAnyTransaction();
		}
		PG_END_TRY();
	}
	MemoryContextSwitchTo(context);
	MemoryContextDelete(work);
}

#define MAX_PEERS 1024

/* Generation of each peer's map at the time of its last answer. */
static uint64 peer_generation[MAX_PEERS];
static uint64 peer_wanted[MAX_PEERS];
static bool peer_timed[MAX_PEERS];	/* the answer's time is the distance */
static TimestampTz peer_asked[MAX_PEERS];	/* 0: no question under way */
static TimestampTz peer_rows_asked[MAX_PEERS];	/* when last asked for them */
static int	peer_strange[MAX_PEERS];	/* answers in a row of who is not the peer */

/*
 * Answers of another cluster's node, or of none, at the peer's address.  Some of
 * them are no news: a node joins and leaves on one node after the other.
 */
#define STRANGE 3

static bool peer_other_time[MAX_PEERS]; /* its clock is another, and we said so */

/* What is recorded there is put together with ours by its time. */
#define CLOCKS_DIFFER_US INT64CONST(1000000)

/*
 * Rows that tell how fast rows come: enough that a round trip does not matter,
 * and now and then.
 */
#define ROWS 2000
#define ROWS_INTERVAL_MS (10 * 60 * 1000)

/* Is it news here?  In a transaction. */
static bool
refresh_is_news(int64 fragment, int64 version)
{
	FaFragment *f = fa_map_fragment(fragment);

	return f != NULL && f->version < version;
}

/*
 * A peer owns a later version of a fragment that is here; false when it is in
 * use.  While a swap is in doubt that is as it should be; but a prepared swap has
 * all locked, so who is granted the locks, and finds the heap still here, knows
 * that this node has lost the swap.
 */
static bool
refresh_set_aside(int64 fragment, int owner, int64 version, bool gated)
{
	FaFragment *f = fa_map_fragment(fragment);
	Oid			relids[2];
	char	   *name;

	if (f == NULL || !f->local || f->version >= version)
		return true;
	relids[0] = f->bucket;
	relids[1] = f->leaf;
	if (!announce_lock(f, relids, lengthof(relids), AccessExclusiveLock, 0, gated))
		return false;
	f = fa_map_fragment(fragment);
	if (f == NULL || !f->local || f->version >= version || f->leaf != relids[1])
		return true;
	name = psprintf("fragaffinity_aside_" INT64_FORMAT "_" INT64_FORMAT,
					fragment, f->version);
	ereport(WARNING,
			(errmsg("fragment " INT64_FORMAT " is on node \"%s\" since version " INT64_FORMAT
					", and version " INT64_FORMAT " is here",
					fragment, fa_node_name(owner), version, f->version),
			 errdetail("What is here becomes table %s.",
					   fa_table_sibling_name(f->bucket, name)),
			 errhint("This server has been restored from a backup that is older than the move. Drop the table when its rows are not wanted.")));
	fa_cutover_heap_out(f, owner, version, name);
	return true;
}

/* What a peer owns; each piece of news in a transaction of its own. */
static void
refresh_owned(int node, PGresult *res, void *arg)
{
	static TimestampTz last_gated = 0;
	TimestampTz now = GetCurrentTimestamp();
	bool		gated = TimestampDifferenceExceeds(last_gated, now,
												   GATED_EVERY_MS);
	bool		all = true;
	int			n;
	int64	   *fragment;
	int64	   *version;
	int			nnews = 0;

	if (res == NULL || PQresultStatus(res) != PGRES_TUPLES_OK)
		return;
	n = PQntuples(res);
	fragment = palloc(sizeof(int64) * Max(n, 1));
	version = palloc(sizeof(int64) * Max(n, 1));
	fa_background_begin();
	for (int i = 0; i < n; i++)
	{
		fragment[nnews] = strtoll(PQgetvalue(res, i, 0), NULL, 10);
		version[nnews] = strtoll(PQgetvalue(res, i, 1), NULL, 10);
		if (refresh_is_news(fragment[nnews], version[nnews]))
			nnews++;
	}
	CommitTransactionCommand();
	for (int i = 0; i < nnews; i++)
	{
		fa_background_begin();
		PushActiveSnapshot(GetTransactionSnapshot());
		if (!announce_learn(fragment[i], node, version[i], 0, gated) ||
			!refresh_set_aside(fragment[i], node, version[i], gated))
		{
			all = false;
			if (gated)
				last_gated = now;
			gated = false;
		}
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	if (all)
		peer_generation[node] = peer_wanted[node];
}

static void
refresh_rows(int node, PGresult *res, void *arg)
{
	double		ms = (GetCurrentTimestamp() - peer_rows_asked[node]) / 1000.0;
	FaNodeHealth health;

	if (res && PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) == ROWS &&
		fa_node_health(node, &health))
		fa_node_health_set_row(node, 1000 * (ms - health.round_trip_ms) / ROWS);
}

/* The connection is idle now: how fast do rows come over it? */
static void
refresh_ask_rows(int node)
{
	TimestampTz now = GetCurrentTimestamp();

	if (!TimestampDifferenceExceeds(peer_rows_asked[node], now, ROWS_INTERVAL_MS))
		return;
	peer_rows_asked[node] = now;
	fa_pool_submit(node, "SELECT i, pg_catalog.repeat('x', 100) "
				   "FROM pg_catalog.generate_series(1, " CppAsString2(ROWS) ") i",
				   refresh_rows, NULL);
}

/* The peer has looked at its clock in the time since it was asked. */
static void
refresh_clock(int node, TimestampTz asked, TimestampTz there)
{
	TimestampTz now = GetCurrentTimestamp();
	int64		ahead = there - asked - (now - asked) / 2;
	int64		off = ahead < 0 ? -ahead : ahead;
	bool		other = off - (now - asked) / 2 > CLOCKS_DIFFER_US;

	if (other && !peer_other_time[node])
		ereport(WARNING,
				(errmsg("the clock of node %d is %.1f s %s this node's", node,
						off / 1e6, ahead > 0 ? "ahead of" : "behind"),
				 errhint("Accesses there count at the wrong time, and are not foreseen. Synchronize the clocks.")));
	peer_other_time[node] = other;
}

static void
refresh_pong(int node, PGresult *res, void *arg)
{
	uint64		generation;
	TimestampTz asked = peer_asked[node];

	peer_asked[node] = 0;
	if (res == NULL || PQresultStatus(res) != PGRES_TUPLES_OK)
	{
		fa_node_health_set(node, -1);
		return;
	}
	if (PQntuples(res) == 0)
	{
		if (++peer_strange[node] == STRANGE)
			ereport(LOG,
					(errmsg("the address of node %d leads to another database", node),
					 errhint("If the node is elsewhere, use fragaffinity.set_node().")));
		if (peer_strange[node] >= STRANGE)
			fa_node_health_set(node, -1);
		return;
	}
	peer_strange[node] = 0;
	refresh_clock(node, asked, strtoll(PQgetvalue(res, 0, 1), NULL, 10));
	fa_node_health_set(node, peer_timed[node] ?
					   (GetCurrentTimestamp() - asked) / 1000.0 : 0);
	generation = strtou64(PQgetvalue(res, 0, 0), NULL, 10);
	if (generation == peer_generation[node])
	{
		if (peer_timed[node] && fa_pool_pending(node) == 0)
			refresh_ask_rows(node);
		return;
	}
	peer_wanted[node] = generation;
	fa_pool_submit(node, "SELECT fragment, version FROM fragaffinity.fragment "
				   "WHERE owner = (SELECT node FROM fragaffinity.local_node)",
				   refresh_owned, NULL);
}

/* As a TimestampTz, whatever the session's settings. */
#define CLOCK_SQL \
	"(extract(epoch FROM pg_catalog.clock_timestamp() - " \
	"'2000-01-01 00:00:00+00'::timestamptz) * 1000000)::bigint"

/*
 * A question to each peer that has answered the last one: is it alive, how
 * far away, and has its map changed.
 */
void
fa_map_refresh(void)
{
	int			nodes[MAX_PEERS];
	int			n = fa_pool_peers(nodes, MAX_PEERS);
	MemoryContext context = CurrentMemoryContext;
	char	   *cluster;

	if (n == 0)
		return;
	fa_background_begin();
	MemoryContextSwitchTo(context);
	cluster = fa_spi_value("SELECT cluster FROM fragaffinity.local_node");
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	if (cluster == NULL)
		return;
	for (int i = 0; i < n; i++)
	{
		if (peer_asked[nodes[i]] != 0)
			continue;
		peer_asked[nodes[i]] = GetCurrentTimestamp();
		peer_timed[nodes[i]] = fa_pool_connected(nodes[i]) &&
			fa_pool_pending(nodes[i]) == 0;
		fa_pool_submit(nodes[i],
					   psprintf("SELECT fragaffinity.map_generation(), " CLOCK_SQL " "
								"FROM fragaffinity.local_node "
								"WHERE node = %d AND cluster = %s",
								nodes[i], quote_literal_cstr(cluster)),
					   refresh_pong, NULL);
	}
}
