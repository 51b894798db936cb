/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The tree: children of supervisors, their ids, paths and instances, and what a supervisor needs
 * to know of each. Children are written to the image in preorder, each linked to the one before
 * it, as spec_check() wants them. Workers are filled in by config_worker.c. Parser process.
 *
 * Errors do not stop the walk; a child whose id is unusable is still looked at, without a name.
 */
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "node/config.h"
#include "node/config_private.h"

/* The children of one supervisor while they are being written. */
struct siblings {
	uint32_t parent;            /* offset of the supervisor */
	const char *path;           /* its path */
	uint32_t first, last, n;
	int auto_shutdown;          /* its own; -1: not known */
};

static void children(struct conf *c, const config_setting_t *list, struct siblings *sib);

/* --- what a supervisor needs to know --- */

static int32_t shutdown_ms(const config_setting_t *g, uint8_t type)
{
	const char *word = conf_get_str(g, "shutdown");

	if (word)
		return strcmp(word, "infinity") == 0 ? SUP_SHUTDOWN_INFINITY : SUP_SHUTDOWN_BRUTAL;
	return (int32_t)conf_get_int(g, "shutdown", type == SPEC_WORKER ? 5000 : SUP_SHUTDOWN_INFINITY);
}

static void check_significant(const struct conf_scope *s, const struct siblings *sib)
{
	const config_setting_t *at = conf_get(s->g, "significant");
	bool known = conf_get(s->g, "restart") || !conf_has(s->g, "restart");

	if (!s->spec.sup.significant)
		return;
	if (known && s->spec.sup.restart == SUP_PERMANENT)
		conf_error(s->c, at, "a permanent child cannot be `significant`; "
		    "set restart = \"transient\" or \"temporary\"");
	if (sib->auto_shutdown == SUP_AUTO_NEVER)
		conf_error(s->c, at, "`significant` has no meaning here; the supervisor needs auto_shutdown = "
		    "\"any_significant\" or \"all_significant\"");
}

static void supervision(struct conf_scope *s, const struct siblings *sib)
{
	struct sup_child_spec *sup = &s->spec.sup;

	sup->supervisor = s->spec.type != SPEC_WORKER;
	sup->restart = (uint8_t)conf_get_choice(s->g, "restart", WHERE_CHILD, SUP_PERMANENT);
	sup->significant = conf_get_bool(s->g, "significant", false);
	sup->enabled = conf_get_bool(s->g, "enabled", true);
	sup->shutdown_ms = shutdown_ms(s->g, s->spec.type);
	check_significant(s, sib);
}

static void supervisor_flags(struct conf_scope *s)
{
	struct sup_flags *f = &s->spec.flags;
	unsigned where = WHERE_TOP | WHERE_SUPERVISOR;

	f->dynamic = s->spec.type == SPEC_DYNAMIC_SUPERVISOR;
	f->strategy = (uint8_t)conf_get_choice(s->g, "strategy", where, SUP_ONE_FOR_ONE);
	f->auto_shutdown = (uint8_t)conf_get_choice(s->g, "auto_shutdown", where, SUP_AUTO_NEVER);
	f->max_restarts = (uint32_t)conf_get_int(s->g, "max_restarts", CONFIG_DEFAULT_RESTARTS);
	f->max_seconds = (uint32_t)conf_get_int(s->g, "max_seconds", CONFIG_DEFAULT_SECONDS);
	f->max_children = (uint32_t)conf_get_int(s->g, "max_children", SUP_NO_LIMIT);
}

/* --- into the image --- */

static uint32_t place(struct conf *c)
{
	return conf_image_reserve(&c->img, sizeof(struct spec_child), alignof(struct spec_child));
}

/* Appends the child at off to its siblings. */
static void append(struct conf *c, struct siblings *sib, uint32_t off)
{
	if (sib->last != 0)
		((struct spec_child *)conf_image_at(&c->img, sib->last))->next = off;
	else
		sib->first = off;
	sib->last = off;
	sib->n++;
}

/* Writes a finished child to its place; its link to the next one is made later. */
static void put(struct conf_scope *s, uint32_t off)
{
	conf_hash(&s->c->img, &s->spec, s->c->listens);
	if (!s->c->img.full)
		memcpy(conf_image_at(&s->c->img, off), &s->spec, sizeof s->spec);
}

