/*
 * trace.h
 *	  An exported history, read from files.
 *
 * Every function ends the program with a message when a file is not as it
 * should be.
 */
#ifndef FA_BIN_TRACE_H
#define FA_BIN_TRACE_H

#include <jansson.h>

#include "predict/next.h"

typedef struct Trace
{
	int64_t		step;
	int64_t		t0;
	int64_t		test_t0;
	int64_t		nsteps;
	int			nnodes;
	int			nfragments;
	const char **node;
	const char **fragment;
	json_t	   *node_index;
	json_t	   *fragment_index;
	FaCell	   *cell;			/* all, by step */
	int64_t	   *first;			/* by step, and one more */
	FaNextEvent *event;			/* in time order */
	bool	   *opens;			/* by event: is it its session's first? */
	int64_t		nevents;
	bool		profiles;		/* events name them */
} Trace;

/* in trace.c */
extern void fa_bin_fail(const char *format,...) __attribute__((format(printf, 1, 2), noreturn));
extern const FaAllocator fa_bin_allocator;
extern void *fa_bin_alloc(size_t size);
extern void fa_bin_read_manifest(Trace *t, const char *dir, const char *name);
extern void fa_bin_read_cells(Trace *t, const char *dir, const char *name);
/* False when there is no such file and none is required. */
extern bool fa_bin_read_events(Trace *t, const char *dir, const char *name,
							   bool required);

/* in sessions.c */
typedef struct TraceSessions TraceSessions;
extern TraceSessions *fa_bin_sessions(const Trace *t, uint64_t seed);
extern void fa_bin_tell_sessions(TraceSessions *s, const Trace *t, int64_t i,
								 FaPredictor *p);

/* in next.c */
extern void fa_bin_next(const Trace *t, uint32_t models, uint64_t seed);

#endif							/* FA_BIN_TRACE_H */
