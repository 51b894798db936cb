/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * coppice events: one line an event. Following goes on over the death of the control process, with
 * the event after the last one seen, and ends with the node. Runs in the command's process.
 */
#include "cli/cli.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/diag.h"
#include "cli/cli_call.h"
#include "cli/cli_find.h"
#include "cli/cli_out.h"
#include "node/event.h"

#define TRIES 20         /* connections in a row that break without an event */
#define STEADY_MS 1000   /* one that stood so long was none of them */
#define PAUSE_MS 50      /* before the next */

enum outcome { OUT_ENDED, OUT_BROKE_OFF };

struct watch {
	const struct cli_args *args;
	int64_t deadline_ms;
	uint64_t since;   /* of the next request */
	int64_t not_before_us; /* events that happened earlier are not shown */
	char path[CLIENT_PATH_MAX]; /* of the node's socket, once it was found */
	uid_t uid;        /* who listened there */
	char *scratch;    /* for event_get() */
	int status;
};

static int put_event(struct watch *w, struct wire_in *body)
{
	uint64_t seq = wire_get_u64(body);
	struct event e;

	if (body->bad || event_get(body->buf + body->pos, body->len - body->pos, &e, w->scratch, PROTO_FRAME_MAX) < 0)
		return -1;
	w->since = seq + 1;
	if (e.time_us < w->not_before_us)
		return 0;
	w->not_before_us = 0;
	if (w->args->json)
		event_json(stdout, seq, &e);
	else if (!w->args->quiet)
		event_text(stdout, seq, &e);
	if (w->args->json || !w->args->quiet)
		fputc('\n', stdout);
	return 0;
}

/* The node's last word. A node that ends while it is followed is no failure. */
static void take_end(struct watch *w, struct wire_in *body)
{
	char message[CALL_MESSAGE_MAX];

	w->status = wire_get_u8(body);
	client_get_text(body, message, sizeof message);
	if (w->status != 0)
		diag_error("%s", message[0] != '\0' ? message : "the node refused without a reason");
}

static enum outcome take(struct watch *w, struct client *c)
{
	struct wire_in body;
	int kind;

	for (;;) {
		kind = client_next(c, &body);
		if (kind == PROTO_R_EVENT && put_event(w, &body) < 0) {
			errno = EBADMSG;
			kind = -1;
		}
		if (kind == PROTO_END) {
			take_end(w, &body);
			return OUT_ENDED;
		}
		if (kind == 0)
			return OUT_BROKE_OFF;
		if (kind < 0) {
			w->status = call_say_errno(w->args, errno);
			return OUT_ENDED;
		}
		if (ferror(stdout))
			return OUT_ENDED;
	}
}

static int ask(struct watch *w, struct client *c)
{
	struct request r;
	int result;

	request_init(&r, PROTO_EVENTS, w->args->follow ? PROTO_F_FOLLOW : 0);
	wire_put_u64(&r.w, w->since);
	result = client_send(c, &r);
	request_fini(&r);
	return result;
}

/* Finds the node the first time, and later the same one again. 0, or the outcome is known. */
static bool connect_again(struct watch *w, struct client *c)
{
	if (w->path[0] == '\0') {
		w->status = find_node(c, w->args);
		strlcpy(w->path, c->path, sizeof w->path);
		w->uid = c->peer.uid;
		return w->status == 0;
	}
	/* nobody listens there any more: the node has ended, and that is no failure */
	w->status = CLI_OK;
	if (client_connect(c, w->path, true) < 0 && errno != ENOENT && errno != ECONNREFUSED)
		w->status = call_say_errno(w->args, errno);
	return c->fd >= 0 && c->peer.uid == w->uid;
}

/* One connection. */
static enum outcome watch_once(struct watch *w)
{
	enum outcome out = OUT_ENDED;
	struct client c;

	client_init(&c, w->deadline_ms);
	if (connect_again(w, &c)) {
		if (ask(w, &c) < 0 && errno != EPIPE && errno != ECONNRESET)
			w->status = call_say_errno(w->args, errno);
		else
			out = take(w, &c);
	}
	client_fini(&c);
	return out;
}

/* Before connecting again. What happened since then must not be missed, and when nothing was seen
 * yet there is no number to go on from: then the clock has to tell what is new. */
static void look_back(struct watch *w, int64_t started_us)
{
	if (w->since == UINT64_MAX) {
		w->since = 0;
		w->not_before_us = started_us;
	}
}

static uint64_t first_wanted(const struct cli_args *a)
{
	if (a->seen & CLI_OPT_SINCE)
		return a->since;
	return a->follow ? UINT64_MAX : 0;
}

int cli_events(const struct cli_args *a)
{
	struct watch w = {
		.args = a,
		.deadline_ms = call_deadline(a, a->follow ? -1 : CALL_QUERY_MS),
		.since = first_wanted(a),
		.scratch = cli_alloc(PROTO_FRAME_MAX),
	};
	int64_t started_us = clock_real_us();
	enum outcome out = OUT_BROKE_OFF;
	int tries;

	for (tries = 0; out == OUT_BROKE_OFF && tries < TRIES; tries++) {
		uint64_t since = w.since;
		int64_t at_ms = clock_mono_ms();

		poll(NULL, 0, tries > 1 ? PAUSE_MS : 0);
		out = watch_once(&w);
		if (w.since != since || clock_mono_ms() - at_ms >= STEADY_MS)
			tries = 0;
		look_back(&w, started_us);
	}
	free(w.scratch);
	return out == OUT_BROKE_OFF ? call_say_errno(a, EPIPE) : w.status;
}
