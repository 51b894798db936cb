/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * How events get from the pipe into the history exactly once, whenever the process is killed.
 * Hides the stage: the kernel copies the pipe's bytes straight into the kept memory, which is
 * zero before, so that what was read is there even if the process never ran again after
 * read(2). One read takes all that is in the pipe, because the stage is at least as big, and so
 * the stage holds whole records. Each record is then put in force together with the place up to
 * which the stage is done; the parts of an event that is not complete are kept as records, and
 * put together again by the successor.
 *
 * Runs in control. Regime: allocates nothing.
 */
#include "node/control_history_private.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"

/* --- records of incomplete events --- */

/* Bytes of the record at p, of which the first part is known to be sane; 0 at the end. */
static size_t record_len(const uint8_t *p, size_t left)
{
	uint32_t payload;

	if (left < EVENT_PART_HEAD)
		return 0;
	memcpy(&payload, p, sizeof(payload));
	if (payload == 0 || payload > left - EVENT_PART_HEAD)
		return 0;
	return EVENT_PART_HEAD + (size_t)payload;
}

/* Copies what is still needed into the other half. */
static void compact_pending(struct history *h, struct history_commit *c)
{
	const uint8_t *from = h->mem->pending[c->pending_half];
	uint8_t *to = h->mem->pending[!c->pending_half];
	size_t at = 0, len = 0, n;

	while ((n = record_len(from + at, c->pending_len - at)) > 0) {
		if (event_parts_holds(h->parts, from + at, n)) {
			memcpy(to + len, from + at, n);
			len += n;
		}
		at += n;
	}
	c->pending_half = !c->pending_half;
	c->pending_len = (uint32_t)len;
}

/* Keeps a part for our successor. If there is no room even so, this process can still put the
 * event together; only its successor could not. */
static void keep_part(struct history *h, struct history_commit *c, const uint8_t *rec, size_t n)
{
	if (event_parts_pending(h->parts) == 0) {
		c->pending_len = 0;
		return;
	}
	if (n > HISTORY_PENDING - c->pending_len)
		compact_pending(h, c);
	if (n > HISTORY_PENDING - c->pending_len)
		return;
	memcpy(h->mem->pending[c->pending_half] + c->pending_len, rec, n);
	c->pending_len += (uint32_t)n;
}

/* --- from the stage into the ring --- */

/* Adds a message to c if it is an event. */
static bool add_message(struct history *h, struct history_commit *c, const uint8_t *msg, size_t len)
{
	struct event e;

	if (len > EVENT_MSG_MAX || event_get(msg, len, &e, h->scratch, EVENT_MSG_MAX) < 0)
		return false;
	history_append_event(h, c, &e, msg, len);
	return true;
}

/* Says in the history that some of it is missing. */
static void add_lost(struct history *h, unsigned count)
{
	struct history_commit c = *history_now(h);
	struct event e = { .type = EVENT_LOST, .count = count, .time_us = clock_real_us() };
	uint8_t buf[256];
	struct wire_out w;

	wire_out_init(&w, buf, sizeof(buf));
	event_put(&w, &e);
	if (count == 0 || w.overflow)
		return;
	history_append_event(h, &c, &e, buf, w.len);
	history_put(h, &c);
}

static bool is_part(const uint8_t *rec)
{
	uint32_t id;

	memcpy(&id, rec + 8, sizeof(id));
	return id != 0;
}

/* Puts one record in force. */
static void take_record(struct history *h, const uint8_t *rec, size_t n, const uint8_t *msg, size_t len)
{
	struct history_commit c = *history_now(h);
	unsigned lost = 0;

	if (msg != NULL && !add_message(h, &c, msg, len))
		lost++;
	if (is_part(rec))
		keep_part(h, &c, rec, n);
	c.stage_pos += (uint32_t)n;
	history_put(h, &c);
	add_lost(h, lost + event_parts_lost(h->parts));
}

/* Takes every record of the stage that is not done. Returns where the scan ended. */
static size_t take_stage(struct history *h)
{
	const uint8_t *stage = h->mem->stage;
	size_t at = history_now(h)->stage_pos, len;
	const uint8_t *msg;
	uint32_t next;
	ssize_t n;

	while ((n = event_parts_take(h->parts, stage + at, HISTORY_STAGE - at, &msg, &len)) > 0) {
		take_record(h, stage + at, (size_t)n, msg, len);
		at += (size_t)n;
	}
	memcpy(&next, stage + at, sizeof(next)); /* the guard: there always is one */
	if (next != 0)
		add_lost(h, 1); /* not a record: whatever it is, and what follows, cannot be read */
	return at;
}

/* The order matters: as long as stage_pos stands behind the records, zeros follow it. */
static void reset_stage(struct history *h, size_t used)
{
	struct history_commit c;

	memset(h->mem->stage, 0, used);
	c = *history_now(h);
	c.stage_pos = 0;
	history_put(h, &c);
}

size_t history_take(struct history *h, int pipe_fd)
{
	ssize_t n;

	do {
		n = read(pipe_fd, h->mem->stage, HISTORY_STAGE);
	} while (n < 0 && errno == EINTR);
	if (n <= 0)
		return 0;
	take_stage(h);
	reset_stage(h, (size_t)n);
	return (size_t)n;
}

/* --- after a death --- */

/* Puts incomplete events together as far as they had come. */
static void replay_pending(struct history *h)
{
	const struct history_commit *c = history_now(h);
	const uint8_t *pending = h->mem->pending[c->pending_half], *msg;
	size_t at = 0, len;
	ssize_t n;

	while (at < c->pending_len &&
	    (n = event_parts_take(h->parts, pending + at, c->pending_len - at, &msg, &len)) > 0)
		at += (size_t)n;
	event_parts_lost(h->parts); /* already told */
}

/* How much the killed process had read is not known: all of the stage is emptied. */
static void wipe_stage(struct history *h)
{
	if (madvise(h->mem->stage, sizeof(h->mem->stage), MADV_REMOVE) < 0)
		memset(h->mem->stage, 0, sizeof(h->mem->stage));
}

/* Has memory under the part of the stage that a pipe of the usual size fills, so that no read has
 * to wait for it and be killed half way. */
static void touch_stage(struct history *h)
{
	volatile uint8_t *p = h->mem->stage;

	for (size_t i = 0; i < 64 * 1024; i += 4096)
		p[i] = 0;
}

void history_recover(struct history *h)
{
	if (!h->fresh) {
		replay_pending(h);
		take_stage(h);
		wipe_stage(h);
		reset_stage(h, 0);
	}
	touch_stage(h);
}
