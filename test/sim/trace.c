/*
 * trace.c
 *	  Recorded accesses from standard input.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trace.h"

#define MAX_NAMES 4096

typedef struct Row
{
	long		ts;
	int			node;
	int			fragment;
	double		count;
} Row;

typedef struct Names
{
	int			n;
	char	   *name[MAX_NAMES];
} Names;

void *
sim_alloc(size_t n, size_t size)
{
	void	   *p = calloc(n > 0 ? n : 1, size);

	if (p == NULL)
	{
		fprintf(stderr, "out of memory\n");
		exit(3);
	}
	return p;
}

static void *
heap_alloc(void *arg, size_t size)
{
	(void) arg;
	return sim_alloc(1, size);
}

static void
heap_release(void *arg, void *p)
{
	(void) arg;
	free(p);
}

const FaAllocator sim_heap = {heap_alloc, heap_release, NULL};

static int
intern(Names *names, const char *name)
{
	int			i;

	for (i = 0; i < names->n; i++)
		if (strcmp(names->name[i], name) == 0)
			return i;
	if (names->n == MAX_NAMES)
	{
		fprintf(stderr, "too many names\n");
		exit(2);
	}
	names->name[names->n] = strdup(name);
	return names->n++;
}

float *
sim_cell(const Trace *trace, int step, int fragment)
{
	return trace->count +
		((size_t) step * trace->nfragments + fragment) * trace->nnodes;
}

/* Rows of standard input; what is no row is a header. */
static Row *
read_rows(Names *nodes, Names *fragments, size_t *n_p)
{
	Row		   *rows = NULL;
	size_t		n = 0;
	size_t		room = 0;
	char		line[512];

	while (fgets(line, sizeof(line), stdin) != NULL)
	{
		char		node[128];
		char		fragment[128];
		Row			row;

		if (sscanf(line, "%ld,%127[^,],%127[^,],%lf", &row.ts, node, fragment,
				   &row.count) != 4)
			continue;
		if (n == room)
		{
			room = room ? room * 2 : 65536;
			rows = realloc(rows, room * sizeof(*rows));
			if (rows == NULL)
				exit(3);
		}
		row.node = intern(nodes, node);
		row.fragment = intern(fragments, fragment);
		rows[n++] = row;
	}
	*n_p = n;
	return rows;
}

/* Of pairs that are not the same node. */
static double
mean_extra(const Trace *trace)
{
	int			nn = trace->nnodes;
	double		sum = 0;
	int			i;

	for (i = 0; i < nn * nn; i++)
		sum += trace->extra[i];
	return nn > 1 ? sum / (nn * (nn - 1)) : 1;
}

void
sim_equal_distances(Trace *trace)
{
	int			nn = trace->nnodes;
	int			i;

	trace->extra = sim_alloc((size_t) nn * nn, sizeof(double));
	for (i = 0; i < nn * nn; i++)
		trace->extra[i] = i % (nn + 1) != 0;
	trace->mean_extra = 1;
}

static int
find_node(const Trace *trace, const char *name)
{
	int			n = trace->nnodes - 1;

	while (n >= 0 && strcmp(trace->node[n], name) != 0)
		n--;
	return n;
}

void
sim_set_distances(Trace *trace, const char *text)
{
	char		a[128];
	char		b[128];
	double		cost;
	int			used;

	for (; *text; text += used + (text[used] == ','))
	{
		int			i;
		int			j;

		used = 0;
		if (sscanf(text, "%127[^-,]-%127[^=,]=%lf%n", a, b, &cost, &used) != 3 ||
			used == 0 || !(cost >= 0) || (text[used] && text[used] != ','))
		{
			fprintf(stderr, "bad distance: %s\n", text);
			exit(2);
		}
		i = find_node(trace, a);
		j = find_node(trace, b);
		if (i >= 0 && j >= 0 && i != j)
			trace->extra[i * trace->nnodes + j] =
				trace->extra[j * trace->nnodes + i] = cost;
	}
	trace->mean_extra = mean_extra(trace);
}

void
sim_read_trace(Trace *trace, long step, int nsteps)
{
	static Names nodes;
	static Names fragments;
	size_t		n;
	Row		   *rows = read_rows(&nodes, &fragments, &n);
	long		first;
	long		last;
	size_t		i;

	if (n == 0)
	{
		fprintf(stderr, "no rows on standard input\n");
		exit(2);
	}
	first = last = rows[0].ts;
	for (i = 0; i < n; i++)
	{
		first = rows[i].ts < first ? rows[i].ts : first;
		last = rows[i].ts > last ? rows[i].ts : last;
	}
	trace->nsteps = (last - first) / step + 1;
	if (nsteps > 0 && trace->nsteps > nsteps)
		trace->nsteps = nsteps;
	trace->nnodes = nodes.n;
	trace->nfragments = fragments.n;
	trace->node = nodes.name;
	trace->fragment = fragments.name;
	trace->count = sim_alloc((size_t) trace->nsteps * trace->nfragments *
							 trace->nnodes, sizeof(float));
	sim_equal_distances(trace);
	for (i = 0; i < n; i++)
	{
		long		s = (rows[i].ts - first) / step;

		if (s < trace->nsteps)
			sim_cell(trace, s, rows[i].fragment)[rows[i].node] += rows[i].count;
	}
	free(rows);
}
