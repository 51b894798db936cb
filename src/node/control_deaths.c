/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Post-mortem records, made when somebody asks for them: a death is an exit or a failed start in
 * the history, what was restarted with it is the restart that it caused, and its last lines are
 * in the ring beside. Hides that the three come by different ways and in any order. Nothing is
 * kept twice, so nothing can disagree after control was killed. Runs in control.
 *
 * Regime: allocates nothing; one pass over each ring, which looks at entries' heads only.
 */
#include "node/control_history_private.h"

#include <string.h>

#define LINES_REFS 64 /* lines kept of one child that are looked at: more than deaths shown */

struct death_ref {
	const struct history_entry *death, *restart; /* restart: NULL, it caused none */
};

struct lines_ref {
	int32_t pid;
	const void *text;
	size_t len;
	bool used;
};

struct search {
	struct history *h;
	const char *path;
	uint32_t hash;
	struct death_ref deaths[HISTORY_DEATHS]; /* n-th at n % HISTORY_DEATHS */
	size_t n_deaths;
	struct lines_ref lines[LINES_REFS];
	size_t n_lines;
};

static struct death_ref *last_death(struct search *s)
{
	return s->n_deaths > 0 ? &s->deaths[(s->n_deaths - 1) % HISTORY_DEATHS] : NULL;
}

static bool decode(struct search *s, const struct history_entry *entry, struct event *e)
{
	return event_get(entry->content, entry->len, e, s->h->scratch, EVENT_MSG_MAX) == 0;
}

static void see_event(struct search *s, const struct history_entry *entry)
{
	struct death_ref *last = last_death(s);
	struct event e;

	if (entry->path_hash != s->hash)
		return;
	if (entry->type == EVENT_EXIT || entry->type == EVENT_START_FAILED) {
		if (decode(s, entry, &e) && strcmp(e.path, s->path) == 0)
			s->deaths[s->n_deaths++ % HISTORY_DEATHS] = (struct death_ref){ .death = entry };
	} else if (entry->type == EVENT_RESTART && last != NULL && last->restart == NULL) {
		if (decode(s, entry, &e) && strcmp(e.cause, s->path) == 0)
			last->restart = entry;
	}
}

static void find_deaths(struct search *s)
{
	const struct history_ring *r = &history_now(s->h)->events;
	const struct history_entry *e;
	uint64_t place = r->head;

	while ((e = history_at(s->h->mem->events, HISTORY_EVENTS, r, &place)) != NULL) {
		see_event(s, e);
		place += e->size;
	}
}

static void see_lines(struct search *s, const struct history_entry *entry)
{
	char path[SPEC_PATH_MAX];
	struct lines_ref ref = { 0 };
	struct wire_in w;

	wire_in_init(&w, entry->content, entry->len);
	ref.pid = wire_get_i32(&w);
	wire_get_str(&w, path, sizeof(path));
	ref.len = wire_get_bytes(&w, &ref.text);
	if (!w.bad && strcmp(path, s->path) == 0)
		s->lines[s->n_lines++ % LINES_REFS] = ref;
}

static void find_lines(struct search *s)
{
	const struct history_ring *r = &history_now(s->h)->lines;
	const struct history_entry *e;
	uint64_t place = r->head;

	while ((e = history_at(s->h->mem->lines, HISTORY_LINES, r, &place)) != NULL) {
		if (e->path_hash == s->hash)
			see_lines(s, e);
		place += e->size;
	}
}

/* The newest lines of this process that no newer death has: a pid may come again. */
static void join_lines(struct search *s, struct proto_death *d)
{
	size_t n = s->n_lines < LINES_REFS ? s->n_lines : LINES_REFS;

	for (size_t i = 0; i < n; i++) {
		struct lines_ref *ref = &s->lines[(s->n_lines - 1 - i) % LINES_REFS];

		if (ref->used || ref->pid != d->pid || d->pid == 0)
			continue;
		ref->used = true;
		if (ref->len < sizeof(d->lines)) {
			memcpy(d->lines, ref->text, ref->len);
			d->lines[ref->len] = '\0';
		}
		return;
	}
}

/* Writes a list's strings with spaces between them, cut between two. */
static void join_list(char *buf, size_t size, const char *list, size_t len)
{
	size_t at = 0, used = 0;

	buf[0] = '\0';
	while (at < len) {
		size_t n = strnlen(list + at, len - at);

		if (used + n + 2 > size)
			return;
		if (used > 0)
			buf[used++] = ' ';
		memcpy(buf + used, list + at, n);
		used += n;
		buf[used] = '\0';
		at += n + 1;
	}
}

static void make_death(struct search *s, const struct death_ref *ref, struct proto_death *d)
{
	struct event e;

	memset(d, 0, sizeof(*d));
	strlcpy(d->path, s->path, sizeof(d->path));
	if (decode(s, ref->death, &e)) {
		d->time_us = e.time_us;
		d->pid = e.pid;
		d->ran_ms = e.ran_ms;
		d->asked = e.asked;
		d->reason = e.reason;
	}
	if (ref->restart != NULL && decode(s, ref->restart, &e))
		join_list(d->restarted, sizeof(d->restarted), e.list, e.list_len);
	join_lines(s, d);
}

void history_deaths(struct history *h, const char *path, history_death_f *f, void *ctx)
{
	struct search s = { .h = h, .path = path, .hash = history_hash(path) };
	static struct proto_death d; /* too big for the stack */
	size_t n;

	find_deaths(&s);
	find_lines(&s);
	n = s.n_deaths < HISTORY_DEATHS ? s.n_deaths : HISTORY_DEATHS;
	for (size_t i = 0; i < n; i++) {
		make_death(&s, &s.deaths[(s.n_deaths - 1 - i) % HISTORY_DEATHS], &d);
		f(ctx, &d);
	}
}
