/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What the tests of the configuration share: a directory for each case, files in it, images and
 * errors of texts.
 */
#ifndef UNIT_CONFIG_RIG_H
#define UNIT_CONFIG_RIG_H

#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "t.h"

#include "node/config.h"
#include "node/config_private.h"

static char dir[1024]; /* of this case, removed at its end */

static inline void remove_dir(void)
{
	if (dir[0] != '\0' && fork() == 0) {
		execl("/bin/rm", "rm", "-rf", dir, (char *)NULL);
		_exit(127);
	}
	while (wait(NULL) > 0)
		;
}

/* Makes a directory for this case and goes there. */
static inline void enter_dir(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, sizeof dir, "%s/coppice-test.XXXXXX", tmp ? tmp : "/tmp");
	T_REQUIRE(mkdtemp(dir) && chdir(dir) == 0 && mkdir("conf", 0755) == 0);
}

static inline void leave_dir(void)
{
	T_REQUIRE(chdir("/") == 0);
	remove_dir();
}

static inline void put_file(const char *name, const char *text, size_t len)
{
	FILE *f = fopen(name, "w");

	T_REQUIRE(f);
	T_REQUIRE(fwrite(text, 1, len, f) == len);
	T_REQUIRE(fclose(f) == 0);
	T_REQUIRE(chmod(name, 0644) == 0);
}

static inline void put_text(const char *name, const char *text)
{
	put_file(name, text, strlen(text));
}

static inline char *read_all(const char *name, size_t *len_r)
{
	struct stat st;
	FILE *f = fopen(name, "r");
	char *s;

	T_REQUIRE(f && fstat(fileno(f), &st) == 0);
	s = calloc(1, (size_t)st.st_size + 1);
	T_REQUIRE(s && fread(s, 1, (size_t)st.st_size, f) == (size_t)st.st_size);
	fclose(f);
	if (len_r)
		*len_r = (size_t)st.st_size;
	return s;
}

static inline const char *srcdir(void)
{
	const char *s = getenv("COP_SRCDIR");

	return s ? s : ".";
}

static inline int scratch(void)
{
	int fd = memfd_create("scratch", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	T_REQUIRE(fd >= 0);
	return fd;
}

static inline char *take_text(int fd)
{
	off_t len = lseek(fd, 0, SEEK_END);
	char *s = calloc(1, (size_t)len + 1);

	T_REQUIRE(s && pread(fd, s, (size_t)len, 0) == len);
	close(fd);
	return s;
}

/* Loads a file; *err_r is its errors. */
static inline int load(const char *file, struct spec_image *img, char **err_r)
{
	int err = scratch(), fd = config_load(file, 7, err);

	*err_r = take_text(err);
	if (fd < 0)
		return -1;
	T_REQUIRE(spec_open(img, fd) == 0);
	return 0;
}

/* The image of a text; a case that cannot have it ends. */
static inline void must_load(const char *text, struct spec_image *img)
{
	char *err;

	put_text("x.conf", text);
	if (load("x.conf", img, &err) < 0) {
		T_FAIL("%s", err);
		fflush(stdout);
		remove_dir();
		_exit(1);
	}
	T_EQ_STR(err, "");
	free(err);
}

/* The errors of a text, which must have some. */
static inline char *errors_of(const char *text)
{
	struct spec_image img;
	char *err;

	put_text("x.conf", text);
	if (load("x.conf", &img, &err) == 0) {
		T_FAIL("this is taken: %s", text);
		spec_close(&img);
	}
	return err;
}

static inline bool is_refused(const char *text)
{
	char *err = errors_of(text);
	bool r = err[0] != '\0';

	free(err);
	return r;
}

/* One worker with these keys. */
static inline const char *worker(const char *keys)
{
	static char text[8192];

	snprintf(text, sizeof text, "supervisor: { children = (\n{ id = \"a\"; exec = [ \"x\" ];\n%s\n} ); };\n", keys);
	return text;
}

static inline bool has(const char *text, const char *what)
{
	return strstr(text, what) != NULL;
}

#define T_HAS(text, what) \
	do { \
		if (!has((text), (what))) \
			T_FAIL("\"%s\" is not in \"%s\"", (what), (text)); \
	} while (0)

/* The errors of a text, found in this process; NULL if it has none. */
static inline char *try_text(const char *text, size_t len)
{
	int err = scratch(), mem = scratch();
	int r = conf_job_run_text("x.conf", text, len, mem, err);
	char *s = take_text(err);

	close(mem);
	if (r == CONF_EXIT_OK && s[0] == '\0') {
		free(s);
		return NULL;
	}
	return s;
}

static inline char *all_keys(size_t *len_r)
{
	char name[PATH_MAX];

	snprintf(name, sizeof name, "%s/tests/config/root-all-keys.conf", srcdir());
	return read_all(name, len_r);
}

static inline bool is_sanitized(void)
{
	const char *sanitizers = getenv("COP_SANITIZERS");

	return sanitizers && strspn(sanitizers, " ") != strlen(sanitizers);
}

#endif
