/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Agents: every kind of function, wrong ones, crashes, time-outs, order, children of supervisors. */
#include "node_rig.h"

enum { GET, ADD, SWAP, SILENT, CRASH, SLOW_ADD, WHO, ANSWER_TWICE, BIG, KILL_SELF, N_FUNCTIONS };

static void get(const void *state, const void *arg, size_t size, struct cop_agent_answer *answer)
{
	T_CHECK(size == 0 || arg != NULL);
	cop_agent_answer(answer, state, sizeof(int64_t));
}

static void add(void *state, const void *arg, size_t size)
{
	int64_t n;

	if (size != sizeof n)
		exit_with("bad_size");
	T_CHECK((uintptr_t)arg % 16 == 0);
	memcpy(&n, arg, sizeof n);
	*(int64_t *)state += n;
}

static void swap(void *state, const void *arg, size_t size, struct cop_agent_answer *answer)
{
	int64_t before = *(int64_t *)state;

	T_EQ_INT(size, sizeof before);
	memcpy(state, arg, sizeof before);
	cop_agent_answer(answer, &before, sizeof before);
}

static void silent(void *state, const void *arg, size_t size, struct cop_agent_answer *answer)
{
	(void)state;
	(void)arg;
	(void)size;
	(void)answer;
}

static void crash(void *state, const void *arg, size_t size)
{
	(void)state;
	(void)arg;
	(void)size;
	exit_with("oops");
}

static void slow_add(void *state, const void *arg, size_t size)
{
	cop_sleep(100);
	add(state, arg, size);
}

static void who(const void *state, const void *arg, size_t size, struct cop_agent_answer *answer)
{
	cop_pid self = cop_self();

	(void)state;
	(void)arg;
	(void)size;
	cop_agent_answer(answer, &self, sizeof self);
}

static void answer_twice(const void *state, const void *arg, size_t size, struct cop_agent_answer *answer)
{
	(void)arg;
	(void)size;
	cop_agent_answer(answer, "first", 5);
	cop_agent_answer(answer, state, sizeof(int64_t));
}

static void big(const void *state, const void *arg, size_t size, struct cop_agent_answer *answer)
{
	static char data[300000];

	(void)state;
	(void)arg;
	memset(data, 'b', sizeof data);
	T_EQ_INT(size, 0);
	cop_agent_answer(answer, data, sizeof data);
}

static void kill_self(void *state, const void *arg, size_t size)
{
	(void)state;
	(void)arg;
	(void)size;
	raise(SIGKILL);
}

static const struct cop_agent_function functions[N_FUNCTIONS] = {
	[GET] = { .get = get },
	[ADD] = { .update = add },
	[SWAP] = { .get_and_update = swap },
	[SILENT] = { .get_and_update = silent },
	[CRASH] = { .update = crash },
	[SLOW_ADD] = { .update = slow_add },
	[WHO] = { .get = who },
	[ANSWER_TWICE] = { .get = answer_twice },
	[BIG] = { .get = big },
	[KILL_SELF] = { .update = kill_self },
};

static void init(void *state, const void *arg, size_t size)
{
	T_EQ_INT(*(int64_t *)state, 0);
	if (size == sizeof(int64_t))
		memcpy(state, arg, size);
	else if (size)
		exit_with(arg);
}

static const struct cop_agent_ops ops = { "value", sizeof(int64_t), init, functions, N_FUNCTIONS };

static cop_pid started(int64_t value)
{
	struct cop_server_options o = { .arg = &value, .arg_size = sizeof value };
	struct cop_started s;

	T_REQUIRE(cop_agent_start(&ops, &o, &s) == COP_STARTED);
	return s.pid;
}

static int64_t value_of(cop_pid a)
{
	struct cop_response r;
	int64_t n = -1;

	if (cop_agent_get(cop_to(a), GET, NULL, 0, RIG_MS, &r) < 0) {
		T_FAIL("get: %s", text_of(r.reason));
		return -1;
	}
	T_EQ_INT(r.msg.len, sizeof n);
	memcpy(&n, r.msg.data, sizeof n);
	cop_response_done(&r);
	return n;
}

static int update(cop_pid a, uint32_t f, int64_t n, struct cop_response *r)
{
	int done = cop_agent_update(cop_to(a), f, &n, sizeof n, RIG_MS, r);

	if (done == 0)
		cop_response_done(r);
	return done;
}

NODE_CASE(gets_and_updates)
{
	cop_pid a = started(5);
	struct cop_response r;
	int64_t n = 7;

	T_EQ_INT(value_of(a), 5);
	T_EQ_INT(update(a, ADD, 3, &r), 0);
	T_EQ_INT(r.msg.len, 0);
	T_EQ_INT(value_of(a), 8);
	T_EQ_INT(cop_agent_get_and_update(cop_to(a), SWAP, &n, sizeof n, RIG_MS, &r), 0);
	memcpy(&n, r.msg.data, sizeof n);
	cop_response_done(&r);
	T_EQ_INT(n, 8);
	T_EQ_INT(value_of(a), 7);
	T_EQ_INT(cop_agent_update(cop_to(a), ADD, &n, sizeof n, RIG_MS, NULL), 0);
	T_EQ_INT(value_of(a), 15);
	T_EQ_INT(cop_agent_stop(cop_to(a), NULL, RIG_MS, NULL), 0);
	T_CHECK(cop_agent_get(cop_to(a), GET, NULL, 0, RIG_MS, &r) < 0 && errno == ESRCH);
	EXPECT_NOTHING();
}

