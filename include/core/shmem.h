/*
 * shmem.h
 *	  Shared memory: registration of each room's part, fragment slots.
 */
#ifndef FA_CORE_SHMEM_H
#define FA_CORE_SHMEM_H

#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

/*
 * One slot a fragment of a database, claimed at first use and kept until the
 * server stops.  Rooms keep their own arrays of fa_max_fragments entries,
 * indexed alike.
 */
typedef struct FaFragmentSlot
{
	Oid			dbid;			/* guarded by the slots' lock */
	int64		fragment;		/* likewise; fixed once claimed */
	pg_atomic_uint32 gate;		/* 1 while in cut-over on this node */
} FaFragmentSlot;

typedef struct FaShmemPart
{
	const char *name;
	Size		(*size) (void);
	void		(*init) (void *ptr, bool found);	/* ptr: this part's memory */
	Size		(*extra) (void);	/* what init allocates beside it, or NULL */
} FaShmemPart;

/* From _PG_init only, while shared_preload_libraries are loaded. */
extern void fa_shmem_register(const FaShmemPart *part);
extern void fa_shmem_install_hooks(void);

/* The library was preloaded and shared memory is attached. */
extern bool fa_shmem_available(void);

/* Raises OBJECT_NOT_IN_PREREQUISITE_STATE with the hint what to set. */
extern void fa_shmem_require(void);

extern const FaShmemPart fa_slots_part;

/*
 * Slot of a fragment of this database, claimed when there is none; -1 when
 * all are taken (a warning is logged once) or without shared memory.
 */
extern int	fa_slot_find(int64 fragment);
extern FaFragmentSlot *fa_slot_get(int slot);
extern int	fa_slot_count(void);	/* claimed so far; slots [0, count) */

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
