/*
 * role_writes.c
 *	  Roles that a transaction uses another node's rows as; see role_writes.h.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "core/fa_compat.h"
#include "node/role_writes.h"

typedef struct RoleWrite
{
	Oid			table;			/* hash key */
	Oid			mapping;		/* whose session has locked or changed rows */
	FaUse		use;			/* the stronger of these */
	int			level;			/* of the subtransaction that was the first */
} RoleWrite;

static HTAB *role_writes = NULL;	/* in TopMemoryContext; NULL: none */
static LocalTransactionId role_writes_in = InvalidLocalTransactionId;
static RoleWrite last;			/* noted last; no table: none */

/* What was undone is gone from the peer's session, too. */
static void
role_writes_subxact(SubXactEvent event, SubTransactionId my,
					SubTransactionId parent, void *arg)
{
	int			level = GetCurrentTransactionNestLevel();
	HASH_SEQ_STATUS seq;
	RoleWrite  *w;

	if (role_writes == NULL ||
		(event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB))
		return;
	last.table = InvalidOid;
	hash_seq_init(&seq, role_writes);	/* of this transaction, or of no interest */
	while ((w = hash_seq_search(&seq)) != NULL)
	{
		if (w->level < level)
			continue;
		if (event == SUBXACT_EVENT_ABORT_SUB)
			(void) hash_search(role_writes, &w->table, HASH_REMOVE, NULL);
		else
			w->level = level - 1;
	}
}

static void
role_writes_create(void)
{
	static bool registered = false;
	HASHCTL		ctl = {
		.keysize = sizeof(Oid),
		.entrysize = sizeof(RoleWrite),
		.hcxt = TopMemoryContext
	};

	if (!registered)
		RegisterSubXactCallback(role_writes_subxact, NULL);
	registered = true;
	role_writes = hash_create("fragaffinity roles' changes", 64, &ctl,
							  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	role_writes_in = fa_my_lxid();
}

static void
role_writes_refuse(Oid foreign_table)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot use rows of \"%s\" as another role than the one that this transaction has changed them as",
					get_rel_name(foreign_table)),
			 errdetail("Each role has a session of its own on another node, which does not see what others have changed."),
			 errhint("Commit in between, or use the table as one role: views and SECURITY DEFINER functions use it as their owner.")));
}

void
fa_role_writes_note(Oid foreign_table, Oid mapping, FaUse use)
{
	RoleWrite  *w;

	/* the end of a transaction may not have been told */
	if (role_writes && role_writes_in != fa_my_lxid())
		fa_role_writes_forget();
	if (use == FA_USE_READ && role_writes == NULL)
		return;
	if (last.table == foreign_table && last.mapping == mapping && last.use >= use)
		return;
	if (role_writes == NULL)
		role_writes_create();
	w = hash_search(role_writes, &foreign_table, HASH_FIND, NULL);
	if (w && w->mapping != mapping && (w->use == FA_USE_WRITE || use >= FA_USE_LOCK))
		role_writes_refuse(foreign_table);
	if (use == FA_USE_READ || (w && w->mapping != mapping))
		return;
	if (w == NULL)
	{
		w = hash_search(role_writes, &foreign_table, HASH_ENTER, NULL);
		w->mapping = mapping;
		w->use = use;
		w->level = GetCurrentTransactionNestLevel();
	}
	w->use = Max(w->use, use);
	last = *w;
}

void
fa_role_writes_forget(void)
{
	if (role_writes)
		hash_destroy(role_writes);
	role_writes = NULL;
	last.table = InvalidOid;
}
