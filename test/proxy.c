/*
 * proxy.c
 *	  TCP proxy for tests: delays, stalls or cuts the links to nodes.
 *
 * usage: proxy [--delay MS] [--distance A-B=MS]... --control SOCKET HOST:PORT...
 *
 * Listens on a free loopback port for each HOST:PORT (link 1, 2, ...), prints
 * "pid N" and "link I port P" lines, and forwards.  MS is added to each round
 * trip, half in either direction, whatever the amount of data.  Commands come
 * over the Unix socket, one a connection, answered by "ok" or "error ...":
 *
 *	delay LINK MS	delay from now on
 *	rate LINK KBS	no connection gets more than so many kB a second in either
 *					direction; 0: no limit, as at first
 *	stall LINK		nothing passes any more, nobody is told (a lost network)
 *	cut LINK		resets the connections and refuses new ones (a lost host)
 *	heal LINK		as before; what was stalled arrives
 *
 * LINK 0 means all.  The proxy ends on SIGTERM.
 *
 * A distance replaces the delay for connections to node A that node B opens,
 * and the other way round: a node's connections say where they come from by
 * "-c fragaffinity.origin=B" in their startup packet.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_LINKS 64
#define MAX_CONNS 2048
#define CHUNK 65536
#define MAX_QUEUED (4 * 1024 * 1024)

typedef struct Chunk
{
	struct Chunk *next;
	long long	due;			/* ns, monotonic */
	size_t		len;
	size_t		sent;
	char		data[];
} Chunk;

/* One direction of a connection. */
typedef struct Pipe
{
	int			from;
	int			to;
	Chunk	   *head;
	Chunk	   *tail;
	size_t		queued;
	long long	last_due;		/* of all that has come */
	bool		eof;			/* from has ended */
	bool		closed;			/* and to has been told */
} Pipe;

typedef struct Conn
{
	int			link;
	bool		started;		/* the startup packet has been seen */
	int			origin;			/* node that it names; 0: none */
	Pipe		pipe[2];
} Conn;

typedef struct Link
{
	int			listener;
	struct sockaddr_in target;
	long long	delay;			/* ns, each direction */
	double		byte_ns;		/* that a byte takes; 0: no limit */
	bool		stalled;
	bool		cut;
} Link;

static Link links[MAX_LINKS];
static int	nlinks;
static long long distances[MAX_LINKS + 1][MAX_LINKS + 1];	/* ns each
															 * direction; -1:
															 * not given */
static Conn conns[MAX_CONNS];
static int	nconns;
static volatile sig_atomic_t done;

static void
die(const char *what)
{
	fprintf(stderr, "proxy: %s: %s\n", what, strerror(errno));
	exit(1);
}

static long long
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void
on_term(int sig)
{
	(void) sig;
	done = 1;
}

