/*
 * test_ring.c
 *	  The ring of the transport shm: messages come whole and in order, sleepers
 *	  are woken, and whatever a peer writes into the memory, nobody reads or
 *	  writes beyond it.
 */
#include "postgres.h"

#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/pg_prng.h"
#include "transport/ring.h"

#define MAX			3000
#define GUARD		4096
#define MESSAGES	200000
#define FUZZ		300000

/* Shared memory between two guards, which must stay as they are. */
typedef struct Memory
{
	char	   *all;
	FaRing	   *ring;
	Size		size;
} Memory;

static Memory
memory_make(void)
{
	Memory		m = {.size = fa_ring_memory(MAX)};

	m.all = aligned_alloc(GUARD, GUARD * 2 + TYPEALIGN(GUARD, m.size));
	memset(m.all, 0x5a, GUARD * 2 + TYPEALIGN(GUARD, m.size));
	m.ring = (FaRing *) (m.all + GUARD);
	memset(m.ring, 0, m.size);
	return m;
}

static void
memory_check(Memory *m)
{
	for (Size i = 0; i < GUARD; i++)
	{
		assert_int_equal(m->all[i], 0x5a);
		assert_int_equal(m->all[GUARD + m->size + i], 0x5a);
	}
	free(m->all);
}

static Size
length_of(uint64 n)
{
	return n % 7 == 0 ? MAX : (n * 2654435761u) % (MAX + 1);
}

static void
fill(char *data, uint64 n)
{
	memset(data, (int) (n * 31 + 1), length_of(n));
}

static bool
is(const char *data, Size len, uint64 n)
{
	if (len != length_of(n))
		return false;
	for (Size i = 0; i < len; i++)
	{
		if (data[i] != (char) (n * 31 + 1))
			return false;
	}
	return true;
}

static void
test_order(void **state)
{
	Memory		m = memory_make();
	FaRingEnd	writer;
	FaRingEnd	reader;
	uint64		written = 0;
	uint64		read = 0;
	char	   *data;
	Size		len;

	fa_ring_attach(&writer, m.ring, MAX);
	fa_ring_attach(&reader, m.ring, MAX);
	assert_int_equal(fa_ring_read(&reader, &data, &len), FA_RING_AGAIN);
	while (read < 20000)
	{
		/* by turns as many as there is room for, and some of them */
		while (fa_ring_reserve(&writer, MAX, &data) == FA_RING_OK)
		{
			assert_int_equal((uintptr_t) data % MAXIMUM_ALIGNOF, 0);
			fill(data, written);
			(void) fa_ring_post(&writer, length_of(written));
			written++;
		}
		assert_true(written - read >= 8);
		for (int i = written % 5; i >= 0; i--)
		{
			assert_int_equal(fa_ring_read(&reader, &data, &len), FA_RING_OK);
			assert_true(is(data, len, read));
			(void) fa_ring_release(&reader);
			/* once more does nothing */
			(void) fa_ring_release(&reader);
			read++;
		}
	}
	memory_check(&m);
}

/* Who found nothing and looked twice is woken; nobody else is. */
static void
test_wishes(void **state)
{
	Memory		m = memory_make();
	FaRingEnd	writer;
	FaRingEnd	reader;
	char	   *data;
	Size		len;
	int			n = 0;
	int			woken = 0;

	fa_ring_attach(&writer, m.ring, MAX);
	fa_ring_attach(&reader, m.ring, MAX);
	assert_int_equal(fa_ring_reserve(&writer, MAX, &data), FA_RING_OK);
	assert_false(fa_ring_post(&writer, MAX));
	assert_int_equal(fa_ring_read(&reader, &data, &len), FA_RING_OK);
	assert_false(fa_ring_release(&reader));
	assert_int_equal(fa_ring_read(&reader, &data, &len), FA_RING_AGAIN);
	assert_int_equal(fa_ring_reserve(&writer, MAX, &data), FA_RING_OK);
	assert_true(fa_ring_post(&writer, MAX));
	for (n = 1; fa_ring_reserve(&writer, MAX, &data) == FA_RING_OK; n++)
		assert_false(fa_ring_post(&writer, MAX));
	/* once, and when there is room for several */
	for (int i = 0; i < n; i++)
	{
		assert_int_equal(fa_ring_read(&reader, &data, &len), FA_RING_OK);
		if (fa_ring_release(&reader))
		{
			woken++;
			assert_true(i >= 1 && i <= n - 2);
		}
	}
	assert_int_equal(woken, 1);
	memory_check(&m);
}

/* Two threads; each sleeps when told to, on a flag that the other sets. */
typedef struct Side
{
	FaRingEnd	end;
	int			woken;
	struct Side *other;
	bool		good;
} Side;

static void
side_sleep(Side *side)
{
	while (!__atomic_exchange_n(&side->woken, 0, __ATOMIC_SEQ_CST))
		sched_yield();
}

static void
side_wake(Side *side)
{
	__atomic_store_n(&side->other->woken, 1, __ATOMIC_SEQ_CST);
}

