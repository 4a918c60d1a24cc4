/*
 * reshape_lock.c
 *	  A bucket of the hash locked against everyone, on all nodes, for a short
 *	  time.
 *
 * The heaps below it are waited for before (heap_wait.c).  The owner comes last,
 * as for a cut-over (cutover.c): clients of another node hold their bucket's lock
 * there while they wait here, so that the other way round would be a deadlock over
 * two servers.  Where the locks are not to be had at once, all of them are let go,
 * and asked for again after a jittered pause; nobody queues behind us for longer
 * than cutover_lock_timeout.
 *
 * From then until the commit the bucket's clients wait on every node, so the
 * work in between has a time limit, too.
 */
#include "postgres.h"

#include "access/xact.h"
#include "common/pg_prng.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timeout.h"
#include "utils/wait_event.h"

#include "catalog/partitions.h"
#include "catalog/reshape.h"
#include "catalog/table_ddl.h"
#include "catalog/table_text.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "node/cluster_xact.h"
#include "node/node.h"

#define SAVEPOINT_NAME "fragaffinity_reshape"
#define MAX_PAUSE_MS 500

static volatile sig_atomic_t time_is_up = false;
static TimeoutId limit_timeout = MAX_TIMEOUTS;

/* A statement on every other node, on all of them at once. */
static void
peers_send(const char *sql)
{
	ListCell   *lc;

	foreach(lc, fa_node_list())
	{
		FaNode	   *node = lfirst(lc);

		if (node->id != fa_node_self())
			fa_remote_send(fa_xact_conn(node->id), sql);
	}
}

/*
 * Waits for all answers; then raises the first error.  Only a cancel is not
 * kept waiting: it ends the transaction, and the connections with it.
 */
static void
peers_receive(void)
{
	MemoryContext context = CurrentMemoryContext;
	ErrorData  *volatile first = NULL;
	ListCell   *lc;

	foreach(lc, fa_node_list())
	{
		FaNode	   *node = lfirst(lc);

		if (node->id == fa_node_self())
			continue;
		PG_TRY();
		{
			fa_remote_receive(fa_xact_conn(node->id), 0, NULL);
		}
		PG_CATCH();
		{
			ErrorData  *error;

			MemoryContextSwitchTo(context);
			error = CopyErrorData();
			if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
				error->sqlerrcode == ERRCODE_ADMIN_SHUTDOWN)
				PG_RE_THROW();
			FlushErrorState();
			if (first == NULL)
				first = error;
		}
		PG_END_TRY();
	}
	if (first)
		ReThrowError(first);
}

void
fa_reshape_peers_begin(Oid home, List *pieces)
{
	peers_send(psprintf("RELEASE SAVEPOINT " SAVEPOINT_NAME "; %s",
						fa_reshape_statement(home, pieces)));
}

void
fa_reshape_peers_end(void)
{
	peers_receive();
}

static void
try_statements(List *statements, int64 timeout_ms)
{
	char	   *timeout = psprintf(INT64_FORMAT, timeout_ms);
	ListCell   *lc;

	peers_send(psprintf("SAVEPOINT " SAVEPOINT_NAME "; SET LOCAL lock_timeout = %s",
						timeout));
	peers_receive();
	fa_ddl_set("lock_timeout", timeout);
	foreach(lc, statements)
	{
		peers_send(lfirst(lc));
		peers_receive();
		fa_stop_point("split_peers_locked");
		fa_spi_exec("%s", (char *) lfirst(lc));
	}
	peers_send("SET LOCAL lock_timeout = 0");
	peers_receive();
	fa_ddl_set("lock_timeout", timeout);
}

bool
fa_lock_try(List *statements, int64 timeout_ms)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool locked = false;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		try_statements(statements, timeout_ms);
		ReleaseCurrentSubTransaction();
		locked = true;
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
			error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED)
			ReThrowError(error);
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	if (!locked)
	{
		peers_send("ROLLBACK TO SAVEPOINT " SAVEPOINT_NAME "; "
				   "RELEASE SAVEPOINT " SAVEPOINT_NAME);
		peers_receive();
	}
	return locked;
}

void
fa_lock_keep(void)
{
	peers_send("RELEASE SAVEPOINT " SAVEPOINT_NAME);
	peers_receive();
}

void
fa_lock_back_off(int attempt)
{
	int			max_ms = Min(20 << Min(attempt, 5), MAX_PAUSE_MS);

	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 1 + (int) (pg_prng_double(&pg_global_prng_state) * max_ms),
					 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* rel: the relation that an error names. */
static void
lock_everywhere(const char *locks, Oid rel, int table_id)
{
	int64		timeout_ms = fa_setting_int("cutover_lock_timeout", table_id);
	int64		attempts = fa_setting_int("cutover_attempts", table_id);

	for (int i = 1; i <= attempts; i++)
	{
		if (fa_lock_try(list_make1(unconstify(char *, locks)), timeout_ms))
			return;
		fa_lock_back_off(i);
	}
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("could not lock \"%s\" on all nodes in " INT64_FORMAT " tries",
					get_rel_name(rel), attempts),
			 errhint("Long transactions on the table hold its locks; see pg_stat_activity on all nodes.")));
}

void
fa_reshape_lock(Oid home, int table_id)
{
	char	   *home_q = fa_table_qualified_name(home);

	lock_everywhere(psprintf(FA_HEAP_WAIT "; LOCK TABLE %s IN ACCESS EXCLUSIVE MODE",
							 quote_literal_cstr(home_q), "true", home_q),
					home, table_id);
}

void
fa_partition_lock(Oid parent, Oid partition, int table_id)
{
	char	   *locks = psprintf("LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE",
								 fa_table_qualified_name(parent));
	FaDdlState	state;

	fa_ddl_begin(&state);
	(void) fa_xact_conn_all();
	if (OidIsValid(partition))
		locks = psprintf("%s; LOCK TABLE %s IN ACCESS EXCLUSIVE MODE", locks,
						 fa_table_qualified_name(partition));
	lock_everywhere(locks, OidIsValid(partition) ? partition : parent, table_id);
	fa_lock_keep();
	fa_ddl_end(&state);
}

/* Ends whatever this backend does or waits for, as a cancel would. */
static void
limit_handler(void)
{
	time_is_up = true;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

void
fa_reshape_limit_begin(int table_id)
{
	if (limit_timeout == MAX_TIMEOUTS)
		limit_timeout = RegisterTimeout(USER_TIMEOUT, limit_handler);
	time_is_up = false;
	enable_timeout_after(limit_timeout,
						 (int) fa_setting_int("split_timeout", table_id));
}

void
fa_reshape_limit_end(void)
{
	disable_timeout(limit_timeout, false);
	/* it may have come a moment ago: then it was not for what follows */
	if (time_is_up)
		QueryCancelPending = false;
	time_is_up = false;
}

void
fa_reshape_limit_failed(MemoryContext context)
{
	bool		late = time_is_up;
	ErrorData  *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	fa_reshape_limit_end();
	if (!late || error->sqlerrcode != ERRCODE_QUERY_CANCELED)
		PG_RE_THROW();
	FlushErrorState();
	ereport(ERROR,
			(errcode(ERRCODE_QUERY_CANCELED),
			 errmsg("the fragments were not divided anew within \"split_timeout\""),
			 errdetail("Clients of the bucket wait meanwhile, so nothing was changed."),
			 errhint("Cut off less at a time, give the key an index, or raise the setting.")));
}
