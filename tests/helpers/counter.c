/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A module with servers for tests. `counter_ops` speaks JSON, looked at as a text is: {"op":"add"} counts,
 * other words make it do what they say. `binary_ops` answers with bytes.
 */
#include <coppice/coppice.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct counter {
	long value;
	char args[4096];
};

static bool says(const void *data, size_t len, const char *word)
{
	return memmem(data, len, word, strlen(word)) != NULL;
}

static struct cop_exit other(const char *word)
{
	return cop_exit_make_text(COP_EXIT_OTHER, 0, word);
}

/* Writes over the node's memory that is in use near its beginning: header (unless it is skipped), slots, names. */
static void scribble(int with, size_t skip)
{
	unsigned long from, to;
	char line[512];
	FILE *f = fopen("/proc/self/maps", "r");

	while (f && fgets(line, sizeof line, f)) {
		if (!strstr(line, "memfd:coppice ") || sscanf(line, "%lx-%lx rw-s", &from, &to) != 2)
			continue;
		if (to - from < (16ul << 20))
			continue;
		fclose(f);
		memset((char *)from + skip, with, 16ul << 20);
		_exit(9);
	}
	_exit(8);
}

static struct cop_next counter_init(void *state, const void *arg, size_t size)
{
	struct counter *c = state;
	struct cop_exit why = other("no_luck");

	if (size < sizeof c->args)
		memcpy(c->args, arg, size);
	printf("init %s\n", c->args);
	if (says(arg, size, "refuse"))
		return cop_stop(&why);
	if (says(arg, size, "ignore"))
		return cop_ignore();
	if (says(arg, size, "hang"))
		sleep(1000);
	if (says(arg, size, "trap"))
		cop_trap_exit(true);
	return cop_ok();
}

static struct cop_next reply_json(const char *text)
{
	return cop_reply_tag(COP_TAG_JSON, text, strlen(text));
}

static struct cop_next counter_call(void *state, const struct cop_msg *msg, struct cop_from from)
{
	struct counter *c = state;
	struct cop_exit boom = other("boom");
	char text[64];

	(void)from;
	if (says(msg->data, msg->len, "boom"))
		return cop_stop(&boom);
	if (says(msg->data, msg->len, "abort"))
		abort();
	if (says(msg->data, msg->len, "never"))
		return cop_ok();
	if (says(msg->data, msg->len, "args"))
		return reply_json(c->args);
	if (says(msg->data, msg->len, "env"))
		return reply_json(getenv("ANSWER") ? getenv("ANSWER") : "null");
	if (says(msg->data, msg->len, "zeros"))
		scribble(0, 0);
	if (says(msg->data, msg->len, "ones"))
		scribble(0xff, 0);
	if (says(msg->data, msg->len, "slots"))
		scribble(0xff, 4096);
	c->value += says(msg->data, msg->len, "add");
	snprintf(text, sizeof text, "{\"value\":%ld}", c->value);
	return reply_json(text);
}

static struct cop_next counter_cast(void *state, const struct cop_msg *msg)
{
	struct counter *c = state;

	c->value += says(msg->data, msg->len, "add");
	return cop_ok();
}

static struct cop_next counter_info(void *state, const struct cop_msg *msg)
{
	(void)state;
	printf("info %.*s\n", (int)msg->len, (const char *)msg->data);
	return cop_ok();
}

static void counter_terminate(void *state, const struct cop_exit *reason)
{
	char text[COP_EXIT_FORMAT_MAX];

	(void)state;
	printf("terminate %s\n", cop_exit_format(reason, text, sizeof text));
}

const struct cop_server_ops counter_ops = {
	.name = "counter",
	.state_size = sizeof(struct counter),
	.init = counter_init,
	.handle_call = counter_call,
	.handle_cast = counter_cast,
	.handle_info = counter_info,
	.terminate = counter_terminate,
};

/* Sends what it gets on to the name that it was given, as bytes. */
static char binary_to[64];

static struct cop_next binary_init(void *state, const void *arg, size_t size)
{
	(void)state;
	if (size > 2 && size - 2 < sizeof binary_to)
		memcpy(binary_to, (const char *)arg + 1, size - 2); /* without its quotes */
	return cop_ok();
}

static struct cop_next binary_call(void *state, const struct cop_msg *msg, struct cop_from from)
{
	(void)state;
	(void)from;
	if (binary_to[0] && cop_send(cop_named(binary_to), 7, "hello", 5) < 0)
		return cop_reply_tag(3, "lost", 4);
	return cop_reply_tag(7, msg->data, msg->len);
}

const struct cop_server_ops binary_ops = { .name = "binary", .init = binary_init, .handle_call = binary_call };
