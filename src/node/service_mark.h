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
#include <stdint.h>
#include <sys/types.h>

#include <coppice/exit.h>
#include "node/node.h"

/* Writes the start mark of the calling process; async-signal-safe. False if there was no room. */
bool service_mark_start(const struct node *n, int log);

/* Writes the exit mark of a process that is gone. False if there was no room. */
bool service_mark_exit(const struct node *n, int log, pid_t pid, uint64_t ran_ms, const struct cop_exit *reason);

#endif
