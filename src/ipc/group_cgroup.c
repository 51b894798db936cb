/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Groups as cgroups (v2, Linux only): finding our own, making, signalling, emptying, removing.
 * A cgroup is used for containment alone: no controller is ever enabled, so that it works in
 * the middle of somebody else's hierarchy. Runs in root and supervisors. Allocates only while
 * looking for the mount point, at the node's start.
 *
 * Everything that is killed by number is first pinned by a pidfd and then found again in the
 * group, so that a number that was reused meanwhile is never hit.
 */
#include "ipc/group_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fds.h"

#define DEPTH_MAX 32 /* cgroups within cgroups that are walked */

/* Where the hierarchy is mounted, and what of it: for /proc/PID/cgroup. Set once, kept over fork. */
static char mount_point[PATH_MAX];
static char mount_root[PATH_MAX];

/* --- finding --- */

/* The path of a process in the hierarchy, from the "0::" line. -1 if there is none. */
static int path_of(pid_t pid, char *path_r, size_t size)
{
	static char buf[PATH_MAX + 1024];
	char name[64], *line;
	ssize_t n;
	int fd;

	snprintf(name, sizeof name, "/proc/%d/cgroup", (int)pid);
	fd = open(name, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	n = read(fd, buf, sizeof buf - 1);
	close(fd);
	if (n <= 0)
		return -1;
	buf[n] = '\0';
	line = strncmp(buf, "0::", 3) == 0 ? buf : strstr(buf, "\n0::");
	if (!line)
		return -1;
	line = strchr(line, '/');
	if (!line || (size_t)strcspn(line, "\n") >= size)
		return -1;
	snprintf(path_r, size, "%.*s", (int)strcspn(line, "\n"), line);
	return 0;
}

/* Undoes mountinfo's octal escapes, in place. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++, to++) {
		if (s[0] == '\\' && s[1] && s[2] && s[3]) {
			*to = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*to = *s;
		}
	}
	*to = '\0';
}

/* Takes root and mount point from a line of mountinfo if it is a cgroup2 mount. */
static bool is_cgroup2(char *line)
{
	char *dash = strstr(line, " - "), *save = NULL, *root, *point;
	int i;

	if (!dash || strncmp(dash + 3, "cgroup2 ", 8) != 0)
		return false;
	*dash = '\0';
	strtok_r(line, " ", &save);
	for (i = 0; i < 2; i++)
		strtok_r(NULL, " ", &save);
	root = strtok_r(NULL, " ", &save);
	point = strtok_r(NULL, " ", &save);
	if (!root || !point || strlen(root) >= sizeof mount_root || strlen(point) >= sizeof mount_point)
		return false;
	memcpy(mount_root, root, strlen(root) + 1);
	if (strcmp(root, "/") == 0)
		mount_root[0] = '\0';
	memcpy(mount_point, point, strlen(point) + 1);
	unescape(mount_root);
	unescape(mount_point);
	return true;
}

/* What comes behind prefix in path, if path is there or below; else NULL. */
static const char *below(const char *path, const char *prefix)
{
	size_t n = strlen(prefix);

	if (strncmp(path, prefix, n) != 0 || (path[n] != '\0' && path[n] != '/'))
		return NULL;
	return path + n;
}

static int open_mounted(const char *path)
{
	static char full[2 * PATH_MAX];
	const char *rest = below(path, mount_root);

	if (!rest || strstr(path, "/.."))
		return -1;
	snprintf(full, sizeof full, "%s%s", mount_point, rest);
	return open(full, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

int cgroup_open_own(void)
{
	static char path[PATH_MAX];
	char *line = NULL;
	size_t cap = 0;
	int fd = -1;
	FILE *f;

	if (path_of(getpid(), path, sizeof path) < 0)
		return -1;
	f = fopen("/proc/self/mountinfo", "re");
	if (!f)
		return -1;
	while (fd < 0 && getline(&line, &cap, f) > 0)
		if (is_cgroup2(line))
			fd = open_mounted(path);
	free(line);
	fclose(f);
	return fd;
}

/* Where a descriptor's directory is. */
static int place_of(int dirfd, char *path_r, size_t size)
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
	n = readlink(link, path_r, size - 1);
	if (n <= 0)
		return -1;
	path_r[n] = '\0';
	return 0;
}

bool cgroup_contains(int dirfd, pid_t pid)
{
	static char own[PATH_MAX + 1], path[PATH_MAX], full[2 * PATH_MAX]; /* too big for the stack */
	const char *rest;

	if (path_of(pid, path, sizeof path) < 0 || place_of(dirfd, own, sizeof own) < 0)
		return false;
	rest = below(path, mount_root);
	if (!rest)
		return false;
	snprintf(full, sizeof full, "%s%s", mount_point, rest);
	return below(full, own) != NULL;
}

/* --- one cgroup --- */

int cgroup_make(int parent, const char *name, bool *existed_r)
{
	*existed_r = mkdirat(parent, name, 0755) < 0;
	if (*existed_r && errno != EEXIST)
		return -1;
	return openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

int cgroup_open_events(int dirfd)
{
	return openat(dirfd, "cgroup.events", O_RDONLY | O_CLOEXEC);
}

bool cgroup_populated(int events_fd)
{
	char buf[256];
	ssize_t n = pread(events_fd, buf, sizeof buf - 1, 0);

	if (n < 0)
		return errno != ENODEV; /* it is removed; who cannot look otherwise does not say: empty */
	buf[n] = '\0';
	return strstr(buf, "populated 1") != NULL;
}

static int write_file(int dirfd, const char *file, const char *text)
{
	int fd = openat(dirfd, file, O_WRONLY | O_CLOEXEC), saved;
	ssize_t r;

	if (fd < 0)
		return -1;
	r = write(fd, text, strlen(text));
	saved = errno;
	close(fd);
	errno = saved;
	return r < 0 ? -1 : 0;
}

int cgroup_enter(int dirfd)
{
	return write_file(dirfd, "cgroup.procs", "0");
}

/* --- directories --- */

bool dir_next(int dirfd, char *name_r, size_t size)
{
	_Alignas(struct dirent64) char buf[1024];
	long n, at;

	while ((n = syscall(SYS_getdents64, dirfd, buf, sizeof buf)) > 0) {
		for (at = 0; at < n;) {
			struct dirent64 *d = (struct dirent64 *)(void *)(buf + at);

			at += d->d_reclen;
			if (d->d_type != DT_DIR || d->d_name[0] == '.' || strlen(d->d_name) >= size)
				continue;
			memcpy(name_r, d->d_name, strlen(d->d_name) + 1);
			lseek(dirfd, d->d_off, SEEK_SET); /* go on behind it next time */
			return true;
		}
	}
	return false;
}

/* --- everything in a cgroup and below --- */

struct walk {
	int fd[DEPTH_MAX]; /* fd[0] is a descriptor of our own on the start */
	int depth;
};

static int reopen(int dirfd)
{
	return openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* Goes to the next cgroup in preorder; -1 when all have been seen. */
static int walk_next(struct walk *w)
{
	char name[NAME_MAX + 1];

	while (w->depth >= 0) {
		while (w->depth + 1 < DEPTH_MAX && dir_next(w->fd[w->depth], name, sizeof name)) {
			int fd = openat(w->fd[w->depth], name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

			if (fd >= 0)
				return w->fd[++w->depth] = fd;
		}
		close(w->fd[w->depth--]);
	}
	return -1;
}

/* Signals a process that was listed in the cgroup, if it is still there once it cannot become another. */
static void signal_pinned(int dirfd, pid_t pid, int sig)
{
	int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (pidfd >= 0) {
		if (cgroup_contains(dirfd, pid))
			syscall(SYS_pidfd_send_signal, pidfd, sig, NULL, 0);
		close(pidfd);
	} else if (errno == ENOSYS && cgroup_contains(dirfd, pid)) {
		kill(pid, sig); /* before Linux 5.3: the best there is */
	}
}

/* Reads numbers, one a line, however the reads cut them. */
static void signal_listed(int dirfd, int sig)
{
	char buf[512];
	long pid = 0;
	ssize_t n, i;
	int fd = openat(dirfd, "cgroup.procs", O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	while ((n = read(fd, buf, sizeof buf)) > 0) {
		for (i = 0; i < n; i++) {
			if (buf[i] >= '0' && buf[i] <= '9') {
				pid = pid * 10 + (buf[i] - '0');
				continue;
			}
			if (pid > 1 && pid <= INT_MAX)
				signal_pinned(dirfd, (pid_t)pid, sig);
			pid = 0;
		}
	}
	close(fd);
}

void cgroup_signal(int dirfd, int sig)
{
	struct walk w = { .depth = 0 };
	int fd = reopen(dirfd);

	w.fd[0] = fd;
	if (fd < 0)
		w.depth = -1;
	for (; fd >= 0; fd = walk_next(&w))
		signal_listed(fd, sig);
}

void cgroup_kill(int dirfd)
{
	if (write_file(dirfd, "cgroup.kill", "1") < 0 && errno != ENODEV)
		cgroup_signal(dirfd, SIGKILL);
}

/* Goes down to a cgroup without children; its parent's descriptor (to be closed) and its name. */
static int deepest(int parent, char *name, size_t size)
{
	char below_name[NAME_MAX + 1];
	int at = reopen(parent), fd;

	while (at >= 0 && (fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)) >= 0) {
		if (!dir_next(fd, below_name, sizeof below_name)) {
			close(fd);
			break;
		}
		close(at);
		lseek(fd, 0, SEEK_SET);
		at = fd;
		snprintf(name, size, "%s", below_name);
	}
	return at;
}

int cgroup_remove(int parent, const char *name)
{
	char leaf[NAME_MAX + 1];
	int at, r;

	for (;;) {
		if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return 0;
		snprintf(leaf, sizeof leaf, "%s", name);
		at = deepest(parent, leaf, sizeof leaf);
		if (at < 0)
			return -1;
		r = unlinkat(at, leaf, AT_REMOVEDIR);
		fds_close(&at);
		if (r < 0 && errno != ENOENT)
			return -1;
	}
}

int cgroup_renew(int *dirfd)
{
	int parent = openat(*dirfd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd = -1;
	static char path[PATH_MAX + 1];
	bool existed;
	char *name;

	if (parent < 0)
		return -1;
	name = place_of(*dirfd, path, sizeof path) == 0 ? strrchr(path, '/') : NULL;
	if (name && cgroup_remove(parent, name + 1) == 0)
		fd = cgroup_make(parent, name + 1, &existed);
	fds_close(&parent);
	if (fd < 0)
		return -1;
	close(*dirfd);
	*dirfd = fd;
	return 0;
}
