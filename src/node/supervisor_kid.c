/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The children of a supervisor process: a service (an executable) or a nested supervisor each,
 * beside the slot of the core. Turns what they report into events for the core and for control.
 *
 * Regime: kid_add() allocates everything a child will need; nothing later does. A forgotten
 * child is freed when the turn of the loop is over, because its own callback may be the cause.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "node/supervisor_private.h"

int kid_pid_cmp(struct kid *a, struct kid *b)
{
	return (a->pid > b->pid) - (a->pid < b->pid);
}

RB_GENERATE(kids_by_pid, kid, by_pid, kid_pid_cmp)

static void set_pid(struct kid *k, pid_t pid)
{
	if (k->pid != 0)
		RB_REMOVE(kids_by_pid, &k->sv->pids, k);
	k->pid = pid;
	if (pid != 0)
		RB_INSERT(kids_by_pid, &k->sv->pids, k);
}

static void feed(struct kid *k, enum sup_event_type type, enum sup_start_result result, const struct cop_exit *reason)
{
	struct sup_event ev = { .type = (uint8_t)type, .result = (uint8_t)result, .slot = k->slot,
		.now_ms = sv_now(k->sv) };

	if (reason)
		ev.reason = *reason;
	sv_feed(k->sv, &ev);
}

/* --- what happens to the process of a child --- */

static void on_created(void *ctx, pid_t pid)
{
	struct kid *k = ctx;
	struct event e = { .type = EVENT_START, .path = k->path, .pid = pid };

	set_pid(k, pid);
	k->last_pid = pid;
	k->since_ms = sv_now(k->sv);
	sv_event(k->sv, &e);
}

static void on_ready(void *ctx, uint32_t after_ms)
{
	struct kid *k = ctx;
	struct event e = { .type = EVENT_READY, .path = k->path, .pid = k->last_pid, .after_ms = after_ms };

	sv_event(k->sv, &e);
	feed(k, SUP_EV_STARTED, SUP_START_OK, NULL);
}

static void gone(struct kid *k, const struct cop_exit *reason)
{
	set_pid(k, 0);
	k->has_last_exit = true;
	k->last_exit = *reason;
	if (k->sv->deep_slot == k->slot && k->service)
		k->sv->deep_slot = SUP_NONE;
}

static void on_start_failed(void *ctx, const struct cop_exit *reason, pid_t pid)
{
	struct kid *k = ctx;
	struct event e = { .type = EVENT_START_FAILED, .path = k->path, .pid = pid, .reason = *reason };

	gone(k, reason);
	k->parked = PROTO_ST_FAILED;
	if (!k->sv->inited)
		snprintf(k->sv->cause_path, sizeof k->sv->cause_path, "%s", k->path);
	sv_event(k->sv, &e);
	feed(k, SUP_EV_STARTED, SUP_START_FAILED, reason);
}

static void on_ignored(void *ctx, const struct cop_exit *reason, pid_t pid)
{
	struct kid *k = ctx;
	struct event e = { .type = EVENT_START_FAILED, .path = k->path, .pid = pid, .reason = *reason };

	gone(k, reason);
	k->parked = PROTO_ST_STOPPED;
	sv_event(k->sv, &e);
	feed(k, SUP_EV_STARTED, SUP_START_IGNORE, NULL);
}

static void on_exited(void *ctx, const struct cop_exit *reason, pid_t pid, bool asked, uint64_t ran_ms)
{
	struct kid *k = ctx;
	struct event e = { .type = EVENT_EXIT, .path = k->path, .pid = pid, .reason = *reason, .asked = asked,
		.ran_ms = ran_ms };

	gone(k, reason);
	k->parked = asked ? PROTO_ST_STOPPED : PROTO_ST_EXITED;
	sv_event(k->sv, &e);
	feed(k, SUP_EV_EXITED, SUP_START_OK, reason);
}

