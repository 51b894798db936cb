/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What the commands of `coppice` share: what was typed, how a command is described, and how
 * things are said. A client is a short-lived process: it allocates freely, dies when memory runs
 * out, and never returns from a wait later than its deadline.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Exit statuses of INTERFACE.md section 1. */
enum cli_status {
	CLI_OK = 0,
	CLI_FAILED = 1,
	CLI_USAGE = 2,
	CLI_NOT_RUNNING = 3, /* the child of `status PATH`; else the node */
	CLI_NO_CHILD = 4,    /* or no such name */
	CLI_TIMED_OUT = 5,   /* call, cast, send */
	CLI_BAD_CONFIG = 78,
};

/* Options, as bits: which ones a command takes. */
enum cli_option {
	CLI_OPT_HELP = 1u << 0,
	CLI_OPT_VERSION = 1u << 1,
	CLI_OPT_NODE = 1u << 2,
	CLI_OPT_SOCKET = 1u << 3,
	CLI_OPT_JSON = 1u << 4,
	CLI_OPT_QUIET = 1u << 5,
	CLI_OPT_TIMEOUT = 1u << 6,
	CLI_OPT_NO_WAIT = 1u << 7,
	CLI_OPT_FOLLOW = 1u << 8,
	CLI_OPT_SINCE = 1u << 9,
	CLI_OPT_LINES = 1u << 10,
	CLI_OPT_DRY_RUN = 1u << 11,
	CLI_OPT_RESTART = 1u << 12,
};
/* Of every command that talks to a node. */
#define CLI_OPT_TALK (CLI_OPT_NODE | CLI_OPT_SOCKET | CLI_OPT_JSON | CLI_OPT_QUIET | CLI_OPT_TIMEOUT)

#define CLI_LINES_DEFAULT 10
#define CLI_LINES_ALL (-1)

/* What was typed, after cli_args_parse(). Strings belong to argv. */
struct cli_args {
	unsigned seen;          /* enum cli_option bits that were given */
	bool json, quiet, no_wait, follow, dry_run;
	const char *node, *socket, *restart;
	int64_t timeout_ms;     /* -1: none given */
	uint64_t since;         /* meaningful when CLI_OPT_SINCE is in seen */
	long lines;             /* or CLI_LINES_ALL */
	const char *command;    /* NULL: none */
	char **operands;        /* after the command, NULL-terminated; owned */
	size_t n_operands;
	char **tail;            /* what stood behind `--`, NULL-terminated; NULL: there was no `--` */
	size_t n_tail;
};

struct cli_command {
	const char *name;
	const char *usage;      /* operands, as in the first line of its help */
	const char *summary;    /* one line */
	const char *help;       /* paragraphs */
	unsigned options;       /* enum cli_option bits it takes */
	size_t min, max;        /* number of operands; SIZE_MAX: any */
	bool tail;              /* what stands behind `--` is a command, not operands */
	int (*run)(const struct cli_args *a);
	size_t paths;           /* how many of the first operands are PATHs; SIZE_MAX: all */
};

/* Reads the command line. Returns 0, or CLI_USAGE after saying what is wrong. */
int cli_args_parse(struct cli_args *a, int argc, char **argv);
void cli_args_fini(struct cli_args *a);
/* Checks what was typed against the command. Returns 0, or CLI_USAGE after saying what is wrong.
 * Unless the command takes a tail, it becomes operands. */
int cli_args_check(struct cli_args *a, const struct cli_command *c);
/* Prints a line of help for each of these options. */
void cli_args_help(FILE *f, unsigned options);

/* Says what is wrong with what was typed, with a hint at the help of command (NULL: of coppice).
 * Returns CLI_USAGE. */
int cli_usage(const char *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Runs the command that argv names. Returns the exit status of the program. */
int cli_main(int argc, char **argv);

/* --- the commands --- */
int cli_run(const struct cli_args *a);
int cli_check(const struct cli_args *a);
int cli_status(const struct cli_args *a);
int cli_tree(const struct cli_args *a);
int cli_start(const struct cli_args *a);
int cli_stop(const struct cli_args *a);
int cli_restart(const struct cli_args *a);
int cli_signal(const struct cli_args *a);
int cli_add(const struct cli_args *a);
int cli_task(const struct cli_args *a);
int cli_task_run(const struct cli_args *a);
int cli_remove(const struct cli_args *a);
int cli_reload(const struct cli_args *a);
int cli_events(const struct cli_args *a);
int cli_log(const struct cli_args *a);
int cli_shutdown(const struct cli_args *a);
int cli_call(const struct cli_args *a);
int cli_cast(const struct cli_args *a);
int cli_send(const struct cli_args *a);
int cli_names(const struct cli_args *a);

#endif
