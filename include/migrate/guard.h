/*
 * guard.h
 *	  How fast a copy may go, for the sake of the clients of both nodes.
 *
 * A copy goes as fast as it can, within "move_rate_limit".  "latency_guard" is
 * how much longer than usual clients' statements may take meanwhile, at either
 * node; when they take longer, the copy is slowed down.
 */
#ifndef FA_MIGRATE_GUARD_H
#define FA_MIGRATE_GUARD_H

#include "migrate/move.h"

typedef struct FaGuard FaGuard;

/* in guard.c */

/*
 * For one copy of a move, whose control connection it uses between
 * fa_guard_pace() and fa_guard_rest().  Outside a transaction; lives in the
 * move's memory context.
 */
extern FaGuard *fa_guard_create(FaMove *move);

/* So many bytes have come: waits as long as they should have taken. */
extern void fa_guard_pace(FaGuard *guard, int64 bytes);

/* The control connection is the caller's again. */
extern void fa_guard_rest(FaGuard *guard);

/* Time spent waiting so far, in us. */
extern int64 fa_guard_slept(const FaGuard *guard);

#endif							/* FA_MIGRATE_GUARD_H */
