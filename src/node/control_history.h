/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What the node remembers of its past: the last events, numbered, and the last lines of what
 * died. It lives in a memfd that root keeps, so that control may be killed at any instruction:
 * its successor maps the same memory and goes on, and every event that was written into the
 * event pipe is in the history exactly once (doc/design/0006). Runs in control.
 *
 * Regime: maps once, allocates a bounded block for events that come in parts; everything else
 * is in the mapping, old things make room for new ones.
 */
#ifndef NODE_CONTROL_HISTORY_H
#define NODE_CONTROL_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "node/event.h"
#include "node/proto.h"

struct history_mem; /* the mapping */

struct history {
	struct history_mem *mem;
	struct event_parts *parts;
	char *scratch;   /* for looking into an event: EVENT_MSG_MAX bytes */
	bool fresh;      /* nothing was there: the node is starting */
};

/* Maps the history (memfd of at least NODE_HISTORY_BYTES, or -1: then what happens is forgotten
 * with this process) and takes up where the last process was killed. Returns 0, or -1 with errno. */
int history_open(struct history *h, int memfd);
void history_close(struct history *h);

/* Takes what is in the event pipe, once. Returns how many bytes there were; 0: none. */
size_t history_take(struct history *h, int pipe_fd);

/* Keeps the last lines of a dead process. */
void history_add_lines(struct history *h, const char *path, int32_t pid, const void *lines, size_t len);

/* --- reading: a cursor is a place between two events, good for ever --- */
/* The place before event number since, or before the oldest kept one; UINT64_MAX: the end. */
uint64_t history_seek(const struct history *h, uint64_t since);
/* The end. */
uint64_t history_end(const struct history *h);
/* Takes the event behind *cursor: 1, *msg_r is its encoding until something is added; 0: there is
 * none yet; -1: it is gone, the reader was too slow. */
int history_next(const struct history *h, uint64_t *cursor, uint64_t *seq_r, const uint8_t **msg_r,
    size_t *len_r);
/* The number the next event will get. */
uint64_t history_next_seq(const struct history *h);

/* The generation of the image whose reload is in the history; for a control process to see whether
 * its predecessor died during one. */
uint32_t history_generation(const struct history *h);
void history_set_generation(struct history *h, uint32_t generation);

#define HISTORY_DEATHS 10 /* shown for one child */
typedef void history_death_f(void *ctx, const struct proto_death *d);
/* Calls f for each of the last deaths of the child, newest first. */
void history_deaths(struct history *h, const char *path, history_death_f *f, void *ctx);

#endif
