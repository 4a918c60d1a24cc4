/*
 * deferred.c
 *	  Prepared statements whose fragment depends on their parameters.
 *
 * A plan that is to serve all values cannot name a leaf.  PostgreSQL's own
 * answer, a plan with every partition in it, takes the longer the more there
 * are.  So the plan cache gets a stand-in, and ExecutorStart, where the
 * parameters are known, replaces it by the plan for the leaf that they lead
 * to.  Those plans are kept here: one for each statement and leaf, made once,
 * thrown away when anything they depend on changes, as a move does, or when
 * there are too many and it has not been used for longest.
 *
 * The plan cache has locked the tables; the leaf is locked here, and only then is
 * the plan looked up, so what is found is valid.
 *
 * These locks come after the statement's snapshot, and a move may have come
 * between: the snapshot is then older than the leaf.  In READ COMMITTED a
 * client's own statement simply takes a new one, and so does what EXECUTE runs, alone
 * or as part of EXPLAIN or CREATE TABLE AS, and a statement of a volatile PL/pgSQL
 * function (function.c).  Of other functions nobody knows whether their caller's
 * snapshot is theirs; so their stand-ins tell a price at which the plan cache
 * prefers to plan for each execution, which locks first.
 */
#include "postgres.h"

#include "access/xact.h"
#include "executor/executor.h"
#include "lib/ilist.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "tcop/pquery.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "catalog/map.h"
#include "core/fa_compat.h"
#include "route/function.h"
#include "route/hooks.h"
#include "route/route.h"
#include "route/scan_keys.h"

#define MAX_PINS 4				/* statements with more are planned each time */
#define MAX_PLANS 1024			/* of statements that wait, too */
#define MAX_SNAPSHOTS 10		/* that one execution may ask for */

/* A statement that waits for its parameters, as this backend keeps it. */
typedef struct Template
{
	int			id;				/* hash key */
	MemoryContext context;		/* of the following */
	Query	   *query;
	List	   *pins;			/* of FaPin */
	int			cursor_options;
	int			users;
	dlist_node	used;			/* in template_order */
} Template;

typedef struct PlanKey
{
	int			id;				/* of the template */
	Oid			leaf[MAX_PINS];
} PlanKey;

typedef struct LeafPlan
{
	PlanKey		key;
	MemoryContext context;
	PlannedStmt *plan;
	FaScanKeys *keys;			/* of its index scans; NULL: none */
	bool		valid;
	int			users;
	dlist_node	used;			/* in plan_order, while it is valid */
} LeafPlan;

/* An execution that uses them; in its memory. */
typedef struct Use
{
	Template   *template;
	LeafPlan   *plan;			/* NULL: none, or none yet */
	MemoryContextCallback release;
} Use;

static HTAB *templates = NULL;
static HTAB *plans = NULL;		/* of PlanKey -> LeafPlan * */

/* Both of them, those first that were used last. */
static dlist_head template_order = DLIST_STATIC_INIT(template_order);
static dlist_head plan_order = DLIST_STATIC_INIT(plan_order);

/*
 * Those that were used last, by low bits of their keys: all that there is to find
 * for most executions.
 */
#define NRECENT 256
static Template *recent_templates[NRECENT];
static LeafPlan *recent_plans[NRECENT];

static int	last_id = 0;

/*
 * Statements that were executed once, by the low bits of their ids: many are
 * not executed again, and then nothing of them need be kept.
 */
#define NSEEN 1024
static int	seen[NSEEN];

typedef struct PlanEntry
{
	PlanKey		key;
	LeafPlan   *plan;
} PlanEntry;

/* The statement that was started last with a new snapshot. */
static QueryDesc *renewed = NULL;

static Node *
deferred_create_state(CustomScan *scan)
{
	elog(ERROR, "plan was not replaced before its execution");
	return NULL;
}

static const CustomScanMethods deferred_methods = {
	"Fragment of Parameters", deferred_create_state
};

PlannedStmt *
fa_deferred_plan(Query *parse, const char *query_string, int cursor_options)
{
	/* functions and SQL's EXECUTE run inside a portal */
	bool		own = ActivePortal == NULL;
	bool		may_renew = own || fa_function_is_known(query_string);
	PlannedStmt *plan;

	plan = fa_custom_plan(parse, &deferred_methods,
						  list_make4(makeInteger(++last_id), parse,
									 makeInteger(cursor_options),
									 makeInteger(own)),
						  NIL, NIL);
	/* the plan cache locks the query's tables before, and once is enough */
	fa_plan_clear_rtes(plan);
	plan->planTree->total_cost = may_renew ? 0 : disable_cost;
	plan->planTree->plan_rows = 1;
	return plan;
}

