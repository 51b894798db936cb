/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Taking in what has come: signals (links, monitors, exits) act at once and in order, messages go to the
 * private queue. Links and monitors: proc.h says how they are kept.
 *
 * What arrives is looked at as anything shared is: one load of each word, indices and kinds checked before
 * they are used. A process that writes into others' memory can lose them messages; it cannot lead
 * them outside the segment.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>
#include <time.h>

#include "base/clock.h"
#include "base/relax.h"
#include "proc/proc.h"

/* --- the list of what is held: single writer, readable at any instant --- */

void proc_hold(struct seg_slot *p, struct seg_node *n)
{
	uint32_t head = atomic_load_explicit(&p->own.holding, memory_order_relaxed);
	struct seg_node *first = seg_node(&proc.seg, head);

	n->hnext = head;
	n->hprev = 0;
	if (first)
		first->hprev = seg_index_of(&proc.seg, n);
	atomic_store_explicit(&p->own.holding, seg_index_of(&proc.seg, n), memory_order_release);
}

void proc_unhold(struct seg_slot *p, struct seg_node *n)
{
	struct seg_node *next = seg_node(&proc.seg, n->hnext), *prev = seg_node(&proc.seg, n->hprev);

	if (prev)
		prev->hnext = n->hnext;
	else
		atomic_store_explicit(&p->own.holding, n->hnext, memory_order_release);
	if (next)
		next->hprev = n->hprev;
}

static enum proc_kind kind_of(const struct seg_node *n)
{
	return (enum proc_kind)atomic_load_explicit(&n->kind, memory_order_acquire);
}

static void set_kind(struct seg_node *n, enum proc_kind kind)
{
	atomic_store_explicit(&n->kind, (uint8_t)kind, memory_order_release);
}

struct seg_node *proc_half(uint32_t index, uint64_t ref, uint64_t holder, enum proc_kind kind)
{
	struct seg_node *n = seg_node(&proc.seg, index);

	if (!n || kind_of(n) != kind || n->ref != ref || n->to != holder ||
	    atomic_load_explicit(&n->state, memory_order_acquire) != SEG_BUSY)
		return NULL;
	return n;
}

bool proc_is_linked(const struct seg_node *n)
{
	const struct seg_node *other = seg_node(&proc.seg, n->peer);
	enum proc_kind kind;

	if (!other || other->ref != n->ref || other->to != n->from)
		return false;
	kind = kind_of(other);
	return kind == HELD_LINK || kind == NODE_LINK;
}

/* --- asking for links and monitors --- */

uint32_t proc_make_pair(enum proc_kind signal, uint64_t other, uint64_t *ref_r)
{
	struct seg_node *mine = proc_node(0, 0), *theirs = mine ? proc_node(0, 0) : NULL;
	uint32_t mi, ti;

	if (!theirs) {
		if (mine)
			pool_put(mine);
		return 0;
	}
	mi = seg_index_of(&proc.seg, mine);
	ti = seg_index_of(&proc.seg, theirs);
	*ref_r = proc_new_ref(mi);
	mine->to = proc.id;
	mine->from = other;
	theirs->from = proc.id;
	mine->ref = theirs->ref = *ref_r;
	mine->peer = ti;
	theirs->peer = mi;
	mine->len = theirs->len = 0;
	mine->tag = theirs->tag = 0;
	theirs->to = other;
	set_kind(theirs, signal);
	set_kind(mine, signal == NODE_LINK ? HELD_LINK : HELD_MONITOR);
	proc_hold(proc.slot, mine);
	return ti;
}

#define LINK_AGAIN 1u /* tag of a half: both have asked at once, and one exit signal will do */

static bool is_linked_with(uint64_t with)
{
	uint32_t i = atomic_load(&proc.slot->own.holding), bound = PROC_HELD_MAX;
	struct seg_node *n;

	for (; (n = seg_node(&proc.seg, i)) && bound > 0; i = n->hnext, bound--)
		if (kind_of(n) == HELD_LINK && n->from == with)
			return true;
	return false;
}

