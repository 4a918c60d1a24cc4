/*
 * next_context.c
 *	  Counts of what followed a context, within a budget of bytes.
 *
 * A count is forgotten by what comes after it in the same context: when a
 * context's sum is at its most, all its counts shrink to make room.  When the
 * budget is used up, contexts that were not counted for the longest go.
 */
#include <string.h>

#include "predict/next_parts.h"

#define HEADS			(1 << 16)

void
fa_next_table_init(FaNext *next, size_t most)
{
	next->table.nheads = HEADS;
	next->table.head = fa_memory_alloc(&next->memory, HEADS,
									   sizeof(FaContext *));
	next->table.most = most;
}

FaContext *
fa_next_find(const FaContextTable *table, uint64_t key)
{
	FaContext  *c = table->head[key & (uint64_t) (table->nheads - 1)];

	while (c != NULL && c->key != key)
		c = c->next;
	return c;
}

static size_t
size_of(const FaContext *c)
{
	return sizeof(FaContext) + sizeof(FaFollower) * (size_t) c->capacity + 64;
}

/* Drops contexts that were not counted within the last events. */
static void
prune(FaNext *next, int64_t events)
{
	FaContextTable *table = &next->table;

	for (int i = 0; i < table->nheads; i++)
	{
		FaContext **at = &table->head[i];

		while (*at != NULL)
		{
			FaContext  *c = *at;

			if (next->events - c->used < events)
			{
				at = &c->next;
				continue;
			}
			*at = c->next;
			table->bytes -= size_of(c);
			table->ncontexts--;
			fa_memory_free(&next->memory, c->follower);
			fa_memory_free(&next->memory, c);
		}
	}
}

static void
make_room(FaNext *next)
{
	int64_t		events = next->events;

	while (next->table.bytes > next->table.most / 4 * 3 && events > 0)
	{
		events = events / 4 * 3;
		prune(next, events);
	}
}

static FaContext *
add_context(FaNext *next, uint64_t key)
{
	FaContextTable *table = &next->table;
	FaContext  *c;

	if (table->bytes > table->most)
		make_room(next);
	c = fa_memory_alloc(&next->memory, 1, sizeof(FaContext));
	c->key = key;
	c->next = table->head[key & (uint64_t) (table->nheads - 1)];
	table->head[key & (uint64_t) (table->nheads - 1)] = c;
	table->ncontexts++;
	table->bytes += size_of(c);
	return c;
}

/* The fragment's place, made when it is new; the least one's when full. */
static FaFollower *
follower_of(FaNext *next, FaContext *c, int fragment)
{
	FaFollower *least = NULL;

	for (int i = 0; i < c->n; i++)
	{
		if (c->follower[i].fragment == fragment)
			return &c->follower[i];
		if (least == NULL || c->follower[i].slow < least->slow)
			least = &c->follower[i];
	}
	if (c->n == FA_NEXT_MOST)
	{
		c->slow -= least->slow;
		c->fast -= least->fast;
	}
	else
	{
		if (c->n == c->capacity)
		{
			int			capacity = c->capacity ? c->capacity * 2 : 1;

			c->follower = fa_memory_grow(&next->memory, c->follower, c->n,
										 capacity, sizeof(FaFollower));
			next->table.bytes += sizeof(FaFollower) *
				(size_t) (capacity - c->capacity);
			c->capacity = capacity;
		}
		least = &c->follower[c->n++];
	}
	*least = (FaFollower) {.fragment = fragment};
	return least;
}

/* Counts the fragment after the context; the sums stay at most so large. */
void
fa_next_count(FaNext *next, uint64_t key, int fragment, double slow_most,
			  double fast_most)
{
	FaContext  *c = fa_next_find(&next->table, key);
	FaFollower *f;
	double		slow = 1;
	double		fast = 1;

	if (c == NULL)
		c = add_context(next, key);
	c->used = next->events;
	if (c->slow + 1 > slow_most)
		slow = (slow_most - 1) / c->slow;
	if (c->fast + 1 > fast_most)
		fast = (fast_most - 1) / c->fast;
	f = follower_of(next, c, fragment);
	if (slow < 1 || fast < 1)
	{
		for (int i = 0; i < c->n; i++)
		{
			c->follower[i].slow *= (float) slow;
			c->follower[i].fast *= (float) fast;
		}
	}
	f->slow += 1;
	f->fast += 1;
	c->slow = c->fast = 0;
	for (int i = 0; i < c->n; i++)
	{
		c->slow += c->follower[i].slow;
		c->fast += c->follower[i].fast;
	}
}

/* Adds a fragment to a context as it was counted before. */
void
fa_next_put(FaNext *next, uint64_t key, int64_t used, int fragment,
			float slow, float fast)
{
	FaContext  *c = fa_next_find(&next->table, key);
	FaFollower *f;

	if (c == NULL)
		c = add_context(next, key);
	c->used = used;
	f = follower_of(next, c, fragment);
	f->slow = slow;
	f->fast = fast;
	c->slow += slow;
	c->fast += fast;
}
