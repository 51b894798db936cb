/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Receiving: the private queue of what was taken in, selective receive, and the one place where a process
 * waits, for messages, timers, descriptors and signals together.
 *
 * Waiting for a process that last ran on another processor begins with spinning, since being woken from
 * there costs far more than a message; otherwise one sleeps at once. Whoever waits for anybody spins as long
 * as that has paid off lately.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fds.h"
#include "base/relax.h"
#include "proc/proc.h"

/* --- the queue --- */

bool proc_queue_grow(struct proc_queue *q)
{
	uint32_t cap = q->cap ? q->cap * 2 : 64, i, *b = malloc(cap * sizeof *b);

	if (!b)
		return false;
	for (i = 0; i < q->n; i++)
		b[i] = q->node[(q->head + i) & (q->cap - 1)];
	free(q->node);
	q->node = b;
	q->cap = cap;
	q->head = 0;
	return true;
}

bool proc_queue_put(struct proc_queue *q, uint32_t node)
{
	if (q->n == q->cap && !proc_queue_grow(q))
		return false;
	q->node[(q->head + q->n++) & (q->cap - 1)] = node;
	return true;
}

void proc_queue_clear(struct proc_queue *q)
{
	q->head = q->n = 0;
}

static uint32_t *at(struct proc_queue *q, uint32_t i)
{
	return &q->node[(q->head + i) & (q->cap - 1)];
}

static uint32_t *queue_at(uint32_t i)
{
	return at(&proc.queue, i);
}

/* From the middle: what is before it moves up. */
static void remove_from(struct proc_queue *q, uint32_t i)
{
	for (; i > 0; i--)
		*at(q, i) = *at(q, i - 1);
	q->head = (q->head + 1) & (q->cap - 1);
	q->n--;
}

static void queue_remove(uint32_t i)
{
	remove_from(&proc.queue, i);
}

/* Senders that wait for room hear of it when half of it is there. */
static void taken_out(void)
{
	struct seg_slot *p = proc.slot;

	atomic_store_explicit(&p->held, proc.queue.n, memory_order_relaxed);
	if (__builtin_expect(atomic_load_explicit(&p->room_wanted, memory_order_relaxed), 0) &&
	    proc.queue.n <= proc.seg.mailbox / 2) {
		atomic_store(&p->room_wanted, 0);
		atomic_fetch_add(&p->room, 1);
		inbox_futex_wake_all(&p->room);
	}
}

void proc_done(struct seg_node *n)
{
	pool_put(n);
}

static void wait_in_poll(int64_t until_ns);
static void mask_before_sleep(void);

#define TAKES_BETWEEN_POLLS 16

/* Takes in; a mailbox that never gets empty must not keep descriptors and signals from being heard. */
static int take(void)
{
	static uint32_t takes;
	int r = proc_take();

	if (r > 0 && proc.epfd >= 0 && ++takes >= TAKES_BETWEEN_POLLS) {
		takes = 0;
		wait_in_poll(0);
	}
	return r;
}

struct seg_node *proc_next(void)
{
	struct seg_node *n;

	if (proc.n_timers)
		(void)proc_timers_run();
	if (proc.queue.n == 0 && take() <= 0 && proc.queue.n == 0)
		return NULL;
	while (proc.queue.n > 0) {
		n = seg_node(&proc.seg, *queue_at(0));
		proc.queue.head = (proc.queue.head + 1) & (proc.queue.cap - 1);
		proc.queue.n--;
		if (proc.queue.n > 2) {
			struct seg_node *soon = seg_node(&proc.seg, *queue_at(2));

			__builtin_prefetch(soon);
			__builtin_prefetch(soon + 1);
		}
		taken_out();
		if (n)
			return n;
	}
	return NULL;
}

static struct seg_node *find(struct proc_queue *q, enum proc_kind kind, uint64_t value, bool by_from)
{
	struct seg_node *n;
	uint32_t i;

	for (i = 0; i < q->n; i++) {
		n = seg_node(&proc.seg, *at(q, i));
		if (n && atomic_load_explicit(&n->kind, memory_order_relaxed) == kind && (by_from ? n->from : n->ref) == value) {
			remove_from(q, i);
			return n;
		}
	}
	return NULL;
}

struct seg_node *proc_answer(enum proc_kind kind, uint64_t ref)
{
	return find(&proc.answers, kind, ref, false);
}

struct seg_node *proc_answer_if(proc_wants_f *wants, void *ctx)
{
	struct seg_node *n;
	uint32_t i;

	for (i = 0; i < proc.answers.n; i++) {
		n = seg_node(&proc.seg, *at(&proc.answers, i));
		if (n && wants(ctx, n)) {
			remove_from(&proc.answers, i);
			return n;
		}
	}
	return NULL;
}

