/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * One batch of one stream, from the pipe to the file. Hides how the journal, the feed and the file
 * work together: each step is written, then committed; a step that a killed predecessor had
 * begun is recognised by what it left at the file's end and only completed. A file that cannot be
 * written slows no child down: whole lines are dropped and counted, and the count becomes a line
 * of the file as soon as that takes lines again. Runs in the log process.
 *
 * Regime: never allocates (a rotation opens a directory, which does).
 */
#include "node/log_private.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fds.h"
#include "node/log_file.h"
#include "node/log_rotate.h"

#define NOTE_MS 10000 /* at most one note per stream in this time */

struct work {
	struct log_stream *s;
	struct log_journal *j;
	struct log_feed *f;
	bool writable;     /* steps are written, not dropped */
	uint64_t ahead;    /* bytes beyond st->off that a predecessor left */
};

static void commit(struct work *w, const struct log_state *st)
{
	log_journal_commit(w->j, st);
}

static void note(struct log_stream *s, const char *what, int err)
{
	int64_t now = clock_mono_ms();

	if (s->noted_ms != 0 && now - s->noted_ms < NOTE_MS)
		return;
	s->noted_ms = now;
	log_note(s->proc, s->cfg->path, "%s %s: %s", what, s->cfg->dir, strerror(err));
}

/* From here on this batch is dropped. */
static void give_up(struct work *w, int err)
{
	struct log_stream *s = w->s;

	w->writable = false;
	s->tried_ms = clock_mono_ms();
	if (s->err == 0)
		note(s, "output is being lost: unable to write to", err);
	s->err = err;
}

/* --- the file ----------------------------------------------------------------------------- */

static bool is_file_of(const struct stat *sb, const struct log_state *st)
{
	return sb->st_ino == st->ino && sb->st_dev == st->dev;
}

static int open_file(struct log_stream *s, struct stat *sb)
{
	bool aside = false;

	s->file = log_file_open(s->cfg->dir, sb, &aside);
	if (s->file < 0 && (errno == EMFILE || errno == ENFILE)) {
		log_stream_spare_fds(s->proc, s);
		s->file = log_file_open(s->cfg->dir, sb, &aside);
	}
	if (aside)
		log_note(s->proc, s->cfg->path, "%s/%s was not a plain file and is set aside",
		    s->cfg->dir, LOG_NAME_CURRENT);
	return s->file < 0 ? -1 : 0;
}

/* Makes sure that s->file is what has the name `current` now. */
static int have_file(struct work *w, const struct log_state *st, struct stat *sb)
{
	struct log_stream *s = w->s;

	if (s->file >= 0 && log_file_stat(s->cfg->dir, sb) == 0 && is_file_of(sb, st) &&
	    S_ISREG(sb->st_mode) && sb->st_nlink == 1)
		return 0;
	fds_close(&s->file);
	return open_file(s, sb);
}

/* The file's end is not where we left it, or it is another file: we go on at its end. */
static void adopt_end(struct work *w, struct log_state *st, const struct stat *sb)
{
	st->dev = sb->st_dev;
	st->ino = sb->st_ino;
	st->off = st->line_off = (uint64_t)sb->st_size;
	st->line_raw = 0;
	st->cut = 0;
	st->fresh = !log_file_ends_line(w->s->file, st->off);
	w->ahead = 0;
	commit(w, st);
}

static void cut_file(struct work *w, struct log_state *st, struct stat *sb)
{
	if ((uint64_t)sb->st_size > st->off && ftruncate(w->s->file, (off_t)st->off) == 0)
		sb->st_size = (off_t)st->off;
	st->cut = 0;
	commit(w, st);
}

/* Opens the file and brings it and the state into line. */
static void settle_file(struct work *w, bool recovering)
{
	struct log_state st = *log_journal_state(w->j);
	struct stat sb;

	w->ahead = 0;
	if (have_file(w, &st, &sb) < 0) {
		give_up(w, errno);
		return;
	}
	if (st.cut && is_file_of(&sb, &st))
		cut_file(w, &st, &sb);
	if (!is_file_of(&sb, &st) || (uint64_t)sb.st_size < st.off)
		adopt_end(w, &st, &sb);
	else if ((uint64_t)sb.st_size > st.off && !recovering)
		adopt_end(w, &st, &sb);
	else
		w->ahead = (uint64_t)sb.st_size - st.off;
}

/* What was written and then not committed, because the line could not be finished, goes. */
static void trim_file(struct work *w)
{
	struct log_state st = *log_journal_state(w->j);
	struct stat sb;

	if (st.cut && w->s->file >= 0 && fstat(w->s->file, &sb) == 0 && is_file_of(&sb, &st))
		cut_file(w, &st, &sb);
}

