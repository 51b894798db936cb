/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The parts of the control process and what they know of each other. One loop, no threads:
 *
 *   control_main        the process itself, its links to root, log and the event pipe
 *   control_client      connections: bytes in, frames out, deadlines, caps
 *   control_request     a frame becomes a request; the short ones are answered there
 *   control_super       supervisors by path, and questions put to them
 *   control_status, control_call, control_add, control_reload, control_events: the long ones
 *   control_parser      configuration is parsed in a process beside this one
 *   control_history     what has happened (control_history.h)
 *
 * Regime: may allocate, bounded: without memory a client is dropped, never the node. Whatever
 * comes over a socket is checked and never asserted on.
 */
#ifndef NODE_CONTROL_PRIVATE_H
#define NODE_CONTROL_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/tree.h>
#include <sys/types.h>

#include "ipc/loop.h"
#include "node/control_history.h"
#include "node/node.h"

struct control;
struct client;
struct reload;

/* Exit statuses a client is told (INTERFACE.md). */
enum { END_OK = 0, END_FAILED = 1, END_USAGE = 2, END_NO_CHILD = 4, END_TIMEOUT = 5, END_CONFIG = 78 };

#define CONTROL_TEXT_MAX 1024 /* of a message to a client */

/* --- questions to supervisors --- */

struct super {
	RB_ENTRY(super) entry;
	char path[SPEC_PATH_MAX];       /* "/" for the top */
	int32_t pid;
	uint32_t generation;            /* of the image it works by */
	int fd;                         /* steering link */
	struct control *ctl;
	struct loop_source src;
	LIST_HEAD(, steer) asked;       /* waiting for it */
	struct status_round *round;     /* the status being told; see control_status.c */
	LIST_HEAD(, collect) waiting;   /* for the next round */
	struct push *push;              /* the image under way to it; see control_push.c */
	bool send_full;                 /* it has stopped reading */
};
RB_HEAD(supers, super);
RB_PROTOTYPE(supers, super, entry, super_cmp)

/* A question under way; in its owner's memory, zero before it is asked. */
struct steer {
	LIST_ENTRY(steer) entry;
	struct super *to;               /* NULL: nothing is under way */
	uint32_t no;
	/* A packet that is not the last one. NULL: none is expected. */
	void (*packet)(struct steer *q, uint8_t kind, struct wire_in *w);
	/* The answer; status -1: the link broke, text says so. The question is over before the call. */
	void (*done)(struct steer *q, int status, const char *text);
	void *ctx;
};

#define STEER_BROKE (-1)

void super_hello(struct control *c);     /* somebody says hello */
struct super *super_find(struct control *c, const char *path);
/* The supervisor of the child's parent; *id_r leads to the child's id. NULL: not known, or the
 * path is no child's. "app" belongs to "/", "app/db" to "app". */
struct super *super_of(struct control *c, const char *path, const char **id_r);
/* Puts a question. 0, or -1 with errno: EAGAIN when it has stopped reading. */
int steer_ask(struct control *c, struct super *s, struct steer *q, uint8_t kind, const void *args,
    size_t len, const int *fds, size_t n_fds);
/* Forgets a question, if it is under way. */
void steer_cancel(struct steer *q);

/* --- clients --- */

/* What a client waits for. */
struct request {
	struct client *client;
	/* The client is gone: forget the request and free it. Nothing may be said any more. */
	void (*cancel)(struct request *r);
	/* The client has taken something: there is room for more. NULL: no interest. */
	void (*more)(struct request *r);
	bool is_long;                  /* does not end by itself */
	bool is_stream;                /* its end is not waited for: no deadline for reading */
};

void clients_listen(struct control *c, int fd);  /* takes fd over; replaces the present one */
void clients_start(struct control *c);           /* begins to accept */
void clients_stop(struct control *c);            /* accepts nobody */
void clients_reap(struct control *c);            /* frees the dead; outside of callbacks */

