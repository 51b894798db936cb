/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A process's own nodes (pool.h): rings of each size, that grow when everything in them is under way, and
 * runs of chunks for what is bigger. Private memory holds only which chunks there are; that is found again
 * in the segment when the process is dead.
 *
 * Regime: allocates as messages need it; what is not to be had is an error of the send.
 */
#include "ipc/pool.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/relax.h"

#define PAGE 4096u
#define CHUNK_PAGES (SEG_CHUNK_BYTES / PAGE)
#define PROBES 8           /* nodes looked at before the ring grows */
#define YIELDS 8           /* half of them short sleeps */
/* Bytes of a ring that a processor still keeps near: growing beyond costs more than waiting. */
#define CACHED (512u * 1024)

static size_t node_size(uint32_t c)
{
	return (size_t)SEG_NODE_SMALL << c;
}

void pool_init(struct pool *p, struct seg *s, uint32_t me)
{
	uint32_t c;

	p->s = s;
	p->me = me;
	p->id = atomic_load(&s->slots[me].id);
	p->bytes = 0;
	p->n_big = 0;
	p->spins = 0;
	for (c = 0; c < SEG_CLASSES; c++) {
		struct pool_ring *r = &p->ring[c];

		r->n = r->in = r->total = r->hasty = 0;
		r->at = r->end = NULL;
		if (c == 0) {
			r->total = SEG_SLOT_NODES;
			r->at = s->slots[me].nodes;
			r->end = r->at + SEG_SLOT_NODES * SEG_NODE_SMALL;
		}
	}
}

static uint32_t class_of(size_t len)
{
	uint32_t c = 0;

	while (c < SEG_CLASSES && len > SEG_NODE_ROOM(c))
		c++;
	return c;
}

/* --- rings --- */

static uint32_t pages_of(const struct pool *p, uint32_t chunk)
{
	uint32_t pages = p->s->chunks[chunk].pages;

	return pages < CHUNK_PAGES ? pages : CHUNK_PAGES;
}

/* The cursor goes to the beginning of chunk[in], or of the slot's own nodes. */
static void go_to(struct pool *p, uint32_t c, uint32_t in)
{
	struct pool_ring *r = &p->ring[c];

	r->in = in;
	if (in == r->n) {
		r->at = c == 0 ? p->s->slots[p->me].nodes : NULL;
		r->end = c == 0 ? r->at + SEG_SLOT_NODES * SEG_NODE_SMALL : NULL;
		return;
	}
	r->at = seg_chunk_data(p->s, r->chunk[in]);
	r->end = r->at + pages_of(p, r->chunk[in]) * PAGE / node_size(c) * node_size(c);
}

/* At the end of a chunk: on to the next one that has any nodes. */
static void go_round(struct pool *p, uint32_t c)
{
	struct pool_ring *r = &p->ring[c];
	uint32_t tries;

	for (tries = 0; r->at == r->end && tries <= r->n + 1; tries++)
		go_to(p, c, r->in >= r->n ? 0 : r->in + 1);
}

static struct seg_node *take(struct pool *p, uint32_t c, struct seg_node *n)
{
	struct pool_ring *r = &p->ring[c];

	atomic_store_explicit(&n->state, SEG_BUSY, memory_order_relaxed);
	atomic_store_explicit(&n->armed, 0, memory_order_relaxed);
	n->class = (uint8_t)c;
	n->to = p->id;
	r->at += node_size(c);
	if (r->hasty)
		r->hasty--;
	return n;
}

static struct seg_node *probe(struct pool *p, uint32_t c, uint32_t probes)
{
	struct pool_ring *r = &p->ring[c];

	while (probes-- > 0) {
		go_round(p, c);
		if (r->at == r->end)
			return NULL;
		if (seg_node_is_free(p->s, (void *)r->at))
			return take(p, c, (void *)r->at);
		r->at += node_size(c);
	}
	return NULL;
}

/* A ring that is as large as a processor keeps near should rather be waited for than grow. Receivers that are awake
 * elsewhere will be done soon, and those that wait for our processor, when they have it. The node that is waited
 * for lies some way ahead, so that then there is room for many: going on one by one would cost both sides a cache
 * line's way for each. Receivers that are busy with something else are not waited for again and again. */
static struct seg_node *wait_for_room(struct pool *p, uint32_t c)
{
	struct pool_ring *r = &p->ring[c];
	size_t ahead;
	struct seg_node *n;
	uint32_t i, k;

