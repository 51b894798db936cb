/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* The laboratory (lab.h). The linker leads the few system calls that matter to here (--wrap). */
#include "lab.h"

#include <errno.h>
#include <linux/futex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE 4096u
#define PIDFD 100000 /* numbers that stand for a descriptor of a process */
#define ROOM 4096u   /* of private arrays: none of them ever has to grow, so that going back is copying */

struct lab_side *lab_side;
bool lab_waits_for_kill;
static struct proc role_of[LAB_ROLES], marked[LAB_ROLES];
static enum lab_role playing;
static jmp_buf ended;
static bool may_end;
static struct seg lab_seg;

/* --- the system --- */

static void note(_Atomic uint32_t *where, long slot)
{
	if (slot >= 0 && slot < LAB_SLOTS)
		atomic_store_explicit(&where[slot], 1, memory_order_relaxed);
}

static long futex(uint32_t *word, int op)
{
	long slot = ((unsigned char *)word - (unsigned char *)proc.seg.slots) / (long)sizeof(struct seg_slot);

	if ((op & FUTEX_CMD_MASK) != FUTEX_WAKE)
		return 0; /* a sleep that ends at once */
	if (slot >= 0 && slot < LAB_SLOTS && (void *)word == (void *)&proc.seg.slots[slot].asleep)
		note(lab_side->woken, slot);
	return 1;
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
	va_list ap;
	long a[6];
	int i;

	va_start(ap, number);
	for (i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	switch (number) {
	case SYS_futex:
		return futex((uint32_t *)a[0], (int)a[1]);
	case SYS_pidfd_open:
		return PIDFD + a[0] - LAB_PID;
	case SYS_pidfd_send_signal:
		note(lab_side->killed, a[0] - PIDFD);
		return 0;
	case SYS_clone3: {
		_Atomic int32_t *at = (void *)*(uint64_t *)(a[0] + 24); /* parent_tid */

		atomic_store_explicit(at, (int32_t)(LAB_PID + (at - proc.seg.pids)), memory_order_relaxed);
		return atomic_load_explicit(at, memory_order_relaxed);
	}
	case SYS_get_robust_list:
		return 0;
	default:
		return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	}
}

int __real_kill(pid_t pid, int sig);
int __wrap_kill(pid_t pid, int sig);
int __wrap_kill(pid_t pid, int sig)
{
	if (pid < LAB_PID)
		return __real_kill(pid, sig);
	note(sig == SIGKILL ? lab_side->killed : lab_side->woken, pid - LAB_PID);
	return 0;
}

int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd)
{
	return fd >= PIDFD ? 0 : __real_close(fd);
}

void __real__exit(int status) __attribute__((noreturn));
void __wrap__exit(int status) __attribute__((noreturn));
void __wrap__exit(int status)
{
	if (may_end)
		longjmp(ended, 1);
	__real__exit(status);
}

int __real_sigsuspend(const sigset_t *set);
int __wrap_sigsuspend(const sigset_t *set);
int __wrap_sigsuspend(const sigset_t *set)
{
	lab_waits_for_kill = true;
	if (may_end)
		longjmp(ended, 1);
	return __real_sigsuspend(set);
}

/* --- roles --- */

static void no_report(const struct cop_report *r)
{
	(void)r;
}

static void give_arrays(struct proc *p)
{
	uint32_t c;

	p->queue.node = calloc(ROOM, sizeof(uint32_t));
	p->answers.node = calloc(ROOM, sizeof(uint32_t));
	p->batch = calloc(ROOM, sizeof(uint32_t));
	p->queue.cap = p->answers.cap = p->batch_cap = ROOM;
	for (c = 0; c < SEG_CLASSES; c++) {
		p->pool.ring[c].chunk = calloc(64, sizeof(uint32_t));
		p->pool.ring[c].cap = 64;
	}
	p->pool.big = calloc(64, sizeof(uint32_t));
	p->pool.cap_big = 64;
}

