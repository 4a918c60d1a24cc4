/*
 * statistics.c
 *	  The planner's statistics of a fragment, which come with its pages.
 *
 * ANALYZE takes another sample than the source's did, and so may plans change
 * by a move; besides, it takes longer than the copy of a small fragment.
 *
 * What comes is not believed.  Values have to be of the very type of their
 * column, which has to be built in, and are read by its receive function;
 * operators and collations are not taken over but found here; numbers have to
 * be such that ANALYZE might have written them.  A column whose statistics are
 * of another kind (ranges, types' own) is left to ANALYZE.
 *
 * A leaf has no extended statistics: CREATE STATISTICS is not for partitions.
 */
#include "postgres.h"

#include <math.h>

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/visibilitymap.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_type.h"
#include "commands/vacuum.h"
#include "nodes/nodeFuncs.h"
#include "parser/parse_oper.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"

#include "catalog/table_ddl.h"
#include "core/background.h"
#include "core/fa_compat.h"
#include "core/spi.h"
#include "migrate/statistics.h"

#define ANSWER_MS	60000
#define MOST		100003		/* elements of an array: 10 * 10000 + 3 */

typedef struct StatRow
{
	int			relation;		/* from 1 */
	int			attnum;
	int			kind;
	ArrayType  *numbers;		/* NULL: none */
	char	   *values;			/* text of a bytea; NULL: none */
} StatRow;

/* What a column's statistics are about, here. */
typedef struct StatColumn
{
	Oid			type;
	Oid			collation;
	Oid			lt;
	Oid			eq;
} StatColumn;

static void
carry_invalid(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_PROTOCOL_VIOLATION),
			 errmsg("invalid statistics from a peer")));
}

/* One dimension of elements without nulls. */
static ArrayType *
carry_array(const char *text, Oid element)
{
	bytea	   *bytes = DatumGetByteaP(DirectFunctionCall1(byteain, CStringGetDatum(text)));
	StringInfoData buf;
	ArrayType  *array;

	initStringInfo(&buf);
	appendBinaryStringInfo(&buf, VARDATA(bytes), VARSIZE(bytes) - VARHDRSZ);
	array = DatumGetArrayTypeP(OidReceiveFunctionCall(F_ARRAY_RECV, &buf, element, -1));
	if (buf.cursor != buf.len || ARR_NDIM(array) != 1 || ARR_HASNULL(array) ||
		ARR_LBOUND(array)[0] != 1 || ARR_DIMS(array)[0] > MOST)
		carry_invalid();
	return array;
}

static int
carry_length(const ArrayType *array)
{
	return array ? ARR_DIMS(array)[0] : 0;
}

static const float4 *
carry_floats(const ArrayType *array)
{
	return (const float4 *) ARR_DATA_PTR(array);
}

static void
carry_parse(char **fields, StatRow *row)
{
	row->relation = fields[0] ? atoi(fields[0]) : 0;
	row->attnum = fields[1] ? atoi(fields[1]) : -1;
	row->kind = fields[2] ? atoi(fields[2]) : -1;
	row->numbers = fields[3] ? carry_array(fields[3], FLOAT4OID) : NULL;
	row->values = fields[4];
	for (int i = 0; i < carry_length(row->numbers); i++)
	{
		if (!isfinite(carry_floats(row->numbers)[i]))
			carry_invalid();
	}
}

/* Are all numbers within bounds? */
static bool
numbers_within(const StatRow *row, float4 low, float4 high)
{
	for (int i = 0; i < carry_length(row->numbers); i++)
	{
		if (carry_floats(row->numbers)[i] < low ||
			carry_floats(row->numbers)[i] > high)
			return false;
	}
	return true;
}

/*
 * Could ANALYZE have found this?  nvalues: how many there are.  Frequencies are
 * sums of float4, so they may be a little more than one.
 */
static bool
slot_is_plausible(const StatRow *row, int nvalues)
{
	int			n = carry_length(row->numbers);
	double		sum = 0;

	switch (row->kind)
	{
		case STATISTIC_KIND_MCV:
			for (int i = 0; i < n; i++)
				sum += carry_floats(row->numbers)[i];
			return nvalues > 0 && n == nvalues && numbers_within(row, 0, 1) && sum < 1.01;
		case STATISTIC_KIND_HISTOGRAM:
			return nvalues >= 2 && n == 0;
		case STATISTIC_KIND_CORRELATION:
			return nvalues == 0 && n == 1 && numbers_within(row, -1, 1);
		case STATISTIC_KIND_MCELEM:
			return nvalues > 0 && (n == nvalues + 2 || n == nvalues + 3) &&
				numbers_within(row, 0, 1.01);
		case STATISTIC_KIND_DECHIST:
			return nvalues == 0 && n >= 3 && numbers_within(row, 0, MaxAllocSize);
		default:
			return false;
	}
}

