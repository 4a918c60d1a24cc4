/*
 * node.c
 *	  The cluster's nodes, read from this node's catalog.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "core/settings.h"
#include "core/spi.h"
#include "node/node.h"

/*
 * Reads one integer column of the single row of local_node; 0 without a row.
 * A plain scan: it is called while caches are filled, where SPI would be
 * heavy.
 */
static int
local_node_column(AttrNumber attno)
{
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;
	Snapshot	snapshot;
	int			value = 0;

	if (!fa_extension_exists())
		return 0;
	rel = table_open(fa_catalog_relid("local_node"), AccessShareLock);
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	scan = table_beginscan(rel, snapshot, 0, NULL);
	if ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		bool		isnull;

		value = DatumGetInt32(heap_getattr(tuple, attno,
										   RelationGetDescr(rel), &isnull));
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	table_close(rel, AccessShareLock);
	return value;
}

int
fa_node_self(void)
{
	return local_node_column(2);
}

int
fa_node_coordinator(void)
{
	return local_node_column(3);
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
	return psprintf("fragaffinity_%d", id);
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
