/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* The three clocks, by what they are for. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* Milliseconds of CLOCK_MONOTONIC: intervals, deadlines, restart windows. */
int64_t clock_mono_ms(void);
int64_t clock_mono_ns(void);

/* Microseconds since 1970, UTC: what is shown to people, never used to decide. */
int64_t clock_real_us(void);

#define CLOCK_ISO_SIZE 28 /* "2026-01-31T12:00:00.123456Z" and NUL */

/* Writes a time of clock_real_us() as ISO 8601 UTC with microseconds; returns buf. */
const char *clock_iso(int64_t real_us, char buf[CLOCK_ISO_SIZE]);

#endif
