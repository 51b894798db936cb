/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Services from start to end: reasons, exec errors, readiness, stopping, containment with and
 * without cgroups, privileges, descriptors, log pipes, failing system calls.
 */
#include "service_rig.h"

#include "../helpers/faultinject.c"

/* --- counting allocations (a sanitizer has its own) --- */

static long allocations;
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifndef __SANITIZE_ADDRESS__
extern void *__libc_malloc(size_t n);
extern void *__libc_calloc(size_t n, size_t m);
extern void *__libc_realloc(void *p, size_t n);

void *malloc(size_t n)
{
	allocations++;
	return __libc_malloc(n);
}

void *calloc(size_t n, size_t m)
{
	allocations++;
	return __libc_calloc(n, m);
}

void *realloc(void *p, size_t n)
{
	allocations++;
	return __libc_realloc(p, n);
}
#endif

/* Runs one worker until it is over; its words. */
static const char *life(bool cgroup, const char *const *argv)
{
	struct rig_service *r;

	rig_open(cgroup);
	rig_spec(0, argv);
	r = rig_make(0);
	rig_start(r);
	RIG_UNTIL(r->over);
	rig_close();
	return r->log;
}

/* --- reasons (A1, A2) --- */

T_CASE(exits)
{
	T_EQ_STR(life(true, RIG_WORKER("--exit", "0")), "created ready exited:normal");
	T_EQ_STR(life(true, RIG_WORKER("--exit", "7")), "created ready exited:exit:7");
	T_EQ_STR(life(false, RIG_WORKER("--exit", "255")), "created ready exited:exit:255");
}

T_CASE(dies_of_signals)
{
	rig_open(true);
	rig_spec(0, RIG_WORKER("--hold"))->worker.limits[SPEC_LIMIT_CORE] = 0;
	struct rig_service *r = rig_make(0);
	static const int sig[] = { SIGKILL, SIGTERM, SIGHUP };
	size_t i;

	for (i = 0; i < sizeof sig / sizeof sig[0]; i++) {
		rig_start(r);
		RIG_UNTIL(strstr(r->log, "ready"));
		T_EQ_INT(service_signal(r->s, sig[i]), 0);
		RIG_UNTIL(r->over);
		T_EQ_INT(r->reason.kind, COP_EXIT_SIGNAL);
		T_EQ_INT(r->reason.value, sig[i]);
	}
	errno = 0;
	T_EQ_INT(service_signal(r->s, SIGTERM), -1);
	T_EQ_INT(errno, ESRCH);
	rig_close();
}

T_CASE(success_codes_and_signals)
{
	struct rig_service *r;
	struct spec_child *c;

	rig_open(true);
	c = rig_spec(0, RIG_WORKER("--exit", "200"));
	c->worker.success_codes[3] = 1ull << (200 - 192);
	c->worker.success_signals = 1ull << SIGUSR1;
	rig_spec(1, RIG_WORKER("--raise", "USR1"))->worker.success_signals = 1ull << SIGUSR1;
	r = rig_make(0);
	rig_start(r);
	RIG_UNTIL(r->over);
	T_EQ_STR(r->log, "created ready exited:normal");
	r = rig_make(1);
	rig_start(r);
	RIG_UNTIL(r->over);
	T_EQ_STR(r->log, "created ready exited:normal");
	rig_close();
}

T_CASE(dead_before_it_is_looked_at)
{
	struct rig_service *r;

	rig_open(true);
	rig_spec(0, (const char *const[]){ "/bin/true", NULL });
	r = rig_make(0);
	rig_start(r);
	siginfo_t si;
	waitid(P_PID, (id_t)r->pid, &si, WEXITED | WNOWAIT); /* dead, and nothing was served yet */
	rig_reap();
	T_EQ_STR(r->log, "created ready exited:normal");
	rig_close();
}

/* --- exec errors (A13) --- */

static void exec_error(const char *const *argv, const char *expected)
{
	T_EQ_STR(life(true, argv), expected);
}

static void make_file(const char *path, const char *text, mode_t mode)
{
	FILE *f = fopen(path, "w");

	fputs(text, f);
	fclose(f);
	chmod(path, mode);
}

T_CASE(exec_errors)
{
	char busy[] = "/tmp/rig-busy.XXXXXX", loop[64], plain[64], big[200000];
	int fd = mkstemp(busy), rw;
	ssize_t n;

	memset(big, 'x', sizeof big - 1);
	big[sizeof big - 1] = '\0';
	snprintf(loop, sizeof loop, "%s.loop", busy);
	snprintf(plain, sizeof plain, "%s.plain", busy);
	T_REQUIRE(symlink(loop, loop) == 0);
	make_file(plain, "not a program\n", 0755);
	exec_error((const char *const[]){ "/nonexistent/program", NULL }, "created failed:exec:ENOENT:exec");
	exec_error((const char *const[]){ "no-such-program-at-all", NULL }, "created failed:exec:ENOENT:exec");
	exec_error((const char *const[]){ "/etc/passwd", NULL }, "created failed:exec:EACCES:exec");
	exec_error((const char *const[]){ "/tmp", NULL }, "created failed:exec:EACCES:exec");
	exec_error((const char *const[]){ "", NULL }, "created failed:exec:ENOENT:exec");
	exec_error((const char *const[]){ loop, NULL }, "created failed:exec:ELOOP:exec");
	exec_error((const char *const[]){ plain, NULL }, "created failed:exec:ENOEXEC:exec");
	exec_error((const char *const[]){ "/bin/true", big, NULL }, "created failed:exec:E2BIG:exec");
	rw = open("/bin/true", O_RDONLY);
	while ((n = read(rw, big, sizeof big)) > 0)
		T_CHECK(write(fd, big, (size_t)n) == n);
	close(rw);
	fchmod(fd, 0755);
	exec_error((const char *const[]){ busy, NULL }, "created failed:exec:ETXTBSY:exec");
	close(fd);
	unlink(busy);
	unlink(loop);
	unlink(plain);
}

T_CASE(searches_path)
{
	T_EQ_STR(life(true, (const char *const[]){ "true", NULL }), "created ready exited:normal");
	rig_open(true);
	static const char *const env[] = { "PATH=/nonexistent::/tmp", NULL };
	struct spec_child *c = rig_spec(0, (const char *const[]){ "true", NULL });
	struct rig_service *r;

	c->worker.env = rig_strings(env);
	r = rig_make(0);
	rig_start(r);
	RIG_UNTIL(r->over);
	T_EQ_STR(r->log, "created failed:exec:ENOENT:exec");
	rig_close();
}

/* Each step that can fail says its name. */
static void failing(struct spec_child *c, const char *expected)
{
	struct rig_service *r = rig_make(0);

	(void)c;
	rig_start(r);
	RIG_UNTIL(r->over);
	T_EQ_STR(r->log, expected);
	rig_close();
}

T_CASE(failing_steps)
{
	static uint32_t zero[1] = { 0 };
	struct spec_child *c;

	rig_open(true);
	c = rig_spec(0, RIG_WORKER("--hold"));
	c->worker.dir = rig_str("/nonexistent/dir");
	failing(c, "created failed:exec:ENOENT:dir");

	rig_open(true);
	c = rig_spec(0, RIG_WORKER("--hold"));
	c->worker.limits[SPEC_LIMIT_NOFILE] = 1ull << 40;
	failing(c, "created failed:exec:EPERM:limits");

	rig_open(true);
	c = rig_spec(0, RIG_WORKER("--hold"));
	c->worker.sockets = (struct spec_list){ .off = rig_add(zero, sizeof zero), .count = 1 };
	failing(c, "created failed:exec:EBADF:sockets");

	rig_open(true);
	c = rig_spec(0, RIG_WORKER("--hold"));
	c->worker.ready = SPEC_READY_FD;
	c->worker.ready_arg = 1;
	failing(c, "created failed:exec:EINVAL:sockets");
}

