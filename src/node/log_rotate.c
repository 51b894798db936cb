/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Rotation. Hides the order of renames. A line that is begun but not finished must not be
 * torn by it: what is there of it moves to the new file.
 *
 *   1. the begun line is copied to `current.new`        (done again: written anew)
 *   2. `current` is renamed to @TIME.s                  (done if @TIME.s is our inode)
 *   3. @TIME.s is cut where the begun line starts       (can be done twice)
 *   4. `current.new` is renamed to `current`            (done if it is not there)
 *
 * Without a begun line 1, 3 and 4 fall away; then an empty `current` is made. Runs in the log
 * process, on a journalled state.
 *
 * Regime: opendir allocates; without memory nothing is pruned until the next rotation.
 */
#include "node/log_rotate.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fds.h"
#include "node/log_file.h"

/* --- the directory ------------------------------------------------------------------------ */

struct census {
	uint32_t count;
	char oldest[LOG_NAME_SIZE], newest[LOG_NAME_SIZE];
};

/* Counts the rotated files; takes dirfd over. */
static int take_census(int dirfd, struct census *c)
{
	DIR *d = fdopendir(dirfd);
	struct dirent *e;

	*c = (struct census){ 0 };
	if (!d) {
		close(dirfd);
		return -1;
	}
	while ((e = readdir(d)) != NULL) {
		if (!log_name_is_rotated(e->d_name))
			continue;
		if (c->count++ == 0 || strcmp(e->d_name, c->oldest) < 0)
			memcpy(c->oldest, e->d_name, strlen(e->d_name) + 1);
		if (strcmp(e->d_name, c->newest) > 0)
			memcpy(c->newest, e->d_name, strlen(e->d_name) + 1);
	}
	closedir(d);
	return 0;
}

static int census_of(const char *dir, struct census *c)
{
	int dirfd = log_dir_open(dir);

	return dirfd < 0 ? -1 : take_census(dirfd, c);
}

int log_rotate_prepare(const char *dir, struct log_state *st, int64_t now_us)
{
	struct census c;

	if (census_of(dir, &c) < 0)
		return -1;
	if (c.count > 0 && log_name_time(c.newest) >= now_us)
		now_us = log_name_time(c.newest) + 1;
	log_name_make(now_us, st->rotate_name);
	st->rotating = 1;
	return 0;
}

/* One scan for each file to be removed: nearly always there is one. */
void log_rotate_prune(const char *dir, uint32_t max_files)
{
	struct census c;
	int dirfd;

	while (census_of(dir, &c) == 0 && c.count > max_files) {
		dirfd = log_dir_open(dir);
		if (dirfd < 0 || unlinkat(dirfd, c.oldest, 0) < 0)
			c.count = 0;
		fds_close(&dirfd);
		if (c.count == 0)
			return;
	}
}

/* --- one rotation ------------------------------------------------------------------------- */

static bool is_ours(int dirfd, const char *name, const struct log_state *st)
{
	struct stat sb;

	return fstatat(dirfd, name, &sb, AT_SYMLINK_NOFOLLOW) == 0 && sb.st_ino == st->ino &&
	    sb.st_dev == st->dev;
}

static bool exists(int dirfd, const char *name)
{
	struct stat sb;

	return fstatat(dirfd, name, &sb, AT_SYMLINK_NOFOLLOW) == 0;
}

static size_t begun(const struct log_state *st)
{
	return st->mid && st->line_off > 0 ? (size_t)(st->off - st->line_off) : 0;
}

static int copy_bytes(int from, uint64_t off, size_t n, int to)
{
	char buf[16384];

	while (n > 0) {
		ssize_t got = pread(from, buf, n < sizeof(buf) ? n : sizeof(buf), (off_t)off);

		if (got < 0 && errno == EINTR)
			continue;
		if (got == 0)
			errno = EIO;
		if (got <= 0 || log_file_append(to, buf, (size_t)got) != (size_t)got)
			return -1;
		off += (uint64_t)got;
		n -= (size_t)got;
	}
	return 0;
}

static int copy_begun(int dirfd, const struct log_state *st)
{
	int from, to, result = -1, err;

	if (begun(st) == 0)
		return 0;
	if (unlinkat(dirfd, LOG_NAME_NEXT, 0) < 0 && errno != ENOENT)
		return -1;
	from = openat(dirfd, LOG_NAME_CURRENT, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	to = openat(dirfd, LOG_NAME_NEXT, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0640);
	if (from >= 0 && to >= 0)
		result = copy_bytes(from, st->line_off, begun(st), to);
	err = errno;
	fds_close(&from);
	fds_close(&to);
	if (result < 0)
		unlinkat(dirfd, LOG_NAME_NEXT, 0);
	errno = err;
	return result;
}

/* Steps 1 and 2. When neither name is our file, somebody took it away: there is nothing to move. */
static int move_away(int dirfd, const struct log_state *st)
{
	if (is_ours(dirfd, st->rotate_name, st) || !is_ours(dirfd, LOG_NAME_CURRENT, st))
		return 0;
	if (copy_begun(dirfd, st) < 0)
		return -1;
	return log_file_rename(dirfd, LOG_NAME_CURRENT, st->rotate_name);
}

/* A reader sees the begun line nowhere for a moment rather than twice. */
static void cut_begun(int dirfd, const struct log_state *st)
{
	int fd;

	if (!is_ours(dirfd, st->rotate_name, st))
		return;
	fd = openat(dirfd, st->rotate_name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	/* If it cannot be cut, the begun line stands twice: better than not at all. */
	if (fd >= 0 && ftruncate(fd, (off_t)st->line_off) < 0)
		errno = 0;
	fds_close(&fd);
}

/* Steps 3 and 4. Somebody may have made a `current` of his own. */
static int move_begun(int dirfd, const struct log_state *st)
{
	if (begun(st) == 0 || !exists(dirfd, LOG_NAME_NEXT))
		return 0;
	cut_begun(dirfd, st);
	if (exists(dirfd, LOG_NAME_CURRENT) && log_file_set_aside(dirfd) < 0)
		return -1;
	return log_file_rename(dirfd, LOG_NAME_NEXT, LOG_NAME_CURRENT);
}

static void use_next(struct log_state *st, int file, const struct stat *sb)
{
	uint64_t size = (uint64_t)sb->st_size;
	bool moved = begun(st) > 0 && size == begun(st);

	st->dev = sb->st_dev;
	st->ino = sb->st_ino;
	st->off = size;
	st->line_off = moved ? 0 : size;
	st->line_raw = moved ? st->line_raw : 0;
	st->fresh = !moved && !log_file_ends_line(file, size);
	st->rotating = st->cut = 0;
}

static int begin_next(int dirfd, struct log_state *st, int *file)
{
	struct stat sb;
	bool aside;

	fds_close(file);
	if (move_begun(dirfd, st) < 0)
		return -1;
	*file = log_file_openat(dirfd, &sb, &aside);
	if (*file < 0)
		return -1;
	use_next(st, *file, &sb);
	return 0;
}

enum log_rotated log_rotate_run(const char *dir, struct log_state *st, int *file)
{
	int dirfd = log_dir_open(dir), err;
	enum log_rotated result;

	if (dirfd < 0)
		return LOG_ROTATED_NOT;
	if (move_away(dirfd, st) < 0)
		result = LOG_ROTATED_NOT;
	else if (begin_next(dirfd, st, file) < 0)
		result = LOG_ROTATED_HALF;
	else
		result = LOG_ROTATED;
	err = errno;
	fds_close(&dirfd);
	errno = err;
	return result;
}
