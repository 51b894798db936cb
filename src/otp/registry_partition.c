/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A partition of a registry: a server that traps exits, is linked with everybody who has an entry, and alone writes
 * its table (registry_table.h). A table that is full is written again into a larger one, or one of the same size
 * if much of it was given back. Memory of the node that is not to be had is the answer to a request, not the end.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <coppice/supervisor.h>

#include "otp/registry_private.h"

#define FIRST_UNITS 192u      /* 15 KB: a node of the second largest size */
#define FIRST_BUCKETS 256u

/* A process that has entries. */
struct registrant {
	uint64_t pid;
	uint64_t link;
	uint32_t n;               /* entries */
	uint32_t next;            /* in the bucket, + 1 */
};

struct partition {
	struct registry_start start;
	char (*listener)[SEG_NAME];
	struct table table;
	struct seg_node *node;    /* of the table */
	uint32_t serial;          /* of tables */
	struct registrant *registrant;
	uint32_t *bucket;         /* of registrants, + 1 */
	uint32_t n_registrants, cap, free_registrant; /* free: + 1 */
};

/* --- registrants --- */

static uint32_t *bucket_of(struct partition *p, uint64_t pid)
{
	return &p->bucket[table_hash_pid(pid) & (p->cap - 1)];
}

static struct registrant *find_registrant(struct partition *p, uint64_t pid)
{
	uint32_t i;

	for (i = p->cap ? *bucket_of(p, pid) : 0; i; i = p->registrant[i - 1].next)
		if (p->registrant[i - 1].pid == pid)
			return &p->registrant[i - 1];
	return NULL;
}

static bool more_registrants(struct partition *p)
{
	uint32_t cap = p->cap ? p->cap * 2 : 64, i;
	struct registrant *r = realloc(p->registrant, cap * sizeof *r);
	uint32_t *b = r ? calloc(cap, sizeof *b) : NULL;

	if (r)
		p->registrant = r;
	if (!b)
		return false;
	free(p->bucket);
	p->bucket = b;
	p->cap = cap;
	for (i = 0; i < p->n_registrants; i++) { /* all are in use, or there would be a free one */
		r[i].next = *bucket_of(p, r[i].pid);
		*bucket_of(p, r[i].pid) = i + 1;
	}
	return true;
}

/* The registrant, linked with. NULL with ENOMEM, or ESRCH: it is gone. */
static struct registrant *want_registrant(struct partition *p, uint64_t pid)
{
	struct registrant *r = find_registrant(p, pid);
	uint32_t i;
	uint64_t link;

	if (r)
		return r;
	if (!p->free_registrant && p->n_registrants == p->cap && !more_registrants(p)) {
		errno = ENOMEM;
		return NULL;
	}
	proc.send_until = 1; /* long over: what listeners have not read must not hold us up for memory */
	link = proc_link_new(pid);
	proc.send_until = 0;
	if (!link)
		return NULL;
	i = p->free_registrant ? p->free_registrant : ++p->n_registrants;
	r = &p->registrant[i - 1];
	if (p->free_registrant)
		p->free_registrant = r->next;
	*r = (struct registrant){ .pid = pid, .link = link, .next = *bucket_of(p, pid) };
	*bucket_of(p, pid) = i;
	return r;
}

/* It has no entries any more. */
static void forget_registrant(struct partition *p, struct registrant *r)
{
	uint32_t *at = bucket_of(p, r->pid), i = (uint32_t)(r - p->registrant) + 1;

	while (*at != i)
		at = &p->registrant[*at - 1].next;
	*at = r->next;
	r->next = p->free_registrant;
	p->free_registrant = i;
}

static void release_registrant(struct partition *p, struct registrant *r)
{
	uint64_t link = r->link;

	if (r->n > 0)
		return;
	forget_registrant(p, r);
	proc_unlink_ref(link);
}

