/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The child API inside the supervisor: calls become events of the core, its replies become answers. A call that comes
 * while something else is under way waits for its turn in the core's mailbox, unread: what it finds then counts.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/diag.h"
#include "otp/supervisor_private.h"

static void answer(uint64_t to, uint64_t ref, const void *data, size_t len)
{
	static bool is_short; /* and that has been said */
	struct seg_node *n = proc_node(len, 0);
	bool has_room = n != NULL;

	/* No memory: that alone, in a node of our own slot. It is no reason to end a tree. */
	if (!n)
		n = proc_node(0, 0);
	if (!n) {
		if (!is_short)
			diag_warn("supervisor: no memory to answer a call");
		is_short = true;
		return;
	}
	is_short = false;
	if (has_room && len)
		memcpy(seg_node_data(n), data, len);
	n->from = proc.id;
	n->ref = ref;
	n->tag = has_room ? 0 : ENOMEM;
	atomic_store_explicit(&n->kind, NODE_REPLY, memory_order_relaxed);
	(void)proc_send(to, n, false, 0);
}

static void answer_with(const struct cop_msg *msg, int how, int err, uint64_t pid, const char *word)
{
	struct supervisor_reply r = { .how = how, .err = err, .pid = pid };

	if (word)
		r.reason = cop_exit_make_text(COP_EXIT_OTHER, 0, word);
	answer(msg->from.id, msg->ref.id, &r, sizeof r);
}

static bool is_running(enum sup_status st)
{
	return st == SUP_ST_STARTING || st == SUP_ST_RUNNING || st == SUP_ST_STOPPING;
}

static bool is_restarting(enum sup_status st)
{
	return st == SUP_ST_RETRYING || st == SUP_ST_BACKOFF;
}

/* --- calls about one child --- */

static struct call *new_call(struct supervisor *sv, const struct cop_msg *msg)
{
	uint32_t i;

	for (i = 0; i < SUP_CALLS_MAX; i++)
		if (!sv->calls[i].used)
			break;
	if (i == SUP_CALLS_MAX) {
		answer_with(msg, -1, EAGAIN, 0, "too_many_calls");
		return NULL;
	}
	sv->calls[i] = (struct call){ .used = true, .from = msg->from.id, .ref = msg->ref.id, .tag = msg->tag };
	sv->n_calls++;
	return &sv->calls[i];
}

static void to_core(struct supervisor *sv, const struct cop_msg *msg, enum sup_op op, uint32_t slot)
{
	struct sup_event ev = { .type = SUP_EV_CALL, .op = (uint8_t)op, .slot = slot, .now_ms = clock_mono_ms() };
	struct call *c = new_call(sv, msg);

	if (!c)
		return;
	ev.call = (uint64_t)(c - sv->calls);
	if (sv->in_turn)
		sup_call_now(sv->core, &ev);
	else
		supervisor_feed(sv, &ev);
}

static void start_child(struct supervisor *sv, const struct cop_msg *msg)
{
	struct cop_child *c = supervisor_unpack(msg->data, msg->len);
	const char *fault;
	struct kid *k;

	if (!c) {
		bool enomem = errno == ENOMEM;

		answer_with(msg, COP_NOT_STARTED, enomem ? ENOMEM : EINVAL, 0, enomem ? "enomem" : "invalid_child_spec");
		return;
	}
	fault = supervisor_child_fault(c, sv->spec);
	k = fault || sv->spec->dynamic ? NULL : supervisor_find(sv, c->id);
	if (fault || k) {
		free(c);
		if (fault)
			answer_with(msg, COP_NOT_STARTED, EINVAL, 0, fault);
		else if (is_running(sup_child_status(sv->core, k->slot)))
			answer_with(msg, COP_NOT_STARTED, EEXIST, k->pid, "already_started");
		else
			answer_with(msg, COP_NOT_STARTED, EEXIST, 0, "already_present");
		return;
	}
	k = kid_add(sv, c, msg->data, msg->len);
	free(c);
	if (!k) {
		if (errno == EOVERFLOW)
			answer_with(msg, COP_NOT_STARTED, EOVERFLOW, 0, "max_children");
		else
			answer_with(msg, COP_NOT_STARTED, errno, 0, errno == ECANCELED ? "shutdown" : "enomem");
		return;
	}
	to_core(sv, msg, SUP_OP_START, k->slot);
}

