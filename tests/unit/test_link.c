/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Links and monitors, row by row as Erlang has them. */
#include "node_rig.h"

#include "proc/proc.h"

/* --- links --- */

NODE_CASE(a_link_tells_any_reason)
{
	static const char *const all[] = { "normal", "shutdown", "oops", "killed", "kill", "exit:9" };
	size_t i;

	cop_trap_exit(true);
	for (i = 0; i < sizeof all / sizeof all[0]; i++)
		EXPECT_EXIT(spawned_link(exits, all[i]), all[i]);
	EXPECT_EXIT(spawned_link(returns, NULL), "normal");
	EXPECT_EXIT(spawned_link(raises, (void *)SIGTERM), "signal:TERM");
	EXPECT_EXIT(spawned_link(raises, (void *)SIGKILL), "killed");
	EXPECT_NOTHING();
}

/* A chain of three; the last ends. */
static void chain(void *arg)
{
	int n = (int)(intptr_t)arg;

	if (n == 0)
		exit_with("deep");
	(void)spawned_link(chain, (void *)(intptr_t)(n - 1));
	waits(NULL);
}

NODE_CASE(a_reason_goes_down_a_chain)
{
	ends_as(chain, (void *)3, "deep");
}

static void links_normal(void *arg)
{
	(void)arg;
	T_CHECK(gone(spawned_link(returns, NULL)));
	exit_with("alive");
}

NODE_CASE(normal_does_not_spread)
{
	ends_as(links_normal, NULL, "alive");
}

NODE_CASE(killed_spreads_and_can_be_trapped)
{
	cop_pid a;

	cop_trap_exit(true);
	a = spawned_link(waits, NULL);
	cop_kill(a);
	EXPECT_EXIT(a, "killed");
	a = spawned_link(exits, "kill"); /* 1: through a link it is an ordinary reason */
	EXPECT_EXIT(a, "kill");
}

NODE_CASE(linking_twice_is_once)
{
	cop_pid a;

	cop_trap_exit(true);
	a = spawned_link(exits_when_told, "oops");
	T_EQ_INT(cop_link(a), 0);
	T_EQ_INT(cop_link(a), 0);
	T_EQ_INT(cop_link(cop_self()), 0);
	tell(a, 1);
	EXPECT_EXIT(a, "oops");
	T_CHECK(gone(a));
	EXPECT_NOTHING();
}

static void links_back(void *arg)
{
	(void)arg;
	T_EQ_INT(cop_link(cop_parent()), 0);
	tell(cop_parent(), 1);
	exits_when_told("oops");
}

NODE_CASE(linked_from_both_sides_is_one_exit)
{
	cop_pid a;

	cop_trap_exit(true);
	a = spawned(links_back, NULL);
	T_EQ_INT(cop_link(a), 0);
	EXPECT_TAG(1);
	tell(a, 2);
	EXPECT_EXIT(a, "oops");
	T_CHECK(gone(a));
	EXPECT_NOTHING();
}

NODE_CASE(linking_the_dead)
{
	cop_ref m;
	cop_pid a = spawned_monitor(returns, NULL, &m);

	EXPECT_DOWN(m, "normal");
	T_CHECK(cop_link(a) < 0 && errno == ESRCH);
	cop_trap_exit(true);
	T_EQ_INT(cop_link(a), 0);
	EXPECT_EXIT(a, "noproc");
	T_EQ_INT(cop_link(COP_NOPID), 0);
	EXPECT_EXIT(COP_NOPID, "noproc");
}

NODE_CASE(unlinked_is_not_told)
{
	cop_pid a = spawned_link(exits_when_told, "oops");

	cop_unlink(a);
	cop_unlink(a);
	cop_unlink(cop_self());
	cop_unlink(COP_NOPID);
	tell(a, 1);
	T_CHECK(gone(a));
	cop_trap_exit(true);
	a = spawned_link(exits, "oops");
	EVENTUALLY(cop_queue_len() == 1);
	cop_unlink(a);
	EXPECT_EXIT(a, "oops"); /* 12: a message stays */
}

