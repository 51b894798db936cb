/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The children of a supervisor core: slots, start order, specifications, and what can be seen
 * of them. The only place of the core that allocates, when a child is added.
 */
#include <errno.h>
#include <stdlib.h>

#include "base/apart.h"
#include "otp/sup_private.h"

static bool flags_ok(const struct sup_flags *f)
{
	if (f->max_seconds == 0 || f->strategy > SUP_REST_FOR_ONE || f->auto_shutdown > SUP_AUTO_ALL_SIGNIFICANT)
		return false;
	return !f->dynamic || (f->strategy == SUP_ONE_FOR_ONE && f->auto_shutdown == SUP_AUTO_NEVER);
}

/* OTP's bad_combination. */
static bool spec_ok(const struct sup_flags *f, const struct sup_child_spec *spec)
{
	if (spec->restart > SUP_TEMPORARY || spec->shutdown_ms < SUP_SHUTDOWN_BRUTAL)
		return false;
	return !spec->significant || (spec->restart != SUP_PERMANENT && f->auto_shutdown != SUP_AUTO_NEVER);
}

struct sup *sup_create(const struct sup_flags *flags)
{
	struct sup *s;

	if (!flags_ok(flags)) {
		errno = EINVAL;
		return NULL;
	}
	s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->flags = *flags;
	s->free = s->first = s->last = s->mail_first = s->mail_last = SUP_NONE;
	s->cursor = s->subject = SUP_NONE;
	if (sup_intensity_init(&s->intensity, flags->max_restarts, flags->max_seconds) < 0) {
		free(s);
		return NULL;
	}
	return s;
}

void sup_destroy(struct sup **s)
{
	if (!*s)
		return;
	sup_intensity_fini(&(*s)->intensity);
	apart_free((*s)->child, (*s)->cap * sizeof *(*s)->child);
	free(*s);
	*s = NULL;
}

static int grow(struct sup *s)
{
	uint32_t cap = s->cap == 0 ? 8 : s->cap * 2;
	struct sup_child *c;

	if (s->slots < s->cap)
		return 0;
	if (cap > SUP_CALL_BASE / SUP_ITEMS) {
		errno = EOVERFLOW;
		return -1;
	}
	c = apart_grow(s->child, s->cap * sizeof *c, cap * sizeof *c);
	if (!c)
		return -1;
	s->child = c;
	s->cap = cap;
	return 0;
}

static void link_behind(struct sup *s, uint32_t slot, uint32_t after)
{
	struct sup_child *c = &s->child[slot];

	c->prev = after;
	c->next = after == SUP_NONE ? s->first : s->child[after].next;
	if (c->prev == SUP_NONE)
		s->first = slot;
	else
		s->child[c->prev].next = slot;
	if (c->next == SUP_NONE)
		s->last = slot;
	else
		s->child[c->next].prev = slot;
}

int sup_child_add(struct sup *s, const struct sup_child_spec *spec, uint32_t after, uint32_t *slot_r)
{
	uint32_t slot = s->free;

	if (!spec_ok(&s->flags, spec) || (after != SUP_NONE && !sup_slot_used(s, after))) {
		errno = EINVAL;
		return -1;
	}
	if (s->doing == SUP_DO_EXIT || s->phase == SUP_PH_ENDED) {
		errno = ECANCELED;
		return -1;
	}
	if (s->flags.dynamic && s->flags.max_children != SUP_NO_LIMIT && s->n_specs >= s->flags.max_children) {
		errno = EOVERFLOW;
		return -1;
	}
	if (slot == SUP_NONE) {
		if (grow(s) < 0)
			return -1;
		slot = s->slots++;
	} else {
		s->free = s->child[slot].next;
	}
	s->child[slot] = (struct sup_child){ .spec = *spec, .used = true, .started_ms = -1,
		.pending_add = s->phase != SUP_PH_NEW };
	link_behind(s, slot, after);
	s->n_specs++;
	*slot_r = slot;
	return 0;
}

