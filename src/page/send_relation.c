/*
 * send_relation.c
 *	  A relation whose pages are sent, and whether it still is the same.
 *
 * Between two calls of send_pages() nothing is locked, so anything may have
 * become of it.
 */
#include "postgres.h"

#include "access/relation.h"
#include "storage/bufmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"

#include "page/send_relation.h"
#include "page/shape.h"
#include "page/source.h"

void
fa_send_relation_open(FaSendRelation *r, Oid oid)
{
	Relation	rel = relation_open(oid, AccessShareLock);

	r->oid = oid;
	r->heap = RELKIND_HAS_TABLE_AM(rel->rd_rel->relkind);
	if (rel->rd_rel->relpersistence != RELPERSISTENCE_PERMANENT ||
		(!r->heap && rel->rd_rel->relkind != RELKIND_INDEX))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("pages of relation \"%s\" cannot be sent",
						RelationGetRelationName(rel))));
	r->has_hole = fa_shape_has_hole(r->heap, rel->rd_rel->relam);
	r->nblocks = 0;				/* all are new */
	r->file = fa_relation_file(rel);
	fa_blocks_init(&r->todo);
	fa_blocks_init(&r->sent);
	fa_blocks_init(&r->changed);
	r->desc = CreateTupleDescCopyConstr(RelationGetDescr(rel));
	if (r->heap)
		r->shape = fa_shape_of(rel);
	r->toast = r->heap ? rel->rd_rel->reltoastrelid : InvalidOid;
	relation_close(rel, NoLock);
}

FA_NORETURN static void
lock_overtaken(const FaSendRelation *r, const char *how)
{
	ereport(ERROR,
			(errcode(FA_COPY_OVERTAKEN),
			 errmsg("relation %u was replaced while it was copied: %s",
					r->oid, how),
			 errhint("It is copied anew.")));
}

static bool
lock_has(const FaSendRelation *relation, int n, Oid oid)
{
	for (int i = 0; i < n; i++)
	{
		if (relation[i].oid == oid)
			return true;
	}
	return false;
}

/* Is r, one of the n, what it was when it was opened, but for its contents? */
static void
lock_check(const FaSendRelation *r, Relation rel,
		   const FaSendRelation *relation, int n)
{
	ListCell   *lc;

	if (rel == NULL)
		lock_overtaken(r, "it is no longer there");
	if (!equalTupleDescs(r->desc, RelationGetDescr(rel)))
		lock_overtaken(r, "it has got other columns");
	if (!r->heap && !rel->rd_index->indisvalid)
		lock_overtaken(r, "another index has taken its place");
	if (!r->heap)
		return;
	if (rel->rd_rel->reltoastrelid != r->toast)
		lock_overtaken(r, "it has got another TOAST relation");
	foreach(lc, RelationGetIndexList(rel))
	{
		if (!lock_has(relation, n, lfirst_oid(lc)) &&
			get_index_isvalid(lfirst_oid(lc)))
			lock_overtaken(r, "it has got an index");
	}
}

void
fa_send_relations_lock(FaSendRelation *relation, int n)
{
	for (int i = 0; i < n; i++)
	{
		FaSendRelation *r = &relation[i];
		Relation	rel = try_relation_open(r->oid, AccessShareLock);

		lock_check(r, rel, relation, n);
		if (!fa_file_equals(r->file, fa_relation_file(rel)))
		{
			r->file = fa_relation_file(rel);
			r->nblocks = 0;
			fa_blocks_clear(&r->sent);
			fa_blocks_clear(&r->changed);
		}
		r->nblocks = Min(r->nblocks, RelationGetNumberOfBlocks(rel));
		fa_blocks_cut(&r->todo, r->nblocks);
		relation_close(rel, NoLock);
	}
}
