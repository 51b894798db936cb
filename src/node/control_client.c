/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Connections to the control socket. Hides everything that a client can do with a socket: connect
 * and say nothing, send half a request, a huge one or ten at once, close one direction, never
 * read. Who a client is was decided by the kernel when it connected; a request is handed on when
 * it is there whole; frames go out as fast as the client takes them, from a buffer with a limit.
 *
 * Regime: a client's buffers grow with what it sends and is sent, up to limits for each and for
 * all; one that exceeds them, or for which there is no memory, is closed. A client is freed
 * outside of all callbacks (clients_reap()), so that nobody holds a stale pointer.
 */
#include "node/control_client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fds.h"

#define REQUEST_MS 5000          /* for a request to come whole */
#define TAKE_MS 5000             /* for a client to take some of its answer */
#define OUT_CLIENT_MAX (16u << 20)
#define OUT_ALL_MAX (64u << 20)
#define HEAD sizeof(uint32_t)

static void client_ready(struct loop_source *src, uint32_t events);
static void client_late(struct loop_timer *t);

/* --- life --- */

struct client *client_open(struct control *c, int fd)
{
	struct client *cl = calloc(1, sizeof(*cl));

	if (cl == NULL)
		return NULL;
	cl->ctl = c;
	cl->fresh_ms = cl->progress_ms = c->loop.now_ms;
	if (loop_attach(&c->loop, &cl->src, fd, EPOLLIN, client_ready, cl) < 0) {
		free(cl);
		return NULL;
	}
	cl->fd = fd;
	TAILQ_INSERT_TAIL(&c->clients, cl, entry);
	c->n_clients++;
	return cl;
}

/* Closes at once, frees later. */
void client_kill(struct client *cl)
{
	struct control *c = cl->ctl;

	if (cl->dead)
		return;
	cl->dead = true;
	loop_detach(&c->loop, &cl->src);
	loop_timer_cancel(&c->loop, &cl->timer);
	/* A parser forked meanwhile has a copy; the client must see the end all the same. */
	shutdown(cl->fd, SHUT_RDWR);
	fds_close(&cl->fd);
	TAILQ_REMOVE(&c->clients, cl, entry);
	TAILQ_INSERT_TAIL(&c->dead, cl, entry);
	c->n_clients--;
}

static void client_free(struct client *cl)
{
	struct request *r = cl->request;

	cl->request = NULL;
	if (r != NULL)
		r->cancel(r);
	cl->ctl->out_bytes -= cl->out_cap;
	free(cl->in);
	free(cl->out);
	free(cl);
}

void clients_reap(struct control *c)
{
	struct client *cl;

	while ((cl = TAILQ_FIRST(&c->dead)) != NULL) {
		TAILQ_REMOVE(&c->dead, cl, entry);
		client_free(cl);
	}
}

struct control *client_control(const struct client *cl)
{
	return cl->ctl;
}

/* --- what it is waited for --- */

/* A client without a request has a deadline for sending one, a client with an answer one for taking
 * it; one that waits for us has none. */
static int64_t deadline_of(const struct client *cl)
{
	if (client_unsent(cl) > 0 && (cl->request == NULL || !cl->request->is_stream))
		return cl->progress_ms + TAKE_MS;
	if (cl->request == NULL)
		return cl->fresh_ms + REQUEST_MS;
	return -1;
}

static void update(struct client *cl)
{
	struct control *c = cl->ctl;
	int64_t deadline = deadline_of(cl);
	uint32_t events = 0;

	if (cl->dead)
		return;
	if (cl->request == NULL && !cl->eof && !cl->closing)
		events |= EPOLLIN;
	if (client_unsent(cl) > 0)
		events |= EPOLLOUT;
	if (loop_modify(&c->loop, &cl->src, events) < 0) {
		client_kill(cl);
		return;
	}
	if (deadline < 0)
		loop_timer_cancel(&c->loop, &cl->timer);
	else if (!cl->timer.armed || cl->timer.at_ms != deadline)
		loop_timer_set(&c->loop, &cl->timer, deadline, client_late, cl);
}

