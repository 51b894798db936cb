/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Agent: a server whose requests are "run function number n on your state". The tag of a request is that number
 * with the kind of function the caller means, so that neither a wrong number nor a function of another
 * kind is run. Runs in the agent's process, but for the callers' side at the end.
 */
#include <coppice/agent.h>

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>

#include "base/diag.h"
#include "otp/server.h"
#include "proc/proc.h"

enum kind { GET = 0x41470000, UPDATE = 0x41480000, GET_AND_UPDATE = 0x41490000 }; /* "AG", "AH", "AI" */

#define FUNCTION(tag) ((tag) & 0xffffu)
#define KIND(tag) ((tag) & 0xffff0000u)
#define FUNCTIONS_MAX 65536u
#define TAG_REFUSED 0x41475f21u /* of a reply: there is no such function */

struct agent {
	const struct cop_agent_ops *ops;
	void *state;
};

struct cop_agent_answer {
	struct cop_next next;
	bool given;
};

void cop_agent_answer(struct cop_agent_answer *answer, const void *data, size_t len)
{
	struct cop_next next;

	PROC_REQUIRE();
	next = cop_reply(data, len);
	if (answer->given && answer->next.reply)
		pool_put(seg_node(&proc.seg, answer->next.reply));
	answer->next = next;
	answer->given = true;
}

/* --- the agent --- */

/* The address came from whoever wrote the child specification. */
static bool is_known(const void *address)
{
	Dl_info info;

	return address && dladdr(address, &info) != 0;
}

static bool is_sane(const struct cop_agent_ops *ops)
{
	uint32_t i;

	if (!is_known(ops) || ops->n_functions > FUNCTIONS_MAX || (ops->n_functions > 0 && !is_known(ops->functions)) ||
	    (ops->init && !is_known((const void *)(uintptr_t)ops->init)))
		return false;
	for (i = 0; i < ops->n_functions; i++) {
		const struct cop_agent_function *f = &ops->functions[i];

		if ((f->get != NULL) + (f->update != NULL) + (f->get_and_update != NULL) != 1)
			return false;
	}
	return true;
}

static struct cop_next refuse(const char *word)
{
	struct cop_exit reason = cop_exit_make_text(COP_EXIT_OTHER, 0, word);

	return cop_stop(&reason);
}

static struct cop_next agent_init(void *state, const void *arg, size_t size)
{
	struct agent *a = state;
	struct cop_agent_start start;
	size_t bytes;

	if (size < sizeof start)
		return refuse("invalid_agent");
	memcpy(&start, arg, sizeof start);
	if (!is_sane(start.ops))
		return refuse("invalid_agent");
	a->ops = start.ops;
	bytes = (a->ops->state_size + 15) & ~(size_t)15;
	a->state = aligned_alloc(16, bytes ? bytes : 16);
	if (!a->state)
		return refuse("enomem");
	memset(a->state, 0, bytes);
	if (a->ops->init)
		a->ops->init(a->state, (const char *)arg + sizeof start, size - sizeof start);
	return cop_ok();
}

/* NULL: the agent has none such. */
static const struct cop_agent_function *function_of(const struct agent *a, uint32_t tag)
{
	const struct cop_agent_function *f;

	if (FUNCTION(tag) >= a->ops->n_functions)
		return NULL;
	f = &a->ops->functions[FUNCTION(tag)];
	switch (KIND(tag)) {
	case GET:
		return f->get ? f : NULL;
	case UPDATE:
		return f->update ? f : NULL;
	case GET_AND_UPDATE:
		return f->get_and_update ? f : NULL;
	default:
		return NULL;
	}
}

/* The answer may take the place of the request, and with it of arg: it is the last that a function does with it, or
 * it has kept a copy. */
static struct cop_next agent_call(void *state, const struct cop_msg *msg, struct cop_from from)
{
	struct agent *a = state;
	const struct cop_agent_function *f = function_of(a, msg->tag);
	struct cop_agent_answer answer = { .given = false };

	(void)from;
	if (!f)
		return cop_reply_tag(TAG_REFUSED, NULL, 0);
	if (f->update)
		f->update(a->state, msg->data, msg->len);
	else if (f->get)
		f->get(a->state, msg->data, msg->len, &answer);
	else
		f->get_and_update(a->state, msg->data, msg->len, &answer);
	if (!answer.given && f->get_and_update)
		return refuse("bad_return_value");
	return answer.given ? answer.next : cop_reply(NULL, 0);
}

