/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Tasks, and tasks under a supervisor: OTP's cases of task_test and supervisor_test, and what only bytes do wrong. */
#include "node_rig.h"

static int here; /* what a copy of our memory has, and a supervisor's has not */

static struct cop_result number(const void *arg, size_t size)
{
	int64_t n = 0;

	T_EQ_INT(size, sizeof n);
	memcpy(&n, arg, sizeof n);
	n *= 2;
	return cop_return(&n, sizeof n);
}

static struct cop_result says_here(const void *arg, size_t size)
{
	(void)arg;
	(void)size;
	return cop_return_tag(7, &here, sizeof here);
}

/* Does what a text says: "exit:REASON", "sleep", "big", "trap", "stubborn", or that is its value. */
static struct cop_result does(const void *arg, size_t size)
{
	const char *what = arg;
	void *data;

	(void)size;
	if (strncmp(what, "exit:", 5) == 0)
		exit_with(what + 5);
	if (strcmp(what, "sleep") == 0)
		waits(NULL);
	if (strcmp(what, "segv") == 0)
		raise(SIGSEGV);
	if (strcmp(what, "trap") == 0) {
		struct cop_msg m;

		cop_trap_exit(true);
		tell(cop_parent(), 5);
		if (cop_receive(&m, NULL, NULL, COP_INFINITY) == 1 && m.kind == COP_MSG_EXIT)
			cop_exit(&m.reason);
	}
	if (strcmp(what, "stubborn") == 0) {
		cop_trap_exit(true);
		tell(cop_parent(), 5);
		waits(NULL);
	}
	if (strcmp(what, "late") == 0)
		cop_sleep(150);
	if (strcmp(what, "big") == 0) {
		data = cop_msg_new(300000, 0);
		memset(data, 'b', 300000);
		return cop_return_msg(9, data);
	}
	if (strcmp(what, "too big") == 0)
		return cop_return(what, COP_MSG_MAX + 1);
	if (strcmp(what, "nothing") == 0)
		return cop_return_nothing();
	return cop_return(what, strlen(what));
}

static struct cop_task started(const char *what)
{
	struct cop_task t = { .pid = COP_NOPID };

	T_REQUIRE(cop_task_async(does, what, strlen(what) + 1, &t) == 0);
	return t;
}

#define EXPECT_VALUE(t, text) \
	do { \
		struct cop_response t_r; \
		T_EQ_INT(cop_task_await(&(t), RIG_MS, &t_r), 0); \
		T_CHECK(t_r.msg.len == strlen(text) && memcmp(t_r.msg.data, text, strlen(text)) == 0); \
		cop_response_done(&t_r); \
	} while (0)
#define EXPECT_END(t, text) \
	do { \
		struct cop_response t_r; \
		T_EQ_INT(cop_task_await(&(t), RIG_MS, &t_r), -1); \
		T_EQ_INT(errno, EPIPE); \
		T_EQ_STR(text_of(t_r.reason), text); \
	} while (0)

NODE_CASE(values)
{
	int64_t n = 21, got = 0;
	struct cop_response r;
	struct cop_task t;

	here = 4;
	T_REQUIRE(cop_task_async(number, &n, sizeof n, &t) == 0);
	T_CHECK(cop_pid_is(t.owner, cop_self()));
	T_EQ_INT(cop_task_await(&t, RIG_MS, &r), 0);
	memcpy(&got, r.msg.data, sizeof got);
	T_EQ_INT(got, 42);
	cop_response_done(&r);
	T_REQUIRE(cop_task_async(says_here, NULL, 0, &t) == 0);
	here = 5; /* later: not in its copy */
	T_EQ_INT(cop_task_await(&t, RIG_MS, &r), 0);
	T_EQ_INT(r.msg.tag, 7);
	T_EQ_INT(*(const int *)r.msg.data, 4);
	cop_response_done(&r);
	t = started("big");
	T_EQ_INT(cop_task_await(&t, RIG_MS, &r), 0);
	T_CHECK(r.msg.len == 300000 && r.msg.tag == 9 && ((const char *)r.msg.data)[299999] == 'b');
	cop_response_done(&r);
	t = started("nothing");
	EXPECT_VALUE(t, "");
	t = started("x");
	T_EQ_INT(cop_task_await(&t, RIG_MS, NULL), 0);
	EXPECT_NOTHING();
}

