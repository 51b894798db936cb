/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What blocks: OTP's shutdown(child), the call of a start function, and the lists of both. The
 * names are those of the description. The documented additions are here, too: a shutdown order
 * ends the wait of start(); so does an interrupting call for the very child that is starting;
 * a disabled child is passed over.
 */
#include "model_private.h"

#include <string.h>

/* --- shutdown(child) --- */

static void send_kill(struct model *m, uint32_t key)
{
	model_met(m, SIT_killed_late);
	model_act(m, SUP_ACT_KILL, key);
	world_kill(&m->w, key);
}

/* Sends the exit signal of the child's shutdown kind. */
static void send_stop(struct model *m, uint32_t key)
{
	int32_t ms = m->child[key].spec.shutdown_ms;

	m->child[key].status = SUP_ST_STOPPING;
	if (ms == SUP_SHUTDOWN_BRUTAL) {
		model_met(m, SIT_brutal);
		model_act(m, SUP_ACT_KILL, key);
		world_kill(&m->w, key);
		return;
	}
	model_act(m, SUP_ACT_STOP, key);
	world_stop(&m->w, key);
	if (ms == 0)
		send_kill(m, key);
	else if (ms > 0)
		world_timer(&m->w, key, m->w.now + ms);
}

static void down(struct model *m, uint32_t key, const struct sup_event *ev)
{
	if (ev->reason.kind != COP_EXIT_KILLED && ev->reason.kind != COP_EXIT_SHUTDOWN)
		model_met(m, SIT_died_while_stopping);
	world_timer(&m->w, key, -1);
	m->child[key].ended_at = ev->now_ms;
	m->child[key].status = SUP_ST_TERMINATED;
}

/* A child that died by itself and whose exit still waits counts as stopped. */
static bool absorbed(struct model *m, uint32_t key)
{
	if (!model_take_of(m, MAIL_EXIT, key))
		return false;
	model_met(m, SIT_absorbed_exit);
	m->child[key].status = SUP_ST_TERMINATED;
	return true;
}

/* Stops a child and waits until it is gone. */
static void shutdown(struct model *m, uint32_t key)
{
	struct sup_event ev;

	if (absorbed(m, key))
		return;
	send_stop(m, key);
	while (model_receive(m, &ev)) {
		if (ev.type == SUP_EV_EXITED && ev.slot == key) {
			down(m, key, &ev);
			return;
		}
		if (ev.type == SUP_EV_TIMER && ev.slot == key)
			send_kill(m, key);
		else if (ev.type == SUP_EV_SHUTDOWN)
			model_met(m, m->in_group ? SIT_shutdown_in_group_stop : SIT_shutdown_in_stop);
		else
			model_later(m, &ev);
	}
}

void model_terminate_keep(struct model *m, uint32_t key)
{
	if (model_alive(m, key)) {
		shutdown(m, key);
	} else if (model_restarting(m, key)) {
		model_met(m, m->child[key].status == SUP_ST_BACKOFF ? SIT_backoff_cancelled : SIT_retry_cancelled);
		/* OTP leaves the message; a retry of a later failure would then come before its turn. */
		model_take_of(m, MAIL_TRY_AGAIN, key);
		world_timer(&m->w, key, -1);
		m->child[key].status = SUP_ST_TERMINATED;
	}
}

void model_terminate_one(struct model *m, uint32_t key)
{
	model_terminate_keep(m, key);
	if (model_temporary(m, key))
		model_drop(m, key);
}

void model_terminate_list(struct model *m, uint32_t first, uint32_t except)
{
	uint32_t list[HISTORY_KEYS], n = m->n, i;

	memcpy(list, m->list, sizeof(list));
	for (i = n; i > first; i--) {
		if (list[i - 1] == except)
			continue;
		if (m->in_group && model_temporary(m, list[i - 1]))
			model_met(m, SIT_temporary_dropped_with_group);
		model_terminate_one(m, list[i - 1]);
	}
}

/* --- start --- */

static bool interrupts(const struct sup_event *ev, uint32_t key)
{
	return ev->type == SUP_EV_CALL && ev->interrupt && ev->slot == key;
}

/* Calls the child's start function and waits for what it says. */
static enum result start(struct model *m, uint32_t key, bool again, struct cop_exit *why_r)
{
	struct sup_action a = { .type = SUP_ACT_START, .slot = key, .restart = again };
	struct child *c = &m->child[key];
	struct sup_event ev;

	trace_action(m->t, m->w.now, &a);
	world_start(&m->w, key);
	c->status = SUP_ST_STARTING;
	while (model_receive(m, &ev)) {
		if (ev.type == SUP_EV_STARTED) {
			*why_r = ev.reason;
			c->status = SUP_ST_RUNNING;
			c->ready_at = m->w.now;
			c->ran = true;
			if (ev.result == SUP_START_OK)
				return OK;
			c->ran = false;
			c->status = ev.result == SUP_START_IGNORE ? SUP_ST_IGNORED : SUP_ST_FAILED;
			return ev.result == SUP_START_IGNORE ? IGNORED : FAILED;
		}
		if (ev.type == SUP_EV_SHUTDOWN) {
			model_met(m, SIT_shutdown_in_start);
			return ORDERED;
		}
		if (!m->no_interrupt && interrupts(&ev, key)) {
			m->interrupt = ev;
			return CUT;
		}
		model_later(m, &ev);
	}
	return ORDERED;
}

