/*
 * role_session.c
 *	  One session at a peer for all roles of a transaction; see role_session.h.
 *
 * Whose command a FETCH is matters as much as whose scan it is: functions in the
 * query run then.  But a role that two scans take from each other with each row would
 * cost two round trips a row, so it is only told when rows may be fetched.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_user_mapping.h"
#include "commands/defrem.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "nodes/plannodes.h"
#include "storage/proc.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "core/fa_compat.h"
#include "node/act_as.h"
#include "node/cluster_part.h"
#include "node/fdw.h"
#include "node/fdw_routine.h"
#include "node/role_session.h"

/* A scan that began when sessions had begun to act as others. */
typedef struct RoleScan
{
	ForeignScanState *scan;		/* hash key */
	Oid			session;
	int			fetched;		/* rows at a time, at least */
	int			left;			/* of these, that have not been returned */
} RoleScan;

static HTAB *scans = NULL;		/* in TopMemoryContext; of the same transaction as */
static LocalTransactionId acting_in = InvalidLocalTransactionId;

bool
fa_roles_act(void)
{
	return acting_in != InvalidLocalTransactionId && acting_in == fa_my_lxid();
}

static void
roles_begin_to_act(void)
{
	HASHCTL		ctl = {
		.keysize = sizeof(ForeignScanState *),
		.entrysize = sizeof(RoleScan),
		.hcxt = TopMemoryContext
	};

	if (fa_roles_act())
		return;
	fa_role_session_forget();	/* the end of a transaction may not have been told */
	scans = hash_create("fragaffinity scans as several roles", 64, &ctl,
						HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	acting_in = fa_my_lxid();
}

void
fa_role_act(Oid foreign_table, Oid session, Oid user)
{
	if (session != user)
		roles_begin_to_act();
	if (fa_roles_act())
		fa_fdw_tell_role(foreign_table, session, user);
}

void
fa_role_act_node(Oid foreign_table, Oid session)
{
	roles_begin_to_act();
	fa_fdw_tell_role(foreign_table, session, FA_ACTS_AS_NODE);
}

void
fa_role_scan_begin(ForeignScanState *node, Oid session, Oid user)
{
	RoleScan   *scan;

	if (session != user)
		roles_begin_to_act();
	if (!fa_roles_act())
		return;
	scan = hash_search(scans, &node, HASH_ENTER, NULL);
	scan->session = session;
	scan->fetched = fa_fdw_fetch_size(node);
	scan->left = 0;
}

static RoleScan *
role_scan_find(ForeignScanState *node)
{
	return fa_roles_act() ? hash_search(scans, &node, HASH_FIND, NULL) : NULL;
}

Oid
fa_role_scan_session(ForeignScanState *node, Oid user)
{
	RoleScan   *scan = role_scan_find(node);

	return scan ? scan->session : user;
}

void
fa_role_before_row(ForeignScanState *node, Oid foreign_table, Oid user, bool any)
{
	RoleScan   *scan = role_scan_find(node);

	if (scan && any && scan->left > 0)
	{
		scan->left--;
		return;
	}
	fa_role_act(foreign_table, scan ? scan->session : user, user);
	if (scan && any)
		scan->left = scan->fetched - 1;
}

void
fa_role_scan_again(ForeignScanState *node)
{
	RoleScan   *scan = role_scan_find(node);

	if (scan)
		scan->left = 0;
}

void
fa_role_scan_end(ForeignScanState *node)
{
	if (fa_roles_act())
		(void) hash_search(scans, &node, HASH_REMOVE, NULL);
}

bool
fa_role_may_log_in(Oid role)
{
	HeapTuple	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(role));
	bool		may;

	if (!HeapTupleIsValid(tuple))
		return false;
	may = ((Form_pg_authid) GETSTRUCT(tuple))->rolcanlogin;
	ReleaseSysCache(tuple);
	return may;
}

void
fa_role_session_forget(void)
{
	if (scans)
		hash_destroy(scans);
	scans = NULL;
	acting_in = InvalidLocalTransactionId;
}

/* The mapping by which the user gets a session of postgres_fdw; InvalidOid: none. */
static Oid
role_mapping(Oid server, Oid user)
{
	Oid			mapping = GetSysCacheOid2(USERMAPPINGUSERSERVER, Anum_pg_user_mapping_oid,
										  ObjectIdGetDatum(user),
										  ObjectIdGetDatum(server));

	return OidIsValid(mapping) ? mapping :
		GetSysCacheOid2(USERMAPPINGUSERSERVER, Anum_pg_user_mapping_oid,
						ObjectIdGetDatum(InvalidOid), ObjectIdGetDatum(server));
}

const char *
fa_role_mapped(Oid server, Oid user)
{
	ListCell   *lc;

	foreach(lc, OidIsValid(role_mapping(server, user)) ?
			GetUserMapping(user, server)->options : NIL)
	{
		DefElem    *def = lfirst(lc);

		if (strcmp(def->defname, "user") == 0)
			return defGetString(def);
	}
	return GetUserNameFromId(user, false);
}

Oid
fa_role_session(Oid server, Oid user)
{
	ListCell   *lc;

	foreach(lc, fa_xact_parts())
	{
		FaPart	   *part = lfirst(lc);

		if (!part->fdw || part->server != server ||
			(!part->changes && part->use < FA_USE_LOCK))
			continue;
		return part->user == user || part->mapping == role_mapping(server, user) ?
			user : part->user;
	}
	/* parts that go on from here are finished by whoever finishes this one */
	return fa_act_as_used() || (!OidIsValid(role_mapping(server, user)) &&
								!fa_role_may_log_in(user)) ?
		GetSessionUserId() : user;
}
