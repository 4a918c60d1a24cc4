/*
 * pool.c
 *	  The log-linear pool: p(node) ~ exp(sum of weight x signal).
 *
 * Its weights are shared by all fragments, nodes and cells, so that little
 * data teaches them, and are learned online by Newton steps on the log loss:
 * precision holds the prior's ridge and the Fisher information seen so far,
 * slowly forgotten.  A temperature is part of it: all weights may shrink.
 * Accesses of a step are not independent, be it that one client makes many or
 * that all clients do the same: beyond some they count less and less.
 */
#include <math.h>
#include <string.h>

#include "predict/pool.h"

#define RIDGE			200.0	/* accesses' worth of belief in the start */
#define KEEP			0.999	/* of what was learned, per step learned */
#define SATURATION		64.0	/* accesses of a fragment and step that count */
#define STEP_SATURATION 64.0	/* accesses of a step that count */
#define MAX_WEIGHT		6.0
#define MIXTURE_START	0.35	/* models share what each would have alone */
#define SHRINK			4.0		/* accesses against which evidence counts */
#define FLOOR			1e-4	/* of every distribution, spread as the prior */

FaPool *
fa_predict_pool_create(FaFrame *frame)
{
	FaPool	   *pool = fa_predict_alloc(frame, 1, sizeof(FaPool));

	for (int head = 0; head < FA_HEADS; head++)
	{
		double	   *w = pool->now.w[head];

		for (int m = 0; m < FA_MODEL_MIXTURE; m++)
		{
			const FaModelOps *ops = fa_predict_models[m];
			double		scale = head == m || m == FA_MODEL_STATIC ? 1 :
				MIXTURE_START;

			if (m != FA_MODEL_STATIC && head != FA_MODEL_MIXTURE && head != m)
				continue;
			if (m != FA_MODEL_STATIC && !fa_predict_model_on(frame, m))
				continue;
			for (int k = 0; k < ops->nsite; k++)
			{
				w[frame->site_at[m] + k] = ops->site_start[k] * scale;
				pool->on[head][frame->site_at[m] + k] = true;
			}
			for (int k = 0; k < ops->nlocal; k++)
			{
				w[frame->nsite + frame->local_at[m] + k] =
					ops->local_start[k] * scale;
				pool->on[head][frame->nsite + frame->local_at[m] + k] = true;
			}
		}
		for (int k = 0; k < FA_MAX_SIGNALS; k++)
			pool->precision[head][k][k] = RIDGE;
		/* the floor to beat learns nothing */
		if (head == FA_MODEL_STATIC)
			memset(pool->on[head], 0, sizeof(pool->on[head]));
	}
	return pool;
}

/* Log factor of every node. */
void
fa_predict_pool_site(const FaFrame *frame, const double *w, const double *site,
					 double *factor_p)
{
	for (int n = 0; n < frame->nnodes; n++)
	{
		double		v = 0;

		for (int k = 0; k < frame->nsite; k++)
			v += w[k] * site[(size_t) n * frame->nsite + k];
		factor_p[n] = v;
	}
}

/* Log factor of every cell, then of the nodes not seen. */
void
fa_predict_pool_local(const FaFrame *frame, const double *w,
					  const double *local, int ncells, double *factor_p)
{
	w += frame->nsite;
	for (int i = 0; i <= ncells; i++)
	{
		double		v = 0;

		for (int k = 0; k < frame->nlocal; k++)
			v += w[k] * local[(size_t) i * frame->nlocal + k];
		factor_p[i] = v;
	}
}

/*
 * The distribution over the known nodes (NULL: all); unknown ones get 0.
 * prior is the nodes' overall shares, of which every forecast has a trace.
 */