static void describe(struct conf_scope *s, uint8_t type)
{
	struct conf_pos pos = conf_pos(s->g);
	struct conf_image *img = &s->c->img;

	s->spec.type = type;
	s->spec.id = conf_image_str(img, s->id);
	s->spec.path = conf_image_str(img, s->path);
	s->spec.file = s->c->file ? conf_image_str(img, s->c->files[pos.file]) : 0;
	s->spec.line = s->c->file ? pos.line : 0;
}

/* The children of the supervisor s at off, from its own group. */
static void own_children(struct conf_scope *s, uint32_t off, struct siblings *sib)
{
	const config_setting_t *list = conf_get(s->g, "children");
	bool known = conf_get(s->g, "auto_shutdown") || !conf_has(s->g, "auto_shutdown");

	*sib = (struct siblings){ .parent = off, .path = s->path,
		.auto_shutdown = known ? s->spec.flags.auto_shutdown : -1 };
	if (list)
		children(s->c, list, sib);
}

static void adopt(struct conf_scope *s, const struct siblings *sib)
{
	s->spec.first = sib->first;
	s->spec.n_children = sib->n;
}

static void one_child(struct conf_scope *s, uint8_t type, struct siblings *sib)
{
	uint32_t off = place(s->c);
	struct siblings below = { 0 };

	append(s->c, sib, off);
	describe(s, type);
	s->spec.parent = sib->parent;
	supervision(s, sib);
	if (type == SPEC_WORKER) {
		conf_worker(s);
	} else {
		supervisor_flags(s);
		own_children(s, off, &below);
		adopt(s, &below);
		s->c->n_supervisors++;
	}
	put(s, off);
}

/* --- names --- */

static const char *child_path(const struct siblings *sib, const char *id)
{
	return strcmp(sib->path, "/") == 0 ? id : conf_printf("%s/%s", sib->path, id);
}

/* Takes a path for the child of group g; false after an error. */
static bool take_path(struct conf *c, const config_setting_t *g, const char *id, const char *path)
{
	const config_setting_t *at = conf_get(g, "id") ? conf_get(g, "id") : g;
	const struct conf_pos *first;

	if (strlen(id) > TEXT_ID_MAX) {
		conf_error(c, at, "the id %s is longer than %d bytes", id, TEXT_ID_MAX);
		return false;
	}
	if (strlen(path) >= SPEC_PATH_MAX) {
		conf_error(c, at, "the path of this child is longer than %d bytes: %s", SPEC_PATH_MAX - 1, path);
		return false;
	}
	first = conf_map_put(c->paths, path, conf_pos(at));
	if (first)
		conf_error(c, at, "duplicate id \"%s\"; the first is in %s", id,
		    conf_place(c, conf_pos(at), *first));
	return !first;
}

/* The id that was written; NULL after an error. */
static const char *written_id(struct conf *c, const config_setting_t *g)
{
	const char *id = conf_get_str(g, "id");

	if (!conf_has(g, "id"))
		conf_error(c, g, "a child needs an `id`");
	else if (id && !text_is_id(id))
		conf_error(c, conf_get(g, "id"), "`id` is \"%s\"; it must be 1 to %d letters, digits and _ . @ -, "
		    "and begin with a letter, a digit or _", id, TEXT_ID_MAX);
	return id && text_is_id(id) ? id : NULL;
}

static bool count_child(struct conf *c, const config_setting_t *g)
{
	if (c->n_children < CONF_CHILDREN_MAX) {
		c->n_children++;
		return true;
	}
	if (!c->too_many)
		conf_error(c, g, "more than %d children", CONF_CHILDREN_MAX);
	c->too_many = true;
	return false;
}

/* --- lists of children --- */

static unsigned where_of(uint8_t type)
{
	return type == SPEC_WORKER ? WHERE_WORKER : type == SPEC_SUPERVISOR ? WHERE_SUPERVISOR : WHERE_DYNAMIC;
}

/* The type of a group; -1 when it is wrong, which the check of its keys then says. */
static int type_of(const config_setting_t *g)
{
	const config_setting_t *s = config_setting_get_member(g, "type");
	const char *const *values = conf_keys_values("type", WHERE_CHILD);
	int i;

	if (!s)
		return SPEC_WORKER;
	for (i = 0; values[i]; i++)
		if (config_setting_get_string(s) && strcmp(values[i], config_setting_get_string(s)) == 0)
			return i;
	return -1;
}

