/*
 * load.h
 *	  Parts of the program "load"; see main.c.
 */
#ifndef LOAD_H
#define LOAD_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "libpq-fe.h"

#define MAX_KEYS 100000
#define ABSENT (-1)
#define NONE (-2)

typedef struct Key
{
	int64_t		value;			/* ABSENT or n */
	int64_t		other;			/* NONE, or what it is instead */
} Key;

typedef enum Outcome
{
	DONE,						/* acknowledged */
	REFUSED,					/* surely not done */
	UNKNOWN						/* connection lost on the way */
} Outcome;

/* The program's options. */
typedef struct Options
{
	const char *out_path;
	const char *mode;
	const char *table;
	const char *conninfo;
	int64_t		writer;
	int			nkeys;
	int			nanchors;
	int			pause_us;
	bool		with_times;
} Options;

/* in main.c */
extern volatile sig_atomic_t stop;

/* in report.c: options, what was seen, and the files that say so */
extern Options options;

extern void parse(int argc, char **argv);
extern void wrong(const char *text);
extern void note_error(const char *state, const char *message);
extern void note_lost(void);
/* An operation has ended: when, and after how many ms; false: cannot be written. */
extern bool note_operation(double ms);
extern void open_files(void);
extern void report(void);

/* in session.c: the connection */
extern PGconn *conn;
extern bool unfinished;			/* said the last commit */

/* Connects until it works or we are told to stop. */
extern bool reconnect(void);
extern Outcome judge(PGresult *res);
/* "ins", "upd", "del" or "sel" of one row. */
extern PGresult *run(const char *name, int64_t id, int64_t n, bool prepared);
extern bool simple(const char *sql);

/* in keys.c: the writer's own rows */
extern Key	keys[MAX_KEYS];

extern int64_t key_id(int k);
/* A key whose state is certain; -1 when a few tries found none. */
extern int	pick_key(void);
/*
 * One statement on a key; *after_p is the state that it leads to.  With an
 * answer at hand it is checked.
 */
extern Outcome statement(int k, int64_t before, int64_t *after_p, bool prepared);
/* The row as this transaction must see it, its own writes included. */
extern Outcome look(int k, int64_t expected, bool lock);
/* What a statement that has ended so makes of a key. */
extern void settle(int k, int64_t after, Outcome outcome);

/* in modes.c: one operation of each */
extern void op_single(bool prepared);
extern void op_block(void);
extern void op_transfer(void);
extern void op_copy(void);
extern void op_rr(void);
extern bool look_at_anchors(void);

#endif							/* LOAD_H */
