/*
 * test_rdma.c
 *	  A device that fails or is taken away: src/transport/rdma_*.c over a made-up
 *	  libibverbs and librdmacm, whose device has had enough.
 */
#include "postgres.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/cryptohash.h"
#include "transport/rdma_verbs.h"
#include "utils/timestamp.h"

#define SLOT	4096

/* What the device and rdma_cm say next, and what was taken from them. */
static struct
{
	enum ibv_event_type device_event;
	bool		has_device_event;
	int			device_error;	/* of reading such events */
	int			news_error;		/* of reading completions' */
	enum rdma_cm_event_type cm_event;
	struct rdma_cm_id *cm_id;	/* NULL: none */
	int			gone;			/* what everything answers; 0: it works */
	int			queue_pairs;
	int			queues;
	int			channels;
	int			domains;
	int			regions;
	int			windows;
	int			ids;
	int			unacked;
}			fake;

static struct ibv_device device;
static struct ibv_context context;
static struct ibv_pd domain = {.context = &context};
static struct ibv_comp_channel news = {.context = &context};
static struct ibv_cq queue = {.context = &context};
static struct ibv_qp queue_pair = {.context = &context};
static struct ibv_mr region = {.context = &context};
static struct ibv_mw window = {.context = &context};
static struct rdma_event_channel events;

/* ---- libibverbs ---- */

int
ibv_query_device(struct ibv_context *c, struct ibv_device_attr *attr)
{
	(void) c;
	memset(attr, 0, sizeof(*attr));
	attr->max_sge = 4;
	attr->max_cqe = 100000;
	attr->device_cap_flags = IBV_DEVICE_MEM_WINDOW_TYPE_2B;
	return fake.gone;
}

struct ibv_pd *
ibv_alloc_pd(struct ibv_context *c)
{
	(void) c;
	errno = fake.gone;
	fake.domains += fake.gone == 0;
	return fake.gone ? NULL : &domain;
}

int
ibv_dealloc_pd(struct ibv_pd *pd)
{
	(void) pd;
	fake.domains--;
	return fake.gone;
}

struct ibv_comp_channel *
ibv_create_comp_channel(struct ibv_context *c)
{
	(void) c;
	fake.channels++;
	return &news;
}

int
ibv_destroy_comp_channel(struct ibv_comp_channel *channel)
{
	(void) channel;
	fake.channels--;
	return fake.gone;
}

struct ibv_cq *
ibv_create_cq(struct ibv_context *c, int cqe, void *cq_context,
			  struct ibv_comp_channel *channel, int vector)
{
	(void) c, (void) cqe, (void) cq_context, (void) channel, (void) vector;
	fake.queues++;
	return &queue;
}

int
ibv_destroy_cq(struct ibv_cq *cq)
{
	(void) cq;
	/* the real one would wait for them */
	assert_int_equal(fake.unacked, 0);
	fake.queues--;
	return fake.gone;
}

int
ibv_get_cq_event(struct ibv_comp_channel *channel, struct ibv_cq **cq,
				 void **cq_context)
{
	(void) channel, (void) cq, (void) cq_context;
	errno = fake.news_error ? fake.news_error : EAGAIN;
	return -1;
}

void
ibv_ack_cq_events(struct ibv_cq *cq, unsigned int n)
{
	(void) cq, (void) n;
}

int
ibv_get_async_event(struct ibv_context *c, struct ibv_async_event *event)
{
	(void) c;
	errno = fake.device_error ? fake.device_error : EAGAIN;
	if (!fake.has_device_event)
		return -1;
	fake.has_device_event = false;
	fake.unacked++;
	event->event_type = fake.device_event;
	return 0;
}

void
ibv_ack_async_event(struct ibv_async_event *event)
{
	(void) event;
	fake.unacked--;
}

const char *
ibv_event_type_str(enum ibv_event_type type)
{
	return type == IBV_EVENT_DEVICE_FATAL ? "fatal" : "other";
}

const char *
ibv_wc_status_str(enum ibv_wc_status status)
{
	(void) status;
	return "status";
}