static void put_local(struct proc_queue *q, enum proc_kind kind, uint64_t from, uint64_t ref,
    const struct cop_exit *reason)
{
	struct seg_node *n = proc_node(sizeof *reason, 0);

	if (!n)
		return;
	n->from = from;
	n->ref = ref;
	n->tag = 0;
	n->len = sizeof *reason;
	memcpy(seg_node_data(n), reason, sizeof *reason);
	set_kind(n, kind);
	proc.taken++; /* who has looked before looks again */
	if (!proc_queue_put(q, seg_index_of(&proc.seg, n)))
		pool_put(n);
}

void proc_put_local(enum proc_kind kind, uint64_t from, uint64_t ref, const struct cop_exit *reason)
{
	put_local(&proc.queue, kind, from, ref, reason);
}

uint64_t proc_link_new(uint64_t with)
{
	struct seg_node *theirs, *mine;
	uint64_t ref;
	uint32_t ti;

	if (seg_is_there(&proc.seg, with)) {
		ti = proc_make_pair(NODE_LINK, with, &ref);
		if (ti == 0) {
			errno = ENOMEM;
			return 0;
		}
		theirs = seg_node(&proc.seg, ti);
		proc.has_linked = true;
		if (proc_send_quiet(with, theirs) == PROC_SENT)
			return ref;
		mine = proc_half((uint32_t)ref, ref, proc.id, HELD_LINK);
		if (mine) {
			proc_unhold(proc.slot, mine);
			pool_put(mine);
		}
	}
	errno = ESRCH;
	return 0;
}

int cop_link(cop_pid with)
{
	struct cop_exit noproc = cop_exit_make(COP_EXIT_NOPROC, 0);

	PROC_REQUIRE();
	(void)proc_take();
	if (with.id == proc.id || is_linked_with(with.id) || proc_link_new(with.id) != 0)
		return 0;
	if (errno == ENOMEM)
		return -1;
	if (atomic_load(&proc.slot->trap)) {
		proc_put_local(NODE_EXIT, with.id, 0, &noproc);
		return 0;
	}
	errno = ESRCH;
	return -1;
}

/* The other side has been told of, or is being told of by its reaper, its death: until that is over it may
 * still end us. */
static void wait_until_buried(uint64_t id)
{
	while (seg_is_there(&proc.seg, id))
		inbox_futex_wait(&proc.slot->asleep, SEG_AWAKE, 1);
}

/* Undoes one half that we hold: it becomes the signal. */
static void undo(struct seg_node *n, enum proc_kind signal)
{
	uint64_t other = n->from;
	struct seg_turn *turn = &proc.slot->own.turn;

	turn->ref = n->ref;
	turn->peer = n->peer;
	turn->kind = signal;
	atomic_store_explicit(&turn->to, other, memory_order_release);
	set_kind(n, signal);
	proc_unhold(proc.slot, n);
	n->from = proc.id;
	if (proc_send_quiet(other, n) == PROC_GONE && signal == NODE_UNLINK)
		wait_until_buried(other);
	atomic_store_explicit(&turn->to, 0, memory_order_release);
}

void proc_unlink_ref(uint64_t ref)
{
	struct seg_node *n;

	(void)proc_take(); /* the other side may have undone it */
	n = proc_half((uint32_t)ref, ref, proc.id, HELD_LINK);
	if (n)
		undo(n, NODE_UNLINK);
}

void cop_unlink(cop_pid with)
{
	uint32_t i, next, bound = PROC_HELD_MAX;
	struct seg_node *n;

	PROC_REQUIRE();
	(void)proc_take(); /* a link that the other side made may be in there */
	for (i = atomic_load(&proc.slot->own.holding); (n = seg_node(&proc.seg, i)) && bound > 0; i = next, bound--) {
		next = n->hnext;
		if (kind_of(n) == HELD_LINK && n->from == with.id)
			undo(n, NODE_UNLINK);
	}
}

