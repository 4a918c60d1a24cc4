/*
 * history.c
 *	  What the seasonal model must remember: cells, to fill the slots of a
 *	  season when it is found, and a few aggregate series, to find it.
 *
 * The series are the total, the nodes' totals and some random mixes of all
 * cells (each with a random sign), which show a season in which load only
 * changes places.  Where many fragments have their season at different times, all
 * of these are flat: so the busiest fragments are looked at one by one, too,
 * each by the node that uses it most.
 */
#include <math.h>
#include <string.h>

#include "predict/history.h"

#define MAX_CELLS		((int64_t) 2 << 20)
#define MAX_STEPS		40000

static uint64_t
hash_cell(uint64_t seed, int fragment, int node)
{
	uint64_t	x = seed + (uint64_t) (uint32_t) fragment *
		UINT64_C(0x9E3779B97F4A7C15) + (uint64_t) (uint32_t) node *
		UINT64_C(0xD1B54A32D192ED03);

	x ^= x >> 31;
	x *= UINT64_C(0xBF58476D1CE4E5B9);
	x ^= x >> 27;
	x *= UINT64_C(0x94D049BB133111EB);
	return x ^ x >> 31;
}

static int64_t
series_steps(const FaFrame *frame)
{
	int64_t		n = 8 * (int64_t) frame->config.max_season;

	return n < 64 ? 64 : n > MAX_STEPS ? MAX_STEPS : n;
}

static void
drop_step(FaHistory *hist)
{
	FaHistoryStep *s = &hist->step[hist->step_first];

	hist->cell_first = (hist->cell_first + s->ncells) % hist->cell_capacity;
	hist->ncells -= s->ncells;
	hist->step_first = (hist->step_first + 1) % hist->step_capacity;
	hist->nsteps--;
}

/* A larger ring with the same contents from index 0. */
static void *
grow_ring(FaFrame *frame, void *ring, int64_t first, int64_t n,
		  int64_t capacity, int64_t to, size_t size)
{
	char	   *fresh = fa_predict_alloc(frame, to, size);
	int64_t		tail = capacity - first < n ? capacity - first : n;

	if (ring != NULL)
	{
		memcpy(fresh, (char *) ring + first * size, tail * size);
		memcpy(fresh + tail * size, ring, (n - tail) * size);
		fa_predict_free(frame, ring);
	}
	return fresh;
}

static void
push_cell(FaFrame *frame, FaHistory *hist, int fragment, int node, double y)
{
	FaHistoryCell *c;

	if (hist->ncells == hist->cell_capacity)
	{
		int64_t		to = hist->cell_capacity ? hist->cell_capacity * 2 : 1024;

		hist->cell = grow_ring(frame, hist->cell, hist->cell_first,
							   hist->ncells, hist->cell_capacity, to,
							   sizeof(FaHistoryCell));
		hist->cell_capacity = to;
		hist->cell_first = 0;
	}
	c = &hist->cell[(hist->cell_first + hist->ncells++) % hist->cell_capacity];
	c->fragment = fragment;
	c->node = node;
	c->count = (float) y;
}

static void
add_cells(FaFrame *frame, FaHistory *hist)
{
	int64_t		before;

	while (hist->nsteps > 0 &&
		   (hist->ncells > MAX_CELLS || hist->nsteps >= series_steps(frame)))
		drop_step(hist);
	before = hist->ncells;
	for (int n = 0; n < frame->nnodes; n++)
	{
		if (!frame->known[n])
			push_cell(frame, hist, -1, n, 0);
	}
	for (int i = 0; i < frame->nactive && frame->site_total > 0; i++)
	{
		const FaFragment *fr = &frame->fragment[frame->active[i]];

		for (int c = 0; c < fr->ncells && fr->total > 0; c++)
		{
			if (fr->y[c] > 0)
				push_cell(frame, hist, frame->active[i], fr->node[c], fr->y[c]);
		}
	}
	if (hist->nsteps == hist->step_capacity)
	{
		int64_t		to = hist->step_capacity ? hist->step_capacity * 2 : 64;

		hist->step = grow_ring(frame, hist->step, hist->step_first,
							   hist->nsteps, hist->step_capacity, to,
							   sizeof(FaHistoryStep));
		hist->step_capacity = to;
		hist->step_first = 0;
	}
	hist->step[(hist->step_first + hist->nsteps++) % hist->step_capacity] =
		(FaHistoryStep) {frame->step, hist->ncells - before};
}

