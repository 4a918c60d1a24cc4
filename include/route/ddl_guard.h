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
	FA_DDL_RESHAPE,				/* so, too, with the table locked, and no moves */
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
	List	   *owned;			/* relations that the user must own, */
	bool		drops;			/* or own the schemas of, */
	List	   *owned_statistics;	/* and so with extended statistics */
	Oid			named;			/* PASS: relation that it names, if any */
	Oid			reshaped;		/* root that RESHAPE or PARTITION is about */
	bool		retyped;		/* a type of what is unique in it changes */
	bool		converted;		/* values of a column are, by USING */
	bool		unique;			/* what is unique in it changes, */
	bool		only;			/* by a statement on the table ONLY, */
	bool		elsewhere;		/* or on another table: */
	Oid			other;			/* this one, while the statement runs */
	char	   *was;			/* name of the root that gets another, or NULL; */
	const char *schema_now;		/* by SET SCHEMA, to this one; or NULL */
	const char *index_was;		/* of one of its indexes, or NULL, */
	const char *index_now;		/* and what it will be */
	List	   *dropped;		/* roots that it drops */
	List	   *dropped_names;	/* of char *, qualified */
	List	   *dropped_ids;	/* their table_ids */
	bool		cascade;		/* with all that depends on them */
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
	List	   *parted;			/* partitions that are dropped, */
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
/* What is to run in between. */
extern PlannedStmt *fa_guard_statement(PlannedStmt *pstmt, const FaDdlPlan *plan);

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

/*
 * in ddl_unique.c: of statements by which unique indexes, unique and exclusion
 * constraints come or go.  The second is false for an ALTER TABLE that is to be
 * looked at as any other, and raises for one that cannot be.
 */
extern void fa_ddl_check_unique_index(IndexStmt *stmt, Oid root, FaDdlPlan *plan);
extern bool fa_ddl_check_unique(AlterTableStmt *stmt, Oid root, FaDdlPlan *plan);
/* Is there an exclusion constraint of this name? */
extern bool fa_ddl_is_exclusion(const char *name, Oid root);
/* Is it named by one of them; or, when shown is false, an exclusion constraint? */
extern bool fa_ddl_in_unique(const char *column, Oid root, bool shown);
/* Before and after one runs here, for whoever owns the table; what is to run. */
extern void fa_ddl_unique_begin(Node *statement, FaDdlPlan *plan);
extern PlannedStmt *fa_ddl_unique_statement(PlannedStmt *pstmt, const FaDdlPlan *plan);
/* After any that may have changed what the table shows. */
extern void fa_ddl_unique_end(FaDdlPlan *plan);

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

/*
 * in ddl_waited.c: the relation that a statement names, if any, before it runs; and
 * afterwards: raises 40001 when that has been distributed since, so that the statement
 * has changed another.
 */
extern Oid	fa_ddl_named(Node *statement);
extern void fa_ddl_check_waited(Node *statement, Oid named);
/*
 * The same of DROP TABLE or INDEX, which is seen when it drops what belongs to the root:
 * the first before such a statement that is none of ours, with NULL before and after any.
 */
extern void fa_ddl_note_drop(DropStmt *stmt);
extern void fa_ddl_check_waited_drop(Oid root);

/* in ddl_rename.c: of RENAME and SET SCHEMA; after one, everywhere */
extern FaDdlAction fa_ddl_check_rename(RenameStmt *stmt, FaDdlPlan *plan);
extern FaDdlAction fa_ddl_check_set_schema(AlterObjectSchemaStmt *stmt,
										   FaDdlPlan *plan);
extern void fa_ddl_set_schema_begin(const FaDdlPlan *plan);
extern void fa_ddl_rename_end(FaDdlPlan *plan);

/* in ddl_policy.c */

/* Of a statement on a policy of the relation (NULL: none). */
extern FaDdlAction fa_ddl_check_policy(const RangeVar *name, FaDdlPlan *plan);
/* Raises when a policy that is about to be dropped is a distributed table's. */
extern void fa_ddl_check_drop_policy(Oid policy);
/* Raises when a policy of a distributed table names the role. */
extern void fa_ddl_check_policy_role(Oid root, Oid role);

/*
 * in ddl_publish.c: of CREATE or ALTER PUBLICATION.  Raises for a distributed
 * table or a part of one, warns of those among all tables or a schema's.
 */
extern void fa_ddl_check_publication(Node *statement);

/*
 * in ddl_drop.c: of statements that drop whole tables, whose roots they note in the
 * plan, unless the user may not, as PostgreSQL will say.
 */
extern void fa_ddl_check_drop_table(Oid root, DropStmt *stmt, FaDdlPlan *plan);
extern void fa_ddl_check_drop_schema(DropStmt *stmt, FaDdlPlan *plan);
extern void fa_ddl_check_owned(Node *statement, FaDdlPlan *plan);
/* Before and after a statement that drops some runs here. */
extern void fa_ddl_drop_begin(FaDdlPlan *plan);
extern void fa_ddl_drop_end(FaDdlPlan *plan);
/* Is the root one of those that are dropped now? */
extern bool fa_ddl_is_dropped(Oid root);

/* in ddl_roles.c: around statements on roles */
extern void fa_ddl_roles_before(Node *statement);
extern void fa_ddl_roles_after(Node *statement);
/* Before DROP EXTENSION of ours. */
extern void fa_ddl_drop_servers(Node *statement);

/* in ddl_everywhere.c */
extern void fa_ddl_everywhere_begin(void);
/* Before FA_DDL_RESHAPE, for whoever owns the root: locks it on all nodes. */
extern void fa_ddl_reshape_begin(Oid root);
/*
 * After it here: raises when a default draws from a sequence that would not be
 * unique in the cluster.
 */
extern void fa_ddl_check_reshaped(Oid root);
/* The same when a table has got what fa_refuse_constants() refuses. */
extern void fa_ddl_check_constants(const FaDdlPlan *plan);
/* The text of this one statement, on all other nodes, as the current user. */
extern void fa_ddl_everywhere(const char *query_string, PlannedStmt *pstmt);
extern void fa_ddl_everywhere_text(const char *sql);
/* Around a change of a column's type: what is unique in the root, on all nodes. */
extern void fa_ddl_show_unique(Oid root, bool shown);
/* Around a change of a column's type by USING: foreign leaves, on all nodes. */
extern void fa_ddl_put_leaves(Oid root, bool back);
/* Owner and grants of a root to its parts, and to all other nodes. */
extern void fa_ddl_copy_rights(Oid root);

#endif							/* FA_ROUTE_DDL_GUARD_H */
