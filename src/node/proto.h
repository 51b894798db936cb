/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What is spoken on the control socket (client <-> control, SOCK_STREAM, runtime-dir/control)
 * and on steering links (control <-> supervisor, SOCK_SEQPACKET). The verbs are fixed; ids, never
 * pids or file names, say what is meant. Each request is complete in itself.
 *
 * A frame on the stream is u32 length (of what follows), then a wire encoded body that begins
 * with u8 kind. A packet on a steering link is a body without the length.
 */
#ifndef NODE_PROTO_H
#define NODE_PROTO_H

#include <stdint.h>

#include <coppice/exit.h>
#include "base/wire.h"
#include "node/spec.h"

#define PROTO_VERSION 1
#define PROTO_REQUEST_MAX (256 * 1024)  /* bytes of a client's request */
#define PROTO_FRAME_MAX (1024 * 1024 + 4096) /* bytes of a reply frame */
#define PROTO_REPLY_MAX (1024 * 1024)   /* bytes of a reply to a call in it */
#define PROTO_PACKET_MAX (16 * 1024)    /* bytes of a packet on a steering link */
#define PROTO_SOCKET_NAME "control"     /* in the runtime directory */
#define PROTO_LOCK_NAME "lock"

/* Verbs of a client's request. Body: u8 PROTO_REQUEST, u8 version, u8 verb, u32 flags, then: */
enum proto_verb {
	PROTO_STATUS = 1, /* str path ("" or "/": the whole tree; else one child and what is below) */
	PROTO_EVENTS,     /* u64 since (first seq wanted; UINT64_MAX: only new ones) ; PROTO_F_FOLLOW */
	PROTO_START,      /* str path */
	PROTO_STOP,       /* str path */
	PROTO_RESTART,    /* str path */
	PROTO_SIGNAL,     /* str path, i32 signal */
	PROTO_ADD,        /* str supervisor, u32 n, n x str "key=value", u32 m, m x str argv */
	PROTO_REMOVE,     /* str path */
	PROTO_RELOAD,     /* PROTO_F_DRY_RUN */
	PROTO_SHUTDOWN,   /* (nothing) */
	PROTO_LOG,        /* str path: where is its log? */
	PROTO_CALL,       /* str name, i32 timeout in ms (< 0: none), bytes message (JSON) */
	PROTO_CAST,       /* the same; the time is for room in the mailbox */
	PROTO_SEND,       /* the same */
	PROTO_NAMES,      /* (nothing) */
};
#define PROTO_F_FOLLOW 1u
#define PROTO_F_DRY_RUN 2u
#define PROTO_F_NO_WAIT 4u

/* Kinds of bodies. */
enum proto_kind {
	PROTO_REQUEST = 1,
	/* replies to a client, any number of data frames, then exactly one PROTO_END */
	PROTO_R_NODE,   /* struct proto_node */
	PROTO_R_CHILD,  /* struct proto_child, parents before children, siblings in start order */
	PROTO_R_EVENT,  /* u64 seq, then event_put() */
	PROTO_R_DEATH,  /* struct proto_death, newest first (status PATH) */
	PROTO_R_CHANGE, /* u8 enum spec_change, str path (reload) */
	PROTO_R_TEXT,   /* str: a value (add: the new path; log: directory; start of a running child: a remark) */
	PROTO_R_ERROR_LINE, /* str: one of several errors (reload: FILE:LINE: ...) */
	PROTO_END,      /* u8 exit status for the client (0, 1, 2, 3, 4, 5, 78), str message (may be "") */
	PROTO_R_REPLY,  /* u32 tag, bytes data (call) */
	PROTO_R_NAME,   /* str name, i32 pid, str path of the child or "" (names) */
};

/* The node as a whole. */
struct proto_node {
	char node[SPEC_NODE_MAX];
	int32_t pid;          /* root */
	char version[32];
	uint8_t state;        /* enum proto_node_state */
	int64_t uptime_ms;
	char file[4096];      /* configuration, "" for run -- CMD */
};
enum proto_node_state { PROTO_NODE_STARTING, PROTO_NODE_RUNNING, PROTO_NODE_STOPPING };

/* INTERFACE.md's `state`. */
enum proto_state {
	PROTO_ST_STARTING, PROTO_ST_RUNNING, PROTO_ST_STOPPING, PROTO_ST_BACKOFF, PROTO_ST_STOPPED,
	PROTO_ST_EXITED, PROTO_ST_FAILED
};
const char *proto_state_name(uint8_t state);
const char *proto_node_state_name(uint8_t state);

struct proto_child {
	char path[SPEC_PATH_MAX];     /* "/" for the top supervisor */
	uint8_t type;                 /* enum spec_type */
	uint8_t state;                /* enum proto_state */
	uint8_t restart;              /* enum sup_restart */
	uint8_t significant;
	uint8_t has_last_exit;
	uint8_t dynamic;              /* added at run time, not in the file */
	int32_t pid;                  /* 0: none */
	uint32_t restarts;            /* automatic ones since it was added */
	int64_t uptime_ms;            /* of the process; -1: none */
	int32_t shutdown_ms;
	struct cop_exit last_exit;
	char status_text[256];        /* sd_notify STATUS=, escaped */
	char command[256];            /* argv joined by spaces, cut; "" for supervisors */
	/* supervisors only */
	uint8_t strategy, auto_shutdown;
	uint32_t max_restarts, max_seconds, restarts_left;
	uint32_t max_children;        /* SUP_NO_LIMIT */
	uint32_t order;               /* place among its siblings, for sorting */
};

