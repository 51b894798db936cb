/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The writing end of the event pipe, in root and in every supervisor. Hides how an event gets
 * past a reader that is slow, stopped or being replaced: a record is one write of at most
 * PIPE_BUF bytes, which the kernel never mixes with another's; what the pipe does not take
 * waits in a queue; what the queue does not take is counted, and the count is itself an event
 * in the place where the lost ones would stand.
 *
 * Regime: allocates the queue at start and nothing afterwards. Never blocks.
 */
#include "node/event.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define PAYLOAD_MAX (PIPE_BUF - EVENT_PART_HEAD)

int event_pipe_init(struct event_pipe *p, int fd, size_t queue_bytes)
{
	*p = (struct event_pipe){ .fd = fd };
	p->q = malloc(queue_bytes > 0 ? queue_bytes : 1);
	if (p->q == NULL)
		return -1;
	p->q_cap = queue_bytes;
	return 0;
}

/* 1: written, 0: the pipe is full, -1: it cannot be written to. */
static int write_record(struct event_pipe *p, const uint8_t *rec, size_t len)
{
	ssize_t n;

	do {
		n = write(p->fd, rec, len);
	} while (n < 0 && errno == EINTR);
	if (n == (ssize_t)len)
		return 1;
	return n < 0 && errno == EAGAIN ? 0 : -1;
}

static bool enqueue(struct event_pipe *p, const uint8_t *rec, size_t len)
{
	if (len > p->q_cap - p->q_len)
		return false;
	if (p->q_head + p->q_len + len > p->q_cap) {
		memmove(p->q, p->q + p->q_head, p->q_len);
		p->q_head = 0;
	}
	memcpy(p->q + p->q_head + p->q_len, rec, len);
	p->q_len += len;
	return true;
}

/* A record never overtakes one that waits. */
static bool send_record(struct event_pipe *p, const uint8_t *rec, size_t len)
{
	int r = p->q_len > 0 || p->held ? 0 : write_record(p, rec, len);

	if (r != 0)
		return r > 0;
	return enqueue(p, rec, len);
}

/* Frames the payload of one part and sends it. */
static bool send_part(struct event_pipe *p, const uint8_t *payload, size_t len, uint32_t id,
    uint32_t number, bool more)
{
	uint8_t rec[PIPE_BUF];
	struct wire_out w;

	wire_out_init(&w, rec, EVENT_PART_HEAD);
	wire_put_u32(&w, (uint32_t)len);
	wire_put_i32(&w, getpid());
	wire_put_u32(&w, id);
	wire_put_u32(&w, number);
	wire_put_u32(&w, more);
	memcpy(rec + EVENT_PART_HEAD, payload, len);
	return send_record(p, rec, EVENT_PART_HEAD + len);
}

static uint32_t next_part_id(struct event_pipe *p)
{
	if (++p->part_id == 0) /* 0 says that an event is whole */
		p->part_id = 1;
	return p->part_id;
}

/* Sends an event in parts. If the queue has no room for the last ones it has none for any: what
 * went into the pipe already is given up by the reader. */
static bool send_parts(struct event_pipe *p, const uint8_t *msg, size_t len)
{
	uint32_t id = next_part_id(p), number = 0;
	size_t queued = p->q_len, at = 0;

	while (at < len) {
		size_t n = len - at < PAYLOAD_MAX ? len - at : PAYLOAD_MAX;

		if (!send_part(p, msg + at, n, id, number++, at + n < len)) {
			p->q_len = queued;
			return false;
		}
		at += n;
	}
	return true;
}

/* Length of a list that is cut to at most max bytes, between two strings. */
static size_t cut_list(const char *list, size_t len, size_t max)
{
	if (len <= max)
		return len;
	while (max > 0 && list[max - 1] != '\0')
		max--;
	return max;
}

/* Cuts the lists so that the event fits: each keeps at least a third of the room. */
static void cut_lists(struct event *e)
{
	size_t room = e->list_len + e->changed_len + e->removed_len <= EVENT_LIST_MAX
	    ? EVENT_LIST_MAX : EVENT_LIST_MAX / 3;

	if (e->changed_len == 0 && e->removed_len == 0)
		room = EVENT_LIST_MAX;
	e->list_len = cut_list(e->list, e->list_len, room);
	e->changed_len = cut_list(e->changed, e->changed_len, room);
	e->removed_len = cut_list(e->removed, e->removed_len, room);
}

static bool send_event(struct event_pipe *p, const struct event *e)
{
	static uint8_t msg[EVENT_MSG_MAX]; /* too big for the stack; only touched as far as used */
	struct event cut = *e;
	struct wire_out w;

	cut_lists(&cut);
	wire_out_init(&w, msg, sizeof(msg));
	event_put(&w, &cut);
	if (w.overflow)
		return false;
	if (w.len <= PAYLOAD_MAX)
		return send_part(p, msg, w.len, 0, 0, false);
	return send_parts(p, msg, w.len);
}

/* Says how many were lost, in their place. */
static void tell_lost(struct event_pipe *p)
{
	struct event e = { .type = EVENT_LOST, .count = p->lost, .time_us = clock_real_us() };

	if (p->lost > 0 && send_event(p, &e))
		p->lost = 0;
}

void event_pipe_put(struct event_pipe *p, struct event *e)
{
	if (e->time_us == 0)
		e->time_us = clock_real_us();
	if (!p->held || p->q_cap - p->q_len < EVENT_MSG_MAX)
		event_pipe_flush(p);
	if ((p->lost > 0 || !send_event(p, e)) && p->lost < UINT32_MAX)
		p->lost++;
}

/* Bytes of the record at the head of the queue. */
static size_t head_len(const struct event_pipe *p)
{
	uint32_t payload;

	memcpy(&payload, p->q + p->q_head, sizeof(payload));
	return EVENT_PART_HEAD + (size_t)payload;
}

void event_pipe_hold(struct event_pipe *p)
{
	p->held = true;
}

bool event_pipe_flush(struct event_pipe *p)
{
	p->held = false;
	while (p->q_len > 0) {
		size_t len = head_len(p);

		if (write_record(p, p->q + p->q_head, len) <= 0)
			return false;
		p->q_head += len;
		p->q_len -= len;
	}
	p->q_head = 0;
	tell_lost(p);
	return p->q_len == 0;
}
