/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The supervisor process of the library: feeds the core (sup_core.h) with deaths, answers and orders, and
 * carries out what it decides. It never blocks. Deaths come from waitid, the outcome of starts from a pipe
 * that its children were born with, orders of a supervisor above from another one; the mailbox is only for
 * callers of the child API.
 *
 * Owns its children, their specifications and pipes. Regime: allocates at its start and when a child is
 * added; goes on without memory, descriptors or processes: what cannot be started is a failed start.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fds.h"
#include "ipc/group.h"
#include "otp/supervisor_private.h"

/* --- reports --- */

void supervisor_report(struct supervisor *sv, enum cop_report_kind kind, struct kid *k, const struct cop_exit *reason)
{
	char name[COP_NAME_MAX];
	struct cop_report r = {
		.kind = (uint8_t)kind, .pid = { proc.id }, .os_pid = getpid(),
		.name = cop_name_of((cop_pid){ proc.id }, name), .label = proc.slot->label,
	};

	(void)sv;
	if (k) {
		r.child = k->id;
		r.child_pid.id = k->pid;
	}
	if (reason)
		r.reason = *reason;
	proc_report(&r);
}

/* --- the core --- */

static _Noreturn void leave(struct supervisor *sv, const struct sup_action *a)
{
	if (!sv->inited) {
		supervisor_report(sv, COP_REPORT_INIT_FAILED, NULL, &a->reason);
		proc_unname(proc.me);
		server_ack(COP_NOT_STARTED, &a->reason);
	}
	proc_die(&a->reason);
}

static void act(struct supervisor *sv, const struct sup_action *a)
{
	struct kid *k = a->slot < sv->kids_cap ? sv->kids[a->slot] : NULL;

	switch ((enum sup_action_type)a->type) {
	case SUP_ACT_START:
		kid_start(k);
		break;
	case SUP_ACT_STOP:
		kid_stop(k);
		break;
	case SUP_ACT_KILL:
		kid_kill(k);
		break;
	case SUP_ACT_TIMER:
		break; /* act_timer() */
	case SUP_ACT_REPLY:
		supervisor_answer(sv, a);
		break;
	case SUP_ACT_INITED:
		sv->inited = true;
		server_ack(COP_STARTED, NULL);
		break;
	case SUP_ACT_RESTART:
		break;
	case SUP_ACT_LIMIT:
		supervisor_report(sv, COP_REPORT_LIMIT, k, NULL);
		break;
	case SUP_ACT_FORGET:
		kid_forget(k);
		break;
	case SUP_ACT_EXIT:
		leave(sv, a);
	}
}

static void timer_expired(struct loop_timer *t)
{
	struct kid *k = t->ctx;
	struct sup_event ev = { .type = SUP_EV_TIMER, .slot = k->slot, .now_ms = clock_mono_ms() };

	supervisor_feed(k->sv, &ev);
}

static void act_timer(struct supervisor *sv, const struct sup_action *a)
{
	struct kid *k = sv->kids[a->slot];

	if (a->at_ms < 0)
		loop_timer_cancel(&sv->loop, &k->timer);
	else
		loop_timer_set(&sv->loop, &k->timer, a->at_ms, timer_expired, k);
}

static void queue_event(struct supervisor *sv, const struct sup_event *ev)
{
	struct sup_event *q;

	if (sv->queue_n == sv->queue_cap) {
		q = realloc(sv->queue, (sv->queue_cap * 2 + 16) * sizeof *q);
		if (!q)
			diag_panic("supervisor: no room for an event");
		sv->queue = q;
		sv->queue_cap = sv->queue_cap * 2 + 16;
	}
	sv->queue[sv->queue_n++] = *ev;
}

static void try_order(struct supervisor *sv);

void supervisor_feed(struct supervisor *sv, const struct sup_event *ev)
{
	struct sup_event e = *ev;
	struct sup_action a;

	queue_event(sv, &e);
	if (sv->acting)
		return;
	sv->acting = true;
	while (sv->queue_n > 0) {
		e = sv->queue[0];
		memmove(sv->queue, sv->queue + 1, --sv->queue_n * sizeof e);
		sup_step(sv->core, &e);
		while (sup_next_action(sv->core, &a)) {
			if (a.type == SUP_ACT_TIMER)
				act_timer(sv, &a);
			else
				act(sv, &a);
		}
	}
	sv->acting = false;
	try_order(sv);
}

/* --- the order to end --- */

#define ORDER_PATIENCE_MS 5000

/*
 * OTP's supervisor takes an order to end from its mailbox: behind the calls that came before, and not while it starts
 * children. So it is here, but that a start that takes longer than a child's usual shutdown time is not waited for.
 */
