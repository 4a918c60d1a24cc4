/*
 * membership.c
 *	  add_node, set_node and remove_node.
 *
 * A node joins in one cluster transaction, run on the coordinator:
 *
 *	1. connect to the address; check what must agree; refuse ourselves
 *	2. the first time: this database becomes node 1, the coordinator
 *	3. rows and links on every node, the cluster's metadata on the new one
 *	4. every node connects back to every address that is new to it
 *
 * An error in any step leaves no trace on any node.
 */
#include "postgres.h"

#include "access/xact.h"
#include "commands/dbcommands.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "postmaster/postmaster.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "catalog/membership.h"
#include "catalog/table_ddl.h"
#include "core/args.h"
#include "core/settings.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "node/cluster_xact.h"
#include "node/node.h"

#define MAX_NODE_ID (FA_MAX_NODES - 1)

PG_FUNCTION_INFO_V1(fa_sql_add_node);
PG_FUNCTION_INFO_V1(fa_sql_set_node);
PG_FUNCTION_INFO_V1(fa_sql_remove_node);

#define FACTS_QUERY \
	"SELECT current_setting('server_version_num'), " \
	"current_setting('block_size'), current_setting('server_encoding'), " \
	"current_setting('max_prepared_transactions'), " \
	"current_setting('wal_level'), " \
	"(SELECT extversion FROM pg_catalog.pg_extension " \
	" WHERE extname = 'fragaffinity'), " \
	"(SELECT concat_ws(' ', CASE to_jsonb(d)->>'datlocprovider' WHEN 'i' THEN 'icu'" \
	"   WHEN 'b' THEN 'builtin' ELSE 'libc' END, d.datcollate, d.datctype," \
	"   coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale'))" \
	" FROM pg_catalog.pg_database d WHERE d.datname = current_database()), " \
	"(SELECT coalesce(pg_catalog.pg_database_collation_actual_version(d.oid), 'none')" \
	" FROM pg_catalog.pg_database d WHERE d.datname = current_database())"

/* Columns of FACTS_QUERY. */
enum
{
	FACT_VERSION, FACT_BLOCK_SIZE, FACT_ENCODING, FACT_PREPARED,
	FACT_WAL_LEVEL, FACT_EXTENSION, FACT_LOCALE, FACT_COLLATION
};

static void
membership_mismatch(const char *name, const char *what, const char *there,
					const char *wanted, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("node \"%s\" cannot be used: %s is %s", name, what,
					there ? there : "missing"),
			 errdetail("Needed: %s.", wanted),
			 errhint("%s", hint)));
}

/* What each node needs by itself. */
static void
membership_check_server(const char *name, char **fact)
{
	if (atoi(fact[FACT_VERSION]) < 150000)
		membership_mismatch(name, "the server version", fact[FACT_VERSION],
							"PostgreSQL 15 or later",
							"Upgrade that server.");
	if (atoi(fact[FACT_PREPARED]) < 1)
		membership_mismatch(name, "max_prepared_transactions", "0",
							"at least 1, better 64",
							"Set max_prepared_transactions in its postgresql.conf and restart it.");
	if (strcmp(fact[FACT_WAL_LEVEL], "logical") != 0)
		membership_mismatch(name, "wal_level", fact[FACT_WAL_LEVEL], "logical",
							"Set wal_level = logical in its postgresql.conf and restart it.");
}

static char **
membership_local_facts(void)
{
	char	  **fact = fa_spi_rows("%s", FACTS_QUERY)->value[0];

	membership_check_server("this node", fact);
	return fact;
}

