/*
 * trace.c
 *	  An exported history, read from files.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "bin/trace.h"

void
fa_bin_fail(const char *format,...)
{
	va_list		args;

	va_start(args, format);
	fputs("fragaffinity-predict: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

void *
fa_bin_alloc(size_t size)
{
	void	   *p = calloc(1, size ? size : 1);

	if (p == NULL)
		fa_bin_fail("out of memory");
	return p;
}

static void *
zalloc(void *arg, size_t size)
{
	(void) arg;
	return fa_bin_alloc(size);
}

static void
zfree(void *arg, void *ptr)
{
	(void) arg;
	free(ptr);
}

const FaAllocator fa_bin_allocator = {zalloc, zfree, NULL};

static int64_t
get_int(json_t *entry, const char *key)
{
	json_t	   *v = json_object_get(entry, key);

	if (!json_is_integer(v))
		fa_bin_fail("manifest.json: \"%s\" is missing or no integer", key);
	return json_integer_value(v);
}

static const char **
get_names(json_t *entry, const char *key, int *n_p, json_t **index_p)
{
	json_t	   *list = json_object_get(entry, key);
	const char **name;
	size_t		n = json_array_size(list);

	if (n < 1 || n > 10000000)
		fa_bin_fail("manifest.json: \"%s\" is missing or empty", key);
	name = fa_bin_alloc(n * sizeof(char *));
	*index_p = json_object();
	for (size_t i = 0; i < n; i++)
	{
		name[i] = json_string_value(json_array_get(list, i));
		if (name[i] == NULL)
			fa_bin_fail("manifest.json: \"%s\" holds something that is no string", key);
		if (json_object_get(*index_p, name[i]) != NULL)
			fa_bin_fail("manifest.json: \"%s\" holds \"%s\" twice", key, name[i]);
		json_object_set_new(*index_p, name[i], json_integer(i));
	}
	*n_p = (int) n;
	return name;
}

void
fa_bin_read_manifest(Trace *t, const char *dir, const char *name)
{
	char		path[4096];
	json_error_t error;
	json_t	   *all;
	json_t	   *entry;
	int64_t		t1;

	snprintf(path, sizeof(path), "%s/manifest.json", dir);
	all = json_load_file(path, 0, &error);
	if (all == NULL && error.line < 1)
		fa_bin_fail("%s", error.text);
	if (all == NULL)
		fa_bin_fail("%s:%d: %s", path, error.line, error.text);
	entry = json_object_get(all, name);
	if (!json_is_object(entry))
		fa_bin_fail("%s has no trace \"%s\"", path, name);
	t->step = get_int(entry, "step");
	t->t0 = get_int(entry, "t0");
	t1 = get_int(entry, "t1");
	t->test_t0 = get_int(entry, "test_t0");
	if (t->step < 1)
		fa_bin_fail("manifest.json: step must be positive");
	t->nsteps = json_is_integer(json_object_get(entry, "buckets")) ?
		get_int(entry, "buckets") : (t1 - t->t0) / t->step + 1;
	if (t->nsteps < 1 || t->nsteps > 100000000)
		fa_bin_fail("manifest.json: no steps between t0 and t1, or too many");
	t->node = get_names(entry, "nodes", &t->nnodes, &t->node_index);
	t->fragment = get_names(entry, "fragments", &t->nfragments,
							&t->fragment_index);
}

static void
split_line(char *line, int64_t row, char **field, int n)
{
	line[strcspn(line, "\r\n")] = '\0';
	for (int i = 0; i < n; i++)
	{
		field[i] = line;
		line = strchr(line, ',');
		if ((line == NULL) != (i == n - 1))
			fa_bin_fail("row %" PRId64 ": %s fields expected", row,
						n == 4 ? "four" : "five");
		if (line != NULL)
			*line++ = '\0';
	}
}

/* The next line of a file, or false at its end. */
static bool
read_line(gzFile in, const char *path, int64_t row, char *line, int size)
{
	int			error;

	if (gzgets(in, line, size) == NULL)
	{
		if (!gzeof(in))
			fa_bin_fail("%s: damaged", path);
		return false;
	}
	gzerror(in, &error);
	if (strchr(line, '\n') == NULL && error != Z_OK && error != Z_STREAM_END)
		fa_bin_fail("%s: damaged or cut off after row %" PRId64, path, row);
	return true;
}

/*
 * DIR/NAME.WHAT.csv.gz, or without .gz; its header is checked, and that it has
 * a fifth column is told.  NULL when there is none and none is required.
 */
static gzFile
open_csv(const char *dir, const char *name, const char *what,
		 const char *header, bool required, char *path, size_t size,
		 bool *more_p)
{
	char		line[4096];
	gzFile		in;

	snprintf(path, size, "%s/%s.%s.csv.gz", dir, name, what);
	in = gzopen(path, "rb");
	if (in == NULL)
	{
		path[strlen(path) - 3] = '\0';
		in = gzopen(path, "rb");
	}
	if (in == NULL && errno == ENOENT && !required)
		return NULL;
	if (in == NULL)
		fa_bin_fail("cannot open %s[.gz]: %s", path, strerror(errno));
	gzbuffer(in, 1 << 17);
	if (gzgets(in, line, sizeof(line)) == NULL ||
		strncmp(line, header, strlen(header)) != 0)
		fa_bin_fail("%s: no header %s", path, header);
	*more_p = line[strlen(header)] == ',';
	return in;
}

