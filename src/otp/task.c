/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Tasks: starting them, in the process that wants their value, and waiting for that. A task that is not under a
 * supervisor is a copy of its owner, who made the monitor before the copy, so that nothing has to be sent to it:
 * it runs at once and its only message is its value.
 */
#include <coppice/task.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "otp/task_private.h"

/* --- values --- */

struct task_sink *task_sink;

static struct cop_exit word(const char *text)
{
	return cop_exit_make_text(COP_EXIT_OTHER, 0, text);
}

_Noreturn void task_unable(void)
{
	struct cop_exit reason = word(errno == ENOMEM ? "enomem" : "reply_too_big");

	cop_exit(&reason);
}

static struct cop_result value(uint32_t tag, const void *data, size_t len)
{
	struct task_sink *sink = task_sink;
	struct seg_node *n;

	if (sink && !sink->used && len <= sink->room) {
		if (len)
			memcpy(sink->at, data, len);
		sink->len = len;
		sink->tag = tag;
		sink->used = true;
		return (struct cop_result){ 0 };
	}
	n = proc_node(len, 0);
	if (!n)
		task_unable();
	if (len)
		memcpy(seg_node_data(n), data, len);
	n->tag = tag;
	return (struct cop_result){ seg_index_of(&proc.seg, n) };
}

struct cop_result cop_return(const void *data, size_t len)
{
	PROC_REQUIRE();
	return value(0, data, len);
}

struct cop_result cop_return_tag(uint32_t tag, const void *data, size_t len)
{
	PROC_REQUIRE();
	return value(tag, data, len);
}

struct cop_result cop_return_nothing(void)
{
	PROC_REQUIRE();
	return value(0, NULL, 0);
}

struct cop_result cop_return_msg(uint32_t tag, void *data)
{
	struct seg_node *n = (struct seg_node *)data - 1;

	PROC_REQUIRE();
	n->tag = tag;
	return (struct cop_result){ seg_index_of(&proc.seg, n) };
}

static _Noreturn void bad_value(void)
{
	struct cop_exit reason = word("bad_return_value");

	cop_exit(&reason);
}

struct seg_node *task_value(struct cop_result result)
{
	struct seg_node *n = seg_node(&proc.seg, result.node);

	if (!n && !(task_sink && task_sink->used))
		bad_value(); /* it is not of our making */
	return n;
}

/* An owner that last ran on our processor can do nothing before we are out of its way, and our end, which comes at
 * once, wakes it as well. Elsewhere it goes on while our memory is being taken down. */
static bool is_out_of_the_way(uint64_t to)
{
	struct seg_slot *p = seg_slot_of(&proc.seg, to);

	return p && atomic_load_explicit(&p->cpu, memory_order_relaxed) != inbox_stamp(proc.slot);
}

void task_answer(struct cop_result result, uint64_t to, uint64_t ref)
{
	struct seg_node *n = task_value(result);

	if (to == 0) {
		pool_put(n);
		return;
	}
	n->from = proc.id;
	n->ref = ref;
	atomic_store_explicit(&n->kind, NODE_REPLY, memory_order_relaxed);
	if (is_out_of_the_way(to))
		(void)proc_send(to, n, false, 0);
	else
		(void)proc_send_quiet(to, n);
}

/* --- starting --- */

/* On the owner's stack, of which the task has a copy. */
struct birth {
	cop_task_f *f;
	const void *arg;
	size_t size;
	uint64_t to;
	cop_ref ref;
};

static void task_process(void *arg)
{
	const struct birth *b = arg;

	task_answer(b->f(b->arg, b->size), b->to, b->ref.id);
}

int cop_task_async(cop_task_f *f, const void *arg, size_t size, struct cop_task *task_r)
{
	struct birth b = { .f = f, .arg = arg, .size = size };
	struct proc_spawn how = { .f = task_process, .arg = &b, .link = true, .monitor = true, .up_fd = -1,
		.label = "task" };

	PROC_REQUIRE();
	b.to = proc.id;
	if (proc_spawn(&how, &task_r->pid, &b.ref) < 0)
		return -1;
	proc_own_monitor(b.ref);
	task_r->ref = b.ref;
	task_r->owner.id = proc.id;
	return 0;
}

static int start(cop_task_f *f, const void *arg, size_t size, bool link, cop_pid *pid_r)
{
	struct birth b = { .f = f, .arg = arg, .size = size };
	struct proc_spawn how = { .f = task_process, .arg = &b, .link = link, .up_fd = -1, .label = "task" };

	return proc_spawn(&how, pid_r, NULL);
}

int cop_task_start(cop_task_f *f, const void *arg, size_t size, cop_pid *pid_r)
{
	PROC_REQUIRE();
	return start(f, arg, size, false, pid_r);
}

int cop_task_start_link(cop_task_f *f, const void *arg, size_t size, cop_pid *pid_r)
{
	PROC_REQUIRE();
	return start(f, arg, size, true, pid_r);
}

