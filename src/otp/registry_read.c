/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Looking things up in a registry. What is found is copied; a copy counts if the partition lived, and had the same
 * table, when it was complete. Runs in any process; private memory for what is known of registries and for results.
 */
#include "otp/registry_read.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/relax.h"

#define KNOWN_MAX 64
#define PAUSES_MAX 100 /* of a millisecond, for a partition that is being started again */
#define SPINS 200      /* walks along a chain that changes, before the processor is given away */
#define WALKS_MAX 20000

static struct known known[KNOWN_MAX];
static uint32_t n_known, next_victim;
static struct known *last_known; /* the one used last */

/* --- finding --- */

static void pause_ms(void)
{
	static _Atomic uint32_t nobody; /* a futex that nobody wakes */

	inbox_futex_wait(&nobody, 0, 1);
}

static bool is_current(const struct part *p)
{
	return atomic_load_explicit(&p->slot->id, memory_order_acquire) == p->id &&
	    (atomic_load_explicit(&p->slot->state, memory_order_acquire) & 0xff) == SEG_SLOT_ALIVE &&
	    atomic_load_explicit(&p->slot->table, memory_order_acquire) == p->word;
}

static int look_at_supervisor(struct known *k)
{
	struct seg_slot *slot;
	struct part *part;
	uint64_t id = cop_whereis(k->name).id;
	uint32_t n;

	slot = seg_slot_of(&proc.seg, id);
	n = slot && (slot->flags & SEG_IS_SUPERVISOR) ? atomic_load(&slot->user) : 0;
	if (n == 0 || n > 65536) {
		errno = ENOENT;
		return -1;
	}
	part = calloc(n, sizeof *part);
	if (!part)
		return -1;
	free(k->part);
	k->part = part;
	k->n = n;
	k->supervisor = id;
	return 0;
}

static struct known *remember(const char *name)
{
	size_t len = strnlen(name, SEG_NAME);
	struct known *k;

	if (len == 0 || len > REGISTRY_NAME_MAX) {
		errno = ENOENT;
		return NULL;
	}
	if (n_known < KNOWN_MAX) {
		k = &known[n_known];
	} else {
		k = &known[next_victim++ % KNOWN_MAX];
		free(k->part);
	}
	memset(k, 0, sizeof *k);
	memcpy(k->name, name, len);
	if (look_at_supervisor(k) < 0) {
		k->name[0] = '\0';
		return NULL;
	}
	if (k == &known[n_known])
		n_known++;
	return k;
}

int registry_open(struct reader *rd, const char *name)
{
	uint32_t i;

	rd->part = NULL;
	if (!name || !name[0]) {
		errno = ENOENT;
		return -1;
	}
	for (i = 0; i < n_known; i++)
		if (strcmp(known[i].name, name) == 0)
			break;
	last_known = NULL;
	if (i == n_known) {
		rd->of = last_known = remember(name);
		return rd->of ? 0 : -1;
	}
	rd->of = last_known = &known[i];
	if (seg_is_there(&proc.seg, known[i].supervisor) || look_at_supervisor(&known[i]) == 0)
		return 0;
	known[i].supervisor = 0;
	return -1;
}

/* Looks who is the partition now, and which table it has. False with errno. */
static bool look_at_part(struct known *k, uint32_t i)
{
	char name[SEG_NAME + 12];
	struct part *p = &k->part[i];
	struct seg_node *n;
	uint64_t word;
	cop_pid pid;

	snprintf(name, sizeof name, "%s/%u", k->name, i);
	pid = cop_whereis(name);
	p->slot = seg_slot_of(&proc.seg, pid.id);
	if (!p->slot) {
		errno = EAGAIN;
		return false;
	}
	p->id = pid.id;
	word = p->word = atomic_load_explicit(&p->slot->table, memory_order_acquire);
	if (word == 0) {
		errno = EAGAIN;
		return false;
	}
	n = seg_node(&proc.seg, TABLE_NODE(word));
	if (n && table_look(&p->view, seg_node_data(n),
	    proc.seg.bytes - (uint64_t)TABLE_NODE(word) * SEG_LINE - sizeof *n))
		return true;
	errno = is_current(p) ? EBADMSG : EAGAIN;
	return false;
}

