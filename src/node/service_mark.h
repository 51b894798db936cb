/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Marks in a log pipe (proto.h): where the output of one process ends and that of the next
 * begins. Written without ever waiting, although the pipe is a blocking one that the child
 * shares. Linux only; never allocates.
 */
#ifndef NODE_SERVICE_MARK_H
#define NODE_SERVICE_MARK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <coppice/exit.h>
#include "node/node.h"

/* One mark, or two in their order. */
struct service_marks {
	char text[2 * PROTO_MARK_MAX];
	size_t len; /* 0: none */
};

/* Adds the start mark of the calling process. */
void service_mark_start(struct service_marks *m, const struct node *n);
/* Adds the exit mark of a process that is gone. */
void service_mark_exit(struct service_marks *m, const struct node *n, pid_t pid, uint64_t ran_ms,
    const struct cop_exit *reason);

/* Writes them, together or not at all, through a private pipe that is empty before and after. False if there
 * was no room: then the private pipe is not to be used again. Raw system calls only. */
bool service_marks_send(const struct service_marks *m, const int pipe[2], int log);
/* The same with a pipe that is made for it. */
bool service_marks_send_once(const struct service_marks *m, int log);

#endif