/* --- stopping (A4, A7) --- */

static void stop_case(bool cgroup, const char *const *argv, const char *expected)
{
	struct rig_service *r;

	rig_open(cgroup);
	rig_spec(0, argv)->worker.ready = SPEC_READY_NOTIFY;
	r = rig_make(0);
	rig_start(r);
	RIG_UNTIL(strstr(r->log, "ready"));
	service_stop(r->s);
	RIG_UNTIL(r->over);
	T_EQ_STR(r->log, expected);
	rig_close();
}

T_CASE(stops)
{
	stop_case(true, RIG_WORKER("--notify", "READY=1", "--hold"),
	    "created ready stopping:TERM exited:shutdown:asked");
	stop_case(false, RIG_WORKER("--exit-on", "TERM:3", "--notify", "READY=1", "--hold"),
	    "created ready stopping:TERM exited:shutdown:asked");
	/* stopped: the CONT behind the TERM lets it end */
	stop_case(true, RIG_WORKER("--notify", "READY=1", "--stop-self", "--hold"),
	    "created ready stopping:TERM exited:shutdown:asked");
}

T_CASE(is_killed)
{
	struct rig_service *r;

	rig_open(true);
	rig_spec(0, RIG_WORKER("--ignore", "TERM", "--notify", "READY=1", "--hold"))->worker.ready = SPEC_READY_NOTIFY;
	r = rig_make(0);
	rig_start(r);
	RIG_UNTIL(strstr(r->log, "ready"));
	service_stop(r->s);
	loop_turn(&R.loop, 30);
	service_kill(r->s); /* its shutdown time is over */
	RIG_UNTIL(r->over);
	T_EQ_STR(r->log, "created ready stopping:TERM stopping:KILL exited:killed:asked");
	rig_start(r);
	RIG_UNTIL(strstr(r->log, "asked created ready"));
	service_kill(r->s); /* brutal */
	RIG_UNTIL(r->over);
	T_CHECK(strstr(r->log, "ready stopping:KILL exited:killed:asked"));
	rig_close();
}

T_CASE(another_signal_than_ours)
{
	struct rig_service *r;

	rig_open(true);
	rig_spec(0, RIG_WORKER("--ignore", "TERM", "--notify", "READY=1", "--hold"))->worker.ready = SPEC_READY_NOTIFY;
	r = rig_make(0);
	rig_start(r);
	RIG_UNTIL(strstr(r->log, "ready"));
	service_stop(r->s);
	kill(r->pid, SIGUSR2);
	RIG_UNTIL(r->over);
	T_EQ_STR(r->log, "created ready stopping:TERM exited:signal:USR2:asked");
	rig_close();
}

T_CASE(stopped_while_starting)
{
	struct rig_service *r;

	rig_open(true);
	rig_spec(0, RIG_WORKER("--hold"))->worker.ready = SPEC_READY_NOTIFY;
	r = rig_make(0);
	rig_start(r);
	service_stop(r->s);
	RIG_UNTIL(r->over);
	T_EQ_STR(r->log, "created stopping:TERM exited:shutdown:asked");
	rig_start(r);
	service_kill(r->s);
	RIG_UNTIL(r->over);
	T_CHECK(strstr(r->log, "created stopping:KILL exited:killed:asked"));
	rig_close();
}

/* --- readiness --- */

/* One way of getting ready; the worker's words. */
static const char *ready_case(uint8_t how, uint32_t arg, const char *str, uint32_t timeout, const char *const *argv)
{
	struct spec_child *c = rig_spec(0, argv);
	struct rig_service *r;

	c->worker.ready = how;
	c->worker.ready_arg = arg;
	c->worker.ready_str = rig_str(str);
	c->worker.ready_timeout_ms = timeout;
	r = rig_make(0);
	rig_start(r);
	RIG_UNTIL(r->over || strstr(r->log, "ready"));
	return r->log;
}

/* A port that was free a moment ago. */
static uint32_t free_port(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	T_REQUIRE(bind(fd, (struct sockaddr *)&a, sizeof a) == 0 &&
	    getsockname(fd, (struct sockaddr *)&a, &len) == 0);
	close(fd);
	return ntohs(a.sin_port);
}

T_CASE(ready_notify)
{
	rig_open(true);
	T_EQ_STR(ready_case(SPEC_READY_NOTIFY, 0, NULL, 30000,
	    RIG_WORKER("--sleep", "20", "--notify", "STATUS=up\\nREADY=1", "--hold")), "created ready");
	T_EQ_STR(service_status_text(R.svc[0].s), "up");
	rig_close();
	rig_open(false);
	T_EQ_STR(ready_case(SPEC_READY_NOTIFY, 0, NULL, 30000,
	    RIG_WORKER("--notify-by-child", "READY=1", "--hold")), "created ready");
	rig_close();
}

/* What it said before it died counts, in the order in which it happened. */
T_CASE(ready_then_dead)
{
	T_EQ_STR(life(true, RIG_WORKER("--exit", "3")), "created ready exited:exit:3");
	rig_open(true);
	ready_case(SPEC_READY_NOTIFY, 0, NULL, 30000, RIG_WORKER("--notify", "READY=1", "--exit", "3"));
	RIG_UNTIL(R.svc[0].over);
	T_EQ_STR(R.svc[0].log, "created ready exited:exit:3");
	rig_close();
	rig_open(true);
	ready_case(SPEC_READY_FD, 5, NULL, 30000, RIG_WORKER("--ready-fd", "5", "--exit", "4"));
	RIG_UNTIL(R.svc[0].over);
	T_EQ_STR(R.svc[0].log, "created ready exited:exit:4");
	rig_close();
}

T_CASE(ready_fd)
{
	rig_open(true);
	T_EQ_STR(ready_case(SPEC_READY_FD, 3, NULL, 30000,
	    RIG_WORKER("--write", "3:not yet", "--sleep", "20", "--ready-fd", "3", "--hold")), "created ready");
	rig_close();
	rig_open(true);
	T_EQ_STR(ready_case(SPEC_READY_FD, 57, NULL, 100, RIG_WORKER("--write", "57:no", "--hold")),
	    "created stopping:KILL failed:timeout");
	rig_close();
}

T_CASE(ready_after)
{
	int64_t before = clock_mono_ms();

	rig_open(true);
	T_EQ_STR(ready_case(SPEC_READY_AFTER, 150, NULL, 30000, RIG_WORKER("--hold")), "created ready");
	T_CHECK(clock_mono_ms() - before >= 150);
	rig_close();
	rig_open(true);
	T_EQ_STR(ready_case(SPEC_READY_AFTER, 60000, NULL, 30000, RIG_WORKER("--exit", "0")),
	    "created failed:normal");
	rig_close();
}

