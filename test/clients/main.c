/*
 * main.c
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
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define HANG_SECONDS 90

volatile sig_atomic_t stop;

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
	int			fd = open(options.out_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

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
operate(void)
{
	unfinished = false;
	if (strcmp(options.mode, "prepared") == 0)
		op_single(true);
	else if (strcmp(options.mode, "copy") == 0)
		op_copy();
	else if (strcmp(options.mode, "block") == 0)
		op_block();
	else if (strcmp(options.mode, "transfer") == 0)
		op_transfer();
	else if (strcmp(options.mode, "reader") == 0)
		look_at_anchors();
	else if (strcmp(options.mode, "rr") == 0)
		op_rr();
	else
		op_single(false);
}

int
main(int argc, char **argv)
{
	struct sigaction term = {.sa_handler = on_term, .sa_flags = SA_RESTART};

	parse(argc, argv);
	sigaction(SIGTERM, &term, NULL);
	signal(SIGALRM, on_alarm);
	signal(SIGPIPE, SIG_IGN);
	open_files();
	for (int k = 0; k < options.nkeys; k++)
		keys[k] = (Key) {ABSENT, NONE};

	while (!stop)
	{
		double		start;
		double		ms;

		if ((!conn || PQstatus(conn) != CONNECTION_OK) && !reconnect())
			break;
		alarm(HANG_SECONDS);
		start = now_ms();
		operate();
		ms = now_ms() - start;
		alarm(0);
		if (!note_operation(ms))
			break;
		usleep(options.pause_us);
	}
	if (conn)
		PQfinish(conn);
	report();
	return 0;
}