/* The plan's memory goes when nobody uses it any more. */
static void
plan_free(LeafPlan *plan)
{
	if (plan->users == 0 && !plan->valid)
		MemoryContextDelete(plan->context);
}

/* The execution is over, however it ended. */
static void
use_release(void *arg)
{
	Use		   *use = arg;

	use->template->users--;
	if (use->plan)
	{
		use->plan->users--;
		plan_free(use->plan);
	}
}

static inline LeafPlan **
plan_recent(const PlanKey *key)
{
	return &recent_plans[((uint32) key->id * 31 + key->leaf[0]) % NRECENT];
}

/* Takes a plan out of the cache. */
static void
plan_forget(LeafPlan *plan)
{
	if (*plan_recent(&plan->key) == plan)
		*plan_recent(&plan->key) = NULL;
	plan->valid = false;
	dlist_delete(&plan->used);
	(void) hash_search(plans, &plan->key, HASH_REMOVE, NULL);
	plan_free(plan);
}

typedef bool (*PlanDepends) (PlannedStmt *plan, Oid relid, int cacheid,
							 uint32 hash);

static bool
plan_depends_on_relation(PlannedStmt *plan, Oid relid, int cacheid, uint32 hash)
{
	return !OidIsValid(relid) || list_member_oid(plan->relationOids, relid);
}

/* On a function that was inlined, or a domain. */
static bool
plan_depends_on_object(PlannedStmt *plan, Oid relid, int cacheid, uint32 hash)
{
	ListCell   *lc;

	foreach(lc, plan->invalItems)
	{
		PlanInvalItem *item = lfirst(lc);

		if (item->cacheId == cacheid && (hash == 0 || item->hashValue == hash))
			return true;
	}
	return false;
}

/* Takes plans out of the cache that depend on what has changed. */
static void
plans_forget(PlanDepends depends, Oid relid, int cacheid, uint32 hash)
{
	HASH_SEQ_STATUS status;
	PlanEntry  *entry;

	if (plans == NULL || hash_get_num_entries(plans) == 0)
		return;
	hash_seq_init(&status, plans);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (depends(entry->plan->plan, relid, cacheid, hash))
			plan_forget(entry->plan);
	}
}

static void
plans_relcache_callback(Datum arg, Oid relid)
{
	plans_forget(plan_depends_on_relation, relid, 0, 0);
}

static void
plans_object_callback(Datum arg, int cacheid, uint32 hashvalue)
{
	plans_forget(plan_depends_on_object, InvalidOid, cacheid, hashvalue);
}

/* What any plan may depend on, and rarely changes. */
static void
plans_syscache_callback(Datum arg, int cacheid, uint32 hashvalue)
{
	plans_forget(plan_depends_on_relation, InvalidOid, 0, 0);
}

/* Makes room for a statement. */
static void
templates_forget_oldest(void)
{
	dlist_iter	iter;

	dlist_reverse_foreach(iter, &template_order)
	{
		Template   *template = dlist_container(Template, used, iter.cur);

		if (template->users > 0)
			continue;
		if (recent_templates[(uint32) template->id % NRECENT] == template)
			recent_templates[(uint32) template->id % NRECENT] = NULL;
		dlist_delete(&template->used);
		MemoryContextDelete(template->context);
		(void) hash_search(templates, &template->id, HASH_REMOVE, NULL);
		return;
	}
}

