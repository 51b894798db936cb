/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Where items come from: arguments behind :::, or standard input, cut at newlines or NULs, or, for --pipe, into
 * chunks of whole records. Reads only when it is asked for an item and has none, and only what is there, so
 * that it never blocks. Runs in the runner; owns one buffer, which grows to one item or one chunk.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fds.h"
#include "map/map_private.h"

#define CHUNK_MAX (256u << 20) /* bytes beyond a block that a chunk may have, for one long record or many */

static void input_ready(struct loop_source *src, uint32_t events)
{
	struct input *in = src->ctx;

	(void)events;
	loop_detach(in->loop, src);
	in->readable = true;
	in->wake(in->ctx);
}

int input_open(struct input *in, const struct map_options *o, struct loop *l, void (*wake)(void *ctx), void *ctx)
{
	*in = (struct input){ .o = o, .loop = l, .wake = wake, .ctx = ctx, .src.fd = -1, .fd = STDIN_FILENO };
	if (o->args)
		return 0;
	if (loop_attach(l, &in->src, in->fd, EPOLLIN, input_ready, in) == 0)
		in->polled = true;
	else if (errno != EPERM) /* a regular file: never to be waited for */
		return -1;
	return 0;
}

void input_close(struct input *in)
{
	loop_detach(in->loop, &in->src);
	free(in->buf);
	in->buf = NULL;
}

/* --- the buffer --- */

static void make_room(struct input *in, size_t size)
{
	if (in->from > 0 && in->to + size > in->cap) {
		memmove(in->buf, in->buf + in->from, in->to - in->from);
		in->to -= in->from;
		in->from = 0;
	}
	MAP_ROOM(in->buf, in->cap, in->to + size);
}

/* Reads once. False: it has to be waited for. At the end, ended is set. */
static bool fill(struct input *in, size_t size)
{
	ssize_t n;

	if (in->polled && !in->readable) {
		if (in->src.fd < 0 && loop_attach(in->loop, &in->src, in->fd, EPOLLIN, input_ready, in) < 0)
			in->ended = true;
		return in->ended;
	}
	make_room(in, size);
	do {
		n = read(in->fd, in->buf + in->to, size);
	} while (n < 0 && errno == EINTR);
	in->readable = false;
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return in->polled ? fill(in, size) : true;
	if (n < 0)
		in->err = errno;
	if (n <= 0)
		in->ended = true;
	else
		in->to += (size_t)n;
	return true;
}

/* --- items --- */

static void add_text(struct item *it, const char *s, size_t len)
{
	if (len > MAP_ITEM_MAX) {
		it->bad = "longer than an argument can be";
		len = MAP_ITEM_MAX;
	} else if (memchr(s, '\0', len)) {
		it->bad = "it has a NUL byte in it, which an argument cannot have";
	}
	MAP_ROOM(it->text, it->cap, it->len + len + 1);
	memcpy(it->text + it->len, s, len);
	it->text[it->len + len] = '\0';
	it->len += len + 1;
	it->n_args++;
}

/* The rest of an item that was too long, up to its end. */
static void skip_rest(struct input *in, const char *end)
{
	in->from = end ? (size_t)(end - in->buf) + 1 : in->to;
	in->looked = 0;
	in->skipping = !end;
}

static enum input_result next_line(struct input *in, struct item *it)
{
	int delim = in->o->nul ? '\0' : '\n';
	const char *start, *end;
	size_t have;

	for (;;) {
		start = in->buf + in->from;
		have = in->to - in->from;
		end = have > in->looked ? memchr(start + in->looked, delim, have - in->looked) : NULL;
		if (in->skipping) {
			skip_rest(in, end);
			if (end)
				continue;
		} else if (end || (in->ended && have > 0) || have > MAP_ITEM_MAX) {
			add_text(it, start, end ? (size_t)(end - start) : have);
			if (end)
				in->from += (size_t)(end - start) + 1;
			else
				skip_rest(in, NULL);
			in->looked = 0;
			return INPUT_ITEM;
		} else {
			in->looked = have;
		}
		if (in->ended)
			return INPUT_END;
		if (!fill(in, MAP_PIECE))
			return INPUT_WAIT;
	}
}

static enum input_result next_arg(struct input *in, struct item *it)
{
	const char *s;

	if (in->next_arg == in->o->n_args)
		return INPUT_END;
	s = in->o->args[in->next_arg++];
	add_text(it, s, strlen(s));
	return INPUT_ITEM;
}

/* --- chunks --- */

/* How many bytes of the buffer are a chunk; 0: not yet known. */
static size_t chunk_size(struct input *in)
{
	int delim = in->o->nul ? '\0' : '\n';
	size_t have = in->to - in->from, at = in->looked;
	const char *start = in->buf + in->from, *end;

	if (in->o->records > 0) {
		while (at < have && (end = memchr(start + at, delim, have - at))) {
			at = (size_t)(end - start) + 1;
			if (++in->found == in->o->records)
				return at;
		}
		in->looked = have;
	} else if (have >= in->o->block) {
		end = memrchr(start, delim, in->o->block);
		/* a record longer than a block is a chunk of its own */
		if (!end && have > in->looked)
			end = memchr(start + (at > in->o->block ? at : in->o->block), delim,
			    have - (at > in->o->block ? at : in->o->block));
		if (end)
			return (size_t)(end - start) + 1;
		in->looked = have;
	}
	return in->ended ? have : 0;
}

static int make_chunk(struct item *it, const char *data, size_t len)
{
	it->chunk = memfd_create("map-chunk", MFD_CLOEXEC);
	if (it->chunk < 0)
		return -1;
	if (fds_write_all(it->chunk, data, len) == 0)
		return 0;
	fds_close(&it->chunk);
	return -1;
}

static enum input_result next_chunk(struct input *in, struct item *it)
{
	size_t want, n;

	for (;;) {
		n = chunk_size(in);
		if (n > 0) {
			if (make_chunk(it, in->buf + in->from, n) < 0) {
				in->err = errno;
				return INPUT_END;
			}
			in->from += n;
			in->looked = in->found = 0;
			return INPUT_ITEM;
		}
		if (in->ended)
			return INPUT_END;
		if (in->to - in->from > in->o->block + CHUNK_MAX) {
			in->err = EMSGSIZE;
			return INPUT_END;
		}
		want = in->o->block > in->to - in->from ? in->o->block - (in->to - in->from) : MAP_PIECE;
		if (!fill(in, want))
			return INPUT_WAIT;
	}
}

enum input_result input_next(struct input *in, struct item *it)
{
	enum input_result r = INPUT_ITEM;

	if (in->o->pipe)
		return next_chunk(in, it);
	/* what is there of a group stays in the item until the rest has come */
	while (r == INPUT_ITEM && it->n_args < in->o->max_args)
		r = in->o->args ? next_arg(in, it) : next_line(in, it);
	return r == INPUT_END && it->n_args > 0 ? INPUT_ITEM : r;
}
