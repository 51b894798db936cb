/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Draws histories. The distributions are chosen so that the interesting situations are
 * frequent: times fall on a coarse grid (things happen at the same instant), histories are
 * short and crowded, and each has a temper of its own (one where most starts fail, one where
 * nobody listens to a stop). sim.c counts the situations and demands a minimum of each.
 *
 * Allocates nothing.
 */
#include "history.h"

#include <string.h>

static const int64_t grid[] = { 0, 0, 1, 5, 20, 100, 300, 1000 };

uint64_t draw(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

uint32_t draw_below(uint64_t *state, uint32_t n)
{
	return (uint32_t)((draw(state) >> 32) * n >> 32);
}

bool draw_percent(uint64_t *state, uint32_t percent)
{
	return draw_below(state, 100) < percent;
}

uint64_t draw_mix(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t state = a;

	state = draw(&state) ^ b;
	state = draw(&state) ^ c;
	return draw(&state);
}

struct cop_exit draw_reason(uint64_t *state)
{
	switch (draw_below(state, 6)) {
	case 0:
		return cop_exit_make(COP_EXIT_NORMAL, 0);
	case 1:
		return cop_exit_make(COP_EXIT_SHUTDOWN, 0);
	case 2:
		return cop_exit_make_text(COP_EXIT_SHUTDOWN, 0, "done");
	case 3:
		return cop_exit_make(COP_EXIT_CODE, 1);
	case 4:
		return cop_exit_make(COP_EXIT_KILLED, 0);
	default:
		return cop_exit_make(COP_EXIT_SIGNAL, 11);
	}
}

static void draw_flags(uint64_t *state, struct sup_flags *f)
{
	*f = (struct sup_flags){
		.strategy = (uint8_t)draw_below(state, 3),
		.auto_shutdown = draw_percent(state, 30) ? (uint8_t)(1 + draw_below(state, 2)) : SUP_AUTO_NEVER,
		.max_restarts = draw_percent(state, 40) ? 100 : draw_below(state, 6),
		.max_seconds = 1 + draw_below(state, 3),
		.max_children = SUP_NO_LIMIT,
	};
	if (draw_percent(state, 20)) {
		f->dynamic = true;
		f->strategy = SUP_ONE_FOR_ONE;
		f->auto_shutdown = SUP_AUTO_NEVER;
		if (draw_percent(state, 50))
			f->max_children = draw_below(state, 5);
	}
}

static int32_t draw_shutdown(uint64_t *state)
{
	static const int32_t choice[] = { 5, 50, 500, 500, 0, SUP_SHUTDOWN_BRUTAL, SUP_SHUTDOWN_INFINITY };

	return choice[draw_below(state, sizeof(choice) / sizeof(choice[0]))];
}

static struct sup_backoff draw_backoff(uint64_t *state)
{
	static const uint32_t mins[] = { 1, 7, 50, 400 }, factors[] = { 1000, 1500, 2000, 10000 };
	uint32_t min = mins[draw_below(state, 4)];

	return (struct sup_backoff){
		.min_ms = min,
		.max_ms = min + draw_below(state, 4 * min),
		.factor_milli = factors[draw_below(state, 4)],
		.reset_ms = draw_percent(state, 30) ? 0 : 100,
	};
}

static void draw_spec(uint64_t *state, const struct sup_flags *f, struct sup_child_spec *spec)
{
	*spec = (struct sup_child_spec){
		.restart = draw_percent(state, 50) ? SUP_PERMANENT : (uint8_t)(1 + draw_below(state, 2)),
		.supervisor = draw_percent(state, 20),
		.enabled = !draw_percent(state, 8),
		.shutdown_ms = draw_shutdown(state),
	};
	if (f->auto_shutdown != SUP_AUTO_NEVER && spec->restart != SUP_PERMANENT)
		spec->significant = draw_percent(state, 80);
	if (draw_percent(state, 25))
		spec->backoff = draw_backoff(state);
}

/* Draws a call on any child there ever was, most often on a late one. */
static void draw_call(uint64_t *state, struct history *h, struct item *it)
{
	static const uint8_t ops[] = { SUP_OP_TERMINATE, SUP_OP_TERMINATE, SUP_OP_RESTART, SUP_OP_RESTART,
		SUP_OP_DELETE, SUP_OP_CYCLE };

	it->type = ITEM_CALL;
	if (h->keys < HISTORY_KEYS && (h->keys == 0 || draw_percent(state, h->flags.dynamic ? 70 : 25))) {
		it->op = SUP_OP_START;
		it->key = h->keys++;
		draw_spec(state, &h->flags, &h->spec[it->key]);
		return;
	}
	it->op = h->flags.dynamic ? SUP_OP_TERMINATE : ops[draw_below(state, sizeof(ops))];
	it->key = draw_below(state, h->keys);
	it->interrupt = (it->op == SUP_OP_TERMINATE || it->op == SUP_OP_CYCLE) && draw_percent(state, 50);
}

static void draw_reload(uint64_t *state, const struct history *h, struct item *it)
{
	if (h->keys > 0 && draw_percent(state, 70)) {
		it->type = ITEM_UPDATE;
		it->key = draw_below(state, h->keys);
		draw_spec(state, &h->flags, &it->spec);
		return;
	}
	it->type = ITEM_FLAGS;
	it->flags = h->flags;
	it->flags.max_restarts = draw_below(state, 8);
	it->flags.max_seconds = 1 + draw_below(state, 3);
	if (!h->flags.dynamic)
		it->flags.strategy = (uint8_t)draw_below(state, 3);
}

static void draw_item(uint64_t *state, struct history *h, struct item *it)
{
	uint32_t what = draw_below(state, 100);

	if (what < 50) {
		draw_call(state, h, it);
	} else if (what < 90) {
		it->type = ITEM_CRASH;
		it->mask = (uint32_t)draw(state);
		if (draw_percent(state, 50))
			it->mask &= (uint32_t)draw(state);
		it->reason = draw_reason(state);
	} else if (what < 95) {
		draw_reload(state, h, it);
	} else {
		it->type = ITEM_SHUTDOWN;
		it->reason = draw_reason(state);
	}
}

/* Appends an item; things come in bursts. */
static void add_item(uint64_t *state, struct history *h, int64_t *now)
{
	struct item *it = &h->item[h->items++];

	*now += draw_percent(state, 40) ? 0 : grid[draw_below(state, sizeof(grid) / sizeof(grid[0]))];
	it->at_ms = *now;
	draw_item(state, h, it);
}

void history_draw(struct history *h, uint64_t seed)
{
	uint64_t state = draw_mix(seed, 0, 0);
	int64_t now = draw_below(&state, 5000);
	uint32_t i, n;

	memset(h, 0, sizeof(*h));
	h->seed = seed;
	draw_flags(&state, &h->flags);
	h->children = h->flags.dynamic ? 0 : draw_below(&state, 6);
	for (i = 0; i < h->children; i++)
		draw_spec(&state, &h->flags, &h->spec[i]);
	h->keys = h->children;
	h->fail = draw_percent(&state, 30) ? 40 : 5;
	h->ignore = draw_percent(&state, 50) ? 8 : 2;
	h->mortal = draw_percent(&state, 30) ? 60 : 20;
	h->deaf = draw_percent(&state, 30) ? 60 : 10;
	h->slow = draw_percent(&state, 50) ? 70 : 20;
	n = 2 + draw_below(&state, HISTORY_ITEMS - 3);
	for (i = 0; i < n; i++)
		add_item(&state, h, &now);
	/* The last item ends every history. */
	h->item[h->items++] = (struct item){ .type = ITEM_SHUTDOWN, .at_ms = now + 2000,
		.reason = cop_exit_make(COP_EXIT_SHUTDOWN, 0) };
}