static bool part_slowly(struct reader *rd, uint32_t i)
{
	struct known *k = rd->of;
	int pauses;

	for (pauses = 0;; pauses++) {
		if (look_at_part(k, i)) {
			rd->part = &k->part[i];
			return true;
		}
		k->part[i].id = 0;
		if (errno == EAGAIN && !seg_is_there(&proc.seg, k->supervisor) && look_at_supervisor(k) < 0)
			return false;
		if (i >= k->n)
			i = 0;
		if (errno == EBADMSG || pauses == PAUSES_MAX)
			return false;
		pause_ms();
	}
}

bool registry_part(struct reader *rd, uint32_t i)
{
	struct part *p = &rd->of->part[i];

	if (__builtin_expect(p->id != 0 && is_current(p), 1)) {
		rd->part = p;
		return true;
	}
	return part_slowly(rd, i);
}

int registry_keys_of(const char *name)
{
	struct reader rd;

	if (registry_open(&rd, name) < 0 || !registry_part(&rd, 0))
		return -1;
	return rd.part->view.keys == COP_UNIQUE ? COP_UNIQUE : COP_DUPLICATE;
}

uint32_t registry_part_of(struct reader *rd, const struct table_term *key, uint64_t pid, bool meta)
{
	uint32_t n = rd->of->n;

	if (n == 1)
		return 0;
	if (meta || (registry_part(rd, 0) && rd->part->view.keys == COP_UNIQUE))
		return registry_partition_of(key, n);
	return (uint32_t)(table_hash_pid(pid) >> 32) % n;
}

/* --- collecting --- */

struct collect {
	struct cop_entries *r;      /* NULL: only count */
	long n;
	size_t cap;                 /* of entry[], if it is on the heap */
	size_t used, room;          /* bytes of data */
	unsigned char *bytes;
	bool no_memory;
	bool alive_only;            /* unique keys: a dead holder is none */
	const struct cop_match *specs;
	size_t n_specs;
};

static void collect_init(struct collect *c, struct cop_entries *r)
{
	*c = (struct collect){ .r = r };
	if (!r)
		return;
	r->entry = &r->one;
	r->n = 0;
	r->held = NULL;
	c->cap = 1;
	c->room = sizeof r->room;
	c->bytes = r->room;
}

struct heap {
	struct cop_entry *entry;
	unsigned char *bytes;
};

static struct heap *heap(struct collect *c)
{
	if (!c->r->held)
		c->r->held = calloc(1, sizeof(struct heap));
	return c->r->held;
}

static bool more_entries(struct collect *c)
{
	struct heap *h = heap(c);
	struct cop_entry *e = h ? reallocarray(h->entry, c->cap * 4, sizeof *e) : NULL;

	if (!e)
		return false;
	if (!h->entry)
		e[0] = c->r->one;
	h->entry = c->r->entry = e;
	c->cap *= 4;
	return true;
}

/* While collecting, the terms of entries hold offsets into the bytes, which may move. */
static bool more_bytes(struct collect *c, size_t need)
{
	struct heap *h = heap(c);
	size_t room = c->room * 2;
	unsigned char *b;

	while (room < c->used + need)
		room *= 2;
	b = h ? realloc(h->bytes, room) : NULL;
	if (!b)
		return false;
	if (!h->bytes)
		memcpy(b, c->r->room, c->used);
	h->bytes = c->bytes = b;
	c->room = room;
	return true;
}

static bool keep_term(struct collect *c, struct cop_term *t)
{
	if (t->type != COP_TERM_BYTES)
		return true;
	if (t->len > c->room - c->used && !more_bytes(c, t->len))
		return false;
	if (t->len)
		memcpy(c->bytes + c->used, t->data, t->len);
	t->data = (void *)(uintptr_t)c->used;
	c->used += t->len;
	return true;
}

static bool keep(struct collect *c, const struct cop_entry *e)
{
	struct cop_entry *to;

	if (!c->r)
		return true;
	if ((size_t)c->n >= c->cap && !more_entries(c))
		return false;
	to = &c->r->entry[c->n];
	*to = *e;
	return keep_term(c, &to->key) && keep_term(c, &to->value);
}

