/*
 * table_sequence.c
 *	  Serial and identity columns of distributed tables.
 *
 * Every node has a sequence of its own, and no value may come from two of
 * them.  So the sequence of node n runs through the numbers that are n modulo
 * a stride, from the first one above all that were in use when the table was
 * distributed.  A node that joins later starts above what the coordinator's
 * sequence has reached: only so that its values are not the oldest; they
 * could not clash.
 *
 * Where partitions have their table's identity, GENERATED ALWAYS would refuse
 * the rows that peers insert into our buckets, whose values they have drawn;
 * there such a column is BY DEFAULT as long as the table is distributed.
 */
#include "postgres.h"

#include "common/int.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/json.h"

#include "catalog/table_ddl.h"
#include "catalog/table_sequence.h"
#include "catalog/table_text.h"
#include "core/fa_compat.h"
#include "core/spi.h"

static int64
to_int64(const char *text)
{
	return text ? strtoi64(text, NULL, 10) : 0;
}

static FaSequence *
sequence_from_row(char **row)
{
	FaSequence *s = palloc0(sizeof(FaSequence));

	s->column = row[0];
	s->schema = row[1];
	s->name = row[2];
	s->type = row[3];
	s->kind = row[4][0];
	s->cycle = row[5][0] == 't';
	s->increment = to_int64(row[6]);
	s->start = to_int64(row[7]);
	s->min = to_int64(row[8]);
	s->max = to_int64(row[9]);
	s->cache = to_int64(row[10]);
	s->last = to_int64(row[11]);
	return s;
}

List *
fa_sequence_list(Oid rel)
{
	List	   *list = NIL;
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT a.attname, n.nspname, c.relname,"
					   "  pg_catalog.format_type(s.seqtypid, NULL),"
					   "  CASE d.deptype WHEN 'i' THEN a.attidentity ELSE 's' END,"
					   "  s.seqcycle, s.seqincrement, s.seqstart, s.seqmin, s.seqmax,"
					   "  s.seqcache, coalesce(pg_catalog.pg_sequence_last_value(c.oid),"
					   "    s.seqstart - s.seqincrement), c.oid "
					   "FROM pg_catalog.pg_depend d "
					   "JOIN pg_catalog.pg_class c ON c.oid = d.objid AND c.relkind = 'S' "
					   "JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace "
					   "JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid "
					   "JOIN pg_catalog.pg_attribute a"
					   "  ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid "
					   "WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass"
					   "  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass"
					   "  AND d.refobjid = %u AND d.deptype IN ('a', 'i') "
					   "ORDER BY a.attnum, c.relname", rel);
	for (int i = 0; i < rows->nrows; i++)
	{
		FaSequence *s = sequence_from_row(rows->value[i]);

		s->oid = atooid(rows->value[i][12]);
		s->grants = fa_text_sequence_grants(s->oid,
											quote_qualified_identifier(s->schema,
																	   s->name));
		list = lappend(list, s);
	}
	return list;
}

void
fa_sequence_add_values(List *sequences, Oid rel)
{
	ListCell   *lc;

	foreach(lc, sequences)
	{
		FaSequence *s = lfirst(lc);
		FaRows	   *rows;

		rows = fa_spi_rows_as(fa_ddl_owner(rel),
							  psprintf("SELECT pg_catalog.max(%s) FROM %s",
									   quote_identifier(s->column),
									   fa_table_qualified_name(rel)));
		if (rows->value[0][0])
			s->last = Max(s->last, to_int64(rows->value[0][0]));
	}
}

int
fa_sequence_stride(const FaSequence *sequence)
{
	if (strcmp(sequence->type, "bigint") == 0)
		return FA_STRIDE_BIGINT;
	if (strcmp(sequence->type, "integer") == 0)
		return FA_STRIDE_INTEGER;
	return 0;
}

static void
append_member(StringInfo buf, const char *name, const char *value)
{
	appendStringInfo(buf, ", \"%s\": ", name);
	escape_json(buf, value);
}

char *
fa_sequence_json(List *sequences)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	appendStringInfoChar(&buf, '[');
	foreach(lc, sequences)
	{
		FaSequence *s = lfirst(lc);

		appendStringInfo(&buf, "%s{\"cycle\": %s, \"increment\": " INT64_FORMAT
						 ", \"start\": " INT64_FORMAT ", \"min\": " INT64_FORMAT
						 ", \"max\": " INT64_FORMAT ", \"cache\": " INT64_FORMAT
						 ", \"last\": " INT64_FORMAT,
						 foreach_current_index(lc) > 0 ? ", " : "",
						 s->cycle ? "true" : "false", s->increment, s->start,
						 s->min, s->max, s->cache, s->last);
		append_member(&buf, "column", s->column);
		append_member(&buf, "schema", s->schema);
		append_member(&buf, "name", s->name);
		append_member(&buf, "type", s->type);
		append_member(&buf, "kind", psprintf("%c", s->kind));
		appendStringInfoChar(&buf, '}');
	}
	appendStringInfoChar(&buf, ']');
	return buf.data;
}

