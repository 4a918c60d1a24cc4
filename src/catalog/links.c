/*
 * links.c
 *	  Foreign servers and user mappings towards the peers.
 *
 * A role is mapped to the role of the same name on the peer, never to
 * another one, and without a password: how the peer authenticates it (trust,
 * certificate, the server's passfile) is the administrator's choice.
 */
#include "postgres.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "catalog/pg_foreign_server.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "foreign/foreign.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "catalog/membership.h"
#include "catalog/table_text.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "node/fdw.h"
#include "node/remote.h"

/*
 * Options that only matter to postgres_fdw: rows are fetched and inserted in
 * batches, scans of several nodes overlap, both ends of a transaction commit in
 * parallel, and a scan costs what its round trips and rows take
 * (fa_link_sync_costs).
 */
#define NEAR_COST 500
#define NEAR_ROW_COST 0.2		/* what later servers have for a row from anywhere */
#define FDW_OPTIONS \
	"fetch_size '1000', batch_size '100', async_capable 'true', " \
	"parallel_commit 'true', fdw_startup_cost '" CppAsString2(NEAR_COST) "', " \
	"fdw_tuple_cost '" CppAsString2(NEAR_ROW_COST) "'"

/*
 * A scan takes two round trips, and a unit of the planner's costs is about ten
 * microseconds on today's machines.
 */
#define COST_PER_MS 200
#define ROW_COST_PER_US 0.1

/* Backends connect anew when the cost changes, so it must not go up and down. */
#define COST_INTERVAL_MS (5 * 60 * 1000)

/*
 * Whether a transaction may write, and how long it may take, is decided where its
 * client is connected.
 */
#define SESSION_OPTIONS \
	"-c fragaffinity.origin=%d -c default_transaction_read_only=off " \
	"-c statement_timeout=0 -c lock_timeout=0 " \
	"-c idle_in_transaction_session_timeout=0"

/*
 * A peer that is gone without a word must not hold statements for the hours
 * that TCP would.
 */
#define LINK_OPTIONS \
	"connect_timeout '5', keepalives_idle '10', keepalives_interval '5', " \
	"keepalives_count '3', tcp_user_timeout '30000'"

void
fa_link_create(const FaNode *node)
{
	char	   *server = fa_node_server_name(node->id);

	(void) fa_spi_exec("CREATE SERVER %s FOREIGN DATA WRAPPER fragaffinity "
					   "OPTIONS (host %s, port '%d', dbname %s, "
					   "options '" SESSION_OPTIONS "', "
					   "application_name 'fragaffinity:%d:%%p', "
					   FDW_OPTIONS ", " LINK_OPTIONS ")",
					   server, quote_literal_cstr(node->host), node->port,
					   quote_literal_cstr(node->dbname), fa_node_self(),
					   fa_node_self());
	(void) fa_spi_exec("CREATE FOREIGN TABLE fragaffinity.%s () SERVER %s",
					   fa_fdw_session_table(node->id), server);
	(void) fa_link_sync_mappings();
}

void
fa_link_alter(const FaNode *node)
{
	(void) fa_spi_exec("ALTER SERVER %s OPTIONS "
					   "(SET host %s, SET port '%d', SET dbname %s)",
					   fa_node_server_name(node->id),
					   quote_literal_cstr(node->host), node->port,
					   quote_literal_cstr(node->dbname));
}

void
fa_link_drop(int node)
{
	int			guc_level = NewGUCNestLevel();

	/* what goes with it is ours */
	fa_ddl_set("client_min_messages", "warning");
	(void) fa_spi_exec("DROP SERVER IF EXISTS %s CASCADE",
					   fa_node_server_name(node));
	AtEOXact_GUC(true, guc_level);
}

void
fa_link_release(int node)
{
	ForeignServer *server = GetForeignServerByName(fa_node_server_name(node),
												   false);
	Oid			wrapper = get_foreign_data_wrapper_oid("postgres_fdw", false);
	Relation	rel;
	HeapTuple	tuple;

	(void) fa_spi_exec("DROP FOREIGN TABLE IF EXISTS fragaffinity.%s",
					   fa_fdw_session_table(node));
	rel = table_open(ForeignServerRelationId, RowExclusiveLock);
	tuple = SearchSysCacheCopy1(FOREIGNSERVEROID,
								ObjectIdGetDatum(server->serverid));
	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "foreign server %u is gone", server->serverid);
	((Form_pg_foreign_server) GETSTRUCT(tuple))->srvfdw = wrapper;
	CatalogTupleUpdate(rel, &tuple->t_self, tuple);
	if (server->fdwid != wrapper &&
		changeDependencyFor(ForeignServerRelationId, server->serverid,
							ForeignDataWrapperRelationId, server->fdwid,
							wrapper) != 1)
		elog(ERROR, "dependency of foreign server %u on its wrapper is missing",
			 server->serverid);
	heap_freetuple(tuple);
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

