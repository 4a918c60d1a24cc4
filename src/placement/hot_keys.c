/*
 * hot_keys.c
 *	  Which keys of a fragment a node wants, from samples and statistics.
 *
 * What a range of keys weighs in rows is told by the histogram that ANALYZE
 * keeps of the key: between two of its bounds are equally many rows, so these
 * are the bins, and the keys at which a fragment may be cut.
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
	h->own = palloc0(sizeof(double) * h->nbins);
	h->others = palloc0(sizeof(double) * h->nbins);
	return true;
}

/* Adds a node's samples: arrays of keys and weights, as text. */
static void
heat_add(Heat *h, double *sum, const char *keys, const char *weights)
{
	FaRows	   *rows;

	if (keys == NULL)
		return;
	rows = fa_spi_rows("SELECT pg_catalog.width_bucket(k%s, %s), pg_catalog.sum(w) "
					   "FROM ROWS FROM (pg_catalog.unnest(%s::pg_catalog.text[]),"
					   "  pg_catalog.unnest(%s::pg_catalog.float8[])) AS u(k, w) GROUP BY 1",
					   h->cast, h->bounds, quote_literal_cstr(keys),
					   quote_literal_cstr(weights));
	for (int i = 0; i < rows->nrows; i++)
	{
		int			bin = atoi(rows->value[i][0]) - 1;

		sum[Max(0, Min(bin, h->nbins - 1))] += atof(rows->value[i][1]);
	}
}

/* Samples of one node, own ones when conn is NULL. */
static void
heat_ask(Heat *h, double *sum, FaConn *conn)
{
	char	   *sql = psprintf("SELECT pg_catalog.array_agg(key), pg_catalog.array_agg(weight) "
							   "FROM (SELECT key, pg_catalog.sum(weight) AS weight"
							   "  FROM fragaffinity.key_sample"
							   "  WHERE fragment = " INT64_FORMAT " GROUP BY key) s",
							   h->f->fragment);
	FaRows	   *rows = conn ? fa_remote_rows(conn, ASK_TIMEOUT_MS, "%s", sql) :
		fa_spi_rows("%s", sql);

	heat_add(h, sum, rows->value[0][0], rows->value[0][1]);
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
		double	   *sum = peer->id == node ? h.own : h.others;
		FaNodeHealth health;
		FaConn	   *conn;

		if (peer->id == fa_node_self())
		{
			heat_ask(&h, sum, NULL);
			continue;
		}
		if (fa_node_health(peer->id, &health) && health.known && !health.alive)
			continue;
		conn = fa_remote_connect(peer->id, ASK_TIMEOUT_MS);
		heat_ask(&h, sum, conn);
		fa_remote_close(conn);
	}
	out->accesses = 0;
	for (int i = 0; i < h.nbins; i++)
		out->accesses += h.own[i];
	if (!fa_hot_range(h.own, h.others, h.nbins, &out->range))
		return false;
	out->key_from = h.bound->value[out->range.first][0];
	out->key_to = out->range.last == h.nbins - 1 ? NULL :
		h.bound->value[out->range.last + 1][0];
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
