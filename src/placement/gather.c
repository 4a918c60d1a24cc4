/*
 * gather.c
 *	  The cluster as plain structs: what the controller decides on.
 */
#include "postgres.h"

#include <math.h>

#include "datatype/timestamp.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/settings.h"
#include "core/spi.h"
#include "node/node.h"
#include "placement/controller.h"
#include "placement/cost.h"

#define RECENT_STEPS 12			/* that a reactive move looks back */
#define REMEMBERED "1 day"		/* how long a move is remembered */
#define MOVES_BELIEVED 3		/* weight of the belief that moves pay */

int
fa_controller_minute(TimestampTz t)
{
	struct pg_tm tm;
	fsec_t		fsec;
	int			tz;

	if (timestamp2tm(t, &tz, &tm, &fsec, NULL, NULL) != 0)
		return 0;
	return tm.tm_hour * 60 + tm.tm_min;
}

/*
 * How much of what a table's moves were expected to bring did not come, of
 * those whose horizon has passed.  Older ones weigh less, and as much as
 * MOVES_BELIEVED average moves are taken to have paid: so few moves say
 * little, and a table that has been quiet for some weeks is tried again.
 * What single moves bring is a matter of chance; forecasts that are right on the
 * average bring as much too much as too little, so all is summed up.
 */
static double
gather_unpaid(int table_id)
{
	FaRows	   *rows;
	double		expected;
	double		observed;
	double		average;

	rows = fa_spi_rows("SELECT sum(w * m.expected_benefit),"
					   " greatest(sum(w * m.observed_benefit), 0),"
					   " avg(m.expected_benefit)"
					   " FROM fragaffinity.move m"
					   " JOIN fragaffinity.fragment f ON f.fragment = m.fragment,"
					   " exp(- extract(epoch FROM now() - m.finished) / (7 * 86400)) w"
					   " WHERE f.table_id = %d AND m.state = 'done'"
					   "  AND m.trigger IN ('predictive', 'reactive')"
					   "  AND m.expected_benefit > 0"
					   "  AND m.observed_benefit IS NOT NULL"
					   "  AND m.finished > now() - interval '60 days'", table_id);
	if (rows->value[0][0] == NULL)
		return 0;
	expected = atof(rows->value[0][0]);
	observed = atof(rows->value[0][1]);
	average = atof(rows->value[0][2]);
	return Max(expected - observed, 0) / (expected + MOVES_BELIEVED * average);
}

FaTablePolicy *
fa_controller_policy(FaPlaceInput *input, int table_id)
{
	FaTablePolicy *t;
	ListCell   *lc;
	char	   *mode;

	foreach(lc, input->policies)
	{
		t = lfirst(lc);
		if (t->table_id == table_id)
			return t;
	}
	t = palloc0(sizeof(FaTablePolicy));
	t->table_id = table_id;
	t->policy.threshold = fa_setting_float("migration_threshold", table_id);
	t->policy.hysteresis = fa_setting_float("hysteresis", table_id);
	t->policy.min_residency_ms = fa_setting_float("min_residency", table_id);
	t->policy.doubt = fa_setting_float("doubt", table_id);
	t->predictive = fa_setting_bool("predictive", table_id);
	t->policy.reactive = fa_setting_bool("reactive", table_id);
	t->policy.reactive_threshold = fa_setting_float("reactive_threshold",
													table_id);
	t->policy.reactive_steps = (int) fa_setting_int("reactive_steps",
													table_id);
	t->co_access = strcmp(fa_setting_text("co_access", table_id), "auto") == 0;
	mode = fa_setting_text("mode", table_id);
	t->act = strcmp(mode, "auto") == 0;
	t->decide = t->act || strcmp(mode, "advise") == 0;
	t->cost_fixed_ms = fa_setting_float("move_cost", table_id);
	t->cost_factor = fa_setting_float("move_cost_factor", table_id);
	t->unknown_bytes = fa_setting_float("fragment_size", table_id);
	t->divide_bytes = t->unknown_bytes * fa_setting_float("divide_above", table_id);
	t->policy.closed = !fa_setting_hours(fa_setting_text("move_window", table_id),
										 fa_controller_minute(GetCurrentTimestamp()));
	if (fa_setting_bool("benefit_learning", table_id))
		t->policy.unpaid = gather_unpaid(table_id);
	input->policies = lappend(input->policies, t);
	return t;
}