/* After unlink has returned, nothing of it comes, whatever was under way. */
NODE_CASE(unlink_against_death)
{
	int i;

	for (i = 0; i < 500 / RIG_HEAVY; i++) {
		cop_pid a = spawned_link(exits_when_told, "oops");

		cop_trap_exit(true);
		tell(a, 1);
		if (i % 3)
			nanosleep(&(struct timespec){ .tv_nsec = 20000 * (i % 20) }, NULL);
		cop_unlink(a);
		cop_trap_exit(false); /* from here on it would end us */
		if (cop_queue_len() > 0)
			EXPECT_EXIT(a, "oops");
		T_CHECK(gone(a));
		EXPECT_NOTHING();
	}
}

static void many_links(void *arg)
{
	int i;

	(void)arg;
	for (i = 0; i < 10; i++)
		atomic_store(&rig->pid[i], cop_os_pid(spawned_link(i % 2 ? waits : computes, NULL)));
	for (i = 0; i < 5; i++)
		EXPECT_TAG(1); /* of those that compute */
	tell(cop_parent(), 2);
	waits(NULL);
}

NODE_CASE(a_death_takes_all_linked_along)
{
	cop_pid a = spawned(many_links, NULL);
	int i;

	EXPECT_TAG(2);
	cop_kill(a);
	for (i = 0; i < 10; i++)
		EVENTUALLY(kill(atomic_load(&rig->pid[i]), 0) < 0 && errno == ESRCH);
}

/* --- monitors --- */

NODE_CASE(each_monitor_fires_once)
{
	cop_pid a = spawned(exits_when_told, "oops");
	cop_ref m1 = monitored(a), m2 = monitored(a), m3 = monitored(a);

	T_CHECK(!cop_ref_is(m1, m2) && !cop_ref_is(m2, m3));
	tell(a, 1);
	EXPECT_DOWN(m1, "oops");
	EXPECT_DOWN(m2, "oops");
	EXPECT_DOWN(m3, "oops");
	EXPECT_NOTHING();
}

NODE_CASE(monitors_of_nobody)
{
	cop_ref m;
	cop_pid a = spawned_monitor(returns, NULL, &m);

	EXPECT_DOWN(m, "normal");
	EXPECT_DOWN(cop_monitor(cop_to(a)), "noproc");
	EXPECT_DOWN(cop_monitor(cop_to(COP_NOPID)), "noproc");
	EXPECT_DOWN(cop_monitor(cop_to((cop_pid){ UINT64_MAX })), "noproc");
	EXPECT_DOWN(cop_monitor(cop_named("nobody")), "noproc");
}

NODE_CASE(of_oneself_never_fires)
{
	cop_ref m = cop_monitor(cop_to(cop_self()));

	T_CHECK(m.id != 0);
	(void)cop_demonitor(m, true);
	EXPECT_NOTHING();
}

NODE_CASE(demonitor)
{
	cop_pid a = spawned(exits_when_told, "oops");
	cop_ref m1 = monitored(a), m2 = monitored(a), m3 = monitored(a);

	T_CHECK(cop_demonitor(m1, false));
	T_CHECK(!cop_demonitor(m1, false));
	tell(a, 1);
	EXPECT_DOWN(m2, "oops");
	EVENTUALLY(cop_queue_len() == 1);
	T_CHECK(!cop_demonitor(m3, false)); /* 11: it stays */
	T_EQ_INT(cop_queue_len(), 1);
	T_CHECK(!cop_demonitor(m3, true));
	EXPECT_NOTHING();
	T_CHECK(!cop_demonitor(COP_NOREF, true));
	T_CHECK(!cop_demonitor((cop_ref){ UINT64_MAX }, true));
	T_CHECK(!cop_demonitor((cop_ref){ 12345 }, true));
}

/* C19: exactly one DOWN for each, and none after a demonitor that flushes. */
NODE_CASE(demonitor_against_death)
{
	int i;

	for (i = 0; i < 500 / RIG_HEAVY; i++) {
		cop_pid a = spawned(exits_when_told, "oops");
		cop_ref m = monitored(a);

		tell(a, 1);
		if (i % 3)
			nanosleep(&(struct timespec){ .tv_nsec = 20000 * (i % 20) }, NULL);
		(void)cop_demonitor(m, true);
		T_CHECK(gone(a));
		EXPECT_NOTHING();
	}
}

