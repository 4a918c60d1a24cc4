/*
 * test_wait_graph.c
 *	  Circles of waits over several nodes are found, and nothing else.
 */
#include "unit.h"

#include "node/wait_graph.h"

#define MAX 20000
#define NODES 16

static FaWaitSession sessions[MAX];
static FaWaitEdge edges[MAX];
static int	blockers[MAX * 2];
static int	nblockers;
static uint64_t uses[NODES];	/* of everyone: the role of everyone everywhere */
static int	n;

static void
start(void)
{
	memset(sessions, 0, sizeof(sessions));
	n = nblockers = 0;
	for (int i = 0; i < NODES; i++)
		uses[i] = fa_wait_key(i, "app");
}

static FaWaitSession *
add(int node, int pid, int origin_node, int origin_pid, int64_t xact_start)
{
	FaWaitSession *s = &sessions[n++];

	s->node = node;
	s->pid = pid;
	s->origin_node = origin_node;
	s->origin_pid = origin_pid;
	s->xact_start = xact_start;
	s->key = fa_wait_key(node, "app");
	s->uses = uses;
	s->nuses = NODES;
	return s;
}

static void
waits(FaWaitSession *s, int blocker)
{
	s->wait_start = 1;
	if (s->nblockers == 0)
		s->blockers = &blockers[nblockers];
	s->nblockers++;
	blockers[nblockers++] = blocker;
}

static int
victim_pid(int nedges)
{
	return sessions[edges[fa_wait_graph_victim(sessions, edges, nedges)].root].pid;
}

/* Clients 10 at node 1 and 20 at node 2, each with a session at the other. */
static void
two_nodes(void **state)
{
	(void) state;
	start();
	add(1, 10, 0, 0, 100);
	add(2, 20, 0, 0, 200);
	waits(add(2, 21, 1, 10, 110), 20);
	waits(add(1, 11, 2, 20, 210), 10);
	assert_int_equal(fa_wait_graph_cycle(sessions, n, edges), 2);
	assert_int_equal(victim_pid(2), 20);
}

static void
chain_is_none(void **state)
{
	(void) state;
	start();
	add(1, 10, 0, 0, 100);
	add(2, 20, 0, 0, 200);
	add(3, 30, 0, 0, 300);
	waits(add(2, 21, 1, 10, 110), 20);
	waits(add(3, 31, 2, 20, 210), 30);
	assert_int_equal(fa_wait_graph_cycle(sessions, n, edges), 0);
}

/* The middle node only passes on: its session stands for node 1's client. */
static void
passed_on(void **state)
{
	(void) state;
	start();
	add(1, 10, 0, 0, 100);
	add(2, 21, 1, 10, 110);
	waits(add(3, 31, 2, 21, 120), 30);
	add(3, 30, 0, 0, 50);
	waits(add(1, 11, 3, 30, 60), 10);
	assert_int_equal(fa_wait_graph_cycle(sessions, n, edges), 2);
	assert_int_equal(victim_pid(2), 10);
}

/* Two sessions of one client at one node, by different ways. */
static void
waits_for_itself(void **state)
{
	(void) state;
	start();
	add(1, 10, 0, 0, 100);
	add(3, 31, 1, 10, 110);
	add(2, 21, 1, 10, 110);
	waits(add(3, 32, 2, 21, 120), 31);
	assert_int_equal(fa_wait_graph_cycle(sessions, n, edges), 1);
	assert_int_equal(victim_pid(1), 10);
}

/* Its node did not answer: nobody can say that this is a circle. */
static void
origin_unknown(void **state)
{
	(void) state;
	start();
	add(2, 20, 0, 0, 200);
	waits(add(2, 21, 1, 10, 110), 20);
	waits(add(3, 31, 2, 20, 210), 30);
	add(3, 30, 1, 10, 115);
	assert_int_equal(fa_wait_graph_cycle(sessions, n, edges), 0);
}

/* A blocker that is gone by now, or in another database. */
static void
blocker_unknown(void **state)
{
	(void) state;
	start();
	waits(add(1, 10, 0, 0, 100), 99);
	waits(add(1, 11, 0, 0, 100), 10);
	assert_int_equal(fa_wait_graph_cycle(sessions, n, edges), 0);
}

static void
waits_for_several(void **state)
{
	FaWaitSession *s;

	(void) state;
	start();
	add(1, 10, 0, 0, 100);
	add(2, 20, 0, 0, 200);
	add(2, 22, 0, 0, 50);
	s = add(2, 21, 1, 10, 110);
	waits(s, 22);
	waits(s, 20);
	waits(add(1, 11, 2, 20, 210), 10);
	assert_int_equal(fa_wait_graph_cycle(sessions, n, edges), 2);
	assert_int_equal(victim_pid(2), 20);
}