int
fa_link_sync_mappings(void)
{
	FaRows	   *rows;

	rows = fa_spi_rows("SELECT s.srvname, r.rolname "
					   "FROM pg_catalog.pg_foreign_server s, pg_catalog.pg_roles r "
					   "WHERE s.srvname IN (SELECT 'fragaffinity_' || node "
					   "                    FROM fragaffinity.node) "
					   "AND (r.rolcanlogin OR r.rolname = current_user) "
					   "AND NOT EXISTS (SELECT FROM pg_catalog.pg_user_mapping m "
					   "                WHERE m.umserver = s.oid AND m.umuser = r.oid)");
	for (int i = 0; i < rows->nrows; i++)
	{
		char	   *role = rows->value[i][1];

		(void) fa_spi_exec("CREATE USER MAPPING FOR %s SERVER %s "
						   "OPTIONS (user %s, password_required 'false')",
						   quote_identifier(role),
						   quote_identifier(rows->value[i][0]),
						   quote_literal_cstr(role));
	}
	return rows->nrows;
}

/* A cost that a server has; 0 when it has none, as an administrator chose. */
static double
link_cost(const char *server, const char *option)
{
	ListCell   *lc;

	foreach(lc, GetForeignServerByName(server, false)->options)
	{
		DefElem    *def = lfirst(lc);

		if (strcmp(def->defname, option) == 0)
			return strtod(defGetString(def), NULL);
	}
	return 0;
}

/* Is a cost off by a factor of two?  Then the option that sets it is added. */
static bool
link_cost_is_off(StringInfo options, const char *server, const char *option,
				 double wanted, bool may_lower)
{
	double		current = link_cost(server, option);

	if (current <= 0 ||
		(wanted < 2 * current && (current < 2 * wanted || !may_lower)))
		return false;
	appendStringInfo(options, "%sSET %s '%.1f'", options->len ? ", " : "", option,
					 wanted);
	return true;
}

int
fa_link_sync_costs(void)
{
	static TimestampTz changed = 0;
	TimestampTz now = GetCurrentTimestamp();
	bool		may_lower = changed == 0 ||
		TimestampDifferenceExceeds(changed, now, COST_INTERVAL_MS);
	int			n = 0;
	ListCell   *lc;

	foreach(lc, fa_node_list())
	{
		FaNode	   *node = lfirst(lc);
		char	   *server = fa_node_server_name(node->id);
		FaNodeHealth health;
		StringInfoData options;
		bool		off = false;

		if (node->id == fa_node_self() || !fa_node_health(node->id, &health) ||
			!health.alive)
			continue;
		initStringInfo(&options);
		if (health.round_trip_ms > 0)
			off |= link_cost_is_off(&options, server, "fdw_startup_cost",
									Max(NEAR_COST, rint(COST_PER_MS * health.round_trip_ms)),
									may_lower);
		if (health.row_us > 0)
			off |= link_cost_is_off(&options, server, "fdw_tuple_cost",
									Max(NEAR_ROW_COST, ROW_COST_PER_US * health.row_us),
									may_lower);
		if (!off)
			continue;
		(void) fa_spi_exec("ALTER SERVER %s OPTIONS (%s)", server, options.data);
		changed = now;
		n++;
	}
	return n;
}

PG_FUNCTION_INFO_V1(fa_sql_link_node);
PG_FUNCTION_INFO_V1(fa_sql_relink_node);
PG_FUNCTION_INFO_V1(fa_sql_unlink_node);
PG_FUNCTION_INFO_V1(fa_sql_check_link);

static FaNode *
link_argument(int id)
{
	FaNode	   *node;

	fa_shmem_require();
	node = fa_node_find(id);
	if (node == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("node %d does not exist", id)));
	return node;
}

Datum
fa_sql_link_node(PG_FUNCTION_ARGS)
{
	fa_link_create(link_argument(PG_GETARG_INT32(0)));
	PG_RETURN_VOID();
}

Datum
fa_sql_relink_node(PG_FUNCTION_ARGS)
{
	fa_link_alter(link_argument(PG_GETARG_INT32(0)));
	PG_RETURN_VOID();
}

Datum
fa_sql_unlink_node(PG_FUNCTION_ARGS)
{
	fa_shmem_require();
	fa_link_drop(PG_GETARG_INT32(0));
	PG_RETURN_VOID();
}

/*
 * check_link(node, identity): connects to a peer as postgres_fdw would and
 * raises unless the server there is the one meant.
 */
Datum
fa_sql_check_link(PG_FUNCTION_ARGS)
{
	FaNode	   *node = link_argument(PG_GETARG_INT32(0));
	char	   *identity = text_to_cstring(PG_GETARG_TEXT_PP(1));
	FaConn	   *conn = fa_remote_connect(node->id, FA_CONNECT_TIMEOUT_MS);
	char	   *there;

	there = fa_remote_value(conn, FA_CONNECT_TIMEOUT_MS,
							"SELECT fragaffinity.node_identity()");
	fa_remote_close(conn);
	if (there == NULL || strcmp(there, identity) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the address of node \"%s\" leads to another server",
						node->name),
				 errdetail("Address: %s:%d, database \"%s\".",
						   node->host, node->port, node->dbname),
				 errhint("Give every node an address that is the same from all nodes; see fragaffinity.set_node().")));
	PG_RETURN_VOID();
}
