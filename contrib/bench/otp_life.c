/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Life and death: a killed server's replacement by its supervisor, the news of a death to a
 * monitor, and spawning. Whoever dies takes the time just before; whoever comes or hears takes it first of all.
 */
#include "otp.h"

#include <coppice/supervisor.h>

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Shared; only one mortal lives at a time, and main reads when there is no death to come. */
struct lives {
	_Atomic long lived;
	long deaths;            /* by one's own hand */
	uint64_t born[LIVES_MAX + 1], died[LIVES_MAX];
};

static struct lives *lives;
static double us[LIVES_MAX];

/* --- restart ---------------------------------------------------------------------------------- */

static const char mortal_name[] = "mortal";

struct mortal {
	long number;
};

static cop_server_init_f mortal_init;
static cop_server_msg_f mortal_info;

static const struct cop_server_ops mortal_ops = {
	.name = "mortal",
	.state_size = sizeof(struct mortal),
	.init = mortal_init,
	.handle_info = mortal_info,
};

static struct cop_next mortal_init(void *state, const void *arg, size_t size)
{
	uint64_t now = now_ns();
	struct mortal *me = state;

	(void)arg, (void)size;
	me->number = atomic_load(&lives->lived);
	if (me->number <= lives->deaths) {
		lives->born[me->number] = now;
		atomic_store(&lives->lived, me->number + 1);
	}
	if (me->number >= lives->deaths)
		return cop_ok();
	return cop_then_timeout(cop_ok(), SETTLE_MS);
}

static struct cop_next mortal_info(void *state, const struct cop_msg *msg)
{
	const struct mortal *me = state;

	if (msg->kind == COP_MSG_TIMEOUT) {
		lives->died[me->number] = now_ns();
		kill(getpid(), SIGKILL);
	}
	return cop_ok();
}

static void check_lives(long n)
{
	if (n > LIVES_MAX) {
		errno = ERANGE;
		fail("die so often");
	}
}

/* It kills itself, and nobody looks on. */
static void watch_deaths(long n)
{
	while (atomic_load(&lives->lived) <= n)
		doze_ms(20);
	for (long i = 0; i < n; i++)
		us[i] = (double)(lives->born[i + 1] - lives->died[i]) / 1e3;
}

/* This process kills it, and looks for the new one under its name without a pause. */
static void kill_and_look(long n)
{
	for (long i = 0; i < n; i++) {
		cop_pid old = cop_whereis(mortal_name), pid;
		uint64_t killed;

		doze_ms(SETTLE_MS);
		killed = now_ns();
		cop_kill(old);
		do
			pid = cop_whereis(mortal_name);
		while (cop_pid_is(pid, COP_NOPID) || cop_pid_is(pid, old));
		us[i] = (double)(now_ns() - killed) / 1e3;
	}
}

void job_restart(long n, char **how)
{
	bool watched = how[0] != NULL && strcmp(how[0], "watched") == 0;
	const struct cop_child child = { .id = mortal_name, .server = &mortal_ops, .name = mortal_name };
	const struct cop_supervisor spec = {
		.max_restarts = 1000000, .max_seconds = 1, .children = &child, .n_children = 1
	};
	struct cop_started sup;

	check_lives(n);
	lives = share(sizeof *lives);
	lives->deaths = watched ? 0 : n;
	if (cop_supervisor_start_link(&spec, &sup) != COP_STARTED)
		fail("start the supervisor");
	(watched ? kill_and_look : watch_deaths)(n);
	result_times("us", us, (size_t)n);
	if (cop_server_stop(cop_to(sup.pid), NULL, COP_INFINITY, NULL) < 0)
		fail("stop the supervisor");
}

/* --- monitors --------------------------------------------------------------------------------- */

static void await_death(cop_ref ref)
{
	struct cop_msg msg;

	if (cop_receive(&msg, NULL, NULL, COP_CALL_MS) != 1)
		fail("receive in time");
	if (msg.kind != COP_MSG_DOWN || !cop_ref_is(msg.ref, ref)) {
		errno = EBADMSG;
		fail("receive just the news of a death");
	}
	cop_msg_done(&msg);
}

static void lie_in_wait(void *arg)
{
	struct cop_msg msg;

	(void)arg;
	if (cop_receive(&msg, NULL, NULL, COP_INFINITY) == 1)
		cop_msg_done(&msg);
}

void job_down(long n, char **how)
{
	(void)how;
	check_lives(n);
	for (long i = 0; i < n; i++) {
		uint64_t killed;
		cop_pid victim;
		cop_ref ref;

		if (cop_spawn_monitor(lie_in_wait, NULL, &victim, &ref) < 0)
			fail("spawn");
		cop_sleep(SETTLE_MS);
		killed = now_ns();
		cop_kill(victim);
		await_death(ref);
		us[i] = (double)(now_ns() - killed) / 1e3;
	}
	result_times("us", us, (size_t)n);
}

/* --- spawn ------------------------------------------------------------------------------------ */

static void do_nothing(void *arg)
{
	(void)arg;
}

static void spawn_and_see(long n)
{
	for (long i = 0; i < n; i++) {
		cop_pid pid;
		cop_ref ref;

		if (cop_spawn_monitor(do_nothing, NULL, &pid, &ref) < 0)
			fail("spawn");
		await_death(ref);
	}
}

/* Only the spawner's own part; that all are gone is waited for afterwards. */
static double spawn_only(long n)
{
	cop_pid *pids = calloc((size_t)n, sizeof *pids);
	uint64_t begin = now_ns();
	double took;

	if (pids == NULL)
		fail("have memory");
	for (long i = 0; i < n; i++)
		if (cop_spawn(do_nothing, NULL, &pids[i]) < 0)
			fail("spawn");
	took = (double)(now_ns() - begin);
	for (long i = 0; i < n; i++)
		while (cop_is_alive(pids[i]))
			doze_ms(1);
	free(pids);
	return took;
}

void job_spawn(long n, char **how)
{
	uint64_t begin;

	(void)how;
	spawn_and_see(n / 10 + 1);
	begin = now_ns();
	spawn_and_see(n);
	result("us", (double)(now_ns() - begin) / 1e3 / (double)n);
	result("alone_us", spawn_only(n) / 1e3 / (double)n);
}
