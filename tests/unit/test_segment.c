/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* The segment alone: slots and their generations, chunks claimed, released, orphaned and adopted, limits. */
#include "t.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "ipc/segment.h"

static struct seg s;

static void make(uint32_t procs, size_t memory)
{
	struct seg_limits l = { .name = "test", .max_procs = procs, .memory = memory };

	s.fd = -1;
	T_REQUIRE(seg_create(&s, &l) == 0);
}

static uint32_t alive(void)
{
	long i = seg_slot_claim(&s, 0);

	T_REQUIRE(i > 0);
	atomic_store(&seg_slot(&s, 0)->own.spawning, 0);
	seg_slot_set_state(&s, (uint32_t)i, SEG_SLOT_ALIVE);
	return (uint32_t)i;
}

static uint64_t id_of(uint32_t slot)
{
	return atomic_load(&seg_slot(&s, slot)->id);
}

/* --- */

T_CASE(limits_have_defaults)
{
	make(0, 1);
	T_EQ_INT(s.h->max_procs, 65536);
	T_EQ_INT(s.h->n_chunks, 16);
	T_EQ_INT(s.h->mailbox, SEG_MAILBOX_MAX);
	T_EQ_STR(s.h->name, "test");
	T_CHECK(s.h->spins > 0);
	seg_destroy(&s);
	T_CHECK(!s.base);
	make(UINT32_MAX, 1 << 20);
	T_EQ_INT(s.h->max_procs, SEG_PROCS_MAX);
	seg_destroy(&s);
}

/* The file behind the mapping, by the number that the kernel has for it; -1 where that is not allowed. */
static int open_mapping(void)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", (unsigned long)s.base,
	    (unsigned long)s.base + (unsigned long)s.h->bytes);
	return open(path, O_RDWR | O_CLOEXEC);
}

T_CASE(cannot_be_resized)
{
	int fd;

	make(8, 1 << 20);
	fd = open_mapping();
	if (fd >= 0) {
		T_CHECK(ftruncate(fd, 4096) < 0 && errno == EPERM);
		T_CHECK(ftruncate(fd, (off_t)s.h->bytes + 4096) < 0 && errno == EPERM);
		T_CHECK(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE) < 0 && errno == EPERM);
		close(fd);
	} else {
		printf("# not here\n");
	}
	seg_destroy(&s);
}

T_CASE(root_is_slot_0)
{
	make(4, 1 << 20);
	T_EQ_INT(seg_slot_state(&s, 0), SEG_SLOT_ALIVE);
	T_EQ_INT(SEG_INDEX(id_of(0)), 0);
	T_CHECK(seg_slot_of(&s, id_of(0)) == seg_slot(&s, 0));
	T_EQ_INT(seg_slot_by_pid(&s, getpid()), 0);
	T_EQ_INT(seg_slot_by_pid(&s, 1 << 30), -1);
	seg_destroy(&s);
}

T_CASE(slots_run_out)
{
	uint32_t a, b, c;

	make(4, 1 << 20);
	a = alive();
	b = alive();
	c = alive();
	T_CHECK(a != b && b != c && a != c);
	T_CHECK(seg_slot_claim(&s, 0) == -1 && errno == EAGAIN);
	seg_slot_release(&s, b);
	T_EQ_INT(alive(), b);
	seg_destroy(&s);
}

T_CASE(an_id_is_never_used_again)
{
	uint64_t old[500];
	uint32_t slot;
	int i, k;

	make(2, 1 << 20);
	for (i = 0; i < 500; i++) {
		slot = alive();
		T_EQ_INT(slot, 1);
		old[i] = id_of(slot);
		T_CHECK(seg_is_there(&s, old[i]));
		for (k = 0; k < i; k++)
			T_CHECK(!seg_is_there(&s, old[k]) && old[k] != old[i]);
		seg_slot_release(&s, slot);
		T_CHECK(!seg_is_there(&s, old[i]));
	}
	seg_destroy(&s);
}

T_CASE(a_new_slot_is_clean)
{
	struct seg_slot *p;
	uint32_t slot;

	make(2, 1 << 20);
	slot = alive();
	p = seg_slot(&s, slot);
	atomic_store(&p->trap, 1);
	atomic_store(&p->held, 7);
	atomic_store(&p->user, 7);
	atomic_store(&p->exit_claim, SEG_EXIT_SELF);
	p->flags = SEG_IS_SUPERVISOR;
	strcpy(p->label, "old");
	atomic_store(&p->own.killing, 77);
	atomic_store(&p->own.turn.to, 77);
	seg_slot_release(&s, slot);
	T_EQ_INT((uint32_t)atomic_load(&p->inbox) & 0x7fffffffu, SEG_CLOSED);
	T_EQ_INT(alive(), slot);
	T_EQ_INT(atomic_load(&p->inbox), SEG_INBOX(0, 0, atomic_load(&p->id)));
	T_EQ_INT(atomic_load(&p->trap) + atomic_load(&p->held) + atomic_load(&p->user) + p->flags, 0);
	T_EQ_INT(seg_exit_claim(p, atomic_load(&p->id)), SEG_EXIT_NONE);
	T_EQ_STR(p->label, "");
	T_EQ_INT(atomic_load(&p->own.killing) + atomic_load(&p->own.turn.to), 0);
	seg_destroy(&s);
}

