/*
 * kept_shapes.c
 *	  Shapes of statements that come again and again.
 *
 * They are found by a hash of theirs, and then compared with the statement as a
 * whole.  A shape stays right whatever is defined anew: the statement has been
 * analysed just now.  But whether its plans suit may change with its table; so it
 * goes then, the next time that one is looked for.
 */
#include "postgres.h"

#include "lib/ilist.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"

#include "route/kept.h"

#define MAX_SHAPES 256
#define MAX_BYTES (1024 * 1024)

/* Of one hash, but another shape, in a row: then the shape is given up. */
#define MAX_STRANGERS 16

/* After plans that do not suit, the next is made so many statements later. */
#define UNFIT_FIRST 64
#define UNFIT_MOST 8192

typedef struct ShapeEntry
{
	uint32		hash;
	FaShape    *shape;
} ShapeEntry;

static HTAB *shapes = NULL;		/* of ShapeEntry */

/* Those first that were used last. */
static dlist_head shape_order = DLIST_STATIC_INIT(shape_order);

static Size bytes = 0;			/* of all of them */
static int	last_id = 0;
static bool any_stale = false;

/* What came once, by low bits: much does not come again. */
#define NSEEN 1024
static uint32 seen[NSEEN];

static void
shapes_create(void)
{
	HASHCTL		ctl;

	ctl.hcxt = CacheMemoryContext;
	ctl.keysize = sizeof(uint32);
	ctl.entrysize = sizeof(ShapeEntry);
	shapes = hash_create("fragaffinity shapes", 64, &ctl,
						 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

static void
shape_forget(FaShape *shape)
{
	fa_kept_forget_shape(shape->id);
	bytes -= shape->bytes;
	dlist_delete(&shape->used);
	(void) hash_search(shapes, &shape->hash, HASH_REMOVE, NULL);
	MemoryContextDelete(shape->context);
}

static void
shapes_forget_stale(void)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &shape_order)
	{
		FaShape    *shape = dlist_container(FaShape, used, iter.cur);

		if (shape->stale)
			shape_forget(shape);
	}
	any_stale = false;
}

void
fa_shapes_note_change(Oid relid)
{
	dlist_iter	iter;

	dlist_foreach(iter, &shape_order)
	{
		FaShape    *shape = dlist_container(FaShape, used, iter.cur);

		if (!OidIsValid(relid) || shape->relid == relid)
			shape->stale = any_stale = true;
	}
}

bool
fa_shapes_seen_before(uint32 what)
{
	uint32	   *place = &seen[what % NSEEN];

	if (*place == what)
		return true;
	*place = what;
	return false;
}

/* False when all that is there has been used lately. */
static bool
shapes_make_room(uint64 now)
{
	while (hash_get_num_entries(shapes) >= MAX_SHAPES ||
		   bytes >= MAX_BYTES)
	{
		FaShape    *oldest = dlist_tail_element(FaShape, used, &shape_order);

		if (now - oldest->last_use < FA_KEPT_MIN_AGE)
			return false;
		shape_forget(oldest);
	}
	return true;
}

/* Its query is the statement's, which has come for the second time. */
static void
shape_fill(FaShape *shape, Query *parse, ParamListInfo params)
{
	FaShapeScan scan;

	shape->relid = linitial_node(RangeTblEntry, parse->rtable)->relid;
	shape->query = copyObject(parse);
	(void) fa_shape_scan(shape->query, params, true, &scan);
	shape->nconsts = scan.nconsts;
	shape->consts = palloc(sizeof(Const *) * Max(scan.nconsts, 1));
	memcpy(shape->consts, scan.consts, sizeof(Const *) * scan.nconsts);
	shape->nvalues = scan.nvalues;
	shape->values = palloc(sizeof(FaShapeValue) * scan.nvalues);
	for (int i = 0; i < scan.nvalues; i++)
		fa_shape_value_prepare(&shape->values[i], *scan.values[i]);

	shape->generic = copyObject(parse);
	(void) fa_shape_scan(shape->generic, params, true, &scan);
	for (int i = 0; i < scan.nvalues; i++)
	{
		Param	   *param = makeNode(Param);
		Node	   *expr = *scan.values[i];

		param->paramkind = PARAM_EXTERN;
		param->paramid = i + 1;
		param->paramtype = exprType(expr);
		param->paramtypmod = exprTypmod(expr);
		param->paramcollid = exprCollation(expr);
		param->location = -1;
		*scan.values[i] = (Node *) param;
	}
}

static FaShape *
shape_make(Query *parse, FaShapeScan *scan)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "fragaffinity shape",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	FaShape    *shape = palloc0(sizeof(FaShape));
	ShapeEntry *entry;

	shape->hash = scan->hash;
	shape->id = ++last_id;
	shape->context = context;
	shape_fill(shape, parse, scan->params);
	MemoryContextSwitchTo(caller);
	entry = hash_search(shapes, &scan->hash, HASH_ENTER, NULL);
	entry->shape = shape;
	MemoryContextSetParent(context, CacheMemoryContext);
	shape->bytes = MemoryContextMemAllocated(context, true);
	bytes += shape->bytes;
	dlist_push_head(&shape_order, &shape->used);
	return shape;
}

FaShape *
fa_shapes_find(Query *parse, FaShapeScan *scan, uint64 now)
{
	ShapeEntry *entry;

	if (shapes == NULL)
		shapes_create();
	if (any_stale)
		shapes_forget_stale();
	entry = hash_search(shapes, &scan->hash, HASH_FIND, NULL);
	if (entry)
		return now < entry->shape->unfit_until ? NULL : entry->shape;
	if (!fa_shapes_seen_before(scan->hash) || !shapes_make_room(now))
		return NULL;
	return shape_make(parse, scan);
}

/* Puts the statement's constants into the shape's query, where they fit. */
static bool
shape_set_constants(FaShape *shape, FaShapeScan *scan)
{
	if (shape->nconsts != scan->nconsts)
		return false;
	for (int i = 0; i < scan->nconsts; i++)
	{
		if (shape->consts[i]->consttype != scan->consts[i]->consttype)
			return false;
		shape->consts[i]->constvalue = scan->consts[i]->constvalue;
	}
	return true;
}

bool
fa_shape_take(FaShape *shape, Query *parse, FaShapeScan *scan, uint64 now)
{
	/* where it is in its text means nothing */
	shape->query->stmt_location = parse->stmt_location;
	shape->query->stmt_len = parse->stmt_len;
	if (!shape_set_constants(shape, scan) || !equal(shape->query, parse))
	{
		if (++shape->strangers > MAX_STRANGERS)
			shape_forget(shape);
		return false;
	}
	shape->strangers = 0;
	shape->last_use = now;
	dlist_move_head(&shape_order, &shape->used);
	return true;
}

void
fa_shape_suits(FaShape *shape, bool suits, uint64 now)
{
	if (suits)
		shape->unfit_for = 0;
	else
	{
		shape->unfit_for = Min(Max(2 * shape->unfit_for, UNFIT_FIRST), UNFIT_MOST);
		shape->unfit_until = now + shape->unfit_for;
	}
}
