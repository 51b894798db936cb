/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Supervisors as processes: children of all kinds, the child API, orders and kills, and what is not to be had:
 * processes, descriptors, memory. Their rules, event for event, are proved elsewhere (test_sup_*.c).
 */
#include "node_rig.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "otp/supervisor_private.h"

/* --- children --- */

/* Counts how often each letter has started, in rig->flag. */
static struct cop_next worker_init(void *state, const void *arg, size_t size)
{
	const char *what = arg;

	(void)state;
	if (size) {
		atomic_fetch_add(&rig->flag[what[0] % 32], 1);
		if (what[1] == '!' && atomic_load(&rig->count) > 0) {
			struct cop_exit r = reason("oops");

			atomic_fetch_sub(&rig->count, 1);
			return cop_stop(&r);
		}
		if (what[1] == '?')
			return cop_ignore();
		if (what[1] == 'h')
			waits(NULL);
		if (what[1] == 't')
			cop_trap_exit(true);
	}
	return cop_ok();
}

static struct cop_next worker_call(void *state, const struct cop_msg *m, struct cop_from from)
{
	int32_t n = (int32_t)cop_partition();

	(void)state;
	(void)from;
	if (m->tag == 2)
		exit_with("oops");
	if (m->tag == 3)
		exit_with("normal");
	return cop_reply(&n, sizeof n);
}

static const struct cop_server_ops worker = { .name = "worker", .init = worker_init, .handle_call = worker_call };

static void runs(void *arg)
{
	const char *what = arg;

	if (what)
		atomic_fetch_add(&rig->flag[what[0] % 32], 1);
	waits(NULL);
}

static int starts_of(char letter)
{
	return atomic_load(&rig->flag[letter % 32]);
}

static const char *const sleeper[] = { "sleep", "1000", NULL };
static const char *const stubborn[] = { "sh", "-c", "trap '' TERM; while :; do sleep 1000; done", NULL };
static const char *const parent_of_two[] = { "sh", "-c", "sleep 1000 & sleep 1000", NULL };
static const char *const missing[] = { "/no/such/program", NULL };
static const char *const no_program[] = { "/etc/passwd", NULL };
static const char *const quits[] = { "sh", "-c", "exit 3", NULL };

static cop_pid sup_started(const struct cop_supervisor *s)
{
	struct cop_started r;

	T_REQUIRE(cop_supervisor_start_link(s, &r) == COP_STARTED);
	return r.pid;
}

static struct cop_child a_server(const char *id, const char *arg)
{
	return (struct cop_child){ .id = id, .server = &worker, .arg = arg, .arg_size = strlen(arg) + 1 };
}

static struct cop_child_info info_of(cop_pid sup, const char *id)
{
	static struct cop_child_info info[64];
	long i, n = cop_supervisor_which_children(cop_to(sup), info, 64);

	for (i = 0; i < n; i++)
		if (strcmp(info[i].id, id) == 0)
			return info[i];
	T_FAIL("there is no %s", id);
	return (struct cop_child_info){ .id = "" };
}

static struct cop_child_counts counts_of(cop_pid sup)
{
	struct cop_child_counts c = { 0 };

	T_CHECK(cop_supervisor_count_children(cop_to(sup), &c) == 0);
	return c;
}

#define EXPECT_START(sup, child, text) \
	do { \
		struct cop_started t_s; \
		T_CHECK(cop_supervisor_start_child(cop_to(sup), child, &t_s) == COP_NOT_STARTED); \
		T_EQ_STR(text_of(t_s.reason), text); \
	} while (0)

/* --- */

NODE_CASE(children_of_all_kinds)
{
	static const struct cop_child inner[] = { { .id = "deep", .server = &worker, .name = "deep" } };
	static const struct cop_supervisor nested = { .name = "inner", .children = inner, .n_children = 1 };
	static const struct cop_child children[] = {
		{ .id = "s", .server = &worker, .name = "s", .arg = "s", .arg_size = 2 },
		{ .id = "f", .run = runs, .name = "f", .arg = "f", .arg_size = 2 },
		{ .id = "n", .supervisor = &nested },
		{ .id = "x", .exec = sleeper },
	};
	static const struct cop_supervisor top = { .name = "top", .children = children, .n_children = 4 };
	static const char *const order[] = { "x", "n", "f", "s" };
	struct cop_child_info info[8];
	struct cop_child_counts c;
	cop_pid sup = sup_started(&top);
	long i;

	T_CHECK(cop_pid_is(cop_whereis("top"), sup));
	T_EQ_INT(cop_supervisor_which_children(cop_named("top"), info, 8), 4);
	for (i = 0; i < 4; i++) {
		T_EQ_STR(info[i].id, order[i]); /* the last started first */
		T_EQ_INT(info[i].state, COP_CHILD_RUNNING);
		T_CHECK(info[i].os_pid > 0 && kill(info[i].os_pid, 0) == 0);
		T_EQ_INT(info[i].supervisor, i == 1);
	}
	T_EQ_INT(info[0].pid.id, 0);
	T_CHECK(cop_pid_is(info[3].pid, cop_whereis("s")));
	T_CHECK(cop_whereis("deep").id != 0);
	T_EQ_INT(cop_supervisor_which_children(cop_named("top"), info, 1), 4);
	T_EQ_INT(cop_supervisor_which_children(cop_named("top"), NULL, 0), 4);
	c = counts_of(sup);
	T_EQ_INT(c.specs * 1000 + c.active * 100 + c.supervisors * 10 + c.workers, 4413);
	T_EQ_INT(cop_server_stop(cop_named("top"), NULL, RIG_MS, NULL), 0);
	for (i = 0; i < 4; i++)
		EVENTUALLY(kill(info[0].os_pid, 0) < 0 && errno == ESRCH);
	T_EQ_INT(cop_whereis("deep").id, 0);
}

