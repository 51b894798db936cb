/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Messages: calls and casts to one server by one process or several at once, and calls with a big
 * payload. Those who ask are spawned processes, wait for each other, and take the time of their own
 * part; the first process sleeps meanwhile. The figure is from the first one's begin to the last one's end.
 */
#include "otp.h"

#include <coppice/server.h>

#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

enum { ECHO = 1, COUNT, SLEEPS, TAKE, TAKEN };

struct member {
	_Alignas(128) uint64_t begin, end;
	long sleeps;
};

/* Shared; each member is written by its own process. */
struct crowd {
	_Alignas(128) _Atomic uint32_t ready;
	struct member member[CROWD_MAX];
};

static struct crowd *crowd;
static cop_pid server;          /* this and the rest: set before the processes are forked */
static uint32_t members;
static long each;               /* of what every member does */
static bool apart;              /* server and members on different processors */

static long sleeps_so_far(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_nvcsw;
}

/* --- the server ------------------------------------------------------------------------------- */

struct echo {
	uint64_t casts;
};

static cop_server_init_f echo_init;
static cop_server_call_f echo_call;
static cop_server_msg_f echo_cast, echo_info;

static const struct cop_server_ops echo_ops = {
	.name = "echo",
	.state_size = sizeof(struct echo),
	.init = echo_init,
	.handle_call = echo_call,
	.handle_cast = echo_cast,
	.handle_info = echo_info,
};

static struct cop_next echo_init(void *state, const void *arg, size_t size)
{
	(void)state, (void)arg, (void)size;
	if (apart)
		pin_to(1);
	return cop_ok();
}

/* Of a big message a server looks at something, at least. */
static uint64_t ends_of(const struct cop_msg *msg)
{
	const unsigned char *data = msg->data;

	return (uint64_t)data[0] + data[msg->len - 1];
}

static struct cop_next echo_call(void *state, const struct cop_msg *msg, struct cop_from from)
{
	struct echo *echo = state;
	uint64_t answer = 0;

	(void)from;
	switch (msg->tag) {
	case ECHO:
		return cop_reply(msg->data, msg->len);
	case COUNT:
		answer = echo->casts;
		break;
	case SLEEPS:
		answer = (uint64_t)sleeps_so_far();
		break;
	case TAKE:
		answer = ends_of(msg);
		break;
	}
	return cop_reply(&answer, sizeof answer);
}

static struct cop_next echo_cast(void *state, const struct cop_msg *msg)
{
	struct echo *echo = state;

	(void)msg;
	echo->casts++;
	return cop_ok();
}

/* What was built in place, for want of a call that takes such a message. */
static struct cop_next echo_info(void *state, const struct cop_msg *msg)
{
	uint64_t answer;

	(void)state;
	if (msg->kind == COP_MSG_PLAIN && msg->tag == TAKE) {
		answer = ends_of(msg);
		if (cop_send(cop_to(msg->from), TAKEN, &answer, sizeof answer) < 0)
			fail("answer");
	}
	return cop_ok();
}

static void start_server(void)
{
	struct cop_started started;

	if (cop_server_start_link(&echo_ops, NULL, &started) != COP_STARTED)
		fail("start the server");
	server = started.pid;
}

static uint64_t ask(uint32_t tag)
{
	uint64_t answer;

	if (cop_server_ask(cop_to(server), tag, NULL, 0, &answer, sizeof answer, COP_INFINITY, NULL) < 0)
		fail("ask the server");
	return answer;
}

/* --- the crowd -------------------------------------------------------------------------------- */

typedef void work_f(long n);

static work_f *work;

static void take_part(void *arg)
{
	struct member *me = arg;

	if (apart)
		pin_to(0);
	work(each / 10 + 1);
	atomic_fetch_add(&crowd->ready, 1);
	while (atomic_load(&crowd->ready) < members)
		sched_yield();
	me->sleeps = sleeps_so_far();
	me->begin = now_ns();
	work(each);
	me->end = now_ns();
	me->sleeps = sleeps_so_far() - me->sleeps;
}

static void await_end(void)
{
	struct cop_msg msg;

	if (cop_receive(&msg, NULL, NULL, COP_INFINITY) != 1)
		fail("receive");
	if (msg.kind != COP_MSG_DOWN || msg.reason.kind != COP_EXIT_NORMAL) {
		errno = ECHILD;
		fail("see a member's normal end");
	}
	cop_msg_done(&msg);
}

/* All do their part at the same time; nanoseconds from the first begin to the last end. */
static double gather(work_f *what)
{
	uint64_t begin = UINT64_MAX, end = 0;
	double sleeps = -(double)ask(SLEEPS);

	work = what;
	for (uint32_t i = 0; i < members; i++) {
		cop_pid pid;
		cop_ref ref;

		if (cop_spawn_monitor(take_part, &crowd->member[i], &pid, &ref) < 0)
			fail("spawn");
	}
	for (uint32_t i = 0; i < members; i++)
		await_end();
	sleeps += (double)ask(SLEEPS);
	for (uint32_t i = 0; i < members; i++) {
		const struct member *m = &crowd->member[i];

		begin = m->begin < begin ? m->begin : begin;
		end = m->end > end ? m->end : end;
		sleeps += (double)m->sleeps;
	}
	/* The server's share in the warming-up and the few around the start are in it: an upper bound. */
	result("sleeps", sleeps / (double)(each * members));
	return (double)(end - begin);
}

