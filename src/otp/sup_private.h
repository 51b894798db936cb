/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* The state of a supervisor core, shared by sup_*.c alone. */
#ifndef OTP_SUP_PRIVATE_H
#define OTP_SUP_PRIVATE_H

#include "otp/sup_core.h"
#include "otp/sup_intensity.h"

/* --- sup_backoff.c --- */
/* The next delay after one of prev_ms (0: none yet), the process having run for ran_ms. 0: off. */
uint32_t sup_backoff_next(const struct sup_backoff *b, uint32_t prev_ms, int64_t ran_ms);

/* --- sup_mailbox.c: what waits, in order of arrival; memory is in the children and calls --- */
enum sup_item { SUP_ITEM_EXIT, SUP_ITEM_RETRY, SUP_ITEMS };

struct sup_node {
	uint32_t prev, next; /* node numbers; SUP_NONE */
	bool queued;
};

/* Node numbers: slot * SUP_ITEMS + item, or SUP_CALL_BASE + call slot. */
#define SUP_CALL_BASE 0x80000000u

struct sup_call {
	struct sup_node node;
	bool used;
	uint8_t op;
	uint32_t slot;
	uint64_t call;
};

struct sup_child {
	struct sup_child_spec spec;
	bool used;
	bool pending_add;     /* added, its START call not yet taken up: no group contains it */
	bool in_range;        /* member of the group under way */
	bool timer;           /* a timer was asked for */
	bool exit_waiting;    /* died by itself; the exit is in the mailbox */
	uint8_t status;       /* enum sup_status */
	uint32_t prev, next;  /* start order */
	struct sup_node node[SUP_ITEMS];
	struct cop_exit exit; /* the last one */
	int64_t started_ms;   /* of the last process; -1: none was ever up */
	int64_t ran_ms;       /* of the process that died last; 0 if it was never up */
	uint32_t delay_ms;    /* last backoff */
};

enum sup_phase {
	SUP_PH_NEW,        /* before INIT */
	SUP_PH_IDLE,
	SUP_PH_STOP,       /* stopping a range, last to first, one at a time; at cursor */
	SUP_PH_STOP_WAIT,  /* waiting for cursor to be gone */
	SUP_PH_STOP_ALL,   /* asking all at once (dynamic), first to last; at cursor */
	SUP_PH_STOP_ALL_WAIT,
	SUP_PH_START,      /* starting a range, first to last; at cursor */
	SUP_PH_START_WAIT, /* waiting for cursor to be started */
	SUP_PH_ENDED,
};

enum sup_doing { SUP_DO_NOTHING, SUP_DO_INIT, SUP_DO_RESTART, SUP_DO_CALL, SUP_DO_EXIT };

#define SUP_RING 32 /* actions of one small step */

struct sup {
	struct sup_flags flags;
	struct sup_intensity intensity;
	struct sup_child *child;
	uint32_t slots, cap;     /* used so far; allocated */
	uint32_t free;           /* list of forgotten slots through .next */
	uint32_t first, last;    /* start order */
	uint32_t n_specs;

	uint32_t mail_first, mail_last;
	struct sup_call calls[SUP_CALLS_MAX];
	uint32_t n_calls;

	uint8_t phase;           /* enum sup_phase */
	uint8_t doing;           /* enum sup_doing */
	bool single;             /* the range is `subject` alone */
	bool shutdown;           /* the parent's order is to be taken */
	bool interrupted;        /* the starting child is being stopped by `interrupt` */
	bool cycling;            /* and is being started again by it */
	uint32_t cursor;
	uint32_t subject;        /* child that the restart, call or exit is about */
	uint32_t waiting;        /* STOP_ALL: processes not yet gone */
	struct sup_call call;    /* DO_CALL: the call; */
	struct sup_call interrupt;
	uint32_t delay_ms;       /* DO_RESTART: wait before the start */
	struct cop_exit reason, cause; /* DO_EXIT */
	struct cop_exit shutdown_reason;
	int64_t now_ms;

	struct sup_action ring[SUP_RING];
	uint32_t ring_head, ring_n;
};

void sup_mail_push(struct sup *s, uint32_t node);
void sup_mail_remove(struct sup *s, uint32_t node);
uint32_t sup_mail_pop(struct sup *s); /* SUP_NONE: empty */
uint32_t sup_mail_pop_call(struct sup *s); /* the first call; SUP_NONE: there is none */
/* Takes out what is about slot; waiting calls for it will find no such child, even if the slot
 * is somebody else's by then. */
void sup_mail_forget(struct sup *s, uint32_t slot);

/* --- sup_children.c: slots and start order --- */
bool sup_slot_used(const struct sup *s, uint32_t slot);
void sup_child_forget(struct sup *s, uint32_t slot); /* frees the slot; emits nothing */

#endif