/* The specification that an entry matches, or -1. */
static long which_spec(const struct collect *c, const struct cop_entry *e)
{
	size_t i;

	for (i = 0; i < c->n_specs; i++)
		if (registry_matches(&c->specs[i], e))
			return (long)i;
	return -1;
}

static bool found(void *ctx, const struct table_copy *copy)
{
	struct collect *c = ctx;
	struct cop_entry e = { .pid = { copy->pid } };
	long spec = 0;

	e.key = table_term(copy->key_type, copy->data, copy->key_len);
	e.value = table_term(copy->value_type, copy->data + copy->key_len, copy->value_len);
	if (c->alive_only && !cop_is_alive(e.pid))
		return true;
	if (c->n_specs > 0 && (spec = which_spec(c, &e)) < 0)
		return true;
	e.spec = (size_t)spec;
	if (!keep(c, &e)) {
		c->no_memory = true;
		return false;
	}
	c->n++;
	return true;
}

/* Walks a chain of a partition until what it found counts. False with errno. */
static bool walk(struct reader *rd, uint32_t i, struct collect *c, struct table_seek *seek)
{
	long n = c->n;
	size_t used = c->used;
	int walks;

	seek->found = found;
	seek->ctx = c;
	for (walks = 0; walks < WALKS_MAX; walks++) {
		struct part *p = rd->part;

		if (table_walk(&p->view, seek) && is_current(p)) {
			if (c->no_memory)
				errno = ENOMEM;
			return !c->no_memory;
		}
		c->n = n;
		c->used = used;
		c->no_memory = false;
		if (!is_current(p) && (i >= rd->of->n || !registry_part(rd, i)))
			return false;
		if (walks < SPINS)
			base_relax();
		else
			pause_ms();
	}
	errno = EBADMSG;
	return false;
}

static long collected(struct collect *c, bool good)
{
	struct cop_entries *r = c->r;
	long i;

	if (!r)
		return good ? c->n : -1;
	if (!good) {
		int err = errno;

		cop_entries_done(r);
		errno = err;
		return -1;
	}
	for (i = 0; i < c->n; i++) {
		if (r->entry[i].key.type == COP_TERM_BYTES)
			r->entry[i].key.data = c->bytes + (uintptr_t)r->entry[i].key.data;
		if (r->entry[i].value.type == COP_TERM_BYTES)
			r->entry[i].value.data = c->bytes + (uintptr_t)r->entry[i].value.data;
	}
	r->n = (size_t)c->n;
	return c->n;
}

void cop_entries_done(struct cop_entries *entries)
{
	struct heap *h = entries->held;

	if (h) {
		free(h->entry);
		free(h->bytes);
		free(h);
	}
	entries->held = NULL;
	entries->n = 0;
}

/* --- seeking --- */

/* What is looked for. */
struct wanted {
	const struct cop_term *key; /* NULL: any */
	uint64_t pid;
	uint8_t meta;
};

static bool seek_key(struct reader *rd, struct collect *c, const struct wanted *w)
{
	struct table_seek seek = { .chain = BY_KEY, .pid = w->pid, .meta = w->meta };
	struct table_term key;
	uint64_t hash;
	uint32_t i, end;

	table_flat(&key, w->key);
	hash = table_hash(&key);
	seek.key = &key;
	seek.hash = seek.bucket = (uint32_t)hash;
	if (!registry_part(rd, 0))
		return false;
	i = 0;
	end = rd->of->n;
	if (w->meta || rd->part->view.keys == COP_UNIQUE)
		end = (i = end == 1 ? 0 : (uint32_t)(hash >> 32) % end) + 1;
	c->alive_only = !w->meta && rd->part->view.keys == COP_UNIQUE;
	for (; i < end && i < rd->of->n; i++)
		if (!registry_part(rd, i) || !walk(rd, i, c, &seek))
			return false;
	return true;
}

static bool seek_pid(struct reader *rd, struct collect *c, uint64_t pid)
{
	struct table_seek seek = { .chain = BY_PID, .pid = pid, .bucket = (uint32_t)table_hash_pid(pid) };
	uint32_t i;

	for (i = 0; i < rd->of->n; i++)
		if (!registry_part(rd, i) || !walk(rd, i, c, &seek))
			return false;
	return true;
}

