/*
 * transports.c
 *	  Which transports there are.
 */
#include "postgres.h"

#include "transport/rdma.h"
#include "transport/transport.h"

static const FaTransportOps *const transports[] = {
	&fa_transport_shm,
	&fa_transport_rdma,
	&fa_transport_stream
};

const FaTransportOps *
fa_transport_at(int i)
{
	return i < lengthof(transports) ? transports[i] : NULL;
}

const FaTransportOps *
fa_transport_find(const char *name)
{
	for (int i = 0; i < lengthof(transports); i++)
	{
		if (strcmp(transports[i]->name, name) == 0)
			return transports[i];
	}
	return NULL;
}
