/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Spawning, exit reasons and exit signals, row by row as Erlang has them. */
#include "node_rig.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "proc/proc.h"

/* --- exit reasons --- */

static void calls_exit(void *arg)
{
	exit((int)(intptr_t)arg);
}

static void aborts(void *arg)
{
	struct rlimit none = { 0, 0 };

	(void)arg;
	setrlimit(RLIMIT_CORE, &none);
	abort();
}

NODE_CASE(reasons)
{
	ends_as(returns, NULL, "normal");
	ends_as(exits, "normal", "normal");
	ends_as(exits, "oops", "oops");
	ends_as(exits, "shutdown", "shutdown");
	ends_as(exits, "shutdown:later", "shutdown:later");
	ends_as(exits, "exit:7", "exit:7");
	ends_as(exits, "killed", "killed");
	ends_as(exits, "kill", "kill"); /* 1: said by itself it is no kill */
	ends_as(calls_exit, (void *)0, "normal");
	ends_as(calls_exit, (void *)3, "exit:3");
	ends_as(raises, (void *)SIGTERM, "signal:TERM");
	ends_as(raises, (void *)SIGKILL, "killed");
	ends_as(raises, (void *)SIGUSR1, "signal:USR1");
	EXPECT_NOTHING();
}

NODE_CASE(a_crash)
{
	cop_ref m;
	struct cop_msg msg;

	(void)spawned_monitor(aborts, NULL, &m);
	msg = rig_await(&(struct rig_want){ COP_MSG_DOWN, .ref = m }, "DOWN", __LINE__);
	T_EQ_INT(msg.reason.kind, COP_EXIT_SIGNAL);
	T_EQ_INT(msg.reason.value, SIGABRT);
	cop_msg_done(&msg);
}

NODE_CASE(a_text_that_is_too_long_is_cut)
{
	struct cop_exit r = cop_exit_make_text(COP_EXIT_OTHER, 0,
	    "0123456789012345678901234567890123456789012345678901234567890123456789");
	cop_pid a = spawned(waits, NULL);
	cop_ref m = monitored(a);
	struct cop_msg msg;

	cop_exit_signal(a, &r);
	msg = rig_await(&(struct rig_want){ COP_MSG_DOWN, .ref = m }, "DOWN", __LINE__);
	T_EQ_INT(strlen(msg.reason.text), COP_EXIT_TEXT_MAX - 1);
	cop_msg_done(&msg);
}

static void lies_about_its_reason(void *arg)
{
	struct cop_exit r;

	(void)arg;
	memset(&r, 0xff, sizeof r);
	cop_exit(&r);
}

NODE_CASE(a_reason_of_nonsense)
{
	cop_ref m;
	struct cop_msg msg;

	(void)spawned_monitor(lies_about_its_reason, NULL, &m);
	msg = rig_await(&(struct rig_want){ COP_MSG_DOWN, .ref = m }, "DOWN", __LINE__);
	T_CHECK(msg.reason.kind <= COP_EXIT_OTHER);
	T_CHECK(msg.reason.kind != COP_EXIT_NORMAL);
	T_CHECK(memchr(msg.reason.text, 0, sizeof msg.reason.text));
	cop_msg_done(&msg);
}

static void nothing(void)
{
	atomic_fetch_add(&rig->count, 1);
}

static void registers_atexit(void *arg)
{
	(void)arg;
	atexit(nothing);
	exit_with("normal");
}

NODE_CASE(cop_exit_runs_no_atexit)
{
	ends_as(registers_atexit, NULL, "normal");
	T_EQ_INT(atomic_load(&rig->count), 0);
}

/* --- exit signals: the decision table --- */

NODE_CASE(kill_is_not_trapped)
{
	cop_pid a = trapping(), b = spawned(waits, NULL);
	cop_ref ma = monitored(a), mb = monitored(b);

	cop_kill(a);
	send_exit(b, "kill");
	EXPECT_DOWN(ma, "killed");
	EXPECT_DOWN(mb, "killed");
}

static void reports_exits(void *arg)
{
	struct cop_msg m;

	(void)arg;
	cop_trap_exit(true);
	tell(cop_parent(), 1);
	while (cop_receive(&m, NULL, NULL, COP_INFINITY) == 1) {
		if (m.kind == COP_MSG_EXIT) {
			char text[COP_EXIT_FORMAT_MAX] = "";

			cop_exit_format(&m.reason, text, sizeof text);
			T_CHECK(cop_send(cop_to(cop_parent()), 2, text, sizeof text) == 0);
		}
		cop_msg_done(&m);
	}
}

static void expect_trapped(const char *text)
{
	struct cop_msg m = rig_await(&(struct rig_want){ COP_MSG_PLAIN, .tag = 2 }, "what was trapped", __LINE__);

	T_EQ_STR(m.data, text);
	cop_msg_done(&m);
}

