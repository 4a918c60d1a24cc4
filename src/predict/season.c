/*
 * season.c
 *	  Finds the seasons of a set of series.
 *
 * A season is a lag where a series' autocorrelation has a peak well above
 * what chance gives and above the valley before it, and whose slot means
 * foretell values that they were not computed from.  The series vote, the
 * shortest lag of weight wins, its slot means are taken out of all series,
 * and the search repeats on what is left: a week is found behind a day.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "predict/frame.h"

#define UNKNOWN_BELOW	(-1e29f)
#define MIN_CYCLES		2.5 	/* of a season that must have been seen */
#define SIGMA			4.5		/* above chance; many lags are tried */
#define PLAIN			0.5		/* a peak that needs no proof by numbers */
#define PLAIN_RISE		0.8
#define WORTH			0.4		/* of the highest peak, to be a season first */
#define WORTH_VOTE		0.3
#define MIN_GAIN		0.02	/* share of a series' variance foretold */
#define MAX_SERIES		64
#define MIN_SINGLE		3		/* of many single series, some swing by chance */

static const double two_pi = 6.283185307179586476925;

/* In place; n a power of two. */
static void
fft(double *re, double *im, size_t n, bool inverse)
{
	for (size_t i = 1, j = 0; i < n; i++)
	{
		size_t		bit = n >> 1;

		for (; j & bit; bit >>= 1)
			j ^= bit;
		j ^= bit;
		if (i < j)
		{
			double		t = re[i];

			re[i] = re[j];
			re[j] = t;
			t = im[i];
			im[i] = im[j];
			im[j] = t;
		}
	}
	for (size_t len = 2; len <= n; len <<= 1)
	{
		double		step = (inverse ? two_pi : -two_pi) / (double) len;
		size_t		half = len / 2;

		for (size_t k = 0; k < half; k++)
		{
			double		c = cos(step * (double) k);
			double		s = sin(step * (double) k);

			for (size_t i = k; i < n; i += len)
			{
				double		tr = re[i + half] * c - im[i + half] * s;
				double		ti = re[i + half] * s + im[i + half] * c;

				re[i + half] = re[i] - tr;
				im[i + half] = im[i] - ti;
				re[i] += tr;
				im[i] += ti;
			}
		}
	}
}

/* Takes the mean and a straight line out of the known values; variance. */
static double
detrend(float *x, int n)
{
	double		m = 0,
				sx = 0,
				st = 0,
				stt = 0,
				sxt = 0,
				slope,
				var = 0;

	for (int t = 0; t < n; t++)
	{
		if (x[t] < UNKNOWN_BELOW)
			continue;
		m++;
		sx += x[t];
		st += t;
		stt += (double) t * t;
		sxt += (double) t * x[t];
	}
	if (m < 3)
		return 0;
	slope = stt * m > st * st ? (sxt * m - sx * st) / (stt * m - st * st) : 0;
	for (int t = 0; t < n; t++)
	{
		if (x[t] < UNKNOWN_BELOW)
			continue;
		x[t] -= (float) (sx / m + slope * (t - st / m));
		var += (double) x[t] * x[t];
	}
	return var / m;
}

/* Autocorrelation of lags 0..maxlag, and the number of pairs behind each. */
static void
autocorrelate(const float *x, int n, int maxlag, double *re, double *im,
			  size_t size, double *rho, double *pairs)
{
	memset(re, 0, sizeof(double) * size);
	memset(im, 0, sizeof(double) * size);
	for (int t = 0; t < n; t++)
	{
		if (x[t] < UNKNOWN_BELOW)
			continue;
		re[t] = x[t];
		im[t] = 1;
	}
	fft(re, im, size, false);

	/* spectra of values and of the mask, apart, squared, together again */
	for (size_t k = 0; k <= size / 2; k++)
	{
		size_t		j = (size - k) & (size - 1);
		double		xr = (re[k] + re[j]) / 2,
					xi = (im[k] - im[j]) / 2;
		double		mr = (im[k] + im[j]) / 2,
					mi = (re[j] - re[k]) / 2;

		re[k] = re[j] = xr * xr + xi * xi;
		im[k] = im[j] = mr * mr + mi * mi;
	}
	fft(re, im, size, true);
	for (int lag = 0; lag <= maxlag; lag++)
	{
		pairs[lag] = im[lag] / (double) size;
		rho[lag] = pairs[lag] > 0.5 ? re[lag] / (double) size / pairs[lag] : 0;
	}
	for (int lag = maxlag; lag >= 0; lag--)
		rho[lag] = rho[0] > 0 ? rho[lag] / rho[0] : 0;
}

