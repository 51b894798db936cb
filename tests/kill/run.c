/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A process may be killed between any two instructions. This is tried: a victim is stepped through what it
 * does, one instruction at a time, and after each that changed anything, everybody else goes on from a
 * copy of the shared memory as if it had died there. That is the same as killing it: a killed process
 * takes back no store that has retired, and what is of the kernel is noted by single stores (lab.h).
 * Then the same for who buries it: killed at any instruction, it is buried with its victim by a third.
 *
 *     run                       a fixed set of runs and some random ones: TAP
 *     run --points N [--seed S] random runs until there were so many points
 *     run --play BEFORE VICTIM  one (play.h)
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "play.h"

#define KEPT 64            /* states of one run that burying begins from, at most */
#define STEPS_MAX 3000000u /* of one part: it goes in circles */

static struct {
	uint64_t points, states, runs;
	uint64_t seed;
	unsigned every;        /* variants: all (0), or one of each state's */
} total;

static struct {
	const struct play *play;
	uint64_t step;
	unsigned long ip;
	unsigned variant;
	bool reaper;
	uint64_t victim_step;  /* from which burying began */
} now;

extern const char __executable_start[];

static void where(void)
{
	printf("# run \"%s\" \"%s\", %s killed after instruction %llu", now.play->before, now.play->victim,
	    now.reaper ? "reaper" : "victim", (unsigned long long)now.step);
	if (now.reaper)
		printf(" (the victim after %llu)", (unsigned long long)now.victim_step);
	printf(", next one at 0x%lx, variant %u:\n", now.ip - (unsigned long)__executable_start, now.variant);
}

static void crashed(int sig)
{
	where();
	printf("#   the survivors: signal %d\nBail out! the check was ended by a signal\n", sig);
	fflush(stdout);
	_exit(1);
}

/* --- stepping --- */

static pid_t begin(bool reaper)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		lab_be(reaper ? LAB_REAPER : LAB_VICTIM);
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		if (reaper)
			play_reaper();
		else
			play_victim(now.play);
		atomic_store(&lab_side->done, 1);
		for (;;)
			pause();
	}
	if (pid < 0 || waitpid(pid, NULL, 0) != pid) {
		perror("fork");
		exit(1);
	}
	ptrace(PTRACE_SETOPTIONS, pid, NULL, (void *)PTRACE_O_EXITKILL);
	return pid;
}

static bool step(pid_t pid)
{
	struct user_regs_struct regs;
	int status;

	if (atomic_load(&lab_side->done))
		return false;
	if (ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) < 0 || waitpid(pid, &status, 0) != pid)
		return false;
	if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGTRAP) {
		where();
		printf("#   the stepped one: status %x\n", (unsigned)status);
		play_failures++;
		return false;
	}
	total.points++;
	if (++now.step > STEPS_MAX) {
		where();
		printf("#   the stepped one goes in circles\n");
		play_failures++;
		return false;
	}
#ifdef __x86_64__
	if (ptrace(PTRACE_GETREGS, pid, NULL, &regs) == 0)
		now.ip = regs.rip;
#else
	(void)regs;
#endif
	return true;
}

static void check_state(const struct lab_image *at)
{
	unsigned variants = now.reaper ? 4 : 2, v;

	total.states++;
	for (v = 0; v < variants; v++) {
		if (total.every && (total.states + v) % variants != 0)
			continue;
		now.variant = v;
		lab_restore(at);
		lab_rewind();
		alarm(20);
		play_end(now.play, now.reaper, v);
		alarm(0);
	}
	lab_restore(at);
	lab_rewind();
}

static void copy(struct lab_image *to, const struct lab_image *from)
{
	if (to->cap < from->bytes) {
		to->data = realloc(to->data, from->bytes);
		to->cap = from->bytes;
	}
	memcpy(to->data, from->data, from->bytes);
	to->bytes = from->bytes;
}

static uint64_t dice(uint64_t n)
{
	total.seed ^= total.seed << 13;
	total.seed ^= total.seed >> 7;
	total.seed ^= total.seed << 17;
	return n ? (total.seed >> 11) % n : 0;
}

