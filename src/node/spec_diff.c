/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What a reload would do: the differences between two images, found by path and hashes. Two
 * walks: the old tree backwards for what is gone (so that it is stopped in reverse start order),
 * then the new tree forwards for what changed or came.
 *
 * Regime: an index of each image by path is allocated for the time of one call; without memory
 * children are looked up one by one, slower and with the same result. Recursion is as deep
 * as the tree, which a path's length bounds.
 */
#include "node/spec.h"

#include <stdlib.h>
#include <string.h>

struct index {
	const struct spec_image *img;
	const struct spec_child **slots; /* NULL: no memory, search */
	size_t mask;
};

struct diff {
	struct index old_ix, new_ix;
	spec_diff_f *f;
	void *ctx;
};

static size_t hash_path(const char *s)
{
	uint64_t h = 14695981039346656037u;

	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 1099511628211u;
	return (size_t)(h ^ h >> 32);
}

static void index_add(struct index *ix, const struct spec_child *c)
{
	size_t i = hash_path(spec_string(ix->img, c->path));

	while (ix->slots[i & ix->mask])
		i++;
	ix->slots[i & ix->mask] = c;
}

static void index_below(struct index *ix, const struct spec_child *sup)
{
	const struct spec_child *c;

	for (c = spec_first_child(ix->img, sup); c; c = spec_next_child(ix->img, c)) {
		index_add(ix, c);
		index_below(ix, c);
	}
}

static void index_init(struct index *ix, const struct spec_image *img)
{
	size_t n = 16;

	while (n < 2 * ((size_t)img->h->n_children + 1))
		n *= 2;
	*ix = (struct index){ .img = img, .mask = n - 1 };
	ix->slots = calloc(n, sizeof(*ix->slots));
	if (ix->slots)
		index_below(ix, spec_top(img));
}

/* The child with c's path, c being of another image. */
static const struct spec_child *counterpart(const struct index *ix, const struct spec_image *img,
    const struct spec_child *c)
{
	const char *path = spec_string(img, c->path);
	size_t i;

	if (!ix->slots)
		return spec_find(ix->img, path);
	for (i = hash_path(path); ix->slots[i & ix->mask]; i++) {
		const struct spec_child *found = ix->slots[i & ix->mask];

		if (strcmp(spec_string(ix->img, found->path), path) == 0)
			return found;
	}
	return NULL;
}

/* Both are supervisors that keep their process, so that their children are compared one by one. */
static bool same_supervisor(const struct spec_child *a, const struct spec_child *b)
{
	return a->type == b->type && a->type != SPEC_WORKER && a->hash_process == b->hash_process;
}

static void removed_below(struct diff *d, const struct spec_child *sup);

static void removed_one(struct diff *d, const struct spec_child *c)
{
	const struct spec_child *now = counterpart(&d->new_ix, d->old_ix.img, c);

	if (!now)
		d->f(d->ctx, SPEC_REMOVED, spec_string(d->old_ix.img, c->path), c, NULL);
	else if (same_supervisor(c, now))
		removed_below(d, c);
}

/* The n siblings from c on, last to first: the back half, then the front half. */
static void removed_range(struct diff *d, const struct spec_child *c, uint32_t n)
{
	const struct spec_child *mid = c;
	uint32_t i;

	if (n == 1) {
		removed_one(d, c);
		return;
	}
	for (i = 0; i < n / 2; i++)
		mid = spec_next_child(d->old_ix.img, mid);
	removed_range(d, mid, n - n / 2);
	removed_range(d, c, n / 2);
}

static void removed_below(struct diff *d, const struct spec_child *sup)
{
	if (sup->n_children > 0)
		removed_range(d, spec_first_child(d->old_ix.img, sup), sup->n_children);
}

static void compare_below(struct diff *d, const struct spec_child *sup);

static void compare(struct diff *d, const struct spec_child *old_c, const struct spec_child *new_c)
{
	if (old_c->type != new_c->type || old_c->hash_process != new_c->hash_process ||
	    old_c->hash_supervision != new_c->hash_supervision)
		d->f(d->ctx, SPEC_CHANGED, spec_string(d->new_ix.img, new_c->path), old_c, new_c);
	if (same_supervisor(old_c, new_c))
		compare_below(d, new_c);
}

static void compare_below(struct diff *d, const struct spec_child *sup)
{
	const struct spec_image *img = d->new_ix.img;
	const struct spec_child *c, *was;

	for (c = spec_first_child(img, sup); c; c = spec_next_child(img, c)) {
		was = counterpart(&d->old_ix, img, c);
		if (was)
			compare(d, was, c);
		else
			d->f(d->ctx, SPEC_ADDED, spec_string(img, c->path), NULL, c);
	}
}

void spec_diff(const struct spec_image *old_img, const struct spec_image *new_img, spec_diff_f *f, void *ctx)
{
	struct diff d = { .f = f, .ctx = ctx };

	index_init(&d.old_ix, old_img);
	index_init(&d.new_ix, new_img);
	removed_below(&d, spec_top(old_img));
	compare(&d, spec_top(old_img), spec_top(new_img));
	free(d.old_ix.slots);
	free(d.new_ix.slots);
}
