/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The parts of a service that is a server. Of a module: what its init has answered, how it is stopped, and
 * why it ended, which its slot tells. Of an executable that speaks JSON: the companion (bridge.h) that
 * speaks for it to the node, which is there before the program and as long as it. Whichever of the two
 * dies, the other one follows, and their end is one end of the service:
 *
 *   the program dies    the companion is told why, passes on what the program still said, and ends with it
 *   the companion dies  the program is killed, and the companion's reason is the service's
 *
 * Runs in supervisor processes; allocates nothing.
 */
#include "node/service.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fds.h"
#include "node/bridge.h"
#include "node/service_private.h"
#include "otp/server.h"
#include "proc/proc.h"

#define FAREWELL_MS 1000 /* for a companion to pass on a dead program's last words */

/* Of the present life: a reload may have made something else of it. */
bool service_is_module(const struct service *s)
{
	return s->mode == SPEC_READY_INIT;
}

/* --- a module's init --- */

static void take_ack(struct service *s, struct up_ack *ack)
{
	if (ack->magic != UP_MAGIC || ack->os_pid != s->pid || s->state != SERVICE_STARTING || s->probed)
		return;
	if (ack->how == COP_STARTED) {
		s->probed = true;
		return;
	}
	s->ignored = ack->how == COP_IGNORED;
	s->reason = s->ignored ? cop_exit_make_text(COP_EXIT_OTHER, 0, "ignore") : proc_sane_exit(&ack->reason);
	s->state = SERVICE_FAILING; /* it is ending by itself */
}

void service_ack_look(struct service *s)
{
	struct up_ack ack;
	ssize_t n;

	if (s->mode != SPEC_READY_INIT)
		return;
	while (s->ready.fd >= 0 && (n = read(s->ready.fd, &ack, sizeof ack)) >= 0) {
		if (n == (ssize_t)sizeof ack)
			take_ack(s, &ack);
		else
			service_close_source(s, &s->ready);
	}
}

static void ack_ready(struct loop_source *src, uint32_t events)
{
	struct service *s = src->ctx;

	(void)events;
	service_ack_look(s);
	service_check_ready(s);
}

int service_ack_open(struct service *s, int *write_end_r)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) < 0)
		return -1;
	*write_end_r = fd[1];
	if (fds_set_nonblock(fd[0], true) < 0 || loop_attach(s->loop, &s->ready, fd[0], EPOLLIN, ack_ready, s) < 0) {
		fds_close(&fd[0]);
		return -1;
	}
	return 0;
}

/* --- a module's end --- */

void service_module_stop(struct service *s)
{
	struct cop_exit shutdown = cop_exit_make(COP_EXIT_SHUTDOWN, 0);

	if (member_exit(s->member, &shutdown))
		s->ops->stopping(s->ctx, "shutdown");
	else
		service_send(s, SIGTERM, "TERM");
}

void service_death(struct service *s, const struct member_death *d)
{
	if (d->id == 0 || d->id != s->member || !service_is_module(s))
		return;
	s->known = d->reason;
	s->has_known = true;
}

/* --- a companion --- */

static void close_pipes(int in[2], int out[2], int order[2])
{
	int i;

	for (i = 0; i < 2; i++) {
		fds_close(&in[i]);
		fds_close(&out[i]);
		fds_close(&order[i]);
	}
}

static pid_t fork_bridge(struct service *s, const struct bridge_setup *setup)
{
	sigset_t all, old;
	pid_t pid;
	int err;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	pid = group_fork(&s->group, NULL);
	if (pid == 0)
		bridge_main(setup);
	err = errno;
	sigprocmask(SIG_SETMASK, &old, NULL);
	errno = err;
	return pid;
}

