/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A node that is none: a process that listens on a control socket and answers as the test says,
 * and the command run against it with its output caught.
 */
#ifndef UNIT_FAKE_NODE_H
#define UNIT_FAKE_NODE_H

#include <stdint.h>
#include <sys/types.h>

#include "base/wire.h"
#include "node/proto.h"

struct fake {
	char dir[64];
	char path[96];   /* of its socket */
	pid_t pid;
};

/* One request, as the answering function sees it. */
struct fake_request {
	int fd;          /* the connection; closed when the function returns */
	unsigned n;      /* connections before this one */
	uint8_t verb;
	uint32_t flags;
	struct wire_in args;
};

/* Answers one connection, in the fake's process. */
typedef void fake_answer_f(struct fake_request *r);

/* Makes the socket in a directory of its own and starts to answer. COPPICE_SOCKET leads there. */
void fake_start(struct fake *f, fake_answer_f *answer);
/* As fake_start(), with a listener of another user. */
void fake_start_as(struct fake *f, fake_answer_f *answer, uid_t uid);
void fake_stop(struct fake *f);

/* Frames of an answer. */
void fake_send(int fd, const struct wire_out *body);
void fake_node(int fd);
void fake_end(int fd, uint8_t status, const char *message);
void fake_text(int fd, uint8_t kind, const char *text);
void fake_child(int fd, const struct proto_child *c);
/* A running worker, or a supervisor with its default budget; to be varied. */
struct proto_child fake_worker(const char *path, uint32_t order);
struct proto_child fake_supervisor(const char *path, uint32_t order);

struct ran {
	int status;
	char out[1 << 16];
	char err[4096];
};

/* Runs `coppice WORDS...`, blank-separated, with its output caught. */
void run_coppice(struct ran *r, const char *words);

#endif
