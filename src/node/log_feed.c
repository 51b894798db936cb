/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Cuts a batch into steps. Hides where lines begin and end, where timestamps stand, when a file
 * is full, and what of a line is lost when only a part of it could be written. A file is
 * rotated between lines, so that none is larger than max_bytes; a line that is itself longer is
 * cut at max_bytes. Runs in the log process. Pure; never allocates.
 */
#include "node/log_feed.h"

#include <string.h>

#include "base/clock.h"

#define STAMP (CLOCK_ISO_SIZE - 1 + 1) /* the time and a space */

void log_feed_init(struct log_feed *f, const uint8_t *in, const struct log_batch *b,
    const char *secret)
{
	f->in = in;
	f->len = b->len;
	f->secret = secret;
	f->time_us = b->time_us;
	f->max_bytes = b->max_bytes;
	if (f->max_bytes > 0 && f->max_bytes < LOG_MAX_BYTES_MIN)
		f->max_bytes = LOG_MAX_BYTES_MIN;
	f->timestamps = b->timestamps;
	f->marked = f->searched = f->final = false;
}

/* The first mark not yet dealt with, or NULL. */
static const struct log_mark *next_mark(struct log_feed *f, size_t pos)
{
	if (!f->searched || (f->marked && f->mark.at < pos)) {
		f->marked = log_mark_find(f->secret, f->in, f->len, pos, &f->mark);
		f->searched = true;
	}
	return f->marked ? &f->mark : NULL;
}

static size_t room_in_file(const struct log_feed *f, const struct log_state *st)
{
	if (f->max_bytes == 0)
		return SIZE_MAX;
	return st->off < f->max_bytes ? (size_t)(f->max_bytes - st->off) : 0;
}

/* --- pieces of output --------------------------------------------------------------------- */

struct piece {
	const uint8_t *out;
	size_t in_len, out_len;
	size_t line_at;   /* where in out its unfinished line starts; SIZE_MAX: before out */
	size_t line_raw;  /* bytes of input in that line */
	bool mid;         /* it ends within a line */
};

static void piece_line(struct piece *p, bool mid, size_t line_at, size_t line_raw)
{
	p->mid = mid;
	p->line_at = line_at;
	p->line_raw = line_raw;
}

/* As much of in[0..n) as fits into room: whole lines, and with tail also the unfinished one at
 * the end. */
static void take_plain(struct piece *p, const uint8_t *in, size_t n, size_t room, bool tail)
{
	size_t len = n < room ? n : room;
	const uint8_t *nl = memrchr(in, '\n', len);
	size_t lines = nl ? (size_t)(nl - in) + 1 : 0;

	p->out = in;
	p->in_len = tail && n <= room ? n : lines;
	p->out_len = p->in_len;
	piece_line(p, p->in_len > lines, nl ? lines : SIZE_MAX, p->in_len - lines);
}

/* The same with the time in front of every line; mid: in[0] continues a line. */
static void take_stamped(struct log_feed *f, struct piece *p, const uint8_t *in, size_t n,
    size_t room, bool tail, bool mid)
{
	char iso[CLOCK_ISO_SIZE];

	clock_iso(f->time_us, iso);
	*p = (struct piece){ .out = f->out, .line_at = SIZE_MAX, .mid = mid };
	if (room > sizeof(f->out))
		room = sizeof(f->out);
	while (p->in_len < n) {
		const uint8_t *line = in + p->in_len, *nl = memchr(line, '\n', n - p->in_len);
		size_t len = nl ? (size_t)(nl - line) + 1 : n - p->in_len;
		size_t stamp = p->mid ? 0 : STAMP;

		if ((!nl && !tail) || stamp + len > room - p->out_len)
			break;
		if (!p->mid)
			p->line_at = p->out_len;
		memcpy(f->out + p->out_len, iso, stamp ? STAMP - 1 : 0);
		if (stamp)
			f->out[p->out_len + STAMP - 1] = ' ';
		memcpy(f->out + p->out_len + stamp, line, len);
		p->in_len += len;
		p->out_len += stamp + len;
		p->line_raw = len;
		p->mid = !nl;
	}
	if (!p->mid) {
		p->line_at = p->out_len;
		p->line_raw = 0;
	}
}

