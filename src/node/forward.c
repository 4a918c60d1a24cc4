/*
 * forward.c
 *	  Parts of transactions that were handed on.
 *
 * A node that has not heard of a move sends statements to the old owner, which
 * forwards them.  When the transaction then spans nodes, the old owner is asked
 * to prepare its part: it has the new owner prepare what went there under the
 * same name, and remembers that.  The origin's COMMIT PREPARED comes here, and
 * is handed on.
 *
 * The memory is a ring in shared memory: enough for all parts between their
 * PREPARE and their end.  After a restart, or when it was too small, the
 * origin's resolver finds the part where it is.
 */
#include "postgres.h"

#include "common/hashfn.h"
#include "miscadmin.h"
#include "storage/spin.h"
#include "utils/builtins.h"

#include "node/cluster_xact.h"
#include "node/node.h"

#define NFORWARDS 1024
#define FINISH_TIMEOUT_MS 5000

typedef struct Forward
{
	uint64		gid;			/* hash; 0: unused */
	int			node;
} Forward;

typedef struct FaForwards
{
	slock_t		lock;			/* protects all fields */
	int			next;
	Forward		forward[NFORWARDS];
} FaForwards;

static FaForwards *forwards = NULL;

static Size
forwards_size(void)
{
	return sizeof(FaForwards);
}

static void
forwards_init(void *ptr, bool found)
{
	forwards = ptr;
	if (!found)
	{
		memset(forwards, 0, sizeof(FaForwards));
		SpinLockInit(&forwards->lock);
	}
}

const FaShmemPart fa_forward_part = {
	"fragaffinity forwarded parts", forwards_size, forwards_init
};

static uint64
forward_hash(const char *gid)
{
	return hash_bytes_extended((const unsigned char *) gid, strlen(gid),
							   MyDatabaseId) | 1;
}

void
fa_forward_note(const char *gid, int node)
{
	uint64		hash = forward_hash(gid);

	SpinLockAcquire(&forwards->lock);
	forwards->forward[forwards->next].gid = hash;
	forwards->forward[forwards->next].node = node;
	forwards->next = (forwards->next + 1) % NFORWARDS;
	SpinLockRelease(&forwards->lock);
}

/* Takes out one entry of the part; false when there is none. */
static bool
forward_take(uint64 hash, int *node_p)
{
	bool		found = false;

	SpinLockAcquire(&forwards->lock);
	for (int i = 0; i < NFORWARDS && !found; i++)
	{
		Forward    *f = &forwards->forward[i];

		if (f->gid != hash)
			continue;
		*node_p = f->node;
		f->gid = 0;
		found = true;
	}
	SpinLockRelease(&forwards->lock);
	return found;
}

void
fa_forward_finish(const char *gid, bool commit)
{
	uint64		hash = forward_hash(gid);
	int			node;

	while (forwards && forward_take(hash, &node))
		fa_remote_exec(fa_finish_conn(node, GetUserId()), FINISH_TIMEOUT_MS,
					   "%s PREPARED %s", commit ? "COMMIT" : "ROLLBACK",
					   quote_literal_cstr(gid));
}
