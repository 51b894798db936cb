/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Finding a file that can be trusted with what it makes root do. A path is walked one name
 * at a time, from the root directory, on descriptors: every directory on the way, every symbolic
 * link followed and the file itself must belong to root or to this user, and must not be
 * writable by others (a sticky directory may, as /tmp is: there nobody can replace what is not
 * his). What was checked is what is read: nothing is opened a second time by name.
 *
 * In a user namespace, owners that are not mapped into it look like nobody; they are taken
 * for the namespace's outside, which could do anything to it anyway. Parser process.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fds.h"
#include "node/config_private.h"

#define LINKS_MAX 40

struct walk {
	int dir;                /* where we are, O_PATH */
	char real[PATH_MAX];    /* its canonical path, "" for the root directory */
	char todo[PATH_MAX];    /* what is left of the path */
	int links;
	char *why;
};

static int fail(char *why, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static int fail(char *why, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, CONF_WHY_MAX, fmt, ap);
	va_end(ap);
	return -1;
}

/* --- whom we trust --- */

static long read_number(const char *file)
{
	char buf[32] = "";
	FILE *f = fopen(file, "re");
	long n = -1;

	if (f && fgets(buf, sizeof buf, f))
		n = strtol(buf, NULL, 10);
	if (f)
		fclose(f);
	return n;
}

/* Tells whether this user namespace maps less than everybody. */
static bool is_partial_namespace(void)
{
	unsigned long inside, outside, count;
	FILE *f = fopen("/proc/self/uid_map", "re");
	bool whole = true;

	if (f && fscanf(f, "%lu %lu %lu", &inside, &outside, &count) == 3)
		whole = inside == 0 && count >= 4294967295u;
	if (f)
		fclose(f);
	return !whole;
}

static bool is_unmapped(uid_t uid)
{
	static long overflow = -2;

	if (overflow == -2)
		overflow = is_partial_namespace() ? read_number("/proc/sys/kernel/overflowuid") : -1;
	return overflow >= 0 && uid == (uid_t)overflow;
}

static bool is_trusted_owner(uid_t uid)
{
	return uid == 0 || uid == geteuid() || is_unmapped(uid);
}

/* Tells whether somebody else may write: anybody, or, for root, a group other than root's. */
static bool is_open_to_others(const struct stat *st)
{
	return (st->st_mode & S_IWOTH) ||
	    ((st->st_mode & S_IWGRP) && geteuid() == 0 && st->st_gid != 0 && st->st_gid != getegid());
}

static int check_trust(const char *path, const struct stat *st, char *why)
{
	if (!is_trusted_owner(st->st_uid))
		return fail(why, "refused: %s belongs to user %u, not to root or you", path, st->st_uid);
	if (S_ISLNK(st->st_mode) || (S_ISDIR(st->st_mode) && (st->st_mode & S_ISVTX)))
		return 0;
	if (is_open_to_others(st))
		return fail(why, "refused: %s can be written by others (mode %04o)", path,
		    (unsigned)(st->st_mode & 07777));
	return 0;
}

/* --- the walk --- */

static const char *here(const struct walk *w)
{
	return w->real[0] != '\0' ? w->real : "/";
}

static void move_to(struct walk *w, int fd)
{
	fds_close(&w->dir);
	w->dir = fd;
}

/* Stands at the root directory. */
static int walk_root(struct walk *w)
{
	struct stat st;
	int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fstat(fd, &st) < 0) {
		fds_close(&fd);
		return fail(w->why, "unable to open /: %s", strerror(errno));
	}
	move_to(w, fd);
	w->real[0] = '\0';
	return check_trust("/", &st, w->why);
}

/* Puts a path before what is left to do. */
static int walk_push(struct walk *w, const char *path)
{
	char rest[PATH_MAX];

	strlcpy(rest, w->todo, sizeof rest);
	if ((size_t)snprintf(w->todo, sizeof w->todo, "%s/%s", path, rest) >= sizeof w->todo)
		return fail(w->why, "%s", strerror(ENAMETOOLONG));
	return path[0] == '/' ? walk_root(w) : 0;
}

/* Takes the next name off what is left; false at the end. */
static bool walk_take(struct walk *w, char name[NAME_MAX + 1])
{
	size_t skip = strspn(w->todo, "/"), len = strcspn(w->todo + skip, "/");

	if (len == 0)
		return false;
	/* A longer name cannot exist; cut, it is found missing. */
	snprintf(name, NAME_MAX + 1, "%.*s", (int)len, w->todo + skip);
	memmove(w->todo, w->todo + skip + len, strlen(w->todo + skip + len) + 1);
	return true;
}

static bool walk_done(const struct walk *w)
{
	return w->todo[strspn(w->todo, "/")] == '\0';
}

static int walk_up(struct walk *w)
{
	int fd = openat(w->dir, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
	char *slash = strrchr(w->real, '/');

	if (fd < 0)
		return fail(w->why, "%s", strerror(errno));
	if (slash)
		*slash = '\0';
	move_to(w, fd); /* it was checked on the way down */
	return 0;
}

static int follow(struct walk *w, int link)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(link, "", target, sizeof target - 1);

	if (n < 0)
		return fail(w->why, "%s", strerror(errno));
	if (++w->links > LINKS_MAX)
		return fail(w->why, "%s", strerror(ELOOP));
	target[n] = '\0';
	return walk_push(w, target);
}

static int enter(struct walk *w, const char *path, int fd)
{
	if (strlcpy(w->real, path, sizeof w->real) >= sizeof w->real)
		return fail(w->why, "%s", strerror(ENAMETOOLONG));
	move_to(w, fd);
	return 0;
}

