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

#define PIECE (128u << 10)     /* read at a time for a chunk: it stays in the processor's cache */
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
	*in = (struct input){ .o = o, .loop = l, .wake = wake, .ctx = ctx, .src.fd = -1, .fd = STDIN_FILENO,
		.chunk = -1 };
	if (o->args)
		return 0;
	MAP_ROOM(in->buf, in->cap, MAP_PIECE);
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
	fds_close(&in->chunk);
	while (in->n_pool > 0)
		fds_close(&in->pool[--in->n_pool]);
}

/* --- the buffer --- */

static void make_room(struct input *in, size_t size)
{
	if (in->from == in->to)
		in->from = in->to = 0;
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

void input_give_back(struct input *in, int *fd)
{
	if (*fd >= 0 && in->n_pool < MAP_CHUNKS) {
		in->pool[in->n_pool++] = *fd;
		*fd = -1;
	}
	fds_close(fd);
}

static int begin_chunk(struct input *in)
{
	in->len = in->whole = in->records = 0;
	in->chunk = in->n_pool > 0 ? in->pool[--in->n_pool] : memfd_create("map-chunk", MFD_CLOEXEC);
	return in->chunk < 0 ? -1 : 0;
}

/* How many bytes of the piece belong to the chunk; notes how far its records are whole. */
static size_t belongs(struct input *in, const char *piece, size_t n)
{
	int delim = in->o->nul ? '\0' : '\n';
	const char *end;
	size_t at = 0;

	if (in->o->records == 0) {
		end = memrchr(piece, delim, n);
		if (end)
			in->whole = in->len + (size_t)(end - piece) + 1;
		return n;
	}
	while (at < n && in->records < in->o->records && (end = memchr(piece + at, delim, n - at))) {
		at = (size_t)(end - piece) + 1;
		in->whole = in->len + at;
		in->records++;
	}
	return in->records == in->o->records ? at : n;
}

static bool is_full(const struct input *in)
{
	return in->o->records > 0 ? in->records == in->o->records : in->len >= in->o->block && in->whole > 0;
}

static int write_at(int fd, const char *data, size_t len, size_t at)
{
	ssize_t n;

	for (; len > 0; data += n, len -= (size_t)n, at += (size_t)n) {
		n = pwrite(fd, data, len, (off_t)at);
		if (n <= 0)
			return -1;
	}
	return 0;
}

/* What the buffer has goes into the chunk, as much as belongs to it. */
static int put_piece(struct input *in)
{
	size_t n = in->to - in->from, room;

	if (in->o->records == 0 && in->whole == 0 && in->len >= in->o->block)
		room = n; /* a record longer than a block */
	else
		room = in->o->records > 0 || in->len >= in->o->block ? n : in->o->block - in->len;
	n = belongs(in, in->buf + in->from, n < room ? n : room);
	if (write_at(in->chunk, in->buf + in->from, n, in->len) < 0)
		return -1;
	in->from += n;
	in->len += n;
	return 0;
}

/* The record that the chunk has only a part of begins the next one. */
static int take_tail(struct input *in)
{
	size_t n = in->len - in->whole;
	ssize_t got = 0;

	if (n == 0)
		return 0;
	if (in->from >= n) { /* it is still in the buffer, before what is left */
		in->from -= n;
	} else {
		make_room(in, n);
		memmove(in->buf + in->from + n, in->buf + in->from, in->to - in->from);
		in->to += n;
		got = pread(in->chunk, in->buf + in->from, n, (off_t)in->whole);
	}
	return got < 0 ? -1 : 0;
}

static enum input_result end_chunk(struct input *in, struct item *it)
{
	if (in->ended && in->from == in->to && !is_full(in))
		in->whole = in->len; /* the last one: with a record that has no end */
	if (in->whole == 0)
		return INPUT_END;
	if (take_tail(in) < 0 || ftruncate(in->chunk, (off_t)in->whole) < 0) {
		in->err = errno;
		return INPUT_END;
	}
	it->chunk = in->chunk;
	in->chunk = -1;
	return INPUT_ITEM;
}

static enum input_result next_chunk(struct input *in, struct item *it)
{
	while (in->chunk >= 0 || begin_chunk(in) == 0) {
		if (in->from < in->to && !is_full(in) && put_piece(in) < 0)
			break;
		if (is_full(in) || (in->ended && in->from == in->to))
			return end_chunk(in, it);
		if (in->len > in->o->block + CHUNK_MAX) {
			errno = EMSGSIZE;
			break;
		}
		if (in->from == in->to && !fill(in, PIECE))
			return INPUT_WAIT;
	}
	in->err = errno;
	return INPUT_END;
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
