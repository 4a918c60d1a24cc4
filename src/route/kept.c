/*
 * kept.c
 *	  Plans of statements that differ in their constants only, kept.
 *
 * A client that puts its values into the text of statements, or prepares each for
 * one execution, has every one of them planned, which takes longer than executing
 * it.  So when the same shape (kept_shape.c) comes again and again, a plan for all
 * values is made for the fragment that it is about, if it cannot be worse than one
 * for a certain value (kept_fill.c), and the next such statement gets it with its
 * own constants.
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
#define MAX_BYTES (4 * 1024 * 1024)

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
	bool		kept;			/* in plans, else only lent still */
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

static HTAB *plans = NULL;		/* of PlanEntry */

/* Those first that were used last. */
static dlist_head plan_order = DLIST_STATIC_INIT(plan_order);

static Size bytes = 0;			/* of all of them */
static uint64 lookups = 0;

/* Plans that were used last, by low bits of their keys. */
#define NRECENT 256
static KeptPlan *recent[NRECENT];

/* Relations that plans may depend on, by low bits of their OIDs. */
#define NNAMED 4096
static uint64 named[NNAMED / 64];

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
	bytes -= plan->bytes;
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
	if (dlist_is_empty(&plan_order))
		memset(named, 0, sizeof(named));
}

void
fa_kept_forget_shape(int id)
{
	plans_forget(InvalidOid, id);
}

static inline void
name_relation(Oid relid)
{
	named[relid % NNAMED / 64] |= UINT64CONST(1) << (relid % 64);
}

static void
kept_relcache_callback(Datum arg, Oid relid)
{
	if (OidIsValid(relid) &&
		!(named[relid % NNAMED / 64] & (UINT64CONST(1) << (relid % 64))))
		return;
	plans_forget(relid, 0);
	fa_shapes_note_change(relid);
}

static void
kept_syscache_callback(Datum arg, int cacheid, uint32 hashvalue)
{
	kept_relcache_callback((Datum) 0, InvalidOid);
}

/* False when all that is there has been used lately. */
static bool
plans_make_room(void)
{
	while (hash_get_num_entries(plans) >= MAX_PLANS ||
		   bytes >= MAX_BYTES)
	{
		KeptPlan   *oldest = dlist_tail_element(KeptPlan, used, &plan_order);

		if (lookups - oldest->last_use < FA_KEPT_MIN_AGE)
			return false;
		plan_forget(oldest);
	}
	return true;
}

