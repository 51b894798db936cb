/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The history's two rings and how a change of them is put in force (control_history.h). Hides
 * that entries make room for each other, and that the process may be killed while they do: room
 * is made, and that put in force, before the first byte is written over.
 *
 * Runs in control. Regime: allocates at open only.
 */
#include "node/control_history_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define PARTS_BYTES (8 * (EVENT_MSG_MAX + 4096))
#define LINES_MAX (sizeof(((struct proto_death *)0)->lines) - 1)

uint32_t history_hash(const char *path)
{
	uint32_t h = 2166136261u;

	for (; *path != '\0'; path++)
		h = (h ^ (unsigned char)*path) * 16777619u;
	return h;
}

/* --- the state in force --- */

const struct history_commit *history_now(const struct history *h)
{
	return &h->mem->head.commit[atomic_load_explicit(&h->mem->head.which, memory_order_acquire) & 1];
}

void history_put(struct history *h, const struct history_commit *c)
{
	struct history_head *head = &h->mem->head;
	uint32_t other = !(atomic_load_explicit(&head->which, memory_order_relaxed) & 1);

	head->commit[other] = *c;
	atomic_store_explicit(&head->which, other, memory_order_release);
}

/* --- rings --- */

static bool entry_sane(const struct history_entry *e, uint64_t left, uint64_t to_end)
{
	if (e->size % 8 != 0 || e->size < 8 || e->size > left || e->size > to_end)
		return false;
	if (e->len == HISTORY_FILLER)
		return true;
	return e->size >= sizeof(*e) && e->len <= e->size - sizeof(*e);
}

static const struct history_entry *raw_at(const uint8_t *mem, size_t size, uint64_t place)
{
	return (const struct history_entry *)(const void *)(mem + place % size);
}

const struct history_entry *history_at(const uint8_t *mem, size_t size, const struct history_ring *r,
    uint64_t *place)
{
	const struct history_entry *e;

	while (*place < r->tail) {
		e = raw_at(mem, size, *place);
		if (!entry_sane(e, r->tail - *place, size - *place % size))
			return NULL;
		if (e->len != HISTORY_FILLER)
			return e;
		*place += e->size;
	}
	return NULL;
}

/* Discards the oldest entries until need more bytes have room behind tail. */
static void discard(const uint8_t *mem, size_t size, struct history_ring *r, size_t need)
{
	while (r->tail + need - r->head > size) {
		const struct history_entry *e = raw_at(mem, size, r->head);

		if (!entry_sane(e, r->tail - r->head, size - r->head % size)) {
			r->head = r->tail; /* memory that is not ours to trust: begin anew */
			return;
		}
		r->head += e->size;
	}
}

/* Writes an entry behind r's tail, with the ring r being part of c. */
static void append(struct history *h, struct history_commit *c, struct history_ring *r, uint8_t *mem,
    size_t size, const struct history_entry *proto, const void *content)
{
	size_t need = (sizeof(*proto) + proto->len + 7) / 8 * 8;
	size_t at = r->tail % size, fill = at + need > size ? size - at : 0;
	uint64_t head = r->head;
	struct history_entry *e;

	discard(mem, size, r, fill + need);
	if (r->head != head) {
		/* In force before anything is written over; nothing else of c is yet. */
		struct history_commit now = *history_now(h);

		if (r == &c->events)
			now.events.head = r->head;
		else
			now.lines.head = r->head;
		history_put(h, &now);
	}
	if (fill > 0) {
		e = (struct history_entry *)(void *)(mem + at);
		e->size = (uint32_t)fill;
		e->len = HISTORY_FILLER;
		at = 0;
	}
	e = (struct history_entry *)(void *)(mem + at);
	*e = *proto;
	e->size = (uint32_t)need;
	memcpy(e->content, content, proto->len);
	r->tail += fill + need;
}

/* Whose post-mortem this event belongs to. */
static const char *subject(const struct event *e)
{
	return e->type == EVENT_RESTART ? e->cause : e->path;
}

void history_append_event(struct history *h, struct history_commit *c, const struct event *e,
    const uint8_t *msg, size_t len)
{
	struct history_entry proto = {
		.len = (uint32_t)len,
		.seq = c->next_seq,
		.path_hash = history_hash(subject(e) != NULL ? subject(e) : ""),
		.type = e->type,
	};

	append(h, c, &c->events, h->mem->events, HISTORY_EVENTS, &proto, msg);
	c->next_seq++;
}

/* A text for people: what a string cannot hold is shown as '?'. Cut at the front, at a line. */
static size_t clean_lines(char buf[LINES_MAX], const char *lines, size_t len)
{
	const char *nl;

	if (len > LINES_MAX) {
		lines += len - LINES_MAX;
		len = LINES_MAX;
		nl = memchr(lines, '\n', len - 1);
		if (nl != NULL) {
			len -= (size_t)(nl + 1 - lines);
			lines = nl + 1;
		}
	}
	for (size_t i = 0; i < len; i++)
		buf[i] = lines[i] != '\0' ? lines[i] : '?';
	return len;
}

