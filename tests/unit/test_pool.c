/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* A process's pool: sizes at the borders of the classes, use in circles, quota, memory that runs out, trim. */
#include "t.h"

#include <coppice/message.h>

#include "ipc/pool.h"

static struct seg s;
static struct pool p;
static uint32_t me, other;

static uint32_t alive(void)
{
	long i = seg_slot_claim(&s, 0);

	T_REQUIRE(i > 0);
	seg_slot_set_state(&s, (uint32_t)i, SEG_SLOT_ALIVE);
	return (uint32_t)i;
}

static void make(size_t memory, size_t quota)
{
	struct seg_limits l = { .name = "test", .max_procs = 8, .memory = memory, .quota = quota };

	s.fd = -1;
	T_REQUIRE(seg_create(&s, &l) == 0);
	me = alive();
	other = alive();
	pool_init(&p, &s, me);
}

static struct seg_node *get(size_t len)
{
	struct seg_node *n = pool_get(&p, len);

	T_REQUIRE(n);
	T_CHECK(seg_node_room(&s, n) >= len);
	T_EQ_INT(atomic_load(&n->state), SEG_BUSY);
	T_CHECK(n->to == p.id);
	n->len = (uint32_t)len;
	if (len)
		memset(seg_node_data(n), 0xa5, len);
	return n;
}

static uint32_t chunks_used(void)
{
	uint32_t used, orphans;

	seg_chunks_count(&s, &used, &orphans);
	return used;
}

static void done(void)
{
	uint32_t c;

	for (c = 0; c < SEG_CLASSES; c++)
		free(p.ring[c].chunk);
	free(p.big);
	seg_destroy(&s);
}

/* --- */

T_CASE(sizes)
{
	static const size_t fixed[] = { 0, 1, 63, 64, 65, 65536, 1 << 20, (1 << 20) + 1 };
	size_t i, room;
	uint32_t c;

	make(64 << 20, 0);
	for (i = 0; i < sizeof fixed / sizeof fixed[0]; i++)
		pool_put(get(fixed[i]));
	for (c = 0; c < SEG_CLASSES; c++)
		for (room = SEG_NODE_ROOM(c) - 1; room <= SEG_NODE_ROOM(c) + 1; room++) {
			struct seg_node *n = get(room);

			T_EQ_INT(n->class, room > SEG_NODE_ROOM(c) ? c + 1 : c);
			pool_put(n);
		}
	done();
}

T_CASE(the_first_sixteen_are_in_the_slot)
{
	unsigned char *nodes;
	int i;

	make(1 << 20, 0);
	nodes = s.slots[me].nodes;
	for (i = 0; i < SEG_SLOT_NODES; i++)
		T_CHECK((unsigned char *)get(0) == nodes + i * SEG_NODE_SMALL);
	T_EQ_INT(chunks_used(), 0);
	(void)get(0);
	T_EQ_INT(chunks_used(), 1);
	done();
}

T_CASE(nodes_do_not_overlap)
{
	enum { N = 3000 };
	static struct seg_node *n[N];
	int i, k;

	make(64 << 20, 0);
	for (i = 0; i < N; i++) {
		n[i] = get((size_t)(i * 37) % 3000);
		memset(seg_node_data(n[i]), i & 0xff, n[i]->len);
	}
	for (i = 0; i < N; i++)
		for (k = 0; k < (int)n[i]->len; k++)
			if (((unsigned char *)seg_node_data(n[i]))[k] != (i & 0xff)) {
				T_FAIL("node %d is written over", i);
				break;
			}
	done();
}

T_CASE(goes_round_without_growing)
{
	int i;

	make(1 << 20, 0);
	for (i = 0; i < 100000; i++)
		pool_put(get((size_t)i % 64));
	T_EQ_INT(chunks_used(), 0);
	for (i = 0; i < 100000; i++)
		pool_put(get(1000));
	T_EQ_INT(chunks_used(), 1);
	done();
}

T_CASE(what_the_dead_were_sent_is_free)
{
	int i;

	make(1 << 20, 0);
	for (i = 0; i < SEG_SLOT_NODES; i++)
		get(0)->to = atomic_load(&s.slots[other].id);
	seg_slot_release(&s, other);
	for (i = 0; i < SEG_SLOT_NODES; i++)
		(void)get(0);
	T_EQ_INT(chunks_used(), 0);
	done();
}

T_CASE(too_long)
{
	make(1 << 20, 0);
	T_CHECK(!pool_get(&p, (size_t)UINT16_MAX * SEG_CHUNK_BYTES) && errno == EMSGSIZE);
	T_CHECK(!pool_get(&p, SIZE_MAX) && errno == EMSGSIZE);
	done();
}

T_CASE(the_longest)
{
	struct seg_node *n;

	make((size_t)80 << 20, 0);
	n = pool_get(&p, COP_MSG_MAX);
	T_REQUIRE(n);
	T_CHECK(seg_node_room(&s, n) >= COP_MSG_MAX);
	((unsigned char *)seg_node_data(n))[COP_MSG_MAX - 1] = 1;
	pool_put(n);
	pool_trim(&p, true);
	T_EQ_INT(chunks_used(), 0);
	done();
}