T_CASE(wrong_ids_and_indices_are_nobody)
{
	make(4, 1 << 20);
	T_CHECK(!seg_slot_of(&s, 0));
	T_CHECK(!seg_slot_of(&s, UINT64_MAX));
	T_CHECK(!seg_slot_of(&s, 1ull << 20 | 3)); /* never used */
	T_CHECK(!seg_slot_of(&s, 1ull << 20 | 4)); /* beyond */
	T_CHECK(!seg_slot_of(&s, id_of(0) + (1ull << 20)));
	T_CHECK(!seg_node(&s, 0));
	T_CHECK(!seg_node(&s, UINT32_MAX));
	T_CHECK(!seg_node(&s, (uint32_t)(s.h->bytes / SEG_LINE)));
	T_CHECK(!seg_node(&s, (uint32_t)(s.h->bytes / SEG_LINE) - 1)); /* its data would be outside */
	T_CHECK(seg_node(&s, (uint32_t)(s.h->bytes / SEG_LINE) - 2));
	seg_destroy(&s);
}

/* A node says of itself how long it is; nobody believes more than there is. */
T_CASE(room_of_a_lying_node)
{
	struct seg_node *n;

	make(4, 1 << 20);
	n = (void *)seg_chunk_data(&s, s.h->n_chunks - 1);
	n->class = 0;
	T_EQ_INT(seg_node_room(&s, n), 64);
	n->class = SEG_CLASSES - 1;
	T_EQ_INT(seg_node_room(&s, n), 32768 - 64);
	n->class = SEG_BIG;
	n->chunks = 1;
	T_EQ_INT(seg_node_room(&s, n), 65536 - 64);
	n->chunks = 2;
	T_EQ_INT(seg_node_room(&s, n), 0);
	n->chunks = 0;
	T_EQ_INT(seg_node_room(&s, n), 0);
	n->class = 200;
	T_EQ_INT(seg_node_room(&s, n), 0);
	seg_destroy(&s);
}

T_CASE(chunks_run_out_and_come_back)
{
	bool adopted;
	long c[16];
	int i;

	make(4, 1 << 20);
	for (i = 0; i < 16; i++) {
		c[i] = seg_chunk_claim(&s, 0, 0, 1, &adopted);
		T_CHECK(c[i] >= 0 && !adopted);
	}
	T_CHECK(seg_chunk_claim(&s, 0, 0, 1, &adopted) == -1 && errno == ENOMEM);
	T_CHECK(seg_chunk_claim(&s, 0, SEG_BIG, 1, &adopted) == -1 && errno == ENOMEM);
	atomic_store(&seg_slot(&s, 0)->own.chunks, 0);
	for (i = 0; i < 16; i++)
		seg_chunk_release(&s, (uint32_t)c[i]);
	T_CHECK(seg_chunk_claim(&s, 0, SEG_BIG, 17, &adopted) == -1);
	T_EQ_INT(seg_chunk_claim(&s, 0, SEG_BIG, 16, &adopted), 0);
	seg_destroy(&s);
}

T_CASE(runs_need_neighbours)
{
	uint32_t used, orphans;
	bool adopted;
	long c[16];
	int i;

	make(4, 1 << 20);
	for (i = 0; i < 16; i++)
		c[i] = seg_chunk_claim(&s, 0, 3, 1, &adopted);
	atomic_store(&seg_slot(&s, 0)->own.chunks, 0);
	for (i = 0; i < 16; i += 2)
		seg_chunk_release(&s, (uint32_t)c[i]);
	T_CHECK(seg_chunk_claim(&s, 0, SEG_BIG, 2, &adopted) == -1 && errno == ENOMEM);
	seg_chunk_release(&s, (uint32_t)c[3]);
	T_CHECK(seg_chunk_claim(&s, 0, SEG_BIG, 3, &adopted) >= 0);
	seg_chunks_count(&s, &used, &orphans);
	T_EQ_INT(used, 10);
	T_EQ_INT(orphans, 0);
	seg_destroy(&s);
}

/* What a dead process's messages lie in is used on by the next that needs the size, with them in it. */
T_CASE(orphans_are_adopted)
{
	struct seg_node *n;
	uint32_t a, b, used, orphans;
	bool adopted;
	long c, d;

	make(4, 1 << 20);
	a = alive();
	b = alive();
	c = seg_chunk_claim(&s, a, 2, 1, &adopted);
	T_REQUIRE(c >= 0);
	T_REQUIRE(seg_populate(seg_chunk_data(&s, (uint32_t)c), 4096) == 0);
	s.chunks[c].pages = 1;
	n = (void *)seg_chunk_data(&s, (uint32_t)c);
	n->to = id_of(b); /* under way */
	atomic_store(&n->state, SEG_BUSY);
	seg_chunks_orphan(&s, a);
	seg_slot_release(&s, a);
	seg_chunks_count(&s, &used, &orphans);
	T_EQ_INT(used, 1);
	T_EQ_INT(orphans, 1);
	d = seg_chunk_claim(&s, b, 2, 1, &adopted);
	T_EQ_INT(d, c);
	T_CHECK(adopted);
	T_CHECK(!seg_node_is_free(&s, n));
	seg_destroy(&s);
}

