/*
 * world.c
 *	  Made-up demand of many nodes for many fragments.
 */
#include <math.h>
#include <stdlib.h>

#include "trace.h"
#include "world.h"

/* What a random number is for. */
enum
{
	FOR_KIND = 1, FOR_USER, FOR_WEIGHT, FOR_BYTES, FOR_PHASE, FOR_CROWD,
	FOR_COUNT
};

static uint64_t
mix(uint64_t x)
{
	x += UINT64_C(0x9E3779B97F4A7C15);
	x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
	return x ^ x >> 31;
}

double
world_random(uint64_t seed, uint64_t a, uint64_t b, uint64_t c)
{
	return (double) (mix(mix(mix(mix(seed) + a) + b) + c) >> 11) / (1ULL << 53);
}

int
world_lead(const World *w, int fragment)
{
	return w->group > 1 ? fragment - fragment % w->group : fragment;
}

WorldKind
world_kind(const World *w, int fragment)
{
	double		u = world_random(w->seed, FOR_KIND, world_lead(w, fragment), 0);
	int			k = 0;

	while (k < WORLD_NKINDS - 1 && u >= w->share[k])
		u -= w->share[k++];
	return k;
}

int
world_user(const World *w, int fragment, int k)
{
	int			user[WORLD_USERS];
	int			i,
				j;

	for (i = 0; i <= k; i++)
	{
		user[i] = world_random(w->seed, FOR_USER, world_lead(w, fragment), i) *
			w->nnodes;
		for (j = 0; j < i; j++)
			if (user[j] == user[i])
			{
				user[i] = (user[i] + 1) % w->nnodes;
				j = -1;
			}
	}
	return user[k];
}

double
world_bytes(const World *w, int fragment)
{
	return 1e6 * exp(4 * world_random(w->seed, FOR_BYTES, fragment, 0));
}

/* A few fragments make most of the demand. */
static double
weight_of(const World *w, int fragment)
{
	double		u = world_random(w->seed, FOR_WEIGHT, fragment, 0);

	return fmin(0.4 / pow(1 - u, 0.6), 40);
}

int
world_phase(const World *w, int fragment)
{
	return world_random(w->seed, FOR_PHASE, world_lead(w, fragment), 0) *
		w->season;
}

double
world_rate(const World *w, int fragment, int k, int64_t step)
{
	static const double steady[WORLD_USERS] = {0.85, 0.07, 0.05, 0.03};
	double		all = w->per_step * weight_of(w, fragment);
	int			lead = world_lead(w, fragment);
	int			phase = world_phase(w, fragment);
	int			turn;

	switch (world_kind(w, fragment))
	{
		case WORLD_SEASON:
			turn = (step + phase) % w->season >= w->season / 2;
			return all * steady[k < 2 ? k ^ turn : k];
		case WORLD_DRIFT:
			turn = (step + phase * w->drift / w->season) / w->drift;
			return all * steady[(k + turn) % WORLD_USERS];
		case WORLD_FLASH:
			if (k == WORLD_USERS - 1 &&
				world_random(w->seed, FOR_CROWD, lead, step / 4) < 0.02)
				return all * 20;
			return all * steady[k];
		case WORLD_UNIFORM:
			return all / WORLD_USERS;
		case WORLD_ALTERNATE:
			return all * steady[k < 2 ? k ^ (step & 1) : k];
		default:
			return all * steady[k];
	}
}

bool
world_alive(const World *w, int node, int64_t step)
{
	return node != w->lost || step < w->lost_from || step >= w->lost_to;
}

/* Poisson by inversion; large means as a normal. */
static int
poisson(double mean, double u, double v)
{
	double		p = exp(-mean);
	int			n = 0;

	if (mean > 30)
		return fmax(0, rint(mean + sqrt(mean) * sqrt(-2 * log(1 - u)) *
							cos(2 * M_PI * v)));
	while (u >= p && p > 1e-300 && n < 1000)
	{
		u -= p;
		p *= mean / ++n;
	}
	return n;
}

int
world_cells(const World *w, int64_t step, FaCell *cells)
{
	int			n = 0;
	int			f,
				k;

	for (f = 0; f < w->nfragments; f++)
		for (k = 0; k < WORLD_USERS; k++)
		{
			double		u = world_random(w->seed, FOR_COUNT + k, f, step);
			double		mean = world_rate(w, f, k, step);
			int			node;
			int			count;

			if (mean < 1 && u < 1 - mean)
				continue;		/* as most are; 1 - mean <= exp(-mean) */
			count = poisson(mean, u, mean > 30 ? world_random(w->seed,
															  FOR_COUNT + k + WORLD_USERS,
															  f, step) : 0);
			node = count > 0 ? world_user(w, f, k) : -1;
			if (count > 0 && world_alive(w, node, step))
				cells[n++] = (FaCell) {node, f, count};
		}
	return n;
}

double *
world_extra_ms(const World *w)
{
	double	   *extra = sim_alloc((size_t) w->nnodes * w->nnodes,
								  sizeof(double));
	int			i,
				j;

	for (i = 0; i < w->nnodes; i++)
		for (j = 0; j < w->nnodes; j++)
		{
			int			apart = abs(i % w->nregions - j % w->nregions);

			extra[(size_t) i * w->nnodes + j] = i == j ? 0 : 2 + 20 * apart;
		}
	return extra;
}
