/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Workers: servers that do what messages tell them and write down each callback before anything else in it.
 * A worker's argument is the index of its node in the scenario, which it has in memory.
 */
#include "player.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

struct worker {
	const struct node *node;
	int64_t value;
};

static const char *name_of(const struct worker *w)
{
	return scenario.actors[w->node->actor];
}

_Noreturn void crash(void)
{
	struct cop_exit reason = cop_exit_make_text(COP_EXIT_OTHER, 0, "crash");

	cop_exit(&reason);
}

const char *msg_text(const struct cop_msg *msg, char buf[LINE_LEN_MAX])
{
	size_t len = msg->len < LINE_LEN_MAX ? msg->len : LINE_LEN_MAX - 1;

	if (len > 0)
		memcpy(buf, msg->data, len);
	buf[len] = '\0';
	return buf;
}

/* --- what a message does --- */

/* The text behind a prefix, NULL if it is another. */
static const char *behind(const char *msg, const char *prefix)
{
	size_t len = strlen(prefix);

	return strncmp(msg, prefix, len) == 0 ? msg + len : NULL;
}

static int ms_or_crash(const char *text)
{
	int64_t ms;

	if (!parse_number(text, 0, INT32_MAX, &ms))
		crash();
	return (int)ms;
}

static struct cop_exit reason_or_crash(const char *text)
{
	struct cop_exit reason;

	if (strcmp(text, "crash") == 0 || cop_exit_parse(text, &reason) < 0)
		crash();
	return reason;
}

/* from is NULL unless it is a call. */
static struct cop_next answer(const struct cop_from *from, const char *text)
{
	return from ? cop_reply(text, strlen(text)) : cop_ok();
}

static struct cop_next value_is(const struct worker *w, const struct cop_from *from)
{
	char text[32];

	snprintf(text, sizeof text, "%" PRId64, w->value);
	return answer(from, text);
}

struct late {
	struct cop_from from;
	int ms;
};

static void late_main(void *arg)
{
	const struct late *late = arg;

	cop_set_label(".later");
	cop_sleep(late->ms);
	cop_server_reply(late->from, TAG_RESULT, "late", 4);
}

static struct cop_next later(const struct cop_from *from, int ms)
{
	struct late late;
	cop_pid pid;

	if (from) {
		late = (struct late){ *from, ms };
		if (cop_spawn(late_main, &late, &pid) < 0)
			emit_impossible("unable to spawn: %m");
	}
	return cop_ok();
}

static struct cop_next stop(const struct cop_from *from, const char *reason_text)
{
	struct cop_exit reason = reason_or_crash(reason_text);

	return from ? cop_stop_reply(&reason, "stopping", 8) : cop_stop(&reason);
}

static struct cop_next act(struct worker *w, const char *msg, const struct cop_from *from)
{
	const char *rest;
	int64_t n;

	if (strcmp(msg, "get") == 0)
		return value_is(w, from);
	if (strcmp(msg, "noreply") == 0)
		return cop_ok();
	if (strcmp(msg, "crash") == 0)
		crash();
	if ((rest = behind(msg, "add:")) != NULL) {
		if (!parse_number(rest, INT64_MIN, INT64_MAX, &n) || __builtin_add_overflow(w->value, n, &w->value))
			crash();
		return value_is(w, from);
	}
	if ((rest = behind(msg, "later:")) != NULL)
		return later(from, ms_or_crash(rest));
	if ((rest = behind(msg, "sleep:")) != NULL) {
		cop_sleep(ms_or_crash(rest));
		return answer(from, "slept");
	}
	if ((rest = behind(msg, "continue:")) != NULL)
		return cop_then_continue(answer(from, "ok"), TAG_MSG, rest, strlen(rest));
	if ((rest = behind(msg, "idle:")) != NULL)
		return cop_then_timeout(answer(from, "ok"), ms_or_crash(rest));
	if ((rest = behind(msg, "stop:")) != NULL)
		return stop(from, rest);
	if ((rest = behind(msg, "stop_noreply:")) != NULL)
		return stop(NULL, rest);
	return answer(from, "ok");
}

/* --- callbacks --- */

