/*
 * statistics_read.c
 *	  The source's side of statistics.c: rows of pg_statistic for the wire.
 *
 * Values travel in the binary format of their types, as text would depend on
 * settings of both sessions.  Those of a type that has none stay here.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "core/fa_compat.h"
#include "migrate/statistics.h"

PG_FUNCTION_INFO_V1(fa_sql_table_statistics);

enum
{
	COLUMN_RELATION,
	COLUMN_ATTNUM,
	COLUMN_KIND,
	COLUMN_NUMBERS,
	COLUMN_VALUES,
	NCOLUMNS
};

/* numbers and values are arrays; 0: none */
static void
put_row(ReturnSetInfo *rsinfo, int relation, int attnum, int kind,
		Datum numbers, Datum array)
{
	Datum		values[NCOLUMNS];
	bool		nulls[NCOLUMNS] = {false};

	values[COLUMN_RELATION] = Int32GetDatum(relation);
	values[COLUMN_ATTNUM] = Int32GetDatum(attnum);
	values[COLUMN_KIND] = Int32GetDatum(kind);
	nulls[COLUMN_NUMBERS] = numbers == 0;
	if (numbers != 0)
		values[COLUMN_NUMBERS] = PointerGetDatum(OidSendFunctionCall(F_ARRAY_SEND, numbers));
	nulls[COLUMN_VALUES] = array == 0;
	if (array != 0)
		values[COLUMN_VALUES] = PointerGetDatum(OidSendFunctionCall(F_ARRAY_SEND, array));
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
}

static Datum
float_array(const float4 *numbers, int n)
{
	Datum		datums[FA_STATISTICS_RELATION];

	for (int i = 0; i < n; i++)
		datums[i] = Float4GetDatum(numbers[i]);
	return PointerGetDatum(construct_array(datums, n, FLOAT4OID, sizeof(float4),
										   true, TYPALIGN_INT));
}

/* The array, if all its elements can be sent. */
static Datum
sendable(Datum array)
{
	Oid			element = ARR_ELEMTYPE(DatumGetArrayTypeP(array));
	int16		len;
	bool		byval;
	char		align;
	char		delim;
	Oid			ioparam;
	Oid			send;

	get_type_io_data(element, IOFunc_send, &len, &byval, &align, &delim,
					 &ioparam, &send);
	return OidIsValid(send) ? array : (Datum) 0;
}

static void
put_column(ReturnSetInfo *rsinfo, int relation, int attnum, HeapTuple tuple)
{
	Form_pg_statistic form = (Form_pg_statistic) GETSTRUCT(tuple);
	float4		basic[] = {form->stanullfrac, form->stawidth, form->stadistinct};

	put_row(rsinfo, relation, attnum, 0, float_array(basic, lengthof(basic)), 0);
	for (int i = 0; i < FA_STATISTICS_SLOTS; i++)
	{
		int			kind = (&form->stakind1)[i];
		Datum		numbers;
		Datum		values;
		bool		no_numbers;
		bool		no_values;

		if (kind == 0)
			continue;
		numbers = SysCacheGetAttr(STATRELATTINH, tuple,
								  Anum_pg_statistic_stanumbers1 + i, &no_numbers);
		values = SysCacheGetAttr(STATRELATTINH, tuple,
								 Anum_pg_statistic_stavalues1 + i, &no_values);
		put_row(rsinfo, relation, attnum, kind, no_numbers ? 0 : numbers,
				no_values ? 0 : sendable(values));
	}
}

static void
put_relation(ReturnSetInfo *rsinfo, int relation, Oid oid)
{
	Relation	rel = relation_open(oid, AccessShareLock);
	float4		basic[FA_STATISTICS_RELATION] = {
		[FA_STATISTICS_TUPLES] = rel->rd_rel->reltuples,
		[FA_STATISTICS_LIVE] =
		DatumGetInt64(DirectFunctionCall1(pg_stat_get_live_tuples, ObjectIdGetDatum(oid))),
		[FA_STATISTICS_DEAD] =
		DatumGetInt64(DirectFunctionCall1(pg_stat_get_dead_tuples, ObjectIdGetDatum(oid)))
	};

	put_row(rsinfo, relation, 0, 0, float_array(basic, lengthof(basic)), 0);
	for (int attnum = 1; attnum <= RelationGetNumberOfAttributes(rel); attnum++)
	{
		HeapTuple	tuple = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(oid),
											Int16GetDatum(attnum),
											BoolGetDatum(false));

		if (!HeapTupleIsValid(tuple))
			continue;
		put_column(rsinfo, relation, attnum, tuple);
		ReleaseSysCache(tuple);
	}
	relation_close(rel, AccessShareLock);
}

/* table_statistics(relations): rows as statistics.h has them; for a mover */
Datum
fa_sql_table_statistics(PG_FUNCTION_ARGS)
{
	Datum	   *oids;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), OIDOID, sizeof(Oid), true,
					  TYPALIGN_INT, &oids, NULL, &n);
	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		put_relation((ReturnSetInfo *) fcinfo->resultinfo, i + 1,
					 DatumGetObjectId(oids[i]));
	}
	return (Datum) 0;
}
