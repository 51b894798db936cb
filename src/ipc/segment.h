/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The node's shared memory: one memfd, mapped before the first fork, so that addresses are the same in
 * every process. It holds a table of processes and chunks for messages. Everything in it is
 * found by index; nothing in it is ever locked; what a dead process held is found from its slot.
 *
 * Every word has one writer, or is changed by one atomic operation:
 *
 *   word of a slot      who writes                        who reads         order
 *   state               spawner (claim), reaper, CAS      everybody         acq_rel
 *   id                  spawner before the clone, reaper  everybody         release/acquire
 *   inbox               senders, owner, reaper: CAS       senders, owner    seq_cst
 *   asleep              owner; wakers: exchange           wakers            seq_cst
 *   cpu, held, trap     owner                             everybody         relaxed; trap seq_cst
 *   own.*               owner; its reaper when it is dead reaper            release, one at a time
 *   exit_claim          CAS; exit: the winner             reaper            acq_rel
 *   name, name_serial   namer by its claim, reaper        everybody         see proc/name.c
 *   pids[]              the kernel, at the clone          reaper            -
 *
 *   word of a node      who writes
 *   all but state       the sender until it is pushed, then the receiver, then (it is dead) its reaper
 *   state               BUSY by the owner of the chunk, FREE by whoever is done with it: one release store
 *
 * Regime: seg_create() maps; afterwards chunks are taken as they are needed, and every page is asked for
 * before it is touched, so that a machine without memory gives ENOMEM and never SIGBUS.
 */
#ifndef IPC_SEGMENT_H
#define IPC_SEGMENT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <coppice/exit.h>

#define SEG_LINE 64
#define SEG_SLOT_BYTES 4096
#define SEG_CHUNK_BYTES 65536
#define SEG_SLOT_NODES 16      /* small nodes inside a slot */
#define SEG_PROCS_MAX 1048575u
#define SEG_MAILBOX_MAX 1048575u
#define SEG_CLASSES 9          /* nodes of 128, 256, ... 32768 bytes */
#define SEG_BIG SEG_CLASSES    /* class of a run of chunks that is one node */
#define SEG_NODE_SMALL 128
#define SEG_NAME 64

/* --- nodes --- */

enum seg_node_state { SEG_FREE, SEG_BUSY };

/* A message. Indices count SEG_LINEs from the segment's start; 0 is none. */
struct seg_node {
	uint32_t next;          /* older one in an inbox */
	_Atomic uint32_t state; /* enum seg_node_state */
	uint64_t to;            /* process id; of one that is held: its holder */
	uint64_t from;
	uint64_t ref;
	uint32_t len;           /* of the data behind */
	uint32_t tag;
	_Atomic uint8_t kind;   /* proc's */
	uint8_t class;          /* SEG_BIG: a run */
	uint16_t chunks;        /* of a run */
	uint32_t peer;          /* of a link or monitor: the other half's node */
	uint32_t hnext, hprev;  /* list of those that are held */
	_Atomic uint64_t armed; /* of a timer: its reference while it runs */
};
_Static_assert(sizeof(struct seg_node) == SEG_LINE, "a node's head is a cache line");

#define SEG_NODE_ROOM(class) ((size_t)(SEG_NODE_SMALL << (class)) - sizeof(struct seg_node))

static inline void *seg_node_data(struct seg_node *n)
{
	return n + 1;
}

/* --- slots --- */

enum seg_slot_state {
	SEG_SLOT_FREE,
	SEG_SLOT_EMBRYO, /* claimed; no process yet */
	SEG_SLOT_ALIVE,  /* there is, or is about to be, a process */
	SEG_SLOT_DYING,  /* it is dead, and others are being told */
};

/*
 * An inbox's head: newest node 31 | how many 21 | generation of its process 12. The generation keeps out a sender that
 * was stopped between looking who has the slot and pushing, and goes on when somebody else has it.
 */
#define SEG_CLOSED 0x7fffffffu /* as node: it takes nothing any more */
#define SEG_COUNT_MAX 0x1fffffu /* so many or more */
#define SEG_INBOX(node, count, id) \
	((uint64_t)(node) | (uint64_t)(count) << 31 | ((uint64_t)(id) >> 20 & 0xfff) << 52)
enum seg_asleep { SEG_AWAKE, SEG_ASLEEP_FUTEX, SEG_ASLEEP_POLL };
enum seg_exit_claim { SEG_EXIT_NONE, SEG_EXIT_CLAIMED, SEG_EXIT_OTHER, SEG_EXIT_SELF };

/* What must be said although whoever was saying it died: a node that was being turned round. */
struct seg_turn {
	_Atomic uint64_t to;    /* 0: nothing */
	uint64_t ref;
	uint32_t kind, peer;
};

