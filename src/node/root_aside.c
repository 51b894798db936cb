/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The processes beside the tree, log and control: forked by root, replaced whenever they die, at
 * once the first time and then with growing pauses while they die young. Also what root and
 * control say to each other.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fds.h"
#include "node/member.h"
#include "node/root_private.h"

#define YOUNG_MS 1000
#define WAIT_MAX_MS 1000
#define END_WAIT_MS 2000
#define TELL_AGAIN_MS 50

static void start_again(struct loop_timer *t)
{
	struct aside *a = t->ctx;
	struct root *r = (struct root *)(void *)((char *)a -
	    (strcmp(a->what, "log") == 0 ? offsetof(struct root, log) : offsetof(struct root, control)));

	root_aside_start(r, a);
}

static void later(struct root *r, struct aside *a)
{
	a->wait_ms = a->wait_ms == 0 ? 50 : a->wait_ms * 2 > WAIT_MAX_MS ? WAIT_MAX_MS : a->wait_ms * 2;
	loop_timer_set(&r->loop, &a->again, clock_mono_ms() + a->wait_ms, start_again, a);
}

/* Closes what belongs to the tree and not to a process beside it. */
static void become(struct root *r, bool is_log)
{
	static const enum node_fd not_log[] = { NODE_FD_EVENT_R, NODE_FD_HELLO_W, NODE_FD_HELLO_R, NODE_FD_KEEP_W,
		NODE_FD_KEEP_R, NODE_FD_LOG_ROOT, NODE_FD_LINES_R, NODE_FD_CTL_ROOT, NODE_FD_CTL_CTL, NODE_FD_LISTEN,
		NODE_FD_LOCK, NODE_FD_HISTORY };
	static const enum node_fd not_control[] = { NODE_FD_HELLO_W, NODE_FD_KEEP_W, NODE_FD_KEEP_R, NODE_FD_LOG_ROOT,
		NODE_FD_LOG_LOG, NODE_FD_LINES_W, NODE_FD_CTL_ROOT,
		NODE_FD_JOURNAL, NODE_FD_LISTEN, NODE_FD_LOCK };
	const enum node_fd *not = is_log ? not_log : not_control;
	size_t i, n = is_log ? sizeof not_log / sizeof *not_log : sizeof not_control / sizeof *not_control;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != r->node.root_pid)
		_exit(1);
	setsid();
	prctl(PR_SET_CHILD_SUBREAPER, 0);
	loop_after_fork(&r->loop);
	fds_close(&r->signal_fd);
	fds_close(&r->top.link);
	fds_close(&r->node.groups.dirfd);
	fds_close(&r->top.group.dirfd);
	fds_close(&r->top.group.events_fd);
	for (i = 0; i < n; i++)
		fds_close(&r->node.fd[not[i]]);
	if (is_log)
		for (i = 0; i < NODE_SOCKETS_MAX; i++)
			fds_close(&r->node.sockets[i]);
	else
		for (i = 0; i < r->kept_used; i++) {
			fds_close(&r->kept[i].fd);
			fds_close(&r->kept[i].ready_fd);
		}
	setproctitle("%s %s", is_log ? "log" : "control", r->node.name);
}

static _Noreturn void in_child(struct root *r, struct aside *a, uint64_t member)
{
	bool is_log = a == &r->log;

	become(r, is_log);
	member_become(member, MEMBER_ASIDE, -1);
	if (is_log)
		root_log_child(r);
	control_main(&r->node);
}

static int renew_channel(struct root *r, const struct aside *a)
{
	if (a == &r->log)
		return root_channel_renew(r, NODE_FD_LOG_ROOT, NODE_FD_LOG_LOG, &r->log_src, root_log_ready);
	return root_channel_renew(r, NODE_FD_CTL_ROOT, NODE_FD_CTL_CTL, &r->ctl_src, root_control_ready);
}

void root_aside_start(struct root *r, struct aside *a)
{
	uint64_t member;
	uint32_t i;
	pid_t pid;

	if (a->pid != 0 || !a->wanted)
		return;
	member = a == &r->control ? member_claim(NULL) : 0;
	pid = renew_channel(r, a) < 0 ? -1 : fork();
	if (pid != 0)
		member_forked(member, pid);
	if (pid < 0) {
		diag_warn_errno("unable to start the %s process", a->what);
		later(r, a);
		return;
	}
	if (pid == 0)
		in_child(r, a, member);
	a->pid = pid;
	a->since_ms = clock_mono_ms();
	if (a == &r->log) {
		for (i = 0; i < r->kept_used; i++)
			r->kept[i].unsent = false; /* forked with them */
	} else {
		root_control_tell(r, ROOT_TELL_LISTEN | ROOT_TELL_STATE | (r->hups != r->hups_done ? ROOT_TELL_RELOAD : 0));
	}
}

bool root_aside_reaped(struct root *r, pid_t pid, int wstatus)
{
	struct aside *a = pid == r->log.pid ? &r->log : pid == r->control.pid ? &r->control : NULL;
	char reason[COP_EXIT_FORMAT_MAX];
	struct cop_exit e;

	if (!a)
		return false;
	a->pid = 0;
	if (a == &r->control && r->ctl_src.fd >= 0)
		root_control_ready(&r->ctl_src, 0); /* its last words: an image, a shutdown */
	if (a == &r->log && r->state == ROOT_ST_FINISHING && WIFEXITED(wstatus) && WEXITSTATUS(wstatus) == 0) {
		a->wanted = false;
		return true;
	}
	if (!a->wanted)
		return true;
	e = cop_exit_from_wait(wstatus);
	root_note(r, "the %s process ended (%s) and is replaced", a->what, cop_exit_format(&e, reason, sizeof reason));
	if (clock_mono_ms() - a->since_ms >= YOUNG_MS)
		a->wait_ms = 0;
	if (a->wait_ms == 0) {
		a->wait_ms = 1;
		root_aside_start(r, a);
	} else {
		later(r, a);
	}
	if (a == &r->log && r->state == ROOT_ST_FINISHING)
		root_log_say(r, KEEP_FINISH);
	return true;
}

