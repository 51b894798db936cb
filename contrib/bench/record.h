/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The file in which services report their starts, and how it is read. Each start of a service
 * appends one record of 16 bytes in one write; appends to a regular file do not mix. run reads
 * the same layout ("QQ" of Python's struct).
 */
#ifndef BENCH_RECORD_H
#define BENCH_RECORD_H

#include <stdint.h>
#include <time.h>

struct record {
	uint64_t ns;	/* CLOCK_MONOTONIC at the first instruction of main */
	uint64_t pid;	/* of the service */
};

_Static_assert(sizeof(struct record) == 16, "the layout is shared with run");

static inline uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

#endif
