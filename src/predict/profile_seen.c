/*
 * profile_seen.c
 *	  Accesses expected over the coming steps from the nodes that have used a
 *	  fragment.
 *
 * With many nodes, each fragment is used by few.  The others differ in their
 * site signals alone, so that a sum made once a step stands for them.
 */
#include <math.h>

#include "predict/pool.h"

int
fa_predictor_profile_seen(FaPredictor *p, int fragment, const int *ahead,
						  int n, int *node_p, double *rate_p,
						  double *evidence_p)
{
	FaFrame    *frame = &p->frame;
	const FaFragment *fr;

	*evidence_p = 0;
	if (!frame->started || fragment < 0 || fragment >= frame->nfragments ||
		n < 1 || n > FA_PREDICT_MAX_PROFILE ||
		frame->fragment[fragment].ncells == 0)
		return 0;
	fa_predict_profile_prepare(frame, ahead, n);
	fr = &frame->fragment[fragment];
	for (int c = 0; c < fr->ncells; c++)
		node_p[c] = fr->node[c];
	for (int i = 0; i < n; i++)
	{
		double	   *rate = rate_p + (size_t) i * fr->ncells;
		FaView		view;
		double		sum;

		fa_predict_view_at(frame, fragment, FA_PREDICT_MAX_HORIZONS + i,
						   frame->last_step + ahead[i], &view);
		sum = fa_predict_profile_sum(frame, &view, frame->profile_h[i]);
		view.h = frame->profile_h[i];	/* whose weights */
		fa_predict_pool_mix_seen(frame, &view, frame->profile_site +
								 (size_t) frame->nnodes * i,
								 frame->profile_top[i],
								 frame->profile_sum[i], rate);
		for (int c = 0; c < fr->ncells; c++)
			rate[c] *= sum;
	}
	*evidence_p = fa_predict_recent_evidence(frame,
											 frame->model[FA_MODEL_RECENT], fr);
	return fr->ncells;
}
