/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * GenServer: the process of a server. Takes one message after the other, calls the behaviour's functions and
 * does what they say comes next. Runs in the server's process; allocates the state at the start, and
 * otherwise only messages.
 */
#include <coppice/server.h>

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fds.h"
#include "otp/registry_private.h"
#include "otp/server.h"
#include "proc/proc.h"

enum what { WHAT_OK, WHAT_STOP, WHAT_IGNORE };
enum then { THEN_LOOP, THEN_TIMEOUT, THEN_CONTINUE, THEN_HIBERNATE };

static struct {
	const struct cop_server_ops *ops;
	void *state;
	int hibernate_after_ms;
	struct seg_node *request;  /* the call that is being handled, while it may be turned into its reply */
	uint64_t request_from, request_ref;
	struct seg_node *last_reply; /* of cop_stop_reply(), while terminate runs */
	struct cop_exit reason;    /* of the last cop_stop() */
	const struct cop_via *via; /* its name in a registry; NULL */
} server;

/* --- what comes next --- */

static struct cop_next next(enum what what)
{
	return (struct cop_next){ .what = (uint8_t)what };
}

struct cop_next cop_ok(void)
{
	return next(WHAT_OK);
}

struct cop_next cop_ignore(void)
{
	return next(WHAT_IGNORE);
}

struct cop_next cop_stop(const struct cop_exit *reason)
{
	server.reason = *reason;
	return next(WHAT_STOP);
}

/* The request's own node carries the reply home if there is room in it: it belongs to the caller's pool. */
static uint32_t fill_reply(uint32_t tag, const void *data, size_t len)
{
	struct seg_node *n = server.request;

	if (n && len <= seg_node_room(&proc.seg, n))
		server.request = NULL;
	else
		n = proc_node(len, 0);
	if (!n)
		return 0;
	if (len)
		memmove(seg_node_data(n), data, len);
	n->len = (uint32_t)len;
	n->tag = tag;
	return seg_index_of(&proc.seg, n);
}

struct cop_next cop_reply_tag(uint32_t tag, const void *data, size_t len)
{
	struct cop_next n = next(WHAT_OK);

	n.replies = true;
	n.reply = fill_reply(tag, data, len);
	return n;
}

struct cop_next cop_reply_msg(uint32_t tag, void *data)
{
	struct seg_node *node = (struct seg_node *)data - 1;
	struct cop_next n = next(WHAT_OK);

	node->tag = tag;
	n.replies = true;
	n.reply = seg_index_of(&proc.seg, node);
	return n;
}

struct cop_next cop_reply(const void *data, size_t len)
{
	return cop_reply_tag(0, data, len);
}

struct cop_next cop_stop_reply(const struct cop_exit *reason, const void *data, size_t len)
{
	struct cop_next n = cop_reply_tag(0, data, len);

	n.what = WHAT_STOP;
	server.reason = *reason;
	return n;
}

struct cop_next cop_then_continue(struct cop_next n, uint32_t tag, const void *data, size_t len)
{
	struct seg_node *more = proc_node(len, 0);

	if (!more) {
		diag_error("unable to continue: out of memory");
		proc_die(&(struct cop_exit){ .kind = COP_EXIT_OTHER, .text = "enomem" });
	}
	if (len)
		memcpy(seg_node_data(more), data, len);
	more->tag = tag;
	more->from = proc.id;
	more->ref = 0;
	atomic_store(&more->kind, NODE_PLAIN);
	n.more = seg_index_of(&proc.seg, more);
	n.then = THEN_CONTINUE;
	return n;
}

struct cop_next cop_then_timeout(struct cop_next n, int ms)
{
	n.then = ms < 0 ? THEN_LOOP : THEN_TIMEOUT;
	n.timeout_ms = ms;
	return n;
}

struct cop_next cop_then_hibernate(struct cop_next n)
{
	n.then = THEN_HIBERNATE;
	return n;
}

/* --- replies --- */

static void send_reply(struct seg_node *n, uint64_t to, uint64_t ref)
{
	n->from = proc.id;
	n->ref = ref;
	atomic_store_explicit(&n->kind, NODE_REPLY, memory_order_relaxed);
	(void)proc_send(to, n, false, 0);
}

void cop_server_reply(struct cop_from from, uint32_t tag, const void *data, size_t len)
{
	struct seg_node *n;

	PROC_REQUIRE();
	n = proc_node(len, 0);
	if (!n) /* somebody waits for it: he hears of our end instead */
		cop_exit(&(struct cop_exit){ .kind = COP_EXIT_OTHER, .text = "reply_too_big" });
	if (len)
		memcpy(seg_node_data(n), data, len);
	n->tag = tag;
	send_reply(n, from.pid.id, from.ref.id);
}

/* --- the end --- */

static void terminate(const struct cop_exit *reason)
{
	if (server.ops->terminate)
		server.ops->terminate(server.state, reason);
}

