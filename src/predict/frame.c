/*
 * frame.c
 *	  Sparse storage, memory, and the walk over the models.
 */
#include <math.h>
#include <string.h>

#include "predict/pool.h"

#define MAX_SIGNAL		20.0

/* In the order of FaModel; the static one first, it gives the base. */
const FaModelOps *const fa_predict_models[FA_NMODELS] = {
	[FA_MODEL_STATIC] = &fa_predict_static,
	[FA_MODEL_RECENT] = &fa_predict_recent,
	[FA_MODEL_SEASONAL] = &fa_predict_seasonal,
	[FA_MODEL_HOLT] = &fa_predict_holt,
	[FA_MODEL_POOLED] = &fa_predict_pooled,
	[FA_MODEL_SESSION] = &fa_predict_session,
	[FA_MODEL_PROFILE] = &fa_predict_profile,
	[FA_MODEL_LSTM] = &fa_predict_lstm,
	[FA_MODEL_MIXTURE] = NULL,
};

/* Zeroed memory for n items. */
void *
fa_predict_alloc(FaFrame *frame, size_t n, size_t size)
{
	return fa_memory_alloc(&frame->memory, n, size);
}

/* A larger copy; what is added is zero.  The old block is released. */
void *
fa_predict_grow(FaFrame *frame, void *ptr, size_t old_n, size_t n, size_t size)
{
	return fa_memory_grow(&frame->memory, ptr, old_n, n, size);
}

void
fa_predict_free(FaFrame *frame, void *ptr)
{
	fa_memory_free(&frame->memory, ptr);
}

/* In the mixture. */
bool
fa_predict_model_on(const FaFrame *frame, int model)
{
	return frame->config.models == 0 ||
		(frame->config.models & (1u << model)) != 0;
}

/*
 * In the mixture, or at work because one that is builds on it: all on the
 * static model, Holt-Winters on the seasons found, the regression on levels
 * and slot means.
 */
bool
fa_predict_model_runs(const FaFrame *frame, int model)
{
	bool		pooled = fa_predict_model_on(frame, FA_MODEL_POOLED);

	return fa_predict_model_on(frame, model) || model == FA_MODEL_STATIC ||
		(model == FA_MODEL_RECENT && pooled) ||
		(model == FA_MODEL_SEASONAL &&
		 (pooled || fa_predict_model_on(frame, FA_MODEL_HOLT)));
}

/* The horizon whose weights a step so far ahead borrows. */
int
fa_predict_nearest_horizon(const FaFrame *frame, int64_t ahead)
{
	int			best = 0;
	int64_t		nearest = INT64_MAX;

	for (int h = 0; h < frame->config.nhorizons; h++)
	{
		int64_t		far = ahead - frame->config.horizons[h];

		far = far < 0 ? -far : far;
		if (far < nearest)
		{
			nearest = far;
			best = h;
		}
	}
	return best;
}

int
fa_predict_find_cell(const FaFragment *fr, int node)
{
	for (int i = 0; i < fr->ncells; i++)
	{
		if (fr->node[i] == node)
			return i;
	}
	return -1;
}

/* Position of a node's cell, made when it is new. */
int
fa_predict_add_cell(FaFrame *frame, int fragment, int node)
{
	FaFragment *fr = &frame->fragment[fragment];
	int			pos = fa_predict_find_cell(fr, node);

	if (pos >= 0)
		return pos;
	if (fr->ncells == fr->capacity)
	{
		int			n = fr->capacity ? fr->capacity * 2 : 2;
		int			old = fr->capacity;

		if (n > frame->nnodes)
			n = frame->nnodes;
		fr->node = fa_predict_grow(frame, fr->node, old, n, sizeof(int32_t));
		fr->y = fa_predict_grow(frame, fr->y, old, n, sizeof(double));
		fr->state = fa_predict_grow(frame, fr->state,
									(size_t) old * frame->cell_doubles,
									(size_t) n * frame->cell_doubles,
									sizeof(double));
		fr->capacity = n;
	}
	fr->node[fr->ncells] = node;
	return fr->ncells++;
}

