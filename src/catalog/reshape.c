/*
 * reshape.c
 *	  Which fragments a bucket of the hash has: from what it is to what it is
 *	  to be.
 *
 * The same function runs on every node with the same list and finds out for
 * itself what has to change there:
 *
 *	1. leaves whose bounds change, and that of the DEFAULT bucket, are
 *	   detached: whatever happens to buckets now scans nothing
 *	2. buckets are dropped, get other bounds, are made
 *	3. on the owner, rows go from the heap that has them to the one that is to
 *	4. leaves are attached again
 *	5. rows of fragaffinity.fragment
 *
 * A heap that is attached would be scanned for rows that do not belong.  The
 * lock, and step 3, are the proof that there are none, of which table_bound.c
 * makes something that ATTACH accepts.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"

#include "catalog/reshape.h"
#include "catalog/table_ddl.h"
#include "catalog/table_text.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "node/node.h"

PG_FUNCTION_INFO_V1(fa_sql_reshape_bucket);

/* A fragment: as it is (f), as it is to be (wanted), or both. */
typedef struct Part
{
	FaFragment	f;				/* bucket and leaf: the current ones, or none */
	FaPiece    *now;			/* NULL: it is new */
	FaPiece    *wanted;			/* NULL: it goes */
	bool		rebound;		/* its bucket or the bounds of it change */
	bool		changed;		/* so, or its rows do */
	bool		detached;		/* its leaf */
} Part;

typedef struct Reshape
{
	Oid			home;
	Oid			root;
	int			table_id;
	char	   *key;			/* quoted */
	int			self;
	bool		split;			/* several fragments are wanted */
	List	   *parts;			/* of Part */
} Reshape;

/* fragment, key_from, key_to, owner, version, rows_of */
static List *
pieces_of(const FaRows *rows)
{
	List	   *list = NIL;

	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **v = rows->value[i];
		FaPiece    *piece = palloc0(sizeof(FaPiece));

		piece->fragment = strtoi64(v[0], NULL, 10);
		piece->key_from = v[1];
		piece->key_to = v[2];
		piece->owner = atoi(v[3]);
		piece->version = strtoi64(v[4], NULL, 10);
		piece->rows_of = strtoi64(v[5], NULL, 10);
		list = lappend(list, piece);
	}
	return list;
}

List *
fa_pieces_read(Oid home)
{
	FaRows	   *rows = fa_spi_rows("SELECT fragment, key_from, key_to, owner, version, 0 "
								   "FROM fragaffinity.fragment WHERE home = %u "
								   "ORDER BY fragment", home);
	return pieces_of(rows);
}

static void
append_json_text(StringInfo buf, const char *text)
{
	if (text)
		escape_json(buf, text);
	else
		appendStringInfoString(buf, "null");
}

char *
fa_pieces_json(List *pieces)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, pieces)
	{
		FaPiece    *piece = lfirst(lc);

		appendStringInfo(&buf, "%s{\"fragment\": " INT64_FORMAT ", \"key_from\": ",
						 buf.len ? ", " : "[", piece->fragment);
		append_json_text(&buf, piece->key_from);
		appendStringInfoString(&buf, ", \"key_to\": ");
		append_json_text(&buf, piece->key_to);
		appendStringInfo(&buf, ", \"owner\": %d, \"version\": " INT64_FORMAT
						 ", \"rows_of\": " INT64_FORMAT "}",
						 piece->owner, piece->version, piece->rows_of);
	}
	appendStringInfoChar(&buf, ']');
	return buf.data;
}

static List *
pieces_parse(const char *json)
{
	FaRows	   *rows = fa_spi_rows("SELECT fragment, key_from, key_to, owner, version, rows_of "
								   "FROM pg_catalog.jsonb_to_recordset(%s) AS x(fragment bigint,"
								   "  key_from text, key_to text, owner integer,"
								   "  version bigint, rows_of bigint) ORDER BY fragment",
								   quote_literal_cstr(json));
	return pieces_of(rows);
}

static bool
piece_is_rest(const FaPiece *piece)
{
	return piece->key_from == NULL && piece->key_to == NULL;
}

