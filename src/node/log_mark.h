/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Marks in a log pipe (proto.h): what a supervisor writes between the output of one process of a
 * child and the next, and the lines that the log process makes of them. Pure; never allocates.
 */
#ifndef NODE_LOG_MARK_H
#define NODE_LOG_MARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "node/proto.h"

#define LOG_RECORD_MAX 256 /* bytes of a record line */

struct log_mark {
	size_t at, len;    /* place and bytes in the input */
	char kind;         /* 'S', 'X', or 0: the secret is right, the rest is not; to be skipped */
	int32_t pid;
	int64_t time_us;
	uint64_t ran_ms;   /* 'X' */
	char reason[COP_EXIT_FORMAT_MAX]; /* 'X' */
};

/* Finds the first mark that begins at or after from. */
bool log_mark_find(const char *secret, const uint8_t *in, size_t len, size_t from,
    struct log_mark *m_r);

/* Bytes at the end of the input that may be the start of a mark; 0: none. */
size_t log_mark_tail(const char *secret, const uint8_t *in, size_t len);

/* Writes the record line of a mark, newline included; returns its bytes (0 for kind 0). */
size_t log_mark_record(const struct log_mark *m, char out[LOG_RECORD_MAX]);

/* Writes the line that tells what is missing, and why. */
size_t log_mark_lost(int64_t time_us, uint64_t lines, uint64_t bytes, int err,
    char out[LOG_RECORD_MAX]);

#endif
