/*
 * take_row.c
 *	  Taking a row that goes to another node, at its owner.
 *
 * An UPDATE of the key that takes a row to another partition is a DELETE and an
 * INSERT.  Who waits for the row must not take it for deleted: PostgreSQL marks
 * it as moved, and ends his statement with 40001.  A peer's DELETE cannot say
 * that.  So it names its table by an alias that means it, and is then executed
 * here: by PostgreSQL's plan for it, with the other kind of deletion.  Anybody
 * may use the alias, on rows that he may delete; all it does is that error.
 *
 * The peer has locked the row before.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "commands/defrem.h"
#include "executor/executor.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "parser/parsetree.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "node/fdw_leave.h"

#define TAKEN_ALIAS "fragaffinity_row_leaves"

char *
fa_take_row_sql(Oid foreign_table, ItemPointer ctid)
{
	char	   *schema = NULL;
	char	   *name = NULL;
	ListCell   *lc;

	foreach(lc, GetForeignTable(foreign_table)->options)
	{
		DefElem    *def = lfirst(lc);

		if (strcmp(def->defname, "schema_name") == 0)
			schema = defGetString(def);
		else if (strcmp(def->defname, "table_name") == 0)
			name = defGetString(def);
	}
	if (schema == NULL || name == NULL)
		elog(ERROR, "foreign table %u does not name its table", foreign_table);
	return psprintf("DELETE FROM %s " TAKEN_ALIAS " WHERE ctid = '(%u,%u)'",
					quote_qualified_identifier(schema, name),
					ItemPointerGetBlockNumber(ctid),
					ItemPointerGetOffsetNumber(ctid));
}

static bool
take_row(ResultRelInfo *rri, EState *estate, ItemPointer tid)
{
	TM_FailureData failure;
	TM_Result	result;

	result = table_tuple_delete(rri->ri_RelationDesc, tid,
								estate->es_output_cid, estate->es_snapshot,
								estate->es_crosscheck_snapshot, true, &failure,
								true);
	if (result == TM_Ok)
		return true;
	if (result == TM_SelfModified)
		return false;
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to concurrent update")));
	return false;
}

/* In the place of ModifyTable's own. */
static TupleTableSlot *
take_exec(PlanState *state)
{
	ModifyTableState *modify = castNode(ModifyTableState, state);
	ResultRelInfo *rri = modify->resultRelInfo;

	for (;;)
	{
		TupleTableSlot *slot = ExecProcNode(outerPlanState(state));
		bool		isnull;
		Datum		tid;

		CHECK_FOR_INTERRUPTS();
		if (TupIsNull(slot))
			return NULL;
		tid = ExecGetJunkAttribute(slot, rri->ri_RowIdAttNo, &isnull);
		if (isnull)
			elog(ERROR, "ctid is NULL");
		if (take_row(rri, state->state, (ItemPointer) DatumGetPointer(tid)))
			state->state->es_processed++;
	}
}

static bool
take_is_asked(QueryDesc *desc)
{
	ModifyTableState *modify = (ModifyTableState *) desc->planstate;
	ResultRelInfo *rri;
	RangeTblEntry *rte;

	if (desc->operation != CMD_DELETE || !IsA(modify, ModifyTableState) ||
		modify->mt_nrels != 1 || modify->operation != CMD_DELETE)
		return false;
	rri = modify->resultRelInfo;
	rte = rt_fetch(rri->ri_RangeTableIndex, desc->plannedstmt->rtable);
	return rte->alias && strcmp(rte->alias->aliasname, TAKEN_ALIAS) == 0 &&
		rri->ri_RelationDesc->rd_rel->relkind == RELKIND_RELATION &&
		rri->ri_TrigDesc == NULL && rri->ri_projectReturning == NULL;
}

void
fa_take_row_started(QueryDesc *desc)
{
	if (take_is_asked(desc))
		ExecSetExecProcNode(desc->planstate, take_exec);
}
