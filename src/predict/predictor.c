/*
 * predictor.c
 *	  The public face: create, observe, forecast.
 */
#include <math.h>
#include <string.h>

#include "predict/pool.h"

#define MAX_COUNT		1e15	/* a cell's; more is a broken counter */
#define MAX_STEP		(INT64_C(1) << 60)
#define MAX_HORIZON		1000000

const char *
fa_model_name(FaModel model)
{
	if (model == FA_MODEL_MIXTURE)
		return "mixture";
	if ((int) model < 0 || model > FA_MODEL_MIXTURE)
		return "unknown";
	return fa_predict_models[model]->name;
}

static void
alloc_scratch(FaFrame *frame)
{
	size_t		n = frame->nnodes;
	double	  **scratch[] = {&frame->view_local, &frame->view_rate,
		&frame->view_base, &frame->view_scratch, &frame->dense,
	&frame->site_scratch};
	size_t		size[] = {(n + 1) * frame->nlocal, n * frame->nrate, n + 1,
	4 * (n + 1), 8 * n, n * frame->nsite};

	for (int i = 0; i < 6; i++)
	{
		double	   *fresh = fa_predict_alloc(frame, size[i], sizeof(double));

		fa_predict_free(frame, *scratch[i]);
		*scratch[i] = fresh;
	}
}

static void
lay_columns(FaFrame *frame)
{
	frame->nrate = 1;			/* the constant */
	for (int m = 0; m < FA_MODEL_MIXTURE; m++)
	{
		const FaModelOps *ops = fa_predict_models[m];

		frame->cell_at[m] = frame->cell_doubles;
		frame->site_at[m] = frame->nsite;
		frame->local_at[m] = frame->nlocal;
		frame->rate_at[m] = frame->nrate;
		frame->cell_doubles += ops->cell_doubles;
		frame->nsite += ops->nsite;
		frame->nlocal += ops->nlocal;
		frame->nrate += ops->nrate;
	}
}

static void
clean_config(FaPredictorConfig *c)
{
	int			n = 0;

	if (c->nhorizons < 1)
		c->nhorizons = 1;
	if (c->nhorizons > FA_PREDICT_MAX_HORIZONS)
		c->nhorizons = FA_PREDICT_MAX_HORIZONS;
	for (; n < c->nhorizons; n++)
	{
		int			low = n > 0 ? c->horizons[n - 1] + 1 : 1;

		if (c->horizons[n] < low)
			c->horizons[n] = low;
		if (c->horizons[n] > MAX_HORIZON + n)
			c->horizons[n] = MAX_HORIZON + n;
	}
	for (; n < FA_PREDICT_MAX_HORIZONS; n++)
		c->horizons[n] = 0;
	if (c->max_season < 0)
		c->max_season = 0;
	if (c->max_season > 100000)
		c->max_season = 100000;
	if (!(c->forgetting > 0 && c->forgetting < 1))
		c->forgetting = 0;
	if (c->kept_bytes == 0)
		c->kept_bytes = (size_t) 64 << 20;
}

FaPredictor *
fa_predictor_create(const FaPredictorConfig *config, int nnodes,
					int nfragments, const FaAllocator *allocator)
{
	FaPredictor *p = allocator->alloc(allocator->arg, sizeof(FaPredictor));
	FaFrame    *frame = &p->frame;

	memset(p, 0, sizeof(*p));
	frame->load_until = -MAX_STEP;
	frame->memory.allocator = *allocator;
	frame->config = *config;
	clean_config(&frame->config);
	frame->nnodes = nnodes < 1 ? 1 : nnodes;
	frame->nfragments = nfragments < 1 ? 1 : nfragments;
	lay_columns(frame);
	alloc_scratch(frame);
	frame->fragment = fa_predict_alloc(frame, frame->nfragments,
									   sizeof(FaFragment));
	frame->known_buf = fa_predict_alloc(frame, frame->nnodes, sizeof(bool));
	frame->site_y = fa_predict_alloc(frame, frame->nnodes, sizeof(double));
	frame->prior = fa_predict_alloc(frame, frame->nnodes, sizeof(double));
	for (int n = 0; n < frame->nnodes; n++)
		frame->prior[n] = 1.0 / frame->nnodes;
	for (int m = 0; m < FA_MODEL_MIXTURE; m++)
		frame->model[m] = fa_predict_models[m]->create(frame);
	for (int h = 0; h < frame->config.nhorizons; h++)
	{
		frame->site[h] = fa_predict_alloc(frame, (size_t) frame->nnodes *
										  frame->nsite, sizeof(double));
		frame->site_part[h] = fa_predict_alloc(frame, (size_t) frame->nnodes *
											   FA_NMODELS, sizeof(double));
		frame->pool[h] = fa_predict_pool_create(frame);
		frame->rates[h] = fa_predict_rates_create(frame);
		frame->pending[h] = fa_predict_pending_create(frame, h);
	}
	return p;
}

