/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Registries and agents: what the script does with them, what a bare process does when it is told to, and who has a
 * name through a registry.
 */
#include "player.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *name(const struct command *c, int i)
{
	return scenario.actors[c->name[i]];
}

/* A value of digits is an integer, any other a word. */
static struct cop_term datum(const char *word)
{
	int64_t n;

	return *word != '+' && parse_number(word, INT64_MIN, INT64_MAX, &n) ? cop_int(n) : cop_text(word);
}

static int64_t number_of(const struct command *c)
{
	int64_t n;

	if (!parse_number(c->value, INT64_MIN, INT64_MAX, &n))
		impossible(c, "%s is no number", c->value);
	return n;
}

/* Something of the library has failed in a way that OTP knows no word for. */
static _Noreturn void failed(const struct command *c)
{
	impossible(c, "unable to do it: %m");
}

/* --- names through a registry --- */

static bool is_of_tree(const struct node *n)
{
	return n->depth > 0;
}

/* The name of a server that was to be started before this command. */
static const struct cop_via *via_of(const struct command *now, uint32_t actor)
{
	const struct command *c;
	size_t i;

	for (c = now; c > scenario.commands; c--) {
		const struct node *n = c[-1].node;

		if (n && n->actor == actor && n->child.via)
			return n->child.via;
		for (i = 0; c[-1].verb == V_START && i < scenario.n_nodes; i++)
			if (is_of_tree(scenario.nodes[i]) && scenario.nodes[i]->actor == actor &&
				scenario.nodes[i]->child.via)
				return scenario.nodes[i]->child.via;
	}
	return NULL;
}

struct cop_dest address_of(const struct command *c, uint32_t actor)
{
	const struct cop_via *via = via_of(c, actor);

	return via ? cop_via(via) : cop_named(scenario.actors[actor]);
}

bool address_is_unknown(const struct command *c, uint32_t actor)
{
	const struct cop_via *via = via_of(c, actor);

	return via && cop_registry_count(via->registry) < 0 && errno == ENOENT;
}

/* --- what a bare process does --- */

static struct cop_term add(void *ctx, struct cop_term old)
{
	int64_t *n = ctx; /* what to add; then the new, and the old value */

	if (old.type != COP_TERM_INT || __builtin_add_overflow(old.number, n[0], &n[1]))
		crash();
	n[2] = old.number;
	return cop_int(n[1]);
}

static const char *do_register(const struct command *c)
{
	static char text[COP_EXIT_FORMAT_MAX + COP_NAME_MAX];
	cop_pid holder;

	if (cop_registry_register(name(c, 0), cop_text(c->msg), datum(c->value), &holder) == 0)
		return "ok";
	if (errno == ENOENT)
		crash();
	if (errno != EEXIST)
		failed(c);
	snprintf(text, sizeof text, "error already_registered %s", names_of(holder));
	return text;
}

static const char *do_update_value(const struct command *c)
{
	static char text[64];
	int64_t n[3] = { number_of(c) };

	if (cop_registry_update_value(name(c, 0), cop_text(c->msg), add, n) < 0) {
		if (errno == ENOENT || errno == EINVAL)
			crash();
		if (errno != EPERM)
			failed(c);
		return "error";
	}
	snprintf(text, sizeof text, "%" PRId64 " %" PRId64, n[1], n[2]);
	return text;
}

const char *registry_obey(const struct command *c)
{
	if (c->verb == V_REGISTER)
		return do_register(c);
	if (c->verb == V_UPDATE_VALUE)
		return do_update_value(c);
	if (cop_registry_unregister(name(c, 0), cop_text(c->msg)) < 0) {
		if (errno == ENOENT)
			crash();
		failed(c);
	}
	return "ok";
}

/* --- what the script asks --- */

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Writes the result: n words, sorted. They are freed. */
static void words_result(char **word, size_t n)
{
	char *all = NULL;
	size_t len, i;
	FILE *f = open_memstream(&all, &len);

	if (f == NULL)
		abort();
	qsort(word, n, sizeof *word, by_text);
	for (i = 0; i < n; i++) {
		fprintf(f, "%s%s", i > 0 ? " " : "", word[i]);
		free(word[i]);
	}
	if (fclose(f) != 0)
		abort();
	emit_result("%s", n > 0 ? all : "none");
	free(all);
	free(word);
}

static char *term_text(struct cop_term t)
{
	char *text = NULL;
	int len = t.type == COP_TERM_INT ? asprintf(&text, "%" PRId64, t.number) :
	    t.type == COP_TERM_BYTES	 ? asprintf(&text, "%.*s", (int)t.len, (const char *)t.data) :
					   asprintf(&text, "nil");

	if (len < 0)
		abort();
	return text;
}

static char *pair_text(const struct cop_entry *e)
{
	char *value = term_text(e->value), *text;

	if (asprintf(&text, "%s:%s", names_of(e->pid), value) < 0)
		abort();
	free(value);
	return text;
}

static void entries_result(const struct command *c, long n, struct cop_entries *entries, bool keys)
{
	char **word;
	long i;

	if (n < 0)
		failed(c);
	word = calloc((size_t)n + 1, sizeof *word);
	if (word == NULL)
		abort();
	for (i = 0; i < n; i++)
		word[i] = keys ? term_text(entries->entry[i].key) : pair_text(&entries->entry[i]);
	words_result(word, (size_t)n);
	cop_entries_done(entries);
}

static void send_to_all(void *ctx, const struct cop_entry *entries, size_t n)
{
	const struct command *c = ctx;
	size_t i;

	for (i = 0; i < n; i++)
		cop_send(cop_to(entries[i].pid), TAG_MSG, c->value, strlen(c->value));
}

