/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Servers: starts, every callback with every return, calls that fail in every way, stops; by the list of OTP. */
#include "node_rig.h"

#include "base/clock.h"
#include "proc/proc.h"

/* --- one server that does as it is told --- */

enum { ECHO = 1, GET, ADD, LATER, DUE, STOP, STOP_REPLY, STOP_IN_INFO, EXIT_IN, SLOW, BAD, TIMEOUT, CONTINUE, HIBERNATE,
	WHO, REPLY_BIG, REPLY_TAG, REPLY_MSG, TWICE, RAISE, EXIT3, LONG_TAG, BUSY_NS };

struct counter {
	int64_t value;
	struct cop_from from[8];
	int n_from;
	cop_pid told; /* who hears of infos and of terminate */
};

static struct cop_exit oops(void)
{
	return cop_exit_make_text(COP_EXIT_OTHER, 0, "oops");
}

static struct cop_next on_init(void *state, const void *arg, size_t size)
{
	struct counter *c = state;
	struct cop_exit r = oops();
	const char *what = size ? arg : "";

	T_CHECK(c->value == 0 && (uintptr_t)state % 16 == 0);
	c->told = cop_parent();
	if (strcmp(what, "stop") == 0)
		return cop_stop(&r);
	if (strcmp(what, "ignore") == 0)
		return cop_ignore();
	if (strcmp(what, "normal") == 0) {
		r = cop_exit_make(COP_EXIT_NORMAL, 0);
		return cop_stop(&r);
	}
	if (strcmp(what, "exit") == 0)
		cop_exit(&r);
	if (strcmp(what, "raise") == 0)
		raise(SIGTERM);
	if (strcmp(what, "leave") == 0)
		_exit(0);
	if (strcmp(what, "hang") == 0)
		waits(NULL);
	if (strcmp(what, "bad") == 0)
		return (struct cop_next){ .what = 77 };
	if (strcmp(what, "name") == 0)
		T_CHECK(cop_pid_is(cop_whereis("named"), cop_self()));
	if (strcmp(what, "continue") == 0) {
		tell(cop_self(), 50);
		return cop_then_continue(cop_ok(), 1, "abc", 3);
	}
	if (strcmp(what, "timeout") == 0)
		return cop_then_timeout(cop_ok(), 10);
	if (strcmp(what, "trap") == 0)
		cop_trap_exit(true);
	return cop_ok();
}

static struct cop_next on_call(void *state, const struct cop_msg *m, struct cop_from from)
{
	static char big[200000];
	struct counter *c = state;
	struct cop_exit r = oops();
	int64_t n = 0;
	void *data;

	if (m->len == sizeof n)
		memcpy(&n, m->data, sizeof n);
	switch (m->tag) {
	case ECHO:
		return cop_reply(m->data, m->len);
	case GET:
		return cop_reply(&c->value, sizeof c->value);
	case ADD:
		c->value += n;
		return cop_reply(&c->value, sizeof c->value);
	case LATER:
		c->from[c->n_from++] = from;
		return cop_ok();
	case STOP:
		return cop_stop(&r);
	case STOP_REPLY:
		return cop_stop_reply(&r, &c->value, sizeof c->value);
	case EXIT_IN:
		cop_exit(&r);
	case RAISE:
		raise(SIGKILL);
		break;
	case EXIT3:
		exit(3);
	case SLOW:
		nanosleep(&(struct timespec){ .tv_sec = n / 1000, .tv_nsec = n % 1000 * 1000000 }, NULL);
		c->value++;
		return cop_reply(&c->value, sizeof c->value);
	case BUSY_NS:
		for (n += clock_mono_ns(); clock_mono_ns() < n;)
			;
		return cop_reply(&c->value, sizeof c->value);
	case BAD:
		return (struct cop_next){ .what = 200 };
	case CONTINUE:
		return cop_then_continue(cop_reply(&c->value, sizeof c->value), 1, "abc", 3);
	case TIMEOUT:
		return cop_then_timeout(cop_reply(&c->value, sizeof c->value), (int)n);
	case HIBERNATE:
		return cop_then_hibernate(cop_reply(&c->value, sizeof c->value));
	case WHO:
		return cop_reply(&m->from, sizeof m->from);
	case REPLY_BIG:
		memset(big, 'b', sizeof big);
		return cop_reply(big, (size_t)n);
	case REPLY_TAG:
		return cop_reply_tag(4711, NULL, 0);
	case REPLY_MSG:
		data = cop_msg_new(3000, 0);
		T_REQUIRE(data);
		memset(data, 'm', 3000);
		return cop_reply_msg(7, data);
	case TWICE:
		cop_server_reply(from, 0, &(int64_t){ 1 }, 8);
		cop_server_reply(from, 0, &(int64_t){ 2 }, 8);
		return cop_ok();
	}
	return cop_ok();
}

static struct cop_next on_cast(void *state, const struct cop_msg *m)
{
	struct counter *c = state;
	struct cop_exit r = oops();
	int64_t n = 0;
	int i;

	if (m->len == sizeof n)
		memcpy(&n, m->data, sizeof n);
	switch (m->tag) {
	case ADD:
		c->value += n;
		break;
	case DUE:
		for (i = c->n_from; i-- > 0;)
			cop_server_reply(c->from[i], 0, &i, sizeof i);
		c->n_from = 0;
		break;
	case STOP:
		return cop_stop(&r);
	case EXIT_IN:
		cop_exit(&r);
	case BAD:
		return (struct cop_next){ .what = 200 };
	case TIMEOUT:
		return cop_then_timeout(cop_ok(), (int)n);
	case CONTINUE:
		return cop_then_continue(cop_ok(), (uint32_t)n, NULL, 0);
	case SLOW:
		nanosleep(&(struct timespec){ .tv_nsec = n * 1000000 }, NULL);
		break;
	}
	return cop_ok();
}

