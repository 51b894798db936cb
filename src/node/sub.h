/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A supervisor process as its parent sees it: fork, start, orders, death, and the end of
 * everything below it. Used by root for the top supervisor and by supervisors for nested ones.
 * Never blocks. Regime: allocates nothing; a start that finds no descriptor or process fails.
 */
#ifndef NODE_SUB_H
#define NODE_SUB_H

#include "base/text.h"
#include "ipc/group.h"
#include "ipc/loop.h"
#include "node/node.h"
#include "node/parent_link.h"

struct sub;

struct sub_ops {
	void (*created)(void *ctx, pid_t pid);
	void (*started)(void *ctx, uint32_t after_ms);
	/* gone, and everything below it too. final: what it said last, or NULL if it was killed.
	 * was_started tells whether started() was called. fork_errno: it never ran (pid 0). */
	void (*ended)(void *ctx, pid_t pid, bool was_started, const struct plink_msg *final, int wstatus,
	    uint64_t ran_ms, int fork_errno);
	void (*note)(void *ctx, const char *text);
	group_living_f *living;
};

struct sub {
	struct node *n;
	struct loop *loop;
	const struct group_base *base;
	const struct spec_child *spec;
	const struct sub_ops *ops;
	void *ctx;
	char name[TEXT_ID_MAX + 3]; /* of its cgroup */
	struct group group;
	pid_t pid;                /* 0: none */
	int link;                 /* upper end; -1 */
	struct loop_source src;
	struct loop_timer timer;  /* draining */
	bool alive;               /* the supervisor process itself is not reaped yet */
	bool started, final, killed;
	bool go_due, shutdown_due; /* orders that the link has not taken yet */
	struct loop_timer order_timer;
	struct plink_msg last;
	int wstatus;
	int64_t since_ms;
	uint64_t ran_ms;
	uint32_t drain_ms;        /* next look, growing */
	uint32_t drained_for_ms;
};

void sub_init(struct sub *s, struct node *n, struct loop *l, const struct group_base *base,
    const struct spec_child *spec, const struct sub_ops *ops, void *ctx);
/* Only when there is no process. */
void sub_fini(struct sub *s);
/* Forks. May call ended() at once when that fails. */
void sub_start(struct sub *s);
/* Sends the order to shut down; one that cannot be sent (it has stopped reading) is no error: its
 * shutdown time runs. */
void sub_shutdown(struct sub *s);
/* KILLs it and everything below. */
void sub_kill(struct sub *s);
/* Passes a signal on to its workers. */
void sub_signal_workers(struct sub *s, int sig);
/* This pid was reaped; true if it was this supervisor. */
bool sub_reaped(struct sub *s, pid_t pid, int wstatus);
/* Some orphan was reaped. */
void sub_orphan_reaped(struct sub *s);

#endif
