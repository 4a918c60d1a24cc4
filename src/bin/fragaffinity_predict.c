/*
 * fragaffinity_predict.c
 *	  Forecasts over an exported history, outside of the server.
 *
 *	  fragaffinity-predict DIR NAME [--horizons 1,24] [--models a,b] [--seed N]
 *
 * Reads DIR/manifest.json (entry NAME: step, t0, t1, test_t0, nodes,
 * fragments) and DIR/NAME.agg.csv or .agg.csv.gz (ts_bucket,node,fragment,
 * count in time order), goes through the steps one by one, and writes for each
 * target from test_t0 on what was forecast a horizon before:
 * ts_bucket,horizon,node,fragment,p,rate.  A forecast has seen nothing later
 * than its origin.  Scores by model go to stderr with --scores.
 */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "predict/predict.h"

typedef struct Trace
{
	int64_t		step;
	int64_t		t0;
	int64_t		test_t0;
	int64_t		nsteps;
	int			nnodes;
	int			nfragments;
	const char **node;
	const char **fragment;
	json_t	   *node_index;
	json_t	   *fragment_index;
	FaCell	   *cell;			/* all, by step */
	int64_t	   *first;			/* by step, and one more */
} Trace;

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
} Options;

static void fail(const char *format,...) __attribute__((format(printf, 1, 2), noreturn));

static void
fail(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	fputs("fragaffinity-predict: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static void
usage(FILE *to)
{
	fputs("Usage: fragaffinity-predict DIR NAME [OPTION]...\n"
		  "Forecasts over an exported access history, on stdout as CSV.\n\n"
		  "  --horizons H,...   steps ahead (default 1)\n"
		  "  --models M,...     of static, recent, seasonal (default all)\n"
		  "  --max-season N     longest season looked for, in steps\n"
		  "  --forgetting X     kept of a slot from one season to the next\n"
		  "  --seed N           of sampling (default 1)\n"
		  "  --scores           log loss of every model on stderr\n", to);
}

static void *
zalloc(void *arg, size_t size)
{
	void	   *p = calloc(1, size);

	(void) arg;
	if (p == NULL)
		fail("out of memory");
	return p;
}

static void
zfree(void *arg, void *ptr)
{
	(void) arg;
	free(ptr);
}

static int64_t
number(const char *text, const char *what, int64_t low, int64_t high)
{
	char	   *end;
	long long	v;

	errno = 0;
	v = strtoll(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || v < low || v > high)
		fail("%s must be a number from %" PRId64 " to %" PRId64 ", not \"%s\"",
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
			fail("at most %d horizons", FA_PREDICT_MAX_HORIZONS);
		o->horizons[o->nhorizons++] = (int) number(s, "a horizon", 1, 1000000);
	}
	if (o->nhorizons == 0)
		fail("no horizon given");
	qsort(o->horizons, o->nhorizons, sizeof(int), compare_ints);
	for (int i = 1; i < o->nhorizons; i++)
	{
		if (o->horizons[i] == o->horizons[i - 1])
			fail("horizon %d is given twice", o->horizons[i]);
	}
}

static void
parse_models(Options *o, char *list)
{
	for (char *s = strtok(list, ","); s != NULL; s = strtok(NULL, ","))
	{
		int			m = 0;

		while (m < FA_MODEL_MIXTURE && strcmp(s, fa_model_name(m)) != 0)
			m++;
		if (m == FA_MODEL_MIXTURE)
			fail("unknown model \"%s\"", s);
		o->models |= 1u << m;
	}
	if (o->models == 0)
		fail("no model given");
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
		else if (strncmp(a, "--", 2) == 0)
		{
			if (v == NULL)
				fail("%s needs a value, or is unknown (see --help)", a);
			i++;
			if (strcmp(a, "--horizons") == 0)
				parse_horizons(o, v);
			else if (strcmp(a, "--models") == 0)
				parse_models(o, v);
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
					fail("forgetting must be between 0 and 1, not \"%s\"", v);
			}
			else
				fail("unknown option %s (see --help)", a);
		}
		else if (o->dir == NULL)
			o->dir = a;
		else if (o->name == NULL)
			o->name = a;
		else
			fail("unexpected argument \"%s\" (see --help)", a);
	}
	if (o->name == NULL)
	{
		usage(stderr);
		exit(1);
	}
}

