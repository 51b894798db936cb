/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Marks in a log pipe. O_NONBLOCK would belong to the open pipe, which the child has too, so
 * marks are first put into a private pipe and then moved over by splice(2), whose
 * SPLICE_F_NONBLOCK is the caller's alone; one buffer moves whole or not at all. Start marks are
 * written by the child itself, so that they are before its first output; exit marks by the
 * supervisor, or by the next child together with its own. Raw system calls, because the child
 * may share the supervisor's memory.
 */
#include "node/service_mark.h"

#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>

#include "base/clock.h"
#include "base/raw.h"

/* Each mark has room for itself. */
static void put(struct service_marks *m, const char *s, size_t end)
{
	while (*s && m->len < end - 1)
		m->text[m->len++] = *s++;
}

static void put_number(struct service_marks *m, uint64_t v, size_t end)
{
	char digits[24], *p = digits + sizeof digits - 1;

	*p = '\0';
	do
		*--p = (char)('0' + v % 10);
	while ((v /= 10) != 0);
	put(m, " ", end);
	put(m, p, end);
}

/* Begins a mark; returns where it has to end. */
static size_t begin(struct service_marks *m, const struct node *n, const char *kind, pid_t pid)
{
	size_t end = m->len + PROTO_MARK_MAX;

	m->text[m->len++] = '\0';
	put(m, n->secret, end);
	put(m, kind, end);
	put_number(m, (uint64_t)pid, end);
	put_number(m, (uint64_t)clock_real_us(), end);
	return end;
}

void service_mark_start(struct service_marks *m, const struct node *n)
{
	begin(m, n, "S", (pid_t)raw0(SYS_getpid));
	m->text[m->len++] = '\n'; /* put() keeps room for it */
}

void service_mark_exit(struct service_marks *m, const struct node *n, pid_t pid, uint64_t ran_ms,
    const struct cop_exit *reason)
{
	char text[COP_EXIT_FORMAT_MAX];
	size_t end = begin(m, n, "X", pid);

	put_number(m, ran_ms, end);
	put(m, " ", end);
	put(m, cop_exit_format(reason, text, sizeof text), end);
	m->text[m->len++] = '\n';
}

bool service_marks_send(const struct service_marks *m, const int pipe[2], int log)
{
	return raw3(SYS_write, pipe[1], m->text, m->len) == (long)m->len &&
	    raw6(SYS_splice, pipe[0], NULL, log, NULL, m->len, SPLICE_F_NONBLOCK) == (long)m->len;
}

bool service_marks_send_once(const struct service_marks *m, int log)
{
	int pipe[2] = { -1, -1 };
	bool done;

	if (raw2(SYS_pipe2, pipe, O_CLOEXEC) < 0)
		return false;
	done = service_marks_send(m, pipe, log);
	raw1(SYS_close, pipe[0]);
	raw1(SYS_close, pipe[1]);
	return done;
}
