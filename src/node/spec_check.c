/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Tells whether a block of memory is an image that can be read without looking twice: every
 * offset in bounds and aligned, every string ended, every enumeration in range, the tree a tree,
 * its counts true. It decides in time proportional to the size, whatever the bytes are:
 *
 *  - the last byte must be NUL, so that each string inside the block has an end;
 *  - children must lie in the order of the tree, parents first and siblings in order, one
 *    behind the other, so that no walk can come back to where it was;
 *  - all lists together must not be longer than the block, so that sharing cannot multiply work.
 *
 * The values need not make sense to a supervisor (sup_core.h checks its own), they only must be
 * what their types say. Never allocates, reads nothing outside, does not recurse.
 */
#include "node/spec.h"

#include <errno.h>
#include <stdalign.h>
#include <string.h>

#include <coppice/process.h>
#include "base/text.h"
#include "node/node.h"

struct check {
	const char *base;
	size_t size;
	size_t list_budget;   /* list elements that may still come */
	size_t behind;        /* the next child may not begin before this offset */
	uint32_t n_children, n_supervisors;
};

/* n objects of this size and alignment lie inside, behind the header. */
static bool span_ok(const struct check *k, uint32_t off, size_t size, size_t align, size_t n)
{
	return off >= sizeof(struct spec_header) && off % align == 0 && off <= k->size &&
	    n <= (k->size - off) / size;
}

static const char *str(const struct check *k, spec_str s)
{
	return k->base + s;
}

static bool str_ok(const struct check *k, spec_str s)
{
	return s >= sizeof(struct spec_header) && s < k->size;
}

static bool str_or_none_ok(const struct check *k, spec_str s)
{
	return s == 0 || str_ok(k, s);
}

/* A string of at most max bytes with its NUL. */
static bool short_str_ok(const struct check *k, spec_str s, size_t max)
{
	return str_ok(k, s) && memchr(str(k, s), '\0', k->size - s < max ? k->size - s : max);
}

static bool id_ok(const struct check *k, spec_str s)
{
	return short_str_ok(k, s, TEXT_ID_MAX + 1) && text_is_id(str(k, s));
}

/* bool and 0/1 bytes: any other value in a bool would be undefined behaviour to read. */
static bool flag_ok(const void *p)
{
	unsigned char v;

	memcpy(&v, p, 1);
	return v <= 1;
}

static bool list_ok(struct check *k, const struct spec_list *l)
{
	if (l->count == 0)
		return l->off == 0 || span_ok(k, l->off, 1, 4, 0);
	if (!span_ok(k, l->off, sizeof(uint32_t), alignof(uint32_t), l->count) ||
	    l->count > k->list_budget)
		return false;
	k->list_budget -= l->count;
	return true;
}

static const uint32_t *list_items(const struct check *k, const struct spec_list *l)
{
	return (const void *)(k->base + l->off);
}

static bool str_list_ok(struct check *k, const struct spec_list *l)
{
	uint32_t i;

	if (!list_ok(k, l))
		return false;
	for (i = 0; i < l->count; i++)
		if (!str_ok(k, list_items(k, l)[i]))
			return false;
	return true;
}

static bool num_list_ok(struct check *k, const struct spec_list *l, uint32_t below)
{
	uint32_t i;

	if (!list_ok(k, l))
		return false;
	for (i = 0; i < l->count; i++)
		if (list_items(k, l)[i] >= below)
			return false;
	return true;
}

/* --- sockets --- */

static bool socket_ok(const struct check *k, const struct spec_socket *s)
{
	return str_ok(k, s->key) && str_ok(k, s->name) && short_str_ok(k, s->addr, 108) &&
	    (s->kind == 't' || s->kind == 'u' || s->kind == 'x') && s->mode <= 0777 &&
	    s->port <= 65535;
}

static bool sockets_ok(const struct check *k, const struct spec_header *h)
{
	const struct spec_socket *v = (const void *)(k->base + h->sockets);
	uint32_t i;

	if (h->n_sockets == 0)
		return true;
	if (h->n_sockets > NODE_SOCKETS_MAX ||
	    !span_ok(k, h->sockets, sizeof *v, alignof(struct spec_socket), h->n_sockets))
		return false;
	for (i = 0; i < h->n_sockets; i++)
		if (!socket_ok(k, v + i))
			return false;
	return true;
}

