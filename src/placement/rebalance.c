/*
 * rebalance.c
 *	  Has fragments moved so that every node holds its part.
 *
 * rebalance() plans for all fragments at once (balance.c): no node above its
 * capacity, nor more than slack above an equal part of the bytes or of the
 * expected accesses, and within that as little waiting and moving as can be.
 * The plan is written down; the controller makes its moves as its limits let
 * them, like those of a drain, and other decisions about these fragments wait
 * until they are there.  A crash of anything leaves the plan in the table.
 *
 * Fragments of one group (group.h) are planned for as one, so that they come
 * together, or stay so.
 *
 * Expected accesses are those of the published forecasts, over the longest
 * horizon.
 */
#include "postgres.h"

#include <math.h>

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "core/spi.h"
#include "node/node.h"
#include "placement/balance.h"
#include "placement/controller.h"
#include "placement/cost.h"
#include "placement/group.h"

#define HEALTH_WAIT_MS 5000
#define HEALTH_POLL_MS 20
#define ROUNDING 1e-9			/* of sums of doubles */

typedef struct Rebalance
{
	FaPlaceInput *input;
	int			n;				/* items */
	FaBalanceItem *item;
	FaPlaceRow **row;			/* of items, one after the other */
	int		   *first;			/* of an item, in row; ends with their number */
	int		   *item_of;		/* by place in the input's rows; -1: none */
	FaBalanceNode *node;
} Rebalance;

void
fa_rebalance_gather(FaPlaceInput *input)
{
	FaRows	   *rows;

	(void) fa_spi_exec("UPDATE fragaffinity.planned_move p"
					   " SET done = pg_catalog.clock_timestamp()"
					   " WHERE p.done IS NULL AND NOT EXISTS"
					   "  (SELECT FROM fragaffinity.fragment f"
					   "   WHERE f.fragment = p.fragment AND f.owner <> p.destination)");
	rows = fa_spi_rows("SELECT fragment, destination FROM fragaffinity.planned_move"
					   " WHERE done IS NULL");
	for (int i = 0; i < rows->nrows; i++)
	{
		FaPlaceRow *row = fa_controller_row(input, strtoll(rows->value[i][0], NULL, 10));
		int			id = atoi(rows->value[i][1]);

		if (row && id >= 1 && id <= FA_MAX_NODE_ID)
			row->planned = input->place[id];
	}
}

bool
fa_rebalance_goes_on(void)
{
	return fa_spi_value("SELECT 1 FROM fragaffinity.planned_move"
						" WHERE done IS NULL LIMIT 1") != NULL;
}

static bool
row_is_fixed(const Rebalance *r, const FaPlaceRow *row)
{
	return row->pinned || row->moving ||
		!r->input->cluster.node[row->owner].alive;
}

static double
row_move_ms(const Rebalance *r, const FaPlaceRow *row)
{
	FaTablePolicy *t = fa_controller_policy(r->input, row->table_id);

	return t->cost_fixed_ms + t->cost_factor *
		fa_cost_move_ms(row->bytes, r->input->bytes_per_ms);
}

/*
 * Can a group be planned for as one?  Its owner is that of the members that
 * must stay, else of the most bytes.  -1: those that must stay are apart.
 */
static int
group_owner(const Rebalance *r, const struct FaGroup *group, bool *fixed_p)
{
	double	   *bytes = palloc0(sizeof(double) * r->input->cluster.nnodes);
	int			owner = -1;

	*fixed_p = false;
	for (int m = 0; m < group->n; m++)
	{
		const FaPlaceRow *row = group->member[m];

		if (row->owner < 0 || row->moving)
			return -1;
		bytes[row->owner] += row->bytes;
		if (row_is_fixed(r, row))
		{
			if (*fixed_p && owner != row->owner)
				return -1;
			owner = row->owner;
			*fixed_p = true;
		}
		else if (!*fixed_p && (owner < 0 || bytes[row->owner] > bytes[owner]))
			owner = row->owner;
	}
	pfree(bytes);
	return owner;
}

/*
 * One more item, of n rows.  Those that are not on its owner move wherever it
 * comes to be, but there.
 */
static void
add_item(Rebalance *r, FaPlaceRow **row, int n, int owner, bool fixed)
{
	int			nn = r->input->cluster.nnodes;
	FaBalanceItem *item = &r->item[r->n];
	double	   *cost_ms = palloc0(sizeof(double) * nn);

	item->owner = owner;
	item->fixed = fixed;
	item->cost_ms = cost_ms;
	for (int k = 0; k < n; k++)
	{
		double		move_ms = row_move_ms(r, row[k]);

		item->bytes += row[k]->bytes;
		for (int to = 0; to < nn; to++)
			cost_ms[to] += to != row[k]->owner ? move_ms : 0;
		r->item_of[row[k] - r->input->row] = r->n;
		r->row[r->first[r->n] + k] = row[k];
	}
	r->n++;
	r->first[r->n] = r->first[r->n - 1] + n;
}

