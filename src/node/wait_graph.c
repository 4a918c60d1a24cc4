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
 *
 * For whom a session works, its origin says, which knows its process; that is
 * certain.  Where the origin cannot know it (another server version, a pooler
 * between nodes), it is what the session's client said when it connected.  That is
 * believed when the origin says, too, that it uses a session there with that
 * role: a client that pretends has only its own role's transactions to harm.
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

/* FNV-1a */
static uint64_t
key_add(uint64_t key, const void *data, size_t len)
{
	for (const unsigned char *p = data; len > 0; p++, len--)
		key = (key ^ *p) * UINT64_C(0x100000001b3);
	return key == FA_WAIT_KEY_ANY ? 1 : key;
}

static uint64_t
key_start(char kind, int node)
{
	char		bytes[] = {kind, (char) (node >> 8), (char) node};

	return key_add(UINT64_C(0xcbf29ce484222325), bytes, sizeof(bytes));
}

uint64_t
fa_wait_key(int node, const char *role)
{
	return key_add(key_start('r', node), role, strlen(role));
}

uint64_t
fa_wait_pid_key(int node, int pid)
{
	char		bytes[] = {(char) (pid >> 24), (char) (pid >> 16),
	(char) (pid >> 8), (char) pid};

	return key_add(key_start('p', node), bytes, sizeof(bytes));
}

static int
session_uses(const FaWaitSession *origin, const FaWaitSession *s)
{
	for (int i = 0; i < origin->nuses; i++)
	{
		if (origin->uses[i] == s->key || origin->uses[i] == FA_WAIT_KEY_ANY)
			return 1;
	}
	return 0;
}

/* Who uses a session, by the session's key. */
typedef struct User
{
	uint64_t	key;
	int			session;
} User;

static int
user_compare(const void *a, const void *b)
{
	const User *u = a;
	const User *v = b;

	if (u->key != v->key)
		return u->key < v->key ? -1 : 1;
	return u->session < v->session ? -1 : u->session > v->session;
}

static int
user_compare_key(const void *key, const void *user)
{
	uint64_t	a = *(const uint64_t *) key;
	uint64_t	b = ((const User *) user)->key;

	return a < b ? -1 : a > b;
}

typedef struct Root
{
	int			first;			/* of its sessions that wait; -1: none */
	char		state;			/* 0 new, 1 on the path, 2 done */
} Root;

/* A root on the path, and how far its waits have been followed. */
typedef struct Step
{
	FaWaitEdge	edge;
	int			blocker;
} Step;

typedef struct Search
{
	const FaWaitSession *sessions;
	int			n;
	int		   *root;			/* of each session */
	int		   *next;			/* session with the same root that waits */
	Root	   *roots;			/* by place of the root's session */
	User	   *users;			/* sorted */
	int			nusers;
	Step	   *path;
	int			depth;
} Search;

/* The session that s works for; -1: it is a client's, or nobody knows. */
static int
search_origin(const Search *search, int s)
{
	const FaWaitSession *session = &search->sessions[s];
	uint64_t	key = fa_wait_pid_key(session->node, session->pid);
	const User *user = bsearch(&key, search->users, search->nusers,
							   sizeof(User), user_compare_key);
	int			origin;

	if (user)
		return user->session;
	if (session->origin_node == 0)
		return -1;
	origin = graph_find(search->sessions, search->n, session->origin_node,
						session->origin_pid);
	if (origin >= 0 && !session_uses(&search->sessions[origin], session))
		origin = -1;
	return origin;
}

/*
 * The client's session that s works for.  One whose origin cannot be found, or
 * does not know of it, stands for itself: its node is down or its transaction
 * is over, and then nothing that waits is to be cancelled for it.
 */
static int
search_root(const Search *search, int s)
{
	for (int hop = 0; hop < MAX_HOPS; hop++)
	{
		int			origin = search_origin(search, s);

		if (origin < 0)
			break;
		s = origin;
	}
	return s;
}

