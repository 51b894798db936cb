/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Reads a scenario. Every line is checked before anything is played: commands, options, kinds, names, numbers and
 * reasons; a mistake is one line on standard error and exit status 2. Runs before there is a node. What it
 * allocates stays.
 */
#include "player.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TOKENS_MAX = LINE_LEN_MAX / 2, WORDS_MAX = 4096 };

struct scenario scenario;

static int line_no;
static char *line_token[TOKENS_MAX]; /* of the line at hand */
static size_t n_tokens, indent;

__attribute__((format(printf, 1, 2))) static _Noreturn void bad(const char *format, ...)
{
	va_list ap;

	fprintf(stderr, "player: %s: line %d: ", scenario.file, line_no);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(2);
}

static void *must(void *memory)
{
	if (memory == NULL) {
		fprintf(stderr, "player: out of memory\n");
		exit(2);
	}
	return memory;
}

/* Makes room for one more in an array of n. */
static void *one_more(void *array, size_t n, size_t size)
{
	/* Grows by doubling: at 0, 1, 2, 4, ... */
	if ((n & (n - 1)) != 0)
		return array;
	return must(reallocarray(array, n ? 2 * n : 1, size));
}

/* --- words --- */

bool parse_number(const char *text, int64_t min, int64_t max, int64_t *number_r)
{
	const char *digits = text + (*text == '-' || *text == '+');
	long long n;

	if (*digits == '\0' || digits[strspn(digits, "0123456789")] != '\0')
		return false;
	errno = 0;
	n = strtoll(text, NULL, 10);
	if (errno != 0 || n < min || n > max)
		return false;
	*number_r = n;
	return true;
}

static int64_t number(const char *what, const char *text, int64_t min, int64_t max)
{
	int64_t n;

	if (!parse_number(text, min, max, &n))
		bad("%s: %s is no number, or out of bounds", what, text);
	return n;
}

static int ms(const char *what, const char *text)
{
	return (int)number(what, text, 0, INT32_MAX);
}

/* Which of these words, NULL at the end, it is. */
static int choice(const char *key, const char *value, const char *const words[])
{
	int i;

	for (i = 0; words[i]; i++)
		if (strcmp(words[i], value) == 0)
			return i;
	bad("%s: unknown value %s", key, value);
}

static bool yes(const char *key, const char *value)
{
	static const char *const words[] = { "no", "yes", NULL };

	return choice(key, value, words) == 1;
}

static struct cop_exit reason(const char *text)
{
	struct cop_exit r;

	if (cop_exit_parse(text, &r) < 0)
		bad("bad reason %s", text);
	return r;
}

static size_t intern(const char ***words, size_t *n, const char *word)
{
	size_t i;

	for (i = 0; i < *n; i++)
		if (strcmp((*words)[i], word) == 0)
			return i;
	if (*n == WORDS_MAX)
		bad("too many names");
	*words = one_more(*words, *n, sizeof **words);
	(*words)[*n] = word;
	return (*n)++;
}

static uint32_t actor(const char *name)
{
	static const char more[] = "abcdefghijklmnopqrstuvwxyz0123456789_";
	size_t len = strspn(name, more);

	if (name[0] < 'a' || name[0] > 'z' || name[len] != '\0')
		bad("bad name %s", name);
	if (len >= COP_NAME_MAX)
		bad("the name %s is too long", name);
	return (uint32_t)intern(&scenario.actors, &scenario.n_actors, name);
}

static uint32_t new_actor(const char *name)
{
	uint32_t i = actor(name);

	if (i == ACTOR_SCRIPT)
		bad("the name %s is taken", name);
	return i;
}

uint32_t parse_actor(const char *name)
{
	return new_actor(name);
}

/* --- options --- */

/* A token `key=value`, as the key is of small letters and underscores. */
static bool is_option(const char *token)
{
	size_t len = strspn(token, "abcdefghijklmnopqrstuvwxyz_");

	return len > 0 && token[len] == '=';
}

static void set_restart(struct node *n, const char *value)
{
	static const char *const words[] = { "permanent", "transient", "temporary", NULL };
	static const enum cop_restart is[] = { COP_PERMANENT, COP_TRANSIENT, COP_TEMPORARY };

	n->child.restart = (uint8_t)is[choice("restart", value, words)];
}

