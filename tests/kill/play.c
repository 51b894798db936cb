/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* What happens in a run and what must come of it (play.h). */
#include "play.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TAG_VICTIM 0x100u
#define TAG_FRESH 0x200u
#define BIG 100000u
#define LARGER 1000u
#define MANY 40 /* messages: twice and a half of what a slot has nodes for */

unsigned play_failures;
void (*play_where)(void);

static void failed(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void failed(const char *format, ...)
{
	va_list ap;

	play_failures++;
	if (play_failures > 25)
		return;
	play_where();
	printf("#   ");
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
}

static void ignore(int r)
{
	(void)r;
}

/* What is known when all that is before has happened. */
static struct {
	uint64_t victim, peer, other;
	uint64_t peer_monitor[16], other_monitor[16], victim_monitor;
	int peer_monitors, other_monitors;
	bool linked;          /* victim and peer */
	bool other_linked, peer_traps, peer_dead;
	unsigned sent;        /* by the victim before */
	char asleep;
} known;

static cop_pid pid_of(uint64_t id)
{
	return (cop_pid){ id };
}

static struct cop_dest to(uint64_t id)
{
	return cop_to(pid_of(id));
}

/* --- before --- */

static void watch(uint64_t *list, int *n)
{
	list[(*n)++] = cop_monitor(to(known.victim)).id;
}

static void drop_watch(uint64_t *list, int *n)
{
	if (*n)
		(void)cop_demonitor((cop_ref){ list[--*n] }, false);
}

static void link_victim(void *arg)
{
	(void)arg;
	ignore(cop_link(pid_of(known.victim)));
}

static void before(char c)
{
	static const char text[] = "before";

	switch (c) {
	case 'l': lab_be(LAB_PEER); link_victim(NULL); known.linked = true; break;
	case 'u': lab_be(LAB_PEER); cop_unlink(pid_of(known.victim)); known.linked = false; break;
	case 'm': lab_be(LAB_PEER); watch(known.peer_monitor, &known.peer_monitors); break;
	case 'd': lab_be(LAB_PEER); drop_watch(known.peer_monitor, &known.peer_monitors); break;
	case 's': lab_be(LAB_PEER); (void)cop_send(to(known.victim), 1, text, sizeof text); break;
	case 't': lab_be(LAB_PEER); (void)atomic_exchange(&proc.slot->trap, 1); known.peer_traps = true; break;
	case 'a':
	case 'p':
		lab_be(LAB_PEER);
		(void)proc_take();
		known.asleep = c;
		atomic_store(&proc.slot->asleep, c == 'a' ? SEG_ASLEEP_FUTEX : SEG_ASLEEP_POLL);
		break;
	case 'L': lab_be(LAB_OTHER); link_victim(NULL); known.other_linked = true; break;
	case 'M': lab_be(LAB_OTHER); watch(known.other_monitor, &known.other_monitors); break;
	case 'D': lab_be(LAB_OTHER); drop_watch(known.other_monitor, &known.other_monitors); break;
	case 'S': lab_be(LAB_OTHER); (void)cop_send(to(known.victim), 2, text, sizeof text); break;
	case 'v': lab_be(LAB_VICTIM); (void)atomic_exchange(&proc.slot->trap, 1); break;
	case 'T': lab_be(LAB_VICTIM); (void)proc_take(); break;
	case '1': lab_be(LAB_VICTIM); ignore(cop_link(pid_of(known.peer))); known.linked = true; break;
	case '2': lab_be(LAB_VICTIM); (void)cop_monitor(to(known.peer)); break;
	case '3': lab_be(LAB_VICTIM); ignore(cop_link(pid_of(known.other))); known.other_linked = true; break;
	case '4': lab_be(LAB_VICTIM); (void)cop_monitor(to(known.other)); break;
	case '5':
		lab_be(LAB_VICTIM);
		(void)cop_send(to(known.peer), TAG_VICTIM + known.sent++, text, sizeof text);
		break;
	case 'n': lab_be(LAB_VICTIM); ignore(cop_register("victim", pid_of(known.victim))); break;
	case 'z': known.peer_dead = true; break;
	case 'k': /* the victim hears of it, if it does */
		if (lab_alive(LAB_OTHER))
			lab_bury(LAB_OTHER);
		break;
	default:
		break;
	}
}

void play_prepare(const struct play *play)
{
	const char *c;

	lab_renew();
	lab_birth(LAB_VICTIM, false);
	lab_birth(LAB_PEER, false);
	lab_birth(LAB_OTHER, true);
	lab_birth(LAB_REAPER, true);
	memset(&known, 0, sizeof known);
	known.victim = lab_id(LAB_VICTIM);
	known.peer = lab_id(LAB_PEER);
	known.other = lab_id(LAB_OTHER);
	for (c = play->before; *c; c++)
		before(*c);
	lab_be(LAB_ROOT);
	lab_mark();
}

/* --- the victim --- */

static void send_sized(size_t len, unsigned i)
{
	unsigned char *d = cop_msg_new(len, COP_NOWAIT);

	if (!d)
		return;
	memset(d, 'a' + (int)(i % 26), len < 32 ? len : 32);
	d[len - 1] = 'z';
	(void)cop_msg_send(to(known.peer), TAG_VICTIM + i, d, COP_NOWAIT);
}

static void spawned(void *arg)
{
	(void)arg;
}

void play_victim(const struct play *play)
{
	struct cop_exit shutdown = { .kind = COP_EXIT_SHUTDOWN };
	unsigned sent = known.sent;
	uint64_t monitor[16] = { 0 };
	int monitors = 0;
	const char *c;
	cop_pid pid;
	cop_ref ref;

	for (c = play->victim; *c; c++) {
		struct seg_node *n;

		switch (*c) {
		case 's': send_sized(20, sent++); break;
		case 'c': send_sized(LARGER, sent++); break;
		case 'b': send_sized(BIG, sent++); break;
		case 'l': ignore(cop_link(pid_of(known.peer))); break;
		case 'u': cop_unlink(pid_of(known.peer)); break;
		case 'm':
			ref = cop_monitor(to(known.peer));
			if (monitors < 16)
				monitor[monitors++] = ref.id;
			break;
		case 'd':
			if (monitors)
				(void)cop_demonitor((cop_ref){ monitor[--monitors] }, true);
			break;
		case 'r':
			if ((n = proc_next()))
				proc_done(n);
			break;
		case 'n': ignore(cop_register("victim", pid_of(known.victim))); break;
		case 'N': (void)cop_unregister("victim"); break;
		case 'g': ignore(cop_register("peer", pid_of(known.peer))); break;
		case 'e': cop_exit_signal(pid_of(known.peer), &shutdown); break;
		case 'k': cop_kill(pid_of(known.peer)); break;
		case 'x': ignore(cop_spawn(spawned, NULL, &pid)); break;
		case 'y': ignore(cop_spawn_link(spawned, NULL, &pid)); break;
		case 'z': ignore(cop_spawn_monitor(spawned, NULL, &pid, &ref)); break;
		default: break;
		}
		atomic_store_explicit(&lab_side->acked, (uint32_t)(c + 1 - play->victim), memory_order_relaxed);
	}
}

void play_reaper(void)
{
	struct cop_exit reason = proc_exit_reason(LAB_VICTIM, SIGKILL);

	proc_bury(LAB_VICTIM, &reason);
}

/* --- what must be so --- */

struct may { /* how often: what has returned says the least, what was under way may add */
	unsigned sent_least, sent_most;
	bool link_before, link_after; /* of the operation under way */
	bool may_kill;                /* an exit signal to the peer */
};

static struct may expectation(const struct play *play)
{
	uint32_t acked = atomic_load(&lab_side->acked), i, n = (uint32_t)strlen(play->victim);
	struct may may = { .sent_least = known.sent, .sent_most = known.sent, .link_before = known.linked };

	for (i = 0; i <= acked && i < n; i++) {
		bool over = i < acked;

		if (over)
			may.link_after = may.link_before;
		switch (play->victim[i]) {
		case 's': case 'c': case 'b':
			may.sent_most++;
			may.sent_least += over;
			may.link_after = may.link_before;
			break;
		case 'l': may.link_after = true; break;
		case 'u': may.link_after = false; break;
		case 'e': case 'k': may.may_kill = true; may.link_after = may.link_before; break;
		default: may.link_after = may.link_before; break;
		}
		if (over)
			may.link_before = may.link_after;
	}
	if (acked >= n)
		may.link_after = may.link_before;
	return may;
}

struct got {
	unsigned plain, exits, signals, downs[16], strange_downs, fresh;
	bool order, torn, over;
};
static struct got got;

static void count_down(uint64_t ref, const uint64_t *list, int n)
{
	int i;

	for (i = 0; i < n; i++)
		if (list[i] == ref) {
			got.downs[i]++;
			return;
		}
	got.strange_downs++;
}

static void look_at_plain(struct seg_node *n)
{
	const unsigned char *d = seg_node_data(n);
	size_t i, k = n->len < 32 ? n->len : 32;

	if (n->tag >= TAG_FRESH) {
		got.order |= n->tag != TAG_FRESH + got.fresh++;
		return;
	}
	if (n->tag < TAG_VICTIM)
		return;
	got.order |= n->tag != TAG_VICTIM + got.plain++;
	if (n->len != 7) /* not one from before */
		for (i = 0; i < k && i + 1 < n->len; i++)
			got.torn |= d[i] != 'a' + (n->tag - TAG_VICTIM) % 26;
}

static void take_message(struct seg_node *n, bool peer)
{
	struct cop_exit reason;

	switch ((int)atomic_load(&n->kind)) {
	case NODE_PLAIN:
		if (peer)
			look_at_plain(n);
		break;
	case NODE_DOWN:
		count_down(n->ref, peer ? known.peer_monitor : known.other_monitor,
		    peer ? known.peer_monitors : known.other_monitors);
		break;
	case NODE_EXIT:
		reason = proc_sane_exit(seg_node_data(n));
		if (n->from == known.victim) {
			if (reason.kind == COP_EXIT_SHUTDOWN)
				got.signals++;
			else
				got.exits++;
		}
		break;
	default:
		break;
	}
	proc_done(n);
}

static void drain(void *arg)
{
	struct seg_node *n;

	inbox_awake(proc.slot);
	while ((n = proc_next()))
		take_message(n, *(bool *)arg);
}

/* Processes that were killed by now die, and what that leads to. */
static bool peer_died;

static void deaths(void)
{
	uint32_t i;
	bool any = true;

	while (any) {
		any = false;
		for (i = LAB_PEER; i <= LAB_OTHER; i++)
			if (atomic_load(&lab_side->killed[i]) && lab_alive((enum lab_role)i)) {
				peer_died |= i == LAB_PEER;
				lab_bury((enum lab_role)i);
				any = true;
			}
	}
}

static bool anything_to_hear(uint32_t slot)
{
	uint32_t i = INBOX_NODE(atomic_load(&proc.seg.slots[slot].inbox));
	struct seg_node *n;

	for (; i != SEG_CLOSED && (n = seg_node(&proc.seg, i)); i = n->next)
		switch ((int)atomic_load(&n->kind)) {
		case NODE_PLAIN: case NODE_DOWN: case NODE_EXIT_SIGNAL:
			return true;
		default:
			break;
		}
	return false;
}

/* The peer was asleep, and has not been played since. */
static void check_sleep(void)
{
	uint32_t asleep = atomic_load(&proc.seg.slots[LAB_PEER].asleep);

	if (!known.asleep || known.peer_dead || peer_died || atomic_load(&lab_side->woken[LAB_PEER]) ||
	    atomic_load(&lab_side->killed[LAB_PEER]))
		return;
	if (anything_to_hear(LAB_PEER))
		failed("the peer sleeps for good, and has mail");
	else if (asleep == SEG_AWAKE)
		failed("the peer sleeps for good: nobody will wake it");
}

static void check_role(const struct may *may, bool peer, bool died)
{
	int i;

	if (got.strange_downs)
		failed("%s: %u DOWN of monitors that are undone or nobody's", peer ? "peer" : "other", got.strange_downs);
	for (i = 0; i < (peer ? known.peer_monitors : known.other_monitors); i++)
		if (got.downs[i] > 1 || (got.downs[i] == 0 && !died))
			failed("%s: %u DOWN of monitor %d", peer ? "peer" : "other", got.downs[i], i);
	if (peer) {
		if (got.order)
			failed("messages lost, twice, or not in order");
		if (got.torn)
			failed("a message is not what was sent");
		if (!died && (got.plain < may->sent_least || got.plain > may->sent_most))
			failed("%u messages, sent were %u to %u", got.plain, may->sent_least, may->sent_most);
		if (known.peer_traps && !died &&
		    (got.exits > (unsigned)(may->link_before || may->link_after) ||
		    got.exits < (unsigned)(may->link_before && may->link_after)))
			failed("%u EXIT, link %d, then %d", got.exits, may->link_before, may->link_after);
		if (!known.peer_traps && died && !known.peer_dead && !may->link_before && !may->link_after && !may->may_kill)
			failed("ended by a link that is not");
		if (!known.peer_traps && !died && may->link_before && may->link_after)
			failed("lives on, though linked");
	} else if (got.exits + got.signals != known.other_linked) { /* its reason may be one that reached it late */
		failed("other: %u EXIT", got.exits);
	}
}

/* A process that is alive holds nothing that concerns one that is gone. */
static void check_halves(void)
{
	uint32_t slot, bound;

	for (slot = 0; slot < LAB_SLOTS; slot++) {
		struct seg_slot *p = &proc.seg.slots[slot];
		uint32_t i = atomic_load(&p->own.holding);
		struct seg_node *n;

		if (seg_slot_state(&proc.seg, slot) != SEG_SLOT_ALIVE)
			continue;
		for (bound = 0; (n = seg_node(&proc.seg, i)); i = n->hnext) {
			if (!seg_is_there(&proc.seg, n->from))
				failed("slot %u holds half of a link or monitor (kind %d)", slot, atomic_load(&n->kind));
			if (n->to != atomic_load(&p->id) || atomic_load(&n->state) != SEG_BUSY)
				failed("slot %u holds a node that is not its", slot);
			if (++bound > 1000) {
				failed("slot %u: a list without end", slot);
				break;
			}
		}
	}
}

static void check_node(struct seg_node *n, uint32_t chunk)
{
	if (!seg_node_is_free(&proc.seg, n))
		failed("a node of %s %u is nobody's, not free: kind %d, index %u", chunk == UINT32_MAX ? "slot" : "chunk",
		    chunk == UINT32_MAX ? (unsigned)(((unsigned char *)n - (unsigned char *)proc.seg.slots) / (long)sizeof(struct seg_slot)) : chunk,
		    atomic_load(&n->kind), seg_index_of(&proc.seg, n));
}

/* All are dead but root: every node is free, and every chunk can be had. */
static void check_nodes(void)
{
	uint32_t i, c, used, orphans;

	for (i = 0; i < LAB_SLOTS * SEG_SLOT_NODES; i++)
		check_node((void *)(proc.seg.slots[i / SEG_SLOT_NODES].nodes + i % SEG_SLOT_NODES * SEG_NODE_SMALL), UINT32_MAX);
	for (c = 0; c < proc.seg.h->n_chunks; c++) {
		const struct seg_chunk *d = &proc.seg.chunks[c];
		uint32_t size = SEG_NODE_SMALL << d->class;

		if (atomic_load(&d->owner) == 0)
			continue;
		if (d->class == SEG_BIG) {
			if (d->run && d->pages)
				check_node((void *)seg_chunk_data(&proc.seg, c), c);
			continue;
		}
		for (i = 0; i < d->pages * 4096u / size; i++)
			check_node((void *)(seg_chunk_data(&proc.seg, c) + i * size), c);
	}
	seg_chunks_count(&proc.seg, &used, &orphans);
	if (used != orphans)
		failed("%u chunks in use, %u of them of the dead; all are dead", used, orphans);
	if (used) { /* all of them can be had */
		bool adopted;

		for (c = 0; c < proc.seg.h->n_chunks; c++)
			if (seg_chunk_claim(&proc.seg, 0, 3, 1, &adopted) < 0)
				break;
		if (c < proc.seg.h->n_chunks)
			failed("only %u of %u chunks are to be had", c, proc.seg.h->n_chunks);
		for (c = 0; c < proc.seg.h->n_chunks; c++) {
			proc.seg.chunks[c].pages = 16; /* they may hold anything: to be cleared */
			proc.seg.chunks[c].class = 3;
		}
	}
}

/* A new process, in the dead one's place, does all that one can do. */
static void check_fresh(bool peer_lives)
{
	static const char text[] = "fresh";
	bool t = true;
	unsigned i;
	cop_ref ref;

	lab_birth(LAB_FRESH, true);
	if (cop_whereis("victim").id != 0)
		failed("a dead process has its name still");
	lab_be(LAB_FRESH);
	if (cop_register("victim", pid_of(proc.id)) < 0)
		failed("the name is not to be had (errno %d)", errno);
	else if (cop_whereis("victim").id != proc.id)
		failed("the name is not who took it");
	memset(&got, 0, sizeof got);
	got.plain = 1000; /* none of the victim's may come any more */
	if (peer_lives) {
		ref = cop_monitor(to(known.peer));
		for (i = 0; i < MANY; i++) {
			lab_be(LAB_FRESH);
			if (cop_send_flags(to(known.peer), TAG_FRESH + i, text, sizeof text, COP_NOWAIT) < 0)
				failed("message %u of a new process: errno %d", i, errno);
			if (i % 8 == 7)
				(void)lab_ends(LAB_PEER, drain, &t);
		}
		(void)lab_ends(LAB_PEER, drain, &t);
		if (got.fresh != MANY || got.order || got.plain != 1000)
			failed("%u of %d messages of a new process%s%s", got.fresh, MANY, got.order ? ", not in order" : "",
			    got.plain != 1000 ? ", and old ones" : "");
		lab_be(LAB_FRESH);
		if (cop_link(pid_of(known.peer)) < 0)
			failed("a new process can not link");
		lab_bury(LAB_PEER);
		lab_be(LAB_FRESH);
		known.peer_monitor[0] = ref.id;
		known.peer_monitors = 1;
		memset(&got, 0, sizeof got);
		drain(&t);
		if (got.downs[0] != 1)
			failed("a new process: %u DOWN of the peer", got.downs[0]);
	}
}

static bool is_a_role(uint32_t slot)
{
	uint64_t id = atomic_load(&proc.seg.slots[slot].id);

	return id == known.peer || id == known.other || id == lab_id(LAB_REAPER);
}

/* Processes that the victim spawned. */
static void check_spawned(const struct play *play)
{
	uint32_t slot;

	for (slot = 1; slot < LAB_SLOTS; slot++) {
		struct cop_exit reason = { .kind = COP_EXIT_NORMAL };

		if (seg_slot_state(&proc.seg, slot) == SEG_SLOT_FREE || is_a_role(slot))
			continue;
		if (atomic_load(&proc.seg.pids[slot]) == 0)
			failed("an embryo is left in slot %u", slot);
		else if (strcmp(play->victim, "y") == 0 && !atomic_load(&lab_side->killed[slot]))
			failed("a linked child lives on");
		lab_be(LAB_ROOT);
		proc_bury(slot, &reason);
	}
}

void play_end(const struct play *play, bool reaper, unsigned variant)
{
	struct may may = expectation(play);
	bool t = true, f = false, died;
	uint64_t monitor = known.peer_monitor[0];
	int monitors = known.peer_monitors;
	struct seg_node *n;
	uint32_t i;

	peer_died = false;
	memset(&got, 0, sizeof got);
	if (known.peer_dead && (variant & 1))
		lab_bury(LAB_PEER);
	else if (variant & 1 && !reaper) /* the peer goes on before the death is known */
		peer_died = lab_ends(LAB_PEER, drain, &t) || atomic_load(&lab_side->killed[LAB_PEER]);
	if (reaper && (variant & 2))
		lab_bury(LAB_REAPER);
	if (seg_slot_by_pid(&proc.seg, LAB_PID + LAB_VICTIM) == LAB_VICTIM) /* else it is found by its number no more */
		lab_bury(LAB_VICTIM);
	if (reaper && !(variant & 2))
		lab_bury(LAB_REAPER);
	if (seg_is_there(&proc.seg, known.victim))
		failed("the victim is not buried");
	if (!(variant & 1))
		check_sleep();
	deaths();
	if (known.peer_dead && !(variant & 1))
		lab_bury(LAB_PEER);
	died = known.peer_dead || peer_died;
	lab_waits_for_kill = false;
	if (!died && lab_ends(LAB_PEER, drain, &t)) {
		died = true;
		if (lab_waits_for_kill && !atomic_load(&lab_side->killed[LAB_PEER]))
			failed("the peer waits for ever to be killed");
	}
	check_role(&may, true, died);
	if (lab_alive(LAB_PEER) && died)
		lab_bury(LAB_PEER);
	deaths();
	memset(&got, 0, sizeof got);
	if (lab_alive(LAB_OTHER)) {
		lab_be(LAB_OTHER);
		drain(&f);
		check_role(&may, false, false);
	}
	check_spawned(play);
	check_halves();
	check_fresh(!died);
	known.peer_monitor[0] = monitor;
	known.peer_monitors = monitors;
	for (i = LAB_OTHER; i < LAB_ROLES; i++)
		if (lab_alive((enum lab_role)i))
			lab_bury((enum lab_role)i);
	lab_be(LAB_ROOT);
	while ((n = proc_next()))
		proc_done(n);
	check_halves();
	check_nodes();
}

/* --- random runs --- */

static uint32_t dice(uint64_t *seed, uint32_t n)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return (uint32_t)(*seed >> 33) % n;
}

