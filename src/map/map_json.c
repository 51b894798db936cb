/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * --json: a record for an item, on one line, with its output as strings. Long output is turned into a string piece by
 * piece, so the record is never whole in memory. Runs in the runner.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/text.h"
#include "map/map_private.h"

/* How many bytes of it can be taken without tearing a character; all of it at the end. */
static size_t whole(const char *s, size_t len)
{
	size_t n = len, back = 0;

	while (n > 0 && back < 3 && ((unsigned char)s[n - 1] & 0xc0) == 0x80) {
		n--;
		back++;
	}
	if (n > 0 && (unsigned char)s[n - 1] >= 0xc0)
		return n - 1 > 0 ? n - 1 : len;
	return len;
}

size_t json_piece(struct sink *s, const char *data, size_t size, bool last)
{
	size_t len = last ? size : whole(data, size);
	char *text = NULL;
	size_t n = 0;
	FILE *f = open_memstream(&text, &n);

	if (!f)
		diag_fatal(MAP_BROKEN, "map: out of memory");
	text_json(f, data, len);
	if (fclose(f) != 0)
		diag_fatal(MAP_BROKEN, "map: out of memory");
	sink_put(s, text + 1, n - 2);
	free(text);
	return len;
}

static void put_items(FILE *f, const struct run *r, const struct item *it)
{
	const char *t;
	size_t k;

	if (r->o->pipe) {
		fputs("null", f);
		return;
	}
	if (r->o->max_args > 1)
		putc('[', f);
	for (t = it->text, k = 0; k < it->n_args; k++, t += strlen(t) + 1) {
		if (k > 0)
			putc(',', f);
		text_json(f, t, strlen(t));
	}
	if (r->o->max_args > 1)
		putc(']', f);
}

static void put_reason(FILE *f, const struct item *it)
{
	if (it->bad)
		fputs("\"bad\"", f);
	else if (it->timed_out)
		fputs("\"timeout\"", f);
	else if (it->err != 0)
		fprintf(f, "\"exec:%s\"", text_errno_name(it->err));
	else if (it->sig != 0)
		fprintf(f, "\"signal:%s\"", text_signal_name(it->sig));
	else if (it->exit != 0)
		fprintf(f, "\"exit:%d\"", it->exit);
	else
		fputs("\"normal\"", f);
}

void json_head(struct run *r, const struct item *it, struct sink *s)
{
	char *text = NULL, time[CLOCK_ISO_SIZE];
	size_t size = 0;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		diag_fatal(MAP_BROKEN, "map: out of memory");
	fprintf(f, "{\"seq\":%" PRIu64 ",\"item\":", it->seq);
	put_items(f, r, it);
	fprintf(f, ",\"slot\":%u,\"pid\":%d,\"attempts\":%u,\"time\":", it->number, (int)it->pid, it->attempt);
	if (it->start_us > 0)
		fprintf(f, "\"%s\"", clock_iso(it->start_us, time));
	else
		fputs("null", f);
	fprintf(f, ",\"ran_ms\":%" PRId64 ",\"reason\":", it->ran_ns / 1000000);
	put_reason(f, it);
	fprintf(f, ",\"exit\":%d,\"signal\":%d,\"stdout\":\"", it->exit, it->sig);
	if (fclose(f) != 0)
		diag_fatal(MAP_BROKEN, "map: out of memory");
	sink_put(s, text, size);
	free(text);
}