NODE_CASE(a_value_outlives_its_process)
{
	struct cop_task t = started("v");

	EVENTUALLY(cop_os_pid(t.pid) == 0);
	EXPECT_VALUE(t, "v");
	EXPECT_NOTHING();
}

NODE_CASE(ends)
{
	struct cop_task t;

	cop_trap_exit(true);
	t = started("exit:boom");
	EXPECT_END(t, "boom");
	EXPECT_EXIT(t.pid, "boom");
	t = started("exit:normal");
	EXPECT_END(t, "normal");
	EXPECT_EXIT(t.pid, "normal");
	t = started("segv");
	EXPECT_END(t, RIG_SANITIZED ? "signal:ABRT" : "signal:SEGV");
	EXPECT_EXIT(t.pid, RIG_SANITIZED ? "signal:ABRT" : "signal:SEGV");
	t = started("too big");
	EXPECT_END(t, "reply_too_big");
	EXPECT_EXIT(t.pid, "reply_too_big");
	t = started("fine");
	EXPECT_VALUE(t, "fine");
	EXPECT_EXIT(t.pid, "normal"); /* await does not take it */
	EXPECT_NOTHING();
}

static void owner_of_crash(void *arg)
{
	struct cop_task t = started(arg);

	T_CHECK(cop_task_await(&t, RIG_MS, NULL) < 0);
	waits(NULL);
}

NODE_CASE(a_crash_takes_the_owner)
{
	cop_ref ref;

	spawned_monitor(owner_of_crash, "exit:boom", &ref);
	EXPECT_DOWN(ref, "boom");
}

NODE_CASE(late)
{
	struct cop_response r;
	struct cop_task t = started("late");

	T_EQ_INT(cop_task_await(&t, 10, &r), -1);
	T_EQ_INT(errno, ETIMEDOUT);
	T_EQ_STR(text_of(r.reason), "timeout");
	T_CHECK(cop_is_alive(t.pid));
	T_CHECK(gone(t.pid));
	T_EQ_INT(cop_task_yield(&t, 0, &r), 0); /* its answer has vanished */
	EXPECT_NOTHING();
	t = started("late");
	T_EQ_INT(cop_task_yield(&t, 10, &r), 0);
	T_EQ_INT(cop_task_yield(&t, RIG_MS, &r), 1);
	cop_response_done(&r);
	T_EQ_INT(cop_task_yield(&t, 10, &r), 0);
	EXPECT_NOTHING();
}

static void in_another(void *arg)
{
	T_CHECK(freopen("/dev/null", "w", stderr) != NULL);
	T_CHECK(cop_task_yield(arg, 0, NULL) == 0);
}

NODE_CASE(only_the_owner)
{
	struct cop_task t = started("x");
	cop_ref ref;

	spawned_monitor(in_another, &t, &ref);
	EXPECT_DOWN(ref, "signal:ABRT");
	EXPECT_VALUE(t, "x");
}

NODE_CASE(completed)
{
	struct cop_response r;
	struct cop_task t;

	T_REQUIRE(cop_task_completed(3, "abc", 3, &t) == 0);
	EXPECT_VALUE(t, "abc");
	T_EQ_INT(cop_task_await(&t, 10, &r), -1);
	T_EQ_INT(errno, ETIMEDOUT);
	T_REQUIRE(cop_task_completed(3, "abc", 3, &t) == 0);
	T_EQ_INT(cop_task_shutdown(&t, 0, &r), 1);
	T_EQ_INT(r.msg.tag, 3);
	cop_response_done(&r);
	T_REQUIRE(cop_task_completed(3, "abc", 3, &t) == 0);
	T_EQ_INT(cop_task_ignore(&t, &r), 1);
	cop_response_done(&r);
	T_EQ_INT(cop_task_ignore(&t, &r), 0);
	EXPECT_NOTHING();
}

