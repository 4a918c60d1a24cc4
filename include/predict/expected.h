/*
 * expected.h
 *	  Accesses expected of the coming step by something that is no series of
 *	  counts, as signals: what open sessions and active roles will do.
 *
 * One number a cell, kept in the model's cell state, and one a node.  Cells
 * that nothing is expected of are not touched: a step costs what it brings.
 */
#ifndef FA_PREDICT_EXPECTED_H
#define FA_PREDICT_EXPECTED_H

#include "predict/frame.h"

typedef struct FaExpected
{
	int			model;
	bool		fresh;			/* something was told of this step */
	double		total;
	double	   *site;			/* by node */
	int32_t		nset;			/* cells that are not zero */
	int32_t		capacity;
	FaCell	   *set;
} FaExpected;

/* in expected.c */
extern void fa_expected_create(FaFrame *frame, FaExpected *e, int model);
extern void fa_expected_resize(FaFrame *frame, FaExpected *e, int old_nnodes);

/* Forgets the step before; fresh: something is known of the coming one. */
extern void fa_expected_clear(FaFrame *frame, FaExpected *e, bool fresh);

/*
 * Adds to a cell, which is made when enough is expected of it.  A fragment
 * that never had an access is left out.
 */
extern void fa_expected_add(FaFrame *frame, FaExpected *e, int fragment,
							int node, double accesses);

/* One site signal, one fragment signal and two rate signals. */
#define FA_EXPECTED_RATES	2
extern void fa_expected_site(const FaFrame *frame, const FaExpected *e, int h,
							 int64_t target, double *signal);
extern void fa_expected_fragment(const FaFrame *frame, const FaExpected *e,
								 const FaView *view, double *local,
								 double *rate);
extern void fa_expected_archive(FaFrame *frame, FaExpected *e, FaArchive *ar);

#endif							/* FA_PREDICT_EXPECTED_H */
