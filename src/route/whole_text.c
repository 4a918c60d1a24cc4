/*
 * whole_text.c
 *	  The text of a statement that is sent whole.
 *
 * A client that does not prepare its statements sends the same ones again and
 * again, with other constants, which are parameters by now.  To write the text
 * takes about as long as all the rest of planning, to see that a statement is equal to
 * one of which it is known, a fifth of that.  So a backend keeps some, until
 * anything changes that a name in them may belong to.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/ruleutils.h"
#include "utils/syscache.h"

#include "route/route.h"
#include "route/whole.h"

typedef struct Text
{
	uint32		place;			/* hash of what is cheap to compare */
	uint64		names;			/* names_changed, before it was written */
	Query	   *query;
	char	   *text;
	MemoryContext context;		/* of all this */
} Text;

/* Those that were used last, and what came last without being kept. */
#define NRECENT 1024
#define MAX_KEPT 4096			/* characters; long ones have many rows or lists */
static Text *recent[NRECENT];
static uint32 missed[NRECENT];

static uint64 names_changed = 0;

static void
text_relcache_callback(Datum arg, Oid relid)
{
	names_changed++;
}

static void
text_syscache_callback(Datum arg, int cacheid, uint32 hashvalue)
{
	names_changed++;
}

static char *
text_write(Query *query)
{
	int			level = NewGUCNestLevel();
	char	   *text;

	(void) set_config_option("search_path", "pg_catalog", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	text = pg_get_querydef(query, false);
	AtEOXact_GUC(true, level);
	return text;
}

/* Hash of what is cheap to look at; few that are not equal share it. */
static uint32
text_place(Query *query, FaWhole *cx)
{
	uint32		place = hash_combine(query->commandType,
									 list_length(query->targetList) * 64 +
									 list_length(cx->params));
	ListCell   *lc;

	foreach(lc, cx->pins)
		place = hash_combine(place, murmurhash32(fa_leaf_bucket(lfirst(lc))));
	return place;
}

/* Writes the text, and keeps it in the place of another if it is not long. */
static char *
text_keep(uint32 place, Query *query)
{
	Text	  **kept = &recent[place % NRECENT];
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "fragaffinity text of a statement",
												  ALLOCSET_SMALL_SIZES);
	MemoryContext caller = MemoryContextSwitchTo(context);
	Text	   *text = palloc(sizeof(Text));
	char	   *written;

	text->place = place;
	text->names = names_changed;
	text->context = context;
	/* writing it changes it */
	text->query = copyObject(query);
	MemoryContextSwitchTo(caller);
	written = text_write(query);
	if (strlen(written) > MAX_KEPT)
	{
		MemoryContextDelete(context);
		return written;
	}
	text->text = MemoryContextStrdup(context, written);
	MemoryContextSetParent(context, TopMemoryContext);
	if (*kept)
		MemoryContextDelete((*kept)->context);
	*kept = text;
	return written;
}

char *
fa_whole_text(Query *query, FaWhole *cx)
{
	uint32		place = text_place(query, cx);
	Text	   *known = recent[place % NRECENT];

	/* where it stood in what the client sent, equal() would look at */
	query->stmt_location = -1;
	query->stmt_len = 0;
	if (known && known->place == place && known->names == names_changed &&
		equal(known->query, query))
		return pstrdup(known->text);
	/* most that come once do not come again */
	if (missed[place % NRECENT] == place)
		return text_keep(place, query);
	missed[place % NRECENT] = place;
	return text_write(query);
}

void
fa_whole_text_init(void)
{
	static const int caches[] = {NAMESPACEOID, PROCOID, OPEROID, TYPEOID, COLLOID};

	CacheRegisterRelcacheCallback(text_relcache_callback, (Datum) 0);
	for (int i = 0; i < lengthof(caches); i++)
		CacheRegisterSyscacheCallback(caches[i], text_syscache_callback,
									  (Datum) 0);
}
