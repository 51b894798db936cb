/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The commands that change one child: start, stop, restart, remove, signal, add. Several paths are
 * done one after the other under one deadline; one that fails does not keep the next from being
 * tried, and the worst status is the command's. Runs in the command's process.
 */
#include "cli/cli.h"

#include <signal.h>
#include <string.h>

#include "base/diag.h"
#include "base/text.h"
#include "cli/cli_call.h"
#include "cli/cli_out.h"

/* What is done, in the words that say so. */
struct verb {
	uint8_t verb;
	const char *done;    /* and waited for */
	const char *asked;   /* with --no-wait */
};

static const struct verb verb_start = { PROTO_START, "started", "start asked for" };
static const struct verb verb_stop = { PROTO_STOP, "stopped", "stop asked for" };
static const struct verb verb_restart = { PROTO_RESTART, "restarted", "restart asked for" };
static const struct verb verb_remove = { PROTO_REMOVE, "removed", "removal asked for" };
static const struct verb verb_signal = { PROTO_SIGNAL, "signalled", "signalled" };

/* What there is to say of one path: what the node remarked, or our own word. */
struct remark {
	char text[CALL_MESSAGE_MAX]; /* escaped */
};

static void take_remark(void *ctx, int kind, struct wire_in *body)
{
	struct remark *r = ctx;

	if (kind == PROTO_R_TEXT)
		client_get_text(body, r->text, sizeof r->text);
}

static void put_result(const struct cli_args *a, bool first, const char *path, int status, const char *text)
{
	if (a->json) {
		fprintf(stdout, "%s{", first ? "" : ",");
		cli_json_str(stdout, true, "path", path);
		cli_json_int(stdout, "status", true, status);
		cli_json_str(stdout, false, "message", text);
		fputc('}', stdout);
	} else if (status == 0 && !a->quiet) {
		cli_put(stdout, path);
		fprintf(stdout, ": %s\n", text);
	}
}

/* The worse of two statuses: anything is worse than done, an unclear failure than a clear one. */
static int worse(int x, int y)
{
	if (x == CLI_OK || y == CLI_OK)
		return x == CLI_OK ? y : x;
	return x == CLI_FAILED || y == CLI_FAILED ? CLI_FAILED : x > y ? x : y;
}

/* Asks for one path and says how it went. */
static int act_one(const struct cli_args *a, const struct verb *v, struct call *c, bool first, const char *path)
{
	struct remark remark = { "" };
	int status;

	c->frame = take_remark;
	c->frame_ctx = &remark;
	status = call_run_or_say(c);
	if (status != 0)
		strlcpy(remark.text, c->message, sizeof remark.text);
	else if (remark.text[0] == '\0')
		strlcpy(remark.text, a->no_wait ? v->asked : v->done, sizeof remark.text);
	put_result(a, first, path, status, remark.text);
	return status;
}

static void put_begin(const struct cli_args *a)
{
	if (a->json)
		fputs("{\"results\":[", stdout);
}

static void put_end(const struct cli_args *a)
{
	if (a->json)
		fputs("]}\n", stdout);
}

static int act(const struct cli_args *a, const struct verb *v)
{
	struct call c = {
		.args = a,
		.deadline_ms = call_deadline(a, -1),
		.verb = v->verb,
		.flags = a->no_wait ? PROTO_F_NO_WAIT : 0,
		.put = call_put_str,
	};
	int status = CLI_OK, one;
	size_t i;

	put_begin(a);
	for (i = 0; i < a->n_operands; i++) {
		c.put_ctx = a->operands[i];
		one = act_one(a, v, &c, i == 0, a->operands[i]);
		status = worse(status, one);
		if (one != 0 && !c.answered) /* no node, or no time left: the next would fare no better */
			break;
	}
	put_end(a);
	return status;
}

int cli_start(const struct cli_args *a)
{
	return act(a, &verb_start);
}

int cli_stop(const struct cli_args *a)
{
	return act(a, &verb_stop);
}

int cli_restart(const struct cli_args *a)
{
	return act(a, &verb_restart);
}

