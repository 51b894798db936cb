/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Reading a log directory. Hides how a place in the text is kept while files change their names:
 * a file is known by its inode, what comes after it by the names that are greater than the
 * greatest seen when it was opened. A line that the writer moved to the next file is not shown
 * twice: the old file has become shorter by it. Linux only (inotify; without it the directory is
 * looked at four times a second). Runs in clients.
 *
 * Regime: allocates.
 */
#include "cli/cli_log_tail.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fds.h"
#include "node/log_name.h"

#define BLOCK 65536
#define LOOK_MS 250   /* without inotify */
#define TRIES 10      /* to see `current` and the rotated ones without a rotation between */
#define OPEN_FLAGS (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)
#define WATCHED (IN_CREATE | IN_MOVED_TO | IN_MODIFY | IN_ONLYDIR)

struct names {
	struct dirent **list;      /* rotated files, oldest first */
	int n;
};

struct tail {
	const char *dir;
	FILE *out;
	int fd;                    /* the file we are in; -1: none yet */
	dev_t dev;
	ino_t ino;
	off_t off;                 /* what comes next */
	off_t moved;               /* bytes we wrote that have since been cut off the file */
	char newest[LOG_NAME_SIZE]; /* greatest name of a file before fd; "" */
	size_t line_len;           /* bytes of the unfinished line we wrote last; > BLOCK: too many */
	char line[BLOCK];
	char block[BLOCK];
};

/* --- the directory ------------------------------------------------------------------------ */

static int is_rotated(const struct dirent *e)
{
	return log_name_is_rotated(e->d_name);
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int names_read(struct names *names, const char *dir)
{
	names->list = NULL;
	names->n = scandir(dir, &names->list, is_rotated, by_name);
	return names->n < 0 ? -1 : 0;
}

static void names_free(struct names *names)
{
	int i;

	for (i = 0; i < names->n; i++)
		free(names->list[i]);
	free(names->list);
}

/* A file of the directory, if it is a plain one; -1. */
static int open_in(const char *dir, const char *name, struct stat *st)
{
	int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), fd;

	if (dirfd < 0)
		return -1;
	fd = openat(dirfd, name, OPEN_FLAGS);
	fds_close(&dirfd);
	if (fd >= 0 && (fstat(fd, st) < 0 || !S_ISREG(st->st_mode))) {
		fds_close(&fd);
		errno = ENOENT;
	}
	return fd;
}

static bool is_at(const struct tail *t, const struct stat *st)
{
	return t->fd >= 0 && st->st_ino == t->ino && st->st_dev == t->dev;
}

/* Goes to another file; takes fd over. */
static void enter(struct tail *t, int fd, const struct stat *st, off_t off)
{
	fds_close(&t->fd);
	t->fd = fd;
	t->dev = st->st_dev;
	t->ino = st->st_ino;
	t->off = off;
	t->moved = 0;
}

/* --- writing ------------------------------------------------------------------------------ */

/* Remembers the unfinished line at the end of what was written. */
static void track(struct tail *t, const char *p, size_t n)
{
	const char *nl = memrchr(p, '\n', n);

	if (nl) {
		n -= (size_t)(nl + 1 - p);
		p = nl + 1;
		t->line_len = 0;
	}
	if (t->line_len + n <= BLOCK)
		memcpy(t->line + t->line_len, p, n);
	else
		n = BLOCK + 1;
	t->line_len = t->line_len + n <= BLOCK ? t->line_len + n : BLOCK + 1;
}

static int put(struct tail *t, size_t n)
{
	track(t, t->block, n);
	return fwrite(t->block, 1, n, t->out) == n ? 0 : -1;
}

/* Writes fd from off to its end, at most up to limit; returns where it stopped, or -1. */
static off_t copy(struct tail *t, int fd, off_t off, off_t limit)
{
	while (off < limit) {
		size_t want = limit - off < BLOCK ? (size_t)(limit - off) : BLOCK;
		ssize_t n = pread(fd, t->block, want, off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n == 0)
			break;
		if (n < 0 || put(t, (size_t)n) < 0)
			return -1;
		off += n;
	}
	return off;
}

/* --- the last lines ----------------------------------------------------------------------- */

struct count {
	long left;     /* newlines still to be found; < 0: all lines are wanted */
	bool inside;   /* the end of all was seen: a newline now begins a line that is shown */
};