static void on_stopping(void *ctx, const char *how)
{
	struct kid *k = ctx;
	struct event e = { .type = EVENT_STOP, .path = k->path, .pid = k->last_pid, .how = how };

	sv_event(k->sv, &e);
}

static void on_note(void *ctx, const char *text)
{
	struct kid *k = ctx;

	sv_note(k->sv, "%s: %s", k->path, text);
}

/* ctx is the kid whose group is looked at; who else lives below this supervisor? */
bool kids_living(void *ctx, const char *invocation, pid_t session)
{
	struct kid *self = ctx;
	struct supervisor *sv = self->sv;
	uint32_t i;

	for (i = 0; i < sv->kids_cap; i++) {
		struct kid *k = sv->kids[i];

		if (!k || k == self)
			continue;
		if (k->pid != 0 && k->pid == session)
			return true;
		if (k->service && session != 0 && service_companion(k->service) == session)
			return true;
		/* also between two lives: kill_group = false leaves its processes alone */
		if (k->service && invocation[0] != '\0' && strcmp(service_invocation(k->service), invocation) == 0)
			return true;
	}
	return false;
}

static const struct service_ops service_ops = {
	.created = on_created,
	.ready = on_ready,
	.start_failed = on_start_failed,
	.ignored = on_ignored,
	.exited = on_exited,
	.stopping = on_stopping,
	.note = on_note,
	.living = kids_living,
};

/* --- a nested supervisor --- */

/* The reason of a supervisor's end: what it said, or how it died. */
static struct cop_exit sub_reason(const struct kid *k, const struct plink_msg *final, int wstatus, int fork_errno)
{
	struct cop_exit r;

	if (fork_errno != 0)
		return cop_exit_make_text(COP_EXIT_EXEC, fork_errno, "fork");
	if (final)
		return final->reason;
	if (k->sub->killed)
		return cop_exit_make(COP_EXIT_KILLED, 0);
	r = cop_exit_from_wait(wstatus);
	return cop_exit_is_clean(&r) ? cop_exit_make_text(COP_EXIT_OTHER, 0, "unknown") : r;
}

static void on_sub_ended(void *ctx, pid_t pid, bool was_started, const struct plink_msg *final, int wstatus,
    uint64_t ran_ms, int fork_errno)
{
	struct kid *k = ctx;
	struct cop_exit reason = sub_reason(k, final, wstatus, fork_errno);
	bool stopping = sup_child_status(k->sv->core, k->slot) == SUP_ST_STOPPING;

	k->sv->deep_slot = final ? k->slot : SUP_NONE;
	if (final)
		k->sv->deep = *final;
	if (was_started || stopping)
		on_exited(k, &reason, pid, stopping, ran_ms);
	else
		on_start_failed(k, &reason, pid);
}

static const struct sub_ops sub_ops = {
	.created = on_created,
	.started = on_ready,
	.ended = on_sub_ended,
	.note = on_note,
	.living = kids_living,
};

/* --- orders --- */

void kid_start(struct kid *k)
{
	if (k->service) {
		service_start(k->service);
		return;
	}
	sv_events_out(k->sv);
	sub_start(k->sub);
}

void kid_stop(struct kid *k)
{
	if (k->service) {
		service_stop(k->service);
		return;
	}
	on_stopping(k, "shutdown");
	sv_events_out(k->sv);
	sub_shutdown(k->sub);
}

void kid_kill(struct kid *k)
{
	if (k->service) {
		service_kill(k->service);
		return;
	}
	on_stopping(k, "KILL");
	sv_events_out(k->sv);
	sub_kill(k->sub);
}

static void timer_expired(struct loop_timer *t)
{
	struct kid *k = t->ctx;
	int64_t more = k->service ? service_extension_ms(k->service) : 0;

	if (more > 0) /* EXTEND_TIMEOUT_USEC */
		loop_timer_set(&k->sv->loop, t, t->at_ms + more, timer_expired, k);
	else
		feed(k, SUP_EV_TIMER, SUP_START_OK, NULL);
}

