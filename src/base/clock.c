/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* The clocks (clock.h). Calendar time is computed here, so that neither TZ nor locale matters. */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

int64_t clock_mono_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

int64_t clock_mono_ms(void)
{
	return clock_mono_ns() / 1000000;
}

int64_t clock_real_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

/* Year, month and day of a day counted from 1970-01-01 (the civil calendar, in 400-year eras
 * that begin in March). */
static void civil(int64_t day, int *y, int *m, int *d)
{
	int64_t z = day + 719468, era = (z >= 0 ? z : z - 146096) / 146097;
	int64_t doe = z - era * 146097;
	int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
	int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;

	*d = (int)(doy - (153 * mp + 2) / 5 + 1);
	*m = (int)(mp < 10 ? mp + 3 : mp - 9);
	*y = (int)(yoe + era * 400 + (*m <= 2));
}

const char *clock_iso(int64_t real_us, char buf[CLOCK_ISO_SIZE])
{
	int64_t sec, day;
	int y, m, d;
	unsigned us, s;

	if (real_us < 0 || real_us > INT64_C(253402300799999999)) /* 9999-12-31 */
		real_us = 0;
	sec = real_us / 1000000;
	us = (unsigned)(real_us % 1000000);
	day = sec / 86400;
	s = (unsigned)(sec % 86400);
	civil(day, &y, &m, &d);
	snprintf(buf, CLOCK_ISO_SIZE, "%04u-%02u-%02uT%02u:%02u:%02u.%06uZ", (unsigned)y % 10000u,
	    (unsigned)m % 100u, (unsigned)d % 100u, s / 3600 % 100, s / 60 % 60, s % 60, us);
	return buf;
}
