/*
 * rates.c
 *	  Rates: ridge regression of ln(1 + accesses) on the rate signals.
 *
 * One set of weights for all cells, from moments that are slowly forgotten.
 * What it foretells is the typical rate, exp(E ln(1 + y)) - 1.  The mean and
 * the probability of any access are read off what cells with a similar
 * typical rate have had, which needs no assumption on the distribution.
 */
#include <math.h>
#include <string.h>

#include "predict/pool.h"
#include "predict/vector.h"

#define RIDGE			20.0	/* cells' worth of belief in the start */
#define KEEP			0.998	/* per step learned */
#define BIN_KEEP		0.999
#define BIN_PRIOR		20.0
#define MAX_LOG			45.0

/* Is a model's rate a forecast as it is, to begin with? */
static bool
starts(int m)
{
	const FaModelOps *ops = fa_predict_models[m];

	for (int k = 0; k < ops->nrate; k++)
	{
		if (ops->rate_start[k] != 0)
			return true;
	}
	return false;
}

/* Does the head use the model's columns?  The pooled one those before it. */
static bool
reads(const FaFrame *frame, int head, int m)
{
	bool		pooled = fa_predict_model_on(frame, FA_MODEL_POOLED) &&
		m < FA_MODEL_POOLED && fa_predict_model_runs(frame, m);

	if (head == FA_MODEL_MIXTURE)
		return pooled || m == FA_MODEL_STATIC || fa_predict_model_on(frame, m);
	if (head == FA_MODEL_POOLED)
		return pooled || m == FA_MODEL_STATIC;
	return m == FA_MODEL_STATIC ||
		(m == head && fa_predict_model_on(frame, m));
}

FaRates *
fa_predict_rates_create(FaFrame *frame)
{
	FaRates    *r = fa_predict_alloc(frame, 1, sizeof(FaRates));

	for (int head = 0; head < FA_HEADS; head++)
	{
		int			nmodels = 0;	/* that start with a word to say */

		for (int m = FA_MODEL_STATIC + 1; m < FA_MODEL_MIXTURE; m++)
			nmodels += reads(frame, head, m) && starts(m);
		for (int m = 0; m < FA_MODEL_MIXTURE; m++)
		{
			const FaModelOps *ops = fa_predict_models[m];
			double		scale = m == FA_MODEL_STATIC ? nmodels == 0 :
				1.0 / (nmodels ? nmodels : 1);

			if (!reads(frame, head, m))
				continue;
			for (int k = 0; k < ops->nrate; k++)
			{
				r->now.w[head][frame->rate_at[m] + k] =
					ops->rate_start[k] * scale;
				r->on[head][frame->rate_at[m] + k] = true;
			}
		}
		r->on[head][0] = true;
		if (head == FA_MODEL_STATIC)
			memset(r->on[head], 0, sizeof(r->on[head]));
		memcpy(r->start.w[head], r->now.w[head], sizeof(r->now.w[head]));
	}
	return r;
}

double
fa_predict_rates_typical(const FaFrame *frame, const double *w,
						 const double *rate)
{
	double		v = 0;

	for (int k = 0; k < frame->nrate; k++)
		v += w[k] * rate[k];
	return v > 0 ? expm1(v > MAX_LOG ? MAX_LOG : v) : 0;
}

/* Weights for fa_predict_rates_heads(). */
void
fa_predict_rates_table(const FaFrame *frame, const FaRateWeights *weights,
					   FaRateTable *table_p)
{
	memset(table_p, 0, sizeof(*table_p));
	for (int k = 0; k < frame->nrate; k++)
	{
		for (int head = 0; head < FA_HEADS; head++)
			table_p->w[k][head] = weights->w[head][k];
	}
}

/* ln(1 + typical rate) by every head; log_p has FA_RATE_LANES entries. */
FA_PREDICT_WIDE void
fa_predict_rates_heads(const FaFrame *frame, const FaRateTable *table,
					   const double *rate, double *log_p)
{
	double		v[FA_RATE_LANES] = {0};

	for (int k = 0; k < frame->nrate; k++)
	{
		for (int head = 0; head < FA_RATE_LANES; head++)
			v[head] += table->w[k][head] * rate[k];
	}
	for (int head = 0; head < FA_RATE_LANES; head++)
		log_p[head] = v[head] > MAX_LOG ? MAX_LOG : v[head] > 0 ? v[head] : 0;
}

