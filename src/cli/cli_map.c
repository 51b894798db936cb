/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The command line of `coppice map`. It has letters and words that no other command has, and a command behind it, so
 * it is read here and not with the others' (cli_args.c). Runs in the command's process, which is then the guard.
 */
#include "cli/cli_map.h"

#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fds.h"
#include "base/text.h"
#include "cli/cli.h"
#include "cli/cli_task.h"
#include "map/map.h"

#define JOBS_MAX 100000
#define JOBS_EXPECTED "N, +N or N%, N from 1 to 100000"
#define BLOCK_DEFAULT (1u << 20)
#define BLOCK_MAX (1u << 30)
#define BACKOFF_MAX_MS 60000

enum {
	OPT_UNORDERED = 256, OPT_LINE_BUFFER, OPT_TAG, OPT_TIMEOUT, OPT_ON_TIMEOUT, OPT_RETRIES, OPT_BACKOFF, OPT_HALT,
	OPT_MAX_ARGS, OPT_PIPE, OPT_BLOCK, OPT_RECORDS, OPT_JOBLOG, OPT_RESUME, OPT_RESUME_FAILED, OPT_RESULTS,
	OPT_DRY_RUN, OPT_PROGRESS, OPT_BAR, OPT_ETA, OPT_JSON, OPT_NODE, OPT_SUPERVISOR,
};

static const struct {
	struct option o;
	const char *help;
} options[] = {
	{ { "jobs", required_argument, NULL, 'P' },
	  "-P, --jobs N        so many at a time; +N: more than processors; N%: of them (default 100%)" },
	{ { "null", no_argument, NULL, '0' }, "-0, --null          items end with NUL, not newline" },
	{ { "max-args", required_argument, NULL, OPT_MAX_ARGS }, "    --max-args N    N items for one command" },
	{ { "unordered", no_argument, NULL, OPT_UNORDERED }, "    --unordered     output as items end, not in order" },
	{ { "line-buffer", no_argument, NULL, OPT_LINE_BUFFER },
	  "    --line-buffer   output line by line while items run" },
	{ { "tag", no_argument, NULL, OPT_TAG }, "    --tag           the item and a tab before each line" },
	{ { "timeout", required_argument, NULL, OPT_TIMEOUT }, "    --timeout MS    kill an item that runs longer" },
	{ { "on-timeout", required_argument, NULL, OPT_ON_TIMEOUT },
	  "    --on-timeout kill|exit   only it (default), or everything" },
	{ { "retries", required_argument, NULL, OPT_RETRIES }, "    --retries N     try again N times when it fails" },
	{ { "backoff", required_argument, NULL, OPT_BACKOFF },
	  "    --backoff MS[,MAX]   wait before that, doubled each time up to MAX" },
	{ { "halt", required_argument, NULL, OPT_HALT },
	  "    --halt WHEN     never (default), soon or now, [,fail=N|fail=N%|done=N]" },
	{ { "pipe", no_argument, NULL, OPT_PIPE }, "    --pipe          chunks of the input as CMD's standard input" },
	{ { "block", required_argument, NULL, OPT_BLOCK }, "    --block SIZE    bytes of a chunk (default 1M)" },
	{ { "records", required_argument, NULL, OPT_RECORDS }, "    --records N     lines of a chunk" },
	{ { "joblog", required_argument, NULL, OPT_JOBLOG }, "    --joblog FILE   a line for each item that is done" },
	{ { "resume", no_argument, NULL, OPT_RESUME }, "    --resume        leave out items that are in the log" },
	{ { "resume-failed", no_argument, NULL, OPT_RESUME_FAILED },
	  "    --resume-failed leave out those that are in it as done well" },
	{ { "results", required_argument, NULL, OPT_RESULTS }, "    --results DIR   output in files, too" },
	{ { "dry-run", no_argument, NULL, OPT_DRY_RUN }, "    --dry-run       print the commands, run nothing" },
	{ { "progress", no_argument, NULL, OPT_PROGRESS }, "    --progress      on a terminal: how far it is" },
	{ { "bar", no_argument, NULL, OPT_BAR }, "    --bar           with a bar" },
	{ { "eta", no_argument, NULL, OPT_ETA }, "    --eta           with the time left" },
	{ { "json", no_argument, NULL, OPT_JSON }, "    --json          a JSON record for each item" },
	{ { "node", required_argument, NULL, OPT_NODE }, "    --node NAME     run the items in the tree of this node" },
	{ { "supervisor", required_argument, NULL, OPT_SUPERVISOR },
	  "    --supervisor PATH   under this dynamic supervisor (default: tasks)" },
	{ { "quiet", no_argument, NULL, 'q' }, "-q, --quiet         no warnings" },
	{ { "help", no_argument, NULL, 'h' }, "-h, --help          print this" },
	{ { "version", no_argument, NULL, 'V' }, NULL },
};
static const char *node, *supervisor; /* --node, --supervisor */
#define N_OPTIONS (sizeof options / sizeof options[0])