NODE_CASE(spawn_monitor_is_atomic)
{
	int i;

	for (i = 0; i < 300 / RIG_HEAVY; i++)
		ends_as(returns, NULL, "normal");
}

/* 13: the last word before the death. */
static void last_word(void *arg)
{
	tell_int(cop_parent(), 5, (int64_t)(intptr_t)arg);
	if ((intptr_t)arg % 2)
		raise(SIGKILL);
}

NODE_CASE(the_last_message_is_before_down)
{
	struct cop_msg m;
	intptr_t i;

	for (i = 0; i < 400 / RIG_HEAVY; i++) {
		cop_ref ref;

		(void)spawned_monitor(last_word, (void *)i, &ref);
		T_EQ_INT(cop_receive(&m, NULL, NULL, RIG_MS), 1);
		T_EQ_INT(m.tag, 5);
		T_EQ_INT(m.kind, COP_MSG_PLAIN);
		cop_msg_done(&m);
		EXPECT_DOWN(ref, i % 2 ? "killed" : "normal");
	}
}

NODE_CASE(the_dead_are_gone_when_down_comes)
{
	int i;

	for (i = 0; i < 100; i++) {
		cop_ref m;
		cop_pid a = spawned_monitor(returns, NULL, &m);

		EXPECT_DOWN(m, "normal");
		T_CHECK(!cop_is_alive(a));
		T_EQ_INT(cop_os_pid(a), 0);
	}
}

/* --- links that cross --- */

static void links_first(void *arg)
{
	(void)arg;
	T_CHECK(proc_link_new(cop_parent().id) != 0);
	atomic_store(&rig->flag[0], 1);
	exits_when_told("oops");
}

static cop_pid crossed(void)
{
	cop_pid a;

	atomic_store(&rig->flag[0], 0);
	a = spawned(links_first, NULL);
	EVENTUALLY(atomic_load(&rig->flag[0]));
	T_CHECK(proc_link_new(a.id) != 0); /* as one that has looked before the other's link came */
	return a;
}

NODE_CASE(both_ask_for_the_link_at_once)
{
	cop_pid a;

	cop_trap_exit(true);
	a = crossed();
	tell(a, 1);
	EXPECT_EXIT(a, "oops");
	T_CHECK(gone(a));
	EXPECT_NOTHING();
	a = crossed();
	cop_unlink(a);
	tell(a, 1);
	T_CHECK(gone(a));
	EXPECT_NOTHING();
}

/* References are counted in 32 bits beside the node's index; one without a node is a reference all the same. */
NODE_CASE(a_reference_is_never_none)
{
	proc.serial = UINT32_MAX - 1;
	T_CHECK(cop_monitor(cop_to(cop_self())).id != 0);
	T_CHECK(cop_monitor(cop_to(cop_self())).id != 0);
	proc.serial = UINT64_MAX;
	T_CHECK(cop_monitor(cop_to(cop_self())).id != 0);
}

T_MAIN(T_RUN(a_link_tells_any_reason), T_RUN(a_reason_goes_down_a_chain), T_RUN(normal_does_not_spread),
    T_RUN(killed_spreads_and_can_be_trapped), T_RUN(linking_twice_is_once),
    T_RUN(linked_from_both_sides_is_one_exit), T_RUN(linking_the_dead), T_RUN(unlinked_is_not_told),
    T_RUN(unlink_against_death), T_RUN(a_death_takes_all_linked_along), T_RUN(each_monitor_fires_once),
    T_RUN(monitors_of_nobody), T_RUN(of_oneself_never_fires), T_RUN(demonitor), T_RUN(demonitor_against_death),
    T_RUN(spawn_monitor_is_atomic), T_RUN(the_last_message_is_before_down),
    T_RUN(the_dead_are_gone_when_down_comes), T_RUN(both_ask_for_the_link_at_once), T_RUN(a_reference_is_never_none))
