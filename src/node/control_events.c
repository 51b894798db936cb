/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * PROTO_EVENTS: the history, from some event on, to its end or for ever. Hides slow readers: a
 * stream is a place in the history and a small buffer, not a copy, so a thousand events wait
 * for nobody. A follower that was up to date and then falls too far behind is cut, as is any
 * reader whose next event has been forgotten; it may come again with the number it last saw.
 *
 * Regime: one block for each stream, buffers bounded.
 */
#include <stdlib.h>
#include <string.h>

#include "node/control_client.h"

#define BUFFER_BYTES (64 * 1024) /* filled again when there is less */
#define BEHIND_MAX (1024 * 1024) /* of a follower that was up to date */

struct stream {
	struct request request; /* first */
	struct control *ctl;
	uint64_t cursor;
	uint64_t until;         /* where one that does not follow ends */
	bool follow;
	bool up_to_date;        /* it was, once */
};

static void stream_cancel(struct request *r)
{
	free(r);
}

/* Puts one event into the buffer; false if there is none. */
static bool put_event(struct stream *s)
{
	struct client *cl = s->request.client;
	const uint8_t *msg;
	struct wire_out w;
	uint64_t seq;
	size_t len;
	int r = history_next(&s->ctl->history, &s->cursor, &seq, &msg, &len);

	if (r < 0)
		client_kill(cl);
	if (r <= 0 || !frame_begin(cl, &w, PROTO_R_EVENT, len + 16))
		return false;
	wire_put_u64(&w, seq);
	memcpy(w.buf + w.len, msg, len); /* it is encoded already, and there is room */
	w.len += len;
	frame_end(cl, &w);
	return true;
}

/* Fills the buffer. False when there is nothing left to send now. */
static bool fill(struct stream *s)
{
	while (client_unsent(s->request.client) < BUFFER_BYTES) {
		if (!s->follow && s->cursor >= s->until)
			return false;
		if (!put_event(s))
			return false;
	}
	return true;
}

/* Sends until the socket is full or everything is sent. */
static void pump(struct stream *s)
{
	struct client *cl = s->request.client;
	bool rest;

	do {
		rest = fill(s);
		client_flush(cl);
	} while (rest && !cl->dead && client_unsent(cl) < BUFFER_BYTES);
	if (rest || cl->dead)
		return;
	if (s->follow) {
		s->up_to_date = true;
	} else {
		client_end(cl, END_OK, "%s", "");
		free(s);
	}
}

static void stream_more(struct request *r)
{
	pump((struct stream *)r);
}

/* Too far behind: what it has not taken yet, here and in the history. */
static bool is_behind(const struct stream *s)
{
	uint64_t behind = history_end(&s->ctl->history) - s->cursor + client_unsent(s->request.client);

	return s->up_to_date && behind > BEHIND_MAX;
}

void events_wake(struct control *c)
{
	struct client *cl, *next;

	for (cl = TAILQ_FIRST(&c->clients); cl != NULL; cl = next) {
		struct stream *s = (struct stream *)cl->request;

		next = TAILQ_NEXT(cl, entry);
		if (s == NULL || !s->request.is_stream)
			continue;
		if (is_behind(s))
			client_kill(cl);
		else
			pump(s);
	}
}

void events_begin(struct control *c, struct client *cl, uint64_t since, bool follow)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (s == NULL) {
		client_kill(cl);
		return;
	}
	s->request.cancel = stream_cancel;
	s->request.more = stream_more;
	s->request.is_long = follow;
	s->request.is_stream = true;
	s->ctl = c;
	s->cursor = history_seek(&c->history, since);
	s->until = history_end(&c->history);
	s->follow = follow;
	client_wait(cl, &s->request);
	pump(s);
}
