/*
 * next_kinds.c
 *	  The contexts of an event: which there are, and their keys.
 *
 * A key is a hash of the kind and of what is known; two values of the same
 * 64 bits would share their counts, which does no harm beyond a worse
 * forecast.  Hours and weekdays are those of UTC: what matters is that they
 * come again.
 */
#include <math.h>

#include "predict/next_parts.h"

#define DAY				86400
#define RANKS_KEY		(UINT64_C(1) << 63) /* in keys of contexts of ranks */

/*
 * Parents come before their children.  Sums of counts are kept below the
 * mosts; the weights are those before anything was learned.
 */
const FaNextKindInfo fa_next_kinds[FA_NEXT_NKINDS] = {
	[FA_NEXT_ORDER0] = {FA_NEXT_MARKOV, -1, 2000, 100, 1, -1},
	[FA_NEXT_ORDER1] = {FA_NEXT_MARKOV, FA_NEXT_ORDER0, 1000, 30, 0.8, -1},
	[FA_NEXT_ORDER2] = {FA_NEXT_MARKOV, FA_NEXT_ORDER1, 500, 16, 0.6, -1},
	[FA_NEXT_ORDER3] = {FA_NEXT_MARKOV, FA_NEXT_ORDER2, 250, 8, 0.5, -1},
	[FA_NEXT_ORDER4] = {FA_NEXT_MARKOV, FA_NEXT_ORDER3, 250, 8, 0.5, -1},
	[FA_NEXT_ORDER6] = {FA_NEXT_MARKOV, FA_NEXT_ORDER4, 250, 8, 0.5, -1},
	[FA_NEXT_SKIP1] = {FA_NEXT_MARKOV, FA_NEXT_ORDER0, 500, 16, 0.2, -1},
	[FA_NEXT_SKIP2] = {FA_NEXT_MARKOV, FA_NEXT_ORDER1, 500, 16, 0.2, -1},
	[FA_NEXT_SET2] = {FA_NEXT_MARKOV, FA_NEXT_ORDER1, 500, 16, 0.2, -1},
	[FA_NEXT_SET3] = {FA_NEXT_MARKOV, FA_NEXT_SET2, 500, 16, 0.2, -1},
	[FA_NEXT_TOGETHER] = {FA_NEXT_MARKOV, FA_NEXT_ORDER0, 2000, 60, 0.1, -1},
	[FA_NEXT_SESSION0] = {FA_NEXT_HABIT, FA_NEXT_ORDER0, 200, 12, 0.4, -1},
	[FA_NEXT_SESSION1] = {FA_NEXT_HABIT, FA_NEXT_SESSION0, 100, 8, 0.4, -1},
	[FA_NEXT_SESSION2] = {FA_NEXT_HABIT, FA_NEXT_SESSION1, 100, 8, 0.4, -1},
	[FA_NEXT_PROFILE0] = {FA_NEXT_HABIT, FA_NEXT_ORDER0, 500, 16, 0.2, -1},
	[FA_NEXT_PROFILE1] = {FA_NEXT_HABIT, FA_NEXT_ORDER1, 500, 16, 0.2, -1},
	[FA_NEXT_NODE0] = {FA_NEXT_HABIT, FA_NEXT_ORDER0, 1000, 30, 0.2, -1},
	[FA_NEXT_NODE1] = {FA_NEXT_HABIT, FA_NEXT_ORDER1, 500, 16, 0.2, -1},
	[FA_NEXT_HOUR0] = {FA_NEXT_CLOCK, FA_NEXT_ORDER0, 2000, 60, 0.2, -1},
	[FA_NEXT_HOUR1] = {FA_NEXT_CLOCK, FA_NEXT_ORDER1, 500, 16, 0.2, -1},
	[FA_NEXT_WEEK0] = {FA_NEXT_CLOCK, FA_NEXT_HOUR0, 1000, 30, 0.2, -1},
	[FA_NEXT_WEEK1] = {FA_NEXT_CLOCK, FA_NEXT_HOUR1, 500, 16, 0.2, -1},
	[FA_NEXT_SESSION_HOUR] = {FA_NEXT_CLOCK, FA_NEXT_SESSION0, 100, 8, 0.2, -1},
	[FA_NEXT_PAUSE1] = {FA_NEXT_CACHE, FA_NEXT_ORDER1, 500, 16, 0.2, -1},
	[FA_NEXT_SESSION_PAUSE] = {FA_NEXT_CACHE, FA_NEXT_SESSION0, 200, 8, 0.2, -1},
	[FA_NEXT_STREAM0] = {FA_NEXT_CACHE, FA_NEXT_ORDER0, 1000, 16, 0.2, -1},
	[FA_NEXT_STREAM1] = {FA_NEXT_CACHE, FA_NEXT_ORDER1, 500, 8, 0.2, -1},
	[FA_NEXT_SHAPE0] = {FA_NEXT_CACHE, -1, 2000, 100, 0, 0},
	[FA_NEXT_SHAPE1] = {FA_NEXT_CACHE, FA_NEXT_SHAPE0, 1000, 30, 0.2, 1},
	[FA_NEXT_SHAPE2] = {FA_NEXT_CACHE, FA_NEXT_SHAPE1, 1000, 30, 0.2, 2},
	[FA_NEXT_SHAPE3] = {FA_NEXT_CACHE, FA_NEXT_SHAPE2, 500, 16, 0.2, 3},
	[FA_NEXT_SESSION_SHAPE0] = {FA_NEXT_CACHE, FA_NEXT_SHAPE0, 200, 12, 0.2, 0},
	[FA_NEXT_SESSION_SHAPE1] = {FA_NEXT_CACHE, FA_NEXT_SESSION_SHAPE0, 100, 8, 0.2, 1},
	[FA_NEXT_SESSION_SHAPE2] = {FA_NEXT_CACHE, FA_NEXT_SESSION_SHAPE1, 100, 8, 0.2, 2},
};

