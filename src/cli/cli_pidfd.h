/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* The end of somebody else's process. Linux only. */
#ifndef CLI_CLI_PIDFD_H
#define CLI_CLI_PIDFD_H

#include <sys/types.h>

/* A descriptor that is readable once the process has ended; -1 with errno: ESRCH if there is none,
 * EINVAL if pid names none here (another namespace), ENOSYS. */
int cli_pidfd_open(pid_t pid);

#endif
