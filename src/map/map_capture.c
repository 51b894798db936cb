/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The output of an item until it is delivered: read from a pipe, kept in memory up to a bound, then in the spill file.
 * A stream is a list of extents followed by memory. Where there is no room, it is not read: the pipe
 * fills up, and the item waits for its turn. Runs in the runner; owns the pipes' ends.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/fds.h"
#include "map/map_private.h"

#define PIPE_SIZE (1 << 20)  /* of --pipe: the most that needs no privilege */
#define SPARE_MAX (2u << 20) /* bytes of a stream's memory that may be kept for the next item */
#define SPARE_ALL (16u << 20)
#define READ_MIN 4096     /* room for a read */
#define FINISH_MAX (4u << 20) /* more than any pipe holds: somebody still writes */

static int open_one(struct run *r, struct item *it, int stream, int *write_r)
{
	struct capture *c = &it->out[stream];
	int p[2];

	c->run = r;
	c->item = it;
	c->stream = stream;
	c->fd = c->src.fd = -1;
	c->total = 0;
	c->held = false;
	if (c->spare)
		r->spare_bytes -= c->cap;
	c->spare = false;
	if (pipe2(p, O_CLOEXEC) < 0)
		return -1;
	if (r->o->pipe && stream == 0)
		fcntl(p[0], F_SETPIPE_SZ, PIPE_SIZE); /* or it stays as it is */
	fcntl(p[0], F_SETFL, O_NONBLOCK); /* our end alone */
	c->fd = p[0];
	*write_r = p[1];
	return 0;
}

int capture_open(struct run *r, struct item *it, int write_r[2])
{
	if (open_one(r, it, 0, &write_r[0]) < 0)
		return -1;
	if (open_one(r, it, 1, &write_r[1]) == 0)
		return 0;
	fds_close(&write_r[0]);
	fds_close(&it->out[0].fd);
	return -1;
}

/* --- keeping --- */

static int spill(struct run *r, struct capture *c)
{
	struct extent e;

	if (spill_put(&r->spill, c->mem, c->len, &e) < 0)
		return -1;
	if (c->n_ext > 0 && c->ext[c->n_ext - 1].at + (int64_t)c->ext[c->n_ext - 1].len == e.at) {
		c->ext[c->n_ext - 1].len += e.len;
	} else {
		MAP_ROOM(c->ext, c->cap_ext, c->n_ext + 1);
		c->ext[c->n_ext++] = e;
	}
	r->kept -= c->len;
	c->len = 0;
	return 0;
}

static bool is_too_much(const struct run *r, const struct capture *c)
{
	return c->len >= MAP_KEEP || (r->kept >= MAP_KEEP_ALL && c->len >= MAP_PIECE);
}

/* --- reading --- */

static void unwatch(struct run *r, struct capture *c)
{
	loop_detach(&r->loop, &c->src);
}

/* Makes room in memory, if there must be. False: nothing can be taken now. */
static bool make_room(struct run *r, struct capture *c)
{
	if (r->o->line_buffer)
		return sink_pending(&r->sink[0]) + sink_pending(&r->sink[1]) < MAP_PIECE;
	return !is_too_much(r, c) || spill(r, c) == 0;
}

/* Reads once. 1: there may be more; 0: not now; -1: it has ended. */
static int take(struct run *r, struct capture *c)
{
	ssize_t n;

	if (c->cap - c->len < READ_MIN) {
		c->cap = c->cap > 0 ? c->cap * 2 : r->o->pipe ? PIPE_SIZE : READ_MIN;
		c->mem = map_grow(c->mem, c->cap, 1);
	}
	n = read(c->fd, c->mem + c->len, c->cap - c->len);
	if (n < 0)
		return errno == EINTR ? 1 : errno == EAGAIN ? 0 : -1;
	if (n == 0)
		return -1;
	c->len += (size_t)n;
	c->total += (uint64_t)n;
	r->kept += (size_t)n;
	return 1;
}

static void capture_ready(struct loop_source *src, uint32_t events)
{
	struct capture *c = src->ctx;
	struct run *r = c->run;
	int n;

	(void)events;
	if (!make_room(r, c)) {
		c->held = true;
		unwatch(r, c);
		run_pump(r); /* which sees whether anything can still move */
		return;
	}
	n = take(r, c);
	if (n < 0) { /* closed by the item, which goes on */
		unwatch(r, c);
		fds_close(&c->fd);
	}
	if (r->o->line_buffer && n > 0) {
		deliver_lines(r, c, false);
		run_pump(r);
	}
}

void capture_watch(struct run *r, struct capture *c)
{
	if (c->fd >= 0 && c->src.fd < 0 && !c->held)
		loop_attach(&r->loop, &c->src, c->fd, EPOLLIN, capture_ready, c);
}

void capture_resume(struct run *r, struct capture *c)
{
	if (c->held && make_room(r, c)) {
		c->held = false;
		capture_watch(r, c);
	}
}

/* Whoever still has the pipe open is not waited for. */
void capture_finish(struct run *r, struct capture *c)
{
	uint64_t from = c->total;

	unwatch(r, c);
	while (c->fd >= 0 && c->total - from < FINISH_MAX && take(r, c) > 0)
		if (is_too_much(r, c) && !r->o->line_buffer)
			spill(r, c);
	fds_close(&c->fd);
}

void capture_drop(struct run *r, struct capture *c)
{
	size_t i;

	unwatch(r, c);
	fds_close(&c->fd);
	for (i = 0; i < c->n_ext; i++)
		spill_free(&r->spill, &c->ext[i]);
	r->kept -= c->len;
	c->n_ext = c->len = 0;
	c->total = 0;
	c->held = false;
	if (c->cap <= MAP_PIECE || c->spare)
		return;
	/* memory that is there is faster than memory that is made, but not every item may have much */
	c->spare = c->cap <= SPARE_MAX && r->spare_bytes + c->cap <= SPARE_ALL;
	if (c->spare) {
		r->spare_bytes += c->cap;
	} else {
		free(c->mem);
		c->mem = NULL;
		c->cap = 0;
	}
}

/* --- reading back --- */

const char *capture_at(struct run *r, const struct capture *c, uint64_t at, size_t *len_r)
{
	size_t i;

	for (i = 0; i < c->n_ext; at -= c->ext[i++].len) {
		if (at >= c->ext[i].len)
			continue;
		*len_r = c->ext[i].len - at < MAP_PIECE ? c->ext[i].len - (size_t)at : MAP_PIECE;
		if (spill_get(&r->spill, &c->ext[i], (size_t)at, r->scratch, *len_r) < 0)
			return NULL;
		return r->scratch;
	}
	*len_r = c->len - (size_t)at;
	return *len_r > 0 ? c->mem + at : NULL;
}

void capture_consumed(struct capture *c, size_t n)
{
	memmove(c->mem, c->mem + n, c->len - n);
	c->len -= n;
	c->run->kept -= n;
}