/* The present time was cut to whole milliseconds: one more, and nothing comes too early. */
void kid_set_timer(struct kid *k, int64_t at_ms)
{
	if (at_ms < 0)
		loop_timer_cancel(&k->sv->loop, &k->timer);
	else
		loop_timer_set(&k->sv->loop, &k->timer, at_ms + 1, timer_expired, k);
}

/* A companion is nobody's main process. */
static bool companion_reaped(struct supervisor *sv, pid_t pid, int wstatus, const struct member_death *d)
{
	uint32_t i;

	for (i = 0; i < sv->kids_cap; i++) {
		struct kid *k = sv->kids[i];

		if (k && k->service && service_companion(k->service) == pid) {
			service_companion_reaped(k->service, d, wstatus);
			return true;
		}
	}
	return false;
}

bool kid_reaped(struct supervisor *sv, pid_t pid, int wstatus, const struct member_death *d)
{
	struct kid key = { .pid = pid };
	struct kid *k = RB_FIND(kids_by_pid, &sv->pids, &key);

	if (!k)
		return companion_reaped(sv, pid, wstatus, d);
	set_pid(k, 0); /* the number is free from now on */
	if (k->service)
		service_death(k->service, d);
	return k->service ? service_reaped(k->service, pid, wstatus) : sub_reaped(k->sub, pid, wstatus);
}

void kids_orphan_reaped(struct supervisor *sv)
{
	uint32_t i;

	for (i = 0; i < sv->kids_cap; i++) {
		struct kid *k = sv->kids[i];

		if (k && k->service && service_draining(k->service))
			service_orphan_reaped(k->service);
		else if (k && k->sub)
			sub_orphan_reaped(k->sub);
	}
}

/* --- birth and end --- */

struct kid *kid_find(struct supervisor *sv, const char *id)
{
	uint32_t i;

	for (i = sup_first(sv->core); i != SUP_NONE; i = sup_next(sv->core, i))
		if (strcmp(sv->kids[i]->id, id) == 0)
			return sv->kids[i];
	return NULL;
}

/* The table of children grows ahead of the core's slots. */
static int grow(struct supervisor *sv)
{
	uint32_t i, cap = sv->kids_cap == 0 ? 8 : sv->kids_cap * 2;
	struct kid **t;

	if (sup_slots(sv->core) < sv->kids_cap)
		return 0;
	t = reallocarray(sv->kids, cap, sizeof(struct kid *));
	if (!t)
		return -1;
	for (i = sv->kids_cap; i < cap; i++)
		t[i] = NULL;
	sv->kids = t;
	sv->kids_cap = cap;
	return 0;
}

/* The part that does the work: a service or a nested supervisor. */
static int make_body(struct kid *k)
{
	struct supervisor *sv = k->sv;

	if (k->spec->type == SPEC_WORKER) {
		k->service = service_create(sv->n, &sv->loop, &sv->groups, k->img, k->spec, &service_ops, k);
		return k->service ? 0 : -1;
	}
	k->sub = calloc(1, sizeof *k->sub);
	if (!k->sub)
		return -1;
	sub_init(k->sub, sv->n, &sv->loop, &sv->groups, k->spec, &sub_ops, k);
	return 0;
}

/* What the kid works with may lead into its own image, so that goes last; keep_img: it stays the caller's. */
static void free_kid(struct kid *k, bool keep_img)
{
	loop_timer_cancel(&k->sv->loop, &k->timer);
	if (k->service)
		service_destroy(&k->service);
	if (k->sub)
		sub_fini(k->sub);
	free(k->sub);
	if (k->own_img.h && !keep_img)
		spec_close(&k->own_img);
	free(k);
}

static struct kid *make_kid(struct supervisor *sv, const struct spec_image *img, const struct spec_child *spec,
    struct spec_image *own_img)
{
	struct kid *k = calloc(1, sizeof *k);