static void set_shutdown(struct node *n, const char *value)
{
	if (strcmp(value, "infinity") == 0)
		n->child.shutdown_ms = COP_SHUTDOWN_INFINITY;
	else if (strcmp(value, "brutal_kill") == 0)
		n->child.shutdown_ms = COP_SHUTDOWN_BRUTAL_KILL;
	else
		n->child.shutdown_ms = ms("shutdown", value);
	if (n->child.shutdown_ms == 0)
		n->child.shutdown_ms = COP_SHUTDOWN_AT_ONCE;
}

static void set_significant(struct node *n, const char *value)
{
	n->child.significant = yes("significant", value);
}

static void set_trap_exit(struct node *n, const char *value)
{
	n->trap_exit = yes("trap_exit", value);
}

static void set_continue(struct node *n, const char *value)
{
	if (*value == '\0')
		bad("continue: nothing to continue with");
	n->continue_with = value;
}

static void set_slow_init(struct node *n, const char *value)
{
	n->slow_init_ms = ms("slow_init", value);
}

static void set_slow_terminate(struct node *n, const char *value)
{
	n->slow_terminate_ms = ms("slow_terminate", value);
}

static void set_initial(struct node *n, const char *value)
{
	n->initial = number("initial", value, INT64_MIN, INT64_MAX);
}

static void set_strategy(struct node *n, const char *value)
{
	static const char *const words[] = { "one_for_one", "one_for_all", "rest_for_one", NULL };
	static const enum cop_strategy is[] = { COP_ONE_FOR_ONE, COP_ONE_FOR_ALL, COP_REST_FOR_ONE };

	n->spec.strategy = (uint8_t)is[choice("strategy", value, words)];
}

static void set_auto_shutdown(struct node *n, const char *value)
{
	static const char *const words[] = { "never", "any_significant", "all_significant", NULL };
	static const enum cop_auto_shutdown is[] = { COP_AUTO_NEVER, COP_AUTO_ANY_SIGNIFICANT,
		COP_AUTO_ALL_SIGNIFICANT };

	n->spec.auto_shutdown = (uint8_t)is[choice("auto_shutdown", value, words)];
}

static int32_t limit(const char *key, const char *value)
{
	int32_t n = ms(key, value);

	return n == 0 ? COP_NOT_ONE : n;
}

static void set_max_restarts(struct node *n, const char *value)
{
	n->spec.max_restarts = limit("max_restarts", value);
}

static void set_max_seconds(struct node *n, const char *value)
{
	n->spec.max_seconds = (int32_t)number("max_seconds", value, 1, INT32_MAX);
}

static void set_max_children(struct node *n, const char *value)
{
	n->spec.max_children = strcmp(value, "infinity") == 0 ? 0 : limit("max_children", value);
}

#define OF(kind) (1u << (kind))
#define OF_ANY (OF(NODE_WORKER) | OF(NODE_SUPERVISOR) | OF(NODE_DYNAMIC))

static void set_node_option(struct node *node, char *option)
{
	static const struct {
		const char *key;
		unsigned kinds;
		void (*set)(struct node *, const char *);
	} options[] = {
		{ "restart", OF_ANY, set_restart },
		{ "shutdown", OF_ANY, set_shutdown },
		{ "significant", OF_ANY, set_significant },
		{ "trap_exit", OF(NODE_WORKER), set_trap_exit },
		{ "continue", OF(NODE_WORKER), set_continue },
		{ "slow_init", OF(NODE_WORKER), set_slow_init },
		{ "slow_terminate", OF(NODE_WORKER), set_slow_terminate },
		{ "initial", OF(NODE_WORKER), set_initial },
		{ "strategy", OF(NODE_SUPERVISOR), set_strategy },
		{ "auto_shutdown", OF(NODE_SUPERVISOR), set_auto_shutdown },
		{ "max_restarts", OF(NODE_SUPERVISOR) | OF(NODE_DYNAMIC), set_max_restarts },
		{ "max_seconds", OF(NODE_SUPERVISOR) | OF(NODE_DYNAMIC), set_max_seconds },
		{ "max_children", OF(NODE_DYNAMIC), set_max_children },
	};
	char *value = strchr(option, '=');
	size_t i;

	*value++ = '\0';
	for (i = 0; i < sizeof options / sizeof options[0]; i++)
		if (strcmp(options[i].key, option) == 0 && (options[i].kinds & OF(node->kind))) {
			options[i].set(node, value);
			return;
		}
	bad("unknown option %s", option);
}

