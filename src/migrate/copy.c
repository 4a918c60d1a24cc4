/*
 * copy.c
 *	  The rows of a leaf by COPY, under the snapshot of the move's slot.
 *
 * COPY's own reader asks for bytes through a callback; they come from libpq
 * as the source sends them, so memory is bounded by one COPY row.  It runs as
 * the table's owner, who has written the checks; the callback as ourselves.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "commands/copy.h"
#include "nodes/makefuncs.h"
#include "parser/parse_relation.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "catalog/table_text.h"
#include "core/background.h"
#include "core/fa_compat.h"
#include "migrate/guard.h"
#include "node/node.h"

/* The callback has no argument of its own. */
static FaMove *copy_move;
static FaConn *copy_conn;
static FaGuard *copy_guard;
static Oid copy_owner;
static FaDdlState copy_ourselves;
static char *copy_data;			/* libpq's buffer, or NULL */
static int	copy_len;
static int	copy_used;

/* Waits for the next CopyData; false at the end. */
static bool
copy_next_data(void)
{
	if (copy_data)
		PQfreemem(copy_data);
	copy_data = NULL;
	copy_used = 0;
	copy_len = fa_remote_copy_next(copy_conn, 0, &copy_data);
	copy_move->slot->bytes_done += copy_len;
	fa_guard_pace(copy_guard, copy_len);
	return copy_len > 0;
}

static int
copy_read(void *out, int minread, int maxread)
{
	int			done = 0;

	while (done < minread)
	{
		int			n;

		if (copy_data == NULL || copy_used == copy_len)
		{
			bool		more;

			fa_ddl_become_ourselves(&copy_ourselves);
			more = copy_next_data();
			fa_ddl_become(copy_owner, &copy_ourselves);
			if (!more)
				break;
		}
		n = Min(copy_len - copy_used, maxread - done);
		memcpy((char *) out + done, copy_data + copy_used, n);
		copy_used += n;
		done += n;
	}
	return done;
}

/* Columns that are stored and not computed, quoted, of the new heap. */
static char *
copy_columns(Relation rel, List **names_p)
{
	StringInfoData buf;
	TupleDesc	desc = RelationGetDescr(rel);

	initStringInfo(&buf);
	*names_p = NIL;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (att->attisdropped || att->attgenerated)
			continue;
		appendStringInfo(&buf, "%s%s", buf.len ? ", " : "",
						 quote_identifier(NameStr(att->attname)));
		*names_p = lappend(*names_p, makeString(pstrdup(NameStr(att->attname))));
	}
	return buf.data;
}

/* Opens the COPY at the source; binary where both sides read it alike. */
static void
copy_start(FaMove *move, const char *columns, const char *snapshot,
		   bool binary)
{
	char	   *sql;

	fa_remote_exec(copy_conn, 0, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; "
				   "SET TRANSACTION SNAPSHOT '%s'", snapshot);
	sql = psprintf("COPY %s (%s) TO STDOUT%s", move->source_leaf_name, columns,
				   binary ? " (FORMAT binary)" : "");
	fa_remote_copy_begin(copy_conn, 0, sql);
}

/*
 * The check that makes the heap one of its bucket opens the table, for the first row,
 * and keeps the lock.  Whoever holds the table here, as TRUNCATE does, waits next for
 * the heap at the source, which COPY holds there: no deadlock that a node could see.
 * So the table comes first.
 */
static void
copy_lock_table(FaMove *move)
{
	LockRelationOid(get_partition_parent(move->fragment.home, false),
					AccessShareLock);
}

void
fa_move_copy_rows(FaMove *move, const char *snapshot)
{
	MemoryContext context = CurrentMemoryContext;
	Relation	rel;
	ParseState *pstate;
	CopyFromState cstate;
	List	   *names;
	List	   *options = NIL;
	char	   *columns;
	bool		binary;

	copy_guard = fa_guard_create(move);
	fa_background_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
	copy_move = move;
	copy_data = NULL;
	copy_conn = fa_remote_connect(move->fragment.owner, FA_CONNECT_TIMEOUT_MS);
	binary = PQserverVersion(copy_conn->pg) / 10000 == FA_PG_MAJOR;
	copy_lock_table(move);
	rel = table_open(move->heap, RowExclusiveLock);
	columns = copy_columns(rel, &names);
	copy_start(move, columns, snapshot, binary);
	if (binary)
		options = list_make1(makeDefElem("format", (Node *) makeString("binary"), -1));
	pstate = make_parsestate(NULL);
	(void) addRangeTableEntryForRelation(pstate, rel, RowExclusiveLock, NULL,
										 false, false);
	copy_owner = rel->rd_rel->relowner;
	fa_ddl_become(copy_owner, &copy_ourselves);
	cstate = BeginCopyFrom(pstate, rel, NULL, NULL, false, copy_read, names,
						   options);
	(void) CopyFrom(cstate);
	EndCopyFrom(cstate);
	fa_ddl_become_ourselves(&copy_ourselves);
	fa_guard_rest(copy_guard);
	(void) fa_remote_copy_end(copy_conn, 0);
	fa_remote_close(copy_conn);
	table_close(rel, NoLock);
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
}
