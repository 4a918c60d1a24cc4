/*
 * controller.c
 *	  Decides about all fragments after each step, and asks for moves.
 *
 *	1. gather: nodes, owners, sizes, recent moves (gather.c)
 *	2. for each fragment: the forecast over the coming steps, and the
 *	   decision as if it were alone (decide.c)
 *	3. admit what the cluster's limits allow, best first (admit.c)
 *	4. write one recommendation per candidate within reach
 *	5. where the mode is auto, or a node is being drained: ask (request.c)
 *
 * Between steps only drains and rebalances are looked after.
 */
#include "postgres.h"

#include <math.h>

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/spi.h"
#include "node/node.h"
#include "placement/controller.h"
#include "placement/cost.h"
#include "placement/divide.h"
#include "placement/group.h"
#include "placement/hints.h"

#define PROFILE_STEPS FA_PREDICT_MAX_PROFILE	/* points of a plan in time */
#define RECOMMENDATIONS 1000	/* kept at most */

typedef struct Work
{
	TimestampTz now;
	FaPlaceInput *input;
	FaForecaster *f;			/* NULL: drains only */
	FaHints    *hints;			/* NULL: none */
	int			nahead;
	int			ahead[PROFILE_STEPS];
	double	   *profile;		/* [ahead][predictor's node] */
	int			n;				/* candidates */
	int			allocated;
	FaPlaceItem *item;
	FaDecision *decision;
	FaPlaceRow **row;
} Work;

/* Every step near by, fewer far away; the last horizon is the end. */
static void
choose_steps(Work *work)
{
	int			end = work->f->horizons[work->f->nhorizons - 1];
	int			at = 1;

	while (at < end && work->nahead < PROFILE_STEPS - 1)
	{
		work->ahead[work->nahead++] = at;
		at += end <= PROFILE_STEPS ? 1 : Max(1, at / 4);
	}
	work->ahead[work->nahead++] = end;
}

/* Which nodes count: expected to come, or seen lately. */
static int *
active_nodes(Work *work, const FaPlaceRow *row, int index, int *n_p)
{
	int			nn = work->input->cluster.nnodes;
	bool	   *on = palloc0(sizeof(bool) * nn);
	int		   *active = palloc(sizeof(int) * nn);
	int			n = 0;

	for (int i = 0; index >= 0 && i < work->f->nnodes; i++)
	{
		int			place = work->input->place[work->f->node[i]];

		for (int a = 0; place >= 0 && a < work->nahead; a++)
			on[place] |= work->profile[a * work->f->nnodes + i] > 1e-9;
	}
	for (int k = 0; row->recent && k < work->input->nrecent; k++)
	{
		for (int i = 0; i < nn; i++)
			on[i] |= row->recent[k * nn + i] > 0;
	}
	for (int i = 0; i < nn; i++)
	{
		if (on[i])
			active[n++] = i;
	}
	*n_p = n;
	pfree(on);
	return active;
}

/*
 * Forecast (if it counts) and recent past of a fragment, as the decision wants
 * them.
 */
static void
fill_demand(Work *work, const FaPlaceRow *row, bool foresee, FaPlaceItem *item)
{
	FaPlaceInput *input = work->input;
	FaForecaster *f = work->f;
	int			index = foresee ?
		fa_numbering_find(&f->fragments, row->fragment) : -1;
	double	   *rate;
	double	   *recent;
	int		   *active;

	if (index >= 0)
		item->evidence = fa_predictor_profile(f->predictor, index,
											  work->ahead, work->nahead,
											  work->profile);
	if (index >= 0)
		fa_hints_profile(f, work->hints, index, work->ahead, work->nahead,
						 work->profile);
	if (index >= 0 && row->group)
		item->evidence = fa_group_profile(input, row, f, work->hints,
										  work->ahead, work->nahead,
										  work->profile);
	active = active_nodes(work, row, index, &item->nactive);
	item->active = active;
	if (item->evidence > 0)
	{
		item->nhorizons = work->nahead;
		item->horizons = work->ahead;
		item->rate = rate = palloc0(sizeof(double) * work->nahead *
									Max(item->nactive, 1));
		for (int a = 0; a < work->nahead; a++)
		{
			for (int i = 0; i < item->nactive; i++)
			{
				int			id = input->name[active[i]].id;
				int			node = f->node_index[id];

				if (node >= 0 && node < f->nnodes)
					rate[a * item->nactive + i] =
						work->profile[a * f->nnodes + node];
			}
		}
	}
	if (row->recent)
	{
		item->nrecent = input->nrecent;
		item->recent = recent = palloc(sizeof(double) * input->nrecent *
									   Max(item->nactive, 1));
		for (int k = 0; k < input->nrecent; k++)
		{
			for (int i = 0; i < item->nactive; i++)
				recent[k * item->nactive + i] =
					row->recent[k * input->cluster.nnodes + active[i]];
		}
	}
}

