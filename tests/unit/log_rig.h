/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A stand-in for root around the log process: it keeps the pipes, the link and the journal, starts
 * log_main() in a child as often as a test kills it, and knows what must be in the files at the
 * end. Children are played by writing into the pipes.
 */
#ifndef UNIT_LOG_RIG_H
#define UNIT_LOG_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "node/node.h"

#define RIG_STREAMS_MAX 1024

struct rig_stream {
	struct proto_keep_log keep;
	int rd, wr;                /* of the log pipe */
	int ready_rd, ready_wr;    /* -1: none */
	bool kept;                 /* root has not been told to drop it */
	bool mid;                  /* what was put so far ends within a line */
	char *want;                /* what the files must hold, timestamps aside */
	size_t want_len, want_cap;
};

struct rig {
	struct node node;
	char dir[256];             /* below which each stream has one */
	uint32_t n;
	struct rig_stream s[RIG_STREAMS_MAX];
	pid_t pid;                 /* of the log process; 0: none */
};

/* Makes everything but streams and the process. Ends the test when that is impossible. */
void rig_open(struct rig *r);
/* Ends the process, closes everything and removes the directory. */
void rig_close(struct rig *r);

/* Adds a stream; its pipe holds so many bytes. */
struct rig_stream *rig_add(struct rig *r, size_t pipe_bytes, uint64_t max_bytes, uint32_t max_files,
    bool timestamps, const char *regex);
/* Makes root forget what all streams were and begins anew, in an empty directory. */
void rig_clear(struct rig *r);

/* Forks the log process. traced: it stops itself before log_main, for ptrace(2). */
void rig_start(struct rig *r, bool traced);
/* Tells a running one of a stream that was added after its start. */
void rig_adopt(struct rig *r, struct rig_stream *s);
/* Sends KEEP_REOPEN or KEEP_FINISH. */
void rig_say(struct rig *r, uint8_t kind);
/* Takes KEEP_DROP messages that are there. */
void rig_take_drops(struct rig *r);
/* KEEP_FINISH, then waits for the end; the wait status. */
int rig_finish(struct rig *r);
/* SIGKILL and wait. */
void rig_kill(struct rig *r);

/* What a child or its supervisor writes; false if the pipe has no room for all of it. */
bool rig_put(struct rig_stream *s, const char *text, size_t len);
bool rig_puts(struct rig_stream *s, const char *text);
bool rig_start_mark(struct rig *r, struct rig_stream *s, int pid);
bool rig_exit_mark(struct rig *r, struct rig_stream *s, int pid, const char *reason);

/* Writes lines that are numbered from..to-1, blocking. They are not among what the files must hold. */
void rig_put_numbered(struct rig_stream *s, int from, int to);
/* Counts those in the files, and those that records call lost. False, having said why, if a line is
 * torn or in the wrong order or if a gap is not exactly what a record says. */
bool rig_count_numbered(const struct rig_stream *s, long *lines_r, long *lost_r);

/* Makes the stream's directory. */
void rig_make_dirs(const struct rig_stream *s);
/* Puts a file system of 64 KB there; false if we may not. */
bool rig_small_disk(const struct rig_stream *s);
void rig_no_small_disk(const struct rig_stream *s);

/* All files of a stream, oldest first, as one block; the caller frees it. */
char *rig_read(const struct rig_stream *s, size_t *len_r);
/* What is wrong with the files: NULL if they hold exactly what was put, no file is larger than
 * max_bytes and each rotated one ends with a line. Static memory. */
const char *rig_verdict(const struct rig_stream *s);
/* Number of rotated files. */
int rig_rotated(const struct rig_stream *s);

/* Waits until the files hold the want text; false after the deadline. */
bool rig_wait(const struct rig_stream *s, int ms);

#endif