	if (!k)
		return NULL;
	k->sv = sv;
	k->dynamic = own_img != NULL;
	k->own_img.fd = -1;
	if (own_img) {
		k->own_img = *own_img;
		img = &k->own_img;
		spec = (const struct spec_child *)(const void *)((const char *)img->h +
		    ((const char *)spec - (const char *)own_img->h));
	}
	k->img = img;
	k->spec = spec;
	snprintf(k->id, sizeof k->id, "%s", spec_string(img, spec->id));
	snprintf(k->path, sizeof k->path, "%s", spec_string(img, spec->path));
	if (make_body(k) == 0)
		return k;
	free_kid(k, true);
	return NULL;
}

struct kid *kid_add(struct supervisor *sv, const struct spec_image *img, const struct spec_child *spec,
    uint32_t after, struct spec_image *own_img)
{
	struct kid *k;

	if ((own_img || sv->inited) && kid_find(sv, spec_string(img, spec->id))) {
		errno = EEXIST;
		return NULL;
	}
	if (grow(sv) < 0)
		return NULL;
	sv->paths_len += SPEC_PATH_MAX;
	if (sv_reserve(sv) < 0) {
		sv->paths_len -= SPEC_PATH_MAX;
		return NULL;
	}
	k = make_kid(sv, img, spec, own_img);
	if (!k || sup_child_add(sv->core, &spec->sup, after, &k->slot) < 0) {
		int err = errno;

		sv->paths_len -= SPEC_PATH_MAX;
		if (k)
			free_kid(k, true);
		errno = err;
		return NULL;
	}
	sv->kids[k->slot] = k;
	return k;
}

static void bury(struct kid *k)
{
	struct supervisor *sv = k->sv;

	sv->paths_len -= SPEC_PATH_MAX;
	loop_timer_cancel(&sv->loop, &k->timer);
	k->dead = true;
	k->next_dead = sv->graveyard;
	sv->graveyard = k;
}

void kid_bury(struct kid *k)
{
	k->sv->kids[k->slot] = NULL;
	bury(k);
}

/* The slot behind which a child of the file belongs: that of its nearest elder sibling that exists. */
uint32_t kid_place(struct supervisor *sv, const struct spec_child *spec)
{
	const struct spec_child *c;
	uint32_t after = SUP_NONE;

	for (c = spec_first_child(&sv->n->img, sv->spec); c && c != spec; c = spec_next_child(&sv->n->img, c)) {
		struct kid *k = kid_find(sv, spec_string(&sv->n->img, c->id));

		if (k && !k->dynamic)
			after = k->slot;
	}
	return after;
}

/* A child of the file is known as long as the file names it, even where OTP forgets its specification: a
 * temporary one that ended, or one that could not be started. It takes its place again as one that no group
 * contains until somebody starts it. */
void kid_forgotten(struct kid *k)
{
	struct supervisor *sv = k->sv;
	struct sup_child_spec spec = k->spec->sup;

	if (k->dynamic || k->removing || sv->spec->type == SPEC_DYNAMIC_SUPERVISOR) {
		kid_bury(k);
		return;
	}
	sv->kids[k->slot] = NULL;
	loop_timer_cancel(&sv->loop, &k->timer);
	if (sup_child_add(sv->core, &spec, kid_place(sv, k->spec), &k->slot) == 0)
		sv->kids[k->slot] = k; /* the slot that was just given up, or another that is free */
	else
		bury(k); /* the supervisor ends */
}

void kid_free_dead(struct supervisor *sv)
{
	while (sv->graveyard) {
		struct kid *k = sv->graveyard;

		sv->graveyard = k->next_dead;
		free_kid(k, false);
	}
}

void kids_fini(struct supervisor *sv)
{
	uint32_t i;

	for (i = 0; i < sv->kids_cap; i++)
		if (sv->kids[i]) {
			free_kid(sv->kids[i], false);
			sv->kids[i] = NULL;
		}
}