static cop_ref monitor(uint64_t id, uint32_t tag)
{
	struct cop_exit noproc = cop_exit_make(COP_EXIT_NOPROC, 0);
	uint64_t ref;
	struct seg_node *mine;
	uint32_t ti;

	if (id == proc.id)
		return (cop_ref){ proc_new_ref(0) };
	ti = proc_make_pair(NODE_MONITOR, id, &ref);
	if (ti == 0)
		return COP_NOREF;
	seg_node(&proc.seg, (uint32_t)ref)->tag = tag;
	if (id && proc_send_quiet(id, seg_node(&proc.seg, ti)) == PROC_SENT)
		return (cop_ref){ ref };
	if (!id)
		pool_put(seg_node(&proc.seg, ti));
	mine = proc_half((uint32_t)ref, ref, proc.id, HELD_MONITOR);
	if (mine) {
		proc_unhold(proc.slot, mine);
		pool_put(mine);
	}
	put_local(tag == PROC_OWN_MONITOR ? &proc.answers : &proc.queue, NODE_DOWN, id, ref, &noproc);
	return (cop_ref){ ref };
}

cop_ref cop_monitor(struct cop_dest whom)
{
	PROC_REQUIRE();
	return monitor(proc_resolve(whom), 0);
}

cop_ref proc_monitor(uint64_t id)
{
	return monitor(id, PROC_OWN_MONITOR);
}

bool proc_can_monitor(void)
{
	struct seg_node *a = proc_node(0, COP_NOWAIT), *b = a ? proc_node(0, COP_NOWAIT) : NULL;

	if (a)
		pool_put(a);
	if (b)
		pool_put(b);
	return b != NULL;
}

static struct seg_node *find_down(uint64_t ref)
{
	struct seg_node *n = proc_answer(NODE_DOWN, ref);

	return n ? n : proc_find(NODE_DOWN, ref, false);
}

bool cop_demonitor(cop_ref ref, bool flush)
{
	struct seg_node *n;
	bool was = false;

	PROC_REQUIRE();
	if ((uint32_t)ref.id != 0) {
		n = proc_half((uint32_t)ref.id, ref.id, proc.id, HELD_MONITOR);
		if (n) {
			undo(n, NODE_DEMONITOR);
			was = true;
		}
	}
	if (flush && !was && (n = find_down(ref.id)))
		proc_done(n);
	return was;
}

bool cop_trap_exit(bool on)
{
	bool was;

	PROC_REQUIRE();
	was = atomic_exchange(&proc.slot->trap, on);
	if (was != on && !proc.is_parent)
		prctl(PR_SET_PDEATHSIG, on ? SIG_PARENT_DIED : SIGKILL);
	return was;
}

/* --- what signals do --- */

static void queue(struct proc_queue *q, struct seg_node *n, enum proc_kind kind)
{
	set_kind(n, kind);
	if (!proc_queue_put(q, seg_index_of(&proc.seg, n)))
		pool_put(n); /* not of messages: room for them was made before the inbox was taken */
}

/* An exit signal has arrived: rule by rule as Erlang's. Does not return if it ends us. */
static void exit_signal(struct seg_node *n, bool from_link)
{
	struct cop_exit reason = proc_sane_exit(seg_node_data(n));

	if (!from_link && proc_is_kill(&reason)) {
		reason = cop_exit_make(COP_EXIT_KILLED, 0);
		proc_die(&reason);
	}
	if (atomic_load_explicit(&proc.slot->trap, memory_order_relaxed)) {
		queue(&proc.queue, n, NODE_EXIT);
		return;
	}
	if (reason.kind != COP_EXIT_NORMAL)
		proc_die(&reason);
	proc_done(n);
}

static void link_exit(struct seg_node *n)
{
	struct seg_node *half = proc_half(n->peer, n->ref, proc.id, HELD_LINK);
	bool again;

	if (!half) {
		proc_done(n); /* undone meanwhile */
		return;
	}
	again = half->tag == LINK_AGAIN;
	proc_unhold(proc.slot, half);
	proc_done(half);
	if (again)
		proc_done(n);
	else
		exit_signal(n, true);
}

static void down(struct seg_node *n)
{
	struct seg_node *half = proc_half((uint32_t)n->ref, n->ref, proc.id, HELD_MONITOR);
	uint32_t tag;

	if (!half) {
		proc_done(n);
		return;
	}
	tag = half->tag;
	proc_unhold(proc.slot, half);
	proc_done(half);
	queue(tag == PROC_OWN_MONITOR ? &proc.answers : &proc.queue, n, NODE_DOWN);
}

