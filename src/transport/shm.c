/*
 * shm.c
 *	  The transport between servers on one host: a ring in memory that both
 *	  map.
 *
 * The memory has no name, so nothing is left of it whoever is killed when: it
 * is a file of the kernel's alone, which goes from the receiver to the sender
 * over a local socket.  The socket is what proves that they are on one host
 * and belong to one user, by the kernel's word, and each is told of the
 * other's end by it.
 *
 *	1. receiver	makes the memory, of a size that nobody can change any more (a
 *				peer that cut it off would crash us), and listens at a random
 *				name of the abstract kind, which vanishes with its socket
 *	2. sender	connects, sees that the other is of its own user, and sends the
 *				channel's secret
 *	3. receiver	sees the same, and sends the memory's descriptor
 *	4. sender	sees that it is of the right kind and size, and maps it
 *
 * From then on a byte over the socket means "look at the ring", and is sent
 * only to one who said that it sleeps.  An end of the socket is the end of the
 * channel, for the receiver after it has read what is in the ring.
 *
 * Who is of the same user can read this server's files and stop its processes
 * anyway; the rest of the host gets no descriptor, and so no page.
 */
#include "postgres.h"

#include <fcntl.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "storage/fd.h"
#include "utils/builtins.h"

#include "transport/ring.h"
#include "transport/transport.h"

#define SHM_MAGIC		0x46415348
#define SHM_VERSION		1		/* of the address, the hello and the ring */
#define SHM_NAME		"fragaffinity/"
#define SHM_NAME_RANDOM	16		/* bytes, written as twice as many */
#define SHM_FDS			2		/* at a time, of the server's budget */

typedef struct ShmAddress
{
	uint32		magic;
	uint32		version;
	char		name[64];		/* of the socket, without its leading zero */
} ShmAddress;

typedef struct ShmHello
{
	uint32		magic;
	uint32		version;
	char		secret[FA_TRANSPORT_SECRET];
} ShmHello;

typedef struct ShmChannel
{
	FaChannel	base;
	int			budget;			/* descriptors that the server knows of */
	pgsocket	listener;		/* receiver, until the sender is in */
	pgsocket	peer;
	bool		greeted;		/* sender: hello is sent */
	int			memory_fd;		/* receiver, until the sender has it */
	void	   *memory;
	Size		memory_size;
	FaRingEnd	ring;
} ShmChannel;

/* The kinds of files and sockets that this takes are Linux's. */
#if defined(__linux__) && defined(MFD_ALLOW_SEALING) && SIZEOF_VOID_P == 8
#define SHM_SEALS (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)

static void
shm_close_fd(FaChannel *channel, int *fd)
{
	if (*fd < 0)
		return;
	(void) close(*fd);
	*fd = -1;
	fa_channel_fds_changed(channel);
}

static FaTransportStatus
shm_open_channel(FaChannel *channel)
{
	ShmChannel *shm = (ShmChannel *) channel;

	shm->listener = shm->peer = shm->memory_fd = -1;
	shm->memory_size = fa_ring_memory(channel->max_message);
	for (; shm->budget < SHM_FDS; shm->budget++)
	{
		if (!AcquireExternalFD())
			return fa_channel_fail(channel, FA_TRANSPORT_UNFIT,
								   "too many files are open");
	}
	return FA_TRANSPORT_OK;
}

static FaTransportStatus
shm_map(ShmChannel *shm, int fd)
{
	void	   *memory = mmap(NULL, shm->memory_size, PROT_READ | PROT_WRITE,
							  MAP_SHARED, fd, 0);

	if (memory == MAP_FAILED)
		return fa_channel_fail(&shm->base, FA_TRANSPORT_UNFIT,
							   "could not map memory: %m");
	shm->memory = memory;
	fa_ring_attach(&shm->ring, memory, shm->base.max_message);
	return FA_TRANSPORT_OK;
}

/* Memory that is there (no signal for want of it later) and stays as it is. */
static FaTransportStatus
shm_make_memory(ShmChannel *shm)
{
	int			rc;

	shm->memory_fd = memfd_create("fragaffinity", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (shm->memory_fd < 0)
		return fa_channel_fail(&shm->base, FA_TRANSPORT_UNFIT,
							   "could not make shared memory: %m");
	while ((rc = posix_fallocate(shm->memory_fd, 0, shm->memory_size)) == EINTR)
		;
	errno = rc;
	if (rc != 0)
		return fa_channel_fail(&shm->base, FA_TRANSPORT_UNFIT,
							   "could not get %zu bytes of shared memory: %m",
							   shm->memory_size);
	if (fcntl(shm->memory_fd, F_ADD_SEALS, SHM_SEALS) < 0)
		return fa_channel_fail(&shm->base, FA_TRANSPORT_UNFIT,
							   "could not seal shared memory: %m");
	return shm_map(shm, shm->memory_fd);
}

static socklen_t
shm_socket_address(struct sockaddr_un *un, const char *name)
{
	memset(un, 0, sizeof(*un));
	un->sun_family = AF_UNIX;
	/* the abstract kind begins with a zero, and has no other */
	strlcpy(un->sun_path + 1, name, sizeof(un->sun_path) - 1);
	return offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name);
}