int cli_remove(const struct cli_args *a)
{
	return act(a, &verb_remove);
}

/* --- signal --- */

struct signal_args {
	const char *path;
	int sig;
};

static void put_signal(struct wire_out *w, const void *ctx)
{
	const struct signal_args *s = ctx;

	wire_put_str(w, s->path);
	wire_put_i32(w, s->sig);
}

static int say_no_signal(const char *name)
{
	const char *names[65] = { NULL };
	const char *near;
	char esc[128];
	int sig, n = 0;

	for (sig = 1; sig < 32; sig++)
		names[n++] = text_signal_name(sig);
	near = text_nearest(name, names);
	text_escape(name, strlen(name), esc, sizeof esc);
	if (near)
		return cli_usage("signal", "there is no signal `%s`; did you mean %s?", esc, near);
	return cli_usage("signal", "there is no signal `%s`", esc);
}

int cli_signal(const struct cli_args *a)
{
	struct signal_args s = { .path = a->operands[0], .sig = text_to_signal(a->operands[1]) };
	struct call c = {
		.args = a,
		.deadline_ms = call_deadline(a, CALL_QUERY_MS),
		.verb = PROTO_SIGNAL,
		.put = put_signal,
		.put_ctx = &s,
	};
	int status;

	if (s.sig == 0)
		return say_no_signal(a->operands[1]);
	put_begin(a);
	status = act_one(a, &verb_signal, &c, true, s.path);
	put_end(a);
	return status;
}

/* --- add --- */

static void put_add(struct wire_out *w, const void *ctx)
{
	const struct cli_args *a = ctx;
	size_t i;

	wire_put_str(w, a->operands[0]);
	wire_put_u32(w, (uint32_t)(a->n_operands - 1));
	for (i = 1; i < a->n_operands; i++)
		wire_put_str(w, a->operands[i]);
	wire_put_u32(w, (uint32_t)a->n_tail);
	for (i = 0; i < a->n_tail; i++)
		wire_put_str(w, a->tail[i]);
}

/* Says what is wrong with the words that need no node to be judged. */
static int check_add(const struct cli_args *a)
{
	char esc[128];
	size_t i;

	if (a->n_tail == 0)
		return cli_usage("add", "it needs SUPERVISOR [KEY=VALUE...] -- CMD [ARG...]");
	for (i = 1; i < a->n_operands; i++) {
		const char *w = a->operands[i];

		if (!strchr(w, '=') || w[0] == '=')
			return cli_usage("add", "`%s` is not KEY=VALUE (the command stands behind --)",
			    text_escape(w, strlen(w), esc, sizeof esc));
	}
	return CLI_OK;
}

struct added {
	char path[SPEC_PATH_MAX]; /* ids need no escape */
};

static void take_added(void *ctx, int kind, struct wire_in *body)
{
	struct added *r = ctx;
	char esc[CALL_MESSAGE_MAX];

	if (kind == PROTO_R_TEXT)
		wire_get_str(body, r->path, sizeof r->path);
	else if (kind == PROTO_R_ERROR_LINE) {
		client_get_text(body, esc, sizeof esc);
		diag_error("%s", esc);
	}
}

static void put_added(const struct cli_args *a, const char *path)
{
	if (a->json) {
		fputc('{', stdout);
		cli_json_str(stdout, true, "path", path);
		fputs("}\n", stdout);
	} else if (!a->quiet) {
		cli_put(stdout, path);
		fputc('\n', stdout);
	}
}

int cli_add(const struct cli_args *a)
{
	struct added added = { "" };
	struct call c = {
		.args = a,
		.deadline_ms = call_deadline(a, -1),
		.verb = PROTO_ADD,
		.flags = a->no_wait ? PROTO_F_NO_WAIT : 0,
		.put = put_add,
		.put_ctx = a,
		.frame = take_added,
		.frame_ctx = &added,
	};
	int status = check_add(a);

	if (status != 0)
		return status;
	status = call_run_or_say(&c);
	if (status == 0)
		put_added(a, added.path);
	return status;
}
