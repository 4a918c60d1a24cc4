/*
 * expected.c
 *	  Accesses expected of the coming step, as signals.
 *
 * A share is a mean of what is expected and of the long run, the latter
 * weighing as much as BELIEF accesses; the signal is how far the expectation
 * takes it from the long run.  Nothing expected says nothing.
 */
#include <math.h>

#include "predict/expected.h"

#define BELIEF			1.0		/* accesses' worth of the long-run shares */
#define SITE_BELIEF		4.0
#define MOST_AHEAD		8		/* steps; farther on, sessions say nothing */
#define LEAST_NEW		0.1		/* accesses expected, to make a cell */

void
fa_expected_create(FaFrame *frame, FaExpected *e, int model)
{
	e->model = model;
	e->site = fa_predict_alloc(frame, frame->nnodes, sizeof(double));
}

void
fa_expected_resize(FaFrame *frame, FaExpected *e, int old_nnodes)
{
	if (frame->nnodes > old_nnodes)
		e->site = fa_predict_grow(frame, e->site, old_nnodes, frame->nnodes,
								  sizeof(double));
}

void
fa_expected_clear(FaFrame *frame, FaExpected *e, bool fresh)
{
	for (int i = 0; i < e->nset; i++)
	{
		FaFragment *fr = &frame->fragment[e->set[i].fragment];
		int			c = fa_predict_find_cell(fr, e->set[i].node);

		if (c >= 0)
			*fa_predict_cell(frame, fr, c, e->model) = 0;
	}
	e->nset = 0;
	e->total = 0;
	for (int n = 0; n < frame->nnodes; n++)
		e->site[n] = 0;
	e->fresh = fresh;
}

void
fa_expected_add(FaFrame *frame, FaExpected *e, int fragment, int node,
				double accesses)
{
	FaFragment *fr = &frame->fragment[fragment];
	double	   *v;
	int			c;

	if (fr->ncells == 0 || !(accesses > 0))
		return;
	e->site[node] += accesses;
	e->total += accesses;
	c = fa_predict_find_cell(fr, node);
	if (c < 0 && accesses < LEAST_NEW)
		return;
	if (c < 0)
		c = fa_predict_add_cell(frame, fragment, node);
	v = fa_predict_cell(frame, fr, c, e->model);
	if (*v == 0)
	{
		if (e->nset == e->capacity)
		{
			int			n = e->capacity ? e->capacity * 2 : 64;

			e->set = fa_predict_grow(frame, e->set, e->nset, n,
									 sizeof(FaCell));
			e->capacity = n;
		}
		e->set[e->nset++] = (FaCell) {.node = node,.fragment = fragment};
	}
	*v += accesses;
}

static bool
speaks(const FaFrame *frame, const FaExpected *e, int64_t target)
{
	return e->fresh && target - frame->last_step <= MOST_AHEAD;
}

void
fa_expected_site(const FaFrame *frame, const FaExpected *e, int h,
				 int64_t target, double *signal)
{
	(void) h;
	for (int n = 0; n < frame->nnodes; n++)
		signal[(size_t) n * frame->nsite] = !speaks(frame, e, target) ? 0 :
			log((e->site[n] / frame->prior[n] + SITE_BELIEF) /
				(e->total + SITE_BELIEF));
}

void
fa_expected_fragment(const FaFrame *frame, const FaExpected *e,
					 const FaView *view, double *local, double *rate)
{
	const FaFragment *fr = &frame->fragment[view->fragment];
	double		total = 0;

	if (!speaks(frame, e, view->target))
		return;
	for (int c = 0; c < view->ncells; c++)
		total += *fa_predict_cell(frame, fr, c, e->model);
	for (int c = 0; c <= view->ncells; c++)
	{
		double		v = c < view->ncells ?
			*fa_predict_cell(frame, fr, c, e->model) : 0;
		double		share = c < view->ncells ?
			view->base[c] / view->base_total : 1;

		local[(size_t) c * frame->nlocal] =
			log((v / share + BELIEF) / (total + BELIEF));
		if (c == view->ncells)
			break;
		rate[(size_t) c * frame->nrate] = fa_predict_ln1p(v);
		rate[(size_t) c * frame->nrate + 1] = fa_predict_ln1p(total);
	}
}

/* The cells' numbers are archived with the cells. */
void
fa_expected_archive(FaFrame *frame, FaExpected *e, FaArchive *ar)
{
	uint32_t	fresh = e->fresh;
	int32_t		nset = e->nset;

	fa_predict_ar_u32(ar, &fresh);
	fa_predict_ar_double(ar, &e->total);
	fa_predict_ar_doubles(ar, e->site, frame->nnodes);
	fa_predict_ar_i32(ar, &nset);
	if (nset < 0 || e->total < 0 || !fa_predict_ar_room(ar, nset, 8))
	{
		ar->failed = true;
		return;
	}
	if (ar->reading)
	{
		e->fresh = fresh != 0;
		e->set = fa_predict_alloc(frame, nset, sizeof(FaCell));
		e->capacity = e->nset = nset;
	}
	for (int i = 0; i < nset && !ar->failed; i++)
	{
		fa_predict_ar_i32(ar, &e->set[i].fragment);
		fa_predict_ar_i32(ar, &e->set[i].node);
		if (e->set[i].fragment < 0 || e->set[i].node < 0 ||
			e->set[i].fragment >= frame->nfragments ||
			e->set[i].node >= frame->nnodes)
			ar->failed = true;
	}
	for (int n = 0; n < frame->nnodes && ar->reading; n++)
	{
		if (e->site[n] < 0)
			ar->failed = true;
	}
}
