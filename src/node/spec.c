/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Reading an image (spec.h): mapping, and the way from one thing in it to the next. Runs in
 * every process of a node. An image was checked as a whole when it was opened and is sealed, so
 * these functions follow offsets without checking them again.
 *
 * Regime: never allocates; a mapping is all it owns.
 */
#include "node/spec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/fds.h"
#include "base/text.h"

#define IMAGE_MAX ((off_t)256 << 20)
#define IMAGE_SEALS (F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW)

static const void *at(const struct spec_image *img, uint32_t off)
{
	return (const char *)img->h + off;
}

/* What is not sealed could change after it was checked, or shrink under a reader. */
static int image_size(int fd, size_t *size_r)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -1;
	if (seals < 0 || (seals & IMAGE_SEALS) != IMAGE_SEALS || st.st_size <= 0 ||
	    st.st_size > IMAGE_MAX) {
		errno = EBADMSG;
		return -1;
	}
	*size_r = (size_t)st.st_size;
	return 0;
}

int spec_open(struct spec_image *img, int fd)
{
	size_t size;
	void *base;

	*img = (struct spec_image){ .fd = -1 };
	if (image_size(fd, &size) < 0)
		return -1;
	base = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED)
		return -1;
	if (spec_check(base, size) < 0) {
		munmap(base, size);
		errno = EBADMSG;
		return -1;
	}
	img->h = base;
	img->fd = fd;
	return 0;
}

void spec_close(struct spec_image *img)
{
	union {
		const struct spec_header *r;
		void *w;
	} base = { .r = img->h };

	if (img->h)
		munmap(base.w, img->h->size);
	img->h = NULL;
	if (img->fd >= 0)
		fds_close(&img->fd);
	img->fd = -1;
}

const char *spec_string(const struct spec_image *img, spec_str s)
{
	return s == 0 ? NULL : at(img, s);
}

const struct spec_child *spec_top(const struct spec_image *img)
{
	return at(img, img->h->top);
}

const struct spec_child *spec_first_child(const struct spec_image *img, const struct spec_child *parent)
{
	return parent->first == 0 ? NULL : at(img, parent->first);
}

const struct spec_child *spec_next_child(const struct spec_image *img, const struct spec_child *c)
{
	return c->next == 0 ? NULL : at(img, c->next);
}

/* The child of parent whose id is the len bytes at id. */
static const struct spec_child *child_by_id(const struct spec_image *img,
    const struct spec_child *parent, const char *id, size_t len)
{
	const struct spec_child *c;

	for (c = spec_first_child(img, parent); c; c = spec_next_child(img, c)) {
		const char *s = spec_string(img, c->id);

		if (strncmp(s, id, len) == 0 && s[len] == '\0')
			return c;
	}
	return NULL;
}

const struct spec_child *spec_find(const struct spec_image *img, const char *path)
{
	const struct spec_child *c = spec_top(img);
	size_t len;

	if (strcmp(path, "/") == 0)
		return c;
	while (c && *path != '\0') {
		len = strcspn(path, "/");
		c = child_by_id(img, c, path, len);
		path += len;
		/* A slash is followed by another id: "a/" and "a//b" name nothing. */
		if (*path == '/' && *++path == '\0')
			return NULL;
	}
	return c;
}

const char *spec_list_str(const struct spec_image *img, const struct spec_list *l, uint32_t i)
{
	return i < l->count ? spec_string(img, spec_list_num(img, l, i)) : NULL;
}

uint32_t spec_list_num(const struct spec_image *img, const struct spec_list *l, uint32_t i)
{
	const uint32_t *v = at(img, l->off);

	return i < l->count ? v[i] : 0;
}

const struct spec_socket *spec_socket_at(const struct spec_image *img, uint32_t i)
{
	const struct spec_socket *v = at(img, img->h->sockets);

	return i < img->h->n_sockets ? v + i : NULL;
}

/* --- names --- */

static const char *name_of(const char *const *names, size_t n, uint8_t value)
{
	return value < n ? names[value] : "?";
}

const char *spec_type_name(uint8_t type)
{
	static const char *const names[] = {
		[SPEC_WORKER] = "worker",
		[SPEC_SUPERVISOR] = "supervisor",
		[SPEC_DYNAMIC_SUPERVISOR] = "dynamic_supervisor",
	};

	return name_of(names, sizeof names / sizeof names[0], type);
}

const char *spec_strategy_name(uint8_t strategy)
{
	static const char *const names[] = {
		[SUP_ONE_FOR_ONE] = "one_for_one",
		[SUP_ONE_FOR_ALL] = "one_for_all",
		[SUP_REST_FOR_ONE] = "rest_for_one",
	};

	return name_of(names, sizeof names / sizeof names[0], strategy);
}

const char *spec_restart_name(uint8_t restart)
{
	static const char *const names[] = {
		[SUP_PERMANENT] = "permanent",
		[SUP_TRANSIENT] = "transient",
		[SUP_TEMPORARY] = "temporary",
	};

	return name_of(names, sizeof names / sizeof names[0], restart);
}

const char *spec_auto_shutdown_name(uint8_t a)
{
	static const char *const names[] = {
		[SUP_AUTO_NEVER] = "never",
		[SUP_AUTO_ANY_SIGNIFICANT] = "any_significant",
		[SUP_AUTO_ALL_SIGNIFICANT] = "all_significant",
	};

	return name_of(names, sizeof names / sizeof names[0], a);
}

void spec_command(const struct spec_image *img, const struct spec_child *c, char *buf, size_t size)
{
	const struct spec_list *exec = &c->worker.exec;
	size_t o = 0;
	uint32_t i;

	buf[0] = '\0';
	if (c->worker.server == SPEC_SERVER_MODULE) {
		const char *module = spec_string(img, c->worker.module);

		text_escape(module, strlen(module), buf, size);
		o = strlen(buf);
		snprintf(buf + o, size - o, " %s", spec_string(img, c->worker.symbol));
	}
	for (i = 0; i < exec->count && o + 2 < size; i++) {
		const char *a = spec_list_str(img, exec, i);

		if (o > 0)
			buf[o++] = ' ';
		text_escape(a, strlen(a), buf + o, size - o);
		o += strlen(buf + o);
	}
}
