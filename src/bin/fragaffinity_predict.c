/*
 * fragaffinity_predict.c
 *	  Forecasts over an exported history, outside of the server.
 *
 *	  fragaffinity-predict DIR NAME [--horizons 1,24] [--models a,b] [--seed N]
 *	  fragaffinity-predict DIR NAME --next [--models a,b] [--seed N]
 *
 * Reads DIR/manifest.json (entry NAME: step, t0, t1, test_t0, nodes,
 * fragments) and DIR/NAME.agg.csv or .agg.csv.gz (ts_bucket,node,fragment,
 * count in time order), goes through the steps one by one, and writes for each
 * target from test_t0 on what was forecast a horizon before (where there are
 * NAME.events.csv or .gz, sessions are followed for it, and profiles where a
 * fifth column names role and application):
 * ts_bucket,horizon,node,fragment,p,rate.  A forecast has seen nothing later
 * than its origin.  Scores by model go to stderr with --scores.
 *
 * With --next it reads NAME.events.csv[.gz] (ts,session,node,fragment[,profile]) and
 * prints how well each event's fragment was foreseen: see next.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bin/trace.h"

typedef struct Options
{
	const char *dir;
	const char *name;
	int			nhorizons;
	int			horizons[FA_PREDICT_MAX_HORIZONS];
	uint32_t	models;
	uint64_t	seed;
	int			max_season;
	double		forgetting;
	bool		scores;
	bool		next;
	bool		load;
	char	   *model_names;
} Options;

static void
usage(FILE *to)
{
	fputs("Usage: fragaffinity-predict DIR NAME [OPTION]...\n"
		  "Forecasts over an exported access history, on stdout as CSV.\n\n"
		  "  --horizons H,...   steps ahead (default 1)\n"
		  "  --models M,...     of static, recent, seasonal, holtwinters, pooled,\n"
		  "                     session, profile, lstm (default all)\n"
		  "  --next             instead, how well the next fragment of a session is\n"
		  "                     foreseen; models: markov, habit, clock, cache, lstm\n"
		  "  --max-season N     longest season looked for, in steps\n"
		  "  --forgetting X     kept of a slot from one season to the next\n"
		  "  --seed N           of sampling (default 1)\n"
		  "  --load             take what is before test_t0 as a start loads history\n"
		  "  --scores           log loss of every model on stderr\n", to);
}

static int64_t
number(const char *text, const char *what, int64_t low, int64_t high)
{
	char	   *end;
	long long	v;

	errno = 0;
	v = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || v < low || v > high)
		fa_bin_fail("%s must be a number from %" PRId64 " to %" PRId64 ", not \"%s\"",
			 what, low, high, text);
	return v;
}

static int
compare_ints(const void *a, const void *b)
{
	return *(const int *) a - *(const int *) b;
}

static void
parse_horizons(Options *o, char *list)
{
	o->nhorizons = 0;
	for (char *s = strtok(list, ","); s != NULL; s = strtok(NULL, ","))
	{
		if (o->nhorizons == FA_PREDICT_MAX_HORIZONS)
			fa_bin_fail("at most %d horizons", FA_PREDICT_MAX_HORIZONS);
		o->horizons[o->nhorizons++] = (int) number(s, "a horizon", 1, 1000000);
	}
	if (o->nhorizons == 0)
		fa_bin_fail("no horizon given");
	qsort(o->horizons, o->nhorizons, sizeof(int), compare_ints);
	for (int i = 1; i < o->nhorizons; i++)
	{
		if (o->horizons[i] == o->horizons[i - 1])
			fa_bin_fail("horizon %d is given twice", o->horizons[i]);
	}
}

static const char *
model_name(const Options *o, int m)
{
	return o->next ? fa_next_model_name(m) : fa_model_name(m);
}

static void
parse_models(Options *o, char *list)
{
	int			n = o->next ? (int) FA_NEXT_NMODELS : (int) FA_MODEL_MIXTURE;

	for (char *s = strtok(list, ","); s != NULL; s = strtok(NULL, ","))
	{
		int			m = 0;

		while (m < n && strcmp(s, model_name(o, m)) != 0)
			m++;
		if (m == n)
			fa_bin_fail("unknown model \"%s\"", s);
		o->models |= 1u << m;
	}
	if (o->models == 0)
		fa_bin_fail("no model given");
}

static void
parse_options(Options *o, int argc, char **argv)
{
	memset(o, 0, sizeof(*o));
	o->nhorizons = 1;
	o->horizons[0] = 1;
	o->seed = 1;
	for (int i = 1; i < argc; i++)
	{
		char	   *a = argv[i];
		char	   *v = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(a, "--help") == 0)
		{
			usage(stdout);
			exit(0);
		}
		else if (strcmp(a, "--scores") == 0)
			o->scores = true;
		else if (strcmp(a, "--next") == 0)
			o->next = true;
		else if (strcmp(a, "--load") == 0)
			o->load = true;
		else if (strncmp(a, "--", 2) == 0)
		{
			if (v == NULL)
				fa_bin_fail("%s needs a value, or is unknown (see --help)", a);
			i++;
			if (strcmp(a, "--horizons") == 0)
				parse_horizons(o, v);
			else if (strcmp(a, "--models") == 0)
				o->model_names = v;
			else if (strcmp(a, "--seed") == 0)
				o->seed = number(v, "the seed", 0, INT64_MAX);
			else if (strcmp(a, "--max-season") == 0)
				o->max_season = (int) number(v, "the season", 2, 100000);
			else if (strcmp(a, "--forgetting") == 0)
			{
				char	   *end;

				o->forgetting = strtod(v, &end);
				if (end == v || *end != '\0' || !(o->forgetting > 0) ||
					!(o->forgetting < 1))
					fa_bin_fail("forgetting must be between 0 and 1, not \"%s\"", v);
			}
			else
				fa_bin_fail("unknown option %s (see --help)", a);
		}
		else if (o->dir == NULL)
			o->dir = a;
		else if (o->name == NULL)
			o->name = a;
		else
			fa_bin_fail("unexpected argument \"%s\" (see --help)", a);
	}
	if (o->name == NULL)
	{
		usage(stderr);
		exit(1);
	}
	if (o->model_names != NULL)
		parse_models(o, o->model_names);
}

static void
print_forecasts(FaPredictor *p, const Trace *t, const Options *o,
				int64_t origin, FaForecast *fc)
{
	for (int h = 0; h < o->nhorizons; h++)
	{
		int64_t		target = origin + o->horizons[h];
		int64_t		ts = t->t0 + target * t->step;

		if (target >= t->nsteps || ts < t->test_t0)
			continue;
		for (int f = 0; f < t->nfragments; f++)
		{
			fa_predictor_forecast(p, f, h, fc);
			for (int n = 0; n < t->nnodes; n++)
				printf("%" PRId64 ",%d,%s,%s,%.6g,%.6g\n", ts, o->horizons[h],
					   t->node[n], t->fragment[f], fc->affinity[n],
					   fc->typical_rate[n]);
		}
	}
}

static void
print_scores(FaPredictor *p, const Options *o)
{
	int			season[8];
	int			n = fa_predictor_seasons(p, season, 8);

	fprintf(stderr, "seasons:");
	for (int i = 0; i < n; i++)
		fprintf(stderr, " %d", season[i]);
	fprintf(stderr, "\nhorizon model     logloss   brier    top1    mselog\n");
	for (int h = 0; h < o->nhorizons; h++)
	{
		for (int m = 0; m < FA_NMODELS; m++)
		{
			FaScore		s = {0};

			fa_predictor_take_score(p, h, m, &s);
			if (s.n > 0)
				fprintf(stderr, "%7d %-9s %.4f  %.4f  %.4f  %.5f\n",
						o->horizons[h], fa_model_name(m), s.log_loss / s.n,
						s.brier / s.n, s.top1 / s.n,
						s.rate_n > 0 ? s.rate_msle / s.rate_n : 0);
		}
	}
}

int
main(int argc, char **argv)
{
	FaPredictorConfig config = {0};
	FaForecast	fc = {0};
	Options		o;
	Trace		t = {0};
	TraceSessions *sessions = NULL;
	FaPredictor *p;
	int64_t		test;

	parse_options(&o, argc, argv);
	fa_bin_read_manifest(&t, o.dir, o.name);
	if (o.next)
	{
		(void) fa_bin_read_events(&t, o.dir, o.name, true);
		fa_bin_next(&t, o.models, o.seed);
		return 0;
	}
	fa_bin_read_cells(&t, o.dir, o.name);
	if ((o.models == 0 || (o.models & (1u << FA_MODEL_SESSION |
									   1u << FA_MODEL_PROFILE)) != 0) &&
		fa_bin_read_events(&t, o.dir, o.name, false))
		sessions = fa_bin_sessions(&t, o.seed);

	config.nhorizons = o.nhorizons;
	memcpy(config.horizons, o.horizons, sizeof(o.horizons));
	/* eight days, but at least 200 steps */
	config.max_season = o.max_season > 0 ? o.max_season :
		8 * 86400 / t.step > 200 ? (int) (8 * 86400 / t.step) : 200;
	config.forgetting = o.forgetting;
	config.seed = o.seed;
	config.models = o.models;
	p = fa_predictor_create(&config, t.nnodes, t.nfragments, &fa_bin_allocator);
	fc.affinity = fa_bin_alloc(t.nnodes * sizeof(double));
	fc.access_probability = fa_bin_alloc(t.nnodes * sizeof(double));
	fc.expected_rate = fa_bin_alloc(t.nnodes * sizeof(double));
	fc.typical_rate = fa_bin_alloc(t.nnodes * sizeof(double));

	test = (t.test_t0 - t.t0) / t.step;
	if (o.load)
		fa_predictor_load(p, test - 1);
	puts("ts_bucket,horizon,node,fragment,p,rate");
	for (int64_t i = 0; i < t.nsteps; i++)
	{
		if (i == test && o.scores)
		{
			fputs("before test_t0: ", stderr);
			print_scores(p, &o);
		}
		if (sessions != NULL)
			fa_bin_tell_sessions(sessions, &t, i, p);
		fa_predictor_observe(p, i, t.cell + t.first[i],
							 (int) (t.first[i + 1] - t.first[i]), NULL);
		print_forecasts(p, &t, &o, i, &fc);
	}
	if (o.scores)
	{
		fputs("from test_t0 on: ", stderr);
		print_scores(p, &o);
	}
	fa_predictor_destroy(p);
	if (fflush(stdout) != 0 || ferror(stdout))
		fa_bin_fail("cannot write: %s", strerror(errno));
	return 0;
}
