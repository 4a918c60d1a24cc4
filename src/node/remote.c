/*
 * remote.c
 *	  SQL on a peer over libpq.
 *
 * Every wait serves interrupts and ends at its deadline, so a hanging peer
 * cannot hold a backend.  A connection belongs to a memory context: an error
 * that resets the context closes it, and the peer rolls back.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "core/format.h"
#include "node/node.h"
#include "node/remote.h"

typedef struct ConnHolder
{
	FaConn		conn;
	MemoryContextCallback callback;
} ConnHolder;

static void
remote_conn_reset(void *arg)
{
	FaConn	   *conn = arg;

	if (conn->pg && !conn->borrowed)
		PQfinish(conn->pg);
	conn->pg = NULL;
}

void
fa_remote_close(FaConn *conn)
{
	remote_conn_reset(conn);
}

long
fa_remote_time_left(TimestampTz deadline)
{
	if (deadline == 0)
		return -1;
	return TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
}

TimestampTz
fa_remote_deadline(int timeout_ms)
{
	if (timeout_ms <= 0)
		return 0;
	return TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
}

/* False when the deadline has passed. */
static bool
remote_wait(PGconn *pg, int events, TimestampTz deadline)
{
	long		left = fa_remote_time_left(deadline);
	int			rc;

	if (left == 0)
		return false;
	rc = WaitLatchOrSocket(MyLatch,
						   WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | events |
						   (left > 0 ? WL_TIMEOUT : 0),
						   PQsocket(pg), left, PG_WAIT_EXTENSION);
	if (rc & WL_LATCH_SET)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

void
fa_remote_connect_failed(FaConn *conn, const char *detail)
{
	char	   *message = detail ? pstrdup(detail) :
		pchomp(PQerrorMessage(conn->pg));

	fa_remote_close(conn);
	ereport(ERROR,
			(errcode(ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION),
			 errmsg("could not connect to node \"%s\"", conn->name),
			 errdetail_internal("%s", message),
			 errhint("Check that the server runs, and its address and authentication.")));
}

/* A connection that has yet to be polled, unless that has failed already. */
static FaConn *
remote_connect_start(int node, const char *name, const char **keywords,
					 const char **values)
{
	ConnHolder *holder = palloc0(sizeof(ConnHolder));
	FaConn	   *conn = &holder->conn;

	conn->node = node;
	conn->name = pstrdup(name);
	holder->callback.func = remote_conn_reset;
	holder->callback.arg = conn;
	MemoryContextRegisterResetCallback(CurrentMemoryContext,
									   &holder->callback);
	conn->pg = PQconnectStartParams(keywords, values, false);
	if (conn->pg == NULL)
		ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY),
						errmsg("out of memory")));
	if (PQstatus(conn->pg) == CONNECTION_BAD)
		fa_remote_connect_failed(conn, NULL);
	return conn;
}

FaConn *
fa_remote_connect_keywords(int node, const char *name, const char **keywords,
						   const char **values, int timeout_ms)
{
	FaConn	   *conn = remote_connect_start(node, name, keywords, values);
	TimestampTz deadline = fa_remote_deadline(timeout_ms);

	for (PostgresPollingStatusType status = PGRES_POLLING_WRITING;;)
	{
		int			events = WL_SOCKET_READABLE;

		if (status == PGRES_POLLING_OK)
			break;
		if (status == PGRES_POLLING_FAILED)
			fa_remote_connect_failed(conn, NULL);
		if (status == PGRES_POLLING_WRITING)
			events = WL_SOCKET_WRITEABLE;
		if (!remote_wait(conn->pg, events, deadline))
			fa_remote_connect_failed(conn, "The connection timed out.");
		status = PQconnectPoll(conn->pg);
	}
	return conn;
}

const FaSetting fa_remote_settings[] = {
	{"search_path", "pg_catalog"},
	{"quote_all_identifiers", "off"},
	{"standard_conforming_strings", "on"},
	{"array_nulls", "on"},
	{"transform_null_equals", "off"},
	{"datestyle", "ISO"},
	{"intervalstyle", "postgres"},
	{"extra_float_digits", "3"},
	{NULL, NULL}
};

/* As libpq's options. */
static char *
remote_settings(void)
{
	StringInfoData buf;

	initStringInfo(&buf);
	for (const FaSetting *s = fa_remote_settings; s->name; s++)
		appendStringInfo(&buf, " -c %s=%s", s->name, s->value);
	return buf.data;
}

