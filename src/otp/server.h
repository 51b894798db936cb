/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* What supervisors need of servers: running one in a process that was just made, and how a start is answered. */
#ifndef OTP_SERVER_H
#define OTP_SERVER_H

#include <coppice/server.h>

/* What a supervisor's child writes to the pipe that it was born with, once: how its start went. At most
 * PIPE_BUF, so that records of several children do not mix. */
#define UP_MAGIC 0x434f5550u
struct up_ack {
	uint32_t magic;
	int32_t how; /* enum cop_start */
	int32_t os_pid;
	int32_t unused;
	struct cop_exit reason;
};

struct server_start {
	const char *name;
	const void *arg;
	size_t arg_size;
	int hibernate_after_ms;
	const struct cop_via *via;
};

/* Becomes the server: name, init, ack, loop. */
_Noreturn void server_run(const struct cop_server_ops *ops, const struct server_start *start);
/* Answers whoever started this process. */
void server_ack(enum cop_start how, const struct cop_exit *reason);
/* Registers the calling process; -1 with the reason. */
int server_take_name(const char *name, struct cop_started *started_r);
/* The same, and in a registry; either may be NULL. */
int server_take_names(const char *name, const struct cop_via *via, struct cop_started *started_r);
/* Spawns f(arg), linked or not, and waits for its ack; name is looked up before (NULL: none). timeout_ms < 0: for
 * ever. As cop_server_start_link(). */
enum cop_start server_start_process(cop_proc_f *f, void *arg, bool link, bool supervisor, const char *name,
    const char *label, int timeout_ms, struct cop_started *started_r);

#endif