static void remove_entry(struct partition *p, uint32_t index)
{
	struct registrant *r = find_registrant(p, table_pid(&p->table, index));

	table_remove(&p->table, index);
	if (r)
		r->n--;
}

/* --- the table --- */

static void publish(struct partition *p)
{
	atomic_store_explicit(&proc.slot->table, TABLE_WORD(seg_index_of(&proc.seg, p->node), p->serial),
	    memory_order_release);
}

/* A table of so many units, empty. NULL: no memory. */
static struct seg_node *new_table(struct partition *p, struct table *t, uint32_t n_units, uint32_t n_buckets)
{
	uint64_t bytes = table_bytes(n_units, n_buckets);
	struct seg_node *n = bytes <= proc.seg.quota ? pool_get(&proc.pool, bytes) : NULL;

	if (!n)
		return NULL;
	n->len = (uint32_t)bytes;
	n->from = proc.id;
	atomic_store_explicit(&n->kind, NODE_BEING_MADE, memory_order_relaxed);
	/* data of a node is aligned to a line, as entries are to be */
	if (table_init(t, seg_node_data(n), n_units, n_buckets, p->start.keys))
		return n;
	pool_put(n);
	return NULL;
}

/* An empty table with room for what there is and `more` units: of the same size if that leaves half of it free,
 * otherwise twice as large, or as much larger as there is memory for. */
static struct seg_node *larger_table(struct partition *p, struct table *t, uint32_t more)
{
	static const uint32_t quarters[] = { 4, 8, 6, 5, 4 };
	uint64_t need = (uint64_t)p->table.live + more, units, spare;
	struct seg_node *n;
	size_t i;

	for (i = 0; i < sizeof quarters / sizeof quarters[0]; i++) {
		units = (uint64_t)p->table.n_units * quarters[i] / 4;
		spare = i == 0 ? units / 2 : quarters[i] == 4 ? units / 8 : 0;
		if (need > units - spare || units > UINT32_MAX / 2)
			continue;
		n = new_table(p, t, (uint32_t)units, (p->table.mask + 1) * (quarters[i] == 8 ? 2 : 1));
		if (n)
			return n;
	}
	return NULL;
}

/* Writes the table again, with room for at least `more` units. Readers of the old one find that it is not the
 * present one any more. */
static bool rebuild(struct partition *p, uint32_t more)
{
	struct seg_node *node, *old = p->node;
	struct table t;

	node = larger_table(p, &t, more);
	if (!node)
		return false;
	if (!table_copy_all(&t, &p->table)) {
		table_fini(&t);
		pool_put(node);
		return false;
	}
	table_fini(&p->table);
	p->table = t;
	p->node = node;
	p->serial++;
	publish(p);
	pool_put(old);
	pool_trim(&proc.pool, false);
	return true;
}

static bool put(struct partition *p, uint64_t pid, const struct table_term *key, uint8_t meta,
    const struct table_term *value)
{
	return table_put(&p->table, pid, key, meta, value) != 0 ||
	    (rebuild(p, TABLE_ENTRY_UNITS) && table_put(&p->table, pid, key, meta, value) != 0);
}

/* The request's value may lie in what is written again: not here, it is in a message. */
static bool replace(struct partition *p, uint32_t index, const struct table_term *key, uint8_t meta,
    const struct table_term *value)
{
	uint64_t pid = table_pid(&p->table, index);

	if (table_replace(&p->table, index, value))
		return true;
	if (!rebuild(p, TABLE_ENTRY_UNITS))
		return false;
	for (index = table_find(&p->table, key, meta, 0); index; index = table_find(&p->table, key, meta, index))
		if (table_pid(&p->table, index) == pid)
			return table_replace(&p->table, index, value) != 0;
	return false;
}

/* --- listeners --- */

