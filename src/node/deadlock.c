/*
 * deadlock.c
 *	  The search for deadlocks over several nodes; its steps are in deadlock.h.
 *
 * While nobody waits for long it costs a look at the processes' wait times
 * twice a second.
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
#include "node/peer_pool.h"
#include "node/wait_graph.h"
#include "node/xact_stats.h"

#define TICK_MS 500
#define SECOND_LOOK_MS 100
#define WAITS_QUERY \
	"SELECT pid, origin_node, origin_pid, xact_start, wait_start, blockers " \
	"FROM fragaffinity.open_transactions()"

/* Columns of WAITS_QUERY. */
enum
{
	COL_PID, COL_ORIGIN_NODE, COL_ORIGIN_PID, COL_XACT_START, COL_WAIT_START,
	COL_BLOCKERS
};

static MemoryContext look_context = NULL;	/* of the look under way */
static FaWaitSession *sessions = NULL;
static int	nsessions = 0;
static int	sessions_size = 0;
static int	nasked = 0;			/* peers that have not answered yet */
static int	self = 0;
static char *suspected = NULL;	/* circle of the last look, or NULL */

static void
look_add(int node, char **value)
{
	FaWaitSession *s;

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

	/* "{1,2}"; 0 is a prepared transaction, which waits for nobody */
	for (char *p = value[COL_BLOCKERS]; *p;)
	{
		int			pid;

		if (*p < '0' || *p > '9')
		{
			p++;
			continue;
		}
		pid = strtol(p, &p, 10);
		if (pid != 0 && s->nblockers < FA_WAIT_MAX_BLOCKERS)
			s->blockers[s->nblockers++] = pid;
	}
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

static void
look_cancel(const FaWaitEdge *edges, int n)
{
	const FaWaitEdge *victim = &edges[fa_wait_graph_victim(sessions, edges, n)];
	FaWaitSession *waiter = &sessions[victim->waiter];
	char	   *detail = look_detail(edges, n);

	if (waiter->node != self)
		return;					/* its node sees the same, and does it */
	if (!fa_deadlock_cancel(waiter->pid, waiter->wait_start, detail))
		return;
	fa_xact_count(FA_XACT_DEADLOCKS);
	ereport(LOG,
			(errmsg("ending a deadlock over several nodes: canceling process %d of node %d",
					sessions[victim->root].pid, sessions[victim->root].node),
			 errdetail_internal("%s", detail)));
}

/* All have answered, or cannot. */
static void
look_judge(void)
{
	MemoryContext old = MemoryContextSwitchTo(look_context);
	FaWaitEdge *edges = palloc(sizeof(FaWaitEdge) * (nsessions + 1));
	int			n = fa_wait_graph_cycle(sessions, nsessions, edges);
	char	   *seen = n > 0 ? look_signature(edges, n) : NULL;
	bool		again = seen && suspected && strcmp(seen, suspected) == 0;

	if (again)
		look_cancel(edges, n);
	MemoryContextSwitchTo(old);
	if (suspected)
		pfree(suspected);
	suspected = seen && !again ? MemoryContextStrdup(TopMemoryContext, seen) :
		NULL;
	MemoryContextReset(look_context);
	sessions = NULL;
	nsessions = sessions_size = 0;
}

static void
look_answer(int node, PGresult *res, void *arg)
{
	nasked--;
	if (res && PQresultStatus(res) == PGRES_TUPLES_OK)
	{
		for (int i = 0; i < PQntuples(res); i++)
		{
			char	   *value[COL_BLOCKERS + 1];

			for (int j = 0; j <= COL_BLOCKERS; j++)
				value[j] = PQgetvalue(res, i, j);
			look_add(node, value);
		}
	}
	if (nasked == 0)
		look_judge();
}

/* Has a session here waited long enough?  In a transaction. */
static bool
look_due(void)
{
	self = fa_node_self();
	return self != 0 &&
		fa_deadlock_longest_wait() >= fa_setting_int("deadlock_wait", 0);
}

static void
look_begin(void)
{
	FaRows	   *rows = fa_spi_rows(WAITS_QUERY);
	int			nodes[1024];
	int			n;

	for (int i = 0; i < rows->nrows; i++)
		look_add(self, rows->value[i]);
	n = fa_pool_peers(nodes, lengthof(nodes));
	for (int i = 0; i < n; i++)
	{
		FaNodeHealth health;

		/* one that is down has no locks that could be waited for */
		if (fa_node_health(nodes[i], &health) && health.known && !health.alive)
			continue;
		nasked++;
		fa_pool_submit(nodes[i], WAITS_QUERY, look_answer, NULL);
	}
	if (nasked == 0)
		look_judge();
}

void
fa_deadlock_step(void)
{
	MemoryContext caller = CurrentMemoryContext;

	/* no answer is out any more if an error has kept it from being counted */
	if (nasked > 0 && fa_pool_pending(0) > 0)
		return;
	nasked = 0;
	if (fa_deadlock_longest_wait() == 0)
	{
		if (suspected)
			pfree(suspected);
		suspected = NULL;
		return;
	}
	if (look_context == NULL)
		look_context = AllocSetContextCreate(TopMemoryContext,
											 "fragaffinity deadlock search",
											 ALLOCSET_DEFAULT_SIZES);
	/* an error in an earlier look may have left something */
	MemoryContextReset(look_context);
	sessions = NULL;
	nsessions = sessions_size = 0;
	fa_background_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (look_due())
		look_begin();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
}

int
fa_deadlock_tick_ms(void)
{
	return suspected ? SECOND_LOOK_MS : TICK_MS;
}
