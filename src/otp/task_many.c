/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Waiting for many tasks at once: one sorted table of their references, and one pass over what has come. Runs in the
 * owner; allocates the table.
 */
#include <coppice/task.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "otp/task_private.h"

struct waited {
	uint64_t ref;
	size_t at;               /* in the caller's list */
};

struct many {
	const struct cop_task *tasks;
	struct waited *w;        /* by ref; equal ones by their place */
	size_t n;
	struct waited *hit;      /* of the answer that was found */
};

static int by_ref(const void *a, const void *b)
{
	const struct waited *x = a, *y = b;

	if (x->ref != y->ref)
		return x->ref < y->ref ? -1 : 1;
	return x->at < y->at ? -1 : x->at > y->at;
}

static bool begin(struct many *m, const struct cop_task *tasks, size_t n, const char *what)
{
	size_t i;

	m->tasks = tasks;
	m->n = n;
	m->w = calloc(n + 1, sizeof *m->w);
	if (!m->w) {
		errno = ENOMEM;
		return false;
	}
	for (i = 0; i < n; i++) {
		if (tasks[i].owner.id != proc.id)
			task_wrong_owner(what);
		m->w[i] = (struct waited){ tasks[i].ref.id, i };
	}
	qsort(m->w, n, sizeof *m->w, by_ref);
	return true;
}

/* The first of those with this reference. */
static struct waited *find(struct many *m, uint64_t ref)
{
	size_t lo = 0, hi = m->n;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (m->w[mid].ref < ref)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < m->n && m->w[lo].ref == ref ? &m->w[lo] : NULL;
}

static bool wants(void *ctx, const struct seg_node *n)
{
	struct many *m = ctx;
	uint8_t kind = atomic_load_explicit(&n->kind, memory_order_relaxed);

	if (kind != NODE_REPLY && kind != NODE_DOWN)
		return false;
	m->hit = find(m, n->ref);
	return m->hit != NULL;
}

/* The next answer of any, oldest first. A value comes before the end of its own task, and takes that with it. */
static enum task_how next(struct many *m, struct cop_response *r)
{
	struct seg_node *n = proc_answer_if(wants, m);
	const struct cop_task *t;
	struct cop_msg msg;

	if (!n)
		return TASK_NONE;
	t = &m->tasks[m->hit->at];
	if (atomic_load_explicit(&n->kind, memory_order_relaxed) == NODE_REPLY) {
		(void)proc_msg(&r->msg, n);
		task_forget(t);
		return TASK_VALUE;
	}
	(void)proc_msg(&msg, n);
	proc_done(n);
	r->msg = (struct cop_msg){ 0 };
	r->reason = msg.reason;
	if (msg.reason.kind == COP_EXIT_NOPROC)
		(void)proc_last_reason(t->pid.id, &r->reason);
	return TASK_EXIT;
}

/* Those that are listed again get the same; it is the first one's to be done with. Returns how many it was for. */
static size_t share(struct many *m, const struct cop_response *r, struct cop_response *first, size_t stride)
{
	size_t i, at0 = (size_t)(m->hit - m->w);

	for (i = at0; i < m->n && m->w[i].ref == m->hit->ref; i++) {
		struct cop_response *to = (void *)((char *)first + m->w[i].at * stride);

		*to = *r;
		if (i > at0)
			to->msg.held = NULL;
	}
	return i - at0;
}

static int64_t deadline(int timeout_ms)
{
	return timeout_ms < 0 ? -1 : proc_deadline_ns(timeout_ms);
}

static int failed(struct many *m, struct cop_response *responses, const struct cop_exit *reason,
    struct cop_exit *reason_r, int err)
{
	size_t i;

	for (i = 0; i < m->n; i++) {
		cop_response_done(&responses[i]);
		task_forget(&m->tasks[i]);
	}
	free(m->w);
	if (reason_r)
		*reason_r = *reason;
	errno = err;
	return -1;
}

int cop_task_await_many(const struct cop_task *tasks, size_t n, int timeout_ms, struct cop_response *responses_r,
    struct cop_exit *reason_r)
{
	struct cop_exit late = cop_exit_make(COP_EXIT_TIMEOUT, 0);
	int64_t until = deadline(timeout_ms);
	struct cop_response r;
	enum task_how how;
	size_t left = n;
	struct many m;
	uint64_t seen;

	PROC_REQUIRE();
	memset(responses_r, 0, n * sizeof *responses_r);
	if (!begin(&m, tasks, n, __func__))
		return -1;
	while (left > 0) {
		(void)proc_take();
		seen = proc.taken;
		while (left > 0 && (how = next(&m, &r)) != TASK_NONE) {
			if (how == TASK_EXIT)
				return failed(&m, responses_r, &r.reason, reason_r,
				    r.reason.kind == COP_EXIT_NOPROC ? ESRCH : EPIPE);
			left -= share(&m, &r, responses_r, sizeof *responses_r);
		}
		if (left > 0 && until >= 0 && clock_mono_ns() >= until)
			return failed(&m, responses_r, &late, reason_r, ETIMEDOUT);
		if (left > 0)
			proc_wait(until, seen, -2);
	}
	free(m.w);
	return 0;
}

/* --- yield_many --- */

static void mark(struct many *m, struct cop_yielded *y, int how, const struct cop_response *r)
{
	size_t i;

	for (i = (size_t)(m->hit - m->w); i < m->n && m->w[i].ref == m->hit->ref; i++)
		y[m->w[i].at].how = (int8_t)how;
	(void)share(m, r, &y->response, sizeof *y);
}

static void over_time(const struct cop_task *t, uint8_t what, struct cop_yielded *y)
{
	if (what == COP_YIELD_KILL_TASK)
		y->how = (int8_t)cop_task_shutdown(t, COP_TASK_BRUTAL_KILL, &y->response);
	else if (what == COP_YIELD_IGNORE)
		y->how = (int8_t)cop_task_ignore(t, &y->response);
}

static size_t count(struct many *m, size_t ref_at)
{
	size_t i;

	for (i = ref_at; i < m->n && m->w[i].ref == m->w[ref_at].ref; i++)
		;
	return i - ref_at;
}

long cop_task_yield_many(const struct cop_task *tasks, size_t n, const struct cop_yield_options *options,
    struct cop_yielded *yielded_r)
{
	static const struct cop_yield_options none;
	const struct cop_yield_options *o = options ? options : &none;
	int64_t until = deadline(o->timeout_ms ? o->timeout_ms : COP_TASK_MS);
	size_t limit = o->limit && o->limit < n ? o->limit : n, done = 0, i;
	struct cop_response r = { .reason = { 0 } };
	enum task_how how;
	struct many m;
	uint64_t seen;

	PROC_REQUIRE();
	memset(yielded_r, 0, n * sizeof *yielded_r);
	if (!begin(&m, tasks, n, __func__))
		return -1;
	while (done < limit) {
		(void)proc_take();
		seen = proc.taken;
		while (done < limit && (how = next(&m, &r)) != TASK_NONE) {
			mark(&m, yielded_r, how == TASK_VALUE ? 1 : -1, &r);
			done += count(&m, (size_t)(m.hit - m.w));
		}
		if (done < limit && until >= 0 && clock_mono_ns() >= until) {
			for (i = 0; i < n; i++)
				if (yielded_r[i].how == 0)
					over_time(&tasks[i], o->on_timeout, &yielded_r[i]);
			break;
		}
		if (done < limit)
			proc_wait(until, seen, -2);
	}
	free(m.w);
	for (done = i = 0; i < n; i++)
		done += yielded_r[i].how != 0;
	return (long)done;
}
