/*
 * forecast.h
 *	  The predictor in the coordinator's worker, fed from history.
 */
#ifndef FA_PLACEMENT_FORECAST_H
#define FA_PLACEMENT_FORECAST_H

#include "datatype/timestamp.h"

#include "placement/numbering.h"
#include "predict/predict.h"

#define FA_MAX_NODE_ID 1023

/*
 * The predictor numbers nodes and fragments from 0 in the order in which they
 * were first seen, and steps by their start: step * width.  One a process.
 */
typedef struct FaForecaster
{
	MemoryContext context;		/* of all below; deleted to start anew */
	FaPredictor *predictor;		/* NULL: not started */
	bool		busy;			/* inside the predictor: an error spoils it */
	int			training;		/* fragments that the network learns from */
	double		step_ms;		/* that a step took of late */
	TimestampTz network_since;	/* its weights were made or restored */
	int64		width_us;		/* length of a step */
	int			nhorizons;
	int			horizons[FA_PREDICT_MAX_HORIZONS];
	int			nnodes;
	int		   *node;			/* ids */
	int16		node_index[FA_MAX_NODE_ID + 1]; /* -1: none */
	FaNumbering fragments;
	bool		started;		/* last_step is set */
	int64		last_step;		/* taken */
	int64		learn_from;		/* no step before this one */
	int64		saved_step;		/* in the saved state */
	TimestampTz saved;			/* the saved state that this one continues */
} FaForecaster;

/* Steps as read from history, and how far they were taken. */
typedef struct FaStepBatch
{
	int			ncells;
	int64	   *cell_step;		/* ascends */
	FaCell	   *cells;
	int			nknown;
	int64	   *known_step;		/* ascends */
	int		   *known_node;		/* index */
	/* what was foreseen at the ends of steps, as far as it is kept */
	int			nexpected;
	int64	   *expected_step;	/* ascends */
	FaCell	   *expected;
	int			nuse;
	int64	   *use_step;		/* ascends */
	FaProfileUse *use;
	int			next_cell;
	int			next_known;
	int			next_expected;
	int			next_use;
} FaStepBatch;

/* in forecast.c */

/* The forecaster, or NULL when there is none (yet). */
extern FaForecaster *fa_forecast_get(void);

/*
 * In a transaction.  Takes the steps that are due; true when the newest one
 * was taken now, so that forecasts are new.
 */
extern bool fa_forecast_take_steps(void);

/* There are more steps to take than one call may. */
extern bool fa_forecast_is_behind(void);

/*
 * For a replay beside the worker's: a forecaster without a predictor, with the
 * interval and horizons of the settings; its predictor, with nothing learned.
 */
extern FaForecaster *fa_forecast_make(MemoryContext parent);
extern void fa_forecast_begin(FaForecaster *f);

/* The step that a time lies in. */
extern int64 fa_forecast_step_of(const FaForecaster *f, TimestampTz t);

/* First step in history; false when there is none. */
extern bool fa_forecast_first_step(FaForecaster *f, int64 *step_p);

/* in forecast_batch.c; in a transaction */

/* Reads steps [from, to); new nodes and fragments get their numbers. */
extern void fa_forecast_read(FaForecaster *f, int64 from, int64 to,
							 FaStepBatch *batch);

/*
 * Takes steps [from, to) of a batch, after those taken before.  Steps of which
 * nothing is known are passed over, but for the last.
 */
extern void fa_forecast_feed(FaForecaster *f, int64 from, int64 to,
							 FaStepBatch *batch);

/* in forecast.c */

/* Forgets everything in memory; the next call begins from the saved state. */
extern void fa_forecast_drop(void);

/* After an error: drops a predictor that was interrupted at work. */
extern void fa_forecast_recover(void);

extern int	fa_forecast_node_index(FaForecaster *f, int node);

/* Start of a step. */
extern TimestampTz fa_forecast_step_start(const FaForecaster *f, int64 step);

/* in forecast_state.c; in a transaction */
extern void fa_forecast_save(FaForecaster *f);
/* Fills an empty forecaster; false when there is no state that fits. */
extern bool fa_forecast_restore(FaForecaster *f, const FaAllocator *allocator);
/* When the state in the catalog was saved; 0: there is none. */
extern TimestampTz fa_forecast_state_time(void);
/* Says in the view "learning" what a part of learning takes. */
extern void fa_learning_report(const char *part, Size bytes, double step_ms,
							   double share);
/* When reset_network() was called; DT_NOBEGIN: never. */
extern TimestampTz fa_forecast_network_reset(void);

/* in publish.c; in a transaction */

/* Replaces predictions, adds scores and what the report draws. */
extern void fa_forecast_publish(FaForecaster *f);

#endif							/* FA_PLACEMENT_FORECAST_H */
