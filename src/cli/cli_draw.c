/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * coppice tree: the supervision tree, drawn with lines where the locale's character set is UTF-8
 * and with ASCII elsewhere. Runs in the command's process.
 */
#include "cli/cli.h"

#include <langinfo.h>
#include <locale.h>
#include <string.h>

#include "cli/cli_json.h"
#include "cli/cli_out.h"
#include "cli/cli_tree.h"

struct pencil {
	const char *branch, *last, *trunk, *gap;
};

static const struct pencil utf8 = { "├─ ", "└─ ", "│  ", "   " };
static const struct pencil ascii = { "|- ", "`- ", "|  ", "   " };

static const struct pencil *choose_pencil(void)
{
	/* Only this command looks at the locale, and only here. */
	return setlocale(LC_CTYPE, "") && strcmp(nl_langinfo(CODESET), "UTF-8") == 0 ? &utf8 : &ascii;
}

/* The lines that lead to record i: of all its ancestors below the top, then its own. */
static void put_lines(FILE *f, const struct pencil *p, const struct tree *t, size_t i)
{
	size_t up[SPEC_PATH_MAX], n = 0, k;

	for (k = i; k != t->top && n < SPEC_PATH_MAX; k = t->child[k].parent)
		up[n++] = k;
	while (n-- > 0) {
		bool more = t->child[up[n]].next != TREE_NONE;

		if (n > 0)
			fputs(more ? p->trunk : p->gap, f);
		else
			fputs(more ? p->branch : p->last, f);
	}
}

static void put_node(FILE *f, const struct tree *t)
{
	char uptime[CLI_DURATION_SIZE];

	cli_put(f, t->node.node);
	fprintf(f, " (pid %d, %s, up %s)\n", t->node.pid, proto_node_state_name(t->node.state),
	    cli_duration(t->node.uptime_ms, uptime));
}

static void put_child(FILE *f, const struct proto_child *c)
{
	const char *state = proto_state_name(c->state);
	char reason[COP_EXIT_FORMAT_MAX];

	cli_put(f, tree_id(c->path));
	fprintf(f, "  %s%s%s", cli_colour(state), state, cli_colour_end());
	if (c->pid > 0)
		fprintf(f, "  pid %d", c->pid);
	if (c->type != SPEC_WORKER)
		fprintf(f, "  %s, restarts left %u/%u in %u s",
		    tree_strategy(c),
		    c->restarts_left, c->max_restarts, c->max_seconds);
	else if (c->restarts > 0)
		fprintf(f, "  restarted %u time%s", c->restarts, c->restarts == 1 ? "" : "s");
	if (c->state != PROTO_ST_RUNNING && c->state != PROTO_ST_STARTING && c->has_last_exit)
		fprintf(f, "  last exit %s", cop_exit_format(&c->last_exit, reason, sizeof reason));
	fputc('\n', f);
}

static void draw(FILE *f, const struct tree *t)
{
	const struct pencil *p = choose_pencil();
	unsigned depth = 0;
	size_t i;

	put_node(f, t);
	for (i = t->top; i != TREE_NONE; i = tree_next(t, i, &depth)) {
		put_lines(f, p, t, i);
		put_child(f, &t->child[i].c);
	}
}

int cli_tree(const struct cli_args *a)
{
	struct tree t;
	int status = tree_get(&t, a, "/");

	if (status == 0 && a->json)
		json_node(stdout, &t);
	else if (status == 0 && !a->quiet)
		draw(stdout, &t);
	tree_fini(&t);
	return status;
}