/* Whether it is one of the words of a list. */
static bool is_among(const char *word, const char *list)
{
	size_t len = strlen(word), n;

	for (; *list; list += n + (list[n] == ' ')) {
		n = strcspn(list, " ");
		if (n == len && strncmp(word, list, n) == 0)
			return true;
	}
	return false;
}

static void set_command_option(struct command *c, const char *allowed, char *option)
{
	char *value = strchr(option, '=');

	*value++ = '\0';
	if (!is_among(option, allowed))
		bad("unknown option %s", option);
	if (c->task) {
		if (!task_option(c, option, value))
			bad("%s: unknown value %s", option, value);
		return;
	}
	if (strcmp(option, "trap_exit") == 0)
		c->trap_exit = yes("trap_exit", value);
	else if (strcmp(option, "as") == 0)
		c->timer = (long)intern(&scenario.timers, &scenario.n_timers, value);
	else
		c->timeout_ms = strcmp(value, "infinity") == 0 ? COP_INFINITY : ms("timeout", value);
}

/* --- the tree --- */

static struct node *new_node(const char *kind, const char *name)
{
	static const char *const words[] = { "worker", "supervisor", "dynamic_supervisor", "task_supervisor", NULL };
	static const enum node_kind is[] = { NODE_WORKER, NODE_SUPERVISOR, NODE_DYNAMIC, NODE_DYNAMIC };
	struct node *n = must(calloc(1, sizeof *n));

	n->kind = is[choice("kind", kind, words)];
	n->actor = new_actor(name);
	n->index = (uint32_t)scenario.n_nodes;
	scenario.nodes = one_more(scenario.nodes, scenario.n_nodes, sizeof *scenario.nodes);
	scenario.nodes[scenario.n_nodes++] = n;
	n->child.id = name;
	if (n->kind == NODE_WORKER) {
		n->child.server = &worker_ops;
		n->child.name = name;
		n->child.arg = &n->index;
		n->child.arg_size = sizeof n->index;
	} else {
		n->child.supervisor = &n->spec;
		n->spec.name = name;
		n->spec.dynamic = n->kind == NODE_DYNAMIC;
	}
	return n;
}

/* Makes the lists of children, each in order, when all nodes of the tree are known. */
static void finish_tree(void)
{
	struct cop_child **list = must(calloc(scenario.n_nodes + 1, sizeof *list));
	struct node *parent;
	size_t i;

	for (i = 0; i < scenario.n_nodes; i++)
		if (scenario.nodes[i]->n_children > 0) {
			list[i] = must(calloc(scenario.nodes[i]->n_children, sizeof **list));
			scenario.nodes[i]->spec.children = list[i];
		}
	for (i = 0; i < scenario.n_nodes; i++) {
		parent = scenario.nodes[i]->parent;
		if (parent)
			list[parent->index][parent->spec.n_children++] = scenario.nodes[i]->child;
	}
	free(list);
}

/* One line. above is the node of the line before, NULL for the first. Returns its node. */
static struct node *tree_line(struct node *above)
{
	struct node *n, *parent = above;
	size_t i;

	if (n_tokens < 2)
		bad("expected a kind and a name");
	n = new_node(line_token[0], line_token[1]);
	n->depth = indent;
	if (indent % 2 != 0 || indent > (above ? above->depth + 2 : 2))
		bad("bad indentation");
	while (parent && parent->depth >= indent)
		parent = parent->parent;
	if (above && parent == NULL)
		bad("a tree has one top");
	if (parent && parent->kind != NODE_SUPERVISOR)
		bad("%s has no children", scenario.actors[parent->actor]);
	n->parent = parent;
	if (parent)
		parent->n_children++;
	for (i = 2; i < n_tokens; i++) {
		if (!is_option(line_token[i]))
			bad("expected an option, not %s", line_token[i]);
		set_node_option(n, line_token[i]);
	}
	return n;
}

/* --- the script --- */

