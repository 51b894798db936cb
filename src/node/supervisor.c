/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The supervisor process: feeds the core (otp/sup_core.h) with what really happens and carries
 * out what it decides. It does nothing else and never blocks. Deaths come from waitid, orders
 * from the parent link; everything towards control (events, steering) is best effort.
 *
 * Owns: its children (supervisor_kid.c), their log pipes and groups, its ends of the links.
 * Regime: allocates when it starts, when a child is added, and at a reload; goes on without
 * memory, descriptors or processes: what cannot be started is a failed start.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fds.h"
#include "node/exec_child.h"
#include "node/member.h"
#include "node/supervisor_private.h"

#define EVENT_QUEUE_BYTES (256 * 1024)
#define FLUSH_AT_END_MS 1000
#define EVENTS_LATE_MS 2
#define LAST_WILL_MS 5000 /* for killing what is below when the parent is gone */

int64_t sv_now(struct supervisor *sv)
{
	(void)sv;
	return clock_mono_ms();
}

/* --- events for control --- */

static void events_writable(struct loop_source *src, uint32_t events)
{
	struct supervisor *sv = src->ctx;

	(void)events;
	if (event_pipe_flush(&sv->events))
		loop_detach(&sv->loop, src);
}

/* What the pipe does not take waits until it does. */
static void watch_events(struct supervisor *sv)
{
	if (!sv->events.held && sv->events.q_len > 0 && sv->event_src.fd < 0)
		loop_attach(&sv->loop, &sv->event_src, sv->events.fd, EPOLLOUT, events_writable, sv);
}

void sv_event(struct supervisor *sv, struct event *e)
{
	if (sv->events.fd < 0)
		return;
	event_pipe_put(&sv->events, e);
	watch_events(sv);
}

void sv_events_out(struct supervisor *sv)
{
	if (sv->events.fd < 0 || !sv->events.held)
		return;
	event_pipe_flush(&sv->events);
	watch_events(sv);
}

void sv_note(struct supervisor *sv, const char *fmt, ...)
{
	char text[EVENT_TEXT_MAX];
	struct event e = { .type = EVENT_NOTE, .path = sv->path, .why = text };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	sv_event(sv, &e);
	diag_warn("%s: %s", sv->path, text);
}

/* --- what the core decides --- */

/* The paths of the children that a restart will start, as a list of strings. */
static size_t restart_list(struct supervisor *sv, uint32_t cause)
{
	bool one = sup_flags_get(sv->core)->strategy == SUP_ONE_FOR_ONE;
	uint32_t i = one ? cause : sup_first(sv->core);
	size_t len = 0, n;

	for (; i != SUP_NONE; i = one ? SUP_NONE : sup_next(sv->core, i)) {
		if (!sup_child_in_restart(sv->core, i))
			continue;
		n = strlen(sv->kids[i]->path) + 1;
		if (len + n > sv->list_cap)
			break;
		memcpy(sv->list + len, sv->kids[i]->path, n);
		len += n;
	}
	return len;
}

static void report_restart(struct supervisor *sv, uint32_t slot)
{
	struct event e = {
		.type = EVENT_RESTART,
		.path = sv->path,
		.cause = sv->kids[slot]->path,
		.strategy = sup_flags_get(sv->core)->strategy,
		.restarts_left = sup_restarts_left(sv->core, sv_now(sv)),
		.list = sv->list,
	};

	e.list_len = restart_list(sv, slot);
	sv_event(sv, &e);
}

static void report_limit(struct supervisor *sv, uint32_t slot)
{
	const struct sup_flags *f = sup_flags_get(sv->core);
	struct event e = {
		.type = EVENT_LIMIT,
		.path = sv->path,
		.cause = sv->kids[slot]->path,
		.max_restarts = f->max_restarts,
		.max_seconds = f->max_seconds,
	};

	sv->limit = true;
	snprintf(sv->cause_path, sizeof sv->cause_path, "%s", sv->kids[slot]->path);
	sv_event(sv, &e);
}

