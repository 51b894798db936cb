/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Bytes as base64 text (RFC 4648, with padding), for where only text can stand. Never allocates. */
#ifndef BASE_BASE64_H
#define BASE_BASE64_H

#include <stddef.h>

/* Characters that n bytes become, without a NUL. */
#define BASE64_SIZE(n) (((n) + 2) / 3 * 4)

/* Writes BASE64_SIZE(n) characters, and no NUL. */
void base64_encode(const void *bytes, size_t n, char *text_r);

#endif
