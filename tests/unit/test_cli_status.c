/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* status and tree against a fake node: order, shapes, exit statuses, hostile strings. */
#include <stdlib.h>

#include "base/clock.h"
#include "cli/cli_tree.h"
#include "fake_node.h"
#include "t.h"

static struct ran ran;

/* /, app (db, api), cache (failed): sent parents first, siblings in the wrong order. */
static void send_demo(int fd)
{
	struct proto_child c;

	fake_node(fd);
	c = fake_supervisor("/", 0);
	fake_child(fd, &c);
	c = fake_worker("cache", 1);
	c.state = PROTO_ST_FAILED;
	c.pid = 0;
	c.uptime_ms = -1;
	c.restarts = 4;
	c.has_last_exit = 1;
	c.last_exit = cop_exit_make(COP_EXIT_SIGNAL, SIGKILL);
	fake_child(fd, &c);
	c = fake_supervisor("app", 0);
	c.strategy = SUP_REST_FOR_ONE;
	c.restarts_left = 2;
	fake_child(fd, &c);
	c = fake_worker("app/api", 1);
	fake_child(fd, &c);
	c = fake_worker("app/db", 0);
	snprintf(c.status_text, sizeof c.status_text, "ready");
	fake_child(fd, &c);
}

static void answer_demo(struct fake_request *r)
{
	char path[SPEC_PATH_MAX];

	T_EQ_INT(r->verb, PROTO_STATUS);
	T_EQ_STR(wire_get_str(&r->args, path, sizeof path), "/");
	send_demo(r->fd);
	fake_end(r->fd, 0, "");
}

T_CASE(table)
{
	struct fake f;

	fake_start(&f, answer_demo);
	run_coppice(&ran, "status");
	T_EQ_INT(ran.status, 0);
	T_EQ_STR(ran.err, "");
	T_EQ_STR(ran.out,
	    "PATH     STATE         PID       UPTIME  RESTARTS  DESCRIPTION\n"
	    "app      running       100      0:02:05         0  rest_for_one, restarts left 2/3 in 5 s\n"
	    "app/db   running       100      0:02:05         0  ready\n"
	    "app/api  running       101      0:02:05         0  /bin/worker --port 1\n"
	    "cache    failed          -            -         4  last exit signal:KILL\n");
	run_coppice(&ran, "status --quiet");
	T_EQ_INT(ran.status, 0);
	T_EQ_STR(ran.out, "");
	fake_stop(&f);
}

T_CASE(json)
{
	struct fake f;

	fake_start(&f, answer_demo);
	run_coppice(&ran, "status --json");
	T_EQ_INT(ran.status, 0);
	T_EQ_STR(ran.out,
	    "{\"node\":\"demo\",\"pid\":4242,\"version\":\"0.1.0\",\"state\":\"running\",\"uptime_ms\":123456,"
	    "\"file\":\"/etc/coppice/demo.conf\",\"root\":"
	    "{\"path\":\"/\",\"id\":\"/\",\"type\":\"supervisor\",\"restart\":\"permanent\",\"pid\":100,"
	    "\"state\":\"running\",\"restarts\":0,\"uptime_ms\":125000,\"last_exit\":null,\"significant\":false,"
	    "\"dynamic\":false,\"shutdown\":\"infinity\",\"strategy\":\"one_for_one\",\"max_restarts\":3,"
	    "\"max_seconds\":5,\"restarts_left\":3,\"auto_shutdown\":\"never\",\"children\":["
	    "{\"path\":\"app\",\"id\":\"app\",\"type\":\"supervisor\",\"restart\":\"permanent\",\"pid\":100,"
	    "\"state\":\"running\",\"restarts\":0,\"uptime_ms\":125000,\"last_exit\":null,\"significant\":false,"
	    "\"dynamic\":false,\"shutdown\":\"infinity\",\"strategy\":\"rest_for_one\",\"max_restarts\":3,"
	    "\"max_seconds\":5,\"restarts_left\":2,\"auto_shutdown\":\"never\",\"children\":["
	    "{\"path\":\"app/db\",\"id\":\"db\",\"type\":\"worker\",\"restart\":\"permanent\",\"pid\":100,"
	    "\"state\":\"running\",\"restarts\":0,\"uptime_ms\":125000,\"last_exit\":null,\"significant\":false,"
	    "\"dynamic\":false,\"shutdown\":5000,\"status\":\"ready\",\"command\":\"/bin/worker --port 1\"},"
	    "{\"path\":\"app/api\",\"id\":\"api\",\"type\":\"worker\",\"restart\":\"permanent\",\"pid\":101,"
	    "\"state\":\"running\",\"restarts\":0,\"uptime_ms\":125000,\"last_exit\":null,\"significant\":false,"
	    "\"dynamic\":false,\"shutdown\":5000,\"command\":\"/bin/worker --port 1\"}]},"
	    "{\"path\":\"cache\",\"id\":\"cache\",\"type\":\"worker\",\"restart\":\"permanent\",\"pid\":null,"
	    "\"state\":\"failed\",\"restarts\":4,\"uptime_ms\":null,\"last_exit\":\"signal:KILL\","
	    "\"significant\":false,\"dynamic\":false,\"shutdown\":5000,\"command\":\"/bin/worker --port 1\"}]}}\n");
	fake_stop(&f);
}

