/*
 * fdw_analyze.c
 *	  The wrapper's routines for ANALYZE; see fdw.c.
 *
 * postgres_fdw samples a foreign table as its owner, who may be a role that cannot
 * log in, or have a session by which others' changes would not be seen.
 */
#include "postgres.h"

#include "commands/vacuum.h"
#include "foreign/fdwapi.h"
#include "utils/rel.h"

#include "node/fdw_routine.h"
#include "node/role_session.h"

static const FdwRoutine *base = NULL;	/* fa_fdw_base() */
static AcquireSampleRowsFunc base_sample = NULL;

/* The role whose session samples it, acting as the owner. */
static Oid
analyze_session(Relation rel)
{
	Oid			owner = rel->rd_rel->relowner;
	Oid			session = fa_role_session(GetForeignServerIdByRelId(RelationGetRelid(rel)),
										  owner);

	fa_role_act(RelationGetRelid(rel), session, owner);
	return session;
}

static int
fdw_sample(Relation rel, int elevel, HeapTuple *rows, int targrows,
		   double *totalrows, double *totaldeadrows)
{
	volatile int n;

	FA_FDW_AS(&rel->rd_rel->relowner, analyze_session(rel),
			  n = base_sample(rel, elevel, rows, targrows, totalrows,
							  totaldeadrows));
	return n;
}

static bool
fdw_analyze(Relation rel, AcquireSampleRowsFunc *func, BlockNumber *totalpages)
{
	volatile bool result;

	FA_FDW_AS(&rel->rd_rel->relowner, analyze_session(rel),
			  result = base->AnalyzeForeignTable(rel, &base_sample, totalpages));
	*func = fdw_sample;
	return result;
}

void
fa_fdw_analyze_routines(FdwRoutine *routine, const FdwRoutine *postgres_fdw)
{
	base = postgres_fdw;
	routine->AnalyzeForeignTable = fdw_analyze;
}