static struct cop_next on_info(void *state, const struct cop_msg *m)
{
	struct counter *c = state;
	struct cop_exit r = oops();

	if (m->kind == COP_MSG_TIMEOUT)
		tell(c->told, 100);
	else if (m->kind == COP_MSG_EXIT)
		tell(c->told, 101);
	else if (m->kind == COP_MSG_DOWN)
		tell(c->told, 102);
	else if (m->tag == STOP_IN_INFO)
		return cop_stop(&r);
	else if (m->tag == EXIT_IN)
		cop_exit(&r);
	else if (m->tag != 0)
		tell(c->told, m->tag + 1000);
	return cop_ok();
}

static struct cop_next on_continue(void *state, const struct cop_msg *m)
{
	struct counter *c = state;

	tell(c->told, 200 + m->tag);
	if (m->tag == 9)
		exit_with("in_continue");
	if (m->tag > 0 && m->tag < 3) /* chained */
		return cop_then_continue(cop_ok(), m->tag + 1, NULL, 0);
	return cop_ok();
}

static void on_terminate(void *state, const struct cop_exit *reason)
{
	struct counter *c = state;
	char text[COP_EXIT_FORMAT_MAX] = "";

	cop_exit_format(reason, text, sizeof text);
	T_CHECK(cop_send(cop_to(c->told), 300, text, sizeof text) == 0);
	if (c->value == -1)
		exit_with("from_terminate");
	if (c->value == -2)
		nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
}

static const struct cop_server_ops counter = {
	.name = "counter", .state_size = sizeof(struct counter), .init = on_init, .handle_call = on_call,
	.handle_cast = on_cast, .handle_info = on_info, .handle_continue = on_continue, .terminate = on_terminate,
};
static const struct cop_server_ops empty = { .name = "empty" };

static enum cop_start start_with(const char *what, const char *name, int timeout_ms, bool link, struct cop_started *s)
{
	struct cop_server_options o = { .name = name, .arg = what, .arg_size = what ? strlen(what) + 1 : 0,
		.timeout_ms = timeout_ms };

	memset(s, 0, sizeof *s);
	return link ? cop_server_start_link(&counter, &o, s) : cop_server_start(&counter, &o, s);
}

static cop_pid started(const char *what)
{
	struct cop_started s;

	T_REQUIRE(start_with(what, NULL, 0, false, &s) == COP_STARTED);
	return s.pid;
}

static int call(cop_pid p, uint32_t tag, int64_t n, int64_t *r)
{
	return cop_server_ask(cop_to(p), tag, &n, sizeof n, r, sizeof *r, RIG_MS, NULL);
}

/* The call fails with errno, and the reason. */
#define EXPECT_CALL_FAILS(dest, tag, ms, err, text) \
	do { \
		struct cop_response t_r; \
		T_CHECK(cop_server_call(dest, tag, NULL, 0, ms, &t_r) < 0); \
		T_EQ_INT(errno, err); \
		T_EQ_STR(text_of(t_r.reason), text); \
	} while (0)
#define EXPECT_TERMINATE(text) \
	do { \
		struct cop_msg t_m = rig_await(&(struct rig_want){ COP_MSG_PLAIN, .tag = 300 }, "terminate", __LINE__); \
		T_EQ_STR(t_m.data, text); \
		cop_msg_done(&t_m); \
	} while (0)

/* --- starts --- */

NODE_CASE(a_start)
{
	struct cop_started s;

	T_EQ_INT(start_with("name", "named", 0, true, &s), COP_STARTED); /* 20: its name is there in init */
	T_CHECK(cop_pid_is(cop_whereis("named"), s.pid));
	T_CHECK(cop_is_alive(s.pid));
	EXPECT_NOTHING();
}

/* 21 to 24: what a failing init leads to; nothing stays behind. */
static void starts_that_fail(bool link)
{
	static const struct {
		const char *what, *reason;
	} t[] = { { "stop", "oops" }, { "exit", "oops" }, { "raise", "signal:TERM" }, { "leave", "normal" },
		{ "bad", "bad_return_value" }, { "normal", "normal" } };
	struct cop_started s;
	size_t i;

	for (i = 0; i < sizeof t / sizeof t[0]; i++) {
		T_EQ_INT(start_with(t[i].what, "named", 0, link, &s), COP_NOT_STARTED);
		T_EQ_INT(errno, ECANCELED);
		T_EQ_STR(text_of(s.reason), t[i].reason);
		T_EQ_INT(cop_whereis("named").id, 0);
		EXPECT_NOTHING();
	}
	T_EQ_INT(start_with("ignore", "named", 0, link, &s), COP_IGNORED);
	T_EQ_INT(cop_whereis("named").id, 0);
	T_EQ_INT(start_with("hang", "named", 50, link, &s), COP_NOT_STARTED);
	T_EQ_INT(errno, ETIMEDOUT);
	T_EQ_STR(text_of(s.reason), "timeout");
	T_EQ_INT(cop_whereis("named").id, 0);
	EXPECT_NOTHING();
	T_EQ_INT(start_with(NULL, "named", 0, link, &s), COP_STARTED);
	EXPECT_NOTHING();
}

NODE_CASE(failing_starts_of_one_that_traps)
{
	cop_trap_exit(true);
	starts_that_fail(true);
}

NODE_CASE(failing_starts_without_a_link)
{
	starts_that_fail(false);
}

static void starts_linked(void *arg)
{
	struct cop_started s;

	if (start_with(arg, NULL, 0, true, &s) == COP_NOT_STARTED)
		exit_with("lived");
}

