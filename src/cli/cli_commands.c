/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * One table of commands, the help that follows from it, and the choice among them. Runs in the
 * command's process.
 */
#include "cli/cli.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <coppice/version.h>
#include "base/diag.h"
#include "base/text.h"
#include "cli/cli_map.h"
#include "cli/cli_out.h"

static const struct cli_command commands[] = {
	{ "run", "FILE | [--restart TYPE] -- CMD [ARG...]", "start a node and stay in the foreground until it ends",
	  "Starts the node that FILE describes, or supervises one command without a file.\n"
	  "Ends with 0 after an asked-for shutdown, 1 when the top supervisor gave up, 78 when FILE\n"
	  "is wrong; with auto_shutdown or `-- CMD`, with the status of the child that ended it.\n",
	  CLI_OPT_RESTART | CLI_OPT_NODE | CLI_OPT_SOCKET | CLI_OPT_QUIET, 0, 1, true, cli_run, 0 },
	{ "check", "FILE...", "validate configuration files",
	  "Prints one line a file, or every error of it as FILE:LINE: what is wrong, and ends with 78.\n",
	  CLI_OPT_QUIET, 1, SIZE_MAX, false, cli_check, 0 },
	{ "status", "[PATH]", "show every child, or one with its last exits and log lines",
	  "For PATH, ends with 0 if it is running, 3 if it is not, 4 if there is no such child.\n",
	  CLI_OPT_TALK, 0, 1, false, cli_status, 1 },
	{ "tree", "", "draw the supervision tree",
	  "Supervisors are shown with their strategy and the restarts they have left.\n",
	  CLI_OPT_TALK, 0, 0, false, cli_tree, 0 },
	{ "start", "PATH...", "start children",
	  "Waits until they are ready.\n",
	  CLI_OPT_TALK | CLI_OPT_NO_WAIT, 1, SIZE_MAX, false, cli_start, SIZE_MAX },
	{ "stop", "PATH...", "stop children, and do not restart them",
	  "Waits until they are gone. A later restart of their group starts them again, as in OTP.\n",
	  CLI_OPT_TALK | CLI_OPT_NO_WAIT, 1, SIZE_MAX, false, cli_stop, SIZE_MAX },
	{ "restart", "PATH...", "stop children and start them again",
	  "Waits until they are ready. Does not use up their supervisor's restarts.\n",
	  CLI_OPT_TALK | CLI_OPT_NO_WAIT, 1, SIZE_MAX, false, cli_restart, SIZE_MAX },
	{ "signal", "PATH SIGNAL", "send a signal to a child's main process",
	  "SIGNAL is a name with or without SIG, or a number.\n",
	  CLI_OPT_TALK, 2, 2, false, cli_signal, 1 },
	{ "add", "SUPERVISOR [KEY=VALUE...] -- CMD [ARG...]", "start a child under a dynamic supervisor",
	  "KEY is a key of a child in the configuration file. Prints the new child's path.\n",
	  CLI_OPT_TALK | CLI_OPT_NO_WAIT, 1, SIZE_MAX, true, cli_add, 1 },
	{ "task", "SUPERVISOR -- CMD [ARG...]", "run a command under a dynamic supervisor of a node, and wait",
	  "It has our standard descriptors, directory and environment, and gets our signals. Ends as\n"
	  "CMD does; with 125 when the node refuses it, 126 or 127 when it cannot be executed.\n",
	  CLI_OPT_TALK, 1, 1, true, cli_task, 1 },
	{ "task-run", "NAME", NULL, "For `coppice task`.\n", 0, 1, 1, false, cli_task_run, 0 },
	{ "remove", "PATH...", "stop children and forget their specifications",
	  "Those that a file describes stay away until their entry there is changed.\n",
	  CLI_OPT_TALK | CLI_OPT_NO_WAIT, 1, SIZE_MAX, false, cli_remove, SIZE_MAX },
	{ "reload", "", "read the file again and apply what has changed",
	  "Prints what is added, changed and removed; touches only that. Ends with 78, and\n"
	  "touches nothing, when the file is wrong.\n",
	  CLI_OPT_TALK | CLI_OPT_DRY_RUN | CLI_OPT_NO_WAIT, 0, 0, false, cli_reload, 0 },
	{ "events", "", "print the node's events",
	  "Prints all events that are kept, or those from SEQ on; with --follow alone, only new ones.\n",
	  CLI_OPT_TALK | CLI_OPT_FOLLOW | CLI_OPT_SINCE, 0, 0, false, cli_events, 0 },
	{ "log", "PATH", "print a child's output",
	  "Prints the last lines; with --follow, goes on until the node ends.\n",
	  CLI_OPT_TALK | CLI_OPT_FOLLOW | CLI_OPT_LINES, 1, 1, false, cli_log, 1 },
	{ "call", "NAME MSG", "ask a server and print its reply",
	  "MSG is JSON text, or - to read it from standard input. Waits for 5000 ms, or --timeout.\n"
	  "Ends with 1 when the server died, 4 when nobody has the name, 5 when the time is over.\n",
	  CLI_OPT_TALK, 2, 2, false, cli_call, 0 },
	{ "cast", "NAME MSG", "send a request to a server that is not answered",
	  "MSG is as for call.\n",
	  CLI_OPT_TALK, 2, 2, false, cli_cast, 0 },
	{ "send", "NAME MSG", "send a message to a process",
	  "MSG is as for call.\n",
	  CLI_OPT_TALK, 2, 2, false, cli_send, 0 },
	{ "names", "", "list the registered names",
	  "Prints each name with its process and the child that it belongs to.\n",
	  CLI_OPT_TALK, 0, 0, false, cli_names, 0 },
	{ "shutdown", "", "stop the whole node in order",
	  "Waits until the node has ended.\n",
	  CLI_OPT_TALK | CLI_OPT_NO_WAIT, 0, 0, false, cli_shutdown, 0 },
};
/* Reads its own command line (cli_map.h); here for the list and the help. */
static const struct cli_command map_itself = {
	"map", "", "run a command for each item of a list, several at a time", "", 0, 0, 0, true, NULL, 0
};
#define N_COMMANDS (sizeof commands / sizeof commands[0])