NODE_CASE(no_children)
{
	static const struct cop_supervisor top = { .name = "top" };
	cop_pid sup = sup_started(&top);
	struct cop_child_counts c = counts_of(sup);

	T_EQ_INT(cop_supervisor_which_children(cop_to(sup), NULL, 0), 0);
	T_EQ_INT(c.specs + c.active + c.supervisors + c.workers, 0);
	T_CHECK(cop_supervisor_terminate_child(cop_to(sup), "x") < 0 && errno == ENOENT);
	T_EQ_INT(cop_server_stop(cop_to(sup), NULL, RIG_MS, NULL), 0);
}

/* --- what is wrong with a specification --- */

NODE_CASE(wrong_from_the_start)
{
	static const struct cop_child dup[] = { { .id = "a", .run = runs }, { .id = "a", .run = runs } };
	static const struct cop_child no_id[] = { { .run = runs } };
	static const struct cop_child no_start[] = { { .id = "a" } };
	static const struct cop_child two[] = { { .id = "a", .run = runs, .server = &worker } };
	static const struct cop_child significant[] = { { .id = "a", .run = runs, .significant = true } };
	static const struct {
		struct cop_supervisor s;
		const char *reason;
	} t[] = {
		{ { .children = dup, .n_children = 2 }, "start_spec" },
		{ { .children = no_id, .n_children = 1 }, "start_spec" },
		{ { .children = no_start, .n_children = 1 }, "start_spec" },
		{ { .children = two, .n_children = 1 }, "start_spec" },
		{ { .children = significant, .n_children = 1 }, "start_spec" },
		{ { .strategy = 9 }, "supervisor_data" },
		{ { .auto_shutdown = 9 }, "supervisor_data" },
		{ { .max_restarts = -2 }, "supervisor_data" },
		{ { .max_seconds = -1 }, "supervisor_data" },
		{ { .dynamic = true, .strategy = COP_ONE_FOR_ALL }, "supervisor_data" },
		{ { .dynamic = true, .children = dup, .n_children = 1 }, "start_spec" },
		{ { .partitions = 2, .children = dup, .n_children = 1 }, "supervisor_data" }, /* no name */
	};
	struct cop_started s;
	size_t i;

	cop_trap_exit(true);
	for (i = 0; i < sizeof t / sizeof t[0]; i++) {
		T_EQ_INT(cop_supervisor_start_link(&t[i].s, &s), COP_NOT_STARTED);
		T_EQ_STR(text_of(s.reason), t[i].reason);
		EXPECT_NOTHING();
	}
}

NODE_CASE(wrong_children)
{
	static const struct cop_supervisor top = { .name = "top" };
	char long_id[100];
	cop_pid sup = sup_started(&top);
	struct cop_child c = { .id = NULL, .run = runs };

	memset(long_id, 'i', sizeof long_id);
	long_id[65] = '\0';
	EXPECT_START(sup, &c, "missing_id");
	c.id = "";
	EXPECT_START(sup, &c, "missing_id");
	c.id = long_id;
	EXPECT_START(sup, &c, "invalid_id");
	T_CHECK(cop_supervisor_terminate_child(cop_to(sup), long_id) < 0 && errno == ENOENT);
	c = (struct cop_child){ .id = "a" };
	EXPECT_START(sup, &c, "missing_start");
	c = (struct cop_child){ .id = "a", .run = runs, .restart = 7 };
	EXPECT_START(sup, &c, "invalid_restart_type");
	c = (struct cop_child){ .id = "a", .run = runs, .shutdown_ms = -9 };
	EXPECT_START(sup, &c, "invalid_shutdown");
	c = (struct cop_child){ .id = "a", .run = (cop_proc_f *)(uintptr_t)0x10 }; /* no function of the program */
	EXPECT_START(sup, &c, "invalid_child_spec");
	c = (struct cop_child){ .id = "a", .run = runs, .name = "a\nb" };
	EXPECT_START(sup, &c, "bad_name");
	long_id[64] = '\0';
	c = (struct cop_child){ .id = long_id, .run = runs };
	T_EQ_INT(cop_supervisor_start_child(cop_to(sup), &c, &(struct cop_started){ .pid = { 0 } }), COP_STARTED);
	T_EQ_INT(cop_supervisor_terminate_child(cop_to(sup), long_id), 0);
	T_EQ_INT(counts_of(sup).specs, 1);
}

/* --- the child API --- */

NODE_CASE(the_life_of_a_child)
{
	static const struct cop_supervisor top = { .name = "top" };
	cop_pid sup = sup_started(&top), pid;
	struct cop_child c = a_server("a", "a");
	struct cop_started s;

	T_EQ_INT(cop_supervisor_start_child(cop_to(sup), &c, &s), COP_STARTED);
	pid = s.pid;
	T_CHECK(cop_is_alive(pid));
	T_EQ_INT(cop_supervisor_start_child(cop_to(sup), &c, &s), COP_NOT_STARTED);
	T_EQ_INT(errno, EEXIST);
	T_EQ_STR(text_of(s.reason), "already_started");
	T_CHECK(cop_pid_is(s.pid, pid));
	T_EQ_INT(cop_supervisor_restart_child(cop_to(sup), "a", &s), COP_NOT_STARTED);
	T_EQ_INT(errno, EBUSY);
	T_CHECK(cop_supervisor_delete_child(cop_to(sup), "a") < 0 && errno == EBUSY);
	T_EQ_INT(cop_supervisor_terminate_child(cop_to(sup), "a"), 0);
	T_CHECK(!cop_is_alive(pid));
	T_EQ_INT(cop_supervisor_terminate_child(cop_to(sup), "a"), 0); /* 87 */
	T_EQ_INT(info_of(sup, "a").state, COP_CHILD_UNDEFINED);
	EXPECT_START(sup, &c, "already_present");
	T_EQ_INT(cop_supervisor_restart_child(cop_to(sup), "a", &s), COP_STARTED);
	T_CHECK(!cop_pid_is(s.pid, pid) && cop_is_alive(s.pid));
	T_EQ_INT(cop_supervisor_terminate_child(cop_to(sup), "a"), 0);
	T_EQ_INT(cop_supervisor_delete_child(cop_to(sup), "a"), 0);
	T_CHECK(cop_supervisor_delete_child(cop_to(sup), "a") < 0 && errno == ENOENT);
	T_EQ_INT(cop_supervisor_restart_child(cop_to(sup), "a", &s), COP_NOT_STARTED);
	T_EQ_INT(errno, ENOENT);
	T_EQ_INT(starts_of('a'), 2);
	T_CHECK(cop_supervisor_terminate_pid(cop_to(sup), pid) < 0 && errno == ENOENT);
}

