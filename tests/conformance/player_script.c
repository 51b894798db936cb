/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The script: the first process of the node, parent of the tree's top. Does one command after the other, when it is
 * told to, and writes the result of each. What may fail a caller, or leave something in its mailbox, is done by a
 * process of its own. Commands to bare processes are done by these.
 */
#include "player.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

cop_pid script_pid;
static cop_ref *timers; /* by number */

_Noreturn void impossible(const struct command *c, const char *format, ...)
{
	struct cop_exit normal = cop_exit_make(COP_EXIT_NORMAL, 0);
	char text[LINE_LEN_MAX];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof text, format, ap);
	va_end(ap);
	emit_impossible("line %d: %s", c->line, text);
	cop_exit(&normal);
}

static const char *name(const struct command *c, int i)
{
	return scenario.actors[c->name[i]];
}

/* The last process that had the name. */
static cop_pid pid_of(const struct command *c, int i)
{
	enum role role;
	cop_pid pid = names_last(c->name[i], &role);

	if (cop_pid_is(pid, COP_NOPID))
		impossible(c, "no process was ever called %s", name(c, i));
	return pid;
}

/* --- a process that does something for the script --- */

struct answer {
	cop_pid pid;
	cop_ref ref; /* of a monitor */
};

static bool is_answer(void *ctx, const struct cop_msg *msg)
{
	const struct answer *a = ctx;

	if (msg->kind == COP_MSG_DOWN)
		return cop_ref_is(msg->ref, a->ref);
	return msg->kind == COP_MSG_PLAIN && msg->tag != TAG_MSG && cop_pid_is(msg->from, a->pid);
}

/* Waits for the answer of a process, or for its end, and writes the result. */
static void answer_of(const struct command *c, cop_pid pid, cop_ref ref)
{
	struct answer a = { pid, ref };
	char text[LINE_LEN_MAX];
	struct cop_msg msg;

	if (cop_receive(&msg, is_answer, &a, COP_INFINITY) != 1)
		impossible(c, "unable to receive: %m");
	if (msg.kind == COP_MSG_DOWN) {
		emit_result("exit %s", reason_word(&msg.reason, text));
	} else {
		cop_demonitor(ref, true);
		if (msg.tag == TAG_TAKEN)
			impossible(c, "%s is the name of a process already", name(c, 0));
		emit_result("%s", msg_text(&msg, text));
	}
	cop_msg_done(&msg);
}

void spawned(const struct command *c, cop_proc_f *f)
{
	cop_pid pid;
	cop_ref ref;

	if (cop_spawn_monitor(f, (void *)c, &pid, &ref) < 0)
		impossible(c, "unable to spawn: %m");
	answer_of(c, pid, ref);
}

/* Tells whether errno says that a call failed in OTP's sense, and not that the library is in trouble. */
static bool call_failed(void)
{
	return errno == ESRCH || errno == ENOENT || errno == ETIMEDOUT || errno == EPIPE || errno == EDEADLK;
}

void tell(const char *text, size_t len)
{
	cop_send(cop_to(script_pid), TAG_RESULT, text, len);
}

void tell_failure(const struct cop_exit *reason)
{
	char word[COP_EXIT_FORMAT_MAX], text[COP_EXIT_FORMAT_MAX + 8];

	snprintf(text, sizeof text, "exit %s", reason_word(reason, word));
	tell(text, strlen(text));
}

static void call_main(void *arg)
{
	const struct command *c = arg;
	struct cop_response response;

	cop_set_label(".call");
	if (address_is_unknown(c, c->name[0]))
		crash();
	if (cop_server_call(address_of(c, c->name[0]), TAG_MSG, c->msg, strlen(c->msg), c->timeout_ms, &response) < 0) {
		if (!call_failed())
			impossible(c, "unable to call: %m");
		tell_failure(&response.reason);
		return;
	}
	tell(response.msg.data, response.msg.len);
	cop_response_done(&response);
}