/* How many, and whether on two processors: `4`, or `1 two`. */
static void prepare(long n, char **how)
{
	members = how[0] != NULL ? (uint32_t)count_of(how[0]) : 1;
	apart = how[0] != NULL && how[1] != NULL && strcmp(how[1], "two") == 0;
	if (members > CROWD_MAX) {
		errno = ERANGE;
		fail("have so many at once");
	}
	each = n / members > 0 ? n / members : 1;
	crowd = share(sizeof *crowd);
	start_server();
}

/* --- calls ------------------------------------------------------------------------------------ */

static void do_calls(long n)
{
	struct payload out = { 0 };

	for (long i = 0; i < n; i++) {
		struct cop_response in;
		const struct payload *back;

		out.serial = (uint64_t)i;
		if (cop_server_call(cop_to(server), ECHO, &out, sizeof out, COP_CALL_MS, &in) < 0)
			fail("call");
		back = in.msg.data;
		if (in.msg.len != sizeof out || back->serial != out.serial) {
			errno = EBADMSG;
			fail("get one's own reply");
		}
		cop_response_done(&in);
	}
}

void job_call(long n, char **how)
{
	double ns;

	prepare(n, how);
	ns = gather(do_calls);
	result("us", ns / 1e3 / (double)each);
	result("k_per_s", (double)(each * members) / ns * 1e6);
}

/* --- casts ------------------------------------------------------------------------------------ */

/* The call comes behind the sender's own casts, so all of them have been handled then. */
static void do_casts(long n)
{
	struct payload out = { 0 };

	for (long i = 0; i < n; i++) {
		out.serial = (uint64_t)i;
		cop_server_cast(cop_to(server), ECHO, &out, sizeof out);
	}
	(void)ask(COUNT);
}

void job_cast(long n, char **how)
{
	double ns;

	prepare(n, how);
	ns = gather(do_casts);
	if (ask(COUNT) != (uint64_t)(each + each / 10 + 1) * members) {
		errno = EBADMSG;
		fail("find all casts handled");
	}
	result("M_per_s", (double)(each * members) / ns * 1e3);
}

/* --- 64 KB ------------------------------------------------------------------------------------ */

static unsigned char big[BIG];

static void call_with(const unsigned char *data)
{
	uint64_t answer;

	if (cop_server_ask(cop_to(server), TAKE, data, BIG, &answer, sizeof answer, COP_CALL_MS, NULL) < 0)
		fail("call");
}

/* The same buffer again and again: the library copies it once. */
static void do_copied(long n)
{
	for (long i = 0; i < n; i++)
		call_with(big);
}

/* A new content each time, written by the caller and copied by the library. */
static void do_fresh_copied(long n)
{
	for (long i = 0; i < n; i++) {
		memset(big, (int)i, BIG);
		call_with(big);
	}
}

static void exchange(unsigned char *data)
{
	struct cop_msg msg;

	if (cop_msg_send(cop_to(server), TAKE, data, 0) < 0)
		fail("send");
	if (cop_receive(&msg, NULL, NULL, COP_CALL_MS) != 1 || msg.tag != TAKEN)
		fail("receive an answer");
	cop_msg_done(&msg);
}

static unsigned char *new_message(void)
{
	unsigned char *data = cop_msg_new(BIG, 0);

	if (data == NULL)
		fail("make a message");
	return data;
}

/* In the message's own memory; first only its ends are written, as when its content is there already ... */
static void do_in_place(long n)
{
	for (long i = 0; i < n; i++) {
		unsigned char *data = new_message();

		data[0] = data[BIG - 1] = (unsigned char)i;
		exchange(data);
	}
}

/* ... then all of it. */
static void do_fresh_in_place(long n)
{
	for (long i = 0; i < n; i++) {
		unsigned char *data = new_message();

		memset(data, (int)i, BIG);
		exchange(data);
	}
}

void job_big(long n, char **how)
{
	static const struct {
		const char *name;
		work_f *work;
	} ways[] = {
		{ "copied", do_copied },
		{ "fresh_copied", do_fresh_copied },
		{ "in_place", do_in_place },
		{ "fresh_in_place", do_fresh_in_place },
	};

	for (size_t i = 0; i < sizeof ways / sizeof *ways; i++)
		if (how[0] != NULL && strcmp(how[0], ways[i].name) == 0) {
			prepare(n, (char *[]){ NULL });
			result("us", gather(ways[i].work) / 1e3 / (double)each);
			return;
		}
	errno = EINVAL;
	fail("find that way of big");
}
