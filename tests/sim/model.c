/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * OTP's algorithm, literally: restart, try_again, the handling of one message after the other.
 * The documented additions: a restart with a backoff sets a timer instead of starting
 * (restart, on_timer); a shutdown order is acted upon before the next message (loop).
 *
 * Fixed arrays; a history is small.
 */
#include "model_private.h"

#include <string.h>

/* --- restart --- */

/* The seconds clock of the intensity. */
static int64_t seconds(const struct model *m)
{
	return m->w.now / 1000;
}

static uint32_t counted(const struct model *m)
{
	uint32_t i, n = 0;

	for (i = 0; i < m->restart_count; i++)
		n += m->restarts[i] >= seconds(m) - (int64_t)m->flags.max_seconds;
	return n;
}

/* Counts a restart; false if it is one too many. */
static bool add_restart(struct model *m)
{
	uint32_t i, n = 1;
	int64_t times[RESTARTS_MAX];

	times[0] = seconds(m);
	for (i = 0; i < m->restart_count && n < RESTARTS_MAX; i++) {
		if (m->restarts[i] < seconds(m) - (int64_t)m->flags.max_seconds) {
			model_met(m, SIT_window_slid);
			continue;
		}
		if (m->restarts[i] == seconds(m) - (int64_t)m->flags.max_seconds)
			model_met(m, SIT_window_edge);
		times[n++] = m->restarts[i];
	}
	memcpy(m->restarts, times, n * sizeof(times[0]));
	m->restart_count = n;
	return n <= m->flags.max_restarts;
}

/* The place where the group of key begins; its end is the end of the list. */
static uint32_t group(const struct model *m, uint32_t key)
{
	return m->strategy == SUP_ONE_FOR_ALL ? 0 : model_place(m, key);
}

static bool alone(const struct model *m)
{
	return m->strategy == SUP_ONE_FOR_ONE;
}

static void report_restart(struct model *m, uint32_t key)
{
	uint32_t i;

	trace_part(m->t, "%7lld restart c%u:", (long long)m->w.now, key);
	if (alone(m)) {
		trace_part(m->t, " c%u", key);
	} else {
		for (i = group(m, key); i < m->n; i++)
			if (m->list[i] == key || (!model_temporary(m, m->list[i]) && m->child[m->list[i]].spec.enabled))
				trace_part(m->t, " c%u", m->list[i]);
	}
	trace_part(m->t, "\n");
	if (m->flags.dynamic)
		model_met(m, SIT_restart_dynamic);
	else if (alone(m))
		model_met(m, SIT_restart_one);
	else
		model_met(m, m->strategy == SUP_ONE_FOR_ALL ? SIT_restart_one_for_all : SIT_restart_rest_for_one);
}

static void try_again(struct model *m, uint32_t key, const struct cop_exit *why)
{
	struct sup_event ev = { .slot = key, .reason = *why };

	if (m->mails > 0)
		model_met(m, SIT_retry_after_other_mail);
	m->child[key].status = SUP_ST_RETRYING;
	model_push(m, MAIL_TRY_AGAIN, &ev);
}

static void start_alone(struct model *m, uint32_t key)
{
	struct cop_exit why;
	enum result r = model_start_child(m, key, true, &why);

	if (r == FAILED) {
		model_met(m, SIT_failed_restart);
		try_again(m, key, &why);
	} else if (r == IGNORED) {
		if (m->flags.dynamic)
			model_met(m, SIT_ignored_dynamic_restart);
		model_ignored(m, key);
	}
}

/* Starts what a restart because of key has stopped. */
static void start_group(struct model *m, uint32_t key)
{
	struct cop_exit why;
	uint32_t failed;

	if (alone(m)) {
		start_alone(m, key);
		return;
	}
	m->in_group = true;
	if (model_start_list(m, group(m, key), key, &failed, &why) == FAILED) {
		model_met(m, SIT_failed_start_in_group);
		try_again(m, failed, &why);
	}
	m->in_group = false;
}

