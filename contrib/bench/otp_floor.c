/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * otp_floor JOB NUMBER [HOW...]: the least that the jobs of otp cost on this machine: forked processes,
 * memory they share, futexes and pidfds, nothing else. No envelope, no names, no links, nothing
 * that survives the death of anybody but the one that is measured. Linked statically.
 *
 *      call N CALLERS [two]    64 bytes there and back; two: on two processors
 *      restart N [watched]     deaths of a forked worker; watched: killed by who then looks for it
 *      down N                  kills of a forked process, until it is reaped
 *      spawn N                 processes that end at once
 *      memory N                idle children
 *      tree N [split]          idle children; split: of ten children
 */
#include "otp.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <linux/sched.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void futex_wait(_Atomic uint32_t *word, uint32_t while_it_is)
{
	syscall(SYS_futex, word, FUTEX_WAIT, while_it_is, NULL, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word, int how_many)
{
	syscall(SYS_futex, word, FUTEX_WAKE, how_many, NULL, NULL, 0);
}

/* A child that ends with this process, and runs main_f to its end. */
static pid_t fork_child(void (*main_f)(void *), void *arg)
{
	pid_t pid = fork();

	if (pid < 0)
		fail("fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		main_f(arg);
		_exit(0);
	}
	return pid;
}

/* A child that has failed has said why. */
static void reap(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			fail("wait for a child");
	if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
		exit(1);
}

/* --- call: an inbox that many push to and one takes whole; the reply lies in the request's place ------ */

enum { SPINS = 1000 };

/* Each caller has one node, and nothing to do with it while the server has it. */
struct node {
	_Alignas(128) _Atomic uint32_t turn;    /* odd: the server's; even: answered */
	uint32_t next;                          /* in the inbox: 1 + the number of a caller */
	struct payload data;
};

/* Where a process is to be found. */
struct place {
	_Alignas(128) _Atomic uint32_t asleep;
	_Atomic uint32_t cpu;
};

struct hall {
	_Alignas(128) _Atomic uint32_t inbox;
	struct place server, callers[CROWD_MAX];
	struct node nodes[CROWD_MAX];
	_Alignas(128) _Atomic uint32_t ready;
	struct {
		_Alignas(128) uint64_t begin, end;
	} times[CROWD_MAX];
};

static struct hall *hall;
static uint32_t callers;
static long each;
static bool apart;

static void relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield" ::: "memory");
#endif
}

static void wake(struct place *p)
{
	if (atomic_load_explicit(&p->asleep, memory_order_relaxed) && atomic_exchange(&p->asleep, 0))
		futex_wake(&p->asleep, 1);
}

static bool is_still(_Atomic uint32_t *word, uint32_t value)
{
	return atomic_load_explicit(word, memory_order_acquire) == value;
}

/* Waits for another value. Spins while the other side is on another processor, which is all that helps; then
 * sleeps. */
static void await_change(_Atomic uint32_t *word, uint32_t value, struct place *me, const struct place *other)
{
	unsigned cpu = 0;
	int spins;

	getcpu(&cpu, NULL);
	if (atomic_load_explicit(&me->cpu, memory_order_relaxed) != cpu)
		atomic_store_explicit(&me->cpu, cpu, memory_order_relaxed);
	spins = atomic_load_explicit(&other->cpu, memory_order_relaxed) != cpu ? SPINS : 0;
	while (is_still(word, value) && spins-- > 0)
		relax();
	while (is_still(word, value)) {
		atomic_store(&me->asleep, 1);
		if (is_still(word, value))
			futex_wait(&me->asleep, 1);
	}
	atomic_store_explicit(&me->asleep, 0, memory_order_relaxed);
}

static void push(uint32_t caller)
{
	uint32_t head = atomic_load_explicit(&hall->inbox, memory_order_relaxed);

	do
		hall->nodes[caller].next = head;
	while (!atomic_compare_exchange_weak(&hall->inbox, &head, caller + 1));
	if (head == 0)
		wake(&hall->server);
}

/* All that is there, the oldest first. */
static uint32_t take(void)
{
	uint32_t newest = atomic_exchange(&hall->inbox, 0), oldest = 0;

	while (newest != 0) {
		struct node *node = &hall->nodes[newest - 1];
		uint32_t older = node->next;

		node->next = oldest;
		oldest = newest;
		newest = older;
	}
	return oldest;
}

static void answer_for_ever(void *arg)
{
	uint32_t last = 0;

	(void)arg;
	if (apart)
		pin_to(1);
	for (;;) {
		await_change(&hall->inbox, 0, &hall->server, &hall->callers[last]);
		for (uint32_t at = take(); at != 0;) {
			struct node *node = &hall->nodes[last = at - 1];

			at = node->next;
			node->data.rest[0]++;
			atomic_fetch_add(&node->turn, 1);
			wake(&hall->callers[last]);
		}
	}
}

