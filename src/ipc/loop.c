/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The wait loop (loop.h): epoll and a red-black tree of deadlines. Each process of a node has
 * one, in static memory; nothing is allocated. The order within a turn: read the clock once,
 * serve descriptors, then timers that are due. A source detached by an earlier callback of the
 * same turn is not served, because its entry in the turn's table is taken out.
 */
#include "ipc/loop.h"

#include <errno.h>
#include <limits.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fds.h"

#define TURN_EVENTS 64

static int timer_cmp(struct loop_timer *a, struct loop_timer *b)
{
	if (a->at_ms != b->at_ms)
		return a->at_ms < b->at_ms ? -1 : 1;
	return a->serial < b->serial ? -1 : a->serial > b->serial;
}

RB_PROTOTYPE(loop_timers, loop_timer, entry, timer_cmp)
RB_GENERATE(loop_timers, loop_timer, entry, timer_cmp)

/* What the present turn has still to serve; one loop runs per process. */
static struct epoll_event turn[TURN_EVENTS];
static int turn_n, turn_i;

int loop_open(struct loop *l)
{
	*l = (struct loop){ .epfd = epoll_create1(EPOLL_CLOEXEC), .timers = RB_INITIALIZER(&l->timers) };
	l->now_ms = clock_mono_ms();
	turn_n = turn_i = 0; /* a forked process begins its own */
	return l->epfd < 0 ? -1 : 0;
}

void loop_close(struct loop *l)
{
	fds_close(&l->epfd);
	RB_INIT(&l->timers);
}

void loop_after_fork(struct loop *l)
{
	loop_close(l);
	turn_n = turn_i = 0;
}

int loop_attach(struct loop *l, struct loop_source *src, int fd, uint32_t events,
    loop_source_f *ready, void *ctx)
{
	struct epoll_event ev = { .events = events, .data.ptr = src };

	if (epoll_ctl(l->epfd, EPOLL_CTL_ADD, fd, &ev) < 0) {
		src->fd = -1;
		return -1;
	}
	*src = (struct loop_source){ .fd = fd, .events = events, .ready = ready, .ctx = ctx };
	return 0;
}

int loop_modify(struct loop *l, struct loop_source *src, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = src };

	if (src->events == events)
		return 0;
	if (epoll_ctl(l->epfd, EPOLL_CTL_MOD, src->fd, &ev) < 0)
		return -1;
	src->events = events;
	return 0;
}

void loop_detach(struct loop *l, struct loop_source *src)
{
	int i;

	if (src->fd < 0)
		return;
	epoll_ctl(l->epfd, EPOLL_CTL_DEL, src->fd, NULL);
	src->fd = -1;
	for (i = turn_i; i < turn_n; i++)
		if (turn[i].data.ptr == src)
			turn[i].data.ptr = NULL;
}

void loop_timer_set(struct loop *l, struct loop_timer *t, int64_t at_ms, loop_timer_f *expired, void *ctx)
{
	loop_timer_cancel(l, t);
	t->at_ms = at_ms;
	t->serial = l->serial++;
	t->expired = expired;
	t->ctx = ctx;
	t->armed = true;
	RB_INSERT(loop_timers, &l->timers, t);
}

void loop_timer_cancel(struct loop *l, struct loop_timer *t)
{
	if (t->armed)
		RB_REMOVE(loop_timers, &l->timers, t);
	t->armed = false;
}

static void pause_over(struct loop_timer *t)
{
	struct loop_pause *p = t->ctx;

	if (p->src->fd >= 0 && p->src->events == 0)
		loop_modify(p->loop, p->src, p->events);
}

void loop_pause(struct loop *l, struct loop_source *src, struct loop_pause *p, int64_t ms)
{
	if (src->events == 0)
		return;
	p->loop = l;
	p->src = src;
	p->events = src->events;
	loop_modify(l, src, 0);
	loop_timer_set(l, &p->timer, clock_mono_ms() + ms, pause_over, p);
}

/* Milliseconds until the next deadline, rounded so that a wake-up is never too early. */
static int wait_ms(struct loop *l, int max_ms)
{
	struct loop_timer *t = RB_MIN(loop_timers, &l->timers);
	int64_t left;

	if (!t)
		return max_ms;
	left = t->at_ms - clock_mono_ms();
	if (left < 0)
		left = 0;
	if (max_ms >= 0 && left > max_ms)
		left = max_ms;
	return left > INT_MAX ? INT_MAX : (int)left;
}

/* Only timers that were armed before this turn: one that re-arms itself for now waits for the next. */
static void serve_timers(struct loop *l)
{
	uint64_t before = l->serial;
	struct loop_timer *t;

	while ((t = RB_MIN(loop_timers, &l->timers)) && t->at_ms <= l->now_ms && t->serial < before) {
		loop_timer_cancel(l, t);
		t->expired(t);
	}
}

int loop_turn(struct loop *l, int max_ms)
{
	int n = epoll_wait(l->epfd, turn, TURN_EVENTS, wait_ms(l, max_ms));

	if (n < 0 && errno != EINTR)
		return -1;
	l->now_ms = clock_mono_ms();
	turn_n = n < 0 ? 0 : n;
	for (turn_i = 0; turn_i < turn_n;) {
		struct epoll_event *ev = &turn[turn_i++];
		struct loop_source *src = ev->data.ptr;

		if (src)
			src->ready(src, ev->events);
	}
	turn_n = turn_i = 0;
	serve_timers(l);
	return 0;
}

void loop_run(struct loop *l)
{
	while (!l->stop)
		if (loop_turn(l, -1) < 0)
			diag_panic("unable to wait for events: errno %d", errno);
}