void
fa_predictor_destroy(FaPredictor *p)
{
	FaAllocator allocator;

	if (p == NULL)
		return;
	allocator = p->frame.memory.allocator;
	fa_memory_free_all(&p->frame.memory);
	allocator.release(allocator.arg, p);
}

void
fa_predictor_resize(FaPredictor *p, int nnodes, int nfragments)
{
	FaFrame    *frame = &p->frame;
	int			old_n = frame->nnodes;
	int			old_f = frame->nfragments;

	if (nnodes < old_n)
		nnodes = old_n;
	if (nfragments < old_f)
		nfragments = old_f;
	if (nfragments > old_f)
		frame->fragment = fa_predict_grow(frame, frame->fragment, old_f,
										  nfragments, sizeof(FaFragment));
	if (nnodes > old_n)
	{
		/* kept forecasts know nothing of the new nodes: not to be scored */
		for (int h = 0; h < frame->config.nhorizons; h++)
			fa_predict_pending_drop(frame, h);
		frame->known_buf = fa_predict_grow(frame, frame->known_buf, old_n,
										   nnodes, sizeof(bool));
		frame->site_y = fa_predict_grow(frame, frame->site_y, old_n, nnodes,
										sizeof(double));
		frame->prior = fa_predict_grow(frame, frame->prior, old_n, nnodes,
									   sizeof(double));
		for (int h = 0; h < frame->config.nhorizons; h++)
		{
			frame->site[h] = fa_predict_grow(frame, frame->site[h],
											 (size_t) old_n * frame->nsite,
											 (size_t) nnodes * frame->nsite,
											 sizeof(double));
			frame->site_part[h] = fa_predict_grow(frame, frame->site_part[h],
												  (size_t) old_n * FA_NMODELS,
												  (size_t) nnodes * FA_NMODELS,
												  sizeof(double));
		}
	}
	frame->nnodes = nnodes;
	frame->nfragments = nfragments;
	if (nnodes > old_n)
		alloc_scratch(frame);
	for (int m = 0; m < FA_MODEL_MIXTURE; m++)
		fa_predict_models[m]->resize(frame, frame->model[m], old_n, old_f);
	if (frame->started)
		fa_predict_site(frame);
	else
		for (int n = 0; n < nnodes; n++)
			frame->prior[n] = 1.0 / nnodes;
}

/* Takes the step's cells in; new ones get a place. */
static void
take_cells(FaFrame *frame, int64_t step, const FaCell *cells, int ncells)
{
	memset(frame->site_y, 0, sizeof(double) * frame->nnodes);
	frame->site_total = 0;
	for (int i = 0; i < ncells; i++)
	{
		const FaCell *c = &cells[i];
		FaFragment *fr;
		double		y = c->count > MAX_COUNT ? MAX_COUNT : c->count;
		int			pos;

		if (c->node < 0 || c->node >= frame->nnodes || c->fragment < 0 ||
			c->fragment >= frame->nfragments || !isfinite(c->count) ||
			!(y > 0) || !frame->known[c->node])
			continue;
		fr = &frame->fragment[c->fragment];
		if (fr->ncells == 0)
		{
			if (frame->nactive == frame->active_capacity)
			{
				int			n = frame->nactive ? frame->nactive * 2 : 64;

				frame->active = fa_predict_grow(frame, frame->active,
												frame->nactive, n,
												sizeof(int32_t));
				frame->active_capacity = n;
			}
			fr->born = step;
			frame->active[frame->nactive++] = c->fragment;
		}
		pos = fa_predict_add_cell(frame, c->fragment, c->node);
		fr->y[pos] += y;
		fr->total += y;
		fr->accesses += y;
		frame->site_y[c->node] += y;
		frame->site_total += y;
	}
}

void
fa_predictor_load(FaPredictor *p, int64_t until)
{
	p->frame.load_until = until < MAX_STEP ? until : MAX_STEP;
}

/* Will more be done in this step than to count? */
static bool
learns(const FaFrame *frame, int64_t step)
{
	return step >= frame->load_until ||
		frame->load_until - step <= FA_PREDICT_LOAD_LEARNS;
}