NODE_CASE(runs_in_the_agent)
{
	cop_pid a = started(0), p = COP_NOPID;
	struct cop_response r;

	T_REQUIRE(cop_agent_get(cop_to(a), WHO, NULL, 0, RIG_MS, &r) == 0);
	T_EQ_INT(r.msg.len, sizeof p);
	memcpy(&p, r.msg.data, sizeof p);
	cop_response_done(&r);
	T_CHECK(cop_pid_is(p, a));
}

NODE_CASE(calls_and_casts_keep_their_order)
{
	cop_pid a = started(0);
	int64_t i, one = 1;

	for (i = 1; i <= 300; i++) {
		T_EQ_INT(cop_agent_cast(cop_to(a), ADD, &one, sizeof one), 0);
		if (i % 7 == 0)
			T_EQ_INT(value_of(a), i);
	}
}

NODE_CASE(a_wrong_function_is_refused_and_does_no_harm)
{
	cop_pid a = started(1);
	struct cop_response r;
	uint32_t f;

	for (f = N_FUNCTIONS; f < N_FUNCTIONS + 3; f++)
		T_CHECK(update(a, f, 1, &r) < 0 && errno == EINVAL);
	T_EQ_STR(text_of(r.reason), "undef");
	T_CHECK(update(a, UINT32_MAX, 1, &r) < 0 && errno == EINVAL);
	T_CHECK(update(a, GET, 1, &r) < 0 && errno == EINVAL);
	T_CHECK(update(a, SWAP, 1, &r) < 0 && errno == EINVAL);
	T_CHECK(cop_agent_get(cop_to(a), ADD, NULL, 0, RIG_MS, &r) < 0 && errno == EINVAL);
	T_CHECK(cop_agent_get_and_update(cop_to(a), ADD, NULL, 0, RIG_MS, NULL) < 0 && errno == EINVAL);
	T_EQ_INT(cop_agent_cast(cop_to(a), GET, NULL, 0), 0);
	T_EQ_INT(cop_agent_cast(cop_to(a), 70000, NULL, 0), 0);
	T_CHECK(cop_server_call(cop_to(a), 12345, NULL, 0, RIG_MS, &r) == 0); /* no agent's request at all */
	cop_response_done(&r);
	T_EQ_INT(value_of(a), 1);
}

NODE_CASE(a_crash_is_the_callers_error)
{
	cop_pid a = started(1);
	cop_ref m = monitored(a);
	struct cop_response r;

	T_CHECK(update(a, CRASH, 1, &r) < 0 && errno == EPIPE);
	T_EQ_STR(text_of(r.reason), "oops");
	EXPECT_DOWN(m, "oops");
	a = started(2);
	m = monitored(a);
	T_CHECK(update(a, KILL_SELF, 1, &r) < 0 && errno == EPIPE);
	EXPECT_DOWN(m, "killed");
	a = started(3);
	m = monitored(a);
	T_EQ_INT(cop_agent_cast(cop_to(a), CRASH, NULL, 0), 0);
	EXPECT_DOWN(m, "oops");
	T_EQ_INT(cop_agent_cast(cop_to(a), CRASH, NULL, 0), 0); /* nobody */
	T_EQ_INT(cop_agent_cast(cop_named("nobody"), CRASH, NULL, 0), 0);
}

NODE_CASE(get_and_update_must_answer)
{
	cop_pid a = started(1);
	struct cop_response r;

	T_CHECK(cop_agent_get_and_update(cop_to(a), SILENT, NULL, 0, RIG_MS, &r) < 0 && errno == EPIPE);
	T_EQ_STR(text_of(r.reason), "bad_return_value");
}

NODE_CASE(an_update_that_was_given_up_still_happens)
{
	cop_pid a = started(1);
	struct cop_response r;
	int64_t one = 1;

	T_CHECK(cop_agent_update(cop_to(a), SLOW_ADD, &one, sizeof one, 5, &r) < 0 && errno == ETIMEDOUT);
	T_EQ_STR(text_of(r.reason), "timeout");
	T_EQ_INT(value_of(a), 2);
	EXPECT_NOTHING();
}

