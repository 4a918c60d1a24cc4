/*
 * check.c
 *	  Does a transport work between this node and a peer, and how fast?
 *
 * check_transports() opens a channel of each kind and has the peer send
 * messages over it, long ones and short ones, each of which is compared with
 * what it must be.  What a move needs of a transport is all used here, so this
 * is also what tests hold every transport to.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "core/args.h"
#include "core/shmem.h"
#include "node/node.h"
#include "transport/transport.h"

#define ANSWER_MS		30000
#define NUMBER_BYTES	8		/* a message begins with its number */
#define SHORT_EVERY		8		/* every so many is short */
#define MAX_SIZE		(16 * 1024 * 1024)

PG_FUNCTION_INFO_V1(fa_sql_check_transports);
PG_FUNCTION_INFO_V1(fa_sql_send_test_messages);

typedef struct Check
{
	uint64		number;			/* of messages that came */
	uint64		bytes;
	Size		size;
} Check;

/* How long message number n is. */
static Size
check_length(uint64 n, Size size)
{
	return n % SHORT_EVERY != 0 ? size :
		NUMBER_BYTES + (n / SHORT_EVERY * 37) % (size - NUMBER_BYTES + 1);
}

static Size
check_fill(char *message, uint64 n, Size size)
{
	Size		len = check_length(n, size);
	uint64		number = pg_hton64(n);

	memcpy(message, &number, NUMBER_BYTES);
	memset(message + NUMBER_BYTES, (int) (n & 0xff), len - NUMBER_BYTES);
	return len;
}

static bool
check_is(const char *message, Size len, uint64 n, Size size)
{
	const char *rest = message + NUMBER_BYTES;
	uint64		number = pg_hton64(n);

	if (len != check_length(n, size) ||
		memcmp(message, &number, NUMBER_BYTES) != 0)
		return false;
	len -= NUMBER_BYTES;
	/* all bytes are the first, and that is right */
	return len == 0 || (*rest == (char) (n & 0xff) &&
						memcmp(rest, rest + 1, len - 1) == 0);
}

static void
check_message(void *arg, const char *data, Size len)
{
	Check	   *check = arg;

	check->number++;
	check->bytes += len;
	if (!check_is(data, len, check->number, check->size))
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("message " UINT64_FORMAT " is not what was sent",
						check->number)));
}

static void
check_size(int messages, int size)
{
	if (messages < 1 || size < NUMBER_BYTES || size > MAX_SIZE)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("number or size of messages is out of range"),
				 errhint("Send at least one message, of %d to %d bytes.",
						 NUMBER_BYTES, MAX_SIZE)));
}

/*
 * send_test_messages(messages, size): sends them over the session's transport
 */
Datum
fa_sql_send_test_messages(PG_FUNCTION_ARGS)
{
	FuncCallContext *funcctx;
	FaChannel  *channel = fa_channel_of_session();
	int			size = PG_GETARG_INT32(1);
	void	   *row = NULL;

	if (SRF_IS_FIRSTCALL())
	{
		funcctx = SRF_FIRSTCALL_INIT();
		check_size(PG_GETARG_INT32(0), size);
		if (channel->max_message < size)
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("messages do not fit into this session's transport")));
		funcctx->max_calls = PG_GETARG_INT32(0);
	}
	funcctx = SRF_PERCALL_SETUP();
	while (row == NULL && funcctx->call_cntr < funcctx->max_calls)
	{
		char	   *message = fa_channel_reserve(channel, 0);
		uint64		n = ++funcctx->call_cntr;

		CHECK_FOR_INTERRUPTS();
		fa_channel_post(channel, message, check_fill(message, n, size));
		row = channel->row;
		channel->row = NULL;
	}
	if (row == NULL)
		SRF_RETURN_DONE(funcctx);
	/* which counts it, as the loop has done */
	funcctx->call_cntr--;
	SRF_RETURN_NEXT(funcctx, PointerGetDatum(row));
}

/* Sends over a channel; MB a second. */
static double
check_run(FaChannel *channel, int messages, int size)
{
	Check		check = {.size = size};
	char	   *sql = psprintf("SELECT fragaffinity.send_test_messages(%d, %d)",
							   messages, size);
	TimestampTz begun = GetCurrentTimestamp();

	if (channel->ops->capabilities & FA_TRANSPORT_ROWS)
		sql = psprintf("COPY (%s) TO STDOUT (FORMAT binary)", sql);
	fa_channel_call(channel, ANSWER_MS, sql, check_message, &check);
	if (check.number != messages)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg(UINT64_FORMAT " of %d messages came", check.number,
						messages)));
	return check.bytes / 1e6 /
		(Max(1, GetCurrentTimestamp() - begun) / (double) USECS_PER_SEC);
}

/* A row of check_transports(). */
static void
check_transport(ReturnSetInfo *rsinfo, int node, const char *name,
				int messages, int size)
{
	MemoryContext context = AllocSetContextCreate(CurrentMemoryContext,
												  "fragaffinity transport",
												  ALLOCSET_DEFAULT_SIZES);
	MemoryContext old = MemoryContextSwitchTo(context);
	FaConn	   *conn = fa_remote_connect(node, FA_CONNECT_TIMEOUT_MS);
	char	   *why;
	FaChannel  *channel = fa_channel_negotiate(conn, name, size, &why);
	Datum		values[4] = {CStringGetTextDatum(name), BoolGetDatum(channel != NULL)};
	bool		nulls[4] = {false, false, channel != NULL, channel == NULL};

	if (channel)
		values[3] = Float8GetDatum(check_run(channel, messages, size));
	else
		values[2] = CStringGetTextDatum(why);
	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	fa_channel_close(channel);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(context);
}

/*
 * check_transports(node, messages, size, transport, OUT name, OUT usable,
 * OUT reason, OUT mb_per_second); transport "all": of this build
 */
Datum
fa_sql_check_transports(PG_FUNCTION_ARGS)
{
	static const char *const arguments[] = {
		"node", "messages", "size", "transport"
	};
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			messages;
	int			size;
	char	   *wanted;
	bool		all;
	int			node;

	fa_shmem_require();
	for (int i = 0; i < lengthof(arguments); i++)
		fa_require_argument(fcinfo, i, arguments[i]);
	messages = PG_GETARG_INT32(1);
	size = PG_GETARG_INT32(2);
	wanted = text_to_cstring(PG_GETARG_TEXT_PP(3));
	all = strcmp(wanted, "all") == 0;
	(void) fa_node_require_cluster();
	node = fa_node_by_name(NameStr(*PG_GETARG_NAME(0)))->id;
	if (node == fa_node_self())
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("node \"%s\" is this node", fa_node_name(node)),
				 errhint("Name the node that messages are to come from.")));
	check_size(messages, size);
	InitMaterializedSRF(fcinfo, 0);
	if (!all && fa_transport_find(wanted) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no transport \"%s\" in this build", wanted),
				 errhint("\"all\" checks those that there are.")));
	for (int i = 0; fa_transport_at(i); i++)
	{
		const char *name = fa_transport_at(i)->name;

		if (all || strcmp(name, wanted) == 0)
			check_transport(rsinfo, node, name, messages, size);
	}
	return (Datum) 0;
}
