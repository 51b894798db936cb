/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The decisions of a supervisor (sup_core.h). An event changes the state and leaves the rest to
 * small steps, which are taken while the owner takes actions: so a stop of ten thousand
 * children needs no buffer for ten thousand actions, and nothing is allocated here.
 *
 * One thing is under way at a time (`doing`): init, a restart, a call, or the end. It walks a
 * range of children, last to first to stop them, first to last to start them, and waits
 * (`*_WAIT`) for one child at a time. Everything that arrives meanwhile waits in the mailbox.
 */
#include <string.h>

#include "base/diag.h"
#include "otp/sup_private.h"

/* --- actions --- */

static struct sup_action *emit(struct sup *s, enum sup_action_type type, uint32_t slot)
{
	struct sup_action *a;

	DIAG_ASSERT(s->ring_n < SUP_RING);
	a = &s->ring[(s->ring_head + s->ring_n++) % SUP_RING];
	*a = (struct sup_action){ .type = (uint8_t)type, .slot = slot };
	return a;
}

static void emit_timer(struct sup *s, uint32_t slot, int64_t at_ms)
{
	struct sup_child *c = &s->child[slot];

	if (at_ms < 0 && !c->timer)
		return;
	c->timer = at_ms >= 0;
	emit(s, SUP_ACT_TIMER, slot)->at_ms = at_ms;
}

static void reply(struct sup *s, const struct sup_call *call, enum sup_reply r, const struct cop_exit *reason)
{
	struct sup_action *a = emit(s, SUP_ACT_REPLY, call->slot);

	a->call = call->call;
	a->reply = (uint8_t)r;
	if (reason)
		a->reason = *reason;
}

static void forget(struct sup *s, uint32_t slot)
{
	emit_timer(s, slot, -1);
	if (s->doing == SUP_DO_RESTART && s->subject == slot)
		s->subject = SUP_NONE; /* somebody else may get the slot while the group starts */
	sup_child_forget(s, slot);
	emit(s, SUP_ACT_FORGET, slot);
}

/* --- children --- */

static bool has_process(const struct sup_child *c)
{
	return c->status >= SUP_ST_STARTING;
}

/* OTP's `restarting`. */
static bool restarting(const struct sup_child *c)
{
	return c->status == SUP_ST_RETRYING || c->status == SUP_ST_BACKOFF;
}

static void cancel_retry(struct sup *s, uint32_t slot)
{
	sup_mail_remove(s, slot * SUP_ITEMS + SUP_ITEM_RETRY);
	emit_timer(s, slot, -1);
	s->child[slot].status = SUP_ST_TERMINATED;
}

/* A child that ends, is stopped or ignores: is its specification dropped with it? */
static bool dropped(const struct sup *s, const struct sup_child *c)
{
	return s->flags.dynamic || c->spec.restart == SUP_TEMPORARY;
}

/* Takes the exit of a child that died by itself out of the mailbox. */
static void absorb_exit(struct sup *s, uint32_t slot)
{
	struct sup_child *c = &s->child[slot];

	sup_mail_remove(s, slot * SUP_ITEMS + SUP_ITEM_EXIT);
	c->exit_waiting = false;
	c->status = SUP_ST_TERMINATED;
}

/* OTP's shutdown(child), up to the wait. */
static void ask_to_end(struct sup *s, uint32_t slot)
{
	struct sup_child *c = &s->child[slot];

	c->status = SUP_ST_STOPPING;
	if (c->spec.shutdown_ms == SUP_SHUTDOWN_BRUTAL) {
		emit(s, SUP_ACT_KILL, slot);
		return;
	}
	emit(s, SUP_ACT_STOP, slot);
	if (c->spec.shutdown_ms == 0)
		emit(s, SUP_ACT_KILL, slot);
	else if (c->spec.shutdown_ms > 0)
		emit_timer(s, slot, s->now_ms + c->spec.shutdown_ms);
}

