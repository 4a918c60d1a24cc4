/*
 * slots.c
 *	  What was counted in each slot of the seasons.
 *
 * A season of P steps is cut into at most MAX_SLOTS slots.  For each slot the
 * accesses and the steps known are kept, forgotten at each return of the
 * slot: for the nodes' totals always, for a fragment once it has had some
 * accesses.
 */
#include <math.h>
#include <string.h>

#include "predict/seasonal.h"

#define MAX_SLOTS		336
#define FORGETTING		0.95	/* kept from one return to the next */
#define MIN_ACCESSES	16		/* of a fragment, to have slots of its own */

/* The slot that a step falls into. */
int
fa_predict_slots_of(const FaSeason *se, int64_t step)
{
	int64_t		phase = step % se->period;

	if (phase < 0)
		phase += se->period;
	return (int) (phase / se->width);
}

void
fa_predict_slots_resize(FaFrame *frame, FaSeasons *s, int old_nnodes,
						int old_nfragments)
{
	int			n = frame->nnodes;

	if (frame->nfragments > old_nfragments)
		s->slots = fa_predict_grow(frame, s->slots, old_nfragments,
								   frame->nfragments, sizeof(FaSlots));
	if (n == old_nnodes)
		return;
	s->site_rate = fa_predict_grow(frame, s->site_rate, old_nnodes, n,
								   sizeof(double));
	for (int k = 0; k < s->n; k++)
	{
		FaSeason   *se = &s->season[k];
		double	   *count = fa_predict_alloc(frame, (size_t) se->nslots * n,
											 sizeof(double));
		double	   *steps = fa_predict_alloc(frame, (size_t) se->nslots * n,
											 sizeof(double));

		for (int i = 0; i < se->nslots; i++)
		{
			memcpy(count + (size_t) i * n,
				   se->count + (size_t) i * old_nnodes,
				   sizeof(double) * old_nnodes);
			memcpy(steps + (size_t) i * n,
				   se->steps + (size_t) i * old_nnodes,
				   sizeof(double) * old_nnodes);
		}
		fa_predict_free(frame, se->count);
		fa_predict_free(frame, se->steps);
		se->count = count;
		se->steps = steps;
	}
}

/* Room for all cells of a fragment in its slots. */
static void
fit_slots(FaFrame *frame, FaSeasons *s, const FaFragment *fr, FaSlots *sl,
		  int64_t step)
{
	int			cap = fr->capacity;

	if (sl->capacity == 0)
		sl->since = step;
	for (int k = 0; k < s->n; k++)
	{
		FaSeason   *se = &s->season[k];
		float	   *fresh;

		if (sl->count[k] != NULL && sl->capacity >= cap)
			continue;
		fresh = fa_predict_alloc(frame, (size_t) se->nslots * cap,
								 sizeof(float));
		for (int i = 0; i < se->nslots && sl->count[k] != NULL; i++)
			memcpy(fresh + (size_t) i * cap,
				   sl->count[k] + (size_t) i * sl->capacity,
				   sizeof(float) * sl->capacity);
		fa_predict_free(frame, sl->count[k]);
		sl->count[k] = fresh;
	}
	sl->capacity = cap;
}

/* Learns one step's y into the slots, now or in a replay. */
void
fa_predict_slots_fill(FaFrame *frame, void *seasons, int64_t step,
					  const bool *known)
{
	FaSeasons  *s = seasons;

	for (int k = 0; k < s->n; k++)
	{
		FaSeason   *se = &s->season[k];
		size_t		at = (size_t) fa_predict_slots_of(se, step) * frame->nnodes;

		if (se->since > step)
			se->since = step;
		for (int n = 0; n < frame->nnodes; n++)
		{
			if (!known[n])
				continue;
			se->count[at + n] = se->count[at + n] * se->keep + frame->site_y[n];
			se->steps[at + n] = se->steps[at + n] * se->keep + 1;
		}
	}
	for (int i = 0; i < frame->nactive && s->n > 0; i++)
	{
		int			f = frame->active[i];
		FaFragment *fr = &frame->fragment[f];
		FaSlots    *sl = &s->slots[f];

		if (fr->accesses < MIN_ACCESSES || step < fr->born)
			continue;
		if (sl->capacity < fr->ncells)
			fit_slots(frame, s, fr, sl, step);
		for (int k = 0; k < s->n; k++)
		{
			FaSeason   *se = &s->season[k];
			float	   *c = sl->count[k] +
				(size_t) fa_predict_slots_of(se, step) * sl->capacity;

			for (int j = 0; j < fr->ncells; j++)
			{
				if (known[fr->node[j]])
					c[j] = (float) (c[j] * se->keep + fr->y[j]);
			}
		}
	}
}

