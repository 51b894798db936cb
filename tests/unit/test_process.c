/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Spawning, exit reasons, exit signals, links and monitors, row by row as Erlang has them; and the node itself. */
#include "node_rig.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "proc/proc.h"

/* --- exit reasons --- */

static void returns(void *arg)
{
	(void)arg;
}

static void calls_exit(void *arg)
{
	exit((int)(intptr_t)arg);
}

static void raises(void *arg)
{
	signal((int)(intptr_t)arg, SIG_DFL);
	raise((int)(intptr_t)arg);
}

static void aborts(void *arg)
{
	struct rlimit none = { 0, 0 };

	(void)arg;
	setrlimit(RLIMIT_CORE, &none);
	abort();
}

static void ends_as(cop_proc_f *f, const void *arg, const char *text)
{
	cop_ref m;
	(void)spawned_monitor(f, arg, &m);

	EXPECT_DOWN(m, text);
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

static void computes(void *arg)
{
	(void)arg;
	tell(cop_parent(), 1);
	for (;;)
		;
}

static void blocks_signals(void *arg)
{
	sigset_t all;

	(void)arg;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	tell(cop_parent(), 1);
	waits(NULL);
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

/* --- the node --- */

static void with_reason(void *arg)
{
	exit_with(arg);
}

T_CASE(status_of_a_node)
{
	T_EQ_INT(node_run(NULL, with_reason, "normal"), 0);
	T_EQ_INT(node_run(NULL, with_reason, "shutdown"), 0);
	T_EQ_INT(node_run(NULL, with_reason, "exit:7"), 7);
	T_EQ_INT(node_run(NULL, with_reason, "oops"), 1);
	T_EQ_INT(node_run(NULL, raises, (void *)SIGKILL), 137);
	T_EQ_INT(node_run(NULL, raises, (void *)SIGTERM), 143);
}

T_CASE(a_node_after_a_node)
{
	int i;

	for (i = 0; i < 30; i++)
		T_EQ_INT(node_run(NULL, with_reason, "exit:7"), 7);
	T_CHECK(!cop_node_name());
}

static void runs_a_node(void *arg)
{
	(void)arg;
	T_CHECK(cop_run(NULL, with_reason, NULL) < 0 && errno == EBUSY);
	T_EQ_STR(cop_node_name(), "outer");
}

T_CASE(no_node_in_a_node)
{
	struct cop_node_options o = { .name = "outer", .quiet = true };

	T_EQ_INT(node_run(&o, runs_a_node, NULL), 0);
}

/* A process that a process of the node forked by itself is none of the node, but may have one of its own. */
static void forks_a_node(void *arg)
{
	int status = 0;
	pid_t pid = fork();

	(void)arg;
	if (pid == 0) {
		T_CHECK(!cop_node_name());
		_exit(node_run(NULL, with_reason, "exit:5"));
	}
	T_CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5);
	tell(cop_self(), 1);
	EXPECT_TAG(1);
}

T_CASE(a_node_of_a_forked_process)
{
	T_EQ_INT(node_run(NULL, forks_a_node, NULL), 0);
}

static void leaves_processes(void *arg)
{
	int i;

	(void)arg;
	for (i = 0; i < 20; i++)
		(void)spawned(i % 2 ? traps : blocks_signals, NULL);
}

T_CASE(what_is_left_is_killed)
{
	T_EQ_INT(node_run(NULL, leaves_processes, NULL), 0);
	T_CHECK(waitpid(-1, NULL, 0) < 0 && errno == ECHILD);
}

/* What the node's processes forked themselves, too: everything below the caller is the node's. */
static void forks_strangers(void *arg)
{
	int i;

	(void)arg;
	for (i = 0; i < 3; i++)
		if (fork() == 0) {
			setsid();
			if (fork() != 0)
				_exit(0);
			for (;;)
				pause();
		}
}

T_CASE(strangers_are_killed_too)
{
	T_EQ_INT(node_run(NULL, forks_strangers, NULL), 0);
	T_CHECK(waitpid(-1, NULL, 0) < 0 && errno == ECHILD);
}

static void is_unspoilt(void *arg)
{
	struct sigaction sa;
	sigset_t mask;

	(void)arg;
	sigprocmask(SIG_SETMASK, NULL, &mask);
	T_CHECK(sigismember(&mask, SIGUSR2) == 1); /* as the caller had it */
	T_CHECK(sigismember(&mask, SIGTERM) == 0);
	sigaction(SIGCHLD, NULL, &sa);
	T_CHECK(sa.sa_handler == SIG_IGN);
	ends_as(returns, NULL, "normal");
}

T_CASE(the_callers_signals)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGUSR2);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	signal(SIGCHLD, SIG_IGN);
	T_EQ_INT(node_run(NULL, is_unspoilt, NULL), 0);
	T_CHECK(signal(SIGCHLD, SIG_DFL) == SIG_IGN);
	sigprocmask(SIG_SETMASK, NULL, &mask);
	T_CHECK(sigismember(&mask, SIGUSR2) == 1);
	T_CHECK(sigismember(&mask, SIGCHLD) == 0);
}

