/*
 * snapshot_guard.c
 *	  A snapshot older than a move is never answered with other rows.
 *
 * A fragment's changed_xid is the transaction that last exchanged its leaf on
 * this node.  A snapshot that does not see it
 *
 *	- must not read the leaf as a local heap: rows that arrived with the move
 *	  are invisible to it, and the answer would lack them;
 *	- must not read it from its new owner when it has been used before: the
 *	  owner answers with newer rows than the transaction has seen so far.
 *
 * Both end in 40001, after which a retry succeeds.  The first statement of a
 * transaction may go to a new owner: that is the snapshot's first use, as
 * good as one taken a moment later.
 *
 * In READ COMMITTED a statement's snapshot is taken after its locks, so this
 * happens only in REPEATABLE READ and SERIALIZABLE, and in functions that run
 * on their caller's snapshot.
 */
#include "postgres.h"

#include "access/transam.h"
#include "access/xact.h"
#include "utils/snapmgr.h"

#include "catalog/map.h"
#include "route/hooks.h"

/* Does the snapshot see the transaction?  Exact also after wraparound. */
static bool
guard_sees(Snapshot snapshot, FullTransactionId xid)
{
	uint64		next;

	/* distributed by this transaction: nothing that it reads is older */
	if (TransactionIdIsCurrentTransactionId(XidFromFullTransactionId(xid)))
		return true;
	if (TransactionIdPrecedes(XidFromFullTransactionId(xid), snapshot->xmin))
		return true;
	next = U64FromFullTransactionId(ReadNextFullTransactionId());
	if (next - U64FromFullTransactionId(xid) > PG_INT32_MAX / 2)
		return true;
	return !XidInMVCCSnapshot(XidFromFullTransactionId(xid), snapshot);
}

static void
guard_check_leaf(Snapshot snapshot, Oid relid, bool first)
{
	const FaFragment *f = fa_map_leaf(relid);

	if (f == NULL || (first && !f->local) ||
		guard_sees(snapshot, f->changed_xid))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to a move of fragment "
					INT64_FORMAT, f->fragment),
			 errdetail("The transaction's snapshot is older than the move."),
			 errhint("The transaction might succeed if retried.")));
}

void
fa_snapshot_guard_check(QueryDesc *desc, bool first)
{
	Snapshot	snapshot = desc->snapshot;
	ListCell   *lc;

	if (snapshot == NULL || snapshot->snapshot_type != SNAPSHOT_MVCC ||
		!fa_map_snapshot_may_be_old(snapshot->xmin))
		return;
	foreach(lc, desc->plannedstmt->rtable)
	{
		RangeTblEntry *rte = lfirst(lc);

		if (rte->rtekind == RTE_RELATION)
			guard_check_leaf(snapshot, rte->relid, first);
	}
}
