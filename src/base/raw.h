/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * System calls without libc: they return the result, or the negated error number, and touch no
 * errno. For code that may run in a process that shares its memory, and with it its errno, with
 * another one (ipc/group.h, group_spawn()). Where there is no assembly for a machine, libc makes
 * the call; group_spawn() does not share memory there.
 */
#ifndef BASE_RAW_H
#define BASE_RAW_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__) && defined(__LP64__)
#define RAW_SHARES_NOTHING 1
static inline long raw_call(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long r;

	__asm__ volatile("syscall"
	    : "=a"(r)
	    : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
	    : "rcx", "r11", "memory");
	return r;
}
#else
#define RAW_SHARES_NOTHING 0
static inline long raw_call(long nr, long a, long b, long c, long d, long e, long f)
{
	long r = syscall(nr, a, b, c, d, e, f);

	return r == -1 ? -errno : r;
}
#endif

/* Each argument a number or a pointer. */
#define RAW_ARG(x) ((long)(uintptr_t)(x))
#define raw0(nr) raw_call(nr, 0, 0, 0, 0, 0, 0)
#define raw1(nr, a) raw_call(nr, RAW_ARG(a), 0, 0, 0, 0, 0)
#define raw2(nr, a, b) raw_call(nr, RAW_ARG(a), RAW_ARG(b), 0, 0, 0, 0)
#define raw3(nr, a, b, c) raw_call(nr, RAW_ARG(a), RAW_ARG(b), RAW_ARG(c), 0, 0, 0)
#define raw4(nr, a, b, c, d) raw_call(nr, RAW_ARG(a), RAW_ARG(b), RAW_ARG(c), RAW_ARG(d), 0, 0)
#define raw6(nr, a, b, c, d, e, f) \
	raw_call(nr, RAW_ARG(a), RAW_ARG(b), RAW_ARG(c), RAW_ARG(d), RAW_ARG(e), RAW_ARG(f))

/* The error number of a call that has no other result; 0. */
static inline int raw_err(long r)
{
	return r < 0 ? (int)-r : 0;
}

#endif
