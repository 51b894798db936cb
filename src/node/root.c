/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The root of a node: starts the top supervisor, the log and the control process, reaps, passes
 * signals on, keeps the descriptors that must survive, and ends the node. Also the init of a
 * container. It supervises nothing but these three.
 *
 * Regime: everything is allocated before the first fork; then no allocation, no parsing, no
 * blocking call. What fails is tried again by a timer.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fds.h"
#include "node/config.h"
#include "node/member.h"
#include "node/root_private.h"

#define FORK_AGAIN_MS 200
#define FINISH_MS 3000       /* for log to write what is left */
#define EVENT_QUEUE_BYTES (64 * 1024)
#define EX_CONFIG_STATUS 78

/* --- saying what happens --- */

static void events_writable(struct loop_source *src, uint32_t events)
{
	struct root *r = src->ctx;

	(void)events;
	if (event_pipe_flush(&r->events))
		loop_detach(&r->loop, src);
}

void root_event(struct root *r, struct event *e)
{
	if (r->events.fd < 0)
		return;
	event_pipe_put(&r->events, e);
	if (r->events.q_len > 0 && r->event_src.fd < 0)
		loop_attach(&r->loop, &r->event_src, r->events.fd, EPOLLOUT, events_writable, r);
}

void root_note(struct root *r, const char *fmt, ...)
{
	char text[256];
	struct event e = { .type = EVENT_NOTE, .path = "/", .why = text };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	root_event(r, &e);
	diag_warn("%s", text);
}

/* sd_notify of the node itself, for the service manager it may run under. */
void root_notify(const char *text)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	size_t len = path ? strlen(path) : 0;
	int fd;

	if (len < 2 || len >= sizeof sa.sun_path || (path[0] != '/' && path[0] != '@'))
		return;
	memcpy(sa.sun_path, path, len);
	if (path[0] == '@')
		sa.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	(void)sendto(fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT, (const struct sockaddr *)&sa,
	    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
	close(fd);
}

/* --- the top supervisor --- */

static void top_created(void *ctx, pid_t pid)
{
	struct event e = { .type = EVENT_START, .path = "/", .pid = pid };

	root_event(ctx, &e);
}

static void top_started(void *ctx, uint32_t after_ms)
{
	struct root *r = ctx;
	struct event e = { .type = EVENT_READY, .path = "/", .pid = r->top.pid, .after_ms = after_ms };

	root_event(r, &e);
	if (r->state != ROOT_ST_STARTING)
		return;
	r->state = ROOT_ST_RUNNING;
	root_control_tell(r, ROOT_TELL_STATE);
	root_notify("READY=1");
	if (!r->node.command)
		diag_info("node %s is running: pid %d", r->node.name, (int)getpid());
}

static struct cop_exit top_reason(const struct plink_msg *final, int wstatus, int fork_errno)
{
	if (fork_errno != 0)
		return cop_exit_make_text(COP_EXIT_EXEC, fork_errno, "fork");
	return final ? final->reason : cop_exit_from_wait(wstatus);
}

static void finish(struct root *r);

/* What `coppice run` ends with after the top supervisor's last word. */
static int status_of(const struct root *r, const struct plink_msg *final)
{
	switch ((enum plink_how)final->how) {
	case PLINK_ASKED:
		return 0;
	case PLINK_AUTO:
		return cop_exit_status(&final->cause);
	case PLINK_INIT:
		return r->node.command && final->has_cause ? cop_exit_status(&final->cause) : 1;
	case PLINK_LIMIT:
		return 1;
	}
	return 1;
}

static void say_start_failed(const struct root *r, const struct plink_msg *final)
{
	char reason[COP_EXIT_FORMAT_MAX];
	const struct cop_exit *c = &final->cause;
	const char *what = r->node.command ? r->opt.command[0] : final->cause_path;

	if (c->kind == COP_EXIT_EXEC)
		diag_error("%s: unable to start: %s (exec:%s, step %s)", what, strerror(c->value),
		    text_errno_name(c->value), c->text[0] ? c->text : "?");
	else if (!r->node.command)
		diag_error("%s: unable to start: %s", what, cop_exit_format(c, reason, sizeof reason));
}

