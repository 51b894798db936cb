/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* The inbox between real processes: order, limits, closing, sleeping and being woken in both ways. */
#include "t.h"

#include <sched.h>
#include <sys/mman.h>
#include <time.h>

#include "base/clock.h"
#include "ipc/inbox.h"
#include "ipc/pool.h"

static struct seg s;
static uint32_t a, b;

static uint32_t alive(void)
{
	long i = seg_slot_claim(&s, 0);

	T_REQUIRE(i > 0);
	seg_slot_set_state(&s, (uint32_t)i, SEG_SLOT_ALIVE);
	return (uint32_t)i;
}

static void make(void)
{
	struct seg_limits l = { .name = "test", .max_procs = 16, .memory = 4 << 20 };

	s.fd = -1;
	T_REQUIRE(seg_create(&s, &l) == 0);
	a = alive();
	b = alive();
}

/* Node i of a slot's own sixteen. */
static uint32_t node(uint32_t slot, int i)
{
	return seg_index_of(&s, s.slots[slot].nodes + i * SEG_NODE_SMALL);
}

static uint64_t head_of(uint32_t slot)
{
	return atomic_load(&s.slots[slot].inbox);
}

static enum inbox_pushed push(int i, uint32_t limit)
{
	seg_node(&s, node(a, i))->to = atomic_load(&s.slots[b].id);
	return inbox_push(&s, a, b, node(a, i), limit, true);
}

/* --- */

T_CASE(newest_first_and_counted)
{
	make();
	T_CHECK(inbox_is_empty(&s.slots[b]));
	T_EQ_INT(push(0, 0), INBOX_DONE);
	T_EQ_INT(push(1, 0), INBOX_DONE);
	T_EQ_INT(push(2, 0), INBOX_DONE);
	T_EQ_INT(INBOX_COUNT(head_of(b)), 3);
	T_EQ_INT(INBOX_NODE(head_of(b)), node(a, 2));
	T_EQ_INT(seg_node(&s, node(a, 2))->next, node(a, 1));
	T_EQ_INT(seg_node(&s, node(a, 1))->next, node(a, 0));
	T_EQ_INT(seg_node(&s, node(a, 0))->next, 0);
	T_EQ_INT(atomic_load(&s.slots[a].own.intent), 0);
	seg_destroy(&s);
}

T_CASE(taken_whole_or_not)
{
	uint64_t head;

	make();
	(void)push(0, 0);
	head = head_of(b);
	(void)push(1, 0);
	T_CHECK(!inbox_take(&s.slots[b], head)); /* it has changed */
	T_CHECK(inbox_take(&s.slots[b], head_of(b)));
	T_CHECK(inbox_is_empty(&s.slots[b]));
	T_EQ_INT(atomic_load(&s.slots[b].own.taking), node(a, 1)); /* found if we die now */
	inbox_taken(&s.slots[b]);
	T_EQ_INT(atomic_load(&s.slots[b].own.taking), 0);
	seg_destroy(&s);
}

T_CASE(limit_counts_what_is_held)
{
	make();
	T_EQ_INT(push(0, 2), INBOX_DONE);
	T_EQ_INT(push(1, 2), INBOX_DONE);
	T_EQ_INT(push(2, 2), INBOX_FULL);
	T_EQ_INT(push(2, 0), INBOX_DONE); /* what is not limited */
	T_CHECK(inbox_take(&s.slots[b], head_of(b)));
	T_EQ_INT(push(3, 2), INBOX_DONE);
	T_CHECK(inbox_take(&s.slots[b], head_of(b)));
	atomic_store(&s.slots[b].held, 2);
	T_EQ_INT(push(4, 2), INBOX_FULL);
	T_EQ_INT(atomic_load(&s.slots[a].own.intent), 0);
	seg_destroy(&s);
}

T_CASE(closed)
{
	make();
	seg_slot_release(&s, b);
	T_EQ_INT(push(0, 0), INBOX_CLOSED);
	T_EQ_INT(push(0, 5), INBOX_CLOSED);
	seg_destroy(&s);
}

/* --- asleep --- */

static pid_t sleeper(bool in_poll, int64_t ms)
{
	pid_t pid = fork();

	if (pid == 0) {
		int64_t until = ms < 0 ? -1 : clock_mono_ns() + ms * 1000000;
		sigset_t urg, old;
		int sig;

		sigemptyset(&urg);
		sigaddset(&urg, SIGURG);
		sigprocmask(SIG_BLOCK, &urg, &old);
		atomic_store(&s.pids[b], getpid());
		if (in_poll) {
			if (inbox_sleeps_in_poll(&s.slots[b]))
				sigwait(&urg, &sig);
			inbox_awake(&s.slots[b]);
		} else {
			inbox_sleep(&s.slots[b], until);
		}
		_exit(inbox_is_empty(&s.slots[b]) ? 1 : 0);
	}
	return pid;
}

static void until_asleep(uint32_t how)
{
	int i;

	for (i = 0; i < 20000 && atomic_load(&s.slots[b].asleep) != how; i++)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	T_EQ_INT(atomic_load(&s.slots[b].asleep), how);
}

