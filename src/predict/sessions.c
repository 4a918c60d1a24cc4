/*
 * sessions.c
 *	  What all open sessions are expected to access in the coming step.
 *
 * A session's state at the end of a step is how many steps ago its last event
 * was and how many events it has a step; for each such state the events of the
 * step after are averaged over all sessions.  A session that ended looks like
 * one that pauses, and fades.  Which fragments: the likeliest of the
 * next-fragment engine, looked up again when the session has moved.  An event
 * stands for as many accesses as events at its fragment have had.
 *
 * A session's node is mostly the one it came from; where sessions wander (a
 * bicycle), it is the one that followed the session's last fragment before.
 * Which of the two to believe is learned, too.
 */
#include <math.h>
#include <string.h>

#include "predict/sessions_parts.h"

#define MOST_IDLE		256		/* steps; longer: the session has ended */
#define KEEP_STATE		0.999	/* of what a state has had, each step */
#define BELIEF			2.0		/* session-steps of belief in its own rate */
#define HALF_LIFE		4.0		/* steps, of a session's own rate */
#define KEEP_VISITS		0.99	/* of accesses an event, each event */
#define SHARE_FLIP		0.01	/* between the two guesses at the node */
#define MOST_LOOKS		8192	/* sessions looked up a step */
#define MOST_FOLLOWED	8		/* events of a session, one after the other */
#define SAME			0.5		/* part of them that is like the next event */
#define LEAST_FOLLOWED	1e-4	/* events that are none */

static void
size_fragments(FaSessions *s, int old_n, int n)
{
	FaMemory   *m = &s->memory;

	s->visits = fa_memory_grow(m, s->visits, old_n, n, sizeof(double));
	s->accesses = fa_memory_grow(m, s->accesses, old_n, n, sizeof(double));
	for (int f = old_n; f < n; f++)
		s->visits[f] = s->accesses[f] = 1;
	s->after = fa_memory_grow(m, s->after, old_n, n, sizeof(double));
	s->after_set = fa_memory_grow(m, s->after_set, old_n, n, sizeof(int32_t));
	if (s->nnodes > 1)
		s->follows = fa_memory_grow(m, s->follows, (size_t) old_n * s->nnodes,
									(size_t) n * s->nnodes, sizeof(double));
	/* laid out by fragment, so that what is there stays where it is */
	s->expected = fa_memory_grow(m, s->expected, (size_t) old_n * s->nnodes,
								 (size_t) n * s->nnodes, sizeof(double));
	s->set = fa_memory_grow(m, s->set, (size_t) old_n * s->nnodes,
							(size_t) n * s->nnodes, sizeof(int32_t));
}

FaSessions *
fa_sessions_create(const FaSessionsConfig *config, const FaAllocator *allocator)
{
	FaSessions *s = allocator->alloc(allocator->arg, sizeof(FaSessions));

	memset(s, 0, sizeof(*s));
	s->memory.allocator = *allocator;
	s->nnodes = config->nnodes < 1 ? 1 : config->nnodes;
	s->stays = 0.5;
	s->next = fa_next_create(&config->next, allocator);
	size_fragments(s, 0, s->next->config.nfragments);
	return s;
}

void
fa_sessions_destroy(FaSessions *s)
{
	FaAllocator allocator;

	if (s == NULL)
		return;
	allocator = s->memory.allocator;
	fa_next_destroy(s->next);
	fa_memory_free_all(&s->memory);
	allocator.release(allocator.arg, s);
}

void
fa_sessions_resize(FaSessions *s, int nfragments)
{
	int			old_n = s->next->config.nfragments;

	if (nfragments <= old_n)
		return;
	fa_next_resize(s->next, nfragments);
	size_fragments(s, old_n, nfragments);
}

/* Share of a node among the events that followed a fragment. */
static double
follow_share(const FaSessions *s, int fragment, int node)
{
	const double *v = s->follows + (size_t) fragment * s->nnodes;
	double		sum = 1;

	for (int n = 0; n < s->nnodes; n++)
		sum += v[n];
	return (v[node] + 1.0 / s->nnodes) / sum;
}

/* Learns from where the event came, of a session that was known. */
static void
learn_node(FaSessions *s, const FaSession *session, int node)
{
	double		stayed = session->node == node ? 0.99 : 0.01 / s->nnodes;
	double		followed = follow_share(s, session->recent[0], node);
	double	   *v = s->follows + (size_t) session->recent[0] * s->nnodes;

	s->stays = s->stays * stayed /
		(s->stays * stayed + (1 - s->stays) * followed);
	s->stays += SHARE_FLIP * (0.5 - s->stays);
	for (int n = 0; n < s->nnodes; n++)
		v[n] *= KEEP_VISITS;
	v[node] += 1;
}

