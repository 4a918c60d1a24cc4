/*
 * trust.c
 *	  Learning how many accesses of a step say as much as one.
 *
 * The values are weighed by their likelihood, as a Bayesian would who believes
 * in independent accesses to begin with, and forgets.
 */
#include <math.h>

#include "predict/trust.h"

#define KEEP			0.999	/* of the losses, each step */
#define LEAN			3.0		/* nats of belief in a value, over the next */

const double fa_trust_values[FA_TRUST_VALUES] = {0, 0.01, 0.03, 0.1, 0.3, 1};

/* The mean of the values, by what they have lost. */
static void
set_rho(FaTrust *t)
{
	double		least = HUGE_VAL;
	double		sum = 0;

	t->rho = 0;
	for (int i = 0; i < FA_TRUST_VALUES; i++)
		least = fmin(least, t->loss[i]);
	for (int i = 0; i < FA_TRUST_VALUES; i++)
	{
		double		w = exp(least - t->loss[i]);

		t->rho += w * fa_trust_values[i];
		sum += w;
	}
	t->rho /= sum;
}

void
fa_trust_init(FaTrust *t)
{
	for (int i = 0; i < FA_TRUST_VALUES; i++)
		t->loss[i] = i * LEAN;
	set_rho(t);
}

/* A step is over, in which the values lost so much. */
void
fa_trust_learn(FaTrust *t, const double *loss)
{
	for (int i = 0; i < FA_TRUST_VALUES; i++)
		t->loss[i] = t->loss[i] * KEEP + loss[i];
	set_rho(t);
}

void
fa_trust_archive(FaTrust *t, FaArchive *ar)
{
	fa_predict_ar_doubles(ar, t->loss, FA_TRUST_VALUES);
	for (int i = 0; i < FA_TRUST_VALUES && ar->reading; i++)
	{
		if (!isfinite(t->loss[i]))
			ar->failed = true;
	}
	if (ar->reading && !ar->failed)
		set_rho(t);
}