static void
deferred_create_tables(void)
{
	HASHCTL		ctl;

	ctl.keysize = sizeof(int);
	ctl.entrysize = sizeof(Template);
	ctl.hcxt = TopMemoryContext;
	templates = hash_create("fragaffinity statements", 64, &ctl,
							HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	ctl.keysize = sizeof(PlanKey);
	ctl.entrysize = sizeof(PlanEntry);
	plans = hash_create("fragaffinity plans", 256, &ctl,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* NULL when the statement is executed for the first time. */
static Template *
template_find(CustomScan *scan)
{
	int			id = intVal(linitial(scan->custom_private));
	Template  **recent = &recent_templates[(uint32) id % NRECENT];
	Template   *template = *recent;
	MemoryContext context;
	MemoryContext caller;
	Query	   *query;
	List	   *pins;

	if (templates == NULL)
		deferred_create_tables();
	if (template == NULL || template->id != id)
		template = hash_search(templates, &id, HASH_FIND, NULL);
	if (template)
	{
		*recent = template;
		dlist_move_head(&template_order, &template->used);
		return template;
	}
	if (seen[(uint32) id % NSEEN] != id)
	{
		seen[(uint32) id % NSEEN] = id;
		return NULL;
	}
	if (hash_get_num_entries(templates) >= MAX_PLANS)
		templates_forget_oldest();
	context = AllocSetContextCreate(CurrentMemoryContext,
									"fragaffinity statement",
									ALLOCSET_SMALL_SIZES);
	caller = MemoryContextSwitchTo(context);
	query = copyObject(lsecond_node(Query, scan->custom_private));
	pins = fa_pin_collect(query);
	MemoryContextSwitchTo(caller);
	template = hash_search(templates, &id, HASH_ENTER, NULL);
	template->context = context;
	template->query = query;
	template->pins = pins;
	template->cursor_options = intVal(lthird(scan->custom_private));
	template->users = 0;
	dlist_push_head(&template_order, &template->used);
	MemoryContextSetParent(context, CacheMemoryContext);
	return template;
}

/* Finds, and locks, the leaf of every pin; false when one has none. */
static bool
template_resolve(Template *template, ParamListInfo params, PlanKey *key_p)
{
	ListCell   *lc;
	int			n = 0;

	if (template->pins == NIL || list_length(template->pins) > MAX_PINS)
		return false;
	memset(key_p, 0, sizeof(PlanKey));
	key_p->id = template->id;
	foreach(lc, template->pins)
	{
		/* a copy: what it finds is in this execution's memory */
		FaPin		pin = *(FaPin *) lfirst(lc);

		if (fa_pin_resolve(&pin, params, true) != FA_PIN_HERE)
			return false;
		key_p->leaf[n++] = pin.leaf;
	}
	return true;
}

static PlannedStmt *
template_plan(Template *template, QueryDesc *desc, bool custom)
{
	return fa_route_plan(copyObject(template->query), desc->sourceText,
						 template->cursor_options, desc->params, true, custom);
}

static LeafPlan *
plan_find(const PlanKey *key)
{
	LeafPlan  **recent = plan_recent(key);
	PlanEntry  *entry;

	if (*recent && memcmp(&(*recent)->key, key, sizeof(PlanKey)) == 0)
		return *recent;
	entry = hash_search(plans, key, HASH_FIND, NULL);
	if (entry == NULL)
		return NULL;
	*recent = entry->plan;
	return entry->plan;
}

static LeafPlan *
template_cache_plan(Template *template, const PlanKey *key, QueryDesc *desc)
{
	PlannedStmt *plan = template_plan(template, desc, false);
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "fragaffinity plan",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	LeafPlan   *cached = palloc0(sizeof(LeafPlan));
	LeafPlan   *other;
	PlanEntry  *entry;

	cached->key = *key;
	cached->context = context;
	cached->plan = copyObject(plan);
	cached->keys = fa_scan_keys_collect(cached->plan);
	MemoryContextSwitchTo(caller);
	/* functions that planning calls may have executed the same statement */
	other = plan_find(key);
	if (other)
		plan_forget(other);
	if (hash_get_num_entries(plans) >= MAX_PLANS)
		plan_forget(dlist_tail_element(LeafPlan, used, &plan_order));
	MemoryContextSetParent(context, CacheMemoryContext);
	entry = hash_search(plans, key, HASH_ENTER, NULL);
	entry->plan = cached;
	cached->valid = true;
	dlist_push_head(&plan_order, &cached->used);
	return cached;
}

/* A snapshot older than the leaf would not see the rows that came with it. */
static bool
deferred_snapshot_may_be_old(QueryDesc *desc)
{
	return !IsolationUsesXactSnapshot() && desc->snapshot != NULL &&
		desc->snapshot->snapshot_type == SNAPSHOT_MVCC &&
		fa_map_snapshot_may_be_old(desc->snapshot->xmin);
}

static void
deferred_renew_snapshot(QueryDesc *desc)
{
	UnregisterSnapshot(desc->snapshot);
	desc->snapshot = NULL;
	desc->snapshot = RegisterSnapshot(GetTransactionSnapshot());
}

/* Plans for this execution, with its values. */
static PlannedStmt *
deferred_plan_once(QueryDesc *desc, CustomScan *scan)
{
	return fa_route_plan(copyObject(lsecond_node(Query, scan->custom_private)),
						 desc->sourceText, intVal(lthird(scan->custom_private)),
						 desc->params, true, true);
}

/* The cached plan for this execution's values, made if need be; its keys. */
static FaScanKeys *
deferred_use_template(QueryDesc *desc, Template *template)
{
	PlanKey		key;
	LeafPlan   *plan;
	Use		   *use = palloc(sizeof(Use));

	use->template = template;
	use->plan = NULL;
	use->release.func = use_release;
	use->release.arg = use;
	template->users++;
	MemoryContextRegisterResetCallback(CurrentMemoryContext, &use->release);
	if (!template_resolve(template, desc->params, &key))
	{
		desc->plannedstmt = template_plan(template, desc, true);
		return NULL;
	}
	plan = plan_find(&key);
	if (plan == NULL)
		plan = template_cache_plan(template, &key, desc);
	dlist_move_head(&plan_order, &plan->used);
	plan->users++;
	use->plan = plan;
	desc->plannedstmt = plan->plan;
	return plan->keys;
}

/* Puts the plan for this execution's values in the stand-in's place. */
static FaScanKeys *
deferred_replace(QueryDesc *desc, CustomScan *scan, MemoryContext context)
{
	Template   *template = template_find(scan);
	MemoryContext caller = MemoryContextSwitchTo(context);
	FaScanKeys *keys = NULL;

	if (template)
		keys = deferred_use_template(desc, template);
	else
		desc->plannedstmt = deferred_plan_once(desc, scan);
	MemoryContextSwitchTo(caller);
	return keys;
}

/*
 * Functions that read tables may lead to another leaf under a new snapshot,
 * whose lock may ask for a snapshot that is newer still.
 */
static FaScanKeys *
deferred_replace_again(QueryDesc *desc, CustomScan *scan, MemoryContext context)
{
	FaScanKeys *keys;

	for (int i = 0; i < MAX_SNAPSHOTS; i++)
	{
		List	   *relations = desc->plannedstmt->relationOids;

		PushActiveSnapshot(desc->snapshot);
		keys = deferred_replace(desc, scan, context);
		PopActiveSnapshot();
		if (equal(desc->plannedstmt->relationOids, relations) ||
			!deferred_snapshot_may_be_old(desc))
			return keys;
		deferred_renew_snapshot(desc);
	}
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not find the statement's fragment while fragments move"),
			 errhint("The transaction might succeed if retried.")));
	return NULL;				/* keep compiler quiet */
}

bool
fa_deferred_is(PlannedStmt *plan)
{
	return plan->planTree && IsA(plan->planTree, CustomScan) &&
		((CustomScan *) plan->planTree)->methods == &deferred_methods;
}

/* Is the snapshot this statement's alone? */
static bool
deferred_may_renew(QueryDesc *desc, CustomScan *scan)
{
	return intVal(lfourth(scan->custom_private)) || fa_hooks_may_renew() ||
		fa_function_may_renew(desc);
}

/*
 * The memory of what an execution needs.  That of its QueryDesc ends with it, except
 * in a function in SQL, where it is that of all its calls in a query; so such an
 * execution gets a context of its own.
 */
static MemoryContext
deferred_context(QueryDesc *desc, CustomScan *scan)
{
	MemoryContext context = GetMemoryChunkContext(desc);

	if (intVal(lfourth(scan->custom_private)) ||
		(desc->params && desc->params->paramFetch))
		return context;
	return AllocSetContextCreate(context, "fragaffinity execution",
								 ALLOCSET_SMALL_SIZES);
}

FaScanKeys *
fa_deferred_start(QueryDesc *desc, MemoryContext *context_p)
{
	CustomScan *scan = castNode(CustomScan, desc->plannedstmt->planTree);
	MemoryContext context = deferred_context(desc, scan);
	FaScanKeys *keys = deferred_replace(desc, scan, context);

	*context_p = context == GetMemoryChunkContext(desc) ? NULL : context;
	if (renewed == desc)
		renewed = NULL;			/* another one was in its place */
	if (!deferred_snapshot_may_be_old(desc) || !deferred_may_renew(desc, scan))
		return keys;
	deferred_renew_snapshot(desc);
	if (contain_mutable_functions(lsecond(scan->custom_private)))
		keys = deferred_replace_again(desc, scan, context);
	renewed = desc;
	return keys;
}

/*
 * Modifications, and what a command executes, run under a snapshot that was taken
 * before.
 */
bool
fa_deferred_push_snapshot(QueryDesc *desc)
{
	if (desc != renewed || GetActiveSnapshot() == desc->snapshot)
		return false;
	PushActiveSnapshot(desc->snapshot);
	return true;
}

void
fa_deferred_init(void)
{
	static const int caches[] = {NAMESPACEOID, OPEROID, AMOPOPID,
		FOREIGNSERVEROID, FOREIGNDATAWRAPPEROID
	};

	RegisterCustomScanMethods(&deferred_methods);
	CacheRegisterRelcacheCallback(plans_relcache_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(PROCOID, plans_object_callback, (Datum) 0);
	CacheRegisterSyscacheCallback(TYPEOID, plans_object_callback, (Datum) 0);
	for (int i = 0; i < lengthof(caches); i++)
		CacheRegisterSyscacheCallback(caches[i], plans_syscache_callback,
									  (Datum) 0);
}
