/*
 * fdw_leave.c
 *	  Rows that an UPDATE of the key takes to another node.
 *
 * PostgreSQL moves a row between partitions by a DELETE and an INSERT, but not
 * from a foreign one, nor into a foreign one that the same statement changes:
 * a scan of it that has not begun yet would find the row again.  So
 *
 *	- a changed row that belongs to its foreign leaf no more is deleted there,
 *	  marked as moved (take_row.c), instead of being updated;
 *	- rows for other nodes, whether they come from one or from here, are
 *	  collected until the statement has read everything, and then inserted by one
 *	  INSERT ... SELECT into the table that the statement names.
 *
 * All of it is part of the transaction, and of its two-phase commit.  Unlike
 * one that stays, a row that is inserted meets unique keys as they are when all
 * rows have left.  Its user needs the rights to delete and insert, as
 * postgres_fdw does both as him.
 */
#include "postgres.h"

#include "catalog/pg_attribute.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "executor/spi.h"
#include "foreign/fdwapi.h"
#include "lib/ilist.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/queryenvironment.h"
#include "utils/rel.h"
#include "utils/tuplestore.h"

#include "core/fa_compat.h"
#include "node/cluster_xact.h"
#include "node/fdw.h"
#include "node/fdw_leave.h"
#include "node/role_session.h"

#define ROWS "fragaffinity_rows"

/* An UPDATE whose rows may leave; in the memory of its execution. */
typedef struct Leaving
{
	dlist_node	node;
	EState	   *estate;
	ResultRelInfo *root;		/* of the table that the statement names */
	Oid			user;
	AttrNumber	ctid;			/* in the rows of its subplan */
	Tuplestorestate *rows;		/* as rows of root */
	TupleTableSlot *row;
	int64		nrows;
	MemoryContextCallback forget;
} Leaving;

static dlist_head leaving = DLIST_STATIC_INIT(leaving);

bool
fa_fdw_rows_may_leave(ModifyTable *plan)
{
	return plan->operation == CMD_UPDATE && plan->partColsUpdated;
}

static Leaving *
leaving_find(ResultRelInfo *root)
{
	dlist_iter	iter;

	dlist_foreach(iter, &leaving)
	{
		Leaving    *update = dlist_container(Leaving, node, iter.cur);

		if (update->root == root)
			return update;
	}
	return NULL;
}

static void
leaving_forget(void *arg)
{
	dlist_delete(&((Leaving *) arg)->node);
}

void
fa_fdw_leave_begin(ModifyTableState *mtstate)
{
	EState	   *estate = mtstate->ps.state;
	ResultRelInfo *root = mtstate->rootResultRelInfo;
	MemoryContext caller;
	Leaving    *update;
	Oid			check_as;

	if (leaving_find(root))
		return;
	caller = MemoryContextSwitchTo(estate->es_query_cxt);
	check_as = fa_result_rel_check_as(root, estate);
	update = palloc0(sizeof(Leaving));
	update->estate = estate;
	update->root = root;
	update->user = OidIsValid(check_as) ? check_as : GetUserId();
	update->ctid = ExecFindJunkAttributeInTlist(outerPlanState(mtstate)->plan->targetlist,
												"ctid");
	update->forget.func = leaving_forget;
	update->forget.arg = update;
	dlist_push_tail(&leaving, &update->node);
	MemoryContextRegisterResetCallback(estate->es_query_cxt, &update->forget);
	MemoryContextSwitchTo(caller);
}

bool
fa_fdw_leave_has(ResultRelInfo *rri)
{
	return !dlist_is_empty(&leaving) &&
		leaving_find(rri->ri_RootResultRelInfo) != NULL;
}

/* Keeps a leaf's row until it can be inserted. */
static void
leaving_collect(Leaving *update, ResultRelInfo *rri, TupleTableSlot *slot)
{
	TupleConversionMap *map = ExecGetChildToRootMap(rri);
	MemoryContext caller;

	if (update->rows == NULL)
	{
		caller = MemoryContextSwitchTo(update->estate->es_query_cxt);
		update->rows = tuplestore_begin_heap(false, false, work_mem);
		update->row = ExecInitExtraTupleSlot(update->estate,
											 RelationGetDescr(update->root->ri_RelationDesc),
											 &TTSOpsVirtual);
		MemoryContextSwitchTo(caller);
	}
	if (map)
		slot = execute_attr_map_slot(map->attrMap, slot, update->row);
	tuplestore_puttupleslot(update->rows, slot);
	update->nrows++;
}

