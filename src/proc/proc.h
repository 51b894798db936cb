/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A process of a node as the layers above see it beyond the public headers: what the parts of proc/ share,
 * what a supervisor needs to make and bury processes, and what a server needs to answer.
 *
 * How links and monitors are kept. Each is two nodes, both made by whoever asks for it: its own half, which
 * it holds itself, and the other half, which is sent as a signal and then held by the receiver. Held nodes
 * are in a list whose head is in the holder's slot. When a process is dead, its reaper turns every node that
 * it held round and sends it as the EXIT or DOWN to the other side: telling of a death needs no memory.
 *
 *   node kind     of            to (holder)  from (other side)   ref       peer
 *   HELD_LINK     a link        holder       linked with         of pair   the other half
 *   HELD_MONITOR  my monitor    watcher      watched             of it     the watched one's half
 *   HELD_WATCHER  somebody's    watched      watcher             of it     the watcher's half
 */
#ifndef PROC_PROC_H
#define PROC_PROC_H

#include <signal.h>

#include <coppice/message.h>
#include <coppice/node.h>
#include <coppice/process.h>
#include <coppice/server.h>

#include "ipc/inbox.h"
#include "ipc/pool.h"
#include "ipc/segment.h"

enum proc_kind {
	/* messages: they are received */
	NODE_PLAIN, NODE_CALL, NODE_CAST, NODE_EXIT, NODE_DOWN, NODE_READY, NODE_SIGNAL,
	NODE_STOP,        /* cop_server_stop(): data is the reason */
	NODE_ACK,         /* a start's outcome, to who started it: tag is an enum cop_start, data the reason */
	NODE_REPLY,       /* to a request that is waited for */
	/* signals: they act when they are taken in */
	NODE_LINK, NODE_UNLINK, NODE_MONITOR, NODE_DEMONITOR,
	NODE_LINK_EXIT,   /* the other side of a link is dead: data is the reason */
	NODE_EXIT_SIGNAL, /* exit/2: data is the reason */
	NODE_TIMER,       /* to be received when it has run: see timer.c */
	/* held */
	HELD_LINK, HELD_MONITOR, HELD_WATCHER, HELD_TIMER,
	NODE_BEING_MADE,
};

#define SIG_PARENT_DIED (SIGRTMAX - 1) /* to processes that trap exits */

#define PROC_HELD_MAX (1u << 23) /* halves of one process that its reaper looks at: a list that was made a ring ends */

struct proc_queue {       /* of node indices */
	uint32_t *node;   /* cap is a power of two */
	uint32_t head, n, cap;
};

struct proc_timer {
	int64_t at_ns;    /* monotonic */
	uint64_t ref;
	uint32_t node;
};

#define PROC_TIMER_HEAD 80 /* bytes before the message in a timer's node (timer.c) */
#define PROC_REQUESTS 64  /* that may be waited for at once */

struct proc {
	struct seg seg;
	bool in_node;
	uint32_t me;
	uint64_t id;
	struct seg_slot *slot;
	struct pool pool;
	uint64_t serial;         /* of references */
	bool is_parent;          /* root or supervisor: what it spawns is its child */
	int parent_os_pid;
	uint64_t parent;         /* Unix parent */
	uint64_t starter;        /* whose exit signal ends a server */
	bool parented;           /* the starter is a parent as OTP means it: linked, or a supervisor */
	bool starter_waits;      /* for an ack */
	uint64_t starting;       /* id of the process whose ack we wait for */
	int up_fd;               /* of the parent, for acks; -1 */

	struct proc_queue queue;
	bool has_linked;         /* by cop_link(): others may ask for the same link at the same time */
	uint64_t taken;          /* how often something was taken in */
	struct proc_queue answers; /* replies and acks that are waited for, and the ends of proc_monitor() */
	uint32_t *batch;         /* of one take */
	uint32_t batch_cap;
	struct proc_timer *timers; /* a heap */
	uint32_t n_timers, cap_timers;
	uint64_t request[PROC_REQUESTS]; /* refs that a reply may come for; 0 free */
	uint64_t request_monitor[PROC_REQUESTS];
	uint32_t n_requests;

	uint32_t last_from;      /* slot of the last sender */
	uint32_t budget;         /* PAUSEs to spend on waiting for anybody */
	uint32_t streak;         /* batches of one-way messages taken since it slept */

	int epfd, sigfd;         /* -1 until descriptors or signals are selected */
	uint64_t selected_signals;

	int64_t send_until;      /* a send does not wait longer; 0: for ever */
	void (*exiting)(const struct cop_exit *reason); /* a server's terminate */
	cop_report_f *report;
	bool quiet;
};

/* Tests with threads in place of processes give each one of its own. */
#ifdef PROC_THREADS
#define PROC_LOCAL _Thread_local
#else
#define PROC_LOCAL
#endif
extern PROC_LOCAL struct proc proc;

