/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Writing for people and programs (cli_out.h). What a node or a child says is hostile to a
 * terminal until it is escaped here.
 */
#include "cli/cli_out.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/text.h"
#include "cli/cli.h"

#define ESCAPE_CHUNK 256 /* bytes escaped at a time */

void *cli_alloc(size_t size)
{
	return cli_grow(NULL, 1, size);
}

void *cli_grow(void *old, size_t n, size_t size)
{
	void *p = reallocarray(old, n, size);

	if (!p)
		diag_fatal(CLI_FAILED, "out of memory");
	if (!old)
		memset(p, 0, n * size);
	return p;
}

/* Where to cut s[0..len) so that no UTF-8 sequence is torn: at most max bytes. */
static size_t cut(const char *s, size_t len, size_t max)
{
	size_t n = max;

	if (len <= max)
		return len;
	while (n > max - 3 && ((unsigned char)s[n] & 0xc0) == 0x80)
		n--;
	return n;
}

const char *cli_escape(const char *s, size_t len, char *buf, size_t size)
{
	char *from = buf, *to = buf;

	text_escape(s, len, buf, size);
	/* every backslash now begins \\ or \xNN; the first is one that was there */
	while (*from != '\0') {
		if (from[0] == '\\' && from[1] == '\\')
			from++;
		*to++ = *from++;
	}
	*to = '\0';
	return buf;
}

static void put_escaped(FILE *f, const char *s, size_t len)
{
	char buf[ESCAPE_CHUNK * 4 + 8];
	size_t n;

	for (; len > 0; s += n, len -= n) {
		n = cut(s, len, ESCAPE_CHUNK);
		fputs(cli_escape(s, n, buf, sizeof buf), f);
	}
}

void cli_put(FILE *f, const char *s)
{
	put_escaped(f, s, strlen(s));
}

void cli_json_str(FILE *f, bool first, const char *key, const char *value)
{
	fprintf(f, "%s\"%s\":", first ? "" : ",", key);
	text_json(f, value, strlen(value));
}

void cli_json_int(FILE *f, const char *key, bool set, int64_t value)
{
	if (set)
		fprintf(f, ",\"%s\":%" PRId64, key, value);
	else
		fprintf(f, ",\"%s\":null", key);
}

const char *cli_duration(int64_t ms, char buf[CLI_DURATION_SIZE])
{
	int64_t s = ms / 1000;

	if (ms < 0)
		snprintf(buf, CLI_DURATION_SIZE, "-");
	else if (s >= 86400)
		snprintf(buf, CLI_DURATION_SIZE, "%" PRId64 "d%02d:%02d:%02d", s / 86400, (int)(s / 3600 % 24),
		    (int)(s / 60 % 60), (int)(s % 60));
	else
		snprintf(buf, CLI_DURATION_SIZE, "%d:%02d:%02d", (int)(s / 3600), (int)(s / 60 % 60), (int)(s % 60));
	return buf;
}

static bool colours(void)
{
	static int known = -1;
	const char *term, *no;

	if (known < 0) {
		term = getenv("TERM");
		no = getenv("NO_COLOR");
		known = isatty(STDOUT_FILENO) && term && strcmp(term, "dumb") != 0 && (!no || *no == '\0');
	}
	return known;
}

const char *cli_colour(const char *state)
{
	if (!colours())
		return "";
	if (strcmp(state, "running") == 0)
		return "\033[32m";
	if (strcmp(state, "failed") == 0 || strcmp(state, "exited") == 0)
		return "\033[31m";
	return "\033[33m";
}

const char *cli_colour_end(void)
{
	return colours() ? "\033[0m" : "";
}

int cli_finish(int status)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return status;
	diag_error_errno("unable to write to standard output");
	return CLI_FAILED;
}

/* --- lines --- */

struct lines {
	FILE *out;
	enum cli_lines how;
	char *part;      /* a line whose end has not come yet */
	size_t len, cap;
};

static void put_line_escaped(FILE *f, const char *s, size_t len)
{
	const char *tab;

	while ((tab = memchr(s, '\t', len)) != NULL) {
		put_escaped(f, s, (size_t)(tab - s));
		fputc('\t', f);
		len -= (size_t)(tab - s) + 1;
		s = tab + 1;
	}
	put_escaped(f, s, len);
}

static void put_line(struct lines *l, const char *s, size_t len)
{
	switch (l->how) {
	case CLI_LINES_RAW:
		fwrite(s, 1, len, l->out);
		break;
	case CLI_LINES_INDENT:
		fputs("  ", l->out);
		put_line_escaped(l->out, s, len);
		break;
	case CLI_LINES_ESCAPE:
		put_line_escaped(l->out, s, len);
		break;
	case CLI_LINES_JSON:
		fputs("{\"line\":", l->out);
		text_json(l->out, s, len);
		fputc('}', l->out);
		break;
	}
	fputc('\n', l->out);
}

static void keep_part(struct lines *l, const char *s, size_t len)
{
	if (len == 0)
		return;
	if (l->len + len > l->cap) {
		l->cap = (l->len + len) * 2;
		l->part = cli_grow(l->part, l->cap, 1);
	}
	memcpy(l->part + l->len, s, len);
	l->len += len;
}

static ssize_t lines_write(void *cookie, const char *s, size_t size)
{
	struct lines *l = cookie;
	size_t left = size;
	const char *end;

	while ((end = memchr(s, '\n', left)) != NULL) {
		size_t n = (size_t)(end - s);

		if (l->len > 0) {
			keep_part(l, s, n);
			put_line(l, l->part, l->len);
			l->len = 0;
		} else {
			put_line(l, s, n);
		}
		left -= n + 1;
		s = end + 1;
	}
	keep_part(l, s, left);
	/* whoever flushed this stream wants it to be seen */
	return fflush(l->out) == 0 ? (ssize_t)size : 0;
}

static int lines_close(void *cookie)
{
	struct lines *l = cookie;

	if (l->len > 0)
		put_line(l, l->part, l->len);
	free(l->part);
	free(l);
	return 0;
}

FILE *cli_lines_open(FILE *out, enum cli_lines how)
{
	struct lines *l = cli_alloc(sizeof *l);
	FILE *f;

	l->out = out;
	l->how = how;
	f = fopencookie(l, "w", (cookie_io_functions_t){ .write = lines_write, .close = lines_close });
	if (!f)
		free(l);
	return f;
}
