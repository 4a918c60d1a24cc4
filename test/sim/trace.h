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
} Trace;

/*
 * From lines "ts,node,fragment,count", in any order; ts in seconds, step in
 * seconds too, nsteps 0: all.  Steps are counted from the earliest ts.  Exits
 * with a message when there is nothing to read.
 */
extern void sim_read_trace(Trace *trace, long step, int nsteps);
extern float *sim_cell(const Trace *trace, int step, int fragment);

/* Zeroed memory or the end. */
extern void *sim_alloc(size_t n, size_t size);
extern const FaAllocator sim_heap;

#endif							/* FA_SIM_TRACE_H */
