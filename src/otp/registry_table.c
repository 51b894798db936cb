/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Writing a registry's table (registry_table.h). Runs in the partition's process. Allocates one piece of private
 * memory for each table, which is as large as the table is.
 */
#include "otp/registry_table.h"

#include <stdlib.h>

/* What is in a unit, for the writer alone. Of an entry's first unit only. */
struct mine {
	uint32_t next[2], prev[2];
	uint32_t hash, pid_hash;
	uint64_t pid;
	uint16_t key_len, value_len;
	uint8_t key_type, value_type;
	uint8_t units;
	bool live;
};

static struct table_entry *entry(const struct table *t, uint32_t index)
{
	return (void *)(t->units + (size_t)(index - 1) * TABLE_UNIT);
}

static struct mine *mine(const struct table *t, uint32_t index)
{
	return &t->mine[index - 1];
}

bool table_init(struct table *t, void *at, uint32_t n_units, uint32_t n_buckets, uint32_t keys)
{
	*t = (struct table){ .head = at, .n_units = n_units, .mask = n_buckets - 1 };
	t->mine = calloc(1, n_units * sizeof *t->mine + 2ull * n_buckets * sizeof(uint32_t));
	if (!t->mine)
		return false;
	t->my_first[BY_KEY] = (void *)(t->mine + n_units);
	t->my_first[BY_PID] = t->my_first[BY_KEY] + n_buckets;
	t->first[BY_KEY] = (void *)(t->head + 1);
	t->first[BY_PID] = t->first[BY_KEY] + n_buckets;
	t->units = (unsigned char *)(t->first[BY_PID] + n_buckets);
	memset(at, 0, sizeof *t->head + 2ull * n_buckets * sizeof(uint32_t));
	*t->head = (struct table_head){ .magic = TABLE_MAGIC, .n_units = n_units, .n_buckets = n_buckets, .keys = keys };
	return true;
}

void table_fini(struct table *t)
{
	free(t->mine);
	t->mine = NULL;
}

/* --- units --- */

static uint32_t take_units(struct table *t, uint32_t n)
{
	uint32_t index = t->free[n];

	if (index) {
		t->free[n] = mine(t, index)->next[0];
	} else if (n <= t->n_units - t->used) {
		index = t->used + 1;
		t->used += n;
	} else {
		return 0;
	}
	t->live += n;
	mine(t, index)->units = (uint8_t)n;
	return index;
}

static void give_units(struct table *t, uint32_t index)
{
	struct mine *m = mine(t, index);

	m->live = false;
	t->live -= m->units;
	m->next[0] = t->free[m->units];
	t->free[m->units] = index;
}

static void set_version(struct table *t, uint32_t index, bool is_entry)
{
	struct table_entry *e = entry(t, index);
	uint32_t v = atomic_load_explicit(&e->version, memory_order_relaxed);

	if (is_entry) {
		atomic_store_explicit(&e->version, (v | 1) + 1, memory_order_release);
	} else {
		atomic_store_explicit(&e->version, v | 1, memory_order_relaxed);
		atomic_thread_fence(memory_order_release);
	}
}

/* --- chains --- */

static uint32_t hash_of(const struct mine *m, int chain)
{
	return chain == BY_KEY ? m->hash : m->pid_hash;
}

static uint32_t first_of(const struct table *t, int chain, uint32_t hash)
{
	return t->my_first[chain][hash & t->mask];
}

static void set_first(struct table *t, const struct mine *m, int chain, uint32_t to)
{
	uint32_t b = hash_of(m, chain) & t->mask;

	t->my_first[chain][b] = to;
	atomic_store_explicit(&t->first[chain][b], to, memory_order_release);
}

static void link_in(struct table *t, uint32_t index, int chain)
{
	struct mine *m = mine(t, index);
	uint32_t next = first_of(t, chain, hash_of(m, chain));

	m->next[chain] = next;
	m->prev[chain] = 0;
	if (next)
		mine(t, next)->prev[chain] = index;
	atomic_store_explicit(&entry(t, index)->next[chain], next, memory_order_relaxed);
}

static void set_link(struct table *t, uint32_t prev, const struct mine *m, int chain, uint32_t to)
{
	if (prev) {
		mine(t, prev)->next[chain] = to;
		atomic_store_explicit(&entry(t, prev)->next[chain], to, memory_order_release);
	} else {
		set_first(t, m, chain, to);
	}
}

static void unlink_from(struct table *t, uint32_t index, int chain)
{
	struct mine *m = mine(t, index);

	set_link(t, m->prev[chain], m, chain, m->next[chain]);
	if (m->next[chain])
		mine(t, m->next[chain])->prev[chain] = m->prev[chain];
}

/* --- entries --- */

static uint32_t units_for(size_t key_len, size_t value_len)
{
	return (uint32_t)((TABLE_ENTRY_HEAD + key_len + value_len + TABLE_UNIT - 1) / TABLE_UNIT);
}

