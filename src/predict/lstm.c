/*
 * lstm.c
 *	  A small recurrent network, trained online.
 *
 * Loops run along rows of weights, over a constant number of columns, so that
 * the compiler vectorises them without leave to reorder sums.
 */
#include <math.h>
#include <string.h>

#include "predict/lstm.h"
#include "predict/vector.h"

#define H				FA_LSTM_HIDDEN
#define G				FA_LSTM_GATES
#define CLIP			1.0		/* of the gradient's length, for each window */
#define BETA1			0.9f
#define BETA2			0.999f

/* Where the parameters lie. */
static inline float *
at_symbols(const FaLstm *l, float *p)
{
	return p + (size_t) l->ndense * G;
}

static inline float *
at_recurrent(const FaLstm *l, float *p)
{
	return at_symbols(l, p) + (size_t) l->nsymbols * G;
}

static inline float *
at_bias(const FaLstm *l, float *p)
{
	return at_recurrent(l, p) + (size_t) H * G;
}

static inline float *
at_out(const FaLstm *l, float *p)	/* nout x H, then the nout biases */
{
	return at_bias(l, p) + G;
}

static double
uniform(uint64_t *state)
{
	uint64_t	x = *state += UINT64_C(0x9E3779B97F4A7C15);

	x = (x ^ x >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
	x = (x ^ x >> 27) * UINT64_C(0x94D049BB133111EB);
	return (double) ((x ^ x >> 31) >> 11) / 9007199254740992.0;
}

FaLstm *
fa_lstm_create(FaMemory *memory, int ndense, int nsymbols, int nout,
			   uint64_t seed)
{
	FaLstm	   *l = fa_memory_alloc(memory, 1, sizeof(FaLstm));

	l->ndense = ndense;
	l->nsymbols = nsymbols;
	l->nout = nout;
	l->nparams = (ndense + nsymbols + H) * G + G + nout * H + nout;
	l->param = fa_memory_alloc(memory, l->nparams, sizeof(float));
	l->grad = fa_memory_alloc(memory, l->nparams, sizeof(float));
	l->mean = fa_memory_alloc(memory, l->nparams, sizeof(float));
	l->square = fa_memory_alloc(memory, l->nparams, sizeof(float));
	l->dense = fa_memory_alloc(memory, (size_t) FA_LSTM_WINDOW * (ndense + 1),
							   sizeof(float));
	fa_lstm_reset(l, seed);
	return l;
}

void
fa_lstm_reset(FaLstm *l, uint64_t seed)
{
	float	   *bias = at_bias(l, l->param);
	size_t		size = sizeof(float) * (size_t) l->nparams;

	memset(l->param, 0, size);
	memset(l->grad, 0, size);
	memset(l->mean, 0, size);
	memset(l->square, 0, size);
	l->steps = 0;
	for (int i = 0; i < bias - l->param; i++)
		l->param[i] = (float) ((uniform(&seed) - 0.5) * 0.35);
	for (int k = 0; k < H; k++)
		bias[H + k] = 1;		/* remember, to begin with */
}

static FA_PREDICT_INLINE void
add_scaled(float *restrict to, const float *restrict row, float v)
{
	for (int k = 0; k < G; k++)
		to[k] += v * row[k];
}

static FA_PREDICT_INLINE float
product(const float *restrict a, const float *restrict b, int n)
{
	float		sum[8] = {0};

	for (int k = 0; k < n; k += 8)
	{
		for (int j = 0; j < 8; j++)
			sum[j] += a[k + j] * b[k + j];
	}
	return ((sum[0] + sum[4]) + (sum[1] + sum[5])) +
		((sum[2] + sum[6]) + (sum[3] + sum[7]));
}

static inline float
sigmoid(float v)
{
	return 1 / (1 + expf(-v));
}

/*
 * Step t of a window from the state before; after_p gets the state after it.
 * A step that is not to be learned through may be any t.
 */
FA_PREDICT_WIDE void
fa_lstm_forward(FaLstm *l, int t, const FaLstmState *before,
				const float *dense, const int *symbols, FaLstmState *after_p)
{
	FaLstmStep *s = &l->step[t];
	const float *recurrent = at_recurrent(l, l->param);

	s->before = *before;
	memcpy(s->gate, at_bias(l, l->param), sizeof(s->gate));
	for (int i = 0; i < l->ndense; i++)
	{
		l->dense[t * l->ndense + i] = dense[i];
		add_scaled(s->gate, l->param + (size_t) i * G, dense[i]);
	}
	for (int i = 0; i < FA_LSTM_SYMBOLS; i++)
	{
		s->symbol[i] = symbols ? symbols[i] : -1;
		if (s->symbol[i] >= 0)
			add_scaled(s->gate, at_symbols(l, l->param) + (size_t) s->symbol[i] * G, 1);
	}
	for (int i = 0; i < H; i++)
		add_scaled(s->gate, recurrent + (size_t) i * G, before->h[i]);
	for (int k = 0; k < H; k++)
	{
		float	   *g = s->gate;

		g[k] = sigmoid(g[k]);
		g[H + k] = sigmoid(g[H + k]);
		g[2 * H + k] = tanhf(g[2 * H + k]);
		g[3 * H + k] = sigmoid(g[3 * H + k]);
		s->after.c[k] = g[H + k] * before->c[k] + g[k] * g[2 * H + k];
		s->squashed[k] = tanhf(s->after.c[k]);
		s->after.h[k] = g[3 * H + k] * s->squashed[k];
	}
	*after_p = s->after;
}

FA_PREDICT_WIDE void
fa_lstm_out(const FaLstm *l, const FaLstmState *state, float *out_p)
{
	const float *w = at_out(l, l->param);

	for (int o = 0; o < l->nout; o++)
		out_p[o] = product(w + (size_t) o * H, state->h, H) +
			w[(size_t) l->nout * H + o];
}

/*
 * Adds the gradient of a loss over steps 0 .. nsteps - 1 of the window, given
 * its derivatives by the outputs after each (nsteps x nout).
 */
FA_PREDICT_WIDE void
fa_lstm_backward(FaLstm *l, int nsteps, const float *dout)
{
	float		dh[H] = {0};
	float		dc[H] = {0};
	const float *w = at_out(l, l->param);
	const float *recurrent = at_recurrent(l, l->param);
	float	   *dw = at_out(l, l->grad);

	for (int t = nsteps - 1; t >= 0; t--)
	{
		const FaLstmStep *s = &l->step[t];
		const float *g = s->gate;
		float		dz[G];

		for (int o = 0; o < l->nout; o++)
		{
			float		d = dout[t * l->nout + o];

			if (d == 0)
				continue;
			for (int k = 0; k < H; k++)
			{
				dh[k] += d * w[(size_t) o * H + k];
				dw[(size_t) o * H + k] += d * s->after.h[k];
			}
			dw[(size_t) l->nout * H + o] += d;
		}
		for (int k = 0; k < H; k++)
		{
			float		i = g[k];
			float		f = g[H + k];
			float		c = g[2 * H + k];
			float		o = g[3 * H + k];

			dc[k] += dh[k] * o * (1 - s->squashed[k] * s->squashed[k]);
			dz[k] = dc[k] * c * i * (1 - i);
			dz[H + k] = dc[k] * s->before.c[k] * f * (1 - f);
			dz[2 * H + k] = dc[k] * i * (1 - c * c);
			dz[3 * H + k] = dh[k] * s->squashed[k] * o * (1 - o);
			dc[k] *= f;
		}
		add_scaled(at_bias(l, l->grad), dz, 1);
		for (int i = 0; i < l->ndense; i++)
			add_scaled(l->grad + (size_t) i * G, dz, l->dense[t * l->ndense + i]);
		for (int i = 0; i < FA_LSTM_SYMBOLS; i++)
		{
			if (s->symbol[i] >= 0)
				add_scaled(at_symbols(l, l->grad) + (size_t) s->symbol[i] * G, dz, 1);
		}
		for (int i = 0; i < H; i++)
		{
			add_scaled(at_recurrent(l, l->grad) + (size_t) i * G, dz, s->before.h[i]);
			dh[i] = product(recurrent + (size_t) i * G, dz, G);
		}
	}
}

/* One step of Adam against the gradient, which is then zero again. */
FA_PREDICT_WIDE void
fa_lstm_update(FaLstm *l, double rate)
{
	double		length = 0;
	float		scale = 1;
	float		step;

	for (int i = 0; i < l->nparams; i++)
		length += (double) l->grad[i] * l->grad[i];
	if (!isfinite(length))
	{
		memset(l->grad, 0, sizeof(float) * l->nparams);
		return;
	}
	if (length > CLIP * CLIP)
		scale = (float) (CLIP / sqrt(length));
	l->steps++;
	step = (float) (rate * sqrt(1 - pow(BETA2, (double) l->steps)) /
					(1 - pow(BETA1, (double) l->steps)));
	for (int i = 0; i < l->nparams; i++)
	{
		float		g = l->grad[i] * scale;

		l->mean[i] += (1 - BETA1) * (g - l->mean[i]);
		l->square[i] += (1 - BETA2) * (g * g - l->square[i]);
		l->param[i] -= step * l->mean[i] / (sqrtf(l->square[i]) + 1e-8f);
		l->grad[i] = 0;
	}
}

void
fa_lstm_archive(FaLstm *l, FaArchive *ar)
{
	fa_predict_ar_i64(ar, &l->steps);
	fa_predict_ar_floats(ar, l->param, l->nparams);
	fa_predict_ar_floats(ar, l->mean, l->nparams);
	fa_predict_ar_floats(ar, l->square, l->nparams);
	for (int i = 0; i < l->nparams && ar->reading; i++)
	{
		if (l->square[i] < 0 || fabsf(l->param[i]) > 1e6f)
			ar->failed = true;
	}
	if (l->steps < 0)
		ar->failed = true;
}