/* 22 */
NODE_CASE(failing_starts_of_one_that_does_not_trap)
{
	cop_ref ref;

	(void)spawned_monitor(starts_linked, "stop", &ref);
	EXPECT_DOWN(ref, "oops");
	(void)spawned_monitor(starts_linked, "raise", &ref);
	EXPECT_DOWN(ref, "signal:TERM");
	(void)spawned_monitor(starts_linked, "normal", &ref);
	EXPECT_DOWN(ref, "lived");
}

NODE_CASE(already_started)
{
	struct cop_started s, t;

	T_EQ_INT(start_with(NULL, "named", 0, true, &s), COP_STARTED);
	T_EQ_INT(start_with("stop", "named", 0, true, &t), COP_NOT_STARTED); /* 27: init does not run */
	T_EQ_INT(errno, EEXIST);
	T_EQ_STR(text_of(t.reason), "already_started");
	T_CHECK(cop_pid_is(s.pid, t.pid));
	EXPECT_NOTHING();
}

NODE_CASE(wrong_names)
{
	struct cop_started s;
	char huge[2000];

	cop_trap_exit(true);
	memset(huge, 'x', sizeof huge - 1);
	huge[sizeof huge - 1] = '\0';
	T_EQ_INT(start_with(NULL, "", 0, true, &s), COP_NOT_STARTED);
	T_EQ_INT(start_with(NULL, huge, 0, true, &s), COP_NOT_STARTED);
	T_EQ_INT(start_with(NULL, "a\nb", 0, true, &s), COP_NOT_STARTED);
	EXPECT_NOTHING();
}

/* 26: the start is over before the continuation. */
NODE_CASE(a_continue_that_crashes)
{
	struct cop_started s;
	cop_pid p = started(NULL);
	cop_ref ref = monitored(p);

	T_EQ_INT(cop_server_cast(cop_to(p), CONTINUE, &(int64_t){ 9 }, 8), 0);
	EXPECT_DOWN(ref, "in_continue");
	EXPECT_TERMINATE("in_continue");
	T_EQ_INT(cop_server_start(&empty, NULL, &s), COP_STARTED);
}

NODE_CASE_WITH(no_room_for_one, .max_processes = 3)
{
	struct cop_started s;

	cop_trap_exit(true);
	T_EQ_INT(start_with(NULL, "named", 0, true, &s), COP_STARTED);
	T_EQ_INT(start_with(NULL, NULL, 0, true, &s), COP_NOT_STARTED);
	T_EQ_INT(errno, EAGAIN);
	EXPECT_NOTHING();
}

/* --- callbacks --- */

NODE_CASE(calls_and_casts)
{
	cop_pid p = started(NULL);
	int64_t n = 0;

	T_EQ_INT(call(p, ADD, 5, &n), 0);
	T_EQ_INT(n, 5);
	T_EQ_INT(cop_server_cast(cop_to(p), ADD, &(int64_t){ 7 }, 8), 0);
	T_EQ_INT(call(p, GET, 0, &n), 0);
	T_EQ_INT(n, 12);
	T_EQ_INT(call(p, WHO, 0, &n), 0);
	T_CHECK((uint64_t)n == cop_self().id);
	EXPECT_NOTHING();
}

/* The reply comes between any two instructions of a caller that has spun in vain and goes to sleep. One that is
 * passed over is waited for for ever. */
NODE_CASE(replies_at_any_instant)
{
	cop_pid p = started(NULL);
	int64_t i, n;

	for (i = 0; i < 100000 / RIG_HEAVY; i++)
		if (cop_server_ask(cop_to(p), BUSY_NS, &(int64_t){ i % 2000 * 20 }, sizeof i, &n, sizeof n, COP_INFINITY, NULL) < 0)
			T_FAIL("call %ld: %s", (long)i, strerror(errno));
	EXPECT_NOTHING();
}

NODE_CASE(replies_of_all_sizes)
{
	static const int64_t sizes[] = { 0, 1, 63, 64, 65, 4096, 65535, 65536, 200000 };
	cop_pid p = started(NULL);
	struct cop_response r;
	char buf[70000] = "";
	size_t i;

	for (i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
		T_EQ_INT(cop_server_call(cop_to(p), REPLY_BIG, &sizes[i], 8, RIG_MS, &r), 0);
		T_EQ_INT(r.msg.len, sizes[i]);
		T_CHECK(sizes[i] == 0 || ((const char *)r.msg.data)[sizes[i] - 1] == 'b');
		cop_response_done(&r);
	}
	for (i = 0; i < sizeof buf; i = i * 2 + 1) { /* the request's node goes back as the reply */
		T_EQ_INT(cop_server_call(cop_to(p), ECHO, buf, i, RIG_MS, &r), 0);
		T_EQ_INT(r.msg.len, i);
		cop_response_done(&r);
	}
	T_EQ_INT(cop_server_call(cop_to(p), REPLY_TAG, NULL, 0, RIG_MS, &r), 0);
	T_EQ_INT(r.msg.tag, 4711);
	cop_response_done(&r);
	T_EQ_INT(cop_server_call(cop_to(p), REPLY_MSG, NULL, 0, RIG_MS, &r), 0);
	T_EQ_INT(r.msg.len, 3000);
	T_EQ_INT(((const char *)r.msg.data)[2999], 'm');
	cop_response_done(&r);
	T_EQ_INT(cop_server_call(cop_to(p), ECHO, "x", 1, RIG_MS, NULL), 0);
	T_CHECK(call(p, REPLY_BIG, 9, &(int64_t){ 0 }) < 0 && errno == EBADMSG);
	T_CHECK(cop_server_call(cop_to(p), ECHO, "", COP_MSG_MAX + 1, 10, NULL) < 0 && errno == EMSGSIZE);
	T_CHECK(cop_server_cast(cop_to(p), ECHO, "", COP_MSG_MAX + 1) < 0 && errno == EMSGSIZE);
	EXPECT_NOTHING();
}

