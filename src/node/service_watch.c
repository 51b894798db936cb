/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The watchdog of a service, and the times that it may extend by itself. Silence is measured
 * from our own wake-up: who has slept for longer than the period (stopped, or the machine was)
 * reads first what came meanwhile, and then gives a whole period. Runs in supervisor processes;
 * allocates nothing.
 */
#include "node/service.h"

#include <signal.h>

#include "base/clock.h"
#include "node/service_private.h"

#define LATE_MS 250          /* a timer that is later than this: we have slept */
#define EXTEND_MAX_MS 86400000000 /* what a child may ask for: 1,000 days */

static bool watching(const struct service *s)
{
	return s->state == SERVICE_RUNNING && s->watchdog_ms > 0 && !s->watchdog_fired && !s->asked;
}

static void silence(struct loop_timer *t);

void service_watch_alive(struct service *s)
{
	if (watching(s))
		loop_timer_set(s->loop, &s->deadline, clock_mono_ms() + s->watchdog_ms, silence, s);
}

void service_watch_start(struct service *s)
{
	service_watch_alive(s);
}

static void silence(struct loop_timer *t)
{
	struct service *s = t->ctx;
	int64_t late = clock_mono_ms() - t->at_ms;

	notify_look(s, 64);
	if (t->armed || !watching(s))
		return;
	if (late > LATE_MS)
		service_watch_alive(s);
	else
		service_watch_fire(s);
}

/* --- the miss --- */

static void abort_timed_out(struct loop_timer *t)
{
	struct service *s = t->ctx;

	if (s->pid == 0)
		return;
	s->kill_sent = true;
	service_send(s, SIGKILL, "KILL");
	if (service_worker(s)->kill_group)
		group_signal(&s->group, SIGKILL, s->ops->living, s->ctx);
}

/* ABRT, so that there is a core to look at; CONT, so that a stopped process gets to it. */
void service_watch_fire(struct service *s)
{
	int32_t wait = s->spec->sup.shutdown_ms;

	if (s->state != SERVICE_RUNNING || s->watchdog_fired || s->asked)
		return;
	s->watchdog_fired = true;
	service_send(s, SIGABRT, "ABRT");
	service_signal(s, SIGCONT);
	if (wait < 0 || wait > SERVICE_ABORT_MS)
		wait = SERVICE_ABORT_MS;
	loop_timer_set(s->loop, &s->deadline, clock_mono_ms() + wait, abort_timed_out, s);
}

/* --- what the child asks for --- */

void service_watch_set(struct service *s, uint64_t usec)
{
	uint64_t ms = usec / 1000;

	s->watchdog_ms = ms > INT32_MAX ? INT32_MAX : usec > 0 && ms == 0 ? 1 : (uint32_t)ms;
	if (watching(s))
		service_watch_alive(s);
	else if (s->state == SERVICE_RUNNING && !s->watchdog_fired)
		loop_timer_cancel(s->loop, &s->deadline);
}

void service_watch_extend(struct service *s, uint64_t usec)
{
	int64_t ms = usec / 1000 > EXTEND_MAX_MS ? EXTEND_MAX_MS : (int64_t)(usec / 1000);
	int64_t until = clock_mono_ms() + ms;

	if (s->asked) {
		if (s->stop_at_ms < until && until - s->stop_at_ms > s->extension_ms)
			s->extension_ms = until - s->stop_at_ms;
	} else if (s->state == SERVICE_STARTING && s->deadline.armed && s->deadline.at_ms < until) {
		service_start_timeout_set(s, until);
	} else if (watching(s) && s->deadline.armed && s->deadline.at_ms < until) {
		loop_timer_set(s->loop, &s->deadline, until, silence, s);
	}
}
