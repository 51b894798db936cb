/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Opening the listening sockets that the node passes to its services (node.h). Runs in root at
 * the start, and in control at a reload; may allocate. The node keeps the descriptors, so that
 * connections wait in them while a service is being restarted.
 */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/fds.h"
#include "node/node.h"

static int close_failed(int fd)
{
	fds_close(&fd);
	return -1;
}

/* --- internet --- */

/* "" means every address, of both families by one socket where the kernel has both; an address that is
 * given is meant by itself. */
static int set_options(int fd, const struct addrinfo *ai, bool any)
{
	int on = 1, v6only = !any;

	if (ai->ai_family == AF_INET6 && setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6only, sizeof v6only) < 0)
		return -1;
	if (ai->ai_socktype != SOCK_STREAM)
		return 0;
	return setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
}

static int open_address(const struct addrinfo *ai, bool any)
{
	int fd = socket(ai->ai_family, ai->ai_socktype | SOCK_CLOEXEC, ai->ai_protocol);

	if (fd < 0)
		return -1;
	if (set_options(fd, ai, any) < 0 || bind(fd, ai->ai_addr, ai->ai_addrlen) < 0 ||
	    (ai->ai_socktype == SOCK_STREAM && listen(fd, SOMAXCONN) < 0))
		return close_failed(fd);
	return fd;
}

static int open_inet(const char *addr, uint32_t port, int type, int family)
{
	struct addrinfo hints = { .ai_family = family, .ai_socktype = type,
		.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV };
	bool any = addr == NULL;
	struct addrinfo *ai;
	char service[16];
	int fd;

	snprintf(service, sizeof service, "%u", (unsigned)port);
	if (getaddrinfo(addr, service, &hints, &ai) != 0) {
		errno = EINVAL;
		return -1;
	}
	fd = open_address(ai, any);
	freeaddrinfo(ai);
	return fd;
}

static int open_net(const char *addr, uint32_t port, int type)
{
	int fd;

	if (addr && addr[0] != '\0')
		return open_inet(addr, port, type, AF_UNSPEC);
	fd = open_inet(NULL, port, type, AF_INET6);
	if (fd < 0 && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL || errno == EINVAL))
		fd = open_inet(NULL, port, type, AF_INET);
	return fd;
}

/* --- unix --- */

/* "@NAME" is in the abstract namespace. */
static int unix_address(const char *path, struct sockaddr_un *a, socklen_t *len_r)
{
	size_t n = strlen(path);

	*a = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (n == 0 || n >= sizeof a->sun_path) {
		errno = n == 0 ? EINVAL : ENAMETOOLONG;
		return -1;
	}
	memcpy(a->sun_path, path, n);
	*len_r = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
	if (path[0] == '@')
		a->sun_path[0] = '\0';
	else
		(*len_r)++;
	return 0;
}

/* Never wider than the mode, not even for a moment: it is set by bind itself. */
static int bind_with_mode(int fd, const struct sockaddr_un *a, socklen_t len, mode_t mode)
{
	mode_t old = umask(~mode & 0777);
	int r = bind(fd, (const struct sockaddr *)a, len), err = errno;

	umask(old);
	errno = err;
	return r;
}

/* Removes a socket that nobody listens on any more; nothing else. */
static int remove_stale(const struct sockaddr_un *a, socklen_t len)
{
	struct stat st;
	int fd, r;

	if (lstat(a->sun_path, &st) < 0 || !S_ISSOCK(st.st_mode)) {
		errno = EADDRINUSE;
		return -1;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	r = connect(fd, (const struct sockaddr *)a, len) < 0 && errno == ECONNREFUSED ? unlink(a->sun_path) : -1;
	fds_close(&fd);
	if (r < 0)
		errno = EADDRINUSE;
	return r;
}

static int open_unix(const char *path, mode_t mode)
{
	struct sockaddr_un a;
	socklen_t len;
	int fd, r;

	if (!path || unix_address(path, &a, &len) < 0)
		return -1;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	r = bind_with_mode(fd, &a, len, mode);
	if (r < 0 && errno == EADDRINUSE && path[0] != '@' && remove_stale(&a, len) == 0)
		r = bind_with_mode(fd, &a, len, mode);
	if (r < 0 || listen(fd, SOMAXCONN) < 0)
		return close_failed(fd);
	return fd;
}

int node_socket_open(const struct spec_image *img, const struct spec_socket *s)
{
	const char *addr = spec_string(img, s->addr);

	switch (s->kind) {
	case 't':
		return open_net(addr, s->port, SOCK_STREAM);
	case 'u':
		return open_net(addr, s->port, SOCK_DGRAM);
	case 'x':
		return open_unix(addr, (mode_t)s->mode);
	default:
		errno = EINVAL;
		return -1;
	}
}