/* Does what an interrupting call asks for; returns the outcome for whoever wanted the start. A
 * cycle starts the child again at once: what comes of that is the outcome of both. */
static enum result cut(struct model *m, uint32_t key, bool again, struct cop_exit *why_r)
{
	static const enum sup_reply replies[] = { SUP_REPLY_OK, SUP_REPLY_IGNORED, SUP_REPLY_FAILED };
	struct sup_event call = m->interrupt;
	enum result r;

	model_terminate_keep(m, key);
	if (call.op == SUP_OP_TERMINATE) {
		model_met(m, SIT_interrupt_terminate);
		*why_r = cop_exit_make(COP_EXIT_SHUTDOWN, 0);
		if (!m->in_call && model_temporary(m, key))
			model_drop(m, key);
		model_reply(m, &call, SUP_REPLY_OK, NULL);
		return CUT;
	}
	model_met(m, SIT_interrupt_cycle);
	m->no_interrupt = true;
	r = m->ordered ? ORDERED : start(m, key, again, why_r);
	m->no_interrupt = false;
	if (r == ORDERED) {
		m->unanswered = true;
		return r;
	}
	model_reply(m, &call, replies[r], why_r);
	return r;
}

enum result model_start_child(struct model *m, uint32_t key, bool again, struct cop_exit *why_r)
{
	enum result r = start(m, key, again, why_r);

	if (r != CUT)
		return r;
	if (m->in_group)
		model_met(m, SIT_interrupt_in_group);
	if (m->in_call)
		model_met(m, SIT_interrupt_call);
	return cut(m, key, again, why_r);
}

void model_ignored(struct model *m, uint32_t key)
{
	model_met(m, SIT_ignored);
	m->child[key].status = SUP_ST_IGNORED;
	if (model_temporary(m, key))
		model_drop(m, key);
}

enum result model_start_list(struct model *m, uint32_t first, uint32_t cause, uint32_t *failed_r,
	struct cop_exit *why_r)
{
	uint32_t list[HISTORY_KEYS], n = m->n, i;
	bool again = cause != SUP_NONE;
	enum result r;

	memcpy(list, m->list, sizeof(list));
	for (i = first; i < n; i++) {
		if (!m->child[list[i]].spec.enabled && list[i] != cause) {
			model_met(m, SIT_disabled_skipped);
			m->child[list[i]].status = SUP_ST_IGNORED;
			continue;
		}
		if (again && m->child[list[i]].status == SUP_ST_EXITED)
			model_met(m, SIT_finished_started_with_group);
		r = model_start_child(m, list[i], again, why_r);
		*failed_r = list[i];
		if (r == FAILED || r == ORDERED)
			return r;
		if (r == CUT && m->ordered)
			return ORDERED;
		if (r == IGNORED)
			model_ignored(m, list[i]);
	}
	return OK;
}

/* --- the end --- */

/* At its end even a dynamic supervisor forgets the temporary ones only. */
static void forget_temporary(struct model *m, uint32_t key)
{
	if (m->child[key].spec.restart == SUP_TEMPORARY)
		model_drop(m, key);
}

/* A dynamic supervisor stops all at once. */
static void terminate_parallel(struct model *m)
{
	uint32_t list[HISTORY_KEYS], n = m->n, i, left = 0;
	struct sup_event ev;

	memcpy(list, m->list, sizeof(list));
	for (i = 0; i < n; i++) {
		if (model_alive(m, list[i]) && !absorbed(m, list[i])) {
			send_stop(m, list[i]);
			left++;
		} else {
			model_terminate_keep(m, list[i]);
			forget_temporary(m, list[i]);
		}
	}
	if (left > 1)
		model_met(m, SIT_parallel_stop);
	while (left > 0 && model_receive(m, &ev)) {
		if (ev.type == SUP_EV_EXITED) {
			down(m, ev.slot, &ev);
			forget_temporary(m, ev.slot);
			left--;
		} else if (ev.type == SUP_EV_TIMER) {
			send_kill(m, ev.slot);
		} else {
			model_later(m, &ev);
		}
	}
}

void model_terminate(struct model *m, struct cop_exit reason, uint32_t key, const struct cop_exit *cause)
{
	struct sup_action a = { .type = SUP_ACT_EXIT, .slot = key, .reason = reason, .cause = *cause };
	uint32_t i;

	m->ending = true;
	m->in_group = false;
	if (m->unanswered)
		model_reply(m, &m->interrupt, SUP_REPLY_SHUTTING_DOWN, NULL);
	for (i = 0; i < m->mails; i++)
		if (m->mail[i].type == MAIL_CALL)
			model_refuse(m, &m->mail[i].ev);
	if (m->flags.dynamic)
		terminate_parallel(m);
	else
		model_terminate_list(m, 0, SUP_NONE);
	trace_action(m->t, m->w.now, &a);
	m->ended = true;
}
