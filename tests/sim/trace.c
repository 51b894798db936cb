/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Writes and compares traces. A trace is plain text because its reader is somebody with a
 * failing seed. Grows by doubling; running out of memory ends the simulator.
 */
#include "trace.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

void trace_init(struct trace *t)
{
	memset(t, 0, sizeof(*t));
}

void trace_fini(struct trace *t)
{
	free(t->text);
	memset(t, 0, sizeof(*t));
}

void trace_reset(struct trace *t)
{
	t->len = 0;
	if (t->text != NULL)
		t->text[0] = '\0';
}

static void reserve(struct trace *t, size_t more)
{
	if (t->len + more < t->size)
		return;
	t->size = 2 * t->size + more + 4096;
	t->text = realloc(t->text, t->size);
	if (t->text == NULL)
		abort();
}

static void append(struct trace *t, const char *fmt, va_list ap)
{
	int n;

	reserve(t, 512);
	n = vsnprintf(t->text + t->len, 512, fmt, ap);
	if (n < 0 || n >= 512)
		abort();
	t->len += (size_t)n;
}

void trace_part(struct trace *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	append(t, fmt, ap);
	va_end(ap);
}

void trace_line(struct trace *t, int64_t now, const char *fmt, ...)
{
	va_list ap;

	trace_part(t, "%7lld ", (long long)now);
	va_start(ap, fmt);
	append(t, fmt, ap);
	va_end(ap);
	trace_part(t, "\n");
}

static const char *op_name(uint8_t op)
{
	static const char *const names[] = { "start", "terminate", "restart", "delete", "cycle" };

	return op < sizeof(names) / sizeof(names[0]) ? names[op] : "?";
}

void trace_event(struct trace *t, int64_t now, const struct world_event *we)
{
	static const char *const results[] = { "ok", "ignore", "failed" };
	const struct sup_event *ev = &we->ev;
	char reason[COP_EXIT_FORMAT_MAX];

	if (we->reload != NULL) {
		trace_line(t, now, "> reload");
		return;
	}
	cop_exit_format(&ev->reason, reason, sizeof(reason));
	switch ((enum sup_event_type)ev->type) {
	case SUP_EV_STARTED:
		trace_line(t, now, "> c%u started %s %s", ev->slot, results[ev->result], reason);
		break;
	case SUP_EV_EXITED:
		trace_line(t, now, "> c%u exited %s", ev->slot, reason);
		break;
	case SUP_EV_CALL:
		trace_line(t, now, "> call %llu %s c%u%s", (unsigned long long)ev->call, op_name(ev->op), ev->slot,
			ev->interrupt ? " interrupt" : "");
		break;
	case SUP_EV_SHUTDOWN:
		trace_line(t, now, "> shutdown %s", reason);
		break;
	case SUP_EV_INIT:
	case SUP_EV_TIMER:
		break;
	}
}

static void trace_reply(struct trace *t, int64_t now, const struct sup_action *act, const char *reason)
{
	static const char *const names[] = { "ok", "ignored", "not_found", "running", "restarting", "failed",
		"shutting_down" };
	bool failed = act->reply == SUP_REPLY_FAILED;

	trace_line(t, now, "reply %llu %s %s", (unsigned long long)act->call, names[act->reply], failed ? reason : "");
}

static void trace_exit(struct trace *t, int64_t now, const struct sup_action *act, const char *reason)
{
	char cause[COP_EXIT_FORMAT_MAX];

	if (act->slot == SUP_NONE)
		trace_line(t, now, "exit %s", reason);
	else
		trace_line(t, now, "exit %s because of c%u %s", reason, act->slot,
			cop_exit_format(&act->cause, cause, sizeof(cause)));
}

void trace_action(struct trace *t, int64_t now, const struct sup_action *act)
{
	char reason[COP_EXIT_FORMAT_MAX];

	cop_exit_format(&act->reason, reason, sizeof(reason));
	switch ((enum sup_action_type)act->type) {
	case SUP_ACT_START:
		trace_line(t, now, "start c%u%s", act->slot, act->restart ? " again" : "");
		break;
	case SUP_ACT_STOP:
		trace_line(t, now, "stop c%u", act->slot);
		break;
	case SUP_ACT_KILL:
		trace_line(t, now, "kill c%u", act->slot);
		break;
	case SUP_ACT_REPLY:
		trace_reply(t, now, act, reason);
		break;
	case SUP_ACT_INITED:
		trace_line(t, now, "inited");
		break;
	case SUP_ACT_LIMIT:
		trace_line(t, now, "limit c%u", act->slot);
		break;
	case SUP_ACT_FORGET:
		trace_line(t, now, "forget c%u", act->slot);
		break;
	case SUP_ACT_EXIT:
		trace_exit(t, now, act, reason);
		break;
	case SUP_ACT_TIMER:
	case SUP_ACT_RESTART:
		break;
	}
}

const char *trace_status(enum sup_status status)
{
	static const char *const names[] = { "never", "ignored", "terminated", "exited", "failed", "retrying", "backoff",
		"starting", "running", "stopping" };

	return names[status];
}

static void print_lines(const char *title, const char *text, size_t same)
{
	size_t end = same;
	int lines;

	for (lines = 0; text[end] != '\0' && lines < 6; end++)
		if (text[end] == '\n')
			lines++;
	printf("--- %s\n%.*s", title, (int)end, text);
	if (text[end] != '\0')
		printf("        ...\n");
}

bool trace_same(const struct trace *core, const struct trace *model, bool quiet)
{
	const char *a = core->text, *b = model->text;
	size_t i = 0, line = 0;

	while (a[i] == b[i] && a[i] != '\0') {
		if (a[i++] == '\n')
			line = i;
	}
	if (a[i] == b[i])
		return true;
	if (quiet)
		return false;
	print_lines("model", b, line);
	print_lines("core", a, line);
	printf("--- first difference\nmodel: %.*s\ncore:  %.*s\n", (int)strcspn(b + line, "\n"), b + line,
		(int)strcspn(a + line, "\n"), a + line);
	return false;
}
