/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Which node a command means: --socket, else COPPICE_SOCKET, else --node, else the one node
 * that runs for this user.
 */
#ifndef CLI_CLI_FIND_H
#define CLI_CLI_FIND_H

#include "cli/cli.h"
#include "cli/cli_client.h"

/* Connects c (after client_init()) to the node that is meant. Returns 0, or an exit status after
 * saying why: 3 when none runs, 2 when it is not clear which, 1 for the rest. */
int find_node(struct client *c, const struct cli_args *a);

#endif
