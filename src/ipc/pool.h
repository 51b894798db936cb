/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A process's own nodes. Its pool goes round in circles: a node is used again when it is found free, and
 * whoever received it frees it by one store. So giving back needs neither a list nor a wake-up, and a
 * death on either side leaves nothing in between: what was sent to a process that is gone is free.
 */
#ifndef IPC_POOL_H
#define IPC_POOL_H

#include "ipc/segment.h"

struct pool_ring {
	unsigned char *at, *end; /* the cursor, and the end of the memory it is going through */
	uint32_t *chunk;     /* own chunks of the class; private memory */
	uint32_t n, cap;
	uint32_t in;         /* the cursor is in chunk[in], or (smallest class, in == n) in the slot itself */
	uint32_t total;      /* nodes in all */
	uint32_t hasty;      /* so many more are taken without waiting for receivers */
};

struct pool {
	struct seg *s;
	uint32_t me;
	uint64_t id;         /* of slot me */
	uint32_t spins;      /* PAUSEs that pool_get() may wait for receivers rather than grow; set by the caller */
	uint64_t bytes;      /* of all chunks */
	struct pool_ring ring[SEG_CLASSES];
	uint32_t *big;       /* runs, by their first chunk */
	uint32_t n_big, cap_big;
};

/* The calling process becomes slot me; what it had of a pool before (its spawner's, in the same memory) is
 * forgotten. */
void pool_init(struct pool *p, struct seg *s, uint32_t me);

/* Takes a node for len bytes; all but its state, class and `to` (the caller) is the caller's to fill. NULL with
 * ENOMEM (the segment is full), EAGAIN (the quota is, until receivers are done) or EMSGSIZE. */
struct seg_node *pool_get_slowly(struct pool *p, size_t len);

static inline struct seg_node *pool_get(struct pool *p, size_t len)
{
	struct pool_ring *r = &p->ring[0];
	struct seg_node *n = (void *)r->at;

	if (__builtin_expect(len > SEG_NODE_ROOM(0) || r->at == r->end ||
	    atomic_load_explicit(&n->state, memory_order_acquire) != SEG_FREE, 0))
		return pool_get_slowly(p, len);
	r->at += SEG_NODE_SMALL;
	__builtin_prefetch(r->at + 2 * SEG_NODE_SMALL, 1);
	atomic_store_explicit(&n->state, SEG_BUSY, memory_order_relaxed);
	atomic_store_explicit(&n->armed, 0, memory_order_relaxed);
	n->class = 0;
	n->to = p->id;
	return n;
}

/* Gives a node back, whoever it belongs to. */
static inline void pool_put(struct seg_node *n)
{
	atomic_store_explicit(&n->state, SEG_FREE, memory_order_release);
}
/* Gives memory back that nothing is in: the runs but for so many chunks, which cost less to keep from one message to
 * the next than to ask for again; and with all every idle run and chunk. */
#define POOL_KEEP_CHUNKS 4
void pool_trim(struct pool *p, bool all);

#endif