/* Bin of a typical rate, and how far into it: bins meet at their middles. */
static int
bin_of(double typical, double *into_p)
{
	double		at = 2 * (log(typical + 0.01) - log(0.01));

	if (!(at > 0))
		at = 0;
	if (at > FA_RATE_BINS - 2)
		at = FA_RATE_BINS - 2;
	*into_p = at - floor(at);
	return (int) at;
}

void
fa_predict_rates_expand(const FaRates *rates, double typical, double *mean_p,
						double *any_p)
{
	double		into;
	int			bin = bin_of(typical, &into);
	double		ratio = 0;
	double		any = 0;

	for (int i = 0; i < 2; i++)
	{
		const double *b = rates->bin[bin + i];
		double		part = i == 0 ? 1 - into : into;
		double		prior = BIN_PRIOR * (typical + 1e-3);

		ratio += part * (b[2] + prior) / (b[1] + prior);
		any += part * (b[3] + BIN_PRIOR * -expm1(-typical)) /
			(b[0] + BIN_PRIOR);
	}
	*mean_p = typical * ratio;
	*any_p = any < 0 ? 0 : any > 1 ? 1 : any;
}

/* Adds one cell's step; typical is what was foretold for it. */
FA_PREDICT_WIDE void
fa_predict_rates_learn(FaFrame *frame, FaRates *rates, const double *rate,
					   double y, double typical)
{
	double		t = log1p(y);
	double		into;
	int			bin = bin_of(typical, &into);

	for (int k = 0; k < frame->nrate; k++)
	{
		rates->target[k] += rate[k] * t;
		for (int j = 0; j <= k; j++)
			rates->moment[k][j] += rate[k] * rate[j];
	}
	for (int i = 0; i < 2; i++)
	{
		double	   *b = rates->bin[bin + i];
		double		part = i == 0 ? 1 - into : into;

		b[0] += part;
		b[1] += part * typical;
		b[2] += part * y;
		b[3] += y > 0 ? part : 0;
	}
	rates->fresh = true;
}

void
fa_predict_rates_step(FaFrame *frame, FaRates *rates)
{
	double		a[FA_MAX_RATES][FA_MAX_RATES];
	double		b[FA_MAX_RATES];
	double		w[FA_MAX_RATES];
	int			nr = frame->nrate;

	if (!rates->fresh)
		return;
	rates->fresh = false;
	for (int head = 0; head < FA_HEADS; head++)
	{
		for (int k = 0; k < nr; k++)
		{
			b[k] = rates->target[k] + RIDGE * rates->start.w[head][k];
			for (int j = 0; j <= k; j++)
				a[k][j] = rates->moment[k][j] + (k == j ? RIDGE : 0);
		}
		if (head != FA_MODEL_STATIC &&
			(head == FA_MODEL_MIXTURE || fa_predict_model_on(frame, head)) &&
			fa_predict_solve(&a[0][0], FA_MAX_RATES, rates->on[head], nr, b, w))
			memcpy(rates->now.w[head], w, sizeof(double) * nr);
	}
	for (int k = 0; k < nr; k++)
	{
		rates->target[k] *= KEEP;
		for (int j = 0; j <= k; j++)
			rates->moment[k][j] *= KEEP;
	}
	for (int i = 0; i < FA_RATE_BINS; i++)
	{
		for (int k = 0; k < 4; k++)
			rates->bin[i][k] *= BIN_KEEP;
	}
}

void
fa_predict_rates_archive(FaFrame *frame, FaRates *rates, FaArchive *ar)
{
	for (int head = 0; head < FA_HEADS; head++)
		fa_predict_ar_doubles(ar, rates->now.w[head], frame->nrate);
	for (int k = 0; k < frame->nrate; k++)
		fa_predict_ar_doubles(ar, rates->moment[k], k + 1);
	fa_predict_ar_doubles(ar, rates->target, frame->nrate);
	for (int i = 0; i < FA_RATE_BINS; i++)
	{
		fa_predict_ar_doubles(ar, rates->bin[i], 4);
		for (int k = 0; k < 4 && ar->reading; k++)
		{
			if (rates->bin[i][k] < 0)
				ar->failed = true;
		}
	}
}
