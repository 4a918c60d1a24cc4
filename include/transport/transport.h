/*
 * transport.h
 *	  Messages from the source of a move to its destination, over whatever
 *	  reaches there fastest.
 *
 * A channel carries messages (frames of pages, opaque here) one way, between
 * two processes that also share a libpq connection:
 *
 *	receiver	the mover, a client of the source; has the libpq connection
 *	sender		the source's backend that serves this connection
 *
 * All control goes over that connection, which is authenticated and, where so
 * configured, encrypted; a transport's own wire carries nothing but messages
 * and what it takes to move them.  A channel comes into being like this:
 *
 *	1. receiver	listen(): makes the memory that messages arrive in, and an
 *				address: where, which keys, and a secret for this channel
 *	2. receiver	sends the address: open_transport(name, address, max_message)
 *	3. sender	connect() to the address, until OK; shows the secret.  The
 *				receiver calls poll() meanwhile, which lets the sender in
 *	4. sender	ends the statement, with why it is not to be in the end; then
 *				the receiver takes the next transport of its list
 *	5. sender	reserve() room for a message, write it there, post() it
 *	6. receiver	poll() for messages; release() each, which lets the sender
 *				have its room again
 *	7. either	close()
 *
 * Messages arrive whole, once and in their order, or not at all and the
 * channel is broken: then it is closed, and the move fails.  A transport does
 * not repair, and does not believe its peer: every length, position and key
 * that comes from there is checked against what this side knows.  What is in
 * a message is checked by the page room.
 *
 * Operations never raise, log, block or serve interrupts, so that they can be
 * called with work half done: they return a status, and the words for it are
 * in the channel.  Waiting is fa_channel_wait()'s, which serves interrupts.
 * There are no threads: what a transport waits for are descriptors.
 */
#ifndef FA_TRANSPORT_TRANSPORT_H
#define FA_TRANSPORT_TRANSPORT_H

#include "datatype/timestamp.h"

#include "node/remote.h"

/* Most bytes of an address; it goes as bytea. */
#define FA_TRANSPORT_ADDRESS_MAX	1024
/* Descriptors that a channel waits for, at most. */
#define FA_TRANSPORT_FDS			4
#define FA_TRANSPORT_NAME_MAX		16

typedef enum FaTransportStatus
{
	FA_TRANSPORT_OK,
	/*
	 * Not now: no room, nothing there, not connected yet.  From this return
	 * on, news makes one of the descriptors ready; so a caller may sleep.
	 */
	FA_TRANSPORT_AGAIN,
	/* Not between these two processes: another transport has to do. */
	FA_TRANSPORT_UNFIT,
	/* All below break the channel: only close() is left. */
	FA_TRANSPORT_LOST,			/* the peer has closed it or is gone */
	FA_TRANSPORT_VIOLATION,		/* the peer does not keep to the protocol */
	FA_TRANSPORT_NO_MEMORY,		/* none to be had, or none to be pinned */
	FA_TRANSPORT_IO				/* a call to the system or a device failed */
} FaTransportStatus;

/* What a transport can do. */
#define FA_TRANSPORT_GATHER		0x01	/* post() takes registered memory */
#define FA_TRANSPORT_ONE_HOST	0x02	/* both processes on one */
/*
 * The peer can still write to a message that has arrived: a receiver copies
 * first, and checks and uses the copy.
 */
#define FA_TRANSPORT_SHARED		0x04
/*
 * Messages are rows of the result of the statement that the sender executes;
 * see fa_stream_row().
 */
#define FA_TRANSPORT_ROWS		0x08

typedef struct FaChannel FaChannel;

typedef struct FaTransportAddress
{
	int			len;
	char		data[FA_TRANSPORT_ADDRESS_MAX];
} FaTransportAddress;

/* A part of a message, in memory of the sender. */
typedef struct FaTransportPiece
{
	const char *data;
	Size		len;
} FaTransportPiece;

typedef enum FaTransportEventKind
{
	FA_TRANSPORT_ARRIVED,		/* at the receiver: a message */
	FA_TRANSPORT_SENT			/* at the sender: registered memory is free */
} FaTransportEventKind;

typedef struct FaTransportEvent
{
	FaTransportEventKind kind;
	/* of a message; the receiver's until release() */
	char	   *data;
	Size		len;
	/* of a post whose memory, and of all before it, is free again */
	uint64		cookie;
} FaTransportEvent;

typedef struct FaTransportFd
{
	int			fd;
	uint32		events;			/* WL_SOCKET_READABLE, WL_SOCKET_WRITEABLE */
} FaTransportFd;

