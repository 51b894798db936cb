/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Messages: order, selective receive, all sizes, full mailboxes and quotas, descriptors and signals in one wait. */
#include "node_rig.h"

#include <fcntl.h>

/* --- order --- */

static void sends_five(void *arg)
{
	cop_pid to = cop_parent();
	int i;

	(void)arg;
	for (i = 1; i <= 5; i++)
		tell_int(to, 1, i);
	T_EQ_INT(cop_server_cast(cop_to(to), 1, &(int64_t){ 6 }, 8), 0);
	T_EQ_INT(cop_send(cop_named("me"), 1, &(int64_t){ 7 }, 8), 0);
	send_exit(to, "eight");
	tell_int(to, 1, 9);
}

/* 15: from one sender all comes as it was sent, whatever it is and however it is addressed. */
NODE_CASE(one_senders_order)
{
	struct cop_msg m;
	int64_t i, n;
	cop_pid p;

	cop_trap_exit(true);
	T_EQ_INT(cop_register("me", cop_self()), 0);
	p = spawned_link(sends_five, NULL);
	for (i = 1; i <= 10; i++) {
		T_REQUIRE(cop_receive(&m, NULL, NULL, RIG_MS) == 1);
		T_CHECK(cop_pid_is(m.from, p));
		if (i == 8 || i == 10) {
			T_EQ_INT(m.kind, COP_MSG_EXIT);
			T_EQ_STR(text_of(m.reason), i == 8 ? "eight" : "normal");
		} else {
			T_EQ_INT(m.kind, i == 6 ? COP_MSG_CAST : COP_MSG_PLAIN);
			memcpy(&n, m.data, sizeof n);
			T_EQ_INT(n, i);
		}
		cop_msg_done(&m);
	}
	EXPECT_NOTHING();
}

enum { MANY = 20000 };

static void sends_many(void *arg)
{
	int64_t i;

	(void)arg;
	for (i = 0; i < MANY; i++)
		tell_int(cop_parent(), 1, i);
}

NODE_CASE(each_of_several_senders)
{
	enum { N = 3 };
	cop_pid p[N];
	int64_t next[N] = { 0 }, n;
	struct cop_msg m;
	int i, k;

	for (i = 0; i < N; i++)
		p[i] = spawned(sends_many, NULL);
	for (i = 0; i < N * MANY; i++) {
		T_REQUIRE(cop_receive(&m, NULL, NULL, RIG_MS) == 1);
		memcpy(&n, m.data, sizeof n);
		for (k = 0; k < N; k++)
			if (cop_pid_is(m.from, p[k])) {
				if (n != next[k])
					T_FAIL("%d came when %d was next", (int)n, (int)next[k]);
				next[k] = n + 1;
			}
		cop_msg_done(&m);
	}
	EXPECT_NOTHING();
}

/* --- selective receive --- */

static bool is_tag(void *ctx, const struct cop_msg *m)
{
	return m->tag == *(uint32_t *)ctx;
}

static bool receive_tag(uint32_t tag, int ms)
{
	struct cop_msg m;

	if (cop_receive(&m, is_tag, &tag, ms) != 1)
		return false;
	T_EQ_INT(m.tag, tag);
	cop_msg_done(&m);
	return true;
}

static uint32_t next_tag(void)
{
	struct cop_msg m;
	uint32_t tag;

	if (cop_receive(&m, NULL, NULL, 0) != 1)
		return 0;
	tag = m.tag;
	cop_msg_done(&m);
	return tag;
}

NODE_CASE(what_is_not_wanted_stays_in_order)
{
	uint32_t i;

	for (i = 1; i <= 6; i++)
		tell(cop_self(), i);
	T_CHECK(receive_tag(4, 0)); /* 16: anywhere */
	T_CHECK(receive_tag(6, 0));
	T_CHECK(!receive_tag(6, 0));
	T_CHECK(receive_tag(1, 0));
	T_EQ_INT(cop_queue_len(), 3);
	T_EQ_INT(next_tag(), 2);
	T_EQ_INT(next_tag(), 3);
	T_EQ_INT(next_tag(), 5);
	T_EQ_INT(next_tag(), 0);
}

