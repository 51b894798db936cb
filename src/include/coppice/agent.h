/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Agent: a process that keeps one value, on which others have functions run, one after the other, inside the
 * agent. The functions stand in a constant table, and callers name them by their place in it: an address that
 * came in a message could be anything, or mean something in the sender only.
 *
 *     static const struct cop_agent_function functions[] = {
 *         [COUNT_GET] = { .get = get }, [COUNT_ADD] = { .update = add },
 *     };
 *     const struct cop_agent_ops count_ops = { "count", sizeof(long), init, functions, 2 };
 *     ...
 *     cop_agent_update(cop_named("count"), COUNT_ADD, &n, sizeof n, COP_CALL_MS, NULL);
 */
#ifndef COPPICE_AGENT_H
#define COPPICE_AGENT_H

#include <coppice/registry.h>
#include <coppice/supervisor.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

/* Where a function puts what the caller gets: the library's. */
struct cop_agent_answer;
/* Answers. Copies. Once; a second answer replaces the first. */
void cop_agent_answer(struct cop_agent_answer *answer, const void *data, size_t len);

/* All run in the agent's process and may block, which makes everybody wait who asks the agent. arg is a copy of the
 * caller's bytes, aligned to 16. cop_exit() in them ends the agent, and each caller that waits for it fails with
 * that reason. */
typedef void cop_agent_get_f(const void *state, const void *arg, size_t size, struct cop_agent_answer *answer);
typedef void cop_agent_update_f(void *state, const void *arg, size_t size);
/* Must answer: otherwise the agent ends with `bad_return_value`. */
typedef void cop_agent_get_and_update_f(void *state, const void *arg, size_t size, struct cop_agent_answer *answer);
/* Makes the first state, in memory of zeroes. */
typedef void cop_agent_init_f(void *state, const void *arg, size_t size);

/* One of the three; the others NULL. */
struct cop_agent_function {
	cop_agent_get_f *get;
	cop_agent_update_f *update;
	cop_agent_get_and_update_f *get_and_update;
};

/* Must be of the program or of a library loaded before the node was made, as its functions. */
struct cop_agent_ops {
	const char *name;                 /* for reports */
	size_t state_size;                /* bytes; zeroed, aligned to 16 */
	cop_agent_init_f *init;           /* NULL: the state is zeroes */
	const struct cop_agent_function *functions;
	uint32_t n_functions;
};

/* Starts an agent, linked or not, and waits for its init. options may be NULL; as cop_server_start_link(), also with
 * ENOMEM. Mirror Agent.start_link/2 and start/2. */
enum cop_start cop_agent_start_link(const struct cop_agent_ops *ops, const struct cop_server_options *options,
    struct cop_started *started_r) __attribute__((warn_unused_result));
enum cop_start cop_agent_start(const struct cop_agent_ops *ops, const struct cop_server_options *options,
    struct cop_started *started_r) __attribute__((warn_unused_result));

/* What a supervisor's child that is an agent is started with: cop_child.arg points to it, and arg_size counts it and
 * the bytes for init, which follow it directly. */
struct cop_agent_start {
	const struct cop_agent_ops *ops;
	uint64_t unused;
};
/* What cop_child.server is of an agent: { .id = "a", .server = cop_agent_server(), .arg = &start, ... }. */
const struct cop_server_ops *cop_agent_server(void);

/* Run a function of the agent on its state. 0, or -1 as cop_server_call(), with the reason in the response; also
 * EINVAL: the agent has no such function, or one of another kind, and nothing has happened. After a time-out it still
 * runs. response_r holds the answer, for cop_response_done(); it may be NULL. Mirror Agent.get/3, update/3 and
 * get_and_update/3, whose callers exit when they fail. */
int cop_agent_get(struct cop_dest agent, uint32_t function, const void *arg, size_t size, int timeout_ms,
    struct cop_response *response_r) __attribute__((warn_unused_result));
int cop_agent_update(struct cop_dest agent, uint32_t function, const void *arg, size_t size, int timeout_ms,
    struct cop_response *response_r) __attribute__((warn_unused_result));
int cop_agent_get_and_update(struct cop_dest agent, uint32_t function, const void *arg, size_t size, int timeout_ms,
    struct cop_response *response_r) __attribute__((warn_unused_result));

/* Runs an update and does not wait for it. A function that the agent does not have is lost. 0, also if there is no such
 * agent, or -1 with EMSGSIZE or ENOMEM. Mirrors Agent.cast/2. */
int cop_agent_cast(struct cop_dest agent, uint32_t function, const void *arg, size_t size);

/* Stops an agent: cop_server_stop(). Mirrors Agent.stop/3. */
static inline int cop_agent_stop(struct cop_dest agent, const struct cop_exit *reason, int timeout_ms,
    struct cop_exit *actual_r)
{
	return cop_server_stop(agent, reason, timeout_ms, actual_r);
}

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
