/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Opening the directory of a log step by step, making what is missing. Hides which symbolic links
 * are safe: one that root or we own was put there by an administrator; another one could lead a
 * log process that runs as root to any place. Each step works on a descriptor of the step
 * before, so nothing can be exchanged between the look and the use. Linux only (O_PATH). Runs in
 * the log process. Never allocates.
 */
#include "node/log_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fds.h"

#define LINKS_MAX 8
#define STEP_FLAGS (O_PATH | O_NOFOLLOW | O_CLOEXEC)

struct walk {
	int fd;               /* the directory reached so far */
	unsigned links;
	char rest[PATH_MAX];  /* what is still to be walked */
};

static int walk_from(struct walk *w, const char *path)
{
	if (*path != '/')
		return 0;
	fds_close(&w->fd);
	w->fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	return w->fd < 0 ? -1 : 0;
}

/* Takes the first name off the rest; false when there is none. */
static bool next_name(struct walk *w, char name[NAME_MAX + 1])
{
	const char *p = w->rest + strspn(w->rest, "/");
	size_t n = strcspn(p, "/");

	if (n == 0)
		return false;
	if (n > NAME_MAX)
		n = NAME_MAX; /* the kernel would refuse it; so it names nothing */
	memcpy(name, p, n);
	name[n] = '\0';
	memmove(w->rest, p + n, strlen(p + n) + 1);
	return true;
}

/* Puts the target of the link before the rest. */
static int follow(struct walk *w, int link, uid_t owner)
{
	char target[PATH_MAX], rest[PATH_MAX];
	ssize_t n;

	if ((owner != 0 && owner != geteuid()) || ++w->links > LINKS_MAX) {
		errno = ELOOP;
		return -1;
	}
	n = readlinkat(link, "", target, sizeof(target) - 1);
	if (n < 0)
		return -1;
	target[n] = '\0';
	memcpy(rest, w->rest, strlen(w->rest) + 1);
	if ((size_t)n + strlen(rest) + 1 >= sizeof(w->rest)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(w->rest, target, (size_t)n);
	memcpy(w->rest + n, rest, strlen(rest) + 1);
	return walk_from(w, target);
}

static int open_step(const struct walk *w, const char *name)
{
	int fd = openat(w->fd, name, STEP_FLAGS);

	if (fd < 0 && errno == ENOENT) {
		if (mkdirat(w->fd, name, 0755) < 0 && errno != EEXIST)
			return -1;
		fd = openat(w->fd, name, STEP_FLAGS);
	}
	return fd;
}

static int step(struct walk *w, const char *name)
{
	int fd = open_step(w, name), result = 0;
	struct stat st;

	if (fd < 0)
		return -1;
	if (fstat(fd, &st) < 0)
		result = -1;
	else if (S_ISLNK(st.st_mode))
		result = follow(w, fd, st.st_uid);
	else {
		close(w->fd);
		w->fd = fd;
		return 0;
	}
	fds_close(&fd);
	return result;
}

int log_dir_open(const char *path)
{
	struct walk w = { .fd = -1 };
	char name[NAME_MAX + 1];
	int fd = -1;

	if (path[0] != '/' || strlen(path) >= sizeof(w.rest)) {
		errno = EINVAL;
		return -1;
	}
	memcpy(w.rest, path, strlen(path) + 1);
	if (walk_from(&w, path) < 0)
		return -1;
	while (next_name(&w, name))
		if (step(&w, name) < 0) {
			fds_close(&w.fd);
			return -1;
		}
	fd = openat(w.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fds_close(&w.fd);
	return fd;
}
