/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The companion of an executable that is a JSON server (coppice-server(7)): a process of the node that has
 * the server's name, speaks JSON lines with the executable's standard input and output, and messages
 * with everybody else. Forked by the supervisor before the executable. The executable may stall, flood or
 * write garbage: it harms its companion at most, and that is its own.
 *
 * Regime: allocates as lines and messages need it, up to limits; without memory it ends, and the
 * supervisor starts both again.
 */
#ifndef NODE_BRIDGE_H
#define NODE_BRIDGE_H

#include <stdint.h>

#include "node/node.h"

struct bridge_setup {
	const struct node *node;
	uint64_t member;      /* claimed, and named */
	const char *path, *name; /* name NULL: none */
	int to_worker, from_worker; /* non-blocking */
	int order;            /* one struct cop_exit: the worker is dead, and this was its reason */
	int log;              /* -1: as the supervisor's standard error, or null */
	bool log_null;
};

/* In the forked process: becomes the companion. */
_Noreturn void bridge_main(const struct bridge_setup *setup);

#endif
