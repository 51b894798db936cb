/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The companion's way from the node to the worker: messages become lines. What another process calls JSON is
 * looked at before it is passed on; what is none becomes an object with its bytes in base64. Calls
 * are known to the worker by a number; how many there can be is bounded, and so is what waits to be
 * written.
 */
#ifdef HAVE_JANSSON

#include "node/bridge_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base64.h"
#include "base/clock.h"
#include "base/diag.h"
#include "base/fds.h"

/* --- to the worker --- */

static void out_reserve(struct bridge *b, size_t more)
{
	size_t cap = b->out_cap ? b->out_cap : 4096;
	char *out;

	if (b->out_pos > 0) {
		memmove(b->out, b->out + b->out_pos, b->out_len - b->out_pos);
		b->out_len -= b->out_pos;
		b->out_pos = 0;
	}
	while (cap < b->out_len + more)
		cap *= 2;
	if (cap == b->out_cap)
		return;
	out = realloc(b->out, cap);
	if (!out)
		bridge_fail(b, "enomem", "out of memory");
	b->out = out;
	b->out_cap = cap;
}

void bridge_tell(struct bridge *b, json_t *object)
{
	size_t len = object ? json_dumpb(object, NULL, 0, BRIDGE_DUMP) : 0;

	if (len == 0)
		bridge_fail(b, "enomem", "out of memory");
	if (len > BRIDGE_LINE_MAX) {
		diag_warn("server %s: a message of %zu bytes is longer than a line may be; dropped", b->what, len);
	} else if (b->to >= 0 && !b->leaving) {
		out_reserve(b, len + 1);
		json_dumpb(object, b->out + b->out_len, len, BRIDGE_DUMP);
		b->out[b->out_len + len] = '\n';
		b->out_len += len + 1;
	}
	json_decref(object);
}

void bridge_write(struct bridge *b)
{
	ssize_t n;

	while (b->to >= 0 && b->out_pos < b->out_len) {
		n = write(b->to, b->out + b->out_pos, b->out_len - b->out_pos);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) { /* it hears nothing any more; perhaps it is dead */
			fds_close(&b->to);
			break;
		}
		b->out_pos += (size_t)n;
	}
	b->out_pos = b->out_len = 0;
	if (b->out_cap > BRIDGE_OUT_ROOM) { /* a long line has passed */
		free(b->out);
		b->out = NULL;
		b->out_cap = 0;
	}
}

/* --- messages --- */

static json_t *binary(uint32_t tag, const void *data, size_t len)
{
	char *text = malloc(BASE64_SIZE(len) + 1);
	json_t *v;

	if (!text)
		return NULL;
	base64_encode(data, len, text);
	v = json_pack("{s:I, s:o}", "tag", (json_int_t)tag, "base64", json_stringn(text, BASE64_SIZE(len)));
	free(text);
	return v;
}

/* What a message says, as a value. NULL: it is too long, or there is no memory. */
static json_t *value_of(const struct cop_msg *msg)
{
	json_t *v = NULL;

	if (msg->len > BRIDGE_LINE_MAX)
		return NULL;
	if (msg->tag == COP_TAG_JSON)
		v = json_loadb(msg->data, msg->len, BRIDGE_JSON, NULL);
	return v ? v : binary(msg->tag, msg->data, msg->len);
}

static void tell_value(struct bridge *b, const char *verb, json_t *v)
{
	if (v)
		bridge_tell(b, json_pack("{s:o}", verb, v));
	else
		diag_warn("server %s: a message is longer than a line may be; dropped", b->what);
}

/* --- calls --- */

static struct bridge_call *free_call(struct bridge *b)
{
	struct bridge_call *oldest = &b->calls[0];
	uint32_t i;

	for (i = 0; i < BRIDGE_CALLS; i++) {
		struct bridge_call *c = &b->calls[(b->serial + 1 + i) % BRIDGE_CALLS];

		if (c->serial == 0 || !seg_is_there(&proc.seg, c->from))
			return c;
		if (c->serial < oldest->serial)
			oldest = c;
	}
	return clock_mono_ms() - oldest->at_ms >= BRIDGE_CALL_MS ? oldest : NULL;
}