static void
membership_check_peer(FaConn *conn, char **local)
{
	char	  **fact = fa_remote_rows(conn, FA_CONNECT_TIMEOUT_MS,
									  "%s", FACTS_QUERY)->value[0];
	char	   *preloaded;

	membership_check_server(conn->name, fact);
	if (fact[FACT_EXTENSION] == NULL)
		membership_mismatch(conn->name, "the extension fragaffinity", NULL,
							psprintf("version %s", local[FACT_EXTENSION]),
							"Run CREATE EXTENSION fragaffinity CASCADE in that database.");
	if (strcmp(fact[FACT_EXTENSION], local[FACT_EXTENSION]) != 0)
		membership_mismatch(conn->name, "the extension's version",
							fact[FACT_EXTENSION], local[FACT_EXTENSION],
							"Run ALTER EXTENSION fragaffinity UPDATE where it is older.");
	if (strcmp(fact[FACT_BLOCK_SIZE], local[FACT_BLOCK_SIZE]) != 0)
		membership_mismatch(conn->name, "the block size",
							fact[FACT_BLOCK_SIZE], local[FACT_BLOCK_SIZE],
							"All nodes must be built with the same block size.");
	if (strcmp(fact[FACT_ENCODING], local[FACT_ENCODING]) != 0)
		membership_mismatch(conn->name, "the database encoding",
							fact[FACT_ENCODING], local[FACT_ENCODING],
							"Create its database with the same encoding.");
	/* what is less than a key at one node must be so at all */
	if (strcmp(fact[FACT_LOCALE], local[FACT_LOCALE]) != 0)
		membership_mismatch(conn->name, "the database's locale",
							fact[FACT_LOCALE], local[FACT_LOCALE],
							"Create its database with the same locale and provider.");
	if (strcmp(fact[FACT_COLLATION], local[FACT_COLLATION]) != 0)
		membership_mismatch(conn->name, "the version of the database's collation",
							fact[FACT_COLLATION], local[FACT_COLLATION],
							"Rows would be sorted differently there. Use the same version of the operating system's or ICU's library, or databases with locale C.");
	preloaded = fa_remote_value(conn, FA_CONNECT_TIMEOUT_MS,
								"SELECT fragaffinity.is_preloaded()");
	if (preloaded == NULL || preloaded[0] != 't')
		membership_mismatch(conn->name, "shared_preload_libraries",
							"without fragaffinity", "fragaffinity in it",
							"Add 'fragaffinity' to its shared_preload_libraries and restart it.");
}

/* A name for this node until set_node gives it another. */
static char *
membership_own_name(const char *taken)
{
	const char *cluster_name = GetConfigOption("cluster_name", true, false);

	if (cluster_name && cluster_name[0] && strcmp(cluster_name, taken) != 0)
		return pstrdup(cluster_name);
	return pstrdup(strcmp(taken, "node1") == 0 ? "coordinator" : "node1");
}

/* Where peers reach this server, as far as it can know. */
static char *
membership_own_host(void)
{
	char	   *addr = fa_spi_value("SELECT host(inet_server_addr())");

	return addr ? addr : pstrdup("localhost");
}

static void
membership_insert_node(int id, const char *name, const char *host, int port,
					   const char *dbname, const char *region, int64 capacity)
{
	(void) fa_spi_exec("INSERT INTO fragaffinity.node "
					   "(node, name, host, port, dbname, region, capacity) "
					   "VALUES (%d, %s, %s, %d, %s, %s, nullif("
					   INT64_FORMAT ", 0))",
					   id, quote_literal_cstr(name), quote_literal_cstr(host),
					   port, quote_literal_cstr(dbname),
					   region ? quote_literal_cstr(region) : "NULL", capacity);
}

/*
 * An id that no node has had: moves, history and transactions of one that has
 * left are known by it.
 */
static int
membership_next_id(void)
{
	int			id = atoi(fa_spi_value("SELECT last_node + 1 FROM fragaffinity.local_node"));

	if (id > MAX_NODE_ID)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("a cluster has at most %d nodes, with those that have left",
						MAX_NODE_ID)));
	(void) fa_spi_exec("UPDATE fragaffinity.local_node SET last_node = %d", id);
	return id;
}

/* This database becomes the first node of a new cluster. */
static void
membership_found_cluster(const char *name, const char *host, int port,
						 const char *region, int64 capacity)
{
	(void) fa_spi_exec("INSERT INTO fragaffinity.local_node "
					   "(node, coordinator, cluster) "
					   "VALUES (1, 1, pg_catalog.gen_random_uuid())");
	membership_insert_node(1, name, host, port,
						   get_database_name(MyDatabaseId), region, capacity);
	(void) fa_spi_exec("SELECT pg_catalog.setval('fragaffinity.move_id_seq', 1, false)");
	CommandCounterIncrement();
}

/* Raises unless this database may change the cluster's nodes. */
static void
membership_require_coordinator(void)
{
	int			self = fa_node_self();
	int			coordinator = fa_node_coordinator();

	fa_shmem_require();
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to change the nodes of a cluster")));
	if (self != coordinator)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("nodes are changed on the coordinator"),
				 errhint("Call the function on node \"%s\".",
						 fa_node_find(coordinator)->name)));
}