bool
fa_predictor_observe(FaPredictor *p, int64_t step, const FaCell *cells,
					 int ncells, const bool *known)
{
	FaFrame    *frame = &p->frame;
	int			nh = frame->config.nhorizons;

	if (step > MAX_STEP || step < -MAX_STEP ||
		(frame->started && step <= frame->last_step))
		return false;
	if (known == NULL)
	{
		for (int n = 0; n < frame->nnodes; n++)
			frame->known_buf[n] = true;
	}
	else
		memcpy(frame->known_buf, known, sizeof(bool) * frame->nnodes);
	frame->known = frame->known_buf;
	if (!frame->started)
		frame->first_step = step;
	else if (step > frame->last_step + 1)
	{
		for (int m = 0; m < FA_MODEL_MIXTURE; m++)
			fa_predict_models[m]->skip(frame, frame->model[m],
									   step - frame->last_step - 1);
	}
	frame->step = step;
	frame->learning = learns(frame, step);
	take_cells(frame, step, cells, ncells);
	for (int h = 0; h < nh; h++)
		fa_predict_pending_settle(frame, h);
	for (int m = 0; m < FA_MODEL_MIXTURE && frame->started; m++)
	{
		if (fa_predict_models[m]->judge != NULL && fa_predict_model_runs(frame, m))
			fa_predict_models[m]->judge(frame, frame->model[m]);
	}
	for (int m = 0; m < FA_MODEL_MIXTURE; m++)
	{
		if (fa_predict_model_runs(frame, m))
			fa_predict_models[m]->observe(frame, frame->model[m]);
	}
	frame->last_step = step;
	frame->started = true;
	frame->nsteps++;
	for (int i = 0; i < frame->nactive; i++)
	{
		FaFragment *fr = &frame->fragment[frame->active[i]];

		memset(fr->y, 0, sizeof(double) * fr->ncells);
		fr->total = 0;
	}
	if (!frame->learning)
		return true;
	fa_predict_site(frame);
	for (int m = 0; m < FA_MODEL_MIXTURE; m++)
	{
		if (fa_predict_models[m]->advance != NULL && fa_predict_model_on(frame, m))
			fa_predict_models[m]->advance(frame, frame->model[m]);
	}
	for (int h = 0; h < nh; h++)
		fa_predict_pending_keep(frame, h);
	return true;
}

void
fa_predictor_expect(FaPredictor *p, int64_t step, const FaCell *cells,
					int ncells)
{
	if (learns(&p->frame, step))
		fa_predict_session_tell(&p->frame, p->frame.model[FA_MODEL_SESSION],
								step, cells, ncells);
}

void
fa_predictor_use(FaPredictor *p, int64_t step, const FaProfileUse *use, int n)
{
	if (learns(&p->frame, step))
		fa_predict_profile_tell(&p->frame, p->frame.model[FA_MODEL_PROFILE],
								step, use, n);
}

void
fa_predictor_train(FaPredictor *p, int fragments)
{
	fa_predict_lstm_train(p->frame.model[FA_MODEL_LSTM], fragments);
}

void
fa_predictor_reset_network(FaPredictor *p)
{
	fa_predict_lstm_reset(&p->frame, p->frame.model[FA_MODEL_LSTM]);
}

/* Which part of the log odds each model carries; sums to 1. */
static void
share_weights(FaFrame *frame, const FaView *view, const double *p,
			  double *weight)
{
	const double *w = frame->pool[view->h]->now.w[FA_MODEL_MIXTURE];
	const FaFragment *fr = &frame->fragment[view->fragment];
	double	   *logit = frame->dense + 4 * (size_t) frame->nnodes;
	double		all = 0;

	for (int m = 0; m < FA_MODEL_MIXTURE; m++)
	{
		const FaModelOps *ops = fa_predict_models[m];
		const double *part = frame->site_part[view->h] +
			(size_t) m * frame->nnodes;
		double		mean = 0;

		for (int i = view->ncells; i >= 0; i--)
		{
			const double *x = view->local + (size_t) i * frame->nlocal +
				frame->local_at[m];
			double		v = 0;

			for (int k = 0; k < ops->nlocal; k++)
				v += w[frame->nsite + frame->local_at[m] + k] * x[k];
			if (i < view->ncells)
				logit[fr->node[i]] = v + part[fr->node[i]];
			else
			{
				for (int n = 0; n < frame->nnodes; n++)
					logit[n] = v + part[n];
			}
		}
		for (int n = 0; n < frame->nnodes; n++)
			mean += p[n] * logit[n];
		weight[m] = 0;
		for (int n = 0; n < frame->nnodes; n++)
			weight[m] += p[n] * fabs(logit[n] - mean);
		all += weight[m];
	}
	for (int m = 0; m < FA_MODEL_MIXTURE; m++)
		weight[m] = all > 1e-12 ? weight[m] / all : m == FA_MODEL_STATIC;
	weight[FA_MODEL_MIXTURE] = 0;
}

