/*
 * row.c
 *	  Walks through the columns of a stored row.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "access/tupmacs.h"

#include "core/fa_compat.h"
#include "page/image.h"

/* A value out of line: where it is, and where it is to be. */
static const char *
row_check_external(char *value, Size room, Oid from, Oid to)
{
	struct varatt_external pointer;

	if (room < VARHDRSZ_EXTERNAL + sizeof(pointer))
		return "value out of line is cut off";
	if (VARTAG_EXTERNAL(value) != VARTAG_ONDISK)
		return "value out of line is not on disk";
	memcpy(&pointer, VARDATA_EXTERNAL(value), sizeof(pointer));
	if (!OidIsValid(from) || pointer.va_toastrelid != from)
		return "value is in another TOAST relation";
	if (pointer.va_rawsize < VARHDRSZ ||
		VARATT_EXTERNAL_GET_EXTSIZE(pointer) > pointer.va_rawsize)
		return "value out of line has a wrong size";
	pointer.va_toastrelid = to;
	memcpy(VARDATA_EXTERNAL(value), &pointer, sizeof(pointer));
	return NULL;
}

/* Size of the varlena at value, of which room bytes are there; 0: too long. */
static Size
row_varlena_size(char *value, Size room)
{
	Size		size;

	if (VARATT_IS_1B_E(value))
		size = room < VARHDRSZ_EXTERNAL + sizeof(struct varatt_external) ? 0 :
			VARHDRSZ_EXTERNAL + sizeof(struct varatt_external);
	else if (VARATT_IS_1B(value))
		size = VARSIZE_1B(value);
	else if (room < VARHDRSZ)
		size = 0;
	else
	{
		size = VARSIZE_4B(value);
		if (size < VARHDRSZ ||
			(VARATT_IS_4B_C(value) && size < VARHDRSZ_COMPRESSED))
			size = 0;
	}
	return size <= room ? size : 0;
}

static const char *
row_check_header(HeapTupleHeader row, uint32 len, int natts, int max_natts)
{
	Size		hoff = SizeofHeapTupleHeader;

	if (natts > max_natts)
		return "row has too many columns";
	if ((row->t_infomask & HEAP_HASNULL))
		hoff += BITMAPLEN(natts);
	if (row->t_hoff != MAXALIGN(hoff) || row->t_hoff > len)
		return "row header has a wrong size";
	if (row->t_infomask & HEAP_HASOID_OLD)
		return "row has an OID";
	return NULL;
}

const char *
fa_row_check(HeapTupleHeader row, uint32 len, const FaRowShape *shape,
			 Oid from, Oid to)
{
	int			natts = HeapTupleHeaderGetNatts(row);
	bool		has_external = (row->t_infomask & HEAP_HASEXTERNAL) != 0;
	const char *why = row_check_header(row, len, natts, shape->natts);
	char	   *data = (char *) row + row->t_hoff;
	Size		room;
	Size		off = 0;

	if (why)
		return why;
	room = len - row->t_hoff;
	for (int i = 0; i < natts; i++)
	{
		const FaAttribute *att = &shape->att[i];
		Size		size = att->len;

		if ((row->t_infomask & HEAP_HASNULL) && att_isnull(i, row->t_bits))
			continue;
		if (off >= room)
			return "row ends before its last column";
		/* a varlena with a short header is not aligned */
		if (att->len != -1 || !VARATT_NOT_PAD_BYTE(data + off))
			off = att_align_nominal(off, att->align);
		if (off >= room)
			return "row ends before its last column";
		if (att->len == -1)
		{
			if (!VARATT_IS_1B(data + off) &&
				off != att_align_nominal(off, att->align))
				return "value with a long header is not aligned";
			size = row_varlena_size(data + off, room - off);
			if (size == 0)
				return "value is longer than its row";
			if (VARATT_IS_1B_E(data + off))
			{
				if (!has_external)
					return "row hides a value out of line";
				why = row_check_external(data + off, room - off, from, to);
				if (why)
					return why;
			}
		}
		if (size > room - off)
			return "row ends within a column";
		off += size;
	}
	return NULL;
}
