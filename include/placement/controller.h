/*
 * controller.h
 *	  Decisions about all fragments, and what became of them.
 */
#ifndef FA_PLACEMENT_CONTROLLER_H
#define FA_PLACEMENT_CONTROLLER_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "placement/decide.h"
#include "placement/forecast.h"

/* A node of the catalog beside its place in FaPlaceCluster. */
typedef struct FaPlaceName
{
	int			id;
	char	   *name;
} FaPlaceName;

/* What is the same for all fragments of a table. */
typedef struct FaTablePolicy
{
	int			table_id;
	FaPlacePolicy policy;
	bool		decide;			/* advise or auto */
	bool		act;			/* auto */
	bool		predictive;		/* forecasts count */
	bool		co_access;		/* grouped with what is used together */
	double		cost_fixed_ms;
	double		cost_factor;	/* of a move's time that clients feel */
	double		unknown_bytes;	/* fragment_size */
	double		divide_bytes;	/* more is too large; 0: nothing is */
} FaTablePolicy;

/* One fragment as the controller sees it now. */
typedef struct FaPlaceRow
{
	int64		fragment;
	int			table_id;
	int			owner;			/* place in the cluster; -1: gone */
	int			previous_owner; /* before the last move */
	int			planned;		/* where a rebalance wants it; -1: no matter */
	int			heading;		/* where its move goes; -1: none is known */
	double		bytes;
	double		since_move_ms;
	bool		moving;
	bool		pinned;
	double	   *recent;			/* [step][node], newest first, or NULL */
	struct FaGroup *group;		/* NULL: alone (group.h) */
} FaPlaceRow;

typedef struct FaPlaceInput
{
	FaPlaceCluster cluster;
	FaPlaceName *name;			/* by place */
	int16		place[FA_MAX_NODE_ID + 1];	/* by node id; -1: none */
	double		bytes_per_ms;
	int			inflight;
	int			nrecent;
	int			nrows;
	FaPlaceRow *row;			/* by fragment, ascending */
	int			ngroups;		/* of the cluster's; the others are of plans */
	List	   *policies;		/* of FaTablePolicy */
} FaPlaceInput;

/* in gather.c; in a transaction, palloc'd */

/* f may be NULL: no forecasts, hence no look at the recent past. */
extern FaPlaceInput *fa_controller_gather(FaForecaster *f);
extern FaTablePolicy *fa_controller_policy(FaPlaceInput *input, int table_id);
/* Reads the cluster's limits from the settings (gather has done so). */
extern void fa_controller_limits(FaPlaceInput *input);
/* Row of a fragment, or NULL. */
extern FaPlaceRow *fa_controller_row(FaPlaceInput *input, int64 fragment);
/* Minute of the day, in the session's time zone. */
extern int	fa_controller_minute(TimestampTz t);

/* in controller.c */

/*
 * In a transaction: decides about every fragment, or (f NULL) only about
 * those that must leave their node, writes recommendations and queues
 * requests.
 */
extern void fa_controller_decide(FaForecaster *f);

/*
 * In a transaction: calls move for what would be moved, by the decisions on
 * input as it is; nothing is written.
 */
typedef void (*FaPlannedMove) (void *arg, FaPlaceRow *row,
							   const FaDecision *decision);
extern void fa_controller_plan(FaPlaceInput *input, FaForecaster *f,
							   FaPlannedMove move, void *arg);

/* in request.c */

/* Remembers a wanted move, to be asked for by fa_request_send() from due on. */
extern void fa_request_queue(int64 fragment, int source, int destination,
							 const char *destination_name, TimestampTz due,
							 const FaDecision *decision, const char *reason);
/* Forgets those that are not due yet: they are decided about anew. */
extern void fa_request_withdraw(void);
/* ms until one is due, 1000 at most. */
extern int	fa_request_due_ms(void);
/* Outside a transaction: asks the destinations. */
extern void fa_request_send(void);
/* Asked for, and not over or refused a moment ago. */
extern bool fa_request_pending(int64 fragment);
/*
 * Number of the move that was asked for and not refused; 0: not known yet, -1:
 * there is no such request.
 */
extern int64 fa_request_move(int64 fragment);
/* Adds the moves under way that were asked for, to rows and nodes. */
extern void fa_request_count(FaPlaceInput *input);

/* in rebalance.c; in a transaction */

/* Notes in the rows where a rebalance wants them; forgets what is there. */
extern void fa_rebalance_gather(FaPlaceInput *input);
extern bool fa_rebalance_goes_on(void);

/* in outcome.c; in a transaction */
extern void fa_outcome_judge(FaForecaster *f);

#endif							/* FA_PLACEMENT_CONTROLLER_H */