/* While a child is between two attempts to restart it, it goes by the pid that it had. */
static struct kid *by_pid(struct supervisor *sv, uint64_t pid)
{
	uint32_t i;

	for (i = sup_first(sv->core); i != SUP_NONE; i = sup_next(sv->core, i))
		if (sv->kids[i]->up_pid == pid && pid != 0)
			return sv->kids[i];
	return NULL;
}

static void with_id(struct supervisor *sv, const struct cop_msg *msg, enum sup_op op)
{
	char id[SUPERVISOR_ID_MAX + 1] = "";
	struct kid *k;

	if (msg->len <= SUPERVISOR_ID_MAX)
		memcpy(id, msg->data, msg->len);
	k = sv->spec->dynamic ? NULL : supervisor_find(sv, id);
	if (k)
		to_core(sv, msg, op, k->slot);
	else
		answer_with(msg, -1, ENOENT, 0, "not_found");
}

static void terminate_pid(struct supervisor *sv, const struct cop_msg *msg)
{
	struct kid *k = NULL;
	uint64_t pid = 0;

	if (msg->len == sizeof pid) {
		memcpy(&pid, msg->data, sizeof pid);
		k = sv->spec->dynamic ? by_pid(sv, pid) : NULL;
	}
	if (k)
		to_core(sv, msg, SUP_OP_TERMINATE, k->slot);
	else
		answer_with(msg, -1, ENOENT, 0, "not_found");
}

/* --- looking --- */

static void which_children(struct supervisor *sv, const struct cop_msg *msg)
{
	struct sup_counts counts;
	struct cop_child_info *info;
	uint32_t i, n = 0;

	sup_count_children(sv->core, &counts);
	info = calloc(counts.specs + 1, sizeof *info);
	for (i = info ? sup_last(sv->core) : SUP_NONE; i != SUP_NONE && n < counts.specs; i = sup_prev(sv->core, i)) {
		struct kid *k = sv->kids[i];
		enum sup_status st = sup_child_status(sv->core, i);

		memcpy(info[n].id, k->id, sizeof k->id);
		info[n].state = is_running(st) ? COP_CHILD_RUNNING : is_restarting(st) ? COP_CHILD_RESTARTING : COP_CHILD_UNDEFINED;
		info[n].supervisor = k->kind == KID_SUPERVISOR;
		if (is_running(st)) {
			info[n].pid.id = k->pid;
			info[n].os_pid = k->os_pid;
		}
		n++;
	}
	answer(msg->from.id, msg->ref.id, info, n * sizeof *info);
	free(info);
}

static void count_children(struct supervisor *sv, const struct cop_msg *msg)
{
	struct sup_counts c;
	struct cop_child_counts r;

	sup_count_children(sv->core, &c);
	r = (struct cop_child_counts){ c.specs, c.active, c.supervisors, c.workers };
	answer(msg->from.id, msg->ref.id, &r, sizeof r);
}

/* --- turns --- */

static void take_up(struct supervisor *sv, const struct cop_msg *msg)
{
	switch ((enum supervisor_tag)msg->tag) {
	case SUPERVISOR_START_CHILD:
		start_child(sv, msg);
		break;
	case SUPERVISOR_TERMINATE_CHILD:
		with_id(sv, msg, SUP_OP_TERMINATE);
		break;
	case SUPERVISOR_TERMINATE_PID:
		terminate_pid(sv, msg);
		break;
	case SUPERVISOR_RESTART_CHILD:
		with_id(sv, msg, SUP_OP_RESTART);
		break;
	case SUPERVISOR_DELETE_CHILD:
		with_id(sv, msg, SUP_OP_DELETE);
		break;
	case SUPERVISOR_WHICH_CHILDREN:
		which_children(sv, msg);
		break;
	case SUPERVISOR_COUNT_CHILDREN:
		count_children(sv, msg);
		break;
	}
}

