/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The command line: one set of options for all commands, so that they may stand anywhere, before
 * or after the command and its operands; each command says which it takes. The first `--` ends
 * them, whatever POSIXLY_CORRECT says. Allocates the array of operands.
 */
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/diag.h"
#include "base/text.h"
#include "cli/cli_out.h"

/* getopt values of options that have no letter. */
enum {
	LONG_NODE = 256, LONG_SOCKET, LONG_JSON, LONG_TIMEOUT, LONG_NO_WAIT, LONG_SINCE, LONG_DRY_RUN, LONG_RESTART
};

static const struct {
	const char *name;
	int has_arg;
	int val;
	unsigned bit;
	const char *help;
} options[] = {
	{ "node", required_argument, LONG_NODE, CLI_OPT_NODE,
	  "    --node NAME     the node of this name" },
	{ "socket", required_argument, LONG_SOCKET, CLI_OPT_SOCKET,
	  "    --socket PATH   the node's control socket (default: $COPPICE_SOCKET)" },
	{ "restart", required_argument, LONG_RESTART, CLI_OPT_RESTART,
	  "    --restart TYPE  permanent, transient or temporary (default) for `-- CMD`" },
	{ "follow", no_argument, 'f', CLI_OPT_FOLLOW,
	  "-f, --follow        go on with what comes" },
	{ "since", required_argument, LONG_SINCE, CLI_OPT_SINCE,
	  "    --since SEQ     begin with event SEQ; 0: the oldest kept" },
	{ "lines", required_argument, 'n', CLI_OPT_LINES,
	  "-n, --lines N       the last N lines, or `all` (default 10)" },
	{ "dry-run", no_argument, LONG_DRY_RUN, CLI_OPT_DRY_RUN,
	  "    --dry-run       only tell what would change" },
	{ "no-wait", no_argument, LONG_NO_WAIT, CLI_OPT_NO_WAIT,
	  "    --no-wait       do not wait until it is done" },
	{ "timeout", required_argument, LONG_TIMEOUT, CLI_OPT_TIMEOUT,
	  "    --timeout MS    give up after MS milliseconds" },
	{ "json", no_argument, LONG_JSON, CLI_OPT_JSON,
	  "    --json          print JSON: one value, or one a line for streams" },
	{ "quiet", no_argument, 'q', CLI_OPT_QUIET,
	  "-q, --quiet         print nothing but errors, also with --json" },
	{ "help", no_argument, 'h', CLI_OPT_HELP,
	  "-h, --help          print this" },
	{ "version", no_argument, 'V', CLI_OPT_VERSION, NULL },
};
#define N_OPTIONS (sizeof options / sizeof options[0])

int cli_usage(const char *command, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (command)
		diag_error("%s: %s (see `coppice %s --help`)", command, text, command);
	else
		diag_error("%s (see `coppice --help`)", text);
	return CLI_USAGE;
}

void cli_args_help(FILE *f, unsigned mask)
{
	size_t i;

	for (i = 0; i < N_OPTIONS; i++)
		if ((mask & options[i].bit) && options[i].help)
			fprintf(f, "  %s\n", options[i].help);
}

static const char *option_name(int val)
{
	size_t i;

	for (i = 0; i < N_OPTIONS; i++)
		if (options[i].val == val)
			return options[i].name;
	return "?";
}

static unsigned option_bit(int val)
{
	size_t i;

	for (i = 0; i < N_OPTIONS; i++)
		if (options[i].val == val)
			return options[i].bit;
	return 0;
}

/* A number as an option's argument; said so and -1 when it is none. */
static int number(const struct cli_args *a, int val, const char *s, int64_t lo, int64_t *v_r)
{
	char esc[128];

	if (text_to_i64(s, lo, INT64_MAX, v_r) == 0)
		return 0;
	cli_usage(a->command, "--%s: `%s` is not a number from %lld on", option_name(val),
	    text_escape(s, strlen(s), esc, sizeof esc), (long long)lo);
	return -1;
}

static int set_lines(struct cli_args *a, const char *s)
{
	int64_t n;

	if (strcmp(s, "all") == 0) {
		a->lines = CLI_LINES_ALL;
		return 0;
	}
	if (number(a, 'n', s, 0, &n) < 0)
		return -1;
	a->lines = (long)n;
	return 0;
}

static int set_since(struct cli_args *a, const char *s)
{
	int64_t n;

	if (number(a, LONG_SINCE, s, 0, &n) < 0)
		return -1;
	a->since = (uint64_t)n;
	return 0;
}

static int set_restart(struct cli_args *a, const char *s)
{
	static const char *const types[] = { "permanent", "transient", "temporary", NULL };
	char esc[128];
	size_t i;

	for (i = 0; types[i]; i++)
		if (strcmp(types[i], s) == 0) {
			a->restart = s;
			return 0;
		}
	cli_usage("run", "--restart: `%s` is none of permanent, transient, temporary",
	    text_escape(s, strlen(s), esc, sizeof esc));
	return -1;
}

static int set_option(struct cli_args *a, int val, const char *arg)
{
	a->seen |= option_bit(val);
	switch (val) {
	case LONG_NODE:
		a->node = arg;
		return 0;
	case LONG_SOCKET:
		a->socket = arg;
		return 0;
	case LONG_RESTART:
		return set_restart(a, arg);
	case 'f':
		a->follow = true;
		return 0;
	case LONG_SINCE:
		return set_since(a, arg);
	case 'n':
		return set_lines(a, arg);
	case LONG_DRY_RUN:
		a->dry_run = true;
		return 0;
	case LONG_NO_WAIT:
		a->no_wait = true;
		return 0;
	case LONG_TIMEOUT:
		return number(a, val, arg, 0, &a->timeout_ms);
	case LONG_JSON:
		a->json = true;
		return 0;
	case 'q':
		a->quiet = true;
		return 0;
	default: /* help, version: the bit says it */
		return 0;
	}
}

