/*
 * import_log.c
 *	  History from the server's log, for a start that knows something.
 *
 * Each statement is planned, never run, as the role that the log names and in
 * a subtransaction that is rolled back; its fragments, time, role and
 * application become history and transitions of this node.  What cannot be
 * read or planned is counted and passed over.
 *
 * A superuser reads statements that others wrote, and planning may evaluate
 * functions of theirs: hence their role and a restricted security context.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "capture/statement.h"
#include "capture/tables.h"
#include "core/args.h"
#include "core/settings.h"
#include "core/spi.h"
#include "node/node.h"

#define NAME_SPACE 64
#define PAUSE_US (INT64CONST(300) * 1000000)	/* then a session arrives anew */
#define MOST_CELLS 1000000		/* kept before they are written */

typedef struct CellKey
{
	TimestampTz step;
	int64		fragment;
} CellKey;

typedef struct Cell
{
	CellKey		key;
	int64		calls;
	double		elapsed_ms;
} Cell;

typedef struct Session
{
	char		name[NAME_SPACE];
	int64		fragment;
	TimestampTz time;
} Session;

typedef struct PairKey
{
	NameData	role;
	char		application[NAME_SPACE];
	int64		from;
	int64		to;
} PairKey;

typedef struct Pair
{
	PairKey		key;
	double		n;
} Pair;

typedef struct Import
{
	int64		width_us;
	const char *database;
	HTAB	   *cells;
	HTAB	   *sessions;
	HTAB	   *pairs;
	TimestampTz now;
	int64		accesses;
	int64		statements;
	int64		unplaced;		/* planned, without a fragment */
	int64		failed;			/* could not be planned */
	int64		broken;			/* no records */
} Import;

static HTAB *
make_table(const char *name, Size key, Size entry, int flags)
{
	HASHCTL		ctl;

	ctl.keysize = key;
	ctl.entrysize = entry;
	ctl.hcxt = CurrentMemoryContext;
	return hash_create(name, 1024, &ctl, HASH_ELEM | HASH_CONTEXT | flags);
}

static void
add_access(Import *in, const FaLogRecord *r, TimestampTz time, int64 fragment,
		   double elapsed_ms)
{
	CellKey		key;
	PairKey		pair_key;
	Cell	   *cell;
	Session    *session;
	Pair	   *pair;
	bool		found;
	int64		from;
	char		name[NAME_SPACE] = {0};

	memset(&key, 0, sizeof(key));
	key.step = time - (time % in->width_us + in->width_us) % in->width_us;
	key.fragment = fragment;
	cell = hash_search(in->cells, &key, HASH_ENTER, &found);
	if (!found)
	{
		cell->calls = 0;
		cell->elapsed_ms = 0;
	}
	cell->calls++;
	cell->elapsed_ms += elapsed_ms;
	in->accesses++;

	strlcpy(name, r->session ? r->session : "", sizeof(name));
	session = hash_search(in->sessions, name, HASH_ENTER, &found);
	from = found && time - session->time <= PAUSE_US ? session->fragment : 0;
	session->fragment = fragment;
	session->time = time;
	memset(&pair_key, 0, sizeof(pair_key));
	namestrcpy(&pair_key.role, r->user);
	strlcpy(pair_key.application, r->application ? r->application : "",
			NAME_SPACE);
	pair_key.from = from;
	pair_key.to = fragment;
	pair = hash_search(in->pairs, &pair_key, HASH_ENTER, &found);
	if (!found)
		pair->n = 0;
	pair->n += 1;
}