/* Whatever the callback, what ends it ends the server with that reason, after terminate. */
NODE_CASE(ends)
{
	static const struct {
		bool call;
		uint32_t tag;
		const char *reason, *terminate;
	} t[] = {
		{ true, STOP, "oops", "oops" }, { true, EXIT_IN, "oops", "oops" }, { true, RAISE, "killed", NULL },
		{ true, EXIT3, "exit:3", NULL }, { true, BAD, "bad_return_value", "bad_return_value" },
		{ false, STOP, "oops", "oops" }, { false, EXIT_IN, "oops", "oops" },
		{ false, BAD, "bad_return_value", "bad_return_value" },
	};
	size_t i;

	for (i = 0; i < sizeof t / sizeof t[0]; i++) {
		cop_pid p = started(NULL);
		cop_ref ref = monitored(p);

		if (t[i].call)
			EXPECT_CALL_FAILS(cop_to(p), t[i].tag, RIG_MS, EPIPE, t[i].reason);
		else
			T_EQ_INT(cop_server_cast(cop_to(p), t[i].tag, NULL, 0), 0);
		if (t[i].terminate)
			EXPECT_TERMINATE(t[i].terminate);
		EXPECT_DOWN(ref, t[i].reason);
		EXPECT_NOTHING();
	}
}

NODE_CASE(ends_in_info)
{
	static const uint32_t tag[] = { STOP_IN_INFO, EXIT_IN };
	size_t i;

	for (i = 0; i < 2; i++) {
		cop_pid p = started(NULL);
		cop_ref ref = monitored(p);

		tell(p, tag[i]);
		EXPECT_TERMINATE("oops");
		EXPECT_DOWN(ref, "oops");
	}
}

/* 31 */
NODE_CASE(a_reply_and_the_end)
{
	cop_pid p = started(NULL);
	cop_ref ref = monitored(p);
	int64_t n, t = now_ms();

	T_EQ_INT(cop_server_cast(cop_to(p), ADD, &(int64_t){ -2 }, 8), 0);
	T_EQ_INT(call(p, STOP_REPLY, 0, &n), 0);
	T_EQ_INT(n, -2);
	T_CHECK(now_ms() - t >= 49); /* behind terminate */
	EXPECT_TERMINATE("oops");
	EXPECT_DOWN(ref, "oops");
}

/* 40 */
NODE_CASE(an_exit_in_terminate_replaces)
{
	cop_pid p = started(NULL);
	cop_ref ref = monitored(p);
	struct cop_exit actual;

	T_EQ_INT(cop_server_cast(cop_to(p), ADD, &(int64_t){ -1 }, 8), 0);
	T_CHECK(cop_server_stop(cop_to(p), NULL, RIG_MS, &actual) < 0 && errno == EPIPE); /* 48 */
	T_EQ_STR(text_of(actual), "from_terminate");
	EXPECT_TERMINATE("normal");
	EXPECT_DOWN(ref, "from_terminate");
}

/* 51 */
NODE_CASE(absent_callbacks)
{
	struct cop_started s;
	int i;

	for (i = 0; i < 3; i++) {
		T_REQUIRE(cop_server_start(&empty, NULL, &s) == COP_STARTED);
		if (i == 0)
			EXPECT_CALL_FAILS(cop_to(s.pid), 1, RIG_MS, EPIPE, "bad_call");
		if (i == 1) {
			cop_ref ref = monitored(s.pid);

			T_EQ_INT(cop_server_cast(cop_to(s.pid), 1, NULL, 0), 0);
			EXPECT_DOWN(ref, "bad_cast");
		}
		if (i == 2)
			T_EQ_INT(cop_server_stop(cop_to(s.pid), NULL, RIG_MS, NULL), 0);
	}
}

/* 29, 30: before what was queued; chained; after the reply. */
NODE_CASE(continuations)
{
	struct cop_msg m;
	cop_pid p = started("continue");
	static const uint32_t order[] = { 201, 202, 203, 1050 };
	size_t i;
	int64_t n;

	for (i = 0; i < 4; i++) {
		T_REQUIRE(cop_receive(&m, NULL, NULL, RIG_MS) == 1);
		T_EQ_INT(m.tag, order[i]);
		cop_msg_done(&m);
	}
	T_EQ_INT(call(p, CONTINUE, 0, &n), 0);
	EXPECT_TAG(201);
	EXPECT_TAG(202);
	EXPECT_TAG(203);
}

NODE_CASE(an_absent_continue)
{
	static const struct cop_server_ops o = { .handle_call = on_call, .state_size = sizeof(struct counter) };
	struct cop_started s;
	cop_ref ref;

	T_REQUIRE(cop_server_start(&o, NULL, &s) == COP_STARTED);
	ref = monitored(s.pid);
	(void)!cop_server_call(cop_to(s.pid), CONTINUE, NULL, 0, RIG_MS, NULL);
	EXPECT_DOWN(ref, "bad_continue");
}

