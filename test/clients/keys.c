/*
 * keys.c
 *	  The writer's own rows: what is known of them, and statements that change it.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"

Key			keys[MAX_KEYS];

/* Does the answer fit what we know of the key? */
static void
check_answer(const char *name, int64_t id, int64_t expected, PGresult *res)
{
	char		text[200];
	const char *got = PQntuples(res) > 0 ? PQgetvalue(res, 0, 0) : "no row";

	if (expected == ABSENT ? PQntuples(res) == 0 :
		(PQntuples(res) == 1 && atoll(got) == expected))
		return;
	snprintf(text, sizeof(text), "%s of id %lld: got %s (%d rows), expected %lld",
			 name, (long long) id, got, PQntuples(res), (long long) expected);
	wrong(text);
}

int64_t
key_id(int k)
{
	return options.writer * 1000000 + k + 1;
}

int
pick_key(void)
{
	for (int tries = 0; tries < 50; tries++)
	{
		int			k = rand() % options.nkeys;

		if (keys[k].other == NONE)
			return k;
	}
	return -1;
}

Outcome
statement(int k, int64_t before, int64_t *after_p, bool prepared)
{
	const char *name;
	PGresult   *res;
	Outcome		outcome;
	int64_t		answer;
	int			what = rand() % 10;

	if (what < 2)
	{
		name = "sel";
		*after_p = answer = before;
	}
	else if (before == ABSENT)
	{
		name = "ins";
		*after_p = rand() % 1000;
		answer = NONE;
	}
	else if (what < 8)
	{
		name = "upd";
		*after_p = answer = before + 1;
	}
	else
	{
		name = "del";
		*after_p = ABSENT;
		answer = before;
	}
	res = run(name, key_id(k), *after_p, prepared);
	outcome = judge(res);
	if (outcome == DONE && answer != NONE)
		check_answer(name, key_id(k), answer, res);
	else if (outcome == DONE && atoi(PQcmdTuples(res)) != 1)
		wrong("insert of one row did not report one row");
	PQclear(res);
	return outcome;
}

Outcome
look(int k, int64_t expected, bool lock)
{
	char		sql[256];
	PGresult   *res;
	Outcome		outcome;

	snprintf(sql, sizeof(sql), "SELECT n FROM %s WHERE id = %lld%s", options.table,
			 (long long) key_id(k), lock ? " FOR UPDATE" : "");
	res = PQexec(conn, sql);
	outcome = judge(res);
	if (outcome == DONE)
		check_answer(lock ? "locking read" : "own read", key_id(k), expected, res);
	PQclear(res);
	return outcome;
}

void
settle(int k, int64_t after, Outcome outcome)
{
	if (outcome == DONE && unfinished)
		outcome = UNKNOWN;
	if (outcome == DONE)
		keys[k].value = after;
	else if (outcome == UNKNOWN && after != keys[k].value)
		keys[k].other = after;
}
