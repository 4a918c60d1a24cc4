/*
 * request.c
 *	  Asks destinations to fetch fragments.
 *
 * The request is SQL, run on the destination, which then makes the move by
 * itself.  It goes over the worker's pool of connections and its answer comes
 * back whenever it does.  Then the destination is asked each second whether
 * it is still at it: moves under way are in its catalog only.  Until the move
 * has ended, or for a while after a refusal, the fragment counts as moving,
 * so that nobody asks twice.  A move may be asked for ahead: its request waits
 * here until it is due, or the next decision takes it back.  All this is
 * forgotten at a restart; the destination and the source refuse a second move
 * of a fragment.
 */
#include "postgres.h"

#include "access/xact.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/background.h"
#include "core/spi.h"
#include "node/node.h"
#include "node/peer_pool.h"
#include "placement/controller.h"

#define SILENT_MS 60000			/* until a silent destination is forgotten */
#define REFUSED_MS 10000		/* until a refused one may be repeated */
#define BUSY_MS 1000			/* until a busy one is asked again */
#define BEGIN_MS 10000			/* until an accepted one must be visible */
#define ENDED_MS 2000			/* until its end has been collected */
#define LOOK_MOST_MS 1000

typedef struct Request
{
	struct Request *next;
	int64		fragment;
	int			source;			/* node ids */
	int			destination;
	bool		sent;
	bool		refused;
	bool		ended;
	TimestampTz due;			/* not sent before */
	TimestampTz accepted;		/* 0: not yet */
	int64		move;			/* then */
	TimestampTz until;			/* then it is forgotten */
	char		sql[FLEXIBLE_ARRAY_MEMBER];
} Request;

static Request *requests = NULL;

static void
set_deadline(Request *r, int ms)
{
	r->until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ms);
}

static Request *
find_request(int64 fragment)
{
	for (Request *r = requests; r; r = r->next)
	{
		if (r->fragment == fragment)
			return r;
	}
	return NULL;
}

static void
forget_old(void)
{
	TimestampTz now = GetCurrentTimestamp();
	Request   **link = &requests;

	while (*link)
	{
		Request    *r = *link;

		if (r->sent && r->until < now)
		{
			*link = r->next;
			pfree(r);
		}
		else
			link = &r->next;
	}
}

void
fa_request_queue(int64 fragment, int source, int destination,
				 const char *destination_name, TimestampTz due,
				 const FaDecision *decision, const char *reason)
{
	char	   *sql;
	Request    *r;

	if (find_request(fragment))
		return;
	sql = psprintf("SELECT fragaffinity.request_move(" INT64_FORMAT
				   ", %s, %s, %s, %.6g)", fragment,
				   quote_literal_cstr(destination_name),
				   quote_literal_cstr(fa_trigger_name(decision->trigger)),
				   quote_literal_cstr(reason), decision->benefit_ms);
	r = MemoryContextAllocZero(TopMemoryContext,
							   offsetof(Request, sql) + strlen(sql) + 1);
	strcpy(r->sql, sql);
	r->fragment = fragment;
	r->source = source;
	r->destination = destination;
	r->due = due;
	r->next = requests;
	requests = r;
}

void
fa_request_withdraw(void)
{
	TimestampTz now = GetCurrentTimestamp();
	Request   **link = &requests;

	while (*link)
	{
		Request    *r = *link;

		if (!r->sent && r->due > now)
		{
			*link = r->next;
			pfree(r);
		}
		else
			link = &r->next;
	}
}

int
fa_request_due_ms(void)
{
	TimestampTz now = GetCurrentTimestamp();
	long		least = LOOK_MOST_MS;

	for (Request *r = requests; r; r = r->next)
	{
		if (!r->sent)
			least = Min(least, TimestampDifferenceMilliseconds(now, r->due));
	}
	return (int) least;
}

bool
fa_request_pending(int64 fragment)
{
	forget_old();
	return find_request(fragment) != NULL;
}

int64
fa_request_move(int64 fragment)
{
	Request    *r = find_request(fragment);

	if (r == NULL || r->refused)
		return -1;
	return r->move;
}

void
fa_request_count(FaPlaceInput *input)
{
	FaPlaceCluster *cluster = &input->cluster;

	for (Request *r = requests; r; r = r->next)
	{
		int			from = input->place[r->source];
		int			to = input->place[r->destination];
		FaPlaceRow *row = fa_controller_row(input, r->fragment);

		if (r->refused || r->ended)
			continue;
		if (from >= 0)
			cluster->node[from].outgoing++;
		if (to >= 0)
			cluster->node[to].incoming++;
		if (to >= 0 && row && row->owner != to)
			cluster->node[to].used += row->bytes;
		if (row)
			row->heading = to;
		input->inflight++;
	}
}

