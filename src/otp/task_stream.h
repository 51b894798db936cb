/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* A stream as its consumer sees it: shared by task_stream.c and task_pool.c. */
#ifndef OTP_TASK_STREAM_H
#define OTP_TASK_STREAM_H

#include <unistd.h>

#include "otp/task_private.h"

struct stream_outcome {
	int8_t how;              /* 0: not there yet */
	struct seg_node *value;
	struct cop_exit reason;
	void *input;             /* malloc'd, if it is to be given out */
	size_t input_len;
};

/* A task that runs. */
struct stream_slot {
	bool used;
	uint32_t next_free;      /* + 1 */
	uint64_t position;
	struct stream_outcome result;
};

struct stream_pool;

struct cop_stream {
	struct stream_plan plan;
	struct cop_stream_options o;
	struct cop_stream_input input;
	uint64_t owner;
	cop_pid monitor;
	bool runs;               /* the monitor process has not been waited for */
	bool begun, input_done, halted, over;
	uint32_t max;            /* tasks that may still be started */
	uint64_t spawned, delivered;
	struct stream_slot *slots;
	uint32_t n_slots, cap_slots, free_slot; /* first free one + 1 */
	struct stream_outcome *ring; /* by position */
	uint64_t ring_cap;
	struct stream_outcome last;  /* was given out */
	struct stream_pool *pool;
};

/* The stream is over: stops what runs, unless it failed by a time-out. -1 with errno. */
int stream_fail(struct cop_stream *s, struct cop_stream_result *r, const struct cop_exit *reason, int err);
int stream_fail_errno(struct cop_stream *s, struct cop_stream_result *r, int err);
/* The monitor process has ended by itself; takes its DOWN. */
int stream_monitor_failed(struct cop_stream *s, struct cop_stream_result *r, struct seg_node *down);
/* The oldest event of the stream, or the DOWN of its monitor process; NULL when it is until_ns (< 0: for ever). */
struct seg_node *stream_next_event(struct cop_stream *s, int64_t until_ns);
proc_wants_f stream_is_event;

/* --- task_pool.c --- */
int stream_pool_next(struct cop_stream *s, struct cop_stream_result *r);
void stream_pool_free(struct cop_stream *s);
void stream_pool_late(struct cop_stream *s, const struct seg_node *n);
void stream_pool_wait(struct cop_stream *s);

#endif
