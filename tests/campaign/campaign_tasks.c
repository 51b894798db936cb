/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Owners of tasks and consumers of streams do all that there is to do with them, while any process of the node but the
 * root and the first is killed at random: owners, tasks, monitor processes, pools' processes, task supervisors.
 * Whatever value arrives is right and in its place, whoever waits hears something, and at the end nothing is left: no
 * process, no chunk, no message.
 */
#include "campaign.h"

#include <coppice/coppice.h>

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "ipc/segment.h"
#include "proc/proc.h"

#define OWNERS 3
#define SILENCE_MS 20000
#define FACTOR 3

static struct {
	_Atomic uint32_t wrong, values, ends, streams, left, done, killed, kills;
	_Atomic int line;        /* of the last wrong one */
} *tally;

static uint64_t rnd;

static uint64_t draw(uint64_t below)
{
	rnd ^= rnd << 13;
	rnd ^= rnd >> 7;
	rnd ^= rnd << 17;
	return rnd % below;
}

static void check(bool good, int line)
{
	if (good)
		return;
	atomic_store(&tally->line, line);
	atomic_fetch_add(&tally->wrong, 1);
}

#define CHECK(cond) check(cond, __LINE__)

/* --- what tasks do --- */

static struct cop_result multiply(const void *arg, size_t size)
{
	uint64_t n = 0;

	if (size == sizeof n)
		memcpy(&n, arg, sizeof n);
	n *= FACTOR;
	return cop_return(&n, sizeof n);
}

static struct cop_result multiply_item(void *ctx, const void *item, size_t len)
{
	uint64_t n = 0;

	(void)ctx;
	if (len >= sizeof n)
		memcpy(&n, item, sizeof n);
	if (n % 97 == 5)
		cop_sleep(1);
	return multiply(&n, sizeof n);
}

static struct cop_result hang(const void *arg, size_t size)
{
	(void)arg;
	if (size % 2)
		cop_trap_exit(true);
	cop_sleep(COP_INFINITY);
	return cop_return_nothing();
}

/* --- what owners do --- */

static void got(const struct cop_response *r, uint64_t n)
{
	uint64_t is = 0;

	CHECK(r->msg.len == sizeof is);
	if (r->msg.len == sizeof is)
		memcpy(&is, r->msg.data, sizeof is);
	CHECK(is == n * FACTOR);
	atomic_fetch_add(&tally->values, 1);
}

static bool begun(struct cop_task *t, const uint64_t *n)
{
	switch (draw(3)) {
	case 0:
		return cop_task_async(multiply, n, sizeof *n, t) == 0;
	case 1:
		return cop_task_supervisor_async(cop_named("tasks"), multiply, n, sizeof *n, NULL, t) == 0;
	default:
		return cop_task_supervisor_async_nolink(cop_named("tasks"), multiply, n, sizeof *n, NULL, t) == 0;
	}
}

static void one_by_one(void)
{
	struct cop_response r;
	struct cop_task t[5];
	uint64_t n[5];
	int i, many = 0;

	for (i = 0; i < 5; i++) {
		n[many] = draw(1000);
		many += begun(&t[many], &n[many]);
	}
	for (i = 0; i < many; i++)
		if (cop_task_await(&t[i], SILENCE_MS, &r) == 0) {
			got(&r, n[i]);
			cop_response_done(&r);
		} else {
			CHECK(errno != ETIMEDOUT);
			atomic_fetch_add(&tally->ends, 1);
		}
}

static void all_at_once(void)
{
	struct cop_response r[12];
	struct cop_task t[12];
	struct cop_exit why;
	uint64_t n[12];
	int i, many = 0;

	for (i = 0; i < 12; i++) {
		n[many] = draw(1000);
		many += begun(&t[many], &n[many]);
	}
	if (cop_task_await_many(t, (size_t)many, SILENCE_MS, r, &why) < 0) {
		CHECK(errno != ETIMEDOUT);
		atomic_fetch_add(&tally->ends, 1);
		return;
	}
	for (i = 0; i < many; i++) {
		got(&r[i], n[i]);
		cop_response_done(&r[i]);
	}
}

