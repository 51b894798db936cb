/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The table of one partition of a registry. It lies in one node of the partition's own pool, so that it is freed with
 * the process, and is written by nobody else. Everybody reads it, without locks, and without ever
 * waiting for the writer, be he stopped or dead in the middle of something.
 *
 * Entries are in units of 64 bytes and hang in two chains: 0 by key, 1 by process. An index is a unit's number + 1; 0
 * is none.
 *
 *   word                who writes  who reads   order
 *   slot.table          partition   everybody   release: the table is whole before it is seen
 *   head[][], next[]    partition   everybody   release: an entry is whole before it is seen
 *   version             partition   everybody   odd: not an entry; changes before and after the rest does
 *   all else            partition   everybody   relaxed: counts when version was the same before and after
 *
 * An entry is unlinked before its version becomes odd. So a reader that comes upon an odd one knows that the chain has
 * changed since, and begins again: it waits for nobody who might be stopped. When it goes on to the next one it
 * looks at the link again after it has read that one's version (follow() in registry_view.c), so that it cannot
 * stray into another chain with a unit that was used again.
 *
 * What the writer goes by is in its private memory (struct mine): whoever scribbles over the table can make readers
 * find nothing, but neither side goes astray.
 */
#ifndef OTP_REGISTRY_TABLE_H
#define OTP_REGISTRY_TABLE_H

#include <stdatomic.h>

#include <coppice/registry.h>

#define TABLE_MAGIC 0x54524547u
#define TABLE_UNIT 64u
#define TABLE_META 0x80u /* in key_type: an entry of the registry's own */
#define TABLE_ENTRY_HEAD 32u
#define TABLE_DATA_MAX (COP_KEY_MAX + COP_VALUE_MAX)
#define TABLE_ENTRY_UNITS ((TABLE_ENTRY_HEAD + TABLE_DATA_MAX + TABLE_UNIT - 1) / TABLE_UNIT)

enum table_chain { BY_KEY, BY_PID };

struct table_head {
	uint32_t magic, n_units;
	uint32_t n_buckets;      /* of each chain; a power of two */
	uint32_t keys;           /* enum cop_keys */
	_Atomic uint64_t count;  /* of entries, but meta */
	uint64_t unused[5];
};
_Static_assert(sizeof(struct table_head) == TABLE_UNIT, "what follows is aligned");

struct table_entry {
	_Atomic uint32_t version;
	_Atomic uint32_t next[2];
	uint32_t hash;           /* of the key */
	uint64_t pid;
	uint16_t key_len, value_len; /* bytes of data: first the key, then the value */
	uint8_t key_type, value_type; /* enum cop_term_type; | TABLE_META */
	uint16_t unused;
	unsigned char data[];
};
_Static_assert(sizeof(struct table_entry) == TABLE_ENTRY_HEAD, "");

/* Bytes of a table. */
static inline uint64_t table_bytes(uint32_t n_units, uint32_t n_buckets)
{
	return sizeof(struct table_head) + 2ull * n_buckets * sizeof(uint32_t) + (uint64_t)n_units * TABLE_UNIT;
}

/* slot.table: which node, and which table of that partition. */
#define TABLE_WORD(node, serial) ((uint64_t)(node) | (uint64_t)(serial) << 32)
#define TABLE_NODE(word) ((uint32_t)(word))

/* --- terms as bytes --- */

struct table_term {
	const void *data;
	size_t len;
	uint8_t type;
	uint64_t number; /* what data points to, of those that are numbers */
};

/* Makes bytes of a term; flat must stay. */
static inline void table_flat(struct table_term *flat, const struct cop_term *t)
{
	flat->type = t->type;
	flat->data = t->data;
	flat->len = t->len;
	if (t->type == COP_TERM_BYTES)
		return;
	flat->number = t->type == COP_TERM_INT ? (uint64_t)t->number : t->pid.id;
	flat->data = &flat->number;
	flat->len = t->type == COP_TERM_NIL ? 0 : sizeof flat->number;
}

/* The term that these bytes are; what makes no sense is nil. */
struct cop_term table_term(uint8_t type, const void *data, size_t len);

