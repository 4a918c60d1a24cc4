/*
 * group.c
 *	  Fragments that should be on one node; see group.h.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "core/spi.h"
#include "placement/cost.h"
#include "placement/group.h"
#include "placement/keep_room.h"

static double
member_cost_ms(FaPlaceInput *input, const FaPlaceRow *row)
{
	FaTablePolicy *table = fa_controller_policy(input, row->table_id);

	return table->cost_fixed_ms + table->cost_factor *
		fa_cost_move_ms(row->bytes, input->bytes_per_ms);
}

static double
member_part(FaPlaceInput *input, const FaPlaceRow *row)
{
	const struct FaGroup *group = row->group;

	return group->cost_ms > 0 ? member_cost_ms(input, row) / group->cost_ms :
		1.0 / group->n;
}

static struct FaGroup *
group_of(FaPlaceRow *row)
{
	if (row->group == NULL)
	{
		row->group = palloc0(sizeof(struct FaGroup));
		row->group->n = 1;
		row->group->place = -1;
		row->group->member[0] = row;
	}
	return row->group;
}

static void
group_link(FaPlaceRow *one, FaPlaceRow *other)
{
	struct FaGroup *to = group_of(one);
	struct FaGroup *from = group_of(other);

	if (to == from || to->n + from->n > FA_GROUP_MAX)
		return;
	for (int i = 0; i < from->n; i++)
	{
		from->member[i]->group = to;
		to->member[to->n++] = from->member[i];
	}
	pfree(from);
}

/*
 * Sum of the members' recent accesses, to each its part.  seen has the
 * accesses of each: the rows themselves, or others in their order.
 */
static void
group_share_recent(FaPlaceInput *input, struct FaGroup *group,
				   const FaPlaceRow *seen)
{
	int			n = input->nrecent * input->cluster.nnodes;
	double	   *sum = palloc0(sizeof(double) * Max(n, 1));
	bool		any = false;

	for (int m = 0; m < group->n; m++)
	{
		const double *recent = seen[group->member[m] - input->row].recent;

		for (int i = 0; recent && i < n; i++)
			sum[i] += recent[i];
		any = any || recent;
	}
	for (int m = 0; m < group->n; m++)
	{
		FaPlaceRow *row = group->member[m];
		double		part = member_part(input, row);

		if (seen != input->row)
			row->recent = NULL;
		if (any && row->recent == NULL)
			row->recent = palloc(sizeof(double) * n);
		for (int i = 0; any && i < n; i++)
			row->recent[i] = part * sum[i];
	}
	pfree(sum);
}

static bool
may_link(FaPlaceInput *input, const FaPlaceRow *row, bool found)
{
	return row != NULL &&
		(!found || fa_controller_policy(input, row->table_id)->co_access);
}

/* Links pairs of fragments; found: they were not declared.  How many. */
static int
link_rows(FaPlaceInput *input, const FaRows *rows, bool found)
{
	int			n = 0;

	for (int i = 0; i < rows->nrows; i++)
	{
		FaPlaceRow *from = fa_controller_row(input, strtoi64(rows->value[i][0], NULL, 10));
		FaPlaceRow *to = fa_controller_row(input, strtoi64(rows->value[i][1], NULL, 10));

		if (!may_link(input, from, found) || !may_link(input, to, found))
			continue;
		group_link(from, to);
		n++;
	}
	return n;
}

/* The members as decisions see them, and room where they have begun to go. */
static void
group_keep_room(FaPlaceInput *input, const struct FaGroup *group)
{
	FaPlaceGroup *to = &input->cluster.group[group->number];

	to->n = group->n;
	to->member = palloc0(sizeof(FaPlaceMember) * group->n);
	for (int m = 0; m < group->n; m++)
	{
		const FaPlaceRow *row = group->member[m];
		FaTablePolicy *table = fa_controller_policy(input, row->table_id);
		FaPlaceMember *member = &to->member[m];

		member->id = row->fragment;
		member->owner = row->owner;
		member->heading = row->heading;
		member->arrived = row->previous_owner >= 0 && row->since_move_ms <=
			Max(table->policy.min_residency_ms,
				FA_FOLLOW_STEPS * input->cluster.step_ms);
		member->since_move_ms = row->since_move_ms;
		member->bytes = row->bytes;
		/* what is planned has its room kept by the plan */
		member->may_follow = row->owner >= 0 && row->planned < 0 &&
			!row->pinned &&
			(table->act || input->cluster.node[row->owner].draining);
	}
	fa_keep_for_group(&input->cluster, group->number);
}

