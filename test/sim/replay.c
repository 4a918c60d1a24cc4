/*
 * replay.c
 *	  What the predictor and the decisions would have made of a trace.
 *
 * Reads "ts,node,fragment,count" lines from standard input, feeds them step
 * by step to the real predictor and asks the real decision code before each
 * step, as the worker does.  For each cost of a move (-k), in remote accesses, the
 * local share net of moves, over the steps from -f on:
 *
 *	never		every fragment where it was used most before -f
 *	reactive	the decision code on the recent past alone
 *	eager		the same after a single step of it (not with -c)
 *	ewma		the decision code on a mean of the recent past
 *	slot		the decision code on a mean per slot of the season
 *	predicted	the decision code on the predictor
 *	optimum		the best sequence of owners in hindsight
 *
 * With -c, the rules of each policy (threshold, hysteresis, doubt, residency,
 * reach; of the means, their weight) are first chosen on the steps from -c to
 * -f: one rule after the other, the value that is best over all costs.  What
 * comes after -f has no part in that.
 *
 * With -x, remote accesses cost what it says of two nodes (ms, say), and so do
 * moves; then also what an access waits on average is told, moves included.
 *
 * With -o COST, only the optimum is told, as lines "step,fragment,node": where
 * fragments are first (step -1), and where they move before a step, counted
 * from -f.
 */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "foretell.h"

#define MAX_COSTS 8

typedef struct Options
{
	long		step;			/* seconds */
	int			from;			/* first step that counts */
	int			choose;			/* first step to choose rules on; -1: none */
	int			nsteps;			/* read at most; 0: all */
	int			nhorizons;
	int			horizons[FA_PREDICT_MAX_HORIZONS];
	int			season;
	Rules		rules;
	double		alpha;
	double		plan;			/* cost of a move in the plan; 0: none */
	const char *distances;		/* NULL: all are 1 */
	int			ncosts;
	double		cost[MAX_COSTS];
} Options;

typedef enum Source
{
	PAST, EAGER, EWMA, SLOT, PREDICTED, NSOURCES
} Source;

static const char *const source_names[] = {"reactive", "eager", "ewma",
"slot", "predicted"};

typedef struct Policy
{
	Source		source;
	Rules		rules;
	double		alpha;			/* of the means */
	const Options *options;
	const Trace *trace;
	Foretold   *told;
} Policy;

static Outcome
run(const Policy *p, Span span, double cost)
{
	Slots		slots;
	Outcome		o;

	if (p->source <= EAGER)
		return sim_run(p->trace, span, &p->rules, cost, NULL, NULL);
	if (p->source == PREDICTED)
		return sim_run(p->trace, span, &p->rules, cost, sim_foretold, p->told);
	sim_slots_begin(&slots, p->trace, p->source == EWMA ? 1 :
					p->options->season, p->alpha);
	o = sim_run(p->trace, span, &p->rules, cost, sim_slots, &slots);
	sim_slots_end(&slots);
	return o;
}

/* It is one of the choices for the other one that goes by the past. */
static bool
skips(const Options *o, Source source)
{
	return source == EAGER && o->choose > 0;
}

/* Mean over the costs. */
static double
worth(const Policy *p, Span span)
{
	double		sum = 0;
	int			i;

	for (i = 0; i < p->options->ncosts; i++)
	{
		Outcome		o = run(p, span, p->options->cost[i]);

		sum += sim_net(&o) / p->options->ncosts;
	}
	return sum;
}

static const double thresholds[] = {0, 0.15, 0.3};
static const double hystereses[] = {0, 0.02, 0.05};
static const double doubts[] = {0, 5, 50};
static const double residencies[] = {0, 3};
static const double reaches[] = {12, 24, 32};
static const double alphas[] = {0.05, 0.1, 0.2};
static const double reactive_shares[] = {0.5, 0.7, 0.9};
static const double reactive_lengths[] = {1, 3, 6, 12};

#define NRULES 8

static const struct
{
	const double *value;
	int			n;
}			choices[NRULES] = {
	{thresholds, 3}, {hystereses, 3}, {doubts, 3}, {residencies, 2},
	{reaches, 3}, {alphas, 3}, {reactive_shares, 3}, {reactive_lengths, 4}
};

