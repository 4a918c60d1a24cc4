/*
 * divide.c
 *	  Where it could pay to divide a fragment, and where it no longer does.
 *
 * A fragment stays because its owner, or nobody, wants all of it; yet another
 * node's clients may wait for a part.  The coordinator sees how much they use
 * the fragment and what a remote access costs them; which keys it is about
 * only the owner can find out, who knows its rows and asks all nodes.  So the
 * coordinator asks the owner where the half of these accesses would pay for a
 * split and a move, and the same fragment not again for min_residency.
 *
 * A part that nobody but its owner has used for merge_after goes back to the
 * rest, once they have the same owner.
 */
#include "postgres.h"

#include <math.h>

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "core/background.h"
#include "core/settings.h"
#include "core/spi.h"
#include "node/node.h"
#include "node/peer_pool.h"
#include "placement/cost.h"
#include "placement/divide.h"

#define LEAST_ACCESSES 30		/* in the recent steps */
#define PART_OF_ACCESSES 0.5	/* that a part is hoped to have */
#define PART_OF_BYTES 0.1
#define MARGIN 2				/* by which the hoped-for must exceed its cost */
#define UNITE_MS 60000			/* between looks for what to unite, at most */

typedef struct Asked
{
	struct Asked *next;
	int64		fragment;
	TimestampTz until;			/* then it may be asked again */
	int			node;			/* owner */
	bool		sent;
	char		sql[FLEXIBLE_ARRAY_MEMBER];
} Asked;

static Asked *asked = NULL;

static bool
divide_was_asked(int64 fragment)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		found = false;

	for (Asked **link = &asked; *link;)
	{
		Asked	   *a = *link;

		if (a->sent && a->until < now)
		{
			*link = a->next;
			pfree(a);
			continue;
		}
		found = found || a->fragment == fragment;
		link = &a->next;
	}
	return found;
}

static void
divide_ask(int64 fragment, int node, double rest_ms, const char *sql)
{
	Asked	   *a = MemoryContextAllocZero(TopMemoryContext,
										   offsetof(Asked, sql) + strlen(sql) + 1);

	strcpy(a->sql, sql);
	a->fragment = fragment;
	a->node = node;
	a->until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), rest_ms);
	a->next = asked;
	asked = a;
}

/*
 * The node whose clients wait most for the fragment; -1 when too few accesses
 * were seen.  *waiting_p: by how much, in ms a step.
 */
static int
divide_who_waits(const FaPlaceInput *input, const FaPlaceRow *row,
				 double *waiting_p)
{
	int			nn = input->cluster.nnodes;
	int			best = -1;

	*waiting_p = 0;
	for (int i = 0; i < nn; i++)
	{
		double		accesses = 0;
		double		waiting;

		if (i == row->owner || !input->cluster.node[i].alive ||
			input->cluster.node[i].draining)
			continue;
		for (int k = 0; k < input->nrecent; k++)
			accesses += row->recent[k * nn + i];
		waiting = accesses / input->nrecent *
			input->cluster.extra_ms[i * nn + row->owner];
		if (accesses >= LEAST_ACCESSES && waiting > *waiting_p)
		{
			*waiting_p = waiting;
			best = i;
		}
	}
	return best;
}

static void
divide_consider(FaPlaceInput *input, FaForecaster *f, const FaPlaceRow *row)
{
	FaTablePolicy *table;
	double		waiting;
	double		benefit;
	double		cost;
	int			node;

	/* who split one of a group would part it from the others */
	if (row->recent == NULL || row->owner < 0 || row->group || row->planned >= 0 ||
		row->moving || row->pinned ||
		fa_request_pending(row->fragment) || divide_was_asked(row->fragment))
		return;
	node = divide_who_waits(input, row, &waiting);
	if (node < 0)
		return;
	table = fa_controller_policy(input, row->table_id);
	if (!table->act || table->policy.closed ||
		row->since_move_ms < table->policy.min_residency_ms ||
		!input->cluster.node[row->owner].alive ||
		row->bytes < fa_setting_float("split_size", row->table_id) ||
		!fa_setting_bool("auto_split", row->table_id))
		return;
	benefit = waiting * PART_OF_ACCESSES * f->horizons[f->nhorizons - 1];
	cost = table->cost_fixed_ms + table->cost_factor *
		fa_cost_move_ms(row->bytes * PART_OF_BYTES, input->bytes_per_ms);
	if (benefit < MARGIN * cost)
		return;
	divide_ask(row->fragment, input->name[row->owner].id,
			   table->policy.min_residency_ms,
			   psprintf("SELECT fragaffinity.request_division(" INT64_FORMAT
						", %s, %.6g)", row->fragment,
						quote_literal_cstr(input->name[node].name), benefit));
}

