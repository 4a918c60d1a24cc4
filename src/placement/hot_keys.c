/*
 * hot_keys.c
 *	  Which keys of a fragment a node wants, from samples and statistics.
 *
 * What a range of keys weighs in rows is told by the histogram that ANALYZE
 * keeps of the key: between two of its bounds are equally many rows, so these
 * are the bins.  Interest seldom ends at a bound, so the bins beside the range
 * are looked at key by key.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "catalog/reshape.h"
#include "catalog/table_text.h"
#include "core/args.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "node/node.h"
#include "node/remote.h"
#include "placement/divide.h"

#define MIN_BINS 4
#define ASK_TIMEOUT_MS 2000

PG_FUNCTION_INFO_V1(fa_sql_hot_range);

typedef struct Heat
{
	const FaFragment *f;
	char	   *cast;
	FaRows	   *bound;			/* nbins + 1 */
	char	   *bounds;			/* the same as an array in SQL */
	int			nbins;
	double	   *own;
	double	   *others;
	StringInfoData samples;		/* VALUES rows: key, own, others; as text */
} Heat;

static bool
heat_read_bounds(Heat *h)
{
	FaTable    *table = fa_map_table_by_id(h->f->table_id);
	StringInfoData array;

	h->bound = fa_spi_rows("SELECT b FROM pg_catalog.pg_stats s,"
						   "  pg_catalog.unnest(s.histogram_bounds::pg_catalog.text::pg_catalog.text[])"
						   "   WITH ORDINALITY u(b, i) "
						   "WHERE s.schemaname = %s AND s.tablename = %s"
						   "  AND s.attname = %s AND NOT s.inherited ORDER BY i",
						   quote_literal_cstr(get_namespace_name(get_rel_namespace(h->f->leaf))),
						   quote_literal_cstr(get_rel_name(h->f->leaf)),
						   quote_literal_cstr(get_attname(table->rel, table->key, false)));
	h->nbins = h->bound->nrows - 1;
	if (h->nbins < MIN_BINS)
		return false;
	initStringInfo(&array);
	for (int i = 0; i <= h->nbins; i++)
		appendStringInfo(&array, "%s%s%s", i > 0 ? ", " : "",
						 quote_literal_cstr(h->bound->value[i][0]), h->cast);
	h->bounds = psprintf("ARRAY[%s]", array.data);
	initStringInfo(&h->samples);
	h->own = palloc0(sizeof(double) * h->nbins);
	h->others = palloc0(sizeof(double) * h->nbins);
	return true;
}

/* Samples of one node, own ones when conn is NULL. */
static void
heat_ask(Heat *h, bool own, FaConn *conn)
{
	char	   *sql = psprintf("SELECT key, pg_catalog.sum(weight) FROM fragaffinity.key_sample "
							   "WHERE fragment = " INT64_FORMAT " GROUP BY key",
							   h->f->fragment);
	FaRows	   *rows = conn ? fa_remote_rows(conn, ASK_TIMEOUT_MS, "%s", sql) :
		fa_spi_rows("%s", sql);

	for (int i = 0; i < rows->nrows; i++)
	{
		char	   *key = quote_literal_cstr(rows->value[i][0]);
		double		weight = atof(rows->value[i][1]);

		appendStringInfo(&h->samples, "%s(%s, %g::pg_catalog.float8, %g)",
						 h->samples.len > 0 ? ", " : "", key,
						 own ? weight : 0, own ? 0 : weight);
	}
}

/* Sums of the samples by bin. */
static void
heat_fill_bins(Heat *h)
{
	FaRows	   *rows;

	if (h->samples.len == 0)
		return;
	rows = fa_spi_rows("SELECT pg_catalog.width_bucket(k%s, %s), pg_catalog.sum(a),"
					   "  pg_catalog.sum(b) FROM (VALUES %s) AS s(k, a, b) GROUP BY 1",
					   h->cast, h->bounds, h->samples.data);
	for (int i = 0; i < rows->nrows; i++)
	{
		int			bin = atoi(rows->value[i][0]) - 1;

		bin = Max(0, Min(bin, h->nbins - 1));
		h->own[bin] += atof(rows->value[i][1]);
		h->others[bin] += atof(rows->value[i][2]);
	}
}

/*
 * How far a range goes on into the bin beside it: from where (or, after the
 * range, up to where) the node's accesses exceed the others' most.  NULL: not
 * at all.
 */