/* Everything is gone: say so to the parent and leave. */
static void end(struct supervisor *sv, const struct sup_action *a)
{
	struct plink_msg m = { .kind = PLINK_FINAL };

	if (a->slot != SUP_NONE && a->slot == sv->deep_slot && sv->deep.has_cause)
		m = sv->deep; /* the innermost cause is what an administrator wants to know */
	else if (a->slot != SUP_NONE)
		snprintf(m.cause_path, sizeof m.cause_path, "%s", sv->cause_path);
	if (a->slot != sv->deep_slot || !sv->deep.has_cause)
		m.cause = a->cause;
	m.reason = a->reason;
	m.has_cause = a->slot != SUP_NONE;
	if (strcmp(a->reason.text, "failed_to_start_child") == 0)
		m.how = PLINK_INIT;
	else if (a->slot == SUP_NONE)
		m.how = PLINK_ASKED;
	else
		m.how = sv->limit ? PLINK_LIMIT : PLINK_AUTO;
	sv_events_out(sv);
	(void)plink_send(sv->parent_link, &m); /* unread: the parent sees our death instead */
	sv->loop.stop = true;
}

#define SAY_AGAIN_MS 50

static void say_started_again(struct loop_timer *t);

/* The parent waits for this: said until the link takes it. */
static void say_started(struct supervisor *sv)
{
	sv_events_out(sv);
	if (plink_send(sv->parent_link, &(struct plink_msg){ .kind = PLINK_STARTED }) < 0 && errno != EPIPE)
		loop_timer_set(&sv->loop, &sv->started_timer, sv_now(sv) + SAY_AGAIN_MS, say_started_again, sv);
}

static void say_started_again(struct loop_timer *t)
{
	say_started(t->ctx);
}

static void act(struct supervisor *sv, const struct sup_action *a)
{
	struct kid *k = a->slot != SUP_NONE && a->slot < sv->kids_cap ? sv->kids[a->slot] : NULL;

	DIAG_ASSERT(k || a->slot == SUP_NONE || a->type == SUP_ACT_REPLY || a->type == SUP_ACT_EXIT);
	switch ((enum sup_action_type)a->type) {
	case SUP_ACT_START:
		DIAG_ASSERT(k);
		k->restarts += a->restart;
		kid_start(k);
		break;
	case SUP_ACT_STOP:
		kid_stop(k);
		break;
	case SUP_ACT_KILL:
		kid_kill(k);
		break;
	case SUP_ACT_TIMER:
		kid_set_timer(k, a->at_ms);
		break;
	case SUP_ACT_REPLY:
		steer_reply(sv, a);
		break;
	case SUP_ACT_INITED:
		sv->inited = true;
		say_started(sv);
		break;
	case SUP_ACT_RESTART:
		report_restart(sv, a->slot);
		break;
	case SUP_ACT_LIMIT:
		report_limit(sv, a->slot);
		break;
	case SUP_ACT_FORGET:
		kid_forgotten(k);
		break;
	case SUP_ACT_EXIT:
		end(sv, a);
		break;
	}
}

void sv_feed(struct supervisor *sv, const struct sup_event *ev)
{
	struct sup_event next;
	struct sup_action a;

	DIAG_ASSERT(sv->queue_n < sv->queue_cap);
	sv->queue[(sv->queue_head + sv->queue_n++) % sv->queue_cap] = *ev;
	if (sv->acting)
		return; /* called back from an action: the event comes next */
	sv->acting = true;
	while (sv->queue_n > 0) {
		next = sv->queue[sv->queue_head];
		sv->queue_head = (sv->queue_head + 1) % sv->queue_cap;
		sv->queue_n--;
		sup_step(sv->core, &next);
		while (sup_next_action(sv->core, &a))
			act(sv, &a);
	}
	sv->acting = false;
}

#define QUEUE_PER_KID 4 /* events one child can cause while actions are taken */

int sv_reserve(struct supervisor *sv)
{
	uint32_t i, cap = 64 + QUEUE_PER_KID * sv->kids_cap;
	struct sup_event *q;
	char *list;

	if (sv->paths_len > sv->list_cap) {
		list = realloc(sv->list, sv->paths_len * 2);
		if (!list)
			return -1;
		sv->list = list;
		sv->list_cap = sv->paths_len * 2;
	}
	if (cap <= sv->queue_cap)
		return 0;
	q = calloc(cap, sizeof *q);
	if (!q)
		return -1;
	for (i = 0; i < sv->queue_n; i++)
		q[i] = sv->queue[(sv->queue_head + i) % sv->queue_cap];
	free(sv->queue);
	sv->queue = q;
	sv->queue_cap = cap;
	sv->queue_head = 0;
	return 0;
}

