/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The companion's way from the worker to the node: each line is one JSON object that says one thing. A line
 * that is not of the protocol ends the worker; a line that cannot be done yet, since somebody's mailbox or
 * the memory for messages is full, is kept, and nothing more is read until it can.
 */
#ifdef HAVE_JANSSON

#include "node/bridge_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fds.h"
#include "base/text.h"

#define READ_BYTES (64u << 10)
#define SHOWN 80 /* bytes of a bad line in a message */

enum done { DONE, NOT_YET };

/* --- sending --- */

/* A node with the value as JSON text; NULL: not yet. */
static struct seg_node *node_of(struct bridge *b, const json_t *v, enum proc_kind kind)
{
	size_t len = json_dumpb(v, NULL, 0, BRIDGE_DUMP);
	struct seg_node *n = proc_node(len, COP_NOWAIT);

	if (!n && errno != EAGAIN && errno != ENOMEM)
		bridge_fail(b, "protocol_error", "a message cannot be sent: %s", strerror(errno));
	if (!n)
		return NULL;
	json_dumpb(v, seg_node_data(n), len, BRIDGE_DUMP);
	n->from = proc.id;
	n->ref = 0;
	n->tag = COP_TAG_JSON;
	atomic_store_explicit(&n->kind, (uint8_t)kind, memory_order_relaxed);
	return n;
}

static enum done send_node(uint64_t to, struct seg_node *n, bool limited)
{
	return proc_send(to, n, limited, COP_NOWAIT) == PROC_WOULD_BLOCK ? NOT_YET : DONE;
}

/* --- what is in a line --- */

static const json_t *need(struct bridge *b, const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	if (!v)
		bridge_fail(b, "protocol_error", "\"%s\" is missing", key);
	return v;
}

static const char *need_name(struct bridge *b, const json_t *v, const char *key)
{
	const char *s = json_string_value(v);

	if (!s || s[0] == '\0' || strlen(s) != json_string_length(v) || strlen(s) >= COP_NAME_MAX)
		bridge_fail(b, "protocol_error", "\"%s\" is not a name", key);
	return s;
}

static int64_t ms_of(struct bridge *b, const json_t *v, const char *key)
{
	json_int_t ms = json_integer_value(v);

	if (!json_is_integer(v) || ms < 0 || ms > (json_int_t)1000 * 86400 * 1000)
		bridge_fail(b, "protocol_error", "\"%s\" is not a number of milliseconds", key);
	return ms;
}

/* --- what it can say --- */

static enum done say_to(struct bridge *b, const json_t *o, const json_t *v, enum proc_kind kind, const char *key)
{
	const json_t *msg = need(b, o, "msg");
	uint64_t to = cop_whereis(need_name(b, v, key)).id;
	struct seg_node *n;

	if (to == 0)
		return DONE; /* nobody has the name: it vanishes */
	n = node_of(b, msg, kind);
	return n ? send_node(to, n, true) : NOT_YET;
}

static enum done do_send(struct bridge *b, const json_t *o, const json_t *v)
{
	return say_to(b, o, v, NODE_PLAIN, "send");
}

static enum done do_cast(struct bridge *b, const json_t *o, const json_t *v)
{
	return say_to(b, o, v, NODE_CAST, "cast");
}

static enum done do_reply(struct bridge *b, const json_t *o, const json_t *v)
{
	const json_t *msg = need(b, o, "msg");
	struct bridge_call *c = NULL;
	struct seg_node *n;
	bool known = false;

	if (json_is_integer(v) && json_integer_value(v) > 0)
		c = bridge_call_of(b, (uint64_t)json_integer_value(v), &known);
	if (!known)
		bridge_fail(b, "protocol_error", "a reply to a call that was never made");
	if (!c)
		return DONE; /* a second answer, or one that nobody waits for */
	n = node_of(b, msg, NODE_REPLY);
	if (!n)
		return NOT_YET;
	n->ref = c->ref;
	(void)send_node(c->from, n, false);
	*c = (struct bridge_call){ 0 };
	return DONE;
}

static void own_error(struct bridge *b, const json_t *ref, const char *reason)
{
	bridge_tell(b, json_pack("{s:O, s:s}", "error", ref, "reason", reason));
}