/* 0, or EIO: one has no such process. */
static int tell_listeners(struct partition *p, uint8_t what, uint64_t pid, const struct table_term *key,
    const struct table_term *value)
{
	size_t size = sizeof(struct cop_registry_event) + registry_bytes(key, value);
	struct cop_registry_event head = { .what = what, .pid = { pid } };
	unsigned i;
	int err = 0;
	char *data;

	memcpy(head.registry, p->start.name, sizeof head.registry);
	for (i = 0; i < p->start.n_listeners; i++) {
		data = cop_msg_new(size, COP_NOWAIT);
		if (!data)
			continue;
		memcpy(data, &head, sizeof head);
		registry_write(data + sizeof head, key, value);
		if (cop_msg_send(cop_named(p->listener[i]), COP_TAG_REGISTRY, data, COP_NOWAIT) < 0 && errno == ENOENT)
			err = EIO;
	}
	return err;
}

static const struct table_term nothing = { .data = "", .type = COP_TERM_NIL };

/* --- requests --- */

static struct cop_next answer(int err, uint64_t pid)
{
	struct registry_answer a = { .err = err, .pid = pid };

	return cop_reply(&a, sizeof a);
}

static struct cop_next do_register(struct partition *p, uint64_t pid, const struct table_term *key,
    const struct table_term *value)
{
	uint32_t index = p->start.keys == COP_UNIQUE ? table_find(&p->table, key, 0, 0) : 0;
	struct registrant *r;

	if (index) {
		cop_pid holder = { table_pid(&p->table, index) };

		if (cop_is_alive(holder))
			return answer(EEXIST, holder.id);
	}
	r = want_registrant(p, pid);
	if (!r)
		return answer(errno, 0);
	if (index) /* of one whose end we have not heard of yet */
		remove_entry(p, index);
	if (!put(p, pid, key, 0, value)) {
		release_registrant(p, r);
		return answer(ENOMEM, 0);
	}
	r->n++;
	return answer(tell_listeners(p, COP_REGISTERED, pid, key, value), proc.id);
}

static bool is_same(const struct table_term *a, const struct table_term *b)
{
	return a->type == b->type && a->len == b->len && (a->len == 0 || memcmp(a->data, b->data, a->len) == 0);
}

/* value NULL: whatever value. Tells whether any entry of that key is left. */
static bool remove_own(struct partition *p, uint64_t pid, const struct table_term *key, const struct table_term *value)
{
	uint32_t index, next;
	struct table_term has;
	bool left = false;

	for (index = table_find(&p->table, key, 0, 0); index; index = next) {
		next = table_find(&p->table, key, 0, index);
		if (table_pid(&p->table, index) != pid)
			continue;
		table_value(&p->table, index, &has);
		if (value && !is_same(&has, value))
			left = true;
		else
			remove_entry(p, index);
	}
	return left;
}

static struct cop_next do_unregister(struct partition *p, uint64_t pid, const struct table_term *key,
    const struct table_term *value)
{
	bool left = remove_own(p, pid, key, value);
	struct registrant *r = find_registrant(p, pid);
	int err = left ? 0 : tell_listeners(p, COP_UNREGISTERED, pid, key, &nothing);

	if (r)
		release_registrant(p, r);
	return answer(err, 0);
}

static struct cop_next do_set_value(struct partition *p, uint64_t pid, const struct table_term *key,
    const struct table_term *value)
{
	uint32_t index = table_find(&p->table, key, 0, 0);

	if (p->start.keys != COP_UNIQUE)
		return answer(EINVAL, 0);
	if (!index || table_pid(&p->table, index) != pid)
		return answer(EPERM, 0);
	return answer(replace(p, index, key, 0, value) ? 0 : ENOMEM, 0);
}

static int put_meta(struct partition *p, const struct table_term *key, const struct table_term *value)
{
	uint32_t index = table_find(&p->table, key, TABLE_META, 0);
	bool done = index ? replace(p, index, key, TABLE_META, value) : put(p, 0, key, TABLE_META, value);

	return done ? 0 : ENOMEM;
}

static struct cop_next partition_call(void *state, const struct cop_msg *msg, struct cop_from from)
{
	struct partition *p = state;
	struct table_term key, value;
	uint32_t index;
	size_t used;

