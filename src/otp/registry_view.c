/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Reading a registry's table (registry_table.h) while its writer goes on, or does not. Runs in any process;
 * writes nothing that is shared, so a reader may be killed anywhere. Each word is loaded once; lengths and
 * indices are checked before they are used.
 */
#include "otp/registry_table.h"

bool table_look(struct table_view *v, const void *at, uint64_t room)
{
	const struct table_head *h = at;
	uint32_t n_units, n_buckets;

	if (room < sizeof *h || h->magic != TABLE_MAGIC)
		return false;
	n_units = *(const volatile uint32_t *)&h->n_units;
	n_buckets = *(const volatile uint32_t *)&h->n_buckets;
	if (n_buckets == 0 || (n_buckets & (n_buckets - 1)) != 0 || table_bytes(n_units, n_buckets) > room)
		return false;
	v->head[BY_KEY] = (const void *)(h + 1);
	v->head[BY_PID] = v->head[BY_KEY] + n_buckets;
	v->units = (const unsigned char *)(v->head[BY_PID] + n_buckets);
	v->n_units = n_units;
	v->mask = n_buckets - 1;
	v->keys = h->keys;
	v->count = &h->count;
	return true;
}

struct cop_term table_term(uint8_t type, const void *data, size_t len)
{
	struct cop_term t = cop_bytes(data, len);
	uint64_t number;

	if (type == COP_TERM_BYTES)
		return t;
	if ((type != COP_TERM_INT && type != COP_TERM_PID) || len != sizeof number)
		return cop_nil();
	memcpy(&number, data, sizeof number);
	return type == COP_TERM_INT ? cop_int((int64_t)number) : cop_pid_term((cop_pid){ number });
}

static const struct table_entry *entry(const struct table_view *v, uint32_t index)
{
	return (const void *)(v->units + (size_t)(index - 1) * TABLE_UNIT);
}

static uint32_t version(const struct table_entry *e)
{
	return atomic_load_explicit(&e->version, memory_order_acquire);
}

/* Where a reader stands: on an entry that was one when it had this version. */
struct place {
	const struct table_entry *e;
	uint32_t index, version;
};

/* Goes on to what `link` says, which is the next of `from` (e NULL: the bucket's). 1; 0: that is the end; -1: the chain
 * has changed. */
static inline int follow(const struct table_view *v, const _Atomic uint32_t *link, const struct place *from,
    struct place *to)
{
	to->index = atomic_load_explicit(link, memory_order_acquire);
	if (to->index > v->n_units)
		return -1;
	if (to->index != 0) {
		to->e = entry(v, to->index);
		to->version = version(to->e);
		if (to->version & 1)
			return -1;
		/* was it this chain's when its version was read? */
		if (atomic_load_explicit(link, memory_order_acquire) != to->index)
			return -1;
	}
	if (from->e && version(from->e) != from->version)
		return -1;
	return to->index != 0;
}

/* Whether an entry is one that is sought, as far as can be told without a copy. What is read may be changing: then
 * the answer does not count. */
static inline bool seems_sought(const struct table_view *v, const struct place *at, const struct table_seek *s)
{
	const struct table_entry *e = at->e;
	const struct table_term *key = s->key;

	if (s->pid && e->pid != s->pid)
		return false;
	if ((e->key_type & TABLE_META) != s->meta)
		return false;
	if (!key)
		return true;
	return e->hash == s->hash && e->key_len == key->len && (e->key_type & ~TABLE_META) == key->type &&
	    key->len + TABLE_ENTRY_HEAD <= (size_t)(v->n_units - at->index + 1) * TABLE_UNIT &&
	    (key->len == 0 || memcmp(e->data, key->data, key->len) == 0);
}

/* A copy; false: it was no longer, or never, an entry. */
static inline bool copy(const struct table_view *v, const struct place *at, struct table_copy *c)
{
	const struct table_entry *e = at->e;
	size_t room = (size_t)(v->n_units - at->index + 1) * TABLE_UNIT - TABLE_ENTRY_HEAD;

	c->pid = *(const volatile uint64_t *)&e->pid;
	c->key_len = *(const volatile uint16_t *)&e->key_len;
	c->value_len = *(const volatile uint16_t *)&e->value_len;
	c->key_type = *(const volatile uint8_t *)&e->key_type & (uint8_t)~TABLE_META;
	c->value_type = *(const volatile uint8_t *)&e->value_type;
	if (c->key_len > COP_KEY_MAX || c->value_len > COP_VALUE_MAX || c->key_len + c->value_len > room)
		return false;
	memcpy(c->data, e->data, c->key_len + c->value_len);
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&e->version, memory_order_relaxed) == at->version;
}

int table_walk(const struct table_view *v, const struct table_seek *s)
{
	static struct table_copy c; /* a reader is one thread */
	struct place at = { .e = NULL }, next;
	const _Atomic uint32_t *link = &v->head[s->chain][s->bucket & v->mask];
	uint32_t left = v->n_units + 1;

	for (; left > 0; left--) {
		switch (follow(v, link, &at, &next)) {
		case 0:
			return 1;
		case -1:
			return 0;
		default:
			break;
		}
		at = next;
		if (seems_sought(v, &at, s)) {
			if (!copy(v, &at, &c))
				return 0;
			if (!s->found(s->ctx, &c))
				return 1;
		}
		link = &at.e->next[s->chain];
	}
	return 0; /* somebody has made a ring of it */
}

int table_get(const struct table_view *v, const struct table_term *key, uint32_t hash, struct table_got *got_r,
    void *value, size_t room)
{
	const struct table_seek s = { .chain = BY_KEY, .hash = hash, .key = key };
	struct place at = { .e = NULL }, next;
	const _Atomic uint32_t *link = &v->head[BY_KEY][hash & v->mask];
	uint32_t left = v->n_units + 1;
	size_t len;
	int r;

	for (; left > 0; left--) {
		r = follow(v, link, &at, &next);
		if (r <= 0)
			return r;
		at = next;
		if (seems_sought(v, &at, &s))
			break;
		link = &at.e->next[BY_KEY];
	}
	if (left == 0)
		return -1;
	len = *(const volatile uint16_t *)&at.e->value_len;
	if (len > room || len > (size_t)(v->n_units - at.index + 1) * TABLE_UNIT - TABLE_ENTRY_HEAD - key->len)
		return -1;
	got_r->value_len = (uint32_t)len;
	got_r->value_type = *(const volatile uint8_t *)&at.e->value_type;
	got_r->pid = *(const volatile uint64_t *)&at.e->pid;
	if (len == sizeof(uint64_t))
		memcpy(value, at.e->data + key->len, sizeof(uint64_t));
	else if (len > 0)
		memcpy(value, at.e->data + key->len, len);
	atomic_thread_fence(memory_order_acquire);
	return atomic_load_explicit(&at.e->version, memory_order_relaxed) == at.version ? 1 : -1;
}