/* 33, 34 */
NODE_CASE(time_outs)
{
	cop_pid p = started("timeout");
	int64_t n;

	EXPECT_TAG(100);
	T_EQ_INT(call(p, TIMEOUT, 0, &n), 0);
	EXPECT_TAG(100);
	T_EQ_INT(call(p, TIMEOUT, 60, &n), 0); /* any message cancels it for good */
	T_EQ_INT(call(p, GET, 0, &n), 0);
	cop_sleep(100);
	EXPECT_NOTHING();
	T_EQ_INT(call(p, TIMEOUT, -1, &n), 0);
	T_EQ_INT(cop_server_cast(cop_to(p), SLOW, &(int64_t){ 30 }, 8), 0);
	T_EQ_INT(cop_server_cast(cop_to(p), TIMEOUT, &(int64_t){ 0 }, 8), 0);
	T_EQ_INT(cop_server_cast(cop_to(p), ADD, &(int64_t){ 1 }, 8), 0); /* queued by then: it wins against 0 */
	T_EQ_INT(call(p, GET, 0, &n), 0);
	T_EQ_INT(n, 1);
	EXPECT_NOTHING();
}

NODE_CASE(hibernation)
{
	struct cop_server_options o = { .hibernate_after_ms = 10 };
	struct cop_started s;
	int64_t n;
	int i;

	T_REQUIRE(cop_server_start(&counter, &o, &s) == COP_STARTED);
	for (i = 1; i <= 5; i++) {
		T_EQ_INT(call(s.pid, HIBERNATE, 0, &n), 0);
		T_EQ_INT(call(s.pid, ADD, 1, &n), 0);
		T_EQ_INT(n, i);
		cop_sleep(15); /* and by itself */
	}
}

NODE_CASE(infos)
{
	struct cop_started s;

	T_REQUIRE(start_with("trap", NULL, 0, false, &s) == COP_STARTED);
	tell(s.pid, 60);
	EXPECT_TAG(1060);
	T_CHECK(cop_send_after(cop_to(s.pid), 61, NULL, 0, 1).id != 0);
	EXPECT_TAG(1061);
}

/* --- the parent, links --- */

static void parent_of_one(void *arg)
{
	struct cop_started s;

	T_REQUIRE(start_with(arg, "child", 0, true, &s) == COP_STARTED);
	tell(cop_parent(), 1);
	exits_when_told(atomic_load(&rig->flag[0]) ? "oops" : "normal");
}

/* 35 */
NODE_CASE(the_parents_end)
{
	static const struct {
		const char *what;
		int abnormal;
		const char *reason;
	} t[] = { { "trap", 0, "normal" }, { "trap", 1, "oops" }, { NULL, 1, "oops" } };
	size_t i;

	for (i = 0; i < 3; i++) {
		cop_pid p;
		cop_ref ref;

		atomic_store(&rig->flag[0], t[i].abnormal);
		p = spawned(parent_of_one, t[i].what);
		EXPECT_TAG(1);
		ref = cop_monitor(cop_named("child"));
		tell(p, 2);
		EXPECT_DOWN(ref, t[i].reason);
	}
	atomic_store(&rig->flag[0], 0);
	{
		cop_pid p = spawned(parent_of_one, NULL), c;

		EXPECT_TAG(1);
		c = cop_whereis("child");
		tell(p, 2);
		T_CHECK(gone(p));
		T_CHECK(cop_is_alive(c)); /* an orphan */
	}
}

static void links_to(void *arg)
{
	T_EQ_INT(cop_link(*(cop_pid *)arg), 0);
	exit_with("oops");
}

/* 38 */
NODE_CASE(exits_of_others_are_infos)
{
	struct cop_started s;

	T_REQUIRE(start_with("trap", NULL, 0, false, &s) == COP_STARTED);
	(void)spawned(links_to, &s.pid);
	EXPECT_TAG(101);
	send_exit(s.pid, "shutdown"); /* we have started it, but are not its parent: there was no link */
	EXPECT_TAG(101);
	T_CHECK(cop_is_alive(s.pid));
}

/* 19: no terminate for who does not trap. */
NODE_CASE(no_terminate_without_trapping)
{
	cop_pid p = started(NULL), q = started("trap");
	cop_ref rp = monitored(p), rq = monitored(q);

	send_exit(p, "shutdown");
	EXPECT_DOWN(rp, "shutdown");
	cop_kill(q);
	EXPECT_DOWN(rq, "killed");
	EXPECT_NOTHING();
}

/* --- calls that fail --- */

NODE_CASE(calls_of_nobody)
{
	cop_ref ref;
	cop_pid p = spawned_monitor(exits, "normal", &ref);
	int64_t n;

	EXPECT_DOWN(ref, "normal");
	EXPECT_CALL_FAILS(cop_to(p), 1, RIG_MS, ESRCH, "noproc");
	EXPECT_CALL_FAILS(cop_to(COP_NOPID), 1, RIG_MS, ESRCH, "noproc");
	EXPECT_CALL_FAILS(cop_named("nobody"), 1, RIG_MS, ENOENT, "noproc");
	EXPECT_CALL_FAILS(cop_to(cop_self()), 1, RIG_MS, EDEADLK, "calling_self");
	T_EQ_INT(cop_register("me", cop_self()), 0);
	EXPECT_CALL_FAILS(cop_named("me"), 1, RIG_MS, EDEADLK, "calling_self");
	T_EQ_INT(cop_server_cast(cop_to(p), 1, NULL, 0), 0); /* 46 */
	T_EQ_INT(cop_server_cast(cop_named("nobody"), 1, NULL, 0), 0);
	T_CHECK(cop_server_ask(cop_to(p), 1, NULL, 0, &n, sizeof n, 1, NULL) < 0 && errno == ESRCH);
	EXPECT_NOTHING();
}