List *
fa_sequence_parse(const char *json)
{
	List	   *list = NIL;
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT \"column\", schema, name, type, kind, cycle, increment,"
					   "  start, min, max, cache, last "
					   "FROM pg_catalog.jsonb_to_recordset(%s) AS s(\"column\" text,"
					   "  schema text, name text, type text, kind text, cycle boolean,"
					   "  increment bigint, start bigint, min bigint, max bigint,"
					   "  cache bigint, last bigint)", quote_literal_cstr(json));
	for (int i = 0; i < rows->nrows; i++)
		list = lappend(list, sequence_from_row(rows->value[i]));
	return list;
}

/*
 * A sequence that nobody drew from since stays where it was.
 */
List *
fa_sequence_current(Oid rel, const char *json)
{
	List	   *now = fa_sequence_list(rel);
	List	   *sequences = fa_sequence_parse(json);
	ListCell   *lc;

	foreach(lc, sequences)
	{
		FaSequence *s = lfirst(lc);
		ListCell   *nc;

		foreach(nc, now)
		{
			FaSequence *n = lfirst(nc);
			char	   *last;

			if (strcmp(n->column, s->column) != 0)
				continue;
			s->oid = n->oid;
			s->schema = n->schema;
			s->name = n->name;
			s->grants = n->grants;
			last = fa_spi_value("SELECT pg_catalog.pg_sequence_last_value(%u)",
								n->oid);
			if (last)
				s->last = Max(s->last, to_int64(last));
		}
	}
	return sequences;
}

/* First value above last for a node; of the table's own step for node 0. */
static int64
sequence_start(const FaSequence *s, int node)
{
	int			stride = fa_sequence_stride(s);
	int64		value;

	if (pg_add_s64_overflow(s->last, node ? 1 : s->increment, &value))
		value = PG_INT64_MAX;
	else if (node)
	{
		int64		step = (node - value) % stride;

		if (pg_add_s64_overflow(value, step < 0 ? step + stride : step, &value))
			value = PG_INT64_MAX;
	}
	if (value > s->max || value < s->min)
		ereport(ERROR,
				(errcode(ERRCODE_SEQUENCE_GENERATOR_LIMIT_EXCEEDED),
				 errmsg("sequence \"%s\" has no value left for every node",
						s->name),
				 errhint("Make column \"%s\" bigint.", s->column)));
	return value;
}

static char *
sequence_options(const FaSequence *s, int node)
{
	char	   *start;

	/* For a plain table, START is what it was; the rest follows by RESTART. */
	start = psprintf(INT64_FORMAT, node ? sequence_start(s, node) : s->start);
	return psprintf("INCREMENT BY " INT64_FORMAT " MINVALUE " INT64_FORMAT
					" MAXVALUE " INT64_FORMAT " START WITH %s CACHE " INT64_FORMAT
					"%s",
					node ? (int64) fa_sequence_stride(s) : s->increment,
					s->min, s->max, start, s->cache, s->cycle ? " CYCLE" : "");
}

List *
fa_sequence_before(List *sequences, int node)
{
	List	   *list = NIL;
	ListCell   *lc;

	foreach(lc, sequences)
	{
		FaSequence *s = lfirst(lc);

		if (s->kind == 's')
			list = lappend(list, psprintf("CREATE SEQUENCE %s AS %s %s",
										  quote_qualified_identifier(s->schema, s->name),
										  s->type, sequence_options(s, node)));
	}
	return list;
}

List *
fa_sequence_after(List *sequences, const char *table, int node)
{
	List	   *list = NIL;
	ListCell   *lc;

	foreach(lc, sequences)
	{
		FaSequence *s = lfirst(lc);
		char	   *name = quote_qualified_identifier(s->schema, s->name);

		if (s->kind == 's')
			list = lappend(list, psprintf("ALTER SEQUENCE %s OWNED BY %s.%s",
										  name, table, quote_identifier(s->column)));
		else
			list = lappend(list, psprintf("ALTER TABLE %s ALTER COLUMN %s ADD GENERATED %s"
										  " AS IDENTITY (SEQUENCE NAME %s %s)",
										  table, quote_identifier(s->column),
										  s->kind == 'a' && (node == 0 || !FA_PARTITIONS_HAVE_IDENTITY) ?
										  "ALWAYS" : "BY DEFAULT",
										  name, sequence_options(s, node)));
		if (node == 0 && s->last != s->start - s->increment)
			list = lappend(list, psprintf("ALTER SEQUENCE %s RESTART WITH " INT64_FORMAT,
										  name, sequence_start(s, 0)));
		list = list_concat(list, s->grants);
	}
	return list;
}