	go_round(p, c);
	ahead = (size_t)(r->end - r->at) / node_size(c) / 2;
	n = (void *)(r->at + ahead * node_size(c));
	for (i = 0; i < p->spins; i += 8) {
		if (atomic_load_explicit(&n->state, memory_order_acquire) == SEG_FREE)
			return probe(p, c, 1);
		for (k = 0; k < 8; k++)
			base_relax();
	}
	for (i = 0; i < YIELDS; i++) {
		if (atomic_load_explicit(&n->state, memory_order_acquire) == SEG_FREE)
			return probe(p, c, 1);
		if (i < YIELDS / 2)
			sched_yield();
		else
			nanosleep(&(struct timespec){ .tv_nsec = 50000 }, NULL);
	}
	r->hasty = r->total;
	return NULL;
}

static bool room_for(uint32_t **list, uint32_t n, uint32_t *cap)
{
	uint32_t more = *cap ? *cap * 2 : 8;
	uint32_t *l;

	if (n < *cap)
		return true;
	l = realloc(*list, more * sizeof *l);
	if (!l)
		return false;
	*list = l;
	*cap = more;
	return true;
}

static uint32_t page_step(const struct pool *p, uint32_t c, uint32_t have)
{
	uint32_t least = (uint32_t)(node_size(c) / PAGE), n;

	n = have > least ? have : least;
	if (n == 0)
		n = 1;
	if (p->ring[c].n > 1)
		n = CHUNK_PAGES;
	return n > CHUNK_PAGES - have ? CHUNK_PAGES - have : n;
}

/* --- giving back --- */

/* Out of the list that the reaper would follow, before anybody else can have it. */
static void unlist(struct pool *p, uint32_t c)
{
	struct seg *s = p->s;
	_Atomic uint32_t *link = &s->slots[p->me].own.chunks;
	uint32_t bound = (uint32_t)(s->quota / SEG_CHUNK_BYTES) + 1, at = atomic_load(link);

	for (; at != 0 && at != c + 1 && at <= s->n_chunks && bound > 0; at = atomic_load(link), bound--)
		link = &s->chunks[at - 1].next;
	if (at == c + 1)
		atomic_store(link, atomic_load(&s->chunks[c].next));
}

static void drop_run(struct pool *p, uint32_t at)
{
	uint32_t c = p->big[at], run = p->s->chunks[c].run;

	unlist(p, c);
	p->bytes -= (uint64_t)run * SEG_CHUNK_BYTES;
	p->big[at] = p->big[--p->n_big];
	seg_chunk_release(p->s, c);
}

static bool is_idle(const struct pool *p, uint32_t c, uint32_t chunk)
{
	unsigned char *at = seg_chunk_data(p->s, chunk);
	size_t n = pages_of(p, chunk) * PAGE / node_size(c);

	for (; n > 0; n--, at += node_size(c))
		if (!seg_node_is_free(p->s, (void *)at))
			return false;
	return true;
}

static void trim_ring(struct pool *p, uint32_t c)
{
	struct pool_ring *r = &p->ring[c];
	uint32_t i, chunk;

	for (i = r->n; i-- > 0;) {
		chunk = r->chunk[i];
		if (!is_idle(p, c, chunk))
			continue;
		unlist(p, chunk);
		r->total -= (uint32_t)(pages_of(p, chunk) * PAGE / node_size(c));
		r->chunk[i] = r->chunk[--r->n];
		p->bytes -= SEG_CHUNK_BYTES;
		go_to(p, c, r->n);
		seg_chunk_release(p->s, chunk);
	}
}

void pool_trim(struct pool *p, bool all)
{
	uint32_t i, run, keep = all ? 0 : POOL_KEEP_CHUNKS;

	for (i = p->n_big; i-- > 0;) {
		run = p->s->chunks[p->big[i]].run;
		if (!seg_node_is_free(p->s, (void *)seg_chunk_data(p->s, p->big[i])))
			continue;
		if (run <= keep)
			keep -= run;
		else
			drop_run(p, i);
	}
	for (i = 0; all && i < SEG_CLASSES; i++)
		trim_ring(p, i);
}

/* Whether the quota has room, if need be where only other sizes were. */
static bool quota_allows(struct pool *p, uint64_t bytes)
{
	if (p->bytes + bytes > p->s->quota)
		pool_trim(p, true);
	if (p->bytes + bytes <= p->s->quota)
		return true;
	errno = EAGAIN;
	return false;
}

/* A chunk or run; if there is none, what is idle of our own may be what is missing. */
static long claim(struct pool *p, uint8_t class, uint32_t n, bool *adopted_r)
{
	uint64_t had = p->bytes;
	long c = seg_chunk_claim(p->s, p->me, class, n, adopted_r);

	if (c >= 0)
		return c;
	pool_trim(p, true);
	if (p->bytes < had)
		return seg_chunk_claim(p->s, p->me, class, n, adopted_r);
	errno = ENOMEM;
	return -1;
}

/* --- rings that grow --- */