/* A name for a child that has none of its own, so that what is below it is looked at, too. */
static const char *placeholder(const struct conf *c)
{
	return conf_printf("?%u", c->n_children);
}

/* id NULL: it was wrong. */
static void instance(struct conf *c, config_setting_t *g, uint8_t type, const char *id, long number,
    struct siblings *sib)
{
	struct conf_scope s = { .c = c, .g = g, .instance = number };

	if (!count_child(c, g))
		return;
	if (id) {
		s.id = number >= 0 ? conf_printf("%s@%ld", id, number) : id;
		s.path = child_path(sib, s.id);
	}
	if (!id || !take_path(c, g, s.id, s.path))
		s.id = s.path = placeholder(c);
	one_child(&s, type, sib);
}

static void child(struct conf *c, config_setting_t *g, struct siblings *sib)
{
	int type = type_of(g);
	const char *id;
	size_t errors;
	long i, n;

	conf_keys_check(c, g, type < 0 ? WHERE_CHILD : where_of((uint8_t)type));
	id = written_id(c, g);
	if (type < 0)
		return;
	errors = c->n_errors;
	n = type == SPEC_WORKER ? conf_get_int(g, "instances", 0) : 0;
	if (n == 0)
		instance(c, g, (uint8_t)type, id, -1, sib);
	/* What is wrong with one instance is wrong with the next: one is enough. */
	for (i = 0; i < n && c->n_errors == errors; i++)
		instance(c, g, (uint8_t)type, id, i, sib);
}

static void children(struct conf *c, const config_setting_t *list, struct siblings *sib)
{
	int i, n = config_setting_length(list);

	for (i = 0; i < n && !c->too_many; i++) {
		config_setting_t *g = config_setting_get_elem(list, (unsigned)i);

		if (!conf_is_marked(g))
			child(c, g, sib);
	}
}

/* --- the top --- */

/* The lists of the files that were included by pattern. */
static void part_children(struct conf *c, struct siblings *sib)
{
	size_t i;

	for (i = 1; i < c->n_docs; i++) {
		const config_setting_t *list = conf_get(config_root_setting(&c->docs[i]->cfg), "children");

		if (list)
			children(c, list, sib);
	}
}

static void top_begin(struct conf_scope *s, uint32_t *off_r)
{
	*off_r = place(s->c);
	describe(s, SPEC_SUPERVISOR);
	s->spec.sup = (struct sup_child_spec){ .supervisor = true, .enabled = true,
		.shutdown_ms = SUP_SHUTDOWN_INFINITY };
	supervisor_flags(s);
	s->c->n_supervisors++;
}

uint32_t conf_tree(struct conf *c)
{
	const struct conf_doc *doc = c->docs[0];
	config_setting_t *g = conf_get(config_root_setting(&doc->cfg), "supervisor");
	struct conf_scope s = { .c = c, .g = g, .id = "/", .path = "/", .instance = -1 };
	struct siblings sib;
	uint32_t off;

	if (!conf_has(config_root_setting(&doc->cfg), "supervisor"))
		conf_error_pos(c, doc->lines[doc->n_lines - 1], "the section `supervisor: { ... };` is missing");
	if (!g)
		return 0;
	conf_keys_check(c, g, WHERE_TOP);
	top_begin(&s, &off);
	own_children(&s, off, &sib);
	part_children(c, &sib);
	adopt(&s, &sib);
	put(&s, off);
	return off;
}

uint32_t conf_tree_one(struct conf *c, config_setting_t *group, const char *parent_path)
{
	config_setting_t *empty = config_setting_add(config_root_setting(&c->docs[0]->cfg), "top", CONFIG_TYPE_GROUP);
	struct conf_scope s = { .c = c, .g = empty, .id = "/", .path = parent_path[0] ? parent_path : "/",
		.instance = -1 };
	struct siblings sib;
	uint32_t off;

	top_begin(&s, &off);
	own_children(&s, off, &sib);
	child(c, group, &sib);
	adopt(&s, &sib);
	put(&s, off);
	return off;
}