/* A ring of clients behind which others queue, in any order of arrival. */
static void
same_for_all_who_look(void **state)
{
	uint64_t	seed = 1;

	(void) state;
	for (int round = 0; round < 500; round++)
	{
		int			ring = 2 + round % 8;

		start();
		for (int i = 0; i < ring; i++)
		{
			add(i + 1, 100 + i, 0, 0, 1000 + (i * 7) % ring);
			waits(add((i + 1) % ring + 1, 200 + i, i + 1, 100 + i, 2000),
				  100 + (i + 1) % ring);
		}
		for (int i = 0; i < 10; i++)
			waits(add(i % ring + 1, 300 + i, 0, 0, 5000 + i), 100 + i % ring);
		for (int i = n - 1; i > 0; i--)
		{
			int			j = (int) (unit_uniform(&seed) * (i + 1));
			FaWaitSession t = sessions[i];

			sessions[i] = sessions[j];
			sessions[j] = t;
		}
		assert_int_equal(fa_wait_graph_cycle(sessions, n, edges), ring);
		for (int i = 0; i < ring; i++)
		{
			assert_true(sessions[edges[i].root].pid < 200);
			assert_int_equal(edges[i].next_root, edges[(i + 1) % ring].root);
			if (sessions[edges[i].root].xact_start == 1000 + ring - 1)
				assert_int_equal(fa_wait_graph_victim(sessions, edges, ring), i);
		}
	}
}

/* Who it is that a session works for, its client alone does not say. */
static void
impostor(void **state)
{
	FaWaitSession *s;
	uint64_t	any = FA_WAIT_KEY_ANY;

	(void) state;
	for (int who = 0; who < 3; who++)
	{
		start();
		s = add(1, 10, 0, 0, 100);
		if (who == 1)
			s->nuses = 0;
		if (who == 2)
		{
			s->uses = &any;
			s->nuses = 1;
		}
		add(2, 20, 0, 0, 200);
		s = add(2, 21, 1, 10, 110);
		s->key = fa_wait_key(2, "joe");
		waits(s, 20);
		waits(add(1, 11, 2, 20, 210), 10);
		assert_int_equal(fa_wait_graph_cycle(sessions, n, edges),
						 who == 2 ? 2 : 0);
	}
	assert_true(fa_wait_key(1, "joe") != fa_wait_key(2, "joe"));
}

/* The origin knows the process: what that says itself does not matter. */
static void
known_process(void **state)
{
	FaWaitSession *s;
	uint64_t	uses_there[] = {fa_wait_pid_key(2, 21)};

	(void) state;
	for (int says = 0; says < 2; says++)
	{
		start();
		s = add(1, 10, 0, 0, 100);
		s->uses = uses_there;
		s->nuses = 1;
		add(2, 20, 0, 0, 200);
		add(3, 30, 0, 0, 200);
		s = says ? add(2, 21, 3, 30, 110) : add(2, 21, 0, 0, 110);
		waits(s, 20);
		waits(add(1, 11, 2, 20, 210), 10);
		assert_int_equal(fa_wait_graph_cycle(sessions, n, edges), 2);
		assert_int_equal(victim_pid(2), 20);
	}
	assert_true(fa_wait_pid_key(1, 257) != fa_wait_pid_key(257, 1));
}

/* Deep and wide: a chain of all sessions, each of which many others wait for. */
static void
many_sessions(void **state)
{
	(void) state;
	for (int closed = 0; closed < 2; closed++)
	{
		start();
		for (int i = 0; i < MAX / 2; i++)
		{
			FaWaitSession *s = add(1, i + 1, 0, 0, 1000 + i);

			if (i + 1 < MAX / 2 || closed)
				waits(s, (i + 1) % (MAX / 2) + 1);
			waits(add(1, MAX + i, 0, 0, 1000), 1);
		}
		assert_int_equal(fa_wait_graph_cycle(sessions, n, edges),
						 closed ? MAX / 2 : 0);
	}
	assert_int_equal(victim_pid(MAX / 2), MAX / 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(two_nodes),
		cmocka_unit_test(chain_is_none),
		cmocka_unit_test(passed_on),
		cmocka_unit_test(waits_for_itself),
		cmocka_unit_test(origin_unknown),
		cmocka_unit_test(blocker_unknown),
		cmocka_unit_test(waits_for_several),
		cmocka_unit_test(same_for_all_who_look),
		cmocka_unit_test(impostor),
		cmocka_unit_test(known_process),
		cmocka_unit_test(many_sessions),
	};

	return cmocka_run_group_tests_name("wait_graph", tests, NULL, NULL);
}
