/*
 * replay.c
 *	  Clients of the demo: replays a schedule of trips as SQL on every node.
 *
 * usage: replay SCHEDULE ACKS CLIENTS START CONNINFO...
 *
 * SCHEDULE has one trip a line, by time: microseconds after START, node
 * (index of its CONNINFO), 'p' for prepared statements or 's' for the simple
 * protocol, station, an existing ride, a new ride, and what to do:
 *
 *	r	read a ride: the existing one, or for every second trip the newest
 *		that any client has been told is committed at that station
 *	u	update the existing ride
 *	i	insert the new ride
 *	t	in one transaction: read the existing one FOR UPDATE, update it,
 *		insert the new one
 *
 * START is seconds since 1970.  A trip waits for a free one of its node's
 * CLIENTS connections; how long is told.  SQLSTATE 40001 rolls back and
 * repeats the operation; any other error, a read that finds no row or an
 * update that changes none is an error of the run.
 *
 * Every statement's latency, from sending it to having read its whole
 * result, goes into the percentiles.  One JSON line each half second, and one
 * at the end.  ACKS then says for each trip which of its operations were
 * acknowledged ('1'), never done ('0') or of unknown outcome ('?').
 */
#define _GNU_SOURCE
#include <errno.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "samples.h"

#define MAX_NODES 16
#define MAX_OPS 4
#define MAX_STATIONS 1024
#define TICK_NS 500000000LL
#define RETRY_NS 5000000LL

typedef long long Time;			/* ns, CLOCK_REALTIME */

typedef struct Trip
{
	Time		due;
	int			node;
	bool		prepared;
	int			station;
	long		old_ride;
	long		new_ride;
	char		ops[MAX_OPS + 1];
	char		acks[MAX_OPS + 1];
} Trip;

typedef enum Statement
{
	ST_READ, ST_READ_LOCK, ST_UPDATE, ST_INSERT, ST_BEGIN, ST_COMMIT,
	ST_ROLLBACK, ST_NONE
} Statement;

typedef struct Client
{
	PGconn	   *pg;
	int			node;
	Trip	   *trip;			/* NULL: free */
	int			op;				/* index into the trip's ops */
	int			step;			/* index into the operation's statements */
	Statement	running;
	Time		sent;
	Time		retry_at;		/* 0: not waiting to retry */
	bool		failed;			/* result so far */
	bool		retry;			/* because of 40001 */
	long		rows;
} Client;

static const char *const sql[] = {
	[ST_READ] = "SELECT bike, uses, note FROM ride "
	"WHERE station = $1 AND ride = $2",
	[ST_READ_LOCK] = "SELECT bike, uses, note FROM ride "
	"WHERE station = $1 AND ride = $2 FOR UPDATE",
	[ST_UPDATE] = "UPDATE ride SET uses = uses + 1 "
	"WHERE station = $1 AND ride = $2",
	[ST_INSERT] = "INSERT INTO ride (station, ride, bike, uses, note) "
	"VALUES ($1, $2, $2::bigint % 700, 0, 'trip')",
};
static const char *const names[] = {"read", "lock", "change", "add"};

static Trip *trips;
static size_t ntrips;
static size_t next_trip[MAX_NODES];
static size_t trips_done;
static Client *clients;
static int	nclients;
static int	nnodes;
static long newest[MAX_STATIONS];	/* acknowledged ride; 0: none */
static Samples latency[MAX_NODES];	/* of statements */
static Samples latency_all;
static Samples response;		/* of trips, from when they were due */
static long statements;			/* on rows: neither BEGIN nor COMMIT */
static long retries;
static long errors;
static volatile sig_atomic_t stop;
static Time count_from;			/* latencies */

static void
die(const char *what)
{
	fprintf(stderr, "replay: %s\n", what);
	exit(1);
}

static void
on_stop(int sig)
{
	(void) sig;
	stop = 1;
}

static Time
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void
note_error(const Client *c, const char *state, const char *message)
{
	errors++;
	fprintf(stderr, "replay: node %d, trip %zu, %.1f s: %s %s\n",
			c->node + 1, c->trip ? (size_t) (c->trip - trips) : 0,
			c->trip ? (now() - trips[0].due) / 1e9 : 0,
			state && *state ? state : "-----", message);
}

