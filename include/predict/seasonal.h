/*
 * seasonal.h
 *	  Slots of the seasons, and the chain of rates that is read off them.
 */
#ifndef FA_PREDICT_SEASONAL_H
#define FA_PREDICT_SEASONAL_H

#include "predict/history.h"

#define FA_MAX_SEASONS	3
#define FA_MAX_DAYS		32		/* short seasons in a long one */
#define FA_MAX_STAGES	(2 * FA_MAX_SEASONS + 2)
#define FA_STAGE_REACH	2		/* neighbouring slots on each side */
#define FA_STAGE_SLOTS	((2 * FA_STAGE_REACH + 1) * FA_MAX_DAYS)

/* Slots of one fragment. */
typedef struct FaSlots
{
	int32_t		capacity;		/* cells */
	int64_t		since;			/* step from which on it counted */
	float	   *count[FA_MAX_SEASONS];	/* nslots x capacity */
} FaSlots;

typedef struct FaSeason
{
	int			period;
	int			width;			/* steps in a slot */
	int			nslots;
	int64_t		since;			/* step from which on it counted */
	double		keep;			/* per step in the slot */
	double	   *count;			/* nslots x nnodes, accesses */
	double	   *steps;			/* nslots x nnodes, steps known */
} FaSeason;

/* A link of the chain: some slots of a season, put together. */
typedef struct FaStage
{
	int			season;
	int			column;			/* where its signal goes */
	bool		tilts;			/* first of its season: nodes' totals come in */
	int			nslots;
	int			slot[FA_STAGE_SLOTS];
	double		part[FA_STAGE_SLOTS];
	double		concentration;
	double	   *exposure;		/* by node: steps, as if all in this slot */
	int64_t		young_since;	/* of the fragment asked about last */
	double		young;			/* and its part of that exposure */
} FaStage;

/* The chain for one target step. */
typedef struct FaPlan
{
	int64_t		target;
	int			nstages;
	FaStage		stage[FA_MAX_STAGES];
	double	   *tilt;			/* nnodes x FA_MAX_SEASONS */
	double	   *rate;			/* by node, at the end of the chain */
} FaPlan;

typedef struct FaSeasons
{
	int			n;
	FaSeason	season[FA_MAX_SEASONS]; /* shortest first */
	FaSlots    *slots;			/* by fragment */
	int			ndays;			/* of the next shorter in the longest; 0: none */
	double		like[FA_MAX_DAYS][FA_MAX_DAYS]; /* how much they are alike */
	double	   *site_rate;		/* by node, long run */
} FaSeasons;

/* in slots.c */
extern int	fa_predict_slots_of(const FaSeason *se, int64_t step);
extern void fa_predict_slots_set(FaFrame *frame, FaSeasons *s,
								 const int *period, int n);
extern void fa_predict_slots_resize(FaFrame *frame, FaSeasons *s,
									int old_nnodes, int old_nfragments);
extern void fa_predict_slots_fill(FaFrame *frame, void *seasons, int64_t step,
								  const bool *known);
extern void fa_predict_slots_compare(FaFrame *frame, FaSeasons *s);
extern void fa_predict_slots_archive(FaFrame *frame, FaSeasons *s,
									 FaArchive *ar);

/* in chain.c */
extern void fa_predict_plan_alloc(FaFrame *frame, FaPlan *plan);
extern void fa_predict_plan_make(FaFrame *frame, const FaSeasons *s,
								 int64_t target, FaPlan *plan);
extern void fa_predict_chain(FaFrame *frame, const FaSeasons *s,
							 FaPlan *plan, const FaView *view,
							 double *v, double *local, double *rate);

#endif							/* FA_PREDICT_SEASONAL_H */