T_CASE(ready_tcp)
{
	uint32_t port = free_port();
	char listen[32];

	snprintf(listen, sizeof listen, "tcp:%u", port);
	rig_open(true);
	T_EQ_STR(ready_case(SPEC_READY_TCP, port, NULL, 30000,
	    RIG_WORKER("--sleep", "50", "--listen", listen, "--hold")), "created ready");
	rig_close();
	snprintf(listen, sizeof listen, "tcp6:%u", port);
	rig_open(true);
	T_EQ_STR(ready_case(SPEC_READY_TCP, port, NULL, 30000, RIG_WORKER("--listen", listen, "--hold")),
	    "created ready");
	rig_close();
	rig_open(false);
	T_EQ_STR(ready_case(SPEC_READY_TCP, port, NULL, 200, RIG_WORKER("--hold")),
	    "created stopping:KILL failed:timeout");
	rig_close();
}

T_CASE(ready_unix)
{
	char listen[160];

	rig_open(true);
	snprintf(listen, sizeof listen, "unix:%s", rig_path("s"));
	T_EQ_STR(ready_case(SPEC_READY_UNIX, 0, rig_path("s"), 30000,
	    RIG_WORKER("--sleep", "30", "--listen", listen, "--hold")), "created ready");
	unlink(rig_path("s"));
	rig_close();
	rig_open(true);
	snprintf(listen, sizeof listen, "dgram:%s", rig_path("d"));
	T_EQ_STR(ready_case(SPEC_READY_UNIX, 0, rig_path("d"), 30000, RIG_WORKER("--listen", listen, "--hold")),
	    "created ready");
	/* the socket that a dead process left is not ready */
	service_kill(R.svc[0].s);
	RIG_UNTIL(R.svc[0].over);
	R.svc[0].spec->worker.exec = rig_strings(RIG_WORKER("--hold"));
	R.svc[0].spec->worker.ready_timeout_ms = 150;
	R.svc[0].log[0] = '\0';
	rig_start(&R.svc[0]);
	RIG_UNTIL(R.svc[0].over);
	T_EQ_STR(R.svc[0].log, "created stopping:KILL failed:timeout");
	unlink(rig_path("d"));
	rig_close();
}

T_CASE(ready_file)
{
	rig_open(true);
	T_EQ_STR(ready_case(SPEC_READY_FILE, 0, rig_path("pid"), 30000,
	    RIG_WORKER("--sleep", "30", "--touch", rig_path("pid"), "--hold")), "created ready");
	service_kill(R.svc[0].s);
	RIG_UNTIL(R.svc[0].over);
	R.svc[0].log[0] = '\0';
	/* an old file does not count, until it is written again */
	rig_start(&R.svc[0]);
	RIG_UNTIL(strstr(R.svc[0].log, "ready"));
	service_kill(R.svc[0].s);
	RIG_UNTIL(R.svc[0].over);
	R.svc[0].spec->worker.exec = rig_strings(RIG_WORKER("--hold"));
	R.svc[0].spec->worker.ready_timeout_ms = 150;
	R.svc[0].log[0] = '\0';
	rig_start(&R.svc[0]);
	RIG_UNTIL(R.svc[0].over);
	T_EQ_STR(R.svc[0].log, "created stopping:KILL failed:timeout");
	unlink(rig_path("pid"));
	rig_close();
}

T_CASE(ready_log)
{
	struct proto_keep_log k;
	struct rig_service *r;
	struct spec_child *c;
	int log, ready = -1;
	int32_t pid;

	rig_open(true);
	rig_keep();
	c = rig_spec(0, RIG_WORKER("--print", "listening", "--hold"));
	c->worker.log = SPEC_LOG_DIR;
	c->worker.log_max_bytes = 1000;
	c->worker.ready = SPEC_READY_LOG;
	c->worker.ready_str = rig_str("^listen");
	r = rig_make(0);
	rig_start(r);
	log = rig_take_log(&k, &ready);
	T_EQ_STR(k.regex, "^listen");
	T_EQ_STR(k.path, "s0");
	T_EQ_STR(k.dir, "/nonexistent/log/s0");
	T_EQ_INT(k.max_bytes, 1000);
	T_CHECK(log >= 0 && ready >= 0);
	pid = r->pid + 1; /* another process: not ours */
	T_CHECK(write(ready, &pid, sizeof pid) == sizeof pid);
	loop_turn(&R.loop, 50);
	loop_turn(&R.loop, 50);
	T_CHECK(!strstr(r->log, "ready"));
	pid = r->pid;
	T_CHECK(write(ready, &pid, sizeof pid) == sizeof pid);
	RIG_UNTIL(strstr(r->log, "ready"));
	/* the next life uses the same pipe, and an old pid means nothing */
	service_kill(r->s);
	RIG_UNTIL(r->over);
	r->log[0] = '\0';
	rig_start(r);
	T_CHECK(write(ready, &pid, sizeof pid) == sizeof pid);
	loop_turn(&R.loop, 50);
	T_CHECK(!strstr(r->log, "ready"));
	pid = r->pid;
	T_CHECK(write(ready, &pid, sizeof pid) == sizeof pid);
	RIG_UNTIL(strstr(r->log, "ready"));
	close(log);
	close(ready);
	rig_close();
}

/* Between fork and exec for ever: a directory that hangs would do it; here a stopped child. */
T_CASE(stuck_before_exec)
{
	struct rig_service *r;

	rig_open(true);
	rig_spec(0, RIG_WORKER("--hold"))->worker.ready_timeout_ms = 150;
	r = rig_make(0);
	fault_set("none", 1, 0);
	rig_start(r);
	kill(r->pid, SIGSTOP); /* signals are blocked there, but this one is not */
	RIG_UNTIL(r->over || strstr(r->log, "ready"));
	/* it may have been through already */
	T_CHECK(strcmp(r->log, "created stopping:KILL failed:timeout") == 0 || strcmp(r->log, "created ready") == 0);
	rig_close();
}

T_CASE(dies_before_ready)
{
	rig_open(true);
	T_EQ_STR(ready_case(SPEC_READY_NOTIFY, 0, NULL, 30000, RIG_WORKER("--exit", "9")), "created failed:exit:9");
	rig_close();
	rig_open(false);
	T_EQ_STR(ready_case(SPEC_READY_NOTIFY, 0, NULL, 30000, RIG_WORKER("--raise", "KILL")),
	    "created failed:signal:KILL");
	rig_close();
}

/* A start that failed has left nothing behind. */
static void timeout_takes_all(bool cgroup)
{
	rig_open(cgroup);
	T_EQ_STR(ready_case(SPEC_READY_NOTIFY, 0, NULL, 300,
	    RIG_WORKER("--fork", "3", "--setsid", "--daemonize", "--hold")), "created stopping:KILL failed:timeout");
	RIG_UNTIL((rig_reap(), !rig_children()));
	rig_close();
}

T_CASE(late_start_leaves_nothing)
{
	timeout_takes_all(true);
	timeout_takes_all(false);
}

/* --- containment (A8, A10, A12, A14) --- */

static void contained(bool cgroup, const char *const *argv, int left)
{
	struct rig_service *r;

	rig_open(cgroup);
	rig_spec(0, argv)->worker.ready = SPEC_READY_NOTIFY;
	rig_spec(1, RIG_WORKER("--fork", "2", "--daemonize", "--notify", "READY=1", "--hold"))->worker.ready =
	    SPEC_READY_NOTIFY;
	rig_make(1);
	rig_start(&R.svc[1]);
	RIG_UNTIL(strstr(R.svc[1].log, "ready"));
	R.orphans = 0;
	r = rig_make(0);
	rig_start(r);
	RIG_UNTIL(strstr(r->log, "ready"));
	service_stop(r->s);
	RIG_UNTIL(r->over);
	T_EQ_STR(r->log, "created ready stopping:TERM exited:shutdown:asked");
	RIG_UNTIL(R.orphans >= left);
	T_EQ_INT(R.orphans, left); /* its own, and none of the sibling's */
	T_CHECK(rig_alive(R.svc[1].pid));
	rig_close();
}

