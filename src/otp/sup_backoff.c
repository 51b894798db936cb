/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* How long to wait before a restart: grows by a factor up to a limit, starts again after a run
 * that was long enough. Pure. */
#include "otp/sup_private.h"

uint32_t sup_backoff_next(const struct sup_backoff *b, uint32_t prev_ms, int64_t ran_ms)
{
	uint64_t next;

	if (b->max_ms == 0)
		return 0;
	if (prev_ms == 0 || (b->reset_ms > 0 && ran_ms >= (int64_t)b->reset_ms))
		next = b->min_ms;
	else
		next = (uint64_t)prev_ms * b->factor_milli / 1000;
	if (next < b->min_ms) /* a reload has raised it */
		next = b->min_ms;
	return next > b->max_ms ? b->max_ms : (uint32_t)next;
}
