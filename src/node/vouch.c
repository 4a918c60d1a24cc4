/*
 * vouch.c
 *	  Sessions of a role at a peer that this node vouches for; see vouch.h.
 *
 * The origin gives its session there a token that nobody can guess
 * (fragaffinity.session_token), then names the token, and a secret, over a
 * connection of its own as superuser, and gives the session the secret in the same
 * way: that one is vouched for.  The role may see both in pg_stat_activity as they
 * are set.  Then the token belongs to the session that has it.  Should the role
 * end that session and take its token, it does not get the secret, as that is
 * sent to the session which it has ended; and of no other session is it true.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/partition.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_class.h"
#include "fmgr.h"
#include "foreign/fdwapi.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rls.h"
#include "utils/syscache.h"

#include "core/fa_compat.h"
#include "node/fdw.h"
#include "node/node.h"
#include "node/vouch.h"

#define TOKEN_BYTES 16
#define TOKEN_CHARS (2 * TOKEN_BYTES)
#define SET_TOKEN "SET fragaffinity.session_token = '%s'"

/* ---- at the peer */

typedef struct Vouch
{
	TimestampTz started;		/* session that has the place; 0: none */
	int			pid;
	bool		given;
	char		token[TOKEN_CHARS + 1];
	char		secret[TOKEN_CHARS + 1];	/* by which it is given; empty: none */
} Vouch;

typedef struct VouchShared
{
	LWLock		lock;
	Vouch		vouch[FLEXIBLE_ARRAY_MEMBER];	/* by number of the backend */
} VouchShared;

static VouchShared *shared = NULL;
static char *session_token = NULL;

static Size
vouch_size(void)
{
	return add_size(offsetof(VouchShared, vouch),
					mul_size(MaxBackends, sizeof(Vouch)));
}

static void
vouch_shmem_init(void *ptr, bool found)
{
	shared = ptr;
	if (found)
		return;
	memset(shared, 0, vouch_size());
	LWLockInitialize(&shared->lock,
					 GetNamedLWLockTranche("fragaffinity")[0].lock.tranche);
}

const FaShmemPart fa_vouch_part = {
	"fragaffinity sessions vouched for", vouch_size, vouch_shmem_init
};

static Vouch *
vouch_mine(void)
{
	int			number = MyProc ? fa_my_proc_number() : MaxBackends;

	return shared && number < MaxBackends ? &shared->vouch[number] : NULL;
}

static bool
vouch_is_mine(const Vouch *vouch)
{
	return vouch->pid == MyProcPid && vouch->started == MyStartTimestamp;
}

static bool
token_is_good(const char *token)
{
	return strlen(token) == TOKEN_CHARS &&
		strspn(token, "0123456789abcdef") == TOKEN_CHARS;
}

/*
 * What is said by SET is noted at once, and stays when a transaction takes the
 * SET back: the place is not part of a transaction.
 */
static bool
vouch_check_token(char **newval, void **extra, GucSource source)
{
	Vouch	   *mine = vouch_mine();
	bool		free = true;

	if (source != PGC_S_SESSION || **newval == '\0' || mine == NULL)
		return true;
	if (!token_is_good(*newval))
	{
		GUC_check_errdetail("It is set by other nodes.");
		return false;
	}
	LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MaxBackends && free; i++)
	{
		Vouch	   *other = &shared->vouch[i];

		free = other == mine || strcmp(other->token, *newval) != 0;
	}
	if (vouch_is_mine(mine) && strcmp(mine->secret, *newval) == 0)
		mine->given = true;
	else if (free && !(vouch_is_mine(mine) && strcmp(mine->token, *newval) == 0))
	{
		mine->secret[0] = '\0';
		mine->started = MyStartTimestamp;
		mine->pid = MyProcPid;
		mine->given = false;
		strlcpy(mine->token, *newval, sizeof(mine->token));
	}
	LWLockRelease(&shared->lock);
	if (!free)
		GUC_check_errdetail("Another session has this token.");
	return free;
}

bool
fa_vouch_is_given(void)
{
	static bool given = false;
	Vouch	   *mine = vouch_mine();

	if (given || mine == NULL)
		return given;
	LWLockAcquire(&shared->lock, LW_SHARED);
	given = vouch_is_mine(mine) && mine->given;
	LWLockRelease(&shared->lock);
	return given;
}