/* The type of a slot's values, its operator and collation; false: not here. */
static bool
slot_operator(const StatColumn *column, int kind, Oid *type_p, Oid *op_p,
			  Oid *collation_p)
{
	Oid			element = column->type == TSVECTOROID ? TEXTOID :
		get_element_type(column->type);

	*type_p = column->type;
	*collation_p = column->collation;
	*op_p = kind == STATISTIC_KIND_MCV ? column->eq : column->lt;
	if (kind == STATISTIC_KIND_MCELEM || kind == STATISTIC_KIND_DECHIST)
	{
		if (!OidIsValid(element))
			return false;
		*type_p = element;
		get_sort_group_operators(element, false, false, false, NULL, op_p, NULL, NULL);
		if (column->type == TSVECTOROID)
			*collation_p = DEFAULT_COLLATION_OID;
	}
	return OidIsValid(*op_p);
}

/* Fills in a slot; false when it cannot be. */
static bool
carry_slot(const StatColumn *column, const StatRow *row, int slot,
		   Datum *values, bool *nulls)
{
	ArrayType  *array = NULL;
	Oid			type;
	Oid			op;
	Oid			collation;

	if (slot >= FA_STATISTICS_SLOTS ||
		!slot_operator(column, row->kind, &type, &op, &collation))
		return false;
	for (int i = 0; i < slot; i++)
	{
		if (DatumGetInt16(values[Anum_pg_statistic_stakind1 - 1 + i]) == row->kind)
			carry_invalid();
	}
	if (row->values)
		array = carry_array(row->values, type);
	if (!slot_is_plausible(row, carry_length(array)))
		return false;
	values[Anum_pg_statistic_stakind1 - 1 + slot] = Int16GetDatum(row->kind);
	values[Anum_pg_statistic_staop1 - 1 + slot] = ObjectIdGetDatum(op);
	values[Anum_pg_statistic_stacoll1 - 1 + slot] = ObjectIdGetDatum(collation);
	values[Anum_pg_statistic_stanumbers1 - 1 + slot] = PointerGetDatum(row->numbers);
	nulls[Anum_pg_statistic_stanumbers1 - 1 + slot] = row->numbers == NULL;
	values[Anum_pg_statistic_stavalues1 - 1 + slot] = PointerGetDatum(array);
	nulls[Anum_pg_statistic_stavalues1 - 1 + slot] = array == NULL;
	return true;
}

/*
 * A constant of an index expression's type; NULL: the column is of the table.
 * The expression itself would be simplified, which may run the owner's code.
 */
static Node *
index_expression(Relation rel, int attnum)
{
	List	   *expressions = RelationGetDummyIndexExpressions(rel);
	int			n = 0;

	for (int i = 0; i < attnum; i++)
	{
		if (rel->rd_index->indkey.values[i] != 0)
			continue;
		if (i == attnum - 1)
			return n < list_length(expressions) ? list_nth(expressions, n) : NULL;
		n++;
	}
	return NULL;
}

/* False when ANALYZE has to look at it. */
static bool
carry_find_column(Relation rel, int attnum, StatColumn *column)
{
	if (attnum < 1 || attnum > RelationGetNumberOfAttributes(rel) ||
		TupleDescAttr(RelationGetDescr(rel), attnum - 1)->attisdropped)
		carry_invalid();
	if (rel->rd_rel->relkind == RELKIND_INDEX)
	{
		Node	   *expression = index_expression(rel, attnum);

		if (expression == NULL)
			carry_invalid();
		column->type = exprType(expression);
		column->collation = rel->rd_indcollation[attnum - 1];
		if (!OidIsValid(column->collation))
			column->collation = exprCollation(expression);
	}
	else
	{
		column->type = TupleDescAttr(RelationGetDescr(rel), attnum - 1)->atttypid;
		column->collation = TupleDescAttr(RelationGetDescr(rel), attnum - 1)->attcollation;
	}
	if (column->type >= FirstUnpinnedObjectId)
		return false;
	get_sort_group_operators(column->type, false, false, false,
							 &column->lt, &column->eq, NULL, NULL);
	return true;
}

/* The n rows of a column, as one row of pg_statistic; false: ANALYZE it. */
static bool
carry_column(Relation statistic, Relation rel, const StatRow *row, int n)
{
	StatColumn	column;
	Datum		values[Natts_pg_statistic] = {0};
	bool		nulls[Natts_pg_statistic] = {false};
	const float4 *basic;

	if (row->kind != 0 || carry_length(row->numbers) != 3)
		carry_invalid();
	if (!carry_find_column(rel, row->attnum, &column))
		return false;
	basic = carry_floats(row->numbers);
	if (basic[0] < 0 || basic[0] > 1 || basic[1] < 0 || basic[1] > MaxAllocSize)
		carry_invalid();
	values[Anum_pg_statistic_starelid - 1] = ObjectIdGetDatum(RelationGetRelid(rel));
	values[Anum_pg_statistic_staattnum - 1] = Int16GetDatum(row->attnum);
	values[Anum_pg_statistic_stainherit - 1] = BoolGetDatum(false);
	values[Anum_pg_statistic_stanullfrac - 1] = Float4GetDatum(basic[0]);
	values[Anum_pg_statistic_stawidth - 1] = Int32GetDatum((int32) basic[1]);
	values[Anum_pg_statistic_stadistinct - 1] = Float4GetDatum(basic[2]);
	for (int i = 0; i < FA_STATISTICS_SLOTS; i++)
	{
		nulls[Anum_pg_statistic_stanumbers1 - 1 + i] = true;
		nulls[Anum_pg_statistic_stavalues1 - 1 + i] = true;
	}
	for (int i = 1; i < n; i++)
	{
		if (!carry_slot(&column, &row[i], i - 1, values, nulls))
			return false;
	}
	CatalogTupleInsert(statistic, heap_form_tuple(RelationGetDescr(statistic),
												  values, nulls));
	return true;
}