/* The number of a call leads to its place. */
static void forward_call(struct bridge *b, const struct cop_msg *msg)
{
	struct bridge_call *c = free_call(b);
	json_t *v = value_of(msg);

	if (!v || !c) {
		json_decref(v);
		diag_warn("server %s: a call is longer than a line may be; dropped", b->what);
		return;
	}
	do
		b->serial++;
	while (b->serial % BRIDGE_CALLS != (uint64_t)(c - b->calls));
	*c = (struct bridge_call){ b->serial, msg->from.id, msg->ref.id, clock_mono_ms() };
	bridge_tell(b, json_pack("{s:I, s:o}", "call", (json_int_t)b->serial, "msg", v));
}

struct bridge_call *bridge_call_of(struct bridge *b, uint64_t serial, bool *known_r)
{
	struct bridge_call *c = &b->calls[serial % BRIDGE_CALLS];

	*known_r = serial > 0 && serial <= b->serial;
	return *known_r && c->serial == serial ? c : NULL;
}

bool bridge_has_room(struct bridge *b)
{
	return b->to >= 0 && b->out_len - b->out_pos < BRIDGE_OUT_ROOM && free_call(b);
}

void bridge_forward(struct bridge *b, struct seg_node *n)
{
	enum proc_kind kind = (enum proc_kind)atomic_load_explicit(&n->kind, memory_order_relaxed);
	struct cop_exit reason;
	struct cop_msg msg;

	if (!proc_msg(&msg, n)) {
		proc_done(n);
		return;
	}
	switch ((int)kind) {
	case NODE_CALL:
		forward_call(b, &msg);
		break;
	case NODE_CAST:
		tell_value(b, "cast", value_of(&msg));
		break;
	case NODE_PLAIN:
	case NODE_TIMER:
		tell_value(b, "info", value_of(&msg));
		break;
	case NODE_STOP:
		reason = msg.reason;
		proc_die(&reason);
	default:
		break;
	}
	proc_done(n);
}

/* --- the worker's own calls --- */

static void own_over(struct bridge_own *o)
{
	proc_unexpect(o->request);
	if (o->monitor)
		(void)cop_demonitor((cop_ref){ o->monitor }, true);
	json_decref(o->ref);
	*o = (struct bridge_own){ 0 };
}

static void own_failed(struct bridge *b, struct bridge_own *o, const struct cop_exit *reason)
{
	char text[COP_EXIT_FORMAT_MAX];

	bridge_tell(b, json_pack("{s:O, s:s}", "error", o->ref, "reason", cop_exit_format(reason, text, sizeof text)));
	own_over(o);
}

static void own_answered(struct bridge *b, struct bridge_own *o, struct seg_node *n)
{
	struct cop_exit bad = cop_exit_make_text(COP_EXIT_OTHER, 0, "bad_reply");
	struct cop_msg msg;
	json_t *v = proc_msg(&msg, n) ? value_of(&msg) : NULL;

	if (!v) {
		proc_done(n);
		own_failed(b, o, &bad);
		return;
	}
	proc_done(n);
	bridge_tell(b, json_pack("{s:O, s:o}", "reply", o->ref, "msg", v));
	own_over(o);
}

static void own_call(struct bridge *b, struct bridge_own *o)
{
	struct cop_exit late = cop_exit_make(COP_EXIT_TIMEOUT, 0);
	struct cop_msg msg;
	struct seg_node *n;

	if ((n = proc_answer(NODE_REPLY, o->request))) {
		own_answered(b, o, n);
	} else if ((n = proc_answer(NODE_DOWN, o->monitor))) {
		(void)proc_msg(&msg, n);
		o->monitor = 0;
		own_failed(b, o, &msg.reason);
		proc_done(n);
	} else if (o->until_ms >= 0 && clock_mono_ms() >= o->until_ms) {
		own_failed(b, o, &late);
	}
}

int64_t bridge_own_calls(struct bridge *b)
{
	int64_t next = -1;
	int i;

	for (i = 0; i < BRIDGE_OWN_CALLS; i++) {
		struct bridge_own *o = &b->own[i];

		if (o->ref && b->out_len - b->out_pos < BRIDGE_OUT_ROOM)
			own_call(b, o);
		if (o->ref && o->until_ms >= 0 && (next < 0 || o->until_ms < next))
			next = o->until_ms;
	}
	return b->out_len - b->out_pos < BRIDGE_OUT_ROOM ? next : -1; /* full: nobody can be told that it is late */
}

#endif
