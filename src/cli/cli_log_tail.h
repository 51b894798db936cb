/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The reading side of a log directory (coppice-log(5)): `current` and the rotated files before it,
 * as one text. Knows nothing of the node; reads what is there, also while it is written and
 * rotated.
 *
 * Regime: allocates; runs in clients.
 */
#ifndef CLI_LOG_TAIL_H
#define CLI_LOG_TAIL_H

#include <stdio.h>

/* Writes the last n lines (n < 0: all there is) to out, raw bytes as the child wrote them: escaping
 * them for a terminal is out's business. An unfinished line at the end counts as one. Returns 0 (also
 * when there is no file yet), or -1 with errno: ENOENT when there is no such directory, or the
 * error of reading, or of writing to out. */
int log_tail(const char *dir, long n, FILE *out);

/* The same, then goes on with whatever is written, across rotations, nothing left out or twice;
 * out is flushed after each piece. Blocks until stop_fd (-1: none) becomes readable or has hung up,
 * writes what is there by then, and returns 0; or -1 with errno as above. Files that are
 * pruned before they could be read are left out. */
int log_follow(const char *dir, long n, FILE *out, int stop_fd);

#endif
