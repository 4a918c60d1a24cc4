/*
 * model_profile.c
 *	  What roles and applications use, and where they are at work now.
 *
 * A profile is a role with an application.  What it uses is learned from all
 * nodes: shares of fragments, slowly forgotten.  Where it is at work is known
 * by node: accesses a step, quickly forgotten, and sessions that have just
 * arrived, which stand for as many accesses a step as arrivals have brought
 * before.  So a report's role that shows up at a node for the first time is
 * expected to read there what it has read elsewhere.
 *
 * Bounded: MOST_PROFILES, the least used makes room; MOST_FRAGMENTS of each.
 */
#include <math.h>
#include <string.h>

#include "predict/expected.h"

#define MOST_PROFILES	256
#define MOST_FRAGMENTS	128
#define KEEP_USE		0.98	/* of a fragment's count, each active step */
#define KEEP_RATIO		0.98	/* of accesses and arrivals, each active step */
#define KEEP_ACTIVE		0.7		/* of the level at a node, each step */
#define LEAST_ACTIVE	0.05	/* accesses a step that are none */
#define LEAST_EXPECTED	0.02	/* of a cell */

typedef struct Used
{
	int32_t		fragment;
	double		count;
} Used;

typedef struct Profile
{
	int64_t		key;			/* the caller's hash */
	double		accesses;		/* while arrivals came, forgotten */
	double		arrivals;
	double		sum;			/* of the counts */
	int32_t		nused;
	Used	   *used;			/* MOST_FRAGMENTS */
	double	   *level;			/* accesses a step, by node */
	double	   *arriving;		/* sessions a step, by node */
	double	   *step;			/* accesses, arrivals of this step, by node */
} Profile;

typedef struct Profiles
{
	FaExpected	expected;
	int32_t		n;
	Profile    *profile;		/* MOST_PROFILES */
	bool		told;			/* for the step that is observed next */
	int64_t		step;
} Profiles;

static const double start[] = {0.2};
static const double rate_start[FA_EXPECTED_RATES] = {0};

static void *
profile_create(FaFrame *frame)
{
	Profiles   *s = fa_predict_alloc(frame, 1, sizeof(Profiles));

	fa_expected_create(frame, &s->expected, FA_MODEL_PROFILE);
	s->profile = fa_predict_alloc(frame, MOST_PROFILES, sizeof(Profile));
	return s;
}

static void
size_nodes(FaFrame *frame, Profile *p, int old_n)
{
	int			n = frame->nnodes;

	p->level = fa_predict_grow(frame, p->level, old_n, n, sizeof(double));
	p->arriving = fa_predict_grow(frame, p->arriving, old_n, n, sizeof(double));
	p->step = fa_predict_grow(frame, p->step, 2 * (size_t) old_n,
							  2 * (size_t) n, sizeof(double));
}

static void
profile_resize(FaFrame *frame, void *model, int old_nnodes, int old_nfragments)
{
	Profiles   *s = model;

	(void) old_nfragments;
	fa_expected_resize(frame, &s->expected, old_nnodes);
	for (int i = 0; i < s->n && frame->nnodes > old_nnodes; i++)
		size_nodes(frame, &s->profile[i], old_nnodes);
}

/* The profile, made when it is new, in the place of the least used if full. */
static Profile *
find_profile(FaFrame *frame, Profiles *s, int64_t key)
{
	Profile    *least = NULL;

	for (int i = 0; i < s->n; i++)
	{
		Profile    *p = &s->profile[i];

		if (p->key == key)
			return p;
		if (least == NULL || p->sum < least->sum)
			least = p;
	}
	if (s->n < MOST_PROFILES)
	{
		least = &s->profile[s->n];
		if (least->used == NULL)
		{
			least->used = fa_predict_alloc(frame, MOST_FRAGMENTS, sizeof(Used));
			size_nodes(frame, least, 0);
		}
		s->n++;
	}
	least->key = key;
	least->accesses = least->arrivals = least->sum = 0;
	least->nused = 0;
	memset(least->level, 0, sizeof(double) * frame->nnodes);
	memset(least->arriving, 0, sizeof(double) * frame->nnodes);
	memset(least->step, 0, sizeof(double) * 2 * frame->nnodes);
	return least;
}

static void
count_use(Profile *p, int fragment, double accesses)
{
	int			at = 0;

	for (int i = 0; i < p->nused; i++)
	{
		if (p->used[i].fragment == fragment)
		{
			p->used[i].count += accesses;
			p->sum += accesses;
			return;
		}
		if (p->used[i].count < p->used[at].count)
			at = i;
	}
	if (p->nused < MOST_FRAGMENTS)
		at = p->nused++;
	else
		p->sum -= p->used[at].count;
	p->used[at] = (Used) {fragment, accesses};
	p->sum += accesses;
}

void
fa_predict_profile_tell(FaFrame *frame, void *model, int64_t step,
						const FaProfileUse *use, int n)
{
	Profiles   *s = model;

	s->told = true;
	s->step = step;
	for (int i = 0; i < n; i++)
	{
		const FaProfileUse *u = &use[i];
		Profile    *p;

		if (u->profile == 0 || u->node < 0 || u->node >= frame->nnodes ||
			u->fragment < 0 || u->fragment >= frame->nfragments ||
			!(u->accesses >= 0) || !(u->arrivals >= 0) ||
			u->accesses > 1e12 || u->arrivals > 1e12)
			continue;
		p = find_profile(frame, s, (int64_t) u->profile);
		count_use(p, u->fragment, u->accesses);
		p->step[2 * u->node] += u->accesses;
		p->step[2 * u->node + 1] += u->arrivals;
	}
}