NODE_CASE(trapped_signals_are_messages)
{
	static const char *const all[] = { "normal", "shutdown", "shutdown:x", "oops", "killed", "exit:3", "noproc" };
	cop_pid a = spawned(reports_exits, NULL);
	size_t i;

	EXPECT_TAG(1);
	for (i = 0; i < sizeof all / sizeof all[0]; i++) {
		send_exit(a, all[i]);
		expect_trapped(all[i]);
	}
	T_CHECK(cop_is_alive(a));
}

NODE_CASE(normal_does_nothing)
{
	cop_pid a = spawned(exits_when_told, "told");
	cop_ref m = monitored(a);

	send_exit(a, "normal");
	tell(a, 1);
	EXPECT_DOWN(m, "told");
}

NODE_CASE(others_end_at_once)
{
	static const char *const all[] = { "shutdown", "shutdown:x", "oops", "killed", "exit:3" };
	size_t i;

	for (i = 0; i < sizeof all / sizeof all[0]; i++) {
		cop_pid a = spawned(waits, NULL);
		cop_ref m = monitored(a);

		send_exit(a, all[i]);
		EXPECT_DOWN(m, all[i]);
	}
}

static void stops_itself(void *arg)
{
	(void)arg;
	tell(cop_parent(), 1);
	raise(SIGSTOP);
	waits(NULL);
}

/* Whatever it does: no code of it runs. */
NODE_CASE(ends_whatever_it_does)
{
	cop_proc_f *const all[] = { computes, blocks_signals, stops_itself };
	size_t i;

	for (i = 0; i < sizeof all / sizeof all[0]; i++) {
		cop_pid a = spawned(all[i], NULL);
		cop_ref m = monitored(a);

		EXPECT_TAG(1);
		send_exit(a, "oops");
		EXPECT_DOWN(m, "oops");
	}
}

NODE_CASE(the_first_reason_counts)
{
	int i;

	for (i = 0; i < 100; i++) {
		cop_pid a = spawned(waits, NULL);
		cop_ref m = monitored(a);

		send_exit(a, "first");
		send_exit(a, "second");
		cop_kill(a);
		EXPECT_DOWN(m, "first");
	}
}

static void signals_itself(void *arg)
{
	const char *text = arg;

	if (text[0] == '+') {
		cop_trap_exit(true);
		text++;
	}
	send_exit(cop_self(), text);
	if (atomic_load(&rig->flag[0])) {
		EXPECT_EXIT(cop_self(), text);
		exit_with("survived");
	}
	exit_with("not ended");
}

NODE_CASE(to_oneself)
{
	ends_as(signals_itself, "normal", "normal");
	ends_as(signals_itself, "oops", "oops");
	ends_as(signals_itself, "kill", "killed");
	ends_as(signals_itself, "+kill", "killed");
	atomic_store(&rig->flag[0], 1);
	ends_as(signals_itself, "+normal", "survived");
	ends_as(signals_itself, "+oops", "survived");
}

NODE_CASE(to_the_dead_and_to_nobody)
{
	cop_ref m;
	cop_pid a = spawned_monitor(returns, NULL, &m);

	EXPECT_DOWN(m, "normal");
	send_exit(a, "oops");
	cop_kill(a);
	cop_kill(COP_NOPID);
	cop_kill((cop_pid){ UINT64_MAX });
	T_CHECK(!cop_is_alive(a));
	T_CHECK(!cop_is_alive(COP_NOPID));
	T_EQ_INT(cop_os_pid(a), 0);
	T_EQ_INT(cop_os_pid((cop_pid){ UINT64_MAX }), 0);
}

NODE_CASE(trap_returns_what_it_was)
{
	T_CHECK(!cop_trap_exit(true));
	T_CHECK(cop_trap_exit(true));
	T_CHECK(cop_trap_exit(false));
	T_CHECK(!cop_trap_exit(false));
}

static void is_not_trapping(void *arg)
{
	(void)arg;
	T_CHECK(!cop_trap_exit(false));
}

NODE_CASE(trapping_is_not_inherited)
{
	cop_trap_exit(true);
	ends_as(is_not_trapping, NULL, "normal");
}

/* What has become a message stays one. */
NODE_CASE(trapping_turned_off_again)
{
	cop_pid a;

	cop_trap_exit(true);
	a = spawned_link(exits, "oops");
	EVENTUALLY(cop_queue_len() == 1);
	cop_trap_exit(false);
	EXPECT_EXIT(a, "oops");
}

/* --- spawning --- */

static void checks_itself(void *arg)
{
	int *answer = arg;

	T_EQ_INT(*answer, 42); /* a copy of the spawner's memory */
	*answer = 0;
	T_EQ_INT(cop_os_pid(cop_self()), getpid());
	T_CHECK(cop_is_alive(cop_self()));
	EXPECT_NOTHING();
	tell(cop_parent(), 1);
}

NODE_CASE(a_new_process)
{
	int answer = 42;
	cop_pid a;

	tell(cop_self(), 7); /* not inherited */
	a = spawned(checks_itself, &answer);
	T_CHECK(!cop_pid_is(a, cop_self()));
	EXPECT_TAG(1);
	T_CHECK(gone(a));
	T_EQ_INT(answer, 42);
	EXPECT_TAG(7);
}

