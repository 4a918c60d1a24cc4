/*
 * finish.c
 *	  This session's connections for COMMIT PREPARED and ROLLBACK PREPARED.
 *
 * What a session of postgres_fdw has prepared is finished after the local
 * commit, when neither the catalog nor postgres_fdw can be asked any more.  So
 * the connection is opened before anything is prepared, and kept for the next
 * time: one beside postgres_fdw's for each peer that the session has written
 * on together with another node.  It belongs to the user who prepared, as a
 * superuser need not be at hand.
 */
#include "postgres.h"

#include "access/xact.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "node/cluster_xact.h"
#include "node/node.h"

typedef struct Finisher
{
	struct Finisher *next;
	MemoryContext context;		/* of this struct and the connection */
	int			node;
	Oid			user;
	char	   *identity;		/* keywords and values, to see a change */
	FaConn	   *conn;
	TimestampTz used;			/* last */
} Finisher;

static Finisher *finishers = NULL;

static void
finisher_destroy(Finisher *f)
{
	Finisher  **link = &finishers;

	while (*link != f)
		link = &(*link)->next;
	*link = f->next;
	MemoryContextDelete(f->context);	/* closes the connection */
}

void
fa_finish_drop(FaConn *conn)
{
	for (Finisher *f = finishers; f; f = f->next)
	{
		if (f->conn == conn)
		{
			finisher_destroy(f);
			return;
		}
	}
}

static bool
finisher_alive(Finisher *f)
{
	return fa_remote_is_usable(f->conn, f->used) &&
		PQtransactionStatus(f->conn->pg) == PQTRANS_IDLE;
}

static Finisher *
finisher_open(int node, Oid user, const char *identity,
			  const char **keywords, const char **values)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "fragaffinity connection",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	Finisher   *f = palloc0(sizeof(Finisher));

	f->context = context;
	f->node = node;
	f->user = user;
	f->identity = pstrdup(identity);
	f->conn = fa_remote_connect_keywords(node, psprintf("%d", node), keywords,
										 values, FA_CONNECT_TIMEOUT_MS);
	MemoryContextSwitchTo(old);
	MemoryContextSetParent(context, TopMemoryContext);
	f->next = finishers;
	finishers = f;
	return f;
}

FaConn *
fa_finish_conn(int node, Oid user)
{
	const char *keywords[FA_MAX_KEYWORDS];
	const char *values[FA_MAX_KEYWORDS];
	StringInfoData identity;
	Oid			caller;
	int			sec_context;
	Finisher   *found = NULL;

	GetUserIdAndSecContext(&caller, &sec_context);
	SetUserIdAndSecContext(user, sec_context | SECURITY_LOCAL_USERID_CHANGE);
	(void) fa_remote_keywords(node, FA_SESSION_FINISH, keywords, values);
	initStringInfo(&identity);
	for (int i = 0; keywords[i]; i++)
		appendStringInfo(&identity, "%s=%s ", keywords[i], values[i]);
	for (Finisher *f = finishers, *next; f && !found; f = next)
	{
		next = f->next;
		if (f->node != node || f->user != user)
			continue;
		if (strcmp(f->identity, identity.data) == 0 && finisher_alive(f))
			found = f;
		else
			finisher_destroy(f);
	}
	if (found == NULL)
		found = finisher_open(node, user, identity.data, keywords, values);
	found->used = GetCurrentStatementStartTimestamp();
	SetUserIdAndSecContext(caller, sec_context);
	return found->conn;
}
