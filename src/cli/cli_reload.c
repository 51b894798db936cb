/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * coppice reload: the difference between what runs and what the file says now. Lines are printed
 * as they come; JSON only when all is known and the reload went well. Runs in the command's process.
 */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

#include "base/diag.h"
#include "base/text.h"
#include "cli/cli_call.h"
#include "cli/cli_out.h"

#define CHANGES 3 /* kinds of enum spec_change */

static const char *const change_names[CHANGES] = {
	[SPEC_ADDED] = "added",
	[SPEC_CHANGED] = "changed",
	[SPEC_REMOVED] = "removed",
};

struct reload {
	const struct cli_args *args;
	size_t n;                     /* changes so far */
	bool errors;                  /* error lines came */
	char **paths[CHANGES];        /* for JSON */
	size_t n_paths[CHANGES], cap[CHANGES];
};

static void keep_path(struct reload *r, unsigned what, const char *path)
{
	size_t len = strlen(path) + 1;

	if (r->n_paths[what] == r->cap[what]) {
		r->cap[what] = r->cap[what] > 0 ? r->cap[what] * 2 : 16;
		r->paths[what] = cli_grow(r->paths[what], r->cap[what], sizeof *r->paths[what]);
	}
	r->paths[what][r->n_paths[what]] = cli_alloc(len);
	memcpy(r->paths[what][r->n_paths[what]++], path, len);
}

static void take_change(struct reload *r, struct wire_in *body)
{
	char path[SPEC_PATH_MAX];
	unsigned what = wire_get_u8(body);

	wire_get_str(body, path, sizeof path);
	if (what >= CHANGES)
		body->bad = true;
	if (body->bad)
		return;
	r->n++;
	if (r->args->json) {
		keep_path(r, what, path);
	} else if (!r->args->quiet) {
		fprintf(stdout, "%s ", change_names[what]);
		cli_put(stdout, path);
		fputc('\n', stdout);
	}
}

/* FILE:LINE: what is wrong: first in its line, as compilers do and editors understand. */
static void take_error(struct reload *r, struct wire_in *body)
{
	char line[CALL_MESSAGE_MAX * 4];

	r->errors = true;
	client_get_text(body, line, sizeof line);
	fprintf(stderr, "%s\n", line);
}

static void take(void *ctx, int kind, struct wire_in *body)
{
	if (kind == PROTO_R_CHANGE)
		take_change(ctx, body);
	else if (kind == PROTO_R_ERROR_LINE)
		take_error(ctx, body);
}

static void put_json(const struct reload *r)
{
	unsigned what;
	size_t i;

	for (what = 0; what < CHANGES; what++) {
		fprintf(stdout, "%s\"%s\":[", what == 0 ? "{" : ",", change_names[what]);
		for (i = 0; i < r->n_paths[what]; i++) {
			if (i > 0)
				fputc(',', stdout);
			text_json(stdout, r->paths[what][i], strlen(r->paths[what][i]));
		}
		fputc(']', stdout);
	}
	fputs("}\n", stdout);
}

static void reload_fini(struct reload *r)
{
	unsigned what;
	size_t i;

	for (what = 0; what < CHANGES; what++) {
		for (i = 0; i < r->n_paths[what]; i++)
			free(r->paths[what][i]);
		free(r->paths[what]);
	}
}

int cli_reload(const struct cli_args *a)
{
	struct reload r = { .args = a };
	struct call c = {
		.args = a,
		.deadline_ms = call_deadline(a, -1),
		.verb = PROTO_RELOAD,
		.flags = (a->dry_run ? PROTO_F_DRY_RUN : 0) | (a->no_wait ? PROTO_F_NO_WAIT : 0),
		.frame = take,
		.frame_ctx = &r,
	};
	int status = call_run(&c);

	if (status != 0 && c.answered && (c.message[0] != '\0' || !r.errors))
		diag_error("%s", c.message[0] != '\0' ? c.message : "the node refused without a reason");
	else if (status == 0 && a->json)
		put_json(&r);
	else if (status == 0 && r.n == 0 && !a->quiet)
		fputs("no changes\n", stdout);
	reload_fini(&r);
	return status;
}