/* Deletes a row at its owner, over postgres_fdw's session. */
static bool
leaving_take(Leaving *update, ResultRelInfo *rri, TupleTableSlot *plan_slot)
{
	Oid			relid = RelationGetRelid(rri->ri_RelationDesc);
	bool		isnull;
	Datum		ctid = ExecGetJunkAttribute(plan_slot, update->ctid, &isnull);
	int			node = fa_fdw_node(relid);
	Oid			session;
	uint64		n;

	if (isnull || node == 0)
		elog(ERROR, "foreign table \"%s\" leads to no node's row",
			 RelationGetRelationName(rri->ri_RelationDesc));
	/* fa_fdw_before_change() has come first */
	session = fa_role_session(GetForeignServerIdByRelId(relid), update->user);
	n = fa_fdw_exec(node, session,
					fa_take_row_sql(relid, (ItemPointer) DatumGetPointer(ctid)));
	fa_xact_note_use(relid, session, FA_USE_WRITE);
	return n > 0;
}

bool
fa_fdw_leave_update(EState *estate, ResultRelInfo *rri, TupleTableSlot *slot,
					TupleTableSlot *plan_slot, bool *taken_p)
{
	Leaving    *update = dlist_is_empty(&leaving) ? NULL :
		leaving_find(rri->ri_RootResultRelInfo);

	if (update == NULL || ExecPartitionCheck(rri, slot, estate, false))
		return false;
	*taken_p = leaving_take(update, rri, plan_slot);
	if (*taken_p)
		leaving_collect(update, rri, slot);
	return true;
}

void
fa_fdw_leave_insert(ResultRelInfo *rri, TupleTableSlot *slot)
{
	leaving_collect(leaving_find(rri->ri_RootResultRelInfo), rri, slot);
}

static char *
leaving_sql(Relation root)
{
	TupleDesc	desc = RelationGetDescr(root);
	StringInfoData columns;

	initStringInfo(&columns);
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && att->attgenerated == '\0')
			appendStringInfo(&columns, "%s%s", columns.len ? ", " : "",
							 quote_identifier(NameStr(att->attname)));
	}
	return psprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE SELECT %s FROM " ROWS,
					quote_qualified_identifier(get_namespace_name(RelationGetNamespace(root)),
											   RelationGetRelationName(root)),
					columns.data, columns.data);
}

/* Inserts the rows of an UPDATE that has read all that it reads. */
static void
leaving_insert(Leaving *update)
{
	Relation	root = update->root->ri_RelationDesc;
	EphemeralNamedRelation rows;
	Oid			caller;
	int			sec_context;

	GetUserIdAndSecContext(&caller, &sec_context);
	if (update->user != caller)
		SetUserIdAndSecContext(update->user,
							   sec_context | SECURITY_LOCAL_USERID_CHANGE);
	SPI_connect();
	rows = palloc0(sizeof(EphemeralNamedRelationData));
	rows->md.name = pstrdup(ROWS);
	rows->md.reliddesc = RelationGetRelid(root);
	rows->md.enrtype = ENR_NAMED_TUPLESTORE;
	rows->md.enrtuples = update->nrows;
	rows->reldata = update->rows;
	if (SPI_register_relation(rows) != SPI_OK_REL_REGISTER ||
		SPI_execute(leaving_sql(root), false, 0) != SPI_OK_INSERT)
		elog(ERROR, "could not insert rows of \"%s\" that have left their fragments",
			 RelationGetRelationName(root));
	if (SPI_processed != update->nrows)
		elog(ERROR, "rows of \"%s\" were lost on their way",
			 RelationGetRelationName(root));
	SPI_finish();
	SetUserIdAndSecContext(caller, sec_context);
	/* it may have a file, which the end of the memory would not close */
	tuplestore_end(update->rows);
	update->rows = NULL;
	update->nrows = 0;
}

void
fa_fdw_leave_finish(QueryDesc *desc)
{
	dlist_mutable_iter iter;

	dlist_foreach_modify(iter, &leaving)
	{
		Leaving    *update = dlist_container(Leaving, node, iter.cur);

		if (update->estate == desc->estate && update->nrows > 0)
			leaving_insert(update);
	}
}
