/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Registries whose registrants, readers, partitions and supervisors are killed at random while all of them are at
 * work. Every value says which key it belongs to and how long it is, so what is found is checked as it
 * is found; at the end nothing may be left.
 *
 *     REGISTRY_CHAOS_MS    how long it goes on (3000)
 */
#include "node_rig.h"

#include <stdlib.h>

#include "proc/proc.h"

#define KEYS 40
#define WORKERS 8
#define VALUE_MAX 300

enum { LOOKUPS, HITS, REGISTERED_N, KILLS, PARTITION_KILLS, RESTARTS_SEEN }; /* counts in rig->flag */

static uint64_t seed;

static uint32_t any(uint32_t n)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)((seed >> 11) % n);
}

static struct cop_term key_of(uint32_t k)
{
	static char text[2][64];
	static int at;
	char *t = text[at++ % 2];

	if (k % 2)
		return cop_int(k);
	return cop_bytes(t, (size_t)snprintf(t, sizeof text[0], "%u%.*s", k, (int)(k % 7) * 5, "a key of another length, longer"));
}

static unsigned char byte_of(uint32_t k, size_t len)
{
	return (unsigned char)(k * 31 + len * 7 + 1);
}

static struct cop_term value_of(uint32_t k, size_t len)
{
	static unsigned char data[VALUE_MAX + 1];

	memset(data, byte_of(k, len), len);
	return cop_bytes(data, len);
}

static void check_entry(const struct cop_entry *e, uint32_t k, const char *what)
{
	const unsigned char *p = e->value.data;
	size_t i;

	if (cop_term_compare(e->key, key_of(k)) != 0) {
		T_FAIL("%s of key %u found another key", what, k);
		return;
	}
	if (e->value.type != COP_TERM_BYTES || e->value.len > VALUE_MAX) {
		T_FAIL("%s of key %u: type %u, %zu bytes", what, k, e->value.type, e->value.len);
		return;
	}
	for (i = 0; i < e->value.len; i++)
		if (p[i] != byte_of(k, e->value.len)) {
			T_FAIL("%s of key %u: byte %zu of %zu is wrong", what, k, i, e->value.len);
			return;
		}
}

static void check_failure(const char *what)
{
	switch (errno) {
	case ENOENT: /* killed, and being started again */
	case EAGAIN:
	case EPIPE:
	case EEXIST:
	case EPERM:
		atomic_fetch_add(&rig->flag[RESTARTS_SEEN], errno != EEXIST && errno != EPERM);
		break;
	default:
		T_FAIL("%s: %s", what, strerror(errno));
	}
}

static void look(const char *r, uint32_t k)
{
	struct cop_entries e;
	long n = cop_registry_lookup(r, key_of(k), &e), i;

	atomic_fetch_add(&rig->flag[LOOKUPS], 1);
	if (n < 0) {
		check_failure("lookup");
		return;
	}
	if (r[0] == 'u' && n > 1)
		T_FAIL("%ld entries under a unique key", n);
	for (i = 0; i < n; i++)
		check_entry(&e.entry[i], k, "lookup");
	atomic_fetch_add(&rig->flag[HITS], n > 0);
	cop_entries_done(&e);
}

/* The key that an entry says it has. */
static uint32_t key_in(const struct cop_entry *e)
{
	char text[4] = "";

	if (e->key.type == COP_TERM_INT)
		return (uint32_t)e->key.number;
	memcpy(text, e->key.data, e->key.len < 2 ? e->key.len : 2);
	return (uint32_t)strtoul(text, NULL, 10);
}

static void look_at_all(const char *r)
{
	struct cop_entries e;
	bool keys = any(2);
	long n = keys ? cop_registry_keys(r, cop_self(), &e) : cop_registry_select(r, &(struct cop_match){ 0 }, 1, &e), i;

	if (n < 0) {
		check_failure("select");
		return;
	}
	for (i = 0; i < n; i++)
		check_entry(&e.entry[i], key_in(&e.entry[i]), "select");
	for (i = 0; keys && i < n; i++)
		T_CHECK(cop_pid_is(e.entry[i].pid, cop_self()));
	cop_entries_done(&e);
}

static uint32_t updated;

static struct cop_term update(void *ctx, struct cop_term old)
{
	struct cop_entry e = { .key = key_of(updated), .value = old };

	(void)ctx;
	check_entry(&e, updated, "update_value");
	return value_of(updated, any(VALUE_MAX));
}

static void change(const char *r)
{
	uint32_t k = any(KEYS);
	int done;

	switch (any(4)) {
	case 0:
		done = cop_registry_unregister(r, key_of(k));
		break;
	case 1:
		updated = k;
		done = r[0] == 'u' ? cop_registry_update_value(r, key_of(k), update, NULL) : 0;
		break;
	default:
		done = cop_registry_register(r, key_of(k), value_of(k, any(VALUE_MAX)), NULL);
		atomic_fetch_add(&rig->flag[REGISTERED_N], done == 0);
		break;
	}
	if (done < 0)
		check_failure("change");
}

