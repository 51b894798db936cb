/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A node: one piece of shared memory and the processes below one root. cop_run() turns the calling
 * process into the root, which does nothing but reap, and runs the caller's function as the node's
 * first process.
 */
#ifndef COPPICE_NODE_H
#define COPPICE_NODE_H

#include <coppice/process.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct cop_supervisor;

/* What happens in a node, as OTP's reports tell it. */
enum cop_report_kind {
	COP_REPORT_EXIT,        /* a process is gone: pid, name, label, reason. Before anybody is told of it */
	COP_REPORT_INIT,        /* a supervisor, dynamic or not, begins; not one whose name is taken, or that is wrong */
	COP_REPORT_INIT_FAILED, /* it could not start its children, has stopped those that were started, and ends: reason.
	                           Or it was wrong: reason `supervisor_data` or `start_spec`, and child says what */
	COP_REPORT_PROGRESS,    /* a supervisor has started child, at first or again: child, child_pid */
	COP_REPORT_START_ERROR, /* ... could not: child, reason */
	COP_REPORT_CHILD_TERMINATED, /* ... lost child and may restart it: child, child_pid, reason */
	COP_REPORT_SHUTDOWN_ERROR,   /* ... child did not end as asked: child, child_pid, reason */
	COP_REPORT_LIMIT,       /* ... has used up its restarts because of child, and ends */
};

struct cop_report {
	uint8_t kind;           /* enum cop_report_kind */
	cop_pid pid;            /* whom it is about; of a supervisor's reports, the supervisor */
	int os_pid;
	const char *name;       /* registered, or "" */
	const char *label;      /* of cop_set_label(); a supervisor's is its name, or its id */
	const char *child;      /* id, or NULL */
	cop_pid child_pid;
	struct cop_exit reason;
};

/* Is called in the process that notices (a supervisor or the root), before it goes on. Must not block
 * for long, send or receive; a write(2) is fine. */
typedef void cop_report_f(const struct cop_report *report);

struct cop_node_options {
	const char *name;        /* for ps; NULL: the program's */
	uint32_t max_processes;  /* 0: 65536; at most 1048575 */
	size_t memory;           /* limit of shared memory in bytes; 0: half the machine's, at most 64 GiB. Only what is
	                            used is taken from the system */
	size_t quota;            /* limit for the messages one process has under way, in bytes; 0: 256 MiB. Longer ones
	                            cannot be sent: EMSGSIZE */
	uint32_t mailbox;        /* messages that may wait in a mailbox; 0: 1048575, which is also the most */
	cop_report_f *report;    /* NULL: reports of abnormal ends go to standard error, a line each */
	bool quiet;              /* no reports to standard error */
};

/* Runs a node: main_f(arg) is its first process, and does not trap exits. Blocks until that process has ended;
 * whatever is left of the node is killed then. TERM, INT and QUIT to the caller are an exit signal
 * `shutdown` to the first process, a second one kills the node. Returns the exit status that the first
 * process's reason stands for (cop_exit_status()), or -1 with errno when the node could not be made:
 * ENOMEM, EAGAIN, EMFILE, EBUSY (this process is in a node already). options may be NULL.
 * The caller must have no threads and no children. */
int cop_run(const struct cop_node_options *options, cop_proc_f *main_f, void *arg);

/* Runs a node that is one supervision tree, until it ends or a signal asks for it, as an application with
 * its top supervisor: TERM, INT and QUIT stop it in order. Returns 0 when it was asked to end or ended
 * with the reason `normal`, 1 when it could not start, gave up, or ended otherwise, or -1 as cop_run(). Mirrors
 * Application.start/2 of a permanent application. */
int cop_run_tree(const struct cop_node_options *options, const struct cop_supervisor *top);

/* Returns the name of the node that the calling process is in, or NULL. */
const char *cop_node_name(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