NODE_CASE(failing_and_ignoring)
{
	static const struct cop_supervisor top = { .name = "top" };
	cop_pid sup = sup_started(&top);
	struct cop_child fails = a_server("f", "f!"), ignores = a_server("i", "i?"), t = a_server("t", "t?");
	struct cop_started s;

	atomic_store(&rig->count, 1);
	EXPECT_START(sup, &fails, "oops");
	T_EQ_INT(counts_of(sup).specs, 0);
	T_EQ_INT(cop_supervisor_start_child(cop_to(sup), &ignores, &s), COP_IGNORED); /* 90 */
	T_EQ_INT(info_of(sup, "i").state, COP_CHILD_UNDEFINED);
	t.restart = COP_TEMPORARY;
	T_EQ_INT(cop_supervisor_start_child(cop_to(sup), &t, &s), COP_IGNORED);
	T_EQ_INT(counts_of(sup).specs, 1);
	T_EQ_INT(cop_supervisor_restart_child(cop_to(sup), "i", &s), COP_IGNORED);
}

NODE_CASE(restarts)
{
	static const struct cop_child children[] = {
		{ .id = "a", .server = &worker, .name = "a", .arg = "a", .arg_size = 2 },
		{ .id = "b", .server = &worker, .name = "b", .arg = "b", .arg_size = 2, .restart = COP_TRANSIENT },
		{ .id = "c", .server = &worker, .name = "c", .arg = "c", .arg_size = 2, .restart = COP_TEMPORARY },
	};
	static const struct cop_supervisor top = { .children = children, .n_children = 3, .max_restarts = 10 };
	cop_pid sup = sup_started(&top);

	(void)!cop_server_call(cop_named("a"), 3, NULL, 0, RIG_MS, NULL);
	EVENTUALLY(starts_of('a') == 2);
	kill(cop_os_pid(cop_whereis("b")), SIGSEGV);
	EVENTUALLY(starts_of('b') == 2 && cop_whereis("b").id);
	(void)!cop_server_call(cop_named("b"), 3, NULL, 0, RIG_MS, NULL);
	EVENTUALLY(info_of(sup, "b").state == COP_CHILD_UNDEFINED);
	(void)!cop_server_call(cop_named("c"), 2, NULL, 0, RIG_MS, NULL);
	EVENTUALLY(counts_of(sup).specs == 2);
	T_EQ_INT(starts_of('a') * 100 + starts_of('b') * 10 + starts_of('c'), 221);
}

NODE_CASE(too_many_restarts)
{
	static const struct cop_child children[] = { { .id = "x", .exec = quits } };
	static const struct cop_supervisor top = { .children = children, .n_children = 1 };
	cop_pid sup;

	cop_trap_exit(true);
	sup = sup_started(&top);
	EXPECT_EXIT(sup, "shutdown");
	EXPECT_NOTHING();
}

NODE_CASE(calls_of_no_supervisor)
{
	struct cop_child c = a_server("a", "a");
	struct cop_started s;
	struct cop_child_counts counts;

	T_EQ_INT(cop_supervisor_start_child(cop_named("nobody"), &c, &s), COP_NOT_STARTED);
	T_EQ_INT(errno, ESRCH);
	T_CHECK(cop_supervisor_terminate_child(cop_to(COP_NOPID), "a") < 0 && errno == ESRCH);
	T_CHECK(cop_supervisor_which_children(cop_named("nobody"), NULL, 0) < 0);
	T_CHECK(cop_supervisor_count_children(cop_named("nobody"), &counts) < 0);
}

/* --- dynamic --- */

NODE_CASE(dynamic)
{
	static const struct cop_supervisor top = { .dynamic = true, .max_children = 3 };
	cop_pid sup = sup_started(&top), p[3];
	struct cop_child c = a_server("same", "a");
	struct cop_started s;
	int i;

	c.restart = COP_TEMPORARY;
	for (i = 0; i < 3; i++) {
		T_EQ_INT(cop_supervisor_start_child(cop_to(sup), &c, &s), COP_STARTED);
		p[i] = s.pid;
	}
	T_EQ_INT(cop_supervisor_start_child(cop_to(sup), &c, &s), COP_NOT_STARTED);
	T_EQ_INT(errno, EOVERFLOW);
	T_EQ_STR(text_of(s.reason), "max_children");
	T_CHECK(cop_supervisor_terminate_child(cop_to(sup), "same") < 0 && errno == ENOENT);
	T_EQ_INT(cop_supervisor_terminate_pid(cop_to(sup), p[1]), 0);
	T_CHECK(cop_supervisor_terminate_pid(cop_to(sup), p[1]) < 0 && errno == ENOENT);
	T_CHECK(cop_supervisor_terminate_pid(cop_to(sup), cop_self()) < 0 && errno == ENOENT);
	cop_kill(p[0]);
	EVENTUALLY(counts_of(sup).specs == 1);
	T_EQ_INT(cop_supervisor_start_child(cop_to(sup), &c, &s), COP_STARTED);
}

