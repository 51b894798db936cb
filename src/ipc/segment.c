/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Making the segment, and who has which part of it (segment.h). Claims are one compare-and-swap, noted
 * beforehand in the claimer's own slot, so that what a killed claimer had claimed is found.
 */
#include "ipc/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fds.h"
#include "base/relax.h"

#define SEG_MAGIC 0x31474553504f43ull /* "COPSEG1" */
#define PAGE 4096u
#define CHUNK_PAGES (SEG_CHUNK_BYTES / PAGE)
#define WORTH_NS 12000 /* of spinning for another processor: a third of what waking it costs */

/* --- memory --- */

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

int seg_populate(void *at, size_t bytes)
{
	unsigned char *p = at;
	size_t before = (uintptr_t)p % PAGE;

	p -= before;
	bytes += before;
	while (madvise(p, bytes, MADV_POPULATE_WRITE) < 0) {
		if (errno == EINTR || errno == EAGAIN)
			continue;
		if (errno == EINVAL)
			return 0; /* before Linux 5.14: it comes when it is touched */
		errno = ENOMEM;
		return -1;
	}
	return 0;
}

static size_t round_up(size_t n, size_t to)
{
	return (n + to - 1) / to * to;
}

static size_t default_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES);
	uint64_t bytes = pages > 0 ? (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE) / 2 : 1u << 30;

	return bytes > (64ull << 30) ? (size_t)(64ull << 30) : (size_t)bytes;
}

/* How many PAUSEs are as long as is worth to wait. */
static uint32_t learn_spins(void)
{
	int64_t t0 = clock_mono_ns(), t;
	uint32_t n = 0;

	do {
		int i;

		for (i = 0; i < 100; i++)
			base_relax();
		n += 100;
		t = clock_mono_ns() - t0;
	} while (t < 200000);
	n = (uint32_t)((uint64_t)n * WORTH_NS / (uint64_t)t);
	return n < 50 ? 50 : n;
}

struct layout {
	size_t slots, pids, buckets, chunks, data, end;
	uint32_t n_chunks, n_buckets;
};

static void lay_out(struct layout *l, const struct seg_limits *lim)
{
	l->n_buckets = lim->max_procs / 4 + 16;
	l->n_chunks = (uint32_t)(lim->memory / SEG_CHUNK_BYTES);
	l->slots = round_up(sizeof(struct seg_header), PAGE);
	l->pids = l->slots + (size_t)lim->max_procs * SEG_SLOT_BYTES;
	l->buckets = round_up(l->pids + lim->max_procs * sizeof(int32_t), PAGE);
	l->chunks = round_up(l->buckets + l->n_buckets * sizeof(struct seg_bucket), PAGE);
	l->data = round_up(l->chunks + l->n_chunks * sizeof(struct seg_chunk), SEG_CHUNK_BYTES);
	l->end = l->data + (size_t)l->n_chunks * SEG_CHUNK_BYTES;
}

/* A limit for the sizes of files is one for this, too; it must not kill the caller. */
static int set_size(int fd, size_t bytes)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN }, old;
	int r;

	sigaction(SIGXFSZ, &ignore, &old);
	r = ftruncate(fd, (off_t)bytes);
	if (r < 0 && errno == EFBIG)
		errno = ENOMEM;
	sigaction(SIGXFSZ, &old, NULL);
	return r;
}

static int open_memfd(size_t bytes)
{
	int fd = memfd_create("coppice", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0)
		return -1;
	if (set_size(fd, bytes) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
		fds_close(&fd);
		return -1;
	}
	fds_lift(&fd);
	return fd;
}

/* A smaller one is better than none where address space is limited. */
static int map(struct seg *s, struct layout *l, struct seg_limits *lim)
{
	void *at;

	for (;;) {
		lay_out(l, lim);
		s->fd = open_memfd(l->end);
		if (s->fd < 0)
			return -1;
		at = mmap(NULL, l->end, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, s->fd, 0);
		if (at != MAP_FAILED)
			break;
		fds_close(&s->fd);
		if (lim->memory <= (8u << 20))
			return -1;
		lim->memory /= 2;
	}
	(void)madvise(at, l->end, MADV_DONTDUMP);
	s->base = at;
	s->bytes = l->end;
	return 0;
}

static void random_bytes(void *buf, size_t n)
{
	arc4random_buf(buf, n);
}

static void learn_bounds(struct seg *s)
{
	s->bytes = s->h->bytes;
	s->quota = s->h->quota;
	s->seed = s->h->seed;
	s->max_procs = s->h->max_procs;
	s->n_chunks = s->h->n_chunks;
	s->n_buckets = s->h->n_buckets;
	s->mailbox = s->h->mailbox;
	s->spins = s->h->spins;
}

