/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * coppice map: async_stream over executables (doc/design/0012-map.md). What the command line gave, and the one
 * call that does it all.
 */
#ifndef MAP_MAP_H
#define MAP_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Exit statuses beside the number of failed items, which ends at MAP_MANY. */
enum map_status {
	MAP_MANY = 101,     /* more than 100 items failed */
	MAP_BROKEN = 102,   /* it could not do its work, and said why */
	MAP_TIMED_OUT = 103, /* an item's time was over, with --on-timeout exit */
	MAP_CLOSED = 141,   /* nobody reads the output; 128 + SIGPIPE */
};

enum map_halt {
	MAP_HALT_NEVER,
	MAP_HALT_SOON,      /* start no more */
	MAP_HALT_NOW,       /* and kill those that run */
};

struct map_options {
	char *const *cmd;   /* words, NULL-terminated */
	size_t n_cmd;
	char *const *args;  /* items behind :::, NULL: standard input is read */
	size_t n_args;
	bool nul;           /* items end with NUL, not newline */
	unsigned jobs;      /* at the same time, from 1 */
	bool unordered, line_buffer, tag, json, dry_run, pipe;
	size_t max_args;    /* items for one command, from 1 */
	size_t block;       /* --pipe: bytes of a chunk, about */
	size_t records;     /* --pipe: records of a chunk; 0: as many as block holds */
	int64_t timeout_ms; /* of one attempt; -1: none */
	bool timeout_exit;  /* and it ends everything */
	unsigned retries;   /* after the first attempt */
	int64_t backoff_ms, backoff_max_ms; /* before the first retry; doubled for each that follows, up to max */
	enum map_halt halt;
	bool halt_done;     /* counts items that ended; else those that failed */
	bool halt_percent;
	unsigned halt_n;
	const char *joblog, *results; /* NULL: none */
	bool resume, resume_failed;
	bool progress, bar, eta;
	bool tells_stop;    /* CMD passes TSTP on to what it stands for, and STOP would reach only itself */
};

/* Runs the command for each item and waits until nothing of it is left. Returns the program's exit status;
 * standard output and standard error may be non-blocking or not, and stay so. To be called in a process with
 * no other thread and no child. */
int map_run(const struct map_options *o);

#endif
