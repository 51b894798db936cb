/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* What the callers' side of a registry and its partitions share: requests, and how a partition is started. */
#ifndef OTP_REGISTRY_PRIVATE_H
#define OTP_REGISTRY_PRIVATE_H

#include "otp/registry_table.h"
#include "proc/proc.h"

#define REGISTRY_NAME_MAX 57 /* bytes: NAME/65535 is a name, too */
#define REGISTRY_LISTENERS_MAX 16
#define REGISTRY_META_MAX 16

enum registry_request_tag {
	REGISTRY_REGISTER = 0x52454701, /* "REG"; other numbers are other people's */
	REGISTRY_UNREGISTER,
	REGISTRY_UNREGISTER_VALUE, /* what has this value */
	REGISTRY_SET_VALUE,
	REGISTRY_PUT_META, REGISTRY_DELETE_META,
};

/* A request: this, the key's bytes, the value's. */
struct registry_request {
	uint16_t key_len, value_len;
	uint8_t key_type, value_type;
	uint8_t unused[2];
};

struct registry_answer {
	int32_t err; /* errno, 0 */
	uint32_t unused;
	uint64_t pid;
};

/* What a partition is started with: this, then the listeners' names, SEG_NAME bytes each, then the meta entries as
 * requests, one after the other. */
struct registry_start {
	char name[SEG_NAME];
	uint8_t keys;
	uint8_t n_listeners, n_meta;
	uint8_t unused;
	uint32_t n_partitions;
};

extern const struct cop_server_ops registry_partition_ops;

/* Reads a request of len bytes. False: it makes no sense. */
bool registry_read(const void *data, size_t len, struct table_term *key_r, struct table_term *value_r, size_t *used_r);
static inline size_t registry_bytes(const struct table_term *key, const struct table_term *value)
{
	return sizeof(struct registry_request) + key->len + value->len;
}
void registry_write(void *at, const struct table_term *key, const struct table_term *value);

static inline uint32_t registry_partition_of(const struct table_term *key, uint32_t n)
{
	return n == 1 ? 0 : (uint32_t)(table_hash(key) >> 32) % n;
}

/* Tells whether a guard, NULL is one too, makes sense; and whether an entry satisfies it. */
bool registry_guard_is_sane(const struct cop_expr *guard);
bool registry_matches(const struct cop_match *m, const struct cop_entry *e);

/* Registers the calling process, a server that starts; -1 with the reason. And takes that back. */
struct cop_started;
int registry_take_name(const struct cop_via *via, struct cop_started *started_r);
void registry_give_up_name(const struct cop_via *via);

#endif
