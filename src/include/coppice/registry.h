/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Registry: processes register themselves under keys, with a value, and are found by them. With unique keys it
 * is a way to name servers by more than a word (cop_via()); with duplicate keys, to send to all that want to
 * hear of something. An entry goes when its process ends. Looking something up reads shared memory and asks
 * nobody; changes are made by the registry's processes, one after the other.
 */
#ifndef COPPICE_REGISTRY_H
#define COPPICE_REGISTRY_H

#include <string.h>

#include <coppice/server.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* --- terms: keys and values --- */

/* In the order of cop_term_compare(). */
enum cop_term_type { COP_TERM_INT, COP_TERM_NIL, COP_TERM_PID, COP_TERM_BYTES };

/* A key or a value. Data is the caller's, or of whatever the term was found in. */
struct cop_term {
	uint8_t type;     /* enum cop_term_type */
	int64_t number;   /* INT */
	cop_pid pid;      /* PID */
	const void *data; /* BYTES */
	size_t len;       /* bytes of data */
};

#define COP_KEY_MAX 1024   /* bytes of a key */
#define COP_VALUE_MAX 4096 /* bytes of a value */

static inline struct cop_term cop_nil(void)
{
	struct cop_term t = { COP_TERM_NIL, 0, { 0 }, NULL, 0 };

	return t;
}

static inline struct cop_term cop_int(int64_t number)
{
	struct cop_term t = { COP_TERM_INT, number, { 0 }, NULL, 0 };

	return t;
}

static inline struct cop_term cop_pid_term(cop_pid pid)
{
	struct cop_term t = { COP_TERM_PID, 0, pid, NULL, 0 };

	return t;
}

static inline struct cop_term cop_bytes(const void *data, size_t len)
{
	struct cop_term t = { COP_TERM_BYTES, 0, { 0 }, data, len };

	return t;
}

static inline struct cop_term cop_text(const char *text)
{
	return cop_bytes(text, strlen(text));
}

/* Compares strictly: 0 if type and content are equal. Otherwise negative or positive, in Erlang's order: numbers, nil
 * (an atom), pids, bytes; bytes as memcmp(3), a beginning before what is longer. */
int cop_term_compare(struct cop_term a, struct cop_term b);

/* --- the registry --- */

enum cop_keys { COP_UNIQUE, COP_DUPLICATE };

struct cop_registry_meta {
	struct cop_term key, value;
};

struct cop_registry {
	const char *name;                 /* 1 to 57 bytes; its supervisor has this name, its partitions NAME/0, ... */
	uint8_t keys;                     /* enum cop_keys */
	int32_t partitions;               /* 0: 1; COP_ONLINE: one for each processor */
	const char *const *listeners;     /* registered names that are told of every change; see below */
	size_t n_listeners;               /* at most 16 */
	const struct cop_registry_meta *meta; /* as of cop_registry_put_meta() */
	size_t n_meta;                    /* at most 16 */
};

/* Starts a registry, a supervisor linked to the caller: one_for_all over its partitions for unique keys, one_for_one
 * for duplicate ones. As cop_supervisor_start_link(); reason `invalid_registry` (errno EINVAL) if the options make
 * no sense. Mirrors Registry.start_link/1. */
enum cop_start cop_registry_start_link(const struct cop_registry *registry, struct cop_started *started_r)
    __attribute__((warn_unused_result));

struct cop_supervisor;
/* Makes the specification of a registry as a child of a supervisor, for cop_child.supervisor: one block that free(3)
 * ends. NULL with EINVAL or ENOMEM. Mirrors Registry.child_spec/1. */
struct cop_supervisor *cop_registry_supervisor(const struct cop_registry *registry) __attribute__((warn_unused_result));

/* All functions below fail with ENOENT if nobody runs a registry of that name, with EAGAIN if it is being started again
 * just now, and with EBADMSG if what stands in shared memory makes no sense. Those that change something are calls
 * to a partition, without a time-out, and also fail with EPIPE (it ended before it answered). */