int seg_create(struct seg *s, const struct seg_limits *limits)
{
	struct seg_limits lim = *limits;
	struct layout l;

	if (lim.max_procs == 0)
		lim.max_procs = 65536;
	if (lim.max_procs > SEG_PROCS_MAX)
		lim.max_procs = SEG_PROCS_MAX;
	if (lim.memory == 0)
		lim.memory = default_memory();
	if (lim.memory < (1u << 20))
		lim.memory = 1u << 20;
	if (lim.quota > 0 && lim.quota < SEG_CHUNK_BYTES)
		lim.quota = SEG_CHUNK_BYTES;
	if (map(s, &l, &lim) < 0)
		return -1;
	s->h = (void *)s->base;
	s->slots = (void *)(s->base + l.slots);
	s->pids = (void *)(s->base + l.pids);
	s->buckets = (void *)(s->base + l.buckets);
	s->chunks = (void *)(s->base + l.chunks);
	s->first_chunk = (uint32_t)(l.data / SEG_CHUNK_BYTES);
	if (seg_populate(s->base, PAGE) < 0 || seg_populate(s->slots, PAGE) < 0) {
		seg_destroy(s);
		return -1;
	}
	*s->h = (struct seg_header){
		.magic = SEG_MAGIC, .bytes = l.end, .max_procs = lim.max_procs, .n_chunks = l.n_chunks,
		.n_buckets = l.n_buckets, .quota = lim.quota ? lim.quota : (size_t)256 << 20,
		.mailbox = lim.mailbox && lim.mailbox < SEG_MAILBOX_MAX ? lim.mailbox : SEG_MAILBOX_MAX,
		.spins = learn_spins(),
	};
	random_bytes(&s->h->seed, sizeof s->h->seed);
	learn_bounds(s);
	snprintf(s->h->name, sizeof s->h->name, "%s", lim.name ? lim.name : "");
	atomic_store(&s->h->slot_top, 1);
	atomic_store(&s->h->slot_hint, 1);
	atomic_store(&s->slots[0].exit_claim, SEG_EXIT_WORD(1ull << 20, SEG_EXIT_NONE));
	atomic_store(&s->slots[0].id, 1ull << 20);
	atomic_store(&s->slots[0].inbox, SEG_INBOX(0, 0, 1ull << 20));
	atomic_store(&s->pids[0], (int32_t)getpid());
	seg_slot_set_state(s, 0, SEG_SLOT_ALIVE);
	s->slots[0].flags = SEG_IS_SUPERVISOR;
	fds_close(&s->fd); /* the mapping is enough, and no process keeps a number that it does not know */
	return 0;
}

void seg_destroy(struct seg *s)
{
	if (s->base)
		munmap(s->base, s->bytes);
	fds_close(&s->fd);
	s->base = NULL;
	s->h = NULL;
}

/* --- slots --- */

enum seg_slot_state seg_slot_state(const struct seg *s, uint32_t index)
{
	return (enum seg_slot_state)(atomic_load(&s->slots[index].state) & 0xff);
}

void seg_slot_set_state(struct seg *s, uint32_t index, enum seg_slot_state state)
{
	atomic_store(&s->slots[index].state, (uint64_t)state);
}

/* Everything of a former process is gone but the nodes, some of which may still be read by others. */
static void slot_renew(struct seg *s, uint32_t i)
{
	struct seg_slot *p = &s->slots[i];
	uint64_t id = atomic_load(&p->id);

	atomic_store(&s->pids[i], 0);
	atomic_store(&p->inbox, SEG_INBOX(SEG_CLOSED, 0, 0));
	atomic_store(&p->asleep, SEG_AWAKE);
	atomic_store(&p->held, 0);
	atomic_store(&p->cpu, 0);
	atomic_store(&p->trap, 0);
	atomic_store(&p->user, 0);
	atomic_store(&p->table, 0);
	p->flags = 0;
	p->label[0] = '\0';
	memset(&p->own, 0, sizeof p->own);
	id = (((id >> 20) + 1) << 20) | i;
	atomic_store(&p->exit_claim, SEG_EXIT_WORD(id, SEG_EXIT_NONE));
	atomic_store(&p->id, id);
	atomic_store(&p->inbox, SEG_INBOX(0, 0, id));
}

/* Raises the mark below which slots are looked at. */
static void raise_top(struct seg *s, uint32_t to)
{
	uint32_t top = atomic_load(&s->h->slot_top);

	while (top < to && !atomic_compare_exchange_weak(&s->h->slot_top, &top, to))
		;
}

