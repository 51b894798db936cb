/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * floor PROGRAM: the least that a supervisor of an executable can do on this machine: it sleeps
 * in poll() on the pidfd of its child, reaps it and executes it again by vfork. No log, no
 * event, no budget, nothing to be asked. What a real supervisor needs beyond this is its own.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static void fail(const char *what)
{
	fprintf(stderr, "floor: unable to %s: %s\n", what, strerror(errno));
	exit(1);
}

static pid_t spawn(char *program)
{
	char *arguments[] = { program, NULL };
	pid_t pid = vfork();

	if (pid == 0) {
		execve(program, arguments, environ);
		_exit(127);
	}
	if (pid < 0)
		fail("fork");
	return pid;
}

static int open_pidfd(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0)
		fail("open a pidfd");
	return fd;
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: floor PROGRAM\n");
		return 2;
	}
	for (int fd = open_pidfd(spawn(argv[1]));;) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		siginfo_t info;
		pid_t pid;

		while (poll(&p, 1, -1) < 0)
			if (errno != EINTR)
				fail("poll");
		if (waitid(P_PIDFD, (id_t)fd, &info, WEXITED) < 0)
			fail("wait");
		pid = spawn(argv[1]);
		close(fd);
		fd = open_pidfd(pid);
	}
}