static struct cop_next agent_cast(void *state, const struct cop_msg *msg)
{
	struct agent *a = state;
	const struct cop_agent_function *f = function_of(a, msg->tag);

	if (f && f->update)
		f->update(a->state, msg->data, msg->len);
	else
		diag_warn("agent %s: a cast that is no update of it was dropped", a->ops->name ? a->ops->name : "?");
	return cop_ok();
}

static const struct cop_server_ops agent_server = {
	.name = "agent",
	.state_size = sizeof(struct agent),
	.init = agent_init,
	.handle_call = agent_call,
	.handle_cast = agent_cast,
};

const struct cop_server_ops *cop_agent_server(void)
{
	return &agent_server;
}

/* --- starting --- */

static enum cop_start start(const struct cop_agent_ops *ops, const struct cop_server_options *options, bool link,
    struct cop_started *started_r)
{
	struct cop_server_options o = { .name = NULL };
	struct cop_agent_start *s;
	enum cop_start how;
	int err;

	if (options)
		o = *options;
	s = calloc(1, sizeof *s + o.arg_size);
	if (!s) {
		*started_r = (struct cop_started){ .pid = COP_NOPID };
		started_r->reason = cop_exit_make_text(COP_EXIT_OTHER, 0, "enomem");
		errno = ENOMEM;
		return COP_NOT_STARTED;
	}
	s->ops = ops;
	if (o.arg_size)
		memcpy(s + 1, o.arg, o.arg_size);
	o.arg = s;
	o.arg_size += sizeof *s;
	how = link ? cop_server_start_link(&agent_server, &o, started_r) : cop_server_start(&agent_server, &o, started_r);
	err = errno;
	free(s);
	errno = err;
	return how;
}

enum cop_start cop_agent_start_link(const struct cop_agent_ops *ops, const struct cop_server_options *options,
    struct cop_started *started_r)
{
	PROC_REQUIRE();
	return start(ops, options, true, started_r);
}

enum cop_start cop_agent_start(const struct cop_agent_ops *ops, const struct cop_server_options *options,
    struct cop_started *started_r)
{
	PROC_REQUIRE();
	return start(ops, options, false, started_r);
}

/* --- the callers' side --- */

static int call(struct cop_dest agent, enum kind kind, uint32_t function, const void *arg, size_t size, int timeout_ms,
    struct cop_response *response_r)
{
	struct cop_response own, *r = response_r ? response_r : &own;

	if (function >= FUNCTIONS_MAX) {
		errno = EINVAL;
		return -1;
	}
	if (cop_server_call(agent, (uint32_t)kind | function, arg, size, timeout_ms, r) < 0)
		return -1;
	if (r->msg.tag == TAG_REFUSED) {
		cop_response_done(r);
		r->reason = cop_exit_make_text(COP_EXIT_OTHER, 0, "undef");
		errno = EINVAL;
		return -1;
	}
	if (!response_r)
		cop_response_done(&own);
	return 0;
}

int cop_agent_get(struct cop_dest agent, uint32_t function, const void *arg, size_t size, int timeout_ms,
    struct cop_response *response_r)
{
	PROC_REQUIRE();
	return call(agent, GET, function, arg, size, timeout_ms, response_r);
}

int cop_agent_update(struct cop_dest agent, uint32_t function, const void *arg, size_t size, int timeout_ms,
    struct cop_response *response_r)
{
	PROC_REQUIRE();
	return call(agent, UPDATE, function, arg, size, timeout_ms, response_r);
}

int cop_agent_get_and_update(struct cop_dest agent, uint32_t function, const void *arg, size_t size, int timeout_ms,
    struct cop_response *response_r)
{
	PROC_REQUIRE();
	return call(agent, GET_AND_UPDATE, function, arg, size, timeout_ms, response_r);
}

int cop_agent_cast(struct cop_dest agent, uint32_t function, const void *arg, size_t size)
{
	PROC_REQUIRE();
	return cop_server_cast(agent, function < FUNCTIONS_MAX ? UPDATE | function : UPDATE | 0xffffu, arg, size);
}
