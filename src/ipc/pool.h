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
	uint32_t *chunk;     /* own chunks of the class; private memory */
	uint32_t n, cap;
	uint32_t at;         /* the cursor: in chunk[at], or (smallest class, at == n) in the slot itself; */
	uint32_t node;       /* the next node there */
	uint32_t total;      /* nodes in all */
};

struct pool {
	struct seg *s;
	uint32_t me;
	uint32_t spins;      /* how long pool_get() may wait for receivers rather than grow; set by the caller */
	uint64_t bytes;      /* of all chunks */
	struct pool_ring ring[SEG_CLASSES];
	uint32_t *big;       /* runs, by their first chunk */
	uint32_t n_big, cap_big;
};

/* The calling process becomes slot me; what it had of a pool before (its spawner's, in the same memory) is
 * forgotten. */
void pool_init(struct pool *p, struct seg *s, uint32_t me);

/* Takes a node for len bytes; to, kind and all else are the caller's to fill, state is BUSY. NULL with ENOMEM
 * (the segment is full), EAGAIN (the quota is, until receivers are done) or EMSGSIZE. */
struct seg_node *pool_get(struct pool *p, size_t len);
/* Gives a node back, whoever it belongs to. */
static inline void pool_put(struct seg_node *n)
{
	atomic_store_explicit(&n->state, SEG_FREE, memory_order_release);
}
/* Gives memory back that nothing is in: the runs, and with all every idle chunk. */
void pool_trim(struct pool *p, bool all);

#endif
