/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What clients say to processes of the node: call, cast, send, and which names there are. Control is a
 * process of the node for this. It never waits for one: a request goes into the mailbox when there is
 * room, and is tried again until then; the reply, the server's death or the end of the time is the answer,
 * whichever comes first. A client that goes away takes its call back.
 *
 * Regime: one block for each request; messages come out of the node's shared memory.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fds.h"
#include "node/control_private.h"
#include "node/member.h"
#include "proc/proc.h"

#define AGAIN_MS 5     /* a full mailbox is tried again */
#define DAMAGED_MS 100 /* our own one, too */

struct talk {
	struct request request;     /* first */
	LIST_ENTRY(talk) entry;
	struct control *ctl;
	struct loop_timer timer;
	uint8_t verb;
	bool sent;
	uint64_t to, ref, monitor;
	int64_t until_ms;           /* < 0: for ever */
	int32_t timeout_ms;
	char name[COP_NAME_MAX];
	size_t len;
	char msg[];
};

static LIST_HEAD(, talk) talks = LIST_HEAD_INITIALIZER(talks);

/* --- the end of a request --- */

static void talk_free(struct talk *t)
{
	if (t->ref)
		proc_unexpect(t->ref);
	if (t->monitor)
		(void)cop_demonitor((cop_ref){ t->monitor }, true);
	loop_timer_cancel(&t->ctl->loop, &t->timer);
	LIST_REMOVE(t, entry);
	free(t);
}

static void talk_cancel(struct request *r)
{
	talk_free((struct talk *)r);
}

static void talk_end(struct talk *t, int status, const char *what, const char *more)
{
	struct client *cl = t->request.client;
	char name[COP_NAME_MAX];

	memcpy(name, t->name, sizeof name);
	talk_free(t);
	if (status == END_OK)
		client_end(cl, status, "%s", "");
	else
		client_end(cl, status, "%s: %s%s", name, what, more);
}

static void ended(struct talk *t, const struct cop_exit *reason)
{
	char text[COP_EXIT_FORMAT_MAX];

	talk_end(t, END_FAILED, "ended: ", cop_exit_format(reason, text, sizeof text));
}

static void replied(struct talk *t, struct seg_node *n)
{
	struct wire_out w;
	struct cop_msg msg;

	if (!proc_msg(&msg, n) || msg.len > PROTO_REPLY_MAX) {
		proc_done(n);
		talk_end(t, END_FAILED, "its reply is longer than can be passed on", "");
		return;
	}
	if (frame_begin(t->request.client, &w, PROTO_R_REPLY, msg.len + 16)) {
		wire_put_u32(&w, msg.tag);
		wire_put_bytes(&w, msg.data, msg.len);
		frame_end(t->request.client, &w);
	}
	proc_done(n);
	talk_end(t, END_OK, "", "");
}

/* --- sending, without ever waiting --- */

static void again(struct loop_timer *timer);

static bool is_late(const struct talk *t)
{
	return t->until_ms >= 0 && clock_mono_ms() >= t->until_ms;
}

static void set_timer(struct talk *t, int64_t at_ms)
{
	if (t->until_ms >= 0 && t->until_ms < at_ms)
		at_ms = t->until_ms;
	if (at_ms < INT64_MAX)
		loop_timer_set(&t->ctl->loop, &t->timer, at_ms, again, t);
}

static enum proc_kind kind_of(uint8_t verb)
{
	return verb == PROTO_CALL ? NODE_CALL : verb == PROTO_CAST ? NODE_CAST : NODE_PLAIN;
}

static struct seg_node *message(const struct talk *t)
{
	struct seg_node *n = proc_node(t->len, COP_NOWAIT);

	if (!n)
		return NULL;
	memcpy(seg_node_data(n), t->msg, t->len);
	n->from = proc.id;
	n->ref = t->ref;
	n->tag = COP_TAG_JSON;
	atomic_store_explicit(&n->kind, (uint8_t)kind_of(t->verb), memory_order_relaxed);
	return n;
}