static void rotate(struct work *w)
{
	struct log_state st = *log_journal_state(w->j);
	struct log_stream *s = w->s;

	switch (log_rotate_run(s->cfg->dir, &st, &s->file)) {
	case LOG_ROTATED:
		commit(w, &st);
		log_rotate_prune(s->cfg->dir, s->cfg->max_files);
		break;
	case LOG_ROTATED_NOT:
		/* A file that is too big is better than lost lines. */
		note(s, "unable to rotate", errno);
		w->f->max_bytes = log_journal_batch(w->j)->max_bytes = 0;
		st.rotating = 0;
		commit(w, &st);
		break;
	case LOG_ROTATED_HALF:
		give_up(w, errno);
		break;
	}
}

static void begin_rotation(struct work *w)
{
	struct log_state st = *log_journal_state(w->j);

	if (log_rotate_prepare(w->s->cfg->dir, &st, w->f->time_us) == 0) {
		commit(w, &st);
		rotate(w);
		return;
	}
	note(w->s, "unable to rotate", errno);
	w->f->max_bytes = log_journal_batch(w->j)->max_bytes = 0;
}

/* --- steps -------------------------------------------------------------------------------- */

static void keep_in_ring(struct work *w, uint64_t pos, const uint8_t *raw, size_t len)
{
	uint8_t *ring = log_journal_slot(w->j, w->s->slot)->ring;
	size_t skip = len > LOG_RING_BYTES ? len - LOG_RING_BYTES : 0;
	size_t at = (size_t)((pos + skip) % LOG_RING_BYTES), n;

	raw += skip;
	len -= skip;
	n = len < LOG_RING_BYTES - at ? len : LOG_RING_BYTES - at;
	memcpy(ring + at, raw, n);
	memcpy(ring, raw + n, len - n);
}

static void look_for_ready(struct work *w, struct log_step *step)
{
	struct log_stream *s = w->s;
	int32_t pid = step->after.pid;

	if (!log_ready_feed(s->ready, step->raw, step->raw_len))
		return;
	/* Killed after this it is said once more; a supervisor that knows already does not mind. */
	if (write(s->ready_fd, &pid, sizeof(pid)) < 0 && errno != EPIPE)
		log_note(s->proc, s->cfg->path, "unable to tell that it is ready: %s", strerror(errno));
	step->after.armed = 0;
}

/* What a step means beside its output, then its end. */
static void pass(struct work *w, const struct log_state *st, struct log_step *step)
{
	struct log_stream *s = w->s;

	if (step->raw_len > 0)
		keep_in_ring(w, st->ring_pos, step->raw, step->raw_len);
	if (step->raw_len > 0 && st->armed && s->ready && s->ready_fd >= 0)
		look_for_ready(w, step);
	if (step->mark && step->mark->kind == 'S' && s->ready)
		log_ready_reset(s->ready, NULL, 0);
	if (step->mark && step->mark->kind == 'X')
		log_death_send(s->proc, s->cfg->path, st, log_journal_slot(w->j, s->slot)->ring,
		    step->mark->pid);
	commit(w, &step->after);
}

/* The file takes no more: the whole lines that have got in stay, what is torn goes. */
static void write_failed(struct work *w, struct log_state *st, size_t done, int err)
{
	struct log_step step;

	give_up(w, err);
	if (done > 0 && log_feed_cut(w->f, st, done, &step)) {
		step.after.cut = done > step.out_len;
		pass(w, st, &step);
	} else if (done > 0) {
		st->cut = 1;
		commit(w, st);
	}
}

/* Bytes of this step that are in the file already; false if what is there is not from this step. */
static bool skip_ahead(struct work *w, const struct log_state *st, const struct log_step *step,
    size_t *done_r)
{
	uint64_t ahead = w->ahead;

	w->ahead = 0;
	*done_r = (size_t)ahead;
	return ahead == 0 || (ahead <= step->out_len &&
	    log_file_holds(w->s->file, st->off, step->out, (size_t)ahead));
}

static void write_step(struct work *w, struct log_state *st, struct log_step *step)
{
	struct log_stream *s = w->s;
	size_t done;

	if (!skip_ahead(w, st, step, &done)) {
		settle_file(w, false);
		return;
	}
	done += log_file_append(s->file, step->out + done, step->out_len - done);
	if (done < step->out_len) {
		write_failed(w, st, done, errno);
		return;
	}
	if (s->err != 0)
		note(s, "output is kept again in", 0);
	s->err = 0;
	pass(w, st, step);
}

