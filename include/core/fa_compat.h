/*
 * fa_compat.h
 *	  Every difference between the supported server versions (15 to 18).
 *
 * This is the only file that tests PG_VERSION_NUM.  Each entry names the
 * upstream change it bridges.
 */
#ifndef FA_CORE_FA_COMPAT_H
#define FA_CORE_FA_COMPAT_H

#include "access/heapam.h"
#include "access/multixact.h"
#include "commands/copyfrom_internal.h"
#include "commands/vacuum.h"
#include "executor/executor.h"
#include "nodes/pathnodes.h"
#include "nodes/plannodes.h"
#include "parser/parse_node.h"
#include "parser/parse_relation.h"
#include "pgstat.h"
#include "replication/message.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/timestamp.h"

/* 16 moved the macros for varlenas out of postgres.h. */
#if PG_VERSION_NUM >= 160000
#include "varatt.h"
#endif

/* 18 split commands/explain.h. */
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif

#if PG_VERSION_NUM < 150000
#error "fragaffinity needs PostgreSQL 15 or later"
#endif

/*
 * Whether ON CONFLICT DO UPDATE looks at its WHERE before it asks if row security
 * hides the row in conflict: 18.6 does, 15.20 and 17.12 do not.
 */
#define FA_CONFLICT_WHERE_FIRST (PG_VERSION_NUM >= 180000)

#define FA_PG_MAJOR (PG_VERSION_NUM / 10000)

/* 16 split table_open's permission data into RTEPermissionInfo. */
#if PG_VERSION_NUM >= 160000
#define FA_HAS_PERMINFO 1
#endif

/* 16 renamed force_parallel_mode to what it is for. */
#if PG_VERSION_NUM >= 160000
#define fa_debug_parallel_query debug_parallel_query
#else
#define fa_debug_parallel_query force_parallel_mode
#endif

/* 17 renamed BackendId to ProcNumber (and made it zero-based). */
#if PG_VERSION_NUM >= 170000
#define fa_my_proc_number() ((int) MyProcNumber)
#else
#define fa_my_proc_number() ((int) MyProc->pgprocno)
#endif

/* 17 put the local transaction's number into a struct. */
#if PG_VERSION_NUM >= 170000
#define fa_my_lxid() (MyProc->vxid.lxid)
#else
#define fa_my_lxid() (MyProc->lxid)
#endif

/* 18 removed ExecutorRun's execute_once. */
#if PG_VERSION_NUM >= 180000
#define FA_EXECUTOR_RUN_PARAMS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count
#define FA_EXECUTOR_RUN_ARGS queryDesc, direction, count
#else
#define FA_EXECUTOR_RUN_PARAMS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count, \
	bool execute_once
#define FA_EXECUTOR_RUN_ARGS queryDesc, direction, count, execute_once
#endif

static inline void
fa_executor_run(QueryDesc *desc)
{
#if PG_VERSION_NUM >= 180000
	ExecutorRun(desc, ForwardScanDirection, 0);
#else
	ExecutorRun(desc, ForwardScanDirection, 0, true);
#endif
}

/* The next rows (0: all), of which there may be more. */
static inline void
fa_executor_run_some(QueryDesc *desc, uint64 rows)
{
#if PG_VERSION_NUM >= 180000
	ExecutorRun(desc, ForwardScanDirection, rows);
#else
	ExecutorRun(desc, ForwardScanDirection, rows, false);
#endif
}

/*
 * 16 renamed the fields of PgStat_TableCounts, and made find_tabstat_entry
 * return a copy that includes the transactions in progress.
 */
static inline int64
fa_pgstat_inserted(Oid relid)
{
	PgStat_TableStatus *entry = find_tabstat_entry(relid);
#if PG_VERSION_NUM >= 160000
	return entry ? entry->counts.tuples_inserted : 0;
#else
	int64		n = 0;

	if (entry == NULL)
		return 0;
	for (PgStat_TableXactStatus *trans = entry->trans; trans;
		 trans = trans->upper)
		n += trans->tuples_inserted;
	return n + entry->t_counts.t_tuples_inserted;
#endif
}

