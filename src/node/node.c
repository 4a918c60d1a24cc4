/*
 * node.c
 *	  The cluster's nodes, read from this node's catalog.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "foreign/foreign.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/uuid.h"

#include "core/settings.h"
#include "core/spi.h"
#include "node/node.h"

typedef struct LocalNode
{
	int			node;			/* 0: no row */
	int			coordinator;
	pg_uuid_t	cluster;
} LocalNode;

/*
 * The single row of local_node.  A plain scan: it is read while caches are
 * filled and in commits, where SPI would be heavy, and for any client.
 */
static void
local_node_read(LocalNode *local)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	Snapshot	snapshot;

	memset(local, 0, sizeof(*local));
	if (!fa_extension_exists())
		return;
	rel = table_open(fa_catalog_relid("local_node"), AccessShareLock);
	/* as new as GetLatestSnapshot(), and to be had in a parallel operation, too */
	snapshot = RegisterSnapshot(GetCatalogSnapshot(RelationGetRelid(rel)));
	scan = table_beginscan(rel, snapshot, 0, NULL);
	if ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		TupleDesc	desc = RelationGetDescr(rel);
		bool		isnull;

		local->node = DatumGetInt32(heap_getattr(tuple, 2, desc, &isnull));
		local->coordinator = DatumGetInt32(heap_getattr(tuple, 3, desc,
														&isnull));
		local->cluster = *DatumGetUUIDP(heap_getattr(tuple, 4, desc, &isnull));
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
}

int
fa_node_self(void)
{
	LocalNode	local;

	local_node_read(&local);
	return local.node;
}

int
fa_node_coordinator(void)
{
	LocalNode	local;

	local_node_read(&local);
	return local.coordinator;
}

char *
fa_node_cluster_prefix(void)
{
	LocalNode	local;

	local_node_read(&local);
	return psprintf("%02x%02x%02x%02x:%d", local.cluster.data[0],
					local.cluster.data[1], local.cluster.data[2],
					local.cluster.data[3], local.node);
}

/* A foreign server that was asked for. */
typedef struct Server
{
	Oid			server;			/* hash key */
	int			node;			/* 0: it is none's */
} Server;

static HTAB *servers = NULL;

static void
servers_forget(Datum arg, int cacheid, uint32 hashvalue)
{
	if (servers)
		hash_destroy(servers);
	servers = NULL;
}

int
fa_node_of_server(Oid server)
{
	static bool registered = false;
	Server	   *entry = servers ? hash_search(servers, &server, HASH_FIND, NULL) : NULL;
	HASHCTL		ctl;
	int			node;

	if (entry)
		return entry->node;
	if (!registered)
		CacheRegisterSyscacheCallback(FOREIGNSERVEROID, servers_forget, (Datum) 0);
	registered = true;
	if (sscanf(GetForeignServer(server)->servername, FA_SERVER_NAME, &node) != 1)
		node = 0;
	if (servers == NULL)
	{
		ctl.keysize = sizeof(Oid);
		ctl.entrysize = sizeof(Server);
		servers = hash_create("fragaffinity servers", 16, &ctl,
							  HASH_ELEM | HASH_BLOBS);
	}
	entry = hash_search(servers, &server, HASH_ENTER, NULL);
	entry->node = node;
	return node;
}

char *
fa_node_name(int id)
{
	Relation	rel = table_open(fa_catalog_relid("node"), AccessShareLock);
	SysScanDesc scan;
	ScanKeyData key;
	HeapTuple	tuple;
	char	   *name = NULL;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT4EQ, Int32GetDatum(id));
	scan = systable_beginscan(rel, fa_catalog_relid("node_pkey"), true, NULL,
							  1, &key);
	if (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		bool		isnull;

		name = pstrdup(NameStr(*DatumGetName(heap_getattr(tuple, 2,
														  RelationGetDescr(rel),
														  &isnull))));
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return name;
}

int
fa_node_require_cluster(void)
{
	int			self = fa_node_self();

	if (self == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this database is not a node of a cluster"),
				 errhint("Call fragaffinity.add_node() first.")));
	return self;
}

char *
fa_node_server_name(int id)
{
	return psprintf(FA_SERVER_NAME, id);
}

static List *
node_query(const char *condition)
{
	FaRows	   *rows = fa_spi_rows("SELECT node, name, host, port, dbname, "
								   "region, capacity, state "
								   "FROM fragaffinity.node %s "
								   "ORDER BY node", condition);
	List	   *nodes = NIL;

	for (int i = 0; i < rows->nrows; i++)
	{
		char	  **v = rows->value[i];
		FaNode	   *node = palloc0(sizeof(FaNode));

		node->id = atoi(v[0]);
		node->name = v[1];
		node->host = v[2];
		node->port = atoi(v[3]);
		node->dbname = v[4];
		node->region = v[5];
		node->capacity = v[6] ? strtoll(v[6], NULL, 10) : 0;
		node->draining = strcmp(v[7], "draining") == 0;
		nodes = lappend(nodes, node);
	}
	return nodes;
}

List *
fa_node_list(void)
{
	return node_query("");
}

FaNode *
fa_node_find(int id)
{
	List	   *nodes = node_query(psprintf("WHERE node = %d", id));

	return nodes ? linitial(nodes) : NULL;
}

FaNode *
fa_node_by_name(const char *name)
{
	List	   *nodes = node_query(psprintf("WHERE name = %s",
											quote_literal_cstr(name)));

	if (nodes == NIL)
	{
		char	   *known = fa_spi_value("SELECT string_agg(quote_ident(name), ', ' ORDER BY node) "
										 "FROM fragaffinity.node");

		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("node \"%s\" does not exist", name),
				 known ? errhint("The cluster has these nodes: %s.", known) :
				 errhint("Add nodes with fragaffinity.add_node().")));
	}
	return linitial(nodes);
}