static int64_t
get_int(json_t *entry, const char *key)
{
	json_t	   *v = json_object_get(entry, key);

	if (!json_is_integer(v))
		fail("manifest.json: \"%s\" is missing or no integer", key);
	return json_integer_value(v);
}

static const char **
get_names(json_t *entry, const char *key, int *n_p, json_t **index_p)
{
	json_t	   *list = json_object_get(entry, key);
	const char **name;
	size_t		n = json_array_size(list);

	if (n < 1 || n > 10000000)
		fail("manifest.json: \"%s\" is missing or empty", key);
	name = zalloc(NULL, n * sizeof(char *));
	*index_p = json_object();
	for (size_t i = 0; i < n; i++)
	{
		name[i] = json_string_value(json_array_get(list, i));
		if (name[i] == NULL)
			fail("manifest.json: \"%s\" holds something that is no string", key);
		if (json_object_get(*index_p, name[i]) != NULL)
			fail("manifest.json: \"%s\" holds \"%s\" twice", key, name[i]);
		json_object_set_new(*index_p, name[i], json_integer(i));
	}
	*n_p = (int) n;
	return name;
}

static void
read_manifest(Trace *t, const Options *o)
{
	char		path[4096];
	json_error_t error;
	json_t	   *all;
	json_t	   *entry;
	int64_t		t1;

	snprintf(path, sizeof(path), "%s/manifest.json", o->dir);
	all = json_load_file(path, 0, &error);
	if (all == NULL && error.line < 1)
		fail("%s", error.text);
	if (all == NULL)
		fail("%s:%d: %s", path, error.line, error.text);
	entry = json_object_get(all, o->name);
	if (!json_is_object(entry))
		fail("%s has no trace \"%s\"", path, o->name);
	t->step = get_int(entry, "step");
	t->t0 = get_int(entry, "t0");
	t1 = get_int(entry, "t1");
	t->test_t0 = get_int(entry, "test_t0");
	if (t->step < 1)
		fail("manifest.json: step must be positive");
	t->nsteps = json_is_integer(json_object_get(entry, "buckets")) ?
		get_int(entry, "buckets") : (t1 - t->t0) / t->step + 1;
	if (t->nsteps < 1 || t->nsteps > 100000000)
		fail("manifest.json: no steps between t0 and t1, or too many");
	t->node = get_names(entry, "nodes", &t->nnodes, &t->node_index);
	t->fragment = get_names(entry, "fragments", &t->nfragments,
							&t->fragment_index);
}

/* One line of the CSV; the step it belongs to. */
static int64_t
parse_line(const Trace *t, char *line, int64_t row, FaCell *cell)
{
	char	   *field[4];
	char	   *end;
	json_t	   *node;
	json_t	   *fragment;
	int64_t		ts;

	line[strcspn(line, "\r\n")] = '\0';
	for (int i = 0; i < 4; i++)
	{
		field[i] = line;
		line = strchr(line, ',');
		if ((line == NULL) != (i == 3))
			fail("row %" PRId64 ": four fields expected", row);
		if (line != NULL)
			*line++ = '\0';
	}
	ts = strtoll(field[0], &end, 10);
	if (end == field[0] || *end != '\0')
		fail("row %" PRId64 ": \"%s\" is no time", row, field[0]);
	cell->count = strtod(field[3], &end);
	if (end == field[3] || *end != '\0' || !isfinite(cell->count) ||
		cell->count < 0)
		fail("row %" PRId64 ": \"%s\" is no count", row, field[3]);
	node = json_object_get(t->node_index, field[1]);
	fragment = json_object_get(t->fragment_index, field[2]);
	if (node == NULL || fragment == NULL)
		fail("row %" PRId64 ": node \"%s\" or fragment \"%s\" is not in manifest.json",
			 row, field[1], field[2]);
	cell->node = (int32_t) json_integer_value(node);
	cell->fragment = (int32_t) json_integer_value(fragment);
	if (ts < t->t0 || (ts - t->t0) / t->step >= t->nsteps)
		fail("row %" PRId64 ": time %" PRId64 " is outside of the trace", row, ts);
	return (ts - t->t0) / t->step;
}