/* Steps one part, and checks each state; keeps some. Returns how many. */
static unsigned walk(bool reaper, struct lab_image *kept, uint64_t *kept_step, unsigned want)
{
	static struct lab_image last;
	unsigned n = 0, seen = 0;
	pid_t pid;

	now.reaper = reaper;
	now.step = 0;
	pid = begin(reaper);
	lab_keep(&last);
	check_state(&last);
	while (step(pid)) {
		unsigned at;

		if (lab_is_as(&last))
			continue;
		lab_keep(&last);
		check_state(&last);
		if (want == 0)
			continue;
		at = n < want ? n++ : (unsigned)dice(++seen + want);
		if (at < want) {
			copy(&kept[at], &last);
			kept_step[at] = now.step;
		}
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	return n;
}

static void run(const struct play *play, unsigned compounds)
{
	static struct lab_image kept[KEPT];
	uint64_t at[KEPT];
	unsigned n, i;

	now.play = play;
	play_prepare(play);
	n = walk(false, kept, at, compounds);
	for (i = 0; i < n; i++) {
		lab_restore(&kept[i]);
		lab_rewind();
		atomic_store(&lab_side->done, 0);
		now.victim_step = at[i];
		(void)walk(true, NULL, NULL, 0);
	}
	total.runs++;
}

/* --- what is run --- */

static const struct {
	const char *what, *before, *victim;
	unsigned compounds;
} fixed[] = {
	{ "small messages", "", "sssss", 4 },
	{ "messages to one that sleeps", "a", "ss", 4 },
	{ "messages to one that sleeps in poll", "p", "ss", 4 },
	{ "a pool that grows", "555555555", "ssssssssssssssss", 2 },
	{ "larger messages", "", "cscc", 2 },
	{ "big messages", "", "bsb", 2 },
	{ "receiving", "sSsmlMSs", "rrrrrr", 4 },
	{ "receiving what was undone", "lmudlmsMDMS", "rrr", 4 },
	{ "receiving deaths", "34k", "rr", 2 },
	{ "receiving deaths, trapping", "v34sk", "rrr", 2 },
	{ "links, the other traps", "t", "lulsu", 4 },
	{ "links, the other does not trap", "", "lul", 4 },
	{ "a link that the other made", "tl", "lusl", 2 },
	{ "monitors", "mM", "mdmmd", 2 },
	{ "of a dead one, not buried", "lm1z", "lsmudl", 2 },
	{ "exit signals, trapped", "tla", "ees", 2 },
	{ "exit signals, not trapped", "", "e", 2 },
	{ "killing", "tm", "kl", 2 },
	{ "spawning", "t", "x", 2 },
	{ "spawning and linking", "t", "y", 4 },
	{ "spawning and monitoring", "t", "z", 4 },
	{ "names", "tm", "nNnrg", 2 },
	{ "burying one with everything", "tlmMLn12345sS", "s", 2 },
};

static int fixed_runs(void)
{
	unsigned i, before = 0;
	struct play play;

	printf("1..%zu\n", sizeof fixed / sizeof fixed[0] + 1);
	for (i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
		uint64_t points = total.points, states = total.states;

		snprintf(play.before, sizeof play.before, "%s", fixed[i].before);
		snprintf(play.victim, sizeof play.victim, "%s", fixed[i].victim);
		run(&play, fixed[i].compounds);
		printf("%sok %u - %s (%llu points, %llu states)\n", play_failures > before ? "not " : "", i + 1,
		    fixed[i].what, (unsigned long long)(total.points - points), (unsigned long long)(total.states - states));
		before = play_failures;
	}
	total.every = 1;
	for (i = 0; i < 24; i++) {
		play_random(&play, &total.seed);
		run(&play, 1);
	}
	printf("%sok %zu - random runs (%llu points, %llu states in all)\n", play_failures > before ? "not " : "",
	    sizeof fixed / sizeof fixed[0] + 1, (unsigned long long)total.points, (unsigned long long)total.states);
	return play_failures > 0;
}

static int random_runs(uint64_t points)
{
	uint64_t seed = total.seed, said = 0;
	struct play play;
	time_t t0 = time(NULL);

	total.every = 1;
	while (total.points < points) {
		play_random(&play, &total.seed);
		run(&play, 3);
		if (total.points / 1000000 > said) {
			said = total.points / 1000000;
			printf("# %llu points, %llu states, %u failures, %lld s\n", (unsigned long long)total.points,
			    (unsigned long long)total.states, play_failures, (long long)(time(NULL) - t0));
			fflush(stdout);
		}
	}
	printf("%llu points in %llu runs, %llu distinct states, %u failures, seed %llu, %lld s\n",
	    (unsigned long long)total.points, (unsigned long long)total.runs, (unsigned long long)total.states,
	    play_failures, (unsigned long long)seed, (long long)(time(NULL) - t0));
	return play_failures > 0;
}

int main(int argc, char **argv)
{
	uint64_t points = 0;
	struct play play;
	int i;

	if (!getenv("LD_BIND_NOW")) { /* the dynamic linker's work is none of the victim's */
		setenv("LD_BIND_NOW", "1", 1);
		setenv("GLIBC_TUNABLES", "glibc.cpu.x86_rep_movsb_threshold=0x7fffffff", 1);
		execv("/proc/self/exe", argv);
	}
#ifndef __x86_64__
	printf("1..0 # SKIP single steps break what other processors do atomically\n");
	return 0;
#endif
	total.seed = 88172645463325252ull;
	play_where = where;
	signal(SIGSEGV, crashed);
	signal(SIGABRT, crashed);
	signal(SIGALRM, crashed);
	signal(SIGBUS, crashed);
	lab_open();
	for (i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--points") == 0 && i + 1 < argc) {
			points = strtoull(argv[++i], NULL, 0);
		} else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
			total.seed = strtoull(argv[++i], NULL, 0);
			if (total.seed == 0)
				total.seed = (uint64_t)time(NULL) * 0x9e3779b97f4a7c15ull | 1;
		} else if (strcmp(argv[i], "--play") == 0 && i + 2 < argc) {
			snprintf(play.before, sizeof play.before, "%s", argv[i + 1]);
			snprintf(play.victim, sizeof play.victim, "%s", argv[i + 2]);
			run(&play, 16);
			printf("%llu points, %llu states, %u failures\n", (unsigned long long)total.points,
			    (unsigned long long)total.states, play_failures);
			return play_failures > 0;
		} else {
			fprintf(stderr, "usage: run [--points N] [--seed S] | --play BEFORE VICTIM\n");
			return 2;
		}
	}
	return points ? random_runs(points) : fixed_runs();
}