static void take(struct log_feed *f, const struct log_state *st, struct piece *p, size_t n,
    size_t room, bool tail)
{
	const uint8_t *in = f->in + st->in_pos;

	if (f->timestamps)
		take_stamped(f, p, in, n, room, tail, st->mid);
	else
		take_plain(p, in, n, room, tail);
}

/* A line fills a whole file: as much of it as there is room for. */
static void take_part(struct log_feed *f, const struct log_state *st, struct piece *p, size_t n,
    size_t room)
{
	size_t stamp = f->timestamps && !st->mid ? STAMP : 0;

	if (n > room - stamp)
		n = room - stamp;
	take(f, st, p, n, SIZE_MAX, true);
}

static void use_piece(struct log_step *s, const struct log_feed *f, const struct log_state *st,
    const struct piece *p)
{
	struct log_state *a = &s->after;

	s->kind = LOG_STEP_WRITE;
	s->out = p->out;
	s->out_len = p->out_len;
	s->raw = f->in + st->in_pos;
	s->raw_len = p->in_len;
	a->in_pos += p->in_len;
	a->off += p->out_len;
	a->mid = p->mid;
	a->line_off = !p->mid ? a->off : p->line_at == SIZE_MAX ? st->line_off : st->off + p->line_at;
	a->line_raw = !p->mid ? 0 : p->line_raw + (p->line_at == SIZE_MAX ? st->line_raw : 0);
	a->ring_pos += p->in_len;
}

/* --- steps -------------------------------------------------------------------------------- */

static void step_init(struct log_step *s, const struct log_state *st)
{
	s->kind = LOG_STEP_END;
	s->out = s->raw = NULL;
	s->out_len = s->raw_len = 0;
	s->mark = NULL;
	s->after = *st;
}

/* A line of our own, whole; a file that is empty takes it whatever max_bytes says. */
static void step_line(struct log_feed *f, const struct log_state *st, struct log_step *s, size_t len)
{
	if (len > room_in_file(f, st) && st->off > 0) {
		s->kind = LOG_STEP_ROTATE;
		return;
	}
	s->kind = LOG_STEP_WRITE;
	s->out = f->out;
	s->out_len = len;
	s->after.off += len;
	s->after.line_off = s->after.off;
	s->after.line_raw = 0;
	s->after.mid = s->after.fresh = 0;
}

static void step_newline(struct log_feed *f, const struct log_state *st, struct log_step *s)
{
	f->out[0] = '\n';
	step_line(f, st, s, 1);
}

static void step_lost(struct log_feed *f, const struct log_state *st, struct log_step *s)
{
	step_line(f, st, s, log_mark_lost(f->time_us, st->lost_lines, st->lost_bytes, st->lost_errno,
	    (char *)f->out));
	if (s->kind != LOG_STEP_WRITE)
		return;
	s->after.lost_lines = s->after.lost_bytes = 0;
	s->after.lost_errno = 0;
}

/* What a mark does to the state, written or not. */
static void pass_mark(struct log_step *s, const struct log_mark *m)
{
	s->mark = m;
	s->after.in_pos = m->at + m->len;
	if (m->kind == 'S') {
		s->after.pid = m->pid;
		s->after.run_pos = s->after.ring_pos;
		s->after.armed = 1;
	} else if (m->kind == 'X') {
		s->after.armed = 0;
	}
}

static void step_mark(struct log_feed *f, const struct log_state *st, struct log_step *s,
    const struct log_mark *m)
{
	size_t len;

	if (st->mid && m->kind != 0) {
		step_newline(f, st, s);
		return;
	}
	len = log_mark_record(m, (char *)f->out);
	if (len > 0)
		step_line(f, st, s, len);
	else
		s->kind = LOG_STEP_SKIP;
	if (s->kind != LOG_STEP_ROTATE)
		pass_mark(s, m);
}

static void step_data(struct log_feed *f, const struct log_state *st, struct log_step *s, size_t n)
{
	size_t room = room_in_file(f, st);
	struct piece p;

	take(f, st, &p, n, room, true);
	if (p.in_len == 0 && st->line_off == 0 && room > (st->mid ? 0 : STAMP))
		take_part(f, st, &p, n, room);
	if (p.in_len > 0)
		use_piece(s, f, st, &p);
	else
		s->kind = LOG_STEP_ROTATE;
}