static void
set_nonblocking(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static void
close_conn(int i, bool reset)
{
	Conn	   *c = &conns[i];

	for (int d = 0; d < 2; d++)
	{
		Chunk	   *next;

		for (Chunk *k = c->pipe[d].head; k; k = next)
		{
			next = k->next;
			free(k);
		}
		if (reset)
		{
			struct linger hard = {1, 0};

			setsockopt(c->pipe[d].from, SOL_SOCKET, SO_LINGER, &hard,
					   sizeof(hard));
		}
		close(c->pipe[d].from);
	}
	conns[i] = conns[--nconns];
}

static int
listen_on(Link *l)
{
	struct sockaddr_in addr = {.sin_family = AF_INET};
	socklen_t	len = sizeof(addr);

	addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	/* below the range of outgoing connections */
	for (int tries = 0; tries < 1000; tries++)
	{
		l->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		addr.sin_port = htons(10240 + rand() % 21000);
		if (bind(l->listener, (struct sockaddr *) &addr, len) == 0 &&
			listen(l->listener, 128) == 0)
		{
			set_nonblocking(l->listener);
			return ntohs(addr.sin_port);
		}
		close(l->listener);
	}
	die("no free port");
	return 0;
}

static void
accept_conn(int link)
{
	int			client = accept(links[link].listener, NULL, NULL);
	int			server;
	int			one = 1;
	Conn	   *c;

	if (client < 0)
		return;
	if (links[link].cut || nconns == MAX_CONNS)
	{
		struct linger hard = {1, 0};

		setsockopt(client, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
		close(client);
		return;
	}
	/* Loopback: connects or is refused at once. */
	server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(server, (struct sockaddr *) &links[link].target,
				sizeof(links[link].target)) != 0)
	{
		close(server);
		close(client);
		return;
	}
	set_nonblocking(client);
	set_nonblocking(server);
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	c = &conns[nconns++];
	memset(c, 0, sizeof(*c));
	c->link = link;
	c->pipe[0].from = c->pipe[1].to = client;
	c->pipe[0].to = c->pipe[1].from = server;
}

/* Looks for the origin in the first bytes that a client sends. */
static void
find_origin(Conn *c)
{
	static const char name[] = "fragaffinity.origin=";
	Chunk	   *k = c->pipe[0].tail;
	char	   *at;
	char		text[8] = "";

	/* 8 bytes: asks for encryption or cancels; a startup packet may follow. */
	if (!k || k->len <= 8)
		return;
	c->started = true;
	at = memmem(k->data, k->len, name, strlen(name));
	if (!at)
		return;
	at += strlen(name);
	for (int i = 0; i < 7 && at + i < k->data + k->len; i++)
		text[i] = at[i];
	c->origin = atoi(text);
}

static long long
conn_delay(const Conn *c)
{
	if (c->origin > 0 && c->origin <= nlinks &&
		distances[c->origin][c->link + 1] >= 0)
		return distances[c->origin][c->link + 1];
	return links[c->link].delay;
}

/* Returns false when the connection is broken. */
static bool
read_pipe(Pipe *p, long long due, double byte_ns)
{
	Chunk	   *k = malloc(sizeof(Chunk) + CHUNK);
	ssize_t		n = read(p->from, k->data, CHUNK);

	if (n <= 0)
	{
		bool		again = n < 0 && (errno == EAGAIN || errno == EINTR);

		free(k);
		if (n < 0 && !again)
			return false;
		p->eof = n == 0;
		return true;
	}
	k = realloc(k, sizeof(Chunk) + n);
	k->next = NULL;
	k->len = n;
	k->sent = 0;
	if (byte_ns > 0 && due < p->last_due)
		due = p->last_due;
	k->due = p->last_due = due + (long long) (n * byte_ns);
	if (p->tail)
		p->tail->next = k;
	else
		p->head = k;
	p->tail = k;
	p->queued += n;
	return true;
}

/* Sends what is due; returns false when the connection is broken. */
static bool
write_pipe(Pipe *p, long long now)
{
	while (p->head && p->head->due <= now)
	{
		Chunk	   *k = p->head;
		ssize_t		n = send(p->to, k->data + k->sent, k->len - k->sent,
							 MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		k->sent += n;
		p->queued -= n;
		if (k->sent == k->len)
		{
			p->head = k->next;
			if (!p->head)
				p->tail = NULL;
			free(k);
		}
	}
	if (p->eof && !p->head && !p->closed)
	{
		shutdown(p->to, SHUT_WR);
		p->closed = true;
	}
	return true;
}

static const char *
obey(char *line)
{
	char		verb[16] = "";
	int			link = -1;
	double		ms = -1;

	if (sscanf(line, "%15s %d %lf", verb, &link, &ms) < 2 ||
		link < 0 || link > nlinks)
		return "error bad command or link\n";
	for (int i = 0; i < nlinks; i++)
	{
		Link	   *l = &links[i];

		if (link != 0 && link != i + 1)
			continue;
		if (strcmp(verb, "delay") == 0 && ms >= 0)
			l->delay = (long long) (ms * 1e6 / 2);
		else if (strcmp(verb, "rate") == 0 && ms >= 0)
			l->byte_ns = ms > 0 ? 1e6 / ms : 0;
		else if (strcmp(verb, "stall") == 0)
			l->stalled = true;
		else if (strcmp(verb, "cut") == 0)
		{
			l->cut = true;
			for (int c = nconns - 1; c >= 0; c--)
				if (conns[c].link == i)
					close_conn(c, true);
		}
		else if (strcmp(verb, "heal") == 0)
			l->stalled = l->cut = false;
		else
			return "error bad command\n";
	}
	return "ok\n";
}

static void
serve_control(int listener)
{
	int			fd = accept(listener, NULL, NULL);
	char		line[128];
	size_t		len = 0;
	ssize_t		n;
	struct timeval limit = {1, 0};
	const char *answer;

	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	while (len < sizeof(line) - 1 &&
		   (n = read(fd, line + len, sizeof(line) - 1 - len)) > 0)
	{
		len += n;
		if (line[len - 1] == '\n')
			break;
	}
	line[len] = '\0';
	answer = obey(line);
	if (write(fd, answer, strlen(answer)) < 0)
		fprintf(stderr, "proxy: control: %s\n", strerror(errno));
	close(fd);
}

static int
open_control(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int			fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(addr.sun_path))
	{
		errno = ENAMETOOLONG;
		die(path);
	}
	strcpy(addr.sun_path, path);
	unlink(path);
	if (bind(fd, (struct sockaddr *) &addr, sizeof(addr)) != 0 ||
		listen(fd, 8) != 0)
		die(path);
	return fd;
}

static void
parse_target(const char *text, struct sockaddr_in *addr)
{
	char		host[64];
	int			port;

	memset(addr, 0, sizeof(*addr));
	addr->sin_family = AF_INET;
	if (sscanf(text, "%63[^:]:%d", host, &port) != 2 ||
		inet_pton(AF_INET, host, &addr->sin_addr) != 1)
	{
		fprintf(stderr, "proxy: \"%s\" is not ADDRESS:PORT\n", text);
		exit(2);
	}
	addr->sin_port = htons(port);
}

static void
parse_distance(const char *text)
{
	int			a,
				b;
	double		ms;

	if (sscanf(text, "%d-%d=%lf", &a, &b, &ms) != 3 || a < 1 || b < 1 ||
		a > MAX_LINKS || b > MAX_LINKS || ms < 0)
	{
		fprintf(stderr, "proxy: \"%s\" is not A-B=MS\n", text);
		exit(2);
	}
	distances[a][b] = distances[b][a] = (long long) (ms * 1e6 / 2);
}

/* One turn: wait for something to do, do it. */
static void
turn(int control)
{
	static struct pollfd fds[1 + MAX_LINKS + 2 * MAX_CONNS];
	int			nfds = 0;
	int			polled = nconns;
	long long	now = now_ns();
	long long	wake = -1;
	struct timespec wait;

	fds[nfds++] = (struct pollfd) {control, POLLIN, 0};
	for (int i = 0; i < nlinks; i++)
		fds[nfds++] = (struct pollfd) {links[i].listener, POLLIN, 0};
	for (int i = 0; i < nconns; i++)
	{
		for (int d = 0; d < 2; d++)
		{
			Pipe	   *p = &conns[i].pipe[d];
			Pipe	   *back = &conns[i].pipe[1 - d];
			short		events = 0;

			if (!p->eof && p->queued < MAX_QUEUED)
				events |= POLLIN;
			if (!links[conns[i].link].stalled && back->head)
			{
				if (back->head->due <= now)
					events |= POLLOUT;
				else if (wake < 0 || back->head->due < wake)
					wake = back->head->due;
			}
			/* A negative descriptor is skipped: no POLLHUP storm after EOF. */
			fds[nfds++] = (struct pollfd) {events ? p->from : -1, events, 0};
		}
	}
	if (wake >= 0)
	{
		wait.tv_sec = (wake - now) / 1000000000LL;
		wait.tv_nsec = (wake - now) % 1000000000LL;
	}
	if (ppoll(fds, nfds, wake >= 0 ? &wait : NULL, NULL) < 0)
		return;

	now = now_ns();
	for (int i = polled - 1; i >= 0; i--)
	{
		Link	   *l = &links[conns[i].link];
		struct pollfd *f = &fds[1 + nlinks + 2 * i];
		bool		ok = true;

		for (int d = 0; d < 2 && ok; d++)
			if (f[d].revents & (POLLIN | POLLHUP | POLLERR))
			{
				ok = read_pipe(&conns[i].pipe[d], now + conn_delay(&conns[i]),
							   l->byte_ns);
				if (d == 0 && !conns[i].started)
					find_origin(&conns[i]);
			}
		for (int d = 0; d < 2 && ok && !l->stalled; d++)
			ok = write_pipe(&conns[i].pipe[d], now);
		if (!ok || (conns[i].pipe[0].closed && conns[i].pipe[1].closed))
			close_conn(i, !ok);
	}
	for (int i = 0; i < nlinks; i++)
		if (fds[1 + i].revents)
			accept_conn(i);
	if (fds[0].revents)
		serve_control(control);
}

int
main(int argc, char **argv)
{
	double		delay_ms = 0;
	const char *control_path = NULL;
	int			control;
	struct sigaction term = {.sa_handler = on_term};

	memset(distances, -1, sizeof(distances));
	for (int i = 1; i < argc; i++)
	{
		if (strcmp(argv[i], "--distance") == 0 && i + 1 < argc)
			parse_distance(argv[++i]);
		else if (strcmp(argv[i], "--delay") == 0 && i + 1 < argc)
			delay_ms = atof(argv[++i]);
		else if (strcmp(argv[i], "--control") == 0 && i + 1 < argc)
			control_path = argv[++i];
		else if (nlinks < MAX_LINKS)
			parse_target(argv[i], &links[nlinks++].target);
	}
	if (nlinks == 0 || !control_path)
	{
		fprintf(stderr, "usage: proxy [--delay MS] [--distance A-B=MS]... "
				"--control SOCKET HOST:PORT...\n");
		return 2;
	}
	srand(getpid() ^ (unsigned) now_ns());
	sigaction(SIGTERM, &term, NULL);
	sigaction(SIGINT, &term, NULL);
	control = open_control(control_path);
	printf("pid %d\n", (int) getpid());
	for (int i = 0; i < nlinks; i++)
	{
		links[i].delay = (long long) (delay_ms * 1e6 / 2);
		printf("link %d port %d\n", i + 1, listen_on(&links[i]));
	}
	fflush(stdout);

	while (!done)
		turn(control);
	unlink(control_path);
	return 0;
}