void
fa_predict_pool_spread(const FaFrame *frame, const double *site_factor,
					   const double *local_factor, const int32_t *node,
					   int ncells, const bool *known, const double *prior,
					   double *p_p)
{
	double		top = -HUGE_VAL;
	double		sum = 0;
	double		all = 0;

	for (int n = 0; n < frame->nnodes; n++)
		p_p[n] = site_factor[n] + local_factor[ncells];
	for (int i = 0; i < ncells; i++)
		p_p[node[i]] = site_factor[node[i]] + local_factor[i];
	for (int n = 0; n < frame->nnodes; n++)
	{
		if ((known == NULL || known[n]) && p_p[n] > top)
			top = p_p[n];
	}
	for (int n = 0; n < frame->nnodes; n++)
	{
		bool		in = known == NULL || known[n];

		p_p[n] = in ? exp(p_p[n] - top) : 0;
		sum += p_p[n];
		all += in ? prior[n] : 0;
	}
	for (int n = 0; n < frame->nnodes; n++)
	{
		if (known == NULL || known[n])
			p_p[n] = (1 - FLOOR) * p_p[n] / sum + FLOOR * (all > 0 ? prior[n] / all : 0);
	}
}

/*
 * How much of the mixture's forecast is the long-run shares, as little is
 * known of the fragment: all of it before its first access.
 */
double
fa_predict_pool_shrink(double accesses)
{
	double		part = SHRINK / (SHRINK + accesses);

	return part < 1e-3 ? 0 : part;
}

/* Sum of exp(factor - top) over all nodes, top being the largest. */
double
fa_predict_pool_total(const FaFrame *frame, const double *site_factor,
					  double *top_p)
{
	double		top = -HUGE_VAL;
	double		sum = 0;

	for (int n = 0; n < frame->nnodes; n++)
		top = fmax(top, site_factor[n]);
	for (int n = 0; n < frame->nnodes; n++)
		sum += exp(site_factor[n] - top);
	*top_p = top;
	return sum;
}

/*
 * Shares of the nodes with cells alone, into p_p by cell.  All others have the
 * same local factor, so top and sum of fa_predict_pool_total() stand for them.
 */
static void
spread_seen(const FaFrame *frame, const double *local_factor,
			const int32_t *node, const double *site_factor, double top,
			double sum, int ncells, double *p_p)
{
	double		most = local_factor[ncells];
	double		rest = sum;
	double		all = 0;

	for (int i = 0; i < ncells; i++)
		most = fmax(most, local_factor[i]);
	for (int i = 0; i < ncells; i++)
	{
		double		site = exp(site_factor[node[i]] - top);

		rest -= site;
		p_p[i] = site * exp(local_factor[i] - most);
		all += p_p[i];
	}
	all += fmax(rest, 0) * exp(local_factor[ncells] - most);
	for (int i = 0; i < ncells; i++)
		p_p[i] = (1 - FLOOR) * (all > 0 ? p_p[i] / all : 0) +
			FLOOR * frame->prior[node[i]];
}

/*
 * fa_predict_pool_mix() for the nodes with cells, by cell: in time that does
 * not depend on how many nodes there are.
 */
double
fa_predict_pool_mix_seen(FaFrame *frame, const FaView *view,
						 const double *site_factor, double top, double sum,
						 double *p_p)
{
	const FaFragment *fr = &frame->fragment[view->fragment];
	const FaPoolWeights *now = &frame->pool[view->h]->now;
	double	   *local = frame->view_scratch;
	double	   *flat = frame->dense;
	double	   *prior = frame->dense + frame->nnodes;
	double		shrink = fa_predict_pool_shrink(fr->accesses);

	fa_predict_pool_local(frame, now->w[FA_MODEL_MIXTURE], view->local,
						  fr->ncells, local);
	spread_seen(frame, local, fr->node, site_factor, top, sum, fr->ncells, p_p);
	if (shrink == 0)
		return 0;
	for (int i = 0; i < fr->ncells; i++)
		prior[fr->node[i]] = log(frame->prior[fr->node[i]]);
	fa_predict_pool_local(frame, now->w[FA_MODEL_STATIC], view->local,
						  fr->ncells, local);
	/* shares sum to 1 */
	spread_seen(frame, local, fr->node, prior, 0, 1, fr->ncells, flat);
	for (int i = 0; i < fr->ncells; i++)
		p_p[i] += shrink * (flat[i] - p_p[i]);
	return shrink;
}

/*
 * The published shares of a fragment: the mixture, over the weighed site
 * signals given, and as much of the long-run shares as little is known of it,
 * which is returned.
 */
