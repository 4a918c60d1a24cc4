/*
 * statistics.h
 *	  The planner's statistics of a fragment, which come with its pages.
 *
 * The source sends rows (relation, attnum, kind, numbers, values): relation is
 * its place in the list that was asked for, from 1; numbers and values are
 * arrays in the server's binary format, of float4 and of any type.
 *
 *	attnum 0			of the relation: FA_STATISTICS_RELATION numbers
 *	kind 0				of a column: null fraction, width, distinct values
 *	otherwise			a slot of pg_statistic
 */
#ifndef FA_MIGRATE_STATISTICS_H
#define FA_MIGRATE_STATISTICS_H

#include "migrate/move.h"

#define FA_STATISTICS_COLUMNS	"relation, attnum, kind, numbers, \"values\""
#define FA_STATISTICS_SLOTS		5	/* STATISTIC_NUM_SLOTS */
enum
{
	FA_STATISTICS_TUPLES,
	FA_STATISTICS_LIVE,			/* as the cumulative statistics have it */
	FA_STATISTICS_DEAD,
	FA_STATISTICS_RELATION
};

/*
 * in statistics.c: gives the relations of a move the statistics that they have
 * at the source, so that plans do not change; what cannot be taken over, or was
 * never there, is found by ANALYZE.  Outside a transaction; keeps the session's
 * locks even when the peer sends what it must not.
 */
extern void fa_move_carry_statistics(FaMove *move);

#endif							/* FA_MIGRATE_STATISTICS_H */