T_CASE(the_segment_is_full)
{
	struct seg_node *n, *last = NULL;
	int i;

	make(1 << 20, 0);
	for (i = 0; i < 100000 && (n = pool_get(&p, 30000)); i++)
		last = n;
	T_CHECK(i < 100000 && errno == ENOMEM);
	T_EQ_INT(i, 32);
	T_CHECK(!pool_get(&p, 100000) && errno == ENOMEM);
	T_CHECK(pool_get(&p, 0)); /* its own slot's */
	pool_put(last);
	T_CHECK(pool_get(&p, 30000) == last);
	done();
}

T_CASE(the_quota_is_full)
{
	struct seg_node *n[8];
	int i;

	make(16 << 20, 2 * SEG_CHUNK_BYTES);
	for (i = 0; i < 4; i++)
		n[i] = get(30000);
	T_CHECK(!pool_get(&p, 30000) && errno == EAGAIN);
	pool_put(n[2]);
	T_CHECK(pool_get(&p, 30000) == n[2]);
	done();
}

/* The quota is full of what is free, but of another size. */
T_CASE(the_quota_is_for_all_sizes)
{
	struct seg_node *n[4];
	int i;

	make(16 << 20, 2 * SEG_CHUNK_BYTES);
	for (i = 0; i < 4; i++)
		n[i] = get(30000);
	T_CHECK(!pool_get(&p, 1000) && errno == EAGAIN);
	for (i = 0; i < 4; i++)
		pool_put(n[i]);
	(void)get(1000);
	(void)get(60000);
	done();
}

T_CASE(longer_than_the_quota)
{
	make(16 << 20, 2 * SEG_CHUNK_BYTES);
	T_CHECK(!pool_get(&p, 200000) && errno == EMSGSIZE);
	done();
}

T_CASE(runs_are_given_back)
{
	struct seg_node *a, *b;

	make(16 << 20, 0);
	a = get(100000);
	b = get(300000);
	T_EQ_INT(chunks_used(), 2 + 5);
	pool_put(a);
	pool_trim(&p, false); /* a small one stays, for the next message */
	T_EQ_INT(chunks_used(), 2 + 5);
	pool_put(b);
	a = get(300000); /* the same again, without asking the system */
	T_CHECK(a == b);
	pool_put(a);
	pool_trim(&p, false);
	T_EQ_INT(chunks_used(), 2);
	pool_trim(&p, true);
	T_EQ_INT(chunks_used(), 0);
	T_EQ_INT(p.bytes, 0);
	T_EQ_INT(atomic_load(&s.slots[me].own.chunks), 0);
	done();
}

T_CASE(idle_chunks_are_given_back)
{
	struct seg_node *n[2000];
	int i;

	make(16 << 20, 0);
	for (i = 0; i < 2000; i++)
		n[i] = get((size_t)(i % 5) * 100);
	T_CHECK(chunks_used() > 4);
	for (i = 0; i < 1999; i++)
		pool_put(n[i]);
	pool_trim(&p, true);
	T_EQ_INT(chunks_used(), 1);
	pool_put(n[1999]);
	pool_trim(&p, true);
	T_EQ_INT(chunks_used(), 0);
	T_EQ_INT(p.bytes, 0);
	for (i = 0; i < 2000; i++)
		n[i] = get((size_t)(i % 5) * 100);
	done();
}

/* Released by one process and taken up by another: what is in between is clean. */
T_CASE(chunks_change_hands)
{
	struct pool q = { 0 };
	int i, round;

	make(4 << 20, 0);
	pool_init(&q, &s, other);
	for (round = 0; round < 10; round++) {
		for (i = 0; i < 500; i++)
			get((size_t)(round * 50))->to = UINT64_MAX; /* nobody: free at once */
		seg_chunks_orphan(&s, me);
		pool_init(&p, &s, me);
		for (i = 0; i < 500; i++) {
			struct seg_node *n = pool_get(&q, (size_t)(round * 50));

			T_REQUIRE(n);
			pool_put(n);
		}
	}
	T_CHECK(chunks_used() <= 20);
	for (i = 0; i < SEG_CLASSES; i++)
		free(q.ring[i].chunk);
	done();
}

/* What the dead have left may all be under way still: then the next chunk is it. */
T_CASE(an_adopted_chunk_that_is_full)
{
	struct pool q = { 0 };
	uint32_t last;
	int i;

	make(4 << 20, 0);
	last = alive();
	for (i = 0; i < 3000; i++)
		get(0)->to = atomic_load(&s.slots[last].id);
	seg_chunks_orphan(&s, me);
	seg_slot_release(&s, me);
	pool_init(&q, &s, other);
	for (i = 0; i < 100; i++)
		T_CHECK(pool_get(&q, 0));
	for (i = 0; i < SEG_CLASSES; i++)
		free(q.ring[i].chunk);
	done();
}

T_MAIN(T_RUN(sizes), T_RUN(the_first_sixteen_are_in_the_slot), T_RUN(nodes_do_not_overlap),
    T_RUN(goes_round_without_growing), T_RUN(what_the_dead_were_sent_is_free), T_RUN(too_long), T_RUN(the_longest),
    T_RUN(the_segment_is_full), T_RUN(the_quota_is_full), T_RUN(the_quota_is_for_all_sizes),
    T_RUN(longer_than_the_quota), T_RUN(runs_are_given_back), T_RUN(idle_chunks_are_given_back),
    T_RUN(chunks_change_hands), T_RUN(an_adopted_chunk_that_is_full))
