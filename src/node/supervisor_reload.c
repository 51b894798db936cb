/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A reload as one supervisor sees it: a new image has come; children that are gone from it are
 * removed, changed ones replaced, new ones added, all others only take over what concerns their
 * supervision. It is a list of steps, each a call of the core like an administrator's, so that
 * everything else goes on between them. Children added at run time are not touched, nor is
 * what is below nested supervisors: they get the image themselves.
 *
 * Regime: allocates the list at the beginning of a reload; without memory nothing is changed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fds.h"
#include "node/exec_child.h"
#include "node/supervisor_private.h"

static void next_step(struct supervisor *sv);

static void failed(struct supervisor *sv, const char *path, const char *what)
{
	if (sv->reload.failed[0] == '\0')
		snprintf(sv->reload.failed, sizeof sv->reload.failed, "%.160s: %.80s", path, what);
}

static void add_step(struct supervisor *sv, enum reload_what what, struct kid *k, uint32_t spec)
{
	sv->reload.steps[sv->reload.n++] = (struct reload_step){ .what = (uint8_t)what, .kid = k, .spec = spec };
}

static const struct spec_child *find_child(const struct supervisor *sv, const char *id)
{
	const struct spec_child *c;

	for (c = spec_first_child(&sv->n->img, sv->spec); c; c = spec_next_child(&sv->n->img, c))
		if (strcmp(spec_string(&sv->n->img, c->id), id) == 0)
			return c;
	return NULL;
}

/* What has to happen to a child that stays, beside its new specification. */
static void plan_kept(struct supervisor *sv, struct kid *k, const struct spec_child *new_c)
{
	enum sup_status st = sup_child_status(sv->core, k->slot);
	bool was_enabled = k->spec->sup.enabled;
	bool process_changed = k->spec->hash_process != new_c->hash_process;
	struct sup_child_spec now = new_c->sup;

	now.enabled = now.enabled || (sup_child_get(sv->core, k->slot)->enabled && !was_enabled); /* started by hand */
	k->img = &sv->n->img;
	k->spec = new_c;
	if (k->service)
		service_set_spec(k->service, k->img, new_c);
	else
		k->sub->spec = new_c;
	if (sup_child_update(sv->core, k->slot, &now) < 0)
		failed(sv, k->path, "does not go with its supervisor");
	if (was_enabled && !new_c->sup.enabled)
		add_step(sv, RELOAD_DISABLE, k, 0);
	else if (!was_enabled && new_c->sup.enabled && st < SUP_ST_RETRYING)
		add_step(sv, RELOAD_ENABLE, k, 0);
	else if (process_changed && (st >= SUP_ST_RETRYING || st == SUP_ST_EXITED || st == SUP_ST_FAILED))
		add_step(sv, RELOAD_REPLACE, k, 0);
}

static void plan_present(struct supervisor *sv)
{
	uint32_t i, prev;

	for (i = sup_last(sv->core); i != SUP_NONE; i = prev) { /* as stopping goes: last to first */
		struct kid *k = sv->kids[i];
		const struct spec_child *c = k->dynamic ? NULL : find_child(sv, k->id);

		prev = sup_prev(sv->core, i);
		if (k->dynamic)
			continue;
		if (c && c->type == k->spec->type)
			continue;
		k->img = &sv->reload.old_img; /* until it is gone */
		k->removing = true;
		if (k->service)
			service_set_spec(k->service, k->img, k->spec);
		add_step(sv, RELOAD_REMOVE, k, 0);
	}
	for (i = sup_first(sv->core); i != SUP_NONE; i = sup_next(sv->core, i)) {
		struct kid *k = sv->kids[i];
		const struct spec_child *c = k->dynamic ? NULL : find_child(sv, k->id);

		if (c && c->type == k->spec->type)
			plan_kept(sv, k, c);
	}
}

/* A child that the file named before and that does not exist was removed by an administrator: it stays so, as long
 * as its entry is the same. */
static bool is_news(const struct supervisor *sv, const struct spec_child *c)
{
	const struct spec_child *old =
	    spec_find(&sv->reload.old_img, spec_string(&sv->n->img, c->path));

	return !old || old->type != c->type || old->hash_process != c->hash_process;
}

