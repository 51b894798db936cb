/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A stream: what the log process has of one child. Hides how it comes (from root at start, from a
 * supervisor by way of root later, again after a reload), what it holds, and how it goes: at end
 * of file, when everything is written. Runs in the log process.
 *
 * Regime: allocates when a stream is adopted; without memory nothing is changed and the caller
 * tries again, while the output waits in its pipe.
 */
#include "node/log_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fds.h"
#include "node/log_file.h"

#define SPARE_FDS 4 /* a rotation needs so many for a moment */

int log_stream_cmp(const struct log_stream *a, const struct log_stream *b)
{
	return a->slot < b->slot ? -1 : a->slot > b->slot;
}

int log_stream_pipe_cmp(const struct log_stream *a, const struct log_stream *b)
{
	return a->pipe_ino < b->pipe_ino ? -1 : a->pipe_ino > b->pipe_ino;
}

RB_GENERATE(log_streams, log_stream, by_slot, log_stream_cmp)
RB_GENERATE(log_pipes, log_stream, by_pipe, log_stream_pipe_cmp)

/* --- configuration ------------------------------------------------------------------------ */

static const char *append(char **to, const char *s)
{
	char *at = *to;
	size_t n = strlen(s) + 1;

	memcpy(at, s, n);
	*to += n;
	return at;
}

static struct log_config *config_create(const struct proto_keep_log *k)
{
	size_t n = strlen(k->path) + strlen(k->dir) + strlen(k->regex) + 3;
	struct log_config *c = malloc(sizeof(*c) + n);
	char *to;

	if (!c)
		return NULL;
	to = c->text;
	c->max_bytes = k->max_bytes;
	c->max_files = k->max_files;
	c->timestamps = k->timestamps;
	c->path = append(&to, k->path);
	c->dir = append(&to, k->dir);
	c->regex = append(&to, k->regex);
	return c;
}

/* Puts the configuration of a into s, which may have one. */
static int configure(struct log_stream *s, const struct log_adopt *a)
{
	struct log_config *cfg = config_create(&a->keep);
	struct log_ready *ready = NULL;
	char why[128] = "";

	if (!cfg)
		return -1;
	if (cfg->regex[0] != '\0') {
		ready = log_ready_create(cfg->regex, why, sizeof(why));
		if (!ready && errno == ENOMEM) {
			free(cfg);
			return -1;
		}
		if (!ready)
			log_note(s->proc, cfg->path, "it will never be ready: log:%s: %s", cfg->regex, why);
	}
	log_ready_destroy(&s->ready);
	s->ready = ready;
	if (s->cfg && strcmp(s->cfg->dir, cfg->dir) != 0)
		fds_close(&s->file);
	free(s->cfg);
	s->cfg = cfg;
	return 0;
}

/* --- coming ------------------------------------------------------------------------------- */

/* The unfinished line that a predecessor had seen. */
static void resume_ready(struct log_stream *s)
{
	const struct log_slot *slot = log_journal_slot(&s->proc->journal, s->slot);
	const struct log_state *st = &slot->state;
	uint8_t line[LOG_RING_BYTES];
	uint64_t pos = st->ring_pos;
	size_t n = 0;

	while (pos > st->run_pos && st->ring_pos - pos < LOG_RING_BYTES &&
	    slot->ring[(pos - 1) % LOG_RING_BYTES] != '\n')
		pos--;
	for (; pos < st->ring_pos; pos++)
		line[n++] = slot->ring[pos % LOG_RING_BYTES];
	log_ready_reset(s->ready, line, n);
}

static void ready_to_read(struct loop_source *src, uint32_t events)
{
	(void)events;
	log_stream_turn(src->ctx);
}

/* The stream's record in the journal: that of its slot, or of the slot which the pipe had before
 * (a supervisor has handed it over again). */
static int take_record(struct log_stream *s)
{
	struct log_journal *j = &s->proc->journal;
	struct log_stream *old = RB_FIND(log_pipes, &s->proc->pipes, s);
	bool known = s->slot < j->slots && log_journal_slot(j, s->slot)->pipe_ino == s->pipe_ino;

	if (log_journal_adopt(j, s->slot, s->pipe_ino) < 0)
		return -1;
	if (old && !known)
		log_journal_move(j, old->slot, s->slot);
	return 0;
}

