/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Identifiers, numbers, escapes, suggestions, names of signals and errors (text.h). Never
 * allocates; byte-wise, so no locale matters. */
#include "base/text.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

static bool is_alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

bool text_is_id(const char *s)
{
	size_t n = 0;

	if (!is_alnum(s[0]))
		return false;
	for (; s[n] != '\0'; n++) {
		if (!is_alnum(s[n]) && s[n] != '.' && s[n] != '@' && s[n] != '-')
			return false;
		if (n >= TEXT_ID_MAX)
			return false;
	}
	return n <= TEXT_ID_MAX;
}

int text_to_i64(const char *s, int64_t lo, int64_t hi, int64_t *v_r)
{
	bool neg = *s == '-';
	int64_t v = 0;

	if (neg)
		s++;
	if (*s == '\0') {
		errno = EINVAL;
		return -1;
	}
	for (; *s != '\0'; s++) {
		if (*s < '0' || *s > '9') {
			errno = EINVAL;
			return -1;
		}
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_sub_overflow(v, *s - '0', &v)) {
			errno = ERANGE;
			return -1;
		}
	}
	if ((!neg && __builtin_sub_overflow((int64_t)0, v, &v)) || v < lo || v > hi) {
		errno = ERANGE;
		return -1;
	}
	*v_r = v;
	return 0;
}

/* Length of the valid UTF-8 sequence at s, 0 if there is none. */
static size_t utf8_len(const unsigned char *s, size_t len)
{
	uint32_t cp;
	size_t n, i;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf) {
		n = 2;
		cp = s[0] & 0x1fu;
	} else if ((s[0] & 0xf0) == 0xe0) {
		n = 3;
		cp = s[0] & 0x0fu;
	} else if (s[0] >= 0xf0 && s[0] <= 0xf4) {
		n = 4;
		cp = s[0] & 0x07u;
	} else {
		return 0;
	}
	if (len < n)
		return 0;
	for (i = 1; i < n; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		cp = cp << 6 | (s[i] & 0x3fu);
	}
	if ((n == 3 && (cp < 0x800 || (cp >= 0xd800 && cp <= 0xdfff))) ||
	    (n == 4 && (cp < 0x10000 || cp > 0x10ffff)))
		return 0;
	return n;
}

/* Control characters, those of C1 in UTF-8 included, and DEL. */
static bool is_control(const unsigned char *s, size_t n)
{
	return n == 1 ? s[0] < 0x20 || s[0] == 0x7f : n == 2 && s[0] == 0xc2 && s[1] < 0xa0;
}

const char *text_escape(const char *str, size_t len, char *buf, size_t size)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *s = (const unsigned char *)str;
	size_t i = 0, o = 0, n;

	while (i < len) {
		n = utf8_len(s + i, len - i);
		if (n > 0 && !is_control(s + i, n) && s[i] != '\\') {
			if (o + n >= size)
				break;
			memcpy(buf + o, s + i, n);
			o += n;
			i += n;
			continue;
		}
		if (o + 4 >= size)
			break;
		buf[o++] = '\\';
		if (s[i] == '\\') {
			buf[o++] = '\\';
		} else {
			buf[o++] = 'x';
			buf[o++] = hex[s[i] >> 4];
			buf[o++] = hex[s[i] & 15];
		}
		i++;
	}
	if (size > 0)
		buf[o] = '\0';
	return buf;
}

void text_json(FILE *f, const char *str, size_t len)
{
	const unsigned char *s = (const unsigned char *)str;
	size_t i, n;

	fputc('"', f);
	for (i = 0; i < len; i += n) {
		n = utf8_len(s + i, len - i);
		if (n == 0) {
			n = 1;
			fputs("\\ufffd", f);
		} else if (s[i] == '"' || s[i] == '\\') {
			fputc('\\', f);
			fputc(s[i], f);
		} else if (s[i] == '\n') {
			fputs("\\n", f);
		} else if (s[i] == '\t') {
			fputs("\\t", f);
		} else if (s[i] < 0x20 || s[i] == 0x7f) {
			fprintf(f, "\\u%04x", s[i]);
		} else {
			fwrite(s + i, 1, n, f);
		}
	}
	fputc('"', f);
}

#define NEAR_MAX 32 /* longest word that is compared */

/* Edit distance with transpositions counted once, of words of at most NEAR_MAX bytes. */
static unsigned distance(const char *a, const char *b)
{
	unsigned d[3][NEAR_MAX + 1];
	size_t la = strlen(a), lb = strlen(b), i, j;

	if (la > NEAR_MAX || lb > NEAR_MAX)
		return NEAR_MAX;
	for (j = 0; j <= lb; j++)
		d[0][j] = (unsigned)j;
	for (i = 1; i <= la; i++) {
		unsigned *cur = d[i % 3], *prev = d[(i + 2) % 3], *prev2 = d[(i + 1) % 3];

		cur[0] = (unsigned)i;
		for (j = 1; j <= lb; j++) {
			unsigned v = prev[j - 1] + (a[i - 1] != b[j - 1]);

			if (prev[j] + 1 < v)
				v = prev[j] + 1;
			if (cur[j - 1] + 1 < v)
				v = cur[j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && prev2[j - 2] + 1 < v)
				v = prev2[j - 2] + 1;
			cur[j] = v;
		}
	}
	return d[la % 3][lb];
}

const char *text_nearest(const char *s, const char *const *table)
{
	const char *best = NULL;
	unsigned best_d = 0;
	size_t limit = strlen(s) / 3 + 1;

	for (; *table; table++) {
		unsigned d = distance(s, *table);

		if (d <= limit && (!best || d < best_d)) {
			best = *table;
			best_d = d;
		}
	}
	return best;
}

int text_to_signal(const char *s)
{
	int64_t n;
	int sig;

	if (text_to_i64(s, 1, NSIG - 1, &n) == 0)
		return (int)n;
	if (strncmp(s, "SIG", 3) == 0)
		s += 3;
	if (strcmp(s, "RTMIN") == 0)
		return SIGRTMIN;
	if (strcmp(s, "RTMAX") == 0)
		return SIGRTMAX;
	if (strncmp(s, "RTMIN+", 6) == 0 && text_to_i64(s + 6, 0, SIGRTMAX - SIGRTMIN, &n) == 0)
		return SIGRTMIN + (int)n;
	if (strncmp(s, "RTMAX-", 6) == 0 && text_to_i64(s + 6, 0, SIGRTMAX - SIGRTMIN, &n) == 0)
		return SIGRTMAX - (int)n;
	for (sig = 1; sig < SIGRTMIN; sig++) {
		const char *name = sigabbrev_np(sig);

		if (name && strcmp(name, s) == 0)
			return sig;
	}
	return strcmp(s, "IOT") == 0 ? SIGABRT : strcmp(s, "CLD") == 0 ? SIGCHLD : 0;
}

const char *text_signal_name(int sig)
{
	static char rt[sizeof "RTMIN+999"];
	const char *name = sigabbrev_np(sig);

	if (name)
		return name;
	if (sig >= SIGRTMIN && sig <= SIGRTMAX) {
		snprintf(rt, sizeof rt, "RTMIN+%u", (unsigned)(sig - SIGRTMIN) % 1000);
		return rt;
	}
	return "?";
}

const char *text_errno_name(int err)
{
	const char *name = strerrorname_np(err);

	return name && err != 0 ? name : "E?";
}

bool text_refers_back(const char *regex)
{
	const char *p;

	for (p = regex; *p != '\0'; p++)
		if (*p == '\\' && *++p >= '1' && *p <= '9')
			return true;
		else if (*p == '\0')
			return false;
	return false;
}