T_CASE(takes_what_it_started)
{
	/* a daemon's parents are reaped by us too: one by the worker itself */
	contained(true, RIG_WORKER("--fork", "3", "--notify", "READY=1", "--hold"), 3);
	contained(false, RIG_WORKER("--fork", "3", "--notify", "READY=1", "--hold"), 3);
	contained(true, RIG_WORKER("--setsid", "--notify", "READY=1", "--hold"), 1);
	contained(false, RIG_WORKER("--setsid", "--notify", "READY=1", "--hold"), 1);
	contained(true, RIG_WORKER("--daemonize", "--notify", "READY=1", "--hold"), 1);
	contained(false, RIG_WORKER("--daemonize", "--notify", "READY=1", "--hold"), 1);
	contained(true, RIG_WORKER("--escape", "--notify", "READY=1", "--hold"), 1);
	contained(false, RIG_WORKER("--escape", "--notify", "READY=1", "--hold"), 1);
}

/* The death is known although a grandchild holds its pipes. */
T_CASE(grandchild_holds_pipes)
{
	T_EQ_STR(life(true, RIG_WORKER("--fork", "2", "--exit", "1")), "created ready exited:exit:1");
	T_EQ_STR(life(false, RIG_WORKER("--fork", "2", "--exit", "1")), "created ready exited:exit:1");
}

T_CASE(kill_group_false)
{
	struct rig_service *r;
	int mode;

	for (mode = 0; mode < 2; mode++) {
		rig_open(mode == 0);
		rig_spec(0, RIG_WORKER("--daemonize", "--exit", "1"))->worker.kill_group = 0;
		r = rig_make(0);
		rig_start(r);
		RIG_UNTIL(r->over);
		rig_start(r);
		RIG_UNTIL(r->over);
		T_CHECK(rig_children()); /* still there */
		service_destroy(&r->s);
		RIG_UNTIL((rig_reap(), !rig_children()));
		rig_close();
	}
}

T_CASE(orphans_are_asked_first)
{
	struct rig_service *r;
	struct spec_child *c;
	int mode;

	for (mode = 0; mode < 2; mode++) {
		rig_open(mode == 0);
		c = rig_spec(0, (const char *const[]){ "/bin/sh", "-c",
		    "(trap 'echo asked >\"$0\"; exit' TERM; echo up >\"$0.up\"; while :; do sleep 0.02; done) & "
		    "while ! [ -e \"$0.up\" ]; do sleep 0.02; done", rig_path("asked"), NULL });
		c->worker.kill_orphans_softly = 1;
		r = rig_make(0);
		rig_start(r);
		RIG_UNTIL(r->over);
		T_EQ_STR(r->log, "created ready exited:normal");
		T_EQ_STR(rig_read(rig_path("asked")), "asked\n");
		unlink(rig_path("asked"));
		unlink(rig_path("asked.up"));
		rig_close();
	}
}

/* Asked in vain: killed after the shutdown time. */
T_CASE(deaf_orphans_are_killed)
{
	struct rig_service *r;
	struct spec_child *c;
	int mode;

	for (mode = 0; mode < 2; mode++) {
		rig_open(mode == 0);
		c = rig_spec(0, RIG_WORKER("--ignore", "TERM", "--fork", "2", "--exit", "0"));
		c->worker.kill_orphans_softly = 1;
		c->sup.shutdown_ms = 100;
		r = rig_make(0);
		rig_start(r);
		RIG_UNTIL(r->over);
		T_EQ_STR(r->log, "created ready exited:normal");
		RIG_UNTIL((rig_reap(), !rig_children()));
		rig_close();
	}
}

T_CASE(frozen)
{
	struct rig_service *r;
	int dir, fd;

	rig_open(true);
	if (R.node.groups.dirfd < 0) {
		printf("# no cgroup here\n");
		rig_close();
		return;
	}
	rig_spec(0, RIG_WORKER("--fork", "2", "--notify", "READY=1", "--hold"))->worker.ready = SPEC_READY_NOTIFY;
	r = rig_make(0);
	rig_start(r);
	RIG_UNTIL(strstr(r->log, "ready"));
	dir = openat(R.node.groups.dirfd, "w-s0", O_RDONLY | O_DIRECTORY);
	fd = openat(dir, "cgroup.freeze", O_WRONLY);
	T_CHECK(write(fd, "1", 1) == 1);
	close(fd);
	close(dir);
	service_stop(r->s);
	loop_turn(&R.loop, 50);
	service_kill(r->s);
	RIG_UNTIL(r->over);
	T_CHECK(strstr(r->log, "exited:killed:asked"));
	rig_close();
}

/* --- the watchdog (A4, B19) --- */

T_CASE(watchdog)
{
	struct rig_service *r;
	struct spec_child *c;

	rig_open(true);
	c = rig_spec(0, RIG_WORKER("--pings", "5:40", "--hold"));
	c->worker.watchdog_ms = 200;
	c->worker.limits[SPEC_LIMIT_CORE] = 0;
	r = rig_make(0);
	rig_start(r);
	RIG_UNTIL(r->over);
	T_EQ_STR(r->log, "created ready stopping:ABRT exited:watchdog");
	T_CHECK(r->ran_ms >= 300);
	rig_close();
}

T_CASE(watchdog_of_a_stopped_child)
{
	struct rig_service *r;
	struct spec_child *c;

	rig_open(true);
	c = rig_spec(0, RIG_WORKER("--ignore", "ABRT", "--stop-self", "--hold"));
	c->worker.watchdog_ms = 100;
	c->sup.shutdown_ms = 100;
	r = rig_make(0);
	rig_start(r);
	RIG_UNTIL(r->over);
	T_EQ_STR(r->log, "created ready stopping:ABRT stopping:KILL exited:watchdog");
	rig_close();
}

T_CASE(watchdog_after_our_own_sleep)
{
	struct rig_service *r;
	struct spec_child *c;

	rig_open(true);
	c = rig_spec(0, RIG_WORKER("--pings", "1000:20"));
	c->worker.watchdog_ms = 200;
	r = rig_make(0);
	rig_start(r);
	RIG_UNTIL(strstr(r->log, "ready"));
	kill(r->pid, SIGSTOP);
	worker_sleep(800); /* as if both had been stopped */
	kill(r->pid, SIGCONT);
	loop_turn(&R.loop, 0);
	int64_t end = clock_mono_ms() + 400;
	while (clock_mono_ms() < end)
		loop_turn(&R.loop, 20);
	T_EQ_STR(r->log, "created ready");
	rig_close();
}

T_CASE(watchdog_trigger_and_change)
{
	struct rig_service *r;
	struct spec_child *c;

	rig_open(true);
	c = rig_spec(0, RIG_WORKER("--notify", "WATCHDOG=trigger", "--hold"));
	c->worker.limits[SPEC_LIMIT_CORE] = 0;
	r = rig_make(0);
	rig_start(r);
	RIG_UNTIL(r->over);
	T_EQ_STR(r->log, "created ready stopping:ABRT exited:watchdog");
	rig_close();
	rig_open(true);
	c = rig_spec(0, RIG_WORKER("--notify", "WATCHDOG_USEC=100000", "--hold"));
	c->worker.limits[SPEC_LIMIT_CORE] = 0;
	r = rig_make(0);
	rig_start(r);
	RIG_UNTIL(r->over);
	T_EQ_STR(r->log, "created ready stopping:ABRT exited:watchdog");
	rig_close();
}

