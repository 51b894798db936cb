/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A bench for services: an image made by hand, a loop, and a small reaper that plays the
 * supervisor (a subreaper with SIGCHLD in a signalfd). What a service calls back is written down
 * as words: "created ready stopping:TERM exited:shutdown:asked". The children are this very
 * program, as tests/helpers/worker.c.
 */
#ifndef UNIT_SERVICE_RIG_H
#define UNIT_SERVICE_RIG_H

#include "t.h"

#include <stdarg.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/fds.h"
#include "base/text.h"
#include "node/exec_child.h"
#include "node/service.h"

#define WORKER_IS_PART
#include "../helpers/worker.c"

#define RIG_SERVICES 4
#define RIG_WAIT_MS 20000

/* Runs as the worker if it is called so; before main, so that T_MAIN need not know. */
__attribute__((constructor)) static void rig_be_worker(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "worker") == 0)
		exit(worker_main(argc - 1, argv + 1));
}

struct rig_service {
	struct service *s;
	struct spec_child *spec;
	char log[8192];
	pid_t pid;             /* last one created */
	int starts;
	struct cop_exit reason; /* last one */
	uint64_t ran_ms;
	bool over;             /* nothing is under way */
	bool again;            /* to be started again at its end */
};

static struct rig {
	struct loop loop;
	struct node node;
	struct loop_source signals;
	int signal_fd;
	_Alignas(8) char image[256 * 1024];
	uint32_t used;
	struct rig_service svc[RIG_SERVICES];
	char base[64];
	char dir[64];
	int keep[2];
	int orphans;           /* reaped */
} R;

/* --- the image --- */

static inline uint32_t rig_add(const void *p, size_t n)
{
	uint32_t at = (R.used + 7) & ~7u;

	T_REQUIRE(at + n <= sizeof R.image);
	memcpy(R.image + at, p, n);
	R.used = at + (uint32_t)n;
	return at;
}

static inline spec_str rig_str(const char *s)
{
	return s ? rig_add(s, strlen(s) + 1) : 0;
}

static inline struct spec_list rig_strings(const char *const *s)
{
	uint32_t off[64], n;

	for (n = 0; s[n]; n++)
		off[n] = rig_str(s[n]);
	return (struct spec_list){ .off = rig_add(off, n * sizeof off[0]), .count = n };
}

/* --- what services say --- */

__attribute__((format(printf, 2, 3))) static inline void rig_say(struct rig_service *r, const char *fmt, ...)
{
	size_t n = strlen(r->log);
	va_list ap;

	if (n > 0 && n < sizeof r->log - 1)
		r->log[n++] = ' ';
	va_start(ap, fmt);
	vsnprintf(r->log + n, sizeof r->log - n, fmt, ap);
	va_end(ap);
}

static void rig_created(void *ctx, pid_t pid)
{
	struct rig_service *r = ctx;

	r->pid = pid;
	r->starts++;
	rig_say(r, "created");
}

static void rig_ready(void *ctx, uint32_t after_ms)
{
	(void)after_ms;
	rig_say(ctx, "ready");
}

static inline void rig_ended(struct rig_service *r, const struct cop_exit *reason)
{
	r->reason = *reason;
	r->over = true;
	if (r->again) {
		r->over = false;
		service_start(r->s);
	}
}

static void rig_start_failed(void *ctx, const struct cop_exit *reason, pid_t pid)
{
	char buf[COP_EXIT_FORMAT_MAX];
	struct rig_service *r = ctx;

	rig_say(r, "failed:%s%s%s%s", cop_exit_format(reason, buf, sizeof buf),
	    reason->kind == COP_EXIT_EXEC ? ":" : "", reason->kind == COP_EXIT_EXEC ? reason->text : "",
	    pid == 0 ? ":nopid" : "");
	rig_ended(r, reason);
}

static void rig_exited(void *ctx, const struct cop_exit *reason, pid_t pid, bool asked, uint64_t ran_ms)
{
	char buf[COP_EXIT_FORMAT_MAX];
	struct rig_service *r = ctx;

	(void)pid;
	r->ran_ms = ran_ms;
	rig_say(r, "exited:%s%s", cop_exit_format(reason, buf, sizeof buf), asked ? ":asked" : "");
	rig_ended(r, reason);
}

