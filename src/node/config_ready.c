/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * When a worker's start is complete: `ready`, a word and for most of them an argument behind a
 * colon. Runs after sockets and log are known, with which it may be impossible.
 * Parser process.
 */
#include <errno.h>
#include <limits.h>
#include <regex.h>
#include <string.h>
#include <sys/un.h>

#include "base/text.h"
#include "node/config_private.h"

#define REGEX_MAX 1024 /* bytes with the NUL: what the log process takes */
#define LISTEN_FDS_START 3

struct way {
	const char *name;
	const char *argument;   /* what stands behind the colon; NULL: nothing */
	int64_t lo, hi;         /* of a number; hi 0: text */
};

static const struct way ways[] = {
	[SPEC_READY_EXEC] = { "exec", NULL, 0, 0 },
	[SPEC_READY_NOTIFY] = { "notify", NULL, 0, 0 },
	[SPEC_READY_FD] = { "fd", "a descriptor from 3 to 255", 3, 255 },
	[SPEC_READY_AFTER] = { "after", "milliseconds from 0 to 2147483647", 0, INT32_MAX },
	[SPEC_READY_TCP] = { "tcp", "a port from 1 to 65535", 1, 65535 },
	[SPEC_READY_UNIX] = { "unix", "the path of a socket", 0, 0 },
	[SPEC_READY_FILE] = { "file", "the path of a file", 0, 0 },
	[SPEC_READY_LOG] = { "log", "an extended regular expression", 0, 0 },
};

#define N_WAYS (sizeof ways / sizeof ways[0])

static void unknown_way(struct conf_scope *s, const config_setting_t *at, const char *value)
{
	const char *names[N_WAYS + 1], *near;
	char word[32];
	size_t i;

	for (i = 0; i < N_WAYS; i++)
		names[i] = ways[i].name;
	names[i] = NULL;
	snprintf(word, sizeof word, "%.*s", (int)strcspn(value, ":"), value);
	near = conf_keys_nearest(word, names);
	conf_error(s->c, at, "`ready` is \"%s\"; %s%s%s must be \"exec\", \"notify\", \"fd:N\", \"after:MS\", "
	    "\"tcp:PORT\", \"unix:PATH\", \"file:PATH\" or \"log:REGEX\"", value, near ? "did you mean \"" : "",
	    near ? near : "", near ? "\"? It" : "it");
}

/* A way that is known, with an argument where there is none, or the other way round. */
static void wrong_form(struct conf_scope *s, const config_setting_t *at, const char *value, const struct way *way)
{
	if (way->argument)
		conf_error(s->c, at, "`ready` is \"%s\"; behind \"%s:\" stands %s", value, way->name, way->argument);
	else
		conf_error(s->c, at, "`ready` is \"%s\"; nothing stands behind \"%s\"", value, way->name);
}

/* --- arguments --- */

static bool number_ok(struct conf_scope *s, const config_setting_t *at, const struct way *way, const char *arg)
{
	int64_t v;

	if (text_to_i64(arg, way->lo, way->hi, &v) < 0) {
		conf_error(s->c, at, "`ready` is \"%s:%s\"; behind the colon stands %s", way->name, arg,
		    way->argument);
		return false;
	}
	s->spec.worker.ready_arg = (uint32_t)v;
	return true;
}

static bool regex_ok(struct conf_scope *s, const config_setting_t *at, const char *arg)
{
	char text[256];
	regex_t re;
	int r;

	if (strlen(arg) >= REGEX_MAX) {
		conf_error(s->c, at, "`ready`: the regular expression is longer than %d bytes", REGEX_MAX - 1);
		return false;
	}
	if (text_refers_back(arg)) {
		conf_error(s->c, at, "`ready`: the regular expression \"%s\" has a back-reference (a backslash and "
		    "a digit), for which one line could take hours; write out what may stand there", arg);
		return false;
	}
	r = regcomp(&re, arg, REG_EXTENDED | REG_NOSUB);
	if (r == 0) {
		regfree(&re);
		return true;
	}
	regerror(r, &re, text, sizeof text);
	conf_error(s->c, at, "`ready`: the regular expression \"%s\" is wrong: %s", arg, text);
	return false;
}

static bool text_ok(struct conf_scope *s, const config_setting_t *at, enum spec_ready kind, const char *arg)
{
	struct sockaddr_un sun;

	if (arg[0] == '\0') {
		conf_error(s->c, at, "`ready` is \"%s:\"; behind the colon stands %s", ways[kind].name,
		    ways[kind].argument);
		return false;
	}
	if (kind == SPEC_READY_LOG)
		return regex_ok(s, at, arg);
	return conf_path_ok(s->c, at, "the path of `ready`", arg,
	    kind == SPEC_READY_UNIX ? sizeof sun.sun_path : PATH_MAX);
}

/* --- combinations --- */

static void check_combination(struct conf_scope *s, const config_setting_t *at)
{
	const struct spec_worker *w = &s->spec.worker;
	uint32_t n = w->sockets.count;

	if (w->ready == SPEC_READY_LOG && w->log != SPEC_LOG_DIR)
		conf_error(s->c, at, "`ready` by a line of the log needs a log that is kept; `log` is \"%s\"",
		    w->log == SPEC_LOG_NULL ? "null" : "inherit");
	if (w->ready == SPEC_READY_FD && w->ready_arg < LISTEN_FDS_START + n)
		conf_error(s->c, at, "descriptor %u is one of the %u that `sockets` takes, from %d to %u; choose "
		    "\"fd:%u\"", w->ready_arg, n, LISTEN_FDS_START, LISTEN_FDS_START + n - 1,
		    LISTEN_FDS_START + n);
	if (w->ready == SPEC_READY_AFTER && w->ready_arg >= w->ready_timeout_ms)
		conf_error(s->c, at, "ready after %u ms is never reached: `ready_timeout` is %u ms",
		    w->ready_arg, w->ready_timeout_ms);
}

static void take(struct conf_scope *s, const config_setting_t *at, enum spec_ready kind, const char *arg)
{
	bool ok = true;

	if (ways[kind].hi > 0)
		ok = number_ok(s, at, &ways[kind], arg);
	else if (ways[kind].argument)
		ok = text_ok(s, at, kind, arg);
	if (!ok)
		return;
	s->spec.worker.ready = (uint8_t)kind;
	if (ways[kind].argument && ways[kind].hi == 0)
		s->spec.worker.ready_str = conf_image_str(&s->c->img, arg);
	check_combination(s, at);
}

void conf_ready(struct conf_scope *s)
{
	const config_setting_t *at = conf_get(s->g, "ready");
	const char *value = conf_get_str(s->g, "ready");
	size_t i, len;

	s->spec.worker.ready_timeout_ms = (uint32_t)conf_get_int(s->g, "ready_timeout", 30000);
	if (!value)
		return;
	len = strcspn(value, ":");
	for (i = 0; i < N_WAYS; i++)
		if (strlen(ways[i].name) == len && memcmp(ways[i].name, value, len) == 0)
			break;
	if (i == N_WAYS)
		unknown_way(s, at, value);
	else if ((value[len] == ':') != (ways[i].argument != NULL))
		wrong_form(s, at, value, &ways[i]);
	else
		take(s, at, (enum spec_ready)i, value[len] == ':' ? conf_expand(s, value + len + 1) : "");
}