/* Begins a frame of at most max bytes; false: the client is dead. The frame is sent by frame_end(). */
bool frame_begin(struct client *cl, struct wire_out *w, uint8_t kind, size_t max);
void frame_end(struct client *cl, struct wire_out *w);
void frame_text(struct client *cl, uint8_t kind, const char *text);
/* Ends the present request: PROTO_END, then the next one, if there is one. */
void client_end(struct client *cl, int status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Makes this the client's request. */
void client_wait(struct client *cl, struct request *r);
/* Sends what it can. */
void client_flush(struct client *cl);
/* The request can have no end: closes the connection. */
void client_kill(struct client *cl);
size_t client_unsent(const struct client *cl);
struct control *client_control(const struct client *cl);
/* May one more client wait without end? */
bool clients_room_for_long(const struct control *c);

/* --- requests --- */

/* One whole frame. Answers, or makes a request of it. */
void request_dispatch(struct control *c, struct client *cl, const void *body, size_t len);
void node_frame(struct control *c, struct client *cl);
/* Tells whether s is a child's path: ids with a slash between them. */
bool path_valid(const char *s);

void status_begin(struct control *c, struct client *cl, const char *path);
void status_packet(struct super *s, uint8_t kind, struct wire_in *w);
void status_super_gone(struct super *s);
void call_begin(struct control *c, struct client *cl, uint8_t verb, const char *path, int32_t sig, bool no_wait);
void add_begin(struct control *c, struct client *cl, struct wire_in *w, bool no_wait);
void events_begin(struct control *c, struct client *cl, uint64_t since, bool follow);
/* New events are in the history. */
void events_wake(struct control *c);
void reload_begin_client(struct control *c, struct client *cl, bool dry_run, bool no_wait);
void reload_begin_signal(struct control *c, uint32_t hups);

/* --- control_talk.c --- */

/* Makes messages wake the loop. 0 or -1. */
int talk_open(struct control *c);
/* Before the loop sleeps: takes in what came. For how long it may sleep, as loop_turn() wants it. */
int talk_take(struct control *c);
/* After that. */
void talk_awake(void);
void talk_begin(struct control *c, struct client *cl, uint8_t verb, struct wire_in *w);
void talk_names(struct control *c, struct client *cl);

/* --- reload: supervisors with an older image --- */

/* Sends the image to whoever has an older one and whose parent has it. */
void reload_push(struct control *c);
/* All supervisors that exist have the present image. */
void reload_pushed(struct control *c);
/* One of them could not apply all of it. */
void reload_failed(struct control *c, const char *text);
/* Goes on with what a killed control process has begun. */
void reload_resume(struct control *c);

/* --- parser --- */

struct parse {
	TAILQ_ENTRY(parse) entry;
	struct control *ctl;
	bool queued, running;
	pid_t pid;
	int errors_fd, result_fd;      /* its ends for us; -1 */
	struct loop_source errors_src, result_src;
	struct loop_timer deadline;
	char *errors;                  /* lines so far */
	size_t errors_len, errors_cap;
	int memfd;                     /* the image, when it has come; -1 */
	/* Runs in the parser's process: as config_load(). */
	int (*load)(struct parse *p, int err_fd);
	/* memfd is the callee's, -1 with lines that say why. The parse is over before the call. */
	void (*done)(struct parse *p, int memfd, const char *errors, size_t len);
	void *ctx;
};
TAILQ_HEAD(parses, parse);

void parse_submit(struct control *c, struct parse *p);
void parse_cancel(struct parse *p);
/* Calls f for each line of errors. */
void parse_lines(const char *errors, size_t len, void (*f)(void *ctx, const char *line), void *ctx);

/* --- the process --- */

TAILQ_HEAD(clients, client);

struct control {
	struct node *n;
	struct loop loop;
	struct history history;
	struct event_pipe events;      /* control's own: reload, notes */
	struct loop_source event_src, lines_src, hello_src, root_src, listen_src, urge_src;
	struct loop_timer accept_pause, settle;
	struct loop_pause hello_pause, root_pause; /* no descriptors for what was sent */
	int64_t started_ms;
	int listen_fd, spare_fd;
	bool accepting;
	uint8_t state;                 /* enum proto_node_state */

	struct clients clients;        /* the longest connected first */
	struct clients dead;
	unsigned n_clients;
	size_t out_bytes;              /* allocated for output, of all clients */

	struct supers supers;
	uint32_t last_no;              /* of a question */

	struct parses parse_queue;
	unsigned n_parses;             /* running */

	struct reload *reload;         /* the one under way */
	TAILQ_HEAD(, reload) reloads;  /* waiting */
};

/* Sends to root; 0 or -1. */
int root_send(struct control *c, const void *buf, size_t len, const int *fds, size_t n_fds);
/* Writes a note into the event stream. */
void control_note(struct control *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void control_put_event(struct control *c, struct event *e);
/* A supervisor has come: may clients be served now? */
void control_settle(struct control *c);

#endif