/* Aborts with a line that names the function unless the caller is in a node. */
#define PROC_REQUIRE() \
	do { \
		if (__builtin_expect(!proc.in_node, 0)) \
			proc_not_in_node(__func__); \
	} while (0)
_Noreturn void proc_not_in_node(const char *what);

/* Never COP_NOREF: the lower half of the serial is not 0, whatever the node is. */
static inline uint64_t proc_new_ref(uint32_t node)
{
	if ((uint32_t)++proc.serial == 0)
		proc.serial++;
	return (proc.serial << 32) | node;
}

/* --- spawn.c --- */
struct proc_spawn {
	cop_proc_f *f;
	void *arg;
	bool link, monitor;
	bool acks;               /* it will say how its start went */
	bool supervisor;         /* it will be a parent itself */
	int up_fd;               /* a supervisor's child: where it acks; -1 */
	const char *label;
	int *os_pid_r;           /* NULL: not wanted */
};
/* 0 and the process (and the monitor's reference), or -1 with errno. */
int proc_spawn(const struct proc_spawn *how, cop_pid *pid_r, cop_ref *ref_r);
/* The executable's process that a supervisor forks: no slot, no memory of the segment used. In the child
 * returns 0. */
int proc_fork_plain(void);
/* Once after the Unix parent of a process that traps exits has died: true. */
extern volatile sig_atomic_t proc_parent_died;
bool proc_parent_is_gone(void);
/* Makes the calling process, a forked one, the process of slot `me`. */
void proc_become(uint32_t me, uint64_t id, const struct proc_spawn *how);

/* --- exit.c --- */
/* Ends the calling process at once: no terminate. */
_Noreturn void proc_die(const struct cop_exit *reason);
/* An exit signal that does not come from a link. False: there is no memory to say it to one that traps exits. */
bool proc_exit_signal(uint64_t to, uint64_t from, const struct cop_exit *reason);
/* Ends another process without its help; the reason is recorded first. */
void proc_end_other(uint64_t id, const struct cop_exit *reason);
/* The same of one that may be linked with the caller and whose end is not to reach it. The link is undone only when it
 * is sure that the other ends, even if the caller does before. */
void proc_end_unlinked(uint64_t id, const struct cop_exit *reason);
/* Records the reason with which one that does not trap exits is about to be ended. */
void proc_condemn(uint64_t id, const struct cop_exit *reason);
void proc_finish_kill(uint32_t dead);
/* A reason as read from shared memory: valid whatever was there. */
struct cop_exit proc_sane_exit(const struct cop_exit *shared);
bool proc_is_kill(const struct cop_exit *reason);

/* --- death.c --- */
/* What waitid() found, as waitpid() would say it. */
int proc_wstatus(const siginfo_t *si);
/* Why a process that was waited for has ended. */
struct cop_exit proc_exit_reason(uint32_t slot, int wstatus);
/* Everything that the death of a slot's process leads to for others: name, links, monitors, memory. The process
 * must be dead. May be done again after it was interrupted. The slot is free afterwards. */
void proc_bury(uint32_t slot, const struct cop_exit *reason);
/* Why a process ended, if that was not long ago. */
bool proc_last_reason(uint64_t id, struct cop_exit *reason_r);
/* Buries and reaps children that have ended, and calls found() for each (id 0: it was no process of the node). first:
 * a pid that is known to have ended, or 0. all: every one that there is, which looks at all children. */
typedef void proc_reaped_f(void *ctx, int os_pid, uint64_t id, const struct cop_exit *reason, int wstatus);
void proc_reap(int first, bool all, proc_reaped_f *found, void *ctx);

/* --- signal.c --- */
/* Takes in what is in the inbox: signals act, messages go to the queue. 1 if anything came, 0, or -1 with ENOMEM.
 * May end the process. */
int proc_take(void);
/* Integrates one signal node of a dead or living process p into what it holds; messages are left alone. */
void proc_hold(struct seg_slot *p, struct seg_node *n);
void proc_unhold(struct seg_slot *p, struct seg_node *n);
/* The other half of a link or monitor if it is still that. */
struct seg_node *proc_half(uint32_t index, uint64_t ref, uint64_t holder, enum proc_kind kind);
/* Whether the other side of a link, whose half is n, has not undone it. */
bool proc_is_linked(const struct seg_node *n);
/* A link or watcher half sent back. For processes that are dying, by their reaper; p is the holder. */
void proc_turn(struct seg_slot *p, struct seg_node *n, const struct cop_exit *reason);
void proc_undo_take(struct seg_slot *p);
int proc_link(uint64_t with);
/* Makes the two halves of a link or a monitor: mine is held, the other's index is returned, not sent. 0: ENOMEM. */
uint32_t proc_make_pair(enum proc_kind signal, uint64_t other, uint64_t *ref_r);
#define PROC_OWN_MONITOR 1u /* tag of a monitor whose DOWN is an answer, not a message */
/* As cop_monitor(), for waiting with proc_answer(). */
cop_ref proc_monitor(uint64_t id);
/* Whether it can be made without waiting: it takes two small nodes. */
bool proc_can_monitor(void);
/* Makes a monitor that a process was born with one of these. */
void proc_own_monitor(cop_ref ref);
/* Whether a monitor of ours has neither fired nor been ended. So long replies to its reference arrive, too. */
bool proc_is_monitored(cop_ref ref);
/* Puts a message of the library's own into the queue. */
void proc_put_local(enum proc_kind kind, uint64_t from, uint64_t ref, const struct cop_exit *reason);