static void
read_cells(Trace *t, const Options *o)
{
	char		path[4096];
	char		line[4096];
	gzFile		in;
	int64_t		n = 0;
	int64_t		room = 0;
	int64_t		row = 1;
	int64_t		at = 0;

	snprintf(path, sizeof(path), "%s/%s.agg.csv.gz", o->dir, o->name);
	in = gzopen(path, "rb");
	if (in == NULL)
	{
		path[strlen(path) - 3] = '\0';
		in = gzopen(path, "rb");
	}
	if (in == NULL)
		fail("cannot open %s[.gz]: %s", path, strerror(errno));
	gzbuffer(in, 1 << 17);
	t->first = zalloc(NULL, (t->nsteps + 1) * sizeof(int64_t));
	if (gzgets(in, line, sizeof(line)) == NULL ||
		strncmp(line, "ts_bucket,node,fragment,count", 29) != 0)
		fail("%s: no header ts_bucket,node,fragment,count", path);
	while (gzgets(in, line, sizeof(line)) != NULL)
	{
		int64_t		step;
		int			error;

		gzerror(in, &error);
		if (strchr(line, '\n') == NULL && error != Z_OK && error != Z_STREAM_END)
			fail("%s: damaged or cut off after row %" PRId64, path, row);
		if (n == room)
		{
			room = room ? room * 2 : 65536;
			t->cell = realloc(t->cell, room * sizeof(FaCell));
			if (t->cell == NULL)
				fail("out of memory");
		}
		step = parse_line(t, line, ++row, &t->cell[n]);
		if (step < at)
			fail("row %" PRId64 ": times must ascend", row);
		while (at < step)
			t->first[++at] = n;
		n++;
	}
	if (!gzeof(in))
		fail("%s: damaged", path);
	while (at < t->nsteps)
		t->first[++at] = n;
	gzclose(in);
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
	static const FaAllocator allocator = {zalloc, zfree, NULL};
	FaPredictorConfig config = {0};
	FaForecast	fc = {0};
	Options		o;
	Trace		t = {0};
	FaPredictor *p;
	int64_t		test;

	parse_options(&o, argc, argv);
	read_manifest(&t, &o);
	read_cells(&t, &o);

	config.nhorizons = o.nhorizons;
	memcpy(config.horizons, o.horizons, sizeof(o.horizons));
	/* eight days, but at least 200 steps */
	config.max_season = o.max_season > 0 ? o.max_season :
		8 * 86400 / t.step > 200 ? (int) (8 * 86400 / t.step) : 200;
	config.forgetting = o.forgetting;
	config.seed = o.seed;
	config.models = o.models;
	p = fa_predictor_create(&config, t.nnodes, t.nfragments, &allocator);
	fc.affinity = zalloc(NULL, t.nnodes * sizeof(double));
	fc.access_probability = zalloc(NULL, t.nnodes * sizeof(double));
	fc.expected_rate = zalloc(NULL, t.nnodes * sizeof(double));
	fc.typical_rate = zalloc(NULL, t.nnodes * sizeof(double));

	test = (t.test_t0 - t.t0) / t.step;
	puts("ts_bucket,horizon,node,fragment,p,rate");
	for (int64_t i = 0; i < t.nsteps; i++)
	{
		if (i == test && o.scores)
		{
			fputs("before test_t0: ", stderr);
			print_scores(p, &o);
		}
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
		fail("cannot write: %s", strerror(errno));
	return 0;
}