void history_add_lines(struct history *h, const char *path, int32_t pid, const void *lines, size_t len)
{
	struct history_commit c = *history_now(h);
	struct history_entry proto = { .path_hash = history_hash(path) };
	static char text[LINES_MAX];
	static uint8_t buf[sizeof(text) + SPEC_PATH_MAX + 16];
	struct wire_out w;

	len = clean_lines(text, lines, len);
	wire_out_init(&w, buf, sizeof(buf));
	wire_put_i32(&w, pid);
	wire_put_str(&w, path);
	wire_put_bytes(&w, text, len);
	if (w.overflow || len == 0)
		return;
	proto.len = (uint32_t)w.len;
	append(h, &c, &c.lines, h->mem->lines, HISTORY_LINES, &proto, buf);
	history_put(h, &c);
}

/* --- reading --- */

uint64_t history_next_seq(const struct history *h)
{
	return history_now(h)->next_seq;
}

uint64_t history_end(const struct history *h)
{
	return history_now(h)->events.tail;
}

int history_next(const struct history *h, uint64_t *cursor, uint64_t *seq_r, const uint8_t **msg_r,
    size_t *len_r)
{
	const struct history_ring *r = &history_now(h)->events;
	const struct history_entry *e;

	if (*cursor < r->head)
		return -1;
	e = history_at(h->mem->events, HISTORY_EVENTS, r, cursor);
	if (e == NULL)
		return 0;
	*seq_r = e->seq;
	*msg_r = e->content;
	*len_r = e->len;
	*cursor += e->size;
	return 1;
}

uint64_t history_seek(const struct history *h, uint64_t since)
{
	const struct history_commit *c = history_now(h);
	uint64_t place = c->events.head;
	const struct history_entry *e;

	if (since >= c->next_seq)
		return c->events.tail;
	while ((e = history_at(h->mem->events, HISTORY_EVENTS, &c->events, &place)) != NULL) {
		if (e->seq >= since)
			break;
		place += e->size;
	}
	return place;
}

uint32_t history_generation(const struct history *h)
{
	return h->mem->head.generation;
}

void history_set_generation(struct history *h, uint32_t generation)
{
	h->mem->head.generation = generation;
}

/* --- open and close --- */

static bool ring_sane(const struct history_ring *r, size_t size)
{
	return r->head <= r->tail && r->tail - r->head <= size && r->head % 8 == 0 && r->tail % 8 == 0;
}

static bool commit_sane(const struct history_commit *c)
{
	return ring_sane(&c->events, HISTORY_EVENTS) && ring_sane(&c->lines, HISTORY_LINES) &&
	    c->stage_pos <= HISTORY_STAGE && c->pending_half <= 1 && c->pending_len <= HISTORY_PENDING &&
	    c->next_seq > 0;
}

/* The kernel gives a memfd full of zeros; the magic says that a control has been here. */
static void begin(struct history *h)
{
	struct history_commit c = { .next_seq = 1 };

	if (h->mem->head.magic == HISTORY_MAGIC && commit_sane(history_now(h)))
		return;
	h->fresh = true;
	if (h->mem->head.magic != 0)
		memset(h->mem->stage, 0, sizeof(h->mem->stage));
	history_put(h, &c);
	atomic_signal_fence(memory_order_seq_cst);
	h->mem->head.magic = HISTORY_MAGIC;
}

/* Shared with our successors if it can be; else for ourselves alone. */
static struct history_mem *map_memory(int memfd)
{
	struct stat st;
	void *p = MAP_FAILED;

	if (memfd >= 0 && fstat(memfd, &st) == 0 &&
	    (st.st_size >= (off_t)NODE_HISTORY_BYTES || ftruncate(memfd, NODE_HISTORY_BYTES) == 0))
		p = mmap(NULL, NODE_HISTORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	if (p == MAP_FAILED)
		p = mmap(NULL, NODE_HISTORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p != MAP_FAILED ? p : NULL;
}

int history_open(struct history *h, int memfd)
{
	*h = (struct history){ .mem = map_memory(memfd) };
	h->parts = event_parts_create(PARTS_BYTES);
	h->scratch = malloc(EVENT_MSG_MAX);
	if (h->mem == NULL || h->parts == NULL || h->scratch == NULL) {
		history_close(h);
		errno = ENOMEM;
		return -1;
	}
	begin(h);
	history_recover(h);
	return 0;
}

void history_close(struct history *h)
{
	if (h->mem != NULL)
		munmap(h->mem, NODE_HISTORY_BYTES);
	h->mem = NULL;
	event_parts_destroy(&h->parts);
	free(h->scratch);
	h->scratch = NULL;
}
