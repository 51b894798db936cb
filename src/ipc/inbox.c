/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Pushing, waking, sleeping (inbox.h). Any process; never allocates. */
#include "ipc/inbox.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

volatile sig_atomic_t inbox_no_sleep;

static void wake_futex(struct seg_slot *p)
{
	syscall(SYS_futex, &p->asleep, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static void wake_poll(struct seg *s, uint32_t slot)
{
	pid_t pid = atomic_load(&s->pids[slot]);

	if (pid > 1) /* if the number is somebody else's by now, SIGURG is ignored there */
		kill(pid, SIGURG);
}

void inbox_wake(struct seg *s, uint32_t slot)
{
	struct seg_slot *p = &s->slots[slot];

	switch (atomic_exchange(&p->asleep, SEG_AWAKE)) {
	case SEG_ASLEEP_FUTEX:
		wake_futex(p);
		break;
	case SEG_ASLEEP_POLL:
		wake_poll(s, slot);
		break;
	default:
		break;
	}
}

enum inbox_pushed inbox_push(struct seg *s, uint32_t me, uint32_t to, uint32_t node, uint32_t limit, bool wake)
{
	struct seg_slot *p = &s->slots[to];
	struct seg_own *own = &s->slots[me].own;
	struct seg_node *n = seg_node(s, node);
	uint32_t generation = (uint32_t)(n->to >> 20 & 0xfff), count;
	uint64_t head, want;

	head = atomic_load_explicit(&p->inbox, memory_order_relaxed);
	atomic_store_explicit(&own->intent, to + 1, memory_order_relaxed);
	do {
		if (INBOX_NODE(head) == SEG_CLOSED || INBOX_GENERATION(head) != generation)
			return INBOX_CLOSED; /* the intent stays until the caller is done with the node */
		if (limit && INBOX_COUNT(head) + atomic_load_explicit(&p->held, memory_order_relaxed) >= limit) {
			atomic_store_explicit(&own->intent, 0, memory_order_relaxed);
			return INBOX_FULL;
		}
		n->next = INBOX_NODE(head);
		count = INBOX_COUNT(head);
		want = (head & 0xfffull << 52) | SEG_INBOX(node, count < SEG_COUNT_MAX ? count + 1 : count, 0);
	} while (!atomic_compare_exchange_weak_explicit(&p->inbox, &head, want, memory_order_seq_cst,
	    memory_order_relaxed));
	/* seq_cst, as the sleeper's store and look: one of the two sees the other's */
	if (wake && atomic_load(&p->asleep) != SEG_AWAKE)
		inbox_wake(s, to);
	atomic_store_explicit(&own->intent, 0, memory_order_release);
	return INBOX_DONE;
}

void inbox_finish_push(struct seg *s, uint32_t dead)
{
	uint32_t to = atomic_load(&s->slots[dead].own.intent);

	/* It may have died between saying that it wakes and doing it, so what the word says does not count. */
	if (to != 0 && to <= s->max_procs) {
		atomic_store(&s->slots[to - 1].asleep, SEG_AWAKE);
		wake_futex(&s->slots[to - 1]);
		wake_poll(s, to - 1);
	}
	atomic_store(&s->slots[dead].own.intent, 0); /* last: whoever does this may be killed, too */
}

static void sleep_until(_Atomic uint32_t *word, uint32_t value, int64_t until_ns)
{
	struct timespec ts = { .tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000 };

	syscall(SYS_futex, word, FUTEX_WAIT_BITSET, value, until_ns < 0 ? NULL : &ts, NULL, FUTEX_BITSET_MATCH_ANY);
}

void inbox_sleep(struct seg_slot *p, int64_t until_ns)
{
	atomic_store(&p->asleep, SEG_ASLEEP_FUTEX);
	if (INBOX_NODE(atomic_load(&p->inbox)) == 0 && !inbox_no_sleep)
		sleep_until(&p->asleep, SEG_ASLEEP_FUTEX, until_ns);
	inbox_awake(p);
}

bool inbox_sleeps_in_poll(struct seg_slot *p)
{
	atomic_store(&p->asleep, SEG_ASLEEP_POLL);
	if (INBOX_NODE(atomic_load(&p->inbox)) == 0 && !inbox_no_sleep)
		return true;
	inbox_awake(p);
	return false;
}

uint32_t inbox_stamp(struct seg_slot *p)
{
	uint32_t cpu = (uint32_t)sched_getcpu() + 1;

	if (atomic_load_explicit(&p->cpu, memory_order_relaxed) != cpu)
		atomic_store_explicit(&p->cpu, cpu, memory_order_relaxed);
	return cpu;
}

void inbox_futex_wait(_Atomic uint32_t *word, uint32_t value, int timeout_ms)
{
	sleep_until(word, value, timeout_ms < 0 ? -1 : clock_mono_ns() + (int64_t)timeout_ms * 1000000);
}

void inbox_futex_wake_all(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}
