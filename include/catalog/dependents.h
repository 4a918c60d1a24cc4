/*
 * dependents.h
 *	  What depends on a table and goes on with the one that takes its place.
 *
 * distribute_table, and the way back, make new relations under the names of the old.
 * Rules, first of all those that views are made of, and functions with a parsed body
 * (BEGIN ATOMIC) are given the text of their definition once more, in which these names
 * are the new ones' by then.  They stay what they are: with owner, grants, options,
 * comments, triggers, the rows and indexes of a materialized view, and all that depends
 * on them.
 *
 * All functions want fa_ddl_begin().
 */
#ifndef FA_CATALOG_DEPENDENTS_H
#define FA_CATALOG_DEPENDENTS_H

#include "nodes/pg_list.h"

/*
 * SQL: is what depends by row d of pg_depend on r, a row of pg_class, of this kind?  Of
 * buckets and leaves nothing is, as their names go; nor is a function that takes or
 * returns rows of the table.
 */
#define FA_DEPENDENT_FOLLOWS \
	"NOT EXISTS (SELECT FROM fragaffinity.fragment f" \
	"   WHERE r.oid IN (f.home, f.bucket, f.leaf))" \
	" AND (d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass" \
	"  OR d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND EXISTS" \
	"   (SELECT FROM pg_catalog.pg_proc p" \
	"     WHERE p.oid = d.objid AND p.prosqlbody IS NOT NULL AND NOT EXISTS" \
	"     (SELECT FROM pg_catalog.unnest(p.prorettype" \
	"        || p.proargtypes::pg_catalog.oid[] || p.proallargtypes) x" \
	"      JOIN pg_catalog.pg_type y ON y.oid = r.reltype" \
	"       WHERE x IN (y.oid, y.typarray))))"

/*
 * Locks the relations of such rules, before the table is locked itself: in this order
 * statements that use them take their locks.
 */
extern void fa_dependents_lock(Oid rel);
/*
 * Of a tree (of FaTreeRel) that is locked, and has been asked for what does not follow;
 * raises for one that would mean something else.
 */
extern List *fa_dependents_read(List *tree);
/* Once relations of the same names are there, with their unique indexes. */
extern void fa_dependents_renew(List *dependents);

#endif							/* FA_CATALOG_DEPENDENTS_H */