void play_random(struct play *play, uint64_t *seed)
{
	static const char first[] = "lumdsLMDSvT1234n5tttkz", then[] = "ssscblumdrrnNgek";
	uint32_t i, n = dice(seed, 12), big = 0;
	bool k = false, z = false;

	for (i = 0; i < n; i++) {
		char c = first[dice(seed, sizeof first - 1)];

		if (k && strchr("LMDS34k", c))
			c = 'm'; /* it is dead */
		if (c == 'z') {
			z = true;
			c = 's';
		}
		k |= c == 'k';
		play->before[i] = c;
	}
	if (z && dice(seed, 4) == 0)
		play->before[i++] = 'z';
	else if (dice(seed, 2))
		play->before[i++] = dice(seed, 2) ? 'a' : 'p';
	play->before[i] = '\0';
	n = 1 + dice(seed, 10);
	for (i = 0; i < n; i++) {
		play->victim[i] = then[dice(seed, sizeof then - 1)];
		if (play->victim[i] == 'b' && ++big > 4) /* there is not more memory */
			play->victim[i] = 's';
	}
	play->victim[i] = '\0';
	if (dice(seed, 8) == 0) {
		play->victim[0] = "xyz"[dice(seed, 3)];
		play->victim[1] = '\0';
	}
}
