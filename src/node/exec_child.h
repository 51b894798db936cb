/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * From fork to execve: what a new process does to become the executable of a service. Runs in
 * the child, in memory copied from the supervisor; makes async-signal-safe calls only, allocates
 * nothing, and looks nothing up that could not be looked up before the fork.
 *
 * The child speaks to its supervisor through the close-on-exec status pipe in records of struct
 * exec_report: EXEC_STEP_EXEC with err 0 just before execve, or the step that failed with its
 * errno. End of file after the first means that the program runs.
 */
#ifndef NODE_EXEC_CHILD_H
#define NODE_EXEC_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "node/node.h"

enum exec_step {
	EXEC_STEP_FORK, EXEC_STEP_CGROUP, EXEC_STEP_SESSION, EXEC_STEP_LIMITS, EXEC_STEP_NICE,
	EXEC_STEP_STDIO, EXEC_STEP_SOCKETS, EXEC_STEP_UMASK, EXEC_STEP_DIR, EXEC_STEP_GROUPS,
	EXEC_STEP_GROUP, EXEC_STEP_USER, EXEC_STEP_PRIVILEGES, EXEC_STEP_PDEATHSIG, EXEC_STEP_EXEC,
	EXEC_STEPS
};

/* The word for a step, as it stands in `step` of an event; "?" if there is none. */
const char *exec_step_name(unsigned step);

struct exec_report {
	uint8_t step;         /* enum exec_step */
	uint8_t mark_skipped; /* the log pipe had no room for the start mark */
	int32_t err;          /* 0: about to exec */
};

/* What a start has prepared. Descriptors are the supervisor's numbers, close-on-exec; -1: none. */
struct exec_plan {
	const struct node *node;
	const struct spec_image *img;
	const struct spec_child *child;
	pid_t supervisor;       /* whose child it must still be at the end */
	int status;             /* write end of the status pipe */
	int log;                /* write end of the log pipe; -1: inherit, or null as the spec says */
	int ready;              /* write end for ready = "fd:N" */
	const char *invocation;
	const char *notify;     /* NOTIFY_SOCKET, "@..." */
};

/* Becomes the program, or reports why not and ends. */
_Noreturn void exec_child(const struct exec_plan *p);

/* --- parts, each in a file of its own --- */

/* Puts descriptors where the program expects them and closes all others; the status pipe may get
 * a new number. Returns 0, or the errno with *step_r set. */
int exec_fds(const struct exec_plan *p, int *status, enum exec_step *step_r);

/* Drops to the spec's user and groups and proves that there is no way back. As exec_fds(). */
int exec_privileges(const struct spec_image *img, const struct spec_worker *w, enum exec_step *step_r);

/* Fills the child's static tables of arguments and environment. Returns 0 or the errno. */
int exec_env_fill(const struct exec_plan *p);
/* execve with the child's tables, the program looked for in the child's PATH if its name has no
 * slash. Returns the errno: it did not work. */
int exec_env_run(void);

#endif
