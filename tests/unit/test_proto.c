/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* The records of the control protocol: what is put comes out, what is broken is noticed. */
#include "t.h"

#include "node/proto.h"

static uint8_t buf[64 * 1024];
static struct wire_out out;
static struct wire_in in;

static void begin(void)
{
	wire_out_init(&out, buf, sizeof(buf));
}

static void turn(void)
{
	T_CHECK(!out.overflow);
	wire_in_init(&in, buf, out.len);
}

T_CASE(node)
{
	static struct proto_node n = { .node = "demo", .pid = 42, .version = "1.2", .state = PROTO_NODE_RUNNING,
		.uptime_ms = 123456, .file = "/etc/x.conf" }, back;

	begin();
	proto_put_node(&out, &n);
	turn();
	proto_get_node(&in, &back);
	T_CHECK(wire_done(&in));
	T_CHECK(memcmp(&n, &back, sizeof(n)) == 0);
}

static struct proto_child some_child(void)
{
	struct proto_child c;

	memset(&c, 0, sizeof(c));
	strcpy(c.path, "web/nginx");
	c.type = SPEC_DYNAMIC_SUPERVISOR;
	c.state = PROTO_ST_BACKOFF;
	c.restart = SUP_TRANSIENT;
	c.significant = c.has_last_exit = c.dynamic = 1;
	c.pid = 77;
	c.restarts = 3;
	c.uptime_ms = -1;
	c.shutdown_ms = SUP_SHUTDOWN_INFINITY;
	c.last_exit = cop_exit_make(COP_EXIT_CODE, 3);
	strcpy(c.status_text, "busy");
	strcpy(c.command, "nginx -g x");
	c.strategy = SUP_REST_FOR_ONE;
	c.auto_shutdown = SUP_AUTO_ALL_SIGNIFICANT;
	c.max_restarts = 5;
	c.max_seconds = 9;
	c.restarts_left = 1;
	c.max_children = SUP_NO_LIMIT;
	c.order = 12;
	return c;
}

T_CASE(child)
{
	struct proto_child c = some_child(), back;

	memset(&back, 0, sizeof(back));
	begin();
	proto_put_child(&out, &c);
	turn();
	proto_get_child(&in, &back);
	T_CHECK(wire_done(&in));
	T_EQ_STR(back.path, c.path);
	T_EQ_STR(back.command, c.command);
	T_EQ_STR(back.status_text, c.status_text);
	T_EQ_INT(back.type, c.type);
	T_EQ_INT(back.state, c.state);
	T_EQ_INT(back.restart, c.restart);
	T_EQ_INT(back.uptime_ms, -1);
	T_EQ_INT(back.shutdown_ms, SUP_SHUTDOWN_INFINITY);
	T_EQ_INT(back.last_exit.value, 3);
	T_EQ_INT(back.max_children, SUP_NO_LIMIT);
	T_EQ_INT(back.order, 12);
}

T_CASE(death)
{
	static struct proto_death d = { .path = "a", .time_us = 5, .pid = 6, .ran_ms = 7, .asked = 1,
		.restarted = "a b", .lines = "one\ntwo\n" }, back;

	d.reason = cop_exit_make(COP_EXIT_WATCHDOG, 0);
	begin();
	proto_put_death(&out, &d);
	turn();
	proto_get_death(&in, &back);
	T_CHECK(wire_done(&in));
	T_EQ_STR(back.lines, d.lines);
	T_EQ_STR(back.restarted, d.restarted);
	T_EQ_INT(back.reason.kind, COP_EXIT_WATCHDOG);
	T_EQ_INT(back.ran_ms, 7);
}

T_CASE(keep_log)
{
	static struct proto_keep_log k = { .path = "a", .dir = "/x/y", .max_bytes = 1 << 20, .max_files = 3,
		.timestamps = 1, .regex = "ready" }, back;

	begin();
	proto_put_keep_log(&out, &k);
	turn();
	proto_get_keep_log(&in, &back);
	T_CHECK(wire_done(&in));
	T_CHECK(memcmp(&k, &back, sizeof(k)) == 0);
}

T_CASE(every_truncation_is_noticed)
{
	struct proto_child c = some_child(), back;

	begin();
	proto_put_child(&out, &c);
	for (size_t i = 0; i < out.len; i++) {
		wire_in_init(&in, buf, i);
		proto_get_child(&in, &back);
		T_CHECK(in.bad);
	}
}

/* Names are looked up in tables: whatever a peer says, the index is in range. */
T_CASE(no_flip_leads_out_of_a_table)
{
	struct proto_child c = some_child(), back;
	char reason[COP_EXIT_FORMAT_MAX];
	size_t len;

	begin();
	proto_put_child(&out, &c);
	len = out.len;
	for (size_t i = 0; i < len * 8; i++) {
		buf[i / 8] ^= (uint8_t)(1u << i % 8);
		wire_in_init(&in, buf, len);
		proto_get_child(&in, &back);
		T_CHECK(back.type <= SPEC_DYNAMIC_SUPERVISOR);
		T_CHECK(back.state <= PROTO_ST_FAILED);
		T_CHECK(memchr(back.path, '\0', sizeof(back.path)) != NULL);
		cop_exit_format(&back.last_exit, reason, sizeof(reason));
		buf[i / 8] ^= (uint8_t)(1u << i % 8);
	}
}

T_CASE(names)
{
	T_EQ_STR(proto_state_name(PROTO_ST_STARTING), "starting");
	T_EQ_STR(proto_state_name(PROTO_ST_FAILED), "failed");
	T_EQ_STR(proto_state_name(200), "unknown");
	T_EQ_STR(proto_node_state_name(PROTO_NODE_STOPPING), "stopping");
	T_EQ_STR(proto_node_state_name(3), "unknown");
}

T_MAIN(T_RUN(node), T_RUN(child), T_RUN(death), T_RUN(keep_log), T_RUN(every_truncation_is_noticed),
    T_RUN(no_flip_leads_out_of_a_table), T_RUN(names))
