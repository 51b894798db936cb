/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What the model consists of: the list of children in start order, the mailbox, and the trace
 * it leaves. Whatever comes from outside comes through model_receive(), and what nobody waits
 * for goes to the end of the mailbox with model_later().
 */
#include "model_private.h"

#include <string.h>

/* --- telling --- */

void model_met(struct model *m, enum model_situation s)
{
	m->met[s] = true;
}

void model_act(struct model *m, enum sup_action_type type, uint32_t key)
{
	struct sup_action a = { .type = (uint8_t)type, .slot = key };

	trace_action(m->t, m->w.now, &a);
}

void model_reply(struct model *m, const struct sup_event *call, enum sup_reply what, const struct cop_exit *why)
{
	struct sup_action a = { .type = SUP_ACT_REPLY, .reply = (uint8_t)what, .call = call->call, .slot = call->slot };

	if (why != NULL)
		a.reason = *why;
	if (what == SUP_REPLY_SHUTTING_DOWN)
		model_met(m, SIT_call_shutting_down);
	trace_action(m->t, m->w.now, &a);
}

/* --- the list --- */

bool model_temporary(const struct model *m, uint32_t key)
{
	return m->flags.dynamic || m->child[key].spec.restart == SUP_TEMPORARY;
}

bool model_restarting(const struct model *m, uint32_t key)
{
	return m->child[key].status == SUP_ST_RETRYING || m->child[key].status == SUP_ST_BACKOFF;
}

bool model_alive(const struct model *m, uint32_t key)
{
	return m->child[key].status == SUP_ST_STARTING || m->child[key].status == SUP_ST_RUNNING;
}

void model_drop(struct model *m, uint32_t key)
{
	uint32_t i, n = 0;

	for (i = 0; i < m->n; i++)
		if (m->list[i] != key)
			m->list[n++] = m->list[i];
	m->n = n;
	m->child[key].here = false;
	model_act(m, SUP_ACT_FORGET, key);
}

void model_add(struct model *m, uint32_t key)
{
	m->child[key].here = true;
	m->child[key].status = SUP_ST_NEVER;
	m->list[m->n++] = key;
}

uint32_t model_place(const struct model *m, uint32_t key)
{
	uint32_t i = 0;

	while (m->list[i] != key)
		i++;
	return i;
}

/* --- the mailbox --- */

void model_push(struct model *m, enum mail_type type, const struct sup_event *ev)
{
	m->mail[m->mails++] = (struct mail){ .type = (uint8_t)type, .ev = *ev };
}

void model_take(struct model *m, uint32_t i, struct mail *mail_r)
{
	*mail_r = m->mail[i];
	m->mails--;
	memmove(&m->mail[i], &m->mail[i + 1], (m->mails - i) * sizeof(m->mail[0]));
}

bool model_take_of(struct model *m, enum mail_type type, uint32_t key)
{
	struct mail mail;
	uint32_t i;

	for (i = 0; i < m->mails; i++) {
		if (m->mail[i].type == type && m->mail[i].ev.slot == key) {
			model_take(m, i, &mail);
			return true;
		}
	}
	return false;
}

static uint32_t waiting_starts(const struct model *m)
{
	uint32_t i, n = 0;

	for (i = 0; i < m->mails; i++)
		n += m->mail[i].type == MAIL_CALL && m->mail[i].ev.op == SUP_OP_START;
	return n;
}

/* max_children is judged when the call comes, not when it is served. */
static bool refused(struct model *m, const struct sup_event *ev)
{
	if (ev->type != SUP_EV_CALL || ev->op != SUP_OP_START)
		return false;
	m->child[ev->slot].spec = m->w.history->spec[ev->slot];
	if (m->ending || !m->flags.dynamic || m->n + waiting_starts(m) < m->flags.max_children)
		return false;
	model_met(m, SIT_max_children);
	trace_line(m->t, m->w.now, "reply %llu max_children", (unsigned long long)ev->call);
	return true;
}

static void reload(struct model *m, const struct item *it)
{
	if (it->type == ITEM_FLAGS) {
		model_met(m, SIT_new_flags);
		m->flags = it->flags;
		return;
	}
	model_met(m, SIT_update);
	m->child[it->key].spec = it->spec;
}

bool model_receive(struct model *m, struct sup_event *ev)
{
	struct world_event we;

	while (world_next(&m->w, &we)) {
		if (we.reload != NULL) {
			reload(m, we.reload);
		} else if (we.ev.type == SUP_EV_SHUTDOWN) {
			if (!m->ordered && !m->ending)
				m->order = we.ev.reason;
			m->ordered = true;
			*ev = we.ev;
			return true;
		} else if (!refused(m, &we.ev)) {
			*ev = we.ev;
			return true;
		}
	}
	m->ended = true;
	return false;
}

void model_refuse(struct model *m, const struct sup_event *ev)
{
	if (ev->op == SUP_OP_START)
		model_add(m, ev->slot);
	model_reply(m, ev, SUP_REPLY_SHUTTING_DOWN, NULL);
}

void model_later(struct model *m, const struct sup_event *ev)
{
	if (ev->type == SUP_EV_CALL && m->ending) {
		model_reply(m, ev, SUP_REPLY_SHUTTING_DOWN, NULL);
		return;
	}
	if (ev->type == SUP_EV_STARTED) { /* the start that a shutdown order did not wait for */
		model_met(m, SIT_start_over_at_end);
		m->child[ev->slot].status = ev->result == SUP_START_OK ? SUP_ST_RUNNING : SUP_ST_FAILED;
		return;
	}
	if (ev->type == SUP_EV_EXITED) {
		m->child[ev->slot].ended_at = ev->now_ms;
		model_push(m, MAIL_EXIT, ev);
	} else if (ev->type == SUP_EV_TIMER) {
		model_push(m, MAIL_TIMER, ev);
	} else if (ev->type == SUP_EV_CALL) {
		model_push(m, MAIL_CALL, ev);
	} else {
		return;
	}
	m->mail[m->mails - 1].waited = true;
}