static bool
same_text(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

static char *
piece_bound(const FaPiece *piece)
{
	if (piece_is_rest(piece))
		return pstrdup("DEFAULT");
	return psprintf("FOR VALUES FROM (%s) TO (%s)",
					piece->key_from ? quote_literal_cstr(piece->key_from) : "MINVALUE",
					piece->key_to ? quote_literal_cstr(piece->key_to) : "MAXVALUE");
}

static Part *
reshape_part(Reshape *r, int64 fragment)
{
	ListCell   *lc;

	foreach(lc, r->parts)
	{
		Part	   *part = lfirst(lc);

		if (part->f.fragment == fragment)
			return part;
	}
	return NULL;
}

static void
reshape_add_present(Reshape *r)
{
	ListCell   *lc;
	ListCell   *fc;
	List	   *fragments = fa_map_fragments_of(r->home);

	forboth(lc, fa_pieces_read(r->home), fc, fragments)
	{
		Part	   *part = palloc0(sizeof(Part));

		part->now = lfirst(lc);
		part->f = *(FaFragment *) lfirst(fc);
		r->parts = lappend(r->parts, part);
	}
}

static void
reshape_add_wanted(Reshape *r, List *pieces)
{
	ListCell   *lc;

	foreach(lc, pieces)
	{
		FaPiece    *piece = lfirst(lc);
		Part	   *part = reshape_part(r, piece->fragment);

		if (part == NULL)
		{
			part = palloc0(sizeof(Part));
			part->f.fragment = piece->fragment;
			part->f.table_id = r->table_id;
			part->f.home = r->home;
			r->parts = lappend(r->parts, part);
		}
		part->wanted = piece;
	}
}

/* The fragment that has this one's rows. */
static Part *
reshape_source(Reshape *r, Part *part)
{
	Part	   *source = reshape_part(r, part->wanted->rows_of);

	if (source == NULL || source->now == NULL)
		elog(ERROR, "fragment " INT64_FORMAT " has no rows to give",
			 part->wanted->rows_of);
	return source;
}

/* What is, what is to be, and which of it differs. */
static void
reshape_plan(Reshape *r, List *pieces)
{
	ListCell   *lc;

	reshape_add_present(r);
	if (r->parts == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("\"%s\" is no bucket of a distributed table",
						get_rel_name(r->home))));
	r->table_id = ((Part *) linitial(r->parts))->f.table_id;
	r->root = fa_map_table_by_id(r->table_id)->rel;
	r->key = pstrdup(quote_identifier(get_attname(r->root,
												  fa_map_table(r->root)->key, false)));
	r->split = list_length(pieces) > 1;
	reshape_add_wanted(r, pieces);
	foreach(lc, r->parts)
	{
		Part	   *part = lfirst(lc);

		part->rebound = part->now == NULL || part->wanted == NULL ||
			!same_text(part->now->key_from, part->wanted->key_from) ||
			!same_text(part->now->key_to, part->wanted->key_to) ||
			(part->f.bucket != r->home) != r->split;
	}
	foreach(lc, r->parts)
	{
		Part	   *part = lfirst(lc);

		part->changed = part->changed || part->rebound;
		if (part->wanted && part->wanted->rows_of != 0)
			part->changed = reshape_source(r, part)->changed = true;
	}
}

/* Step 1. */
static void
reshape_detach_leaves(Reshape *r)
{
	ListCell   *lc;

	foreach(lc, r->parts)
	{
		Part	   *part = lfirst(lc);

		if (part->now == NULL || !(part->changed || piece_is_rest(part->now)))
			continue;
		fa_spi_exec("ALTER TABLE %s DETACH PARTITION %s",
					fa_table_qualified_name(part->f.bucket),
					fa_table_qualified_name(part->f.leaf));
		part->detached = true;
	}
}

/* Step 2: all that is in the way first. */
static void
reshape_buckets(Reshape *r)
{
	char	   *home_q = fa_table_qualified_name(r->home);
	ListCell   *lc;

	foreach(lc, r->parts)
	{
		Part	   *part = lfirst(lc);

		if (!part->rebound || part->now == NULL || part->f.bucket == r->home)
			continue;
		if (part->wanted == NULL || !r->split)
		{
			fa_spi_exec("DROP TABLE %s", fa_table_qualified_name(part->f.bucket));
			part->f.bucket = InvalidOid;
		}
		else
			fa_spi_exec("ALTER TABLE %s DETACH PARTITION %s", home_q,
						fa_table_qualified_name(part->f.bucket));
	}
	foreach(lc, r->parts)
	{
		Part	   *part = lfirst(lc);
		char	   *bucket_q;

		if (!part->rebound || part->wanted == NULL)
			continue;
		if (!r->split)
		{
			part->f.bucket = r->home;
			continue;
		}
		if (part->now && part->f.bucket != r->home)
		{
			fa_table_attach(r->home, part->f.bucket, piece_bound(part->wanted));
			continue;
		}
		bucket_q = fa_table_sibling_name(r->home,
										 fa_table_piece_name(get_rel_name(r->home),
															 part->f.fragment));
		fa_table_create_partition(r->home, bucket_q, piece_bound(part->wanted),
								  psprintf(" PARTITION BY RANGE (%s)", r->key));
		fa_table_give_rights(r->root, fa_table_parent(r->home), bucket_q);
		part->f.bucket = fa_table_oid(bucket_q);
	}
}