/* getopt did not know it: says what would be right. */
static void say_unknown(const struct cli_args *a, const char *word)
{
	const char *names[N_OPTIONS + 1] = { NULL };
	const char *near;
	char esc[128], typed[64];
	size_t i, n;

	text_escape(word, strlen(word), esc, sizeof esc);
	if (option_bit(optopt) != 0) { /* only one that is known can have had an argument too many */
		cli_usage(a->command, "--%s takes no argument", option_name(optopt));
		return;
	}
	if (optopt != 0) {
		cli_usage(a->command, "unknown option `-%s`", text_escape(&(char){ (char)optopt }, 1, esc, sizeof esc));
		return;
	}
	for (i = 0; i < N_OPTIONS; i++)
		names[i] = options[i].name;
	n = strcspn(word + 2, "=");
	snprintf(typed, sizeof typed, "%.*s", (int)(n < 63 ? n : 63), word + 2);
	near = text_nearest(typed, names);
	if (near)
		cli_usage(a->command, "unknown option `%s`; did you mean `--%s`?", esc, near);
	else
		cli_usage(a->command, "unknown option `%s`", esc);
}

static void add_operand(struct cli_args *a, char *word)
{
	if (!a->command)
		a->command = word;
	else
		a->operands[a->n_operands++] = word;
}

/* Where the first `--` stands, or argc. */
static int find_tail(int argc, char **argv)
{
	int i;

	for (i = 1; i < argc; i++)
		if (strcmp(argv[i], "--") == 0)
			return i;
	return argc;
}

static void long_options(struct option *table)
{
	size_t i;

	for (i = 0; i < N_OPTIONS; i++)
		table[i] = (struct option){ options[i].name, options[i].has_arg, NULL, options[i].val };
	table[N_OPTIONS] = (struct option){ NULL, 0, NULL, 0 };
}

static int parse_head(struct cli_args *a, int argc, char **argv)
{
	struct option table[N_OPTIONS + 1];
	int val;

	long_options(table);
	opterr = 0;
	optind = 0; /* glibc: begin anew */
	/* "-": every word comes in its order, also under POSIXLY_CORRECT. ":": we say what is missing. */
	while ((val = getopt_long(argc, argv, "-:hVqfn:", table, NULL)) != -1) {
		if (val == 1) {
			add_operand(a, optarg);
		} else if (val == '?') {
			say_unknown(a, argv[optind - 1]);
			return -1;
		} else if (val == ':') {
			cli_usage(a->command, "--%s needs an argument", option_name(optopt));
			return -1;
		} else if (set_option(a, val, optarg) < 0) {
			return -1;
		}
	}
	return 0;
}

int cli_args_parse(struct cli_args *a, int argc, char **argv)
{
	int head = find_tail(argc, argv);

	*a = (struct cli_args){ .timeout_ms = -1, .lines = CLI_LINES_DEFAULT };
	a->operands = cli_alloc(((size_t)argc + 1) * sizeof *a->operands);
	/* argc 0 is possible: execve(2) with an empty vector */
	if (argc > 0 && parse_head(a, head, argv) < 0)
		return CLI_USAGE;
	if (head < argc) {
		a->tail = argv + head + 1;
		a->n_tail = (size_t)(argc - head - 1);
	}
	if (!a->command && a->n_tail > 0) {
		a->command = *a->tail++;
		a->n_tail--;
	}
	return 0;
}

void cli_args_fini(struct cli_args *a)
{
	free(a->operands);
	a->operands = NULL;
}

static int check_options(const struct cli_args *a, const struct cli_command *c)
{
	unsigned wrong = a->seen & ~(c->options | CLI_OPT_HELP | CLI_OPT_VERSION);
	size_t i;

	for (i = 0; i < N_OPTIONS; i++)
		if (wrong & options[i].bit)
			return cli_usage(c->name, "--%s is not an option of this command", options[i].name);
	return 0;
}

/* An empty path would mean the whole tree to the node; it comes from a variable that is not set. */
static int check_paths(const struct cli_args *a, const struct cli_command *c)
{
	size_t i;

	for (i = 0; i < a->n_operands && i < c->paths; i++)
		if (a->operands[i][0] == '\0')
			return cli_usage(c->name, "PATH is empty");
	return 0;
}

int cli_args_check(struct cli_args *a, const struct cli_command *c)
{
	char esc[128];
	size_t i;

	if (check_options(a, c) != 0)
		return CLI_USAGE;
	if (!c->tail) {
		for (i = 0; i < a->n_tail; i++)
			a->operands[a->n_operands++] = a->tail[i];
		a->n_tail = 0;
	}
	if (a->n_operands < c->min)
		return cli_usage(c->name, "it needs %s", c->usage);
	if (a->n_operands > c->max) {
		const char *w = a->operands[c->max];

		return cli_usage(c->name, "`%s` is one operand too many", text_escape(w, strlen(w), esc, sizeof esc));
	}
	if (a->quiet)
		a->json = false; /* the exit status is then the whole answer */
	return check_paths(a, c);
}
