/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The start of a service: its descriptors, the fork, and the end of the start. Everything that
 * can fail is made and watched before the fork, so that afterwards the process is known
 * completely or not at all. Runs in supervisor processes; allocates nothing.
 */
#include "node/service.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fds.h"
#include "node/service_private.h"

/* --- the status pipe --- */

static void take_report(struct service *s, const struct exec_report *r)
{
	if (r->says == EXEC_SAYS_EXECUTING) {
		s->about_to_exec = true;
	} else if (r->says == EXEC_SAYS_FAILED) {
		s->about_to_exec = false;
		s->reason = cop_exit_make_text(COP_EXIT_EXEC, r->err, exec_step_name(r->step));
		if (s->state == SERVICE_STARTING)
			s->state = SERVICE_FAILING; /* it is ending by itself */
	}
	service_log_marked(s, r->marked);
}

/* It shares nothing with us any more. */
static void launch_over(struct service *s)
{
	struct exec_report r;

	if (exec_launch_over(s->pid, &r))
		take_report(s, &r);
}

/* Reads what the child said on its way to execve. Waits for its end of file, or for its death. */
static void read_status(struct service *s)
{
	struct exec_report r;
	ssize_t n;

	if (s->reaped)
		launch_over(s); /* its descriptors, and ours for it, are closed: there is an end of file */
	while (s->status.fd >= 0 && (n = read(s->status.fd, &r, sizeof r)) >= 0) {
		if (n == 0) {
			service_close_source(s, &s->status);
			launch_over(s);
			s->executed = s->about_to_exec;
		} else if (n == sizeof r && r.says == EXEC_SAYS_LEFT) {
			exec_launch_said(s->pid);
		} else if (n == sizeof r) {
			take_report(s, &r);
		}
	}
}

static void status_ready(struct loop_source *src, uint32_t events)
{
	struct service *s = src->ctx;

	(void)events;
	read_status(s);
	if (!s->executed || s->state != SERVICE_STARTING)
		return;
	if (s->mode == SPEC_READY_EXEC)
		s->probed = true;
	else
		ready_begin(s);
	service_check_ready(s);
}

/* --- completion --- */

void service_check_ready(struct service *s)
{
	int64_t now;

	if (s->state != SERVICE_STARTING || !s->executed || !s->probed || s->asked)
		return;
	now = clock_mono_ms();
	service_end_start(s);
	s->state = SERVICE_RUNNING;
	service_watch_start(s);
	s->ops->ready(s->ctx, (uint32_t)(now - s->since_ms));
}

void service_catch_up(struct service *s)
{
	read_status(s);
	if (s->executed && s->state == SERVICE_STARTING) {
		if (s->mode == SPEC_READY_EXEC)
			s->probed = true;
		if (s->mode == SPEC_READY_FD)
			ready_fd_look(s);
	}
	service_ack_look(s);
	notify_look(s, 64);
	service_check_ready(s);
}

void service_end_start(struct service *s)
{
	ready_end(s);
	loop_timer_cancel(s->loop, &s->deadline);
}

static void start_timed_out(struct loop_timer *t)
{
	struct service *s = t->ctx;

	if (s->state == SERVICE_FAILING && s->pid != 0 && !s->kill_sent)
		service_fail(s, s->reason); /* it said that it ends, and does not */
	if (s->state != SERVICE_STARTING)
		return;
	if (s->asked || s->pid == 0)
		return; /* its end is under way, or has to be waited for anyway */
	service_fail(s, cop_exit_make(COP_EXIT_TIMEOUT, 0));
}

void service_start_timeout_set(struct service *s, int64_t at_ms)
{
	loop_timer_set(s->loop, &s->deadline, at_ms, start_timed_out, s);
}

/* --- descriptors --- */

/* Makes the pipe on which the child speaks until execve, and watches it. */
static int open_status(struct service *s, int *write_end_r)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC | O_NONBLOCK) < 0)
		return -1;
	if (loop_attach(s->loop, &s->status, fd[0], EPOLLIN, status_ready, s) < 0) {
		fds_close(&fd[0]);
		fds_close(&fd[1]);
		return -1;
	}
	*write_end_r = fd[1];
	return 0;
}

