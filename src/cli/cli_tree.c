/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * From status records to a tree (cli_tree.h). A hash table of paths finds parents, one sort puts
 * siblings into their order; a record whose parent did not come (its supervisor did not answer) is
 * left out, except the one that was asked for. Runs in the command's process.
 */
#include "cli/cli_tree.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli_call.h"
#include "cli/cli_out.h"

/* --- taking --- */

static void take_child(struct tree *t, struct wire_in *body)
{
	if (t->n == t->cap) {
		t->cap = t->cap > 0 ? t->cap * 2 : 64;
		t->child = cli_grow(t->child, t->cap, sizeof *t->child);
	}
	proto_get_child(body, &t->child[t->n].c);
	t->child[t->n].parent = t->child[t->n].first = t->child[t->n].next = TREE_NONE;
	t->n++;
}

static void take_death(struct tree *t, struct wire_in *body)
{
	if (t->n_deaths == t->cap_deaths) {
		t->cap_deaths = t->cap_deaths > 0 ? t->cap_deaths * 2 : 8;
		t->death = cli_grow(t->death, t->cap_deaths, sizeof *t->death);
	}
	proto_get_death(body, &t->death[t->n_deaths++]);
}

void tree_frame(void *tree, int kind, struct wire_in *body)
{
	struct tree *t = tree;

	if (kind == PROTO_R_NODE) {
		proto_get_node(body, &t->node);
		t->has_node = true;
	} else if (kind == PROTO_R_CHILD) {
		take_child(t, body);
	} else if (kind == PROTO_R_DEATH) {
		take_death(t, body);
	}
}

/* --- finding parents --- */

struct table {
	size_t *slot; /* index of a record + 1; 0: free */
	size_t mask;
};

/* FNV-1a, 64 bits. */
static uint64_t hash(const char *s, size_t len)
{
	uint64_t h = 0xcbf29ce484222325u;

	while (len-- > 0)
		h = (h ^ (unsigned char)*s++) * 0x100000001b3u;
	return h;
}

/* The slot that holds this path, or the free one where it belongs. */
static size_t *table_at(const struct table *tab, const struct tree *t, const char *path, size_t len)
{
	uint64_t h = hash(path, len);
	size_t i;

	for (i = h & tab->mask; tab->slot[i] != 0; i = (i + 1) & tab->mask) {
		const char *p = t->child[tab->slot[i] - 1].c.path;

		if (strncmp(p, path, len) == 0 && p[len] == '\0')
			break;
	}
	return &tab->slot[i];
}

static void table_init(struct table *tab, const struct tree *t)
{
	size_t size = 16, i, *slot;

	while (size < t->n * 2)
		size *= 2;
	tab->slot = cli_alloc(size * sizeof *tab->slot);
	tab->mask = size - 1;
	for (i = 0; i < t->n; i++) {
		slot = table_at(tab, t, t->child[i].c.path, strlen(t->child[i].c.path));
		if (*slot == 0) /* of two records with one path the first counts */
			*slot = i + 1;
	}
}

static bool is_top(const char *path)
{
	return path[0] == '\0' || strcmp(path, "/") == 0;
}

static size_t find(const struct table *tab, const struct tree *t, const char *path, size_t len)
{
	size_t slot = *table_at(tab, t, path, len);

	return slot != 0 ? slot - 1 : TREE_NONE;
}

static size_t find_parent(const struct table *tab, const struct tree *t, size_t i)
{
	const char *path = t->child[i].c.path, *slash = strrchr(path, '/');

	if (is_top(path) || find(tab, t, path, strlen(path)) != i)
		return TREE_NONE;
	return slash ? find(tab, t, path, (size_t)(slash - path)) : find(tab, t, "/", 1);
}

/* --- order --- */

/* What siblings are sorted by. */
struct place {
	size_t parent, index;
	uint32_t order;
};

static int by_place(const void *a, const void *b)
{
	const struct place *x = a, *y = b;

	if (x->parent != y->parent)
		return x->parent < y->parent ? -1 : 1;
	if (x->order != y->order)
		return x->order < y->order ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

static void link_siblings(struct tree *t)
{
	struct place *p = cli_alloc((t->n + 1) * sizeof *p);
	size_t i;

	for (i = 0; i < t->n; i++)
		p[i] = (struct place){ t->child[i].parent, i, t->child[i].c.order };
	qsort(p, t->n, sizeof *p, by_place);
	/* from the last to the first: each becomes the head of its parent's list */
	for (i = t->n; i-- > 0 && t->n > 0;) {
		if (p[i].parent == TREE_NONE)
			continue;
		t->child[p[i].index].next = t->child[p[i].parent].first;
		t->child[p[i].parent].first = p[i].index;
	}
	free(p);
}

void tree_link(struct tree *t, const char *path)
{
	struct table tab;
	size_t i;

	table_init(&tab, t);
	t->top = is_top(path) ? find(&tab, t, "/", 1) : find(&tab, t, path, strlen(path));
	for (i = 0; i < t->n; i++)
		t->child[i].parent = i == t->top ? TREE_NONE : find_parent(&tab, t, i);
	free(tab.slot);
	link_siblings(t);
}

size_t tree_next(const struct tree *t, size_t i, unsigned *depth)
{
	if (t->child[i].first != TREE_NONE) {
		++*depth;
		return t->child[i].first;
	}
	while (i != t->top && t->child[i].next == TREE_NONE) {
		i = t->child[i].parent;
		--*depth;
	}
	return i == t->top ? TREE_NONE : t->child[i].next;
}

const char *tree_strategy(const struct proto_child *c)
{
	return c->type == SPEC_DYNAMIC_SUPERVISOR ? "dynamic" : spec_strategy_name(c->strategy);
}

const char *tree_id(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] != '\0' ? slash + 1 : path;
}

/* --- asking --- */

int tree_get(struct tree *t, const struct cli_args *a, const char *path)
{
	struct call c = {
		.args = a,
		.deadline_ms = call_deadline(a, CALL_QUERY_MS),
		.verb = PROTO_STATUS,
		.repeatable = true,
		.put = call_put_str,
		.put_ctx = path,
		.frame = tree_frame,
		.frame_ctx = t,
	};
	int status;

	*t = (struct tree){ .top = TREE_NONE };
	status = call_run_or_say(&c);
	if (status != 0)
		return status;
	tree_link(t, path);
	if (t->top == TREE_NONE || (is_top(path) && !t->has_node))
		return call_say_errno(a, EBADMSG);
	return 0;
}

void tree_fini(struct tree *t)
{
	free(t->child);
	free(t->death);
	t->child = NULL;
	t->death = NULL;
}
