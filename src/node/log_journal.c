/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The batch and the streams' records that survive the log process. Hides their layout and the
 * order of stores: whoever is killed between any two instructions leaves a phase and a work state
 * that are whole. Stores become visible to the replacement in program order (the dead process's
 * stores are done before it is reaped), so only the compiler must be kept from moving them.
 * Linux only (memfd, splice to a shmem file). Runs in the log process.
 *
 * Regime: grows when a stream is adopted, by fallocate, so that no later store can fail.
 */
#include "node/log_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC UINT64_C(0x31474f4c50504f43) /* "COPPLOG1" */
#define STAGE_OFF 8192 /* the input's place; what is carried stands right before it */
#define SLOTS_OFF (STAGE_OFF + LOG_BATCH_MAX)
#define SLOTS_STEP 16  /* the memfd grows by so many slots */

struct log_journal_head {
	uint64_t magic;
	_Atomic uint32_t phase;
	_Atomic uint32_t cur;        /* which work state counts */
	struct log_batch batch;
	struct log_state work[2];
};

_Static_assert(sizeof(struct log_journal_head) + LOG_CARRY_MAX <= STAGE_OFF, "the head fits");
_Static_assert(sizeof(struct log_slot) % 8 == 0, "slots are aligned");

static void set_word(_Atomic uint32_t *word, uint32_t v)
{
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(word, v, memory_order_seq_cst);
	atomic_signal_fence(memory_order_seq_cst);
}

static void set_phase(struct log_journal *j, enum log_phase phase)
{
	set_word(&j->head->phase, phase);
}

static uint8_t *at(const struct log_journal *j, size_t off)
{
	return (uint8_t *)j->head + off;
}

static size_t bytes_for(uint32_t slots)
{
	return SLOTS_OFF + (size_t)slots * sizeof(struct log_slot);
}

/* --- size --------------------------------------------------------------------------------- */

/* Pages that are promised: without this a store could fail for want of memory (SIGBUS). */
static int reserve(int fd, size_t off, size_t len)
{
	int err;

	do {
		err = posix_fallocate(fd, (off_t)off, (off_t)len);
	} while (err == EINTR);
	errno = err;
	return err ? -1 : 0;
}

static uint32_t slots_in(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || (size_t)st.st_size < bytes_for(0))
		return 0;
	return (uint32_t)(((size_t)st.st_size - bytes_for(0)) / sizeof(struct log_slot));
}

static int map(struct log_journal *j)
{
	void *p = mmap(NULL, j->mapped, PROT_READ | PROT_WRITE, MAP_SHARED, j->fd, 0);

	if (p == MAP_FAILED)
		return -1;
	j->head = p;
	return 0;
}

int log_journal_open(struct log_journal *j, int fd)
{
	*j = (struct log_journal){ .fd = fd };
	if (fd < 0)
		j->fd = memfd_create("coppice-log", MFD_CLOEXEC);
	if (j->fd < 0)
		return -1;
	j->slots = slots_in(j->fd);
	j->mapped = bytes_for(j->slots);
	if (reserve(j->fd, 0, bytes_for(0)) < 0 || map(j) < 0)
		return -1;
	if (j->head->magic == MAGIC)
		return 0;
	memset(j->head, 0, sizeof(*j->head));
	j->head->magic = MAGIC;
	return 0;
}

void log_journal_close(struct log_journal *j)
{
	if (j->head)
		munmap(j->head, j->mapped);
	j->head = NULL;
}

static int grow(struct log_journal *j, uint32_t slots)
{
	size_t size = bytes_for(slots);
	void *p;

	if (ftruncate(j->fd, (off_t)size) < 0)
		return -1;
	p = mremap(j->head, j->mapped, size, MREMAP_MAYMOVE);
	if (p == MAP_FAILED)
		return -1;
	j->head = p;
	j->mapped = size;
	j->slots = slots;
	return 0;
}

struct log_slot *log_journal_slot(const struct log_journal *j, uint32_t slot)
{
	return (struct log_slot *)at(j, bytes_for(slot));
}

int log_journal_adopt(struct log_journal *j, uint32_t slot, uint64_t pipe_ino)
{
	struct log_slot *s;

	if (slot >= LOG_SLOT_MAX) {
		errno = EINVAL;
		return -1;
	}
	if (slot >= j->slots && grow(j, (slot / SLOTS_STEP + 1) * SLOTS_STEP) < 0)
		return -1;
	if (reserve(j->fd, bytes_for(slot), sizeof(*s)) < 0)
		return -1;
	s = log_journal_slot(j, slot);
	if (s->pipe_ino == pipe_ino)
		return 0;
	/* Killed half-way, it is still void. */
	s->pipe_ino = 0;
	atomic_signal_fence(memory_order_seq_cst);
	memset(&s->state, 0, sizeof(s->state));
	atomic_signal_fence(memory_order_seq_cst);
	s->pipe_ino = pipe_ino;
	return 0;
}

void log_journal_move(struct log_journal *j, uint32_t from, uint32_t to)
{
	struct log_slot *a = log_journal_slot(j, from), *b = log_journal_slot(j, to);
	uint64_t pipe_ino = a->pipe_ino;

	b->pipe_ino = 0;
	atomic_signal_fence(memory_order_seq_cst);
	b->state = a->state;
	memcpy(b->ring, a->ring, sizeof(b->ring));
	atomic_signal_fence(memory_order_seq_cst);
	b->pipe_ino = pipe_ino;
	atomic_signal_fence(memory_order_seq_cst);
	a->pipe_ino = 0;
}