/* What the profile will do, by its use and where it is at work. */
static void
expect(FaFrame *frame, Profiles *s, const Profile *p)
{
	double		each = p->arrivals > 0 ? p->accesses / p->arrivals : 0;

	for (int n = 0; n < frame->nnodes && p->sum > 0; n++)
	{
		double		level = fmax(p->level[n], p->arriving[n] * each);

		if (level < LEAST_ACTIVE)
			continue;
		for (int i = 0; i < p->nused; i++)
		{
			double		v = level * p->used[i].count / p->sum;

			if (v >= LEAST_EXPECTED)
				fa_expected_add(frame, &s->expected, p->used[i].fragment, n, v);
		}
	}
}

/* Time goes on for a profile; what the step brought is taken in. */
static void
advance(FaFrame *frame, Profile *p)
{
	double		accesses = 0;
	double		arrivals = 0;

	for (int n = 0; n < frame->nnodes; n++)
	{
		double	   *v = &p->step[2 * n];

		accesses += v[0];
		arrivals += v[1];
		/* a node that is unknown has not stopped */
		if (frame->known[n])
		{
			p->level[n] += (1 - KEEP_ACTIVE) * (v[0] - p->level[n]);
			p->arriving[n] += (1 - KEEP_ACTIVE) * (v[1] - p->arriving[n]);
		}
		v[0] = v[1] = 0;
	}
	if (!(accesses > 0))
		return;
	p->accesses = p->accesses * KEEP_RATIO + accesses;
	p->arrivals = p->arrivals * KEEP_RATIO + arrivals;
	p->sum = 0;
	for (int i = 0; i < p->nused; i++)
		p->sum += p->used[i].count *= KEEP_USE;
}

static void
profile_observe(FaFrame *frame, void *model)
{
	Profiles   *s = model;

	fa_expected_clear(frame, &s->expected, s->told && s->step == frame->step);
	for (int i = 0; i < s->n; i++)
	{
		advance(frame, &s->profile[i]);
		if (s->expected.fresh)
			expect(frame, s, &s->profile[i]);
	}
	s->told = false;
}

static void
profile_skip(FaFrame *frame, void *model, int64_t steps)
{
	Profiles   *s = model;
	double		keep = pow(KEEP_ACTIVE, (double) steps);

	for (int i = 0; i < s->n; i++)
	{
		for (int n = 0; n < frame->nnodes; n++)
		{
			s->profile[i].level[n] *= keep;
			s->profile[i].arriving[n] *= keep;
		}
	}
}

static void
profile_site(FaFrame *frame, void *model, int h, int64_t target,
			 double *signal)
{
	Profiles   *s = model;

	fa_expected_site(frame, &s->expected, h, target, signal);
}

static void
profile_fragment(FaFrame *frame, void *model, FaView *view, double *local,
				 double *rate)
{
	Profiles   *s = model;

	fa_expected_fragment(frame, &s->expected, view, local, rate);
}

static void
archive_profile(FaFrame *frame, Profile *p, FaArchive *ar)
{
	fa_predict_ar_i64(ar, &p->key);
	fa_predict_ar_double(ar, &p->accesses);
	fa_predict_ar_double(ar, &p->arrivals);
	fa_predict_ar_doubles(ar, p->level, frame->nnodes);
	fa_predict_ar_doubles(ar, p->arriving, frame->nnodes);
	fa_predict_ar_i32(ar, &p->nused);
	if (p->accesses < 0 || p->arrivals < 0 || p->nused < 0 ||
		p->nused > MOST_FRAGMENTS)
	{
		ar->failed = true;
		return;
	}
	for (int i = 0; i < p->nused; i++)
	{
		fa_predict_ar_i32(ar, &p->used[i].fragment);
		fa_predict_ar_double(ar, &p->used[i].count);
		if (p->used[i].fragment < 0 || p->used[i].count < 0 ||
			p->used[i].fragment >= frame->nfragments)
			ar->failed = true;
		if (ar->reading)
			p->sum += p->used[i].count;
	}
}

static void
profile_archive(FaFrame *frame, void *model, FaArchive *ar)
{
	Profiles   *s = model;
	int32_t		n = s->n;

	fa_expected_archive(frame, &s->expected, ar);
	fa_predict_ar_i32(ar, &n);
	if (n < 0 || n > MOST_PROFILES)
		ar->failed = true;
	for (int i = 0; i < n && !ar->failed; i++)
	{
		if (ar->reading)
			(void) find_profile(frame, s, INT64_MIN + i);
		archive_profile(frame, &s->profile[i], ar);
	}
}

const FaModelOps fa_predict_profile = {
	.name = "profile",
	.cell_doubles = 1,
	.nsite = 1,
	.nlocal = 1,
	.nrate = FA_EXPECTED_RATES,
	.site_start = start,
	.local_start = start,
	.rate_start = rate_start,
	.create = profile_create,
	.resize = profile_resize,
	.skip = profile_skip,
	.observe = profile_observe,
	.site = profile_site,
	.fragment = profile_fragment,
	.archive = profile_archive,
};