static void
membership_check_unused(const char *name, const char *host, int port,
						const char *dbname)
{
	char	   *same = fa_spi_value("SELECT name FROM fragaffinity.node WHERE name = %s",
									quote_literal_cstr(name));

	if (same)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("node \"%s\" already exists", name),
				 errhint("Use fragaffinity.set_node() to change it.")));
	same = fa_spi_value("SELECT name FROM fragaffinity.node "
						"WHERE host = %s AND port = %d AND dbname = %s",
						quote_literal_cstr(host), port,
						quote_literal_cstr(dbname));
	if (same)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("node \"%s\" already has the address %s:%d, database \"%s\"",
						same, host, port, dbname)));
}

/* Copies the cluster's metadata to the joining node. */
static void
membership_export(FaConn *conn, int id)
{
	FaRows	   *rows;
	ListCell   *lc;

	fa_remote_exec(conn, 0, "INSERT INTO fragaffinity.local_node "
				   "(node, coordinator, cluster) VALUES (%d, %d, %s)",
				   id, fa_node_coordinator(),
				   quote_literal_cstr(fa_spi_value("SELECT cluster FROM fragaffinity.local_node")));
	rows = fa_spi_rows("SELECT pg_catalog.format('INSERT INTO fragaffinity.node VALUES (%%s, %%L, %%L, %%s, %%L, %%L, %%L, %%L)', "
					   "node, name, host, port, dbname, region, capacity, state) "
					   "FROM fragaffinity.node ORDER BY node");
	for (int i = 0; i < rows->nrows; i++)
		fa_remote_exec(conn, 0, "%s", rows->value[i][0]);
	rows = fa_spi_rows("SELECT pg_catalog.format('INSERT INTO fragaffinity.setting VALUES (%%L, %%s, %%L)', "
					   "name, table_id, value) FROM fragaffinity.setting");
	for (int i = 0; i < rows->nrows; i++)
		fa_remote_exec(conn, 0, "%s", rows->value[i][0]);
	rows = fa_spi_rows("SELECT fragment FROM fragaffinity.pin");
	for (int i = 0; i < rows->nrows; i++)
		fa_remote_exec(conn, 0, "INSERT INTO fragaffinity.pin VALUES (%s)",
					   rows->value[i][0]);
	/*
	 * Numbers of moves are unique in the cluster: node modulo 1024.  A node
	 * that has left may have had this id before, and its moves are known.
	 */
	fa_remote_exec(conn, 0, "SELECT pg_catalog.setval('fragaffinity.move_id_seq', %s, false)",
				   fa_spi_value("SELECT greatest(max(move) / 1024 + 1, %d) "
								"FROM fragaffinity.move", id));
	foreach(lc, fa_node_list())
	{
		FaNode	   *node = lfirst(lc);

		if (node->id != id)
			fa_remote_exec(conn, 0, "SELECT fragaffinity.link_node(%d)",
						   node->id);
	}
}

/* Steps 3 and 4 for the node in conn's database. */
static void
membership_join(int id)
{
	FaNode	   *joining = fa_node_find(id);
	int			self = fa_node_self();
	char	   *own = fa_spi_value("SELECT fragaffinity.node_identity()");
	FaConn	   *conn;
	char	   *identity;
	ListCell   *lc;

	fa_link_create(joining);
	CommandCounterIncrement();
	conn = fa_xact_conn(id);
	identity = fa_remote_value(conn, 0, "SELECT fragaffinity.node_identity()");
	membership_export(conn, id);
	foreach(lc, fa_node_list())
	{
		FaNode	   *node = lfirst(lc);
		FaConn	   *peer;

		if (node->id == id)
			continue;
		if (node->id == self)
		{
			fa_remote_exec(conn, 0, "SELECT fragaffinity.check_link(%d, %s)",
						   self, quote_literal_cstr(own));
			continue;
		}
		peer = fa_xact_conn(node->id);
		fa_remote_exec(peer, 0, "%s",
					   fa_spi_value("SELECT pg_catalog.format('INSERT INTO fragaffinity.node VALUES (%%s, %%L, %%L, %%s, %%L, %%L, %%L, %%L)', "
									"node, name, host, port, dbname, region, capacity, state) "
									"FROM fragaffinity.node WHERE node = %d", id));
		fa_remote_exec(peer, 0, "SELECT fragaffinity.link_node(%d)", id);
		fa_remote_exec(peer, 0, "SELECT fragaffinity.check_link(%d, %s)", id,
					   quote_literal_cstr(identity));
		fa_remote_exec(conn, 0, "SELECT fragaffinity.check_link(%d, %s)",
					   node->id,
					   quote_literal_cstr(fa_remote_value(peer, 0, "SELECT fragaffinity.node_identity()")));
	}
	fa_table_export(id);
}

