/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * How the history's memory is laid out; shared by the files that implement it.
 *
 * Everything that says where things are is in one struct history_commit, of which there are two.
 * A change is made in free memory first, then the new state is written into the commit that is
 * not in force, then one store of `which` puts it in force. A process killed before that store
 * has changed nothing, one killed after it has changed everything.
 *
 *   field            written by    read by     order
 *   magic            first control control     before anything else is used
 *   which            control       control     stored last, release
 *   commit[!which]   control       nobody
 *   stage            kernel (read) control     scanned up to the first zero length
 *   pending, rings   control       control     only what the commit in force covers
 *
 * There is one control at a time; root reaps it before it starts the next.
 */
#ifndef NODE_CONTROL_HISTORY_PRIVATE_H
#define NODE_CONTROL_HISTORY_PRIVATE_H

#include <stdatomic.h>

#include "node/control_history.h"
#include "node/node.h"

#define HISTORY_MAGIC 0x3131766948707043u
#define HISTORY_STAGE (1024 * 1024)   /* at least the pipe's capacity: one read gets whole records */
#define HISTORY_GUARD 4096            /* zeros behind the stage, so that a scan ends */
#define HISTORY_PENDING (512 * 1024)
#define HISTORY_LINES (2 * 1024 * 1024)

struct history_ring {
	uint64_t head, tail; /* bytes ever discarded, bytes ever added */
};

struct history_commit {
	uint64_t next_seq;
	struct history_ring events, lines;
	uint32_t stage_pos;    /* bytes of the stage that are done */
	uint32_t pending_half; /* which of the two is in use */
	uint32_t pending_len;
	uint32_t unused;
};

struct history_head {
	uint64_t magic;
	_Atomic uint32_t which;
	uint32_t generation;
	struct history_commit commit[2];
	uint8_t room[4096 - 16 - 2 * sizeof(struct history_commit)];
};
_Static_assert(sizeof(struct history_head) == 4096, "the stage begins on a page");

#define HISTORY_EVENTS (NODE_HISTORY_BYTES - sizeof(struct history_head) - 2 * HISTORY_PENDING \
    - HISTORY_LINES - HISTORY_STAGE - HISTORY_GUARD)

struct history_mem {
	struct history_head head;
	uint8_t stage[HISTORY_STAGE + HISTORY_GUARD];
	uint8_t pending[2][HISTORY_PENDING]; /* records of events of which parts are missing */
	uint8_t lines[HISTORY_LINES];
	uint8_t events[HISTORY_EVENTS];
};
_Static_assert(sizeof(struct history_mem) == NODE_HISTORY_BYTES, "the memfd has this size");
_Static_assert(HISTORY_EVENTS % 8 == 0 && HISTORY_LINES % 8 == 0, "entries are aligned");
_Static_assert(HISTORY_EVENTS / 10000 > 1024, "10,000 events have room");

/* What stands before each thing in a ring. Never wraps round; a filler ends the lap. */
struct history_entry {
	uint32_t size;       /* of all of it, a multiple of 8 */
	uint32_t len;        /* of the content; HISTORY_FILLER */
	uint64_t seq;        /* events */
	uint32_t path_hash;  /* of the path; of restarts: of the cause */
	uint8_t type;        /* events: enum event_type */
	uint8_t unused[3];
	uint8_t content[];
};
#define HISTORY_FILLER UINT32_MAX

/* --- control_history.c --- */
uint32_t history_hash(const char *path);
const struct history_commit *history_now(const struct history *h);
void history_put(struct history *h, const struct history_commit *c);
/* The entry at a place, which must be between head and tail; skips a filler and moves the place.
 * NULL: there is none. */
const struct history_entry *history_at(const uint8_t *mem, size_t size, const struct history_ring *r,
    uint64_t *place);
/* Adds an event to c, which is then to be put in force. The oldest ones make room at once. */
void history_append_event(struct history *h, struct history_commit *c, const struct event *e,
    const uint8_t *msg, size_t len);

/* --- control_stage.c --- */
/* Does again what a killed process may have left half done. */
void history_recover(struct history *h);

#endif
