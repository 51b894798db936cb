/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What a child says by sd_notify: lines of KEY=VALUE. Any bytes are harmless; what is not known
 * or makes no sense is passed over. MAINPID is not believed: the main process is the one that was
 * started. Pure reading of a buffer, then orders to the service.
 */
#include "node/service.h"

#include <string.h>

#include "base/text.h"
#include "node/service_private.h"

/* The value if the line begins with key (which ends in '='), else NULL. */
static const char *value_of(const char *line, size_t len, const char *key, size_t *value_len_r)
{
	size_t n = strlen(key);

	if (len < n || memcmp(line, key, n) != 0)
		return NULL;
	*value_len_r = len - n;
	return line + n;
}

static bool is(const char *value, size_t len, const char *word)
{
	return len == strlen(word) && memcmp(value, word, len) == 0;
}

/* Digits alone, and few enough. */
static bool number(const char *value, size_t len, uint64_t *v_r)
{
	uint64_t v = 0;
	size_t i;

	if (len == 0 || len > 19)
		return false;
	for (i = 0; i < len; i++) {
		if (value[i] < '0' || value[i] > '9')
			return false;
		v = v * 10 + (uint64_t)(value[i] - '0');
	}
	*v_r = v;
	return true;
}

static void watchdog(struct service *s, const char *value, size_t len)
{
	if (is(value, len, "1"))
		service_watch_alive(s);
	else if (is(value, len, "trigger"))
		service_watch_fire(s);
}

static void parse_line(struct service *s, const char *line, size_t len)
{
	const char *value;
	uint64_t n;

	if ((value = value_of(line, len, "READY=", &len)) != NULL) {
		if (is(value, len, "1") && s->mode == SPEC_READY_NOTIFY)
			s->probed = true;
	} else if ((value = value_of(line, len, "STATUS=", &len)) != NULL) {
		text_escape(value, len, s->status_text, sizeof s->status_text);
	} else if ((value = value_of(line, len, "WATCHDOG=", &len)) != NULL) {
		watchdog(s, value, len);
	} else if ((value = value_of(line, len, "WATCHDOG_USEC=", &len)) != NULL) {
		if (number(value, len, &n))
			service_watch_set(s, n);
	} else if ((value = value_of(line, len, "EXTEND_TIMEOUT_USEC=", &len)) != NULL) {
		if (number(value, len, &n))
			service_watch_extend(s, n);
	}
}

void notify_parse(struct service *s, const char *msg, size_t len)
{
	const char *end;
	size_t n;

	while (len > 0) {
		end = memchr(msg, '\n', len);
		n = end ? (size_t)(end - msg) : len;
		parse_line(s, msg, n);
		n += end != NULL;
		msg += n;
		len -= n;
	}
}