/* A line that began to be lost is lost to its end. */
static void skip_line(const struct log_feed *f, const struct log_state *st, struct log_step *s, size_t n)
{
	const uint8_t *in = f->in + st->in_pos, *nl = memchr(in, '\n', n);

	s->kind = LOG_STEP_SKIP;
	s->raw = in;
	s->raw_len = nl ? (size_t)(nl - in) + 1 : n;
	s->after.in_pos += s->raw_len;
	s->after.ring_pos += s->raw_len;
	s->after.lost_bytes += s->raw_len;
	s->after.lost_lines += nl != NULL;
	s->after.dropping = !nl;
}

/* A mark, or the end of all, ends a line that has no newline. */
static void end_dropping(struct log_step *s)
{
	s->kind = LOG_STEP_SKIP;
	s->after.lost_lines++;
	s->after.dropping = 0;
}

void log_feed_next(struct log_feed *f, const struct log_state *st, struct log_step *s)
{
	const struct log_mark *m = next_mark(f, st->in_pos);
	bool at_mark = m && m->at == st->in_pos;
	size_t n = (m ? m->at : f->len) - st->in_pos;

	step_init(s, st);
	if (st->dropping && n > 0)
		skip_line(f, st, s, n);
	else if (st->dropping && (at_mark || f->final))
		end_dropping(s);
	else if (st->dropping)
		return;
	else if (st->fresh && (n > 0 || at_mark || st->lost_errno))
		step_newline(f, st, s);
	else if (st->lost_errno)
		step_lost(f, st, s);
	else if (at_mark)
		step_mark(f, st, s, m);
	else if (n > 0)
		step_data(f, st, s, n);
}

bool log_feed_cut(struct log_feed *f, const struct log_state *st, size_t room, struct log_step *s)
{
	const struct log_mark *m = next_mark(f, st->in_pos);
	size_t n = (m ? m->at : f->len) - st->in_pos;
	struct piece p;

	step_init(s, st);
	if (n == 0 || st->dropping || st->fresh || st->lost_errno)
		return false;
	take(f, st, &p, n, room, false);
	if (p.in_len == 0)
		return false;
	use_piece(s, f, st, &p);
	return true;
}

static uint64_t count_lines(const uint8_t *p, size_t n)
{
	const uint8_t *end = p + n;
	uint64_t lines = 0;

	while (p < end && (p = memchr(p, '\n', (size_t)(end - p))) != NULL) {
		lines++;
		p++;
	}
	return lines;
}

/* The unfinished line in the file is lost with its rest. */
static void uncover(struct log_state *a)
{
	if (!a->mid)
		return;
	a->lost_bytes += a->line_raw;
	a->off = a->line_off;
	a->line_raw = 0;
	a->mid = 0;
	a->dropping = 1;
	a->cut = 1;
}

static void drop_mark(struct log_step *s, const struct log_mark *m)
{
	char line[LOG_RECORD_MAX];
	size_t len = log_mark_record(m, line);

	s->after.lost_lines += (len > 0) + (s->after.dropping != 0);
	s->after.lost_bytes += len;
	s->after.dropping = 0;
	pass_mark(s, m);
}

void log_feed_drop(struct log_feed *f, const struct log_state *st, int err, struct log_step *s)
{
	const struct log_mark *m = next_mark(f, st->in_pos);
	size_t n = (m ? m->at : f->len) - st->in_pos;

	step_init(s, st);
	if (n == 0 && !m)
		return;
	s->kind = LOG_STEP_SKIP;
	s->after.lost_errno = err;
	uncover(&s->after);
	if (n == 0) {
		drop_mark(s, m);
		return;
	}
	s->raw = f->in + st->in_pos;
	s->raw_len = n;
	s->after.in_pos += n;
	s->after.ring_pos += n;
	s->after.lost_bytes += n;
	s->after.lost_lines += count_lines(s->raw, n);
	s->after.dropping = s->raw[n - 1] != '\n';
}
