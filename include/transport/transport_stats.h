/*
 * transport_stats.h
 *	  Counters of each transport, since the server's start.
 */
#ifndef FA_TRANSPORT_TRANSPORT_STATS_H
#define FA_TRANSPORT_TRANSPORT_STATS_H

#include "core/shmem.h"
#include "transport/transport.h"

extern const FaShmemPart fa_transport_stats_part;

/* One more.  Does nothing without shared memory. */
extern void fa_transport_count(const FaChannel *channel,
							   FaTransportCounter counter);
/* What the channel's own counters have gone up by since it last told. */
extern void fa_transport_tell(FaChannel *channel);

#endif							/* FA_TRANSPORT_TRANSPORT_STATS_H */
