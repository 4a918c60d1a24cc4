/*
 * frame.h
 *	  Pages on the wire: frames of whole blocks, each with its CRC32C.
 *
 *	header	magic, version, kind, move, round, number within the round,
 *			relation, entries, blocks of the relation, verdicts
 *	pages	an entry for each page: block, CRC32C of its bytes, the hole (none
 *			of whose bytes are sent), then the bytes.  A hole of a whole
 *			block is a page of zeros.
 *	raw		pages straight from the source's buffers: an entry as above for each,
 *			without the bytes; then verdicts on the transactions that they name
 *			(verdict.h); then the bytes of all pages.  A page may have changed
 *			while it was sent: then its CRC does not fit, and it is to be sent
 *			again
 *	end		last of a round: an entry for each relation: blocks, and how many
 *			of them are still to come
 *
 * Integers are big-endian; the bytes of a page are the server's own, so both
 * sides must agree on their layout (page/layout.c).  FA_FRAME_VERSION changes
 * with any of this.  Plain C on memory: nothing here raises or logs.
 */
#ifndef FA_PAGE_FRAME_H
#define FA_PAGE_FRAME_H

#include "access/htup_details.h"
#include "storage/block.h"

#define FA_FRAME_MAGIC		0x46415047
#define FA_FRAME_VERSION	2
#define FA_FRAME_PAGES		32	/* most in one frame; one WAL record's worth */
#define FA_FRAME_HEADER		36	/* bytes */
#define FA_FRAME_PAGE		12	/* bytes before those of a page */
#define FA_FRAME_RELATION	8	/* bytes of an entry of an end frame */
#define FA_FRAME_VERDICT	8	/* bytes of a verdict */
#define FA_FRAME_VERDICTS	(4 * MaxHeapTuplesPerPage)	/* most of a kind */

/* Most bytes of a frame in a copy of so many relations. */
#define fa_frame_max(nrelations) \
	(FA_FRAME_HEADER + \
	 Max(FA_FRAME_PAGES * (FA_FRAME_PAGE + BLCKSZ) + \
		 2 * FA_FRAME_VERDICTS * FA_FRAME_VERDICT, \
		 (nrelations) * FA_FRAME_RELATION))

typedef enum FaFrameKind
{
	FA_FRAME_PAGES_KIND = 1,
	FA_FRAME_END_KIND,
	FA_FRAME_RAW_KIND
} FaFrameKind;

typedef struct FaFrameHeader
{
	FaFrameKind kind;
	int64		move;
	uint32		round;
	uint32		number;			/* of the frame within its round, from 0 */
	uint16		relation;		/* of a page frame; of an end frame: complete? */
	uint16		entries;
	BlockNumber nblocks;		/* of the relation; of an end frame 0 */
	uint16		xids;			/* of a raw frame: verdicts on them, */
	uint16		multis;			/* and on multixacts */
} FaFrameHeader;

/* Entry of a raw frame. */
typedef struct FaFrameRaw
{
	BlockNumber block;
	uint32		crc;
	uint16		lower;			/* the hole, of no bytes when there is none */
	uint16		upper;
} FaFrameRaw;

typedef struct FaFrameVerdict
{
	uint32		id;
	uint32		answer;
} FaFrameVerdict;

typedef struct FaFrameReader
{
	const char *next;
	const char *end;
} FaFrameReader;

/* in frame.c */

/* Write at buf, which has room for it; return the bytes written. */
extern size_t fa_frame_put_header(char *buf, const FaFrameHeader *header);
extern size_t fa_frame_put_page(char *buf, BlockNumber block,
								const char *page, bool has_hole);
/* The entry only; where the bytes are, that the caller sends: *raw_p */
extern size_t fa_frame_put_raw(char *buf, BlockNumber block,
							   const char *page, bool has_hole,
							   FaFrameRaw *raw_p);
extern size_t fa_frame_put_verdict(char *buf, const FaFrameVerdict *verdict);
extern size_t fa_frame_put_relation(char *buf, BlockNumber nblocks,
									uint32 left);

/*
 * Read what a peer sent; NULL when it is good, else what is wrong with it.
 * Outputs are set only then.
 */
extern const char *fa_frame_open(FaFrameReader *reader, const char *data,
								 size_t len, FaFrameHeader *header_p);
/* Into a block's memory, hole zeroed. */
extern const char *fa_frame_get_page(FaFrameReader *reader,
									 BlockNumber *block_p, char *page);
extern const char *fa_frame_get_relation(FaFrameReader *reader,
										 BlockNumber *nblocks_p,
										 uint32 *left_p);
extern const char *fa_frame_get_raw(FaFrameReader *reader,
									FaFrameRaw *raw_p);
extern const char *fa_frame_get_verdict(FaFrameReader *reader,
										FaFrameVerdict *verdict_p);
/*
 * The bytes that belong to an entry, into a block's memory, hole zeroed; it is
 * the copy that is checked.  *torn_p: it is not what the entry is about.
 */
extern const char *fa_frame_get_bytes(FaFrameReader *reader,
									  const FaFrameRaw *raw, char *page,
									  bool *torn_p);
/* Nothing may follow the last entry. */
extern const char *fa_frame_close(const FaFrameReader *reader);

#endif							/* FA_PAGE_FRAME_H */
