/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Registered names: a table in the segment that is read without writing, and changed without locks.
 *
 * A name's text is in its process's slot, with a serial number that is odd while the name counts. A bucket's
 * entry is (slot, serial): it counts as long as the slot's serial is that one. So a name is given up, by its
 * process or its reaper, by one store, and dead entries are simply room.
 *
 * Two that want the same name meet in the bucket's control word: a registration is the one compare-and-swap
 * that turns an idle control, unchanged since the bucket was looked through, into "slot goes to place k".
 * Whoever meets such a word finishes it first, so a death or a stop in the middle delays nobody.
 *
 *   control: version 23 | serial 16 | slot 20 | place 4 | busy 1
 *   entry:   serial 32 | slot 20 | one bit that says: this is an entry
 *
 * The text and the serial of a slot are written by who holds its name_claim; a claim is taken by
 * compare-and-swap from none, or from a process that is gone.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "proc/proc.h"

#define BUSY 1ull
#define PLACE(c) ((uint32_t)((c) >> 1) & 0xf)
#define SLOT(c) ((uint32_t)((c) >> 5) & 0xfffff)
#define SERIAL16(c) ((uint32_t)((c) >> 25) & 0xffff)
#define VERSION(c) ((c) >> 41)
#define CONTROL(version, serial, slot, place) \
	((uint64_t)(version) << 41 | (uint64_t)((serial) & 0xffff) << 25 | (uint64_t)(slot) << 5 | \
	    (uint64_t)(place) << 1 | BUSY)
#define IDLE(version) ((uint64_t)(version) << 41)
#define ENTRY(serial, slot) ((uint64_t)(serial) << 32 | (uint64_t)(slot) << 1 | 1)
#define ENTRY_SLOT(e) ((uint32_t)((e) >> 1) & 0xfffff)
#define ENTRY_SERIAL(e) ((uint32_t)((e) >> 32))

static struct seg_bucket *bucket_of(const char *name)
{
	uint64_t h = proc.seg.seed ^ 0xcbf29ce484222325ull;

	for (; *name; name++)
		h = (h ^ (unsigned char)*name) * 0x100000001b3ull;
	h ^= h >> 32;
	return &proc.seg.buckets[h % proc.seg.n_buckets];
}

static bool is_name(const char *name)
{
	size_t i;

	for (i = 0; name[i]; i++)
		if ((unsigned char)name[i] < ' ' || name[i] == 127 || i >= SEG_NAME - 1)
			return false;
	return i > 0;
}

/* The slot that an entry stands for, if it counts. */
static struct seg_slot *slot_of_entry(uint64_t e)
{
	struct seg_slot *p;

	if (!(e & 1) || ENTRY_SLOT(e) >= proc.seg.max_procs || ENTRY_SLOT(e) >= atomic_load(&proc.seg.h->slot_top))
		return NULL;
	p = &proc.seg.slots[ENTRY_SLOT(e)];
	return atomic_load(&p->name_serial) == ENTRY_SERIAL(e) && (ENTRY_SERIAL(e) & 1) ? p : NULL;
}

/* Finishes what the control word says is under way. */
static void help(struct seg_bucket *b, uint64_t control)
{
	_Atomic uint64_t *place = &b->entry[PLACE(control) % SEG_BUCKET_NAMES];
	uint32_t slot = SLOT(control), serial;

	if (slot < proc.seg.max_procs) {
		serial = atomic_load(&proc.seg.slots[slot].name_serial);
		if ((serial & 0xffff) == SERIAL16(control)) {
			uint64_t e = atomic_load(place);

			while (e != ENTRY(serial, slot) && atomic_load(&b->control) == control && !slot_of_entry(e) &&
			    !atomic_compare_exchange_weak(place, &e, ENTRY(serial, slot)))
				;
		}
	}
	(void)atomic_compare_exchange_strong(&b->control, &control, IDLE(VERSION(control) + 1));
}

static uint64_t settled(struct seg_bucket *b)
{
	uint64_t control;

	while ((control = atomic_load(&b->control)) & BUSY)
		help(b, control);
	return control;
}

/* Who has the name, and by which entry: 0 nobody. place_r: room for an entry, or -1. */
static uint64_t look(struct seg_bucket *b, const char *name, int *place_r, uint64_t *entry_r)
{
	int k;

	*place_r = -1;
	for (k = 0; k < SEG_BUCKET_NAMES; k++) {
		uint64_t e = atomic_load(&b->entry[k]), id;
		struct seg_slot *p = slot_of_entry(e);

		if (!p) {
			if (*place_r < 0)
				*place_r = k;
			continue;
		}
		id = atomic_load(&p->id);
		if (strncmp(p->name, name, SEG_NAME) == 0 && slot_of_entry(e) == p && atomic_load(&p->id) == id) {
			*entry_r = e;
			return id;
		}
	}
	return 0;
}

static uint64_t find(const char *name, uint64_t *entry_r)
{
	struct seg_bucket *b;
	int place;

	PROC_REQUIRE();
	if (!name || !is_name(name))
		return 0;
	b = bucket_of(name);
	(void)settled(b);
	return look(b, name, &place, entry_r);
}

cop_pid cop_whereis(const char *name)
{
	uint64_t entry;

	return (cop_pid){ find(name, &entry) };
}

