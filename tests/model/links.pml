/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Links and monitors (src/proc/signal.c, death.c): two processes do what they like, either may be killed at any
 * statement, and so may who buries them, once; then it is done again from the beginning. That the inbox loses
 * nothing is the claim of another model: here it is a queue, from which a node goes when it is integrated.
 *
 * A pair is the two halves of a link or monitor. Pair 0 is a link that process 0 may make, 1 one that process 1
 * may make, 2 and 3 their monitors of each other. Half 2p is held by the maker, 2p+1 by the other side.
 *
 * Claims: no second DOWN, none after demonitor has returned; no exit signal after unlink has returned; when
 * nothing moves any more, who lives holds no half of something with a dead one: so nothing was lost.
 */
#ifndef KILLS
#define KILLS 2   /* of the two */
#endif
#ifndef KQ
#define KQ 1
#endif
#ifndef OPS
#define OPS 2     /* of each */
#endif
#ifndef TRAPS
#define TRAPS 0  /* process 0; process 1 traps */
#endif
#define N 4
#define MAKER(p) ((p) % 2)
#define IS_MONITOR(p) ((p) / 2)
#define MINE(p) (2 * (p))
#define THEIRS(p) (2 * (p) + 1)
#define HALF(p, me) (MAKER(p) == (me) -> MINE(p) : THEIRS(p))
#define TRAP(x) (x == 1 || TRAPS)

/* kinds of nodes, and of messages */
#define NONE 0
#define HELD 1
#define ASK 2     /* NODE_LINK, NODE_MONITOR */
#define UNDO 3    /* NODE_UNLINK, NODE_DEMONITOR */
#define TOLD 4    /* NODE_LINK_EXIT, NODE_DOWN */

byte kind[2 * N];
bool list[2 * N];            /* the holder's list */
chan inbox[2] = [7] of { byte, byte };
bool closed[2], buried[2], kill[2], ended[2], kill_q, by_link[2];
byte turn_kind[2], turn_pair[2], kills, kills_q;
bool tried[N];
/* ghosts */
bool undone[N * 2];          /* by the holder: its unlink or demonitor has returned; by pair and process */
byte told_n[N];

#define DEAD(x) (kill[x] || ended[x])

inline push(dst, what, pair, is_gone)
{
	atomic {
		is_gone = closed[dst];
		if
		:: !is_gone -> inbox[dst]!what, pair
		:: else
		fi
	}
}

/* An exit signal, from a link, takes effect on x. */
inline exit_signal(who, pair)
{
	assert(!undone[2 * pair + who]);
	if
	:: !TRAP(who) -> ended[who] = true
	:: else
	fi
}

inline take_in()
{
	do
	:: atomic { empty(inbox[me]) -> break }
	:: atomic { inbox[me]?<k, p> -> h = HALF(p, me) }
		if
		:: k == ASK -> list[h] = true; kind[h] = HELD
		:: k == UNDO ->
			if
			:: kind[h] == HELD -> list[h] = false; kind[h] = NONE
			:: else
			fi
		:: k == TOLD ->
			if
#ifdef BUG_NO_HALF
			:: true ->
#else
			:: kind[h] == HELD ->
#endif
				list[h] = false;
				kind[h] = NONE;
				atomic {
					told_n[p]++;
					assert(told_n[p] == 1);
					assert(!undone[2 * p + me]);
					if
					:: !IS_MONITOR(p) && !TRAP(me) -> ended[me] = true
					:: else
					fi
				}
#ifndef BUG_NO_HALF
			:: else
#endif
			fi
		fi;
		if
		:: ended[me] -> goto over
		:: else -> atomic { inbox[me]?_, _; k = 0; p = 0; h = 0 }
		fi
	od
}

inline ask(y)
{
	atomic { tried[y] = true; kind[THEIRS(y)] = ASK };
	kind[MINE(y)] = HELD;
#ifndef BUG_HELD_LATE
	list[MINE(y)] = true;
#endif
	push(1 - me, ASK, y, gone);
#ifdef BUG_HELD_LATE
	list[MINE(y)] = true;
#endif
	if
	:: gone -> list[MINE(y)] = false; kind[MINE(y)] = NONE
	:: else
	fi
}

