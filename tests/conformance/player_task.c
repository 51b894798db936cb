/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Tasks and streams of tasks. The script knows who owns which task; the owner, a bare process, does what is to be done
 * with it. A task's name is a name like others, entered by the task itself; a stream's are item0, item1, ..., and never
 * entered, so that their ends are no events.
 */
#include "player.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <coppice/task.h>

enum { ITEMS_MAX = LINE_LEN_MAX / 2 };

struct task_command {
	uint32_t owner, sup;          /* actors; 0: none */
	bool nolink, brutal;
	uint8_t restart;              /* enum cop_task_restart */
	int64_t take;                 /* -1: all */
	struct cop_stream_options stream;
	char *work[ITEMS_MAX];
	uint32_t item[ITEMS_MAX];     /* actors */
	size_t n_items;
};

/* --- reading --- */

static bool is_step(const char *step)
{
	const char *arg = strchr(step, ':');
	struct cop_exit reason;
	int64_t n;
	size_t len = arg ? (size_t)(arg - step) : strlen(step);

	if (!arg)
		return strcmp(step, "crash") == 0;
	arg++;
	if (len == 5 && strncmp(step, "sleep", len) == 0)
		return parse_number(arg, 0, INT32_MAX, &n);
	if (len == 5 && strncmp(step, "flaky", len) == 0)
		return parse_number(arg, 0, INT64_MAX, &n);
	if (len == 4 && strncmp(step, "exit", len) == 0)
		return cop_exit_parse(arg, &reason) == 0;
	return (len == 2 && strncmp(step, "ok", len) == 0) || (len == 3 && strncmp(step, "say", len) == 0);
}

bool task_is_work(const char *work)
{
	char text[LINE_LEN_MAX], *rest = text, *step;

	snprintf(text, sizeof text, "%s", work);
	while ((step = strsep(&rest, ",")) != NULL)
		if (!is_step(step))
			return false;
	return true;
}

void task_command_begin(struct command *c)
{
	c->task = calloc(1, sizeof *c->task);
	if (c->task == NULL)
		abort();
	c->task->take = -1;
	c->timeout_ms = COP_TASK_MS;
}

static bool set_items(struct task_command *t, char *items)
{
	char name[32], *work;

	while ((work = strsep(&items, ";")) != NULL) {
		if (t->n_items == ITEMS_MAX || !task_is_work(work))
			return false;
		snprintf(name, sizeof name, "item%zu", t->n_items);
		t->item[t->n_items] = parse_actor(strdup(name));
		t->work[t->n_items++] = work;
	}
	return true;
}

static bool set_yes(const char *value, bool *flag, bool is)
{
	bool yes = strcmp(value, "yes") == 0;

	*flag = yes == is;
	return yes || strcmp(value, "no") == 0;
}

static bool set_time(struct command *c, const char *value)
{
	int64_t n;

	if (strcmp(value, "brutal_kill") == 0 && c->verb == V_SHUTDOWN_TASK)
		c->task->brutal = true;
	else if (strcmp(value, "infinity") == 0)
		c->timeout_ms = COP_INFINITY;
	else if (parse_number(value, 0, INT32_MAX, &n))
		c->timeout_ms = (int)n;
	else
		return false;
	return true;
}

static bool set_restart(struct task_command *t, const char *value)
{
	static const char *const words[] = { "temporary", "transient", "permanent" };
	uint8_t i;

	for (i = 0; i < 3; i++)
		if (strcmp(words[i], value) == 0) {
			t->restart = i;
			return true;
		}
	return false;
}

bool task_option(struct command *c, const char *key, char *value)
{
	struct task_command *t = c->task;
	int64_t n;

	if (strcmp(key, "owner") == 0)
		t->owner = parse_actor(value);
	else if (strcmp(key, "sup") == 0)
		t->sup = parse_actor(value);
	else if (strcmp(key, "timeout") == 0)
		return set_time(c, value);
	else if (strcmp(key, "restart") == 0)
		return set_restart(t, value);
	else if (strcmp(key, "items") == 0)
		return set_items(t, value);
	else if (strcmp(key, "ordered") == 0)
		return set_yes(value, &t->stream.unordered, false);
	else if (strcmp(key, "nolink") == 0)
		return set_yes(value, &t->nolink, true);
	else if (strcmp(key, "take") == 0)
		return parse_number(value, 0, INT32_MAX, &t->take);
	else if (strcmp(key, "max_concurrency") == 0 && parse_number(value, 1, INT32_MAX, &n))
		t->stream.max_concurrency = (uint32_t)n;
	else if (strcmp(key, "on_timeout") == 0 && strcmp(value, "kill_task") == 0)
		t->stream.on_timeout = COP_TIMEOUT_KILL_TASK;
	else
		return strcmp(key, "on_timeout") == 0 && strcmp(value, "exit") == 0;
	return true;
}

