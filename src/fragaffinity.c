/*
 * fragaffinity.c
 *	  Entry of the library.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"

#include "capture/capture.h"
#include "catalog/map.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "migrate/move.h"
#include "node/cluster_xact.h"
#include "node/deadlock.h"
#include "node/fdw_as_of.h"
#include "node/node.h"
#include "node/peer_use.h"
#include "node/session.h"
#include "node/vouch.h"
#include "node/xact_stats.h"
#include "route/ddl_guard.h"
#include "route/peer_error.h"
#include "route/route.h"
#include "route/row_security.h"
#include "transport/transport_stats.h"
#include "worker/worker.h"

PG_MODULE_MAGIC;

PGDLLEXPORT void _PG_init(void);

/*
 * Without shared_preload_libraries there is no shared memory and no worker;
 * functions that need them say so when called.
 */
void
_PG_init(void)
{
	if (IsBinaryUpgrade || !process_shared_preload_libraries_in_progress)
		return;
	fa_guc_define();
	fa_shmem_register(&fa_slots_part);
	fa_shmem_register(&fa_health_part);
	fa_shmem_register(&fa_forward_part);
	fa_shmem_register(&fa_peer_use_part);
	fa_shmem_register(&fa_vouch_part);
	fa_shmem_register(&fa_xact_stats_part);
	fa_shmem_register(&fa_transport_stats_part);
	fa_shmem_register(&fa_deadlock_part);
	fa_shmem_register(&fa_map_part);
	fa_shmem_register(&fa_mover_part);
	fa_shmem_register(&fa_announce_part);
	fa_shmem_register(&fa_worker_part);
	fa_capture_init();
	fa_shmem_install_hooks();
	fa_map_init();
	fa_xact_init();
	fa_deadlock_init();
	fa_guard_init();
	fa_session_init();
	fa_vouch_init();
	fa_as_of_init();
	fa_row_security_init();
	fa_peer_error_init();
	fa_router_init();
	fa_guard_stop_database = fa_worker_stop_database;
	fa_worker_register_launcher();
}