/* `stop` and `stop_server`. */
static void stop_main(void *arg)
{
	const struct command *c = arg;
	struct cop_exit actual = cop_exit_make(COP_EXIT_NORMAL, 0);

	cop_set_label(".stop");
	if (address_is_unknown(c, c->name[0]))
		crash();
	if (cop_server_stop(address_of(c, c->name[0]), &c->reason, c->timeout_ms, &actual) == 0) {
		tell("ok", 2);
		return;
	}
	if (!call_failed())
		impossible(c, "unable to stop: %m");
	/* Only of one that ended with another reason it is told which. */
	if (errno == ETIMEDOUT)
		actual = cop_exit_make(COP_EXIT_TIMEOUT, 0);
	else if (errno != EPIPE)
		actual = cop_exit_make(COP_EXIT_NOPROC, 0);
	tell_failure(&actual);
}

/* --- supervision --- */

static void start_result(enum cop_start start, const struct cop_started *started, bool as_child)
{
	char word[COP_EXIT_FORMAT_MAX];

	switch (start) {
	case COP_STARTED:
		emit_result("ok");
		break;
	case COP_IGNORED:
		emit_result("ignored");
		break;
	case COP_NOT_STARTED:
		emit_result("error %s", start_word(&started->reason, as_child, word));
		break;
	}
}

static void do_start(void)
{
	const struct node *top = scenario.top;
	struct cop_server_options options = {
		.name = top->child.name,
		.via = top->child.via,
		.arg = &top->index,
		.arg_size = sizeof top->index,
	};
	struct cop_started started = { 0 };
	enum cop_start start;

	if (top->kind == NODE_WORKER)
		start = cop_server_start_link(&worker_ops, &options, &started);
	else
		start = cop_supervisor_start_link(&top->spec, &started);
	/* It has answered, which makes its death one. */
	if (top->kind != NODE_WORKER && start == COP_STARTED)
		names_set_life(started.pid, LIFE_UP);
	start_result(start, &started, false);
}

static void do_exit(const struct command *c)
{
	enum role role;
	cop_pid pid = pid_of(c, 0);

	names_last(c->name[0], &role);
	if (role == ROLE_PROC)
		cop_send(cop_to(pid), TAG_EXIT, &c->reason, sizeof c->reason);
	else if (role == ROLE_WORKER)
		cop_server_cast(cop_to(pid), TAG_EXIT, &c->reason, sizeof c->reason);
	else if (role != ROLE_TASK) /* which reads no messages */
		impossible(c, "%s is neither a worker nor a bare process", name(c, 0));
	emit_result("ok");
}

static void do_signal(const struct command *c)
{
	cop_pid pid = pid_of(c, 0);

	if (c->verb == V_KILL)
		cop_kill(pid);
	else
		cop_exit_signal(pid, &c->reason);
	emit_result("ok");
}

static void do_fate(const struct command *c)
{
	names_set_fate(c->name[0], c->verb == V_FAIL ? FATE_FAIL : FATE_IGNORE, c->number, c);
	emit_result("ok");
}

/* A supervisor that is asked something: by its name, and monitored, because a call that fails does not say why. */
struct asked {
	cop_pid pid;
	cop_ref ref;
	bool dynamic;
};

/* What kind of supervisor goes by that name: what the last command that started one said, or the tree. */
static bool is_dynamic(const struct command *c)
{
	const struct command *before;
	size_t i;

	for (before = c; before > scenario.commands; before--)
		if (before[-1].node && before[-1].node->actor == c->name[0] &&
			before[-1].node->kind != NODE_WORKER)
			return before[-1].node->kind == NODE_DYNAMIC;
	for (i = 0; i < scenario.n_nodes; i++)
		if (scenario.nodes[i]->actor == c->name[0] && scenario.nodes[i]->kind != NODE_WORKER)
			return scenario.nodes[i]->kind == NODE_DYNAMIC;
	return false;
}

/* False, with the result written: there is none. */
static bool ask(const struct command *c, struct asked *a)
{
	enum role role;

	names_last(c->name[0], &role);
	if (role != ROLE_SUPERVISOR)
		impossible(c, "%s is no supervisor", name(c, 0));
	a->dynamic = is_dynamic(c);
	a->pid = cop_whereis(name(c, 0));
	if (cop_pid_is(a->pid, COP_NOPID)) {
		emit_result("exit noproc");
		return false;
	}
	a->ref = cop_monitor(cop_to(a->pid));
	return true;
}

