/*
 * split.c
 *	  split_fragment and merge_fragments.
 *
 * Both are one cluster transaction of the fragments' owner, whose commit
 * comes first, so that no node is led to a bucket that is not there yet:
 *
 *	1. lock the cluster's metadata; claim the fragments, as a move does
 *	2. plan which fragments the bucket is to have
 *	3. copy what changes its fragment, while clients go on (precopy.c)
 *	4. lock the bucket on all nodes (reshape_lock.c)
 *	5. reshape it here, with the rows, and on all other nodes (reshape.c)
 *
 * Called on another node, they pass the call on to the owner.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/wait_event.h"

#include "catalog/reshape.h"
#include "catalog/table_ddl.h"
#include "catalog/table_move.h"
#include "catalog/table_text.h"
#include "core/args.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "node/cluster_xact.h"
#include "node/node.h"

PG_FUNCTION_INFO_V1(fa_sql_split_fragment);
PG_FUNCTION_INFO_V1(fa_sql_merge_fragments);

#define MAX_CUTS 1000
#define CLAIM_TRIES 20
#define CLAIM_PAUSE_MS 10

typedef struct Division
{
	int			table_id;
	Oid			home;
	char	   *cast;			/* see fa_key_cast() */
	List	   *pieces;			/* of FaPiece: what the home is to have */
	int64		first_fragment; /* of the new ones */
	int64		next_fragment;
} Division;

static FaFragment *
find_fragment(int64 fragment)
{
	FaFragment *f = fa_map_fragment(fragment);

	if (f == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("fragment " INT64_FORMAT " does not exist", fragment),
				 errhint("The view fragaffinity.fragments lists all fragments.")));
	return f;
}

/*
 * Another division that has just let go of the bucket, for which we waited, may
 * be about to let go of its claim.
 */
static void
claim_fragment(int64 fragment)
{
	for (int tries = 0; tries < CLAIM_TRIES; tries++)
	{
		char	   *granted = fa_spi_value("SELECT pg_catalog.pg_try_advisory_xact_lock("
										   FA_FRAGMENT_CLAIM ")", (int) fragment);

		if (granted && granted[0] == 't')
			return;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 CLAIM_PAUSE_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_IN_USE),
			 errmsg("fragment " INT64_FORMAT " is moving", fragment),
			 errhint("Wait for the move, or end it with fragaffinity.cancel_move().")));
}

/*
 * Everything that the plan rests on.  Until the end of the transaction nobody
 * else changes it: a fragment leaves its owner only with a claim.
 */
static void
division_begin(Division *d, const FaFragment *f)
{
	d->table_id = f->table_id;
	d->home = f->home;
	fa_key_check_type(f->table_id);
	d->cast = fa_key_cast(f->table_id);
	d->pieces = fa_pieces_read(f->home);
}

static FaPiece *
division_piece(Division *d, int64 fragment)
{
	ListCell   *lc;

	foreach(lc, d->pieces)
	{
		FaPiece    *piece = lfirst(lc);

		if (piece->fragment == fragment)
			return piece;
	}
	elog(ERROR, "fragment " INT64_FORMAT " is not of its bucket", fragment);
	return NULL;
}

/* A key as SQL of the key's type. */
static char *
key_sql(Division *d, const char *key)
{
	return psprintf("%s%s", quote_literal_cstr(key), d->cast);
}

/* A column of text that holds keys, likewise. */
static char *
key_column(Division *d, const char *column)
{
	return psprintf("%s%s", column, d->cast);
}

static bool
key_less(Division *d, const char *a, const char *b)
{
	return fa_spi_value("SELECT %s < %s", key_sql(d, a), key_sql(d, b))[0] == 't';
}

/* The keys to cut at, written as every node writes them, in order. */
static FaRows *
read_cuts(Division *d, ArrayType *at)
{
	Datum	   *datums;
	bool	   *nulls;
	int			n;
	StringInfoData values;
	FaRows	   *rows;

	deconstruct_array(at, TEXTOID, -1, false, TYPALIGN_INT, &datums, &nulls, &n);
	if (n == 0 || n > MAX_CUTS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a fragment is split at one key to %d keys, not at %d",
						MAX_CUTS, n)));
	initStringInfo(&values);
	for (int i = 0; i < n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("a fragment cannot be split at null")));
		appendStringInfo(&values, "%s(%s)", i > 0 ? ", " : "",
						 key_sql(d, TextDatumGetCString(datums[i])));
	}
	rows = fa_spi_rows("SELECT v::pg_catalog.text, pg_catalog.count(*) "
					   "FROM (VALUES %s) AS x(v) GROUP BY x.v ORDER BY x.v",
					   values.data);
	for (int i = 0; i < rows->nrows; i++)
		if (strcmp(rows->value[i][1], "1") != 0)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("key \"%s\" is given more than once",
							rows->value[i][0])));
	return rows;
}

