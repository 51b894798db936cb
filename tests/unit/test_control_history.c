/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The history: numbers, room, post-mortems, and above all that a reader killed at any moment loses
 * nothing and keeps nothing twice.
 */
#include "t.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <unistd.h>

#include "node/control_history_private.h"

struct bench {
	int r, w, memfd;
	struct event_pipe pipe;
	struct history h;
};

static struct bench b;
static char scratch[EVENT_MSG_MAX];

static void bench_open(size_t queue)
{
	int fd[2];

	T_REQUIRE(pipe2(fd, O_NONBLOCK | O_CLOEXEC) == 0);
	b.r = fd[0];
	b.w = fd[1];
	b.memfd = memfd_create("history", MFD_CLOEXEC);
	T_REQUIRE(b.memfd >= 0);
	T_REQUIRE(event_pipe_init(&b.pipe, b.w, queue) == 0);
	T_REQUIRE(history_open(&b.h, b.memfd) == 0);
}

static void bench_close(void)
{
	history_close(&b.h);
	close(b.r);
	close(b.w);
	close(b.memfd);
	free(b.pipe.q);
}

/* As after the death of the process: a new one maps the same memory. */
static void reopen(void)
{
	history_close(&b.h);
	T_REQUIRE(history_open(&b.h, b.memfd) == 0);
	T_CHECK(!b.h.fresh);
}

static void put(struct event e)
{
	event_pipe_put(&b.pipe, &e);
}

static void take_all(void)
{
	do {
		event_pipe_flush(&b.pipe);
	} while (history_take(&b.h, b.r) > 0);
}

/* Takes the next event behind the cursor. */
static int next(uint64_t *cursor, uint64_t *seq, struct event *e)
{
	const uint8_t *msg;
	size_t len;
	int r = history_next(&b.h, cursor, seq, &msg, &len);

	if (r == 1)
		T_EQ_INT(event_get(msg, len, e, scratch, sizeof(scratch)), 0);
	return r;
}

T_CASE(numbers_begin_with_one_and_go_on)
{
	uint64_t cursor, seq;
	struct event e;

	bench_open(4096);
	T_CHECK(b.h.fresh);
	put((struct event){ .type = EVENT_START, .path = "a", .pid = 1 });
	put((struct event){ .type = EVENT_READY, .path = "a", .pid = 1 });
	take_all();
	cursor = history_seek(&b.h, 0);
	T_EQ_INT(next(&cursor, &seq, &e), 1);
	T_EQ_INT(seq, 1);
	T_EQ_INT(e.type, EVENT_START);
	T_EQ_INT(next(&cursor, &seq, &e), 1);
	T_EQ_INT(seq, 2);
	T_EQ_INT(next(&cursor, &seq, &e), 0);
	reopen();
	put((struct event){ .type = EVENT_STOP, .path = "a", .how = "TERM" });
	take_all();
	T_EQ_INT(next(&cursor, &seq, &e), 1); /* a cursor is good for ever */
	T_EQ_INT(seq, 3);
	T_EQ_STR(e.how, "TERM");
	cursor = history_seek(&b.h, 2);
	T_EQ_INT(next(&cursor, &seq, &e), 1);
	T_EQ_INT(seq, 2);
	cursor = history_seek(&b.h, UINT64_MAX);
	T_EQ_INT(next(&cursor, &seq, &e), 0);
	bench_close();
}

T_CASE(the_last_ten_thousand_are_kept_and_old_ones_make_room)
{
	uint64_t cursor = 0, first, seq, n = 0, total = 120000;
	struct event e;

	bench_open(4096);
	for (uint64_t i = 0; i < total; i++) {
		put((struct event){ .type = EVENT_READY, .path = "some/child@12", .after_ms = (uint32_t)i });
		if (i % 100 == 0)
			take_all();
	}
	take_all();
	T_EQ_INT(next(&cursor, &seq, &e), -1); /* gone */
	cursor = history_seek(&b.h, 0);
	T_EQ_INT(next(&cursor, &first, &e), 1);
	for (n = 1; next(&cursor, &seq, &e) == 1; n++) {
		T_EQ_INT(seq, first + n);
		T_EQ_INT(e.after_ms, seq - 1);
	}
	T_EQ_INT(seq, total);
	T_CHECK(n >= 10000 && n < total);
	bench_close();
}

