/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Standard output and standard error, written without ever blocking the runner. Making the descriptor
 * non-blocking would make it so for everybody who has it; so a pipe or a terminal is opened again, a socket is
 * told with each call, and what can be neither is asked first and given no more than a pipe takes. Runs in the
 * runner; allocates a buffer for what waits.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fds.h"
#include "map/map_private.h"

#define POLL_MAX 4096 /* PIPE_BUF: what POLLOUT promises */

static enum sink_kind kind_of(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0 || S_ISREG(st.st_mode))
		return SINK_FILE;
	if (S_ISSOCK(st.st_mode))
		return SINK_SOCKET;
	return S_ISFIFO(st.st_mode) || isatty(fd) ? SINK_NONBLOCK : S_ISCHR(st.st_mode) ? SINK_FILE : SINK_POLL;
}

void sink_open(struct sink *s, int fd, struct loop *l, void (*drained)(void *ctx), void *ctx)
{
	char name[64];
	int again;

	*s = (struct sink){ .fd = fd, .kind = kind_of(fd), .loop = l, .src.fd = -1, .drained = drained, .ctx = ctx };
	if (s->kind != SINK_NONBLOCK)
		return;
	snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
	again = open(name, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (again < 0) {
		s->kind = SINK_POLL;
		return;
	}
	s->fd = again;
	s->own = true;
}

void sink_close(struct sink *s)
{
	loop_detach(s->loop, &s->src);
	if (s->own)
		fds_close(&s->fd);
	free(s->buf);
	s->buf = NULL;
}

static ssize_t write_some(const struct sink *s, const char *data, size_t len)
{
	struct pollfd p = { .fd = s->fd, .events = POLLOUT };

	if (s->kind == SINK_SOCKET)
		return send(s->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (s->kind == SINK_POLL) {
		if (poll(&p, 1, 0) == 0) {
			errno = EAGAIN;
			return -1;
		}
		len = len < POLL_MAX ? len : POLL_MAX;
	}
	return write(s->fd, data, len);
}

static ssize_t noted_write(struct sink *s, const char *data, size_t len)
{
	ssize_t n;

	if (!s->ledger)
		return write_some(s, data, len);
	atomic_store(&s->ledger->want[s->stream], (int64_t)len);
	n = write_some(s, data, len);
	if (n > 0)
		atomic_fetch_add(&s->ledger->done[s->stream], n);
	atomic_store(&s->ledger->want[s->stream], 0);
	return n;
}

static void sink_ready(struct loop_source *src, uint32_t events);

static void wait_for_room(struct sink *s)
{
	s->blocked = true;
	if (s->src.fd < 0 && loop_attach(s->loop, &s->src, s->fd, EPOLLOUT, sink_ready, s) < 0)
		s->err = errno;
}

size_t sink_try(struct sink *s, const char *data, size_t len)
{
	size_t done = 0;
	ssize_t n;

	if (s->err != 0)
		return len; /* nobody will see it */
	while (done < len && !s->blocked) {
		n = noted_write(s, data + done, len - done);
		if (n > 0) {
			done += (size_t)n;
		} else if (n < 0 && errno == EAGAIN) {
			wait_for_room(s);
		} else if (n == 0 || errno != EINTR) {
			s->err = n == 0 ? EIO : errno;
			s->drained(s->ctx);
			return len;
		}
	}
	return done;
}

static void sink_ready(struct loop_source *src, uint32_t events)
{
	struct sink *s = src->ctx;

	(void)events;
	loop_detach(s->loop, src);
	s->blocked = false;
	if (sink_pending(s) > 0)
		s->off += sink_try(s, s->buf + s->off, s->len - s->off);
	if (s->off >= s->len || s->err != 0)
		s->off = s->len = 0;
	if (!s->blocked)
		s->drained(s->ctx);
}

void sink_put(struct sink *s, const char *data, size_t len)
{
	size_t n = sink_pending(s) > 0 ? 0 : sink_try(s, data, len);

	if (n == len)
		return;
	if (s->off > 0) {
		memmove(s->buf, s->buf + s->off, s->len - s->off);
		s->len -= s->off;
		s->off = 0;
	}
	MAP_ROOM(s->buf, s->cap, s->len + len - n);
	memcpy(s->buf + s->len, data + n, len - n);
	s->len += len - n;
}