static void feed_order(struct supervisor *sv)
{
	struct sup_event ev = { .type = SUP_EV_SHUTDOWN, .reason = sv->order, .now_ms = clock_mono_ms() };

	sv->order_fed = true;
	loop_timer_cancel(&sv->loop, &sv->order_timer);
	supervisor_feed(sv, &ev);
}

static void try_order(struct supervisor *sv)
{
	bool starting = sv->starting && sv->starting->starting;

	if (sv->ordered && !sv->order_fed && !sv->acting && !starting && sv->n_calls == 0)
		feed_order(sv);
}

static void order_overdue(struct loop_timer *t)
{
	struct supervisor *sv = t->ctx;

	if (!sv->order_fed)
		feed_order(sv);
}

bool supervisor_order_first(struct supervisor *sv)
{
	if (!sv->ordered || sv->order_fed)
		return false;
	feed_order(sv);
	return true;
}

static void order_shutdown(struct supervisor *sv, const struct cop_exit *reason)
{
	if (sv->ordered)
		return;
	sv->ordered = true;
	sv->order = *reason;
	loop_timer_set(&sv->loop, &sv->order_timer, clock_mono_ms() + ORDER_PATIENCE_MS, order_overdue, sv);
	try_order(sv);
}

#define BURIAL_MS 1000
#define LAST_WILL_MS 6000
#define BURIAL_LOOK_MS 1

/* Nobody above us is left to end those that do not end. */
static void last_will(struct loop_timer *t)
{
	struct supervisor *sv = t->ctx;
	struct cop_exit killed = cop_exit_make(COP_EXIT_KILLED, 0);
	uint32_t i;

	for (i = 0; i < sv->kids_cap; i++)
		if (sv->kids[i])
			kid_kill(sv->kids[i]);
	proc_die(&killed);
}

/* Our parent was killed. First its own end is told, unless nobody is left to tell it. */
static void parent_died(struct loop_timer *t)
{
	struct supervisor *sv = t->ctx;
	struct cop_exit killed = cop_exit_make(COP_EXIT_KILLED, 0);

	if (sv->parent_died_ms == 0) {
		sv->parent_died_ms = clock_mono_ms();
		loop_timer_set(&sv->loop, &sv->last_will, clock_mono_ms() + LAST_WILL_MS, last_will, sv);
	}
	if (seg_is_there(&proc.seg, proc.parent) && clock_mono_ms() - sv->parent_died_ms < BURIAL_MS)
		loop_timer_set(&sv->loop, t, clock_mono_ms() + BURIAL_LOOK_MS, parent_died, sv);
	else
		order_shutdown(sv, &killed);
}

/* --- answers to starts --- */

static void read_up(struct supervisor *sv)
{
	struct up_ack ack;
	struct kid *k;

	while (read(sv->up_r, &ack, sizeof ack) == sizeof ack) {
		k = sv->starting;
		if (ack.magic != UP_MAGIC || !k || !k->starting || k->os_pid == 0 || k->acked || k->os_pid != ack.os_pid)
			continue; /* nobody was asked */
		ack.reason = proc_sane_exit(&ack.reason);
		kid_acked(k, &ack);
	}
}

#define QUICK_START_NS 100000 /* a start that is over so soon is not worth sleeping for */
#define PLACED_NS 30000       /* by then a new process runs, if another processor is free for it */

/* A child's init is mostly over before we could sleep and be woken; if it runs on another processor. */
static void spin_for_start(struct supervisor *sv)
{
	const struct kid *k = sv->starting;
	int64_t from = clock_mono_ns(), spent;
	uint32_t cpu, mine;

	if (!sv->may_spin || !k || !k->starting || k->acked || k->os_pid == 0 || k->kind == KID_PROGRAM)
		return;
	while (sv->starting == k && k->starting && !k->acked && (spent = clock_mono_ns() - from) < QUICK_START_NS) {
		struct pollfd p = { .fd = sv->up_r, .events = POLLIN };

		if (poll(&p, 1, 0) > 0) {
			read_up(sv);
			continue;
		}
		cpu = atomic_load_explicit(&seg_slot(&proc.seg, SEG_INDEX(k->pid))->cpu, memory_order_relaxed);
		mine = (uint32_t)sched_getcpu() + 1;
		if (cpu == mine || (cpu == 0 && spent > PLACED_NS))
			return;
	}
}

static void up_ready(struct loop_source *src, uint32_t events)
{
	(void)events;
	read_up(src->ctx);
}

/* --- deaths --- */

#define STRAYS_AFTER_MS 5 /* the successor is not kept waiting for this */
#define STRAYS_SHARE 20   /* looking at all children takes at most one part in so many of the time */

/* A child, or a process of the node that one has spawned, or that a dead supervisor has left. */
static bool is_known(void *ctx, pid_t pid)
{
	struct supervisor *sv = ctx;
	struct kid key = { .os_pid = pid };

	return RB_FIND(kids_by_os_pid, &sv->pids, &key) || seg_slot_by_pid(&proc.seg, pid) >= 0;
}

