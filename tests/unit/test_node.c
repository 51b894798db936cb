/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* The node itself: its root, what is left, who is not in it, and what the system may refuse. */
#include "node_rig.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "proc/proc.h"

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

T_MAIN(T_RUN(status_of_a_node), T_RUN(a_node_after_a_node), T_RUN(no_node_in_a_node),
    T_RUN(a_node_of_a_forked_process), T_RUN(what_is_left_is_killed), T_RUN(strangers_are_killed_too),
    T_RUN(the_callers_signals), T_RUN(asked_to_end), T_RUN(outside_of_a_node), T_RUN(cannot_be_made),
    T_RUN(files_must_be_small), T_RUN(no_descriptors), T_RUN(all_descriptors_closed), T_RUN(no_processes),
    T_RUN(the_root_is_killed), T_RUN(reports))
