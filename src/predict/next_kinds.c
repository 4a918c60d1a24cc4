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

/*
 * Parents come before their children.  Sums of counts are kept below the
 * mosts; the weights are those before anything was learned.
 */
const FaNextKindInfo fa_next_kinds[FA_NEXT_NKINDS] = {
	[FA_NEXT_ORDER0] = {FA_NEXT_MARKOV, -1, 2000, 100, 1},
	[FA_NEXT_ORDER1] = {FA_NEXT_MARKOV, FA_NEXT_ORDER0, 1000, 30, 0.8},
	[FA_NEXT_ORDER2] = {FA_NEXT_MARKOV, FA_NEXT_ORDER1, 500, 16, 0.6},
	[FA_NEXT_ORDER3] = {FA_NEXT_MARKOV, FA_NEXT_ORDER2, 250, 8, 0.5},
	[FA_NEXT_ORDER4] = {FA_NEXT_MARKOV, FA_NEXT_ORDER3, 250, 8, 0.5},
	[FA_NEXT_ORDER6] = {FA_NEXT_MARKOV, FA_NEXT_ORDER4, 250, 8, 0.5},
	[FA_NEXT_SKIP1] = {FA_NEXT_MARKOV, FA_NEXT_ORDER0, 500, 16, 0.2},
	[FA_NEXT_SKIP2] = {FA_NEXT_MARKOV, FA_NEXT_ORDER1, 500, 16, 0.2},
	[FA_NEXT_SESSION0] = {FA_NEXT_HABIT, FA_NEXT_ORDER0, 200, 12, 0.4},
	[FA_NEXT_SESSION1] = {FA_NEXT_HABIT, FA_NEXT_SESSION0, 100, 8, 0.4},
	[FA_NEXT_SESSION2] = {FA_NEXT_HABIT, FA_NEXT_SESSION1, 100, 8, 0.4},
	[FA_NEXT_PROFILE0] = {FA_NEXT_HABIT, FA_NEXT_ORDER0, 500, 16, 0.2},
	[FA_NEXT_PROFILE1] = {FA_NEXT_HABIT, FA_NEXT_ORDER1, 500, 16, 0.2},
	[FA_NEXT_NODE0] = {FA_NEXT_HABIT, FA_NEXT_ORDER0, 1000, 30, 0.2},
	[FA_NEXT_NODE1] = {FA_NEXT_HABIT, FA_NEXT_ORDER1, 500, 16, 0.2},
	[FA_NEXT_HOUR0] = {FA_NEXT_CLOCK, FA_NEXT_ORDER0, 2000, 60, 0.2},
	[FA_NEXT_HOUR1] = {FA_NEXT_CLOCK, FA_NEXT_ORDER1, 500, 16, 0.2},
	[FA_NEXT_WEEK0] = {FA_NEXT_CLOCK, FA_NEXT_HOUR0, 1000, 30, 0.2},
	[FA_NEXT_WEEK1] = {FA_NEXT_CLOCK, FA_NEXT_HOUR1, 500, 16, 0.2},
	[FA_NEXT_SESSION_HOUR] = {FA_NEXT_CLOCK, FA_NEXT_SESSION0, 100, 8, 0.2},
	[FA_NEXT_PAUSE1] = {FA_NEXT_CACHE, FA_NEXT_ORDER1, 500, 16, 0.2},
	[FA_NEXT_SESSION_PAUSE] = {FA_NEXT_CACHE, FA_NEXT_SESSION0, 200, 8, 0.2},
	[FA_NEXT_STREAM0] = {FA_NEXT_CACHE, FA_NEXT_ORDER0, 1000, 16, 0.2},
	[FA_NEXT_STREAM1] = {FA_NEXT_CACHE, FA_NEXT_ORDER1, 500, 8, 0.2},
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

/* What followed a fragment, in any session: the key of order 1. */
uint64_t
fa_next_follow_key(int fragment)
{
	return fa_next_hash(fa_next_hash((uint64_t) FA_NEXT_ORDER1, 0x6e657874),
						(uint64_t) fragment);
}

/* 0: the context does not apply. */
uint64_t
fa_next_key(const FaNext *next, FaNextKind kind, const FaSession *s,
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
