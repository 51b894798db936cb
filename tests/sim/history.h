/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A history: everything about one simulated run that does not depend on what the supervisor
 * does. It is drawn from a seed: the supervisor's flags, the children it begins with, and a
 * script of what comes from outside (calls, crashes, a reload, the order to shut down).
 *
 * Children are named by a key, given once and never again; a slot of the core is reused.
 */
#ifndef SIM_HISTORY_H
#define SIM_HISTORY_H

#include "otp/sup_core.h"

enum { HISTORY_KEYS = 20, HISTORY_ITEMS = 40 };

enum item_type {
	ITEM_CALL,     /* op on key; START uses spec[key] */
	ITEM_SHUTDOWN, /* the parent's order, with reason */
	ITEM_CRASH,    /* all processes of mask die at this instant */
	ITEM_UPDATE,   /* key gets a new specification */
	ITEM_FLAGS,    /* new intensity and strategy */
};

struct item {
	int64_t at_ms;
	uint8_t type; /* enum item_type */
	uint8_t op;   /* enum sup_op */
	bool interrupt;
	uint32_t key;
	uint32_t mask;
	struct cop_exit reason;
	struct sup_child_spec spec;
	struct sup_flags flags;
};

struct history {
	uint64_t seed;
	struct sup_flags flags;
	uint32_t children;                        /* keys 0 to children-1 are there from the beginning */
	uint32_t keys;                            /* ... and the next ones come with start_child */
	struct sup_child_spec spec[HISTORY_KEYS];
	uint32_t items;
	struct item item[HISTORY_ITEMS];          /* in order of time */
	/* How its processes behave, in percent. */
	uint32_t fail, ignore, mortal, deaf, slow;
};

/* Draws numbers: the same from the same state. */
uint64_t draw(uint64_t *state);
uint32_t draw_below(uint64_t *state, uint32_t n);
bool draw_percent(uint64_t *state, uint32_t percent);
/* Makes one number out of several. */
uint64_t draw_mix(uint64_t a, uint64_t b, uint64_t c);

/* Draws the reason of a process that ends by itself. */
struct cop_exit draw_reason(uint64_t *state);

void history_draw(struct history *h, uint64_t seed);

#endif
