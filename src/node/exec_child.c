/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The steps between fork and execve, in their order (exec_child.h). The order matters: limits
 * come before the user is changed, because only root may raise them; the parent-death signal
 * after it, because changing the user clears it; signals are unblocked last, so that a stop
 * that arrives meanwhile acts on the new process and on nothing of ours. Runs in the child;
 * async-signal-safe calls only, no allocation.
 */
#include "node/exec_child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fds.h"
#include "node/service_mark.h"

#define KERNEL_SIGNALS 64
#define KERNEL_SIGSET 8 /* bytes */

const char *exec_step_name(unsigned step)
{
	static const char *const names[EXEC_STEPS] = {
		[EXEC_STEP_FORK] = "fork", [EXEC_STEP_CGROUP] = "cgroup", [EXEC_STEP_SESSION] = "session",
		[EXEC_STEP_LIMITS] = "limits", [EXEC_STEP_NICE] = "nice", [EXEC_STEP_STDIO] = "stdio",
		[EXEC_STEP_SOCKETS] = "sockets", [EXEC_STEP_UMASK] = "umask", [EXEC_STEP_DIR] = "dir",
		[EXEC_STEP_GROUPS] = "groups", [EXEC_STEP_GROUP] = "group", [EXEC_STEP_USER] = "user",
		[EXEC_STEP_PRIVILEGES] = "privileges", [EXEC_STEP_PDEATHSIG] = "pdeathsig",
		[EXEC_STEP_EXEC] = "exec",
	};

	return step < EXEC_STEPS ? names[step] : "?";
}

/* A record is smaller than PIPE_BUF and the pipe is empty: it goes through whole, or nobody reads. */
static void report(int status, enum exec_step step, int err, bool mark_skipped)
{
	struct exec_report r = { .step = (uint8_t)step, .mark_skipped = mark_skipped, .err = err };

	while (write(status, &r, sizeof r) < 0 && errno == EINTR)
		;
}

/* By the system call, because libc refuses to touch the two signals that it keeps for itself. */
static void default_signals(void)
{
	static const unsigned char dfl[64]; /* any kernel's struct sigaction of SIG_DFL */
	int sig;

	for (sig = 1; sig <= KERNEL_SIGNALS; sig++)
		syscall(SYS_rt_sigaction, sig, dfl, NULL, KERNEL_SIGSET);
}

static void unblock_signals(void)
{
	static const unsigned char none[KERNEL_SIGSET];

	syscall(SYS_rt_sigprocmask, SIG_SETMASK, none, NULL, KERNEL_SIGSET);
}

/* With a terminal on standard input, a foreground child gets it as its own; that fails where the
 * terminal is some shell's, and then the child reads and writes it without job control. */
static int new_session(const struct spec_worker *w)
{
	if (setsid() < 0)
		return errno;
	if (w->foreground && isatty(STDIN_FILENO))
		ioctl(STDIN_FILENO, TIOCSCTTY, 0);
	return 0;
}

static int set_limit(int resource, uint64_t value)
{
	struct rlimit rl;

	if (value == SPEC_LIMIT_UNSET)
		return 0;
	rl.rlim_cur = rl.rlim_max = value == SPEC_LIMIT_UNLIMITED ? RLIM_INFINITY : (rlim_t)value;
	return setrlimit(resource, &rl) < 0 ? errno : 0;
}

/* All but the number of descriptors, which must wait until they are in place. */
static int set_limits(const struct spec_worker *w)
{
	static const int resource[SPEC_LIMITS] = {
		[SPEC_LIMIT_NPROC] = RLIMIT_NPROC, [SPEC_LIMIT_AS] = RLIMIT_AS, [SPEC_LIMIT_CORE] = RLIMIT_CORE,
		[SPEC_LIMIT_CPU] = RLIMIT_CPU, [SPEC_LIMIT_FSIZE] = RLIMIT_FSIZE,
		[SPEC_LIMIT_STACK] = RLIMIT_STACK, [SPEC_LIMIT_MEMLOCK] = RLIMIT_MEMLOCK,
	};
	int i, err;

	for (i = 0; i < SPEC_LIMITS; i++) {
		if (i == SPEC_LIMIT_NOFILE)
			continue;
		err = set_limit(resource[i], w->limits[i]);
		if (err != 0)
			return err;
	}
	return 0;
}