/* 43 */
NODE_CASE(a_call_that_is_too_slow)
{
	cop_pid p = started(NULL);
	int64_t n = 60, r;
	struct cop_response resp;
	int i;

	for (i = 0; i < 3; i++) {
		T_CHECK(cop_server_call(cop_to(p), SLOW, &n, 8, 10, &resp) < 0 && errno == ETIMEDOUT);
		T_EQ_STR(text_of(resp.reason), "timeout");
	}
	T_EQ_INT(call(p, GET, 0, &r), 0);
	T_EQ_INT(r, 3); /* it was done all the same */
	EXPECT_NOTHING();
	T_CHECK(cop_server_call(cop_to(p), LATER, NULL, 0, 0, NULL) < 0 && errno == ETIMEDOUT);
	T_EQ_INT(cop_server_cast(cop_to(p), DUE, NULL, 0), 0);
	T_EQ_INT(call(p, GET, 0, &r), 0);
	EXPECT_NOTHING();
}

NODE_CASE(the_server_dies_in_a_call)
{
	int i;

	for (i = 0; i < 100 / RIG_HEAVY; i++) {
		cop_pid p = started(NULL);

		EXPECT_CALL_FAILS(cop_to(p), RAISE, RIG_MS, EPIPE, "killed");
		EXPECT_NOTHING();
	}
}

static void calls_or_exits(void *arg)
{
	int64_t n;

	cop_server_call_or_exit(cop_named(arg), RAISE, NULL, 0, &n, sizeof n, RIG_MS);
	exit_with("returned");
}

NODE_CASE(call_or_exit)
{
	struct cop_started s;
	cop_ref ref;

	T_REQUIRE(start_with(NULL, "named", 0, false, &s) == COP_STARTED);
	(void)spawned_monitor(calls_or_exits, "named", &ref);
	EXPECT_DOWN(ref, "killed");
	(void)spawned_monitor(calls_or_exits, "nobody", &ref);
	EXPECT_DOWN(ref, "noproc");
}

/* The mailbox stays as it was, however long it is. */
NODE_CASE(a_call_with_a_full_mailbox)
{
	cop_pid p = started(NULL);
	int64_t n;
	int i;

	for (i = 1; i <= 5000; i++)
		tell(cop_self(), (uint32_t)i);
	for (i = 1; i <= 100; i++)
		T_EQ_INT(call(p, ADD, 1, &n), 0);
	T_EQ_INT(n, 100);
	T_EQ_INT(cop_queue_len(), 5000);
}

/* --- replies that come later --- */

static void calls_later(void *arg)
{
	int i = -1;

	T_CHECK(cop_server_ask(cop_named("named"), LATER, arg, 8, &i, sizeof i, RIG_MS, NULL) == 0);
	tell_int(cop_parent(), 9, i);
}

NODE_CASE(late_replies_find_their_callers)
{
	struct cop_started s;
	int64_t n = 0, sum = 0;
	int i;

	T_REQUIRE(start_with(NULL, "named", 0, false, &s) == COP_STARTED);
	for (i = 0; i < 8; i++)
		(void)spawned(calls_later, &n);
	cop_sleep(100 * RIG_HEAVY);
	T_EQ_INT(cop_server_cast(cop_named("named"), DUE, NULL, 0), 0);
	for (i = 0; i < 8; i++)
		sum += await_int(9);
	T_EQ_INT(sum, 28);
}

NODE_CASE(a_second_reply_vanishes)
{
	cop_pid p = started(NULL);
	int64_t n;

	T_EQ_INT(call(p, TWICE, 0, &n), 0);
	T_EQ_INT(n, 1);
	T_EQ_INT(call(p, GET, 0, &n), 0);
	T_EQ_INT(n, 0);
	EXPECT_NOTHING();
}

NODE_CASE(requests)
{
	cop_pid p = started(NULL), q = started(NULL);
	struct cop_response r;
	int64_t n = 30;
	cop_ref a, b, c;

	a = cop_server_send_request(cop_to(p), SLOW, &n, 8);
	b = cop_server_send_request(cop_to(p), ECHO, "b", 1);
	c = cop_server_send_request(cop_to(q), ECHO, "c", 1);
	T_CHECK(a.id && b.id && c.id);
	T_EQ_INT(cop_server_receive_response(c, RIG_MS, &r), 1);
	T_EQ_INT(*(const char *)r.msg.data, 'c');
	cop_response_done(&r);
	T_EQ_INT(cop_server_receive_response(b, RIG_MS, &r), 1);
	cop_response_done(&r);
	T_EQ_INT(cop_server_receive_response(a, RIG_MS, &r), 1);
	cop_response_done(&r);
	T_CHECK(cop_server_receive_response(a, 1, &r) < 0 && errno == ESRCH);
	a = cop_server_send_request(cop_to(p), SLOW, &n, 8);
	T_EQ_INT(cop_server_receive_response(a, 1, &r), 0); /* abandoned */
	T_CHECK(cop_server_receive_response(a, RIG_MS, &r) < 0 && errno == ESRCH);
	a = cop_server_send_request(cop_to(p), RAISE, NULL, 0);
	T_CHECK(cop_server_receive_response(a, RIG_MS, &r) < 0 && errno == EPIPE);
	T_EQ_STR(text_of(r.reason), "killed");
	T_CHECK(cop_server_send_request(cop_to(p), ECHO, NULL, 0).id == 0 && errno == ESRCH);
	T_CHECK(cop_server_send_request(cop_named("nobody"), ECHO, NULL, 0).id == 0 && errno == ENOENT);
	T_CHECK(cop_server_receive_response(COP_NOREF, 1, &r) < 0 && errno == ESRCH);
	EXPECT_NOTHING();
}

NODE_CASE(too_many_requests)
{
	cop_pid p = started(NULL);
	struct cop_response r;
	cop_ref a[100];
	int i, n;

	for (n = 0; n < 100 && (a[n] = cop_server_send_request(cop_to(p), ECHO, "x", 1)).id; n++)
		;
	T_EQ_INT(n, 64);
	T_EQ_INT(errno, EAGAIN);
	for (i = n; i-- > 0;) {
		T_EQ_INT(cop_server_receive_response(a[i], RIG_MS, &r), 1);
		cop_response_done(&r);
	}
	T_EQ_INT(cop_server_call(cop_to(p), ECHO, NULL, 0, RIG_MS, NULL), 0);
	EXPECT_NOTHING();
}

