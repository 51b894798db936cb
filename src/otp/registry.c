/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The callers' side of registries: starting one, finding its partitions, looking things up, asking for changes.
 * Runs in any process. What a caller knows of a registry is kept in its private memory and checked against the
 * partition's slot at each use: a slot that is still that process's, and still names that table.
 */
#include <coppice/registry.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <coppice/supervisor.h>

#include "base/relax.h"
#include "otp/registry_private.h"
#include "otp/registry_read.h"

/* --- requests as bytes --- */

void registry_write(void *at, const struct table_term *key, const struct table_term *value)
{
	struct registry_request r = { .key_len = (uint16_t)key->len, .value_len = (uint16_t)value->len,
		.key_type = key->type, .value_type = value->type };
	char *to = at;

	memcpy(to, &r, sizeof r);
	if (key->len)
		memcpy(to + sizeof r, key->data, key->len);
	if (value->len)
		memcpy(to + sizeof r + key->len, value->data, value->len);
}

static bool is_sane(uint8_t type, size_t len)
{
	switch ((enum cop_term_type)type) {
	case COP_TERM_NIL:
		return len == 0;
	case COP_TERM_INT:
	case COP_TERM_PID:
		return len == sizeof(uint64_t);
	case COP_TERM_BYTES:
		return true;
	}
	return false;
}

bool registry_read(const void *data, size_t len, struct table_term *key_r, struct table_term *value_r, size_t *used_r)
{
	struct registry_request r;
	const char *at = data;

	if (len < sizeof r)
		return false;
	memcpy(&r, data, sizeof r);
	if (r.key_len > COP_KEY_MAX || r.value_len > COP_VALUE_MAX || len - sizeof r < (size_t)r.key_len + r.value_len ||
	    !is_sane(r.key_type, r.key_len) || !is_sane(r.value_type, r.value_len))
		return false;
	*key_r = (struct table_term){ .data = at + sizeof r, .len = r.key_len, .type = r.key_type };
	*value_r = (struct table_term){ .data = at + sizeof r + r.key_len, .len = r.value_len, .type = r.value_type };
	*used_r = sizeof r + r.key_len + r.value_len;
	return true;
}

static bool is_a_term(const struct cop_term *t)
{
	return t->type <= COP_TERM_BYTES;
}

static bool is_too_long(const struct cop_term *key, const struct cop_term *value)
{
	return (key->type == COP_TERM_BYTES && key->len > COP_KEY_MAX) ||
	    (value->type == COP_TERM_BYTES && value->len > COP_VALUE_MAX);
}

/* --- starting --- */

static bool is_valid(const struct cop_registry *r)
{
	size_t i, len = r->name ? strlen(r->name) : 0;

	if (len == 0 || len > REGISTRY_NAME_MAX || r->keys > COP_DUPLICATE || r->partitions < COP_ONLINE ||
	    r->partitions > 65536 || r->n_listeners > REGISTRY_LISTENERS_MAX || r->n_meta > REGISTRY_META_MAX ||
	    (r->n_listeners > 0 && !r->listeners) || (r->n_meta > 0 && !r->meta))
		return false;
	for (i = 0; i < r->n_listeners; i++)
		if (!r->listeners[i] || !r->listeners[i][0] || strlen(r->listeners[i]) >= SEG_NAME)
			return false;
	for (i = 0; i < r->n_meta; i++)
		if (!is_a_term(&r->meta[i].key) || !is_a_term(&r->meta[i].value) ||
		    is_too_long(&r->meta[i].key, &r->meta[i].value))
			return false;
	return true;
}

struct block {
	struct cop_supervisor sup;
	struct cop_child child;
	char name[SEG_NAME];
	struct registry_start start; /* and what follows */
};

static size_t bytes_behind(const struct cop_registry *r)
{
	size_t n = r->n_listeners * SEG_NAME, i;

	for (i = 0; i < r->n_meta; i++) {
		struct table_term key, value;

		table_flat(&key, &r->meta[i].key);
		table_flat(&value, &r->meta[i].value);
		n += registry_bytes(&key, &value);
	}
	return n;
}

