/*
 * shmem.h
 *	  Shared memory: registration of each room's part, fragment slots.
 */
#ifndef FA_CORE_SHMEM_H
#define FA_CORE_SHMEM_H

#include "access/transam.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

/*
 * One slot a fragment of a database, claimed at first use and given back when
 * the fragment is gone.  Rooms keep their own arrays of fa_max_fragments
 * entries, indexed alike.
 */
typedef struct FaFragmentSlot
{
	Oid			dbid;			/* guarded by the slots' lock; invalid: free */
	int			next_free;		/* likewise; of a free one: the next, or -1 */
	int64		fragment;		/* likewise */
	FullTransactionId claimed;	/* likewise; the next one when it was */
	pg_atomic_uint32 gate;		/* 1 while in cut-over on this node */
} FaFragmentSlot;

typedef struct FaShmemPart
{
	const char *name;
	Size		(*size) (void);
	void		(*init) (void *ptr, bool found);	/* ptr: this part's memory */
	Size		(*extra) (void);	/* what init allocates beside it, or NULL */
	void		(*forget_slot) (int slot);	/* given back; with the slots' lock */
	void		(*forget_database) (Oid dbid);	/* dropped; it has no process */
} FaShmemPart;

/* From _PG_init only, while shared_preload_libraries are loaded. */
extern void fa_shmem_register(const FaShmemPart *part);
extern void fa_shmem_install_hooks(void);

/* The library was preloaded and shared memory is attached. */
extern bool fa_shmem_available(void);

/* Raises OBJECT_NOT_IN_PREREQUISITE_STATE with the hint what to set. */
extern void fa_shmem_require(void);

/* DROP DATABASE is done, and holds its lock: what parts keep for it goes. */
extern void fa_shmem_forget_database(Oid dbid);
extern void fa_shmem_forget_slot(int slot);	/* for slots.c */

extern const FaShmemPart fa_slots_part;

/*
 * Slot of a fragment of this database, claimed when there is none; -1 when
 * all are taken (a warning is logged once) or without shared memory.
 */
extern int	fa_slot_find(int64 fragment);
extern FaFragmentSlot *fa_slot_get(int slot);
extern int	fa_slot_count(void);	/* ever claimed; slots [0, count) */
extern bool fa_slot_any_free(void); /* may one be claimed now?  cheap */

/*
 * Gives one back that still belongs to this fragment of this database, unless
 * its gate is closed.  Whoever knows its number must have no use for it: the
 * fragment is gone for all transactions to come.
 */
extern void fa_slot_give_back(int slot, int64 fragment);
/* Of a database without the extension: all of them. */
extern void fa_slots_forget(Oid dbid);
/* Around reading several of them: none is claimed or given back meanwhile. */
extern void fa_slots_lock(void);
extern void fa_slots_unlock(void);

/* Cut-over gate, see route/gate.c. */
extern bool fa_gate_any(void);		/* any gate closed on this server? cheap */
extern int	fa_gate_next(int slot); /* the next closed one from here; -1: none */
extern void fa_gate_close(int slot);
extern void fa_gate_open(int slot);
/* Waits until open or timeout; true when open. */
extern bool fa_gate_wait(int slot, int timeout_ms);

/* Tests halt a process here: fragaffinity.stop_point = name. */
extern void fa_stop_point(const char *name);
/* Then time limits of short steps do not hold. */
extern bool fa_stop_point_is_set(void);

#endif							/* FA_CORE_SHMEM_H */