static inline uint64_t table_mix(uint64_t h)
{
	h *= 0x9e3779b97f4a7c15ull;
	return h ^ h >> 29;
}

/* Of a key. The upper half decides the partition, the lower one the bucket. */
static inline uint64_t table_hash(const struct table_term *t)
{
	const unsigned char *p = t->data;
	uint64_t h = t->type + 1u, w;
	size_t len = t->len;

	for (; len >= sizeof w; len -= sizeof w, p += sizeof w) {
		memcpy(&w, p, sizeof w);
		h = table_mix(h ^ w);
	}
	w = t->len;
	for (; len > 0; len--)
		w = w << 8 | *p++;
	return table_mix(table_mix(h ^ w) + w);
}

static inline uint64_t table_hash_pid(uint64_t pid)
{
	return table_mix(table_mix(pid));
}

/* --- reading --- */

/* A table as a reader knows it: what bounds its steps is private. */
struct table_view {
	const unsigned char *units;
	const _Atomic uint32_t *head[2];
	uint32_t n_units, mask;
	uint32_t keys;
	const _Atomic uint64_t *count;
};

/* Looks at what room bytes at `at` say of themselves. False: that is no table. */
bool table_look(struct table_view *v, const void *at, uint64_t room);

/* A copy of an entry. */
struct table_copy {
	uint64_t pid;
	uint32_t key_len, value_len;
	uint8_t key_type, value_type;
	unsigned char data[TABLE_DATA_MAX];
};

struct table_seek {
	uint8_t chain;               /* enum table_chain */
	uint32_t bucket;
	uint32_t hash;
	const struct table_term *key; /* NULL: any */
	uint64_t pid;                /* 0: any */
	uint8_t meta;                /* TABLE_META: only these; 0: only others */
	/* Gets each that is sought. False: no more. */
	bool (*found)(void *ctx, const struct table_copy *c);
	void *ctx;
};

/* Walks along a chain. 1: done; 0: it was changed meanwhile, and what was found does not count. */
int table_walk(const struct table_view *v, const struct table_seek *seek);

/* What table_get() finds of an entry. */
struct table_got {
	uint64_t pid;
	uint32_t value_len;
	uint8_t value_type;
};

/* The first entry of a key, without more copying than its value's into room bytes. 1; 0: there is none; -1: the chain
 * was changed meanwhile, or the value is longer. */
int table_get(const struct table_view *v, const struct table_term *key, uint32_t hash, struct table_got *got_r,
    void *value, size_t room);

/* --- writing: a partition --- */

struct mine;
struct table {
	struct table_head *head;
	_Atomic uint32_t *first[2];
	unsigned char *units;
	struct mine *mine;           /* by unit; private, as is */
	uint32_t *my_first[2];       /* what was written to first[] */
	uint32_t n_units, mask, used; /* used: units that were ever taken */
	uint32_t live;               /* units of entries */
	uint32_t free[TABLE_ENTRY_UNITS + 1]; /* by size */
	uint64_t count;
};

/* Makes an empty table in memory of table_bytes(). False: no private memory. */
bool table_init(struct table *t, void *at, uint32_t n_units, uint32_t n_buckets, uint32_t keys);
void table_fini(struct table *t);
/* Adds an entry. Its index, or 0: no room. */
uint32_t table_put(struct table *t, uint64_t pid, const struct table_term *key, uint8_t meta,
    const struct table_term *value);
void table_remove(struct table *t, uint32_t index);
/* Puts an entry with another value into its place. The new index, or 0: no room, and nothing has changed. */
uint32_t table_replace(struct table *t, uint32_t index, const struct table_term *value);
/* The first entry of a key, or of a process; and the next one that is. 0: none. */
uint32_t table_find(const struct table *t, const struct table_term *key, uint8_t meta, uint32_t after);
uint32_t table_find_pid(const struct table *t, uint64_t pid, uint32_t after);
uint64_t table_pid(const struct table *t, uint32_t index);
void table_value(const struct table *t, uint32_t index, struct table_term *value_r);
/* Copies all that is in a table into an empty one with room for it. */
bool table_copy_all(struct table *to, const struct table *from);

#endif
