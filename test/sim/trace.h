/*
 * trace.h
 *	  Recorded accesses, dense, and memory that does not run out quietly.
 */
#ifndef FA_SIM_TRACE_H
#define FA_SIM_TRACE_H

#include <stddef.h>

#include "predict/predict.h"

typedef struct Trace
{
	int			nsteps;
	int			nnodes;
	int			nfragments;
	char	  **node;			/* names */
	char	  **fragment;
	float	   *count;			/* [step][fragment][node] */
	/* what an access from i costs more when j owns: [i * nnodes + j] */
	double	   *extra;
	double		mean_extra;		/* of two different nodes */
} Trace;

/*
 * From lines "ts,node,fragment,count", in any order; ts in seconds, step in
 * seconds too, nsteps 0: all.  Steps are counted from the earliest ts.  Exits
 * with a message when there is nothing to read.  An access to another node costs 1.
 */
extern void sim_read_trace(Trace *trace, long step, int nsteps);
/* For a trace that was made otherwise. */
extern void sim_equal_distances(Trace *trace);
/* "node-node=cost,...", by name, both ways; names that do not occur are skipped. */
extern void sim_set_distances(Trace *trace, const char *text);
extern float *sim_cell(const Trace *trace, int step, int fragment);

/* Zeroed memory or the end. */
extern void *sim_alloc(size_t n, size_t size);
extern const FaAllocator sim_heap;

#endif							/* FA_SIM_TRACE_H */