/* As the role that the log names: search_path is that of a new session. */
static List *
plan_as(Oid role, const char *statement)
{
	Oid			user;
	int			context;
	int			level = NewGUCNestLevel();
	List	   *fragments;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(role, context | SECURITY_LOCAL_USERID_CHANGE |
						   SECURITY_RESTRICTED_OPERATION);
	(void) set_config_option("search_path", "\"$user\", public", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	PushActiveSnapshot(GetTransactionSnapshot());
	fragments = fa_statement_fragments(statement);
	PopActiveSnapshot();
	AtEOXact_GUC(false, level);
	SetUserIdAndSecContext(user, context);
	return fragments;
}

static void
take_record(Import *in, const FaLogRecord *r)
{
	double		elapsed_ms = 0;
	char	   *statement;
	Oid			role;
	TimestampTz time;
	List	   *fragments;
	ListCell   *lc;

	if (r->database == NULL || r->user == NULL ||
		strcmp(r->database, in->database) != 0)
		return;
	statement = fa_statement_of_log(r, &elapsed_ms);
	if (statement == NULL)
		return;
	in->statements++;
	time = DatumGetTimestampTz(DirectFunctionCall3(timestamptz_in,
												   CStringGetDatum(r->time),
												   ObjectIdGetDatum(InvalidOid),
												   Int32GetDatum(-1)));
	if (TIMESTAMP_NOT_FINITE(time) || time > in->now)
		ereport(ERROR,
				(errcode(ERRCODE_DATETIME_VALUE_OUT_OF_RANGE),
				 errmsg("a statement of the future")));
	role = get_role_oid(r->user, false);
	fragments = plan_as(role, statement);
	if (fragments == NIL)
		in->unplaced++;
	foreach(lc, fragments)
		add_access(in, r, time, *(int64 *) lfirst(lc), elapsed_ms);
}

/* Is it the record's text that is wrong?  Then the next one may be read. */
static bool
is_of_the_record(int sqlerrcode)
{
	return ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_DATA_EXCEPTION ||
		ERRCODE_TO_CATEGORY(sqlerrcode) == ERRCODE_PROGRAM_LIMIT_EXCEEDED;
}

/*
 * Reads and takes one record, in a subtransaction that leaves nothing: what
 * was counted is in memory of ours.  False at the end.
 */
static bool
next_record(Import *in, FaLogReader *reader, MemoryContext temp)
{
	ResourceOwner owner = CurrentResourceOwner;
	MemoryContext outer = CurrentMemoryContext;
	volatile bool more = true;
	volatile bool parsed = false;
	Oid			user;
	int			context;

	GetUserIdAndSecContext(&user, &context);
	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(temp);
	PG_TRY();
	{
		FaLogRecord record;
		FaLogLine	line = fa_log_next(reader, &record);

		parsed = true;
		if (line == FA_LOG_END)
			more = false;
		else if (line == FA_LOG_BROKEN)
			in->broken++;
		else
			take_record(in, &record);
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(temp);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
			error->sqlerrcode == ERRCODE_OUT_OF_MEMORY ||
			(!parsed && !is_of_the_record(error->sqlerrcode)) ||
			ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_OPERATOR_INTERVENTION)
			ReThrowError(error);
		if (parsed)
			in->failed++;
		else
			in->broken++;
	}
	PG_END_TRY();
	SetUserIdAndSecContext(user, context);
	MemoryContextSwitchTo(outer);
	CurrentResourceOwner = owner;
	MemoryContextReset(temp);
	return more;
}

/* What is recorded already stays as it is. */
static void
write_history(Import *in, int self)
{
	StringInfoData columns[4];
	char	   *params[6];
	HASH_SEQ_STATUS status;
	Cell	   *cell;

	for (int i = 0; i < 4; i++)
		initStringInfo(&columns[i]);
	hash_seq_init(&status, in->cells);
	while ((cell = hash_seq_search(&status)) != NULL)
	{
		fa_array_add_text(&columns[0], timestamptz_to_str(cell->key.step));
		fa_array_add_int(&columns[1], cell->key.fragment);
		fa_array_add_int(&columns[2], cell->calls);
		fa_array_add_float(&columns[3], cell->elapsed_ms);
	}
	for (int i = 0; i < 4; i++)
		params[i] = fa_array_finish(&columns[i]);
	params[4] = psprintf("%d", self);
	params[5] = psprintf("%.6f s", (double) in->width_us / 1e6);
	(void) fa_stats_exec(
		"INSERT INTO fragaffinity.history "
		"SELECT s, $6::interval, $5::integer, f, c, 0, 0, 0, e, 0 "
		"FROM ROWS FROM (pg_catalog.unnest($1::timestamptz[]), "
		" pg_catalog.unnest($2::bigint[]), pg_catalog.unnest($3::bigint[]), "
		" pg_catalog.unnest($4::double precision[])) AS u(s, f, c, e) "
		"WHERE NOT EXISTS (SELECT FROM fragaffinity.history_step h "
		"  WHERE h.node OPERATOR(pg_catalog.=) $5::integer "
		"  AND h.step OPERATOR(pg_catalog.=) u.s) "
		"ON CONFLICT (step, node, fragment) DO NOTHING", 6, params);
	/* between the first and the last statement, silence is zero */
	(void) fa_stats_exec(
		"INSERT INTO fragaffinity.history_step (step, node) "
		"SELECT g, $2::integer FROM (SELECT pg_catalog.min(s) AS a, "
		"  pg_catalog.max(s) AS b FROM pg_catalog.unnest($1::timestamptz[]) AS s) r, "
		" LATERAL pg_catalog.generate_series(r.a, r.b, $3::interval) AS g "
		"ON CONFLICT DO NOTHING", 3, (char *[]) {params[0], params[4], params[5]});
}

