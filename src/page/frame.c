/*
 * frame.c
 *	  Frames of pages; see frame.h.
 */
#include "postgres.h"

#include "port/pg_bswap.h"
#include "port/pg_crc32c.h"
#include "storage/bufpage.h"

#include "page/frame.h"

static char *
put16(char *p, uint16 value)
{
	value = pg_hton16(value);
	memcpy(p, &value, sizeof(value));
	return p + sizeof(value);
}

static char *
put32(char *p, uint32 value)
{
	value = pg_hton32(value);
	memcpy(p, &value, sizeof(value));
	return p + sizeof(value);
}

static char *
put64(char *p, uint64 value)
{
	value = pg_hton64(value);
	memcpy(p, &value, sizeof(value));
	return p + sizeof(value);
}

static uint16
get16(FaFrameReader *reader)
{
	uint16		value;

	memcpy(&value, reader->next, sizeof(value));
	reader->next += sizeof(value);
	return pg_ntoh16(value);
}

static uint32
get32(FaFrameReader *reader)
{
	uint32		value;

	memcpy(&value, reader->next, sizeof(value));
	reader->next += sizeof(value);
	return pg_ntoh32(value);
}

static uint64
get64(FaFrameReader *reader)
{
	uint64		value;

	memcpy(&value, reader->next, sizeof(value));
	reader->next += sizeof(value);
	return pg_ntoh64(value);
}

static pg_crc32c
crc_of(const char *data, size_t before, const char *rest, size_t after)
{
	pg_crc32c	crc;

	INIT_CRC32C(crc);
	COMP_CRC32C(crc, data, before);
	COMP_CRC32C(crc, rest, after);
	FIN_CRC32C(crc);
	return crc;
}

size_t
fa_frame_put_header(char *buf, const FaFrameHeader *header)
{
	char	   *p = buf;

	p = put32(p, FA_FRAME_MAGIC);
	p = put16(p, FA_FRAME_VERSION);
	p = put16(p, header->kind);
	p = put64(p, header->move);
	p = put32(p, header->round);
	p = put32(p, header->number);
	p = put16(p, header->relation);
	p = put16(p, header->entries);
	p = put32(p, header->nblocks);
	p = put16(p, header->xids);
	p = put16(p, header->multis);
	Assert(p - buf == FA_FRAME_HEADER);
	return p - buf;
}

size_t
fa_frame_put_raw(char *buf, BlockNumber block, const char *page,
				 bool has_hole, FaFrameRaw *raw_p)
{
	const PageHeaderData *header = (const PageHeaderData *) page;
	size_t		lower = header->pd_lower;
	size_t		upper = header->pd_upper;
	char	   *p = buf;

	if (upper == 0)
		upper = BLCKSZ;			/* a page never used: lower is 0, too */
	else if (!has_hole || lower < SizeOfPageHeaderData || lower > upper || upper > BLCKSZ)
		lower = upper = BLCKSZ; /* no hole */
	raw_p->block = block;
	raw_p->crc = crc_of(page, lower, page + upper, BLCKSZ - upper);
	raw_p->lower = lower;
	raw_p->upper = upper;
	p = put32(p, block);
	p = put32(p, raw_p->crc);
	p = put16(p, lower);
	p = put16(p, upper);
	return p - buf;
}

size_t
fa_frame_put_page(char *buf, BlockNumber block, const char *page,
				  bool has_hole)
{
	FaFrameRaw	raw;
	char	   *p = buf;

	p += fa_frame_put_raw(buf, block, page, has_hole, &raw);
	memcpy(p, page, raw.lower);
	p += raw.lower;
	memcpy(p, page + raw.upper, BLCKSZ - raw.upper);
	return p + BLCKSZ - raw.upper - buf;
}

size_t
fa_frame_put_verdict(char *buf, const FaFrameVerdict *verdict)
{
	put32(put32(buf, verdict->id), verdict->answer);
	return FA_FRAME_VERDICT;
}

size_t
fa_frame_put_relation(char *buf, BlockNumber nblocks, uint32 left)
{
	put32(put32(buf, nblocks), left);
	return FA_FRAME_RELATION;
}

