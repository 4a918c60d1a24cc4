/*
 * guard.c
 *	  How fast a copy may go, for the sake of the clients of both nodes.
 *
 * Some times a second, what clients' statements on fragments have taken since
 * is compared, at both nodes, with what they usually take: the median second of
 * the minutes before the move, from fragaffinity.metric, of local and of remote
 * statements each, so that another mixture of them is no change.
 *
 * When a node's statements take longer than "latency_guard" allows, the rate
 * is halved; when they do not, a twentieth of the copy's best rate is added,
 * until that is reached (additive increase, multiplicative decrease: Chiu and
 * Jain, 1989).  FLOOR is always allowed, or a copy would never end.
 *
 * The source is asked without waiting for its answer.  A node where few
 * statements have ended is no reason to be slow.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "capture/counters.h"
#include "core/background.h"
#include "core/settings.h"
#include "core/spi.h"
#include "migrate/guard.h"

#define SAMPLE_US	INT64CONST(250000)
#define BURST_US	INT64CONST(50000)	/* of unused time that may be made up for */
#define ANSWER_MS	10000
#define FEW_CALLS	10			/* say nothing about a node */
#define FLOOR		1e6			/* bytes a second */
#define SLOWER		0.5			/* times the rate, when clients suffer */
#define FASTER		0.05		/* of the best rate, added otherwise */

#define USUAL_SQL \
	"SELECT pg_catalog.percentile_cont(0.5) WITHIN GROUP (ORDER BY m.local_ms / m.local_calls) " \
	"  FILTER (WHERE m.local_calls > 0), " \
	" pg_catalog.percentile_cont(0.5) WITHIN GROUP (ORDER BY m.remote_ms / m.remote_calls) " \
	"  FILTER (WHERE m.remote_calls > 0) " \
	"FROM fragaffinity.metric m JOIN fragaffinity.local_node l ON l.node = m.node " \
	"WHERE m.sampled > pg_catalog.clock_timestamp() - '5 min'::pg_catalog.interval"
#define TIMES_SQL \
	"SELECT local_calls, local_ms, remote_calls, remote_ms " \
	"FROM fragaffinity.statement_times()"

enum
{
	LOCAL,
	REMOTE,
	NKINDS
};

/* Clients' statements at one node. */
typedef struct Statements
{
	bool		known;			/* was looked at before */
	double		usual_ms[NKINDS];	/* a statement; 0: not known */
	double		calls[NKINDS];	/* when last looked at */
	double		ms[NKINDS];
} Statements;

struct FaGuard
{
	FaMove	   *move;
	double		limit;			/* "move_rate_limit", bytes a second; 0: none */
	double		allowed;		/* times what is usual; 0: the guard is off */
	double		rate;			/* that clients bear, bytes a second; 0: any */
	double		best;			/* rate seen when any was allowed */
	Statements	here;
	Statements	source;
	bool		asked;			/* the source, which has not answered */
	TimestampTz sampled;
	int64		bytes;			/* since then */
	TimestampTz due;			/* all that has come should have taken so long */
	int64		slept;			/* us */
};

static double
guard_number(const char *text)
{
	return text ? strtod(text, NULL) : 0;
}

static void
guard_set_usual(Statements *s, const FaRows *rows)
{
	for (int kind = 0; kind < NKINDS; kind++)
		s->usual_ms[kind] = guard_number(rows->value[0][kind]);
}

FaGuard *
fa_guard_create(FaMove *move)
{
	FaGuard    *guard = MemoryContextAllocZero(move->context, sizeof(FaGuard));
	double		percent;

	guard->move = move;
	fa_background_begin();
	guard->limit = fa_setting_float("move_rate_limit", move->fragment.table_id);
	percent = fa_setting_float("latency_guard", move->fragment.table_id);
	if (percent > 0)
	{
		guard->allowed = 1 + percent / 100;
		guard_set_usual(&guard->here, fa_spi_rows(USUAL_SQL));
		guard_set_usual(&guard->source,
						fa_remote_rows(move->control, ANSWER_MS, USUAL_SQL));
	}
	CommitTransactionCommand();
	guard->sampled = guard->due = GetCurrentTimestamp();
	MemoryContextSwitchTo(move->context);
	return guard;
}

/*
 * What statements have taken since the last look, as a multiple of what is
 * usual; 0 when few have ended, and then the next look covers this time, too.
 */