NODE_CASE(the_oldest_that_matches)
{
	int i;

	for (i = 0; i < 300; i++)
		tell_int(cop_self(), i % 2 ? 1 : 2, i);
	for (i = 1; i < 300; i += 2)
		T_EQ_INT(await_int(1), i);
	for (i = 0; i < 300; i += 2)
		T_EQ_INT(await_int(2), i);
}

static void talks(void *arg)
{
	int i;

	for (i = 0; i < 40; i++) {
		tell(cop_parent(), 5);
		nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
	}
	(void)arg;
}

NODE_CASE(what_does_not_match_does_not_prolong)
{
	int64_t t = now_ms();

	(void)spawned(talks, NULL);
	T_CHECK(!receive_tag(7, 60));
	t = now_ms() - t;
	T_CHECK(t >= 60 && t < 5000);
}

static void floods(void *arg)
{
	cop_pid to = cop_parent();

	(void)arg;
	for (;;)
		tell(to, 5);
}

/* Nobody's flood makes a time-out last for ever. */
NODE_CASE_WITH(a_time_out_in_a_flood, .mailbox = 200000)
{
	(void)spawned(floods, NULL);
	(void)spawned(floods, NULL);
	T_CHECK(receive_tag(5, RIG_MS));
	T_CHECK(!receive_tag(7, 20));
	T_CHECK(!receive_tag(7, 0));
}

NODE_CASE(time_outs)
{
	struct cop_msg m;
	int64_t t = now_ms();

	T_EQ_INT(cop_receive(&m, NULL, NULL, 0), 0);
	T_EQ_INT(cop_receive(&m, NULL, NULL, 30), 0);
	T_CHECK(now_ms() - t >= 30);
	t = now_ms();
	tell(cop_self(), 1);
	cop_sleep(30);
	T_CHECK(now_ms() - t >= 29);
	cop_sleep(0);
	EXPECT_TAG(1);
}

/* --- sizes --- */

static unsigned char pattern(size_t i)
{
	return (unsigned char)(i * 31 + (i >> 8));
}

static void echoes(void *arg)
{
	struct cop_msg m;

	(void)arg;
	while (cop_receive(&m, NULL, NULL, COP_INFINITY) == 1) {
		T_CHECK(cop_send(cop_to(m.from), m.tag, m.data, m.len) == 0);
		cop_msg_done(&m);
	}
}

static void there_and_back(cop_pid echo, size_t len)
{
	unsigned char *buf = malloc(len + 1);
	struct cop_msg m;
	size_t i;

	for (i = 0; i < len; i++)
		buf[i] = pattern(i);
	T_EQ_INT(cop_send(cop_to(echo), 9, buf, len), 0);
	T_REQUIRE(cop_receive(&m, NULL, NULL, RIG_MS) == 1);
	T_EQ_INT(m.tag, 9);
	T_EQ_INT(m.len, len);
	T_CHECK((uintptr_t)m.data % 16 == 0);
	T_CHECK(m.len == len && memcmp(m.data, buf, len) == 0);
	cop_msg_done(&m);
	T_CHECK(!m.data && m.len == 0);
	free(buf);
}

NODE_CASE(sizes)
{
	cop_pid echo = spawned(echoes, NULL);
	size_t len;

	there_and_back(echo, 0);
	there_and_back(echo, 1);
	for (len = 64; len <= 32768 - 64 + 64; len = (len + 64) * 2 - 64) {
		there_and_back(echo, len - 1);
		there_and_back(echo, len);
		there_and_back(echo, len + 1);
	}
	for (len = 65535; len <= 65537; len++)
		there_and_back(echo, len);
	for (len = 65536 - 65; len <= 65536 - 63; len++) /* a run of one and of two */
		there_and_back(echo, len);
	there_and_back(echo, 1 << 20);
	there_and_back(echo, (1 << 20) + 1);
}