static pgsocket
shm_socket(void)
{
	return socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

static FaTransportStatus
shm_listen(FaChannel *channel, FaTransportAddress *address_p)
{
	ShmChannel *shm = (ShmChannel *) channel;
	ShmAddress	address = {.magic = SHM_MAGIC, .version = SHM_VERSION};
	FaTransportStatus status = shm_make_memory(shm);
	char		random[SHM_NAME_RANDOM];
	struct sockaddr_un un;
	socklen_t	len;

	if (status != FA_TRANSPORT_OK)
		return status;
	if (!pg_strong_random(random, sizeof(random)))
		return fa_channel_fail(channel, FA_TRANSPORT_UNFIT,
							   "could not generate random values");
	strcpy(address.name, SHM_NAME);
	(void) hex_encode(random, sizeof(random),
					  address.name + strlen(SHM_NAME));
	len = shm_socket_address(&un, address.name);
	shm->listener = shm_socket();
	if (shm->listener < 0 ||
		bind(shm->listener, (struct sockaddr *) &un, len) < 0 ||
		listen(shm->listener, 4) < 0)
		return fa_channel_fail(channel, FA_TRANSPORT_UNFIT,
							   "could not listen at a local socket: %m");
	address_p->len = sizeof(address);
	memcpy(address_p->data, &address, sizeof(address));
	return FA_TRANSPORT_OK;
}

/* Does our own user run the process at the other end, when it connected? */
static bool
shm_is_own_user(pgsocket socket)
{
	struct ucred cred;
	socklen_t	len = sizeof(cred);

	return getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
		len == sizeof(cred) && cred.uid == geteuid();
}

static FaTransportStatus
shm_gone(ShmChannel *shm)
{
	return fa_channel_fail(&shm->base, FA_TRANSPORT_LOST,
						   "the other process has closed it or is gone");
}

/* Sends a message with or without a descriptor; never waits. */
static bool
shm_send(pgsocket socket, const void *data, Size len, int fd)
{
	struct iovec iov = {.iov_base = unconstify(void *, data), .iov_len = len};
	union
	{
		struct cmsghdr header;
		char		space[CMSG_SPACE(sizeof(int))];
	}			control;
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd >= 0)
	{
		memset(&control, 0, sizeof(control));
		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(int));
	}
	return sendmsg(socket, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t) len;
}

/*
 * Receives a message of the socket: its length, 0 when the peer is gone, -1
 * when there is none.  A descriptor goes to *fd_p; with NULL none is let in.
 */
