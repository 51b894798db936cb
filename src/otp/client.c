/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The callers' side of servers: starting, calling, casting, stopping. Runs in any process.
 *
 * A call needs no monitor as long as the reply comes while the caller spins: it looks at the server's slot
 * instead. Before it sleeps, it monitors the server, so that a death wakes it.
 */
#include <coppice/server.h>

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "otp/registry_private.h"
#include "otp/server.h"
#include "proc/proc.h"

/* --- calls --- */

static struct cop_exit word(const char *text)
{
	return cop_exit_make_text(COP_EXIT_OTHER, 0, text);
}

/* What a call, or stop, waits for. */
struct waiting {
	uint64_t server, ref;
	cop_ref monitor;         /* COP_NOREF: not needed yet */
	int64_t until;
};

static int fail(struct cop_exit *reason_r, struct cop_exit reason, int err)
{
	if (reason_r)
		*reason_r = reason;
	errno = err;
	return -1;
}

static int err_of(const struct cop_exit *reason)
{
	return reason->kind == COP_EXIT_NOPROC ? ESRCH : EPIPE;
}

static struct seg_node *request_node(enum proc_kind kind, uint32_t tag, const void *data, size_t len, unsigned flags)
{
	struct seg_node *n = proc_node(len, flags);

	if (!n)
		return NULL;
	if (len)
		memcpy(seg_node_data(n), data, len);
	n->from = proc.id;
	n->tag = tag;
	atomic_store_explicit(&n->kind, (uint8_t)kind, memory_order_relaxed);
	return n;
}

/* A node that the caller has filled, from its data. */
static struct seg_node *built_node(void *data, enum proc_kind kind, uint32_t tag)
{
	struct seg_node *n = (struct seg_node *)data - 1;

	n->from = proc.id;
	n->tag = tag;
	atomic_store_explicit(&n->kind, (uint8_t)kind, memory_order_relaxed);
	return n;
}

static int not_sent(struct cop_exit *reason_r)
{
	switch (errno) {
	case ETIMEDOUT:
		return fail(reason_r, cop_exit_make(COP_EXIT_TIMEOUT, 0), ETIMEDOUT);
	case EMSGSIZE:
		return fail(reason_r, word("message_too_big"), EMSGSIZE);
	case EAGAIN:
		return fail(reason_r, word("quota"), EAGAIN);
	default:
		return fail(reason_r, word("enomem"), ENOMEM);
	}
}

/* Sends a request: built, or data. 0, or -1 with errno and reason. */
static int ask(struct cop_dest server, uint32_t tag, const void *data, size_t len, void *built, struct waiting *w,
    struct cop_exit *reason_r)
{
	struct cop_exit noproc = cop_exit_make(COP_EXIT_NOPROC, 0);
	struct seg_node *n = built ? built_node(built, NODE_CALL, tag) : NULL;

	w->server = proc_resolve(server);
	w->monitor = COP_NOREF;
	if (w->server == 0 || w->server == proc.id) {
		if (n)
			pool_put(n);
		if (w->server != 0)
			return fail(reason_r, word("calling_self"), EDEADLK);
		return fail(reason_r, noproc, proc_is_named(server) ? ENOENT : ESRCH);
	}
	if (!n)
		n = request_node(NODE_CALL, tag, data, len, 0);
	if (!n)
		return not_sent(reason_r);
	n->ref = w->ref = proc_new_ref(0);
	if (proc_expect(w->ref) < 0) {
		pool_put(n);
		return fail(reason_r, word("too_many_requests"), EAGAIN);
	}
	switch (proc_send(w->server, n, true, 0)) {
	case PROC_SENT:
		return 0;
	case PROC_WOULD_BLOCK:
		proc_unexpect(w->ref);
		return not_sent(reason_r);
	case PROC_GONE:
		break;
	}
	proc_unexpect(w->ref);
	return fail(reason_r, noproc, ESRCH);
}