static bool
applies(Source source, int rule)
{
	if (rule >= 6)
		return source == PAST;
	if (rule == 5)
		return source == EWMA || source == SLOT;
	return source != PAST || (rule != 0 && rule != 4);
}

/* False when it is that already. */
static bool
set_rule(Policy *p, int rule, double value)
{
	double		reach = p->rules.reach;
	double		steps = p->rules.policy.reactive_steps;
	double	   *field[NRULES] = {&p->rules.policy.threshold,
		&p->rules.policy.hysteresis, &p->rules.policy.doubt,
		&p->rules.residency, &reach, &p->alpha,
	&p->rules.policy.reactive_threshold, &steps};

	if (*field[rule] == value)
		return false;
	*field[rule] = value;
	p->rules.reach = reach;
	p->rules.policy.reactive_steps = steps;
	return true;
}

static void
choose_rules(Policy *p, Span span)
{
	double		best = worth(p, span);
	int			rule,
				i;

	for (rule = 0; rule < NRULES; rule++)
	{
		Policy		kept = *p;

		for (i = 0; applies(p->source, rule) && i < choices[rule].n; i++)
		{
			Policy		other = *p;
			double		w;

			if (!set_rule(&other, rule, choices[rule].value[i]))
				continue;
			w = worth(&other, span);
			if (w > best)
			{
				best = w;
				kept = other;
			}
		}
		*p = kept;
	}
}

static void
print_rules(const Policy *p)
{
	const FaPlacePolicy *r = &p->rules.policy;

	printf("%-10s threshold %.2f, hysteresis %.2f, doubt %.0f, residency %.0f,"
		   " reach %d", source_names[p->source], r->threshold, r->hysteresis,
		   r->doubt, p->rules.residency, p->rules.reach);
	if (p->source <= EAGER)
		printf(", share %.2f in %d steps", r->reactive_threshold,
			   r->reactive_steps);
	if (p->source == EWMA || p->source == SLOT)
		printf(", weight %.2f", p->alpha);
	printf("\n");
}

static void
print_outcome(double cost, const char *name, bool distances,
			  const Outcome *o)
{
	printf("%-5.1f %-10s %.4f  gross %.4f  moves %6ld  back at once %5ld",
		   cost, name, sim_net(o), o->local / o->total, o->moves, o->returns);
	if (distances)
		printf("  waits %.3f", (o->waiting + o->paid) / o->total);
	if (o->decisions > 0)
		printf("  %.1f us a decision", 1e6 * o->seconds / o->decisions);
	printf("\n");
}

static int
parse_horizons(const char *text, int *horizons)
{
	int			n = 0;
	char	   *end;

	while (*text && n < FA_PREDICT_MAX_HORIZONS)
	{
		horizons[n++] = strtol(text, &end, 10);
		text = *end == ',' ? end + 1 : end;
		if (horizons[n - 1] < 1)
			exit(2);
	}
	return n;
}

static int
parse_costs(const char *text, double *cost)
{
	int			n = 0;
	char	   *end;

	while (*text && n < MAX_COSTS)
	{
		cost[n++] = strtod(text, &end);
		if (end == text)
			exit(2);
		text = *end == ',' ? end + 1 : end;
	}
	return n;
}

static void
usage(void)
{
	fprintf(stderr, "usage: replay -f first step [-c first step to choose on]"
			" [-s step seconds] [-n steps] [-h horizons] [-w season]"
			" [-p reach] [-t threshold] [-y hysteresis] [-r residency]"
			" [-d doubt] [-a weight of a mean] [-l part of a step that moves are late]"
			" [-b: moves are asked for before their step] [-k cost,...]"
			" [-x node-node=cost,...] [-o cost: print the optimum] < csv\n");
	exit(2);
}

