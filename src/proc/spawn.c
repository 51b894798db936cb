/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Making processes: a slot is claimed, filled, and a copy of the caller is cloned into it, as a child of the
 * caller's own Unix parent (CLONE_PARENT) or, if the caller is a supervisor or the root, of the caller. The
 * kernel writes the new pid into the slot before either goes on, so that no death can come between.
 *
 * Regime: takes a slot and, for a link or a monitor, two nodes; in the child everything of the spawner's
 * private state is begun anew in the same memory.
 */
#include <errno.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fds.h"
#include "proc/proc.h"

#define LAST_WILL_SEC 5 /* for terminate, when the parent died without a word */

PROC_LOCAL struct proc proc = { .epfd = -1, .sigfd = -1, .up_fd = -1 };

/* --- the parent's death, where trapping exits means that we are told of it --- */

volatile sig_atomic_t proc_parent_died;

/* The kernel kills us if we take too long, whatever else we do. */
static void parent_died_handler(int sig)
{
	struct itimerspec in = { .it_value.tv_sec = LAST_WILL_SEC };
	struct sigevent ev;
	int id, err = errno;

	(void)sig;
	proc_parent_died = 1;
	inbox_no_sleep = 1;
	inbox_wake(&proc.seg, proc.me); /* if it has not seen that, and is about to sleep */
	memset(&ev, 0, sizeof ev);
	ev.sigev_notify = SIGEV_SIGNAL;
	ev.sigev_signo = SIGKILL;
	if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &ev, &id) == 0)
		syscall(SYS_timer_settime, id, 0, &in, NULL);
	errno = err;
}

bool proc_parent_is_gone(void)
{
	if (!proc_parent_died)
		return false;
	proc_parent_died = 0;
	inbox_no_sleep = 0;
	return true;
}

static void install_handler(void)
{
	struct sigaction sa = { .sa_handler = parent_died_handler };
	sigset_t set;

	sigemptyset(&sa.sa_mask);
	sigaction(SIG_PARENT_DIED, &sa, NULL);
	sigemptyset(&set);
	sigaddset(&set, SIG_PARENT_DIED);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	/* ^C and ^\ go to everybody at the terminal, and are for the root to understand */
	sigemptyset(&set);
	sigaddset(&set, SIGURG);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGQUIT);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

/* --- the new process --- */

/* References of different processes differ in the node they name; of different lives of a slot, in this. */
static uint64_t first_serial(void)
{
	uint64_t x = proc.id ^ (uint64_t)clock_mono_ns() << 17;

	return (x * 0x9e3779b97f4a7c15ull) >> 32;
}

/* Who we are, and whose, is known from the spawner's own memory: what is in the slot is for others. */
void proc_become(uint32_t me, uint64_t id, const struct proc_spawn *how)
{
	struct seg_slot *p = &proc.seg.slots[me];

	if (proc.is_parent)
		proc.parent = proc.id;
	proc.starter = proc.id;
	proc.me = me;
	proc.slot = p;
	proc.id = id;
	inbox_stamp(p);
	proc.parented = how->link || how->up_fd >= 0;
	proc.starter_waits = how->acks;
	proc.is_parent = how->supervisor;
	proc.up_fd = how->up_fd;
	proc.serial = first_serial();
	proc.n_timers = 0;
	proc.n_requests = 0;
	memset(proc.request, 0, sizeof proc.request);
	proc.last_from = 0;
	proc.streak = 0;
	proc.budget = proc.seg.spins / 4;
	proc.exiting = NULL;
	proc.starting = 0;
	proc.has_linked = false;
	proc_queue_clear(&proc.queue);
	proc_queue_clear(&proc.answers);
	proc_descriptors_forked();
	pool_init(&proc.pool, &proc.seg, me);
	proc_parent_died = 0;
	inbox_no_sleep = 0;
	install_handler();
	prctl(PR_SET_PDEATHSIG, how->supervisor ? SIG_PARENT_DIED : SIGKILL);
	if (getppid() != proc.parent_os_pid)
		_exit(137); /* it died before we asked to be told */
	__fpurge(stdout); /* what the spawner has not written yet is for the spawner to write */
}

