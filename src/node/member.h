/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Which processes of a node take part in its shared memory: root, supervisors and control, the
 * workers that are modules, and the companions of JSON servers. Root makes the memory before its
 * first fork; whoever forks a member claims a slot for it before, and whoever reaps a dead one
 * buries it before. Executables have no part in it, the log process and parsers neither.
 *
 * Nothing here is needed for supervision: a node whose memory could not be made, or is full, runs as
 * well, and only servers cannot be started in it.
 */
#ifndef NODE_MEMBER_H
#define NODE_MEMBER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <coppice/exit.h>

/* Root: makes the memory and becomes its first process; says so if that cannot be. */
void member_node_create(const char *node);
/* Why the calling process has no part in it: 0 if it has, else an errno. */
int member_errno(void);

/* Before a fork: claims a slot for the new process, a child of the caller. label: a path, or NULL. Returns its id,
 * or 0 with errno: then the new process is no member. One at a time. */
uint64_t member_claim(const char *label);
/* Gives the claimed one a name, which is taken from then on. -1 with errno as cop_register(). */
int member_name(uint64_t id, const char *name);
/* In the parent, after the fork; pid < 0: there is no process, the slot is free again. errno stays. */
void member_forked(uint64_t id, pid_t pid);

enum member_kind {
	MEMBER_WORKER,     /* what it spawns is its sibling; is killed when its parent dies */
	MEMBER_SUPERVISOR, /* what it spawns is its child; its parent's death is a signal that it gets */
	MEMBER_ASIDE,      /* as a worker, but exit signals are messages to it from the beginning */
};
/* In the new process: becomes the process of its slot. id 0: it is no member, and knows nothing of the memory
 * from now on. up_fd: where a server says how its start went; -1. */
void member_become(uint64_t id, enum member_kind kind, int up_fd);
/* In a process that is to have no part: takes the memory away. */
void member_leave(void);

/* How a member died. */
struct member_death {
	uint64_t id;            /* 0: it was none */
	struct cop_exit reason;
};
/* As waitpid(which, status_r, WNOHANG), which < 0 for any child; a member is buried before it is reaped, so that
 * everybody who watches it has heard when this returns. */
pid_t member_wait(pid_t which, int *status_r, struct member_death *d);

/* The exit signal of a supervisor: a message if the process traps exits, else its end. False: it cannot be
 * reached. */
bool member_exit(uint64_t id, const struct cop_exit *reason);
/* Ends it; what others hear is the reason, unless it has one already. */
void member_kill(uint64_t id, const struct cop_exit *reason);

#endif
