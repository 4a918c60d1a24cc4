/*
 * model_session.c
 *	  What the open sessions are expected to access next.
 *
 * The expectation is made elsewhere (sessions.c), where the sessions are: on
 * each node for its own clients.  Here it is a model like the others, so that
 * the mixture learns what it is worth beside the series.
 */
#include <string.h>

#include "predict/expected.h"

typedef struct Session
{
	FaExpected	expected;
	/* told for the step that will be observed next; not kept in a state */
	bool		told;
	int64_t		step;
	int			ncells;
	int			capacity;
	FaCell	   *cell;
} Session;

static const double start[] = {0.3};
static const double rate_start[FA_EXPECTED_RATES] = {0};

static void *
session_create(FaFrame *frame)
{
	Session    *s = fa_predict_alloc(frame, 1, sizeof(Session));

	fa_expected_create(frame, &s->expected, FA_MODEL_SESSION);
	return s;
}

static void
session_resize(FaFrame *frame, void *model, int old_nnodes, int old_nfragments)
{
	Session    *s = model;

	(void) old_nfragments;
	fa_expected_resize(frame, &s->expected, old_nnodes);
}

static void
session_skip(FaFrame *frame, void *model, int64_t steps)
{
	(void) frame;
	(void) model;
	(void) steps;
}

void
fa_predict_session_tell(FaFrame *frame, void *model, int64_t step,
						const FaCell *cells, int ncells)
{
	Session    *s = model;

	if (s->told && s->step != step)
		s->ncells = 0;
	s->told = true;
	s->step = step;
	if (s->ncells + ncells > s->capacity)
	{
		int			n = s->ncells + ncells + s->capacity;

		s->cell = fa_predict_grow(frame, s->cell, s->ncells, n, sizeof(FaCell));
		s->capacity = n;
	}
	if (ncells > 0)
		memcpy(s->cell + s->ncells, cells, sizeof(FaCell) * ncells);
	s->ncells += ncells;
}

static void
session_observe(FaFrame *frame, void *model)
{
	Session    *s = model;
	bool		fresh = s->told && s->step == frame->step;

	fa_expected_clear(frame, &s->expected, fresh);
	for (int i = 0; i < s->ncells && fresh; i++)
	{
		const FaCell *c = &s->cell[i];

		if (c->node >= 0 && c->node < frame->nnodes && c->fragment >= 0 &&
			c->fragment < frame->nfragments && c->count < 1e12)
			fa_expected_add(frame, &s->expected, c->fragment, c->node, c->count);
	}
	s->told = false;
	s->ncells = 0;
}

static void
session_site(FaFrame *frame, void *model, int h, int64_t target,
			 double *signal)
{
	Session    *s = model;

	fa_expected_site(frame, &s->expected, h, target, signal);
}

static void
session_fragment(FaFrame *frame, void *model, FaView *view, double *local,
				 double *rate)
{
	Session    *s = model;

	fa_expected_fragment(frame, &s->expected, view, local, rate);
}

static void
session_archive(FaFrame *frame, void *model, FaArchive *ar)
{
	Session    *s = model;

	fa_expected_archive(frame, &s->expected, ar);
}

const FaModelOps fa_predict_session = {
	.name = "session",
	.cell_doubles = 1,
	.nsite = 1,
	.nlocal = 1,
	.nrate = FA_EXPECTED_RATES,
	.site_start = start,
	.local_start = start,
	.rate_start = rate_start,
	.create = session_create,
	.resize = session_resize,
	.skip = session_skip,
	.observe = session_observe,
	.site = session_site,
	.fragment = session_fragment,
	.archive = session_archive,
};
