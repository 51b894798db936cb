/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The inbox of a process: a stack of nodes that many push to by one compare-and-swap and the owner takes
 * whole, and the sleep and waking of the owner. Nobody's death leaves it broken: a node is in it or not.
 * What a sender's death can leave undone is the waking; its intent word says whom.
 */
#ifndef IPC_INBOX_H
#define IPC_INBOX_H

#include <signal.h>

#include "ipc/segment.h"

/* A signal handler has something to say: nobody goes to sleep. It sets this, and then calls inbox_wake(). */
extern volatile sig_atomic_t inbox_no_sleep;

enum inbox_pushed {
	INBOX_DONE,
	INBOX_FULL,   /* limit messages wait */
	INBOX_CLOSED, /* its process is dead */
};

#define INBOX_NODE(head) ((uint32_t)(head) & 0x7fffffffu)
#define INBOX_COUNT(head) ((uint32_t)((head) >> 31) & SEG_COUNT_MAX)
#define INBOX_GENERATION(head) ((uint32_t)((head) >> 52))

/* Pushes a node to slot `to` on behalf of slot `me`, and wakes its process if it sleeps. limit 0: no limit. The
 * node's `to` says which process of that slot is meant. */
enum inbox_pushed inbox_push(struct seg *s, uint32_t me, uint32_t to, uint32_t node, uint32_t limit, bool wake);
/* Wakes a process that sleeps. */
void inbox_wake(struct seg *s, uint32_t slot);
/* The death of slot `dead` is known: does what it had begun. Whoever it was pushing to is woken. */
void inbox_finish_push(struct seg *s, uint32_t dead);

static inline bool inbox_is_empty(const struct seg_slot *p)
{
	return INBOX_NODE(atomic_load_explicit(&p->inbox, memory_order_acquire)) == 0;
}

/* Owner: takes everything. own.taking names the newest node, and stays set until inbox_taken(), so that what
 * was taken is found if the owner dies before. expect: the head as it was looked at; false when it has
 * changed. */
static inline bool inbox_take(struct seg_slot *p, uint64_t expect)
{
	atomic_store_explicit(&p->own.taking, INBOX_NODE(expect), memory_order_release);
	return atomic_compare_exchange_strong(&p->inbox, &expect, expect & 0xfffull << 52);
}
static inline void inbox_taken(struct seg_slot *p)
{
	atomic_store_explicit(&p->own.taking, 0, memory_order_release);
}

/* Owner: sleeps on the futex until woken, or until the monotonic time until_ns (< 0: for ever). Returns at once if
 * something is in the inbox. */
void inbox_sleep(struct seg_slot *p, int64_t until_ns);
/* Owner, that will sleep in poll(2) or epoll_wait(2): senders send SIGURG from now on. False: there is something
 * already, do not sleep. Ends with inbox_awake(). */
bool inbox_sleeps_in_poll(struct seg_slot *p);
static inline void inbox_awake(struct seg_slot *p)
{
	if (atomic_load_explicit(&p->asleep, memory_order_relaxed) != SEG_AWAKE)
		atomic_store_explicit(&p->asleep, SEG_AWAKE, memory_order_relaxed);
}

/* Notes on which processor the caller runs. Returns it, + 1. */
uint32_t inbox_stamp(struct seg_slot *p);

/* Futexes for other words: sleeps while *word == value, at most timeout_ms. */
void inbox_futex_wait(_Atomic uint32_t *word, uint32_t value, int timeout_ms);
void inbox_futex_wake_all(_Atomic uint32_t *word);

#endif