static void
read_schedule(const char *path, Time start)
{
	FILE	   *f = fopen(path, "r");
	size_t		room = 0;
	long		us;
	char		protocol;
	Trip		t;

	if (!f)
		die(path);
	memset(&t, 0, sizeof(t));
	while (fscanf(f, "%ld %d %c %d %ld %ld %4s", &us, &t.node, &protocol,
				  &t.station, &t.old_ride, &t.new_ride, t.ops) == 7)
	{
		if (t.node < 0 || t.node >= nnodes || t.station < 0 ||
			t.station >= MAX_STATIONS)
			die("bad schedule");
		t.due = start + us * 1000LL;
		t.prepared = protocol == 'p';
		memset(t.acks, 0, sizeof(t.acks));
		memset(t.acks, '0', strlen(t.ops));
		if (ntrips == room)
		{
			room = room ? 2 * room : 4096;
			trips = grow(trips, room * sizeof(Trip));
		}
		trips[ntrips++] = t;
	}
	if (!feof(f) || ntrips == 0)
		die("bad schedule");
	fclose(f);
}

static void
connect_client(Client *c, int node, const char *conninfo)
{
	c->node = node;
	c->running = ST_NONE;
	c->pg = PQconnectdb(conninfo);
	if (PQstatus(c->pg) != CONNECTION_OK)
		die(PQerrorMessage(c->pg));
	for (int i = ST_READ; i <= ST_INSERT; i++)
	{
		PGresult   *res = PQprepare(c->pg, names[i], sql[i], 0, NULL);

		if (PQresultStatus(res) != PGRES_COMMAND_OK)
			die(PQerrorMessage(c->pg));
		PQclear(res);
	}
	PQsetnonblocking(c->pg, 1);
}

/* The statement of an operation's step; ST_NONE after the last. */
static Statement
statement_of(char op, int step)
{
	static const Statement block[] = {
		ST_BEGIN, ST_READ_LOCK, ST_UPDATE, ST_INSERT, ST_COMMIT
	};

	if (op == 't')
		return step < 5 ? block[step] : ST_NONE;
	if (step > 0)
		return ST_NONE;
	return op == 'r' ? ST_READ : op == 'u' ? ST_UPDATE : ST_INSERT;
}

static void
send_row_statement(Client *c, Statement st, long ride)
{
	Trip	   *t = c->trip;
	char		station[16];
	char		number[24];
	const char *values[2] = {station, number};
	char		text[512];
	char	   *out = text;

	snprintf(station, sizeof(station), "%d", t->station);
	snprintf(number, sizeof(number), "%ld", ride);
	statements++;
	if (t->prepared)
	{
		PQsendQueryPrepared(c->pg, names[st], 2, values, NULL, NULL, 0);
		return;
	}
	for (const char *in = sql[st]; *in; in++)
	{
		if (*in == '$')
			out = stpcpy(out, values[*++in - '1']);
		else
			*out++ = *in;
	}
	*out = '\0';
	PQsendQuery(c->pg, text);
}

static void
send_statement(Client *c, Statement st)
{
	Trip	   *t = c->trip;
	long		ride = t->old_ride;

	if (st == ST_INSERT)
		ride = t->new_ride;
	else if (st == ST_READ && t->new_ride % 2 == 0 && newest[t->station])
		ride = newest[t->station];

	c->running = st;
	c->failed = c->retry = false;
	c->rows = 0;
	c->sent = now();
	if (st == ST_BEGIN)
		PQsendQuery(c->pg, "BEGIN");
	else if (st == ST_COMMIT)
		PQsendQuery(c->pg, "COMMIT");
	else if (st == ST_ROLLBACK)
		PQsendQuery(c->pg, "ROLLBACK");
	else
		send_row_statement(c, st, ride);
}

static void
end_trip(Client *c)
{
	add_sample(&response, (now() - c->trip->due) / 1e6);
	trips_done++;
	c->trip = NULL;
	c->running = ST_NONE;
}

static void
acknowledge(Client *c)
{
	Trip	   *t = c->trip;
	char		op = t->ops[c->op];

	t->acks[c->op] = '1';
	if (op == 'i' || op == 't')
		newest[t->station] = t->new_ride;
}