NODE_CASE(shutdown)
{
	struct cop_response r;
	struct cop_task t = started("sleep");
	int64_t since;

	T_EQ_INT(cop_task_shutdown(&t, 5000, &r), 0);
	T_EQ_INT(cop_os_pid(t.pid), 0);
	T_EQ_INT(cop_task_shutdown(&t, 5000, &r), -1);
	T_EQ_STR(text_of(r.reason), "noproc");
	T_EQ_INT(errno, ESRCH);
	t = started("sleep");
	T_EQ_INT(cop_task_shutdown(&t, COP_TASK_BRUTAL_KILL, &r), 0);
	t = started("trap");
	EXPECT_TAG(5);
	T_EQ_INT(cop_task_shutdown(&t, RIG_MS, &r), 0);
	t = started("stubborn");
	EXPECT_TAG(5);
	since = now_ms();
	T_EQ_INT(cop_task_shutdown(&t, 50, &r), -1);
	T_EQ_STR(text_of(r.reason), "killed");
	T_CHECK(now_ms() - since >= 50);
	t = started("stubborn");
	EXPECT_TAG(5);
	T_EQ_INT(cop_task_shutdown(&t, COP_TASK_BRUTAL_KILL, &r), 0);
	t = started("v");
	T_CHECK(gone(t.pid));
	T_EQ_INT(cop_task_shutdown(&t, 5000, &r), 1);
	cop_response_done(&r);
	EXPECT_NOTHING();
	cop_trap_exit(true);
	t = started("trap");
	EXPECT_TAG(5);
	T_EQ_INT(cop_task_shutdown(&t, RIG_MS, &r), 0);
	t = started("sleep");
	T_EQ_INT(cop_task_shutdown(&t, RIG_MS, &r), 0);
	EXPECT_NOTHING(); /* no exit signal either */
}

static void shuts_down_and_dies(void *arg)
{
	struct cop_task t = started("trap");
	cop_pid *pid = arg;

	EXPECT_TAG(5);
	(void)cop_send(cop_to(*pid), 77, &t.pid, sizeof t.pid);
	(void)cop_task_shutdown(&t, RIG_MS, NULL);
	waits(NULL);
}

/* However the owner's death and the request overlap, the task does not stay. */
NODE_CASE(shutdown_and_a_dying_owner)
{
	cop_pid self = cop_self(), task;
	int i;

	for (i = 0; i < 40 / RIG_HEAVY; i++) {
		cop_pid owner = spawned(shuts_down_and_dies, &self);
		struct cop_msg m = rig_await(&(struct rig_want){ COP_MSG_PLAIN, .tag = 77 }, "the task", __LINE__);

		memcpy(&task, m.data, sizeof task);
		cop_msg_done(&m);
		nanosleep(&(struct timespec){ .tv_nsec = i * 5000 }, NULL);
		cop_kill(owner);
		T_CHECK(gone(owner));
		T_CHECK(gone(task));
	}
}

NODE_CASE(ignore)
{
	struct cop_response r;
	struct cop_task t;

	cop_trap_exit(true);
	t = started("late");
	T_EQ_INT(cop_task_ignore(&t, &r), 0);
	T_CHECK(gone(t.pid));
	T_EQ_INT(cop_task_yield(&t, 0, &r), 0);
	EXPECT_NOTHING();
	t = started("v");
	T_CHECK(gone(t.pid));
	T_EQ_INT(cop_task_ignore(&t, &r), 1);
	cop_response_done(&r);
	EXPECT_EXIT(t.pid, "normal"); /* was there before */
	t = started("exit:boom");
	T_CHECK(gone(t.pid));
	T_EQ_INT(cop_task_ignore(&t, &r), -1);
	T_EQ_STR(text_of(r.reason), "boom");
	EXPECT_EXIT(t.pid, "boom");
	EXPECT_NOTHING();
}

NODE_CASE(without_a_value)
{
	cop_pid p;

	cop_trap_exit(true);
	T_REQUIRE(cop_task_start(does, "exit:boom", 10, &p) == 0);
	T_CHECK(gone(p));
	EXPECT_NOTHING();
	T_REQUIRE(cop_task_start_link(does, "v", 2, &p) == 0);
	EXPECT_EXIT(p, "normal");
	EXPECT_NOTHING();
}

/* --- many --- */