static void
search_push(Search *search, int root)
{
	Step	   *step = &search->path[search->depth++];

	search->roots[root].state = 1;
	step->edge.root = root;
	step->edge.waiter = search->roots[root].first;
	step->blocker = 0;
}

/* The next root that the last one of the path waits for; -1: no more. */
static int
search_next(Search *search)
{
	Step	   *step = &search->path[search->depth - 1];

	while (step->edge.waiter >= 0)
	{
		const FaWaitSession *waiter = &search->sessions[step->edge.waiter];

		while (step->blocker < waiter->nblockers)
		{
			int			blocker = graph_find(search->sessions, search->n,
											 waiter->node,
											 waiter->blockers[step->blocker++]);

			if (blocker >= 0)
				return step->edge.next_root = search->root[blocker];
		}
		step->edge.waiter = search->next[step->edge.waiter];
		step->blocker = 0;
	}
	return -1;
}

/*
 * Follows all waits from a root.  Returns the place in the path where a circle
 * begins, which goes to the path's end; -1: there is none.
 */
static int
search_from(Search *search, int root)
{
	search->depth = 0;
	search_push(search, root);
	while (search->depth > 0)
	{
		int			next = search_next(search);

		if (next < 0)
			search->roots[search->path[--search->depth].edge.root].state = 2;
		else if (search->roots[next].state == 0)
			search_push(search, next);
		else if (search->roots[next].state == 1)
		{
			int			i = search->depth - 1;

			while (search->path[i].edge.root != next)
				i--;
			return i;
		}
	}
	return -1;
}

static void
search_list_users(Search *search)
{
	search->nusers = 0;
	for (int i = 0; i < search->n; i++)
	{
		for (int u = 0; u < search->sessions[i].nuses; u++)
		{
			User	   *user = &search->users[search->nusers++];

			user->key = search->sessions[i].uses[u];
			user->session = i;
		}
	}
	qsort(search->users, search->nusers, sizeof(User), user_compare);
}

/* Lists of the sessions that wait, by root, in the order of the sessions. */
static void
search_prepare(Search *search)
{
	search_list_users(search);
	for (int i = 0; i < search->n; i++)
	{
		search->root[i] = search_root(search, i);
		search->roots[i].first = -1;
		search->roots[i].state = 0;
	}
	for (int i = search->n - 1; i >= 0; i--)
	{
		Root	   *root = &search->roots[search->root[i]];

		if (search->sessions[i].nblockers == 0)
			continue;
		search->next[i] = root->first;
		root->first = i;
	}
}

int
fa_wait_graph_cycle(FaWaitSession *sessions, int n, FaWaitEdge *edges)
{
	Search		search = {0};
	size_t		nuses = 0;
	int			start = -1;
	int			found = 0;

	for (int i = 0; i < n; i++)
		nuses += sessions[i].nuses;
	qsort(sessions, n, sizeof(FaWaitSession), session_compare);
	search.sessions = sessions;
	search.n = n;
	search.root = malloc(sizeof(int) * (n + 1));
	search.next = malloc(sizeof(int) * (n + 1));
	search.roots = malloc(sizeof(Root) * (n + 1));
	search.path = malloc(sizeof(Step) * (n + 1));
	search.users = malloc(sizeof(User) * (nuses + 1));
	if (search.root && search.next && search.roots && search.path &&
		search.users)
	{
		search_prepare(&search);
		for (int i = 0; i < n && start < 0; i++)
		{
			if (sessions[i].nblockers > 0 &&
				search.roots[search.root[i]].state == 0)
				start = search_from(&search, search.root[i]);
		}
	}
	for (int i = start; start >= 0 && i < search.depth; i++)
		edges[found++] = search.path[i].edge;
	free(search.root);
	free(search.next);
	free(search.roots);
	free(search.path);
	free(search.users);
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
