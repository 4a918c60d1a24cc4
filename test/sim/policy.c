/*
 * policy.c
 *	  Ways to place the fragments of a trace, one copy each.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "placement/hindsight.h"
#include "policy.h"

#define RECENT 12				/* steps of the past, as the server looks back */
#define LONG_AGO (-1000000)

/* A run under way. */
typedef struct Run
{
	const Trace *trace;
	FaPlaceCluster cluster;
	FaPlacePolicy policy;
	int			horizons[SIM_MAX_AHEAD];
	int		   *active;			/* all nodes */
	double	   *rate;
	double	   *recent;
	int		   *owner;
	int		   *previous;
	int		   *moved;			/* step of the last move */
	int		   *next;			/* owner from the next step on; -1: the same */
} Run;

double
sim_net(const Outcome *o)
{
	return 1 - (o->waiting + o->paid) / (o->total * o->unit);
}

void
sim_first_owners(const Trace *trace, int from, int *owner_p)
{
	double	   *sum = sim_alloc(trace->nnodes, sizeof(double));
	int			s,
				f,
				n;

	for (f = 0; f < trace->nfragments; f++)
	{
		memset(sum, 0, sizeof(double) * trace->nnodes);
		owner_p[f] = 0;
		for (s = 0; s < from; s++)
			for (n = 0; n < trace->nnodes; n++)
				sum[n] += sim_cell(trace, s, f)[n];
		for (n = 1; n < trace->nnodes; n++)
			if (sum[n] > sum[owner_p[f]])
				owner_p[f] = n;
	}
	free(sum);
}

static void
run_begin(Run *run, const Trace *trace, int from, const Rules *rules)
{
	int			nn = trace->nnodes;
	int			f,
				n,
				k;

	memset(run, 0, sizeof(*run));
	run->trace = trace;
	run->policy = rules->policy;
	run->policy.min_residency_ms = rules->residency;
	run->active = sim_alloc(nn, sizeof(int));
	run->rate = sim_alloc((size_t) nn * SIM_MAX_AHEAD, sizeof(double));
	run->recent = sim_alloc((size_t) nn * RECENT, sizeof(double));
	run->owner = sim_alloc(trace->nfragments, sizeof(int));
	run->previous = sim_alloc(trace->nfragments, sizeof(int));
	run->moved = sim_alloc(trace->nfragments, sizeof(int));
	run->next = sim_alloc(trace->nfragments, sizeof(int));
	run->cluster.nnodes = nn;
	run->cluster.node = sim_alloc(nn, sizeof(FaPlaceNode));
	run->cluster.extra_ms = trace->extra;
	run->cluster.step_ms = 1;
	run->cluster.elapsed_steps = rules->late;
	run->cluster.again_steps = rules->ahead;
	for (k = 0; k < SIM_MAX_AHEAD; k++)
		run->horizons[k] = k + 1;
	for (n = 0; n < nn; n++)
	{
		run->active[n] = n;
		run->cluster.node[n].alive = true;
	}
	sim_first_owners(trace, from, run->owner);
	for (f = 0; f < trace->nfragments; f++)
	{
		run->previous[f] = run->next[f] = -1;
		run->moved[f] = LONG_AGO;
	}
}

static void
run_end(Run *run)
{
	free(run->cluster.node);
	free(run->active);
	free(run->rate);
	free(run->recent);
	free(run->owner);
	free(run->previous);
	free(run->moved);
	free(run->next);
}

static void
run_move(Run *run, int step, int f, int destination)
{
	run->previous[f] = run->owner[f];
	run->owner[f] = destination;
	run->moved[f] = step;
	run->next[f] = -1;
}

