/*
 * log_reader.c
 *	  Records of the server's log, in csvlog or jsonlog format.
 *
 * Each record is checked; one that is damaged is passed over, and reading
 * goes on with the next line that begins like a record, so that a torn quote
 * does not take the rest of the file along.
 */
#include "postgres.h"

#include <ctype.h>

#include "lib/stringinfo.h"
#include "storage/fd.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"

#include "capture/statement.h"

#define MOST_BYTES (1024 * 1024)	/* of a record */
#define LEAST_FIELDS 23			/* of csvlog: the application is the last used */
#define MOST_FIELDS 40

struct FaLogReader
{
	FILE	   *file;
	bool		json;
	StringInfoData line;
};

FaLogReader *
fa_log_open(const char *path)
{
	FaLogReader *r = palloc0(sizeof(FaLogReader));
	int			c;

	r->file = AllocateFile(path, PG_BINARY_R);
	if (r->file == NULL)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not open log file \"%s\": %m", path)));
	c = getc(r->file);
	r->json = c == '{';
	if (c != EOF)
		ungetc(c, r->file);
	initStringInfo(&r->line);
	return r;
}

void
fa_log_close(FaLogReader *r)
{
	FreeFile(r->file);
	pfree(r->line.data);
	pfree(r);
}

/* Appends a line with its end; false at the end of the file. */
static bool
read_line(FaLogReader *r)
{
	char		chunk[8192];

	while (fgets(chunk, sizeof(chunk), r->file) != NULL)
	{
		size_t		n = strlen(chunk);

		appendBinaryStringInfo(&r->line, chunk, (int) n);
		if (n > 0 && chunk[n - 1] == '\n')
			return true;
		if (r->line.len > MOST_BYTES)
			return true;
	}
	if (ferror(r->file))
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not read log file: %m")));
	return r->line.len > 0;
}

/* "2026-01-02 " begins a record of csvlog. */
static bool
begins_with_date(const char *s)
{
	static const char pattern[] = "dddd-dd-dd ";

	for (int i = 0; pattern[i]; i++)
	{
		if (pattern[i] == 'd' ? !isdigit((unsigned char) s[i]) : s[i] != pattern[i])
			return false;
	}
	return true;
}

/* Fields of a record, unquoted in place; their number, or -1. */
static int
split_fields(char *line, char **field)
{
	int			n = 0;
	char	   *at = line;

	for (;;)
	{
		char	   *to = at;

		if (n == MOST_FIELDS)
			return -1;
		field[n++] = at;
		if (*at == '"')
		{
			for (at++; *at && (*at != '"' || at[1] == '"'); at++)
			{
				at += *at == '"';
				*to++ = *at;
			}
			if (*at++ != '"')
				return -1;
		}
		else
		{
			while (*at && *at != ',' && *at != '\n' && *at != '\r')
				*to++ = *at++;
		}
		if (*at == ',')
		{
			*to = '\0';
			at++;
			continue;
		}
		if (*at != '\0' && *at != '\n' && *at != '\r')
			return -1;
		*to = '\0';
		return n;
	}
}

static char *
or_null(char *s)
{
	return *s ? s : NULL;
}

static bool
parse_csv(FaLogReader *r, FaLogRecord *record)
{
	char	   *field[MOST_FIELDS];
	char	   *copy = pstrdup(r->line.data);

	if (!begins_with_date(copy) || split_fields(copy, field) < LEAST_FIELDS)
		return false;
	record->time = field[0];
	record->user = or_null(field[1]);
	record->database = or_null(field[2]);
	record->session = or_null(field[5]);
	record->message = or_null(field[13]);
	record->detail = or_null(field[14]);
	record->application = or_null(field[22]);
	return true;
}

/* Reads lines until quotes are even. */
static FaLogLine
next_csv(FaLogReader *r, FaLogRecord *record)
{
	long		second = -1;	/* where the second line begins */
	int			from = 0;
	int			quotes = 0;

	resetStringInfo(&r->line);
	do
	{
		if (from > 0 && second < 0)
			second = ftell(r->file);
		if (!read_line(r) || r->line.len == from)
			break;
		for (; from < r->line.len; from++)
			quotes += r->line.data[from] == '"';
	} while (quotes % 2 != 0 && r->line.len <= MOST_BYTES);
	if (r->line.len == 0)
		return FA_LOG_END;
	if (quotes % 2 == 0 && parse_csv(r, record))
		return FA_LOG_RECORD;
	if (second >= 0 && fseek(r->file, second, SEEK_SET) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not seek in log file: %m")));
	return FA_LOG_BROKEN;
}

static char *
json_text(Jsonb *object, const char *key)
{
	JsonbValue *v = getKeyJsonValueFromContainer(&object->root, key,
												 (int) strlen(key), NULL);

	return v && v->type == jbvString ?
		pnstrdup(v->val.string.val, v->val.string.len) : NULL;
}

/* An error of the parser is the caller's to catch. */
static FaLogLine
next_json(FaLogReader *r, FaLogRecord *record)
{
	Jsonb	   *object;

	resetStringInfo(&r->line);
	if (!read_line(r))
		return FA_LOG_END;
	object = DatumGetJsonbP(DirectFunctionCall1(jsonb_in,
												CStringGetDatum(r->line.data)));
	if (!JB_ROOT_IS_OBJECT(object))
		return FA_LOG_BROKEN;
	record->time = json_text(object, "timestamp");
	record->user = json_text(object, "user");
	record->database = json_text(object, "dbname");
	record->session = json_text(object, "session_id");
	record->application = json_text(object, "application_name");
	record->message = json_text(object, "message");
	record->detail = json_text(object, "detail");
	return record->time ? FA_LOG_RECORD : FA_LOG_BROKEN;
}

FaLogLine
fa_log_next(FaLogReader *r, FaLogRecord *record)
{
	memset(record, 0, sizeof(*record));
	return r->json ? next_json(r, record) : next_csv(r, record);
}