/* Not in the table: it has no options of its own and needs nothing that others need. */
static const struct cli_command help_itself = {
	"help", "[COMMAND]", "print help",
	"Prints what there is, or more about COMMAND, as `coppice COMMAND --help` does.\n\n",
	0, 0, 1, false, NULL, 0
};

static const struct cli_command *find_command(const char *name)
{
	size_t i;

	for (i = 0; i < N_COMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static int unknown_command(const char *name)
{
	const char *names[N_COMMANDS + 3] = { NULL };
	const char *near;
	char esc[128];
	size_t i;

	for (i = 0; i < N_COMMANDS; i++)
		names[i] = commands[i].name;
	names[i++] = map_itself.name;
	names[i] = "help";
	near = text_nearest(name, names);
	text_escape(name, strlen(name), esc, sizeof esc);
	if (near)
		return cli_usage(NULL, "unknown command `%s`; did you mean `%s`?", esc, near);
	return cli_usage(NULL, "unknown command `%s`", esc);
}

static int help(void)
{
	size_t i;

	puts("usage: coppice COMMAND [OPTION...] [OPERAND...]\n\n"
	     "Supervises executables as Erlang/OTP supervises processes.\n");
	for (i = 0; i < N_COMMANDS; i++)
		if (commands[i].summary)
			printf("  %-9s %s\n", commands[i].name, commands[i].summary);
	printf("  %-9s %s\n", map_itself.name, map_itself.summary);
	puts("\n  coppice COMMAND --help   more about a command\n"
	     "  coppice --version        the version\n\n"
	     "A PATH is the ids from the top supervisor's children down: web/nginx. The top is /.\n"
	     "Exit status: 0 done, 1 failed, 2 wrong usage, 3 not running, 4 no such child\n"
	     "or name, 5 timed out (call), 78 the configuration is wrong.");
	return CLI_OK;
}

static int help_command(const struct cli_command *c)
{
	printf("usage: coppice %s%s%s%s\n\n%s%s", c->name, c->options ? " [OPTION...]" : "", c->usage[0] ? " " : "",
	    c->usage, c->help, c->options ? "\n" : "");
	cli_args_help(stdout, c->options | CLI_OPT_HELP);
	return CLI_OK;
}

static int help_map(void)
{
	printf("usage: coppice map %s\n\n%s\n", cli_map_usage, cli_map_text);
	cli_map_options(stdout);
	return CLI_OK;
}

/* coppice help [COMMAND] */
static int help_about(const struct cli_args *a)
{
	const struct cli_command *c;

	if (a->n_operands == 0)
		return help();
	if (strcmp(a->operands[0], help_itself.name) == 0)
		return help_command(&help_itself);
	if (strcmp(a->operands[0], map_itself.name) == 0)
		return help_map();
	c = find_command(a->operands[0]);
	return c ? help_command(c) : unknown_command(a->operands[0]);
}

static int dispatch(struct cli_args *a)
{
	const struct cli_command *c;

	if (a->seen & CLI_OPT_VERSION) {
		printf("coppice %s\n", cop_version());
		return CLI_OK;
	}
	if (!a->command)
		return (a->seen & CLI_OPT_HELP) ? help() : cli_usage(NULL, "which command?");
	if (strcmp(a->command, "help") == 0)
		return help_about(a);
	c = find_command(a->command);
	if (!c)
		return unknown_command(a->command);
	if (a->seen & CLI_OPT_HELP)
		return help_command(c);
	if (cli_args_check(a, c) != 0)
		return CLI_USAGE;
	diag_set_quiet(a->quiet);
	return c->run(a);
}

static int map_main(int argc, char **argv, int at)
{
	int asked = 0, status;

	memmove(argv + at, argv + at + 1, (size_t)(argc - at) * sizeof *argv); /* NULL comes along */
	status = cli_map(argc - 1, argv, &asked);
	if (status == CLI_OK && asked == 'h')
		help_map();
	else if (status == CLI_OK && asked == 'V')
		printf("coppice %s\n", cop_version());
	return cli_finish(status);
}

int cli_main(int argc, char **argv)
{
	int at = cli_map_find(argc, argv);
	struct cli_args a;
	int status;

	if (at > 0)
		return map_main(argc, argv, at);
	status = cli_args_parse(&a, argc, argv);
	if (status == 0)
		status = dispatch(&a);
	cli_args_fini(&a);
	return cli_finish(status);
}
