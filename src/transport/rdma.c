/*
 * rdma.c
 *	  The transport "rdma": loads fragaffinity_rdma.so and hands over to it.
 *
 * A module of its own, and not dlsym() on the libraries: it is linked with
 * them as their headers say, symbol versions and all, and the extension has no
 * reference to them.  It is loaded by dlopen() and not as PostgreSQL loads
 * libraries, as that raises when there is none, and here it is no error.
 */
#include "postgres.h"

#include <dirent.h>
#include <dlfcn.h>

#include "miscadmin.h"

#include "core/settings.h"
#include "transport/rdma.h"

#define MODULE_NAME "fragaffinity_rdma"

static FaRdmaOptions rdma_options;

static const FaRdmaHost rdma_host = {
	.options = &rdma_options,
	.fail = fa_channel_fail,
};

/* The kernel's list; where it is empty, the libraries would only complain. */
static bool
rdma_has_device(void)
{
	DIR		   *dir = opendir("/sys/class/infiniband");
	struct dirent *entry;
	bool		found = false;

	while (dir && !found && (entry = readdir(dir)) != NULL)
		found = entry->d_name[0] != '.';
	if (dir)
		(void) closedir(dir);
	return found;
}

static FaTransportStatus
rdma_load(FaChannel *channel, const FaTransportOps **ops_p)
{
	static const FaTransportOps *loaded = NULL;
	char		path[MAXPGPATH];
	void	   *module;
	FaRdmaModuleFunction function;

	if (loaded == NULL)
	{
		snprintf(path, sizeof(path), "%s/" MODULE_NAME "%s", pkglib_path,
				 DLSUFFIX);
		module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
		if (module == NULL)
			return fa_channel_fail(channel, FA_TRANSPORT_UNFIT, "%s", dlerror());
		/* the way that POSIX has for functions */
		*(void **) &function = dlsym(module, FA_RDMA_MODULE_SYMBOL);
		loaded = function ? function(FA_RDMA_MODULE_VERSION, &rdma_host) : NULL;
		if (loaded == NULL || loaded->size != sizeof(FaTransportOps))
		{
			loaded = NULL;
			(void) dlclose(module);
			return fa_channel_fail(channel, FA_TRANSPORT_UNFIT,
								   "\"%s\" is of another version", path);
		}
	}
	*ops_p = loaded;
	return FA_TRANSPORT_OK;
}

/* From here on, the channel's operations are the module's. */
static FaTransportStatus
rdma_open(FaChannel *channel)
{
	FaTransportStatus status;

	if (!rdma_has_device())
		return fa_channel_fail(channel, FA_TRANSPORT_UNFIT,
							   "this server has no RDMA device");
	status = rdma_load(channel, &channel->ops);
	rdma_options.address = fa_rdma_address;
	rdma_options.port = fa_rdma_port;
	rdma_options.streams = fa_rdma_streams;
	rdma_options.staging_kb = fa_rdma_staging_kb;
	return status == FA_TRANSPORT_OK ? channel->ops->open(channel) : status;
}

/* Only a channel that could not be opened comes to these. */
static FaTransportStatus
rdma_listen(FaChannel *channel, FaTransportAddress *address_p)
{
	return FA_TRANSPORT_UNFIT;
}

static FaTransportStatus
rdma_connect(FaChannel *channel, const FaTransportAddress *address)
{
	return FA_TRANSPORT_UNFIT;
}

static FaTransportStatus
rdma_reserve(FaChannel *channel, Size len, char **memory_p)
{
	return FA_TRANSPORT_UNFIT;
}

static FaTransportStatus
rdma_post(FaChannel *channel, const FaTransportPiece *pieces, int npieces,
		  uint64 cookie)
{
	return FA_TRANSPORT_UNFIT;
}

static FaTransportStatus
rdma_poll(FaChannel *channel, FaTransportEvent *event_p)
{
	return FA_TRANSPORT_UNFIT;
}

static FaTransportStatus
rdma_release(FaChannel *channel)
{
	return FA_TRANSPORT_UNFIT;
}

static int
rdma_fds(FaChannel *channel, FaTransportFd *fd)
{
	return 0;
}

static void
rdma_close(FaChannel *channel)
{
}

const FaTransportOps fa_transport_rdma = {
	.size = sizeof(FaTransportOps),
	.name = "rdma",
	.capabilities = FA_TRANSPORT_GATHER | FA_TRANSPORT_SHARED,
	.channel_size = sizeof(FaRdmaChannel),
	.open = rdma_open,
	.listen = rdma_listen,
	.connect = rdma_connect,
	.register_memory = fa_transport_registers_nothing,
	.reserve = rdma_reserve,
	.post = rdma_post,
	.poll = rdma_poll,
	.release = rdma_release,
	.fds = rdma_fds,
	.close = rdma_close,
};
