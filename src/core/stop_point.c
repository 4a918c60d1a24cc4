/*
 * stop_point.c
 *	  Named steps at which tests halt a process, to kill it there.
 *
 * Off unless a superuser sets fragaffinity.stop_point; then the process
 * waits until the variable no longer names the step.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/interrupt.h"
#include "storage/latch.h"
#include "utils/guc.h"
#include "utils/wait_event.h"

#include "core/settings.h"
#include "core/shmem.h"

bool
fa_stop_point_is_set(void)
{
	return fa_stop_point_name != NULL && fa_stop_point_name[0] != '\0';
}

void
fa_stop_point(const char *name)
{
	if (fa_stop_point_name == NULL || strcmp(fa_stop_point_name, name) != 0)
		return;
	ereport(LOG, (errmsg("fragaffinity stopped at \"%s\"", name)));
	while (strcmp(fa_stop_point_name, name) == 0)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 100, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
	}
}
