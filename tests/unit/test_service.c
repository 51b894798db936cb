/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Services from start to end: reasons, exec errors, readiness, stopping, containment with and
 * without cgroups, the watchdog. What is within them: test_service_inside.c.
 */
#include "service_rig.h"

#include "ipc/group_private.h"

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

/* Counts daemons that have executed: before, nobody can tell whose they are. */
static bool count_daemon(void *ctx, pid_t pid)
{
	char path[64], text[256] = "";
	int fd;

	snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 && read(fd, text, sizeof text - 1) > 0 && memmem(text, sizeof text, "--hold", 6))
		++*(int *)ctx;
	fds_close(&fd);
	return true;
}

static int daemons(void)
{
	int n = 0;

	proc_each_child(count_daemon, &n);
	return n;
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
		RIG_UNTIL(daemons() == 2); /* still there */
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
	/* the TERM may have come before the frost */
	T_CHECK(strstr(r->log, "exited:killed:asked") || strstr(r->log, "exited:shutdown:asked"));
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

T_MAIN(T_RUN(exits), T_RUN(dies_of_signals), T_RUN(success_codes_and_signals),
    T_RUN(dead_before_it_is_looked_at), T_RUN(exec_errors), T_RUN(searches_path), T_RUN(failing_steps),
    T_RUN(stops), T_RUN(is_killed), T_RUN(another_signal_than_ours), T_RUN(stopped_while_starting),
    T_RUN(ready_notify), T_RUN(ready_then_dead), T_RUN(ready_fd), T_RUN(ready_after), T_RUN(ready_tcp),
    T_RUN(ready_unix), T_RUN(ready_file), T_RUN(ready_log), T_RUN(stuck_before_exec),
    T_RUN(dies_before_ready), T_RUN(late_start_leaves_nothing), T_RUN(takes_what_it_started),
    T_RUN(grandchild_holds_pipes), T_RUN(kill_group_false), T_RUN(orphans_are_asked_first),
    T_RUN(deaf_orphans_are_killed), T_RUN(frozen), T_RUN(watchdog), T_RUN(watchdog_of_a_stopped_child),
    T_RUN(watchdog_after_our_own_sleep), T_RUN(watchdog_trigger_and_change), T_RUN(extends_its_times))
