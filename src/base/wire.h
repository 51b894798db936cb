/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Encoding of messages between processes: numbers of fixed width in host order, strings and
 * bytes with a 32-bit length. Both sides work on memory of the caller and never allocate.
 * Errors are sticky: encode or decode everything, then ask once.
 */
#ifndef BASE_WIRE_H
#define BASE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct wire_out {
	uint8_t *buf;
	size_t cap;
	size_t len;
	bool overflow; /* something did not fit; len is where it stopped */
};

struct wire_in {
	const uint8_t *buf;
	size_t len;
	size_t pos;
	bool bad; /* something was missing or malformed; reads then give 0 and "" */
};

void wire_out_init(struct wire_out *w, void *buf, size_t cap);
void wire_put_u8(struct wire_out *w, uint8_t v);
void wire_put_u16(struct wire_out *w, uint16_t v);
void wire_put_u32(struct wire_out *w, uint32_t v);
void wire_put_u64(struct wire_out *w, uint64_t v);
void wire_put_i32(struct wire_out *w, int32_t v);
void wire_put_i64(struct wire_out *w, int64_t v);
void wire_put_bytes(struct wire_out *w, const void *p, size_t n);
void wire_put_str(struct wire_out *w, const char *s); /* NULL is written as "" */

void wire_in_init(struct wire_in *w, const void *buf, size_t len);
uint8_t wire_get_u8(struct wire_in *w);
uint16_t wire_get_u16(struct wire_in *w);
uint32_t wire_get_u32(struct wire_in *w);
uint64_t wire_get_u64(struct wire_in *w);
int32_t wire_get_i32(struct wire_in *w);
int64_t wire_get_i64(struct wire_in *w);
/* Points *p_r into the message; returns the length. */
size_t wire_get_bytes(struct wire_in *w, const void **p_r);
/* Copies a string into buf, always terminated. One that does not fit, or that holds a NUL,
 * makes the message bad. Returns buf. */
const char *wire_get_str(struct wire_in *w, char *buf, size_t size);
/* Tells whether the message was read to its very end without error. */
bool wire_done(const struct wire_in *w);

#endif
