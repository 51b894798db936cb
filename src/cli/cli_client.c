/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A client's end of the control socket (cli_client.h). Runs in the command's process; allocates
 * its buffers, which never grow beyond one frame and what was read with it.
 */
#include "cli/cli_client.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fds.h"
#include "cli/cli_out.h"

#define READ_SIZE (64 * 1024)

void client_init(struct client *c, int64_t deadline_ms)
{
	*c = (struct client){ .fd = -1, .deadline_ms = deadline_ms };
}

void client_fini(struct client *c)
{
	fds_close(&c->fd);
	free(c->buf);
	c->buf = NULL;
	c->pos = c->len = c->cap = 0;
}

int client_adopt(struct client *c, int fd)
{
	socklen_t len = sizeof c->peer;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c->peer, &len) < 0 || len != sizeof c->peer)
		return -1;
	c->fd = fd;
	return 0;
}

/* Milliseconds until the deadline; -1: there is none. */
static int left_ms(const struct client *c)
{
	int64_t left;

	if (c->deadline_ms == CLIENT_NO_DEADLINE)
		return -1;
	left = c->deadline_ms - clock_mono_ms();
	return left < 0 ? 0 : left > INT_MAX ? INT_MAX : (int)left;
}

/* A full queue of the listener makes connect wait; this bounds it. */
static int bound_connect(const struct client *c, int fd)
{
	int left = left_ms(c);
	struct timeval tv;

	if (left < 0)
		return 0;
	left = left > 0 ? left : 1; /* 0 would be no bound at all */
	tv = (struct timeval){ .tv_sec = left / 1000, .tv_usec = left % 1000 * 1000 };
	return setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof tv);
}

/* Fills in the address; a path too long for one leads through its directory's descriptor, which
 * *dirfd_r then holds. */
static int address(struct sockaddr_un *sa, const char *path, int *dirfd_r)
{
	const char *slash = strrchr(path, '/');
	char dir[PATH_MAX];
	int n;

	*sa = (struct sockaddr_un){ .sun_family = AF_UNIX };
	*dirfd_r = -1;
	if (strlen(path) < sizeof sa->sun_path) {
		memcpy(sa->sun_path, path, strlen(path) + 1);
		return 0;
	}
	if (!slash || (size_t)(slash - path) >= sizeof dir) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(dir, path, (size_t)(slash - path));
	dir[slash - path] = '\0';
	*dirfd_r = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (*dirfd_r < 0)
		return -1;
	n = snprintf(sa->sun_path, sizeof sa->sun_path, "/proc/self/fd/%d%s", *dirfd_r, slash);
	if (n >= 0 && (size_t)n < sizeof sa->sun_path)
		return 0;
	fds_close(dirfd_r);
	errno = ENAMETOOLONG;
	return -1;
}

/* Connects fd; a wait that a signal cut short goes on. */
static int connect_fd(const struct client *c, int fd, const struct sockaddr_un *sa, bool wait)
{
	int r;

	if (wait && bound_connect(c, fd) < 0)
		return -1;
	do {
		r = connect(fd, (const struct sockaddr *)sa, sizeof *sa);
	} while (r < 0 && errno == EINTR);
	if (r < 0 && wait && errno == EAGAIN)
		errno = ETIMEDOUT;
	if (r < 0)
		return -1;
	return fds_set_nonblock(fd, true);
}

int client_connect(struct client *c, const char *path, bool wait)
{
	struct sockaddr_un sa;
	int dirfd, fd, saved;

	if (strlcpy(c->path, path, sizeof c->path) >= sizeof c->path) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (wait ? 0 : SOCK_NONBLOCK), 0);
	if (fd < 0)
		return -1;
	if (address(&sa, path, &dirfd) == 0 && connect_fd(c, fd, &sa, wait) == 0 && client_adopt(c, fd) == 0) {
		fds_close(&dirfd);
		c->pos = c->len = 0;
		return 0;
	}
	saved = errno;
	fds_close(&dirfd);
	fds_close(&fd);
	errno = saved;
	return -1;
}