struct seg_node *proc_find(enum proc_kind kind, uint64_t value, bool by_from)
{
	struct seg_node *n;

	(void)proc_take();
	n = find(&proc.queue, kind, value, by_from);
	if (n)
		taken_out();
	return n;
}

/* --- messages --- */

static void with_reason(struct cop_msg *msg, enum cop_msg_kind kind, struct seg_node *n)
{
	msg->kind = (uint8_t)kind;
	msg->reason = proc_sane_exit(seg_node_data(n));
	msg->data = NULL;
	msg->len = 0;
}

bool proc_msg(struct cop_msg *msg, struct seg_node *n)
{
	size_t room = seg_node_room(&proc.seg, n), skip = 0;
	enum proc_kind kind = (enum proc_kind)atomic_load_explicit(&n->kind, memory_order_relaxed);
	size_t len = n->len;

	msg->tag = n->tag;
	msg->from.id = n->from;
	msg->ref.id = n->ref;
	msg->held = n;
	if (len > room)
		len = room;
	msg->data = seg_node_data(n);
	msg->len = len;
	switch ((int)kind) {
	case NODE_PLAIN:
		msg->kind = COP_MSG_PLAIN;
		return true;
	case NODE_REPLY:
		msg->kind = COP_MSG_PLAIN;
		return true;
	case NODE_CALL:
		msg->kind = COP_MSG_CALL;
		return true;
	case NODE_CAST:
		msg->kind = COP_MSG_CAST;
		return true;
	case NODE_EXIT:
		with_reason(msg, COP_MSG_EXIT, n);
		return true;
	case NODE_DOWN:
		with_reason(msg, COP_MSG_DOWN, n);
		return true;
	case NODE_STOP:
	case NODE_ACK:
		with_reason(msg, COP_MSG_PLAIN, n);
		return true;
	case NODE_TIMER:
		skip = PROC_TIMER_HEAD;
		if (len < skip)
			return false;
		msg->kind = COP_MSG_PLAIN;
		msg->data = (char *)seg_node_data(n) + skip;
		msg->len = len - skip;
		return true;
	case NODE_READY:
	case NODE_SIGNAL:
		msg->kind = kind == NODE_READY ? COP_MSG_READY : COP_MSG_SIGNAL;
		msg->fd = (int)n->tag;
		msg->events = (uint32_t)n->ref;
		msg->data = NULL;
		msg->len = 0;
		return true;
	default:
		return false;
	}
}

void cop_msg_done(struct cop_msg *msg)
{
	if (msg->held)
		proc_done(msg->held);
	msg->held = NULL;
	msg->data = NULL;
	msg->len = 0;
}

int64_t proc_deadline_ns(int64_t timeout_ms)
{
	return timeout_ms < 0 ? -1 : clock_mono_ns() + timeout_ms * 1000000;
}

/* Looks at the queue from `from` on. */
static bool scan(struct cop_msg *msg, cop_match_f *match, void *ctx, uint32_t *from)
{
	struct seg_node *n;

	while (*from < proc.queue.n) {
		n = seg_node(&proc.seg, *queue_at(*from));
		if (!n) {
			queue_remove(*from);
			continue;
		}
		if (!proc_msg(msg, n)) {
			queue_remove(*from);
			proc_done(n);
			continue;
		}
		if (!match || match(ctx, msg)) {
			queue_remove(*from);
			taken_out();
			return true;
		}
		++*from;
	}
	return false;
}

int cop_receive(struct cop_msg *msg, cop_match_f *match, void *ctx, int timeout_ms)
{
	int64_t until = timeout_ms > 0 ? proc_deadline_ns(timeout_ms) : timeout_ms;
	bool is_last = false;
	uint32_t seen = 0;
	int r;

	PROC_REQUIRE();
	for (;;) {
		if (proc.n_timers)
			(void)proc_timers_run();
		if (scan(msg, match, ctx, &seen))
			return 1;
		if (is_last)
			return 0;
		r = take();
		if (r < 0)
			return -1;
		if (until >= 0 && (timeout_ms == 0 || clock_mono_ns() >= until)) {
			is_last = true; /* what is there by now is looked at, and what comes meanwhile is not */
			if (proc.epfd >= 0 && timeout_ms == 0)
				proc_wait(0, proc.taken, -1); /* what is ready now */
		} else if (r == 0) {
			proc_wait(until, proc.taken, -1);
		}
	}
}

size_t cop_queue_len(void)
{
	PROC_REQUIRE();
	(void)proc_take();
	return proc.queue.n;
}

void cop_sleep(int ms)
{
	int64_t until;

	PROC_REQUIRE();
	until = proc_deadline_ns(ms);
	mask_before_sleep();
	while (until < 0 || clock_mono_ns() < until) {
		int64_t timer;

		(void)proc_timers_run(); /* those for names are to be sent on */
		timer = proc_timers_next();
		if (proc_take() == 0)
			inbox_sleep(proc.slot, timer >= 0 && (until < 0 || timer < until) ? timer : until);
	}
}