/* A transport.  All functions are there; what it cannot do is a stub. */
typedef struct FaTransportOps
{
	Size		size;			/* of this struct, as its maker knows it */
	const char *name;			/* as in the setting "transports" */
	uint32		capabilities;
	Size		channel_size;	/* of the struct that begins with FaChannel */

	/*
	 * Can this process use it at all?  Before listen() and connect().  UNFIT
	 * where there is no device, no library, no such system.
	 */
	FaTransportStatus (*open) (FaChannel *channel);

	/* Receiver: memory for messages; the address for the sender. */
	FaTransportStatus (*listen) (FaChannel *channel,
								 FaTransportAddress *address_p);

	/*
	 * Sender: OK when messages can go, which also sets channel->up.  While it
	 * is AGAIN, to be called again with the same address.
	 */
	FaTransportStatus (*connect) (FaChannel *channel,
								  const FaTransportAddress *address);

	/*
	 * Sender, GATHER only: memory (shared buffers, say) that posts may take
	 * pieces from.  Stays registered with the process, without any right of
	 * the peer's, and again is no error.  UNFIT: copy into reserved room.
	 */
	FaTransportStatus (*register_memory) (FaChannel *channel, void *memory,
										  Size len);

	/*
	 * Sender: room for the next message, of at most channel->max_message
	 * bytes, aligned to MAXIMUM_ALIGNOF, the sender's until post().  AGAIN
	 * while the receiver has not released enough (credits).  A second call
	 * without a post between takes the place of the first.
	 */
	FaTransportStatus (*reserve) (FaChannel *channel, Size len,
								  char **memory_p);

	/*
	 * Sender: the message is the pieces, one after another.  Without GATHER
	 * it is one piece, which begins where the reserved room does.  With it,
	 * up to channel->max_pieces, each within the reserved room or registered
	 * memory; the latter must stay as it is until poll() returns SENT with
	 * this cookie or a later one.  Cookies ascend.  Never AGAIN after
	 * reserve().
	 */
	FaTransportStatus (*post) (FaChannel *channel,
							   const FaTransportPiece *pieces, int npieces,
							   uint64 cookie);

	/*
	 * Next event; takes the transport's own business further (accepts the
	 * sender, sets channel->up, counts credits).  A sender without GATHER
	 * gets none but learns here that its peer is gone.
	 */
	FaTransportStatus (*poll) (FaChannel *channel, FaTransportEvent *event_p);

	/* Receiver: is done with the oldest message that it has not released. */
	FaTransportStatus (*release) (FaChannel *channel);

	/* What to wait for after AGAIN; how many. */
	int			(*fds) (FaChannel *channel, FaTransportFd *fd);

	/*
	 * Gives everything back, withdraws the peer's rights first; in any state,
	 * also of a channel that open() has refused, and never twice.
	 */
	void		(*close) (FaChannel *channel);
} FaTransportOps;

/* What all transports know; each one's own struct begins with it. */
struct FaChannel
{
	const FaTransportOps *ops;
	bool		receiver;
	bool		up;				/* messages can go */
	Size		max_message;	/* bytes; both sides open with the same */
	int			max_pieces;		/* of a post; set by open(), 1 without GATHER */
	FaConn	   *conn;			/* receiver: to the sender */
	uint64		messages;		/* posted or arrived */
	uint64		bytes;
	uint64		waits;			/* fa_channel_wait() that did sleep */
	TimestampTz wake_at;		/* poll again then, whatever fds say; 0: no */
	/* why an operation did not succeed: a phrase; never holds a secret */
	char		why[256];
	MemoryContextCallback callback; /* closes it with its context */
};

/* in channel.c */

/*
 * A channel of the current memory context; closed with it at the latest.  conn
 * is the receiver's, NULL for a sender.  The channel is there whatever
 * *status_p says.  Raises only OUT_OF_MEMORY.
 */
extern FaChannel *fa_channel_open(const FaTransportOps *ops, bool receiver,
								  FaConn *conn, Size max_message,
								  FaTransportStatus *status_p);
extern void fa_channel_close(FaChannel *channel);

/*
 * Sleeps until the channel has news, or the socket (PGINVALID_SOCKET: none)
 * is readable, or the latch is set, at most timeout_ms (-1: no limit).  Serves
 * interrupts.  To be called after AGAIN, and then whatever returned it again.
 */
extern void fa_channel_wait(FaChannel *channel, pgsocket socket,
							long timeout_ms);

/*
 * For transports: sets why, and returns the status.  %m is errno's text.
 */
extern FaTransportStatus fa_channel_fail(FaChannel *channel,
										 FaTransportStatus status,
										 const char *fmt,...) pg_attribute_printf(3, 4);

/*
 * For the rooms above: raises what broke the channel, by STYLE's SQLSTATEs:
 * CONNECTION_FAILURE, PROTOCOL_VIOLATION, OUT_OF_MEMORY, IO_ERROR.
 */
FA_NORETURN extern void fa_channel_raise(const FaChannel *channel,
										 FaTransportStatus status);

/* Stubs. */
extern FaTransportStatus fa_transport_no_memory_registered(FaChannel *channel,
														   void *memory,
														   Size len);
extern int	fa_transport_no_fds(FaChannel *channel, FaTransportFd *fd);

/* in transports.c: by name; NULL when there is none in this build */
extern const FaTransportOps *fa_transport_find(const char *name);

/* in negotiate.c */

/*
 * Receiver: the first of the names ("shm,stream") that works between here and
 * the peer; conn must be idle.  Always ends with one, as "stream" does
 * wherever conn does; *why_p says what became of those before it ("" when it
 * was the first).  In the current memory context.
 */
extern FaChannel *fa_channel_negotiate(FaConn *conn, const char *names,
									   Size max_message, char **why_p);

/* Sender: the channel of this session, which open_transport() made. */
extern FaChannel *fa_channel_of_session(void);

/* Transports. */
extern const FaTransportOps fa_shm_ops;		/* in shm.c */
extern const FaTransportOps fa_stream_ops;	/* in stream.c */

/*
 * in stream.c, at the sender: the message that was posted last, as the row to
 * return (a bytea); NULL when there is none.  Its room is free at the next
 * reserve().
 */
extern void *fa_stream_row(FaChannel *channel);

#endif							/* FA_TRANSPORT_TRANSPORT_H */
