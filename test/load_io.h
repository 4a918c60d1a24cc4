/*
 * load_io.h
 *	  Options and report of load.c, which includes it after its variables.
 */
static void
report(void)
{
	FILE	   *f = fopen(out_path, "w");
	long		seen = 0;
	long		total = 0;
	int			b;

	if (!f)
	{
		fprintf(stderr, "load: %s: %s\n", out_path, strerror(errno));
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
	for (int k = 0; k < nkeys; k++)
	{
		if (keys[k].other != NONE)
			fprintf(f, "key %lld %lld %lld\n", (long long) key_id(k),
					(long long) keys[k].value, (long long) keys[k].other);
		else if (keys[k].value != ABSENT)
			fprintf(f, "key %lld %lld\n", (long long) key_id(k),
					(long long) keys[k].value);
	}
	fclose(f);
}

static void
open_times(void)
{
	char		path[1024];

	snprintf(path, sizeof(path), "%s.times", out_path);
	if (with_times && !(times = fopen(path, "w")))
	{
		fprintf(stderr, "load: %s: %s\n", path, strerror(errno));
		exit(1);
	}
}

static void
note_time(double ms)
{
	struct timespec ts;

	if (!times)
		return;
	clock_gettime(CLOCK_REALTIME, &ts);
	fprintf(times, "%.6f %.3f\n", ts.tv_sec + ts.tv_nsec / 1e9, ms);
}

static void
parse(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
	{
		const char *a = argv[i];
		const char *v = i + 1 < argc ? argv[i + 1] : "";

		if (strncmp(a, "--", 2) != 0)
		{
			conninfo = a;
			continue;
		}
		i++;
		if (strcmp(a, "--out") == 0)
			out_path = v;
		else if (strcmp(a, "--mode") == 0)
			mode = v;
		else if (strcmp(a, "--table") == 0)
			table = v;
		else if (strcmp(a, "--writer") == 0)
			writer = atoll(v);
		else if (strcmp(a, "--keys") == 0)
			nkeys = atoi(v);
		else if (strcmp(a, "--anchors") == 0)
			nanchors = atoi(v);
		else if (strcmp(a, "--pause") == 0)
			pause_us = atoi(v);
		else if (strcmp(a, "--seed") == 0)
			srand(atoi(v));
		else if (strcmp(a, "--times") == 0)
			with_times = atoi(v) != 0;
		else
			conninfo = out_path = NULL;
	}
	if (!conninfo || !out_path || nkeys < 1 || nkeys > MAX_KEYS)
	{
		fprintf(stderr, "usage: load --out FILE [--mode MODE] [--table NAME] [--writer N]\n"
				"            [--keys N] [--anchors N] [--pause US] [--seed N] [--times 1] CONNINFO\n");
		exit(2);
	}
}

