/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Bare processes: each does what the script tells it, one thing after the other, and writes down what it
 * receives. Allocates only the list of its monitors.
 */
#include "player.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct monitor {
	cop_ref ref;
	uint32_t actor;
};

/* Of the calling process. */
static uint32_t me;
static struct monitor *monitors;
static size_t n_monitors;

static const char *my_name(void)
{
	return scenario.actors[me];
}

/* --- what the script tells it --- */

static const char *do_link(cop_pid target)
{
	if (cop_link(target) == 0)
		return "ok";
	if (errno != ESRCH)
		emit_impossible("unable to link: %m");
	return "exit noproc";
}

static const char *do_monitor(uint32_t actor, cop_pid target)
{
	struct monitor *more = realloc(monitors, (n_monitors + 1) * sizeof *more);

	if (more == NULL)
		abort();
	monitors = more;
	monitors[n_monitors++] = (struct monitor){ cop_monitor(cop_to(target)), actor };
	return "ok";
}

static const char *do_demonitor(uint32_t actor)
{
	size_t i, kept = 0;

	for (i = 0; i < n_monitors; i++)
		if (monitors[i].actor == actor)
			cop_demonitor(monitors[i].ref, true);
		else
			monitors[kept++] = monitors[i];
	n_monitors = kept;
	return "ok";
}

static const char *do_unlink(cop_pid target)
{
	cop_unlink(target);
	return "ok";
}

static const char *do_exit_signal(cop_pid target, const struct cop_exit *reason)
{
	cop_exit_signal(target, reason);
	return "ok";
}

static void do_request(const struct command *c)
{
	char word[LINE_LEN_MAX];
	struct cop_response response;

	if (address_is_unknown(c, c->name[1]))
		crash();
	if (cop_server_call(address_of(c, c->name[1]), TAG_MSG, c->msg, strlen(c->msg), c->timeout_ms,
		&response) < 0) {
		if (errno == EMSGSIZE || errno == ENOMEM)
			emit_impossible("line %d: unable to call: %m", c->line);
		emit("reply %s exit:%s", my_name(), reason_word(&response.reason, word));
		return;
	}
	msg_text(&response.msg, word);
	cop_response_done(&response);
	emit("reply %s %s", my_name(), word);
}

static void obey(const struct order *order)
{
	const struct command *c = &scenario.commands[order->command];
	const char *result;

	if (c->verb == V_REQUEST) {
		do_request(c);
		return;
	}
	if (task_is_owners(c->verb))
		result = task_obey(c);
	else if (c->verb >= V_REGISTER && c->verb <= V_UPDATE_VALUE)
		result = registry_obey(c);
	else if (c->verb == V_LINK)
		result = do_link(order->target);
	else if (c->verb == V_UNLINK)
		result = do_unlink(order->target);
	else if (c->verb == V_MONITOR)
		result = do_monitor(c->name[1], order->target);
	else if (c->verb == V_DEMONITOR)
		result = do_demonitor(c->name[1]);
	else
		result = do_exit_signal(order->target, &c->reason);
	cop_send(cop_to(script_pid), TAG_RESULT, result, strlen(result));
}

/* --- what it receives --- */

static void on_plain(struct cop_msg *msg)
{
	char text[LINE_LEN_MAX];
	struct cop_exit reason;
	struct order order;

	if (msg->tag == TAG_ORDER && msg->len == sizeof order) {
		memcpy(&order, msg->data, sizeof order);
		cop_msg_done(msg);
		obey(&order);
	} else if (msg->tag == TAG_EXIT && msg->len == sizeof reason) {
		memcpy(&reason, msg->data, sizeof reason);
		cop_msg_done(msg);
		cop_exit(&reason);
	} else if (msg->tag == 0) {
		cop_msg_done(msg); /* a request to stop, of which it knows nothing */
	} else {
		msg_text(msg, text);
		cop_msg_done(msg);
		emit("msg %s %s", my_name(), text);
	}
}

static void on_down(const struct cop_msg *msg)
{
	char word[COP_EXIT_FORMAT_MAX];
	uint32_t actor;
	size_t i;

	for (i = 0; i < n_monitors; i++)
		if (cop_ref_is(monitors[i].ref, msg->ref))
			break;
	if (i == n_monitors) {
		/* Of a monitor that it has not, or not any more. It must be seen. */
		emit("down_msg %s unknown %s", my_name(), reason_word(&msg->reason, word));
		return;
	}
	actor = monitors[i].actor;
	memmove(&monitors[i], &monitors[i + 1], (n_monitors - i - 1) * sizeof monitors[0]);
	n_monitors--;
	emit("down_msg %s %s %s", my_name(), scenario.actors[actor], reason_word(&msg->reason, word));
}

static void on_message(struct cop_msg *msg)
{
	char word[COP_EXIT_FORMAT_MAX];

	switch ((enum cop_msg_kind)msg->kind) {
	case COP_MSG_PLAIN:
		on_plain(msg); /* which also gives it back, because it may end the process */
		return;
	case COP_MSG_EXIT:
		emit("exit_msg %s %s %s", my_name(), names_of(msg->from), reason_word(&msg->reason, word));
		break;
	case COP_MSG_DOWN:
		on_down(msg);
		break;
	case COP_MSG_CALL: /* it is no server, and does not look at them */
	case COP_MSG_CAST:
		break;
	case COP_MSG_READY:
	case COP_MSG_SIGNAL:
	case COP_MSG_TIMEOUT:
		emit("msg %s kind:%u", my_name(), (unsigned)msg->kind);
		break;
	}
	cop_msg_done(msg);
}

void proc_main(void *arg)
{
	const struct command *c = arg;
	struct cop_msg msg;

	me = c->name[0];
	cop_trap_exit(c->trap_exit);
	cop_set_label(my_name());
	if (cop_register(my_name(), cop_self()) < 0) {
		cop_send(cop_to(script_pid), TAG_TAKEN, NULL, 0);
		return;
	}
	names_enter(me, ROLE_PROC, cop_self(), LIFE_UP);
	cop_send(cop_to(script_pid), TAG_RESULT, "ok", 2);
	for (;;) {
		if (cop_receive(&msg, NULL, NULL, COP_INFINITY) == 1)
			on_message(&msg);
	}
}
