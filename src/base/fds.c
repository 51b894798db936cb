/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Descriptors (fds.h): flags, passing, closing. Any process; never allocates. */
#include "base/fds.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/diag.h"

static unsigned long original_soft;

void fds_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd); /* the descriptor is gone whatever close says */
	*fd = -1;
	errno = saved;
}

void fds_lift(int *fd)
{
	bool between = *fd >= FDS_LOW && *fd < FDS_HIGH;
	int saved = errno, high = between ? fcntl(*fd, F_DUPFD_CLOEXEC, FDS_HIGH) : -1;

	errno = saved;
	if (high < 0)
		return;
	fds_close(fd);
	*fd = high;
}

/* last < 0: to the end. */
static void close_range_of(int first, int last)
{
	struct rlimit rl;
	int fd;

	if (last >= 0 && last < first)
		return;
	if (syscall(SYS_close_range, (unsigned)first, last < 0 ? ~0u : (unsigned)last, 0) == 0)
		return;
	if (last < 0)
		last = getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_cur < 1000000 ? (int)rl.rlim_cur : 65536;
	for (fd = first; fd <= last; fd++)
		close(fd);
}

void fds_close_from(int first)
{
	close_range_of(first, -1);
}

static int cmp_int(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

void fds_close_except(int *keep, size_t n)
{
	int first = 3;
	size_t i;

	qsort(keep, n, sizeof *keep, cmp_int);
	for (i = 0; i < n; i++) {
		if (keep[i] < first)
			continue;
		close_range_of(first, keep[i] - 1);
		first = keep[i] + 1;
	}
	close_range_of(first, -1);
}

int fds_set_nonblock(int fd, bool on)
{
	int fl = fcntl(fd, F_GETFL);

	if (fl < 0)
		return -1;
	return fcntl(fd, F_SETFL, on ? fl | O_NONBLOCK : fl & ~O_NONBLOCK);
}

int fds_set_cloexec(int fd, bool on)
{
	return fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0);
}

static unsigned filled; /* a bit for each of 0, 1 and 2 */

bool fds_was_closed(int fd)
{
	return (filled & 1u << fd) != 0;
}

int fds_fill_std(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
		if (fd < 0)
			return -1;
		if (fd < 3)
			filled |= 1u << fd;
	} while (fd < 3);
	close(fd);
	return 0;
}

void fds_raise_limit(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) < 0)
		return;
	if (original_soft == 0)
		original_soft = (unsigned long)rl.rlim_cur;
	rl.rlim_cur = rl.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &rl) < 0)
		diag_warn_errno("unable to raise the limit of open files");
}

unsigned long fds_original_soft_limit(void)
{
	return original_soft;
}

union fd_control {
	char buf[CMSG_SPACE(sizeof(int) * FDS_PASS_MAX)];
	struct cmsghdr align;
};

ssize_t fds_send(int sock, const void *buf, size_t len, const int *fds, size_t n)
{
	union fd_control c;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *h;
	ssize_t r;

	if (n > FDS_PASS_MAX) {
		errno = EINVAL;
		return -1;
	}
	if (n > 0) {
		memset(&c, 0, CMSG_SPACE(sizeof(int) * n));
		m.msg_control = c.buf;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n);
		h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(sizeof(int) * n);
		memcpy(CMSG_DATA(h), fds, sizeof(int) * n);
	}
	do {
		r = sendmsg(sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (r < 0 && errno == EINTR);
	return r;
}

/* Takes descriptors from one control message; what has no room is closed. */
static void take_fds(struct cmsghdr *h, int *fds, size_t max, size_t *n)
{
	size_t i, count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);

	for (i = 0; i < count; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(h) + i * sizeof fd, sizeof fd);
		if (*n < max)
			fds[(*n)++] = fd;
		else
			close(fd);
	}
}

static void close_all(int *fds, size_t *n)
{
	while (*n > 0)
		close(fds[--*n]);
}

/* Looks at the next message; its descriptors are ours then, whether or not it is taken afterwards. */
static ssize_t peek(int sock, struct msghdr *m, int *fds, size_t max, size_t *n_r)
{
	struct cmsghdr *h;
	ssize_t r;

	*n_r = 0;
	do {
		r = recvmsg(sock, m, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (r < 0 && errno == EINTR);
	if (r < 0)
		return -1;
	for (h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h))
		if (h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS)
			take_fds(h, fds, max, n_r);
	return r;
}

/* Takes the message that was looked at; its descriptors are dropped with it. */
static void discard(int sock)
{
	char byte;
	int tries = 3; /* an error of the connection may be told first */

	while (tries-- > 0 && recv(sock, &byte, 1, MSG_DONTWAIT) < 0 && errno != EAGAIN)
		;
}

ssize_t fds_recv(int sock, void *buf, size_t len, int *fds, size_t max, size_t *n_r)
{
	union fd_control c;
	struct iovec iov = { .iov_base = buf, .iov_len = len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = c.buf, .msg_controllen = sizeof c };
	ssize_t r = peek(sock, &m, fds, max, n_r);

	if (r < 0)
		return -1;
	if (m.msg_flags & MSG_CTRUNC) { /* there is no room for them now, but the message can wait */
		close_all(fds, n_r);
		errno = EMFILE;
		return -1;
	}
	discard(sock);
	if (m.msg_flags & MSG_TRUNC) {
		close_all(fds, n_r);
		errno = EMSGSIZE;
		return -1;
	}
	return r;
}

int fds_write_all(int fd, const void *buf, size_t len)
{
	const char *p = buf;

	while (len > 0) {
		ssize_t r = write(fd, p, len);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return -1;
		p += r;
		len -= (size_t)r;
	}
	return 0;
}