/* --- one child --- */

static bool identity_ok(struct check *k, const struct spec_worker *w)
{
	return w->umask <= 0777 && num_list_ok(k, &w->groups, SPEC_UNSET_ID) &&
	    flag_ok(&w->set_groups) && flag_ok(&w->env_clear) && flag_ok(&w->kill_group) &&
	    (w->nice == SPEC_NICE_UNSET || (w->nice >= -20 && w->nice <= 19)) &&
	    str_or_none_ok(k, w->user_name) && str_or_none_ok(k, w->user_home) &&
	    str_or_none_ok(k, w->user_shell);
}

static bool readiness_ok(const struct check *k, const struct spec_worker *w)
{
	bool text = w->ready == SPEC_READY_UNIX || w->ready == SPEC_READY_FILE ||
	    w->ready == SPEC_READY_LOG;

	return w->ready <= SPEC_READY_INIT &&
	    (text ? str_ok(k, w->ready_str) : str_or_none_ok(k, w->ready_str)) &&
	    (w->ready != SPEC_READY_FD || (w->ready_arg >= 3 && w->ready_arg <= 255)) &&
	    (w->ready != SPEC_READY_TCP || (w->ready_arg >= 1 && w->ready_arg <= 65535));
}

static bool server_ok(const struct check *k, const struct spec_worker *w)
{
	bool module = w->server == SPEC_SERVER_MODULE;

	return w->server <= SPEC_SERVER_JSON && (w->exec.count == 0) == module && (w->module != 0) == module &&
	    (w->symbol != 0) == module && (w->ready == SPEC_READY_INIT) == module &&
	    str_or_none_ok(k, w->module) && str_or_none_ok(k, w->symbol) && str_or_none_ok(k, w->args) &&
	    (w->name == 0 || short_str_ok(k, w->name, COP_NAME_MAX));
}

static bool worker_ok(struct check *k, const struct spec_header *h, const struct spec_worker *w)
{
	return server_ok(k, w) && str_list_ok(k, &w->exec) && str_list_ok(k, &w->env) &&
	    str_or_none_ok(k, w->dir) && identity_ok(k, w) && readiness_ok(k, w) &&
	    w->log <= SPEC_LOG_NULL && flag_ok(&w->log_timestamps) &&
	    str_or_none_ok(k, w->log_dir) && w->stop_signal >= 1 && w->stop_signal <= 64 &&
	    num_list_ok(k, &w->sockets, h->n_sockets) && w->sockets.count <= NODE_SOCKETS_MAX &&
	    flag_ok(&w->kill_orphans_softly) && flag_ok(&w->foreground);
}

static bool flags_ok(const struct spec_child *c)
{
	return flag_ok(&c->flags.dynamic) && c->flags.strategy <= SUP_REST_FOR_ONE &&
	    c->flags.auto_shutdown <= SUP_AUTO_ALL_SIGNIFICANT && c->flags.max_seconds > 0 &&
	    c->flags.dynamic == (c->type == SPEC_DYNAMIC_SUPERVISOR);
}

static bool supervision_ok(const struct spec_child *c)
{
	return flag_ok(&c->sup.supervisor) && flag_ok(&c->sup.significant) &&
	    flag_ok(&c->sup.enabled) && c->sup.restart <= SUP_TEMPORARY &&
	    c->sup.shutdown_ms >= SUP_SHUTDOWN_BRUTAL &&
	    c->sup.supervisor == (c->type != SPEC_WORKER);
}

/* A child's path is its parent's, a slash, its id; without the slash below "/". */
static bool path_ok(const struct check *k, const struct spec_child *c, const struct spec_child *parent)
{
	const char *path, *up;
	size_t len;

	if (!short_str_ok(k, c->path, SPEC_PATH_MAX) || !id_ok(k, c->id))
		return false;
	path = str(k, c->path);
	up = str(k, parent->path);
	len = strlen(up);
	if (strcmp(up, "/") != 0) {
		if (strncmp(path, up, len) != 0 || path[len] != '/')
			return false;
		path += len + 1;
	}
	return strcmp(path, str(k, c->id)) == 0;
}