NODE_CASE_WITH(the_longest, .memory = (size_t)300 << 20)
{
	cop_pid echo = spawned(echoes, NULL);
	void *data;

	there_and_back(echo, COP_MSG_MAX - 1);
	there_and_back(echo, COP_MSG_MAX);
	T_CHECK(cop_send(cop_to(echo), 1, "", COP_MSG_MAX + 1) < 0 && errno == EMSGSIZE);
	T_CHECK(!cop_msg_new(COP_MSG_MAX + 1, 0) && errno == EMSGSIZE);
	T_CHECK(!cop_msg_new(SIZE_MAX, 0) && errno == EMSGSIZE);
	data = cop_msg_new(1000, 0);
	T_REQUIRE(data);
	cop_msg_drop(data);
	EXPECT_NOTHING();
}

NODE_CASE(filled_in_place)
{
	cop_pid echo = spawned(echoes, NULL);
	struct cop_msg m;
	char *data = cop_msg_new(5000, COP_NOWAIT);

	T_REQUIRE(data);
	memset(data, 'x', 5000);
	T_EQ_INT(cop_msg_send(cop_to(echo), 3, data, 0), 0);
	T_REQUIRE(cop_receive(&m, NULL, NULL, RIG_MS) == 1);
	T_EQ_INT(m.len, 5000);
	T_EQ_INT(((const char *)m.data)[4999], 'x');
	cop_msg_done(&m);
	data = cop_msg_new(10, 0);
	T_CHECK(cop_msg_send(cop_named("nobody"), 3, data, 0) < 0 && errno == ENOENT);
}

NODE_CASE(to_the_dead)
{
	cop_ref ref;
	cop_pid a = spawned_monitor(exits, "normal", &ref);
	int i;

	EXPECT_DOWN(ref, "normal");
	for (i = 0; i < 1000; i++)
		T_EQ_INT(cop_send(cop_to(a), 1, "x", 1), 0);
	T_EQ_INT(cop_send(cop_to(COP_NOPID), 1, "x", 1), 0);
	T_EQ_INT(cop_send(cop_to((cop_pid){ UINT64_MAX }), 1, "x", 1), 0);
	EXPECT_NOTHING();
}

/* --- flow --- */

NODE_CASE_WITH(a_full_mailbox, .mailbox = 100)
{
	cop_pid a = spawned(waits, NULL);
	int i, sent;

	for (sent = 0; sent < 1000 && cop_send_flags(cop_to(a), 1, NULL, 0, COP_NOWAIT) == 0; sent++)
		;
	T_EQ_INT(errno, EAGAIN);
	T_EQ_INT(sent, 100);
	for (i = 0; i < 100; i++)
		tell(cop_self(), 1);
	T_CHECK(cop_send(cop_to(cop_self()), 1, NULL, 0) < 0 && errno == EAGAIN); /* one's own: never waits */
	EXPECT_TAG(1);
	T_EQ_INT(cop_send(cop_to(cop_self()), 1, NULL, 0), 0);
}

static void reads_slowly(void *arg)
{
	struct cop_msg m;
	int64_t want, n;

	(void)arg;
	for (want = 0; want < 300; want++) {
		T_REQUIRE(cop_receive(&m, NULL, NULL, RIG_MS) == 1);
		memcpy(&n, m.data, sizeof n);
		T_EQ_INT(n, want);
		cop_msg_done(&m);
		if (want % 20 == 0)
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	}
}

NODE_CASE_WITH(a_send_waits_for_room, .mailbox = 10)
{
	cop_ref ref;
	cop_pid a = spawned_monitor(reads_slowly, NULL, &ref);
	int i;

	for (i = 0; i < 300; i++)
		tell_int(a, 1, i);
	EXPECT_DOWN(ref, "normal");
}