double
fa_predict_pool_mix(FaFrame *frame, const FaView *view,
					const double *site_factor, double *p_p)
{
	const FaFragment *fr = &frame->fragment[view->fragment];
	const FaPoolWeights *now = &frame->pool[view->h]->now;
	double	   *local = frame->view_scratch;
	double	   *flat = frame->dense;
	double	   *prior = frame->dense + frame->nnodes;
	double		shrink = fa_predict_pool_shrink(fr->accesses);

	fa_predict_pool_local(frame, now->w[FA_MODEL_MIXTURE], view->local,
						  fr->ncells, local);
	fa_predict_pool_spread(frame, site_factor, local, fr->node, fr->ncells,
						   NULL, frame->prior, p_p);
	if (shrink == 0)
		return 0;
	for (int n = 0; n < frame->nnodes; n++)
		prior[n] = log(frame->prior[n]);
	fa_predict_pool_local(frame, now->w[FA_MODEL_STATIC], view->local,
						  fr->ncells, local);
	fa_predict_pool_spread(frame, prior, local, fr->node, fr->ncells, NULL,
						   frame->prior, flat);
	for (int n = 0; n < frame->nnodes; n++)
		p_p[n] += shrink * (flat[n] - p_p[n]);
	return shrink;
}

/* The signals that a head learns weights for: site signals, then local. */
typedef struct Learned
{
	int			nsite;
	int			n;
	int			at[FA_MAX_SIGNALS];
} Learned;

static void
list_learned(const FaFrame *frame, const bool *on, Learned *l)
{
	l->nsite = l->n = 0;
	for (int k = 0; k < frame->nsite + frame->nlocal; k++)
	{
		if (!on[k])
			continue;
		l->at[l->n++] = k;
		if (k < frame->nsite)
			l->nsite = l->n;
	}
}

/* Signals of a node, or of a cell, that the head learns weights for. */
static void
pick(const Learned *l, int from, int to, const double *signal, int base,
	 double *x_p)
{
	for (int k = from; k < to; k++)
		x_p[k - from] = signal[l->at[k] - base];
}

/* Node by node: site signals. */
static void
learn_site(FaFrame *frame, FaPoolSums *sums, const Learned *l,
		   const double *site, const double *p, const double *y, double total,
		   double weight, double *mean)
{
	for (int n = 0; n < frame->nnodes; n++)
	{
		double		b[FA_MAX_SIGNALS];
		double		d = (y[n] - total * p[n]) * weight;

		if (p[n] <= 0)
			continue;
		pick(l, 0, l->nsite, site + (size_t) n * frame->nsite, 0, b);
		for (int k = 0; k < l->nsite; k++)
		{
			double		pb = total * weight * p[n] * b[k];

			mean[k] += p[n] * b[k];
			sums->gradient[k] += d * b[k];
			for (int j = 0; j <= k; j++)
				sums->fisher[k][j] += pb * b[j];
		}
	}
}

/*
 * Adds a fragment's step to the head's sums.  y and p are by node (0 for
 * unknown ones), total is the sum of y.
 */