static void client_late(struct loop_timer *t)
{
	client_kill(t->ctx);
}

/* --- out --- */

size_t client_unsent(const struct client *cl)
{
	return cl->out_len - cl->out_pos;
}

/* Makes room for more bytes behind out_len. */
static bool out_reserve(struct client *cl, size_t more)
{
	size_t unsent = client_unsent(cl), cap = cl->out_cap > 0 ? cl->out_cap : 4096;
	uint8_t *buf;

	if (cl->out_pos > 0 && cl->out_len + more > cl->out_cap) {
		memmove(cl->out, cl->out + cl->out_pos, unsent);
		cl->out_len = unsent;
		cl->out_pos = 0;
	}
	if (cl->out_len + more <= cl->out_cap)
		return true;
	while (cap < cl->out_len + more)
		cap *= 2;
	if (cap > OUT_CLIENT_MAX || cl->ctl->out_bytes - cl->out_cap + cap > OUT_ALL_MAX)
		return false;
	buf = realloc(cl->out, cap);
	if (buf == NULL)
		return false;
	cl->ctl->out_bytes += cap - cl->out_cap;
	cl->out = buf;
	cl->out_cap = cap;
	return true;
}

/* An idle connection costs no buffer. */
static void out_release(struct client *cl)
{
	cl->ctl->out_bytes -= cl->out_cap;
	free(cl->out);
	cl->out = NULL;
	cl->out_pos = cl->out_len = cl->out_cap = 0;
}

bool frame_begin(struct client *cl, struct wire_out *w, uint8_t kind, size_t max)
{
	if (!cl->dead && !out_reserve(cl, HEAD + 1 + max))
		client_kill(cl);
	if (cl->dead)
		return false;
	wire_out_init(w, cl->out + cl->out_len, HEAD + 1 + max);
	wire_put_u32(w, 0);
	wire_put_u8(w, kind);
	return true;
}

void frame_end(struct client *cl, struct wire_out *w)
{
	uint32_t len = (uint32_t)(w->len - HEAD);

	if (w->overflow) {
		client_kill(cl); /* half a frame would spoil all that follow */
		return;
	}
	memcpy(w->buf, &len, sizeof(len));
	if (client_unsent(cl) == 0)
		cl->progress_ms = cl->ctl->loop.now_ms;
	cl->out_len += w->len;
}

void frame_text(struct client *cl, uint8_t kind, const char *text)
{
	struct wire_out w;

	if (!frame_begin(cl, &w, kind, strlen(text) + 8))
		return;
	wire_put_str(&w, text);
	frame_end(cl, &w);
}

/* Sends until the socket is full. */
static void send_some(struct client *cl)
{
	while (!cl->dead && client_unsent(cl) > 0) {
		ssize_t n = send(cl->fd, cl->out + cl->out_pos, client_unsent(cl), MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0) {
			cl->out_pos += (size_t)n;
			cl->progress_ms = cl->ctl->loop.now_ms;
		} else if (n < 0 && errno == EAGAIN) {
			return;
		} else if (n < 0 && errno != EINTR) {
			client_kill(cl);
		}
	}
}

void client_flush(struct client *cl)
{
	send_some(cl);
	if (cl->dead)
		return;
	if (client_unsent(cl) == 0) {
		out_release(cl);
		if (cl->request == NULL && cl->closing)
			client_kill(cl);
	}
	update(cl);
}

/* --- requests --- */

void client_wait(struct client *cl, struct request *r)
{
	r->client = cl;
	cl->request = r;
}

static void put_end(struct client *cl, int status, const char *text)
{
	struct wire_out w;

	if (!frame_begin(cl, &w, PROTO_END, CONTROL_TEXT_MAX + 16))
		return;
	wire_put_u8(&w, (uint8_t)status);
	wire_put_str(&w, text);
	frame_end(cl, &w);
}