/* No reply is wanted any more. */
static void give_up(struct waiting *w)
{
	struct seg_node *late;

	proc_unexpect(w->ref);
	if (w->monitor.id)
		(void)cop_demonitor(w->monitor, true);
	w->monitor = COP_NOREF;
	if ((late = proc_answer(NODE_REPLY, w->ref)))
		proc_done(late);
}

#define UNWATCHED_NS 5000000 /* between looks at a server that there is no memory to monitor */

static int64_t soon(int64_t until)
{
	int64_t at = clock_mono_ns() + UNWATCHED_NS;

	return until >= 0 && until < at ? until : at;
}

/* Waits for the reply: 1 and its node, 0 when the time is over, -1 with reason when the server is gone. */
static int await(struct waiting *w, struct seg_node **reply_r, struct cop_exit *reason_r)
{
	struct seg_node *down;
	struct cop_msg msg;
	uint64_t seen;
	bool first = true, gone = false;

	for (;;) {
		(void)proc_take();
		seen = proc.taken;
		if ((*reply_r = proc_answer(NODE_REPLY, w->ref))) {
			proc_unexpect(w->ref);
			if (w->monitor.id)
				(void)cop_demonitor(w->monitor, true);
			return 1;
		}
		if (w->monitor.id && (down = proc_answer(NODE_DOWN, w->monitor.id))) {
			(void)proc_msg(&msg, down);
			/* it was there when it was asked; the monitor may have come after its end */
			if (msg.reason.kind == COP_EXIT_NOPROC)
				(void)proc_last_reason(w->server, &msg.reason);
			if (reason_r)
				*reason_r = msg.reason;
			proc_done(down);
			w->monitor = COP_NOREF;
			proc_unexpect(w->ref);
			errno = err_of(&msg.reason);
			return -1;
		}
		if (gone) {
			struct cop_exit last = cop_exit_make(COP_EXIT_NOPROC, 0);

			(void)proc_last_reason(w->server, &last);
			if (reason_r)
				*reason_r = last;
			proc_unexpect(w->ref);
			errno = err_of(&last);
			return -1;
		}
		if (w->until >= 0 && clock_mono_ns() >= w->until)
			return 0;
		if (first && proc_spin_for_reply(w->server)) {
			first = false;
			continue;
		}
		first = false;
		if (!w->monitor.id) {
			proc.send_until = 1; /* no waiting for room: the reply may come first */
			w->monitor = proc_monitor(w->server);
			proc.send_until = 0;
			if (w->monitor.id)
				continue; /* it may have been gone already */
			gone = !seg_is_there(&proc.seg, w->server);
			if (gone)
				continue; /* after a last look */
		}
		proc_wait(w->monitor.id ? w->until : soon(w->until), seen, -2);
	}
}

struct one {
	enum proc_kind kind;
	uint64_t ref;
};

static bool is_one(void *ctx, const struct seg_node *n)
{
	const struct one *one = ctx;

	return atomic_load_explicit(&n->kind, memory_order_relaxed) == one->kind && n->ref == one->ref;
}

/* Waits for an answer of one kind. NULL: the time is over. */
static struct seg_node *await_one(enum proc_kind kind, uint64_t ref, int64_t until)
{
	struct one one = { kind, ref };

	return proc_await_if(is_one, &one, until);
}

static int respond(struct waiting *w, struct cop_response *response_r)
{
	struct seg_node *reply;
	struct cop_exit reason;

	switch (await(w, &reply, &reason)) {
	case 1:
		if (response_r)
			(void)proc_msg(&response_r->msg, reply);
		else
			proc_done(reply);
		return 0;
	case 0:
		give_up(w);
		return fail(response_r ? &response_r->reason : NULL, cop_exit_make(COP_EXIT_TIMEOUT, 0), ETIMEDOUT);
	default:
		return fail(response_r ? &response_r->reason : NULL, reason, errno);
	}
}

static int call(struct cop_dest server, uint32_t tag, const void *data, size_t len, void *built, int timeout_ms,
    struct cop_response *response_r)
{
	struct waiting w = { .until = -1 };
	int r;

