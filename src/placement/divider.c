/*
 * divider.c
 *	  The owner's background process that divides a fragment, or unites two.
 *
 * It is asked for by the coordinator, which knows that it could pay, and finds
 * out by itself whether there is a part that one node wants.  The part is
 * then asked for by that node, as any fragment.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "catalog/table_text.h"
#include "core/background.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "node/node.h"
#include "placement/divide.h"

/* A part of more rows is no part: then the fragment itself may move. */
#define MAX_ROWS 0.5
/* By how much the part must be hotter for the node than the fragment is. */
#define MIN_CONTRAST 3
#define SAMPLE_PAGES 300.0		/* to find the key in the middle */
#define ROW_OVERHEAD 8			/* line pointer and alignment */
/*
 * Two integers of an advisory lock: only one divider for a fragment, from its
 * beginning until it has told its end.
 */
#define DIVIDER_CLAIM "pg_catalog.hashtext('fragaffinity divider'), %d"

PG_FUNCTION_INFO_V1(fa_sql_request_division);
PG_FUNCTION_INFO_V1(fa_sql_request_size_division);
PG_FUNCTION_INFO_V1(fa_sql_request_union);

PGDLLEXPORT void fa_divider_main(Datum arg);

/* In bgw_extra. */
typedef struct Order
{
	Oid			dbid;
	int			destination;	/* node that wants a part; 0: none does */
	int64		fragment;
	int64		other;			/* to unite with; 0: divide */
	double		benefit_ms;
	double		share;			/* of the rows, to cut off */
	double		above;			/* if they have more bytes than this */
} Order;

StaticAssertDecl(sizeof(Order) <= BGW_EXTRALEN, "order must fit bgw_extra");

static void
divider_start(const Order *order)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	fa_background_describe(&worker, "fa_divider_main", "fragaffinity divider",
						   (Datum) 0);
	memcpy(worker.bgw_extra, order, sizeof(Order));
	if (!fa_background_start(&worker, &handle))
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("no worker process left to divide a fragment"),
				 errhint("Increase max_worker_processes.")));
}

/* request_division(fragment, destination, benefit) */
Datum
fa_sql_request_division(PG_FUNCTION_ARGS)
{
	Order		order = {MyDatabaseId};

	fa_shmem_require();
	order.fragment = PG_GETARG_INT64(0);
	order.destination = fa_node_by_name(NameStr(*PG_GETARG_NAME(1)))->id;
	order.benefit_ms = PG_GETARG_FLOAT8(2);
	divider_start(&order);
	PG_RETURN_VOID();
}

/* request_size_division(fragment, share, above) */
Datum
fa_sql_request_size_division(PG_FUNCTION_ARGS)
{
	Order		order = {MyDatabaseId};

	fa_shmem_require();
	order.fragment = PG_GETARG_INT64(0);
	order.share = PG_GETARG_FLOAT8(1);
	order.above = PG_GETARG_FLOAT8(2);
	divider_start(&order);
	PG_RETURN_VOID();
}

/* request_union(fragment, other) */
Datum
fa_sql_request_union(PG_FUNCTION_ARGS)
{
	Order		order = {MyDatabaseId};

	fa_shmem_require();
	order.fragment = PG_GETARG_INT64(0);
	order.other = PG_GETARG_INT64(1);
	divider_start(&order);
	PG_RETURN_VOID();
}

