/*
 * divide.c
 *	  Where it could pay to divide a fragment, and where it no longer does.
 *
 * A fragment stays because its owner, or nobody, wants all of it; yet another
 * node's clients may wait for a part.  The coordinator sees how much they use
 * the fragment and what a remote access costs them; which keys it is about
 * only the owner can find out, who knows its rows and asks all nodes.  So the
 * coordinator asks the owner where the half of these accesses would pay for a
 * split and a move, and the same fragment not again for min_residency; longer
 * after it has failed (divide_rest.c).
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

/* Asked for, and not so long ago that it may be asked again. */
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

void
fa_divide_ask(int64 fragment, int node, double rest_ms, const char *sql)
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

/* The verdict on what holds a fragment's division back; NULL: nothing. */
static const char *
divide_held(FaPlaceInput *input, const FaPlaceRow *row)
{
	FaTablePolicy *table = fa_controller_policy(input, row->table_id);

	if (!fa_setting_bool("auto_split", row->table_id))
		return "switched off";
	/* who split one of a group would part it from the others */
	if (row->group)
		return "used together";
	if (row->pinned)
		return fa_verdict_name(FA_VERDICT_PINNED);
	if (row->moving || row->planned >= 0 || fa_request_pending(row->fragment))
		return fa_verdict_name(FA_VERDICT_MOVING);
	if (table->policy.closed)
		return fa_verdict_name(FA_VERDICT_WINDOW);
	if (row->since_move_ms < table->policy.min_residency_ms)
		return fa_verdict_name(FA_VERDICT_RESIDENCY);
	if (!input->cluster.node[row->owner].alive)
		return fa_verdict_name(FA_VERDICT_DOWN);
	return NULL;
}

void
fa_divide_judge(FaPlaceInput *input, const FaPlaceRow *row,
				const FaPlaceRow *other, FaDivideNote *note)
{
	note->verdict = divide_held(input, row);
	if (note->verdict == NULL && other)
		note->verdict = divide_held(input, other);
	fa_divide_rest(note, row->table_id);
	if (note->verdict == NULL &&
		(divide_was_asked(row->fragment) ||
		 (other && divide_was_asked(other->fragment))))
		note->verdict = "asked";
}

/* Could it pay to split off what one node wants?  True when it is wanted. */
static bool
divide_consider(FaPlaceInput *input, FaForecaster *f, const FaPlaceRow *row)
{
	FaTablePolicy *table = fa_controller_policy(input, row->table_id);
	FaDivideNote note = {.fragment = row->fragment};
	double		waiting;
	int			node;

	if (row->recent == NULL)
		return false;
	node = divide_who_waits(input, row, &waiting);
	if (node < 0 ||
		row->bytes < fa_setting_float("split_size", row->table_id))
		return false;
	note.benefit_ms = waiting * PART_OF_ACCESSES * f->horizons[f->nhorizons - 1];
	note.cost_ms = table->cost_fixed_ms + table->cost_factor *
		fa_cost_move_ms(row->bytes * PART_OF_BYTES, input->bytes_per_ms);
	if (note.benefit_ms < MARGIN * note.cost_ms)
		return false;
	note.destination = input->name[node].id;
	note.reason = psprintf("node %s waits for it %.1f ms a step: half of that over the longest horizon would pay for %.0f %% of its bytes",
						   input->name[node].name, waiting, 100 * PART_OF_BYTES);
	fa_divide_judge(input, row, NULL, &note);
	if (note.verdict == NULL && table->act)
		fa_divide_ask(row->fragment, input->name[row->owner].id,
					  table->policy.min_residency_ms,
					  psprintf("SELECT fragaffinity.request_division(" INT64_FORMAT
							   ", %s, %.6g)", row->fragment,
							   quote_literal_cstr(input->name[node].name),
							   note.benefit_ms));
	fa_divide_note(&note);
	return true;
}

void
fa_divide_look(FaPlaceInput *input, FaForecaster *f)
{
	static TimestampTz united = 0;
	TimestampTz now = GetCurrentTimestamp();

	fa_divide_forget_notes();
	fa_divide_read_failures();
	for (int i = 0; i < input->nrows; i++)
	{
		FaPlaceRow *row = &input->row[i];

		if (row->owner >= 0 &&
			fa_controller_policy(input, row->table_id)->decide &&
			!divide_consider(input, f, row))
			fa_divide_by_size(input, row);
	}
	fa_divide_write_notes(false);
	if (united != 0 && united <= now &&
		!TimestampDifferenceExceeds(united, now,
									Min(UNITE_MS, (int) (f->width_us / 1000))))
		return;
	united = now;
	fa_divide_unite(input);
	fa_divide_write_notes(true);
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
