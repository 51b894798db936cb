/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Registered names: who may have which, when they are free again, and many at once. */
#include "node_rig.h"

NODE_CASE(one_name_one_process)
{
	cop_pid a = spawned(waits, NULL), b = spawned(waits, NULL);
	char buf[COP_NAME_MAX];

	T_EQ_INT(cop_whereis("x").id, 0);
	T_EQ_STR(cop_name_of(a, buf), "");
	T_EQ_INT(cop_register("x", a), 0);
	T_CHECK(cop_pid_is(cop_whereis("x"), a));
	T_EQ_STR(cop_name_of(a, buf), "x");
	T_CHECK(cop_register("x", b) < 0 && errno == EEXIST);
	T_CHECK(cop_register("x", a) < 0 && errno == EBUSY);
	T_CHECK(cop_register("y", a) < 0 && errno == EBUSY);
	T_EQ_INT(cop_register("y", b), 0);
}

NODE_CASE(given_up_and_taken_again)
{
	cop_pid a = spawned(waits, NULL);

	T_EQ_INT(cop_register("x", cop_self()), 0);
	T_EQ_INT(cop_unregister("x"), 0);
	T_CHECK(cop_unregister("x") < 0 && errno == ENOENT);
	T_EQ_INT(cop_whereis("x").id, 0);
	T_EQ_INT(cop_register("x", a), 0);
	T_EQ_INT(cop_register("z", cop_self()), 0);
	T_EQ_INT(cop_unregister("x"), 0); /* anybody's */
}

NODE_CASE(what_is_a_name)
{
	static const char *const wrong[] = { "", "\n", "a\tb", "a\x7f", "\x01",
		"0123456789012345678901234567890123456789012345678901234567890123" /* 64 */ };
	const char *longest = "012345678901234567890123456789012345678901234567890123456789012"; /* 63 */
	char huge[100000];
	size_t i;

	for (i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
		T_CHECK(cop_register(wrong[i], cop_self()) < 0 && errno == EINVAL);
		T_EQ_INT(cop_whereis(wrong[i]).id, 0);
		T_CHECK(cop_unregister(wrong[i]) < 0 && errno == ENOENT);
		T_CHECK(cop_send(cop_named(wrong[i]), 1, NULL, 0) < 0 && errno == ENOENT);
		EXPECT_DOWN(cop_monitor(cop_named(wrong[i])), "noproc");
	}
	memset(huge, 'x', sizeof huge - 1);
	huge[sizeof huge - 1] = '\0';
	T_CHECK(cop_register(huge, cop_self()) < 0 && errno == EINVAL);
	T_CHECK(cop_register(NULL, cop_self()) < 0 && errno == EINVAL);
	T_EQ_INT(cop_whereis(NULL).id, 0);
	T_CHECK(cop_unregister(NULL) < 0 && errno == ENOENT);
	T_EQ_INT(cop_register(longest, cop_self()), 0);
	T_CHECK(cop_pid_is(cop_whereis(longest), cop_self()));
	T_EQ_INT(cop_unregister(longest), 0);
	T_EQ_INT(cop_register("Grüße, 世界", cop_self()), 0);
	T_CHECK(cop_pid_is(cop_whereis("Grüße, 世界"), cop_self()));
}

NODE_CASE(of_the_dead)
{
	cop_ref m;
	cop_pid a = spawned_monitor(exits, "normal", &m);
	char buf[COP_NAME_MAX];

	EXPECT_DOWN(m, "normal");
	T_CHECK(cop_register("x", a) < 0 && errno == ESRCH);
	T_CHECK(cop_register("x", COP_NOPID) < 0 && errno == ESRCH);
	T_EQ_STR(cop_name_of(a, buf), "");
	T_EQ_STR(cop_name_of(COP_NOPID, buf), "");
}

/* 14: free before anybody hears of the death, whichever way it died. */
NODE_CASE(free_when_down_comes)
{
	int i;

	for (i = 0; i < 200; i++) {
		cop_ref m;
		cop_pid a = spawned_monitor(waits, NULL, &m);

		T_EQ_INT(cop_register("x", a), 0);
		if (i % 2)
			cop_kill(a);
		else
			kill(cop_os_pid(a), SIGUSR1);
		EXPECT_DOWN(m, i % 2 ? "killed" : "signal:USR1");
		T_EQ_INT(cop_whereis("x").id, 0);
	}
}

NODE_CASE(messages_and_monitors_by_name)
{
	cop_pid a = spawned(exits_when_told, "oops");
	cop_ref m;

	T_CHECK(cop_send(cop_named("x"), 1, NULL, 0) < 0 && errno == ENOENT);
	T_EQ_INT(cop_register("x", a), 0);
	m = cop_monitor(cop_named("x")); /* the process that has it now */
	T_EQ_INT(cop_unregister("x"), 0);
	T_EQ_INT(cop_register("x", cop_self()), 0);
	tell(a, 1);
	EXPECT_DOWN(m, "oops");
	T_EQ_INT(cop_send(cop_named("x"), 7, NULL, 0), 0);
	EXPECT_TAG(7);
}