static void fill_start(struct registry_start *s, const struct cop_registry *r, uint32_t n_partitions)
{
	char *at = (char *)(s + 1);
	size_t i;

	*s = (struct registry_start){ .keys = r->keys, .n_listeners = (uint8_t)r->n_listeners,
		.n_meta = (uint8_t)r->n_meta, .n_partitions = n_partitions };
	memcpy(s->name, r->name, strlen(r->name));
	for (i = 0; i < r->n_listeners; i++, at += SEG_NAME)
		memcpy(at, r->listeners[i], strlen(r->listeners[i]));
	for (i = 0; i < r->n_meta; i++) {
		struct table_term key, value;

		table_flat(&key, &r->meta[i].key);
		table_flat(&value, &r->meta[i].value);
		registry_write(at, &key, &value);
		at += registry_bytes(&key, &value);
	}
}

struct cop_supervisor *cop_registry_supervisor(const struct cop_registry *r)
{
	struct block *b;
	size_t more;
	long online = sysconf(_SC_NPROCESSORS_ONLN);

	if (!is_valid(r)) {
		errno = EINVAL;
		return NULL;
	}
	more = bytes_behind(r);
	b = calloc(1, sizeof *b + more);
	if (!b)
		return NULL;
	memcpy(b->name, r->name, strlen(r->name));
	b->sup = (struct cop_supervisor){ .name = b->name, .children = &b->child, .n_children = 1,
		.strategy = r->keys == COP_UNIQUE ? COP_ONE_FOR_ALL : COP_ONE_FOR_ONE,
		.partitions = r->partitions == 0 ? 1 : r->partitions > 0 ? r->partitions : online > 0 ? (int32_t)online : 1 };
	fill_start(&b->start, r, (uint32_t)b->sup.partitions);
	b->child = (struct cop_child){ .id = "partition", .server = &registry_partition_ops, .arg = &b->start,
		.arg_size = sizeof b->start + more };
	return &b->sup;
}

enum cop_start cop_registry_start_link(const struct cop_registry *registry, struct cop_started *started_r)
{
	struct cop_supervisor *sup = cop_registry_supervisor(registry);
	enum cop_start how;
	int err;

	PROC_REQUIRE();
	if (!sup) {
		err = errno;
		*started_r = (struct cop_started){ .pid = COP_NOPID };
		started_r->reason = cop_exit_make_text(COP_EXIT_OTHER, 0, err == EINVAL ? "invalid_registry" : "enomem");
		errno = err;
		return COP_NOT_STARTED;
	}
	how = cop_supervisor_start_link(sup, started_r);
	err = errno;
	free(sup);
	errno = err;
	return how;
}

/* --- changing --- */

/* Asks the partition that has a key's entries of ours. 0 or -1 with errno. */
static int ask(const char *name, uint32_t tag, const struct cop_term *key, const struct cop_term *value,
    uint64_t *pid_r)
{
	struct registry_answer a = { .err = EPIPE };
	struct table_term k, v;
	struct cop_response r;
	struct reader rd;
	void *data;
	int tries;

	if (!is_a_term(key) || !is_a_term(value)) {
		errno = EINVAL;
		return -1;
	}
	if (is_too_long(key, value)) {
		errno = EMSGSIZE;
		return -1;
	}
	table_flat(&k, key);
	table_flat(&v, value);
	for (tries = 0; tries < 2; tries++) {
		if (registry_open(&rd, name) < 0)
			return -1;
		if (!registry_part(&rd, registry_part_of(&rd, &k, proc.id, tag >= REGISTRY_PUT_META)))
			return -1;
		data = cop_msg_new(registry_bytes(&k, &v), 0);
		if (!data)
			return -1;
		registry_write(data, &k, &v);
		if (cop_server_call_msg(cop_to((cop_pid){ rd.part->id }), tag, data, COP_INFINITY, &r) == 0) {
			if (r.msg.len == sizeof a)
				memcpy(&a, r.msg.data, sizeof a);
			cop_response_done(&r);
			*pid_r = a.pid;
			errno = a.err;
			return a.err ? -1 : 0;
		}
		if (errno != ESRCH)
			break;
	}
	errno = errno == ENOMEM || errno == EAGAIN ? ENOMEM : EPIPE;
	return -1;
}

int cop_registry_register(const char *registry, struct cop_term key, struct cop_term value, cop_pid *holder_r)
{
	uint64_t pid = 0;
	int r;

	PROC_REQUIRE();
	r = ask(registry, REGISTRY_REGISTER, &key, &value, &pid);
	if (holder_r)
		holder_r->id = pid;
	return r;
}