static void ask_registry(const struct command *c)
{
	struct cop_term value = c->value ? datum(c->value) : cop_nil();
	struct cop_match match = { .value = &value };
	struct cop_entries e;
	enum role role;
	long n;

	if (c->verb == V_LOOKUP) {
		n = cop_registry_lookup(name(c, 0), cop_text(c->msg), &e);
		entries_result(c, n, &e, false);
	} else if (c->verb == V_MATCH) {
		n = cop_registry_match(name(c, 0), cop_text(c->msg), &match, &e);
		entries_result(c, n, &e, false);
	} else if (c->verb == V_KEYS) {
		n = cop_registry_keys(name(c, 0), names_last(c->name[1], &role), &e);
		entries_result(c, n, &e, true);
	} else if (c->verb == V_SELECT) {
		n = cop_registry_select(name(c, 0), &match, 1, &e);
		entries_result(c, n, &e, true);
	} else if (c->verb == V_COUNT_KEYS) {
		n = cop_registry_count(name(c, 0));
		if (n < 0)
			failed(c);
		emit_result("%ld", n);
	} else {
		if (cop_registry_dispatch(name(c, 0), cop_text(c->msg), send_to_all, (void *)(uintptr_t)c) < 0)
			failed(c);
		emit_result("ok");
	}
}

/* --- agents --- */

enum { AGENT_GET, AGENT_ADD, AGENT_GET_AND_ADD };

struct agent_arg {
	uint32_t actor;
	bool crash;
	int64_t number;
};

static void agent_init(void *state, const void *arg, size_t size)
{
	struct agent_arg a;

	if (size != sizeof a)
		crash();
	memcpy(&a, arg, sizeof a);
	cop_set_label(scenario.actors[a.actor]);
	names_enter(a.actor, ROLE_AGENT, cop_self(), LIFE_UP);
	emit("init %s", scenario.actors[a.actor]);
	memcpy(state, &a.number, sizeof a.number);
}

static void agent_get(const void *state, const void *arg, size_t size, struct cop_agent_answer *answer)
{
	(void)arg;
	(void)size;
	cop_agent_answer(answer, state, sizeof(int64_t));
}

static void agent_add(void *state, const void *arg, size_t size)
{
	struct agent_arg a;
	int64_t *n = state;

	if (size != sizeof a)
		crash();
	memcpy(&a, arg, sizeof a);
	if (a.crash || __builtin_add_overflow(*n, a.number, n))
		crash();
}

static void agent_get_and_add(void *state, const void *arg, size_t size, struct cop_agent_answer *answer)
{
	int64_t before;

	memcpy(&before, state, sizeof before);
	agent_add(state, arg, size);
	cop_agent_answer(answer, &before, sizeof before);
}

static const struct cop_agent_function functions[] = {
	[AGENT_GET] = { .get = agent_get },
	[AGENT_ADD] = { .update = agent_add },
	[AGENT_GET_AND_ADD] = { .get_and_update = agent_get_and_add },
};

static const struct cop_agent_ops agent_ops = { "agent", sizeof(int64_t), agent_init, functions, 3 };

static struct agent_arg agent_arg(const struct command *c)
{
	struct agent_arg a = { .actor = c->name[0] };

	if (c->value && strcmp(c->value, "crash") == 0 && c->verb != V_AGENT)
		a.crash = true;
	else if (c->value)
		a.number = number_of(c);
	return a;
}

static void start_agent(const struct command *c)
{
	struct agent_arg a = agent_arg(c);
	struct cop_server_options options = { .name = name(c, 0), .arg = &a, .arg_size = sizeof a };
	struct cop_started started;
	char word[COP_EXIT_FORMAT_MAX];

	if (cop_agent_start_link(&agent_ops, &options, &started) == COP_STARTED)
		emit_result("ok");
	else
		emit_result("error %s", reason_word(&started.reason, word));
}

/* In a process of its own, which the exit of a call would end. */
static void agent_main(void *arg)
{
	const struct command *c = arg;
	struct agent_arg a = agent_arg(c);
	struct cop_dest agent = cop_named(name(c, 0));
	struct cop_response r;
	char text[32] = "ok";
	int64_t value = 0;
	int done;

	cop_set_label(".agent");
	if (c->verb == V_AGENT_UPDATE)
		done = cop_agent_update(agent, AGENT_ADD, &a, sizeof a, COP_CALL_MS, &r);
	else if (c->verb == V_AGENT_GET)
		done = cop_agent_get(agent, AGENT_GET, NULL, 0, COP_CALL_MS, &r);
	else
		done = cop_agent_get_and_update(agent, AGENT_GET_AND_ADD, &a, sizeof a, COP_CALL_MS, &r);
	if (done < 0) {
		tell_failure(&r.reason);
		return;
	}
	if (c->verb != V_AGENT_UPDATE) {
		if (r.msg.len != sizeof value)
			failed(c);
		memcpy(&value, r.msg.data, sizeof value);
		snprintf(text, sizeof text, "%" PRId64, value);
	}
	cop_response_done(&r);
	tell(text, strlen(text));
}

/* --- the commands --- */

void do_registry(const struct command *c)
{
	struct agent_arg a;

	switch ((int)c->verb) {
	case V_REGISTER:
	case V_UNREGISTER:
	case V_UPDATE_VALUE:
		order_proc(c, 1);
		break;
	case V_AGENT:
		start_agent(c);
		break;
	case V_AGENT_CAST:
		a = agent_arg(c);
		cop_agent_cast(cop_named(name(c, 0)), AGENT_ADD, &a, sizeof a);
		emit_result("ok");
		break;
	case V_AGENT_GET:
	case V_AGENT_UPDATE:
	case V_AGENT_GET_AND_UPDATE:
		spawned(c, agent_main);
		break;
	default:
		ask_registry(c);
		break;
	}
}
