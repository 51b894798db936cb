/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Marks in a log pipe. O_NONBLOCK would belong to the open pipe, which the child has too, so a
 * mark is first put into a private pipe and then moved over by splice(2), whose
 * SPLICE_F_NONBLOCK is the caller's alone; one buffer moves whole or not at all. Start marks are
 * written by the child itself, so that they are before its first output; exit marks by the
 * supervisor. The private pipe lives for one mark.
 */
#include "node/service_mark.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

struct mark {
	char text[PROTO_MARK_MAX];
	size_t len;
};

static void put(struct mark *m, const char *s)
{
	while (*s && m->len < sizeof m->text - 1)
		m->text[m->len++] = *s++;
}

static void put_number(struct mark *m, uint64_t v)
{
	char digits[24], *p = digits + sizeof digits - 1;

	*p = '\0';
	do
		*--p = (char)('0' + v % 10);
	while ((v /= 10) != 0);
	put(m, " ");
	put(m, p);
}

static void begin(struct mark *m, const struct node *n, const char *kind, pid_t pid)
{
	m->text[0] = '\0';
	m->len = 1;
	put(m, n->secret);
	put(m, kind);
	put_number(m, (uint64_t)pid);
	put_number(m, (uint64_t)clock_real_us());
}

/* Ends the line and moves it over. */
static bool send(struct mark *m, int log)
{
	int fd[2];
	bool done;

	m->text[m->len++] = '\n'; /* put() keeps room for it */
	if (pipe2(fd, O_CLOEXEC) < 0)
		return false;
	done = write(fd[1], m->text, m->len) == (ssize_t)m->len &&
	    splice(fd[0], NULL, log, NULL, m->len, SPLICE_F_NONBLOCK) == (ssize_t)m->len;
	close(fd[0]);
	close(fd[1]);
	return done;
}

bool service_mark_start(const struct node *n, int log)
{
	struct mark m;

	begin(&m, n, "S", getpid());
	return send(&m, log);
}

bool service_mark_exit(const struct node *n, int log, pid_t pid, uint64_t ran_ms, const struct cop_exit *reason)
{
	char text[COP_EXIT_FORMAT_MAX];
	struct mark m;

	begin(&m, n, "X", pid);
	put_number(&m, ran_ms);
	put(&m, " ");
	put(&m, cop_exit_format(reason, text, sizeof text));
	return send(&m, log);
}
