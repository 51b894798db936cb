/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* pidfd_open(2), which older C libraries do not have. Linux only; any process. */
#include "cli/cli_pidfd.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

int cli_pidfd_open(pid_t pid)
{
	if (pid <= 0) {
		errno = EINVAL;
		return -1;
	}
	return (int)syscall(SYS_pidfd_open, pid, 0); /* close-on-exec of itself */
}
