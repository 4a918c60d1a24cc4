/*
 * kept.c
 *	  Plans of statements that differ in their constants only, kept.
 *
 * A client that puts its values into the text of statements has every one of them
 * planned, which takes longer than executing it.  So when the same shape
 * (kept_shape.c) comes again and again, a plan for all values is made for the
 * fragment that it is about, if it cannot be worse than one for a certain value
 * (kept_fill.c), and the next such statement gets it with its own constants.
 *
 * The statement has been analysed, its pin is resolved, and so its table and leaf
 * are locked when a plan is looked for; a plan that is found then is valid, as
 * those of relations that changed are forgotten by invalidation.  Names have been
 * looked up, so search_path and the like mean nothing any more; what users define
 * (functions, operators, domains) and row security are not in a shape.
 *
 * A plan is not copied but lent, with the statement's constants in it, until the
 * memory that it was asked for in is reset.  Meanwhile no one else gets it: a
 * statement that would is planned.
 */
#include "postgres.h"

#include "lib/ilist.h"
#include "nodes/nodeFuncs.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/plancache.h"
#include "utils/syscache.h"

#include "catalog/map.h"
#include "route/kept.h"
#include "route/route.h"

#define MAX_PLANS 1024
#define MAX_PLAN_BYTES (2 * 1024 * 1024)
#define MAX_SHAPES 256
#define MAX_SHAPE_BYTES (1024 * 1024)

/*
 * When there is no room, what was used among the last so many statements stays:
 * making one takes longer than it saves the next.
 */
#define MIN_AGE 16384

/* Of one hash, but another shape, in a row: then the shape is given up. */
#define MAX_STRANGERS 16

/* After plans that do not suit, the next is made so many statements later. */
#define UNFIT_FIRST 64
#define UNFIT_MOST 8192

typedef struct Shape
{
	uint32		hash;			/* hash key */
	int			id;				/* of no shape before */
	MemoryContext context;		/* of the following */
	Query	   *query;			/* with the constants of the last that came */
	int			nconsts;
	Const	  **consts;			/* in query */
	int			nvalues;
	FaShapeValue *values;
	Query	   *generic;		/* with parameters in the place of values */
	Oid			relid;
	int			strangers;
	int			unfit_for;		/* statements; 0: its plans suit */
	uint64		unfit_until;	/* by number of look-ups */
	bool		stale;			/* the relation has changed */
	Size		bytes;
	uint64		last_use;		/* likewise */
	dlist_node	used;			/* in shape_order */
} Shape;

typedef struct PlanKey
{
	int			shape;			/* id */
	Oid			leaf;
} PlanKey;

typedef struct KeptPlan
{
	PlanKey		key;
	MemoryContext context;		/* of all this */
	PlannedStmt *plan;
	int			nplaces;
	FaKeptPlace *places;
	bool		proven;			/* as the pin was */
	bool		kept;			/* in plans, else only lent */
	bool		lent;
	Size		bytes;
	uint64		last_use;		/* by number of look-ups */
	dlist_node	used;			/* in plan_order, while it is kept */
} KeptPlan;

typedef struct PlanEntry
{
	PlanKey		key;
	KeptPlan   *plan;
} PlanEntry;

/* In the memory of the statement that has it. */
typedef struct Loan
{
	KeptPlan   *plan;
	MemoryContextCallback give_back;
} Loan;

typedef struct ShapeEntry
{
	uint32		hash;
	Shape	   *shape;
} ShapeEntry;

static HTAB *shapes = NULL;		/* of ShapeEntry */
static HTAB *plans = NULL;		/* of PlanEntry */
static MemoryContext kept_context = NULL;	/* parent of all */

/* Those first that were used last. */
static dlist_head shape_order = DLIST_STATIC_INIT(shape_order);
static dlist_head plan_order = DLIST_STATIC_INIT(plan_order);

static Size shape_bytes = 0;	/* of all shapes */
static Size plan_bytes = 0;		/* of plans that are kept */
static uint64 lookups = 0;
static int	last_id = 0;

/* Plans that were used last, by low bits of their keys. */
#define NRECENT 256
static KeptPlan *recent[NRECENT];

/* What came once, by low bits: much does not come again. */
#define NSEEN 1024
static uint32 seen[NSEEN];

/* Relations that plans may depend on, by low bits of their OIDs. */
#define NNAMED 4096
static uint64 named[NNAMED / 64];

static bool stale_shapes = false;
static bool making = false;		/* a plan; nothing else may be changed */

static inline KeptPlan **
plan_recent(const PlanKey *key)
{
	return &recent[((uint32) key->shape * 31 + key->leaf) % NRECENT];
}

static void
plan_free(KeptPlan *plan)
{
	if (!plan->kept && !plan->lent)
		MemoryContextDelete(plan->context);
}

