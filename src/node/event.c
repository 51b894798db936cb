/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * One event as bytes, as JSON and as a line for people. Hides the encoding: fixed fields first,
 * then the four texts, then the three lists, so that the long part of a record is at its end.
 * Used by root and supervisors (encoding), by control (decoding) and by the command (both).
 *
 * Regime: never allocates; decoding copies into the caller's memory and treats the message as
 * hostile, because a client may be given bytes by a program that only says it is a node.
 */
#include "node/event.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/text.h"
#include "node/proto.h"
#include "node/spec.h"

static const char *const event_names[] = {
	[EVENT_START] = "start",
	[EVENT_READY] = "ready",
	[EVENT_START_FAILED] = "start_failed",
	[EVENT_EXIT] = "exit",
	[EVENT_RESTART] = "restart",
	[EVENT_LIMIT] = "limit",
	[EVENT_STOP] = "stop",
	[EVENT_RELOAD] = "reload",
	[EVENT_SHUTDOWN] = "shutdown",
	[EVENT_LOST] = "lost",
	[EVENT_NOTE] = "note",
};

const char *event_name(uint8_t type)
{
	if (type >= sizeof(event_names) / sizeof(event_names[0]))
		return NULL;
	return event_names[type];
}

/* --- bytes --- */

/* A text that no reader would take whole is cut. */
static void put_text(struct wire_out *w, const char *s)
{
	wire_put_bytes(w, s, s != NULL ? strnlen(s, EVENT_TEXT_MAX - 1) : 0);
}

void event_put(struct wire_out *w, const struct event *e)
{
	wire_put_u8(w, e->type);
	wire_put_u8(w, e->asked);
	wire_put_u8(w, e->strategy);
	wire_put_i64(w, e->time_us);
	wire_put_i32(w, e->pid);
	wire_put_u32(w, e->after_ms);
	wire_put_u64(w, e->ran_ms);
	wire_put_u32(w, e->restarts_left);
	wire_put_u32(w, e->max_restarts);
	wire_put_u32(w, e->max_seconds);
	wire_put_u32(w, e->count);
	proto_put_exit(w, &e->reason);
	put_text(w, e->path);
	put_text(w, e->how);
	put_text(w, e->why);
	put_text(w, e->cause);
	wire_put_bytes(w, e->list, e->list_len);
	wire_put_bytes(w, e->changed, e->changed_len);
	wire_put_bytes(w, e->removed, e->removed_len);
}

/* The caller's memory, handed out from front to back. */
struct scratch {
	char *at;
	size_t left;
};

/* Copies n bytes and a NUL. */
static char *scratch_copy(struct scratch *s, struct wire_in *w, const void *p, size_t n)
{
	char *copy = s->at;

	if (n >= s->left) {
		w->bad = true;
		return NULL;
	}
	if (n > 0)
		memcpy(copy, p, n);
	copy[n] = '\0';
	s->at += n + 1;
	s->left -= n + 1;
	return copy;
}

static const char *get_text(struct wire_in *w, struct scratch *s)
{
	const void *p;
	size_t n = wire_get_bytes(w, &p);
	const char *copy;

	if (n >= EVENT_TEXT_MAX || (n > 0 && memchr(p, '\0', n) != NULL))
		w->bad = true;
	if (w->bad)
		return "";
	copy = scratch_copy(s, w, p, n);
	return copy != NULL ? copy : "";
}

/* A list is empty, or ends with the NUL of its last string. */
static const char *get_list(struct wire_in *w, struct scratch *s, size_t *len_r)
{
	const void *p;
	size_t n = wire_get_bytes(w, &p);
	const char *copy;

	*len_r = 0;
	if (n > 0 && ((const char *)p)[n - 1] != '\0')
		w->bad = true;
	if (w->bad)
		return "";
	copy = scratch_copy(s, w, p, n);
	if (copy == NULL)
		return "";
	*len_r = n;
	return copy;
}