int cop_task_completed(uint32_t tag, const void *data, size_t len, struct cop_task *task_r)
{
	struct seg_node *n;

	PROC_REQUIRE();
	n = proc_node(len, COP_NOWAIT); /* what is full of these is emptied by nobody but us */
	if (!n)
		return -1;
	if (len)
		memcpy(seg_node_data(n), data, len);
	n->tag = tag;
	n->from = proc.id;
	n->ref = proc_new_ref(0);
	atomic_store_explicit(&n->kind, NODE_REPLY, memory_order_relaxed);
	if (!proc_queue_put(&proc.answers, seg_index_of(&proc.seg, n))) {
		pool_put(n);
		errno = ENOMEM;
		return -1;
	}
	*task_r = (struct cop_task){ .ref = { n->ref }, .owner = { proc.id } };
	return 0;
}

/* --- waiting --- */

_Noreturn void task_wrong_owner(const char *what)
{
	fprintf(stderr, "coppice: %s: not in the process that made it\n", what);
	abort();
}

#define REQUIRE_OWNER(t) \
	do { \
		PROC_REQUIRE(); \
		if ((t)->owner.id != proc.id) \
			task_wrong_owner(__func__); \
	} while (0)

void task_forget(const struct cop_task *t)
{
	struct seg_node *n;

	if (proc_is_monitored(t->ref))
		(void)cop_demonitor(t->ref, false);
	else if ((n = proc_answer(NODE_DOWN, t->ref.id)))
		proc_done(n);
	if ((n = proc_answer(NODE_REPLY, t->ref.id)))
		proc_done(n);
}

static enum task_how exited(const struct cop_exit *reason, struct cop_response *r)
{
	r->msg = (struct cop_msg){ 0 };
	r->reason = *reason;
	return TASK_EXIT;
}

/* A value is looked for first: whatever came of it later, it was sent before. */
enum task_how task_look(const struct cop_task *t, struct cop_response *r)
{
	struct seg_node *n = proc_answer(NODE_REPLY, t->ref.id);
	struct cop_msg msg;

	if (n) {
		(void)proc_msg(&r->msg, n);
		task_forget(t);
		return TASK_VALUE;
	}
	n = proc_answer(NODE_DOWN, t->ref.id);
	if (!n)
		return TASK_NONE;
	(void)proc_msg(&msg, n);
	proc_done(n);
	if (msg.reason.kind == COP_EXIT_NOPROC)
		(void)proc_last_reason(t->pid.id, &msg.reason); /* of a child that was over before it was monitored */
	return exited(&msg.reason, r);
}

static enum task_how await(const struct cop_task *t, int64_t until, struct cop_response *r)
{
	enum task_how how;
	uint64_t seen;

	for (;;) {
		(void)proc_take();
		seen = proc.taken;
		how = task_look(t, r);
		if (how != TASK_NONE || (until >= 0 && clock_mono_ns() >= until))
			return how;
		proc_wait(until, seen, -2);
	}
}

static int64_t until(int timeout_ms)
{
	return timeout_ms < 0 ? -1 : proc_deadline_ns(timeout_ms);
}

/* What a caller gets: 1, 0 or -1 with errno. */
static int told(enum task_how how, struct cop_response *own, struct cop_response *response_r)
{
	if (how == TASK_NONE)
		own->msg = (struct cop_msg){ 0 };
	if (response_r)
		*response_r = *own;
	else if (how == TASK_VALUE)
		cop_response_done(own);
	if (how == TASK_EXIT)
		errno = own->reason.kind == COP_EXIT_NOPROC ? ESRCH : EPIPE;
	return how == TASK_VALUE ? 1 : how == TASK_NONE ? 0 : -1;
}

int cop_task_await(const struct cop_task *task, int timeout_ms, struct cop_response *response_r)
{
	struct cop_response own;
	enum task_how how;

	REQUIRE_OWNER(task);
	how = await(task, until(timeout_ms), &own);
	if (how == TASK_NONE) {
		task_forget(task);
		own.reason = cop_exit_make(COP_EXIT_TIMEOUT, 0);
		(void)told(how, &own, response_r);
		errno = ETIMEDOUT;
		return -1;
	}
	return told(how, &own, response_r) < 0 ? -1 : 0;
}

void cop_task_await_or_exit(const struct cop_task *task, int timeout_ms, struct cop_response *response_r)
{
	struct cop_response own;

	REQUIRE_OWNER(task);
	if (cop_task_await(task, timeout_ms, &own) < 0)
		cop_exit(&own.reason);
	if (response_r)
		*response_r = own;
	else
		cop_response_done(&own);
}

int cop_task_yield(const struct cop_task *task, int timeout_ms, struct cop_response *response_r)
{
	struct cop_response own = { .reason = { 0 } };
	enum task_how how;

	REQUIRE_OWNER(task);
	how = await(task, until(timeout_ms), &own);
	return told(how, &own, response_r);
}

/* --- ending --- */

