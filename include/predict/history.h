/*
 * history.h
 *	  The cells of the last steps, within a budget of bytes.
 */
#ifndef FA_PREDICT_HISTORY_H
#define FA_PREDICT_HISTORY_H

#include "predict/frame.h"

#define FA_SERIES_NODES		16	/* nodes beyond share a series */
#define FA_SERIES_MIXES		8	/* random mixes of the cells */
#define FA_SERIES			(1 + FA_SERIES_NODES + FA_SERIES_MIXES)
#define FA_SERIES_BUSY		32	/* fragments looked at one by one */
#define FA_SERIES_UNKNOWN	(-1e30f)

typedef struct FaHistoryCell
{
	int32_t		fragment;		/* -1: the node was unknown */
	int32_t		node;
	float		count;
} FaHistoryCell;

typedef struct FaHistoryStep
{
	int64_t		step;
	int64_t		ncells;
} FaHistoryStep;

typedef struct FaHistory
{
	FaHistoryCell *cell;		/* ring */
	int64_t		cell_capacity;
	int64_t		cell_first;
	int64_t		ncells;
	FaHistoryStep *step;		/* ring */
	int64_t		step_capacity;
	int64_t		step_first;
	int64_t		nsteps;

	float	   *series;			/* ring of FA_SERIES values a step */
	int64_t		series_capacity;	/* steps */
	int64_t		series_end;		/* step after the last one held */
	int64_t		nseries;		/* steps held */
} FaHistory;

/* in history.c */
extern void fa_predict_history_add(FaFrame *frame, FaHistory *hist);
extern void fa_predict_history_replay(FaFrame *frame, FaHistory *hist,
									  void (*take) (FaFrame *, void *,
													int64_t step,
													const bool *known),
									  void *arg);
extern int	fa_predict_history_seasons(FaFrame *frame, FaHistory *hist,
									   int *seasons, int max);
extern void fa_predict_history_archive(FaFrame *frame, FaHistory *hist,
									   FaArchive *ar);

#endif							/* FA_PREDICT_HISTORY_H */