const char *const cli_map_usage = "[OPTION...] -- CMD [ARG...] [::: ITEM...]";
const char *const cli_map_text =
    "Reads items, one a line, and runs CMD for each, several at a time. In ARG, {} is the item,\n"
    "{.} without its extension, {/} its last part, {//} its directory, {/.} its last part without\n"
    "extension, {#} its number, {%} that of the slot; without any, the item follows as the last\n"
    "argument. No shell is involved. Output is in the order of the items, each one's together.\n"
    "Ends with the number of items that failed, 101 for more than 100; 102: it could not go on;\n"
    "103: timed out with --on-timeout exit; 141: the output was closed; 128+n: ended by signal n.\n";

void cli_map_options(FILE *f)
{
	size_t i;

	for (i = 0; i < N_OPTIONS; i++)
		if (options[i].help)
			fprintf(f, "  %s\n", options[i].help);
}

static const char *name_of(int val)
{
	size_t i;

	for (i = 0; i < N_OPTIONS; i++)
		if (options[i].o.val == val)
			return options[i].o.name;
	return "?";
}

/* --- values --- */

static int wrong(int val, const char *s, const char *expected)
{
	char esc[128];

	cli_usage("map", "--%s: `%s` is not %s", name_of(val), text_escape(s, strlen(s), esc, sizeof esc), expected);
	return -1;
}

static int number(int val, const char *s, int64_t lo, int64_t hi, int64_t *v_r)
{
	char text[64];

	if (text_to_i64(s, lo, hi, v_r) == 0)
		return 0;
	snprintf(text, sizeof text, "a number from %lld to %lld", (long long)lo, (long long)hi);
	return wrong(val, s, text);
}

static unsigned processors(void)
{
	cpu_set_t set;
	long n;

	if (sched_getaffinity(0, sizeof set, &set) == 0)
		return (unsigned)CPU_COUNT(&set);
	n = sysconf(_SC_NPROCESSORS_ONLN);
	return n > 0 ? (unsigned)n : 1;
}

static int set_jobs(struct map_options *o, const char *s)
{
	char text[32];
	size_t n = strlen(s);
	int64_t v;

	if (s[0] == '+' && text_to_i64(s + 1, 0, JOBS_MAX, &v) == 0) {
		v += processors();
	} else if (n > 1 && n < sizeof text && s[n - 1] == '%') {
		memcpy(text, s, n - 1);
		text[n - 1] = '\0';
		if (text_to_i64(text, 1, JOBS_MAX, &v) < 0)
			return wrong('P', s, JOBS_EXPECTED);
		v = v * processors() / 100;
	} else if (text_to_i64(s, 1, JOBS_MAX, &v) < 0) {
		return wrong('P', s, JOBS_EXPECTED);
	}
	o->jobs = v < 1 ? 1 : v > JOBS_MAX ? JOBS_MAX : (unsigned)v;
	return 0;
}