static void says_parent(void *arg)
{
	(void)arg;
	tell_int(cop_parent(), 3, (int64_t)cop_parent().id);
}

NODE_CASE(the_parent_is_who_spawned)
{
	(void)spawned(says_parent, NULL);
	T_CHECK((uint64_t)await_int(3) == cop_self().id);
}

NODE_CASE(what_is_not_yet_written_is_written_once)
{
	int fd[2];
	char buf[64] = "";
	FILE *out;

	T_REQUIRE(pipe(fd) == 0);
	out = stdout;
	stdout = fdopen(fd[1], "w");
	fputs("once", stdout);
	ends_as(returns, NULL, "normal");
	fclose(stdout);
	stdout = out;
	T_EQ_INT(read(fd[0], buf, sizeof buf - 1), 4);
	close(fd[0]);
}

NODE_CASE_WITH(the_table_is_full, .max_processes = 8)
{
	cop_pid p[8], q;
	int n = 0, i, round;

	for (round = 0; round < 20; round++) {
		for (n = 0; n < 8 && cop_spawn(waits, NULL, &p[n]) == 0; n++)
			;
		T_EQ_INT(n, 6); /* of eight: the root, and this one */
		T_EQ_INT(errno, EAGAIN);
		T_CHECK(cop_spawn_link(waits, NULL, &q) < 0 && errno == EAGAIN);
		for (i = 0; i < n; i++)
			cop_kill(p[i]);
		for (i = 0; i < n; i++) /* told of is not yet buried */
			EVENTUALLY(seg_slot_state(&proc.seg, SEG_INDEX(p[i].id)) == SEG_SLOT_FREE);
	}
}

static void spawns_without_end(void *arg)
{
	cop_pid p;

	for (;;)
		if (cop_spawn(spawns_without_end, arg, &p) < 0) {
			T_CHECK(errno == EAGAIN || errno == ECANCELED || errno == ENOMEM);
			if (atomic_fetch_add(&rig->count, 1) > 200)
				cop_sleep(10);
		}
}

/* A9: it fills the table, and goes with the node. */
NODE_CASE_WITH(fork_bomb, .max_processes = 200)
{
	(void)spawned(spawns_without_end, NULL);
	EVENTUALLY(atomic_load(&rig->count) > 10);
}

NODE_CASE(many_processes)
{
	enum { N = 1000 / RIG_HEAVY };
	static cop_ref m[N];
	int i;

	for (i = 0; i < N; i++)
		(void)spawned_monitor(waits, NULL, &m[i]);
	for (i = 0; i < N; i++)
		T_CHECK(m[i].id != 0);
}

NODE_CASE(a_thousand_lives_of_few_slots)
{
	int i;

	for (i = 0; i < 1000 / RIG_HEAVY; i++)
		ends_as(exits, i % 2 ? "oops" : "normal", i % 2 ? "oops" : "normal");
	EXPECT_NOTHING();
}

static void labelled(void *arg)
{
	char comm[32] = "";

	(void)arg;
	cop_set_label("a label that is much longer than fifteen bytes and than sixty-four of them, too");
	prctl(PR_GET_NAME, comm);
	T_EQ_STR(comm, "a label that is");
	cop_set_label("");
	cop_set_label(NULL);
}

NODE_CASE(labels)
{
	ends_as(labelled, NULL, "normal");
}

NODE_CASE(a_file_is_written_once_too)
{
	char buf[64] = "";
	FILE *out;
	int fd[2];

	T_REQUIRE(pipe(fd) == 0);
	out = fdopen(fd[1], "w");
	fputs("once", out);
	ends_as(returns, NULL, "normal");
	fclose(out);
	T_EQ_INT(read(fd[0], buf, sizeof buf - 1), 4);
	T_EQ_INT(read(fd[0], buf, sizeof buf - 1), 0);
	close(fd[0]);
}

T_MAIN(T_RUN(reasons), T_RUN(a_crash), T_RUN(a_text_that_is_too_long_is_cut), T_RUN(a_reason_of_nonsense),
    T_RUN(cop_exit_runs_no_atexit), T_RUN(kill_is_not_trapped), T_RUN(trapped_signals_are_messages),
    T_RUN(normal_does_nothing), T_RUN(others_end_at_once), T_RUN(ends_whatever_it_does),
    T_RUN(the_first_reason_counts), T_RUN(to_oneself), T_RUN(to_the_dead_and_to_nobody),
    T_RUN(trap_returns_what_it_was), T_RUN(trapping_is_not_inherited), T_RUN(trapping_turned_off_again),
    T_RUN(a_new_process), T_RUN(the_parent_is_who_spawned), T_RUN(what_is_not_yet_written_is_written_once),
    T_RUN(the_table_is_full), T_RUN(fork_bomb), T_RUN(many_processes), T_RUN(a_thousand_lives_of_few_slots),
    T_RUN(labels), T_RUN(a_file_is_written_once_too))
