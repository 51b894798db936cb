/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The launch of a process: as a rule one that shares the supervisor's memory and, at first, its
 * descriptors until it executes its program (doc/design/0009), so that a start costs the same
 * whatever the size of the supervisor. It never waits for the new process: a directory that hangs
 * holds up one child and nobody else. What the new process uses lives here and is used by one at
 * a time: the core of a supervisor starts one child at a time, and if there were another on its way,
 * it would be forked in the ordinary way.
 *
 * Runs in supervisor processes. Allocates its stack at the first launch.
 */
#include "node/exec_child.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/fds.h"

#define STACK_SIZE (64u << 10)
#define GUARD_SIZE (64u << 10) /* a multiple of any machine's page */

static struct {
	struct exec_plan plan;
	pid_t pid;         /* 0: nobody is on the way */
	bool files_shared; /* it may still use our table of descriptors, so that we must not close: */
	int status, ready; /* as they were in the plan, which is the child's to change */
	char *stack;
	int mark_pipe[2];  /* empty between launches */
	int oom_fd;        /* our own oom_score_adj */
	int dumpable;
} launch = { .status = -1, .ready = -1, .oom_fd = -1, .mark_pipe = { -1, -1 } };

bool exec_launch_busy(void)
{
	return launch.pid != 0;
}

void exec_launch_forked(void)
{
	launch.pid = 0;
	launch.files_shared = false;
	launch.status = launch.ready = -1;
	launch.oom_fd = launch.mark_pipe[0] = launch.mark_pipe[1] = -1; /* our parent's, closed with all others */
	exec_fds_forked();
}

void exec_launch_fini(void)
{
	fds_close(&launch.oom_fd);
	fds_close(&launch.mark_pipe[0]);
	fds_close(&launch.mark_pipe[1]);
	exec_fds_fini();
}

static int make_stack(void)
{
	char *p;

	if (launch.stack)
		return 0;
	p = mmap(NULL, GUARD_SIZE + STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK,
	    -1, 0);
	if (p == MAP_FAILED)
		return -1;
	if (mprotect(p, GUARD_SIZE, PROT_NONE) < 0) {
		munmap(p, GUARD_SIZE + STACK_SIZE);
		return -1;
	}
	launch.stack = p + GUARD_SIZE;
	return 0;
}

/* --- our protection from the OOM killer --- */

/* Those who share memory share the value too, so the new process inherits the right one, and we have it
 * as well until it has executed. */
static int set_oom(const struct node *n, int value)
{
	char text[16];
	int len = snprintf(text, sizeof text, "%d", value);

	if (!n->oom_lowered)
		return 0;
	if (launch.oom_fd < 0)
		launch.oom_fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	return launch.oom_fd >= 0 && pwrite(launch.oom_fd, text, (size_t)len, 0) == len ? 0 : -1;
}

/* --- descriptors --- */

/* What was only meant for the child. */
static void close_own(void)
{
	fds_close(&launch.status);
	fds_close(&launch.ready);
	exec_fds_unshare(&launch.plan);
}

void exec_launch_rest(void)
{
	if (launch.files_shared && atomic_exchange(&launch.plan.leaving, EXEC_SLEEPS) == EXEC_LEFT)
		exec_launch_said(launch.pid);
}

void exec_launch_said(pid_t pid)
{
	if (pid != launch.pid || !launch.files_shared)
		return;
	launch.files_shared = false;
	close_own();
}

/* --- launching --- */

static void run(void *plan)
{
	exec_child(plan);
}

static bool changes_user(const struct spec_worker *w)
{
	return w->uid != SPEC_UNSET_ID || w->gid != SPEC_UNSET_ID;
}

/* With fs.suid_dumpable = 1 whoever has changed its user can be traced by that user, and so can its memory. */
static bool memory_is_open(const struct spec_worker *w)
{
	static int open_to_all = -1;
	char c = '0';
	int fd;

	if (!changes_user(w))
		return false;
	if (open_to_all < 0) {
		fd = open("/proc/sys/fs/suid_dumpable", O_RDONLY | O_CLOEXEC);
		open_to_all = fd >= 0 && read(fd, &c, 1) == 1 && c == '1';
		fds_close(&fd);
	}
	return open_to_all;
}

