/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The answer to a status request, as a tree in memory: records come flat and are linked once,
 * in O(n log n).
 */
#ifndef CLI_CLI_TREE_H
#define CLI_CLI_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cli/cli.h"
#include "node/proto.h"

#define TREE_NONE SIZE_MAX /* no record */

struct tree_child {
	struct proto_child c;
	size_t parent, first, next; /* indexes of records, TREE_NONE */
};

struct tree {
	bool has_node;
	struct proto_node node;
	struct tree_child *child;    /* n records, in the order in which they came */
	size_t n, cap;
	struct proto_death *death;   /* n_deaths records, newest first */
	size_t n_deaths, cap_deaths;
	size_t top;                  /* the record that was asked for, TREE_NONE */
};

/* Asks the node for path ("/": all) and links the answer. Returns an exit status; whatever is not 0
 * has been said. The tree must be freed by tree_fini() in any case. */
int tree_get(struct tree *t, const struct cli_args *a, const char *path);
void tree_fini(struct tree *t);

/* Takes one record; call_frame_f. */
void tree_frame(void *tree, int kind, struct wire_in *body);
/* Links the records that came to the tree below path. */
void tree_link(struct tree *t, const char *path);

/* The record after i when the tree is walked from its top, parents first; *depth goes along. */
size_t tree_next(const struct tree *t, size_t i, unsigned *depth);
/* The last part of a path. */
const char *tree_id(const char *path);

/* What people are shown as a supervisor's strategy: "dynamic" for those that have no other choice. */
const char *tree_strategy(const struct proto_child *c);

#endif
