/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The control process: its life, and its links to the rest of the node. Forked by root, and again
 * whenever it dies: it holds nothing that could not be found again. The history is in root's
 * keeping, supervisors say hello again, root sends the listening socket and the node's state
 * first, clients see a closed connection. It dies with root.
 *
 * Runs in control. Regime: allocates what its parts say, bounded; a node whose control cannot
 * get memory lives on without steering.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fds.h"
#include "node/control_private.h"

#define EVENT_QUEUE (128 * 1024) /* of our own events: at least one with its lists */
#define TAKE_BUDGET 8            /* reads of the event pipe in one turn */
#define LINES_BUDGET 64
#define PAUSE_MS 100             /* without descriptors for what root sends */
#define SETTLE_MS 300            /* for supervisors to find a new control process */

/* --- events --- */

void control_put_event(struct control *c, struct event *e)
{
	event_pipe_put(&c->events, e);
}

void control_note(struct control *c, const char *fmt, ...)
{
	char text[EVENT_TEXT_MAX];
	struct event e = { .type = EVENT_NOTE, .why = text };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	control_put_event(c, &e);
}

/* What we have to say ourselves waits in our queue until we have read the pipe empty. */
static void event_ready(struct loop_source *src, uint32_t events)
{
	struct control *c = src->ctx;
	int budget = TAKE_BUDGET;

	(void)events;
	while (budget-- > 0 && history_take(&c->history, src->fd) > 0)
		event_pipe_flush(&c->events);
	events_wake(c);
}

/* --- last lines of the dead --- */

/* Looks at a packet before it takes it away: killed in between, the successor sees it again. */
static bool take_lines(struct control *c, int fd)
{
	static uint8_t buf[PROTO_PACKET_MAX];
	char path[SPEC_PATH_MAX];
	struct wire_in w;
	const void *lines;
	size_t len;
	int32_t pid;
	ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT | MSG_PEEK);

	if (n <= 0)
		return false;
	wire_in_init(&w, buf, (size_t)n);
	if (wire_get_u8(&w) == KEEP_DEATH) {
		wire_get_str(&w, path, sizeof(path));
		pid = wire_get_i32(&w);
		len = wire_get_bytes(&w, &lines);
		if (!w.bad)
			history_add_lines(&c->history, path, pid, lines, len);
	}
	return recv(fd, buf, 1, MSG_DONTWAIT) >= 0;
}

static void lines_ready(struct loop_source *src, uint32_t events)
{
	int budget = LINES_BUDGET;

	(void)events;
	while (budget-- > 0 && take_lines(src->ctx, src->fd))
		;
}

/* --- supervisors --- */

static void settled(struct loop_timer *t)
{
	clients_start(t->ctx);
}

/* After a death all supervisors come back within a moment; until they have, clients wait in the
 * queue of the socket rather than be told that there is nobody. */
void control_settle(struct control *c)
{
	struct super *s;
	uint32_t n = 0;

	if (c->accepting)
		return;
	RB_FOREACH(s, supers, &c->supers)
		n++;
	if (c->history.fresh || n >= c->n->img.h->n_supervisors) {
		loop_timer_cancel(&c->loop, &c->settle);
		clients_start(c);
	}
}

static void hello_ready(struct loop_source *src, uint32_t events)
{
	(void)events;
	super_hello(src->ctx);
}

/* --- root --- */

int root_send(struct control *c, const void *buf, size_t len, const int *fds, size_t n_fds)
{
	return fds_send(c->n->fd[NODE_FD_CTL_CTL], buf, len, fds, n_fds) < 0 ? -1 : 0;
}

/* The node has ended: what has happened so far still goes to those who follow. */
static _Noreturn void leave(struct control *c)
{
	while (history_take(&c->history, c->n->fd[NODE_FD_EVENT_R]) > 0)
		event_pipe_flush(&c->events);
	events_wake(c);
	_exit(0);
}

static void root_message(struct control *c, struct wire_in *w, int *fd)
{
	switch (wire_get_u8(w)) {
	case ROOT_LISTEN:
		if (*fd >= 0)
			clients_listen(c, *fd);
		*fd = -1;
		break;
	case ROOT_RELOAD:
		reload_begin_signal(c, wire_get_u32(w));
		break;
	case ROOT_STOPPING:
		c->state = PROTO_NODE_STOPPING;
		break;
	case ROOT_RUNNING:
		if (c->state == PROTO_NODE_STARTING)
			c->state = PROTO_NODE_RUNNING;
		break;
	default:
		break;
	}
}