/* Opens for reading what was found and checked as fd. */
static int reopen(struct walk *w, const char *name, const struct stat *st)
{
	struct stat again;
	int fd = openat(w->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd < 0)
		return fail(w->why, "%s", strerror(errno));
	if (fstat(fd, &again) < 0 || again.st_dev != st->st_dev || again.st_ino != st->st_ino) {
		fds_close(&fd);
		return fail(w->why, "it was replaced while it was being opened");
	}
	return fd;
}

static int check_kind(mode_t mode, char *why)
{
	if (S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode))
		return 0;
	return fail(why, "refused: it is %s, not a file",
	    S_ISFIFO(mode) ? "a fifo" : S_ISSOCK(mode) ? "a socket" : "a device");
}

/* The last name of a path: a file. */
static int arrive(struct walk *w, const char *name, const char *path, const struct stat *st,
    struct conf_found *found)
{
	if (S_ISDIR(st->st_mode))
		return fail(w->why, "refused: it is a directory, not a file");
	found->fd = reopen(w, name, st);
	if (found->fd < 0)
		return -1;
	found->real = conf_strdup(path);
	found->dev = st->st_dev;
	found->ino = st->st_ino;
	return 1;
}

/* One name further. 1: arrived at a file (if one is looked for), 0: go on, -1. */
static int step(struct walk *w, const char *name, struct conf_found *found)
{
	int fd = openat(w->dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC), r;
	char path[PATH_MAX + NAME_MAX + 2];
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		r = fail(w->why, "%s", strerror(errno));
		fds_close(&fd);
		return r;
	}
	snprintf(path, sizeof path, "%s/%s", w->real, name);
	r = check_kind(st.st_mode, w->why);
	if (r == 0)
		r = check_trust(path, &st, w->why);
	if (r == 0 && S_ISDIR(st.st_mode) && !(found && walk_done(w))) {
		r = enter(w, path, fd);
		if (r == 0)
			return 0;
	} else if (r == 0 && S_ISLNK(st.st_mode)) {
		r = follow(w, fd);
	} else if (r == 0) {
		r = walk_done(w) && found ? arrive(w, name, path, &st, found) :
		    fail(w->why, "%s", strerror(ENOTDIR));
	}
	fds_close(&fd);
	return r;
}

/* Walks all of w->todo. 0: at a directory, 1: at a file. */
static int walk(struct walk *w, struct conf_found *found)
{
	char name[NAME_MAX + 1];
	int r = 0;

	while (r == 0 && walk_take(w, name)) {
		if (strcmp(name, "..") == 0)
			r = walk_up(w);
		else if (strcmp(name, ".") != 0)
			r = step(w, name, found);
	}
	return r;
}

static int walk_init(struct walk *w, const char *path, char *why)
{
	char cwd[PATH_MAX];

	*w = (struct walk){ .dir = -1, .why = why };
	if (path[0] == '\0')
		return fail(why, "%s", strerror(ENOENT));
	if (strlcpy(w->todo, path, sizeof w->todo) >= sizeof w->todo)
		return fail(why, "%s", strerror(ENAMETOOLONG));
	if (path[0] == '/')
		return walk_root(w);
	if (!getcwd(cwd, sizeof cwd) || cwd[0] != '/')
		return fail(why, "unable to find the current directory");
	return walk_push(w, cwd);
}

int conf_safe_open(const char *path, struct conf_found *found_r, char why[CONF_WHY_MAX])
{
	struct walk w;
	int r = walk_init(&w, path, why);

	*found_r = (struct conf_found){ .fd = -1 };
	if (r == 0)
		r = walk(&w, found_r);
	if (r == 0)
		r = fail(why, "refused: it is a directory, not a file");
	fds_close(&w.dir);
	return r == 1 ? 0 : -1;
}

bool conf_safe_missing(const char *path)
{
	struct stat st;

	return stat(path, &st) < 0 && errno == ENOENT;
}

char *conf_safe_home(const char *path, char why[CONF_WHY_MAX])
{
	const char *slash = strrchr(path, '/');
	char *dir = slash ? conf_strdup(path) : conf_strdup("."), *real = NULL;
	struct walk w;

	if (slash)
		dir[slash == path ? 1 : slash - path] = '\0';
	if (walk_init(&w, dir, why) == 0 && walk(&w, NULL) == 0)
		real = conf_strdup(here(&w));
	fds_close(&w.dir);
	return real;
}

bool conf_safe_inside(const char *dir, const char *real)
{
	size_t len = strlen(dir);

	if (strcmp(dir, "/") == 0)
		return true;
	return strncmp(dir, real, len) == 0 && real[len] == '/';
}

/* --- reading --- */

void conf_safe_close(struct conf_found *found)
{
	if (found->fd >= 0)
		fds_close(&found->fd);
}

int conf_safe_slurp(struct conf_found *found, size_t max, struct conf_buf *b, char why[CONF_WHY_MAX])
{
	char chunk[65536];
	ssize_t n;

	do {
		n = read(found->fd, chunk, sizeof chunk);
		if (n > 0)
			conf_buf_add(b, chunk, (size_t)n);
	} while ((n > 0 && b->len <= max) || (n < 0 && errno == EINTR));
	if (n < 0)
		fail(why, "unable to read: %s", strerror(errno));
	else if (b->len > max)
		n = fail(why, "refused: larger than %zu bytes", max);
	fds_close(&found->fd);
	return n < 0 ? -1 : 0;
}