static void asked(const struct asked *a)
{
	cop_demonitor(a->ref, true);
}

/* The supervisor is gone: writes why. */
static void asked_in_vain(const struct command *c, const struct asked *a)
{
	answer_of(c, COP_NOPID, a->ref);
}

/* Tells whether errno says that the supervisor is gone, or going. */
static bool is_gone(void)
{
	return errno == ESRCH || errno == EPIPE || errno == ECANCELED;
}

/* The same when a child did not start, where ECANCELED may also mean that its init failed. A supervisor that is
 * going says `shutdown`; so does an init only if it was told to. */
static bool is_gone_starting(const struct cop_exit *reason, bool told)
{
	char word[COP_EXIT_FORMAT_MAX];

	if (errno != ECANCELED)
		return is_gone();
	return !told && strcmp(reason_word(reason, word), "shutdown") == 0;
}

static void do_start_child(const struct command *c)
{
	uint32_t child = c->node ? c->node->actor : c->name[1];
	int64_t fates = names_fates_left(child);
	struct cop_started started = { 0 };
	struct cop_child spec;
	enum cop_start start;
	struct asked sup;

	if (!ask(c, &sup))
		return;
	if (c->verb == V_START_CHILD) {
		spec = c->node->child;
		spec.significant = spec.significant && !sup.dynamic; /* Elixir's does not look at it */
		start = cop_supervisor_start_child(cop_to(sup.pid), &spec, &started);
	} else {
		start = cop_supervisor_restart_child(cop_to(sup.pid), name(c, 1), &started);
	}
	if (start == COP_NOT_STARTED && is_gone_starting(&started.reason, names_fates_left(child) != fates)) {
		asked_in_vain(c, &sup);
		return;
	}
	asked(&sup);
	start_result(start, &started, c->verb == V_START_CHILD && !sup.dynamic);
}