static void undone(struct seg_slot *p, uint64_t id, struct seg_node *n, enum proc_kind held)
{
	struct seg_node *half = proc_half(n->peer, n->ref, id, held);

	if (half) {
		proc_unhold(p, half);
		proc_done(half);
	}
	proc_done(n);
}

void proc_own_monitor(cop_ref ref)
{
	struct seg_node *half = proc_half((uint32_t)ref.id, ref.id, proc.id, HELD_MONITOR);

	if (half)
		half->tag = PROC_OWN_MONITOR;
}

bool proc_is_monitored(cop_ref ref)
{
	return proc_half((uint32_t)ref.id, ref.id, proc.id, HELD_MONITOR) != NULL;
}

static void reply(struct seg_node *n)
{
	if (proc_is_expected(n->ref) || proc_is_monitored((cop_ref){ n->ref }))
		queue(&proc.answers, n, NODE_REPLY);
	else
		proc_done(n); /* too late: the alias is gone */
}

/* The node was meant for a process that had this slot before: for that one, all that is known is that it
 * is gone. */
static void misdirected(struct seg_node *n)
{
	struct cop_exit noproc = cop_exit_make(COP_EXIT_NOPROC, 0);
	enum proc_kind kind = kind_of(n);
	uint64_t to = n->to;

	if (kind != NODE_LINK && kind != NODE_MONITOR) {
		proc_done(n);
		return;
	}
	memcpy(seg_node_data(n), &noproc, sizeof noproc);
	n->len = sizeof noproc;
	set_kind(n, kind == NODE_LINK ? NODE_LINK_EXIT : NODE_DOWN);
	n->to = n->from;
	n->from = to;
	(void)proc_send(n->to, n, false, 0);
}

static void take_in(struct seg_node *n)
{
	if (n->to != proc.id) {
		misdirected(n);
		return;
	}
	switch (kind_of(n)) {
	case NODE_PLAIN:
	case NODE_CALL:
	case NODE_CAST:
	case NODE_STOP:
		if (!proc_queue_put(&proc.queue, seg_index_of(&proc.seg, n)))
			pool_put(n);
		break;
	case NODE_ACK:
		if (n->ref == proc.starting)
			queue(&proc.answers, n, NODE_ACK);
		else
			proc_done(n);
		break;
	case NODE_REPLY:
		reply(n);
		break;
	case NODE_LINK:
		n->tag = proc.has_linked && is_linked_with(n->from) ? LINK_AGAIN : 0;
		proc_hold(proc.slot, n);
		set_kind(n, HELD_LINK);
		break;
	case NODE_MONITOR:
		proc_hold(proc.slot, n);
		set_kind(n, HELD_WATCHER);
		break;
	case NODE_UNLINK:
		undone(proc.slot, proc.id, n, HELD_LINK);
		break;
	case NODE_DEMONITOR:
		undone(proc.slot, proc.id, n, HELD_WATCHER);
		break;
	case NODE_LINK_EXIT:
		link_exit(n);
		break;
	case NODE_EXIT_SIGNAL:
		exit_signal(n, false);
		break;
	case NODE_DOWN:
		down(n);
		break;
	case NODE_TIMER:
		if (!proc_timer_add(n))
			proc_done(n);
		break;
	case NODE_EXIT: /* these are made here only: whoever sent one has made it up */
	case NODE_READY:
	case NODE_SIGNAL:
	case HELD_LINK:
	case HELD_MONITOR:
	case HELD_WATCHER:
	case HELD_TIMER:
	case NODE_BEING_MADE:
		proc_done(n);
		break;
	}
}

static bool make_room(uint32_t count)
{
	uint32_t cap = proc.batch_cap ? proc.batch_cap : 64, *b;

	if (count > proc.batch_cap) {
		while (cap < count)
			cap *= 2;
		b = realloc(proc.batch, cap * sizeof *b);
		if (!b)
			return false;
		proc.batch = b;
		proc.batch_cap = cap;
	}
	while (proc.queue.cap - proc.queue.n < count)
		if (!proc_queue_grow(&proc.queue))
			return false;
	return true;
}

