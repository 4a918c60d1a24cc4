/*
 * wait_graph.c
 *	  Who waits for whom, over all nodes, and whether that is a circle.
 *
 * Plain C on plain structs, so that it is tested without a server.
 *
 * Sessions of postgres_fdw at a peer are not by themselves: what they wait for
 * and what waits for them is their origin's, and the origin may itself work
 * for another node.  So every session stands for its root, the client's
 * session, and the graph is one of roots: an edge for every wait at every
 * node.  A transaction that waits for itself, in two sessions at one node, is
 * a circle, too.
 */
#include <stdlib.h>
#include <string.h>

#include "node/wait_graph.h"

#define MAX_HOPS 16

static int
session_compare(const void *a, const void *b)
{
	const FaWaitSession *s = a;
	const FaWaitSession *t = b;

	if (s->node != t->node)
		return s->node < t->node ? -1 : 1;
	return s->pid < t->pid ? -1 : s->pid > t->pid;
}

static int
graph_find(const FaWaitSession *sessions, int n, int node, int pid)
{
	FaWaitSession key = {0};
	const FaWaitSession *found;

	key.node = node;
	key.pid = pid;
	found = bsearch(&key, sessions, n, sizeof(FaWaitSession), session_compare);
	return found ? (int) (found - sessions) : -1;
}

/*
 * The client's session that s works for.  One whose origin cannot be found
 * stands for itself: its node is down or its transaction is over, and then
 * nothing that waits is to be cancelled for it.
 */
static int
graph_root(const FaWaitSession *sessions, int n, int s)
{
	for (int hop = 0; hop < MAX_HOPS && sessions[s].origin_node != 0; hop++)
	{
		int			origin = graph_find(sessions, n, sessions[s].origin_node,
										sessions[s].origin_pid);

		if (origin < 0)
			break;
		s = origin;
	}
	return s;
}

typedef struct Search
{
	const FaWaitSession *sessions;
	int			n;
	const int  *root;
	char	   *state;			/* of a root: 0 new, 1 on the path, 2 done */
	FaWaitEdge *path;
	int			depth;
	int			start;			/* of the circle in path, once found */
} Search;

/* Follows all waits of a root; true when they come back to the path. */
static int
graph_visit(Search *search, int root)
{
	search->state[root] = 1;
	for (int w = 0; w < search->n; w++)
	{
		const FaWaitSession *waiter = &search->sessions[w];

		if (search->root[w] != root || waiter->nblockers == 0)
			continue;
		for (int b = 0; b < waiter->nblockers; b++)
		{
			int			blocker = graph_find(search->sessions, search->n,
											 waiter->node, waiter->blockers[b]);
			FaWaitEdge *edge = &search->path[search->depth];
			int			next;

			if (blocker < 0)
				continue;
			next = search->root[blocker];
			edge->root = root;
			edge->waiter = w;
			edge->next_root = next;
			if (search->state[next] == 1)
			{
				int			i = search->depth++;

				while (search->path[i].root != next)
					i--;
				search->start = i;
				return 1;
			}
			if (search->state[next] == 0)
			{
				search->depth++;
				if (graph_visit(search, next))
					return 1;
				search->depth--;
			}
		}
	}
	search->state[root] = 2;
	return 0;
}

int
fa_wait_graph_cycle(FaWaitSession *sessions, int n, FaWaitEdge *edges)
{
	Search		search = {0};
	int		   *root = malloc(sizeof(int) * (n + 1));
	int			found = 0;

	qsort(sessions, n, sizeof(FaWaitSession), session_compare);
	search.sessions = sessions;
	search.n = n;
	search.root = root;
	search.state = calloc(n + 1, 1);
	search.path = malloc(sizeof(FaWaitEdge) * (n + 1));
	if (root && search.state && search.path)
	{
		for (int i = 0; i < n; i++)
			root[i] = graph_root(sessions, n, i);
		for (int i = 0; i < n && !found; i++)
		{
			if (sessions[i].nblockers > 0 && search.state[root[i]] == 0)
				found = graph_visit(&search, root[i]);
		}
	}
	if (found)
	{
		found = search.depth - search.start;
		memcpy(edges, search.path + search.start, sizeof(FaWaitEdge) * found);
	}
	free(root);
	free(search.state);
	free(search.path);
	return found;
}

int
fa_wait_graph_victim(const FaWaitSession *sessions, const FaWaitEdge *edges,
					 int nedges)
{
	int			victim = 0;

	for (int i = 1; i < nedges; i++)
	{
		const FaWaitSession *s = &sessions[edges[i].root];
		const FaWaitSession *v = &sessions[edges[victim].root];

		if (s->xact_start > v->xact_start ||
			(s->xact_start == v->xact_start && session_compare(s, v) > 0))
			victim = i;
	}
	return victim;
}
