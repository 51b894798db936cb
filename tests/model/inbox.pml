/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The inbox (src/ipc/inbox.h, proc_take() and proc_undo_take()): senders push, the receiver sleeps and takes, and any
 * of them may be killed at any statement. A reaper acts on deaths that are proved, and may be killed
 * itself: another one begins again.
 *
 * Claims: no message is torn, twice, or out of its sender's order; one whose send has returned is received, or, of
 * a receiver that dies, a link is found and told of; nobody sleeps for good while there is mail.
 */
#ifndef NS
#define NS 2      /* senders */
#endif
#ifndef M
#define M 2       /* messages of each */
#endif
#ifndef KS
#define KS 1      /* senders that may be killed */
#endif
#ifndef KR
#define KR 1      /* the receiver may be killed */
#endif
#ifndef KQ
#define KQ 1      /* reapers that may be killed */
#endif
#define NODES (NS * M + 1)
#define CLOSED 255
#define AWAKE 0
#define ASLEEP 1
#ifdef ALL_LINKS
#define IS_LINK(n) true
#else
#define IS_LINK(n) (((n) - 1) / M % 2 == 1)
#endif

byte head;                     /* of the inbox: newest node */
byte next[NODES], a[NODES], b[NODES];
bool asleep, blocked;          /* the word; in the kernel */
bool intent[NS];
byte taking, hhead, hnext[NODES];
bool is_held[NODES];           /* the kind */
/* ghosts */
bool kill_s[NS], over_s[NS], reaped_s[NS], kill_r, reaped_r, kill_q;
byte kills_s, kills_q;
bool acked[NODES], told[NODES], shut[NODES];
byte got[NODES], last[NS];

inline futex_wake() { blocked = false }

/* What nobody else can see yet is one step with what follows. */
proctype sender(byte i)
{
	byte k, n, h;
	bool was, ok;
	{
		do
		:: k == M -> break
		:: atomic {
			k < M ->
			n = i * M + k + 1;
#ifndef BUG_PUBLISH_EARLY
			a[n] = n; b[n] = n;
#endif
			h = head
		   }
		   intent[i] = true;
		   do
		   :: h == CLOSED -> atomic { intent[i] = false; shut[n] = true; break }
		   :: else ->
			atomic {
#ifndef BUG_NEXT_LATE
				next[n] = h;
#endif
				if
				:: head == h -> head = n; break
				:: else -> h = head
				fi
			}
		   od;
#ifdef BUG_NEXT_LATE
		   next[n] = h;
#endif
#ifdef BUG_PUBLISH_EARLY
		   a[n] = n; b[n] = n;
#endif
		   if
		   :: shut[n]
		   :: !shut[n] && asleep == AWAKE
		   :: !shut[n] && asleep != AWAKE ->
			atomic { was = asleep; asleep = AWAKE }
			if
			:: was == ASLEEP -> futex_wake()
			:: else
			fi
		   fi;
		   atomic { was = false; intent[i] = false; acked[n] = !shut[n]; k++; n = 0; h = 0 }
		od;
		over_s[i] = true
	} unless { kill_s[i] }
}

inline hold(n)
{
	hnext[n] = hhead;
	hhead = n;
	is_held[n] = true
}

proctype receiver()
{
	byte h, n, i, s;
	byte batch[NODES];
	{
		skip;
again:		h = head;
		if
		:: h == 0 ->
			asleep = ASLEEP;
#ifndef BUG_SLEEP_UNSEEN
			h = head;
#endif
			if
			:: h == 0 ->
				atomic { if :: asleep == ASLEEP -> blocked = true :: else fi }
end:				!blocked
			:: else
			fi;
			asleep = AWAKE;
			goto again
		:: else
		fi;
#ifndef BUG_NO_TAKING
		taking = h;
#endif
		atomic {
#ifdef BUG_TAKE_BY_STORE
			head = 0;
#else
			if
			:: head == h -> head = 0
			:: else -> goto again
			fi;
#endif
			i = 0; n = h;
			do
			:: n != 0 -> assert(i < NODES); batch[i] = n; i++; n = next[n]
			:: else -> h = 0; break
			od;
		}
		do
		:: i == 0 -> break
		:: i > 0 ->
			atomic {
				n = batch[i - 1];
				batch[i - 1] = 0;
				i--;
				assert(a[n] == n && b[n] == n);
				got[n]++;
				assert(got[n] == 1);
				s = (n - 1) / M;
				assert((n - 1) % M + 1 > last[s]);
				last[s] = (n - 1) % M + 1
			}
			if
			:: IS_LINK(n) -> hold(n)
			:: else
			fi
		od;
		atomic { taking = 0; n = 0; s = 0; goto again }
	} unless { kill_r }
}

