/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What a stream's consumer and the processes of its pool send each other: task_pool.c and task_worker.c.
 *
 * The block is in the memory of the process that fills it, and addressed to the consumer, so that it is nobody else's
 * before both are gone or done with it: a process may go on writing for a moment after its consumer's death. The
 * consumer is told where it is before the first element is begun (STREAM_BEGUN), and gets it when the last is done.
 *
 *   word of a block    who writes             who reads
 *   done               process: an element is over     consumer: release/acquire
 *   begun              process: before an element      consumer, when the process is dead
 *   started_ns         process: when it began one      consumer, for time-outs
 *   the rest           process, before done            consumer, after done
 *
 * Whatever is read from a batch or a block is checked before use.
 */
#ifndef OTP_TASK_BATCH_H
#define OTP_TASK_BATCH_H

#include <time.h>

#include "otp/task_private.h"

#define BLOCK_BYTES (32768 - sizeof(struct seg_node)) /* the largest that is not a run of chunks */
#define BATCH_MAX 512u
#define ROUND(n) (((n) + 15) & ~(size_t)15)

struct element {
	uint32_t at, len;
};

/* A batch as it is sent. */
struct work {
	uint32_t n, from;        /* from: the first that is to be done */
	uint64_t unused;
	struct element e[];
};
_Static_assert(sizeof(struct work) % 16 == 0, "what comes behind is laid out by hand");

enum how { HOW_NONE, HOW_HERE, HOW_SENT };

struct value {
	uint32_t at, len, tag;
	uint32_t how;            /* enum how */
};

struct block {
	_Atomic uint32_t done;   /* of those from `from` on */
	uint32_t values_at;      /* the next value's place */
	_Atomic int64_t started_ns;
	int64_t took_ns;         /* for all of them */
	_Atomic uint32_t begun;  /* one more than done while it is at one */
	uint32_t unused;
	struct value v[];
};
_Static_assert(sizeof(struct block) % 16 == 0, "what comes behind is laid out by hand");

/* Nanoseconds, good to a few milliseconds, for hardly anything. */
static inline int64_t coarse_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

#endif