/* A sender that waits for room is not left to wait when the receiver dies. */
static void fills(void *arg)
{
	cop_pid *to = arg;
	int i;

	for (i = 0; i < 20; i++)
		tell(*to, 1);
	exit_with("done");
}

NODE_CASE_WITH(waiting_for_room_of_one_that_dies, .mailbox = 10)
{
	cop_pid a = spawned(waits, NULL);
	cop_ref ref;

	(void)spawned_monitor(fills, &a, &ref);
	cop_sleep(30);
	cop_kill(a);
	EXPECT_DOWN(ref, "done");
}

static void stopped(void *arg)
{
	(void)arg;
	raise(SIGSTOP);
	exits_when_told("read");
}

/* C5: what is sent to one that is stopped waits for it. */
NODE_CASE_WITH(a_stopped_receiver, .mailbox = 50)
{
	cop_ref ref;
	cop_pid a = spawned_monitor(stopped, NULL, &ref);
	int sent;

	for (sent = 0; sent < 1000 && cop_send_flags(cop_to(a), 1, NULL, 0, COP_NOWAIT) == 0; sent++)
		;
	T_EQ_INT(sent, 50);
	EVENTUALLY(kill(cop_os_pid(a), SIGCONT) == 0 && cop_os_pid(a) == 0);
	EXPECT_DOWN(ref, "read");
}

NODE_CASE_WITH(the_quota, .quota = 1 << 20)
{
	cop_pid a = spawned(waits, NULL);
	char buf[10000] = "";
	int sent;

	for (sent = 0; sent < 1000 && cop_send_flags(cop_to(a), 1, buf, sizeof buf, COP_NOWAIT) == 0; sent++)
		;
	T_EQ_INT(errno, EAGAIN);
	T_CHECK(sent >= 48 && sent <= 64); /* of 16 KB each */
	T_CHECK(!cop_msg_new(sizeof buf, COP_NOWAIT) && errno == EAGAIN);
	T_CHECK(cop_send(cop_to(a), 1, buf, (1 << 20) + 1) < 0 && errno == EMSGSIZE); /* never */
	cop_kill(a);
	T_EQ_INT(cop_send(cop_to(cop_self()), 1, buf, sizeof buf), 0); /* waits until it is dead */
	EXPECT_TAG(1);
	T_EQ_INT(cop_send(cop_to(cop_self()), 1, buf, 500), 0); /* another size has the same quota */
	EXPECT_TAG(1);
	T_EQ_INT(cop_send(cop_to(cop_self()), 1, (char[100000]){ 0 }, 100000), 0);
	EXPECT_TAG(1);
}

NODE_CASE_WITH(memory_is_used_up, .memory = 1 << 20)
{
	char buf[30000] = "";
	int sent, i, round;

	for (round = 0; round < 3; round++) {
		for (sent = 0; sent < 1000 && cop_send(cop_to(cop_self()), 1, buf, sizeof buf) == 0; sent++)
			;
		T_EQ_INT(errno, ENOMEM);
		T_CHECK(sent > 20);
		T_CHECK(cop_send_after(cop_to(cop_self()), 1, buf, sizeof buf, 0).id == 0 && errno == ENOMEM);
		T_CHECK(!cop_msg_new(200000, 0) && errno == ENOMEM);
		for (i = 0; i < sent; i++)
			EXPECT_TAG(1);
	}
	T_EQ_INT(cop_send(cop_to(cop_self()), 1, (char[300000]){ 0 }, 300000), 0); /* all sizes have the same memory */
	EXPECT_TAG(1);
	EXPECT_NOTHING();
}

static void dies_with_much(void *arg)
{
	char buf[30000] = "";
	int i;

	(void)arg;
	for (i = 0; i < 8; i++)
		T_EQ_INT(cop_send(cop_to(cop_parent()), 1, buf, sizeof buf), 0);
}

