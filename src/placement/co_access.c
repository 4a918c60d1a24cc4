/*
 * co_access.c
 *	  Has pairs of fragments found that sessions use together.
 *
 * The transitions of all nodes say which fragment sessions touch after which;
 * a statement about several touches one after the other.  A function in SQL
 * finds the pairs in them, whose memory is work_mem's; their number is that
 * of the fragments at most, as only one fragment can be what mostly comes
 * before another, or after it.
 *
 * With many transitions that takes half a minute, for which decisions must not
 * wait.  So the coordinator's worker has a process do it, one at a time: every
 * LOOK_STEPS steps, after a rest of REST times as long as the last one ran.
 * What it has not committed when it ends is found by the next.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/background.h"
#include "core/settings.h"
#include "core/spi.h"
#include "placement/group.h"

#define LOOK_STEPS 5
#define REST 100

PGDLLEXPORT void fa_pairing_main(Datum arg);

/* As an array's text: the tables that are looked at. */
static char *
co_access_tables(void)
{
	FaRows	   *rows = fa_spi_rows("SELECT table_id FROM fragaffinity.distributed_table");
	char	   *list = "";

	for (int i = 0; i < rows->nrows; i++)
	{
		if (strcmp(fa_setting_text("co_access", atoi(rows->value[i][0])), "off") != 0)
			list = psprintf("%s%s%s", list, list[0] ? "," : "", rows->value[i][0]);
	}
	return list;
}

/* The process that looks, once. */
void
fa_pairing_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(arg), InvalidOid, 0);
	fa_background_session();
	fa_background_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	(void) fa_spi_rows("SELECT fragaffinity.find_co_access(%.6g, %.6g, %.6g, '{%s}')",
					   fa_setting_float("co_access_share", 0),
					   fa_setting_float("co_access_weight", 0),
					   fa_setting_float("transition_half_life", 0),
					   co_access_tables());
	PopActiveSnapshot();
	CommitTransactionCommand();
	proc_exit(0);
}

/* Palloc'd in TopMemoryContext; NULL: no process is left for it. */
static BackgroundWorkerHandle *
pairing_start(void)
{
	MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle = NULL;

	fa_background_describe(&worker, "fa_pairing_main", "fragaffinity pairing",
						   ObjectIdGetDatum(MyDatabaseId));
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
	{
		handle = NULL;
		ereport(LOG,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no worker process left to find fragments that are used together"),
				 errhint("Increase max_worker_processes.")));
	}
	MemoryContextSwitchTo(old);
	return handle;
}

void
fa_co_access_look(const FaForecaster *f)
{
	static BackgroundWorkerHandle *running = NULL;
	static TimestampTz began = 0;
	static TimestampTz next = 0;
	TimestampTz now = GetCurrentTimestamp();
	pid_t		pid;

	if (running)
	{
		BgwHandleStatus status = GetBackgroundWorkerPid(running, &pid);

		if (status == BGWH_STARTED || status == BGWH_NOT_YET_STARTED)
			return;
		pfree(running);
		running = NULL;
		next = now + Max(LOOK_STEPS * f->width_us, REST * (now - began));
	}
	/* the clock may have been set back */
	if (now < next && now >= began)
		return;
	began = now;
	next = now + LOOK_STEPS * f->width_us;
	running = pairing_start();
}
