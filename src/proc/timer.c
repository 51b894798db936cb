/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Timers. A timer is a node that its destination holds, in a private heap, until its time has come; the word
 * `armed` in it is its reference as long as it runs, and whoever changes that word first, the owner
 * that lets it run out or anybody who cancels it, has decided. So cancelling never waits for anybody. For a
 * name, the caller holds it, and sends it on; it waits for nobody either, but tries again.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "proc/proc.h"

#define PURGE_AT 64
#define AGAIN_NS 5000000 /* between tries to send to a name whose mailbox is full, or without memory */

/* What the data of a timer's node begins with; the message is behind. */
struct timer_head {
	int64_t at_ns;
	int64_t unused;      /* the message behind is aligned to 16 */
	char name[SEG_NAME]; /* "": to whoever holds it */
};
_Static_assert(sizeof(struct timer_head) == PROC_TIMER_HEAD, "as receive.c knows it");

static bool earlier(uint32_t a, uint32_t b)
{
	return proc.timers[a].at_ns < proc.timers[b].at_ns ||
	    (proc.timers[a].at_ns == proc.timers[b].at_ns && proc.timers[a].ref < proc.timers[b].ref);
}

static void swap(uint32_t a, uint32_t b)
{
	struct proc_timer t = proc.timers[a];

	proc.timers[a] = proc.timers[b];
	proc.timers[b] = t;
}

static void sift_up(uint32_t i)
{
	for (; i > 0 && earlier(i, (i - 1) / 2); i = (i - 1) / 2)
		swap(i, (i - 1) / 2);
}

static void sift_down(uint32_t i)
{
	uint32_t least, c;

	for (;; i = least) {
		least = i;
		for (c = 2 * i + 1; c <= 2 * i + 2 && c < proc.n_timers; c++)
			if (earlier(c, least))
				least = c;
		if (least == i)
			return;
		swap(i, least);
	}
}

static bool is_armed(const struct proc_timer *t)
{
	struct seg_node *n = seg_node(&proc.seg, t->node);

	return n && atomic_load(&n->armed) == t->ref;
}

static void free_timer(const struct proc_timer *t)
{
	struct seg_node *n = seg_node(&proc.seg, t->node);

	if (n)
		proc_done(n);
}

/* Cancelled ones are forgotten before they make the heap grow. */
static void purge(void)
{
	uint32_t i, kept = 0;

	for (i = 0; i < proc.n_timers; i++) {
		if (is_armed(&proc.timers[i]))
			proc.timers[kept++] = proc.timers[i];
		else
			free_timer(&proc.timers[i]);
	}
	proc.n_timers = kept;
	for (i = kept / 2; i-- > 0;)
		sift_down(i);
}

bool proc_timer_add(struct seg_node *n)
{
	struct timer_head head;

	if (seg_node_room(&proc.seg, n) < sizeof head || n->len < sizeof head)
		return false;
	if (proc.n_timers == proc.cap_timers) {
		uint32_t cap = proc.cap_timers ? proc.cap_timers * 2 : PURGE_AT;
		struct proc_timer *t;

		purge();
		if (proc.n_timers >= proc.cap_timers / 2) {
			t = realloc(proc.timers, cap * sizeof *t);
			if (!t)
				return false;
			proc.timers = t;
			proc.cap_timers = cap;
		}
	}
	memcpy(&head, seg_node_data(n), sizeof head);
	atomic_store(&n->kind, HELD_TIMER);
	proc.timers[proc.n_timers] = (struct proc_timer){ head.at_ns, n->ref, seg_index_of(&proc.seg, n) };
	sift_up(proc.n_timers++);
	return true;
}

int64_t proc_timers_next(void)
{
	return proc.n_timers ? proc.timers[0].at_ns : -1;
}

/* To the name that it is for: it runs again if that cannot be done now. */
static void send_on(const struct proc_timer *t, struct seg_node *n, const struct timer_head *head)
{
	const char *data = (const char *)seg_node_data(n) + sizeof *head;

	if (cop_send_flags(cop_named(head->name), n->tag, data, n->len - sizeof *head, COP_NOWAIT) == 0 ||
	    (errno != EAGAIN && errno != ENOMEM)) {
		proc_done(n);
		return;
	}
	atomic_store(&n->armed, t->ref);
	proc.timers[proc.n_timers] = (struct proc_timer){ clock_mono_ns() + AGAIN_NS, t->ref, t->node };
	sift_up(proc.n_timers++); /* where it was taken out */
}

