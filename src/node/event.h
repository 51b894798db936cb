/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What happened: the records of the event pipe and of `coppice events`. A record is written by
 * root or a supervisor with one write of at most PIPE_BUF bytes; a longer one (a restart of a
 * big group) is cut into parts that control puts together again. Never allocates on the
 * writing side.
 */
#ifndef NODE_EVENT_H
#define NODE_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#include <coppice/exit.h>
#include "base/wire.h"

enum event_type {
	EVENT_START = 1, EVENT_READY, EVENT_START_FAILED, EVENT_EXIT, EVENT_RESTART, EVENT_LIMIT,
	EVENT_STOP, EVENT_RELOAD, EVENT_SHUTDOWN,
	EVENT_LOST,  /* n events did not fit into the queue of their writer */
	EVENT_NOTE,  /* a warning of a process of the node, text in why (disk full, ...) */
};

struct event {
	uint8_t type;            /* enum event_type */
	uint8_t asked;           /* exit: it was asked to end */
	uint8_t strategy;        /* restart: enum sup_strategy */
	int64_t time_us;         /* wall clock, shown only */
	pid_t pid;               /* start, ready, start_failed, exit: of the child; 0: none */
	uint32_t after_ms;       /* ready */
	uint64_t ran_ms;         /* exit: how long it ran */
	uint32_t restarts_left;  /* restart */
	uint32_t max_restarts, max_seconds; /* limit */
	uint32_t count;          /* lost */
	struct cop_exit reason;  /* start_failed, exit; an exec error carries its step in reason.text */
	const char *path;        /* restart and limit: of the supervisor */
	const char *how;         /* stop: "TERM", "KILL", ... */
	const char *why;         /* shutdown; note */
	const char *cause;       /* restart, limit: path of the child that caused it */
	/* restart: the children's paths in start order; reload: added, changed, removed. Each is a
	 * block of NUL-terminated strings, one after the other. */
	const char *list;        size_t list_len;      /* restart: children; reload: added */
	const char *changed;     size_t changed_len;
	const char *removed;     size_t removed_len;
};

#define EVENT_TEXT_MAX 512   /* longest how, why, path, cause, with NUL; event_put() cuts */
#define EVENT_LIST_MAX 65536 /* bytes of the three lists together; event_pipe_put() cuts them */
#define EVENT_MSG_MAX (EVENT_LIST_MAX + 4 * EVENT_TEXT_MAX + 256) /* of any encoded event */

/* Name of a type: "start", "ready", ...; NULL if unknown. */
const char *event_name(uint8_t type);

/* Encodes one whole event (no parts). A list that does not fit sets w->overflow. */
void event_put(struct wire_out *w, const struct event *e);

/* Decodes; strings are copied into, and pointers lead into, scratch (at least
 * as long as the message). 0, or -1 with EBADMSG. */
int event_get(const void *buf, size_t len, struct event *e, char *scratch, size_t scratch_size);

/* Writes an event as the JSON object of INTERFACE.md section 4 (no newline), or as one line for
 * people: "12:00:00.123 exit cache pid 4250 signal:KILL". */
void event_json(FILE *f, uint64_t seq, const struct event *e);
void event_text(FILE *f, uint64_t seq, const struct event *e);

/* --- the writing end (event_pipe.c): root and supervisors --- */
struct event_pipe {
	int fd;              /* write end, O_NONBLOCK */
	uint32_t part_id;    /* of the last event that was cut into parts */
	uint32_t lost;       /* events given up since the last that went through */
	size_t q_head, q_len;
	bool held;           /* queue everything until event_pipe_flush() */
	uint8_t *q;          /* queue for what the pipe did not take: q_cap bytes, allocated once */
	size_t q_cap;
};
/* From now on events wait in the queue: to be written when there is nothing better to do. */
void event_pipe_hold(struct event_pipe *p);
int event_pipe_init(struct event_pipe *p, int fd, size_t queue_bytes);
/* Writes, or queues, or counts as lost. Fills time_us if it is 0. Never blocks. */
void event_pipe_put(struct event_pipe *p, struct event *e);
/* Tries to write what is queued, and what is put from now on at once; true when nothing is left. Call when
 * the pipe is writable. */
bool event_pipe_flush(struct event_pipe *p);

/* --- the reading end: puts parts together --- */
#define EVENT_PART_HEAD 20   /* bytes before the payload of each record in the pipe:
                                u32 length of the payload, i32 writer pid, u32 part id (0: whole),
                                u32 part number, u32 more parts follow */
struct event_parts;          /* assembles; bounded memory, allocated once */
struct event_parts *event_parts_create(size_t max_bytes);
void event_parts_destroy(struct event_parts **p);
/* Takes the next record from buf[0..len). Returns its length in bytes (0: more bytes needed; -1
 * EBADMSG). When it completed an event, *msg_r, *msg_len_r lead to its encoding (valid until the
 * next call), else *msg_r is NULL. */
ssize_t event_parts_take(struct event_parts *p, const uint8_t *buf, size_t len,
    const uint8_t **msg_r, size_t *msg_len_r);
/* Tells whether the record at buf, of an event in parts, belongs to one that is not complete yet. */
bool event_parts_holds(const struct event_parts *p, const uint8_t *buf, size_t len);
/* How many events are incomplete. */
unsigned event_parts_pending(const struct event_parts *p);
/* How many incomplete events were given up since the last call: their writer died, sent something
 * else, or there were too many at once. */
unsigned event_parts_lost(struct event_parts *p);

#endif