/* Registers the calling process, which is then linked with the partition that keeps the entry: its end, or the
 * registry's, ends the caller, unless that traps exits. 0 and that partition; or -1: EEXIST (unique, and a living
 * process has the key, perhaps the caller: holder_r), EMSGSIZE, ENOMEM, EIO (a listener's name is nobody's; the
 * entry is stored). holder_r may be NULL. Mirrors Registry.register/3. */
int cop_registry_register(const char *registry, struct cop_term key, struct cop_term value, cop_pid *holder_r)
    __attribute__((warn_unused_result));

/* Takes away what the caller has under a key; others' entries stay. 0, or -1 with EIO as above. Mirrors
 * unregister/2. */
int cop_registry_unregister(const char *registry, struct cop_term key);

/* Changes the value that the caller has under a key; unique keys only. f runs in the caller, gets the old value and
 * returns the new one, whose data must stay until cop_registry_update_value() returns. 0, or -1: EPERM (the key is not
 * the caller's), EINVAL (duplicate keys), EMSGSIZE, ENOMEM. Mirrors update_value/3. */
typedef struct cop_term cop_registry_update_f(void *ctx, struct cop_term old);
int cop_registry_update_value(const char *registry, struct cop_term key, cop_registry_update_f *f, void *ctx)
    __attribute__((warn_unused_result));

/* --- finding --- */

struct cop_entry {
	cop_pid pid;
	struct cop_term key, value;
	size_t spec;      /* of cop_registry_select(): which one it matched */
};

/* What was found: a copy. Not to be copied itself; cop_entries_done() frees what it holds. */
struct cop_entries {
	struct cop_entry *entry;
	size_t n;
	void *held;       /* the library's, as the rest */
	struct cop_entry one;
	unsigned char room[256];
};
void cop_entries_done(struct cop_entries *entries);

/* The entries of a key: their number, which with unique keys is 0 or 1, or -1, also with ENOMEM. With duplicate keys a
 * process that has just died may still be among them. In no order. Mirrors lookup/2. */
long cop_registry_lookup(const char *registry, struct cop_term key, struct cop_entries *entries_r)
    __attribute__((warn_unused_result));

/* The entries of a process; with several under one key, each. Mirrors keys/2. */
long cop_registry_keys(const char *registry, cop_pid pid, struct cop_entries *entries_r)
    __attribute__((warn_unused_result));

/* The entries that a process has under a key. Mirrors values/3. */
long cop_registry_values(const char *registry, struct cop_term key, cop_pid pid, struct cop_entries *entries_r)
    __attribute__((warn_unused_result));

/* How many entries there are, or -1. Mirrors count/1. */
long cop_registry_count(const char *registry);

/* Who has a unique key, and is alive; COP_NOPID with errno ENOENT, or EINVAL with duplicate keys. Mirrors
 * whereis_name/1. */
cop_pid cop_registry_whereis(const char *registry, struct cop_term key);

/* Calls f in the caller with the entries of a key, once for each partition that has any. Returns how often, or -1.
 * Mirrors dispatch/3. */
typedef void cop_registry_dispatch_f(void *ctx, const struct cop_entry *entries, size_t n);
long cop_registry_dispatch(const char *registry, struct cop_term key, cop_registry_dispatch_f *f, void *ctx);

/* --- match specifications --- */

enum cop_expr_op {
	COP_X_TERM, COP_X_KEY, COP_X_PID, COP_X_VALUE, COP_X_SELF, /* nothing, or a term */
	COP_X_IS_INTEGER, COP_X_IS_NIL, COP_X_IS_PID, COP_X_IS_BINARY, /* a */
	COP_X_BYTE_SIZE, COP_X_NOT, COP_X_ABS, COP_X_BNOT, /* a */
	COP_X_EQ, COP_X_NE, COP_X_LT, COP_X_LE, COP_X_GT, COP_X_GE, /* a, b: any terms */
	COP_X_AND, COP_X_OR, COP_X_XOR, COP_X_ANDALSO, COP_X_ORELSE, /* truth values */
	COP_X_ADD, COP_X_SUB, COP_X_MUL, COP_X_DIV, COP_X_REM, COP_X_BAND, COP_X_BOR, COP_X_BXOR, COP_X_BSL, COP_X_BSR,
	COP_X_PREFIX,     /* bytes a begin with bytes b; Erlang has no such guard */
	COP_X_END,
};

