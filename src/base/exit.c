/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Exit reasons (coppice/exit.h): making, judging, writing and reading them. Pure; any process. */
#include <coppice/exit.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/text.h"

struct cop_exit cop_exit_make(enum cop_exit_kind kind, int value)
{
	return (struct cop_exit){ .kind = (uint8_t)kind, .value = value };
}

struct cop_exit cop_exit_make_text(enum cop_exit_kind kind, int value, const char *text)
{
	struct cop_exit e = cop_exit_make(kind, value);

	snprintf(e.text, sizeof e.text, "%s", text);
	return e;
}

struct cop_exit cop_exit_from_wait(int wstatus)
{
	struct cop_exit e;

	if (WIFSIGNALED(wstatus)) {
		e = cop_exit_make(COP_EXIT_SIGNAL, WTERMSIG(wstatus));
		e.core = WCOREDUMP(wstatus) != 0;
		return e;
	}
	if (WEXITSTATUS(wstatus) == 0)
		return cop_exit_make(COP_EXIT_NORMAL, 0);
	return cop_exit_make(COP_EXIT_CODE, WEXITSTATUS(wstatus));
}

bool cop_exit_is_clean(const struct cop_exit *reason)
{
	return reason->kind == COP_EXIT_NORMAL || reason->kind == COP_EXIT_SHUTDOWN;
}

const char *cop_exit_format(const struct cop_exit *r, char *buf, size_t size)
{
	switch ((enum cop_exit_kind)r->kind) {
	case COP_EXIT_NORMAL:
		snprintf(buf, size, "normal");
		break;
	case COP_EXIT_SHUTDOWN:
		snprintf(buf, size, "shutdown%s%s", r->text[0] ? ":" : "", r->text);
		break;
	case COP_EXIT_KILLED:
		snprintf(buf, size, "killed");
		break;
	case COP_EXIT_CODE:
		snprintf(buf, size, "exit:%d", r->value);
		break;
	case COP_EXIT_SIGNAL:
		snprintf(buf, size, "signal:%s%s", text_signal_name(r->value), r->core ? "+core" : "");
		break;
	case COP_EXIT_TIMEOUT:
		snprintf(buf, size, "timeout");
		break;
	case COP_EXIT_EXEC:
		snprintf(buf, size, "exec:%s", text_errno_name(r->value));
		break;
	case COP_EXIT_WATCHDOG:
		snprintf(buf, size, "watchdog");
		break;
	case COP_EXIT_NOPROC:
		snprintf(buf, size, "noproc");
		break;
	case COP_EXIT_OTHER:
	default:
		snprintf(buf, size, "%s", r->text[0] ? r->text : "unknown");
		break;
	}
	return buf;
}

/* The number behind "exit:", the signal behind "signal:", the error behind "exec:". */
static int parse_argument(const char *text, struct cop_exit *r)
{
	char name[16];
	const char *plus;
	int64_t n;

	if (strncmp(text, "exit:", 5) == 0 && text_to_i64(text + 5, 0, INT_MAX, &n) == 0) {
		*r = cop_exit_make(n == 0 ? COP_EXIT_NORMAL : COP_EXIT_CODE, (int)n);
		return 0;
	}
	if (strncmp(text, "signal:", 7) == 0) {
		*r = cop_exit_make(COP_EXIT_SIGNAL, 0);
		plus = strstr(text, "+core");
		r->core = plus && strcmp(plus, "+core") == 0;
		snprintf(name, sizeof name, "%.*s", (int)(r->core ? plus - (text + 7) : 15), text + 7);
		r->value = text_to_signal(name);
		return r->value > 0 ? 0 : -1;
	}
	if (strncmp(text, "exec:", 5) == 0) {
		for (n = 1; n < 134; n++)
			if (strcmp(text_errno_name((int)n), text + 5) == 0) {
				*r = cop_exit_make(COP_EXIT_EXEC, (int)n);
				return 0;
			}
		return -1;
	}
	return -1;
}

int cop_exit_parse(const char *text, struct cop_exit *r)
{
	static const struct {
		const char *word;
		enum cop_exit_kind kind;
	} words[] = {
		{ "normal", COP_EXIT_NORMAL },     { "shutdown", COP_EXIT_SHUTDOWN },
		{ "killed", COP_EXIT_KILLED },     { "timeout", COP_EXIT_TIMEOUT },
		{ "watchdog", COP_EXIT_WATCHDOG }, { "noproc", COP_EXIT_NOPROC },
	};
	size_t i;

	for (i = 0; i < sizeof words / sizeof words[0]; i++)
		if (strcmp(words[i].word, text) == 0) {
			*r = cop_exit_make(words[i].kind, 0);
			return 0;
		}
	if (strncmp(text, "shutdown:", 9) == 0 && text[9] != '\0' && strlen(text + 9) < COP_EXIT_TEXT_MAX) {
		*r = cop_exit_make_text(COP_EXIT_SHUTDOWN, 0, text + 9);
		return 0;
	}
	if (parse_argument(text, r) == 0)
		return 0;
	if (text[0] == '\0' || strchr(text, ':') || strlen(text) >= COP_EXIT_TEXT_MAX) {
		errno = EINVAL;
		return -1;
	}
	*r = cop_exit_make_text(COP_EXIT_OTHER, 0, text);
	return 0;
}

int cop_exit_status(const struct cop_exit *r)
{
	switch ((enum cop_exit_kind)r->kind) {
	case COP_EXIT_SHUTDOWN:
		return 0;
	case COP_EXIT_NORMAL: /* one that counts as success may still have a number */
	case COP_EXIT_CODE:
		return r->value & 255;
	case COP_EXIT_SIGNAL:
		return 128 + (r->value & 127);
	case COP_EXIT_KILLED:
		return 128 + 9;
	case COP_EXIT_EXEC:
		return r->value == ENOENT ? 127 : 126;
	case COP_EXIT_TIMEOUT:
	case COP_EXIT_WATCHDOG:
	case COP_EXIT_NOPROC:
	case COP_EXIT_OTHER:
	default:
		return 1;
	}
}