void root_aside_end(struct root *r, struct aside *a, int sig)
{
	int64_t until = clock_mono_ms() + END_WAIT_MS;
	int status;

	a->wanted = false;
	loop_timer_cancel(&r->loop, &a->again);
	if (a->pid == 0)
		return;
	if (sig != 0)
		kill(a->pid, sig);
	while (waitpid(a->pid, &status, WNOHANG) == 0) {
		if (clock_mono_ms() >= until)
			kill(a->pid, SIGKILL);
		loop_turn(&r->loop, 20); /* also reaps */
		if (a->pid == 0)
			return;
	}
	a->pid = 0;
}

/* --- control --- */

/* All return 0, or -1: it has to be said again. */
static int tell_reload(struct root *r)
{
	uint8_t buf[8];
	struct wire_out w;

	wire_out_init(&w, buf, sizeof buf);
	wire_put_u8(&w, ROOT_RELOAD);
	wire_put_u32(&w, r->hups);
	return fds_send(r->node.fd[NODE_FD_CTL_ROOT], buf, w.len, NULL, 0) < 0 ? -1 : 0;
}

static int tell(struct root *r, uint8_t kind, const char *text, int fd)
{
	uint8_t buf[256];
	struct wire_out w;

	wire_out_init(&w, buf, sizeof buf);
	wire_put_u8(&w, kind);
	if (text)
		wire_put_str(&w, text);
	return fds_send(r->node.fd[NODE_FD_CTL_ROOT], buf, w.len, &fd, fd >= 0 ? 1 : 0) < 0 ? -1 : 0;
}

static int tell_state(struct root *r)
{
	if (r->state == ROOT_ST_RUNNING)
		return tell(r, ROOT_RUNNING, NULL, -1);
	if (r->state >= ROOT_ST_STOPPING)
		return tell(r, ROOT_STOPPING, r->why, -1);
	return 0;
}

static void tell_again(struct loop_timer *t)
{
	root_control_tell(t->ctx, 0);
}

/* What control has to hear is remembered until the link took it; then it is as it is at that time. */
void root_control_tell(struct root *r, unsigned what)
{
	r->to_tell |= what;
	if (r->control.pid == 0)
		return; /* its successor is told everything */
	if ((r->to_tell & ROOT_TELL_LISTEN) && tell(r, ROOT_LISTEN, NULL, r->node.fd[NODE_FD_LISTEN]) == 0)
		r->to_tell &= ~ROOT_TELL_LISTEN;
	if ((r->to_tell & ROOT_TELL_STATE) && tell_state(r) == 0)
		r->to_tell &= ~ROOT_TELL_STATE;
	if ((r->to_tell & ROOT_TELL_RELOAD) && tell_reload(r) == 0)
		r->to_tell &= ~ROOT_TELL_RELOAD;
	if (r->to_tell != 0)
		loop_timer_set(&r->loop, &r->tell_timer, clock_mono_ms() + TELL_AGAIN_MS, tell_again, r);
}

/* ROOT_IMAGE: from now on a new top supervisor begins with it. */
static void take_image(struct root *r, int *fds, size_t n_fds)
{
	struct spec_image img;
	size_t i;

	if (n_fds == 0 || spec_open(&img, fds[0]) < 0)
		return;
	fds[0] = -1;
	if (img.h->n_sockets != n_fds - 1) {
		spec_close(&img);
		return;
	}
	spec_close(&r->node.img);
	r->node.img = img;
	r->top.spec = spec_top(&r->node.img);
	for (i = 0; i < NODE_SOCKETS_MAX; i++) {
		fds_close(&r->node.sockets[i]);
		if (i + 1 < n_fds) {
			r->node.sockets[i] = fds[i + 1];
			fds[i + 1] = -1;
		}
	}
}

void root_control_ready(struct loop_source *src, uint32_t events)
{
	struct root *r = src->ctx;
	int fds[NODE_SOCKETS_MAX + 1];
	char why[64];
	uint8_t buf[256];
	struct wire_in w;
	size_t n_fds, i;
	ssize_t n;

	while ((n = fds_recv(src->fd, buf, sizeof buf, fds, NODE_SOCKETS_MAX + 1, &n_fds)) > 0) {
		wire_in_init(&w, buf, (size_t)n);
		switch (wire_get_u8(&w)) {
		case ROOT_SHUTDOWN:
			wire_get_str(&w, why, sizeof why);
			if (r->state < ROOT_ST_STOPPING) /* a second request does not mean: kill */
				root_shutdown(r, wire_done(&w) && why[0] ? why : "asked");
			break;
		case ROOT_RELOADED:
			r->hups_done = wire_get_u32(&w);
			break;
		case ROOT_IMAGE:
			take_image(r, fds, n_fds);
			break;
		default:
			break;
		}
		for (i = 0; i < n_fds; i++)
			fds_close(&fds[i]);
	}
	if (n < 0 && errno == EMFILE)
		loop_pause(&r->loop, src, &r->ctl_pause, ROOT_PAUSE_MS);
	if (n == 0 || (events & (EPOLLHUP | EPOLLERR)))
		loop_detach(&r->loop, src);
}