void
fa_sessions_observe(FaSessions *s, const FaNextEvent *event, double repeats)
{
	FaSession  *session;
	int			f = event->fragment;

	if (f < 0 || f >= s->next->config.nfragments || event->node < 0 ||
		event->node >= s->nnodes)
		return;
	session = fa_next_session(s->next, event->session);
	if (session != NULL && session->nrecent > 0)
	{
		if (repeats > 0)
			s->accesses[session->recent[0]] += repeats;
		if (s->nnodes > 1)
			learn_node(s, session, event->node);
	}
	fa_next_observe(s->next, event);
	s->visits[f] = s->visits[f] * KEEP_VISITS + 1;
	s->accesses[f] = s->accesses[f] * KEEP_VISITS + 1;

	session = fa_next_session(s->next, event->session);
	if (session->use.events == 0 || session->use.step != s->step)
	{
		/* the first event of the step */
		session->use.rate *= exp2((double) (session->use.step + 1 - s->step) /
								  HALF_LIFE);
		session->use.step = s->step;
	}
	session->use.events++;
	session->use.moved = true;
}

static int
level(double v, int most)
{
	int			l = v > 0 ? (int) v : 0;

	return l < most ? l : most - 1;
}

/* How the session stands at the end of the step; its rate in *rate_p. */
static FaSessionState *
state_of(FaSessions *s, const FaSession *session, double *rate_p)
{
	double		idle = (double) (s->step - session->use.step);
	double		rate = session->use.rate * exp2(-idle / HALF_LIFE);

	*rate_p = rate;
	return &s->state[level(log2(idle + 1) + 0.5, FA_SESSION_IDLES) * FA_SESSION_BUSYS +
					 level(2 * log2(1 + 8 * rate), FA_SESSION_BUSYS)];
}

/* Keeps the likeliest, likeliest first. */
static void
add_top(FaSessionTop *t, int fragment, float p)
{
	int			at = t->n;

	if (at == FA_NEXT_TOP && p <= t->share[at - 1])
		return;
	if (at == FA_NEXT_TOP)
		at--;
	else
		t->n++;
	for (; at > 0 && t->share[at - 1] < p; at--)
	{
		t->share[at] = t->share[at - 1];
		t->fragment[at] = t->fragment[at - 1];
	}
	t->share[at] = p;
	t->fragment[at] = fragment;
}

/* The likeliest next fragments of the session. */
static void
look_up(FaSessions *s, FaSession *session)
{
	FaNext	   *next = s->next;

	session->use.moved = false;
	session->use.top.n = 0;
	fa_next_look(next, session, session->profile, session->node);
	fa_next_mix(next);
	for (int i = 0; i < next->view.ncandidates; i++)
		add_top(&session->use.top, next->candidate[i], (float) next->share[i]);
}

/*
 * Shares of the event after: in part like those of the first, which are of
 * this session, in part by what followed each fragment in all sessions.  A
 * fragment that nothing is known to have followed stays.
 */
static void
follow(FaSessions *s, const FaSessionTop *first, const FaSessionTop *t,
	   FaSessionTop *after_p)
{
	int			nafter = 0;

	for (int i = 0; i < t->n; i++)
	{
		const FaContext *c = fa_next_find(&s->next->table,
										  fa_next_follow_key(t->fragment[i]));
		int			n = c ? c->n : 1;

		for (int j = 0; j < n; j++)
		{
			int			f = c ? c->follower[j].fragment : t->fragment[i];
			double		p = (1 - SAME) * t->share[i] *
				(c ? c->follower[j].slow / c->slow : 1);

			if (s->after[f] == 0)
				s->after_set[nafter++] = f;
			s->after[f] += p + 1e-12;
		}
	}
	for (int i = 0; i < first->n; i++)
	{
		int			f = first->fragment[i];

		if (s->after[f] == 0)
			s->after_set[nafter++] = f;
		s->after[f] += SAME * first->share[i] + 1e-12;
	}
	after_p->n = 0;
	for (int i = 0; i < nafter; i++)
	{
		int			f = s->after_set[i];

		add_top(after_p, f, (float) s->after[f]);
		s->after[f] = 0;
	}
}

