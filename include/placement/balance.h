/*
 * balance.h
 *	  Owners for many fragments at once, when nodes have limits.
 *
 * Plain C like decide.h, but memory comes from the caller.  The decision about
 * one fragment takes the cluster as it is; here fragments may change places,
 * or make room for each other.
 */
#ifndef FA_PLACEMENT_BALANCE_H
#define FA_PLACEMENT_BALANCE_H

#include <stdbool.h>
#include <stddef.h>

/* A fragment; or several that must stay together, as sums. */
typedef struct FaBalanceItem
{
	int			owner;
	bool		fixed;			/* stays */
	double		bytes;
	double		load;			/* accesses a ms, of all nodes */
	double		move_ms;		/* what a move costs clients */
	const double *cost_ms;		/* waiting, by owner: nnodes */
} FaBalanceItem;

/* What a node can hold. */
typedef struct FaBalanceNode
{
	bool		closed;			/* takes nothing */
	double		max_bytes;		/* INFINITY: no limit */
	double		max_load;
} FaBalanceNode;

typedef struct FaBalance
{
	int			nnodes;
	int			nitems;
	const FaBalanceNode *node;
	const FaBalanceItem *item;
	void	   *(*alloc) (size_t size);
	void		(*release) (void *ptr);
	void		(*check) (void);	/* called now and then; may be NULL, may leave */
} FaBalance;

typedef struct FaBalanceResult
{
	double		cost_ms;		/* of the owners found, with moves */
	double		bound_ms;		/* none can cost less */
	bool		exact;			/* none does */
	bool		fits;			/* no node is above a limit */
} FaBalanceResult;

/*
 * Finds owners of least cost that keep the limits: owner_p, nitems.  Where a
 * node is above a limit now and cannot be relieved, it stays so, but never
 * gets worse.
 */
extern FaBalanceResult fa_balance(const FaBalance *b, int *owner_p);

#endif							/* FA_PLACEMENT_BALANCE_H */