int cop_task_ignore(const struct cop_task *task, struct cop_response *response_r)
{
	struct cop_response own = { .reason = { 0 } };
	enum task_how how;

	REQUIRE_OWNER(task);
	(void)proc_take();
	how = task_look(task, &own);
	if (task->pid.id)
		cop_unlink(task->pid);
	if (how == TASK_NONE)
		task_forget(task);
	return told(how, &own, response_r);
}

struct enforcer {
	cop_pid task, owner;
	struct cop_exit reason;
};

static bool is_word_or_down(void *ctx, const struct cop_msg *m)
{
	const struct enforcer *e = ctx;

	return m->kind == COP_MSG_DOWN || (m->kind == COP_MSG_PLAIN && cop_pid_is(m->from, e->owner));
}

/* Sends the exit signal that the owner did not live to send. */
static void enforce(void *arg)
{
	struct enforcer *e = arg;
	struct cop_msg m;

	(void)cop_monitor(cop_to(e->owner));
	if (cop_receive(&m, is_word_or_down, e, COP_INFINITY) == 1 && m.kind == COP_MSG_DOWN)
		cop_exit_signal(e->task, &e->reason);
}

/* Unlinks and sends an exit signal, as one: the owner's death in between must not leave the task behind. Of one that
 * is ended from outside, its slot says so before the link goes; who is asked to end needs somebody who would ask. */
static void unlink_and_end(cop_pid pid, const struct cop_exit *reason)
{
	struct enforcer e = { pid, { proc.id }, *reason };
	struct cop_exit killed = cop_exit_make(COP_EXIT_KILLED, 0);
	struct seg_slot *p = seg_slot_of(&proc.seg, pid.id);
	cop_pid helper = COP_NOPID;

	if (!p || proc_is_kill(reason) || !atomic_load(&p->trap)) {
		proc_end_unlinked(pid.id, proc_is_kill(reason) ? &killed : reason);
		cop_unlink(pid);
		return;
	}
	if (cop_spawn(enforce, &e, &helper) < 0)
		helper = COP_NOPID; /* then it is so much less sure */
	cop_unlink(pid);
	cop_exit_signal(pid, reason);
	if (helper.id)
		(void)proc_tell(helper.id, NODE_PLAIN, 0, 0, NULL, 0);
}

static bool is_ours(const struct cop_exit *reason, bool brutal)
{
	if (brutal)
		return reason->kind == COP_EXIT_KILLED;
	return reason->kind == COP_EXIT_SHUTDOWN && reason->text[0] == '\0';
}

/* Waits for the end that the monitor tells of. False: not in time. */
static bool await_end(cop_ref monitor, int64_t until_ns, struct cop_exit *reason_r)
{
	struct seg_node *n;
	struct cop_msg msg;
	uint64_t seen;

	for (;;) {
		(void)proc_take();
		seen = proc.taken;
		n = proc_answer(NODE_DOWN, monitor.id);
		if (n) {
			(void)proc_msg(&msg, n);
			*reason_r = msg.reason;
			proc_done(n);
			return true;
		}
		if (until_ns >= 0 && clock_mono_ns() >= until_ns)
			return false;
		proc_wait(until_ns, seen, -2);
	}
}

/* Of one that is there: asks, waits, kills. */
static struct cop_exit end_task(const struct cop_task *t, cop_ref monitor, int timeout_ms)
{
	struct cop_exit kill = word("kill"), shutdown = cop_exit_make(COP_EXIT_SHUTDOWN, 0), reason;
	bool brutal = timeout_ms == COP_TASK_BRUTAL_KILL;

	unlink_and_end(t->pid, brutal ? &kill : &shutdown);
	if (!await_end(monitor, brutal ? -1 : until(timeout_ms), &reason)) {
		cop_kill(t->pid);
		(void)await_end(monitor, -1, &reason);
	}
	return reason;
}

int cop_task_shutdown(const struct cop_task *task, int timeout_ms, struct cop_response *response_r)
{
	struct cop_response own = { .reason = { 0 } };
	bool brutal = timeout_ms == COP_TASK_BRUTAL_KILL;
	enum task_how how;
	cop_ref monitor = task->ref;
	struct seg_node *n;

	REQUIRE_OWNER(task);
	if (!task->pid.id)
		return cop_task_ignore(task, response_r);
	(void)proc_take();
	if (!proc_is_monitored(task->ref)) {
		/* it is over, or nobody waits for it any more */
		how = task_look(task, &own);
		if (how != TASK_NONE) {
			cop_unlink(task->pid);
			if (how == TASK_EXIT && is_ours(&own.reason, brutal))
				how = TASK_NONE;
			return told(how, &own, response_r);
		}
		monitor = proc_monitor(task->pid.id);
		if (!monitor.id)
			return told(TASK_NONE, &own, response_r);
	}
	own.reason = end_task(task, monitor, timeout_ms);
	n = proc_answer(NODE_REPLY, task->ref.id);
	if (n) {
		(void)proc_msg(&own.msg, n);
		return told(TASK_VALUE, &own, response_r);
	}
	own.msg = (struct cop_msg){ 0 };
	return told(is_ours(&own.reason, brutal) ? TASK_NONE : TASK_EXIT, &own, response_r);
}
