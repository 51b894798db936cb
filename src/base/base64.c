/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* base64 (base64.h). Pure. */
#include "base/base64.h"

#include <stdint.h>

void base64_encode(const void *bytes, size_t n, char *text)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *b = bytes;
	size_t i;

	for (i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)b[i] << 16;

		v |= i + 1 < n ? (uint32_t)b[i + 1] << 8 : 0;
		v |= i + 2 < n ? b[i + 2] : 0;
		*text++ = digits[v >> 18];
		*text++ = digits[v >> 12 & 63];
		*text++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
		*text++ = i + 2 < n ? digits[v & 63] : '=';
	}
}