static void ask(uint32_t caller, long n)
{
	struct node *node = &hall->nodes[caller];
	struct payload out = { 0 }, in;

	for (long i = 0; i < n; i++) {
		uint32_t turn = atomic_load_explicit(&node->turn, memory_order_relaxed) + 1;

		out.serial = (uint64_t)i;
		node->data = out;
		atomic_store_explicit(&node->turn, turn, memory_order_relaxed);
		push(caller);
		await_change(&node->turn, turn, &hall->callers[caller], &hall->server);
		in = node->data;
		if (in.serial != out.serial || in.rest[0] != 1) {
			errno = EBADMSG;
			fail("get one's own reply");
		}
	}
}

static void take_part(void *arg)
{
	uint32_t me = (uint32_t)(uintptr_t)arg;

	if (apart)
		pin_to(0);
	ask(me, each / 10 + 1);
	atomic_fetch_add(&hall->ready, 1);
	while (atomic_load(&hall->ready) < callers)
		sched_yield();
	hall->times[me].begin = now_ns();
	ask(me, each);
	hall->times[me].end = now_ns();
}

static void job_floor_call(long n, char **how)
{
	uint64_t begin = UINT64_MAX, end = 0;
	pid_t server, pids[CROWD_MAX];

	callers = how[0] != NULL ? (uint32_t)count_of(how[0]) : 1;
	if (callers > CROWD_MAX) {
		errno = ERANGE;
		fail("have so many at once");
	}
	apart = how[0] != NULL && how[1] != NULL && strcmp(how[1], "two") == 0;
	each = n / callers > 0 ? n / callers : 1;
	hall = share(sizeof *hall);
	server = fork_child(answer_for_ever, NULL);
	for (uint32_t i = 0; i < callers; i++)
		pids[i] = fork_child(take_part, (void *)(uintptr_t)i);
	for (uint32_t i = 0; i < callers; i++) {
		reap(pids[i]);
		begin = hall->times[i].begin < begin ? hall->times[i].begin : begin;
		end = hall->times[i].end > end ? hall->times[i].end : end;
	}
	result("us", (double)(end - begin) / 1e3 / (double)each);
	result("k_per_s", (double)(each * callers) / (double)(end - begin) * 1e6);
	kill(server, SIGKILL);
	reap(server);
}

/* --- restart: poll, waitid, clone3 ------------------------------------------------------------ */

struct lives {
	uint64_t born[LIVES_MAX + 1], died[LIVES_MAX];
	_Alignas(128) _Atomic pid_t newest;
};

static struct lives *lives;
static double us[LIVES_MAX];

