/*
 * simulate_replay.c
 *	  Steps of history, through a predictor and several policies side by side.
 *
 * The predictor learns all history from its beginning; from a point on, each
 * step's accesses are counted against each variant's owners, and then each
 * variant decides, with the controller's own code.  A move takes effect with
 * the next step.  All variants see the same forecasts, which do not depend on
 * where fragments are.
 *
 * Nodes count as up, no other move as under way, and the round trip between
 * two other nodes as a usual one.  Groups are those of now, as each variant's
 * settings make them.
 */
#include "postgres.h"

#include <math.h>

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/settings.h"
#include "core/spi.h"
#include "placement/cost.h"
#include "placement/group.h"
#include "placement/simulate.h"

#define BATCH_STEPS 64
#define RECENT_STEPS 12			/* as the controller looks back */
#define HOUR_US (INT64CONST(3600) * 1000000)

/* Owners at the start, from the moves since. */
static void
rewind_owners(FaPlaceInput *input, TimestampTz from)
{
	FaRows	   *rows = fa_spi_rows("SELECT DISTINCT ON (fragment) fragment, source"
								   " FROM fragaffinity.move"
								   " WHERE state = 'done' AND finished > '%s'"
								   " ORDER BY fragment, finished",
								   timestamptz_to_str(from));

	for (int i = 0; i < input->cluster.nnodes; i++)
	{
		FaPlaceNode *node = &input->cluster.node[i];

		node->alive = true;
		node->draining = false;
		node->used = node->incoming = node->outgoing = 0;
	}
	input->inflight = 0;
	input->nrecent = RECENT_STEPS;
	for (int i = 0; i < rows->nrows; i++)
	{
		FaPlaceRow *row = fa_controller_row(input, strtoll(rows->value[i][0], NULL, 10));
		int			source = atoi(rows->value[i][1]);

		if (row && source >= 1 && source <= FA_MAX_NODE_ID &&
			input->place[source] >= 0)
			row->owner = input->place[source];
	}
	for (int i = 0; i < input->nrows; i++)
	{
		FaPlaceRow *row = &input->row[i];

		row->previous_owner = row->planned = row->heading = -1;
		row->since_move_ms = INFINITY;
		row->moving = false;
		if (row->owner >= 0)
			input->cluster.node[row->owner].used += row->bytes;
	}
}

static int
table_index(FaSimulation *sim, int table_id)
{
	for (int t = 0; t < sim->ntables; t++)
	{
		if (sim->table_id[t] == table_id)
			return t;
	}
	sim->table_id = sim->table_id ?
		repalloc(sim->table_id, sizeof(int) * (sim->ntables + 1)) :
		palloc(sizeof(int));
	sim->table_id[sim->ntables] = table_id;
	return sim->ntables++;
}

void
fa_simulate_begin(FaSimulation *sim, TimestampTz from, TimestampTz to)
{
	int			nrows;
	int		   *ids;

	sim->context = CurrentMemoryContext;
	fa_cost_refresh_own();
	sim->f = fa_forecast_make(sim->context);
	fa_forecast_begin(sim->f);
	sim->base = fa_controller_gather(NULL);
	ids = palloc(sizeof(int) * (sim->base->cluster.nnodes + 1));
	for (int i = 0; i < sim->base->cluster.nnodes; i++)
		ids[i] = sim->base->name[i].id;
	sim->base->cluster.extra_ms =
		fa_cost_extra_between(ids, sim->base->cluster.nnodes, from, to);
	rewind_owners(sim->base, from);
	nrows = sim->base->nrows;
	sim->table = palloc(sizeof(int) * (nrows + 1));
	for (int i = 0; i < nrows; i++)
		sim->table[i] = table_index(sim, sim->base->row[i].table_id);
	sim->touched = palloc0(sizeof(bool) * (nrows + 1));
	sim->touched_row = palloc(sizeof(int) * (nrows + 1));
}

FaSimVariant *
fa_simulate_add(FaSimulation *sim, const char *name, FaSimKind kind)
{
	const FaPlaceInput *base = sim->base;
	FaPlaceInput *input = palloc(sizeof(FaPlaceInput));
	Size		nodes = sizeof(FaPlaceNode) * (base->cluster.nnodes + 1);
	Size		rows = sizeof(FaPlaceRow) * (base->nrows + 1);
	FaSimVariant *v;

	*input = *base;
	input->policies = NIL;
	input->cluster.node = memcpy(palloc(nodes), base->cluster.node, nodes);
	input->row = memcpy(palloc_extended(rows, MCXT_ALLOC_HUGE), base->row, rows);
	fa_controller_limits(input);

	sim->variant = sim->variant ?
		repalloc(sim->variant, sizeof(FaSimVariant) * (sim->nvariants + 1)) :
		palloc(sizeof(FaSimVariant));
	v = &sim->variant[sim->nvariants++];
	memset(v, 0, sizeof(*v));
	v->name = name;
	v->kind = kind;
	v->input = input;
	v->tally = palloc0(sizeof(FaSimTally) * (sim->ntables + 1));
	v->since_ms = palloc(sizeof(double) * (base->nrows + 1));
	for (int i = 0; i < base->nrows; i++)
		v->since_ms[i] = INFINITY;
	v->window = palloc(sizeof(char *) * (sim->ntables + 1));
	for (int t = 0; t < sim->ntables; t++)
	{
		FaTablePolicy *p = fa_controller_policy(input, sim->table_id[t]);

		p->decide = p->act = true;
		p->policy.unpaid = 0;
		v->window[t] = fa_setting_text("move_window", p->table_id);
	}
	if (kind == FA_SIM_DECIDE)
		fa_group_gather(input);
	if (kind == FA_SIM_OPTIMUM)
		v->way = palloc0(sizeof(FaWay *) * (base->nrows + 1));
	return v;
}

