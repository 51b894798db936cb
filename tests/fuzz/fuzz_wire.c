/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Fuzz target: everything that is decoded from the control socket, the steering links, the keep
 * socket and the event pipe. The first byte chooses the decoder, the rest is the message. What a
 * decoder accepts must be whole: strings end, reasons can be written.
 */
#include <stdint.h>
#include <string.h>

#include "base/diag.h"
#include "base/wire.h"
#include "node/event.h"
#include "node/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_exit(const struct cop_exit *e)
{
	char buf[COP_EXIT_FORMAT_MAX];

	DIAG_ASSERT(memchr(e->text, 0, sizeof e->text) != NULL);
	DIAG_ASSERT(strlen(cop_exit_format(e, buf, sizeof buf)) < sizeof buf);
	(void)cop_exit_status(e);
}

static void fuzz_child(struct wire_in *w)
{
	static struct proto_child c;

	proto_get_child(w, &c);
	DIAG_ASSERT(memchr(c.path, 0, sizeof c.path) != NULL);
	DIAG_ASSERT(memchr(c.status_text, 0, sizeof c.status_text) != NULL);
	DIAG_ASSERT(memchr(c.command, 0, sizeof c.command) != NULL);
	DIAG_ASSERT(proto_state_name(c.state) != NULL);
	check_exit(&c.last_exit);
}

static void fuzz_death(struct wire_in *w)
{
	static struct proto_death d;

	proto_get_death(w, &d);
	DIAG_ASSERT(memchr(d.path, 0, sizeof d.path) != NULL);
	DIAG_ASSERT(memchr(d.restarted, 0, sizeof d.restarted) != NULL);
	DIAG_ASSERT(memchr(d.lines, 0, sizeof d.lines) != NULL);
	check_exit(&d.reason);
}

static void fuzz_node(struct wire_in *w)
{
	static struct proto_node n;

	proto_get_node(w, &n);
	DIAG_ASSERT(memchr(n.node, 0, sizeof n.node) != NULL);
	DIAG_ASSERT(memchr(n.file, 0, sizeof n.file) != NULL);
	DIAG_ASSERT(proto_node_state_name(n.state) != NULL);
}

static void fuzz_keep(struct wire_in *w)
{
	static struct proto_keep_log k;

	proto_get_keep_log(w, &k);
	DIAG_ASSERT(memchr(k.path, 0, sizeof k.path) != NULL);
	DIAG_ASSERT(memchr(k.dir, 0, sizeof k.dir) != NULL);
	DIAG_ASSERT(memchr(k.regex, 0, sizeof k.regex) != NULL);
}

static void fuzz_event(const uint8_t *data, size_t size)
{
	static char scratch[65536];
	static FILE *null;
	struct event e;

	if (null == NULL)
		null = fopen("/dev/null", "w");
	if (event_get(data, size, &e, scratch, sizeof scratch) != 0)
		return;
	event_json(null, 1, &e);
	event_text(null, 1, &e);
}

static void fuzz_parts(const uint8_t *data, size_t size)
{
	struct event_parts *parts = event_parts_create(65536);
	const uint8_t *msg;
	size_t msg_len, at = 0;
	ssize_t n;

	if (parts == NULL)
		return;
	while (at < size && (n = event_parts_take(parts, data + at, size - at, &msg, &msg_len)) > 0) {
		at += (size_t)n;
		if (msg != NULL)
			fuzz_event(msg, msg_len);
	}
	event_parts_destroy(&parts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct wire_in w;

	if (size == 0)
		return 0;
	wire_in_init(&w, data + 1, size - 1);
	switch (data[0] % 6) {
	case 0:
		fuzz_child(&w);
		break;
	case 1:
		fuzz_death(&w);
		break;
	case 2:
		fuzz_node(&w);
		break;
	case 3:
		fuzz_keep(&w);
		break;
	case 4:
		fuzz_event(data + 1, size - 1);
		break;
	default:
		fuzz_parts(data + 1, size - 1);
		break;
	}
	return 0;
}