T_CASE(idle_orphans_are_given_back)
{
	struct seg_node *n;
	uint32_t a, b, used, orphans;
	bool adopted;
	long c;

	make(4, 1 << 20);
	a = alive();
	b = alive();
	c = seg_chunk_claim(&s, a, SEG_BIG, 3, &adopted);
	n = (void *)seg_chunk_data(&s, (uint32_t)c);
	n->to = id_of(b);
	atomic_store(&n->state, SEG_BUSY);
	s.chunks[c].pages = 1;
	seg_chunks_orphan(&s, a);
	seg_slot_release(&s, a);
	T_CHECK(!seg_chunks_sweep(&s)); /* b has not read it */
	seg_slot_release(&s, b);
	T_CHECK(seg_chunks_sweep(&s)); /* and never will */
	T_CHECK(!seg_chunks_sweep(&s));
	seg_chunks_count(&s, &used, &orphans);
	T_EQ_INT(used, 0);
	seg_destroy(&s);
}

T_CASE(graves_of_four_generations_differ)
{
	uint64_t id = 1ull << 20 | 5;
	unsigned a = seg_grave_of(id), b = seg_grave_of(id + (2ull << 20)), c = seg_grave_of(id + (4ull << 20)),
		 d = seg_grave_of(id + (6ull << 20));

	T_CHECK(a != b && a != c && a != d && b != c && b != d && c != d);
	T_EQ_INT(seg_grave_of(id + (8ull << 20)), a);
}

/* --- poor machines --- */

T_CASE(little_address_space)
{
#ifndef __SANITIZE_ADDRESS__
	struct rlimit lim = { 1ull << 30, 1ull << 30 };
	struct seg_limits l = { .max_procs = 64, .memory = (size_t)8 << 30 };

	T_REQUIRE(setrlimit(RLIMIT_AS, &lim) == 0);
	s.fd = -1;
	T_REQUIRE(seg_create(&s, &l) == 0);
	T_CHECK(s.h->bytes < (1u << 30));
	seg_destroy(&s);
	l.max_procs = SEG_PROCS_MAX; /* 4 GB of slots */
	T_CHECK(seg_create(&s, &l) < 0 && errno == ENOMEM);
#else
	printf("# not with a sanitizer\n");
#endif
}

T_CASE(no_descriptors)
{
	struct rlimit lim = { 3, 64 };
	struct seg_limits l = { .max_procs = 64, .memory = 1 << 20 };

	T_REQUIRE(setrlimit(RLIMIT_NOFILE, &lim) == 0);
	s.fd = -1;
	T_CHECK(seg_create(&s, &l) < 0 && errno == EMFILE);
	lim.rlim_cur = 64;
	setrlimit(RLIMIT_NOFILE, &lim);
}

/* Free chunks that keep their pages are counted, whatever they are used for next. */
T_CASE(kept_chunks_are_counted)
{
	bool adopted;
	long c[4];
	int i;

	make(4, 1 << 20);
	for (i = 0; i < 4; i++)
		c[i] = seg_chunk_claim(&s, 0, 0, 1, &adopted);
	s.chunks[c[0]].pages = s.chunks[c[1]].pages = s.chunks[c[2]].pages = 1;
	atomic_store(&seg_slot(&s, 0)->own.chunks, 0);
	for (i = 0; i < 4; i++)
		seg_chunk_release(&s, (uint32_t)c[i]);
	T_EQ_INT(atomic_load(&s.h->kept), 3); /* one has had none */
	T_EQ_INT(seg_chunk_claim(&s, 0, 0, 1, &adopted), c[0]);
	T_EQ_INT(atomic_load(&s.h->kept), 2);
	T_EQ_INT(seg_chunk_claim(&s, 0, SEG_BIG, 15, &adopted), c[1]);
	T_EQ_INT(atomic_load(&s.h->kept), 0);
	seg_destroy(&s);
}

T_MAIN(T_RUN(limits_have_defaults), T_RUN(cannot_be_resized), T_RUN(root_is_slot_0), T_RUN(slots_run_out),
    T_RUN(an_id_is_never_used_again), T_RUN(a_new_slot_is_clean), T_RUN(wrong_ids_and_indices_are_nobody),
    T_RUN(room_of_a_lying_node), T_RUN(chunks_run_out_and_come_back), T_RUN(runs_need_neighbours),
    T_RUN(orphans_are_adopted), T_RUN(idle_orphans_are_given_back), T_RUN(graves_of_four_generations_differ),
    T_RUN(little_address_space), T_RUN(no_descriptors), T_RUN(kept_chunks_are_counted))
