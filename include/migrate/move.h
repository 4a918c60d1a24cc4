/*
 * move.h
 *	  One move of a fragment: who runs it, how far it is.
 *
 * A move is run by a mover, a background worker on the destination, in these
 * steps; kill any process at any point and exactly one owner remains:
 *
 *	planned		row in fragaffinity.move
 *	copying		claim at the source (a session's advisory lock: it goes with
 *				the connection); cleanup record, then the new heap; what it
 *				is to hold, by one of two paths
 *	catching up	changes since then, until little is left
 *	fencing		destination's bucket SHARE, then source's bucket SHARE: nobody
 *				writes; the last changes come
 *	switching	both buckets ACCESS EXCLUSIVE; leaves exchanged on both sides
 *				in one cluster transaction, decided by the destination's
 *				commit
 *	done		other nodes are told; who is down asks when it is back
 *
 * Until the decision the source owns the fragment and its heap is complete;
 * the new heap is garbage that the cleanup record names.  After it the
 * destination owns it and the old heap is garbage that a cleanup record at
 * the source names.
 */
#ifndef FA_MIGRATE_MOVE_H
#define FA_MIGRATE_MOVE_H

#include "access/xlogdefs.h"
#include "datatype/timestamp.h"
#include "storage/lock.h"
#include "storage/lwlock.h"
#include "storage/spin.h"

#include "catalog/map.h"
#include "core/shmem.h"
#include "node/remote.h"
#include "transport/transport.h"

typedef enum FaMovePhase
{
	FA_MOVE_PLANNED,
	FA_MOVE_COPYING,
	FA_MOVE_CATCHING_UP,
	FA_MOVE_FENCING,
	FA_MOVE_SWITCHING,
	FA_MOVE_DONE,
	FA_MOVE_FAILED,
	FA_MOVE_CANCELLED
} FaMovePhase;

/* Text of a phase as fragaffinity.move has it. */
extern const char *fa_move_phase_name(FaMovePhase phase);

/* Trigger of a move that somebody has asked for. */
#define FA_TRIGGER_BY_HAND "manual"

/* A running move, in shared memory. */
typedef struct FaMoverSlot
{
	Oid			dbid;			/* invalid: free.  Guarded by the movers' lock */
	int			pid;			/* of the mover; 0 until it has started */
	int64		move;
	int64		fragment;
	char		trigger[16];
	char		reason[512];
	double		expected_benefit;
	FaMovePhase phase;			/* written by the mover only, as all below */
	int64		bytes_done;
	int64		bytes_total;
	int			rounds;
	double		rate;			/* bytes a second, lately; 0: not known */
	double		allowed_rate;	/* by the guard; 0: any */
	double		slower_here;	/* clients' statements, times what is usual; 0: */
	double		slower_source;	/* few have ended */
	bool		cancel;			/* asked for; written by anyone, as the next */
	bool		gives_way;		/* cancelled for a change of the table */
} FaMoverSlot;

extern const FaShmemPart fa_mover_part;

/* in mover_slots.c */
extern FaMoverSlot *fa_mover_slot(int index);

/*
 * Takes a free slot: its index, -1 when there is none, FA_MOVER_BUSY when
 * the fragment is moving here already.
 */
#define FA_MOVER_BUSY (-2)
extern int	fa_mover_claim(const FaMoverSlot *wanted);
extern void fa_mover_release(int index);
/* Is a mover of this database at work on this move? */
extern bool fa_mover_alive(int64 move);
/* Interrupts the mover of a move; false when there is none. */
extern bool fa_mover_cancel(int64 move);
/*
 * Interrupts the movers of this database that work on such fragments, nobody has asked
 * for by hand, and have only copied so far: their moves can be made again.  Returns
 * one of all such fragments that a mover works on, or 0.
 */
extern int64 fa_mover_give_way(bool (*concerns) (int64 fragment, const void *arg),
							   const void *arg);

/* in mover.c: runs the move of a slot to its end; in a background worker. */
extern void fa_move_run(int slot);
extern PGDLLEXPORT void fa_mover_main(Datum arg);

/*
 * How rows and changes get here.  All are called outside a transaction, in
 * this order; any may raise, and then the move has failed.
 *
 *	pages		files as they are, page by page; rounds of what has changed
 *	logical		rows by COPY, changes by logical replication; takes everything
 */