/* --- waiting --- */

static bool spin(uint32_t pauses, const struct seg_slot *watched, uint64_t id)
{
	struct seg_slot *p = proc.slot;
	uint32_t i;

	for (i = 0; i < pauses; i++) {
		if (!inbox_is_empty(p))
			return true;
		base_relax();
		if (watched && (i & 63) == 63 && atomic_load_explicit(&watched->id, memory_order_relaxed) != id)
			return false;
	}
	return false;
}

bool proc_spin_for_reply(uint64_t server)
{
	uint32_t cpu = inbox_stamp(proc.slot), other;
	struct seg_slot *p = seg_slot_of(&proc.seg, server);

	if (!p)
		return false;
	other = atomic_load_explicit(&p->cpu, memory_order_relaxed);
	return other != 0 && other != cpu && spin(proc.seg.spins, p, server);
}

/* Whoever sent last may send again soon; as long as that has come true, it is worth a wait. */
static bool spin_for_anybody(void)
{
	uint32_t cpu = inbox_stamp(proc.slot), most = proc.seg.spins, other;
	bool good;

	if (proc.budget < 8)
		return false;
	other = atomic_load_explicit(&proc.seg.slots[proc.last_from].cpu, memory_order_relaxed);
	if (other == cpu)
		return false;
	good = spin(proc.budget > most ? most : proc.budget, NULL, 0);
	proc.budget = good ? (proc.budget * 2 > most ? most : proc.budget * 2) : proc.budget / 2;
	return good;
}

/* A node of our own for the queue, and room for it there. NULL: not now. */
static struct seg_node *local_node(void)
{
	if (proc.queue.n == proc.queue.cap && !proc_queue_grow(&proc.queue))
		return NULL;
	return proc_node(0, COP_NOWAIT);
}

static void put_local(struct seg_node *n, enum proc_kind kind, int fd, uint32_t events)
{
	n->from = proc.id;
	n->ref = events;
	n->tag = (uint32_t)fd;
	atomic_store(&n->kind, (uint8_t)kind);
	(void)proc_queue_put(&proc.queue, seg_index_of(&proc.seg, n));
}