static void
note_accepted(Request *r, const char *move)
{
	r->move = strtoll(move, NULL, 10);
	r->accepted = GetCurrentTimestamp();
	set_deadline(r, SILENT_MS);
}

/* All movers being busy passes: it is asked again, if it is still wanted. */
static void
note_refused(Request *r, int code, const char *error)
{
	if (code == ERRCODE_CONFIGURATION_LIMIT_EXCEEDED)
	{
		r->sent = false;
		r->due = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), BUSY_MS);
		return;
	}
	r->refused = true;
	set_deadline(r, REFUSED_MS);
	ereport(LOG,
			(errmsg("node %d refused to fetch fragment %lld: %s",
					r->destination, (long long) r->fragment, error)));
}

static int
sqlstate_of(const PGresult *res)
{
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	return state ? MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]) : 0;
}

static void
destination_answered(int node, PGresult *res, void *arg)
{
	int64		fragment = *(int64 *) arg;
	Request    *r = find_request(fragment);

	pfree(arg);
	if (r == NULL || r->destination != node)
		return;
	if (res == NULL)
		note_refused(r, 0, "no answer");
	else if (PQresultStatus(res) != PGRES_TUPLES_OK)
		note_refused(r, sqlstate_of(res),
					 PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY));
	else
		note_accepted(r, PQgetvalue(res, 0, 0));
}

/*
 * What became of a move that was accepted; NULL: its row is not there, which
 * is so for a moment after it was accepted.
 */
static void
note_state(int64 move, const char *ended)
{
	for (Request *r = requests; r; r = r->next)
	{
		if (r->accepted == 0 || r->ended || r->move != move)
			continue;
		r->ended = ended ? ended[0] == 't' :
			TimestampDifferenceExceeds(r->accepted, GetCurrentTimestamp(),
									   BEGIN_MS);
		set_deadline(r, r->ended ? ENDED_MS : SILENT_MS);
	}
}

static void
destination_moves(int node, PGresult *res, void *arg)
{
	if (res == NULL || PQresultStatus(res) != PGRES_TUPLES_OK)
		return;
	for (int i = 0; i < PQntuples(res); i++)
		note_state(strtoll(PQgetvalue(res, i, 0), NULL, 10),
				   PQgetisnull(res, i, 1) ? NULL : PQgetvalue(res, i, 1));
}

/* The question how a node's accepted moves stand; NULL: there is none. */
static char *
question_for(int node)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (Request *r = requests; r; r = r->next)
	{
		if (r->destination == node && r->accepted != 0 && !r->ended)
			appendStringInfo(&buf, "%s(" INT64_FORMAT "::pg_catalog.int8)",
							 buf.len ? "," : "", r->move);
	}
	return buf.len == 0 ? NULL :
		psprintf("SELECT w.move, m.state IN ('done', 'failed', 'cancelled')"
				 " FROM (VALUES %s) AS w(move)"
				 " LEFT JOIN fragaffinity.move m USING (move)", buf.data);
}

/* Asks each destination how its moves stand; in a transaction. */
static void
follow_moves(int self)
{
	ListCell   *lc;

	foreach(lc, fa_node_list())
	{
		int			node = ((FaNode *) lfirst(lc))->id;
		char	   *sql = question_for(node);
		FaRows	   *rows;

		if (sql == NULL)
			continue;
		if (node != self)
		{
			fa_pool_submit(node, sql, destination_moves, NULL);
			continue;
		}
		rows = fa_spi_rows("%s", sql);
		for (int i = 0; i < rows->nrows; i++)
			note_state(strtoll(rows->value[i][0], NULL, 10), rows->value[i][1]);
	}
}

static void
ask_here(Request *r)
{
	MemoryContext context = CurrentMemoryContext;
	char	   *move;

	PG_TRY();
	{
		SetCurrentStatementStartTimestamp();
		fa_background_begin();
		PushActiveSnapshot(GetTransactionSnapshot());
		move = fa_spi_value("%s", r->sql);
		note_accepted(r, move);
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		AbortOutOfAnyTransaction();
		MemoryContextSwitchTo(context);
		note_refused(r, error->sqlerrcode, error->message);
	}
	PG_END_TRY();
}

void
fa_request_send(void)
{
	TimestampTz now = GetCurrentTimestamp();
	int			self;

	if (requests == NULL)
		return;
	SetCurrentStatementStartTimestamp();
	fa_background_begin();
	self = fa_node_self();
	follow_moves(self);
	CommitTransactionCommand();
	for (Request *r = requests; r; r = r->next)
	{
		if (r->sent || r->due > now)
			continue;
		r->sent = true;
		set_deadline(r, SILENT_MS);
		if (r->destination == self)
			ask_here(r);
		else
		{
			int64	   *arg = MemoryContextAlloc(TopMemoryContext,
												 sizeof(int64));

			*arg = r->fragment;
			fa_pool_submit(r->destination, r->sql, destination_answered, arg);
		}
	}
}
