/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The directory and the open file of a log: what is safe to open, and what is done with a file
 * that is not. Files are mode 0640 at most, made by the log process under umask 027; nothing here
 * follows a link that somebody else could have made.
 *
 * Regime: never allocates; every failure is an errno.
 */
#ifndef NODE_LOG_FILE_H
#define NODE_LOG_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

/* Opens a directory, making what is missing of the path. A symbolic link in it is followed only if
 * root or we made it (else ELOOP). -1 with errno. */
int log_dir_open(const char *path);

/* Opens `current` in dir for appending, making it if it is missing; *st_r describes it. What has
 * that name and is not a plain file with one name is renamed out of the way, and *aside_r set.
 * -1 with errno. */
int log_file_open(const char *dir, struct stat *st_r, bool *aside_r);
int log_file_openat(int dirfd, struct stat *st_r, bool *aside_r);

/* lstat of `current`. 0, or -1 with errno. */
int log_file_stat(const char *dir, struct stat *st_r);

/* Renames within the directory; EEXIST rather than replacing something. */
int log_file_rename(int dirfd, const char *from, const char *to);

/* Renames `current` out of the way, to set-aside.@TIME.s. */
int log_file_set_aside(int dirfd);

/* Appends. Returns the bytes that are in the file now; if fewer than len, errno says why. */
size_t log_file_append(int fd, const void *buf, size_t len);

/* Tells whether the file has exactly these bytes at off. */
bool log_file_holds(int fd, uint64_t off, const void *buf, size_t len);

/* Tells whether the file, of this size, ends with a newline or is empty. */
bool log_file_ends_line(int fd, uint64_t size);

/* Tells whether the file system seems to have room for so many bytes more. */
bool log_file_has_room(int fd, size_t len);

#endif
