/*
 * policy.h
 *	  Ways to place the fragments of a trace, one copy each.
 *
 * A run goes over steps [from, to) of a trace: before each of them the policy
 * decides by what was seen before, and a move takes effect at once, or late by
 * a part of the step.  Remote accesses cost what the trace says (1), and a move is
 * in the same unit.
 */
#ifndef FA_SIM_POLICY_H
#define FA_SIM_POLICY_H

#include "placement/decide.h"
#include "trace.h"

#define SIM_MAX_AHEAD FA_PREDICT_MAX_PROFILE

/* What the decision code is given beside the forecast. */
typedef struct Rules
{
	FaPlacePolicy policy;		/* min_residency_ms is of the next field */
	double		residency;		/* steps */
	int			reach;			/* steps that a plan looks ahead */
	double		late;			/* part of a step that is over when a move is
								 * there */
	bool		ahead;			/* moves can be asked for a step before */
} Rules;

typedef struct Span
{
	int			from;
	int			to;
} Span;

typedef struct Outcome
{
	double		local;
	double		total;
	double		waiting;		/* of remote accesses */
	double		paid;			/* for moves */
	double		unit;			/* what a remote access costs on average */
	long		moves;
	long		reactive;		/* of the moves */
	long		returns;		/* moves back within three steps */
	long		decisions;
	double		seconds;		/* CPU time of all decisions */
} Outcome;

/*
 * Accesses expected of a fragment's nodes in the reach steps after step,
 * rate_p[ahead * nnodes + node]; returns the evidence.  Asked for steps in
 * ascending order.
 */
typedef double (*SimForecast) (void *arg, int step, int fragment, int reach,
							   double *rate_p);

/*
 * Share of all accesses that nobody waited for, nor for moves instead; a remote
 * one counts as so many as it costs more than the average.
 */
extern double sim_net(const Outcome *o);

/* Every fragment's owner: the node that used it most before step from. */
extern void sim_first_owners(const Trace *trace, int from, int *owner_p);

/* forecast NULL: by the past alone. */
extern Outcome sim_run(const Trace *trace, Span span, const Rules *rules,
					   double cost, SimForecast forecast, void *arg);
extern Outcome sim_run_never(const Trace *trace, Span span);
/*
 * The best sequence of owners, known in hindsight; owner_p, if not NULL, gets
 * it: [step - from][fragment].
 */
extern Outcome sim_run_optimum(const Trace *trace, Span span, double cost,
							   int *owner_p);

#endif							/* FA_SIM_POLICY_H */
