/*
 * keep_room.c
 *	  Room for fragments that are to follow others to their new node.
 *
 * Those of a group are moved one after the other, as limits let them.  Were the
 * room for the last of them not kept from the first on, others could take it,
 * and the group would end in two halves.
 */
#include <math.h>

#include "placement/keep_room.h"
#include "placement/plan.h"

void
fa_keep_nothing(FaPlaceCluster *cluster)
{
	int			n;

	for (n = 0; n < cluster->nnodes; n++)
		cluster->node[n].kept = 0;
}

void
fa_keep_room(FaPlaceCluster *cluster, int number, int node, double bytes)
{
	cluster->group[number].node = node;
	cluster->group[number].bytes += bytes;
	cluster->node[node].kept += bytes;
}

static bool
is_to_come(const FaPlaceMember *member, int node)
{
	return member->owner >= 0 && member->owner != node &&
		member->heading != node && member->may_follow;
}

/* Where a group has begun to go; -1: nowhere. */
static int
group_heading(const FaPlaceGroup *group)
{
	double		latest = INFINITY;
	int			at = -1;
	int			m;

	for (m = 0; m < group->n; m++)
	{
		const FaPlaceMember *member = &group->member[m];

		if (member->heading >= 0)
			return member->heading;
		if (member->arrived && member->since_move_ms < latest)
		{
			latest = member->since_move_ms;
			at = member->owner;
		}
	}
	return at;
}

void
fa_keep_for_group(FaPlaceCluster *cluster, int number)
{
	const FaPlaceGroup *group = &cluster->group[number];
	int			at = group_heading(group);
	int			m;

	if (at < 0 || !cluster->node[at].alive || cluster->node[at].draining)
		return;
	for (m = 0; m < group->n; m++)
	{
		if (is_to_come(&group->member[m], at))
			fa_keep_room(cluster, number, at, group->member[m].bytes);
	}
}

double
fa_place_room(const FaPlaceCluster *cluster, const FaPlaceItem *item, int node)
{
	double		bytes = item->bytes;
	int			m;

	if (item->group == 0)
		return bytes;
	for (m = 0; m < cluster->group[item->group].n; m++)
	{
		const FaPlaceMember *other = &cluster->group[item->group].member[m];

		if (other->id != item->id && is_to_come(other, node))
			bytes += other->bytes;
	}
	return bytes;
}

double
fa_place_taken(const FaPlaceCluster *cluster, const FaPlaceItem *item, int node)
{
	const FaPlaceNode *p = &cluster->node[node];
	double		own = 0;

	if (item->group > 0 && cluster->group[item->group].node == node)
		own = cluster->group[item->group].bytes;
	return p->used + p->kept - own;
}

void
fa_keep_for_others(FaPlaceCluster *cluster, const FaPlaceItem *item, int node)
{
	FaPlaceGroup *group;
	double		others;
	int			m;

	if (item->group == 0)
		return;
	group = &cluster->group[item->group];
	others = group->n > 0 ? fa_place_room(cluster, item, node) :
		group->bytes;
	cluster->node[group->node].kept -= group->bytes;
	group->node = node;
	group->bytes = fmax(others - item->bytes, 0);
	cluster->node[node].kept += group->bytes;
	for (m = 0; m < group->n; m++)
	{
		if (group->member[m].id == item->id)
			group->member[m].heading = node;
	}
}