T_CASE(extends_its_times)
{
	struct rig_service *r;
	struct spec_child *c;

	rig_open(true);
	c = rig_spec(0, RIG_WORKER("--notify", "EXTEND_TIMEOUT_USEC=5000000", "--sleep", "600", "--notify", "READY=1",
	    "--hold"));
	c->worker.ready = SPEC_READY_NOTIFY;
	c->worker.ready_timeout_ms = 400;
	c->sup.shutdown_ms = 100;
	r = rig_make(0);
	rig_start(r);
	RIG_UNTIL(strstr(r->log, "ready") || r->over);
	T_EQ_STR(r->log, "created ready");
	T_EQ_INT(service_extension_ms(r->s), 0);
	rig_close();
	rig_open(true);
	c = rig_spec(0, (const char *const[]){ "/bin/sh", "-c", "trap '\"$0\" worker --notify "
	    "EXTEND_TIMEOUT_USEC=3000000' TERM; \"$0\" worker --notify READY=1; while :; do sleep 0.02; done",
	    rig_path("exe"), NULL });
	char exe[4096];
	ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);

	exe[n] = '\0';
	T_REQUIRE(symlink(exe, rig_path("exe")) == 0);
	c->worker.ready = SPEC_READY_NOTIFY;
	c->sup.shutdown_ms = 100;
	r = rig_make(0);
	rig_start(r);
	RIG_UNTIL(strstr(r->log, "ready") || r->over);
	service_stop(r->s);
	RIG_UNTIL(service_extension_ms(r->s) > 2000);
	T_CHECK(service_extension_ms(r->s) <= 4000);
	unlink(rig_path("exe"));
	rig_close();
}

/* --- what the child sees --- */

/* Runs a worker that prints into a file; what it printed. */
static const char *printed(const char *const *argv, void (*change)(struct spec_child *c))
{
	struct spec_child *c = rig_spec(0, argv);
	struct rig_service *r;
	const char *text;

	if (change)
		change(c);
	r = rig_make(0);
	rig_start(r);
	RIG_UNTIL(r->over);
	T_EQ_STR(r->log, "created ready exited:normal");
	text = rig_read(rig_path("out"));
	unlink(rig_path("out"));
	return text;
}

static bool has_line(const char *text, const char *line)
{
	size_t n = strlen(line);
	const char *p = text;

	while ((p = strstr(p, line)) != NULL) {
		if ((p == text || p[-1] == '\n') && (p[n] == '\n' || p[n] == '\0'))
			return true;
		p += n;
	}
	printf("# no line \"%s\" in:\n", line);
	for (p = text; *p; p++) {
		if (p == text || p[-1] == '\n')
			printf("#   ");
		putchar(*p);
	}
	return false;
}

static void with_null_log(struct spec_child *c)
{
	c->worker.log = SPEC_LOG_NULL;
}

/* I6, I8, C6, I7 */
T_CASE(clean_process)
{
	int stray = open("/etc/passwd", O_RDONLY), high = fcntl(stray, F_DUPFD, 700); /* not close-on-exec */
	const char *text;

	signal(SIGHUP, SIG_IGN);
	umask(0);
	rig_open(true);
	text = printed(RIG_WORKER("--out", rig_path("out"), "--print-fds", "--print-signals", "--print-session",
	    "--print-umask", "--print-tty"), with_null_log);
	T_CHECK(has_line(text, "fd 0 /dev/null"));
	T_CHECK(has_line(text, "fd 1 /dev/null"));
	T_CHECK(has_line(text, "fd 2 /dev/null"));
	T_CHECK(strstr(text, "fd 3") == NULL);
	T_CHECK(strstr(text, "passwd") == NULL);
	T_CHECK(has_line(text, "SigIgn:\t0000000000000000"));
	T_CHECK(has_line(text, "SigBlk:\t0000000000000000"));
	T_CHECK(has_line(text, "session=1"));
	T_CHECK(has_line(text, "umask=0022"));
	T_CHECK(has_line(text, "tty=No such device or address"));
	rig_close();
	close(stray);
	close(high);
}

static void with_limits(struct spec_child *c)
{
	c->worker.limits[SPEC_LIMIT_NOFILE] = 64;
	c->worker.limits[SPEC_LIMIT_CORE] = 0;
	c->worker.limits[SPEC_LIMIT_FSIZE] = 1 << 20;
	c->worker.limits[SPEC_LIMIT_STACK] = SPEC_LIMIT_UNLIMITED;
	c->worker.nice = 5;
	c->worker.umask = 077;
	c->worker.dir = rig_str("/usr");
}

/* I17 */
T_CASE(limits)
{
	const char *text;

	rig_open(true);
	text = printed(RIG_WORKER("--out", rig_path("out"), "--print-limits", "--print-umask", "--print-dir"),
	    with_limits);
	T_CHECK(has_line(text, "nofile=64:64"));
	T_CHECK(has_line(text, "core=0:0"));
	T_CHECK(has_line(text, "fsize=1048576:1048576"));
	T_CHECK(has_line(text, "stack=-1:-1"));
	T_CHECK(has_line(text, "nice=5"));
	T_CHECK(has_line(text, "umask=0077"));
	T_CHECK(has_line(text, "dir=/usr"));
	rig_close();
}

/* The node raises its own limit of descriptors, and its children do not notice. */
T_CASE(original_nofile)
{
	struct rlimit rl = { .rlim_cur = 256, .rlim_max = 1024 };

	T_REQUIRE(setrlimit(RLIMIT_NOFILE, &rl) == 0);
	fds_raise_limit();
	rig_open(true);
	T_CHECK(has_line(printed(RIG_WORKER("--out", rig_path("out"), "--print-limits"), NULL), "nofile=256:1024"));
	rig_close();
}

static void with_user(struct spec_child *c)
{
	static const uint32_t groups[] = { 4, 27 };

	c->worker.uid = 65534;
	c->worker.gid = 65533;
	c->worker.set_groups = 1;
	c->worker.groups = (struct spec_list){ .off = rig_add(groups, sizeof groups), .count = 2 };
	c->worker.user_name = rig_str("nobody");
	c->worker.user_home = rig_str("/nonexistent");
	c->worker.user_shell = rig_str("/usr/sbin/nologin");
}

/* I1, I2 */
T_CASE(drops_privileges)
{
	const char *text;

	if (geteuid() != 0) {
		printf("# only as root\n");
		return;
	}
	rig_open(true);
	chmod(R.dir, 0777);
	/* the worker must be able to execute itself */
	text = printed(RIG_WORKER("--out", rig_path("out"), "--print-ids", "--print-env"), with_user);
	T_CHECK(has_line(text, "Uid:\t65534\t65534\t65534\t65534"));
	T_CHECK(has_line(text, "Gid:\t65533\t65533\t65533\t65533"));
	T_CHECK(has_line(text, "Groups:\t4 27 "));
	T_CHECK(has_line(text, "CapPrm:\t0000000000000000"));
	T_CHECK(has_line(text, "CapEff:\t0000000000000000"));
	T_CHECK(has_line(text, "CapAmb:\t0000000000000000"));
	T_CHECK(has_line(text, "NoNewPrivs:\t1"));
	T_CHECK(has_line(text, "USER=nobody"));
	T_CHECK(has_line(text, "LOGNAME=nobody"));
	T_CHECK(has_line(text, "HOME=/nonexistent"));
	T_CHECK(has_line(text, "SHELL=/usr/sbin/nologin"));
	rig_close();
}