static struct bridge_own *free_own(struct bridge *b)
{
	int i;

	for (i = 0; i < BRIDGE_OWN_CALLS; i++)
		if (!b->own[i].ref)
			return &b->own[i];
	return NULL;
}

/* A call is watched before it is sent: so its end is heard of, whenever it comes. False: not yet. */
static bool begin_call(struct bridge *b, uint64_t to)
{
	uint64_t request;

	if (b->begun_request)
		return true;
	if (!proc_can_monitor())
		return false;
	request = proc_new_ref(0);
	if (proc_expect(request) < 0)
		return false; /* never: there are more than the worker's calls can be */
	b->begun_monitor = proc_monitor(to).id;
	if (!b->begun_monitor) {
		proc_unexpect(request);
		return false;
	}
	b->begun_to = to;
	b->begun_request = request;
	return true;
}

static enum done do_call(struct bridge *b, const json_t *o, const json_t *ref)
{
	const json_t *msg = need(b, o, "msg"), *timeout = json_object_get(o, "timeout");
	const char *name = need_name(b, need(b, o, "to"), "to");
	int64_t ms = timeout && !json_is_null(timeout) ? ms_of(b, timeout, "timeout") : COP_CALL_MS;
	uint64_t to = b->begun_request ? b->begun_to : cop_whereis(name).id;
	struct bridge_own *own = free_own(b);
	struct seg_node *n;

	if (to == 0 || to == proc.id || !own) {
		own_error(b, ref, to == 0 ? "noproc" : to == proc.id ? "calling_self" : "too_many_requests");
		return DONE;
	}
	if (!begin_call(b, to) || !(n = node_of(b, msg, NODE_CALL)))
		return NOT_YET;
	n->ref = b->begun_request;
	if (send_node(to, n, true) == NOT_YET)
		return NOT_YET;
	own->ref = json_incref(json_object_get(o, "call"));
	own->request = b->begun_request;
	own->monitor = b->begun_monitor;
	b->begun_request = b->begun_monitor = 0;
	own->until_ms = timeout && json_is_null(timeout) ? -1 : clock_mono_ms() + ms;
	return DONE;
}

/* As cop_send_after(), but that nothing is waited for. */
static enum done send_after(struct bridge *b, struct cop_dest dest, const char *text, int64_t ms)
{
	cop_ref timer;

	proc.send_until = 1;
	timer = cop_send_after(dest, COP_TAG_JSON, text, strlen(text), ms);
	proc.send_until = 0;
	if (timer.id != 0)
		return DONE;
	if (errno != EAGAIN && errno != ENOMEM && errno != ETIMEDOUT)
		bridge_fail(b, "protocol_error", "a message cannot be sent: %s", strerror(errno));
	return NOT_YET;
}

static enum done do_send_after(struct bridge *b, const json_t *o, const json_t *v)
{
	const json_t *msg = need(b, o, "msg"), *to = json_object_get(o, "to");
	int64_t ms = ms_of(b, v, "send_after");
	struct cop_dest dest = cop_to(cop_self());
	enum done done;
	char *text;

	if (to)
		dest = cop_named(need_name(b, to, "to"));
	text = json_dumps(msg, BRIDGE_DUMP);
	if (!text)
		bridge_fail(b, "enomem", "out of memory");
	done = send_after(b, dest, text, ms);
	free(text);
	return done;
}

static enum done do_stop(struct bridge *b, const json_t *o, const json_t *v)
{
	struct cop_exit reason;

	(void)o;
	if (!json_is_string(v) || cop_exit_parse(json_string_value(v), &reason) < 0)
		bridge_fail(b, "protocol_error", "\"stop\" is not a reason");
	proc_die(&reason);
}

static enum done obey(struct bridge *b, const json_t *o)
{
	static const struct {
		const char *key;
		enum done (*f)(struct bridge *b, const json_t *o, const json_t *v);
	} verbs[] = {
		{ "reply", do_reply }, { "call", do_call }, { "cast", do_cast }, { "send", do_send },
		{ "send_after", do_send_after }, { "stop", do_stop },
	};
	size_t i;

