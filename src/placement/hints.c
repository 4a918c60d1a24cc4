/*
 * hints.c
 *	  What administrators and applications told, as pulls and links.
 *
 *	schedule	pulls of the fragments it covers, in its windows
 *	profile		pulls of what the role and application use, as far as the
 *				fragments' use is theirs (by the transitions)
 *	dependency	links between fragments of the same keys
 *	sequence	links between the fragments of its keys, in turn
 */
#include "postgres.h"

#include <math.h>

#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "core/spi.h"
#include "placement/hints.h"

/* What a leading fragment's shares are asked with. */
typedef struct Leader
{
	FaForecaster *f;
	int			h;				/* horizon, or: */
	const int  *ahead;			/* one step ahead */
	FaForecast	forecast;
	double	   *rate;
} Leader;

static int
node_of(const FaForecaster *f, const char *text)
{
	int			id = atoi(text);

	return id >= 1 && id <= FA_MAX_NODE_ID ? f->node_index[id] : -1;
}

static int
fragment_of(const FaForecaster *f, const char *text)
{
	return fa_numbering_find(&f->fragments, strtoll(text, NULL, 10));
}

FaHints *
fa_hints_load(FaForecaster *f)
{
	FaRows	   *pulls = fa_spi_rows("SELECT fragment, node, weight,"
									" COALESCE(extract(epoch FROM starting) * 1e6, 0)::bigint,"
									" COALESCE(extract(epoch FROM lasting) * 1e6, 0)::bigint,"
									" COALESCE(extract(epoch FROM every) * 1e6, 0)::bigint"
									" FROM fragaffinity.hint_pull");
	FaRows	   *links = fa_spi_rows("SELECT from_fragment, to_fragment, weight"
									" FROM fragaffinity.hint_link");
	FaHints    *hints;

	if (pulls->nrows == 0 && links->nrows == 0)
		return NULL;
	hints = palloc0(sizeof(FaHints));
	hints->pull = MemoryContextAllocHuge(CurrentMemoryContext,
										 sizeof(FaHintPull) * (pulls->nrows + 1));
	hints->link = MemoryContextAllocHuge(CurrentMemoryContext,
										 sizeof(FaHintLink) * (links->nrows + 1));
	for (int i = 0; i < pulls->nrows; i++)
	{
		char	  **v = pulls->value[i];
		FaHintPull *p = &hints->pull[hints->npulls];

		p->fragment = fragment_of(f, v[0]);
		p->node = node_of(f, v[1]);
		p->weight = atof(v[2]);
		p->starting = strtoll(v[3], NULL, 10) -
			(POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY;
		p->lasting = strtoll(v[4], NULL, 10);
		p->every = strtoll(v[5], NULL, 10);
		if (p->fragment >= 0 && p->node >= 0)
			hints->npulls++;
	}
	for (int i = 0; i < links->nrows; i++)
	{
		char	  **v = links->value[i];
		FaHintLink *l = &hints->link[hints->nlinks];

		l->from = fragment_of(f, v[0]);
		l->to = fragment_of(f, v[1]);
		l->weight = atof(v[2]);
		if (l->from >= 0 && l->to >= 0)
			hints->nlinks++;
	}
	fa_hints_sort(hints);
	return hints;
}

static bool
horizon_shares(void *arg, int fragment, double *p)
{
	Leader	   *leader = arg;

	fa_predictor_forecast(leader->f->predictor, fragment, leader->h,
						  &leader->forecast);
	memcpy(p, leader->forecast.affinity, sizeof(double) * leader->f->nnodes);
	return leader->forecast.evidence > 0;
}

/* Rates to shares; false when there are none. */
static bool
normalize(double *p, int n, double *sum_p)
{
	double		sum = 0;

	for (int i = 0; i < n; i++)
		sum += p[i];
	*sum_p = sum;
	for (int i = 0; i < n && sum > 0; i++)
		p[i] /= sum;
	return sum > 0;
}

static bool
profile_shares(void *arg, int fragment, double *p)
{
	Leader	   *leader = arg;
	double		sum;

	(void) fa_predictor_profile(leader->f->predictor, fragment, leader->ahead,
								1, leader->rate);
	memcpy(p, leader->rate, sizeof(double) * leader->f->nnodes);
	return normalize(p, leader->f->nnodes, &sum);
}

void
fa_hints_forecast(FaForecaster *f, const FaHints *hints, int fragment, int h,
				  FaForecast *forecast)
{
	Leader		leader = {.f = f,.h = h};
	Size		size = sizeof(double) * f->nnodes;
	int64		step = f->last_step + f->horizons[h];
	double	   *scratch;
	double		sum = 0;

	if (!fa_hints_concern(hints, fragment))
		return;
	scratch = palloc(size);
	leader.forecast.affinity = palloc(size);
	leader.forecast.access_probability = palloc(size);
	leader.forecast.expected_rate = palloc(size);
	for (int n = 0; n < f->nnodes; n++)
		sum += forecast->expected_rate[n];
	fa_hints_apply(hints, fragment, fa_forecast_step_start(f, step),
				   fa_forecast_step_start(f, step + 1), f->nnodes,
				   horizon_shares, &leader, scratch, forecast->affinity);
	for (int n = 0; n < f->nnodes; n++)
	{
		/* moved accesses come one by one, like those of a Poisson process */
		forecast->expected_rate[n] = forecast->affinity[n] * sum;
		forecast->access_probability[n] = -expm1(-forecast->expected_rate[n]);
	}
	pfree(scratch);
	pfree(leader.forecast.affinity);
	pfree(leader.forecast.access_probability);
	pfree(leader.forecast.expected_rate);
}

void
fa_hints_profile(FaForecaster *f, const FaHints *hints, int fragment,
				 const int *ahead, int nahead, double *rate)
{
	Leader		leader = {.f = f};
	Size		size = sizeof(double) * f->nnodes;
	double	   *scratch;

	if (!fa_hints_concern(hints, fragment))
		return;
	scratch = palloc(size);
	leader.rate = palloc(size);
	for (int a = 0; a < nahead; a++)
	{
		double	   *p = rate + (Size) a * f->nnodes;
		double		sum;
		int64		step = f->last_step + ahead[a];

		if (!normalize(p, f->nnodes, &sum))
			continue;
		leader.ahead = &ahead[a];
		fa_hints_apply(hints, fragment, fa_forecast_step_start(f, step),
					   fa_forecast_step_start(f, step + 1), f->nnodes,
					   profile_shares, &leader, scratch, p);
		for (int n = 0; n < f->nnodes; n++)
			p[n] *= sum;
	}
	pfree(scratch);
	pfree(leader.rate);
}