/* The statement is over, however it ended. */
static void
loan_give_back(void *arg)
{
	Loan	   *loan = arg;

	loan->plan->lent = false;
	plan_free(loan->plan);
}

static void
plan_forget(KeptPlan *plan)
{
	if (*plan_recent(&plan->key) == plan)
		*plan_recent(&plan->key) = NULL;
	plan->kept = false;
	plan_bytes -= plan->bytes;
	dlist_delete(&plan->used);
	(void) hash_search(plans, &plan->key, HASH_REMOVE, NULL);
	plan_free(plan);
}

static void
plans_forget(Oid relid, int shape)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &plan_order)
	{
		KeptPlan   *plan = dlist_container(KeptPlan, used, iter.cur);

		if (OidIsValid(relid) ? list_member_oid(plan->plan->relationOids, relid) :
			shape == 0 || plan->key.shape == shape)
			plan_forget(plan);
	}
}

/* Not while one is made of it. */
static void
shape_forget(Shape *shape)
{
	plans_forget(InvalidOid, shape->id);
	shape_bytes -= shape->bytes;
	dlist_delete(&shape->used);
	(void) hash_search(shapes, &shape->hash, HASH_REMOVE, NULL);
	MemoryContextDelete(shape->context);
}

static void
shapes_forget(bool all)
{
	dlist_mutable_iter iter;

	if (all)
		plans_forget(InvalidOid, 0);
	dlist_foreach_modify(iter, &shape_order)
	{
		Shape	   *shape = dlist_container(Shape, used, iter.cur);

		if (all || shape->stale)
			shape_forget(shape);
	}
	stale_shapes = false;
	if (dlist_is_empty(&shape_order))
		memset(named, 0, sizeof(named));
}

static inline void
name_relation(Oid relid)
{
	named[relid % NNAMED / 64] |= UINT64CONST(1) << (relid % 64);
}

static void
kept_relcache_callback(Datum arg, Oid relid)
{
	dlist_iter	iter;

	if (OidIsValid(relid) &&
		!(named[relid % NNAMED / 64] & (UINT64CONST(1) << (relid % 64))))
		return;
	plans_forget(relid, 0);
	dlist_foreach(iter, &shape_order)
	{
		Shape	   *shape = dlist_container(Shape, used, iter.cur);

		if (!OidIsValid(relid) || shape->relid == relid)
			shape->stale = stale_shapes = true;
	}
}

static void
kept_syscache_callback(Datum arg, int cacheid, uint32 hashvalue)
{
	kept_relcache_callback((Datum) 0, InvalidOid);
}

/* Has this come before?  It has now. */
static bool
seen_before(uint32 what)
{
	uint32	   *place = &seen[what % NSEEN];

	if (*place == what)
		return true;
	*place = what;
	return false;
}

/* False when all that is there has been used lately. */
static bool
shapes_make_room(void)
{
	while (hash_get_num_entries(shapes) >= MAX_SHAPES ||
		   shape_bytes >= MAX_SHAPE_BYTES)
	{
		Shape	   *oldest = dlist_tail_element(Shape, used, &shape_order);

		if (lookups - oldest->last_use < MIN_AGE)
			return false;
		shape_forget(oldest);
	}
	return true;
}

static bool
plans_make_room(void)
{
	while (hash_get_num_entries(plans) >= MAX_PLANS ||
		   plan_bytes >= MAX_PLAN_BYTES)
	{
		KeptPlan   *oldest = dlist_tail_element(KeptPlan, used, &plan_order);

		if (lookups - oldest->last_use < MIN_AGE)
			return false;
		plan_forget(oldest);
	}
	return true;
}

