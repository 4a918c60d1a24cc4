/*
 * target.c
 *	  A relation that rows are written to without a plan.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "nodes/makefuncs.h"
#include "utils/rel.h"

#include "core/fa_compat.h"
#include "core/target.h"

ResultRelInfo *
fa_target_open(Oid rel, EState **estate_p)
{
	Relation	relation = table_open(rel, RowExclusiveLock);
	EState	   *estate = CreateExecutorState();
	RangeTblEntry *rte = makeNode(RangeTblEntry);
	ResultRelInfo *target = makeNode(ResultRelInfo);

	rte->rtekind = RTE_RELATION;
	rte->relid = rel;
	rte->relkind = relation->rd_rel->relkind;
	rte->rellockmode = RowExclusiveLock;
	fa_exec_init_range_table(estate, list_make1(rte));
	InitResultRelInfo(target, relation, 1, NULL, 0);
	estate->es_output_cid = GetCurrentCommandId(true);
	ExecOpenIndices(target, false);
	*estate_p = estate;
	return target;
}

void
fa_target_close(ResultRelInfo *target, EState *estate)
{
	Relation	relation = target->ri_RelationDesc;

	ExecCloseIndices(target);
	ExecResetTupleTable(estate->es_tupleTable, false);
	FreeExecutorState(estate);
	table_close(relation, NoLock);
}

void
fa_target_compute(ResultRelInfo *target, EState *estate, TupleTableSlot *slot)
{
	TupleConstr *constr = RelationGetDescr(target->ri_RelationDesc)->constr;

	if (constr && constr->has_generated_stored)
		ExecComputeStoredGenerated(target, estate, slot, CMD_INSERT);
}
