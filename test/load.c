/*
 * load.c
 *	  One client session for tests, which knows what must be in the table.
 *
 * usage: load --out FILE [--mode MODE] [--table NAME] [--writer N]
 *			   [--keys N] [--anchors N] [--pause US] [--seed N] [--times 1] CONNINFO
 *
 * The table has at least (id bigint, n bigint).  A writer works on its own
 * keys, id = N * 1000000 + [1, keys], so that it alone knows their state; it
 * notes every statement that was acknowledged, and for one whose outcome it
 * could not learn both possible states (it then leaves that key alone).
 * Readers look at ids 1 to anchors, which nobody changes: all must be there
 * at every moment.
 *
 * MODE: simple, prepared (insert, update, delete, select of one row each),
 * copy (COPY in, delete), block (several keys in one transaction), transfer
 * (some of n from one anchor to another, and a key of its own, in one
 * transaction: the sum of the anchors stays), reader (anchors: one, and all),
 * rr (the same twice in a REPEATABLE READ transaction: 40001 is allowed there).
 *
 * A lost connection is opened again.  Runs until SIGTERM, then writes FILE:
 *
 *	stat NAME VALUE				ops, errors, lost, retries, max_ms, p99_ms
 *	error SQLSTATE COUNT MESSAGE	what a client should not have seen
 *	wrong TEXT					an answer that cannot be right
 *	key ID VALUE [VALUE]		state(s) the key may have; -1: absent
 *
 * FILE.ops holds the number of operations done so far.  With --times, FILE.times
 * has a line for each: when it ended (Unix time), and how many ms it took.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "libpq-fe.h"

#define MAX_KEYS 100000
#define MAX_ERRORS 50
#define MAX_WRONG 20
#define HANG_SECONDS 90
#define ABSENT (-1)
#define NONE (-2)

typedef struct Key
{
	int64_t		value;			/* ABSENT or n */
	int64_t		other;			/* NONE, or what it is instead */
} Key;

typedef enum Outcome
{
	DONE,						/* acknowledged */
	REFUSED,					/* surely not done */
	UNKNOWN						/* connection lost on the way */
} Outcome;

static const char *out_path;
static const char *mode = "simple";
static const char *table = "t";
static const char *conninfo;
static int64_t writer = 1;
static int	nkeys = 200;
static int	nanchors = 0;
static int	pause_us = 1000;

static Key	keys[MAX_KEYS];
static PGconn *conn;
static volatile sig_atomic_t stop;
static bool unfinished;			/* said the last commit */
static int	ops_fd;
static bool with_times;
static FILE *times;

static long ops;
static long lost;
static long retries;
static long nerrors;
static double max_ms;
static long histogram[200];		/* of log(ms), for the percentile */

static struct
{
	char		state[6];
	long		count;
	char		message[300];
}			errors[MAX_ERRORS];
static int	nkinds;
static char wrongs[MAX_WRONG][300];
static int	nwrongs;

static void
on_term(int sig)
{
	(void) sig;
	stop = 1;
}

/* No statement of ours takes that long: say so and end. */
static void
on_alarm(int sig)
{
	static const char text[] = "wrong no answer for 90 s\n";
	int			fd = open(out_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	(void) sig;
	if (write(fd, text, sizeof(text) - 1) < 0)
		_exit(4);
	_exit(3);
}

static double
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1e3 + ts.tv_nsec / 1e6;
}

static void
wrong(const char *text)
{
	if (nwrongs < MAX_WRONG)
		snprintf(wrongs[nwrongs++], sizeof(wrongs[0]), "%s", text);
}

