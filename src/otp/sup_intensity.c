/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * OTP's restart window: time in whole seconds, floored, both ends of the window inclusive, one
 * window per supervisor. Restarts of the same second share an entry, so that memory is bounded by
 * the smaller of intensity and period. Pure; allocates in init and change alone.
 */
#include "otp/sup_intensity.h"

#include <errno.h>
#include <stdlib.h>

/* Allocates for these limits, and for no fewer than `keep` entries. */
static int allocate(struct sup_intensity *i, uint32_t max_restarts, uint32_t max_seconds, uint32_t keep)
{
	uint32_t cap = max_restarts < max_seconds ? max_restarts : max_seconds;

	if (max_seconds == 0) {
		errno = EINVAL;
		return -1;
	}
	if (cap < keep)
		cap = keep;
	cap = cap > UINT32_MAX - 2 ? UINT32_MAX : cap + 2;
	*i = (struct sup_intensity){ .max_restarts = max_restarts, .max_seconds = max_seconds, .cap = cap };
	i->ring = calloc(cap, sizeof *i->ring);
	return i->ring ? 0 : -1;
}

int sup_intensity_init(struct sup_intensity *i, uint32_t max_restarts, uint32_t max_seconds)
{
	return allocate(i, max_restarts, max_seconds, 0);
}

void sup_intensity_fini(struct sup_intensity *i)
{
	free(i->ring);
	i->ring = NULL;
}

static int64_t floor_second(int64_t ms)
{
	return ms >= 0 ? ms / 1000 : -((-ms + 999) / 1000);
}

static struct sup_second *at(const struct sup_intensity *i, uint32_t k)
{
	return &i->ring[(i->head + k) % i->cap];
}

static void expire(struct sup_intensity *i, int64_t now)
{
	while (i->n > 0 && at(i, 0)->second < now - (int64_t)i->max_seconds) {
		i->head = (i->head + 1) % i->cap;
		i->n--;
	}
}

static uint64_t count(const struct sup_intensity *i, int64_t now)
{
	uint64_t sum = 0;
	uint32_t k;

	for (k = 0; k < i->n; k++)
		if (at(i, k)->second >= now - (int64_t)i->max_seconds)
			sum += at(i, k)->count;
	return sum;
}

bool sup_intensity_add(struct sup_intensity *i, int64_t now_ms)
{
	int64_t now = floor_second(now_ms);

	expire(i, now);
	if (count(i, now) >= i->max_restarts)
		return false;
	if (i->n > 0 && at(i, i->n - 1)->second == now) {
		at(i, i->n - 1)->count++;
		return true;
	}
	*at(i, i->n) = (struct sup_second){ .second = now, .count = 1 };
	i->n++;
	return true;
}

uint32_t sup_intensity_left(const struct sup_intensity *i, int64_t now_ms)
{
	uint64_t used = count(i, floor_second(now_ms));

	return used >= i->max_restarts ? 0 : i->max_restarts - (uint32_t)used;
}

int sup_intensity_change(struct sup_intensity *i, uint32_t max_restarts, uint32_t max_seconds)
{
	struct sup_intensity new;
	uint32_t k;

	if (allocate(&new, max_restarts, max_seconds, i->n) < 0)
		return -1;
	for (k = 0; k < i->n; k++)
		*at(&new, new.n++) = *at(i, k);
	sup_intensity_fini(i);
	*i = new;
	return 0;
}