static int enter(struct seg_slot *p, const char *name, uint32_t serial)
{
	struct seg_bucket *b = bucket_of(name);
	uint64_t control, busy, entry;
	int place;

	for (;;) {
		control = settled(b);
		if (look(b, name, &place, &entry)) {
			errno = EEXIST;
			return -1;
		}
		if (place < 0) {
			errno = ENOSPC;
			return -1;
		}
		busy = CONTROL(VERSION(control) + 1, serial, SEG_INDEX(atomic_load(&p->id)), place);
		/* The text counts from here on: look() skips it until the entry is there. */
		if (atomic_compare_exchange_strong(&b->control, &control, busy)) {
			help(b, busy);
			return 0;
		}
	}
}

static bool claim(struct seg_slot *p)
{
	uint64_t had = atomic_load(&p->name_claim);

	if (had != 0 && had != proc.id && seg_is_there(&proc.seg, had))
		return false;
	return atomic_compare_exchange_strong(&p->name_claim, &had, proc.id);
}

/* Whoever was naming it died in the middle: it has the name or not, as far as that one came. */
static void settle_claim(struct seg_slot *p, cop_pid pid)
{
	uint64_t had = atomic_load(&p->name_claim);
	uint32_t serial = atomic_load(&p->name_serial);
	char name[COP_NAME_MAX];

	if (had == 0 || seg_is_there(&proc.seg, had))
		return;
	if ((serial & 1) && cop_whereis(cop_name_of(pid, name)).id != pid.id)
		(void)atomic_compare_exchange_strong(&p->name_serial, &serial, serial + 1);
}

static int give_up(struct seg_slot *p, int err)
{
	atomic_store(&p->name_claim, 0);
	errno = err;
	return -1;
}

int cop_register(const char *name, cop_pid pid)
{
	struct seg_slot *p;
	uint32_t serial, was;

	PROC_REQUIRE();
	if (!name || !is_name(name)) {
		errno = EINVAL;
		return -1;
	}
	p = seg_slot_of(&proc.seg, pid.id);
	if (!p || seg_slot_state(&proc.seg, SEG_INDEX(pid.id)) != SEG_SLOT_ALIVE) {
		errno = ESRCH;
		return -1;
	}
	settle_claim(p, pid);
	if (!claim(p)) {
		errno = EBUSY;
		return -1;
	}
	/* The serial is read before it is seen that the process lives: its death changes it, and so what we do here. */
	serial = atomic_load(&p->name_serial);
	if (serial & 1)
		return give_up(p, EBUSY);
	if (seg_slot_state(&proc.seg, SEG_INDEX(pid.id)) != SEG_SLOT_ALIVE || !seg_is_there(&proc.seg, pid.id))
		return give_up(p, ESRCH);
	memset(p->name, 0, sizeof p->name);
	memcpy(p->name, name, strlen(name));
	was = serial;
	if (!atomic_compare_exchange_strong(&p->name_serial, &was, serial + 1))
		return give_up(p, ESRCH);
	if (enter(p, name, serial + 1) < 0) {
		int err = errno;

		was = serial + 1;
		(void)atomic_compare_exchange_strong(&p->name_serial, &was, serial + 2);
		return give_up(p, err);
	}
	atomic_store(&p->name_claim, 0);
	return 0;
}

void proc_unname(uint32_t slot)
{
	struct seg_slot *p = &proc.seg.slots[slot];
	uint32_t serial = atomic_load(&p->name_serial);

	/* Also if it has none: who is just giving it one finds that the serial is another. */
	while (!atomic_compare_exchange_strong(&p->name_serial, &serial, (serial + 2) & ~1u))
		;
}

int cop_unregister(const char *name)
{
	uint64_t entry;
	uint32_t serial;

	if (find(name, &entry) == 0) {
		errno = ENOENT;
		return -1;
	}
	/* That entry, and no other name that the slot may have got since. */
	serial = ENTRY_SERIAL(entry);
	(void)atomic_compare_exchange_strong(&proc.seg.slots[ENTRY_SLOT(entry)].name_serial, &serial, serial + 1);
	return 0;
}

const char *cop_name_of(cop_pid pid, char buf[COP_NAME_MAX])
{
	struct seg_slot *p;

	PROC_REQUIRE();
	p = seg_slot_of(&proc.seg, pid.id);
	buf[0] = '\0';
	if (p && (atomic_load(&p->name_serial) & 1)) {
		memcpy(buf, p->name, COP_NAME_MAX);
		buf[COP_NAME_MAX - 1] = '\0';
		if (!seg_is_there(&proc.seg, pid.id))
			buf[0] = '\0';
	}
	return buf;
}

void cop_registered(void (*f)(void *ctx, const char *name, cop_pid pid), void *ctx)
{
	uint32_t i, top;
	char name[COP_NAME_MAX];

	PROC_REQUIRE();
	top = atomic_load(&proc.seg.h->slot_top);
	for (i = 0; i < top && i < proc.seg.max_procs; i++) {
		cop_pid pid = { atomic_load(&proc.seg.slots[i].id) };

		if (cop_name_of(pid, name)[0] && cop_whereis(name).id == pid.id)
			f(ctx, name, pid);
	}
}