static void
keep_candidate(Work *work, const FaPlaceItem *item, const FaDecision *decision,
			   FaPlaceRow *row)
{
	if (work->n == work->allocated)
	{
		work->allocated = Max(64, work->allocated * 2);
		if (work->n == 0)
		{
			work->item = palloc(sizeof(FaPlaceItem) * work->allocated);
			work->decision = palloc(sizeof(FaDecision) * work->allocated);
			work->row = palloc(sizeof(FaPlaceRow *) * work->allocated);
		}
		else
		{
			work->item = repalloc_huge(work->item, sizeof(FaPlaceItem) *
									   work->allocated);
			work->decision = repalloc_huge(work->decision, sizeof(FaDecision) *
										   work->allocated);
			work->row = repalloc_huge(work->row, sizeof(FaPlaceRow *) *
									  work->allocated);
		}
	}
	work->item[work->n] = *item;
	work->decision[work->n] = *decision;
	work->row[work->n++] = row;
}

/* Its group leaves together, while there is a node with room for all. */
static void
decide_leave(FaPlaceInput *input, FaPlaceRow *row, FaPlaceItem *item,
			 FaDecision *decision)
{
	int			toward = row->group ? fa_group_place(input, row) : -1;

	fa_decide_drain(&input->cluster, item, toward, decision);
	if (decision->destination < 0 && toward >= 0)
		fa_decide_drain(&input->cluster, item, -1, decision);
	if (decision->destination < 0 && item->group > 0)
	{
		item->group = 0;
		fa_decide_drain(&input->cluster, item, -1, decision);
	}
	if (row->group)
		row->group->place = decision->destination;
}

static void
consider(Work *work, FaPlaceRow *row)
{
	FaPlaceInput *input = work->input;
	FaTablePolicy *table = fa_controller_policy(input, row->table_id);
	bool		leave;
	FaPlaceItem item = {0};
	FaDecision	decision;

	if (row->owner < 0)
		return;
	leave = input->cluster.node[row->owner].draining;
	if (!leave && row->planned < 0 && (work->f == NULL || !table->decide))
		return;
	item.id = row->fragment;
	item.owner = row->owner;
	item.previous_owner = row->previous_owner;
	item.since_move_ms = row->since_move_ms;
	item.moving = row->moving;
	item.pinned = row->pinned;
	item.advised = !table->act && !leave && row->planned < 0;
	item.bytes = row->bytes;
	item.group = fa_group_number(input, row);
	item.move_ms = fa_cost_move_ms(item.bytes, input->bytes_per_ms);
	item.cost_ms = table->cost_fixed_ms + table->cost_factor * item.move_ms;
	if (work->f)
		fill_demand(work, row, table->predictive || leave, &item);
	if (leave)
		decide_leave(input, row, &item, &decision);
	else if (row->planned >= 0)
		fa_decide_planned(&input->cluster, &item, row->planned, &decision);
	else
		fa_decide_item(&input->cluster, &table->policy, &item, &decision);
	if (decision.verdict != FA_VERDICT_STAY)
		keep_candidate(work, &item, &decision, row);
}

static char *
reason_for(Work *work, int i)
{
	FaPlaceInput *input = work->input;
	FaTablePolicy *table = fa_controller_policy(input,
												work->row[i]->table_id);
	const FaDecision *d = &work->decision[i];
	char		buf[512];

	(void) fa_decide_reason(&input->cluster, &table->policy, &work->item[i], d,
							d->destination >= 0 ?
							input->name[d->destination].name : "",
							input->name[work->item[i].owner].name,
							buf, sizeof(buf));
	return pstrdup(buf);
}

