/*
 * samples.h
 *	  Latencies in milliseconds, all of them kept, and their percentiles.
 */
#ifndef SAMPLES_H
#define SAMPLES_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW_TICKS 4			/* what the percentiles of a tick cover */

static bool counting = true;	/* otherwise samples are dropped */

/* Growing list of milliseconds. */
typedef struct Samples
{
	float	   *value;
	size_t		n;
	size_t		room;
	size_t		before[WINDOW_TICKS];	/* n at the last ticks */
} Samples;

static inline void *
grow(void *p, size_t size)
{
	p = realloc(p, size);
	if (!p)
		abort();
	return p;
}

static inline void
add_sample(Samples *s, double ms)
{
	if (!counting)
		return;
	if (s->n == s->room)
	{
		s->room = s->room ? 2 * s->room : 4096;
		s->value = grow(s->value, s->room * sizeof(float));
	}
	s->value[s->n++] = ms;
}

static inline int
compare_floats(const void *a, const void *b)
{
	float		x = *(const float *) a;
	float		y = *(const float *) b;

	return (x > y) - (x < y);
}

/* Prints number, p50, p95, p99, maximum and mean of the samples from an index on. */
static inline void
print_samples(const Samples *s, size_t from)
{
	size_t		n = s->n - from;
	float	   *sorted;
	double		sum = 0;

	if (n == 0)
	{
		printf("[0,0,0,0,0,0]");
		return;
	}
	sorted = grow(NULL, n * sizeof(float));
	memcpy(sorted, s->value + from, n * sizeof(float));
	qsort(sorted, n, sizeof(float), compare_floats);
	for (size_t i = 0; i < n; i++)
		sum += sorted[i];
	printf("[%zu,%.3f,%.3f,%.3f,%.3f,%.3f]", n, sorted[(n - 1) / 2],
		   sorted[(size_t) ((n - 1) * 0.95)],
		   sorted[(size_t) ((n - 1) * 0.99)], sorted[n - 1], sum / n);
	free(sorted);
}

/* From which sample on the line of this tick is to tell. */
static inline size_t
window(Samples *s, bool final)
{
	size_t		from = s->before[0];

	memmove(s->before, s->before + 1, sizeof(s->before) - sizeof(size_t));
	s->before[WINDOW_TICKS - 1] = s->n;
	return final ? 0 : from;
}

#endif
