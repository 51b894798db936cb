/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* The JSON of INTERFACE.md section 3. */
#ifndef CLI_CLI_JSON_H
#define CLI_CLI_JSON_H

#include <stdio.h>

#include "cli/cli_tree.h"

/* Writes the node with its whole tree, and a newline. */
void json_node(FILE *f, const struct tree *t);
/* Writes the object of the tree's top alone, with its deaths as "exits", and a newline. */
void json_one(FILE *f, const struct tree *t);

#endif
