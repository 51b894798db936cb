/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A vocabulary for tests of the supervisor core: a case reads like a transcript. Children are
 * letters, in start order; each line feeds something and EXPECT() tells all that the supervisor
 * does about it, in order:
 *
 *     supervisor(SUP_REST_FOR_ONE, 3);
 *     add_all("abcd");
 *     up();
 *     died('b', "signal:KILL");
 *     EXPECT("restart b:bcd, stop d, stop c, start b, start c, start d");
 *
 * By default a start succeeds and a stop is obeyed at once; hold(c) leaves both to the case.
 * One supervisor at a time; each case has a process of its own.
 */
#ifndef UNIT_SUP_PLAY_H
#define UNIT_SUP_PLAY_H

#include "t.h"

#include "otp/sup_core.h"

enum { NAMES = 26 };

extern struct sup *s;
extern int64_t now;
extern char out[8192];          /* what it did since the last EXPECT() */
extern uint32_t slot_of[NAMES];
extern char name_of[256];       /* of a slot */
extern int fails[NAMES], ignores[NAMES]; /* how many of the next starts do so */
extern int64_t timer[NAMES];    /* when it goes off; -1: none */

extern const struct sup_child_spec permanent, transient, temporary;
struct sup_child_spec with_shutdown(struct sup_child_spec spec, int32_t ms);
struct sup_child_spec significant(struct sup_child_spec spec);

#define EXPECT(text) \
	do { \
		T_EQ_STR(out, text); \
		out[0] = '\0'; \
	} while (0)

/* How the children stand: `a+` runs, `b-` does not, `c~` is restarting. */
const char *standing(void);

uint32_t slot_named(char name);
struct cop_exit reason_of(const char *text);

void supervisor(enum sup_strategy strategy, uint32_t max_restarts);
void supervisor_auto(enum sup_auto_shutdown auto_shutdown);
void dynamic(uint32_t max_restarts, uint32_t max_children);
void done(void);

void add(char name, struct sup_child_spec spec);
void add_all(const char *names); /* permanent ones */
/* Starts all and forgets what that looked like. */
void up(void);

void died(char name, const char *reason);
/* Several at one instant: all have died before the supervisor hears of the first. */
void all_died(const char *names);

/* From now on the case itself answers for this child, with started() and died(). */
void hold(char name);
void release(char name);
void started(char name, enum sup_start_result result);

/* Calls are numbered from 1. */
void call(enum sup_op op, char name);
void call_with(enum sup_op op, char name, bool interrupt);
void start_child(char name, struct sup_child_spec spec);
void shutdown_order(const char *reason);

/* Lets time pass; timers go off. */
void pass(int64_t ms);

/* Feeds any event, and what follows from it; or keeps one for after the next. */
void feed(struct sup_event ev);
void soon(struct sup_event ev);

#endif