/* Room for one more item in an array that grows. */
static void *
room_for(void *array, int64_t n, int64_t *room, size_t size)
{
	if (n < *room)
		return array;
	*room = *room ? *room * 2 : 65536;
	array = realloc(array, *room * size);
	if (array == NULL)
		fa_bin_fail("out of memory");
	return array;
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

	split_line(line, row, field, 4);
	ts = strtoll(field[0], &end, 10);
	if (end == field[0] || *end != '\0')
		fa_bin_fail("row %" PRId64 ": \"%s\" is no time", row, field[0]);
	cell->count = strtod(field[3], &end);
	if (end == field[3] || *end != '\0' || !isfinite(cell->count) ||
		cell->count < 0)
		fa_bin_fail("row %" PRId64 ": \"%s\" is no count", row, field[3]);
	node = json_object_get(t->node_index, field[1]);
	fragment = json_object_get(t->fragment_index, field[2]);
	if (node == NULL || fragment == NULL)
		fa_bin_fail("row %" PRId64 ": node \"%s\" or fragment \"%s\" is not in manifest.json",
			 row, field[1], field[2]);
	cell->node = (int32_t) json_integer_value(node);
	cell->fragment = (int32_t) json_integer_value(fragment);
	if (ts < t->t0 || (ts - t->t0) / t->step >= t->nsteps)
		fa_bin_fail("row %" PRId64 ": time %" PRId64 " is outside of the trace", row, ts);
	return (ts - t->t0) / t->step;
}

void
fa_bin_read_cells(Trace *t, const char *dir, const char *name)
{
	char		path[4096];
	char		line[4096];
	gzFile		in;
	int64_t		n = 0;
	int64_t		room = 0;
	int64_t		row = 1;
	int64_t		at = 0;
	bool		more;

	in = open_csv(dir, name, "agg", "ts_bucket,node,fragment,count", true,
				  path, sizeof(path), &more);
	t->first = fa_bin_alloc((t->nsteps + 1) * sizeof(int64_t));
	while (read_line(in, path, row, line, sizeof(line)))
	{
		int64_t		step;

		t->cell = room_for(t->cell, n, &room, sizeof(FaCell));
		step = parse_line(t, line, ++row, &t->cell[n]);
		if (step < at)
			fa_bin_fail("row %" PRId64 ": times must ascend", row);
		while (at < step)
			t->first[++at] = n;
		n++;
	}
	while (at < t->nsteps)
		t->first[++at] = n;
	gzclose(in);
}

static uint64_t
hash_text(const char *s)
{
	uint64_t	x = UINT64_C(0xcbf29ce484222325);

	for (; *s; s++)
		x = (x ^ (uint8_t) *s) * UINT64_C(0x100000001b3);
	return x;
}

static int
compare_events(const void *a, const void *b)
{
	const FaNextEvent *x = *(FaNextEvent *const *) a;
	const FaNextEvent *y = *(FaNextEvent *const *) b;

	if (x->session != y->session)
		return x->session > y->session ? 1 : -1;
	return (x > y) - (x < y);
}

/* Finds out which events are the first of their session. */
static void
mark_openings(Trace *t)
{
	FaNextEvent **by_session = fa_bin_alloc(t->nevents * sizeof(*by_session));

	t->opens = fa_bin_alloc(t->nevents * sizeof(bool));
	for (int64_t i = 0; i < t->nevents; i++)
		by_session[i] = &t->event[i];
	qsort(by_session, t->nevents, sizeof(*by_session), compare_events);
	for (int64_t i = 0; i < t->nevents; i++)
		t->opens[by_session[i] - t->event] = i == 0 ||
			by_session[i]->session != by_session[i - 1]->session;
	free(by_session);
}

bool
fa_bin_read_events(Trace *t, const char *dir, const char *name, bool required)
{
	char		path[4096];
	char		line[4096];
	gzFile		in;
	int64_t		room = 0;
	int64_t		row = 1;

	in = open_csv(dir, name, "events", "ts,session,node,fragment", required,
				  path, sizeof(path), &t->profiles);
	if (in == NULL)
		return false;
	while (read_line(in, path, row, line, sizeof(line)))
	{
		FaNextEvent *e;
		json_t	   *node;
		json_t	   *fragment;
		char	   *field[5];
		char	   *end;

		split_line(line, ++row, field, t->profiles ? 5 : 4);
		t->event = room_for(t->event, t->nevents, &room, sizeof(FaNextEvent));
		e = &t->event[t->nevents];
		e->time = strtoll(field[0], &end, 10);
		if (end == field[0] || *end != '\0')
			fa_bin_fail("row %" PRId64 ": \"%s\" is no time", row, field[0]);
		if (t->nevents > 0 && e->time < e[-1].time)
			fa_bin_fail("row %" PRId64 ": times must ascend", row);
		node = json_object_get(t->node_index, field[2]);
		fragment = json_object_get(t->fragment_index, field[3]);
		if (node == NULL || fragment == NULL)
			fa_bin_fail("row %" PRId64 ": node \"%s\" or fragment \"%s\" is not in manifest.json",
				 row, field[2], field[3]);
		e->session = hash_text(field[1]);
		e->profile = t->profiles && *field[4] ? hash_text(field[4]) : 0;
		e->node = (int32_t) json_integer_value(node);
		e->fragment = (int32_t) json_integer_value(fragment);
		t->nevents++;
	}
	gzclose(in);
	mark_openings(t);
	return true;
}
