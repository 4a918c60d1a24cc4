/*
 * chain.c
 *	  From the long run to this very slot, link by link.
 *
 * Rates form a chain.  The long-run base, tilted by what the nodes' totals do
 * in this slot of the shortest season, is the prior of the fragment's own mean
 * around that slot, which is the prior of its mean in the slot itself; tilted
 * again, that is the prior for the next longer season.  In the longest one,
 * the same hour of days like this one comes before the slot itself.  So a
 * fragment with little evidence swings with the nodes, and one with much goes
 * its own way.
 *
 * Where slots are put together, each counts with the exposure that it has in
 * units of the target slot, by the grand total: a busy neighbour hour then does
 * not pass for a busy fragment.
 */
#include <math.h>
#include <string.h>

#include "predict/seasonal.h"

#define SITE_CONCENTRATION 20.0
#define TOTAL_STEPS		2.0		/* of the long run, in a slot's total */
#define NEAR_CONCENTRATION 8.0
#define SLOT_CONCENTRATION 20.0

static const double near_part[FA_STAGE_REACH] = {0.5, 0.2};

void
fa_predict_plan_alloc(FaFrame *frame, FaPlan *plan)
{
	for (int i = 0; i < FA_MAX_STAGES; i++)
	{
		fa_predict_free(frame, plan->stage[i].exposure);
		plan->stage[i].exposure = NULL;
		plan->stage[i].exposure = fa_predict_alloc(frame, frame->nnodes,
												   sizeof(double));
	}
	fa_predict_free(frame, plan->tilt);
	plan->tilt = NULL;
	plan->tilt = fa_predict_alloc(frame, (size_t) frame->nnodes *
								  FA_MAX_SEASONS, sizeof(double));
	fa_predict_free(frame, plan->rate);
	plan->rate = NULL;
	plan->rate = fa_predict_alloc(frame, frame->nnodes, sizeof(double));
	plan->nstages = -1;			/* not made yet */
}

/* The nodes' totals along the seasons, and what each season changes. */
static void
site_chain(FaFrame *frame, const FaSeasons *s, FaPlan *plan)
{
	double		total = 0;

	for (int n = 0; n < frame->nnodes; n++)
	{
		plan->rate[n] = s->site_rate[n];
		total += plan->rate[n];
		for (int k = 0; k < FA_MAX_SEASONS; k++)
			plan->tilt[(size_t) n * FA_MAX_SEASONS + k] = 1;
	}
	for (int k = 0; k < s->n && total > 0; k++)
	{
		const FaSeason *se = &s->season[k];
		size_t		at = (size_t) fa_predict_slots_of(se, plan->target) *
			frame->nnodes;
		double		kappa = SITE_CONCENTRATION / total;

		total = 0;
		for (int n = 0; n < frame->nnodes; n++)
		{
			double		v = (se->count[at + n] + kappa * plan->rate[n]) /
				(se->steps[at + n] + kappa);

			if (v > 0)
				plan->tilt[(size_t) n * FA_MAX_SEASONS + k] = v / plan->rate[n];
			plan->rate[n] = v;
			total += v;
		}
	}
}

/* Accesses per step of all nodes in a slot, never 0. */
static double
slot_total(const FaFrame *frame, const FaSeasons *s, const FaSeason *se,
		   int slot)
{
	double		total = 1e-9;

	for (int n = 0; n < frame->nnodes; n++)
	{
		size_t		i = (size_t) slot * frame->nnodes + n;

		total += (se->count[i] + TOTAL_STEPS * s->site_rate[n]) /
			(se->steps[i] + TOTAL_STEPS);
	}
	return total;
}

static void
add_slot(FaStage *st, int slot, double part)
{
	st->slot[st->nslots] = slot;
	st->part[st->nslots++] = part;
}

/*
 * A stage of season k: the target's slot, with like days when days is set and
 * with neighbouring slots when near is set.
 */
static void
add_stage(FaFrame *frame, const FaSeasons *s, FaPlan *plan, int k, bool days,
		  bool near, int column)
{
	const FaSeason *se = &s->season[k];
	FaStage    *st = &plan->stage[plan->nstages++];
	int			ndays = days ? s->ndays : 1;
	int			day = se->nslots / ndays;
	int			at = fa_predict_slots_of(se, plan->target);
	int			cycle = s->ndays > 0 && k == s->n - 1 ? se->nslots / s->ndays :
		se->nslots;
	int			stride = (cycle + 12) / 24 < 1 ? 1 : (cycle + 12) / 24;

	st->season = k;
	st->column = column;
	st->tilts = plan->nstages == 1 || st[-1].season != k;
	st->nslots = 0;
	st->young_since = INT64_MIN;
	st->concentration = near || days ? NEAR_CONCENTRATION : SLOT_CONCENTRATION;
	for (int d = 0; d < ndays; d++)
	{
		double		part = days ? s->like[at / day][d] : 1;
		int			slot = days ? d * day + at % day : at;

		if (part < 0.01)
			continue;
		add_slot(st, slot, part);
		for (int e = 1; near && e <= FA_STAGE_REACH && e * stride * 2 < cycle; e++)
		{
			add_slot(st, (slot + e * stride) % se->nslots,
					 part * near_part[e - 1]);
			add_slot(st, (slot - e * stride + se->nslots) % se->nslots,
					 part * near_part[e - 1]);
		}
	}

	for (int n = 0; n < frame->nnodes; n++)
		st->exposure[n] = 0;
	for (int j = 0; j < st->nslots; j++)
	{
		double		unit = st->part[j] * slot_total(frame, s, se, st->slot[j]) /
			slot_total(frame, s, se, at);

		for (int n = 0; n < frame->nnodes; n++)
			st->exposure[n] += unit *
				se->steps[(size_t) st->slot[j] * frame->nnodes + n];
	}
}