static void
parse_options(int argc, char **argv, Options *o)
{
	int			c;

	while ((c = getopt(argc, argv, "s:f:c:n:h:p:t:y:r:d:a:w:o:k:l:bx:")) != -1)
	{
		double		v = optarg ? atof(optarg) : 0;

		switch (c)
		{
			case 's': o->step = v; break;
			case 'f': o->from = v; break;
			case 'c': o->choose = v; break;
			case 'n': o->nsteps = v; break;
			case 'p': o->rules.reach = v; break;
			case 't': o->rules.policy.threshold = v; break;
			case 'y': o->rules.policy.hysteresis = v; break;
			case 'r': o->rules.residency = v; break;
			case 'd': o->rules.policy.doubt = v; break;
			case 'a': o->alpha = v; break;
			case 'w': o->season = v; break;
			case 'o': o->plan = v; break;
			case 'x': o->distances = optarg; break;
			case 'l': o->rules.late = v; break;
			case 'b': o->rules.ahead = true; break;
			case 'k': o->ncosts = parse_costs(optarg, o->cost); break;
			case 'h': o->nhorizons = parse_horizons(optarg, o->horizons); break;
			default: usage();
		}
	}
	if (o->from < 1 || o->choose == 0 || o->choose >= o->from || o->step < 1 ||
		o->season < 1 || o->rules.reach < 1 || o->rules.reach > SIM_MAX_AHEAD ||
		!(o->rules.late >= 0 && o->rules.late < 1))
		usage();
}

static void
print_plan(const Trace *trace, Span span, double cost)
{
	int			nf = trace->nfragments;
	int		   *plan = sim_alloc((size_t) (span.to - span.from) * nf,
								 sizeof(int));
	int		   *at = sim_alloc(nf, sizeof(int));
	int			s,
				f;

	(void) sim_run_optimum(trace, span, cost, plan);
	sim_first_owners(trace, span.from, at);
	for (f = 0; f < nf; f++)
		printf("-1,%s,%s\n", trace->fragment[f], trace->node[at[f]]);
	for (s = 0; s < span.to - span.from; s++)
		for (f = 0; f < nf; f++)
		{
			if (plan[(size_t) s * nf + f] != at[f])
				printf("%d,%s,%s\n", s, trace->fragment[f],
					   trace->node[plan[(size_t) s * nf + f]]);
			at[f] = plan[(size_t) s * nf + f];
		}
	free(plan);
	free(at);
}

int
main(int argc, char **argv)
{
	Options		options = {.step = 3600,.choose = -1,.nhorizons = 4,
		.horizons = {1, 4, 12, 24},.alpha = 0.1,.season = 168,
		.ncosts = 4,.cost = {0.1, 0.2, 0.5, 1.0},
		.rules = {.reach = 24,.policy = {.threshold = 0.3,.hysteresis = 0.05,
	.doubt = 5,.reactive_threshold = 0.7,.reactive_steps = 3}}};
	Trace		trace;
	Foretold	told;
	Policy		policy[NSOURCES];
	Span		span;
	Outcome		o;
	int			i,
				s;

	parse_options(argc, argv, &options);
	sim_read_trace(&trace, options.step, options.nsteps);
	if (options.distances)
		sim_set_distances(&trace, options.distances);
	span = (Span) {options.from, trace.nsteps};
	if (span.from >= span.to)
	{
		fprintf(stderr, "only %d steps\n", trace.nsteps);
		return 2;
	}
	if (options.plan > 0)
	{
		print_plan(&trace, span, options.plan);
		return 0;
	}
	sim_foretell(&told, &trace, options.choose > 0 ? options.choose :
				 options.from, options.horizons, options.nhorizons,
				 options.season);
	printf("%d steps, %d nodes, %d fragments; predictor: %.1f s, %zu kB\n",
		   trace.nsteps, trace.nnodes, trace.nfragments, told.seconds,
		   told.memory / 1024);
	for (s = 0; s < NSOURCES; s++)
	{
		policy[s] = (Policy) {s, options.rules, options.alpha, &options,
		&trace, &told};
		policy[s].rules.policy.reactive = s <= EAGER;
		if (s == EAGER)
			policy[s].rules.policy.reactive_steps = 1;
		if (skips(&options, s))
			continue;
		if (options.choose > 0)
			choose_rules(&policy[s], (Span) {options.choose, options.from});
		print_rules(&policy[s]);
		fflush(stdout);
	}
	o = sim_run_never(&trace, span);
	for (i = 0; i < options.ncosts; i++)
	{
		double		cost = options.cost[i];
		Outcome		r;

		print_outcome(cost, "never", options.distances, &o);
		for (s = 0; s < NSOURCES; s++)
		{
			if (skips(&options, s))
				continue;
			r = run(&policy[s], span, cost);
			print_outcome(cost, source_names[s], options.distances, &r);
		}
		r = sim_run_optimum(&trace, span, cost, NULL);
		print_outcome(cost, "optimum", options.distances, &r);
		fflush(stdout);
	}
	return 0;
}
