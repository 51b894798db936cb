/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Timers: when they come, who may cancel and read them, names, the dead, many. */
#include "node_rig.h"

static cop_ref after(cop_pid to, uint32_t tag, int64_t ms)
{
	cop_ref r = cop_send_after(cop_to(to), tag, NULL, 0, ms);

	if (r.id == 0)
		T_FAIL("no timer: errno %d", errno);
	return r;
}

NODE_CASE(comes_not_before_its_time)
{
	int64_t t = now_ms();

	(void)after(cop_self(), 1, 40);
	EXPECT_TAG(1);
	t = now_ms() - t;
	T_CHECK(t >= 39 && t < 5000);
	EXPECT_NOTHING();
}

NODE_CASE(at_once)
{
	(void)after(cop_self(), 1, 0);
	EXPECT_TAG(1);
	tell(cop_self(), 2);
	(void)after(cop_self(), 3, 0);
	EXPECT_TAG(2);
	EXPECT_TAG(3);
}

NODE_CASE(with_data)
{
	int64_t n = 42;
	char big[100000];
	struct cop_msg m;

	memset(big, 'b', sizeof big);
	T_CHECK(cop_send_after(cop_to(cop_self()), 1, &n, sizeof n, 1).id != 0);
	T_EQ_INT(await_int(1), 42);
	T_CHECK(cop_send_after(cop_to(cop_self()), 2, big, sizeof big, 1).id != 0);
	m = rig_await(&(struct rig_want){ COP_MSG_PLAIN, .tag = 2 }, "big one", __LINE__);
	T_EQ_INT(m.len, sizeof big);
	T_CHECK(memcmp(m.data, big, sizeof big) == 0);
	T_CHECK(cop_pid_is(m.from, cop_self()));
	cop_msg_done(&m);
}

NODE_CASE(in_their_order)
{
	int i;

	for (i = 20; i > 0; i--)
		(void)after(cop_self(), (uint32_t)i, i * 3);
	for (i = 1; i <= 20; i++) {
		struct cop_msg m;

		T_REQUIRE(cop_receive(&m, NULL, NULL, RIG_MS) == 1);
		T_EQ_INT(m.tag, i);
		cop_msg_done(&m);
	}
}

NODE_CASE(the_same_instant_in_order_of_asking)
{
	int i;

	for (i = 1; i <= 100; i++)
		(void)after(cop_self(), (uint32_t)i, 20);
	for (i = 1; i <= 100; i++) {
		struct cop_msg m;

		T_REQUIRE(cop_receive(&m, NULL, NULL, RIG_MS) == 1);
		T_EQ_INT(m.tag, i);
		cop_msg_done(&m);
	}
}

NODE_CASE(cancelled)
{
	cop_ref a = after(cop_self(), 1, 5000), b = after(cop_self(), 2, 20);
	int64_t left;

	left = cop_read_timer(a);
	T_CHECK(left > 4000 && left <= 5000);
	left = cop_cancel_timer(a);
	T_CHECK(left > 4000 && left <= 5000);
	T_EQ_INT(cop_cancel_timer(a), -1);
	T_EQ_INT(cop_read_timer(a), -1);
	EXPECT_TAG(2);
	T_EQ_INT(cop_cancel_timer(b), -1);
	T_EQ_INT(cop_read_timer(b), -1);
	EXPECT_NOTHING();
}

/* 17: too late, and the message is there. */
NODE_CASE(cancelled_too_late)
{
	cop_ref a = after(cop_self(), 1, 0);

	cop_sleep(5);
	T_EQ_INT(cop_cancel_timer(a), -1);
	EXPECT_TAG(1);
}

NODE_CASE(nobodys)
{
	T_EQ_INT(cop_cancel_timer(COP_NOREF), -1);
	T_EQ_INT(cop_read_timer(COP_NOREF), -1);
	T_EQ_INT(cop_cancel_timer((cop_ref){ UINT64_MAX }), -1);
	T_EQ_INT(cop_cancel_timer((cop_ref){ 12345 }), -1);
	T_EQ_INT(cop_cancel_timer(cop_monitor(cop_to(cop_self()))), -1);
	T_CHECK(cop_send_after(cop_to(cop_self()), 1, NULL, 0, -1).id == 0 && errno == EINVAL);
	T_CHECK(cop_send_after(cop_to(cop_self()), 1, NULL, 0, INT64_MIN).id == 0 && errno == EINVAL);
	T_CHECK(cop_send_after(cop_to(cop_self()), 1, NULL, 0, INT64_MAX).id == 0 && errno == EINVAL);
	T_CHECK(cop_send_after(cop_to(cop_self()), 1, NULL, COP_MSG_MAX + 1, 1).id == 0 && errno == EMSGSIZE);
	T_CHECK(after(cop_self(), 1, (int64_t)1000 * 86400 * 365 * 100).id != 0);
	EXPECT_NOTHING();
}