static double
guard_compare(Statements *s, const double *calls, const double *ms)
{
	double		took = 0;
	double		usual = 0;
	double		n = 0;

	for (int kind = 0; kind < NKINDS && s->known; kind++)
	{
		double		more = calls[kind] - s->calls[kind];

		if (s->usual_ms[kind] <= 0 || more <= 0)
			continue;
		n += more;
		took += ms[kind] - s->ms[kind];
		usual += more * s->usual_ms[kind];
	}
	if (s->known && n < FEW_CALLS)
		return 0;
	memcpy(s->calls, calls, sizeof(s->calls));
	memcpy(s->ms, ms, sizeof(s->ms));
	s->known = true;
	return usual > 0 ? took / usual : 0;
}

static void
guard_look_here(FaGuard *guard)
{
	FaCounts	total;
	double		calls[NKINDS];
	double		ms[NKINDS];

	fa_counters_total(&total);
	calls[REMOTE] = total.value[FA_COUNT_REMOTE_CALLS];
	calls[LOCAL] = total.value[FA_COUNT_CALLS] - calls[REMOTE];
	ms[REMOTE] = total.value[FA_COUNT_REMOTE_NS] / 1e6;
	ms[LOCAL] = total.value[FA_COUNT_NS] / 1e6 - ms[REMOTE];
	guard->move->slot->slower_here = guard_compare(&guard->here, calls, ms);
}

static void
guard_look_at_source(FaGuard *guard)
{
	FaConn	   *conn = guard->move->control;
	PGresult   *res;
	double		calls[NKINDS];
	double		ms[NKINDS];

	while ((res = fa_remote_get_result(conn, ANSWER_MS)) != NULL)
	{
		if (PQresultStatus(res) != PGRES_TUPLES_OK)
			fa_remote_raise(conn, res, TIMES_SQL);
		for (int kind = 0; kind < NKINDS; kind++)
		{
			calls[kind] = guard_number(PQgetvalue(res, 0, 2 * kind));
			ms[kind] = guard_number(PQgetvalue(res, 0, 2 * kind + 1));
		}
		PQclear(res);
		guard->move->slot->slower_source = guard_compare(&guard->source, calls, ms);
	}
	guard->asked = false;
}

static void
guard_adapt(FaGuard *guard, double rate)
{
	FaMoverSlot *slot = guard->move->slot;

	if (guard->rate == 0)
		guard->best = Max(guard->best, rate);
	if (Max(slot->slower_here, slot->slower_source) > guard->allowed)
		guard->rate = Max(SLOWER * (guard->rate > 0 ? guard->rate : rate), FLOOR);
	else if (guard->rate > 0)
	{
		guard->rate += Max(FASTER * guard->best, FLOOR);
		if (guard->rate > guard->best)
			guard->rate = 0;
	}
	slot->allowed_rate = guard->rate;
}

/* A sample, when the source has answered; and the question for the next. */
static void
guard_sample(FaGuard *guard, TimestampTz now)
{
	FaConn	   *conn = guard->move->control;

	if (guard->asked)
	{
		if (!PQconsumeInput(conn->pg))
			fa_remote_raise(conn, NULL, TIMES_SQL);
		if (PQisBusy(conn->pg))
			return;
		guard_look_at_source(guard);
		guard_look_here(guard);
		guard_adapt(guard, guard->bytes * 1e6 / Max(now - guard->sampled, 1));
	}
	fa_remote_send(conn, TIMES_SQL);
	guard->asked = true;
	guard->sampled = now;
	guard->bytes = 0;
}

void
fa_guard_rest(FaGuard *guard)
{
	if (guard->asked)
		guard_look_at_source(guard);
}

static double
guard_rate(const FaGuard *guard)
{
	if (guard->rate == 0 || guard->limit == 0)
		return Max(guard->rate, guard->limit);
	return Min(guard->rate, guard->limit);
}

void
fa_guard_pace(FaGuard *guard, int64 bytes)
{
	TimestampTz begun = GetCurrentTimestamp();
	TimestampTz now = begun;
	double		rate;

	guard->bytes += bytes;
	if (guard->allowed > 0 && now - guard->sampled >= SAMPLE_US)
		guard_sample(guard, now);
	rate = guard_rate(guard);
	if (rate == 0)
	{
		guard->due = now;
		return;
	}
	guard->due = Max(guard->due, now - BURST_US) + (int64) (bytes / rate * 1e6);
	while (guard->due - now >= 1000)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (long) ((guard->due - now) / 1000), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		now = GetCurrentTimestamp();
	}
	guard->slept += now - begun;
}

int64
fa_guard_slept(const FaGuard *guard)
{
	return guard->slept;
}