/*
 * Numbers the groups, and after them one for each node, of what a rebalance
 * has planned to bring there.
 */
static void
group_number_all(FaPlaceInput *input)
{
	input->ngroups = 0;
	fa_keep_nothing(&input->cluster);
	for (int i = 0; i < input->nrows; i++)
	{
		struct FaGroup *group = input->row[i].group;

		if (group && group->member[0] == &input->row[i])
			group->number = ++input->ngroups;
	}
	input->cluster.group = palloc0(sizeof(FaPlaceGroup) *
								   (1 + input->ngroups + input->cluster.nnodes));
	for (int i = 0; i < input->nrows; i++)
	{
		FaPlaceRow *row = &input->row[i];

		if (row->group && row->group->member[0] == row)
			group_keep_room(input, row->group);
		if (row->planned >= 0 && row->owner >= 0 && !row->pinned &&
			row->owner != row->planned && row->heading != row->planned)
			fa_keep_room(&input->cluster, fa_group_number(input, row),
						 row->planned, row->bytes);
	}
}

int
fa_group_number(const FaPlaceInput *input, const FaPlaceRow *row)
{
	if (row->planned >= 0)
		return input->ngroups + 1 + row->planned;
	return row->group ? row->group->number : 0;
}

void
fa_group_refresh(FaPlaceInput *input, const FaPlaceRow *seen)
{
	group_number_all(input);
	for (int i = 0; i < input->nrows; i++)
	{
		FaPlaceRow *row = &input->row[i];

		if (row->group && row->group->member[0] == row)
			group_share_recent(input, row->group, seen);
	}
}

void
fa_group_gather(FaPlaceInput *input)
{
	int			links;

	links = link_rows(input,
					  fa_spi_rows("SELECT l.from_fragment, l.to_fragment"
								  " FROM fragaffinity.hint_link l"
								  " JOIN fragaffinity.hint h ON h.hint = l.hint"
								  " WHERE h.kind = 'dependency' ORDER BY 1, 2"),
					  false);
	/* the strongest first: a group has an end */
	links += link_rows(input,
					   fa_spi_rows("SELECT fragment, other"
								   " FROM fragaffinity.co_access_pair"
								   " ORDER BY share DESC, 1, 2"), true);
	for (int i = 0; links > 0 && i < input->nrows; i++)
	{
		FaPlaceRow *row = &input->row[i];

		if (row->group && row->group->n == 1)
			row->group = NULL;
		if (row->group)
			row->group->cost_ms += member_cost_ms(input, row);
	}
	fa_group_refresh(input, input->row);
}

int
fa_group_place(const FaPlaceInput *input, const FaPlaceRow *row)
{
	double		bytes[FA_GROUP_MAX];
	int			place[FA_GROUP_MAX];
	int			n = 0;
	int			best = -1;

	if (row->group->place >= 0)
		return row->group->place;
	for (int m = 0; m < row->group->n; m++)
	{
		const FaPlaceRow *that = row->group->member[m];
		int			at = that->heading >= 0 ? that->heading : that->owner;
		int			i = 0;

		if (at < 0 || !input->cluster.node[at].alive ||
			input->cluster.node[at].draining)
			continue;
		while (i < n && place[i] != at)
			i++;
		if (i == n)
		{
			place[n] = at;
			bytes[n++] = 0;
		}
		bytes[i] += that->bytes;
		if (best < 0 || bytes[i] > bytes[best])
			best = i;
	}
	return best < 0 ? -1 : place[best];
}

double
fa_group_profile(FaPlaceInput *input, const FaPlaceRow *row, FaForecaster *f,
				 FaHints *hints, const int *ahead, int nahead, double *profile)
{
	int			n = nahead * f->nnodes;
	double	   *one = palloc(sizeof(double) * n);
	double		evidence = 0;
	double		part = member_part(input, row);

	memset(profile, 0, sizeof(double) * n);
	for (int m = 0; m < row->group->n; m++)
	{
		int			index = fa_numbering_find(&f->fragments, row->group->member[m]->fragment);

		if (index < 0)
			continue;
		memset(one, 0, sizeof(double) * n);
		evidence += fa_predictor_profile(f->predictor, index, ahead, nahead, one);
		fa_hints_profile(f, hints, index, ahead, nahead, one);
		for (int i = 0; i < n; i++)
			profile[i] += part * one[i];
	}
	pfree(one);
	return evidence;
}
