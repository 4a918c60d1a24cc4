/*
 * modes.c
 *	  One operation of each mode.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

void
op_single(bool prepared)
{
	int			k = pick_key();
	int64_t		after;

	if (k >= 0)
	{
		Outcome		outcome = statement(k, keys[k].value, &after, prepared);

		settle(k, after, outcome);
	}
}

/*
 * Several keys in one transaction, each read, written and read again: all or
 * nothing.
 */
void
op_block(void)
{
	int			k[4];
	int64_t		after[4];
	int			n = 0;
	Outcome		outcome;
	PGresult   *res;

	if (!simple("BEGIN"))
		return;
	while (n < 4)
	{
		bool		twice = false;

		k[n] = pick_key();
		for (int i = 0; i < n; i++)
			twice |= k[i] == k[n];
		if (k[n] < 0 || twice)
			break;
		outcome = look(k[n], keys[k[n]].value, rand() % 3 == 0);
		if (outcome == DONE)
			outcome = statement(k[n], keys[k[n]].value, &after[n], rand() % 2);
		if (outcome == DONE && rand() % 2)
		{
			usleep(options.pause_us / 2);
			outcome = look(k[n], after[n], false);
		}
		if (outcome != DONE)
		{
			/* Not committed, so nothing has happened. */
			if (PQstatus(conn) == CONNECTION_OK)
				simple("ROLLBACK");
			return;
		}
		n++;
		/* as a client thinks, with its locks held */
		usleep(options.pause_us / 2);
	}
	res = PQexec(conn, rand() % 10 == 0 ? "ROLLBACK" : "COMMIT");
	outcome = judge(res);
	PQclear(res);
	for (int i = 0; i < n; i++)
		settle(k[i], after[i], outcome);
}

/* Locks in the order of ids, so that transfers make no deadlock. */
static bool
transfer(int from, int to, int amount)
{
	char		sql[512];
	int			first = from < to ? from : to;
	int			second = from < to ? to : from;

	if (rand() % 2)
	{
		snprintf(sql, sizeof(sql), "SELECT n FROM %s WHERE id = %d FOR UPDATE",
				 options.table, first);
		if (!simple(sql))
			return false;
	}
	snprintf(sql, sizeof(sql), "UPDATE %s SET n = n + %d WHERE id = %d",
			 options.table, first == to ? amount : -amount, first);
	if (!simple(sql))
		return false;
	snprintf(sql, sizeof(sql), "UPDATE %s SET n = n + %d WHERE id = %d",
			 options.table, second == to ? amount : -amount, second);
	return simple(sql);
}

void
op_transfer(void)
{
	int			k = pick_key();
	int			from = 1 + rand() % options.nanchors;
	int			to = 1 + (from + rand() % (options.nanchors - 1)) % options.nanchors;
	int64_t		after;
	Outcome		outcome;
	PGresult   *res;

	if (k < 0 || !simple("BEGIN"))
		return;
	outcome = transfer(from, to, 1 + rand() % 100) ?
		statement(k, keys[k].value, &after, false) : REFUSED;
	if (outcome != DONE)
	{
		if (PQstatus(conn) == CONNECTION_OK)
			simple("ROLLBACK");
		return;
	}
	usleep(options.pause_us / 2);
	res = PQexec(conn, rand() % 10 == 0 ? "ROLLBACK" : "COMMIT");
	outcome = judge(res);
	PQclear(res);
	settle(k, after, outcome);
}

void
op_copy(void)
{
	char		sql[256];
	int			k[20];
	int			n = 0;
	PGresult   *res;
	Outcome		outcome;

	while (n < 20)
	{
		int			next = pick_key();
		bool		twice = next < 0 || keys[next].value != ABSENT;

		for (int i = 0; i < n && !twice; i++)
			twice = k[i] == next;
		if (twice)
			break;
		k[n++] = next;
	}
	if (n == 0)
	{
		op_single(false);
		return;
	}
	snprintf(sql, sizeof(sql), "COPY %s (id, n) FROM STDIN", options.table);
	res = PQexec(conn, sql);
	if (PQresultStatus(res) != PGRES_COPY_IN)
	{
		judge(res);
		PQclear(res);
		return;
	}
	PQclear(res);
	for (int i = 0; i < n; i++)
	{
		char		line[64];
		int			len = snprintf(line, sizeof(line), "%lld\t%d\n",
								   (long long) key_id(k[i]), i);

		if (PQputCopyData(conn, line, len) != 1)
			break;
	}
	PQputCopyEnd(conn, NULL);
	res = PQgetResult(conn);
	if (res == NULL)
	{
		note_lost();
		outcome = UNKNOWN;
	}
	else
		outcome = judge(res);
	PQclear(res);
	while ((res = PQgetResult(conn)) != NULL)
		PQclear(res);
	for (int i = 0; i < n; i++)
		settle(k[i], i, outcome);
}

bool
look_at_anchors(void)
{
	char		sql[256];
	char		text[200];
	PGresult   *res;
	Outcome		outcome;
	int			expected = 1;

	if (rand() % 4 == 0)
	{
		snprintf(sql, sizeof(sql), "SELECT id FROM %s WHERE id BETWEEN 1 AND %d",
				 options.table, options.nanchors);
		res = PQexec(conn, sql);
		expected = options.nanchors;
	}
	else
		res = run("sel", 1 + rand() % options.nanchors, 0, rand() % 2);
	outcome = judge(res);
	if (outcome == DONE && PQntuples(res) != expected)
	{
		snprintf(text, sizeof(text), "reader saw %d rows that never change, expected %d",
				 PQntuples(res), expected);
		wrong(text);
	}
	PQclear(res);
	return outcome == DONE;
}

void
op_rr(void)
{
	if (!simple("BEGIN ISOLATION LEVEL REPEATABLE READ"))
		return;
	for (int i = 0; i < 5; i++)
	{
		if (!look_at_anchors())
		{
			if (PQstatus(conn) == CONNECTION_OK)
				simple("ROLLBACK");
			return;
		}
		usleep(options.pause_us);
	}
	simple("COMMIT");
}
