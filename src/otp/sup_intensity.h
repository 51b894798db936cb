/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * OTP's restart window (intensity and period): counts restarts in whole seconds of the monotonic
 * clock, floored; both ends of the window belong to it. Used by supervisors and by root for
 * the top supervisor's own restarts.
 */
#ifndef OTP_SUP_INTENSITY_H
#define OTP_SUP_INTENSITY_H

#include <stdbool.h>
#include <stdint.h>

struct sup_intensity {
	uint32_t max_restarts, max_seconds;
	uint32_t cap;    /* seconds that can be remembered */
	uint32_t head, n;
	struct sup_second {
		int64_t second; /* of the monotonic clock, floored */
		uint32_t count;
	} *ring;         /* oldest at head */
};
int sup_intensity_init(struct sup_intensity *i, uint32_t max_restarts, uint32_t max_seconds);
void sup_intensity_fini(struct sup_intensity *i);
/* Counts a restart; false when it is one too many. */
bool sup_intensity_add(struct sup_intensity *i, int64_t now_ms);
uint32_t sup_intensity_left(const struct sup_intensity *i, int64_t now_ms);
/* Sets other limits and keeps all that was counted, so that they may be raised again. */
int sup_intensity_change(struct sup_intensity *i, uint32_t max_restarts, uint32_t max_seconds);

#endif