static void start(struct sup *s, uint32_t slot)
{
	struct sup_child *c = &s->child[slot];

	c->status = SUP_ST_STARTING;
	c->started_ms = -1;
	emit(s, SUP_ACT_START, slot)->restart = s->doing == SUP_DO_RESTART;
	s->phase = SUP_PH_START_WAIT;
}

/* --- ranges --- */

static void mark_range(struct sup *s, uint32_t from)
{
	bool in = from == SUP_NONE;
	uint32_t i;

	for (i = s->first; i != SUP_NONE; i = s->child[i].next) {
		in = in || i == from;
		s->child[i].in_range = in && (!s->child[i].pending_add || s->doing == SUP_DO_EXIT);
	}
	s->single = false;
}

static void begin_stop(struct sup *s)
{
	s->phase = SUP_PH_STOP;
	s->cursor = s->single ? s->subject : s->last;
}

static void begin_start(struct sup *s)
{
	s->phase = SUP_PH_START;
	s->cursor = s->single ? s->subject : s->first;
}

static void finish(struct sup *s)
{
	s->doing = SUP_DO_NOTHING;
	s->phase = SUP_PH_IDLE;
	s->cursor = s->subject = SUP_NONE;
}

/* Ends the supervisor: stops everything, then SUP_ACT_EXIT. */
static void begin_exit(struct sup *s, struct cop_exit reason, uint32_t cause_slot, const struct cop_exit *cause)
{
	if (s->doing == SUP_DO_CALL)
		reply(s, &s->call, SUP_REPLY_SHUTTING_DOWN, NULL);
	if (s->interrupted || s->cycling)
		reply(s, &s->interrupt, SUP_REPLY_SHUTTING_DOWN, NULL);
	s->interrupted = s->cycling = false;
	s->doing = SUP_DO_EXIT;
	s->subject = cause_slot;
	s->reason = reason;
	s->cause = cause ? *cause : (struct cop_exit){ 0 };
	mark_range(s, SUP_NONE);
	if (s->flags.dynamic) {
		s->phase = SUP_PH_STOP_ALL;
		s->cursor = s->first;
		s->waiting = 0;
	} else {
		begin_stop(s);
	}
}

/* --- stopping --- */

/* A child of the range has no process any more. The one whose restart or call this is stays. */
static void stopped(struct sup *s, uint32_t slot)
{
	struct sup_child *c = &s->child[slot];
	bool keep = (s->doing == SUP_DO_CALL && s->call.op == SUP_OP_CYCLE) ||
	    (s->doing == SUP_DO_RESTART && s->subject == slot);

	if (!keep && c->spec.restart == SUP_TEMPORARY)
		forget(s, slot);
}

/* Stops the child at the cursor; true when it had no process to wait for. */
static bool stop_one(struct sup *s, uint32_t slot)
{
	struct sup_child *c = &s->child[slot];

	if (c->exit_waiting)
		absorb_exit(s, slot);
	if (has_process(c)) {
		if (c->status != SUP_ST_STOPPING)
			ask_to_end(s, slot);
		return false;
	}
	if (restarting(c))
		cancel_retry(s, slot);
	return true;
}

static void stop_done(struct sup *s);

static void stop_step(struct sup *s)
{
	uint32_t slot = s->cursor, prev;

	if (slot == SUP_NONE) {
		stop_done(s);
		return;
	}
	prev = s->single ? SUP_NONE : s->child[slot].prev;
	if (s->single || s->child[slot].in_range) {
		if (!stop_one(s, slot)) {
			s->phase = SUP_PH_STOP_WAIT;
			return;
		}
		stopped(s, slot);
	}
	s->cursor = prev;
}

/* DynamicSupervisor's end: everybody is asked at once. */
static void stop_all_step(struct sup *s)
{
	uint32_t slot = s->cursor;

	if (slot == SUP_NONE) {
		s->phase = SUP_PH_STOP_ALL_WAIT;
		if (s->waiting == 0)
			stop_done(s);
		return;
	}
	s->cursor = s->child[slot].next;
	if (stop_one(s, slot))
		stopped(s, slot);
	else
		s->waiting++;
}