static void
carry_relation(Relation rel, const StatRow *row)
{
	const float4 *basic;
	BlockNumber visible = 0;

	if (row->kind != 0 || carry_length(row->numbers) != FA_STATISTICS_RELATION)
		carry_invalid();
	basic = carry_floats(row->numbers);
	if (basic[FA_STATISTICS_TUPLES] < -1 || basic[FA_STATISTICS_LIVE] < 0 ||
		basic[FA_STATISTICS_DEAD] < 0 || basic[FA_STATISTICS_LIVE] > PG_INT64_MAX / 2 ||
		basic[FA_STATISTICS_DEAD] > PG_INT64_MAX / 2)
		carry_invalid();
	if (RELKIND_HAS_TABLE_AM(rel->rd_rel->relkind))
		visibilitymap_count(rel, &visible, NULL);
	fa_vac_update_relstats(rel, RelationGetNumberOfBlocks(rel),
						   basic[FA_STATISTICS_TUPLES], visible,
						   rel->rd_rel->relhasindex);
	/* or autovacuum would not know of dead rows that have come */
	if (rel->rd_rel->relkind == RELKIND_RELATION)
		fa_pgstat_report_analyze(rel, (int64) basic[FA_STATISTICS_LIVE],
								 (int64) basic[FA_STATISTICS_DEAD]);
}

/*
 * All that has come; in a transaction.  Returns whether ANALYZE of the columns
 * that it lists does the rest; without that, of the table.
 */
static bool
carry_all(FaMove *move, FaRows *rows, StringInfo columns)
{
	StatRow    *row = palloc(sizeof(StatRow) * Max(rows->nrows, 1));
	Relation	statistic = table_open(StatisticRelationId, RowExclusiveLock);
	bool		any = false;
	bool		all = true;

	for (int i = 0; i < rows->nrows; i++)
		carry_parse(rows->value[i], &row[i]);
	for (int i = 0, n; i < rows->nrows; i += n)
	{
		Relation	rel;

		for (n = 1; i + n < rows->nrows && row[i + n].kind != 0 &&
			 row[i + n].relation == row[i].relation &&
			 row[i + n].attnum == row[i].attnum; n++)
			;
		if (row[i].relation < 1 || row[i].relation > list_length(move->our_relations))
			carry_invalid();
		rel = relation_open(list_nth_oid(move->our_relations, row[i].relation - 1),
							AccessShareLock);
		if (row[i].attnum == 0)
			carry_relation(rel, &row[i]);
		else if (carry_column(statistic, rel, &row[i], n))
			any = true;
		else if (rel->rd_rel->relkind != RELKIND_RELATION)
			all = false;
		else
			appendStringInfo(columns, "%s%s", columns->len ? ", " : "",
							 quote_identifier(NameStr(TupleDescAttr(RelationGetDescr(rel),
																	row[i].attnum - 1)->attname)));
		relation_close(rel, AccessShareLock);
	}
	table_close(statistic, RowExclusiveLock);
	return any && all;
}

/* Columns of the heap that ANALYZE has to look at; NULL: all. */
static char *
carry(FaMove *move)
{
	FaRows	   *rows = fa_remote_rows(move->control, ANSWER_MS,
									  "SELECT " FA_STATISTICS_COLUMNS
									  " FROM fragaffinity.table_statistics('{%s}')",
									  fa_move_oid_array(move->source_relations));
	StringInfoData columns;
	bool		all;

	initStringInfo(&columns);
	/* for what is put out of line */
	PushActiveSnapshot(GetTransactionSnapshot());
	all = carry_all(move, rows, &columns);
	PopActiveSnapshot();
	return all ? columns.data : NULL;
}

void
fa_move_carry_statistics(FaMove *move)
{
	MemoryContext context = AllocSetContextCreate(move->context,
												  "fragaffinity statistics",
												  ALLOCSET_DEFAULT_SIZES);
	char	   *volatile columns = NULL;

	fa_cutover_begin();
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		columns = carry(move);
		fa_cutover_end();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			error->sqlerrcode == ERRCODE_CONNECTION_FAILURE)
			PG_RE_THROW();
		FlushErrorState();
		if (fa_cutover_undo())
			ReThrowError(error);
		ereport(LOG,
				(errmsg("statistics of fragment " INT64_FORMAT " are not taken over: %s",
						move->fragment.fragment, error->message)));
		columns = NULL;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	if (columns == NULL || columns[0] != '\0')
		fa_move_analyze(move, columns);
	MemoryContextSwitchTo(move->context);
	MemoryContextDelete(context);
}
