/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The consumer's side of a stream: pulls an element when a task may be started, has the monitor process start it, and
 * gives out results in order or as they come. It runs only in cop_stream_next(): a consumer that takes its time holds
 * back the pulling, not the tasks.
 *
 * Owns a table of slots, one for each task that runs, and in an ordered stream a ring of results from the next to be
 * given out to the last that was begun, which grows as long as the first of them is not there.
 */
#include <coppice/task.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "otp/task_stream.h"

/* --- opening --- */

static bool is_wrong(const struct cop_stream_input *input, cop_stream_work_f *work, const struct cop_stream_options *o)
{
	return !input || !input->next || !work || o->timeout_ms < COP_INFINITY ||
	    o->on_timeout > COP_TIMEOUT_KILL_TASK ||
	    o->shutdown_ms < COP_SHUTDOWN_AT_ONCE || (o->nolink && !o->supervisor) || (o->pooled && o->supervisor) ||
	    (o->batch && !o->pooled) || (o->supervisor && o->ctx_size > COP_MSG_MAX / 2);
}

struct cop_stream *cop_stream_open(const struct cop_stream_input *input, cop_stream_work_f *work,
    const struct cop_stream_options *options)
{
	static const struct cop_stream_options none;
	struct cop_stream *s;

	PROC_REQUIRE();
	if (!options)
		options = &none;
	if (is_wrong(input, work, options)) {
		errno = EINVAL;
		return NULL;
	}
	s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->input = *input;
	s->o = *options;
	s->owner = proc.id;
	s->max = options->max_concurrency ? options->max_concurrency : (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	s->plan = (struct stream_plan){ .work = work, .ctx = options->ctx, .ctx_size = options->ctx_size,
		.timeout_ms = options->timeout_ms == 0 ? COP_TASK_MS : options->timeout_ms,
		.supervised = options->supervisor != NULL, .linked = !options->nolink, .pooled = options->pooled,
		.shutdown_ms = options->shutdown_ms, .consumer = proc.id };
	if (options->supervisor)
		s->plan.sup = *options->supervisor;
	return s;
}

/* --- the monitor process --- */

static int start_monitor(struct cop_stream *s)
{
	struct proc_spawn how = { .f = stream_monitor_main, .arg = &s->plan, .link = true, .monitor = true, .up_fd = -1,
		.label = "stream" };

	s->plan.traps = atomic_load(&proc.slot->trap);
	if (proc_spawn(&how, &s->monitor, &s->plan.ref) < 0)
		return -1;
	proc_own_monitor(s->plan.ref);
	s->runs = true;
	return 0;
}

/* What the monitor process and its tasks have left with us. It is gone. */
static void clean_up(struct cop_stream *s)
{
	struct seg_node *n;

	stream_pool_wait(s);
	(void)proc_take();
	while ((n = proc_answer(NODE_REPLY, s->plan.ref.id))) {
		stream_pool_late(s, n);
		proc_done(n);
	}
	cop_unlink(s->monitor);
	while ((n = proc_find(NODE_EXIT, s->monitor.id, true)))
		proc_done(n);
	s->runs = false;
}

/* Its DOWN has come: what it says. */
static struct cop_exit monitor_down(struct cop_stream *s, struct seg_node *down)
{
	struct cop_msg msg;

	(void)proc_msg(&msg, down);
	proc_done(down);
	clean_up(s);
	return msg.reason;
}

/* Stops the monitor process, and with it all tasks, and waits until they are gone. */
static void stop_monitor(struct cop_stream *s)
{
	struct seg_node *n;
	uint64_t seen;

	if (!s->runs)
		return;
	if (!proc_tell(s->monitor.id, NODE_PLAIN, 0, STREAM_STOP, NULL, 0) && seg_is_there(&proc.seg, s->monitor.id) &&
	    proc_is_monitored(s->plan.ref)) {
		struct cop_exit killed = cop_exit_make(COP_EXIT_KILLED, 0);

		proc_end_unlinked(s->monitor.id, &killed); /* no memory to say it: its tasks go with it */
	}
	for (;;) {
		(void)proc_take();
		seen = proc.taken;
		if ((n = proc_answer(NODE_DOWN, s->plan.ref.id)))
			break;
		proc_wait(-1, seen, -2);
	}
	(void)monitor_down(s, n);
}

static void halt(struct cop_stream *s)
{
	if (!s->halted && s->input.halt && s->begun)
		s->input.halt(s->input.ctx);
	s->halted = true;
}

int stream_fail(struct cop_stream *s, struct cop_stream_result *r, const struct cop_exit *reason, int err)
{
	struct cop_exit copy = *reason;

	s->over = true;
	if (err != ETIMEDOUT)
		stop_monitor(s);
	halt(s);
	*r = (struct cop_stream_result){ .how = -1, .reason = copy };
	errno = err;
	return -1;
}

static const char *word_for(int err)
{
	switch (err) {
	case ENOMEM:
		return "enomem";
	case EMSGSIZE:
		return "message_too_big";
	case EAGAIN:
		return "system_limit";
	case ECANCELED:
		return "canceled";
	default:
		return "input";
	}
}

int stream_fail_errno(struct cop_stream *s, struct cop_stream_result *r, int err)
{
	struct cop_exit reason = cop_exit_make_text(COP_EXIT_OTHER, 0, word_for(err));

	return stream_fail(s, r, &reason, err);
}

int stream_monitor_failed(struct cop_stream *s, struct cop_stream_result *r, struct seg_node *down)
{
	struct cop_exit reason = monitor_down(s, down);

	return stream_fail(s, r, &reason, EPIPE);
}

/* --- slots --- */

static struct stream_slot *slot_of(struct cop_stream *s, const struct seg_node *n)
{
	struct stream_slot *slot = n->peer < s->n_slots ? &s->slots[n->peer] : NULL;

	return slot && slot->used && (uint32_t)slot->position == n->hnext ? slot : NULL;
}

static bool room(struct cop_stream *s)
{
	uint32_t cap = s->cap_slots ? s->cap_slots * 2 : 8, i;
	struct stream_slot *more;

	if (s->free_slot != 0)
		return true;
	more = reallocarray(s->slots, cap, sizeof *more);
	if (!more)
		return false;
	s->slots = more;
	memset(more + s->cap_slots, 0, (cap - s->cap_slots) * sizeof *more);
	for (i = cap; i-- > s->cap_slots;) {
		more[i].next_free = s->free_slot;
		s->free_slot = i + 1;
	}
	s->cap_slots = s->n_slots = cap;
	return true;
}

static struct stream_slot *take_slot(struct cop_stream *s)
{
	struct stream_slot *slot = &s->slots[s->free_slot - 1];

	s->free_slot = slot->next_free;
	memset(slot, 0, sizeof *slot);
	slot->used = true;
	slot->position = s->spawned;
	return slot;
}

static void free_slot(struct cop_stream *s, struct stream_slot *slot)
{
	slot->used = false;
	slot->next_free = s->free_slot;
	s->free_slot = (uint32_t)(slot - s->slots) + 1;
}

/* --- the ring of an ordered stream --- */

static bool ring_room(struct cop_stream *s)
{
	uint64_t cap = s->ring_cap ? s->ring_cap * 2 : 16, i;
	struct stream_outcome *more;

	if (s->o.unordered || s->spawned - s->delivered < s->ring_cap)
		return true;
	more = calloc(cap, sizeof *more);
	if (!more)
		return false;
	for (i = s->delivered; s->ring && i < s->spawned; i++)
		more[i & (cap - 1)] = s->ring[i & (s->ring_cap - 1)];
	free(s->ring);
	s->ring = more;
	s->ring_cap = cap;
	return true;
}

static void drop(struct stream_outcome *o)
{
	if (o->value)
		proc_done(o->value);
	free(o->input);
	*o = (struct stream_outcome){ .how = 0 };
}

/* --- giving out --- */

/* The last result's memory stays until the next call. */
static int give(struct cop_stream *s, struct stream_outcome *o, struct cop_stream_result *r)
{
	struct cop_msg msg;

	s->last = *o;
	*o = (struct stream_outcome){ .how = 0 };
	s->delivered++;
	*r = (struct cop_stream_result){ .how = s->last.how };
	if (s->last.how > 0) {
		(void)proc_msg(&msg, s->last.value);
		r->tag = msg.tag;
		r->data = msg.data;
		r->len = msg.len;
		return 1;
	}
	r->reason = s->last.reason;
	r->input = s->last.input;
	r->input_len = s->last.input_len;
	return 1;
}

/* --- asking for an element, and a task for it --- */

static bool is_about_spawn(void *ctx, const struct seg_node *n)
{
	const struct cop_stream *s = ctx;

	if (n->ref != s->plan.ref.id)
		return false;
	return atomic_load(&n->kind) == NODE_DOWN || n->hprev == STREAM_SPAWNED || n->hprev == STREAM_REFUSED;
}

static int refused(struct cop_stream *s, struct seg_node *n, struct cop_stream_result *r)
{
	struct cop_exit reason = proc_sane_exit(seg_node_data(n));
	int err = (int)n->tag;

	proc_done(n);
	return stream_fail(s, r, &reason, err);
}

/* Waits for the supervisor to have started it, as OTP does. 1, or -1 when the stream has failed. */
static int await_spawned(struct cop_stream *s, struct cop_stream_result *r)
{
	struct seg_node *n = proc_await_if(is_about_spawn, s, -1);

	if (atomic_load(&n->kind) == NODE_DOWN)
		return stream_monitor_failed(s, r, n);
	if (n->hprev == STREAM_REFUSED)
		return refused(s, n, r);
	proc_done(n);
	return 1;
}

/* 1; 0: there are no more; -1: the stream has failed. */
static int spawn(struct cop_stream *s, struct cop_stream_result *r)
{
	struct stream_spawn *data;
	struct stream_slot *slot;
	const void *item = NULL;
	size_t len = 0;
	int more;

	s->begun = true;
	more = s->input.next(s->input.ctx, &item, &len);
	if (more <= 0) {
		s->input_done = true;
		return more < 0 ? stream_fail_errno(s, r, errno) : 0;
	}
	if (!room(s) || !ring_room(s))
		return stream_fail_errno(s, r, ENOMEM);
	data = len <= COP_MSG_MAX ? cop_msg_new(sizeof *data + len, 0) : NULL;
	if (!data)
		return stream_fail_errno(s, r, len <= COP_MSG_MAX ? errno : EMSGSIZE);
	slot = take_slot(s);
	*data = (struct stream_spawn){ (uint32_t)(slot - s->slots), (uint32_t)slot->position, 0 };
	if (len)
		memcpy(data + 1, item, len);
	if (s->o.zip_input_on_exit) {
		slot->result.input = malloc(len + 1);
		if (slot->result.input && len)
			memcpy(slot->result.input, item, len);
		slot->result.input_len = len;
	}
	s->spawned++;
	s->max--;
	(void)cop_msg_send(cop_to(s->monitor), STREAM_SPAWN, data, 0);
	if (s->o.zip_input_on_exit && !slot->result.input)
		return stream_fail_errno(s, r, ENOMEM);
	return s->plan.supervised ? await_spawned(s, r) : 1;
}

/* --- waiting for a task --- */

bool stream_is_event(void *ctx, const struct seg_node *n)
{
	return n->ref == ((const struct cop_stream *)ctx)->plan.ref.id;
}

struct seg_node *stream_next_event(struct cop_stream *s, int64_t until)
{
	return proc_await_if(stream_is_event, s, until);
}

/* A task is over: its result, 1; or the stream fails with it. */
static int over(struct cop_stream *s, struct stream_slot *slot, struct seg_node *n, struct cop_stream_result *r)
{
	struct cop_exit timeout = cop_exit_make(COP_EXIT_TIMEOUT, 0);
	bool late = n->hprev == STREAM_TIMED_OUT;

	if (slot->result.value) {
		slot->result.how = 1; /* it answered before */
		free(slot->result.input);
		slot->result.input = NULL;
	} else if (late && s->o.on_timeout == COP_TIMEOUT_EXIT) {
		proc_done(n);
		return stream_fail(s, r, &timeout, ETIMEDOUT);
	} else {
		slot->result.how = -1;
		slot->result.reason = late ? timeout : proc_sane_exit(seg_node_data(n));
	}
	proc_done(n);
	s->max++;
	return 1;
}

/* Takes one event. 1: a result is ready, in *ready_r; 0: not yet; -1: the stream has failed. */
static int take_event(struct cop_stream *s, struct stream_slot **ready_r, struct cop_stream_result *r)
{
	struct seg_node *n = stream_next_event(s, -1);
	struct stream_slot *slot;

	if (atomic_load(&n->kind) == NODE_DOWN)
		return stream_monitor_failed(s, r, n);
	slot = slot_of(s, n);
	if (!slot || (n->hprev == STREAM_VALUE && slot->result.value)) {
		proc_done(n);
		return 0;
	}
	switch (n->hprev) {
	case STREAM_VALUE:
		slot->result.value = n;
		return 0;
	case STREAM_REFUSED:
		return refused(s, n, r);
	case STREAM_DOWN:
	case STREAM_TIMED_OUT:
		*ready_r = slot;
		return over(s, slot, n, r);
	default:
		proc_done(n);
		return 0;
	}
}

static int plain_next(struct cop_stream *s, struct cop_stream_result *r)
{
	struct stream_slot *slot = NULL;
	struct stream_outcome *next;
	int got;

	for (;;) {
		next = s->o.unordered || s->ring_cap == 0 ? NULL : &s->ring[s->delivered & (s->ring_cap - 1)];
		if (next && s->delivered < s->spawned && next->how != 0)
			return give(s, next, r);
		if (s->input_done && s->spawned == s->delivered)
			return 0;
		if (s->max > 0 && !s->input_done) {
			if (spawn(s, r) < 0)
				return -1;
			continue;
		}
		got = take_event(s, &slot, r);
		if (got < 0)
			return -1;
		if (got == 0)
			continue;
		free_slot(s, slot);
		if (s->o.unordered)
			return give(s, &slot->result, r);
		s->ring[slot->position & (s->ring_cap - 1)] = slot->result;
		slot->result = (struct stream_outcome){ .how = 0 };
	}
}

/* --- for callers --- */

static void require_owner(const struct cop_stream *s, const char *what)
{
	PROC_REQUIRE();
	if (s->owner != proc.id)
		task_wrong_owner(what);
}

int cop_stream_next(struct cop_stream *stream, struct cop_stream_result *result_r)
{
	int r;

	require_owner(stream, __func__);
	drop(&stream->last);
	if (stream->over) {
		struct cop_exit canceled = cop_exit_make_text(COP_EXIT_OTHER, 0, "canceled");

		*result_r = (struct cop_stream_result){ .how = -1, .reason = canceled };
		errno = ECANCELED;
		return -1;
	}
	if (!stream->runs && start_monitor(stream) < 0)
		return stream_fail_errno(stream, result_r, errno);
	r = stream->plan.pooled ? stream_pool_next(stream, result_r) : plain_next(stream, result_r);
	if (r == 0) {
		*result_r = (struct cop_stream_result){ .how = 0 };
		stream->over = true;
		stop_monitor(stream);
		halt(stream);
	}
	return r;
}

bool cop_stream_next_or_exit(struct cop_stream *stream, struct cop_stream_result *result_r)
{
	int r = cop_stream_next(stream, result_r);

	if (r < 0)
		cop_exit(&result_r->reason);
	return r > 0;
}

void cop_stream_close(struct cop_stream *stream)
{
	uint64_t i;

	require_owner(stream, __func__);
	stop_monitor(stream);
	halt(stream);
	drop(&stream->last);
	for (i = 0; i < stream->n_slots; i++)
		drop(&stream->slots[i].result);
	for (i = 0; i < stream->ring_cap; i++)
		drop(&stream->ring[i]);
	stream_pool_free(stream);
	free(stream->slots);
	free(stream->ring);
	free(stream);
}
