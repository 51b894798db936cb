/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * From a configuration file to an image. Parsing runs in a process of its own (the library is
 * treated as hostile code: it may crash, eat memory or never return), under limits, and hands
 * back a sealed memfd and text. Regime: the parser process allocates freely.
 */
#ifndef NODE_CONFIG_H
#define NODE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CONFIG_DEFAULT_RESTARTS 3
#define CONFIG_DEFAULT_SECONDS 5

/* Parses FILE in a child process and waits for it (bounded: seconds). Returns the image's memfd;
 * or -1 after every error was written to err_fd, one line each, "FILE:LINE: what is wrong", or
 * "FILE: what is wrong" where there is no line. A parser that crashes or runs out of its limits
 * is such an error too. generation goes into the header. Blocks; never from a supervisor. */
int config_load(const char *file, uint32_t generation, int err_fd);

/* The same for one child given as `key=value` words and a command (coppice add): the image holds
 * a top supervisor with that one child. parent_path makes the child's path; dynamic tells that
 * the id may be left out (then one is made from the program's base name and a random suffix). */
int config_load_child(const char *parent_path, const char *const *keys, const char *const *argv,
    uint32_t generation, int err_fd);

/* The image of `coppice run [--restart R] -- CMD ARG...`: one worker under a top supervisor, log
 * "inherit", foreground. Without a restart type: temporary, significant, auto_shutdown
 * any_significant; transient and temporary ones are significant, too, a permanent one is not.
 * restart is NULL or one of permanent, transient, temporary. */
int config_load_command(const char *node, const char *restart, const char *const *argv, int err_fd);

/* coppice check: loads and prints the line of INTERFACE.md section 1 to out_fd. 0, or 78 after the
 * errors went to err_fd. */
int config_check(const char *file, int out_fd, int err_fd);

#endif
