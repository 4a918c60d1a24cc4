/*
 * archive.c
 *	  Portable bytes: big-endian integers, IEEE bits of floats.
 *
 * The same code walks a state to count its bytes, to write and to read them,
 * so that the three cannot disagree.  Reading past the end sets "failed" and
 * gives zeros; callers check before they trust a count.
 */
#include <math.h>
#include <string.h>

#include "predict/frame.h"

void
fa_predict_ar_bytes(FaArchive *ar, void *p, size_t n)
{
	if (ar->reading)
	{
		if (ar->failed || n > ar->size - ar->at)
		{
			ar->failed = true;
			memset(p, 0, n);
			return;
		}
		memcpy(p, ar->in + ar->at, n);
	}
	else if (ar->out != NULL)
		memcpy(ar->out + ar->at, p, n);
	ar->at += n;
}

/* Is there room for n items of size bytes each? */
bool
fa_predict_ar_room(FaArchive *ar, uint64_t n, size_t size)
{
	if (ar->reading && (ar->failed || n > (ar->size - ar->at) / size))
		ar->failed = true;
	return !ar->failed;
}

void
fa_predict_ar_u32(FaArchive *ar, uint32_t *v)
{
	uint8_t		b[4];

	for (int i = 0; i < 4; i++)
		b[i] = (uint8_t) (*v >> (24 - 8 * i));
	fa_predict_ar_bytes(ar, b, 4);
	if (ar->reading)
		*v = (uint32_t) b[0] << 24 | (uint32_t) b[1] << 16 |
			(uint32_t) b[2] << 8 | b[3];
}

void
fa_predict_ar_i32(FaArchive *ar, int32_t *v)
{
	uint32_t	u = (uint32_t) *v;

	fa_predict_ar_u32(ar, &u);
	if (ar->reading)
		memcpy(v, &u, sizeof(u));
}

static void
ar_u64(FaArchive *ar, uint64_t *v)
{
	uint8_t		b[8];

	for (int i = 0; i < 8; i++)
		b[i] = (uint8_t) (*v >> (56 - 8 * i));
	fa_predict_ar_bytes(ar, b, 8);
	if (ar->reading)
	{
		*v = 0;
		for (int i = 0; i < 8; i++)
			*v = *v << 8 | b[i];
	}
}

void
fa_predict_ar_i64(FaArchive *ar, int64_t *v)
{
	uint64_t	u;

	memcpy(&u, v, sizeof(u));
	ar_u64(ar, &u);
	if (ar->reading)
		memcpy(v, &u, sizeof(u));
}

void
fa_predict_ar_double(FaArchive *ar, double *v)
{
	uint64_t	u;

	memcpy(&u, v, sizeof(u));
	ar_u64(ar, &u);
	if (ar->reading)
	{
		memcpy(v, &u, sizeof(u));
		if (!isfinite(*v))
		{
			ar->failed = true;
			*v = 0;
		}
	}
}

void
fa_predict_ar_doubles(FaArchive *ar, double *v, size_t n)
{
	if (!fa_predict_ar_room(ar, n, 8))
		return;
	for (size_t i = 0; i < n; i++)
		fa_predict_ar_double(ar, &v[i]);
}

void
fa_predict_ar_floats(FaArchive *ar, float *v, size_t n)
{
	if (!fa_predict_ar_room(ar, n, 4))
		return;
	for (size_t i = 0; i < n; i++)
	{
		uint32_t	u;

		memcpy(&u, &v[i], sizeof(u));
		fa_predict_ar_u32(ar, &u);
		if (!ar->reading)
			continue;
		memcpy(&v[i], &u, sizeof(u));
		if (!isfinite(v[i]))
		{
			ar->failed = true;
			v[i] = 0;
		}
	}
}

/* FNV-1a, 64 bits. */
static uint64_t
checksum(const uint8_t *p, size_t n)
{
	uint64_t	x = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < n; i++)
		x = (x ^ p[i]) * UINT64_C(0x100000001b3);
	return x;
}

static void
ar_head(FaArchive *ar, uint32_t *magic, uint32_t *version, int64_t *length)
{
	fa_predict_ar_u32(ar, magic);
	fa_predict_ar_u32(ar, version);
	fa_predict_ar_i64(ar, length);
}

size_t
fa_predict_ar_save(uint32_t magic, uint32_t version, FaArchiveContent content,
				   void *of, void *buf, size_t size)
{
	FaArchive	ar = {0};
	int64_t		length = 0;
	uint64_t	sum;

	ar_head(&ar, &magic, &version, &length);
	content(of, &ar);
	length = (int64_t) ar.at + 8;
	if (buf == NULL || (size_t) length > size)
		return (size_t) length;
	ar = (FaArchive) {.out = buf};
	ar_head(&ar, &magic, &version, &length);
	content(of, &ar);
	sum = checksum(buf, ar.at);
	ar_u64(&ar, &sum);
	return ar.at;
}

bool
fa_predict_ar_open(FaArchive *ar, uint32_t magic, uint32_t version,
				   const void *buf, size_t size)
{
	uint32_t	its_magic = 0;
	uint32_t	its_version = 0;
	int64_t		length = 0;
	uint64_t	sum = 0;
	size_t		at;

	*ar = (FaArchive) {.reading = true,.in = buf,.size = size};
	if (buf == NULL || size < 64)
		return false;
	ar_head(ar, &its_magic, &its_version, &length);
	if (its_magic != magic || its_version != version || length < 0 ||
		(uint64_t) length != size)
		return false;
	at = ar->at;
	ar->at = size - 8;
	ar_u64(ar, &sum);
	ar->at = at;
	ar->size = size - 8;
	return sum == checksum(buf, size - 8);
}
