/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* The companion, shared by bridge*.c alone: bridge.c waits, bridge_worker.c hears the worker and does what it
 * says, bridge_node.c passes on what others of the node say. */
#ifndef NODE_BRIDGE_PRIVATE_H
#define NODE_BRIDGE_PRIVATE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/bridge.h"
#include "proc/proc.h"

#define BRIDGE_LINE_MAX (1u << 20)  /* bytes of a line, without its end */
#define BRIDGE_OUT_ROOM (64u << 10) /* as long as less waits for the worker, messages are taken */
#define BRIDGE_MAILBOX 4096         /* a mailbox with so many messages is full for the worker: it cannot flood others */
#define BRIDGE_CALLS 1024           /* of others, that the worker has not answered */
#define BRIDGE_CALL_MS 60000        /* after so long an unanswered one makes room when there is none */
#define BRIDGE_OWN_CALLS 32         /* of the worker */
#define BRIDGE_JSON (JSON_ALLOW_NUL | JSON_DECODE_ANY)
#define BRIDGE_DUMP (JSON_COMPACT | JSON_ENCODE_ANY)

/* A call that the worker has not answered yet. */
struct bridge_call {
	uint64_t serial;       /* its REF; 0: free */
	uint64_t from, ref;
	int64_t at_ms;
};

/* A call that the worker made. */
struct bridge_own {
	json_t *ref;           /* as the worker wrote it; NULL: free */
	uint64_t request, monitor;
	int64_t until_ms;
};

struct bridge {
	const char *what;      /* its name, or its path: for messages */
	int to, from, order, sig; /* -1: closed */
	bool leaving;          /* the worker is dead: what cannot be done at once is not done */

	char *out;             /* to the worker: out[out_pos..out_len) */
	size_t out_pos, out_len, out_cap;

	char *in;              /* of the worker: a line that is not whole, or lines not yet dealt with */
	size_t in_len, in_pos, in_seen, in_cap;
	unsigned long line;    /* number of the last one */
	json_t *held;          /* what it said and cannot be done yet: a mailbox, or the memory, is full */
	int64_t eof_ms;        /* when its output ended; 0 */

	uint64_t serial;
	struct bridge_call calls[BRIDGE_CALLS];
	struct bridge_own own[BRIDGE_OWN_CALLS];
	uint64_t begun_to, begun_request, begun_monitor; /* the call of the line that is held: watched, not sent; or 0 */
};

/* --- bridge.c --- */
/* Says what is wrong with the worker and ends. */
_Noreturn void bridge_fail(struct bridge *b, const char *word, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* --- bridge_worker.c --- */
/* Reads some of what the worker has written. False: there is nothing now. */
bool bridge_read(struct bridge *b);
/* Does what whole lines say, until there is none or one must wait. */
void bridge_obey(struct bridge *b);

/* --- bridge_node.c --- */
/* Whether another message can be taken: the worker takes what it gets. */
bool bridge_has_room(struct bridge *b);
/* A message for the worker. */
void bridge_forward(struct bridge *b, struct seg_node *n);
/* Replies, deaths and deadlines of the worker's own calls. Monotonic time of the next deadline, or -1. */
int64_t bridge_own_calls(struct bridge *b);
/* Puts a line for the worker; takes the object. */
void bridge_tell(struct bridge *b, json_t *object);
/* Writes what waits. */
void bridge_write(struct bridge *b);
/* The call that a REF of the worker's means; NULL: it is over. *known_r: there was one. */
struct bridge_call *bridge_call_of(struct bridge *b, uint64_t serial, bool *known_r);

#endif
