/*
 * peer.c
 *	  The connection to one peer, driven by events.
 *
 * Each peer is a small state machine:
 *
 *	down        no connection; after a failure not tried again before retry_at
 *	connecting  PQconnectPoll, until the deadline
 *	idle        connected; its socket is watched, so that a death is noticed
 *	busy        the first question of the queue is out, until the deadline
 *
 * Nothing here waits for one peer: every step that libpq could block in has a
 * non-blocking form, except resolving a host name, which takes as long as the
 * system's resolver does (the address that worked last is used first).
 *
 * A failed attempt to connect fails all questions of that peer; a question
 * that is not answered in time costs the connection, because the answer could
 * still come.
 */
#include "postgres.h"

#include "storage/fd.h"
#include "storage/latch.h"

#include "node/node.h"
#include "node/peer.h"

#define RETRY_FIRST_MS 250
#define RETRY_LAST_MS 5000
#define SUSPECT_MS 3000			/* silent for so long: counts as down */

void
fa_peer_disconnect(FaPeer *p)
{
	if (p->conn)
	{
		PQfinish(p->conn);
		ReleaseExternalFD();
	}
	p->conn = NULL;
	if (p->result)
		PQclear(p->result);
	p->result = NULL;
	p->state = FA_PEER_DOWN;
}

/* Takes the first question off the queue and calls back; clears res. */
static void
peer_answer(FaPeer *p, PGresult *res)
{
	FaPeerRequest *r = p->first;

	p->first = r->next;
	if (p->first == NULL)
		p->last = NULL;
	p->npending--;
	PG_TRY();
	{
		if (r->callback)
			r->callback(p->node, res, r->arg);
	}
	PG_FINALLY();
	{
		if (res)
			PQclear(res);
		pfree(r->sql);
		pfree(r);
	}
	PG_END_TRY();
}

void
fa_peer_fail_all(FaPeer *p)
{
	int			n = p->npending;

	while (n-- > 0 && p->first)
		peer_answer(p, NULL);
}

/* The connection is lost, or could not be made. */
static void
peer_lost(FaPeer *p)
{
	FaPeerState	state = p->state;
	int			delay = RETRY_FIRST_MS << Min(p->failures, 6);

	fa_peer_disconnect(p);
	p->retry_at = fa_pool_clock_ms() + Min(delay, RETRY_LAST_MS);
	p->failures++;
	if (state == FA_PEER_BUSY)
	{
		/* others in the queue have another chance after reconnecting */
		p->retry_at = 0;
		p->failures = 0;
		peer_answer(p, NULL);
	}
	else if (state == FA_PEER_CONNECTING)
		fa_peer_fail_all(p);
}

static void
peer_connect(FaPeer *p)
{
	const char *keywords[FA_MAX_KEYWORDS + 1];
	const char *values[FA_MAX_KEYWORDS + 1];
	int			n = 0;

	if (!AcquireExternalFD())
	{
		p->failures++;
		p->retry_at = fa_pool_clock_ms() + RETRY_LAST_MS;
		fa_peer_fail_all(p);
		return;
	}

	/*
	 * An explicit address saves the resolver.  Not after a failure: the name
	 * may have moved.  A hostaddr of the server's own comes later and wins.
	 */
	if (p->failures == 0 && p->address[0] != '\0')
	{
		keywords[n] = "hostaddr";
		values[n++] = p->address;
	}
	for (int i = 0; p->keywords[i]; i++)
	{
		keywords[n] = p->keywords[i];
		values[n++] = p->values[i];
	}
	keywords[n] = values[n] = NULL;

	p->state = FA_PEER_CONNECTING;
	p->poll = PGRES_POLLING_WRITING;
	p->flush = false;
	p->deadline = fa_pool_clock_ms() + FA_POOL_CONNECT_TIMEOUT_MS;
	p->conn = PQconnectStartParams(keywords, values, false);
	if (p->conn == NULL)
	{
		ReleaseExternalFD();
		peer_lost(p);
	}
	else if (PQstatus(p->conn) == CONNECTION_BAD)
		peer_lost(p);
}

