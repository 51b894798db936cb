/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Campaigns against a node of talking processes; each prints one line and tells by its exit status.
 *
 *   campaign ledger [--seconds S] [--seed N]   servers and clients under supervisors are killed at random while
 *        they talk. Books are kept outside the segment: every message that a sender was told is sent has been
 *        received, in order and once, unless its receiver died; every monitor has told once.
 *   campaign deaths [--count N] [--seed N]     so many processes live, talk, link and die; afterwards nothing is left
 *        in the segment.
 *   campaign hostile [--seconds S] [--seed N]  a process writes random words all over the segment while supervisors
 *        that were there before have children that die: each is started again.
 *   campaign tasks [--seconds S] [--seed N]    campaign_tasks.c
 */
#include <coppice/coppice.h>

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "campaign.h"
#include "ipc/segment.h"
#include "proc/proc.h"

#define SERVERS 4
#define CLIENTS 6
#define PAIRS_MAX 200000
#define FACES_MAX 64

enum { TAG_COUNT = 1, TAG_SYNC };

/* One sender's way to one receiver, as both wrote it down. */
struct pair {
	_Atomic uint64_t to;       /* process id */
	_Atomic uint64_t acked;    /* by the sender, after the send */
	_Atomic uint64_t received; /* by the receiver */
	_Atomic uint32_t wrong;    /* out of order, twice, or missing */
	_Atomic uint32_t watched;  /* the sender had a monitor when it heard of the end */
};

struct book {
	_Atomic uint32_t pairs, downs, twice, kills, starts, calls, restarts, stop;
	_Atomic int victim[FACES_MAX]; /* Unix pids that may be killed */
	_Atomic uint32_t faces;
	struct pair pair[PAIRS_MAX];
};

static struct book *book;
static uint64_t seed = 1;