NODE_CASE(await_many)
{
	struct cop_response r[200];
	struct cop_task t[200];
	struct cop_exit why;
	int64_t n[200];
	int i;

	for (i = 0; i < 200; i++) {
		n[i] = i;
		T_REQUIRE(cop_task_async(number, &n[i], sizeof n[i], &t[i]) == 0);
	}
	tell(cop_self(), 1); /* other messages are left alone */
	T_EQ_INT(cop_task_await_many(t, 200, RIG_MS, r, NULL), 0);
	for (i = 0; i < 200; i++) {
		T_EQ_INT(*(const int64_t *)r[i].msg.data, 2 * i);
		cop_response_done(&r[i]);
	}
	EXPECT_TAG(1);
	T_EQ_INT(cop_task_await_many(t, 0, 0, r, NULL), 0);
	t[0] = t[2] = started("a");
	t[1] = started("bc");
	T_EQ_INT(cop_task_await_many(t, 3, RIG_MS, r, NULL), 0);
	T_CHECK(r[0].msg.len == 1 && r[1].msg.len == 2 && r[2].msg.len == 1 && *(const char *)r[2].msg.data == 'a');
	for (i = 0; i < 3; i++)
		cop_response_done(&r[i]);
	t[0] = started("a");
	t[1] = started("sleep");
	T_EQ_INT(cop_task_await_many(t, 2, 50, r, &why), -1);
	T_EQ_INT(errno, ETIMEDOUT);
	T_CHECK(cop_is_alive(t[1].pid));
	(void)cop_task_shutdown(&t[1], COP_TASK_BRUTAL_KILL, NULL);
	EXPECT_NOTHING();
	cop_trap_exit(true);
	t[0] = started("sleep");
	t[1] = started("exit:normal");
	T_EQ_INT(cop_task_await_many(t, 2, RIG_MS, r, &why), -1);
	T_EQ_STR(text_of(why), "normal");
	EXPECT_EXIT(t[1].pid, "normal");
	(void)cop_task_shutdown(&t[0], COP_TASK_BRUTAL_KILL, NULL);
	EXPECT_NOTHING();
}

NODE_CASE(yield_many)
{
	struct cop_yield_options o = { .timeout_ms = 100 };
	struct cop_yielded y[3];
	struct cop_task t[3];

	cop_trap_exit(true);
	t[0] = started("v");
	t[1] = started("exit:boom");
	t[2] = started("sleep");
	T_EQ_INT(cop_task_yield_many(t, 3, &o, y), 2);
	T_CHECK(y[0].how == 1 && y[1].how == -1 && y[2].how == 0);
	T_EQ_STR(text_of(y[1].response.reason), "boom");
	cop_response_done(&y[0].response);
	EXPECT_EXIT(t[0].pid, "normal");
	EXPECT_EXIT(t[1].pid, "boom");
	o.on_timeout = COP_YIELD_IGNORE;
	T_EQ_INT(cop_task_yield_many(&t[2], 1, &o, y), 0);
	T_CHECK(cop_is_alive(t[2].pid));
	cop_kill(t[2].pid);
	T_CHECK(gone(t[2].pid));
	t[0] = started("sleep");
	t[1] = started("v");
	o.on_timeout = COP_YIELD_KILL_TASK;
	o.limit = 1;
	T_EQ_INT(cop_task_yield_many(t, 2, &o, y), 1);
	T_CHECK(y[0].how == 0 && y[1].how == 1 && cop_is_alive(t[0].pid)); /* the limit was reached, not the time */
	cop_response_done(&y[1].response);
	EXPECT_EXIT(t[1].pid, "normal");
	o.limit = 5;
	T_EQ_INT(cop_task_yield_many(t, 1, &o, y), 0);
	T_EQ_INT(cop_os_pid(t[0].pid), 0);
	EXPECT_NOTHING();
}

/* --- under a supervisor --- */

static cop_pid task_supervisor(int32_t max)
{
	struct cop_supervisor s = cop_task_supervisor("tasks", max);
	struct cop_started st;

	T_REQUIRE(cop_supervisor_start_link(&s, &st) == COP_STARTED);
	return st.pid;
}

static struct cop_task supervised(const char *what, bool link)
{
	struct cop_task t = { .pid = COP_NOPID };

	T_REQUIRE((link ? cop_task_supervisor_async : cop_task_supervisor_async_nolink)(cop_named("tasks"), does, what,
	    strlen(what) + 1, NULL, &t) == 0);
	return t;
}

