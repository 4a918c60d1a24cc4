/*
 * stats.c
 *	  Counters of each transport at this server, and of its RDMA devices.
 *
 * A sender's channel tells of what it has done with each post, a receiver's
 * when it waits and when it has all that it asked for; so a move that takes
 * hours is seen while it goes.  The sender's process may end without a word.
 */
#include "postgres.h"

#include <dirent.h>

#include "fmgr.h"
#include "funcapi.h"
#include "utils/builtins.h"

#include "core/fa_compat.h"
#include "transport/transport_stats.h"

#define MAX_TRANSPORTS	8
#define DEVICES			"/sys/class/infiniband"

typedef struct FaTransportStats
{
	pg_atomic_uint64 counter[MAX_TRANSPORTS][FA_TRANSPORT_NCOUNTERS];
} FaTransportStats;

static FaTransportStats *stats = NULL;

static Size
stats_size(void)
{
	return sizeof(FaTransportStats);
}

static void
stats_init(void *ptr, bool found)
{
	stats = ptr;
	for (int i = 0; i < MAX_TRANSPORTS && !found; i++)
	{
		for (int k = 0; k < FA_TRANSPORT_NCOUNTERS; k++)
			pg_atomic_init_u64(&stats->counter[i][k], 0);
	}
}

const FaShmemPart fa_transport_stats_part = {
	"fragaffinity transport counters", stats_size, stats_init
};

static void
stats_add(const FaChannel *channel, FaTransportCounter counter, uint64 n)
{
	const FaTransportOps *ops;

	for (int i = 0; stats && i < MAX_TRANSPORTS &&
		 (ops = fa_transport_at(i)) != NULL; i++)
	{
		if (strcmp(ops->name, channel->ops->name) == 0)
			pg_atomic_fetch_add_u64(&stats->counter[i][counter], n);
	}
}

void
fa_transport_count(const FaChannel *channel, FaTransportCounter counter)
{
	stats_add(channel, counter, 1);
}

void
fa_transport_tell(FaChannel *channel)
{
	bool		receiver = channel->receiver;
	const uint64 now[FA_TRANSPORT_NCOUNTERS] = {
		[FA_TRANSPORT_MESSAGES_SENT] = receiver ? 0 : channel->messages,
		[FA_TRANSPORT_BYTES_SENT] = receiver ? 0 : channel->bytes,
		[FA_TRANSPORT_GATHERED] = receiver ? 0 : channel->gathered,
		[FA_TRANSPORT_WRITES] = receiver ? 0 : channel->writes,
		[FA_TRANSPORT_COMPLETIONS] = receiver ? 0 : channel->completions,
		[FA_TRANSPORT_MESSAGES_RECEIVED] = receiver ? channel->messages : 0,
		[FA_TRANSPORT_BYTES_RECEIVED] = receiver ? channel->bytes : 0,
		[FA_TRANSPORT_WAITS] = channel->waits
	};

	for (int i = 0; i < FA_TRANSPORT_NCOUNTERS && !channel->wrapped; i++)
	{
		if (now[i] > channel->told[i])
			stats_add(channel, i, now[i] - channel->told[i]);
		channel->told[i] = Max(channel->told[i], now[i]);
	}
}

PG_FUNCTION_INFO_V1(fa_sql_transport_counters);
PG_FUNCTION_INFO_V1(fa_sql_rdma_counters);

/* transport_counters(OUT transport, ...): then one column for each */
Datum
fa_sql_transport_counters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const FaTransportOps *ops;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; (ops = fa_transport_at(i)) != NULL; i++)
	{
		Datum		values[FA_TRANSPORT_NCOUNTERS + 1];
		bool		nulls[FA_TRANSPORT_NCOUNTERS + 1] = {false};

		values[0] = CStringGetTextDatum(ops->name);
		for (int k = 0; k < FA_TRANSPORT_NCOUNTERS; k++)
			values[k + 1] = Int64GetDatum(stats && i < MAX_TRANSPORTS ?
										  (int64) pg_atomic_read_u64(&stats->counter[i][k]) : 0);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}

/* Names in a folder, none of which is hidden; none where there is no folder. */
static List *
counters_list(const char *folder)
{
	DIR		   *dir = opendir(folder);
	struct dirent *entry;
	List	   *names = NIL;

	while (dir && (entry = readdir(dir)) != NULL)
	{
		if (entry->d_name[0] != '.')
			names = lappend(names, pstrdup(entry->d_name));
	}
	if (dir)
		(void) closedir(dir);
	return names;
}

/* The number in a file; false when it has none, as what only resets has. */
static bool
counters_read(const char *path, int64 *value_p)
{
	FILE	   *file = fopen(path, "r");
	bool		read = file && fscanf(file, INT64_FORMAT, value_p) == 1;

	if (file)
		(void) fclose(file);
	return read;
}

static void
counters_of_port(ReturnSetInfo *rsinfo, const char *device, const char *port)
{
	char	   *folder = psprintf(DEVICES "/%s/ports/%s/hw_counters", device,
								  port);
	ListCell   *lc;

	foreach(lc, counters_list(folder))
	{
		int64		value;
		Datum		values[4];
		bool		nulls[4] = {false};

		if (!counters_read(psprintf("%s/%s", folder, (char *) lfirst(lc)),
						   &value))
			continue;
		values[0] = CStringGetTextDatum(device);
		values[1] = Int32GetDatum(atoi(port));
		values[2] = CStringGetTextDatum(lfirst(lc));
		values[3] = Int64GetDatum(value);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
}

/* rdma_counters(OUT device, OUT port, OUT counter, OUT value) */
Datum
fa_sql_rdma_counters(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	ListCell   *device;
	ListCell   *port;

	InitMaterializedSRF(fcinfo, 0);
	foreach(device, counters_list(DEVICES))
	{
		foreach(port, counters_list(psprintf(DEVICES "/%s/ports",
											 (char *) lfirst(device))))
			counters_of_port(rsinfo, lfirst(device), lfirst(port));
	}
	return (Datum) 0;
}
