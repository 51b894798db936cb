/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * coppice log: the node tells where a child's output is kept, this process reads the files itself,
 * so that a slow reader costs the node nothing. On a terminal control bytes are escaped; in a pipe
 * the bytes are the child's. Following ends with the node. Runs in the command's process.
 */
#include "cli/cli_log.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fds.h"
#include "cli/cli_call.h"
#include "cli/cli_find.h"
#include "cli/cli_log_tail.h"
#include "cli/cli_out.h"
#include "cli/cli_pidfd.h"
#include "node/node.h"

struct where {
	char dir[NODE_PATH_MAX];
};

static void take_dir(void *ctx, int kind, struct wire_in *body)
{
	struct where *w = ctx;

	if (kind == PROTO_R_TEXT)
		wire_get_str(body, w->dir, sizeof w->dir);
}

static void ask_where(struct call *c, struct where *w, const struct cli_args *a, const char *path)
{
	*c = (struct call){
		.args = a,
		.deadline_ms = call_deadline(a, CALL_QUERY_MS),
		.verb = PROTO_LOG,
		.repeatable = true,
		.put = call_put_str,
		.put_ctx = path,
		.frame = take_dir,
		.frame_ctx = w,
	};
	w->dir[0] = '\0';
}

void log_excerpt(const struct cli_args *a, const char *path, FILE *out)
{
	struct where w;
	struct call c;
	FILE *lines;

	ask_where(&c, &w, a, path);
	if (call_run(&c) != 0 || w.dir[0] == '\0')
		return;
	fputs("Log          : ", out);
	cli_put(out, w.dir);
	fputc('\n', out);
	lines = cli_lines_open(out, CLI_LINES_INDENT);
	if (!lines)
		return;
	if (log_tail(w.dir, CLI_LINES_DEFAULT, lines) < 0 && errno != ENOENT)
		diag_error_errno("unable to read the log in %s", w.dir);
	fclose(lines);
}

/* A descriptor that becomes readable when the node has ended, or -1. */
static int end_of_node(const struct cli_args *a)
{
	struct client c;
	int fd = -1;

	client_init(&c, call_deadline(a, CALL_QUERY_MS));
	if (find_node(&c, a) == 0)
		fd = cli_pidfd_open(c.peer.pid);
	client_fini(&c);
	return fd;
}

static int follow(const struct cli_args *a, const char *dir, FILE *out)
{
	int stop_fd = end_of_node(a), result;

	setvbuf(out, NULL, _IOLBF, 0);
	result = log_follow(dir, a->lines, out, stop_fd);
	fds_close(&stop_fd);
	return result;
}

static int show(const struct cli_args *a, const char *dir)
{
	enum cli_lines how = a->json ? CLI_LINES_JSON : isatty(STDOUT_FILENO) ? CLI_LINES_ESCAPE : CLI_LINES_RAW;
	FILE *out = how == CLI_LINES_RAW ? stdout : cli_lines_open(stdout, how);
	int result, saved;

	if (!out)
		return -1;
	result = a->follow ? follow(a, dir, out) : log_tail(dir, a->lines, out);
	saved = errno;
	if (out != stdout)
		fclose(out);
	errno = saved;
	return result;
}

int cli_log(const struct cli_args *a)
{
	const char *path = a->operands[0];
	struct where w;
	struct call c;
	int status;

	ask_where(&c, &w, a, path);
	status = call_run_or_say(&c);
	if (status != 0)
		return status;
	if (w.dir[0] == '\0') {
		diag_error("the output of %s is not kept by the node", path);
		return CLI_FAILED;
	}
	if (!a->quiet && show(a, w.dir) < 0 && !ferror(stdout)) {
		diag_error_errno("unable to read the log in %s", w.dir);
		return CLI_FAILED;
	}
	return CLI_OK;
}
