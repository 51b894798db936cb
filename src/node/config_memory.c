/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Memory of the parser process: allocation that cannot fail, growing buffers, and a map from
 * strings to places. Nothing is given back one by one: all of it goes at once, with the process,
 * or by conf_memory_release() when several jobs run in one process (tests).
 *
 * When memory is out the process ends with a status of its own; its parent turns that into a
 * message. Nothing here may be called from any other process.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "node/config_private.h"

struct block {
	LIST_ENTRY(block) entry;
	max_align_t data[];
};

static LIST_HEAD(, block) blocks = LIST_HEAD_INITIALIZER(blocks);

static struct block *block_of(void *p)
{
	return (struct block *)(void *)((char *)p - offsetof(struct block, data));
}

void *conf_alloc(size_t size)
{
	struct block *b = calloc(1, sizeof(*b) + size);

	if (!b)
		_exit(CONF_EXIT_MEMORY);
	LIST_INSERT_HEAD(&blocks, b, entry);
	return b->data;
}

void *conf_realloc(void *p, size_t size)
{
	struct block *b;

	if (!p)
		return conf_alloc(size);
	b = block_of(p);
	LIST_REMOVE(b, entry);
	b = realloc(b, sizeof(*b) + size);
	if (!b)
		_exit(CONF_EXIT_MEMORY);
	LIST_INSERT_HEAD(&blocks, b, entry);
	return b->data;
}

void conf_free(void *p)
{
	if (!p)
		return;
	LIST_REMOVE(block_of(p), entry);
	free(block_of(p));
}

void conf_memory_release(void)
{
	struct block *b;

	while ((b = LIST_FIRST(&blocks))) {
		LIST_REMOVE(b, entry);
		free(b);
	}
}

char *conf_strdup(const char *s)
{
	size_t n = strlen(s) + 1;

	return memcpy(conf_alloc(n), s, n);
}

char *conf_printf(const char *fmt, ...)
{
	va_list ap, again;
	char *s;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	s = conf_alloc((size_t)n + 1);
	vsnprintf(s, (size_t)n + 1, fmt, again);
	va_end(again);
	va_end(ap);
	return s;
}

void conf_buf_add(struct conf_buf *b, const char *s, size_t len)
{
	if (b->cap - b->len <= len) {
		b->cap = (b->len + len + 64) * 2;
		b->data = conf_realloc(b->data, b->cap);
	}
	if (len > 0)
		memcpy(b->data + b->len, s, len);
	b->len += len;
	b->data[b->len] = '\0';
}

void conf_buf_puts(struct conf_buf *b, const char *s)
{
	conf_buf_add(b, s, strlen(s));
}

void conf_vec_add(struct conf_vec *vec, uint32_t v)
{
	if (vec->n == vec->cap) {
		vec->cap = vec->cap * 2 + 16;
		vec->v = conf_realloc(vec->v, vec->cap * sizeof(*vec->v));
	}
	vec->v[vec->n++] = v;
}

/* --- the map: open addressing, never more than half full --- */

struct entry {
	char *key;
	struct conf_pos pos;
};

struct conf_map {
	struct entry *slots;
	size_t n, n_slots; /* n_slots is a power of two */
};

static size_t hash(const char *s)
{
	uint64_t h = 14695981039346656037u;

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 1099511628211u;
	return (size_t)(h ^ h >> 29);
}

static struct entry *find(const struct conf_map *m, const char *key)
{
	size_t i = hash(key);

	while (m->slots[i & (m->n_slots - 1)].key &&
	    strcmp(m->slots[i & (m->n_slots - 1)].key, key) != 0)
		i++;
	return &m->slots[i & (m->n_slots - 1)];
}

static void grow(struct conf_map *m)
{
	struct conf_map old = *m;
	size_t i;

	m->n_slots = old.n_slots * 2;
	m->slots = conf_alloc(m->n_slots * sizeof(*m->slots));
	for (i = 0; i < old.n_slots; i++)
		if (old.slots[i].key)
			*find(m, old.slots[i].key) = old.slots[i];
	conf_free(old.slots);
}

struct conf_map *conf_map_create(void)
{
	struct conf_map *m = conf_alloc(sizeof(*m));

	m->n_slots = 64;
	m->slots = conf_alloc(m->n_slots * sizeof(*m->slots));
	return m;
}

const struct conf_pos *conf_map_put(struct conf_map *m, const char *key, struct conf_pos pos)
{
	struct entry *e = find(m, key);

	if (e->key)
		return &e->pos;
	e->key = conf_strdup(key);
	e->pos = pos;
	if (++m->n * 2 > m->n_slots)
		grow(m);
	return NULL;
}
