/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Encoding of messages between processes (wire.h). Works on the caller's memory, never
 * allocates; both directions stop at the first thing that does not fit and remember it.
 */
#include "base/wire.h"

#include <string.h>

void wire_out_init(struct wire_out *w, void *buf, size_t cap)
{
	*w = (struct wire_out){ .buf = buf, .cap = cap };
}

static void put_raw(struct wire_out *w, const void *p, size_t n)
{
	if (w->overflow || n > w->cap - w->len) {
		w->overflow = true;
		return;
	}
	if (n > 0)
		memcpy(w->buf + w->len, p, n);
	w->len += n;
}

void wire_put_u8(struct wire_out *w, uint8_t v)
{
	put_raw(w, &v, sizeof v);
}

void wire_put_u16(struct wire_out *w, uint16_t v)
{
	put_raw(w, &v, sizeof v);
}

void wire_put_u32(struct wire_out *w, uint32_t v)
{
	put_raw(w, &v, sizeof v);
}

void wire_put_u64(struct wire_out *w, uint64_t v)
{
	put_raw(w, &v, sizeof v);
}

void wire_put_i32(struct wire_out *w, int32_t v)
{
	put_raw(w, &v, sizeof v);
}

void wire_put_i64(struct wire_out *w, int64_t v)
{
	put_raw(w, &v, sizeof v);
}

void wire_put_bytes(struct wire_out *w, const void *p, size_t n)
{
	if (n > UINT32_MAX || w->overflow || w->cap - w->len < sizeof(uint32_t) ||
	    n > w->cap - w->len - sizeof(uint32_t)) {
		w->overflow = true; /* never a length without its bytes */
		return;
	}
	wire_put_u32(w, (uint32_t)n);
	put_raw(w, p, n);
}

void wire_put_str(struct wire_out *w, const char *s)
{
	wire_put_bytes(w, s, s ? strlen(s) : 0);
}

void wire_in_init(struct wire_in *w, const void *buf, size_t len)
{
	*w = (struct wire_in){ .buf = buf, .len = len };
}

static void get_raw(struct wire_in *w, void *p, size_t n)
{
	if (w->bad || n > w->len - w->pos) {
		w->bad = true;
		memset(p, 0, n);
		return;
	}
	memcpy(p, w->buf + w->pos, n);
	w->pos += n;
}

uint8_t wire_get_u8(struct wire_in *w)
{
	uint8_t v;

	get_raw(w, &v, sizeof v);
	return v;
}

uint16_t wire_get_u16(struct wire_in *w)
{
	uint16_t v;

	get_raw(w, &v, sizeof v);
	return v;
}

uint32_t wire_get_u32(struct wire_in *w)
{
	uint32_t v;

	get_raw(w, &v, sizeof v);
	return v;
}

uint64_t wire_get_u64(struct wire_in *w)
{
	uint64_t v;

	get_raw(w, &v, sizeof v);
	return v;
}

int32_t wire_get_i32(struct wire_in *w)
{
	int32_t v;

	get_raw(w, &v, sizeof v);
	return v;
}

int64_t wire_get_i64(struct wire_in *w)
{
	int64_t v;

	get_raw(w, &v, sizeof v);
	return v;
}

size_t wire_get_bytes(struct wire_in *w, const void **p_r)
{
	uint32_t n = wire_get_u32(w);

	*p_r = w->buf;
	if (w->bad || n > w->len - w->pos) {
		w->bad = true;
		return 0;
	}
	*p_r = w->buf + w->pos;
	w->pos += n;
	return n;
}

const char *wire_get_str(struct wire_in *w, char *buf, size_t size)
{
	const void *p;
	size_t n = wire_get_bytes(w, &p);

	if (n >= size || (n > 0 && memchr(p, '\0', n))) {
		w->bad = true;
		n = 0;
	}
	if (n > 0)
		memcpy(buf, p, n);
	buf[n] = '\0';
	return buf;
}

bool wire_done(const struct wire_in *w)
{
	return !w->bad && w->pos == w->len;
}