static void
add_expected(FaSessions *s, int fragment, int node, double accesses)
{
	size_t		at = (size_t) fragment * s->nnodes + node;

	if (!(accesses > 0))
		return;
	if (s->expected[at] == 0)
		s->set[s->nset++] = (int32_t) at;
	s->expected[at] += accesses;
}

/* Adds what so many events of the session would access. */
static void
expect_events(FaSessions *s, const FaSession *session, const FaSessionTop *t,
			  double events)
{
	for (int i = 0; i < t->n; i++)
	{
		int			f = t->fragment[i];
		double		accesses = events * t->share[i] *
			s->accesses[f] / s->visits[f];

		if (s->nnodes == 1)
		{
			add_expected(s, f, 0, accesses);
			continue;
		}
		for (int n = 0; n < s->nnodes; n++)
			add_expected(s, f, n, accesses *
						 (s->stays * (n == session->node) + (1 - s->stays) *
						  follow_share(s, session->recent[0], n)));
	}
}

/*
 * Adds what a session is expected to access: its next event by all that is
 * known of it, those after it by what follows what.
 */
static void
expect(FaSessions *s, const FaSession *session, double events, double scale)
{
	FaSessionTop t = session->use.top;

	for (int i = 0; i < MOST_FOLLOWED && events > LEAST_FOLLOWED; i++)
	{
		double		part = i == MOST_FOLLOWED - 1 ? events : fmin(events, 1);
		FaSessionTop after;

		expect_events(s, session, &t, part * scale);
		events -= part;
		if (events > LEAST_FOLLOWED)
		{
			follow(s, &session->use.top, &t, &after);
			t = after;
		}
	}
}

/* Learns what the step brought, of the sessions that may go on. */
static void
learn_states(FaSessions *s)
{
	double		keep = exp2(-1 / HALF_LIFE);

	for (int i = 0; i < FA_SESSION_STATES; i++)
	{
		s->state[i].n *= KEEP_STATE;
		s->state[i].events *= KEEP_STATE;
	}
	for (FaSession *x = s->next->newest; x != NULL; x = x->older)
	{
		FaSessionUse *use = &x->use;

		if (s->step - use->step > MOST_IDLE)
			break;
		if (use->state >= 0 && use->known)
		{
			s->state[use->state].n++;
			s->state[use->state].events += use->step == s->step ?
				(double) use->events : 0;
		}
		if (use->step == s->step)
			use->rate = use->rate * keep + (1 - keep) * (double) use->events;
	}
}

void
fa_sessions_step(FaSessions *s, double scale)
{
	int			looks = 0;

	learn_states(s);
	for (int i = 0; i < s->nset; i++)
		s->expected[s->set[i]] = 0;
	s->nset = 0;
	for (FaSession *x = s->next->newest; x != NULL; x = x->older)
	{
		FaSessionUse *use = &x->use;
		double		rate;
		FaSessionState *state;

		if (s->step - use->step > MOST_IDLE)
			break;
		state = state_of(s, x, &rate);
		use->state = (int16_t) (state - s->state);
		use->known = true;
		if (use->step == s->step)
			use->events = 0;
		if (use->moved && looks++ < MOST_LOOKS)
			look_up(s, x);
		expect(s, x, (state->events + BELIEF * rate) / (state->n + BELIEF),
			   scale);
	}
	s->step++;
}

/* The cells above a limit that leaves at most max, and are least or more. */
int
fa_sessions_expected(const FaSessions *s, double least, FaCell *cells, int max)
{
	int			n;

	for (;; least *= 2)
	{
		n = 0;
		for (int i = 0; i < s->nset; i++)
			n += s->expected[s->set[i]] >= least;
		if (n <= max)
			break;
	}
	n = 0;
	for (int i = 0; i < s->nset; i++)
	{
		double		v = s->expected[s->set[i]];

		if (v >= least)
			cells[n++] = (FaCell) {
				.node = s->set[i] % s->nnodes,
				.fragment = s->set[i] / s->nnodes,
				.count = v
			};
	}
	return n;
}

void
fa_sessions_reset_network(FaSessions *s)
{
	if (s->next->network != NULL)
		fa_next_lstm_reset(s->next);
	for (FaSession *x = s->next->newest; x != NULL; x = x->older)
	{
		memset(&x->state, 0, sizeof(x->state));
		memset(&x->start, 0, sizeof(x->start));
		x->nwindow = 0;
	}
}

size_t
fa_sessions_memory(const FaSessions *s)
{
	return sizeof(*s) + s->memory.size + fa_next_memory(s->next);
}