/* Watched, with its record and after what a predecessor had begun; or not at all. */
static int attach(struct log_stream *s)
{
	struct log_proc *p = s->proc;

	if (loop_attach(&p->loop, &s->src, s->fd, EPOLLIN, ready_to_read, s) < 0)
		return -1;
	if (take_record(s) < 0) {
		loop_detach(&p->loop, &s->src);
		return -1;
	}
	if (s->ready)
		resume_ready(s);
	if (log_journal_recover(&p->journal) != LOG_PHASE_IDLE &&
	    log_journal_batch(&p->journal)->slot == s->slot)
		log_batch_recover(s);
	return 0;
}

static void discard(struct log_stream *s)
{
	fds_close(&s->file);
	log_ready_destroy(&s->ready);
	free(s->cfg);
	free(s);
}

static int create(struct log_proc *p, const struct log_adopt *a, uint64_t pipe_ino)
{
	struct log_stream *s = calloc(1, sizeof(*s)), *old;
	int err;

	if (!s)
		return -1;
	*s = (struct log_stream){ .proc = p, .slot = a->slot, .pipe_ino = pipe_ino, .fd = a->fd,
		.ready_fd = a->ready_fd, .file = -1, .src.fd = -1 };
	if (configure(s, a) < 0 || attach(s) < 0) {
		err = errno;
		discard(s);
		errno = err;
		return -1;
	}
	old = RB_FIND(log_pipes, &p->pipes, s);
	if (old)
		log_stream_end(old);
	RB_INSERT(log_streams, &p->streams, s);
	RB_INSERT(log_pipes, &p->pipes, s);
	return 0;
}

/* The same pipe again: a reload, or a message that root had sent to a predecessor too. */
static int update(struct log_stream *s, const struct log_adopt *a)
{
	int fd = a->fd != s->fd ? a->fd : -1;

	if (configure(s, a) < 0)
		return -1;
	if (s->ready)
		resume_ready(s);
	if (a->ready_fd >= 0 && a->ready_fd != s->ready_fd) {
		fds_close(&s->ready_fd);
		s->ready_fd = a->ready_fd;
	}
	fds_close(&fd);
	return 0;
}

int log_stream_adopt(struct log_proc *p, const struct log_adopt *a)
{
	struct log_stream key = { .slot = a->slot };
	struct log_stream *old = RB_FIND(log_streams, &p->streams, &key);
	struct stat sb;

	if (fstat(a->fd, &sb) < 0)
		return -1;
	if (!S_ISFIFO(sb.st_mode)) {
		errno = EINVAL;
		return -1;
	}
	if (a->ready_fd >= 0)
		fds_set_nonblock(a->ready_fd, true);
	if (old && old->pipe_ino == sb.st_ino && !old->gone)
		return update(old, a);
	/* Root gives a slot again only after it was told that the old stream is gone. */
	if (old)
		log_stream_destroy(old);
	return create(p, a, sb.st_ino);
}

/* --- working ------------------------------------------------------------------------------ */

enum log_got log_stream_turn(struct log_stream *s)
{
	enum log_got got = s->eof ? LOG_GOT_EOF : log_batch_take(s);

	if (got != LOG_GOT_EOF || s->eof)
		return got;
	s->eof = true;
	loop_detach(&s->proc->loop, &s->src);
	if (!log_batch_waits(s))
		log_stream_end(s);
	return got;
}

void log_stream_reopen(struct log_stream *s)
{
	fds_close(&s->file);
	s->err = 0;
	log_batch_empty(s, false);
}

void log_stream_spare_fds(struct log_proc *p, const struct log_stream *except)
{
	struct log_stream *s;
	int n = 0;

	RB_FOREACH(s, log_streams, &p->streams) {
		if (s == except || s->file < 0)
			continue;
		fds_close(&s->file);
		if (++n == SPARE_FDS)
			return;
	}
}

/* --- going -------------------------------------------------------------------------------- */

static void close_all(struct log_stream *s)
{
	struct log_proc *p = s->proc;

	loop_timer_cancel(&p->loop, &s->retry);
	loop_detach(&p->loop, &s->src);
	fds_close(&s->fd);
	fds_close(&s->ready_fd);
	fds_close(&s->file);
}

void log_stream_end(struct log_stream *s)
{
	struct log_proc *p = s->proc;

	close_all(s);
	s->gone = s->eof = true;
	RB_REMOVE(log_pipes, &p->pipes, s);
	TAILQ_INSERT_TAIL(&p->link.going, s, going);
	log_link_drop(p);
}

void log_stream_destroy(struct log_stream *s)
{
	struct log_proc *p = s->proc;

	close_all(s);
	RB_REMOVE(log_streams, &p->streams, s);
	if (s->gone)
		TAILQ_REMOVE(&p->link.going, s, going);
	else
		RB_REMOVE(log_pipes, &p->pipes, s);
	discard(s);
}
