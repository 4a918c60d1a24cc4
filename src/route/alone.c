/*
 * alone.c
 *	  Is a statement alone in its transaction?
 *
 * Then it may run in a transaction of its own on another node: nothing before
 * it has to be seen, nothing after it can fail and would have to take it back.
 * So it must be the client's own statement (not a function's, nor of DO or CALL,
 * which go on after their COMMIT), the first of its transaction and, as far as
 * can be known, the last: outside of a transaction block, and in the extended
 * protocol followed by a Sync.  And the user must be one who may log in there.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "tcop/pquery.h"
#include "tcop/tcopprot.h"

#include "core/fa_compat.h"
#include "node/role_session.h"
#include "route/hooks.h"
#include "route/route.h"

/* Is the client's next message, already here, a Sync? */
static bool
alone_sync_follows(void)
{
	bool		follows;

	if (!fa_client_has_sent())
		return false;
	pq_startmsgread();
	follows = pq_peekbyte() == 'S';
	pq_endmsgread();
	return follows;
}

/*
 * in_commands: how many commands around it are the statement itself; parts: how many
 * statements it has begun that are
 */
static bool
alone(int in_commands, int parts)
{
	if (fa_hooks_begun() != 1 + parts ||
		fa_hooks_in_commands() != in_commands || ActivePortal == NULL || IsTransactionBlock() ||
		IsSubTransaction() || XactIsoLevel != XACT_READ_COMMITTED ||
		whereToSendOutput != DestRemote ||
		TransactionIdIsValid(GetTopTransactionIdIfAny()) || !fa_role_may_log_in(GetUserId()))
		return false;
	/* only the extended protocol's portals have a cached plan */
	return ActivePortal->cplan == NULL || alone_sync_follows();
}

bool
fa_statement_is_alone(int parts)
{
	return alone(0, parts);
}

bool
fa_command_is_alone(void)
{
	return alone(1, 0);
}

bool
fa_statement_may_be_interrupted(void)
{
	return IsTransactionBlock() || fa_hooks_begun() != 1 ||
		fa_hooks_in_commands() > 0;
}
