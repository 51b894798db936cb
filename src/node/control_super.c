/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The supervisors, by path, and the questions put to them. Hides the steering links: a
 * supervisor says hello with one end of a link and is known until the link ends or it says hello
 * again; a question has a number and exactly one end: the answer, a broken link, or its owner
 * forgetting it. Late answers to forgotten questions find no number and are dropped.
 *
 * Regime: one block for each supervisor; without memory its hello is lost, and the end of the
 * link makes it say hello again.
 */
#include "node/control_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/fds.h"

#define PACKET_BUDGET 64 /* packets of one supervisor in one turn */
#define HELLO_PAUSE_MS 100 /* without descriptors for the links */
#define HELLO_BUDGET 64

int super_cmp(struct super *a, struct super *b);

int super_cmp(struct super *a, struct super *b)
{
	return strcmp(a->path, b->path);
}

RB_GENERATE(supers, super, entry, super_cmp) /* NOLINT(clang-analyzer-unix.Malloc): it cannot follow the tree */

/* --- by path --- */

struct super *super_find(struct control *c, const char *path)
{
	static struct super key; /* too big for the stack */

	if (strlcpy(key.path, path[0] != '\0' ? path : "/", sizeof(key.path)) >= sizeof(key.path))
		return NULL;
	return RB_FIND(supers, &c->supers, &key);
}

struct super *super_of(struct control *c, const char *path, const char **id_r)
{
	char parent[SPEC_PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t n = slash != NULL ? (size_t)(slash - path) : 0;

	*id_r = slash != NULL ? slash + 1 : path;
	if (!path_valid(path) || n >= sizeof(parent))
		return NULL;
	memcpy(parent, path, n);
	parent[n] = '\0';
	return super_find(c, parent);
}

/* --- questions --- */

static void steer_over(struct steer *q, int status, const char *text)
{
	steer_cancel(q);
	q->done(q, status, text);
}

void steer_cancel(struct steer *q)
{
	if (q->to == NULL)
		return;
	LIST_REMOVE(q, entry);
	q->to = NULL;
}

int steer_ask(struct control *c, struct super *s, struct steer *q, uint8_t kind, const void *args,
    size_t len, const int *fds, size_t n_fds)
{
	static uint8_t buf[PROTO_PACKET_MAX];
	struct wire_out w;

	q->no = ++c->last_no;
	wire_out_init(&w, buf, sizeof(buf));
	wire_put_u8(&w, kind);
	wire_put_u32(&w, q->no);
	if (len > sizeof(buf) - w.len) {
		errno = EMSGSIZE;
		return -1;
	}
	if (len > 0)
		memcpy(buf + w.len, args, len);
	if (fds_send(s->fd, buf, w.len + len, fds, n_fds) < 0)
		return -1;
	q->to = s;
	LIST_INSERT_HEAD(&s->asked, q, entry);
	return 0;
}

/* --- packets --- */

static struct steer *question(struct super *s, uint32_t no)
{
	struct steer *q;

	LIST_FOREACH(q, &s->asked, entry)
		if (q->no == no)
			return q;
	return NULL;
}

static void take_done(struct steer *q, struct wire_in *w)
{
	char text[CONTROL_TEXT_MAX];
	uint8_t status = wire_get_u8(w);

	wire_get_str(w, text, sizeof(text));
	if (w->bad)
		steer_over(q, END_FAILED, "its supervisor's answer cannot be understood");
	else
		steer_over(q, status, text);
}

static void take_packet(struct super *s, const void *buf, size_t len)
{
	struct steer *q;
	struct wire_in w;
	uint8_t kind;
	uint32_t no;

	wire_in_init(&w, buf, len);
	kind = wire_get_u8(&w);
	no = wire_get_u32(&w);
	q = w.bad ? NULL : question(s, no);
	if (q == NULL)
		return;
	if (kind == STEER_DONE)
		take_done(q, &w);
	else if (q->packet != NULL)
		q->packet(q, kind, &w);
}

/* --- coming and going --- */

/* The link is of no use any more: tells everybody who waits for it. */
static void super_gone(struct super *s)
{
	struct control *c = s->ctl;
	struct steer *q;

	RB_REMOVE(supers, &c->supers, s);
	loop_detach(&c->loop, &s->src);
	fds_close(&s->fd);
	while ((q = LIST_FIRST(&s->asked)) != NULL)
		steer_over(q, STEER_BROKE, "its supervisor died");
	status_super_gone(s);
	free(s);
	reload_push(c);
}

static void super_ready(struct loop_source *src, uint32_t events)
{
	static uint8_t buf[PROTO_PACKET_MAX];
	struct super *s = src->ctx;
	ssize_t n = 1;
	size_t fds;

	if (events & EPOLLOUT) {
		s->send_full = false;
		loop_modify(&s->ctl->loop, src, EPOLLIN);
		reload_push(s->ctl);
	}
	for (int budget = PACKET_BUDGET; budget > 0 && n > 0; budget--) {
		n = fds_recv(s->fd, buf, sizeof(buf), NULL, 0, &fds);
		if (n > 0)
			take_packet(s, buf, (size_t)n);
	}
	if (n == 0 || (n < 0 && errno != EAGAIN))
		super_gone(s);
}

static bool read_hello(struct wire_in *w, struct super *s)
{
	uint8_t kind = wire_get_u8(w);

	(void)wire_get_u32(w); /* the number, always 0 */
	wire_get_str(w, s->path, sizeof(s->path));
	s->pid = wire_get_i32(w);
	s->generation = wire_get_u32(w);
	if (s->path[0] == '\0')
		strlcpy(s->path, "/", sizeof(s->path));
	return wire_done(w) && kind == STEER_HELLO && s->pid > 0 &&
	    (strcmp(s->path, "/") == 0 || path_valid(s->path));
}

/* Makes a supervisor of a hello; takes the link over if it can. */
static void add(struct control *c, const void *buf, size_t len, int *link)
{
	struct super *s = calloc(1, sizeof(*s)), *old;
	struct wire_in w;

	if (s == NULL)
		return;
	wire_in_init(&w, buf, len);
	s->ctl = c;
	LIST_INIT(&s->asked);
	LIST_INIT(&s->waiting);
	if (!read_hello(&w, s) || fds_set_nonblock(*link, true) < 0 ||
	    loop_attach(&c->loop, &s->src, *link, EPOLLIN, super_ready, s) < 0) {
		free(s);
		return;
	}
	s->fd = *link;
	*link = -1;
	old = RB_FIND(supers, &c->supers, s);
	if (old != NULL)
		super_gone(old);
	RB_INSERT(supers, &c->supers, s);
}

void super_hello(struct control *c)
{
	uint8_t buf[SPEC_PATH_MAX + 64];
	int link;
	size_t n_fds;

	for (int budget = HELLO_BUDGET; budget > 0; budget--) {
		ssize_t n = fds_recv(c->n->fd[NODE_FD_HELLO_R], buf, sizeof(buf), &link, 1, &n_fds);

		if (n < 0 && errno == EMFILE)
			loop_pause(&c->loop, &c->hello_src, &c->hello_pause, HELLO_PAUSE_MS);
		if (n < 0 && (errno == EAGAIN || errno == EMFILE))
			break;
		if (n > 0 && n_fds == 1)
			add(c, buf, (size_t)n, &link);
		if (n_fds == 1)
			fds_close(&link);
	}
	control_settle(c);
	reload_push(c);
}