/* --- stop --- */

NODE_CASE(stops)
{
	struct cop_exit r = reason("shutdown:so"), actual;
	cop_pid p = started(NULL);
	struct cop_started s;

	T_EQ_INT(cop_server_stop(cop_to(p), NULL, RIG_MS, &actual), 0);
	T_EQ_STR(text_of(actual), "normal");
	EXPECT_TERMINATE("normal");
	T_CHECK(cop_server_stop(cop_to(p), NULL, RIG_MS, &actual) < 0 && errno == ESRCH);
	T_EQ_STR(text_of(actual), "noproc");
	T_CHECK(cop_server_stop(cop_named("nobody"), NULL, RIG_MS, NULL) < 0 && errno == ESRCH);
	T_CHECK(cop_server_stop(cop_to(cop_self()), NULL, RIG_MS, NULL) < 0 && errno == EDEADLK);
	T_REQUIRE(start_with("trap", "named", 0, true, &s) == COP_STARTED);
	T_EQ_INT(cop_server_stop(cop_named("named"), &r, RIG_MS, NULL), 0);
	EXPECT_TERMINATE("shutdown:so");
	EXPECT_NOTHING();
}

/* 49 */
NODE_CASE(a_stop_of_a_busy_one)
{
	cop_pid p = started(NULL);
	cop_ref ref = monitored(p);

	T_EQ_INT(cop_server_cast(cop_to(p), SLOW, &(int64_t){ 100 }, 8), 0);
	T_EQ_INT(cop_server_cast(cop_to(p), CONTINUE, &(int64_t){ 5 }, 8), 0);
	T_CHECK(cop_server_stop(cop_to(p), NULL, 10, NULL) < 0 && errno == ETIMEDOUT);
	EXPECT_DOWN(ref, "normal"); /* all the same, and behind what came before */
	EXPECT_TAG(205);
}

static void is_killed_first(void *arg)
{
	(void)arg;
	waits(NULL);
}

NODE_CASE(a_stop_of_one_that_is_killed)
{
	cop_pid p = spawned(is_killed_first, NULL);
	struct cop_exit actual;

	T_CHECK(cop_server_stop(cop_to(p), NULL, 10, NULL) < 0 && errno == ETIMEDOUT);
	cop_kill(p);
	T_CHECK(cop_server_stop(cop_to(p), NULL, RIG_MS, &actual) < 0);
	T_CHECK(errno == EPIPE || errno == ESRCH);
}

/* A cast's return must not answer somebody's call. */
static struct cop_next replies_to_a_cast(void *state, const struct cop_msg *m)
{
	(void)state;
	(void)m;
	return cop_reply("x", 1);
}

NODE_CASE(a_reply_to_a_cast)
{
	static const struct cop_server_ops o = { .state_size = sizeof(struct counter), .handle_call = on_call,
		.handle_cast = replies_to_a_cast };
	struct cop_response r;
	struct cop_started s;
	cop_ref ref, a;

	T_REQUIRE(cop_server_start(&o, NULL, &s) == COP_STARTED);
	ref = monitored(s.pid);
	a = cop_server_send_request(cop_to(s.pid), LATER, NULL, 0);
	T_EQ_INT(cop_server_cast(cop_to(s.pid), 1, NULL, 0), 0);
	EXPECT_DOWN(ref, "bad_return_value");
	T_CHECK(cop_server_receive_response(a, RIG_MS, &r) < 0 && errno == EPIPE);
}

/* An init that closes whatever is open. */
static struct cop_next closes_all(void *state, const void *arg, size_t size)
{
	(void)state;
	(void)arg;
	(void)size;
	syscall(SYS_close_range, 3, ~0u, 0);
	return cop_ok();
}

NODE_CASE(an_init_that_closes_descriptors)
{
	static const struct cop_server_ops o = { .init = closes_all };
	struct cop_started s;

	T_EQ_INT(cop_server_start(&o, NULL, &s), COP_STARTED);
	T_EQ_INT(cop_server_stop(cop_to(s.pid), NULL, RIG_MS, NULL), 0);
}

/* --- no memory left to watch a server with --- */

/* Takes one message for each that is asked for. */
static void gives_back(void *arg)
{
	struct cop_msg m;
	int n;

	(void)arg;
	for (n = 0;;) {
		EVENTUALLY(atomic_load(&rig->flag[0]) > n);
		T_CHECK(cop_receive(&m, NULL, NULL, RIG_MS) == 1);
		cop_msg_done(&m);
		atomic_store(&rig->flag[1], ++n);
	}
}

/* One message of ours lies with somebody who reads it later. */
static void use_up_the_quota(cop_pid holder)
{
	int64_t n = 0;

	while (cop_send_flags(cop_to(holder), 1, &n, sizeof n, COP_NOWAIT) == 0)
		;
	T_EQ_INT(errno, EAGAIN);
}

static void leave_one_node(void)
{
	int n = atomic_fetch_add(&rig->flag[0], 1) + 1;

	EVENTUALLY(atomic_load(&rig->flag[1]) == n);
}