long seg_slot_claim(struct seg *s, uint32_t me)
{
	struct seg_own *own = &s->slots[me].own;
	uint32_t n = s->max_procs, hint = atomic_load(&s->h->slot_hint), k, i;

	for (k = 0; k < n; k++) {
		uint64_t want = SEG_SLOT_FREE;

		i = (hint + k) % n;
		if (i >= atomic_load(&s->h->slot_top) && seg_populate(&s->slots[i], sizeof s->slots[i]) < 0)
			return -1;
		if (i == 0 || (atomic_load_explicit(&s->slots[i].state, memory_order_relaxed) & 0xff) != SEG_SLOT_FREE)
			continue;
		atomic_store(&own->spawning, i + 1);
		if (!atomic_compare_exchange_strong(&s->slots[i].state, &want, SEG_SLOT_EMBRYO | (uint64_t)me << 8)) {
			atomic_store(&own->spawning, 0);
			continue;
		}
		raise_top(s, i + 1);
		slot_renew(s, i);
		atomic_store_explicit(&s->h->slot_hint, i + 1, memory_order_relaxed);
		return (long)i;
	}
	errno = EAGAIN;
	return -1;
}

void seg_slot_release(struct seg *s, uint32_t index)
{
	struct seg_slot *p = &s->slots[index];
	uint64_t id = atomic_load(&p->id);

	atomic_store(&s->pids[index], 0);
	atomic_store(&p->inbox, SEG_INBOX(SEG_CLOSED, 0, 0));
	atomic_store(&p->id, (((id >> 20) + 1) << 20) | index); /* the old one is over */
	seg_slot_set_state(s, index, SEG_SLOT_FREE);
	if (index < atomic_load(&s->h->slot_hint))
		atomic_store_explicit(&s->h->slot_hint, index, memory_order_relaxed);
}

long seg_slot_by_pid(const struct seg *s, int pid)
{
	uint32_t i, top = atomic_load(&s->h->slot_top);

	if (top > s->max_procs)
		top = s->max_procs;
	for (i = 0; i < top; i++)
		if (atomic_load_explicit(&s->pids[i], memory_order_relaxed) == pid && seg_slot_state(s, i) != SEG_SLOT_FREE)
			return (long)i;
	return -1;
}

/* --- chunks --- */

/* Its receiver is gone, but who was sending it there (a reply, in the asker's node; or as a reaper) may be in the
 * middle of that, and touch it again. */
static bool is_being_pushed(const struct seg *s, const struct seg_node *n, uint64_t to)
{
	uint64_t from = __atomic_load_n(&n->from, __ATOMIC_RELAXED);
	struct seg_slot *p = seg_slot_of(s, from);

	return p && (atomic_load(&p->own.intent) == SEG_INDEX(to) + 1 ||
	    seg_slot_state(s, SEG_INDEX(from)) == SEG_SLOT_DYING);
}

bool seg_node_is_free(const struct seg *s, struct seg_node *n)
{
	uint64_t to;

	if (atomic_load_explicit(&n->state, memory_order_acquire) == SEG_FREE)
		return true;
	/* A reaper may hand it on, and then be done with who held it, between the two looks. */
	do {
		to = __atomic_load_n(&n->to, __ATOMIC_ACQUIRE);
		if (seg_is_there(s, to) || is_being_pushed(s, n, to))
			return false;
	} while (__atomic_load_n(&n->to, __ATOMIC_RELAXED) != to);
	return true;
}

/* Tells whether nothing in a chunk (or run) is under way; what is the process `dead`'s own is not. What a chunk says of
 * itself is anybody's writing. */
static bool chunk_is_idle(const struct seg *s, uint32_t c, uint64_t dead)
{
	uint32_t class = s->chunks[c].class, pages = s->chunks[c].pages, bytes, i, n;
	struct seg_node *node;

	if (pages == 0)
		return true;
	if (class > SEG_BIG || pages > CHUNK_PAGES)
		return false;
	bytes = class == SEG_BIG ? SEG_CHUNK_BYTES : SEG_NODE_SMALL << class;
	n = class == SEG_BIG ? 1 : pages * PAGE / bytes;
	for (i = 0; i < n; i++) {
		node = (void *)(seg_chunk_data(s, c) + (size_t)i * bytes);
		if (__atomic_load_n(&node->to, __ATOMIC_RELAXED) != dead && !seg_node_is_free(s, node))
			return false;
	}
	return true;
}

/* So many free chunks keep their pages for the next one that needs their size. */
#define KEEP_MAX 512u