NODE_CASE(thousands)
{
	enum { N = 1000 / RIG_HEAVY };
	static const struct cop_supervisor top = { .dynamic = true };
	struct cop_child c = { .id = "x", .run = runs, .restart = COP_TEMPORARY };
	cop_pid sup = sup_started(&top);
	struct cop_started s;
	int i;

	for (i = 0; i < N; i++)
		T_CHECK(cop_supervisor_start_child(cop_to(sup), &c, &s) == COP_STARTED);
	T_EQ_INT(counts_of(sup).active, N);
	T_EQ_INT(cop_supervisor_which_children(cop_to(sup), NULL, 0), N);
	T_EQ_INT(cop_server_stop(cop_to(sup), NULL, RIG_MS, NULL), 0);
}

/* --- executables --- */

NODE_CASE(what_cannot_be_executed)
{
	static const struct cop_supervisor top = { .name = "top" };
	const char *const nothing[] = { NULL };
	char path[] = "/tmp/coppice-test-XXXXXX";
	const char *const text[] = { path, NULL };
	cop_pid sup = sup_started(&top);
	struct cop_child c = { .id = "x", .exec = missing };
	int fd = mkstemp(path);

	close(fd);
	EXPECT_START(sup, &c, "exec:ENOENT");
	c.exec = no_program;
	EXPECT_START(sup, &c, "exec:EACCES");
	c.exec = text;
	chmod(path, 0);
	EXPECT_START(sup, &c, "exec:EACCES");
	c.exec = nothing;
	EXPECT_START(sup, &c, "invalid_start");
	unlink(path);
	T_EQ_INT(counts_of(sup).specs, 0);
	EXPECT_NOTHING();
}

NODE_CASE(an_executable_that_cannot_start_ends_the_supervisor)
{
	static const struct cop_child children[] = { { .id = "a", .server = &worker, .name = "a" },
		{ .id = "x", .exec = missing } };
	static const struct cop_supervisor top = { .children = children, .n_children = 2 };
	struct cop_started s;

	cop_trap_exit(true);
	T_EQ_INT(cop_supervisor_start_link(&top, &s), COP_NOT_STARTED);
	T_EQ_STR(text_of(s.reason), "shutdown:failed_to_start_child");
	T_EQ_INT(cop_whereis("a").id, 0);
}

/* A7 */
NODE_CASE(an_executable_that_ignores_term)
{
	static const struct cop_supervisor top = { .name = "top" };
	struct cop_child c = { .id = "x", .exec = stubborn, .shutdown_ms = 200 };
	cop_pid sup = sup_started(&top);
	struct cop_started s;
	int os;
	int64_t t;

	T_EQ_INT(cop_supervisor_start_child(cop_to(sup), &c, &s), COP_STARTED);
	os = info_of(sup, "x").os_pid;
	cop_sleep(100); /* until it has said what it ignores */
	t = now_ms();
	T_EQ_INT(cop_supervisor_terminate_child(cop_to(sup), "x"), 0);
	t = now_ms() - t;
	T_CHECK(t >= 199 && t < 5000);
	T_CHECK(kill(os, 0) < 0);
	EVENTUALLY(kill(-os, 0) < 0); /* and its group, as soon as who got it has reaped it */
}

NODE_CASE(a_stopped_executable)
{
	static const struct cop_child children[] = { { .id = "x", .exec = sleeper } };
	static const struct cop_supervisor top = { .children = children, .n_children = 1 };
	cop_pid sup = sup_started(&top);
	int64_t t = now_ms();

	kill(info_of(sup, "x").os_pid, SIGSTOP);
	T_EQ_INT(cop_supervisor_terminate_child(cop_to(sup), "x"), 0);
	T_CHECK(now_ms() - t < 4000);
}

NODE_CASE(an_executables_surroundings)
{
	static const char *const looks[] = { "sh", "-c",
		"grep -q '^SigBlk:.*0000000000000000$' /proc/self/status && grep -q '^SigIgn:.*0000000000000000$' /proc/self/status "
		"|| exit 5; ls /proc/self/fd | wc -l | grep -q '^[ ]*4$' || exit 6; exit 0", NULL };
	static const struct cop_child children[] = { { .id = "a", .server = &worker }, { .id = "b", .exec = sleeper } };
	static const struct cop_supervisor top = { .children = children, .n_children = 2 };
	struct cop_child c = { .id = "x", .exec = looks, .restart = COP_TRANSIENT };
	cop_pid sup = sup_started(&top);
	struct cop_started s;

	T_EQ_INT(cop_supervisor_start_child(cop_to(sup), &c, &s), COP_STARTED);
	EVENTUALLY(info_of(sup, "x").state == COP_CHILD_UNDEFINED);
}

/* --- shutdown --- */

NODE_CASE(shutdown_times)
{
	static const struct {
		int32_t shutdown_ms;
		int64_t least, most;
	} t[] = { { 100, 99, 3000 }, { COP_SHUTDOWN_BRUTAL_KILL, 0, 1500 }, { COP_SHUTDOWN_AT_ONCE, 0, 1500 } };
	static const struct cop_supervisor top = { .name = "top" };
	cop_pid sup = sup_started(&top);
	size_t i;

	for (i = 0; i < 3; i++) {
		struct cop_child c = { .id = "t", .run = traps, .shutdown_ms = t[i].shutdown_ms };
		struct cop_started s;
		int64_t from;

		T_EQ_INT(cop_supervisor_start_child(cop_to(sup), &c, &s), COP_STARTED);
		cop_sleep(20);
		from = now_ms();
		T_EQ_INT(cop_supervisor_terminate_child(cop_to(sup), "t"), 0);
		from = now_ms() - from;
		T_CHECK(from >= t[i].least && from <= t[i].most);
		T_EQ_INT(cop_supervisor_delete_child(cop_to(sup), "t"), 0);
	}
}

