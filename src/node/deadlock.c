/*
 * deadlock.c
 *	  The search for deadlocks over several nodes; its steps are in deadlock.h.
 *
 * While nobody waits for long it costs a look at the processes' wait times
 * twice a second.  A circle is closed by a wait, so each wait is looked at once
 * when it is old enough; then ever less often, as the queue before it may have
 * changed.
 *
 * A peer that does not answer keeps no others from being judged: what is not
 * known can only hide a circle.  It is asked again when it has answered.
 */
#include "postgres.h"

#include "access/xact.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "core/background.h"
#include "core/settings.h"
#include "core/spi.h"
#include "node/deadlock.h"
#include "node/node.h"
#include "node/peer.h"
#include "node/peer_pool.h"
#include "node/wait_graph.h"

#define TICK_MS 500
#define PATIENCE_MS 400			/* beside four round trips */
#define FIRST_PAUSE_MS 1000		/* before the same waits are looked at again */
#define LAST_PAUSE_MS 30000
#define WAITS_QUERY \
	"SELECT pid, origin_node, origin_pid, xact_start, wait_start, blockers, " \
	"role, uses FROM fragaffinity.open_transactions()"

/* Columns of WAITS_QUERY. */
enum
{
	COL_PID, COL_ORIGIN_NODE, COL_ORIGIN_PID, COL_XACT_START, COL_WAIT_START,
	COL_BLOCKERS, COL_ROLE, COL_USES, NCOLUMNS
};

static int	self = 0;

/* The look under way. */
static MemoryContext look_context = NULL;
static FaWaitSession *sessions = NULL;
static int	nsessions = 0;
static int	sessions_size = 0;
static intptr_t look_number = 0;	/* answers to earlier ones are late */
static int	nasked = 0;			/* peers that have not answered yet */
static bool asked[FA_MAX_NODES];	/* peers that owe an answer to any look */
static int64 look_deadline;		/* by fa_pool_clock_ms() */

static char *suspected = NULL;	/* circle of the first look, or NULL */
static TimestampTz looked_at = 0;	/* newest wait that was old enough */
static int64 look_again;		/* when, at the same waits */
static int	look_pause = FIRST_PAUSE_MS;

static void look_begin(void);

/* "{1,2}" in look_context. */
static int64 *
look_numbers(const char *text, int *n_p)
{
	int64	   *numbers = MemoryContextAlloc(look_context,
											 sizeof(int64) * (strlen(text) / 2 + 1));

	*n_p = 0;
	while (*text)
	{
		char	   *end;
		int64		number = strtoll(text, &end, 10);

		if (end == text)
			text++;
		else
		{
			numbers[(*n_p)++] = number;
			text = end;
		}
	}
	return numbers;
}

static void
look_add(int node, char **value)
{
	FaWaitSession *s;
	int64	   *waits_for;
	int		   *blockers;
	int			n;

	if (nsessions == sessions_size)
	{
		sessions_size = Max(64, sessions_size * 2);
		sessions = sessions ?
			repalloc_huge(sessions, sizeof(FaWaitSession) * sessions_size) :
			MemoryContextAllocHuge(look_context,
								   sizeof(FaWaitSession) * sessions_size);
	}
	s = &sessions[nsessions++];
	memset(s, 0, sizeof(*s));
	s->node = node;
	s->pid = atoi(value[COL_PID]);
	s->origin_node = atoi(value[COL_ORIGIN_NODE]);
	s->origin_pid = atoi(value[COL_ORIGIN_PID]);
	s->xact_start = strtoll(value[COL_XACT_START], NULL, 10);
	s->wait_start = strtoll(value[COL_WAIT_START], NULL, 10);
	s->key = fa_wait_key(node, value[COL_ROLE] ? value[COL_ROLE] : "");
	s->uses = (uint64 *) look_numbers(value[COL_USES], &s->nuses);

	/* 0 is a prepared transaction, which waits for nobody */
	waits_for = look_numbers(value[COL_BLOCKERS], &n);
	blockers = MemoryContextAlloc(look_context, sizeof(int) * (n + 1));
	for (int i = 0; i < n; i++)
	{
		if (waits_for[i] != 0)
			blockers[s->nblockers++] = (int) waits_for[i];
	}
	s->blockers = blockers;
}

/* What must be the same in both looks. */
static char *
look_signature(const FaWaitEdge *edges, int n)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < n; i++)
	{
		FaWaitSession *w = &sessions[edges[i].waiter];
		FaWaitSession *r = &sessions[edges[i].root];

		appendStringInfo(&buf, "%d/%d/" INT64_FORMAT "/%d/%d/" INT64_FORMAT "/" INT64_FORMAT " ",
						 r->node, r->pid, r->xact_start, w->node, w->pid,
						 w->xact_start, w->wait_start);
	}
	return buf.data;
}

static char *
look_detail(const FaWaitEdge *edges, int n)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (int i = 0; i < n; i++)
	{
		FaWaitSession *r = &sessions[edges[i].root];
		FaWaitSession *b = &sessions[edges[i].next_root];

		appendStringInfo(&buf, "%sProcess %d of node %d waits on node %d for process %d of node %d.",
						 i > 0 ? "\n" : "", r->pid, r->node,
						 sessions[edges[i].waiter].node, b->pid, b->node);
	}
	return buf.data;
}

/* If it failed, the circle is found again. */
static void
look_end_answer(int node, PGresult *res, void *arg)
{
	if (res && PQresultStatus(res) != PGRES_TUPLES_OK)
		ereport(LOG,
				(errmsg("could not end a deadlock on node %d: %s", node,
						pchomp(PQresultErrorMessage(res)))));
}