static double
move_cost_ms(const FaSimVariant *v, const FaPlaceRow *row)
{
	FaTablePolicy *t = fa_controller_policy(v->input, row->table_id);

	return t->cost_fixed_ms + t->cost_factor *
		fa_cost_move_ms(row->bytes, v->input->bytes_per_ms);
}

/* The step's accesses of row, against the owner it has or may have had. */
static void
count_row(FaSimulation *sim, FaSimVariant *v, int r, const int *active,
		  const double *count, int nactive)
{
	const FaPlaceRow *row = &v->input->row[r];
	const FaPlaceCluster *c = &v->input->cluster;
	FaSimTally *tally = &v->tally[sim->table[r]];

	for (int i = 0; i < nactive; i++)
	{
		tally->accesses += count[i];
		if (v->kind == FA_SIM_OPTIMUM || active[i] == row->owner)
			continue;
		tally->remote += count[i];
		tally->waiting_ms += count[i] *
			c->extra_ms[(size_t) active[i] * c->nnodes + row->owner];
	}
	if (v->kind != FA_SIM_OPTIMUM)
		return;
	if (v->way[r] == NULL)
	{
		v->way[r] = MemoryContextAlloc(sim->context,
									   sizeof(FaWay) * c->nnodes);
		fa_hindsight_begin(v->way[r], c->nnodes, row->owner);
	}
	fa_hindsight_step(v->way[r], c->nnodes, c->extra_ms, active, count,
					  nactive, row->pinned ? INFINITY : move_cost_ms(v, row),
					  NULL);
}

/* Moves the recent past on, and notes which rows the step's cells are of. */
static void
take_cells(FaSimulation *sim, const FaStepBatch *batch, int first)
{
	FaPlaceInput *base = sim->base;
	int			nn = base->cluster.nnodes;

	for (int i = 0; i < base->nrows; i++)
	{
		double	   *recent = base->row[i].recent;

		if (recent == NULL)
			continue;
		memmove(recent + nn, recent, sizeof(double) * nn * (RECENT_STEPS - 1));
		memset(recent, 0, sizeof(double) * nn);
	}
	sim->ntouched = 0;
	for (int c = first; c < batch->next_cell; c++)
	{
		const FaCell *cell = &batch->cells[c];
		FaPlaceRow *row = fa_controller_row(base, sim->f->fragments.fragment[cell->fragment]);
		int			place = cell->node >= 0 ?
			base->place[sim->f->node[cell->node]] : -1;
		int			r;

		if (row == NULL || place < 0 || row->owner < 0)
			continue;
		r = row - base->row;
		if (row->recent == NULL)
		{
			row->recent = MemoryContextAllocZero(sim->context, sizeof(double) *
												 nn * RECENT_STEPS);
			for (int i = 0; i < sim->nvariants; i++)
				sim->variant[i].input->row[r].recent = row->recent;
		}
		row->recent[place] += cell->count;
		if (!sim->touched[r])
		{
			sim->touched[r] = true;
			sim->touched_row[sim->ntouched++] = r;
		}
	}
}

static void
count_step(FaSimulation *sim, const FaStepBatch *batch, int first)
{
	int			nn = sim->base->cluster.nnodes;
	int		   *active = palloc(sizeof(int) * (nn + 1));
	double	   *count = palloc(sizeof(double) * (nn + 1));

	take_cells(sim, batch, first);
	for (int t = 0; t < sim->ntouched; t++)
	{
		int			r = sim->touched_row[t];
		int			n = 0;

		for (int i = 0; i < nn; i++)
		{
			if (sim->base->row[r].recent[i] <= 0)
				continue;
			active[n] = i;
			count[n++] = sim->base->row[r].recent[i];
		}
		for (int i = 0; i < sim->nvariants; i++)
			count_row(sim, &sim->variant[i], r, active, count, n);
		sim->touched[r] = false;
	}
	pfree(active);
	pfree(count);
}

typedef struct Mover
{
	FaSimulation *sim;
	FaSimVariant *v;
} Mover;