int event_get(const void *buf, size_t len, struct event *e, char *scratch, size_t scratch_size)
{
	struct scratch s = { scratch, scratch_size };
	struct wire_in w;

	wire_in_init(&w, buf, len);
	memset(e, 0, sizeof(*e));
	e->type = wire_get_u8(&w);
	e->asked = wire_get_u8(&w);
	e->strategy = wire_get_u8(&w);
	e->time_us = wire_get_i64(&w);
	e->pid = wire_get_i32(&w);
	e->after_ms = wire_get_u32(&w);
	e->ran_ms = wire_get_u64(&w);
	e->restarts_left = wire_get_u32(&w);
	e->max_restarts = wire_get_u32(&w);
	e->max_seconds = wire_get_u32(&w);
	e->count = wire_get_u32(&w);
	proto_get_exit(&w, &e->reason);
	e->path = get_text(&w, &s);
	e->how = get_text(&w, &s);
	e->why = get_text(&w, &s);
	e->cause = get_text(&w, &s);
	e->list = get_list(&w, &s, &e->list_len);
	e->changed = get_list(&w, &s, &e->changed_len);
	e->removed = get_list(&w, &s, &e->removed_len);
	if (!wire_done(&w) || event_name(e->type) == NULL) {
		errno = EBADMSG;
		return -1;
	}
	return 0;
}

/* --- text --- */

static const char *or_empty(const char *s)
{
	return s != NULL ? s : "";
}

static void json_str(FILE *f, const char *key, const char *s)
{
	fprintf(f, ",\"%s\":", key);
	text_json(f, or_empty(s), strlen(or_empty(s)));
}

static void json_list(FILE *f, const char *key, const char *list, size_t len)
{
	size_t at = 0;

	fprintf(f, ",\"%s\":[", key);
	while (at < len) {
		size_t n = strnlen(list + at, len - at);

		if (at > 0)
			putc(',', f);
		text_json(f, list + at, n);
		at += n + 1;
	}
	putc(']', f);
}

static void json_pid(FILE *f, const struct event *e)
{
	if (e->pid > 0)
		fprintf(f, ",\"pid\":%ld", (long)e->pid);
}

static void json_reason(FILE *f, const struct event *e)
{
	char reason[COP_EXIT_FORMAT_MAX];

	json_str(f, "reason", cop_exit_format(&e->reason, reason, sizeof(reason)));
	if (e->reason.kind == COP_EXIT_EXEC && e->reason.text[0] != '\0')
		json_str(f, "step", e->reason.text);
}

static void json_fields(FILE *f, const struct event *e)
{
	switch ((enum event_type)e->type) {
	case EVENT_START:
		json_pid(f, e);
		break;
	case EVENT_READY:
		json_pid(f, e);
		fprintf(f, ",\"after_ms\":%lu", (unsigned long)e->after_ms);
		break;
	case EVENT_START_FAILED:
		json_pid(f, e);
		json_reason(f, e);
		break;
	case EVENT_EXIT:
		json_pid(f, e);
		json_reason(f, e);
		fprintf(f, ",\"asked\":%s,\"ran_ms\":%llu", e->asked ? "true" : "false",
		    (unsigned long long)e->ran_ms);
		break;
	case EVENT_RESTART:
		json_list(f, "children", e->list, e->list_len);
		json_str(f, "strategy", spec_strategy_name(e->strategy));
		fprintf(f, ",\"restarts_left\":%lu", (unsigned long)e->restarts_left);
		json_str(f, "cause", e->cause);
		break;
	case EVENT_LIMIT:
		fprintf(f, ",\"max_restarts\":%lu,\"max_seconds\":%lu",
		    (unsigned long)e->max_restarts, (unsigned long)e->max_seconds);
		json_str(f, "cause", e->cause);
		break;
	case EVENT_STOP:
		json_pid(f, e);
		json_str(f, "how", e->how);
		break;
	case EVENT_RELOAD:
		json_list(f, "added", e->list, e->list_len);
		json_list(f, "changed", e->changed, e->changed_len);
		json_list(f, "removed", e->removed, e->removed_len);
		break;
	case EVENT_SHUTDOWN:
		json_str(f, "why", e->why);
		break;
	case EVENT_LOST:
		fprintf(f, ",\"count\":%lu", (unsigned long)e->count);
		break;
	case EVENT_NOTE:
		json_str(f, "text", e->why);
		break;
	}
}