struct FaMove;
typedef struct FaMovePath
{
	const char *name;			/* as fragaffinity.move has it */
	void		(*copy) (struct FaMove *move);
	/* Until little is left; raises when that does not come before the deadline. */
	void		(*catch_up) (struct FaMove *move);
	/*
	 * The source's bucket is locked against writers since the position
	 * "fenced": all that is left.  False after limit_ms; then the fence opens
	 * again and keep_up() follows.
	 */
	bool		(*settle) (struct FaMove *move, XLogRecPtr fenced, int limit_ms);
	/* Follows changes for about so long. */
	void		(*keep_up) (struct FaMove *move, int pause_ms);
	/* After the swap; never raises. */
	void		(*finish) (struct FaMove *move);
} FaMovePath;

extern const FaMovePath fa_logical_path;	/* in logical.c */
extern const FaMovePath fa_page_path;	/* in pages.c */

/* State of one move, private to the mover's files. */
typedef struct FaMove
{
	FaMoverSlot *slot;
	int64		move;
	int			attempt;		/* from 1; the rest is of this attempt */
	TimestampTz deadline;		/* "move_timeout", of all attempts */
	FaFragment	fragment;		/* as before the move */
	int			self;
	FaConn	   *control;		/* source: claim, positions */
	FaConn	   *swap;			/* source: fence and swap */
	FaConn	   *changes;		/* source: replication; of the logical path */
	FaChannel  *channel;		/* from the session of swap; of the page path */
	char	   *source_leaf_name;
	char	   *bucket_name;	/* qualified, equal on both sides */
	Oid			heap;			/* new leaf */
	TransactionId heap_xid;		/* that made it */
	MemoryContext context;		/* the move's */
	const FaMovePath *path;
	void	   *path_state;
	char	   *transport_counters; /* JSON, or NULL; set by the path's finish() */
	List	   *source_relations;	/* of the page path: OIDs, the heap first */
	List	   *our_relations;	/* in the same order */
	Oid			toast;			/* TOAST relation of heap, or invalid */
	LockRelId	locked_heap[2]; /* by the session, see heap_lock.c */
	int			tries;			/* to cut over */
	LOCKMODE	locked_here;	/* what the session holds on our bucket */
	double		pause_ms;
} FaMove;

extern void fa_move_set_phase(FaMove *move, FaMovePhase phase);

/*
 * Statistics of the new heap, and indexes when it has none yet; in
 * transactions of their own.
 */
extern void fa_move_create_indexes(FaMove *move);
/* columns: a list of names, NULL: all */
extern void fa_move_analyze(FaMove *move, const char *columns);

/* in choose.c: sets path, and says in the move's row which and why */
extern void fa_move_choose_path(FaMove *move);
/* "1,2,3" */
extern char *fa_move_oid_array(const List *oids);

/*
 * in channel.c: channel, by the best of the setting "transports" that works, and
 * says in the move's row which and why; outside a transaction
 */
extern void fa_move_open_channel(FaMove *move);

/* in copy.c: rows of the source's leaf under a snapshot; outside a transaction */
extern void fa_move_copy_rows(FaMove *move, const char *snapshot);

/*
 * in heap_lock.c: nobody but this session may write to the new heap or VACUUM
 * it, until it is let go or a transaction of the session aborts.
 */
extern void fa_move_lock_heap(FaMove *move);
extern void fa_move_unlock_heap(FaMove *move);

/* in cutover.c */

/*
 * One try to fence and swap; outside a transaction.  False when a lock was
 * not to be had in time: nothing has changed, the path goes on.
 */
extern bool fa_cutover_try(FaMove *move);

/*
 * A transaction whose failure leaves the session its locks.  fa_cutover_undo(),
 * after an error, is true when they were lost all the same.
 */
extern void fa_cutover_begin(void);
extern void fa_cutover_end(void);
extern bool fa_cutover_undo(void);

/*
 * The fragment's heap, which is here, becomes a table of its own with that name,
 * and the leaf leads to the owner.  Bucket and leaf are locked against everyone.
 */
extern void fa_cutover_heap_out(const FaFragment *f, int owner, int64 version,
								const char *name);

/* in announce.c: tells the other nodes; unreachable ones are left out. */
extern void fa_move_announce(FaMove *move);
/* Changes of the map on this node since the server started. */
extern uint64 fa_map_generation(void);
extern void fa_map_generation_advance(void);
/* Worker's task: ask peers whose map has changed since we last looked. */
extern void fa_map_refresh(void);
extern const FaShmemPart fa_announce_part;

/* in recover.c: worker's task; drops what dead moves left. */
extern void fa_move_cleanup(void);
/* The same for a mover that has failed: its own records too. */
extern void fa_move_cleanup_with(int64 failed);

#endif							/* FA_MIGRATE_MOVE_H */