/* Decides about one fragment in a step, by what was before it. */
static void
run_decide(Run *run, int step, int f, const Rules *rules, double cost,
		   SimForecast forecast, void *arg, Outcome *out)
{
	int			nn = run->trace->nnodes;
	FaDecision	decision;
	FaPlaceItem item = {.id = f,.owner = run->owner[f],
		.previous_owner = run->previous[f],
		.since_move_ms = step - run->moved[f],.cost_ms = cost,
		.nactive = nn,.active = run->active,
		.horizons = run->horizons,.rate = run->rate,
	.nrecent = step < RECENT ? step : RECENT,.recent = run->recent};
	int			k,
				n;

	if (forecast)
	{
		item.nhorizons = rules->reach;
		item.evidence = forecast(arg, step - 1, f, rules->reach, run->rate);
	}
	for (k = 0; k < item.nrecent; k++)
		for (n = 0; n < nn; n++)
			run->recent[k * nn + n] = sim_cell(run->trace, step - 1 - k, f)[n];
	fa_decide_item(&run->cluster, &run->policy, &item, &decision);
	out->decisions++;
	if (decision.verdict != FA_VERDICT_MOVE)
		return;
	out->moves++;
	out->paid += cost;
	out->reactive += decision.trigger == FA_TRIGGER_REACTIVE;
	out->returns += decision.destination == run->previous[f] &&
		step - run->moved[f] <= 3;
	if (decision.wait_steps > 0)
		run->next[f] = decision.destination;
	else
		run_move(run, step, f, decision.destination);
}

/* Counts a part of a step's accesses of a fragment while owner has it. */
static void
count_accesses(const Trace *trace, int step, int f, int owner, double part,
			   Outcome *out)
{
	const float *count = sim_cell(trace, step, f);
	int			n;

	for (n = 0; n < trace->nnodes; n++)
	{
		out->total += part * count[n];
		out->waiting += part * count[n] * trace->extra[n * trace->nnodes + owner];
	}
	out->local += part * count[owner];
}

static void
run_step(Run *run, int step, int f, const Rules *rules, double cost,
		 SimForecast forecast, void *arg, Outcome *out)
{
	int			before;

	if (run->next[f] >= 0)
		run_move(run, step, f, run->next[f]);
	before = run->owner[f];
	run_decide(run, step, f, rules, cost, forecast, arg, out);
	count_accesses(run->trace, step, f, before, rules->late, out);
	count_accesses(run->trace, step, f, run->owner[f], 1 - rules->late, out);
}

Outcome
sim_run(const Trace *trace, Span span, const Rules *rules, double cost,
		SimForecast forecast, void *arg)
{
	Outcome		out = {.unit = trace->mean_extra};
	Run			run;
	clock_t		began = clock();
	int			s,
				f;

	run_begin(&run, trace, span.from, rules);
	for (s = span.from; s < span.to; s++)
	{
		for (f = 0; f < trace->nfragments; f++)
			run_step(&run, s, f, rules, cost, forecast, arg, &out);
	}
	run_end(&run);
	out.seconds = (double) (clock() - began) / CLOCKS_PER_SEC;
	return out;
}

Outcome
sim_run_never(const Trace *trace, Span span)
{
	Outcome		out = {.unit = trace->mean_extra};
	int		   *owner = sim_alloc(trace->nfragments, sizeof(int));
	int			s,
				f;

	sim_first_owners(trace, span.from, owner);
	for (s = span.from; s < span.to; s++)
		for (f = 0; f < trace->nfragments; f++)
			count_accesses(trace, s, f, owner[f], 1, &out);
	free(owner);
	return out;
}

Outcome
sim_run_optimum(const Trace *trace, Span span, double cost, int *owner_p)
{
	Outcome		out = {.unit = trace->mean_extra};
	Run			run;
	int			nn = trace->nnodes;
	int			ns = span.to - span.from;
	Rules		rules = {0};
	FaWay	   *way = sim_alloc(nn, sizeof(FaWay));
	int		   *from = sim_alloc((size_t) ns * nn, sizeof(int));
	int			f,
				s,
				n;

	run_begin(&run, trace, span.from, &rules);
	for (f = 0; f < trace->nfragments; f++)
	{
		int			at;

		fa_hindsight_begin(way, nn, run.owner[f]);
		for (s = 0; s < ns; s++)
		{
			for (n = 0; n < nn; n++)
			{
				run.rate[n] = sim_cell(trace, span.from + s, f)[n];
				out.total += run.rate[n];
				out.local += run.rate[n];
			}
			fa_hindsight_step(way, nn, run.cluster.extra_ms, run.active,
							  run.rate, nn, cost, from + (size_t) s * nn);
		}
		at = fa_hindsight_best(way, nn);
		out.local -= way[at].remote;
		out.waiting += way[at].waiting_ms;
		out.moves += way[at].moves;
		for (s = ns - 1; s >= 0 && owner_p; s--)
		{
			owner_p[(size_t) s * trace->nfragments + f] = at;
			at = from[(size_t) s * nn + at];
		}
	}
	out.paid = cost * out.moves;
	run_end(&run);
	free(way);
	free(from);
	return out;
}
