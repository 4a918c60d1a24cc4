/*
 * cluster_part.h
 *	  What a transaction has on other nodes; for cluster_xact.c.
 */
#ifndef FA_NODE_CLUSTER_PART_H
#define FA_NODE_CLUSTER_PART_H

#include "nodes/pg_list.h"

#include "node/cluster_xact.h"
#include "node/remote.h"

typedef enum FaPartState
{
	FA_PART_OPEN,
	FA_PART_PREPARING,			/* asked to; may be prepared */
	FA_PART_PREPARED
} FaPartState;

typedef struct FaPart
{
	int			node;
	FaConn	   *conn;			/* by which it is finished */
	FaConn	   *session;		/* by which it is prepared, while it is */
	FaPartState state;
	char	   *gid;			/* from PREPARING on, a literal */
	bool		sent;			/* asked to finish */
	bool		enlisted;		/* the caller's connection */

	/* of a session of postgres_fdw */
	bool		fdw;
	Oid			server;
	Oid			mapping;
	Oid			user;
	FaUse		use;
	bool		changes;		/* rows, soon: all roles use it from now on */
	FaConn	   *joined;			/* for work of our own (cluster_join.h), or NULL */
} FaPart;

/* Has it work of our own, which is prepared whatever else was done? */
static inline bool
fa_part_is_own(const FaPart *part)
{
	return !part->fdw || part->joined != NULL;
}

/* in cluster_xact.c: of FaPart, of this transaction */
extern List *fa_xact_parts(void);
/* Its session as a connection that lives as long as the part. */
extern FaConn *fa_part_borrow(FaPart *part, PGconn *pg);

/*
 * Prepares all parts under gid:node, with :user behind it for a session of
 * postgres_fdw.  A part that fails does not keep the others from being heard;
 * then the first error is raised.
 */
extern void fa_parts_prepare(List *parts, const char *gid);

/* Prepares a session of postgres_fdw under exactly this name. */
extern void fa_part_prepare(FaPart *part, const char *gid);

/*
 * COMMIT PREPARED or ROLLBACK PREPARED, bounded in time.  Never raises; warns
 * of parts that are left to the resolver.
 */
extern void fa_parts_finish(List *parts, bool commit);

/* Tests stop a client's transaction by other names than our own. */
extern void fa_parts_stop_point(List *parts, const char *client,
								const char *own);

#endif							/* FA_NODE_CLUSTER_PART_H */
