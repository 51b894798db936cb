/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A laboratory for the deaths of processes: a segment whose processes are roles that one program plays in
 * turn, by exchanging what a process has for itself (struct proc). What they would do to the system is
 * noted instead: wake-ups, kills and clones are single stores into a page that is kept with the segment's
 * pictures. So any state of the segment can be gone back to, and gone on from.
 */
#ifndef KILL_LAB_H
#define KILL_LAB_H

#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

#include "proc/proc.h"

#define LAB_SLOTS 8
#define LAB_PID 4194304 /* no process of the system can have this, or a higher, number */

/* The roles, and their slots. */
enum lab_role { LAB_ROOT, LAB_VICTIM, LAB_PEER, LAB_OTHER, LAB_REAPER, LAB_FRESH, LAB_ROLES };

/* What the victim has done to the system, and how far it has come; one writer at a time. */
struct lab_side {
	_Atomic uint32_t done;             /* the victim's part is over */
	_Atomic uint32_t acked;            /* of the victim's operations, so many have returned */
	_Atomic uint32_t woken[LAB_SLOTS]; /* its futex was woken, or SIGURG sent */
	_Atomic uint32_t killed[LAB_SLOTS];
};
extern struct lab_side *lab_side;
extern bool lab_waits_for_kill; /* a role that ends does not exit, but waits to be killed by who said so first */

/* A picture of the segment and the page beside it. */
struct lab_image {
	size_t bytes, cap;
	unsigned char *data;
};

/* Makes the segment, and root's role. */
void lab_open(void);
/* A new segment with the same address: nothing of what was is left. */
void lab_renew(void);
/* Makes a process for a role, in a slot of root's choice: which must be the role's own, but for LAB_FRESH. */
void lab_birth(enum lab_role role, bool reaps);
/* Plays a role. */
void lab_be(enum lab_role role);
/* What the roles have for themselves now is what lab_rewind() goes back to. */
void lab_mark(void);
void lab_rewind(void);

void lab_keep(struct lab_image *image);
void lab_restore(const struct lab_image *image);
bool lab_is_as(const struct lab_image *image);
uint64_t lab_hash(const struct lab_image *image);

bool lab_alive(enum lab_role role);
uint64_t lab_id(enum lab_role role);
/* Root buries a role, which has been killed. */
void lab_bury(enum lab_role role);
/* Runs f as a role; true if it ended the process instead of returning. It is not buried then. */
bool lab_ends(enum lab_role role, void (*f)(void *), void *arg);

#endif
