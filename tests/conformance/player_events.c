/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Lines of the trace. Each process of the node writes its own events, into one pipe, before it goes on; deaths are
 * written by who reaps, before anybody is told of them. So the order in the pipe is one of cause and
 * effect. A line goes into the pipe in one piece. No allocation; any process.
 *
 *	EVENT...      as it stands in the trace
 *	<TEXT         the command's result
 *	+TEXT         a part of one that is too long for a line
 *	!TEXT         the scenario cannot be played
 */
#include "player.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int events_fd = -1;
static int jitter_max_ms;

void events_open(int fd, int jitter_ms)
{
	events_fd = fd;
	jitter_max_ms = jitter_ms;
}

static void write_line(char mark, const char *text, size_t len)
{
	char line[PIPE_LINE_MAX];
	size_t n = 0;
	ssize_t done;

	if (mark != '\0')
		line[n++] = mark;
	if (len > sizeof line - n - 1)
		len = sizeof line - n - 1;
	memcpy(line + n, text, len);
	n += len;
	line[n++] = '\n';
	do
		done = write(events_fd, line, n);
	while (done < 0 && errno == EINTR);
	/* Nobody reads any more: the player is being ended. */
	if (done < 0)
		_exit(2);
}

/* Holds up an event for a random time, to prove that the order of a trace is no luck. */
static void jitter(void)
{
	struct timespec now;

	if (jitter_max_ms == 0)
		return;
	clock_gettime(CLOCK_MONOTONIC, &now);
	cop_sleep((int)(((uint64_t)now.tv_nsec * 2654435761u >> 16) % (uint64_t)(jitter_max_ms + 1)));
}

/* Writes an event without holding it up: for who must not be late. */
__attribute__((format(printf, 1, 2))) static void emit_now(const char *format, ...)
{
	char text[PIPE_LINE_MAX];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	write_line('\0', text, strlen(text));
}

void emit(const char *format, ...)
{
	char text[PIPE_LINE_MAX];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	jitter();
	write_line('\0', text, strlen(text));
	jitter();
}

void emit_result(const char *format, ...)
{
	static char text[FILE_LEN_MAX]; /* names are of the file, and it has at most that */
	const char *rest = text;
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	for (; strlen(rest) > PIPE_LINE_MAX / 2; rest += PIPE_LINE_MAX / 2)
		write_line('+', rest, PIPE_LINE_MAX / 2);
	write_line('<', rest, strlen(rest));
}

void emit_impossible(const char *format, ...)
{
	char text[PIPE_LINE_MAX];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	write_line('!', text, strlen(text));
}

/* --- reasons --- */

/* A crash of a process's own code is cop_exit() with the word `crash` here. What the library itself calls
 * signal:SEGV or exit:1 stays that: nothing in a scenario does it, so it must be seen. */
const char *reason_word(const struct cop_exit *reason, char word[COP_EXIT_FORMAT_MAX])
{
	return cop_exit_format(reason, word, COP_EXIT_FORMAT_MAX);
}

/* OTP says more than a word of a wrong specification, and puts the child's own reason and the child together. The
 * reference makes these words of it. */
const char *start_word(const struct cop_exit *reason, bool as_child, char word[COP_EXIT_FORMAT_MAX])
{
	static const char *const of_specs[] = { "duplicate_child_name", "bad_combination" };
	size_t i;

	reason_word(reason, word);
	for (i = 0; i < sizeof of_specs / sizeof of_specs[0]; i++)
		if (strcmp(word, of_specs[i]) == 0)
			return as_child ? "crash" : "start_spec";
	/* Elixir's raise in the one who starts it. */
	if (strcmp(word, "unknown_registry") == 0 || strcmp(word, "bad_name") == 0)
		return "crash";
	return as_child && strcmp(word, "shutdown") == 0 ? "shutdown:child" : word;
}

/* --- reports --- */

/* A supervisor's label is its name. */
static bool actor_of(const char *label, uint32_t *actor_r)
{
	uint32_t i;

	for (i = 0; label && i < scenario.n_actors; i++)
		if (strcmp(scenario.actors[i], label) == 0) {
			*actor_r = i;
			return true;
		}
	return false;
}

/* What kind of supervisor has that name in the scenario. */
static bool is_registry(uint32_t actor)
{
	size_t i;

	for (i = 0; i < scenario.n_nodes; i++)
		if (scenario.nodes[i]->actor == actor)
			return scenario.nodes[i]->kind == NODE_REGISTRY;
	return false;
}

static void on_init(const struct cop_report *r)
{
	uint32_t actor;

	if (!actor_of(r->label, &actor))
		return;
	if (is_registry(actor)) { /* which is said to begin when it has begun */
		names_enter(actor, ROLE_SUPERVISOR, r->pid, LIFE_SILENT);
		return;
	}
	names_enter(actor, ROLE_SUPERVISOR, r->pid, LIFE_STARTING);
	emit_now("init %s", scenario.actors[actor]);
}

static void on_init_failed(const struct cop_report *r)
{
	char word[COP_EXIT_FORMAT_MAX];
	uint32_t actor;
	enum life life;

	if (!names_find(r->pid, &actor, &life)) {
		/* It was refused before it began. */
		on_init(r);
		if (!names_find(r->pid, &actor, &life))
			return;
	}
	names_set_life(r->pid, LIFE_SILENT);
	if (is_registry(actor))
		return;
	emit_now("init_fail %s %s", scenario.actors[actor], start_word(&r->reason, false, word));
}

static void on_exit_of(const struct cop_report *r)
{
	char word[COP_EXIT_FORMAT_MAX];
	uint32_t actor;
	enum life life;

	if (!names_find(r->pid, &actor, &life) || life == LIFE_SILENT)
		return;
	names_set_life(r->pid, LIFE_SILENT);
	/* Whatever else ends a supervisor, it has started by then, though its parent may not have heard it. */
	if (life == LIFE_STARTING && r->reason.kind == COP_EXIT_KILLED)
		emit_now("init_fail %s killed", scenario.actors[actor]);
	else
		emit_now("down %s %s", scenario.actors[actor], reason_word(&r->reason, word));
}

static void on_progress(const struct cop_report *r)
{
	uint32_t actor;
	enum life life;

	if (names_find(r->child_pid, &actor, &life) && life == LIFE_STARTING)
		names_set_life(r->child_pid, LIFE_UP);
	if (names_find(r->pid, &actor, &life) && life == LIFE_SILENT && is_registry(actor)) {
		names_set_life(r->pid, LIFE_UP);
		emit_now("init %s", scenario.actors[actor]);
	}
}

void events_report(const struct cop_report *r)
{
	switch ((enum cop_report_kind)r->kind) {
	case COP_REPORT_EXIT:
		on_exit_of(r);
		break;
	case COP_REPORT_INIT:
		on_init(r);
		break;
	case COP_REPORT_INIT_FAILED:
		on_init_failed(r);
		break;
	case COP_REPORT_PROGRESS:
		on_progress(r);
		break;
	case COP_REPORT_START_ERROR:
	case COP_REPORT_CHILD_TERMINATED:
	case COP_REPORT_SHUTDOWN_ERROR:
	case COP_REPORT_LIMIT:
		break;
	}
}