/* Takes the next step after a statement has ended without success. */
static void
after_failure(Client *c)
{
	Trip	   *t = c->trip;

	if (c->running == ST_COMMIT && !c->retry)
		t->acks[c->op] = '?';
	if (c->running != ST_ROLLBACK &&
		PQtransactionStatus(c->pg) != PQTRANS_IDLE)
	{
		bool		retry = c->retry;

		send_statement(c, ST_ROLLBACK);
		c->retry = retry;
		return;
	}
	c->running = ST_NONE;
	c->step = 0;
	if (c->retry)
		c->retry_at = now() + RETRY_NS;
	else
		end_trip(c);
}

static void
after_success(Client *c)
{
	Trip	   *t = c->trip;
	Statement	st;

	c->step++;
	st = statement_of(t->ops[c->op], c->step);
	if (st == ST_NONE)
	{
		acknowledge(c);
		c->op++;
		c->step = 0;
		if (t->ops[c->op] == '\0')
		{
			end_trip(c);
			return;
		}
		st = statement_of(t->ops[c->op], 0);
	}
	send_statement(c, st);
}

/* The running statement has ended: its result is in the client's fields. */
static void
finish_statement(Client *c)
{
	double		ms = (now() - c->sent) / 1e6;

	add_sample(&latency[c->node], ms);
	add_sample(&latency_all, ms);
	if (c->running == ST_ROLLBACK)
	{
		after_failure(c);
		return;
	}
	if (!c->failed && c->running <= ST_INSERT && c->rows != 1)
	{
		char		text[128];

		snprintf(text, sizeof(text),
				 "%s of ride %ld (newest %ld) at station %d met %ld rows",
				 names[c->running], c->trip->old_ride,
				 newest[c->trip->station], c->trip->station, c->rows);
		note_error(c, "rows", text);
		c->failed = true;
	}
	if (c->failed)
		after_failure(c);
	else
		after_success(c);
}

static void
take_result(Client *c, PGresult *res)
{
	switch (PQresultStatus(res))
	{
		case PGRES_TUPLES_OK:
			c->rows = PQntuples(res);
			break;
		case PGRES_COMMAND_OK:
			c->rows = atol(PQcmdTuples(res));
			/* COMMIT of a failed transaction ends as ROLLBACK. */
			if (c->running == ST_COMMIT &&
				strcmp(PQcmdStatus(res), "COMMIT") != 0)
			{
				c->failed = true;
				note_error(c, "commit", PQcmdStatus(res));
			}
			break;
		default:
			{
				const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);

				c->failed = true;
				c->retry = state && strcmp(state, "40001") == 0;
				if (c->retry)
					retries++;
				else
					note_error(c, state, PQresultErrorMessage(res));
			}
	}
	PQclear(res);
}

static void
lose_client(Client *c)
{
	note_error(c, "lost", PQerrorMessage(c->pg));
	if (c->trip)
	{
		c->trip->acks[c->op] = '?';
		end_trip(c);
	}
	PQfinish(c->pg);
	c->pg = NULL;
}

static void
serve_client(Client *c)
{
	PGresult   *res;

	if (!c->pg)
		return;
	if (!PQconsumeInput(c->pg) || PQstatus(c->pg) != CONNECTION_OK)
	{
		lose_client(c);
		return;
	}
	while (c->running != ST_NONE && !PQisBusy(c->pg))
	{
		res = PQgetResult(c->pg);
		if (res)
			take_result(c, res);
		else
			finish_statement(c);
	}
	PQflush(c->pg);
}

static void
start_client(Client *c)
{
	c->retry_at = 0;
	send_statement(c, statement_of(c->trip->ops[c->op], 0));
	PQflush(c->pg);
}

