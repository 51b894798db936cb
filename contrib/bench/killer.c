/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * killer ROUNDS UP_MS SETTLE_MS FILE...: each FILE is the record of one service under one
 * supervisor, all of them running at the same time. In each round every service is killed in
 * turn, at least UP_MS after its start and SETTLE_MS after the previous service came back, when
 * no process but this one wants to run (if that is not so within 300 ms, it is
 * killed all the same). Prints a line for each kill: the number of the FILE and the nanoseconds
 * from just before the kill to the first instruction of the replacement. A service that does not
 * come back within DEADLINE_MS is reported with a minus and left alone.
 *
 * The replacement took its time itself, so how often this program looks has no influence; it
 * looks rarely, in order not to disturb.
 */
#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { LOOK_MS = 2, DEADLINE_MS = 15000, CALM_LOOKS = 5, CALM_MAX_LOOKS = 150 };

struct service {
	int fd;
	struct record last;	/* its newest start */
	bool lost;
};

static void sleep_ms(uint64_t ms)
{
	struct timespec ts = { .tv_sec = (time_t)(ms / 1000),
			       .tv_nsec = (long)(ms % 1000) * 1000000 };

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

/* Reads the newest record; false if there is none newer than the one known. */
static bool look(struct service *s)
{
	struct record r;
	struct stat st;

	if (fstat(s->fd, &st) < 0 || st.st_size < (off_t)sizeof r)
		return false;
	if (pread(s->fd, &r, sizeof r, st.st_size - (off_t)sizeof r) != (ssize_t)sizeof r)
		return false;
	if (r.ns <= s->last.ns)
		return false;
	s->last = r;
	return true;
}

static bool await_start(struct service *s)
{
	uint64_t deadline = now_ns() + (uint64_t)DEADLINE_MS * 1000000;

	while (!look(s)) {
		if (now_ns() > deadline)
			return false;
		sleep_ms(LOOK_MS);
	}
	return true;
}

static void await_age(const struct service *s, uint64_t up_ms)
{
	uint64_t due = s->last.ns + up_ms * 1000000, now = now_ns();

	if (now < due)
		sleep_ms((due - now) / 1000000 + 1);
}

/* The number of runnable processes is the part before the slash in "0.00 0.00 0.00 1/90 123". */
static int runnable(int loadavg)
{
	char text[128];
	const char *slash;
	ssize_t n = pread(loadavg, text, sizeof text - 1, 0);

	if (n <= 0)
		return 1;
	text[n] = '\0';
	slash = strchr(text, '/');
	while (slash != NULL && slash > text && slash[-1] != ' ')
		slash--;
	return slash != NULL ? atoi(slash) : 1;
}

static void await_calm(int loadavg)
{
	for (int calm = 0, looks = 0; calm < CALM_LOOKS && looks < CALM_MAX_LOOKS; looks++) {
		calm = runnable(loadavg) <= 1 ? calm + 1 : 0;
		sleep_ms(LOOK_MS);
	}
}

static void measure(int number, struct service *s, uint64_t up_ms, int loadavg)
{
	uint64_t killed;

	await_age(s, up_ms);
	await_calm(loadavg);
	killed = now_ns();
	if (kill((pid_t)s->last.pid, SIGKILL) < 0 || !await_start(s)) {
		s->lost = true;
		printf("%d -\n", number);
	} else {
		printf("%d %" PRIu64 "\n", number, s->last.ns - killed);
	}
	fflush(stdout);
}

static bool attach(struct service *s, const char *file)
{
	s->fd = open(file, O_RDONLY | O_CLOEXEC);
	if (s->fd < 0 || !await_start(s)) {
		fprintf(stderr, "killer: %s: the service never came up\n", file);
		return false;
	}
	return true;
}

int main(int argc, char **argv)
{
	int n = argc - 4, rounds, loadavg;
	uint64_t up_ms, settle_ms;
	struct service *s;

	if (n < 1) {
		fprintf(stderr, "usage: killer ROUNDS UP_MS SETTLE_MS FILE...\n");
		return 2;
	}
	rounds = atoi(argv[1]);
	up_ms = strtoull(argv[2], NULL, 10);
	settle_ms = strtoull(argv[3], NULL, 10);
	loadavg = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
	s = calloc((size_t)n, sizeof *s);
	if (s == NULL || loadavg < 0)
		return 1;
	for (int i = 0; i < n; i++)
		s[i].lost = !attach(&s[i], argv[4 + i]);
	for (int r = 0; r < rounds; r++)
		for (int i = 0; i < n; i++)
			if (!s[i].lost) {
				sleep_ms(settle_ms);
				measure(i, &s[i], up_ms, loadavg);
			}
	free(s);
	return 0;
}