static void calls_with_one_node(void *arg)
{
	cop_pid p = *(cop_pid *)arg, holder = spawned(gives_back, NULL);
	struct cop_response r;
	int64_t n = 50;

	use_up_the_quota(holder);
	leave_one_node();
	T_EQ_INT(cop_server_call(cop_to(p), SLOW, &n, sizeof n, RIG_MS, NULL), 0);
	use_up_the_quota(holder);
	leave_one_node();
	T_CHECK(cop_server_call(cop_to(p), LATER, NULL, 0, 20, &r) < 0 && errno == ETIMEDOUT);
	T_EQ_STR(text_of(r.reason), "timeout");
	use_up_the_quota(holder);
	leave_one_node();
	T_CHECK(cop_server_call(cop_to(p), RAISE, NULL, 0, COP_INFINITY, &r) < 0 && errno == EPIPE);
	T_EQ_STR(text_of(r.reason), "killed");
}

NODE_CASE_WITH(a_call_without_memory_to_monitor, .quota = 65536)
{
	cop_pid p = started(NULL);
	cop_ref ref;

	(void)spawned_monitor(calls_with_one_node, &p, &ref);
	EXPECT_DOWN(ref, "normal");
}

NODE_CASE_WITH(a_stop_without_memory, .quota = 65536)
{
	cop_pid p = started(NULL), holder = spawned(waits, NULL);
	struct cop_exit actual;

	use_up_the_quota(holder);
	T_CHECK(cop_server_stop(cop_to(p), NULL, 20, &actual) < 0 && errno == ETIMEDOUT);
	T_EQ_STR(text_of(actual), "timeout");
	cop_kill(holder);
	T_EQ_INT(cop_server_stop(cop_to(p), NULL, RIG_MS, NULL), 0);
	EXPECT_TERMINATE("normal");
}

/* Leaves itself no memory to say that it has started. */
static struct cop_next uses_all_up(void *state, const void *arg, size_t size)
{
	struct cop_exit r = reason("oops");

	(void)state;
	while (cop_send_flags(cop_to(cop_self()), 1, &r, sizeof r, COP_NOWAIT) == 0)
		;
	T_EQ_INT(errno, EAGAIN);
	if (size == 1)
		return cop_stop(&r);
	(void)arg;
	return cop_ok();
}

NODE_CASE_WITH(a_start_without_memory_to_answer, .quota = 65536)
{
	static const struct cop_server_ops o = { .init = uses_all_up };
	struct cop_server_options fails = { .arg = "x", .arg_size = 1 };
	struct cop_started s;

	T_CHECK(cop_server_start(&o, NULL, &s) == COP_NOT_STARTED && errno == ECANCELED);
	T_EQ_STR(text_of(s.reason), "enomem");
	T_CHECK(cop_server_start(&o, &fails, &s) == COP_NOT_STARTED && errno == ECANCELED);
	T_EQ_STR(text_of(s.reason), "oops");
	EXPECT_NOTHING();
}

static struct cop_next starts_at_about_the_time(void *state, const void *arg, size_t size)
{
	int ns;

	(void)state;
	T_REQUIRE(size == sizeof ns);
	memcpy(&ns, arg, sizeof ns);
	nanosleep(&(struct timespec){ .tv_nsec = ns }, NULL);
	if (ns % 2)
		exit_with("oops");
	return cop_ok();
}

/* However it comes out, nothing of a start that is too late is left. */
NODE_CASE(a_start_when_the_time_is_over)
{
	static const struct cop_server_ops o = { .init = starts_at_about_the_time };
	struct cop_server_options options = { .arg_size = sizeof(int), .timeout_ms = 1 };
	struct cop_started s;
	int i, ns;

	cop_trap_exit(true);
	options.arg = &ns;
	for (i = 0; i < 400 / RIG_HEAVY; i++) {
		ns = 700000 + i % 100 * 4000 + i / 100 % 2;
		if (cop_server_start_link(&o, &options, &s) == COP_STARTED) {
			T_EQ_INT(cop_server_stop(cop_to(s.pid), NULL, RIG_MS, NULL), 0);
			EXPECT_EXIT(s.pid, "normal");
		}
		T_EQ_INT(cop_queue_len(), 0);
		T_EQ_INT(proc.answers.n, 0);
	}
}

T_MAIN(T_RUN(a_start), T_RUN(failing_starts_of_one_that_traps), T_RUN(failing_starts_without_a_link),
    T_RUN(failing_starts_of_one_that_does_not_trap), T_RUN(already_started), T_RUN(wrong_names),
    T_RUN(a_continue_that_crashes), T_RUN(no_room_for_one), T_RUN(calls_and_casts), T_RUN(replies_at_any_instant),
    T_RUN(replies_of_all_sizes),
    T_RUN(ends), T_RUN(ends_in_info), T_RUN(a_reply_and_the_end), T_RUN(an_exit_in_terminate_replaces),
    T_RUN(absent_callbacks), T_RUN(continuations), T_RUN(an_absent_continue), T_RUN(time_outs), T_RUN(hibernation),
    T_RUN(infos), T_RUN(the_parents_end), T_RUN(exits_of_others_are_infos), T_RUN(no_terminate_without_trapping),
    T_RUN(calls_of_nobody), T_RUN(a_call_that_is_too_slow), T_RUN(the_server_dies_in_a_call), T_RUN(call_or_exit),
    T_RUN(a_call_with_a_full_mailbox), T_RUN(late_replies_find_their_callers), T_RUN(a_second_reply_vanishes),
    T_RUN(requests), T_RUN(too_many_requests), T_RUN(stops), T_RUN(a_stop_of_a_busy_one),
    T_RUN(a_stop_of_one_that_is_killed), T_RUN(a_reply_to_a_cast), T_RUN(an_init_that_closes_descriptors),
    T_RUN(a_call_without_memory_to_monitor), T_RUN(a_stop_without_memory), T_RUN(a_start_without_memory_to_answer),
    T_RUN(a_start_when_the_time_is_over))