/* --- deaths and orders --- */

/* Takes in a death, or with -1 all that there are. True if an orphan was among them. */
static bool reap(struct supervisor *sv, pid_t which)
{
	struct member_death d;
	bool orphans = false;
	int status;
	pid_t pid;

	while ((pid = member_wait(which, &status, &d)) > 0)
		if (!kid_reaped(sv, pid, status, &d))
			orphans = true;
	return orphans;
}

/* The parent is gone without a word: nobody will clean up after us. Kills everything below, waits for
 * it as long as it takes, but not for ever, and leaves. */
static _Noreturn void last_will(struct supervisor *sv)
{
	int64_t until = clock_mono_ms() + LAST_WILL_MS;
	struct member_death d;
	int status;
	uint32_t i;
	pid_t pid;

	do {
		struct pollfd p = { .fd = sv->signal_fd, .events = POLLIN };

		for (i = 0; i < sv->kids_cap; i++)
			if (sv->kids[i] && sv->kids[i]->pid > 0)
				kill(sv->kids[i]->pid, SIGKILL);
		group_kill_children();
		while ((pid = member_wait(-1, &status, &d)) > 0)
			;
		if (pid < 0 && errno == ECHILD)
			break;
		poll(&p, 1, 20);
	} while (clock_mono_ms() < until);
	group_base_kill(&sv->groups); /* this process too */
	_exit(1);
}

/* Looking for whoever died takes the longer the more children there are; the signal names one who did.
 * Whoever has to be started again is started first, and then it is told what happened. */
static void signal_ready(struct loop_source *src, uint32_t events)
{
	struct supervisor *sv = src->ctx;
	struct signalfd_siginfo si;
	bool orphans = false;

	(void)events;
	if (sv->events.fd >= 0)
		event_pipe_hold(&sv->events);
	while (read(src->fd, &si, sizeof si) == (ssize_t)sizeof si)
		if (si.ssi_signo == SIGTERM && getppid() != sv->parent)
			last_will(sv);
		else if (si.ssi_signo == SIGCHLD && si.ssi_pid > 0)
			orphans |= reap(sv, (pid_t)si.ssi_pid);
	orphans |= reap(sv, -1);
	if (orphans)
		kids_orphan_reaped(sv);
	if (!exec_launch_busy())
		sv_events_out(sv);
}

static void signal_workers(struct supervisor *sv, int sig)
{
	uint32_t i;

	for (i = 0; i < sv->kids_cap; i++)
		if (sv->kids[i] && sv->kids[i]->service)
			(void)service_signal(sv->kids[i]->service, sig);
}

static void parent_ready(struct loop_source *src, uint32_t events)
{
	struct supervisor *sv = src->ctx;
	struct sup_event ev = { .slot = SUP_NONE, .reason = cop_exit_make(COP_EXIT_SHUTDOWN, 0) };
	struct plink_msg m;
	int r;

	(void)events;
	while ((r = plink_recv(sv->parent_link, &m)) > 0) {
		if (m.kind == PLINK_SIGNAL)
			signal_workers(sv, m.value);
		if (m.kind != PLINK_GO && m.kind != PLINK_SHUTDOWN)
			continue;
		ev.type = m.kind == PLINK_GO ? SUP_EV_INIT : SUP_EV_SHUTDOWN;
		ev.now_ms = sv_now(sv);
		sv_feed(sv, &ev);
	}
	if (r < 0) {
		loop_detach(&sv->loop, src);
		if (getppid() != sv->parent)
			last_will(sv);
	}
}

/* --- start and end of the process --- */

/* Of what the parent had open, keeps the channels of supervisors, the sockets, the image and what is ours. */
static void close_others(struct supervisor *sv, int link, int group_fd)
{
	int keep[NODE_FDS + NODE_SOCKETS_MAX + 8], n = 0, i;

	for (i = 0; i < NODE_FDS; i++)
		if (i == NODE_FD_EVENT_W || i == NODE_FD_HELLO_W || i == NODE_FD_KEEP_W)
			keep[n++] = sv->n->fd[i];
		else
			sv->n->fd[i] = -1;
	for (i = 0; i < NODE_SOCKETS_MAX; i++)
		keep[n++] = sv->n->sockets[i];
	keep[n++] = sv->n->img.fd;
	keep[n++] = sv->n->groups.dirfd;
	keep[n++] = link;
	keep[n++] = group_fd;
	fds_close_except(keep, (size_t)n);
}

