/*
 * table_text.h
 *	  DDL text from the catalogs, and the state our own DDL runs in.
 *
 * For the files of this room that build and take apart distributed tables.
 * All functions want fa_ddl_begin() before them: the text depends on
 * search_path.
 */
#ifndef FA_CATALOG_TABLE_TEXT_H
#define FA_CATALOG_TABLE_TEXT_H

#include "nodes/pg_list.h"

/*
 * Settings (search_path, formats, maintenance on, capture and routing off)
 * and user (the bootstrap superuser) for our own DDL.  An error in between
 * is undone by the (sub)transaction's abort.
 */
typedef struct FaDdlState
{
	int			guc_level;
	Oid			user;
	int			sec_context;
} FaDdlState;

/* One level of a table that is, or is to be, distributed. */
typedef struct FaTreeRel
{
	Oid			rel;
	Oid			parent;			/* InvalidOid: the root */
	char	   *schema;
	char	   *name;
	char	   *qualified;		/* quoted */
	char	   *bound;			/* FOR VALUES ...; NULL: the root */
	char	   *partition_key;	/* RANGE (x) ...; NULL: none of the user's */
	bool		leaf;			/* holds the rows, or the buckets */
} FaTreeRel;

/* in table_state.c */
extern void fa_ddl_begin(FaDdlState *state);
extern void fa_ddl_end(FaDdlState *state);
/* One more setting until fa_ddl_end(). */
extern void fa_ddl_set(const char *name, const char *value);
extern void fa_ddl_run(List *statements);

/*
 * What a table's owner has written (checks, generated columns, domains,
 * functions of indexes) runs as the owner, not as ourselves, also when a move
 * writes the rows.  In between, nothing else may; settings that are changed
 * meanwhile are taken back.
 */
extern Oid	fa_ddl_owner(Oid rel);
extern void fa_ddl_become(Oid owner, FaDdlState *state);
extern void fa_ddl_become_ourselves(const FaDdlState *state);
/*
 * A statement that writes rows of rel, or attaches partitions.  A query's names are
 * looked up as ourselves, a utility statement's as the owner.
 */
extern void fa_ddl_write(Oid rel, const char *sql);

/*
 * SQL that a query begins with: "tree", the column "rel" of which is a relation, given
 * as what can be cast to regclass, and all below it.  pg_partition_tree() would lock
 * them.
 */
#define FA_WITH_TREE \
	"WITH RECURSIVE tree(rel) AS (" \
	"SELECT %s::pg_catalog.regclass::pg_catalog.oid UNION ALL " \
	"SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree t ON i.inhparent = t.rel) "

/* in table_tree.c */

/* Of FaTreeRel; root first, parents before children; stops above buckets. */
extern List *fa_tree_read(Oid root);

/*
 * Statements that make the tree on a node: with a key, leaves are partitioned
 * by its hash; without one they are plain, with "options".
 */
extern List *fa_tree_create(List *tree, List *sequences, int node,
							const char *key, const char *options);
/* CREATE TABLE of one of its relations; then its owner, grants and comments. */
extern char *fa_tree_create_rel(List *tree, FaTreeRel *r, const char *key,
								const char *options);
extern List *fa_tree_belongings(FaTreeRel *r);
extern List *fa_tree_finish(List *tree, bool distributed);
extern char *fa_tree_options(Oid root);
extern char *fa_tree_identities(Oid root);
extern char *fa_tree_move_away(List *tree);

/* in table_text.c */

/* Columns as CREATE TABLE wants them. */
extern char *fa_text_columns(Oid rel, bool with_defaults);
/* Names of those that can be written (not generated). */
extern char *fa_text_column_names(Oid rel);
/* ", CONSTRAINT ..." for each. */
extern char *fa_text_checks(Oid rel);

/* Statements that give relation "to" (quoted) what "from" has. */
extern List *fa_text_grants(Oid from, const char *to);
extern List *fa_text_sequence_grants(Oid sequence, const char *to);
extern List *fa_text_owner(Oid from, const char *to);
extern List *fa_text_policies(Oid from, const char *to);
extern List *fa_text_comments(Oid from, const char *to);
extern List *fa_text_column_options(Oid from, const char *to, bool storage);
extern List *fa_text_indexes(Oid from, const char *to);
extern List *fa_text_missing_indexes(Oid parent, Oid heap);
extern List *fa_text_statistics(Oid from, const char *to);
extern char *fa_text_unique(Oid rel);

/* in table_unique.c */

/*
 * Makes the indexes that jsonb "unique" (of fa_text_unique) describes on a
 * table.  With "stem" names are made from it, and what the table has is left
 * alone; with NULL they are kept as they were.
 */
extern void fa_unique_create(Oid rel, const char *unique, const char *stem);
/*
 * Show, unless they are shown, and hide the unique indexes of a distributed table
 * on this node: for statements that would make PostgreSQL carry them to the
 * partitions.
 */
extern void fa_unique_show(Oid root);
extern void fa_unique_hide(Oid root);
/* Those that are kept and not shown, as jsonb. */
extern char *fa_unique_exclusions(Oid root);
/*
 * Those that the root shows now, with these exclusion constraints, as jsonb; NULL
 * when it is what is kept.
 */
extern char *fa_unique_changed(Oid root, const char *exclusions);
/*
 * Makes them what is kept, shown, and on the heaps of this node.  Unless no more
 * than comments differ, the table is locked against everyone on all nodes, and none of
 * its fragments moves: a move that begins finds what is kept then.
 */
extern void fa_unique_set(Oid root, const char *unique);
/*
 * Of a new partition without partitions of its own: drops the unique indexes that
 * PostgreSQL has given it as the table shows them, which foreign leaves could not
 * have.
 */
extern void fa_unique_unlink(Oid partition);
/* What the logical path needs of a heap that has its indexes. */
extern void fa_unique_set_identity(Oid heap);

#endif							/* FA_CATALOG_TABLE_TEXT_H */