static void cancels(void *arg)
{
	cop_ref *r = arg;
	int64_t left = cop_read_timer(*r);

	T_CHECK(left > 10000 && left <= 20000);
	tell_int(cop_parent(), 9, cop_cancel_timer(*r));
}

NODE_CASE(by_any_process)
{
	cop_ref mine = after(cop_self(), 1, 20000), its;
	cop_pid a = spawned(waits, NULL);

	(void)spawned(cancels, &mine);
	T_CHECK(await_int(9) > 10000);
	its = after(a, 1, 20000);
	(void)spawned(cancels, &its);
	T_CHECK(await_int(9) > 10000);
	T_EQ_INT(cop_cancel_timer(its), -1);
	EXPECT_NOTHING();
}

/* One of the two: never both, never none. */
static void races(void *arg)
{
	cop_ref *r = arg;
	int64_t end = now_ms() + 2, left;

	while (now_ms() < end)
		;
	left = cop_cancel_timer(*r);
	tell_int(cop_parent(), 9, left);
}

NODE_CASE(cancelled_as_it_comes)
{
	int i;

	for (i = 0; i < 200 / RIG_HEAVY; i++) {
		cop_ref r = after(cop_self(), 1, 3);
		int64_t left;

		(void)spawned(races, &r);
		left = await_int(9);
		if (left >= 0) {
			cop_sleep(2);
			EXPECT_NOTHING();
		} else {
			EXPECT_TAG(1);
		}
	}
}

static void sets_and_dies(void *arg)
{
	(void)arg;
	(void)after(cop_parent(), 1, 30);
	T_CHECK(cop_send_after(cop_named("me"), 2, NULL, 0, 30).id != 0);
}

/* The caller's end does not cancel a timer for a process; one for a name is the caller's own. */
NODE_CASE(the_caller_is_gone)
{
	T_EQ_INT(cop_register("me", cop_self()), 0);
	T_CHECK(gone(spawned(sets_and_dies, NULL)));
	EXPECT_TAG(1);
	cop_sleep(30);
	EXPECT_NOTHING();
}

NODE_CASE(the_destination_is_gone)
{
	cop_ref ref, r;
	cop_pid a = spawned_monitor(waits, NULL, &ref);

	r = after(a, 1, 20000);
	cop_kill(a);
	EXPECT_DOWN(ref, "killed");
	EVENTUALLY(cop_read_timer(r) == -1);
	T_EQ_INT(cop_cancel_timer(r), -1);
	r = after(a, 1, 20000);
	T_EQ_INT(cop_cancel_timer(r), -1);
	(void)after(COP_NOPID, 1, 1);
	cop_sleep(5);
	EXPECT_NOTHING();
}

/* --- names --- */

NODE_CASE(a_name_is_looked_up_when_it_is_time)
{
	cop_ref r = cop_send_after(cop_named("later"), 1, NULL, 0, 30);

	T_CHECK(r.id != 0);
	T_EQ_INT(cop_register("later", cop_self()), 0);
	EXPECT_TAG(1);
	T_EQ_INT(cop_cancel_timer(r), -1);
	T_CHECK(cop_send_after(cop_named("nobody"), 1, NULL, 0, 0).id != 0);
	cop_sleep(5);
	EXPECT_NOTHING();
	T_CHECK(cop_send_after(cop_named("a name that is longer than a name may be, which is sixty-three bytes"), 1, NULL, 0,
	    1).id == 0 && errno == EINVAL);
}

static void waits_for_tag_4(void *arg)
{
	(void)arg;
	T_EQ_INT(cop_register("other", cop_self()), 0);
	tell(cop_parent(), 3);
	EXPECT_TAG(4);
	exit_with("told");
}

/* It is sent on whatever its setter waits for meanwhile. */
static void sleeps_long(void *arg)
{
	(void)arg;
	T_CHECK(cop_send_after(cop_named("other"), 4, NULL, 0, 20).id != 0);
	cop_sleep(COP_INFINITY);
}

static struct cop_next never_answers(void *state, const struct cop_msg *m, struct cop_from from)
{
	(void)state;
	(void)m;
	(void)from;
	return cop_ok();
}

static const struct cop_server_ops silent = { .name = "silent", .handle_call = never_answers };

static void calls_long(void *arg)
{
	struct cop_started s;

	(void)arg;
	T_CHECK(cop_send_after(cop_named("other"), 4, NULL, 0, 20).id != 0);
	T_REQUIRE(cop_server_start(&silent, NULL, &s) == COP_STARTED);
	(void)!cop_server_call(cop_to(s.pid), 1, NULL, 0, COP_INFINITY, NULL);
}

