/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What follows from how an item ended: another attempt and when, the end of everything, the exit status. Decides
 * only; nothing here waits, kills or writes. Runs in the runner.
 */
#include "map/map_private.h"

#define PERCENT_FROM 3 /* items that must have ended before a part of them means anything */

bool item_failed(const struct item *it)
{
	return it->bad || it->timed_out || it->exit != 0 || it->sig != 0;
}

int64_t policy_retry(const struct run *r, const struct item *it)
{
	int64_t ms = r->o->backoff_ms;
	unsigned i;

	if (!item_failed(it) || it->bad || it->attempt > r->o->retries || r->stopping)
		return -1;
	for (i = 1; i < it->attempt && ms < r->o->backoff_max_ms; i++)
		ms *= 2;
	return ms < r->o->backoff_max_ms ? ms : r->o->backoff_max_ms;
}

bool policy_halts(const struct run *r)
{
	const struct map_options *o = r->o;
	uint64_t n = o->halt_done ? r->ended_n : r->failed_n;

	if (o->halt == MAP_HALT_NEVER)
		return false;
	if (!o->halt_percent)
		return n >= o->halt_n;
	return r->ended_n >= PERCENT_FROM && n > 0 && n * 100 >= (uint64_t)o->halt_n * r->ended_n;
}

int policy_status(const struct run *r)
{
	if (r->status != 0)
		return r->status;
	if (r->signal != 0)
		return 128 + r->signal;
	return r->failed_n >= MAP_MANY ? MAP_MANY : (int)r->failed_n;
}
