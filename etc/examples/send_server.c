/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * SendServer: sends email, remembers what became of it, and tries again what failed. The program of
 * doc/tutorial.md, where every piece of it is explained; see libcoppice(3).
 *
 *	cc -o send_server send_server.c $(pkg-config --cflags --libs coppice)
 *	./send_server outbox
 */
#include <coppice/coppice.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- the sender --- */

typedef bool send_f(const char *outbox, const char *address);

/* Delivers an email: a line in a file. One address never works. */
static bool send_to_file(const char *outbox, const char *address)
{
	FILE *f;

	if (strcmp(address, "konnichiwa@world.com") == 0 || !(f = fopen(outbox, "a")))
		return false;
	fprintf(f, "Dear %s\n", address);
	return fclose(f) == 0;
}

/* --- the state --- */

enum { EMAIL_MAX = 64 };

struct email {
	char address[EMAIL_MAX];
	bool sent;
	int retries;
};

struct send_options {
	send_f *send;
	const char *outbox;
	int max_retries;
	int retry_ms; /* from one look at what failed to the next */
};

struct send_state {
	struct send_options options;
	struct email *emails;
	size_t n;
};

/* --- the callbacks --- */

enum { SEND_STATE = 1, SEND_EMAIL, SEND_RETRY };

static void retry_later(const struct send_state *s)
{
	(void)cop_send_after(cop_to(cop_self()), SEND_RETRY, NULL, 0, s->options.retry_ms);
}

static struct cop_next send_init(void *state, const void *arg, size_t size)
{
	struct send_state *s = state;

	if (size != sizeof s->options)
		abort();
	memcpy(&s->options, arg, size);
	(void)cop_trap_exit(true);
	retry_later(s);
	printf("started, max_retries is %d\n", s->options.max_retries);
	return cop_ok();
}

static struct cop_next send_call(void *state, const struct cop_msg *msg, struct cop_from from)
{
	const struct send_state *s = state;
	struct cop_exit reason = cop_exit_make_text(COP_EXIT_OTHER, 0, "bad_call");

	(void)from;
	if (msg->tag != SEND_STATE)
		return cop_stop(&reason);
	return cop_reply(s->emails, s->n * sizeof *s->emails);
}

static struct cop_next send_cast(void *state, const struct cop_msg *msg)
{
	struct send_state *s = state;
	struct email *e;

	if (msg->tag != SEND_EMAIL || msg->len >= EMAIL_MAX)
		return cop_ok();
	s->emails = reallocarray(s->emails, s->n + 1, sizeof *s->emails);
	if (!s->emails)
		abort();
	e = memset(&s->emails[s->n++], 0, sizeof *e);
	memcpy(e->address, msg->data, msg->len);
	e->sent = s->options.send(s->options.outbox, e->address);
	printf("%s %s\n", e->sent ? "sent to" : "failed to send to", e->address);
	return cop_ok();
}

static void retry(const struct send_state *s, struct email *e)
{
	if (e->sent || e->retries >= s->options.max_retries)
		return;
	printf("retrying %s\n", e->address);
	e->retries++;
	e->sent = s->options.send(s->options.outbox, e->address);
}

static struct cop_next send_info(void *state, const struct cop_msg *msg)
{
	struct send_state *s = state;
	size_t i;

	if (msg->kind != COP_MSG_PLAIN || msg->tag != SEND_RETRY)
		return cop_ok();
	for (i = 0; i < s->n; i++)
		retry(s, &s->emails[i]);
	retry_later(s);
	return cop_ok();
}

static void send_terminate(void *state, const struct cop_exit *reason)
{
	const struct send_state *s = state;
	char text[COP_EXIT_FORMAT_MAX];

	cop_exit_format(reason, text, sizeof text);
	printf("terminating with reason %s, %zu emails\n", text, s->n);
}

static const struct cop_server_ops send_ops = {
	.name = "send_server",
	.state_size = sizeof(struct send_state),
	.init = send_init,
	.handle_call = send_call,
	.handle_cast = send_cast,
	.handle_info = send_info,
	.terminate = send_terminate,
};

/* --- what others call --- */

static void send_email(struct cop_dest server, const char *address)
{
	(void)cop_server_cast(server, SEND_EMAIL, address, strlen(address));
}

static void send_print_state(struct cop_dest server)
{
	char text[COP_EXIT_FORMAT_MAX];
	const struct email *e;
	struct cop_response r;
	size_t i;

	if (cop_server_call(server, SEND_STATE, NULL, 0, COP_CALL_MS, &r) < 0) {
		printf("no answer: %s\n", cop_exit_format(&r.reason, text, sizeof text));
		return;
	}
	e = r.msg.data;
	printf("%zu emails\n", r.msg.len / sizeof *e);
	for (i = 0; i < r.msg.len / sizeof *e; i++)
		printf("  %s %s, %d retries\n", e[i].address,
		    e[i].sent ? "sent" : "failed", e[i].retries);
	cop_response_done(&r);
}

/* --- the console --- */

static void obey(const char *line)
{
	struct cop_dest server = cop_named("send_server");

	if (strncmp(line, "send ", 5) == 0)
		send_email(server, line + 5);
	else if (strcmp(line, "state") == 0)
		send_print_state(server);
	else if (strcmp(line, "kill") == 0)
		cop_kill(cop_whereis("send_server"));
	else if (strcmp(line, "stop") != 0)
		printf("send ADDRESS, state, kill or stop; the end of the input ends all\n");
	else if (cop_server_stop(server, NULL, COP_INFINITY, NULL) < 0)
		printf("unable to stop it\n");
}

static void console(void *arg)
{
	char line[256];

	(void)arg;
	while (fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = '\0';
		obey(line);
	}
	if (cop_server_stop(cop_named("top"), NULL, COP_INFINITY, NULL) < 0)
		printf("unable to stop the tree\n");
}

/* --- the tree --- */

int main(int argc, char **argv)
{
	struct cop_node_options node = { .name = "send_server" };
	struct send_options options = {
		.send = send_to_file,
		.outbox = argc > 1 ? argv[1] : "outbox",
		.max_retries = 3,
		.retry_ms = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 5000,
	};
	struct cop_child children[] = {
		{ .id = "send_server", .name = "send_server", .server = &send_ops,
		  .arg = &options, .arg_size = sizeof options },
		{ .id = "console", .run = console, .restart = COP_TEMPORARY },
	};
	struct cop_supervisor top = {
		.name = "top",
		.strategy = COP_ONE_FOR_ONE,
		.children = children,
		.n_children = sizeof children / sizeof children[0],
	};

	if (options.retry_ms <= 0) {
		fprintf(stderr, "usage: send_server [OUTBOX [RETRY_MS]]\n");
		return 2;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	return cop_run_tree(&node, &top);
}
