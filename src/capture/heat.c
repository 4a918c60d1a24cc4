/*
 * heat.c
 *	  A sample of the keys that this server's clients ask for.
 *
 * The router tells the key of a statement that is about one; which statements
 * are asked is drawn at random, so that no pattern in their order shows.  The
 * mean distance of two follows from how fast a session is: the clock is read
 * for samples only.
 *
 * Backends put samples into a ring, the worker keeps some of each drain and
 * writes them to fragaffinity.key_sample, where they stay for heat_window.
 */
#include "postgres.h"

#include "common/pg_prng.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "capture/counters.h"
#include "capture/heat.h"
#include "capture/tables.h"
#include "catalog/map.h"
#include "core/plain_output.h"
#include "core/ring.h"

#define RING_SIZE 2048
#define SAMPLE_NS INT64CONST(20000000) /* between two of a session */
#define MAX_MEAN 10000.0
#define KEPT 128				/* of one drain */

typedef struct KeySample
{
	int			slot;
	uint32		weight;			/* accesses that it stands for */
	char		key[FA_HEAT_KEY_SIZE];
} KeySample;

static FaRing *ring = NULL;

/* of this session */
static uint32 skip = 1;			/* the how manieth access from now is taken */
static uint32 skipped = 1;		/* what skip was set to */

/* of the worker */
static KeySample kept[KEPT];
static int	nkept = 0;
static uint64 nseen = 0;		/* since the last drain */
static double weight_seen = 0;

static Size
heat_size(void)
{
	return fa_ring_size(RING_SIZE, sizeof(KeySample));
}

static void
heat_init(void *ptr, bool found)
{
	ring = ptr;
	if (!found)
		fa_ring_init(ring, RING_SIZE, sizeof(KeySample));
}

const FaShmemPart fa_heat_part = {
	"fragaffinity heat", heat_size, heat_init
};

bool
fa_heat_due(void)
{
	if (ring == NULL || --skip > 0)
		return false;
	skip = 1;					/* should an error keep it from being told */
	return true;
}

/* Draws the distance to the next sample, about SAMPLE_NS away. */
static void
heat_draw(void)
{
	static int64 last_ns = 0;
	static double mean = 1;
	int64		now_ns = fa_clock_ns();
	double		ratio = (double) SAMPLE_NS / Max(now_ns - last_ns, 1);

	/* a pause says little about what follows */
	if (last_ns != 0)
		mean *= Max(Min(ratio, 4), 0.25);
	mean = Max(Min(mean, MAX_MEAN), 1);
	last_ns = now_ns;
	skip = skipped = 1 + (uint32) (pg_prng_double(&pg_global_prng_state) *
								   (2 * mean - 1));
}

static char *
heat_text(Oid output, Datum key)
{
	char	   *text = NULL;
	FaPlainOutput own;

	fa_plain_output_begin(&own);
	PG_TRY();
	{
		text = OidOutputFunctionCall(output, key);
	}
	PG_FINALLY();
	{
		fa_plain_output_end(&own);
	}
	PG_END_TRY();
	return text;
}

void
fa_heat_note(Oid leaf, Oid type, Datum key)
{
	const FaFragment *f = fa_map_leaf(leaf);
	KeySample	sample = {0};
	Oid			output;
	bool		varlena;
	char	   *text;

	sample.slot = f ? f->slot : -1;
	sample.weight = skipped;
	heat_draw();
	if (sample.slot < 0 || !fa_capture_counts())
		return;
	getTypeOutputInfo(type, &output, &varlena);
	text = heat_text(output, key);
	if (strlen(text) < FA_HEAT_KEY_SIZE)
	{
		strlcpy(sample.key, text, FA_HEAT_KEY_SIZE);
		fa_ring_append(ring, &sample);
	}
	pfree(text);
}

void
fa_heat_read(void)
{
	static uint64 position = 0;
	static bool begun = false;
	uint64		lost = 0;
	KeySample	sample;

	/* what came before this worker was there may be written already */
	if (!begun)
		position = fa_ring_head(ring);
	begun = true;
	while (fa_ring_next(ring, &position, &lost, &sample))
	{
		uint64		place = nseen;

		if (fa_slot_get(sample.slot)->dbid != MyDatabaseId)
			continue;
		nseen++;
		weight_seen += sample.weight;
		if (nkept < KEPT)
			nkept++;
		else
			place = (uint64) (pg_prng_double(&pg_global_prng_state) * nseen);
		if (place < KEPT)
			kept[place] = sample;
	}
}

void
fa_heat_write(void)
{
	StringInfoData columns[3];
	char	   *params[3];
	double		weight_kept = 0;

	if (nkept == 0)
		return;
	for (int i = 0; i < nkept; i++)
		weight_kept += kept[i].weight;
	for (int i = 0; i < lengthof(columns); i++)
		initStringInfo(&columns[i]);
	for (int i = 0; i < nkept; i++)
	{
		fa_array_add_int(&columns[0], fa_slot_get(kept[i].slot)->fragment);
		fa_array_add_text(&columns[1], kept[i].key);
		/* they also stand for those that were not kept */
		fa_array_add_float(&columns[2],
						   kept[i].weight * weight_seen / weight_kept);
	}
	for (int i = 0; i < lengthof(columns); i++)
		params[i] = fa_array_finish(&columns[i]);
	(void) fa_stats_exec(
		"INSERT INTO fragaffinity.key_sample (fragment, key, weight, sampled) "
		"SELECT f, k, w, clock_timestamp() FROM ROWS FROM ("
		" unnest($1::bigint[]), unnest($2::text[]), "
		" unnest($3::double precision[])) AS u(f, k, w)",
		lengthof(params), params);
}

void
fa_heat_written(void)
{
	nkept = 0;
	nseen = 0;
	weight_seen = 0;
}