static void
add_series(FaFrame *frame, FaHistory *hist)
{
	int64_t		n = series_steps(frame);
	float	   *v = NULL;
	double		mix[FA_SERIES_MIXES] = {0};
	double		node[FA_SERIES_NODES] = {0};
	bool		unknown[FA_SERIES_NODES] = {false};
	bool		some = false;

	if (hist->series == NULL)
	{
		hist->series = fa_predict_alloc(frame, (size_t) n * FA_SERIES,
										sizeof(float));
		hist->series_capacity = n;
		hist->series_end = frame->step;
	}
	if (frame->step - hist->series_end > n)
	{
		hist->nseries = 0;
		hist->series_end = frame->step;
	}
	for (; hist->series_end <= frame->step; hist->series_end++)
	{
		int64_t		at = hist->series_end % n;

		v = hist->series + (at < 0 ? at + n : at) * FA_SERIES;
		for (int s = 0; s < FA_SERIES; s++)
			v[s] = FA_SERIES_UNKNOWN;
		if (hist->nseries < n)
			hist->nseries++;
	}
	for (int i = 0; i < frame->nnodes; i++)
	{
		node[i % FA_SERIES_NODES] += frame->site_y[i];
		if (!frame->known[i])
			some = unknown[i % FA_SERIES_NODES] = true;
	}
	if (v == NULL)
		return;
	for (int i = 0; i < FA_SERIES_NODES && i < frame->nnodes; i++)
	{
		if (!unknown[i])
			v[1 + i] = (float) log1p(node[i]);
	}
	if (some)
		return;
	v[0] = (float) log1p(frame->site_total);
	for (int i = 0; i < frame->nactive && frame->site_total > 0; i++)
	{
		const FaFragment *fr = &frame->fragment[frame->active[i]];

		for (int c = 0; c < fr->ncells && fr->total > 0; c++)
		{
			uint64_t	bits = hash_cell(frame->config.seed, frame->active[i],
										 fr->node[c]);
			double		y = fr->y[c] > 0 ? log1p(fr->y[c]) : 0;

			for (int m = 0; m < FA_SERIES_MIXES && y > 0; m++)
				mix[m] += bits >> m & 1 ? y : -y;
		}
	}
	for (int m = 0; m < FA_SERIES_MIXES; m++)
		v[1 + FA_SERIES_NODES + m] = (float) mix[m];
}

/* Keeps the frame's current step. */
void
fa_predict_history_add(FaFrame *frame, FaHistory *hist)
{
	add_cells(frame, hist);
	add_series(frame, hist);
}

/*
 * Calls take for every step kept, with the fragments' y as it was then; y is
 * zero before and after.
 */
void
fa_predict_history_replay(FaFrame *frame, FaHistory *hist,
						  void (*take) (FaFrame *, void *, int64_t,
										const bool *), void *arg)
{
	bool	   *known = fa_predict_alloc(frame, frame->nnodes, sizeof(bool));
	double	   *saved = fa_predict_alloc(frame, frame->nnodes, sizeof(double));
	int64_t		at = hist->cell_first;

	memcpy(saved, frame->site_y, sizeof(double) * frame->nnodes);
	for (int64_t s = 0; s < hist->nsteps; s++)
	{
		FaHistoryStep *hs = &hist->step[(hist->step_first + s) %
										hist->step_capacity];

		memset(frame->site_y, 0, sizeof(double) * frame->nnodes);
		memset(known, true, sizeof(bool) * frame->nnodes);
		for (int pass = 0; pass < 2; pass++)
		{
			for (int64_t i = 0; i < hs->ncells; i++)
			{
				FaHistoryCell *c = &hist->cell[(at + i) % hist->cell_capacity];
				FaFragment *fr;
				int			pos;

				if (c->fragment < 0)
				{
					known[c->node] = false;
					continue;
				}
				fr = &frame->fragment[c->fragment];
				pos = fa_predict_find_cell(fr, c->node);
				if (pos < 0)
					continue;
				fr->y[pos] = pass == 0 ? c->count : 0;
				frame->site_y[c->node] += pass == 0 ? c->count : 0;
			}
			if (pass == 0)
				take(frame, arg, hs->step, known);
		}
		if (hs->ncells > 0)
			at = (at + hs->ncells) % hist->cell_capacity;
	}
	memcpy(frame->site_y, saved, sizeof(double) * frame->nnodes);
	fa_predict_free(frame, saved);
	fa_predict_free(frame, known);
}