T_CASE(root_keeps_its_freedom)
{
	rig_open(true);
	T_CHECK(has_line(printed(RIG_WORKER("--out", rig_path("out"), "--print-ids"), NULL), "NoNewPrivs:\t0"));
	rig_close();
}

/* A drop that does not work, and the program does not run. */
T_CASE(failed_drop)
{
	static const struct { long call; const char *expected; } step[] = {
		{ SYS_setgroups, "created failed:exec:EAGAIN:groups" },
		{ SYS_setresgid, "created failed:exec:EAGAIN:group" },
		{ SYS_setresuid, "created failed:exec:EAGAIN:user" },
	};
	char name[32];
	size_t i;

	if (geteuid() != 0)
		return;
	for (i = 0; i < sizeof step / sizeof step[0]; i++) {
		rig_open(true);
		with_user(rig_spec(0, (const char *const[]){ "/bin/true", NULL }));
		rig_make(0);
		snprintf(name, sizeof name, "syscall%ld", step[i].call);
		fault_set(name, 1, EAGAIN);
		rig_start(&R.svc[0]);
		fault_set("", 0, 0);
		RIG_UNTIL(R.svc[0].over);
		T_EQ_STR(R.svc[0].log, step[i].expected);
		rig_close();
	}
}

/* A kernel that claims success for a drop it did not make: proved wrong. */
T_CASE(drop_that_can_be_undone)
{
	if (geteuid() != 0)
		return;
	rig_open(true);
	with_user(rig_spec(0, (const char *const[]){ "/bin/true", NULL }));
	rig_make(0);
	T_REQUIRE(prctl(PR_SET_SECUREBITS, 1 << 2 /* SECBIT_NO_SETUID_FIXUP */) == 0);
	rig_start(&R.svc[0]);
	RIG_UNTIL(R.svc[0].over);
	T_EQ_STR(R.svc[0].log, "created failed:exec:EPERM:privileges");
	T_REQUIRE(prctl(PR_SET_SECUREBITS, 0) == 0);
	rig_close();
}

static void with_env(struct spec_child *c)
{
	static const char *const env[] = { "A=1", "HOME=/other", "A=2", "INVOCATION_ID=mine", NULL };

	c->worker.env = rig_strings(env);
	c->worker.watchdog_ms = 30000;
}

/* I5 */
T_CASE(environment)
{
	char line[128];
	const char *text;

	setenv("INHERITED", "yes", 1);
	setenv("NOTIFY_SOCKET", "/run/ours", 1);
	setenv("WATCHDOG_USEC", "1", 1);
	setenv("LISTEN_FDS", "9", 1);
	setenv("LISTEN_PID", "1", 1);
	setenv("COPPICE_SOCKET", "/run/ours", 1);
	rig_open(true);
	text = printed(RIG_WORKER("--out", rig_path("out"), "--print-env"), with_env);
	T_CHECK(has_line(text, "INHERITED=yes"));
	T_CHECK(has_line(text, "A=2"));
	T_CHECK(!strstr(text, "A=1\n"));
	T_CHECK(has_line(text, "HOME=/other"));
	T_CHECK(!strstr(text, "INVOCATION_ID=mine"));
	T_CHECK(has_line(text, "COPPICE_NODE=rig"));
	T_CHECK(has_line(text, "COPPICE_PATH=s0"));
	T_CHECK(has_line(text, "WATCHDOG_USEC=30000000"));
	snprintf(line, sizeof line, "WATCHDOG_PID=%d", (int)R.svc[0].pid);
	T_CHECK(has_line(text, line));
	T_CHECK(strstr(text, "NOTIFY_SOCKET=@coppice/"));
	T_CHECK(!strstr(text, "/run/ours"));
	T_CHECK(!strstr(text, "LISTEN_"));
	rig_close();
}

static void with_clear_env(struct spec_child *c)
{
	c->worker.env_clear = 1;
}

