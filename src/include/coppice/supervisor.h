/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Supervisor, DynamicSupervisor and PartitionSupervisor. A supervisor is a process of its own that does
 * nothing but start, watch, restart and stop its children: servers, plain functions, executables and
 * other supervisors, mixed as one likes. Its rules are OTP's, event for event.
 */
#ifndef COPPICE_SUPERVISOR_H
#define COPPICE_SUPERVISOR_H

#include <coppice/server.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum cop_restart { COP_PERMANENT, COP_TRANSIENT, COP_TEMPORARY };
enum cop_strategy { COP_ONE_FOR_ONE, COP_ONE_FOR_ALL, COP_REST_FOR_ONE };
enum cop_auto_shutdown { COP_AUTO_NEVER, COP_AUTO_ANY_SIGNIFICANT, COP_AUTO_ALL_SIGNIFICANT };

/* Of shutdown_ms; 0 is OTP's default: 5000, or for supervisors infinity. */
#define COP_SHUTDOWN_INFINITY (-1)
#define COP_SHUTDOWN_BRUTAL_KILL (-2)
#define COP_SHUTDOWN_AT_ONCE (-3) /* OTP's 0: asked, and killed at once */
#define COP_NOT_ONE (-1)          /* of max_restarts and max_children: zero */

/* A child specification. Exactly one of server, run, supervisor and exec says what the child is. */
struct cop_child {
	const char *id;                    /* unique among its siblings, 1 to 64 bytes; dynamic: may repeat */
	const struct cop_server_ops *server;
	cop_proc_f *run;                   /* a plain function: started when it runs. Gets arg */
	const struct cop_supervisor *supervisor;
	const char *const *exec;           /* program (looked up in PATH) and arguments, NULL at the end: started when
	                                      it is executed, asked to end by SIGTERM */
	const char *name;                  /* registered name of a server or function; a supervisor has its own */
	const void *arg;                   /* for init or run, copied */
	size_t arg_size;
	uint8_t restart;                   /* enum cop_restart */
	bool significant;                  /* see auto_shutdown */
	int32_t shutdown_ms;               /* milliseconds, or COP_SHUTDOWN_* */
	const struct cop_via *via;         /* a name in a registry (coppice/registry.h), as `name`; NULL: none */
};

struct cop_supervisor {
	const char *name;                  /* registered; NULL: none */
	uint8_t strategy;                  /* enum cop_strategy */
	uint8_t auto_shutdown;             /* enum cop_auto_shutdown */
	bool dynamic;                      /* a DynamicSupervisor: children come by cop_supervisor_start_child()
	                                      and are forgotten when they end for good */
	int32_t max_restarts;              /* 0: 3 */
	int32_t max_seconds;               /* 0: 5 */
	int32_t max_children;              /* dynamic; 0: no limit */
	const struct cop_child *children;  /* in start order; not dynamic */
	size_t n_children;
	int32_t partitions;                /* a PartitionSupervisor: so many copies of the only child, a server or a
	                                      function, with the ids 0, 1, ...; COP_ONLINE: one for each processor.
	                                      Must have a name. 0: none of this */
};

#define COP_ONLINE (-1) /* of partitions: as many as there are processors online */

/* Starts a supervisor, linked to the caller, and waits until all its children are started. As
 * cop_server_start_link(); further reasons: `shutdown:failed_to_start_child`, `supervisor_data` and `start_spec` (what
 * it says of itself, or of its children, is wrong; the report tells what: coppice/node.h). Mirrors
 * Supervisor.start_link/2 and DynamicSupervisor.start_link/1. */
enum cop_start cop_supervisor_start_link(const struct cop_supervisor *spec, struct cop_started *started_r)
    __attribute__((warn_unused_result));

/* The calls below take no time-out, as OTP's, and are answered in their turn: not while the supervisor starts or stops
 * something. Besides what they list, each may fail with ESRCH (there is no such supervisor) and EPIPE (it ended before
 * it answered; the reason is in started_r where there is one). */

/* Adds a child and starts it. The specification is copied to the supervisor: what it points to must mean the
 * same there, so functions must be of the program or of a library loaded before the node was. NOT_STARTED:
 * errno EEXIST with reason `already_started` (pid) or `already_present`; EOVERFLOW with
 * `max_children`; EINVAL; otherwise the child's own reason. Mirrors start_child/2. */
enum cop_start cop_supervisor_start_child(struct cop_dest sup, const struct cop_child *child,
    struct cop_started *started_r) __attribute__((warn_unused_result));
/* Stops a child by its id; not of a dynamic supervisor. Its specification stays, if it is not temporary.
 * 0, or -1 with ENOENT. Mirrors Supervisor.terminate_child/2. */
int cop_supervisor_terminate_child(struct cop_dest sup, const char *id);
/* Stops a child of a dynamic supervisor. 0, or -1 with ENOENT. Mirrors DynamicSupervisor.terminate_child/2. */
int cop_supervisor_terminate_pid(struct cop_dest sup, cop_pid pid);
/* Starts a child that is not running. NOT_STARTED: errno ENOENT (`not_found`), EBUSY (`running`), EAGAIN
 * (`restarting`), or its reason. Mirrors restart_child/2. */
enum cop_start cop_supervisor_restart_child(struct cop_dest sup, const char *id, struct cop_started *started_r)
    __attribute__((warn_unused_result));
/* Forgets a child that is not running. 0, or -1 with ENOENT, EBUSY (running) or EAGAIN (restarting). Mirrors
 * delete_child/2. */
int cop_supervisor_delete_child(struct cop_dest sup, const char *id);

enum cop_child_state { COP_CHILD_RUNNING, COP_CHILD_UNDEFINED, COP_CHILD_RESTARTING };
struct cop_child_info {
	char id[COP_NAME_MAX + 1];
	cop_pid pid;             /* RUNNING; COP_NOPID of an executable */
	int os_pid;
	uint8_t state;           /* enum cop_child_state */
	bool supervisor;         /* type */
};
/* Lists the children, the last started first, at most max of them; returns how many there are, or -1. Mirrors
 * which_children/1. */
long cop_supervisor_which_children(struct cop_dest sup, struct cop_child_info *info, size_t max);

struct cop_child_counts {
	uint32_t specs, active, supervisors, workers;
};
/* 0 or -1. Mirrors count_children/1. */
int cop_supervisor_count_children(struct cop_dest sup, struct cop_child_counts *counts_r);

/* --- PartitionSupervisor: a supervisor with `partitions` --- */

/* Returns the process of the partition that key belongs to (key modulo their number), COP_NOPID if it is not
 * running or the name is not a partition supervisor's. Reads shared memory only. Mirrors
 * {:via, PartitionSupervisor, {name, key}}. */
cop_pid cop_partition_of(const char *name, uint64_t key);
/* Hashes bytes to a key for cop_partition_of(). */
uint64_t cop_partition_hash(const void *data, size_t len);
/* Returns the number of partitions, 0 if there is no such supervisor. Mirrors PartitionSupervisor.partitions/1. */
uint32_t cop_partition_count(const char *name);
/* Returns which partition the calling process is, or -1. */
long cop_partition(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
