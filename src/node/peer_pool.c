/*
 * peer_pool.c
 *	  One lasting connection to each peer, driven by events.
 *
 * Each peer is a small state machine:
 *
 *	down        no connection; after a failure not tried again before retry_at
 *	connecting  PQconnectPoll, until the deadline
 *	idle        connected; its socket is watched, so that a death is noticed
 *	busy        the first question of the queue is out, until the deadline
 *
 * Nothing here waits for one peer: every step that libpq could block in has a
 * non-blocking form, except resolving a host name, which takes as long as the
 * system's resolver does (the address that worked last is used first).
 *
 * A failed attempt to connect fails all questions of that peer; a question
 * that is not answered in time costs the connection, because the answer could
 * still come.
 */
#include "postgres.h"

#include "access/xact.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "node/node.h"
#include "node/peer_pool.h"
#include "node/remote.h"

#define RETRY_FIRST_MS 250
#define RETRY_LAST_MS 5000
#define SUSPECT_MS 3000			/* silent for so long: counts as down */

typedef enum PeerState
{
	PEER_DOWN,
	PEER_CONNECTING,
	PEER_IDLE,
	PEER_BUSY
} PeerState;

typedef struct Request
{
	struct Request *next;
	char	   *sql;
	FaPeerCallback callback;
	void	   *arg;
} Request;

typedef struct Peer
{
	struct Peer *next;
	int			node;
	char	   *identity;		/* all keywords and values, to see a change */
	MemoryContext context;		/* of this struct and its strings */
	const char *keywords[FA_MAX_KEYWORDS];
	const char *values[FA_MAX_KEYWORDS];
	PeerState	state;
	PGconn	   *conn;
	PostgresPollingStatusType poll; /* while connecting */
	bool		flush;			/* output is left to send */
	TimestampTz deadline;		/* while connecting or busy */
	TimestampTz suspect_at;		/* while busy; 0: already suspected */
	TimestampTz retry_at;		/* while down */
	int			failures;		/* attempts since the last success */
	char		address[64];	/* that worked last, for a host name */
	Request    *first;			/* the one that is out, if busy */
	Request    *last;
	int			npending;
	PGresult   *result;			/* of the question that is out, so far */
	bool		wanted;			/* scratch of fa_pool_sync_nodes */
} Peer;

static Peer *peers = NULL;
static bool running = false;

static Peer *
pool_find(int node)
{
	for (Peer *p = peers; p; p = p->next)
	{
		if (p->node == node)
			return p;
	}
	return NULL;
}

static void
peer_disconnect(Peer *p)
{
	if (p->conn)
	{
		PQfinish(p->conn);
		ReleaseExternalFD();
	}
	p->conn = NULL;
	if (p->result)
		PQclear(p->result);
	p->result = NULL;
	p->state = PEER_DOWN;
}

/* Takes the first question off the queue and calls back; clears res. */
static void
peer_answer(Peer *p, PGresult *res)
{
	Request    *r = p->first;

	p->first = r->next;
	if (p->first == NULL)
		p->last = NULL;
	p->npending--;
	PG_TRY();
	{
		r->callback(p->node, res, r->arg);
	}
	PG_FINALLY();
	{
		if (res)
			PQclear(res);
		pfree(r->sql);
		pfree(r);
	}
	PG_END_TRY();
}

/*
 * Fails the questions that are queued now (not those that callbacks add).
 */
static void
peer_fail_all(Peer *p)
{
	int			n = p->npending;

	while (n-- > 0 && p->first)
		peer_answer(p, NULL);
}

/* The connection is lost, or could not be made. */
static void
peer_lost(Peer *p)
{
	PeerState	state = p->state;
	int			delay = RETRY_FIRST_MS << Min(p->failures, 6);

	peer_disconnect(p);
	p->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
											  Min(delay, RETRY_LAST_MS));
	p->failures++;
	if (state == PEER_BUSY)
	{
		/* others in the queue have another chance after reconnecting */
		p->retry_at = 0;
		p->failures = 0;
		peer_answer(p, NULL);
	}
	else if (state == PEER_CONNECTING)
		peer_fail_all(p);
}