/* A child whose init never ends does not make its supervisor immortal. */
static const struct cop_child hanging[] = { { .id = "h", .server = &worker, .arg = "hh", .arg_size = 3 } };
static const struct cop_supervisor hangs = { .children = hanging, .n_children = 1 };
static const struct cop_child outer[] = { { .id = "n", .supervisor = &hangs } };
static const struct cop_supervisor hangs_below = { .children = outer, .n_children = 1 };

static void starts_what_hangs(void *arg)
{
	struct cop_started s;

	(void)!cop_supervisor_start_link(arg, &s);
	exit_with("returned");
}

NODE_CASE(an_init_without_end)
{
	cop_ref ref;
	cop_pid p = spawned_monitor(starts_what_hangs, &hangs_below, &ref);

	EVENTUALLY(starts_of('h') == 1);
	send_exit(p, "oops");
	EXPECT_DOWN(ref, "oops");
	/* the supervisors are linked to it, and end; what they leave is killed with them, in 5 s and some */
}

/* --- partitions --- */

NODE_CASE(partitions)
{
	static const struct cop_child child = { .id = "p", .server = &worker };
	static const struct cop_supervisor parts = { .name = "parts", .children = &child, .n_children = 1, .partitions = 4 };
	cop_pid sup = sup_started(&parts), old;
	int32_t n = -1;
	uint64_t k;

	T_EQ_INT(cop_partition_count("parts"), 4);
	for (k = 0; k < 12; k++) {
		cop_pid p = cop_partition_of("parts", k);

		T_CHECK(p.id != 0);
		T_EQ_INT(cop_server_ask(cop_to(p), 1, NULL, 0, &n, sizeof n, RIG_MS, NULL), 0);
		T_EQ_INT(n, k % 4);
	}
	T_EQ_INT(cop_partition(), -1);
	T_CHECK(cop_partition_of("parts", UINT64_MAX).id != 0);
	T_EQ_INT(cop_partition_hash("abc", 3), cop_partition_hash("abc", 3));
	T_CHECK(cop_partition_hash("abc", 3) != cop_partition_hash("abd", 3));
	old = cop_partition_of("parts", 2);
	cop_kill(old);
	EVENTUALLY(cop_partition_of("parts", 2).id != 0 && !cop_pid_is(cop_partition_of("parts", 2), old));
	T_EQ_INT(counts_of(sup).workers, 4);
	T_EQ_INT(cop_partition_count("nobody"), 0);
	T_EQ_INT(cop_partition_of("nobody", 1).id, 0);
	T_EQ_INT(cop_server_stop(cop_to(sup), NULL, RIG_MS, NULL), 0);
	T_EQ_INT(cop_partition_of("parts", 1).id, 0);
}

NODE_CASE(a_partition_for_each_processor)
{
	static const struct cop_child child = { .id = "p", .run = runs };
	static const struct cop_supervisor parts = { .name = "parts", .children = &child, .n_children = 1,
		.partitions = COP_ONLINE };

	(void)sup_started(&parts);
	T_EQ_INT(cop_partition_count("parts"), sysconf(_SC_NPROCESSORS_ONLN));
}

/* --- what is not to be had --- */

NODE_CASE_WITH(no_processes, .max_processes = 6)
{
	static const struct cop_supervisor top = { .dynamic = true };
	cop_pid sup = sup_started(&top);
	struct cop_child c = { .id = "x", .run = runs, .restart = COP_TEMPORARY };
	struct cop_started s;
	int i, n, round;

	for (round = 0; round < 10; round++) {
		cop_pid p[6];

		for (n = 0; n < 6 && cop_supervisor_start_child(cop_to(sup), &c, &s) == COP_STARTED; n++)
			p[n] = s.pid;
		T_EQ_INT(n, 3);
		T_EQ_STR(text_of(s.reason), "exec:EAGAIN");
		for (i = 0; i < n; i++)
			T_EQ_INT(cop_supervisor_terminate_pid(cop_to(sup), p[i]), 0);
	}
	T_EQ_INT(counts_of(sup).specs, 0);
}

static void limits_descriptors(void *arg)
{
	static const struct cop_supervisor inner = { .name = "inner" };
	static const struct cop_supervisor top = { .name = "top" };
	struct rlimit lim = { 1024, 1024 }, few;
	struct cop_child x = { .id = "x", .exec = sleeper }, n = { .id = "n", .supervisor = &inner };
	cop_pid sup = sup_started(&top);
	struct cop_started s;
	int round;

	(void)arg;
	for (round = 0; round < 5; round++) {
		few = (struct rlimit){ 3, 1024 };
		T_REQUIRE(prlimit(cop_os_pid(sup), RLIMIT_NOFILE, &few, NULL) == 0);
		EXPECT_START(sup, &x, "exec:EMFILE");
		EXPECT_START(sup, &n, "exec:EMFILE");
		T_REQUIRE(prlimit(cop_os_pid(sup), RLIMIT_NOFILE, &lim, NULL) == 0);
		T_EQ_INT(cop_supervisor_start_child(cop_to(sup), &x, &s), COP_STARTED);
		T_EQ_INT(cop_supervisor_start_child(cop_to(sup), &n, &s), COP_STARTED);
		few = (struct rlimit){ 3, 1024 };
		T_REQUIRE(prlimit(cop_os_pid(sup), RLIMIT_NOFILE, &few, NULL) == 0);
		T_EQ_INT(cop_supervisor_terminate_child(cop_to(sup), "x"), 0); /* needs none */
		T_EQ_INT(cop_supervisor_terminate_child(cop_to(sup), "n"), 0);
		T_EQ_INT(cop_supervisor_delete_child(cop_to(sup), "x"), 0);
		T_EQ_INT(cop_supervisor_delete_child(cop_to(sup), "n"), 0);
	}
}

