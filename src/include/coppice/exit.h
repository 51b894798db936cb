/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Why a process ended. Mirrors Erlang's exit reasons; a Unix process adds exit codes and
 * signals. Passed by value; holds no pointers, so it may cross process borders.
 */
#ifndef COPPICE_EXIT_H
#define COPPICE_EXIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum cop_exit_kind {
	COP_EXIT_NORMAL,   /* `normal`: finished; status 0 or one that counts as success (value: the
	                      status, or 128+n for a signal that does) */
	COP_EXIT_SHUTDOWN, /* `shutdown`, `shutdown:TEXT`: ended as asked, or gave up in order */
	COP_EXIT_KILLED,   /* `killed`: had to be killed after its shutdown time, or brutally */
	COP_EXIT_CODE,     /* `exit:N`: value is the exit status */
	COP_EXIT_SIGNAL,   /* `signal:NAME`, `signal:NAME+core`: value is the signal number */
	COP_EXIT_TIMEOUT,  /* `timeout`: never became ready */
	COP_EXIT_EXEC,     /* `exec:ERRNO`: could not be executed; value is the errno, text the step */
	COP_EXIT_WATCHDOG, /* `watchdog`: missed its watchdog time */
	COP_EXIT_NOPROC,   /* `noproc`: there was no such process */
	COP_EXIT_OTHER,    /* text is the reason, a word */
};

#define COP_EXIT_TEXT_MAX 48 /* bytes of text, with the final NUL */

struct cop_exit {
	uint8_t kind; /* enum cop_exit_kind */
	uint8_t core; /* a signal wrote a core file */
	int32_t value;
	char text[COP_EXIT_TEXT_MAX];
};

/* Longest text cop_exit_format() writes, with the final NUL. */
#define COP_EXIT_FORMAT_MAX 80

/* Makes a reason of a kind that needs no more than a number (0 where it needs none). */
struct cop_exit cop_exit_make(enum cop_exit_kind kind, int value);

/* Makes `shutdown:TEXT`, `exec:ERRNO` with its step, or another reason with a text; a text
 * that does not fit is cut. */
struct cop_exit cop_exit_make_text(enum cop_exit_kind kind, int value, const char *text);

/* Makes the reason of a wait status as waitpid(2) gives it: normal, exit:N or signal:NAME. */
struct cop_exit cop_exit_from_wait(int wstatus);

/* Tells whether a transient child is left alone after this reason (OTP: normal, shutdown,
 * {shutdown, _}). */
bool cop_exit_is_clean(const struct cop_exit *reason);

/* Writes the reason as text ("signal:SEGV+core") into buf, always terminated; returns buf. */
const char *cop_exit_format(const struct cop_exit *reason, char *buf, size_t size);

/* Reads a reason from text. Returns 0, or -1 with EINVAL. */
int cop_exit_parse(const char *text, struct cop_exit *reason_r);

/* The exit status a process takes over from this reason: 0 for shutdown, the status for normal and
 * exit:N, 128+n for a signal, 127 or 126 for exec errors, 1 for the rest. */
int cop_exit_status(const struct cop_exit *reason);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
