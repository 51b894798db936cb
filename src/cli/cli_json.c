/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Status as JSON. Keys may be added here and never taken away or renamed: programs read them.
 * Recursion is bounded by the length of a path. Runs in the command's process.
 */
#include "cli/cli_json.h"

#include <string.h>

#include "base/clock.h"
#include "base/text.h"
#include "cli/cli_out.h"

static void put_bool(FILE *f, const char *key, bool v)
{
	fprintf(f, ",\"%s\":%s", key, v ? "true" : "false");
}

static void put_reason(FILE *f, const char *key, const struct cop_exit *reason)
{
	char buf[COP_EXIT_FORMAT_MAX];

	cli_json_str(f, false, key, cop_exit_format(reason, buf, sizeof buf));
}

static void put_shutdown(FILE *f, int32_t ms)
{
	if (ms == SUP_SHUTDOWN_INFINITY)
		cli_json_str(f, false, "shutdown", "infinity");
	else if (ms == SUP_SHUTDOWN_BRUTAL)
		cli_json_str(f, false, "shutdown", "brutal_kill");
	else
		cli_json_int(f, "shutdown", true, ms);
}

static void put_supervisor(FILE *f, const struct proto_child *c)
{
	cli_json_str(f, false, "strategy", spec_strategy_name(c->strategy));
	cli_json_int(f, "max_restarts", true, c->max_restarts);
	cli_json_int(f, "max_seconds", true, c->max_seconds);
	cli_json_int(f, "restarts_left", true, c->restarts_left);
	cli_json_str(f, false, "auto_shutdown", spec_auto_shutdown_name(c->auto_shutdown));
	if (c->type == SPEC_DYNAMIC_SUPERVISOR)
		cli_json_int(f, "max_children", c->max_children != SUP_NO_LIMIT, c->max_children);
}

static void put_fields(FILE *f, const struct proto_child *c)
{
	cli_json_str(f, true, "path", c->path);
	cli_json_str(f, false, "id", tree_id(c->path));
	cli_json_str(f, false, "type", spec_type_name(c->type));
	cli_json_str(f, false, "restart", spec_restart_name(c->restart));
	cli_json_int(f, "pid", c->pid > 0, c->pid);
	cli_json_str(f, false, "state", proto_state_name(c->state));
	cli_json_int(f, "restarts", true, c->restarts);
	cli_json_int(f, "uptime_ms", c->uptime_ms >= 0, c->uptime_ms);
	if (c->has_last_exit)
		put_reason(f, "last_exit", &c->last_exit);
	else
		fputs(",\"last_exit\":null", f);
	put_bool(f, "significant", c->significant);
	put_bool(f, "dynamic", c->dynamic);
	put_shutdown(f, c->shutdown_ms);
	if (c->status_text[0] != '\0')
		cli_json_str(f, false, "status", c->status_text);
	if (c->type == SPEC_WORKER)
		cli_json_str(f, false, "command", c->command);
	else
		put_supervisor(f, c);
}

/* Words separated by single spaces, as an array. */
static void put_words(FILE *f, const char *key, const char *s)
{
	const char *sep = "";
	size_t n;

	fprintf(f, ",\"%s\":[", key);
	for (; *s != '\0'; s += n + (s[n] == ' ')) {
		n = strcspn(s, " ");
		if (n == 0)
			continue;
		fputs(sep, f);
		text_json(f, s, n);
		sep = ",";
	}
	fputc(']', f);
}

static void put_death(FILE *f, const struct proto_death *d)
{
	char iso[CLOCK_ISO_SIZE];

	fputc('{', f);
	cli_json_str(f, true, "path", d->path);
	cli_json_str(f, false, "time", clock_iso(d->time_us, iso));
	cli_json_int(f, "pid", d->pid > 0, d->pid);
	put_reason(f, "reason", &d->reason);
	if (d->reason.kind == COP_EXIT_EXEC && d->reason.text[0] != '\0')
		cli_json_str(f, false, "step", d->reason.text);
	put_bool(f, "asked", d->asked);
	fprintf(f, ",\"ran_ms\":%llu", (unsigned long long)d->ran_ms);
	put_words(f, "restarted", d->restarted);
	cli_json_str(f, false, "lines", d->lines);
	fputc('}', f);
}

static void put_deaths(FILE *f, const struct tree *t)
{
	size_t i;

	fputs(",\"exits\":[", f);
	for (i = 0; i < t->n_deaths; i++) {
		if (i > 0)
			fputc(',', f);
		put_death(f, &t->death[i]);
	}
	fputc(']', f);
}

/* One object with what is below it; deaths only in the one that was asked for. */
static void put_child(FILE *f, const struct tree *t, size_t i, bool deaths)
{
	size_t k;

	fputc('{', f);
	put_fields(f, &t->child[i].c);
	if (deaths)
		put_deaths(f, t);
	if (t->child[i].c.type != SPEC_WORKER) {
		fputs(",\"children\":[", f);
		for (k = t->child[i].first; k != TREE_NONE; k = t->child[k].next) {
			if (k != t->child[i].first)
				fputc(',', f);
			put_child(f, t, k, false);
		}
		fputc(']', f);
	}
	fputc('}', f);
}

void json_node(FILE *f, const struct tree *t)
{
	const struct proto_node *n = &t->node;

	fputc('{', f);
	cli_json_str(f, true, "node", n->node);
	cli_json_int(f, "pid", n->pid > 0, n->pid);
	cli_json_str(f, false, "version", n->version);
	cli_json_str(f, false, "state", proto_node_state_name(n->state));
	cli_json_int(f, "uptime_ms", n->uptime_ms >= 0, n->uptime_ms);
	if (n->file[0] != '\0')
		cli_json_str(f, false, "file", n->file);
	fputs(",\"root\":", f);
	put_child(f, t, t->top, false);
	fputs("}\n", f);
}

void json_one(FILE *f, const struct tree *t)
{
	put_child(f, t, t->top, true);
	fputc('\n', f);
}
