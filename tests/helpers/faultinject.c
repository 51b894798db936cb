/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Lets the k-th call of a library function fail. As a library for LD_PRELOAD it is told by the
 * environment, FAULT=FUNCTION:K:ERRNO (K+ for that and all later ones), in the processes whose
 * name (comm) is FAULT_COMM, if that is given; as part of a unit test by fault_set(). The
 * counter is inherited over fork, so the calls of a new child go on counting.
 *
 *	cc -shared -fPIC -o faultinject.so faultinject.c -ldl
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

static struct {
	char name[32];
	int at;      /* calls until the first failure */
	int ever;    /* and all after it */
	int err;
	int count;   /* calls so far */
	int hits;
} fault;

__attribute__((unused)) static void fault_set(const char *name, int at, int err)
{
	memset(&fault, 0, sizeof fault);
	snprintf(fault.name, sizeof fault.name, "%s", name);
	fault.at = at;
	fault.err = err;
}

__attribute__((constructor)) static void fault_from_environment(void)
{
	const char *spec = getenv("FAULT"), *comm = getenv("FAULT_COMM");
	char mine[32] = "", plus = 0;
	int fd;

	if (!spec || sscanf(spec, "%31[^:]:%d%c", fault.name, &fault.at, &plus) < 2)
		return;
	fault.ever = plus == '+';
	spec = strrchr(spec, ':');
	fault.err = spec ? atoi(spec + 1) : EMFILE;
	if (!comm)
		return;
	fd = open("/proc/self/comm", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, mine, sizeof mine - 1) <= 0 || strncmp(mine, comm, strlen(comm)) != 0)
		fault.name[0] = '\0';
	if (fd >= 0)
		close(fd);
}

static int fault_now(const char *name)
{
	if (fault.name[0] == '\0' || strcmp(fault.name, name) != 0)
		return 0;
	fault.count++;
	if (fault.count != fault.at && !(fault.ever && fault.count > fault.at))
		return 0;
	fault.hits++;
	errno = fault.err;
	return 1;
}

/* The pointer to the real function; ISO C does not turn one into the other. */
#define FAULT_REAL(ret, name, ...) \
	static ret (*real)(__VA_ARGS__); \
	if (!real) \
		*(void **)(void *)&real = dlsym(RTLD_NEXT, #name)

int pipe2(int fd[2], int flags)
{
	FAULT_REAL(int, pipe2, int *, int);
	return fault_now("pipe2") ? -1 : real(fd, flags);
}

int socket(int domain, int type, int protocol)
{
	FAULT_REAL(int, socket, int, int, int);
	return fault_now("socket") ? -1 : real(domain, type, protocol);
}

int socketpair(int domain, int type, int protocol, int fd[2])
{
	FAULT_REAL(int, socketpair, int, int, int, int *);
	return fault_now("socketpair") ? -1 : real(domain, type, protocol, fd);
}

int bind(int fd, const struct sockaddr *a, socklen_t len)
{
	FAULT_REAL(int, bind, int, const struct sockaddr *, socklen_t);
	return fault_now("bind") ? -1 : real(fd, a, len);
}

int setsockopt(int fd, int level, int name, const void *p, socklen_t len)
{
	FAULT_REAL(int, setsockopt, int, int, int, const void *, socklen_t);
	return fault_now("setsockopt") ? -1 : real(fd, level, name, p, len);
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
	FAULT_REAL(ssize_t, sendmsg, int, const struct msghdr *, int);
	return fault_now("sendmsg") ? -1 : real(fd, m, flags);
}

int epoll_ctl(int epfd, int op, int fd, struct epoll_event *ev)
{
	FAULT_REAL(int, epoll_ctl, int, int, int, struct epoll_event *);
	return op == EPOLL_CTL_ADD && fault_now("epoll_ctl") ? -1 : real(epfd, op, fd, ev);
}

int dup2(int from, int to)
{
	FAULT_REAL(int, dup2, int, int);
	return fault_now("dup2") ? -1 : real(from, to);
}

int chdir(const char *path)
{
	FAULT_REAL(int, chdir, const char *);
	return fault_now("chdir") ? -1 : real(path);
}

pid_t setsid(void)
{
	FAULT_REAL(pid_t, setsid, void);
	return fault_now("setsid") ? -1 : real();
}

pid_t fork(void)
{
	FAULT_REAL(pid_t, fork, void);
	return fault_now("fork") ? -1 : real();
}

int open(const char *path, int flags, ...)
{
	FAULT_REAL(int, open, const char *, int, ...);
	va_list ap;
	unsigned mode;

	va_start(ap, flags);
	mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, unsigned) : 0;
	va_end(ap);
	return fault_now("open") ? -1 : real(path, flags, mode);
}

int openat(int dir, const char *path, int flags, ...)
{
	FAULT_REAL(int, openat, int, const char *, int, ...);
	va_list ap;
	unsigned mode;

	va_start(ap, flags);
	mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, unsigned) : 0;
	va_end(ap);
	return fault_now("openat") ? -1 : real(dir, path, flags, mode);
}

/* Reading an argument that was not given is what va_arg forbids and every machine allows. */
#define FAULT_LOOSE __attribute__((no_sanitize_address))

FAULT_LOOSE int fcntl(int fd, int cmd, ...)
{
	FAULT_REAL(int, fcntl, int, int, ...);
	va_list ap;
	void *arg;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	return fault_now("fcntl") ? -1 : real(fd, cmd, arg);
}

/* The raw system calls: clone3, pidfd_open, setgroups, ...; more arguments than given are harmless. */
FAULT_LOOSE long syscall(long number, ...)
{
	FAULT_REAL(long, syscall, long, ...);
	char name[32];
	long a[6];
	va_list ap;
	int i;

	va_start(ap, number);
	for (i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	snprintf(name, sizeof name, "syscall%ld", number);
	return fault_now("syscall") || fault_now(name) ? -1 : real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
