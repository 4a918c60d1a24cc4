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

#define HEALTH_WAIT_MS 5000
#define HEALTH_POLL_MS 20

typedef struct Rebalance
{
	FaPlaceInput *input;
	int			n;
	FaPlaceRow **row;
	FaBalanceItem *item;
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

/* The fragments to plan for; others count as where they are. */
static void
take_rows(Rebalance *r, Oid rel)
{
	FaPlaceInput *input = r->input;
	int			nn = input->cluster.nnodes;
	char	   *table = OidIsValid(rel) ?
		fa_spi_value("SELECT table_id FROM fragaffinity.distributed_table"
					 " WHERE rel = %u", rel) : NULL;

	if (OidIsValid(rel) && table == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("table %u is not distributed", rel),
				 errhint("fragaffinity.tables lists those that are.")));
	r->row = palloc(sizeof(FaPlaceRow *) * (input->nrows + 1));
	r->item = palloc_extended(sizeof(FaBalanceItem) * (input->nrows + 1),
							  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < input->nrows; i++)
	{
		FaPlaceRow *row = &input->row[i];
		FaTablePolicy *t = fa_controller_policy(input, row->table_id);
		FaBalanceItem *item = &r->item[r->n];

		if (row->owner < 0 || (table && row->table_id != atoi(table)))
			continue;
		item->owner = row->owner;
		item->fixed = row->pinned || row->moving ||
			!input->cluster.node[row->owner].alive;
		item->bytes = row->bytes;
		item->move_ms = t->cost_fixed_ms + t->cost_factor *
			fa_cost_move_ms(row->bytes, input->bytes_per_ms);
		item->cost_ms = palloc0(sizeof(double) * nn);
		r->row[r->n++] = row;
	}
}

/* Waiting by owner over the longest horizon, from the published forecasts. */
static void
take_forecasts(Rebalance *r)
{
	FaPlaceCluster *c = &r->input->cluster;
	FaRows	   *rows;
	int			i = 0;

	rows = fa_spi_rows("SELECT fragment, node, avg(expected_rate), max(horizon)"
					   " FROM fragaffinity.prediction WHERE expected_rate > 0"
					   " GROUP BY 1, 2 ORDER BY 1");
	for (int k = 0; k < rows->nrows; k++)
	{
		int64		fragment = strtoll(rows->value[k][0], NULL, 10);
		int			id = atoi(rows->value[k][1]);
		double		rate = atof(rows->value[k][2]);
		double		steps = atof(rows->value[k][3]);
		int			from = id >= 1 && id <= FA_MAX_NODE_ID ?
			r->input->place[id] : -1;

		while (i < r->n && r->row[i]->fragment < fragment)
			i++;
		if (i == r->n || r->row[i]->fragment != fragment || from < 0)
			continue;
		r->item[i].load += rate / c->step_ms;
		for (int to = 0; to < c->nnodes; to++)
			((double *) r->item[i].cost_ms)[to] += rate * steps *
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
		others[r->item[i].owner] -= r->item[i].bytes;
	}
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
put_moves(ReturnSetInfo *rsinfo, const Rebalance *r, const int *owner,
		  bool dry_run)
{
	const FaPlaceName *name = r->input->name;

	if (!dry_run)
		(void) fa_spi_exec("DELETE FROM fragaffinity.planned_move");
	for (int i = 0; i < r->n; i++)
	{
		const FaPlaceRow *row = r->row[i];
		Datum		values[4];
		bool		nulls[4] = {0};

		if (owner[i] == row->owner)
			continue;
		values[0] = Int64GetDatum(row->fragment);
		values[1] = DirectFunctionCall1(namein, CStringGetDatum(name[row->owner].name));
		values[2] = DirectFunctionCall1(namein, CStringGetDatum(name[owner[i]].name));
		values[3] = Int64GetDatum((int64) row->bytes);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
		if (!dry_run)
			(void) fa_spi_exec("INSERT INTO fragaffinity.planned_move"
							   " (fragment, source, destination, bytes)"
							   " VALUES (" INT64_FORMAT ", %d, %d, %.0f)",
							   row->fragment, name[row->owner].id,
							   name[owner[i]].id, row->bytes);
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
	tell_left_out(r.input);
	take_rows(&r, rel);
	take_forecasts(&r);
	take_limits(&r, slack);
	b.nnodes = r.input->cluster.nnodes;
	b.nitems = r.n;
	b.node = r.node;
	b.item = r.item;
	owner = palloc(sizeof(int) * (r.n + 1));
	result = fa_balance(&b, owner);
	if (!result.fits)
		ereport(NOTICE,
				(errmsg("some nodes will hold more than their part"),
				 errdetail("No other node has room for what is too much there.")));
	put_moves(rsinfo, &r, owner, dry_run);
	return (Datum) 0;
}
