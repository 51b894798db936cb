/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The two commands that need no node: run becomes one, check only reads files. Runs in the
 * command's process, which for run is then root.
 */
#include "cli/cli.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fds.h"
#include "base/text.h"
#include "node/config.h"
#include "node/node.h"

/* Says what is wrong with the operands of run. */
static int check_run(const struct cli_args *a)
{
	char esc[128];

	if (a->tail && a->n_operands > 0)
		return cli_usage("run", "either FILE or -- CMD, not both");
	if (a->tail && a->n_tail == 0)
		return cli_usage("run", "there is no command behind --");
	if (!a->tail && a->n_operands == 0)
		return cli_usage("run", "it needs FILE, or -- CMD [ARG...]");
	if (a->restart && !a->tail)
		return cli_usage("run", "--restart is for -- CMD; FILE says it for each child");
	if (a->node && (!text_is_id(a->node) || strlen(a->node) >= SPEC_NODE_MAX))
		return cli_usage("run", "`%s` cannot be the name of a node",
		    text_escape(a->node, strlen(a->node), esc, sizeof esc));
	return CLI_OK;
}

int cli_run(const struct cli_args *a)
{
	const char *socket = a->socket ? a->socket : getenv("COPPICE_SOCKET");
	struct run_options opt = {
		.file = a->tail ? NULL : a->operands[0],
		.command = a->tail ? (const char *const *)a->tail : NULL,
		.restart = a->restart,
		.socket = socket && *socket ? socket : NULL,
		.node = a->node,
		.quiet = a->quiet,
	};
	int status = check_run(a);

	return status != 0 ? status : root_run(&opt);
}

int cli_check(const struct cli_args *a)
{
	int out = a->quiet ? open("/dev/null", O_WRONLY | O_CLOEXEC) : STDOUT_FILENO;
	int status = CLI_OK, one;
	size_t i;

	for (i = 0; i < a->n_operands; i++) {
		one = config_check(a->operands[i], out, STDERR_FILENO);
		if (one != 0)
			status = one == CLI_BAD_CONFIG || status == CLI_BAD_CONFIG ? CLI_BAD_CONFIG : one;
	}
	if (a->quiet)
		fds_close(&out);
	return status;
}
