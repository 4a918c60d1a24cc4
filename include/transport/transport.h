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
 *	1. sender	transport_secret(): makes a secret for channels of its session;
 *				it goes as a result, as statements get into logs and views
 *	2. receiver	listen(): makes the memory that messages arrive in, and an
 *				address: where, and which keys
 *	3. receiver	sends the address: open_transport(name, address, max_message)
 *	4. sender	connect() to the address, until OK; shows the secret.  The
 *				receiver calls poll() meanwhile, which lets the sender in
 *	5. sender	ends the statement, with why it is not to be in the end; then
 *				the receiver takes the next transport of its list
 *	6. sender	reserve() room for a message, write it there, post() it
 *	7. receiver	poll() for messages; release() each, which lets the sender
 *				have its room again
 *	8. either	close()
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
#include "storage/latch.h"

#include "node/remote.h"

/* Most bytes of an address; it goes as bytea. */
#define FA_TRANSPORT_ADDRESS_MAX	1024
#define FA_TRANSPORT_SECRET			32
/* Descriptors that a channel waits for, at most. */
#define FA_TRANSPORT_FDS			4

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
/* Messages are the rows of the statement that the sender executes. */
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
	pgsocket	fd;
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
	 * Next event; takes the transport's own business further (lets the sender
	 * in and sets channel->up, counts credits).  At the receiver, what came
	 * before the peer went comes before LOST.  A sender without GATHER gets
	 * no events but learns here that its peer is gone.
	 */
	FaTransportStatus (*poll) (FaChannel *channel, FaTransportEvent *event_p);

	/*
	 * Receiver: is done with the message; before the next poll().  Does nothing
	 * when there is none.
	 */
	FaTransportStatus (*release) (FaChannel *channel);

	/* What to wait for after AGAIN; how many. */
	int			(*fds) (FaChannel *channel, FaTransportFd *fd);

	/*
	 * Gives everything back, withdraws the peer's rights first; in any state,
	 * also of a channel that open() has refused, and never twice.
	 */
	void		(*close) (FaChannel *channel);
} FaTransportOps;

/* Columns of transport_stats, in their order; see stats.c. */
typedef enum FaTransportCounter
{
	FA_TRANSPORT_OPENED,		/* channels that came up */
	FA_TRANSPORT_REFUSED,		/* did not, so that the next was tried */
	FA_TRANSPORT_BROKEN,		/* failed after that */
	FA_TRANSPORT_MESSAGES_SENT,
	FA_TRANSPORT_BYTES_SENT,
	FA_TRANSPORT_GATHERED,
	FA_TRANSPORT_WRITES,
	FA_TRANSPORT_COMPLETIONS,
	FA_TRANSPORT_MESSAGES_RECEIVED,
	FA_TRANSPORT_BYTES_RECEIVED,
	FA_TRANSPORT_WAITS,
	FA_TRANSPORT_NCOUNTERS
} FaTransportCounter;

/* What all transports know; each one's own struct begins with it. */
struct FaChannel
{
	const FaTransportOps *ops;
	MemoryContext context;		/* that it lives in */
	bool		receiver;
	bool		up;				/* messages can go; set by the transport */
	bool		closed;
	Size		max_message;	/* bytes; both sides open with the same */
	int			max_pieces;		/* of a post; set by open(), 1 without GATHER */
	char		secret[FA_TRANSPORT_SECRET];	/* equal on both sides */
	FaConn	   *conn;			/* receiver: to the sender */
	uint64		messages;		/* posted or arrived; counted by the transport */
	uint64		bytes;
	uint64		waits;			/* fa_channel_wait() */
	uint64		sent;			/* GATHER, sender: last cookie of a SENT */

	/* GATHER, the sender's; the receiver has them since its last call */
	uint64		gathered;		/* bytes straight from registered memory */
	uint64		writes;			/* requests to the device */
	uint64		completions;	/* that it has told of */
	/* of all these, what the server's counters have */
	uint64		told[FA_TRANSPORT_NCOUNTERS];
	bool		wrapped;		/* another channel tells of them */
	TimestampTz wake_at;		/* poll again then, whatever fds say; 0: no */
	bool		copying;		/* ROWS, receiver: conn is in a COPY */
	bool		flush;			/* tests, GATHER: the device's queues are to fail */
	void	   *row;			/* ROWS, sender: the post, as a bytea to return;
								 * the taker sets it NULL */
	/* why an operation did not succeed: a phrase; never holds a secret */
	char		why[256];

	/* private to channel.c */
	MemoryContextCallback callback; /* closes it with its context */
	WaitEventSet *set;
	FaTransportFd set_fd[FA_TRANSPORT_FDS + 1];
	int			set_fds;
};