static void call_done(struct sup *s, enum sup_reply r, const struct cop_exit *reason)
{
	reply(s, &s->call, r, reason);
	finish(s);
}

/* Everything in the range is stopped. */
static void stop_done(struct sup *s)
{
	struct sup_child *c;

	switch ((enum sup_doing)s->doing) {
	case SUP_DO_EXIT: {
		struct sup_action *a = emit(s, SUP_ACT_EXIT, s->subject);

		a->reason = s->reason;
		a->cause = s->cause;
		s->phase = SUP_PH_ENDED;
		return;
	}
	case SUP_DO_CALL:
		if (s->call.op == SUP_OP_CYCLE) {
			begin_start(s);
			return;
		}
		if (s->flags.dynamic && sup_slot_used(s, s->subject))
			forget(s, s->subject);
		call_done(s, SUP_REPLY_OK, NULL);
		return;
	case SUP_DO_RESTART:
		if (s->delay_ms == 0) {
			begin_start(s);
			return;
		}
		c = &s->child[s->subject];
		c->status = SUP_ST_BACKOFF;
		emit_timer(s, s->subject, s->now_ms + s->delay_ms);
		finish(s);
		return;
	case SUP_DO_NOTHING:
	case SUP_DO_INIT:
	default:
		DIAG_ASSERT(false);
	}
}

/* --- starting --- */

static void start_done(struct sup *s)
{
	if (s->doing == SUP_DO_INIT)
		emit(s, SUP_ACT_INITED, SUP_NONE);
	if (s->doing == SUP_DO_CALL)
		call_done(s, SUP_REPLY_OK, NULL);
	else
		finish(s);
}

static void start_step(struct sup *s)
{
	uint32_t slot = s->cursor;
	struct sup_child *c;

	if (slot == SUP_NONE) {
		start_done(s);
		return;
	}
	c = &s->child[slot];
	if (s->single || slot == s->subject || (c->in_range && c->spec.enabled)) {
		start(s, slot);
		return;
	}
	if (c->in_range)
		c->status = SUP_ST_IGNORED;
	s->cursor = c->next;
}

/* The child at the cursor is dealt with; go on with the next one. */
static void start_next(struct sup *s, uint32_t next)
{
	s->phase = SUP_PH_START;
	s->cursor = s->single ? SUP_NONE : next;
}

static void ignored(struct sup *s, uint32_t slot, uint32_t next)
{
	s->child[slot].status = SUP_ST_IGNORED;
	if (s->doing == SUP_DO_CALL)
		call_done(s, SUP_REPLY_IGNORED, NULL);
	else
		start_next(s, next);
	if (dropped(s, &s->child[slot]))
		forget(s, slot);
}

static void start_failed(struct sup *s, uint32_t slot, const struct cop_exit *reason)
{
	struct sup_child *c = &s->child[slot];

	c->status = SUP_ST_FAILED;
	c->ran_ms = 0;
	switch ((enum sup_doing)s->doing) {
	case SUP_DO_INIT:
		begin_exit(s, cop_exit_make_text(COP_EXIT_SHUTDOWN, 0, "failed_to_start_child"), slot, reason);
		return;
	case SUP_DO_RESTART:
		c->status = SUP_ST_RETRYING;
		sup_mail_push(s, slot * SUP_ITEMS + SUP_ITEM_RETRY);
		finish(s);
		return;
	case SUP_DO_CALL:
		call_done(s, SUP_REPLY_FAILED, reason);
		if (s->call.op == SUP_OP_START || dropped(s, c))
			forget(s, slot);
		return;
	case SUP_DO_NOTHING:
	case SUP_DO_EXIT:
	default:
		DIAG_ASSERT(false);
	}
}