bool task_command_is_whole(const struct command *c)
{
	const struct task_command *t = c->task;
	bool owned = c->verb == V_ASYNC || c->verb == V_ASYNC_NOLINK || c->verb == V_ASYNC_STREAM;

	return (t->owner != 0) == owned && (t->sup != 0 || (c->verb != V_ASYNC_NOLINK && c->verb != V_START_TASK)) &&
	    (t->n_items > 0) == (c->verb == V_ASYNC_STREAM) && (!t->nolink || t->sup != 0);
}

/* --- working --- */

static struct cop_result work(uint32_t actor, const char *steps)
{
	char text[LINE_LEN_MAX], value[LINE_LEN_MAX] = "nil", *rest = text, *step, *arg;
	struct cop_exit reason;

	snprintf(text, sizeof text, "%s", steps);
	while ((step = strsep(&rest, ",")) != NULL) {
		arg = step;
		strsep(&arg, ":");
		if (strcmp(step, "sleep") == 0) {
			cop_sleep(atoi(arg));
		} else if (strcmp(step, "ok") == 0) {
			snprintf(value, sizeof value, "%s", arg);
		} else if (strcmp(step, "say") == 0) {
			emit("say %s %s", scenario.actors[actor], arg);
		} else if (strcmp(step, "exit") == 0 && strcmp(arg, "crash") != 0 &&
			cop_exit_parse(arg, &reason) == 0) {
			cop_exit(&reason);
		} else if (strcmp(step, "flaky") != 0 || names_runs(actor) <= atoll(arg)) {
			crash();
		}
	}
	return cop_return(value, strlen(value));
}

/* The name of a task is the command's. Under a supervisor the argument is a copy: an index means the same there. */
static struct cop_result task(const void *arg, size_t size)
{
	const struct command *c;
	uint32_t index;

	if (size != sizeof index)
		abort();
	memcpy(&index, arg, sizeof index);
	c = &scenario.commands[index];
	names_enter(c->name[0], ROLE_TASK, cop_self(), LIFE_UP);
	return work(c->name[0], c->msg);
}

struct item {
	uint32_t command, i;
};

static struct cop_result item_work(void *ctx, const void *data, size_t len)
{
	struct item item;
	const struct task_command *t;

	(void)ctx;
	if (len != sizeof item)
		abort();
	memcpy(&item, data, sizeof item);
	t = scenario.commands[item.command].task;
	return work(t->item[item.i], t->work[item.i]);
}

/* --- in the owner --- */

static struct cop_task *tasks; /* of the calling process, by the task's actor */

static _Noreturn void exit_noproc(void)
{
	struct cop_exit noproc = cop_exit_make(COP_EXIT_NOPROC, 0);

	cop_exit(&noproc);
}

/* In OTP these are exceptions, and nobody catches them. */
static const char *do_async(const struct command *c)
{
	struct cop_dest sup = cop_named(scenario.actors[c->task->sup]);
	uint32_t index = (uint32_t)(c - scenario.commands);
	struct cop_task t;
	int r;

	if (tasks == NULL)
		tasks = calloc(scenario.n_actors, sizeof *tasks);
	if (tasks == NULL)
		abort();
	if (c->task->sup == 0)
		r = cop_task_async(task, memcpy(malloc(sizeof index), &index, sizeof index), sizeof index, &t);
	else if (c->verb == V_ASYNC)
		r = cop_task_supervisor_async(sup, task, &index, sizeof index, NULL, &t);
	else
		r = cop_task_supervisor_async_nolink(sup, task, &index, sizeof index, NULL, &t);
	if (r < 0 && errno == EOVERFLOW)
		crash();
	if (r < 0 && (errno == ESRCH || errno == EPIPE || errno == ENOENT))
		exit_noproc();
	if (r < 0)
		emit_impossible("line %d: unable to start a task: %m", c->line);
	else
		tasks[c->name[0]] = t;
	return "ok";
}

static void exit_text(char *text, size_t size, const char *before, const struct cop_exit *reason)
{
	char word[COP_EXIT_FORMAT_MAX];

	snprintf(text, size, "%s%s", before, reason_word(reason, word));
}

