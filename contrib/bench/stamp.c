/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * stamp: the service that every supervisor is measured with. Its first act is to read the clock;
 * then it appends the time and its pid to the file that $BENCH_STAMPS names (not an argument:
 * some supervisors execute a file without any, others with their own), says that it is ready if
 * $BENCH_NOTIFY names a descriptor, and sleeps until a signal ends it. Linked statically;
 * allocates nothing.
 */
#include "record.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static void notify(const char *descriptor)
{
	int fd = atoi(descriptor);

	/* A supervisor that has gone away in the meantime is not this program's business. */
	if (write(fd, "\n", 1) == 1)
		close(fd);
}

int main(void)
{
	struct record r = { .ns = now_ns(), .pid = (uint64_t)getpid() };
	const char *file = getenv("BENCH_STAMPS");
	const char *ready = getenv("BENCH_NOTIFY");
	int fd = file != NULL ? open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644) : -1;

	if (fd < 0 || write(fd, &r, sizeof r) != (ssize_t)sizeof r)
		return 1;
	close(fd);
	if (ready != NULL)
		notify(ready);
	for (;;)
		pause();
}