static void open_mark_pipe(void)
{
	if (launch.mark_pipe[0] < 0 && pipe2(launch.mark_pipe, O_CLOEXEC) < 0)
		launch.mark_pipe[0] = launch.mark_pipe[1] = -1; /* the child makes one */
}

/* The new process shares our memory. -1 with errno if that cannot be. */
static pid_t spawn(struct group *g, const struct exec_plan *plan)
{
	struct exec_plan *p = &launch.plan;
	struct group_start start = { .run = run, .arg = p, .stack = launch.stack, .stack_size = STACK_SIZE };

	*p = *plan;
	open_mark_pipe();
	memcpy(p->mark_pipe, launch.mark_pipe, sizeof p->mark_pipe);
	exec_fds_plan(p);
	p->shares_memory = true;
	p->shares_files = start.share_files = exec_fds_share(p);
	p->env_err = exec_env_fill(p);
	p->report = (struct exec_report){ .says = EXEC_SAYS_NOTHING };
	atomic_store(&p->leaving, EXEC_NOT_LEFT);
	launch.status = p->status;
	launch.ready = p->ready;
	launch.dumpable = changes_user(&p->child->worker) ? prctl(PR_GET_DUMPABLE) : 0;
	launch.pid = group_spawn(g, &start);
	if (launch.pid < 0) {
		launch.pid = 0;
		launch.status = launch.ready = -1; /* the fork has the same */
		exec_fds_unshare(p);
		return -1;
	}
	launch.files_shared = start.share_files;
	if (!launch.files_shared)
		close_own();
	return launch.pid;
}

static pid_t fork_plan(struct group *g, const struct exec_plan *plan, enum exec_marks *marks_r)
{
	static struct exec_plan p; /* of the child's copy; ours is used up at once */
	pid_t pid;
	int err;

	p = *plan;
	p.shares_memory = p.shares_files = false;
	p.report = (struct exec_report){ .says = EXEC_SAYS_NOTHING };
	p.mark_pipe[0] = p.mark_pipe[1] = -1;
	if (p.marks.len > 0 && service_marks_send_once(&p.marks, p.log))
		*marks_r = EXEC_MARKS_WRITTEN;
	p.marks.len = 0;
	exec_fds_plan(&p);
	pid = group_fork(g, NULL);
	if (pid == 0) {
		p.err = errno;
		exec_child(&p);
	}
	err = errno;
	fds_close(&p.status);
	fds_close(&p.ready);
	errno = err;
	return pid;
}

pid_t exec_launch(struct group *g, const struct exec_plan *p, enum exec_marks *marks_r)
{
	pid_t pid = -1;

	*marks_r = EXEC_MARKS_NONE;
	if (p->child->worker.server == SPEC_SERVER_MODULE) /* goes on in its memory, for as long as it lives */
		return fork_plan(g, p, marks_r);
	if (!group_can_spawn() || exec_launch_busy() || memory_is_open(&p->child->worker) || make_stack() < 0)
		return fork_plan(g, p, marks_r);
	if (set_oom(p->node, p->node->oom_inherited) == 0)
		pid = spawn(g, p);
	if (pid > 0) {
		*marks_r = EXEC_MARKS_TAKEN;
		return pid;
	}
	set_oom(p->node, NODE_OOM_ADJ);
	return fork_plan(g, p, marks_r);
}

bool exec_launch_over(pid_t pid, struct exec_report *r)
{
	if (pid != launch.pid || pid == 0)
		return false;
	*r = launch.plan.report;
	exec_launch_said(pid);
	if (r->marked != EXEC_MARKED) { /* something may be left in it */
		fds_close(&launch.mark_pipe[0]);
		fds_close(&launch.mark_pipe[1]);
	}
	launch.pid = 0;
	set_oom(launch.plan.node, NODE_OOM_ADJ);
	if (launch.dumpable == 1) /* a change of user took it away from all who shared */
		prctl(PR_SET_DUMPABLE, 1);
	return true;
}
