/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The state of the model, shared by model*.c alone: model_mail.c has the list of children and
 * the mailbox, model_wait.c what blocks (start and shutdown), model.c the decisions.
 */
#ifndef SIM_MODEL_PRIVATE_H
#define SIM_MODEL_PRIVATE_H

#include "model.h"

enum { MAIL_MAX = 4 * HISTORY_ITEMS + 4 * HISTORY_KEYS, RESTARTS_MAX = 400 };

enum mail_type { MAIL_EXIT, MAIL_TRY_AGAIN, MAIL_TIMER, MAIL_CALL };

struct mail {
	uint8_t type;
	bool waited; /* was behind something */
	struct sup_event ev;
};

struct child {
	bool here; /* in the list */
	struct sup_child_spec spec;
	enum sup_status status;
	int64_t delay_ms; /* the last one waited; 0: none */
	int64_t ready_at; /* since when it runs */
	int64_t ended_at;
	bool ran; /* since the last delay was chosen */
};

struct model {
	struct world w;
	struct trace *t;
	bool *met;
	struct sup_flags flags;
	struct child child[HISTORY_KEYS]; /* by key */
	uint32_t list[HISTORY_KEYS];      /* keys in start order */
	uint32_t n;
	struct mail mail[MAIL_MAX];
	uint32_t mails;
	int64_t restarts[RESTARTS_MAX]; /* whole seconds, newest first */
	uint32_t restart_count;
	bool ordered; /* a shutdown order has come */
	struct cop_exit order;
	struct sup_event interrupt; /* the call that cut start() short */
	bool no_interrupt;          /* one at a time */
	bool unanswered;            /* it waits for its answer until the end */
	uint8_t strategy; /* of the restart under way: as it was when that was decided */
	bool in_group, in_call, ending, ended;
};

enum result { OK, IGNORED, FAILED, ORDERED, CUT };

/* --- model_mail.c --- */
/* Notes that a situation was met. */
void model_met(struct model *m, enum model_situation s);
/* Writes an action. */
void model_act(struct model *m, enum sup_action_type type, uint32_t key);
/* Answers a call; why: of a failed start, or NULL. */
void model_reply(struct model *m, const struct sup_event *call, enum sup_reply what, const struct cop_exit *why);
/* Is it forgotten when it ends? */
bool model_temporary(const struct model *m, uint32_t key);
/* OTP's `restarting`. */
bool model_restarting(const struct model *m, uint32_t key);
/* Has it a process? */
bool model_alive(const struct model *m, uint32_t key);
/* Takes a child out of the list: its specification is gone. */
void model_drop(struct model *m, uint32_t key);
/* Adds one at the end. */
void model_add(struct model *m, uint32_t key);
/* Its place in the list, from 0. */
uint32_t model_place(const struct model *m, uint32_t key);
/* Appends a message. */
void model_push(struct model *m, enum mail_type type, const struct sup_event *ev);
/* Takes message i out. */
void model_take(struct model *m, uint32_t i, struct mail *mail_r);
/* Takes a pending exit or retry of key out of the mailbox. */
bool model_take_of(struct model *m, enum mail_type type, uint32_t key);
/* Waits for the next thing from outside. What concerns nobody is done with here. Returns
 * false if the world is over. */
bool model_receive(struct model *m, struct sup_event *ev);
/* Answers a call that waited when the end began. A new child was handed over with its call, so
 * it is in the list from now on. */
void model_refuse(struct model *m, const struct sup_event *ev);
/* Keeps for later what was not waited for. */
void model_later(struct model *m, const struct sup_event *ev);

/* --- model_wait.c --- */
/* Stops it, whatever it is doing; keeps the specification. */
void model_terminate_keep(struct model *m, uint32_t key);
/* As a part of a list, or at the end. */
void model_terminate_one(struct model *m, uint32_t key);
/* Stops the children from place `first` on, last one first, but not `except`. */
void model_terminate_list(struct model *m, uint32_t first, uint32_t except);
/* As start(), with interrupting calls served. */
enum result model_start_child(struct model *m, uint32_t key, bool again, struct cop_exit *why_r);
/* An ignoring temporary child leaves the list. */
void model_ignored(struct model *m, uint32_t key);
/* Starts the children from place `first` on, in order; cause is the child that makes it a
 * restart, or SUP_NONE. A disabled child counts as ignoring, but keeps its place, so that it can
 * be started by a call. The one that failed is in failed_r. */
enum result model_start_list(struct model *m, uint32_t first, uint32_t cause, uint32_t *failed_r,
	struct cop_exit *why_r);
/* Stops everything and ends; cause is how the child key, which brought this about, ended. */
void model_terminate(struct model *m, struct cop_exit reason, uint32_t key, const struct cop_exit *cause);

#endif
