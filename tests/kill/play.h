/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What happens in a run, and what must be true of its end. A run is two words of letters: what has happened
 * before, and what the victim does while it is stepped through.
 *
 *   before   l u m d s  the peer links with, unlinks, monitors, demonitors, sends to the victim
 *            L M D S    the other one does
 *            t          the peer traps exits       v   the victim does
 *            a p        the peer sleeps: in the futex, in poll
 *            T          the victim takes in what has come
 *            1 2 3 4    the victim links with, monitors the peer; with the other one
 *            n          the victim has a name
 *            5          the victim sends the peer a message
 *            z          the peer is dead, not yet buried
 *            k K        the other one is killed and buried; has half been buried
 *   victim   s c b      sends the peer a small, a larger, a big message
 *            l u m d    links with, unlinks, monitors, demonitors the peer
 *            r          receives
 *            n N        takes, gives up a name    g   gives the peer a name
 *            e k        sends the peer an exit signal; `kill`
 *            x y z      spawns; and links; and monitors
 */
#ifndef KILL_PLAY_H
#define KILL_PLAY_H

#include "lab.h"

struct play {
	char before[24], victim[48];
};

/* Makes the state before. */
void play_prepare(const struct play *play);
/* Plays the victim to the end. */
void play_victim(const struct play *play);
/* The reaper buries the victim, as far as it comes. */
void play_reaper(void);
/* The victim is dead: root buries it, the peer goes on, a new process comes. What was not as it must be is said, and
 * counted in play_failures. reaper: this one is dead as well, and was burying. variant: of orders. */
void play_end(const struct play *play, bool reaper, unsigned variant);
extern unsigned play_failures;
extern void (*play_where)(void); /* called before a failure is said: where it was */
/* A run from random letters. */
void play_random(struct play *play, uint64_t *seed);

#endif