/* --- restarts --- */

/* The range that has to be started again because of `slot`, and what is stopped before. */
static void restart_range(struct sup *s, uint32_t slot)
{
	s->doing = SUP_DO_RESTART;
	s->subject = slot;
	s->single = s->flags.strategy == SUP_ONE_FOR_ONE;
	if (!s->single)
		mark_range(s, s->flags.strategy == SUP_ONE_FOR_ALL ? SUP_NONE : slot);
	begin_stop(s);
}

/* OTP's restart(c): counts, then restarts or gives up. */
static void restart(struct sup *s, uint32_t slot)
{
	struct sup_child *c = &s->child[slot];

	c->status = SUP_ST_TERMINATED;
	if (!sup_intensity_add(&s->intensity, s->now_ms)) {
		emit(s, SUP_ACT_LIMIT, slot);
		begin_exit(s, cop_exit_make(COP_EXIT_SHUTDOWN, 0), slot, &c->exit);
		return;
	}
	c->delay_ms = sup_backoff_next(&c->spec.backoff, c->delay_ms, c->ran_ms);
	s->delay_ms = c->delay_ms;
	restart_range(s, slot);
	emit(s, SUP_ACT_RESTART, slot);
}

/* The delay is over; it was counted when it began. */
static void restart_after_delay(struct sup *s, uint32_t slot)
{
	s->child[slot].status = SUP_ST_TERMINATED;
	s->delay_ms = 0;
	restart_range(s, slot);
}

static bool other_significant_left(const struct sup *s, uint32_t slot)
{
	uint32_t i;

	for (i = s->first; i != SUP_NONE; i = s->child[i].next)
		if (i != slot && s->child[i].spec.significant &&
		    (has_process(&s->child[i]) || restarting(&s->child[i])))
			return true;
	return false;
}

/* A child ended by itself and is not to be restarted. */
static void ended_for_good(struct sup *s, uint32_t slot)
{
	struct sup_child *c = &s->child[slot];
	struct cop_exit cause = c->exit;
	bool end = c->spec.significant && s->flags.auto_shutdown != SUP_AUTO_NEVER &&
	    (s->flags.auto_shutdown == SUP_AUTO_ANY_SIGNIFICANT || !other_significant_left(s, slot));

	c->status = SUP_ST_EXITED;
	if (dropped(s, c))
		forget(s, slot);
	if (end)
		begin_exit(s, cop_exit_make(COP_EXIT_SHUTDOWN, 0), slot, &cause);
}

static void handle_exit(struct sup *s, uint32_t slot)
{
	struct sup_child *c = &s->child[slot];

	c->exit_waiting = false;
	if (c->spec.restart == SUP_PERMANENT ||
	    (c->spec.restart == SUP_TRANSIENT && !cop_exit_is_clean(&c->exit)))
		restart(s, slot);
	else
		ended_for_good(s, slot);
}

/* --- calls --- */

/* restart_child, start_child or the second half of a cycle. */
static void call_start(struct sup *s)
{
	struct sup_child *c = &s->child[s->subject];

	c->spec.enabled = true;
	c->pending_add = false;
	c->delay_ms = 0;
	s->single = true;
	if (s->call.op == SUP_OP_CYCLE)
		begin_stop(s);
	else
		begin_start(s);
}

/* What a call finds that needs nothing to be done: true if it was answered. */
static bool answer_now(struct sup *s, const struct sup_call *call)
{
	const struct sup_child *c = &s->child[call->slot];

	switch ((enum sup_op)call->op) {
	case SUP_OP_START:
	case SUP_OP_RESTART:
	case SUP_OP_DELETE:
		if (has_process(c)) {
			reply(s, call, SUP_REPLY_RUNNING, NULL);
			return true;
		}
		if (restarting(c)) {
			reply(s, call, SUP_REPLY_RESTARTING, NULL);
			return true;
		}
		break;
	case SUP_OP_TERMINATE:
	case SUP_OP_CYCLE:
	default:
		break;
	}
	return false;
}