static void plan_new(struct supervisor *sv)
{
	const char *base = (const char *)sv->n->img.h;
	const struct spec_child *c;

	for (c = spec_first_child(&sv->n->img, sv->spec); c; c = spec_next_child(&sv->n->img, c)) {
		struct kid *k = kid_find(sv, spec_string(&sv->n->img, c->id));

		if (k ? k->dynamic || k->spec != c : is_news(sv, c))
			add_step(sv, RELOAD_ADD, NULL, (uint32_t)((const char *)c - base));
	}
}

static int call(struct supervisor *sv, struct kid *k, enum sup_op op)
{
	struct wanted by = { .by = WANTED_RELOAD };

	memcpy(by.path, k->path, sizeof by.path);
	return steer_call(sv, k, op, op != SUP_OP_START, &by);
}

static int do_add(struct supervisor *sv, struct reload_step *st)
{
	const struct spec_child *c =
	    (const struct spec_child *)(const void *)((const char *)sv->n->img.h + st->spec);
	const char *path = spec_string(&sv->n->img, c->path);

	st->kid = kid_add(sv, &sv->n->img, c, kid_place(sv, c), NULL);
	if (!st->kid) {
		failed(sv, path, errno == EEXIST ? "there is a child of this name already" : strerror(errno));
		return -1;
	}
	if (!c->sup.enabled)
		return call(sv, st->kid, SUP_OP_TERMINATE); /* known, not started */
	return call(sv, st->kid, SUP_OP_START);
}

/* 0: the core will answer; -1: nothing to wait for. */
static int do_step(struct supervisor *sv, struct reload_step *st)
{
	switch ((enum reload_what)st->what) {
	case RELOAD_REMOVE:
	case RELOAD_DISABLE:
		return call(sv, st->kid, SUP_OP_TERMINATE);
	case RELOAD_REPLACE:
		return call(sv, st->kid, SUP_OP_CYCLE);
	case RELOAD_ENABLE:
		return call(sv, st->kid, SUP_OP_RESTART);
	case RELOAD_ADD:
		return do_add(sv, st);
	}
	return -1;
}

static void finish_later(struct loop_timer *t);

/* Takes over the order of the file, which touches no process. Children added at run time stay where they are. */
static int take_order(struct supervisor *sv)
{
	const struct spec_child *c;
	uint32_t after = SUP_NONE;

	if (!sup_idle(sv->core))
		return -1;
	for (c = spec_first_child(&sv->n->img, sv->spec); c; c = spec_next_child(&sv->n->img, c)) {
		struct kid *k = kid_find(sv, spec_string(&sv->n->img, c->id));

		if (!k || k->dynamic)
			continue;
		if (sup_prev(sv->core, k->slot) != after)
			(void)sup_child_move(sv->core, k->slot, after);
		after = k->slot;
	}
	return 0;
}

#define AGAIN_MS 20

/* A child whose removal was refused (the supervisor shuts down) lives on with the old image. */
static bool old_is_used(const struct supervisor *sv)
{
	uint32_t i;

	for (i = 0; i < sv->kids_cap; i++)
		if (sv->kids[i] && sv->kids[i]->img == &sv->reload.old_img)
			return true;
	return false;
}

/* A process that is being launched may still read its arguments there: then the next reload closes it. */
static void close_old(struct supervisor *sv)
{
	if (sv->reload.old_img.h && !old_is_used(sv) && !exec_launch_busy())
		spec_close(&sv->reload.old_img);
}

static void finish(struct supervisor *sv)
{
	struct reload *r = &sv->reload;

	if (take_order(sv) < 0) { /* something else is under way */
		loop_timer_set(&sv->loop, &r->later, sv_now(sv) + AGAIN_MS, finish_later, sv);
		return;
	}
	kid_free_dead(sv);
	close_old(sv);
	free(r->steps);
	r->steps = NULL;
	r->active = false;
	if (r->link_serial == sv->steer_serial)
		steer_done(sv, r->request, r->failed[0] ? 1 : 0, "%s", r->failed);
}

static void finish_later(struct loop_timer *t)
{
	finish(t->ctx);
}

static void step_later(struct loop_timer *t)
{
	next_step(t->ctx);
}

