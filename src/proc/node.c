/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The root of a library's node: makes the segment, starts the first process, reaps, passes on requests to
 * end, and kills what is left when the first process has ended. It is a subreaper, so whatever a dead
 * supervisor leaves behind comes to it or to a supervisor below it.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "ipc/group.h"
#include "proc/proc.h"

struct root {
	uint64_t first;
	bool first_over;
	struct cop_exit reason;
	int asked;               /* to end, how often */
};

int proc_node_create(const struct cop_node_options *options)
{
	static const struct cop_node_options none;
	const struct cop_node_options *o = options ? options : &none;
	struct seg_limits limits = {
		.name = o->name ? o->name : program_invocation_short_name, .max_procs = o->max_processes,
		.memory = o->memory, .quota = o->quota, .mailbox = o->mailbox,
	};

	if (proc.in_node) {
		errno = EBUSY;
		return -1;
	}
	proc.seg.fd = -1;
	if (seg_create(&proc.seg, &limits) < 0)
		return -1;
	proc.in_node = true;
	proc.me = 0;
	proc.slot = &proc.seg.slots[0];
	proc.id = atomic_load(&proc.slot->id);
	proc.parent = proc.starter = 0;
	proc.is_parent = true;
	proc.up_fd = -1;
	proc.serial = (uint32_t)arc4random();
	proc.report = o->report;
	proc.quiet = o->quiet;
	proc_queue_clear(&proc.queue);
	pool_init(&proc.pool, &proc.seg, 0);
	atomic_store(&proc.slot->trap, 1);
	return 0;
}

static void found(void *ctx, int os_pid, uint64_t id, const struct cop_exit *reason, int wstatus)
{
	struct root *r = ctx;

	(void)os_pid;
	(void)wstatus;
	if (id != 0 && id == r->first) {
		r->first_over = true;
		r->reason = *reason;
	}
}

static void kill_all(void)
{
	struct cop_exit killed = cop_exit_make(COP_EXIT_KILLED, 0);
	uint32_t i, top = atomic_load(&proc.seg.h->slot_top);

	for (i = 1; i < top && i < proc.seg.max_procs; i++)
		if (seg_slot_state(&proc.seg, i) == SEG_SLOT_ALIVE)
			proc_end_other(atomic_load(&proc.seg.slots[i].id), &killed);
}

/* Everything else of the node goes with the first process; what supervisors leave comes to us. */
static void kill_rest(struct root *r)
{
	static const struct timespec step = { .tv_nsec = 5000000 };
	sigset_t chld;
	siginfo_t si;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	proc.quiet = true; /* that these are killed is no news */
	atomic_store(&proc.seg.h->ending, 1);
	for (;;) {
		kill_all();
		group_kill_children(); /* what processes of the node have forked by themselves */
		proc_reap(0, true, found, r);
		memset(&si, 0, sizeof si);
		if (waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) < 0 && errno == ECHILD)
			return;
		(void)sigtimedwait(&chld, NULL, &step);
	}
}

static void asked(struct root *r)
{
	struct cop_exit shutdown = cop_exit_make(COP_EXIT_SHUTDOWN, 0), killed = cop_exit_make(COP_EXIT_KILLED, 0);

	/* without memory to ask with, it is ended */
	if (++r->asked > 1 || !proc_exit_signal(r->first, proc.id, &shutdown))
		proc_end_other(r->first, &killed);
}

static void serve(struct root *r, const sigset_t *set)
{
	siginfo_t si;
	int sig;

	while (!r->first_over) {
		sig = sigwaitinfo(set, &si);
		if (sig == SIGCHLD || sig < 0)
			proc_reap(sig == SIGCHLD ? si.si_pid : 0, true, found, r);
		else if (sig == SIGTERM || sig == SIGINT || sig == SIGQUIT)
			asked(r);
		/* SIGURG: messages to the root; nobody answers */
	}
}

static void block_signals(sigset_t *set, sigset_t *old)
{
	sigemptyset(set);
	sigaddset(set, SIGCHLD);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGQUIT);
	sigaddset(set, SIGURG);
	sigprocmask(SIG_BLOCK, set, old);
}

struct first {
	cop_proc_f *f;
	void *arg;
	sigset_t mask;
	struct sigaction chld;
};

static void first_process(void *arg)
{
	struct first *f = arg;

	sigaction(SIGCHLD, &f->chld, NULL);
	sigaddset(&f->mask, SIGURG);
	sigaddset(&f->mask, SIGINT);
	sigaddset(&f->mask, SIGQUIT);
	sigprocmask(SIG_SETMASK, &f->mask, NULL);
	f->f(f->arg);
}

/* fork(2), behind the library's back: the copy is no process of the node. */
static void forked(void)
{
	proc.in_node = false;
}

int cop_run(const struct cop_node_options *options, cop_proc_f *main_f, void *arg)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	struct first first = { .f = main_f, .arg = arg };
	struct proc_spawn how = { .f = first_process, .arg = &first, .up_fd = -1 };
	struct root r = { 0 };
	int was_subreaper = 0, err;
	sigset_t set;
	cop_pid pid;

	static bool watched;

	if (proc_node_create(options) < 0)
		return -1;
	if (!watched)
		watched = pthread_atfork(NULL, NULL, forked) == 0;
	block_signals(&set, &first.mask);
	sigaction(SIGCHLD, &dfl, &first.chld); /* an inherited "ignore" would reap behind our back */
	prctl(PR_GET_CHILD_SUBREAPER, &was_subreaper);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	err = proc_spawn(&how, &pid, NULL) < 0 ? errno : 0;
	if (!err) {
		r.first = pid.id;
		serve(&r, &set);
		kill_rest(&r);
	}
	prctl(PR_SET_CHILD_SUBREAPER, was_subreaper);
	sigaction(SIGCHLD, &first.chld, NULL);
	sigprocmask(SIG_SETMASK, &first.mask, NULL);
	proc.in_node = false;
	seg_destroy(&proc.seg);
	if (err) {
		errno = err;
		return -1;
	}
	return cop_exit_status(&r.reason);
}

const char *cop_node_name(void)
{
	return proc.in_node ? proc.seg.h->name : NULL;
}