static void
write_transitions(Import *in, int self)
{
	StringInfoData columns[5];
	char	   *params[6];
	HASH_SEQ_STATUS status;
	Pair	   *pair;

	for (int i = 0; i < 5; i++)
		initStringInfo(&columns[i]);
	hash_seq_init(&status, in->pairs);
	while ((pair = hash_seq_search(&status)) != NULL)
	{
		fa_array_add_text(&columns[0], NameStr(pair->key.role));
		fa_array_add_text(&columns[1], pair->key.application);
		fa_array_add_int(&columns[2], pair->key.from);
		fa_array_add_int(&columns[3], pair->key.to);
		fa_array_add_float(&columns[4], pair->n);
	}
	for (int i = 0; i < 5; i++)
		params[i] = fa_array_finish(&columns[i]);
	params[5] = psprintf("%d", self);
	(void) fa_stats_exec(
		"INSERT INTO fragaffinity.transition AS t "
		"SELECT $6::integer, r::name, a, f, o, w, pg_catalog.clock_timestamp() "
		"FROM ROWS FROM (pg_catalog.unnest($1::text[]), pg_catalog.unnest($2::text[]), "
		" pg_catalog.unnest($3::bigint[]), pg_catalog.unnest($4::bigint[]), "
		" pg_catalog.unnest($5::double precision[])) AS u(r, a, f, o, w) "
		"ON CONFLICT (node, role, application, from_fragment, to_fragment) "
		"DO UPDATE SET weight = t.weight + excluded.weight", 6, params);
}

PG_FUNCTION_INFO_V1(fa_sql_import_log);

/* import_log(path text) returns accesses read */
Datum
fa_sql_import_log(PG_FUNCTION_ARGS)
{
	int			self = fa_node_require_cluster();
	Import		in = {0};
	MemoryContext temp;
	FaLogReader *reader;

	fa_require_argument(fcinfo, 0, "path");
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to import a log")));
	in.width_us = fa_setting_int("history_interval", 0) * 1000;
	in.database = get_database_name(MyDatabaseId);
	in.now = GetCurrentTimestamp();
	in.cells = make_table("fragaffinity import", sizeof(CellKey), sizeof(Cell),
						  HASH_BLOBS);
	in.sessions = make_table("fragaffinity import's sessions", NAME_SPACE,
							 sizeof(Session), HASH_BLOBS);
	in.pairs = make_table("fragaffinity import's transitions", sizeof(PairKey),
						  sizeof(Pair), HASH_BLOBS);
	temp = AllocSetContextCreate(CurrentMemoryContext, "fragaffinity import",
								 ALLOCSET_DEFAULT_SIZES);
	reader = fa_log_open(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	while (next_record(&in, reader, temp))
	{
		CHECK_FOR_INTERRUPTS();
		if (hash_get_num_entries(in.cells) >= MOST_CELLS)
			ereport(ERROR,
					(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
					 errmsg("the log has too many steps and fragments at once"),
					 errhint("Split the file and import its parts.")));
	}
	fa_log_close(reader);
	if (in.accesses > 0)
	{
		write_history(&in, self);
		write_transitions(&in, self);
	}
	ereport(NOTICE,
			(errmsg("%lld accesses by %lld statements; %lld statements touch no fragment, %lld could not be planned; %lld broken records",
					(long long) in.accesses, (long long) in.statements,
					(long long) in.unplaced, (long long) in.failed,
					(long long) in.broken),
			 in.accesses == 0 ? 0 :
			 errhint("Call reset_predictions() on the coordinator to learn from them.")));
	PG_RETURN_INT64(in.accesses);
}
