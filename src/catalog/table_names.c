/*
 * table_names.c
 *	  Names of the relations that make up a distributed table.
 *
 * They must come out alike on every node, and have to fit in a name with
 * room for the suffixes of leaves and their indexes.  A table's name that is
 * too long is cut and gets a hash of the whole, so that two tables with the
 * same beginning do not meet.
 */
#include "postgres.h"

#include "catalog/partition.h"
#include "common/hashfn.h"
#include "lib/stringinfo.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/table_ddl.h"
#include "core/spi.h"

/* "_b" + remainder, "_" + hash, "_h" and what a mover appends meanwhile */
#define MAX_STEM (NAMEDATALEN - 1 - 24)

char *
fa_table_bucket_name(const char *stem, int remainder)
{
	int			len = strlen(stem);
	uint32		hash;

	if (len <= MAX_STEM)
		return psprintf("%s_b%d", stem, remainder);
	hash = DatumGetUInt32(hash_any((const unsigned char *) stem, len));
	len = pg_mbcliplen(stem, len, MAX_STEM - 9);
	return psprintf("%.*s_%08x_b%d", len, stem, hash, remainder);
}

char *
fa_table_new_stem(Oid partition)
{
	char	   *name = get_rel_name(partition);
	char	   *stem = name;

	for (int i = 2;; i++)
	{
		Oid			taken = get_relname_relid(fa_table_bucket_name(stem, 0),
											  get_rel_namespace(partition));

		/* what is not ours is in the way, as it always was */
		if (!OidIsValid(taken) || !fa_table_is_managed(taken))
			return stem;
		stem = psprintf("%s_%d", name, i);
	}
}

char *
fa_table_piece_name(const char *home, int64 fragment)
{
	return psprintf("%s_s" INT64_FORMAT, home, fragment);
}

char *
fa_table_heap_name(const char *bucket)
{
	return psprintf("%s_h", bucket);
}

char *
fa_table_remote_name(const char *bucket)
{
	return psprintf("%s_r", bucket);
}

char *
fa_table_sibling_name(Oid rel, const char *name)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(rel)),
									  name);
}

char *
fa_table_qualified_name(Oid rel)
{
	return fa_table_sibling_name(rel, get_rel_name(rel));
}

Oid
fa_table_oid(const char *qualified)
{
	return atooid(fa_spi_value("SELECT %s::pg_catalog.regclass::pg_catalog.oid",
							   quote_literal_cstr(qualified)));
}

/* The map knows roots, buckets and leaves, not what is in between. */
bool
fa_table_is_managed(Oid rel)
{
	ListCell   *lc;

	if (fa_map_is_managed(rel))
		return true;
	if (!get_rel_relispartition(rel))
		return false;
	foreach(lc, get_partition_ancestors(rel))
		if (fa_map_table(lfirst_oid(lc)))
			return true;
	return false;
}
