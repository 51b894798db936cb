/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Groups: cgroups where they can be had (else those cases say so and pass), the fallback
 * everywhere, fork in all its ways, and who is hit by a signal and who is not.
 */
#include "t.h"

#include <fcntl.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "../helpers/faultinject.c"
#include "base/clock.h"
#include "base/fds.h"
#include "ipc/group.h"
#include "ipc/group_private.h"

#define WAIT_MS 10000

static char base_name[64];

/* --- helpers --- */

static bool nobody(void *ctx, const char *invocation, pid_t session)
{
	(void)ctx;
	(void)invocation;
	(void)session;
	return false;
}

struct sibling {
	pid_t pid;
	const char *invocation;
};

static bool is_sibling(void *ctx, const char *invocation, pid_t session)
{
	const struct sibling *s = ctx;

	return session == s->pid || (invocation[0] && strcmp(invocation, s->invocation) == 0);
}

static bool open_base(struct group_base *b)
{
	snprintf(base_name, sizeof base_name, "coppice-group-%d", (int)getpid());
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	group_base_open(b, base_name);
	if (b->dirfd < 0)
		printf("# no cgroup here\n");
	return b->dirfd >= 0;
}

static void close_base(struct group_base *b)
{
	group_base_remove(b, base_name);
	T_EQ_INT(b->dirfd, -1);
}

/* In a child: so many more that wait, each in a session of its own or not; says when all are there. */
static _Noreturn void family(int n, bool sessions, int up)
{
	while (n-- > 0) {
		if (fork() != 0)
			continue;
		if (sessions)
			setsid();
		if (write(up, "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	if (write(up, "x", 1) != 1)
		_exit(1);
	for (;;)
		pause();
}

static pid_t start_family(struct group *g, int n, bool sessions)
{
	int up[2];
	char c;
	pid_t pid;
	int i;

	T_REQUIRE(pipe2(up, O_CLOEXEC) == 0);
	group_renew(g);
	pid = group_fork(g, NULL);
	if (pid == 0) {
		setsid();
		family(n, sessions, up[1]);
	}
	T_REQUIRE(pid > 0);
	g->main = pid;
	for (i = 0; i <= n; i++)
		T_CHECK(read(up[0], &c, 1) == 1);
	close(up[0]);
	close(up[1]);
	return pid;
}

/* Reaps until the group is empty, or time is up; how many were reaped. */
static int reap_all(struct group *g, group_living_f *living, void *ctx)
{
	int64_t end = clock_mono_ms() + WAIT_MS;
	int n = 0;

	for (;;) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		if (pid > 0) {
			n++;
			if (pid == g->main)
				g->main = 0;
		} else if (!group_populated(g, living, ctx) || clock_mono_ms() > end) {
			while (waitpid(-1, NULL, WNOHANG) > 0)
				n++;
			return n;
		} else {
			group_signal(g, SIGKILL, living, ctx);
			usleep(1000);
		}
	}
}

/* --- with a cgroup --- */

T_CASE(kill_takes_all)
{
	struct group_base b;
	struct group g;

	if (!open_base(&b))
		return;
	group_open(&g, &b, "w-a");
	T_CHECK(!group_populated(&g, nobody, NULL));
	start_family(&g, 5, true);
	T_CHECK(group_populated(&g, nobody, NULL));
	T_CHECK(group_contains(&g, g.main));
	T_CHECK(!group_contains(&g, getpid()));
	group_signal(&g, SIGKILL, nobody, NULL);
	T_EQ_INT(reap_all(&g, nobody, NULL), 6);
	group_close(&g, &b, "w-a");
	T_CHECK(faccessat(b.dirfd, "w-a", F_OK, 0) < 0);
	close_base(&b);
}

/* A group is used again after it was killed: the new life must not die at birth. */
T_CASE(used_again_after_kill)
{
	struct group_base b;
	struct group g;
	int i, status, pidfd;
	pid_t pid;

	if (!open_base(&b))
		return;
	group_open(&g, &b, "w-a");
	for (i = 0; i < 5; i++) {
		start_family(&g, 1, false);
		group_signal(&g, SIGKILL, nobody, NULL);
		reap_all(&g, nobody, NULL);
		pid = group_fork(&g, &pidfd);
		if (pid == 0)
			_exit(7);
		T_CHECK(pidfd >= 0);
		close(pidfd);
		T_CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7);
		T_CHECK(group_populated(&g, nobody, NULL) == false);
	}
	group_close(&g, &b, "w-a");
	close_base(&b);
}

/* The same when it is our own cgroup that was killed before we came. */
T_CASE(from_a_killed_cgroup)
{
	struct group_base b, inner;
	struct group g, own;
	int status, old;
	pid_t pid;

	if (!open_base(&b))
		return;
	old = cgroup_open_own();
	group_open(&own, &b, "own");
	cgroup_kill(own.dirfd);
	T_REQUIRE(cgroup_enter(own.dirfd) == 0);
	group_base_open(&inner, "inner");
	group_open(&g, &inner, "w-a");
	pid = group_fork(&g, NULL);
	if (pid == 0)
		_exit(errno == 0 && cgroup_contains(g.dirfd, getpid()) ? 7 : 8);
	T_CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 7);
	group_close(&g, &inner, "w-a");
	group_base_remove(&inner, "inner");
	T_REQUIRE(cgroup_enter(old) == 0);
	close(old);
	group_close(&own, &b, "own");
	close_base(&b);
}

