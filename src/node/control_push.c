/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Every supervisor gets the present image. Hides when: a supervisor with an older one is sent the
 * new one as soon as its parent has applied it, whether that is in the middle of a reload, after
 * a control process died in one, or because the supervisor was started with the old image while
 * its parent changed. Who is not in the image (removed, or added at run time) keeps what it has.
 *
 * Regime: one small block for each image under way.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "node/control_private.h"

struct push {
	struct steer q;
	struct super *super;
	uint32_t generation;
};

static bool is_old(struct control *c, const struct super *s)
{
	const struct spec_child *spec;

	if (s->generation == c->n->img.h->generation)
		return false;
	spec = spec_find(&c->n->img, s->path);
	return spec != NULL && spec->type != SPEC_WORKER;
}

static struct super *parent_of(struct control *c, const struct super *s)
{
	const char *id;

	return strcmp(s->path, "/") == 0 ? NULL : super_of(c, s->path, &id);
}

static void push_failed(struct super *s, const char *text)
{
	char line[CONTROL_TEXT_MAX];

	snprintf(line, sizeof(line), "supervisor %s: %s", s->path, text);
	reload_failed(s->ctl, line);
}

static void push_done(struct steer *q, int status, const char *text)
{
	struct push *p = q->ctx;
	struct super *s = p->super;

	s->push = NULL;
	s->generation = p->generation;
	free(p);
	if (status != END_OK)
		push_failed(s, text);
	if (status != STEER_BROKE) /* else super_gone() is on the stack and goes on */
		reload_push(s->ctl);
}

/* It cannot be sent to now: when the link has room we are told, anything else is final. */
static void not_sent(struct super *s, int why)
{
	if (why == EAGAIN) {
		s->send_full = true;
		loop_modify(&s->ctl->loop, &s->src, EPOLLIN | EPOLLOUT);
		return;
	}
	s->generation = s->ctl->n->img.h->generation;
	push_failed(s, strerror(why));
}

static void push(struct control *c, struct super *s)
{
	uint32_t n = c->n->img.h->n_sockets < NODE_SOCKETS_MAX ? c->n->img.h->n_sockets : NODE_SOCKETS_MAX;
	int fds[1 + NODE_SOCKETS_MAX];
	struct push *p = calloc(1, sizeof(*p));

	if (p == NULL) {
		not_sent(s, ENOMEM);
		return;
	}
	p->super = s;
	p->generation = c->n->img.h->generation;
	p->q.done = push_done;
	p->q.ctx = p;
	fds[0] = c->n->img.fd;
	memcpy(fds + 1, c->n->sockets, n * sizeof(fds[0]));
	if (steer_ask(c, s, &p->q, STEER_RELOAD, NULL, 0, fds, 1 + n) < 0) {
		free(p);
		not_sent(s, errno);
		return;
	}
	s->push = p;
}

void reload_push(struct control *c)
{
	bool all = true;
	struct super *s, *parent;

	RB_FOREACH(s, supers, &c->supers) {
		if (s->push == NULL && !is_old(c, s))
			continue;
		parent = parent_of(c, s);
		if (s->push == NULL && !s->send_full && !(parent != NULL && (parent->push != NULL || is_old(c, parent))))
			push(c, s);
		all = all && s->push == NULL && !is_old(c, s);
	}
	if (all)
		reload_pushed(c);
}