struct seg_own {
	_Atomic uint32_t intent;   /* slot index + 1 that is being pushed to or woken */
	_Atomic uint32_t taking;   /* newest node of the batch that is being taken in */
	_Atomic uint32_t holding;  /* head of the list of held nodes */
	_Atomic uint32_t spawning; /* slot index + 1 of the embryo being made */
	_Atomic uint32_t chunks;   /* head of the list of own chunks, + 1 */
	_Atomic uint32_t claiming; /* first chunk + 1 that is being claimed, */
	_Atomic uint32_t claiming_n; /* and how many */
	uint32_t pad;
	_Atomic uint64_t killing;  /* process id that an exit signal is about to kill */
	_Atomic uint64_t burying;  /* process id of the dead one that is being buried */
	struct seg_turn turn;
};

#define SEG_GRAVES 4
/* Why a former process of the slot has ended, for those who were talking to it. */
struct seg_grave {
	_Atomic uint64_t id;     /* written last */
	struct cop_exit reason;
};

static inline unsigned seg_grave_of(uint64_t id)
{
	return (unsigned)(id >> 21) % SEG_GRAVES; /* a slot's ids go up by two generations */
}

struct seg_slot {
	/* who: read by all, changes at birth and death only */
	_Alignas(SEG_LINE) _Atomic uint64_t id; /* generation << 20 | index; 0 before the first */
	_Atomic uint64_t state;        /* enum seg_slot_state | claimer's index << 8 */
	uint64_t parent;               /* id of the Unix parent: a supervisor or the root */
	uint64_t starter;              /* id of who spawned it */
	_Atomic uint32_t name_serial;  /* odd: it has a name */
	_Atomic uint32_t trap;         /* traps exits */
	_Atomic uint32_t user;         /* of a partition supervisor: how many; of a partition: which + 1 */
	uint32_t flags;                /* SEG_IS_* */
	_Atomic uint64_t name_claim;   /* id of who is naming it */
	_Atomic uint64_t table;        /* of a registry's partition: where its table is (otp/registry_table.h) */

	/* the mailbox: the receiver's line */
	_Alignas(2 * SEG_LINE) _Atomic uint64_t inbox; /* SEG_INBOX() */
	_Atomic uint32_t asleep;       /* enum seg_asleep; a futex */
	_Atomic uint32_t cpu;          /* where it ran last, + 1 */
	_Atomic uint32_t held;         /* messages taken and not yet received */
	_Atomic uint32_t room;         /* a futex: senders wait for room; bumped */
	_Atomic uint32_t room_wanted;

	_Alignas(2 * SEG_LINE) struct seg_own own;

	_Alignas(2 * SEG_LINE) _Atomic uint32_t exit_claim; /* SEG_EXIT_WORD(): whoever was late means a former process */
	struct cop_exit exit;          /* valid from SEG_EXIT_OTHER on */
	char name[SEG_NAME];
	char label[SEG_NAME];
	struct seg_grave grave[SEG_GRAVES];

	_Alignas(2 * SEG_LINE) unsigned char nodes[SEG_SLOT_NODES * SEG_NODE_SMALL];
};
_Static_assert(sizeof(struct seg_slot) <= SEG_SLOT_BYTES, "a slot is a page");

#define SEG_IS_SUPERVISOR 1u /* it reaps */

/* --- chunks --- */

struct seg_chunk {
	_Atomic uint64_t owner;  /* process id; 0 free */
	_Atomic uint32_t next;   /* in the owner's list, + 1 */
	uint8_t class;           /* SEG_BIG: first of a run */
	uint8_t pages;           /* asked for so far */
	uint16_t run;            /* chunks of the run */
};
_Static_assert(sizeof(struct seg_chunk) == 16, "");

#define SEG_BUCKET_NAMES 14
/* Names, by hash (proc/name.c). */
struct seg_bucket {
	_Alignas(2 * SEG_LINE) _Atomic uint64_t control;
	_Atomic uint64_t entry[SEG_BUCKET_NAMES];
};

struct seg_header {
	uint64_t magic;
	uint64_t bytes;          /* of everything */
	uint32_t max_procs, n_chunks, n_buckets;
	uint32_t mailbox;        /* limit of messages in one */
	uint64_t quota;          /* limit of one sender's memory, bytes */
	uint64_t seed;           /* of the names' hash */
	uint32_t spins;          /* PAUSEs that take as long as it is worth to wait for another processor */
	char name[SEG_NAME];
	_Alignas(2 * SEG_LINE) _Atomic uint32_t slot_hint; /* where to look for a free slot */
	_Atomic uint32_t slot_top;   /* no slot at or above was ever used */
	_Atomic uint32_t chunk_hint; /* no free one, and none of the dead, is much below */
	_Atomic uint32_t kept;       /* free chunks that have pages */
	_Atomic uint32_t ending;     /* no more spawns */
};

/* The segment as this process sees it. What bounds a walk through it is private: nobody can write over it. */
struct seg {
	unsigned char *base;
	uint64_t bytes, quota, seed;
	uint32_t max_procs, n_chunks, n_buckets, mailbox, spins;
	struct seg_header *h;
	struct seg_slot *slots;      /* max_procs, SEG_SLOT_BYTES each */
	_Atomic int32_t *pids;       /* Unix pid by slot; the kernel writes it at the clone */
	struct seg_bucket *buckets;
	struct seg_chunk *chunks;
	uint32_t first_chunk;        /* in SEG_CHUNK_BYTES from base */
	int fd;
};

