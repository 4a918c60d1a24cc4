/*
 * fdw_exec.c
 *	  A statement without a result over postgres_fdw's session; see fdw.h.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "foreign/fdwapi.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/value.h"
#include "utils/rel.h"

#include "core/fa_compat.h"
#include "core/settings.h"
#include "node/fdw.h"

/* A plan of one direct modification that is nothing but the statement. */
static ForeignScanState *
fdw_make_state(EState *estate, Relation rel, const char *sql)
{
	ForeignScan *scan = makeNode(ForeignScan);
	ForeignScanState *node = makeNode(ForeignScanState);
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(rel);
	rte->relkind = RELKIND_FOREIGN_TABLE;
	rte->rellockmode = AccessShareLock;
	fa_exec_init_range_table(estate, list_make1(rte));

	scan->scan.scanrelid = 1;
	scan->operation = CMD_UPDATE;
	scan->resultRelation = 1;
	/* statement, has RETURNING, attributes retrieved, counts as processed */
	scan->fdw_private = list_make4(makeString(pstrdup(sql ? sql : "")),
								   makeBoolean(false), NIL,
								   makeBoolean(true));

	node->ss.ps.plan = (Plan *) scan;
	node->ss.ps.state = estate;
	node->ss.ss_currentRelation = rel;
	node->ss.ss_ScanTupleSlot =
		ExecInitExtraTupleSlot(estate, RelationGetDescr(rel), &TTSOpsVirtual);
	node->resultRelInfo = makeNode(ResultRelInfo);
	InitResultRelInfo(node->resultRelInfo, rel, 1, NULL, 0);
	return node;
}

static uint64
fdw_exec(int node, const char *sql)
{
	const FdwRoutine *base = fa_fdw_base();
	EState	   *estate = CreateExecutorState();
	MemoryContext old = MemoryContextSwitchTo(estate->es_query_cxt);
	Relation	rel = table_open(fa_catalog_relid(fa_fdw_session_table(node)),
								 AccessShareLock);
	ForeignScanState *state = fdw_make_state(estate, rel, sql);
	uint64		n;

	base->BeginDirectModify(state, 0);
	if (sql)
		(void) base->IterateDirectModify(state);
	base->EndDirectModify(state);
	ExecResetTupleTable(estate->es_tupleTable, false);
	table_close(rel, AccessShareLock);
	n = estate->es_processed;
	MemoryContextSwitchTo(old);
	FreeExecutorState(estate);
	return n;
}

uint64
fa_fdw_exec(int node, Oid user, const char *sql)
{
	Oid			caller;
	int			sec_context;
	uint64		n;

	GetUserIdAndSecContext(&caller, &sec_context);
	SetUserIdAndSecContext(user, sec_context | SECURITY_LOCAL_USERID_CHANGE);
	n = fdw_exec(node, sql);
	SetUserIdAndSecContext(caller, sec_context);
	return n;
}
