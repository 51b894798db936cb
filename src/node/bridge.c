/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The companion of a JSON server: its process and where it waits (bridge.h). It takes messages out of its
 * mailbox only as long as the worker takes what it gets, and lines of the worker only as long as what they
 * ask for can be done: so whoever does not keep up is felt by those who talk to it, and by nobody else.
 *
 * It does not trap exits: an exit signal ends it, and so the worker.
 */
#include "node/bridge.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fds.h"
#include "node/exec_child.h"
#include "node/member.h"

#ifdef HAVE_JANSSON

#include "node/bridge_private.h"

#define AGAIN_MS 5       /* what must wait for others is tried again */
#define EOF_MS 5000      /* from the end of the worker's output to its own */
#define READS_A_TURN 16

void bridge_fail(struct bridge *b, const char *word, const char *fmt, ...)
{
	struct cop_exit reason = cop_exit_make_text(COP_EXIT_OTHER, 0, word);
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	diag_error("server %s: line %lu: %s; it is ended (%s)", b->what, b->line, text, word);
	proc_die(&reason);
}

/* --- the process --- */

static void default_signals(void)
{
	sigset_t none;
	int sig;

	for (sig = 1; sig <= SIGRTMAX; sig++)
		signal(sig, SIG_DFL);
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void standard_descriptors(const struct bridge_setup *s)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC), log = s->log >= 0 ? s->log : s->log_null ? null : -1;

	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
	}
	if (log >= 0)
		dup2(log, STDERR_FILENO);
}

static void become(const struct bridge_setup *s, struct bridge *b)
{
	int keep[3] = { s->to_worker, s->from_worker, s->order };
	struct group own = { .dirfd = -1 };
	sigset_t urg;

	group_forked(&own);
	setsid();
	exec_restore_oom(s->node);
	default_signals();
	standard_descriptors(s);
	fds_close_except(keep, 3);
	member_become(s->member, MEMBER_WORKER, -1);
	proc.seg.mailbox = BRIDGE_MAILBOX; /* our own copy */
	setproctitle("json %s", s->path);
	sigemptyset(&urg);
	sigaddset(&urg, SIGURG);
	sigprocmask(SIG_BLOCK, &urg, NULL);
	b->sig = signalfd(-1, &urg, SFD_CLOEXEC | SFD_NONBLOCK);
	if (b->sig < 0)
		bridge_fail(b, "system_limit", "unable to wait for messages: %s", strerror(errno));
}

/* --- the end --- */

/* The worker is dead. What it had written counts, as far as it can be done at once. */
static void take_order(struct bridge *b)
{
	struct cop_exit reason;

	if (read(b->order, &reason, sizeof reason) != (ssize_t)sizeof reason)
		reason = cop_exit_make(COP_EXIT_KILLED, 0);
	reason = proc_sane_exit(&reason);
	b->leaving = true;
	do
		bridge_obey(b);
	while (bridge_read(b));
	bridge_obey(b);
	proc_die(&reason);
}

static void check_eof(struct bridge *b)
{
	if (b->eof_ms != 0 && clock_mono_ms() >= b->eof_ms + EOF_MS)
		bridge_fail(b, "protocol_error", "it has closed its standard output and goes on");
}

/* --- waiting --- */

static int earlier(int timeout, int64_t at_ms)
{
	int64_t left;

	if (at_ms < 0)
		return timeout;
	left = at_ms - clock_mono_ms();
	if (left < 0)
		left = 0;
	if (left > 60000)
		left = 60000;
	return timeout < 0 || left < timeout ? (int)left : timeout;
}

static int timeout_of(struct bridge *b, int64_t own_ms)
{
	int64_t timer_ns = proc_timers_next();
	int timeout = earlier(-1, own_ms);

	if (timer_ns >= 0)
		timeout = earlier(timeout, timer_ns / 1000000 + 1);
	if (b->eof_ms != 0)
		timeout = earlier(timeout, b->eof_ms + EOF_MS);
	if (b->held)
		timeout = earlier(timeout, clock_mono_ms() + AGAIN_MS);
	if (proc.queue.n > 0 && !bridge_has_room(b)) /* an old call may have to make room */
		timeout = earlier(timeout, clock_mono_ms() + 1000);
	return timeout;
}

static void drain_signals(struct bridge *b)
{
	struct signalfd_siginfo si;

	while (read(b->sig, &si, sizeof si) == (ssize_t)sizeof si)
		;
}

static void wait_for_any(struct bridge *b, int timeout)
{
	struct pollfd p[4] = {
		{ .fd = b->order, .events = POLLIN },
		{ .fd = b->sig, .events = POLLIN },
		{ .fd = b->held ? -1 : b->from, .events = POLLIN },
		{ .fd = b->out_len > b->out_pos ? b->to : -1, .events = POLLOUT },
	};
	bool sleeps = inbox_sleeps_in_poll(proc.slot);

	if (poll(p, 4, sleeps ? timeout : 0) < 0 && errno != EINTR)
		bridge_fail(b, "system_limit", "unable to wait: %s", strerror(errno));
	inbox_awake(proc.slot);
	if (p[0].revents)
		take_order(b);
	if (p[1].revents)
		drain_signals(b);
}

static void turn(struct bridge *b)
{
	struct seg_node *n;
	uint64_t seen;
	int64_t own_ms;
	bool full;
	int i;

	if (proc_take() < 0) /* exit signals act, whoever cannot keep up */
		bridge_fail(b, "enomem", "unable to take messages: no memory, or the mailbox is damaged");
	bridge_obey(b);
	for (i = 0; i < READS_A_TURN && !b->held && bridge_read(b); i++)
		bridge_obey(b);
	seen = proc.taken;
	own_ms = bridge_own_calls(b);
	full = b->out_len - b->out_pos >= BRIDGE_OUT_ROOM;
	while (bridge_has_room(b) && (n = proc_next()))
		bridge_forward(b, n);
	if (proc.n_timers > 0)
		(void)proc_timers_run();
	bridge_write(b);
	check_eof(b);
	if (bridge_has_room(b) && proc.queue.n > 0)
		return;
	if (full && b->out_len - b->out_pos < BRIDGE_OUT_ROOM)
		return; /* answers that were not looked at can be passed on now */
	wait_for_any(b, i == READS_A_TURN || proc.taken != seen ? 0 : timeout_of(b, own_ms));
}

_Noreturn void bridge_main(const struct bridge_setup *setup)
{
	static struct bridge b;

	b.what = setup->name ? setup->name : setup->path;
	b.to = setup->to_worker;
	b.from = setup->from_worker;
	b.order = setup->order;
	become(setup, &b);
	for (;;)
		turn(&b);
}

#else

_Noreturn void bridge_main(const struct bridge_setup *setup)
{
	(void)setup;
	_exit(1); /* such a configuration is refused */
}

#endif