	for (i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
		const json_t *v = json_object_get(o, verbs[i].key);

		if (v)
			return verbs[i].f(b, o, v);
	}
	bridge_fail(b, "protocol_error", "none of reply, call, cast, send, send_after, stop is in it");
}

/* --- lines --- */

static void bad_line(struct bridge *b, const char *text, size_t len, const char *why)
{
	char shown[4 * SHOWN + 1];

	bridge_fail(b, "bad_json", "not a JSON object (%s): %s", why,
	    text_escape(text, len < SHOWN ? len : SHOWN, shown, sizeof shown));
}

/* One line, without its end. */
static void take_line(struct bridge *b, const char *text, size_t len)
{
	json_error_t err;
	json_t *o;

	b->line++;
	if (len > 0 && text[len - 1] == '\r')
		len--;
	if (len == 0)
		return; /* an empty line says nothing */
	o = json_loadb(text, len, JSON_ALLOW_NUL, &err);
	if (!o)
		bad_line(b, text, len, err.text);
	if (!json_is_object(o))
		bad_line(b, text, len, "an array");
	if (obey(b, o) == DONE)
		json_decref(o);
	else
		b->held = o;
}

static void too_long(struct bridge *b)
{
	b->line++;
	bridge_fail(b, "protocol_error", "longer than %u bytes", BRIDGE_LINE_MAX);
}

/* The end of the next whole line; NULL. */
static char *line_end(struct bridge *b)
{
	if (b->in_seen == b->in_len)
		return NULL;
	return memchr(b->in + b->in_seen, '\n', b->in_len - b->in_seen);
}

/* The line that was held is done, or never will be. */
static void drop_held(struct bridge *b)
{
	json_decref(b->held);
	b->held = NULL;
	if (b->begun_request) {
		proc_unexpect(b->begun_request);
		(void)cop_demonitor((cop_ref){ b->begun_monitor }, true);
	}
	b->begun_request = b->begun_monitor = 0;
}

void bridge_obey(struct bridge *b)
{
	char *nl;

	if (b->held && (obey(b, b->held) == DONE || b->leaving))
		drop_held(b);
	while (!b->held && (nl = line_end(b))) {
		size_t len = (size_t)(nl - b->in) - b->in_pos, at = b->in_pos;

		b->in_pos = b->in_seen = (size_t)(nl - b->in) + 1;
		if (len > BRIDGE_LINE_MAX)
			too_long(b);
		take_line(b, b->in + at, len);
		if (b->held && b->leaving)
			drop_held(b);
	}
	if (b->held)
		return;
	b->in_seen = b->in_len;
	if (b->in_len - b->in_pos > BRIDGE_LINE_MAX)
		too_long(b);
}

/* Room for another READ_BYTES behind what is left. */
static void in_reserve(struct bridge *b)
{
	size_t left = b->in_len - b->in_pos, cap = b->in_cap ? b->in_cap : 2 * READ_BYTES;
	char *in;

	if (b->in_pos > 0) {
		memmove(b->in, b->in + b->in_pos, left);
		b->in_seen -= b->in_pos;
		b->in_len = left;
		b->in_pos = 0;
	}
	if (left == 0 && cap > 2 * READ_BYTES) { /* a long line has passed */
		free(b->in);
		b->in = NULL;
		b->in_cap = 0;
		cap = 2 * READ_BYTES;
	}
	while (cap < left + READ_BYTES)
		cap *= 2;
	if (cap == b->in_cap)
		return;
	in = realloc(b->in, cap);
	if (!in)
		bridge_fail(b, "enomem", "out of memory");
	b->in = in;
	b->in_cap = cap;
}

bool bridge_read(struct bridge *b)
{
	ssize_t n;

	if (b->from < 0 || b->held)
		return false;
	in_reserve(b);
	do
		n = read(b->from, b->in + b->in_len, READ_BYTES);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		b->in_len += (size_t)n;
		return true;
	}
	if (n < 0 && errno == EAGAIN)
		return false;
	fds_close(&b->from);
	b->eof_ms = clock_mono_ms(); /* its death follows; a last line without an end is none */
	return false;
}

#endif
