/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Building an image (spec.h): offsets into one growing block, strings stored once, the block
 * written to a memfd and sealed. Parser process. The 32-bit offsets and the bound of spec_open()
 * are kept here: past the bound nothing is written any more and `full` tells so at the end.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "base/fds.h"
#include "node/config_private.h"

#define IMAGE_MAX ((size_t)256 << 20)

/* Makes room for size bytes behind the end; false when the image would get too big. */
static bool room(struct conf_image *img, size_t size)
{
	if (size > IMAGE_MAX - img->len) {
		img->full = true;
		return false;
	}
	if (img->len + size > img->cap) {
		img->cap = (img->len + size) * 2;
		img->buf = conf_realloc(img->buf, img->cap);
	}
	return true;
}

void conf_image_init(struct conf_image *img)
{
	*img = (struct conf_image){ .n_slots = 1024 };
	img->strings = conf_alloc(img->n_slots * sizeof(*img->strings));
	conf_image_reserve(img, sizeof(struct spec_header), alignof(struct spec_header));
}

uint32_t conf_image_reserve(struct conf_image *img, size_t size, size_t align)
{
	size_t pad = (align - img->len % align) % align;
	uint32_t off;

	if (!room(img, pad + size))
		return 0; /* the image is lost, its first bytes may be overwritten */
	memset(img->buf + img->len, 0, pad + size);
	off = (uint32_t)(img->len + pad);
	img->len += pad + size;
	return off;
}

void *conf_image_at(struct conf_image *img, uint32_t off)
{
	return img->buf + off;
}

/* --- strings --- */

static size_t hash(const char *s)
{
	uint64_t h = 14695981039346656037u;

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 1099511628211u;
	return (size_t)(h ^ h >> 31);
}

static uint32_t *slot(const struct conf_image *img, const char *s)
{
	size_t i = hash(s);
	uint32_t *p;

	for (;; i++) {
		p = &img->strings[i & (img->n_slots - 1)];
		if (*p == 0 || strcmp(img->buf + *p, s) == 0)
			return p;
	}
}

static void grow_strings(struct conf_image *img)
{
	uint32_t *old = img->strings;
	size_t i, n = img->n_slots;

	img->n_slots = n * 2;
	img->strings = conf_alloc(img->n_slots * sizeof(*img->strings));
	for (i = 0; i < n; i++)
		if (old[i] != 0)
			*slot(img, img->buf + old[i]) = old[i];
	conf_free(old);
}

spec_str conf_image_str(struct conf_image *img, const char *s)
{
	size_t len;
	uint32_t *p;

	if (!s)
		return 0;
	p = slot(img, s);
	if (*p != 0)
		return *p;
	len = strlen(s) + 1;
	if (!room(img, len))
		return 0;
	*p = (uint32_t)img->len;
	memcpy(img->buf + img->len, s, len);
	img->len += len;
	if (++img->n_strings * 2 > img->n_slots)
		grow_strings(img);
	return (uint32_t)(img->len - len);
}

struct spec_list conf_image_list(struct conf_image *img, const struct conf_vec *v)
{
	struct spec_list l = { 0, 0 };

	if (v->n == 0)
		return l;
	l.off = conf_image_reserve(img, v->n * sizeof(uint32_t), alignof(uint32_t));
	if (img->full)
		return (struct spec_list){ 0, 0 };
	l.count = (uint32_t)v->n;
	memcpy(img->buf + l.off, v->v, v->n * sizeof(uint32_t));
	return l;
}

/* --- the end --- */

int conf_image_write(struct conf_image *img, int memfd)
{
	struct spec_header *h;

	/* The last byte is NUL whatever stands last, so that every string has an end. */
	conf_image_reserve(img, 1, 1);
	if (img->full) {
		errno = EFBIG;
		return -1;
	}
	h = conf_image_at(img, 0);
	h->magic = SPEC_MAGIC;
	h->size = (uint32_t)img->len;
	if (fds_write_all(memfd, img->buf, img->len) < 0)
		return -1;
	return fcntl(memfd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
}
