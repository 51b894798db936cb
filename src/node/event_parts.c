/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The reading end of the event pipe: takes records apart and puts events that were cut into
 * parts together again. Hides that the parts of several writers come mixed, and that a writer
 * may die between two parts: each writer has at most one event under way, a new one replaces
 * it, and of too many writers the one that was silent longest is given up. Runs in control.
 *
 * Regime: one block, allocated at start; only pages that are used become memory.
 */
#include "node/event.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS 8 /* writers that send an event in parts at the same time */

struct slot {
	bool used;
	int32_t pid;
	uint32_t id;
	uint32_t next;    /* number of the part that must come */
	uint64_t touched; /* for giving up the oldest */
	size_t len;
	uint8_t *buf;     /* slot_bytes */
};

struct event_parts {
	struct slot slots[SLOTS];
	uint64_t clock;
	unsigned lost;
	size_t slot_bytes;
	uint8_t mem[];
};

struct part {
	uint32_t payload; /* bytes */
	int32_t pid;
	uint32_t id, number, more;
	const uint8_t *data;
};

struct event_parts *event_parts_create(size_t max_bytes)
{
	size_t slot_bytes = max_bytes / SLOTS;
	struct event_parts *p = calloc(1, sizeof(*p) + slot_bytes * SLOTS);

	if (p == NULL)
		return NULL;
	p->slot_bytes = slot_bytes;
	for (size_t i = 0; i < SLOTS; i++)
		p->slots[i].buf = p->mem + i * slot_bytes;
	return p;
}

void event_parts_destroy(struct event_parts **p)
{
	free(*p);
	*p = NULL;
}

static bool head_valid(const struct part *part)
{
	if (part->payload == 0 || part->payload > PIPE_BUF - EVENT_PART_HEAD)
		return false;
	if (part->pid <= 0 || part->more > 1)
		return false;
	return part->id != 0 || (part->number == 0 && part->more == 0);
}

/* 1: there is a whole record, 0: more bytes are needed, -1: this is none. */
static int read_head(struct part *part, const uint8_t *buf, size_t len)
{
	struct wire_in w;

	if (len < EVENT_PART_HEAD)
		return 0;
	wire_in_init(&w, buf, EVENT_PART_HEAD);
	part->payload = wire_get_u32(&w);
	part->pid = wire_get_i32(&w);
	part->id = wire_get_u32(&w);
	part->number = wire_get_u32(&w);
	part->more = wire_get_u32(&w);
	part->data = buf + EVENT_PART_HEAD;
	if (!head_valid(part))
		return -1;
	return part->payload <= len - EVENT_PART_HEAD;
}

static void give_up(struct event_parts *p, struct slot *s)
{
	s->used = false;
	p->lost++;
}

static struct slot *slot_of(struct event_parts *p, int32_t pid)
{
	for (size_t i = 0; i < SLOTS; i++)
		if (p->slots[i].used && p->slots[i].pid == pid)
			return &p->slots[i];
	return NULL;
}

/* A free slot, or the one that was silent longest. */
static struct slot *slot_free(struct event_parts *p)
{
	struct slot *oldest = &p->slots[0];

	for (size_t i = 0; i < SLOTS; i++) {
		if (!p->slots[i].used)
			return &p->slots[i];
		if (p->slots[i].touched < oldest->touched)
			oldest = &p->slots[i];
	}
	give_up(p, oldest);
	return oldest;
}

/* The slot for a part; NULL if the part does not continue anything. */
static struct slot *slot_for(struct event_parts *p, const struct part *part)
{
	struct slot *s = slot_of(p, part->pid);

	if (s != NULL && s->id == part->id && s->next == part->number)
		return s;
	if (s != NULL)
		give_up(p, s);
	if (part->number != 0)
		return NULL;
	s = slot_free(p);
	s->used = true;
	s->pid = part->pid;
	s->id = part->id;
	s->next = 0;
	s->len = 0;
	return s;
}

/* Adds a part; true if it was the last one, then *s_r has the whole event. */
static bool add_part(struct event_parts *p, const struct part *part, struct slot **s_r)
{
	struct slot *s = slot_for(p, part);

	if (s == NULL)
		return false;
	if (part->payload > p->slot_bytes - s->len) {
		give_up(p, s);
		return false;
	}
	memcpy(s->buf + s->len, part->data, part->payload);
	s->len += part->payload;
	s->next++;
	s->touched = ++p->clock;
	s->used = part->more != 0;
	*s_r = s;
	return !s->used;
}

ssize_t event_parts_take(struct event_parts *p, const uint8_t *buf, size_t len,
    const uint8_t **msg_r, size_t *msg_len_r)
{
	struct slot *s = NULL;
	struct part part;
	int r = read_head(&part, buf, len);

	*msg_r = NULL;
	*msg_len_r = 0;
	if (r < 0)
		errno = EBADMSG;
	if (r <= 0)
		return r;
	if (part.id == 0) {
		*msg_r = part.data;
		*msg_len_r = part.payload;
	} else if (add_part(p, &part, &s)) {
		*msg_r = s->buf;
		*msg_len_r = s->len;
	}
	return (ssize_t)(EVENT_PART_HEAD + part.payload);
}

bool event_parts_holds(const struct event_parts *p, const uint8_t *buf, size_t len)
{
	struct part part;

	if (read_head(&part, buf, len) <= 0 || part.id == 0)
		return false;
	for (size_t i = 0; i < SLOTS; i++) {
		const struct slot *s = &p->slots[i];

		if (s->used && s->pid == part.pid && s->id == part.id)
			return true;
	}
	return false;
}

unsigned event_parts_pending(const struct event_parts *p)
{
	unsigned n = 0;

	for (size_t i = 0; i < SLOTS; i++)
		n += p->slots[i].used;
	return n;
}

unsigned event_parts_lost(struct event_parts *p)
{
	unsigned n = p->lost;

	p->lost = 0;
	return n;
}