static void
forecast_rates(FaFrame *frame, const FaView *view, FaForecast *out)
{
	const FaFragment *fr = &frame->fragment[view->fragment];
	FaRates    *rates = frame->rates[view->h];
	double		seen = 0;
	double		sum = 0;

	for (int i = 0; i < view->ncells; i++)
	{
		int			n = fr->node[i];
		double		typical;

		typical = fa_predict_rates_typical(frame, rates->now.w[FA_MODEL_MIXTURE],
										   view->rate + (size_t) i * frame->nrate);
		fa_predict_rates_expand(rates, typical, &out->expected_rate[n],
								&out->access_probability[n]);
		if (out->typical_rate != NULL)
			out->typical_rate[n] = typical;
		seen += out->affinity[n];
		sum += out->expected_rate[n];
	}
	/* a node never seen gets what its affinity says of the others' rate */
	for (int n = 0; n < frame->nnodes; n++)
	{
		double		rate;

		if (out->expected_rate[n] >= 0)
			continue;
		rate = seen > 0 ? out->affinity[n] * sum / seen : 0;
		if (rate > 1e-3 * sum)
			rate = 1e-3 * sum;
		out->expected_rate[n] = rate;
		out->access_probability[n] = -expm1(-rate);
		if (out->typical_rate != NULL)
			out->typical_rate[n] = rate;
	}
}

void
fa_predictor_forecast(FaPredictor *p, int fragment, int h, FaForecast *out)
{
	FaFrame    *frame = &p->frame;
	const FaFragment *fr;
	FaView		view;
	double		shrink;

	if (h < 0)
		h = 0;
	if (h >= frame->config.nhorizons)
		h = frame->config.nhorizons - 1;
	memset(out->weight, 0, sizeof(out->weight));
	out->evidence = 0;
	for (int n = 0; n < frame->nnodes; n++)
	{
		out->affinity[n] = frame->prior[n];
		out->access_probability[n] = 0;
		out->expected_rate[n] = -1;
	}
	out->weight[FA_MODEL_STATIC] = 1;
	if (!frame->started || fragment < 0 || fragment >= frame->nfragments)
	{
		memset(out->expected_rate, 0, sizeof(double) * frame->nnodes);
		if (out->typical_rate != NULL)
			memset(out->typical_rate, 0, sizeof(double) * frame->nnodes);
		return;
	}
	fr = &frame->fragment[fragment];
	fa_predict_view(frame, fragment, h, &view);
	shrink = fa_predict_pool_mix(frame, &view, frame->site_part[h] +
								 (size_t) FA_MODEL_MIXTURE * frame->nnodes,
								 out->affinity);
	share_weights(frame, &view, out->affinity, out->weight);
	for (int m = 0; m < FA_MODEL_MIXTURE; m++)
		out->weight[m] += shrink * ((m == FA_MODEL_STATIC) - out->weight[m]);
	forecast_rates(frame, &view, out);
	out->evidence = fa_predict_recent_evidence(frame,
											   frame->model[FA_MODEL_RECENT], fr);
}

void
fa_predictor_take_score(FaPredictor *p, int h, FaModel model, FaScore *out)
{
	FaScore    *s;
	double	   *to = (double *) out;
	double	   *from;

	if (h < 0 || h >= p->frame.config.nhorizons || (int) model < 0 ||
		model >= FA_NMODELS)
		return;
	s = &p->frame.score[h][model];
	from = (double *) s;
	for (size_t i = 0; i < sizeof(FaScore) / sizeof(double); i++)
		to[i] += from[i];
	memset(s, 0, sizeof(*s));
}

int
fa_predictor_seasons(const FaPredictor *p, int *seasons, int max)
{
	return fa_predict_seasonal_list(&p->frame,
									p->frame.model[FA_MODEL_SEASONAL],
									seasons, max);
}

size_t
fa_predictor_memory(const FaPredictor *p)
{
	return sizeof(*p) + p->frame.memory.size;
}