static void
take_move(void *arg, FaPlaceRow *row, const FaDecision *decision)
{
	FaSimulation *sim = ((Mover *) arg)->sim;
	FaSimVariant *v = ((Mover *) arg)->v;
	int			r = row - v->input->row;
	FaSimTally *tally = &v->tally[sim->table[r]];

	row->previous_owner = row->owner;
	row->owner = decision->destination;
	v->since_ms[r] = 0;
	tally->moves++;
	tally->bytes += row->bytes;
	tally->moving_ms += move_cost_ms(v, row);
	if (v->nmoved == v->moved_allocated)
	{
		v->moved_allocated = Max(64, v->moved_allocated * 2);
		v->moved = v->moved ?
			repalloc_huge(v->moved, sizeof(FaSimMoved) * v->moved_allocated) :
			MemoryContextAlloc(sim->context,
							   sizeof(FaSimMoved) * v->moved_allocated);
	}
	v->moved[v->nmoved++] = (FaSimMoved) {sim->now, row->bytes};
}

static void
decide_step(FaSimulation *sim, FaSimVariant *v)
{
	FaPlaceInput *input = v->input;
	FaPlaceCluster *cluster = &input->cluster;
	Mover		mover = {sim, v};
	int			old = 0;
	int			n = 0;
	ListCell   *lc;

	foreach(lc, input->policies)
		((FaTablePolicy *) lfirst(lc))->policy.closed =
		!fa_setting_hours(v->window[n++], fa_controller_minute(sim->now));
	while (old < v->nmoved && v->moved[old].at <= sim->now - HOUR_US)
		old++;
	v->nmoved -= old;
	if (v->nmoved > 0)
		memmove(v->moved, v->moved + old, sizeof(FaSimMoved) * v->nmoved);
	cluster->moves_hour = v->nmoved;
	cluster->bytes_hour = 0;
	for (int i = 0; i < v->nmoved; i++)
		cluster->bytes_hour += v->moved[i].bytes;
	for (int i = 0; i < input->nrows; i++)
	{
		v->since_ms[i] += cluster->step_ms;
		input->row[i].since_move_ms = v->since_ms[i];
	}
	for (int i = 0; i < cluster->nnodes; i++)
		cluster->node[i].incoming = cluster->node[i].outgoing = 0;
	fa_group_refresh(input, sim->base->row);
	/* what is admitted is booked as under way, which it is no more */
	fa_controller_plan(input, sim->f, take_move, &mover);
	for (int i = 0; i < cluster->nnodes; i++)
		cluster->node[i].used = 0;
	for (int i = 0; i < input->nrows; i++)
	{
		if (input->row[i].owner >= 0)
			cluster->node[input->row[i].owner].used += input->row[i].bytes;
	}
}

/* What came of the best ways, once they are known to the end. */
static void
settle_optimum(FaSimulation *sim, FaSimVariant *v)
{
	for (int r = 0; r < v->input->nrows; r++)
	{
		FaSimTally *tally = &v->tally[sim->table[r]];
		const FaWay *way = v->way[r];

		if (way == NULL)
			continue;
		way += fa_hindsight_best(way, v->input->cluster.nnodes);
		tally->remote += way->remote;
		tally->waiting_ms += way->waiting_ms;
		tally->moves += way->moves;
		tally->bytes += way->moves * v->input->row[r].bytes;
		if (way->moves > 0)
			tally->moving_ms += way->moves * move_cost_ms(v, &v->input->row[r]);
	}
}

void
fa_simulate_replay(FaSimulation *sim, TimestampTz from, TimestampTz to)
{
	FaForecaster *f = sim->f;
	int64		next;
	int64		end = to / f->width_us;

	if (!fa_forecast_first_step(f, &next))
		return;
	while (next < end)
	{
		FaStepBatch batch;
		int64		upto = Min(next + BATCH_STEPS, end);
		MemoryContext temp = AllocSetContextCreate(CurrentMemoryContext,
												   "fragaffinity simulation",
												   ALLOCSET_DEFAULT_SIZES);
		MemoryContext step = AllocSetContextCreate(temp,
												   "fragaffinity simulated step",
												   ALLOCSET_DEFAULT_SIZES);
		MemoryContext old = MemoryContextSwitchTo(temp);

		fa_forecast_read(f, next, upto, &batch);
		for (; next < upto; next++)
		{
			int			first = batch.next_cell;

			CHECK_FOR_INTERRUPTS();
			fa_forecast_feed(f, next, next + 1, &batch);
			sim->now = fa_forecast_step_start(f, next + 1);
			if (sim->now <= from)
				continue;
			MemoryContextSwitchTo(step);
			count_step(sim, &batch, first);
			for (int i = 0; i < sim->nvariants; i++)
			{
				if (sim->variant[i].kind == FA_SIM_DECIDE)
					decide_step(sim, &sim->variant[i]);
				MemoryContextReset(step);
			}
			MemoryContextSwitchTo(temp);
		}
		MemoryContextSwitchTo(old);
		MemoryContextDelete(temp);
	}
	for (int i = 0; i < sim->nvariants; i++)
	{
		if (sim->variant[i].kind == FA_SIM_OPTIMUM)
			settle_optimum(sim, &sim->variant[i]);
	}
}
