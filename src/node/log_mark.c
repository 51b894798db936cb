/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Marks: finding them, reading them, and the record lines they become. Hides what tells a mark
 * from output: NUL, the node's secret, and a line that was written by one write and is therefore
 * whole, unless the batch was cut within it. Children write NULs and forgeries; those are output.
 * Runs in the log process. Never allocates.
 */
#include "node/log_mark.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/text.h"

#define HEAD (1 + PROTO_MARK_SECRET) /* NUL and the secret */

/* The first NUL that is followed by the secret. */
static const uint8_t *find_head(const char *secret, const uint8_t *p, size_t n)
{
	uint8_t head[HEAD] = { 0 };
	const uint8_t *nul = memchr(p, 0, n);

	if (!nul)
		return NULL;
	memcpy(head + 1, secret, PROTO_MARK_SECRET);
	return memmem(nul, n - (size_t)(nul - p), head, HEAD);
}

/* Reads "S 42 1767225600000000" or "X 42 1767225600000000 3141 signal:SEGV". */
static bool read_text(const char *text, struct log_mark *m)
{
	int end = 0;

	m->ran_ms = 0;
	m->reason[0] = '\0';
	if (sscanf(text, "S %" SCNd32 " %" SCNd64 "%n", &m->pid, &m->time_us, &end) == 2 &&
	    text[end] == '\0')
		m->kind = 'S';
	else if (sscanf(text, "X %" SCNd32 " %" SCNd64 " %" SCNu64 " %n", &m->pid, &m->time_us,
	             &m->ran_ms, &end) == 3 && end > 0 && text[end] != '\0') {
		m->kind = 'X';
		text_escape(text + end, strlen(text + end), m->reason, sizeof(m->reason));
	}
	return m->kind != 0;
}

bool log_mark_find(const char *secret, const uint8_t *in, size_t len, size_t from,
    struct log_mark *m)
{
	const uint8_t *head = from < len ? find_head(secret, in + from, len - from) : NULL;
	const uint8_t *nl;
	char text[PROTO_MARK_MAX];
	size_t rest, n;

	if (!head)
		return false;
	*m = (struct log_mark){ .at = (size_t)(head - in), .len = HEAD };
	rest = len - m->at - HEAD;
	nl = memchr(head + HEAD, '\n', rest < PROTO_MARK_MAX - HEAD ? rest : PROTO_MARK_MAX - HEAD);
	if (!nl)
		return true;
	n = (size_t)(nl - head) - HEAD;
	memcpy(text, head + HEAD, n);
	text[n] = '\0';
	if (strlen(text) == n && read_text(text, m))
		m->len = HEAD + n + 1;
	return true;
}

static bool may_be_mark(const char *secret, const uint8_t *p, size_t n)
{
	size_t known = n - 1 < PROTO_MARK_SECRET ? n - 1 : PROTO_MARK_SECRET;

	return memcmp(p + 1, secret, known) == 0 && (n <= HEAD || !memchr(p + HEAD, '\n', n - HEAD));
}

size_t log_mark_tail(const char *secret, const uint8_t *in, size_t len)
{
	const uint8_t *end = in + len;
	const uint8_t *p = len < PROTO_MARK_MAX ? in : end - (PROTO_MARK_MAX - 1);

	while (p < end && (p = memchr(p, 0, (size_t)(end - p))) != NULL) {
		if (may_be_mark(secret, p, (size_t)(end - p)))
			return (size_t)(end - p);
		p++;
	}
	return 0;
}

size_t log_mark_record(const struct log_mark *m, char out[LOG_RECORD_MAX])
{
	char iso[CLOCK_ISO_SIZE];
	int n = 0;

	clock_iso(m->time_us, iso);
	if (m->kind == 'S')
		n = snprintf(out, LOG_RECORD_MAX, "%s coppice: start pid %d\n", iso, m->pid);
	else if (m->kind == 'X')
		n = snprintf(out, LOG_RECORD_MAX, "%s coppice: exit pid %d %s after %" PRIu64
		    ".%03u s\n", iso, m->pid, m->reason, m->ran_ms / 1000,
		    (unsigned)(m->ran_ms % 1000));
	return (size_t)n;
}

size_t log_mark_lost(int64_t time_us, uint64_t lines, uint64_t bytes, int err,
    char out[LOG_RECORD_MAX])
{
	char iso[CLOCK_ISO_SIZE];

	return (size_t)snprintf(out, LOG_RECORD_MAX,
	    "%s coppice: %" PRIu64 " line%s (%" PRIu64 " byte%s) lost: %s\n",
	    clock_iso(time_us, iso), lines, lines == 1 ? "" : "s", bytes, bytes == 1 ? "" : "s",
	    strerror(err));
}
