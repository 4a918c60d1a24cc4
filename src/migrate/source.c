/*
 * source.c
 *	  What a mover asks of the fragment's owner.
 *
 * A claim is a session's advisory lock, so it ends with the mover's
 * connection however that ends, and two moves of a fragment exclude each
 * other at its one owner.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/map.h"
#include "catalog/table_ddl.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "migrate/move.h"
#include "node/node.h"

PG_FUNCTION_INFO_V1(fa_sql_claim_fragment);
PG_FUNCTION_INFO_V1(fa_sql_check_fragment);
PG_FUNCTION_INFO_V1(fa_sql_publish_fragment);
PG_FUNCTION_INFO_V1(fa_sql_release_fragment);
PG_FUNCTION_INFO_V1(fa_sql_gate_fragment);

static FaFragment *
source_fragment(int64 fragment, int64 version)
{
	FaFragment *f;

	fa_shmem_require();
	(void) fa_node_require_cluster();
	f = fa_map_fragment(fragment);
	if (f == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("fragment " INT64_FORMAT " does not exist", fragment)));
	if (!f->local || f->version != version)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("fragment " INT64_FORMAT " is no longer on node \"%s\"",
						fragment, fa_node_find(fa_node_self())->name),
				 errhint("Try again when this node has heard of its last move.")));
	return f;
}

static void
source_claimed(int64 fragment)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("fragment " INT64_FORMAT " is already moving", fragment),
			 errhint("Wait for its move, or end it with fragaffinity.cancel_move().")));
}

/*
 * What changes the table comes first.  It looks for claims once it has its own, and
 * who claims a fragment looks for that afterwards: one of the two sees the other.
 */
static void
source_refuse_changing(const FaFragment *f)
{
	if (fa_spi_value("SELECT 1 " FA_CLAIMS("distributed_table") " AND c.objid = %d LIMIT 1",
					 f->table_id))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("the definition of table \"%s\" is being changed",
						get_rel_name(fa_map_table_by_id(f->table_id)->rel)),
				 errhint("Move its fragments when that transaction has ended.")));
}

/* check_fragment(fragment, version): raises unless it could be claimed */
Datum
fa_sql_check_fragment(PG_FUNCTION_ARGS)
{
	int64		fragment = PG_GETARG_INT64(0);

	source_refuse_changing(source_fragment(fragment, PG_GETARG_INT64(1)));
	if (fa_spi_value("SELECT 1 " FA_CLAIMS("fragment") " AND c.objid = %d",
					 (int) fragment))
		source_claimed(fragment);
	PG_RETURN_VOID();
}

/*
 * publish_fragment(fragment, move): publishes the claimed fragment's leaf for
 * the mover's slot; returns the publication's name.  The record goes with it:
 * should the mover die, the worker finds a record whose claim nobody holds.
 */
Datum
fa_sql_publish_fragment(PG_FUNCTION_ARGS)
{
	int64		fragment = PG_GETARG_INT64(0);
	int64		move = PG_GETARG_INT64(1);
	char	   *name = psprintf("fragaffinity_" INT64_FORMAT, move);
	FaFragment *f;

	fa_shmem_require();
	f = fa_map_fragment(fragment);
	if (f == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("fragment " INT64_FORMAT " does not exist", fragment)));
	(void) fa_spi_exec("INSERT INTO fragaffinity.cleanup (move, relation, kind, fragment) "
					   "VALUES (" INT64_FORMAT ", %s, 'publication', " INT64_FORMAT ")",
					   move, quote_literal_cstr(name), f->fragment);
	(void) fa_spi_exec("CREATE PUBLICATION %s FOR TABLE %s", name,
					   fa_table_qualified_name(f->leaf));
	PG_RETURN_TEXT_P(cstring_to_text(name));
}

/* release_fragment(fragment, move): the claim and what came with it end */
Datum
fa_sql_release_fragment(PG_FUNCTION_ARGS)
{
	int64		move = PG_GETARG_INT64(1);

	fa_shmem_require();
	if (fa_spi_exec("DELETE FROM fragaffinity.cleanup WHERE move = " INT64_FORMAT
					" AND kind = 'publication'", move) > 0)
		(void) fa_spi_exec("DROP PUBLICATION IF EXISTS fragaffinity_" INT64_FORMAT,
						   move);
	(void) fa_spi_value("SELECT pg_catalog.pg_advisory_unlock(" FA_FRAGMENT_CLAIM ")",
						(int) PG_GETARG_INT64(0));
	PG_RETURN_VOID();
}

/* claim_fragment(fragment, version, OUT leaf_name, OUT bucket_name, OUT bytes) */
Datum
fa_sql_claim_fragment(PG_FUNCTION_ARGS)
{
	int64		fragment = PG_GETARG_INT64(0);
	FaFragment *f;
	TupleDesc	desc;
	Datum		values[3];
	bool		nulls[3] = {false};
	char	   *granted;

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	(void) source_fragment(fragment, PG_GETARG_INT64(1));
	granted = fa_spi_value("SELECT pg_catalog.pg_try_advisory_lock(" FA_FRAGMENT_CLAIM ")",
						   (int) fragment);
	if (granted == NULL || granted[0] != 't')
		source_claimed(fragment);
	/* again, as a move may have ended in between */
	f = source_fragment(fragment, PG_GETARG_INT64(1));
	source_refuse_changing(f);
	values[0] = CStringGetTextDatum(fa_table_qualified_name(f->leaf));
	values[1] = CStringGetTextDatum(fa_table_qualified_name(f->bucket));
	values[2] = Int64GetDatum(strtoll(fa_spi_value("SELECT pg_catalog.pg_table_size(%u)",
												   f->leaf), NULL, 10));
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}

static void
gate_open_at_exit(int code, Datum slot)
{
	fa_gate_open(DatumGetInt32(slot));
}

/*
 * gate_fragment(fragment, closed): a gate that was closed opens at the latest
 * when this session ends.
 */
Datum
fa_sql_gate_fragment(PG_FUNCTION_ARGS)
{
	static int	registered = -1;
	int			slot;

	fa_shmem_require();
	slot = fa_slot_find(PG_GETARG_INT64(0));
	if (slot < 0)
		PG_RETURN_VOID();
	if (PG_GETARG_BOOL(1))
	{
		if (registered != slot)
			before_shmem_exit(gate_open_at_exit, Int32GetDatum(slot));
		registered = slot;
		fa_gate_close(slot);
	}
	else
		fa_gate_open(slot);
	PG_RETURN_VOID();
}
