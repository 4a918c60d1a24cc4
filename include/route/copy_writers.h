/*
 * copy_writers.h
 *	  COPY FROM into a distributed table by several processes.
 *
 * The client's backend, the leader, reads lines, looks at the key of each, and
 * hands the line on as it is: to the node whose fragment it belongs to, or to one
 * of its writers, which are parallel workers.  They parse it, check it, and
 * write it as part of the leader's transaction, whose commit is all there is.
 *
 *	copy_simple.c	may a COPY go this way?
 *	copy_leader.c	the leader
 *	copy_input.c	what its client sends
 *	copy_route.c	from lines to fragments
 *	copy_text.c		what peers get of a line
 *	copy_replay.c	the usual way, when lines have been read already
 *	copy_writer.c	a writer
 *
 * Between leader and writer is a queue of messages.  Each is some lines, each
 * behind a head; an empty one says that all have been sent.
 */
#ifndef FA_ROUTE_COPY_WRITERS_H
#define FA_ROUTE_COPY_WRITERS_H

#include "commands/copy.h"
#include "nodes/execnodes.h"
#include "nodes/plannodes.h"
#include "parser/parse_node.h"
#include "storage/condition_variable.h"
#include "storage/dsm.h"
#include "storage/shm_toc.h"
#include "storage/spin.h"

#include "node/row_stream.h"
#include "route/hash_step.h"

/* in copy_leader.c */

/*
 * Runs a COPY that fa_copy_begin() has begun; false, and nothing done, when
 * PostgreSQL should.
 */
extern bool fa_copy_run(PlannedStmt *pstmt, const char *query_string,
						QueryCompletion *qc);

/* in copy_simple.c */

/*
 * Means the COPY the same when it goes by lines and in several processes?  Then
 * also from its key to a bucket (all but child), in the current memory context.
 */
extern bool fa_copy_is_simple(Relation rel, const CopyStmt *stmt,
							  FaHashStep *step_p);
/* Likewise, as far as a fragment's heap matters. */
extern bool fa_copy_leaf_is_simple(Relation leaf);

/* What BeginCopyFrom() wants to know of the table that rows go to. */
extern ParseState *fa_copy_parse_state(Relation rel, const CopyStmt *stmt,
									   const char *query_string);
/* The options for lines that have been read: without a head, in our encoding. */
extern List *fa_copy_line_options(const CopyStmt *stmt);

/* in copy_input.c */

/* Is called when the client has not sent anything for a moment. */
typedef void (*FaCopyPause) (void *arg);

/*
 * Has a COPY that reads from the client look for interrupts, and so for errors of
 * workers, while it waits for it; others stay as they are.
 */
extern void fa_copy_input_begin(CopyFromState state, FaCopyPause pause, void *arg);
/* Reads what the client still sends behind an end-of-data marker. */
extern void fa_copy_input_end(CopyFromState state);

/* in copy_route.c */

/* A fragment's leaf that lines go to. */
typedef struct FaCopyTarget
{
	Oid			leaf;			/* hash key */
	ResultRelInfo *rri;
	bool		foreign;
	int			writer;			/* -1: none yet */
	uint32		number;			/* of the leaf, for this writer */
	int64		rows;
} FaCopyTarget;

typedef struct FaCopyRoute
{
	CopyFromState state;
	EState	   *estate;
	ModifyTableState *mtstate;
	ResultRelInfo *root;
	struct PartitionTupleRouting *proute;
	TupleTableSlot *slot;		/* a row of which only the key is known */
	AttrNumber	key;
	int			key_field;		/* from 0, in a line */
	int			nfields;		/* of a line */
	FaHashStep	step;
	FaCopyTarget **by_remainder;	/* of the hash; NULL: not known, or split */
	HTAB	   *targets;
} FaCopyRoute;

/* For a COPY that is simple; in the current memory context. */
extern void fa_copy_route_begin(FaCopyRoute *route, CopyFromState state,
								const FaHashStep *step);
/*
 * Where the line that state has read belongs.  Raises what COPY would about its
 * number of fields, and its key.
 */
extern FaCopyTarget *fa_copy_route_line(FaCopyRoute *route, char **fields,
										int nfields);
extern void fa_copy_route_end(FaCopyRoute *route);

/* in copy_text.c */

typedef struct FaCopyText
{
	CopyFromState state;
	List	   *columns;		/* names of those that are sent */
	bool		as_it_is;		/* the line is what is sent, but for the defaults */
	FmgrInfo   *output;			/* by field; without function: sent as it is */
	char	   *defaults;		/* of columns that are not in the line, and would
								 * not be the same elsewhere */
	FaRowStream *row;			/* where a line is put together */
	MemoryContext context;		/* for that */
} FaCopyText;

/* In the current memory context. */
extern void fa_copy_text_begin(FaCopyText *text, CopyFromState state);
/* The line that state has read, with its length less than all; lives until the next. */
extern StringInfo fa_copy_text_line(FaCopyText *text, char **fields, int len);

/* in copy_replay.c */

/* Lines that have been read, with where they go to. */
typedef struct FaHeldLine
{
	FaCopyTarget *target;
	uint64		line;			/* number */
	int			len;			/* of the line, which follows, ... */
	int			text_len;		/* ... and of what a peer gets, behind it */
} FaHeldLine;

/*
 * Length of the line that has been read, without a backslash that the end of the
 * input has left alone: COPY ignores that, but another line behind would not.
 */
extern int	fa_copy_line_length(CopyFromState state);

/*
 * Which line state must be in for it to be in this one when it has read the text:
 * it counts those within quotes itself, as those did whose number is given.
 */
extern uint64 fa_copy_line_before(CopyFromState state, uint64 line,
								  const char *text, int len);

/*
 * Has PostgreSQL copy lines that are held, from a place on, and all that state has
 * yet to read; returns the number of rows.
 */
extern uint64 fa_copy_replay(CopyFromState state, const CopyStmt *stmt,
							 const char *query_string, StringInfo held, int at,
							 bool ended);

/* in copy_writer.c */

#define FA_COPY_KEY_SHARED UINT64CONST(0xFA0000000000C001)
#define FA_COPY_KEY_SQL UINT64CONST(0xFA0000000000C002)
#define FA_COPY_KEY_QUEUE UINT64CONST(0xFA0000000000C100)	/* + writer */

typedef struct FaCopyShared
{
	Oid			table;

	/*
	 * A row with values out of line is several records in the log, and whoever
	 * decodes it expects none of the transaction's other rows between them.  So
	 * such rows are written while nobody else writes any.
	 */
	slock_t		mutex;			/* for the next two */
	int			writing;		/* writers that write rows */
	bool		toasting;		/* one writes rows with such values */
	ConditionVariable written;	/* one of them has ended */
} FaCopyShared;

/* Before a line. */
typedef struct FaCopyLine
{
	uint32		leaf;			/* number of it, for this writer */
	uint32		len;			/* FA_COPY_NEW_LEAF: no text */
	uint64		line;			/* number; or the OID of the new leaf */
} FaCopyLine;

#define FA_COPY_NEW_LEAF UINT32_MAX

extern PGDLLEXPORT void fa_copy_writer_main(dsm_segment *seg, shm_toc *toc);

#endif							/* FA_ROUTE_COPY_WRITERS_H */