#define BURIAL_NS 1000000000

/* The parent was killed: to a process that traps exits, its last exit signal. */
static int take_parents_death(void)
{
	struct cop_exit killed = cop_exit_make(COP_EXIT_KILLED, 0);

	int64_t until = clock_mono_ns() + BURIAL_NS;

	if (!atomic_load(&proc.slot->trap))
		proc_die(&killed);
	/* first its own end is told; unless nobody is left to tell it */
	while (seg_is_there(&proc.seg, proc.parent) && clock_mono_ns() < until)
		nanosleep(&(struct timespec){ .tv_nsec = 500000 }, NULL);
	proc_put_local(NODE_EXIT, proc.parent, 0, &killed);
	proc.taken++;
	return 1;
}

#define BATCH_MAX (1u << 26) /* messages at once: more than memory has room for */
#define STREAM_AFTER 4   /* batches */
#define STREAM_SMALL 64  /* messages */
#define STREAM_PAUSES 48

/* In a stream of messages that nobody waits for, from another processor, taking each as it comes costs both
 * sides the way of a cache line: a batch may grow for half a microsecond. */
static uint64_t let_it_grow(struct seg_slot *p, uint64_t head)
{
	struct seg_node *newest = seg_node(&proc.seg, INBOX_NODE(head));
	enum proc_kind kind = newest ? kind_of(newest) : NODE_CALL;
	uint32_t i;

	if (kind != NODE_CAST && kind != NODE_PLAIN) {
		proc.streak = 0;
		return head;
	}
	if (proc.streak < STREAM_AFTER) {
		proc.streak++;
		return head;
	}
	if (INBOX_COUNT(head) < STREAM_SMALL && atomic_load_explicit(&proc.seg.slots[proc.last_from].cpu,
	    memory_order_relaxed) != atomic_load_explicit(&p->cpu, memory_order_relaxed))
		for (i = 0; i < STREAM_PAUSES; i++)
			base_relax();
	return atomic_load_explicit(&p->inbox, memory_order_acquire);
}

int proc_take(void)
{
	struct seg_slot *p = proc.slot;
	uint64_t head;
	uint32_t count, n = 0, i;
	struct seg_node *node;

	if (__builtin_expect(proc_parent_died != 0, 0) && proc_parent_is_gone())
		return take_parents_death();
	do {
		head = atomic_load_explicit(&p->inbox, memory_order_acquire);
		if (INBOX_NODE(head) == 0)
			return 0;
		head = let_it_grow(p, head);
		count = INBOX_COUNT(head);
		if (count > SEG_MAILBOX_MAX * 2u)
			count = SEG_MAILBOX_MAX * 2u; /* nobody has sent so many: somebody has written over it */
		if (!make_room(count)) {
			inbox_taken(p);
			errno = ENOMEM;
			return -1;
		}
	} while (!inbox_take(p, head));
	for (i = INBOX_NODE(head); n < count && (node = seg_node(&proc.seg, i)); i = node->next) {
		if (n + 1 == count && count >= SEG_MAILBOX_MAX * 2u && count < BATCH_MAX && make_room(count * 2))
			count *= 2; /* the head does not count further */
		proc.batch[n++] = i;
		__builtin_prefetch(seg_node(&proc.seg, node->next));
	}
	if (n > 0) { /* before it may be its sender's again */
		node = seg_node(&proc.seg, proc.batch[0]);
		if (SEG_INDEX(node->from) < proc.seg.max_procs)
			proc.last_from = SEG_INDEX(node->from);
	}
	/* a batch is oldest last */
	for (i = n; i-- > 0;)
		take_in(seg_node(&proc.seg, proc.batch[i]));
	inbox_taken(p);
	proc.taken++;
	atomic_store_explicit(&p->held, proc.queue.n, memory_order_relaxed);
	return 1;
}

/* --- for the dead --- */

/* A list that its owner was changing when it died: forwards it is always whole, backwards not, and what was put on
 * it last may not have its new kind yet. */