static int add_chunk(struct pool *p, uint32_t c)
{
	struct pool_ring *r = &p->ring[c];
	bool adopted;
	long chunk;

	if (!quota_allows(p, SEG_CHUNK_BYTES))
		return -1;
	if (!room_for(&r->chunk, r->n, &r->cap)) {
		errno = ENOMEM;
		return -1;
	}
	chunk = claim(p, (uint8_t)c, 1, &adopted);
	if (chunk < 0)
		return -1;
	r->chunk[r->n++] = (uint32_t)chunk;
	p->bytes += SEG_CHUNK_BYTES;
	go_to(p, c, r->n - 1);
	r->total += (uint32_t)((size_t)(r->end - r->at) / node_size(c));
	return 0;
}

/* Asks for more pages of the last chunk, or for a chunk; the cursor goes to what is new. */
static int grow(struct pool *p, uint32_t c)
{
	struct pool_ring *r = &p->ring[c];
	struct seg_chunk *d;
	uint32_t have, more;

	if (r->n == 0 || pages_of(p, r->chunk[r->n - 1]) == CHUNK_PAGES) {
		if (add_chunk(p, c) < 0)
			return -1;
		if (r->at != r->end)
			return 0; /* adopted, with pages */
	}
	d = &p->s->chunks[r->chunk[r->n - 1]];
	have = pages_of(p, r->chunk[r->n - 1]);
	more = page_step(p, c, have);
	if (seg_populate(seg_chunk_data(p->s, r->chunk[r->n - 1]) + (size_t)have * PAGE, (size_t)more * PAGE) < 0)
		return -1;
	d->pages = (uint8_t)(have + more);
	r->total += (uint32_t)(more * PAGE / node_size(c));
	go_to(p, c, r->n - 1);
	r->at += have * PAGE / node_size(c) * node_size(c);
	return 0;
}

static struct seg_node *get_small(struct pool *p, uint32_t c)
{
	struct pool_ring *r = &p->ring[c];
	struct seg_node *n = probe(p, c, 1);
	int err;

	if (n)
		return n;
	if (r->total * node_size(c) >= CACHED && r->hasty == 0 && (n = wait_for_room(p, c)))
		return n;
	n = probe(p, c, r->total < PROBES ? r->total : PROBES);
	if (n)
		return n;
	while (grow(p, c) == 0)
		if ((n = probe(p, c, r->total)))
			return n; /* else a dead process's chunk, in which all is still under way */
	err = errno;
	n = probe(p, c, r->total);
	errno = err;
	return n;
}

/* --- runs --- */

static struct seg_node *get_big(struct pool *p, size_t len)
{
	uint32_t want = (uint32_t)((sizeof(struct seg_node) + len + SEG_CHUNK_BYTES - 1) / SEG_CHUNK_BYTES), i;
	struct seg_node *n;
	bool adopted;
	long c;

	for (i = 0; i < p->n_big; i++) {
		n = (void *)seg_chunk_data(p->s, p->big[i]);
		if (p->s->chunks[p->big[i]].run == want && seg_node_is_free(p->s, n)) {
			n->to = p->id;
			atomic_store_explicit(&n->state, SEG_BUSY, memory_order_relaxed);
			atomic_store_explicit(&n->armed, 0, memory_order_relaxed);
			n->to = p->id;
			return n;
		}
	}
	if ((uint64_t)want * SEG_CHUNK_BYTES > p->s->quota) {
		errno = EMSGSIZE; /* it would be waited for without end */
		return NULL;
	}
	if (!quota_allows(p, (uint64_t)want * SEG_CHUNK_BYTES))
		return NULL;
	if (!room_for(&p->big, p->n_big, &p->cap_big)) {
		errno = ENOMEM;
		return NULL;
	}
	c = claim(p, SEG_BIG, want, &adopted);
	if (c < 0)
		return NULL;
	p->big[p->n_big++] = (uint32_t)c;
	p->bytes += (uint64_t)want * SEG_CHUNK_BYTES;
	n = (void *)seg_chunk_data(p->s, (uint32_t)c);
	if (seg_populate(n, sizeof *n + len) < 0) {
		drop_run(p, p->n_big - 1);
		errno = ENOMEM;
		return NULL;
	}
	n->class = SEG_BIG;
	n->chunks = (uint16_t)want;
	n->to = p->id;
	atomic_store_explicit(&n->armed, 0, memory_order_relaxed);
	atomic_store_explicit(&n->state, SEG_BUSY, memory_order_relaxed);
	p->s->chunks[c].pages = 1;
	return n;
}

struct seg_node *pool_get_slowly(struct pool *p, size_t len)
{
	uint32_t c = class_of(len);

	if (c < SEG_CLASSES)
		return get_small(p, c);
	if (len > (size_t)UINT16_MAX * SEG_CHUNK_BYTES / 2) {
		errno = EMSGSIZE;
		return NULL;
	}
	return get_big(p, len);
}