static void
take_row(Rebalance *r, FaPlaceRow *row)
{
	int			owner;
	bool		fixed;

	if (row->owner < 0 || r->item_of[row - r->input->row] >= 0)
		return;
	if (row->group && (owner = group_owner(r, row->group, &fixed)) >= 0)
		add_item(r, row->group->member, row->group->n, owner, fixed);
	else
		add_item(r, &row, 1, row->owner, row_is_fixed(r, row));
}

/*
 * The fragments to plan for, and those that belong to them; others count as
 * where they are.
 */
static void
take_rows(Rebalance *r, Oid rel)
{
	FaPlaceInput *input = r->input;
	Size		n = input->nrows + 1;
	char	   *table = OidIsValid(rel) ?
		fa_spi_value("SELECT table_id FROM fragaffinity.distributed_table"
					 " WHERE rel = %u", rel) : NULL;

	if (OidIsValid(rel) && table == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table %u is not distributed", rel),
				 errhint("fragaffinity.tables lists those that are.")));
	r->row = palloc_extended(sizeof(FaPlaceRow *) * n, MCXT_ALLOC_HUGE);
	r->first = palloc_extended(sizeof(int) * n, MCXT_ALLOC_HUGE);
	r->item_of = palloc_extended(sizeof(int) * n, MCXT_ALLOC_HUGE);
	r->item = palloc_extended(sizeof(FaBalanceItem) * n,
							  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	r->first[0] = 0;
	memset(r->item_of, 0xff, sizeof(int) * n);
	for (int i = 0; i < input->nrows; i++)
	{
		if (table == NULL || input->row[i].table_id == atoi(table))
			take_row(r, &input->row[i]);
	}
}

/* Waiting by owner over the longest horizon, from the published forecasts. */
static void
take_forecasts(Rebalance *r)
{
	FaPlaceCluster *c = &r->input->cluster;
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT fragment, node, avg(expected_rate), max(horizon)"
					   " FROM fragaffinity.prediction WHERE expected_rate > 0"
					   " GROUP BY 1, 2");
	for (int k = 0; k < rows->nrows; k++)
	{
		FaPlaceRow *row = fa_controller_row(r->input,
											strtoll(rows->value[k][0], NULL, 10));
		int			item = row ? r->item_of[row - r->input->row] : -1;
		int			id = atoi(rows->value[k][1]);
		double		rate = atof(rows->value[k][2]);
		double		steps = atof(rows->value[k][3]);
		int			from = id >= 1 && id <= FA_MAX_NODE_ID ?
			r->input->place[id] : -1;

		if (item < 0 || from < 0)
			continue;
		r->item[item].load += rate / c->step_ms;
		for (int to = 0; to < c->nnodes; to++)
			((double *) r->item[item].cost_ms)[to] += rate * steps *
				c->extra_ms[(Size) from * c->nnodes + to];
	}
}

/*
 * What a node may hold of so much on so many nodes: slack above an equal part,
 * but as much more as it takes to place whole fragments anyhow.
 */
static double
part_of(double all, double largest, int nodes, double slack)
{
	if (nodes == 0 || all <= 0)
		return INFINITY;
	return Max(all / nodes * (1 + slack),
			   all / nodes + largest * (1 - 1.0 / nodes));
}

/* Its part, and what else lies there, bound each node. */
static void
take_limits(Rebalance *r, double slack)
{
	FaPlaceCluster *c = &r->input->cluster;
	double		bytes = 0;
	double		load = 0;
	double		largest_bytes = 0;
	double		largest_load = 0;
	int			open = 0;
	double	   *others = palloc0(sizeof(double) * (c->nnodes + 1));

	r->node = palloc0(sizeof(FaBalanceNode) * (c->nnodes + 1));
	for (int n = 0; n < c->nnodes; n++)
	{
		r->node[n].closed = !c->node[n].alive || c->node[n].draining;
		open += !r->node[n].closed;
		others[n] = c->node[n].used;
	}
	for (int i = 0; i < r->n; i++)
	{
		bytes += r->item[i].bytes;
		load += r->item[i].load;
		largest_bytes = Max(largest_bytes, r->item[i].bytes);
		largest_load = Max(largest_load, r->item[i].load);
	}
	for (int k = 0; k < r->first[r->n]; k++)
		others[r->row[k]->owner] -= r->row[k]->bytes;
	for (int n = 0; n < c->nnodes; n++)
	{
		FaBalanceNode *node = &r->node[n];

		node->max_bytes = part_of(bytes, largest_bytes, open, slack);
		node->max_load = part_of(load, largest_load, open, slack);
		if (c->node[n].capacity > 0)
			node->max_bytes = Min(node->max_bytes,
								  Max(c->node[n].capacity - others[n], 0));
	}
}

static bool
all_seen(List *nodes)
{
	ListCell   *lc;

	foreach(lc, nodes)
	{
		FaNode	   *node = lfirst(lc);
		FaNodeHealth health;

		if (node->id != fa_node_self() &&
			!(fa_node_health(node->id, &health) && health.known))
			return false;
	}
	return true;
}

/*
 * Just after add_node() or a start the worker has not called at all nodes yet;
 * a plan made now would leave them out.
 */
