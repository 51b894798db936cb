/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What the parts of tasks share. A task's reply is a NODE_REPLY whose reference is that of the owner's monitor of the
 * task, of which it is the alias: it arrives as long as the monitor is there. In a stream all events come as such
 * replies, to the consumer's monitor of the stream's monitor process.
 */
#ifndef OTP_TASK_PRIVATE_H
#define OTP_TASK_PRIVATE_H

#include <coppice/task.h>

#include "proc/proc.h"

/* --- task.c --- */

/* The node of a value, taken from it; NULL for one that was written where task_sink says. */
struct seg_node *task_value(struct cop_result result);
/* Sends a value to who has the monitor `ref`; to nobody if `to` is 0. */
void task_answer(struct cop_result result, uint64_t to, uint64_t ref);
_Noreturn void task_wrong_owner(const char *what);
/* Ends the calling process because of errno. */
_Noreturn void task_unable(void);

/* Where the next value is to be written instead of into a message, if it fits. */
struct task_sink {
	unsigned char *at;
	size_t room;
	size_t len;
	uint32_t tag;
	bool used;
};
extern struct task_sink *task_sink;

enum task_how { TASK_NONE, TASK_VALUE, TASK_EXIT };

/* Whether there is an answer among what was taken in, which is then taken. */
enum task_how task_look(const struct cop_task *t, struct cop_response *r);
/* Drops the monitor, and what came of it. */
void task_forget(const struct cop_task *t);

/* --- task_supervisor.c: a task that is a supervisor's child --- */

/* What it is to do, sent by who asked for it. Then come size bytes for arg. */
struct task_order {
	uint64_t f;              /* the address of a function: cop_task_f; or, of a stream, cop_stream_work_f */
	uint64_t to, ref;        /* who gets the value */
	uint32_t stream;         /* of a stream: slot + 1, */
	uint32_t position;       /* its element's */
	uint64_t ctx_size;       /* ... and before the item, which begins at a multiple of 16, the context */
	uint64_t size;
};

/* Starts a process under a supervisor that waits for its order from the caller. 0, or -1 with errno and reason. */
int task_child_start(struct cop_dest sup, int32_t shutdown_ms, struct cop_started *started_r);
/* The order's message, with room for the bytes behind it at *data_r. NULL with errno. */
struct task_order *task_order_new(size_t size, unsigned char **data_r);
/* Sends it, and gives it away. */
void task_order_send(uint64_t to, struct task_order *order);

/* --- streams: task_stream.c and task_pool.c in the consumer, task_monitor.c and task_worker.c --- */

enum stream_tag {                /* messages to the monitor process */
	STREAM_SPAWN = 0x54530001, /* "TS": struct stream_spawn, then the item */
	STREAM_STOP,
	STREAM_BATCH,              /* to a pool's process: a batch (task_pool.c) */
};

enum stream_event {          /* in a reply's hprev; peer: slot; hnext: position */
	STREAM_VALUE = 1,    /* from the task: tag, data */
	STREAM_SPAWNED,      /* from the monitor process, as the rest: data is the process's id */
	STREAM_REFUSED,      /* tag: errno; data: reason */
	STREAM_DOWN,         /* data: reason */
	STREAM_TIMED_OUT,
	STREAM_BEGUN,        /* from a pool's process: position is the node of its block */
	STREAM_BATCH_DONE,   /* ... the block */
	STREAM_BIG_VALUE,    /* ... a value that does not fit; position: which of the batch */
};

struct stream_spawn {
	uint32_t slot, position;
	uint64_t unused;     /* the item is aligned to 16 */
};

/* What the monitor process is born with. */
struct stream_plan {
	cop_stream_work_f *work;
	void *ctx;
	size_t ctx_size;
	int64_t timeout_ms;
	bool supervised, linked, pooled, traps;
	struct cop_dest sup;
	int32_t shutdown_ms;
	uint64_t consumer;
	cop_ref ref;         /* of the consumer's monitor of the monitor process */
};

void stream_monitor_main(void *plan);
/* In a task of a stream: gives its value to the consumer. */
void stream_answer(struct cop_result result, uint64_t to, uint64_t ref, uint32_t slot, uint32_t position);
/* In a pool's process: works until it is ended. */
_Noreturn void stream_worker(const struct stream_plan *plan, uint32_t slot);

#endif
