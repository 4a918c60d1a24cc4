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

/* Where a group has begun to go; -1: nowhere. */
static int
group_heading(const FaFollower *member, int n)
{
	double		latest = INFINITY;
	int			at = -1;
	int			m;

	for (m = 0; m < n; m++)
	{
		if (member[m].heading >= 0)
			return member[m].heading;
		if (member[m].arrived && member[m].since_move_ms < latest)
		{
			latest = member[m].since_move_ms;
			at = member[m].owner;
		}
	}
	return at;
}

void
fa_keep_for_group(FaPlaceCluster *cluster, int number,
				  const FaFollower *member, int n)
{
	int			at = group_heading(member, n);
	int			m;

	if (at < 0 || !cluster->node[at].alive || cluster->node[at].draining)
		return;
	for (m = 0; m < n; m++)
	{
		if (member[m].owner >= 0 && member[m].owner != at &&
			member[m].heading != at && member[m].may_follow)
			fa_keep_room(cluster, number, at, member[m].bytes);
	}
}
