/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * How the commands write: nothing that came from a node or a child reaches a terminal unescaped,
 * and output that could not be written is an error, not a success.
 */
#ifndef CLI_CLI_OUT_H
#define CLI_CLI_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Memory that is zeroed, or the end of the process. */
void *cli_alloc(size_t size);
/* Memory of n elements of this size, the old contents kept, or the end of the process. */
void *cli_grow(void *p, size_t n, size_t size);

/* As text_escape(), but leaves backslashes alone: much of what a node says is escaped already, and
 * twice is once too often. size > 0. */
const char *cli_escape(const char *s, size_t len, char *buf, size_t size);
/* Writes a string escaped for people. */
void cli_put(FILE *f, const char *s);
/* Writes "key":"value", with a comma before it unless first. */
void cli_json_str(FILE *f, bool first, const char *key, const char *value);
/* Writes ,"key":value, or null if !set. */
void cli_json_int(FILE *f, const char *key, bool set, int64_t value);

#define CLI_DURATION_SIZE 32
/* Writes milliseconds as "0:02:05" or "3d04:05:06"; "-" if negative. Returns buf. */
const char *cli_duration(int64_t ms, char buf[CLI_DURATION_SIZE]);

/* Begin and end of colouring a state's name; "" unless standard output is a terminal that wants it. */
const char *cli_colour(const char *state);
const char *cli_colour_end(void);

/* Flushes standard output. Returns status, or 1 after saying so if anything could not be written. */
int cli_finish(int status);

/* How lines of a child's output are written. */
enum cli_lines {
	CLI_LINES_RAW,    /* as they are */
	CLI_LINES_ESCAPE, /* control bytes but the tab escaped */
	CLI_LINES_INDENT, /* escaped, two blanks before each */
	CLI_LINES_JSON,   /* {"line":"..."} */
};
/* Opens a stream that writes lines to out in this way; close it before out. NULL with errno. */
FILE *cli_lines_open(FILE *out, enum cli_lines how);

#endif
