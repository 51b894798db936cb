/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * coppice status: a table of every child, one line each and the full path first, so that it can be
 * cut with awk; or a block about one child with its post-mortems and the end of its log. Runs in
 * the command's process.
 */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/text.h"
#include "cli/cli_call.h"
#include "cli/cli_json.h"
#include "cli/cli_log.h"
#include "cli/cli_out.h"
#include "cli/cli_tree.h"

/* --- the table --- */

/* What a line says at its end: the child's own words, else why it does not run, else what it is. */
static void put_description(FILE *f, const struct proto_child *c)
{
	char reason[COP_EXIT_FORMAT_MAX];

	if (c->status_text[0] != '\0')
		cli_put(f, c->status_text);
	else if (c->state != PROTO_ST_RUNNING && c->state != PROTO_ST_STARTING && c->has_last_exit)
		fprintf(f, "last exit %s", cop_exit_format(&c->last_exit, reason, sizeof reason));
	else if (c->type == SPEC_WORKER)
		cli_put(f, c->command);
	else
		fprintf(f, "%s, restarts left %u/%u in %u s", tree_strategy(c), c->restarts_left,
		    c->max_restarts, c->max_seconds);
}

static int path_width(const struct tree *t)
{
	size_t width = strlen("PATH"), i;
	unsigned depth = 0;

	for (i = tree_next(t, t->top, &depth); i != TREE_NONE; i = tree_next(t, i, &depth)) {
		size_t len = strlen(t->child[i].c.path);

		if (len > width)
			width = len;
	}
	return (int)width;
}

static void put_line(FILE *f, const struct proto_child *c, int width)
{
	const char *state = proto_state_name(c->state);
	char uptime[CLI_DURATION_SIZE], pid[16] = "-", path[4 * SPEC_PATH_MAX];

	if (c->pid > 0)
		snprintf(pid, sizeof pid, "%d", c->pid);
	text_escape(c->path, strlen(c->path), path, sizeof path);
	fprintf(f, "%-*s  %s%-8s%s  %7s  %11s  %8u  ", width, path, cli_colour(state), state, cli_colour_end(), pid,
	    cli_duration(c->uptime_ms, uptime), c->restarts);
	put_description(f, c);
	fputc('\n', f);
}

static void put_table(FILE *f, const struct tree *t)
{
	int width = path_width(t);
	unsigned depth = 0;
	size_t i;

	fprintf(f, "%-*s  %-8s  %7s  %11s  %8s  %s\n", width, "PATH", "STATE", "PID", "UPTIME", "RESTARTS",
	    "DESCRIPTION");
	for (i = tree_next(t, t->top, &depth); i != TREE_NONE; i = tree_next(t, i, &depth))
		put_line(f, &t->child[i].c, width);
}

/* --- the block --- */

static void put_key(FILE *f, const char *key)
{
	fprintf(f, "%-12s : ", key);
}

static void put_shutdown(FILE *f, int32_t ms)
{
	put_key(f, "Shutdown");
	if (ms == SUP_SHUTDOWN_INFINITY)
		fputs("infinity\n", f);
	else if (ms == SUP_SHUTDOWN_BRUTAL)
		fputs("brutal_kill\n", f);
	else
		fprintf(f, "%d ms\n", ms);
}

static void put_supervisor(FILE *f, const struct tree *t, const struct proto_child *c)
{
	size_t i, n = 0, running = 0;

	put_key(f, "Strategy");
	fprintf(f, "%s\n", tree_strategy(c));
	put_key(f, "Budget");
	fprintf(f, "restarts left %u/%u in %u s\n", c->restarts_left, c->max_restarts, c->max_seconds);
	if (c->auto_shutdown != SUP_AUTO_NEVER) {
		put_key(f, "Auto shutdown");
		fprintf(f, "%s\n", spec_auto_shutdown_name(c->auto_shutdown));
	}
	for (i = t->child[t->top].first; i != TREE_NONE; i = t->child[i].next, n++)
		running += t->child[i].c.state == PROTO_ST_RUNNING;
	put_key(f, "Children");
	fprintf(f, "%zu, %zu running", n, running);
	if (c->type == SPEC_DYNAMIC_SUPERVISOR && c->max_children != SUP_NO_LIMIT)
		fprintf(f, ", at most %u", c->max_children);
	fputc('\n', f);
}

static void put_text_key(FILE *f, const char *key, const char *value)
{
	if (value[0] == '\0')
		return;
	put_key(f, key);
	cli_put(f, value);
	fputc('\n', f);
}

