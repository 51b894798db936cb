/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A reload, from a client or by HUP: parse the file, say what is different, open new sockets, and
 * only then, when nothing can be wrong with the configuration any more, put the new image in
 * force: root first, so that whatever dies from now on comes back with it, then supervisors
 * (control_push.c). Hides that a client may go away meanwhile, that reloads queue, and that a
 * reload by HUP speaks to standard error instead. Either all of a configuration is taken over,
 * or nothing of it.
 *
 * Regime: one block for each reload; the lists of paths are bounded as in the event.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fds.h"
#include "node/config.h"
#include "node/control_private.h"

/* Paths, one after the other, each with its NUL. */
struct paths {
	char *buf;
	size_t len;
};

struct reload {
	struct request request;       /* first; client is NULL by HUP, or when it has gone */
	TAILQ_ENTRY(reload) entry;
	struct control *ctl;
	struct parse parse;
	char file[4096];
	uint32_t generation;
	bool queued, dry_run, no_wait;
	uint32_t hups;                /* so many HUPs are dealt with by it; 0: it is a client's */
	bool applying;                /* the image is in force */
	struct spec_image img;        /* before that */
	int sockets[NODE_SOCKETS_MAX];
	struct paths paths[3];        /* by enum spec_change */
	char failed[CONTROL_TEXT_MAX]; /* the first thing that went wrong while applying */
	bool told;                    /* by HUP: a first error is in the events */
};

static void reload_next(struct control *c);
static struct reload *reload_create(struct control *c);

/* --- what is said, and to whom --- */

/* One of several errors. */
static void say_line(void *ctx, const char *line)
{
	struct reload *r = ctx;

	if (r->request.client != NULL) {
		frame_text(r->request.client, PROTO_R_ERROR_LINE, line);
		return;
	}
	diag_error("%s", line);
	if (!r->told)
		control_note(r->ctl, "reload refused: %.400s", line);
	r->told = true;
}

