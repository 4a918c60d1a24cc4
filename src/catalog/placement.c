/*
 * placement.c
 *	  How many fragments a new distributed table gets, and where.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "catalog/table_move.h"
#include "catalog/table_text.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "node/cluster_xact.h"
#include "node/node.h"

/*
 * A node's load can only be shifted by whole fragments: with four on each
 * node, one move shifts a quarter of its share, fine enough to balance and
 * few enough to plan.
 */
#define FRAGMENTS_PER_NODE 4
#define MAX_FRAGMENTS 1024

/*
 * As many as keep each near fragment_size, but at least FRAGMENTS_PER_NODE
 * for each node over all partitions, and one for each node in each partition:
 * a partition by time is where all of the load may be.
 */
int
fa_place_count(List *tree)
{
	double		fragment_size = fa_setting_float("fragment_size", 0);
	double		largest = 0;
	int			nnodes = list_length(fa_node_list());
	int			npartitions = 0;
	double		count;
	ListCell   *lc;

	foreach(lc, tree)
	{
		FaTreeRel  *r = lfirst(lc);

		if (!r->leaf)
			continue;
		npartitions++;
		largest = Max(largest, atof(fa_spi_value("SELECT pg_catalog.pg_table_size(%u)",
												 r->rel)));
	}
	count = Max(nnodes, (double) FRAGMENTS_PER_NODE * nnodes / Max(npartitions, 1));
	count = Max(count, largest / fragment_size);
	return (int) Min(count + 0.999, MAX_FRAGMENTS);
}

/* Nodes that may get fragments; one of them for a placement on one node. */
static List *
candidates(const char *placement)
{
	List	   *nodes = NIL;
	ListCell   *lc;

	if (strcmp(placement, "local") == 0)
		return list_make1(fa_node_find(fa_node_self()));
	if (strcmp(placement, "balanced") != 0)
	{
		FaNode	   *node = fa_node_by_name(placement);

		if (node->draining)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("node \"%s\" is draining", placement),
					 errhint("Choose another node or 'balanced'.")));
		return list_make1(node);
	}
	foreach(lc, fa_node_list())
	{
		FaNode	   *node = lfirst(lc);

		if (!node->draining)
			nodes = lappend(nodes, node);
	}
	if (nodes == NIL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("every node is draining")));
	return nodes;
}

/*
 * Smooth weighted round robin: each turn every node gains its weight, the
 * richest takes the fragment and pays the sum.  A node without a limit weighs
 * as much as the largest.
 */
static void
deal(List *nodes, int *owners, int n)
{
	int			nnodes = list_length(nodes);
	double	   *weight = palloc(sizeof(double) * nnodes);
	double	   *credit = palloc0(sizeof(double) * nnodes);
	double		largest = 0;
	double		sum = 0;
	ListCell   *lc;

	foreach(lc, nodes)
		largest = Max(largest, (double) ((FaNode *) lfirst(lc))->capacity);
	foreach(lc, nodes)
	{
		double		capacity = ((FaNode *) lfirst(lc))->capacity;
		int			i = foreach_current_index(lc);

		weight[i] = capacity > 0 ? capacity / largest : 1;
		sum += weight[i];
	}
	for (int f = 0; f < n; f++)
	{
		int			best = 0;

		for (int i = 0; i < nnodes; i++)
		{
			credit[i] += weight[i];
			/* not so that rounding decides between equals */
			if (credit[i] > credit[best] + 1e-9)
				best = i;
		}
		credit[best] -= sum;
		owners[f] = ((FaNode *) list_nth(nodes, best))->id;
	}
}

/* Owner by remainder of a table whose partitions all agree. */
static void
copy_owners(int like, int npartitions, int count, int *owners)
{
	FaRows	   *rows;

	rows = fa_spi_rows("WITH f AS ("
					   "  SELECT f.owner, pg_catalog.row_number() OVER"
					   "      (PARTITION BY i.inhparent ORDER BY f.fragment) AS n"
					   "    FROM fragaffinity.fragment f"
					   "    JOIN pg_catalog.pg_inherits i ON i.inhrelid = f.home"
					   "   WHERE f.table_id = %d"
					   "     AND f.key_from IS NULL AND f.key_to IS NULL) "
					   "SELECT min(owner), max(owner) FROM f GROUP BY n ORDER BY n",
					   like);
	for (int i = 0; i < rows->nrows; i++)
	{
		if (strcmp(rows->value[i][0], rows->value[i][1]) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("the partitions of the table to be co-located with lie on different nodes"),
					 errhint("Co-locate with a table that is not partitioned by its user.")));
		for (int p = 0; p < npartitions; p++)
			owners[p * count + i] = atoi(rows->value[i][0]);
	}
}

int *
fa_place_owners_like(Oid like, int count)
{
	FaRows	   *rows;
	int		   *owners = NULL;
	int		   *others = NULL;
	List	   *nodes;

	rows = fa_spi_rows("SELECT f.owner FROM fragaffinity.fragment f "
					   "JOIN pg_catalog.pg_inherits i ON i.inhrelid = f.home "
					   "WHERE i.inhparent = %u"
					   "  AND f.key_from IS NULL AND f.key_to IS NULL "
					   "ORDER BY f.fragment", like);
	if (rows->nrows != count)
		return NULL;
	nodes = candidates("balanced");
	owners = palloc(sizeof(int) * count);
	for (int i = 0; i < count; i++)
	{
		owners[i] = atoi(rows->value[i][0]);
		if (!fa_node_find(owners[i])->draining)
			continue;
		if (others == NULL)
		{
			others = palloc(sizeof(int) * count);
			deal(nodes, others, count);
		}
		owners[i] = others[i];
	}
	return owners;
}

int64
fa_place_number(int64 n)
{
	int64		used;

	used = strtoi64(fa_spi_value("SELECT pg_catalog.count(*) FROM fragaffinity.fragment"),
					NULL, 10);
	if (n + used > fa_max_fragments)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("the table would need " INT64_FORMAT " fragments, but only " INT64_FORMAT " are left",
						n, Max(fa_max_fragments - used, 0)),
				 errhint("Ask for fewer fragments, or raise fragaffinity.max_fragments on every node.")));
	return strtoi64(fa_xact_ask_coordinator(psprintf("SELECT fragaffinity.take_fragment_numbers(" INT64_FORMAT ")",
													 n)), NULL, 10);
}

int *
fa_place_owners(const char *placement, int npartitions, int count, int like)
{
	int		   *owners = palloc(sizeof(int) * npartitions * count);

	if (like != 0)
		copy_owners(like, npartitions, count, owners);
	else
		deal(candidates(placement), owners, npartitions * count);
	return owners;
}
