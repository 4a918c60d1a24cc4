/*
 * next_lstm.c
 *	  The network's part in the next-fragment engine.
 *
 * One network for all sessions reads each session's fragments in turn, with
 * its node, the time of day and week and the pause before.  Its softmax is
 * over classes of fragments: one each as long as there are few fragments,
 * else a class is shared, in proportion to the long-run shares.  It learns
 * from every STRIDE events of a session, through the last FA_LSTM_WINDOW.
 */
#include <math.h>
#include <string.h>

#include "predict/next_parts.h"

#define MOST_CLASSES	256
#define NODES			32		/* rows; nodes beyond share one */
#define STRIDE			4
#define RATE			0.004

struct FaNextLstm
{
	FaLstm	   *lstm;
	int			nclasses;
	float	   *logit;			/* nclasses */
	float	   *dout;			/* FA_LSTM_WINDOW x nclasses */
	double	   *share;			/* of the classes */
	double	   *base;			/* long-run count of the classes */
};

void
fa_next_lstm_init(FaNext *next)
{
	FaMemory   *m = &next->memory;
	FaNextLstm *n = fa_memory_alloc(m, 1, sizeof(FaNextLstm));

	next->network = n;
	n->nclasses = next->config.nfragments < MOST_CLASSES ?
		next->config.nfragments : MOST_CLASSES;
	n->lstm = fa_lstm_create(m, FA_NEXT_DENSE, n->nclasses + NODES,
							 n->nclasses, next->config.seed);
	n->logit = fa_memory_alloc(m, n->nclasses, sizeof(float));
	n->dout = fa_memory_alloc(m, (size_t) n->nclasses * FA_LSTM_WINDOW,
							  sizeof(float));
	n->share = fa_memory_alloc(m, n->nclasses, sizeof(double));
	n->base = fa_memory_alloc(m, n->nclasses, sizeof(double));
	for (int f = 0; f < next->config.nfragments; f++)
		n->base[f % n->nclasses] += next->base[f];
}

void
fa_next_lstm_count(FaNext *next, int fragment, double count)
{
	next->network->base[fragment % next->network->nclasses] += count;
}

static void
make_input(const FaNext *next, const FaSession *s, FaNextInput *in_p)
{
	const FaNextLstm *n = next->network;
	double		day = 6.283185307179586 * (double) (next->now % 86400) / 86400;
	double		week = 6.283185307179586 * (double) (next->now % 604800) / 604800;

	in_p->symbol[0] = s && s->nrecent > 0 ? s->recent[0] % n->nclasses : -1;
	in_p->symbol[1] = !s || s->node < 0 ? -1 : n->nclasses +
		(s->node < NODES ? s->node : NODES - 1);
	in_p->dense[0] = (float) sin(day);
	in_p->dense[1] = (float) cos(day);
	in_p->dense[2] = (float) sin(2 * day);
	in_p->dense[3] = (float) cos(2 * day);
	in_p->dense[4] = (float) sin(week);
	in_p->dense[5] = (float) cos(week);
	in_p->dense[6] = s ? (float) (log1p((double) (next->now > s->time ? next->now - s->time : 0)) / 6) : 0;
	in_p->dense[7] = s ? 0 : 1;
}

static void
softmax(const FaNextLstm *n, const float *logit, double *p_p)
{
	double		top = logit[0];
	double		sum = 0;

	for (int i = 1; i < n->nclasses; i++)
		top = logit[i] > top ? logit[i] : top;
	for (int i = 0; i < n->nclasses; i++)
		sum += p_p[i] = exp(logit[i] - top);
	for (int i = 0; i < n->nclasses; i++)
		p_p[i] /= sum;
}

/* What the network expects of the session; s may be NULL. */
void
fa_next_lstm_look(FaNext *next, const FaSession *s)
{
	FaNextLstm *n = next->network;
	static const FaLstmState zero;

	make_input(next, s, &next->view.input);
	fa_lstm_forward(n->lstm, 0, s ? &s->state : &zero, next->view.input.dense,
					next->view.input.symbol, &next->view.state);
	fa_lstm_out(n->lstm, &next->view.state, n->logit);
	softmax(n, n->logit, n->share);
}

/* ln(share of the fragment / its long-run share), by the network. */
double
fa_next_lstm_signal(const FaNext *next, int fragment)
{
	const FaNextLstm *n = next->network;
	int			class = fragment % n->nclasses;

	return log((n->share[class] + 1e-6) / (n->base[class] / next->base_sum));
}

static void
learn(FaNext *next, FaSession *s)
{
	FaNextLstm *n = next->network;
	FaLstmState state = s->start;

	memset(n->dout, 0, sizeof(float) * (size_t) n->nclasses * FA_LSTM_WINDOW);
	for (int t = 0; t < s->nwindow; t++)
	{
		float	   *d = n->dout + (size_t) t * n->nclasses;

		fa_lstm_forward(n->lstm, t, &state, s->window[t].dense,
						s->window[t].symbol, &state);
		if (t < s->nwindow - STRIDE)
			continue;
		fa_lstm_out(n->lstm, &state, n->logit);
		softmax(n, n->logit, n->share);
		for (int i = 0; i < n->nclasses; i++)
			d[i] = (float) n->share[i];
		d[s->window[t].fragment % n->nclasses] -= 1;
	}
	fa_lstm_backward(n->lstm, s->nwindow, n->dout);
	fa_lstm_update(n->lstm, RATE);
	s->state = state;
}

/* The session's next event has come, of which the view was made. */
void
fa_next_lstm_learn(FaNext *next, FaSession *s, int fragment)
{
	FaNextInput *in;

	if (s->nwindow == FA_LSTM_WINDOW)
	{
		FaLstmState state = s->start;

		for (int t = 0; t < STRIDE; t++)
			fa_lstm_forward(next->network->lstm, t, &state, s->window[t].dense,
							s->window[t].symbol, &state);
		s->start = state;
		memmove(s->window, s->window + STRIDE, sizeof(FaNextInput) *
				(FA_LSTM_WINDOW - STRIDE));
		s->nwindow -= STRIDE;
	}
	in = &s->window[s->nwindow++];
	*in = next->view.input;
	in->fragment = fragment;
	s->state = next->view.state;
	if (s->nwindow % STRIDE == 0)
		learn(next, s);
}

void
fa_next_lstm_reset(FaNext *next)
{
	fa_lstm_reset(next->network->lstm, next->config.seed);
}

int
fa_next_lstm_classes(const FaNext *next)
{
	return next->network->nclasses;
}

/* After the long-run counts, which the classes' are sums of. */
void
fa_next_lstm_archive(FaNext *next, FaArchive *ar)
{
	FaNextLstm *n = next->network;

	fa_lstm_archive(n->lstm, ar);
	if (!ar->reading)
		return;
	memset(n->base, 0, sizeof(double) * n->nclasses);
	for (int f = 0; f < next->config.nfragments; f++)
		n->base[f % n->nclasses] += next->base[f];
}
