/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What the log process must not forget when it is killed, in memory that outlives it: a memfd
 * that root keeps and every log process inherits. It holds
 *
 *   - one batch: output that has been taken out of a child's pipe and is not yet in its file,
 *     with all that decides how it is written (time, limits), so that doing it again gives the
 *     same bytes;
 *   - a record for each stream, by the slot root has given it.
 *
 * The batch is taken by splice(2) from the pipe to the memfd's file position. Both the data and
 * the position are moved by the kernel in one call, so at any instant either the pipe has the
 * bytes or the memfd has them and its position says how many. The end of a step is the store of
 * one word (`cur`), and so is the end of a batch (`phase`).
 *
 *   field        written by      read by
 *   everything   the log process that lives; root never runs two    it and its replacement
 *
 * Regime: grows when a stream is adopted, by fallocate, so that no later store can fail.
 */
#ifndef NODE_LOG_JOURNAL_H
#define NODE_LOG_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "node/log_name.h"
#include "node/proto.h"

#define LOG_BATCH_MAX 65536            /* bytes taken from a pipe in one turn */
#define LOG_RING_BYTES 4096            /* last output of a run, kept for its death record */
#define LOG_CARRY_MAX PROTO_MARK_MAX
#define LOG_SLOT_MAX 65536

/* Where the writing of a stream stands. Copied as a whole. */
struct log_state {
	uint64_t in_pos;      /* bytes of the batch's input that are dealt with */
	uint64_t dev, ino;    /* of `current`; ino 0: none was opened yet */
	uint64_t off;         /* bytes of it that are dealt with: where the next byte goes */
	uint64_t line_off;    /* where its last line starts; == off when that line is not begun */
	uint64_t line_raw;    /* bytes the child wrote of the unfinished line in this file */
	uint64_t ring_pos;    /* bytes ever put into the ring */
	uint64_t run_pos;     /* ring_pos at the start of this run */
	uint64_t lost_lines, lost_bytes; /* not written, and not yet said so in the file */
	int32_t lost_errno;   /* why; 0: nothing is lost */
	int32_t pid;          /* of this run; 0: unknown */
	uint8_t mid;          /* the file's last line is unfinished output */
	uint8_t fresh;        /* the file's end is not ours: a newline must come first */
	uint8_t dropping;     /* the line we are in began to be lost: its rest is lost too */
	uint8_t armed;        /* no line of this run has matched yet */
	uint8_t cut;          /* the file must be cut to off before anything else */
	uint8_t rotating;     /* `current` is on its way to rotate_name */
	uint16_t carry_len;
	char rotate_name[LOG_NAME_SIZE];
	uint8_t carry[LOG_CARRY_MAX]; /* start of a mark whose rest is still in the pipe */
};

struct log_slot {
	uint64_t pipe_ino;    /* of the pipe this record is about; another one: void */
	struct log_state state; /* between batches */
	uint8_t ring[LOG_RING_BYTES];
};

enum log_phase {
	LOG_PHASE_IDLE, /* no batch */
	LOG_PHASE_TAKE, /* being taken: the file position says how much has come */
	LOG_PHASE_FEED, /* being written: the work state says how far */
	LOG_PHASE_SAVE, /* written; the work state is being copied to the slot */
};

struct log_batch {
	uint32_t slot;
	uint32_t len;         /* bytes of input to be dealt with, the carried ones included */
	uint32_t hold;        /* bytes after them to be carried to the next batch */
	uint32_t carried;     /* bytes of the input carried from the batch before */
	uint64_t pipe_ino;
	int64_t time_us;      /* wall clock, for all its lines */
	uint64_t max_bytes;   /* as configured when it began; 0: no rotation (any more) */
	uint8_t timestamps;
};

struct log_journal_head;
struct log_journal {
	int fd;
	struct log_journal_head *head;
	size_t mapped;
	uint32_t slots;       /* that there is room for */
};

/* Maps the memfd, making it ready if it is new or not ours. fd -1: a private one is made, which
 * protects nothing. Returns 0, or -1 with errno. */
int log_journal_open(struct log_journal *j, int fd);
void log_journal_close(struct log_journal *j);

/* Makes room for a slot. A record of another pipe is reset. Returns 0, or -1 with errno. Pointers
 * into the journal are void afterwards. */
int log_journal_adopt(struct log_journal *j, uint32_t slot, uint64_t pipe_ino);
struct log_slot *log_journal_slot(const struct log_journal *j, uint32_t slot);
/* Moves the record of a pipe that root gave another slot. Both slots are adopted. */
void log_journal_move(struct log_journal *j, uint32_t from, uint32_t to);

/* --- one batch, in this order --- */
/* Begins a batch of b->slot; b tells slot, pipe_ino, max_bytes and timestamps. */
void log_journal_begin(struct log_journal *j, const struct log_batch *b);
/* Takes what the pipe holds. Returns its bytes, 0 at end of file, -1 with EAGAIN when there is
 * nothing. */
ssize_t log_journal_take(struct log_journal *j, int pipe_fd);
/* The input: what was carried, then what was taken. */
const uint8_t *log_journal_input(const struct log_journal *j, size_t *len_r);
/* Fixes how the input is dealt with; from here on the batch will be finished, whoever does it. */
void log_journal_feed(struct log_journal *j, size_t hold, int64_t time_us);
struct log_batch *log_journal_batch(const struct log_journal *j);
const struct log_state *log_journal_state(const struct log_journal *j);
/* Ends a step: this is the state now. */
void log_journal_commit(struct log_journal *j, const struct log_state *st);
/* Ends the batch: what is held goes into the slot's carry. */
void log_journal_end(struct log_journal *j);
/* Ends a batch into which nothing has come. */
void log_journal_cancel(struct log_journal *j);

/* Tells whether a predecessor was killed within a batch that is not finished; then the batch is in
 * LOG_PHASE_TAKE (call feed, then the steps) or FEED (the steps). */
enum log_phase log_journal_recover(struct log_journal *j);

#endif
