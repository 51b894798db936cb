/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The supervisor's decisions as a pure state machine: OTP's supervisor and DynamicSupervisor
 * (start order, strategies, intensity, shutdown, auto_shutdown, the child API) with neither a
 * system call nor a clock in it. The owner turns what happens into events and carries out the
 * actions; time comes with each event.
 *
 * Like OTP's supervisor it does one thing at a time: while a child is starting or being
 * stopped, exits, retries and calls wait in a mailbox, in order. Unlike OTP's it never blocks
 * its owner, and a shutdown order does not wait for a start to finish.
 *
 * A child is named by its slot, a small number that is reused after SUP_ACT_FORGET. Memory is
 * allocated by sup_create(), sup_child_add() and sup_set_flags() alone.
 *
 * The contract for the owner, per child slot:
 *   SUP_ACT_START  -> later exactly one SUP_EV_STARTED (ok, ignore or failed), unless a STOP or
 *                     KILL for the slot comes first; then exactly one SUP_EV_EXITED. After
 *                     SUP_EV_SHUTDOWN a failed start may be an EXITED in any case
 *   a running child dies -> exactly one SUP_EV_EXITED, asked for or not
 *   SUP_ACT_TIMER  -> when that time has come, SUP_EV_TIMER for the slot; a later SUP_ACT_TIMER
 *                     for the slot replaces it, at_ms < 0 cancels it
 * A start that failed has left no process behind when it is reported.
 */
#ifndef OTP_SUP_CORE_H
#define OTP_SUP_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <coppice/exit.h>

enum sup_strategy { SUP_ONE_FOR_ONE, SUP_ONE_FOR_ALL, SUP_REST_FOR_ONE };
enum sup_auto_shutdown { SUP_AUTO_NEVER, SUP_AUTO_ANY_SIGNIFICANT, SUP_AUTO_ALL_SIGNIFICANT };
enum sup_restart { SUP_PERMANENT, SUP_TRANSIENT, SUP_TEMPORARY };

#define SUP_SHUTDOWN_INFINITY (-1)
#define SUP_SHUTDOWN_BRUTAL (-2)
#define SUP_NO_LIMIT UINT32_MAX
#define SUP_NONE UINT32_MAX /* no slot */

struct sup_flags {
	uint8_t strategy;      /* enum sup_strategy; dynamic: one_for_one */
	uint8_t auto_shutdown; /* enum sup_auto_shutdown; dynamic: never */
	bool dynamic;          /* DynamicSupervisor: children are forgotten when they end,
	                          max_children holds, children are stopped in parallel */
	uint32_t max_restarts; /* intensity */
	uint32_t max_seconds;  /* period, > 0 */
	uint32_t max_children; /* dynamic; SUP_NO_LIMIT */
};

/* Wait before a restart; beyond OTP, off when max_ms is 0. */
struct sup_backoff {
	uint32_t min_ms, max_ms;
	uint32_t factor_milli; /* 2000: doubles */
	uint32_t reset_ms;     /* after running so long it starts again from min */
};

struct sup_child_spec {
	uint8_t restart;       /* enum sup_restart */
	bool supervisor;       /* type, for counting */
	bool significant;
	bool enabled;          /* false: not started by init or a group, as if it had said ignore;
	                          an asked-for start (RESTART, CYCLE, START) makes it true */
	int32_t shutdown_ms;   /* >= 0, or SUP_SHUTDOWN_* */
	struct sup_backoff backoff;
};

/* Where a child stands. The first group has no process. */
enum sup_status {
	SUP_ST_NEVER,      /* not started yet */
	SUP_ST_IGNORED,    /* its start said ignore, or it is not enabled */
	SUP_ST_TERMINATED, /* stopped: asked for, or with its group */
	SUP_ST_EXITED,     /* ended and is not to be restarted */
	SUP_ST_FAILED,     /* an asked-for start failed */
	SUP_ST_RETRYING,   /* OTP's `restarting`: a retry is due */
	SUP_ST_BACKOFF,    /* `restarting`, waiting for its backoff */
	SUP_ST_STARTING,
	SUP_ST_RUNNING,
	SUP_ST_STOPPING,
};

enum sup_event_type {
	SUP_EV_INIT,     /* start all children */
	SUP_EV_STARTED,  /* slot, result, reason */
	SUP_EV_EXITED,   /* slot, reason */
	SUP_EV_TIMER,    /* slot */
	SUP_EV_CALL,     /* call, op, slot */
	SUP_EV_SHUTDOWN, /* the parent's order, or the owner's own end: reason */
};

enum sup_start_result { SUP_START_OK, SUP_START_IGNORE, SUP_START_FAILED };

/* The child API of a supervisor. */
enum sup_op {
	SUP_OP_START,     /* start_child: the slot was just added; a failure or (dynamic, or
	                     temporary) an ignore forgets it */
	SUP_OP_TERMINATE, /* terminate_child */
	SUP_OP_RESTART,   /* restart_child */
	SUP_OP_DELETE,    /* delete_child */
	SUP_OP_CYCLE,     /* beyond OTP: terminate if running, then restart_child */
};