int
ibv_modify_qp(struct ibv_qp *qp, struct ibv_qp_attr *attr, int mask)
{
	(void) qp, (void) attr, (void) mask;
	return fake.gone;
}

#undef ibv_reg_mr
struct ibv_mr *
ibv_reg_mr(struct ibv_pd *pd, void *addr, size_t length, int access)
{
	(void) pd, (void) addr, (void) length, (void) access;
	errno = fake.gone;
	fake.regions += fake.gone == 0;
	return fake.gone ? NULL : &region;
}

struct ibv_mr *
ibv_reg_mr_iova2(struct ibv_pd *pd, void *addr, size_t length, uint64_t iova,
				 unsigned int access)
{
	(void) iova;
	return ibv_reg_mr(pd, addr, length, access);
}

int
ibv_dereg_mr(struct ibv_mr *mr)
{
	(void) mr;
	fake.regions--;
	return fake.gone;
}

static struct ibv_mw *
fake_alloc_mw(struct ibv_pd *pd, enum ibv_mw_type type)
{
	(void) pd, (void) type;
	fake.windows++;
	return &window;
}

static int
fake_dealloc_mw(struct ibv_mw *mw)
{
	(void) mw;
	fake.windows--;
	return fake.gone;
}

static int
fake_post_recv(struct ibv_qp *qp, struct ibv_recv_wr *work,
			   struct ibv_recv_wr **bad)
{
	(void) qp, (void) work, (void) bad;
	return fake.gone;
}

static int
fake_poll_cq(struct ibv_cq *cq, int n, struct ibv_wc *wc)
{
	(void) cq, (void) n, (void) wc;
	return 0;
}

static int
fake_req_notify_cq(struct ibv_cq *cq, int solicited)
{
	(void) cq, (void) solicited;
	return fake.gone;
}

/* ---- librdmacm ---- */

int
rdma_get_cm_event(struct rdma_event_channel *channel,
				  struct rdma_cm_event **event)
{
	static struct rdma_cm_event said;

	(void) channel;
	errno = EAGAIN;
	if (fake.cm_id == NULL)
		return -1;
	said = (struct rdma_cm_event) {.id = fake.cm_id,.event = fake.cm_event};
	fake.cm_id = NULL;
	fake.unacked++;
	*event = &said;
	return 0;
}

int
rdma_ack_cm_event(struct rdma_cm_event *event)
{
	(void) event;
	fake.unacked--;
	return 0;
}

int
rdma_create_qp(struct rdma_cm_id *id, struct ibv_pd *pd,
			   struct ibv_qp_init_attr *attr)
{
	(void) pd, (void) attr;
	if (fake.gone)
	{
		errno = fake.gone;
		return -1;
	}
	fake.queue_pairs++;
	id->qp = &queue_pair;
	return 0;
}

void
rdma_destroy_qp(struct rdma_cm_id *id)
{
	fake.queue_pairs--;
	id->qp = NULL;
}

int
rdma_destroy_id(struct rdma_cm_id *id)
{
	(void) id;
	assert_int_equal(fake.unacked, 0);
	fake.ids--;
	return fake.gone;
}

void
rdma_destroy_event_channel(struct rdma_event_channel *channel)
{
	(void) channel;
}

const char *
rdma_event_str(enum rdma_cm_event_type type)
{
	(void) type;
	return "event";
}

