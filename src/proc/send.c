/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Sending. A message is a node from the sender's pool, filled and pushed; when the push is done it is the
 * receiver's. Runs in any process of the node; memory comes from the pool, and what is not to be had is an
 * error of the send or waited for.
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "proc/proc.h"

#define FULL_WAIT_MS 20 /* a full mailbox is looked at again; its owner wakes us before */

uint64_t (*proc_resolve_via)(const struct cop_via *via);

uint64_t proc_resolve(struct cop_dest to)
{
	if (to.via)
		return proc_resolve_via ? proc_resolve_via(to.via) : 0;
	return to.name ? cop_whereis(to.name).id : to.pid.id;
}

/* The quota is used up: until receivers are done. */
static void wait_for_quota(uint32_t round)
{
	static _Atomic uint32_t nobody; /* a futex that nobody wakes: this is a pause */

	(void)proc_take(); /* what is being sent to us may hold up others, and so us */
	inbox_futex_wait(&nobody, 0, round < 20 ? 1 : 5);
}

/* What lies in our own mailbox is given back by nobody but us. */
static bool waits_for_ourselves(void)
{
	uint32_t i;
	struct seg_node *n;

	for (i = 0; i < proc.queue.n; i++) {
		n = seg_node(&proc.seg, proc.queue.node[(proc.queue.head + i) & (proc.queue.cap - 1)]);
		if (n && n->from == proc.id)
			return true;
	}
	return false;
}

static bool is_too_late(void)
{
	return proc.send_until != 0 && clock_mono_ns() >= proc.send_until;
}

#define LOOK_AT_OURSELVES 20 /* rounds */

struct seg_node *proc_node(size_t len, unsigned flags)
{
	struct seg_node *n;
	uint32_t round;

	if (len > COP_MSG_MAX) {
		errno = EMSGSIZE;
		return NULL;
	}
	for (round = 0; !(n = pool_get(&proc.pool, len)); round++) {
		if (errno != EAGAIN || (flags & COP_NOWAIT) || proc.is_parent)
			return NULL; /* supervisors never wait */
		if (is_too_late()) {
			errno = ETIMEDOUT;
			return NULL;
		}
		if (round % LOOK_AT_OURSELVES == LOOK_AT_OURSELVES - 1 && waits_for_ourselves()) {
			errno = EAGAIN;
			return NULL;
		}
		wait_for_quota(round);
	}
	n->len = (uint32_t)len;
	atomic_store_explicit(&n->kind, NODE_BEING_MADE, memory_order_relaxed);
	return n;
}

/* A receiver that is on another processor is soon done with what it has: worth a short wait before more memory
 * is used. */
static void tell_pool(const struct seg_slot *receiver)
{
	uint32_t cpu = atomic_load_explicit(&proc.slot->cpu, memory_order_relaxed);

	proc.pool.spins = atomic_load_explicit(&receiver->asleep, memory_order_relaxed) == SEG_AWAKE &&
	    atomic_load_explicit(&receiver->cpu, memory_order_relaxed) != cpu ? proc.seg.spins : 0;
}

static enum proc_sent gone(struct seg_node *n)
{
	pool_put(n);
	atomic_store_explicit(&proc.slot->own.intent, 0, memory_order_release);
	return PROC_GONE;
}

static void wait_for_room(struct seg_slot *p)
{
	uint32_t room = atomic_load(&p->room);

	atomic_store(&p->room_wanted, 1);
	(void)proc_take();
	inbox_futex_wait(&p->room, room, FULL_WAIT_MS);
}

enum proc_sent proc_send(uint64_t to, struct seg_node *n, bool limited, unsigned flags)
{
	uint32_t limit = limited ? proc.seg.mailbox : 0;
	struct seg_slot *p;

	for (;;) {
		p = seg_slot_of(&proc.seg, to);
		if (!p)
			return gone(n);
		atomic_store_explicit(&proc.slot->own.intent, SEG_INDEX(to) + 1, memory_order_relaxed);
		__atomic_store_n(&n->to, to, __ATOMIC_RELEASE); /* its owner may be looking whether it is free */
		switch (inbox_push(&proc.seg, proc.me, SEG_INDEX(to), seg_index_of(&proc.seg, n), limit, true)) {
		case INBOX_DONE:
			tell_pool(p);
			return PROC_SENT;
		case INBOX_CLOSED:
			return gone(n);
		case INBOX_FULL:
			if ((flags & COP_NOWAIT) || to == proc.id || is_too_late()) {
				pool_put(n);
				errno = is_too_late() ? ETIMEDOUT : EAGAIN;
				return PROC_WOULD_BLOCK;
			}
			wait_for_room(p);
			break;
		}
	}
}

#define QUIET_MAX 32 /* signals that a sleeper is not woken for */

enum proc_sent proc_send_quiet(uint64_t to, struct seg_node *n)
{
	struct seg_slot *p = seg_slot_of(&proc.seg, to);
	bool wake;

	if (!p)
		return gone(n);
	atomic_store_explicit(&proc.slot->own.intent, SEG_INDEX(to) + 1, memory_order_relaxed);
	__atomic_store_n(&n->to, to, __ATOMIC_RELEASE); /* as in proc_send() */
	wake = INBOX_COUNT(atomic_load_explicit(&p->inbox, memory_order_relaxed)) >= QUIET_MAX;
	if (inbox_push(&proc.seg, proc.me, SEG_INDEX(to), seg_index_of(&proc.seg, n), 0, wake) == INBOX_CLOSED)
		return gone(n);
	return PROC_SENT;
}

bool proc_tell(uint64_t to, enum proc_kind kind, uint64_t ref, uint32_t tag, const void *data, size_t len)
{
	struct seg_node *n = proc_node(len, 0);

	if (!n)
		return false;
	n->from = proc.id;
	n->ref = ref;
	n->tag = tag;
	if (len)
		memcpy(seg_node_data(n), data, len);
	atomic_store_explicit(&n->kind, (uint8_t)kind, memory_order_relaxed);
	if (proc_send(to, n, false, 0) == PROC_SENT)
		return true;
	errno = ESRCH;
	return false;
}

int cop_send_flags(struct cop_dest to, uint32_t tag, const void *data, size_t len, unsigned flags)
{
	void *d = cop_msg_new(len, flags);

	if (!d)
		return -1;
	if (len)
		memcpy(d, data, len);
	return cop_msg_send(to, tag, d, flags);
}

int cop_send(struct cop_dest to, uint32_t tag, const void *data, size_t len)
{
	return cop_send_flags(to, tag, data, len, 0);
}

void *cop_msg_new(size_t len, unsigned flags)
{
	struct seg_node *n;

	PROC_REQUIRE();
	n = proc_node(len, flags);
	return n ? seg_node_data(n) : NULL;
}

static struct seg_node *node_of(void *data)
{
	return (struct seg_node *)data - 1;
}

int cop_msg_send(struct cop_dest to, uint32_t tag, void *data, unsigned flags)
{
	struct seg_node *n = node_of(data);
	uint64_t id;

	PROC_REQUIRE();
	id = proc_resolve(to);
	if (id == 0 && proc_is_named(to)) {
		pool_put(n);
		errno = ENOENT;
		return -1;
	}
	n->from = proc.id;
	n->ref = 0;
	n->tag = tag;
	atomic_store_explicit(&n->kind, NODE_PLAIN, memory_order_relaxed);
	return proc_send(id, n, true, flags) == PROC_WOULD_BLOCK ? -1 : 0;
}

void cop_msg_drop(void *data)
{
	pool_put(node_of(data));
}