static void mend_list(struct seg_slot *p)
{
	uint32_t i = atomic_load(&p->own.holding), before = 0, bound = PROC_HELD_MAX;
	struct seg_node *n = seg_node(&proc.seg, i);

	if (n && kind_of(n) == NODE_LINK)
		set_kind(n, HELD_LINK);
	else if (n && kind_of(n) == NODE_MONITOR)
		set_kind(n, HELD_WATCHER);

	for (; (n = seg_node(&proc.seg, i)) && bound > 0; before = i, i = n->hnext, bound--)
		n->hprev = before;
}

/* One node of a dead process's inbox or batch, as it would have taken it in, but that nothing is answered, and nothing
 * is freed: what is, may be somebody's again before this was done, or done again, to the end. Whose link or monitor
 * was undone, knows that what is said of it is over. */
static void take_in_for(struct seg_slot *p, struct seg_node *n)
{
	enum proc_kind kind = kind_of(n);

	if (kind == NODE_LINK || kind == NODE_MONITOR) {
		proc_hold(p, n);
		set_kind(n, kind == NODE_LINK ? HELD_LINK : HELD_WATCHER);
	}
}

/* From the newest to the oldest. In a batch that was partly taken in, the oldest may be somebody's again, and what
 * they lead to is none of this. */
static void take_in_chain(struct seg_slot *p, uint64_t id, uint32_t i)
{
	uint32_t bound = 2 * SEG_MAILBOX_MAX;
	struct seg_node *n;

	for (; (n = seg_node(&proc.seg, i)) && bound > 0 && SEG_INDEX(n->to) == SEG_INDEX(id); i = n->next, bound--)
		if (n->to == id)
			take_in_for(p, n);
}

void proc_undo_take(struct seg_slot *p)
{
	uint64_t id = atomic_load(&p->id), head = atomic_load(&p->inbox);
	uint32_t taking = atomic_load(&p->own.taking);

	mend_list(p);
	if (taking != 0)
		take_in_chain(p, id, taking);
	while (INBOX_NODE(head) != SEG_CLOSED) {
		/* what was in it stays named until it is integrated, whoever has to go on */
		atomic_store(&p->own.taking, INBOX_NODE(head));
		if (atomic_compare_exchange_strong(&p->inbox, &head, SEG_INBOX(SEG_CLOSED, 0, 0)))
			break;
	}
	take_in_chain(p, id, atomic_load(&p->own.taking));
	atomic_store(&p->own.taking, 0);
}

static enum proc_kind turned_kind(enum proc_kind held)
{
	switch ((int)held) {
	case HELD_LINK:
		return NODE_LINK_EXIT;
	case HELD_WATCHER:
		return NODE_DOWN;
	default:
		return NODE_DEMONITOR;
	}
}

void proc_turn(struct seg_slot *p, struct seg_node *n, const struct cop_exit *reason)
{
	struct seg_turn *turn = &p->own.turn;
	struct seg_slot *other = seg_slot_of(&proc.seg, n->from);
	enum proc_kind kind = turned_kind(kind_of(n));
	uint64_t to = n->from, id = atomic_load(&p->id);

	if (kind == NODE_LINK_EXIT && other && reason->kind != COP_EXIT_NORMAL &&
	    (!atomic_load(&other->trap) || seg_exit_claim(other, to) == SEG_EXIT_OTHER)) {
		/* One that was condemned is ended also if it has unlinked since: it waits for our burial's end to go on. */
		if (seg_exit_claim(other, to) == SEG_EXIT_OTHER || proc_is_linked(n))
			proc_end_other(to, reason);
		proc_unhold(p, n);
		pool_put(n);
		return;
	}
	turn->ref = n->ref;
	turn->peer = n->peer;
	turn->kind = kind;
	atomic_store(&turn->to, to);
	proc_unhold(p, n);
	memcpy(seg_node_data(n), reason, sizeof *reason);
	n->len = sizeof *reason;
	n->from = id;
	set_kind(n, kind);
	if (kind == NODE_DEMONITOR || (kind == NODE_LINK_EXIT && other && !atomic_load(&other->trap)))
		(void)proc_send_quiet(to, n);
	else
		(void)proc_send(to, n, false, 0);
	atomic_store(&turn->to, 0);
}