bool client_trusts(const struct client *c, uid_t owner)
{
	uid_t me = geteuid();

	return c->peer.uid == me || c->peer.uid == 0 || (me == 0 && c->peer.uid == owner);
}

void request_init(struct request *r, uint8_t verb, uint32_t flags)
{
	r->buf = cli_alloc(sizeof(uint32_t) + PROTO_REQUEST_MAX);
	wire_out_init(&r->w, r->buf, sizeof(uint32_t) + PROTO_REQUEST_MAX);
	wire_put_u32(&r->w, 0); /* the length, known at the end */
	wire_put_u8(&r->w, PROTO_REQUEST);
	wire_put_u8(&r->w, PROTO_VERSION);
	wire_put_u8(&r->w, verb);
	wire_put_u32(&r->w, flags);
}

void request_fini(struct request *r)
{
	free(r->buf);
	r->buf = NULL;
}

/* Waits until the socket is ready. 0, or -1 with ETIMEDOUT. */
static int wait_for(const struct client *c, short events)
{
	struct pollfd p = { .fd = c->fd, .events = events };
	int n;

	do {
		n = poll(&p, 1, left_ms(c));
	} while (n < 0 && errno == EINTR);
	if (n == 0)
		errno = ETIMEDOUT;
	return n > 0 ? 0 : -1;
}

int client_send(struct client *c, struct request *r)
{
	uint32_t body = (uint32_t)(r->w.len - sizeof body);
	size_t done = 0;
	ssize_t n;

	if (r->w.overflow) {
		errno = EMSGSIZE;
		return -1;
	}
	memcpy(r->buf, &body, sizeof body);
	while (done < r->w.len) {
		n = send(c->fd, r->buf + done, r->w.len - done, MSG_NOSIGNAL);
		if (n >= 0)
			done += (size_t)n;
		else if (errno == EAGAIN && wait_for(c, POLLOUT) < 0)
			return -1;
		else if (errno != EAGAIN && errno != EINTR)
			return -1;
	}
	return 0;
}

/* Makes room for at least want bytes from pos on. */
static void make_room(struct client *c, size_t want)
{
	if (c->buf && c->pos > 0)
		memmove(c->buf, c->buf + c->pos, c->len - c->pos);
	c->len -= c->pos;
	c->pos = 0;
	if (c->cap < want) {
		c->cap = want;
		c->buf = cli_grow(c->buf, c->cap, 1);
	}
}

/* Reads until want bytes are there. 1, 0 at the end, -1 with errno. */
static int fill(struct client *c, size_t want)
{
	ssize_t n;

	while (c->len - c->pos < want) {
		if (c->cap - c->pos < want || !c->buf)
			make_room(c, want > READ_SIZE ? want : READ_SIZE);
		n = recv(c->fd, c->buf + c->len, c->cap - c->len, 0);
		if (n > 0) {
			c->len += (size_t)n;
		} else if (n == 0 || errno == ECONNRESET) {
			return 0;
		} else if (errno == EAGAIN) {
			fflush(stdout);
			if (wait_for(c, POLLIN) < 0)
				return -1;
		} else if (errno != EINTR) {
			return -1;
		}
	}
	return 1;
}

int client_next(struct client *c, struct wire_in *body_r)
{
	uint32_t len;
	int r = fill(c, sizeof len), kind;

	if (r <= 0)
		return r;
	memcpy(&len, c->buf + c->pos, sizeof len);
	if (len == 0 || len > PROTO_FRAME_MAX) {
		errno = EBADMSG;
		return -1;
	}
	r = fill(c, sizeof len + len);
	if (r <= 0)
		return r;
	wire_in_init(body_r, c->buf + c->pos + sizeof len, len);
	c->pos += sizeof len + len;
	kind = wire_get_u8(body_r);
	if (kind == 0) {
		errno = EBADMSG;
		return -1;
	}
	return kind;
}

void client_get_text(struct wire_in *w, char *buf, size_t size)
{
	const void *p;
	size_t n = wire_get_bytes(w, &p);

	cli_escape(p, n, buf, size);
}