int			rdma_disconnect(struct rdma_cm_id *id) { (void) id; return fake.gone; }
int			rdma_accept(struct rdma_cm_id *id, struct rdma_conn_param *p) { (void) id, (void) p; return -1; }
int			rdma_connect(struct rdma_cm_id *id, struct rdma_conn_param *p) { (void) id, (void) p; return -1; }
int			rdma_reject(struct rdma_cm_id *id, const void *data, uint8_t len) { (void) id, (void) data, (void) len; return 0; }
int			rdma_listen(struct rdma_cm_id *id, int backlog) { (void) id, (void) backlog; return -1; }
int			rdma_bind_addr(struct rdma_cm_id *id, struct sockaddr *addr) { (void) id, (void) addr; return -1; }
int			rdma_create_id(struct rdma_event_channel *channel, struct rdma_cm_id **id, void *c, enum rdma_port_space ps) { (void) channel, (void) id, (void) c, (void) ps; return -1; }
int			rdma_resolve_addr(struct rdma_cm_id *id, struct sockaddr *from, struct sockaddr *to, int ms) { (void) id, (void) from, (void) to, (void) ms; return -1; }
int			rdma_resolve_route(struct rdma_cm_id *id, int ms) { (void) id, (void) ms; return -1; }
int			rdma_set_option(struct rdma_cm_id *id, int level, int name, void *value, size_t len) { (void) id, (void) level, (void) name, (void) value, (void) len; return 0; }
__be16		rdma_get_src_port(struct rdma_cm_id *id) { (void) id; return 0; }

/* ---- the server ---- */

TimestampTz GetCurrentTimestamp(void) { return 1; }
int			PQsocket(const PGconn *conn) { (void) conn; return -1; }
pg_cryptohash_ctx *pg_cryptohash_create(pg_cryptohash_type type) { (void) type; return NULL; }
int			pg_cryptohash_init(pg_cryptohash_ctx *ctx) { (void) ctx; return -1; }
int			pg_cryptohash_update(pg_cryptohash_ctx *ctx, const uint8 *data, size_t len) { (void) ctx, (void) data, (void) len; return -1; }
int			pg_cryptohash_final(pg_cryptohash_ctx *ctx, uint8 *dest, size_t len) { (void) ctx, (void) dest, (void) len; return -1; }
void		pg_cryptohash_free(pg_cryptohash_ctx *ctx) { (void) ctx; }

static FaTransportStatus
host_fail(FaChannel *channel, FaTransportStatus status, const char *fmt,...)
{
	va_list		args;

	va_start(args, fmt);
	vsnprintf(channel->why, sizeof(channel->why), fmt, args);
	va_end(args);
	return status;
}

static const FaRdmaOptions options = {.address = "",.streams = 1};
static const FaRdmaHost host = {&options, host_fail};

typedef struct World
{
	FaRdmaChannel channel;
	struct rdma_cm_id listener;
	struct rdma_cm_id id;
	FaRdma	   *rdma;
} World;

/* One end, connected or, a receiver that is not, listening. */
static void
world_init(World *w, bool receiver, bool connected)
{
	FaRdma	   *rdma = calloc(1, sizeof(FaRdma));

	memset(&fake, 0, sizeof(fake));
	memset(w, 0, sizeof(*w));
	context.device = &device;
	context.async_fd = open("/dev/null", O_RDONLY);
	news.fd = open("/dev/null", O_RDONLY);
	context.ops.alloc_mw = fake_alloc_mw;
	context.ops.dealloc_mw = fake_dealloc_mw;
	context.ops.post_recv = fake_post_recv;
	context.ops.poll_cq = fake_poll_cq;
	context.ops.req_notify_cq = fake_req_notify_cq;
	w->rdma = w->channel.rdma = rdma;
	w->channel.base.receiver = receiver;
	w->channel.base.max_message = SLOT;
	w->listener.verbs = w->id.verbs = &context;
	rdma->channel = &w->channel.base;
	rdma->host = &host;
	rdma->events = &events;
	rdma->slot_size = SLOT;
	rdma->nstreams = 1;
	rdma->slots = FA_RDMA_MIN_SLOTS;
	for (int i = 0; i < FA_RDMA_MAX_STREAMS; i++)
		rdma->stream[i].rdma = rdma;
	rdma->stream[0].length = calloc(rdma->slots, sizeof(uint32));
	fake.ids = 1;
	if (receiver && !connected)
		rdma->listener = &w->listener;
	else
	{
		w->id.context = &rdma->stream[0];
		rdma->stream[0].id = &w->id;
	}
	assert_int_equal(fa_rdma_take_device(rdma, receiver && !connected ?
										 &w->listener : &w->id), FA_TRANSPORT_OK);
	if (connected)
	{
		assert_int_equal(fa_rdma_make_queues(&rdma->stream[0]), FA_TRANSPORT_OK);
		rdma->stream[0].state = FA_RDMA_UP;
		w->channel.base.up = true;
	}
}

