/*
 * node.h
 *	  Nodes of the cluster as this node's catalog has them.
 */
#ifndef FA_NODE_NODE_H
#define FA_NODE_NODE_H

#include "datatype/timestamp.h"
#include "nodes/pg_list.h"

#include "core/shmem.h"

/* Ids are 1 to 1023. */
#define FA_MAX_NODES 1024

typedef struct FaNode
{
	int			id;
	char	   *name;
	char	   *host;
	int			port;
	char	   *dbname;
	char	   *region;			/* or NULL */
	int64		capacity;		/* bytes; 0: no limit */
	bool		draining;
} FaNode;

/* in node.c.  All in a transaction; results palloc'd. */

/* Who this database is; 0 while it belongs to no cluster. */
extern int	fa_node_self(void);
extern int	fa_node_coordinator(void);
/* Cluster (shortened) and node, "1b4e28ba:2": unlike any other node's. */
extern char *fa_node_cluster_prefix(void);
extern List *fa_node_list(void);	/* of FaNode, by id */
extern FaNode *fa_node_find(int id);	/* or NULL */
/* Raises UNDEFINED_OBJECT with the known names as hint. */
extern FaNode *fa_node_by_name(const char *name);

/* Of any node, also for clients without rights on the catalog; or NULL. */
extern char *fa_node_name(int id);

/* Name of the foreign server that leads to a node. */
#define FA_SERVER_NAME "fragaffinity_%d"
extern char *fa_node_server_name(int id);
/* The node that a foreign server leads to, as a backend remembers it; 0: none. */
extern int	fa_node_of_server(Oid server);

/*
 * Raises OBJECT_NOT_IN_PREREQUISITE_STATE unless this database is a node of
 * a cluster; returns its id.
 */
extern int	fa_node_require_cluster(void);

/*
 * in hops.c: what the next node is told of a statement that is handed on; 0 in a
 * client's own session.  Raises when it goes round in circles.
 */
extern int	fa_hops_next(void);

/* in health.c.  Shared memory; what this server last saw of each peer. */
typedef struct FaNodeHealth
{
	bool		known;			/* asked at least once */
	bool		alive;
	double		round_trip_ms;	/* smoothed */
	double		row_us;			/* a row of some 100 bytes, among many; 0: unknown */
	TimestampTz last_seen;
} FaNodeHealth;

extern const FaShmemPart fa_health_part;

/* False without shared memory. */
extern bool fa_node_health(int id, FaNodeHealth *health_p);

/*
 * What the worker saw: an answer after round_trip_ms (0: it says nothing of the
 * distance), or none (< 0).
 */
extern void fa_node_health_set(int id, double round_trip_ms);

/* That it got many rows of some 100 bytes, each in so much time. */
extern void fa_node_health_set_row(int id, double row_us);

#endif							/* FA_NODE_NODE_H */