static ssize_t
shm_receive(pgsocket socket, void *data, Size len, int *fd_p)
{
	struct iovec iov = {.iov_base = data, .iov_len = len};
	union
	{
		struct cmsghdr header;
		char		space[CMSG_SPACE(sizeof(int))];
	}			control;
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *c;
	ssize_t		n;

	if (fd_p)
	{
		/* room for one: the kernel closes what is more */
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_LEN(sizeof(int));
	}
	do
		n = recvmsg(socket, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN || errno == EWOULDBLOCK ? -1 : 0;
	c = fd_p ? CMSG_FIRSTHDR(&msg) : NULL;
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
		c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(fd_p, CMSG_DATA(c), sizeof(int));
	return n;
}

/* Lets the sender in: steps 2 and 3, at the receiver. */
static FaTransportStatus
shm_accept(ShmChannel *shm)
{
	FaChannel  *channel = &shm->base;
	ShmHello	hello;
	ssize_t		n;

	if (shm->peer < 0)
	{
		shm->peer = accept4(shm->listener, NULL, NULL,
							SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (shm->peer < 0)
			return FA_TRANSPORT_AGAIN;
		fa_channel_fds_changed(channel);
	}
	n = shm_is_own_user(shm->peer) ?
		shm_receive(shm->peer, &hello, sizeof(hello), NULL) : 0;
	if (n < 0)
		return FA_TRANSPORT_AGAIN;
	if (n != sizeof(hello) || hello.magic != SHM_MAGIC ||
		hello.version != SHM_VERSION ||
		memcmp(hello.secret, channel->secret, sizeof(hello.secret)) != 0 ||
		!shm_send(shm->peer, &hello.version, sizeof(hello.version), shm->memory_fd))
	{
		/* some other; ours may still come */
		shm_close_fd(channel, &shm->peer);
		return FA_TRANSPORT_AGAIN;
	}
	shm_close_fd(channel, &shm->memory_fd);
	shm_close_fd(channel, &shm->listener);
	channel->up = true;
	return FA_TRANSPORT_OK;
}

/* The sender's half of it, until the memory is there. */
static FaTransportStatus
shm_get_memory(ShmChannel *shm)
{
	FaChannel  *channel = &shm->base;
	FaTransportStatus status;
	uint32		version = 0;
	int			fd = -1;
	ssize_t		n = shm_receive(shm->peer, &version, sizeof(version), &fd);
	struct stat st;

	if (n < 0)
		return FA_TRANSPORT_AGAIN;
	if (fd < 0 || n != sizeof(version) || version != SHM_VERSION)
		status = fa_channel_fail(channel, FA_TRANSPORT_UNFIT,
								 "the receiver did not let it in");
	else if (fstat(fd, &st) < 0 || st.st_size != (off_t) shm->memory_size ||
			 (fcntl(fd, F_GET_SEALS) & SHM_SEALS) != SHM_SEALS)
		status = fa_channel_fail(channel, FA_TRANSPORT_UNFIT,
								 "the receiver's memory is not as it must be");
	else
		status = shm_map(shm, fd);
	if (fd >= 0)
		(void) close(fd);
	return status;
}

static FaTransportStatus
shm_connect(FaChannel *channel, const FaTransportAddress *data)
{
	ShmChannel *shm = (ShmChannel *) channel;
	ShmAddress	address;
	ShmHello	hello = {.magic = SHM_MAGIC, .version = SHM_VERSION};
	FaTransportStatus status;
	struct sockaddr_un un;
	socklen_t	len;

	if (shm->greeted)
	{
		status = shm_get_memory(shm);
		channel->up = status == FA_TRANSPORT_OK;
		return status;
	}
	if (data->len != sizeof(address))
		return fa_channel_fail(channel, FA_TRANSPORT_UNFIT, "invalid address");
	memcpy(&address, data->data, sizeof(address));
	if (address.magic != SHM_MAGIC || address.version != SHM_VERSION ||
		memchr(address.name, '\0', sizeof(address.name)) == NULL)
		return fa_channel_fail(channel, FA_TRANSPORT_UNFIT, "invalid address");
	len = shm_socket_address(&un, address.name);
	shm->peer = shm_socket();
	if (shm->peer < 0)
		return fa_channel_fail(channel, FA_TRANSPORT_UNFIT,
							   "could not make a local socket: %m");
	if (connect(shm->peer, (struct sockaddr *) &un, len) < 0)
	{
		if (errno == ECONNREFUSED)
			return fa_channel_fail(channel, FA_TRANSPORT_UNFIT,
								   "the nodes are not on one host");
		return fa_channel_fail(channel, FA_TRANSPORT_UNFIT,
							   "could not connect to a local socket: %m");
	}
	if (!shm_is_own_user(shm->peer))
		return fa_channel_fail(channel, FA_TRANSPORT_UNFIT,
							   "the nodes run as different users");
	memcpy(hello.secret, channel->secret, sizeof(hello.secret));
	if (!shm_send(shm->peer, &hello, sizeof(hello), -1))
		return fa_channel_fail(channel, FA_TRANSPORT_UNFIT,
							   "could not write to a local socket: %m");
	shm->greeted = true;
	return FA_TRANSPORT_AGAIN;
}

/* Nothing to do, as the ring says: takes the wake-ups that came before. */
static FaTransportStatus
shm_idle(ShmChannel *shm)
{
	ssize_t		n;
	char		byte;

	while ((n = shm_receive(shm->peer, &byte, 1, NULL)) > 0)
		;
	return n == 0 ? shm_gone(shm) : FA_TRANSPORT_AGAIN;
}

/* A peer that is gone is found out when it is waited for. */
static void
shm_wake(ShmChannel *shm)
{
	(void) shm_send(shm->peer, "", 1, -1);
}

static FaTransportStatus
shm_broken(ShmChannel *shm)
{
	return fa_channel_fail(&shm->base, FA_TRANSPORT_VIOLATION,
						   "the other process has written over the ring");
}

static FaTransportStatus
shm_reserve(FaChannel *channel, Size len, char **memory_p)
{
	ShmChannel *shm = (ShmChannel *) channel;
	FaRingResult result = fa_ring_reserve(&shm->ring, len, memory_p);

	if (result == FA_RING_AGAIN && shm_idle(shm) != FA_TRANSPORT_AGAIN)
		return shm_gone(shm);
	/* a wake-up that was taken just now was for what is looked at here */
	if (result == FA_RING_AGAIN)
		result = fa_ring_reserve(&shm->ring, len, memory_p);
	return result == FA_RING_OK ? FA_TRANSPORT_OK :
		result == FA_RING_AGAIN ? FA_TRANSPORT_AGAIN : shm_broken(shm);
}

static FaTransportStatus
shm_post(FaChannel *channel, const FaTransportPiece *pieces, int npieces,
		 uint64 cookie)
{
	ShmChannel *shm = (ShmChannel *) channel;

	Assert(npieces == 1 && pieces->len <= channel->max_message);
	channel->messages++;
	channel->bytes += pieces->len;
	if (fa_ring_post(&shm->ring, pieces->len))
		shm_wake(shm);
	return FA_TRANSPORT_OK;
}

static FaTransportStatus
shm_poll(FaChannel *channel, FaTransportEvent *event_p)
{
	ShmChannel *shm = (ShmChannel *) channel;
	FaTransportStatus idle = FA_TRANSPORT_AGAIN;
	FaRingResult result;

	if (!channel->receiver)
		return shm_idle(shm);
	if (!channel->up && shm_accept(shm) != FA_TRANSPORT_OK)
		return FA_TRANSPORT_AGAIN;
	result = fa_ring_read(&shm->ring, &event_p->data, &event_p->len);
	if (result == FA_RING_AGAIN)
	{
		idle = shm_idle(shm);
		result = fa_ring_read(&shm->ring, &event_p->data, &event_p->len);
	}
	if (result == FA_RING_BROKEN)
		return shm_broken(shm);
	if (result == FA_RING_AGAIN)
		return idle;
	event_p->kind = FA_TRANSPORT_ARRIVED;
	channel->messages++;
	channel->bytes += event_p->len;
	return FA_TRANSPORT_OK;
}

static FaTransportStatus
shm_release(FaChannel *channel)
{
	ShmChannel *shm = (ShmChannel *) channel;

	if (fa_ring_release(&shm->ring))
		shm_wake(shm);
	return FA_TRANSPORT_OK;
}

static int
shm_fds(FaChannel *channel, FaTransportFd *fd)
{
	ShmChannel *shm = (ShmChannel *) channel;

	fd->fd = shm->peer >= 0 ? shm->peer : shm->listener;
	fd->events = WL_SOCKET_READABLE;
	return fd->fd >= 0 ? 1 : 0;
}

static void
shm_close(FaChannel *channel)
{
	ShmChannel *shm = (ShmChannel *) channel;

	shm_close_fd(channel, &shm->listener);
	shm_close_fd(channel, &shm->peer);
	shm_close_fd(channel, &shm->memory_fd);
	if (shm->memory)
		(void) munmap(shm->memory, shm->memory_size);
	shm->memory = NULL;
	for (; shm->budget > 0; shm->budget--)
		ReleaseExternalFD();
}

const FaTransportOps fa_transport_shm = {
	.size = sizeof(FaTransportOps),
	.name = "shm",
	.capabilities = FA_TRANSPORT_ONE_HOST | FA_TRANSPORT_SHARED,
	.channel_size = sizeof(ShmChannel),
	.open = shm_open_channel,
	.listen = shm_listen,
	.connect = shm_connect,
	.register_memory = fa_transport_registers_nothing,
	.reserve = shm_reserve,
	.post = shm_post,
	.poll = shm_poll,
	.release = shm_release,
	.fds = shm_fds,
	.close = shm_close
};

#else							/* not Linux */

static FaTransportStatus
shm_open_channel(FaChannel *channel)
{
	return fa_channel_fail(channel, FA_TRANSPORT_UNFIT,
						   "it needs Linux on 64 bits");
}

static void
shm_close(FaChannel *channel)
{
}

/* A channel that cannot be opened has no other use for its functions. */
const FaTransportOps fa_transport_shm = {
	.size = sizeof(FaTransportOps),
	.name = "shm",
	.channel_size = sizeof(ShmChannel),
	.open = shm_open_channel,
	.close = shm_close
};

#endif
