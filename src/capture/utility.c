/*
 * utility.c
 *	  COPY and TRUNCATE of distributed tables, which the executor does
 *	  not see.
 *
 * What can be known:
 *	- COPY (query) TO is a query, and counted as one.
 *	- COPY leaf TO: its rows.
 *	- COPY table FROM: how many rows there were, and how many of them each
 *	  local leaf got (the server's own statistics say so, unless track_counts
 *	  is off).  The rest went to foreign leaves, but nothing tells to which.
 *	  If the rest is large enough that hashing will have spread it over all of
 *	  them, each counts with an even part; if there is only one, it is known;
 *	  otherwise the rest is not counted.
 *	- TRUNCATE: all leaves, once each, without rows.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_inherits.h"
#include "nodes/parsenodes.h"

#include "capture/capture.h"
#include "capture/counters.h"
#include "catalog/map.h"
#include "core/fa_compat.h"

/* Rows a foreign leaf, from which on none of them is likely without any. */
#define SPREAD_ROWS 8

typedef struct Leaf
{
	Oid			relid;
	int			slot;
	bool		remote;
	int64		inserted;		/* by this transaction, before the statement */
} Leaf;

typedef struct Leaves
{
	Leaf	   *leaf;
	int			n;
	int64		started_ns;
} Leaves;

/* Appends the leaves at or below a relation. */
static void
leaves_add(Leaves *leaves, Oid relid)
{
	List	   *relids;
	ListCell   *lc;

	if (!OidIsValid(relid) || !fa_map_is_managed(relid))
		return;
	/* the statement itself locks them; if it fails, nothing is counted */
	relids = find_all_inheritors(relid, NoLock, NULL);
	leaves->leaf = leaves->leaf ?
		repalloc(leaves->leaf,
				 sizeof(Leaf) * (leaves->n + list_length(relids))) :
		palloc(sizeof(Leaf) * list_length(relids));
	foreach(lc, relids)
	{
		const FaFragment *f = fa_map_leaf(lfirst_oid(lc));
		Leaf	   *leaf = &leaves->leaf[leaves->n];

		if (f == NULL || f->slot < 0)
			continue;
		leaf->relid = lfirst_oid(lc);
		leaf->slot = f->slot;
		leaf->remote = !f->local;
		leaf->inserted = f->local ? fa_pgstat_inserted(leaf->relid) : 0;
		leaves->n++;
	}
	list_free(relids);
}

/* Fragments that a statement is about to touch. */
static void
utility_leaves(Node *parsetree, Leaves *leaves)
{
	ListCell   *lc;

	if (IsA(parsetree, CopyStmt))
	{
		CopyStmt   *copy = (CopyStmt *) parsetree;

		if (copy->relation)
			leaves_add(leaves, RangeVarGetRelid(copy->relation, NoLock, true));
	}
	else if (IsA(parsetree, TruncateStmt))
	{
		foreach(lc, ((TruncateStmt *) parsetree)->relations)
			leaves_add(leaves, RangeVarGetRelid(lfirst(lc), NoLock, true));
	}
}

/*
 * Rows of COPY FROM by leaf; returns the number of entries with any.
 */
static int
utility_copied(Leaves *leaves, int64 processed, FaAccess *access)
{
	int			n = 0;
	int			nremote = 0;
	int64		rest = processed;
	int64		part;

	for (int i = 0; i < leaves->n; i++)
	{
		Leaf	   *leaf = &leaves->leaf[i];
		int64		rows;

		if (leaf->remote)
		{
			nremote++;
			continue;
		}
		rows = fa_pgstat_inserted(leaf->relid) - leaf->inserted;
		if (rows <= 0)
			continue;
		access[n].slot = leaf->slot;
		access[n++].rows_written = rows;
		rest -= rows;
	}
	if (nremote == 0 || rest <= 0 ||
		(nremote > 1 && rest < (int64) nremote * SPREAD_ROWS))
		return n;
	part = rest / nremote;
	for (int i = 0; i < leaves->n; i++)
	{
		if (!leaves->leaf[i].remote)
			continue;
		access[n].slot = leaves->leaf[i].slot;
		access[n].remote = true;
		access[n++].rows_written = part;
	}
	return n;
}

static void
utility_count(Node *parsetree, Leaves *leaves, int64 processed,
			  int64 elapsed_ns)
{
	FaAccess   *access = palloc0(sizeof(FaAccess) * leaves->n);
	bool		reads = IsA(parsetree, CopyStmt) &&
		!((CopyStmt *) parsetree)->is_from;
	int			n = 0;

	if (IsA(parsetree, CopyStmt) && !reads)
		n = utility_copied(leaves, processed, access);
	else
	{
		for (n = 0; n < leaves->n; n++)
		{
			access[n].slot = leaves->leaf[n].slot;
			access[n].remote = leaves->leaf[n].remote;
			access[n].rows_read = reads ? processed / leaves->n : 0;
		}
	}
	for (int i = 0; i < n; i++)
	{
		access[i].written = !reads;
		access[i].elapsed_ns = elapsed_ns / n;
	}
	fa_capture_record(access, n, fa_clock_timestamp(fa_clock_ns()));
	pfree(access);
}

void *
fa_capture_command_begin(Node *statement)
{
	Leaves		leaves = {NULL, 0};
	Leaves	   *kept;

	if ((!IsA(statement, CopyStmt) && !IsA(statement, TruncateStmt)) ||
		!fa_capture_counts())
		return NULL;
	utility_leaves(statement, &leaves);
	if (leaves.n == 0)
		return NULL;
	kept = palloc(sizeof(Leaves));
	*kept = leaves;
	kept->started_ns = fa_clock_ns();
	return kept;
}

void
fa_capture_command_end(Node *statement, void *begun, int64 processed)
{
	Leaves	   *leaves = begun;

	utility_count(statement, leaves, processed,
				  fa_clock_ns() - leaves->started_ns);
}