/* 18 counts frozen pages, too. */
static inline void
fa_vac_update_relstats(Relation rel, BlockNumber pages, double tuples,
					   BlockNumber visible, bool has_index)
{
#if PG_VERSION_NUM >= 180000
	vac_update_relstats(rel, pages, tuples, visible, 0, has_index,
						InvalidTransactionId, InvalidMultiXactId, NULL, NULL,
						true);
#else
	vac_update_relstats(rel, pages, tuples, visible, has_index,
						InvalidTransactionId, InvalidMultiXactId, NULL, NULL,
						true);
#endif
}

/* 18 measures how long it took. */
static inline void
fa_pgstat_report_analyze(Relation rel, int64 live, int64 dead)
{
#if PG_VERSION_NUM >= 180000
	pgstat_report_analyze(rel, live, dead, false, GetCurrentTimestamp());
#else
	pgstat_report_analyze(rel, live, dead, false);
#endif
}

/* 17 lets LockHeldByMe look for stronger modes too. */
static inline bool
fa_lock_held_by_me(const LOCKTAG *tag, LOCKMODE at_least)
{
#if PG_VERSION_NUM >= 170000
	return LockHeldByMe(tag, at_least, true);
#else
	for (LOCKMODE mode = at_least; mode <= AccessExclusiveLock; mode++)
	{
		if (LockHeldByMe(tag, mode))
			return true;
	}
	return false;
#endif
}

/*
 * 16 moved permissions out of the range table, and asks them for the columns
 * that are updated; 18 tells what is not pruned.
 */
static inline void
fa_exec_init_range_table(EState *estate, List *rtes)
{
#if PG_VERSION_NUM >= 160000
	List	   *perminfos = NIL;
	ListCell   *lc;

	foreach(lc, rtes)
	{
		RangeTblEntry *rte = lfirst_node(RangeTblEntry, lc);

		rte->perminfoindex = 0;
		if (rte->rtekind == RTE_RELATION)
			(void) addRTEPermissionInfo(&perminfos, rte);
	}
#endif
#if PG_VERSION_NUM >= 180000
	ExecInitRangeTable(estate, rtes, perminfos, bms_make_singleton(1));
#elif PG_VERSION_NUM >= 160000
	ExecInitRangeTable(estate, rtes, perminfos);
#else
	ExecInitRangeTable(estate, rtes);
#endif
}

/* 16 can leave out all indexes but those that sum up. */
static inline List *
fa_exec_insert_index_tuples(ResultRelInfo *target, TupleTableSlot *slot,
							EState *estate)
{
#if PG_VERSION_NUM >= 160000
	return ExecInsertIndexTuples(target, slot, estate, false, false, NULL, NIL,
								 false);
#else
	return ExecInsertIndexTuples(target, slot, estate, false, false, NULL, NIL);
#endif
}

/* 16 wants the result relations of a foreign join's recheck. */
#if PG_VERSION_NUM >= 160000
#define fa_eval_plan_qual_init(epq, estate) \
	EvalPlanQualInit(epq, estate, NULL, NIL, -1, NIL)
#else
#define fa_eval_plan_qual_init(epq, estate) \
	EvalPlanQualInit(epq, estate, NULL, NIL, -1)
#endif

/* 18 made noreturn a prefix. */
#if PG_VERSION_NUM >= 180000
#define FA_NORETURN pg_noreturn
#else
#define FA_NORETURN pg_attribute_noreturn()
#endif

/* 17 ties a wait event set to a resource owner. */
#if PG_VERSION_NUM >= 170000
#define fa_create_wait_event_set(nevents) CreateWaitEventSet(NULL, nevents)
#else
#define fa_create_wait_event_set(nevents) \
	CreateWaitEventSet(CurrentMemoryContext, nevents)
#endif

/* 18 asks whether a deferrable primary key will do. */
#if PG_VERSION_NUM >= 180000
#define fa_relation_primary_key(rel) RelationGetPrimaryKeyIndex(rel, false)
#else
#define fa_relation_primary_key(rel) RelationGetPrimaryKeyIndex(rel)
#endif

/* 16 replaced the ownership checks of each kind by one. */
#if PG_VERSION_NUM >= 160000
#define fa_owns_relation(rel, role) \
	object_ownercheck(RelationRelationId, rel, role)
