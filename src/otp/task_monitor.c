/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A stream's monitor process: starts the tasks, is linked to them, tells the consumer how each ended, and ends those
 * that take too long. It traps exits if the consumer does; if not, a task's crash goes through it to the consumer.
 * As it is forked when the stream begins, its memory, and its tasks', is the consumer's as it was then.
 *
 *   message            from        then
 *   STREAM_SPAWN       consumer    a task is started; its element is in our memory when that is copied
 *   STREAM_STOP        consumer    all tasks are killed; when they are gone, `normal`
 *   DOWN of a task     its reaper  the consumer is told
 *   DOWN of consumer   its reaper  linked tasks get its reason, and so do we
 *   (time)                         the task is unlinked and killed, and its DOWN told as a time-out
 */
#include <coppice/task.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "otp/task_private.h"

struct running {
	uint64_t pid, ref;
	uint32_t slot, position;
	int64_t deadline;        /* monotonic ns; < 0: none */
	bool timed_out;
};

static struct {
	const struct stream_plan *plan;
	uint64_t parent_ref;
	struct running *running;
	size_t n, cap;
	struct stream_spawn *item; /* the element at hand */
	size_t item_cap;
} m;

#define ITEM_KEEP 65536 /* bytes of an element's memory that are kept for the next */

static _Noreturn void end(const struct cop_exit *reason)
{
	cop_exit(reason);
}

static _Noreturn void out_of_memory(void)
{
	struct cop_exit reason = cop_exit_make_text(COP_EXIT_OTHER, 0, "enomem");

	end(&reason);
}

/* --- what the consumer is told --- */

/* A value by itself is nothing to be woken for: the consumer goes on when it hears of the task's end. */
static void event_of(struct seg_node *n, enum stream_event ev, uint64_t to, uint64_t ref, uint32_t slot,
    uint32_t position)
{
	n->from = proc.id;
	n->ref = ref;
	n->peer = slot;
	n->hnext = position;
	n->hprev = ev;
	atomic_store_explicit(&n->kind, NODE_REPLY, memory_order_relaxed);
	if (ev == STREAM_VALUE)
		(void)proc_send_quiet(to, n);
	else
		(void)proc_send(to, n, false, 0);
}

static void event(enum stream_event ev, uint32_t slot, uint32_t position, uint32_t tag, const void *data, size_t len)
{
	struct seg_node *n = proc_node(len, 0);

	if (!n)
		out_of_memory(); /* it hears of our end instead */
	memcpy(seg_node_data(n), data, len);
	n->tag = tag;
	event_of(n, ev, m.plan->consumer, m.plan->ref.id, slot, position);
}

void stream_answer(struct cop_result result, uint64_t to, uint64_t ref, uint32_t slot, uint32_t position)
{
	event_of(task_value(result), STREAM_VALUE, to, ref, slot, position);
}

/* --- tasks --- */

struct birth {
	const struct stream_plan *plan;
	const struct stream_spawn *spawn;
	size_t len;
};

static void task(void *arg)
{
	const struct birth *b = arg;
	const struct stream_plan *p = b->plan;

	if (p->pooled)
		stream_worker(p, b->spawn->slot);
	stream_answer(p->work(p->ctx, b->spawn + 1, b->len), p->consumer, p->ref.id, b->spawn->slot,
	    b->spawn->position);
}

static int start_plain(struct running *r, const struct stream_spawn *s, size_t len)
{
	struct birth b = { m.plan, s, len };
	struct proc_spawn how = { .f = task, .arg = &b, .link = true, .monitor = true, .up_fd = -1, .label = "task" };
	cop_pid pid;
	cop_ref ref;

	if (proc_spawn(&how, &pid, &ref) < 0)
		return -1;
	r->pid = pid.id;
	r->ref = ref.id;
	return 0;
}

static struct task_order *order_for(const struct stream_spawn *s, size_t len)
{
	const struct stream_plan *p = m.plan;
	size_t item_at = (p->ctx_size + 15) & ~(size_t)15;
	unsigned char *data;
	struct task_order *o = task_order_new(item_at + len, &data);