static void signals_root(void *arg)
{
	kill(getppid(), (int)(intptr_t)arg);
	waits(NULL);
}

static void traps_and_counts(void *arg)
{
	(void)arg;
	cop_trap_exit(true);
	kill(getppid(), SIGTERM);
	EXPECT_EXIT(cop_parent(), "shutdown");
	kill(getppid(), SIGINT);
	waits(NULL);
}

T_CASE(asked_to_end)
{
	T_EQ_INT(node_run(NULL, signals_root, (void *)SIGTERM), 0);
	T_EQ_INT(node_run(NULL, signals_root, (void *)SIGINT), 0);
	T_EQ_INT(node_run(NULL, signals_root, (void *)SIGQUIT), 0);
	T_EQ_INT(node_run(NULL, traps_and_counts, NULL), 137);
}

/* --- who is not in a node --- */

static int signal_of(void (*f)(void))
{
	int status = 0, null;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		null = open("/dev/null", O_WRONLY);
		dup2(null, 2);
		f();
		_exit(0);
	}
	waitpid(pid, &status, 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void asks_self(void)
{
	(void)cop_self();
}

static void sends(void)
{
	(void)cop_send(cop_named("x"), 1, NULL, 0);
}

static void spawns(void)
{
	cop_pid p;

	(void)!cop_spawn(waits, NULL, &p);
}

static void receives(void)
{
	struct cop_msg m;

	(void)!cop_receive(&m, NULL, NULL, 0);
}

static void casts(void)
{
	(void)cop_server_cast(cop_named("x"), 1, NULL, 0);
}

static void asks_partition(void)
{
	(void)cop_partition_count("x");
}

static void starts_supervisor(void)
{
	struct cop_supervisor s = { .name = "x" };
	struct cop_started r;

	(void)!cop_supervisor_start_link(&s, &r);
}

static void stops(void)
{
	(void)!cop_server_stop(cop_named("x"), NULL, 1, NULL);
}

static void sends_after(void)
{
	(void)cop_send_after(cop_named("x"), 1, NULL, 0, 1);
}

static void in_a_forked_one(void *arg)
{
	(void)arg;
	T_EQ_INT(signal_of(asks_self), SIGABRT);
	T_EQ_INT(signal_of(sends), SIGABRT);
}

T_CASE(outside_of_a_node)
{
	void (*const all[])(void) = { asks_self, sends, spawns, receives, casts, asks_partition, starts_supervisor, stops,
		sends_after };
	size_t i;
	int round;

	for (round = 0; round < 2; round++) {
		for (i = 0; i < sizeof all / sizeof all[0]; i++)
			T_EQ_INT(signal_of(all[i]), SIGABRT);
		T_EQ_INT(node_run(NULL, in_a_forked_one, NULL), 0); /* and after one */
	}
}

/* --- limits of the system --- */

T_CASE(cannot_be_made)
{
	struct rlimit lim = { 3, 1024 };
	struct cop_node_options o = { .max_processes = 1, .quiet = true };

	T_CHECK(node_run(&o, returns, NULL) < 0 && errno == EAGAIN);
	setrlimit(RLIMIT_NOFILE, &lim);
	T_CHECK(node_run(NULL, returns, NULL) < 0 && errno == EMFILE);
	lim.rlim_cur = 1024;
	setrlimit(RLIMIT_NOFILE, &lim);
	T_EQ_INT(node_run(NULL, with_reason, "exit:7"), 7);
}

T_CASE(files_must_be_small)
{
	struct rlimit lim = { 1 << 20, 1 << 20 };
	int r;

	setrlimit(RLIMIT_FSIZE, &lim);
	r = node_run(NULL, with_reason, "exit:7");
	T_CHECK(r == 7 || (r < 0 && errno == ENOMEM)); /* and no SIGXFSZ */
}

static void without_descriptors(void *arg)
{
	struct rlimit lim = { 0, 0 };

	(void)arg;
	T_REQUIRE(setrlimit(RLIMIT_NOFILE, &lim) == 0);
	ends_as(exits, "oops", "oops");
	cop_trap_exit(true);
	EXPECT_EXIT(spawned_link(exits, "oops"), "oops");
	{
		cop_pid a = spawned(waits, NULL);
		cop_ref m = monitored(a);

		cop_kill(a);
		EXPECT_DOWN(m, "killed");
	}
}

NODE_CASE(no_descriptors)
{
	ends_as(without_descriptors, NULL, "normal");
}

static void closes_all(void *arg)
{
	(void)arg;
	syscall(SYS_close_range, 0, ~0u, 0);
	T_EQ_INT(cop_send(cop_to(cop_self()), 1, NULL, 0), 0);
	EXPECT_TAG(1);
	ends_as(exits, "oops", "oops");
}

NODE_CASE(all_descriptors_closed)
{
	ends_as(closes_all, NULL, "normal");
}

/* Fails to fork because the user has too many processes: only where one is not root. */
static void as_nobody(void *arg)
{
	struct rlimit lim = { 1, 1 };
	cop_pid p;
	cop_ref m;

	(void)arg;
	if (setuid(65534) < 0) {
		printf("# not here\n");
		return;
	}
	setrlimit(RLIMIT_NPROC, &lim);
	T_CHECK(cop_spawn(returns, NULL, &p) < 0 && errno == EAGAIN);
	T_CHECK(cop_spawn_link(returns, NULL, &p) < 0 && errno == EAGAIN);
	T_CHECK(cop_spawn_monitor(returns, NULL, &p, &m) < 0 && errno == EAGAIN);
	EXPECT_NOTHING();
}

T_CASE(no_processes)
{
	T_EQ_INT(node_run(NULL, as_nobody, NULL), 0);
}

/* --- kill -9 --- */

static void traps_and_blocks(void *arg)
{
	struct cop_msg m;
	int fd[2];

	cop_trap_exit(true);
	if (atomic_fetch_add(&rig->count, 1) == 0) /* one of them waits in poll */
		T_CHECK(pipe(fd) == 0 && cop_select(fd[0], POLLIN) == 0);
	(void)arg;
	{
		sigset_t all;

		sigfillset(&all);
		sigprocmask(SIG_SETMASK, &all, NULL);
	}
	tell(cop_parent(), 1);
	while (cop_receive(&m, NULL, NULL, COP_INFINITY) == 1)
		cop_msg_done(&m);
}

static void remembers_children(void *arg)
{
	int i;

	(void)arg;
	for (i = 0; i < 4; i++)
		(void)spawned(waits, NULL);
	for (i = 0; i < 4; i++)
		(void)trapping();
	for (i = 0; i < 2; i++) {
		(void)spawned(traps_and_blocks, NULL);
		EXPECT_TAG(1);
	}
	atomic_store(&rig->flag[0], 1);
	waits(NULL);
}

T_CASE(the_root_is_killed)
{
	pid_t root = node_aside(NULL, remembers_children, NULL);
	int status;

	EVENTUALLY(atomic_load(&rig->flag[0]));
	kill(root, SIGKILL);
	status = all_ended(root, 8000); /* those that trap have five seconds */
	T_CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* --- reports --- */

static void on_report(const struct cop_report *r)
{
	if (r->kind == COP_REPORT_EXIT && strcmp(r->name, "known") == 0) {
		T_EQ_STR(text_of(r->reason), "oops");
		T_EQ_STR(r->label, "a label");
		T_CHECK(r->os_pid > 0 && r->pid.id != 0);
		atomic_fetch_add(&rig->count, 1);
	}
}

static void is_known(void *arg)
{
	(void)arg;
	T_EQ_INT(cop_register("known", cop_self()), 0);
	cop_set_label("a label");
	exit_with("oops");
}

static void is_reported(void *arg)
{
	(void)arg;
	ends_as(is_known, NULL, "oops");
	T_EQ_INT(atomic_load(&rig->count), 1); /* before anybody is told */
}

T_CASE(reports)
{
	struct cop_node_options o = { .report = on_report };

	T_EQ_INT(node_run(&o, is_reported, NULL), 0);
}

T_MAIN(T_RUN(reasons), T_RUN(a_crash), T_RUN(a_text_that_is_too_long_is_cut), T_RUN(a_reason_of_nonsense),
    T_RUN(cop_exit_runs_no_atexit), T_RUN(kill_is_not_trapped), T_RUN(trapped_signals_are_messages),
    T_RUN(normal_does_nothing), T_RUN(others_end_at_once), T_RUN(ends_whatever_it_does),
    T_RUN(the_first_reason_counts), T_RUN(to_oneself), T_RUN(to_the_dead_and_to_nobody),
    T_RUN(trap_returns_what_it_was), T_RUN(trapping_is_not_inherited), T_RUN(trapping_turned_off_again),
    T_RUN(a_link_tells_any_reason), T_RUN(a_reason_goes_down_a_chain), T_RUN(normal_does_not_spread),
    T_RUN(killed_spreads_and_can_be_trapped), T_RUN(linking_twice_is_once),
    T_RUN(linked_from_both_sides_is_one_exit), T_RUN(linking_the_dead), T_RUN(unlinked_is_not_told),
    T_RUN(unlink_against_death), T_RUN(a_death_takes_all_linked_along), T_RUN(each_monitor_fires_once),
    T_RUN(monitors_of_nobody), T_RUN(of_oneself_never_fires), T_RUN(demonitor), T_RUN(demonitor_against_death),
    T_RUN(spawn_monitor_is_atomic), T_RUN(the_last_message_is_before_down), T_RUN(the_dead_are_gone_when_down_comes),
    T_RUN(a_new_process), T_RUN(the_parent_is_who_spawned), T_RUN(what_is_not_yet_written_is_written_once),
    T_RUN(the_table_is_full), T_RUN(fork_bomb), T_RUN(many_processes), T_RUN(a_thousand_lives_of_few_slots),
    T_RUN(labels), T_RUN(status_of_a_node), T_RUN(a_node_after_a_node), T_RUN(no_node_in_a_node),
    T_RUN(a_node_of_a_forked_process), T_RUN(what_is_left_is_killed), T_RUN(strangers_are_killed_too),
    T_RUN(the_callers_signals), T_RUN(asked_to_end), T_RUN(outside_of_a_node), T_RUN(cannot_be_made),
    T_RUN(files_must_be_small), T_RUN(no_descriptors), T_RUN(all_descriptors_closed), T_RUN(no_processes),
    T_RUN(the_root_is_killed), T_RUN(reports))