static void say_why(const struct root *r, const struct plink_msg *final)
{
	char reason[COP_EXIT_FORMAT_MAX];

	if (final->how == PLINK_LIMIT)
		diag_error("node %s: the top supervisor used up its restarts and gave up, at last because of %s (%s)",
		    r->node.name, final->cause_path, cop_exit_format(&final->cause, reason, sizeof reason));
	else if (final->how == PLINK_INIT && r->state != ROOT_ST_STOPPING)
		say_start_failed(r, final);
}

static void start_top(struct root *r);

static void start_top_again(struct loop_timer *t)
{
	start_top(t->ctx);
}

/* The top supervisor was killed, which is nobody's decision, or its replacement could not start a child:
 * it is tried again within a budget of its own. */
static void replace_top(struct root *r)
{
	struct event e = { .type = EVENT_RESTART, .path = "/", .cause = "/", .list = "/", .list_len = 2 };

	if (!sup_intensity_add(&r->intensity, clock_mono_ms())) {
		diag_error("node %s: the top supervisor was killed too often", r->node.name);
		r->status = 1;
		finish(r);
		return;
	}
	e.restarts_left = sup_intensity_left(&r->intensity, clock_mono_ms());
	root_event(r, &e);
	loop_timer_set(&r->loop, &r->top_timer, clock_mono_ms(), start_top_again, r);
}

static void top_ended(void *ctx, pid_t pid, bool was_started, const struct plink_msg *final, int wstatus,
    uint64_t ran_ms, int fork_errno)
{
	struct root *r = ctx;
	struct event e = { .type = was_started ? EVENT_EXIT : EVENT_START_FAILED, .path = "/", .pid = pid,
		.ran_ms = ran_ms, .asked = r->state == ROOT_ST_STOPPING,
		.reason = top_reason(final, wstatus, fork_errno) };

	root_event(r, &e);
	if (final)
		say_why(r, final);
	if (fork_errno != 0 && r->state == ROOT_ST_RUNNING) { /* nobody's failure: it will be possible again */
		diag_warn("unable to start the top supervisor: %s", strerror(fork_errno));
		loop_timer_set(&r->loop, &r->top_timer, clock_mono_ms() + FORK_AGAIN_MS, start_top_again, r);
	} else if (r->state == ROOT_ST_STOPPING) {
		r->status = final ? status_of(r, final) : 0;
		finish(r);
	} else if (final && !(final->how == PLINK_INIT && r->state == ROOT_ST_RUNNING)) {
		r->status = status_of(r, final);
		finish(r);
	} else {
		replace_top(r);
	}
}

static void top_note(void *ctx, const char *text)
{
	root_note(ctx, "%s", text);
}

/* Root's only children in the tree's group: the top supervisor; log and control live outside it. */
static bool top_living(void *ctx, const char *invocation, pid_t session)
{
	struct root *r = ctx;

	(void)invocation;
	return session == r->log.pid || session == r->control.pid;
}

static const struct sub_ops top_ops = {
	.created = top_created,
	.started = top_started,
	.ended = top_ended,
	.note = top_note,
	.living = top_living,
};

static void start_top(struct root *r)
{
	r->top.spec = spec_top(&r->node.img);
	sub_start(&r->top);
}

/* --- the end --- */

static void leave(struct root *r)
{
	r->loop.stop = true;
}

static void finish_timeout(struct loop_timer *t)
{
	struct root *r = t->ctx;

	root_aside_end(r, &r->log, SIGKILL);
	leave(r);
}