/* The node raised its own soft limit; a child gets what the node was given. */
static int set_nofile(const struct spec_worker *w)
{
	unsigned long soft = fds_original_soft_limit();
	struct rlimit rl;

	if (w->limits[SPEC_LIMIT_NOFILE] != SPEC_LIMIT_UNSET)
		return set_limit(RLIMIT_NOFILE, w->limits[SPEC_LIMIT_NOFILE]);
	if (soft == 0 || getrlimit(RLIMIT_NOFILE, &rl) < 0)
		return 0;
	rl.rlim_cur = (rlim_t)soft;
	return setrlimit(RLIMIT_NOFILE, &rl) < 0 ? errno : 0;
}

static int set_nice(const struct spec_worker *w)
{
	if (w->nice == SPEC_NICE_UNSET)
		return 0;
	return setpriority(PRIO_PROCESS, 0, w->nice) < 0 ? errno : 0;
}

/* Gives back what the node took for itself; raising the value is always allowed. */
static void restore_oom(const struct node *n)
{
	char text[16], *p = text + sizeof text;
	int v = n->oom_inherited, fd;
	unsigned u = v < 0 ? (unsigned)-v : (unsigned)v;

	if (!n->oom_lowered)
		return;
	do
		*--p = (char)('0' + u % 10);
	while ((u /= 10) != 0);
	if (v < 0)
		*--p = '-';
	fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	if (write(fd, p, (size_t)(text + sizeof text - p)) < 0)
		errno = 0; /* not worth a failed start */
	close(fd);
}

static int change_dir(const struct exec_plan *p)
{
	const char *dir = spec_string(p->img, p->child->worker.dir);

	return dir && chdir(dir) < 0 ? errno : 0;
}

/* Asks for SIGKILL at the supervisor's death, and makes sure that it has not died before that. */
static int tie_to_parent(pid_t supervisor)
{
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return errno;
	if (getppid() != supervisor)
		_exit(1); /* there is nobody to tell */
	return 0;
}

/* Everything up to execve; 0, or the errno of *step_r. The start mark goes out once the log is in place,
 * before the number of descriptors is limited. */
static int prepare(const struct exec_plan *p, int *status, enum exec_step *step_r, bool *marked_r)
{
	const struct spec_worker *w = &p->child->worker;
	int err;

#define STEP(name, call) \
	do { \
		*step_r = (name); \
		err = (call); \
		if (err != 0) \
			return err; \
	} while (0)

	STEP(EXEC_STEP_SESSION, new_session(w));
	default_signals();
	restore_oom(p->node);
	STEP(EXEC_STEP_LIMITS, set_limits(w));
	STEP(EXEC_STEP_NICE, set_nice(w));
	err = exec_fds(p, status, step_r);
	if (err != 0)
		return err;
	if (p->log >= 0)
		*marked_r = service_mark_start(p->node, STDOUT_FILENO);
	STEP(EXEC_STEP_LIMITS, set_nofile(w));
	umask(w->umask); /* cannot fail */
	STEP(EXEC_STEP_DIR, change_dir(p));
	err = exec_privileges(p->img, w, step_r);
	if (err != 0)
		return err;
	STEP(EXEC_STEP_PDEATHSIG, tie_to_parent(p->supervisor));
	STEP(EXEC_STEP_EXEC, exec_env_fill(p));
#undef STEP
	return 0;
}

_Noreturn void exec_child(const struct exec_plan *p)
{
	enum exec_step step = EXEC_STEP_CGROUP;
	int status = p->status, err = errno; /* group_fork()'s: could not enter the group */
	bool marked = true;

	if (err == 0)
		err = prepare(p, &status, &step, &marked);
	if (err == 0) {
		report(status, EXEC_STEP_EXEC, 0, !marked);
		unblock_signals();
		err = exec_env_run();
	}
	report(status, step, err, false);
	_exit(127);
}
