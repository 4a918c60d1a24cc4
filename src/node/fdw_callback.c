/*
 * fdw_callback.c
 *	  Reaching postgres_fdw's transaction callback.
 *
 * postgres_fdw refuses PREPARE TRANSACTION in a process with a remote
 * transaction open, and only its own callback, which it does not export, makes
 * it believe that there is none.  A node that passes on a peer's statements
 * must prepare what it holds itself together with what went on (forward.c).
 * There is no call for that in PostgreSQL; so the callback is looked up in the
 * server's list of them, starting from our own entry, whose place is known
 * because it was allocated in a context of our making.
 *
 * The list's structure is private to xact.c, and has been the same since 8.0.
 * What is found is checked: our own entry must have our function in it, and
 * postgres_fdw's must point into its library.  If not, the caller fails the
 * transaction instead.
 */
#include "postgres.h"

#include <dlfcn.h>

#include "access/xact.h"
#include "utils/memutils.h"

#include "node/fdw.h"

/* as in xact.c */
typedef struct CallbackItem
{
	struct CallbackItem *next;
	XactCallback callback;
	void	   *arg;
} CallbackItem;

static CallbackItem *own_item = NULL;

void
fa_fdw_register_before(XactCallback callback)
{
	MemoryContext top = TopMemoryContext;
	MemoryContext context = SlabContextCreate(top, "fragaffinity callback",
											  SLAB_DEFAULT_BLOCK_SIZE,
											  sizeof(CallbackItem));
	CallbackItem *item;

	/* the chunk that was freed last is given out next; the first one stays */
	(void) MemoryContextAlloc(context, sizeof(CallbackItem));
	item = MemoryContextAllocZero(context, sizeof(CallbackItem));
	pfree(item);
	TopMemoryContext = context;
	PG_TRY();
	{
		RegisterXactCallback(callback, NULL);
	}
	PG_FINALLY();
	{
		TopMemoryContext = top;
	}
	PG_END_TRY();
	if (item->callback == callback && item->arg == NULL)
		own_item = item;
}

static bool
item_is_postgres_fdw(CallbackItem *item)
{
	Dl_info		info;
	const char *name;

	if (dladdr((void *) item->callback, &info) == 0 || info.dli_fname == NULL)
		return false;
	name = strrchr(info.dli_fname, '/');
	name = name ? name + 1 : info.dli_fname;
	return strncmp(name, "postgres_fdw.", strlen("postgres_fdw.")) == 0;
}

bool
fa_fdw_end_sessions(void)
{
	for (CallbackItem *item = own_item; item; item = item->next)
	{
		if (!item_is_postgres_fdw(item))
			continue;
		item->callback(XACT_EVENT_PRE_COMMIT, item->arg);
		return true;
	}
	return false;
}