/* How long the session has paused, in FA_NEXT_PAUSES levels. */
int
fa_next_pause(const FaNext *next, const FaSession *s)
{
	int64_t		pause = next->now - s->time;

	return pause <= 1 ? 0 : pause < 60 ? 1 : pause < 3600 ? 2 :
		pause < 8 * 3600 ? 3 : 4;
}

/* Of the last order fragments; one that reaches the session's start counts. */
static uint64_t
key_of_order(const FaSession *s, int order, uint64_t key)
{
	int			n = s ? s->nrecent : 0;

	if (n < order - 1)
		return 0;
	for (int i = 0; i < order; i++)
		key = fa_next_hash(key, i < n ? (uint64_t) s->recent[i] : UINT64_MAX);
	return key;
}

/* Of the last so many different fragments, whatever their order. */
static uint64_t
key_of_set(const FaSession *s, int n, uint64_t key)
{
	int32_t		set[3];
	int			have = 0;

	for (int i = 0; s != NULL && i < s->nrecent && have < n; i++)
	{
		int			at = have;

		if (fa_next_rank(s, s->recent[i]) != i)
			continue;
		for (; at > 0 && set[at - 1] > s->recent[i]; at--)
			set[at] = set[at - 1];
		set[at] = s->recent[i];
		have++;
	}
	for (int i = 0; i < have; i++)
		key = fa_next_hash(key, (uint64_t) set[i]);
	return have == n ? key : 0;
}

/* Of the last so many ranks; those before the session's start count as one. */
static uint64_t
key_of_shape(const FaSession *s, int n, uint64_t key)
{
	for (int i = 0; i < n; i++)
		key = fa_next_hash(key, i < s->nrecent ? (uint64_t) s->shape[i] :
						   UINT64_MAX);
	return key;
}

/* Of the kinds that need no fragment before; 0: does not apply. */
static uint64_t
key_of_place(const FaNext *next, FaNextKind kind, const FaSession *s,
			 uint64_t profile, int node)
{
	int64_t		day = next->now / DAY - (next->now % DAY < 0);
	uint64_t	hour = (uint64_t) ((next->now - day * DAY) / 3600);
	uint64_t	week = hour + 24 * (uint64_t) ((day % 7 + 7) % 7);
	uint64_t	key = fa_next_hash((uint64_t) kind, 0x6e657874);

	switch (kind)
	{
		case FA_NEXT_ORDER0:
			return key;
		case FA_NEXT_SESSION0:
		case FA_NEXT_SESSION1:
		case FA_NEXT_SESSION2:
			return s ? fa_next_hash(key, s->key) : 0;
		case FA_NEXT_PROFILE0:
		case FA_NEXT_PROFILE1:
			return profile ? fa_next_hash(key, profile) : 0;
		case FA_NEXT_NODE0:
		case FA_NEXT_NODE1:
			return node >= 0 ? fa_next_hash(key, (uint64_t) node) : 0;
		case FA_NEXT_HOUR0:
		case FA_NEXT_HOUR1:
			return fa_next_hash(key, hour);
		case FA_NEXT_WEEK0:
			return fa_next_hash(key, week);
		case FA_NEXT_WEEK1:
			return fa_next_hash(key, week / 3);
		case FA_NEXT_SESSION_HOUR:
			return s ? fa_next_hash(fa_next_hash(key, hour / 3), s->key) : 0;
		case FA_NEXT_PAUSE1:
			return s ? fa_next_hash(key, (uint64_t) fa_next_pause(next, s)) : 0;
		case FA_NEXT_SESSION_PAUSE:
			return s ? fa_next_hash(fa_next_hash(key, (uint64_t) fa_next_pause(next, s)),
									s->key) : 0;
		case FA_NEXT_STREAM0:
		case FA_NEXT_STREAM1:
			return fa_next_hash(key, (uint64_t) next->last);
		default:
			return 0;
	}
}