/* A death, for `status PATH`. */
struct proto_death {
	char path[SPEC_PATH_MAX];
	int64_t time_us;
	int32_t pid;
	uint64_t ran_ms;
	uint8_t asked;
	struct cop_exit reason;
	char restarted[1024];         /* paths restarted with it, separated by spaces, cut */
	char lines[4096];             /* last lines it wrote, each ended by \n, cut at the front */
};

void proto_put_exit(struct wire_out *w, const struct cop_exit *e);
void proto_get_exit(struct wire_in *w, struct cop_exit *e);
void proto_put_node(struct wire_out *w, const struct proto_node *n);
void proto_get_node(struct wire_in *w, struct proto_node *n);
void proto_put_child(struct wire_out *w, const struct proto_child *c);
void proto_get_child(struct wire_in *w, struct proto_child *c);
void proto_put_death(struct wire_out *w, const struct proto_death *d);
void proto_get_death(struct wire_in *w, struct proto_death *d);

/* --- steering links: control <-> one supervisor. Body: u8 kind, u32 request number, then: --- */
enum proto_steer {
	STEER_HELLO = 64,  /* supervisor -> hello socket, with one descriptor (its end for control):
	                      str path, i32 pid, u32 image generation (request number 0) */
	/* control -> supervisor */
	STEER_STATUS,      /* (nothing): all children and itself */
	STEER_CALL,        /* u8 enum proto_verb (START, STOP, RESTART, REMOVE), str id, u8 no_wait */
	STEER_SIGNAL,      /* str id, i32 signal */
	STEER_ADD,         /* str id, with the image's memfd: start_child */
	STEER_RELOAD,      /* with the new image's memfd and then the descriptors of all its sockets,
	                      in the order of the header: apply what concerns you */
	/* supervisor -> control */
	STEER_CHILD,       /* proto_child, possibly several in one packet: u16 n, n x child. The
	                      supervisor's own entry is not in it: its parent has it; but see SELF */
	STEER_SELF,        /* proto_child of the supervisor itself: only budget, flags and state are
	                      sure (its parent's entry has the rest); first packet of a STATUS */
	STEER_DONE,        /* u8 exit status as in PROTO_END, str message: the request is finished */
	STEER_LOGDIR,      /* unsolicited is not allowed: answers STEER_WHERE: str directory, "" none */
	STEER_WHERE,       /* control -> supervisor: str id: where is its log? -> LOGDIR, DONE */
};

/* --- control link: root <-> control. SEQPACKET. Body: u8 kind, then: --- */
enum proto_root {
	ROOT_LISTEN = 96,  /* root -> control, with the listening control socket (at start and after USR1) */
	ROOT_RELOAD,       /* root -> control: HUP came: u32 how many came so far */
	ROOT_STOPPING,     /* root -> control: str why */
	ROOT_RUNNING,      /* root -> control: all children are started */
	ROOT_SHUTDOWN,     /* control -> root: str why */
	ROOT_RELOADED,     /* control -> root: u32 number: this HUP and all before it are dealt with */
	ROOT_IMAGE,        /* control -> root, with memfd and sockets as in STEER_RELOAD */
};

/* --- keep: supervisor -> root -> log. SEQPACKET. Body: u8 kind, then: --- */
enum proto_keep {
	KEEP_LOG = 112,    /* with the log pipe's read end and, for ready = "log:", the write end of a
	                      pipe: struct proto_keep_log */
	KEEP_ADOPT,        /* root -> log: u32 slot, then as KEEP_LOG, with the same descriptors */
	KEEP_DROP,         /* log -> root: u32 slot: end of file was reached and written */
	KEEP_REOPEN,       /* root -> log: USR2 */
	KEEP_FINISH,       /* root -> log: the node is down: write what is there and exit */
	KEEP_DEATH,        /* log -> control (death lines): str path, i32 pid, bytes lines */
};
struct proto_keep_log {
	char path[SPEC_PATH_MAX];
	char dir[4096];      /* absolute */
	uint64_t max_bytes;  /* of one file; 0: no rotation */
	uint32_t max_files;  /* rotated files kept beside `current` */
	uint8_t timestamps;
	char regex[1024];    /* ready = "log:REGEX", else "" */
};
void proto_put_keep_log(struct wire_out *w, const struct proto_keep_log *k);
void proto_get_keep_log(struct wire_in *w, struct proto_keep_log *k);

/*
 * Marks in a log pipe. A supervisor writes, with one write, a record that stands between the
 * output of one process of the child and the next: NUL, the node's 16 secret bytes as 32 hex
 * digits, u8 'S' (start) or 'X' (exit), a space, and a text line ended by \n:
 *   S <pid> <real time us>\n
 *   X <pid> <real time us> <ran ms> <reason>\n
 * The secret is drawn by root and never leaves the node's own processes, so that a child
 * cannot forge a mark; what only looks like one is output. When the log process sees X it writes the
 * record line to the file and sends KEEP_DEATH; at S it writes the record line and arms the regex.
 * On a match it writes i32 pid of that S to the ready pipe, once.
 */
#define PROTO_MARK_SECRET 32
#define PROTO_MARK_MAX 256

#endif