static pid_t clone_with_pidfd(int *fd_r)
{
	struct clone_args args = {
		.flags = CLONE_PIDFD, .pidfd = (uintptr_t)fd_r, .exit_signal = SIGCHLD
	};

	return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

static void await_pidfd(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	siginfo_t info;

	while (poll(&p, 1, -1) < 0)
		if (errno != EINTR)
			fail("poll");
	if (waitid(P_PIDFD, (id_t)fd, &info, WEXITED) < 0)
		fail("wait for a child");
	close(fd);
}

static void check_lives(long n)
{
	if (n > LIVES_MAX) {
		errno = ERANGE;
		fail("die so often");
	}
	lives = share(sizeof *lives);
}

/* The last one just ends. */
static void live_and_die(long i, long n)
{
	lives->born[i] = now_ns();
	if (i == n)
		return;
	doze_ms(SETTLE_MS);
	lives->died[i] = now_ns();
	kill(getpid(), SIGKILL);
}

static void be_watched(long i, long n)
{
	atomic_store(&lives->newest, getpid());
	while (i < n)
		pause();
}

static void supervise(void (*worker)(long i, long n), long n)
{
	for (long i = 0; i <= n; i++) {
		int fd = -1;
		pid_t pid = clone_with_pidfd(&fd);

		if (pid < 0)
			fail("clone");
		if (pid == 0) {
			worker(i, n);
			_exit(0);
		}
		await_pidfd(fd);
	}
}

static void supervise_watched(void *n)
{
	supervise(be_watched, *(long *)n);
}

static void kill_and_look(long n)
{
	pid_t old = 0;

	for (long i = 0; i <= n; i++) {
		uint64_t killed = now_ns();
		pid_t new;

		if (i > 0)
			kill(old, SIGKILL);
		while ((new = atomic_load(&lives->newest)) == old)
			;
		if (i > 0)
			us[i - 1] = (double)(now_ns() - killed) / 1e3;
		old = new;
		doze_ms(SETTLE_MS);
	}
}

static void job_floor_restart(long n, char **how)
{
	pid_t supervisor;

	check_lives(n);
	if (how[0] != NULL && strcmp(how[0], "watched") == 0) {
		supervisor = fork_child(supervise_watched, &n);
		kill_and_look(n);
		reap(supervisor);
	} else {
		supervise(live_and_die, n);
		for (long i = 0; i < n; i++)
			us[i] = (double)(lives->born[i + 1] - lives->died[i]) / 1e3;
	}
	result_times("us", us, (size_t)n);
}

static void job_floor_down(long n, char **how)
{
	(void)how;
	check_lives(n);
	for (long i = 0; i < n; i++) {
		int fd = -1;
		pid_t pid = clone_with_pidfd(&fd);
		uint64_t killed;

		if (pid < 0)
			fail("clone");
		while (pid == 0)
			pause();
		doze_ms(SETTLE_MS);
		killed = now_ns();
		kill(pid, SIGKILL);
		await_pidfd(fd);
		us[i] = (double)(now_ns() - killed) / 1e3;
	}
	result_times("us", us, (size_t)n);
}

/* --- spawn: fork, _exit, waitpid --------------------------------------------------------------- */

static void do_nothing(void *arg)
{
	(void)arg;
}

static void spawn_and_reap(long n)
{
	for (long i = 0; i < n; i++)
		reap(fork_child(do_nothing, NULL));
}

static void job_floor_spawn(long n, char **how)
{
	pid_t *pids = calloc((size_t)n, sizeof *pids);
	uint64_t begin;

	(void)how;
	if (pids == NULL)
		fail("have memory");
	spawn_and_reap(n / 10 + 1);
	begin = now_ns();
	spawn_and_reap(n);
	result("us", (double)(now_ns() - begin) / 1e3 / (double)n);
	begin = now_ns();
	for (long i = 0; i < n; i++)
		pids[i] = fork_child(do_nothing, NULL);
	result("alone_us", (double)(now_ns() - begin) / 1e3 / (double)n);
	for (long i = 0; i < n; i++)
		reap(pids[i]);
	free(pids);
}

/* --- idle children ---------------------------------------------------------------------------- */

struct grove {
	_Alignas(128) _Atomic uint32_t up;
	_Alignas(128) _Atomic uint32_t end;
	pid_t pids[];
};

static struct grove *grove;

struct part {
	long from, to;
};

static void idle(void *arg)
{
	(void)arg;
	atomic_fetch_add(&grove->up, 1);
	while (atomic_load(&grove->end) == 0)
		futex_wait(&grove->end, 0);
}

static void plant(const struct part *part)
{
	for (long i = part->from; i < part->to; i++)
		grove->pids[i] = fork_child(idle, NULL);
}

static void clear(const struct part *part)
{
	for (long i = part->from; i < part->to; i++)
		reap(grove->pids[i]);
}

static void tend(void *arg)
{
	const struct part *part = arg;

	plant(part);
	clear(part);
}

static void make_grove(long n)
{
	grove = share(sizeof *grove + (size_t)n * sizeof *grove->pids);
}

/* Forking goes on in this process or below it; this looks rarely, in order not to disturb. */
static void await_all(long n)
{
	while (atomic_load(&grove->up) != (uint32_t)n)
		doze_ms(1);
}

static void end_all(void)
{
	atomic_store(&grove->end, 1);
	futex_wake(&grove->end, INT_MAX);
}

static void job_floor_memory(long n, char **how)
{
	const struct part all = { 0, n };
	struct machine before;

	(void)how;
	make_grove(n);
	/* Once for nothing: the machine's memory is warm afterwards. */
	plant(&all);
	await_all(n);
	end_all();
	clear(&all);
	atomic_store(&grove->up, 0);
	atomic_store(&grove->end, 0);
	doze_ms(COUNTERS_MS);
	before = machine_now();
	plant(&all);
	await_all(n);
	doze_ms(COUNTERS_MS);
	result_machine("server", &before, n);
	result("server_pss", pss_mean(grove->pids, n));
	end_all();
	clear(&all);
}

static void job_floor_tree(long n, char **how)
{
	bool split = how[0] != NULL && strcmp(how[0], "split") == 0;
	struct part parts[SUBTREES], all = { 0, n -= n % SUBTREES };
	pid_t pids[SUBTREES];
	uint64_t begin;

	make_grove(n);
	begin = now_ns();
	for (int i = 0; split && i < SUBTREES; i++) {
		parts[i] = (struct part){ n / SUBTREES * i, n / SUBTREES * (i + 1) };
		pids[i] = fork_child(tend, &parts[i]);
	}
	if (!split)
		plant(&all);
	await_all(n);
	result("start_ms", (double)(now_ns() - begin) / 1e6);
	doze_ms(REST_MS);
	begin = now_ns();
	end_all();
	for (int i = 0; split && i < SUBTREES; i++)
		reap(pids[i]);
	if (!split)
		clear(&all);
	result("stop_ms", (double)(now_ns() - begin) / 1e6);
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		job_f *run;
	} jobs[] = {
		{ "call", job_floor_call },
		{ "restart", job_floor_restart },
		{ "down", job_floor_down },
		{ "spawn", job_floor_spawn },
		{ "memory", job_floor_memory },
		{ "tree", job_floor_tree },
	};

	for (size_t i = 0; argc > 2 && i < sizeof jobs / sizeof *jobs; i++)
		if (strcmp(argv[1], jobs[i].name) == 0) {
			jobs[i].run(count_of(argv[2]), argv + 3);
			return 0;
		}
	fprintf(stderr, "usage: otp_floor JOB NUMBER [HOW...]\n");
	return 2;
}