static void handle_call(struct sup *s, const struct sup_call *call)
{
	if (!sup_slot_used(s, call->slot)) {
		reply(s, call, SUP_REPLY_NOT_FOUND, NULL);
		return;
	}
	if (answer_now(s, call))
		return;
	if (call->op == SUP_OP_DELETE) {
		forget(s, call->slot);
		reply(s, call, SUP_REPLY_OK, NULL);
		return;
	}
	s->doing = SUP_DO_CALL;
	s->call = *call;
	s->subject = call->slot;
	s->single = true;
	if (call->op == SUP_OP_TERMINATE) {
		if (!has_process(&s->child[call->slot]))
			s->child[call->slot].status = restarting(&s->child[call->slot]) ?
			    s->child[call->slot].status : SUP_ST_TERMINATED;
		begin_stop(s);
	} else {
		call_start(s);
	}
}

/* --- the mailbox --- */

static void handle_mail(struct sup *s, uint32_t node)
{
	struct sup_call *call;
	struct sup_call copy;
	uint32_t slot = node / SUP_ITEMS;

	if (node >= SUP_CALL_BASE) {
		call = &s->calls[node - SUP_CALL_BASE];
		copy = *call;
		call->used = false;
		s->n_calls--;
		if (s->doing == SUP_DO_EXIT)
			reply(s, &copy, SUP_REPLY_SHUTTING_DOWN, NULL);
		else
			handle_call(s, &copy);
		return;
	}
	if (node % SUP_ITEMS == SUP_ITEM_EXIT)
		handle_exit(s, slot);
	else if (s->child[slot].status == SUP_ST_RETRYING)
		restart(s, slot);
	else if (s->child[slot].status == SUP_ST_BACKOFF)
		restart_after_delay(s, slot);
}

/* While the supervisor ends, calls are answered and nothing else is taken from the mailbox. */
static bool refuse_call(struct sup *s)
{
	uint32_t node = s->n_calls == 0 ? SUP_NONE : sup_mail_pop_call(s);

	if (node == SUP_NONE)
		return false;
	handle_mail(s, node);
	return true;
}

static bool idle_step(struct sup *s)
{
	uint32_t node;

	if (s->shutdown) {
		begin_exit(s, s->shutdown_reason, SUP_NONE, NULL);
		return true;
	}
	node = sup_mail_pop(s);
	if (node == SUP_NONE)
		return false;
	handle_mail(s, node);
	return true;
}

/* One small step; false when there is nothing to do but wait. */
static bool small_step(struct sup *s)
{
	if (s->doing == SUP_DO_EXIT && refuse_call(s))
		return true;
	switch ((enum sup_phase)s->phase) {
	case SUP_PH_IDLE:
		return idle_step(s);
	case SUP_PH_STOP:
		stop_step(s);
		return true;
	case SUP_PH_STOP_ALL:
		stop_all_step(s);
		return true;
	case SUP_PH_START:
		if (s->shutdown) /* what had to be stopped is stopped; nothing is started any more */
			begin_exit(s, s->shutdown_reason, SUP_NONE, NULL);
		else
			start_step(s);
		return true;
	case SUP_PH_NEW:
	case SUP_PH_STOP_WAIT:
	case SUP_PH_STOP_ALL_WAIT:
	case SUP_PH_START_WAIT:
	case SUP_PH_ENDED:
		return false;
	}
	return false;
}

/* --- events --- */

