/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Signals to root: orders of INTERFACE (TERM, INT, HUP, ...), or, in front of a single command,
 * signals that are passed on to it. All are read from a signalfd; there is no handler.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fds.h"
#include "node/root_private.h"

int root_signals_open(struct root *r)
{
	sigset_t mask;

	sigfillset(&mask);
	sigdelset(&mask, SIGKILL);
	sigdelset(&mask, SIGSTOP);
	/* our own mistakes kill us as they should */
	sigdelset(&mask, SIGSEGV);
	sigdelset(&mask, SIGBUS);
	sigdelset(&mask, SIGFPE);
	sigdelset(&mask, SIGILL);
	sigdelset(&mask, SIGTRAP);
	sigdelset(&mask, SIGABRT);
	sigdelset(&mask, SIGSYS);
	r->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
	if (r->signal_fd < 0)
		return -1;
	return loop_attach(&r->loop, &r->signal_src, r->signal_fd, EPOLLIN, root_signal_ready, r);
}

/* USR1: the socket's name may have been removed or taken; make it again. */
static void reopen_socket(struct root *r)
{
	struct stat st;
	int fd;

	if (r->node.fd[NODE_FD_LISTEN] < 0)
		return;
	fd = node_listen(&r->node.dirs, r->opt.socket);
	if (fd < 0) {
		diag_warn_errno("unable to open the control socket again");
		return;
	}
	fds_close(&r->node.fd[NODE_FD_LISTEN]);
	r->node.fd[NODE_FD_LISTEN] = fd;
	if (stat(r->socket_path, &st) == 0)
		r->socket_ino = st.st_ino;
	root_control_tell(r, ROOT_TELL_LISTEN);
}

/* Stops this process as the terminal asked, unless it is an init, which cannot be stopped. */
static void stop_self(void)
{
	if (getpid() != 1)
		kill(getpid(), SIGSTOP);
}

/* In front of a single command every signal is the command's. */
static void pass_on(struct root *r, int sig)
{
	switch (sig) {
	case SIGTSTP:
	case SIGTTIN:
	case SIGTTOU: /* its session has no job control: it has to be stopped for real */
		sub_signal_workers(&r->top, SIGSTOP);
		stop_self();
		break;
	default:
		sub_signal_workers(&r->top, sig);
		break;
	}
}

static void order(struct root *r, int sig)
{
	switch (sig) {
	case SIGTERM:
	case SIGINT:
	case SIGQUIT:
		root_shutdown(r, sig == SIGTERM ? "SIGTERM" : sig == SIGINT ? "SIGINT" : "SIGQUIT");
		break;
	case SIGHUP:
		r->hups++;
		root_control_tell(r, ROOT_TELL_RELOAD);
		break;
	case SIGUSR1:
		reopen_socket(r);
		break;
	case SIGUSR2:
		root_log_say(r, KEEP_REOPEN);
		break;
	default:
		break;
	}
}

void root_signal_ready(struct loop_source *src, uint32_t events)
{
	struct root *r = src->ctx;
	struct signalfd_siginfo si;
	bool passes = r->node.command && !r->opt.restart;

	(void)events;
	while (read(src->fd, &si, sizeof si) == (ssize_t)sizeof si) {
		if (si.ssi_signo == SIGCHLD)
			continue;
		if (passes && r->state < ROOT_ST_STOPPING)
			pass_on(r, (int)si.ssi_signo);
		else
			order(r, (int)si.ssi_signo);
	}
	root_reap(r);
}