static void next_step(struct supervisor *sv)
{
	struct reload *r = &sv->reload;

	while (r->at < r->n) {
		if (!steer_call_room(sv)) { /* administrators' calls come first */
			loop_timer_set(&sv->loop, &r->later, sv_now(sv) + AGAIN_MS, step_later, sv);
			return;
		}
		if (do_step(sv, &r->steps[r->at]) == 0)
			return;
		r->at++;
	}
	/* not now: we may be inside a callback of a child that is to be freed */
	loop_timer_set(&sv->loop, &r->later, sv_now(sv), finish_later, sv);
}

static void note_failure(struct supervisor *sv, const struct reload_step *st, const struct sup_action *a)
{
	char text[COP_EXIT_FORMAT_MAX + 32], reason[COP_EXIT_FORMAT_MAX];

	if (a->reply == SUP_REPLY_FAILED) {
		snprintf(text, sizeof text, "start failed: %s", cop_exit_format(&a->reason, reason, sizeof reason));
		failed(sv, st->kid->path, text);
	} else if (a->reply == SUP_REPLY_SHUTTING_DOWN) {
		failed(sv, st->kid->path, "its supervisor is shutting down");
	}
}

void reload_replied(struct supervisor *sv, const struct sup_action *a)
{
	struct reload *r = &sv->reload;
	struct reload_step *st;
	struct kid *k;

	if (!r->active || r->at >= r->n)
		return;
	st = &r->steps[r->at];
	k = a->slot < sv->kids_cap ? sv->kids[a->slot] : NULL;
	if (st->what == RELOAD_REMOVE && k && k == st->kid && a->reply != SUP_REPLY_SHUTTING_DOWN &&
	    !(st->deleting && a->reply == SUP_REPLY_OK)) {
		/* stopped: delete it; started again by its group before that: from the beginning */
		st->deleting = !st->deleting && a->reply == SUP_REPLY_OK && call(sv, k, SUP_OP_DELETE) == 0;
		if (!st->deleting)
			loop_timer_set(&sv->loop, &r->later, sv_now(sv), step_later, sv);
		return;
	}
	if (k && k == st->kid)
		note_failure(sv, st, a);
	r->at++;
	/* not now: what the core has still to say of this child must be heard before another takes its slot */
	loop_timer_set(&sv->loop, &r->later, sv_now(sv), step_later, sv);
}

/* Sockets come as descriptors in the order of the new image. */
static void take_sockets(struct supervisor *sv, int *fds, size_t n)
{
	size_t i;

	for (i = 0; i < NODE_SOCKETS_MAX; i++) {
		fds_close(&sv->n->sockets[i]);
		if (i < n) {
			sv->n->sockets[i] = fds[i];
			fds[i] = -1;
		}
	}
}

static const struct spec_child *own_spec(struct supervisor *sv, const struct spec_image *img)
{
	const struct spec_child *c = spec_find(img, sv->path);

	return c && c->type == sv->spec->type ? c : NULL;
}

void reload_begin(struct supervisor *sv, uint32_t request, int *fds, size_t n_fds)
{
	struct reload *r = &sv->reload;
	const struct spec_child *mine;
	struct spec_image img;
	size_t steps;

	if (!r->active)
		close_old(sv);
	if (r->active || r->old_img.h || n_fds == 0 || spec_open(&img, fds[0]) < 0) {
		steer_done(sv, request, 1, "%s",
		    r->active || r->old_img.h ? "a reload is under way" : "the new configuration could not be read");
		return;
	}
	fds[0] = -1;
	mine = own_spec(sv, &img);
	steps = mine ? (size_t)mine->n_children + sup_slots(sv->core) + 1 : 0;
	if (!mine || img.h->generation <= sv->n->img.h->generation || n_fds != img.h->n_sockets + 1 ||
	    !(r->steps = calloc(steps * 2, sizeof *r->steps))) {
		steer_done(sv, request, mine ? 1 : 0, "%s", mine ? "the new configuration does not fit" : "");
		spec_close(&img);
		return;
	}
	r->active = true;
	r->request = request;
	r->link_serial = sv->steer_serial;
	r->n = r->at = 0;
	r->failed[0] = '\0';
	r->old_img = sv->n->img;
	sv->n->img = img;
	take_sockets(sv, fds + 1, n_fds - 1);
	sv->spec = own_spec(sv, &sv->n->img);
	if (sup_set_flags(sv->core, &sv->spec->flags) < 0)
		failed(sv, sv->path, strerror(errno));
	plan_present(sv);
	plan_new(sv);
	next_step(sv);
}