/* Other seasons, all slots empty. */
void
fa_predict_slots_set(FaFrame *frame, FaSeasons *s, const int *period, int n)
{
	double		keep = frame->config.forgetting > 0 ?
		frame->config.forgetting : FORGETTING;

	for (int f = 0; f < frame->nfragments; f++)
	{
		for (int k = 0; k < FA_MAX_SEASONS; k++)
		{
			fa_predict_free(frame, s->slots[f].count[k]);
			s->slots[f].count[k] = NULL;
		}
		s->slots[f].capacity = 0;
	}
	for (int k = 0; k < s->n; k++)
	{
		fa_predict_free(frame, s->season[k].count);
		fa_predict_free(frame, s->season[k].steps);
		s->season[k].count = s->season[k].steps = NULL;
	}
	s->n = 0;
	for (int k = 0; k < n; k++)
	{
		FaSeason   *se = &s->season[k];
		size_t		size;

		se->period = period[k];
		se->width = (period[k] + MAX_SLOTS - 1) / MAX_SLOTS;
		se->nslots = (period[k] + se->width - 1) / se->width;
		se->keep = pow(keep, 1.0 / se->width);
		se->since = frame->last_step;
		size = (size_t) se->nslots * frame->nnodes;
		se->count = fa_predict_alloc(frame, size, sizeof(double));
		se->steps = fa_predict_alloc(frame, size, sizeof(double));
		s->n = k + 1;
	}
	s->ndays = 0;
	if (n >= 2)
	{
		const FaSeason *se = &s->season[n - 1];
		int			day = s->season[n - 2].period;

		/* whole days of whole slots */
		if (se->period % day == 0 && se->period / day <= FA_MAX_DAYS &&
			day % se->width == 0)
			s->ndays = se->period / day;
	}
	memset(s->like, 0, sizeof(s->like));
	for (int d = 0; d < s->ndays; d++)
		s->like[d][d] = 1;
}

/*
 * Which days of the week are alike, by the nodes' totals: their distance in
 * units of chance, set against each day's nearest other.
 */
void
fa_predict_slots_compare(FaFrame *frame, FaSeasons *s)
{
	const FaSeason *se = &s->season[s->n - 1];
	double		far[FA_MAX_DAYS][FA_MAX_DAYS];
	double		nearest[FA_MAX_DAYS];
	int			perday = se->nslots / s->ndays;

	for (int a = 0; a < s->ndays; a++)
	{
		nearest[a] = HUGE_VAL;
		for (int b = 0; b < s->ndays; b++)
		{
			double		sum = 0;
			double		n = 0;

			for (size_t i = 0; i < (size_t) perday * frame->nnodes; i++)
			{
				size_t		x = (size_t) a * perday * frame->nnodes + i;
				size_t		y = (size_t) b * perday * frame->nnodes + i;
				double		all = se->count[x] + se->count[y];
				double		steps = se->steps[x] + se->steps[y];
				double		d;

				if (all <= 0 || se->steps[x] <= 0 || se->steps[y] <= 0)
					continue;
				d = se->count[x] - all * se->steps[x] / steps;
				sum += d * d * steps * steps /
					(all * se->steps[x] * se->steps[y]);
				n++;
			}
			far[a][b] = n > 0 ? sum / n : 1;
			if (a != b && far[a][b] < nearest[a])
				nearest[a] = far[a][b];
		}
	}
	for (int a = 0; a < s->ndays; a++)
	{
		for (int b = 0; b < s->ndays; b++)
			s->like[a][b] = a == b ? 1 :
				exp(-(far[a][b] - nearest[a]) / (nearest[a] + 1));
	}
}

static void
archive_fragments(FaFrame *frame, FaSeasons *s, FaArchive *ar)
{
	for (int i = 0; i < frame->nactive && !ar->failed; i++)
	{
		FaSlots    *sl = &s->slots[frame->active[i]];
		int32_t		cap = sl->capacity;

		fa_predict_ar_i32(ar, &cap);
		if (cap == 0)
			continue;
		fa_predict_ar_i64(ar, &sl->since);
		if (cap < 0 || cap > frame->nnodes || s->n == 0 ||
			sl->since > frame->last_step || sl->since < frame->first_step)
			ar->failed = true;

		for (int k = 0; k < s->n && !ar->failed; k++)
		{
			size_t		n = (size_t) s->season[k].nslots * cap;

			if (!fa_predict_ar_room(ar, n, 4))
				break;
			if (ar->reading)
				sl->count[k] = fa_predict_alloc(frame, n, sizeof(float));
			fa_predict_ar_floats(ar, sl->count[k], n);
			for (size_t j = 0; j < n && ar->reading; j++)
			{
				if (sl->count[k][j] < 0)
					ar->failed = true;
			}
		}
		if (ar->reading && !ar->failed)
			sl->capacity = cap;
	}
}

void
fa_predict_slots_archive(FaFrame *frame, FaSeasons *s, FaArchive *ar)
{
	int			period[FA_MAX_SEASONS] = {0};
	int32_t		n = s->n;

	fa_predict_ar_i32(ar, &n);
	if (n < 0 || n > FA_MAX_SEASONS)
		ar->failed = true;
	for (int k = 0; k < n && !ar->failed; k++)
	{
		period[k] = s->season[k].period;
		fa_predict_ar_i32(ar, &period[k]);
		if (period[k] < 2 || period[k] > frame->config.max_season ||
			(k > 0 && period[k] <= period[k - 1]))
			ar->failed = true;
	}
	if (ar->failed)
		return;
	if (ar->reading)
		fa_predict_slots_set(frame, s, period, n);
	for (int k = 0; k < s->n && !ar->failed; k++)
	{
		FaSeason   *se = &s->season[k];
		size_t		size = (size_t) se->nslots * frame->nnodes;

		fa_predict_ar_i64(ar, &se->since);
		fa_predict_ar_doubles(ar, se->count, size);
		fa_predict_ar_doubles(ar, se->steps, size);
		if (se->since > frame->last_step || se->since < frame->first_step)
			ar->failed = true;
		for (size_t i = 0; i < size && ar->reading; i++)
		{
			if (se->count[i] < 0 || se->steps[i] < 0)
				ar->failed = true;
		}
	}
	for (int a = 0; a < s->ndays; a++)
		fa_predict_ar_doubles(ar, s->like[a], s->ndays);
	fa_predict_ar_doubles(ar, s->site_rate, frame->nnodes);
	archive_fragments(frame, s, ar);
}