T_CASE(drawn)
{
	struct fake f;

	fake_start(&f, answer_demo);
	setenv("LC_ALL", "C", 1);
	run_coppice(&ran, "tree");
	T_EQ_INT(ran.status, 0);
	T_EQ_STR(ran.out,
	    "demo (pid 4242, running, up 0:02:03)\n"
	    "/  running  pid 100  one_for_one, restarts left 3/3 in 5 s\n"
	    "|- app  running  pid 100  rest_for_one, restarts left 2/3 in 5 s\n"
	    "|  |- db  running  pid 100\n"
	    "|  `- api  running  pid 101\n"
	    "`- cache  failed  restarted 4 times  last exit signal:KILL\n");
	setenv("LC_ALL", "C.UTF-8", 1);
	run_coppice(&ran, "tree");
	T_CHECK(strstr(ran.out, "│  └─ api  running") != NULL);
	fake_stop(&f);
}

/* --- one child --- */

static void send_death(int fd)
{
	static struct proto_death d = { .path = "cache", .time_us = 1769860800123456, .pid = 77, .ran_ms = 1500,
		.restarted = "app/db app/api", .lines = "one\ntwo \033[2J\n" };
	uint8_t buf[8192];
	struct wire_out w;

	d.reason = cop_exit_make_text(COP_EXIT_EXEC, ENOENT, "execve");
	wire_out_init(&w, buf, sizeof buf);
	wire_put_u8(&w, PROTO_R_DEATH);
	proto_put_death(&w, &d);
	fake_send(fd, &w);
}

static void answer_one(struct fake_request *r)
{
	char path[SPEC_PATH_MAX];
	struct proto_child c;

	wire_get_str(&r->args, path, sizeof path);
	if (r->verb == PROTO_LOG) {
		fake_end(r->fd, 1, "it has none");
		return;
	}
	if (strcmp(path, "nobody") == 0) {
		fake_end(r->fd, 4, "no such child: nobody");
		return;
	}
	fake_node(r->fd);
	c = fake_worker(path, 0);
	if (strcmp(path, "cache") == 0) {
		c.state = PROTO_ST_BACKOFF;
		c.pid = 0;
		c.uptime_ms = -1;
	}
	fake_child(r->fd, &c);
	if (strcmp(path, "cache") == 0)
		send_death(r->fd);
	fake_end(r->fd, 0, "");
}

T_CASE(one_child_and_its_status)
{
	struct fake f;

	fake_start(&f, answer_one);
	run_coppice(&ran, "status web");
	T_EQ_INT(ran.status, 0);
	T_EQ_STR(ran.out,
	    "Path         : web\nType         : worker\nStatus       : running\n"
	    "Command      : /bin/worker --port 1\nPID          : 100\nUptime       : 0:02:05\n"
	    "Restarts     : 0\nRestart type : permanent\nShutdown     : 5000 ms\nLast exit    : -\n");
	run_coppice(&ran, "status cache");
	T_EQ_INT(ran.status, 3);
	T_CHECK(strstr(ran.out, "Status       : backoff\n") != NULL);
	T_CHECK(strstr(ran.out,
	    "Last exits   :\n"
	    "  2026-01-31T12:00:00.123456Z  exec:ENOENT at execve, pid 77, ran 1.500 s\n"
	    "    restarted with it: app/db app/api\n"
	    "    | one\n"
	    "    | two \\x1b[2J\n") != NULL);
	run_coppice(&ran, "status nobody");
	T_EQ_INT(ran.status, 4);
	T_EQ_STR(ran.out, "");
	T_EQ_STR(ran.err, "coppice: no such child: nobody\n");
	fake_stop(&f);
}

