/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* The vocabulary of sup_play.h: a world in which everything goes well, unless told otherwise. */
#include "sup_play.h"

#include <stdarg.h>

enum { PENDING = 64 };

struct sup *s;
int64_t now = 100000;
char out[8192];
uint32_t slot_of[NAMES];
char name_of[256]; /* of a slot */
static bool held[NAMES];
int fails[NAMES], ignores[NAMES];
int64_t timer[NAMES]; /* -1: none */
static struct sup_event pending[PENDING];
static int n_pending;
static uint64_t next_call;

const struct sup_child_spec permanent = { .restart = SUP_PERMANENT, .enabled = true, .shutdown_ms = 5000 };
const struct sup_child_spec transient = { .restart = SUP_TRANSIENT, .enabled = true, .shutdown_ms = 5000 };
const struct sup_child_spec temporary = { .restart = SUP_TEMPORARY, .enabled = true, .shutdown_ms = 5000 };

static void put(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static void put(const char *fmt, ...)
{
	size_t len = strlen(out);
	va_list ap;

	if (len > 0)
		len += (size_t)snprintf(out + len, sizeof(out) - len, ", ");
	va_start(ap, fmt);
	vsnprintf(out + len, sizeof(out) - len, fmt, ap);
	va_end(ap);
}

const char *standing(void)
{
	static char text[4 * NAMES];
	uint32_t slot;
	size_t n = 0;

	for (slot = sup_first(s); slot != SUP_NONE; slot = sup_next(s, slot)) {
		enum sup_status st = sup_child_status(s, slot);

		text[n++] = name_of[slot];
		text[n++] = st >= SUP_ST_STARTING ? '+' : st == SUP_ST_RETRYING || st == SUP_ST_BACKOFF ? '~' : '-';
	}
	text[n] = '\0';
	return text;
}

uint32_t slot_named(char name)
{
	return slot_of[name - 'a'];
}

struct cop_exit reason_of(const char *text)
{
	struct cop_exit r;

	T_REQUIRE(cop_exit_parse(text, &r) == 0);
	return r;
}

/* --- what the world answers --- */

void soon(struct sup_event ev)
{
	T_REQUIRE(n_pending < PENDING);
	pending[n_pending++] = ev;
}

static void answer_start(char name, uint32_t slot)
{
	struct sup_event ev = { .type = SUP_EV_STARTED, .slot = slot };

	if (held[name - 'a'])
		return;
	if (fails[name - 'a'] > 0) {
		fails[name - 'a']--;
		ev.result = SUP_START_FAILED;
		ev.reason = reason_of("boom");
	} else if (ignores[name - 'a'] > 0) {
		ignores[name - 'a']--;
		ev.result = SUP_START_IGNORE;
	}
	soon(ev);
}

static void answer_stop(char name, uint32_t slot, const char *reason)
{
	int i;

	for (i = 0; i < n_pending; i++)
		if (pending[i].type == SUP_EV_EXITED && pending[i].slot == slot)
			return;
	if (!held[name - 'a'])
		soon((struct sup_event){ .type = SUP_EV_EXITED, .slot = slot, .reason = reason_of(reason) });
}

/* --- what it does --- */

static void put_restart(char cause)
{
	char group[NAMES + 1];
	uint32_t slot;
	size_t n = 0;

	for (slot = sup_first(s); slot != SUP_NONE; slot = sup_next(s, slot))
		if (sup_child_in_restart(s, slot))
			group[n++] = name_of[slot];
	group[n] = '\0';
	put("restart %c:%s", cause, group);
}

static void put_reply(const struct sup_action *act)
{
	static const char *const texts[] = { "ok", "ignored", "not_found", "running", "restarting", "failed",
		"shutting_down" };

	put("reply %d %s", (int)act->call, texts[act->reply]);
}

static void put_exit(const struct sup_action *act, char name)
{
	char text[COP_EXIT_FORMAT_MAX];

	cop_exit_format(&act->reason, text, sizeof(text));
	if (act->slot == SUP_NONE)
		put("exit %s", text);
	else
		put("exit %s by %c", text, name);
}

static void carry_out(const struct sup_action *act)
{
	char name = act->slot == SUP_NONE ? '?' : name_of[act->slot];

	switch ((enum sup_action_type)act->type) {
	case SUP_ACT_START:
		put("start %c", name);
		answer_start(name, act->slot);
		break;
	case SUP_ACT_STOP:
		put("stop %c", name);
		answer_stop(name, act->slot, "shutdown");
		break;
	case SUP_ACT_KILL:
		put("kill %c", name);
		answer_stop(name, act->slot, "killed");
		break;
	case SUP_ACT_TIMER:
		timer[name - 'a'] = act->at_ms < 0 ? -1 : act->at_ms;
		break;
	case SUP_ACT_REPLY:
		put_reply(act);
		break;
	case SUP_ACT_INITED:
		put("inited");
		break;
	case SUP_ACT_RESTART:
		put_restart(name);
		break;
	case SUP_ACT_LIMIT:
		put("limit %c", name);
		break;
	case SUP_ACT_FORGET:
		put("forget %c", name);
		T_REQUIRE(sup_child_get(s, act->slot) == NULL);
		break;
	case SUP_ACT_EXIT:
		put_exit(act, name);
		break;
	}
}

static void step(struct sup_event ev)
{
	struct sup_action act;

	ev.now_ms = now;
	sup_step(s, &ev);
	while (sup_next_action(s, &act))
		carry_out(&act);
}

static void drain(void)
{
	while (n_pending > 0) {
		struct sup_event ev = pending[0];

		memmove(pending, pending + 1, (size_t)--n_pending * sizeof(pending[0]));
		step(ev);
	}
}

void feed(struct sup_event ev)
{
	step(ev);
	drain();
}

/* --- the vocabulary of the cases --- */

void supervisor(enum sup_strategy strategy, uint32_t max_restarts)
{
	const struct sup_flags flags = { .strategy = (uint8_t)strategy, .max_restarts = max_restarts, .max_seconds = 5,
		.max_children = SUP_NO_LIMIT };

	s = sup_create(&flags);
	T_REQUIRE(s != NULL);
	memset(timer, -1, sizeof(timer));
}

void supervisor_auto(enum sup_auto_shutdown auto_shutdown)
{
	const struct sup_flags flags = { .auto_shutdown = (uint8_t)auto_shutdown, .max_restarts = 9, .max_seconds = 5 };

	s = sup_create(&flags);
	T_REQUIRE(s != NULL);
	memset(timer, -1, sizeof(timer));
}

void dynamic(uint32_t max_restarts, uint32_t max_children)
{
	const struct sup_flags flags = { .dynamic = true, .max_restarts = max_restarts, .max_seconds = 5,
		.max_children = max_children };

	s = sup_create(&flags);
	T_REQUIRE(s != NULL);
	memset(timer, -1, sizeof(timer));
}

void add(char name, struct sup_child_spec spec)
{
	uint32_t slot;

	T_REQUIRE(sup_child_add(s, &spec, sup_last(s), &slot) == 0);
	slot_of[name - 'a'] = slot;
	name_of[slot] = name;
}

void add_all(const char *names)
{
	for (; *names; names++)
		add(*names, permanent);
}

void up(void)
{
	feed((struct sup_event){ .type = SUP_EV_INIT });
	out[0] = '\0';
}

void died(char name, const char *reason)
{
	feed((struct sup_event){ .type = SUP_EV_EXITED, .slot = slot_named(name), .reason = reason_of(reason) });
}

void all_died(const char *names)
{
	for (; *names; names++)
		soon((struct sup_event){ .type = SUP_EV_EXITED, .slot = slot_named(*names), .reason = reason_of("signal:KILL") });
	drain();
}

void started(char name, enum sup_start_result result)
{
	feed((struct sup_event){ .type = SUP_EV_STARTED, .slot = slot_named(name), .result = (uint8_t)result,
		.reason = reason_of(result == SUP_START_FAILED ? "boom" : "normal") });
}

void hold(char name)
{
	held[name - 'a'] = true;
}

void release(char name)
{
	held[name - 'a'] = false;
}

void call_with(enum sup_op op, char name, bool interrupt)
{
	feed((struct sup_event){ .type = SUP_EV_CALL, .op = (uint8_t)op, .slot = slot_named(name), .call = ++next_call,
		.interrupt = interrupt });
}

void call(enum sup_op op, char name)
{
	call_with(op, name, false);
}

void start_child(char name, struct sup_child_spec spec)
{
	add(name, spec);
	call(SUP_OP_START, name);
}

void shutdown_order(const char *reason)
{
	feed((struct sup_event){ .type = SUP_EV_SHUTDOWN, .reason = reason_of(reason) });
}

static int next_timer(int64_t until)
{
	int i, best = -1;

	for (i = 0; i < NAMES; i++)
		if (timer[i] >= 0 && timer[i] <= until && (best < 0 || timer[i] < timer[best]))
			best = i;
	return best;
}

void pass(int64_t ms)
{
	int64_t until = now + ms;
	int i;

	while ((i = next_timer(until)) >= 0) {
		now = timer[i];
		timer[i] = -1;
		feed((struct sup_event){ .type = SUP_EV_TIMER, .slot = slot_of[i] });
	}
	now = until;
}

void done(void)
{
	sup_destroy(&s);
	T_REQUIRE(s == NULL);
}

struct sup_child_spec with_shutdown(struct sup_child_spec spec, int32_t ms)
{
	spec.shutdown_ms = ms;
	return spec;
}

struct sup_child_spec significant(struct sup_child_spec spec)
{
	spec.significant = true;
	return spec;
}
