/*
 * replay.c
 *	  What the predictor and the decisions would have made of a trace.
 *
 * Reads "ts,node,fragment,count" lines (with a header) from standard input,
 * feeds them step by step to the real predictor and asks the real decision
 * code after each step, as the worker does.  One copy a fragment; a move
 * takes effect with the next step and costs as much as -c remote accesses.
 * Prints, for the steps from -f on, the local share net of moves:
 *
 *	never		every fragment where it was used most before -f
 *	slot		this decision code on a plain mean per slot of the week
 *	predicted	this decision code on the predictor
 *	optimum		the best sequence of owners in hindsight
 */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "placement/decide.h"
#include "predict/predict.h"

#define MAX_NAMES 4096
#define WEEK 168
#define MAX_AHEAD FA_PREDICT_MAX_PROFILE

typedef struct Trace
{
	int			nsteps;
	int			nnodes;
	int			nfragments;
	float	   *count;			/* [step][fragment][node] */
} Trace;

typedef struct Options
{
	long		step;
	int			from;			/* first step that counts */
	int			to;				/* steps read */
	int			nhorizons;
	int			horizons[FA_PREDICT_MAX_HORIZONS];
	int			nahead;			/* steps that a plan looks at */
	int			ahead[MAX_AHEAD];
	FaPlacePolicy policy;
	int			reach;			/* steps that a plan looks ahead */
	double		residency;		/* steps */
	double		alpha;
	int			slots;			/* steps in the baseline's week */
} Options;

typedef struct Outcome
{
	double		local;
	double		total;
	long		moves;
	long		reactive;
	long		returns;		/* moves back within a day's steps */
	double		seconds;
} Outcome;

/* Accesses a step expected by node; fills rate[h][node], returns evidence. */
typedef double (*Forecaster) (void *arg, int step, int fragment, double *rate);

static void *
zalloc(void *arg, size_t size)
{
	void	   *p = calloc(1, size);

	(void) arg;
	if (p == NULL)
		exit(3);
	return p;
}

static void
zfree(void *arg, void *p)
{
	(void) arg;
	free(p);
}

static const FaAllocator heap = {zalloc, zfree, NULL};