static void
gather_nodes(FaPlaceInput *input)
{
	List	   *nodes = fa_node_list();
	int			self = fa_node_self();
	FaPlaceCluster *c = &input->cluster;
	int		   *ids = palloc0(sizeof(int) * (list_length(nodes) + 1));
	ListCell   *lc;

	memset(input->place, 0xff, sizeof(input->place));
	c->node = palloc0(sizeof(FaPlaceNode) * (list_length(nodes) + 1));
	input->name = palloc0(sizeof(FaPlaceName) * (list_length(nodes) + 1));
	foreach(lc, nodes)
	{
		FaNode	   *node = lfirst(lc);
		FaPlaceNode *p = &c->node[c->nnodes];
		FaNodeHealth health;

		if (node->id < 1 || node->id > FA_MAX_NODE_ID)
			continue;
		p->alive = node->id == self ||
			(fa_node_health(node->id, &health) && health.known && health.alive);
		p->draining = node->draining;
		p->capacity = (double) node->capacity;
		input->name[c->nnodes].id = node->id;
		input->name[c->nnodes].name = node->name;
		input->place[node->id] = c->nnodes;
		ids[c->nnodes++] = node->id;
	}
	c->extra_ms = fa_cost_extra_ms(ids, c->nnodes);
	fa_controller_limits(input);
	input->bytes_per_ms = fa_cost_bytes_per_ms();
}

void
fa_controller_limits(FaPlaceInput *input)
{
	FaPlaceCluster *c = &input->cluster;

	c->step_ms = fa_setting_float("history_interval", 0);
	c->max_moves = (int) fa_setting_int("max_concurrent_moves", 0);
	c->max_moves_node = (int) fa_setting_int("max_moves_per_node", 0);
	c->max_moves_hour = fa_setting_float("max_moves_per_hour", 0);
	c->max_bytes_hour = fa_setting_float("max_move_bytes_per_hour", 0);
}

static int
place_of(const FaPlaceInput *input, const char *node)
{
	int			id = atoi(node);

	return id >= 1 && id <= FA_MAX_NODE_ID ? input->place[id] : -1;
}

static void
gather_fragments(FaPlaceInput *input)
{
	FaRows	   *rows;

	/*
	 * Only owners know sizes: here from the catalog, elsewhere collected.  A
	 * new fragment is taken to be as large as others of its table; what is
	 * here is noted, so that it stays known when it leaves.
	 */
	(void) fa_spi_exec("INSERT INTO fragaffinity.fragment_size (fragment, bytes, sampled)"
					   " SELECT f.fragment, pg_catalog.pg_total_relation_size(f.leaf),"
					   "  pg_catalog.clock_timestamp()"
					   " FROM fragaffinity.fragment f"
					   " JOIN fragaffinity.local_node l ON l.node = f.owner"
					   " WHERE NOT EXISTS (SELECT FROM fragaffinity.fragment_size s"
					   "  WHERE s.fragment = f.fragment)"
					   "  AND pg_catalog.pg_total_relation_size(f.leaf) IS NOT NULL"
					   " ON CONFLICT DO NOTHING");
	rows = fa_spi_rows("SELECT fragment, table_id, owner, COALESCE(bytes,"
					   "  avg(bytes) OVER (PARTITION BY table_id))"
					   " FROM (SELECT f.fragment, f.table_id, f.owner,"
					   "   CASE WHEN f.owner = l.node"
					   "    THEN pg_catalog.pg_total_relation_size(f.leaf)"
					   "    ELSE s.bytes END AS bytes"
					   "  FROM fragaffinity.local_node l"
					   "  CROSS JOIN fragaffinity.fragment f"
					   "  LEFT JOIN fragaffinity.fragment_size s"
					   "   ON s.fragment = f.fragment) known"
					   " ORDER BY fragment");
	input->row = palloc_extended(sizeof(FaPlaceRow) * (rows->nrows + 1),
								 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	input->nrows = rows->nrows;
	for (int i = 0; i < rows->nrows; i++)
	{
		FaPlaceRow *row = &input->row[i];

		row->fragment = strtoll(rows->value[i][0], NULL, 10);
		row->table_id = atoi(rows->value[i][1]);
		row->owner = place_of(input, rows->value[i][2]);
		row->previous_owner = row->planned = row->heading = -1;
		row->since_move_ms = INFINITY;
		row->bytes = rows->value[i][3] ? atof(rows->value[i][3]) :
			fa_controller_policy(input, row->table_id)->unknown_bytes;
		if (row->owner >= 0)
			input->cluster.node[row->owner].used += row->bytes;
	}
}

FaPlaceRow *
fa_controller_row(FaPlaceInput *input, int64 fragment)
{
	int			low = 0;
	int			high = input->nrows;

	while (low < high)
	{
		int			middle = (low + high) / 2;

		if (input->row[middle].fragment < fragment)
			low = middle + 1;
		else
			high = middle;
	}
	return low < input->nrows && input->row[low].fragment == fragment ?
		&input->row[low] : NULL;
}

static FaPlaceRow *
find_row(FaPlaceInput *input, const char *text)
{
	return fa_controller_row(input, strtoll(text, NULL, 10));
}

static void
gather_moves(FaPlaceInput *input)
{
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT DISTINCT ON (fragment) fragment, source, state,"
					   " 1000 * extract(epoch FROM now() - finished)"
					   " FROM fragaffinity.move"
					   " WHERE state IN ('done', 'failed', 'cancelled')"
					   "  AND finished > now() - interval '" REMEMBERED "'"
					   " ORDER BY fragment, finished DESC");
	for (int i = 0; i < rows->nrows; i++)
	{
		FaPlaceRow *row = find_row(input, rows->value[i][0]);

		if (row == NULL)
			continue;
		/* a move that failed is not tried again at once either */
		row->since_move_ms = Max(atof(rows->value[i][3]), 0);
		if (strcmp(rows->value[i][2], "done") == 0)
			row->previous_owner = place_of(input, rows->value[i][1]);
	}
	rows = fa_spi_rows("SELECT fragment, source, destination"
					   " FROM fragaffinity.move"
					   " WHERE state NOT IN ('done', 'failed', 'cancelled')");
	for (int i = 0; i < rows->nrows; i++)
	{
		FaPlaceRow *row = find_row(input, rows->value[i][0]);
		int			from = place_of(input, rows->value[i][1]);
		int			to = place_of(input, rows->value[i][2]);

		if (row == NULL || fa_request_pending(row->fragment))
			continue;
		row->moving = true;
		row->heading = to;
		if (from >= 0)
			input->cluster.node[from].outgoing++;
		if (to >= 0)
		{
			input->cluster.node[to].incoming++;
			input->cluster.node[to].used += row->bytes;
		}
		input->inflight++;
	}
	for (int i = 0; i < input->nrows; i++)
	{
		if (fa_request_pending(input->row[i].fragment))
			input->row[i].moving = true;
	}
	fa_request_count(input);
}

