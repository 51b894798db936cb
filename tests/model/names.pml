/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Registering names (src/proc/name.c): one bucket, one name that all want. Namers 0 and 1 give it to slots, die at any
 * statement or go on; the process of a slot may die and its slot be another's. Whoever meets a busy control
 * word helps first.
 *
 * Claims: an entry that counts is one of the process it was meant for; never two count; a register that has returned
 * with success has made its entry.
 */
#ifdef LONG
#define NAMERS 3
#else
#define NAMERS 2
#endif
#define SLOTS 2
#define PLACES 2
#define FREE 255

/* The control word. */
byte version;
bool busy;
byte c_slot, c_serial, c_place;
/* entries: slot and serial */
byte e_slot[PLACES], e_serial[PLACES];
/* slots */
byte serial[SLOTS], generation[SLOTS], claim[SLOTS]; /* claim: namer + 1 */
byte text[SLOTS];              /* who wrote the name there, + 1; of which generation it meant */
bool dying[SLOTS];
bool kill[NAMERS], gone[NAMERS];
byte kills, deaths;
/* ghost: for which generation a serial was raised */
byte meant[SLOTS];

#define COUNTS(k) (e_slot[k] != FREE && serial[e_slot[k]] == e_serial[k] && e_serial[k] % 2 == 1)

inline look_for_two()
{
	assert(!(COUNTS(0) && COUNTS(1)));
	assert(!COUNTS(0) || dying[e_slot[0]] || meant[e_slot[0]] == generation[e_slot[0]]);
	assert(!COUNTS(1) || dying[e_slot[1]] || meant[e_slot[1]] == generation[e_slot[1]])
}

/* What the control word said when it was read: v, s, r, p. */
inline help()
{
#ifndef BUG_NO_HELP
	if
	:: serial[s] == r ->
		atomic {
			if
			:: busy && version == v && !COUNTS(p) -> e_slot[p] = s; e_serial[p] = r; look_for_two()
			:: else
			fi
		}
	:: else
	fi;
#endif
	atomic {
		if
#ifdef BUG_NO_VERSION
		:: busy && version == v -> busy = false; version = 0
#else
		:: busy && version == v -> busy = false; version++
#endif
		:: else
		fi;
		v = 0; s = 0; r = 0; p = 0
	}
}

inline settle()
{
	do
	:: atomic { busy -> v = version; s = c_slot; r = c_serial; p = c_place }; help()
	:: atomic { !busy -> c = version; break }
	od
}

proctype namer(byte me)
{
	byte g, t, my, v, s, r, p, c, k, place;
	bool taken, done;
	{
		/* which slot, and of which generation: as it is now */
		if
		:: t = 0
		:: t = 1
		fi;
		atomic { !dying[t] -> g = generation[t] };
#ifdef BUG_SERIAL_BEFORE_CLAIM
		my = serial[t];
		if
		:: my % 2 == 1 -> goto out
		:: else
		fi;
#endif
		atomic {
			if
			:: claim[t] == 0 || gone[claim[t] - 1] -> claim[t] = me + 1
			:: else -> goto out
			fi
		};
#ifndef BUG_SERIAL_BEFORE_CLAIM
		my = serial[t];
#endif
		if
		:: my % 2 == 1 || dying[t] || generation[t] != g -> goto give_up
		:: else
		fi;
		atomic {
			text[t] = me + 1;
			assert(!(COUNTS(0) && e_slot[0] == t) && !(COUNTS(1) && e_slot[1] == t))
		};
		atomic {
#ifdef BUG_SERIAL_BY_STORE
			serial[t] = my + 1; meant[t] = g;
			look_for_two()
#else
			if
			:: serial[t] == my -> serial[t] = my + 1; meant[t] = g
			:: else -> goto give_up
			fi
#endif
		};
		/* enter() */
		do
		:: settle();
			taken = false; place = FREE; k = 0;
			do
			:: k == PLACES -> break
			:: k < PLACES ->
				atomic {
					if
					:: COUNTS(k) -> taken = true
					:: !COUNTS(k) && place == FREE -> place = k
					:: else
					fi;
					k++
				}
			od;
#ifdef BUG_NO_LOOK
			taken = false;
#endif
			if
			:: taken || place == FREE -> break
			:: else
			fi;
			atomic {
				if
				:: !busy && version == c ->
#ifdef BUG_NO_VERSION
					busy = true;
#else
					busy = true; version = version + 1;
#endif
					c_slot = t; c_serial = my + 1; c_place = place;
					v = version; s = t; r = my + 1; p = place; done = true
				:: else
				fi
			};
			if
			:: done -> help(); break
			:: else
			fi
		od;
		if
		:: done ->
			/* it has the name, unless it died, or it was taken from it */
			atomic {
				assert(serial[t] != my + 1 || e_slot[place] == t && e_serial[place] == my + 1)
			}
		:: else ->
			atomic {
				if
				:: serial[t] == my + 1 -> serial[t] = my + 2
				:: else
				fi
			}
		fi;
give_up:	claim[t] = 0;
out:		skip
	} unless { kill[me] };
	gone[me] = true
}

/* A slot's process dies, is buried, and the slot is another's. */
proctype deaths_of(byte t)
{
end:	do
	:: atomic { deaths < 1 -> deaths++; dying[t] = true };
#ifndef BUG_UNSEEN_DEATH
		atomic { serial[t] = (serial[t] % 2 == 1 -> serial[t] + 1 : serial[t] + 2) };
#else
		atomic { serial[t] = (serial[t] % 2 == 1 -> serial[t] + 1 : serial[t]) };
#endif
		atomic { generation[t]++; dying[t] = false; look_for_two() }
	od
}

proctype nemesis()
{
end:	do
	:: atomic { kills < 1 && !kill[0] && !gone[0] -> kill[0] = true; kills++ }
	:: atomic { kills < 1 && !kill[1] && !gone[1] -> kill[1] = true; kills++ }
	od
}

init {
	byte i;
	atomic {
		e_slot[0] = FREE;
		e_slot[1] = FREE;
		do
		:: i < NAMERS -> run namer(i); i++
		:: else -> break
		od;
		run deaths_of(0);
		run deaths_of(1);
		run nemesis()
	}
}