static void
await_health(void)
{
	List	   *nodes = fa_node_list();
	TimestampTz end = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												  HEALTH_WAIT_MS);

	while (!all_seen(nodes) && GetCurrentTimestamp() < end)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 HEALTH_POLL_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
tell_left_out(const FaPlaceInput *input)
{
	for (int n = 0; n < input->cluster.nnodes; n++)
	{
		if (!input->cluster.node[n].alive)
			ereport(NOTICE,
					(errmsg("node \"%s\" is left out: it does not answer",
							input->name[n].name)));
	}
}

static void *
plan_alloc(size_t size)
{
	return palloc_extended(size, MCXT_ALLOC_HUGE);
}

static void
plan_check(void)
{
	CHECK_FOR_INTERRUPTS();
}

static void
put_move(ReturnSetInfo *rsinfo, const Rebalance *r, const FaPlaceRow *row,
		 int to, bool dry_run)
{
	const FaPlaceName *name = r->input->name;
	Datum		values[4];
	bool		nulls[4] = {0};

	values[0] = Int64GetDatum(row->fragment);
	values[1] = DirectFunctionCall1(namein, CStringGetDatum(name[row->owner].name));
	values[2] = DirectFunctionCall1(namein, CStringGetDatum(name[to].name));
	values[3] = Int64GetDatum((int64) row->bytes);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	if (!dry_run)
		(void) fa_spi_exec("INSERT INTO fragaffinity.planned_move"
						   " (fragment, source, destination, bytes)"
						   " VALUES (" INT64_FORMAT ", %d, %d, %.0f)",
						   row->fragment, name[row->owner].id, name[to].id,
						   row->bytes);
}

/* Which nodes are above their limits when all is where it shall be. */
static bool *
overfull(const Rebalance *r, const int *owner)
{
	int			nn = r->input->cluster.nnodes;
	bool	   *over = palloc0(sizeof(bool) * (nn + 1));
	double	   *bytes = palloc0(sizeof(double) * (nn + 1));
	double	   *load = palloc0(sizeof(double) * (nn + 1));

	for (int i = 0; i < r->n; i++)
	{
		bytes[owner[i]] += r->item[i].bytes;
		load[owner[i]] += r->item[i].load;
	}
	for (int n = 0; n < nn; n++)
		over[n] = bytes[n] > r->node[n].max_bytes * (1 + ROUNDING) ||
			load[n] > r->node[n].max_load * (1 + ROUNDING);
	return over;
}

static void
put_moves(ReturnSetInfo *rsinfo, const Rebalance *r, const int *owner,
		  bool dry_run)
{
	bool	   *over = overfull(r, owner);

	if (!dry_run)
		(void) fa_spi_exec("DELETE FROM fragaffinity.planned_move");
	for (int i = 0; i < r->n; i++)
	{
		const FaBalanceNode *node = &r->node[owner[i]];

		/* no place for all of a group that is apart: it stays so */
		if (owner[i] == r->item[i].owner && (node->closed || over[owner[i]]))
			continue;
		for (int k = r->first[i]; k < r->first[i + 1]; k++)
		{
			if (r->row[k]->owner != owner[i])
				put_move(rsinfo, r, r->row[k], owner[i], dry_run);
		}
	}
}

PG_FUNCTION_INFO_V1(fa_sql_rebalance);

/* rebalance(rel, slack, dry_run) */
Datum
fa_sql_rebalance(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	Oid			rel = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);
	double		slack = PG_ARGISNULL(1) ? 0.1 : PG_GETARG_FLOAT8(1);
	bool		dry_run = !PG_ARGISNULL(2) && PG_GETARG_BOOL(2);
	Rebalance	r = {0};
	FaBalance	b = {.alloc = plan_alloc,.release = pfree,.check = plan_check};
	FaBalanceResult result;
	int		   *owner;

	if (fa_node_require_cluster() != fa_node_coordinator())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("moves are planned by the coordinator"),
				 errhint("Call rebalance on node \"%s\".",
						 fa_node_find(fa_node_coordinator())->name)));
	if (isnan(slack) || slack < 0 || slack > 100)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("slack must be between 0 and 100"),
				 errhint("0.1 lets a node hold a tenth more than an equal part.")));
	InitMaterializedSRF(fcinfo, 0);
	await_health();
	fa_cost_refresh_own();
	/* two plans at a time would be none */
	(void) fa_spi_exec("LOCK TABLE fragaffinity.planned_move IN SHARE ROW EXCLUSIVE MODE");
	r.input = fa_controller_gather(NULL);
	fa_group_gather(r.input);
	tell_left_out(r.input);
	take_rows(&r, rel);
	take_forecasts(&r);
	take_limits(&r, slack);
	b.nnodes = r.input->cluster.nnodes;
	b.nitems = r.n;
	b.node = r.node;
	b.item = r.item;
	owner = palloc_extended(sizeof(int) * (r.n + 1), MCXT_ALLOC_HUGE);
	result = fa_balance(&b, owner);
	if (!result.fits)
		ereport(NOTICE,
				(errmsg("some nodes will hold more than their part"),
				 errdetail("No other node has room for what is too much there.")));
	put_moves(rsinfo, &r, owner, dry_run);
	return (Datum) 0;
}
