/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The end of a service: what its death means, and waiting until nothing of it is left. Nothing
 * is started again before that, so that nothing runs twice; nobody else waits for it. A group
 * that does not empty (a process in an uninterruptible sleep) is looked at again and again, with
 * growing pauses. Runs in supervisor processes; allocates nothing.
 */
#include "node/service.h"

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "node/service_private.h"

#define DRAIN_FIRST_MS 10
#define DRAIN_MAX_MS 500
#define DRAIN_NOTE_MS 5000

/* --- why --- */

static bool code_is_success(const struct spec_worker *w, int code)
{
	return (w->success_codes[code / 64] >> (code % 64)) & 1;
}

static bool signal_is_success(const struct spec_worker *w, int sig)
{
	return sig < 64 && ((w->success_signals >> sig) & 1);
}

static struct cop_exit reason_of_exit(const struct service *s, int wstatus)
{
	if (s->stop_sent)
		return cop_exit_make(COP_EXIT_SHUTDOWN, 0);
	if (code_is_success(service_worker(s), WEXITSTATUS(wstatus)))
		return cop_exit_make(COP_EXIT_NORMAL, WEXITSTATUS(wstatus));
	return cop_exit_from_wait(wstatus);
}

static struct cop_exit reason_of_signal(const struct service *s, int wstatus)
{
	int sig = WTERMSIG(wstatus);

	if (s->stop_sent && sig == s->stop_signal)
		return cop_exit_make(COP_EXIT_SHUTDOWN, 0);
	if (s->kill_sent && sig == SIGKILL)
		return cop_exit_make(COP_EXIT_KILLED, 0);
	if (signal_is_success(service_worker(s), sig))
		return s->stop_sent ? cop_exit_make(COP_EXIT_SHUTDOWN, 0) : cop_exit_make(COP_EXIT_NORMAL, 128 + sig);
	return cop_exit_from_wait(wstatus);
}

static struct cop_exit reason_of(const struct service *s, int wstatus)
{
	if (s->watchdog_fired)
		return cop_exit_make(COP_EXIT_WATCHDOG, 0);
	if (s->has_known)
		return s->known;
	return WIFEXITED(wstatus) ? reason_of_exit(s, wstatus) : reason_of_signal(s, wstatus);
}

/* --- the end --- */

/* Nothing is left. The callback may start it again: then the new process takes the exit record along. */
static void finish(struct service *s)
{
	bool failed = s->state == SERVICE_FAILING && !s->asked;
	struct cop_exit reason = s->reason;

	loop_detach(s->loop, &s->events);
	loop_timer_cancel(s->loop, &s->drain);
	if (s->last_pid != 0)
		service_log_exit(s);
	s->state = SERVICE_IDLE;
	if (failed && s->ignored && s->ops->ignored)
		s->ops->ignored(s->ctx, &reason, s->last_pid);
	else if (failed)
		s->ops->start_failed(s->ctx, &reason, s->last_pid);
	else
		s->ops->exited(s->ctx, &reason, s->last_pid, s->asked, s->ran_ms);
	service_log_flush(s);
}

/* --- draining --- */

static bool left(struct service *s)
{
	return group_populated(&s->group, s->ops->living, s->ctx);
}

/* The group is empty: on to the fork that waited for it, or to the end. */
static void drained(struct service *s)
{
	if (!s->clearing) {
		finish(s);
		return;
	}
	loop_detach(s->loop, &s->events);
	loop_timer_cancel(s->loop, &s->drain);
	if (s->asked) { /* stopped before there was a process */
		s->clearing = false;
		s->reason = cop_exit_make(COP_EXIT_SHUTDOWN, 0);
		finish(s);
	} else {
		service_spawn(s);
	}
}

static void drain_signal(struct service *s)
{
	if (s->soft && clock_mono_ms() < s->drain_hard_ms)
		return;
	if (s->soft)
		s->drain_since_ms = clock_mono_ms();
	s->soft = false;
	group_signal(&s->group, SIGKILL, s->ops->living, s->ctx);
}