/* What the dead have sent is kept until it is read, and then there is room again. */
NODE_CASE_WITH(messages_of_the_dead, .memory = 1 << 20)
{
	int i, round;

	for (round = 0; round < 30; round++) {
		T_CHECK(gone(spawned(dies_with_much, NULL)));
		for (i = 0; i < 8; i++)
			EXPECT_TAG(1);
	}
}

NODE_CASE(half_a_million_in_the_mailbox)
{
	enum { N = 500000 / RIG_HEAVY };
	struct cop_msg m;
	int i;

	for (i = 0; i < N; i++)
		if (cop_send(cop_to(cop_self()), 1, NULL, 0) < 0) {
			T_FAIL("errno %d", errno);
			return;
		}
	T_EQ_INT(cop_queue_len(), N);
	for (i = 0; i < N; i++) {
		T_REQUIRE(cop_receive(&m, NULL, NULL, 0) == 1);
		cop_msg_done(&m);
	}
	T_EQ_INT(cop_send(cop_to(cop_self()), 2, (char[3000]){ 0 }, 3000), 0);
	EXPECT_TAG(2);
}

/* --- descriptors, signals, timers and messages in one wait --- */

static struct cop_msg any(void)
{
	struct cop_msg m = { .kind = 255 };

	if (cop_receive(&m, NULL, NULL, RIG_MS) != 1)
		T_FAIL("nothing came");
	return m;
}

NODE_CASE(a_pipe)
{
	struct cop_msg m;
	int fd[2];
	char c;

	T_REQUIRE(pipe2(fd, O_CLOEXEC | O_NONBLOCK) == 0);
	T_EQ_INT(cop_select(fd[0], POLLIN), 0);
	T_EQ_INT(cop_receive(&m, NULL, NULL, 0), 0);
	T_EQ_INT(write(fd[1], "ab", 2), 2);
	m = any();
	T_EQ_INT(m.kind, COP_MSG_READY);
	T_EQ_INT(m.fd, fd[0]);
	T_CHECK(m.events & POLLIN);
	cop_msg_done(&m);
	T_EQ_INT(cop_receive(&m, NULL, NULL, 20), 0); /* once */
	T_EQ_INT(read(fd[0], &c, 1), 1);
	T_EQ_INT(cop_select(fd[0], POLLIN), 0);
	m = any();
	T_EQ_INT(m.kind, COP_MSG_READY);
	cop_msg_done(&m);
	T_EQ_INT(cop_select(fd[0], POLLIN), 0);
	T_EQ_INT(cop_select(fd[0], 0), 0);
	T_EQ_INT(cop_receive(&m, NULL, NULL, 20), 0);
	T_EQ_INT(read(fd[0], &c, 1), 1);
	T_EQ_INT(cop_select(fd[0], POLLIN), 0);
	close(fd[1]);
	m = any();
	T_CHECK(m.events & POLLHUP);
	cop_msg_done(&m);
	T_EQ_INT(cop_select(fd[0], 0), 0);
	close(fd[0]);
	T_CHECK(cop_select(fd[0], POLLIN) < 0 && errno == EBADF);
}

static void wakes(void *arg)
{
	(void)arg;
	cop_sleep(20);
	tell(cop_parent(), 7);
}

NODE_CASE(all_in_one_wait)
{
	int fd[2], ready = 0, signals = 0, plain = 0, timers = 0, i;
	struct cop_msg m;

	T_REQUIRE(pipe2(fd, O_CLOEXEC | O_NONBLOCK) == 0);
	T_EQ_INT(cop_select(fd[0], POLLIN), 0);
	T_EQ_INT(cop_select_signal(SIGUSR1, true), 0);
	T_CHECK(cop_send_after(cop_to(cop_self()), 8, NULL, 0, 20).id != 0);
	(void)spawned(wakes, NULL);
	T_EQ_INT(write(fd[1], "x", 1), 1);
	kill(getpid(), SIGUSR1);
	for (i = 0; i < 4; i++) {
		m = any();
		ready += m.kind == COP_MSG_READY;
		signals += m.kind == COP_MSG_SIGNAL && m.fd == SIGUSR1;
		plain += m.kind == COP_MSG_PLAIN && m.tag == 7;
		timers += m.kind == COP_MSG_PLAIN && m.tag == 8;
		cop_msg_done(&m);
	}
	T_EQ_INT(ready * 1000 + signals * 100 + plain * 10 + timers, 1111);
	EXPECT_NOTHING();
	close(fd[0]);
	close(fd[1]);
}