static void drop_pages(struct seg *s, uint32_t c, uint32_t n)
{
	(void)madvise(seg_chunk_data(s, c), (size_t)n * SEG_CHUNK_BYTES, MADV_REMOVE);
	s->chunks[c].pages = 0;
}

static void hint_at(struct seg *s, uint32_t c)
{
	if (c < atomic_load_explicit(&s->h->chunk_hint, memory_order_relaxed))
		atomic_store_explicit(&s->h->chunk_hint, c, memory_order_relaxed);
}

void seg_chunk_release(struct seg *s, uint32_t c)
{
	struct seg_chunk *d = &s->chunks[c];
	uint32_t i, n = d->class == SEG_BIG && d->run > 0 ? d->run : 1;

	if (n > s->n_chunks - c)
		n = 1;
	if (d->class == SEG_BIG || atomic_load_explicit(&s->h->kept, memory_order_relaxed) >= KEEP_MAX)
		drop_pages(s, c, n);
	else if (d->pages > 0)
		atomic_fetch_add_explicit(&s->h->kept, 1, memory_order_relaxed);
	for (i = n; i-- > 0;) /* the first one last: it knows how many there are */
		atomic_store(&s->chunks[c + i].owner, 0);
	hint_at(s, c);
}

/* One that was kept is in use again. A rough count will do. */
static void unkeep(struct seg *s)
{
	uint32_t kept = atomic_load_explicit(&s->h->kept, memory_order_relaxed);

	while (kept > 0 && kept <= KEEP_MAX && !atomic_compare_exchange_weak(&s->h->kept, &kept, kept - 1))
		;
}

/* A chunk that was just claimed from nobody: what it holds is of use only for its old size, and free then. */
static void renew_chunk(struct seg *s, uint32_t c, uint8_t class)
{
	struct seg_chunk *d = &s->chunks[c];

	if (d->pages > 0) {
		unkeep(s);
		if (d->class != class)
			drop_pages(s, c, 1);
	}
	d->class = class;
	d->run = 1;
}

/* One that nobody has, or that a dead process had and that fits, or that is idle by now. */
static bool take_chunk(struct seg *s, uint32_t c, uint64_t owner, uint8_t class, bool *adopted_r)
{
	struct seg_chunk *d = &s->chunks[c];
	uint64_t had = atomic_load(&d->owner);

	*adopted_r = false;
	if (had != 0) {
		if (had == owner || class == SEG_BIG || seg_is_there(s, had) || d->class == SEG_BIG)
			return false;
		*adopted_r = d->class == class;
		if (!*adopted_r && !chunk_is_idle(s, c, 0))
			return false;
	}
	return atomic_compare_exchange_strong(&d->owner, &had, owner);
}

static void list_chunk(struct seg *s, struct seg_own *own, uint32_t c)
{
	atomic_store(&s->chunks[c].next, atomic_load(&own->chunks));
	atomic_store(&own->chunks, c + 1);
	atomic_store(&own->claiming, 0);
}

static void note_claim(struct seg_own *own, uint32_t c, uint32_t n)
{
	atomic_store(&own->claiming_n, n);
	atomic_store(&own->claiming, c + 1);
}

static long claim_run(struct seg *s, uint32_t me, uint32_t c, uint32_t n)
{
	struct seg_own *own = &s->slots[me].own;
	uint64_t owner = atomic_load(&s->slots[me].id), none;
	uint32_t i;

	note_claim(own, c, n);
	for (i = 0; i < n; i++) {
		none = 0;
		if (!atomic_compare_exchange_strong(&s->chunks[c + i].owner, &none, owner))
			break;
	}
	if (i == n) {
		for (i = 0; i < n; i++) {
			if (s->chunks[c + i].pages > 0)
				unkeep(s);
			s->chunks[c + i].class = SEG_BIG;
			s->chunks[c + i].run = i == 0 ? (uint16_t)n : 0; /* 0: not the first */
			s->chunks[c + i].pages = 0;
		}
		list_chunk(s, own, c);
		return (long)c;
	}
	while (i-- > 0)
		atomic_store(&s->chunks[c + i].owner, 0);
	atomic_store(&own->claiming, 0);
	return -1;
}

static long claim_big(struct seg *s, uint32_t me, uint32_t n)
{
	uint32_t c, free_n = 0;
	long got;

	for (c = 0; c < s->n_chunks; c++) {
		if (atomic_load(&s->chunks[c].owner) != 0) {
			free_n = 0;
			continue;
		}
		if (++free_n < n)
			continue;
		got = claim_run(s, me, c + 1 - n, n);
		if (got >= 0)
			return got;
		free_n = 0;
	}
	errno = ENOMEM;
	return -1;
}

