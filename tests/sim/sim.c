/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The simulator: plays random histories to the supervisor core and to the model, each in a
 * world of its own, and compares what they did. A difference is printed with its seed, which
 * plays it again:
 *
 *     sim [--seed S] [--histories N] [--verbose]
 *
 * Without options: 40,000 histories from seed 1. Exit status 0, 1 (a difference, a broken
 * contract, or an interesting situation that hardly ever came up), or 2 (usage).
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

enum { HISTORIES = 40000, SITUATION_MIN = 50, EVENTS_MAX = 20000 };

/* The owner of a core: turns its actions into the world's events. */
struct owner {
	struct sup *s;
	struct world w;
	struct trace *t;
	uint32_t slot[HISTORY_KEYS]; /* of a key; SUP_NONE */
	uint32_t key[4 * HISTORY_KEYS]; /* of a slot */
	bool ended;
	const char *broken; /* what is wrong with the core, besides its decisions */
};

static void broken(struct owner *o, const char *what)
{
	if (o->broken == NULL)
		o->broken = what;
}

static uint32_t key_of(const struct owner *o, uint32_t slot)
{
	return slot == SUP_NONE ? SUP_NONE : o->key[slot];
}

/* --- looking at the core --- */

static uint32_t steps_back(const struct sup *s)
{
	uint32_t slot, n = 0;

	for (slot = sup_last(s); slot != SUP_NONE; slot = sup_prev(s, slot))
		n++;
	return n;
}

static void look(struct owner *o)
{
	struct sup_counts n;
	uint32_t slot, listed = 0;

	trace_part(o->t, "        =");
	for (slot = sup_first(o->s); slot != SUP_NONE; slot = sup_next(o->s, slot)) {
		trace_part(o->t, " c%u=%s", o->key[slot], trace_status(sup_child_status(o->s, slot)));
		listed++;
	}
	sup_count_children(o->s, &n);
	trace_part(o->t, " specs=%u active=%u supervisors=%u workers=%u left=%u\n", n.specs, n.active, n.supervisors,
		n.workers, sup_restarts_left(o->s, o->w.now));
	if (listed != steps_back(o->s) || listed != n.specs)
		broken(o, "its list is not the same forwards, backwards and counted");
}

static void report_restart(struct owner *o, uint32_t cause)
{
	uint32_t slot;

	trace_part(o->t, "%7lld restart c%u:", (long long)o->w.now, o->key[cause]);
	for (slot = sup_first(o->s); slot != SUP_NONE; slot = sup_next(o->s, slot))
		if (sup_child_in_restart(o->s, slot))
			trace_part(o->t, " c%u", o->key[slot]);
	trace_part(o->t, "\n");
}

/* --- carrying out actions --- */

static void carry_out(struct owner *o, const struct sup_action *act)
{
	uint32_t key = key_of(o, act->slot);

	switch ((enum sup_action_type)act->type) {
	case SUP_ACT_START:
		world_start(&o->w, key);
		break;
	case SUP_ACT_STOP:
		world_stop(&o->w, key);
		break;
	case SUP_ACT_KILL:
		world_kill(&o->w, key);
		break;
	case SUP_ACT_TIMER:
		world_timer(&o->w, key, act->at_ms);
		break;
	case SUP_ACT_RESTART:
		report_restart(o, act->slot);
		break;
	case SUP_ACT_FORGET:
		o->slot[key] = SUP_NONE;
		break;
	case SUP_ACT_EXIT:
		o->ended = true;
		break;
	case SUP_ACT_REPLY:
	case SUP_ACT_INITED:
	case SUP_ACT_LIMIT:
		break;
	}
}

static void take_actions(struct owner *o)
{
	struct sup_action act;

	while (sup_next_action(o->s, &act)) {
		struct sup_action named = act;

		if (o->ended)
			broken(o, "it acts after its end");
		named.slot = key_of(o, act.slot);
		trace_action(o->t, o->w.now, &named);
		carry_out(o, &act);
	}
}

static void step(struct owner *o, const struct sup_event *ev)
{
	sup_step(o->s, ev);
	take_actions(o);
	if (sup_ended(o->s) != o->ended)
		broken(o, "sup_ended() and SUP_ACT_EXIT disagree");
	if (!o->ended && sup_idle(o->s))
		look(o);
}

/* --- feeding events --- */

/* Adds a child. Returns 0, or why not. */
static int add_child(struct owner *o, uint32_t key)
{
	uint32_t slot;

	if (sup_child_add(o->s, &o->w.history->spec[key], sup_last(o->s), &slot) != 0)
		return errno;
	o->slot[key] = slot;
	o->key[slot] = key;
	return 0;
}

/* Adds the child of a START call. Returns false if that answers the call. */
static bool accept_child(struct owner *o, const struct sup_event *ev)
{
	int error = add_child(o, ev->slot);

	if (error == 0)
		return true;
	if (error != EOVERFLOW && error != ECANCELED)
		broken(o, "sup_child_add() failed");
	trace_line(o->t, o->w.now, "reply %llu %s", (unsigned long long)ev->call,
		error == EOVERFLOW ? "max_children" : "shutting_down ");
	return false;
}