static void
kept_create(void)
{
	HASHCTL		ctl;

	ctl.hcxt = CacheMemoryContext;
	ctl.keysize = sizeof(PlanKey);
	ctl.entrysize = sizeof(PlanEntry);
	plans = hash_create("fragaffinity kept plans", 256, &ctl,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
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
shape_plan(FaShape *shape, Query *parse, FaPin *pin, const char *query_string,
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

/* Not kept yet, and in the current memory context. */
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
	return copy;
}

static void
plan_keep(KeptPlan *plan)
{
	PlanEntry  *entry = hash_search(plans, &plan->key, HASH_ENTER, NULL);
	ListCell   *lc;

	entry->plan = plan;
	MemoryContextSetParent(plan->context, CacheMemoryContext);
	plan->kept = true;
	bytes += plan->bytes;
	dlist_push_head(&plan_order, &plan->used);
	foreach(lc, plan->plan->relationOids)
		name_relation(lfirst_oid(lc));
}

/* True when there is one now, and it is kept. */
static bool
plan_make(FaShape *shape, const PlanKey *key, Query *parse, FaPin *pin,
		  const char *query_string, int cursor_options)
{
	uint64		leaf_state = fa_map_state(pin->leaf);
	uint64		table_state = fa_map_state(pin->relid);
	PlannedStmt *plan;
	KeptPlan   *copy;

	plan = shape_plan(shape, parse, pin, query_string, cursor_options);
	fa_shape_suits(shape, plan != NULL, lookups);
	if (plan == NULL)
		return false;
	copy = plan_copy(key, plan, pin->proven);
	/* what has changed meanwhile may have come too late for it */
	if (leaf_state != fa_map_state(pin->leaf) ||
		table_state != fa_map_state(pin->relid))
		return false;
	plan_keep(copy);
	return true;
}

/* For one statement, and its constants. */
static PlannedStmt *
plan_lend(KeptPlan *plan, const Datum *value, const bool *isnull, Query *parse)
{
	PlannedStmt *stmt = palloc(sizeof(PlannedStmt));
	Loan	   *loan = palloc(sizeof(Loan));

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
	plan->last_use = lookups;
	dlist_move_head(&plan_order, &plan->used);
	*stmt = *plan->plan;
	stmt->queryId = parse->queryId;
	stmt->stmt_location = parse->stmt_location;
	stmt->stmt_len = parse->stmt_len;
	elog(DEBUG2, "using a kept plan for leaf %u", plan->key.leaf);
	return stmt;
}

/* Texts with hints for planning are not answered with another's plan. */
static bool
kept_has_hints(const char *text)
{
	return text && strchr(text, '/') && strstr(text, "/*+");
}

/* Is the statement of a kind that is looked for? */
static bool
kept_wanted(Query *parse, FaPin *pin, const char *query_string,
			int cursor_options, ParamListInfo params, FaShapeScan *scan)
{
	const FaFragment *fragment = fa_map_leaf(pin->leaf);

	return !making && fragment && fragment->local && pin->query == parse &&
		(cursor_options & ~CURSOR_OPT_PARALLEL_OK) == 0 &&
		plan_cache_mode != PLAN_CACHE_MODE_FORCE_CUSTOM_PLAN &&
		fa_shape_scan(parse, params, false, scan) && !kept_has_hints(query_string);
}

/* Are plans kept for the planner's settings as they are now? */
static bool
kept_for_settings(void)
{
	FaKeptSettings settings = fa_kept_settings();

	if (plans == NULL)
		kept_create();
	if (settings == FA_SETTINGS_NEW)
	{
		plans_forget(InvalidOid, 0);
		fa_shapes_note_change(InvalidOid);
	}
	return settings != FA_SETTINGS_OTHER;
}

PlannedStmt *
fa_kept_plan(Query *parse, FaPin *pin, const char *query_string,
			 int cursor_options, ParamListInfo params)
{
	FaShapeScan scan;
	FaShape    *shape;
	PlanKey		key;
	KeptPlan   *plan;
	Datum		value[FA_SHAPE_CONSTS];
	bool		isnull[FA_SHAPE_CONSTS];

	if (!kept_wanted(parse, pin, query_string, cursor_options, params, &scan) ||
		!kept_for_settings())
		return NULL;
	shape = fa_shapes_find(parse, &scan, ++lookups);
	if (shape == NULL)
		return NULL;
	key.shape = shape->id;
	key.leaf = pin->leaf;
	plan = plan_find(&key);
	if (plan ? plan->lent || plan->proven != pin->proven :
		!fa_shapes_seen_before(shape->hash ^ key.leaf * 0x9e3779b1) ||
		!plans_make_room())
		return NULL;
	if (!fa_shape_take(shape, parse, &scan, lookups))
		return NULL;
	if (plan == NULL &&
		!plan_make(shape, &key, parse, pin, query_string, cursor_options))
		return NULL;
	for (int i = 0; i < shape->nvalues; i++)
		value[i] = fa_shape_value_compute(&shape->values[i], params, &isnull[i]);
	/* again: whatever looked into the catalog may have brought news */
	plan = plan_find(&key);
	return plan ? plan_lend(plan, value, isnull, parse) : NULL;
}

void
fa_kept_init(void)
{
	CacheRegisterRelcacheCallback(kept_relcache_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(OPEROID, kept_syscache_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(AMOPOPID, kept_syscache_callback, (Datum) 0);
}
