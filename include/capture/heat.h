/*
 * heat.h
 *	  Which keys within a fragment this server's clients ask for.
 *
 * A sample: of each session some dozen keys a second, each with the number of
 * accesses that it stands for; of all that come to a worker in one drain, some
 * hundred.  What is much used is well known, what is hardly used is not; that
 * is what a decision about a hot part of a fragment needs.
 */
#ifndef FA_CAPTURE_HEAT_H
#define FA_CAPTURE_HEAT_H

#include "core/shmem.h"

/* Longer keys are not sampled. */
#define FA_HEAT_KEY_SIZE 64

extern const FaShmemPart fa_heat_part;

/*
 * For each statement that is about one key: is it one to be sampled?  Cheap.
 * If so, the key is told: of a leaf, as a value of its type.
 */
extern bool fa_heat_due(void);
extern void fa_heat_note(Oid leaf, Oid type, Datum key);

/* In the worker, as for transitions (capture/tables.h). */
extern void fa_heat_read(void);
extern void fa_heat_write(void);
extern void fa_heat_written(void);

#endif							/* FA_CAPTURE_HEAT_H */
