/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The link to root. Hides in which order streams come (the one whose batch a predecessor was
 * killed in must be first), that one which cannot be adopted now waits (then nothing more is read
 * from the link), and that root may be slow to hear of those that are gone. Runs in the log
 * process.
 *
 * Regime: never allocates itself.
 */
#include "node/log_private.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fds.h"

#define MESSAGE_MAX (8 * 1024)

_Static_assert(sizeof(struct proto_keep_log) + 64 < MESSAGE_MAX, "a stream fits into a message");

/* --- adopting ----------------------------------------------------------------------------- */

static bool may_heal(int err)
{
	return err == ENOMEM || err == ENOSPC || err == EMFILE || err == ENFILE || err == EAGAIN;
}

/* True unless it must be tried again. */
static bool adopt(struct log_proc *p, struct log_adopt *a)
{
	if (log_stream_adopt(p, a) == 0)
		return true;
	if (may_heal(errno))
		return false;
	log_note(p, a->keep.path, "its output cannot be kept: %s", strerror(errno));
	fds_close(&a->fd);
	fds_close(&a->ready_fd);
	return true;
}

static bool adopt_kept(struct log_proc *p, uint32_t i)
{
	const struct log_link *l = &p->link;
	struct log_adopt a = { .slot = l->kept_slots[i], .keep = l->kept[i], .fd = l->kept_fds[i],
		.ready_fd = l->kept_ready_fds ? l->kept_ready_fds[i] : -1 };

	return adopt(p, &a);
}

/* The stream of an unfinished batch; its number among the kept ones, or n_kept. */
static uint32_t first_kept(const struct log_proc *p)
{
	const struct log_link *l = &p->link;
	uint32_t i;

	for (i = 0; i < l->n_kept; i++)
		if (l->kept_slots[i] == log_journal_batch(&p->journal)->slot)
			break;
	return i;
}

/* The batch that a predecessor was killed in comes before all others. False if it has to wait. */
static bool finish_batch(struct log_proc *p)
{
	struct log_link *l = &p->link;

	if (log_journal_recover(&p->journal) == LOG_PHASE_IDLE)
		return true;
	l->kept_first = first_kept(p);
	if (l->kept_first < l->n_kept && !adopt_kept(p, l->kept_first))
		return false;
	if (log_journal_recover(&p->journal) != LOG_PHASE_IDLE) {
		log_note(p, "", "some output of a pipe that root does not know is lost");
		log_journal_cancel(&p->journal);
	}
	return true;
}

static bool adopt_all(struct log_proc *p)
{
	struct log_link *l = &p->link;

	if (!finish_batch(p))
		return false;
	for (; l->kept_next < l->n_kept; l->kept_next++)
		if (l->kept_next != l->kept_first && !adopt_kept(p, l->kept_next))
			return false;
	if (l->has_pending && !adopt(p, &l->pending))
		return false;
	l->has_pending = false;
	return true;
}

/* --- messages ----------------------------------------------------------------------------- */

static void set_events(struct log_proc *p)
{
	struct log_link *l = &p->link;
	uint32_t in = l->has_pending || l->paused || l->kept_next < l->n_kept ? 0 : EPOLLIN;

	if (l->src.fd >= 0)
		loop_modify(&p->loop, &l->src, in | (TAILQ_EMPTY(&l->going) ? 0 : EPOLLOUT));
}

static void reopen(struct log_proc *p)
{
	struct log_stream *s;

	RB_FOREACH(s, log_streams, &p->streams)
		if (!s->gone)
			log_stream_reopen(s);
}

static void finish(struct log_proc *p)
{
	p->finish = true;
	p->loop.stop = true;
}

static void take_adopt(struct log_proc *p, struct wire_in *w, int *fds, size_t n)
{
	struct log_adopt *a = &p->link.pending;

	a->slot = wire_get_u32(w);
	proto_get_keep_log(w, &a->keep);
	if (!wire_done(w) || n == 0) {
		log_note(p, "", "a message about a log pipe is damaged");
		return;
	}
	a->fd = fds[0];
	a->ready_fd = n > 1 ? fds[1] : -1;
	fds[0] = fds[1] = -1;
	p->link.has_pending = true;
	log_link_adopt(p);
}

static void dispatch(struct log_proc *p, const uint8_t *buf, size_t len, int *fds, size_t n)
{
	struct wire_in w;
	uint8_t kind;

	wire_in_init(&w, buf, len);
	kind = wire_get_u8(&w);
	if (kind == KEEP_ADOPT)
		take_adopt(p, &w, fds, n);
	else if (kind == KEEP_REOPEN)
		reopen(p);
	else if (kind == KEEP_FINISH)
		finish(p);
}

static void retry(struct loop_timer *t)
{
	log_link_adopt(t->ctx);
}

static void readable(struct loop_source *src, uint32_t events)
{
	struct log_proc *p = src->ctx;
	uint8_t buf[MESSAGE_MAX];
	int fds[2];
	size_t n_fds;
	ssize_t n = 1;

	if (events & EPOLLOUT)
		log_link_drop(p);
	while (!p->finish && !p->link.has_pending && p->link.kept_next == p->link.n_kept) {
		fds[0] = fds[1] = -1;
		n = fds_recv(src->fd, buf, sizeof(buf), fds, 2, &n_fds);
		if (n <= 0)
			break;
		dispatch(p, buf, (size_t)n, fds, n_fds);
		fds_close(&fds[0]);
		fds_close(&fds[1]);
	}
	if (n < 0 && errno == EMFILE) {
		p->link.paused = true;
		loop_timer_set(&p->loop, &p->link.retry, clock_mono_ms() + LOG_RETRY_MS, retry, p);
		set_events(p);
	}
	/* Root is gone: what the children have written is kept, then we leave too. */
	if (n == 0 || (n < 0 && errno == ECONNRESET) || (events & (EPOLLHUP | EPOLLERR))) {
		loop_detach(&p->loop, src);
		finish(p);
	}
}

void log_link_adopt(struct log_proc *p)
{
	p->link.paused = false;
	if (!adopt_all(p))
		loop_timer_set(&p->loop, &p->link.retry, clock_mono_ms() + LOG_RETRY_MS, retry, p);
	set_events(p);
}

void log_link_drop(struct log_proc *p)
{
	struct log_stream *s;
	uint8_t buf[8];
	struct wire_out w;

	while ((s = TAILQ_FIRST(&p->link.going)) != NULL) {
		wire_out_init(&w, buf, sizeof(buf));
		wire_put_u8(&w, KEEP_DROP);
		wire_put_u32(&w, s->slot);
		if (fds_send(p->link.src.fd, buf, w.len, NULL, 0) < 0 && errno == EAGAIN)
			break;
		log_stream_destroy(s);
	}
	set_events(p);
}

int log_link_open(struct log_proc *p)
{
	TAILQ_INIT(&p->link.going);
	p->link.kept_first = p->link.n_kept;
	return loop_attach(&p->loop, &p->link.src, p->node->fd[NODE_FD_LOG_LOG], EPOLLIN, readable, p);
}
