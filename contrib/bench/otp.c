/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * otp JOB NUMBER [HOW...]: one repetition of one measurement of the library, as a user's program would
 * use it: the public headers, the shared library, the default options.
 *
 *      call N CALLERS [two]    calls of 64 bytes there and back; two: on two processors
 *      cast N SENDERS [two]    casts of 64 bytes, until all are handled
 *      big N WAY               requests of 64 KB: copied, fresh_copied, in_place, fresh_in_place
 *      restart N [watched]     deaths of a supervised server; watched: killed by who then looks for it
 *      down N                  kills of a monitored process
 *      spawn N                 processes that end at once
 *      task N [bare]           tasks, each awaited; bare: fork, exit and wait instead
 *      stream N [pooled]       elements of a stream in order
 *      memory N                idle servers
 *      tree N KIND             static, static-split, dynamic, dynamic-split
 *      lookup N                lookups in a registry
 *      register N              keys registered by one process
 *      register_pair N         the same key registered and unregistered
 *      agent N                 gets, and as many updates
 *
 * The only option set is that deaths are not reported: the peer's are switched off as well.
 */
#include "otp.h"

#include <coppice/node.h>

#include <stdio.h>
#include <string.h>

static const struct job {
	const char *name;
	job_f *run;
} jobs[] = {
	{ "call", job_call },
	{ "cast", job_cast },
	{ "big", job_big },
	{ "restart", job_restart },
	{ "down", job_down },
	{ "spawn", job_spawn },
	{ "task", job_task },
	{ "stream", job_stream },
	{ "memory", job_memory },
	{ "tree", job_tree },
	{ "lookup", job_lookup },
	{ "register", job_register },
	{ "register_pair", job_register_pair },
	{ "agent", job_agent },
};

static const struct job *job;
static long number;

static void first_process(void *how)
{
	job->run(number, how);
}

int main(int argc, char **argv)
{
	const struct cop_node_options options = { .name = "bench", .quiet = true };
	int status;

	for (size_t i = 0; argc > 2 && i < sizeof jobs / sizeof *jobs; i++)
		if (strcmp(argv[1], jobs[i].name) == 0)
			job = &jobs[i];
	if (job == NULL) {
		fprintf(stderr, "usage: otp JOB NUMBER [HOW...]\n");
		return 2;
	}
	number = count_of(argv[2]);
	status = cop_run(&options, first_process, argv + 3);
	if (status < 0)
		fail("run a node");
	return status;
}
