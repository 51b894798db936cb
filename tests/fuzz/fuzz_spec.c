/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Fuzz target: an image (node/spec.h) of arbitrary bytes. What spec_check() accepts can be
 * walked without another check: every string ends, every child is found again, and the walk
 * comes to its end. The input is copied to memory of its exact size, so that one byte too many is
 * seen.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/diag.h"
#include "node/spec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void walk(const struct spec_image *img, const struct spec_child *parent, size_t *left)
{
	const struct spec_child *c;

	for (c = spec_first_child(img, parent); c != NULL; c = spec_next_child(img, c)) {
		DIAG_ASSERT(*left > 0);
		--*left;
		DIAG_ASSERT(spec_type_name(c->type) != NULL);
		walk(img, c, left);
	}
}

static void nothing(void *ctx, enum spec_change what, const char *path,
    const struct spec_child *old_c, const struct spec_child *new_c)
{
	(void)ctx, (void)what, (void)old_c, (void)new_c;
	DIAG_ASSERT(path != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct spec_image img = { .fd = -1 };
	size_t left = size;
	void *copy = malloc(size ? size : 1);

	if (copy == NULL)
		return 0;
	memcpy(copy, data, size);
	if (spec_check(copy, size) == 0) {
		img.h = copy;
		walk(&img, spec_top(&img), &left);
		spec_diff(&img, &img, nothing, NULL);
	}
	free(copy);
	return 0;
}