static void
membership_check_arguments(const char *name, const char *host, int port,
						   int64 capacity)
{
	if (name[0] == '\0' || host[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a node needs a name and a host")));
	if (port < 1 || port > 65535)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("port %d is out of range", port),
				 errhint("Ports are 1 to 65535.")));
	if (capacity < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("capacity must be positive"),
				 errhint("Capacity is in bytes; null means no limit.")));
}

/*
 * add_node(name, host, port, dbname, region, capacity) returns the node's id
 */
Datum
fa_sql_add_node(PG_FUNCTION_ARGS)
{
	char	   *name,
			   *host,
			   *dbname,
			   *region;
	int			port;
	int64		capacity;
	char	  **local;
	FaConn	   *conn;
	int			id;

	fa_require_argument(fcinfo, 0, "name");
	fa_require_argument(fcinfo, 1, "host");
	name = pstrdup(NameStr(*PG_GETARG_NAME(0)));
	host = text_to_cstring(PG_GETARG_TEXT_PP(1));
	port = PG_ARGISNULL(2) ? 5432 : PG_GETARG_INT32(2);
	dbname = PG_ARGISNULL(3) ? get_database_name(MyDatabaseId) :
		pstrdup(NameStr(*PG_GETARG_NAME(3)));
	region = PG_ARGISNULL(4) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(4));
	capacity = PG_ARGISNULL(5) ? 0 : PG_GETARG_INT64(5);

	membership_require_coordinator();
	membership_check_arguments(name, host, port, capacity);
	/* first: whoever holds it may come to the nodes by a foreign key */
	if (fa_node_self() != 0)
		fa_xact_lock_cluster();
	(void) fa_spi_exec("LOCK TABLE fragaffinity.node IN EXCLUSIVE MODE");
	membership_check_unused(name, host, port, dbname);
	local = membership_local_facts();
	conn = fa_remote_connect_address(name, host, port, dbname,
									 FA_CONNECT_TIMEOUT_MS);
	membership_check_peer(conn, local);
	if (strcmp(fa_remote_value(conn, 0, "SELECT fragaffinity.node_identity()"),
			   fa_spi_value("SELECT fragaffinity.node_identity()")) == 0)
	{
		/* naming ourselves is how a cluster may begin */
		if (fa_node_self() == 0)
		{
			membership_found_cluster(name, host, port, region, capacity);
			PG_RETURN_INT32(1);
		}
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s:%d, database \"%s\", is this node itself",
						host, port, dbname),
				 errhint("Add the other nodes here; use fragaffinity.set_node() to rename this one.")));
	}
	if (fa_remote_value(conn, 0, "SELECT node FROM fragaffinity.local_node"))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("node \"%s\" already belongs to a cluster", name),
				 errhint("Remove it there first.")));
	fa_remote_close(conn);
	if (fa_node_self() == 0)
		membership_found_cluster(membership_own_name(name),
								 membership_own_host(), PostPortNumber,
								 NULL, 0);
	fa_xact_lock_cluster();
	id = membership_next_id();
	membership_insert_node(id, name, host, port, dbname, region, capacity);
	CommandCounterIncrement();
	membership_join(id);
	PG_RETURN_INT32(id);
}

/*
 * What tells the node from every other, asked at the address that it has now;
 * raises when another server is there.
 */
static char *
membership_identity(FaNode *node)
{
	char	   *cluster;
	char	   *identity;

	if (node->id == fa_node_self())
		return fa_spi_value("SELECT fragaffinity.node_identity()");
	CommandCounterIncrement();
	cluster = fa_spi_value("SELECT cluster FROM fragaffinity.local_node");
	identity = fa_remote_value(fa_xact_conn(node->id), 0,
							   "SELECT fragaffinity.node_identity() "
							   "FROM fragaffinity.local_node "
							   "WHERE node = %d AND cluster = %s",
							   node->id, quote_literal_cstr(cluster));
	/* nobody is '' */
	if (identity == NULL)
		fa_spi_exec("SELECT fragaffinity.check_link(%d, '')", node->id);
	return identity;
}

/* From the other nodes, the same address must lead to it, too. */
static void
membership_check_address(FaNode *node, const char *identity)
{
	ListCell   *lc;

	foreach(lc, fa_node_list())
	{
		FaNode	   *other = lfirst(lc);

		if (other->id != node->id && other->id != fa_node_self())
			fa_remote_exec(fa_xact_conn(other->id), 0,
						   "SELECT fragaffinity.check_link(%d, %s)", node->id,
						   quote_literal_cstr(identity));
	}
}