/* Nothing has happened yet; then something has, and all is given back once. */
static void
world_ends(World *w, const char *why)
{
	FaTransportEvent event;

	assert_int_equal(fa_rdma_poll(&w->channel.base, &event), FA_TRANSPORT_IO);
	assert_string_equal(w->channel.base.why, why);
	/* and is so from now on */
	assert_int_equal(fa_rdma_poll(&w->channel.base, &event), FA_TRANSPORT_IO);
	assert_int_equal(fake.unacked, 0);
	/* a device that is gone refuses to be let go */
	fake.gone = EIO;
	fa_rdma_free(w->rdma);
	assert_int_equal(fake.queue_pairs, 0);
	assert_int_equal(fake.windows, 0);
	assert_int_equal(fake.queues, 0);
	assert_int_equal(fake.channels, 0);
	assert_int_equal(fake.regions, 0);
	assert_int_equal(fake.domains, 0);
	assert_int_equal(fake.ids, 0);
	close(context.async_fd);
	close(news.fd);
}

static void
nothing_yet(World *w)
{
	FaTransportEvent event;

	assert_int_equal(fa_rdma_poll(&w->channel.base, &event), FA_TRANSPORT_AGAIN);
}

static void
test_device_says_so(void **state)
{
	World		w;

	(void) state;
	for (int receiver = 0; receiver < 2; receiver++)
	{
		world_init(&w, receiver, true);
		nothing_yet(&w);
		/* what is no failure of it */
		fake.has_device_event = true;
		fake.device_event = IBV_EVENT_PORT_ERR;
		nothing_yet(&w);
		fake.has_device_event = true;
		fake.device_event = IBV_EVENT_DEVICE_FATAL;
		world_ends(&w, "the device has failed: fatal");
	}
}

static void
test_rdma_cm_says_so(void **state)
{
	World		w;

	(void) state;
	for (int end = 0; end < 3; end++)
	{
		world_init(&w, end > 0, end < 2);
		nothing_yet(&w);
		fake.cm_event = RDMA_CM_EVENT_DEVICE_REMOVAL;
		fake.cm_id = end < 2 ? &w.id : &w.listener;
		world_ends(&w, FA_RDMA_REMOVED);
	}
}

/* The kernel has let go of it: descriptors are readable, and cannot be read. */
static void
test_descriptors_fail(void **state)
{
	World		w;

	(void) state;
	for (int receiver = 0; receiver < 2; receiver++)
	{
		world_init(&w, receiver, true);
		fake.news_error = EINTR;
		fake.device_error = EINTR;
		nothing_yet(&w);
		fake.news_error = EIO;
		world_ends(&w, FA_RDMA_REMOVED);
		world_init(&w, receiver, true);
		fake.device_error = EIO;
		world_ends(&w, FA_RDMA_REMOVED);
	}
}

/* It is gone when it is to be taken: the next transport is, and nothing is left. */
static void
test_gone_before(void **state)
{
	World		w;

	(void) state;
	world_init(&w, false, false);
	fa_rdma_free(w.rdma);
	memset(&fake, 0, sizeof(fake));
	fake.gone = EIO;
	w.rdma = calloc(1, sizeof(FaRdma));
	w.rdma->channel = &w.channel.base;
	w.rdma->host = &host;
	assert_int_equal(fa_rdma_take_device(w.rdma, &w.id), FA_TRANSPORT_UNFIT);
	fa_rdma_free(w.rdma);
	assert_int_equal(fake.domains + fake.channels + fake.queues + fake.regions, 0);
	close(context.async_fd);
	close(news.fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_device_says_so),
		cmocka_unit_test(test_rdma_cm_says_so),
		cmocka_unit_test(test_descriptors_fail),
		cmocka_unit_test(test_gone_before),
	};

	return cmocka_run_group_tests_name("rdma", tests, NULL, NULL);
}