static int set_size(struct map_options *o, const char *s)
{
	static const struct {
		char unit;
		int64_t size;
	} units[] = { { 'k', 1000 }, { 'K', 1 << 10 }, { 'm', 1000000 }, { 'M', 1 << 20 }, { 'g', 1000000000 },
		{ 'G', 1 << 30 } };
	char text[32];
	size_t n = strlen(s), i;
	int64_t v, unit = 1;

	for (i = 0; n > 1 && i < sizeof units / sizeof units[0]; i++)
		if (s[n - 1] == units[i].unit)
			unit = units[i].size;
	if (unit > 1)
		n--;
	if (n >= sizeof text)
		return wrong(OPT_BLOCK, s, "a size");
	memcpy(text, s, n);
	text[n] = '\0';
	if (text_to_i64(text, 1, BLOCK_MAX / unit, &v) < 0)
		return wrong(OPT_BLOCK, s, "a size from 1 to 1G");
	o->block = (size_t)(v * unit);
	return 0;
}

static int set_backoff(struct map_options *o, const char *s)
{
	const char *comma = strchr(s, ',');
	char text[32];
	size_t n = comma ? (size_t)(comma - s) : strlen(s);

	if (n >= sizeof text)
		return wrong(OPT_BACKOFF, s, "MS or MS,MAX");
	memcpy(text, s, n);
	text[n] = '\0';
	if (text_to_i64(text, 0, INT32_MAX, &o->backoff_ms) < 0)
		return wrong(OPT_BACKOFF, s, "MS or MS,MAX");
	o->backoff_max_ms = o->backoff_ms > BACKOFF_MAX_MS ? o->backoff_ms : BACKOFF_MAX_MS;
	if (comma && text_to_i64(comma + 1, o->backoff_ms, INT32_MAX, &o->backoff_max_ms) < 0)
		return wrong(OPT_BACKOFF, s, "MS or MS,MAX, MAX not below MS");
	return 0;
}

static int set_halt(struct map_options *o, const char *s)
{
	static const char *const expected = "never, soon or now, with ,fail=N ,fail=N% or ,done=N";
	const char *comma = strchr(s, ','), *what = comma ? comma + 1 : "fail=1";
	size_t n = comma ? (size_t)(comma - s) : strlen(s);
	char text[32];
	int64_t v;

	if (n == 5 && memcmp(s, "never", 5) == 0)
		o->halt = MAP_HALT_NEVER;
	else if (n == 4 && memcmp(s, "soon", 4) == 0)
		o->halt = MAP_HALT_SOON;
	else if (n == 3 && memcmp(s, "now", 3) == 0)
		o->halt = MAP_HALT_NOW;
	else
		return wrong(OPT_HALT, s, expected);
	o->halt_done = strncmp(what, "done=", 5) == 0;
	if (!o->halt_done && strncmp(what, "fail=", 5) != 0)
		return wrong(OPT_HALT, s, expected);
	n = strlen(what + 5);
	o->halt_percent = !o->halt_done && n > 1 && what[5 + n - 1] == '%';
	if (n >= sizeof text)
		return wrong(OPT_HALT, s, expected);
	memcpy(text, what + 5, n - o->halt_percent);
	text[n - o->halt_percent] = '\0';
	if (text_to_i64(text, 1, o->halt_percent ? 100 : INT32_MAX, &v) < 0)
		return wrong(OPT_HALT, s, expected);
	o->halt_n = (unsigned)v;
	return 0;
}

static int set_on_timeout(struct map_options *o, const char *s)
{
	o->timeout_exit = strcmp(s, "exit") == 0;
	return o->timeout_exit || strcmp(s, "kill") == 0 ? 0 : wrong(OPT_ON_TIMEOUT, s, "kill or exit");
}

static int set_name(int val, const char *s, const char **name_r)
{
	*name_r = s;
	return *s != '\0' ? 0 : wrong(val, s, "a name");
}

/* --- options --- */

static int set_flag(struct map_options *o, int val)
{
	switch (val) {
	case '0': o->nul = true; break;
	case OPT_UNORDERED: o->unordered = true; break;
	case OPT_LINE_BUFFER: o->line_buffer = true; break;
	case OPT_TAG: o->tag = true; break;
	case OPT_PIPE: o->pipe = true; break;
	case OPT_RESUME: o->resume = true; break;
	case OPT_RESUME_FAILED: o->resume = o->resume_failed = true; break;
	case OPT_DRY_RUN: o->dry_run = true; break;
	case OPT_PROGRESS: o->progress = true; break;
	case OPT_BAR: o->bar = true; break;
	case OPT_ETA: o->eta = true; break;
	case OPT_JSON: o->json = true; break;
	case 'q': diag_set_quiet(1); break;
	default: break;
	}
	return 0;
}

