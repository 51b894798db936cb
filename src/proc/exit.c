/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * How processes end: by themselves, and by exit signals. A process that does not trap exits is ended from
 * outside, by SIGKILL, whatever it is doing; the reason is recorded in its slot first, where only the first
 * one counts. Any process; allocates at most a message.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "proc/proc.h"

#define KILL_COMES_SEC 1 /* from the reason to the KILL: longer than that, nobody is sending one */

bool proc_is_kill(const struct cop_exit *reason)
{
	return reason->kind == COP_EXIT_OTHER && strcmp(reason->text, "kill") == 0;
}

struct cop_exit proc_sane_exit(const struct cop_exit *shared)
{
	struct cop_exit e;
	size_t i;

	memcpy(&e, shared, sizeof e);
	if (e.kind > COP_EXIT_OTHER)
		e.kind = COP_EXIT_OTHER;
	e.core = e.core != 0;
	e.text[sizeof e.text - 1] = '\0';
	for (i = 0; e.text[i]; i++)
		if ((unsigned char)e.text[i] < ' ' || e.text[i] == 127)
			e.text[i] = '?';
	memset(e.text + i, 0, sizeof e.text - i);
	return e;
}

static bool record(struct seg_slot *p, uint64_t id, const struct cop_exit *reason, enum seg_exit_claim by)
{
	uint32_t none = SEG_EXIT_WORD(id, SEG_EXIT_NONE), claimed = SEG_EXIT_WORD(id, SEG_EXIT_CLAIMED);

	if (!atomic_compare_exchange_strong(&p->exit_claim, &none, claimed))
		return false;
	p->exit = *reason;
	return atomic_compare_exchange_strong(&p->exit_claim, &claimed, SEG_EXIT_WORD(id, by));
}

_Noreturn void proc_die(const struct cop_exit *reason)
{
	int status = cop_exit_status(reason);

	proc.exiting = NULL;
	/* If somebody has ended us already, the KILL is on its way; but that word can be anybody's writing. */
	if (!record(proc.slot, proc.id, reason, SEG_EXIT_SELF))
		nanosleep(&(struct timespec){ .tv_sec = KILL_COMES_SEC }, NULL);
	fflush(NULL);
	_exit(status);
}

_Noreturn void cop_exit(const struct cop_exit *reason)
{
	void (*last)(const struct cop_exit *) = proc.exiting;
	struct cop_exit copy = *reason;

	PROC_REQUIRE();
	proc.exiting = NULL; /* an exit in terminate replaces the reason */
	if (last)
		last(&copy);
	proc_die(&copy);
}

/* The number may be used again as soon as its process is reaped, and that comes after its slot has said so. A
 * descriptor that was opened while the slot still said otherwise is the right process's. */
static void kill_slot(uint32_t slot, uint64_t id)
{
	struct seg_slot *p = &proc.seg.slots[slot];
	pid_t pid = atomic_load(&proc.seg.pids[slot]);
	int fd;

	if (pid <= 1 || pid == getpid() || (proc.is_parent && pid == getppid()))
		return; /* a supervisor does not end those that it depends on, whatever a dead process's page says */
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (atomic_load(&p->id) == id && seg_slot_state(&proc.seg, slot) == SEG_SLOT_ALIVE) {
		if (fd >= 0)
			syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
		else if (errno != ESRCH)
			kill(pid, SIGKILL); /* no descriptor is to be had: an instant's risk against a process that goes on */
	}
	if (fd >= 0)
		close(fd);
}

void proc_condemn(uint64_t id, const struct cop_exit *reason)
{
	struct seg_slot *p = seg_slot_of(&proc.seg, id);

	if (p && !atomic_load(&p->trap))
		record(p, id, reason, SEG_EXIT_OTHER);
}

void proc_end_other(uint64_t id, const struct cop_exit *reason)
{
	struct seg_slot *p = seg_slot_of(&proc.seg, id);

	if (!p)
		return;
	atomic_store(&proc.slot->own.killing, id);
	record(p, id, reason, SEG_EXIT_OTHER);
	kill_slot(SEG_INDEX(id), id);
	atomic_store(&proc.slot->own.killing, 0);
}

void proc_end_unlinked(uint64_t id, const struct cop_exit *reason)
{
	struct seg_slot *p = seg_slot_of(&proc.seg, id);

	if (!p)
		return;
	atomic_store(&proc.slot->own.killing, id);
	record(p, id, reason, SEG_EXIT_OTHER);
	cop_unlink((cop_pid){ id });
	kill_slot(SEG_INDEX(id), id);
	atomic_store(&proc.slot->own.killing, 0);
}

void proc_finish_kill(uint32_t dead)
{
	uint64_t id = atomic_load(&proc.seg.slots[dead].own.killing);
	struct seg_slot *p = seg_slot_of(&proc.seg, id);
	enum seg_exit_claim claim = p ? seg_exit_claim(p, id) : SEG_EXIT_NONE;

	/* One whose end is claimed, though the reason is not there yet, would wait for the KILL for ever. */
	if (claim == SEG_EXIT_OTHER || claim == SEG_EXIT_CLAIMED)
		kill_slot(SEG_INDEX(id), id);
	atomic_store(&proc.seg.slots[dead].own.killing, 0); /* last: whoever does this may be killed, too */
}

bool proc_exit_signal(uint64_t to, uint64_t from, const struct cop_exit *reason)
{
	struct seg_slot *p = seg_slot_of(&proc.seg, to);
	struct cop_exit killed = cop_exit_make(COP_EXIT_KILLED, 0);
	struct seg_node *n;

	if (!p)
		return true;
	if (proc_is_kill(reason)) {
		proc_end_other(to, &killed);
		return true;
	}
	if (!atomic_load(&p->trap)) {
		if (reason->kind != COP_EXIT_NORMAL)
			proc_end_other(to, reason);
		return true;
	}
	n = proc_node(sizeof *reason, 0);
	if (!n)
		return false;
	atomic_store_explicit(&n->kind, NODE_EXIT_SIGNAL, memory_order_relaxed);
	n->from = from;
	n->ref = 0;
	n->tag = 0;
	n->len = sizeof *reason;
	memcpy(seg_node_data(n), reason, sizeof *reason);
	(void)proc_send(to, n, false, 0);
	return true;
}

void cop_exit_signal(cop_pid to, const struct cop_exit *reason)
{
	struct cop_exit killed = cop_exit_make(COP_EXIT_KILLED, 0);

	PROC_REQUIRE();
	if (to.id != proc.id) {
		(void)proc_exit_signal(to.id, proc.id, reason);
		return;
	}
	if (proc_is_kill(reason))
		proc_die(&killed);
	if (!atomic_load(&proc.slot->trap))
		proc_die(reason); /* also for normal */
	(void)proc_exit_signal(to.id, proc.id, reason);
	(void)proc_take();
}

void cop_kill(cop_pid pid)
{
	struct cop_exit kill = cop_exit_make_text(COP_EXIT_OTHER, 0, "kill");

	cop_exit_signal(pid, &kill);
}