NODE_CASE(no_descriptors)
{
	cop_ref ref;

	(void)spawned_monitor(limits_descriptors, NULL, &ref);
	EXPECT_DOWN(ref, "normal");
}

#if !RIG_SANITIZED
NODE_CASE(no_address_space)
{
	static const struct cop_supervisor top = { .dynamic = true };
	struct rlimit lim = { 1 << 20, RLIM_INFINITY }, all = { RLIM_INFINITY, RLIM_INFINITY };
	struct cop_child c = { .id = "x", .run = runs, .restart = COP_TEMPORARY };
	char *big = calloc(1, 1 << 20);
	cop_pid sup = sup_started(&top);
	struct cop_started s;

	c.arg = big;
	c.arg_size = 1 << 20;
	T_REQUIRE(prlimit(cop_os_pid(sup), RLIMIT_AS, &lim, NULL) == 0);
	T_EQ_INT(cop_supervisor_start_child(cop_to(sup), &c, &s), COP_NOT_STARTED);
	T_EQ_INT(errno, ENOMEM);
	T_REQUIRE(prlimit(cop_os_pid(sup), RLIMIT_AS, &all, NULL) == 0);
	T_EQ_INT(cop_supervisor_start_child(cop_to(sup), &c, &s), COP_STARTED);
	free(big);
}
#endif

NODE_CASE_WITH(little_memory, .memory = 1 << 20)
{
	static const struct cop_supervisor top = { .dynamic = true };
	struct cop_child c = { .id = "x", .run = runs, .restart = COP_TEMPORARY };
	char *big = calloc(1, 2 << 20);
	cop_pid sup = sup_started(&top);
	struct cop_started s;

	c.arg = big;
	c.arg_size = 2 << 20;
	T_EQ_INT(cop_supervisor_start_child(cop_to(sup), &c, &s), COP_NOT_STARTED);
	T_EQ_INT(errno, ENOMEM);
	c.arg_size = 1000;
	T_EQ_INT(cop_supervisor_start_child(cop_to(sup), &c, &s), COP_STARTED);
	free(big);
}

/* --- trees as applications --- */

static const struct cop_child mixed_inner[] = {
	{ .id = "t", .server = &worker, .arg = "tt", .arg_size = 3 }, { .id = "x", .exec = parent_of_two },
};
static const struct cop_supervisor mixed_nested = { .name = "inner", .children = mixed_inner, .n_children = 2 };
static const struct cop_child mixed[] = {
	{ .id = "s", .server = &worker, .name = "s" }, { .id = "n", .supervisor = &mixed_nested },
	{ .id = "e", .exec = sleeper }, { .id = "r", .run = runs, .arg = "r", .arg_size = 2 },
};
static const struct cop_supervisor tree = { .name = "tree", .children = mixed, .n_children = 4 };

static pid_t tree_aside(const struct cop_supervisor *top)
{
	static const struct cop_node_options quiet = { .quiet = true };
	pid_t pid;

	rig_open();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(cop_run_tree(&quiet, top));
	return pid;
}

