/*
 * peer_pool.c
 *	  The peers of a worker and the loop that serves them all; what happens at
 *	  one of them is in peer.c.
 */
#include "postgres.h"

#include <time.h>

#include "access/xact.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/wait_event.h"

#include "core/background.h"
#include "core/fa_compat.h"
#include "node/node.h"
#include "node/peer.h"

static FaPeer *peers = NULL;
static bool running = false;

int64
fa_pool_clock_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static FaPeer *
pool_find(int node)
{
	for (FaPeer *p = peers; p; p = p->next)
	{
		if (p->node == node)
			return p;
	}
	return NULL;
}

/*
 * Waits for sockets, time or (if asked) the latch, and serves what became
 * ready.  Returns false when the latch was set; sockets were not looked at
 * then.
 */
static bool
pool_wait(long timeout_ms, bool with_latch)
{
	int			npeers = 0;
	int			nevents;
	bool		latch = false;
	WaitEventSet *set;
	WaitEvent  *events;

	for (FaPeer *p = peers; p; p = p->next)
		npeers++;
	set = fa_create_wait_event_set(npeers + 2);
	events = palloc(sizeof(WaitEvent) * (npeers + 2));
	if (with_latch)
		AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (FaPeer *p = peers; p; p = p->next)
	{
		if (p->conn && PQsocket(p->conn) != PGINVALID_SOCKET)
			AddWaitEventToSet(set, fa_peer_events(p), PQsocket(p->conn), NULL, p);
	}
	nevents = WaitEventSetWait(set, timeout_ms, events, npeers + 2,
							   PG_WAIT_EXTENSION);
	/* before callbacks, which may raise: the set holds a descriptor */
	FreeWaitEventSet(set);
	for (int i = 0; i < nevents; i++)
	{
		if (events[i].events & WL_LATCH_SET)
			latch = true;
		else if (events[i].events & (WL_SOCKET_READABLE | WL_SOCKET_WRITEABLE))
			fa_peer_ready(events[i].user_data);
	}
	pfree(events);
	return !latch;
}

static void
pool_run(int timeout_ms, bool until_done)
{
	int64		end = fa_pool_clock_ms() + timeout_ms;
	bool		waited = false;

	for (;;)
	{
		int64		now = fa_pool_clock_ms();
		int64		next = end;

		CHECK_FOR_INTERRUPTS();
		for (FaPeer *p = peers; p; p = p->next)
			next = fa_peer_advance(p, now, next);
		if (until_done && fa_pool_pending(0) == 0)
			return;
		if (waited && now >= end)
			return;
		if (!pool_wait(Max(next - now, 0), true))
		{
			/* a latch that is set each time must not starve the peers */
			(void) pool_wait(0, false);
			return;
		}
		waited = true;
	}
}

static void
pool_run_guarded(int timeout_ms, bool until_done)
{
	if (running)
		elog(ERROR, "the pool of peers is already running");
	running = true;
	PG_TRY();
	{
		pool_run(timeout_ms, until_done);
	}
	PG_FINALLY();
	{
		running = false;
	}
	PG_END_TRY();
}

void
fa_pool_run(int timeout_ms)
{
	pool_run_guarded(timeout_ms, false);
}

bool
fa_pool_finish(int timeout_ms)
{
	pool_run_guarded(timeout_ms, true);
	return fa_pool_pending(0) == 0;
}

void
fa_pool_submit(int node, const char *sql, FaPeerCallback callback, void *arg)
{
	FaPeer	   *p = pool_find(node);
	FaPeerRequest *r;

	if (p == NULL)
		elog(ERROR, "node %d is not a peer", node);
	r = MemoryContextAlloc(TopMemoryContext, sizeof(FaPeerRequest));
	r->sql = MemoryContextStrdup(TopMemoryContext, sql);
	r->callback = callback;
	r->arg = arg;
	r->next = NULL;
	if (p->last)
		p->last->next = r;
	else
		p->first = r;
	p->last = r;
	p->npending++;
}