/* What a dead worker had forked itself has come to us, and ends. */
static void end_strays(struct loop_timer *t)
{
	struct supervisor *sv = t->ctx;
	int64_t from = clock_mono_ns();

	group_kill_strays(is_known, sv);
	sv->strays_next_ms = clock_mono_ms() + (clock_mono_ns() - from) * STRAYS_SHARE / 1000000;
}

static void strays_later(struct supervisor *sv)
{
	int64_t at = clock_mono_ms() + STRAYS_AFTER_MS;

	if (!sv->strays_timer.armed)
		loop_timer_set(&sv->loop, &sv->strays_timer, at > sv->strays_next_ms ? at : sv->strays_next_ms, end_strays, sv);
}

static void reaped(void *ctx, int os_pid, uint64_t id, const struct cop_exit *reason, int wstatus)
{
	struct supervisor *sv = ctx;
	struct kid key = { .os_pid = os_pid }, *k = RB_FIND(kids_by_os_pid, &sv->pids, &key);

	(void)id;
	(void)wstatus;
	read_up(sv); /* it may have said something before */
	if (k) {
		strays_later(sv);
		kid_reaped(k, reason);
	}
	kids_drained(sv);
}

#define FEW_KIDS 100       /* of which asking for any dead one costs nothing to speak of */
#define REAP_LATER_MS 5

static void reap_rest(struct loop_timer *t)
{
	proc_reap(0, true, reaped, t->ctx);
}

/* A signal names one death, but those of one instant merge. Asking for others looks at every child: with many, and a
 * death in hand, that is done once for all that come within some milliseconds. */
static void reap(struct supervisor *sv, int first)
{
	bool few = sv->n_kids <= FEW_KIDS;

	proc_reap(first, few, reaped, sv);
	if (!few && !sv->reap_later.armed)
		loop_timer_set(&sv->loop, &sv->reap_later, clock_mono_ms() + REAP_LATER_MS, reap_rest, sv);
}

static void signalled(struct loop_source *src, uint32_t events)
{
	struct supervisor *sv = src->ctx;
	struct signalfd_siginfo si;
	bool deaths = false;
	int first = 0;

	(void)events;
	while (read(sv->sigfd, &si, sizeof si) == sizeof si) {
		if (si.ssi_signo == SIGCHLD) {
			deaths = true;
			first = (int)si.ssi_pid;
		} else if (si.ssi_signo == (uint32_t)SIG_PARENT_DIED) {
			sv->parent_timer.ctx = sv;
			parent_died(&sv->parent_timer);
		}
	}
	if (deaths)
		reap(sv, first);
}

/* An order from above, or its end. */
static void down_ready(struct loop_source *src, uint32_t events)
{
	struct supervisor *sv = src->ctx;
	struct cop_exit reason = cop_exit_make(COP_EXIT_SHUTDOWN, 0);
	char order;

	(void)events;
	loop_detach(&sv->loop, src);
	if (read(sv->down_fd, &order, 1) == 1) {
		order_shutdown(sv, &reason);
	} else {
		sv->parent_timer.ctx = sv;
		parent_died(&sv->parent_timer);
	}
}

/* --- the mailbox --- */

static void handle(struct supervisor *sv, struct seg_node *n)
{
	enum proc_kind kind = (enum proc_kind)atomic_load_explicit(&n->kind, memory_order_relaxed);
	struct cop_msg msg;

	if (proc_msg(&msg, n)) {
		if (kind == NODE_CALL)
			supervisor_call(sv, &msg);
		else if (kind == NODE_STOP)
			order_shutdown(sv, &msg.reason);
		else if (kind == NODE_EXIT && msg.from.id == proc.starter)
			order_shutdown(sv, &msg.reason);
		/* all else is dropped, as OTP's supervisor drops it */
	}
	proc_done(n);
}

#define CALLS_A_TURN 64 /* deaths are not kept waiting by those who ask and ask */

static void read_mailbox(struct supervisor *sv)
{
	struct seg_node *n;
	int i;

	for (i = 0; i < CALLS_A_TURN && sup_call_room(sv->core) && (n = proc_next()); i++)
		handle(sv, n);
}

/* --- the process --- */

struct kid *supervisor_find(struct supervisor *sv, const char *id)
{
	uint32_t i;

	for (i = sup_first(sv->core); i != SUP_NONE; i = sup_next(sv->core, i))
		if (strcmp(sv->kids[i]->id, id) == 0)
			return sv->kids[i];
	return NULL;
}

