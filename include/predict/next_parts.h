/*
 * next_parts.h
 *	  Inside of the next-fragment engine.
 *
 * A *context* is something known before an event: the session's last two
 * fragments, the hour, the session itself.  For each value of a context the
 * fragments that followed are counted, forgotten as new ones come.  Contexts
 * form trees: each has a parent, more general, that it backs off to; what a
 * context says of a fragment is the logarithm of the ratio of its estimate to
 * its parent's.  Contexts of a session's *shape* count ranks instead: which of
 * its last fragments it came back to, whatever they are.  These ratios, with
 * what is touched together, some features of the session and the network's
 * output, are the *signals* (next_signals.c) of a log-linear mixture whose
 * weights are learned online (next_mix.c), apart for each level of evidence.
 *
 * Only fragments that some context has seen (candidates) are worked on one by
 * one; all others differ by their long-run share only.
 */
#ifndef FA_PREDICT_NEXT_PARTS_H
#define FA_PREDICT_NEXT_PARTS_H

#include "predict/lstm.h"
#include "predict/memory.h"
#include "predict/next.h"

#define FA_NEXT_RECENT		16	/* fragments of a session remembered */
#define FA_NEXT_MOST		128 /* fragments counted in a context */
#define FA_NEXT_LEVELS		36	/* of evidence */
#define FA_NEXT_PAUSES		5	/* levels of a session's pause */
#define FA_NEXT_RANKS		(FA_NEXT_RECENT + 1)	/* last: none of the recent */
#define FA_NEXT_SHAPES		3	/* ranks of its events that a session remembers */
#define FA_NEXT_TOGETHER_OF 8	/* recent fragments that others go together with */
#define FA_NEXT_RUNS		6	/* lengths of a run of foreseen events */
#define FA_NEXT_STATES		3	/* that a session is in at once */
#define FA_NEXT_TOP			12	/* likeliest fragments of a session kept */
#define FA_NEXT_DENSE		8	/* features that the network reads */

typedef enum FaNextKind
{
	FA_NEXT_ORDER0,				/* the session's last fragments */
	FA_NEXT_ORDER1,
	FA_NEXT_ORDER2,
	FA_NEXT_ORDER3,
	FA_NEXT_ORDER4,
	FA_NEXT_ORDER6,
	FA_NEXT_SKIP1,				/* the last but one */
	FA_NEXT_SKIP2,				/* the last, and the last but two */
	FA_NEXT_SET2,				/* the last two different ones, in any order */
	FA_NEXT_SET3,
	FA_NEXT_TOGETHER,			/* each of the last: many contexts in one */
	FA_NEXT_SESSION0,			/* the session, and its last fragments */
	FA_NEXT_SESSION1,
	FA_NEXT_SESSION2,
	FA_NEXT_PROFILE0,			/* role and application */
	FA_NEXT_PROFILE1,
	FA_NEXT_NODE0,
	FA_NEXT_NODE1,
	FA_NEXT_HOUR0,				/* of the day */
	FA_NEXT_HOUR1,
	FA_NEXT_WEEK0,				/* hour of the week */
	FA_NEXT_WEEK1,
	FA_NEXT_SESSION_HOUR,
	FA_NEXT_PAUSE1,				/* how long ago its last event was */
	FA_NEXT_SESSION_PAUSE,
	FA_NEXT_STREAM0,			/* what came last from any session */
	FA_NEXT_STREAM1,
	FA_NEXT_SHAPE0,				/* ranks of the session's last events */
	FA_NEXT_SHAPE1,
	FA_NEXT_SHAPE2,
	FA_NEXT_SHAPE3,
	FA_NEXT_SESSION_SHAPE0,
	FA_NEXT_SESSION_SHAPE1,
	FA_NEXT_SESSION_SHAPE2,
	FA_NEXT_NKINDS
} FaNextKind;

#define FA_NEXT_SIGNALS		(2 * FA_NEXT_NKINDS + 1)	/* the network's is last */

