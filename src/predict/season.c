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
#define MAX_CANDIDATES	64

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

/*
 * Seasons of nseries series of n values each (below UNKNOWN_BELOW: unknown),
 * shortest first.  The series are used up.
 */
int
fa_predict_find_seasons(FaFrame *frame, float *series, int nseries, int n,
						int max_season, int *seasons, int max)
{
	size_t		size = 2;
	double	   *re,
			   *im,
			   *rho,
			   *pairs;
	double		var[MAX_CANDIDATES];
	int			maxlag = (int) (n / MIN_CYCLES);
	int			found = 0;

	if (maxlag > max_season + max_season / 10 + 1)
		maxlag = max_season + max_season / 10 + 1;
	if (maxlag < 3)
		return 0;
	if (nseries > MAX_CANDIDATES)
		nseries = MAX_CANDIDATES;
	while (size < (size_t) n + maxlag + 1)
		size *= 2;
	re = fa_predict_alloc(frame, size, sizeof(double));
	im = fa_predict_alloc(frame, size, sizeof(double));
	rho = fa_predict_alloc(frame, maxlag + 1, sizeof(double));
	pairs = fa_predict_alloc(frame, maxlag + 1, sizeof(double));
	for (int s = 0; s < nseries; s++)
		var[s] = detrend(series + (size_t) s * n, n);

	while (found < max)
	{
		int			lag[MAX_CANDIDATES];
		double		votes[MAX_CANDIDATES];
		double		most = 0;
		int			best = 0;

		for (int s = 0; s < nseries; s++)
		{
			lag[s] = 0;
			if (var[s] <= 0)
				continue;
			autocorrelate(series + (size_t) s * n, n, maxlag, re, im, size,
						  rho, pairs);
			lag[s] = snap_lag(find_lag(rho, pairs, maxlag, seasons, found),
							  rho, maxlag, seasons, found);
			if (lag[s] > max_season)
				lag[s] = 0;
		}
		for (int s = 0; s < nseries; s++)
		{
			double		vote = 0;

			for (int o = 0; o < nseries && lag[s] > 0; o++)
			{
				const float *x = series + (size_t) o * n;
				double		v = 0;
				double		gain;

				if (lag[o] != lag[s])
					continue;
				gain = slot_gain(x, n, lag[s], re, im);
				for (int t = 0; t < n; t++)
					v += x[t] < UNKNOWN_BELOW ? 0 : (double) x[t] * x[t] / n;
				gain *= v / var[o];
				if (gain > MIN_GAIN)
					vote += gain;
			}
			votes[s] = vote;
			if (vote > most)
				most = vote;
		}
		/* the shortest first: what it leaves shows the longer one */
		for (int s = 0; s < nseries; s++)
		{
			if (votes[s] > 0 && votes[s] >= WORTH_VOTE * most &&
				(best == 0 || lag[s] < best))
				best = lag[s];
		}
		if (best == 0)
			break;
		seasons[found++] = best;
		for (int s = 0; s < nseries; s++)
			remove_slots(series + (size_t) s * n, n, best, re, im);
	}
	fa_predict_free(frame, re);
	fa_predict_free(frame, im);
	fa_predict_free(frame, rho);
	fa_predict_free(frame, pairs);
	for (int i = 1; i < found; i++)
	{
		for (int j = i; j > 0 && seasons[j] < seasons[j - 1]; j--)
		{
			int			t = seasons[j];

			seasons[j] = seasons[j - 1];
			seasons[j - 1] = t;
		}
	}
	return found;
}