/* Parts of a table that nobody but their owner wants, beside their rest. */
static void
divide_unite(FaPlaceInput *input, int table_id)
{
	double		after_ms = fa_setting_float("merge_after", table_id);
	double		limit = fa_setting_float("fragment_size", table_id);
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT f.fragment, r.fragment, f.owner"
					   " FROM fragaffinity.fragment f"
					   " JOIN fragaffinity.fragment r ON r.home = f.home"
					   "  AND r.owner = f.owner AND r.fragment <> f.fragment"
					   "  AND r.key_from IS NULL AND r.key_to IS NULL"
					   " WHERE f.table_id = %d"
					   "  AND f.made < now() - interval '%.0f ms'"
					   "  AND NOT EXISTS (SELECT FROM fragaffinity.access_total t"
					   "   WHERE t.fragment = f.fragment AND t.node <> f.owner"
					   "    AND t.last_access > now() - interval '%.0f ms')",
					   table_id, after_ms, after_ms);
	for (int i = 0; i < rows->nrows; i++)
	{
		FaPlaceRow *part = fa_controller_row(input, strtoi64(rows->value[i][0], NULL, 10));
		FaPlaceRow *rest = fa_controller_row(input, strtoi64(rows->value[i][1], NULL, 10));

		if (part == NULL || rest == NULL || part->moving || rest->moving ||
			part->pinned || rest->pinned || part->bytes > limit ||
			divide_was_asked(part->fragment) || divide_was_asked(rest->fragment))
			continue;
		divide_ask(rest->fragment, atoi(rows->value[i][2]),
				   Min(after_ms, UNITE_MS),
				   psprintf("SELECT fragaffinity.request_union(%s, %s)",
							rows->value[i][1], rows->value[i][0]));
	}
}

void
fa_divide_look(FaPlaceInput *input, FaForecaster *f)
{
	static TimestampTz united = 0;
	TimestampTz now = GetCurrentTimestamp();
	FaRows	   *rows;

	for (int i = 0; i < input->nrows; i++)
		divide_consider(input, f, &input->row[i]);
	if (united != 0 && united <= now &&
		!TimestampDifferenceExceeds(united, now,
									Min(UNITE_MS, (int) (f->width_us / 1000))))
		return;
	united = now;
	rows = fa_spi_rows("SELECT DISTINCT table_id FROM fragaffinity.fragment"
					   " WHERE home <> bucket");
	for (int i = 0; i < rows->nrows; i++)
	{
		int			table_id = atoi(rows->value[i][0]);
		FaTablePolicy *table = fa_controller_policy(input, table_id);

		if (table->act && !table->policy.closed &&
			fa_setting_bool("auto_split", table_id))
			divide_unite(input, table_id);
	}
}

static void
divide_answered(int node, PGresult *res, void *arg)
{
	if (res == NULL || PQresultStatus(res) == PGRES_TUPLES_OK)
		return;
	ereport(LOG,
			(errmsg("node %d refused to divide or unite a fragment: %s", node,
					PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY))));
}

void
fa_divide_send(void)
{
	int			self;

	if (asked == NULL)
		return;
	fa_background_begin();
	self = fa_node_self();
	CommitTransactionCommand();
	for (Asked *a = asked; a; a = a->next)
	{
		if (a->sent)
			continue;
		a->sent = true;
		if (a->node != self)
		{
			fa_pool_submit(a->node, a->sql, divide_answered, NULL);
			continue;
		}
		fa_background_begin();
		PushActiveSnapshot(GetTransactionSnapshot());
		(void) fa_spi_rows("%s", a->sql);
		PopActiveSnapshot();
		CommitTransactionCommand();
	}
}
