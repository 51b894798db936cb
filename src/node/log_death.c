/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The last lines of the dead. Hides how much of a run's output its death record gets (at most 10
 * lines, 4000 bytes, whole lines if there is one) and what happens while control does not read:
 * a bounded queue that forgets the oldest. After a kill a record may be sent twice, never not at
 * all. Runs in the log process.
 *
 * Regime: allocates one block per record that waits; without memory that record is not sent.
 */
#include "node/log_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINES_MAX 10
#define BYTES_MAX 4000
#define QUEUE_MAX 256
#define PACKET_MAX (BYTES_MAX + SPEC_PATH_MAX + 64)

_Static_assert(BYTES_MAX < LOG_RING_BYTES, "the ring holds what is sent");

struct log_death {
	STAILQ_ENTRY(log_death) entry;
	size_t len;
	uint8_t packet[];
};

void log_death_init(struct log_proc *p)
{
	p->deaths.fd = p->node->fd[NODE_FD_LINES_W];
	p->deaths.src.fd = -1;
	STAILQ_INIT(&p->deaths.queue);
}

size_t log_death_tail(const char *text, size_t len)
{
	size_t from = len > 0 && text[len - 1] == '\n' ? len - 1 : len;
	unsigned lines = 0;

	for (; from > 0; from--)
		if (text[from - 1] == '\n' && ++lines == LINES_MAX)
			break;
	return from;
}

/* Unrolls the run's last bytes from the ring; a first line that is cut is left out if there is
 * another one. Returns the length, with a final newline. */
static size_t last_lines(const struct log_state *st, const uint8_t *ring, char out[BYTES_MAX + 1])
{
	uint64_t from = st->run_pos, pos;
	size_t n = 0, start = 0;
	char *nl;

	if (st->ring_pos - from > BYTES_MAX)
		from = st->ring_pos - BYTES_MAX;
	for (pos = from; pos < st->ring_pos; pos++)
		out[n++] = (char)ring[pos % LOG_RING_BYTES];
	if (n == 0)
		return 0;
	nl = from > st->run_pos && ring[(from - 1) % LOG_RING_BYTES] != '\n'
	    ? memchr(out, '\n', n - 1) : NULL;
	if (nl)
		start = (size_t)(nl - out) + 1;
	start += log_death_tail(out + start, n - start);
	memmove(out, out + start, n - start);
	n -= start;
	if (n > 0 && out[n - 1] != '\n')
		out[n++] = '\n';
	return n;
}

/* 1: sent, or nobody will ever read it. 0: not now. */
static int send_one(int fd, const void *packet, size_t len)
{
	ssize_t n;

	do {
		n = send(fd, packet, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (n < 0 && errno == EINTR);
	return n < 0 && (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM) ? 0 : 1;
}

static void forget_first(struct log_deaths *d)
{
	struct log_death *first = STAILQ_FIRST(&d->queue);

	STAILQ_REMOVE_HEAD(&d->queue, entry);
	d->queued--;
	free(first);
}

void log_death_flush(struct log_proc *p)
{
	struct log_deaths *d = &p->deaths;
	struct log_death *first;

	while ((first = STAILQ_FIRST(&d->queue)) != NULL && send_one(d->fd, first->packet, first->len))
		forget_first(d);
	if (!first)
		loop_detach(&p->loop, &d->src);
}

static void writable(struct loop_source *src, uint32_t events)
{
	(void)events;
	log_death_flush(src->ctx);
}

static void enqueue(struct log_proc *p, const void *packet, size_t len)
{
	struct log_deaths *d = &p->deaths;
	struct log_death *new = malloc(sizeof(*new) + len);

	if (!new)
		return;
	if (d->queued == QUEUE_MAX)
		forget_first(d);
	new->len = len;
	memcpy(new->packet, packet, len);
	STAILQ_INSERT_TAIL(&d->queue, new, entry);
	d->queued++;
	/* If it cannot be watched, the next death tries again. */
	if (d->src.fd < 0 && loop_attach(&p->loop, &d->src, d->fd, EPOLLOUT, writable, p) < 0)
		d->src.fd = -1;
}

void log_death_send(struct log_proc *p, const char *path, const struct log_state *st,
    const uint8_t *ring, int32_t pid)
{
	uint8_t packet[PACKET_MAX];
	char lines[BYTES_MAX + 1];
	struct wire_out w;

	if (p->deaths.fd < 0)
		return;
	wire_out_init(&w, packet, sizeof(packet));
	wire_put_u8(&w, KEEP_DEATH);
	wire_put_str(&w, path);
	wire_put_i32(&w, pid);
	wire_put_bytes(&w, lines, last_lines(st, ring, lines));
	if (w.overflow)
		return;
	log_death_flush(p);
	if (!STAILQ_EMPTY(&p->deaths.queue) || !send_one(p->deaths.fd, packet, w.len))
		enqueue(p, packet, w.len);
}
