/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What `coppice task` and the process that does its work under a node's supervisor (`coppice task-run`) say to each
 * other, through a socket of packets that the former listens on: first the order, with four descriptors, then
 * signals one way and what becomes of the command the other way. The end of either is the end of the socket.
 */
#ifndef CLI_CLI_TASK_H
#define CLI_CLI_TASK_H

#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#define TASK_NAME_LEN 32     /* hex digits of the socket's abstract name */
#define TASK_MAGIC 0x31545043u
#define TASK_WORDS_MAX (8u << 20)
#define TASK_MEET_MS 5000    /* within which the two have met */
#define TASK_FDS 4           /* standard input, output, error; a memfd with the words */

/* The words: the directory, then the arguments, then the environment; each ends with NUL. */
struct task_order {
	uint32_t magic;
	uint32_t n_args, n_env;
	uint32_t umask;
	uint64_t len;        /* bytes of all words */
};

enum task_said {
	TASK_SIGNAL = 1,     /* to the command: value is the signal */
	TASK_FAILED,         /* it could not be executed: errno */
	TASK_EXITED,         /* exit status */
	TASK_KILLED,         /* by this signal */
};

struct task_word {
	uint32_t what;       /* enum task_said */
	int32_t value;
};

/* The abstract address of a name of TASK_NAME_LEN bytes. Returns its length. */
socklen_t task_address(const char *name, struct sockaddr_un *at_r);
/* Ends the calling process as another one has ended: by that signal (without a core file), or 128 + it. */
int task_end_as(int sig);

#endif