static bool do_step(struct work *w)
{
	struct log_state st = *log_journal_state(w->j);
	struct log_step step;

	if (w->writable)
		log_feed_next(w->f, &st, &step);
	else
		log_feed_drop(w->f, &st, w->s->err, &step);
	switch (step.kind) {
	case LOG_STEP_END:
		return false;
	case LOG_STEP_SKIP:
		pass(w, &st, &step);
		break;
	case LOG_STEP_ROTATE:
		begin_rotation(w);
		break;
	case LOG_STEP_WRITE:
		write_step(w, &st, &step);
		break;
	}
	return true;
}

/* --- the batch ---------------------------------------------------------------------------- */

/* A file that takes nothing is not tried for every batch, unless there seems to be room again. */
static bool worth_trying(const struct log_stream *s)
{
	return s->err == 0 || clock_mono_ms() - s->tried_ms >= LOG_RETRY_MS ||
	    (s->file >= 0 && log_file_has_room(s->file, LOG_OUT_MAX));
}

static void retry(struct loop_timer *t)
{
	struct log_stream *s = t->ctx;

	log_batch_empty(s, s->eof);
	if (s->eof && !log_batch_waits(s))
		log_stream_end(s);
}

/* Writes the batch that is in the journal, whoever took it, and ends it. */
static void work(struct log_stream *s, bool recovering, bool last)
{
	struct log_proc *p = s->proc;
	struct work w = { .s = s, .j = &p->journal, .f = &p->feed };
	size_t len;
	const uint8_t *in = log_journal_input(w.j, &len);

	log_feed_init(w.f, in, log_journal_batch(w.j), p->node->secret);
	w.f->final = last;
	w.writable = recovering || last || worth_trying(s);
	if (w.writable && log_journal_state(w.j)->rotating)
		rotate(&w);
	if (w.writable && !log_journal_state(w.j)->rotating)
		settle_file(&w, recovering);
	while (do_step(&w))
		;
	trim_file(&w);
	log_journal_end(w.j);
	if (log_batch_waits(s) && !s->retry.armed)
		loop_timer_set(&p->loop, &s->retry, clock_mono_ms() + LOG_RETRY_MS, retry, s);
}

/* Bytes to be left for the next batch: the start of a mark, whose rest is still in the pipe. The
 * mark was written at once, so if nothing is there, these bytes only look like one. */
static size_t hold_back(struct log_stream *s)
{
	size_t len, tail;
	const uint8_t *in = log_journal_input(&s->proc->journal, &len);
	int more = 0;

	tail = log_mark_tail(s->proc->node->secret, in, len);
	if (tail == 0 || ioctl(s->fd, FIONREAD, &more) < 0 || more <= 0)
		return 0;
	return tail;
}

static void begin(struct log_stream *s)
{
	struct log_batch b = { .slot = s->slot, .pipe_ino = s->pipe_ino,
		.max_bytes = s->cfg->max_bytes, .timestamps = s->cfg->timestamps };

	log_journal_begin(&s->proc->journal, &b);
}

enum log_got log_batch_take(struct log_stream *s)
{
	struct log_journal *j = &s->proc->journal;
	ssize_t n;

	begin(s);
	n = log_journal_take(j, s->fd);
	if (n < 0 && errno == EAGAIN) {
		log_journal_cancel(j);
		return LOG_GOT_NOTHING;
	}
	if (n < 0)
		note(s, "unable to read the output for", errno);
	log_journal_feed(j, n > 0 ? hold_back(s) : 0, clock_real_us());
	work(s, false, n <= 0);
	return n > 0 ? LOG_GOT_DATA : LOG_GOT_EOF;
}

void log_batch_empty(struct log_stream *s, bool last)
{
	struct log_journal *j = &s->proc->journal;
	size_t carried;

	begin(s);
	log_journal_input(j, &carried);
	log_journal_feed(j, last ? 0 : carried, clock_real_us());
	work(s, false, last);
}

bool log_batch_waits(const struct log_stream *s)
{
	return log_journal_slot(&s->proc->journal, s->slot)->state.lost_errno != 0;
}

void log_batch_recover(struct log_stream *s)
{
	struct log_journal *j = &s->proc->journal;
	enum log_phase phase = log_journal_recover(j);
	size_t len;

	if (phase == LOG_PHASE_IDLE)
		return;
	DIAG_ASSERT(log_journal_batch(j)->slot == s->slot);
	log_journal_input(j, &len);
	if (phase == LOG_PHASE_TAKE && len == log_journal_batch(j)->carried) {
		log_journal_cancel(j);
		return;
	}
	if (phase == LOG_PHASE_TAKE)
		log_journal_feed(j, hold_back(s), clock_real_us());
	work(s, true, false);
}