static void
add_piece(Division *d, FaPiece *of, char *key_from, char *key_to)
{
	FaPiece    *piece = palloc0(sizeof(FaPiece));

	piece->fragment = d->next_fragment++;
	piece->key_from = key_from;
	piece->key_to = key_to;
	piece->owner = of->owner;
	piece->version = 1;
	piece->rows_of = of->fragment;
	d->pieces = lappend(d->pieces, piece);
}

/* From the one fragment without bounds: it has what the others do not. */
static void
cut_off_range(Division *d, FaPiece *rest, char *key_from, char *key_to)
{
	char	   *other;

	other = fa_spi_value("SELECT fragment FROM fragaffinity.fragment WHERE home = %u"
						 "  AND (key_from IS NOT NULL OR key_to IS NOT NULL)"
						 "  AND (key_from IS NULL OR %s)"
						 "  AND (key_to IS NULL OR %s > %s) LIMIT 1",
						 d->home, key_to == NULL ? "true" :
						 psprintf("%s < %s", key_column(d, "key_from"),
								  key_sql(d, key_to)),
						 key_column(d, "key_to"), key_sql(d, key_from));
	if (other)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("keys from \"%s\" to \"%s\" belong in part to fragment %s",
						key_from, key_to ? key_to : "the end", other),
				 errhint("The view fragaffinity.fragments shows the keys of each.")));
	add_piece(d, rest, key_from, key_to);
}

static void
plan_split_rest(Division *d, FaPiece *rest, FaRows *cuts)
{
	char	   *key_to;

	if (cuts->nrows == 1)
	{
		key_to = fa_spi_value("SELECT key_from FROM fragaffinity.fragment "
							  "WHERE home = %u AND %s > %s ORDER BY %s LIMIT 1",
							  d->home, key_column(d, "key_from"),
							  key_sql(d, cuts->value[0][0]),
							  key_column(d, "key_from"));
		cut_off_range(d, rest, cuts->value[0][0], key_to);
	}
	for (int i = 0; i < cuts->nrows - 1; i++)
		cut_off_range(d, rest, cuts->value[i][0], cuts->value[i + 1][0]);
}

/* A range: it keeps its beginning. */
static void
plan_split_range(Division *d, FaPiece *range, FaRows *cuts)
{
	char	   *end = range->key_to;

	for (int i = 0; i < cuts->nrows; i++)
	{
		char	   *cut = cuts->value[i][0];

		if ((range->key_from && !key_less(d, range->key_from, cut)) ||
			(end && !key_less(d, cut, end)))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("key \"%s\" is not inside fragment " INT64_FORMAT,
							cut, range->fragment),
					 errdetail("It has the keys from \"%s\" to \"%s\".",
							   range->key_from ? range->key_from : "the beginning",
							   end ? end : "the end")));
		add_piece(d, range, cut,
				  i + 1 < cuts->nrows ? cuts->value[i + 1][0] : end);
	}
	range->key_to = cuts->value[0][0];
}

static void
plan_split(Division *d, int64 fragment, ArrayType *at)
{
	FaPiece    *piece = division_piece(d, fragment);
	FaRows	   *cuts = read_cuts(d, at);
	bool		rest = piece->key_from == NULL && piece->key_to == NULL;
	int64		used = strtoi64(fa_spi_value("SELECT pg_catalog.count(*) "
											 "FROM fragaffinity.fragment"), NULL, 10);

	if (used + cuts->nrows > fa_max_fragments)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("only " INT64_FORMAT " fragments are left",
						Max(fa_max_fragments - used, 0)),
				 errhint("Merge fragments, or raise fragaffinity.max_fragments on every node.")));
	d->first_fragment = d->next_fragment =
		strtoi64(fa_xact_ask_coordinator(psprintf("SELECT fragaffinity.take_fragment_numbers(%d)",
												  rest && cuts->nrows > 1 ? cuts->nrows - 1 :
												  cuts->nrows)), NULL, 10);
	if (rest)
		plan_split_rest(d, piece, cuts);
	else
		plan_split_range(d, piece, cuts);
	piece->version++;
}