static const struct syntax {
	const char *name;
	enum verb verb;
	const char *words;  /* N name, D declared name, K kind, R reason, M message, T milliseconds, C count, A timer,
			       W work */
	const char *option; /* words; "": none; of start_child those of its kind */
	int timeout_ms;
} commands[] = {
	{ "start", V_START, "", "", 0 },
	{ "stop", V_STOP, "", "", COP_INFINITY },
	{ "exit", V_EXIT, "NR", "", 0 },
	{ "kill", V_KILL, "N", "", 0 },
	{ "signal", V_SIGNAL, "NR", "", 0 },
	{ "fail", V_FAIL, "NCR", "", 0 },
	{ "ignore", V_IGNORE, "NC", "", 0 },
	{ "start_child", V_START_CHILD, "NKD", "", 0 },
	{ "terminate_child", V_TERMINATE_CHILD, "NN", "", 0 },
	{ "restart_child", V_RESTART_CHILD, "NN", "", 0 },
	{ "delete_child", V_DELETE_CHILD, "NN", "", 0 },
	{ "which", V_WHICH, "N", "", 0 },
	{ "count", V_COUNT, "N", "", 0 },
	{ "alive", V_ALIVE, "N", "", 0 },
	{ "wait", V_WAIT, "T", "", 0 },
	{ "call", V_CALL, "NM", "timeout", COP_CALL_MS },
	{ "cast", V_CAST, "NM", "", 0 },
	{ "send", V_SEND, "NM", "", 0 },
	{ "send_after", V_SEND_AFTER, "NMT", "as", 0 },
	{ "cancel_timer", V_CANCEL_TIMER, "A", "", 0 },
	{ "stop_server", V_STOP_SERVER, "NR", "timeout", COP_INFINITY },
	{ "whereis", V_WHEREIS, "N", "", 0 },
	{ "request", V_REQUEST, "NNM", "timeout", COP_CALL_MS },
	{ "proc", V_PROC, "D", "trap_exit", 0 },
	{ "link", V_LINK, "NN", "", 0 },
	{ "unlink", V_UNLINK, "NN", "", 0 },
	{ "monitor", V_MONITOR, "NN", "", 0 },
	{ "demonitor", V_DEMONITOR, "NN", "", 0 },
	{ "exit_signal", V_EXIT_SIGNAL, "NNR", "", 0 },
	{ "async", V_ASYNC, "DW", "owner sup", 0 },
	{ "async_nolink", V_ASYNC_NOLINK, "DW", "owner sup", 0 },
	{ "await", V_AWAIT, "N", "timeout", 0 },
	{ "yield", V_YIELD, "N", "timeout", 0 },
	{ "shutdown_task", V_SHUTDOWN_TASK, "N", "timeout", 0 },
	{ "start_task", V_START_TASK, "DW", "sup restart", 0 },
	{ "async_stream", V_ASYNC_STREAM, "",
	  "owner items max_concurrency ordered timeout on_timeout sup nolink take", 0 },
};

static const struct syntax *syntax_of(const char *verb)
{
	size_t i;

	for (i = 0; i < sizeof commands / sizeof commands[0]; i++)
		if (strcmp(commands[i].name, verb) == 0)
			return &commands[i];
	bad("unknown command %s", verb);
}

static long known_timer(const char *name)
{
	size_t i;

	for (i = 0; i < scenario.n_timers; i++)
		if (strcmp(scenario.timers[i], name) == 0)
			return (long)i;
	bad("unknown timer %s", name);
}

/* Takes one word of a command. i counts its names. */
static void take_word(struct command *c, char type, const char *word, const char **kind, size_t *i)
{
	switch (type) {
	case 'N':
		c->name[(*i)++] = actor(word);
		break;
	case 'D':
		if (*kind)
			c->node = new_node(*kind, word);
		else
			c->name[(*i)++] = new_actor(word);
		break;
	case 'K':
		*kind = word;
		break;
	case 'R':
		c->reason_text = word;
		c->reason = reason(word);
		break;
	case 'M':
		c->msg = word;
		break;
	case 'T':
		c->number = ms("time", word);
		break;
	case 'W':
		if (!task_is_work(word))
			bad("bad work %s", word);
		c->msg = word;
		break;
	case 'C':
		c->number = number("count", word, 0, INT64_MAX);
		break;
	case 'A':
		c->timer = known_timer(word);
		break;
	}
}

static const char *joined_tokens(void)
{
	char *text = NULL;
	size_t len, i;
	FILE *f = must(open_memstream(&text, &len));

	for (i = 0; i < n_tokens; i++)
		fprintf(f, "%s%s", i > 0 ? " " : "", line_token[i]);
	if (fclose(f) != 0)
		must(NULL);
	return text;
}

static void check_words(const struct syntax *s)
{
	size_t i, n = 0;

	for (i = 1; i < n_tokens; i++)
		n += !is_option(line_token[i]);
	if (n != strlen(s->words))
		bad("%s takes %zu words", s->name, strlen(s->words));
}