static void unlink_child(struct sup *s, uint32_t slot)
{
	const struct sup_child *c = &s->child[slot];

	if (c->prev == SUP_NONE)
		s->first = c->next;
	else
		s->child[c->prev].next = c->next;
	if (c->next == SUP_NONE)
		s->last = c->prev;
	else
		s->child[c->next].prev = c->prev;
}

void sup_child_forget(struct sup *s, uint32_t slot)
{
	struct sup_child *c = &s->child[slot];

	sup_mail_forget(s, slot);
	unlink_child(s, slot);
	c->used = false;
	c->next = s->free;
	s->free = slot;
	s->n_specs--;
}

int sup_child_move(struct sup *s, uint32_t slot, uint32_t after)
{
	if (!sup_slot_used(s, slot) || after == slot || (after != SUP_NONE && !sup_slot_used(s, after))) {
		errno = EINVAL;
		return -1;
	}
	if (!sup_idle(s)) {
		errno = EBUSY;
		return -1;
	}
	unlink_child(s, slot);
	link_behind(s, slot, after);
	return 0;
}

int sup_child_update(struct sup *s, uint32_t slot, const struct sup_child_spec *spec)
{
	if (!sup_slot_used(s, slot) || !spec_ok(&s->flags, spec)) {
		errno = EINVAL;
		return -1;
	}
	s->child[slot].spec = *spec;
	return 0;
}

int sup_set_flags(struct sup *s, const struct sup_flags *flags)
{
	if (!flags_ok(flags) || flags->dynamic != s->flags.dynamic) {
		errno = EINVAL;
		return -1;
	}
	if (sup_intensity_change(&s->intensity, flags->max_restarts, flags->max_seconds) < 0)
		return -1;
	s->flags = *flags;
	return 0;
}

bool sup_slot_used(const struct sup *s, uint32_t slot)
{
	return slot < s->slots && s->child[slot].used;
}

enum sup_status sup_child_status(const struct sup *s, uint32_t slot)
{
	return sup_slot_used(s, slot) ? s->child[slot].status : SUP_ST_NEVER;
}

const struct sup_child_spec *sup_child_get(const struct sup *s, uint32_t slot)
{
	return sup_slot_used(s, slot) ? &s->child[slot].spec : NULL;
}

bool sup_child_in_restart(const struct sup *s, uint32_t slot)
{
	const struct sup_child *c;

	if (s->doing != SUP_DO_RESTART || !sup_slot_used(s, slot))
		return false;
	c = &s->child[slot];
	if (slot == s->subject)
		return true;
	return !s->single && c->in_range && c->spec.enabled && c->spec.restart != SUP_TEMPORARY;
}

uint32_t sup_first(const struct sup *s)
{
	return s->first;
}

uint32_t sup_next(const struct sup *s, uint32_t slot)
{
	return sup_slot_used(s, slot) ? s->child[slot].next : SUP_NONE;
}

uint32_t sup_last(const struct sup *s)
{
	return s->last;
}

uint32_t sup_prev(const struct sup *s, uint32_t slot)
{
	return sup_slot_used(s, slot) ? s->child[slot].prev : SUP_NONE;
}

uint32_t sup_slots(const struct sup *s)
{
	return s->slots;
}

void sup_count_children(const struct sup *s, struct sup_counts *counts_r)
{
	struct sup_counts n = { 0 };
	uint32_t i;

	for (i = s->first; i != SUP_NONE; i = s->child[i].next) {
		const struct sup_child *c = &s->child[i];

		n.specs++;
		n.active += c->status >= SUP_ST_STARTING && !c->exit_waiting;
		n.supervisors += c->spec.supervisor;
		n.workers += !c->spec.supervisor;
	}
	*counts_r = n;
}

uint32_t sup_restarts_left(const struct sup *s, int64_t now_ms)
{
	return sup_intensity_left(&s->intensity, now_ms);
}

const struct sup_flags *sup_flags_get(const struct sup *s)
{
	return &s->flags;
}
