/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The processes of items. A slot has all that one process needs until it executes its program: a stack, an argument
 * vector, an environment; for it runs in the runner's memory until then (doc/design/0009-launch.md), and the runner
 * goes on meanwhile. When it ends, what it has started ends: its process group at once, while its number cannot
 * be anybody else's, and orphans that carry its INVOCATION_ID.
 *
 * Runs in the runner; slots_end() also in the guard. Allocates a slot's memory at its first use.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fds.h"
#include "base/raw.h"
#include "map/map_private.h"

#define STACK_SIZE (16u << 10)
#define ENV_NAME "INVOCATION_ID="
#define END_ROUND_MS 100
#define END_ROUNDS 50      /* without a death, before those that cannot be killed are left alone */

/* --- tables --- */

static void draw_invocation(char *hex)
{
	uint64_t v = 0;

	if (getrandom(&v, sizeof v, GRND_NONBLOCK) != sizeof v)
		v = (uint64_t)clock_mono_ns() ^ (uint64_t)getpid() << 40;
	snprintf(hex, GROUP_INVOCATION / 2 + 1, "%016llx", (unsigned long long)v);
}

int slots_init(struct run *r)
{
	unsigned i, n = r->o->jobs;
	void *errs = mmap(NULL, n * sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (errs == MAP_FAILED)
		return -1;
	r->errs = errs;
	r->null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (r->null_fd < 0)
		return -1;
	draw_invocation(r->invocation);
	r->slots = map_grow(NULL, n, sizeof *r->slots);
	SLIST_INIT(&r->free);
	for (i = n; i-- > 0;) {
		r->slots[i] = (struct slot){ .run = r, .number = i + 1, .err = &r->errs[i] };
		SLIST_INSERT_HEAD(&r->free, &r->slots[i], free);
	}
	return 0;
}

void slots_fini(struct run *r)
{
	unsigned i;

	for (i = 0; i < r->o->jobs; i++) {
		struct slot *s = &r->slots[i];

		if (s->stack)
			munmap(s->stack, STACK_SIZE);
		strings_fini(&s->argv);
		free(s->env);
		free(s->own_path);
	}
	free(r->slots);
	fds_close(&r->null_fd);
	munmap(r->errs, r->o->jobs * sizeof(int));
}

static void make_env(struct slot *s)
{
	size_t n = 0, k = 0;

	if (s->env)
		return;
	while (environ[n])
		n++;
	s->env = map_grow(NULL, n + 2, sizeof *s->env);
	for (n = 0; environ[n]; n++)
		if (strncmp(environ[n], ENV_NAME, strlen(ENV_NAME)) != 0)
			s->env[k++] = environ[n];
	s->env[k++] = s->invocation;
	s->env[k] = NULL;
}

static int make_stack(struct slot *s)
{
	void *p;

	if (s->stack)
		return 0;
	p = mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	if (p == MAP_FAILED)
		return -1;
	s->stack = p;
	return 0;
}

/* --- in the child, which may share the runner's memory: raw system calls only --- */

static _Noreturn void give_up(int status)
{
	for (;;)
		raw1(SYS_exit_group, status);
}

static void become(void *arg)
{
	const struct slot *s = arg;
	sigset_t mask = s->run->mask;
	long err = 0;
	int i;

	/* the runner may be dead already, and then nobody would tell us */
	if (raw2(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL) < 0 || raw0(SYS_getppid) != s->run->self)
		give_up(MAP_BROKEN);
	raw0(SYS_setsid);
	for (i = 0; i < 3 && err == 0; i++)
		err = raw_err(raw3(SYS_dup3, s->fd[i], i, 0));
	raw4(SYS_rt_sigprocmask, SIG_SETMASK, &mask, NULL, _NSIG / 8);
	if (err == 0)
		err = raw_err(raw3(SYS_execve, s->path, s->argv.argv, s->env));
	*s->err = (int)err;
	give_up(err == ENOENT ? 127 : 126);
}

/* --- starting --- */

static void lookup(struct run *r, struct slot *s)
{
	static char found[4096];

	if (r->path) {
		s->path = r->path;
		return;
	}
	*s->err = words_find(s->argv.argv[0], found, sizeof found);
	free(s->own_path);
	s->own_path = map_grow(NULL, strlen(found) + 1, 1);
	memcpy(s->own_path, found, strlen(found) + 1);
	s->path = s->own_path;
}

static pid_t make_process(struct slot *s)
{
	struct group g = { .dirfd = -1, .events_fd = -1 };
	struct group_start start = { .run = become, .arg = s, .stack = s->stack, .stack_size = STACK_SIZE };
	pid_t pid;

	if (group_can_spawn()) {
		pid = group_spawn(&g, &start);
		if (pid > 0 || errno != ENOSYS)
			return pid;
	}
	pid = group_fork(&g, NULL);
	if (pid == 0)
		become(s);
	return pid;
}

/* The item's standard input, from its beginning: what an earlier attempt has read it reads again. */
static int open_stdin(struct run *r, const struct item *it)
{
	char name[64];

	if (it->chunk < 0)
		return r->null_fd;
	snprintf(name, sizeof name, "/proc/self/fd/%d", it->chunk);
	return open(name, O_RDONLY | O_CLOEXEC);
}

static void prepare(struct run *r, struct slot *s, struct item *it)
{
	it->number = s->number;
	make_env(s);
	snprintf(s->invocation, sizeof s->invocation, ENV_NAME "%s%016llx", r->invocation,
	    (unsigned long long)++r->launches);
	words_expand(&r->words, it, s->number, &s->argv);
	*s->err = 0;
	lookup(r, s);
	it->start_us = clock_real_us();
	it->start_ns = clock_mono_ns();
	it->err = it->exit = it->sig = 0;
	it->timed_out = it->killing = false;
}

int slot_launch(struct run *r, struct item *it)
{
	struct slot *s = SLIST_FIRST(&r->free);
	int ends[2], in, err;
	pid_t pid = -1;

	if (make_stack(s) < 0)
		return -1;
	in = open_stdin(r, it);
	if (in < 0)
		return -1;
	s->fd[0] = in; /* what the slot holds is the child's until it is reaped */
	if (capture_open(r, it, ends) == 0) {
		s->fd[1] = ends[0];
		s->fd[2] = ends[1];
		prepare(r, s, it);
		pid = make_process(s);
		err = errno;
		fds_close(&ends[0]);
		fds_close(&ends[1]);
		if (pid < 0) {
			capture_drop(r, &it->out[0]);
			capture_drop(r, &it->out[1]);
		}
		errno = err;
	}
	err = errno;
	if (in != r->null_fd)
		fds_close(&in);
	errno = err;
	if (pid < 0)
		return -1;
	SLIST_REMOVE_HEAD(&r->free, free);
	r->running++;
	s->pid = it->pid = pid;
	s->item = it;
	it->slot = s;
	return 0;
}

/* --- ending --- */

void slot_signal(struct slot *s, int sig)
{
	/* its number is its own until slots_reap(); before its setsid it leads no group */
	if (kill(-s->pid, sig) < 0)
		kill(s->pid, sig);
}

void slots_signal(struct run *r, int sig)
{
	unsigned i;

	for (i = 0; i < r->o->jobs; i++)
		if (r->slots[i].pid > 0)
			slot_signal(&r->slots[i], sig);
}

static struct slot *find_slot(struct run *r, pid_t pid)
{
	unsigned i;

	for (i = 0; i < r->o->jobs; i++)
		if (r->slots[i].pid == pid)
			return &r->slots[i];
	return NULL;
}

static void bury(struct run *r, struct slot *s, const siginfo_t *si)
{
	struct item *it = s->item;

	kill(-s->pid, SIGKILL); /* whom it leaves behind */
	waitpid(s->pid, NULL, 0);
	it->ran_ns = clock_mono_ns() - it->start_ns;
	it->err = *s->err;
	it->exit = si->si_code == CLD_EXITED ? si->si_status : 0;
	it->sig = si->si_code == CLD_EXITED ? 0 : si->si_status;
	it->slot = NULL;
	s->pid = 0;
	s->item = NULL;
	r->running--;
	SLIST_INSERT_HEAD(&r->free, s, free);
	run_ended(r, it);
}

/* Ours and none of a living item: one that another item's process has started and left. */
static bool is_known(void *ctx, pid_t pid)
{
	struct run *r = ctx;
	char inv[GROUP_INVOCATION + 1];
	unsigned i;

	if (find_slot(r, pid))
		return true;
	group_invocation(pid, inv);
	if (strncmp(inv, r->invocation, GROUP_INVOCATION / 2) != 0)
		return true; /* it does not say: it is killed at the end */
	for (i = 0; i < r->o->jobs; i++)
		if (r->slots[i].pid > 0 && strcmp(r->slots[i].invocation + strlen(ENV_NAME), inv) == 0)
			return true;
	return false;
}

/* Whom a dead process leaves comes to us before its death is told. */
static void sweep(struct run *r)
{
	int n = group_count_children();

	if (n >= 0 && (unsigned)n > r->running)
		group_kill_strays(is_known, r);
}

void slots_reap(struct run *r)
{
	bool any = false;

	for (;;) {
		siginfo_t si = { 0 };
		struct slot *s;

		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || si.si_pid == 0)
			break;
		any = true;
		s = find_slot(r, si.si_pid);
		if (s)
			bury(r, s, &si);
		else
			waitpid(si.si_pid, NULL, 0);
	}
	if (any)
		sweep(r);
}

/* Waits shortly for a child's death; false if nobody died. */
static bool await_death(void)
{
	struct timespec t = { .tv_nsec = END_ROUND_MS * 1000000L };
	sigset_t set;
	bool any = false;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		any = true;
	if (!any) {
		sigtimedwait(&set, NULL, &t);
		while (waitpid(-1, NULL, WNOHANG) > 0)
			any = true;
	}
	return any;
}

void slots_end(void)
{
	unsigned idle = 0;

	while (waitpid(-1, NULL, WNOHANG) >= 0 && idle < END_ROUNDS) {
		group_kill_children();
		idle = await_death() ? 0 : idle + 1;
	}
	if (idle == END_ROUNDS)
		diag_warn("map: there are processes left that cannot be killed");
}
