/*
 * copy_lines.c
 *	  In which line of its input each row of a stream was.
 *
 * A byte for most rows; when they are too many, the later ones have none.
 */
#include "postgres.h"

#include "node/copy_lines.h"

#define MAX_BYTES (16 * 1024 * 1024)

void
fa_lines_init(FaLines *lines)
{
	initStringInfo(&lines->distances);
	lines->last = 0;
}

void
fa_lines_reset(FaLines *lines)
{
	resetStringInfo(&lines->distances);
	lines->last = 0;
}

void
fa_lines_add(FaLines *lines, int64 line)
{
	uint64		distance = line - lines->last;

	if (lines->distances.len >= MAX_BYTES)
		return;
	for (; distance >= 0x80; distance >>= 7)
		appendStringInfoCharMacro(&lines->distances, (char) (distance | 0x80));
	appendStringInfoCharMacro(&lines->distances, (char) distance);
	lines->last = line;
}

int64
fa_lines_get(const FaLines *lines, int64 row)
{
	int64		line = 0;
	int			shift = 0;
	uint64		distance = 0;

	for (int i = 0; i < lines->distances.len; i++)
	{
		unsigned char c = lines->distances.data[i];

		distance |= (uint64) (c & 0x7f) << shift;
		shift += 7;
		if (c & 0x80)
			continue;
		line += distance;
		distance = 0;
		shift = 0;
		if (--row == 0)
			return line;
	}
	return 0;
}