	if (response_r) {
		response_r->msg.held = NULL;
		response_r->msg.data = NULL;
		response_r->msg.len = 0;
	}
	if (timeout_ms >= 0)
		w.until = proc_deadline_ns(timeout_ms);
	proc.send_until = w.until < 0 ? 0 : w.until;
	r = ask(server, tag, data, len, built, &w, response_r ? &response_r->reason : NULL);
	proc.send_until = 0;
	return r < 0 ? -1 : respond(&w, response_r);
}

int cop_server_call(struct cop_dest server, uint32_t tag, const void *data, size_t len, int timeout_ms,
    struct cop_response *response_r)
{
	PROC_REQUIRE();
	return call(server, tag, data, len, NULL, timeout_ms, response_r);
}

int cop_server_call_msg(struct cop_dest server, uint32_t tag, void *data, int timeout_ms,
    struct cop_response *response_r)
{
	PROC_REQUIRE();
	return call(server, tag, NULL, 0, data, timeout_ms, response_r);
}

void cop_response_done(struct cop_response *response)
{
	cop_msg_done(&response->msg);
}

int cop_server_ask(struct cop_dest server, uint32_t tag, const void *data, size_t len, void *reply_r,
    size_t reply_len, int timeout_ms, struct cop_exit *reason_r)
{
	struct cop_response r;
	int err = 0;

	PROC_REQUIRE();
	if (cop_server_call(server, tag, data, len, timeout_ms, &r) < 0) {
		if (reason_r)
			*reason_r = r.reason;
		return -1;
	}
	if (r.msg.len != reply_len)
		err = EBADMSG;
	else if (reply_len)
		memcpy(reply_r, r.msg.data, reply_len);
	cop_response_done(&r);
	if (err)
		return fail(reason_r, word("bad_reply"), err);
	return 0;
}

void cop_server_call_or_exit(struct cop_dest server, uint32_t tag, const void *data, size_t len, void *reply_r,
    size_t reply_len, int timeout_ms)
{
	struct cop_exit reason;

	PROC_REQUIRE();
	if (cop_server_ask(server, tag, data, len, reply_r, reply_len, timeout_ms, &reason) < 0)
		cop_exit(&reason);
}

static int cast(struct cop_dest server, struct seg_node *n)
{
	uint64_t id = proc_resolve(server);

	n->ref = 0;
	if (id == 0) {
		pool_put(n);
		return 0;
	}
	return proc_send(id, n, true, 0) == PROC_WOULD_BLOCK ? -1 : 0;
}

int cop_server_cast(struct cop_dest server, uint32_t tag, const void *data, size_t len)
{
	struct seg_node *n;

	PROC_REQUIRE();
	n = request_node(NODE_CAST, tag, data, len, 0);
	return n ? cast(server, n) : -1;
}

int cop_server_cast_msg(struct cop_dest server, uint32_t tag, void *data)
{
	PROC_REQUIRE();
	return cast(server, built_node(data, NODE_CAST, tag));
}

/* --- requests without waiting --- */

cop_ref cop_server_send_request(struct cop_dest server, uint32_t tag, const void *data, size_t len)
{
	struct waiting w = { .until = -1 };
	uint32_t i;

	PROC_REQUIRE();
	if (ask(server, tag, data, len, NULL, &w, NULL) < 0)
		return COP_NOREF;
	w.monitor = proc_monitor(w.server);
	if (!w.monitor.id) { /* nobody would hear of its end */
		proc_unexpect(w.ref);
		return COP_NOREF;
	}
	for (i = 0; i < PROC_REQUESTS; i++)
		if (proc.request[i] == w.ref)
			proc.request_monitor[i] = w.monitor.id;
	return (cop_ref){ w.ref };
}

