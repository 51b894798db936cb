/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * When a start is complete, for the ways that need looking: a time, a port, a socket, a file, a
 * newline on a descriptor. Looks at once when the program runs, then after 10 ms, and less and
 * less often up to every 200 ms. Each try is non-blocking and forgotten at the next. Runs in
 * supervisor processes; allocates nothing.
 */
#include "node/service.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fds.h"
#include "node/service_private.h"

#define PROBE_FIRST_MS 10
#define PROBE_MAX_MS 200

/* PATH of unix:PATH and file:PATH; below the child's directory if it is relative. NULL when a reload
 * has replaced the specification by one that waits for something else. */
static const char *probe_path(const struct service *s)
{
	static char buf[PATH_MAX];
	const struct spec_worker *w = service_worker(s);
	const char *path = spec_string(s->img, w->ready_str), *dir = spec_string(s->img, w->dir);
	int n;

	if (w->ready != s->mode || !path)
		return NULL;
	if (path[0] == '/' || !dir)
		return path;
	n = snprintf(buf, sizeof buf, "%s/%s", dir, path);
	return n < (int)sizeof buf ? buf : NULL;
}

static void happened(struct service *s)
{
	s->probed = true;
	service_check_ready(s);
}

/* --- file --- */

static int64_t ns_of(struct timespec t)
{
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static struct service_file look_at_file(const char *path)
{
	struct service_file f = { .there = false };
	struct stat st;

	if (path && stat(path, &st) == 0)
		f = (struct service_file){ .there = true, .dev = st.st_dev, .ino = st.st_ino,
			.size = (uint64_t)st.st_size, .mtime_ns = ns_of(st.st_mtim),
			.ctime_ns = ns_of(st.st_ctim) };
	return f;
}

/* Created or changed since the start; no clock is asked, so none can be wrong. */
static bool file_is_new(const struct service *s)
{
	struct service_file f = look_at_file(probe_path(s));
	const struct service_file *old = &s->file;

	if (!f.there || !old->there)
		return f.there;
	return f.dev != old->dev || f.ino != old->ino || f.size != old->size ||
	    f.mtime_ns != old->mtime_ns || f.ctime_ns != old->ctime_ns;
}

void ready_before(struct service *s)
{
	if (s->mode == SPEC_READY_FILE)
		s->file = look_at_file(probe_path(s));
}

/* --- connections --- */

static void connected(struct loop_source *src, uint32_t events)
{
	struct service *s = src->ctx;
	socklen_t len = sizeof(int);
	int err = 0;

	(void)events;
	if (getsockopt(src->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0)
		err = errno;
	service_close_source(s, src);
	if (err == 0)
		happened(s);
}

/* Begins one connection; true if it is there already. */
static bool try_connect(struct service *s, struct loop_source *src, const void *addr, socklen_t len)
{
	int fd = socket(((const struct sockaddr *)addr)->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	bool done;

	if (fd < 0)
		return false;
	done = connect(fd, addr, len) == 0;
	if (!done && errno == EINPROGRESS && loop_attach(s->loop, src, fd, EPOLLOUT, connected, s) == 0)
		return false;
	close(fd);
	return done;
}

static bool probe_tcp(struct service *s)
{
	uint16_t port = htons((uint16_t)service_worker(s)->ready_arg);
	struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = port,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = port,
		.sin6_addr = IN6ADDR_LOOPBACK_INIT };

	if (service_worker(s)->ready != s->mode)
		return false;
	return try_connect(s, &s->probe[0], &in4, sizeof in4) || try_connect(s, &s->probe[1], &in6, sizeof in6);
}

/* The address of a path of any length: a long one is reached through a descriptor. */
static int unix_address(const char *path, struct sockaddr_un *a, int *fd_r)
{
	*fd_r = -1;
	*a = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlcpy(a->sun_path, path, sizeof a->sun_path) < sizeof a->sun_path)
		return 0;
	*fd_r = open(path, O_PATH | O_CLOEXEC);
	if (*fd_r < 0)
		return -1;
	snprintf(a->sun_path, sizeof a->sun_path, "/proc/self/fd/%d", *fd_r);
	return 0;
}

static bool probe_unix(const char *path)
{
	static const int type[] = { SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET };
	bool done = false, other_type = true;
	struct sockaddr_un a;
	int via, fd;
	size_t i;

	if (!path || unix_address(path, &a, &via) < 0)
		return false;
	for (i = 0; other_type && !done && i < sizeof type / sizeof type[0]; i++) {
		fd = socket(AF_UNIX, type[i] | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		/* EAGAIN: it listens, and many are waiting already */
		done = fd >= 0 && (connect(fd, (struct sockaddr *)&a, sizeof a) == 0 || errno == EAGAIN);
		other_type = fd >= 0 && errno == EPROTOTYPE;
		fds_close(&fd);
	}
	fds_close(&via);
	return done;
}

/* --- looking again and again --- */

static void end_connections(struct service *s)
{
	int i;

	for (i = 0; i < SERVICE_PROBES; i++)
		service_close_source(s, &s->probe[i]);
}

static bool probe(struct service *s)
{
	switch ((enum spec_ready)s->mode) {
	case SPEC_READY_AFTER:
		return true;
	case SPEC_READY_TCP:
		return probe_tcp(s);
	case SPEC_READY_UNIX:
		return probe_unix(probe_path(s));
	case SPEC_READY_FILE:
		return file_is_new(s);
	case SPEC_READY_EXEC:
	case SPEC_READY_NOTIFY:
	case SPEC_READY_FD:
	case SPEC_READY_LOG:
	case SPEC_READY_INIT:
		break;
	}
	return false;
}

static void probe_now(struct service *s);

static void probe_timer(struct loop_timer *t)
{
	probe_now(t->ctx);
}

static void probe_now(struct service *s)
{
	end_connections(s);
	loop_timer_set(s->loop, &s->probe_timer, clock_mono_ms() + s->probe_ms, probe_timer, s);
	s->probe_ms += s->probe_ms / 2;
	if (s->probe_ms > PROBE_MAX_MS)
		s->probe_ms = PROBE_MAX_MS;
	if (probe(s))
		happened(s);
}

void ready_begin(struct service *s)
{
	s->probe_ms = PROBE_FIRST_MS;
	switch ((enum spec_ready)s->mode) {
	case SPEC_READY_AFTER:
		loop_timer_set(s->loop, &s->probe_timer, clock_mono_ms() + service_worker(s)->ready_arg,
		    probe_timer, s);
		break;
	case SPEC_READY_TCP:
	case SPEC_READY_UNIX:
	case SPEC_READY_FILE:
		probe_now(s);
		break;
	case SPEC_READY_EXEC:
	case SPEC_READY_NOTIFY:
	case SPEC_READY_FD:
	case SPEC_READY_LOG:
	case SPEC_READY_INIT:
		break;
	}
}

void ready_end(struct service *s)
{
	end_connections(s);
	service_close_source(s, &s->ready);
	loop_timer_cancel(s->loop, &s->probe_timer);
}

/* --- fd:N --- */

/* What comes after the newline is nobody's business; closing is what daemons written for this expect. */
void ready_fd_look(struct service *s)
{
	char buf[512];
	ssize_t n;

	while (s->ready.fd >= 0 && (n = read(s->ready.fd, buf, sizeof buf)) >= 0) {
		if (n > 0 && !memchr(buf, '\n', (size_t)n))
			continue;
		s->probed = s->probed || n > 0;
		service_close_source(s, &s->ready);
	}
}

static void ready_fd_event(struct loop_source *src, uint32_t events)
{
	struct service *s = src->ctx;

	(void)events;
	ready_fd_look(s);
	service_check_ready(s);
}

int ready_fd_open(struct service *s, int *write_end_r)
{
	int fd[2];

	if (pipe2(fd, O_CLOEXEC) < 0)
		return -1;
	*write_end_r = fd[1];
	if (fds_set_nonblock(fd[0], true) < 0 ||
	    loop_attach(s->loop, &s->ready, fd[0], EPOLLIN, ready_fd_event, s) < 0) {
		fds_close(&fd[0]);
		return -1;
	}
	return 0;
}