/* --- a batch ------------------------------------------------------------------------------ */

struct log_batch *log_journal_batch(const struct log_journal *j)
{
	return &j->head->batch;
}

const struct log_state *log_journal_state(const struct log_journal *j)
{
	return &j->head->work[j->head->cur & 1];
}

void log_journal_begin(struct log_journal *j, const struct log_batch *b)
{
	const struct log_state *st = &log_journal_slot(j, b->slot)->state;
	struct log_state *work = &j->head->work[0];

	j->head->batch = *b;
	j->head->batch.carried = st->carry_len;
	memcpy(at(j, STAGE_OFF - st->carry_len), st->carry, st->carry_len);
	*work = *st;
	work->in_pos = 0;
	set_word(&j->head->cur, 0);
	lseek(j->fd, STAGE_OFF, SEEK_SET);
	set_phase(j, LOG_PHASE_TAKE);
}

/* Where splice cannot write into a memfd (a file size limit of a few KB, an odd kernel): the same by
 * read, which a kill in the wrong instant turns into a loss of these bytes. */
static ssize_t take_by_read(struct log_journal *j, int pipe_fd)
{
	int there = 0;
	ssize_t n;

	if (ioctl(pipe_fd, FIONREAD, &there) == 0 && there == 0) {
		struct pollfd p = { .fd = pipe_fd, .events = POLLIN };

		if (poll(&p, 1, 0) == 0) { /* not the end of file either */
			errno = EAGAIN;
			return -1;
		}
	}
	n = read(pipe_fd, at(j, STAGE_OFF), LOG_BATCH_MAX);
	if (n > 0)
		lseek(j->fd, STAGE_OFF + n, SEEK_SET);
	return n;
}

ssize_t log_journal_take(struct log_journal *j, int pipe_fd)
{
	ssize_t n;

	do {
		n = splice(pipe_fd, NULL, j->fd, NULL, LOG_BATCH_MAX, SPLICE_F_NONBLOCK);
	} while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EFBIG || errno == EINVAL))
		n = take_by_read(j, pipe_fd);
	return n;
}

const uint8_t *log_journal_input(const struct log_journal *j, size_t *len_r)
{
	const struct log_batch *b = &j->head->batch;

	if (j->head->phase == LOG_PHASE_TAKE)
		*len_r = b->carried + (size_t)(lseek(j->fd, 0, SEEK_CUR) - STAGE_OFF);
	else
		*len_r = b->len + b->hold;
	return at(j, STAGE_OFF - b->carried);
}

void log_journal_feed(struct log_journal *j, size_t hold, int64_t time_us)
{
	struct log_batch *b = &j->head->batch;
	size_t len;

	log_journal_input(j, &len);
	b->hold = (uint32_t)hold;
	b->len = (uint32_t)(len - hold);
	b->time_us = time_us;
	set_phase(j, LOG_PHASE_FEED);
}

void log_journal_commit(struct log_journal *j, const struct log_state *st)
{
	uint32_t next = !(j->head->cur & 1);

	j->head->work[next] = *st;
	set_word(&j->head->cur, next);
}

/* Repeats nothing that a second run could change: from the work state and the input to the slot. */
static void save(struct log_journal *j)
{
	const struct log_batch *b = &j->head->batch;
	struct log_state *st = &log_journal_slot(j, b->slot)->state;
	size_t len;
	const uint8_t *in = log_journal_input(j, &len);

	*st = *log_journal_state(j);
	memcpy(st->carry, in + b->len, b->hold);
	st->carry_len = (uint16_t)b->hold;
}

void log_journal_end(struct log_journal *j)
{
	set_phase(j, LOG_PHASE_SAVE);
	save(j);
	set_phase(j, LOG_PHASE_IDLE);
}

void log_journal_cancel(struct log_journal *j)
{
	set_phase(j, LOG_PHASE_IDLE);
}

/* What a predecessor left is our own data, but a damaged journal must not lead us astray. */
static bool is_sound(const struct log_journal *j)
{
	const struct log_batch *b = &j->head->batch;
	off_t pos = lseek(j->fd, 0, SEEK_CUR);

	return b->slot < j->slots && log_journal_slot(j, b->slot)->pipe_ino == b->pipe_ino &&
	    b->carried <= LOG_CARRY_MAX && b->hold <= LOG_CARRY_MAX &&
	    b->len <= LOG_BATCH_MAX + LOG_CARRY_MAX && pos >= STAGE_OFF && pos <= SLOTS_OFF;
}

enum log_phase log_journal_recover(struct log_journal *j)
{
	enum log_phase phase = j->head->phase;

	if (phase == LOG_PHASE_IDLE)
		return phase;
	if (phase > LOG_PHASE_SAVE || !is_sound(j)) {
		set_phase(j, LOG_PHASE_IDLE);
		return LOG_PHASE_IDLE;
	}
	if (phase == LOG_PHASE_SAVE)
		log_journal_end(j);
	return j->head->phase;
}