/* The busiest fragments, and their series. */
typedef struct Busy
{
	int			n;
	int			fragment[FA_SERIES_BUSY];
	double	   *sum[FA_SERIES_BUSY];	/* by cell */
	int			cell[FA_SERIES_BUSY];	/* that has most */
	int64_t		first;			/* step that the series begin with */
	int			nsteps;
	float	   *series;			/* n x nsteps */
} Busy;

static void
choose_busy(const FaFrame *frame, Busy *busy)
{
	for (int k = 0; k < frame->nactive; k++)
	{
		int			f = frame->active[k];
		double		accesses = frame->fragment[f].accesses;
		int			i = busy->n;

		if (i < FA_SERIES_BUSY)
			busy->n++;
		else if (frame->fragment[busy->fragment[--i]].accesses >= accesses)
			continue;
		for (; i > 0 && frame->fragment[busy->fragment[i - 1]].accesses < accesses; i--)
			busy->fragment[i] = busy->fragment[i - 1];
		busy->fragment[i] = f;
	}
}

static void
sum_busy(FaFrame *frame, void *arg, int64_t step, const bool *known)
{
	Busy	   *busy = arg;

	(void) step;
	(void) known;
	for (int i = 0; i < busy->n; i++)
	{
		const FaFragment *fr = &frame->fragment[busy->fragment[i]];

		for (int c = 0; c < fr->ncells; c++)
		{
			busy->sum[i][c] += fr->y[c];
			if (busy->sum[i][c] > busy->sum[i][busy->cell[i]])
				busy->cell[i] = c;
		}
	}
}

static void
fill_busy(FaFrame *frame, void *arg, int64_t step, const bool *known)
{
	Busy	   *busy = arg;

	if (step < busy->first || step >= busy->first + busy->nsteps)
		return;
	for (int i = 0; i < busy->n; i++)
	{
		const FaFragment *fr = &frame->fragment[busy->fragment[i]];

		if (fr->ncells > 0 && known[fr->node[busy->cell[i]]])
			busy->series[(size_t) i * busy->nsteps + (step - busy->first)] =
				(float) log1p(fr->y[busy->cell[i]]);
	}
}

/* Room for FA_SERIES_BUSY series of n steps, the last one before end. */
static int
busy_series(FaFrame *frame, FaHistory *hist, float *series, int n, int64_t end)
{
	Busy		busy = {.first = end - n,.nsteps = n,.series = series};

	choose_busy(frame, &busy);
	for (int i = 0; i < busy.n; i++)
		busy.sum[i] = fa_predict_alloc(frame,
									   frame->fragment[busy.fragment[i]].ncells,
									   sizeof(double));
	for (size_t k = 0; k < (size_t) n * busy.n; k++)
		series[k] = FA_SERIES_UNKNOWN;
	fa_predict_history_replay(frame, hist, sum_busy, &busy);
	fa_predict_history_replay(frame, hist, fill_busy, &busy);
	for (int i = 0; i < busy.n; i++)
		fa_predict_free(frame, busy.sum[i]);
	return busy.n;
}