static bool seek_all(struct reader *rd, struct collect *c)
{
	struct table_seek seek = { .chain = BY_KEY };
	long n;
	uint32_t i;
	uint64_t word;
	size_t used;

	for (i = 0; i < rd->of->n; i++) {
		if (!registry_part(rd, i))
			return false;
		n = c->n;
		used = c->used;
		word = rd->part->word;
		for (seek.bucket = 0; seek.bucket <= rd->part->view.mask; seek.bucket++) {
			if (!walk(rd, i, c, &seek))
				return false;
			if (rd->part->word != word) { /* another table: other buckets */
				c->n = n;
				c->used = used;
				word = rd->part->word;
				seek.bucket = UINT32_MAX;
			}
		}
	}
	return true;
}

static long look(const char *registry, const struct wanted *w, const struct cop_match *specs, size_t n_specs,
    struct cop_entries *entries_r)
{
	struct reader rd;
	struct collect c;
	bool good;
	size_t i;

	collect_init(&c, entries_r);
	if (w->key && w->key->type > COP_TERM_BYTES) {
		errno = EINVAL;
		return -1;
	}
	for (i = 0; i < n_specs; i++)
		if (!registry_guard_is_sane(specs[i].guard)) {
			errno = EINVAL;
			return -1;
		}
	c.specs = specs;
	c.n_specs = n_specs;
	if (registry_open(&rd, registry) < 0)
		return -1;
	good = w->key ? seek_key(&rd, &c, w) : w->pid ? seek_pid(&rd, &c, w->pid) : seek_all(&rd, &c);
	return collected(&c, good);
}

/* The usual case, a unique key of a registry that was looked into before and has not changed, straightforward. The
 * number of entries, or -1: it has to be looked for with more care. */
static inline long look_quickly(const char *registry, const struct cop_term *key, struct table_got *got_r, void *value,
    size_t room)
{
	struct table_term k;
	const struct part *p;
	uint64_t hash;
	int r;

	if (!last_known || key->type > COP_TERM_BYTES || strcmp(last_known->name, registry) != 0)
		return -1;
	table_flat(&k, key);
	hash = table_hash(&k);
	p = &last_known->part[last_known->n == 1 ? 0 : (uint32_t)(hash >> 32) % last_known->n];
	if (p->id == 0 || !is_current(p) || p->view.keys != COP_UNIQUE)
		return -1;
	r = table_get(&p->view, &k, (uint32_t)hash, got_r, value, room);
	if (r < 0 || !is_current(p))
		return -1;
	return r == 1 && cop_is_alive((cop_pid){ got_r->pid });
}

static long lookup_quickly(const char *registry, const struct cop_term *key, struct cop_entries *r)
{
	size_t len = key->type == COP_TERM_BYTES ? key->len : 0;
	struct table_got got;
	long n;

	if (len > sizeof r->room / 2)
		return -1;
	n = look_quickly(registry, key, &got, r->room + sizeof r->room / 2, sizeof r->room / 2);
	if (n < 0)
		return -1;
	r->entry = &r->one;
	r->held = NULL;
	r->n = (size_t)n;
	if (n == 0)
		return 0;
	r->one.pid.id = got.pid;
	r->one.spec = 0;
	r->one.key = *key;
	r->one.value = table_term(got.value_type, r->room + sizeof r->room / 2, got.value_len);
	if (len) {
		memcpy(r->room, key->data, len);
		r->one.key.data = r->room;
	}
	return 1;
}

long cop_registry_lookup(const char *registry, struct cop_term key, struct cop_entries *entries_r)
{
	long n;

	PROC_REQUIRE();
	n = lookup_quickly(registry, &key, entries_r);
	if (n >= 0)
		return n;
	return look(registry, &(struct wanted){ .key = &key }, NULL, 0, entries_r);
}