static void
peer_connect(Peer *p)
{
	const char *keywords[FA_MAX_KEYWORDS + 1];
	const char *values[FA_MAX_KEYWORDS + 1];
	int			n = 0;

	if (!AcquireExternalFD())
	{
		p->failures++;
		p->retry_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  RETRY_LAST_MS);
		peer_fail_all(p);
		return;
	}

	/*
	 * An explicit address saves the resolver.  Not after a failure: the name
	 * may have moved.  A hostaddr of the server's own comes later and wins.
	 */
	if (p->failures == 0 && p->address[0] != '\0')
	{
		keywords[n] = "hostaddr";
		values[n++] = p->address;
	}
	for (int i = 0; p->keywords[i]; i++)
	{
		keywords[n] = p->keywords[i];
		values[n++] = p->values[i];
	}
	keywords[n] = values[n] = NULL;

	p->state = PEER_CONNECTING;
	p->poll = PGRES_POLLING_WRITING;
	p->flush = false;
	p->deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
											  FA_POOL_CONNECT_TIMEOUT_MS);
	p->conn = PQconnectStartParams(keywords, values, false);
	if (p->conn == NULL)
	{
		ReleaseExternalFD();
		peer_lost(p);
	}
	else if (PQstatus(p->conn) == CONNECTION_BAD)
		peer_lost(p);
}

/* Sends the first question of an idle peer. */
static void
peer_send(Peer *p)
{
	int			rc;

	p->state = PEER_BUSY;
	p->suspect_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												SUSPECT_MS);
	p->deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
											  FA_POOL_QUERY_TIMEOUT_MS);
	if (!PQsendQuery(p->conn, p->first->sql) ||
		(rc = PQflush(p->conn)) < 0)
		peer_lost(p);
	else
		p->flush = rc > 0;
}

/* Takes in results of the question that is out; answers when complete. */
static void
peer_receive(Peer *p)
{
	if (!PQconsumeInput(p->conn))
	{
		peer_lost(p);
		return;
	}
	while (!PQisBusy(p->conn))
	{
		PGresult   *res = PQgetResult(p->conn);
		PGresult   *answer;

		if (res == NULL)
		{
			if (PQstatus(p->conn) == CONNECTION_BAD)
			{
				peer_lost(p);
				return;
			}
			answer = p->result;
			p->result = NULL;
			p->state = PEER_IDLE;
			peer_answer(p, answer);
			return;
		}
		if (PQresultStatus(res) == PGRES_COPY_IN ||
			PQresultStatus(res) == PGRES_COPY_OUT ||
			PQresultStatus(res) == PGRES_COPY_BOTH)
		{
			/* nobody asks for this; there is no way on */
			PQclear(res);
			peer_lost(p);
			return;
		}
		if (p->result && PQresultStatus(p->result) != PGRES_TUPLES_OK &&
			PQresultStatus(p->result) != PGRES_COMMAND_OK)
			PQclear(res);		/* the first error stays */
		else
		{
			if (p->result)
				PQclear(p->result);
			p->result = res;
		}
	}
}

/* The peer's socket is ready. */
static void
peer_ready(Peer *p)
{
	int			rc;

	switch (p->state)
	{
		case PEER_DOWN:
			break;
		case PEER_CONNECTING:
			p->poll = PQconnectPoll(p->conn);
			if (p->poll == PGRES_POLLING_FAILED)
				peer_lost(p);
			else if (p->poll == PGRES_POLLING_OK)
			{
				PQsetnonblocking(p->conn, 1);
				strlcpy(p->address, PQhostaddr(p->conn), sizeof(p->address));
				p->failures = 0;
				p->state = PEER_IDLE;
			}
			break;
		case PEER_IDLE:
			/* a notice, or the end */
			if (!PQconsumeInput(p->conn) ||
				PQstatus(p->conn) == CONNECTION_BAD)
				peer_lost(p);
			break;
		case PEER_BUSY:
			if (p->flush)
			{
				if ((rc = PQflush(p->conn)) < 0)
				{
					peer_lost(p);
					break;
				}
				p->flush = rc > 0;
			}
			peer_receive(p);
			break;
	}
}