/* Of a kind's context of this fragment alone. */
static uint64_t
key_of_one(FaNextKind kind, int fragment)
{
	return fa_next_hash(fa_next_hash((uint64_t) kind, 0x6e657874),
						(uint64_t) fragment) & ~RANKS_KEY;
}

/* What followed a fragment, in any session: the key of order 1. */
uint64_t
fa_next_follow_key(int fragment)
{
	return key_of_one(FA_NEXT_ORDER1, fragment);
}

/* What was touched soon after a fragment, in the same session. */
uint64_t
fa_next_together_key(int fragment)
{
	return key_of_one(FA_NEXT_TOGETHER, fragment);
}

/* Are a context's followers ranks? */
bool
fa_next_counts_ranks(uint64_t key)
{
	return (key & RANKS_KEY) != 0;
}

static uint64_t
key_of(const FaNext *next, FaNextKind kind, const FaSession *s,
	   uint64_t profile, int node)
{
	int			n = s ? s->nrecent : 0;
	uint64_t	key = fa_next_hash((uint64_t) kind, 0x6e657874);

	switch (kind)
	{
		case FA_NEXT_ORDER1:
			return key_of_order(s, 1, key);
		case FA_NEXT_ORDER2:
			return key_of_order(s, 2, key);
		case FA_NEXT_ORDER3:
			return key_of_order(s, 3, key);
		case FA_NEXT_ORDER4:
			return key_of_order(s, 4, key);
		case FA_NEXT_ORDER6:
			return key_of_order(s, 6, key);
		case FA_NEXT_SKIP1:
			return n > 1 ? fa_next_hash(key, (uint64_t) s->recent[1]) : 0;
		case FA_NEXT_SKIP2:
			return n > 2 ? fa_next_hash(fa_next_hash(key, (uint64_t) s->recent[0]),
										(uint64_t) s->recent[2]) : 0;
		case FA_NEXT_SET2:
			return key_of_set(s, 2, key);
		case FA_NEXT_SET3:
			return key_of_set(s, 3, key);
		case FA_NEXT_TOGETHER:
			return 0;			/* has a key for each fragment */
		case FA_NEXT_SHAPE0:
		case FA_NEXT_SHAPE1:
		case FA_NEXT_SHAPE2:
		case FA_NEXT_SHAPE3:
			return s ? key_of_shape(s, fa_next_kinds[kind].shape, key) : 0;
		case FA_NEXT_SESSION_SHAPE0:
		case FA_NEXT_SESSION_SHAPE1:
		case FA_NEXT_SESSION_SHAPE2:
			return s ? key_of_shape(s, fa_next_kinds[kind].shape,
									fa_next_hash(key, s->key)) : 0;
		default:
			break;
	}
	key = key_of_place(next, kind, s, profile, node);
	switch (kind)
	{
		case FA_NEXT_SESSION1:
		case FA_NEXT_PROFILE1:
		case FA_NEXT_NODE1:
		case FA_NEXT_HOUR1:
		case FA_NEXT_WEEK1:
		case FA_NEXT_PAUSE1:
		case FA_NEXT_STREAM1:
			return key && n > 0 ? fa_next_hash(key, (uint64_t) s->recent[0]) : 0;
		case FA_NEXT_SESSION2:
			return key && n > 1 ? fa_next_hash(fa_next_hash(key, (uint64_t) s->recent[0]),
											   (uint64_t) s->recent[1]) : 0;
		default:
			return key;
	}
}

/* 0: the context does not apply. */
uint64_t
fa_next_key(const FaNext *next, FaNextKind kind, const FaSession *s,
			uint64_t profile, int node)
{
	uint64_t	key = key_of(next, kind, s, profile, node);

	return key == 0 ? 0 : fa_next_kinds[kind].shape >= 0 ? key | RANKS_KEY :
		key & ~RANKS_KEY;
}