static _Noreturn void in_child(const struct proc_spawn *how, uint32_t slot, uint64_t id)
{
	struct cop_exit normal = cop_exit_make(COP_EXIT_NORMAL, 0);

	proc_become(slot, id, how);
	if (how->label)
		prctl(PR_SET_NAME, how->label); /* for ps: the first 15 bytes */
	how->f(how->arg);
	cop_exit(&normal);
}

/* --- cloning --- */

/* libc keeps the thread's id for itself; a copy made behind its back must get its own. */
static int *libc_tid(void)
{
	static int *tid;
	static bool known;

	if (!known) {
		known = true;
		if (prctl(PR_GET_TID_ADDRESS, &tid) < 0 || (tid && *tid != (int)syscall(SYS_gettid)))
			tid = NULL;
	}
	return tid;
}

/* As fork(2) from a process without threads; pid_at is in shared memory. */
static pid_t clone_process(bool sibling, _Atomic int32_t *pid_at)
{
	struct clone_args args = { .flags = CLONE_PARENT_SETTID, .parent_tid = (uintptr_t)pid_at };
	void *robust = NULL;
	size_t robust_size = 0;
	pid_t pid;

	if (sibling)
		args.flags |= CLONE_PARENT;
	else
		args.exit_signal = SIGCHLD;
	if (libc_tid()) {
		args.flags |= CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID;
		args.child_tid = (uintptr_t)libc_tid();
	}
	syscall(SYS_get_robust_list, 0, &robust, &robust_size);
	pid = (pid_t)syscall(SYS_clone3, &args, sizeof args);
	if (pid < 0 && (errno == ENOSYS || errno == EPERM)) /* filters that know only the old one */
		pid = (pid_t)syscall(SYS_clone, args.flags | args.exit_signal, NULL, pid_at, libc_tid(), NULL);
	if (pid == 0 && robust)
		syscall(SYS_set_robust_list, robust, robust_size);
	return pid;
}

int proc_fork_plain(void)
{
	_Atomic int32_t pid_at;

	atomic_init(&pid_at, 0);
	return clone_process(false, &pid_at);
}

/* --- spawning --- */

static void set_label(struct seg_slot *p, const char *label)
{
	memset(p->label, 0, sizeof p->label);
	if (label)
		snprintf(p->label, sizeof p->label, "%s", label);
}

/* The new process's halves of what links it with us lie ready before it is there. */
static int tie(struct seg_slot *p, uint64_t id, enum proc_kind signal, uint64_t *ref_r)
{
	struct seg_node *theirs;
	uint32_t ti = proc_make_pair(signal, id, ref_r);

	if (ti == 0)
		return -1;
	theirs = seg_node(&proc.seg, ti);
	theirs->to = id;
	proc_hold(p, theirs);
	atomic_store(&theirs->kind, signal == NODE_LINK ? HELD_LINK : HELD_WATCHER);
	return 0;
}

static void untie(uint64_t ref, enum proc_kind held)
{
	struct seg_node *n = ref ? proc_half((uint32_t)ref, ref, proc.id, held) : NULL;

	if (n) {
		proc_unhold(proc.slot, n);
		pool_put(n);
	}
}

static int undo(long slot, uint64_t link, uint64_t monitor, int err)
{
	untie(link, HELD_LINK);
	untie(monitor, HELD_MONITOR);
	seg_slot_release(&proc.seg, (uint32_t)slot); /* the other halves were for it: free with it */
	atomic_store(&proc.slot->own.spawning, 0);
	errno = err;
	return -1;
}

