/*
 * ddl_guard.h
 *	  What DDL may do to distributed tables.
 */
#ifndef FA_ROUTE_DDL_GUARD_H
#define FA_ROUTE_DDL_GUARD_H

#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"

/* What is to become of a statement. */
typedef enum FaDdlAction
{
	FA_DDL_PASS,				/* none of our business */
	FA_DDL_EVERYWHERE			/* run it here and, as text, on every node */
} FaDdlAction;

/* in ddl_guard.c */
extern void fa_guard_init(void);	/* from _PG_init */

/*
 * Called with a database that is about to be dropped, renamed or copied; set
 * by whoever has processes connected to it.
 */
extern void (*fa_guard_stop_database) (Oid dbid);

/* in ddl_check.c */

/*
 * Raises for a statement that would break a distributed table.  *roots_p:
 * tables whose owner or grants must go to their parts and all nodes after it.
 */
extern FaDdlAction fa_ddl_check(Node *statement, List **roots_p);
/* Raises when a relation that is about to be dropped is ours. */
extern void fa_ddl_check_drop(Oid rel);

/* in ddl_roles.c: around statements on roles */
extern void fa_ddl_roles_before(Node *statement);
extern void fa_ddl_roles_after(Node *statement);

/* in ddl_everywhere.c */
extern void fa_ddl_everywhere_begin(void);
/* The text of this one statement, on all other nodes, as the current user. */
extern void fa_ddl_everywhere(const char *query_string, PlannedStmt *pstmt);
/* Owner and grants of a root to its parts, and to all other nodes. */
extern void fa_ddl_copy_rights(Oid root);

#endif							/* FA_ROUTE_DDL_GUARD_H */
