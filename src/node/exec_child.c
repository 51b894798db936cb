/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The steps between fork and execve, in their order (exec_child.h). The order matters: limits
 * come before the user is changed, because only root may raise them; the parent-death signal
 * after it, because changing the user clears it; signals are unblocked last, so that a stop
 * that arrives meanwhile acts on the new process and on nothing of ours. Runs in the child; raw
 * system calls only, because the supervisor's memory may be shared.
 */
#include "node/exec_child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fds.h"
#include "base/raw.h"

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
		[EXEC_STEP_EXEC] = "exec", [EXEC_STEP_SLOT] = "slot", [EXEC_STEP_NAME] = "name",
		[EXEC_STEP_DLOPEN] = "dlopen", [EXEC_STEP_DLSYM] = "dlsym",
	};

	return step < EXEC_STEPS ? names[step] : "?";
}

/* A record is smaller than PIPE_BUF and the pipe is empty: it goes through whole, or nobody reads. */
static void write_report(const struct exec_plan *p, const struct exec_report *r)
{
	while (raw3(SYS_write, p->status, r, sizeof *r) == -EINTR)
		;
}

static void report(struct exec_plan *p, enum exec_says says, enum exec_step step, int err)
{
	p->report.step = (uint8_t)step;
	p->report.err = err;
	atomic_thread_fence(memory_order_release); /* it may be killed in between */
	p->report.says = (uint8_t)says;
	if (!p->shares_memory)
		write_report(p, &p->report);
}

/* Leaves the supervisor's table of descriptors; it has to close some when it knows. */
static int leave(struct exec_plan *p)
{
	int err = exec_fds_leave(p);

	if (err == 0 && atomic_exchange(&p->leaving, EXEC_LEFT) == EXEC_SLEEPS)
		write_report(p, &(struct exec_report){ .says = EXEC_SAYS_LEFT });
	return err;
}

/* All of them, also the two that libc keeps for itself. */
static void default_signals(void)
{
	static const unsigned char dfl[64]; /* any kernel's struct sigaction of SIG_DFL */
	int sig;

	for (sig = 1; sig <= KERNEL_SIGNALS; sig++)
		raw4(SYS_rt_sigaction, sig, dfl, NULL, KERNEL_SIGSET);
}

static void unblock_signals(void)
{
	static const unsigned char none[KERNEL_SIGSET];

	raw4(SYS_rt_sigprocmask, SIG_SETMASK, none, NULL, KERNEL_SIGSET);
}

/* With a terminal on standard input, a foreground child gets it as its own; that fails where the
 * terminal is some shell's, and then the child reads and writes it without job control. */
static int new_session(const struct spec_worker *w)
{
	long r = raw0(SYS_setsid);

	if (r >= 0 && w->foreground)
		raw3(SYS_ioctl, STDIN_FILENO, TIOCSCTTY, 0); /* not a terminal: nothing happens */
	return raw_err(r);
}

static int set_limit(int resource, uint64_t value)
{
	struct rlimit64 rl = { .rlim_cur = 0 };

	if (value == SPEC_LIMIT_UNSET)
		return 0;
	rl.rlim_cur = rl.rlim_max = value == SPEC_LIMIT_UNLIMITED ? RLIM64_INFINITY : value;
	return raw_err(raw4(SYS_prlimit64, 0, resource, &rl, NULL));
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
	struct rlimit64 rl = { .rlim_cur = 0 };

	if (w->limits[SPEC_LIMIT_NOFILE] != SPEC_LIMIT_UNSET)
		return set_limit(RLIMIT_NOFILE, w->limits[SPEC_LIMIT_NOFILE]);
	if (soft == 0 || raw4(SYS_prlimit64, 0, RLIMIT_NOFILE, NULL, &rl) < 0)
		return 0;
	rl.rlim_cur = soft;
	return raw_err(raw4(SYS_prlimit64, 0, RLIMIT_NOFILE, &rl, NULL));
}