static char *
heat_edge(Heat *h, int bin, bool after)
{
	FaRows	   *rows;
	double		sum = 0;
	double		best = 0;
	char	   *edge = NULL;

	if (bin < 0 || bin >= h->nbins)
		return NULL;
	rows = fa_spi_rows("SELECT x.k::pg_catalog.text, pg_catalog.sum(x.a - x.b) "
					   "FROM (SELECT k%s AS k, a, b FROM (VALUES %s) AS s(k, a, b)) x "
					   "WHERE x.k >= %s%s AND x.k < %s%s GROUP BY x.k ORDER BY x.k %s",
					   h->cast, h->samples.data,
					   quote_literal_cstr(h->bound->value[bin][0]), h->cast,
					   quote_literal_cstr(h->bound->value[bin + 1][0]), h->cast,
					   after ? "ASC" : "DESC");
	for (int i = 0; i < rows->nrows; i++)
	{
		sum += atof(rows->value[i][1]);
		if (sum <= best)
			continue;
		best = sum;
		/* the end is not part of the range */
		if (!after)
			edge = rows->value[i][0];
		else
			edge = i + 1 < rows->nrows ? rows->value[i + 1][0] :
				h->bound->value[bin + 1][0];
	}
	return edge;
}

static void
heat_set_keys(Heat *h, FaHotKeys *out)
{
	int			first = out->range.first;
	int			last = out->range.last;
	char	   *edge;

	out->key_from = h->bound->value[first][0];
	out->key_to = last == h->nbins - 1 ? NULL : h->bound->value[last + 1][0];
	edge = heat_edge(h, first - 1, false);
	if (edge)
		out->key_from = edge;
	edge = heat_edge(h, last + 1, true);
	if (edge)
		out->key_to = last + 1 == h->nbins - 1 &&
			strcmp(edge, h->bound->value[h->nbins][0]) == 0 ? NULL : edge;
}

bool
fa_hot_keys(const FaFragment *f, int node, FaHotKeys *out)
{
	Heat		h = {f};
	ListCell   *lc;

	h.cast = fa_key_cast(f->table_id);
	if (!heat_read_bounds(&h))
		return false;
	foreach(lc, fa_node_list())
	{
		FaNode	   *peer = lfirst(lc);
		bool		own = peer->id == node;
		FaNodeHealth health;
		FaConn	   *conn;

		if (peer->id == fa_node_self())
		{
			heat_ask(&h, own, NULL);
			continue;
		}
		if (fa_node_health(peer->id, &health) && health.known && !health.alive)
			continue;
		conn = fa_remote_connect(peer->id, ASK_TIMEOUT_MS);
		heat_ask(&h, own, conn);
		fa_remote_close(conn);
	}
	heat_fill_bins(&h);
	out->accesses = 0;
	for (int i = 0; i < h.nbins; i++)
		out->accesses += h.own[i];
	if (!fa_hot_range(h.own, h.others, h.nbins, &out->range))
		return false;
	heat_set_keys(&h, out);
	/* bounds of many equal keys */
	return out->key_to == NULL || strcmp(out->key_from, out->key_to) != 0;
}

/* hot_range(fragment, node, OUT key_from, key_to, share, purity, rows, accesses) */
Datum
fa_sql_hot_range(PG_FUNCTION_ARGS)
{
	FaFragment *f;
	FaNode	   *node;
	FaHotKeys	hot;
	FaDdlState	state;
	TupleDesc	desc;
	Datum		values[6];
	bool		nulls[6] = {false};
	bool		found;

	fa_require_argument(fcinfo, 0, "fragment");
	fa_require_argument(fcinfo, 1, "node");
	fa_shmem_require();
	(void) fa_node_require_cluster();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	f = fa_map_fragment(PG_GETARG_INT64(0));
	node = fa_node_by_name(NameStr(*PG_GETARG_NAME(1)));
	if (f == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("fragment " INT64_FORMAT " does not exist",
						PG_GETARG_INT64(0))));
	if (!f->local)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("fragment " INT64_FORMAT " is not on this node",
						f->fragment),
				 errhint("Call it on node \"%s\".", fa_node_find(f->owner)->name)));
	fa_ddl_begin(&state);
	found = fa_hot_keys(f, node->id, &hot);
	fa_ddl_end(&state);
	if (!found)
		PG_RETURN_NULL();
	values[0] = CStringGetTextDatum(hot.key_from);
	nulls[1] = hot.key_to == NULL;
	values[1] = nulls[1] ? (Datum) 0 : CStringGetTextDatum(hot.key_to);
	values[2] = Float8GetDatum(hot.range.share);
	values[3] = Float8GetDatum(hot.range.purity);
	values[4] = Float8GetDatum(hot.range.rows);
	values[5] = Float8GetDatum(hot.accesses);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc),
													  values, nulls)));
}
