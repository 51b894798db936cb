/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * denied SYSCALL ERRNO COMMAND...: runs a command for which a system call, by number, does nothing and fails
 * with an error, by number; in all that comes of it too. By the kernel, so that it holds for calls that do not
 * go through libc. As part of a unit test: denied_set(), for this process and for good.
 */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static int denied_set(long nr, int err)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ((unsigned)err & SECCOMP_RET_DATA)),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = sizeof code / sizeof code[0], .filter = code };

	if (geteuid() != 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog, 0, 0);
}

#ifndef DENIED_IS_PART
int main(int argc, char **argv)
{
	if (argc < 4) {
		fprintf(stderr, "usage: denied SYSCALL ERRNO COMMAND...\n");
		return 2;
	}
	if (denied_set(atol(argv[1]), atoi(argv[2])) < 0) {
		fprintf(stderr, "denied: %s\n", strerror(errno));
		return 125;
	}
	execvp(argv[3], argv + 3);
	fprintf(stderr, "denied: %s: %s\n", argv[3], strerror(errno));
	return 127;
}
#endif
