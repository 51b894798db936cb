/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What the files of the log process share: the process and its streams. Not for anybody else.
 * Runs in the log process.
 *
 * Regime: memory is allocated when a stream is adopted, and for death lines that wait (bounded).
 */
#ifndef NODE_LOG_PRIVATE_H
#define NODE_LOG_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/tree.h>

#include "ipc/loop.h"
#include "node/event.h"
#include "node/log_feed.h"
#include "node/log_journal.h"
#include "node/node.h"

#define LOG_RETRY_MS 1000 /* what failed for want of anything is tried again so often */

struct log_proc;
struct log_ready;

/* --- notes: events that tell an administrator of trouble (log_note.c) --- */
struct log_notes {
	struct log_proc *proc;
	struct event_pipe pipe;
	struct loop_timer retry;
};
void log_note_init(struct log_proc *p);
/* Says it on standard error and in the node's events. path: of the child, or "". */
void log_note(struct log_proc *p, const char *path, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void log_note_flush(struct log_proc *p);

/* --- last lines of the dead, on their way to control (log_death.c) --- */
struct log_death;
struct log_deaths {
	struct loop_source src;
	STAILQ_HEAD(, log_death) queue;
	unsigned queued;
	int fd;
};
void log_death_init(struct log_proc *p);
/* Sends the last lines of the run that ended; st is the stream's state at its end. */
void log_death_send(struct log_proc *p, const char *path, const struct log_state *st,
    const uint8_t *ring, int32_t pid);
void log_death_flush(struct log_proc *p);
/* Cuts text to its last lines: returns where they begin. (Pure, for tests.) */
size_t log_death_tail(const char *text, size_t len);

/* --- ready = "log:REGEX" (log_ready.c) --- */
/* Compiles. NULL with ENOMEM, or EINVAL (then *why_r tells, cut to size). */
struct log_ready *log_ready_create(const char *regex, char *why_r, size_t size);
void log_ready_destroy(struct log_ready **r);
/* A new run begins, or this one goes on after the given unfinished line. */
void log_ready_reset(struct log_ready *r, const uint8_t *line, size_t len);
/* More output. True when a line has matched. */
bool log_ready_feed(struct log_ready *r, const uint8_t *buf, size_t len);

/* --- one stream: the output of one child --- */
struct log_config {
	uint64_t max_bytes;
	uint32_t max_files;
	bool timestamps;
	const char *path, *dir, *regex; /* into text */
	char text[];
};

struct log_stream {
	RB_ENTRY(log_stream) by_slot, by_pipe;
	TAILQ_ENTRY(log_stream) going; /* while it is gone */
	struct log_proc *proc;
	uint32_t slot;
	uint64_t pipe_ino;
	struct log_config *cfg;
	struct log_ready *ready;   /* or NULL */
	int fd;                    /* read end of the pipe */
	int ready_fd;              /* or -1 */
	int file;                  /* `current`, or -1 */
	struct loop_source src;    /* the pipe */
	struct loop_timer retry;   /* while something waits to be written */
	int err;                   /* why it cannot be written; 0: it can */
	int64_t tried_ms;          /* when that was seen last */
	int64_t noted_ms;          /* when it was said last; 0: never */
	bool eof;                  /* the pipe has ended */
	bool gone;                 /* everything is written: root shall be told to drop it */
};
RB_HEAD(log_streams, log_stream);
RB_HEAD(log_pipes, log_stream);
RB_PROTOTYPE(log_streams, log_stream, by_slot, log_stream_cmp)
RB_PROTOTYPE(log_pipes, log_stream, by_pipe, log_stream_pipe_cmp)
int log_stream_cmp(const struct log_stream *a, const struct log_stream *b);
int log_stream_pipe_cmp(const struct log_stream *a, const struct log_stream *b);

struct log_adopt {           /* what a stream is made of */
	uint32_t slot;
	struct proto_keep_log keep;
	int fd, ready_fd;
};
/* Adopts a stream, or takes over a changed configuration of one that is there. Takes the
 * descriptors over on success. -1 with errno; nothing has happened then. */
int log_stream_adopt(struct log_proc *p, const struct log_adopt *a);
/* Reads and writes one batch. After LOG_GOT_EOF the stream may be destroyed. */
enum log_got { LOG_GOT_NOTHING, LOG_GOT_DATA, LOG_GOT_EOF };
enum log_got log_stream_turn(struct log_stream *s);
/* Opens its file again. */
void log_stream_reopen(struct log_stream *s);
/* Everything of it is written: it ends, and root is told. */
void log_stream_end(struct log_stream *s);
void log_stream_destroy(struct log_stream *s);
/* Closes a few files that other streams can open again later. */
void log_stream_spare_fds(struct log_proc *p, const struct log_stream *except);

/* --- one batch (log_batch.c) --- */
/* Takes and writes what the pipe holds, at most LOG_BATCH_MAX. */
enum log_got log_batch_take(struct log_stream *s);
/* Writes what waits although nothing has come: the record of what was lost, and when nothing will
 * come any more (last) what was carried. */
void log_batch_empty(struct log_stream *s, bool last);
/* Finishes what a predecessor was killed in; called before the stream's first batch. */
void log_batch_recover(struct log_stream *s);
/* Tells whether something waits for the file to be writable. */
bool log_batch_waits(const struct log_stream *s);

/* --- the link to root (log_link.c) --- */
struct log_link {
	struct loop_source src;
	struct loop_timer retry;
	bool paused;               /* there were no descriptors for what was sent */
	const struct proto_keep_log *kept;
	const int *kept_fds, *kept_ready_fds;
	const uint32_t *kept_slots;
	uint32_t kept_next, n_kept;
	uint32_t kept_first;       /* adopted out of turn; n_kept: none was */
	struct log_adopt pending;
	bool has_pending;
	TAILQ_HEAD(, log_stream) going; /* gone, and root does not know yet */
};
/* p->link's kept_* are set. 0, or -1 with errno. */
int log_link_open(struct log_proc *p);
/* Adopts what root kept. Streams that cannot be adopted now are tried again. */
void log_link_adopt(struct log_proc *p);
/* Tells root of the streams that are gone, and destroys them. */
void log_link_drop(struct log_proc *p);

struct log_proc {
	struct node *node;
	struct loop loop;
	struct log_journal journal;
	struct log_streams streams;
	struct log_pipes pipes;    /* the same, without those that are gone */
	struct log_link link;
	struct log_notes notes;
	struct log_deaths deaths;
	struct log_feed feed;      /* of the batch in work */
	bool finish;               /* the node is down, or root is */
};

#endif