/* Takes the process over from what it was forked from. */
static void become(struct supervisor *sv, int link, const struct group *own)
{
	sigset_t all;

	sv->parent = getppid();
	sv->since_ms = sv_now(sv);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	setsid(); /* no signal of the terminal is for us */
	close_others(sv, link, own->dirfd);
	exec_launch_forked();
	group_as_base(own, &sv->groups);
	sv->parent_link = link;
}

static void watch(struct supervisor *sv)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigaddset(&mask, SIGTERM);
	sv->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (sv->signal_fd < 0 || loop_open(&sv->loop) < 0 ||
	    loop_attach(&sv->loop, &sv->signal_src, sv->signal_fd, EPOLLIN, signal_ready, sv) < 0 ||
	    loop_attach(&sv->loop, &sv->parent_src, sv->parent_link, EPOLLIN, parent_ready, sv) < 0)
		diag_fatal(1, "unable to start supervisor %s: %s", sv->path, strerror(errno));
}

/* The queue of control's events may be cut short by our end: give it a moment. */
static void flush_events(struct supervisor *sv)
{
	int64_t until = clock_mono_ms() + FLUSH_AT_END_MS;

	while (sv->events.fd >= 0 && !event_pipe_flush(&sv->events) && clock_mono_ms() < until) {
		struct pollfd p = { .fd = sv->events.fd, .events = POLLOUT };

		poll(&p, 1, 50);
	}
}

static void add_children(struct supervisor *sv)
{
	const struct spec_child *c;

	for (c = spec_first_child(&sv->n->img, sv->spec); c; c = spec_next_child(&sv->n->img, c))
		if (!kid_add(sv, &sv->n->img, c, sup_last(sv->core), NULL))
			diag_fatal(1, "unable to prepare %s: %s", spec_string(&sv->n->img, c->path), strerror(errno));
}

/* Events that are held while a child is on its way are written when it has arrived, or soon. */
static void turn(struct supervisor *sv)
{
	bool held = sv->events.held;

	kid_free_dead(sv);
	exec_launch_rest();
	if (loop_turn(&sv->loop, held ? EVENTS_LATE_MS : -1) < 0)
		diag_panic("supervisor %s: unable to wait: errno %d", sv->path, errno);
	if (held)
		sv_events_out(sv);
}

_Noreturn void supervisor_main(struct node *n, const struct spec_child *spec, int link, const struct group *own)
{
	static struct supervisor sv;
	const char *path = spec_string(&n->img, spec->path);

	sv = (struct supervisor){ .n = n, .spec = spec, .steer_fd = -1, .steer_src.fd = -1, .event_src.fd = -1,
		.deep_slot = SUP_NONE, .events.fd = -1, .pids = RB_INITIALIZER(&sv.pids) };
	snprintf(sv.path, sizeof sv.path, "%s", path);
	become(&sv, link, own);
	setproctitle("supervisor %s", sv.path);
	watch(&sv);
	if (n->fd[NODE_FD_EVENT_W] >= 0 && event_pipe_init(&sv.events, n->fd[NODE_FD_EVENT_W], EVENT_QUEUE_BYTES) < 0)
		diag_fatal(1, "unable to start supervisor %s: %s", sv.path, strerror(errno));
	sv.core = sup_create(&spec->flags);
	if (!sv.core)
		diag_fatal(1, "unable to start supervisor %s: %s", sv.path, strerror(errno));
	if (sv_reserve(&sv) < 0)
		diag_fatal(1, "unable to start supervisor %s: %s", sv.path, strerror(errno));
	add_children(&sv);
	if (getppid() != sv.parent)
		_exit(1); /* the parent died before its death signal was asked for; nothing is below yet */
	steer_hello(&sv);
	while (!sv.loop.stop)
		turn(&sv);
	kid_free_dead(&sv);
	kids_fini(&sv);
	exec_launch_fini();
	flush_events(&sv);
	_exit(0);
}