static struct cop_next worker_start(struct worker *w)
{
	const struct node *node = w->node;

	names_set_life(cop_self(), LIFE_UP);
	emit("init %s", name_of(w));
	cop_sleep(node->slow_init_ms);
	w->value = node->initial;
	if (node->continue_with == NULL)
		return cop_ok();
	return cop_then_continue(cop_ok(), TAG_MSG, node->continue_with, strlen(node->continue_with));
}

static struct cop_next worker_init(void *state, const void *arg, size_t size)
{
	struct worker *w = state;
	const struct command *cause;
	uint32_t index;

	if (size != sizeof index)
		crash();
	memcpy(&index, arg, sizeof index);
	w->node = scenario.nodes[index];
	cop_trap_exit(w->node->trap_exit);
	cop_set_label(name_of(w));
	/* An init that fails or ignores is no start, and its end no `down`. */
	names_enter(w->node->actor, ROLE_WORKER, cop_self(), LIFE_SILENT);
	switch (names_take_fate(w->node->actor, &cause)) {
	case FATE_IGNORE:
		emit("init_ignore %s", name_of(w));
		cop_sleep(w->node->slow_init_ms);
		return cop_ignore();
	case FATE_FAIL:
		emit("init_fail %s %s", name_of(w), cause->reason_text);
		cop_sleep(w->node->slow_init_ms);
		if (strcmp(cause->reason_text, "crash") == 0)
			crash();
		return cop_stop(&cause->reason);
	case FATE_NONE:
		break;
	}
	return worker_start(w);
}

static struct cop_next worker_call(void *state, const struct cop_msg *msg, struct cop_from from)
{
	char text[LINE_LEN_MAX];

	emit("handle_call %s %s", name_of(state), msg_text(msg, text));
	return act(state, text, &from);
}

static struct cop_next worker_cast(void *state, const struct cop_msg *msg)
{
	char text[LINE_LEN_MAX];
	struct cop_exit reason;

	if (msg->tag == TAG_EXIT) {
		if (msg->len != sizeof reason)
			crash();
		memcpy(&reason, msg->data, sizeof reason);
		if (strcmp(reason_word(&reason, text), "crash") == 0)
			crash();
		return cop_stop(&reason);
	}
	emit("handle_cast %s %s", name_of(state), msg_text(msg, text));
	return act(state, text, NULL);
}

static struct cop_next worker_info(void *state, const struct cop_msg *msg)
{
	char text[LINE_LEN_MAX];

	switch ((enum cop_msg_kind)msg->kind) {
	case COP_MSG_EXIT:
		emit("exit_msg %s %s %s", name_of(state), names_of(msg->from), reason_word(&msg->reason, text));
		return cop_ok();
	case COP_MSG_TIMEOUT:
		emit("handle_info %s timeout", name_of(state));
		return cop_ok();
	case COP_MSG_PLAIN:
		emit("handle_info %s %s", name_of(state), msg_text(msg, text));
		return act(state, text, NULL);
	case COP_MSG_CALL:
	case COP_MSG_CAST:
	case COP_MSG_DOWN:
	case COP_MSG_READY:
	case COP_MSG_SIGNAL:
		break;
	}
	/* Nobody has asked for any of these. It must be seen. */
	emit("handle_info %s kind:%u", name_of(state), (unsigned)msg->kind);
	return cop_ok();
}

static struct cop_next worker_continue(void *state, const struct cop_msg *msg)
{
	char text[LINE_LEN_MAX];

	emit("handle_continue %s %s", name_of(state), msg_text(msg, text));
	return act(state, text, NULL);
}

static void worker_terminate(void *state, const struct cop_exit *reason)
{
	const struct worker *w = state;
	char word[COP_EXIT_FORMAT_MAX];

	emit("terminate %s %s", name_of(w), reason_word(reason, word));
	cop_sleep(w->node->slow_terminate_ms);
}

const struct cop_server_ops worker_ops = {
	.name = "worker",
	.state_size = sizeof(struct worker),
	.init = worker_init,
	.handle_call = worker_call,
	.handle_cast = worker_cast,
	.handle_info = worker_info,
	.handle_continue = worker_continue,
	.terminate = worker_terminate,
};