/* Links with a process that the caller is not linked with, without looking for that: for those with very many links.
 * The link's reference, or 0: it is gone (ESRCH), or ENOMEM. */
uint64_t proc_link_new(uint64_t with);
/* Undoes that one, as cop_unlink(). */
void proc_unlink_ref(uint64_t ref);

/* --- send.c --- */
/* Resolves; 0 if there is no such name. */
uint64_t proc_resolve(struct cop_dest to);
/* Who has a name in a registry, which a layer above keeps; it sets this before it makes such a destination. */
extern uint64_t (*proc_resolve_via)(const struct cop_via *via);
static inline bool proc_is_named(struct cop_dest to)
{
	return to.name || to.via;
}
/* A node for len bytes, waiting for room in the quota unless COP_NOWAIT. NULL with errno. */
struct seg_node *proc_node(size_t len, unsigned flags);
/* Sends a node, whose kind, ref, tag, len and data are set, to a process. It is freed if that is gone. false: is
 * gone. limited: a full mailbox makes it wait, or (COP_NOWAIT) fail with EAGAIN, -1. */
enum proc_sent { PROC_SENT, PROC_GONE, PROC_WOULD_BLOCK };
enum proc_sent proc_send(uint64_t to, struct seg_node *n, bool limited, unsigned flags);
enum proc_sent proc_send_quiet(uint64_t to, struct seg_node *n);
/* A small message of the library. False: the receiver is gone (ESRCH), or there is no memory for it (another errno). */
bool proc_tell(uint64_t to, enum proc_kind kind, uint64_t ref, uint32_t tag, const void *data, size_t len);

/* --- receive.c --- */
/* Doubles the room of a queue. False: memory is out, nothing is changed. */
bool proc_queue_grow(struct proc_queue *q);
bool proc_queue_put(struct proc_queue *q, uint32_t node);
void proc_queue_clear(struct proc_queue *q);
/* Makes the public form of a node. False: it is not a message (any more). */
bool proc_msg(struct cop_msg *msg, struct seg_node *n);
/* Takes the oldest message out of the queue, taking in what has come if it is empty. NULL: there is none. */
struct seg_node *proc_next(void);
/* Waits until something may have come, or until_ns (monotonic; < 0: for ever). seen: proc.taken as it was when the
 * caller looked at what it waits for; when more was taken in since, whoever did that, this does not wait. who: -1
 * for anybody, -2 for an answer that is not worth spinning for. */
void proc_wait(int64_t until_ns, uint64_t seen, int who);
/* Spins for a reply of this process, if that is worth it. True if something came. */
bool proc_spin_for_reply(uint64_t server);
/* Takes out the message of a kind with a ref, or (by_from) of a process; NULL. */
struct seg_node *proc_find(enum proc_kind kind, uint64_t value, bool by_from);
/* The same of what the library waits for, as far as it was taken in: NODE_REPLY, NODE_ACK, and NODE_DOWN of
 * proc_monitor(). However long the mailbox is, it is not looked through. Takes nothing in, so that who waits for one
 * of two looks at both as of one instant. */
struct seg_node *proc_answer(enum proc_kind kind, uint64_t ref);
/* The oldest one that is wanted. */
typedef bool proc_wants_f(void *ctx, const struct seg_node *n);
struct seg_node *proc_answer_if(proc_wants_f *wants, void *ctx);
/* Waits for it until until_ns, as proc_wait(). NULL: the time is over. */
struct seg_node *proc_await_if(proc_wants_f *wants, void *ctx, int64_t until_ns);
void proc_done(struct seg_node *n);
int64_t proc_deadline_ns(int64_t timeout_ms);
void proc_descriptors_forked(void);

/* --- timer.c --- */
/* Monotonic time of the next timer, or -1. */
int64_t proc_timers_next(void);
/* Puts what has run out into the queue. True if anything. */
bool proc_timers_run(void);
bool proc_timer_add(struct seg_node *n);

/* --- request.c --- */
/* A reply may come for ref from now on. -1: too many. */
int proc_expect(uint64_t ref);
bool proc_is_expected(uint64_t ref);
void proc_unexpect(uint64_t ref);

/* --- name.c --- */
/* Takes the name from a process that is dead, or that gives it up. */
void proc_unname(uint32_t slot);

/* --- report.c --- */
void proc_report(struct cop_report *r);

/* --- node.c --- */
int proc_node_create(const struct cop_node_options *options);

#endif
