/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The worst case of a tree: how many restarts its supervisors can decide on within the top's
 * max_seconds S before the top gives up. Needs no parser; runs where `coppice check` runs.
 *
 * A supervisor with max_restarts m in s seconds does at most m restarts in one window of s + 1
 * whole seconds (both ends count, as in OTP), and k = S / (s + 1) + 1 windows, rounded down, begin
 * in S seconds; each further life of it, after it gave up and was restarted, adds one. In L lives it
 * decides on W = m (k - 1 + L) restarts.
 * How often are its children that are supervisors renewed? Each lives once in each of its lives;
 * with one_for_one each of the W restarts may renew one of them, the worst; with the other strategies all
 * of them. So the total of its subtree is linear in L,
 *
 *     T(L) = a + b L,  with  g = max or sum of the b of those that are restarted,
 *     b = m (1 + g) + sum of all children's b,    a = m (k - 1) (1 + g) + sum of all children's a,
 *
 * and the tree's is T(1). A supervisor without a child that may be restarted decides on none; a
 * temporary one is renewed with its parent's lives only.
 */
#include <stdint.h>

#include "node/config_private.h"

struct line { /* a + b L */
	uint64_t a, b;
};

static uint64_t add(uint64_t x, uint64_t y)
{
	return x > UINT64_MAX - y ? UINT64_MAX : x + y;
}

static uint64_t multiply(uint64_t x, uint64_t y)
{
	return y != 0 && x > UINT64_MAX / y ? UINT64_MAX : x * y;
}

static uint64_t windows(const struct spec_child *sup, uint32_t seconds)
{
	return seconds / ((uint64_t)sup->flags.max_seconds + 1) + 1;
}

static struct line bound(const struct spec_image *img, const struct spec_child *sup, uint32_t seconds)
{
	uint64_t sum_a = 0, sum_b = 0, most = 0, all = 0, per_window, renewed;
	bool restarts = sup->flags.dynamic;
	const struct spec_child *c;

	for (c = spec_first_child(img, sup); c; c = spec_next_child(img, c)) {
		struct line l = { 0, 0 };

		if (c->type != SPEC_WORKER)
			l = bound(img, c, seconds);
		sum_a = add(sum_a, l.a);
		sum_b = add(sum_b, l.b);
		if (c->sup.restart == SUP_TEMPORARY)
			continue;
		restarts = true;
		most = l.b > most ? l.b : most;
		all = add(all, l.b);
	}
	renewed = sup->flags.strategy == SUP_ONE_FOR_ONE ? most : all;
	per_window = restarts ? multiply(sup->flags.max_restarts, add(1, renewed)) : 0;
	return (struct line){
		.a = add(multiply(per_window, windows(sup, seconds) - 1), sum_a),
		.b = add(per_window, sum_b),
	};
}

uint64_t conf_bound(const struct spec_image *img)
{
	const struct spec_child *top = spec_top(img);
	struct line l = bound(img, top, top->flags.max_seconds);

	return add(l.a, l.b);
}
