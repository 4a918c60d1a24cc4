/*
 * outcome.c
 *	  What a move was worth, told when its horizon has passed.
 *
 * lead_ms: from the move's end to the first step in which the destination's
 * clients used the fragment more than the source's did, which is the first
 * that would have been degraded: positive when the move came before.  When
 * that state lasted already as the move was asked for, its beginning counts,
 * and the lead is negative.  Null when it never came.
 *
 * observed_benefit: the accesses that came until the horizon (or the next
 * move), priced as the decision priced what it expected.  Of a step that the
 * fragment moved in, the part that it was there for counts.
 *
 * Both are written here and on the destination, whose row is the original.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/spi.h"
#include "node/node.h"
#include "node/peer_pool.h"
#include "placement/controller.h"
#include "placement/cost.h"

#define JUDGED_AT_ONCE 20
#define LOOK_BACK "1 hour"		/* for the beginning of a rise */

typedef struct Judged
{
	const char *move;
	const char *fragment;
	int			source;
	int			destination;
	const char *requested;
	const char *finished;
	const char *until;
	bool		mine;
} Judged;

/* lead_ms as SQL text. */
static char *
find_lead(const Judged *m)
{
	FaRows	   *rows;
	int			now = -1;
	int			rise = -1;

	rows = fa_spi_rows("SELECT 1000 * extract(epoch FROM step - timestamptz '%s'),"
					   " step <= timestamptz '%s',"
					   " COALESCE(sum(calls) FILTER (WHERE node = %d), 0) >"
					   " COALESCE(sum(calls) FILTER (WHERE node = %d), 0)"
					   " FROM fragaffinity.history WHERE fragment = %s"
					   " AND step > timestamptz '%s' - interval '" LOOK_BACK "'"
					   " AND step < timestamptz '%s'"
					   " GROUP BY step ORDER BY step",
					   m->finished, m->requested, m->destination, m->source,
					   m->fragment, m->requested, m->until);
	for (int i = 0; i < rows->nrows; i++)
	{
		if (rows->value[i][1][0] == 't')
			now = i;
	}
	if (now >= 0 && rows->value[now][2][0] == 't')
	{
		rise = now;
		while (rise > 0 && rows->value[rise - 1][2][0] == 't')
			rise--;
	}
	else
	{
		for (rise = now + 1; rise < rows->nrows; rise++)
		{
			if (rows->value[rise][2][0] == 't')
				break;
		}
	}
	if (rise >= 0 && rise < rows->nrows)
		return rows->value[rise][0];
	return "NULL";
}

static double
find_benefit(const Judged *m, double width_s)
{
	List	   *nodes = fa_node_list();
	int			nnodes = list_length(nodes);
	int		   *ids = palloc(sizeof(int) * (nnodes + 1));
	double	   *extra;
	double		saved = 0;
	int			source = -1;
	int			destination = -1;
	FaRows	   *rows;

	for (int i = 0; i < nnodes; i++)
	{
		ids[i] = ((FaNode *) list_nth(nodes, i))->id;
		if (ids[i] == m->source)
			source = i;
		if (ids[i] == m->destination)
			destination = i;
	}
	if (source < 0 || destination < 0)
		return 0;
	extra = fa_cost_extra_ms(ids, nnodes);
	rows = fa_spi_rows("SELECT node, sum(calls * extract(epoch FROM"
					   "  LEAST(step + width, m.until) - GREATEST(step, m.finished))"
					   "  / extract(epoch FROM width))"
					   " FROM fragaffinity.history,"
					   "  (SELECT timestamptz '%s' AS finished, timestamptz '%s' AS until) m"
					   " WHERE fragment = %s AND step < m.until"
					   "  AND step > m.finished - interval '%.6f s'"
					   "  AND step + width > m.finished GROUP BY node",
					   m->finished, m->until, m->fragment, width_s);
	for (int r = 0; r < rows->nrows; r++)
	{
		for (int i = 0; i < nnodes; i++)
		{
			if (ids[i] == atoi(rows->value[r][0]))
				saved += atof(rows->value[r][1]) *
					(extra[i * nnodes + source] -
					 extra[i * nnodes + destination]);
		}
	}
	return saved;
}

static void
judge(const Judged *m, double width_s)
{
	char	   *sql;

	sql = psprintf("UPDATE fragaffinity.move SET lead_ms = %s,"
				   " observed_benefit = %.6g, changed = pg_catalog.clock_timestamp()"
				   " WHERE move OPERATOR(pg_catalog.=) %s",
				   find_lead(m), find_benefit(m, width_s), m->move);
	(void) fa_spi_exec("%s", sql);
	if (!m->mine)
		fa_pool_submit(m->destination, sql, NULL, NULL);
}

void
fa_outcome_judge(FaForecaster *f)
{
	int			self = fa_node_self();
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT m.move, m.fragment, m.source, m.destination,"
					   " m.requested, m.finished, LEAST(m.finished + w.width,"
					   "  (SELECT min(n.finished) FROM fragaffinity.move n"
					   "   WHERE n.fragment = m.fragment AND n.state = 'done'"
					   "   AND n.finished > m.finished))"
					   " FROM fragaffinity.move m,"
					   "  (SELECT interval '%.6f s' AS width) w"
					   " WHERE m.state = 'done' AND m.observed_benefit IS NULL"
					   "  AND m.finished > now() - w.width - interval '1 day'"
					   "  AND m.finished + w.width < timestamptz '%s'"
					   " ORDER BY m.finished LIMIT %d",
					   f->horizons[f->nhorizons - 1] * (f->width_us / 1e6),
					   timestamptz_to_str(fa_forecast_step_start(f, f->last_step + 1)),
					   JUDGED_AT_ONCE);
	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **v = rows->value[i];
		Judged		m;

		m.move = v[0];
		m.fragment = v[1];
		m.source = atoi(v[2]);
		m.destination = atoi(v[3]);
		m.requested = v[4];
		m.finished = v[5];
		m.until = v[6];
		m.mine = m.destination == self;
		judge(&m, f->width_us / 1e6);
	}
}
