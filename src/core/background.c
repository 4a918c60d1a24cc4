/*
 * background.c
 *	  Starting our background workers; see background.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_extension.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "utils/guc.h"

#include "core/background.h"

void
fa_background_describe(BackgroundWorker *worker, const char *function,
					   const char *type, Datum arg)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS |
		BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	worker->bgw_main_arg = arg;
	strlcpy(worker->bgw_library_name, "fragaffinity",
			sizeof(worker->bgw_library_name));
	strlcpy(worker->bgw_function_name, function,
			sizeof(worker->bgw_function_name));
	strlcpy(worker->bgw_name, type, sizeof(worker->bgw_name));
	strlcpy(worker->bgw_type, type, sizeof(worker->bgw_type));
}

bool
fa_background_start(BackgroundWorker *worker,
					BackgroundWorkerHandle **handle_p)
{
	pid_t		pid;

	worker->bgw_notify_pid = MyProcPid;
	if (!RegisterDynamicBackgroundWorker(worker, handle_p))
		return false;
	if (WaitForBackgroundWorkerStartup(*handle_p, &pid) == BGWH_POSTMASTER_DIED)
		proc_exit(1);
	return true;
}

void
fa_background_session(void)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"fragaffinity.maintenance", "on"},
		{"fragaffinity.capture", "off"},
		{"synchronous_commit", "on"},
		{"statement_timeout", "0"},
		{"lock_timeout", "0"},
		{"idle_in_transaction_session_timeout", "0"},
		{"datestyle", "ISO"},
		{"intervalstyle", "postgres"},
		{"quote_all_identifiers", "off"},
		{"standard_conforming_strings", "on"},
		{"array_nulls", "on"},
		{"transform_null_equals", "off"},
		{"jit", "off"}
	};

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET,
						PGC_S_OVERRIDE);
}

void
fa_background_begin(void)
{
	Oid			extension;

	StartTransactionCommand();
	extension = get_extension_oid("fragaffinity", true);
	if (OidIsValid(extension))
	{
		LockDatabaseObject(ExtensionRelationId, extension, 0, AccessShareLock);
		/* it may have been dropped while we waited */
		if (get_extension_oid("fragaffinity", true) != extension)
			extension = InvalidOid;
	}
	if (!OidIsValid(extension))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("extension \"fragaffinity\" does not exist")));
}
