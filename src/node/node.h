/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What every process of a node inherits from root over fork: names, directories, channels, the
 * image, the sockets. Filled before the first fork; afterwards only a reload changes the image
 * and the sockets, in each process for itself.
 */
#ifndef NODE_NODE_H
#define NODE_NODE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "ipc/group.h"
#include "node/proto.h"
#include "node/spec.h"

#define NODE_PATH_MAX 4096

struct node_dirs {            /* node_dirs.c; absolute, "" when it could not be made */
	char runtime[NODE_PATH_MAX]; /* .../NODE: control socket, lock */
	char state[NODE_PATH_MAX];
	char log[NODE_PATH_MAX];     /* default place of logs: log/PATH/current */
};

/* Which end of which channel (doc/design/0001). -1: there is none. All are close-on-exec. */
enum node_fd {
	NODE_FD_EVENT_W, NODE_FD_EVENT_R,
	NODE_FD_HELLO_W, NODE_FD_HELLO_R,
	NODE_FD_KEEP_W, NODE_FD_KEEP_R,
	NODE_FD_LOG_ROOT, NODE_FD_LOG_LOG,
	NODE_FD_LINES_W, NODE_FD_LINES_R,
	NODE_FD_CTL_ROOT, NODE_FD_CTL_CTL,
	NODE_FD_LISTEN,       /* control socket, listening */
	NODE_FD_LOCK,
	NODE_FD_HISTORY,      /* memfd of the event history; mapped by control only */
	NODE_FD_JOURNAL,      /* memfd of the log process's unfinished batch */
	NODE_FDS
};

#define NODE_SOCKETS_MAX 128  /* listening sockets of one node */
#define NODE_OOM_ADJ (-800)   /* a node is worth more than any of its children, which get the old value back */
#define NODE_HISTORY_BYTES (16u << 20)

struct node {
	char name[SPEC_NODE_MAX];
	struct node_dirs dirs;
	int fd[NODE_FDS];
	struct spec_image img;
	int sockets[NODE_SOCKETS_MAX]; /* as header->sockets; -1 beyond */
	char secret[PROTO_MARK_SECRET + 1];
	struct group_base groups;      /* where cgroups are made, if they can be */
	pid_t root_pid;
	int64_t started_ms;            /* clock_mono_ms() of root's start */
	bool command;                  /* run -- CMD */
	bool oom_lowered;              /* root lowered its oom_score_adj: children get back */
	int oom_inherited;             /* this one */
};

/* Fills the directories for this user (INTERFACE.md section 5; --socket or COPPICE_SOCKET is not this
 * function's business). With create: makes them (0700 runtime, 0755 logs as root), checks owner and
 * mode; a directory that cannot be made is "" and said so (warning) unless quiet. Returns 0, or -1
 * after saying why: the runtime directory is not safe to use, or, unless quiet, cannot be made. */
int node_dirs_init(struct node_dirs *d, const char *node, bool create, bool quiet);

/* Removes what node_dirs_init() made for a node that leaves no trace (run -- CMD): its runtime directory
 * with socket and lock, and the other two if they are empty. */
void node_dirs_remove(const struct node_dirs *d);

/* The directory that holds the runtime directories of all of this user's nodes: for finding them.
 * The second call gives a second candidate, or NULL. Static memory. */
const char *node_dirs_base(int i);

/* Takes the node's lock (flock on runtime/lock, never unlinked). The descriptor, or -1 with
 * EWOULDBLOCK when another one has it. */
int node_lock(const struct node_dirs *d);

/* Makes the control socket (mode 0600 by umask, before bind), removing a stale one; call only with
 * the lock held. path_override: NULL or --socket. The listening descriptor or -1. */
int node_listen(const struct node_dirs *d, const char *path_override);

/* Opens the listening socket that s describes (blocking, as programs that are given sockets expect;
 * close-on-exec). A stale unix socket that nobody listens on is replaced. -1 with errno. */
int node_socket_open(const struct spec_image *img, const struct spec_socket *s);

/* Entry points of the processes (after fork; they never return). */
_Noreturn void log_main(struct node *n, const struct proto_keep_log *kept, const int *kept_fds,
    const int *kept_ready_fds, const uint32_t *kept_slots, uint32_t n_kept);
_Noreturn void control_main(struct node *n);
/* path "" for the top; link: the parent link's lower end. */
_Noreturn void supervisor_main(struct node *n, const struct spec_child *spec, int link, const struct group *own);

/* Log and control: when there is something for them they take a free processor at once, but never the
 * one of a supervisor that is about to start a child, or of the child. */
void node_be_patient(void);

/* Root: runs the node until it ends; the exit status of `coppice run`. */
struct run_options {
	const char *file;            /* or NULL: */
	const char *const *command;  /* run -- CMD */
	const char *restart;         /* --restart */
	const char *socket;          /* --socket */
	const char *node;            /* --node: overrides the file's */
	bool quiet;
};
int root_run(const struct run_options *opt);

#endif