static void ended(void)
{
	struct cop_task t;
	int ms = draw(2) ? COP_TASK_BRUTAL_KILL : (int)draw(3) * 10;

	if ((draw(2) ? cop_task_async(hang, NULL, draw(2), &t) :
		       cop_task_supervisor_async(cop_named("tasks"), hang, "x", draw(2), NULL, &t)) < 0)
		return;
	CHECK(cop_task_shutdown(&t, ms, NULL) <= 0);
	CHECK(!cop_is_alive(t.pid));
}

struct feed {
	uint64_t n, at, item;
};

static int feed(void *ctx, const void **item_r, size_t *len_r)
{
	struct feed *f = ctx;

	if (f->at == f->n)
		return 0;
	f->item = f->at++;
	*item_r = &f->item;
	*len_r = sizeof f->item;
	return 1;
}

static void result(const struct cop_stream_result *r, bool unordered, uint64_t i)
{
	uint64_t is = 0;

	if (r->how < 0) {
		atomic_fetch_add(&tally->ends, 1);
		return;
	}
	CHECK(r->len == sizeof is);
	memcpy(&is, r->data, sizeof is);
	CHECK(unordered ? is % FACTOR == 0 : is == i * FACTOR);
	atomic_fetch_add(&tally->values, 1);
}

static void stream(void)
{
	struct cop_dest sup = cop_named("tasks");
	struct cop_stream_options o = { .max_concurrency = (uint32_t)draw(4) + 1, .unordered = draw(2),
		.timeout_ms = SILENCE_MS };
	struct feed f = { .n = 12 };
	struct cop_stream_input input = { feed, NULL, &f };
	struct cop_stream_result r;
	struct cop_stream *s;
	uint64_t i, take;
	int more = 1;

	if (draw(2)) {
		o.pooled = true;
		f.n = 3000;
	} else if (draw(2)) {
		o.supervisor = &sup;
		o.nolink = draw(2);
	}
	take = draw(2) ? draw(f.n) : f.n + 1;
	s = cop_stream_open(&input, multiply_item, &o);
	CHECK(s != NULL);
	for (i = 0; s && i < take && (more = cop_stream_next(s, &r)) > 0; i++)
		result(&r, o.unordered, i);
	CHECK(more >= 0 || errno != ETIMEDOUT);
	CHECK(more != 0 || i == f.n); /* a result for each, or none at all */
	if (s)
		cop_stream_close(s);
	atomic_fetch_add(&tally->streams, 1);
}

/* Exit signals are the only messages that anything here may leave, to who traps them. */
static void nothing_is_left(bool traps)
{
	struct cop_msg m;

	while (cop_receive(&m, NULL, NULL, 0) == 1) {
		if (!traps || m.kind != COP_MSG_EXIT) {
			CHECK(false);
			atomic_fetch_add(&tally->left, 1);
		}
		cop_msg_done(&m);
	}
}

static void owner(void *arg)
{
	bool traps;
	int i;

	rnd = (uint64_t)(uintptr_t)arg;
	traps = draw(2);
	cop_trap_exit(traps);
	for (i = 0; i < 4; i++) {
		switch (draw(5)) {
		case 0:
			one_by_one();
			break;
		case 1:
			all_at_once();
			break;
		case 2:
			ended();
			break;
		default:
			stream();
			break;
		}
		nothing_is_left(traps);
	}
	atomic_fetch_add(&tally->done, 1);
}

/* --- the first process --- */

static void keep_supervisor(void)
{
	struct cop_supervisor tasks = cop_task_supervisor("tasks", 0);
	struct cop_started started;

	while (cop_whereis("tasks").id == 0)
		if (cop_supervisor_start_link(&tasks, &started) == COP_NOT_STARTED && errno != ECANCELED &&
		    errno != EEXIST)
			exit(2);
}