static void read_members(int dirfd, char *buf, size_t size)
{
	int fd = openat(dirfd, "cgroup.procs", O_RDONLY);
	ssize_t n = read(fd, buf, size - 1);

	buf[n < 0 ? 0 : n] = '\0';
	close(fd);
}

/* A group with cgroups of its own inside, killed by the walk (kernels before 5.14). */
T_CASE(walks_below)
{
	struct group_base b;
	struct group g;
	int sub, subsub;
	char text[32], members[256];
	bool existed;
	pid_t pid;
	int fd;

	if (!open_base(&b))
		return;
	group_open(&g, &b, "w-a");
	pid = start_family(&g, 3, false);
	sub = cgroup_make(g.dirfd, "deep", &existed);
	subsub = cgroup_make(sub, "deeper", &existed);
	fd = openat(subsub, "cgroup.procs", O_WRONLY);
	snprintf(text, sizeof text, "%d", (int)pid);
	T_CHECK(write(fd, text, strlen(text)) > 0);
	close(fd);
	T_CHECK(group_contains(&g, pid));
	read_members(subsub, members, sizeof members);
	T_EQ_INT(atoi(members), pid);
	cgroup_signal(g.dirfd, SIGKILL);
	T_EQ_INT(reap_all(&g, nobody, NULL), 4);
	close(sub);
	close(subsub);
	group_close(&g, &b, "w-a"); /* with all below */
	T_CHECK(faccessat(b.dirfd, "w-a", F_OK, 0) < 0);
	close_base(&b);
}

T_CASE(soft_signal_reaches_all)
{
	struct group_base b;
	struct group g;

	if (!open_base(&b))
		return;
	group_open(&g, &b, "w-a");
	start_family(&g, 20, true);
	group_signal(&g, SIGTERM, nobody, NULL);
	int64_t end = clock_mono_ms() + WAIT_MS;
	int n = 0;

	while (n < 21 && clock_mono_ms() < end) {
		pid_t pid = waitpid(-1, NULL, WNOHANG);

		n += pid > 0;
		if (pid <= 0)
			usleep(1000);
	}
	T_EQ_INT(n, 21);
	g.main = 0;
	T_CHECK(!group_populated(&g, nobody, NULL));
	group_close(&g, &b, "w-a");
	close_base(&b);
}

/* What a node that was killed has left is removed by the next one of its name. */
T_CASE(base_is_cleared)
{
	struct group_base b, again;
	struct group g;

	if (!open_base(&b))
		return;
	group_open(&g, &b, "w-a");
	start_family(&g, 3, true);
	group_base_open(&again, base_name);
	T_CHECK(again.dirfd >= 0);
	T_CHECK(faccessat(again.dirfd, "w-a", F_OK, 0) < 0);
	T_EQ_INT(reap_all(&g, nobody, NULL), 4);
	group_close(&g, &(struct group_base){ .dirfd = -1 }, "w-a");
	close(b.dirfd);
	close_base(&again);
}