static void on_started(struct sup *s, const struct sup_event *ev)
{
	static const enum sup_reply cycle_reply[] = {
		[SUP_START_OK] = SUP_REPLY_OK,
		[SUP_START_IGNORE] = SUP_REPLY_IGNORED,
		[SUP_START_FAILED] = SUP_REPLY_FAILED,
	};
	struct sup_child *c = &s->child[ev->slot];
	uint32_t next = c->next;

	if (c->status != SUP_ST_STARTING)
		return; /* it is being stopped: its exit will tell */
	if (s->doing == SUP_DO_EXIT) {
		/* Its turn to be stopped has not come yet. */
		c->status = ev->result == SUP_START_OK ? SUP_ST_RUNNING : SUP_ST_FAILED;
		return;
	}
	if (s->cycling)
		reply(s, &s->interrupt, cycle_reply[ev->result], &ev->reason);
	s->cycling = false;
	switch ((enum sup_start_result)ev->result) {
	case SUP_START_OK:
		c->status = SUP_ST_RUNNING;
		c->started_ms = ev->now_ms;
		start_next(s, next);
		return;
	case SUP_START_IGNORE:
		ignored(s, ev->slot, next);
		return;
	case SUP_START_FAILED:
		c->exit = ev->reason;
		start_failed(s, ev->slot, &ev->reason);
		return;
	}
}

/* The child that was starting has been stopped by an interrupting call. */
static void interrupt_done(struct sup *s, uint32_t slot)
{
	struct sup_call call = s->interrupt;
	uint32_t next = s->child[slot].next;
	struct cop_exit why = cop_exit_make(COP_EXIT_SHUTDOWN, 0);

	s->interrupted = false;
	if (call.op == SUP_OP_CYCLE) {
		s->cycling = true; /* answered when it is started, or by begin_exit */
		if (s->shutdown)
			begin_exit(s, s->shutdown_reason, SUP_NONE, NULL);
		else
			start(s, slot);
		return;
	}
	if (s->doing != SUP_DO_CALL) {
		start_next(s, next);
		if (dropped(s, &s->child[slot]))
			forget(s, slot);
		reply(s, &call, SUP_REPLY_OK, NULL);
		return;
	}
	reply(s, &call, SUP_REPLY_OK, NULL);
	call_done(s, SUP_REPLY_FAILED, &why);
	if (s->call.op == SUP_OP_START || dropped(s, &s->child[slot]))
		forget(s, slot);
}

static void on_exited(struct sup *s, const struct sup_event *ev)
{
	struct sup_child *c = &s->child[ev->slot];
	uint32_t prev = c->prev;

	c->exit = ev->reason;
	c->ran_ms = c->started_ms >= 0 ? ev->now_ms - c->started_ms : 0;
	if (c->status == SUP_ST_RUNNING) {
		c->exit_waiting = true;
		sup_mail_push(s, ev->slot * SUP_ITEMS + SUP_ITEM_EXIT);
		return;
	}
	if (c->status == SUP_ST_STARTING && s->doing == SUP_DO_EXIT) {
		c->status = SUP_ST_FAILED; /* its turn to be stopped has not come yet */
		return;
	}
	DIAG_ASSERT(c->status == SUP_ST_STOPPING);
	emit_timer(s, ev->slot, -1);
	c->status = SUP_ST_TERMINATED;
	if (s->interrupted && s->cursor == ev->slot && s->phase == SUP_PH_START_WAIT) {
		interrupt_done(s, ev->slot);
	} else if (s->phase == SUP_PH_STOP_WAIT && s->cursor == ev->slot) {
		s->cursor = s->single ? SUP_NONE : prev;
		stopped(s, ev->slot);
		s->phase = SUP_PH_STOP;
	} else if (s->phase == SUP_PH_STOP_ALL_WAIT) {
		stopped(s, ev->slot);
		if (--s->waiting == 0)
			stop_done(s);
	}
}

static void on_timer(struct sup *s, uint32_t slot)
{
	struct sup_child *c = &s->child[slot];

	if (!c->timer)
		return;
	c->timer = false;
	if (c->status == SUP_ST_STOPPING)
		emit(s, SUP_ACT_KILL, slot);
	else if (c->status == SUP_ST_BACKOFF)
		sup_mail_push(s, slot * SUP_ITEMS + SUP_ITEM_RETRY);
}