static void count_name(void *ctx, const char *name, cop_pid pid)
{
	int *n = ctx;

	T_CHECK(cop_pid_is(cop_whereis(name), pid));
	++*n;
}

NODE_CASE(all_that_are_taken)
{
	enum { N = 300 };
	char name[32];
	int i, n = 0;

	for (i = 0; i < N; i++) {
		cop_pid p = spawned(waits, NULL);

		snprintf(name, sizeof name, "worker-%d", i);
		T_EQ_INT(cop_register(name, p), 0);
	}
	cop_registered(count_name, &n);
	T_EQ_INT(n, N);
	for (i = 0; i < N; i += 2) {
		snprintf(name, sizeof name, "worker-%d", i);
		T_EQ_INT(cop_unregister(name), 0);
	}
	n = 0;
	cop_registered(count_name, &n);
	T_EQ_INT(n, N / 2);
}

/* Many want one name: one has it. */
static void wants(void *arg)
{
	(void)arg;
	while (atomic_load(&rig->flag[0]) == 0)
		;
	if (cop_register("the-one", cop_self()) == 0)
		atomic_fetch_add(&rig->count, 1);
	else
		T_EQ_INT(errno, EEXIST);
	atomic_fetch_add(&rig->flag[1], 1);
	waits(NULL);
}

NODE_CASE(one_of_many_wins)
{
	enum { N = 6, ROUNDS = 30 };
	cop_pid p[N];
	int i, round;

	for (round = 0; round < ROUNDS; round++) {
		atomic_store(&rig->flag[0], 0);
		atomic_store(&rig->flag[1], 0);
		atomic_store(&rig->count, 0);
		for (i = 0; i < N; i++)
			p[i] = spawned(wants, NULL);
		atomic_store(&rig->flag[0], 1);
		EVENTUALLY(atomic_load(&rig->flag[1]) == N);
		T_EQ_INT(atomic_load(&rig->count), 1);
		for (i = 0; i < N; i++)
			cop_kill(p[i]);
		for (i = 0; i < N; i++)
			T_CHECK(gone(p[i]));
		T_EQ_INT(cop_whereis("the-one").id, 0);
	}
}

/* Registering and giving up without end, by processes that are killed: the table stays right. */
static void churns(void *arg)
{
	char name[8];
	int i;

	(void)arg;
	for (i = 0;; i++) {
		snprintf(name, sizeof name, "n%d", i % 3);
		if (cop_register(name, cop_self()) == 0)
			(void)cop_unregister(name);
	}
}

NODE_CASE(killed_while_naming)
{
	int i;

	for (i = 0; i < 60; i++) {
		cop_pid a = spawned(churns, NULL), b = spawned(churns, NULL);

		nanosleep(&(struct timespec){ .tv_nsec = 200000 * (i % 7) }, NULL);
		cop_kill(a);
		cop_kill(b);
		T_CHECK(gone(a));
		T_CHECK(gone(b));
		T_EQ_INT(cop_register("n0", cop_self()), 0);
		T_EQ_INT(cop_unregister("n0"), 0);
		T_EQ_INT(cop_whereis("n1").id, 0);
	}
}

/* Named by others while it dies: the name is not left behind. */
static void names_it(void *arg)
{
	cop_pid p;

	(void)arg;
	for (;;) {
		p.id = (uint64_t)(unsigned)atomic_load(&rig->flag[2]) | (uint64_t)(unsigned)atomic_load(&rig->flag[3]) << 32;
		(void)!cop_register("victim", p);
	}
}

NODE_CASE(named_while_dying)
{
	int i;

	(void)spawned(names_it, NULL);
	for (i = 0; i < 150; i++) {
		cop_ref m;
		cop_pid a = spawned_monitor(waits, NULL, &m);

		atomic_store(&rig->flag[3], (int)(a.id >> 32));
		atomic_store(&rig->flag[2], (int)(uint32_t)a.id);
		EVENTUALLY(cop_whereis("victim").id != 0);
		cop_kill(a);
		EXPECT_DOWN(m, "killed");
		T_CHECK(!cop_pid_is(cop_whereis("victim"), a));
	}
}

NODE_CASE_WITH(small_table, .max_processes = 40)
{
	char name[16];
	int i, n = 0;

	for (i = 0; i < 30; i++) {
		snprintf(name, sizeof name, "p%d", i);
		T_EQ_INT(cop_register(name, spawned(waits, NULL)), 0);
	}
	cop_registered(count_name, &n);
	T_EQ_INT(n, 30);
}

T_MAIN(T_RUN(one_name_one_process), T_RUN(given_up_and_taken_again), T_RUN(what_is_a_name), T_RUN(of_the_dead),
    T_RUN(free_when_down_comes), T_RUN(messages_and_monitors_by_name), T_RUN(all_that_are_taken),
    T_RUN(one_of_many_wins), T_RUN(killed_while_naming), T_RUN(named_while_dying), T_RUN(small_table))
