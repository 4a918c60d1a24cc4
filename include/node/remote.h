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
 * libpq's keywords and values towards a node, NULL-terminated, at most
 * FA_MAX_KEYWORDS; for callers that connect by themselves.
 */
#define FA_MAX_KEYWORDS 64
extern int	fa_remote_keywords(int node, bool replication,
							   const char **keywords, const char **values);

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

/* fa_remote_exec in two halves, with other work between them. */
extern void fa_remote_send(FaConn *conn, const char *sql);
extern void fa_remote_receive(FaConn *conn, int timeout_ms);

/*
 * As fa_remote_exec but never raises: false on any failure (the connection
 * may then be unusable), the message in *error_p (palloc'd) if wanted.
 */
extern bool fa_remote_try(FaConn *conn, int timeout_ms, char **error_p,
						  const char *fmt,...) pg_attribute_printf(4, 5);

/* Waits for the next result, NULL at the end; raises on a lost connection. */
extern PGresult *fa_remote_get_result(FaConn *conn, int timeout_ms);

/* Raises what a failed result says; clears it.  sql may be NULL. */
FA_NORETURN extern void fa_remote_raise(FaConn *conn, PGresult *res,
										const char *sql);

#endif							/* FA_NODE_REMOTE_H */
