/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* The command line of `coppice map`, which is read apart from the other commands'. */
#ifndef CLI_CLI_MAP_H
#define CLI_CLI_MAP_H

#include <stdio.h>

/* Where in argv the word `map` is the command; 0: it is another command. */
int cli_map_find(int argc, char **argv);
/* argv without that word. Returns the exit status; *asked_r is 'h' or 'V' when help or the version is asked for, and
 * nothing was done. */
int cli_map(int argc, char **argv, int *asked_r);
struct map_options;
/* Has the items run under a dynamic supervisor of a node. 0, or an exit status: said. */
int cli_map_under_node(struct map_options *o, const char *node, const char *supervisor);
extern const char *const cli_map_usage, *const cli_map_text;
void cli_map_options(FILE *f);

#endif
