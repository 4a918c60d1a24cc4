/*
 * rdma.h
 *	  The transport "rdma": between the extension and its module.
 *
 * Only fragaffinity_rdma.so is linked with librdmacm and libibverbs, and it is
 * loaded when a channel is opened for the first time: a server without them,
 * or built with with_rdma=no, starts and works.  The module sees nothing of
 * the extension but what is passed here.
 */
#ifndef FA_TRANSPORT_RDMA_H
#define FA_TRANSPORT_RDMA_H

#include "transport/transport.h"

/* Of this interface; changes with anything in it, FaTransportOps or FaChannel. */
#define FA_RDMA_MODULE_VERSION	3

#define FA_RDMA_MAX_STREAMS		32

/* What an administrator has set at this server. */
typedef struct FaRdmaOptions
{
	const char *address;		/* to listen at; "": where the peers' connection ends */
	int			port;			/* to listen at; 0: any */
	int			streams;		/* queue pairs of a channel */
	int			staging_kb;		/* memory that a channel's messages arrive in */
} FaRdmaOptions;

/* What the extension does for the module; lives as long as the process. */
typedef struct FaRdmaHost
{
	const FaRdmaOptions *options;
	/* fa_channel_fail() */
	FaTransportStatus (*fail) (FaChannel *channel, FaTransportStatus status,
							   const char *fmt,...) pg_attribute_printf(3, 4);
} FaRdmaHost;

typedef struct FaRdma FaRdma;	/* the module's */

typedef struct FaRdmaChannel
{
	FaChannel	base;			/* first */
	FaRdma	   *rdma;			/* NULL: open() has not succeeded */
} FaRdmaChannel;

/*
 * The module's entry: its operations, NULL when it is of another
 * version.  Its open() takes what the extension's has made.
 */
#define FA_RDMA_MODULE_SYMBOL	"fa_rdma_module"
typedef const FaTransportOps *(*FaRdmaModuleFunction) (int version,
													   const FaRdmaHost *host);

extern const FaTransportOps fa_transport_rdma;	/* in rdma.c */

#endif							/* FA_TRANSPORT_RDMA_H */