/* The tree is gone. Log writes what is left and ends; then root leaves. */
static void finish(struct root *r)
{
	r->state = ROOT_ST_FINISHING;
	r->log.wanted = r->log.wanted && r->log.pid != 0;
	if (r->log.pid == 0) {
		leave(r);
		return;
	}
	root_log_say(r, KEEP_FINISH);
	loop_timer_set(&r->loop, &r->finish_timer, clock_mono_ms() + FINISH_MS, finish_timeout, r);
}

void root_shutdown(struct root *r, const char *why)
{
	struct event e = { .type = EVENT_SHUTDOWN, .path = "/", .why = why };

	if (r->state == ROOT_ST_FINISHING)
		return;
	if (r->state == ROOT_ST_STOPPING) { /* asked twice: now */
		if (!r->kill_now && r->top.pid != 0)
			sub_kill(&r->top);
		r->kill_now = true;
		return;
	}
	snprintf(r->why, sizeof r->why, "%s", why);
	r->state = ROOT_ST_STOPPING;
	root_event(r, &e);
	root_control_tell(r, ROOT_TELL_STATE);
	root_notify("STOPPING=1");
	loop_timer_cancel(&r->loop, &r->top_timer);
	if (r->top.pid == 0)
		finish(r); /* between two incarnations */
	else
		sub_shutdown(&r->top);
}

void root_reap(struct root *r)
{
	struct member_death d;
	bool orphans = false;
	int status;
	pid_t pid;

	while ((pid = member_wait(-1, &status, &d)) > 0) {
		if (root_aside_reaped(r, pid, status))
			continue;
		if (!sub_reaped(&r->top, pid, status))
			orphans = true;
	}
	if (orphans)
		sub_orphan_reaped(&r->top);
	if (r->state == ROOT_ST_FINISHING && r->log.pid == 0)
		leave(r);
}

/* --- the beginning --- */

static int load(struct root *r)
{
	const struct run_options *o = &r->opt;
	const char *name;
	int fd;

	if (o->file)
		fd = config_load(o->file, 0, STDERR_FILENO);
	else
		fd = config_load_command(o->node ? o->node : "run", o->restart, o->command, STDERR_FILENO);
	if (fd < 0)
		return EX_CONFIG_STATUS;
	if (spec_open(&r->node.img, fd) < 0) {
		close(fd);
		diag_error_errno("unable to read the parsed configuration");
		return 1;
	}
	name = o->node ? o->node : spec_string(&r->node.img, r->node.img.h->node);
	if (!text_is_id(name) || strlen(name) >= SPEC_NODE_MAX) {
		diag_error("%s: not a name for a node", name);
		return 2;
	}
	snprintf(r->node.name, sizeof r->node.name, "%s", name);
	return 0;
}

/* Directories, lock and control socket. A single command runs without, where they cannot be had. */
static int take_place(struct root *r)
{
	struct node *n = &r->node;
	struct stat st;

	if (n->command && !r->opt.socket && !r->opt.node)
		snprintf(n->name, sizeof n->name, "run-%d", (int)getpid());
	if (node_dirs_init(&n->dirs, n->name, true, n->command) < 0) {
		if (!n->command)
			return -1;
		n->dirs.runtime[0] = '\0';
	}
	if (n->dirs.runtime[0] == '\0')
		return n->command ? 0 : -1;
	n->fd[NODE_FD_LOCK] = node_lock(&n->dirs);
	if (n->fd[NODE_FD_LOCK] < 0 && n->command && !r->opt.socket && !r->opt.node) {
		n->dirs.runtime[0] = '\0'; /* another namespace's init has this name: go without */
		return 0;
	}
	if (n->fd[NODE_FD_LOCK] < 0) {
		if (errno == EWOULDBLOCK)
			diag_error("node %s is running already (%s)", n->name, n->dirs.runtime);
		else
			diag_error_errno("unable to lock %s", n->dirs.runtime);
		return -1;
	}
	n->fd[NODE_FD_LISTEN] = node_listen(&n->dirs, r->opt.socket);
	if (n->fd[NODE_FD_LISTEN] < 0) {
		diag_error_errno("unable to make the control socket in %s", r->opt.socket ? r->opt.socket : n->dirs.runtime);
		return n->command ? 0 : -1;
	}
	if (r->opt.socket)
		snprintf(r->socket_path, sizeof r->socket_path, "%s", r->opt.socket);
	else
		snprintf(r->socket_path, sizeof r->socket_path, "%.4000s/%s", n->dirs.runtime, PROTO_SOCKET_NAME);
	if (stat(r->socket_path, &st) == 0)
		r->socket_ino = st.st_ino;
	return 0;
}

