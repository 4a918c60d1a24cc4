/*
 * pin.c
 *	  Fragments that the controller leaves where they are.
 *
 * A pin holds back the controller's own moves.  Who moves by hand or drains a
 * node knows what he does: then the pin goes along with the fragment.
 */
#include "postgres.h"

#include "fmgr.h"

#include "catalog/map.h"
#include "core/args.h"
#include "core/shmem.h"
#include "core/spi.h"
#include "node/cluster_xact.h"
#include "node/node.h"

PG_FUNCTION_INFO_V1(fa_sql_pin_fragment);

/* pin_fragment(fragment, pinned): on all nodes or on none */
Datum
fa_sql_pin_fragment(PG_FUNCTION_ARGS)
{
	int64		fragment;
	char	   *sql;

	fa_shmem_require();
	fa_require_argument(fcinfo, 0, "fragment");
	fa_require_argument(fcinfo, 1, "pinned");
	(void) fa_node_require_cluster();
	fragment = PG_GETARG_INT64(0);
	if (fa_map_fragment(fragment) == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("fragment " INT64_FORMAT " does not exist", fragment),
				 errhint("fragaffinity.fragments lists them.")));
	sql = PG_GETARG_BOOL(1) ?
		psprintf("INSERT INTO fragaffinity.pin VALUES (" INT64_FORMAT ") "
				 "ON CONFLICT DO NOTHING", fragment) :
		psprintf("DELETE FROM fragaffinity.pin WHERE fragment = " INT64_FORMAT,
				 fragment);
	fa_xact_exec_all("%s", sql);
	(void) fa_spi_exec("%s", sql);
	PG_RETURN_VOID();
}