static void root_ready(struct loop_source *src, uint32_t events)
{
	struct control *c = src->ctx;
	uint8_t buf[4096];
	struct wire_in w;
	size_t n_fds;
	ssize_t n;
	int fd;

	(void)events;
	for (;;) {
		n = fds_recv(src->fd, buf, sizeof(buf), &fd, 1, &n_fds);
		if (n < 0 && errno == EMFILE)
			loop_pause(&c->loop, src, &c->root_pause, PAUSE_MS);
		if (n < 0 && (errno == EAGAIN || errno == EMFILE))
			return;
		if (n <= 0)
			leave(c);
		if (n_fds == 0)
			fd = -1;
		wire_in_init(&w, buf, (size_t)n);
		root_message(c, &w, &fd);
		fds_close(&fd);
	}
}

/* --- the process --- */

static void default_signals(void)
{
	sigset_t none;

	for (int sig = 1; sig <= SIGRTMAX; sig++)
		signal(sig, SIG_DFL);
	signal(SIGPIPE, SIG_IGN); /* a reader that is gone is an errno */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int fd_cmp(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

/* Closes what root has and we do not need: pipes whose end somebody waits for, the lock, .... */
static void close_others(const struct node *n)
{
	int keep[3 + 6 + 1 + NODE_SOCKETS_MAX] = {
		0, 1, 2,
		n->fd[NODE_FD_EVENT_W], n->fd[NODE_FD_EVENT_R], n->fd[NODE_FD_HELLO_R], n->fd[NODE_FD_LINES_R],
		n->fd[NODE_FD_CTL_CTL], n->fd[NODE_FD_HISTORY], n->img.fd,
	};
	size_t count = sizeof(keep) / sizeof(keep[0]);
	int next = 0;

	memcpy(keep + 10, n->sockets, sizeof(n->sockets));
	qsort(keep, count, sizeof(keep[0]), fd_cmp);
	for (size_t i = 0; i < count; i++) {
		while (next < keep[i])
			close(next++);
		if (keep[i] >= next)
			next = keep[i] + 1;
	}
	fds_close_from(next);
}

/* What is closed is not to be used by its old number. */
static void forget_others(struct node *n)
{
	for (int i = 0; i < NODE_FDS; i++)
		if (i != NODE_FD_EVENT_W && i != NODE_FD_EVENT_R && i != NODE_FD_HELLO_R && i != NODE_FD_LINES_R &&
		    i != NODE_FD_CTL_CTL && i != NODE_FD_HISTORY)
			n->fd[i] = -1;
	n->groups.dirfd = -1;
}

/* A process of its own, that ends with root and that no terminal can reach. */
static void become(struct node *n)
{
	default_signals();
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != n->root_pid)
		_exit(1);
	prctl(PR_SET_CHILD_SUBREAPER, 0);
	setsid();
	setproctitle("control %s", n->name);
	close_others(n);
	forget_others(n);
}

static int attach(struct control *c, struct loop_source *src, enum node_fd which, loop_source_f *ready)
{
	int fd = c->n->fd[which];

	if (fds_set_nonblock(fd, true) < 0)
		return -1;
	return loop_attach(&c->loop, src, fd, EPOLLIN, ready, c);
}

/* -1 with errno. */
static int open_all(struct control *c)
{
	if (loop_open(&c->loop) < 0 || history_open(&c->history, c->n->fd[NODE_FD_HISTORY]) < 0)
		return -1;
	fds_close(&c->n->fd[NODE_FD_HISTORY]);
	if (event_pipe_init(&c->events, c->n->fd[NODE_FD_EVENT_W], EVENT_QUEUE) < 0)
		return -1;
	if (attach(c, &c->event_src, NODE_FD_EVENT_R, event_ready) < 0 ||
	    attach(c, &c->lines_src, NODE_FD_LINES_R, lines_ready) < 0 ||
	    attach(c, &c->hello_src, NODE_FD_HELLO_R, hello_ready) < 0)
		return -1;
	if (talk_open(c) < 0)
		return -1;
	return attach(c, &c->root_src, NODE_FD_CTL_CTL, root_ready);
}

static void control_init(struct control *c, struct node *n)
{
	c->n = n;
	c->listen_fd = c->spare_fd = c->listen_src.fd = -1;
	c->state = PROTO_NODE_STARTING;
	TAILQ_INIT(&c->clients);
	TAILQ_INIT(&c->dead);
	TAILQ_INIT(&c->parse_queue);
	TAILQ_INIT(&c->reloads);
	RB_INIT(&c->supers);
}

_Noreturn void control_main(struct node *n)
{
	static struct control c;

	become(n);
	node_be_patient();
	control_init(&c, n);
	if (open_all(&c) < 0) {
		diag_error_errno("unable to start the control process");
		_exit(1);
	}
	reload_resume(&c);
	loop_timer_set(&c.loop, &c.settle, c.loop.now_ms + SETTLE_MS, settled, &c);
	control_settle(&c);
	for (;;) {
		if (loop_turn(&c.loop, talk_take(&c)) < 0)
			diag_panic("unable to wait for events: %s", strerror(errno));
		talk_awake();
		clients_reap(&c);
	}
}
