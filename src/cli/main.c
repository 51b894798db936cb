/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The program `coppice`: what must be true before any command runs. Signals are as they came:
 * SIGPIPE ends a command whose reader has gone, as it does everywhere.
 */
#include <unistd.h>

#include "base/diag.h"
#include "base/fds.h"
#include "cli/cli.h"

int main(int argc, char **argv)
{
	static char *no_environment[1];

	diag_init("coppice");
	/* the processes of a node say what they are; this moves argv to make room for it */
	if (argc > 0)
		setproctitle_init(argc, argv, environ);
	/* it leaves nothing at all of an environment that was empty */
	if (!environ)
		environ = no_environment;
	/* a socket must never become standard output */
	if (fds_fill_std() < 0) {
		diag_error_errno("unable to open /dev/null");
		return CLI_FAILED;
	}
	return cli_main(argc, argv);
}