/* `await`, `yield` and `shutdown_task`. */
static void do_await(const struct command *c, char text[LINE_LEN_MAX])
{
	struct cop_response r;
	const struct cop_task *t = tasks ? &tasks[c->name[0]] : NULL;
	char value[LINE_LEN_MAX];
	int how;

	if (t == NULL || t->owner.id == 0) {
		emit_impossible("line %d: no such task", c->line);
		return;
	}
	if (c->verb == V_AWAIT)
		how = cop_task_await(t, c->timeout_ms, &r) == 0 ? 1 : -1;
	else if (c->verb == V_YIELD)
		how = cop_task_yield(t, c->timeout_ms, &r);
	else
		how = cop_task_shutdown(t, c->task->brutal ? COP_TASK_BRUTAL_KILL : c->timeout_ms, &r);
	if (how < 0) {
		exit_text(text, LINE_LEN_MAX, "exit ", &r.reason);
	} else if (how == 0) {
		snprintf(text, LINE_LEN_MAX, "nil");
	} else {
		snprintf(text, LINE_LEN_MAX, "%s%s", c->verb == V_AWAIT ? "" : "ok ", msg_text(&r.msg, value));
		cop_response_done(&r);
	}
}

struct feed {
	struct item item;
	size_t n, given;
};

static int next_item(void *ctx, const void **item_r, size_t *len_r)
{
	struct feed *f = ctx;

	if (f->n == f->given)
		return 0;
	f->item.i = (uint32_t)f->given++;
	*item_r = &f->item;
	*len_r = sizeof f->item;
	return 1;
}

static void add_result(char text[LINE_LEN_MAX], const struct cop_stream_result *r)
{
	size_t len = strlen(text);

	if (len > 0 && len + 1 < LINE_LEN_MAX)
		text[len++] = ' ';
	if (r->how > 0)
		snprintf(text + len, LINE_LEN_MAX - len, "ok:%.*s", (int)r->len, (const char *)r->data);
	else
		exit_text(text + len, LINE_LEN_MAX - len, "exit:", &r->reason);
}

/* As in OTP, a stream that exits because of its time-out is not closed. */
static void stream_failed(struct cop_stream *s, const struct cop_stream_result *r, char text[LINE_LEN_MAX])
{
	int err = errno;

	exit_text(text, LINE_LEN_MAX, "exit ", &r->reason);
	if (err != ETIMEDOUT)
		cop_stream_close(s);
	if (err == EOVERFLOW)
		crash();
}

static void do_stream(const struct command *c, char text[LINE_LEN_MAX])
{
	const struct task_command *t = c->task;
	struct feed feed = { { (uint32_t)(c - scenario.commands), 0 }, t->n_items, 0 };
	struct cop_stream_input input = { next_item, NULL, &feed };
	struct cop_stream_options o = t->stream;
	struct cop_dest sup = cop_named(scenario.actors[t->sup]);
	struct cop_stream_result r = { 0 };
	struct cop_stream *s;
	int64_t left = t->take;
	int more = 1;

	o.timeout_ms = c->timeout_ms;
	o.nolink = t->nolink;
	if (t->sup != 0)
		o.supervisor = &sup;
	text[0] = '\0';
	s = cop_stream_open(&input, item_work, &o);
	if (s == NULL) {
		emit_impossible("line %d: unable to open a stream: %m", c->line);
		return;
	}
	while (left != 0 && (more = cop_stream_next(s, &r)) > 0) {
		add_result(text, &r);
		if (left > 0)
			left--;
	}
	if (more < 0)
		stream_failed(s, &r, text);
	else
		cop_stream_close(s);
	if (text[0] == '\0')
		snprintf(text, LINE_LEN_MAX, "none");
}

bool task_is_owners(enum verb verb)
{
	return verb >= V_ASYNC && verb <= V_ASYNC_STREAM && verb != V_START_TASK;
}

const char *task_obey(const struct command *c)
{
	static char text[LINE_LEN_MAX];

	if (c->verb == V_ASYNC || c->verb == V_ASYNC_NOLINK)
		return do_async(c);
	if (c->verb == V_ASYNC_STREAM)
		do_stream(c, text);
	else
		do_await(c, text);
	return text;
}

/* --- in the script --- */

uint32_t task_owner(const struct command *c)
{
	static uint32_t *owners; /* by the task's actor */

	if (owners == NULL)
		owners = calloc(scenario.n_actors, sizeof *owners);
	if (owners == NULL)
		abort();
	if (c->verb == V_ASYNC_STREAM)
		return c->task->owner;
	if (c->verb == V_ASYNC || c->verb == V_ASYNC_NOLINK)
		owners[c->name[0]] = c->task->owner;
	return owners[c->name[0]];
}

void task_start(const struct command *c)
{
	uint32_t index = (uint32_t)(c - scenario.commands);
	struct cop_task_options o = { .restart = c->task->restart };
	struct cop_started started;
	char word[COP_EXIT_FORMAT_MAX];

	if (cop_task_supervisor_start_child(cop_named(scenario.actors[c->task->sup]), task, &index, sizeof index, &o,
		&started) == COP_STARTED)
		emit_result("ok");
	else
		emit_result("%s %s", errno == ESRCH || errno == EPIPE ? "exit" : "error",
			reason_word(&started.reason, word));
}
