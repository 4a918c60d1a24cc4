/*
 * reshape.h
 *	  Buckets that are split into several fragments, and put together again.
 *
 *	home			bucket of the hash, PARTITION BY RANGE (key)
 *	bucket			<home>_s<fragment>, one for each fragment:
 *					FOR VALUES FROM (key_from) TO (key_to), or DEFAULT for the
 *					one fragment that has neither: PARTITION BY RANGE (key)
 *	leaf			as under an unsplit bucket
 *
 * The bucket between is what peers name, locks and moves are about, exactly
 * as for a bucket that is not split; so a fragment of a split one moves like
 * any other.  What is not cut off stays in its heap as the DEFAULT partition:
 * only the rows that are cut off are written anew.
 */
#ifndef FA_CATALOG_RESHAPE_H
#define FA_CATALOG_RESHAPE_H

#include "catalog/map.h"
#include "catalog/precopy.h"
#include "core/fa_compat.h"

/* A fragment of a home, as it is to be. */
typedef struct FaPiece
{
	int64		fragment;
	char	   *key_from;		/* NULL: unbounded; both NULL: what no other has */
	char	   *key_to;
	int			owner;
	int64		version;
	int64		rows_of;		/* 0, or the fragment that has rows of this one;
								 * all three have one owner */
	FaPrecopy  *copy;			/* of these rows, on the owner, or NULL */
} FaPiece;

/* in reshape.c */

/* Fragments of a home by number, as they are; palloc'd list of FaPiece. */
extern List *fa_pieces_read(Oid home);
extern char *fa_pieces_json(List *pieces);

/*
 * What makes text a key of the table, to be appended to an expression of SQL;
 * wants fa_ddl_begin().
 */
extern char *fa_key_cast(int table_id);
/* Raises 0A000 when reading a key runs what a domain checks. */
extern void fa_key_check_type(int table_id);

/*
 * Gives a home these fragments on this node; on the owner also moves rows.
 * home and all below it are locked against everyone.  Wants fa_ddl_begin().
 */
extern void fa_reshape(Oid home, List *pieces);
/* The statement that does the same on a peer. */
extern char *fa_reshape_statement(Oid home, List *pieces);

/* in heap_wait.c */

/*
 * Waits until nobody else holds a lock that conflicts with this one on the heaps of
 * a bucket, or of a home, on this node; before the bucket is locked so.  What that
 * takes is taken off the transaction's lock_timeout: the caller sets it anew after
 * the locks that follow.
 */
extern void fa_heap_wait(Oid bucket, LOCKMODE mode);
/* On a peer: SQL, of the bucket's qualified name as a literal, and of a boolean. */
#define FA_HEAP_WAIT "SELECT fragaffinity.heap_wait(%s::pg_catalog.regclass, %s)"

/* in reshape_lock.c */

/*
 * Locks a home against everyone, on every node, this one last, or raises
 * LOCK_NOT_AVAILABLE.  In the current cluster transaction, not in a
 * subtransaction; wants fa_ddl_begin().
 */
extern void fa_reshape_lock(Oid home, int table_id);

/*
 * What it does: statements that lock, one after the other, each on all other
 * nodes at once and then here, waiting at most so long for each lock; as a
 * subtransaction, and a savepoint on every peer, which the next statement there or
 * fa_lock_keep() has to release.  False when they were not to be had; then none is
 * held, and the caller tries again after a jittered pause, longer every time.
 */
extern bool fa_lock_try(List *statements, int64 timeout_ms);
extern void fa_lock_keep(void);
extern void fa_lock_back_off(int attempt);

/*
 * After it: fa_reshape() on all other nodes, at once; in two halves, with this
 * node's own between them.  The second raises the first error.
 */
extern void fa_reshape_peers_begin(Oid home, List *pieces);
extern void fa_reshape_peers_end(void);

/*
 * From here to fa_reshape_limit_end() at most split_timeout may pass; then it
 * raises.  An error in between must go through fa_reshape_limit_failed().
 */
extern void fa_reshape_limit_begin(int table_id);
extern void fa_reshape_limit_end(void);
/* In PG_CATCH: raises the current error, or says that time is up. */
FA_NORETURN extern void fa_reshape_limit_failed(MemoryContext context);

#endif							/* FA_CATALOG_RESHAPE_H */