int
fa_predict_history_seasons(FaFrame *frame, FaHistory *hist, int *seasons,
						   int max)
{
	int			n = (int) hist->nseries;
	float	   *copy = fa_predict_alloc(frame, (size_t) n *
										(FA_SERIES + FA_SERIES_BUSY),
										sizeof(float));
	int			nbusy;
	int			found;

	nbusy = busy_series(frame, hist, copy + (size_t) n * FA_SERIES, n,
						hist->series_end);
	for (int t = 0; t < n; t++)
	{
		int64_t		at = (hist->series_end - n + t) % hist->series_capacity;

		if (at < 0)
			at += hist->series_capacity;
		for (int s = 0; s < FA_SERIES; s++)
			copy[(size_t) s * n + t] = hist->series[at * FA_SERIES + s];
	}
	found = fa_predict_find_seasons(frame, copy, FA_SERIES + nbusy, FA_SERIES, n,
									frame->config.max_season, seasons, max);
	fa_predict_free(frame, copy);
	return found;
}

static void
archive_cells(FaFrame *frame, FaHistory *hist, FaArchive *ar)
{
	int64_t		nsteps = hist->nsteps;
	int64_t		left = hist->ncells;
	int64_t		at = hist->cell_first;

	fa_predict_ar_i64(ar, &nsteps);
	fa_predict_ar_i64(ar, &left);
	if (ar->reading)
	{
		if (nsteps < 0 || left < 0 || !fa_predict_ar_room(ar, nsteps, 16) ||
			!fa_predict_ar_room(ar, left, 12))
		{
			ar->failed = true;
			return;
		}
		hist->step = fa_predict_alloc(frame, nsteps, sizeof(FaHistoryStep));
		hist->step_capacity = hist->nsteps = nsteps;
		hist->cell = fa_predict_alloc(frame, left, sizeof(FaHistoryCell));
		hist->cell_capacity = hist->ncells = left;
		at = 0;
	}
	for (int64_t s = 0; s < nsteps && !ar->failed; s++)
	{
		FaHistoryStep *hs = &hist->step[(hist->step_first + s) %
										hist->step_capacity];

		fa_predict_ar_i64(ar, &hs->step);
		fa_predict_ar_i64(ar, &hs->ncells);
		if (hs->ncells < 0 || hs->ncells > left)
			ar->failed = true;
		for (int64_t i = 0; i < hs->ncells && !ar->failed; i++)
		{
			FaHistoryCell *c = &hist->cell[(at + i) % hist->cell_capacity];

			fa_predict_ar_i32(ar, &c->fragment);
			fa_predict_ar_i32(ar, &c->node);
			fa_predict_ar_floats(ar, &c->count, 1);
			if (c->fragment < -1 || c->fragment >= frame->nfragments ||
				c->node < 0 || c->node >= frame->nnodes)
				ar->failed = true;
		}
		if (ar->failed)
			return;
		at += hs->ncells;
		left -= hs->ncells;
	}
	if (left != 0)
		ar->failed = true;
}

void
fa_predict_history_archive(FaFrame *frame, FaHistory *hist, FaArchive *ar)
{
	int64_t		n = series_steps(frame);

	archive_cells(frame, hist, ar);
	fa_predict_ar_i64(ar, &hist->nseries);
	fa_predict_ar_i64(ar, &hist->series_end);
	if (ar->reading)
	{
		if (ar->failed || hist->nseries < 0 || hist->nseries > n ||
			hist->series_end > frame->last_step + 1 ||
			hist->series_end < frame->last_step - MAX_STEPS)
		{
			ar->failed = true;
			return;
		}
		if (hist->nseries == 0)
			return;
		hist->series = fa_predict_alloc(frame, (size_t) n * FA_SERIES,
										sizeof(float));
		hist->series_capacity = n;
	}
	for (int64_t t = hist->series_end - hist->nseries; t < hist->series_end; t++)
	{
		int64_t		at = t % n < 0 ? t % n + n : t % n;

		fa_predict_ar_floats(ar, hist->series + at * FA_SERIES, FA_SERIES);
	}
}