NODE_CASE(signals)
{
	static const int not_those[] = { 0, -1, SIGKILL, SIGSTOP, SIGURG, SIGCHLD, 65, 1000 };
	struct cop_msg m;
	size_t i;

	for (i = 0; i < sizeof not_those / sizeof not_those[0]; i++)
		T_CHECK(cop_select_signal(not_those[i], true) < 0 && errno == EINVAL);
	T_CHECK(cop_select_signal(SIGRTMAX - 1, true) < 0 && errno == EINVAL);
	T_EQ_INT(cop_select_signal(SIGTERM, true), 0);
	T_EQ_INT(cop_select_signal(SIGRTMAX, true), 0);
	T_EQ_INT(cop_select_signal(SIGUSR2, true), 0);
	T_EQ_INT(cop_select_signal(SIGUSR2, false), 0);
	kill(getpid(), SIGTERM);
	m = any();
	T_EQ_INT(m.kind, COP_MSG_SIGNAL);
	T_EQ_INT(m.fd, SIGTERM);
	cop_msg_done(&m);
	kill(getpid(), SIGRTMAX);
	m = any();
	T_EQ_INT(m.fd, SIGRTMAX);
	cop_msg_done(&m);
	EXPECT_NOTHING();
}

static void dies_of_it(void *arg)
{
	(void)arg;
	raise(SIGTERM);
	exit_with("alive");
}

NODE_CASE(selected_signals_are_not_inherited)
{
	cop_ref ref;

	T_EQ_INT(cop_select_signal(SIGTERM, true), 0);
	(void)spawned_monitor(dies_of_it, NULL, &ref);
	EXPECT_DOWN(ref, "signal:TERM");
}