/* A list of n strings of 4 characters. */
static char *make_list(size_t n)
{
	char *list = malloc(n * 5);

	T_REQUIRE(list != NULL);
	for (size_t i = 0; i < n; i++)
		snprintf(list + i * 5, 5, "%04x", (unsigned)(i & 0xffff));
	return list;
}

T_CASE(parts_survive_the_reader)
{
	char *list = make_list(8000);
	uint64_t cursor, seq;
	struct event e;

	bench_open(256 * 1024);
	T_REQUIRE(fcntl(b.w, F_SETPIPE_SZ, 4096) == 4096);
	put((struct event){ .type = EVENT_RESTART, .path = "/", .cause = "0000", .list = list, .list_len = 40000 });
	do {
		reopen(); /* after every part */
		event_pipe_flush(&b.pipe);
	} while (history_take(&b.h, b.r) > 0);
	cursor = history_seek(&b.h, 0);
	T_EQ_INT(next(&cursor, &seq, &e), 1);
	T_EQ_INT(e.list_len, 40000);
	T_CHECK(memcmp(e.list, list, 40000) == 0);
	T_EQ_INT(history_now(&b.h)->pending_len, 0);
	free(list);
	bench_close();
}

T_CASE(what_is_no_event_is_said_to_be_lost)
{
	uint64_t cursor, seq;
	struct event e;

	bench_open(4096);
	T_CHECK(write(b.w, "\x05\0\0\0garbage that is no record", 30) == 30);
	take_all();
	put((struct event){ .type = EVENT_START, .path = "a", .pid = 1 });
	take_all();
	cursor = history_seek(&b.h, 0);
	T_EQ_INT(next(&cursor, &seq, &e), 1);
	T_EQ_INT(e.type, EVENT_LOST);
	T_EQ_INT(next(&cursor, &seq, &e), 1);
	T_EQ_INT(e.type, EVENT_START);
	bench_close();
}

/* --- post-mortems --- */

struct seen {
	unsigned n;
	struct proto_death d[HISTORY_DEATHS];
};

static struct seen seen;

static void see(void *ctx, const struct proto_death *d)
{
	(void)ctx;
	T_REQUIRE(seen.n < HISTORY_DEATHS);
	seen.d[seen.n++] = *d;
}

static void look(const char *path)
{
	seen.n = 0;
	history_deaths(&b.h, path, see, NULL);
}

static void put_exit(const char *path, pid_t pid, int status)
{
	struct event e = { .type = EVENT_EXIT, .path = path, .pid = pid, .ran_ms = 5 };

	e.reason = cop_exit_make(COP_EXIT_CODE, status);
	put(e);
}

T_CASE(a_death_has_its_restart_and_its_lines)
{
	static const char list[] = "app/db\0app/api";

	bench_open(4096);
	history_add_lines(&b.h, "app/db", 10, "early\n", 6); /* lines may come first */
	put_exit("app/db", 10, 1);
	put((struct event){ .type = EVENT_RESTART, .path = "app", .cause = "app/db", .list = list, .list_len = sizeof(list) });
	put_exit("app/api", 11, 2);
	put_exit("app/db", 12, 3);
	take_all();
	history_add_lines(&b.h, "app/db", 12, "a\0b\n", 4);
	look("app/db");
	T_EQ_INT(seen.n, 2);
	T_EQ_INT(seen.d[0].pid, 12);
	T_EQ_INT(seen.d[0].reason.value, 3);
	T_EQ_STR(seen.d[0].lines, "a?b\n");
	T_EQ_STR(seen.d[0].restarted, "");
	T_EQ_INT(seen.d[1].pid, 10);
	T_EQ_STR(seen.d[1].lines, "early\n");
	T_EQ_STR(seen.d[1].restarted, "app/db app/api");
	look("app/api");
	T_EQ_INT(seen.n, 1);
	T_EQ_STR(seen.d[0].lines, "");
	look("nobody");
	T_EQ_INT(seen.n, 0);
	bench_close();
}