void
fa_predict_plan_make(FaFrame *frame, const FaSeasons *s, int64_t target,
					 FaPlan *plan)
{
	plan->target = target;
	plan->nstages = 0;
	site_chain(frame, s, plan);
	for (int k = 0; k < s->n; k++)
	{
		bool		days = s->ndays > 0 && k == s->n - 1;

		if (days)
			add_stage(frame, s, plan, k, true, true, 2 * FA_MAX_SEASONS);
		if (days)
			add_stage(frame, s, plan, k, true, false, 2 * FA_MAX_SEASONS + 1);
		else
			add_stage(frame, s, plan, k, false, true, 2 * k);
		add_stage(frame, s, plan, k, false, false, 2 * k + 1);
	}
}

/* Part of a season's exposure that a fragment has which is younger than it. */
static double
young_part(const FaSeason *se, FaStage *st, int64_t since, int64_t target)
{
	if (st->young_since != since)
	{
		double		age = (double) (target - since) / se->period;
		double		all = (double) (target - se->since) / se->period;
		double		keep = pow(se->keep, se->width);

		st->young = (1 - pow(keep, age)) / (1 - pow(keep, all));
		if (!(st->young > 1e-6))
			st->young = 1e-6;
		st->young_since = since;
	}
	return st->young;
}

/* From rates v to rates that have seen the stage's counts. */
static void
run_stage(FaFrame *frame, const FaSeasons *s, const FaView *view,
		  FaStage *st, double *v, double *local)
{
	const FaFragment *fr = &frame->fragment[view->fragment];
	const FaSeason *se = &s->season[st->season];
	const FaSlots *sl = &s->slots[view->fragment];
	const float *count = sl->count[st->season];
	int			nc = fr->ncells < sl->capacity ? fr->ncells : sl->capacity;
	double		young = 1;
	double		total = 0;
	double		longest = 0;
	double		kappa;

	for (int i = 0; i < fr->ncells; i++)
		total += v[i];
	if (count == NULL || !(total > 0))
		return;
	/* a fragment younger than the season has been in fewer steps of the slot */
	if (sl->since > se->since)
		young = young_part(se, st, sl->since, view->target);
	kappa = st->concentration / total;
	for (int i = 0; i < nc; i++)
	{
		double		exposure = st->exposure[fr->node[i]] * young;
		double		before = v[i];
		double		c = 0;

		for (int j = 0; j < st->nslots; j++)
			c += st->part[j] * count[(size_t) st->slot[j] * sl->capacity + i];
		v[i] = (c + kappa * before) / (exposure + kappa);
		if (!(v[i] > 1e-30))
			v[i] = 1e-30;
		if (local != NULL && before > 0)
			local[(size_t) i * frame->nlocal + st->column] = log(v[i] / before);
		if (exposure > longest)
			longest = exposure;
	}
	for (int i = nc; i <= fr->ncells && local != NULL; i++)
		local[(size_t) i * frame->nlocal + st->column] =
			log(kappa / (longest + kappa));
}

/*
 * A fragment's rates by cell, v; local and rate (may be NULL) get the signals
 * of every stage.
 */
void
fa_predict_chain(FaFrame *frame, const FaSeasons *s, FaPlan *plan,
				 const FaView *view, double *v, double *local, double *rate)
{
	const FaFragment *fr = &frame->fragment[view->fragment];
	int			done = 0;

	for (int i = 0; i < fr->ncells; i++)
		v[i] = view->base[i];
	for (int j = 0; j < plan->nstages; j++)
	{
		FaStage    *st = &plan->stage[j];

		for (int i = 0; i < fr->ncells && st->tilts; i++)
			v[i] *= plan->tilt[(size_t) fr->node[i] * FA_MAX_SEASONS +
							   st->season];
		run_stage(frame, s, view, st, v, local);
		for (int i = 0; i < fr->ncells && rate != NULL; i++)
			rate[(size_t) i * frame->nrate + st->column] = fa_predict_ln1p(v[i]);
		done |= 1 << st->column;
	}
	/* stages that are not there say what the last one does */
	for (int k = 0; k < FA_MAX_STAGES && rate != NULL; k++)
	{
		for (int i = 0; i < fr->ncells && (done & 1 << k) == 0; i++)
			rate[(size_t) i * frame->nrate + k] = fa_predict_ln1p(v[i]);
	}
}