const char *
fa_frame_open(FaFrameReader *reader, const char *data, size_t len,
			  FaFrameHeader *header_p)
{
	FaFrameHeader header;
	uint16		kind;

	if (len < FA_FRAME_HEADER)
		return "frame is shorter than its header";
	reader->next = data;
	reader->end = data + len;
	if (get32(reader) != FA_FRAME_MAGIC)
		return "not a frame of pages";
	if (get16(reader) != FA_FRAME_VERSION)
		return "frame has another version";
	kind = get16(reader);
	if (kind != FA_FRAME_PAGES_KIND && kind != FA_FRAME_END_KIND &&
		kind != FA_FRAME_RAW_KIND)
		return "frame is of an unknown kind";
	header.kind = kind;
	header.move = get64(reader);
	header.round = get32(reader);
	header.number = get32(reader);
	header.relation = get16(reader);
	header.entries = get16(reader);
	header.nblocks = get32(reader);
	header.xids = get16(reader);
	header.multis = get16(reader);
	if (header.kind == FA_FRAME_RAW_KIND ?
		header.xids > FA_FRAME_VERDICTS || header.multis > FA_FRAME_VERDICTS :
		header.xids != 0 || header.multis != 0)
		return "frame has a wrong number of verdicts";
	if (header.kind != FA_FRAME_END_KIND &&
		(header.entries == 0 || header.entries > FA_FRAME_PAGES))
		return "frame has a wrong number of pages";
	*header_p = header;
	return NULL;
}

const char *
fa_frame_get_raw(FaFrameReader *reader, FaFrameRaw *raw_p)
{
	FaFrameRaw	raw;

	if (reader->end - reader->next < FA_FRAME_PAGE)
		return "frame is cut off before a page";
	raw.block = get32(reader);
	raw.crc = get32(reader);
	raw.lower = get16(reader);
	raw.upper = get16(reader);
	if (raw.lower > raw.upper || raw.upper > BLCKSZ)
		return "hole of a page is out of its bounds";
	*raw_p = raw;
	return NULL;
}

const char *
fa_frame_get_verdict(FaFrameReader *reader, FaFrameVerdict *verdict_p)
{
	if (reader->end - reader->next < FA_FRAME_VERDICT)
		return "frame is cut off before a verdict";
	verdict_p->id = get32(reader);
	verdict_p->answer = get32(reader);
	return NULL;
}

const char *
fa_frame_get_bytes(FaFrameReader *reader, const FaFrameRaw *raw, char *page,
				   bool *torn_p)
{
	size_t		after = BLCKSZ - raw->upper;

	if (reader->end - reader->next < (ptrdiff_t) (raw->lower + after))
		return "frame is cut off in a page";
	memcpy(page, reader->next, raw->lower);
	memset(page + raw->lower, 0, raw->upper - raw->lower);
	memcpy(page + raw->upper, reader->next + raw->lower, after);
	reader->next += raw->lower + after;
	*torn_p = crc_of(page, raw->lower, page + raw->upper, after) != raw->crc;
	return NULL;
}

const char *
fa_frame_get_page(FaFrameReader *reader, BlockNumber *block_p, char *page)
{
	FaFrameRaw	raw;
	bool		torn = false;
	const char *why = fa_frame_get_raw(reader, &raw);

	if (why == NULL)
		why = fa_frame_get_bytes(reader, &raw, page, &torn);
	if (why == NULL && torn)
		why = "checksum of a page is wrong";
	if (why == NULL)
		*block_p = raw.block;
	return why;
}

const char *
fa_frame_get_relation(FaFrameReader *reader, BlockNumber *nblocks_p,
					  uint32 *left_p)
{
	if (reader->end - reader->next < FA_FRAME_RELATION)
		return "frame is cut off before a relation";
	*nblocks_p = get32(reader);
	*left_p = get32(reader);
	return NULL;
}

const char *
fa_frame_close(const FaFrameReader *reader)
{
	return reader->next == reader->end ? NULL :
		"frame is longer than its entries";
}