static void
divider_begin(void)
{
	fa_background_begin();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
divider_end(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}

static bool
divider_is_worth_it(const FaFragment *f, const FaHotRange *range)
{
	return range->rows <= MAX_ROWS &&
		range->share >= MIN_CONTRAST * range->rows &&
		range->share >= fa_setting_float("split_share", f->table_id) &&
		range->purity >= fa_setting_float("reactive_threshold", f->table_id);
}

/*
 * Where to cut so that a share of the rows follows, from a sample of the
 * leaf's pages; NULL when its rows are not so many, or all have one key.
 */
static char *
divider_find_cut(const FaFragment *f, const Order *order)
{
	FaTable    *table = fa_map_table_by_id(f->table_id);
	const char *key = quote_identifier(get_attname(table->rel, table->key, false));
	const char *leaf = quote_qualified_identifier(get_namespace_name(get_rel_namespace(f->leaf)),
												  get_rel_name(f->leaf));
	double		pages = strtod(fa_spi_value("SELECT pg_catalog.pg_relation_size(%u) / %d",
											f->leaf, BLCKSZ), NULL);
	double		percent = pages <= SAMPLE_PAGES ? 100 : 100 * SAMPLE_PAGES / pages;
	char	   *sql;
	FaRows	   *rows;

	/* rows take that part of their pages, and indexes as much of theirs */
	sql = psprintf("SELECT s.cut::pg_catalog.text, s.cut > (SELECT min(%s) FROM %s),"
				   " s.bytes / (%.1f * pg_catalog.pg_relation_size(%u))"
				   "  * pg_catalog.pg_total_relation_size(%u) > %.1f"
				   " FROM (SELECT percentile_disc(%.6g) WITHIN GROUP (ORDER BY %s) AS cut,"
				   "   sum(pg_catalog.pg_column_size(l.*) + %d) AS bytes"
				   "  FROM %s l TABLESAMPLE SYSTEM (%.6g)) s",
				   key, leaf, percent / 100, f->leaf, f->leaf, order->above,
				   1 - order->share, key, ROW_OVERHEAD, leaf, percent);
	rows = fa_spi_rows_as(fa_ddl_owner(f->leaf), sql);
	if (rows->value[0][0] == NULL || rows->value[0][1][0] != 't' ||
		rows->value[0][2] == NULL || rows->value[0][2][0] != 't')
		return NULL;
	return rows->value[0][0];
}

/* Cuts the last part off a fragment that is too large; its number, or 0. */
static int64
divider_cut(const Order *order, char *reason, size_t size)
{
	FaFragment *f = fa_map_fragment(order->fragment);
	FaDdlState	state;
	char	   *cut;

	if (f == NULL || !f->local)
		return 0;
	fa_ddl_begin(&state);
	cut = divider_find_cut(f, order);
	fa_ddl_end(&state);
	if (cut == NULL)
		return 0;
	snprintf(reason, size, "fragment " INT64_FORMAT " is too large; keys from \"%s\" on",
			 order->fragment, cut);
	return strtoi64(fa_spi_value("SELECT (fragaffinity.split_fragment(" INT64_FORMAT
								 ", %s))[1]", order->fragment,
								 quote_literal_cstr(cut)), NULL, 10);
}

/* Splits off what the destination wants; its number, 0 when that is nothing. */
static int64
divider_split(const Order *order, char *reason, size_t size)
{
	FaFragment *f = fa_map_fragment(order->fragment);
	FaHotKeys	hot;
	FaDdlState	state;
	bool		found = false;
	char	   *fragment;

	if (f == NULL || !f->local || fa_node_find(order->destination) == NULL)
		return 0;
	fa_ddl_begin(&state);
	found = fa_hot_keys(f, order->destination, &hot);
	fa_ddl_end(&state);
	if (!found || !divider_is_worth_it(f, &hot.range))
		return 0;
	snprintf(reason, size,
			 "keys from \"%s\" to \"%s\", %.1f %% of the rows of fragment " INT64_FORMAT
			 ", have %.0f %% of this node's accesses to it, which are %.0f %% of all to them",
			 hot.key_from, hot.key_to ? hot.key_to : "the end",
			 100 * hot.range.rows, f->fragment, 100 * hot.range.share,
			 100 * hot.range.purity);
	fragment = fa_spi_value("SELECT (fragaffinity.split_fragment(" INT64_FORMAT
							", VARIADIC ARRAY[%s%s%s]))[1]", f->fragment,
							quote_literal_cstr(hot.key_from),
							hot.key_to ? ", " : "",
							hot.key_to ? quote_literal_cstr(hot.key_to) : "");
	return strtoi64(fragment, NULL, 10);
}

/* False when it has found that there is nothing to do. */
static bool
divider_run(const Order *order)
{
	char		reason[512];
	int64		part;

	divider_begin();
	/* asked again while another is still at it, or waits */
	if (fa_spi_value("SELECT pg_catalog.pg_try_advisory_lock(" DIVIDER_CLAIM ")",
					 (int) order->fragment)[0] != 't' ||
		!fa_divide_may_begin(order->other != 0 ? order->other : order->fragment,
							 order->other != 0))
	{
		divider_end();
		return false;
	}
	if (order->other != 0)
	{
		(void) fa_spi_rows("SELECT fragaffinity.merge_fragments(" INT64_FORMAT ", "
						   INT64_FORMAT ")", order->fragment, order->other);
		divider_end();
		ereport(LOG,
				(errmsg("united fragments " INT64_FORMAT " and " INT64_FORMAT,
						order->fragment, order->other)));
		return true;
	}
	part = order->destination != 0 ?
		divider_split(order, reason, sizeof(reason)) :
		divider_cut(order, reason, sizeof(reason));
	divider_end();
	if (part == 0)
	{
		ereport(DEBUG1,
				(errmsg_internal("no part of fragment " INT64_FORMAT
								 " is worth a split", order->fragment)));
		return false;
	}
	ereport(LOG,
			(errmsg("split fragment " INT64_FORMAT " off: %s", part, reason)));
	if (order->destination == 0)
		return true;
	divider_begin();
	(void) fa_spi_rows("SELECT fragaffinity.request_move(" INT64_FORMAT ", %s,"
					   " 'reactive', %s, %.6g)", part,
					   quote_literal_cstr(fa_node_find(order->destination)->name),
					   quote_literal_cstr(reason), order->benefit_ms);
	divider_end();
	return true;
}

/*
 * Writes the error that is being handled to the log, and ends its transaction.
 * NULL: it says nothing about the next try, as a fragment that moves.
 */
static const char *
divider_failed(void)
{
	ErrorData  *error;

	/* where it outlives the transaction */
	MemoryContextSwitchTo(TopMemoryContext);
	HOLD_INTERRUPTS();
	error = CopyErrorData();
	EmitErrorReport();
	FlushErrorState();
	AbortOutOfAnyTransaction();
	RESUME_INTERRUPTS();
	return error->sqlerrcode == ERRCODE_OBJECT_IN_USE ? NULL : error->message;
}

void
fa_divider_main(Datum arg)
{
	Order		order;
	volatile bool tell = false;
	const char *volatile error = NULL;

	memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(order));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnectionByOid(order.dbid, InvalidOid, 0);
	fa_background_session();
	PG_TRY();
	{
		tell = divider_run(&order);
	}
	PG_CATCH();
	{
		error = divider_failed();
		tell = error != NULL;
	}
	PG_END_TRY();
	if (tell)
	{
		divider_begin();
		/* of a union, the part is what did not go back */
		fa_divide_tell(order.other != 0 ? order.other : order.fragment,
					   order.other != 0, error);
		divider_end();
	}
	proc_exit(0);
}
