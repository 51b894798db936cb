/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * One worker as a child of a supervisor process: from fork to the last of its processes gone.
 * A state machine that never blocks; the supervisor process feeds it deaths and orders, it calls
 * back. Runs in supervisor processes.
 *
 *   IDLE -start-> STARTING -ready-> RUNNING -main process reaped-> DRAINING -group empty-> IDLE
 *                 STARTING -late/failed-> FAILING (killed, waits for the group) -> IDLE
 *   (stop and kill orders are remembered in flags; they change no state)
 *
 * Regime: allocates in service_create() alone. Descriptors that a start needs are made at the start;
 * a start that finds none fails with the errno of the call, closed up completely.
 */
#ifndef NODE_SERVICE_H
#define NODE_SERVICE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <coppice/exit.h>
#include "ipc/loop.h"
#include "node/member.h"
#include "node/node.h"

struct service;

/* What a service tells its supervisor. Called from loop callbacks and from the functions below
 * (never from service_create/destroy). */
struct service_ops {
	/* a process was created */
	void (*created)(void *ctx, pid_t pid);
	/* the start is complete */
	void (*ready)(void *ctx, uint32_t after_ms);
	/* the start has failed; nothing of it is left. pid 0: fork itself failed. */
	void (*start_failed)(void *ctx, const struct cop_exit *reason, pid_t pid);
	/* a server's init said that it is not to be started; nothing of it is left. NULL: that is a failed start */
	void (*ignored)(void *ctx, const struct cop_exit *reason, pid_t pid);
	/* a process that was ready, or was being stopped, is gone and so is all it started */
	void (*exited)(void *ctx, const struct cop_exit *reason, pid_t pid, bool asked, uint64_t ran_ms);
	/* a signal went out on the way to its end: "TERM", "KILL", "ABRT" (watchdog) */
	void (*stopping)(void *ctx, const char *how);
	/* something an administrator should read */
	void (*note)(void *ctx, const char *text);
	/* is this a living child of the supervisor? (group.h) */
	group_living_f *living;
};

/* Makes a service. spec points into img, both stay valid until service_set_spec(). cg: its group's base.
 * NULL with ENOMEM. */
struct service *service_create(struct node *n, struct loop *l, const struct group_base *cg,
    const struct spec_image *img, const struct spec_child *spec, const struct service_ops *ops, void *ctx);
/* Only in IDLE, and not from a callback of its own. Closes the log pipe too. */
void service_destroy(struct service **s);
/* After a reload: the same child in a new image. What only a new process can take over is used
 * from the next start; the rest at once. */
void service_set_spec(struct service *s, const struct spec_image *img, const struct spec_child *spec);

/* Starts a process. Only in IDLE. Exactly one of ready(), start_failed(), exited() (if stopped
 * meanwhile) will follow; created() comes before, unless fork failed. May call back at once. */
void service_start(struct service *s);
/* Asks it to end: the stop signal, then CONT, to the main process. Then exited() will follow, also
 * when it was still starting. */
void service_stop(struct service *s);
/* KILLs it and (kill_group) everything it started. */
void service_kill(struct service *s);
/* Sends a signal to the main process. -1 with ESRCH when there is none. */
int service_signal(struct service *s, int sig);

/* The supervisor reaped this pid. True if it was this service's main process. */
bool service_reaped(struct service *s, pid_t pid, int wstatus);
/* What is known of the end of a process that was a member of the node; comes before service_reaped(). */
void service_death(struct service *s, const struct member_death *d);
/* The companion of a JSON server (0: there is none), and its end. */
pid_t service_companion(const struct service *s);
void service_companion_reaped(struct service *s, const struct member_death *d, int wstatus);
/* Some orphan was reaped: a service that waits for its group looks again. */
void service_orphan_reaped(struct service *s);

/* --- looking --- */
pid_t service_pid(const struct service *s);          /* 0: none */
int64_t service_since_ms(const struct service *s);   /* start of the present process; 0 */
const char *service_status_text(const struct service *s); /* STATUS=, escaped; "" */
const char *service_log_dir(const struct service *s);     /* "" if its output is not kept */
/* Of the present process, or "". With kill_group = false also when there is none: what it left is its own. */
const char *service_invocation(const struct service *s);
/* Milliseconds by which EXTEND_TIMEOUT_USEC has moved the present stop deadline; 0. */
int64_t service_extension_ms(const struct service *s);
bool service_draining(const struct service *s);

#endif
