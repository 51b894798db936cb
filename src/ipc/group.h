/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Everything a child has started, as one thing that can be killed and waited for. Linux only.
 * With a writable cgroup v2: one cgroup per child, nested like the tree (a supervisor's children
 * below its own), killed by cgroup.kill. Without: the child's session, and orphans that came to
 * this subreaper, told apart by the INVOCATION_ID in their environment. Never allocates after
 * group_open().
 *
 * Regime: goes on when anything fails; a group that cannot have a cgroup falls back.
 */
#ifndef IPC_GROUP_H
#define IPC_GROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define GROUP_NAME_MAX 1024
#define GROUP_INVOCATION 32 /* hex digits */

/* A directory below which groups are made: of the node, or of one supervisor. */
struct group_base {
	int dirfd;                 /* cgroup v2 directory; -1: none, fall back */
};

struct group {
	int dirfd;                 /* this child's cgroup; -1: fallback */
	int events_fd;             /* its cgroup.events, for EPOLLPRI; -1 */
	pid_t main;                /* of the present incarnation; session leader; 0 */
	char invocation[GROUP_INVOCATION + 1]; /* of the present incarnation */
	bool killed;               /* its cgroup was killed and must be made anew before it is used again */
};

/* Finds this process's own cgroup v2 directory and makes `name` in it, killing and removing first
 * what an earlier node of the same name left there. base->dirfd is -1 when that is not possible. */
void group_base_open(struct group_base *base, const char *name);
/* Kills what is in it, waits shortly, removes it and everything below. For the node's end. */
void group_base_remove(struct group_base *base, const char *name);

/* Makes a child's group below base; name is its id with a kind prefix. Falls back silently. */
void group_open(struct group *g, const struct group_base *base, const char *name);
/* Draws a new invocation for the next start. */
void group_renew(struct group *g);
/* Removes the (empty) cgroup and closes. */
void group_close(struct group *g, const struct group_base *base, const char *name);
/* A supervisor makes its children's groups in its own. */
void group_as_base(const struct group *g, struct group_base *base_r);

/* fork into the group, with a pidfd: 0 in the child, the pid in the parent, -1 with errno. All signals
 * must be blocked by the caller. *pidfd_r may be -1 where the kernel has none; pidfd_r may be NULL. Raw
 * clone3; falls back to fork() + cgroup.procs: there the child finds in errno why it could not enter its
 * group, or 0. The child must only make async-signal-safe calls, or call group_forked(). */
pid_t group_fork(struct group *g, int *pidfd_r);
/* What a new process runs while it shares the memory of its parent: a function that never returns and
 * never touches what the parent may use meanwhile, errno included: raw system calls only (base/raw.h). */
struct group_start {
	void (*run)(void *arg);
	void *arg;
	void *stack;               /* its lower end, of a stack that nobody else uses until the process has executed */
	size_t stack_size;         /* a program or is dead; a multiple of 16 */
	bool share_files;          /* shares the table of descriptors too, until it leaves it */
};
bool group_can_spawn(void); /* false: this machine cannot, or a sanitizer watches */
/* As group_fork(), for a process that will execute a program: shares memory instead of copying it.
 * -1 with ENOSYS where that cannot be done: then group_fork() can. */
pid_t group_spawn(struct group *g, const struct group_start *start);
/* In a child that goes on as a process of the node instead of calling exec (a supervisor): puts in order
 * what a raw clone left out. */
void group_forked(struct group *g);

/* Tells who else is alive, for the fallback: is this orphan (by its invocation, or session) one of a
 * living child of this supervisor? Asked with "" when the invocation is not known, and first of all with
 * "" and the process's own pid: so main processes and nested supervisors are told from orphans even
 * before they have a session of their own. */
typedef bool group_living_f(void *ctx, const char *invocation, pid_t session);

/* Sends sig to all of the group but never to a living sibling. SIGKILL uses cgroup.kill. In the fallback:
 * the session's process groups and every adopted orphan for which living() says no. */
void group_signal(struct group *g, int sig, group_living_f *living, void *ctx);

/* Tells whether any process of the group is left. In the fallback an orphan that is dead but not reaped
 * counts: its own children may be ours since a moment, and not looked at yet. */
bool group_populated(struct group *g, group_living_f *living, void *ctx);

/* Tells whether pid is a process of the group: in its cgroup, or, in the fallback, in the session or with
 * the invocation of the present incarnation. */
bool group_contains(const struct group *g, pid_t pid);

/* KILLs every child of this process, adopted ones included: a supervisor's last will. */
void group_kill_children(void);
/* KILLs those children, adopted ones included, that are not known. */
typedef bool group_known_f(void *ctx, pid_t pid);
void group_kill_strays(group_known_f *known, void *ctx);
/* Counts this process's children, adopted and dead ones included; -1 where the kernel has no list of them. */
int group_count_children(void);
/* Closes the descriptor that counting keeps open; the next time it is opened again. */
void group_forget_children(void);
/* Finds the INVOCATION_ID in a process's environment; "" if it cannot be read or has none. */
void group_invocation(pid_t pid, char inv_r[GROUP_INVOCATION + 1]);
/* KILLs everything in the base's cgroup, the caller too if it is in it; nothing without a cgroup. */
void group_base_kill(const struct group_base *base);

#endif