void lab_open(void)
{
	struct cop_node_options o = { .name = "lab", .max_processes = LAB_SLOTS, .memory = 2 << 20, .quota = 2 << 20,
		.report = no_report };
	uint32_t i;

	lab_side = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (lab_side == MAP_FAILED || proc_node_create(&o) < 0) {
		perror("lab");
		exit(1);
	}
	lab_seg = proc.seg;
	proc.seg.h->seed = 1; /* the same in each run */
	for (i = 0; i < LAB_ROLES; i++) {
		role_of[i] = proc;
		give_arrays(&role_of[i]);
	}
	proc = role_of[0];
	playing = LAB_ROOT;
	lab_mark();
}

static size_t head_bytes(void)
{
	return (size_t)lab_seg.first_chunk * SEG_CHUNK_BYTES;
}

void lab_renew(void)
{
	struct seg_header h = *lab_seg.h;

	(void)madvise(lab_seg.base + PAGE, h.bytes - PAGE, MADV_REMOVE);
	*lab_seg.h = h;
	atomic_store(&lab_seg.h->slot_top, 1);
	atomic_store(&lab_seg.h->slot_hint, 1);
	atomic_store(&lab_seg.h->chunk_hint, 0);
	atomic_store(&lab_seg.slots[0].id, 1ull << 20);
	atomic_store(&lab_seg.pids[0], LAB_PID);
	seg_slot_set_state(&lab_seg, 0, SEG_SLOT_ALIVE);
	lab_seg.slots[0].flags = SEG_IS_SUPERVISOR;
	atomic_store(&lab_seg.slots[0].trap, 1);
	memset(lab_side, 0, sizeof *lab_side);
	playing = LAB_ROOT;
	proc = role_of[LAB_ROOT];
	proc.id = 1ull << 20;
	proc.serial = 1;
	proc.last_from = 0;
	proc_queue_clear(&proc.queue);
	proc_queue_clear(&proc.answers);
	pool_init(&proc.pool, &proc.seg, 0);
}

void lab_be(enum lab_role role)
{
	role_of[playing] = proc;
	proc = role_of[role];
	playing = role;
}

void lab_birth(enum lab_role role, bool reaps)
{
	struct proc *p = &role_of[role];
	long i;

	lab_be(LAB_ROOT);
	i = seg_slot_claim(&proc.seg, 0);
	if (i < 0 || (role != LAB_FRESH && i != (long)role)) {
		printf("# lab: slot %ld for role %d\n", i, (int)role);
		abort();
	}
	proc.seg.slots[i].parent = proc.seg.slots[i].starter = proc.id;
	proc.seg.slots[i].flags = reaps ? SEG_IS_SUPERVISOR : 0;
	atomic_store(&proc.seg.slots[i].trap, reaps);
	atomic_store(&proc.seg.pids[i], LAB_PID + (int32_t)i);
	seg_slot_set_state(&proc.seg, (uint32_t)i, SEG_SLOT_ALIVE);
	atomic_store(&proc.slot->own.spawning, 0);
	p->me = (uint32_t)i;
	p->slot = &proc.seg.slots[i];
	p->id = atomic_load(&p->slot->id);
	p->parent = p->starter = proc.id;
	p->is_parent = reaps;
	p->serial = 1 + (uint64_t)role * 1000000 + (role == LAB_FRESH ? proc.serial++ * 1000 : 0);
	p->last_from = 0;
	p->n_timers = p->n_requests = 0;
	proc_queue_clear(&p->queue);
	proc_queue_clear(&p->answers);
	pool_init(&p->pool, &p->seg, p->me);
}

void lab_mark(void)
{
	role_of[playing] = proc;
	memcpy(marked, role_of, sizeof marked);
}

void lab_rewind(void)
{
	memcpy(role_of, marked, sizeof role_of);
	playing = LAB_ROOT;
	proc = role_of[LAB_ROOT];
}

bool lab_alive(enum lab_role role)
{
	struct proc *p = role == playing ? &proc : &role_of[role];

	return p->slot && atomic_load(&p->slot->id) == p->id && seg_slot_state(&proc.seg, p->me) == SEG_SLOT_ALIVE;
}