/* An expression of a guard. Truth values are what comparisons give; where something else than what an operator is for
 * comes to it, or a sum is too big, the guard is false, as in Erlang. At most 32 deep. */
struct cop_expr {
	uint8_t op;                /* enum cop_expr_op */
	const struct cop_expr *a, *b;
	struct cop_term term;      /* TERM */
};

/* To write them: COP_OP(COP_X_GT, COP_VALUE, COP_LIT(cop_int(3))). They live as long as the block they stand in. */
#define COP_OP(op, ...) COP_OP_(op, __VA_ARGS__, NULL, NULL)
#define COP_OP_(op, a, b, ...) (&(const struct cop_expr){ (op), (a), (b), { 0 } })
#define COP_LIT(t) (&(const struct cop_expr){ COP_X_TERM, NULL, NULL, (t) })
#define COP_KEY COP_OP(COP_X_KEY, NULL)
#define COP_PID COP_OP(COP_X_PID, NULL)
#define COP_VALUE COP_OP(COP_X_VALUE, NULL)
#define COP_SELF COP_OP(COP_X_SELF, NULL)

/* What an entry must be like: each that is not NULL. */
struct cop_match {
	const struct cop_term *key, *value; /* strictly equal */
	const cop_pid *pid;
	const struct cop_expr *guard;       /* true */
};

/* Those of a key that match: their number, or -1, with EINVAL if a guard makes no sense. Mirrors match/4. */
long cop_registry_match(const char *registry, struct cop_term key, const struct cop_match *match,
    struct cop_entries *entries_r) __attribute__((warn_unused_result));
/* Mirrors count_match/4. */
long cop_registry_count_match(const char *registry, struct cop_term key, const struct cop_match *match);
/* All entries of the registry that match one of n specifications; the first that does counts. Mirrors select/2. */
long cop_registry_select(const char *registry, const struct cop_match *specs, size_t n, struct cop_entries *entries_r)
    __attribute__((warn_unused_result));
/* Mirrors count_select/2. */
long cop_registry_count_select(const char *registry, const struct cop_match *specs, size_t n);
/* Takes away what the caller has under a key and matches. 0 or -1. Mirrors unregister_match/4. */
int cop_registry_unregister_match(const char *registry, struct cop_term key, const struct cop_match *match);

/* --- what else is kept with a registry --- */

/* A value of the registry's own under a key that is no process's. put_meta: 0, or -1 with EMSGSIZE or ENOMEM. meta: 1,
 * or 0 if there is none. Mirror put_meta/3, meta/2 and delete_meta/2. */
int cop_registry_put_meta(const char *registry, struct cop_term key, struct cop_term value);
int cop_registry_meta(const char *registry, struct cop_term key, struct cop_entries *entries_r)
    __attribute__((warn_unused_result));
int cop_registry_delete_meta(const char *registry, struct cop_term key);

/* Listeners get, before whoever changed something goes on, a plain message with this tag and this as its data;
 * the key's bytes follow, and then the value's. Read it with cop_registry_event_read(). Not sent when entries go
 * because their process ended, and not to a listener whose mailbox is full. */
#define COP_TAG_REGISTRY 0x52454745u
enum cop_registry_what { COP_REGISTERED, COP_UNREGISTERED };
struct cop_registry_event {
	uint8_t what;                 /* enum cop_registry_what */
	char registry[COP_NAME_MAX];
	cop_pid pid;
	struct cop_term key, value;   /* in the message's data; value: REGISTERED */
};
/* 0, or -1 with EBADMSG if it is no such message. The terms live as long as the message. */
int cop_registry_event_read(const struct cop_msg *msg, struct cop_registry_event *event_r);

/* --- names in a registry --- */

/* A name in a registry with unique keys: for cop_via(), and for servers and children to be started under it. */
struct cop_via {
	const char *registry;
	struct cop_term key;
	struct cop_term value;        /* what is stored when it is registered */
};

/* A destination: whoever has that key when something is sent. Keeps the pointer. Mirrors {:via, Registry, {r, key}}. */
struct cop_dest cop_via(const struct cop_via *via);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