PG_FUNCTION_INFO_V1(fa_sql_vouch);

/*
 * vouch(token, secret): the session that has the token is a node's, if it says the
 * secret
 */
Datum
fa_sql_vouch(PG_FUNCTION_ARGS)
{
	char	   *token = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char	   *secret = text_to_cstring(PG_GETARG_TEXT_PP(1));
	bool		found = false;

	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to vouch for a session")));
	fa_shmem_require();
	if (token_is_good(token) && token_is_good(secret))
	{
		LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
		for (int i = 0; i < MaxBackends && !found; i++)
		{
			found = strcmp(shared->vouch[i].token, token) == 0;
			if (found)
				strlcpy(shared->vouch[i].secret, secret,
						sizeof(shared->vouch[i].secret));
		}
		LWLockRelease(&shared->lock);
	}
	if (!found)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("no session has the token")));
	PG_RETURN_VOID();
}

/* ---- at the origin */

/* Bucket of a foreign leaf; InvalidOid: it has none. */
typedef struct LeafParent
{
	Oid			leaf;			/* hash key */
	Oid			bucket;
} LeafParent;

static HTAB *parents = NULL;

/* A session of postgres_fdw that was vouched for. */
typedef struct FdwVouch
{
	int			node;
	Oid			user;
	PGconn	   *pg;				/* NULL: not known, in this transaction only */
	int			pid;			/* at the peer */
} FdwVouch;

static List *fdw_vouches = NIL; /* of FdwVouch, in TopMemoryContext */
static bool fdw_unknown = false;	/* is there one with pg NULL? */

static void
parents_forget(Datum arg, Oid relid)
{
	if (parents == NULL)
		return;
	if (OidIsValid(relid))
		(void) hash_search(parents, &relid, HASH_REMOVE, NULL);
	else
	{
		hash_destroy(parents);
		parents = NULL;
	}
}