static void rig_stopping(void *ctx, const char *how)
{
	rig_say(ctx, "stopping:%s", how);
}

static void rig_note(void *ctx, const char *text)
{
	rig_say(ctx, "note[%s]", text);
}

static bool rig_living(void *ctx, const char *invocation, pid_t session)
{
	int i;

	(void)ctx;
	for (i = 0; i < RIG_SERVICES; i++) {
		const struct service *s = R.svc[i].s;

		if (s && ((service_pid(s) != 0 && service_pid(s) == session) ||
		    (invocation[0] && strcmp(service_invocation(s), invocation) == 0)))
			return true;
	}
	return false;
}

static const struct service_ops rig_ops = {
	.created = rig_created, .ready = rig_ready, .start_failed = rig_start_failed, .exited = rig_exited,
	.stopping = rig_stopping, .note = rig_note, .living = rig_living,
};

/* --- the reaper --- */

static inline void rig_reap(void)
{
	bool orphans = false;
	int status, i;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (i = 0; i < RIG_SERVICES; i++)
			if (R.svc[i].s && service_reaped(R.svc[i].s, pid, status))
				break;
		orphans = orphans || i == RIG_SERVICES;
		R.orphans += i == RIG_SERVICES;
	}
	for (i = 0; orphans && i < RIG_SERVICES; i++)
		if (R.svc[i].s && service_draining(R.svc[i].s))
			service_orphan_reaped(R.svc[i].s);
}

static void rig_signal(struct loop_source *src, uint32_t events)
{
	struct signalfd_siginfo si;

	(void)events;
	while (read(src->fd, &si, sizeof si) > 0)
		;
	rig_reap();
}

