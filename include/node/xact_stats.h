/*
 * xact_stats.h
 *	  Counters of transactions over several nodes, since the server's start.
 */
#ifndef FA_NODE_XACT_STATS_H
#define FA_NODE_XACT_STATS_H

#include "core/shmem.h"

typedef enum FaXactCounter
{
	FA_XACT_COMMITS,			/* began here, prepared and committed */
	FA_XACT_ABORTS,				/* began here, rolled back after a PREPARE */
	FA_XACT_LEFT,				/* parts left to the resolver */
	FA_XACT_RESOLVED_COMMITS,	/* parts finished by the resolver */
	FA_XACT_RESOLVED_ABORTS,
	FA_XACT_BY_HAND,			/* by resolve_in_doubt() */
	FA_XACT_FORWARDED,			/* parts handed on to a new owner */
	FA_XACT_DEADLOCKS,			/* sessions here cancelled */
	FA_XACT_NCOUNTERS
} FaXactCounter;

extern const FaShmemPart fa_xact_stats_part;

/* Does nothing without shared memory. */
extern void fa_xact_count(FaXactCounter counter);

#endif							/* FA_NODE_XACT_STATS_H */