typedef struct FaNextKindInfo
{
	FaNextModel model;			/* that it belongs to */
	int			parent;			/* FaNextKind; -1: the base */
	double		slow_most;		/* sum of its counts with a long memory */
	double		fast_most;		/* and with a short one */
	double		start;			/* weight of its first signal */
	int			shape;			/* ranks it goes by, and counts; -1: it counts
								 * fragments */
} FaNextKindInfo;

/* One fragment that followed a context. */
typedef struct FaFollower
{
	int32_t		fragment;
	float		slow;			/* count with a long memory */
	float		fast;			/* and a short one */
} FaFollower;

typedef struct FaContext
{
	uint64_t	key;
	struct FaContext *next;		/* of the same hash */
	int64_t		used;			/* event at which it was counted last */
	int32_t		n;				/* followers */
	int32_t		capacity;
	float		slow;			/* sums of the followers' */
	float		fast;
	FaFollower *follower;
} FaContext;

typedef struct FaContextTable
{
	FaContext **head;			/* by hash */
	int			nheads;			/* a power of 2 */
	int			ncontexts;
	size_t		bytes;			/* of contexts and followers */
	size_t		most;
} FaContextTable;

typedef struct FaNextLstm FaNextLstm;

/* What the network reads before an event, and which fragment it was. */
typedef struct FaNextInput
{
	float		dense[FA_NEXT_DENSE];
	int			symbol[FA_LSTM_SYMBOLS];
	int			fragment;
} FaNextInput;

/* Likeliest next fragments, likeliest first. */
typedef struct FaSessionTop
{
	int32_t		n;
	int32_t		fragment[FA_NEXT_TOP];
	float		share[FA_NEXT_TOP];
} FaSessionTop;

/* What is known of a session at the ends of steps: see sessions.c. */
typedef struct FaSessionUse
{
	int64_t		step;			/* of its last event */
	int64_t		events;			/* in that step, until the step's end */
	double		rate;			/* events a step, up to that step */
	int16_t		state;			/* at the end of the step before */
	bool		known;			/* there was such an end */
	bool		moved;			/* since it was looked up */
	FaSessionTop top;
} FaSessionUse;

typedef struct FaSession
{
	uint64_t	key;
	struct FaSession *next;		/* of the same hash */
	struct FaSession *older;	/* by last use */
	struct FaSession *newer;
	uint64_t	profile;
	int32_t		node;
	int64_t		time;			/* of its last event */
	int64_t		events;
	int32_t		run;			/* events in a row that were foreseen */
	int32_t		nrecent;
	int32_t		recent[FA_NEXT_RECENT]; /* latest first */
	int8_t		shape[FA_NEXT_SHAPES];	/* their ranks when they came */
	FaLstmState state;			/* after the last event */
	FaLstmState start;			/* before the window */
	FaSessionUse use;
	int32_t		nwindow;
	FaNextInput window[FA_LSTM_WINDOW];
} FaSession;

/* What is known before an event of one session. */
typedef struct FaNextView
{
	uint64_t	key[FA_NEXT_NKINDS];	/* 0: context does not apply */
	FaContext  *context[FA_NEXT_NKINDS];	/* NULL: nothing counted */
	int			ntogether;
	uint64_t	together_key[FA_NEXT_TOGETHER_OF];
	FaContext  *together[FA_NEXT_TOGETHER_OF];	/* NULL: nothing counted */
	FaNextInput input;
	FaLstmState state;			/* the network's, having read the input */
	int			pause;
	int			state_of[FA_NEXT_STATES];	/* the session: see next_mix.c */
	int			ncandidates;
	bool		others;			/* there are fragments that are none */
	int			slot[FA_NEXT_SIGNALS];	/* weight by level; -1: no signal */
} FaNextView;

struct FaNext
{
	FaMemory	memory;
	FaNextConfig config;
	FaContextTable table;
	int64_t		events;			/* observed */
	int64_t		now;			/* time of the last one */
	int32_t		last;			/* its fragment */

	FaSession **session_head;	/* by hash */
	int			session_heads;	/* a power of 2 */
	int			nsessions;
	FaSession  *oldest;
	FaSession  *newest;