static void last_reply(const struct cop_exit *reason)
{
	struct seg_node *n = server.last_reply;

	(void)reason;
	server.last_reply = NULL;
	if (n)
		send_reply(n, server.request_from, server.request_ref);
}

static _Noreturn void stop(const struct cop_next *n)
{
	struct cop_exit reason = server.reason;

	server.last_reply = n->replies && n->reply ? seg_node(&proc.seg, n->reply) : NULL;
	proc.exiting = last_reply; /* also if terminate exits */
	terminate(&reason);
	last_reply(&reason);
	proc_die(&reason);
}

static _Noreturn void stop_because(const char *word)
{
	struct cop_exit reason = cop_exit_make_text(COP_EXIT_OTHER, 0, word);
	struct cop_next n = cop_stop(&reason);

	stop(&n);
}

/* --- handling --- */

static void no_handle_info(const struct cop_msg *msg)
{
	char reason[COP_EXIT_FORMAT_MAX];

	if (msg->kind == COP_MSG_TIMEOUT)
		return;
	if (msg->kind == COP_MSG_EXIT || msg->kind == COP_MSG_DOWN)
		cop_exit_format(&msg->reason, reason, sizeof reason);
	else
		snprintf(reason, sizeof reason, "tag %u, %zu bytes", msg->tag, msg->len);
	diag_warn("server %s: unexpected message dropped: %s", server.ops->name ? server.ops->name : "?", reason);
}

static struct cop_next handle_info(const struct cop_msg *msg)
{
	if (server.ops->handle_info)
		return server.ops->handle_info(server.state, msg);
	no_handle_info(msg);
	return cop_ok();
}

/* Does what a callback's return says; the node of the message it was about is done with. Returns what is left to be
 * done: the time-out, or a continuation. */
static struct cop_next conclude(struct cop_next n)
{
	if (n.what == WHAT_STOP)
		stop(&n);
	if (n.what != WHAT_OK || (n.replies && server.request_from == 0)) /* who asked has been answered, or will be */
		stop_because("bad_return_value");
	if (n.replies && !n.reply)
		stop_because("reply_too_big"); /* or no memory for it: nobody may wait for it */
	if (n.replies)
		send_reply(seg_node(&proc.seg, n.reply), server.request_from, server.request_ref);
	n.replies = false;
	return n;
}

static struct cop_next handle_call(const struct cop_msg *msg, struct seg_node *node)
{
	struct cop_from from = { msg->from, msg->ref };
	struct cop_next n;

	if (!server.ops->handle_call)
		stop_because("bad_call");
	server.request = node;
	server.request_from = from.pid.id;
	server.request_ref = from.ref.id;
	n = server.ops->handle_call(server.state, msg, from);
	if (server.request)
		proc_done(node); /* it did not become the reply */
	server.request = NULL;
	n = conclude(n);
	server.request_from = 0;
	return n;
}

static struct cop_next handle(struct seg_node *node)
{
	enum proc_kind kind = (enum proc_kind)atomic_load_explicit(&node->kind, memory_order_relaxed);
	struct cop_next n;
	struct cop_msg msg;

	if (!proc_msg(&msg, node)) {
		proc_done(node);
		return cop_ok();
	}
	switch ((int)kind) {
	case NODE_CALL:
		return handle_call(&msg, node);
	case NODE_CAST:
		if (!server.ops->handle_cast)
			stop_because("bad_cast");
		n = server.ops->handle_cast(server.state, &msg);
		break;
	case NODE_STOP:
		n = cop_stop(&msg.reason);
		break;
	case NODE_EXIT:
		if ((proc.parented && msg.from.id == proc.starter) || msg.from.id == proc.parent) {
			n = cop_stop(&msg.reason);
			break;
		}
		n = handle_info(&msg);
		break;
	case NODE_ACK:
	case NODE_REPLY:
		n = cop_ok(); /* of a start or a call that was given up */
		break;
	default:
		n = handle_info(&msg);
		break;
	}
	proc_done(node);
	return conclude(n);
}

static struct cop_next run_continue(struct cop_next n)
{
	struct seg_node *node = seg_node(&proc.seg, n.more);
	struct cop_msg msg;

	if (!server.ops->handle_continue || !node || !proc_msg(&msg, node))
		stop_because("bad_continue");
	n = server.ops->handle_continue(server.state, &msg);
	proc_done(node);
	return conclude(n);
}

static void hibernate(void)
{
	pool_trim(&proc.pool, true);
	malloc_trim(0);
}

/* Waits for the next message; NULL when the time is over first. */
static struct seg_node *wait_message(int64_t until)
{
	struct seg_node *node;

	while (!(node = proc_next())) {
		if (until >= 0 && clock_mono_ns() >= until)
			return NULL;
		proc_wait(until, proc.taken, -1);
	}
	return node;
}