	(void)from;
	if (!registry_read(msg->data, msg->len, &key, &value, &used))
		return answer(EBADMSG, 0);
	switch ((enum registry_request_tag)msg->tag) {
	case REGISTRY_REGISTER:
		return do_register(p, msg->from.id, &key, &value);
	case REGISTRY_UNREGISTER:
		return do_unregister(p, msg->from.id, &key, NULL);
	case REGISTRY_UNREGISTER_VALUE:
		return do_unregister(p, msg->from.id, &key, &value);
	case REGISTRY_SET_VALUE:
		return do_set_value(p, msg->from.id, &key, &value);
	case REGISTRY_PUT_META:
		return answer(put_meta(p, &key, &value), 0);
	case REGISTRY_DELETE_META:
		index = table_find(&p->table, &key, TABLE_META, 0);
		if (index)
			table_remove(&p->table, index);
		return answer(0, 0);
	}
	return answer(EBADMSG, 0);
}

static struct cop_next partition_cast(void *state, const struct cop_msg *msg)
{
	(void)state;
	(void)msg; /* nobody who knows us sends any: not a reason to end registrants */
	return cop_ok();
}

/* Somebody we are linked with is gone. */
static struct cop_next partition_info(void *state, const struct cop_msg *msg)
{
	struct partition *p = state;
	struct registrant *r;
	uint32_t index;

	if (msg->kind != COP_MSG_EXIT)
		return cop_ok();
	/* an exit signal may come from one who lives */
	if (seg_is_there(&proc.seg, msg->from.id) &&
	    seg_slot_state(&proc.seg, SEG_INDEX(msg->from.id)) == SEG_SLOT_ALIVE)
		return cop_ok();
	while ((index = table_find_pid(&p->table, msg->from.id, 0)))
		remove_entry(p, index);
	r = find_registrant(p, msg->from.id);
	if (r)
		forget_registrant(p, r);
	return cop_ok();
}

/* --- the start --- */

static struct cop_next refuse(const char *word)
{
	struct cop_exit reason = cop_exit_make_text(COP_EXIT_OTHER, 0, word);

	return cop_stop(&reason);
}

/* The meta entries that are this partition's. */
static bool put_all_meta(struct partition *p, const char *at, size_t left)
{
	struct table_term key, value;
	long self = cop_partition();
	size_t used;
	unsigned i;

	for (i = 0; i < p->start.n_meta; i++) {
		if (!registry_read(at, left, &key, &value, &used))
			return false;
		if ((long)registry_partition_of(&key, p->start.n_partitions) == self && put_meta(p, &key, &value) != 0)
			return false;
		at += used;
		left -= used;
	}
	return true;
}

static struct cop_next partition_init(void *state, const void *arg, size_t size)
{
	struct partition *p = state;
	size_t names;

	cop_trap_exit(true);
	if (size < sizeof p->start)
		return refuse("invalid_registry");
	memcpy(&p->start, arg, sizeof p->start);
	names = (size_t)p->start.n_listeners * SEG_NAME;
	if (size < sizeof p->start + names || p->start.n_partitions == 0 || cop_partition() < 0)
		return refuse("invalid_registry");
	p->listener = malloc(names + 1);
	p->node = p->listener ? new_table(p, &p->table, FIRST_UNITS, FIRST_BUCKETS) : NULL;
	if (!p->node)
		return refuse("enomem");
	memcpy(p->listener, (const char *)arg + sizeof p->start, names);
	if (!put_all_meta(p, (const char *)arg + sizeof p->start + names, size - sizeof p->start - names))
		return refuse("invalid_registry");
	publish(p);
	return cop_ok();
}

const struct cop_server_ops registry_partition_ops = {
	.name = "registry",
	.state_size = sizeof(struct partition),
	.init = partition_init,
	.handle_call = partition_call,
	.handle_cast = partition_cast,
	.handle_info = partition_info,
};