static int open_sockets(struct root *r)
{
	const struct spec_image *img = &r->node.img;
	uint32_t i;

	for (i = 0; i < img->h->n_sockets; i++) {
		const struct spec_socket *s = spec_socket_at(img, i);

		r->node.sockets[i] = node_socket_open(img, s);
		if (r->node.sockets[i] < 0) {
			diag_error_errno("unable to listen on %s", spec_string(img, s->key));
			return -1;
		}
	}
	return 0;
}

static void name_group(struct root *r)
{
	const char *s = r->node.dirs.runtime;
	uint32_t h = 2166136261u;
	struct stat st;

	/* the path and the lock: the same path of another mount namespace is another node */
	for (; *s; s++)
		h = (h ^ (unsigned char)*s) * 16777619u;
	if (fstat(r->node.fd[NODE_FD_LOCK], &st) == 0)
		h = (h ^ (uint32_t)(st.st_ino * 31 + st.st_dev)) * 16777619u;
	else if (stat("/proc/self/ns/pid", &st) == 0)
		h ^= (uint32_t)st.st_ino;
	if (r->node.dirs.runtime[0])
		snprintf(r->group_name, sizeof r->group_name, "coppice.%s.%08x", r->node.name, h);
	else
		snprintf(r->group_name, sizeof r->group_name, "coppice.run.%d.%08x", (int)getpid(), h);
}

static int prepare(struct root *r)
{
	uint8_t secret[PROTO_MARK_SECRET / 2];
	size_t i;

	arc4random_buf(secret, sizeof secret);
	for (i = 0; i < sizeof secret; i++)
		snprintf(r->node.secret + 2 * i, 3, "%02x", secret[i]);
	if (loop_open(&r->loop) < 0 || root_signals_open(r) < 0 || root_channels_open(r) < 0 ||
	    root_keep_open(r) < 0 || sup_intensity_init(&r->intensity, spec_top(&r->node.img)->flags.max_restarts,
	    spec_top(&r->node.img)->flags.max_seconds) < 0) {
		diag_error_errno("unable to prepare the node");
		return -1;
	}
	if (r->node.fd[NODE_FD_EVENT_W] >= 0 &&
	    event_pipe_init(&r->events, r->node.fd[NODE_FD_EVENT_W], EVENT_QUEUE_BYTES) < 0)
		return -1;
	if (open_sockets(r) < 0)
		return -1;
	if (!r->node.command)
		member_node_create(r->node.name);
	name_group(r);
	group_base_open(&r->node.groups, r->group_name);
	return 0;
}

/* Signals of a state we may have inherited do not decide how we behave. */
static void clean_process(void)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL }, ign = { .sa_handler = SIG_IGN };
	sigset_t all;
	int sig;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	for (sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL);
	sigaction(SIGPIPE, &ign, NULL);
	sigaction(SIGXFSZ, &ign, NULL);
	umask(077);
	if (fds_fill_std() < 0)
		_exit(1);
	fds_close_from(3);
	fds_raise_limit();
	prctl(PR_SET_CHILD_SUBREAPER, 1);
}

