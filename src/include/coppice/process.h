/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Processes as Erlang means them: spawned, linked, monitored, named, ended with a reason. Each is a
 * real Unix process, forked from the one that spawns it and a child of the nearest supervisor (or of
 * the node's root). Everything here works in a process of a node only (coppice/node.h) and aborts
 * elsewhere. None of it may be called from a signal handler or from a second thread.
 */
#ifndef COPPICE_PROCESS_H
#define COPPICE_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <coppice/exit.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* A process: never names another one, not even when its place and its Unix pid are used again. */
typedef struct {
	uint64_t id;
} cop_pid;

/* What a monitor, a request or a timer is known by. */
typedef struct {
	uint64_t id;
} cop_ref;

#define COP_NOPID ((cop_pid){ 0 }) /* no process */
#define COP_NOREF ((cop_ref){ 0 })

#define COP_NAME_MAX 64   /* bytes of a registered name, with the final NUL */
#define COP_INFINITY (-1) /* of a time-out in milliseconds: for ever */

static inline bool cop_pid_is(cop_pid a, cop_pid b)
{
	return a.id == b.id;
}

static inline bool cop_ref_is(cop_ref a, cop_ref b)
{
	return a.id == b.id;
}

struct cop_via; /* coppice/registry.h */

/* Where something is sent: to a process, or to whoever has a name at that moment. */
struct cop_dest {
	cop_pid pid;
	const char *name; /* NULL: pid */
	const struct cop_via *via; /* of cop_via(): a name in a registry; NULL: none */
};

static inline struct cop_dest cop_to(cop_pid pid)
{
	struct cop_dest to = { pid, NULL, NULL };

	return to;
}

static inline struct cop_dest cop_named(const char *name)
{
	struct cop_dest to = { { 0 }, name, NULL };

	return to;
}

/* What a process runs. When it returns, the process ends with the reason `normal`. arg is a copy of the
 * spawner's memory, as after fork(2). */
typedef void cop_proc_f(void *arg);

/* Returns the calling process. Mirrors self(). */
cop_pid cop_self(void);

/* Returns the process that started the calling one (a supervisor, or whoever spawned it). */
cop_pid cop_parent(void);

/* Returns the Unix pid of a process, or 0 when it is gone. For display and for kill(1): whoever holds a
 * number holds nothing. */
int cop_os_pid(cop_pid pid);

/* Starts a process that runs f(arg). Does not wait for it to run. It inherits memory, descriptors and
 * signal dispositions as after fork(2), but no message, link, monitor, timer, name or trapping. Returns 0
 * and the process, or -1: EAGAIN (no room in the process table, or the system's limit), ENOMEM,
 * ECANCELED (the node is ending). Mirrors spawn/1. */
int cop_spawn(cop_proc_f *f, void *arg, cop_pid *pid_r) __attribute__((warn_unused_result));

/* As cop_spawn(), and links the two at once. Mirrors spawn_link/1. */
int cop_spawn_link(cop_proc_f *f, void *arg, cop_pid *pid_r) __attribute__((warn_unused_result));

/* As cop_spawn(), and monitors the new process from the start. Mirrors spawn_monitor/1. */
int cop_spawn_monitor(cop_proc_f *f, void *arg, cop_pid *pid_r, cop_ref *ref_r)
    __attribute__((warn_unused_result));

/* Ends the calling process with a reason. In a callback of a server, its terminate runs first, as after
 * an exception in Erlang. Mirrors exit/1. */
void cop_exit(const struct cop_exit *reason) __attribute__((noreturn));

/* Sends an exit signal, as Process.exit/2 does: `kill` kills, and is seen as `killed`; `normal` does nothing to
 * a process that does not trap exits; any other reason ends one that does not, at once, and is a message
 * (COP_MSG_EXIT) to one that does. Never fails, and waits only for memory if the sender's
 * quota is used up. To oneself it takes effect before it returns, and
 * then `normal` ends one that does not trap exits, too. */
void cop_exit_signal(cop_pid to, const struct cop_exit *reason);

/* Kills a process, whether it traps exits or not. Mirrors exit(Pid, kill). */
void cop_kill(cop_pid pid);

/* Turns trapping of exit signals on or off; returns what it was. Off in a new process. Mirrors
 * process_flag(trap_exit, _). */
bool cop_trap_exit(bool on);

/* Links the calling process with another: each gets an exit signal when the other ends. Linking twice is
 * linking once, and linking to oneself is nothing. If the other is gone: with trapping on the message
 * COP_MSG_EXIT `noproc` arrives, otherwise -1 with ESRCH. -1 with ENOMEM. Mirrors link/1. */
int cop_link(cop_pid with) __attribute__((warn_unused_result));

/* Undoes a link: after the return no exit signal of it comes any more; one that has become a message
 * stays in the mailbox. Mirrors unlink/1. */
void cop_unlink(cop_pid with);

/* Monitors a process: when it ends, one COP_MSG_DOWN comes with this reference; with the reason `noproc`
 * if it is gone already or nobody has the name. N monitors give N messages. COP_NOREF with ENOMEM.
 * Mirrors monitor/2. */
cop_ref cop_monitor(struct cop_dest whom);

/* Ends a monitor. With flush, also takes its COP_MSG_DOWN out of the mailbox. Tells whether the monitor was
 * still there (had not fired). Mirrors demonitor/2. */
bool cop_demonitor(cop_ref ref, bool flush);

/* Gives a process of the node a name. A process has at most one name, a name at most one process; it is free
 * again when that process ends, before anybody is told of the end. Names are 1 to 63 bytes without
 * control characters. Returns 0, or -1: EEXIST (taken), EBUSY (it has a name), ESRCH (it is
 * gone), EINVAL (no name), ENOSPC. Mirrors register/2. */
int cop_register(const char *name, cop_pid pid) __attribute__((warn_unused_result));

/* Takes a name away from whoever has it. 0, or -1 with ENOENT. Mirrors unregister/1. */
int cop_unregister(const char *name);

/* Returns who has a name, or COP_NOPID. Reads shared memory only. Mirrors whereis/1. */
cop_pid cop_whereis(const char *name);

/* Copies the name of a process into buf, "" if it has none or is gone. Returns buf. */
const char *cop_name_of(cop_pid pid, char buf[COP_NAME_MAX]);

/* Calls f for each name that is taken, in no order. Mirrors registered/0. */
void cop_registered(void (*f)(void *ctx, const char *name, cop_pid pid), void *ctx);

/* Tells whether a process is there and not known to be ending. Mirrors is_process_alive/1. */
bool cop_is_alive(cop_pid pid);

/* Sets a text that describes the calling process in reports and `ps`; it is cut to fit a name's length.
 * Mirrors Process.set_label/1. */
void cop_set_label(const char *label);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