/* The wait before the next start of a child. */
static int64_t next_delay(struct model *m, uint32_t key)
{
	struct child *c = &m->child[key];
	const struct sup_backoff *b = &c->spec.backoff;
	int64_t delay = c->delay_ms * b->factor_milli / 1000;

	if (b->max_ms == 0)
		return c->delay_ms = 0;
	if (c->ran && b->reset_ms > 0 && c->ended_at - c->ready_at >= b->reset_ms) {
		if (c->delay_ms > 0)
			model_met(m, SIT_backoff_reset);
		delay = 0;
	}
	c->ran = false;
	if (delay < b->min_ms)
		delay = b->min_ms;
	else if (delay > b->min_ms)
		model_met(m, SIT_backoff_grown);
	if (delay > b->max_ms) {
		model_met(m, SIT_backoff_max);
		delay = b->max_ms;
	}
	return c->delay_ms = delay;
}

static void wait_backoff(struct model *m, uint32_t key, int64_t delay)
{
	model_met(m, alone(m) ? SIT_backoff : SIT_backoff_group);
	m->child[key].status = SUP_ST_BACKOFF;
	world_timer(&m->w, key, m->w.now + delay);
}

/* OTP's restart(c): counts, then restarts or gives up; why is what it died of or why it failed. */
static void restart(struct model *m, uint32_t key, const struct cop_exit *why)
{
	bool retry = m->child[key].status == SUP_ST_RETRYING;
	int64_t delay;

	m->child[key].status = SUP_ST_TERMINATED;
	m->strategy = m->flags.strategy;
	if (!add_restart(m)) {
		model_met(m, retry ? SIT_limit_by_failed_start : SIT_limit);
		if (m->flags.dynamic)
			model_met(m, SIT_limit_dynamic);
		model_act(m, SUP_ACT_LIMIT, key);
		model_terminate(m, cop_exit_make(COP_EXIT_SHUTDOWN, 0), key, why);
		return;
	}
	delay = next_delay(m, key);
	report_restart(m, key);
	if (!alone(m)) {
		m->in_group = true;
		model_terminate_list(m, group(m, key), key);
		m->in_group = false;
		if (m->ordered)
			return;
	}
	if (delay > 0)
		wait_backoff(m, key, delay);
	else
		start_group(m, key);
}

/* --- messages --- */

static bool other_significant(const struct model *m)
{
	uint32_t i;

	for (i = 0; i < m->n; i++)
		if (m->child[m->list[i]].spec.significant && (model_alive(m, m->list[i]) || model_restarting(m, m->list[i])))
			return true;
	return false;
}

static void auto_shutdown(struct model *m, uint32_t key, bool significant, const struct cop_exit *reason)
{
	if (!significant || m->flags.auto_shutdown == SUP_AUTO_NEVER)
		return;
	if (m->flags.auto_shutdown == SUP_AUTO_ALL_SIGNIFICANT && other_significant(m)) {
		model_met(m, SIT_auto_not_yet);
		return;
	}
	model_met(m, m->flags.auto_shutdown == SUP_AUTO_ALL_SIGNIFICANT ? SIT_auto_all : SIT_auto_any);
	model_terminate(m, cop_exit_make(COP_EXIT_SHUTDOWN, 0), key, reason);
}

static void on_exit_of(struct model *m, uint32_t key, const struct cop_exit *reason)
{
	struct child *c = &m->child[key];
	bool significant = c->spec.significant;

	if (c->spec.restart == SUP_PERMANENT || (c->spec.restart == SUP_TRANSIENT && !cop_exit_is_clean(reason))) {
		restart(m, key, reason);
		return;
	}
	c->status = SUP_ST_EXITED;
	if (model_temporary(m, key))
		model_drop(m, key);
	auto_shutdown(m, key, significant, reason);
}

static void on_timer(struct model *m, uint32_t key)
{
	if (!m->child[key].here || m->child[key].status != SUP_ST_BACKOFF)
		return;
	m->child[key].status = SUP_ST_TERMINATED;
	m->strategy = m->flags.strategy;
	if (!alone(m)) {
		m->in_group = true;
		model_terminate_list(m, group(m, key), key);
		m->in_group = false;
		if (m->ordered)
			return;
	}
	start_group(m, key);
}