static void __attribute__((format(printf, 3, 0)))
end_request(struct client *cl, int status, const char *fmt, va_list ap)
{
	char text[CONTROL_TEXT_MAX];

	vsnprintf(text, sizeof(text), fmt, ap);
	put_end(cl, status, text);
	cl->request = NULL;
	cl->fresh_ms = cl->ctl->loop.now_ms;
}

/* Says why nothing more is read from this client. */
static void __attribute__((format(printf, 2, 3))) refuse(struct client *cl, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	end_request(cl, END_USAGE, fmt, ap);
	va_end(ap);
	cl->closing = true;
	cl->in_len = 0;
}

/* Bytes of the frame at the front of the input, with its head; 0: it is not all there. */
static size_t whole_frame(struct client *cl)
{
	uint32_t len;

	if (cl->in_len < HEAD)
		return 0;
	memcpy(&len, cl->in, sizeof(len));
	if (len == 0 || len > PROTO_REQUEST_MAX) {
		refuse(cl, "a request has 1 to %d bytes, not %lu", PROTO_REQUEST_MAX, (unsigned long)len);
		return 0;
	}
	return cl->in_len >= HEAD + len ? HEAD + len : 0;
}

/* Serves what is there, one request after the other. */
static void advance(struct client *cl)
{
	size_t len;

	cl->advancing = true;
	while (!cl->dead && cl->request == NULL && !cl->closing && (len = whole_frame(cl)) > 0) {
		request_dispatch(cl->ctl, cl, cl->in + HEAD, len - HEAD);
		memmove(cl->in, cl->in + len, cl->in_len - len);
		cl->in_len -= len;
	}
	cl->advancing = false;
	if (cl->eof && cl->request == NULL && !cl->closing) {
		if (cl->in_len > 0)
			refuse(cl, "the request is not complete");
		cl->closing = true;
	}
	client_flush(cl);
}

void client_end(struct client *cl, int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	end_request(cl, status, fmt, ap);
	va_end(ap);
	if (!cl->advancing) /* else it goes on by itself */
		advance(cl);
}

/* --- in --- */

/* Makes room for the rest of the frame that is coming, or for its head. */
static bool in_reserve(struct client *cl)
{
	size_t want = 512;
	uint32_t len;
	uint8_t *buf;

	if (cl->in_len >= HEAD) {
		memcpy(&len, cl->in, sizeof(len));
		want = HEAD + (len <= PROTO_REQUEST_MAX ? len : 0) + 512;
	}
	if (cl->in_cap >= want)
		return true;
	buf = realloc(cl->in, want);
	if (buf == NULL)
		return false;
	cl->in = buf;
	cl->in_cap = want;
	return true;
}

/* Reads until there is no more, or there is something to do first. */
static void receive(struct client *cl)
{
	while (!cl->dead && !cl->eof && !cl->closing && cl->request == NULL) {
		ssize_t n;

		if (!in_reserve(cl)) {
			client_kill(cl);
			return;
		}
		n = recv(cl->fd, cl->in + cl->in_len, cl->in_cap - cl->in_len, MSG_DONTWAIT);
		if (n > 0)
			cl->in_len += (size_t)n;
		else if (n == 0)
			cl->eof = true;
		else if (errno == EAGAIN)
			break;
		else if (errno != EINTR)
			client_kill(cl);
		advance(cl);
	}
}

static void client_ready(struct loop_source *src, uint32_t events)
{
	struct client *cl = src->ctx;

	if (events & EPOLLIN)
		receive(cl);
	else if (events & (EPOLLHUP | EPOLLERR))
		client_kill(cl);
	if (cl->dead || !(events & EPOLLOUT))
		return;
	client_flush(cl);
	if (!cl->dead && cl->request != NULL && cl->request->more != NULL)
		cl->request->more(cl->request);
}

void client_serve(struct client *cl)
{
	receive(cl);
	update(cl);
}