void
fa_predict_pool_learn(FaFrame *frame, FaPool *pool, int head,
					  const double *site, const double *local,
					  const int32_t *node, int ncells, const double *p,
					  const double *y, double total)
{
	FaPoolSums *sums = &pool->sums[head];
	Learned		l;
	double		weight = 1 / (1 + total / SATURATION);
	double		mean[FA_MAX_SIGNALS] = {0};
	double		seen[FA_MAX_SIGNALS] = {0}; /* of mean, by the cells */
	double		rest[FA_MAX_SIGNALS];
	double		rest_p = 1;
	double		rest_y = total;
	int			ns;

	list_learned(frame, pool->on[head], &l);
	ns = l.nsite;
	learn_site(frame, sums, &l, site, p, y, total, weight, mean);

	/* cell by cell, then the nodes not seen as one: the rest row */
	for (int i = 0; i <= ncells; i++)
	{
		double		x[FA_MAX_SIGNALS];
		double		b[FA_MAX_SIGNALS];
		double		pi = i < ncells ? p[node[i]] : rest_p > 0 ? rest_p : 0;
		double		yi = i < ncells ? y[node[i]] : rest_y;
		double		d = (yi - total * pi) * weight;

		pick(&l, ns, l.n, local + (size_t) i * frame->nlocal, frame->nsite, x);
		if (i < ncells)
		{
			pick(&l, 0, ns, site + (size_t) node[i] * frame->nsite, 0, b);
			rest_p -= pi;
			rest_y -= yi;
		}
		for (int k = 0; k < l.n - ns; k++)
		{
			double		px = total * weight * pi * x[k];

			mean[ns + k] += pi * x[k];
			sums->gradient[ns + k] += d * x[k];
			for (int j = 0; j <= k; j++)
				sums->fisher[ns + k][ns + j] += px * x[j];
			for (int j = 0; j < ns && i < ncells; j++)
				sums->fisher[ns + k][j] += px * b[j];
		}
		for (int j = 0; j < ns && i < ncells; j++)
			seen[j] += pi * b[j];
	}
	pick(&l, ns, l.n, local + (size_t) ncells * frame->nlocal, frame->nsite,
		 rest);
	for (int j = 0; j < ns && rest_p > 1e-9; j++)
	{
		for (int k = 0; k < l.n - ns; k++)
			sums->fisher[ns + k][j] += total * weight * rest[k] *
				(mean[j] - seen[j]);
	}
	for (int k = 0; k < l.n; k++)
	{
		for (int j = 0; j <= k; j++)
			sums->fisher[k][j] -= total * weight * mean[k] * mean[j];
	}
	sums->n += total * weight;
}

/* Adds a head's sums to its precision and steps along the gradient. */
static void
newton_step(FaFrame *frame, FaPool *pool, int head)
{
	FaPoolSums *sums = &pool->sums[head];
	double		part = 1 / (1 + sums->n / STEP_SATURATION);
	double		gradient[FA_MAX_SIGNALS] = {0};
	double		delta[FA_MAX_SIGNALS];
	Learned		l;

	list_learned(frame, pool->on[head], &l);
	for (int k = 0; k < l.n; k++)
	{
		gradient[l.at[k]] = sums->gradient[k] * part;
		for (int j = 0; j <= k; j++)
		{
			double	   *a = &pool->precision[head][l.at[k]][l.at[j]];

			*a = *a * KEEP + sums->fisher[k][j] * part +
				(k == j ? RIDGE * (1 - KEEP) : 0);
			pool->precision[head][l.at[j]][l.at[k]] = *a;
		}
	}
	if (!fa_predict_solve(&pool->precision[head][0][0], FA_MAX_SIGNALS,
						  pool->on[head], frame->nsite + frame->nlocal,
						  gradient, delta))
		return;
	for (int k = 0; k < l.n; k++)
	{
		double	   *w = &pool->now.w[head][l.at[k]];

		*w += delta[l.at[k]];
		*w = *w > MAX_WEIGHT ? MAX_WEIGHT : *w < -MAX_WEIGHT ? -MAX_WEIGHT : *w;
	}
}

/* A Newton step with what was added since the last one. */
void
fa_predict_pool_step(FaFrame *frame, FaPool *pool)
{
	for (int head = 0; head < FA_HEADS; head++)
	{
		if (pool->sums[head].n > 0)
			newton_step(frame, pool, head);
		memset(&pool->sums[head], 0, sizeof(FaPoolSums));
	}
}

void
fa_predict_pool_archive(FaFrame *frame, FaPool *pool, FaArchive *ar)
{
	int			nk = frame->nsite + frame->nlocal;

	for (int head = 0; head < FA_HEADS; head++)
	{
		fa_predict_ar_doubles(ar, pool->now.w[head], nk);
		for (int k = 0; k < nk; k++)
			fa_predict_ar_doubles(ar, pool->precision[head][k], nk);
		for (int k = 0; k < nk && ar->reading; k++)
		{
			if (fabs(pool->now.w[head][k]) > MAX_WEIGHT)
				ar->failed = true;
		}
	}
}