T_CASE(nested_bases)
{
	struct group_base b, below;
	struct group sup, g;

	if (!open_base(&b))
		return;
	group_open(&sup, &b, "s-sup");
	group_as_base(&sup, &below);
	group_open(&g, &below, "w-a");
	start_family(&g, 2, true);
	group_signal(&sup, SIGKILL, nobody, NULL);
	T_EQ_INT(reap_all(&g, nobody, NULL), 3);
	group_close(&g, &below, "w-a");
	group_close(&sup, &b, "s-sup");
	close_base(&b);
}

T_CASE(fork_keeps_libc_right)
{
	struct group_base b;
	struct group g;
	int status;
	pid_t pid;

	open_base(&b);
	group_open(&g, &b, "w-a");
	pid = group_fork(&g, NULL);
	if (pid == 0) {
		group_forked(&g);
		/* a recursive lock, another fork, an abort: all know who we are */
		flockfile(stdout);
		flockfile(stdout);
		pid = fork();
		if (pid == 0)
			_exit(5);
		if (waitpid(pid, &status, 0) != pid || WEXITSTATUS(status) != 5 || g.main != getpid())
			_exit(1);
		raise(SIGKILL);
	}
	T_CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	group_close(&g, &b, "w-a");
	close_base(&b);
}

/* --- fallbacks --- */

T_CASE(turned_off)
{
	struct group_base b;

	setenv("COPPICE_NO_CGROUP", "1", 1);
	group_base_open(&b, "coppice-group-off");
	T_EQ_INT(b.dirfd, -1);
	group_base_remove(&b, "coppice-group-off");
}

static void fallback_kill(bool sessions)
{
	struct group_base none = { .dirfd = -1 };
	struct group g, other;
	struct sibling sib;
	pid_t sibling;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	group_open(&g, &none, "w-a");
	group_open(&other, &none, "w-b");
	sibling = start_family(&other, 2, true);
	sib = (struct sibling){ .pid = sibling, .invocation = other.invocation };
	start_family(&g, 4, sessions);
	T_CHECK(group_populated(&g, is_sibling, &sib));
	T_CHECK(group_contains(&g, g.main));
	T_CHECK(!group_contains(&g, sibling));
	group_signal(&g, SIGKILL, is_sibling, &sib);
	T_EQ_INT(reap_all(&g, is_sibling, &sib), 5);
	T_CHECK(kill(sibling, 0) == 0);
	T_CHECK(group_populated(&other, nobody, NULL));
	T_EQ_INT(reap_all(&other, nobody, NULL), 3);
	group_close(&g, &none, "w-a");
	group_close(&other, &none, "w-b");
}

T_CASE(fallback_takes_all)
{
	fallback_kill(false);
	fallback_kill(true);
}

/* An orphan of a living sibling, in a session of its own, is known by its environment. */
T_CASE(fallback_knows_by_environment)
{
	struct group_base none = { .dirfd = -1 };
	struct group g, other;
	struct sibling sib;
	char var[64];
	pid_t pid, grand = 0;
	int up[2];

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	group_open(&g, &none, "w-a");
	group_open(&other, &none, "w-b");
	group_renew(&g);
	group_renew(&other);
	T_CHECK(strcmp(g.invocation, other.invocation) != 0);
	T_EQ_INT(strlen(g.invocation), GROUP_INVOCATION);
	snprintf(var, sizeof var, "INVOCATION_ID=%s", other.invocation);
	T_REQUIRE(pipe2(up, O_CLOEXEC) == 0);
	pid = fork();
	if (pid == 0) {
		char *argv[] = { "sleep", "1000", NULL }, *env[] = { "A=INVOCATION_ID=no", var, NULL };

		grand = fork();
		if (grand == 0) {
			setsid();
			execve("/bin/sleep", argv, env);
			_exit(1);
		}
		_exit(write(up[1], &grand, sizeof grand) != sizeof grand);
	}
	T_CHECK(read(up[0], &grand, sizeof grand) == sizeof grand);
	T_CHECK(read(up[0], var, 0) == 0);
	close(up[1]);
	while (read(up[0], var + 40, 1) > 0) /* end of file: it has executed */
		;
	close(up[0]);
	waitpid(pid, NULL, 0);
	sib = (struct sibling){ .pid = 1 << 30, .invocation = other.invocation };
	char inv[GROUP_INVOCATION + 1];
	int64_t end = clock_mono_ms() + WAIT_MS;

	do
		proc_invocation(grand, inv);
	while (inv[0] == '\0' && clock_mono_ms() < end);
	T_EQ_STR(inv, other.invocation);
	T_CHECK(!group_populated(&g, is_sibling, &sib));
	T_CHECK(group_contains(&other, grand));
	T_CHECK(!group_contains(&g, grand));
	sib.invocation = "another one";
	T_CHECK(group_populated(&g, is_sibling, &sib));
	group_signal(&g, SIGTERM, is_sibling, &sib);
	T_CHECK(waitpid(grand, NULL, 0) == grand);
}

