/*
 * remote.h
 *	  SQL on a peer over libpq: interruptible, bounded, errors as here.
 *
 * Connection options come from the foreign server and the current user's
 * mapping.  A peer's session knows where it comes from (fragaffinity.origin)
 * and may run our DDL (fragaffinity.maintenance).
 */
#ifndef FA_NODE_REMOTE_H
#define FA_NODE_REMOTE_H

#include "core/fa_compat.h"
#include "core/spi.h"
#include "libpq-fe.h"

typedef struct FaConn
{
	PGconn	   *pg;
	int			node;
	char	   *name;			/* for messages */
	bool		borrowed;		/* from postgres_fdw, which closes it */
} FaConn;

#define FA_CONNECT_TIMEOUT_MS 5000

/*
 * Opens a connection that lives as long as the current memory context.
 * Raises SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION.
 */
extern FaConn *fa_remote_connect(int node, int timeout_ms);
/* For statements of the current user: nothing more is allowed than to him. */
extern FaConn *fa_remote_connect_client(int node, int timeout_ms);
extern FaConn *fa_remote_connect_replication(int node, int timeout_ms);
extern FaConn *fa_remote_connect_address(const char *name, const char *host,
										 int port, const char *dbname,
										 int timeout_ms);
extern void fa_remote_close(FaConn *conn);

/*
 * Can an idle connection that was used then be used again?  False when the peer has
 * ended it, or might do so in this moment ("peer_idle_timeout"): to be closed.
 */
extern bool fa_remote_is_usable(FaConn *conn, TimestampTz used);

/*
 * libpq's keywords and values towards a node, NULL-terminated, at most
 * FA_MAX_KEYWORDS; for callers that connect by themselves.
 */
#define FA_MAX_KEYWORDS 64

typedef enum FaSessionKind
{
	FA_SESSION_MAINTENANCE,		/* our own work; the user is a superuser */
	FA_SESSION_REPLICATION,
	FA_SESSION_CLIENT,			/* statements of a client, with his rights */
	FA_SESSION_FINISH			/* COMMIT PREPARED, as any user */
} FaSessionKind;

/*
 * Settings of a session at a peer by which text means what it says; the last has no
 * name.
 */
typedef struct FaSetting
{
	const char *name;
	const char *value;
} FaSetting;

extern const FaSetting fa_remote_settings[];

extern int	fa_remote_keywords(int node, FaSessionKind kind,
							   const char **keywords, const char **values);
/* Opens it; name is for messages.  As fa_remote_connect otherwise. */
extern FaConn *fa_remote_connect_keywords(int node, const char *name,
										  const char **keywords,
										  const char **values, int timeout_ms);

/*
 * Runs one statement.  A remote error is raised here with its own SQLSTATE,
 * detail, hint, and the node and statement as context; a lost connection as
 * CONNECTION_FAILURE.  timeout_ms 0: wait for ever (interrupts are served).
 */
extern FaRows *fa_remote_rows(FaConn *conn, int timeout_ms,
							  const char *fmt,...) pg_attribute_printf(3, 4);
extern void fa_remote_exec(FaConn *conn, int timeout_ms,
						   const char *fmt,...) pg_attribute_printf(3, 4);
extern char *fa_remote_value(FaConn *conn, int timeout_ms,
							 const char *fmt,...) pg_attribute_printf(3, 4);

/* fa_remote_exec in two halves, with other work between them; sql (or NULL) in
 * the second is for messages. */
extern void fa_remote_send(FaConn *conn, const char *sql);
extern void fa_remote_receive(FaConn *conn, int timeout_ms, const char *sql);

/* When timeout_ms will have passed; 0, which is never, for 0. */
extern TimestampTz fa_remote_deadline(int timeout_ms);
/* ms left until then; -1 for never. */
extern long fa_remote_time_left(TimestampTz deadline);

/* in remote_try.c */

/*
 * As fa_remote_exec but never raises: false on any failure (the connection
 * may then be unusable), the message in *error_p (palloc'd) if wanted.
 */
extern bool fa_remote_try(FaConn *conn, int timeout_ms, char **error_p,
						  const char *fmt,...) pg_attribute_printf(4, 5);

/*
 * Its two halves, so that several peers can be asked at once; *sqlstate_p
 * (or NULL) is set on failure, CONNECTION_FAILURE when there was no answer.
 */
extern bool fa_remote_try_send(FaConn *conn, const char *sql);
extern bool fa_remote_try_receive(FaConn *conn, int timeout_ms, char **error_p,
								  int *sqlstate_p);

/*
 * After an error: reads and forgets the rest of the answer, COPY's data too.
 * False when it does not end; never raises.
 */
extern bool fa_remote_try_drain(FaConn *conn, int timeout_ms);

/* Waits for the next result, NULL at the end; raises on a lost connection. */
extern PGresult *fa_remote_get_result(FaConn *conn, int timeout_ms);

/*
 * Waits for all results, and returns the first error among them or else the
 * last; the caller clears it, or raises it by fa_remote_raise().
 */
extern PGresult *fa_remote_last_result(FaConn *conn, int timeout_ms);
extern bool fa_remote_succeeded(PGresult *res);

/* Raises what a failed result says; clears it.  sql may be NULL. */
FA_NORETURN extern void fa_remote_raise(FaConn *conn, PGresult *res,
										const char *sql);

/*
 * For remote_many.c: fa_remote_connect() without its wait; and what it raises.
 * detail NULL: what libpq says.
 */
extern FaConn *fa_remote_connect_start(int node);
FA_NORETURN extern void fa_remote_connect_failed(FaConn *conn,
												 const char *detail);

/*
 * in remote_many.c: several peers at once.  fa_remote_connect() and
 * fa_remote_exec() otherwise; after an error connections may be busy.  nodes is
 * a list of ids, the result one of FaConn in the same order.
 */
extern List *fa_remote_connect_many(List *nodes, int timeout_ms);
extern void fa_remote_exec_many(List *conns, int timeout_ms,
								const char *fmt,...) pg_attribute_printf(3, 4);
/* First column of the first row of each, of char * or NULL. */
extern List *fa_remote_value_many(List *conns, int timeout_ms,
								  const char *fmt,...) pg_attribute_printf(3, 4);

/* in remote_cancel.c */

/*
 * Asks the peer to cancel what runs on a connection, as its user over another
 * connection; true when it has been asked.  Takes timeout_ms at most, and does
 * not serve interrupts (but ends soon when the backend is to).  Never raises,
 * and needs no transaction.
 */
extern bool fa_remote_cancel(FaConn *conn, int timeout_ms);

/*
 * in remote_copy.c: COPY ... TO STDOUT of a peer; statements without a result
 * may be before, between and after several of them
 */
extern void fa_remote_copy_begin(FaConn *conn, int timeout_ms, const char *sql);
/*
 * Next message, into *data_p, to be freed with PQfreemem(): its length, 0 at
 * the end of the data.  Waits for ever, or timeout_ms for each.
 */
extern int	fa_remote_copy_next(FaConn *conn, int timeout_ms, char **data_p);
/*
 * After the end: raises what the peer raised.  True when another COPY of the
 * same SQL begins.
 */
extern bool fa_remote_copy_end(FaConn *conn, int timeout_ms);

#endif							/* FA_NODE_REMOTE_H */
