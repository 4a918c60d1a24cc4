/*
 * lstm.h
 *	  A small recurrent network, trained online.
 *
 * One layer of LSTM cells (Hochreiter & Schmidhuber 1997, with the forget gate
 * of Gers et al. 2000) and a linear output layer.  An input is some dense
 * features and some symbols, each of which selects a row of weights.  What
 * the outputs mean, and the loss, is the caller's affair: it passes back the
 * loss's derivatives by the outputs.  Steps are by Adam (Kingma & Ba 2015).
 */
#ifndef FA_PREDICT_LSTM_H
#define FA_PREDICT_LSTM_H

#include "predict/frame.h"

#define FA_LSTM_HIDDEN		32	/* cells; fixed, so that loops unroll */
#define FA_LSTM_GATES		(4 * FA_LSTM_HIDDEN)
#define FA_LSTM_WINDOW		8	/* steps that are learned through */
#define FA_LSTM_SYMBOLS		2	/* of an input, at most */

typedef struct FaLstmState
{
	float		h[FA_LSTM_HIDDEN];
	float		c[FA_LSTM_HIDDEN];
} FaLstmState;

/* What is kept of a step for learning. */
typedef struct FaLstmStep
{
	FaLstmState before;
	FaLstmState after;
	float		gate[FA_LSTM_GATES];	/* input, forget, cell, output */
	float		squashed[FA_LSTM_HIDDEN];	/* tanh(after.c) */
	int			symbol[FA_LSTM_SYMBOLS];	/* -1: none */
} FaLstmStep;

typedef struct FaLstm
{
	int			ndense;
	int			nsymbols;		/* rows of weights */
	int			nout;
	int			nparams;
	int64_t		steps;			/* updates made */
	float	   *param;			/* dense, symbols, recurrent, bias, out */
	float	   *grad;
	float	   *mean;			/* of gradients and of their squares */
	float	   *square;
	float	   *dense;			/* FA_LSTM_WINDOW x ndense */
	FaLstmStep	step[FA_LSTM_WINDOW];
} FaLstm;

/* in lstm.c */
extern FaLstm *fa_lstm_create(FaMemory *memory, int ndense, int nsymbols,
							  int nout, uint64_t seed);
/* As it was created. */
extern void fa_lstm_reset(FaLstm *lstm, uint64_t seed);
extern void fa_lstm_forward(FaLstm *lstm, int t, const FaLstmState *before,
							const float *dense, const int *symbols,
							FaLstmState *after_p);
extern void fa_lstm_out(const FaLstm *lstm, const FaLstmState *state,
						float *out_p);
extern void fa_lstm_backward(FaLstm *lstm, int nsteps, const float *dout);
extern void fa_lstm_update(FaLstm *lstm, double rate);
extern void fa_lstm_archive(FaLstm *lstm, FaArchive *ar);

#endif							/* FA_PREDICT_LSTM_H */
