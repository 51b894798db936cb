/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* The command line: options anywhere, `--`, and what is said of wrong usage. */
#include <stdlib.h>

#include "cli/cli.h"
#include "fake_node.h"
#include "t.h"

static int parse(struct cli_args *a, const char *words, char *line, char **argv)
{
	int argc = 0;
	char *at = line, *w;

	snprintf(line, 256, "coppice %s", words);
	while ((w = strsep(&at, " ")) != NULL)
		argv[argc++] = w;
	argv[argc] = NULL;
	return cli_args_parse(a, argc, argv);
}

T_CASE(options_stand_anywhere)
{
	static const char *const lines[] = { "--json --node demo stop a b --timeout 5", "stop --json a --node=demo b --timeout=5",
		"stop a b --timeout 5 --node demo --json", "stop --timeout 5 a --json --node demo -- b" };
	struct cli_args a;
	char line[256], *argv[32];
	size_t i;

	for (i = 0; i < 8; i++) {
		if (i >= 4)
			setenv("POSIXLY_CORRECT", "1", 1);
		T_EQ_INT(parse(&a, lines[i % 4], line, argv), 0);
		T_EQ_STR(a.command, "stop");
		T_CHECK(a.json && !a.quiet);
		T_EQ_STR(a.node, "demo");
		T_EQ_INT(a.timeout_ms, 5);
		T_EQ_INT(a.n_operands + a.n_tail, 2);
		cli_args_fini(&a);
	}
}

T_CASE(behind_dashes_nothing_is_an_option)
{
	struct cli_args a;
	char line[256], *argv[32];

	T_EQ_INT(parse(&a, "run --restart transient -- cmd --json -- x", line, argv), 0);
	T_CHECK(!a.json);
	T_EQ_STR(a.restart, "transient");
	T_EQ_INT(a.n_operands, 0);
	T_EQ_INT(a.n_tail, 4);
	T_EQ_STR(a.tail[0], "cmd");
	T_EQ_STR(a.tail[2], "--");
	T_CHECK(a.tail[4] == NULL);
	cli_args_fini(&a);
}

T_CASE(defaults)
{
	struct cli_args a;
	char line[256], *argv[32];

	T_EQ_INT(parse(&a, "log web", line, argv), 0);
	T_EQ_INT(a.lines, CLI_LINES_DEFAULT);
	T_EQ_INT(a.timeout_ms, -1);
	T_CHECK(a.tail == NULL && a.seen == 0);
	cli_args_fini(&a);
	T_EQ_INT(parse(&a, "log web -n all -f", line, argv), 0);
	T_EQ_INT(a.lines, CLI_LINES_ALL);
	T_CHECK(a.follow);
	cli_args_fini(&a);
}

T_CASE(no_arguments_at_all)
{
	struct cli_args a;
	char *argv[] = { NULL };

	T_EQ_INT(cli_args_parse(&a, 0, argv), 0);
	T_CHECK(a.command == NULL);
	cli_args_fini(&a);
}

static struct ran ran;

/* Status 2, nothing on standard output, one line that contains part. */
static void expect_usage(const char *words, const char *part)
{
	run_coppice(&ran, words);
	T_EQ_INT(ran.status, 2);
	T_EQ_STR(ran.out, "");
	if (!strstr(ran.err, part) || strchr(ran.err, '\n') != ran.err + strlen(ran.err) - 1)
		T_FAIL("coppice %s says: %s", words, ran.err);
}

T_CASE(wrong_usage)
{
	expect_usage("", "which command?");
	expect_usage("statsu", "did you mean `status`?");
	expect_usage("xyzzy", "unknown command `xyzzy`");
	expect_usage("status a b", "`b` is one operand too many");
	expect_usage("status --folow", "did you mean `--follow`?");
	expect_usage("status --follow", "not an option of this command");
	expect_usage("status --json=1", "--json takes no argument");
	expect_usage("status -x", "unknown option `-x`");
	expect_usage("--json -xq status", "unknown option `-x`");
	expect_usage("status --node", "--node needs an argument");
	expect_usage("status --node -- x", "--node needs an argument");
	expect_usage("status --node ../x", "not the name of a node");
	expect_usage("status --timeout 1s", "`1s` is not a number");
	expect_usage("status --timeout -1", "`-1` is not a number");
	expect_usage("status --timeout 99999999999999999999", "is not a number");
	expect_usage("events --since x", "`x` is not a number");
	expect_usage("log", "it needs PATH");
	expect_usage("log a -n -3", "`-3` is not a number");
	expect_usage("stop", "it needs PATH...");
	expect_usage("signal web", "it needs PATH SIGNAL");
	expect_usage("signal web TREM", "did you mean TERM?");
	expect_usage("signal web FOOBARBAZ", "there is no signal");
	expect_usage("add pool", "it needs SUPERVISOR");
	expect_usage("add pool --", "it needs SUPERVISOR");
	expect_usage("add pool x -- cmd", "`x` is not KEY=VALUE");
	expect_usage("run", "it needs FILE");
	expect_usage("run --", "no command behind --");
	expect_usage("run f -- cmd", "not both");
	expect_usage("run --restart always -- cmd", "none of permanent");
	expect_usage("run --restart permanent f", "--restart is for -- CMD");
	expect_usage("run --node a/b f", "cannot be the name");
	expect_usage("check", "it needs FILE...");
	expect_usage("help xyzzy", "unknown command");
}

T_CASE(help_is_there_for_all)
{
	static const char *const names[] = { "run", "check", "status", "tree", "start", "stop", "restart", "signal",
		"add", "remove", "reload", "events", "log", "shutdown" };
	char words[64], head[64];
	size_t i;

	for (i = 0; i < sizeof names / sizeof names[0]; i++) {
		snprintf(head, sizeof head, "usage: coppice %s ", names[i]);
		snprintf(words, sizeof words, "%s --help", names[i]);
		run_coppice(&ran, words);
		T_EQ_INT(ran.status, 0);
		T_CHECK(strncmp(ran.out, head, strlen(head)) == 0);
		snprintf(words, sizeof words, "help %s", names[i]);
		run_coppice(&ran, words);
		T_EQ_INT(ran.status, 0);
		T_CHECK(strncmp(ran.out, head, strlen(head)) == 0);
		run_coppice(&ran, "--help");
		snprintf(head, sizeof head, "\n  %s ", names[i]);
		T_CHECK(strstr(ran.out, head) != NULL);
	}
	run_coppice(&ran, "--version");
	T_EQ_INT(ran.status, 0);
	T_CHECK(strncmp(ran.out, "coppice 0.", 10) == 0);
	run_coppice(&ran, "status --version");
	T_EQ_INT(ran.status, 0);
}

T_MAIN(T_RUN(options_stand_anywhere), T_RUN(behind_dashes_nothing_is_an_option), T_RUN(defaults),
    T_RUN(no_arguments_at_all), T_RUN(wrong_usage), T_RUN(help_is_there_for_all))