static int status_of(pid_t pid)
{
	int status = 0;

	waitpid(pid, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000;
}

T_CASE(a_push_wakes_a_sleeper)
{
	pid_t pid;

	make();
	pid = sleeper(false, -1);
	until_asleep(SEG_ASLEEP_FUTEX);
	T_EQ_INT(push(0, 0), INBOX_DONE);
	T_EQ_INT(status_of(pid), 0);
	seg_destroy(&s);
}

T_CASE(a_push_wakes_one_in_poll)
{
	pid_t pid;

	make();
	pid = sleeper(true, -1);
	until_asleep(SEG_ASLEEP_POLL);
	T_EQ_INT(push(0, 0), INBOX_DONE);
	T_EQ_INT(status_of(pid), 0);
	seg_destroy(&s);
}

T_CASE(does_not_sleep_when_something_is_there)
{
	make();
	(void)push(0, 0);
	T_EQ_INT(status_of(sleeper(false, -1)), 0);
	T_EQ_INT(status_of(sleeper(true, -1)), 0);
	T_EQ_INT(atomic_load(&s.slots[b].asleep), SEG_AWAKE);
	seg_destroy(&s);
}

T_CASE(sleeps_no_longer_than_said)
{
	int64_t t = clock_mono_ms();

	make();
	inbox_sleep(&s.slots[b], clock_mono_ns() + 30000000);
	T_CHECK(clock_mono_ms() - t >= 30);
	inbox_sleep(&s.slots[b], clock_mono_ns() - 1);
	inbox_sleep(&s.slots[b], 0);
	seg_destroy(&s);
}

/* The sender was killed between the push and the waking: its reaper wakes. */
T_CASE(the_reaper_wakes_for_the_dead)
{
	pid_t pid;

	make();
	pid = sleeper(false, -1);
	until_asleep(SEG_ASLEEP_FUTEX);
	seg_node(&s, node(a, 0))->to = atomic_load(&s.slots[b].id);
	T_EQ_INT(inbox_push(&s, a, b, node(a, 0), 0, false), INBOX_DONE);
	atomic_store(&s.slots[a].own.intent, b + 1);
	inbox_finish_push(&s, a);
	T_EQ_INT(status_of(pid), 0);
	T_EQ_INT(atomic_load(&s.slots[a].own.intent), 0);
	atomic_store(&s.slots[a].own.intent, UINT32_MAX); /* somebody has written over it */
	inbox_finish_push(&s, a);
	seg_destroy(&s);
}

/* A sender that was stopped between looking and pushing goes on when somebody else has the slot. */
T_CASE(a_successor_gets_nothing_meant_for_another)
{
	uint64_t former;

	make();
	former = atomic_load(&s.slots[b].id);
	seg_slot_release(&s, b);
	T_EQ_INT(alive(), b);
	seg_node(&s, node(a, 0))->to = former;
	T_EQ_INT(inbox_push(&s, a, b, node(a, 0), 0, true), INBOX_CLOSED);
	T_CHECK(inbox_is_empty(&s.slots[b]));
	T_EQ_INT(push(0, 0), INBOX_DONE);
	seg_destroy(&s);
}

/* --- many --- */

enum { SENDERS = 4, EACH = 20000 };

static _Noreturn void send_all(uint32_t slot, int n)
{
	struct pool p;
	int i;

	memset(&p, 0, sizeof p);
	pool_init(&p, &s, slot);
	for (i = 1; i <= n; i++) {
		struct seg_node *m;

		while (!(m = pool_get(&p, 0)))
			;
		m->to = atomic_load(&s.slots[b].id);
		m->from = slot;
		m->ref = (uint64_t)i;
		while (inbox_push(&s, slot, b, seg_index_of(&s, m), 1000, true) == INBOX_FULL)
			sched_yield();
	}
	_exit(0);
}

T_CASE(order_of_each_sender)
{
	uint32_t slot[SENDERS], stack[5000];
	uint64_t last[16] = { 0 };
	int i, k, got = 0, n;
	pid_t pid[SENDERS];

	make();
	for (i = 0; i < SENDERS; i++) {
		slot[i] = alive();
		pid[i] = fork();
		if (pid[i] == 0)
			send_all(slot[i], EACH);
	}
	while (got < SENDERS * EACH) {
		uint64_t head = head_of(b);
		uint32_t at;

		if (INBOX_NODE(head) == 0) {
			inbox_sleep(&s.slots[b], clock_mono_ns() + 10000000000);
			continue;
		}
		if (!inbox_take(&s.slots[b], head))
			continue;
		for (n = 0, at = INBOX_NODE(head); at; at = seg_node(&s, at)->next)
			stack[n++] = at;
		T_EQ_INT(n, INBOX_COUNT(head));
		for (k = n; k-- > 0;) {
			struct seg_node *m = seg_node(&s, stack[k]);

			T_CHECK(m->ref == last[m->from] + 1);
			last[m->from] = m->ref;
			pool_put(m);
		}
		inbox_taken(&s.slots[b]);
		got += n;
	}
	for (i = 0; i < SENDERS; i++) {
		T_EQ_INT(status_of(pid[i]), 0);
		T_EQ_INT(last[slot[i]], EACH);
	}
	seg_destroy(&s);
}

T_MAIN(T_RUN(newest_first_and_counted), T_RUN(taken_whole_or_not), T_RUN(limit_counts_what_is_held), T_RUN(closed),
    T_RUN(a_push_wakes_a_sleeper), T_RUN(a_push_wakes_one_in_poll), T_RUN(does_not_sleep_when_something_is_there),
    T_RUN(sleeps_no_longer_than_said), T_RUN(the_reaper_wakes_for_the_dead),
    T_RUN(a_successor_gets_nothing_meant_for_another), T_RUN(order_of_each_sender))