static void
kept_create(void)
{
	HASHCTL		ctl;

	kept_context = AllocSetContextCreate(CacheMemoryContext,
										 "fragaffinity kept plans",
										 ALLOCSET_DEFAULT_SIZES);
	ctl.hcxt = kept_context;
	ctl.keysize = sizeof(uint32);
	ctl.entrysize = sizeof(ShapeEntry);
	shapes = hash_create("fragaffinity shapes", 64, &ctl,
						 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	ctl.keysize = sizeof(PlanKey);
	ctl.entrysize = sizeof(PlanEntry);
	plans = hash_create("fragaffinity kept plans", 256, &ctl,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Its query is the statement's, which has come for the second time. */
static void
shape_fill(Shape *shape, Query *parse)
{
	FaShapeScan scan;

	shape->relid = linitial_node(RangeTblEntry, parse->rtable)->relid;
	shape->query = copyObject(parse);
	(void) fa_shape_scan(shape->query, true, &scan);
	shape->nconsts = scan.nconsts;
	shape->consts = palloc(sizeof(Const *) * scan.nconsts);
	memcpy(shape->consts, scan.consts, sizeof(Const *) * scan.nconsts);
	shape->nvalues = scan.nvalues;
	shape->values = palloc(sizeof(FaShapeValue) * scan.nvalues);
	for (int i = 0; i < scan.nvalues; i++)
		fa_shape_value_prepare(&shape->values[i], *scan.values[i]);

	shape->generic = copyObject(parse);
	(void) fa_shape_scan(shape->generic, true, &scan);
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

static Shape *
shape_make(Query *parse, uint32 hash)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "fragaffinity shape",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Shape	   *shape = palloc0(sizeof(Shape));
	ShapeEntry *entry;

	shape->hash = hash;
	shape->id = ++last_id;
	shape->context = context;
	shape_fill(shape, parse);
	MemoryContextSwitchTo(caller);
	entry = hash_search(shapes, &hash, HASH_ENTER, NULL);
	entry->shape = shape;
	MemoryContextSetParent(context, kept_context);
	shape->bytes = MemoryContextMemAllocated(context, true);
	shape_bytes += shape->bytes;
	dlist_push_head(&shape_order, &shape->used);
	name_relation(shape->relid);
	return shape;
}

/*
 * Puts the statement's constants into the shape's query; true when both are equal
 * then.
 */
static bool
shape_is_of(Shape *shape, Query *parse, FaShapeScan *scan)
{
	if (shape->nconsts != scan->nconsts)
		return false;
	for (int i = 0; i < scan->nconsts; i++)
		shape->consts[i]->constvalue = scan->consts[i]->constvalue;
	/* where it is in its text means nothing */
	shape->query->stmt_location = parse->stmt_location;
	shape->query->stmt_len = parse->stmt_len;
	return equal(shape->query, parse);
}

/* NULL when it comes for the first time, or there is no room. */
static Shape *
shape_find(Query *parse, FaShapeScan *scan)
{
	ShapeEntry *entry = hash_search(shapes, &scan->hash, HASH_FIND, NULL);
	Shape	   *shape;

	if (entry)
		shape = entry->shape;
	else if (seen_before(scan->hash) && shapes_make_room())
		shape = shape_make(parse, scan->hash);
	else
		return NULL;
	if (lookups < shape->unfit_until)
		return NULL;
	if (!shape_is_of(shape, parse, scan))
	{
		if (++shape->strangers > MAX_STRANGERS)
			shape_forget(shape);
		return NULL;
	}
	shape->strangers = 0;
	shape->last_use = lookups;
	dlist_move_head(&shape_order, &shape->used);
	return shape;
}

static KeptPlan *
plan_find(const PlanKey *key)
{
	KeptPlan  **place = plan_recent(key);
	PlanEntry  *entry;

	if (*place && (*place)->key.shape == key->shape &&
		(*place)->key.leaf == key->leaf)
		return *place;
	entry = hash_search(plans, key, HASH_FIND, NULL);
	if (entry == NULL)
		return NULL;
	*place = entry->plan;
	return entry->plan;
}

/* A plan of the shape, for any values; NULL when it does not suit. */
static PlannedStmt *
shape_plan(Shape *shape, Query *parse, FaPin *pin, const char *query_string,
		   int cursor_options)
{
	Query	   *query = copyObject(shape->generic);
	FaPin	   *generic = palloc(sizeof(FaPin));
	PlannedStmt *volatile plan = NULL;

	query->queryId = parse->queryId;
	query->stmt_location = parse->stmt_location;
	query->stmt_len = parse->stmt_len;
	*generic = *pin;
	generic->query = query;
	making = true;
	PG_TRY();
	{
		plan = fa_route_plan_pinned(query, list_make1(generic), query_string,
									cursor_options, NULL);
	}
	PG_FINALLY();
	{
		making = false;
	}
	PG_END_TRY();
	return generic->table && fa_kept_suits(plan) ? plan : NULL;
}

/* Not kept yet. */
static KeptPlan *
plan_copy(const PlanKey *key, PlannedStmt *plan, bool proven)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "fragaffinity kept plan",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	KeptPlan   *copy = palloc0(sizeof(KeptPlan));
	List	   *places;
	ListCell   *lc;

	copy->key = *key;
	copy->context = context;
	copy->plan = copyObject(plan);
	copy->proven = proven;
	places = fa_kept_places(copy->plan);
	copy->places = palloc(sizeof(FaKeptPlace) * Max(list_length(places), 1));
	foreach(lc, places)
		copy->places[copy->nplaces++] = *(FaKeptPlace *) lfirst(lc);
	MemoryContextSwitchTo(caller);
	copy->bytes = MemoryContextMemAllocated(context, true);
	MemoryContextSetParent(context, kept_context);
	return copy;
}

static void
plan_keep(KeptPlan *plan)
{
	PlanEntry  *entry = hash_search(plans, &plan->key, HASH_ENTER, NULL);
	ListCell   *lc;

	entry->plan = plan;
	plan->kept = true;
	plan_bytes += plan->bytes;
	dlist_push_head(&plan_order, &plan->used);
	foreach(lc, plan->plan->relationOids)
		name_relation(lfirst_oid(lc));
}

/* Makes and keeps one, when the leaf has come before; else NULL. */
static KeptPlan *
plan_make(Shape *shape, const PlanKey *key, Query *parse, FaPin *pin,
		  const char *query_string, int cursor_options)
{
	uint64		leaf_state;
	uint64		table_state;
	PlannedStmt *plan;
	KeptPlan   *copy;

	if (!seen_before(shape->hash ^ key->leaf * 0x9e3779b1) || !plans_make_room())
		return NULL;
	leaf_state = fa_map_state(pin->leaf);
	table_state = fa_map_state(pin->relid);
	plan = shape_plan(shape, parse, pin, query_string, cursor_options);
	if (plan == NULL)
	{
		shape->unfit_for = Min(Max(2 * shape->unfit_for, UNFIT_FIRST), UNFIT_MOST);
		shape->unfit_until = lookups + shape->unfit_for;
		return NULL;
	}
	shape->unfit_for = 0;
	copy = plan_copy(key, plan, pin->proven);
	/* what has changed meanwhile may have come too late for it */
	if (leaf_state == fa_map_state(pin->leaf) &&
		table_state == fa_map_state(pin->relid))
		plan_keep(copy);
	return copy;
}

/* The plan with the shape's values, for one statement. */
static PlannedStmt *
plan_lend(KeptPlan *plan, Shape *shape, Query *parse)
{
	Datum		value[FA_SHAPE_CONSTS];
	bool		isnull[FA_SHAPE_CONSTS];
	PlannedStmt *stmt = palloc(sizeof(PlannedStmt));
	Loan	   *loan = palloc(sizeof(Loan));

	for (int i = 0; i < shape->nvalues; i++)
		value[i] = fa_shape_value_compute(&shape->values[i], &isnull[i]);
	for (int i = 0; i < plan->nplaces; i++)
	{
		FaKeptPlace *place = &plan->places[i];

		place->constant->constvalue = value[place->value];
		place->constant->constisnull = isnull[place->value];
	}
	loan->plan = plan;
	loan->give_back.func = loan_give_back;
	loan->give_back.arg = loan;
	plan->lent = true;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &loan->give_back);
	*stmt = *plan->plan;
	stmt->queryId = parse->queryId;
	stmt->stmt_location = parse->stmt_location;
	stmt->stmt_len = parse->stmt_len;
	elog(DEBUG2, "plan of fragment's leaf %u was kept", plan->key.leaf);
	return stmt;
}

/* Texts with hints for planning are not answered with another's plan. */
static bool
kept_has_hints(const char *text)
{
	return text && strchr(text, '/') && strstr(text, "/*+");
}

PlannedStmt *
fa_kept_plan(Query *parse, FaPin *pin, const char *query_string,
			 int cursor_options)
{
	const FaFragment *fragment = fa_map_leaf(pin->leaf);
	FaShapeScan scan;
	Shape	   *shape;
	PlanKey		key;
	KeptPlan   *plan;

	if (making || fragment == NULL || !fragment->local || pin->query != parse ||
		(cursor_options & ~CURSOR_OPT_PARALLEL_OK) ||
		plan_cache_mode == PLAN_CACHE_MODE_FORCE_CUSTOM_PLAN ||
		!fa_shape_scan(parse, false, &scan) || kept_has_hints(query_string))
		return NULL;
	if (shapes == NULL)
		kept_create();
	if (fa_kept_settings_changed())
		shapes_forget(true);
	else if (stale_shapes)
		shapes_forget(false);
	lookups++;
	shape = shape_find(parse, &scan);
	if (shape == NULL)
		return NULL;
	key.shape = shape->id;
	key.leaf = pin->leaf;
	plan = plan_find(&key);
	if (plan == NULL)
		plan = plan_make(shape, &key, parse, pin, query_string, cursor_options);
	else if (plan->lent || plan->proven != pin->proven)
		return NULL;
	if (plan == NULL)
		return NULL;
	if (plan->kept)
	{
		plan->last_use = lookups;
		dlist_move_head(&plan_order, &plan->used);
	}
	return plan_lend(plan, shape, parse);
}

void
fa_kept_init(void)
{
	CacheRegisterRelcacheCallback(kept_relcache_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(OPEROID, kept_syscache_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(AMOPOPID, kept_syscache_callback, (Datum) 0);
}
