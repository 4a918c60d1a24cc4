/*
 * leaf.c
 *	  A statement on a fragment's leaf instead of its table.
 *
 * Planned so, a statement on a local fragment is one on an ordinary table:
 * nothing is left to prune, ON CONFLICT finds the leaf's unique indexes, and
 * MERGE and row locks work.
 */
#include "postgres.h"

#include "access/relation.h"
#include "nodes/makefuncs.h"
#include "parser/parsetree.h"
#include "rewrite/rewriteManip.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "core/fa_compat.h"
#include "route/route.h"

bool
fa_leaf_same_columns(Oid one, Oid other)
{
	Relation	table = relation_open(one, NoLock);
	Relation	leaf = relation_open(other, NoLock);
	TupleDesc	a = RelationGetDescr(table);
	TupleDesc	b = RelationGetDescr(leaf);
	bool		fits = a->natts == b->natts;

	for (int i = 0; i < a->natts && fits; i++)
	{
		Form_pg_attribute x = TupleDescAttr(a, i);
		Form_pg_attribute y = TupleDescAttr(b, i);

		fits = x->attisdropped == y->attisdropped &&
			x->atttypid == y->atttypid && x->atttypmod == y->atttypmod &&
			strcmp(NameStr(x->attname), NameStr(y->attname)) == 0;
	}
	relation_close(leaf, NoLock);
	relation_close(table, NoLock);
	return fits;
}

void
fa_leaf_substitute(FaPin *pin)
{
	Query	   *query = pin->query;
	RangeTblEntry *table = rt_fetch(pin->rti, query->rtable);
	RangeTblEntry *leaf = copyObject(table);
	ListCell   *lc;

	leaf->relid = pin->leaf;
	leaf->relkind = get_rel_relkind(pin->leaf);
	leaf->inh = false;
	if (leaf->alias == NULL)
		leaf->alias = makeAlias(leaf->eref->aliasname, NIL);
	fa_rte_check_nothing(query, leaf);
	table->inh = false;
	table->inFromCl = false;
	foreach(lc, pin->parents)
		query->rtable = lappend(query->rtable,
								fa_custom_rte(lfirst_oid(lc), pin->lockmode));
	query->rtable = lappend(query->rtable, leaf);
	ChangeVarNodes((Node *) query, pin->rti, list_length(query->rtable), 0);
}