T_CASE(one_child_as_json)
{
	struct fake f;

	fake_start(&f, answer_one);
	run_coppice(&ran, "status cache --json");
	T_EQ_INT(ran.status, 3);
	T_EQ_STR(ran.out,
	    "{\"path\":\"cache\",\"id\":\"cache\",\"type\":\"worker\",\"restart\":\"permanent\",\"pid\":null,"
	    "\"state\":\"backoff\",\"restarts\":0,\"uptime_ms\":null,\"last_exit\":null,\"significant\":false,"
	    "\"dynamic\":false,\"shutdown\":5000,\"command\":\"/bin/worker --port 1\",\"exits\":["
	    "{\"path\":\"cache\",\"time\":\"2026-01-31T12:00:00.123456Z\",\"pid\":77,\"reason\":\"exec:ENOENT\","
	    "\"step\":\"execve\",\"asked\":false,\"ran_ms\":1500,\"restarted\":[\"app/db\",\"app/api\"],"
	    "\"lines\":\"one\\ntwo \\u001b[2J\\n\"}]}\n");
	fake_stop(&f);
}

static void answer_hostile(struct fake_request *r)
{
	struct proto_child c = fake_supervisor("/", 0);

	fake_node(r->fd);
	fake_child(r->fd, &c);
	c = fake_worker("\033[2Jx", 0);
	snprintf(c.command, sizeof c.command, "a\nb\rc\"\xff");
	fake_child(r->fd, &c);
	fake_end(r->fd, 0, "");
}

T_CASE(hostile_strings_are_escaped)
{
	struct fake f;

	fake_start(&f, answer_hostile);
	run_coppice(&ran, "status");
	T_CHECK(strstr(ran.out, "\\x1b[2Jx  running") != NULL);
	T_CHECK(strstr(ran.out, "  a\\x0ab\\x0dc\"\\xff\n") != NULL);
	run_coppice(&ran, "status --json");
	T_CHECK(strstr(ran.out, "\"command\":\"a\\nb\\u000dc\\\"\\ufffd\"") != NULL);
	fake_stop(&f);
}

/* --- the tree itself --- */

static void add_record(struct tree *t, const struct proto_child *c)
{
	uint8_t buf[4096];
	struct wire_out w;
	struct wire_in in;

	wire_out_init(&w, buf, sizeof buf);
	proto_put_child(&w, c);
	wire_in_init(&in, buf, w.len);
	tree_frame(t, PROTO_R_CHILD, &in);
	T_CHECK(wire_done(&in));
}

static void add_worker(struct tree *t, const char *path, uint32_t order)
{
	struct proto_child c = fake_worker(path, order);

	add_record(t, &c);
}

T_CASE(odd_records_do_no_harm)
{
	static const char *const paths[] = { "/", "a", "lost/child", "a", "//", "/a", "", "a/b", "a/b/c/d" };
	struct tree t = { .top = TREE_NONE };
	unsigned depth = 0, n = 0;
	size_t i;

	for (i = 0; i < sizeof paths / sizeof paths[0]; i++)
		add_worker(&t, paths[i], 0);
	tree_link(&t, "/");
	for (i = t.top; i != TREE_NONE && n < 20; i = tree_next(&t, i, &depth))
		n++;
	T_EQ_INT(n, 4); /* the top, a, a/b, and "//" below the top */
	tree_fini(&t);
	t = (struct tree){ .top = TREE_NONE };
	tree_link(&t, "/");
	T_CHECK(t.top == TREE_NONE);
	tree_fini(&t);
}

T_CASE(many_children_are_quick)
{
	struct tree t = { .top = TREE_NONE };
	unsigned depth = 0;
	int64_t at = clock_mono_ms();
	char path[32];
	uint32_t i, n = 0;
	size_t k;

	add_worker(&t, "/", 0);
	for (i = 0; i < 20000; i++) {
		snprintf(path, sizeof path, "c%u", i);
		add_worker(&t, path, 20000 - i);
	}
	tree_link(&t, "");
	for (k = tree_next(&t, t.top, &depth); k != TREE_NONE; k = tree_next(&t, k, &depth), n++)
		T_EQ_INT(t.child[k].c.order, n + 1);
	T_EQ_INT(n, 20000);
	T_CHECK(clock_mono_ms() - at < 5000); /* quadratic would be minutes */
	tree_fini(&t);
}

T_MAIN(T_RUN(table), T_RUN(json), T_RUN(drawn), T_RUN(one_child_and_its_status), T_RUN(one_child_as_json),
    T_RUN(hostile_strings_are_escaped), T_RUN(odd_records_do_no_harm), T_RUN(many_children_are_quick))