/* The last thing is the companion: what comes after it must end it again. */
static int open_all(struct service *s, struct exec_plan *p, enum exec_step *step_r)
{
	*step_r = EXEC_STEP_FORK;
	if (service_log_prepare(s) < 0 || open_status(s, &p->status) < 0 || notify_open(s) < 0)
		return -1;
	if (s->mode == SPEC_READY_FD && ready_fd_open(s, &p->ready) < 0)
		return -1;
	if (s->mode == SPEC_READY_INIT && service_ack_open(s, &p->ready) < 0)
		return -1;
	if (service_worker(s)->server == SPEC_SERVER_JSON)
		return service_bridge_start(s, p, step_r);
	if (!service_is_module(s))
		return 0;
	*step_r = EXEC_STEP_SLOT;
	p->member = s->member = member_claim(spec_string(s->img, s->spec->path));
	return p->member == 0 ? -1 : 0;
}

/* --- launch --- */

static struct cop_exit early_reason(int err, enum exec_step step)
{
	if (step == EXEC_STEP_NAME && err == EEXIST)
		return cop_exit_make_text(COP_EXIT_OTHER, 0, "already_started");
	return cop_exit_make_text(COP_EXIT_EXEC, err, exec_step_name(step));
}

static void start_failed_early(struct service *s, int err, enum exec_step step)
{
	struct cop_exit reason = early_reason(err, step);

	service_close_source(s, &s->status);
	notify_close(s);
	service_end_start(s);
	if (s->bridge != 0) { /* there is no program for it */
		s->state = SERVICE_FAILING;
		s->reason = reason;
		service_bridge_end(s);
		return;
	}
	s->state = SERVICE_IDLE;
	if (s->asked)
		s->ops->exited(s->ctx, &reason, 0, true, 0);
	else
		s->ops->start_failed(s->ctx, &reason, 0);
}

/* All signals are blocked meanwhile, so that none acts on the child before it is ready for it. */
static pid_t launch(struct service *s, const struct exec_plan *p)
{
	enum exec_marks marks;
	sigset_t all, old;
	pid_t pid;
	int err;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	pid = exec_launch(&s->group, p, &marks);
	member_forked(p->member, pid);
	err = errno;
	sigprocmask(SIG_SETMASK, &old, NULL);
	service_log_launched(s, pid > 0, marks);
	errno = err;
	return pid;
}

static void started(struct service *s, pid_t pid)
{
	uint32_t timeout = service_worker(s)->ready_timeout_ms;

	s->pid = s->last_pid = s->group.main = pid;
	s->uid = service_worker(s)->uid == SPEC_UNSET_ID ? geteuid() : service_worker(s)->uid;
	s->watchdog_ms = service_worker(s)->watchdog_ms;
	if (timeout > 0)
		service_start_timeout_set(s, s->since_ms + timeout);
	s->ops->created(s->ctx, pid);
}

/* With kill_group = false and no cgroup, what is left of earlier lives is known by the invocation alone. */
static void renew(struct service *s)
{
	if (s->group.invocation[0] == '\0' || service_worker(s)->kill_group || s->group.dirfd >= 0)
		group_renew(&s->group);
}

void service_spawn(struct service *s)
{
	struct exec_plan p = {
		.node = s->node, .img = *s->img, .child = s->spec, .supervisor = getpid(),
		.status = -1, .log = -1, .ready = -1, .in = -1, .out = -1, .mark_pipe = { -1, -1 },
		.invocation = s->group.invocation, .notify = s->notify_name,
	};
	enum exec_step step;
	pid_t pid = -1;
	int err = 0;

	s->clearing = false;
	renew(s);
	s->since_ms = clock_mono_ms();
	ready_before(s);
	if (open_all(s, &p, &step) < 0) {
		err = errno;
		fds_close(&p.status);
		fds_close(&p.ready);
	} else {
		p.log = s->log_w;
		p.marks = s->exit_mark;
		step = EXEC_STEP_FORK;
		pid = launch(s, &p);
		err = errno;
	}
	fds_close(&p.in);
	fds_close(&p.out);
	if (pid < 0)
		start_failed_early(s, err, step);
	else
		started(s, pid);
}
