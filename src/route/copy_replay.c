/*
 * copy_replay.c
 *	  COPY FROM by PostgreSQL, of lines that have been read already.
 *
 * A COPY is found to be small, or has no workers, only when some of its lines
 * are here.  They are given to another COPY, one by one, with their numbers,
 * and so are those that are read from then on.
 */
#include "postgres.h"

#include "commands/copyfrom_internal.h"

#include "route/copy_writers.h"

typedef struct Replay
{
	CopyFromState from;
	CopyFromState to;
	StringInfo	held;
	int			at;				/* in held */
	bool		ended;			/* nothing is to be read any more */
	const char *text;			/* what is left of a line; NULL: none */
	int			len;
} Replay;

static Replay *replay = NULL;	/* the innermost one */

int
fa_copy_line_length(CopyFromState state)
{
	int			len = state->line_buf.len;
	int			n = 0;

	if (state->opts.csv_mode)
		return len;
	while (n < len && state->line_buf.data[len - n - 1] == '\\')
		n++;
	return len - n % 2;
}

uint64
fa_copy_line_before(CopyFromState state, uint64 line, const char *text, int len)
{
	char		end = state->eol_type == EOL_NL ? '\n' : '\r';

	for (int i = 0; state->opts.csv_mode && i < len; i++)
		line -= text[i] == end;
	return line - 1;
}

/* PostgreSQL has begun to read the line. */
static void
replay_set_line(Replay *r, uint64 line)
{
	r->to->cur_lineno = fa_copy_line_before(r->to, line, r->text, r->len) + 1;
}

static bool
replay_next_line(Replay *r)
{
	char	  **fields;
	int			nfields;

	if (r->at < r->held->len)
	{
		FaHeldLine	head;

		memcpy(&head, r->held->data + r->at, sizeof(head));
		r->at += sizeof(head);
		r->text = r->held->data + r->at;
		r->len = head.len;
		r->at += head.len + head.text_len;
		replay_set_line(r, head.line);
		return true;
	}
	if (r->ended || !NextCopyFromRawFields(r->from, &fields, &nfields))
	{
		r->ended = true;
		return false;
	}
	r->text = r->from->line_buf.data;
	r->len = fa_copy_line_length(r->from);
	replay_set_line(r, r->from->cur_lineno);
	return true;
}

/* For PostgreSQL: never more than one line. */
static int
replay_read(void *buf, int min, int max)
{
	Replay	   *r = replay;
	int			n;

	if (r->text == NULL && !replay_next_line(r))
		return 0;
	n = Min(r->len, max);
	memcpy(buf, r->text, n);
	r->text += n;
	r->len -= n;
	if (r->len == 0 && n < max)
	{
		((char *) buf)[n++] = '\n';
		r->text = NULL;
	}
	return n;
}

uint64
fa_copy_replay(CopyFromState state, const CopyStmt *stmt,
			   const char *query_string, StringInfo held, int at, bool ended)
{
	ParseState *pstate = fa_copy_parse_state(state->rel, stmt, query_string);
	Replay	   *outer = replay;
	Replay		r = {.from = state,.held = held,.at = at,.ended = ended};
	uint64		processed;

	r.to = BeginCopyFrom(pstate, state->rel, NULL, NULL, false, replay_read,
						 stmt->attlist, fa_copy_line_options(stmt));
	PG_TRY();
	{
		replay = &r;
		processed = CopyFrom(r.to);
	}
	PG_FINALLY();
	{
		replay = outer;
	}
	PG_END_TRY();
	EndCopyFrom(r.to);
	free_parsestate(pstate);
	return processed;
}
