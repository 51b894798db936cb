/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * One request and its whole answer, as most commands need it.
 */
#ifndef CLI_CLI_CALL_H
#define CLI_CLI_CALL_H

#include "cli/cli.h"
#include "cli/cli_client.h"

/* Longest a command that only asks waits for a node that does not answer. */
#define CALL_QUERY_MS 30000

#define CALL_MESSAGE_MAX 1024

/* Takes one data frame. */
typedef void call_frame_f(void *ctx, int kind, struct wire_in *body);

/* Puts the arguments of a request behind its head. */
typedef void call_args_f(struct wire_out *w, const void *ctx);

struct call {
	const struct cli_args *args;
	int64_t deadline_ms;  /* call_deadline() */
	uint8_t verb;         /* enum proto_verb */
	uint32_t flags;
	bool repeatable;      /* asking twice does no harm: ask again when the connection breaks */
	call_args_f *put;     /* NULL: no arguments */
	const void *put_ctx;
	call_frame_f *frame;  /* NULL: the answer has no data */
	void *frame_ctx;
	/* results */
	bool answered;        /* the node's own verdict came; else call_run() has said what went wrong */
	char message[CALL_MESSAGE_MAX]; /* the node's, escaped; "" */
	uid_t node_uid;       /* whose node answered */
};

/* The deadline of --timeout, or default_ms from now; CLIENT_NO_DEADLINE for default_ms < 0. */
int64_t call_deadline(const struct cli_args *a, int64_t default_ms);

/* Finds the node, asks, takes the answer. Returns an exit status: the node's own, or 1, 2, 3. */
int call_run(struct call *c);

/* As call_run(), and says the node's message when the status is not 0. */
int call_run_or_say(struct call *c);

/* Says that an answer broke off or did not come, by errno. Returns CLI_FAILED. */
int call_say_errno(const struct cli_args *a, int err);

/* call_args_f for one string: ctx is a const char *. */
void call_put_str(struct wire_out *w, const void *ctx);

#endif
