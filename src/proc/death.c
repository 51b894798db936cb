/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Reaping and burying: what the death of a process means to others, done by its Unix parent, a supervisor or
 * the root. The zombie stays until everything is done, so that, should the parent be killed in the middle,
 * whoever inherits the zombie does it again: every step may be repeated. Never waits, never allocates but
 * for what a killed reaper or process had left half said.
 *
 * What is read of a dead process's slot is taken for anybody's writing: indices are checked, walks bounded.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "proc/proc.h"

struct cop_exit proc_exit_reason(uint32_t slot, int wstatus)
{
	struct seg_slot *p = &proc.seg.slots[slot];
	enum seg_exit_claim claim = seg_exit_claim(p, atomic_load(&p->id));
	struct cop_exit e = proc_sane_exit(&p->exit);

	if (WIFSIGNALED(wstatus) && WTERMSIG(wstatus) == SIGKILL)
		return claim == SEG_EXIT_OTHER ? e : cop_exit_make(COP_EXIT_KILLED, 0);
	if (WIFEXITED(wstatus) && claim == SEG_EXIT_SELF && cop_exit_status(&e) == WEXITSTATUS(wstatus))
		return e;
	return cop_exit_from_wait(wstatus);
}

/* An embryo that its maker did not bring to life. */
static void undo_spawn(uint32_t dead)
{
	uint32_t i = atomic_load(&proc.seg.slots[dead].own.spawning);

	if (i == 0 || --i >= proc.seg.max_procs || i == 0)
		return;
	if (atomic_load(&proc.seg.pids[i]) == 0 && atomic_load(&proc.seg.slots[i].state) >> 8 == dead &&
	    seg_slot_state(&proc.seg, i) != SEG_SLOT_FREE)
		seg_slot_release(&proc.seg, i);
	atomic_store(&proc.seg.slots[dead].own.spawning, 0);
}

/* A slot that it was releasing: it is not found by its pid any more, so nobody else ends that. */
static void finish_burying(uint32_t dead)
{
	uint64_t id = atomic_load(&proc.seg.slots[dead].own.burying), is;
	uint32_t i = SEG_INDEX(id);

	if (id == 0 || i == 0 || i >= proc.seg.max_procs)
		return;
	is = atomic_load(&proc.seg.slots[i].id);
	if ((is == id || is == id + SEG_INDEX_END) && seg_slot_state(&proc.seg, i) == SEG_SLOT_DYING &&
	    atomic_load(&proc.seg.pids[i]) == 0)
		seg_slot_release(&proc.seg, i);
}

/* What it, or an earlier reaper, was about to say and perhaps did not. The receiver knows a repetition by its
 * reference. */
static void say_again(struct seg_slot *p, const struct cop_exit *reason)
{
	struct seg_turn *turn = &p->own.turn;
	uint64_t to = atomic_load(&turn->to);
	struct seg_node *n;

	if (to == 0)
		return;
	n = proc_node(sizeof *reason, COP_NOWAIT);
	if (n) {
		n->from = atomic_load(&p->id);
		n->ref = turn->ref;
		n->peer = turn->peer;
		n->tag = 0;
		n->len = sizeof *reason;
		memcpy(seg_node_data(n), reason, sizeof *reason);
		atomic_store(&n->kind, (uint8_t)turn->kind);
		(void)proc_send(to, n, false, 0);
	}
	atomic_store(&turn->to, 0);
}

/* All that are linked die at one instant, as in Erlang: nobody who sees the first one's end comes before with a reason
 * of his own for the next. */
static void condemn_linked(struct seg_slot *p, const struct cop_exit *reason)
{
	uint32_t i, bound = PROC_HELD_MAX;
	uint64_t id = atomic_load(&p->id);
	struct seg_node *n;

	if (reason->kind == COP_EXIT_NORMAL)
		return;
	for (i = atomic_load(&p->own.holding); (n = seg_node(&proc.seg, i)) && bound-- > 0; i = n->hnext)
		if (n->to == id && atomic_load(&n->kind) == HELD_LINK && proc_is_linked(n))
			proc_condemn(n->from, reason);
}

/* As in Erlang, links are told before monitors: who has both, and traps exits, gets the exit signal first, and who
 * does not is gone before it hears of the other. The list is whole both ways: proc_undo_take() has mended it. */
static void turn_links(struct seg_slot *p, const struct cop_exit *reason)
{
	uint32_t i = atomic_load(&p->own.holding), bound = PROC_HELD_MAX;
	uint64_t id = atomic_load(&p->id);
	struct seg_node *n;

	while ((n = seg_node(&proc.seg, i)) && bound-- > 0) {
		i = n->hnext;
		if (n->to == id && atomic_load(&n->kind) == HELD_LINK)
			proc_turn(p, n, reason);
	}
}