static _Noreturn void loop(struct cop_next n)
{
	struct cop_msg timeout = { .kind = COP_MSG_TIMEOUT };
	struct seg_node *node;

	for (;;) {
		while (n.then == THEN_CONTINUE)
			n = run_continue(n);
		if (n.then == THEN_TIMEOUT) {
			node = proc_next(); /* one that is there already wins, also against 0 */
			if (!node)
				node = wait_message(proc_deadline_ns(n.timeout_ms));
			n = node ? handle(node) : conclude(handle_info(&timeout));
			continue;
		}
		node = proc_next();
		if (!node && n.then == THEN_HIBERNATE)
			hibernate();
		if (!node && server.hibernate_after_ms > 0) {
			node = wait_message(proc_deadline_ns(server.hibernate_after_ms));
			if (!node)
				hibernate();
		}
		if (!node)
			node = wait_message(-1);
		n = handle(node);
	}
}

/* --- the start --- */

void server_ack(enum cop_start how, const struct cop_exit *reason)
{
	struct up_ack ack = { .magic = UP_MAGIC, .how = how, .os_pid = getpid() };

	if (reason)
		ack.reason = *reason;
	if (proc.up_fd >= 0) {
		ssize_t n;

		do
			n = write(proc.up_fd, &ack, sizeof ack);
		while (n < 0 && errno == EINTR);
		if (n != (ssize_t)sizeof ack) /* init has closed it: the start must not be waited for in vain */
			proc_die(&(struct cop_exit){ .kind = COP_EXIT_OTHER, .text = "unable_to_answer" });
		fds_close(&proc.up_fd); /* a child says it once */
	} else if (proc.starter_waits) {
		/* without memory it is our end that tells it; one that has not started ends anyway, and for its own reason */
		if (!proc_tell(proc.starter, NODE_ACK, proc.id, (uint32_t)how, &ack.reason, sizeof ack.reason) &&
		    errno != ESRCH && how != COP_NOT_STARTED)
			proc_die(&(struct cop_exit){ .kind = COP_EXIT_OTHER, .text = "enomem" });
	}
	proc.starter_waits = false;
}

static void give_up_name(void)
{
	proc_unname(proc.me);
	registry_give_up_name(server.via);
}

/* cop_exit() in init: the start has failed. */
static void exit_in_init(const struct cop_exit *reason)
{
	give_up_name();
	server_ack(COP_NOT_STARTED, reason);
}

static _Noreturn void not_started(const struct cop_exit *reason)
{
	exit_in_init(reason);
	proc_die(reason);
}

static void *aligned_state(size_t size)
{
	size_t bytes = (size + 15) & ~(size_t)15;
	void *p = NULL;

	if (bytes == 0)
		bytes = 16;
	if (posix_memalign(&p, 16, bytes) != 0)
		return NULL;
	return memset(p, 0, bytes);
}

int server_take_name(const char *name, struct cop_started *started_r)
{
	if (!name || cop_register(name, cop_self()) == 0)
		return 0;
	started_r->reason = errno == EEXIST ? cop_exit_make_text(COP_EXIT_OTHER, 0, "already_started") :
					      cop_exit_make_text(COP_EXIT_OTHER, 0, "bad_name");
	return -1;
}

int server_take_names(const char *name, const struct cop_via *via, struct cop_started *started_r)
{
	return server_take_name(name, started_r) < 0 ? -1 : registry_take_name(via, started_r);
}

_Noreturn void server_run(const struct cop_server_ops *ops, const struct server_start *start)
{
	struct cop_started failed;
	struct cop_next n = cop_ok();

	server.ops = ops;
	server.hibernate_after_ms = start->hibernate_after_ms;
	proc.exiting = exit_in_init;
	server.via = start->via;
	if (server_take_names(start->name, start->via, &failed) < 0) {
		server_ack(COP_NOT_STARTED, &failed.reason);
		proc_die(&failed.reason);
	}
	server.state = aligned_state(ops->state_size);
	if (!server.state)
		not_started(&(struct cop_exit){ .kind = COP_EXIT_OTHER, .text = "enomem" });
	if (ops->init)
		n = ops->init(server.state, start->arg, start->arg_size);
	if (n.what == WHAT_STOP) {
		struct cop_exit reason = server.reason;

		not_started(&reason);
	}
	if (n.what == WHAT_IGNORE) {
		struct cop_exit normal = cop_exit_make(COP_EXIT_NORMAL, 0);

		give_up_name();
		server_ack(COP_IGNORED, NULL);
		proc_die(&normal);
	}
	if (n.what != WHAT_OK || n.replies)
		not_started(&(struct cop_exit){ .kind = COP_EXIT_OTHER, .text = "bad_return_value" });
	server_ack(COP_STARTED, NULL);
	proc.exiting = terminate;
	loop(n);
}
