/*
 * peer_use.c
 *	  Which sessions at peers work for a session here, said to all.
 *
 * A place in shared memory for each backend, written by it alone, for as long as
 * its transaction lasts.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/spin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "core/fa_compat.h"
#include "node/peer_use.h"
#include "node/wait_graph.h"

#define MAX_USES 31				/* the one after is FA_WAIT_KEY_ANY */

typedef struct PeerUse
{
	slock_t		lock;			/* protects all fields */
	int			pid;
	int			n;
	uint64		key[MAX_USES + 1];
} PeerUse;

static PeerUse *peer_uses = NULL;
static bool noted = false;		/* by this backend's transaction */

static Size
peer_use_size(void)
{
	return mul_size(MaxBackends, sizeof(PeerUse));
}

static void
peer_use_init(void *ptr, bool found)
{
	peer_uses = ptr;
	if (found)
		return;
	memset(peer_uses, 0, peer_use_size());
	for (int i = 0; i < MaxBackends; i++)
		SpinLockInit(&peer_uses[i].lock);
}

const FaShmemPart fa_peer_use_part = {
	"fragaffinity sessions at peers", peer_use_size, peer_use_init
};

static void
peer_use_add(PeerUse *use, uint64 key)
{
	if (use->n < MAX_USES)
		use->key[use->n++] = key;
	else
	{
		use->key[MAX_USES] = FA_WAIT_KEY_ANY;
		use->n = MAX_USES + 1;
	}
}

void
fa_peer_use_note(int node, const char *role, int pid)
{
	PeerUse    *use;

	if (peer_uses == NULL || fa_my_proc_number() >= MaxBackends)
		return;
	use = &peer_uses[fa_my_proc_number()];
	SpinLockAcquire(&use->lock);
	/* whoever had the place before may have died with a transaction open */
	if (!noted || use->pid != MyProcPid)
		use->n = 0;
	use->pid = MyProcPid;
	if (pid != 0)
		peer_use_add(use, fa_wait_pid_key(node, pid));
	peer_use_add(use, fa_wait_key(node, role));
	SpinLockRelease(&use->lock);
	noted = true;
}

void
fa_peer_use_forget(void)
{
	PeerUse    *use;

	if (!noted)
		return;
	use = &peer_uses[fa_my_proc_number()];
	SpinLockAcquire(&use->lock);
	use->pid = 0;
	use->n = 0;
	SpinLockRelease(&use->lock);
	noted = false;
}

PG_FUNCTION_INFO_V1(fa_sql_peer_uses);

/* peer_uses(OUT pid, OUT keys): as wait_graph.h has them, as bigint */
Datum
fa_sql_peer_uses(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; peer_uses && i < MaxBackends; i++)
	{
		PeerUse		use;
		Datum		keys[MAX_USES + 1];
		Datum		values[2];
		bool		nulls[2] = {false, false};

		/* a look before the lock: most have nothing to say */
		if (peer_uses[i].n == 0)
			continue;
		SpinLockAcquire(&peer_uses[i].lock);
		use = peer_uses[i];
		SpinLockRelease(&peer_uses[i].lock);
		if (use.n == 0)
			continue;
		for (int k = 0; k < use.n; k++)
			keys[k] = Int64GetDatum((int64) use.key[k]);
		values[0] = Int32GetDatum(use.pid);
		values[1] = PointerGetDatum(construct_array(keys, use.n, INT8OID,
													sizeof(int64),
													FLOAT8PASSBYVAL,
													TYPALIGN_DOUBLE));
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