/* Turns until cond, which may look at anything, or a deadline. */
#define RIG_UNTIL(cond) \
	do { \
		int64_t rig_end = clock_mono_ms() + RIG_WAIT_MS; \
		while (!(cond) && clock_mono_ms() < rig_end) \
			exec_launch_rest(), loop_turn(&R.loop, 20); \
		if (!(cond)) \
			T_FAIL("never came true: %s; log 0: %s", #cond, R.svc[0].log); \
	} while (0)

/* --- setting up --- */

static inline void rig_open(bool cgroup)
{
	struct spec_header h = { .magic = SPEC_MAGIC };
	sigset_t set;
	int i;

	memset(&R, 0, sizeof R);
	R.used = sizeof h;
	T_REQUIRE(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	signal(SIGPIPE, SIG_IGN);
	sigfillset(&set);
	sigdelset(&set, SIGABRT);
	sigprocmask(SIG_SETMASK, &set, NULL);
	T_REQUIRE(loop_open(&R.loop) == 0);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	R.signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	T_REQUIRE(loop_attach(&R.loop, &R.signals, R.signal_fd, 1 /* EPOLLIN */, rig_signal, NULL) == 0);
	strcpy(R.node.name, "rig");
	for (i = 0; i < NODE_FDS; i++)
		R.node.fd[i] = -1;
	for (i = 0; i < NODE_SOCKETS_MAX; i++)
		R.node.sockets[i] = -1;
	memset(R.node.secret, 'a', PROTO_MARK_SECRET);
	R.node.img.h = (struct spec_header *)(void *)R.image;
	R.node.img.fd = -1;
	R.node.groups.dirfd = -1;
	R.keep[0] = R.keep[1] = -1;
	snprintf(R.base, sizeof R.base, "coppice-rig-%d", (int)getpid());
	if (cgroup)
		group_base_open(&R.node.groups, R.base);
	strcpy(R.dir, "/tmp/rig.XXXXXX");
	T_REQUIRE(mkdtemp(R.dir) != NULL);
}

/* A worker with the defaults of a parsed file, output inherited; changed by the caller before rig_make(). */
static inline struct spec_child *rig_spec(int i, const char *const *argv)
{
	struct spec_child c = { .type = SPEC_WORKER, .sup.shutdown_ms = 5000 };
	struct spec_worker *w = &c.worker;
	char id[16];
	int l;

	snprintf(id, sizeof id, "s%d", i);
	c.id = rig_str(id);
	c.path = rig_str(id);
	w->exec = rig_strings(argv);
	w->umask = 022;
	w->uid = w->gid = SPEC_UNSET_ID;
	w->nice = SPEC_NICE_UNSET;
	w->kill_group = 1;
	for (l = 0; l < SPEC_LIMITS; l++)
		w->limits[l] = SPEC_LIMIT_UNSET;
	w->log = SPEC_LOG_INHERIT;
	w->stop_signal = SIGTERM;
	w->ready_timeout_ms = 30000;
	w->success_codes[0] = 1;
	R.svc[i].spec = (struct spec_child *)(void *)(R.image + rig_add(&c, sizeof c));
	return R.svc[i].spec;
}

/* The arguments of a worker: this program, "worker", and the rest up to NULL. */
#define RIG_WORKER(...) (const char *const[]){ "/proc/self/exe", "worker", __VA_ARGS__, NULL }

static inline struct rig_service *rig_make(int i)
{
	struct rig_service *r = &R.svc[i];

	r->s = service_create(&R.node, &R.loop, &R.node.groups, &R.node.img, r->spec, &rig_ops, r);
	T_REQUIRE(r->s != NULL);
	return r;
}

static inline void rig_start(struct rig_service *r)
{
	r->over = false;
	service_start(r->s);
}

/* A channel to a root that never answers, for log pipes. */
static inline void rig_keep(void)
{
	T_REQUIRE(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, R.keep) == 0);
	R.node.fd[NODE_FD_KEEP_W] = R.keep[1];
	strcpy(R.node.dirs.log, "/nonexistent/log");
}

/* Takes the read end (and the ready pipe's write end) that a service has handed over. */
static inline int rig_take_log(struct proto_keep_log *k, int *ready_r)
{
	uint8_t buf[PROTO_PACKET_MAX];
	int fd[2] = { -1, -1 };
	struct wire_in in;
	ssize_t len = 0;
	size_t n;

	RIG_UNTIL(len > 0 || (len = fds_recv(R.keep[0], buf, sizeof buf, fd, 2, &n)) > 0);
	wire_in_init(&in, buf, (size_t)len);
	T_EQ_INT(wire_get_u8(&in), KEEP_LOG);
	proto_get_keep_log(&in, k);
	T_CHECK(wire_done(&in));
	if (ready_r)
		*ready_r = fd[1];
	return fd[0];
}

static inline bool rig_children(void)
{
	return waitpid(-1, NULL, WNOHANG) != -1 || errno != ECHILD;
}

/* Stops what runs, and expects that nothing is left. */
static inline void rig_close(void)
{
	int i;

	for (i = 0; i < RIG_SERVICES; i++) {
		R.svc[i].again = false;
		if (R.svc[i].s && (service_pid(R.svc[i].s) != 0 || service_draining(R.svc[i].s))) {
			service_kill(R.svc[i].s);
			RIG_UNTIL(R.svc[i].over);
		}
		service_destroy(&R.svc[i].s);
	}
	RIG_UNTIL((rig_reap(), waitpid(-1, NULL, WNOHANG) == -1));
	if (R.node.groups.dirfd >= 0)
		group_base_remove(&R.node.groups, R.base);
	for (i = 0; i < NODE_SOCKETS_MAX; i++)
		fds_close(&R.node.sockets[i]);
	loop_detach(&R.loop, &R.signals);
	close(R.signal_fd);
	fds_close(&R.keep[0]);
	fds_close(&R.keep[1]);
	exec_launch_fini();
	loop_close(&R.loop);
	rmdir(R.dir);
}

/* Path of a file in the rig's directory. Static memory. */
static inline const char *rig_path(const char *name)
{
	static char buf[4][128];
	static int i;
	char *p = buf[i++ % 4];

	snprintf(p, sizeof buf[0], "%s/%s", R.dir, name);
	return p;
}

/* The whole of a small file. Static memory. */
static inline const char *rig_read(const char *path)
{
	static char buf[65536];
	FILE *f = fopen(path, "r");
	size_t n = f ? fread(buf, 1, sizeof buf - 1, f) : 0;

	if (f)
		fclose(f);
	buf[n] = '\0';
	return buf;
}

/* Tells whether any process has this environment entry or is pid: what must be gone. */
static inline bool rig_alive(pid_t pid)
{
	return kill(pid, 0) == 0;
}

#endif