/* Fills units that nobody sees yet. */
static void fill(struct table *t, uint32_t index, const void *key, const struct table_term *value)
{
	struct table_entry *e = entry(t, index);
	const struct mine *m = mine(t, index);

	set_version(t, index, false);
	e->hash = m->hash;
	e->pid = m->pid;
	e->key_len = m->key_len;
	e->value_len = m->value_len;
	e->key_type = m->key_type;
	e->value_type = m->value_type;
	if (m->key_len)
		memcpy(e->data, key, m->key_len);
	if (m->value_len)
		memcpy(e->data + m->key_len, value->data, m->value_len);
}

static void set_count(struct table *t, uint8_t key_type, int by)
{
	if (key_type & TABLE_META)
		return;
	t->count += (uint64_t)by;
	atomic_store_explicit(&t->head->count, t->count, memory_order_relaxed);
}

uint32_t table_put(struct table *t, uint64_t pid, const struct table_term *key, uint8_t meta,
    const struct table_term *value)
{
	uint32_t index = take_units(t, units_for(key->len, value->len));
	struct mine *m;

	if (!index)
		return 0;
	m = mine(t, index);
	*m = (struct mine){ .units = m->units, .hash = (uint32_t)table_hash(key),
		.pid_hash = (uint32_t)table_hash_pid(pid), .pid = pid,
		.key_len = (uint16_t)key->len, .value_len = (uint16_t)value->len,
		.key_type = key->type | meta, .value_type = value->type, .live = true };
	fill(t, index, key->data, value);
	link_in(t, index, BY_KEY);
	link_in(t, index, BY_PID);
	set_version(t, index, true);
	set_first(t, m, BY_KEY, index);
	set_first(t, m, BY_PID, index);
	set_count(t, m->key_type, 1);
	return index;
}

void table_remove(struct table *t, uint32_t index)
{
	unlink_from(t, index, BY_KEY);
	unlink_from(t, index, BY_PID);
	set_version(t, index, false);
	set_count(t, mine(t, index)->key_type, -1);
	give_units(t, index);
}

uint32_t table_replace(struct table *t, uint32_t index, const struct table_term *value)
{
	struct mine *old = mine(t, index), *m;
	uint32_t now = take_units(t, units_for(old->key_len, value->len));
	int chain;

	if (!now)
		return 0;
	m = mine(t, now);
	*m = (struct mine){ .units = m->units, .hash = old->hash, .pid_hash = old->pid_hash, .pid = old->pid,
		.key_len = old->key_len, .value_len = (uint16_t)value->len, .key_type = old->key_type,
		.value_type = value->type, .live = true };
	fill(t, now, entry(t, index)->data, value);
	for (chain = BY_KEY; chain <= BY_PID; chain++) {
		m->next[chain] = old->next[chain];
		m->prev[chain] = old->prev[chain];
		atomic_store_explicit(&entry(t, now)->next[chain], m->next[chain], memory_order_relaxed);
	}
	set_version(t, now, true);
	for (chain = BY_KEY; chain <= BY_PID; chain++) {
		if (m->next[chain])
			mine(t, m->next[chain])->prev[chain] = now;
		set_link(t, m->prev[chain], m, chain, now);
	}
	set_version(t, index, false);
	give_units(t, index);
	return now;
}

/* --- finding --- */

static bool is_key(const struct table *t, uint32_t index, const struct table_term *key, uint8_t meta, uint32_t hash)
{
	const struct mine *m = mine(t, index);

	return m->hash == hash && m->key_type == (key->type | meta) && m->key_len == key->len &&
	    (key->len == 0 || memcmp(entry(t, index)->data, key->data, key->len) == 0);
}

uint32_t table_find(const struct table *t, const struct table_term *key, uint8_t meta, uint32_t after)
{
	uint32_t hash = (uint32_t)table_hash(key);
	uint32_t i = after ? mine(t, after)->next[BY_KEY] : first_of(t, BY_KEY, hash);

	while (i && !is_key(t, i, key, meta, hash))
		i = mine(t, i)->next[BY_KEY];
	return i;
}

uint32_t table_find_pid(const struct table *t, uint64_t pid, uint32_t after)
{
	uint32_t i = after ? mine(t, after)->next[BY_PID] : first_of(t, BY_PID, (uint32_t)table_hash_pid(pid));

	while (i && mine(t, i)->pid != pid)
		i = mine(t, i)->next[BY_PID];
	return i;
}

uint64_t table_pid(const struct table *t, uint32_t index)
{
	return mine(t, index)->pid;
}

void table_value(const struct table *t, uint32_t index, struct table_term *value_r)
{
	const struct mine *m = mine(t, index);

	*value_r = (struct table_term){ .type = m->value_type, .data = entry(t, index)->data + m->key_len,
		.len = m->value_len };
}

bool table_copy_all(struct table *to, const struct table *from)
{
	struct table_term key, value;
	const struct mine *m;
	uint32_t i;

	for (i = 1; i <= from->used; i++) {
		m = mine(from, i);
		if (!m->live)
			continue;
		key = (struct table_term){ .data = entry(from, i)->data, .len = m->key_len,
			.type = m->key_type & (uint8_t)~TABLE_META };
		table_value(from, i, &value);
		if (!table_put(to, m->pid, &key, m->key_type & TABLE_META, &value))
			return false;
	}
	return true;
}
