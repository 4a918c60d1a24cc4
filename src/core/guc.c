/*
 * guc.c
 *	  Server variables.
 *
 * Sizes are fixed at server start because shared memory is; all other
 * variables belong to a session.  Whatever describes the cluster is a
 * setting (settings.c).
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <limits.h>

#include "utils/guc.h"

#include "core/settings.h"

bool		fa_atomic_commit = true;
bool		fa_capture = true;
bool		fa_routing = true;
bool		fa_maintenance = false;
int			fa_hops = 0;
int			fa_origin = 0;
int			fa_peer_idle_timeout = 600000;
int			fa_copy_writers = 2;
int			fa_max_fragments = 16384;
int			fa_max_movers = 4;
int			fa_event_ring_size = 32768;
char	   *fa_run_as = NULL;
char	   *fa_stop_point_name = NULL;
char	   *fa_transport_faults = NULL;
char	   *fa_rdma_address = NULL;
int			fa_rdma_port = 0;
int			fa_rdma_streams = 1;
int			fa_rdma_staging_kb = 8192;

static void
guc_define_bool(void)
{
	DefineCustomBoolVariable("fragaffinity.atomic_commit",
							 "Commits what a transaction wrote on several nodes on all of them or on none.",
							 NULL, &fa_atomic_commit, true,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("fragaffinity.capture",
							 "Counts this session's accesses to fragments.",
							 NULL, &fa_capture, true,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("fragaffinity.maintenance",
							 "Lets this session run DDL on the parts of distributed tables.",
							 "Set by the extension's own connections.",
							 &fa_maintenance, false,
							 PGC_SUSET, GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE,
							 NULL, NULL, NULL);
	DefineCustomBoolVariable("fragaffinity.routing",
							 "Sends this session's statements straight to the fragment that they are about.",
							 NULL, &fa_routing, true,
							 PGC_USERSET, 0, NULL, NULL, NULL);
}

static void
guc_define_int(void)
{
	DefineCustomIntVariable("fragaffinity.copy_writers",
							"Parallel workers that write rows of a COPY into this server's fragments, at most.",
							NULL, &fa_copy_writers,
							2, 0, 64,
							PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("fragaffinity.event_ring_size",
							"Number of captured accesses kept until the worker reads them.",
							NULL, &fa_event_ring_size,
							32768, 1024, 16777216,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("fragaffinity.hops",
							"Nodes that have handed on this session's statements; set by other nodes.",
							NULL, &fa_hops,
							0, 0, INT_MAX,
							PGC_USERSET,
							GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE |
							GUC_DISALLOW_IN_FILE,
							NULL, NULL, NULL);
	DefineCustomIntVariable("fragaffinity.max_fragments",
							"Number of fragments that can be counted on this server.",
							NULL, &fa_max_fragments,
							16384, 64, 4194304,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("fragaffinity.max_movers",
							"Number of fragments that can move to this server at the same time.",
							NULL, &fa_max_movers,
							4, 1, 64,
							PGC_POSTMASTER, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("fragaffinity.origin",
							"Node for which this session works; 0 for a client's own session.",
							"Set in the connection options of the foreign servers.",
							&fa_origin, 0, 0, 1023,
							PGC_BACKEND, GUC_NOT_IN_SAMPLE,
							NULL, NULL, NULL);
	DefineCustomIntVariable("fragaffinity.peer_idle_timeout",
							"Ends sessions that other nodes' clients have here when they have been idle for so long; they come back when they are wanted. Equal on all nodes; 0 never ends them.",
							NULL,
							&fa_peer_idle_timeout, 600000, 0, INT_MAX,
							PGC_SIGHUP, GUC_UNIT_MS,
							NULL, NULL, NULL);
}

static void
guc_define_string(void)
{
	DefineCustomStringVariable("fragaffinity.run_as",
							   "Role as which commands of the extension's own connections run, and cannot become another.",
							   NULL, &fa_run_as, "",
							   PGC_SUSET, GUC_NO_SHOW_ALL | GUC_NOT_IN_SAMPLE,
							   NULL, NULL, NULL);
	DefineCustomStringVariable("fragaffinity.stop_point",
							   "Halts processes at the named step, for tests of crash recovery.",
							   NULL, &fa_stop_point_name, "",
							   PGC_SUSET, GUC_NOT_IN_SAMPLE,
							   NULL, NULL, NULL);
	DefineCustomStringVariable("fragaffinity.transport_faults",
							   "Damages the messages of moves, for tests of what copes with that.",
							   NULL, &fa_transport_faults, "",
							   PGC_SUSET, GUC_NOT_IN_SAMPLE,
							   NULL, NULL, NULL);
}

static bool
guc_check_address(char **newval, void **extra, GucSource source)
{
	unsigned char address[sizeof(struct in6_addr)];

	if ((*newval)[0] == '\0' || inet_pton(AF_INET, *newval, address) == 1 ||
		inet_pton(AF_INET6, *newval, address) == 1)
		return true;
	GUC_check_errdetail("It must be an IP address of an RDMA device, or empty.");
	return false;
}

/* Of this server's devices, so not the cluster's settings. */
static void
guc_define_rdma(void)
{
	DefineCustomStringVariable("fragaffinity.rdma_address",
							   "IP address of this server's RDMA device: moves to it arrive there, and moves from it begin there; empty to have that from connections and routes.",
							   NULL, &fa_rdma_address, "",
							   PGC_SIGHUP, 0, guc_check_address, NULL, NULL);
	DefineCustomIntVariable("fragaffinity.rdma_port",
							"Port at which moves to this server arrive by RDMA; 0 for any, and with a port there is one move at a time.",
							NULL, &fa_rdma_port,
							0, 0, 65535,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("fragaffinity.rdma_staging",
							"Memory in which the pages of a move to this server arrive by RDMA.",
							NULL, &fa_rdma_staging_kb,
							8192, 1024, 1048576,
							PGC_SIGHUP, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("fragaffinity.rdma_streams",
							"Queue pairs of a move to this server by RDMA.",
							NULL, &fa_rdma_streams,
							1, 1, 32,
							PGC_SIGHUP, 0, NULL, NULL, NULL);
}

void
fa_guc_define(void)
{
	guc_define_rdma();
	guc_define_bool();
	guc_define_int();
	guc_define_string();
	MarkGUCPrefixReserved("fragaffinity");
}