static void worker(void *arg)
{
	const char *r;
	bool reads = arg != NULL;
	struct cop_msg m;

	seed = cop_self().id * 0x9e3779b97f4a7c15ull + 1;
	cop_trap_exit(any(3) == 0);
	for (;;) {
		r = any(2) ? "unique" : "duplicate";
		if (!reads)
			change(r);
		look(r, any(KEYS));
		if (any(20) == 0)
			look_at_all(r);
		while (cop_receive(&m, NULL, NULL, 0) == 1)
			cop_msg_done(&m);
	}
}

static void kill_some(cop_pid *worker_pid)
{
	char name[COP_NAME_MAX];

	atomic_fetch_add(&rig->flag[KILLS], 1);
	if (any(25) > 0) {
		cop_kill(worker_pid[any(WORKERS)]);
		return;
	}
	atomic_fetch_add(&rig->flag[PARTITION_KILLS], 1);
	if (any(3) == 0)
		cop_kill(cop_whereis(any(2) ? "unique" : "duplicate"));
	snprintf(name, sizeof name, "%s/%u", any(2) ? "unique" : "duplicate", any(2));
	cop_kill(cop_whereis(name));
}

static cop_pid supervise(void)
{
	struct cop_registry u = { .name = "unique", .partitions = 2 };
	struct cop_registry d = { .name = "duplicate", .keys = COP_DUPLICATE, .partitions = 2 };
	struct cop_supervisor *us = cop_registry_supervisor(&u), *ds = cop_registry_supervisor(&d);
	struct cop_child kids[2];
	struct cop_supervisor top = { .children = kids, .n_children = 2, .max_restarts = 1000000, .max_seconds = 1 };
	struct cop_started s;

	T_REQUIRE(us && ds);
	us->max_restarts = ds->max_restarts = 1000000;
	kids[0] = (struct cop_child){ .id = "u", .supervisor = us };
	kids[1] = (struct cop_child){ .id = "d", .supervisor = ds };
	T_REQUIRE(cop_supervisor_start_link(&top, &s) == COP_STARTED);
	free(us);
	free(ds);
	return s.pid;
}

/* How many links and monitors of those who are gone a partition holds. */
static uint32_t held_by(const char *name)
{
	struct seg_slot *p = seg_slot_of(&proc.seg, cop_whereis(name).id);
	uint32_t i, held = 0, bound = 1000;
	struct seg_node *n;

	/* one that sleeps is not woken for the end of a monitor */
	T_CHECK(cop_server_call(cop_named(name), 0, NULL, 0, RIG_MS, NULL) == 0);

	for (i = p ? atomic_load(&p->own.holding) : 0; (n = seg_node(&proc.seg, i)) && bound-- > 0; i = n->hnext)
		held += !seg_is_there(&proc.seg, n->from);
	return held;
}

NODE_CASE(everybody_is_killed_at_random)
{
	const char *ms = getenv("REGISTRY_CHAOS_MS");
	int64_t end = now_ms() + (ms ? atoi(ms) : 3000);
	cop_pid pid[WORKERS], top = supervise();
	uint32_t used, orphans, i;

	seed = (uint64_t)now_ms() * 2654435761u + 7;
	for (i = 0; i < WORKERS; i++)
		pid[i] = spawned(worker, i % 3 == 2 ? "reads" : NULL);
	while (now_ms() < end) {
		cop_sleep((int)any(8));
		kill_some(pid);
		for (i = 0; i < WORKERS; i++)
			if (!cop_is_alive(pid[i]))
				pid[i] = spawned(worker, i % 3 == 2 ? "reads" : NULL);
	}
	for (i = 0; i < WORKERS; i++) {
		cop_kill(pid[i]);
		T_CHECK(gone(pid[i]));
	}
	EVENTUALLY(cop_registry_count("unique") == 0);
	EVENTUALLY(cop_registry_count("duplicate") == 0);
	EVENTUALLY(held_by("unique/0") + held_by("unique/1") + held_by("duplicate/0") + held_by("duplicate/1") == 0);
	seg_chunks_count(&proc.seg, &used, &orphans);
	printf("# %d lookups, %d found; %d registered; %d kills, %d of partitions; %d failures; %u chunks, %u orphans\n",
	    rig->flag[LOOKUPS], rig->flag[HITS], rig->flag[REGISTERED_N], rig->flag[KILLS], rig->flag[PARTITION_KILLS],
	    rig->flag[RESTARTS_SEEN], used, orphans);
	T_CHECK(rig->flag[HITS] > 100 && rig->flag[REGISTERED_N] > 100 && rig->flag[PARTITION_KILLS] > 1);
	T_CHECK(used < 100);
	T_EQ_INT(cop_server_stop(cop_to(top), NULL, RIG_MS, NULL), 0);
}

T_MAIN(T_RUN(everybody_is_killed_at_random))
