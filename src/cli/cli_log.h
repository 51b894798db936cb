/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* The end of a child's output, for `coppice log` and for a status block. */
#ifndef CLI_CLI_LOG_H
#define CLI_CLI_LOG_H

#include <stdio.h>

#include "cli/cli.h"

/* Writes "Log : DIRECTORY" and the last lines of path's log to out; says nothing when there is none. */
void log_excerpt(const struct cli_args *a, const char *path, FILE *out);

#endif
