/*
 * next.c
 *	  The next-fragment engine's public face, and the sessions it remembers.
 */
#include <string.h>

#include "predict/next_parts.h"

#define DEFAULT_BYTES		((size_t) 64 << 20)
#define BASE_PRIOR			0.5 /* count of a fragment never touched */
#define DEFAULT_SESSIONS	16384

const char *
fa_next_model_name(FaNextModel model)
{
	static const char *const name[FA_NEXT_NMODELS] = {
		[FA_NEXT_MARKOV] = "markov",
		[FA_NEXT_HABIT] = "habit",
		[FA_NEXT_CLOCK] = "clock",
		[FA_NEXT_CACHE] = "cache",
		[FA_NEXT_LSTM] = "lstm",
	};

	return (int) model >= 0 && model < FA_NEXT_NMODELS ? name[model] : "unknown";
}

static void
size_arrays(FaNext *next, int old_n, int n)
{
	FaMemory   *m = &next->memory;

	next->base = fa_memory_grow(m, next->base, old_n, n, sizeof(double));
	next->place = fa_memory_grow(m, next->place, old_n, n, sizeof(int32_t));
	for (int i = old_n; i < n; i++)
	{
		next->place[i] = -1;
		next->base[i] = BASE_PRIOR;
		next->base_sum += BASE_PRIOR;
	}
	next->config.nfragments = n;
}

FaNext *
fa_next_create(const FaNextConfig *config, const FaAllocator *allocator)
{
	FaNext	   *next = allocator->alloc(allocator->arg, sizeof(FaNext));

	memset(next, 0, sizeof(*next));
	next->memory.allocator = *allocator;
	next->config = *config;
	if (next->config.nfragments < 1)
		next->config.nfragments = 1;
	if (next->config.models == 0)
		next->config.models = (1u << FA_NEXT_NMODELS) - 1;
	if (next->config.bytes == 0)
		next->config.bytes = DEFAULT_BYTES;
	if (next->config.sessions < 1)
		next->config.sessions = DEFAULT_SESSIONS;
	size_arrays(next, 0, next->config.nfragments);
	fa_next_table_init(next, next->config.bytes);
	next->session_heads = 1;
	while (next->session_heads < next->config.sessions)
		next->session_heads *= 2;
	next->session_head = fa_memory_alloc(&next->memory, next->session_heads,
										 sizeof(FaSession *));
	fa_next_mix_init(next);
	if (next->config.models >> FA_NEXT_LSTM & 1)
		fa_next_lstm_init(next);
	return next;
}

void
fa_next_destroy(FaNext *next)
{
	FaAllocator allocator;

	if (next == NULL)
		return;
	allocator = next->memory.allocator;
	fa_memory_free_all(&next->memory);
	allocator.release(allocator.arg, next);
}

void
fa_next_resize(FaNext *next, int nfragments)
{
	int			old_n = next->config.nfragments;

	if (nfragments <= old_n)
		return;
	size_arrays(next, old_n, nfragments);
	for (int f = old_n; f < nfragments && next->network != NULL; f++)
		fa_next_lstm_count(next, f, next->base[f]);
}

static FaSession **
session_place(FaNext *next, uint64_t key)
{
	FaSession **at = &next->session_head[fa_next_hash(key, 7) &
										 (uint64_t) (next->session_heads - 1)];

	while (*at != NULL && (*at)->key != key)
		at = &(*at)->next;
	return at;
}

/* The session, or NULL when it is not known (any more). */
FaSession *
fa_next_session(FaNext *next, uint64_t key)
{
	return *session_place(next, key);
}

static void
unlink_use(FaNext *next, FaSession *s)
{
	if (s->older != NULL)
		s->older->newer = s->newer;
	else
		next->oldest = s->newer;
	if (s->newer != NULL)
		s->newer->older = s->older;
	else
		next->newest = s->older;
}

static void
append_use(FaNext *next, FaSession *s)
{
	s->older = next->newest;
	s->newer = NULL;
	if (next->newest != NULL)
		next->newest->newer = s;
	else
		next->oldest = s;
	next->newest = s;
}

/* The session, made when it is new; the one not seen for longest makes room. */
static FaSession *
open_session(FaNext *next, uint64_t key)
{
	FaSession  *s = *session_place(next, key);

	if (s != NULL)
	{
		unlink_use(next, s);
		append_use(next, s);
		return s;
	}
	if (next->nsessions >= next->config.sessions)
	{
		FaSession  *old = next->oldest;
		FaSession **at = session_place(next, old->key);

		*at = old->next;
		unlink_use(next, old);
		next->nsessions--;
		fa_memory_free(&next->memory, old);
	}
	s = fa_memory_alloc(&next->memory, 1, sizeof(FaSession));
	s->key = key;
	*session_place(next, key) = s;
	append_use(next, s);
	next->nsessions++;
	return s;
}

void
fa_next_forecast(FaNext *next, uint64_t session, uint64_t profile, int node,
				 double *p_p)
{
	const FaSession *s = *session_place(next, session);
	FaNextView *view = &next->view;
	int			n = next->config.nfragments;
	double		left = next->base_sum;

	fa_next_look(next, s, s ? s->profile : profile, s ? s->node : node);
	fa_next_mix(next);
	for (int i = 0; i < view->ncandidates; i++)
		left -= next->base[next->candidate[i]];
	for (int f = 0; f < n; f++)
	{
		int			at = next->place[f];

		if (at >= 0)
			p_p[f] = next->share[at];
		else if (left > 0)
			p_p[f] = next->share[view->ncandidates] * next->base[f] / left;
	}
}

void
fa_next_observe(FaNext *next, const FaNextEvent *event)
{
	FaSession  *s;
	bool		foreseen;

	if (event->fragment < 0 || event->fragment >= next->config.nfragments)
		return;
	s = *session_place(next, event->session);
	fa_next_look(next, s, s ? s->profile : event->profile,
				 s ? s->node : event->node);
	fa_next_mix(next);
	fa_next_mix_learn(next, event->fragment);
	foreseen = fa_next_foreseen(next, event->fragment);
	fa_next_learn_contexts(next, event->fragment);
	next->base[event->fragment] += 1;
	next->base_sum += 1;
	next->last = event->fragment;

	s = open_session(next, event->session);
	if (next->network != NULL)
	{
		fa_next_lstm_count(next, event->fragment, 1);
		fa_next_lstm_learn(next, s, event->fragment);
	}
	s->profile = event->profile;
	s->node = event->node;
	s->time = event->time;
	s->events++;
	s->run = !foreseen ? 0 : s->run < FA_NEXT_RUNS - 1 ? s->run + 1 : s->run;
	memmove(s->shape + 1, s->shape, FA_NEXT_SHAPES - 1);
	s->shape[0] = (int8_t) fa_next_rank(s, event->fragment);
	memmove(s->recent + 1, s->recent, sizeof(int32_t) * (FA_NEXT_RECENT - 1));
	s->recent[0] = event->fragment;
	if (s->nrecent < FA_NEXT_RECENT)
		s->nrecent++;
	if (event->time > next->now || next->events == 0)
		next->now = event->time;
	next->events++;
}

size_t
fa_next_memory(const FaNext *next)
{
	return sizeof(*next) + next->memory.size;
}
