/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* What otp.h promises to both programs: clocks, figures, and reading the machine's memory. */
#include "otp.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void *share(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (p == MAP_FAILED)
		fail("map shared memory");
	return p;
}

void result(const char *key, double value)
{
	printf("@%s %.6g\n", key, value);
	fflush(stdout);
}

void fail(const char *what)
{
	fprintf(stderr, "%s: unable to %s: %s\n", program_invocation_short_name, what, strerror(errno));
	fflush(NULL);
	_exit(1);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double percentile(double *values, size_t n, double part)
{
	size_t at = (size_t)((double)n * part);

	qsort(values, n, sizeof *values, by_value);
	return values[at < n ? at : n - 1];
}

void result_times(const char *key, double *us, size_t n)
{
	char tail[64];

	snprintf(tail, sizeof tail, "%s_p99", key);
	result(key, percentile(us, n, 0.5));
	result(tail, percentile(us, n, 0.99));
}

long count_of(const char *text)
{
	char *end;
	long n;

	errno = 0;
	n = strtol(text, &end, 10);
	if (errno == 0 && (end == text || *end != '\0' || n < 1))
		errno = EINVAL;
	if (errno != 0)
		fail("read a number");
	return n;
}

void pin_to(int which)
{
	cpu_set_t may, only;

	CPU_ZERO(&only);
	if (sched_getaffinity(0, sizeof may, &may) < 0)
		fail("ask for processors");
	for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &may) && which-- == 0) {
			CPU_SET(cpu, &only);
			if (sched_setaffinity(0, sizeof only, &only) < 0)
				break;
			return;
		}
	fail("use a second processor");
}

void doze_ms(long ms)
{
	struct timespec ts = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

/* --- memory ----------------------------------------------------------------------------------- */

/* The kilobytes after `KEY:` in a file of /proc. */
static double kb_in(const char *path, const char *key)
{
	FILE *f = fopen(path, "re");
	size_t n = strlen(key);
	char line[256];
	double kb = -1;

	if (f == NULL)
		fail(path);
	while (kb < 0 && fgets(line, sizeof line, f) != NULL)
		if (strncmp(line, key, n) == 0 && line[n] == ':')
			kb = strtod(line + n + 1, NULL);
	fclose(f);
	if (kb < 0) {
		errno = ENODATA;
		fail(path);
	}
	return kb;
}

struct machine machine_now(void)
{
	static const char *const kinds[] = {
		"AnonPages", "Shmem", "PageTables", "KernelStack", "Slab", "Percpu"
	};
	const char *file = "/proc/meminfo";
	struct machine m;

	m.available = kb_in(file, "MemAvailable");
	m.used = 0;
	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		m.used += kb_in(file, kinds[i]);
	m.page_tables = kb_in(file, "PageTables");
	m.kernel_stack = kb_in(file, "KernelStack");
	m.slab = kb_in(file, "Slab");
	return m;
}

static void result_part(const char *prefix, const char *name, double kb, long n)
{
	char key[64];

	snprintf(key, sizeof key, "%s_%s", prefix, name);
	result(key, kb / (double)n);
}

void result_machine(const char *prefix, const struct machine *before, long n)
{
	struct machine now = machine_now();

	result_part(prefix, "available", before->available - now.available, n);
	result_part(prefix, "used", now.used - before->used, n);
	result_part(prefix, "tables", now.page_tables - before->page_tables, n);
	result_part(prefix, "stack", now.kernel_stack - before->kernel_stack, n);
	result_part(prefix, "slab", now.slab - before->slab, n);
}

double memory_of(pid_t pid, const char *key)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)pid);
	return kb_in(path, key);
}

double pss_mean(const pid_t *pids, long n)
{
	long step = n > SAMPLES ? n / SAMPLES : 1, taken = 0;
	double sum = 0;

	for (long i = 0; i < n; i += step, taken++)
		sum += memory_of(pids[i], "Pss");
	return sum / (double)taken;
}