static void turn_all(struct seg_slot *p, const struct cop_exit *reason)
{
	uint32_t i, bound = PROC_HELD_MAX;
	uint64_t id = atomic_load(&p->id);
	struct seg_node *n;

	condemn_linked(p, reason);
	turn_links(p, reason);
	while ((i = atomic_load(&p->own.holding)) != 0 && (n = seg_node(&proc.seg, i)) && bound-- > 0) {
		uint8_t kind = atomic_load(&n->kind);

		n->hprev = 0; /* it is the first */
		if (n->to == id && (kind == HELD_LINK || kind == HELD_WATCHER || kind == HELD_MONITOR)) {
			proc_turn(p, n, reason);
		} else {
			proc_unhold(p, n);
			if (n->to == id)
				pool_put(n);
		}
	}
	atomic_store(&p->own.holding, 0);
}

static void dig_grave(struct seg_slot *p, const struct cop_exit *reason)
{
	uint64_t id = atomic_load(&p->id);
	struct seg_grave *g = &p->grave[seg_grave_of(id)];

	if (atomic_load(&g->id) == id)
		return; /* by a reaper that was killed later on */
	atomic_store(&g->id, 0);
	g->reason = *reason;
	atomic_store(&g->id, id);
}

bool proc_last_reason(uint64_t id, struct cop_exit *reason_r)
{
	struct seg_grave *g;

	if (id == 0 || SEG_INDEX(id) >= atomic_load(&proc.seg.h->slot_top) || SEG_INDEX(id) >= proc.seg.max_procs)
		return false;
	g = &proc.seg.slots[SEG_INDEX(id)].grave[seg_grave_of(id)];
	if (atomic_load(&g->id) != id)
		return false;
	*reason_r = proc_sane_exit(&g->reason);
	return atomic_load(&g->id) == id;
}

void proc_bury(uint32_t slot, const struct cop_exit *reason)
{
	struct seg_slot *p = &proc.seg.slots[slot];
	struct cop_report r = {
		.kind = COP_REPORT_EXIT, .pid = { atomic_load(&p->id) }, .os_pid = atomic_load(&proc.seg.pids[slot]),
		.reason = *reason,
	};
	char name[SEG_NAME], label[SEG_NAME];

	atomic_store(&proc.slot->own.burying, atomic_load(&p->id));
	seg_slot_set_state(&proc.seg, slot, SEG_SLOT_DYING);
	memcpy(name, p->name, sizeof name);
	memcpy(label, p->label, sizeof label);
	name[sizeof name - 1] = label[sizeof label - 1] = '\0';
	r.name = atomic_load(&p->name_serial) & 1 ? name : "";
	r.label = label;
	proc_unname(slot);
	proc_report(&r);
	inbox_finish_push(&proc.seg, slot);
	proc_finish_kill(slot);
	undo_spawn(slot);
	finish_burying(slot);
	say_again(p, reason);
	dig_grave(p, reason); /* who meets the closed inbox asks for it */
	proc_undo_take(p);
	turn_all(p, reason);
	seg_chunks_orphan(&proc.seg, slot);
	if (atomic_load(&p->room_wanted))
		inbox_futex_wake_all(&p->room);
	seg_slot_release(&proc.seg, slot);
}

int proc_wstatus(const siginfo_t *si)
{
	switch (si->si_code) {
	case CLD_EXITED:
		return (si->si_status & 0xff) << 8;
	case CLD_DUMPED:
		return (si->si_status & 0x7f) | 0x80;
	default:
		return si->si_status & 0x7f;
	}
}

static bool reap_one(idtype_t type, id_t which, proc_reaped_f *found, void *ctx)
{
	struct cop_exit reason;
	siginfo_t si = { 0 };
	uint64_t id = 0;
	int wstatus;
	long slot;

	if (waitid(type, which, &si, WEXITED | WNOHANG | WNOWAIT) < 0 || si.si_pid == 0)
		return false;
	wstatus = proc_wstatus(&si);
	slot = seg_slot_by_pid(&proc.seg, si.si_pid);
	if (slot > 0) {
		reason = proc_exit_reason((uint32_t)slot, wstatus);
		id = atomic_load(&proc.seg.slots[slot].id);
		proc_bury((uint32_t)slot, &reason);
	} else {
		reason = cop_exit_from_wait(wstatus);
	}
	while (waitpid(si.si_pid, NULL, 0) < 0 && errno == EINTR)
		;
	found(ctx, si.si_pid, id, &reason, wstatus);
	return true;
}

void proc_reap(int first, bool all, proc_reaped_f *found, void *ctx)
{
	bool any = first > 0 && reap_one(P_PID, (id_t)first, found, ctx);

	while ((all || !any) && reap_one(P_ALL, 0, found, ctx))
		;
}
