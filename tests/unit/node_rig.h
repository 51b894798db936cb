/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Cases that run inside a node of the library. What a process of the node finds wrong counts for the case,
 * wherever in the node it runs.
 *
 *     NODE_CASE(dies_of_a_link) { cop_pid c = spawned_link(exits, "oops"); EXPECT_EXIT(c, "oops"); }
 */
#ifndef UNIT_NODE_RIG_H
#define UNIT_NODE_RIG_H

#include "t.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>

#include <coppice/coppice.h>

#define RIG_MS 20000 /* nothing that is to happen takes longer */
#define RIG_HEAVY (RIG_SANITIZED ? 4 : 1)

#ifdef __SANITIZE_ADDRESS__
#define RIG_SANITIZED 1
#else
#define RIG_SANITIZED 0
#endif

/* Shared by all processes of a case. */
struct rig {
	_Atomic int failures;
	_Atomic int count, peak;
	_Atomic int flag[32];
	_Atomic int pid[16];
	char log[1024]; /* of one writer at a time */
};

static struct rig *rig;

static inline void rig_open(void)
{
	if (!rig)
		rig = mmap(NULL, sizeof *rig, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	T_REQUIRE(rig != MAP_FAILED);
}

#undef T_FAIL
#define T_FAIL(...) \
	do { \
		t_failures++; \
		if (rig) \
			atomic_fetch_add(&rig->failures, 1); \
		printf("# %s:%d: ", __FILE__, __LINE__); \
		printf(__VA_ARGS__); \
		printf("\n"); \
		fflush(stdout); \
	} while (0)

/* Runs f as the first process of a node; the exit status that cop_run() returns. */
static inline int node_run(const struct cop_node_options *options, cop_proc_f *f, void *arg)
{
	static const struct cop_node_options quiet = { .quiet = true };
	int r;

	rig_open();
	fflush(stdout);
	r = cop_run(options ? options : &quiet, f, arg);
	if (r >= 0 && atomic_load(&rig->failures))
		t_failures += atomic_load(&rig->failures);
	return r;
}

/* A case whose body is the first process; it must end with `normal`. */
#define NODE_CASE_WITH(case_, ...) \
	static void in_node_##case_(void *arg); \
	T_CASE(case_) \
	{ \
		static const struct cop_node_options options = { .quiet = true, __VA_ARGS__ }; \
		T_EQ_INT(node_run(&options, in_node_##case_, NULL), 0); \
	} \
	static void in_node_##case_(void *arg __attribute__((unused)))
#define NODE_CASE(case_) NODE_CASE_WITH(case_, .name = "case")

/* --- words --- */

/* The text of a reason; for one at a time. */
static inline const char *text_of(struct cop_exit reason)
{
	static char buf[4][COP_EXIT_FORMAT_MAX];
	static unsigned at;

	return cop_exit_format(&reason, buf[at++ % 4], sizeof buf[0]);
}

static inline struct cop_exit reason(const char *text)
{
	struct cop_exit r;

	T_REQUIRE(cop_exit_parse(text, &r) == 0);
	return r;
}

static inline void exit_with(const char *text)
{
	struct cop_exit r = reason(text);

	cop_exit(&r);
}

static inline void send_exit(cop_pid to, const char *text)
{
	struct cop_exit r = reason(text);

	cop_exit_signal(to, &r);
}

static inline void tell(cop_pid to, uint32_t tag)
{
	T_CHECK(cop_send(cop_to(to), tag, NULL, 0) == 0);
}

static inline void tell_int(cop_pid to, uint32_t tag, int64_t n)
{
	T_CHECK(cop_send(cop_to(to), tag, &n, sizeof n) == 0);
}

struct rig_want {
	int kind;
	cop_pid from;
	cop_ref ref;
	uint32_t tag;
};

static inline bool rig_wants(void *ctx, const struct cop_msg *m)
{
	const struct rig_want *w = ctx;

	return m->kind == w->kind && (!w->from.id || cop_pid_is(m->from, w->from)) &&
	    (!w->ref.id || cop_ref_is(m->ref, w->ref)) && (!w->tag || m->tag == w->tag);
}

static inline struct cop_msg rig_await(const struct rig_want *w, const char *what, int line)
{
	struct cop_msg m = { .kind = 255 };

	if (cop_receive(&m, rig_wants, (void *)(uintptr_t)w, RIG_MS) != 1)
		T_FAIL("line %d: %s did not come", line, what);
	return m;
}

/* The next messages of a kind, out of any order; the rest stays in the mailbox. */
#define EXPECT_DOWN(mon, text) \
	do { \
		struct cop_msg t_m = rig_await(&(struct rig_want){ COP_MSG_DOWN, .ref = mon }, "DOWN", __LINE__); \
		T_EQ_STR(text_of(t_m.reason), text); \
		cop_msg_done(&t_m); \
	} while (0)
#define EXPECT_EXIT(pid, text) \
	do { \
		struct cop_msg t_m = rig_await(&(struct rig_want){ COP_MSG_EXIT, .from = pid }, "EXIT", __LINE__); \
		T_EQ_STR(text_of(t_m.reason), text); \
		cop_msg_done(&t_m); \
	} while (0)
#define EXPECT_TAG(t) \
	do { \
		struct cop_msg t_m = rig_await(&(struct rig_want){ COP_MSG_PLAIN, .tag = t }, "message " #t, __LINE__); \
		cop_msg_done(&t_m); \
	} while (0)
#define EXPECT_NOTHING() T_EQ_INT(cop_queue_len(), 0)
/* What happens beside: looks until it is true. */
#define EVENTUALLY(cond) \
	do { \
		int t_i; \
		for (t_i = 0; t_i < RIG_MS && !(cond); t_i++) \
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL); \
		if (t_i == RIG_MS && !(cond)) \
			T_FAIL("not true in time: %s", #cond); \
	} while (0)

static inline int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* The message of a tag, whose data is a number. */
static inline int64_t await_int(uint32_t tag)
{
	struct cop_msg m = rig_await(&(struct rig_want){ COP_MSG_PLAIN, .tag = tag }, "a number", __LINE__);
	int64_t n = -1;

	if (m.kind != 255) {
		T_EQ_INT(m.len, sizeof n);
		memcpy(&n, m.data, sizeof n);
		cop_msg_done(&m);
	}
	return n;
}

/* --- processes --- */

static inline cop_pid spawned(cop_proc_f *f, const void *arg)
{
	cop_pid p = COP_NOPID;

	T_REQUIRE(cop_spawn(f, (void *)(uintptr_t)arg, &p) == 0);
	return p;
}

static inline cop_pid spawned_link(cop_proc_f *f, const void *arg)
{
	cop_pid p = COP_NOPID;

	T_REQUIRE(cop_spawn_link(f, (void *)(uintptr_t)arg, &p) == 0);
	return p;
}

static inline cop_pid spawned_monitor(cop_proc_f *f, const void *arg, cop_ref *ref)
{
	cop_pid p = COP_NOPID;

	T_REQUIRE(cop_spawn_monitor(f, (void *)(uintptr_t)arg, &p, ref) == 0);
	return p;
}

static inline cop_ref monitored(cop_pid p)
{
	cop_ref r = cop_monitor(cop_to(p));

	T_CHECK(r.id != 0);
	return r;
}

/* Waits for ever; messages stay. */
static inline void waits(void *arg)
{
	(void)arg;
	for (;;)
		cop_sleep(COP_INFINITY);
}

/* Waits for ever as one that traps exits; says when it does. */
static inline void traps(void *arg)
{
	(void)arg;
	cop_trap_exit(true);
	tell(cop_parent(), 999);
	waits(NULL);
}

/* A process that traps already. */
static inline cop_pid trapping(void)
{
	cop_pid p = spawned(traps, NULL);

	EXPECT_TAG(999);
	return p;
}

/* Ends with a reason. */
static inline void exits(void *arg)
{
	exit_with(arg);
}

/* Ends with a reason when it is told. */
static inline void exits_when_told(void *arg)
{
	struct cop_msg m;

	while (cop_receive(&m, NULL, NULL, COP_INFINITY) != 1 || m.kind != COP_MSG_PLAIN)
		;
	exit_with(arg);
}

static inline bool gone(cop_pid p)
{
	cop_ref r = monitored(p);
	struct cop_msg m = rig_await(&(struct rig_want){ COP_MSG_DOWN, .ref = r }, "its end", __LINE__);

	cop_msg_done(&m);
	return cop_os_pid(p) == 0;
}

/* --- nodes that are killed --- */

/* Runs f as a node in a process of its own, whose leavings come to this one; its Unix pid. */
static inline pid_t node_aside(const struct cop_node_options *options, cop_proc_f *f, void *arg)
{
	static const struct cop_node_options quiet = { .quiet = true };
	pid_t pid;

	rig_open();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		int r = cop_run(options ? options : &quiet, f, arg);

		fflush(stdout);
		_exit(r < 0 ? 255 : r);
	}
	T_REQUIRE(pid > 0);
	return pid;
}

/* Everything that this process has or inherits has ended within ms; the status of `pid` among them. */
static inline int all_ended(pid_t pid, int ms)
{
	int64_t end = now_ms() + ms;
	int status, of_pid = -1;
	pid_t got;

	for (;;) {
		got = waitpid(-1, &status, WNOHANG);
		if (got == pid)
			of_pid = status;
		if (got < 0 && errno == ECHILD)
			break;
		if (got == 0) {
			if (now_ms() > end) {
				T_FAIL("something is left after %d ms", ms);
				break;
			}
			nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
		}
	}
	if (atomic_load(&rig->failures))
		t_failures += atomic_load(&rig->failures);
	return of_pid;
}

/* --- ends --- */

static inline void returns(void *arg)
{
	(void)arg;
}

static inline void raises(void *arg)
{
	signal((int)(intptr_t)arg, SIG_DFL);
	raise((int)(intptr_t)arg);
}

static inline void ends_as(cop_proc_f *f, const void *arg, const char *text)
{
	cop_ref m;
	(void)spawned_monitor(f, arg, &m);

	EXPECT_DOWN(m, text);
}

static inline void computes(void *arg)
{
	(void)arg;
	tell(cop_parent(), 1);
	for (;;)
		;
}

static inline void blocks_signals(void *arg)
{
	sigset_t all;

	(void)arg;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	tell(cop_parent(), 1);
	waits(NULL);
}

/* What f says on standard error in a process that is in no node, up to the colon; it must abort. Static memory. */
static inline const char *outside(void (*f)(void))
{
	static char said[128];
	int p[2], status = 0;
	ssize_t n;
	pid_t pid;

	said[0] = '\0';
	fflush(stdout);
	T_REQUIRE(pipe(p) == 0);
	pid = fork();
	if (pid == 0) {
		struct rlimit none = { 0, 0 };

		setrlimit(RLIMIT_CORE, &none);
		dup2(p[1], 2);
		f();
		_exit(0);
	}
	close(p[1]);
	n = read(p[0], said, sizeof said - 1);
	close(p[0]);
	said[n > 0 ? n : 0] = '\0';
	waitpid(pid, &status, 0);
	T_CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	if (strncmp(said, "coppice: ", 9) != 0)
		return said;
	said[9 + strcspn(said + 9, ":")] = '\0';
	return said + 9;
}

/* A function that consists of one statement, for outside(). */
#define OUTSIDE(name_, ...) \
	static void name_(void) \
	{ \
		__VA_ARGS__; \
	}

#endif