/*
 * Options of the session on the peer: our origin, so that it counts nothing;
 * and for our own work, which superusers do, the right to touch what belongs
 * to distributed tables, and nothing of the peer's defaults that changes what
 * statements mean or how long they may run.
 */
static char *
remote_session_options(FaSessionKind kind)
{
	const char *more = "";

	if (kind == FA_SESSION_MAINTENANCE)
		more = " -c fragaffinity.maintenance=on"
			" -c default_transaction_isolation=read\\ committed"
			" -c default_transaction_read_only=off"
			" -c default_transaction_deferrable=off"
			" -c statement_timeout=0 -c lock_timeout=0"
			" -c idle_in_transaction_session_timeout=0"
			" -c idle_session_timeout=0";
	else if (kind == FA_SESSION_CLIENT)
		more = " -c timezone=GMT"
			" -c default_transaction_isolation=read\\ committed"
			" -c default_transaction_read_only=off"
			/* what ends statements is decided where the client is */
			" -c statement_timeout=0"
			" -c idle_in_transaction_session_timeout=0";
	else if (kind == FA_SESSION_FINISH)
		more = " -c search_path=pg_catalog"
			" -c statement_timeout=0 -c lock_timeout=0";
	return psprintf("-c fragaffinity.origin=%d%s%s%s", fa_node_self(),
					kind == FA_SESSION_MAINTENANCE || kind == FA_SESSION_CLIENT ?
					remote_settings() : "", more,
					kind == FA_SESSION_CLIENT ?
					psprintf(" -c lock_timeout=%d -c fragaffinity.hops=%d",
							 LockTimeout, fa_hops_next()) : "");
}

/* Appends the options of a server or mapping, except what we set. */
static int
remote_add_options(List *options, const char **keywords, const char **values,
				   int n)
{
	ListCell   *lc;

	foreach(lc, options)
	{
		DefElem    *def = lfirst(lc);
		const char *name = def->defname;
		static const char *const libpq[] = {
			"host", "hostaddr", "port", "dbname", "user", "password",
			"passfile", "sslmode", "sslcert", "sslkey", "sslrootcert",
			"sslcrl", "sslpassword", "channel_binding", "gssencmode",
			"krbsrvname", "require_auth", "scram_client_key",
			"scram_server_key", "target_session_attrs", "keepalives",
			"keepalives_idle", "keepalives_interval", "keepalives_count",
			"tcp_user_timeout", "ssl_min_protocol_version",
			"ssl_max_protocol_version", "connect_timeout"
		};

		for (int i = 0; i < lengthof(libpq) && n < FA_MAX_KEYWORDS - 8; i++)
		{
			if (strcmp(libpq[i], name) == 0)
			{
				keywords[n] = pstrdup(name);
				values[n++] = pstrdup(defGetString(def));
				break;
			}
		}
	}
	return n;
}

int
fa_remote_keywords(int node, FaSessionKind kind, const char **keywords,
				   const char **values)
{
	ForeignServer *server = GetForeignServerByName(fa_node_server_name(node),
												   false);
	UserMapping *mapping = GetUserMapping(GetUserId(), server->serverid);
	int			n = 0;

	n = remote_add_options(server->options, keywords, values, n);
	n = remote_add_options(mapping->options, keywords, values, n);
	if (kind == FA_SESSION_REPLICATION)
	{
		keywords[n] = "replication";
		values[n++] = "database";
	}
	keywords[n] = "options";
	values[n++] = remote_session_options(kind);
	keywords[n] = "client_encoding";
	values[n++] = GetDatabaseEncodingName();
	keywords[n] = "fallback_application_name";
	values[n++] = kind == FA_SESSION_CLIENT ? "fragaffinity client" : "fragaffinity";
	keywords[n] = NULL;
	values[n] = NULL;
	return n;
}

/* The node's name, which must exist. */
static char *
remote_node_name(int node)
{
	char	   *name = fa_node_name(node);

	if (name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("node %d does not exist", node)));
	return name;
}

static FaConn *
remote_connect(int node, FaSessionKind kind, int timeout_ms)
{
	const char *keywords[FA_MAX_KEYWORDS];
	const char *values[FA_MAX_KEYWORDS];
	char	   *name = remote_node_name(node);

	(void) fa_remote_keywords(node, kind, keywords, values);
	return fa_remote_connect_keywords(node, name, keywords, values,
									  timeout_ms);
}