uint64_t lab_id(enum lab_role role)
{
	return role == playing ? proc.id : role_of[role].id;
}

void lab_bury(enum lab_role role)
{
	struct cop_exit reason;
	uint32_t slot = role == playing ? proc.me : role_of[role].me;

	lab_be(LAB_ROOT);
	reason = proc_exit_reason(slot, SIGKILL);
	proc_bury(slot, &reason);
	atomic_store(&lab_side->killed[slot], 0);
}

bool lab_ends(enum lab_role role, void (*f)(void *), void *arg)
{
	lab_be(role);
	may_end = true;
	if (setjmp(ended)) {
		may_end = false;
		return true;
	}
	f(arg);
	may_end = false;
	return false;
}

/* --- pictures --- */

/* Calls for each part of the segment that counts: its tables, and what is asked for of each chunk in use. */
static uint32_t pages_of(uint32_t c)
{
	const struct seg_chunk *d = &lab_seg.chunks[c];

	if (atomic_load(&d->owner) == 0)
		return 0;
	if (d->class == SEG_BIG)
		return d->run ? 1 : 0;
	return d->pages;
}

static void need(struct lab_image *im, size_t more)
{
	if (im->bytes + more > im->cap) {
		im->cap = (im->bytes + more) * 2;
		im->data = realloc(im->data, im->cap);
		if (!im->data)
			abort();
	}
}

static void add(struct lab_image *im, const void *from, size_t n)
{
	need(im, n);
	memcpy(im->data + im->bytes, from, n);
	im->bytes += n;
}

void lab_keep(struct lab_image *im)
{
	uint32_t c;

	im->bytes = 0;
	add(im, lab_side, sizeof *lab_side);
	add(im, lab_seg.base, head_bytes());
	for (c = 0; c < lab_seg.h->n_chunks; c++)
		if (pages_of(c))
			add(im, seg_chunk_data(&lab_seg, c), pages_of(c) * PAGE);
}

void lab_restore(const struct lab_image *im)
{
	const unsigned char *from = im->data;
	uint32_t c, before[64];

	for (c = 0; c < lab_seg.h->n_chunks && c < 64; c++)
		before[c] = pages_of(c);
	memcpy(lab_side, from, sizeof *lab_side);
	from += sizeof *lab_side;
	memcpy(lab_seg.base, from, head_bytes());
	from += head_bytes();
	for (c = 0; c < lab_seg.h->n_chunks && c < 64; c++) {
		uint32_t now = pages_of(c);

		if (before[c] > now) /* as if it had never been asked for */
			memset(seg_chunk_data(&lab_seg, c) + now * PAGE, 0, (before[c] - now) * PAGE);
		if (now) {
			memcpy(seg_chunk_data(&lab_seg, c), from, now * PAGE);
			from += now * PAGE;
		}
	}
}

bool lab_is_as(const struct lab_image *im)
{
	const unsigned char *from = im->data;
	uint32_t c;

	if (memcmp(lab_side, from, sizeof *lab_side) != 0)
		return false;
	from += sizeof *lab_side;
	if (memcmp(lab_seg.base, from, head_bytes()) != 0)
		return false;
	from += head_bytes();
	for (c = 0; c < lab_seg.h->n_chunks; c++) {
		if (pages_of(c) && memcmp(seg_chunk_data(&lab_seg, c), from, pages_of(c) * PAGE) != 0)
			return false;
		from += pages_of(c) * PAGE;
	}
	return true;
}

uint64_t lab_hash(const struct lab_image *im)
{
	uint64_t h = 0xcbf29ce484222325ull, w;
	size_t i;

	for (i = 0; i + 8 <= im->bytes; i += 8) {
		memcpy(&w, im->data + i, 8);
		h = (h ^ w) * 0x9e3779b97f4a7c15ull;
		h ^= h >> 29;
	}
	return h;
}
