/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * --progress, --bar, --eta: one line on the terminal, drawn again a few times a second and taken away before anything
 * else is written. Nothing at all where standard error is no terminal. The number of all items is known only when
 * they are arguments: to count the input would be to read it. Runs in the runner.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "map/map_private.h"

#define DRAW_MS 200

static uint64_t total(const struct run *r)
{
	return r->o->args ? (r->o->n_args + r->o->max_args - 1) / r->o->max_args : 0;
}

static size_t columns(void)
{
	struct winsize w;

	return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 10 ? w.ws_col : 80;
}

static int add_eta(const struct run *r, char *line, int n, size_t size, uint64_t all)
{
	int64_t ms = clock_mono_ms() - r->progress.start_ms, left;

	if (all == 0 || r->ended_n == 0)
		return n + snprintf(line + n, size - (size_t)n, ", time left unknown");
	left = ms * (int64_t)(all - r->skipped - r->ended_n) / (int64_t)r->ended_n;
	return n + snprintf(line + n, size - (size_t)n, ", %" PRId64 " s left", left / 1000);
}

static int add_bar(const struct run *r, char *line, int n, size_t size, uint64_t all, size_t width)
{
	uint64_t done = r->ended_n + r->skipped;
	size_t room = width > (size_t)n + 10 ? width - (size_t)n - 4 : 0, i;

	if (all == 0 || room == 0 || (size_t)n + room + 4 >= size)
		return n;
	n += snprintf(line + n, size - (size_t)n, " [");
	for (i = 0; i < room; i++)
		line[n++] = i < room * done / all ? '#' : ' ';
	return n + snprintf(line + n, size - (size_t)n, "]");
}

/* Only what has changed: a terminal that is watched, or recorded, need not be told the same. */
static void show(struct run *r, const char *line, size_t n)
{
	struct progress *p = &r->progress;

	if (sink_pending(&r->sink[1]) > 0 || (p->shown && n == p->len && memcmp(line, p->line, n) == 0))
		return;
	sink_put(&r->sink[1], "\r", 1);
	sink_put(&r->sink[1], line, n);
	sink_put(&r->sink[1], "\033[K", 3);
	memcpy(p->line, line, n);
	p->len = n;
	p->shown = true;
}

static void draw(struct loop_timer *t)
{
	struct run *r = t->ctx;
	size_t width = columns() - 1;
	uint64_t all = total(r);
	char line[MAP_PROGRESS_MAX];
	int n;

	n = snprintf(line, sizeof line, "%" PRIu64, r->ended_n + r->skipped);
	if (all > 0)
		n += snprintf(line + n, sizeof line - (size_t)n, "/%" PRIu64, all);
	n += snprintf(line + n, sizeof line - (size_t)n, " done, %u running, %" PRIu64 " failed", r->running, r->failed_n);
	if (r->o->eta)
		n = add_eta(r, line, n, sizeof line, all);
	if (width > sizeof line - 16)
		width = sizeof line - 16;
	if (r->o->bar)
		n = add_bar(r, line, n, sizeof line, all, width);
	if ((size_t)n > width)
		n = (int)width;
	show(r, line, (size_t)n);
	loop_timer_set(&r->loop, t, r->loop.now_ms + DRAW_MS, draw, r);
}

void progress_start(struct run *r)
{
	r->progress.on = (r->o->progress || r->o->bar || r->o->eta) && isatty(STDERR_FILENO);
	r->progress.start_ms = clock_mono_ms();
	if (r->progress.on)
		loop_timer_set(&r->loop, &r->progress.timer, r->progress.start_ms, draw, r);
}

void progress_hide(struct run *r)
{
	if (r->progress.shown)
		sink_put(&r->sink[1], "\r\033[K", 4);
	r->progress.shown = false;
}

void progress_end(struct run *r)
{
	progress_hide(r);
	loop_timer_cancel(&r->loop, &r->progress.timer);
}
