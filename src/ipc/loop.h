/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The wait loop of every process of a node: descriptors by epoll, deadlines by a tree of
 * timers. Sources and timers live in their owners' memory; nothing is allocated. Idle means
 * asleep: without a timer there is no wake-up at all.
 */
#ifndef IPC_LOOP_H
#define IPC_LOOP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/tree.h> /* libbsd overlay: build with the libbsd-overlay flags */

struct loop_source;
struct loop_timer;

/* Called when the descriptor is ready; events are EPOLLIN, EPOLLOUT, EPOLLHUP, ... */
typedef void loop_source_f(struct loop_source *src, uint32_t events);
/* Called once when the deadline has passed; the timer is then unarmed and may be set again. */
typedef void loop_timer_f(struct loop_timer *timer);

struct loop_source {
	int fd;             /* -1: not attached */
	uint32_t events;    /* what epoll watches */
	loop_source_f *ready;
	void *ctx;          /* owner's */
};

struct loop_timer {
	RB_ENTRY(loop_timer) entry;
	int64_t at_ms;      /* deadline, clock_mono_ms() */
	uint64_t serial;    /* order among equal deadlines */
	bool armed;
	loop_timer_f *expired;
	void *ctx;          /* owner's */
};

RB_HEAD(loop_timers, loop_timer);

struct loop {
	int epfd;
	struct loop_timers timers;
	uint64_t serial;
	int64_t now_ms;     /* read once a turn */
	bool stop;          /* set to leave loop_run() after this turn */
};

/* Opens the loop. Returns 0, or -1 with errno. */
int loop_open(struct loop *l);
void loop_close(struct loop *l);
/* In a forked child: forgets the parent's epoll descriptor, sources and timers. */
void loop_after_fork(struct loop *l);

/* Watches fd. src is the caller's memory and must stay until loop_detach(). 0 or -1. */
int loop_attach(struct loop *l, struct loop_source *src, int fd, uint32_t events,
    loop_source_f *ready, void *ctx);
int loop_modify(struct loop *l, struct loop_source *src, uint32_t events);
/* Stops watching; safe from inside any callback, also for another source of the same turn.
 * Does not close the descriptor. */
void loop_detach(struct loop *l, struct loop_source *src);

/* Arms or moves a timer to an absolute deadline. */
void loop_timer_set(struct loop *l, struct loop_timer *t, int64_t at_ms, loop_timer_f *expired, void *ctx);
void loop_timer_cancel(struct loop *l, struct loop_timer *t);

/* For a source that cannot be served now: it is not watched for so long. */
struct loop_pause {
	struct loop_timer timer;
	struct loop *loop;
	struct loop_source *src;
	uint32_t events;
};
void loop_pause(struct loop *l, struct loop_source *src, struct loop_pause *p, int64_t ms);

/* Waits once (at most max_ms, -1 for ever) and serves what is ready. Returns -1 on error. */
int loop_turn(struct loop *l, int max_ms);
/* Turns until stop is set. */
void loop_run(struct loop *l);

#endif
