/*
 * report.c
 *	  Options, what was seen, and the files that say so.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "load.h"

#define MAX_ERRORS 50
#define MAX_WRONG 20

Options		options = {.mode = "simple",.table = "t",.writer = 1,.nkeys = 200,.pause_us = 1000};

static int	ops_fd;
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

void
parse(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
	{
		const char *a = argv[i];
		const char *v = i + 1 < argc ? argv[i + 1] : "";

		if (strncmp(a, "--", 2) != 0)
		{
			options.conninfo = a;
			continue;
		}
		i++;
		if (strcmp(a, "--out") == 0)
			options.out_path = v;
		else if (strcmp(a, "--mode") == 0)
			options.mode = v;
		else if (strcmp(a, "--table") == 0)
			options.table = v;
		else if (strcmp(a, "--writer") == 0)
			options.writer = atoll(v);
		else if (strcmp(a, "--keys") == 0)
			options.nkeys = atoi(v);
		else if (strcmp(a, "--anchors") == 0)
			options.nanchors = atoi(v);
		else if (strcmp(a, "--pause") == 0)
			options.pause_us = atoi(v);
		else if (strcmp(a, "--seed") == 0)
			srand(atoi(v));
		else if (strcmp(a, "--times") == 0)
			options.with_times = atoi(v) != 0;
		else
			options.conninfo = options.out_path = NULL;
	}
	if (!options.conninfo || !options.out_path || options.nkeys < 1 || options.nkeys > MAX_KEYS)
	{
		fprintf(stderr, "usage: load --out FILE [--mode MODE] [--table NAME] [--writer N]\n"
				"            [--keys N] [--anchors N] [--pause US] [--seed N] [--times 1] CONNINFO\n");
		exit(2);
	}
}

void
wrong(const char *text)
{
	if (nwrongs < MAX_WRONG)
		snprintf(wrongs[nwrongs++], sizeof(wrongs[0]), "%s", text);
}

void
note_error(const char *state, const char *message)
{
	int			i;

	if (strcmp(options.mode, "rr") == 0 && strcmp(state, "40001") == 0)
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

void
note_lost(void)
{
	lost++;
}

void
open_files(void)
{
	char		path[1024];

	snprintf(path, sizeof(path), "%s.ops", options.out_path);
	ops_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
	snprintf(path, sizeof(path), "%s.times", options.out_path);
	if (options.with_times && !(times = fopen(path, "w")))
	{
		fprintf(stderr, "load: %s: %s\n", path, strerror(errno));
		exit(1);
	}
}

bool
note_operation(double ms)
{
	char		text[24];
	struct timespec ts;

	if (strcmp(options.mode, "rr") != 0)
	{
		int			bin = ms > 0.003 ? 60 + (int) floor(log(ms) * 10) : 0;

		histogram[bin < 0 ? 0 : bin > 199 ? 199 : bin]++;
		if (ms > max_ms)
			max_ms = ms;
	}
	if (times)
	{
		clock_gettime(CLOCK_REALTIME, &ts);
		fprintf(times, "%.6f %.3f\n", ts.tv_sec + ts.tv_nsec / 1e9, ms);
	}
	ops++;
	return pwrite(ops_fd, text, snprintf(text, sizeof(text), "%ld\n", ops), 0) > 0;
}

void
report(void)
{
	FILE	   *f = fopen(options.out_path, "w");
	long		seen = 0;
	long		total = 0;
	int			b;

	if (!f)
	{
		fprintf(stderr, "load: %s: %s\n", options.out_path, strerror(errno));
		exit(1);
	}
	for (b = 0; b < 200; b++)
		total += histogram[b];
	for (b = 0; b < 199 && (seen += histogram[b]) < total * 0.99; b++)
		 /* find the bin */ ;
	fprintf(f, "stat ops %ld\nstat errors %ld\nstat lost %ld\nstat retries %ld\n"
			"stat max_ms %.1f\nstat p99_ms %.2f\n", ops, nerrors, lost, retries,
			max_ms, exp((b - 59) / 10.0));
	for (int i = 0; i < nkinds; i++)
		fprintf(f, "error %s %ld %s\n", errors[i].state, errors[i].count,
				errors[i].message);
	for (int i = 0; i < nwrongs; i++)
		fprintf(f, "wrong %s\n", wrongs[i]);
	for (int k = 0; k < options.nkeys; k++)
	{
		if (keys[k].other != NONE)
			fprintf(f, "key %lld %lld %lld\n", (long long) key_id(k),
					(long long) keys[k].value, (long long) keys[k].other);
		else if (keys[k].value != ABSENT)
			fprintf(f, "key %lld %lld\n", (long long) key_id(k),
					(long long) keys[k].value);
	}
	fclose(f);
	if (times)
		fclose(times);
}
