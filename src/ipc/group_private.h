/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The two ways of holding a group together, behind group.h: a cgroup (group_cgroup.c), or what
 * /proc tells of our own children (group_proc.c). Both never allocate, except where it is said.
 */
#ifndef IPC_GROUP_PRIVATE_H
#define IPC_GROUP_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "ipc/group.h"

/* --- between group.c and group_fork.c --- */

/* From now on the group is held together by the fallback. */
void group_forget_cgroup(struct group *g);
/* Learns, once, whether processes can be cloned into the cgroups of this node. Forks. */
void group_try_clone(int cgroup);

/* --- cgroup v2; a cgroup is named by a descriptor of its directory --- */

/* Opens this process's own cgroup. -1 if there is none that can be seen. Allocates. */
int cgroup_open_own(void);
/* Makes `name` below parent and opens it; an existing one is opened, and told. -1 with errno. */
int cgroup_make(int parent, const char *name, bool *existed_r);
/* Opens the file that tells of its last process's end. */
int cgroup_open_events(int dirfd);
bool cgroup_populated(int events_fd);
/* Kills everything in it and below, by cgroup.kill or, before Linux 5.14, by walking. */
void cgroup_kill(int dirfd);
/* The walk: one pass over everything in it and below. */
void cgroup_signal(int dirfd, int sig);
/* Moves the calling process into it; async-signal-safe. 0 or -1. */
int cgroup_enter(int dirfd);
/* Removes it with all that is below; stops where something is still alive. 0 or -1 with errno. */
int cgroup_remove(int parent, const char *name);
bool cgroup_contains(int dirfd, pid_t pid);
/* Replaces an empty cgroup by a new one of the same name; the descriptor follows. 0 or -1. */
int cgroup_renew(int *dirfd);

/* --- /proc --- */

struct proc_info {
	char state;    /* 'Z' and 'X': dead */
	pid_t parent;
	pid_t session;
};

/* Reads a process's stat line; false if there is no such process. */
bool proc_stat(pid_t pid, struct proc_info *info_r);
/* Finds INVOCATION_ID in a process's environment; "" if it cannot be read or is not there. */
void proc_invocation(pid_t pid, char inv_r[GROUP_INVOCATION + 1]);
/* Tells whether a living process shows neither arguments nor environment: it is within execve. */
bool proc_is_executing(pid_t pid);
/* Calls f for each child of this process, zombies included, until it returns false. */
typedef bool proc_child_f(void *ctx, pid_t pid);
/* False when it could not look: then nothing is known. */
bool proc_each_child(proc_child_f *f, void *ctx);

/* Counts the children of this process, dead ones included; -1 without a list of them. Keeps a descriptor. */
int proc_count_children(void);
void proc_forget_children(void);

/* --- directories without opendir(3), which allocates --- */

/* Finds the next subdirectory's name from the descriptor's position on; false at the end. */
bool dir_next(int dirfd, char *name_r, size_t size);

#endif
