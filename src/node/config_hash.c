/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The two hashes by which a reload tells what changed: of what only a new process can take
 * over, and of what its supervisor can change under a running one. They cover contents, never
 * offsets, so that two images of the same text agree. FNV-1a of 64 bits: an accident in a
 * thousand children is out of the question, and nobody gains by making one. Parser process.
 */
#include <string.h>

#include "node/config_private.h"

static void bytes(uint64_t *h, const void *p, size_t n)
{
	const unsigned char *b = p;

	while (n-- > 0)
		*h = (*h ^ *b++) * 1099511628211u;
}

static void number(uint64_t *h, uint64_t v)
{
	bytes(h, &v, sizeof v);
}

static const char *text(const struct conf_image *img, spec_str s)
{
	return s == 0 ? NULL : img->buf + s;
}

/* Absent and empty differ, and no two sequences of strings are alike. */
static void string(uint64_t *h, const char *s)
{
	number(h, s ? strlen(s) + 1 : 0);
	if (s)
		bytes(h, s, strlen(s));
}

static uint32_t item(const struct conf_image *img, const struct spec_list *l, uint32_t i)
{
	uint32_t v;

	memcpy(&v, img->buf + l->off + i * sizeof v, sizeof v);
	return v;
}

static void strings(uint64_t *h, const struct conf_image *img, const struct spec_list *l)
{
	uint32_t i;

	number(h, l->count);
	for (i = 0; i < l->count; i++)
		string(h, text(img, item(img, l, i)));
}

static void numbers(uint64_t *h, const struct conf_image *img, const struct spec_list *l)
{
	uint32_t i;

	number(h, l->count);
	for (i = 0; i < l->count; i++)
		number(h, item(img, l, i));
}

static void sockets(uint64_t *h, const struct conf_image *img, const struct spec_list *l,
    const struct conf_listen *listens)
{
	uint32_t i, n;

	number(h, l->count);
	for (i = 0; i < l->count; i++) {
		n = item(img, l, i);
		string(h, conf_listen_key(listens, n));
		string(h, conf_listen_name(listens, n));
		number(h, conf_listen_mode(listens, n));
	}
}

/* --- what only a new process can take over --- */

static void identity(uint64_t *h, const struct conf_image *img, const struct spec_worker *w)
{
	number(h, w->umask);
	number(h, w->uid);
	number(h, w->gid);
	numbers(h, img, &w->groups);
	number(h, w->set_groups);
	number(h, (uint64_t)(int64_t)w->nice);
	string(h, text(img, w->user_name));
	string(h, text(img, w->user_home));
	string(h, text(img, w->user_shell));
}

static void output(uint64_t *h, const struct conf_image *img, const struct spec_worker *w)
{
	number(h, w->log);
	number(h, w->log_timestamps);
	string(h, text(img, w->log_dir));
	number(h, w->log_max_bytes);
	number(h, w->log_max_files);
	number(h, w->foreground);
}

static void worker_process(uint64_t *h, const struct conf_image *img, const struct spec_worker *w,
    const struct conf_listen *listens)
{
	int i;

	strings(h, img, &w->exec);
	number(h, w->server);
	string(h, text(img, w->module));
	string(h, text(img, w->symbol));
	string(h, text(img, w->name));
	string(h, text(img, w->args));
	string(h, text(img, w->dir));
	identity(h, img, w);
	number(h, w->env_clear);
	strings(h, img, &w->env);
	for (i = 0; i < SPEC_LIMITS; i++)
		number(h, w->limits[i]);
	sockets(h, img, &w->sockets, listens);
	number(h, w->watchdog_ms);
	output(h, img, w);
	/* These two leave something behind in the process: a descriptor, an address. */
	number(h, w->ready == SPEC_READY_FD ? 2 + w->ready_arg : w->ready == SPEC_READY_NOTIFY);
}

/* --- what a supervisor can change --- */

static void worker_supervision(uint64_t *h, const struct conf_image *img, const struct spec_worker *w)
{
	int i;

	number(h, w->ready);
	number(h, w->ready_arg);
	string(h, text(img, w->ready_str));
	number(h, w->ready_timeout_ms);
	number(h, w->stop_signal);
	number(h, w->kill_group);
	number(h, w->kill_orphans_softly);
	for (i = 0; i < 4; i++)
		number(h, w->success_codes[i]);
	number(h, w->success_signals);
}

static void child(uint64_t *h, const struct sup_child_spec *s)
{
	number(h, s->restart);
	number(h, s->significant);
	number(h, s->enabled);
	number(h, (uint64_t)(int64_t)s->shutdown_ms);
	number(h, s->backoff.min_ms);
	number(h, s->backoff.max_ms);
	number(h, s->backoff.factor_milli);
	number(h, s->backoff.reset_ms);
}

static void flags(uint64_t *h, const struct sup_flags *f)
{
	number(h, f->strategy);
	number(h, f->auto_shutdown);
	number(h, f->max_restarts);
	number(h, f->max_seconds);
	number(h, f->max_children);
}

void conf_hash(const struct conf_image *img, struct spec_child *c, const struct conf_listen *listens)
{
	uint64_t process = 14695981039346656037u, supervision = process;

	number(&process, c->type);
	child(&supervision, &c->sup);
	if (c->type == SPEC_WORKER) {
		worker_process(&process, img, &c->worker, listens);
		worker_supervision(&supervision, img, &c->worker);
	} else {
		flags(&supervision, &c->flags);
	}
	c->hash_process = process;
	c->hash_supervision = supervision;
}