/* Its time has come. True if it is a message to us now. */
static bool fire(struct proc_timer *t)
{
	struct seg_node *n = seg_node(&proc.seg, t->node);
	uint64_t ref = t->ref;
	struct timer_head head;

	if (!n)
		return false;
	if (!atomic_compare_exchange_strong(&n->armed, &ref, 0)) {
		proc_done(n);
		return false;
	}
	memcpy(&head, seg_node_data(n), sizeof head);
	head.name[sizeof head.name - 1] = '\0';
	if (head.name[0]) {
		send_on(t, n, &head);
		return false;
	}
	atomic_store(&n->kind, NODE_TIMER);
	if (!proc_queue_put(&proc.queue, t->node)) {
		proc_done(n);
		return false;
	}
	return true;
}

bool proc_timers_run(void)
{
	bool any = false;
	int64_t now;

	if (proc.n_timers == 0)
		return false;
	now = clock_mono_ns();
	while (proc.n_timers > 0 && proc.timers[0].at_ns <= now) {
		struct proc_timer t = proc.timers[0];

		proc.timers[0] = proc.timers[--proc.n_timers];
		sift_down(0);
		any |= fire(&t);
	}
	return any;
}

cop_ref cop_send_after(struct cop_dest to, uint32_t tag, const void *data, size_t len, int64_t ms)
{
	struct timer_head head = { .at_ns = 0 };
	uint64_t holder, ref;
	struct seg_node *n;

	PROC_REQUIRE();
	if (to.via)
		to = cop_to((cop_pid){ proc_resolve(to) });
	if (ms < 0 || ms > INT64_MAX / 2000000 || (to.name && strlen(to.name) >= sizeof head.name)) {
		errno = EINVAL;
		return COP_NOREF;
	}
	if (len > COP_MSG_MAX - sizeof head) {
		errno = EMSGSIZE;
		return COP_NOREF;
	}
	head.at_ns = clock_mono_ns() + ms * 1000000;
	n = proc_node(sizeof head + len, 0);
	if (!n)
		return COP_NOREF;
	if (to.name)
		memcpy(head.name, to.name, strlen(to.name));
	holder = to.name ? proc.id : to.pid.id;
	memcpy(seg_node_data(n), &head, sizeof head);
	if (len)
		memcpy((char *)seg_node_data(n) + sizeof head, data, len);
	ref = proc_new_ref(seg_index_of(&proc.seg, n));
	n->ref = ref;
	n->tag = tag;
	n->from = proc.id;
	n->to = holder;
	atomic_store(&n->armed, ref);
	atomic_store(&n->kind, NODE_TIMER);
	if (holder != proc.id) {
		(void)proc_send(holder, n, false, 0); /* to a dead one: it never runs out */
	} else if (!proc_timer_add(n)) {
		pool_put(n);
		errno = ENOMEM;
		return COP_NOREF;
	}
	return (cop_ref){ ref };
}

/* Milliseconds left of a timer that runs; -1. */
static int64_t left(cop_ref ref, bool cancel)
{
	struct seg_node *n = seg_node(&proc.seg, (uint32_t)ref.id);
	uint64_t want = ref.id;
	int64_t at, now;

	if (ref.id == 0 || !n || atomic_load(&n->armed) != ref.id || !seg_is_there(&proc.seg, n->to) ||
	    seg_node_room(&proc.seg, n) < sizeof(struct timer_head))
		return -1;
	memcpy(&at, seg_node_data(n), sizeof at);
	if (cancel ? !atomic_compare_exchange_strong(&n->armed, &want, 0) : atomic_load(&n->armed) != ref.id)
		return -1;
	now = clock_mono_ns();
	return at <= now ? 0 : (at - now + 999999) / 1000000;
}

int64_t cop_cancel_timer(cop_ref ref)
{
	PROC_REQUIRE();
	(void)proc_timers_run(); /* one of our own whose time has come has fired */
	return left(ref, true);
}

int64_t cop_read_timer(cop_ref ref)
{
	PROC_REQUIRE();
	(void)proc_timers_run();
	return left(ref, false);
}