int cop_server_receive_response(cop_ref request, int timeout_ms, struct cop_response *response_r)
{
	struct waiting w = { .ref = request.id };
	uint32_t i;
	int r;

	PROC_REQUIRE();
	memset(&response_r->msg, 0, sizeof response_r->msg);
	for (i = 0; i < PROC_REQUESTS; i++)
		if (request.id != 0 && proc.request[i] == request.id)
			w.monitor.id = proc.request_monitor[i];
	if (!w.monitor.id)
		return fail(&response_r->reason, cop_exit_make(COP_EXIT_NOPROC, 0), ESRCH);
	w.until = proc_deadline_ns(timeout_ms);
	r = respond(&w, response_r);
	if (r < 0)
		return errno == ETIMEDOUT ? 0 : -1;
	return 1;
}

/* --- stop --- */

int cop_server_stop(struct cop_dest server, const struct cop_exit *reason, int timeout_ms, struct cop_exit *actual_r)
{
	struct cop_exit normal = cop_exit_make(COP_EXIT_NORMAL, 0), actual;
	int64_t until;
	struct seg_node *down, *n;
	struct cop_msg msg;
	cop_ref monitor;
	uint64_t id;

	PROC_REQUIRE();
	until = timeout_ms < 0 ? -1 : proc_deadline_ns(timeout_ms);
	if (!reason)
		reason = &normal;
	id = proc_resolve(server);
	if (id == 0)
		return fail(actual_r, cop_exit_make(COP_EXIT_NOPROC, 0), ESRCH);
	if (id == proc.id)
		return fail(actual_r, word("calling_self"), EDEADLK);
	proc.send_until = until < 0 ? 0 : until;
	monitor = proc_monitor(id);
	n = monitor.id ? request_node(NODE_STOP, 0, reason, sizeof *reason, 0) : NULL;
	proc.send_until = 0;
	if (!n) {
		int err = errno;

		if (monitor.id)
			(void)cop_demonitor(monitor, true);
		errno = err;
		return not_sent(actual_r);
	}
	n->ref = 0;
	(void)proc_send(id, n, false, 0);
	down = await_one(NODE_DOWN, monitor.id, until);
	if (!down) {
		(void)cop_demonitor(monitor, true);
		return fail(actual_r, cop_exit_make(COP_EXIT_TIMEOUT, 0), ETIMEDOUT);
	}
	(void)proc_msg(&msg, down);
	actual = msg.reason;
	proc_done(down);
	if (actual_r)
		*actual_r = actual;
	if (actual.kind == reason->kind && actual.value == reason->value && strcmp(actual.text, reason->text) == 0)
		return 0;
	errno = err_of(&actual);
	return -1;
}

/* --- starting --- */

static enum cop_start not_started(struct cop_started *r, struct cop_exit reason, int err)
{
	r->reason = reason;
	errno = err;
	return COP_NOT_STARTED;
}

/* The start has failed, one way or the other: nothing of it stays in the mailbox. */
static void forget(cop_pid pid, cop_ref monitor, bool link)
{
	struct seg_node *ack;
	uint32_t i;

	(void)cop_demonitor(monitor, true);
	if ((ack = proc_answer(NODE_ACK, pid.id)))
		proc_done(ack); /* it came when the time was over */
	if (!link)
		return;
	cop_unlink(pid);
	(void)proc_take();
	for (i = 0; i < 2; i++) {
		struct seg_node *n = proc_find(NODE_EXIT, pid.id, true);

		if (n)
			proc_done(n);
	}
}

