/*
 * table_ddl.h
 *	  Makes the relations a distributed table consists of.
 *
 *	root			the user's table; partitioned
 *	partition		leaf of the user's own partitioning, or the root itself;
 *					PARTITION BY HASH (key)
 *	bucket			<partition>_b<remainder>; PARTITION BY RANGE (key); keeps its
 *					name when the partition gets another one
 *	leaf			<bucket>_h, a heap, on the owner;
 *					<bucket>_r, a foreign table, on all other nodes
 *
 * A bucket of the hash that is split (reshape.h) has a bucket of its own for
 * each of its fragments below it, <bucket>_s<fragment>.
 *
 * Everything runs over SPI in the caller's transaction.  Functions that make
 * relations want a superuser and bring their own settings (search_path,
 * fragaffinity.maintenance) for their duration.
 */
#ifndef FA_CATALOG_TABLE_DDL_H
#define FA_CATALOG_TABLE_DDL_H

#include "catalog/map.h"

/* Name of the constraint of fa_table_promise_bound(). */
#define FA_TABLE_BOUND_CHECK "fragaffinity_bound"

/* in table_names.c: palloc'd, cut to fit, not quoted */
extern char *fa_table_bucket_name(const char *stem, int remainder);
/*
 * What the names of a partition's buckets are to begin with, before it has any: its
 * own name, or one that buckets of a table that was called so do not have.
 */
extern char *fa_table_new_stem(Oid partition);
extern char *fa_table_piece_name(const char *home, int64 fragment);
extern char *fa_table_heap_name(const char *bucket);
extern char *fa_table_remote_name(const char *bucket);
/* Of any relation: schema-qualified and quoted, as SQL wants it. */
extern char *fa_table_qualified_name(Oid rel);
/* The same for a new relation in the schema of an existing one. */
extern char *fa_table_sibling_name(Oid rel, const char *name);

/* By such a name; raises when there is none. */
extern Oid	fa_table_oid(const char *qualified);

/* A root, partition, bucket or leaf of a distributed table? */
extern bool fa_table_is_managed(Oid rel);

/* in table_bound.c */

/*
 * Attaches a leaf or bucket of a distributed table as the table's owner, whose
 * code ATTACH may run.  Within fa_ddl_begin(); an owner without USAGE of the
 * schema gets 42501 when his table has checks, or expressions in indexes.
 */
extern void fa_table_attach(Oid parent, Oid child, const char *bound);

/*
 * New heap or bucket below a parent, with its indexes and owner.  rest follows
 * in CREATE TABLE: " WITH (...)", " PARTITION BY ...", or nothing.
 */
extern void fa_table_create_partition(Oid parent, const char *qualified,
									  const char *bound, const char *rest);
/* Columns of another table, for a heap or bucket below it; %s is its name. */
#define FA_TABLE_LIKE "LIKE %s INCLUDING DEFAULTS INCLUDING GENERATED" \
	" INCLUDING STORAGE INCLUDING COMPRESSION INCLUDING CONSTRAINTS"

/*
 * Says of a heap that it has only rows that belong in the bucket, so that
 * ATTACH to it does not read them.  True of an empty one; of another, the
 * caller knows why.  To be forgotten after ATTACH: it costs every insert.
 */
extern void fa_table_promise_bound(Oid heap, Oid bucket);
extern void fa_table_forget_bound(Oid heap);

/* in table_leaf.c */

/*
 * Standalone heap on this node, in the bucket's schema, like the fragment's
 * leaf: columns, storage, constraints, owner, options, promise of its bound.
 * With with_indexes also what fa_table_create_indexes() makes.
 */
extern Oid	fa_table_create_heap(const FaFragment *f, const char *name,
								 bool with_indexes);

/*
 * Primary key, unique and secondary indexes, comments, replica identity of a
 * heap, attached or not.  What is there already is left alone, so that a
 * second call does nothing; ATTACH then finds every index it needs.
 */
extern void fa_table_create_indexes(Oid heap, const FaFragment *f);

/* Standalone foreign table that leads to the fragment's bucket on owner. */
extern Oid	fa_table_create_remote(const FaFragment *f, const char *name,
								   int owner);

/* "FOR VALUES FROM (...) TO (...)" of an attached leaf. */
extern char *fa_table_bound(Oid leaf);
#define FA_TABLE_WHOLE_RANGE "FOR VALUES FROM (MINVALUE) TO (MAXVALUE)"

/* Owner and grants of the table, and grants of a partition, to a new bucket. */
extern void fa_table_give_rights(Oid root, Oid partition, const char *bucket);
/* Makes its buckets have row security if and only if the table has. */
extern void fa_table_secure_buckets(Oid root);
/* New leaf of a bucket that has none: empty heap without unique indexes, or
 * foreign table.  f->leaf is not used. */
extern Oid	fa_table_create_leaf(const FaFragment *f);
extern Oid	fa_table_parent(Oid rel);
/* Options of a foreign table that leads to a bucket on the owner. */
extern char *fa_table_server_options(Oid bucket, int owner);

/*
 * in table_aside.c: foreign leaves of a table that is locked against everyone on
 * all nodes; wants fa_ddl_begin().  The first detaches this node's, the second puts
 * new ones in their place.
 */
extern void fa_table_leaves_aside(Oid root);
extern void fa_table_leaves_back(Oid root);

/* in table_export.c */

/*
 * Makes every distributed table on a node that has none of them, all leaves
 * foreign, with their rows in distributed_table and fragment; in the current
 * cluster transaction, over fa_xact_conn(node).  The node must know all
 * nodes (and their servers) by then.
 */
extern void fa_table_export(int node);

/* Raises when the node owns fragments: for remove_node. */
extern void fa_table_check_forget_node(int node);

#endif							/* FA_CATALOG_TABLE_DDL_H */