static Oid
leaf_bucket(Oid leaf)
{
	LeafParent *entry;
	Oid			bucket = InvalidOid;
	HASHCTL		ctl;

	entry = parents ? hash_search(parents, &leaf, HASH_FIND, NULL) : NULL;
	if (entry)
		return entry->bucket;
	if (get_rel_relispartition(leaf))
		bucket = get_partition_parent(leaf, true);
	if (parents == NULL)
	{
		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(LeafParent);
		parents = hash_create("fragaffinity foreign leaves", 256, &ctl,
							  HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(parents, &leaf, HASH_ENTER, NULL);
	entry->bucket = bucket;
	return bucket;
}

bool
fa_vouch_is_needed(Oid foreign_table, Oid user)
{
	Oid			bucket = leaf_bucket(foreign_table);
	HeapTuple	tuple;
	bool		secured;

	if (!OidIsValid(bucket))
		return false;
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(bucket));
	if (!HeapTupleIsValid(tuple))
		return false;
	secured = ((Form_pg_class) GETSTRUCT(tuple))->relrowsecurity;
	ReleaseSysCache(tuple);
	return (secured && check_enable_rls(bucket, user, true) == RLS_ENABLED) ||
		(pg_class_aclcheck(bucket, user, ACL_INSERT) != ACLCHECK_OK &&
		 pg_attribute_aclcheck_all(bucket, user, ACL_INSERT,
								   ACLMASK_ANY) == ACLCHECK_OK);
}

static char *
token_new(void)
{
	static const char digits[] = "0123456789abcdef";
	uint8		bytes[TOKEN_BYTES];
	char	   *token = palloc(TOKEN_CHARS + 1);

	if (!pg_strong_random(bytes, sizeof(bytes)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate a token for a session")));
	for (int i = 0; i < TOKEN_BYTES; i++)
	{
		token[2 * i] = digits[bytes[i] >> 4];
		token[2 * i + 1] = digits[bytes[i] & 15];
	}
	token[TOKEN_CHARS] = '\0';
	return token;
}

/*
 * As superuser, whoever the client is: it is our word.  By parameters: others who may
 * read all of pg_stat_activity must not learn the secret.
 */
static void
vouch_say(int node, const char *token, const char *secret)
{
	static const char sql[] = "SELECT fragaffinity.vouch($1, $2)";
	const char *values[] = {token, secret};
	PGresult   *res;
	Oid			user;
	int			sec_context;
	FaConn	   *conn;

	GetUserIdAndSecContext(&user, &sec_context);
	SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID,
						   sec_context | SECURITY_LOCAL_USERID_CHANGE);
	conn = fa_remote_connect(node, FA_CONNECT_TIMEOUT_MS);
	if (!PQsendQueryParams(conn->pg, sql, lengthof(values), NULL, values, NULL, NULL, 0))
		fa_remote_raise(conn, NULL, sql);
	res = fa_remote_last_result(conn, FA_CONNECT_TIMEOUT_MS);
	if (!fa_remote_succeeded(res))
		fa_remote_raise(conn, res, sql);
	PQclear(res);
	fa_remote_close(conn);
	SetUserIdAndSecContext(user, sec_context);
}

void
fa_vouch_for_conn(FaConn *conn)
{
	char	   *token = token_new();
	char	   *secret = token_new();

	fa_remote_exec(conn, 0, SET_TOKEN, token);
	vouch_say(conn->node, token, secret);
	fa_remote_exec(conn, 0, SET_TOKEN, secret);
}

static FdwVouch *
fdw_vouch_find(int node, Oid user)
{
	ListCell   *lc;

	foreach(lc, fdw_vouches)
	{
		FdwVouch   *vouch = lfirst(lc);

		if (vouch->node == node && vouch->user == user)
			return vouch;
	}
	return NULL;
}

static void
fdw_vouch_note(FdwVouch *vouch, int node, Oid user, PGconn *pg)
{
	MemoryContext caller = MemoryContextSwitchTo(TopMemoryContext);

	if (vouch == NULL)
	{
		vouch = palloc0(sizeof(FdwVouch));
		fdw_vouches = lappend(fdw_vouches, vouch);
	}
	vouch->node = node;
	vouch->user = user;
	vouch->pg = pg;
	vouch->pid = pg ? PQbackendPID(pg) : 0;
	fdw_unknown = fdw_unknown || pg == NULL;
	MemoryContextSwitchTo(caller);
}

void
fa_vouch_for_session(Oid server, Oid user)
{
	int			node = fa_node_of_server(server);
	PGconn	   *pg = fa_fdw_session(user, server);
	FdwVouch   *vouch = fdw_vouch_find(node, user);
	char	   *token;
	char	   *secret;

	if (vouch && vouch->pg == pg && (pg == NULL || vouch->pid == PQbackendPID(pg)))
		return;
	token = token_new();
	secret = token_new();
	/* a connection that is lost between is not replaced in a transaction */
	(void) fa_fdw_exec(node, user, psprintf(SET_TOKEN, token));
	vouch_say(node, token, secret);
	(void) fa_fdw_exec(node, user, psprintf(SET_TOKEN, secret));
	fdw_vouch_note(vouch, node, user, pg);
}

void
fa_vouch_for_fdw(Oid foreign_table, Oid session, Oid user)
{
	if (fa_vouch_is_needed(foreign_table, user) && fa_fdw_node(foreign_table) != 0)
		fa_vouch_for_session(GetForeignServerIdByRelId(foreign_table), session);
}

/* Sessions that are not known may be others in the next transaction. */
static void
vouch_xact_callback(XactEvent event, void *arg)
{
	if (!fdw_unknown ||
		(event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
		 event != XACT_EVENT_PREPARE))
		return;
	list_free_deep(fdw_vouches);
	fdw_vouches = NIL;
	fdw_unknown = false;
}

void
fa_vouch_init(void)
{
	DefineCustomStringVariable("fragaffinity.session_token",
							   "Name by which a node vouches for this session, which works for it.",
							   NULL, &session_token, "",
							   PGC_USERSET,
							   GUC_NOT_IN_SAMPLE | GUC_NO_SHOW_ALL | GUC_DISALLOW_IN_FILE,
							   vouch_check_token, NULL, NULL);
	CacheRegisterRelcacheCallback(parents_forget, (Datum) 0);
	RegisterXactCallback(vouch_xact_callback, NULL);
}