static bool interrupts(const struct sup *s, const struct sup_event *ev)
{
	return ev->interrupt && (ev->op == SUP_OP_TERMINATE || ev->op == SUP_OP_CYCLE) &&
	    s->phase == SUP_PH_START_WAIT && s->cursor == ev->slot && !s->interrupted && !s->cycling && !s->shutdown &&
	    s->child[ev->slot].status == SUP_ST_STARTING;
}

static void on_call(struct sup *s, const struct sup_event *ev)
{
	struct sup_call call = { .used = true, .op = ev->op, .slot = ev->slot, .call = ev->call };
	uint32_t i;

	if (s->phase == SUP_PH_ENDED || !sup_call_room(s)) {
		reply(s, &call, SUP_REPLY_SHUTTING_DOWN, NULL);
		return;
	}
	if (interrupts(s, ev)) {
		s->interrupted = true;
		s->interrupt = call;
		ask_to_end(s, ev->slot);
		return;
	}
	for (i = 0; s->calls[i].used; i++)
		;
	s->calls[i] = call;
	s->n_calls++;
	sup_mail_push(s, SUP_CALL_BASE + i);
}

static void on_shutdown(struct sup *s, const struct sup_event *ev)
{
	if (s->shutdown || s->doing == SUP_DO_EXIT || s->phase == SUP_PH_ENDED)
		return;
	s->shutdown = true;
	s->shutdown_reason = ev->reason;
	if (s->phase == SUP_PH_NEW)
		s->phase = SUP_PH_IDLE;
	else if (s->phase == SUP_PH_START_WAIT && !s->interrupted)
		begin_exit(s, s->shutdown_reason, SUP_NONE, NULL);
}

static void on_init(struct sup *s)
{
	DIAG_ASSERT(s->phase == SUP_PH_NEW);
	s->doing = SUP_DO_INIT;
	mark_range(s, SUP_NONE);
	begin_start(s);
}

void sup_step(struct sup *s, const struct sup_event *ev)
{
	DIAG_ASSERT(s->ring_n == 0);
	s->now_ms = ev->now_ms;
	switch ((enum sup_event_type)ev->type) {
	case SUP_EV_INIT:
		on_init(s);
		break;
	case SUP_EV_STARTED:
		if (sup_slot_used(s, ev->slot))
			on_started(s, ev);
		break;
	case SUP_EV_EXITED:
		if (sup_slot_used(s, ev->slot))
			on_exited(s, ev);
		break;
	case SUP_EV_TIMER:
		if (sup_slot_used(s, ev->slot))
			on_timer(s, ev->slot);
		break;
	case SUP_EV_CALL:
		on_call(s, ev);
		break;
	case SUP_EV_SHUTDOWN:
		on_shutdown(s, ev);
		break;
	}
}

void sup_call_now(struct sup *s, const struct sup_event *ev)
{
	struct sup_call call = { .op = ev->op, .slot = ev->slot, .call = ev->call };

	DIAG_ASSERT(s->ring_n == 0 && s->phase == SUP_PH_IDLE);
	s->now_ms = ev->now_ms;
	handle_call(s, &call);
}

bool sup_next_action(struct sup *s, struct sup_action *act_r)
{
	while (s->ring_n == 0)
		if (!small_step(s))
			return false;
	*act_r = s->ring[s->ring_head];
	s->ring_head = (s->ring_head + 1) % SUP_RING;
	s->ring_n--;
	return true;
}

bool sup_call_room(const struct sup *s)
{
	return s->n_calls < SUP_CALLS_MAX;
}

bool sup_idle(const struct sup *s)
{
	return s->phase == SUP_PH_IDLE && s->mail_first == SUP_NONE && s->ring_n == 0 && !s->shutdown;
}

bool sup_ended(const struct sup *s)
{
	return s->phase == SUP_PH_ENDED && s->ring_n == 0;
}