struct sup_event {
	uint8_t type;    /* enum sup_event_type */
	uint8_t result;  /* enum sup_start_result */
	uint8_t op;      /* enum sup_op */
	bool interrupt;  /* CALL TERMINATE or CYCLE: do not wait for the start of this very child */
	uint32_t slot;
	uint64_t call;   /* the owner's name for a call, given back in the reply */
	int64_t now_ms;  /* monotonic */
	struct cop_exit reason;
};

enum sup_action_type {
	SUP_ACT_START,    /* create slot's process; restart tells whether a restart is the cause */
	SUP_ACT_STOP,     /* ask slot to end (exit signal `shutdown`) */
	SUP_ACT_KILL,     /* kill slot */
	SUP_ACT_TIMER,    /* slot, at_ms */
	SUP_ACT_REPLY,    /* call, reply, slot, reason (of a failed start) */
	SUP_ACT_INITED,   /* all children are started: tell the parent */
	SUP_ACT_RESTART,  /* report: a restart was decided because of slot; the children that will
	                     be started are those with sup_child_in_restart() */
	SUP_ACT_LIMIT,    /* report: intensity exceeded because of slot */
	SUP_ACT_FORGET,   /* slot's specification is gone; the slot may be reused after this */
	SUP_ACT_EXIT,     /* all children are gone: the supervisor ends with reason; slot is the child
	                     that caused it (auto_shutdown, failed start, limit) or SUP_NONE */
};

enum sup_reply {
	SUP_REPLY_OK,
	SUP_REPLY_IGNORED,         /* ok, but its start said ignore */
	SUP_REPLY_NOT_FOUND,
	SUP_REPLY_RUNNING,
	SUP_REPLY_RESTARTING,
	SUP_REPLY_FAILED,          /* the start failed: reason */
	SUP_REPLY_SHUTTING_DOWN,
};

struct sup_action {
	uint8_t type;  /* enum sup_action_type */
	uint8_t reply; /* enum sup_reply */
	bool restart;
	uint32_t slot;
	uint64_t call;
	int64_t at_ms;
	struct cop_exit reason;
	struct cop_exit cause; /* EXIT: how the child in slot ended; the slot may be forgotten by then */
};

#define SUP_CALLS_MAX 256 /* calls that may wait at once; see sup_call_room() */

struct sup;

/* Makes a supervisor without children. NULL with ENOMEM or EINVAL. */
struct sup *sup_create(const struct sup_flags *flags);
void sup_destroy(struct sup **s);

/* Adds a child behind `after` in start order (SUP_NONE: at the front; sup_last(): at the end).
 * Does not start it. Returns 0 and its slot, or -1: ENOMEM, EOVERFLOW (max_children; children
 * whose START still waits count), ECANCELED (the supervisor is ending), EINVAL (significant
 * against the rules). */
int sup_child_add(struct sup *s, const struct sup_child_spec *spec, uint32_t after, uint32_t *slot_r);

/* Replaces what supervision needs to know of a child; takes effect from the next decision. */
int sup_child_update(struct sup *s, uint32_t slot, const struct sup_child_spec *spec);

/* Moves a child behind `after` (SUP_NONE: to the front) in start order. Only while sup_idle(). 0, or -1 with
 * EINVAL or EBUSY. */
int sup_child_move(struct sup *s, uint32_t slot, uint32_t after);

/* Replaces flags (strategy, intensity, auto_shutdown, max_children); restarts counted so far
 * are kept. 0, or -1: ENOMEM, EINVAL. */
int sup_set_flags(struct sup *s, const struct sup_flags *flags);

/* Feeds one event. Decisions are made while actions are taken: take all of them, until
 * sup_next_action() returns false, before the next event. */
void sup_step(struct sup *s, const struct sup_event *ev);

/* Takes up a call before whatever waits. Only while the SUP_ACT_REPLY of a call is carried out whose slot was
 * SUP_NONE: that one has waited for this one's turn. */
void sup_call_now(struct sup *s, const struct sup_event *ev);

/* Takes the next action, in order; false when there is none. */
bool sup_next_action(struct sup *s, struct sup_action *act_r);

/* --- looking --- */
bool sup_call_room(const struct sup *s); /* a CALL event may be fed now */
bool sup_idle(const struct sup *s); /* nothing under way, nothing in the mailbox */
bool sup_ended(const struct sup *s);
enum sup_status sup_child_status(const struct sup *s, uint32_t slot);
const struct sup_child_spec *sup_child_get(const struct sup *s, uint32_t slot); /* NULL: no such child */
bool sup_child_in_restart(const struct sup *s, uint32_t slot); /* see SUP_ACT_RESTART */
/* Slots in start order: sup_first(), sup_next(); backwards: sup_last(), sup_prev(). */
uint32_t sup_first(const struct sup *s);
uint32_t sup_next(const struct sup *s, uint32_t slot);
uint32_t sup_last(const struct sup *s);
uint32_t sup_prev(const struct sup *s, uint32_t slot);
/* Highest slot ever used + 1: for arrays indexed by slot. */
uint32_t sup_slots(const struct sup *s);

struct sup_counts { uint32_t specs, active, supervisors, workers; };
void sup_count_children(const struct sup *s, struct sup_counts *counts_r);
/* Restarts that may still happen at this moment before the limit is hit. */
uint32_t sup_restarts_left(const struct sup *s, int64_t now_ms);
const struct sup_flags *sup_flags_get(const struct sup *s);

#endif
