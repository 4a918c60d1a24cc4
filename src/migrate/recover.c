/*
 * recover.c
 *	  Drops what dead moves left behind.
 *
 * Cleanup records are written before their relation (destination) or with
 * the swap that retires it (source).  One is due when no mover here works
 * on its move: the destination's mover deletes its record when it succeeds,
 * so a record without a mover is garbage on either side.  A publication at
 * the source is due when nobody holds the claim on its fragment.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "core/background.h"
#include "core/spi.h"
#include "migrate/move.h"
#include "node/node.h"

/* Moves whose mover died with the server or alone. */
static void
cleanup_fail_moves(void)
{
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT move FROM fragaffinity.move "
					   "WHERE state NOT IN ('done', 'failed', 'cancelled') "
					   "AND destination = (SELECT node FROM fragaffinity.local_node)");
	for (int i = 0; i < rows->nrows; i++)
	{
		if (fa_mover_alive(strtoll(rows->value[i][0], NULL, 10)))
			continue;
		(void) fa_spi_exec("UPDATE fragaffinity.move SET state = 'failed', "
						   "error = 'the mover ended before the move did', "
						   "finished = pg_catalog.clock_timestamp(), "
						   "changed = pg_catalog.clock_timestamp() "
						   "WHERE move = %s "
						   "AND state NOT IN ('done', 'failed', 'cancelled')",
						   rows->value[i][0]);
	}
}

/*
 * The record is deleted first: whoever deletes it decides, so a mover that
 * has just made the relation a leaf (and deleted the record) keeps it.
 */
static void
cleanup_drop(const char *id, const char *relation, const char *kind)
{
	(void) fa_spi_exec("SET LOCAL lock_timeout = 1000");
	if (fa_spi_exec("DELETE FROM fragaffinity.cleanup WHERE cleanup = %s",
					id) == 0)
		return;
	(void) fa_spi_exec("DROP %s IF EXISTS %s",
					   strcmp(kind, "table") == 0 ? "TABLE" : "PUBLICATION",
					   relation);
}

/* Worker's task, and a mover's with the number of its own failed move. */
void
fa_move_cleanup_with(int64 failed)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "fragaffinity cleanup",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	FaRows	   *rows;

	fa_stop_point("move_cleanup");
	fa_background_begin();
	MemoryContextSwitchTo(context);
	cleanup_fail_moves();
	rows = fa_spi_rows("SELECT cleanup, relation, kind, move FROM fragaffinity.cleanup c "
					   "WHERE kind = 'table' OR NOT EXISTS ("
					   " SELECT FROM pg_catalog.pg_locks l "
					   " WHERE l.locktype = 'advisory' AND l.objsubid = 2 "
					   " AND l.classid = 'fragaffinity.fragment'::pg_catalog.regclass "
					   " AND l.objid = c.fragment::integer) "
					   "ORDER BY cleanup");
	CommitTransactionCommand();
	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **v = rows->value[i];

		int64		move = strtoll(v[3], NULL, 10);

		if (move != failed && fa_mover_alive(move))
			continue;
		CHECK_FOR_INTERRUPTS();
		fa_background_begin();
		cleanup_drop(v[0], v[1], v[2]);
		CommitTransactionCommand();
	}
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

void
fa_move_cleanup(void)
{
	fa_move_cleanup_with(0);
}