/* Claims its slot and name, so that whoever calls the name finds it, and makes it. */
static int make_bridge(struct service *s, struct bridge_setup *b, enum exec_step *step_r)
{
	*step_r = EXEC_STEP_SLOT;
	s->member = b->member = member_claim(b->path);
	if (s->member == 0)
		return -1;
	*step_r = EXEC_STEP_NAME;
	if (b->name && member_name(s->member, b->name) < 0) {
		member_forked(s->member, -1);
		return -1;
	}
	*step_r = EXEC_STEP_FORK;
	s->bridge = fork_bridge(s, b);
	member_forked(s->member, s->bridge);
	return s->bridge < 0 ? -1 : 0;
}

static int open_pipes(int in[2], int out[2], int order[2])
{
	if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0 || pipe2(order, O_CLOEXEC | O_NONBLOCK) < 0)
		return -1;
	return fds_set_nonblock(in[1], true) < 0 || fds_set_nonblock(out[0], true) < 0 ? -1 : 0;
}

int service_bridge_start(struct service *s, struct exec_plan *p, enum exec_step *step_r)
{
	int in[2] = { -1, -1 }, out[2] = { -1, -1 }, order[2] = { -1, -1 }, r, err;
	struct bridge_setup b = {
		.node = s->node, .path = spec_string(s->img, s->spec->path),
		.name = spec_string(s->img, service_worker(s)->name), .log = s->log_w,
		.log_null = service_worker(s)->log == SPEC_LOG_NULL,
	};

	*step_r = EXEC_STEP_STDIO;
	r = open_pipes(in, out, order);
	if (r == 0) {
		b.to_worker = in[1];
		b.from_worker = out[0];
		b.order = order[0];
		r = make_bridge(s, &b, step_r);
	}
	err = errno;
	if (r == 0) {
		p->in = in[0];
		p->out = out[1];
		s->bridge_order = order[1];
		in[0] = out[1] = order[1] = -1;
		fds_lift(&s->bridge_order);
	} else {
		s->bridge = 0;
	}
	close_pipes(in, out, order);
	errno = err;
	return r;
}

pid_t service_companion(const struct service *s)
{
	return s->bridge;
}

static void farewell_over(struct loop_timer *t)
{
	struct service *s = t->ctx;

	if (s->bridge == 0)
		return;
	member_kill(s->member, &s->reason);
	kill(s->bridge, SIGKILL);
}

void service_bridge_end(struct service *s)
{
	s->bridge_first = false;
	if (write(s->bridge_order, &s->reason, sizeof s->reason) != (ssize_t)sizeof s->reason) {
		s->bridge_first = errno == EPIPE; /* it is gone already: the program has only followed it */
		if (!s->bridge_first)
			member_kill(s->member, &s->reason);
		kill(s->bridge, SIGKILL);
	}
	fds_close(&s->bridge_order);
	loop_timer_set(s->loop, &s->farewell, clock_mono_ms() + FAREWELL_MS, farewell_over, s);
}

/* The program is left without anybody to speak to. */
static void bereaved(struct service *s, const struct member_death *d, int wstatus)
{
	struct cop_exit reason = d->id ? d->reason : cop_exit_from_wait(wstatus);

	if (s->asked || s->kill_sent)
		return; /* its end is under way */
	s->known = reason;
	s->has_known = true;
	if (s->state == SERVICE_STARTING) {
		service_fail(s, reason);
		return;
	}
	s->kill_sent = true;
	service_send(s, SIGKILL, "KILL");
	if (service_worker(s)->kill_group)
		group_signal(&s->group, SIGKILL, s->ops->living, s->ctx);
}

void service_companion_reaped(struct service *s, const struct member_death *d, int wstatus)
{
	s->bridge = 0;
	fds_close(&s->bridge_order);
	loop_timer_cancel(s->loop, &s->farewell);
	if (s->pid != 0) {
		bereaved(s, d, wstatus);
		return;
	}
	/* What the program's last words led to counts more than how it then ended. */
	if (d->id != 0 && (WIFEXITED(wstatus) || s->bridge_first) && !s->asked && s->state == SERVICE_DRAINING)
		s->reason = d->reason;
	service_drain_begin(s);
}
