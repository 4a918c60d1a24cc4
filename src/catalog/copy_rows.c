/*
 * copy_rows.c
 *	  Rows of a table to the nodes that own its fragments, and back.
 *
 * The relations on the peers are not committed yet when rows go there, and
 * locked when rows come back, so postgres_fdw's connection could not do it:
 * rows travel by COPY on the connections of the cluster transaction.
 *
 *	spread	one pass over the old table feeds one COPY for each remote owner;
 *			this node's rows take INSERT ... SELECT
 *	gather	one COPY for each remote fragment, read by COPY FROM here
 *
 * What the table's owner has written (CHECK, generated columns, domains) runs
 * as the owner, not as whoever distributes.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "commands/copy.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "parser/parse_relation.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/wait_event.h"

#include "catalog/table_ddl.h"
#include "catalog/table_move.h"
#include "catalog/table_text.h"
#include "core/spi.h"
#include "node/cluster_xact.h"
#include "node/node.h"
#include "node/row_stream.h"

#define FETCH_ROWS 500

static void
wait_socket(FaConn *conn, int events)
{
	int			rc = WaitLatchOrSocket(MyLatch,
									   WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | events,
									   PQsocket(conn->pg), -1, PG_WAIT_EXTENSION);

	if (rc & WL_LATCH_SET)
	{
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	/* The peer may have an error to tell, or wait until it can tell it. */
	if ((rc & WL_SOCKET_READABLE) && !PQconsumeInput(conn->pg))
		fa_remote_raise(conn, NULL, "COPY");
}

static void
stream_drain_results(FaConn *conn, const char *sql)
{
	PGresult   *res;

	while ((res = fa_remote_get_result(conn, 0)) != NULL)
	{
		if (PQresultStatus(res) != PGRES_COMMAND_OK)
			fa_remote_raise(conn, res, sql);
		PQclear(res);
	}
}

/* Starts COPY on a peer; the state that libpq must then be in. */
static void
copy_begin(FaConn *conn, const char *sql, ExecStatusType wanted)
{
	PGresult   *res;

	if (!PQsendQuery(conn->pg, sql))
		fa_remote_raise(conn, NULL, sql);
	res = fa_remote_get_result(conn, 0);
	if (PQresultStatus(res) != wanted)
		fa_remote_raise(conn, res, sql);
	PQclear(res);
}

static FaRowStream *
stream_open(int node, Oid partition, Oid role)
{
	return fa_row_stream_open(fa_xact_conn(node),
							  psprintf("SET LOCAL client_min_messages = error; "
									   "SET LOCAL fragaffinity.run_as = %s; COPY %s (%s) FROM STDIN",
									   quote_literal_cstr(GetUserNameFromId(role, false)),
									   fa_table_qualified_name(partition),
									   fa_text_column_names(partition)));
}

/* A row whose first column says where to; by node id in streams[]. */
static void
send_row(HeapTuple tuple, TupleDesc desc, FmgrInfo *output,
		 FaRowStream **streams)
{
	bool		isnull;
	int			node = DatumGetInt32(SPI_getbinval(tuple, desc, 1, &isnull));
	FaRowStream *stream = streams[node];

	for (int i = 1; i < desc->natts; i++)
	{
		Datum		value = SPI_getbinval(tuple, desc, i + 1, &isnull);

		fa_row_stream_value(stream, isnull ? NULL :
							OutputFunctionCall(&output[i], value), i == 1);
	}
	fa_row_stream_end_row(stream);
}

/* Read by the owner, whose code the planner may run. */
static void
send_rows(Oid reader, const char *sql, FaRowStream **streams)
{
	FaDdlState	state;
	SPIPlanPtr	plan;
	Portal		portal;
	FmgrInfo   *output = NULL;
	MemoryContext row_context = AllocSetContextCreate(CurrentMemoryContext,
													  "fragaffinity rows",
													  ALLOCSET_DEFAULT_SIZES);

	SPI_connect();
	plan = SPI_prepare_cursor(sql, 0, NULL, CURSOR_OPT_NO_SCROLL);
	if (plan == NULL)
		elog(ERROR, "could not prepare \"%s\"", sql);
	fa_ddl_become(reader, &state);
	portal = SPI_cursor_open(NULL, plan, NULL, NULL, false);
	fa_ddl_become_ourselves(&state);
	for (;;)
	{
		TupleDesc	desc;

		fa_ddl_become(reader, &state);
		SPI_cursor_fetch(portal, true, FETCH_ROWS);
		fa_ddl_become_ourselves(&state);
		if (SPI_processed == 0)
			break;
		desc = SPI_tuptable->tupdesc;
		if (output == NULL)
		{
			output = palloc0(sizeof(FmgrInfo) * desc->natts);
			for (int i = 1; i < desc->natts; i++)
			{
				Oid			function;
				bool		varlena;

				getTypeOutputInfo(TupleDescAttr(desc, i)->atttypid, &function,
								  &varlena);
				fmgr_info(function, &output[i]);
			}
		}
		for (uint64 i = 0; i < SPI_processed; i++)
		{
			MemoryContext old = MemoryContextSwitchTo(row_context);

			send_row(SPI_tuptable->vals[i], desc, output, streams);
			MemoryContextSwitchTo(old);
			MemoryContextReset(row_context);
		}
		SPI_freetuptable(SPI_tuptable);
		CHECK_FOR_INTERRUPTS();
	}
	SPI_cursor_close(portal);
	SPI_finish();
	MemoryContextDelete(row_context);
}