static uint64_t random_next(uint64_t *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static void face(uint32_t i)
{
	atomic_store(&book->victim[i], (int)getpid());
	atomic_fetch_add(&book->starts, 1);
}

/* Of every server here: the argument is its number. */
static struct cop_next numbered_init(void *state, const void *arg, size_t size)
{
	uint32_t i;

	(void)state;
	(void)size;
	memcpy(&i, arg, sizeof i);
	face(i);
	return cop_ok();
}

/* --- ledger: the server --- */

struct count {
	uint32_t pair;
	uint32_t filler;
	uint64_t seq;
	char more[48];
};

static struct cop_next server_cast(void *state, const struct cop_msg *msg)
{
	struct count c;
	struct pair *p;

	(void)state;
	if (msg->len < sizeof c)
		return cop_ok();
	memcpy(&c, msg->data, sizeof c);
	p = &book->pair[c.pair % PAIRS_MAX];
	if (c.seq != atomic_load(&p->received) + 1 || atomic_load(&p->to) != cop_self().id)
		atomic_fetch_add(&p->wrong, 1);
	atomic_store(&p->received, c.seq);
	return cop_ok();
}

static struct cop_next server_call(void *state, const struct cop_msg *msg, struct cop_from from)
{
	(void)state;
	(void)from;
	return cop_reply(msg->data, msg->len);
}

static const struct cop_server_ops server_ops = {
	.name = "book", .init = numbered_init, .handle_cast = server_cast, .handle_call = server_call,
};

/* --- ledger: the client --- */

static const char *server_name(uint32_t i, char buf[16])
{
	snprintf(buf, 16, "server%u", i);
	return buf;
}

static void talk(cop_pid to, uint64_t *rnd)
{
	uint32_t i = atomic_fetch_add(&book->pairs, 1), n = (uint32_t)(random_next(rnd) % 200) + 20, downs = 0;
	struct count big[40] = { 0 }, c = { .pair = i };
	struct cop_exit why;
	struct cop_msg msg;
	cop_ref ref;
	uint64_t echo;

	if (i >= PAIRS_MAX)
		cop_exit(&(struct cop_exit){ .kind = COP_EXIT_OTHER, .text = "book_full" });
	atomic_store(&book->pair[i].to, to.id);
	ref = cop_monitor(cop_to(to));
	for (c.seq = 1; c.seq <= n; c.seq++) {
		big[0] = c;
		if (c.seq % 16 == 0) /* another size, another ring */
			cop_server_cast(cop_to(to), TAG_COUNT, big, sizeof big);
		else
			cop_server_cast(cop_to(to), TAG_COUNT, &c, sizeof c);
		atomic_store(&book->pair[i].acked, c.seq);
		if (c.seq % 64 == 0 &&
		    cop_server_ask(cop_to(to), TAG_SYNC, &c.seq, sizeof c.seq, &echo, sizeof echo, 5000, &why) == 0) {
			atomic_fetch_add(&book->calls, 1);
			if (echo != c.seq || atomic_load(&book->pair[i].received) < c.seq)
				atomic_fetch_add(&book->pair[i].wrong, 1); /* behind what was sent before the call */
		}
	}
	while (cop_receive(&msg, NULL, NULL, 0) == 1) {
		downs += msg.kind == COP_MSG_DOWN && cop_ref_is(msg.ref, ref);
		cop_msg_done(&msg);
	}
	if (downs > 1)
		atomic_fetch_add(&book->twice, 1);
	atomic_fetch_add(&book->downs, downs);
	(void)cop_demonitor(ref, true);
}

static void client(void *arg)
{
	uint64_t rnd = seed ^ (uint64_t)getpid() * 0x9e3779b97f4a7c15ull;
	uint32_t me;
	char name[16];
	cop_pid to;

	memcpy(&me, arg, sizeof me);
	face(SERVERS + me);
	while (!atomic_load(&book->stop)) {
		to = cop_whereis(server_name((uint32_t)(random_next(&rnd) % SERVERS), name));
		if (to.id)
			talk(to, &rnd);
		else
			cop_sleep(1);
	}
	cop_sleep(COP_INFINITY);
}

/* --- ledger: the play --- */

static struct cop_child child[SERVERS + CLIENTS];
static uint32_t number[SERVERS + CLIENTS];
static char ids[SERVERS + CLIENTS][16];

static void lay_out(void)
{
	uint32_t i;

	for (i = 0; i < SERVERS + CLIENTS; i++) {
		bool server = i < SERVERS;

		number[i] = server ? i : i - SERVERS;
		snprintf(ids[i], sizeof ids[i], "%s%u", server ? "server" : "client", number[i]);
		child[i] = (struct cop_child){ .id = ids[i], .arg = &number[i], .arg_size = sizeof number[i] };
		if (server) {
			child[i].server = &server_ops;
			child[i].name = ids[i];
		} else {
			child[i].run = client;
		}
	}
}

static int kill_some(int64_t until)
{
	uint64_t rnd = seed;
	struct timespec t;
	int pid;

	while (now_ms() < until) {
		t = (struct timespec){ .tv_nsec = (long)(random_next(&rnd) % 8000000) };
		nanosleep(&t, NULL);
		pid = atomic_load(&book->victim[random_next(&rnd) % (SERVERS + CLIENTS)]);
		if (pid > 1 && kill(pid, SIGKILL) == 0)
			atomic_fetch_add(&book->kills, 1);
	}
	return 0;
}

static int64_t play_ms = 3000;
static int verdict = 1;

static void settle(void)
{
	char name[16];
	uint32_t i;
	uint64_t x = 1, y;

	/* a call behind everything that was sent */
	for (i = 0; i < SERVERS; i++)
		(void)!cop_server_ask(cop_named(server_name(i, name)), TAG_SYNC, &x, sizeof x, &y, sizeof y, 5000, NULL);
}

static void judge(void)
{
	uint32_t i, n = atomic_load(&book->pairs), lost = 0, wrong = 0, over = 0, alive = 0;
	uint64_t sent = 0;

	for (i = 0; i < n && i < PAIRS_MAX; i++) {
		struct pair *p = &book->pair[i];
		uint64_t acked = atomic_load(&p->acked), received = atomic_load(&p->received);
		bool there = cop_is_alive((cop_pid){ atomic_load(&p->to) });

		sent += acked;
		alive += there;
		wrong += atomic_load(&p->wrong) != 0;
		over += received > acked + 1; /* one may be pushed by a sender that died before it could note it */
		lost += there && received < acked;
	}
	verdict = lost || wrong || over || atomic_load(&book->twice) || !sent || !atomic_load(&book->kills);
	printf("ledger: %u kills, %u starts, %u conversations (%u with receivers that still live), %llu messages, %u calls, "
	       "%u ends told: %u lost, %u wrong, %u too many, %u told twice\n", atomic_load(&book->kills),
	    atomic_load(&book->starts), n, alive, (unsigned long long)sent, atomic_load(&book->calls),
	    atomic_load(&book->downs), lost, wrong, over, atomic_load(&book->twice));
	fflush(stdout);
}

static void ledger(void *arg)
{
	struct cop_supervisor sup[2] = {
		{ .name = "servers", .children = child, .n_children = SERVERS, .max_restarts = 1000000, .max_seconds = 1 },
		{ .name = "clients", .children = child + SERVERS, .n_children = CLIENTS, .max_restarts = 1000000, .max_seconds = 1 },
	};
	struct cop_child subs[2] = { { .id = "servers", .supervisor = &sup[0] }, { .id = "clients", .supervisor = &sup[1] } };
	struct cop_supervisor top = { .name = "top", .children = subs, .n_children = 2 };
	struct cop_started s;

	(void)arg;
	(void)cop_trap_exit(true);
	if (cop_supervisor_start_link(&top, &s) != COP_STARTED)
		exit(2);
	(void)kill_some(now_ms() + play_ms);
	atomic_store(&book->stop, 1);
	cop_sleep(300); /* the last restarts; nothing hangs on it */
	settle();
	judge();
	if (cop_server_stop(cop_named("top"), NULL, 20000, NULL) < 0)
		verdict = 1;
	cop_exit(&(struct cop_exit){ .kind = verdict ? COP_EXIT_CODE : COP_EXIT_NORMAL, .value = verdict });
}

/* --- deaths --- */

static long deaths_wanted = 3000;
static cop_pid sink_pid;

static void sink(void *arg)
{
	struct cop_msg msg;

	(void)arg;
	(void)cop_trap_exit(true);
	while (cop_receive(&msg, NULL, NULL, COP_INFINITY) == 1)
		cop_msg_done(&msg);
}

/* Talks, links, monitors, takes a name, sets a timer, and ends, one way or another. */
static void mayfly(void *arg)
{
	uint64_t rnd = seed + (uint64_t)(uintptr_t)arg * 0x9e3779b97f4a7c15ull;
	char data[5000] = { 0 }, name[32];
	uint32_t i, n = (uint32_t)(random_next(&rnd) % 12);

	for (i = 0; i < n; i++)
		(void)cop_send(cop_to(sink_pid), i, data, random_next(&rnd) % sizeof data);
	if (random_next(&rnd) % 2)
		(void)!cop_link(sink_pid);
	if (random_next(&rnd) % 2)
		(void)cop_monitor(cop_to(sink_pid));
	if (random_next(&rnd) % 4 == 0)
		(void)cop_send_after(cop_to(sink_pid), 1, data, 8, 5);
	if (random_next(&rnd) % 64 == 0)
		(void)cop_send(cop_to(sink_pid), 1, data, 0), (void)cop_send_after(cop_to(cop_self()), 1, data, 8, 5);
	snprintf(name, sizeof name, "fly%u", (unsigned)(random_next(&rnd) % 8));
	(void)!cop_register(name, cop_self());
	switch (random_next(&rnd) % 4) {
	case 0:
		raise(SIGKILL);
		break;
	case 1:
		cop_exit(&(struct cop_exit){ .kind = COP_EXIT_OTHER, .text = "boom" });
	default:
		break;
	}
}

static void deaths(void *arg)
{
	uint32_t used, orphans, before, flying = 0;
	long started = 0, told = 0;
	struct cop_msg msg;
	cop_pid pid;
	cop_ref ref;

	(void)arg;
	if (cop_spawn(sink, NULL, &sink_pid) < 0)
		exit(2);
	while (told < deaths_wanted) {
		while (flying < 4 && started < deaths_wanted) {
			if (cop_spawn_monitor(mayfly, (void *)(uintptr_t)started, &pid, &ref) < 0)
				break;
			flying++;
			started++;
		}
		if (cop_receive(&msg, NULL, NULL, 20000) != 1) {
			printf("deaths: %ld of %ld told, then silence\n", told, started);
			cop_exit(&(struct cop_exit){ .kind = COP_EXIT_CODE, .value = 1 });
		}
		told += msg.kind == COP_MSG_DOWN;
		flying -= msg.kind == COP_MSG_DOWN;
		cop_msg_done(&msg);
	}
	cop_sleep(50); /* the last timers run out */
	seg_chunks_count(&proc.seg, &used, &before);
	cop_kill(sink_pid); /* with it goes what was under way to it */
	while (cop_is_alive(sink_pid) || seg_is_there(&proc.seg, sink_pid.id))
		cop_sleep(1);
	(void)seg_chunks_sweep(&proc.seg);
	seg_chunks_count(&proc.seg, &used, &orphans);
	{
		uint32_t i, slots = 0, names = 0;
		char name[32];

		for (i = 0; i < proc.seg.h->max_procs; i++)
			slots += seg_slot_state(&proc.seg, i) != SEG_SLOT_FREE;
		for (i = 0; i < 8; i++) {
			snprintf(name, sizeof name, "fly%u", i);
			names += cop_whereis(name).id != 0;
		}
		/* the root and this one; the dead's chunks wait for somebody who needs their size, but not without end */
		verdict = slots != 2 || names != 0 || orphans != 0 || before > 2000;
		printf("deaths: %ld processes: %u slots in use (root and this one), %u names, %u chunks of the dead, after a "
		       "sweep %u, %u chunks in use\n", told, slots, names, before, orphans, used);
	}
	fflush(stdout);
	cop_exit(&(struct cop_exit){ .kind = verdict ? COP_EXIT_CODE : COP_EXIT_NORMAL, .value = verdict });
}

/* --- hostile --- */

/* Whatever the scribbler makes it hear. */
static struct cop_next victim_info(void *state, const struct cop_msg *msg)
{
	(void)state;
	(void)msg;
	return cop_ok();
}

static const struct cop_server_ops victim_ops = { .name = "victim", .init = numbered_init, .handle_info = victim_info,
	.handle_cast = victim_info };

/* Writes words, random ones and plausible ones, where others read. */
static void scribble(int64_t until)
{
	uint64_t rnd = seed * 77 + 5, words = 0;
	uint32_t slots = atomic_load(&proc.seg.h->slot_top) + 4;

	while (now_ms() < until) {
		int i;

		for (i = 0; i < 256; i++) {
			uint64_t r = random_next(&rnd), at = r >> 8;
			unsigned char *where;
			uint64_t what = random_next(&rnd);

			if (r & 1) /* a process's page */
				where = (unsigned char *)seg_slot(&proc.seg, (uint32_t)(at % slots)) + at % SEG_SLOT_BYTES / 8 * 8;
			else if ((r & 0x30) == 0) /* the header */
				where = proc.seg.base + at % 1024 / 8 * 8;
			else if (r & 2) /* names and chunks' owners */
				where = (unsigned char *)proc.seg.buckets + at % 65536 / 8 * 8;
			else
				where = (unsigned char *)proc.seg.chunks + at % 4096 / 8 * 8;
			if (r & 4)
				what = what % 64;
			else if (r & 8)
				what = atomic_load(&seg_slot(&proc.seg, (uint32_t)(what % slots))->id);
			memcpy(where, &what, sizeof what);
			words++;
		}
		usleep(200);
	}
	printf("hostile: %llu words written, ", (unsigned long long)words);
}

static void scribbler(void *arg)
{
	(void)arg;
	face(SERVERS);
	scribble(now_ms() + play_ms);
	fflush(stdout);
	atomic_store(&book->stop, 1);
	for (;;)
		pause();
}

/* What the supervisor does is seen from outside the node: every killed child has a successor. */
static int watch(pid_t node)
{
	uint32_t i, n = 0, missing = 0;
	int64_t until;
	int pid;

	while (!atomic_load(&book->stop) && kill(node, 0) == 0) {
		i = n++ % SERVERS;
		pid = atomic_load(&book->victim[i]);
		if (pid <= 1) {
			usleep(1000);
			continue;
		}
		kill(pid, SIGKILL);
		atomic_fetch_add(&book->kills, 1);
		until = now_ms() + 5000;
		while (atomic_load(&book->victim[i]) == pid && now_ms() < until)
			usleep(200);
		if (atomic_load(&book->victim[i]) == pid) {
			missing++;
			break;
		}
		atomic_fetch_add(&book->restarts, 1);
	}
	printf("%u children killed meanwhile, %u started again, %u not\n", atomic_load(&book->kills),
	    atomic_load(&book->restarts), missing);
	return missing != 0 || atomic_load(&book->restarts) == 0;
}

static void hostile_node(void)
{
	struct cop_supervisor top = { .name = "top", .children = child, .n_children = SERVERS + 1,
		.max_restarts = 1000000, .max_seconds = 1 };
	struct cop_node_options o = { .quiet = true };
	uint32_t i;

	for (i = 0; i < SERVERS; i++)
		child[i].server = &victim_ops, child[i].name = NULL;
	child[SERVERS] = (struct cop_child){ .id = "scribbler", .run = scribbler, .restart = COP_TEMPORARY };
	_exit(cop_run_tree(&o, &top));
}

static int hostile(void)
{
	pid_t node = fork();
	int bad;

	if (node == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		hostile_node();
	}
	bad = watch(node);
	kill(node, SIGKILL); /* what is below ends with it */
	waitpid(node, NULL, 0);
	while (waitpid(-1, NULL, 0) > 0)
		;
	return bad;
}

int main(int argc, char **argv)
{
	struct cop_node_options o = { .quiet = true };
	int i;

	if (argc < 2) {
		fprintf(stderr, "usage: campaign ledger|deaths|hostile|tasks [--seconds S] [--count N] [--seed N]\n");
		return 2;
	}
	for (i = 2; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--seconds") == 0)
			play_ms = atol(argv[i + 1]) * 1000;
		else if (strcmp(argv[i], "--count") == 0)
			deaths_wanted = atol(argv[i + 1]);
		else if (strcmp(argv[i], "--seed") == 0)
			seed = strtoull(argv[i + 1], NULL, 0) | 1;
	}
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	book = mmap(NULL, sizeof *book, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (book == MAP_FAILED)
		return 2;
	lay_out();
	if (strcmp(argv[1], "ledger") == 0)
		return cop_run(&o, ledger, NULL);
	if (strcmp(argv[1], "deaths") == 0)
		return cop_run(&o, deaths, NULL);
	if (strcmp(argv[1], "hostile") == 0)
		return hostile();
	if (strcmp(argv[1], "tasks") == 0)
		return cop_run(&o, campaign_tasks, &(struct campaign){ play_ms, seed });
	fprintf(stderr, "campaign: no such campaign: %s\n", argv[1]);
	return 2;
}
