/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Plays a history's processes. What a process does is drawn from the seed, its key and the
 * number of its start alone, so it does the same for the core and for the model.
 *
 * Allocates nothing.
 */
#include "world.h"

#include <string.h>

#define NEVER INT64_MAX

static const int64_t grid[] = { 0, 1, 5, 20, 100, 100, 300, 1000 };
static const int64_t quick[] = { 0, 0, 0, 1, 5 };

enum { WHAT_START = 1, WHAT_END, WHAT_TIMER, WHAT_ITEM };

static void violated(struct world *w, uint32_t key, const char *what)
{
	if (w->violation != NULL)
		return;
	w->violation = what;
	w->violation_key = key;
}

static int64_t draw_grid(uint64_t *state, bool slow)
{
	if (slow)
		return grid[draw_below(state, sizeof(grid) / sizeof(grid[0]))];
	return quick[draw_below(state, sizeof(quick) / sizeof(quick[0]))];
}

/* Draws what key's process is going to do this time. */
static void draw_plan(const struct world *w, uint32_t key, struct proc *p)
{
	const struct history *h = w->history;
	uint64_t state = draw_mix(h->seed, key + 1, p->attempt);
	uint32_t what = draw_below(&state, 100), fail;

	/* A first start fails rarely, or most histories would end with init. */
	fail = p->attempt == 1 && key < h->children ? h->fail / 5 : h->fail;
	p->result = SUP_START_OK;
	if (what < fail)
		p->result = SUP_START_FAILED;
	else if (what < fail + h->ignore)
		p->result = SUP_START_IGNORE;
	p->fail_reason = draw_percent(&state, 50) ? cop_exit_make(COP_EXIT_TIMEOUT, 0) : draw_reason(&state);
	p->start_at = w->now + draw_grid(&state, draw_percent(&state, h->slow));
	p->own_ms = draw_percent(&state, h->mortal) ? draw_grid(&state, true) : -1;
	p->own_reason = draw_reason(&state);
	/* One that does not listen to a stop ends of its own accord some time. */
	p->stop_ms = draw_percent(&state, h->deaf) ? 3000 : draw_grid(&state, draw_percent(&state, h->slow));
	p->stop_reason = draw_percent(&state, 70) ? cop_exit_make(COP_EXIT_SHUTDOWN, 0) : draw_reason(&state);
	p->kill_ms = draw_grid(&state, false);
}

void world_init(struct world *w, const struct history *h, struct trace *t)
{
	uint32_t i;

	memset(w, 0, sizeof(*w));
	w->history = h;
	w->trace = t;
	w->now = h->item[0].at_ms;
	for (i = 0; i < HISTORY_KEYS; i++)
		w->proc[i].start_at = w->proc[i].end_at = w->proc[i].timer_at = NEVER;
}

void world_start(struct world *w, uint32_t key)
{
	struct proc *p = &w->proc[key];

	if (p->starting || p->running) {
		violated(w, key, "started while its process is there");
		return;
	}
	p->attempt++;
	p->starting = true;
	p->stopped = p->killed = false;
	p->end_at = NEVER;
	draw_plan(w, key, p);
	w->live++;
}

/* Makes a process end at a time, unless it ends before. */
static void end_by(struct proc *p, int64_t at, struct cop_exit reason)
{
	p->start_at = NEVER;
	if (at >= p->end_at)
		return;
	p->end_at = at;
	p->end_reason = reason;
}

void world_stop(struct world *w, uint32_t key)
{
	struct proc *p = &w->proc[key];

	if (!p->starting && !p->running)
		violated(w, key, "stopped, but there is no process");
	else if (p->stopped || p->killed)
		violated(w, key, "stopped twice");
	else
		end_by(p, w->now + p->stop_ms, p->stop_reason);
	p->stopped = true;
}

void world_kill(struct world *w, uint32_t key)
{
	struct proc *p = &w->proc[key];

	if (!p->starting && !p->running)
		violated(w, key, "killed, but there is no process");
	else if (p->killed)
		violated(w, key, "killed twice");
	else
		end_by(p, w->now + p->kill_ms, cop_exit_make(COP_EXIT_KILLED, 0));
	p->killed = true;
}

void world_timer(struct world *w, uint32_t key, int64_t at_ms)
{
	w->proc[key].timer_at = at_ms < 0 ? NEVER : at_ms;
	if (at_ms >= 0 && at_ms < w->now)
		violated(w, key, "a timer in the past");
}