/* Where in the first size bytes the wanted lines begin; 0 if further back. */
static off_t find_start(struct tail *t, int fd, off_t size, struct count *c)
{
	off_t end = size;

	while (end > 0 && c->left >= 0) {
		size_t want = end < BLOCK ? (size_t)end : BLOCK;
		ssize_t n = pread(fd, t->block, want, end - (off_t)want);

		if (n != (ssize_t)want)
			return 0;
		for (; n > 0; n--) {
			bool nl = t->block[n - 1] == '\n';

			if (nl && c->inside && --c->left <= 0)
				return end - (off_t)want + n;
			c->inside = true;
		}
		end -= (off_t)want;
	}
	return 0;
}

/* Opens `current`; while a rotation is under way and there is none, the newest rotated file. */
static int open_last(struct tail *t, struct names *names, struct stat *st)
{
	int fd = open_in(t->dir, LOG_NAME_CURRENT, st);

	if (names_read(names, t->dir) < 0) {
		fds_close(&fd);
		return -1;
	}
	if (fd < 0 && names->n > 0) {
		fd = open_in(t->dir, names->list[names->n - 1]->d_name, st);
		free(names->list[--names->n]);
	}
	if (fd >= 0)
		enter(t, fd, st, st->st_size);
	return 0;
}

/* Finds the last file and the names before it, as they were at one time. */
static int look(struct tail *t, struct names *names)
{
	struct stat st, again;
	bool same = false;
	int i, fd;

	for (i = 0; !same; i++) {
		if (open_last(t, names, &st) < 0)
			return -1;
		fd = open_in(t->dir, LOG_NAME_CURRENT, &again);
		same = i == TRIES || fd < 0 || is_at(t, &again);
		fds_close(&fd);
		if (!same)
			names_free(names);
	}
	if (names->n > 0)
		strlcpy(t->newest, names->list[names->n - 1]->d_name, sizeof(t->newest));
	return 0;
}

/* Index of the rotated file with the first wanted line (n: it is in `current`), and where. */
static int first_wanted(struct tail *t, const struct names *names, struct count *c, off_t *start)
{
	struct stat st;
	int i = names->n, fd;

	*start = t->fd >= 0 ? find_start(t, t->fd, t->off, c) : 0;
	while (i > 0 && c->left != 0) {
		fd = open_in(t->dir, names->list[i - 1]->d_name, &st);
		if (fd < 0)
			break; /* pruned just now, and so are those before it */
		*start = find_start(t, fd, st.st_size, c);
		fds_close(&fd);
		i--;
	}
	return i;
}

static int write_files(struct tail *t, const struct names *names, int i, off_t start)
{
	struct stat st;

	for (; i < names->n; i++, start = 0) {
		int fd = open_in(t->dir, names->list[i]->d_name, &st);
		off_t end = fd >= 0 && !is_at(t, &st) ? copy(t, fd, start, st.st_size) : 0;

		fds_close(&fd);
		if (end < 0)
			return -1;
	}
	if (t->fd >= 0 && start < t->off)
		t->off = copy(t, t->fd, start, t->off);
	return t->off < 0 ? -1 : 0;
}

/* Writes the last n lines; t is then at the end of `current`. */
static int tail_last(struct tail *t, long n)
{
	struct count c = { .left = n };
	struct names names;
	off_t start;
	int i, result = 0;

	if (look(t, &names) < 0)
		return -1;
	if (n != 0) {
		i = first_wanted(t, &names, &c, &start);
		result = write_files(t, &names, i, start);
	}
	names_free(&names);
	return result == 0 && fflush(t->out) == 0 ? 0 : -1;
}

static struct tail *tail_create(const char *dir, FILE *out)
{
	struct tail *t = malloc(sizeof(*t));

	if (!t)
		return NULL;
	t->dir = dir;
	t->out = out;
	t->fd = -1;
	t->off = t->moved = 0;
	t->line_len = 0;
	memset(t->newest, 0, sizeof(t->newest));
	return t;
}

static void tail_destroy(struct tail *t)
{
	int err = errno;

	fds_close(&t->fd);
	free(t);
	errno = err;
}

int log_tail(const char *dir, long n, FILE *out)
{
	struct tail *t = tail_create(dir, out);
	int result;

	if (!t)
		return -1;
	result = tail_last(t, n);
	tail_destroy(t);
	return result;
}

/* --- following ---------------------------------------------------------------------------- */

/* Writes what has been added to the file we are in. */
static int write_rest(struct tail *t)
{
	struct stat st;

	if (t->fd < 0)
		return 0;
	if (fstat(t->fd, &st) < 0)
		return -1;
	if (st.st_size < t->off) {
		t->moved += t->off - st.st_size;
		t->off = st.st_size;
	} else if (st.st_size > t->off) {
		t->moved = 0;
		t->off = copy(t, t->fd, t->off, st.st_size);
	}
	return t->off < 0 ? -1 : 0;
}

/* Bytes at the start of the next file that we have written already: what was cut off ours was a
 * begun line, and the writer has moved it there. */
