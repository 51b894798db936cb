/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What a supervisor did, as lines of text: what happened (`>`), what it did, and how its
 * children stand (`=`) whenever it has nothing to do. Timers are not in it, only what they lead to.
 */
#ifndef SIM_TRACE_H
#define SIM_TRACE_H

#include "otp/sup_core.h"

struct world_event;

struct trace {
	char *text;
	size_t size, len;
};

void trace_init(struct trace *t);
void trace_fini(struct trace *t);
void trace_reset(struct trace *t);

/* Appends a line that begins with the time. */
void trace_line(struct trace *t, int64_t now, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Appends to the line without ending it: for lines made of parts. */
void trace_part(struct trace *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void trace_event(struct trace *t, int64_t now, const struct world_event *we);
/* Appends an action; its slot is a key. Timers and RESTART (which has a list) are not written. */
void trace_action(struct trace *t, int64_t now, const struct sup_action *act);

const char *trace_status(enum sup_status status);

/* Tells whether two traces are the same; if not, prints both around the first difference. */
bool trace_same(const struct trace *core, const struct trace *model, bool quiet);

#endif