static void
note_error(const char *state, const char *message)
{
	int			i;

	if (strcmp(mode, "rr") == 0 && strcmp(state, "40001") == 0)
	{
		retries++;
		return;
	}
	nerrors++;
	for (i = 0; i < nkinds; i++)
		if (strcmp(errors[i].state, state) == 0)
			break;
	if (i == MAX_ERRORS)
		return;
	if (i == nkinds)
	{
		nkinds++;
		snprintf(errors[i].state, sizeof(errors[i].state), "%s", state);
		snprintf(errors[i].message, sizeof(errors[i].message), "%s", message);
		for (char *p = errors[i].message; *p; p++)
			if (*p == '\n')
				*p = ' ';
	}
	errors[i].count++;
}

static void
prepare_all(void)
{
	char		sql[512];

	snprintf(sql, sizeof(sql), "INSERT INTO %s (id, n) VALUES ($1, $2)", table);
	PQclear(PQprepare(conn, "ins", sql, 0, NULL));
	snprintf(sql, sizeof(sql), "UPDATE %s SET n = n + 1 WHERE id = $1 RETURNING n", table);
	PQclear(PQprepare(conn, "upd", sql, 0, NULL));
	snprintf(sql, sizeof(sql), "DELETE FROM %s WHERE id = $1 RETURNING n", table);
	PQclear(PQprepare(conn, "del", sql, 0, NULL));
	snprintf(sql, sizeof(sql), "SELECT n FROM %s WHERE id = $1", table);
	PQclear(PQprepare(conn, "sel", sql, 0, NULL));
}

/* Connects until it works or we are told to stop. */
/* A commit that a node which is down will hear of later. */
static void
on_notice(void *arg, const char *message)
{
	(void) arg;
	if (strstr(message, "could not finish transaction"))
		unfinished = true;
}

static bool
reconnect(void)
{
	while (!stop)
	{
		if (conn)
			PQfinish(conn);
		conn = PQconnectdb(conninfo);
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

static Outcome
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
		lost++;
		return UNKNOWN;
	}
	note_error(state, PQresultErrorMessage(res));
	/* A node lost its peer, or the server goes down: either may have happened. */
	if (strncmp(state, "08", 2) == 0 || strncmp(state, "57P0", 4) == 0 ||
		strcmp(state, "40003") == 0)
		return UNKNOWN;
	return REFUSED;
}

static PGresult *
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
				 table, idtext, ntext);
	else if (strcmp(name, "upd") == 0)
		snprintf(sql, sizeof(sql), "UPDATE %s SET n = n + 1 WHERE id = %s RETURNING n",
				 table, idtext);
	else if (strcmp(name, "del") == 0)
		snprintf(sql, sizeof(sql), "DELETE FROM %s WHERE id = %s RETURNING n",
				 table, idtext);
	else
		snprintf(sql, sizeof(sql), "SELECT n FROM %s WHERE id = %s", table, idtext);
	return PQexec(conn, sql);
}

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

static int64_t
key_id(int k)
{
	return writer * 1000000 + k + 1;
}

/* A key whose state is certain; -1 when a few tries found none. */
static int
pick_key(void)
{
	for (int tries = 0; tries < 50; tries++)
	{
		int			k = rand() % nkeys;

		if (keys[k].other == NONE)
			return k;
	}
	return -1;
}

/*
 * One statement on a key; *after_p is the state that it leads to.  With an
 * answer at hand it is checked.
 */
static Outcome
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

static void
settle(int k, int64_t after, Outcome outcome)
{
	if (outcome == DONE && unfinished)
		outcome = UNKNOWN;
	if (outcome == DONE)
		keys[k].value = after;
	else if (outcome == UNKNOWN && after != keys[k].value)
		keys[k].other = after;
}

static void
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

static bool
simple(const char *sql)
{
	PGresult   *res = PQexec(conn, sql);
	Outcome		outcome = judge(res);

	PQclear(res);
	return outcome == DONE;
}