long cop_registry_keys(const char *registry, cop_pid pid, struct cop_entries *entries_r)
{
	PROC_REQUIRE();
	/* who is nobody has none, and is not to be taken for `any` */
	return look(registry, &(struct wanted){ .pid = pid.id ? pid.id : UINT64_MAX }, NULL, 0, entries_r);
}

long cop_registry_values(const char *registry, struct cop_term key, cop_pid pid, struct cop_entries *entries_r)
{
	PROC_REQUIRE();
	return look(registry, &(struct wanted){ .key = &key, .pid = pid.id ? pid.id : UINT64_MAX }, NULL, 0, entries_r);
}

long cop_registry_match(const char *registry, struct cop_term key, const struct cop_match *match,
    struct cop_entries *entries_r)
{
	PROC_REQUIRE();
	return look(registry, &(struct wanted){ .key = &key }, match, 1, entries_r);
}

long cop_registry_count_match(const char *registry, struct cop_term key, const struct cop_match *match)
{
	PROC_REQUIRE();
	return look(registry, &(struct wanted){ .key = &key }, match, 1, NULL);
}

/* A list of no specifications matches nothing. */
static const struct cop_match none = { .guard = &(const struct cop_expr){ .op = COP_X_TERM } };

long cop_registry_select(const char *registry, const struct cop_match *specs, size_t n, struct cop_entries *entries_r)
{
	PROC_REQUIRE();
	return look(registry, &(struct wanted){ .key = NULL }, n ? specs : &none, n ? n : 1, entries_r);
}

long cop_registry_count_select(const char *registry, const struct cop_match *specs, size_t n)
{
	PROC_REQUIRE();
	return look(registry, &(struct wanted){ .key = NULL }, n ? specs : &none, n ? n : 1, NULL);
}

int cop_registry_meta(const char *registry, struct cop_term key, struct cop_entries *entries_r)
{
	PROC_REQUIRE();
	return (int)look(registry, &(struct wanted){ .key = &key, .meta = TABLE_META }, NULL, 0, entries_r);
}

long cop_registry_count(const char *registry)
{
	struct reader rd;
	uint32_t i;
	long n = 0;

	PROC_REQUIRE();
	if (registry_open(&rd, registry) < 0)
		return -1;
	for (i = 0; i < rd.of->n; i++) {
		uint64_t count;

		do {
			if (!registry_part(&rd, i))
				return -1;
			count = atomic_load_explicit(rd.part->view.count, memory_order_acquire);
		} while (!is_current(rd.part));
		n += (long)count;
	}
	return n;
}

cop_pid cop_registry_whereis(const char *registry, struct cop_term key)
{
	unsigned char value[256];
	struct table_got got;
	struct cop_entries e;
	cop_pid pid;
	long n;

	PROC_REQUIRE();
	n = look_quickly(registry, &key, &got, value, sizeof value);
	if (n == 1)
		return (cop_pid){ got.pid };
	if (n < 0 && registry_keys_of(registry) == COP_DUPLICATE) {
		errno = EINVAL;
		return COP_NOPID;
	}
	if (n == 0 || cop_registry_lookup(registry, key, &e) <= 0) {
		errno = ENOENT;
		return COP_NOPID;
	}
	pid = e.entry[0].pid;
	cop_entries_done(&e);
	return pid;
}

/* Of each partition by itself, before any is told: f may do whatever it likes. */
long cop_registry_dispatch(const char *registry, struct cop_term key, cop_registry_dispatch_f *f, void *ctx)
{
	struct cop_entries e;
	struct reader rd;
	size_t at, to;
	uint32_t n;
	long calls = 0;

	PROC_REQUIRE();
	if (registry_open(&rd, registry) < 0 || cop_registry_lookup(registry, key, &e) < 0)
		return -1;
	n = rd.of->n;
	for (at = 0; at < e.n; at = to) { /* they were collected partition by partition */
		for (to = at + 1; to < e.n; to++)
			if (registry_keys_of(registry) == COP_DUPLICATE && n > 1 &&
			    (table_hash_pid(e.entry[to].pid.id) >> 32) % n != (table_hash_pid(e.entry[at].pid.id) >> 32) % n)
				break;
		f(ctx, e.entry + at, to - at);
		calls++;
	}
	cop_entries_done(&e);
	return calls;
}
