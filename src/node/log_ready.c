/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * ready = "log:REGEX": looks for the first line of a run that matches. Hides how lines that come
 * in pieces are put together, and how long one may be: only its first 8 KB are looked at, and
 * back-references, whose matching may take for ever, are refused, so that no child's output can
 * stop the log process. Runs in the log process.
 *
 * Regime: allocates when a stream is adopted; regexec may allocate, and without memory a line does
 * not match.
 */
#include "node/log_private.h"

#include <errno.h>
#include <regex.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

#define LINE_MAX_BYTES 8192

struct log_ready {
	regex_t re;
	size_t len;    /* bytes of the unfinished line; what goes beyond the cap is not kept */
	char line[LINE_MAX_BYTES + 1];
};

static int compile(struct log_ready *r, const char *regex, char *why_r, size_t size)
{
	int err;

	if (text_refers_back(regex)) {
		snprintf(why_r, size, "back-references are not supported");
		errno = EINVAL;
		return -1;
	}
	err = regcomp(&r->re, regex, REG_EXTENDED | REG_NOSUB);
	if (err == 0)
		return 0;
	regerror(err, &r->re, why_r, size);
	errno = err == REG_ESPACE ? ENOMEM : EINVAL;
	return -1;
}

struct log_ready *log_ready_create(const char *regex, char *why_r, size_t size)
{
	struct log_ready *r = malloc(sizeof(*r));
	int err;

	if (!r)
		return NULL;
	r->len = 0;
	if (compile(r, regex, why_r, size) == 0)
		return r;
	err = errno;
	free(r);
	errno = err;
	return NULL;
}

void log_ready_destroy(struct log_ready **r)
{
	if (!*r)
		return;
	regfree(&(*r)->re);
	free(*r);
	*r = NULL;
}

/* NULs would end the line for regexec: they count as another control byte. */
static void keep(struct log_ready *r, const uint8_t *buf, size_t len)
{
	size_t i;

	if (len > LINE_MAX_BYTES - r->len)
		len = LINE_MAX_BYTES - r->len;
	for (i = 0; i < len; i++)
		r->line[r->len++] = buf[i] != 0 ? (char)buf[i] : '\001';
}

void log_ready_reset(struct log_ready *r, const uint8_t *line, size_t len)
{
	r->len = 0;
	keep(r, line, len);
}

/* The line that ends with these bytes. */
static bool line_ends(struct log_ready *r, const uint8_t *buf, size_t len)
{
	keep(r, buf, len);
	r->line[r->len] = '\0';
	r->len = 0;
	return regexec(&r->re, r->line, 0, NULL, 0) == 0;
}

bool log_ready_feed(struct log_ready *r, const uint8_t *buf, size_t len)
{
	const uint8_t *nl;

	while ((nl = memchr(buf, '\n', len)) != NULL) {
		if (line_ends(r, buf, (size_t)(nl - buf)))
			return true;
		len -= (size_t)(nl - buf) + 1;
		buf = nl + 1;
	}
	keep(r, buf, len);
	return false;
}
