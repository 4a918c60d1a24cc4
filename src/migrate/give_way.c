/*
 * give_way.c
 *	  What a change of a table asks of every node about moves of its fragments.
 *
 * Such a change is made known first, by a lock that nobody waits for, and then moves
 * are looked for; whoever claims a fragment looks for that lock once he has his claim
 * (source.c).  So from the first answer on no more moves of the table begin, until the
 * transaction ends.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"

#include "catalog/map.h"
#include "core/fa_compat.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "migrate/move.h"

typedef struct Change
{
	int			table_id;
	int64	   *fragment;		/* that it is about; NULL: all */
	int			n;
} Change;

static bool
change_concerns(int64 fragment, const void *arg)
{
	const Change *change = arg;
	const FaFragment *f = fa_map_fragment(fragment);

	if (f == NULL || f->table_id != change->table_id)
		return false;
	for (int i = 0; i < change->n; i++)
		if (change->fragment[i] == fragment)
			return true;
	return change->fragment == NULL;
}

/* numbers: NULL for all */
static void
change_read(Change *change, ArrayType *numbers)
{
	Datum	   *datums;

	if (numbers == NULL)
		return;
	deconstruct_array(numbers, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &datums,
					  NULL, &change->n);
	change->fragment = palloc(sizeof(int64) * (change->n + 1));
	for (int i = 0; i < change->n; i++)
		change->fragment[i] = DatumGetInt64(datums[i]);
}

/* One of them in a result of fragments, or 0. */
static int64
change_first(const Change *change, const FaRows *rows)
{
	for (int i = 0; i < rows->nrows; i++)
	{
		int64		fragment = strtoi64(rows->value[i][0], NULL, 10);

		if (change_concerns(fragment, change))
			return fragment;
	}
	return 0;
}

PG_FUNCTION_INFO_V1(fa_sql_give_way);

/*
 * give_way(table_id, fragments, claims): announces a change of the table, that is about
 * these fragments (null: all), until the transaction ends.  Moves of them give way if
 * they can; returns one of which a move is still under way here, or null.  claims: or
 * which is claimed by whatever.
 */
Datum
fa_sql_give_way(PG_FUNCTION_ARGS)
{
	Change		change = {0};
	int64		moving;

	fa_shmem_require();
	if (PG_ARGISNULL(0) || PG_ARGISNULL(2))
		PG_RETURN_NULL();
	change.table_id = PG_GETARG_INT32(0);
	change_read(&change, PG_ARGISNULL(1) ? NULL : PG_GETARG_ARRAYTYPE_P(1));
	(void) fa_spi_rows("SELECT pg_catalog.pg_advisory_xact_lock_shared(" FA_TABLE_CLAIM ")",
					   change.table_id);
	moving = fa_mover_give_way(change_concerns, &change);
	if (moving == 0)
		moving = change_first(&change,
							  fa_spi_rows("SELECT fragment FROM fragaffinity.move "
										  "WHERE state NOT IN ('done', 'failed', 'cancelled')"));
	if (moving == 0 && PG_GETARG_BOOL(2))
		moving = change_first(&change,
							  fa_spi_rows("SELECT c.objid::pg_catalog.int8 " FA_CLAIMS("fragment")));
	if (moving == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64(moving);
}