T_CASE(environment_cleared)
{
	const char *text;

	setenv("INHERITED", "yes", 1);
	rig_open(true);
	text = printed(RIG_WORKER("--out", rig_path("out"), "--print-env"), with_clear_env);
	T_CHECK(!strstr(text, "INHERITED"));
	T_CHECK(has_line(text, "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
	rig_close();
}

/* --- listening sockets --- */

static void add_socket(uint32_t i, char kind, const char *name, const char *addr, uint32_t port, uint32_t mode)
{
	struct spec_header *h = (struct spec_header *)(void *)R.image;
	struct spec_socket *table, empty[4] = { 0 };

	if (h->n_sockets == 0)
		h->sockets = rig_add(empty, sizeof empty);
	h->n_sockets = i + 1;
	table = (struct spec_socket *)(void *)(R.image + h->sockets);
	table[i] = (struct spec_socket){ .name = rig_str(name), .kind = (uint8_t)kind, .addr = rig_str(addr),
		.port = port, .mode = mode };
	R.node.sockets[i] = node_socket_open(&R.node.img, spec_socket_at(&R.node.img, i));
	T_CHECK(R.node.sockets[i] >= 0);
}

T_CASE(listen_fds)
{
	static const uint32_t order[] = { 2, 0, 1 };
	struct spec_child *c;
	struct stat st;
	const char *text;
	int low[3], i;

	rig_open(true);
	add_socket(0, 't', "web", "127.0.0.1", 0, 0);
	add_socket(1, 'u', "dns", "", 0, 0);
	add_socket(2, 'x', "local", rig_path("l"), 0, 0640);
	T_CHECK(stat(rig_path("l"), &st) == 0 && (st.st_mode & 0777) == 0640);
	/* descriptors that lie where the child's will be */
	for (i = 0; i < 3; i++) {
		low[i] = R.node.sockets[i];
		T_CHECK(low[i] >= 3);
	}
	c = rig_spec(0, RIG_WORKER("--out", rig_path("out"), "--listen-check", "--print-fds", "--ready-fd", "6"));
	c->worker.sockets = (struct spec_list){ .off = rig_add(order, sizeof order), .count = 3 };
	c->worker.ready = SPEC_READY_FD;
	c->worker.ready_arg = 6;
	rig_make(0);
	rig_start(&R.svc[0]);
	RIG_UNTIL(R.svc[0].over);
	T_EQ_STR(R.svc[0].log, "created ready exited:normal");
	text = rig_read(rig_path("out"));
	T_CHECK(has_line(text, "listen fds=3 mine=1 names=local:web:dns"));
	T_CHECK(has_line(text, "listen fd 3 accepting=1 nonblock=0 cloexec=0"));
	T_CHECK(has_line(text, "listen fd 4 accepting=1 nonblock=0 cloexec=0"));
	T_CHECK(has_line(text, "listen fd 5 accepting=0 nonblock=0 cloexec=0"));
	T_CHECK(strstr(text, "fd 6 pipe:"));
	T_CHECK(!strstr(text, "fd 7") && !strstr(text, "fd 8") && !strstr(text, "fd 9"));
	unlink(rig_path("out"));
	unlink(rig_path("l"));
	rig_close();
}

T_CASE(sockets_open)
{
	int fd, again;

	rig_open(true);
	add_socket(0, 'x', "a", rig_path("a"), 0, 0600);
	fd = node_socket_open(&R.node.img, spec_socket_at(&R.node.img, 0));
	T_CHECK(fd == -1 && errno == EADDRINUSE); /* somebody listens */
	fds_close(&R.node.sockets[0]);
	again = node_socket_open(&R.node.img, spec_socket_at(&R.node.img, 0)); /* stale: replaced */
	T_CHECK(again >= 0);
	close(again);
	unlink(rig_path("a"));
	make_file(rig_path("a"), "precious", 0600);
	T_CHECK(node_socket_open(&R.node.img, spec_socket_at(&R.node.img, 0)) == -1 && errno == EADDRINUSE);
	T_EQ_STR(rig_read(rig_path("a")), "precious");
	unlink(rig_path("a"));
	add_socket(1, 't', "six", "::1", 0, 0);
	add_socket(2, 't', "any", "", 0, 0);
	rig_close();
}

/* --- logs --- */

static ssize_t drain_pipe(int fd, char *buf, size_t size)
{
	size_t n = 0;
	ssize_t r;

	fds_set_nonblock(fd, true);
	while (n < size - 1 && (r = read(fd, buf + n, size - 1 - n)) > 0)
		n += (size_t)r;
	buf[n] = '\0';
	return (ssize_t)n;
}

/* Position of a mark of this kind and pid, or NULL. */
static const char *find_mark(const char *buf, size_t len, char kind, pid_t pid)
{
	char head[80];
	int n = 1 + snprintf(head + 1, sizeof head - 1, "%s%c %d ", R.node.secret, kind, (int)pid);

	head[0] = '\0';
	return memmem(buf, len, head, (size_t)n);
}

T_CASE(log_pipe)
{
	struct proto_keep_log k;
	struct rig_service *r;
	char buf[8192];
	const char *s, *x, *text;
	ssize_t len;
	int log;

	rig_open(true);
	rig_keep();
	rig_spec(0, RIG_WORKER("--print", "hello", "--exit", "3"))->worker.log = SPEC_LOG_DIR;
	r = rig_make(0);
	T_EQ_STR(service_log_dir(r->s), "/nonexistent/log/s0");
	rig_start(r);
	RIG_UNTIL(r->over);
	log = rig_take_log(&k, NULL);
	len = drain_pipe(log, buf, sizeof buf);
	s = find_mark(buf, (size_t)len, 'S', r->pid);
	x = find_mark(buf, (size_t)len, 'X', r->pid);
	text = memmem(buf, (size_t)len, "hello\n", 6);
	T_CHECK(s && x && text && s == buf && s < text && text < x);
	T_CHECK(x && strstr(x + 1, " exit:3\n"));
	/* the next life writes into the same pipe */
	rig_start(r);
	RIG_UNTIL(r->over);
	len = drain_pipe(log, buf, sizeof buf);
	T_CHECK(find_mark(buf, (size_t)len, 'S', r->pid) == buf);
	T_EQ_INT(fds_recv(R.keep[0], buf, sizeof buf, NULL, 0, &(size_t){ 0 }), -1);
	/* other settings: another pipe */
	r->spec->worker.log_dir = rig_str("/other");
	rig_start(r);
	RIG_UNTIL(r->over);
	close(log);
	log = rig_take_log(&k, NULL);
	T_EQ_STR(k.dir, "/other");
	close(log);
	rig_close();
}

/* Nobody reads: nothing of ours waits, and it is said that a record is missing. */
T_CASE(log_full)
{
	struct proto_keep_log k;
	struct rig_service *r;
	int64_t before;
	int log;

	rig_open(true);
	rig_keep();
	rig_spec(0, RIG_WORKER("--garbage", "100000"))->worker.log = SPEC_LOG_DIR;
	r = rig_make(0);
	rig_start(r);
	RIG_UNTIL(strstr(r->log, "ready"));
	log = rig_take_log(&k, NULL);
	RIG_UNTIL(fcntl(log, F_GETPIPE_SZ) > 0);
	before = clock_mono_ms();
	while (clock_mono_ms() < before + 200)
		loop_turn(&R.loop, 20); /* it fills the pipe and waits */
	service_stop(r->s);
	RIG_UNTIL(r->over);
	T_CHECK(strstr(r->log, "note[its log is full"));
	T_CHECK(clock_mono_ms() - before < 5000);
	close(log);
	rig_close();
}

/* The channel to root is full: handed over later. */
T_CASE(log_handed_over_later)
{
	struct proto_keep_log k;
	char junk[1000] = { 0 };
	int log, sent = 0;

	rig_open(true);
	rig_keep();
	while (send(R.keep[1], junk, sizeof junk, MSG_DONTWAIT) > 0)
		sent++;
	rig_spec(0, RIG_WORKER("--print", "early", "--hold"))->worker.log = SPEC_LOG_DIR;
	rig_make(0);
	rig_start(&R.svc[0]);
	RIG_UNTIL(strstr(R.svc[0].log, "ready"));
	while (sent-- > 0)
		T_CHECK(recv(R.keep[0], junk, sizeof junk, 0) == sizeof junk);
	log = rig_take_log(&k, NULL);
	T_CHECK(log >= 0);
	close(log);
	rig_close();
}

/* --- failing calls (D2), nothing lost over many lives (D11), no allocation (B5) --- */

static int fd_count(void)
{
	return t_count_fds();
}

/* A life in which the k-th call of a function fails; true if it got so far. */
static bool life_with_fault(const char *name, int k, int err)
{
	struct rig_service *r = &R.svc[0];
	int before = fd_count();
	bool hit;

	r->log[0] = '\0';
	fault_set(name, k, err);
	rig_start(r);
	hit = fault.hits > 0;
	fault_set("", 0, 0);
	RIG_UNTIL(r->over);
	if (!strstr(r->log, "exited:exit:3") && !strstr(r->log, "failed:exec:"))
		T_FAIL("%s %d: %s", name, k, r->log);
	if (strstr(r->log, "nopid")) {
		hit = true;
		T_CHECK(r->reason.value == err);
	}
	if (strstr(r->log, "failed:exec:") && !strstr(r->log, "nopid"))
		hit = true; /* in the child */
	T_EQ_INT(fd_count(), before);
	return hit;
}

T_CASE(every_call_fails)
{
	static const char *const name[] = { "pipe2", "socket", "bind", "setsockopt", "epoll_ctl", "syscall", "fork",
		"fcntl", "dup2", "open", "openat", "setsid", NULL };
	struct proto_keep_log kept;
	int i, k, log, none;

	rig_open(true);
	rig_keep();
	rig_spec(0, RIG_WORKER("--ready-fd", "9", "--exit", "3"));
	R.svc[0].spec->worker.log = SPEC_LOG_DIR;
	R.svc[0].spec->worker.ready = SPEC_READY_FD;
	R.svc[0].spec->worker.ready_arg = 9;
	rig_make(0);
	rig_start(&R.svc[0]);
	RIG_UNTIL(R.svc[0].over);
	log = rig_take_log(&kept, NULL);
	for (i = 0; name[i]; i++) {
		for (k = 1, none = 0; none < 12; k++) {
			char buf[65536];

			none = life_with_fault(name[i], k, EMFILE) ? 0 : none + 1;
			drain_pipe(log, buf, sizeof buf);
		}
	}
	/* and with no pipe for the log yet */
	for (k = 1; k <= 6; k++) {
		char where[16];

		snprintf(where, sizeof where, "/d%d", k);
		R.svc[0].spec->worker.log_dir = rig_str(where);
		R.svc[0].log[0] = '\0';
		fault_set("pipe2", k, ENFILE);
		rig_start(&R.svc[0]);
		fault_set("", 0, 0);
		RIG_UNTIL(R.svc[0].over);
		if (fds_recv(R.keep[0], (char[PROTO_PACKET_MAX]){ 0 }, PROTO_PACKET_MAX, &none, 1, &(size_t){ 0 }) > 0)
			close(none);
	}
	close(log);
	rig_close();
}

T_CASE(fork_fails)
{
	rig_open(true);
	rig_spec(0, RIG_WORKER("--hold"));
	rig_make(0);
	fault_set("syscall435", 1, EAGAIN); /* clone3 */
	rig_start(&R.svc[0]);
	fault_set("", 0, 0);
	T_EQ_STR(R.svc[0].log, "failed:exec:EAGAIN:fork:nopid");
	rig_close();
}

/* A kernel without clone3: fork, and the child enters its cgroup itself. */
T_CASE(without_clone3)
{
	rig_open(true);
	rig_spec(0, RIG_WORKER("--fork", "2", "--notify", "READY=1", "--hold"))->worker.ready = SPEC_READY_NOTIFY;
	rig_make(0);
	fault_set("syscall435", 1, ENOSYS);
	fault.ever = 1;
	rig_start(&R.svc[0]);
	fault_set("", 0, 0);
	RIG_UNTIL(strstr(R.svc[0].log, "ready"));
	service_stop(R.svc[0].s);
	RIG_UNTIL(R.svc[0].over);
	T_EQ_STR(R.svc[0].log, "created ready stopping:TERM exited:shutdown:asked");
	RIG_UNTIL((rig_reap(), !rig_children()));
	rig_close();
}

/* A cgroup that cannot be entered: without. */
T_CASE(cgroup_refused)
{
	rig_open(true);
	rig_spec(0, RIG_WORKER("--fork", "2", "--notify", "READY=1", "--hold"))->worker.ready = SPEC_READY_NOTIFY;
	rig_make(0);
	if (R.node.groups.dirfd >= 0) {
		fault_set("syscall435", 1, EACCES);
		rig_start(&R.svc[0]);
		fault_set("", 0, 0);
		RIG_UNTIL(strstr(R.svc[0].log, "ready"));
		service_stop(R.svc[0].s);
		RIG_UNTIL(R.svc[0].over);
		T_EQ_STR(R.svc[0].log, "created ready stopping:TERM exited:shutdown:asked");
		RIG_UNTIL((rig_reap(), !rig_children()));
	}
	rig_close();
}

static void many_lives(bool cgroup)
{
	struct rig_service *r;
	long before;
	int fds;

	rig_open(cgroup);
	rig_spec(0, (const char *const[]){ "/bin/true", NULL });
	r = rig_make(0);
	rig_start(r);
	RIG_UNTIL(r->over);
	fds = fd_count();
	before = allocations;
	r->again = true;
	rig_start(r);
	while (r->starts < 500 && !t_failures) {
		r->log[0] = '\0';
		loop_turn(&R.loop, 1000);
	}
	r->again = false;
	RIG_UNTIL(r->over);
	T_EQ_INT(allocations, before);
	T_EQ_INT(fd_count(), fds);
	rig_close();
}

T_CASE(many_lives_cost_nothing)
{
	many_lives(true);
	many_lives(false);
}

/* C20: nothing of a dead service wakes the loop. */
T_CASE(quiet_when_idle)
{
	struct rusage a, b;
	int64_t end;
	int turns = 0;

	rig_open(true);
	rig_spec(0, RIG_WORKER("--daemonize", "--notify", "READY=1", "--hold"))->worker.ready = SPEC_READY_NOTIFY;
	rig_make(0);
	rig_start(&R.svc[0]);
	RIG_UNTIL(strstr(R.svc[0].log, "ready"));
	loop_turn(&R.loop, 0);
	getrusage(RUSAGE_SELF, &a);
	end = clock_mono_ms() + 500;
	while (clock_mono_ms() < end) {
		loop_turn(&R.loop, (int)(end - clock_mono_ms()));
		turns++;
	}
	getrusage(RUSAGE_SELF, &b);
	T_CHECK(turns <= 3);
	rig_close();
}

/* Its supervisor dies: so does it. */
T_CASE(dies_with_its_supervisor)
{
	int fd[2];
	pid_t sup, worker = 0;

	T_REQUIRE(pipe(fd) == 0);
	T_REQUIRE(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	sup = fork();
	if (sup == 0) {
		rig_open(false);
		rmdir(R.dir);
		rig_spec(0, RIG_WORKER("--hold"));
		rig_make(0);
		rig_start(&R.svc[0]);
		RIG_UNTIL(strstr(R.svc[0].log, "ready"));
		if (write(fd[1], &R.svc[0].pid, sizeof(pid_t)) < 0)
			_exit(1);
		raise(SIGKILL);
	}
	T_CHECK(read(fd[0], &worker, sizeof worker) == sizeof worker);
	T_CHECK(waitpid(sup, NULL, 0) == sup);
	T_CHECK(waitpid(worker, NULL, 0) == worker); /* ours now, and dead */
	close(fd[0]);
	close(fd[1]);
}

T_MAIN(T_RUN(exits), T_RUN(dies_of_signals), T_RUN(success_codes_and_signals), T_RUN(dead_before_it_is_looked_at),
    T_RUN(exec_errors), T_RUN(searches_path), T_RUN(failing_steps), T_RUN(stops), T_RUN(is_killed),
    T_RUN(another_signal_than_ours), T_RUN(stopped_while_starting), T_RUN(ready_notify), T_RUN(ready_then_dead),
    T_RUN(ready_fd), T_RUN(ready_after), T_RUN(ready_tcp), T_RUN(ready_unix), T_RUN(ready_file), T_RUN(ready_log),
    T_RUN(stuck_before_exec), T_RUN(dies_before_ready), T_RUN(late_start_leaves_nothing),
    T_RUN(takes_what_it_started), T_RUN(grandchild_holds_pipes), T_RUN(kill_group_false),
    T_RUN(orphans_are_asked_first), T_RUN(deaf_orphans_are_killed), T_RUN(frozen), T_RUN(watchdog),
    T_RUN(watchdog_of_a_stopped_child), T_RUN(watchdog_after_our_own_sleep), T_RUN(watchdog_trigger_and_change),
    T_RUN(extends_its_times), T_RUN(clean_process), T_RUN(limits), T_RUN(original_nofile),
    T_RUN(drops_privileges), T_RUN(root_keeps_its_freedom), T_RUN(failed_drop), T_RUN(drop_that_can_be_undone),
    T_RUN(environment), T_RUN(environment_cleared), T_RUN(listen_fds), T_RUN(sockets_open), T_RUN(log_pipe),
    T_RUN(log_full), T_RUN(log_handed_over_later), T_RUN(every_call_fails), T_RUN(fork_fails),
    T_RUN(without_clone3), T_RUN(cgroup_refused), T_RUN(many_lives_cost_nothing), T_RUN(quiet_when_idle),
    T_RUN(dies_with_its_supervisor))