/* Somebody asks for this child: it is enabled, and its backoff begins anew. */
static void wanted(struct model *m, uint32_t key)
{
	m->child[key].spec.enabled = true;
	m->child[key].delay_ms = 0;
}

/* Starts a child because a call wants it, and answers. Returns false if there is none now. */
static void start_called(struct model *m, const struct sup_event *ev)
{
	bool fresh = ev->op == SUP_OP_START;
	struct cop_exit why;
	enum result r;

	m->in_call = true;
	r = model_start_child(m, ev->slot, false, &why);
	m->in_call = false;
	switch (r) {
	case OK:
		model_met(m, fresh ? SIT_started_child : SIT_restarted_child);
		model_reply(m, ev, SUP_REPLY_OK, NULL);
		return;
	case IGNORED:
		model_reply(m, ev, SUP_REPLY_IGNORED, NULL);
		model_ignored(m, ev->slot);
		return;
	case FAILED:
		model_met(m, fresh ? SIT_start_child_failed : SIT_restart_child_failed);
		model_reply(m, ev, SUP_REPLY_FAILED, &why);
		if (fresh || model_temporary(m, ev->slot))
			model_drop(m, ev->slot);
		return;
	case CUT:
		model_reply(m, ev, SUP_REPLY_FAILED, &why);
		if (fresh || model_temporary(m, ev->slot))
			model_drop(m, ev->slot);
		return;
	case ORDERED:
		model_met(m, SIT_start_call_cut);
		model_reply(m, ev, SUP_REPLY_SHUTTING_DOWN, NULL);
		return;
	}
}

static void call_terminate(struct model *m, const struct sup_event *ev)
{
	if (!model_alive(m, ev->slot) && !model_restarting(m, ev->slot))
		m->child[ev->slot].status = SUP_ST_TERMINATED;
	model_terminate_one(m, ev->slot);
	model_reply(m, ev, SUP_REPLY_OK, NULL);
}

/* restart_child and delete_child: for a child that is down and stays down. */
static bool refuse_busy(struct model *m, const struct sup_event *ev)
{
	if (model_alive(m, ev->slot)) {
		model_reply(m, ev, SUP_REPLY_RUNNING, NULL);
		return true;
	}
	if (model_restarting(m, ev->slot)) {
		model_met(m, SIT_restarting_refused);
		model_reply(m, ev, SUP_REPLY_RESTARTING, NULL);
		return true;
	}
	return false;
}

static void call_cycle(struct model *m, const struct sup_event *ev)
{
	model_met(m, SIT_cycled);
	wanted(m, ev->slot);
	model_terminate_keep(m, ev->slot);
	if (m->ordered)
		model_reply(m, ev, SUP_REPLY_SHUTTING_DOWN, NULL);
	else
		start_called(m, ev);
}

static void on_call(struct model *m, const struct sup_event *ev)
{
	if (ev->op == SUP_OP_START) {
		model_add(m, ev->slot);
		wanted(m, ev->slot);
		start_called(m, ev);
		return;
	}
	if (!m->child[ev->slot].here) {
		model_met(m, SIT_not_found);
		model_reply(m, ev, SUP_REPLY_NOT_FOUND, NULL);
		return;
	}
	switch ((enum sup_op)ev->op) {
	case SUP_OP_TERMINATE:
		call_terminate(m, ev);
		return;
	case SUP_OP_CYCLE:
		call_cycle(m, ev);
		return;
	case SUP_OP_RESTART:
		if (refuse_busy(m, ev))
			return;
		wanted(m, ev->slot);
		start_called(m, ev);
		return;
	case SUP_OP_DELETE:
		if (refuse_busy(m, ev))
			return;
		model_met(m, SIT_deleted_child);
		model_drop(m, ev->slot);
		model_reply(m, ev, SUP_REPLY_OK, NULL);
		return;
	case SUP_OP_START:
		return;
	}
}