static int exit_of(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

T_CASE(a_tree_that_is_asked_to_end)
{
	static const int sig[] = { SIGTERM, SIGINT, SIGQUIT };
	size_t i;

	for (i = 0; i < 3; i++) {
		pid_t root = tree_aside(&tree);

		EVENTUALLY(starts_of('r') == (int)i + 1);
		kill(root, sig[i]);
		T_EQ_INT(exit_of(all_ended(root, 10000)), 0);
	}
}

T_CASE(a_tree_that_cannot_start)
{
	static const struct cop_child children[] = { { .id = "x", .exec = missing } };
	static const struct cop_supervisor top = { .children = children, .n_children = 1 };
	static const struct cop_child dup[] = { { .id = "a", .run = runs }, { .id = "a", .run = runs } };
	static const struct cop_supervisor wrong = { .children = dup, .n_children = 2 };
	pid_t root = tree_aside(&top);

	T_EQ_INT(exit_of(all_ended(root, 10000)), 1);
	root = tree_aside(&wrong);
	T_EQ_INT(exit_of(all_ended(root, 10000)), 1);
}

T_CASE(a_tree_that_gives_up)
{
	static const struct cop_child children[] = { { .id = "x", .exec = quits } };
	static const struct cop_supervisor top = { .children = children, .n_children = 1 };
	pid_t root = tree_aside(&top);

	T_EQ_INT(exit_of(all_ended(root, 10000)), 1);
}

T_CASE(a_second_request_kills)
{
	static const struct cop_child children[] = { { .id = "t", .run = traps, .shutdown_ms = COP_SHUTDOWN_INFINITY },
		{ .id = "r", .run = runs, .arg = "r", .arg_size = 2 } };
	static const struct cop_supervisor top = { .children = children, .n_children = 2 };
	pid_t root = tree_aside(&top);

	EVENTUALLY(starts_of('r') == 1);
	nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
	kill(root, SIGTERM);
	nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
	kill(root, SIGTERM);
	T_EQ_INT(exit_of(all_ended(root, 10000)), 137);
}

/* B3: whoever is killed, nothing of the tree is left running. */
T_CASE(the_root_is_killed)
{
	pid_t root = tree_aside(&tree);

	EVENTUALLY(starts_of('r') == 1);
	kill(root, SIGKILL);
	T_EQ_INT(exit_of(all_ended(root, 9000)), 1000 + SIGKILL);
}

static bool is_called(pid_t pid, const char *name)
{
	char path[40], comm[32] = "";
	FILE *f;

	snprintf(path, sizeof path, "/proc/%d/comm", (int)pid);
	f = fopen(path, "r");
	if (f) {
		(void)!fgets(comm, sizeof comm, f);
		fclose(f);
	}
	comm[strcspn(comm, "\n")] = '\0';
	return strcmp(comm, name) == 0;
}

/* The youngest child of a process, the parent's name and the child's as `ps` has them. What a supervisor forks has
 * its name until it executes, and comes to the supervisor's parent when the supervisor is killed, for an instant. */
static pid_t find_child(const char *parent, const char *name)
{
	char path[300], line[400], want[40];
	pid_t found = 0, ppid;
	struct dirent *e;
	const char *at;
	FILE *f;
	DIR *d = opendir("/proc");

	snprintf(want, sizeof want, " (%s) ", name);
	while (d && (e = readdir(d))) {
		if (atoi(e->d_name) <= 0)
			continue;
		snprintf(path, sizeof path, "/proc/%s/stat", e->d_name);
		f = fopen(path, "r");
		if (!f)
			continue;
		at = fgets(line, sizeof line, f) ? strstr(line, want) : NULL;
		fclose(f);
		ppid = at ? atoi(at + strlen(want) + 2) : 0; /* behind its state */
		if (ppid > 0 && (!parent || is_called(ppid, parent)) && atoi(e->d_name) > found)
			found = atoi(e->d_name);
	}
	closedir(d);
	return found > 0 ? found : INT_MAX; /* nobody */
}

static char inner_name[16], top_name[16]; /* nobody else's in `ps` */
static const struct cop_supervisor unique_nested = { .name = inner_name, .children = mixed_inner, .n_children = 2 };
static const struct cop_child unique_children[] = {
	{ .id = "n", .supervisor = &unique_nested }, { .id = "r", .run = runs, .arg = "r", .arg_size = 2 },
};
static const struct cop_supervisor unique = { .name = top_name, .children = unique_children, .n_children = 2,
	.max_restarts = 5 };

static pid_t unique_tree(void)
{
	pid_t root;

	snprintf(inner_name, sizeof inner_name, "inner-%d", (int)getpid());
	snprintf(top_name, sizeof top_name, "top-%d", (int)getpid());
	root = tree_aside(&unique);
	EVENTUALLY(starts_of('r') == 1);
	return root;
}

T_CASE(a_supervisor_is_killed)
{
	pid_t root = unique_tree();
	int i;

	for (i = 2; i < 5; i++) {
		kill(find_child(top_name, inner_name), SIGKILL);
		EVENTUALLY(starts_of('t') == i);
		EVENTUALLY(find_child(top_name, inner_name) < INT_MAX);
	}
	kill(root, SIGTERM);
	T_EQ_INT(exit_of(all_ended(root, 15000)), 0);
}

T_CASE(the_top_supervisor_is_killed)
{
	pid_t root = unique_tree();

	kill(find_child(NULL, top_name), SIGKILL);
	T_EQ_INT(exit_of(all_ended(root, 15000)), 1);
}

/* --- surprises --- */

/* Blocks all signals, and sees its parent's death before it reads on. */
static struct cop_next outlives_its_parent(void *state, const struct cop_msg *m)
{
	pid_t parent = getppid();
	sigset_t all;

	(void)state;
	(void)m;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	atomic_store(&rig->flag[0], 1);
	EVENTUALLY(getppid() != parent);
	return cop_ok();
}

static struct cop_next trapping_init(void *state, const void *arg, size_t size)
{
	(void)state;
	(void)arg;
	(void)size;
	cop_trap_exit(true);
	return cop_ok();
}

static void says_that_it_terminates(void *state, const struct cop_exit *why)
{
	(void)state;
	T_EQ_STR(text_of(*why), "killed");
	atomic_store(&rig->flag[1], 1);
}

NODE_CASE(the_parents_death_with_all_signals_blocked)
{
	static const struct cop_server_ops ops = { .init = trapping_init, .handle_cast = outlives_its_parent,
		.terminate = says_that_it_terminates };
	static const struct cop_child children[] = { { .id = "s", .server = &ops, .name = "s" } };
	static const struct cop_supervisor top = { .children = children, .n_children = 1 };
	cop_pid sup;

	cop_trap_exit(true);
	sup = sup_started(&top);
	T_EQ_INT(cop_server_cast(cop_named("s"), 1, NULL, 0), 0);
	EVENTUALLY(atomic_load(&rig->flag[0]));
	cop_kill(sup);
	EVENTUALLY(atomic_load(&rig->flag[1]));
}

/* Nobody gets more memory than he has, until this one has ended. */
static void uses_up_memory(void *arg)
{
	static const size_t sizes[] = { 30000, 3000, 200, 100, 0 };
	char buf[30000] = "";
	size_t i;

	(void)arg;
	for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		while (cop_send(cop_to(cop_self()), 1, buf, sizes[i]) == 0)
			;
		T_EQ_INT(errno, ENOMEM);
	}
	atomic_store(&rig->flag[31], 1);
	waits(NULL);
}

static cop_pid memory_used_up(void)
{
	cop_pid user = spawned(uses_up_memory, NULL);

	EVENTUALLY(atomic_load(&rig->flag[31]));
	return user;
}

