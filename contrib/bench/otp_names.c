/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Registry and Agent: looking up a key of one process by another, registering many keys, one key again and
 * again, and functions run in an agent. Who measures is the first process.
 */
#include "otp.h"

#include <coppice/agent.h>
#include <coppice/registry.h>

#include <string.h>

#define REGISTRY "names"

static cop_pid holder;

static void start_registry(enum cop_keys keys)
{
	struct cop_registry registry = { .name = REGISTRY, .keys = (uint8_t)keys };
	struct cop_started started;

	if (cop_registry_start_link(&registry, &started) != COP_STARTED)
		fail("start a registry");
}

static void hold(void *arg)
{
	(void)arg;
	if (cop_registry_register(REGISTRY, cop_text("printer"), cop_int(1), NULL) < 0)
		fail("register");
	cop_send(cop_to(cop_parent()), 1, NULL, 0);
	cop_sleep(COP_INFINITY);
}

static void start_holder(void)
{
	struct cop_msg m;

	if (cop_spawn(hold, NULL, &holder) < 0 || cop_receive(&m, NULL, NULL, COP_INFINITY) != 1)
		fail("spawn");
	cop_msg_done(&m);
}

static void lookups(long n)
{
	struct cop_entries e;

	for (; n > 0; n--) {
		if (cop_registry_lookup(REGISTRY, cop_text("printer"), &e) != 1 || !cop_pid_is(e.entry[0].pid, holder))
			fail("look up");
		cop_entries_done(&e);
	}
}

void job_lookup(long n, char **how)
{
	uint64_t begin;

	(void)how;
	start_registry(COP_UNIQUE);
	start_holder();
	lookups(n / 10 + 1);
	begin = now_ns();
	lookups(n);
	result("ns", (double)(now_ns() - begin) / (double)n);
}

static void pairs(long n)
{
	for (; n > 0; n--)
		if (cop_registry_register(REGISTRY, cop_int(n), cop_int(n), NULL) < 0 ||
		    cop_registry_unregister(REGISTRY, cop_int(n)) < 0)
			fail("register and unregister");
}

void job_register(long n, char **how)
{
	uint64_t begin;
	long i;

	(void)how;
	start_registry(COP_UNIQUE);
	pairs(n / 10 + 1);
	begin = now_ns();
	for (i = 0; i < n; i++)
		if (cop_registry_register(REGISTRY, cop_int(i), cop_int(i), NULL) < 0)
			fail("register");
	result("us", (double)(now_ns() - begin) / 1000 / (double)n);
}

void job_register_pair(long n, char **how)
{
	uint64_t begin;

	(void)how;
	start_registry(COP_UNIQUE);
	pairs(n / 10 + 1);
	begin = now_ns();
	pairs(n);
	result("us", (double)(now_ns() - begin) / 1000 / (double)n);
}

/* --- an agent --------------------------------------------------------------------------------- */

static void get(const void *state, const void *arg, size_t size, struct cop_agent_answer *answer)
{
	(void)arg;
	(void)size;
	cop_agent_answer(answer, state, sizeof(uint64_t));
}

static void add(void *state, const void *arg, size_t size)
{
	uint64_t by;

	if (size != sizeof by)
		return;
	memcpy(&by, arg, sizeof by);
	*(uint64_t *)state += by;
}

static const struct cop_agent_function functions[] = { { .get = get }, { .update = add } };
static const struct cop_agent_ops agent_ops = { "counter", sizeof(uint64_t), NULL, functions, 2 };

static void gets(cop_pid agent, long n)
{
	struct cop_response r;

	for (; n > 0; n--) {
		if (cop_agent_get(cop_to(agent), 0, NULL, 0, COP_CALL_MS, &r) < 0)
			fail("get");
		cop_response_done(&r);
	}
}

void job_agent(long n, char **how)
{
	struct cop_started started;
	uint64_t begin, one = 1;
	long i;

	(void)how;
	if (cop_agent_start_link(&agent_ops, NULL, &started) != COP_STARTED)
		fail("start an agent");
	gets(started.pid, n / 10 + 1);
	begin = now_ns();
	gets(started.pid, n);
	result("us", (double)(now_ns() - begin) / 1000 / (double)n);
	begin = now_ns();
	for (i = 0; i < n; i++)
		if (cop_agent_update(cop_to(started.pid), 1, &one, sizeof one, COP_CALL_MS, NULL) < 0)
			fail("update");
	result("update_us", (double)(now_ns() - begin) / 1000 / (double)n);
}