/* The list of children is read in pieces. */
static int counted;

static bool count_one(void *ctx, pid_t pid)
{
	(void)ctx;
	counted += pid > 0;
	return true;
}

T_CASE(many_children)
{
	enum { N = 600 };
	pid_t pid[N];
	int i;

	for (i = 0; i < N; i++) {
		pid[i] = fork();
		if (pid[i] == 0)
			_exit(0); /* a zombie: it is a child too */
	}
	proc_each_child(count_one, NULL);
	T_EQ_INT(counted, N);
	/* and without the list: by all of /proc */
	counted = 0;
	fault_set("open", 1, ENOENT);
	proc_each_child(count_one, NULL);
	fault_set("", 0, 0);
	T_EQ_INT(counted, N);
	for (i = 0; i < N; i++)
		waitpid(pid[i], NULL, 0);
}

T_CASE(kills_every_child)
{
	pid_t a = fork(), b;

	if (a == 0)
		for (;;)
			pause();
	b = fork();
	if (b == 0)
		for (;;)
			pause();
	group_kill_children();
	T_CHECK(waitpid(a, NULL, 0) == a);
	T_CHECK(waitpid(b, NULL, 0) == b);
}

/* A15: a number that was freed and given to somebody else is not hit. */
T_CASE(reused_number)
{
	struct group_base none = { .dirfd = -1 };
	struct group g;
	char text[32];
	int fd, status;
	pid_t old, decoy = -1;

	group_open(&g, &none, "w-a");
	old = start_family(&g, 0, false);
	group_signal(&g, SIGKILL, nobody, NULL);
	T_CHECK(waitpid(old, NULL, 0) == old);
	g.main = 0; /* as whoever reaps must do */
	fd = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
	snprintf(text, sizeof text, "%d", (int)old - 1);
	if (fd >= 0 && write(fd, text, strlen(text)) > 0)
		decoy = fork();
	if (fd >= 0)
		close(fd);
	if (decoy == 0)
		for (;;)
			pause();
	if (decoy != old) {
		printf("# the number could not be had again\n");
		if (decoy > 0) {
			kill(decoy, SIGKILL);
			waitpid(decoy, NULL, 0);
		}
		return;
	}
	struct sibling sib = { .pid = decoy, .invocation = "x" };

	group_signal(&g, SIGTERM, is_sibling, &sib);
	group_signal(&g, SIGKILL, is_sibling, &sib);
	T_EQ_INT(waitpid(decoy, &status, WNOHANG), 0);
	kill(decoy, SIGKILL);
	waitpid(decoy, NULL, 0);
}

T_MAIN(T_RUN(kill_takes_all), T_RUN(used_again_after_kill), T_RUN(from_a_killed_cgroup), T_RUN(walks_below),
    T_RUN(soft_signal_reaches_all), T_RUN(base_is_cleared), T_RUN(nested_bases), T_RUN(fork_keeps_libc_right),
    T_RUN(turned_off), T_RUN(fallback_takes_all), T_RUN(fallback_knows_by_environment), T_RUN(many_children),
    T_RUN(kills_every_child), T_RUN(reused_number))
