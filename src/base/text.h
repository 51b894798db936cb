/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Text: identifiers, numbers, escapes, suggestions. Never allocates, never depends on the locale. */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define TEXT_ID_MAX 64 /* bytes of an id, without the NUL */

/* Tells whether s is an id: [A-Za-z0-9_][A-Za-z0-9_.@-]*, at most TEXT_ID_MAX bytes. */
bool text_is_id(const char *s);

/* Reads a decimal number, all of s, between lo and hi. Returns 0, or -1 with EINVAL (not a
 * number) or ERANGE. */
int text_to_i64(const char *s, int64_t lo, int64_t hi, int64_t *v_r);

/* Copies len bytes of s into buf with control and non-ASCII-printable bytes (except valid
 * UTF-8) as \xNN, always terminated, cut if it does not fit; returns buf. For messages and
 * terminals: one event stays one line. */
const char *text_escape(const char *s, size_t len, char *buf, size_t size);

/* Writes s as a JSON string with quotes; invalid UTF-8 becomes U+FFFD. */
void text_json(FILE *f, const char *s, size_t len);

/* The entry of the NULL-terminated table that is nearest to s (for "did you mean"), or NULL
 * if none is near. */
const char *text_nearest(const char *s, const char *const *table);

/* Signal number of "TERM", "SIGTERM" or "15"; 0 if there is none. */
int text_to_signal(const char *s);

/* "TERM" for 15; "RTMIN+3" style for real-time signals; "?" if there is none. Static memory. */
const char *text_signal_name(int sig);

/* "ENOENT" for 2; "E?" if there is none. Static memory. */
const char *text_errno_name(int err);

/* Tells whether a POSIX regular expression refers back to what a part of it matched: such a one can take
 * for ever. */
bool text_refers_back(const char *regex);

#endif
