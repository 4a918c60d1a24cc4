/*
 * session.c
 *	  A backend's own sessions on its peers.
 *
 * postgres_fdw needs a transaction, a cursor and a commit for a row, five
 * round trips; a statement that is alone in its transaction needs one.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/wait_event.h"

#include "node/node.h"
#include "node/remote.h"
#include "node/session.h"
#include "node/vouch.h"

#define MAX_STATEMENTS 256		/* remembered in a session */
#define CANCEL_TIMEOUT_MS 5000

typedef struct SessionKey
{
	int			node;
	Oid			role;
} SessionKey;

/* A statement that the session has run. */
typedef struct Statement
{
	uint64		hash;			/* of its text and shape; hash key */
	char	   *sql;
	int			number;			/* part of its name there */
	bool		prepared;
} Statement;

struct FaSession
{
	SessionKey	key;			/* hash key */
	MemoryContext context;		/* of what follows; NULL: not connected */
	FaConn	   *conn;
	WaitEventSet *waits;		/* for its socket; made once, as each wait counts */
	HTAB	   *statements;
	int			last_number;
	int			lock_timeout;	/* ms, that it has there; -1: not known */
	bool		outdated;		/* server or mapping has changed */
	bool		vouched;		/* this node vouches for it, see vouch.h */
	TimestampTz used;			/* last; the peer ends it when it is idle */

	/* of the statement that runs */
	bool		busy;
	bool		writes;
	bool		stream;			/* rows are wanted one by one */
	bool		pipelined;		/* with what goes before it, in one round trip */
	bool		setting;		/* lock_timeout goes before it ... */
	int			setting_to;		/* ... with this, undone when it fails; -1: no */
	bool		cancelled;		/* we have asked for it */
	const char *sql;
	Statement  *preparing;		/* goes before it */
};

static HTAB *sessions = NULL;

static void
session_close(FaSession *session)
{
	if (session->waits)
		FreeWaitEventSet(session->waits);
	session->waits = NULL;
	if (session->context)
		MemoryContextDelete(session->context);	/* closes the connection */
	session->context = NULL;
	session->conn = NULL;
	session->busy = false;
}

static void
session_outdated_callback(Datum arg, int cacheid, uint32 hashvalue)
{
	HASH_SEQ_STATUS status;
	FaSession  *session;

	if (sessions == NULL)
		return;
	hash_seq_init(&status, sessions);
	while ((session = hash_seq_search(&status)) != NULL)
		session->outdated = true;
}

/* Asks the peer to end what runs, and waits a while that it hears of it. */
static bool
session_cancel(FaSession *session)
{
	session->cancelled = true;
	return fa_remote_cancel(session->conn, ProcDiePending ?
							CANCEL_TIMEOUT_MS / 5 : CANCEL_TIMEOUT_MS);
}

/* A statement that nobody has read to its end does not outlive its transaction. */
static void
session_xact_callback(XactEvent event, void *arg)
{
	HASH_SEQ_STATUS status;
	FaSession  *session;

	if (event != XACT_EVENT_ABORT && event != XACT_EVENT_COMMIT)
		return;
	hash_seq_init(&status, sessions);
	while ((session = hash_seq_search(&status)) != NULL)
	{
		if (session->busy)
			fa_session_finish(session);
	}
}

void
fa_session_init(void)
{
	CacheRegisterSyscacheCallback(FOREIGNSERVEROID, session_outdated_callback,
								  (Datum) 0);
	CacheRegisterSyscacheCallback(USERMAPPINGOID, session_outdated_callback,
								  (Datum) 0);
}