/* Says once that something does not go away. */
static void drain_note(struct service *s)
{
	if (s->drain_noted || s->soft || clock_mono_ms() - s->drain_since_ms < DRAIN_NOTE_MS)
		return;
	s->drain_noted = true;
	s->ops->note(s->ctx, "processes it left behind do not end although killed; waiting for them");
}

static void drain_look(struct service *s)
{
	if (left(s)) {
		drain_signal(s);
		drain_note(s);
	} else {
		drained(s);
	}
}

static void drain_event(struct loop_source *src, uint32_t events)
{
	struct service *s = src->ctx;

	(void)events;
	if (!left(s)) /* reading it is what makes the next change known */
		drained(s);
}

static void drain_arm(struct service *s);

static void drain_timer(struct loop_timer *t)
{
	struct service *s = t->ctx;

	drain_arm(s);
	drain_look(s);
}

/* Looks again soon, then less and less often; sooner if the leftovers' time to end by themselves is up. */
static void drain_arm(struct service *s)
{
	int64_t at = clock_mono_ms() + s->drain_ms;

	if (s->soft && at > s->drain_hard_ms)
		at = s->drain_hard_ms;
	s->drain_ms = s->drain_ms * 2 > DRAIN_MAX_MS ? DRAIN_MAX_MS : s->drain_ms * 2;
	loop_timer_set(s->loop, &s->drain, at, drain_timer, s);
}

/* The first blow: asked, if they may be, else killed. */
static void drain_first(struct service *s)
{
	int32_t wait = s->spec->sup.shutdown_ms;

	s->soft = service_worker(s)->kill_orphans_softly && !s->kill_sent && s->state == SERVICE_DRAINING;
	if (!s->soft) {
		drain_signal(s);
		return;
	}
	s->drain_hard_ms = s->drain_since_ms + (wait >= 0 ? wait : SERVICE_ABORT_MS);
	group_signal(&s->group, SIGTERM, s->ops->living, s->ctx);
	group_signal(&s->group, SIGCONT, s->ops->living, s->ctx);
}

void service_drain_begin(struct service *s)
{
	bool all = s->state == SERVICE_FAILING || service_worker(s)->kill_group;

	if (!all || !left(s)) {
		drained(s);
		return;
	}
	s->drain_since_ms = clock_mono_ms();
	s->drain_ms = DRAIN_FIRST_MS;
	s->drain_noted = false;
	drain_first(s);
	drain_arm(s);
	if (s->group.events_fd >= 0) /* if that fails, there is the timer */
		(void)loop_attach(s->loop, &s->events, s->group.events_fd, EPOLLPRI, drain_event, s);
}

void service_orphan_reaped(struct service *s)
{
	if (service_draining(s))
		drain_look(s);
}

/* --- death --- */

void service_fail(struct service *s, struct cop_exit reason)
{
	s->state = SERVICE_FAILING;
	s->reason = reason;
	service_end_start(s);
	s->kill_sent = true;
	service_send(s, SIGKILL, "KILL");
	group_signal(&s->group, SIGKILL, s->ops->living, s->ctx);
}

/* Tells whether the reason of a failed start was set before the death and stays. */
static bool reason_known(const struct service *s)
{
	return s->state == SERVICE_FAILING;
}

bool service_reaped(struct service *s, pid_t pid, int wstatus)
{
	if (s->pid == 0 || pid != s->pid)
		return false;
	s->reaped = true; /* from now on its number may be anybody's */
	s->group.main = 0;
	service_catch_up(s);
	s->pid = 0;
	s->ran_ms = (uint64_t)(clock_mono_ms() - s->since_ms);
	if (!reason_known(s))
		s->reason = reason_of(s, wstatus);
	service_close_source(s, &s->status);
	notify_close(s);
	service_end_start(s);
	if (s->state == SERVICE_RUNNING || (s->state == SERVICE_STARTING && s->asked))
		s->state = SERVICE_DRAINING;
	else
		s->state = SERVICE_FAILING;
	if (s->bridge != 0)
		service_bridge_end(s);
	else
		service_drain_begin(s);
	return true;
}
