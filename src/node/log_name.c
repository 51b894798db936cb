/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Names in a log directory. Hides how a time becomes a name that sorts by age, and back. Runs in
 * the log process and in clients. Never allocates.
 */
#include "node/log_name.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

static const char shape[] = "@dddddddd" "T" "dddddd" "." "dddddd" "Z.s";

void log_name_make(int64_t real_us, char name[LOG_NAME_SIZE])
{
	char iso[CLOCK_ISO_SIZE], *to = name;
	const char *from;

	clock_iso(real_us, iso);
	*to++ = '@';
	for (from = iso; *from != '\0'; from++)
		if (*from != '-' && *from != ':')
			*to++ = *from;
	memcpy(to, ".s", 3);
}

bool log_name_is_rotated(const char *name)
{
	size_t i;

	for (i = 0; shape[i] != '\0'; i++) {
		if (shape[i] == 'd' ? name[i] < '0' || name[i] > '9' : name[i] != shape[i])
			return false;
	}
	return name[i] == '\0';
}

int64_t log_name_time(const char *name)
{
	struct tm tm = { 0 };
	long us;

	if (!log_name_is_rotated(name))
		return -1;
	if (sscanf(name, "@%4d%2d%2dT%2d%2d%2d.%6ldZ.s", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
	        &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &us) != 7)
		return -1;
	tm.tm_year -= 1900;
	tm.tm_mon -= 1;
	return (int64_t)timegm(&tm) * 1000000 + us;
}