/* A call is watched before it is sent: so its end is heard of, whenever it comes. */
static bool prepare_call(struct talk *t)
{
	if (t->verb != PROTO_CALL || t->monitor)
		return true;
	if (!proc_can_monitor())
		return false;
	t->ref = proc_new_ref(0);
	if (proc_expect(t->ref) < 0) {
		t->ref = 0;
		return false;
	}
	t->monitor = proc_monitor(t->to).id;
	return t->monitor != 0;
}

/* False: not yet. Otherwise t may be gone. */
static bool try_send(struct talk *t)
{
	struct cop_exit noproc = cop_exit_make(COP_EXIT_NOPROC, 0);
	struct seg_node *n;

	if (!prepare_call(t) || !(n = message(t)))
		return false;
	switch (proc_send(t->to, n, true, COP_NOWAIT)) {
	case PROC_WOULD_BLOCK:
		return false;
	case PROC_GONE:
		if (!t->monitor) /* else its death says more */
			ended(t, &noproc);
		else
			t->sent = true;
		return true;
	case PROC_SENT:
		break;
	}
	t->sent = true;
	if (t->verb == PROTO_CALL)
		set_timer(t, INT64_MAX);
	else
		talk_end(t, END_OK, "", "");
	return true;
}

static void go_on(struct talk *t)
{
	char ms[32];

	if (is_late(t)) {
		snprintf(ms, sizeof ms, "%ld ms", (long)t->timeout_ms);
		talk_end(t, END_TIMEOUT, t->sent ? "no reply within " : "its mailbox was full for ", ms);
	} else if (!t->sent && !try_send(t)) {
		set_timer(t, clock_mono_ms() + AGAIN_MS);
	}
}

static void again(struct loop_timer *timer)
{
	go_on(timer->ctx);
}

/* --- the mailbox --- */

/* What has come for one request. */
static void look(struct talk *t)
{
	struct seg_node *n;
	struct cop_msg msg;

	if (!t->monitor)
		return;
	if ((n = proc_answer(NODE_REPLY, t->ref))) {
		replied(t, n);
	} else if ((n = proc_answer(NODE_DOWN, t->monitor))) {
		t->monitor = 0;
		(void)proc_msg(&msg, n);
		proc_done(n);
		ended(t, &msg.reason);
	}
}

int talk_take(struct control *c)
{
	struct talk *t, *next;
	struct seg_node *n;
	uint64_t seen;

	(void)c;
	if (!proc.in_node)
		return -1;
	if (proc_take() < 0)
		return DAMAGED_MS; /* no memory, or somebody has written over the mailbox */
	do {
		while ((n = proc_next())) /* nobody has anything to say to control */
			proc_done(n);
		seen = proc.taken;
		if (proc.answers.n > 0)
			LIST_FOREACH_SAFE(t, &talks, entry, next)
				look(t);
	} while (proc.taken != seen);
	return inbox_sleeps_in_poll(proc.slot) ? -1 : 0;
}

void talk_awake(void)
{
	if (proc.in_node)
		inbox_awake(proc.slot);
}

static void urged(struct loop_source *src, uint32_t events)
{
	struct signalfd_siginfo si;

	(void)events;
	while (read(src->fd, &si, sizeof si) == (ssize_t)sizeof si)
		; /* the next turn of the loop looks */
}

int talk_open(struct control *c)
{
	sigset_t set;
	int fd;

	c->urge_src.fd = -1;
	if (!proc.in_node)
		return 0;
	sigemptyset(&set);
	sigaddset(&set, SIGURG);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -1 : loop_attach(&c->loop, &c->urge_src, fd, EPOLLIN, urged, c);
}

/* --- requests --- */