static int set_nice(const struct spec_worker *w)
{
	if (w->nice == SPEC_NICE_UNSET)
		return 0;
	return raw_err(raw3(SYS_setpriority, PRIO_PROCESS, 0, w->nice));
}

/* Gives back what the node took for itself; raising the value is always allowed. Who shares memory gets
 * it otherwise (exec_launch.c). */
void exec_restore_oom(const struct node *node)
{
	char text[16], *d = text + sizeof text;
	int v = node->oom_inherited;
	unsigned u = v < 0 ? (unsigned)-v : (unsigned)v;
	long fd;

	if (!node->oom_lowered)
		return;
	do
		*--d = (char)('0' + u % 10);
	while ((u /= 10) != 0);
	if (v < 0)
		*--d = '-';
	fd = raw4(SYS_openat, AT_FDCWD, "/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return; /* not worth a failed start */
	raw3(SYS_write, fd, d, text + sizeof text - d);
	raw1(SYS_close, fd);
}

static int change_dir(const struct exec_plan *p)
{
	const char *dir = spec_string(&p->img, p->child->worker.dir);

	return dir ? raw_err(raw1(SYS_chdir, dir)) : 0;
}

/* Asks for SIGKILL at the supervisor's death, and makes sure that it has not died before that. */
static int tie_to_parent(pid_t supervisor)
{
	long r = raw4(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0);

	if (r == 0 && raw0(SYS_getppid) != supervisor)
		raw1(SYS_exit_group, 1); /* there is nobody to tell */
	return raw_err(r);
}

static int fill_env(const struct exec_plan *p)
{
	int err = p->shares_memory ? p->env_err : exec_env_fill(p);

	if (err == 0)
		exec_env_pid((pid_t)raw0(SYS_getpid));
	return err;
}

/* Before descriptors are moved: what is needed for it is none of the program's. */
static void write_marks(struct exec_plan *p)
{
	bool done;

	if (p->log < 0)
		return;
	service_mark_start(&p->marks, p->node);
	done = p->mark_pipe[0] >= 0 ? service_marks_send(&p->marks, p->mark_pipe, p->log)
				    : service_marks_send_once(&p->marks, p->log);
	p->report.marked = done ? EXEC_MARKED : EXEC_MARKED_NO_ROOM;
}

/* Everything up to execve; 0, or the errno of *step_r. */
static int prepare(struct exec_plan *p, enum exec_step *step_r)
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

	STEP(EXEC_STEP_CGROUP, p->err);
	STEP(EXEC_STEP_SESSION, new_session(w));
	default_signals();
	if (!p->shares_memory)
		exec_restore_oom(p->node);
	STEP(EXEC_STEP_LIMITS, set_limits(w));
	STEP(EXEC_STEP_NICE, set_nice(w));
	write_marks(p);
	err = exec_fds_apply(p, step_r);
	if (err != 0)
		return err;
	STEP(EXEC_STEP_LIMITS, set_nofile(w));
	raw1(SYS_umask, w->umask); /* cannot fail */
	STEP(EXEC_STEP_DIR, change_dir(p));
	err = exec_privileges(&p->img, w, step_r);
	if (err != 0)
		return err;
	STEP(EXEC_STEP_PDEATHSIG, tie_to_parent(p->supervisor));
	STEP(EXEC_STEP_EXEC, fill_env(p));
#undef STEP
	return 0;
}

void exec_child_executing(struct exec_plan *p)
{
	report(p, EXEC_SAYS_EXECUTING, EXEC_STEP_EXEC, 0);
}

_Noreturn void exec_child(struct exec_plan *p)
{
	enum exec_step step = EXEC_STEP_STDIO;
	int err = 0;

	if (p->shares_files)
		err = leave(p);
	if (err == 0)
		err = prepare(p, &step);
	if (err == 0 && p->child->worker.server == SPEC_SERVER_MODULE) {
		err = exec_module(p, &step);
	} else if (err == 0) {
		exec_child_executing(p);
		unblock_signals();
		err = exec_env_run();
	}
	report(p, EXEC_SAYS_FAILED, step, err);
	for (;;)
		raw1(SYS_exit_group, 127);
}