static void lower_oom(struct node *n)
{
	char text[16];
	int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : pread(fd, text, sizeof text - 1, 0);
	int64_t v;

	if (len > 0)
		text[text[len - 1] == '\n' ? len - 1 : len] = '\0';
	if (len > 0 && text_to_i64(text, -1000, 1000, &v) == 0) {
		n->oom_inherited = (int)v;
		snprintf(text, sizeof text, "%d", NODE_OOM_ADJ);
		n->oom_lowered = n->oom_inherited > NODE_OOM_ADJ && pwrite(fd, text, strlen(text), 0) > 0;
	}
	fds_close(&fd);
}

/* The init of an interactive container leads the terminal's session: it gives it up, so that the
 * command can have it, job control included. The hang-up that comes of it is not for the command. */
static void give_up_terminal(void)
{
	struct timespec now = { 0 };
	sigset_t hup;

	if (!isatty(STDIN_FILENO) || getsid(0) != getpid() || ioctl(STDIN_FILENO, TIOCNOTTY) < 0)
		return;
	sigemptyset(&hup);
	sigaddset(&hup, SIGHUP);
	sigaddset(&hup, SIGCONT);
	while (sigtimedwait(&hup, NULL, &now) > 0)
		;
}

static void run(struct root *r)
{
	lower_oom(&r->node);
	if (r->node.fd[NODE_FD_LISTEN] >= 0) {
		r->control.wanted = true;
		root_aside_start(r, &r->control);
	}
	sub_init(&r->top, &r->node, &r->loop, &r->node.groups, spec_top(&r->node.img), &top_ops, r);
	start_top(r);
	loop_run(&r->loop);
}

static void remove_sockets(struct root *r)
{
	uint32_t i;

	for (i = 0; i < r->node.img.h->n_sockets; i++) {
		const struct spec_socket *s = spec_socket_at(&r->node.img, i);

		if (s->kind == 'x' && r->node.sockets[i] >= 0)
			unlink(spec_string(&r->node.img, s->addr));
	}
}

/* Somebody may have put another in its place. */
static void remove_own_socket(const struct root *r)
{
	struct stat st;

	if (r->socket_path[0] && lstat(r->socket_path, &st) == 0 && st.st_ino == r->socket_ino)
		unlink(r->socket_path);
}

/* Control goes last, so that who waits for the end hears it. */
static void clean_up(struct root *r)
{
	sub_fini(&r->top);
	loop_detach(&r->loop, &r->ctl_src);
	fds_close(&r->node.fd[NODE_FD_CTL_ROOT]); /* at its end control tells its clients the last and leaves */
	root_aside_end(r, &r->control, 0);
	group_base_remove(&r->node.groups, r->group_name);
	remove_sockets(r);
	remove_own_socket(r);
	if (r->node.command && r->node.dirs.runtime[0] && !r->opt.node)
		node_dirs_remove(&r->node.dirs);
}

int root_run(const struct run_options *opt)
{
	static struct root r;
	size_t i;
	int status;

	r = (struct root){ .opt = *opt, .events.fd = -1, .signal_fd = -1 };
	r.node.command = opt->file == NULL;
	r.node.root_pid = getpid();
	r.node.started_ms = clock_mono_ms();
	r.node.img.fd = -1;
	r.node.groups.dirfd = -1;
	r.log.what = "log";
	r.control.what = "control";
	r.signal_src.fd = r.keep_src.fd = r.log_src.fd = r.ctl_src.fd = r.event_src.fd = -1;
	for (i = 0; i < NODE_FDS; i++)
		r.node.fd[i] = -1;
	for (i = 0; i < NODE_SOCKETS_MAX; i++)
		r.node.sockets[i] = -1;
	diag_set_quiet(opt->quiet);
	clean_process();
	if (r.node.command)
		give_up_terminal();
	status = load(&r);
	if (status != 0)
		return status;
	setproctitle("root %s", r.node.name);
	if (take_place(&r) < 0 || prepare(&r) < 0)
		return 1;
	run(&r);
	clean_up(&r);
	return r.status;
}