static void script_line(void)
{
	const struct syntax *s = syntax_of(line_token[0]);
	const char *kind = NULL, *type = s->words;
	struct command c = { .verb = s->verb, .line = line_no, .timeout_ms = s->timeout_ms, .timer = -1 };
	size_t i, names = 0;

	if (c.verb >= V_ASYNC && c.verb <= V_ASYNC_STREAM)
		task_command_begin(&c);
	c.text = joined_tokens();
	check_words(s);
	for (i = 1; i < n_tokens; i++)
		if (!is_option(line_token[i]))
			take_word(&c, *type++, line_token[i], &kind, &names);
	for (i = 1; i < n_tokens; i++)
		if (is_option(line_token[i])) {
			if (c.node)
				set_node_option(c.node, line_token[i]);
			else
				set_command_option(&c, s->option, line_token[i]);
		}
	if (c.task && !task_command_is_whole(&c))
		bad("%s lacks an option, or has one too many", s->name);
	if (s->verb == V_START || s->verb == V_STOP) {
		if (scenario.top == NULL)
			bad("there is no tree");
		c.name[0] = scenario.top->actor;
		c.reason = cop_exit_make(COP_EXIT_NORMAL, 0);
	}
	scenario.commands = one_more(scenario.commands, scenario.n_commands, sizeof c);
	scenario.commands[scenario.n_commands++] = c;
}

/* --- the file --- */

static char *read_file(const char *file)
{
	char *text = must(malloc(FILE_LEN_MAX + 1));
	FILE *f = fopen(file, "r");
	size_t len;

	if (f == NULL) {
		fprintf(stderr, "player: unable to open %s: %s\n", file, strerror(errno));
		exit(2);
	}
	len = fread(text, 1, FILE_LEN_MAX + 1, f);
	if (ferror(f)) {
		fprintf(stderr, "player: unable to read %s: %s\n", file, strerror(errno));
		exit(2);
	}
	fclose(f);
	if (len > FILE_LEN_MAX || memchr(text, '\0', len)) {
		fprintf(stderr, "player: %s is no scenario\n", file);
		exit(2);
	}
	text[len] = '\0';
	return text;
}

/* Cuts a line, comment and all, into tokens. */
static void cut(char *line)
{
	static const char blanks[] = " \t\r\v\f";
	char *rest;

	line[strcspn(line, "#")] = '\0';
	if (strlen(line) >= LINE_LEN_MAX)
		bad("too long a line");
	indent = strspn(line, " ");
	for (n_tokens = 0; (line_token[n_tokens] = strtok_r(n_tokens ? NULL : line, blanks, &rest)) != NULL; n_tokens++)
		if (n_tokens == TOKENS_MAX - 1)
			bad("too many words");
}

static bool is_word(const char *word)
{
	return indent == 0 && n_tokens == 1 && strcmp(line_token[0], word) == 0;
}

static bool is_order(void)
{
	static const char *const words[] = { "total", "per_process", NULL };

	if (indent != 0 || n_tokens != 2 || strcmp(line_token[0], "order") != 0)
		return false;
	choice("order", line_token[1], words);
	return true;
}

void parse_scenario(const char *file)
{
	enum { ORDER, AFTER_ORDER, TREE, SCRIPT } where = ORDER;
	struct node *above = NULL;
	char *text, *line;

	scenario.file = file;
	text = read_file(file);
	intern(&scenario.actors, &scenario.n_actors, "script");
	while ((line = strsep(&text, "\n")) != NULL) {
		line_no++;
		cut(line);
		if (n_tokens == 0)
			continue;
		if (where == ORDER) {
			if (!is_order())
				bad("expected an order line");
			where = AFTER_ORDER;
		} else if (where == AFTER_ORDER && is_word("tree")) {
			where = TREE;
		} else if (where == TREE && indent > 0) {
			above = tree_line(above);
			if (scenario.top == NULL)
				scenario.top = above;
		} else if (where != SCRIPT) {
			if (where == TREE && scenario.top == NULL)
				bad("a tree has one top");
			if (!is_word("script"))
				bad("expected a script section");
			finish_tree();
			where = SCRIPT;
		} else {
			script_line();
		}
	}
	if (where != SCRIPT)
		bad(where == ORDER ? "expected an order line" : "expected a script section");
}
