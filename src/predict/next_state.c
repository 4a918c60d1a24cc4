/*
 * next_state.c
 *	  What the next-fragment engine and its sums over sessions have learned, as
 *	  a byte string, and back.
 *
 * Layout: magic "FASE", version, length, sizes, counts by context, weights,
 * network, states of sessions, checksum; as in state.c.  The sessions
 * themselves are left out, and contexts that were met once: most are of a
 * single session.  Raise VERSION whenever contents, kinds of contexts or
 * signals change.
 */
#include <string.h>

#include "predict/next_parts.h"
#include "predict/sessions_parts.h"

#define MAGIC			0x46415345u
#define VERSION			4u
#define LEAST_COUNT		1.5f	/* of a context that is kept */

static void
write_context(FaContext *c, FaArchive *ar)
{
	int64_t		key = (int64_t) c->key;

	fa_predict_ar_i64(ar, &key);
	fa_predict_ar_i64(ar, &c->used);
	fa_predict_ar_i32(ar, &c->n);
	for (int i = 0; i < c->n; i++)
	{
		fa_predict_ar_i32(ar, &c->follower[i].fragment);
		fa_predict_ar_floats(ar, &c->follower[i].slow, 1);
		fa_predict_ar_floats(ar, &c->follower[i].fast, 1);
	}
}

static void
read_context(FaNext *next, FaArchive *ar)
{
	int64_t		key;
	int64_t		used;
	int32_t		n;
	int			most;			/* what its followers are below */

	fa_predict_ar_i64(ar, &key);
	most = fa_next_counts_ranks((uint64_t) key) ? FA_NEXT_RANKS :
		next->config.nfragments;
	fa_predict_ar_i64(ar, &used);
	fa_predict_ar_i32(ar, &n);
	if (n < 1 || n > FA_NEXT_MOST || key == 0 || used < 0 ||
		used > next->events || !fa_predict_ar_room(ar, n, 12) ||
		fa_next_find(&next->table, (uint64_t) key) != NULL)
	{
		ar->failed = true;
		return;
	}
	for (int i = 0; i < n && !ar->failed; i++)
	{
		int32_t		fragment;
		float		count[2];

		fa_predict_ar_i32(ar, &fragment);
		fa_predict_ar_floats(ar, count, 2);
		if (fragment < 0 || fragment >= most ||
			count[0] < 0 || count[1] < 0)
			ar->failed = true;
		else
			fa_next_put(next, (uint64_t) key, used, fragment, count[0],
						count[1]);
	}
}

static void
archive_contexts(FaNext *next, FaArchive *ar)
{
	FaContextTable *table = &next->table;
	int32_t		n = 0;

	for (int i = 0; i < table->nheads && !ar->reading; i++)
	{
		for (FaContext *c = table->head[i]; c != NULL; c = c->next)
			n += c->slow >= LEAST_COUNT;
	}
	fa_predict_ar_i32(ar, &n);
	for (int i = 0; i < table->nheads && !ar->reading; i++)
	{
		for (FaContext *c = table->head[i]; c != NULL; c = c->next)
		{
			if (c->slow >= LEAST_COUNT)
				write_context(c, ar);
		}
	}
	for (int i = 0; i < n && ar->reading && !ar->failed; i++)
		read_context(next, ar);
}

static void
archive_next(FaNext *next, FaArchive *ar)
{
	int			n = next->config.nfragments;

	fa_predict_ar_i64(ar, &next->events);
	fa_predict_ar_i64(ar, &next->now);
	fa_predict_ar_i32(ar, &next->last);
	fa_predict_ar_doubles(ar, next->base, n);
	if (next->events < 0 || next->last < 0 || next->last >= n)
		ar->failed = true;
	for (int f = 0; f < n && ar->reading && !ar->failed; f++)
	{
		if (!(next->base[f] > 0))
			ar->failed = true;
	}
	if (ar->failed)
		return;
	if (ar->reading)
	{
		next->base_sum = 0;
		for (int f = 0; f < n; f++)
			next->base_sum += next->base[f];
	}
	archive_contexts(next, ar);
	fa_next_mix_archive(next, ar);
	if (next->network != NULL && !ar->failed)
		fa_next_lstm_archive(next, ar);
}

static void
archive_sessions(FaSessions *s, FaArchive *ar)
{
	int			n = s->next->config.nfragments;

	archive_next(s->next, ar);
	fa_predict_ar_double(ar, &s->stays);
	if (s->stays < 0 || s->stays > 1)
		ar->failed = true;
	fa_predict_ar_doubles(ar, (double *) s->state, FA_SESSION_STATES * 2);
	for (int i = 0; i < FA_SESSION_STATES && ar->reading; i++)
	{
		if (s->state[i].n < 0 || s->state[i].events < 0)
			ar->failed = true;
	}
	fa_predict_ar_doubles(ar, s->visits, n);
	fa_predict_ar_doubles(ar, s->accesses, n);
	for (int f = 0; f < n && ar->reading; f++)
	{
		if (!(s->visits[f] > 0) || s->accesses[f] < 0)
			ar->failed = true;
	}
	if (s->nnodes > 1)
		fa_predict_ar_doubles(ar, s->follows, (size_t) n * s->nnodes);
}

/* What must be equal for a state to fit. */
static void
sizes_of(const FaSessions *s, int32_t *size)
{
	size[0] = s->nnodes;
	size[1] = s->next->config.nfragments;
	size[2] = (int32_t) s->next->config.models;
	size[3] = s->next->network ? fa_next_lstm_classes(s->next) : 0;
}

static void
archive_whole(void *of, FaArchive *ar)
{
	FaSessions *s = of;
	int32_t		size[4];

	sizes_of(s, size);
	for (int i = 0; i < 4; i++)
		fa_predict_ar_i32(ar, &size[i]);
	archive_sessions(s, ar);
}

size_t
fa_sessions_save(const FaSessions *sessions, void *buf, size_t size)
{
	/* writing changes nothing; reading shares the code */
	return fa_predict_ar_save(MAGIC, VERSION, archive_whole,
							  (FaSessions *) sessions, buf, size);
}

FaSessions *
fa_sessions_restore(const void *buf, size_t size,
					const FaSessionsConfig *config,
					const FaAllocator *allocator)
{
	FaArchive	ar;
	FaSessionsConfig sized = *config;
	FaSessions *s;
	int32_t		sizes[4] = {0};
	int32_t		own[4];

	if (!fa_predict_ar_open(&ar, MAGIC, VERSION, buf, size))
		return NULL;
	for (int i = 0; i < 4; i++)
		fa_predict_ar_i32(&ar, &sizes[i]);
	if (sizes[1] < 1 || !fa_predict_ar_room(&ar, sizes[1], 24))
		return NULL;
	/* classes of the network were laid out for the fragments of its start */
	sized.next.nfragments = sizes[3] > 0 && sizes[3] < sizes[1] ? sizes[3] :
		sizes[1];
	s = fa_sessions_create(&sized, allocator);
	fa_sessions_resize(s, sizes[1]);
	sizes_of(s, own);
	if (memcmp(sizes, own, sizeof(own)) == 0)
		archive_sessions(s, &ar);
	else
		ar.failed = true;
	if (ar.failed || ar.at != ar.size)
	{
		fa_sessions_destroy(s);
		return NULL;
	}
	return s;
}