FaConn *
fa_remote_connect_start(int node)
{
	const char *keywords[FA_MAX_KEYWORDS];
	const char *values[FA_MAX_KEYWORDS];
	char	   *name = remote_node_name(node);

	(void) fa_remote_keywords(node, FA_SESSION_MAINTENANCE, keywords, values);
	return remote_connect_start(node, name, keywords, values);
}

FaConn *
fa_remote_connect(int node, int timeout_ms)
{
	return remote_connect(node, FA_SESSION_MAINTENANCE, timeout_ms);
}

FaConn *
fa_remote_connect_client(int node, int timeout_ms)
{
	return remote_connect(node, FA_SESSION_CLIENT, timeout_ms);
}

FaConn *
fa_remote_connect_replication(int node, int timeout_ms)
{
	return remote_connect(node, FA_SESSION_REPLICATION, timeout_ms);
}

FaConn *
fa_remote_connect_address(const char *name, const char *host, int port,
						  const char *dbname, int timeout_ms)
{
	char	   *port_text = psprintf("%d", port);
	const char *keywords[] = {"host", "port", "dbname", "user", "options",
		"client_encoding", "fallback_application_name", NULL};
	const char *values[] = {host, port_text, dbname,
		GetUserNameFromId(GetUserId(), false),
		remote_session_options(FA_SESSION_MAINTENANCE), GetDatabaseEncodingName(),
	"fragaffinity", NULL};

	return fa_remote_connect_keywords(0, name, keywords, values, timeout_ms);
}

PGresult *
fa_remote_get_result(FaConn *conn, int timeout_ms)
{
	TimestampTz deadline = fa_remote_deadline(timeout_ms);

	if (conn->pg == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("connection to node \"%s\" is closed", conn->name)));
	while (PQisBusy(conn->pg))
	{
		if (!remote_wait(conn->pg, WL_SOCKET_READABLE, deadline))
		{
			fa_remote_close(conn);
			ereport(ERROR,
					(errcode(ERRCODE_CONNECTION_FAILURE),
					 errmsg("node \"%s\" did not answer within %d ms",
							conn->name, timeout_ms)));
		}
		if (!PQconsumeInput(conn->pg))
			fa_remote_raise(conn, NULL, NULL);
	}
	return PQgetResult(conn->pg);
}

/* Names of what an error is about, for ereport(). */
static int
remote_error_names(PGresult *res)
{
	static const int fields[] = {
		PG_DIAG_SCHEMA_NAME, PG_DIAG_TABLE_NAME, PG_DIAG_COLUMN_NAME,
		PG_DIAG_DATATYPE_NAME, PG_DIAG_CONSTRAINT_NAME
	};

	for (int i = 0; i < lengthof(fields); i++)
	{
		char	   *name = res ? PQresultErrorField(res, fields[i]) : NULL;

		if (name)
			err_generic_string(fields[i], name);
	}
	PQclear(res);
	return 0;
}

void
fa_remote_raise(FaConn *conn, PGresult *res, const char *sql)
{
	const char *state = res ? PQresultErrorField(res, PG_DIAG_SQLSTATE) : NULL;
	const char *primary = res ?
		PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY) : NULL;
	const char *detail = res ?
		PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL) : NULL;
	const char *hint = res ?
		PQresultErrorField(res, PG_DIAG_MESSAGE_HINT) : NULL;
	const char *context = res ?
		PQresultErrorField(res, PG_DIAG_CONTEXT) : NULL;
	int			code = ERRCODE_CONNECTION_FAILURE;
	char	   *message;
	char	   *detail_copy = detail ? pstrdup(detail) : NULL;
	char	   *hint_copy = hint ? pstrdup(hint) : NULL;
	char	   *context_copy = context ? pstrdup(context) : NULL;

	if (state && strlen(state) == 5)
		code = MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
	message = primary ? pstrdup(primary) :
		pchomp(conn->pg ? PQerrorMessage(conn->pg) : "connection lost");
	ereport(ERROR,
			(errcode(code),
			 remote_error_names(res),
			 errmsg_internal("%s", message[0] ? message : "connection lost"),
			 detail_copy ? errdetail_internal("%s", detail_copy) : 0,
			 hint_copy ? errhint("%s", hint_copy) : 0,
			 context_copy ? errcontext("%s", context_copy) : 0,
			 errcontext(sql ? "remote SQL on node \"%s\": %s" :
						"on node \"%s\"", conn->name, sql)));
}