static void
write_recommendations(Work *work)
{
	FaPlaceInput *input = work->input;
	StringInfoData sql;
	int			written = 0;

	(void) fa_spi_exec("DELETE FROM fragaffinity.recommendation");
	initStringInfo(&sql);
	for (int i = 0; i < work->n && written < RECOMMENDATIONS; i++)
	{
		const FaDecision *d = &work->decision[i];

		if (d->destination < 0)
			continue;
		appendStringInfo(&sql, "%s (" INT64_FORMAT ", %d, %d, '%s', %.6g,"
						 " %.6g, %.6g, '%s', %s)",
						 written++ ? "," : "", work->row[i]->fragment,
						 input->name[work->item[i].owner].id,
						 input->name[d->destination].id,
						 fa_trigger_name(d->trigger), d->affinity,
						 d->benefit_ms, d->cost_ms,
						 fa_verdict_name(d->verdict),
						 quote_literal_cstr(reason_for(work, i)));
	}
	if (written > 0)
		(void) fa_spi_exec("INSERT INTO fragaffinity.recommendation"
						   " (fragment, source, destination, trigger, affinity,"
						   "  expected_benefit, cost, verdict, reason, made_at)"
						   " SELECT v.*, pg_catalog.now() FROM (VALUES %s) AS v",
						   sql.data);
}

static void
queue_requests(Work *work)
{
	FaPlaceInput *input = work->input;

	for (int i = 0; i < work->n; i++)
	{
		const FaDecision *d = &work->decision[i];
		FaTablePolicy *table;

		if (d->verdict != FA_VERDICT_MOVE)
			continue;
		table = fa_controller_policy(input, work->row[i]->table_id);
		if (!table->act && d->trigger < FA_TRIGGER_DRAIN)
			continue;
		fa_request_queue(work->row[i]->fragment,
						 input->name[work->item[i].owner].id,
						 input->name[d->destination].id,
						 input->name[d->destination].name,
						 d->wait_steps > 0 ? work->now + (TimestampTz)
						 (d->wait_steps * work->f->width_us) : work->now,
						 d, reason_for(work, i));
	}
}

static bool
some_node_drains(void)
{
	ListCell   *lc;

	foreach(lc, fa_node_list())
	{
		if (((FaNode *) lfirst(lc))->draining)
			return true;
	}
	return false;
}

/* Decides about every row, and what the limits let through. */
static void
plan(Work *work)
{
	if (work->f)
	{
		choose_steps(work);
		work->profile = palloc0(sizeof(double) * work->nahead * work->f->nnodes);
		work->hints = fa_hints_load(work->f);
		work->f->busy = true;
	}
	for (int i = 0; i < work->input->nrows; i++)
	{
		CHECK_FOR_INTERRUPTS();
		consider(work, &work->input->row[i]);
	}
	if (work->f)
		work->f->busy = false;
	(void) fa_decide_admit(&work->input->cluster, work->item, work->decision,
						   work->n, work->input->inflight);
}

void
fa_controller_plan(FaPlaceInput *input, FaForecaster *f, FaPlannedMove move,
				   void *arg)
{
	Work		work = {.input = input,.f = f};

	plan(&work);
	for (int i = 0; i < work.n; i++)
	{
		if (work.decision[i].verdict == FA_VERDICT_MOVE)
			move(arg, work.row[i], &work.decision[i]);
	}
}

/*
 * Part of the step that the forecast begins with is over, and what is decided
 * about a step from now must begin then or later.
 */
static void
tell_time(Work *work)
{
	FaPlaceCluster *cluster = &work->input->cluster;
	TimestampTz began = fa_forecast_step_start(work->f, work->f->last_step + 1);

	cluster->elapsed_steps = (double) (work->now - began) / work->f->width_us;
	cluster->again_steps = 1;
}

void
fa_controller_decide(FaForecaster *f)
{
	Work		work = {0};

	fa_cost_refresh();
	if (f == NULL && !some_node_drains() && !fa_rebalance_goes_on())
		return;
	work.now = GetCurrentTimestamp();
	if (f)
		fa_request_withdraw();
	work.input = fa_controller_gather(f);
	fa_group_gather(work.input);
	work.f = f;
	if (f)
		tell_time(&work);
	plan(&work);
	if (f)
		write_recommendations(&work);
	queue_requests(&work);
	if (f)
		fa_divide_look(work.input, f);
}