T_CASE(the_last_ten_deaths_newest_first)
{
	bench_open(4096);
	for (int i = 0; i < 25; i++) {
		put_exit("x", 7, i); /* the same pid again and again */
		history_add_lines(&b.h, "x", 7, (char[]){ (char)('a' + i), '\n' }, 2);
	}
	take_all();
	reopen();
	look("x");
	T_EQ_INT(seen.n, 10);
	for (unsigned i = 0; i < seen.n; i++) {
		T_EQ_INT(seen.d[i].reason.value, 24 - (int)i);
		T_EQ_INT(seen.d[i].lines[0], 'a' + 24 - (int)i);
	}
	bench_close();
}

T_CASE(many_lines_are_cut_at_the_front)
{
	char lines[9000];

	bench_open(4096);
	for (size_t i = 0; i < sizeof(lines); i++)
		lines[i] = i % 10 == 9 ? '\n' : (char)('0' + i % 10);
	put_exit("x", 7, 1);
	take_all();
	for (int i = 0; i < 2000; i++) /* and old ones make room */
		history_add_lines(&b.h, "x", 7, lines, sizeof(lines));
	look("x");
	T_EQ_INT(seen.n, 1);
	T_CHECK(strlen(seen.d[0].lines) < sizeof(seen.d[0].lines) && strlen(seen.d[0].lines) > 4000);
	T_CHECK(strncmp(seen.d[0].lines, "012345678\n", 10) == 0);
	bench_close();
}

/* --- killed --- */

/* Takes events until it is killed. */
static _Noreturn void reader(void)
{
	struct history h;

	if (history_open(&h, b.memfd) < 0)
		_exit(1);
	for (;;)
		if (history_take(&h, b.r) == 0)
			usleep(50);
}

static void expect_each_once(uint32_t total)
{
	uint64_t cursor = history_seek(&b.h, 0), seq;
	uint32_t expect = 0;
	struct event e;

	while (next(&cursor, &seq, &e) == 1) {
		T_EQ_INT(seq, expect + 1);
		if (e.type == EVENT_RESTART)
			T_EQ_INT(e.list_len, 20000);
		T_EQ_INT(e.restarts_left, expect);
		expect++;
	}
	T_EQ_INT(expect, total);
}

static void put_numbered(uint32_t n, const char *list)
{
	if (n % 10 == 0)
		put((struct event){ .type = EVENT_RESTART, .path = "/", .list = list, .list_len = 20000, .restarts_left = n });
	else
		put((struct event){ .type = EVENT_READY, .path = "x", .restarts_left = n });
}

T_CASE(killed_at_random_nothing_is_lost_and_nothing_comes_twice)
{
	char *list = make_list(4000);
	uint32_t n = 0;

	bench_open(1024 * 1024);
	srand(1);
	for (int round = 0; round < 300; round++) {
		pid_t pid = fork();

		if (pid == 0)
			reader();
		for (int i = rand() % 8; i > 0; i--)
			put_numbered(n++, list);
		event_pipe_flush(&b.pipe);
		usleep((useconds_t)(rand() % 1500));
		event_pipe_flush(&b.pipe);
		T_CHECK(kill(pid, SIGKILL) == 0 && waitpid(pid, NULL, 0) == pid);
	}
	T_EQ_INT(b.pipe.lost, 0);
	reopen();
	take_all();
	expect_each_once(n);
	free(list);
	bench_close();
}

#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__)
/* Runs a child that takes one batch for so many single steps, then kills it. Returns how many it
 * came to. */
