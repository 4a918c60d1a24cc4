/*
 * profile.c
 *	  The course of a fragment's accesses over the coming steps.
 *
 * Models forecast any step; weights are learned for the horizons only, so a
 * step in between borrows those of the nearest one.  A node's rate is its
 * share of the fragment's: the shares are the better forecast of the two.
 */
#include <string.h>

#include "predict/pool.h"

/* Site signals are the same for every fragment: made once for all. */
void
fa_predict_profile_prepare(FaFrame *frame, const int *ahead, int n)
{
	bool		same_nodes = frame->profile_nnodes == frame->nnodes;

	if (frame->profile_n == n && same_nodes &&
		frame->profile_step == frame->last_step &&
		memcmp(frame->profile_ahead, ahead, sizeof(int) * n) == 0)
		return;
	if (!same_nodes)
	{
		double	   *old = frame->profile_site;

		frame->profile_site = NULL;
		fa_predict_free(frame, old);
		frame->profile_site = fa_predict_alloc(frame, (size_t) frame->nnodes *
											   FA_PREDICT_MAX_PROFILE,
											   sizeof(double));
	}
	frame->profile_n = 0;
	for (int i = 0; i < n; i++)
	{
		int			v = FA_PREDICT_MAX_HORIZONS + i;
		int			h = fa_predict_nearest_horizon(frame, ahead[i]);

		if (!same_nodes || frame->site[v] == NULL)
		{
			double	   *old = frame->site[v];

			frame->site[v] = NULL;
			fa_predict_free(frame, old);
			frame->site[v] = fa_predict_alloc(frame, (size_t) frame->nnodes *
											  frame->nsite, sizeof(double));
		}
		fa_predict_site_at(frame, v, frame->last_step + ahead[i]);
		fa_predict_pool_site(frame, frame->pool[h]->now.w[FA_MODEL_MIXTURE],
							 frame->site[v],
							 frame->profile_site + (size_t) frame->nnodes * i);
		frame->profile_h[i] = h;
		frame->profile_sum[i] =
			fa_predict_pool_total(frame, frame->profile_site +
								  (size_t) frame->nnodes * i,
								  &frame->profile_top[i]);
	}
	for (int i = n; !same_nodes && i < FA_PREDICT_MAX_PROFILE; i++)
	{
		double	   *old = frame->site[FA_PREDICT_MAX_HORIZONS + i];

		frame->site[FA_PREDICT_MAX_HORIZONS + i] = NULL;
		fa_predict_free(frame, old);
	}
	memcpy(frame->profile_ahead, ahead, sizeof(int) * n);
	frame->profile_n = n;
	frame->profile_nnodes = frame->nnodes;
	frame->profile_step = frame->last_step;
}

/* Accesses expected in the view's step from all nodes. */
double
fa_predict_profile_sum(FaFrame *frame, const FaView *view, int h)
{
	FaRates    *rates = frame->rates[h];
	double		sum = 0;

	for (int c = 0; c < view->ncells; c++)
	{
		double		expected;
		double		probability;
		double		typical;

		typical = fa_predict_rates_typical(frame, rates->now.w[FA_MODEL_MIXTURE],
										   view->rate + (size_t) c * frame->nrate);
		fa_predict_rates_expand(rates, typical, &expected, &probability);
		sum += expected;
	}
	return sum;
}

double
fa_predictor_profile(FaPredictor *p, int fragment, const int *ahead, int n,
					 double *rate_p)
{
	FaFrame    *frame = &p->frame;
	const FaFragment *fr;

	if (!frame->started || fragment < 0 || fragment >= frame->nfragments ||
		n < 1 || n > FA_PREDICT_MAX_PROFILE ||
		frame->fragment[fragment].ncells == 0)
	{
		for (int i = 0; i < n * frame->nnodes; i++)
			rate_p[i] = 0;
		return 0;
	}
	fa_predict_profile_prepare(frame, ahead, n);
	fr = &frame->fragment[fragment];
	for (int i = 0; i < n; i++)
	{
		int			h = fa_predict_nearest_horizon(frame, ahead[i]);
		double	   *rate = rate_p + (size_t) i * frame->nnodes;
		FaView		view;
		double		sum;

		fa_predict_view_at(frame, fragment, FA_PREDICT_MAX_HORIZONS + i,
						   frame->last_step + ahead[i], &view);
		sum = fa_predict_profile_sum(frame, &view, h);
		view.h = h;				/* whose weights */
		fa_predict_pool_mix(frame, &view, frame->profile_site +
							(size_t) frame->nnodes * i, rate);
		for (int k = 0; k < frame->nnodes; k++)
			rate[k] *= sum;
	}
	return fa_predict_recent_evidence(frame, frame->model[FA_MODEL_RECENT], fr);
}
