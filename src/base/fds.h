/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Descriptors: flags, passing, closing. All calls retry EINTR where that is right. */
#ifndef BASE_FDS_H
#define BASE_FDS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Closes *fd if it is open (>= 0) and sets it to -1. Never retried. */
void fds_close(int *fd);
/* Closes every descriptor from first on. */
void fds_close_from(int first);
/* Closes every descriptor from 3 on but those named; negative ones among them are ignored. Sorts keep. */
void fds_close_except(int *keep, size_t n);
/* For a descriptor that will be open for long, in a process that may have thousands: the first few stay
 * where they are, all others go up, so that numbers between FDS_LOW and FDS_HIGH stay free for those
 * that a new process needs (node/exec_fds.c). Where that cannot be, nothing happens. Close-on-exec. */
#define FDS_LOW 64
#define FDS_HIGH 128
void fds_lift(int *fd);
int fds_set_nonblock(int fd, bool on);
int fds_set_cloexec(int fd, bool on);
/* Makes sure that 0, 1 and 2 are open (on /dev/null), so that no descriptor of ours becomes one. */
int fds_fill_std(void);
/* Tells whether it had to be, for 0, 1 or 2: what is read there is nothing, and what is written is lost. */
bool fds_was_closed(int fd);
/* Raises the soft descriptor limit to the hard one; the old pair is kept for children. */
void fds_raise_limit(void);
/* The soft limit that was in force at start (for children), or 0 if never raised. */
unsigned long fds_original_soft_limit(void);

#define FDS_PASS_MAX 200 /* descriptors in one message */

/* Sends one message with n descriptors. As sendmsg(2) with MSG_NOSIGNAL | MSG_DONTWAIT. */
ssize_t fds_send(int sock, const void *buf, size_t len, const int *fds, size_t n);
/* Receives one message, from a socket that keeps messages apart, with at most max descriptors
 * (close-on-exec; surplus ones are closed). Non-blocking. Returns the length, 0 at end (or for an empty
 * message), -1 with errno; EMSGSIZE if the message was longer than the buffer; EMFILE if there is no room
 * for its descriptors: then it stays where it is. *n_r tells how many descriptors are in fds. */
ssize_t fds_recv(int sock, void *buf, size_t len, int *fds, size_t max, size_t *n_r);

/* Writes all of it to a blocking or non-blocking descriptor; 0, or -1. Waits; never for
 * supervisors. */
int fds_write_all(int fd, const void *buf, size_t len);

#endif
