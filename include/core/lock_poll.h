/*
 * lock_poll.h
 *	  A lock without a place in its queue.
 */
#ifndef FA_CORE_LOCK_POLL_H
#define FA_CORE_LOCK_POLL_H

#include "storage/lockdefs.h"

/*
 * Asks for a lock on relations until it is free on all of them or timeout_ms (0:
 * once) have passed; false then.  Nobody queues behind the wait, and no deadlock
 * check finds it; none is held while another is waited for.  The locks are the
 * transaction's.
 *
 * Who holds SHARE on it already is served before those who wait for that.  In
 * the moment of it a reader who comes may raise 55P03 here.
 */
extern bool fa_lock_poll(const Oid *relids, int n, LOCKMODE mode,
						 int64 timeout_ms);

#endif							/* FA_CORE_LOCK_POLL_H */