/*
 * set_node(name, new_name, host, port, dbname, region, capacity): null leaves
 * as it is.
 */
Datum
fa_sql_set_node(PG_FUNCTION_ARGS)
{
	FaNode	   *node;
	char	   *update;
	char	   *relink;
	char	   *identity = NULL;

	fa_require_argument(fcinfo, 0, "name");
	membership_require_coordinator();
	fa_node_require_cluster();
	node = fa_node_by_name(NameStr(*PG_GETARG_NAME(0)));
	if (!PG_ARGISNULL(1))
		node->name = pstrdup(NameStr(*PG_GETARG_NAME(1)));
	if (!PG_ARGISNULL(2))
		node->host = text_to_cstring(PG_GETARG_TEXT_PP(2));
	if (!PG_ARGISNULL(3))
		node->port = PG_GETARG_INT32(3);
	if (!PG_ARGISNULL(4))
		node->dbname = pstrdup(NameStr(*PG_GETARG_NAME(4)));
	if (!PG_ARGISNULL(5))
		node->region = text_to_cstring(PG_GETARG_TEXT_PP(5));
	if (!PG_ARGISNULL(6))
		node->capacity = PG_GETARG_INT64(6);
	membership_check_arguments(node->name, node->host, node->port,
							   node->capacity);
	if (fa_spi_value("SELECT 1 FROM fragaffinity.node WHERE name = %s AND node <> %d",
					 quote_literal_cstr(node->name), node->id))
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("node \"%s\" already exists", node->name)));
	fa_xact_lock_cluster();
	update = psprintf("UPDATE fragaffinity.node SET name = %s, host = %s, "
					  "port = %d, dbname = %s, region = %s, "
					  "capacity = nullif(" INT64_FORMAT ", 0) WHERE node = %d",
					  quote_literal_cstr(node->name),
					  quote_literal_cstr(node->host), node->port,
					  quote_literal_cstr(node->dbname),
					  node->region ? quote_literal_cstr(node->region) : "NULL",
					  node->capacity, node->id);
	relink = psprintf("SELECT fragaffinity.relink_node(%d) WHERE %d <> "
					  "(SELECT node FROM fragaffinity.local_node)",
					  node->id, node->id);
	(void) fa_spi_exec("%s", update);
	(void) fa_spi_exec("%s", relink);
	if (!PG_ARGISNULL(2) || !PG_ARGISNULL(3) || !PG_ARGISNULL(4))
		identity = membership_identity(node);
	fa_xact_exec_all("%s; %s", update, relink);
	if (identity)
		membership_check_address(node, identity);
	PG_RETURN_VOID();
}

/*
 * remove_node(name, force): refuses while the node owns fragments.  force
 * leaves out the node itself, which may be gone for good.
 */
Datum
fa_sql_remove_node(PG_FUNCTION_ARGS)
{
	FaNode	   *node;
	bool		force = !PG_ARGISNULL(1) && PG_GETARG_BOOL(1);
	ListCell   *lc;
	int			self;

	fa_require_argument(fcinfo, 0, "name");
	membership_require_coordinator();
	self = fa_node_require_cluster();
	node = fa_node_by_name(NameStr(*PG_GETARG_NAME(0)));
	if (node->id == self)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("the coordinator cannot be removed")));
	fa_xact_lock_cluster();
	fa_table_check_forget_node(node->id);
	if (force)
		ereport(NOTICE,
				(errmsg("node \"%s\" is not told that it is removed", node->name),
				 errhint("Should it come back, call fragaffinity.leave_cluster() there.")));
	else
		fa_remote_exec(fa_xact_conn(node->id), 0,
					   "SELECT fragaffinity.leave_cluster(true)");
	foreach(lc, fa_node_list())
	{
		FaNode	   *other = lfirst(lc);

		if (other->id == node->id || other->id == self)
			continue;
		fa_remote_exec(fa_xact_conn(other->id), 0,
					   "SELECT fragaffinity.unlink_node(%d); "
					   "DELETE FROM fragaffinity.node WHERE node = %d",
					   node->id, node->id);
	}
	fa_link_drop(node->id);
	(void) fa_spi_exec("DELETE FROM fragaffinity.node WHERE node = %d",
					   node->id);
	PG_RETURN_VOID();
}
