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
#include <stdlib.h>
#include <string.h>

#include "base/relax.h"

#define PAGE 4096u
#define CHUNK_PAGES (SEG_CHUNK_BYTES / PAGE)
#define PROBES 8           /* nodes looked at before the ring grows */
#define CACHED (512u * 1024) /* bytes of a ring that a processor still keeps near: growing beyond costs more than waiting */

void pool_init(struct pool *p, struct seg *s, uint32_t me)
{
	uint32_t c;

	p->s = s;
	p->me = me;
	p->bytes = 0;
	p->n_big = 0;
	for (c = 0; c < SEG_CLASSES; c++) {
		struct pool_ring *r = &p->ring[c];

		r->n = r->at = r->node = r->total = 0;
		if (c == 0)
			r->total = SEG_SLOT_NODES;
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

static uint32_t nodes_at(const struct pool *p, uint32_t c, uint32_t at)
{
	const struct pool_ring *r = &p->ring[c];

	if (at == r->n)
		return c == 0 ? SEG_SLOT_NODES : 0;
	return p->s->chunks[r->chunk[at]].pages * PAGE / (SEG_NODE_SMALL << c);
}

static struct seg_node *node_at(const struct pool *p, uint32_t c, uint32_t at, uint32_t i)
{
	const struct pool_ring *r = &p->ring[c];
	unsigned char *base = at == r->n ? p->s->slots[p->me].nodes : seg_chunk_data(p->s, r->chunk[at]);

	return (void *)(base + (size_t)i * (SEG_NODE_SMALL << c));
}

static void advance(struct pool *p, uint32_t c)
{
	struct pool_ring *r = &p->ring[c];

	if (++r->node < nodes_at(p, c, r->at))
		return;
	r->node = 0;
	if (++r->at > r->n || nodes_at(p, c, r->at) == 0)
		r->at = 0;
}

static void take(struct seg_node *n, uint32_t c)
{
	atomic_store_explicit(&n->state, SEG_BUSY, memory_order_relaxed);
	n->class = (uint8_t)c;
}

static struct seg_node *probe(struct pool *p, uint32_t c, uint32_t probes)
{
	struct pool_ring *r = &p->ring[c];
	struct seg_node *n;

	while (probes-- > 0) {
		n = node_at(p, c, r->at, r->node);
		if (seg_node_is_free(p->s, n)) {
			take(n, c);
			advance(p, c);
			__builtin_prefetch(node_at(p, c, r->at, r->node), 1);
			return n;
		}
		advance(p, c);
	}
	return NULL;
}

/* Receivers that are awake elsewhere will be done with the oldest one soon. */
static struct seg_node *wait_for_oldest(struct pool *p, uint32_t c)
{
	struct pool_ring *r = &p->ring[c];
	struct seg_node *n = node_at(p, c, r->at, r->node);
	uint32_t i;

	for (i = 0; i < p->spins; i++) {
		if (atomic_load_explicit(&n->state, memory_order_acquire) == SEG_FREE) {
			take(n, c);
			advance(p, c);
			return n;
		}
		base_relax();
	}
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
	uint32_t least = (SEG_NODE_SMALL << c) / PAGE, n;

	n = have > least ? have : least;
	if (n == 0)
		n = 1;
	if (p->ring[c].n > 1)
		n = CHUNK_PAGES;
	return n > CHUNK_PAGES - have ? CHUNK_PAGES - have : n;
}

/* Asks for more pages of the last chunk, or for a chunk; the cursor goes to what is new. */
static int grow(struct pool *p, uint32_t c)
{
	struct pool_ring *r = &p->ring[c];
	struct seg_chunk *d;
	uint32_t have, more;
	bool adopted;
	long chunk;

	if (r->n == 0 || p->s->chunks[r->chunk[r->n - 1]].pages == CHUNK_PAGES) {
		if (p->bytes + SEG_CHUNK_BYTES > p->s->h->quota) {
			errno = EAGAIN;
			return -1;
		}
		if (!room_for(&r->chunk, r->n, &r->cap)) {
			errno = ENOMEM;
			return -1;
		}
		chunk = seg_chunk_claim(p->s, p->me, (uint8_t)c, 1, &adopted);
		if (chunk < 0)
			return -1;
		if (r->at == r->n)
			r->at++; /* the slot's own nodes come after all chunks */
		r->chunk[r->n++] = (uint32_t)chunk;
		p->bytes += SEG_CHUNK_BYTES;
		have = nodes_at(p, c, r->n - 1);
		r->total += have;
		r->at = r->n - 1;
		r->node = 0;
		if (have > 0)
			return 0;
	}
	d = &p->s->chunks[r->chunk[r->n - 1]];
	have = d->pages;
	more = page_step(p, c, have);
	if (seg_populate(seg_chunk_data(p->s, r->chunk[r->n - 1]) + (size_t)have * PAGE, (size_t)more * PAGE) < 0)
		return -1;
	d->pages = (uint8_t)(have + more);
	r->total += more * PAGE / (SEG_NODE_SMALL << c);
	r->at = r->n - 1;
	r->node = have * PAGE / (SEG_NODE_SMALL << c);
	return 0;
}

static struct seg_node *get_small(struct pool *p, uint32_t c)
{
	struct pool_ring *r = &p->ring[c];
	struct seg_node *n = r->total ? probe(p, c, 1) : NULL;
	int err;

	if (n)
		return n;
	if (p->spins && r->total * (SEG_NODE_SMALL << c) >= CACHED && (n = wait_for_oldest(p, c)))
		return n;
	if (r->total && (n = probe(p, c, r->total < PROBES ? r->total : PROBES)))
		return n;
	if (grow(p, c) == 0)
		return probe(p, c, r->total);
	err = errno;
	n = r->total ? probe(p, c, r->total) : NULL;
	errno = err;
	return n;
}

/* --- runs --- */

static void drop_run(struct pool *p, uint32_t at)
{
	struct seg *s = p->s;
	uint32_t c = p->big[at], run = s->chunks[c].run;
	_Atomic uint32_t *link = &s->slots[p->me].own.chunks;

	/* out of the list that the reaper would follow, before anybody else can have it */
	while (atomic_load(link) != 0 && atomic_load(link) != c + 1)
		link = &s->chunks[atomic_load(link) - 1].next;
	if (atomic_load(link) == c + 1)
		atomic_store(link, atomic_load(&s->chunks[c].next));
	p->bytes -= (uint64_t)run * SEG_CHUNK_BYTES;
	p->big[at] = p->big[--p->n_big];
	seg_chunk_release(s, c);
}

void pool_trim(struct pool *p, bool all)
{
	uint32_t i;

	(void)all;
	for (i = p->n_big; i-- > 0;)
		if (seg_node_is_free(p->s, (void *)seg_chunk_data(p->s, p->big[i])))
			drop_run(p, i);
}

static struct seg_node *get_big(struct pool *p, size_t len)
{
	uint32_t want = (uint32_t)((sizeof(struct seg_node) + len + SEG_CHUNK_BYTES - 1) / SEG_CHUNK_BYTES), i;
	struct seg_node *n;
	bool adopted;
	long c;

	for (i = 0; i < p->n_big; i++) {
		n = (void *)seg_chunk_data(p->s, p->big[i]);
		if (p->s->chunks[p->big[i]].run == want && seg_node_is_free(p->s, n)) {
			atomic_store_explicit(&n->state, SEG_BUSY, memory_order_relaxed);
			return n;
		}
	}
	if (p->bytes + (uint64_t)want * SEG_CHUNK_BYTES > p->s->h->quota) {
		pool_trim(p, false);
		if (p->bytes + (uint64_t)want * SEG_CHUNK_BYTES > p->s->h->quota) {
			errno = EAGAIN;
			return NULL;
		}
	}
	if (!room_for(&p->big, p->n_big, &p->cap_big)) {
		errno = ENOMEM;
		return NULL;
	}
	c = seg_chunk_claim(p->s, p->me, SEG_BIG, want, &adopted);
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
	n->to = atomic_load(&p->s->slots[p->me].id);
	atomic_store_explicit(&n->state, SEG_BUSY, memory_order_relaxed);
	p->s->chunks[c].pages = 1;
	return n;
}

struct seg_node *pool_get(struct pool *p, size_t len)
{
	uint32_t c = class_of(len);

	if (c < SEG_CLASSES) {
		struct seg_node *n = get_small(p, c);

		if (n)
			n->to = atomic_load_explicit(&p->s->slots[p->me].id, memory_order_relaxed);
		return n;
	}
	if (len > (size_t)UINT16_MAX * SEG_CHUNK_BYTES / 2) {
		errno = EMSGSIZE;
		return NULL;
	}
	return get_big(p, len);
}