#define fa_owns_database(db, role) \
	object_ownercheck(DatabaseRelationId, db, role)
#define fa_owns_schema(schema, role) \
	object_ownercheck(NamespaceRelationId, schema, role)
#define fa_owns_statistics(statistics, role) \
	object_ownercheck(StatisticExtRelationId, statistics, role)
#else
#define fa_owns_relation(rel, role) pg_class_ownercheck(rel, role)
#define fa_owns_database(db, role) pg_database_ownercheck(db, role)
#define fa_owns_schema(schema, role) pg_namespace_ownercheck(schema, role)
#define fa_owns_statistics(statistics, role) \
	pg_statistics_object_ownercheck(statistics, role)
#endif

/*
 * Whose user mapping a foreign scan or modification goes by.  16 moved it out
 * of the range table, and tells a foreign join's own relations from outer
 * joins'.
 */
#if PG_VERSION_NUM >= 160000
#define fa_foreign_scan_relids(scan) ((scan)->fs_base_relids)
#define fa_foreign_scan_check_as(scan, rte) ((scan)->checkAsUser)
#define fa_result_rel_check_as(rri, estate) \
	ExecGetResultRelCheckAsUser(rri, estate)
#define fa_foreign_scan_check_as_p(scan, rte) (&(scan)->checkAsUser)
#define fa_direct_modify_check_as_p(scan, estate) (&(scan)->checkAsUser)
static inline Oid *
fa_result_rel_check_as_p(ResultRelInfo *rri, EState *estate)
{
	/* those of a leaf are its table's */
	if (rri->ri_RootResultRelInfo)
		rri = rri->ri_RootResultRelInfo;
	return &getRTEPermissionInfo(estate->es_rteperminfos,
								 exec_rt_fetch(rri->ri_RangeTableIndex, estate))->checkAsUser;
}
#else
#define fa_foreign_scan_relids(scan) ((scan)->fs_relids)
#define fa_foreign_scan_check_as(scan, rte) ((void) (scan), (rte)->checkAsUser)
#define fa_foreign_scan_check_as_p(scan, rte) ((void) (scan), &(rte)->checkAsUser)
#define fa_direct_modify_check_as_p(scan, estate) \
	(&exec_rt_fetch((scan)->resultRelation, estate)->checkAsUser)
static inline Oid *
fa_result_rel_check_as_p(ResultRelInfo *rri, EState *estate)
{
	/* a leaf that rows are routed to has no entry of its own */
	if (rri->ri_RangeTableIndex == 0)
		rri = rri->ri_RootResultRelInfo;
	return &exec_rt_fetch(rri->ri_RangeTableIndex, estate)->checkAsUser;
}
static inline Oid
fa_result_rel_check_as(ResultRelInfo *rri, EState *estate)
{
	return *fa_result_rel_check_as_p(rri, estate);
}
#endif

/* 17 lets partitions have the identity columns of their table. */
#if PG_VERSION_NUM >= 170000
#define FA_PARTITIONS_HAVE_IDENTITY true
#else
#define FA_PARTITIONS_HAVE_IDENTITY false
#endif

/* 16 renamed RelFileNode to RelFileLocator, and what holds one. */
#if PG_VERSION_NUM >= 160000
typedef RelFileLocator FaFile;
#define fa_relation_file(rel) ((rel)->rd_locator)
#define fa_file_equals(a, b) RelFileLocatorEquals(a, b)
#define fa_truncate_file(xlrec) ((xlrec)->rlocator)
#else
typedef RelFileNode FaFile;
#define fa_relation_file(rel) ((rel)->rd_node)
#define fa_file_equals(a, b) RelFileNodeEquals(a, b)
#define fa_truncate_file(xlrec) ((xlrec)->rnode)
#endif

/* 16 can read and write files directly, from aligned memory only. */
#if PG_VERSION_NUM >= 160000
#define FA_IO_ALIGN PG_IO_ALIGN_SIZE
#else
#define FA_IO_ALIGN MAXIMUM_ALIGNOF
#endif

/* 17 can also flush a logical message by itself. */
#if PG_VERSION_NUM >= 170000
#define fa_log_message(prefix) \
	LogLogicalMessage(prefix, "", 0, false, false)