/* Does what is due without waiting.  Returns the time of the next step. */
static TimestampTz
peer_advance(Peer *p, TimestampTz now, TimestampTz next)
{
	if ((p->state == PEER_CONNECTING || p->state == PEER_BUSY) &&
		now >= p->deadline)
		peer_lost(p);
	if (p->state == PEER_BUSY && p->suspect_at != 0)
	{
		/* others should not wait for it as long as we do */
		if (now >= p->suspect_at)
		{
			fa_node_health_set(p->node, -1);
			p->suspect_at = 0;
		}
		else
			next = Min(next, p->suspect_at);
	}
	if (p->state == PEER_DOWN)
	{
		if (now >= p->retry_at)
			peer_connect(p);
		else if (p->first)
			peer_fail_all(p);
	}
	if (p->state == PEER_IDLE && p->first)
		peer_send(p);
	if (p->state == PEER_DOWN)
		return Min(next, p->retry_at);
	if (p->state == PEER_CONNECTING || p->state == PEER_BUSY)
		return Min(next, p->deadline);
	return next;
}

static uint32
peer_events(Peer *p)
{
	if (p->state == PEER_CONNECTING && p->poll == PGRES_POLLING_WRITING)
		return WL_SOCKET_WRITEABLE;
	if (p->state == PEER_BUSY && p->flush)
		return WL_SOCKET_READABLE | WL_SOCKET_WRITEABLE;
	return WL_SOCKET_READABLE;
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

	for (Peer *p = peers; p; p = p->next)
		npeers++;
	set = CreateWaitEventSet(CurrentMemoryContext, npeers + 2);
	events = palloc(sizeof(WaitEvent) * (npeers + 2));
	if (with_latch)
		AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	for (Peer *p = peers; p; p = p->next)
	{
		if (p->conn && PQsocket(p->conn) != PGINVALID_SOCKET)
			AddWaitEventToSet(set, peer_events(p), PQsocket(p->conn), NULL, p);
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
			peer_ready(events[i].user_data);
	}
	pfree(events);
	return !latch;
}

static void
pool_run(int timeout_ms, bool until_done)
{
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  timeout_ms);
	bool		waited = false;

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		TimestampTz next = end;

		CHECK_FOR_INTERRUPTS();
		for (Peer *p = peers; p; p = p->next)
			next = peer_advance(p, now, next);
		if (until_done && fa_pool_pending(0) == 0)
			return;
		if (waited && now >= end)
			return;
		/* a clock that was set back must not make us sleep on */
		if (!pool_wait(Min(TimestampDifferenceMilliseconds(now, next),
						   timeout_ms), true))
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
	Peer	   *p = pool_find(node);
	Request    *r;

	if (p == NULL)
		elog(ERROR, "node %d is not a peer", node);
	r = MemoryContextAlloc(TopMemoryContext, sizeof(Request));
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

	for (Peer *p = peers; p; p = p->next)
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

	for (Peer *p = peers; p && n < max; p = p->next)
		nodes[n++] = p->node;
	return n;
}

bool
fa_pool_connected(int node)
{
	Peer	   *p = pool_find(node);

	return p && (p->state == PEER_IDLE || p->state == PEER_BUSY);
}

static void
peer_destroy(Peer *p)
{
	Peer	  **link = &peers;

	while (*link != p)
		link = &(*link)->next;
	*link = p->next;
	peer_disconnect(p);
	peer_fail_all(p);
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
	Peer	   *p = pool_find(node);
	MemoryContext context;
	MemoryContext old;

	if (!pool_can_connect(node))
		return;
	(void) fa_remote_keywords(node, false, keywords, values);
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
	p = palloc0(sizeof(Peer));
	p->context = context;
	p->node = node;
	p->identity = pstrdup(identity.data);
	for (int i = 0; keywords[i]; i++)
	{
		p->keywords[i] = pstrdup(keywords[i]);
		p->values[i] = pstrdup(values[i]);
	}
	MemoryContextSwitchTo(old);
	p->state = PEER_DOWN;
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
	StartTransactionCommand();
	for (Peer *p = peers; p; p = p->next)
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
	for (Peer *p = peers, *next; p; p = next)
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
