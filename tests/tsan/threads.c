/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Threads in place of processes, for a tool that sees races between threads only: built with PROC_THREADS, each
 * thread has a `struct proc proc` of its own, and so is a process of the node as far as messages, links and
 * monitors go. Threads do not die: one that has ended is buried by the thread that plays the root. Prints TAP.
 *
 *     threads [SECONDS]
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "proc/proc.h"

#define SENDERS 3
#define TAG_DATA 7u
#define TAG_OVER 8u

static struct seg shared;
static _Atomic uint64_t receiver;
static _Atomic uint32_t receiver_done, problems;
static _Atomic uint64_t sent_n, got_n, downs_n, asked_n;
static int64_t until_ns;

static void enter(uint32_t slot)
{
	memset(&proc, 0, sizeof proc);
	proc.seg = shared;
	proc.in_node = true;
	proc.epfd = proc.sigfd = proc.up_fd = -1;
	proc.me = slot;
	proc.slot = &shared.slots[slot];
	proc.id = atomic_load(&proc.slot->id);
	proc.serial = (uint64_t)slot * 100000000;
	proc.quiet = true;
	pool_init(&proc.pool, &proc.seg, slot);
}

static uint32_t new_slot(void)
{
	long i = seg_slot_claim(&proc.seg, 0);

	if (i < 0)
		abort();
	proc.seg.slots[i].parent = proc.seg.slots[i].starter = proc.id;
	atomic_store(&proc.seg.slots[i].trap, 1);
	seg_slot_set_state(&proc.seg, (uint32_t)i, SEG_SLOT_ALIVE);
	atomic_store(&proc.slot->own.spawning, 0);
	return (uint32_t)i;
}

static void problem(const char *what)
{
	if (atomic_fetch_add(&problems, 1) < 10)
		printf("# %s\n", what);
}

static void *receive_all(void *arg)
{
	uint64_t last[SENDERS] = { 0 }, n;
	struct cop_msg msg;
	int over = 0;

	enter((uint32_t)(uintptr_t)arg);
	atomic_store(&receiver, proc.id);
	while (over < SENDERS) {
		if (cop_receive(&msg, NULL, NULL, 20000) != 1) {
			problem("nothing came for 20 s");
			break;
		}
		if (msg.kind == COP_MSG_PLAIN && msg.tag == TAG_OVER) {
			over++;
		} else if (msg.kind == COP_MSG_PLAIN) {
			memcpy(&n, msg.data, sizeof n);
			if (n >> 56 >= SENDERS || (n & 0xffffffffffffff) != last[n >> 56] + 1)
				problem("lost, twice, or not in order");
			else
				last[n >> 56]++;
			atomic_fetch_add(&got_n, 1);
		}
		cop_msg_done(&msg);
	}
	atomic_store(&receiver_done, 1);
	return NULL;
}

static void *send_many(void *arg)
{
	uint64_t who = (uintptr_t)arg >> 32, n = 0, x[64] = { 0 };
	cop_pid to;
	cop_ref ref;

	enter((uint32_t)(uintptr_t)arg);
	to.id = atomic_load(&receiver);
	while (clock_mono_ns() < until_ns) {
		x[0] = who << 56 | ++n;
		if (cop_send(cop_to(to), TAG_DATA, x, n % 7 ? sizeof x[0] : sizeof x) < 0)
			problem("a send failed");
		atomic_fetch_add(&sent_n, 1);
		if (n % 5 == 0) {
			ref = cop_monitor(cop_to(to));
			if (n % 10 == 0)
				(void)cop_demonitor(ref, true);
		}
		if (n % 11 == 0 && cop_link(to) < 0)
			problem("a link failed");
		if (n % 11 == 5)
			cop_unlink(to);
	}
	if (cop_send(cop_to(to), TAG_OVER, NULL, 0) < 0)
		problem("a send failed");
	return NULL;
}

/* What is left of a sender hears of the receiver's death, which comes while it still asks for monitors. */
static void *outlive(void *arg)
{
	struct cop_msg msg;
	cop_pid to;
	unsigned asked = 0, downs = 0;

	enter((uint32_t)(uintptr_t)arg);
	to.id = atomic_load(&receiver);
	while (seg_is_there(&proc.seg, to.id) || asked < 10) {
		(void)cop_monitor(cop_to(to));
		asked++;
		while (cop_receive(&msg, NULL, NULL, 0) == 1) {
			downs += msg.kind == COP_MSG_DOWN;
			cop_msg_done(&msg);
		}
	}
	while (downs < asked && cop_receive(&msg, NULL, NULL, 20000) == 1) {
		downs += msg.kind == COP_MSG_DOWN;
		cop_msg_done(&msg);
	}
	if (downs != asked || cop_receive(&msg, NULL, NULL, 0) == 1)
		problem("not one DOWN for each monitor");
	atomic_fetch_add(&asked_n, asked);
	atomic_fetch_add(&downs_n, downs);
	return NULL;
}

int main(int argc, char **argv)
{
	struct cop_node_options o = { .name = "threads", .max_processes = 16, .memory = 32 << 20, .quiet = true };
	struct cop_exit reason = { .kind = COP_EXIT_KILLED };
	uint32_t slot[SENDERS + 2], i;
	pthread_t receiving, sending[SENDERS], outliving;

	printf("1..2\n");
	if (proc_node_create(&o) < 0)
		return 1;
	shared = proc.seg;
	for (i = 0; i < SENDERS + 2; i++)
		slot[i] = new_slot();
	until_ns = clock_mono_ns() + (int64_t)(argc > 1 ? atoi(argv[1]) : 2) * 1000000000;
	pthread_create(&receiving, NULL, receive_all, (void *)(uintptr_t)slot[0]);
	while (atomic_load(&receiver) == 0)
		;
	for (i = 0; i < SENDERS; i++)
		pthread_create(&sending[i], NULL, send_many, (void *)((uintptr_t)i << 32 | slot[1 + i]));
	for (i = 0; i < SENDERS; i++)
		pthread_join(sending[i], NULL);
	pthread_join(receiving, NULL);
	if (atomic_load(&sent_n) != atomic_load(&got_n))
		problem("not all was received");
	printf("%sok 1 - %llu messages of %d threads\n", atomic_load(&problems) ? "not " : "",
	    (unsigned long long)atomic_load(&got_n), SENDERS);
	atomic_store(&problems, 0);
	pthread_create(&outliving, NULL, outlive, (void *)(uintptr_t)slot[SENDERS + 1]);
	(void)clock_mono_ns();
	nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
	proc_bury(slot[0], &reason); /* while it is being monitored */
	pthread_join(outliving, NULL);
	for (i = 1; i < SENDERS + 2; i++)
		proc_bury(slot[i], &reason);
	printf("%sok 2 - a death while %llu monitors are made, %llu DOWN\n", atomic_load(&problems) ? "not " : "",
	    (unsigned long long)atomic_load(&asked_n), (unsigned long long)atomic_load(&downs_n));
	return atomic_load(&problems) > 0;
}
