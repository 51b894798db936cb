/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A client's end of the control socket (node/proto.h): connect, check who listens there, send one
 * request, take its frames one by one. Every wait ends at one deadline. What the node sends is
 * bounded before it is kept.
 */
#ifndef CLI_CLI_CLIENT_H
#define CLI_CLI_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/wire.h"
#include "node/proto.h"

#define CLIENT_NO_DEADLINE (-1)
#define CLIENT_PATH_MAX 4352

struct client {
	int fd;              /* -1: not connected */
	struct ucred peer;   /* who listens: root of the node; pid 0 if it is in another namespace */
	int64_t deadline_ms; /* clock_mono_ms(), or CLIENT_NO_DEADLINE */
	char path[CLIENT_PATH_MAX]; /* of the socket, "" */
	uint8_t *buf;        /* frames that came: buf[pos..len) */
	size_t pos, len, cap;
};

void client_init(struct client *c, int64_t deadline_ms);
/* Closes and frees; safe on one that never was connected. */
void client_fini(struct client *c);

/* Takes over a connected stream socket and asks the kernel who is at the other end. 0 or -1. */
int client_adopt(struct client *c, int fd);
/* Connects to the socket at path, of any length. wait: wait for room in its queue until the
 * deadline, else EAGAIN. Returns 0, or -1 with errno: ENOENT or ECONNREFUSED when nobody listens. */
int client_connect(struct client *c, const char *path, bool wait);
/* Tells whether the listener's user is one whom this process believes: itself, root, and (for
 * root, who looks in other users' directories) owner. */
bool client_trusts(const struct client *c, uid_t owner);

/* A request under construction; buf has PROTO_REQUEST_MAX bytes and is owned. */
struct request {
	uint8_t *buf;
	struct wire_out w;
};
/* Begins a request of this verb (enum proto_verb); its arguments are then put into w. */
void request_init(struct request *r, uint8_t verb, uint32_t flags);
void request_fini(struct request *r);

/* Sends it. Returns 0, or -1 with errno: EMSGSIZE if it is too long, ETIMEDOUT, EPIPE when the
 * node has closed (it may still have said why). */
int client_send(struct client *c, struct request *r);

/* Waits for the next frame. Returns its kind, body_r behind it, valid until the next call; 0 when the
 * node has closed; -1 with errno: ETIMEDOUT, EBADMSG. Flushes standard output before it sleeps. */
int client_next(struct client *c, struct wire_in *body_r);

/* Reads a string of the message into buf, escaped and cut to fit. */
void client_get_text(struct wire_in *w, char *buf, size_t size);

#endif