/* Those who call have room for a question, the supervisor none for the answer. */
NODE_CASE_WITH(no_memory_for_an_answer, .memory = 1 << 20)
{
	static const struct cop_child children[] = { { .id = "a", .run = runs }, { .id = "b", .run = runs } };
	static const struct cop_supervisor top = { .children = children, .n_children = 2 };
	struct cop_child_info info[2];
	cop_pid sup, user;

	cop_trap_exit(true);
	sup = sup_started(&top);
	T_EQ_INT(counts_of(sup).active, 2); /* both have small nodes now */
	user = memory_used_up();
	T_CHECK(cop_supervisor_which_children(cop_to(sup), info, 2) < 0 && errno == ENOMEM);
	T_CHECK(cop_is_alive(sup));
	T_EQ_INT(counts_of(sup).active, 2);
	cop_kill(user);
	EVENTUALLY(cop_supervisor_which_children(cop_to(sup), info, 2) == 2);
	T_EQ_INT(cop_queue_len(), 0);
}

static void asks_and_asks(void *arg)
{
	cop_pid sup = *(cop_pid *)arg;

	for (;;)
		(void)counts_of(sup);
}

/* Deaths are not kept waiting by those who ask, however many they are. */
NODE_CASE(a_restart_among_callers)
{
	static const struct cop_child children[] = { { .id = "s", .run = runs, .name = "s", .arg = "s", .arg_size = 2 } };
	static const struct cop_supervisor top = { .children = children, .n_children = 1, .max_restarts = 10 };
	cop_pid sup = sup_started(&top);
	int i;

	for (i = 0; i < 20; i++)
		(void)spawned(asks_and_asks, &sup);
	for (i = 1; i < 4; i++) {
		EVENTUALLY(starts_of('s') == i);
		kill(cop_os_pid(cop_whereis("s")), SIGKILL);
	}
	EVENTUALLY(starts_of('s') == 4);
}

static void asks_to_terminate(void *arg)
{
	cop_pid sup = *(cop_pid *)arg;

	T_CHECK(cop_supervisor_terminate_child(cop_to(sup), "x") < 0 && errno == ENOENT); /* it has nodes for this now */
	tell(cop_parent(), 1);
	EVENTUALLY(atomic_load(&rig->flag[0]));
	(void)!cop_supervisor_terminate_child(cop_to(sup), "s"); /* there may be no memory to answer, too */
}

static struct cop_next traps_init(void *state, const void *arg, size_t size)
{
	(void)state;
	(void)arg;
	(void)size;
	cop_trap_exit(true);
	return cop_ok();
}

static void looks_at_nothing(void *arg)
{
	(void)arg;
	EVENTUALLY(atomic_load(&rig->flag[1]));
}

/* So many answers of a supervisor lie with one who does not take them in that it has no small node left, whatever it
 * gives up for them. */
static void use_up_small_nodes(cop_pid sup, cop_pid asker)
{
	struct seg_node *n;
	int i;

	for (i = 0; i < 1040; i++) {
		n = NULL;
		EVENTUALLY(n || (n = proc_node(0, COP_NOWAIT)));
		T_REQUIRE(n);
		n->from = asker.id;
		n->ref = 1;
		n->tag = SUPERVISOR_COUNT_CHILDREN;
		atomic_store(&n->kind, NODE_CALL);
		T_CHECK(proc_send(sup.id, n, false, 0) == PROC_SENT);
	}
}

/* A child that may take all the time there is to end in is asked as soon as there is memory for it. */
NODE_CASE_WITH(no_memory_to_ask_a_child_to_end, .memory = 1 << 20)
{
	static const struct cop_server_ops traps = { .init = traps_init };
	static const struct cop_child children[] = {
		{ .id = "s", .server = &traps, .name = "s", .shutdown_ms = COP_SHUTDOWN_INFINITY },
	};
	static const struct cop_supervisor top = { .children = children, .n_children = 1 };
	cop_pid sup = sup_started(&top), asker = spawned(looks_at_nothing, NULL), user;
	cop_ref ref = monitored(cop_whereis("s"));

	(void)spawned(asks_to_terminate, &sup);
	EXPECT_TAG(1);
	T_EQ_INT(counts_of(sup).active, 1); /* and we small ones */
	user = memory_used_up();
	use_up_small_nodes(sup, asker);
	atomic_store(&rig->flag[0], 1);
	cop_sleep(50);
	cop_kill(user);
	EXPECT_DOWN(ref, "shutdown");
	atomic_store(&rig->flag[1], 1);
}

#if RIG_SANITIZED
#define NO_ADDRESS_SPACE
#else
#define NO_ADDRESS_SPACE T_RUN(no_address_space),
#endif

T_MAIN(T_RUN(children_of_all_kinds), T_RUN(no_children), T_RUN(wrong_from_the_start), T_RUN(wrong_children),
    T_RUN(the_life_of_a_child), T_RUN(failing_and_ignoring), T_RUN(restarts), T_RUN(too_many_restarts),
    T_RUN(calls_of_no_supervisor), T_RUN(dynamic), T_RUN(thousands), T_RUN(what_cannot_be_executed),
    T_RUN(an_executable_that_cannot_start_ends_the_supervisor), T_RUN(an_executable_that_ignores_term),
    T_RUN(a_stopped_executable), T_RUN(an_executables_surroundings), T_RUN(shutdown_times), T_RUN(an_init_without_end),
    T_RUN(partitions), T_RUN(a_partition_for_each_processor), T_RUN(no_processes), T_RUN(no_descriptors),
    NO_ADDRESS_SPACE T_RUN(little_memory), T_RUN(a_tree_that_is_asked_to_end), T_RUN(a_tree_that_cannot_start),
    T_RUN(a_tree_that_gives_up), T_RUN(a_second_request_kills), T_RUN(the_root_is_killed),
    T_RUN(a_supervisor_is_killed), T_RUN(the_top_supervisor_is_killed),
    T_RUN(the_parents_death_with_all_signals_blocked), T_RUN(no_memory_for_an_answer), T_RUN(a_restart_among_callers),
    T_RUN(no_memory_to_ask_a_child_to_end))