static int set_option(struct map_options *o, int val, const char *arg)
{
	int64_t v;

	switch (val) {
	case 'P':
		return set_jobs(o, arg);
	case OPT_MAX_ARGS:
		if (number(val, arg, 1, 1000000, &v) < 0)
			return -1;
		o->max_args = (size_t)v;
		return 0;
	case OPT_TIMEOUT:
		return number(val, arg, 0, INT32_MAX, &o->timeout_ms);
	case OPT_ON_TIMEOUT:
		return set_on_timeout(o, arg);
	case OPT_RETRIES:
		if (number(val, arg, 0, INT32_MAX, &v) < 0)
			return -1;
		o->retries = (unsigned)v;
		return 0;
	case OPT_BACKOFF:
		return set_backoff(o, arg);
	case OPT_HALT:
		return set_halt(o, arg);
	case OPT_BLOCK:
		return set_size(o, arg);
	case OPT_RECORDS:
		if (number(val, arg, 1, INT32_MAX, &v) < 0)
			return -1;
		o->records = (size_t)v;
		return 0;
	case OPT_JOBLOG:
		return set_name(val, arg, &o->joblog);
	case OPT_RESULTS:
		return set_name(val, arg, &o->results);
	case OPT_NODE:
		return set_name(val, arg, &node);
	case OPT_SUPERVISOR:
		return set_name(val, arg, &supervisor);
	default:
		return set_flag(o, val);
	}
}

static int say_unknown(const char *word)
{
	const char *names[N_OPTIONS + 1] = { NULL };
	const char *near;
	char esc[128], typed[64];
	size_t i, n;

	text_escape(word, strlen(word), esc, sizeof esc);
	if (word[0] != '-' || word[1] != '-')
		return cli_usage("map", "unknown option `-%s`",
		    text_escape(&(char){ (char)optopt }, 1, esc, sizeof esc));
	for (i = 0; i < N_OPTIONS; i++) {
		if (options[i].o.val == optopt)
			return cli_usage("map", "--%s takes no argument", options[i].o.name);
		names[i] = options[i].o.name;
	}
	n = strcspn(word + 2, "=");
	snprintf(typed, sizeof typed, "%.*s", (int)(n < 63 ? n : 63), word + 2);
	near = text_nearest(typed, names);
	if (near)
		return cli_usage("map", "unknown option `%s`; did you mean `--%s`?", esc, near);
	return cli_usage("map", "unknown option `%s`", esc);
}

/* The words before `--`, without items. Returns 0, or CLI_USAGE: said. */
static int parse_options(struct map_options *o, int argc, char **argv, int *asked_r)
{
	struct option table[N_OPTIONS + 1] = { 0 };
	char esc[128];
	size_t i;
	int val;

	for (i = 0; i < N_OPTIONS; i++)
		table[i] = options[i].o;
	opterr = 0;
	optind = 0;
	while ((val = getopt_long(argc, argv, "-:hVq0P:", table, NULL)) != -1) {
		if (val == 1)
			return cli_usage("map", "`%s`: the command stands behind --",
			    text_escape(optarg, strlen(optarg), esc, sizeof esc));
		if (val == '?')
			return say_unknown(argv[optind - 1]);
		if (val == ':')
			return cli_usage("map", "--%s needs an argument", name_of(optopt));
		if (val == 'h' || val == 'V')
			*asked_r = val;
		if (set_option(o, val, optarg) < 0)
			return CLI_USAGE;
	}
	return 0;
}

