/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Services within: what the child finds, privileges, sockets, log pipes, failing system calls,
 * what many lives cost. Reasons, readiness, stopping: test_service.c.
 */
#include "service_rig.h"

#include "../helpers/faultinject.c"
#define DENIED_IS_PART
#include "../helpers/denied.c"

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

static void make_file(const char *path, const char *text, mode_t mode)
{
	FILE *f = fopen(path, "w");

	fputs(text, f);
	fclose(f);
	chmod(path, mode);
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
static void check_clean_process(void)
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

T_CASE(clean_process)
{
	check_clean_process();
}

/* As many descriptors as a supervisor of many children has: then the table is shared at first. */
#define CROWD 300
static int crowd[CROWD];

static void crowd_open(void)
{
	int i;

	for (i = 0; i < CROWD; i++)
		T_REQUIRE((crowd[i] = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, i < CROWD / 2 ? 3 : FDS_HIGH)) >= 0);
}

static void crowd_close(void)
{
	int i;

	for (i = 0; i < CROWD; i++)
		close(crowd[i]);
}

T_CASE(clean_process_of_a_crowd)
{
	crowd_open();
	check_clean_process();
	crowd_close();
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

/* A system call that always fails, in a life of its own: what comes of it. */
static struct denial {
	long call;
	int err;
	const char *expected;
} denial;

static void denied_life(void)
{
	rig_open(true);
	with_user(rig_spec(0, (const char *const[]){ "/bin/true", NULL }));
	R.svc[0].spec->worker.dir = rig_str("/");
	R.svc[0].spec->worker.nice = 5;
	R.svc[0].spec->worker.limits[SPEC_LIMIT_CORE] = 0;
	rig_make(0);
	T_REQUIRE(denied_set(denial.call, denial.err) == 0);
	rig_start(&R.svc[0]);
	RIG_UNTIL(R.svc[0].over);
	T_EQ_STR(R.svc[0].log, denial.expected);
	rig_close();
}

/* A step that does not work, and the program does not run; a drop of privileges above all. */
T_CASE(failed_steps)
{
	static const struct denial step[] = {
		{ SYS_setgroups, EAGAIN, "created failed:exec:EAGAIN:groups" },
		{ SYS_setresgid, EAGAIN, "created failed:exec:EAGAIN:group" },
		{ SYS_setresuid, EAGAIN, "created failed:exec:EAGAIN:user" },
		{ SYS_setsid, EPERM, "created failed:exec:EPERM:session" },
		{ SYS_prlimit64, EPERM, "created failed:exec:EPERM:limits" },
		{ SYS_setpriority, EACCES, "created failed:exec:EACCES:nice" },
		{ SYS_dup3, EMFILE, "created failed:exec:EMFILE:sockets" },
		{ SYS_chdir, EIO, "created failed:exec:EIO:dir" },
		{ SYS_execve, ENOMEM, "created failed:exec:ENOMEM:exec" },
		{ SYS_close_range, ENOSYS, "created ready exited:normal" },
		{ SYS_splice, EINVAL, "created ready exited:normal" },
		{ SYS_clone3, EAGAIN, "failed:exec:EAGAIN:fork:nopid" },
		{ SYS_clone3, ENOSYS, "created ready exited:normal" },
	};
	char name[64];
	size_t i;

	if (geteuid() != 0)
		return;
	for (i = 0; i < 2 * sizeof step / sizeof step[0]; i++) {
		denial = step[i / 2];
		if (i % 2)
			crowd_open();
		snprintf(name, sizeof name, "call %ld%s", denial.call, i % 2 ? " of a crowd" : "");
		T_CHECK(t_one(&(struct t_case){ .name = name, .run = denied_life }));
		if (i % 2)
			crowd_close();
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
	static char buf[65536 * 2];
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
	T_CHECK(clock_mono_ms() - before < 5000);
	T_CHECK(!strstr(r->log, "note["));
	/* another life, and no room for the records of either: said, not waited for */
	r->log[0] = '\0';
	rig_start(r);
	RIG_UNTIL(strstr(r->log, "note[its log takes no more") && strstr(r->log, "ready"));
	service_stop(r->s);
	RIG_UNTIL(r->over);
	/* the last exit record waits for room */
	RIG_UNTIL((drain_pipe(log, buf, sizeof buf), memmem(buf, sizeof buf, " shutdown\n", 10) != NULL));
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

/* A kernel without clone3: fork, and the child enters its cgroup itself. */
T_CASE(without_clone3)
{
	rig_open(true);
	rig_spec(0, RIG_WORKER("--fork", "2", "--notify", "READY=1", "--hold"))->worker.ready = SPEC_READY_NOTIFY;
	rig_make(0);
	T_REQUIRE(denied_set(SYS_clone3, ENOSYS) == 0);
	rig_start(&R.svc[0]);
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

T_MAIN(T_RUN(clean_process), T_RUN(limits), T_RUN(original_nofile), T_RUN(drops_privileges),
    T_RUN(root_keeps_its_freedom), T_RUN(clean_process_of_a_crowd), T_RUN(failed_steps),
    T_RUN(drop_that_can_be_undone), T_RUN(environment), T_RUN(environment_cleared), T_RUN(listen_fds),
    T_RUN(sockets_open), T_RUN(log_pipe), T_RUN(log_full), T_RUN(log_handed_over_later),
    T_RUN(every_call_fails), T_RUN(without_clone3), T_RUN(cgroup_refused),
    T_RUN(many_lives_cost_nothing), T_RUN(quiet_when_idle), T_RUN(dies_with_its_supervisor))
