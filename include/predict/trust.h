/*
 * trust.h
 *	  How many accesses of a step say as much as one.
 *
 * What a model reads from counts is worth less where the accesses of a step
 * come in clumps: one client makes many, all at one node.  As in cluster
 * sampling, n of them are worth n / (1 + (n - 1) x rho), rho being how much
 * alike they are.  It is learned: of a few values, by which would have
 * foretold best what came next.
 */
#ifndef FA_PREDICT_TRUST_H
#define FA_PREDICT_TRUST_H

#include "predict/frame.h"

#define FA_TRUST_VALUES		6

typedef struct FaTrust
{
	double		rho;			/* to go by: a mean of the values */
	double		loss[FA_TRUST_VALUES];	/* of each, slowly forgotten */
} FaTrust;

/* in trust.c */
extern const double fa_trust_values[FA_TRUST_VALUES];
extern void fa_trust_init(FaTrust *t);
extern void fa_trust_learn(FaTrust *t, const double *loss);
extern void fa_trust_archive(FaTrust *t, FaArchive *ar);

/* Accesses worth one; clump: those of a typical access's step. */
static inline double
fa_trust_effect(double rho, double clump)
{
	return clump > 1 ? 1 + (clump - 1) * rho : 1;
}

#endif							/* FA_PREDICT_TRUST_H */