/* There is no memory to say what is ready, and it stays so. */
static void pause_without_memory(void)
{
	nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

/* One that was read is gone: so the node comes first. */
static void read_signals(void)
{
	struct signalfd_siginfo si;
	struct seg_node *n;

	while ((n = local_node())) {
		if (read(proc.sigfd, &si, sizeof si) != sizeof si) {
			pool_put(n);
			return;
		}
		if (si.ssi_signo == SIGURG)
			pool_put(n);
		else
			put_local(n, NODE_SIGNAL, (int)si.ssi_signo, 0);
	}
	pause_without_memory();
}

static void say_ready(struct epoll_event *ev)
{
	struct seg_node *n = local_node();

	if (n) {
		put_local(n, NODE_READY, ev->data.fd, ev->events);
		return;
	}
	ev->events |= EPOLLONESHOT;
	(void)epoll_ctl(proc.epfd, EPOLL_CTL_MOD, ev->data.fd, ev); /* later */
	pause_without_memory();
}

/* Who blocks or unblocks all signals means those it knows. Unblocked, SIGURG is ignored, and nobody could wake us;
 * blocked, the parent's death would leave us behind. */
static void mask_before_poll(void)
{
	sigset_t urg;

	sigemptyset(&urg);
	sigaddset(&urg, SIGURG);
	sigprocmask(SIG_BLOCK, &urg, NULL);
}

static void mask_before_sleep(void)
{
	sigset_t died;

	if (!atomic_load_explicit(&proc.slot->trap, memory_order_relaxed))
		return;
	sigemptyset(&died);
	sigaddset(&died, SIG_PARENT_DIED);
	sigprocmask(SIG_UNBLOCK, &died, NULL);
}

static void wait_in_poll(int64_t until_ns)
{
	struct epoll_event ev[16];
	struct timespec ts = { 0, 0 };
	int64_t left;
	int n, i;
	bool sleeps;

	if (until_ns != 0)
		mask_before_poll();
	sleeps = until_ns != 0 && inbox_sleeps_in_poll(proc.slot);
	if (sleeps && until_ns > 0) {
		left = until_ns - clock_mono_ns();
		if (left > 0)
			ts = (struct timespec){ .tv_sec = left / 1000000000, .tv_nsec = left % 1000000000 };
	}
	n = epoll_pwait2(proc.epfd, ev, 16, sleeps && until_ns < 0 ? NULL : &ts, NULL);
	if (n < 0 && errno == ENOSYS)
		n = epoll_wait(proc.epfd, ev, 16, sleeps && until_ns < 0 ? -1 :
		    (int)(ts.tv_sec > 1000000 ? 1000000000 : ts.tv_sec * 1000 + (ts.tv_nsec + 999999) / 1000000));
	inbox_awake(proc.slot);
	for (i = 0; i < n; i++) {
		if (ev[i].data.fd == proc.sigfd)
			read_signals();
		else
			say_ready(&ev[i]);
	}
}

#define SHORT_SLEEP_NS 24000 /* with its waking: spinning instead would have been better */

void proc_wait(int64_t until_ns, uint64_t seen, int who)
{
	int64_t timer, since;

	if (proc.n_timers && proc_timers_run())
		return;
	timer = proc_timers_next();
	if (timer >= 0 && (until_ns < 0 || timer < until_ns))
		until_ns = timer;
	if (proc.taken != seen)
		return;
	if (until_ns != 0 && who == -1 && spin_for_anybody())
		return;
	proc.streak = 0;
	if (proc.pool.n_big)
		pool_trim(&proc.pool, false);
	mask_before_sleep();
	since = clock_mono_ns();
	if (proc.epfd >= 0)
		wait_in_poll(until_ns);
	else
		inbox_sleep(proc.slot, until_ns);
	inbox_stamp(proc.slot);
	if (!inbox_is_empty(proc.slot) && clock_mono_ns() - since < SHORT_SLEEP_NS)
		proc.budget = proc.seg.spins;
}

struct seg_node *proc_await_if(proc_wants_f *wants, void *ctx, int64_t until_ns)
{
	struct seg_node *n;
	uint64_t seen;

	for (;;) {
		(void)proc_take();
		seen = proc.taken;
		if ((n = proc_answer_if(wants, ctx)) || (until_ns >= 0 && clock_mono_ns() >= until_ns))
			return n;
		proc_wait(until_ns, seen, -2);
	}
}

/* --- descriptors and signals --- */

static int need_epoll(void)
{
	sigset_t set;
	struct epoll_event ev = { .events = EPOLLIN };

	if (proc.epfd >= 0)
		return 0;
	sigemptyset(&set);
	sigaddset(&set, SIGURG);
	proc.sigfd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (proc.sigfd < 0)
		return -1;
	proc.epfd = epoll_create1(EPOLL_CLOEXEC);
	ev.data.fd = proc.sigfd;
	if (proc.epfd < 0 || epoll_ctl(proc.epfd, EPOLL_CTL_ADD, proc.sigfd, &ev) < 0) {
		fds_close(&proc.epfd);
		fds_close(&proc.sigfd);
		return -1;
	}
	return 0;
}

int cop_select(int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events | EPOLLONESHOT, .data.fd = fd };

	PROC_REQUIRE();
	if (events == 0)
		return proc.epfd >= 0 ? epoll_ctl(proc.epfd, EPOLL_CTL_DEL, fd, &ev) : 0;
	if (need_epoll() < 0)
		return -1;
	if (epoll_ctl(proc.epfd, EPOLL_CTL_MOD, fd, &ev) == 0)
		return 0;
	return errno == ENOENT ? epoll_ctl(proc.epfd, EPOLL_CTL_ADD, fd, &ev) : -1;
}

int cop_select_signal(int signo, bool on)
{
	sigset_t set, one;
	int s;

	PROC_REQUIRE();
	if (signo <= 0 || signo >= NSIG || signo == SIGKILL || signo == SIGSTOP || signo == SIGURG || signo == SIGCHLD ||
	    signo == SIG_PARENT_DIED) {
		errno = EINVAL;
		return -1;
	}
	if (need_epoll() < 0)
		return -1;
	if (on)
		proc.selected_signals |= 1ull << (signo - 1);
	else
		proc.selected_signals &= ~(1ull << (signo - 1));
	sigemptyset(&set);
	sigaddset(&set, SIGURG);
	for (s = 1; s < NSIG; s++)
		if (proc.selected_signals & 1ull << (s - 1))
			sigaddset(&set, s);
	if (signalfd(proc.sigfd, &set, 0) < 0)
		return -1;
	sigemptyset(&one);
	sigaddset(&one, signo);
	return sigprocmask(on ? SIG_BLOCK : SIG_UNBLOCK, &one, NULL);
}

void proc_descriptors_forked(void)
{
	sigset_t set;
	int s;

	if (proc.selected_signals) {
		sigemptyset(&set);
		for (s = 1; s < NSIG; s++)
			if (proc.selected_signals & 1ull << (s - 1))
				sigaddset(&set, s);
		sigprocmask(SIG_UNBLOCK, &set, NULL);
	}
	proc.selected_signals = 0;
	fds_close(&proc.epfd);
	fds_close(&proc.sigfd);
}
