/*
 * fa_compat.h
 *	  Every difference between the supported server versions (15 to 18).
 *
 * This is the only file that tests PG_VERSION_NUM.  Each entry names the
 * upstream change it bridges.
 */
#ifndef FA_CORE_FA_COMPAT_H
#define FA_CORE_FA_COMPAT_H

#include "access/heapam.h"
#include "executor/executor.h"
#include "storage/backendid.h"
#include "storage/proc.h"

#if PG_VERSION_NUM < 150000
#error "fragaffinity needs PostgreSQL 15 or later"
#endif

/* 16 split table_open's permission data into RTEPermissionInfo. */
#if PG_VERSION_NUM >= 160000
#define FA_HAS_PERMINFO 1
#endif

/* 17 renamed BackendId to ProcNumber (and made it zero-based). */
#if PG_VERSION_NUM >= 170000
#define fa_my_proc_number() ((int) MyProcNumber)
#else
#define fa_my_proc_number() ((int) MyProc->pgprocno)
#endif

/* 18 removed ExecutorRun's execute_once. */
#if PG_VERSION_NUM >= 180000
#define FA_EXECUTOR_RUN_PARAMS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count
#define FA_EXECUTOR_RUN_ARGS queryDesc, direction, count
#else
#define FA_EXECUTOR_RUN_PARAMS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count, \
	bool execute_once
#define FA_EXECUTOR_RUN_ARGS queryDesc, direction, count, execute_once
#endif

#endif							/* FA_CORE_FA_COMPAT_H */
