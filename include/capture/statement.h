/*
 * statement.h
 *	  Which fragments a statement would touch, found without running it, and
 *	  the server's log as a source of statements.
 */
#ifndef FA_CAPTURE_STATEMENT_H
#define FA_CAPTURE_STATEMENT_H

#include "lib/stringinfo.h"
#include "nodes/pg_list.h"

/* One statement of a log.  Strings are NULL where the log has none. */
typedef struct FaLogRecord
{
	char	   *time;
	char	   *user;
	char	   *database;
	char	   *session;
	char	   *application;
	char	   *message;
	char	   *detail;
} FaLogRecord;

typedef enum FaLogLine
{
	FA_LOG_END,
	FA_LOG_RECORD,				/* *record is filled */
	FA_LOG_BROKEN				/* passed over */
} FaLogLine;

typedef struct FaLogReader FaLogReader;

/* in statement.c */

/*
 * Fragments that the statement would touch: a list of palloc'd int64.
 * Errors are those of parsing and planning.  The caller has set the user and
 * search_path that the statement is to be planned with, and rolls back.
 */
extern List *fa_statement_fragments(const char *statement);

/*
 * The statement of a log message ("statement: ...", "duration: ... execute
 * ...: ..."), its parameters filled in from the detail; NULL when there is
 * none.  *elapsed_ms_p is set when the message tells it.
 */
extern char *fa_statement_of_log(const FaLogRecord *record,
								 double *elapsed_ms_p);

/* in log_reader.c: csvlog, or jsonlog when the first character is a brace. */
extern FaLogReader *fa_log_open(const char *path);
extern FaLogLine fa_log_next(FaLogReader *reader, FaLogRecord *record);
extern void fa_log_close(FaLogReader *reader);

#endif							/* FA_CAPTURE_STATEMENT_H */
