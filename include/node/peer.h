/*
 * peer.h
 *	  One peer of the pool: its connection and its questions.
 */
#ifndef FA_NODE_PEER_H
#define FA_NODE_PEER_H

#include "node/peer_pool.h"
#include "node/remote.h"

typedef enum FaPeerState
{
	FA_PEER_DOWN,
	FA_PEER_CONNECTING,
	FA_PEER_IDLE,
	FA_PEER_BUSY
} FaPeerState;

typedef struct FaPeerRequest
{
	struct FaPeerRequest *next;
	char	   *sql;
	FaPeerCallback callback;
	void	   *arg;
} FaPeerRequest;

typedef struct FaPeer
{
	struct FaPeer *next;
	int			node;
	char	   *identity;		/* all keywords and values, to see a change */
	MemoryContext context;		/* of this struct and its strings */
	const char *keywords[FA_MAX_KEYWORDS];
	const char *values[FA_MAX_KEYWORDS];
	FaPeerState	state;
	PGconn	   *conn;
	PostgresPollingStatusType poll; /* while connecting */
	bool		flush;			/* output is left to send */
	int64		deadline;		/* while connecting or busy */
	int64		suspect_at;		/* while busy; 0: already suspected */
	int64		retry_at;		/* while down */
	int			failures;		/* attempts since the last success */
	char		address[64];	/* that worked last, for a host name */
	FaPeerRequest *first;		/* the one that is out, if busy */
	FaPeerRequest *last;
	int			npending;
	PGresult   *result;			/* of the question that is out, so far */
	bool		wanted;			/* scratch of fa_pool_sync_nodes */
} FaPeer;

/* in peer_pool.c */

/* All times of the pool: not the time of day, which can be set. */
extern int64 fa_pool_clock_ms(void);

/* in peer.c */

/* Does what is due without waiting; the sooner of next and its next step. */
extern int64 fa_peer_advance(FaPeer *p, int64 now, int64 next);
/* What to wait for at the peer's socket, and what to do when it is there. */
extern uint32 fa_peer_events(FaPeer *p);
extern void fa_peer_ready(FaPeer *p);
extern void fa_peer_disconnect(FaPeer *p);
/* Fails the questions that are queued now (not those that callbacks add). */
extern void fa_peer_fail_all(FaPeer *p);

#endif							/* FA_NODE_PEER_H */