static void
session_connect(FaSession *session)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "fragaffinity session",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	WaitEventSet *waits;
	HASHCTL		ctl;

	session->outdated = false;
	session->vouched = false;
	session->conn = fa_remote_connect_client(session->key.node,
											 FA_CONNECT_TIMEOUT_MS);
	ctl.keysize = sizeof(uint64);
	ctl.entrysize = sizeof(Statement);
	ctl.hcxt = context;
	session->statements = hash_create("fragaffinity statements of a session",
									  64, &ctl,
									  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	session->last_number = 0;
	session->lock_timeout = LockTimeout;	/* is among its options */
	waits = fa_create_wait_event_set(3);
	AddWaitEventToSet(waits, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(waits, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL, NULL);
	AddWaitEventToSet(waits, WL_SOCKET_READABLE,
					  PQsocket(session->conn->pg), NULL, NULL);
	session->waits = waits;
	MemoryContextSwitchTo(caller);
	MemoryContextSetParent(context, TopMemoryContext);
	session->context = context;
}

FaSession *
fa_session_get(int node)
{
	SessionKey	key = {node, GetUserId()};
	FaSession  *session;
	bool		found;

	if (sessions == NULL)
	{
		HASHCTL		ctl;

		ctl.keysize = sizeof(SessionKey);
		ctl.entrysize = sizeof(FaSession);
		ctl.hcxt = TopMemoryContext;
		sessions = hash_create("fragaffinity sessions", 16, &ctl,
							   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
		/* not before: most processes have no session, and many transactions */
		RegisterXactCallback(session_xact_callback, NULL);
	}
	session = hash_search(sessions, &key, HASH_ENTER, &found);
	if (!found)
		memset((char *) session + sizeof(SessionKey), 0,
			   sizeof(FaSession) - sizeof(SessionKey));
	if (session->busy)
		return NULL;
	if (session->context &&
		(session->outdated || !fa_remote_is_usable(session->conn, session->used)))
		session_close(session);
	if (session->context == NULL)
		session_connect(session);
	session->used = GetCurrentStatementStartTimestamp();
	return session;
}

void
fa_session_vouch(FaSession *session)
{
	if (session->vouched)
		return;
	/* an error between leaves it in an unknown state */
	session->outdated = true;
	fa_vouch_for_conn(session->conn);
	session->outdated = false;
	session->vouched = true;
}

/* What the session knows of a statement; NULL when it cannot be remembered. */
static Statement *
session_statement(FaSession *session, const char *sql, uint64 shape,
				  bool *again_p)
{
	uint64		hash = hash_bytes_extended((const unsigned char *) sql,
										   strlen(sql), shape);
	Statement  *statement;

	statement = hash_search(session->statements, &hash, HASH_FIND, NULL);
	if (statement)
	{
		*again_p = true;
		return strcmp(statement->sql, sql) == 0 ? statement : NULL;
	}
	*again_p = false;
	if (hash_get_num_entries(session->statements) >= MAX_STATEMENTS)
		return NULL;
	sql = MemoryContextStrdup(session->context, sql);
	statement = hash_search(session->statements, &hash, HASH_ENTER, NULL);
	statement->sql = unconstify(char *, sql);
	statement->number = ++session->last_number;
	statement->prepared = false;
	return statement;
}

/* Sends the statement and what goes before it, in one round trip. */
static bool
session_send_pipeline(FaSession *session, const char *name, int nparams,
					  const char *const *values)
{
	PGconn	   *pg = session->conn->pg;
	char		set[64];
	bool		sent;

	sent = PQenterPipelineMode(pg);
	session->pipelined = true;
	if (session->setting)
	{
		snprintf(set, sizeof(set), "SET lock_timeout = %d", session->setting_to);
		session->lock_timeout = -1;
		sent = sent && PQsendQueryParams(pg, set, 0, NULL, NULL, NULL, NULL, 0);
	}
	if (session->preparing)
		sent = sent && PQsendPrepare(pg, name, session->sql, nparams, NULL);
	if (name)
		sent = sent && PQsendQueryPrepared(pg, name, nparams, values, NULL,
										   NULL, 0);
	else
		sent = sent && PQsendQueryParams(pg, session->sql, nparams, NULL,
										 values, NULL, NULL, 0);
	return sent && PQpipelineSync(pg);
}

void
fa_session_send(FaSession *session, const char *sql, uint64 shape, int nparams,
				const char *const *values, bool writes, bool stream)
{
	PGconn	   *pg = session->conn->pg;
	bool		again;
	Statement  *statement = session_statement(session, sql, shape, &again);
	char		space[32];
	char	   *name = NULL;
	bool		sent;

	session->busy = true;
	session->writes = writes;
	session->stream = stream;
	session->pipelined = false;
	session->setting = session->lock_timeout != LockTimeout;
	session->setting_to = session->setting ? LockTimeout : -1;
	session->cancelled = false;
	session->preparing = NULL;
	session->sql = sql;
	if (statement && again)
	{
		snprintf(space, sizeof(space), "fa%d", statement->number);
		name = space;
		if (!statement->prepared)
			session->preparing = statement;
	}
	if (session->setting || session->preparing)
		sent = session_send_pipeline(session, name, nparams, values);
	else if (name)
		sent = PQsendQueryPrepared(pg, name, nparams, values, NULL, NULL, 0);
	else
		sent = PQsendQueryParams(pg, sql, nparams, NULL, values, NULL, NULL, 0);
	if (!sent)
		fa_remote_raise(session->conn, NULL, sql);
	if (stream && !session->pipelined)
		(void) PQsetSingleRowMode(pg);
}

/* The link is gone: whether a write has happened, nobody can say here. */
static void
session_lost(FaSession *session)
{
	char	   *message = pchomp(PQerrorMessage(session->conn->pg));
	bool		writes = session->writes;
	char	   *name = pstrdup(session->conn->name);

	session_close(session);
	ereport(ERROR,
			(errcode(writes ? ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN :
					 ERRCODE_CONNECTION_FAILURE),
			 errmsg("connection to node \"%s\" was lost", name),
			 errdetail_internal("%s", message),
			 writes ? errhint("The statement may have been executed.") : 0));
}

/* The reason for which the statement is cancelled is known here. */
static void
session_raise_cancel(void)
{
	QueryCancelPending = true;
	InterruptPending = true;
	CHECK_FOR_INTERRUPTS();
	elog(ERROR, "statement was cancelled");
}

/*
 * Serves interrupts, but leaves it to the peer whether a cancel has effect;
 * unless it cannot be asked, and has nothing to decide about.
 */
static void
session_interrupts(FaSession *session)
{
	if (!InterruptPending)
		return;
	if (ProcDiePending)
	{
		(void) session_cancel(session);
		CHECK_FOR_INTERRUPTS();
	}
	else if (QueryCancelPending)
	{
		QueryCancelPending = false;
		if (!session_cancel(session) && !session->writes)
		{
			session_close(session);
			session_raise_cancel();
		}
	}
	else
		CHECK_FOR_INTERRUPTS();
}

static PGresult *
session_wait(FaSession *session)
{
	PGconn	   *pg = session->conn->pg;

	while (PQisBusy(pg))
	{
		WaitEvent	event;

		(void) WaitEventSetWait(session->waits, -1, &event, 1,
								PG_WAIT_EXTENSION);
		if (event.events & WL_LATCH_SET)
			ResetLatch(MyLatch);
		session_interrupts(session);
		if ((event.events & WL_SOCKET_READABLE) && !PQconsumeInput(pg))
			session_lost(session);
	}
	return PQgetResult(pg);
}

/* Reads to the end of the statement. */
static void
session_drain(FaSession *session)
{
	PGconn	   *pg = session->conn->pg;
	PGresult   *res;
	bool		synced = !session->pipelined;

	while (!synced || (res = session_wait(session)) != NULL)
	{
		if (!synced)
		{
			res = session_wait(session);
			if (res == NULL)
			{
				if (PQstatus(pg) != CONNECTION_OK)
					session_lost(session);
				continue;
			}
			synced = PQresultStatus(res) == PGRES_PIPELINE_SYNC;
		}
		PQclear(res);
		if (PQstatus(pg) != CONNECTION_OK)
			session_lost(session);
	}
	if (session->pipelined && !PQexitPipelineMode(pg))
		session_lost(session);
	session->pipelined = false;
	session->busy = false;
}

static void
session_failed(FaSession *session, PGresult *res)
{
	const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

	if (state == NULL || PQstatus(session->conn->pg) != CONNECTION_OK)
	{
		PQclear(res);
		session_lost(session);
	}
	session_drain(session);
	/* our own cancel */
	if (session->cancelled && strcmp(state, "57014") == 0)
	{
		PQclear(res);
		session_raise_cancel();
	}
	fa_remote_raise(session->conn, res, session->sql);
}

/* One of the commands that go before the statement has succeeded. */
static void
session_went_before(FaSession *session, PGresult *res)
{
	PQclear(res);
	if (session->setting)
		session->setting = false;
	else
	{
		session->preparing->prepared = true;
		session->preparing = NULL;
	}
	/* the end of its results; what follows is the next command's */
	PQclear(session_wait(session));
	if (session->stream && !session->preparing)
		(void) PQsetSingleRowMode(session->conn->pg);
}

PGresult *
fa_session_result(FaSession *session)
{
	for (;;)
	{
		PGresult   *res = session_wait(session);
		bool		before = session->setting || session->preparing;

		if (res == NULL)
		{
			if (PQstatus(session->conn->pg) != CONNECTION_OK)
				session_lost(session);
			if (before)
				continue;
			elog(ERROR, "no answer from node \"%s\"", session->conn->name);
		}
		switch (PQresultStatus(res))
		{
			case PGRES_COMMAND_OK:
				if (before)
				{
					session_went_before(session, res);
					continue;
				}
				/* FALLTHROUGH */
			case PGRES_TUPLES_OK:
				session_drain(session);
				if (session->setting_to >= 0)
					session->lock_timeout = session->setting_to;
				return res;
			case PGRES_SINGLE_TUPLE:
				return res;
			default:
				session_failed(session, res);
		}
	}
}

void
fa_session_finish(FaSession *session)
{
	if (!session->busy)
		return;
	if (session->conn && session->conn->pg &&
		PQtransactionStatus(session->conn->pg) == PQTRANS_ACTIVE)
		(void) session_cancel(session);
	session_close(session);
}
