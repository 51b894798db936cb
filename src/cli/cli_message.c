/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The commands that speak with processes of the node: call, cast, send and names. What is sent is JSON,
 * which is looked at here first; a reply that is not becomes an object with its bytes in base64. Runs in
 * the command's process.
 */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef HAVE_JANSSON
#include <jansson.h>
#endif

#include <coppice/server.h>
#include "base/base64.h"
#include "base/diag.h"
#include "base/text.h"
#include "cli/cli_call.h"
#include "cli/cli_out.h"

#define SLACK_MS 5000 /* for the node, beyond the time that the server has */

#ifdef HAVE_JANSSON

/* --- the message --- */

struct text {
	char *data;
	size_t len;
};

static int read_input(struct text *t)
{
	size_t cap = PROTO_REQUEST_MAX;
	ssize_t n;

	t->data = cli_alloc(cap);
	do {
		n = read(STDIN_FILENO, t->data + t->len, cap - t->len);
		if (n > 0)
			t->len += (size_t)n;
	} while ((n > 0 && t->len < cap) || (n < 0 && errno == EINTR));
	if (n < 0)
		diag_error_errno("unable to read standard input");
	else if (t->len == cap)
		diag_error("the message is longer than %d bytes", PROTO_REQUEST_MAX);
	return n < 0 || t->len == cap ? CLI_FAILED : CLI_OK;
}

static int check_message(const struct cli_args *a, const struct text *t)
{
	json_error_t err;
	json_t *v = json_loadb(t->data, t->len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &err);
	char esc[JSON_ERROR_TEXT_LENGTH * 2];

	if (!v)
		return cli_usage(a->command, "MSG is not JSON: %s", text_escape(err.text, strlen(err.text), esc, sizeof esc));
	json_decref(v);
	return CLI_OK;
}

static int get_message(const struct cli_args *a, struct text *t)
{
	int status = CLI_OK;

	if (strcmp(a->operands[1], "-") == 0) {
		status = read_input(t);
	} else {
		t->data = cli_alloc(strlen(a->operands[1]) + 1);
		t->len = strlen(a->operands[1]);
		memcpy(t->data, a->operands[1], t->len);
	}
	return status == CLI_OK ? check_message(a, t) : status;
}

/* --- the request --- */

struct talk {
	const char *name;
	int32_t timeout_ms;
	struct text msg;
};

static void put_talk(struct wire_out *w, const void *ctx)
{
	const struct talk *t = ctx;

	wire_put_str(w, t->name);
	wire_put_i32(w, t->timeout_ms);
	wire_put_bytes(w, t->msg.data, t->msg.len);
}