	if (!o)
		return NULL;
	if (p->ctx_size)
		memcpy(data, p->ctx, p->ctx_size);
	if (len)
		memcpy(data + item_at, s + 1, len);
	o->f = (uintptr_t)p->work;
	o->to = p->consumer;
	o->ref = p->ref.id;
	o->stream = s->slot + 1;
	o->position = s->position;
	o->ctx_size = p->ctx_size;
	o->size = len;
	return o;
}

static int start_supervised(struct running *r, const struct stream_spawn *s, size_t len, struct cop_exit *reason_r)
{
	struct task_order *o = order_for(s, len);
	struct cop_started started;
	cop_ref ref;
	int err;

	if (!o)
		return -1;
	if (task_child_start(m.plan->sup, m.plan->shutdown_ms, &started) < 0) {
		err = errno;
		cop_msg_drop(o);
		*reason_r = started.reason;
		if (err == ESRCH || err == EPIPE)
			end(reason_r); /* there is no such supervisor: as OTP's, we exit with the call */
		errno = err;
		return -1;
	}
	if (m.plan->linked && cop_link(started.pid) < 0 && errno == ENOMEM)
		out_of_memory(); /* if it is gone, the monitor says so */
	ref = cop_monitor(cop_to(started.pid));
	if (!ref.id)
		out_of_memory();
	task_order_send(started.pid.id, o);
	r->pid = started.pid.id;
	r->ref = ref.id;
	return 0;
}

static bool room(void)
{
	size_t cap = m.cap ? m.cap * 2 : 16;
	struct running *more;

	if (m.n < m.cap)
		return true;
	more = realloc(m.running, cap * sizeof *more);
	if (!more)
		return false;
	m.running = more;
	m.cap = cap;
	return true;
}

static struct cop_exit reason_of(int err)
{
	const char *word = err == ENOMEM ? "enomem" : err == EMSGSIZE ? "message_too_big" : "system_limit";

	return cop_exit_make_text(COP_EXIT_OTHER, 0, word);
}

/* The element into private memory: a task's copy of that is its own, whatever becomes of us and of the consumer. */
static bool copy_item(const struct cop_msg *msg)
{
	if (msg->len > m.item_cap) {
		free(m.item);
		m.item = malloc(msg->len);
		m.item_cap = m.item ? msg->len : 0;
		if (!m.item)
			return false;
	}
	memcpy(m.item, msg->data, msg->len);
	return true;
}

static void item_done(void)
{
	if (m.item_cap <= ITEM_KEEP)
		return;
	free(m.item);
	m.item = NULL;
	m.item_cap = 0;
}

static void spawn(const struct cop_msg *msg)
{
	struct stream_spawn s;
	struct running r = { .deadline = -1 };
	struct cop_exit reason = { 0 };
	size_t len;
	int err;

	if (msg->len < sizeof s)
		return;
	memcpy(&s, msg->data, sizeof s);
	len = msg->len - sizeof s;
	errno = ENOMEM;
	if (!room() || !copy_item(msg) || (m.plan->supervised ? start_supervised(&r, m.item, len, &reason) :
		start_plain(&r, m.item, len)) < 0) {
		err = errno;
		if (reason.text[0] == '\0' && reason.kind == COP_EXIT_NORMAL)
			reason = reason_of(err);
		event(STREAM_REFUSED, s.slot, s.position, (uint32_t)err, &reason, sizeof reason);
		return;
	}
	item_done();
	r.slot = s.slot;
	r.position = s.position;
	if (m.plan->timeout_ms >= 0 && !m.plan->pooled)
		r.deadline = proc_deadline_ns(m.plan->timeout_ms);
	m.running[m.n++] = r;
	if (m.plan->supervised || m.plan->pooled)
		event(STREAM_SPAWNED, s.slot, s.position, 0, &r.pid, sizeof r.pid);
}

static void task_down(const struct cop_msg *msg)
{
	struct cop_exit reason = msg->reason;
	struct running *r;
	size_t i;

	for (i = 0; i < m.n && m.running[i].ref != msg->ref.id; i++)
		;
	if (i == m.n)
		return;
	r = &m.running[i];
	if (reason.kind == COP_EXIT_NOPROC)
		(void)proc_last_reason(r->pid, &reason);
	event(r->timed_out ? STREAM_TIMED_OUT : STREAM_DOWN, r->slot, r->position, 0, &reason, sizeof reason);
	*r = m.running[--m.n];
}

