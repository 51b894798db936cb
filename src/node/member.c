/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Slots of the node's shared memory for the processes of the program (member.h). Runs in root,
 * supervisors and their children. Regime: claiming a slot takes memory of the segment; burying needs none.
 *
 * What is read of the segment is hostile input here as everywhere; proc/ and ipc/ bound and check it, by
 * numbers of which each process has its own copy. If somebody has written over it, that is said once.
 */
#include "node/member.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fds.h"
#include "proc/proc.h"

static struct {
	int err;       /* why there is no memory */
	pid_t claimer; /* of the last slot */
	bool damaged;  /* and this was said */
} member = { .err = ENOSYS };

void member_node_create(const char *node)
{
	struct cop_node_options options = { .name = node, .quiet = true };

	if (proc_node_create(&options) < 0) {
		member.err = errno;
		diag_warn_errno("unable to make the node's shared memory; servers cannot be started");
		return;
	}
	fds_close(&proc.seg.fd); /* the mapping is enough; processes of the node close what they do not know */
	member.err = 0;
}

int member_errno(void)
{
	return member.err;
}

/* Its first words never change. What else was written over cannot be known. */
static void look_for_damage(void)
{
	const struct seg_header *h = proc.seg.h;

	if (member.damaged || (h->bytes == proc.seg.bytes && h->max_procs == proc.seg.max_procs))
		return;
	member.damaged = true;
	diag_error("the node's shared memory is damaged: a process of it has written where it must not; servers may not "
	    "hear each other until the node is run again, supervision goes on");
}

/* --- making a member --- */

/* The new process is known by its slot from before it is there. Whoever is first, it or its parent, says what
 * its number is; if the parent dies before, its reaper gives a slot without a number back. */

uint64_t member_claim(const char *label)
{
	struct seg_slot *p;
	uint64_t id;
	long slot;

	if (!proc.in_node) {
		errno = member.err;
		return 0;
	}
	look_for_damage();
	slot = seg_slot_claim(&proc.seg, proc.me);
	if (slot < 0) {
		atomic_store(&proc.slot->own.spawning, 0);
		return 0;
	}
	p = &proc.seg.slots[slot];
	id = atomic_load(&p->id);
	p->parent = p->starter = proc.id;
	p->flags = 0;
	memset(p->label, 0, sizeof p->label);
	if (label && strlen(label) < sizeof p->label)
		memcpy(p->label, label, strlen(label));
	atomic_store(&p->state, (uint64_t)SEG_SLOT_ALIVE | (uint64_t)proc.me << 8);
	member.claimer = getpid();
	return id;
}

int member_name(uint64_t id, const char *name)
{
	return cop_register(name, (cop_pid){ id });
}

void member_forked(uint64_t id, pid_t pid)
{
	uint32_t slot = SEG_INDEX(id);
	int err = errno;

	if (id == 0)
		return;
	if (pid > 0) {
		atomic_store(&proc.seg.pids[slot], (int32_t)pid);
	} else {
		proc_unname(slot);
		seg_slot_release(&proc.seg, slot);
	}
	atomic_store(&proc.slot->own.spawning, 0);
	errno = err;
}

/* After fork(2) the copy is said to be in no node already, but it has the memory. */
void member_leave(void)
{
	if (!proc.seg.base)
		return;
	proc.in_node = false;
	member.err = ENOTCONN;
	seg_destroy(&proc.seg);
}

void member_become(uint64_t id, enum member_kind kind, int up_fd)
{
	struct proc_spawn how = { .supervisor = kind == MEMBER_SUPERVISOR, .up_fd = up_fd };
	uint32_t slot = SEG_INDEX(id);

	if (id == 0) {
		member_leave();
		return;
	}
	proc.in_node = true;
	if (getppid() != member.claimer || atomic_load(&proc.seg.slots[slot].id) != id)
		_exit(137); /* our parent is dead, and whoever buried it may have given the slot to others */
	atomic_store(&proc.seg.pids[slot], (int32_t)getpid());
	proc.seg.slots[slot].flags = kind == MEMBER_SUPERVISOR ? SEG_IS_SUPERVISOR : 0;
	atomic_store(&proc.seg.slots[slot].trap, kind != MEMBER_WORKER);
	proc.parent_os_pid = member.claimer;
	proc_become(slot, id, &how);
}

/* --- their ends --- */

/* The zombie stays until it is buried: should we die meanwhile, whoever gets it begins again. */
static void bury(pid_t pid, const siginfo_t *si, struct member_death *d)
{
	long slot = seg_slot_by_pid(&proc.seg, pid);

	if (slot <= 0)
		return;
	look_for_damage();
	d->id = atomic_load(&proc.seg.slots[slot].id);
	d->reason = proc_exit_reason((uint32_t)slot, proc_wstatus(si));
	proc_bury((uint32_t)slot, &d->reason);
}

pid_t member_wait(pid_t which, int *status_r, struct member_death *d)
{
	siginfo_t si = { 0 };
	pid_t pid;

	d->id = 0;
	if (!proc.in_node || (which > 0 && seg_slot_by_pid(&proc.seg, which) <= 0))
		return waitpid(which, status_r, WNOHANG); /* an executable, of which nobody knows */
	if (waitid(which < 0 ? P_ALL : P_PID, which < 0 ? 0 : (id_t)which, &si, WEXITED | WNOHANG | WNOWAIT) < 0)
		return -1;
	if (si.si_pid == 0)
		return 0;
	bury(si.si_pid, &si, d);
	do
		pid = waitpid(si.si_pid, status_r, 0);
	while (pid < 0 && errno == EINTR);
	return pid;
}

bool member_exit(uint64_t id, const struct cop_exit *reason)
{
	if (id == 0 || !proc.in_node || !seg_slot_of(&proc.seg, id) ||
	    seg_slot_state(&proc.seg, SEG_INDEX(id)) != SEG_SLOT_ALIVE)
		return false;
	return proc_exit_signal(id, proc.id, reason);
}

void member_kill(uint64_t id, const struct cop_exit *reason)
{
	if (id != 0 && proc.in_node)
		proc_end_other(id, reason);
}
