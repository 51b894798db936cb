/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Tasks: one after the other, and streams of them. The work is next to nothing, so that the figure is what it costs to
 * have it done elsewhere. */
#include "otp.h"

#include <coppice/task.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static struct cop_result twice(const void *arg, size_t size)
{
	uint64_t n;

	memcpy(&n, arg, size < sizeof n ? size : sizeof n);
	n *= 2;
	return cop_return(&n, sizeof n);
}

static void tasks(long n)
{
	for (long i = 0; i < n; i++) {
		uint64_t in = (uint64_t)i, out = 0;
		struct cop_response r;
		struct cop_task t;

		if (cop_task_async(twice, &in, sizeof in, &t) < 0 || cop_task_await(&t, COP_TASK_MS, &r) < 0)
			fail("run a task");
		memcpy(&out, r.msg.data, sizeof out);
		cop_response_done(&r);
		if (out != 2 * in)
			fail("count");
	}
}

/* What there is below: a fork of the same program, that ends at once and is waited for. */
static void forks(long n)
{
	for (long i = 0; i < n; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		if (pid < 0 || waitpid(pid, NULL, 0) != pid)
			fail("fork");
	}
}

void job_task(long n, char **how)
{
	void (*run)(long) = how[0] && strcmp(how[0], "bare") == 0 ? forks : tasks;
	uint64_t begin;

	run(n / 10 + 1);
	begin = now_ns();
	run(n);
	result("us", (double)(now_ns() - begin) / 1e3 / (double)n);
}

struct numbers {
	uint64_t at, n, item;
};

static int next_number(void *ctx, const void **item_r, size_t *len_r)
{
	struct numbers *f = ctx;

	if (f->at == f->n)
		return 0;
	f->item = f->at++;
	*item_r = &f->item;
	*len_r = sizeof f->item;
	return 1;
}

static struct cop_result twice_of(void *ctx, const void *item, size_t len)
{
	(void)ctx;
	return twice(item, len);
}

static void stream(long n, bool pooled)
{
	struct cop_stream_options o = { .pooled = pooled };
	struct numbers f = { .n = (uint64_t)n };
	struct cop_stream_input input = { next_number, NULL, &f };
	struct cop_stream *s = cop_stream_open(&input, twice_of, &o);
	uint64_t sum = 0, value;
	struct cop_stream_result r;

	if (s == NULL)
		fail("open a stream");
	while (cop_stream_next_or_exit(s, &r)) {
		memcpy(&value, r.data, sizeof value);
		sum += value;
	}
	cop_stream_close(s);
	if (sum != (uint64_t)n * ((uint64_t)n - 1))
		fail("count");
}

void job_stream(long n, char **how)
{
	bool pooled = how[0] && strcmp(how[0], "pooled") == 0;
	uint64_t begin;

	stream(n / 10 + 1, pooled);
	begin = now_ns();
	stream(n, pooled);
	result("ns", (double)(now_ns() - begin) / (double)n);
}
