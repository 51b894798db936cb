/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * From a plan to execve: what a new process does to become the executable of a service. The plan
 * is made in the supervisor; the process carries it out, in a copy of the supervisor's memory or,
 * faster, in that memory itself (exec_launch.c). So it makes raw system calls only, allocates
 * nothing, and writes nowhere but on its stack, in the plan and in the tables of these files,
 * which belong to one process at a time.
 *
 * The child speaks to its supervisor in records of struct exec_report: in memory, if they share it,
 * else through the status pipe. That pipe is close-on-exec in any case: its end of file after
 * EXEC_SAYS_EXECUTING means that the program runs.
 */
#ifndef NODE_EXEC_CHILD_H
#define NODE_EXEC_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/group.h"
#include "node/node.h"
#include "node/service_mark.h"

enum exec_step {
	EXEC_STEP_FORK, EXEC_STEP_CGROUP, EXEC_STEP_SESSION, EXEC_STEP_LIMITS, EXEC_STEP_NICE,
	EXEC_STEP_STDIO, EXEC_STEP_SOCKETS, EXEC_STEP_UMASK, EXEC_STEP_DIR, EXEC_STEP_GROUPS,
	EXEC_STEP_GROUP, EXEC_STEP_USER, EXEC_STEP_PRIVILEGES, EXEC_STEP_PDEATHSIG, EXEC_STEP_EXEC,
	EXEC_STEP_SLOT,                     /* servers: a place in the node's shared memory */
	EXEC_STEP_NAME,                     /* JSON servers: its name */
	EXEC_STEP_DLOPEN, EXEC_STEP_DLSYM,  /* modules */
	EXEC_STEPS
};

/* The word for a step, as it stands in `step` of an event; "?" if there is none. */
const char *exec_step_name(unsigned step);

enum exec_says {
	EXEC_SAYS_NOTHING,
	EXEC_SAYS_LEFT,       /* it has a table of descriptors of its own now; always through the pipe */
	EXEC_SAYS_EXECUTING,  /* the next thing is execve */
	EXEC_SAYS_FAILED,     /* step and err say why; it ends */
};

enum exec_marked { EXEC_MARKED_NOT, EXEC_MARKED, EXEC_MARKED_NO_ROOM };

struct exec_report {
	uint8_t says;         /* enum exec_says */
	uint8_t step;         /* enum exec_step */
	uint8_t marked;       /* enum exec_marked: what became of the records for the log */
	int32_t err;
};

/* One move: a descriptor and the number that the program expects it at. */
struct exec_move {
	int from, to;
};

#define EXEC_LOW_MAX 8

struct exec_fds {
	struct exec_move move[NODE_SOCKETS_MAX + 4];
	int n;
	int after_sockets;    /* first number above them */
	int ready;            /* number of ready = "fd:N"; -1 */
	int err;              /* what could not be planned, at this step: the child reports it */
	enum exec_step step;
	int above;            /* sharing: everything needed is below */
	int low[EXEC_LOW_MAX], n_low; /* sharing: copies that were made for that */
	int low_of;           /* what the last one is a copy of */
};

/* What a start has prepared. Descriptors are the supervisor's numbers, close-on-exec; -1: none. */
struct exec_plan {
	const struct node *node;
	struct spec_image img;  /* the supervisor's own may be replaced meanwhile; the memory stays */
	const struct spec_child *child;
	pid_t supervisor;       /* whose child it must still be at the end */
	int status;             /* write end of the status pipe */
	int log;                /* write end of the log pipe; -1: inherit, or null as the spec says */
	int ready;              /* write end for ready = "fd:N", or for the answer of a module's init */
	int in, out;            /* JSON server: its standard input and output; the caller's to close */
	uint64_t member;        /* module: claimed for it */
	const char *invocation;
	const char *notify;     /* NOTIFY_SOCKET, "@..." */
	struct service_marks marks; /* to write before its own start mark */
	int mark_pipe[2];       /* through this; -1: through one that it makes */
	bool shares_memory, shares_files;
	int err;                /* group_fork()'s: it could not enter its group */
	int env_err;            /* sharing memory: what could not be prepared */
	struct exec_fds fds;
	struct exec_report report; /* sharing memory: what the child said last */
	_Atomic int leaving;       /* sharing descriptors: enum exec_leaving */
};