int
fa_pool_pending(int node)
{
	int			n = 0;

	for (FaPeer *p = peers; p; p = p->next)
	{
		if (node == 0 || p->node == node)
			n += p->npending;
	}
	return n;
}

int
fa_pool_peers(int *nodes, int max)
{
	int			n = 0;

	for (FaPeer *p = peers; p && n < max; p = p->next)
		nodes[n++] = p->node;
	return n;
}

bool
fa_pool_connected(int node)
{
	FaPeer	   *p = pool_find(node);

	return p && (p->state == FA_PEER_IDLE || p->state == FA_PEER_BUSY);
}

static void
peer_destroy(FaPeer *p)
{
	FaPeer	  **link = &peers;

	while (*link != p)
		link = &(*link)->next;
	*link = p->next;
	fa_peer_disconnect(p);
	fa_peer_fail_all(p);
	MemoryContextDelete(p->context);
}

/* The options of a session here: the peer's own limits end lost statements. */
static const char *
pool_session_options(const char *options)
{
	return psprintf("%s -c statement_timeout=%d -c lock_timeout=2000",
					options, FA_POOL_QUERY_TIMEOUT_MS);
}

/* While a node is being added or removed, server or mapping may be missing. */
static bool
pool_can_connect(int node)
{
	Oid			server = get_foreign_server_oid(fa_node_server_name(node),
												true);

	return OidIsValid(server) &&
		(SearchSysCacheExists2(USERMAPPINGUSERSERVER,
							   ObjectIdGetDatum(GetUserId()),
							   ObjectIdGetDatum(server)) ||
		 SearchSysCacheExists2(USERMAPPINGUSERSERVER,
							   ObjectIdGetDatum(InvalidOid),
							   ObjectIdGetDatum(server)));
}

/* Keeps, replaces or adds the peer of a node, by its current options. */
static void
pool_sync_node(int node)
{
	const char *keywords[FA_MAX_KEYWORDS];
	const char *values[FA_MAX_KEYWORDS];
	StringInfoData identity;
	FaPeer	   *p = pool_find(node);
	MemoryContext context;
	MemoryContext old;

	if (!pool_can_connect(node))
		return;
	(void) fa_remote_keywords(node, FA_SESSION_MAINTENANCE, keywords, values);
	initStringInfo(&identity);
	for (int i = 0; keywords[i]; i++)
	{
		if (strcmp(keywords[i], "options") == 0)
			values[i] = pool_session_options(values[i]);
		appendStringInfo(&identity, "%s=%s ", keywords[i], values[i]);
	}
	if (p && strcmp(p->identity, identity.data) == 0)
	{
		p->wanted = true;
		return;
	}

	/* a peer whose options changed is replaced; the old one is not wanted */
	context = AllocSetContextCreate(TopMemoryContext, "fragaffinity peer",
									ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	p = palloc0(sizeof(FaPeer));
	p->context = context;
	p->node = node;
	p->identity = pstrdup(identity.data);
	for (int i = 0; keywords[i]; i++)
	{
		p->keywords[i] = pstrdup(keywords[i]);
		p->values[i] = pstrdup(values[i]);
	}
	MemoryContextSwitchTo(old);
	p->state = FA_PEER_DOWN;
	p->wanted = true;
	p->next = peers;
	peers = p;
}

void
fa_pool_sync_nodes(void)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *nodes;
	ListCell   *lc;
	int			self;

	if (running)
		elog(ERROR, "peers cannot change while the pool is running");
	fa_background_begin();
	for (FaPeer *p = peers; p; p = p->next)
		p->wanted = false;
	self = fa_node_self();
	nodes = self == 0 ? NIL : fa_node_list();
	foreach(lc, nodes)
	{
		FaNode	   *node = lfirst(lc);

		if (node->id != self)
			pool_sync_node(node->id);
	}
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	for (FaPeer *p = peers, *next; p; p = next)
	{
		next = p->next;
		if (!p->wanted)
			peer_destroy(p);
	}
}

void
fa_pool_close(void)
{
	while (peers)
		peer_destroy(peers);
}