static bool
is_peak(const double *rho, int lag, int maxlag)
{
	int			w = lag / 10 < 1 ? 1 : lag / 10;

	for (int q = lag - w; q <= lag + w; q++)
	{
		if (q >= 1 && q <= maxlag && q != lag && rho[q] > rho[lag])
			return false;
	}
	return true;
}

/* Is it, but for a little, one that was found? */
static bool
was_found(int lag, const int *found, int nfound)
{
	for (int i = 0; i < nfound; i++)
	{
		if (abs(found[i] - lag) <= 1 + lag / 30)
			return true;
	}
	return false;
}

/* The next season of one series, 0 when there is none. */
static int
find_lag(const double *rho, const double *pairs, int maxlag, const int *found,
		 int nfound)
{
	double		inflate = 1;
	double		best = 0;

	/* slow swings make chance peaks larger */
	for (int lag = 1; lag <= maxlag && rho[lag] > 0; lag++)
		inflate += 2 * rho[lag] * rho[lag];
	for (int pass = 0; pass < 2; pass++)
	{
		double		valley = 1;

		for (int lag = 1; lag <= maxlag; lag++)
		{
			double		chance = SIGMA * sqrt(inflate / (pairs[lag] + 1));

			/* the last lags cannot be told from a slope */
			if (lag >= 2 && lag < maxlag - lag / 20 &&
				rho[lag] > fmin(chance, PLAIN) &&
				rho[lag] - valley > fmin(chance, PLAIN_RISE) &&
				is_peak(rho, lag, maxlag) && !was_found(lag, found, nfound))
			{
				if (pass == 0 && rho[lag] > best)
					best = rho[lag];
				if (pass == 1 && rho[lag] >= WORTH * best)
					return lag;
			}
			if (rho[lag] < valley)
				valley = rho[lag];
		}
	}
	return 0;
}

/* A season near a multiple of a shorter one is that multiple. */
static int
snap_lag(int lag, const double *rho, int maxlag, const int *found, int nfound)
{
	for (int i = 0; i < nfound && lag > 0; i++)
	{
		int			m = (lag + found[i] / 2) / found[i] * found[i];

		if (m > found[i] && m <= maxlag && abs(m - lag) <= 1 + lag / 30 &&
			rho[m] >= 0.9 * rho[lag])
			return m;
	}
	return lag;
}

/* Share of the variance that slot means without the value itself foretell. */
static double
slot_gain(const float *x, int n, int period, double *sum, double *count)
{
	double		left = 0,
				all = 0;

	memset(sum, 0, sizeof(double) * period);
	memset(count, 0, sizeof(double) * period);
	for (int t = 0; t < n; t++)
	{
		if (x[t] < UNKNOWN_BELOW)
			continue;
		sum[t % period] += x[t];
		count[t % period] += 1;
	}
	for (int t = 0; t < n; t++)
	{
		double		c = count[t % period];
		double		e;

		if (x[t] < UNKNOWN_BELOW || c < 2)
			continue;
		e = x[t] - (sum[t % period] - x[t]) / (c - 1);
		left += e * e;
		all += (double) x[t] * x[t];
	}
	return all > 0 ? 1 - left / all : 0;
}

static void
remove_slots(float *x, int n, int period, double *sum, double *count)
{
	slot_gain(x, n, period, sum, count);
	for (int t = 0; t < n; t++)
	{
		if (x[t] >= UNKNOWN_BELOW)
			x[t] -= (float) (sum[t % period] / (count[t % period] + 1));
	}
}

typedef struct Search
{
	float	   *series;			/* nseries x n */
	int			nseries;
	int			nsums;			/* the others are of single fragments */
	int			n;
	int			maxlag;
	int			max_season;
	size_t		size;			/* of re and im, a power of two */
	double	   *re;
	double	   *im;
	double	   *rho;
	double	   *pairs;
	double		var[MAX_SERIES];	/* before anything was taken out */
	int			lag[MAX_SERIES];	/* each series' candidate */
	double		vote[MAX_SERIES];
	int			nfound;
	int		   *found;
} Search;

/* What share of a series' first variance the slots of a lag foretell. */
static double
gain_of(const Search *s, int o, int lag)
{
	const float *x = s->series + (size_t) o * s->n;
	double		v = 0;

	for (int t = 0; t < s->n; t++)
		v += x[t] < UNKNOWN_BELOW ? 0 : (double) x[t] * x[t] / s->n;
	return slot_gain(x, s->n, lag, s->re, s->im) * v / s->var[o];
}