static int check(const struct map_options *o, bool block, bool args)
{
	if (o->pipe && (args || o->max_args > 1))
		return cli_usage("map", "--pipe takes neither ::: nor --max-args: its input is cut into chunks");
	if (!o->pipe && (block || o->records > 0))
		return cli_usage("map", "--block and --records are for --pipe");
	if (o->resume && !o->joblog)
		return cli_usage("map", "--resume needs --joblog FILE, which tells what is done");
	if (o->json && (o->line_buffer || o->tag || o->dry_run))
		return cli_usage("map", "--json goes with none of --line-buffer, --tag and --dry-run");
	if (o->results && o->line_buffer)
		return cli_usage("map", "--results does not go with --line-buffer");
	if (o->pipe && o->tag)
		return cli_usage("map", "--tag does not go with --pipe: a chunk has no name");
	if (o->line_buffer && o->retries > 0)
		return cli_usage("map", "--retries does not go with --line-buffer: the output of a failed attempt would stay");
	if (supervisor && !node)
		return cli_usage("map", "--supervisor is one of a node: it needs --node NAME");
	if (args && o->nul)
		return cli_usage("map", "-0 is for standard input; with ::: nothing is read");
	return 0;
}

static int index_of(int argc, char **argv, int from, const char *word)
{
	int i;

	for (i = from; i < argc; i++)
		if (strcmp(argv[i], word) == 0)
			break;
	return i;
}

/* Cuts the words: options, [::: items] -- command [::: items]. */
static int cut(struct map_options *o, int argc, char **argv, int *head_r)
{
	int tail = index_of(argc, argv, 1, "--"), head = index_of(tail, argv, 1, ":::"), end = argc;

	*head_r = head;
	if (head < tail) {
		o->args = argv + head + 1;
		o->n_args = (size_t)(tail - head - 1);
	}
	if (tail < argc) {
		end = index_of(argc, argv, tail + 1, ":::");
		o->cmd = argv + tail + 1;
		o->n_cmd = (size_t)(end - tail - 1);
	}
	if (end < argc && o->args)
		return cli_usage("map", "::: stands before -- or behind the command, not both");
	if (end < argc) {
		o->args = argv + end + 1;
		o->n_args = (size_t)(argc - end - 1);
	}
	return 0;
}

/* Ended by a signal, so that a shell's loop ends, too; all is cleaned up by now. */
static int end_as(int status)
{
	static const int ours[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM };
	size_t i;

	for (i = 0; i < sizeof ours / sizeof ours[0]; i++)
		if (status == 128 + ours[i])
			return task_end_as(ours[i]);
	return status;
}

/* An input that is not there is no empty one, and output is not to be lost. */
static bool lacks_std(const struct map_options *o)
{
	errno = EBADF;
	if (!o->args && fds_was_closed(STDIN_FILENO))
		diag_error_errno("map: unable to read the input");
	else if (fds_was_closed(STDOUT_FILENO))
		diag_error_errno("map: unable to write standard output");
	else
		return false;
	return true;
}

int cli_map(int argc, char **argv, int *asked_r)
{
	struct map_options o = { .jobs = processors(), .max_args = 1, .timeout_ms = -1 };
	int head;

	if (cut(&o, argc, argv, &head) != 0 || parse_options(&o, head, argv, asked_r) != 0)
		return CLI_USAGE;
	if (*asked_r != 0)
		return CLI_OK;
	if (o.n_cmd == 0)
		return cli_usage("map", "it needs -- CMD [ARG...]");
	if (check(&o, o.block > 0, o.args != NULL) != 0)
		return CLI_USAGE;
	if (o.block == 0)
		o.block = BLOCK_DEFAULT;
	if (lacks_std(&o))
		return MAP_BROKEN;
	if (node && !o.dry_run && cli_map_under_node(&o, node, supervisor ? supervisor : "tasks") != 0)
		return MAP_BROKEN;
	return end_as(map_run(&o));
}

/* An option of any command whose argument is the next word. */
static bool takes_word(const char *s)
{
	static const char *const all[] = { "--node", "--socket", "--timeout", "--since", "--lines", "-n", "--restart" };
	size_t i;

	for (i = 0; i < sizeof all / sizeof all[0]; i++)
		if (strcmp(s, all[i]) == 0)
			return true;
	return false;
}

int cli_map_find(int argc, char **argv)
{
	int i;

	for (i = 1; i < argc && argv[i][0] == '-' && strcmp(argv[i], "--") != 0; i++)
		if (takes_word(argv[i]))
			i++;
	return i < argc && strcmp(argv[i], "map") == 0 ? i : 0;
}