NODE_CASE(supervised_tasks)
{
	static char big[200000];
	cop_pid sup, pids[4];
	struct cop_response r;
	struct cop_task t;

	sup = task_supervisor(0);
	here = 9;
	T_REQUIRE(cop_task_supervisor_async(cop_to(sup), says_here, NULL, 0, NULL, &t) == 0);
	T_EQ_INT(cop_task_await(&t, RIG_MS, &r), 0);
	T_EQ_INT(*(const int *)r.msg.data, 0); /* the supervisor's memory, not ours */
	cop_response_done(&r);
	memset(big, 'x', sizeof big - 1);
	t = supervised(big, true); /* what is asked for travels */
	EXPECT_VALUE(t, big);
	t = supervised("exit:boom", false);
	EXPECT_END(t, "boom");
	t = supervised("sleep", false);
	/* the one before may be known to us as dead before its supervisor has buried it */
	EVENTUALLY(cop_task_supervisor_children(cop_to(sup), pids, 4) == 1);
	T_CHECK(cop_pid_is(pids[0], t.pid));
	T_EQ_INT(cop_task_supervisor_terminate_child(cop_to(sup), t.pid), 0);
	T_EQ_INT(cop_task_supervisor_terminate_child(cop_to(sup), t.pid), -1);
	T_EQ_INT(errno, ENOENT);
	T_EQ_INT(cop_task_yield(&t, RIG_MS, &r), -1);
	T_EQ_STR(text_of(r.reason), "shutdown");
	EVENTUALLY(cop_task_supervisor_children(cop_to(sup), NULL, 0) == 0);
	T_EQ_INT(cop_task_supervisor_async(cop_named("nobody"), does, "v", 2, NULL, &t), -1);
	T_EQ_INT(errno, ESRCH);
	EXPECT_NOTHING();
}

NODE_CASE(no_such_supervisor)
{
	struct cop_dest to[] = { cop_named("nobody"), cop_to(COP_NOPID) };
	struct cop_child_counts counts;
	struct cop_started st;
	struct cop_task t;
	size_t i;

	for (i = 0; i < 2; i++) {
		T_CHECK(cop_task_supervisor_children(to[i], NULL, 0) == -1 && errno == ESRCH);
		T_CHECK(cop_supervisor_which_children(to[i], NULL, 0) == -1 && errno == ESRCH);
		T_CHECK(cop_supervisor_count_children(to[i], &counts) == -1 && errno == ESRCH);
		T_CHECK(cop_task_supervisor_terminate_child(to[i], cop_self()) == -1 && errno == ESRCH);
		T_CHECK(cop_task_supervisor_async_nolink(to[i], does, "v", 2, NULL, &t) == -1 && errno == ESRCH);
		T_EQ_INT(cop_task_supervisor_start_child(to[i], does, "v", 2, NULL, &st), COP_NOT_STARTED);
		T_EQ_INT(errno, ESRCH);
	}
	EXPECT_NOTHING();
}

NODE_CASE(limits_of_a_supervisor)
{
	struct cop_task_options o = { .restart = COP_TASK_TRANSIENT, .shutdown_ms = COP_SHUTDOWN_BRUTAL_KILL };
	struct cop_started st;
	struct cop_task t;
	cop_pid sup = task_supervisor(1);
	cop_ref ref;

	T_EQ_INT(cop_task_supervisor_start_child(cop_to(sup), does, "sleep", 6, &o, &st), COP_STARTED);
	T_EQ_INT(cop_task_supervisor_async(cop_to(sup), does, "v", 2, NULL, &t), -1);
	T_EQ_INT(errno, EOVERFLOW);
	T_EQ_INT(cop_task_supervisor_start_child(cop_to(sup), does, "v", 2, NULL, &st), COP_NOT_STARTED);
	T_EQ_STR(text_of(st.reason), "max_children");
	T_EQ_INT(cop_task_supervisor_children(cop_to(sup), &st.pid, 1), 1);
	ref = monitored(st.pid);
	cop_kill(st.pid);
	EXPECT_DOWN(ref, "killed");
	/* transient: it runs again, with its bytes */
	EVENTUALLY(cop_task_supervisor_children(cop_to(sup), &st.pid, 1) == 1 && cop_is_alive(st.pid));
	T_EQ_INT(cop_server_stop(cop_to(sup), NULL, RIG_MS, NULL), 0);
	EXPECT_NOTHING();
}