struct seg_limits {
	const char *name;
	uint32_t max_procs;
	size_t memory;
	size_t quota;
	uint32_t mailbox;
};

/* Makes and maps it; the caller is slot 0, alive. 0, or -1 with errno. */
int seg_create(struct seg *s, const struct seg_limits *limits);
void seg_destroy(struct seg *s);

static inline struct seg_slot *seg_slot(const struct seg *s, uint32_t index)
{
	return &s->slots[index];
}

#define SEG_INDEX(id) ((uint32_t)((id) & 0xfffff))
#define SEG_INDEX_END (1ull << 20) /* above it is the generation */
#define SEG_EXIT_WORD(id, claim) ((uint32_t)((id) >> 20) << 2 | (uint32_t)(claim))

static inline enum seg_exit_claim seg_exit_claim(const struct seg_slot *p, uint64_t id)
{
	uint32_t w = atomic_load(&p->exit_claim);

	return (w & ~3u) == SEG_EXIT_WORD(id, 0) ? (enum seg_exit_claim)(w & 3) : SEG_EXIT_NONE;
}

/* The slot of a process that is (still) that one, or NULL. */
static inline struct seg_slot *seg_slot_of(const struct seg *s, uint64_t id)
{
	uint32_t i = SEG_INDEX(id);
	struct seg_slot *p;

	if (id == 0 || i >= s->max_procs || i >= atomic_load_explicit(&s->h->slot_top, memory_order_acquire))
		return NULL;
	p = &s->slots[i];
	return atomic_load_explicit(&p->id, memory_order_acquire) == id ? p : NULL;
}

static inline bool seg_is_there(const struct seg *s, uint64_t id)
{
	return seg_slot_of(s, id) != NULL;
}

/* A node by an index that may be wrong: NULL if it is outside. */
static inline struct seg_node *seg_node(const struct seg *s, uint32_t index)
{
	if (index == 0 || ((uint64_t)index + 2) * SEG_LINE > s->bytes) /* the smallest has two lines */
		return NULL;
	return (struct seg_node *)(void *)(s->base + (uint64_t)index * SEG_LINE);
}

/* The bytes of data that a node has room for, whatever it says of itself; 0 if it makes no sense. */
static inline size_t seg_node_room(const struct seg *s, const struct seg_node *n)
{
	size_t left = s->bytes - (size_t)((const unsigned char *)n - s->base), room;
	uint8_t class = n->class;

	if (class < SEG_CLASSES)
		room = SEG_NODE_SMALL << class;
	else
		room = class == SEG_BIG ? (size_t)n->chunks * SEG_CHUNK_BYTES : 0;
	return room <= sizeof *n || room > left ? 0 : room - sizeof *n;
}

static inline uint32_t seg_index_of(const struct seg *s, const void *node)
{
	return (uint32_t)((uint64_t)((const unsigned char *)node - s->base) / SEG_LINE);
}

/* Claims a slot for a new process, in the name of slot `me`, which notes it in own.spawning. The slot has a
 * new id, an open empty inbox and nothing else. Its index, or -1 with EAGAIN or ENOMEM. */
long seg_slot_claim(struct seg *s, uint32_t me);
/* Gives it back: nobody may find it any more. Its id is over. */
void seg_slot_release(struct seg *s, uint32_t index);
enum seg_slot_state seg_slot_state(const struct seg *s, uint32_t index);
void seg_slot_set_state(struct seg *s, uint32_t index, enum seg_slot_state state);
/* The slot whose process has this Unix pid; -1. */
long seg_slot_by_pid(const struct seg *s, int pid);

/* Claims n chunks that follow each other for `owner` (slot `me`) as class; n > 1 or SEG_BIG: a run. Its first
 * index, or -1 with ENOMEM. *adopted_r: it was a dead process's, nodes may be busy, and pages are there. */
long seg_chunk_claim(struct seg *s, uint32_t me, uint8_t class, uint32_t n, bool *adopted_r);
/* Gives a chunk or run back to all, and its pages to the system. Not while it is in the owner's list. */
void seg_chunk_release(struct seg *s, uint32_t chunk);
static inline unsigned char *seg_chunk_data(const struct seg *s, uint32_t chunk)
{
	return s->base + (uint64_t)(s->first_chunk + chunk) * SEG_CHUNK_BYTES;
}
/* Asks the system for memory before it is touched. 0 or -1 with ENOMEM. */
int seg_populate(void *at, size_t bytes);
/* Tells whether nobody needs a node any more: it is free, or its receiver is gone. */
bool seg_node_is_free(const struct seg *s, struct seg_node *n);
/* Takes in the chunks of a dead process: those with nothing under way are given back, what it kept for itself included;
 * the rest waits for somebody to adopt it. */
void seg_chunks_orphan(struct seg *s, uint32_t index);

/* Gives back every chunk of the dead that nothing is under way in. True if there were any. */
bool seg_chunks_sweep(struct seg *s);

/* For tests and status: chunks in use, and those whose owner is gone. */
void seg_chunks_count(const struct seg *s, uint32_t *used_r, uint32_t *orphans_r);

#endif
