/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Messages to standard error (diag.h). One write of one line at most PIPE_BUF bytes, after a
 * poll that says it will not block, so that a reader who stopped cannot stop us. Any process;
 * never allocates.
 */
#include "base/diag.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024
_Static_assert(LINE_MAX_BYTES <= PIPE_BUF, "a line must be one atomic write");

static const char *name = "coppice";
static int quiet;
static unsigned dropped;

void diag_init(const char *progname)
{
	name = progname;
}

void diag_set_quiet(int q)
{
	quiet = q;
}

static int room(void)
{
	struct pollfd p = { .fd = STDERR_FILENO, .events = POLLOUT };

	return poll(&p, 1, 0) == 1 && (p.revents & POLLOUT);
}

static void put(char *line, size_t len)
{
	size_t i;

	for (i = 0; i < len; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?'; /* one message stays one line */
	line[len++] = '\n';
	if (!room() || write(STDERR_FILENO, line, len) < 0)
		dropped++;
}

static void say(const char *severity, int err, const char *fmt, va_list ap)
{
	char line[LINE_MAX_BYTES];
	const size_t max = sizeof line - 1;
	int n, saved = errno;
	size_t len;

	n = dropped > 0 ? snprintf(line, max, "%s: %s(%u lines lost) ", name, severity, dropped) :
			  snprintf(line, max, "%s: %s", name, severity);
	len = n < 0 ? 0 : (size_t)n < max ? (size_t)n : max - 1;
	n = vsnprintf(line + len, max - len, fmt, ap);
	if (n > 0)
		len = len + (size_t)n < max ? len + (size_t)n : max - 1;
	if (err != 0) {
		n = snprintf(line + len, max - len, ": %s", strerror(err));
		if (n > 0)
			len = len + (size_t)n < max ? len + (size_t)n : max - 1;
	}
	if (room())
		dropped = 0;
	put(line, len);
	errno = saved;
}

#define SAY(severity, err) \
	do { \
		va_list ap; \
		va_start(ap, fmt); \
		say(severity, err, fmt, ap); \
		va_end(ap); \
	} while (0)

void diag_info(const char *fmt, ...)
{
	if (!quiet)
		SAY("", 0);
}

void diag_warn(const char *fmt, ...)
{
	if (!quiet)
		SAY("warning: ", 0);
}

void diag_error(const char *fmt, ...)
{
	SAY("", 0);
}

void diag_error_errno(const char *fmt, ...)
{
	SAY("", errno);
}

void diag_warn_errno(const char *fmt, ...)
{
	if (!quiet)
		SAY("warning: ", errno);
}

void diag_fatal(int status, const char *fmt, ...)
{
	SAY("fatal: ", 0);
	_exit(status);
}

void diag_panic(const char *fmt, ...)
{
	SAY("panic: ", 0);
	abort();
}