struct choice {
	int64_t at;
	uint64_t order;
	uint32_t what, key;
};

static void consider(const struct world *w, struct choice *best, int64_t at, uint32_t what, uint32_t key)
{
	uint64_t order = draw_mix(w->history->seed ^ what, key, key < HISTORY_KEYS ? w->proc[key].attempt : 0);

	if (at == NEVER || at > best->at || (at == best->at && order >= best->order))
		return;
	*best = (struct choice){ .at = at, .order = order, .what = what, .key = key };
}

static struct choice choose(const struct world *w)
{
	struct choice best = { .at = NEVER, .order = UINT64_MAX };
	uint32_t i;

	for (i = 0; i < w->history->keys; i++) {
		const struct proc *p = &w->proc[i];

		if (p->starting)
			consider(w, &best, p->start_at, WHAT_START, i);
		if (p->starting || p->running)
			consider(w, &best, p->end_at, WHAT_END, i);
		consider(w, &best, p->timer_at, WHAT_TIMER, i);
	}
	if (w->next_item < w->history->items)
		consider(w, &best, w->history->item[w->next_item].at_ms, WHAT_ITEM, HISTORY_KEYS + w->next_item);
	return best;
}

static void gone(struct world *w, struct proc *p)
{
	p->starting = p->running = false;
	p->start_at = p->end_at = NEVER;
	w->live--;
}

static void start_over(struct world *w, uint32_t key, struct sup_event *ev)
{
	struct proc *p = &w->proc[key];

	ev->type = SUP_EV_STARTED;
	ev->result = p->result;
	if (p->result != SUP_START_OK) {
		if (p->result == SUP_START_FAILED)
			ev->reason = p->fail_reason;
		gone(w, p);
		return;
	}
	p->starting = false;
	p->running = true;
	p->start_at = NEVER;
	if (p->own_ms >= 0)
		end_by(p, w->now + p->own_ms, p->own_reason);
}

static void process_over(struct world *w, uint32_t key, struct sup_event *ev)
{
	struct proc *p = &w->proc[key];

	ev->type = SUP_EV_EXITED;
	ev->reason = p->end_reason;
	gone(w, p);
}

static void crash(struct world *w, const struct item *it)
{
	uint32_t i;

	for (i = 0; i < w->history->keys; i++) {
		struct proc *p = &w->proc[i];

		if ((it->mask >> i & 1) == 0)
			continue;
		if (p->starting && !p->stopped && !p->killed) {
			p->start_at = w->now;
			p->result = SUP_START_FAILED;
			p->fail_reason = it->reason;
		} else if (p->running || p->starting) {
			end_by(p, w->now, it->reason);
		}
	}
}

/* Plays an item. Returns false if it is no event by itself. */
static bool play(struct world *w, const struct item *it, struct world_event *we)
{
	switch ((enum item_type)it->type) {
	case ITEM_CALL:
		we->ev.type = SUP_EV_CALL;
		we->ev.op = it->op;
		we->ev.interrupt = it->interrupt;
		we->ev.slot = it->key;
		we->ev.call = (uint64_t)(it - w->history->item);
		return true;
	case ITEM_SHUTDOWN:
		we->ev.type = SUP_EV_SHUTDOWN;
		we->ev.slot = SUP_NONE;
		we->ev.reason = it->reason;
		return true;
	case ITEM_UPDATE:
	case ITEM_FLAGS:
		we->reload = it;
		return true;
	case ITEM_CRASH:
		crash(w, it);
		return false;
	}
	return false;
}

static bool take(struct world *w, const struct choice *c, struct world_event *we)
{
	w->now = c->at;
	memset(we, 0, sizeof(*we));
	we->ev.now_ms = w->now;
	we->ev.slot = c->key;
	switch (c->what) {
	case WHAT_START:
		start_over(w, c->key, &we->ev);
		return true;
	case WHAT_END:
		process_over(w, c->key, &we->ev);
		return true;
	case WHAT_TIMER:
		we->ev.type = SUP_EV_TIMER;
		w->proc[c->key].timer_at = NEVER;
		return true;
	default:
		return play(w, &w->history->item[w->next_item++], we);
	}
}

bool world_next(struct world *w, struct world_event *we_r)
{
	struct choice c;

	do {
		c = choose(w);
		if (c.at == NEVER)
			return false;
	} while (!take(w, &c, we_r));
	trace_event(w->trace, w->now, we_r);
	return true;
}