/* Runs and idle chunks that the dead have left are looked for only when nothing else is to be had. */
bool seg_chunks_sweep(struct seg *s)
{
	uint32_t c, n = 0;

	for (c = 0; c < s->n_chunks; c++) {
		uint64_t had = atomic_load(&s->chunks[c].owner), was = had;

		if (had == 0 || seg_is_there(s, had) || (s->chunks[c].class == SEG_BIG && s->chunks[c].run == 0) ||
		    !chunk_is_idle(s, c, 0))
			continue;
		/* Taken over by an id that is nobody's, but this sweeper's own: two do not both release it, and from one
		 * that dies here it is taken again. */
		if (!atomic_compare_exchange_strong(&s->chunks[c].owner, &was, UINT64_MAX - ((uint64_t)getpid() << 20)))
			continue;
		seg_chunk_release(s, c);
		n++;
	}
	return n > 0;
}

long seg_chunk_claim(struct seg *s, uint32_t me, uint8_t class, uint32_t n, bool *adopted_r)
{
	struct seg_own *own = &s->slots[me].own;
	uint64_t owner = atomic_load(&s->slots[me].id);
	uint32_t hint = atomic_load(&s->h->chunk_hint), k, c;
	long got;
	int round;

	*adopted_r = false;
	for (round = 0; round < 2; round++) {
		if (class == SEG_BIG) {
			got = claim_big(s, me, n);
			if (got >= 0)
				return got;
		}
		for (k = 0; class != SEG_BIG && k < s->n_chunks; k++) {
			c = (hint + k) % s->n_chunks;
			note_claim(own, c, 1);
			if (!take_chunk(s, c, owner, class, adopted_r)) {
				atomic_store(&own->claiming, 0);
				continue;
			}
			if (!*adopted_r)
				renew_chunk(s, c, class);
			list_chunk(s, own, c);
			atomic_store_explicit(&s->h->chunk_hint, c + 1, memory_order_relaxed);
			return (long)c;
		}
		if (round == 0 && !seg_chunks_sweep(s))
			break;
	}
	errno = ENOMEM;
	return -1;
}

/* A claim that its claimer's death interrupted: what it got is given back. */
static void undo_claim(struct seg *s, struct seg_own *own, uint64_t id)
{
	uint32_t c = atomic_load(&own->claiming), n = atomic_load(&own->claiming_n), i;

	if (c == 0 || --c >= s->n_chunks || n > s->n_chunks - c)
		return;
	if (atomic_load(&own->chunks) != c + 1)
		for (i = 0; i < n; i++)
			if (atomic_load(&s->chunks[c + i].owner) == id && n > 1)
				atomic_store(&s->chunks[c + i].owner, 0);
	/* A single one that was adopted, maybe with messages in it, stays an orphan; a new one may have the marks of a
	 * former use, with which nobody would adopt it. */
	if (n == 1 && atomic_load(&own->chunks) != c + 1 && s->chunks[c].pages == 0) {
		uint64_t had = id;

		(void)atomic_compare_exchange_strong(&s->chunks[c].owner, &had, 0);
	}
	atomic_store(&own->claiming, 0);
}

void seg_chunks_orphan(struct seg *s, uint32_t index)
{
	struct seg_own *own = &s->slots[index].own;
	uint64_t id = atomic_load(&s->slots[index].id);
	uint32_t c, next, bound = (uint32_t)(s->quota / SEG_CHUNK_BYTES) + 1;

	undo_claim(s, own, id);
	for (c = atomic_load(&own->chunks); c != 0 && c <= s->n_chunks && bound-- > 0; c = next) {
		next = atomic_load(&s->chunks[c - 1].next);
		atomic_store(&own->chunks, next);
		if (atomic_load(&s->chunks[c - 1].owner) != id)
			continue;
		if (chunk_is_idle(s, c - 1, id))
			seg_chunk_release(s, c - 1);
		else
			hint_at(s, c - 1); /* to be adopted by whoever next needs a chunk */
	}
}

void seg_chunks_count(const struct seg *s, uint32_t *used_r, uint32_t *orphans_r)
{
	uint32_t c, used = 0, orphans = 0;

	for (c = 0; c < s->n_chunks; c++) {
		uint64_t owner = atomic_load(&s->chunks[c].owner);

		used += owner != 0;
		orphans += owner != 0 && !seg_is_there(s, owner);
	}
	*used_r = used;
	*orphans_r = orphans;
}