static struct talk *talk_new(struct control *c, uint8_t verb, const char *name, int32_t timeout_ms, const void *msg,
    size_t len)
{
	struct talk *t = calloc(1, sizeof(*t) + len);

	if (t == NULL)
		return NULL;
	t->request.cancel = talk_cancel;
	t->request.is_long = true;
	t->ctl = c;
	t->verb = verb;
	t->timeout_ms = timeout_ms;
	t->until_ms = timeout_ms < 0 ? -1 : clock_mono_ms() + timeout_ms;
	strlcpy(t->name, name, sizeof(t->name));
	t->len = len;
	if (len > 0)
		memcpy(t->msg, msg, len);
	LIST_INSERT_HEAD(&talks, t, entry);
	return t;
}

static bool has_memory(struct client *cl)
{
	if (proc.in_node)
		return true;
	client_end(cl, END_FAILED, "this node has no shared memory, and so no servers");
	return false;
}

void talk_begin(struct control *c, struct client *cl, uint8_t verb, struct wire_in *w)
{
	char name[CONTROL_TEXT_MAX];
	int32_t timeout_ms;
	const void *msg;
	struct talk *t;
	uint64_t to;
	size_t len;

	wire_get_str(w, name, sizeof(name));
	timeout_ms = wire_get_i32(w);
	len = wire_get_bytes(w, &msg);
	if (!wire_done(w)) {
		client_end(cl, END_USAGE, "the request is malformed");
		return;
	}
	if (!has_memory(cl))
		return;
	to = cop_whereis(name).id;
	if (to == 0) {
		client_end(cl, END_NO_CHILD, "%s: no such name", name);
		return;
	}
	t = talk_new(c, verb, name, timeout_ms, msg, len);
	if (t == NULL) {
		client_kill(cl);
		return;
	}
	t->to = to;
	client_wait(cl, &t->request);
	go_on(t);
}

/* --- names --- */

struct names {
	struct control *ctl;
	struct client *client;
};

/* The child that has this name in the configuration. */
static const struct spec_child *child_of(const struct spec_image *img, const struct spec_child *sup, const char *name)
{
	const struct spec_child *c, *found = NULL;
	const char *has;

	for (c = spec_first_child(img, sup); c && !found; c = spec_next_child(img, c)) {
		has = spec_string(img, c->worker.name);
		if (c->type != SPEC_WORKER)
			found = child_of(img, c, name);
		else if (has && strcmp(has, name) == 0)
			found = c;
	}
	return found;
}

/* A process's label is the path that it was started at, unless it has changed that: believed for children that
 * were added to a dynamic supervisor, which are in no configuration. */
static bool is_added(struct control *c, const char *label)
{
	const char *slash = strrchr(label, '/');
	const struct spec_child *parent;
	char path[SEG_NAME];

	if (!slash || !path_valid(label))
		return false;
	snprintf(path, sizeof path, "%.*s", (int)(slash - label), label);
	parent = spec_find(&c->n->img, path);
	return parent && parent->type == SPEC_DYNAMIC_SUPERVISOR;
}

static void put_name(void *ctx, const char *name, cop_pid pid)
{
	struct names *q = ctx;
	const struct spec_child *child = child_of(&q->ctl->n->img, spec_top(&q->ctl->n->img), name);
	struct seg_slot *p = seg_slot_of(&proc.seg, pid.id);
	char label[SEG_NAME] = "";
	struct wire_out w;

	if (p)
		memcpy(label, p->label, sizeof label - 1);
	if (!frame_begin(q->client, &w, PROTO_R_NAME, COP_NAME_MAX + SPEC_PATH_MAX + 32))
		return;
	wire_put_str(&w, name);
	wire_put_i32(&w, cop_os_pid(pid));
	wire_put_str(&w, child ? spec_string(&q->ctl->n->img, child->path) : is_added(q->ctl, label) ? label : "");
	frame_end(q->client, &w);
}

void talk_names(struct control *c, struct client *cl)
{
	struct names q = { c, cl };

	if (!has_memory(cl))
		return;
	cop_registered(put_name, &q);
	client_end(cl, END_OK, "%s", "");
}