static long killed_after(long steps)
{
	int status;
	long done;
	pid_t pid = fork();

	if (pid == 0) {
		struct history h;

		if (history_open(&h, b.memfd) < 0 || ptrace(PTRACE_TRACEME, 0, 0, 0) < 0)
			_exit(1);
		raise(SIGSTOP);
		history_take(&h, b.r);
		_exit(0);
	}
	T_REQUIRE(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status));
	for (done = 0; done < steps; done++) {
		T_REQUIRE(ptrace(PTRACE_SINGLESTEP, pid, 0, 0) == 0);
		T_REQUIRE(waitpid(pid, &status, 0) == pid);
		if (WIFEXITED(status))
			return done;
	}
	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return done;
}

/* One event, and one in parts, then death after so many instructions, then a successor. */
static long kill_and_look(long steps, const char *list)
{
	long done;

	bench_open(64 * 1024);
	put((struct event){ .type = EVENT_READY, .path = "x", .restarts_left = 0 });
	put((struct event){ .type = EVENT_RESTART, .path = "/", .list = list, .list_len = 5000, .restarts_left = 1 });
	done = killed_after(steps);
	reopen();
	take_all();
	{
		uint64_t cursor = history_seek(&b.h, 0), seq, expect = 0;
		struct event e;

		while (next(&cursor, &seq, &e) == 1) {
			T_EQ_INT(seq, expect + 1);
			T_EQ_INT(e.restarts_left, expect);
			expect++;
		}
		if (expect != 2)
			T_FAIL("killed after %ld steps: %d events", steps, (int)expect);
	}
	bench_close();
	return done;
}

/* COP_EVERY_STEP=1 in the environment tries all of them, which takes its time. */
T_CASE(killed_at_many_instructions)
{
	char *list = make_list(1000);
	long total = kill_and_look(1000000, list), every = getenv("COP_EVERY_STEP") != NULL ? 1 : total / 50 + 1;

	for (long steps = 1; steps < total && t_failures == 0; steps += every)
		kill_and_look(steps, list);
	printf("# %ld instructions, every %ldth\n", total, every);
	free(list);
}
#else
T_CASE(killed_at_many_instructions)
{
	printf("# single steps only without AddressSanitizer on x86-64\n");
}
#endif

/* Memory that says nonsense is begun anew. */
T_CASE(damaged_memory_is_survived)
{
	uint64_t cursor, seq;
	struct event e;

	bench_open(4096);
	for (int i = 0; i < 100; i++)
		put((struct event){ .type = EVENT_START, .path = "a", .pid = 1 });
	take_all();
	memset(b.h.mem->head.commit, 0xff, sizeof(b.h.mem->head.commit));
	history_close(&b.h);
	T_EQ_INT(history_open(&b.h, b.memfd), 0);
	T_CHECK(b.h.fresh);
	put((struct event){ .type = EVENT_START, .path = "a", .pid = 1 });
	take_all();
	memset(b.h.mem->events, 0xff, sizeof(b.h.mem->events));
	cursor = history_seek(&b.h, 0);
	T_EQ_INT(next(&cursor, &seq, &e), 0);
	look("a");
	for (int i = 0; i < 100; i++)
		put((struct event){ .type = EVENT_START, .path = "a", .pid = 1 });
	take_all();
	bench_close();
}

T_MAIN(T_RUN(numbers_begin_with_one_and_go_on), T_RUN(the_last_ten_thousand_are_kept_and_old_ones_make_room),
    T_RUN(parts_survive_the_reader), T_RUN(what_is_no_event_is_said_to_be_lost),
    T_RUN(a_death_has_its_restart_and_its_lines), T_RUN(the_last_ten_deaths_newest_first),
    T_RUN(many_lines_are_cut_at_the_front), T_RUN(killed_at_random_nothing_is_lost_and_nothing_comes_twice),
    T_RUN(killed_at_many_instructions), T_RUN(damaged_memory_is_survived))
