/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Names in a log directory, known to the writing side (log_*.c) and to the reading side
 * (cli_log_tail.c): `current`, and @YYYYMMDDTHHMMSS.uuuuuuZ.s for what was rotated away. Names
 * sorted as text are files sorted by age. Never allocates.
 */
#ifndef NODE_LOG_NAME_H
#define NODE_LOG_NAME_H

#include <stdbool.h>
#include <stdint.h>

#define LOG_NAME_CURRENT "current"
#define LOG_NAME_NEXT "current.new" /* exists for the moment of a rotation only */
#define LOG_NAME_SIZE 32            /* room for a rotated file's name */

/* Makes the name of a file rotated at this time (microseconds since 1970). */
void log_name_make(int64_t real_us, char name[LOG_NAME_SIZE]);

/* Tells whether name is one of a rotated file. */
bool log_name_is_rotated(const char *name);

/* The time in a rotated file's name; -1 if it is none. */
int64_t log_name_time(const char *name);

#endif
