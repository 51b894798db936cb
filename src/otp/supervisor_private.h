/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* The library's supervisor process, shared by supervisor*.c and the callers' side. */
#ifndef OTP_SUPERVISOR_PRIVATE_H
#define OTP_SUPERVISOR_PRIVATE_H

#include <sys/tree.h>
#include <sys/types.h>

#include <coppice/supervisor.h>

#include "ipc/loop.h"
#include "otp/server.h"
#include "otp/sup_core.h"
#include "proc/proc.h"

#define SUPERVISOR_ID_MAX 64

/* --- what travels (supervisor_wire.c) --- */

enum supervisor_tag {
	SUPERVISOR_START_CHILD = 0x53555001, /* "SU"; other numbers are other people's */
	SUPERVISOR_TERMINATE_CHILD, SUPERVISOR_TERMINATE_PID, SUPERVISOR_RESTART_CHILD,
	SUPERVISOR_DELETE_CHILD, SUPERVISOR_WHICH_CHILDREN, SUPERVISOR_COUNT_CHILDREN,
};

struct supervisor_reply {
	int32_t how;  /* enum cop_start, or 0 / -1 */
	int32_t err;  /* errno */
	uint64_t pid;
	struct cop_exit reason;
};

/* Bytes that a specification needs, and writing it; 0: it makes no sense, or is nested too deep. */
size_t supervisor_pack(const struct cop_child *child, void *buf, size_t size);
/* Reads one into memory of its own, which is all one block that free() ends. NULL with EBADMSG or ENOMEM. */
struct cop_child *supervisor_unpack(const void *buf, size_t len);

/* What is wrong with a specification, as OTP calls it; NULL: nothing. */
const char *supervisor_flags_fault(const struct cop_supervisor *spec);
const char *supervisor_children_fault(const struct cop_supervisor *spec);
const char *supervisor_child_fault(const struct cop_child *child, const struct cop_supervisor *of);

/* --- partition.c --- */
const char *partition_fault(const struct cop_supervisor *spec);
/* The specification of a partition supervisor, in the supervisor's own process, as that of an ordinary one. NULL with
 * ENOMEM. */
const struct cop_supervisor *partition_expand(const struct cop_supervisor *spec);

/* --- the process --- */

enum kid_kind { KID_SERVER, KID_FUNCTION, KID_SUPERVISOR, KID_PROGRAM };

/* In memory that children do not get (base/apart.h): what a new process needs is in struct birth. */
struct kid {
	struct supervisor *sv;
	uint32_t slot;           /* of the core */
	const struct cop_child *spec; /* in the supervisor's own; NULL: */
	void *packed;            /* one that came by start_child: as it came */
	size_t packed_len;
	uint8_t kind;            /* enum kid_kind */
	char id[SUPERVISOR_ID_MAX + 1];
	pid_t os_pid;            /* 0: no process */
	uint64_t pid;            /* of the present or last process; 0: an executable's */
	uint64_t up_pid;         /* of the last one that was started */
	RB_ENTRY(kid) by_os_pid;
	bool starting, ending;   /* to be started; STOP or KILL was sent */
	bool killed;
	bool acked;              /* it has said how its start went: */
	int32_t how;
	struct cop_exit how_reason;
	int down_fd;             /* a nested supervisor's orders; -1 */
	struct kid *next_free;
	struct loop_source status; /* an executable's: whether it could be executed */
	int exec_err;
	bool draining;           /* a supervisor that is dead, but not all it has left */
	struct cop_exit end;
	struct loop_timer timer, drain;
	int64_t drain_since_ms;
};
RB_HEAD(kids_by_os_pid, kid);

struct call {
	bool used;
	uint64_t from, ref;
	bool waits;              /* for its turn: not looked at yet */
	uint32_t tag;
	void *data;              /* of one that waits: a copy */
	size_t len;
};

struct supervisor {
	const struct cop_supervisor *spec;
	struct loop loop;
	struct sup *core;
	struct kid **kids;       /* by slot of the core; apart, as they are */
	uint32_t kids_cap;
	uint32_t n_kids;
	struct kid *free_kids;
	int *fds;                /* what new processes must not keep: ends of pipes that are for one child alone */
	uint32_t n_fds, cap_fds;
	struct loop_timer reap_later;
	struct kids_by_os_pid pids;
	struct call calls[SUP_CALLS_MAX];
	int up_r, up_w, sigfd;
	struct loop_source up_src, sig_src, down_src;
	int down_fd;             /* of our own parent's orders; -1 */
	struct kid *starting;    /* the one whose start is under way: there is one at a time */
	uint32_t n_draining;
	struct sup_event *queue; /* what happened while actions were taken */
	uint32_t queue_n, queue_cap;
	bool in_turn;            /* a call that waited is taken up: what it leads to is decided at once */
	bool acting, inited, may_spin, partitioned;
	bool ordered, order_fed; /* to end; the core has been told */
	struct cop_exit order;
	struct loop_timer order_timer, parent_timer, last_will, strays_timer;
	int64_t strays_next_ms;  /* not before */
	int64_t parent_died_ms;
	uint32_t n_calls;
};

/* supervisor.c */
void supervisor_feed(struct supervisor *sv, const struct sup_event *ev);
/* If the order to end waits for its turn: it has come, before whatever else there is to say. True if so. */
bool supervisor_order_first(struct supervisor *sv);
_Noreturn void supervisor_main(const struct cop_supervisor *spec, int down_fd);
struct kid *supervisor_find(struct supervisor *sv, const char *id);
void supervisor_report(struct supervisor *sv, enum cop_report_kind kind, struct kid *k, const struct cop_exit *reason);

/* supervisor_kid.c */
int kid_pid_cmp(struct kid *a, struct kid *b);
RB_PROTOTYPE(kids_by_os_pid, kid, by_os_pid, kid_pid_cmp)
/* Adds a child to the core. packed, if not NULL: spec as it came, which is copied. NULL with the errno of
 * sup_child_add(). */
struct kid *kid_add(struct supervisor *sv, const struct cop_child *spec, const void *packed, size_t len);
void kid_forget(struct kid *k);
void kid_start(struct kid *k);
void kid_stop(struct kid *k);
void kid_kill(struct kid *k);
void kid_acked(struct kid *k, const struct up_ack *ack);
void kid_reaped(struct kid *k, const struct cop_exit *reason);
/* Something else was reaped: perhaps the last of what a dead supervisor left. */
void kids_drained(struct supervisor *sv);

/* supervisor_api.c */
/* A call has come. The node is the caller's to free. */
void supervisor_call(struct supervisor *sv, const struct cop_msg *msg);
void supervisor_answer(struct supervisor *sv, const struct sup_action *a);

#endif