int proc_spawn(const struct proc_spawn *how, cop_pid *pid_r, cop_ref *ref_r)
{
	uint64_t id, link = 0, monitor = 0;
	int parent_before = proc.parent_os_pid;
	struct seg_slot *p;
	long slot;
	pid_t pid;

	/* not a supervisor's business: anybody can have written that, and at the real end it is killed */
	if (!proc.is_parent && atomic_load(&proc.seg.h->ending)) {
		errno = ECANCELED;
		return -1;
	}
	slot = seg_slot_claim(&proc.seg, proc.me);
	if (slot < 0) {
		atomic_store(&proc.slot->own.spawning, 0);
		return -1;
	}
	p = &proc.seg.slots[slot];
	id = atomic_load(&p->id);
	p->parent = proc.is_parent ? proc.id : proc.parent;
	p->starter = proc.id;
	p->flags = how->supervisor ? SEG_IS_SUPERVISOR : 0;
	set_label(p, how->label);
	if ((how->link && tie(p, id, NODE_LINK, &link) < 0) || (how->monitor && tie(p, id, NODE_MONITOR, &monitor) < 0))
		return undo(slot, link, monitor, ENOMEM);
	atomic_store(&p->trap, how->supervisor);
	if (ref_r)
		ref_r->id = monitor; /* the child knows it, too */
	if (how->up_fd < 0)
		fflush(NULL); /* or the child writes it, too, at its end; a supervisor has nothing to write */
	/* In the child the parent is who is ours, or we. */
	proc.parent_os_pid = proc.is_parent ? getpid() : parent_before;
	atomic_store(&p->state, (uint64_t)SEG_SLOT_ALIVE | (uint64_t)proc.me << 8);
	pid = clone_process(!proc.is_parent, &proc.seg.pids[slot]);
	if (pid == 0)
		in_child(how, (uint32_t)slot, id);
	proc.parent_os_pid = parent_before;
	if (pid < 0) {
		int err = errno;

		atomic_store(&p->state, (uint64_t)SEG_SLOT_EMBRYO | (uint64_t)proc.me << 8);
		return undo(slot, link, monitor, err == EPERM ? EAGAIN : err);
	}
	atomic_store(&proc.slot->own.spawning, 0);
	pid_r->id = id;
	if (how->os_pid_r)
		*how->os_pid_r = pid;
	return 0;
}

int cop_spawn(cop_proc_f *f, void *arg, cop_pid *pid_r)
{
	struct proc_spawn how = { .f = f, .arg = arg, .up_fd = -1 };

	PROC_REQUIRE();
	return proc_spawn(&how, pid_r, NULL);
}

int cop_spawn_link(cop_proc_f *f, void *arg, cop_pid *pid_r)
{
	struct proc_spawn how = { .f = f, .arg = arg, .link = true, .up_fd = -1 };

	PROC_REQUIRE();
	return proc_spawn(&how, pid_r, NULL);
}

int cop_spawn_monitor(cop_proc_f *f, void *arg, cop_pid *pid_r, cop_ref *ref_r)
{
	struct proc_spawn how = { .f = f, .arg = arg, .monitor = true, .up_fd = -1 };

	PROC_REQUIRE();
	return proc_spawn(&how, pid_r, ref_r);
}

/* --- looking --- */

_Noreturn void proc_not_in_node(const char *what)
{
	fprintf(stderr, "coppice: %s: not in a process of a node (see cop_run(3))\n", what);
	abort();
}

cop_pid cop_self(void)
{
	PROC_REQUIRE();
	return (cop_pid){ proc.id };
}

cop_pid cop_parent(void)
{
	PROC_REQUIRE();
	return (cop_pid){ proc.starter };
}

int cop_os_pid(cop_pid pid)
{
	struct seg_slot *p;
	int os;

	PROC_REQUIRE();
	p = seg_slot_of(&proc.seg, pid.id);
	if (!p)
		return 0;
	os = atomic_load(&proc.seg.pids[SEG_INDEX(pid.id)]);
	if (seg_slot_state(&proc.seg, SEG_INDEX(pid.id)) != SEG_SLOT_ALIVE)
		return 0; /* its death may have been told already */
	return seg_is_there(&proc.seg, pid.id) ? os : 0;
}

bool cop_is_alive(cop_pid pid)
{
	struct seg_slot *p;

	PROC_REQUIRE();
	if (pid.id == proc.id)
		return true;
	p = seg_slot_of(&proc.seg, pid.id);
	return p && seg_slot_state(&proc.seg, SEG_INDEX(pid.id)) == SEG_SLOT_ALIVE &&
	    seg_exit_claim(p, pid.id) == SEG_EXIT_NONE;
}

void cop_set_label(const char *label)
{
	PROC_REQUIRE();
	set_label(proc.slot, label);
	prctl(PR_SET_NAME, label ? label : "");
}
