/*
 * session.c
 *	  The connection, and what became of its statements.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

PGconn	   *conn;
bool		unfinished;

static void
prepare_all(void)
{
	char		sql[512];

	snprintf(sql, sizeof(sql), "INSERT INTO %s (id, n) VALUES ($1, $2)", options.table);
	PQclear(PQprepare(conn, "ins", sql, 0, NULL));
	snprintf(sql, sizeof(sql), "UPDATE %s SET n = n + 1 WHERE id = $1 RETURNING n", options.table);
	PQclear(PQprepare(conn, "upd", sql, 0, NULL));
	snprintf(sql, sizeof(sql), "DELETE FROM %s WHERE id = $1 RETURNING n", options.table);
	PQclear(PQprepare(conn, "del", sql, 0, NULL));
	snprintf(sql, sizeof(sql), "SELECT n FROM %s WHERE id = $1", options.table);
	PQclear(PQprepare(conn, "sel", sql, 0, NULL));
}

/* A commit that a node which is down will hear of later. */
static void
on_notice(void *arg, const char *message)
{
	(void) arg;
	if (strstr(message, "could not finish transaction"))
		unfinished = true;
}

bool
reconnect(void)
{
	while (!stop)
	{
		if (conn)
			PQfinish(conn);
		conn = PQconnectdb(options.conninfo);
		if (PQstatus(conn) == CONNECTION_OK)
		{
			PQsetNoticeProcessor(conn, on_notice, NULL);
			prepare_all();
			return true;
		}
		usleep(50000);
	}
	return false;
}

Outcome
judge(PGresult *res)
{
	const char *state;

	switch (PQresultStatus(res))
	{
		case PGRES_COMMAND_OK:
			/* COMMIT of a failed transaction answers ROLLBACK. */
			return strcmp(PQcmdStatus(res), "ROLLBACK") == 0 ? REFUSED : DONE;
		case PGRES_TUPLES_OK:
			return DONE;
		default:
			break;
	}
	state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
	if (PQstatus(conn) != CONNECTION_OK || !state)
	{
		note_lost();
		return UNKNOWN;
	}
	note_error(state, PQresultErrorMessage(res));
	/* A node lost its peer, or the server goes down: either may have happened. */
	if (strncmp(state, "08", 2) == 0 || strncmp(state, "57P0", 4) == 0 ||
		strcmp(state, "40003") == 0)
		return UNKNOWN;
	return REFUSED;
}

PGresult *
run(const char *name, int64_t id, int64_t n, bool prepared)
{
	char		sql[512];
	char		idtext[24];
	char		ntext[24];
	const char *values[2] = {idtext, ntext};

	snprintf(idtext, sizeof(idtext), "%lld", (long long) id);
	snprintf(ntext, sizeof(ntext), "%lld", (long long) n);
	if (prepared)
		return PQexecPrepared(conn, name, strcmp(name, "ins") == 0 ? 2 : 1,
							  values, NULL, NULL, 0);
	if (strcmp(name, "ins") == 0)
		snprintf(sql, sizeof(sql), "INSERT INTO %s (id, n) VALUES (%s, %s)",
				 options.table, idtext, ntext);
	else if (strcmp(name, "upd") == 0)
		snprintf(sql, sizeof(sql), "UPDATE %s SET n = n + 1 WHERE id = %s RETURNING n",
				 options.table, idtext);
	else if (strcmp(name, "del") == 0)
		snprintf(sql, sizeof(sql), "DELETE FROM %s WHERE id = %s RETURNING n",
				 options.table, idtext);
	else
		snprintf(sql, sizeof(sql), "SELECT n FROM %s WHERE id = %s", options.table, idtext);
	return PQexec(conn, sql);
}

bool
simple(const char *sql)
{
	PGresult   *res = PQexec(conn, sql);
	Outcome		outcome = judge(res);

	PQclear(res);
	return outcome == DONE;
}
