/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Rotation: `current` becomes @TIME.s and a new `current` begins, in steps that can each be done
 * again after a kill.
 *
 * Regime: opendir allocates; without memory nothing is pruned until the next rotation.
 */
#ifndef NODE_LOG_ROTATE_H
#define NODE_LOG_ROTATE_H

#include <stdint.h>

#include "node/log_journal.h"

/* Draws the name for the file that is rotated away: the time, or later if the clock was set
 * back, so that names stay in the order of age. st->rotating and the name are set; the caller
 * commits that before it goes on. Returns 0, or -1 with errno. */
int log_rotate_prepare(const char *dir, struct log_state *st, int64_t now_us);

enum log_rotated {
	LOG_ROTATED,      /* st is the state after it, to be committed; *file is the new `current` */
	LOG_ROTATED_NOT,  /* `current` is still what it was; errno says why */
	LOG_ROTATED_HALF, /* it is renamed, but there is no new one; *file is -1; to be done again */
};

/* Does the rotation that st tells, or what is still missing of it. */
enum log_rotated log_rotate_run(const char *dir, struct log_state *st, int *file);

/* Removes the oldest files beyond so many. */
void log_rotate_prune(const char *dir, uint32_t max_files);

#endif