static void do_terminate_child(const struct command *c)
{
	struct asked sup;
	cop_pid child = COP_NOPID;
	int done;

	if (!ask(c, &sup))
		return;
	if (c->verb == V_DELETE_CHILD) {
		done = cop_supervisor_delete_child(cop_to(sup.pid), name(c, 1));
	} else if (sup.dynamic) {
		child = pid_of(c, 1);
		done = cop_supervisor_terminate_pid(cop_to(sup.pid), child);
	} else {
		done = cop_supervisor_terminate_child(cop_to(sup.pid), name(c, 1));
	}
	if (done < 0 && is_gone()) {
		asked_in_vain(c, &sup);
		return;
	}
	if (done == 0)
		emit_result("ok");
	else if (errno == ENOENT)
		emit_result("error not_found");
	else if (errno == EBUSY)
		emit_result("error running");
	else if (errno == EAGAIN)
		emit_result("error restarting");
	else
		impossible(c, "unable to do it: %m");
	asked(&sup);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* One child as text, which the caller frees. */
static char *child_text(const struct asked *sup, const struct cop_child_info *info)
{
	static const char *const state[] = { "up", "undefined", "restarting" };
	const char *id = info->id;
	char *text;

	/* A dynamic supervisor's children have no ids. */
	if (sup->dynamic)
		id = info->state == COP_CHILD_RUNNING ? names_of(info->pid) : "undefined";
	if (info->state > COP_CHILD_RESTARTING || asprintf(&text, "%s=%s", id, state[info->state]) < 0)
		abort();
	return text;
}

static void which_result(const struct asked *sup, const struct cop_child_info *info, size_t n)
{
	char **text = calloc(n + 1, sizeof *text), *all = NULL;
	FILE *f;
	size_t i, len;

	if (text == NULL)
		abort();
	for (i = 0; i < n; i++)
		text[i] = child_text(sup, &info[i]);
	if (sup->dynamic)
		qsort(text, n, sizeof *text, by_name);
	f = open_memstream(&all, &len);
	if (f == NULL)
		abort();
	for (i = 0; i < n; i++) {
		fprintf(f, "%s%s", i > 0 ? " " : "", text[i]);
		free(text[i]);
	}
	if (fclose(f) != 0)
		abort();
	emit_result("%s", n > 0 ? all : "none");
	free(all);
	free(text);
}

static void do_which(const struct command *c)
{
	struct cop_child_info *info = NULL;
	struct asked sup;
	size_t room = 32;
	long n;

	if (!ask(c, &sup))
		return;
	do {
		room *= 2;
		info = reallocarray(info, room, sizeof *info);
		if (info == NULL)
			abort();
		n = cop_supervisor_which_children(cop_to(sup.pid), info, room);
	} while (n > (long)room);
	if (n >= 0) {
		asked(&sup);
		which_result(&sup, info, (size_t)n);
	} else if (is_gone()) {
		asked_in_vain(c, &sup);
	} else {
		impossible(c, "unable to list children: %m");
	}
	free(info);
}

static void do_count(const struct command *c)
{
	struct cop_child_counts n;
	struct asked sup;

	if (!ask(c, &sup))
		return;
	if (cop_supervisor_count_children(cop_to(sup.pid), &n) == 0) {
		asked(&sup);
		emit_result("specs=%u active=%u supervisors=%u workers=%u", n.specs, n.active, n.supervisors,
			n.workers);
	} else if (is_gone()) {
		asked_in_vain(c, &sup);
	} else {
		impossible(c, "unable to count children: %m");
	}
}

/* --- servers and messages --- */

static void do_send(const struct command *c)
{
	if (c->verb == V_CAST)
		cop_server_cast(address_of(c, c->name[0]), TAG_MSG, c->msg, strlen(c->msg));
	else if (cop_send(cop_to(pid_of(c, 0)), TAG_MSG, c->msg, strlen(c->msg)) < 0)
		impossible(c, "unable to send: %m");
	emit_result("ok");
}

static void do_send_after(const struct command *c)
{
	cop_ref ref = cop_send_after(cop_to(pid_of(c, 0)), TAG_MSG, c->msg, strlen(c->msg), c->number);

	if (c->timer >= 0)
		timers[c->timer] = ref;
	emit_result("ok");
}

/* For a bare process, which must be one. */
static cop_pid proc_of(const struct command *c, int i)
{
	enum role role;
	cop_pid pid = pid_of(c, i);

	names_last(c->name[i], &role);
	if (role != ROLE_PROC)
		impossible(c, "%s is no bare process", name(c, i));
	return pid;
}

static void do_request(const struct command *c)
{
	struct order order = { .command = (uint32_t)(c - scenario.commands) };

	if (cop_send(cop_to(proc_of(c, 0)), TAG_ORDER, &order, sizeof order) < 0)
		impossible(c, "unable to send: %m");
	emit_result("ok");
}

static void order_with(const struct command *c, cop_pid pid, cop_pid target)
{
	struct order order = { .command = (uint32_t)(c - scenario.commands), .target = target };
	cop_ref ref = cop_monitor(cop_to(pid));

	if (cop_send(cop_to(pid), TAG_ORDER, &order, sizeof order) < 0)
		impossible(c, "unable to send: %m");
	answer_of(c, pid, ref);
}

/* What a bare process does to a process. */
static void do_between(const struct command *c)
{
	cop_pid pid = proc_of(c, 0);

	order_with(c, pid, c->verb == V_DEMONITOR ? COP_NOPID : pid_of(c, 1));
}

void order_proc(const struct command *c, int i)
{
	order_with(c, proc_of(c, i), COP_NOPID);
}

static bool is_there(const struct command *c)
{
	struct cop_dest to = address_of(c, c->name[0]);

	return !cop_pid_is(to.via ? cop_registry_whereis(to.via->registry, to.via->key) : cop_whereis(to.name), COP_NOPID);
}

/* What a task's owner does. */
static void do_tasks(const struct command *c)
{
	struct order order = { .command = (uint32_t)(c - scenario.commands) };
	uint32_t owner = task_owner(c);
	enum role role;
	cop_pid pid = names_last(owner, &role);
	cop_ref ref;

	if (owner == ACTOR_SCRIPT || role != ROLE_PROC)
		impossible(c, "there is no such owner");
	ref = cop_monitor(cop_to(pid));
	if (cop_send(cop_to(pid), TAG_ORDER, &order, sizeof order) < 0)
		impossible(c, "unable to send: %m");
	answer_of(c, pid, ref);
}

static void do_wait(const struct command *c)
{
	cop_sleep((int)c->number);
	emit_result("ok");
}

static void do_command(const struct command *c)
{
	switch (c->verb) {
	case V_START:
		do_start();
		break;
	case V_EXIT:
		do_exit(c);
		break;
	case V_KILL:
	case V_SIGNAL:
		do_signal(c);
		break;
	case V_FAIL:
	case V_IGNORE:
		do_fate(c);
		break;
	case V_START_CHILD:
	case V_RESTART_CHILD:
		do_start_child(c);
		break;
	case V_TERMINATE_CHILD:
	case V_DELETE_CHILD:
		do_terminate_child(c);
		break;
	case V_WHICH:
		do_which(c);
		break;
	case V_COUNT:
		do_count(c);
		break;
	case V_ALIVE:
		emit_result("%s", cop_is_alive(pid_of(c, 0)) ? "yes" : "no");
		break;
	case V_WAIT:
		do_wait(c);
		break;
	case V_CALL:
		spawned(c, call_main);
		break;
	case V_STOP:
	case V_STOP_SERVER:
	case V_AGENT_STOP:
		spawned(c, stop_main);
		break;
	case V_CAST:
	case V_SEND:
		do_send(c);
		break;
	case V_SEND_AFTER:
		do_send_after(c);
		break;
	case V_CANCEL_TIMER:
		emit_result("%s", cop_cancel_timer(timers[c->timer]) >= 0 ? "left" : "false");
		break;
	case V_WHEREIS:
		emit_result("%s", is_there(c) ? "yes" : "no");
		break;
	case V_REQUEST:
		do_request(c);
		break;
	case V_PROC:
		spawned(c, proc_main);
		break;
	case V_LINK:
	case V_UNLINK:
	case V_MONITOR:
	case V_DEMONITOR:
	case V_EXIT_SIGNAL:
		do_between(c);
		break;
	case V_START_TASK:
		task_start(c);
		break;
	case V_ASYNC:
	case V_ASYNC_NOLINK:
	case V_AWAIT:
	case V_YIELD:
	case V_SHUTDOWN_TASK:
	case V_ASYNC_STREAM:
		do_tasks(c);
		break;
	case V_REGISTER:
	case V_UNREGISTER:
	case V_UPDATE_VALUE:
	case V_LOOKUP:
	case V_MATCH:
	case V_KEYS:
	case V_SELECT:
	case V_COUNT_KEYS:
	case V_DISPATCH:
	case V_AGENT:
	case V_AGENT_GET:
	case V_AGENT_UPDATE:
	case V_AGENT_GET_AND_UPDATE:
	case V_AGENT_CAST:
		do_registry(c);
		break;
	}
}

/* Reads which command is to be done. False: no more. */
static bool next_command(int fd, uint32_t *index_r)
{
	ssize_t n;

	do
		n = read(fd, index_r, sizeof *index_r);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof *index_r && *index_r < scenario.n_commands;
}

void script_main(void *arg)
{
	const int *fd = arg;
	struct cop_msg msg;
	uint32_t index;

	cop_trap_exit(true);
	cop_set_label(".script");
	script_pid = cop_self();
	names_enter(ACTOR_SCRIPT, ROLE_SCRIPT, script_pid, LIFE_SILENT);
	timers = calloc(scenario.n_timers + 1, sizeof *timers);
	if (timers == NULL)
		abort();
	while (next_command(*fd, &index)) {
		do_command(&scenario.commands[index]);
		/* Exit signals of what is linked to it, and of nobody's interest. */
		while (cop_receive(&msg, NULL, NULL, 0) == 1)
			cop_msg_done(&msg);
	}
}
