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
uint64_t
fa_predict_checksum(const uint8_t *p, size_t n)
{
	uint64_t	x = UINT64_C(0xcbf29ce484222325);

	for (size_t i = 0; i < n; i++)
		x = (x ^ p[i]) * UINT64_C(0x100000001b3);
	return x;
}
