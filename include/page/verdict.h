/*
 * verdict.h
 *	  How transactions that a raw page names have ended, for who cannot know.
 *
 * The source of a raw page asks its own judge and notes the answers; they go
 * with the page, and the destination settles the page by them.  Plain C on
 * memory: nothing here raises or logs, but what the source's judge does.
 */
#ifndef FA_PAGE_VERDICT_H
#define FA_PAGE_VERDICT_H

#include "page/frame.h"
#include "page/image.h"

/* Answers about one kind of id, ascending. */
typedef struct FaVerdictList
{
	int			n;
	FaFrameVerdict item[FA_FRAME_VERDICTS];
} FaVerdictList;

typedef struct FaVerdicts
{
	FaXidJudge	judge;			/* first: the callbacks get it */
	FaXidJudge *source;			/* who knows; NULL at the destination */
	bool		missing;		/* at the destination: there was no answer */
	FaVerdictList xids;			/* answer: FaXidState */
	FaVerdictList multis;		/* answer: who updated, or invalid */
} FaVerdicts;

/* in verdict.c */

/*
 * Empty.  With a source, the judge asks it and notes what it says, but for
 * transactions that are pending; without, it says what was noted, and has
 * "missing" when it was asked for more.
 */
extern void fa_verdicts_init(FaVerdicts *verdicts, FaXidJudge *source);

/* Is there room for what another page may name? */
extern bool fa_verdicts_room(const FaVerdicts *verdicts);

/* Into a frame, with their numbers in its header; bytes written. */
extern size_t fa_verdicts_put(const FaVerdicts *verdicts, char *buf,
							  FaFrameHeader *header);
/* From a frame; NULL, or what is wrong with it. */
extern const char *fa_verdicts_get(FaVerdicts *verdicts,
								   FaFrameReader *reader,
								   const FaFrameHeader *header);

#endif							/* FA_PAGE_VERDICT_H */