static void reload(struct owner *o, const struct item *it)
{
	if (it->type == ITEM_FLAGS) {
		if (sup_set_flags(o->s, &it->flags) != 0)
			broken(o, "sup_set_flags() failed");
	} else if (o->slot[it->key] != SUP_NONE && sup_child_update(o->s, o->slot[it->key], &it->spec) != 0) {
		broken(o, "sup_child_update() failed");
	}
}

static void feed(struct owner *o, const struct world_event *we)
{
	struct sup_event ev = we->ev;

	if (we->reload != NULL) {
		reload(o, we->reload);
		return;
	}
	if (ev.type == SUP_EV_CALL && ev.op == SUP_OP_START && !accept_child(o, &ev))
		return;
	if (ev.slot != SUP_NONE)
		ev.slot = o->slot[ev.slot];
	step(o, &ev);
}

static void owner_run(struct owner *o, const struct history *h, struct trace *t)
{
	struct sup_event init = { .type = SUP_EV_INIT, .slot = SUP_NONE };
	struct world_event we;
	uint32_t i;

	memset(o, 0, sizeof(*o));
	o->t = t;
	world_init(&o->w, h, t);
	for (i = 0; i < HISTORY_KEYS; i++)
		o->slot[i] = SUP_NONE;
	o->s = sup_create(&h->flags);
	if (o->s == NULL) {
		broken(o, "sup_create() failed");
		return;
	}
	for (i = 0; i < h->children; i++)
		if (add_child(o, i) != 0)
			broken(o, "a first child was refused");
	init.now_ms = o->w.now;
	step(o, &init);
	for (i = 0; !o->ended && i < EVENTS_MAX && world_next(&o->w, &we); i++)
		feed(o, &we);
	sup_destroy(&o->s);
}

/* What went wrong besides the order of things, or NULL. */
static const char *complaint(const struct owner *o)
{
	if (o->broken != NULL)
		return o->broken;
	if (o->w.violation != NULL)
		return o->w.violation;
	if (!o->ended)
		return "it never ended";
	return o->w.live > 0 ? "it left processes behind" : NULL;
}

/* --- histories --- */

struct sim {
	struct trace core, model;
	uint64_t histories, lines;
	uint64_t met[MODEL_SITUATION_COUNT];
	bool verbose;
};

static void count_situations(struct sim *sim, const bool *met)
{
	uint32_t i;

	for (i = 0; i < MODEL_SITUATION_COUNT; i++)
		sim->met[i] += met[i];
}

/* Plays one history to both. Returns false, having said why, if they differ. */
static bool play(struct sim *sim, uint64_t seed)
{
	bool met[MODEL_SITUATION_COUNT] = { false };
	struct history h;
	struct owner o;
	bool model_ok, same;

	history_draw(&h, seed);
	trace_reset(&sim->core);
	trace_reset(&sim->model);
	model_ok = model_run(&h, &sim->model, met);
	owner_run(&o, &h, &sim->core);
	count_situations(sim, met);
	sim->histories++;
	if (sim->verbose)
		printf("--- seed %llu\n%s", (unsigned long long)seed, sim->core.text);
	same = trace_same(&sim->core, &sim->model, false);
	if (same && model_ok && complaint(&o) == NULL)
		return true;
	if (complaint(&o) != NULL)
		printf("the core: %s\n", complaint(&o));
	if (!model_ok)
		printf("the model did not end properly\n");
	printf("strategy %u auto_shutdown %u dynamic %u max_restarts %u max_seconds %u; %u children\n", h.flags.strategy,
		h.flags.auto_shutdown, h.flags.dynamic, h.flags.max_restarts, h.flags.max_seconds, h.children);
	printf("FAILED: sim --seed %llu\n", (unsigned long long)seed);
	return false;
}

/* Prints how many histories met each situation. Returns false if one was too rare. */
static bool report(const struct sim *sim)
{
	static const char *const names[] = {
#define X(name) #name,
		MODEL_SITUATIONS(X)
#undef X
	};
	bool enough = true;
	uint32_t i;

	for (i = 0; i < MODEL_SITUATION_COUNT; i++) {
		bool rare = sim->histories >= HISTORIES && sim->met[i] < SITUATION_MIN;

		printf("%-32s %8llu%s\n", names[i], (unsigned long long)sim->met[i], rare ? "  TOO FEW" : "");
		enough = enough && !rare;
	}
	printf("%llu histories, no difference\n", (unsigned long long)sim->histories);
	return enough;
}

static int usage(void)
{
	fprintf(stderr, "usage: sim [--seed S] [--histories N] [--verbose]\n");
	return 2;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "seed", required_argument, NULL, 's' },
		{ "histories", required_argument, NULL, 'n' }, { "verbose", no_argument, NULL, 'v' },
		{ NULL, 0, NULL, 0 } };
	struct sim sim = { .verbose = false };
	uint64_t seed = 1, n = 0, i;
	bool one = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 's':
			seed = strtoull(optarg, NULL, 0);
			one = true;
			break;
		case 'n':
			n = strtoull(optarg, NULL, 0);
			break;
		case 'v':
			sim.verbose = true;
			break;
		default:
			return usage();
		}
	}
	if (optind != argc)
		return usage();
	if (n == 0)
		n = one ? 1 : HISTORIES;
	for (i = 0; i < n; i++)
		if (!play(&sim, seed + i))
			return 1;
	c = report(&sim) ? 0 : 1;
	trace_fini(&sim.core);
	trace_fini(&sim.model);
	return c;
}