NODE_CASE(how_a_child_is_restarted)
{
	struct cop_task_options o = { .shutdown_ms = 100 };
	struct cop_started st;
	cop_pid sup = task_supervisor(0), pid;

	T_EQ_INT(cop_task_supervisor_start_child(cop_to(sup), does, "sleep", 6, &o, &st), COP_STARTED);
	cop_kill(st.pid);
	T_CHECK(gone(st.pid));
	/* temporary: what a restart would have done is done when the supervisor answers */
	EVENTUALLY(cop_task_supervisor_children(cop_to(sup), NULL, 0) == 0);
	T_EQ_INT(cop_supervisor_which_children(cop_to(sup), NULL, 0), 0);
	o.restart = COP_TASK_PERMANENT;
	T_EQ_INT(cop_task_supervisor_start_child(cop_to(sup), does, "sleep", 6, &o, &st), COP_STARTED);
	cop_kill(st.pid);
	EVENTUALLY(cop_task_supervisor_children(cop_to(sup), &pid, 1) == 1 && !cop_pid_is(pid, st.pid));
	o.restart = COP_TASK_PERMANENT + 1;
	T_EQ_INT(cop_task_supervisor_start_child(cop_to(sup), does, "sleep", 6, &o, &st), COP_NOT_STARTED);
	T_EQ_INT(errno, EINVAL);
	o = (struct cop_task_options){ .shutdown_ms = -77 };
	T_EQ_INT(cop_task_supervisor_start_child(cop_to(sup), does, "sleep", 6, &o, &st), COP_NOT_STARTED);
	T_EQ_INT(errno, EINVAL);
	T_EQ_INT(cop_server_stop(cop_to(sup), NULL, RIG_MS, NULL), 0);
	EXPECT_NOTHING();
}

static void owner_of_supervised(void *arg)
{
	cop_pid *to = arg;
	struct cop_task t[2] = { supervised("sleep", true), supervised("sleep", false) };

	(void)cop_send(cop_to(*to), 77, t, sizeof t);
	waits(NULL);
}

NODE_CASE(owners_of_supervised_tasks)
{
	cop_pid self = cop_self(), sup = task_supervisor(0), owner;
	struct cop_task t[2];
	struct cop_msg m;

	owner = spawned(owner_of_supervised, &self);
	m = rig_await(&(struct rig_want){ COP_MSG_PLAIN, .tag = 77 }, "the tasks", __LINE__);
	memcpy(t, m.data, sizeof t);
	cop_msg_done(&m);
	cop_kill(owner);
	T_CHECK(gone(t[0].pid));
	T_CHECK(cop_is_alive(t[1].pid));
	T_EQ_INT(cop_server_stop(cop_to(sup), NULL, RIG_MS, NULL), 0);
	T_EQ_INT(cop_os_pid(t[1].pid), 0);
}

static void writes_flag(void *arg)
{
	atomic_fetch_add(&rig->flag[0], *(int *)arg);
}

NODE_CASE(a_child_of_a_tree)
{
	int one = 1;
	struct cop_child c[2] = { cop_task_child("task", writes_flag, &one, sizeof one) };
	struct cop_supervisor sup = { .children = c, .n_children = 2 };
	struct cop_supervisor tasks = cop_task_supervisor("tasks", 0);
	struct cop_started st;
	struct cop_task t;

	c[1] = (struct cop_child){ .id = "tasks", .supervisor = &tasks };
	T_REQUIRE(cop_supervisor_start_link(&sup, &st) == COP_STARTED);
	EVENTUALLY(atomic_load(&rig->flag[0]) == 1);
	t = supervised("v", true);
	EXPECT_VALUE(t, "v");
	T_EQ_INT(cop_server_stop(cop_to(st.pid), NULL, RIG_MS, NULL), 0);
}

/* --- without room --- */

NODE_CASE_WITH(no_more_processes, .max_processes = 8)
{
	struct cop_task t[16];
	int i, n = 0;

	for (i = 0; i < 16; i++)
		if (cop_task_async(does, "sleep", 6, &t[n]) == 0)
			n++;
		else
			T_EQ_INT(errno, EAGAIN);
	T_CHECK(n > 2 && n < 8);
	for (i = 0; i < n; i++)
		T_EQ_INT(cop_task_shutdown(&t[i], COP_TASK_BRUTAL_KILL, NULL), 0);
	t[0] = started("v");
	EXPECT_VALUE(t[0], "v");
	EXPECT_NOTHING();
}

NODE_CASE_WITH(a_small_quota, .quota = 262144)
{
	struct cop_task t;

	cop_trap_exit(true);
	t = started("big"); /* it is longer than may be under way */
	EXPECT_END(t, RIG_SANITIZED ? "signal:ABRT" : "signal:SEGV"); /* cop_msg_new() gave it NULL */
	EXPECT_EXIT(t.pid, RIG_SANITIZED ? "signal:ABRT" : "signal:SEGV");
	t = started("fits");
	EXPECT_VALUE(t, "fits");
	EXPECT_EXIT(t.pid, "normal");
	EXPECT_NOTHING();
}

