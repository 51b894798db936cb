/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * From the bytes of a frame to a request: the one place where what a client sent is taken apart.
 * Hides the dispatch: a fixed table of verbs, each with its arguments, each complete in itself,
 * so that no order of requests means anything. A path is ids and slashes or it is no child's;
 * it is looked up among supervisors and never comes near a file.
 *
 * Regime: allocates nothing itself.
 */
#include <string.h>
#include <unistd.h>

#include <coppice/version.h>
#include "base/clock.h"
#include "base/text.h"
#include "node/control_private.h"

bool path_valid(const char *s)
{
	char id[TEXT_ID_MAX + 1];

	for (;;) {
		size_t n = strcspn(s, "/");

		if (n == 0 || n > TEXT_ID_MAX)
			return false;
		memcpy(id, s, n);
		id[n] = '\0';
		if (!text_is_id(id))
			return false;
		if (s[n] == '\0')
			return true;
		s += n + 1;
	}
}

void node_frame(struct control *c, struct client *cl)
{
	const char *file = spec_string(&c->n->img, c->n->img.h->file);
	static struct proto_node node; /* too big for the stack */
	struct wire_out w;

	memset(&node, 0, sizeof(node));
	strlcpy(node.node, c->n->name, sizeof(node.node));
	node.pid = c->n->root_pid;
	strlcpy(node.version, cop_version(), sizeof(node.version));
	node.state = c->state;
	node.uptime_ms = clock_mono_ms() - c->n->started_ms;
	strlcpy(node.file, file != NULL ? file : "", sizeof(node.file));
	if (!frame_begin(cl, &w, PROTO_R_NODE, sizeof(node) + 64))
		return;
	proto_put_node(&w, &node);
	frame_end(cl, &w);
}

/* --- shutdown: the connection stands until the node is gone --- */

struct shutdown {
	struct request request;
	bool used;
};

static void shutdown_cancel(struct request *r)
{
	((struct shutdown *)r)->used = false;
}

/* Every waiting client has its own; there are no more than clients. */
static struct shutdown *shutdown_new(void)
{
	static struct shutdown all[64];

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
		if (!all[i].used) {
			all[i] = (struct shutdown){ .request = { .cancel = shutdown_cancel, .is_long = true }, .used = true };
			return &all[i];
		}
	}
	return NULL;
}

static void shutdown_begin(struct control *c, struct client *cl, bool no_wait)
{
	struct shutdown *s = no_wait ? NULL : shutdown_new();
	uint8_t buf[64];
	struct wire_out w;

	wire_out_init(&w, buf, sizeof(buf));
	wire_put_u8(&w, ROOT_SHUTDOWN);
	wire_put_str(&w, "coppice shutdown");
	if (root_send(c, buf, w.len, NULL, 0) < 0) {
		if (s != NULL)
			s->used = false;
		client_end(cl, END_FAILED, "the root process of the node does not answer");
		return;
	}
	node_frame(c, cl);
	if (s != NULL)
		client_wait(cl, &s->request);
	else
		client_end(cl, END_OK, "%s", "");
}

/* --- dispatch --- */

/* What was wrong with a request that could not be read. */
static void bad_request(struct client *cl)
{
	client_end(cl, END_USAGE, "the request is malformed");
}

static bool verb_is_long(uint8_t verb, uint32_t flags)
{
	switch ((enum proto_verb)verb) {
	case PROTO_START:
	case PROTO_STOP:
	case PROTO_RESTART:
	case PROTO_REMOVE:
	case PROTO_ADD:
	case PROTO_RELOAD:
	case PROTO_SHUTDOWN:
	case PROTO_CALL:
	case PROTO_CAST:
	case PROTO_SEND:
		return true;
	case PROTO_EVENTS:
		return (flags & PROTO_F_FOLLOW) != 0;
	case PROTO_STATUS:
	case PROTO_SIGNAL:
	case PROTO_LOG:
	case PROTO_NAMES:
		return false;
	}
	return false;
}

/* The verbs whose only argument is a path. */
static void with_path(struct control *c, struct client *cl, uint8_t verb, uint32_t flags, struct wire_in *w)
{
	char path[CONTROL_TEXT_MAX];
	int32_t sig = 0;

	wire_get_str(w, path, sizeof(path));
	if (verb == PROTO_SIGNAL)
		sig = wire_get_i32(w);
	if (!wire_done(w))
		bad_request(cl);
	else if (verb == PROTO_STATUS)
		status_begin(c, cl, path);
	else
		call_begin(c, cl, verb, path, sig, (flags & PROTO_F_NO_WAIT) != 0);
}

static void with_since(struct control *c, struct client *cl, uint32_t flags, struct wire_in *w)
{
	uint64_t since = wire_get_u64(w);

	if (!wire_done(w))
		bad_request(cl);
	else
		events_begin(c, cl, since, (flags & PROTO_F_FOLLOW) != 0);
}

static void with_nothing(struct control *c, struct client *cl, uint8_t verb, uint32_t flags, struct wire_in *w)
{
	bool no_wait = (flags & PROTO_F_NO_WAIT) != 0;

	if (!wire_done(w))
		bad_request(cl);
	else if (verb == PROTO_NAMES)
		talk_names(c, cl);
	else if (verb == PROTO_RELOAD)
		reload_begin_client(c, cl, (flags & PROTO_F_DRY_RUN) != 0, no_wait);
	else
		shutdown_begin(c, cl, no_wait);
}

static void dispatch(struct control *c, struct client *cl, uint8_t verb, uint32_t flags, struct wire_in *w)
{
	if (verb_is_long(verb, flags) && !clients_room_for_long(c)) {
		client_end(cl, END_FAILED, "too many clients are waiting already");
		return;
	}
	switch ((enum proto_verb)verb) {
	case PROTO_STATUS:
	case PROTO_START:
	case PROTO_STOP:
	case PROTO_RESTART:
	case PROTO_REMOVE:
	case PROTO_SIGNAL:
	case PROTO_LOG:
		with_path(c, cl, verb, flags, w);
		return;
	case PROTO_EVENTS:
		with_since(c, cl, flags, w);
		return;
	case PROTO_ADD:
		add_begin(c, cl, w, (flags & PROTO_F_NO_WAIT) != 0);
		return;
	case PROTO_CALL:
	case PROTO_CAST:
	case PROTO_SEND:
		talk_begin(c, cl, verb, w);
		return;
	case PROTO_NAMES:
	case PROTO_RELOAD:
	case PROTO_SHUTDOWN:
		with_nothing(c, cl, verb, flags, w);
		return;
	}
	client_end(cl, END_USAGE, "unknown verb %u", verb);
}

void request_dispatch(struct control *c, struct client *cl, const void *body, size_t len)
{
	struct wire_in w;
	uint8_t kind, version, verb;
	uint32_t flags;

	wire_in_init(&w, body, len);
	kind = wire_get_u8(&w);
	version = wire_get_u8(&w);
	verb = wire_get_u8(&w);
	flags = wire_get_u32(&w);
	if (w.bad || kind != PROTO_REQUEST)
		bad_request(cl);
	else if (version != PROTO_VERSION)
		client_end(cl, END_FAILED, "this node speaks version %d of the protocol, not %u", PROTO_VERSION, version);
	else
		dispatch(c, cl, verb, flags, &w);
}