/* Any process but this one and the root. */
static void kill_one(void)
{
	uint32_t top = atomic_load(&proc.seg.h->slot_top), i = 1 + (uint32_t)draw(top), tries;
	int pid;

	for (tries = 0; tries < top; tries++, i = i % top + 1) {
		if (i >= proc.seg.max_procs || seg_slot_state(&proc.seg, i) != SEG_SLOT_ALIVE)
			continue;
		pid = atomic_load(&proc.seg.pids[i]);
		if (pid <= 1 || pid == getpid() || pid == getppid())
			continue;
		if (draw(2))
			kill(pid, SIGKILL);
		else
			cop_kill((cop_pid){ atomic_load(&proc.seg.slots[i].id) });
		atomic_fetch_add(&tally->kills, 1);
		return;
	}
}

static bool is_down(void *ctx, const struct cop_msg *m)
{
	(void)ctx;
	return m->kind == COP_MSG_DOWN;
}

static uint32_t slots_in_use(void)
{
	uint32_t i, n = 0;

	for (i = 0; i < proc.seg.max_procs; i++)
		n += seg_slot_state(&proc.seg, i) != SEG_SLOT_FREE;
	return n;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Owners come and go until the time is over; false: one was never heard of. */
static bool play(int64_t until)
{
	int64_t heard = now_ms();
	struct cop_msg m;
	uint64_t fresh;
	int flying = 0;
	cop_pid pid;
	cop_ref ref;

	while (now_ms() < until || flying > 0) {
		keep_supervisor();
		while (flying < OWNERS && now_ms() < until) {
			fresh = draw(UINT64_MAX) | 1;
			if (cop_spawn_monitor(owner, (void *)(uintptr_t)fresh, &pid, &ref) < 0)
				break;
			flying++;
			heard = now_ms();
		}
		if (cop_receive(&m, is_down, NULL, (int)draw(6)) == 1) {
			flying--;
			heard = now_ms();
			atomic_fetch_add(&tally->killed, m.reason.kind != COP_EXIT_NORMAL);
			cop_msg_done(&m);
		}
		if (now_ms() < until)
			kill_one();
		if (now_ms() - heard > SILENCE_MS)
			return false;
	}
	return true;
}

void campaign_tasks(void *campaign)
{
	const struct campaign *c = campaign;
	uint32_t used, orphans, i, slots;
	struct cop_msg m;
	bool heard;
	int bad;

	tally = mmap(NULL, sizeof *tally, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (tally == MAP_FAILED)
		exit(2);
	rnd = c->seed;
	cop_trap_exit(true);
	heard = play(now_ms() + c->play_ms);
	keep_supervisor();
	(void)!cop_server_stop(cop_named("tasks"), NULL, SILENCE_MS, NULL);
	for (i = 0; i < SILENCE_MS / 10 && slots_in_use() != 2; i++)
		cop_sleep(10); /* what their owners left when they ended, goes now */
	slots = slots_in_use();
	while (cop_receive(&m, NULL, NULL, 0) == 1)
		cop_msg_done(&m);
	(void)seg_chunks_sweep(&proc.seg);
	seg_chunks_count(&proc.seg, &used, &orphans);
	bad = !heard || slots != 2 || orphans != 0 || tally->wrong != 0 || tally->values == 0;
	printf("tasks: %u kills, %u owners ended well and %u otherwise, %u streams, %u values, %u ends: ", tally->kills,
	    tally->done, tally->killed, tally->streams, tally->values, tally->ends);
	printf("%u wrong (line %d), %u messages left, %u slots in use (root and this one), %u chunks of the dead%s\n",
	    tally->wrong, tally->line, tally->left, slots, orphans, heard ? "" : "; somebody was never heard of again");
	fflush(stdout);
	cop_exit(&(struct cop_exit){ .kind = bad ? COP_EXIT_CODE : COP_EXIT_NORMAL, .value = bad });
}
