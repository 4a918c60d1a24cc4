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
	for (i = 0; i < n; i++)
	{
		long		s = (rows[i].ts - first) / step;

		if (s < trace->nsteps)
			sim_cell(trace, s, rows[i].fragment)[rows[i].node] += rows[i].count;
	}
	free(rows);
}