/*
 * What of the hour's budget is spent: the controller's own moves, and requests
 * whose moves are not in the table yet.
 */
static void
gather_budget(FaPlaceInput *input)
{
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT fragment, move, bytes FROM fragaffinity.move"
					   " WHERE requested > now() - interval '1 hour'"
					   "  AND trigger <> 'manual'");
	for (int i = 0; i < rows->nrows; i++)
	{
		FaPlaceRow *row = find_row(input, rows->value[i][0]);
		double		bytes = rows->value[i][2] ? atof(rows->value[i][2]) : 0;

		if (row && fa_request_move(row->fragment) ==
			strtoll(rows->value[i][1], NULL, 10))
			continue;
		input->cluster.moves_hour++;
		input->cluster.bytes_hour += row ? Max(row->bytes, bytes) : bytes;
	}
	for (int i = 0; i < input->nrows; i++)
	{
		if (fa_request_move(input->row[i].fragment) < 0)
			continue;
		input->cluster.moves_hour++;
		input->cluster.bytes_hour += input->row[i].bytes;
	}
}

static void
gather_pins(FaPlaceInput *input)
{
	FaRows	   *rows = fa_spi_rows("SELECT fragment FROM fragaffinity.pin");

	for (int i = 0; i < rows->nrows; i++)
	{
		FaPlaceRow *row = find_row(input, rows->value[i][0]);

		if (row)
			row->pinned = true;
	}
}

static void
gather_recent(FaPlaceInput *input, FaForecaster *f)
{
	int			nn = input->cluster.nnodes;
	FaRows	   *rows;

	input->nrecent = RECENT_STEPS;
	rows = fa_spi_rows("SELECT fragment, node, sum(calls),"
					   " round(extract(epoch FROM timestamptz '%s' - step) / %.6f)"
					   " FROM fragaffinity.history"
					   " WHERE step > timestamptz '%s' - interval '%.6f s'"
					   " GROUP BY 1, 2, 4",
					   timestamptz_to_str(fa_forecast_step_start(f, f->last_step)),
					   f->width_us / 1e6,
					   timestamptz_to_str(fa_forecast_step_start(f, f->last_step)),
					   (RECENT_STEPS - 0.5) * f->width_us / 1e6);
	for (int i = 0; i < rows->nrows; i++)
	{
		FaPlaceRow *row = find_row(input, rows->value[i][0]);
		int			node = place_of(input, rows->value[i][1]);
		int			back = atoi(rows->value[i][3]);

		if (row == NULL || node < 0 || back < 0 || back >= RECENT_STEPS)
			continue;
		if (row->recent == NULL)
			row->recent = palloc0(sizeof(double) * nn * RECENT_STEPS);
		row->recent[back * nn + node] += atof(rows->value[i][2]);
	}
}

FaPlaceInput *
fa_controller_gather(FaForecaster *f)
{
	FaPlaceInput *input = palloc0(sizeof(FaPlaceInput));

	gather_nodes(input);
	gather_fragments(input);
	gather_moves(input);
	gather_budget(input);
	gather_pins(input);
	fa_rebalance_gather(input);
	if (f)
		gather_recent(input, f);
	return input;
}