static void put_process(FILE *f, const struct proto_child *c)
{
	char buf[CLI_DURATION_SIZE];

	put_key(f, "PID");
	if (c->pid > 0)
		fprintf(f, "%d\n", c->pid);
	else
		fputs("-\n", f);
	put_key(f, "Uptime");
	fprintf(f, "%s\n", cli_duration(c->uptime_ms, buf));
	put_key(f, "Restarts");
	fprintf(f, "%u\n", c->restarts);
}

static void put_facts(FILE *f, const struct tree *t)
{
	const struct proto_child *c = &t->child[t->top].c;
	const char *state = proto_state_name(c->state);
	char reason[COP_EXIT_FORMAT_MAX];

	put_text_key(f, "Path", c->path);
	put_key(f, "Type");
	fprintf(f, "%s%s\n", spec_type_name(c->type), c->dynamic ? ", added at run time" : "");
	put_key(f, "Status");
	fprintf(f, "%s%s%s\n", cli_colour(state), state, cli_colour_end());
	put_text_key(f, "Message", c->status_text);
	if (c->type == SPEC_WORKER)
		put_text_key(f, "Command", c->command);
	else
		put_supervisor(f, t, c);
	put_process(f, c);
	put_key(f, "Restart type");
	fprintf(f, "%s%s\n", spec_restart_name(c->restart), c->significant ? ", significant" : "");
	put_shutdown(f, c->shutdown_ms);
	put_key(f, "Last exit");
	fprintf(f, "%s\n", c->has_last_exit ? cop_exit_format(&c->last_exit, reason, sizeof reason) : "-");
}

/* Lines of a death's record, each below its head. */
static void put_last_lines(FILE *f, const char *lines)
{
	const char *end;

	for (; *lines != '\0'; lines = *end != '\0' ? end + 1 : end) {
		char buf[4 * sizeof(((struct proto_death *)0)->lines)];

		end = lines + strcspn(lines, "\n");
		fprintf(f, "    | %s\n", cli_escape(lines, (size_t)(end - lines), buf, sizeof buf));
	}
}

static void put_death(FILE *f, const struct proto_death *d, const char *path)
{
	char iso[CLOCK_ISO_SIZE], reason[COP_EXIT_FORMAT_MAX];

	fprintf(f, "  %s  %s", clock_iso(d->time_us, iso), cop_exit_format(&d->reason, reason, sizeof reason));
	if (d->reason.kind == COP_EXIT_EXEC && d->reason.text[0] != '\0') {
		fputs(" at ", f);
		cli_put(f, d->reason.text);
	}
	if (strcmp(d->path, path) != 0) {
		fputs(" of ", f);
		cli_put(f, d->path);
	}
	if (d->pid > 0)
		fprintf(f, ", pid %d", d->pid);
	fprintf(f, ", ran %llu.%03u s%s\n", (unsigned long long)(d->ran_ms / 1000), (unsigned)(d->ran_ms % 1000),
	    d->asked ? ", asked" : "");
	if (d->restarted[0] != '\0') {
		fputs("    restarted with it: ", f);
		cli_put(f, d->restarted);
		fputc('\n', f);
	}
	put_last_lines(f, d->lines);
}

static void put_deaths(FILE *f, const struct tree *t)
{
	size_t i;

	if (t->n_deaths > 0)
		fputs("Last exits   :\n", f);
	for (i = 0; i < t->n_deaths; i++)
		put_death(f, &t->death[i], t->child[t->top].c.path);
}

/* --- the command --- */

static int status_all(const struct cli_args *a)
{
	struct tree t;
	int status = tree_get(&t, a, "/");

	if (status == 0 && a->json)
		json_node(stdout, &t);
	else if (status == 0 && !a->quiet)
		put_table(stdout, &t);
	tree_fini(&t);
	return status;
}

static void put_one(const struct cli_args *a, const struct tree *t)
{
	const struct proto_child *c = &t->child[t->top].c;

	if (a->json) {
		json_one(stdout, t);
		return;
	}
	if (a->quiet)
		return;
	put_facts(stdout, t);
	put_deaths(stdout, t);
	if (c->type == SPEC_WORKER)
		log_excerpt(a, c->path, stdout);
}

static int status_one(const struct cli_args *a, const char *path)
{
	struct tree t;
	int status = tree_get(&t, a, path);

	if (status == 0) {
		put_one(a, &t);
		status = t.child[t.top].c.state == PROTO_ST_RUNNING ? CLI_OK : CLI_NOT_RUNNING;
	}
	tree_fini(&t);
	return status;
}

int cli_status(const struct cli_args *a)
{
	return a->n_operands == 0 ? status_all(a) : status_one(a, a->operands[0]);
}