/* --- time --- */

static void look_at_times(void)
{
	struct cop_exit killed = cop_exit_make(COP_EXIT_KILLED, 0);
	int64_t now = clock_mono_ns();
	size_t i;

	for (i = 0; i < m.n; i++) {
		if (m.running[i].deadline < 0 || m.running[i].deadline > now)
			continue;
		m.running[i].deadline = -1;
		m.running[i].timed_out = true;
		proc_end_unlinked(m.running[i].pid, &killed);
	}
}

/* Milliseconds until a task has taken too long, rounded up. */
static int time_left(void)
{
	int64_t first = -1, left;
	size_t i;

	for (i = 0; i < m.n; i++)
		if (m.running[i].deadline >= 0 && (first < 0 || m.running[i].deadline < first))
			first = m.running[i].deadline;
	if (first < 0)
		return COP_INFINITY;
	left = first - clock_mono_ns();
	return left <= 0 ? 0 : (int)((left + 999999) / 1000000);
}

/* --- the end --- */

static bool is_down(void *ctx, const struct cop_msg *msg)
{
	(void)ctx;
	return msg->kind == COP_MSG_DOWN;
}

/* The stream is closed, early perhaps: nothing of it goes on. If the consumer dies meanwhile, that is no matter. For a
 * pool's processes it is the end of their work, and no failure. */
static _Noreturn void stop(void)
{
	struct cop_exit normal = cop_exit_make(COP_EXIT_NORMAL, 0), shutdown = cop_exit_make(COP_EXIT_SHUTDOWN, 0);
	struct cop_exit killed = cop_exit_make(COP_EXIT_KILLED, 0);
	struct cop_msg msg;
	size_t i;

	cop_trap_exit(true);
	for (i = 0; i < m.n; i++)
		proc_end_other(m.running[i].pid, m.plan->pooled ? &shutdown : &killed);
	while (m.n > 0) {
		if (cop_receive(&msg, is_down, NULL, COP_INFINITY) != 1)
			out_of_memory();
		for (i = 0; i < m.n; i++)
			if (m.running[i].ref == msg.ref.id)
				m.running[i--] = m.running[--m.n];
		cop_msg_done(&msg);
	}
	end(&normal);
}

/* Nobody is left who wants anything. A pool's processes have no use of their own, and end with it. */
static _Noreturn void consumer_down(const struct cop_msg *msg)
{
	struct cop_exit reason = msg->reason, shutdown = cop_exit_make(COP_EXIT_SHUTDOWN, 0);
	size_t i;

	if (reason.kind == COP_EXIT_NOPROC)
		(void)proc_last_reason(m.plan->consumer, &reason);
	for (i = 0; i < m.n; i++) {
		if (m.plan->pooled)
			proc_end_unlinked(m.running[i].pid, &shutdown);
		else if (m.plan->linked)
			cop_exit_signal((cop_pid){ m.running[i].pid }, &reason);
	}
	end(&reason);
}

static void take(struct cop_msg *msg)
{
	if (msg->kind == COP_MSG_PLAIN && msg->from.id == m.plan->consumer && msg->tag == STREAM_SPAWN)
		spawn(msg);
	if (msg->kind == COP_MSG_PLAIN && msg->from.id == m.plan->consumer && msg->tag == STREAM_STOP)
		stop();
	if (msg->kind == COP_MSG_DOWN && msg->ref.id == m.parent_ref)
		consumer_down(msg);
	if (msg->kind == COP_MSG_DOWN)
		task_down(msg);
	cop_msg_done(msg);
}

void stream_monitor_main(void *plan)
{
	struct cop_msg msg;

	memset(&m, 0, sizeof m);
	m.plan = plan;
	cop_trap_exit(m.plan->traps || m.plan->pooled);
	m.parent_ref = cop_monitor(cop_to((cop_pid){ m.plan->consumer })).id;
	if (!m.parent_ref)
		out_of_memory();
	for (;;) {
		switch (cop_receive(&msg, NULL, NULL, time_left())) {
		case 1:
			take(&msg);
			break;
		case -1:
			out_of_memory();
		default:
			break;
		}
		if (m.plan->timeout_ms >= 0)
			look_at_times();
	}
}