int cop_registry_unregister(const char *registry, struct cop_term key)
{
	struct cop_term nil = cop_nil();
	uint64_t pid;

	PROC_REQUIRE();
	return ask(registry, REGISTRY_UNREGISTER, &key, &nil, &pid);
}

int cop_registry_update_value(const char *registry, struct cop_term key, cop_registry_update_f *f, void *ctx)
{
	struct cop_entries has;
	struct cop_term value;
	uint64_t pid;
	long n;
	int r;

	PROC_REQUIRE();
	switch (registry_keys_of(registry)) {
	case -1:
		return -1;
	case COP_UNIQUE:
		break;
	default:
		errno = EINVAL;
		return -1;
	}
	n = cop_registry_values(registry, key, cop_self(), &has);
	if (n < 0)
		return -1;
	if (n == 0) {
		errno = EPERM;
		return -1;
	}
	value = f(ctx, has.entry[0].value);
	r = ask(registry, REGISTRY_SET_VALUE, &key, &value, &pid);
	cop_entries_done(&has);
	return r;
}

int cop_registry_unregister_match(const char *registry, struct cop_term key, const struct cop_match *match)
{
	struct cop_entries found;
	cop_pid self;
	uint64_t pid;
	int r = 0;
	long n, i, k;

	PROC_REQUIRE();
	self = cop_self();
	n = cop_registry_match(registry, key, match, &found);
	for (i = 0; i < n && r == 0; i++) {
		if (!cop_pid_is(found.entry[i].pid, self))
			continue;
		/* equal values match alike, and go together */
		for (k = 0; k < i; k++)
			if (cop_pid_is(found.entry[k].pid, self) &&
			    cop_term_compare(found.entry[k].value, found.entry[i].value) == 0)
				break;
		if (k == i)
			r = ask(registry, REGISTRY_UNREGISTER_VALUE, &key, &found.entry[i].value, &pid);
	}
	if (n >= 0)
		cop_entries_done(&found);
	return n < 0 ? -1 : r;
}

int cop_registry_put_meta(const char *registry, struct cop_term key, struct cop_term value)
{
	uint64_t pid;

	PROC_REQUIRE();
	return ask(registry, REGISTRY_PUT_META, &key, &value, &pid);
}

int cop_registry_delete_meta(const char *registry, struct cop_term key)
{
	struct cop_term nil = cop_nil();
	uint64_t pid;

	PROC_REQUIRE();
	return ask(registry, REGISTRY_DELETE_META, &key, &nil, &pid);
}

int cop_registry_event_read(const struct cop_msg *msg, struct cop_registry_event *event_r)
{
	const char *at = msg->data;
	struct table_term key, value;
	size_t used;

	if (msg->kind != COP_MSG_PLAIN || msg->tag != COP_TAG_REGISTRY || msg->len < sizeof *event_r ||
	    !registry_read(at + sizeof *event_r, msg->len - sizeof *event_r, &key, &value, &used)) {
		errno = EBADMSG;
		return -1;
	}
	memcpy(event_r, at, sizeof *event_r);
	event_r->registry[sizeof event_r->registry - 1] = '\0';
	event_r->key = table_term(key.type, key.data, key.len);
	event_r->value = table_term(value.type, value.data, value.len);
	return 0;
}

/* --- names --- */

static uint64_t resolve(const struct cop_via *via)
{
	return cop_registry_whereis(via->registry, via->key).id;
}

struct cop_dest cop_via(const struct cop_via *via)
{
	struct cop_dest to = { COP_NOPID, NULL, via };

	proc_resolve_via = resolve;
	return to;
}

int registry_take_name(const struct cop_via *via, struct cop_started *started_r)
{
	const char *word = "bad_name";

	if (!via)
		return 0;
	switch (registry_keys_of(via->registry)) {
	case COP_UNIQUE:
		if (cop_registry_register(via->registry, via->key, via->value, &started_r->pid) == 0 || errno == EIO)
			return 0;
		word = errno == EEXIST ? "already_started" : errno == ENOENT ? "unknown_registry" : "unable_to_register";
		break;
	case -1:
		word = "unknown_registry";
		break;
	default:
		break;
	}
	started_r->reason = cop_exit_make_text(COP_EXIT_OTHER, 0, word);
	return -1;
}

void registry_give_up_name(const struct cop_via *via)
{
	if (via)
		(void)cop_registry_unregister(via->registry, via->key);
}