	/* the mixture */
	double	   *weight;
	double	   *information;	/* about the weight, forgotten */
	double		pool_won;		/* events that the pool foresaw, forgotten */
	double		backoff_won;	/* and those that the plain back-off did */
	FaNextLstm *network;		/* NULL: off */

	/* by fragment */
	double	   *base;			/* long-run count, never 0 */
	double		base_sum;
	int32_t    *place;			/* among the candidates, or -1 */

	/* of the view, by candidate, and one more for all others */
	size_t		room;			/* candidates that the arrays hold */
	int32_t    *candidate;
	int32_t    *rank;			/* in the session's recent fragments */
	double	   *base_share;
	double	   *pooled;			/* shares by the log-linear pool */
	double	   *backoff;		/* and by plain back-off */
	double	   *share;			/* the forecast */
	double	   *signal;			/* candidates x FA_NEXT_SIGNALS */
	double	   *estimate;		/* FA_NEXT_NKINDS x candidates, or ranks */
	FaNextView	view;
};

/* in next.c */
extern FaSession *fa_next_session(FaNext *next, uint64_t key);

/* in next_context.c */
extern FaContext *fa_next_find(const FaContextTable *table, uint64_t key);
extern void fa_next_count(FaNext *next, uint64_t key, int fragment,
						  double slow_most, double fast_most);
extern void fa_next_put(FaNext *next, uint64_t key, int64_t used, int fragment,
						float slow, float fast);
extern void fa_next_table_init(FaNext *next, size_t most);

/* in next_kinds.c */
extern const FaNextKindInfo fa_next_kinds[FA_NEXT_NKINDS];
extern int	fa_next_pause(const FaNext *next, const FaSession *s);
extern uint64_t fa_next_follow_key(int fragment);
extern uint64_t fa_next_together_key(int fragment);
extern bool fa_next_counts_ranks(uint64_t key);
extern uint64_t fa_next_key(const FaNext *next, FaNextKind kind,
							const FaSession *s, uint64_t profile, int node);

/* in next_signals.c */
extern void fa_next_look(FaNext *next, const FaSession *s, uint64_t profile,
						 int node);
extern void fa_next_signals(FaNext *next);
extern void fa_next_learn_contexts(FaNext *next, int fragment);

/* in next_mix.c */
extern void fa_next_mix_init(FaNext *next);
extern void fa_next_set_states(FaNext *next, const FaSession *s);
extern void fa_next_mix(FaNext *next);
extern void fa_next_mix_learn(FaNext *next, int fragment);
extern bool fa_next_foreseen(const FaNext *next, int fragment);
extern void fa_next_mix_archive(FaNext *next, FaArchive *ar);

/* in next_lstm.c */
extern void fa_next_lstm_init(FaNext *next);
extern int	fa_next_lstm_classes(const FaNext *next);
extern void fa_next_lstm_archive(FaNext *next, FaArchive *ar);
extern void fa_next_lstm_reset(FaNext *next);
extern void fa_next_lstm_count(FaNext *next, int fragment, double count);
extern void fa_next_lstm_look(FaNext *next, const FaSession *s);
extern double fa_next_lstm_signal(const FaNext *next, int fragment);
extern void fa_next_lstm_learn(FaNext *next, FaSession *s, int fragment);

/* Where the fragment is among the session's recent ones, latest first. */
static inline int
fa_next_rank(const FaSession *s, int fragment)
{
	int			rank = 0;

	while (rank < s->nrecent && s->recent[rank] != fragment)
		rank++;
	return rank < s->nrecent ? rank : FA_NEXT_RANKS - 1;
}

static inline uint64_t
fa_next_hash(uint64_t a, uint64_t b)
{
	uint64_t	x = a * UINT64_C(0x9E3779B97F4A7C15) +
		(b + 1) * UINT64_C(0xD1B54A32D192ED03);

	x ^= x >> 31;
	x *= UINT64_C(0xBF58476D1CE4E5B9);
	x ^= x >> 27;
	x *= UINT64_C(0x94D049BB133111EB);
	x ^= x >> 32;
	return x ? x : 1;
}

#endif							/* FA_PREDICT_NEXT_PARTS_H */
