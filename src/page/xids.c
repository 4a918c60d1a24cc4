/*
 * xids.c
 *	  How this server's transactions have ended.
 *
 * The caller keeps a pin on the page that names them: VACUUM cannot freeze it
 * then, so the server keeps what it knows of them.
 */
#include "postgres.h"

#include "access/multixact.h"
#include "access/transam.h"
#include "storage/procarray.h"

#include "page/source.h"

#define REMEMBERED 4096			/* a power of two */

struct FaXids
{
	FaXidJudge	judge;			/* first: the callbacks get it */
	TransactionId xid[REMEMBERED];
	FaXidState	state[REMEMBERED];
};

static FaXidState
xids_state(FaXidJudge *judge, TransactionId xid)
{
	FaXids	   *xids = (FaXids *) judge;
	int			slot = xid % REMEMBERED;
	FaXidState	state;

	if (xids->xid[slot] == xid)
		return xids->state[slot];
	/* in this order: it may end in between */
	if (TransactionIdIsInProgress(xid))
		return FA_XID_PENDING;
	state = TransactionIdDidCommit(xid) ? FA_XID_COMMITTED : FA_XID_ABORTED;
	xids->xid[slot] = xid;
	xids->state[slot] = state;
	return state;
}

static TransactionId
xids_updater(FaXidJudge *judge, TransactionId multi)
{
	MultiXactMember *members;
	TransactionId updater = InvalidTransactionId;
	int			n = GetMultiXactIdMembers(multi, &members, false, false);

	for (int i = 0; i < n; i++)
	{
		if (ISUPDATE_from_mxstatus(members[i].status))
			updater = members[i].xid;
	}
	if (n > 0)
		pfree(members);
	return updater;
}

FaXids *
fa_xids_create(void)
{
	FaXids	   *xids = palloc0(sizeof(FaXids));

	xids->judge.state = xids_state;
	xids->judge.updater = xids_updater;
	return xids;
}

FaXidJudge *
fa_xids_judge(FaXids *xids)
{
	memset(xids->xid, 0, sizeof(xids->xid));
	return &xids->judge;
}
