/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Notes: what an administrator should know about the writing of logs (a full disk, an odd file).
 * Each is a line on standard error and an event; the event pipe belongs to root and the
 * supervisors too, so a full one is tried again, once a second, only while something waits. Runs
 * in the log process.
 *
 * Regime: allocates its queue at start; without it notes go to standard error only.
 */
#include "node/log_private.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/diag.h"

#define QUEUE_BYTES (16 * 1024)

static loop_timer_f retry;

void log_note_init(struct log_proc *p)
{
	p->notes = (struct log_notes){ .proc = p };
	if (event_pipe_init(&p->notes.pipe, p->node->fd[NODE_FD_EVENT_W], QUEUE_BYTES) < 0)
		p->notes.pipe.fd = -1;
}

void log_note_flush(struct log_proc *p)
{
	if (p->notes.pipe.fd < 0 || event_pipe_flush(&p->notes.pipe) || p->notes.retry.armed)
		return;
	loop_timer_set(&p->loop, &p->notes.retry, p->loop.now_ms + LOG_RETRY_MS, retry, p);
}

static void retry(struct loop_timer *t)
{
	log_note_flush(t->ctx);
}

void log_note(struct log_proc *p, const char *path, const char *fmt, ...)
{
	char why[EVENT_TEXT_MAX];
	struct event e = { .type = EVENT_NOTE, .path = path, .why = why };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	diag_warn("%s%s%s", path, path[0] != '\0' ? ": " : "", why);
	if (p->notes.pipe.fd < 0)
		return;
	event_pipe_put(&p->notes.pipe, &e);
	log_note_flush(p);
}