static void
find_candidates(Search *s)
{
	for (int o = 0; o < s->nseries; o++)
	{
		s->lag[o] = 0;
		if (s->var[o] <= 0)
			continue;
		autocorrelate(s->series + (size_t) o * s->n, s->n, s->maxlag, s->re,
					  s->im, s->size, s->rho, s->pairs);
		s->lag[o] = snap_lag(find_lag(s->rho, s->pairs, s->maxlag, s->found,
									  s->nfound),
							 s->rho, s->maxlag, s->found, s->nfound);
		if (s->lag[o] > s->max_season)
			s->lag[o] = 0;
	}
	for (int o = 0; o < s->nseries; o++)
	{
		int			single = 0;
		bool		sums = false;

		s->vote[o] = 0;
		for (int q = 0; q < s->nseries && s->lag[o] > 0; q++)
		{
			double		gain;

			if (s->lag[q] != s->lag[o])
				continue;
			gain = gain_of(s, q, s->lag[o]);
			if (gain <= MIN_GAIN)
				continue;
			s->vote[o] += gain;
			sums |= q < s->nsums;
			single += q >= s->nsums;
		}
		if (!sums && single < MIN_SINGLE)
			s->vote[o] = 0;
	}
}

/*
 * A broad peak's top is vague; many returns tell the period better.  A lag
 * that was made a multiple of a shorter season stays one.
 */
static int
sharpen(const Search *s, int o)
{
	int			lag = s->lag[o];
	int			reach = lag / 10 < 1 ? 1 : lag / 10;
	int			best = lag;
	double		most;

	for (int i = 0; i < s->nfound; i++)
	{
		if (lag % s->found[i] == 0)
			return lag;
	}
	most = gain_of(s, o, lag) + 1e-3;
	for (int q = lag - reach; q <= lag + reach; q++)
	{
		double		gain;

		if (q < 2 || q > s->max_season || was_found(q, s->found, s->nfound))
			continue;
		gain = gain_of(s, o, q);
		if (gain > most)
		{
			most = gain;
			best = q;
		}
	}
	return best;
}

/* The next season, 0 when there is none. */
static int
next_season(Search *s)
{
	double		most = 0;
	int			best = -1;

	find_candidates(s);
	for (int o = 0; o < s->nseries; o++)
	{
		if (s->vote[o] > most)
			most = s->vote[o];
	}
	/* the shortest first: what it leaves shows the longer one */
	for (int o = 0; o < s->nseries; o++)
	{
		if (s->vote[o] > 0 && s->vote[o] >= WORTH_VOTE * most &&
			(best < 0 || s->lag[o] < s->lag[best]))
			best = o;
	}
	return best < 0 ? 0 : sharpen(s, best);
}

static int
compare_ints(const void *a, const void *b)
{
	return *(const int *) a - *(const int *) b;
}

/*
 * Seasons of nseries series of n values each (below UNKNOWN_BELOW: unknown),
 * shortest first; the first nsums are sums over many fragments.  The series are
 * used up.
 */
int
fa_predict_find_seasons(FaFrame *frame, float *series, int nseries, int nsums,
						int n, int max_season, int *seasons, int max)
{
	Search		s = {.series = series,.n = n,.max_season = max_season,
		.found = seasons,.size = 2};

	s.nseries = nseries > MAX_SERIES ? MAX_SERIES : nseries;
	s.nsums = nsums;
	s.maxlag = (int) (n / MIN_CYCLES);
	if (s.maxlag > max_season + max_season / 10 + 1)
		s.maxlag = max_season + max_season / 10 + 1;
	if (s.maxlag < 3)
		return 0;
	while (s.size < (size_t) n + s.maxlag + 1)
		s.size *= 2;
	s.re = fa_predict_alloc(frame, s.size, sizeof(double));
	s.im = fa_predict_alloc(frame, s.size, sizeof(double));
	s.rho = fa_predict_alloc(frame, s.maxlag + 1, sizeof(double));
	s.pairs = fa_predict_alloc(frame, s.maxlag + 1, sizeof(double));
	for (int o = 0; o < s.nseries; o++)
		s.var[o] = detrend(series + (size_t) o * n, n);
	while (s.nfound < max)
	{
		int			lag = next_season(&s);

		if (lag == 0)
			break;
		seasons[s.nfound++] = lag;
		for (int o = 0; o < s.nseries; o++)
			remove_slots(series + (size_t) o * n, n, lag, s.re, s.im);
	}
	fa_predict_free(frame, s.re);
	fa_predict_free(frame, s.im);
	fa_predict_free(frame, s.rho);
	fa_predict_free(frame, s.pairs);
	qsort(seasons, s.nfound, sizeof(int), compare_ints);
	return s.nfound;
}