NODE_CASE(the_last_answer_counts_and_none_leaks)
{
	cop_pid a = started(9);
	struct cop_response r;
	int64_t n;
	int i;

	for (i = 0; i < 2000; i++) {
		T_REQUIRE(cop_agent_get(cop_to(a), ANSWER_TWICE, NULL, 0, RIG_MS, &r) == 0);
		T_REQUIRE(r.msg.len == sizeof n);
		memcpy(&n, r.msg.data, sizeof n);
		cop_response_done(&r);
		T_REQUIRE(n == 9);
	}
	T_REQUIRE(cop_agent_get(cop_to(a), BIG, NULL, 0, RIG_MS, &r) == 0);
	T_EQ_INT(r.msg.len, 300000);
	T_CHECK(((const char *)r.msg.data)[299999] == 'b');
	cop_response_done(&r);
}

NODE_CASE(starts_that_fail)
{
	static const struct cop_agent_function two[] = { { .get = get, .update = add } };
	static const struct cop_agent_function neither[] = { { .get = NULL } };
	static const struct cop_agent_ops bad[] = {
		{ "two", 8, NULL, two, 1 }, { "neither", 8, NULL, neither, 1 }, { "none", 8, NULL, NULL, 1 },
		{ "many", 8, NULL, two, 70000 },
	};
	static const struct cop_agent_ops least = { .name = NULL };
	struct cop_server_options o = { .name = "a", .arg = "oops", .arg_size = 5 };
	struct cop_started s;
	size_t i;

	cop_trap_exit(true);
	T_EQ_INT(cop_agent_start_link(&ops, &o, &s), COP_NOT_STARTED);
	T_EQ_STR(text_of(s.reason), "oops");
	for (i = 0; i < 4; i++) {
		T_EQ_INT(cop_agent_start(&bad[i], NULL, &s), COP_NOT_STARTED);
		T_EQ_STR(text_of(s.reason), "invalid_agent");
	}
	T_EQ_INT(cop_agent_start(&least, NULL, &s), COP_STARTED);
	o = (struct cop_server_options){ .name = "a" };
	T_EQ_INT(cop_agent_start_link(&ops, &o, &s), COP_STARTED);
	T_EQ_INT(cop_agent_start_link(&ops, &o, &s), COP_NOT_STARTED);
	T_EQ_INT(errno, EEXIST);
	EXPECT_NOTHING();
}

NODE_CASE(as_a_child_it_begins_anew)
{
	static const struct {
		struct cop_agent_start start;
		int64_t value;
	} begin = { { .ops = &ops }, 40 };
	static const struct cop_child child = { .id = "a", .name = "a", .arg = &begin, .arg_size = sizeof begin };
	struct cop_child c = child;
	struct cop_supervisor sup = { .dynamic = true };
	struct cop_started s;
	cop_pid top;

	c.server = cop_agent_server();
	T_REQUIRE(cop_supervisor_start_link(&sup, &s) == COP_STARTED);
	top = s.pid;
	T_REQUIRE(cop_supervisor_start_child(cop_to(top), &c, &s) == COP_STARTED);
	T_EQ_INT(update(s.pid, ADD, 2, &(struct cop_response){ .reason = { 0 } }), 0);
	T_EQ_INT(value_of(s.pid), 42);
	cop_kill(s.pid);
	EVENTUALLY(cop_whereis("a").id != 0 && !cop_pid_is(cop_whereis("a"), s.pid));
	T_EQ_INT(value_of(cop_whereis("a")), 40);
	T_EQ_INT(cop_server_stop(cop_to(top), NULL, RIG_MS, NULL), 0);
}

static struct cop_started no_start;

OUTSIDE(starts, (void)!cop_agent_start(&ops, NULL, &no_start))
OUTSIDE(starts_link, (void)!cop_agent_start_link(&ops, NULL, &no_start))
OUTSIDE(gets, (void)!cop_agent_get(cop_named("a"), GET, NULL, 0, 0, NULL))
OUTSIDE(updates, (void)!cop_agent_update(cop_named("a"), ADD, NULL, 0, 0, NULL))
OUTSIDE(swaps, (void)!cop_agent_get_and_update(cop_named("a"), SWAP, NULL, 0, 0, NULL))
OUTSIDE(casts, (void)cop_agent_cast(cop_named("a"), ADD, NULL, 0))

T_CASE(outside_of_a_node)
{
	T_EQ_STR(outside(starts), "cop_agent_start");
	T_EQ_STR(outside(starts_link), "cop_agent_start_link");
	T_EQ_STR(outside(gets), "cop_agent_get");
	T_EQ_STR(outside(updates), "cop_agent_update");
	T_EQ_STR(outside(swaps), "cop_agent_get_and_update");
	T_EQ_STR(outside(casts), "cop_agent_cast");
}

T_MAIN(T_RUN(gets_and_updates), T_RUN(runs_in_the_agent), T_RUN(calls_and_casts_keep_their_order),
    T_RUN(a_wrong_function_is_refused_and_does_no_harm), T_RUN(a_crash_is_the_callers_error),
    T_RUN(get_and_update_must_answer), T_RUN(an_update_that_was_given_up_still_happens),
    T_RUN(the_last_answer_counts_and_none_leaks), T_RUN(starts_that_fail),
    T_RUN(as_a_child_it_begins_anew), T_RUN(outside_of_a_node))