/* Checks all of a child but its links. */
static bool child_ok(struct check *k, const struct spec_header *h, const struct spec_child *c)
{
	if (c->type > SPEC_DYNAMIC_SUPERVISOR || !str_or_none_ok(k, c->file) || !supervision_ok(c))
		return false;
	if (c->type == SPEC_WORKER)
		return worker_ok(k, h, &c->worker) && c->first == 0 && c->n_children == 0;
	return flags_ok(c) && (c->type == SPEC_SUPERVISOR || c->first == 0) &&
	    (c->first == 0) == (c->n_children == 0);
}

/* --- the tree --- */

/* The child at off, if it lies behind all that was checked so far. */
static const struct spec_child *child_at(struct check *k, uint32_t off)
{
	if (off < k->behind || !span_ok(k, off, sizeof(struct spec_child), alignof(struct spec_child), 1))
		return NULL;
	k->behind = off + sizeof(struct spec_child);
	return (const void *)(k->base + off);
}

/* Checks the child at off, which must be below the parent at up. */
static const struct spec_child *enter(struct check *k, uint32_t off, uint32_t up)
{
	const struct spec_child *c = child_at(k, off);
	const struct spec_header *h = (const void *)k->base;

	if (!c || c->parent != up || !path_ok(k, c, (const void *)(k->base + up)) ||
	    !child_ok(k, h, c))
		return NULL;
	k->n_children++;
	k->n_supervisors += c->type != SPEC_WORKER;
	return c;
}

/* Walks the tree in preorder along links that were checked on the way in. */
static bool tree_ok(struct check *k, const struct spec_child *top, uint32_t up)
{
	const struct spec_child *c = top;
	uint32_t off = top->first;

	for (;;) {
		while (off == 0) { /* no more below: go on beside */
			if (c == top)
				return true;
			off = c->next;
			up = c->parent;
			if (off == 0)
				c = (const void *)(k->base + up);
		}
		c = enter(k, off, up);
		if (!c)
			return false;
		up = off;
		off = c->first;
	}
}

/* The second pass, over a sound tree: each supervisor's own count. */
static bool counts_ok(const struct check *k, const struct spec_child *sup)
{
	uint32_t off = sup->first, n = 0;

	for (; off != 0; n++) {
		const struct spec_child *c = (const void *)(k->base + off);

		off = c->next;
	}
	return n == sup->n_children;
}

static bool all_counts_ok(const struct check *k, const struct spec_child *top)
{
	const struct spec_child *c = top;

	for (;;) {
		if (c->type != SPEC_WORKER && !counts_ok(k, c))
			return false;
		if (c->first != 0) {
			c = (const void *)(k->base + c->first);
			continue;
		}
		while (c != top && c->next == 0)
			c = (const void *)(k->base + c->parent);
		if (c == top)
			return true;
		c = (const void *)(k->base + c->next);
	}
}

static bool top_ok(struct check *k, const struct spec_header *h)
{
	const struct spec_child *top = child_at(k, h->top);

	return top && top->type == SPEC_SUPERVISOR && top->parent == 0 && top->next == 0 &&
	    str_ok(k, top->id) && short_str_ok(k, top->path, SPEC_PATH_MAX) &&
	    child_ok(k, h, top) && tree_ok(k, top, h->top) && all_counts_ok(k, top);
}

static bool header_ok(const struct check *k, const struct spec_header *h)
{
	return h->magic == SPEC_MAGIC && h->size == k->size && k->base[k->size - 1] == '\0' &&
	    short_str_ok(k, h->node, SPEC_NODE_MAX) && text_is_id(str(k, h->node)) &&
	    str_or_none_ok(k, h->file);
}

int spec_check(const void *base, size_t size)
{
	struct check k = { .base = base, .size = size, .list_budget = size / sizeof(uint32_t),
		.n_supervisors = 1 };
	const struct spec_header *h = base;

	if (size > sizeof *h && size <= UINT32_MAX &&
	    (uintptr_t)base % alignof(struct spec_child) == 0 && header_ok(&k, h) && sockets_ok(&k, h) &&
	    top_ok(&k, h) && h->n_children == k.n_children && h->n_supervisors == k.n_supervisors)
		return 0;
	errno = EBADMSG;
	return -1;
}