/* The row as this transaction must see it, its own writes included. */
static Outcome
look(int k, int64_t expected, bool lock)
{
	char		sql[256];
	PGresult   *res;
	Outcome		outcome;

	snprintf(sql, sizeof(sql), "SELECT n FROM %s WHERE id = %lld%s", table,
			 (long long) key_id(k), lock ? " FOR UPDATE" : "");
	res = PQexec(conn, sql);
	outcome = judge(res);
	if (outcome == DONE)
		check_answer(lock ? "locking read" : "own read", key_id(k), expected, res);
	PQclear(res);
	return outcome;
}

/*
 * Several keys in one transaction, each read, written and read again: all or
 * nothing.
 */
static void
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
			usleep(pause_us / 2);
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
		usleep(pause_us / 2);
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
				 table, first);
		if (!simple(sql))
			return false;
	}
	snprintf(sql, sizeof(sql), "UPDATE %s SET n = n + %d WHERE id = %d",
			 table, first == to ? amount : -amount, first);
	if (!simple(sql))
		return false;
	snprintf(sql, sizeof(sql), "UPDATE %s SET n = n + %d WHERE id = %d",
			 table, second == to ? amount : -amount, second);
	return simple(sql);
}

static void
op_transfer(void)
{
	int			k = pick_key();
	int			from = 1 + rand() % nanchors;
	int			to = 1 + (from + rand() % (nanchors - 1)) % nanchors;
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
	usleep(pause_us / 2);
	res = PQexec(conn, rand() % 10 == 0 ? "ROLLBACK" : "COMMIT");
	outcome = judge(res);
	PQclear(res);
	settle(k, after, outcome);
}

static void
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
	snprintf(sql, sizeof(sql), "COPY %s (id, n) FROM STDIN", table);
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
		lost++;
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

static bool
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
				 table, nanchors);
		res = PQexec(conn, sql);
		expected = nanchors;
	}
	else
		res = run("sel", 1 + rand() % nanchors, 0, rand() % 2);
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

static void
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
		usleep(pause_us);
	}
	simple("COMMIT");
}

#include "load_io.h"

static void
operate(void)
{
	unfinished = false;
	if (strcmp(mode, "prepared") == 0)
		op_single(true);
	else if (strcmp(mode, "copy") == 0)
		op_copy();
	else if (strcmp(mode, "block") == 0)
		op_block();
	else if (strcmp(mode, "transfer") == 0)
		op_transfer();
	else if (strcmp(mode, "reader") == 0)
		look_at_anchors();
	else if (strcmp(mode, "rr") == 0)
		op_rr();
	else
		op_single(false);
}

int
main(int argc, char **argv)
{
	struct sigaction term = {.sa_handler = on_term, .sa_flags = SA_RESTART};
	char		ops_path[1024];

	parse(argc, argv);
	sigaction(SIGTERM, &term, NULL);
	signal(SIGALRM, on_alarm);
	signal(SIGPIPE, SIG_IGN);
	snprintf(ops_path, sizeof(ops_path), "%s.ops", out_path);
	ops_fd = open(ops_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	open_times();
	for (int k = 0; k < nkeys; k++)
		keys[k] = (Key) {ABSENT, NONE};

	while (!stop)
	{
		double		start;
		double		ms;
		char		text[24];
		int			bin;

		if ((!conn || PQstatus(conn) != CONNECTION_OK) && !reconnect())
			break;
		alarm(HANG_SECONDS);
		start = now_ms();
		operate();
		ms = now_ms() - start;
		alarm(0);
		if (strcmp(mode, "rr") != 0)
		{
			bin = ms > 0.003 ? 60 + (int) floor(log(ms) * 10) : 0;
			histogram[bin < 0 ? 0 : bin > 199 ? 199 : bin]++;
			if (ms > max_ms)
				max_ms = ms;
		}
		note_time(ms);
		ops++;
		if (pwrite(ops_fd, text, snprintf(text, sizeof(text), "%ld\n", ops), 0) < 0)
			break;
		usleep(pause_us);
	}
	if (conn)
		PQfinish(conn);
	if (times)
		fclose(times);
	report();
	return 0;
}