/* Only what surely is JSON goes out as it is. */
static bool is_json(uint32_t tag, const void *data, size_t len)
{
	json_t *v = tag == COP_TAG_JSON ? json_loadb(data, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
	bool is = v != NULL;

	json_decref(v);
	return is;
}

static void put_reply(uint32_t tag, const void *data, size_t len)
{
	char *text;

	if (is_json(tag, data, len)) {
		fwrite(data, 1, len, stdout);
		fputc('\n', stdout);
		return;
	}
	text = cli_alloc(BASE64_SIZE(len) + 1);
	base64_encode(data, len, text);
	printf("{\"tag\":%lu,\"base64\":\"%s\"}\n", (unsigned long)tag, text);
	free(text);
}

static void take_reply(void *ctx, int kind, struct wire_in *body)
{
	const struct cli_args *a = ctx;
	const void *data;
	uint32_t tag;
	size_t len;

	if (kind != PROTO_R_REPLY)
		return;
	tag = wire_get_u32(body);
	len = wire_get_bytes(body, &data);
	if (!body->bad && !a->quiet)
		put_reply(tag, data, len);
}

static int talk(const struct cli_args *a, uint8_t verb)
{
	struct talk t = { .name = a->operands[0],
		.timeout_ms = a->timeout_ms > INT32_MAX ? -1 : a->timeout_ms >= 0 ? (int32_t)a->timeout_ms : COP_CALL_MS };
	struct cli_args all = *a; /* the node has a little longer than the server */
	struct call c = { .args = &all, .verb = verb, .put = put_talk, .put_ctx = &t, .frame = take_reply, .frame_ctx = &all };
	int status = get_message(a, &t.msg);

	all.timeout_ms = t.timeout_ms >= 0 ? (int64_t)t.timeout_ms + SLACK_MS : -1;
	c.deadline_ms = call_deadline(&all, -1);
	if (status == CLI_OK)
		status = call_run_or_say(&c);
	free(t.msg.data);
	return status;
}

#else

static int talk(const struct cli_args *a, uint8_t verb)
{
	(void)verb;
	diag_error("%s: JSON is not built into this coppice (configure --with-jansson)", a->command);
	return CLI_FAILED;
}

#endif

int cli_call(const struct cli_args *a)
{
	return talk(a, PROTO_CALL);
}

int cli_cast(const struct cli_args *a)
{
	return talk(a, PROTO_CAST);
}

int cli_send(const struct cli_args *a)
{
	return talk(a, PROTO_SEND);
}

/* --- names --- */

struct name {
	char name[4 * COP_NAME_MAX];  /* escaped */
	int32_t pid;
	char path[SPEC_PATH_MAX];
};

struct names {
	struct name *v;
	size_t n;
};

static void take_name(void *ctx, int kind, struct wire_in *body)
{
	struct names *all = ctx;
	struct name *one;

	if (kind != PROTO_R_NAME)
		return;
	if ((all->n & (all->n - 1)) == 0)
		all->v = cli_grow(all->v, all->n ? all->n * 2 : 1, sizeof *all->v);
	one = &all->v[all->n];
	client_get_text(body, one->name, sizeof one->name);
	one->pid = wire_get_i32(body);
	wire_get_str(body, one->path, sizeof one->path);
	all->n += !body->bad;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct name *)a)->name, ((const struct name *)b)->name);
}

static void put_json(const struct names *all)
{
	size_t i;

	fputs("{\"names\":[", stdout);
	for (i = 0; i < all->n; i++) {
		fprintf(stdout, "%s{", i > 0 ? "," : "");
		cli_json_str(stdout, true, "name", all->v[i].name);
		cli_json_int(stdout, "pid", all->v[i].pid > 0, all->v[i].pid);
		if (all->v[i].path[0])
			cli_json_str(stdout, false, "path", all->v[i].path);
		else
			fputs(",\"path\":null", stdout);
		fputc('}', stdout);
	}
	fputs("]}\n", stdout);
}

static void put_table(const struct names *all)
{
	int width = 4;
	size_t i;

	for (i = 0; i < all->n; i++)
		if ((int)strlen(all->v[i].name) > width)
			width = (int)strlen(all->v[i].name);
	if (all->n > 0)
		printf("%-*s  %-8s  PATH\n", width, "NAME", "PID");
	for (i = 0; i < all->n; i++)
		printf("%-*s  %-8ld  %s\n", width, all->v[i].name, (long)all->v[i].pid, all->v[i].path[0] ? all->v[i].path : "-");
}

int cli_names(const struct cli_args *a)
{
	struct names all = { 0 };
	struct call c = {
		.args = a,
		.deadline_ms = call_deadline(a, CALL_QUERY_MS),
		.verb = PROTO_NAMES,
		.frame = take_name,
		.frame_ctx = &all,
	};
	int status = call_run_or_say(&c);

	if (all.n > 0)
		qsort(all.v, all.n, sizeof *all.v, by_name);
	if (status == CLI_OK && a->json)
		put_json(&all);
	else if (status == CLI_OK && !a->quiet)
		put_table(&all);
	free(all.v);
	return status;
}
