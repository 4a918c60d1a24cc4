/*
 * shmem.c
 *	  Shared memory of all rooms, in the order in which they registered.
 *
 * Each part is a block of its own; nothing here needs to survive a restart.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "core/shmem.h"

#define MAX_PARTS 16

static const FaShmemPart *parts[MAX_PARTS];
static int	nparts = 0;
static bool attached = false;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

void
fa_shmem_register(const FaShmemPart *part)
{
	if (nparts == MAX_PARTS)
		elog(ERROR, "too many parts of shared memory");
	parts[nparts++] = part;
}

static void
shmem_request(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	for (int i = 0; i < nparts; i++)
		RequestAddinShmemSpace(add_size(MAXALIGN(parts[i]->size()),
										parts[i]->extra ? parts[i]->extra() : 0));
	RequestNamedLWLockTranche("fragaffinity", nparts);
}

static void
shmem_startup(void)
{
	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < nparts; i++)
	{
		bool		found;
		void	   *ptr = ShmemInitStruct(parts[i]->name, parts[i]->size(),
										  &found);

		parts[i]->init(ptr, found);
	}
	LWLockRelease(AddinShmemInitLock);
	attached = true;
}

void
fa_shmem_install_hooks(void)
{
	prev_shmem_request_hook = shmem_request_hook;
	shmem_request_hook = shmem_request;
	prev_shmem_startup_hook = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
}

void
fa_shmem_forget_slot(int slot)
{
	for (int i = 0; i < nparts; i++)
	{
		if (parts[i]->forget_slot)
			parts[i]->forget_slot(slot);
	}
}

void
fa_shmem_forget_database(Oid dbid)
{
	for (int i = 0; attached && i < nparts; i++)
	{
		if (parts[i]->forget_database)
			parts[i]->forget_database(dbid);
	}
}

bool
fa_shmem_available(void)
{
	return attached;
}

void
fa_shmem_require(void)
{
	if (!attached)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("fragaffinity must be loaded via \"shared_preload_libraries\""),
				 errhint("Add 'fragaffinity' to \"shared_preload_libraries\" in postgresql.conf and restart the server.")));
}
