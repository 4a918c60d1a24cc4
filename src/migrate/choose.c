/*
 * choose.c
 *	  By pages or by rows?
 *
 * Pages are copied where both sides agree on everything that their bytes
 * depend on (page/layout.h); rows everywhere else, and after a move that met a
 * page which may be right for its server, but not by page/image.h.  "move_path"
 * asks for one of them; pages that are asked for and not possible fail the move.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "core/background.h"
#include "core/settings.h"
#include "core/spi.h"
#include "migrate/move.h"
#include "page/layout.h"

static bool
is_index(char **row)
{
	return strcmp(row[FA_LAYOUT_KIND], "index") == 0;
}

/* Row i of either side, or NULL; without indexes unless asked for. */
static char **
layout_row(FaRows *rows, int i, bool with_indexes)
{
	if (i >= rows->nrows || (!with_indexes && is_index(rows->value[i])))
		return NULL;
	return rows->value[i];
}

/* Why the pages of one side are of no use to the other; NULL: they are. */
static char *
layout_differs(FaRows *source, FaRows *here, bool with_indexes)
{
	for (int i = 0; i < source->nrows; i++)
	{
		if (source->value[i][FA_LAYOUT_PROBLEM])
			return source->value[i][FA_LAYOUT_PROBLEM];
	}
	for (int i = 0;; i++)
	{
		char	  **there = layout_row(source, i, with_indexes);
		char	  **ours = layout_row(here, i, with_indexes);

		if (there == NULL && ours == NULL)
			return NULL;
		if (there && ours && ours[FA_LAYOUT_PROBLEM])
			return ours[FA_LAYOUT_PROBLEM];
		if (there == NULL || ours == NULL ||
			strcmp(there[FA_LAYOUT_KIND], ours[FA_LAYOUT_KIND]) != 0 ||
			strcmp(there[FA_LAYOUT_DESCRIPTION], ours[FA_LAYOUT_DESCRIPTION]) != 0)
			return psprintf("the nodes differ in their %s: %s, %s",
							there ? there[FA_LAYOUT_KIND] : ours[FA_LAYOUT_KIND],
							there ? there[FA_LAYOUT_DESCRIPTION] : "none",
							ours ? ours[FA_LAYOUT_DESCRIPTION] : "none");
	}
}

/* Their OIDs, to live as long as the move. */
static List *
layout_relations(FaMove *move, FaRows *rows)
{
	MemoryContext old = MemoryContextSwitchTo(move->context);
	List	   *oids = NIL;

	for (int i = 0; i < rows->nrows; i++)
	{
		Oid			oid = atooid(rows->value[i][FA_LAYOUT_RELATION]);

		if (OidIsValid(oid))	/* not the server itself */
			oids = lappend_oid(oids, oid);
	}
	MemoryContextSwitchTo(old);
	return oids;
}

char *
fa_move_oid_array(const List *oids)
{
	StringInfoData buf;
	ListCell   *lc;

	initStringInfo(&buf);
	foreach(lc, oids)
		appendStringInfo(&buf, "%s%u", foreach_current_index(lc) ? "," : "",
						 lfirst_oid(lc));
	return buf.data;
}

static FaRows *
layout_here(FaMove *move, MemoryContext context)
{
	FaRows	   *rows;

	fa_background_begin();
	MemoryContextSwitchTo(context);
	rows = fa_layout_read(move->heap);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	return rows;
}

/* Matches both sides; NULL, or why pages will not do.  Makes our indexes. */
static char *
choose_match(FaMove *move, MemoryContext context)
{
	FaRows	   *source;
	FaRows	   *here;
	char	   *why;

	source = fa_remote_rows(move->control, 0, "SELECT " FA_LAYOUT_COLUMNS
							" FROM fragaffinity.page_layout(%s)",
							quote_literal_cstr(move->source_leaf_name));
	here = layout_here(move, context);
	why = layout_differs(source, here, false);
	if (why)
		return why;
	fa_move_create_indexes(move);
	MemoryContextSwitchTo(context);
	here = layout_here(move, context);
	why = layout_differs(source, here, true);
	if (why)
		return why;
	move->source_relations = layout_relations(move, source);
	move->our_relations = layout_relations(move, here);
	return NULL;
}

/* Has the fragment's last move found a page that is not as it must be? */
static bool
choose_was_invalid(const FaMove *move)
{
	return fa_spi_value("SELECT 1 FROM (SELECT path, state, error FROM fragaffinity.move "
						" WHERE fragment = " INT64_FORMAT " AND state IN ('done', 'failed') "
						" ORDER BY finished DESC LIMIT 1) AS last "
						"WHERE path = 'page' AND state = 'failed' "
						"AND error LIKE 'invalid page%%'",
						move->fragment.fragment) != NULL;
}

void
fa_move_choose_path(FaMove *move)
{
	MemoryContext context = AllocSetContextCreate(move->context,
												  "fragaffinity path",
												  ALLOCSET_DEFAULT_SIZES);
	char	   *asked;
	char	   *why;
	bool		invalid;

	fa_background_begin();
	MemoryContextSwitchTo(context);
	asked = fa_setting_text("move_path", move->fragment.table_id);
	invalid = choose_was_invalid(move);
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
	if (strcmp(asked, "logical") == 0)
		why = "\"move_path\" says so";
	else if (invalid && strcmp(asked, "auto") == 0)
		why = "its last move met an invalid page";
	else
		why = choose_match(move, context);
	if (why && strcmp(asked, "page") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("fragment " INT64_FORMAT " cannot move by pages: %s",
						move->fragment.fragment, why),
				 errhint("Set \"move_path\" to \"auto\".")));
	move->path = why ? &fa_logical_path : &fa_page_path;
	fa_background_begin();
	(void) fa_spi_exec("UPDATE fragaffinity.move SET path = '%s', "
					   "transport = %s, reason = reason || %s, "
					   "changed = pg_catalog.clock_timestamp() "
					   "WHERE move = " INT64_FORMAT, move->path->name,
					   why ? "'stream'" : "NULL",
					   quote_literal_cstr(why ? psprintf("; by rows, as %s", why) : ""),
					   move->move);
	CommitTransactionCommand();
	MemoryContextSwitchTo(move->context);
	MemoryContextDelete(context);
}