/* Several nodes may do so; the wait ends once. */
static void
look_end_wait(const FaWaitEdge *edges, int n)
{
	const FaWaitEdge *victim = &edges[fa_wait_graph_victim(sessions, edges, n)];
	FaWaitSession *waiter = &sessions[victim->waiter];
	char	   *detail = look_detail(edges, n);

	if (waiter->node == self)
		(void) fa_deadlock_end_wait(waiter->pid, waiter->wait_start, detail);
	else
		fa_pool_submit(waiter->node,
					   psprintf("SELECT fragaffinity.end_lock_wait(%d, " INT64_FORMAT ", %s)",
								waiter->pid, waiter->wait_start,
								quote_literal_cstr(detail)),
					   look_end_answer, NULL);
}

static void
look_forget(void)
{
	look_number++;
	nasked = 0;
	if (look_context)
		MemoryContextReset(look_context);
	sessions = NULL;
	nsessions = sessions_size = 0;
}

static void
look_suspect(const char *seen)
{
	if (suspected)
		pfree(suspected);
	suspected = seen ? MemoryContextStrdup(TopMemoryContext, seen) : NULL;
}

/* All have answered, or cannot.  Outside a transaction. */
static void
look_judge(void)
{
	MemoryContext old = MemoryContextSwitchTo(look_context);
	FaWaitEdge *edges = palloc_extended(sizeof(FaWaitEdge) * (nsessions + 1),
										MCXT_ALLOC_HUGE);
	int			n = fa_wait_graph_cycle(sessions, nsessions, edges);
	char	   *seen = n > 0 ? look_signature(edges, n) : NULL;
	bool		second = suspected != NULL;

	if (seen && second && strcmp(seen, suspected) == 0)
		look_end_wait(edges, n);
	else if (seen && second)
		looked_at = 0;			/* another one: from the start, at the next tick */
	look_suspect(second ? NULL : seen);
	MemoryContextSwitchTo(old);
	look_forget();

	/* all that was answered lies between the two looks */
	if (suspected)
		look_begin();
}

static void
look_answer(int node, PGresult *res, void *arg)
{
	asked[node] = false;
	if ((intptr_t) arg != look_number)
		return;
	if (res && PQresultStatus(res) == PGRES_TUPLES_OK)
	{
		for (int i = 0; i < PQntuples(res); i++)
		{
			char	   *value[NCOLUMNS];

			for (int j = 0; j < NCOLUMNS; j++)
				value[j] = PQgetvalue(res, i, j);
			look_add(node, value);
		}
	}
	if (--nasked == 0)
		look_judge();
}

/*
 * What this node knows itself, and the questions to the others.  Outside a
 * transaction.
 */
static void
look_begin(void)
{
	MemoryContext caller = CurrentMemoryContext;
	double		distance_ms = 0;
	int			nodes[FA_MAX_NODES];
	FaRows	   *rows;
	int			n;

	if (look_context == NULL)
		look_context = AllocSetContextCreate(TopMemoryContext,
											 "fragaffinity deadlock search",
											 ALLOCSET_DEFAULT_SIZES);
	look_forget();
	fa_background_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	rows = fa_spi_rows(WAITS_QUERY);
	for (int i = 0; i < rows->nrows; i++)
		look_add(self, rows->value[i]);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);

	n = fa_pool_peers(nodes, lengthof(nodes));
	for (int i = 0; i < n; i++)
	{
		FaNodeHealth health = {0};

		/* one that is down has no locks that could be waited for */
		if (asked[nodes[i]] ||
			(fa_node_health(nodes[i], &health) && health.known &&
			 !health.alive))
			continue;
		distance_ms = Max(distance_ms, health.round_trip_ms);
		fa_pool_submit(nodes[i], WAITS_QUERY, look_answer,
					   (void *) look_number);
		asked[nodes[i]] = true;
		nasked++;
	}
	look_deadline = fa_pool_clock_ms() + PATIENCE_MS + (int64) (4 * distance_ms);
	if (nasked == 0)
		look_judge();
}

/* Is there a wait to be looked at?  Notes that it is. */
static bool
look_due(void)
{
	TimestampTz newest;
	int64		now = fa_pool_clock_ms();

	fa_background_begin();
	self = fa_node_self();
	newest = self == 0 ? 0 :
		fa_deadlock_newest_wait(fa_setting_int("deadlock_wait", 0));
	CommitTransactionCommand();
	if (newest == 0)
		return false;
	if (newest != looked_at)
		look_pause = FIRST_PAUSE_MS;
	else if (now < look_again)
		return false;
	looked_at = newest;
	look_again = now + look_pause;
	look_pause = Min(look_pause * 2, LAST_PAUSE_MS);
	return true;
}

void
fa_deadlock_step(void)
{
	MemoryContext caller = CurrentMemoryContext;

	if (nasked > 0)
	{
		if (fa_pool_clock_ms() < look_deadline)
			return;
		look_judge();
		looked_at = 0;			/* not everyone was heard: soon again */
		return;
	}
	if (fa_deadlock_newest_wait(0) == 0)
		look_suspect(NULL);
	else if (look_due())
	{
		look_suspect(NULL);
		look_begin();
	}
	MemoryContextSwitchTo(caller);
}

int
fa_deadlock_tick_ms(void)
{
	return nasked > 0 ? PATIENCE_MS : TICK_MS;
}