/* in channel.c */

/*
 * A channel of the current memory context; closed with it at the latest.  conn
 * is the receiver's, NULL for a sender.  The channel is there whatever
 * *status_p says.  Raises only OUT_OF_MEMORY.
 */
extern FaChannel *fa_channel_open(const FaTransportOps *ops, bool receiver,
								  FaConn *conn, Size max_message,
								  const char *secret,
								  FaTransportStatus *status_p);
/* Also of a closed one, or NULL. */
extern void fa_channel_close(FaChannel *channel);

/*
 * Sleeps until the channel has news, or the socket (PGINVALID_SOCKET: none)
 * is readable, or the latch is set, at most timeout_ms (-1: no limit).  Serves
 * interrupts.  To be called after AGAIN, and then whatever returned it again.
 */
extern void fa_channel_wait(FaChannel *channel, pgsocket socket,
							long timeout_ms);

/*
 * For transports: sets why, and returns the status.  The current errno may be
 * used as %m.
 */
extern FaTransportStatus fa_channel_fail(FaChannel *channel,
										 FaTransportStatus status,
										 const char *fmt,...) pg_attribute_printf(3, 4);

/*
 * For transports: a descriptor of fds() has been closed, and its number may
 * come back as another's.
 */
extern void fa_channel_fds_changed(FaChannel *channel);

/*
 * For the rooms above: raises what broke the channel, by its status:
 * CONNECTION_FAILURE, PROTOCOL_VIOLATION, OUT_OF_MEMORY, IO_ERROR.
 */
FA_NORETURN extern void fa_channel_raise(const FaChannel *channel,
										 FaTransportStatus status);

/* Stubs. */
extern FaTransportStatus fa_transport_registers_nothing(FaChannel *channel,
														void *memory,
														Size len);

/* in send.c, sender */

/*
 * Room for the largest message, waited for: NULL when there was none until the
 * deadline (0: raises CONNECTION_FAILURE after some time).  Raises what breaks
 * the channel.
 */
extern char *fa_channel_reserve(FaChannel *channel, TimestampTz deadline);
/* Sends len bytes from where fa_channel_reserve() was; raises. */
extern void fa_channel_post(FaChannel *channel, const char *data, Size len);
/* The same of pieces, with GATHER; returns the cookie. */
extern uint64 fa_channel_post_pieces(FaChannel *channel,
									 const FaTransportPiece *pieces,
									 int npieces);
/*
 * With GATHER: cookie of the last post whose memory is free, as of all before
 * it.  With wait, not before there has been news.  Raises.
 */
extern uint64 fa_channel_sent(FaChannel *channel, bool wait);

/* The channel of this session, which open_transport() made; raises if none. */
extern FaChannel *fa_channel_of_session(void);

/* in receive.c, receiver */

/* Gets a message; it is released after its return. */
typedef void (*FaMessageHandler) (void *arg, const char *data, Size len);

/*
 * Executes statements at the sender, which send messages, and gets all of
 * these.  With ROWS each is to be a COPY TO STDOUT (FORMAT binary) of one bytea
 * column.  Raises what the statements raise there, what breaks the channel,
 * and CONNECTION_FAILURE when nothing comes for timeout_ms.
 */
extern void fa_channel_call(FaChannel *channel, int timeout_ms,
							const char *sql, FaMessageHandler handler,
							void *arg);

/*
 * After an error of the receiver's own: forgets what statements still send, and
 * their results.  False when they do not end in time, or the channel is broken;
 * never raises.
 */
extern bool fa_channel_drain(FaChannel *channel, int timeout_ms);

/* in transports.c: by name; NULL when there is none in this build */
extern const FaTransportOps *fa_transport_find(const char *name);
/* By number, from 0, the best first; NULL after the last. */
extern const FaTransportOps *fa_transport_at(int i);

/* in negotiate.c */

/*
 * Receiver: the first of the names ("shm,stream") that works between here and
 * the peer; conn must be idle.  *why_p says what became of those before it (""
 * when it was the first).  NULL when none works.  In the current memory context.
 * Raises what breaks conn.
 */
extern FaChannel *fa_channel_negotiate(FaConn *conn, const char *names,
									   Size max_message, char **why_p);

/* Transports. */
extern const FaTransportOps fa_transport_shm;	/* in shm.c */
extern const FaTransportOps fa_transport_stream;	/* in stream.c */

/*
 * in fault.c: a channel that does to this one's messages what the variable
 * fragaffinity.transport_faults says; the same channel when it says nothing.
 */
extern FaChannel *fa_transport_with_faults(FaChannel *channel);

#endif							/* FA_TRANSPORT_TRANSPORT_H */