/* Sends the first question of an idle peer. */
static void
peer_send(FaPeer *p)
{
	int			rc;

	p->state = FA_PEER_BUSY;
	p->suspect_at = fa_pool_clock_ms() + SUSPECT_MS;
	p->deadline = fa_pool_clock_ms() + FA_POOL_QUERY_TIMEOUT_MS;
	if (!PQsendQuery(p->conn, p->first->sql) ||
		(rc = PQflush(p->conn)) < 0)
		peer_lost(p);
	else
		p->flush = rc > 0;
}

/* Takes in results of the question that is out; answers when complete. */
static void
peer_receive(FaPeer *p)
{
	if (!PQconsumeInput(p->conn))
	{
		peer_lost(p);
		return;
	}
	while (!PQisBusy(p->conn))
	{
		PGresult   *res = PQgetResult(p->conn);
		PGresult   *answer;

		if (res == NULL)
		{
			if (PQstatus(p->conn) == CONNECTION_BAD)
			{
				peer_lost(p);
				return;
			}
			answer = p->result;
			p->result = NULL;
			p->state = FA_PEER_IDLE;
			peer_answer(p, answer);
			return;
		}
		if (PQresultStatus(res) == PGRES_COPY_IN ||
			PQresultStatus(res) == PGRES_COPY_OUT ||
			PQresultStatus(res) == PGRES_COPY_BOTH)
		{
			/* nobody asks for this; there is no way on */
			PQclear(res);
			peer_lost(p);
			return;
		}
		if (p->result && PQresultStatus(p->result) != PGRES_TUPLES_OK &&
			PQresultStatus(p->result) != PGRES_COMMAND_OK)
			PQclear(res);		/* the first error stays */
		else
		{
			if (p->result)
				PQclear(p->result);
			p->result = res;
		}
	}
}

void
fa_peer_ready(FaPeer *p)
{
	int			rc;

	switch (p->state)
	{
		case FA_PEER_DOWN:
			break;
		case FA_PEER_CONNECTING:
			p->poll = PQconnectPoll(p->conn);
			if (p->poll == PGRES_POLLING_FAILED)
				peer_lost(p);
			else if (p->poll == PGRES_POLLING_OK)
			{
				PQsetnonblocking(p->conn, 1);
				strlcpy(p->address, PQhostaddr(p->conn), sizeof(p->address));
				p->failures = 0;
				p->state = FA_PEER_IDLE;
			}
			break;
		case FA_PEER_IDLE:
			/* a notice, or the end */
			if (!PQconsumeInput(p->conn) ||
				PQstatus(p->conn) == CONNECTION_BAD)
				peer_lost(p);
			break;
		case FA_PEER_BUSY:
			if (p->flush)
			{
				if ((rc = PQflush(p->conn)) < 0)
				{
					peer_lost(p);
					break;
				}
				p->flush = rc > 0;
			}
			peer_receive(p);
			break;
	}
}

int64
fa_peer_advance(FaPeer *p, int64 now, int64 next)
{
	if ((p->state == FA_PEER_CONNECTING || p->state == FA_PEER_BUSY) &&
		now >= p->deadline)
		peer_lost(p);
	if (p->state == FA_PEER_BUSY && p->suspect_at != 0)
	{
		/* others should not wait for it as long as we do */
		if (now >= p->suspect_at)
		{
			fa_node_health_set(p->node, -1);
			p->suspect_at = 0;
		}
		else
			next = Min(next, p->suspect_at);
	}
	if (p->state == FA_PEER_DOWN)
	{
		if (now >= p->retry_at)
			peer_connect(p);
		else if (p->first)
			fa_peer_fail_all(p);
	}
	if (p->state == FA_PEER_IDLE && p->first)
		peer_send(p);
	if (p->state == FA_PEER_DOWN)
		return Min(next, p->retry_at);
	if (p->state == FA_PEER_CONNECTING || p->state == FA_PEER_BUSY)
		return Min(next, p->deadline);
	return next;
}

uint32
fa_peer_events(FaPeer *p)
{
	if (p->state == FA_PEER_CONNECTING && p->poll == PGRES_POLLING_WRITING)
		return WL_SOCKET_WRITEABLE;
	if (p->state == FA_PEER_BUSY && p->flush)
		return WL_SOCKET_READABLE | WL_SOCKET_WRITEABLE;
	return WL_SOCKET_READABLE;
}