/* Who unblocks all signals is woken all the same. */
static void unblocks_all(void *arg)
{
	struct cop_msg m;
	sigset_t none;
	int fd[2];

	(void)arg;
	T_REQUIRE(pipe2(fd, O_CLOEXEC) == 0);
	T_EQ_INT(cop_select(fd[0], POLLIN), 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	atomic_store(&rig->flag[0], 1);
	T_EQ_INT(cop_receive(&m, NULL, NULL, COP_INFINITY), 1);
}

NODE_CASE(all_signals_unblocked)
{
	cop_ref ref;
	cop_pid a = spawned_monitor(unblocks_all, NULL, &ref);

	EVENTUALLY(atomic_load(&rig->flag[0]));
	cop_sleep(50);
	tell(a, 1);
	EXPECT_DOWN(ref, "normal");
}

/* A descriptor is heard of however many messages come. */
NODE_CASE(a_descriptor_in_a_flood)
{
	struct cop_msg m;
	int64_t end = now_ms() + 10000;
	bool ready = false;
	int fd[2];

	T_REQUIRE(pipe2(fd, O_CLOEXEC) == 0);
	(void)spawned(floods, NULL);
	(void)spawned(floods, NULL);
	T_EQ_INT(cop_select(fd[0], POLLIN), 0);
	T_EQ_INT(write(fd[1], "x", 1), 1);
	while (!ready && now_ms() < end) {
		m = any();
		ready = m.kind == COP_MSG_READY;
		cop_msg_done(&m);
		for (int i = 0; i < 300; i++)
			__asm__ volatile("" ::: "memory");
	}
	T_CHECK(ready);
}

/* While there is no memory to say that it is ready, it is not forgotten. */
NODE_CASE_WITH(a_descriptor_when_the_quota_is_used_up, .quota = 65536)
{
	cop_pid a = spawned(waits, NULL);
	struct cop_msg m;
	int fd[2];

	T_REQUIRE(pipe2(fd, O_CLOEXEC) == 0);
	T_EQ_INT(cop_select(fd[0], POLLIN), 0);
	while (cop_send_flags(cop_to(a), 1, NULL, 0, COP_NOWAIT) == 0)
		;
	T_EQ_INT(errno, EAGAIN);
	T_EQ_INT(write(fd[1], "x", 1), 1);
	T_EQ_INT(cop_receive(&m, NULL, NULL, 30), 0);
	cop_kill(a);
	T_REQUIRE(cop_receive(&m, NULL, NULL, RIG_MS) == 1);
	T_EQ_INT(m.kind, COP_MSG_READY);
	T_EQ_INT(m.fd, fd[0]);
	cop_msg_done(&m);
	EXPECT_NOTHING();
}

static bool sends_another(void *ctx, const struct cop_msg *m)
{
	(void)m;
	++*(int *)ctx;
	tell(cop_self(), 5);
	nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	return false;
}

/* For each message that is not wanted another one comes: the time is over all the same. */
NODE_CASE_WITH(a_time_out_while_looking, .mailbox = 200000)
{
	struct cop_msg m;
	int looked = 0;

	tell(cop_self(), 5);
	T_EQ_INT(cop_receive(&m, sends_another, &looked, 0), 0);
	T_EQ_INT(looked, 1);
	T_EQ_INT(cop_receive(&m, sends_another, &looked, 20), 0);
	T_CHECK(looked > 2);
}

NODE_CASE_WITH(a_signal_when_the_quota_is_used_up, .quota = 65536)
{
	cop_pid a = spawned(waits, NULL);
	struct cop_msg m;

	T_EQ_INT(cop_select_signal(SIGUSR1, true), 0);
	while (cop_send_flags(cop_to(a), 1, NULL, 0, COP_NOWAIT) == 0)
		;
	T_EQ_INT(errno, EAGAIN);
	raise(SIGUSR1);
	T_EQ_INT(cop_receive(&m, NULL, NULL, 30), 0);
	cop_kill(a);
	T_REQUIRE(cop_receive(&m, NULL, NULL, RIG_MS) == 1);
	T_EQ_INT(m.kind, COP_MSG_SIGNAL);
	T_EQ_INT(m.fd, SIGUSR1);
	cop_msg_done(&m);
	EXPECT_NOTHING();
}

T_MAIN(T_RUN(one_senders_order), T_RUN(each_of_several_senders), T_RUN(what_is_not_wanted_stays_in_order),
    T_RUN(the_oldest_that_matches), T_RUN(what_does_not_match_does_not_prolong), T_RUN(a_time_out_in_a_flood),
    T_RUN(time_outs), T_RUN(sizes), T_RUN(the_longest), T_RUN(filled_in_place), T_RUN(to_the_dead),
    T_RUN(a_full_mailbox), T_RUN(a_send_waits_for_room), T_RUN(waiting_for_room_of_one_that_dies),
    T_RUN(a_stopped_receiver), T_RUN(the_quota), T_RUN(memory_is_used_up), T_RUN(messages_of_the_dead),
    T_RUN(half_a_million_in_the_mailbox), T_RUN(a_pipe), T_RUN(all_in_one_wait), T_RUN(signals),
    T_RUN(selected_signals_are_not_inherited), T_RUN(all_signals_unblocked), T_RUN(a_descriptor_in_a_flood),
    T_RUN(a_descriptor_when_the_quota_is_used_up), T_RUN(a_time_out_while_looking),
    T_RUN(a_signal_when_the_quota_is_used_up))