/* Step 3, for one part; both leaves are heaps here. */
static void
reshape_move_rows(Reshape *r, Part *part)
{
	Part	   *source = reshape_source(r, part);
	char	   *columns = fa_text_column_names(part->f.leaf);
	/* of a fragment that goes, all; its heap goes, too */
	char	   *which = source->wanted == NULL ? NULL :
		fa_spi_value("SELECT pg_catalog.pg_get_partition_constraintdef(%u)",
					 part->f.bucket);

	if (part->wanted->copy)
	{
		fa_precopy_finish(part->wanted->copy, which);
		fa_stop_point("split_rows");
		return;
	}
	fa_ddl_write(part->f.leaf,
				 psprintf("WITH gone AS (DELETE FROM %s WHERE %s RETURNING %s) "
						  "INSERT INTO %s (%s) SELECT %s FROM gone",
						  fa_table_qualified_name(source->f.leaf),
						  which ? which : "true", columns,
						  fa_table_qualified_name(part->f.leaf), columns, columns));
	fa_stop_point("split_rows");
}

/* Samples of keys go along, on every node. */
static void
reshape_move_samples(Reshape *r, Part *part)
{
	FaPiece    *w = part->wanted;
	char	   *cast = fa_key_cast(r->table_id);

	fa_spi_exec("UPDATE fragaffinity.key_sample SET fragment = " INT64_FORMAT
				" WHERE fragment = " INT64_FORMAT " AND %s AND %s",
				w->fragment, w->rows_of,
				w->key_from ? psprintf("key%s >= %s%s", cast,
									   quote_literal_cstr(w->key_from), cast) : "true",
				w->key_to ? psprintf("key%s < %s%s", cast,
									 quote_literal_cstr(w->key_to), cast) : "true");
}

/*
 * Garbage of moves that failed, of a fragment that this node owns and nobody
 * moves now: its name may be wanted.
 */
static void
reshape_clean(Part *part)
{
	FaRows	   *rows = fa_spi_rows("DELETE FROM fragaffinity.cleanup WHERE kind = 'table' "
								   "AND fragment = " INT64_FORMAT " RETURNING relation",
								   part->f.fragment);

	for (int i = 0; i < rows->nrows; i++)
		fa_spi_exec("DROP TABLE IF EXISTS %s", rows->value[i][0]);
}

/* Step 3: new leaves, and leaves that go. */
static void
reshape_leaves(Reshape *r)
{
	ListCell   *lc;

	foreach(lc, r->parts)
	{
		Part	   *part = lfirst(lc);

		if (part->wanted == NULL)
			continue;
		/* of the others, this node may know better than who sent the list */
		if (part->changed)
			part->f.owner = part->wanted->owner;
		if (part->wanted->copy)
		{
			part->f.leaf = fa_precopy_heap(part->wanted->copy);
			part->detached = true;
		}
		else if (part->now == NULL)
			part->f.leaf = fa_table_create_leaf(&part->f);
		if (part->wanted->rows_of != 0)
			reshape_move_samples(r, part);
		if (part->f.owner != r->self)
			continue;
		if (part->wanted->rows_of != 0)
			reshape_move_rows(r, part);
		if (part->now == NULL && part->wanted->copy == NULL)
			fa_table_create_indexes(part->f.leaf, &part->f);
	}
	foreach(lc, r->parts)
	{
		Part	   *part = lfirst(lc);

		if (part->wanted == NULL)
			fa_spi_exec("DROP %s %s",
						get_rel_relkind(part->f.leaf) == RELKIND_FOREIGN_TABLE ?
						"FOREIGN TABLE" : "TABLE",
						fa_table_qualified_name(part->f.leaf));
	}
}

static void
reshape_attach_heap(Part *part)
{
	char	   *name = fa_table_heap_name(get_rel_name(part->f.bucket));

	if (strcmp(get_rel_name(part->f.leaf), name) != 0)
	{
		reshape_clean(part);
		fa_spi_exec("ALTER TABLE %s RENAME TO %s",
					fa_table_qualified_name(part->f.leaf), quote_identifier(name));
	}
	fa_table_promise_bound(part->f.leaf, part->f.bucket);
	fa_table_attach(part->f.bucket, part->f.leaf, FA_TABLE_WHOLE_RANGE);
	fa_table_forget_bound(part->f.leaf);
}