/* --- burying --- */

#ifdef BUG_REAP_SUSPECTS
#define IS_DEAD(i) true
#else
#define IS_DEAD(i) (kill_s[i] || over_s[i])
#endif

inline finish_push(i)
{
#if defined(BUG_NO_FINISH)
	skip;
#elif defined(BUG_INTENT_FIRST)
	atomic { w = intent[i]; intent[i] = false };
	if
	:: w -> asleep = AWAKE; futex_wake()
	:: else
	fi;
#elif defined(BUG_WAKE_BY_WORD)
	if
	:: intent[i] ->
		atomic { w = asleep; asleep = AWAKE };
		if
		:: w == ASLEEP -> futex_wake()
		:: else
		fi;
	:: else
	fi;
	intent[i] = false;
#else
	if
	:: intent[i] -> asleep = AWAKE; futex_wake()
	:: else
	fi;
	intent[i] = false;
#endif
	reaped_s[i] = true
}

inline take_in_chain(from)
{
	n = from;
	do
	:: n == 0 -> break
	:: else ->
		if
		:: !IS_LINK(n) || is_held[n]
#ifdef BUG_HOLD_TWICE
		:: IS_LINK(n) && !is_held[n] && hhead == n -> is_held[n] = true
		:: IS_LINK(n) && !is_held[n] && hhead != n -> hold(n)
#else
		:: IS_LINK(n) && !is_held[n] -> hold(n)
#endif
		fi;
		n = next[n]
	od;
	n = 0
}

inline bury_receiver()
{
#ifndef BUG_HOLD_TWICE
	if
	:: hhead != 0 && !is_held[hhead] -> is_held[hhead] = true
	:: else
	fi;
#endif
	if
	:: taking != 0 -> take_in_chain(taking)
	:: else
	fi;
	h = head;
	do
	:: h == CLOSED -> break
	:: else ->
		taking = h;
#ifdef BUG_CLOSE_BY_STORE
		head = CLOSED; break
#else
		atomic {
			if
			:: head == h -> head = CLOSED; ok = true
			:: else -> h = head; ok = false
			fi
		};
		if
		:: ok -> break
		:: else
		fi
#endif
	od;
	take_in_chain(taking);
	taking = 0;
	do /* told of by reference: twice is once */
	:: hhead == 0 -> break
	:: else -> atomic { walked++; assert(walked < NODES); told[hhead] = true; hhead = hnext[hhead] }
	od;
	walked = 0;
	reaped_r = true
}

proctype reaper()
{
	byte h, n, walked;
	bool w, ok;
end_again:
	{
end:		do
		:: !reaped_s[0] && IS_DEAD(0) -> finish_push(0)
#if NS > 1
		:: !reaped_s[1] && IS_DEAD(1) -> finish_push(1)
#endif
#if NS > 2
		:: !reaped_s[2] && IS_DEAD(2) -> finish_push(2)
#endif
		:: kill_r && !reaped_r -> bury_receiver()
		od
	} unless { kill_q };
	atomic { walked = 0; kill_q = false; goto end_again }
}

proctype nemesis()
{
end:	do
	:: atomic { kills_s < KS && !over_s[0] && !kill_s[0] -> kill_s[0] = true; kills_s++ }
#if NS > 1
	:: atomic { kills_s < KS && !over_s[1] && !kill_s[1] -> kill_s[1] = true; kills_s++ }
#endif
	:: atomic { KR && !kill_r -> kill_r = true }
	:: atomic { kills_q < KQ && !kill_q -> kill_q = true; kills_q++ }
	od
}

/* Nothing moves any more. */
proctype judge()
{
	byte n;

	timeout;
	d_step {
		n = 1;
		do
		:: n < NODES ->
			assert(!acked[n] || kill_r || got[n] == 1);
			assert(!kill_r || !acked[n] || !IS_LINK(n) || told[n]);
			n++
		:: else -> break
		od;
		assert(kill_r || head == 0);
		assert(!kill_r || head == CLOSED)
	}
}

init {
	byte i;
	atomic {
		do
		:: i < NS -> run sender(i); i++
		:: else -> break
		od;
		run receiver();
		run reaper();
		run nemesis();
		run judge()
	}
}