void event_json(FILE *f, uint64_t seq, const struct event *e)
{
	char iso[CLOCK_ISO_SIZE];
	const char *name = event_name(e->type);

	fprintf(f, "{\"seq\":%llu,\"time\":\"%s\",\"event\":\"%s\"", (unsigned long long)seq,
	    clock_iso(e->time_us, iso), name != NULL ? name : "?");
	if (or_empty(e->path)[0] != '\0')
		json_str(f, "path", e->path);
	json_fields(f, e);
	putc('}', f);
}

/* Hours to milliseconds, in the reader's time zone. */
static void text_time(FILE *f, int64_t time_us)
{
	time_t sec = (time_t)(time_us / 1000000);
	struct tm tm;

	if (time_us < 0 || localtime_r(&sec, &tm) == NULL) {
		fputs("??:??:??.???", f);
		return;
	}
	fprintf(f, "%02d:%02d:%02d.%03d", tm.tm_hour, tm.tm_min, tm.tm_sec,
	    (int)(time_us / 1000 % 1000));
}

static void text_word(FILE *f, const char *before, const char *s)
{
	char safe[4 * EVENT_TEXT_MAX];

	if (or_empty(s)[0] != '\0')
		fprintf(f, " %s%s", before, text_escape(s, strlen(s), safe, sizeof(safe)));
}

static void text_list(FILE *f, const char *before, const char *list, size_t len)
{
	size_t at = 0;

	if (len > 0)
		fprintf(f, " %s", before);
	while (at < len) {
		text_word(f, "", list + at);
		at += strnlen(list + at, len - at) + 1;
	}
}

static void text_reason(FILE *f, const struct event *e)
{
	char reason[COP_EXIT_FORMAT_MAX];

	text_word(f, "", cop_exit_format(&e->reason, reason, sizeof(reason)));
	if (e->reason.kind == COP_EXIT_EXEC)
		text_word(f, "step ", e->reason.text);
}

static void text_pid(FILE *f, const struct event *e)
{
	if (e->pid > 0)
		fprintf(f, " pid %ld", (long)e->pid);
}

static void text_fields(FILE *f, const struct event *e)
{
	switch ((enum event_type)e->type) {
	case EVENT_START:
		text_pid(f, e);
		break;
	case EVENT_READY:
		text_pid(f, e);
		fprintf(f, " after %lu ms", (unsigned long)e->after_ms);
		break;
	case EVENT_START_FAILED:
		text_pid(f, e);
		text_reason(f, e);
		break;
	case EVENT_EXIT:
		text_pid(f, e);
		text_reason(f, e);
		if (e->asked)
			fputs(" (asked)", f);
		break;
	case EVENT_RESTART:
		text_word(f, "", spec_strategy_name(e->strategy));
		fprintf(f, " %lu left", (unsigned long)e->restarts_left);
		text_word(f, "because of ", e->cause);
		text_list(f, "children", e->list, e->list_len);
		break;
	case EVENT_LIMIT:
		fprintf(f, " %lu restarts in %lu s", (unsigned long)e->max_restarts,
		    (unsigned long)e->max_seconds);
		text_word(f, "because of ", e->cause);
		break;
	case EVENT_STOP:
		text_pid(f, e);
		text_word(f, "", e->how);
		break;
	case EVENT_RELOAD:
		text_list(f, "added", e->list, e->list_len);
		text_list(f, "changed", e->changed, e->changed_len);
		text_list(f, "removed", e->removed, e->removed_len);
		break;
	case EVENT_SHUTDOWN:
	case EVENT_NOTE:
		text_word(f, "", e->why);
		break;
	case EVENT_LOST:
		fprintf(f, " %lu events", (unsigned long)e->count);
		break;
	}
}

void event_text(FILE *f, uint64_t seq, const struct event *e)
{
	const char *name = event_name(e->type);

	(void)seq;
	text_time(f, e->time_us);
	fprintf(f, " %s", name != NULL ? name : "?");
	text_word(f, "", e->path);
	text_fields(f, e);
}