/* Two ranges, one after the other: the larger one gets the other's rows. */
static void
plan_merge_ranges(FaPiece **keep_p, FaPiece **gone_p, const FaFragment *keep,
				  const FaFragment *gone)
{
	FaPiece    *a = *keep_p;
	FaPiece    *b = *gone_p;

	if (fa_spi_value("SELECT pg_catalog.pg_table_size(%u) < pg_catalog.pg_table_size(%u)",
					 keep->leaf, gone->leaf)[0] == 't')
	{
		*keep_p = b;
		*gone_p = a;
	}
	if (a->key_to && b->key_from && strcmp(a->key_to, b->key_from) == 0)
	{
		(*keep_p)->key_from = a->key_from;
		(*keep_p)->key_to = b->key_to;
	}
	else if (b->key_to && a->key_from && strcmp(b->key_to, a->key_from) == 0)
	{
		(*keep_p)->key_to = a->key_to;
		(*keep_p)->key_from = b->key_from;
	}
	else
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("fragments " INT64_FORMAT " and " INT64_FORMAT " are not neighbours",
						keep->fragment, gone->fragment),
				 errhint("Merge fragments whose keys meet, or one with the fragment of its bucket that has no bounds.")));
}

/* Returns the number of the fragment that stays. */
static int64
plan_merge(Division *d, const FaFragment *one, const FaFragment *other)
{
	FaPiece    *keep = division_piece(d, one->fragment);
	FaPiece    *gone = division_piece(d, other->fragment);

	if (gone->key_from == NULL && gone->key_to == NULL)
	{
		FaPiece    *rest = gone;

		gone = keep;
		keep = rest;
	}
	else if (keep->key_from || keep->key_to)
		plan_merge_ranges(&keep, &gone, one, other);
	keep->rows_of = gone->fragment;
	keep->version++;
	d->pieces = list_delete_ptr(d->pieces, gone);
	return keep->fragment;
}

/* Step 3 of a split.  Which rows these are only has to be nearly right. */
static void
division_copy(Division *d, const FaFragment *f)
{
	FaFragment	source = *f;	/* the map may be read anew meanwhile */
	FaTable    *table = fa_map_table_by_id(d->table_id);
	const char *key = quote_identifier(get_attname(table->rel, table->key, false));
	ListCell   *lc;

	foreach(lc, d->pieces)
	{
		FaPiece    *piece = lfirst(lc);

		if (piece->rows_of != source.fragment)
			continue;
		piece->copy = fa_precopy_split(&source, piece->fragment,
									   psprintf("%s AND %s",
												piece->key_from ?
												psprintf("%s >= %s", key, key_sql(d, piece->key_from)) :
												"true",
												piece->key_to ?
												psprintf("%s < %s", key, key_sql(d, piece->key_to)) :
												"true"));
	}
}

/* Step 3 of a merge. */
static void
division_copy_all(Division *d, const FaFragment *one, const FaFragment *other,
				  int64 stays)
{
	FaFragment	keep = stays == one->fragment ? *one : *other;
	FaFragment	gone = stays == one->fragment ? *other : *one;

	division_piece(d, stays)->copy = fa_precopy_merge(&gone, &keep);
}

/* Steps 4 and 5. */
static void
division_apply(Division *d)
{
	MemoryContext context = CurrentMemoryContext;
	ListCell   *lc;

	foreach(lc, fa_node_list())
	{
		FaNode	   *node = lfirst(lc);

		if (node->id != fa_node_self())
			(void) fa_xact_conn(node->id);
	}
	fa_reshape_lock(d->home, d->table_id);
	fa_reshape_limit_begin(d->table_id);
	PG_TRY();
	{
		fa_stop_point("split_locked");
		fa_reshape_peers_begin(d->home, d->pieces);
		fa_reshape(d->home, d->pieces);
		fa_reshape_peers_end();
		/* hints about keys are kept by fragment */
		(void) fa_xact_ask_coordinator(psprintf("SELECT fragaffinity.renew_hints(%d)",
												d->table_id));
		fa_stop_point("split_reshaped");
	}
	PG_CATCH();
	{
		fa_reshape_limit_failed(context);
	}
	PG_END_TRY();
	fa_reshape_limit_end();
}

/* The owner does it, in a transaction of its own. */
static char *
pass_on(int owner, const char *sql)
{
	FaConn	   *conn = fa_remote_connect(owner, FA_CONNECT_TIMEOUT_MS);
	char	   *result = fa_remote_value(conn, 0, "%s", sql);

	fa_remote_close(conn);
	return result;
}