static off_t written_of(struct tail *t, int fd)
{
	size_t n = t->moved <= BLOCK ? (size_t)t->moved : 0;

	if (n == 0 || n > t->line_len)
		return 0;
	if (t->line_len > BLOCK)
		return t->moved;
	if (pread(fd, t->block, n, 0) != (ssize_t)n)
		return 0;
	return memcmp(t->block, t->line + t->line_len - n, n) == 0 ? t->moved : 0;
}

/* The first rotated file after ours; -1 if there is none. */
static int open_rotated(struct tail *t, const struct names *names, struct stat *st)
{
	int i, fd;

	for (i = 0; i < names->n; i++) {
		if (strcmp(names->list[i]->d_name, t->newest) <= 0)
			continue;
		strlcpy(t->newest, names->list[i]->d_name, sizeof(t->newest));
		fd = open_in(t->dir, t->newest, st);
		if (fd >= 0 && !is_at(t, st))
			return fd;
		fds_close(&fd);
	}
	return -1;
}

/* The file after ours: a rotated one, or `current`, which is opened first, as it may be rotated while we
 * look; -1 if ours is the last. */
static int open_next(struct tail *t, struct stat *st)
{
	struct stat rotated_st;
	struct names names;
	int fd = open_in(t->dir, LOG_NAME_CURRENT, st), rotated;

	if (names_read(&names, t->dir) < 0) {
		fds_close(&fd);
		return -1;
	}
	rotated = open_rotated(t, &names, &rotated_st);
	names_free(&names);
	if (rotated >= 0) {
		fds_close(&fd);
		*st = rotated_st;
		return rotated;
	}
	if (fd >= 0 && is_at(t, st))
		fds_close(&fd);
	return fd;
}

/* 1: entered the file after ours, 0: there is none, -1. */
static int enter_next(struct tail *t)
{
	struct stat st;
	int fd = open_next(t, &st);

	if (fd < 0)
		return 0;
	/* The writer cuts our file before the next one is there to be seen: look again. */
	if (write_rest(t) < 0) {
		fds_close(&fd);
		return -1;
	}
	enter(t, fd, &st, written_of(t, fd));
	return 1;
}

static bool is_current(const struct tail *t)
{
	struct stat st;
	int fd = open_in(t->dir, LOG_NAME_CURRENT, &st);
	bool same = fd >= 0 && is_at(t, &st);

	fds_close(&fd);
	return same;
}

/* Writes everything that there is beyond our place. */
static int catch_up(struct tail *t)
{
	int entered = 1;

	while (entered > 0) {
		bool last = is_current(t);

		/* After the question: what a writer appends before it rotates is read here. */
		if (write_rest(t) < 0)
			return -1;
		entered = last ? 0 : enter_next(t);
	}
	return entered < 0 || fflush(t->out) != 0 ? -1 : 0;
}

static void drain_events(int fd)
{
	char buf[4096] __attribute__((aligned(__alignof__(struct inotify_event))));

	while (read(fd, buf, sizeof(buf)) > 0)
		;
}

/* Waits for a change; 1: go on, 0: stop_fd says stop, -1. */
static int wait_change(int notify, bool watched, int stop_fd)
{
	struct pollfd p[2] = { { .fd = stop_fd, .events = POLLIN }, { .fd = notify, .events = POLLIN } };

	if (poll(p, 2, watched ? -1 : LOOK_MS) < 0)
		return errno == EINTR ? 1 : -1;
	if (p[1].revents)
		drain_events(notify);
	return p[0].revents == 0;
}

/* Watches the directory; it may have been removed and made again. */
static bool watch(int notify, const char *dir)
{
	struct stat st;

	return notify >= 0 && inotify_add_watch(notify, dir, WATCHED) >= 0 && stat(dir, &st) == 0;
}

static int follow(struct tail *t, long n, int notify, int stop_fd)
{
	bool watched = watch(notify, t->dir);
	int going = tail_last(t, n) < 0 ? -1 : 1;

	while (going > 0) {
		if (catch_up(t) < 0)
			return -1;
		going = wait_change(notify, watched, stop_fd);
		/* The same watch as before, unless the directory is another one. */
		watched = watch(notify, t->dir);
	}
	return going < 0 || catch_up(t) < 0 ? -1 : 0;
}

int log_follow(const char *dir, long n, FILE *out, int stop_fd)
{
	struct tail *t = tail_create(dir, out);
	int notify, result, err;

	if (!t)
		return -1;
	notify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	result = follow(t, n, notify, stop_fd);
	err = errno;
	fds_close(&notify);
	tail_destroy(t);
	errno = err;
	return result;
}