enum cop_start server_start_process(cop_proc_f *f, void *arg, bool link, bool supervisor, const char *name,
    const char *label, int timeout_ms, struct cop_started *r)
{
	struct proc_spawn how = { .f = f, .arg = arg, .link = link, .monitor = true, .acks = true,
		.supervisor = supervisor, .up_fd = -1, .label = label };
	struct seg_node *n;
	struct cop_msg msg;
	int64_t until;
	cop_ref monitor;
	uint32_t how_it_went;
	uint64_t seen;

	PROC_REQUIRE();
	memset(r, 0, sizeof *r);
	if (name && (r->pid = cop_whereis(name)).id != 0)
		return not_started(r, word("already_started"), EEXIST);
	until = timeout_ms < 0 ? -1 : proc_deadline_ns(timeout_ms);
	if (proc_spawn(&how, &r->pid, &monitor) < 0)
		return not_started(r, word(errno == ENOMEM ? "enomem" : "system_limit"), errno);
	proc_own_monitor(monitor);
	proc.starting = r->pid.id;
	for (;;) {
		(void)proc_take();
		seen = proc.taken;
		if ((n = proc_answer(NODE_ACK, r->pid.id))) {
			(void)proc_msg(&msg, n);
			how_it_went = n->tag;
			proc_done(n);
			break;
		}
		if ((n = proc_answer(NODE_DOWN, monitor.id))) {
			/* it died before it said anything */
			(void)proc_msg(&msg, n);
			proc_done(n);
			proc.starting = 0;
			forget(r->pid, monitor, link);
			return not_started(r, msg.reason, ECANCELED);
		}
		if (until >= 0 && clock_mono_ns() >= until) {
			if (link)
				cop_unlink(r->pid);
			cop_kill(r->pid);
			proc_done(await_one(NODE_DOWN, monitor.id, -1));
			proc.starting = 0;
			forget(r->pid, monitor, link);
			return not_started(r, cop_exit_make(COP_EXIT_TIMEOUT, 0), ETIMEDOUT);
		}
		proc_wait(until, seen, -2);
	}
	proc.starting = 0;
	if ((int)how_it_went == COP_STARTED) {
		(void)cop_demonitor(monitor, true);
		return COP_STARTED;
	}
	/* wait for its end, so that nothing of it is left when we go on; what the link does to us, it does */
	proc_done(await_one(NODE_DOWN, monitor.id, -1));
	forget(r->pid, monitor, link);
	r->pid = COP_NOPID;
	if ((int)how_it_went == COP_IGNORED)
		return COP_IGNORED;
	if (msg.reason.kind == COP_EXIT_OTHER && strcmp(msg.reason.text, "already_started") == 0) {
		r->pid = name ? cop_whereis(name) : COP_NOPID;
		return not_started(r, msg.reason, EEXIST);
	}
	return not_started(r, msg.reason, ECANCELED);
}

struct server_spec {
	const struct cop_server_ops *ops;
	struct server_start start;
};

static void server_process(void *arg)
{
	struct server_spec *s = arg;

	server_run(s->ops, &s->start);
}

static enum cop_start start(const struct cop_server_ops *ops, const struct cop_server_options *o, bool link,
    struct cop_started *r)
{
	static const struct cop_server_options none;
	struct server_spec s = { .ops = ops };
	enum cop_start how;

	if (!o)
		o = &none;
	s.start = (struct server_start){ .name = o->name, .arg = o->arg, .arg_size = o->arg_size,
		.hibernate_after_ms = o->hibernate_after_ms, .via = o->via };
	memset(r, 0, sizeof *r);
	if (o->via && (r->pid.id = proc_resolve(cop_via(o->via))) != 0)
		return not_started(r, word("already_started"), EEXIST);
	how = server_start_process(server_process, &s, link, false, o->name, o->name ? o->name : ops->name,
	    o->timeout_ms == 0 ? COP_INFINITY : o->timeout_ms, r);
	if (how == COP_NOT_STARTED && errno == EEXIST && o->via && r->pid.id == 0) {
		r->pid.id = proc_resolve(cop_via(o->via));
		errno = EEXIST;
	}
	return how;
}

enum cop_start cop_server_start_link(const struct cop_server_ops *ops, const struct cop_server_options *options,
    struct cop_started *started_r)
{
	PROC_REQUIRE();
	return start(ops, options, true, started_r);
}

enum cop_start cop_server_start(const struct cop_server_ops *ops, const struct cop_server_options *options,
    struct cop_started *started_r)
{
	PROC_REQUIRE();
	return start(ops, options, false, started_r);
}
