/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The output of items that have ended, one after the other: in the order of input, or as they ended. Goes as far as
 * the output takes it and comes back. With a log, an item's output is through before its line is
 * written, and its line before the next item's output begins. Runs in the runner.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fds.h"
#include "map/map_private.h"

/* --- lines and their tags --- */

static void put_tag(const struct item *it, struct sink *s)
{
	size_t k;
	const char *t;

	for (t = it->text, k = 0; k < it->n_args; k++, t += strlen(t) + 1) {
		if (k > 0)
			sink_put(s, " ", 1);
		sink_put(s, t, strlen(t));
	}
	sink_put(s, "\t", 1);
}

/* Whole lines with a tag before each; a line that is not whole goes on with the next piece. */
static void put_tagged(const struct item *it, struct sink *s, const char *data, size_t len, bool *in_line)
{
	const char *end;
	size_t n;

	while (len > 0) {
		if (!*in_line)
			put_tag(it, s);
		end = memchr(data, '\n', len);
		n = end ? (size_t)(end - data) + 1 : len;
		sink_put(s, data, n);
		*in_line = !end;
		data += n;
		len -= n;
	}
}

void deliver_lines(struct run *r, struct capture *c, bool all)
{
	const char *end = c->len > 0 ? memrchr(c->mem, '\n', c->len) : NULL;
	size_t n = end ? (size_t)(end - c->mem) + 1 : 0;
	bool in_line = false;

	if (all || (n == 0 && c->len >= MAP_LINE_KEEP))
		n = c->len; /* a line that does not end is not kept for ever */
	if (n == 0)
		return;
	progress_hide(r);
	if (r->o->tag)
		put_tagged(c->item, &r->sink[c->stream], c->mem, n, &in_line);
	else
		sink_put(&r->sink[c->stream], c->mem, n);
	capture_consumed(c, n);
}

/* --- one item --- */

static bool blocked(const struct run *r)
{
	return r->sink[0].blocked || r->sink[1].blocked || sink_pending(&r->sink[0]) > 0 || sink_pending(&r->sink[1]) > 0;
}

/* A stream as far as it goes. True when it is through. */
static bool put_stream(struct run *r, struct delivery *d, int stream)
{
	struct capture *c = &d->item->out[stream];
	struct sink *s = &r->sink[r->o->json ? 0 : stream];
	const char *data;
	size_t len;

	while (!blocked(r) && (data = capture_at(r, c, d->at, &len))) {
		if (r->o->tag) {
			len = len < MAP_PIECE ? len : MAP_PIECE;
			put_tagged(d->item, s, data, len, &d->in_line);
		} else if (r->o->json) {
			len = len < MAP_PIECE ? len : MAP_PIECE;
			len = json_piece(s, data, len, d->at + len >= c->total);
		} else {
			len = sink_try(s, data, len);
		}
		d->at += len;
	}
	if (blocked(r))
		return false;
	if (d->at < c->total && !r->o->line_buffer) {
		diag_error("map: unable to read back the output of item %llu", (unsigned long long)d->item->seq);
		run_break(r, MAP_BROKEN);
	}
	return true;
}

static void begin(struct run *r, struct delivery *d)
{
	*d = (struct delivery){ .item = d->item, .phase = DELIVER_OUT };
	progress_hide(r);
	if (r->o->results)
		results_write(r, d->item);
	if (r->ledger && !r->o->line_buffer) {
		/* the guard reads it only when there is a phase that says so */
		r->ledger->len = joblog_line(r, d->item, r->ledger->line, sizeof r->ledger->line);
		ledger_output(r->ledger, r->log.fd);
	} else if (r->ledger) {
		r->ledger->len = joblog_line(r, d->item, r->ledger->line, sizeof r->ledger->line);
	}
	if (r->o->json)
		json_head(r, d->item, &r->sink[0]);
}

/* The item is out of our hands: its line. */
static void log_it(struct run *r)
{
	struct ledger *l = r->ledger;
	int err;

	if (!l || r->sink[0].err != 0 || r->sink[1].err != 0)
		return;
	if (!r->o->line_buffer)
		ledger_line(l);
	if (fds_write_all(r->log.fd, l->line, l->len) < 0) {
		err = errno;
		r->closed = true; /* no more output than lines */
		if (!r->o->line_buffer)
			ledger_undo(l, r->log.fd); /* before the message, which may go to the same file */
		errno = err;
		diag_error_errno("map: unable to write %s", r->o->joblog);
		run_break(r, MAP_BROKEN);
	}
	ledger_idle(l);
}

/* One step; false when it must wait. */
static bool step(struct run *r, struct delivery *d)
{
	switch (d->phase) {
	case DELIVER_BEGIN:
		begin(r, d);
		return true;
	case DELIVER_OUT:
	case DELIVER_ERR:
		if (!put_stream(r, d, d->phase == DELIVER_ERR))
			return false;
		if (r->o->json && d->phase == DELIVER_OUT)
			sink_put(&r->sink[0], JSON_MIDDLE, strlen(JSON_MIDDLE));
		else if (r->o->json)
			sink_put(&r->sink[0], JSON_TAIL, strlen(JSON_TAIL));
		d->phase = d->phase == DELIVER_OUT ? DELIVER_ERR : DELIVER_FLUSH;
		d->at = 0;
		d->in_line = false;
		return true;
	case DELIVER_FLUSH:
		if (r->ledger && blocked(r))
			return false;
		log_it(r);
		run_delivered(r, d->item);
		d->item = NULL;
		return true;
	}
	return true;
}

static struct item *next(struct run *r)
{
	struct item *it;

	if (r->o->unordered || r->o->line_buffer)
		return TAILQ_FIRST(&r->ended);
	it = TAILQ_FIRST(&r->live);
	return it && it->state == ITEM_DONE ? it : NULL;
}

void deliver_pump(struct run *r)
{
	struct delivery *d = &r->delivery;

	while (r->sink[0].err == 0 && r->sink[1].err == 0 && !r->closed && !r->suspended) {
		if (!d->item) {
			if (blocked(r) || !(d->item = next(r)))
				return;
			d->phase = DELIVER_BEGIN;
		}
		if (!step(r, d))
			return;
	}
}
