/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Making a process that is where it belongs before its first instruction (group.h): in its
 * cgroup by clone3, or, where that cannot be, by entering it itself. Two ways: a copy of the
 * caller, as fork(2) makes it, and a process that shares the caller's memory until it executes a
 * program. The second costs no copy of the page tables and no page faults, which is most of
 * what a start costs.
 */
#include "ipc/group.h"

#include <errno.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fds.h"
#include "base/raw.h"
#include "ipc/group_private.h"

/* --- a copy --- */

/* What libc has registered with the kernel for the only thread; the same in every process of the node. */
static struct {
	bool known;
	int *tid;            /* libc's copy of the thread id, NULL if not found */
	void *robust;        /* head of its list of robust mutexes */
	size_t robust_size;
} libc;

static void learn_libc(void)
{
	if (libc.known)
		return;
	libc.known = true;
	if (prctl(PR_GET_TID_ADDRESS, &libc.tid) < 0 || (libc.tid && *libc.tid != (int)syscall(SYS_gettid)))
		libc.tid = NULL;
	if (syscall(SYS_get_robust_list, 0, &libc.robust, &libc.robust_size) < 0)
		libc.robust = NULL;
}

void group_forked(struct group *g)
{
	g->main = getpid();
	if (libc.robust)
		syscall(SYS_set_robust_list, libc.robust, libc.robust_size);
}

/* clone3 as fork() would do it: libc's copy of the thread id is kept right too. */
static pid_t clone_into(int cgroup, int *pidfd)
{
	struct clone_args args = { .exit_signal = SIGCHLD };

	learn_libc();
	if (pidfd) {
		args.flags |= CLONE_PIDFD;
		args.pidfd = (uintptr_t)pidfd;
	}
	if (libc.tid) {
		args.flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
		args.child_tid = (uintptr_t)libc.tid;
	}
	if (cgroup >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)cgroup;
	}
	return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

/*
 * Linux compares how often a new process's cgroup was killed with how often its parent's was, where it
 * should look at the former alone (seen in 6.18): after a cgroup.kill, whoever is cloned into that
 * cgroup is killed at birth. So a cgroup that was killed is made anew before it is used again; and
 * if our own cgroup was ever killed, before we came, no clone goes into another one at all.
 */
static bool clone_into_is_deadly;

void group_try_clone(int cgroup)
{
	sigset_t all, old;
	int status = 0;
	pid_t pid;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &old);
	pid = clone_into(cgroup, NULL);
	if (pid == 0)
		_exit(0);
	if (pid > 0 && waitpid(pid, &status, 0) == pid)
		clone_into_is_deadly = WIFSIGNALED(status);
	sigprocmask(SIG_SETMASK, &old, NULL);
}

/* A killed cgroup is empty by now; if it cannot be replaced, the child has to enter it by itself. */
static bool renew_killed(struct group *g)
{
	int events;

	if (!g->killed || g->dirfd < 0)
		return true;
	if (cgroup_renew(&g->dirfd) < 0)
		return false;
	events = cgroup_open_events(g->dirfd);
	fds_close(&g->events_fd);
	g->events_fd = events;
	g->killed = false;
	if (events < 0) {
		group_forget_cgroup(g);
		return true;
	}
	fds_lift(&g->dirfd);
	fds_lift(&g->events_fd);
	return true;
}

/* Kernels (or filters) without clone3, or with one that is too old for cgroups. */
static pid_t fork_into(int cgroup, int *pidfd)
{
	pid_t pid = fork();

	if (pid == 0) {
		if (cgroup < 0 || cgroup_enter(cgroup) == 0)
			errno = 0;
	} else if (pid > 0 && pidfd) {
		*pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	}
	return pid;
}

static bool lacks_clone3(int err)
{
	return err == ENOSYS || err == EPERM || err == EINVAL || err == E2BIG;
}

static bool cgroup_unusable(int err)
{
	return err == EACCES || err == EBUSY || err == EOPNOTSUPP || err == ENODEV || err == EBADF;
}

pid_t group_fork(struct group *g, int *pidfd_r)
{
	pid_t pid;

	if (pidfd_r)
		*pidfd_r = -1;
	if (!renew_killed(g) || (g->dirfd >= 0 && clone_into_is_deadly))
		return fork_into(g->dirfd, pidfd_r);
	pid = clone_into(g->dirfd, pidfd_r);
	if (pid < 0 && g->dirfd >= 0 && cgroup_unusable(errno)) {
		group_forget_cgroup(g);
		pid = clone_into(-1, pidfd_r);
	}
	if (pid < 0 && lacks_clone3(errno))
		return fork_into(g->dirfd, pidfd_r);
	if (pid == 0)
		errno = 0;
	return pid;
}

/* --- with shared memory --- */

/* A sanitizer keeps books about stacks, in memory that would be shared too. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define IS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer)
#define IS_SANITIZED 1
#endif
#endif

#if RAW_SHARES_NOTHING && !defined(IS_SANITIZED)

/* The new process has no frame to return to: it begins on its own stack with a call of run. */
static long clone_on_stack(struct clone_args *args, void (*run)(void *arg), void *arg)
{
	long r;

	__asm__ volatile("syscall\n\t"
			 "testq %%rax, %%rax\n\t"
			 "jnz 1f\n\t"
			 "movq %[arg], %%rdi\n\t"
			 "movq %[run], %%rax\n\t"
			 "xorl %%ebp, %%ebp\n\t"
			 "callq *%%rax\n\t"
			 "hlt\n"
			 "1:"
	    : "=a"(r)
	    : "a"(SYS_clone3), "D"(args), "S"(sizeof *args), [run] "r"(run), [arg] "r"(arg)
	    : "rcx", "r11", "memory");
	return r;
}

/* Before Linux 5.16 a signal that dumps core kills all who share memory. */
static bool core_dump_spares_others(void)
{
	struct utsname u;
	unsigned major = 0, minor = 0;

	return uname(&u) == 0 && sscanf(u.release, "%u.%u", &major, &minor) == 2 &&
	    (major > 5 || (major == 5 && minor >= 16));
}

bool group_can_spawn(void)
{
	static int can = -1;

	if (can < 0)
		can = core_dump_spares_others();
	return can;
}

pid_t group_spawn(struct group *g, const struct group_start *start)
{
	struct clone_args args = {
		.flags = CLONE_VM | (start->share_files ? CLONE_FILES : 0), .exit_signal = SIGCHLD,
		.stack = (uintptr_t)start->stack, .stack_size = start->stack_size,
	};
	long pid;

	if (!renew_killed(g) || (g->dirfd >= 0 && clone_into_is_deadly)) {
		errno = ENOSYS;
		return -1;
	}
	if (g->dirfd >= 0) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = (uint64_t)g->dirfd;
	}
	pid = clone_on_stack(&args, start->run, start->arg);
	if (pid > 0)
		return (pid_t)pid;
	errno = lacks_clone3((int)-pid) || cgroup_unusable((int)-pid) ? ENOSYS : (int)-pid;
	return -1;
}

#else

bool group_can_spawn(void)
{
	return false;
}

pid_t group_spawn(struct group *g, const struct group_start *start)
{
	(void)g;
	(void)start;
	errno = ENOSYS;
	return -1;
}

#endif
