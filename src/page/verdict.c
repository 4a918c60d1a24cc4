/*
 * verdict.c
 *	  Verdicts on transactions, noted and looked up; see verdict.h.
 */
#include "postgres.h"

#include "page/verdict.h"

/* Where an id is, or belongs. */
static int
list_find(const FaVerdictList *list, uint32 id)
{
	int			from = 0;
	int			to = list->n;

	while (from < to)
	{
		int			middle = (from + to) / 2;

		if (list->item[middle].id < id)
			from = middle + 1;
		else
			to = middle;
	}
	return from;
}

static bool
list_has(const FaVerdictList *list, int at, uint32 id)
{
	return at < list->n && list->item[at].id == id;
}

static void
list_note(FaVerdictList *list, int at, uint32 id, uint32 answer)
{
	/* the caller has seen to it by fa_verdicts_room() */
	Assert(list->n < FA_FRAME_VERDICTS);
	memmove(&list->item[at + 1], &list->item[at],
			(list->n - at) * sizeof(list->item[0]));
	list->item[at] = (FaFrameVerdict) {.id = id, .answer = answer};
	list->n++;
}

static FaXidState
verdicts_state(FaXidJudge *judge, TransactionId xid)
{
	FaVerdicts *verdicts = (FaVerdicts *) judge;
	int			at = list_find(&verdicts->xids, xid);
	FaXidState	state;

	if (list_has(&verdicts->xids, at, xid))
		return verdicts->xids.item[at].answer;
	if (verdicts->source == NULL)
	{
		verdicts->missing = true;
		return FA_XID_PENDING;
	}
	state = verdicts->source->state(verdicts->source, xid);
	if (state != FA_XID_PENDING)
		list_note(&verdicts->xids, at, xid, state);
	return state;
}

static TransactionId
verdicts_updater(FaXidJudge *judge, TransactionId multi)
{
	FaVerdicts *verdicts = (FaVerdicts *) judge;
	int			at = list_find(&verdicts->multis, multi);
	TransactionId updater;

	if (list_has(&verdicts->multis, at, multi))
		return verdicts->multis.item[at].answer;
	if (verdicts->source == NULL)
	{
		verdicts->missing = true;
		return InvalidTransactionId;
	}
	updater = verdicts->source->updater(verdicts->source, multi);
	list_note(&verdicts->multis, at, multi, updater);
	return updater;
}

void
fa_verdicts_init(FaVerdicts *verdicts, FaXidJudge *source)
{
	verdicts->judge.state = verdicts_state;
	verdicts->judge.updater = verdicts_updater;
	verdicts->source = source;
	verdicts->missing = false;
	verdicts->xids.n = verdicts->multis.n = 0;
}

bool
fa_verdicts_room(const FaVerdicts *verdicts)
{
	/* a row names who inserted it and who updated it, once at most each */
	return verdicts->xids.n + 2 * MaxHeapTuplesPerPage <= FA_FRAME_VERDICTS &&
		verdicts->multis.n + MaxHeapTuplesPerPage <= FA_FRAME_VERDICTS;
}

size_t
fa_verdicts_put(const FaVerdicts *verdicts, char *buf, FaFrameHeader *header)
{
	size_t		len = 0;

	for (int i = 0; i < verdicts->xids.n; i++)
		len += fa_frame_put_verdict(buf + len, &verdicts->xids.item[i]);
	for (int i = 0; i < verdicts->multis.n; i++)
		len += fa_frame_put_verdict(buf + len, &verdicts->multis.item[i]);
	header->xids = verdicts->xids.n;
	header->multis = verdicts->multis.n;
	return len;
}

static const char *
list_get(FaVerdictList *list, int n, FaFrameReader *reader)
{
	const char *why;

	for (list->n = 0; list->n < n; list->n++)
	{
		FaFrameVerdict *item = &list->item[list->n];

		why = fa_frame_get_verdict(reader, item);
		if (why)
			return why;
		if (list->n > 0 && item->id <= item[-1].id)
			return "verdicts are out of their order";
	}
	return NULL;
}

const char *
fa_verdicts_get(FaVerdicts *verdicts, FaFrameReader *reader,
				const FaFrameHeader *header)
{
	const char *why = list_get(&verdicts->xids, header->xids, reader);

	if (why == NULL)
		why = list_get(&verdicts->multis, header->multis, reader);
	for (int i = 0; i < verdicts->xids.n && why == NULL; i++)
	{
		if (verdicts->xids.item[i].answer > FA_XID_ABORTED)
			why = "verdict on a transaction is none";
	}
	return why;
}