static FaRows *
remote_copy_rows(PGresult *res)
{
	FaRows	   *rows = palloc0(sizeof(FaRows));

	rows->nrows = PQntuples(res);
	rows->ncols = PQnfields(res);
	rows->value = palloc(sizeof(char **) * Max(rows->nrows, 1));
	for (int i = 0; i < rows->nrows; i++)
	{
		rows->value[i] = palloc(sizeof(char *) * Max(rows->ncols, 1));
		for (int j = 0; j < rows->ncols; j++)
			rows->value[i][j] = PQgetisnull(res, i, j) ? NULL :
				pstrdup(PQgetvalue(res, i, j));
	}
	return rows;
}

void
fa_remote_send(FaConn *conn, const char *sql)
{
	if (conn->pg == NULL || !PQsendQuery(conn->pg, sql))
		fa_remote_raise(conn, NULL, sql);
}

bool
fa_remote_succeeded(PGresult *res)
{
	ExecStatusType status = PQresultStatus(res);

	return res == NULL || status == PGRES_TUPLES_OK ||
		status == PGRES_COMMAND_OK || status == PGRES_EMPTY_QUERY;
}

/* Takes the next result into *last_p; false at the end. */
static bool
remote_take_result(FaConn *conn, int timeout_ms, PGresult **last_p)
{
	PGresult   *res = fa_remote_get_result(conn, timeout_ms);
	ExecStatusType status = PQresultStatus(res);

	if (res == NULL)
		return false;
	if (status == PGRES_COPY_IN || status == PGRES_COPY_OUT ||
		status == PGRES_COPY_BOTH)
	{
		PQclear(res);
		elog(ERROR, "unexpected COPY from node \"%s\"", conn->name);
	}
	if (fa_remote_succeeded(*last_p))
	{
		PQclear(*last_p);
		*last_p = res;
	}
	else
		PQclear(res);
	return PQstatus(conn->pg) != CONNECTION_BAD;
}

PGresult *
fa_remote_last_result(FaConn *conn, int timeout_ms)
{
	PGresult   *last = NULL;
	PGresult  **last_p = &last;

	PG_TRY();
	{
		while (remote_take_result(conn, timeout_ms, last_p))
			;
	}
	PG_CATCH();
	{
		/* it is in no memory context */
		PQclear(*last_p);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return *last_p;
}

/* The rows of the last result; sql is for messages. */
static FaRows *
remote_collect(FaConn *conn, int timeout_ms, const char *sql)
{
	PGresult   *res = fa_remote_last_result(conn, timeout_ms);
	FaRows	   *rows;

	if (!fa_remote_succeeded(res))
		fa_remote_raise(conn, res, sql);
	rows = PQresultStatus(res) == PGRES_TUPLES_OK ? remote_copy_rows(res) : NULL;
	PQclear(res);
	return rows;
}

void
fa_remote_receive(FaConn *conn, int timeout_ms, const char *sql)
{
	(void) remote_collect(conn, timeout_ms, sql);
}

static FaRows *
remote_run(FaConn *conn, int timeout_ms, const char *sql)
{
	fa_remote_send(conn, sql);
	return remote_collect(conn, timeout_ms, sql);
}

FaRows *
fa_remote_rows(FaConn *conn, int timeout_ms, const char *fmt,...)
{
	char	   *sql;
	FaRows	   *rows;

	FA_FORMAT(sql, fmt);
	rows = remote_run(conn, timeout_ms, sql);
	if (rows == NULL)
		elog(ERROR, "no rows from node \"%s\"", conn->name);
	return rows;
}

void
fa_remote_exec(FaConn *conn, int timeout_ms, const char *fmt,...)
{
	char	   *sql;

	FA_FORMAT(sql, fmt);
	(void) remote_run(conn, timeout_ms, sql);
}

char *
fa_remote_value(FaConn *conn, int timeout_ms, const char *fmt,...)
{
	char	   *sql;
	FaRows	   *rows;

	FA_FORMAT(sql, fmt);
	rows = remote_run(conn, timeout_ms, sql);
	return rows && rows->nrows > 0 && rows->ncols > 0 ?
		rows->value[0][0] : NULL;
}