NODE_CASE_WITH(completed_waits_for_nobody, .quota = 1 << 20)
{
	static const char b[1000];
	struct cop_task t, first = { .pid = COP_NOPID };
	int n;

	for (n = 0; cop_task_completed(0, b, sizeof b, &t) == 0; n++)
		if (n == 0)
			first = t;
	T_EQ_INT(errno, EAGAIN);
	T_CHECK(n > 100);
	T_EQ_INT(cop_task_await(&first, RIG_MS, NULL), 0);
	T_EQ_INT(cop_task_completed(0, b, sizeof b, &t), 0); /* there is room again */
}

NODE_CASE(a_thousand)
{
	int64_t n = 1, sum = 0, i;
	struct cop_response r;
	struct cop_task t;

	for (i = 0; i < 1000 / RIG_HEAVY; i++) {
		T_REQUIRE(cop_task_async(number, &n, sizeof n, &t) == 0);
		T_EQ_INT(cop_task_await(&t, RIG_MS, &r), 0);
		sum += *(const int64_t *)r.msg.data;
		cop_response_done(&r);
	}
	T_EQ_INT(sum, 2 * (1000 / RIG_HEAVY));
	EXPECT_NOTHING();
}

static struct cop_task no_task;
static struct cop_started no_start;

OUTSIDE(returns_value, (void)cop_return("x", 1))
OUTSIDE(returns_nothing, (void)cop_return_nothing())
OUTSIDE(starts, (void)!cop_task_start(does, "v", 2, &no_task.pid))
OUTSIDE(starts_link, (void)!cop_task_start_link(does, "v", 2, &no_task.pid))
OUTSIDE(awaits_or_exits, cop_task_await_or_exit(&no_task, 0, NULL))
OUTSIDE(asks_sup, (void)!cop_task_supervisor_async(cop_named("s"), does, "v", 2, NULL, &no_task))
OUTSIDE(asks_sup_nolink, (void)!cop_task_supervisor_async_nolink(cop_named("s"), does, "v", 2, NULL, &no_task))
OUTSIDE(starts_child, (void)!cop_task_supervisor_start_child(cop_named("s"), does, "v", 2, NULL, &no_start))
OUTSIDE(lists, (void)cop_task_supervisor_children(cop_named("s"), NULL, 0))
OUTSIDE(terminates, (void)cop_task_supervisor_terminate_child(cop_named("s"), COP_NOPID))
OUTSIDE(which, (void)!cop_supervisor_which_children(cop_named("s"), NULL, 0))

T_CASE(outside_of_a_node)
{
	T_EQ_STR(outside(returns_value), "cop_return");
	T_EQ_STR(outside(returns_nothing), "cop_return_nothing");
	T_EQ_STR(outside(starts), "cop_task_start");
	T_EQ_STR(outside(starts_link), "cop_task_start_link");
	T_EQ_STR(outside(awaits_or_exits), "cop_task_await_or_exit");
	T_EQ_STR(outside(asks_sup), "cop_task_supervisor_async");
	T_EQ_STR(outside(asks_sup_nolink), "cop_task_supervisor_async_nolink");
	T_EQ_STR(outside(starts_child), "cop_task_supervisor_start_child");
	T_EQ_STR(outside(lists), "cop_task_supervisor_children");
	T_EQ_STR(outside(terminates), "cop_task_supervisor_terminate_child");
	T_EQ_STR(outside(which), "cop_supervisor_which_children");
}

T_MAIN(T_RUN(values), T_RUN(a_value_outlives_its_process), T_RUN(ends), T_RUN(a_crash_takes_the_owner), T_RUN(late),
    T_RUN(only_the_owner), T_RUN(completed), T_RUN(shutdown), T_RUN(shutdown_and_a_dying_owner), T_RUN(ignore),
    T_RUN(without_a_value), T_RUN(await_many), T_RUN(yield_many), T_RUN(supervised_tasks),
    T_RUN(no_such_supervisor), T_RUN(limits_of_a_supervisor), T_RUN(how_a_child_is_restarted),
    T_RUN(owners_of_supervised_tasks), T_RUN(a_child_of_a_tree), T_RUN(no_more_processes), T_RUN(a_small_quota),
    T_RUN(completed_waits_for_nobody), T_RUN(a_thousand), T_RUN(outside_of_a_node))
