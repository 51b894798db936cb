/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Clients and supervisors of ill will, in short: the fuzz target fuzz_proto plays requests that are
 * right, then broken a little, then noise, from a fixed seed.
 */
#include "t.h"

#include "../fuzz/fuzz_proto.c"

static uint64_t seed = 1;

static uint32_t draw(uint32_t below)
{
	seed = seed * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(seed >> 33) % below;
}

struct input {
	uint8_t bytes[2048];
	size_t len;
};

/* Adds one move: bytes of the client (0) or of the supervisor (0x80). */
static void add(struct input *in, uint8_t who, const struct wire_out *w)
{
	if (in->len + 2 + w->len > sizeof(in->bytes) || w->len > 0xff)
		return;
	in->bytes[in->len++] = who | 0x40;
	in->bytes[in->len++] = (uint8_t)w->len;
	memcpy(in->bytes + in->len, w->buf, w->len);
	in->len += w->len;
}

static void add_request(struct input *in, uint8_t verb, uint32_t flags, const char *path)
{
	uint8_t buf[200];
	struct wire_out w;
	uint32_t len;

	wire_out_init(&w, buf, sizeof(buf));
	wire_put_u32(&w, 0);
	wire_put_u8(&w, PROTO_REQUEST);
	wire_put_u8(&w, PROTO_VERSION);
	wire_put_u8(&w, verb);
	wire_put_u32(&w, flags);
	if (verb == PROTO_EVENTS) {
		wire_put_u64(&w, draw(200));
	} else if (verb != PROTO_RELOAD && verb != PROTO_SHUTDOWN) {
		wire_put_str(&w, path);
		if (verb == PROTO_SIGNAL)
			wire_put_i32(&w, (int32_t)draw(70));
		if (verb == PROTO_ADD) {
			wire_put_u32(&w, 1);
			wire_put_str(&w, "id=x");
			wire_put_u32(&w, 1);
			wire_put_str(&w, "/bin/true");
		}
	}
	len = (uint32_t)w.len - 4;
	memcpy(buf, &len, sizeof(len));
	add(in, 0, &w);
}

static void add_answer(struct input *in, uint8_t kind)
{
	static struct proto_child child = { .path = "s", .type = SPEC_SUPERVISOR, .uptime_ms = -1 };
	uint8_t buf[250];
	struct wire_out w;

	wire_out_init(&w, buf, sizeof(buf));
	wire_put_u8(&w, kind);
	wire_put_u32(&w, 0);
	if (kind == STEER_DONE) {
		wire_put_u8(&w, (uint8_t)draw(6));
		wire_put_str(&w, "text");
	} else if (kind == STEER_LOGDIR) {
		wire_put_str(&w, "/var/log/x");
	} else {
		if (kind == STEER_CHILD)
			wire_put_u16(&w, 1);
		proto_put_child(&w, &child);
	}
	add(in, 0x80, &w);
}

static void make(struct input *in)
{
	static const char *const paths[] = { "", "/", "s", "s/x", "x", "..", "a/b/c" };

	in->len = 0;
	for (uint32_t n = 1 + draw(4); n > 0; n--) {
		add_request(in, (uint8_t)(1 + draw(12)), draw(8), paths[draw(7)]);
		for (uint32_t k = draw(4); k > 0; k--)
			add_answer(in, (uint8_t)(STEER_CHILD + draw(4)));
	}
}

static void damage(struct input *in, uint32_t flips)
{
	for (; flips > 0 && in->len > 0; flips--)
		in->bytes[draw((uint32_t)in->len)] ^= (uint8_t)(1u << draw(8));
}

/* What fuzz_proto keeps for the next input is released, so that nothing seems leaked. */
static void release(void)
{
	struct super *s;

	fds_close(&supervisor);
	turn();
	RB_FOREACH(s, supers, &control.supers)
		T_FAIL("a supervisor is left");
	history_close(&control.history);
	free(control.events.q);
	loop_close(&control.loop);
	fds_close(&control.spare_fd);
	for (int i = 0; i < NODE_FDS; i++)
		fds_close(&node.fd[i]);
}

T_CASE(ten_thousand_inputs)
{
	static struct input in;

	for (int i = 0; i < 10000; i++) {
		make(&in);
		damage(&in, i % 3 == 0 ? 0 : draw(6));
		LLVMFuzzerTestOneInput(in.bytes, in.len);
	}
	for (int i = 0; i < 2000; i++) {
		in.len = draw(200);
		for (size_t k = 0; k < in.len; k++)
			in.bytes[k] = (uint8_t)draw(256);
		LLVMFuzzerTestOneInput(in.bytes, in.len);
	}
	release();
}

T_MAIN(T_RUN(ten_thousand_inputs))