static void *
thread_write(void *arg)
{
	Side	   *side = arg;

	for (uint64 n = 0; n < MESSAGES;)
	{
		char	   *data;
		FaRingResult result = fa_ring_reserve(&side->end, MAX, &data);

		if (result == FA_RING_OK)
		{
			fill(data, n);
			if (fa_ring_post(&side->end, length_of(n++)))
				side_wake(side);
		}
		else if (result == FA_RING_AGAIN)
			side_sleep(side);
		else
			return NULL;
	}
	side->good = true;
	return NULL;
}

static void *
thread_read(void *arg)
{
	Side	   *side = arg;

	for (uint64 n = 0; n < MESSAGES;)
	{
		char	   *data;
		Size		len;
		FaRingResult result = fa_ring_read(&side->end, &data, &len);

		if (result == FA_RING_AGAIN)
			side_sleep(side);
		else if (result != FA_RING_OK || !is(data, len, n++))
			return NULL;
		else if (fa_ring_release(&side->end))
			side_wake(side);
	}
	side->good = true;
	return NULL;
}

/* A lost wake-up would hang here for ever. */
static void
test_threads(void **state)
{
	Memory		m = memory_make();
	Side		writer = {.good = false};
	Side		reader = {.good = false};
	pthread_t	t[2];

	writer.other = &reader;
	reader.other = &writer;
	fa_ring_attach(&writer.end, m.ring, MAX);
	fa_ring_attach(&reader.end, m.ring, MAX);
	pthread_create(&t[0], NULL, thread_write, &writer);
	pthread_create(&t[1], NULL, thread_read, &reader);
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	assert_true(writer.good);
	assert_true(reader.good);
	memory_check(&m);
}

/* A value that may hurt: small, near a position, near an end, any. */
static uint64
bad_value(pg_prng_state *prng, const FaRingEnd *end)
{
	uint64		base[] = {
		0, end->head, end->tail, end->head - end->size, end->tail + end->size,
		end->size, MAX, UINT64_MAX, UINT64CONST(1) << 63
	};

	if (pg_prng_uint64_range(prng, 0, 9) == 0)
		return pg_prng_uint64(prng);
	return base[pg_prng_uint64_range(prng, 0, lengthof(base) - 1)] +
		FA_RING_UNIT * pg_prng_uint64_range(prng, 0, 4) +
		pg_prng_uint64_range(prng, 0, 8) - 4;
}

/* The other side of "end" writes something into the shared memory. */
static void
disturb(pg_prng_state *prng, Memory *m, const FaRingEnd *end)
{
	uint64		value = bad_value(prng, end);

	switch (pg_prng_uint64_range(prng, 0, 5))
	{
		case 0:
			m->ring->head = value;
			break;
		case 1:
			m->ring->tail = value;
			break;
		case 2:
			m->ring->writer_wishes = value;
			break;
		case 3:
			m->ring->reader_wishes = (uint32) value;
			break;
		default:
			/* a length, where one is looked for or anywhere */
			value = pg_prng_uint64_range(prng, 0, 1) ? value :
				pg_prng_uint64_range(prng, 0, MAX + 200);
			memcpy(m->ring->data + (pg_prng_uint64_range(prng, 0, 1) ?
									end->tail % end->size :
									pg_prng_uint64_range(prng, 0, end->size / FA_RING_UNIT - 1) *
									FA_RING_UNIT), &value, sizeof(value));
	}
}

/* Each side in turn meets a peer that writes what it likes. */
static void
test_hostile(void **state)
{
	pg_prng_state prng;
	int			broken = 0;
	int			good = 0;

	pg_prng_seed(&prng, 42);
	for (int i = 0; i < FUZZ / 100; i++)
	{
		Memory		m = memory_make();
		FaRingEnd	writer;
		FaRingEnd	reader;
		bool		hurt_reader = i % 2 == 0;
		FaRingResult result = FA_RING_OK;

		fa_ring_attach(&writer, m.ring, MAX);
		fa_ring_attach(&reader, m.ring, MAX);
		for (int k = 0; k < 100 && result != FA_RING_BROKEN; k++)
		{
			char	   *data;
			Size		len = pg_prng_uint64_range(&prng, 0, MAX);

			if (pg_prng_uint64_range(&prng, 0, 3) == 0)
				disturb(&prng, &m, hurt_reader ? &reader : &writer);
			if (pg_prng_uint64_range(&prng, 0, 1))
			{
				result = fa_ring_reserve(&writer, len, &data);
				if (result == FA_RING_OK)
				{
					assert_true(data >= m.ring->data &&
								data + len <= m.ring->data + writer.size);
					memset(data, 0x77, len);
					(void) fa_ring_post(&writer, len);
				}
			}
			else
			{
				result = fa_ring_read(&reader, &data, &len);
				if (result == FA_RING_OK)
				{
					assert_true(len <= MAX && data >= m.ring->data &&
								data + len <= m.ring->data + reader.size);
					(void) fa_ring_release(&reader);
				}
			}
			good += result == FA_RING_OK;
		}
		broken += result == FA_RING_BROKEN;
		memory_check(&m);
	}
	/* it was not all noise, and not all refused */
	assert_true(broken > FUZZ / 1000);
	assert_true(good > FUZZ / 20);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_wishes),
		cmocka_unit_test(test_threads),
		cmocka_unit_test(test_hostile)
	};

	return cmocka_run_group_tests_name("ring", tests, NULL, NULL);
}
