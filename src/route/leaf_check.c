/*
 * leaf_check.c
 *	  A leaf's partition constraint, compiled once.
 *
 * What a peer sends whole names the bucket, so nothing has shown that its rows
 * belong there, and the executor checks each that is written.  It compiles the
 * constraint for each statement, which takes longer than the check.  So a backend
 * keeps it until the leaf is invalidated; for as long as a statement uses it, in
 * any case.
 */
#include "postgres.h"

#include "executor/executor.h"
#include "optimizer/optimizer.h"
#include "utils/memutils.h"
#include "utils/partcache.h"
#include "utils/rel.h"

#include "catalog/map.h"
#include "route/route.h"

typedef struct LeafCheck
{
	Oid			leaf;
	uint64		state;			/* for which it is right */
	MemoryContext context;		/* of all this */
	ExprState  *expr;
	int			users;			/* statements */
	bool		kept;			/* in recent */
} LeafCheck;

/* A statement that uses one; in its query's memory. */
typedef struct Use
{
	LeafCheck  *check;
	MemoryContextCallback release;
} Use;

/* Those that were used last, by the low bits of their leaves. */
#define NRECENT 256
static LeafCheck *recent[NRECENT];

static void
check_free(LeafCheck *check)
{
	if (check->users == 0 && !check->kept)
		MemoryContextDelete(check->context);
}

static void
check_release(void *arg)
{
	LeafCheck  *check = ((Use *) arg)->check;

	check->users--;
	check_free(check);
}

/* NULL: there is nothing to check. */
static LeafCheck *
check_compile(Relation leaf, uint64 state)
{
	List	   *qual = RelationGetPartitionQual(leaf);
	MemoryContext context;
	MemoryContext caller;
	LeafCheck  *check;

	if (qual == NIL)
		return NULL;
	context = AllocSetContextCreate(CurrentMemoryContext,
									"fragaffinity partition constraint",
									ALLOCSET_SMALL_SIZES);
	caller = MemoryContextSwitchTo(context);
	check = palloc0(sizeof(LeafCheck));
	check->leaf = RelationGetRelid(leaf);
	check->state = state;
	check->context = context;
	qual = (List *) expression_planner((Expr *) copyObject(qual));
	check->expr = ExecInitCheck(qual, NULL);
	MemoryContextSwitchTo(caller);
	MemoryContextSetParent(context, TopMemoryContext);
	return check;
}

static LeafCheck *
check_find(Relation leaf)
{
	LeafCheck **place = &recent[RelationGetRelid(leaf) % NRECENT];
	uint64		state = fa_map_state(RelationGetRelid(leaf));
	LeafCheck  *check = *place;

	if (check && check->leaf == RelationGetRelid(leaf) && check->state == state)
		return check;
	check = check_compile(leaf, state);
	if (check == NULL)
		return NULL;
	if (*place)
	{
		(*place)->kept = false;
		check_free(*place);
	}
	check->kept = true;
	*place = check;
	return check;
}

ExprState *
fa_leaf_check(Relation leaf, MemoryContext query)
{
	LeafCheck  *check = check_find(leaf);
	Use		   *use;

	if (check == NULL)
		return NULL;
	use = MemoryContextAlloc(query, sizeof(Use));
	use->check = check;
	use->release.func = check_release;
	use->release.arg = use;
	MemoryContextRegisterResetCallback(query, &use->release);
	check->users++;
	return check->expr;
}
