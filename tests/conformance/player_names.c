/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Who is called what. A table of names says which process had a name last and what its next inits do; a log of
 * lives says of each process how it is called and whether its end is an event. Both are in memory shared by
 * all processes of the node, made before the node.
 *
 *   field            written by                                        read by
 *   actor.pid, role  the process itself; a supervisor; the script      anybody
 *   actor.fate_*     the script; fate_left also a worker's init        a worker's init
 *   life.pid, actor  whoever enters the process, actor first           anybody
 *   life.life        the process, its supervisor, the script           who reaps it
 *
 * All of it is atomic because any of these may be killed at any time. The log is a ring: only who outlives so
 * many others would lose its name.
 */
#include "player.h"

#include <stdatomic.h>
#include <sys/mman.h>

enum { LIVES = 65536 };

struct actor {
	_Atomic uint64_t pid;
	_Atomic int role;
	_Atomic int fate;
	_Atomic int64_t fate_left;
	_Atomic int64_t runs;
	_Atomic(const struct command *) fate_cause;
};

struct life_entry {
	_Atomic uint64_t pid;
	_Atomic uint32_t actor;
	_Atomic int life;
};

static struct shared {
	_Atomic uint64_t n_lives; /* ever */
	struct life_entry lives[LIVES];
	struct actor actors[];
} *shared;

int names_create(void)
{
	size_t size = sizeof *shared + scenario.n_actors * sizeof shared->actors[0];

	shared = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return shared == MAP_FAILED ? -1 : 0;
}

void names_enter(uint32_t actor, enum role role, cop_pid pid, enum life life)
{
	struct life_entry *e = &shared->lives[atomic_fetch_add(&shared->n_lives, 1) % LIVES];

	atomic_store(&e->pid, 0);
	atomic_store(&e->actor, actor);
	atomic_store(&e->life, life);
	atomic_store(&e->pid, pid.id);
	atomic_store(&shared->actors[actor].role, role);
	atomic_store(&shared->actors[actor].pid, pid.id);
}

static struct life_entry *find(cop_pid pid)
{
	uint64_t n = atomic_load(&shared->n_lives), i;

	for (i = n; i > 0 && i + LIVES > n; i--) {
		struct life_entry *e = &shared->lives[(i - 1) % LIVES];

		if (atomic_load(&e->pid) == pid.id)
			return e;
	}
	return NULL;
}

void names_set_life(cop_pid pid, enum life life)
{
	struct life_entry *e = find(pid);

	if (e)
		atomic_store(&e->life, life);
}

bool names_find(cop_pid pid, uint32_t *actor_r, enum life *life_r)
{
	const struct life_entry *e = find(pid);

	if (e == NULL)
		return false;
	*actor_r = atomic_load(&e->actor);
	*life_r = (enum life)atomic_load(&e->life);
	return true;
}

const char *names_of(cop_pid pid)
{
	uint32_t actor;
	enum life life;

	return names_find(pid, &actor, &life) ? scenario.actors[actor] : "unknown";
}

cop_pid names_last(uint32_t actor, enum role *role_r)
{
	*role_r = (enum role)atomic_load(&shared->actors[actor].role);
	return (cop_pid){ atomic_load(&shared->actors[actor].pid) };
}

void names_set_fate(uint32_t actor, enum fate fate, int64_t n, const struct command *cause)
{
	struct actor *a = &shared->actors[actor];

	atomic_store(&a->fate_left, 0);
	atomic_store(&a->fate, fate);
	atomic_store(&a->fate_cause, cause);
	atomic_store(&a->fate_left, n);
}

int64_t names_fates_left(uint32_t actor)
{
	return atomic_load(&shared->actors[actor].fate_left);
}

int64_t names_runs(uint32_t actor)
{
	return atomic_fetch_add(&shared->actors[actor].runs, 1) + 1;
}

enum fate names_take_fate(uint32_t actor, const struct command **cause_r)
{
	struct actor *a = &shared->actors[actor];
	int64_t left = atomic_load(&a->fate_left);

	do {
		if (left <= 0)
			return FATE_NONE;
	} while (!atomic_compare_exchange_weak(&a->fate_left, &left, left - 1));
	*cause_r = atomic_load(&a->fate_cause);
	return (enum fate)atomic_load(&a->fate);
}