/* Its name and target follow the bucket; what it is good for is kept. */
static void
reshape_attach_remote(Part *part)
{
	const char *bucket = get_rel_name(part->f.bucket);
	char	   *name = fa_table_remote_name(bucket);

	if (part->now->owner != part->f.owner)
	{
		/* this node had not heard of the last move */
		fa_spi_exec("DROP FOREIGN TABLE %s", fa_table_qualified_name(part->f.leaf));
		part->f.leaf = fa_table_create_leaf(&part->f);
		return;
	}
	if (strcmp(get_rel_name(part->f.leaf), name) != 0)
	{
		fa_spi_exec("ALTER FOREIGN TABLE %s RENAME TO %s",
					fa_table_qualified_name(part->f.leaf), quote_identifier(name));
		fa_spi_exec("ALTER FOREIGN TABLE %s OPTIONS (SET table_name %s)",
					fa_table_qualified_name(part->f.leaf),
					quote_literal_cstr(bucket));
	}
	fa_table_attach(part->f.bucket, part->f.leaf, FA_TABLE_WHOLE_RANGE);
}

/* Step 4. */
static void
reshape_attach_leaves(Reshape *r)
{
	ListCell   *lc;

	foreach(lc, r->parts)
	{
		Part	   *part = lfirst(lc);

		if (part->wanted == NULL || !part->detached)
			continue;
		if (get_rel_relkind(part->f.leaf) == RELKIND_FOREIGN_TABLE)
			reshape_attach_remote(part);
		else
			reshape_attach_heap(part);
	}
}

/* Step 5. */
static void
reshape_catalog(Reshape *r)
{
	ListCell   *lc;

	foreach(lc, r->parts)
	{
		Part	   *part = lfirst(lc);
		FaPiece    *w = part->wanted;

		fa_map_invalidate(part->f.bucket);
		fa_map_invalidate(part->f.leaf);
		if (w == NULL)
			fa_spi_exec("DELETE FROM fragaffinity.fragment WHERE fragment = " INT64_FORMAT,
						part->f.fragment);
		else if (part->changed)
			fa_spi_exec("INSERT INTO fragaffinity.fragment AS f (fragment, table_id,"
						"  bucket, leaf, key_from, key_to, owner, version, home) "
						"VALUES (" INT64_FORMAT ", %d, %u, %u, %s, %s, %d, "
						INT64_FORMAT ", %u) "
						"ON CONFLICT (fragment) DO UPDATE SET bucket = excluded.bucket,"
						"  leaf = excluded.leaf, key_from = excluded.key_from,"
						"  key_to = excluded.key_to, owner = excluded.owner,"
						"  version = excluded.version, made = excluded.made,"
						"  changed_xid = pg_catalog.pg_current_xact_id()",
						part->f.fragment, part->f.table_id, part->f.bucket,
						part->f.leaf,
						w->key_from ? quote_literal_cstr(w->key_from) : "NULL",
						w->key_to ? quote_literal_cstr(w->key_to) : "NULL",
						w->owner, w->version, r->home);
		else if (part->detached)
			fa_spi_exec("UPDATE fragaffinity.fragment SET leaf = %u "
						"WHERE fragment = " INT64_FORMAT,
						part->f.leaf, part->f.fragment);
	}
	fa_spi_exec("DELETE FROM fragaffinity.pin p WHERE NOT EXISTS"
				" (SELECT FROM fragaffinity.fragment f WHERE f.fragment = p.fragment)");
	fa_map_invalidate(r->home);
	fa_map_note_change(GetTopFullTransactionId());
}

void
fa_reshape(Oid home, List *pieces)
{
	Reshape		r = {0};

	r.home = home;
	r.self = fa_node_self();
	reshape_plan(&r, pieces);
	reshape_detach_leaves(&r);
	reshape_buckets(&r);
	reshape_leaves(&r);
	reshape_attach_leaves(&r);
	reshape_catalog(&r);
}

char *
fa_reshape_statement(Oid home, List *pieces)
{
	return psprintf("SELECT fragaffinity.reshape_bucket(%s::pg_catalog.regclass, %s)",
					quote_literal_cstr(fa_table_qualified_name(home)),
					quote_literal_cstr(fa_pieces_json(pieces)));
}

/* reshape_bucket(home, pieces): what peers ask of each other */
Datum
fa_sql_reshape_bucket(PG_FUNCTION_ARGS)
{
	FaDdlState	state;

	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to reshape buckets")));
	fa_shmem_require();
	fa_ddl_begin(&state);
	fa_reshape(PG_GETARG_OID(0),
			   pieces_parse(text_to_cstring(PG_GETARG_TEXT_PP(1))));
	fa_ddl_end(&state);
	PG_RETURN_VOID();
}
