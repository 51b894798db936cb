/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * coppice map --node: what runs for each item is `coppice task`, and the command is in the node's tree. Map itself
 * knows nothing of nodes.
 */
#include "cli/cli_map.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/diag.h"
#include "cli/cli.h"
#include "cli/cli_tree.h"
#include "map/map.h"

/* Before anything is read: the node is there, and can take what we are going to give it. */
static bool takes_tasks(const char *node, const char *supervisor)
{
	struct cli_args a = { .seen = CLI_OPT_NODE, .node = node, .command = "map", .timeout_ms = -1 };
	bool takes = false;
	struct tree t;

	if (tree_get(&t, &a, supervisor) == 0 && t.top != TREE_NONE) {
		takes = t.child[t.top].c.type == SPEC_DYNAMIC_SUPERVISOR;
		if (!takes)
			diag_error("map: %s of node %s is not a dynamic supervisor", supervisor, node);
	}
	tree_fini(&t);
	return takes;
}

int cli_map_under_node(struct map_options *o, const char *node, const char *supervisor)
{
	static char self[PATH_MAX];
	static const char **words; /* until the end of the process */
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
	size_t k = 0;

	words = calloc(o->n_cmd + 7, sizeof *words);
	if (!words || n < 0) {
		diag_error_errno("map: unable to begin");
		return MAP_BROKEN;
	}
	if (!takes_tasks(node, supervisor))
		return MAP_BROKEN;
	words[k++] = self;
	words[k++] = "task";
	words[k++] = "--node";
	words[k++] = node;
	words[k++] = supervisor;
	words[k++] = "--";
	memcpy(words + k, o->cmd, o->n_cmd * sizeof *words);
	o->cmd = (char *const *)(uintptr_t)words;
	o->n_cmd += k;
	o->tells_stop = true;
	return 0;
}
