/*
 * channel.c
 *	  What a move's pages come by.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/builtins.h"

#include "core/background.h"
#include "core/settings.h"
#include "core/spi.h"
#include "migrate/move.h"
#include "page/frame.h"

void
fa_move_open_channel(FaMove *move)
{
	char	   *names;
	char	   *why;

	/* of a copy that began anew */
	fa_channel_close(move->channel);
	fa_background_begin();
	names = fa_setting_text("transports", move->fragment.table_id);
	MemoryContextSwitchTo(move->context);
	move->channel = fa_channel_negotiate(move->swap, names,
										 fa_frame_max(list_length(move->our_relations)),
										 &why);
	if (move->channel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("no transport works between this node and node \"%s\": %s",
						move->swap->name, why),
				 errhint("Add \"stream\" to the setting \"transports\".")));
	(void) fa_spi_exec("UPDATE fragaffinity.move SET transport = '%s', "
					   "transport_reason = nullif(%s, ''), "
					   "changed = pg_catalog.clock_timestamp() "
					   "WHERE move = " INT64_FORMAT,
					   move->channel->ops->name, quote_literal_cstr(why),
					   move->move);
	CommitTransactionCommand();
	MemoryContextSwitchTo(move->context);
}
