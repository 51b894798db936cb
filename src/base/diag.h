/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Messages of the programs to standard error, one line each, with Postfix's severities. A
 * reader that has stopped reading never stops us: a line that would block is counted and
 * dropped. Never allocates.
 */
#ifndef BASE_DIAG_H
#define BASE_DIAG_H

/* Sets the name every line starts with ("coppice"). The string must stay valid. */
void diag_init(const char *progname);
/* Silences everything below error. */
void diag_set_quiet(int quiet);

void diag_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void diag_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void diag_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* As diag_error, with ": ERRNO TEXT" of the current errno. "unable to VERB OBJECT". */
void diag_error_errno(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void diag_warn_errno(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The world is bad: says so and ends the process with this status. */
_Noreturn void diag_fatal(int status, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* We are wrong: says so and aborts. For broken invariants, never for a peer's data. */
_Noreturn void diag_panic(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#define DIAG_ASSERT(cond) \
	do { \
		if (!(cond)) \
			diag_panic("%s:%d: assertion failed: %s", __FILE__, __LINE__, #cond); \
	} while (0)

#endif
