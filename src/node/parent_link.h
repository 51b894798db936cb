/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What a supervisor process and its parent (root or a supervisor) say to each other over the
 * socket pair made at the fork. This and waitid are all that supervision needs. Packets of a
 * few bytes; the kernel keeps what a dead supervisor has said.
 */
#ifndef NODE_PARENT_LINK_H
#define NODE_PARENT_LINK_H

#include <stdbool.h>
#include <stdint.h>

#include <coppice/exit.h>
#include "node/spec.h"

enum plink_kind {
	PLINK_GO = 1,       /* down: its start is recorded, it may begin: so no event of its own comes
	                       before that of its start */
	PLINK_SHUTDOWN,     /* down: OTP's exit signal `shutdown` */
	PLINK_SIGNAL,       /* down: value is a signal for the main processes of all workers
	                       (run -- CMD: root passes on what it gets) */
	PLINK_STARTED,      /* up: all children are started */
	PLINK_FINAL,        /* up: all children are gone; the last thing said */
};

/* Why a supervisor ended. */
enum plink_how {
	PLINK_ASKED,   /* by its parent */
	PLINK_LIMIT,   /* it used up its restarts */
	PLINK_AUTO,    /* auto_shutdown */
	PLINK_INIT,    /* a child could not be started at first */
};

struct plink_msg {
	uint8_t kind;
	uint8_t how;             /* FINAL */
	uint8_t has_cause;       /* FINAL */
	int32_t value;           /* SIGNAL */
	struct cop_exit reason;  /* FINAL: the supervisor's exit reason */
	struct cop_exit cause;   /* FINAL: how the child ended that caused it, the innermost one */
	char cause_path[SPEC_PATH_MAX]; /* FINAL: its path */
};

#define PLINK_MAX 1024

/* Makes the pair: [0] for the parent, [1] for the supervisor. 0 or -1. */
int plink_open(int fd_r[2]);
/* 0, or -1 with errno (EAGAIN: the other side has stopped reading). */
int plink_send(int fd, const struct plink_msg *m);
/* 1: got one, 0: nothing there, -1: the other side is gone or talks nonsense. */
int plink_recv(int fd, struct plink_msg *m_r);

#endif
