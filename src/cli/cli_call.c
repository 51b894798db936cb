/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * One request and its whole answer (cli_call.h). The control process of a node may be killed and
 * replaced at any time; a question that broke off before its answer began is then asked again, an
 * order never is. Runs in the command's process.
 */
#include "cli/cli_call.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/diag.h"
#include "cli/cli_find.h"

#define TRIES 3 /* of a question whose connection breaks */

enum { BROKE_OFF = -1 }; /* beside exit statuses */

int64_t call_deadline(const struct cli_args *a, int64_t default_ms)
{
	int64_t ms = a->timeout_ms >= 0 ? a->timeout_ms : default_ms, at;

	if (ms < 0 || __builtin_add_overflow(clock_mono_ms(), ms, &at))
		return CLIENT_NO_DEADLINE;
	return at;
}

int call_say_errno(const struct cli_args *a, int err)
{
	errno = err;
	if (err == ETIMEDOUT && a->timeout_ms >= 0)
		diag_error("timed out after %lld ms", (long long)a->timeout_ms);
	else if (err == ETIMEDOUT)
		diag_error("the node does not answer (for %d ms)", CALL_QUERY_MS);
	else if (err == EPIPE)
		diag_error("the node closed the connection before it had answered");
	else if (err == EBADMSG)
		diag_error("the node's answer cannot be understood");
	else if (err == EMSGSIZE)
		diag_error("the request is longer than %d bytes", PROTO_REQUEST_MAX);
	else
		diag_error_errno("unable to talk to the node");
	return CLI_FAILED;
}

void call_put_str(struct wire_out *w, const void *ctx)
{
	wire_put_str(w, ctx);
}

static int take_end(struct call *c, struct wire_in *body)
{
	int status = wire_get_u8(body);

	client_get_text(body, c->message, sizeof c->message);
	if (body->bad)
		return call_say_errno(c->args, EBADMSG);
	c->answered = true;
	return status;
}

/* Takes frames up to the end. An exit status, or BROKE_OFF when not even one came. */
static int take(struct call *c, struct client *cl)
{
	struct wire_in body;
	unsigned frames = 0;
	int kind;

	for (;; frames++) {
		kind = client_next(cl, &body);
		if (kind == PROTO_END)
			return take_end(c, &body);
		if (kind == 0 && frames == 0)
			return BROKE_OFF;
		if (kind <= 0)
			return call_say_errno(c->args, kind == 0 ? EPIPE : errno);
		if (c->frame)
			c->frame(c->frame_ctx, kind, &body);
		if (body.bad)
			return call_say_errno(c->args, EBADMSG);
	}
}

static int try_once(struct call *c, struct request *r)
{
	struct client cl;
	int status;

	client_init(&cl, c->deadline_ms);
	status = find_node(&cl, c->args);
	c->node_uid = cl.peer.uid;
	/* EPIPE: it closed without reading all, but may have said why */
	if (status == 0 && client_send(&cl, r) < 0 && errno != EPIPE && errno != ECONNRESET)
		status = call_say_errno(c->args, errno);
	else if (status == 0)
		status = take(c, &cl);
	client_fini(&cl);
	return status;
}

int call_run(struct call *c)
{
	struct request r;
	int status = BROKE_OFF, i;

	c->answered = false;
	c->message[0] = '\0';
	request_init(&r, c->verb, c->flags);
	if (c->put)
		c->put(&r.w, c->put_ctx);
	for (i = 0; status == BROKE_OFF && i < (c->repeatable ? TRIES : 1); i++)
		status = try_once(c, &r);
	request_fini(&r);
	return status == BROKE_OFF ? call_say_errno(c->args, EPIPE) : status;
}

int call_run_or_say(struct call *c)
{
	int status = call_run(c);

	if (status != 0 && c->answered)
		diag_error("%s", c->message[0] != '\0' ? c->message : "the node refused without a reason");
	return status;
}