NODE_CASE(a_name_while_its_setter_waits)
{
	cop_proc_f *const all[] = { sleeps_long, calls_long };
	int i;

	for (i = 0; i < 2; i++) {
		cop_ref ref;

		(void)spawned_monitor(waits_for_tag_4, NULL, &ref);
		EXPECT_TAG(3);
		(void)spawned(all[i], NULL);
		EXPECT_DOWN(ref, "told");
	}
}

/* A timer that has run out costs nothing while its process waits for something else. */
NODE_CASE(waiting_with_a_timer_that_is_due)
{
	struct timespec before, then;
	struct cop_started s;

	T_REQUIRE(cop_server_start(&silent, NULL, &s) == COP_STARTED);
	(void)after(cop_self(), 1, 1);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
	T_CHECK(cop_server_call(cop_to(s.pid), 1, NULL, 0, 500, NULL) < 0 && errno == ETIMEDOUT);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &then);
	T_CHECK((then.tv_sec - before.tv_sec) * 1000 + (then.tv_nsec - before.tv_nsec) / 1000000 < 250);
	EXPECT_TAG(1);
}

/* --- many --- */

NODE_CASE(many)
{
	enum { N = 20000 };
	struct cop_msg m;
	int64_t n, last = -1;
	int i;

	for (i = 0; i < N; i++) {
		n = now_ms() + 500 + (int64_t)(i * 7919) % 100;
		T_CHECK(cop_send_after(cop_to(cop_self()), 1, &n, sizeof n, n - now_ms()).id != 0);
	}
	for (i = 0; i < N; i++) {
		T_REQUIRE(cop_receive(&m, NULL, NULL, RIG_MS) == 1);
		memcpy(&n, m.data, sizeof n);
		if (n < last - 2)
			T_FAIL("%d ms out of order", (int)(last - n));
		last = n;
		cop_msg_done(&m);
	}
	EXPECT_NOTHING();
}

NODE_CASE(set_and_cancelled_without_end)
{
	int i;

	for (i = 0; i < 300000 / RIG_HEAVY; i++)
		if (cop_cancel_timer(after(cop_self(), 1, 100000)) < 0) {
			T_FAIL("round %d", i);
			break;
		}
	EXPECT_NOTHING();
}

static void sets_many(void *arg)
{
	int i;

	(void)arg;
	for (i = 0; i < 2000; i++)
		(void)after(cop_parent(), 1, i % 10);
}

NODE_CASE(from_many)
{
	int i;

	for (i = 0; i < 5; i++)
		(void)spawned(sets_many, NULL);
	for (i = 0; i < 5 * 2000; i++)
		EXPECT_TAG(1);
}

static void reads_when_told(void *arg)
{
	int n;

	(void)arg;
	T_EQ_INT(cop_register("other", cop_self()), 0);
	atomic_store(&rig->flag[0], 1);
	EVENTUALLY(atomic_load(&rig->flag[1]));
	for (n = 0; n < 10; n++)
		EXPECT_TAG(5);
	EXPECT_TAG(4);
}

/* Nobody waits for a full mailbox but who sends: the name gets it when there is room. */
NODE_CASE_WITH(a_name_whose_mailbox_is_full, .mailbox = 10)
{
	cop_ref ref, t;
	cop_pid p = spawned_monitor(reads_when_told, NULL, &ref);
	struct cop_msg m;

	EVENTUALLY(atomic_load(&rig->flag[0]));
	while (cop_send_flags(cop_to(p), 5, NULL, 0, COP_NOWAIT) == 0)
		;
	T_EQ_INT(errno, EAGAIN);
	t = cop_send_after(cop_named("other"), 6, NULL, 0, 1);
	T_CHECK(cop_send_after(cop_named("other"), 4, NULL, 0, 1).id != 0);
	T_EQ_INT(cop_receive(&m, NULL, NULL, 20), 0);
	T_EQ_INT(cop_cancel_timer(t), 0);
	T_EQ_INT(cop_cancel_timer(t), -1);
	atomic_store(&rig->flag[1], 1);
	EXPECT_DOWN(ref, "normal");
}

T_MAIN(T_RUN(comes_not_before_its_time), T_RUN(at_once), T_RUN(with_data), T_RUN(in_their_order),
    T_RUN(the_same_instant_in_order_of_asking), T_RUN(cancelled), T_RUN(cancelled_too_late), T_RUN(nobodys),
    T_RUN(by_any_process), T_RUN(cancelled_as_it_comes), T_RUN(the_caller_is_gone), T_RUN(the_destination_is_gone),
    T_RUN(a_name_is_looked_up_when_it_is_time), T_RUN(a_name_while_its_setter_waits),
    T_RUN(waiting_with_a_timer_that_is_due), T_RUN(many), T_RUN(set_and_cancelled_without_end), T_RUN(from_many),
    T_RUN(a_name_whose_mailbox_is_full))
