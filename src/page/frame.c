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
	p = put32(p, 0);			/* reserved */
	Assert(p - buf == FA_FRAME_HEADER);
	return p - buf;
}

size_t
fa_frame_put_page(char *buf, BlockNumber block, const char *page,
				  bool has_hole)
{
	const PageHeaderData *header = (const PageHeaderData *) page;
	size_t		lower = header->pd_lower;
	size_t		upper = header->pd_upper;
	char	   *p = buf;

	if (upper == 0)
		upper = BLCKSZ;			/* a page never used: lower is 0, too */
	else if (!has_hole || lower < SizeOfPageHeaderData || lower > upper || upper > BLCKSZ)
		lower = upper = BLCKSZ; /* no hole */
	p = put32(p, block);
	p = put32(p, crc_of(page, lower, page + upper, BLCKSZ - upper));
	p = put16(p, lower);
	p = put16(p, upper);
	memcpy(p, page, lower);
	p += lower;
	memcpy(p, page + upper, BLCKSZ - upper);
	return p + BLCKSZ - upper - buf;
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
	if (kind != FA_FRAME_PAGES_KIND && kind != FA_FRAME_END_KIND)
		return "frame is of an unknown kind";
	header.kind = kind;
	header.move = get64(reader);
	header.round = get32(reader);
	header.number = get32(reader);
	header.relation = get16(reader);
	header.entries = get16(reader);
	header.nblocks = get32(reader);
	if (get32(reader) != 0)
		return "reserved bytes are in use";
	if (header.kind == FA_FRAME_PAGES_KIND &&
		(header.entries == 0 || header.entries > FA_FRAME_PAGES))
		return "frame has a wrong number of pages";
	*header_p = header;
	return NULL;
}

const char *
fa_frame_get_page(FaFrameReader *reader, BlockNumber *block_p, char *page)
{
	BlockNumber block;
	uint32		crc;
	size_t		lower;
	size_t		upper;
	const char *rest;

	if (reader->end - reader->next < FA_FRAME_PAGE)
		return "frame is cut off before a page";
	block = get32(reader);
	crc = get32(reader);
	lower = get16(reader);
	upper = get16(reader);
	if (lower > upper || upper > BLCKSZ)
		return "hole of a page is out of its bounds";
	if (reader->end - reader->next < (ptrdiff_t) (lower + BLCKSZ - upper))
		return "frame is cut off in a page";
	rest = reader->next + lower;
	if (crc_of(reader->next, lower, rest, BLCKSZ - upper) != crc)
		return "checksum of a page is wrong";
	memcpy(page, reader->next, lower);
	memset(page + lower, 0, upper - lower);
	memcpy(page + upper, rest, BLCKSZ - upper);
	reader->next = rest + BLCKSZ - upper;
	*block_p = block;
	return NULL;
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
