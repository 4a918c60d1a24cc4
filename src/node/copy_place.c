/*
 * copy_place.c
 *	  What COPY's messages say of the place that an error is about.
 *
 * COPY itself reports where it reads.  An error of a peer is about a row that
 * was read some time ago, and says so instead.
 */
#include "postgres.h"

#include "commands/copyfrom_internal.h"

#include "node/copy_lines.h"

/* COPY's own report of the place where it is, with all that is around it. */
static ErrorContextCallback *
place_of_copy(void)
{
	ErrorContextCallback *callback = error_context_stack;

	while (callback && callback->callback != CopyFromErrorCallback)
		callback = callback->previous;
	return callback;
}

CopyFromState
fa_copy_state(void)
{
	ErrorContextCallback *callback = place_of_copy();

	return callback ? callback->arg : NULL;
}

static void
place_context(void *arg)
{
	FaCopyPlace *place = arg;

	if (place->from == 0)
		errcontext("COPY %s", place->table);
	else if (place->from == place->to)
		errcontext("COPY %s, line %lld%s", place->table, (long long) place->from,
				   place->rest ? place->rest : "");
	else
		errcontext("COPY %s, lines %lld to %lld", place->table,
				   (long long) place->from, (long long) place->to);
}

void
fa_copy_push_place(ErrorContextCallback *context, FaCopyPlace *place)
{
	ErrorContextCallback *callback = place_of_copy();

	if (callback == NULL && error_context_stack &&
		error_context_stack->callback == place_context)
		callback = error_context_stack;
	context->callback = place_context;
	context->arg = place;
	context->previous = callback ? callback->previous : error_context_stack;
	error_context_stack = context;
}

/* PostgreSQL says so at the end of the context; that of a peer's error ends else. */
bool
fa_copy_is_workers(const ErrorData *edata)
{
	const char *tail = _("parallel worker");
	int			len = edata->context ? strlen(edata->context) - strlen(tail) : -1;

	return len >= 0 && strcmp(edata->context + len, tail) == 0;
}

void
fa_copy_raise(ErrorData *edata, FaCopyPlace *place)
{
	ErrorContextCallback context;

	edata->context = NULL;
	fa_copy_push_place(&context, place);
	ThrowErrorData(edata);
	pg_unreachable();
}

void
fa_copy_raise_peers(ErrorData *edata, const char *table, const FaLines *lines)
{
	FaCopyPlace place = {table};
	char	   *head = psprintf("COPY %s,", table);
	char	   *at = edata->context ? strstr(edata->context, head) : NULL;

	if (at)
	{
		at += strlen(head);
		at += strcspn(at, "0123456789\n");
		place.from = place.to = fa_lines_get(lines, strtoi64(at, &at, 10));
		if (strncmp(at, ", column ", 9) == 0)
			place.rest = pnstrdup(at, strcspn(at, "\n"));
	}
	fa_copy_raise(edata, &place);
}
