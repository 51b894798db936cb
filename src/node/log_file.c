/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * `current`: opening, looking at and appending to it. Hides what is a proper log file: a plain
 * one, with one name. A link, a pipe, a device or a file with several names is renamed out of the
 * way, never opened for writing through, never removed. Data is not forced to the disk: what is
 * written survives the death of any process, and after a power cut the kernel's own order
 * applies, as for every log program. Runs in the log process.
 *
 * Regime: never allocates; every failure is an errno.
 */
#include "node/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fds.h"
#include "node/log_name.h"

#define OPEN_FLAGS (O_RDWR | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)
#define TRIES 4 /* somebody may put the next odd thing there at once */

/* Opens it if it is what it must be; -1 with ELOOP if something else has the name. */
static int open_plain(int dirfd, struct stat *st)
{
	int fd;

	/* Looked at before it is opened, as opening a device may do something. */
	if (fstatat(dirfd, LOG_NAME_CURRENT, st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st->st_mode)) {
		errno = ELOOP;
		return -1;
	}
	fd = openat(dirfd, LOG_NAME_CURRENT, OPEN_FLAGS, 0640);
	if (fd < 0)
		return -1;
	if (fstat(fd, st) == 0 && S_ISREG(st->st_mode) && st->st_nlink <= 1)
		return fd;
	close(fd);
	errno = ELOOP;
	return -1;
}

int log_file_rename(int dirfd, const char *from, const char *to)
{
	struct stat st;

	if (renameat2(dirfd, from, dirfd, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	/* This file system cannot do it in one step. */
	if (fstatat(dirfd, to, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		errno = EEXIST;
		return -1;
	}
	return renameat(dirfd, from, dirfd, to);
}

int log_file_set_aside(int dirfd)
{
	char stamp[LOG_NAME_SIZE], name[LOG_NAME_SIZE + 16];

	log_name_make(clock_real_us(), stamp);
	snprintf(name, sizeof(name), "set-aside.%s", stamp);
	return log_file_rename(dirfd, LOG_NAME_CURRENT, name);
}

int log_file_openat(int dirfd, struct stat *st, bool *aside_r)
{
	int i, fd = -1;

	for (i = 0; i < TRIES; i++) {
		fd = open_plain(dirfd, st);
		if (fd >= 0 || errno != ELOOP)
			return fd;
		if (log_file_set_aside(dirfd) < 0 && errno != ENOENT && errno != EEXIST)
			return -1;
		*aside_r = true;
	}
	errno = ELOOP;
	return -1;
}

int log_file_open(const char *dir, struct stat *st, bool *aside_r)
{
	int dirfd = log_dir_open(dir), fd;

	if (dirfd < 0)
		return -1;
	fd = log_file_openat(dirfd, st, aside_r);
	fds_close(&dirfd);
	return fd;
}

int log_file_stat(const char *dir, struct stat *st)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s", dir, LOG_NAME_CURRENT) >= (int)sizeof(path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	return lstat(path, st);
}

size_t log_file_append(int fd, const void *buf, size_t len)
{
	const uint8_t *p = buf;
	size_t done = 0;

	while (done < len) {
		ssize_t n = write(fd, p + done, len - done);

		if (n > 0)
			done += (size_t)n;
		else if (n == 0)
			errno = ENOSPC;
		if (n == 0 || (n < 0 && errno != EINTR))
			break;
	}
	return done;
}

bool log_file_holds(int fd, uint64_t off, const void *buf, size_t len)
{
	const uint8_t *p = buf;
	uint8_t got[4096];

	while (len > 0) {
		ssize_t n = pread(fd, got, len < sizeof(got) ? len : sizeof(got), (off_t)off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || memcmp(got, p, (size_t)n) != 0)
			return false;
		p += n;
		off += (uint64_t)n;
		len -= (size_t)n;
	}
	return true;
}

bool log_file_ends_line(int fd, uint64_t size)
{
	char last = '\n';

	if (size > 0 && pread(fd, &last, 1, (off_t)(size - 1)) != 1)
		return true;
	return last == '\n';
}

bool log_file_has_room(int fd, size_t len)
{
	struct statvfs v;
	uint64_t blocks;

	if (fstatvfs(fd, &v) < 0 || v.f_frsize == 0)
		return false;
	blocks = geteuid() == 0 ? v.f_bfree : v.f_bavail;
	return blocks * v.f_frsize > len && (v.f_flag & ST_RDONLY) == 0;
}
