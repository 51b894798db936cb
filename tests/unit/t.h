/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The frame of unit tests: each case runs in its own fork with a deadline, and must leave no
 * descriptor and no child behind. Output is TAP.
 *
 *     T_CASE(adds_up) { T_EQ_INT(1 + 1, 2); }
 *     T_MAIN(T_RUN(adds_up))
 */
#ifndef UNIT_T_H
#define UNIT_T_H

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef T_DEADLINE_SEC
#define T_DEADLINE_SEC 60 /* of one case */
#endif

struct t_case {
	const char *name;
	void (*run)(void);
};

static int t_failures;

#define T_CASE(name) static void t_case_##name(void)
#define T_RUN(name) { #name, t_case_##name }

#define T_FAIL(...) \
	do { \
		t_failures++; \
		printf("# %s:%d: ", __FILE__, __LINE__); \
		printf(__VA_ARGS__); \
		printf("\n"); \
	} while (0)
#define T_CHECK(cond) \
	do { \
		if (!(cond)) \
			T_FAIL("not true: %s", #cond); \
	} while (0)
/* Like T_CHECK, but the case ends if it is not true. */
#define T_REQUIRE(cond) \
	do { \
		if (!(cond)) { \
			T_FAIL("not true: %s (errno %d)", #cond, errno); \
			fflush(stdout); \
			_exit(1); \
		} \
	} while (0)
#define T_EQ_INT(a, b) \
	do { \
		long long t_a = (long long)(a), t_b = (long long)(b); \
		if (t_a != t_b) \
			T_FAIL("%s is %lld, not %lld", #a, t_a, t_b); \
	} while (0)
#define T_EQ_STR(a, b) \
	do { \
		const char *t_a = (a), *t_b = (b); \
		if (!t_a || !t_b || strcmp(t_a, t_b) != 0) \
			T_FAIL("%s is \"%s\", not \"%s\"", #a, t_a ? t_a : "(null)", t_b ? t_b : "(null)"); \
	} while (0)

static inline int t_count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	if (!d)
		return 0;
	while (readdir(d))
		n++;
	closedir(d);
	return n;
}

static inline int t_in_child(const struct t_case *c)
{
	int before = t_count_fds();

	c->run();
	if (t_count_fds() != before)
		T_FAIL("%d descriptors before, %d after", before, t_count_fds());
	if (waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD)
		T_FAIL("a child is left");
	fflush(stdout);
	return t_failures > 0;
}

/* Runs one case in a process group of its own; true if it passed. */
static inline int t_one(const struct t_case *c)
{
	struct pollfd p;
	int status = 0;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* who stops the tests stops this one */
		exit(t_in_child(c)); /* exit: sanitizers and coverage report there */
	}
	p = (struct pollfd){ .fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };
	if (poll(&p, 1, T_DEADLINE_SEC * 1000) == 0)
		printf("# %s: not done after %d s\n", c->name, T_DEADLINE_SEC);
	kill(-pid, SIGKILL);
	waitpid(pid, &status, 0);
	close(p.fd);
	if (WIFSIGNALED(status))
		printf("# %s: ended by signal %d\n", c->name, WTERMSIG(status));
	return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static inline int t_main(const struct t_case *cases, int n, const char *only)
{
	int i, failed = 0;

	printf("1..%d\n", n);
	for (i = 0; i < n; i++) {
		int ok = only && strcmp(only, cases[i].name) != 0 ? 1 : t_one(&cases[i]);

		failed += !ok;
		printf("%sok %d - %s\n", ok ? "" : "not ", i + 1, cases[i].name);
	}
	return failed > 0;
}

/* A program's argument is the name of the only case to run. */
#define T_MAIN(...) \
	int main(int argc, char **argv) \
	{ \
		static const struct t_case cases[] = { __VA_ARGS__ }; \
		return t_main(cases, (int)(sizeof cases / sizeof cases[0]), argc > 1 ? argv[1] : NULL); \
	}

#endif