/* A supervisor that sleeps must be told that the child has left its table; one that is awake looks. */
enum exec_leaving { EXEC_NOT_LEFT, EXEC_LEFT, EXEC_SLEEPS };

/* --- exec_launch.c --- */

enum exec_marks {
	EXEC_MARKS_NONE,      /* the plan had none, or there was no room for them */
	EXEC_MARKS_WRITTEN,
	EXEC_MARKS_TAKEN,     /* the child writes them; the report will tell */
};

/* Makes the process of a plan; the plan is copied, and its status and ready are taken over and closed,
 * though perhaps not at once. The pid, or -1 with errno. All signals must be blocked. *marks_r tells
 * what becomes of the plan's marks; also when there is no process. */
pid_t exec_launch(struct group *g, const struct exec_plan *p, enum exec_marks *marks_r);
/* The child said something through the pipe: by then it has a table of descriptors of its own. */
void exec_launch_said(pid_t pid);
/* The child has executed a program, or is dead: nothing of ours is shared with it any more. What it said
 * in memory is put into *r. False if it did not share memory, or this is known already. */
bool exec_launch_over(pid_t pid, struct exec_report *r);
/* To be called before the supervisor sleeps. */
void exec_launch_rest(void);
/* Tells whether a process shares our memory: then nothing may be unmapped that its plan leads to. */
bool exec_launch_busy(void);
/* In a forked process that goes on as a supervisor of its own: what its parent launched is not its. */
void exec_launch_forked(void);
/* Closes what was opened for all launches. */
void exec_launch_fini(void);

/* --- in the child --- */

/* Becomes the program, or reports why not and ends. */
_Noreturn void exec_child(struct exec_plan *p);
/* Says that all is ready: the next thing is the program. */
void exec_child_executing(struct exec_plan *p);
/* Gives back the protection from the OOM killer that is the node's alone. Raw system calls only. */
void exec_restore_oom(const struct node *n);
/* In place of execve: becomes a server of the module. Returns the errno of *step_r: it did not work. */
int exec_module(struct exec_plan *p, enum exec_step *step_r);

/* --- parts, each in a file of its own --- */

/* In the supervisor: decides which descriptor goes where. */
void exec_fds_plan(struct exec_plan *p);
/* Makes low copies, so that the child may share the table at first. False if that cannot be. */
bool exec_fds_share(struct exec_plan *p);
/* Closes the copies. */
void exec_fds_unshare(struct exec_plan *p);
/* In a forked process that goes on as a supervisor: forgets descriptors that are closed there. */
void exec_fds_forked(void);
void exec_fds_fini(void);
/* In the child: leaves the shared table. The first thing it does; 0 or the errno. */
int exec_fds_leave(const struct exec_plan *p);
/* Puts descriptors where the program expects them and closes all others; the status pipe may get
 * a new number. Returns 0, or the errno with *step_r set. */
int exec_fds_apply(struct exec_plan *p, enum exec_step *step_r);

/* In the child: drops to the spec's user and groups and proves that there is no way back. As
 * exec_fds_apply(). */
int exec_privileges(const struct spec_image *img, const struct spec_worker *w, enum exec_step *step_r);

/* Fills the tables of arguments and environment. Returns 0 or the errno. */
int exec_env_fill(const struct exec_plan *p);
/* In the child: puts its pid where it belongs in filled tables. */
void exec_env_pid(pid_t pid);
/* In a child that does not execute a program: the environment of the tables becomes its own. */
void exec_env_use(void);
/* In the child: execve with the tables, the program looked for in the child's PATH if its name has no
 * slash. Returns the errno: it did not work. */
int exec_env_run(void);

#endif
