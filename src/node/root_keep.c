/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Keeping the read ends of log pipes: supervisors hand them over (KEEP_LOG), root holds them and
 * tells the log process (KEEP_ADOPT), which says when one is at its end (KEEP_DROP). A log
 * process that dies loses nothing: its successor is forked with all of them.
 *
 * Regime: the table and the room for the messages are mapped at the start and touched as they are
 * used. When the table is full the pipe is closed again, and said so.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "base/diag.h"
#include "base/fds.h"
#include "node/root_private.h"

#define KEPT_MAX 65536
#define KEPT_MIN 256

static uint8_t *map(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* Tells whether there is room for so many twice over: others need some, too. */
static bool is_modest(uint32_t cap)
{
	size_t size = (size_t)cap * ROOT_KEEP_MSG * 2;
	uint8_t *p = map(size);

	if (p)
		munmap(p, size);
	return p != NULL;
}

/* As many as there can be descriptors, or, with a limit on address space, as many as there is room for. */
int root_keep_open(struct root *r)
{
	struct rlimit rl = { .rlim_cur = KEPT_MAX };

	(void)getrlimit(RLIMIT_NOFILE, &rl);
	r->kept_cap = rl.rlim_cur < KEPT_MAX ? (uint32_t)rl.rlim_cur : KEPT_MAX;
	while (r->kept_cap > KEPT_MIN && !is_modest(r->kept_cap))
		r->kept_cap /= 2;
	r->kept = calloc(r->kept_cap, sizeof *r->kept);
	r->kept_msgs = map((size_t)r->kept_cap * ROOT_KEEP_MSG);
	return r->kept && r->kept_msgs ? 0 : -1;
}

static uint8_t *message(struct root *r, uint32_t slot)
{
	return r->kept_msgs + (size_t)slot * ROOT_KEEP_MSG;
}

/* KEEP_ADOPT with what the supervisor said. 0, or -1 with EAGAIN. */
static int adopt(struct root *r, uint32_t slot)
{
	uint8_t buf[ROOT_KEEP_MSG + 16];
	struct kept *k = &r->kept[slot];
	int fds[2] = { k->fd, k->ready_fd };
	struct wire_out w;

	wire_out_init(&w, buf, sizeof buf);
	wire_put_u8(&w, KEEP_ADOPT);
	wire_put_u32(&w, slot);
	memcpy(buf + w.len, message(r, slot), k->len);
	w.len += k->len;
	return fds_send(r->node.fd[NODE_FD_LOG_ROOT], buf, w.len, fds, k->ready_fd >= 0 ? 2 : 1) < 0 ? -1 : 0;
}

static void adopt_unsent(struct root *r)
{
	bool left = false;
	uint32_t i;

	for (i = 0; i < r->kept_used && !left; i++)
		if (r->kept[i].fd >= 0 && r->kept[i].unsent) {
			r->kept[i].unsent = adopt(r, i) < 0;
			left = r->kept[i].unsent;
		}
	if (r->log_src.fd >= 0)
		loop_modify(&r->loop, &r->log_src, left ? EPOLLIN | EPOLLOUT : EPOLLIN);
}

static void keep(struct root *r, const uint8_t *msg, size_t len, int *fds, size_t n_fds)
{
	uint32_t i;

	for (i = r->kept_free; i < r->kept_used && r->kept[i].fd >= 0; i++)
		;
	r->kept_free = i;
	if (i == r->kept_cap) {
		root_note(r, "no room for another log pipe: its output is lost");
		return;
	}
	if (i >= r->kept_used)
		r->kept_used = i + 1;
	memcpy(message(r, i), msg, len);
	r->kept[i] = (struct kept){ .fd = fds[0], .ready_fd = n_fds > 1 ? fds[1] : -1, .len = (uint16_t)len,
		.unsent = true };
	fds[0] = -1;
	if (n_fds > 1)
		fds[1] = -1;
	if (r->log.pid == 0) {
		r->log.wanted = true;
		root_aside_start(r, &r->log); /* forked with it */
	} else {
		r->kept[i].unsent = adopt(r, i) < 0;
		if (r->kept[i].unsent && r->log_src.fd >= 0)
			loop_modify(&r->loop, &r->log_src, EPOLLIN | EPOLLOUT);
	}
}

void root_keep_ready(struct loop_source *src, uint32_t events)
{
	static uint8_t buf[ROOT_KEEP_MSG];
	struct root *r = src->ctx;
	int fds[2] = { -1, -1 };
	size_t n_fds, i;
	ssize_t n;

	(void)events;
	while ((n = fds_recv(src->fd, buf, sizeof buf, fds, 2, &n_fds)) > 0) {
		if (buf[0] == KEEP_LOG && n_fds > 0)
			keep(r, buf + 1, (size_t)n - 1, fds, n_fds);
		for (i = 0; i < n_fds; i++)
			fds_close(&fds[i]);
	}
	if (n < 0 && errno == EMFILE)
		loop_pause(&r->loop, src, &r->keep_pause, ROOT_PAUSE_MS);
}

static void drop(struct root *r, uint32_t slot)
{
	if (slot >= r->kept_used || r->kept[slot].fd < 0)
		return;
	fds_close(&r->kept[slot].fd);
	fds_close(&r->kept[slot].ready_fd);
	(void)madvise(message(r, slot), ROOT_KEEP_MSG, MADV_DONTNEED);
	if (slot < r->kept_free)
		r->kept_free = slot;
	while (r->kept_used > 0 && r->kept[r->kept_used - 1].fd < 0)
		r->kept_used--;
}

void root_log_ready(struct loop_source *src, uint32_t events)
{
	struct root *r = src->ctx;
	uint8_t buf[64];
	struct wire_in w;
	uint32_t slot;
	size_t n_fds;
	ssize_t n;

	while ((n = fds_recv(src->fd, buf, sizeof buf, NULL, 0, &n_fds)) > 0) {
		wire_in_init(&w, buf, (size_t)n);
		if (wire_get_u8(&w) != KEEP_DROP)
			continue;
		slot = wire_get_u32(&w);
		if (wire_done(&w))
			drop(r, slot);
	}
	if (n == 0 || (events & (EPOLLHUP | EPOLLERR)))
		loop_detach(&r->loop, src); /* it died: its death is reaped */
	else
		adopt_unsent(r);
}

void root_log_say(struct root *r, uint8_t kind)
{
	if (r->log.pid != 0)
		(void)fds_send(r->node.fd[NODE_FD_LOG_ROOT], &kind, 1, NULL, 0);
}

/* The new log process may allocate: it takes the table over as log_main() wants it. */
_Noreturn void root_log_child(struct root *r)
{
	uint32_t i, n = 0;
	struct proto_keep_log *kept = calloc(r->kept_used + 1, sizeof *kept);
	int *fds = calloc(r->kept_used + 1, sizeof *fds), *ready = calloc(r->kept_used + 1, sizeof *ready);
	uint32_t *slots = calloc(r->kept_used + 1, sizeof *slots);

	if (!kept || !fds || !ready || !slots)
		diag_fatal(1, "unable to start the log process: %s", strerror(ENOMEM));
	for (i = 0; i < r->kept_used; i++) {
		struct wire_in w;

		if (r->kept[i].fd < 0)
			continue;
		wire_in_init(&w, message(r, i), r->kept[i].len);
		proto_get_keep_log(&w, &kept[n]);
		if (!wire_done(&w))
			continue;
		fds[n] = r->kept[i].fd;
		ready[n] = r->kept[i].ready_fd;
		slots[n++] = i;
	}
	log_main(&r->node, kept, fds, ready, slots, n);
}