/* No signal outweighs all others, whatever was counted. */
static void
tame(double *signal, size_t n)
{
	for (size_t i = 0; i < n; i++)
	{
		double		v = signal[i];

		signal[i] = v > MAX_SIGNAL ? MAX_SIGNAL :
			v < -MAX_SIGNAL ? -MAX_SIGNAL : v == v ? v : 0;
	}
}

/* The mixture's weights on the site signals, summed by model. */
static void
weigh_site(FaFrame *frame, int h)
{
	const double *w = frame->pool[h]->now.w[FA_MODEL_MIXTURE];
	double	   *all = frame->site_part[h] +
		(size_t) FA_MODEL_MIXTURE * frame->nnodes;

	memset(all, 0, sizeof(double) * frame->nnodes);
	for (int m = 0; m < FA_MODEL_MIXTURE; m++)
	{
		double	   *part = frame->site_part[h] + (size_t) m * frame->nnodes;

		for (int n = 0; n < frame->nnodes; n++)
		{
			const double *v = frame->site[h] + (size_t) n * frame->nsite;

			part[n] = 0;
			for (int k = 0; k < fa_predict_models[m]->nsite; k++)
				part[n] += w[frame->site_at[m] + k] * v[frame->site_at[m] + k];
			all[n] += part[n];
		}
	}
}

/* Site signals of every horizon's coming target. */
void
fa_predict_site(FaFrame *frame)
{
	for (int h = 0; h < frame->config.nhorizons; h++)
	{
		int64_t		target = frame->last_step + frame->config.horizons[h];

		fa_predict_site_at(frame, h, target);
		weigh_site(frame, h);
	}
}

/* Site signals of any target step, as view h. */
void
fa_predict_site_at(FaFrame *frame, int h, int64_t target)
{
	double	   *site = frame->site[h];

	for (int m = 0; m < FA_MODEL_MIXTURE; m++)
	{
		if (!fa_predict_model_runs(frame, m))
			continue;
		fa_predict_models[m]->site(frame, frame->model[m], h, target,
								   site + frame->site_at[m]);
	}
	tame(site, (size_t) frame->nnodes * frame->nsite);
}

/*
 * What the models say about a fragment at its horizon's coming target.  The
 * view's arrays are the frame's scratch, good until the next call.
 */
void
fa_predict_view(FaFrame *frame, int fragment, int h, FaView *view)
{
	fa_predict_view_at(frame, fragment, h,
					   frame->last_step + frame->config.horizons[h], view);
}

/* The same for any target step, after fa_predict_site_at() for that view. */
void
fa_predict_view_at(FaFrame *frame, int fragment, int h, int64_t target,
				   FaView *view)
{
	const FaFragment *fr = &frame->fragment[fragment];

	view->h = h;
	view->target = target;
	view->fragment = fragment;
	view->ncells = fr->ncells;
	view->local = frame->view_local;
	view->rate = frame->view_rate;
	view->base = frame->view_base;
	view->scratch = frame->view_scratch;
	memset(view->local, 0,
		   sizeof(double) * (size_t) (fr->ncells + 1) * frame->nlocal);
	memset(view->rate, 0, sizeof(double) * (size_t) fr->ncells * frame->nrate);
	view->base_rest = 0;
	view->base_total = 0;
	if (fr->ncells == 0)
		return;
	for (int i = 0; i < fr->ncells; i++)
		view->rate[(size_t) i * frame->nrate] = 1;
	for (int m = 0; m < FA_MODEL_MIXTURE; m++)
	{
		if (!fa_predict_model_runs(frame, m))
			continue;
		fa_predict_models[m]->fragment(frame, frame->model[m], view,
									   view->local + frame->local_at[m],
									   view->rate + frame->rate_at[m]);
	}
	tame(view->local, (size_t) (fr->ncells + 1) * frame->nlocal);
}
