/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Who gets a connection. Hides the three shortages: no descriptor (a spare one is given up for
 * the moment it takes to turn a client away, so that the queue never makes us spin), no room
 * among the clients (whoever has sat there longest without a request makes room; requests that
 * do not end by themselves never take the last places), and no right (the kernel says who
 * connected; only the node's own user and root stay).
 *
 * Regime: as control_client.c.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fds.h"
#include "node/control_client.h"

#define CLIENTS_MAX 64
#define CLIENTS_LONG_MAX 56 /* the other 8 are for requests that finish */
#define ACCEPT_BUDGET 32    /* connections in one turn */
#define PAUSE_MS 100        /* without accept when not even the spare descriptor helps */

static void listen_ready(struct loop_source *src, uint32_t events);

static void open_spare(struct control *c)
{
	if (c->spare_fd < 0)
		c->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* --- the listening socket --- */

static void watch(struct control *c)
{
	if (c->accepting && c->listen_fd >= 0 && c->listen_src.fd < 0)
		(void)loop_attach(&c->loop, &c->listen_src, c->listen_fd, EPOLLIN, listen_ready, c);
}

static void pause_over(struct loop_timer *t)
{
	struct control *c = t->ctx;

	open_spare(c);
	watch(c);
}

static void pause_accept(struct control *c)
{
	loop_detach(&c->loop, &c->listen_src);
	loop_timer_set(&c->loop, &c->accept_pause, c->loop.now_ms + PAUSE_MS, pause_over, c);
}

void clients_listen(struct control *c, int fd)
{
	loop_detach(&c->loop, &c->listen_src);
	fds_close(&c->listen_fd);
	c->listen_fd = fd;
	watch(c);
}

void clients_start(struct control *c)
{
	c->accepting = true;
	open_spare(c);
	watch(c);
}

void clients_stop(struct control *c)
{
	c->accepting = false;
	loop_detach(&c->loop, &c->listen_src);
}

/* --- rights and room --- */

/* Unsigned, and without a default: uid -1 is nobody's. */
static bool may_steer(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || len != sizeof(peer))
		return false;
	if (peer.uid == (uid_t)-1)
		return false;
	return peer.uid == 0 || peer.uid == geteuid();
}

bool clients_room_for_long(const struct control *c)
{
	const struct client *cl;
	unsigned n = 0;

	TAILQ_FOREACH(cl, &c->clients, entry)
		n += cl->request != NULL && cl->request->is_long;
	return n < CLIENTS_LONG_MAX;
}

/* The one that can best be done without: idle longest, else stuck longest. */
static struct client *least_needed(struct control *c)
{
	struct client *cl, *stuck = NULL;

	TAILQ_FOREACH(cl, &c->clients, entry) {
		if (cl->request == NULL && client_unsent(cl) == 0)
			return cl;
		if (client_unsent(cl) > 0 && (stuck == NULL || cl->progress_ms < stuck->progress_ms))
			stuck = cl;
	}
	return stuck;
}

static bool make_room(struct control *c)
{
	struct client *cl;

	if (c->n_clients < CLIENTS_MAX)
		return true;
	cl = least_needed(c);
	if (cl != NULL)
		client_kill(cl);
	return cl != NULL;
}

static void admit(struct control *c, int fd)
{
	struct client *cl;

	if (!may_steer(fd) || !make_room(c)) {
		close(fd);
		return;
	}
	cl = client_open(c, fd);
	if (cl == NULL)
		close(fd);
	else
		client_serve(cl);
}

/* --- accept --- */

static int accept_one(struct control *c)
{
	return accept4(c->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

/* Turns one client away with the help of the spare descriptor. */
static bool turn_away(struct control *c)
{
	int fd;

	if (c->spare_fd < 0)
		return false;
	fds_close(&c->spare_fd);
	fd = accept_one(c);
	fds_close(&fd);
	open_spare(c);
	return c->spare_fd >= 0;
}

static void listen_ready(struct loop_source *src, uint32_t events)
{
	struct control *c = src->ctx;

	(void)events;
	for (int budget = ACCEPT_BUDGET; budget > 0 && src->fd >= 0; budget--) {
		int fd = accept_one(c);

		if (fd >= 0) {
			admit(c, fd);
		} else if (errno == EMFILE || errno == ENFILE) {
			if (!turn_away(c))
				pause_accept(c);
		} else if (errno == EAGAIN) {
			return;
		} else if (errno != EINTR && errno != ECONNABORTED) {
			pause_accept(c);
		}
	}
}