void
fa_rows_spread(Oid old, Oid partition, const char *key, const int *owners,
			   int nowners)
{
	int			self = fa_node_self();
	Oid			role = fa_ddl_owner(partition);
	char	   *columns = fa_text_column_names(partition);
	FaRowStream **streams = palloc0(sizeof(FaRowStream *) * 1024);
	StringInfoData owner;
	bool		local = false;
	bool		remote = false;

	initStringInfo(&owner);
	appendStringInfoString(&owner, "('{");
	for (int i = 0; i < nowners; i++)
	{
		appendStringInfo(&owner, "%s%d", i ? "," : "", owners[i]);
		if (owners[i] == self)
			local = true;
		else
			remote = true;
	}
	appendStringInfo(&owner, "}'::integer[])[1 + fragaffinity.bucket_of(%u::regclass, %s)]",
					 partition, quote_identifier(key));

	if (local)
		fa_ddl_write(partition,
					 psprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE "
							  "SELECT %s FROM ONLY %s WHERE %s = %d",
							  fa_table_qualified_name(partition), columns,
							  columns, fa_table_qualified_name(old), owner.data,
							  self));
	if (!remote)
		return;
	for (int i = 0; i < nowners; i++)
		if (owners[i] != self && streams[owners[i]] == NULL)
			streams[owners[i]] = stream_open(owners[i], partition, role);
	send_rows(role,
			  psprintf("SELECT %s, %s FROM ONLY %s WHERE %s <> %d", owner.data,
					   columns, fa_table_qualified_name(old), owner.data, self),
			  streams);
	for (int i = 0; i < 1024; i++)
		if (streams[i])
			fa_row_stream_finish(streams[i]);
	for (int i = 0; i < 1024; i++)
	{
		if (streams[i] == NULL)
			continue;
		(void) fa_row_stream_close(streams[i]);
		fa_remote_exec(fa_xact_conn(i), 0, "SET LOCAL fragaffinity.run_as = ''");
	}
}

/* The COPY that copy_source() reads from; there is one at a time. */
static FaConn *source_conn = NULL;
static StringInfoData source_buf;

/* Fills outbuf for COPY FROM; 0 at the end.  Rows arrive whole. */
static int
copy_source(void *outbuf, int minread, int maxread)
{
	int			got = 0;

	while (got < minread)
	{
		int			avail = source_buf.len - source_buf.cursor;
		char	   *row;
		int			len;

		if (avail > 0)
		{
			avail = Min(avail, maxread - got);
			memcpy((char *) outbuf + got, source_buf.data + source_buf.cursor,
				   avail);
			source_buf.cursor += avail;
			got += avail;
			continue;
		}
		len = PQgetCopyData(source_conn->pg, &row, true);
		if (len > 0)
		{
			resetStringInfo(&source_buf);
			appendBinaryStringInfo(&source_buf, row, len);
			PQfreemem(row);
		}
		else if (len == 0)
			wait_socket(source_conn, WL_SOCKET_READABLE);
		else if (len == -1)
			break;
		else
			fa_remote_raise(source_conn, NULL, "COPY");
	}
	return got;
}

static void
gather_remote(Oid target, int owner, const char *bucket_name)
{
	FaConn	   *conn = fa_xact_conn(owner);
	/* its only leaf, as COPY of a table is not planned: no code of the owner runs */
	char	   *leaf = fa_remote_value(conn, 0,
									   "SELECT inhrelid::pg_catalog.regclass FROM pg_catalog.pg_inherits "
									   "WHERE inhparent = %s::pg_catalog.regclass",
									   quote_literal_cstr(bucket_name));
	char	   *sql = psprintf("COPY %s (%s) TO STDOUT", leaf,
							   fa_text_column_names(target));
	ParseState *pstate = make_parsestate(NULL);
	Relation	rel = table_open(target, RowExclusiveLock);
	List	   *columns = NIL;
	CopyFromState state;
	FaDdlState	ourselves;

	for (int i = 0; i < RelationGetNumberOfAttributes(rel); i++)
	{
		Form_pg_attribute att = TupleDescAttr(RelationGetDescr(rel), i);

		if (!att->attisdropped && att->attgenerated == '\0')
			columns = lappend(columns, makeString(pstrdup(NameStr(att->attname))));
	}
	copy_begin(conn, sql, PGRES_COPY_OUT);
	source_conn = conn;
	initStringInfo(&source_buf);
	(void) addRangeTableEntryForRelation(pstate, rel, RowExclusiveLock, NULL,
										 false, false);
	fa_ddl_become(rel->rd_rel->relowner, &ourselves);
	state = BeginCopyFrom(pstate, rel, NULL, NULL, false, copy_source, columns,
						  NIL);
	(void) CopyFrom(state);
	fa_ddl_become_ourselves(&ourselves);
	EndCopyFrom(state);
	table_close(rel, NoLock);
	CommandCounterIncrement();
	stream_drain_results(conn, sql);
}

void
fa_rows_gather(Oid target, Oid bucket, int owner, const char *bucket_name)
{
	char	   *columns = fa_text_column_names(target);

	if (owner != fa_node_self())
		gather_remote(target, owner, bucket_name);
	else
		fa_ddl_write(target,
					 psprintf("INSERT INTO %s (%s) OVERRIDING SYSTEM VALUE "
							  "SELECT %s FROM %s",
							  fa_table_qualified_name(target), columns, columns,
							  fa_table_qualified_name(bucket)));
}
