/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The log process of a node: one process that reads every child's output and keeps it in
 * rotated files. Hides how it starts (anew, or in place of one that was killed: both are the same),
 * what it closes, which signals mean nothing to it, and how it ends: told by root, or when root is
 * dead. It holds nothing that its death would lose: pipes are kept by root, and what was taken
 * out of one is in the journal (log_journal.h).
 *
 * Regime: allocates at start and when a stream is adopted; goes on when memory, descriptors or
 * disk run out.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fds.h"
#include "node/log_private.h"

#define FINISH_MS 2000 /* for what is left in the pipes */
#define ORPHAN_MS 1000 /* for the children's last words when root was killed */

/* --- signals ------------------------------------------------------------------------------ */

/* Nothing but root's word ends this process; TERM is what the kernel sends when root dies. */
static int open_signals(void)
{
	static const int ignored[] = { SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE, SIGXFSZ,
		SIGTSTP, SIGTTIN, SIGTTOU };
	const struct sigaction ignore = { .sa_handler = SIG_IGN };
	sigset_t term;
	size_t i;

	for (i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		sigaction(ignored[i], &ignore, NULL);
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, NULL);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	return signalfd(-1, &term, SFD_NONBLOCK | SFD_CLOEXEC);
}

static bool is_orphan(const struct log_proc *p)
{
	return getppid() != p->node->root_pid;
}

static void signalled(struct loop_source *src, uint32_t events)
{
	struct log_proc *p = src->ctx;
	struct signalfd_siginfo si;

	(void)events;
	while (read(src->fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
		;
	if (is_orphan(p))
		p->finish = p->loop.stop = true;
}

/* --- descriptors -------------------------------------------------------------------------- */

/* What is not for us is closed: above all the lock, and the write ends that hide an end of file. */
static void close_others(struct node *n)
{
	static const enum node_fd ours[] = { NODE_FD_EVENT_W, NODE_FD_LOG_LOG, NODE_FD_LINES_W,
		NODE_FD_JOURNAL };
	size_t i, k;

	for (i = 0; i < NODE_FDS; i++) {
		for (k = 0; k < sizeof(ours) / sizeof(ours[0]) && i != ours[k]; k++)
			;
		if (k == sizeof(ours) / sizeof(ours[0]))
			fds_close(&n->fd[i]);
	}
	for (i = 0; i < NODE_SOCKETS_MAX; i++)
		fds_close(&n->sockets[i]);
}

/* A limit on the size of files that the administrator gave his shell is not meant for logs. */
static void lift_file_limit(void)
{
	struct rlimit rl = { RLIM_INFINITY, RLIM_INFINITY };

	if (setrlimit(RLIMIT_FSIZE, &rl) == 0 || getrlimit(RLIMIT_FSIZE, &rl) < 0)
		return;
	rl.rlim_cur = rl.rlim_max;
	(void)setrlimit(RLIMIT_FSIZE, &rl);
}

/* --- the end ------------------------------------------------------------------------------ */

static struct log_stream *stream_from(struct log_proc *p, uint32_t slot)
{
	struct log_stream key = { .slot = slot };

	return RB_NFIND(log_streams, &p->streams, &key);
}

/* Reads one pipe until it is empty; true at its end. The stream may be gone then. */
static bool drain_one(struct log_stream *s, int64_t until_ms)
{
	enum log_got got;

	do {
		got = log_stream_turn(s);
	} while (got == LOG_GOT_DATA && clock_mono_ms() < until_ms);
	return got == LOG_GOT_EOF;
}

/* Reads all pipes until they are empty; true when all of them have ended. */
static bool drain(struct log_proc *p, int64_t until_ms)
{
	struct log_stream *s;
	uint32_t slot = 0;
	bool ended = true;

	while ((s = stream_from(p, slot)) != NULL) {
		slot = s->slot + 1;
		ended = drain_one(s, until_ms) && ended;
	}
	return ended;
}

static void write_rest(struct log_proc *p)
{
	struct log_stream *s;

	RB_FOREACH(s, log_streams, &p->streams)
		if (!s->gone && (log_batch_waits(s) ||
		                    log_journal_slot(&p->journal, s->slot)->state.carry_len > 0))
			log_batch_empty(s, true);
}

static void finish(struct log_proc *p)
{
	int64_t now = clock_mono_ms(), until = now + (is_orphan(p) ? ORPHAN_MS : FINISH_MS);

	while (!drain(p, until) && is_orphan(p) && clock_mono_ms() < until)
		loop_turn(&p->loop, (int)(until - clock_mono_ms()));
	write_rest(p);
	log_death_flush(p);
	log_note_flush(p);
}

/* --- the beginning ------------------------------------------------------------------------ */

static void open_all(struct log_proc *p, struct loop_source *signals)
{
	int fd;

	if (loop_open(&p->loop) < 0)
		diag_fatal(1, "log: unable to open the wait loop: errno %d", errno);
	if (log_journal_open(&p->journal, p->node->fd[NODE_FD_JOURNAL]) < 0)
		diag_fatal(1, "log: unable to open the journal: errno %d", errno);
	log_note_init(p);
	log_death_init(p);
	if (log_link_open(p) < 0)
		diag_fatal(1, "log: unable to watch the link to root: errno %d", errno);
	fd = open_signals();
	if (fd < 0 || loop_attach(&p->loop, signals, fd, EPOLLIN, signalled, p) < 0)
		diag_warn_errno("log: unable to watch signals");
	if (is_orphan(p))
		p->loop.stop = true;
}

_Noreturn void log_main(struct node *n, const struct proto_keep_log *kept, const int *kept_fds,
    const int *kept_ready_fds, const uint32_t *kept_slots, uint32_t n_kept)
{
	static struct log_proc proc;
	struct loop_source signals;
	struct log_proc *p = &proc;

	p->node = n;
	RB_INIT(&p->streams);
	RB_INIT(&p->pipes);
	p->link = (struct log_link){ .kept = kept, .kept_fds = kept_fds,
		.kept_ready_fds = kept_ready_fds, .kept_slots = kept_slots, .n_kept = n_kept };
	umask(027);
	node_be_patient();
	close_others(n);
	lift_file_limit();
	open_all(p, &signals);
	log_link_adopt(p);
	loop_run(&p->loop);
	finish(p);
	_exit(0);
}
