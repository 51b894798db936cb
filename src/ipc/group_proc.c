/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Groups without cgroups: what /proc tells of the children of this process (Linux only). As a
 * supervisor is a subreaper, whatever a dead child leaves behind is sooner or later its own
 * child, and an unreaped child of ours cannot change its number: it is safe to signal.
 * The list of children is exact, because only we remove from it, by reaping. Never allocates.
 */
#include "base/fds.h"
#include "ipc/group_private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int open_proc(pid_t pid, const char *file)
{
	char name[64];

	snprintf(name, sizeof name, "/proc/%d/%s", (int)pid, file);
	return open(name, O_RDONLY | O_CLOEXEC);
}

bool proc_stat(pid_t pid, struct proc_info *info_r)
{
	int fd = open_proc(pid, "stat"), parent, group, session;
	char buf[1024], *p;
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, buf, sizeof buf - 1);
	close(fd);
	if (n <= 0)
		return false;
	buf[n] = '\0';
	p = strrchr(buf, ')'); /* the name may hold anything */
	if (!p || sscanf(p + 1, " %c %d %d %d", &info_r->state, &parent, &group, &session) != 4)
		return false;
	info_r->parent = parent;
	info_r->session = session;
	return true;
}

/* Follows "INVOCATION_ID=" and 32 hex digits through a stream of NUL-terminated strings. */
struct matcher {
	size_t at;  /* bytes of the pattern or the value that have matched */
	bool lost;  /* not in this string */
	char *inv;
};

static bool match_byte(struct matcher *m, char c)
{
	static const char key[] = "INVOCATION_ID=";
	const size_t n = sizeof key - 1;

	if (c == '\0') {
		if (!m->lost && m->at == n + GROUP_INVOCATION)
			return true;
		m->at = 0;
		m->lost = false;
	} else if (m->lost || (m->at < n && c != key[m->at]) || m->at >= n + GROUP_INVOCATION) {
		m->lost = true;
	} else {
		if (m->at >= n)
			m->inv[m->at - n] = c;
		m->at++;
	}
	return false;
}

void proc_invocation(pid_t pid, char inv_r[GROUP_INVOCATION + 1])
{
	struct matcher m = { .inv = inv_r };
	int fd = open_proc(pid, "environ");
	char buf[4096];
	ssize_t n, i;

	if (fd >= 0) {
		while ((n = read(fd, buf, sizeof buf)) > 0) {
			for (i = 0; i < n; i++) {
				if (!match_byte(&m, buf[i]))
					continue;
				close(fd);
				inv_r[GROUP_INVOCATION] = '\0';
				return;
			}
		}
		close(fd);
	}
	inv_r[0] = '\0';
}

static bool is_empty(pid_t pid, const char *file)
{
	int fd = open_proc(pid, file);
	ssize_t n;
	char c;

	if (fd < 0)
		return false;
	n = read(fd, &c, 1);
	close(fd);
	return n == 0;
}

bool proc_is_executing(pid_t pid)
{
	return is_empty(pid, "environ") && is_empty(pid, "cmdline");
}

/* --- our children --- */

/* Reads numbers separated by spaces, however the reads cut them. */
static bool each_listed(int fd, proc_child_f *f, void *ctx)
{
	char buf[2048];
	long pid = 0;
	ssize_t n, i;

	while ((n = read(fd, buf, sizeof buf)) > 0) {
		for (i = 0; i < n; i++) {
			if (buf[i] >= '0' && buf[i] <= '9') {
				pid = pid * 10 + (buf[i] - '0');
				continue;
			}
			if (pid > 0 && !f(ctx, (pid_t)pid))
				return true;
			pid = 0;
		}
	}
	return n == 0;
}

/* The long way, for kernels without a list of children: all processes, by their parent. */
static bool each_scanned(proc_child_f *f, void *ctx)
{
	int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct proc_info info;
	char name[256];
	pid_t self = getpid();

	if (fd < 0)
		return errno == ENOENT; /* no /proc: the session is all we know of */
	while (dir_next(fd, name, sizeof name)) {
		pid_t pid = (pid_t)strtol(name, NULL, 10);

		if (pid > 0 && proc_stat(pid, &info) && info.parent == self && !f(ctx, pid))
			break;
	}
	close(fd);
	return true;
}

bool proc_each_child(proc_child_f *f, void *ctx)
{
	char name[64];
	bool seen;
	int fd;

	snprintf(name, sizeof name, "/proc/self/task/%d/children", (int)getpid());
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return each_scanned(f, ctx);
	seen = each_listed(fd, f, ctx);
	close(fd);
	return seen;
}

static int counted_fd = -1;

void proc_forget_children(void)
{
	fds_close(&counted_fd);
}

int proc_count_children(void)
{
	static pid_t owner;
	char buf[2048];
	off_t at = 0;
	ssize_t n, i;
	int count = 0;

	if (owner != getpid()) /* after a fork it is the parent's list */
		proc_forget_children();
	if (counted_fd < 0) {
		owner = getpid();
		snprintf(buf, sizeof buf, "/proc/self/task/%d/children", (int)owner);
		counted_fd = open(buf, O_RDONLY | O_CLOEXEC);
	}
	while ((n = pread(counted_fd, buf, sizeof buf, at)) > 0) {
		for (i = 0; i < n; i++)
			count += buf[i] == ' ';
		at += n;
	}
	return n < 0 ? -1 : count;
}