#else
#define fa_log_message(prefix) LogLogicalMessage(prefix, "", 0, false)
#endif

/*
 * In libpq/libpq.h, which wants headers of GSSAPI that come with no package
 * of the server.  17 renamed the last one.
 */
extern void pq_startmsgread(void);
extern void pq_endmsgread(void);
extern int	pq_peekbyte(void);
extern int	pq_getbyte_if_available(unsigned char *c);
extern int	pq_getmessage(StringInfo s, int maxlen);
extern PGDLLIMPORT WaitEventSet *FeBeWaitSet;
#define FA_CLIENT_SOCKET_POS 0	/* in it */
#if PG_VERSION_NUM >= 170000
extern ssize_t pq_buffer_remaining_data(void);
#define fa_client_has_sent() (pq_buffer_remaining_data() > 0)
#else
extern bool pq_buffer_has_data(void);
#define fa_client_has_sent() pq_buffer_has_data()
#endif

/*
 * 16 moved a relation's permissions from its range table entry to a list
 * beside the range table.
 */

/* The entry, a copy of another one, asks for no permission. */
static inline void
fa_rte_check_nothing(Query *query, RangeTblEntry *rte)
{
#if PG_VERSION_NUM >= 160000
	RTEPermissionInfo *info;

	if (rte->perminfoindex == 0)
		return;
	info = copyObject(list_nth_node(RTEPermissionInfo, query->rteperminfos,
									rte->perminfoindex - 1));
	info->relid = rte->relid;
	info->requiredPerms = 0;
	query->rteperminfos = lappend(query->rteperminfos, info);
	rte->perminfoindex = list_length(query->rteperminfos);
#else
	rte->requiredPerms = 0;
#endif
}

/*
 * What MERGE joins its target by; NULL when it also touches rows of the target
 * without it.  17 moved it out of the join tree.
 */
static inline Node *
fa_merge_condition(Query *query)
{
#if PG_VERSION_NUM >= 170000
	ListCell   *lc;

	foreach(lc, query->mergeActionList)
	{
		if (lfirst_node(MergeAction, lc)->matchKind ==
			MERGE_WHEN_NOT_MATCHED_BY_SOURCE)
			return NULL;
	}
	return query->mergeJoinCondition;
#else
	return query->jointree->quals;
#endif
}

/* A MERGE, all of whose parts have been taken, is none any more. */
static inline void
fa_merge_forget(Query *query)
{
	query->mergeActionList = NIL;
#if PG_VERSION_NUM >= 170000
	query->mergeJoinCondition = NULL;
	query->mergeTargetRelation = 0;
#endif
}

/* Is the action of MERGE for rows of the target?  17 knows other kinds, too. */
static inline bool
fa_merge_action_matched(MergeAction *action)
{
#if PG_VERSION_NUM >= 170000
	return action->matchKind == MERGE_WHEN_MATCHED;
#else
	return action->matched;
#endif
}

/* 16 wants to know of columns that an outer join may make null. */
static inline void
fa_var_nulled_by(Var *var, Index join)
{
#if PG_VERSION_NUM >= 160000
	var->varnullingrels = bms_add_member(var->varnullingrels, join);
#endif
}

/* 18 has RETURNING OLD and NEW. */
static inline bool
fa_var_is_of_other_row(Var *var)
{
#if PG_VERSION_NUM >= 180000
	return var->varreturningtype != VAR_RETURNING_DEFAULT;
#else
	return false;
#endif
}

/* Addresses of an entry's sets of columns; returns their number. */
#define FA_RTE_COLUMN_SETS 4
static inline int
fa_rte_column_sets(Query *query, RangeTblEntry *rte, Bitmapset ***sets)
{
#if PG_VERSION_NUM >= 160000
	RTEPermissionInfo *info;

	if (rte->perminfoindex == 0)
		return 0;
	info = list_nth_node(RTEPermissionInfo, query->rteperminfos,
						 rte->perminfoindex - 1);
	sets[0] = &info->selectedCols;
	sets[1] = &info->insertedCols;
	sets[2] = &info->updatedCols;
	return 3;
#else
	sets[0] = &rte->selectedCols;
	sets[1] = &rte->insertedCols;
	sets[2] = &rte->updatedCols;
	sets[3] = &rte->extraUpdatedCols;
	return 4;
#endif
}

