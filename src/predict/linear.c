/*
 * linear.c
 *	  A small symmetric positive definite system, by Cholesky.
 */
#include <math.h>

#include "predict/pool.h"

#define MAX_N	FA_MAX_SIGNALS

/*
 * Solves A x = b for the unknowns that are on; the others' x stay 0.  False,
 * with x all zero, when A is not positive definite.
 */
bool
fa_predict_solve(const double *a, size_t stride, const bool *on, int n,
				 const double *b, double *x_p)
{
	double		l[MAX_N][MAX_N];
	double		z[MAX_N];
	int			ix[MAX_N];
	int			m = 0;

	for (int i = 0; i < n; i++)
	{
		x_p[i] = 0;
		if (on[i])
			ix[m++] = i;
	}
	for (int i = 0; i < m; i++)
	{
		double		s = b[ix[i]];

		for (int j = 0; j <= i; j++)
		{
			double		v = a[ix[i] * stride + ix[j]];

			for (int k = 0; k < j; k++)
				v -= l[i][k] * l[j][k];
			if (i > j)
				l[i][j] = v / l[j][j];
			else if (v > 1e-12 * fabs(a[ix[i] * stride + ix[i]]) && isfinite(v))
				l[i][i] = sqrt(v);
			else
				return false;
		}
		for (int k = 0; k < i; k++)
			s -= l[i][k] * z[k];
		z[i] = s / l[i][i];
	}
	for (int i = m - 1; i >= 0; i--)
	{
		double		s = z[i];

		for (int k = i + 1; k < m; k++)
			s -= l[k][i] * z[k];
		z[i] = s / l[i][i];
		if (!isfinite(z[i]))
			return false;
	}
	for (int i = 0; i < m; i++)
		x_p[ix[i]] = z[i];
	return true;
}