/* To the core it is about nobody, so that it is answered at once when it is its turn. */
static void wait_for_turn(struct supervisor *sv, const struct cop_msg *msg)
{
	struct sup_event ev = { .type = SUP_EV_CALL, .op = SUP_OP_TERMINATE, .slot = SUP_NONE, .now_ms = clock_mono_ms() };
	void *data = malloc(msg->len + 1);
	struct call *c;

	if (!data) {
		answer_with(msg, -1, ENOMEM, 0, "enomem");
		return;
	}
	c = new_call(sv, msg);
	if (!c) {
		free(data);
		return;
	}
	if (msg->len)
		memcpy(data, msg->data, msg->len);
	c->waits = true;
	c->data = data;
	c->len = msg->len;
	ev.call = (uint64_t)(c - sv->calls);
	supervisor_feed(sv, &ev);
}

static void its_turn(struct supervisor *sv, struct call *c)
{
	struct cop_msg msg = { .kind = COP_MSG_CALL, .tag = c->tag, .from = { c->from }, .ref = { c->ref }, .data = c->data,
		.len = c->len };

	sv->in_turn = true;
	take_up(sv, &msg);
	sv->in_turn = false;
	free(c->data);
}

void supervisor_answer(struct supervisor *sv, const struct sup_action *a)
{
	struct call *c = &sv->calls[a->call % SUP_CALLS_MAX], waited = *c;
	struct kid *k = a->slot < sv->kids_cap ? sv->kids[a->slot] : NULL;
	struct supervisor_reply r = { .how = -1, .reason = a->reason };

	if (!c->used)
		return;
	c->used = false;
	sv->n_calls--;
	if (a->reply == SUP_REPLY_SHUTTING_DOWN) {
		free(waited.data);
		return; /* as OTP's: whoever waits hears of the end instead */
	}
	if (waited.waits) {
		its_turn(sv, &waited);
		return;
	}
	switch ((enum sup_reply)a->reply) {
	case SUP_REPLY_OK:
		r.how = COP_STARTED;
		r.pid = k && is_running(sup_child_status(sv->core, a->slot)) ? k->pid : 0;
		break;
	case SUP_REPLY_IGNORED:
		r.how = COP_IGNORED;
		break;
	case SUP_REPLY_NOT_FOUND:
		r.err = ENOENT;
		r.reason = cop_exit_make_text(COP_EXIT_OTHER, 0, "not_found");
		break;
	case SUP_REPLY_RUNNING:
		r.err = EBUSY;
		r.reason = cop_exit_make_text(COP_EXIT_OTHER, 0, "running");
		break;
	case SUP_REPLY_RESTARTING:
		r.err = EAGAIN;
		r.reason = cop_exit_make_text(COP_EXIT_OTHER, 0, "restarting");
		break;
	case SUP_REPLY_FAILED:
		r.err = ECANCELED;
		break;
	case SUP_REPLY_SHUTTING_DOWN:
		break;
	}
	answer(c->from, c->ref, &r, sizeof r);
}

void supervisor_call(struct supervisor *sv, const struct cop_msg *msg)
{
	if (msg->tag < SUPERVISOR_START_CHILD || msg->tag > SUPERVISOR_COUNT_CHILDREN) {
		answer_with(msg, -1, EINVAL, 0, "bad_call"); /* not a reason to end a tree, as it is in OTP */
		return;
	}
	if (sup_idle(sv->core))
		take_up(sv, msg);
	else
		wait_for_turn(sv, msg);
}