static int open_sources(struct supervisor *sv)
{
	sigset_t set;
	int fd[2];

	if (loop_open(&sv->loop) < 0 || pipe2(fd, O_CLOEXEC | O_NONBLOCK) < 0)
		return -1;
	sv->up_r = fd[0];
	sv->up_w = fd[1];
	/* children wait for room in it rather than lose their word */
	if (fds_set_nonblock(sv->up_w, false) < 0)
		return -1;
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGURG);
	sigaddset(&set, SIG_PARENT_DIED);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sv->sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (sv->sigfd < 0 || loop_attach(&sv->loop, &sv->sig_src, sv->sigfd, EPOLLIN, signalled, sv) < 0 ||
	    loop_attach(&sv->loop, &sv->up_src, sv->up_r, EPOLLIN, up_ready, sv) < 0)
		return -1;
	if (sv->down_fd >= 0 && loop_attach(&sv->loop, &sv->down_src, sv->down_fd, EPOLLIN, down_ready, sv) < 0)
		return -1;
	return 0;
}

/* fault: what is wrong with the specification, in detail; NULL: nothing. */
static _Noreturn void refuse(struct supervisor *sv, const char *word, const char *fault)
{
	struct cop_exit reason = cop_exit_make_text(COP_EXIT_OTHER, 0, word);
	struct cop_report r = { .kind = COP_REPORT_INIT_FAILED, .pid = { proc.id }, .os_pid = getpid(),
		.name = sv->spec->name, .label = proc.slot->label, .child = fault, .reason = reason };

	proc_report(&r);
	proc_unname(proc.me);
	server_ack(COP_NOT_STARTED, &reason);
	proc_die(&reason);
}

static struct sup_flags flags_of(const struct cop_supervisor *s)
{
	return (struct sup_flags){
		.strategy = s->strategy, .auto_shutdown = s->auto_shutdown, .dynamic = s->dynamic,
		.max_restarts = s->max_restarts == 0 ? 3 : s->max_restarts < 0 ? 0 : (uint32_t)s->max_restarts,
		.max_seconds = s->max_seconds == 0 ? 5 : (uint32_t)s->max_seconds,
		.max_children = s->max_children == 0 ? SUP_NO_LIMIT : s->max_children < 0 ? 0 : (uint32_t)s->max_children,
	};
}

static void run(struct supervisor *sv)
{
	for (;;) {
		bool sleeps;

		spin_for_start(sv);
		read_mailbox(sv);
		sleeps = proc.queue.n == 0 && inbox_sleeps_in_poll(proc.slot);
		if (loop_turn(&sv->loop, sleeps || !sup_call_room(sv->core) ? -1 : 0) < 0)
			diag_panic("supervisor: unable to wait: errno %d", errno);
		inbox_awake(proc.slot);
	}
}

static int processors(void)
{
	cpu_set_t set;

	return sched_getaffinity(0, sizeof set, &set) < 0 ? 1 : CPU_COUNT(&set);
}

_Noreturn void supervisor_main(const struct cop_supervisor *spec, int down_fd)
{
	static struct supervisor sv;
	struct sup_event init = { .type = SUP_EV_INIT };
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	struct cop_started failed;
	struct sup_flags flags = flags_of(spec);
	size_t i;

	memset(&sv, 0, sizeof sv); /* a supervisor's child has its parent's */
	sv.spec = spec;
	sv.down_fd = down_fd;
	sv.down_src.fd = sv.up_src.fd = sv.sig_src.fd = -1;
	RB_INIT(&sv.pids);
	sigaction(SIGCHLD, &dfl, NULL);
	sv.may_spin = processors() > 1;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	if (server_take_name(spec->name, &failed) < 0) {
		server_ack(COP_NOT_STARTED, &failed.reason);
		proc_die(&failed.reason);
	}
	if (supervisor_flags_fault(spec))
		refuse(&sv, "supervisor_data", supervisor_flags_fault(spec));
	if (supervisor_children_fault(spec))
		refuse(&sv, "start_spec", supervisor_children_fault(spec));
	if (spec->partitions) {
		spec = partition_expand(spec);
		if (!spec)
			refuse(&sv, "enomem", NULL);
		sv.spec = spec;
		sv.partitioned = true;
	}
	sv.core = sup_create(&flags);
	if (!sv.core || open_sources(&sv) < 0)
		refuse(&sv, errno == ENOMEM ? "enomem" : "system_limit", NULL);
	supervisor_report(&sv, COP_REPORT_INIT, NULL, NULL);
	for (i = 0; i < spec->n_children && !spec->dynamic; i++)
		if (!kid_add(&sv, &spec->children[i], NULL, 0))
			refuse(&sv, errno == ENOMEM ? "enomem" : "start_spec", NULL);
	init.now_ms = clock_mono_ms();
	supervisor_feed(&sv, &init);
	run(&sv);
	abort();
}
