/*
 * state.c
 *	  The whole predictor as a byte string, and back.
 *
 * Layout: magic "FAPR", version, length, configuration, sizes, fragments and
 * their cells, models, pools, kept forecasts, checksum (FNV-1a, 64 bits).  Big
 * endian; doubles are stored exactly, so a restored predictor goes on as the
 * saved one would have.  Raise VERSION whenever the content of a part or the
 * list of models or signals changes; an older state is then refused and the
 * caller learns again from the recorded history.
 */
#include <string.h>

#include "predict/pool.h"

#define MAGIC			0x46415052u
#define VERSION			4u

static void
archive_config(FaPredictorConfig *c, FaArchive *ar)
{
	int64_t		seed = (int64_t) c->seed;
	int64_t		kept = (int64_t) c->kept_bytes;

	fa_predict_ar_i32(ar, &c->nhorizons);
	for (int h = 0; h < FA_PREDICT_MAX_HORIZONS; h++)
		fa_predict_ar_i32(ar, &c->horizons[h]);
	fa_predict_ar_i32(ar, &c->max_season);
	fa_predict_ar_double(ar, &c->forgetting);
	fa_predict_ar_i64(ar, &seed);
	fa_predict_ar_i64(ar, &kept);
	fa_predict_ar_u32(ar, &c->models);
	c->seed = (uint64_t) seed;
	c->kept_bytes = (size_t) kept;
}

static void
archive_fragment(FaFrame *frame, int32_t f, FaArchive *ar)
{
	FaFragment *fr = &frame->fragment[f];
	int32_t		ncells = fr->ncells;

	fa_predict_ar_i64(ar, &fr->born);
	fa_predict_ar_double(ar, &fr->accesses);
	fa_predict_ar_i32(ar, &ncells);
	if (ncells < 1 || ncells > frame->nnodes || fr->born < frame->first_step ||
		fr->born > frame->last_step)
		ar->failed = true;
	for (int c = 0; c < ncells && !ar->failed; c++)
	{
		int32_t		node = ar->reading ? 0 : fr->node[c];

		fa_predict_ar_i32(ar, &node);
		if (node < 0 || node >= frame->nnodes ||
			!fa_predict_ar_room(ar, frame->cell_doubles, 8))
		{
			ar->failed = true;
			return;
		}
		if (ar->reading && fa_predict_add_cell(frame, f, node) != c)
		{
			ar->failed = true;	/* the same node twice */
			return;
		}
		fa_predict_ar_doubles(ar, fr->state + (size_t) c * frame->cell_doubles,
							  frame->cell_doubles);
		for (int k = 0; k < frame->cell_doubles && ar->reading; k++)
		{
			if (fr->state[(size_t) c * frame->cell_doubles + k] < 0)
				ar->failed = true;
		}
	}
}

static void
archive_frame(FaFrame *frame, FaArchive *ar)
{
	int32_t		nactive = frame->nactive;
	uint32_t	started = frame->started;

	fa_predict_ar_u32(ar, &started);
	frame->started = started != 0;
	fa_predict_ar_i64(ar, &frame->first_step);
	fa_predict_ar_i64(ar, &frame->last_step);
	fa_predict_ar_double(ar, &frame->nsteps);
	fa_predict_ar_i32(ar, &nactive);
	if (nactive < 0 || nactive > frame->nfragments ||
		frame->last_step < frame->first_step ||
		frame->last_step > (INT64_C(1) << 60) ||
		frame->first_step < -(INT64_C(1) << 60))
		ar->failed = true;
	if (ar->failed || !fa_predict_ar_room(ar, nactive, 24))
		return;
	if (ar->reading)
	{
		frame->active = fa_predict_alloc(frame, nactive, sizeof(int32_t));
		frame->active_capacity = nactive ? nactive : 1;
	}
	for (int i = 0; i < nactive && !ar->failed; i++)
	{
		int32_t		f = ar->reading ? 0 : frame->active[i];

		fa_predict_ar_i32(ar, &f);
		if (f < 0 || f >= frame->nfragments ||
			(ar->reading && frame->fragment[f].ncells > 0))
		{
			ar->failed = true;
			return;
		}
		if (ar->reading)
		{
			frame->active[i] = f;
			frame->nactive = i + 1;
		}
		archive_fragment(frame, f, ar);
	}
	for (int m = 0; m < FA_MODEL_MIXTURE && !ar->failed; m++)
		fa_predict_models[m]->archive(frame, frame->model[m], ar);
	for (int h = 0; h < frame->config.nhorizons && !ar->failed; h++)
	{
		fa_predict_pool_archive(frame, frame->pool[h], ar);
		fa_predict_rates_archive(frame, frame->rates[h], ar);
		fa_predict_pending_archive(frame, h, ar);
		for (int m = 0; m < FA_NMODELS; m++)
			fa_predict_ar_doubles(ar, (double *) &frame->score[h][m],
								  sizeof(FaScore) / sizeof(double));
	}
}

static void
archive_predictor(void *of, FaArchive *ar)
{
	FaFrame    *frame = of;
	int32_t		nnodes = frame->nnodes;
	int32_t		nfragments = frame->nfragments;

	archive_config(&frame->config, ar);
	fa_predict_ar_i32(ar, &nnodes);
	fa_predict_ar_i32(ar, &nfragments);
	archive_frame(frame, ar);
}

size_t
fa_predictor_save(const FaPredictor *p, void *buf, size_t size)
{
	/* writing changes nothing in the frame; reading shares the code */
	return fa_predict_ar_save(MAGIC, VERSION, archive_predictor,
							  (FaFrame *) &p->frame, buf, size);
}

FaPredictor *
fa_predictor_restore(const void *buf, size_t size, const FaAllocator *allocator)
{
	FaArchive	ar;
	FaPredictorConfig config;
	FaPredictor *p;
	int32_t		nnodes = 0;
	int32_t		nfragments = 0;

	if (!fa_predict_ar_open(&ar, MAGIC, VERSION, buf, size))
		return NULL;
	memset(&config, 0, sizeof(config));
	archive_config(&config, &ar);
	fa_predict_ar_i32(&ar, &nnodes);
	fa_predict_ar_i32(&ar, &nfragments);

	/* the nodes' tables follow; fragments never touched leave no bytes */
	if (ar.failed || nnodes < 1 || nfragments < 1 ||
		!fa_predict_ar_room(&ar, nnodes, 16) || nfragments > 100000000 ||
		config.nhorizons < 1 || config.nhorizons > FA_PREDICT_MAX_HORIZONS ||
		config.max_season < 0 || config.max_season > 100000)
		return NULL;
	p = fa_predictor_create(&config, nnodes, nfragments, allocator);
	archive_frame(&p->frame, &ar);
	if (ar.failed || ar.at != ar.size)
	{
		fa_predictor_destroy(p);
		return NULL;
	}
	if (p->frame.started)
		fa_predict_site(&p->frame);
	return p;
}
