/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * --results: an item's output in files, DIR/1/ITEM/stdout, stderr and seq, as GNU parallel lays them out. An item is
 * somebody's text: no name made of it leaves the directory. Runs in the runner; blocks on the file system.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fds.h"
#include "map/map_private.h"

#define NAME_CUT 200 /* bytes of a name, before the number is added that keeps it apart */

static void put(char *name, size_t *n, const char *s)
{
	while (*s != '\0' && *n < NAME_CUT)
		name[(*n)++] = *s++;
}

/* One name of a directory: / becomes \_, \ becomes \\, a tab \t, and what begins with a dot, \.; long ones are cut and
 * numbered. */
static void name_of(const struct item *it, char name[NAME_MAX + 1])
{
	char one[2] = "";
	size_t n = 0;
	size_t i;

	for (i = 0; i + 1 < it->len && n < NAME_CUT; i++) {
		one[0] = it->text[i];
		if (one[0] == '/')
			put(name, &n, "\\_");
		else if (one[0] == '\\')
			put(name, &n, "\\\\");
		else if (one[0] == '\t')
			put(name, &n, "\\t");
		else if (one[0] == '\0')
			put(name, &n, " ");
		else if (one[0] == '.' && i == 0)
			put(name, &n, "\\.");
		else
			put(name, &n, one);
	}
	name[n] = '\0';
	if (n >= NAME_CUT || n == 0 || it->chunk >= 0)
		snprintf(name + n, NAME_MAX + 1 - n, "\\%" PRIu64, it->seq);
}

static int enter(int dir, const char *name)
{
	if (mkdirat(dir, name, 0777) < 0 && errno != EEXIST)
		return -1;
	return openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int open_dir(const struct run *r, const struct item *it)
{
	char name[NAME_MAX + 1];
	int top = enter(AT_FDCWD, r->o->results), one, dir = -1;

	if (top < 0)
		return -1;
	one = enter(top, "1");
	name_of(it, name);
	if (one >= 0)
		dir = enter(one, name);
	fds_close(&one);
	fds_close(&top);
	return dir;
}

static int create(int dir, const char *name)
{
	return openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
}

static int write_stream(struct run *r, int dir, const char *name, const struct capture *c)
{
	int fd = create(dir, name), result = fd < 0 ? -1 : 0;
	const char *data;
	uint64_t at = 0;
	size_t len;

	while (result == 0 && (data = capture_at(r, c, at, &len))) {
		result = fds_write_all(fd, data, len);
		at += len;
	}
	fds_close(&fd);
	return result;
}

static int write_seq(const struct item *it, int dir)
{
	char text[24];
	int fd = create(dir, "seq"), n = snprintf(text, sizeof text, "%" PRIu64 "\n", it->seq);
	int result = fd < 0 ? -1 : fds_write_all(fd, text, (size_t)n);

	fds_close(&fd);
	return result;
}

/* The directory itself and those above it. */
static int make_all(const char *path)
{
	char part[PATH_MAX];
	size_t n;

	if (strlen(path) >= sizeof part) {
		errno = ENAMETOOLONG;
		return -1;
	}
	for (n = strcspn(path + 1, "/") + 1;; n += strcspn(path + n + 1, "/") + 1) {
		memcpy(part, path, n);
		part[n] = '\0';
		if (mkdir(part, 0777) < 0 && errno != EEXIST)
			return -1;
		if (path[n] == '\0')
			return 0;
	}
}

int results_prepare(const struct map_options *o)
{
	int top = -1, one = -1;

	if (make_all(o->results) == 0)
		top = enter(AT_FDCWD, o->results);
	if (top >= 0)
		one = enter(top, "1");
	if (one < 0 || faccessat(one, ".", W_OK | X_OK, AT_EACCESS) < 0) {
		diag_error_errno("map: unable to write results to %s", o->results);
		fds_close(&top);
		fds_close(&one);
		return -1;
	}
	fds_close(&top);
	fds_close(&one);
	return 0;
}

int results_write(struct run *r, struct item *it)
{
	int dir = open_dir(r, it);

	if (dir < 0 || write_stream(r, dir, "stdout", &it->out[0]) < 0 ||
	    write_stream(r, dir, "stderr", &it->out[1]) < 0 || write_seq(it, dir) < 0) {
		diag_error_errno("map: unable to write results of item %" PRIu64 " to %s", it->seq, r->o->results);
		fds_close(&dir);
		run_break(r, MAP_BROKEN);
		return -1;
	}
	fds_close(&dir);
	return 0;
}
