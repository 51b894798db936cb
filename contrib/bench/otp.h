/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What the two programs of the section otp share: otp (ours, through the public library only) and
 * otp_floor (the same work with bare system calls). Each run of a program is one repetition
 * of one measurement; each figure is a line `@KEY VALUE` on standard output, which otp.py reads.
 * Processes time themselves and leave the times in memory that all of them share.
 */
#ifndef BENCH_OTP_H
#define BENCH_OTP_H

#include "record.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
	CROWD_MAX = 16,         /* callers or senders at once */
	LIVES_MAX = 20000,      /* deaths in one run of restart or down */
	SETTLE_MS = 2,          /* before a death: everybody else is asleep by then */
	BIG = 64 * 1024,        /* bytes of the big payload */
	SAMPLES = 50,           /* processes whose memory is read one by one */
	SUBTREES = 10,
	REST_MS = 200,          /* between a tree's start and stop */
	COUNTERS_MS = 1500,     /* the kernel adds up each processor's counters of memory once a second */
};

/* Request and reply: 64 bytes, like a tuple of seven small integers on the BEAM. */
struct payload {
	uint64_t serial;
	uint64_t rest[7];
};

_Static_assert(sizeof(struct payload) == 64, "the size that is measured");

/* Zeroed memory that every process forked from here on shares, its pages already there. */
void *share(size_t size);

/* Prints a figure. */
void result(const char *key, double value);

/* Ends the process: `PROGRAM: unable to WHAT: errno`. */
_Noreturn void fail(const char *what);

/* The value below which that part (0 to 1) of all lie. Sorts them. */
double percentile(double *values, size_t n, double part);

/* The median, and the 99th percentile as KEY_p99. */
void result_times(const char *key, double *us, size_t n);

/* Reads a whole number of at least 1 from an argument, or fails. */
long count_of(const char *text);

/* Puts the calling process on the first or second processor it may use; fails if there is none. */
void pin_to(int which);

/* Sleeps without the library: for what is not to be measured. */
void doze_ms(long ms);

/* Machine-wide kilobytes of /proc/meminfo, taken twice and subtracted. What is available also changes with pages
 * that are neither used nor known to be free; used is the sum of what is in use, kind by kind. */
struct machine {
	double available, used, page_tables, kernel_stack, slab;
};

struct machine machine_now(void);

/* Prints what each of n processes took from the machine since then. */
void result_machine(const char *prefix, const struct machine *before, long n);

/* Kilobytes of a process: one line of its smaps_rollup, "Pss" or "Anonymous". */
double memory_of(pid_t pid, const char *key);

/* The mean Pss of at most SAMPLES of n processes. */
double pss_mean(const pid_t *pids, long n);

/* --- the measurements of otp; n is how often or how many, how the rest of the arguments ---------- */

typedef void job_f(long n, char **how);

job_f job_call, job_cast, job_big;              /* otp_talk.c */
job_f job_restart, job_down, job_spawn;         /* otp_life.c */
job_f job_task, job_stream;                     /* otp_task.c */
job_f job_memory, job_tree;                     /* otp_tree.c */
job_f job_lookup, job_register, job_register_pair, job_agent; /* otp_names.c */

#endif
