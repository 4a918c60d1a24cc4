/*
 * copy_route.c
 *	  From the lines of a COPY to the fragments that they belong to.
 *
 * PostgreSQL's tuple routing finds the leaf, locks all on the way, and tells a
 * foreign one to begin, but for a row of which only the key is known.  The
 * locks keep what was found valid, so it is remembered by the remainder of the
 * key's hash, unless the bucket is split.
 */
#include "postgres.h"

#include "commands/copyfrom_internal.h"
#include "executor/execPartition.h"
#include "executor/executor.h"
#include "partitioning/partbounds.h"
#include "utils/hsearch.h"
#include "utils/rel.h"

#include "catalog/map.h"
#include "core/fa_compat.h"
#include "route/copy_writers.h"

void
fa_copy_route_begin(FaCopyRoute *route, CopyFromState state,
					const FaHashStep *step)
{
	TupleDesc	desc = RelationGetDescr(state->rel);
	HASHCTL		ctl;

	memset(route, 0, sizeof(*route));
	route->state = state;
	route->step = *step;
	route->key = step->attno;
	route->nfields = list_length(state->attnumlist);
	while (list_nth_int(state->attnumlist, route->key_field) != route->key)
		route->key_field++;
	route->by_remainder = palloc0(sizeof(FaCopyTarget *) * step->modulus);
	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(FaCopyTarget);
	ctl.hcxt = CurrentMemoryContext;
	route->targets = hash_create("fragaffinity COPY targets", 64, &ctl,
								 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);

	route->estate = CreateExecutorState();
	fa_exec_init_copy_range_table(route->estate, state);
	route->root = makeNode(ResultRelInfo);
	ExecInitResultRelation(route->estate, route->root, 1);
	route->mtstate = makeNode(ModifyTableState);
	route->mtstate->ps.state = route->estate;
	route->mtstate->operation = CMD_INSERT;
	route->mtstate->mt_nrels = 1;
	route->mtstate->resultRelInfo = route->root;
	route->mtstate->rootResultRelInfo = route->root;
	route->proute = ExecSetupPartitionTupleRouting(route->estate, state->rel);
	route->slot = MakeSingleTupleTableSlot(desc, &TTSOpsVirtual);
	memset(route->slot->tts_isnull, true, desc->natts);
	ExecStoreVirtualTuple(route->slot);
}

static void
route_check_fields(FaCopyRoute *route, int nfields)
{
	if (nfields > route->nfields)
		ereport(ERROR,
				(errcode(ERRCODE_BAD_COPY_FILE_FORMAT),
				 errmsg("extra data after last expected column")));
	if (nfields < route->nfields)
	{
		AttrNumber	attno = list_nth_int(route->state->attnumlist, nfields);

		ereport(ERROR,
				(errcode(ERRCODE_BAD_COPY_FILE_FORMAT),
				 errmsg("missing data for column \"%s\"",
						NameStr(TupleDescAttr(RelationGetDescr(route->state->rel),
											  attno - 1)->attname))));
	}
}

/* Has PostgreSQL find the leaf of the row in the slot. */
static FaCopyTarget *
route_find(FaCopyRoute *route, int remainder)
{
	ResultRelInfo *rri = ExecFindPartition(route->mtstate, route->root,
										   route->proute, route->slot,
										   route->estate);
	Oid			leaf = RelationGetRelid(rri->ri_RelationDesc);
	const FaFragment *fragment;
	FaCopyTarget *target;
	bool		found;

	target = hash_search(route->targets, &leaf, HASH_ENTER, &found);
	if (!found)
	{
		target->rri = rri;
		target->foreign = rri->ri_FdwRoutine != NULL;
		target->writer = -1;
		target->number = 0;
		target->rows = 0;
	}
	fragment = remainder >= 0 ? fa_map_leaf(leaf) : NULL;
	if (fragment && fragment->home == fragment->bucket)
		route->by_remainder[remainder] = target;
	return target;
}

FaCopyTarget *
fa_copy_route_line(FaCopyRoute *route, char **fields, int nfields)
{
	CopyFromState state = route->state;
	int			i = route->key - 1;
	Form_pg_attribute att = TupleDescAttr(RelationGetDescr(state->rel), i);
	FaCopyTarget *target = NULL;
	MemoryContext caller;
	int			remainder = -1;

	if (nfields != route->nfields)
		route_check_fields(route, nfields);
	ResetPerTupleExprContext(route->estate);
	caller = MemoryContextSwitchTo(GetPerTupleMemoryContext(route->estate));
	state->cur_attname = NameStr(att->attname);
	state->cur_attval = fields[route->key_field];
	route->slot->tts_values[i] = InputFunctionCall(&state->in_functions[i],
												   fields[route->key_field],
												   state->typioparams[i],
												   att->atttypmod);
	route->slot->tts_isnull[i] = fields[route->key_field] == NULL;
	state->cur_attname = NULL;
	state->cur_attval = NULL;
	if (!route->slot->tts_isnull[i])
	{
		remainder = compute_partition_hash_value(1, &route->step.function,
												 &route->step.collation,
												 &route->slot->tts_values[i],
												 &route->slot->tts_isnull[i]) %
			route->step.modulus;
		target = route->by_remainder[remainder];
	}
	MemoryContextSwitchTo(caller);
	return target ? target : route_find(route, remainder);
}

void
fa_copy_route_end(FaCopyRoute *route)
{
	ExecDropSingleTupleTableSlot(route->slot);
	ExecCleanupTupleRouting(route->mtstate, route->proute);
	/* slots of leaves with other columns than the table */
	ExecResetTupleTable(route->estate->es_tupleTable, false);
	ExecCloseResultRelations(route->estate);
	ExecCloseRangeTableRelations(route->estate);
	FreeExecutorState(route->estate);
}