static void handle(struct model *m, const struct mail *mail)
{
	uint32_t key = mail->ev.slot;

	switch ((enum mail_type)mail->type) {
	case MAIL_EXIT:
		on_exit_of(m, key, &mail->ev.reason);
		return;
	case MAIL_TRY_AGAIN:
		if (m->child[key].here && m->child[key].status == SUP_ST_RETRYING)
			restart(m, key, &mail->ev.reason);
		return;
	case MAIL_TIMER:
		if (mail->waited)
			model_met(m, SIT_backoff_overtaken);
		on_timer(m, key);
		return;
	case MAIL_CALL:
		if (mail->waited)
			model_met(m, SIT_call_waited);
		on_call(m, &mail->ev);
		return;
	}
}

/* --- the loop --- */

/* How everybody stands while there is nothing to do: which_children and count_children. */
static void look(struct model *m)
{
	uint32_t i, active = 0, supervisors = 0, used = counted(m);

	trace_part(m->t, "        =");
	for (i = 0; i < m->n; i++) {
		const struct child *c = &m->child[m->list[i]];

		trace_part(m->t, " c%u=%s", m->list[i], trace_status(c->status));
		active += c->status == SUP_ST_RUNNING;
		supervisors += c->spec.supervisor;
	}
	trace_part(m->t, " specs=%u active=%u supervisors=%u workers=%u left=%u\n", m->n, active, supervisors,
		m->n - supervisors, used < m->flags.max_restarts ? m->flags.max_restarts - used : 0);
}

static bool any_backoff(const struct model *m)
{
	uint32_t i;

	for (i = 0; i < m->n; i++)
		if (m->child[m->list[i]].status == SUP_ST_BACKOFF)
			return true;
	return false;
}

/* The next message: from the mailbox, or from outside. False: an order, or the end. */
static bool next_mail(struct model *m, struct mail *mail_r)
{
	struct sup_event ev;

	if (m->mails == 0) {
		look(m);
		if (!model_receive(m, &ev))
			return false;
		if (ev.type == SUP_EV_SHUTDOWN) {
			model_met(m, any_backoff(m) ? SIT_shutdown_in_backoff : SIT_shutdown_idle);
			return false;
		}
		model_later(m, &ev);
		m->mail[0].waited = false;
	}
	model_take(m, 0, mail_r);
	if (mail_r->type == MAIL_EXIT && mail_r->waited)
		model_met(m, m->mails > 0 && m->mail[0].type == MAIL_EXIT ? SIT_two_exits_waited : SIT_exit_waited);
	return true;
}

static void loop(struct model *m)
{
	const struct cop_exit none = { .kind = COP_EXIT_NORMAL };
	struct mail mail;

	while (!m->ended) {
		if (m->ordered)
			model_terminate(m, m->order, SUP_NONE, &none);
		else if (next_mail(m, &mail))
			handle(m, &mail);
	}
}

static void run(struct model *m)
{
	struct cop_exit why;
	uint32_t failed, i;
	enum result r;

	for (i = 0; i < m->w.history->children; i++) {
		m->child[i].spec = m->w.history->spec[i];
		model_add(m, i);
	}
	r = model_start_list(m, 0, SUP_NONE, &failed, &why);
	if (r == FAILED) {
		model_met(m, SIT_failed_start_in_init);
		model_terminate(m, cop_exit_make_text(COP_EXIT_SHUTDOWN, 0, "failed_to_start_child"), failed, &why);
	} else if (r == ORDERED) {
		model_met(m, SIT_shutdown_in_init);
	} else {
		model_act(m, SUP_ACT_INITED, SUP_NONE);
	}
	loop(m);
}

bool model_run(const struct history *h, struct trace *t, bool met_r[MODEL_SITUATION_COUNT])
{
	struct model m;

	memset(&m, 0, sizeof(m));
	m.t = t;
	m.met = met_r;
	m.flags = h->flags;
	world_init(&m.w, h, t);
	run(&m);
	return m.ending && m.w.live == 0 && m.w.violation == NULL;
}