static int
intern(char **names, int *n, const char *name)
{
	int			i;

	for (i = 0; i < *n; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	if (*n == MAX_NAMES)
	{
		fprintf(stderr, "too many names\n");
		exit(2);
	}
	names[*n] = strdup(name);
	return (*n)++;
}

static float *
cell(const Trace *trace, int step, int fragment)
{
	return trace->count +
		((size_t) step * trace->nfragments + fragment) * trace->nnodes;
}

static void
read_trace(Trace *trace, const Options *options)
{
	struct
	{
		long		ts;
		int			node;
		int			fragment;
		double		count;
	}		   *rows = NULL;
	size_t		n = 0;
	size_t		room = 0;
	char	   *nodes[MAX_NAMES];
	char	   *fragments[MAX_NAMES];
	char		line[512];
	long		t0 = 0;
	size_t		i;

	memset(trace, 0, sizeof(*trace));
	while (fgets(line, sizeof(line), stdin) != NULL)
	{
		char		node[128];
		char		fragment[128];
		long		ts;
		double		count;

		if (sscanf(line, "%ld,%127[^,],%127[^,],%lf", &ts, node, fragment,
				   &count) != 4)
			continue;
		if (n == room)
		{
			room = room ? room * 2 : 65536;
			rows = realloc(rows, room * sizeof(*rows));
			if (rows == NULL)
				exit(3);
		}
		if (n == 0)
			t0 = ts;
		if ((ts - t0) / options->step >= options->to)
			continue;
		rows[n].ts = ts;
		rows[n].node = intern(nodes, &trace->nnodes, node);
		rows[n].fragment = intern(fragments, &trace->nfragments, fragment);
		rows[n].count = count;
		n++;
		if ((ts - t0) / options->step >= trace->nsteps)
			trace->nsteps = (ts - t0) / options->step + 1;
	}
	if (n == 0)
	{
		fprintf(stderr, "no rows on standard input\n");
		exit(2);
	}
	trace->count = zalloc(NULL, (size_t) trace->nsteps * trace->nfragments *
						  trace->nnodes * sizeof(float));
	for (i = 0; i < n; i++)
		cell(trace, (rows[i].ts - t0) / options->step,
			 rows[i].fragment)[rows[i].node] += rows[i].count;
	free(rows);
}

static void
first_owners(const Trace *trace, const Options *options, int *owner)
{
	int			s,
				f,
				n;

	for (f = 0; f < trace->nfragments; f++)
	{
		double		sum[MAX_NAMES] = {0};

		owner[f] = 0;
		for (s = 0; s < options->from; s++)
			for (n = 0; n < trace->nnodes; n++)
				sum[n] += cell(trace, s, f)[n];
		for (n = 1; n < trace->nnodes; n++)
			if (sum[n] > sum[owner[f]])
				owner[f] = n;
	}
}

/* Mean per slot of the week, kept up step by step. */
typedef struct Slots
{
	const Trace *trace;
	const Options *options;
	int			seen;			/* steps */
	float	   *mean;			/* [slot][fragment][node] */
	double	   *evidence;		/* by fragment */
} Slots;

static float *
slot_of(const Slots *slots, int step, int fragment)
{
	return slots->mean + (((size_t) step % slots->options->slots) *
						  slots->trace->nfragments + fragment) *
		slots->trace->nnodes;
}

static void
slots_observe(Slots *slots, int step)
{
	const Trace *trace = slots->trace;
	int			f,
				n;
	double		a = fmax(slots->options->alpha,
						 1.0 / (step / slots->options->slots + 1));

	for (f = 0; f < trace->nfragments; f++)
		for (n = 0; n < trace->nnodes; n++)
		{
			float	   *m = &slot_of(slots, step, f)[n];
			double		y = cell(trace, step, f)[n];

			*m += a * (y - *m);
			slots->evidence[f] += y;
		}
}

static double
slots_forecast(void *arg, int step, int fragment, double *rate)
{
	Slots	   *slots = arg;
	int			h,
				n;

	for (; slots->seen <= step; slots->seen++)
		slots_observe(slots, slots->seen);
	for (h = 0; h < slots->options->nahead; h++)
		for (n = 0; n < slots->trace->nnodes; n++)
			rate[h * slots->trace->nnodes + n] =
				slot_of(slots, step + slots->options->ahead[h], fragment)[n];
	return slots->evidence[fragment];
}

/* The forecasts of the whole replay, made once for all costs. */
typedef struct Foretold
{
	const Trace *trace;
	const Options *options;
	float	   *rate;			/* [step - from + 1][fragment][h][node] */
	float	   *evidence;		/* [step - from + 1][fragment] */
	size_t		memory;
	double		seconds;
} Foretold;

static double
foretold_forecast(void *arg, int step, int fragment, double *rate)
{
	Foretold   *told = arg;
	size_t		n = (size_t) told->options->nahead * told->trace->nnodes;
	size_t		at = (size_t) (step - told->options->from + 1) *
		told->trace->nfragments + fragment;
	size_t		i;

	for (i = 0; i < n; i++)
		rate[i] = told->rate[at * n + i];
	return told->evidence[at];
}

static void
foretell_step(Foretold *told, FaPredictor *predictor, int step)
{
	const Trace *trace = told->trace;
	int			na = told->options->nahead;
	double	   *rate = zalloc(NULL, sizeof(double) * na * trace->nnodes);
	int			f,
				i;

	for (f = 0; f < trace->nfragments; f++)
	{
		size_t		at = (size_t) (step - told->options->from + 1) *
			trace->nfragments + f;

		told->evidence[at] = fa_predictor_profile(predictor, f,
												  told->options->ahead, na,
												  rate);
		for (i = 0; i < na * trace->nnodes; i++)
			told->rate[at * na * trace->nnodes + i] = rate[i];
	}
	free(rate);
}

static void
foretell(Foretold *told)
{
	const Trace *trace = told->trace;
	const Options *options = told->options;
	size_t		rows = (size_t) (trace->nsteps - options->from + 1) *
		trace->nfragments;
	FaPredictorConfig config = {.nhorizons = options->nhorizons,
	.max_season = options->slots};
	FaPredictor *predictor;
	FaCell	   *cells = zalloc(NULL, sizeof(FaCell) * trace->nfragments *
							   trace->nnodes);
	clock_t		began = clock();
	int			s,
				f,
				n;

	memcpy(config.horizons, options->horizons, sizeof(config.horizons));
	predictor = fa_predictor_create(&config, trace->nnodes,
									trace->nfragments, &heap);
	told->rate = zalloc(NULL, rows * options->nahead * trace->nnodes *
						sizeof(float));
	told->evidence = zalloc(NULL, rows * sizeof(float));
	for (s = 0; s < trace->nsteps; s++)
	{
		int			ncells = 0;

		for (f = 0; f < trace->nfragments; f++)
			for (n = 0; n < trace->nnodes; n++)
				if (cell(trace, s, f)[n] > 0)
				{
					cells[ncells].node = n;
					cells[ncells].fragment = f;
					cells[ncells++].count = cell(trace, s, f)[n];
				}
		fa_predictor_observe(predictor, s, cells, ncells, NULL);
		if (s >= options->from - 1)
			foretell_step(told, predictor, s);
	}
	told->memory = fa_predictor_memory(predictor);
	told->seconds = (double) (clock() - began) / CLOCKS_PER_SEC;
	fa_predictor_destroy(predictor);
	free(cells);
}

/* Asks the decision code before each step from options->from on. */
static Outcome
run_policy(const Trace *trace, const Options *options, double cost,
		   Forecaster forecast, void *arg)
{
	Outcome		out = {0};
	int			nn = trace->nnodes;
	int		   *owner = zalloc(NULL, sizeof(int) * trace->nfragments);
	int		   *previous = zalloc(NULL, sizeof(int) * trace->nfragments);
	int		   *moved = zalloc(NULL, sizeof(int) * trace->nfragments);
	int		   *active = zalloc(NULL, sizeof(int) * nn);
	double	   *extra = zalloc(NULL, sizeof(double) * nn * nn);
	double	   *rate = zalloc(NULL, sizeof(double) * nn * options->nahead);
	double	   *recent = zalloc(NULL, sizeof(double) * nn * 24);
	FaPlaceCluster cluster = {.nnodes = nn, .extra_ms = extra, .step_ms = 1,
	.max_moves = 1 << 30, .max_moves_node = 1 << 30};
	FaPlacePolicy policy = options->policy;
	int			s,
				f,
				n,
				k;

	policy.min_residency_ms = options->residency;
	cluster.node = zalloc(NULL, sizeof(FaPlaceNode) * nn);
	first_owners(trace, options, owner);
	for (n = 0; n < nn; n++)
	{
		active[n] = n;
		cluster.node[n].alive = true;
		for (k = 0; k < nn; k++)
			extra[n * nn + k] = n != k;
	}
	for (f = 0; f < trace->nfragments; f++)
	{
		previous[f] = -1;
		moved[f] = -1000000;
	}
	for (s = options->from; s < trace->nsteps; s++)
	{
		for (f = 0; f < trace->nfragments; f++)
		{
			FaPlaceItem item = {.id = f,.owner = owner[f],
				.previous_owner = previous[f],.since_move_ms = s - moved[f],
				.cost_ms = cost,.nactive = nn,.active = active,
				.nhorizons = options->nahead,
				.horizons = options->ahead,.rate = rate,
				.nrecent = s < 24 ? s : 24,.recent = recent};
			FaDecision	decision;

			item.evidence = forecast(arg, s - 1, f, rate);
			for (k = 0; k < item.nrecent; k++)
				for (n = 0; n < nn; n++)
					recent[k * nn + n] = cell(trace, s - 1 - k, f)[n];
			fa_decide_item(&cluster, &policy, &item, &decision);
			if (decision.verdict == FA_VERDICT_MOVE)
			{
				out.moves++;
				out.reactive += decision.trigger == FA_TRIGGER_REACTIVE;
				out.returns += decision.destination == previous[f] &&
					s - moved[f] <= 3;
				previous[f] = owner[f];
				owner[f] = decision.destination;
				moved[f] = s;
			}
			for (n = 0; n < nn; n++)
				out.total += cell(trace, s, f)[n];
			out.local += cell(trace, s, f)[owner[f]];
		}
	}
	free(cluster.node);
	free(owner);
	free(previous);
	free(moved);
	free(active);
	free(extra);
	free(rate);
	free(recent);
	return out;
}

static Outcome
run_optimum(const Trace *trace, const Options *options, double cost)
{
	Outcome		out = {0};
	int			nn = trace->nnodes;
	int		   *owner = zalloc(NULL, sizeof(int) * trace->nfragments);
	double		value[MAX_NAMES];
	int			s,
				f,
				n;

	first_owners(trace, options, owner);
	for (f = 0; f < trace->nfragments; f++)
	{
		memset(value, 0, sizeof(value));
		for (s = trace->nsteps - 1; s >= options->from; s--)
		{
			double		best = -INFINITY;

			for (n = 0; n < nn; n++)
			{
				value[n] += cell(trace, s, f)[n];
				out.total += cell(trace, s, f)[n];
				best = fmax(best, value[n]);
			}
			for (n = 0; n < nn; n++)
				value[n] = fmax(value[n], best - cost);
		}
		out.local += value[owner[f]];
	}
	free(owner);
	return out;
}

static double
never_share(const Trace *trace, const Options *options)
{
	int		   *owner = zalloc(NULL, sizeof(int) * trace->nfragments);
	double		local = 0;
	double		total = 0;
	int			s,
				f,
				n;

	first_owners(trace, options, owner);
	for (s = options->from; s < trace->nsteps; s++)
		for (f = 0; f < trace->nfragments; f++)
		{
			for (n = 0; n < trace->nnodes; n++)
				total += cell(trace, s, f)[n];
			local += cell(trace, s, f)[owner[f]];
		}
	free(owner);
	return local / total;
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

static void
print_outcome(double cost, const char *name, const Outcome *o)
{
	printf("%-5.2f %-10s %.4f  gross %.4f  moves %6ld  reactive %5ld  "
		   "back at once %5ld\n", cost, name,
		   (o->local - cost * o->moves) / o->total, o->local / o->total,
		   o->moves, o->reactive, o->returns);
}

static void
parse_options(int argc, char **argv, Options *o)
{
	int			c;

	while ((c = getopt(argc, argv, "s:f:n:h:p:t:y:r:d:a:w:R:L:")) != -1)
		switch (c)
		{
			case 's':
				o->step = atol(optarg);
				break;
			case 'f':
				o->from = atoi(optarg);
				break;
			case 'n':
				o->to = atoi(optarg);
				break;
			case 'h':
				o->nhorizons = parse_horizons(optarg, o->horizons);
				break;
			case 'p':
				o->reach = atoi(optarg);
				if (o->reach < 1 || o->reach > MAX_AHEAD)
					exit(2);
				break;
			case 't':
				o->policy.threshold = atof(optarg);
				break;
			case 'y':
				o->policy.hysteresis = atof(optarg);
				break;
			case 'r':
				o->residency = atof(optarg);
				break;
			case 'd':
				o->policy.doubt = atof(optarg);
				break;
			case 'a':
				o->alpha = atof(optarg);
				break;
			case 'w':
				o->slots = atoi(optarg);
				break;
			case 'R':
				o->policy.reactive = true;
				o->policy.reactive_threshold = atof(optarg);
				break;
			case 'L':
				o->policy.reactive_steps = atoi(optarg);
				break;
			default:
				fprintf(stderr, "usage: replay [-s step seconds] [-f from] "
						"[-n steps] [-h horizons] [-p steps ahead] [-t threshold] "
						"[-y hysteresis] [-r residency] [-d doubt] "
						"[-a slot alpha] [-w season] "
						"[-R reactive threshold] [-L reactive steps] < csv\n");
				exit(2);
		}
}

int
main(int argc, char **argv)
{
	static const double costs[] = {0.1, 0.2, 0.5, 1.0};
	Options		options = {.step = 3600,.from = 4088,.to = 6132,
		.nhorizons = 4,.horizons = {1, 4, 12, 24},.reach = 24,.alpha = 0.1,
	.slots = WEEK,.policy = {.threshold = 0.5,.reactive_steps = 3}};
	Trace		trace;
	Foretold	told = {.trace = &trace,.options = &options};
	size_t		i;

	parse_options(argc, argv, &options);
	for (options.nahead = 0; options.nahead < options.reach; options.nahead++)
		options.ahead[options.nahead] = options.nahead + 1;
	read_trace(&trace, &options);
	if (options.from >= trace.nsteps)
	{
		fprintf(stderr, "only %d steps\n", trace.nsteps);
		return 2;
	}
	printf("%d steps, %d nodes, %d fragments\n", trace.nsteps, trace.nnodes,
		   trace.nfragments);
	foretell(&told);
	printf("predictor: %.2f s, %zu kB\n", told.seconds, told.memory / 1024);
	printf("never %.4f\n", never_share(&trace, &options));
	for (i = 0; i < sizeof(costs) / sizeof(costs[0]); i++)
	{
		Slots		slots = {.trace = &trace,.options = &options};
		Outcome		o;

		slots.mean = zalloc(NULL, sizeof(float) * options.slots *
							trace.nfragments * trace.nnodes);
		slots.evidence = zalloc(NULL, sizeof(double) * trace.nfragments);
		o = run_policy(&trace, &options, costs[i], slots_forecast, &slots);
		print_outcome(costs[i], "slot", &o);
		o = run_policy(&trace, &options, costs[i], foretold_forecast, &told);
		print_outcome(costs[i], "predicted", &o);
		o = run_optimum(&trace, &options, costs[i]);
		print_outcome(costs[i], "optimum", &o);
		free(slots.mean);
		free(slots.evidence);
	}
	return 0;
}
