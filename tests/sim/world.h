/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The world of a history: its processes, its clock and its script. It answers the actions of
 * a supervisor with events in one total order: by virtual time, at one instant by a number
 * drawn from the seed. Two supervisors that act the same way at the same times see the same
 * events; so a trace of the core and one of the model can be compared line by line.
 *
 * It also watches over the contract of otp/sup_core.h: nothing is started twice, nothing is
 * stopped that is not there.
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "history.h"
#include "trace.h"

struct proc {
	bool starting, running, stopped, killed;
	uint32_t attempt;
	int64_t start_at; /* when its start is complete or has failed */
	int64_t end_at;   /* when it is gone */
	int64_t timer_at;
	struct cop_exit end_reason;
	/* What it is going to do: drawn anew for each start. */
	uint8_t result; /* enum sup_start_result */
	struct cop_exit fail_reason, own_reason, stop_reason;
	int64_t own_ms, stop_ms, kill_ms;
};

struct world {
	const struct history *history;
	struct trace *trace;
	int64_t now;
	uint32_t next_item;
	uint32_t live; /* processes */
	struct proc proc[HISTORY_KEYS];
	const char *violation; /* of the contract; the first one */
	uint32_t violation_key;
};

struct world_event {
	const struct item *reload; /* not NULL: this update or new flags, and no event */
	struct sup_event ev;       /* its slot is a key, and a call is a number of an item */
};

void world_init(struct world *w, const struct history *h, struct trace *t);

/* Takes the next event. Returns false when nothing will ever happen again. */
bool world_next(struct world *w, struct world_event *we_r);

void world_start(struct world *w, uint32_t key);
void world_stop(struct world *w, uint32_t key);
void world_kill(struct world *w, uint32_t key);
/* Sets, replaces or (at_ms < 0) cancels a timer. */
void world_timer(struct world *w, uint32_t key, int64_t at_ms);

#endif
