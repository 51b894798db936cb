/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Many idle servers: what each takes, what its supervisor takes for it, and how long a tree of them
 * needs to start and to stop in order.
 */
#include "otp.h"

#include <coppice/supervisor.h>

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUPERVISORS = 300 };

/* Shared: the Unix pids of the servers that were ever started. */
struct census {
	_Atomic long born;
	pid_t pids[];
};

static struct census *census;

static cop_server_init_f idle_init;
static const struct cop_server_ops idle_ops = { .name = "idle", .state_size = 64, .init = idle_init };

/* Children of a dynamic supervisor may all have the same id. */
static const struct cop_child idle_child = { .id = "idle", .server = &idle_ops };

static struct cop_next idle_init(void *state, const void *arg, size_t size)
{
	(void)state, (void)arg, (void)size;
	census->pids[atomic_fetch_add(&census->born, 1)] = getpid();
	return cop_ok();
}

static void take_census(long n)
{
	census = share(sizeof *census + (size_t)n * sizeof *census->pids);
}

static cop_pid start_supervisor(const struct cop_supervisor *spec)
{
	struct cop_started started;

	if (cop_supervisor_start_link(spec, &started) != COP_STARTED)
		fail("start a supervisor");
	return started.pid;
}

static cop_pid add_child(cop_pid sup, const struct cop_child *child)
{
	struct cop_started started;

	if (cop_supervisor_start_child(cop_to(sup), child, &started) != COP_STARTED)
		fail("start a child");
	return started.pid;
}

static void stop_supervisor(cop_pid sup)
{
	if (cop_server_stop(cop_to(sup), NULL, COP_INFINITY, NULL) < 0)
		fail("stop a supervisor");
}

static void check_born(long n)
{
	if (atomic_load(&census->born) != n) {
		errno = ECHILD;
		fail("count as many inits as children");
	}
}

/* --- memory ----------------------------------------------------------------------------------- */

static const struct cop_supervisor empty = { .dynamic = true };

/* A tree that comes and goes: the machine's memory is warm afterwards, and is not counted as new. */
static void warm(long n)
{
	cop_pid sup = start_supervisor(&empty);

	for (long i = 0; i < n; i++)
		add_child(sup, &idle_child);
	stop_supervisor(sup);
	atomic_store(&census->born, 0);
}

static void measure_servers(long n)
{
	cop_pid sup = start_supervisor(&empty);
	pid_t sup_pid = cop_os_pid(sup);
	struct machine before;
	double own;

	/* The root, this process, and one supervisor. */
	result("node_pss", memory_of(getppid(), "Pss") + memory_of(getpid(), "Pss") + memory_of(sup_pid, "Pss"));
	own = memory_of(sup_pid, "Anonymous");
	doze_ms(COUNTERS_MS);
	before = machine_now();
	for (long i = 0; i < n; i++)
		add_child(sup, &idle_child);
	check_born(n);
	doze_ms(COUNTERS_MS);
	result_machine("server", &before, n);
	result("server_pss", pss_mean(census->pids, n));
	/* Its Pss would shrink, with so many more to share its code with. */
	result("growth", (memory_of(sup_pid, "Anonymous") - own) / (double)n);
	stop_supervisor(sup);
}

static void measure_supervisors(long n)
{
	const struct cop_child child = { .id = "below", .supervisor = &empty };
	cop_pid top = start_supervisor(&empty);
	pid_t pids[SUPERVISORS];
	struct machine before;

	doze_ms(COUNTERS_MS);
	before = machine_now();
	for (long i = 0; i < n; i++)
		pids[i] = cop_os_pid(add_child(top, &child));
	doze_ms(COUNTERS_MS);
	result_machine("sup", &before, n);
	result("sup_pss", pss_mean(pids, n));
	stop_supervisor(top);
}

void job_memory(long n, char **how)
{
	(void)how;
	take_census(n);
	warm(n);
	measure_servers(n);
	measure_supervisors(SUPERVISORS);
}

/* --- trees ------------------------------------------------------------------------------------ */

static struct cop_child *children_of(long n)
{
	struct cop_child *children = calloc((size_t)n, sizeof *children);
	char (*ids)[24] = calloc((size_t)n, sizeof *ids);

	if (children == NULL || ids == NULL)
		fail("have memory");
	for (long i = 0; i < n; i++) {
		snprintf(ids[i], sizeof ids[i], "s%ld", i);
		children[i] = (struct cop_child){ .id = ids[i], .server = &idle_ops };
	}
	return children;
}

/* One supervisor whose specification lists all. */
static cop_pid grow_static(long n)
{
	const struct cop_supervisor spec = { .children = children_of(n), .n_children = (size_t)n };

	return start_supervisor(&spec);
}

/* One that lists ten, each of which lists a tenth. */
static cop_pid grow_static_split(long n)
{
	struct cop_supervisor below = { .children = children_of(n / SUBTREES), .n_children = (size_t)n / SUBTREES };
	struct cop_child *children = children_of(SUBTREES);
	const struct cop_supervisor spec = { .children = children, .n_children = SUBTREES };

	for (int i = 0; i < SUBTREES; i++) {
		children[i].server = NULL;
		children[i].supervisor = &below;
	}
	return start_supervisor(&spec);
}

/* One dynamic supervisor, asked for each by one process. */
static cop_pid grow_dynamic(long n)
{
	cop_pid sup = start_supervisor(&empty);

	for (long i = 0; i < n; i++)
		add_child(sup, &idle_child);
	return sup;
}

static long share_of_planter;

static void plant(void *arg)
{
	const cop_pid *sup = arg;

	for (long i = 0; i < share_of_planter; i++)
		add_child(*sup, &idle_child);
}

/* Ten dynamic ones below one, each asked by a process of its own. */
static cop_pid grow_dynamic_split(long n)
{
	const struct cop_child child = { .id = "below", .supervisor = &empty };
	cop_pid top = start_supervisor(&empty), below[SUBTREES], pid;
	cop_ref ref;

	share_of_planter = n / SUBTREES;
	for (int i = 0; i < SUBTREES; i++) {
		below[i] = add_child(top, &child);
		if (cop_spawn_monitor(plant, &below[i], &pid, &ref) < 0)
			fail("spawn");
	}
	for (int i = 0; i < SUBTREES; i++) {
		struct cop_msg msg;

		if (cop_receive(&msg, NULL, NULL, COP_INFINITY) != 1 || msg.kind != COP_MSG_DOWN)
			fail("see a planter's end");
		cop_msg_done(&msg);
	}
	return top;
}

void job_tree(long n, char **how)
{
	static const struct {
		const char *name;
		cop_pid (*grow)(long n);
	} kinds[] = {
		{ "static", grow_static },
		{ "static-split", grow_static_split },
		{ "dynamic", grow_dynamic },
		{ "dynamic-split", grow_dynamic_split },
	};
	uint64_t begin, up;
	cop_pid top;

	n -= n % SUBTREES;
	take_census(n);
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		if (how[0] != NULL && strcmp(how[0], kinds[i].name) == 0) {
			begin = now_ns();
			top = kinds[i].grow(n);
			up = now_ns();
			check_born(n);
			result("start_ms", (double)(up - begin) / 1e6);
			doze_ms(REST_MS);
			begin = now_ns();
			stop_supervisor(top);
			result("stop_ms", (double)(now_ns() - begin) / 1e6);
			return;
		}
	errno = EINVAL;
	fail("find that kind of tree");
}
