/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A supervisor process seen from above (sub.h). Runs in root and in supervisors.
 *
 *   no process -start-> up -(reaped)-> draining -(group empty)-> no process, ended()
 *
 * Whatever a dead supervisor leaves behind is killed before ended() is called, so that its
 * replacement never meets children of the former one.
 */
#include "node/sub.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fds.h"
#include "node/member.h"

#define DRAIN_FIRST_MS 1
#define DRAIN_MAX_MS 200
#define DRAIN_NOTE_MS 5000
#define ORDER_AGAIN_MS 50

void sub_init(struct sub *s, struct node *n, struct loop *l, const struct group_base *base,
    const struct spec_child *spec, const struct sub_ops *ops, void *ctx)
{
	const char *id = spec_string(&n->img, spec->id);

	*s = (struct sub){ .n = n, .loop = l, .base = base, .spec = spec, .ops = ops, .ctx = ctx, .link = -1,
		.src.fd = -1 };
	snprintf(s->name, sizeof s->name, "s.%s", id && id[0] ? id : "@top");
	group_open(&s->group, base, s->name);
}

void sub_fini(struct sub *s)
{
	loop_timer_cancel(s->loop, &s->timer);
	loop_timer_cancel(s->loop, &s->order_timer);
	group_close(&s->group, s->base, s->name);
}

static void close_link(struct sub *s)
{
	loop_detach(s->loop, &s->src);
	fds_close(&s->link);
}

/* Reads what the supervisor has said. */
static void read_link(struct sub *s)
{
	struct plink_msg m;
	int r;

	while (s->link >= 0 && (r = plink_recv(s->link, &m)) != 0) {
		if (r < 0) {
			close_link(s); /* its death follows, or it is broken: then only KILL helps */
			return;
		}
		if (m.kind == PLINK_FINAL) {
			s->final = true;
			s->last = m;
		} else if (m.kind == PLINK_STARTED && !s->started) {
			s->started = true;
			s->ops->started(s->ctx, (uint32_t)(clock_mono_ms() - s->since_ms));
		}
	}
}

static void link_ready(struct loop_source *src, uint32_t events)
{
	(void)events;
	read_link(src->ctx);
}

static void fork_failed(struct sub *s, int err)
{
	close_link(s);
	s->ops->ended(s->ctx, 0, false, NULL, 0, 0, err);
}

/* In the new process: everything of the parent that is not the node's is closed; memory stays. */
static _Noreturn void in_child(struct sub *s, int link, uint64_t member)
{
	struct group own = s->group;

	group_forked(&own);
	member_become(member, MEMBER_SUPERVISOR, -1);
	supervisor_main(s->n, s->spec, link, &own);
}

static void orders_again(struct loop_timer *t);

/* What has to be said is said again until the link takes it, or there is nobody to hear it. */
static void send_orders(struct sub *s)
{
	if (s->go_due && s->link >= 0 && plink_send(s->link, &(struct plink_msg){ .kind = PLINK_GO }) == 0)
		s->go_due = false;
	if (!s->go_due && s->shutdown_due && s->link >= 0 &&
	    plink_send(s->link, &(struct plink_msg){ .kind = PLINK_SHUTDOWN }) == 0)
		s->shutdown_due = false;
	if (s->link >= 0 && (s->go_due || s->shutdown_due))
		loop_timer_set(s->loop, &s->order_timer, clock_mono_ms() + ORDER_AGAIN_MS, orders_again, s);
}

static void orders_again(struct loop_timer *t)
{
	send_orders(t->ctx);
}

void sub_start(struct sub *s)
{
	int fd[2], pidfd = -1;
	uint64_t member;
	pid_t pid;

	s->started = s->final = s->killed = s->go_due = s->shutdown_due = false;
	s->since_ms = clock_mono_ms();
	if (plink_open(fd) < 0) {
		fork_failed(s, errno);
		return;
	}
	fds_lift(&fd[0]);
	s->link = fd[0];
	group_renew(&s->group);
	member = member_claim(spec_string(&s->n->img, s->spec->path)); /* without one it supervises as well */
	pid = group_fork(&s->group, &pidfd);
	if (pid == 0)
		in_child(s, fd[1], member);
	member_forked(member, pid);
	fds_close(&fd[1]);
	fds_close(&pidfd); /* a supervisor is only ever killed as our unreaped child */
	if (pid < 0 || loop_attach(s->loop, &s->src, s->link, EPOLLIN, link_ready, s) < 0) {
		int err = errno;

		if (pid > 0) {
			kill(pid, SIGKILL);
			s->pid = pid; /* its death is reported like any other */
			s->alive = true;
			fds_close(&s->link);
			s->ops->created(s->ctx, pid);
			return;
		}
		fork_failed(s, err);
		return;
	}
	s->pid = pid;
	s->alive = true;
	s->group.main = pid;
	s->ops->created(s->ctx, pid);
	s->go_due = true;
	send_orders(s);
}

void sub_shutdown(struct sub *s)
{
	s->shutdown_due = true;
	send_orders(s);
}

void sub_signal_workers(struct sub *s, int sig)
{
	if (s->link >= 0)
		(void)plink_send(s->link, &(struct plink_msg){ .kind = PLINK_SIGNAL, .value = sig });
}

void sub_kill(struct sub *s)
{
	s->killed = true;
	if (s->alive)
		kill(s->pid, SIGKILL); /* unreaped, so the number is still its own */
	group_signal(&s->group, SIGKILL, s->ops->living, s->ctx);
}

static void drained(struct sub *s)
{
	pid_t pid = s->pid;

	s->pid = 0;
	s->group.main = 0;
	loop_timer_cancel(s->loop, &s->timer);
	s->ops->ended(s->ctx, pid, s->started, s->final ? &s->last : NULL, s->wstatus, s->ran_ms, 0);
}

static void drain(struct sub *s);

static void drain_again(struct loop_timer *t)
{
	drain(t->ctx);
}

/* Kills what is left and looks again, until nothing is. */
static void drain(struct sub *s)
{
	if (!group_populated(&s->group, s->ops->living, s->ctx)) {
		drained(s);
		return;
	}
	group_signal(&s->group, SIGKILL, s->ops->living, s->ctx);
	s->drained_for_ms += s->drain_ms;
	if (s->drained_for_ms >= DRAIN_NOTE_MS && s->drained_for_ms - s->drain_ms < DRAIN_NOTE_MS)
		s->ops->note(s->ctx, "processes of a dead supervisor do not go away although killed");
	loop_timer_set(s->loop, &s->timer, clock_mono_ms() + s->drain_ms, drain_again, s);
	s->drain_ms = s->drain_ms * 2 > DRAIN_MAX_MS ? DRAIN_MAX_MS : s->drain_ms * 2;
}

bool sub_reaped(struct sub *s, pid_t pid, int wstatus)
{
	if (!s->alive || pid != s->pid)
		return false;
	s->alive = false;
	loop_timer_cancel(s->loop, &s->order_timer);
	s->group.main = 0; /* the number is free; its session was its own alone */
	s->wstatus = wstatus;
	s->ran_ms = (uint64_t)(clock_mono_ms() - s->since_ms);
	read_link(s);
	close_link(s);
	s->drain_ms = DRAIN_FIRST_MS;
	s->drained_for_ms = 0;
	drain(s);
	return true;
}

void sub_orphan_reaped(struct sub *s)
{
	if (s->pid != 0 && !s->alive && !group_populated(&s->group, s->ops->living, s->ctx))
		drained(s);
}
