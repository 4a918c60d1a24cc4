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
	FA_DDL_EVERYWHERE,			/* run it here and, as text, on every node */
	FA_DDL_RESHAPE,				/* so, too; not while a fragment moves */
	FA_DDL_PARTITION			/* run it here; ddl_partition.c tells the nodes */
} FaDdlAction;

typedef enum FaPartitionChange
{
	FA_PARTITION_CREATE,
	FA_PARTITION_ATTACH,
	FA_PARTITION_DETACH,
	FA_PARTITION_DROP
} FaPartitionChange;

typedef struct FaDdlPlan
{
	FaDdlAction action;
	Oid			reshaped;		/* root that RESHAPE or PARTITION is about */
	bool		retyped;		/* a type of its primary key changes */
	List	   *rights;			/* roots whose owner, grants or row security must
								 * go to their parts and to all nodes afterwards */
	int			guc_level;		/* of settings while it runs */

	/* of FA_DDL_PARTITION: */
	FaPartitionChange change;
	Node	   *instead;		/* to be run instead of the statement, or NULL */
	Oid			parent;
	Oid			partition;		/* attached or detached */
	Oid			schema;			/* of what is created, */
	const char *name;			/* its name, */
	bool		divided;		/* whether it is to have buckets, */
	const char *options;		/* and of its heaps, or NULL */
	List	   *dropped;		/* partitions */
	List	   *roots;			/* and the tables that lose them */
} FaDdlPlan;

/* in ddl_guard.c */
extern void fa_guard_init(void);	/* from _PG_init */

/*
 * Around a statement; part: of another one.  The first raises for one that
 * would break a distributed table, and fills *plan for the second.
 */
extern void fa_guard_before(Node *statement, bool part, FaDdlPlan *plan);
extern void fa_guard_after(const char *query_string, PlannedStmt *pstmt,
						   FaDdlPlan *plan);

/*
 * Called with a database that is about to be dropped, renamed or copied; set
 * by whoever has processes connected to it.
 */
extern void (*fa_guard_stop_database) (Oid dbid);

/* in ddl_check.c */

/* Raises for a statement that would break a distributed table. */
extern void fa_ddl_check(Node *statement, FaDdlPlan *plan);
extern void fa_ddl_refuse(const char *what, Oid root, const char *hint);
/* While something is dropped: a CASCADE may have reached our catalog before. */
extern bool fa_ddl_catalog_exists(void);
/* Of the distributed table that a relation belongs to, or InvalidOid. */
extern Oid	fa_ddl_root(Oid rel);
/* First column of a query on our catalog, read with our rights. */
extern List *fa_ddl_catalog_values(const char *sql);
/* Raises when a relation that is about to be dropped is ours. */
extern void fa_ddl_check_drop(Oid rel);

/* in ddl_alter.c: of one command of ALTER TABLE root, and of RENAME COLUMN */
extern FaDdlAction fa_ddl_check_alter(AlterTableCmd *cmd, Oid root);
extern FaDdlAction fa_ddl_check_rename_column(RenameStmt *stmt, Oid root);
extern bool fa_ddl_in_primary_key(const char *column, Oid root);

/* in ddl_partition.c */

/* Of CREATE TABLE ... PARTITION OF. */
extern FaDdlAction fa_ddl_check_new_partition(CreateStmt *stmt, FaDdlPlan *plan);
/* Is it ATTACH or DETACH PARTITION of a table? */
extern bool fa_ddl_is_partition_command(const AlterTableStmt *stmt, Oid rel);
/* Of these; parent is root or what belongs to it. */
extern FaDdlAction fa_ddl_check_partition_command(AlterTableCmd *cmd, Oid parent,
												  Oid root, FaDdlPlan *plan);
/* Of DROP TABLE: is it one of the root's own partitions? */
extern bool fa_ddl_check_drop_partition(Oid rel, Oid root, FaDdlPlan *plan);
/* Around the statement. */
extern void fa_ddl_partition_before(FaDdlPlan *plan);
extern void fa_ddl_partition_after(FaDdlPlan *plan);

/* in ddl_policy.c */

/* Of a statement on a policy of the relation (NULL: none). */
extern FaDdlAction fa_ddl_check_policy(const RangeVar *name);
/* Raises when a policy that is about to be dropped is a distributed table's. */
extern void fa_ddl_check_drop_policy(Oid policy);
/* Raises when a policy of a distributed table names the role. */
extern void fa_ddl_check_policy_role(Oid root, Oid role);

/*
 * in ddl_publish.c: of CREATE or ALTER PUBLICATION.  Raises for a distributed
 * table or a part of one, warns of those among all tables or a schema's.
 */
extern void fa_ddl_check_publication(Node *statement);

/* in ddl_roles.c: around statements on roles */
extern void fa_ddl_roles_before(Node *statement);
extern void fa_ddl_roles_after(Node *statement);
/* Before DROP EXTENSION of ours. */
extern void fa_ddl_drop_servers(Node *statement);

/* in ddl_everywhere.c */
extern void fa_ddl_everywhere_begin(void);
/*
 * After FA_DDL_RESHAPE here: raises when a fragment moves, or when a default
 * draws from a sequence that would not be unique in the cluster.
 */
extern void fa_ddl_check_reshaped(Oid root);
/* The text of this one statement, on all other nodes, as the current user. */
extern void fa_ddl_everywhere(const char *query_string, PlannedStmt *pstmt);
/* Around a change of a column's type: the root's primary key, on all nodes. */
extern void fa_ddl_show_primary(Oid root, bool shown);
/* Owner and grants of a root to its parts, and to all other nodes. */
extern void fa_ddl_copy_rights(Oid root);

#endif							/* FA_ROUTE_DDL_GUARD_H */
