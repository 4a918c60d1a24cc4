/*
 * settings.h
 *	  Server variables (GUCs) and the cluster's settings.
 *
 * Variables hold what must be fixed at start or belongs to a session; all
 * else is a row of fragaffinity.setting, equal on every node, set through
 * fragaffinity.configure().
 */
#ifndef FA_CORE_SETTINGS_H
#define FA_CORE_SETTINGS_H

/* in guc.c */
extern bool fa_atomic_commit;	/* commit on all nodes or on none */
extern bool fa_capture;			/* count this session's accesses */
extern bool fa_routing;			/* planner hook on */
extern bool fa_maintenance;		/* our own DDL; superuser only */
extern char *fa_run_as;			/* whose commands our own connections run, or "" */
extern int	fa_origin;			/* node that this session works for; 0: a client */
extern int	fa_hops;			/* nodes that have handed on this session's statements */
extern int	fa_peer_idle_timeout;	/* ms, of sessions with an origin; 0: none */
extern int	fa_copy_writers;	/* workers that write rows of a COPY at most */
extern int	fa_max_fragments;	/* slots in shared memory */
extern int	fa_max_movers;		/* concurrent moves into this server */
extern int	fa_event_ring_size; /* captured events kept until drained */
extern char *fa_stop_point_name;	/* tests: where to halt */
extern char *fa_transport_faults;	/* tests: see transport/fault.c */

/* of the transport "rdma" at this server: see transport/rdma.h */
extern char *fa_rdma_address;
extern int	fa_rdma_port;
extern int	fa_rdma_streams;
extern int	fa_rdma_staging_kb;

extern void fa_guc_define(void);

/* in settings.c */
typedef enum FaSettingType
{
	FA_SETTING_FLOAT,
	FA_SETTING_INT,
	FA_SETTING_BOOL,
	FA_SETTING_MS,				/* a duration: "90s", "5 min" */
	FA_SETTING_BYTES,			/* a size: "256MB" */
	FA_SETTING_ENUM,
	FA_SETTING_INT_LIST,		/* ascending, comma separated */
	FA_SETTING_NAME_LIST,		/* some of "values", each once, comma separated */
	FA_SETTING_HOURS			/* "always", or "22:00-06:00, 12:00-13:00" */
} FaSettingType;

typedef struct FaSettingDef
{
	const char *name;
	FaSettingType type;
	const char *default_value;
	double		min;
	double		max;
	const char *values;			/* of an enum or list of names: "a|b|c" */
	bool		per_table;
	const char *description;
} FaSettingDef;

/* Table of all settings, ended by a NULL name. */
extern const FaSettingDef fa_setting_defs[];
extern const FaSettingDef *fa_setting_find(const char *name);	/* or NULL */

/* Raises INVALID_PARAMETER_VALUE with a hint when value does not fit. */
extern void fa_setting_check(const FaSettingDef *def, const char *value);

/*
 * Value in force, for one table (its own, else the cluster's, else the
 * default) or for the cluster (table_id 0).  In a transaction.  Durations in
 * ms, sizes in bytes.  Text is palloc'd.
 */
extern double fa_setting_float(const char *name, int table_id);
extern int64 fa_setting_int(const char *name, int table_id);
extern bool fa_setting_bool(const char *name, int table_id);
extern char *fa_setting_text(const char *name, int table_id);

/* Is a minute of the day within a value of the type HOURS? */
extern bool fa_setting_hours(const char *value, int minute);

/* Relation of the catalog by name, e.g. "setting"; raises when missing. */
extern Oid	fa_catalog_relid(const char *relname);

/* True when the extension exists in this database. */
extern bool fa_extension_exists(void);

#endif							/* FA_CORE_SETTINGS_H */