inline undo(y)
{
	h = HALF(y, me);
	if
	:: kind[h] == HELD && list[h] ->
#ifndef BUG_TURN_LATE
		atomic { turn_kind[me] = UNDO; turn_pair[me] = y };
#endif
		kind[h] = UNDO;
		list[h] = false;
#ifdef BUG_TURN_LATE
		atomic { turn_kind[me] = UNDO; turn_pair[me] = y };
#endif
		push(1 - me, UNDO, y, gone);
#ifndef BUG_NO_WAIT
		if
		:: gone && !IS_MONITOR(y) -> buried[1 - me]
		:: else
		fi;
#endif
		atomic { turn_kind[me] = NONE; undone[2 * y + me] = true; h = 0 }
	:: else -> h = 0
	fi
}

proctype process(byte me)
{
	byte k, p, h, ops;
	bool gone;
	{
		do
		:: ops < OPS ->
			ops++;
			if
			:: !tried[me] -> take_in();
				if
				:: kind[HALF(1 - me, me)] == HELD && list[HALF(1 - me, me)] /* is linked */
				:: else -> ask(me)
				fi
			:: take_in(); undo(0); undo(1)
			:: !tried[2 + me] -> ask(2 + me)
			:: tried[2 + me] -> undo(2 + me)
			fi
		:: ops == OPS -> break
		od;
end:		do
		:: nempty(inbox[me]) -> take_in()
		od
	} unless { kill[me] };
over:	skip
}

/* --- burying --- */

inline turn(z, y)
{
	h = HALF(y, z);
	if
	:: list[h] && kind[h] == HELD && !IS_MONITOR(y) && !TRAP(1 - z) ->
#ifndef BUG_LINK_UNSEEN
		o = HALF(y, 1 - z);
		if
		:: kind[o] == HELD || kind[o] == ASK ->
#endif
			atomic {
				if
				:: !DEAD(1 - z) -> exit_signal(1 - z, y)
				:: else
				fi;
				if
				:: ended[1 - z] -> kill[1 - z] = true
				:: else
				fi
			}
#ifndef BUG_LINK_UNSEEN
		:: else
		fi;
		o = 0;
#endif
		list[h] = false
	:: list[h] && kind[h] == HELD && (IS_MONITOR(y) || TRAP(1 - z)) ->
#ifndef BUG_NO_TURN
		atomic { turn_pair[z] = y; turn_kind[z] = (IS_MONITOR(y) && MAKER(y) == z -> UNDO : TOLD) };
#endif
		list[h] = false;
		kind[h] = TOLD;
		push(1 - z, (IS_MONITOR(y) && MAKER(y) == z -> UNDO : TOLD), y, gone);
		turn_kind[z] = NONE
	:: list[h] && kind[h] != HELD -> list[h] = false
	:: !list[h]
	fi;
	h = 0
}

inline close_inbox(z)
{
	closed[z] = true;
	do
	:: atomic { empty(inbox[z]) -> break }
	:: atomic { inbox[z]?<k, p> -> h = HALF(p, z) }
		if
		:: k == ASK && kind[h] == ASK -> list[h] = true; kind[h] = HELD
		:: else
		fi;
		atomic { inbox[z]?_, _; k = 0; p = 0; h = 0 }
	od
}

inline bury(z)
{
	if
	:: turn_kind[z] != NONE ->
		push(1 - z, turn_kind[z], turn_pair[z], gone);
		turn_kind[z] = NONE
	:: else
	fi;
#ifndef BUG_CLOSE_LATE
	close_inbox(z);
#endif
	turn(z, 0); turn(z, 1); turn(z, 2); turn(z, 3);
#ifdef BUG_CLOSE_LATE
	close_inbox(z);
#endif
	buried[z] = true
}

proctype reaper(byte x)
{
	byte k, p, h, o;
	bool gone;
end_again:
	{
		DEAD(x);
		bury(x);
		goto over
	} unless { kill_q };
	atomic { kill_q = false; goto end_again };
over:	skip
}

proctype nemesis()
{
end:	do
	:: atomic { kills < KILLS && !DEAD(0) -> kill[0] = true; kills++ }
	:: atomic { kills < KILLS && !DEAD(1) -> kill[1] = true; kills++ }
	:: atomic { kills_q < KQ && !kill_q && (DEAD(0) && !buried[0] || DEAD(1) && !buried[1]) -> kill_q = true; kills_q++ }
	od
}

proctype judge()
{
	byte q;

	timeout;
	d_step {
		do
		:: q < N ->
			assert(!buried[1] || DEAD(0) || !list[HALF(q, 0)]);
			assert(!buried[0] || DEAD(1) || !list[HALF(q, 1)]);
			q++
		:: else -> break
		od;
		assert(!DEAD(0) || buried[0]);
		assert(!DEAD(1) || buried[1])
	}
}

init {
	atomic {
		run process(0); run process(1); run reaper(0); run reaper(1); run nemesis(); run judge()
	}
}