static Datum
new_fragments(Division *d)
{
	Datum	   *numbers = palloc(sizeof(Datum) * list_length(d->pieces));
	int			n = 0;
	ListCell   *lc;

	foreach(lc, d->pieces)
	{
		FaPiece    *piece = lfirst(lc);

		if (piece->fragment >= d->first_fragment)
			numbers[n++] = Int64GetDatum(piece->fragment);
	}
	return PointerGetDatum(construct_array(numbers, n, INT8OID, 8,
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* split_fragment(fragment, VARIADIC at) returns the new fragments */
Datum
fa_sql_split_fragment(PG_FUNCTION_ARGS)
{
	int64		fragment;
	Division	d = {0};
	FaDdlState	state;
	FaFragment *f;
	Datum		result;

	fa_require_argument(fcinfo, 0, "fragment");
	fa_require_argument(fcinfo, 1, "at");
	PreventCommandIfReadOnly("fragaffinity.split_fragment()");
	fragment = PG_GETARG_INT64(0);
	fa_shmem_require();
	(void) fa_node_require_cluster();
	f = find_fragment(fragment);
	fa_table_check_owner(fa_map_table_by_id(f->table_id)->rel);

	fa_ddl_begin(&state);
	if (!f->local)
	{
		char	   *at = OidOutputFunctionCall(F_ARRAY_OUT, PG_GETARG_DATUM(1));
		char	   *numbers;

		numbers = pass_on(f->owner, psprintf("SELECT fragaffinity.split_fragment("
											 INT64_FORMAT ", VARIADIC %s)",
											 fragment, quote_literal_cstr(at)));
		fa_ddl_end(&state);
		PG_RETURN_DATUM(OidInputFunctionCall(F_ARRAY_IN, numbers, INT8OID, -1));
	}
	fa_xact_lock_cluster();
	claim_fragment(fragment);
	f = find_fragment(fragment);
	if (!f->local)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("fragment " INT64_FORMAT " has just moved", fragment),
				 errhint("Try again.")));
	division_begin(&d, f);
	plan_split(&d, fragment, PG_GETARG_ARRAYTYPE_P(1));
	division_copy(&d, f);
	division_apply(&d);
	result = new_fragments(&d);
	fa_ddl_end(&state);
	PG_RETURN_DATUM(result);
}

/* Raises unless two fragments can be one. */
static void
check_mergeable(const FaFragment *one, const FaFragment *other)
{
	if (one->fragment == other->fragment)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("fragment " INT64_FORMAT " cannot be merged with itself",
						one->fragment)));
	if (one->home != other->home)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("fragments " INT64_FORMAT " and " INT64_FORMAT
						" were never one", one->fragment, other->fragment),
				 errhint("Only what split_fragment() divided can be merged.")));
	if (one->owner != other->owner)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("fragments " INT64_FORMAT " and " INT64_FORMAT
						" are on different nodes", one->fragment, other->fragment),
				 errhint("Move one to the other with fragaffinity.move_fragment().")));
}

/* merge_fragments(fragment, fragment) returns the one that stays */
Datum
fa_sql_merge_fragments(PG_FUNCTION_ARGS)
{
	int64		numbers[2];
	Division	d = {0};
	FaDdlState	state;
	FaFragment *f[2];
	int64		result;

	fa_require_argument(fcinfo, 0, "fragment");
	fa_require_argument(fcinfo, 1, "other");
	PreventCommandIfReadOnly("fragaffinity.merge_fragments()");
	numbers[0] = PG_GETARG_INT64(0);
	numbers[1] = PG_GETARG_INT64(1);
	fa_shmem_require();
	(void) fa_node_require_cluster();
	for (int i = 0; i < 2; i++)
	{
		f[i] = find_fragment(numbers[i]);
		fa_table_check_owner(fa_map_table_by_id(f[i]->table_id)->rel);
	}
	check_mergeable(f[0], f[1]);

	fa_ddl_begin(&state);
	if (!f[0]->local)
	{
		result = strtoi64(pass_on(f[0]->owner,
								  psprintf("SELECT fragaffinity.merge_fragments("
										   INT64_FORMAT ", " INT64_FORMAT ")",
										   numbers[0], numbers[1])), NULL, 10);
		fa_ddl_end(&state);
		PG_RETURN_INT64(result);
	}
	fa_xact_lock_cluster();
	for (int i = 0; i < 2; i++)
	{
		claim_fragment(numbers[i]);
		f[i] = find_fragment(numbers[i]);
	}
	check_mergeable(f[0], f[1]);
	if (!f[0]->local)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("fragment " INT64_FORMAT " has just moved", numbers[0]),
				 errhint("Try again.")));
	division_begin(&d, f[0]);
	result = plan_merge(&d, f[0], f[1]);
	division_copy_all(&d, f[0], f[1], result);
	division_apply(&d);
	fa_ddl_end(&state);
	PG_RETURN_INT64(result);
}