/* Hands due trips to free clients; returns ms until the next is due. */
static int
dispatch(void)
{
	Time		t = now();
	Time		next = t + 100000000LL;
	bool		full[MAX_NODES] = {false};

	for (int i = 0; i < nclients; i++)
	{
		Client	   *c = &clients[i];
		size_t	   *at = &next_trip[c->node];

		if (!c->pg)
			continue;
		if (c->trip)
		{
			if (c->retry_at && c->retry_at <= t)
				start_client(c);
			else if (c->retry_at && c->retry_at < next)
				next = c->retry_at;
			continue;
		}
		while (*at < ntrips && trips[*at].node != c->node)
			++*at;
		if (*at == ntrips)
			continue;
		if (trips[*at].due > t)
		{
			if (!full[c->node] && trips[*at].due < next)
				next = trips[*at].due;
			full[c->node] = true;
			continue;
		}
		c->trip = &trips[(*at)++];
		c->op = c->step = 0;
		start_client(c);
	}
	return next <= t ? 0 : (int) ((next - t + 999999) / 1000000);
}

static bool
any_alive(void)
{
	for (int i = 0; i < nclients; i++)
		if (clients[i].pg)
			return true;
	return false;
}

static size_t
waiting_trips(Time t)
{
	size_t		n = 0;

	for (int node = 0; node < nnodes; node++)
		for (size_t i = next_trip[node]; i < ntrips && trips[i].due <= t; i++)
			n += trips[i].node == node;
	return n;
}

static void
report(Time start, bool final)
{
	Time		t = now();

	printf("{\"final\":%s,\"seconds\":%.3f,\"trips\":%zu,\"of\":%zu,"
		   "\"waiting\":%zu,\"statements\":%ld,\"retries\":%ld,"
		   "\"errors\":%ld,\"nodes\":[", final ? "true" : "false",
		   (t - start) / 1e9, trips_done, ntrips, waiting_trips(t),
		   statements, retries, errors);
	for (int i = 0; i < nnodes; i++)
	{
		if (i > 0)
			putchar(',');
		print_samples(&latency[i], window(&latency[i], final));
	}
	printf("],\"all\":");
	print_samples(&latency_all, window(&latency_all, final));
	printf(",\"response\":");
	print_samples(&response, window(&response, final));
	printf("}\n");
	fflush(stdout);
}

static void
write_acks(const char *path)
{
	FILE	   *f = fopen(path, "w");

	if (!f)
		die(path);
	for (size_t i = 0; i < ntrips; i++)
		fprintf(f, "%s\n", trips[i].acks);
	if (fclose(f) != 0)
		die(path);
}

static void
run(Time start)
{
	int			ep = epoll_create1(EPOLL_CLOEXEC);
	Time		tick = start + TICK_NS;
	struct epoll_event events[64];

	for (int i = 0; i < nclients; i++)
	{
		struct epoll_event e = {.events = EPOLLIN, .data.ptr = &clients[i]};

		epoll_ctl(ep, EPOLL_CTL_ADD, PQsocket(clients[i].pg), &e);
	}
	while (!stop && trips_done < ntrips && any_alive())
	{
		int			wait = dispatch();
		int			n = epoll_wait(ep, events, 64, wait);
		counting = now() >= count_from;
		for (int i = 0; i < n; i++)
			serve_client(events[i].data.ptr);
		if (now() >= tick)
		{
			report(start, false);
			tick += TICK_NS;
		}
	}
	close(ep);
}

int
main(int argc, char **argv)
{
	struct sigaction act = {.sa_handler = on_stop};
	int			per_node;
	Time		start;
	char	   *end;

	if (argc < 6)
		die("usage: replay SCHEDULE ACKS CLIENTS START[+SECONDS] CONNINFO...");
	per_node = atoi(argv[3]);
	start = (Time) (strtod(argv[4], &end) * 1e9);
	count_from = start + (Time) (strtod(end, NULL) * 1e9);
	nnodes = argc - 5;
	if (per_node < 1 || nnodes > MAX_NODES)
		die("bad number of clients or nodes");
	sigaction(SIGTERM, &act, NULL);
	sigaction(SIGINT, &act, NULL);

	read_schedule(argv[1], start);
	nclients = per_node * nnodes;
	clients = calloc(nclients, sizeof(Client));
	for (int i = 0; i < nclients; i++)
		connect_client(&clients[i], i % nnodes, argv[5 + i % nnodes]);
	run(start);
	report(start, true);
	write_acks(argv[2]);
	for (int i = 0; i < nclients; i++)
		PQfinish(clients[i].pg);
	return stop || errors || trips_done < ntrips ? 1 : 0;
}
