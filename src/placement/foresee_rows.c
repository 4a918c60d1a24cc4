/*
 * foresee_rows.c
 *	  What is foreseen of sessions and roles, as rows; and the saved state.
 *
 * Both tables are unlogged and short-lived: they are read once, by the
 * coordinator, within seconds.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "capture/counters.h"
#include "capture/tables.h"
#include "core/spi.h"
#include "placement/foresee.h"

#define MOST_ROWS		500		/* of either kind, a step */
#define LEAST_EXPECTED	0.02	/* accesses, to be worth a row */
#define KEPT_STEPS		64
#define STATE_MOST_BYTES ((Size) 64 << 20)

typedef struct UseKey
{
	int64		fragment;
	Oid			role;
	int			application;
} UseKey;

typedef struct UseEntry
{
	UseKey		key;
	double		accesses;
	double		arrivals;
} UseEntry;

void
fa_foresee_count(FaForesight *f, Oid role, int application, int64 fragment,
				 double accesses, double arrivals)
{
	UseKey		key = {fragment, role, application};
	UseEntry   *use;
	bool		found;

	if (f->use == NULL)
	{
		HASHCTL		ctl = {.keysize = sizeof(UseKey),
		.entrysize = sizeof(UseEntry),.hcxt = f->context};

		f->use = hash_create("fragaffinity use of profiles", 256, &ctl,
							 HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	use = hash_search(f->use, &key, HASH_ENTER, &found);
	if (!found)
		use->accesses = use->arrivals = 0;
	use->accesses += accesses;
	use->arrivals += arrivals;
}

static void
write_expected(FaForesight *f, int self, const char *step)
{
	FaCell	   *cells = palloc(sizeof(FaCell) * MOST_ROWS);
	int			n = fa_sessions_expected(f->sessions, LEAST_EXPECTED, cells,
										 MOST_ROWS);
	StringInfoData columns[2];
	char	   *params[4];

	if (n == 0)
		return;
	initStringInfo(&columns[0]);
	initStringInfo(&columns[1]);
	for (int i = 0; i < n; i++)
	{
		if (cells[i].fragment >= f->fragments.n)
			continue;			/* a place held free */
		fa_array_add_int(&columns[0], f->fragments.fragment[cells[i].fragment]);
		fa_array_add_float(&columns[1], cells[i].count);
	}
	if (columns[0].len == 0)
		return;
	params[0] = fa_array_finish(&columns[0]);
	params[1] = fa_array_finish(&columns[1]);
	params[2] = psprintf("%d", self);
	params[3] = pstrdup(step);
	(void) fa_stats_exec("INSERT INTO fragaffinity.session_forecast"
						 " (step, node, fragment, accesses)"
						 " SELECT $4::timestamptz, $3::integer, u.f, u.a"
						 " FROM ROWS FROM (unnest($1::bigint[]),"
						 "  unnest($2::double precision[])) AS u(f, a)"
						 " ON CONFLICT DO NOTHING", lengthof(params), params);
}

static int
compare_use(const void *a, const void *b)
{
	double		x = (*(UseEntry *const *) a)->accesses;
	double		y = (*(UseEntry *const *) b)->accesses;

	return x > y ? -1 : x < y;
}

/* The busiest rows; all are forgotten then. */
static void
write_use(FaForesight *f, int self, const char *step)
{
	HASH_SEQ_STATUS status;
	UseEntry   *use;
	UseEntry  **sorted;
	StringInfoData columns[5];
	char	   *params[7];
	int			n = 0;

	if (f->use == NULL)
		return;
	for (int i = 0; i < lengthof(columns); i++)
		initStringInfo(&columns[i]);
	sorted = palloc(sizeof(UseEntry *) * hash_get_num_entries(f->use));
	hash_seq_init(&status, f->use);
	while ((use = hash_seq_search(&status)) != NULL)
		sorted[n++] = use;
	qsort(sorted, n, sizeof(UseEntry *), compare_use);
	for (int i = 0; i < n && i < MOST_ROWS; i++)
	{
		char	   *role = GetUserNameFromId(sorted[i]->key.role, true);

		if (role == NULL)
			continue;
		fa_array_add_text(&columns[0], role);
		fa_array_add_text(&columns[1],
						  fa_event_application(sorted[i]->key.application));
		fa_array_add_int(&columns[2], sorted[i]->key.fragment);
		fa_array_add_float(&columns[3], sorted[i]->accesses);
		fa_array_add_float(&columns[4], sorted[i]->arrivals);
	}
	hash_destroy(f->use);
	f->use = NULL;
	if (columns[0].len == 0)
		return;
	for (int i = 0; i < lengthof(columns); i++)
		params[i] = fa_array_finish(&columns[i]);
	params[5] = psprintf("%d", self);
	params[6] = pstrdup(step);
	(void) fa_stats_exec("INSERT INTO fragaffinity.profile_use"
						 " (step, node, role, application, fragment, accesses, arrivals)"
						 " SELECT $7::timestamptz, $6::integer, u.*"
						 " FROM ROWS FROM (unnest($1::name[]), unnest($2::text[]),"
						 "  unnest($3::bigint[]), unnest($4::double precision[]),"
						 "  unnest($5::double precision[])) AS u"
						 " ON CONFLICT DO NOTHING", lengthof(params), params);
}

void
fa_foresee_write(FaForesight *f, int self, int64 step)
{
	char	   *start = pstrdup(timestamptz_to_str(step * f->width_us));

	write_expected(f, self, start);
	write_use(f, self, start);
}

void
fa_foresee_tidy(const FaForesight *f)
{
	static const char *const table[] = {"session_forecast", "profile_use"};

	for (int i = 0; i < lengthof(table); i++)
		(void) fa_spi_exec("DELETE FROM fragaffinity.%s"
						   " WHERE step < pg_catalog.clock_timestamp()"
						   "  - greatest(interval '%.3f s', interval '1 hour')"
						   " OR step > pg_catalog.clock_timestamp() + interval '1 day'",
						   table[i], KEPT_STEPS * (double) f->width_us / USECS_PER_SEC);
}

void
fa_foresee_save(FaForesight *f)
{
	Oid			types[2] = {INT8ARRAYOID, BYTEAOID};
	Datum		values[2];
	Datum	   *fragments = palloc(sizeof(Datum) * (f->fragments.n + 1));
	Size		size = fa_sessions_save(f->sessions, NULL, 0);
	bytea	   *state;

	f->unsaved = false;
	if (size > STATE_MOST_BYTES)
		return;					/* is learned anew after a restart */
	state = palloc(VARHDRSZ + size);
	SET_VARSIZE(state, VARHDRSZ + size);
	(void) fa_sessions_save(f->sessions, VARDATA(state), size);
	for (int i = 0; i < f->fragments.n; i++)
		fragments[i] = Int64GetDatum(f->fragments.fragment[i]);
	values[0] = PointerGetDatum(construct_array(fragments, f->fragments.n,
												INT8OID, 8, FLOAT8PASSBYVAL,
												TYPALIGN_DOUBLE));
	values[1] = PointerGetDatum(state);
	SPI_connect();
	if (SPI_execute_with_args("INSERT INTO fragaffinity.session_state"
							  " (saved, fragments, state)"
							  " VALUES (pg_catalog.clock_timestamp(), $1, $2)"
							  " ON CONFLICT (one) DO UPDATE SET"
							  "  saved = EXCLUDED.saved,"
							  "  fragments = EXCLUDED.fragments,"
							  "  state = EXCLUDED.state",
							  2, types, values, NULL, false, 0) < 0)
		elog(ERROR, "could not save what was learned of sessions");
	SPI_finish();
	pfree(state);
}

bool
fa_foresee_restore(FaForesight *f, const FaSessionsConfig *config)
{
	FaAllocator allocator = fa_foresee_allocator(f);

	SPI_connect();
	if (SPI_execute("SELECT fragments, state, saved FROM fragaffinity.session_state",
					true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read what was learned of sessions");
	if (SPI_processed == 1)
	{
		HeapTuple	row = SPI_tuptable->vals[0];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;
		ArrayType  *array = DatumGetArrayTypeP(SPI_getbinval(row, desc, 1, &isnull));
		bytea	   *state = DatumGetByteaPP(SPI_getbinval(row, desc, 2, &isnull));
		Datum	   *values;
		int			n;

		f->sessions = fa_sessions_restore(VARDATA_ANY(state),
										  VARSIZE_ANY_EXHDR(state), config,
										  &allocator);
		deconstruct_array(array, INT8OID, 8, FLOAT8PASSBYVAL, TYPALIGN_DOUBLE,
						  &values, NULL, &n);
		f->network_since = DatumGetTimestampTz(SPI_getbinval(row, desc, 3, &isnull));
		for (int i = 0; i < n && f->sessions; i++)
			(void) fa_numbering_add(&f->fragments, DatumGetInt64(values[i]));
	}
	SPI_finish();
	return f->sessions != NULL;
}