static void __attribute__((format(printf, 2, 3))) say_error(struct reload *r, const char *fmt, ...)
{
	char line[CONTROL_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	say_line(r, line);
}

static void reload_free(struct reload *r)
{
	for (size_t i = 0; i < 3; i++)
		free(r->paths[i].buf);
	if (r->img.h != NULL)
		spec_close(&r->img);
	free(r);
}

/* Ends the client's request; the reload itself may go on. */
static void end_client(struct reload *r, int status, const char *text)
{
	struct client *cl = r->request.client;

	r->request.client = NULL;
	if (cl != NULL)
		client_end(cl, status, "%s", text);
}

/* From now on root does not ask the next control process for it. */
static void tell_reloaded(struct control *c, uint32_t hups)
{
	uint8_t buf[8];
	struct wire_out w;

	if (hups == 0)
		return;
	wire_out_init(&w, buf, sizeof(buf));
	wire_put_u8(&w, ROOT_RELOADED);
	wire_put_u32(&w, hups);
	(void)root_send(c, buf, w.len, NULL, 0);
}

/* Ends the reload. */
static void reload_end(struct reload *r, int status, const char *text)
{
	struct control *c = r->ctl;

	if (r->request.client == NULL && status != END_OK && text[0] != '\0')
		say_line(r, text);
	tell_reloaded(c, r->hups);
	c->reload = NULL;
	end_client(r, status, text);
	reload_free(r);
	reload_next(c);
}

static void reload_cancel(struct request *request)
{
	struct reload *r = (struct reload *)request;
	struct control *c = r->ctl;

	r->request.client = NULL;
	if (r->queued) {
		TAILQ_REMOVE(&c->reloads, r, entry);
		reload_free(r);
	} else if (r->dry_run) {
		parse_cancel(&r->parse);
		c->reload = NULL;
		reload_free(r);
		reload_next(c);
	}
}

/* --- sockets --- */

/* The descriptor the node has for this address, or -1. */
static int socket_of(struct control *c, const char *key)
{
	const struct spec_image *img = &c->n->img;

	for (uint32_t i = 0; i < img->h->n_sockets && i < NODE_SOCKETS_MAX; i++)
		if (strcmp(spec_string(img, spec_socket_at(img, i)->key), key) == 0)
			return c->n->sockets[i];
	return -1;
}

static bool is_ours(struct control *c, int fd)
{
	for (size_t i = 0; i < NODE_SOCKETS_MAX; i++)
		if (c->n->sockets[i] == fd)
			return true;
	return false;
}

static void close_new_sockets(struct reload *r)
{
	for (size_t i = 0; i < NODE_SOCKETS_MAX; i++)
		if (r->sockets[i] >= 0 && !is_ours(r->ctl, r->sockets[i]))
			fds_close(&r->sockets[i]);
}

/* Keeps what is the same, opens what is new. 0, or -1 after saying which one could not be opened. */
static int open_sockets(struct reload *r)
{
	const struct spec_image *img = &r->img;
	uint32_t n = img->h->n_sockets;

	if (n > NODE_SOCKETS_MAX) {
		say_error(r, "%s: more than %d sockets", r->file, NODE_SOCKETS_MAX);
		return -1;
	}
	for (uint32_t i = 0; i < n; i++) {
		const struct spec_socket *s = spec_socket_at(img, i);
		const char *key = spec_string(img, s->key);

		r->sockets[i] = socket_of(r->ctl, key);
		if (r->sockets[i] < 0)
			r->sockets[i] = node_socket_open(img, s);
		if (r->sockets[i] < 0) {
			say_error(r, "%s: unable to open socket %s: %s", r->file, key, strerror(errno));
			return -1;
		}
	}
	return 0;
}

/* --- differences --- */

static void keep_path(struct paths *p, const char *path)
{
	size_t n = strlen(path) + 1;
	char *buf;

	if (p->len + n > EVENT_LIST_MAX)
		return;
	buf = realloc(p->buf, p->len + n);
	if (buf == NULL)
		return;
	memcpy(buf + p->len, path, n);
	p->buf = buf;
	p->len += n;
}

static void say_change(void *ctx, enum spec_change what, const char *path, const struct spec_child *old_c,
    const struct spec_child *new_c)
{
	struct reload *r = ctx;
	struct wire_out w;

	(void)old_c;
	(void)new_c;
	keep_path(&r->paths[what], path);
	if (r->request.client == NULL || !frame_begin(r->request.client, &w, PROTO_R_CHANGE, strlen(path) + 16))
		return;
	wire_put_u8(&w, (uint8_t)what);
	wire_put_str(&w, path);
	frame_end(r->request.client, &w);
}

/* What a running node cannot change. */
static int check_fixed(struct reload *r)
{
	const char *old_name = spec_string(&r->ctl->n->img, r->ctl->n->img.h->node);
	const char *new_name = spec_string(&r->img, r->img.h->node);

	if (old_name == NULL || new_name == NULL || strcmp(old_name, new_name) == 0)
		return 0;
	say_error(r, "%s: the name of a running node cannot change from \"%s\" to \"%s\": stop it, then run it again",
	    r->file, old_name, new_name);
	return -1;
}

/* --- putting it in force --- */

static int tell_root(struct reload *r)
{
	int fds[1 + NODE_SOCKETS_MAX];
	uint8_t kind = ROOT_IMAGE;

	fds[0] = r->img.fd;
	memcpy(fds + 1, r->sockets, r->img.h->n_sockets * sizeof(fds[0]));
	return root_send(r->ctl, &kind, 1, fds, 1 + r->img.h->n_sockets);
}

static bool is_kept(const struct reload *r, int fd)
{
	for (size_t i = 0; i < NODE_SOCKETS_MAX; i++)
		if (r->sockets[i] == fd)
			return true;
	return false;
}

/* From here on this is the node's configuration. */
static void adopt(struct reload *r)
{
	struct node *n = r->ctl->n;

	for (size_t i = 0; i < NODE_SOCKETS_MAX; i++)
		if (n->sockets[i] >= 0 && !is_kept(r, n->sockets[i]))
			fds_close(&n->sockets[i]);
	memcpy(n->sockets, r->sockets, sizeof(n->sockets));
	spec_close(&n->img);
	n->img = r->img;
	r->img = (struct spec_image){ .fd = -1 };
	r->applying = true;
}

static void apply(struct reload *r)
{
	struct control *c = r->ctl;

	if (tell_root(r) < 0) {
		close_new_sockets(r);
		reload_end(r, END_FAILED, "the root process of the node does not answer");
		return;
	}
	tell_reloaded(c, r->hups); /* whoever comes now goes on with the image */
	adopt(r);
	if (r->no_wait)
		end_client(r, END_OK, "");
	reload_push(c);
}

void reload_failed(struct control *c, const char *text)
{
	struct reload *r = c->reload;

	if (r == NULL || !r->applying)
		control_note(c, "%.400s", text);
	else if (r->failed[0] == '\0')
		strlcpy(r->failed, text, sizeof(r->failed));
}

static void put_event(struct reload *r)
{
	struct event e = {
		.type = EVENT_RELOAD,
		.list = r->paths[SPEC_ADDED].buf, .list_len = r->paths[SPEC_ADDED].len,
		.changed = r->paths[SPEC_CHANGED].buf, .changed_len = r->paths[SPEC_CHANGED].len,
		.removed = r->paths[SPEC_REMOVED].buf, .removed_len = r->paths[SPEC_REMOVED].len,
	};

	control_put_event(r->ctl, &e);
	history_set_generation(&r->ctl->history, r->ctl->n->img.h->generation);
}

void reload_pushed(struct control *c)
{
	struct reload *r = c->reload;

	if (r == NULL || !r->applying)
		return;
	put_event(r);
	reload_end(r, r->failed[0] != '\0' ? END_FAILED : END_OK, r->failed);
}

void reload_resume(struct control *c)
{
	uint32_t generation = c->n->img.h->generation;
	struct reload *r;

	if (c->history.fresh || history_generation(&c->history) == generation) {
		history_set_generation(&c->history, generation);
		return;
	}
	r = reload_create(c);
	if (r == NULL)
		return;
	r->applying = true; /* what was different, only the dead one knew */
	c->reload = r;
}

/* --- from the file to the image --- */

static int load(struct parse *p, int err_fd)
{
	struct reload *r = p->ctx;

	return config_load(r->file, r->generation, err_fd);
}

/* The new image is there: can it be taken over? */
static void consider(struct reload *r)
{
	if (check_fixed(r) < 0) {
		reload_end(r, END_CONFIG, "");
	} else if (r->dry_run) {
		spec_diff(&r->ctl->n->img, &r->img, say_change, r);
		reload_end(r, END_OK, "");
	} else if (open_sockets(r) < 0) {
		close_new_sockets(r);
		reload_end(r, END_CONFIG, "");
	} else {
		spec_diff(&r->ctl->n->img, &r->img, say_change, r);
		apply(r);
	}
}

static void parsed(struct parse *p, int memfd, const char *errors, size_t len)
{
	struct reload *r = p->ctx;

	if (memfd < 0) {
		parse_lines(errors, len, say_line, r);
		reload_end(r, END_CONFIG, "");
	} else if (spec_open(&r->img, memfd) < 0) {
		close(memfd);
		r->img.h = NULL;
		say_error(r, "%s: the parser made no sense of it", r->file);
		reload_end(r, END_CONFIG, "");
	} else {
		consider(r);
	}
}

/* --- the beginning --- */

static struct reload *reload_create(struct control *c)
{
	struct reload *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->request.cancel = reload_cancel;
	r->request.is_long = true;
	r->ctl = c;
	r->img.fd = -1;
	for (size_t i = 0; i < NODE_SOCKETS_MAX; i++)
		r->sockets[i] = -1;
	return r;
}

static void reload_start(struct reload *r)
{
	struct control *c = r->ctl;
	const char *file = spec_string(&c->n->img, c->n->img.h->file);

	c->reload = r;
	if (c->state == PROTO_NODE_STOPPING) {
		reload_end(r, END_FAILED, "the node is shutting down");
	} else if (file == NULL) {
		reload_end(r, END_FAILED, "this node was started without a configuration file");
	} else {
		strlcpy(r->file, file, sizeof(r->file));
		r->generation = c->n->img.h->generation + 1;
		r->parse.load = load;
		r->parse.done = parsed;
		r->parse.ctx = r;
		parse_submit(c, &r->parse);
	}
}

/* One at a time, in order. */
static void reload_next(struct control *c)
{
	struct reload *r = TAILQ_FIRST(&c->reloads);

	if (c->reload != NULL || r == NULL)
		return;
	TAILQ_REMOVE(&c->reloads, r, entry);
	r->queued = false;
	reload_start(r);
}

static void reload_queue(struct control *c, struct reload *r)
{
	r->queued = true;
	TAILQ_INSERT_TAIL(&c->reloads, r, entry);
	reload_next(c);
}

void reload_begin_client(struct control *c, struct client *cl, bool dry_run, bool no_wait)
{
	struct reload *r = reload_create(c);

	if (r == NULL) {
		client_kill(cl);
		return;
	}
	r->dry_run = dry_run;
	r->no_wait = no_wait;
	client_wait(cl, &r->request);
	reload_queue(c, r);
}

/* Any number of HUPs that come during a reload are one more. */
void reload_begin_signal(struct control *c, uint32_t hups)
{
	struct reload *r;

	TAILQ_FOREACH(r, &c->reloads, entry)
		if (r->hups != 0) {
			r->hups = hups;
			return;
		}
	r = reload_create(c);
	if (r == NULL) {
		control_note(c, "reload refused: no memory");
		tell_reloaded(c, hups);
		return;
	}
	r->hups = hups;
	reload_queue(c, r);
}