/* 16 keeps what is left of GROUP BY apart from the query. */
static inline List *
fa_group_clause(PlannerInfo *root)
{
#if PG_VERSION_NUM >= 160000
	return root->processed_groupClause;
#else
	return root->parse->groupClause;
#endif
}

/*
 * ExecutorStart, by the next one behind the hook, of what PostgreSQL would not let
 * start: entries that ask for no permission, a snapshot that is not the active one.
 * In fa_compat.c, which tells why; wants fa_executor_start_init.
 */
extern void fa_executor_start(ExecutorStart_hook_type next, QueryDesc *desc,
							  int eflags);
extern void fa_executor_start_init(void);

/* As whom its permissions are checked; invalid: the current user. */
static inline Oid
fa_rte_check_as(Query *query, RangeTblEntry *rte)
{
#if PG_VERSION_NUM >= 160000
	return rte->perminfoindex == 0 ? InvalidOid :
		getRTEPermissionInfo(query->rteperminfos, rte)->checkAsUser;
#else
	return rte->checkAsUser;
#endif
}

/*
 * Does a view ask for it, not a policy?  Newer minor releases (15.20) have one more
 * such kind after the others, for the row in conflict.
 */
static inline bool
fa_check_is_of_view(WithCheckOption *check)
{
	return check->kind == WCO_VIEW_CHECK ||
		check->kind > WCO_RLS_MERGE_DELETE_CHECK;
}

/* Where a plan says which rights it asks for: a list, and what is in it. */
#if PG_VERSION_NUM >= 160000
typedef RTEPermissionInfo FaPlanRights;
#define FA_PLAN_RIGHTS(plan) ((plan)->permInfos)
#else
typedef RangeTblEntry FaPlanRights;
#define FA_PLAN_RIGHTS(plan) ((plan)->rtable)
#endif

/* Takes all entries out of a plan's range table. */
static inline void
fa_plan_clear_rtes(PlannedStmt *plan)
{
	plan->rtable = NIL;
#if PG_VERSION_NUM >= 160000
	plan->permInfos = NIL;
#endif
}

/*
 * The entry asks for the right to insert; the columns that are inserted are to be
 * added to the set.
 */
static inline Bitmapset **
fa_item_require_insert(ParseNamespaceItem *item)
{
#if PG_VERSION_NUM >= 160000
	item->p_perminfo->requiredPerms = ACL_INSERT;
	return &item->p_perminfo->insertedCols;
#else
	item->p_rte->requiredPerms = ACL_INSERT;
	return &item->p_rte->insertedCols;
#endif
}

/* Raises what the user may not do; asks those who hook into that, too. */
static inline void
fa_check_permissions(ParseState *pstate)
{
#if PG_VERSION_NUM >= 160000
	(void) ExecCheckPermissions(pstate->p_rtable, pstate->p_rteperminfos, true);
#else
	(void) ExecCheckRTPerms(pstate->p_rtable, true);
#endif
}

/* The range table of a COPY, which has its own permissions. */
static inline void
fa_exec_init_copy_range_table(EState *estate, CopyFromState state)
{
#if PG_VERSION_NUM >= 180000
	ExecInitRangeTable(estate, state->range_table, state->rteperminfos,
					   bms_make_singleton(1));
#elif PG_VERSION_NUM >= 160000
	ExecInitRangeTable(estate, state->range_table, state->rteperminfos);
#else
	ExecInitRangeTable(estate, state->range_table);
#endif
}

/* Adds an entry of a query to a plan's range table, with its permissions. */
static inline void
fa_plan_add_rte(PlannedStmt *plan, Query *query, RangeTblEntry *rte)
{
#if PG_VERSION_NUM >= 160000
	if (rte->perminfoindex != 0)
	{
		plan->permInfos = lappend(plan->permInfos,
								  copyObject(list_nth(query->rteperminfos,
													  rte->perminfoindex - 1)));
		rte->perminfoindex = list_length(plan->permInfos);
	}
#endif
	plan->rtable = lappend(plan->rtable, rte);
}

#endif							/* FA_CORE_FA_COMPAT_H */
