/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The supervisor's side of steering (proto.h, STEER_*): says hello to control, answers what it
 * asks, passes calls to the core and their replies back. All best effort: without control the
 * tree lives on. Nothing here blocks; a status of many children is sent as the link takes it.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fds.h"
#include "node/supervisor_private.h"

#define STEER_PAUSE_MS 100 /* without descriptors for what control sends */
#define HELLO_AGAIN_MS 200
#define CHILD_ROOM 1600 /* bytes that one proto_child may need in a packet */

static void steer_ready(struct loop_source *src, uint32_t events);

/* --- hello --- */

static void drop_link(struct supervisor *sv)
{
	loop_detach(&sv->loop, &sv->steer_src);
	fds_close(&sv->steer_fd);
	sv->dump.active = false;
	sv->done_n = 0;
}

static void hello_again(struct loop_timer *t)
{
	steer_hello(t->ctx);
}

static int say_hello(struct supervisor *sv, int fd_for_control)
{
	uint8_t buf[SPEC_PATH_MAX + 64];
	struct wire_out w;

	wire_out_init(&w, buf, sizeof buf);
	wire_put_u8(&w, STEER_HELLO);
	wire_put_u32(&w, 0);
	wire_put_str(&w, sv->path);
	wire_put_i32(&w, getpid());
	wire_put_u32(&w, sv->n->img.h->generation);
	return fds_send(sv->n->fd[NODE_FD_HELLO_W], buf, w.len, &fd_for_control, 1) < 0 ? -1 : 0;
}

void steer_hello(struct supervisor *sv)
{
	int fd[2];

	if (sv->n->fd[NODE_FD_HELLO_W] < 0)
		return;
	drop_link(sv);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) == 0) {
		if (say_hello(sv, fd[1]) == 0 &&
		    loop_attach(&sv->loop, &sv->steer_src, fd[0], EPOLLIN, steer_ready, sv) == 0) {
			close(fd[1]);
			sv->steer_fd = fd[0];
			sv->steer_serial++;
			sv->steer_since_ms = sv_now(sv);
			return;
		}
		close(fd[0]);
		close(fd[1]);
	}
	loop_timer_set(&sv->loop, &sv->hello_timer, sv_now(sv) + HELLO_AGAIN_MS, hello_again, sv);
}

/* --- sending --- */

static int send_packet(struct supervisor *sv, const struct wire_out *w)
{
	if (w->overflow || sv->steer_fd < 0)
		return 0;
	sv_events_out(sv);
	return fds_send(sv->steer_fd, w->buf, w->len, NULL, 0) < 0 && errno == EAGAIN ? -1 : 0;
}

static void begin_packet(struct wire_out *w, uint8_t *buf, size_t size, uint8_t kind, uint32_t request)
{
	wire_out_init(w, buf, size);
	wire_put_u8(w, kind);
	wire_put_u32(w, request);
}

static int send_done(struct supervisor *sv, uint32_t request, uint8_t status, const char *text)
{
	uint8_t buf[1024];
	struct wire_out w;

	begin_packet(&w, buf, sizeof buf, STEER_DONE, request);
	wire_put_u8(&w, status);
	wire_put_str(&w, text);
	return send_packet(sv, &w);
}

void steer_done(struct supervisor *sv, uint32_t request, uint8_t status, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	if (sv->steer_fd < 0 || (sv->done_n == 0 && send_done(sv, request, status, text) == 0))
		return;
	if (sv->done_n == sizeof sv->done / sizeof sv->done[0])
		return; /* control has not read for 64 answers: it asks again or gives up */
	sv->done[sv->done_n].request = request;
	sv->done[sv->done_n].status = status;
	snprintf(sv->done[sv->done_n].text, sizeof sv->done[0].text, "%s", text);
	sv->done_n++;
	loop_modify(&sv->loop, &sv->steer_src, EPOLLIN | EPOLLOUT);
}

/* --- status --- */

static uint8_t state_of(struct kid *k)
{
	struct sup *core = k->sv->core;

	switch (sup_child_status(core, k->slot)) {
	case SUP_ST_NEVER:
		return k->has_last_exit ? k->parked : k->sv->inited ? PROTO_ST_STOPPED : PROTO_ST_STARTING;
	case SUP_ST_IGNORED:
		return PROTO_ST_STOPPED;
	case SUP_ST_TERMINATED:
		return sup_child_in_restart(core, k->slot) ? PROTO_ST_STARTING : PROTO_ST_STOPPED;
	case SUP_ST_EXITED:
		return PROTO_ST_EXITED;
	case SUP_ST_FAILED:
		return PROTO_ST_FAILED;
	case SUP_ST_BACKOFF:
		return PROTO_ST_BACKOFF;
	case SUP_ST_RETRYING:
	case SUP_ST_STARTING:
		return PROTO_ST_STARTING;
	case SUP_ST_RUNNING:
		return k->pid == 0 ? PROTO_ST_STOPPING : PROTO_ST_RUNNING; /* dead, its group not yet */
	case SUP_ST_STOPPING:
		return PROTO_ST_STOPPING;
	}
	return PROTO_ST_STOPPED;
}

static void describe_supervisor(const struct spec_child *spec, const struct sup_flags *f, struct proto_child *c)
{
	c->type = spec->type;
	c->strategy = f->strategy;
	c->auto_shutdown = f->auto_shutdown;
	c->max_restarts = c->restarts_left = f->max_restarts;
	c->max_seconds = f->max_seconds;
	c->max_children = f->dynamic ? f->max_children : SUP_NO_LIMIT;
}

void kid_describe(struct kid *k, struct proto_child *c, uint32_t order)
{
	const struct sup_child_spec *s = sup_child_get(k->sv->core, k->slot);

	memset(c, 0, sizeof *c);
	snprintf(c->path, sizeof c->path, "%s", k->path);
	c->type = k->spec->type;
	c->state = state_of(k);
	c->restart = s->restart;
	c->significant = s->significant;
	c->shutdown_ms = s->shutdown_ms;
	c->dynamic = k->dynamic;
	c->pid = k->pid;
	c->restarts = k->restarts;
	c->uptime_ms = k->pid != 0 ? sv_now(k->sv) - k->since_ms : -1;
	c->has_last_exit = k->has_last_exit;
	c->last_exit = k->last_exit;
	c->order = order;
	if (k->service) {
		snprintf(c->status_text, sizeof c->status_text, "%s", service_status_text(k->service));
		spec_command(k->img, k->spec, c->command, sizeof c->command);
	} else {
		describe_supervisor(k->spec, &k->spec->flags, c);
	}
}

static void describe_self(struct supervisor *sv, struct proto_child *c)
{
	memset(c, 0, sizeof *c);
	snprintf(c->path, sizeof c->path, "%s", sv->path);
	describe_supervisor(sv->spec, sup_flags_get(sv->core), c);
	c->restarts_left = sup_restarts_left(sv->core, sv_now(sv));
	c->state = sv->inited ? PROTO_ST_RUNNING : PROTO_ST_STARTING;
	c->restart = sv->spec->sup.restart;
	c->shutdown_ms = sv->spec->sup.shutdown_ms;
	c->pid = getpid();
	c->uptime_ms = sv_now(sv) - sv->since_ms;
}

static int dump_self(struct supervisor *sv)
{
	uint8_t buf[4096];
	struct proto_child c;
	struct wire_out w;

	describe_self(sv, &c);
	begin_packet(&w, buf, sizeof buf, STEER_SELF, sv->dump.request);
	proto_put_child(&w, &c);
	return send_packet(sv, &w);
}

/* Sends as many children as one packet takes, from dump.slot on; *next_r: where to go on. */
static int dump_some(struct supervisor *sv, uint32_t *next_r)
{
	static uint8_t buf[PROTO_PACKET_MAX];
	static uint32_t order; /* place of dump.slot; a dump is never interleaved with another */
	struct proto_child c;
	struct wire_out w;
	uint32_t slot = sv->dump.slot;
	uint32_t at = slot == sup_first(sv->core) ? 0 : order;
	uint16_t n = 0;
	size_t count_at;

	begin_packet(&w, buf, sizeof buf, STEER_CHILD, sv->dump.request);
	count_at = w.len;
	wire_put_u16(&w, 0);
	for (; slot < sv->kids_cap && sv->kids[slot] && w.len + CHILD_ROOM < w.cap; slot = sup_next(sv->core, slot)) {
		kid_describe(sv->kids[slot], &c, at++);
		proto_put_child(&w, &c);
		n++;
	}
	memcpy(buf + count_at, &n, sizeof n);
	if (send_packet(sv, &w) < 0)
		return -1;
	order = at;
	*next_r = n > 0 ? slot : SUP_NONE; /* a child that was forgotten meanwhile ends the list */
	return 0;
}

/* Goes on with a status until the link is full. */
static void dump(struct supervisor *sv)
{
	uint32_t next;

	if (!sv->dump.self_sent) {
		if (dump_self(sv) < 0)
			return;
		sv->dump.self_sent = true;
		sv->dump.slot = sup_first(sv->core);
	}
	while (sv->dump.slot != SUP_NONE) {
		if (dump_some(sv, &next) < 0)
			return;
		sv->dump.slot = next;
	}
	sv->dump.active = false;
	steer_done(sv, sv->dump.request, 0, "%s", "");
}

static void on_status(struct supervisor *sv, uint32_t request)
{
	if (sv->dump.active)
		return; /* control asks one at a time */
	sv->dump.active = true;
	sv->dump.request = request;
	sv->dump.self_sent = false;
	dump(sv);
}

/* --- calls --- */

bool steer_call_room(const struct supervisor *sv)
{
	uint32_t i;

	for (i = 0; i < SUP_CALLS_MAX && sv->wanted[i].by != WANTED_FREE; i++)
		;
	return i < SUP_CALLS_MAX && sup_call_room(sv->core);
}

int steer_call(struct supervisor *sv, struct kid *k, enum sup_op op, bool interrupt, const struct wanted *by)
{
	struct sup_event ev = { .type = SUP_EV_CALL, .op = (uint8_t)op, .interrupt = interrupt, .slot = k->slot,
		.now_ms = sv_now(sv) };
	uint32_t i;

	for (i = 0; i < SUP_CALLS_MAX && sv->wanted[i].by != WANTED_FREE; i++)
		;
	if (!steer_call_room(sv))
		return -1;
	sv->wanted[i] = *by;
	ev.call = i;
	sv_feed(sv, &ev);
	return 0;
}

/* Says it to the client, unless it did not want to wait or is gone with its link. */
static void tell(struct supervisor *sv, const struct wanted *w, uint8_t status, const char *text)
{
	if (!w->answered && w->link_serial == sv->steer_serial)
		steer_done(sv, w->request, status, "%s", text);
}

static void tell_failed(struct supervisor *sv, const struct wanted *w, const struct sup_action *a)
{
	char text[512], reason[COP_EXIT_FORMAT_MAX];

	cop_exit_format(&a->reason, reason, sizeof reason);
	if (a->reason.kind == COP_EXIT_EXEC && a->reason.text[0])
		snprintf(text, sizeof text, "%.300s: start failed: %s (step %s)", w->path, reason, a->reason.text);
	else
		snprintf(text, sizeof text, "%.300s: start failed: %s", w->path, reason);
	tell(sv, w, 1, text);
}

static void tell_reply(struct supervisor *sv, const struct wanted *w, const struct sup_action *a)
{
	char text[SPEC_PATH_MAX + 64];

	switch ((enum sup_reply)a->reply) {
	case SUP_REPLY_OK:
	case SUP_REPLY_IGNORED:
		tell(sv, w, 0, w->verb == PROTO_ADD ? w->path : "");
		return;
	case SUP_REPLY_NOT_FOUND:
		snprintf(text, sizeof text, "%s: no such child", w->path);
		tell(sv, w, 4, text);
		return;
	case SUP_REPLY_RUNNING:
		if (w->verb == PROTO_START) {
			tell(sv, w, 0, "already running");
			return;
		}
		snprintf(text, sizeof text, "%s: is running", w->path);
		tell(sv, w, 1, text);
		return;
	case SUP_REPLY_RESTARTING:
		snprintf(text, sizeof text, "%s: is being restarted", w->path);
		tell(sv, w, 1, text);
		return;
	case SUP_REPLY_FAILED:
		tell_failed(sv, w, a);
		return;
	case SUP_REPLY_SHUTTING_DOWN:
		snprintf(text, sizeof text, "%s: its supervisor is shutting down", w->path);
		tell(sv, w, 1, text);
		return;
	}
}

/* The second half of `remove`: a stopped child is deleted, unless stopping has done so already. */
static bool goes_on_removing(struct supervisor *sv, const struct wanted *w, const struct sup_action *a)
{
	struct kid *k = a->slot < sv->kids_cap ? sv->kids[a->slot] : NULL;
	struct wanted next = *w;

	if (w->verb != PROTO_REMOVE || a->reply != SUP_REPLY_OK || !k || strcmp(k->path, w->path) != 0)
		return false;
	next.verb = PROTO_STOP; /* whatever the delete says is the answer */
	return steer_call(sv, k, SUP_OP_DELETE, false, &next) == 0;
}

void steer_reply(struct supervisor *sv, const struct sup_action *a)
{
	struct wanted w = sv->wanted[a->call];

	sv->wanted[a->call].by = WANTED_FREE;
	if (w.by == WANTED_RELOAD)
		reload_replied(sv, a);
	else if (w.by == WANTED_STEER && !goes_on_removing(sv, &w, a))
		tell_reply(sv, &w, a);
}

static void on_call(struct supervisor *sv, uint32_t request, uint8_t verb, const char *id, bool no_wait)
{
	struct kid *k = kid_find(sv, id);
	struct wanted by = { .by = WANTED_STEER, .verb = verb, .request = request, .link_serial = sv->steer_serial };
	enum sup_status st;
	enum sup_op op = verb == PROTO_START ? SUP_OP_RESTART : verb == PROTO_RESTART ? SUP_OP_CYCLE : SUP_OP_TERMINATE;

	if (!k) {
		steer_done(sv, request, 4, "%s%s%s: no such child", sv->path[1] ? sv->path : "", sv->path[1] ? "/" : "", id);
		return;
	}
	st = sup_child_status(sv->core, k->slot);
	if (op == SUP_OP_RESTART && (st == SUP_ST_BACKOFF || st == SUP_ST_RETRYING))
		op = SUP_OP_CYCLE; /* an administrator's start does not wait for the backoff */
	memcpy(by.path, k->path, sizeof by.path);
	k->removing = verb == PROTO_REMOVE;
	if (no_wait) {
		steer_done(sv, request, 0, "%s", "");
		by.answered = true;
	}
	if (steer_call(sv, k, op, true, &by) < 0)
		tell(sv, &by, 1, "too many requests are waiting");
}

static void on_signal(struct supervisor *sv, uint32_t request, const char *id, int sig)
{
	struct kid *k = kid_find(sv, id);

	if (!k)
		steer_done(sv, request, 4, "%s: no such child", id);
	else if (!k->service)
		steer_done(sv, request, 1, "%s: is a supervisor, which takes no signals", k->path);
	else if (service_signal(k->service, sig) < 0)
		steer_done(sv, request, 1, "%s: unable to send SIG%s: %s", k->path, text_signal_name(sig),
		    errno == ESRCH ? "not running" : strerror(errno));
	else
		steer_done(sv, request, 0, "%s", "");
}

static void on_where(struct supervisor *sv, uint32_t request, const char *id)
{
	uint8_t buf[PROTO_PACKET_MAX];
	struct kid *k = kid_find(sv, id);
	struct wire_out w;

	if (!k) {
		steer_done(sv, request, 4, "%s: no such child", id);
		return;
	}
	begin_packet(&w, buf, sizeof buf, STEER_LOGDIR, request);
	wire_put_str(&w, k->service ? service_log_dir(k->service) : "");
	(void)send_packet(sv, &w);
	steer_done(sv, request, 0, "%s", "");
}

/* start_child: the image holds a top supervisor with the one child. */
static void on_add(struct supervisor *sv, uint32_t request, int *fd)
{
	struct wanted by = { .by = WANTED_STEER, .verb = PROTO_ADD, .request = request, .link_serial = sv->steer_serial };
	struct spec_image img;
	const struct spec_child *spec;
	struct kid *k;

	if (sv->spec->type != SPEC_DYNAMIC_SUPERVISOR) {
		steer_done(sv, request, 1, "%s: not a dynamic supervisor; its children are those of the file", sv->path);
		return;
	}
	if (!steer_call_room(sv)) {
		steer_done(sv, request, 1, "too many requests are waiting");
		return;
	}
	fds_lift(fd);
	if (*fd < 0 || spec_open(&img, *fd) < 0) {
		steer_done(sv, request, 1, "the new child could not be read");
		return;
	}
	*fd = -1;
	spec = spec_first_child(&img, spec_top(&img));
	k = spec && spec->type == SPEC_WORKER ? kid_add(sv, &img, spec, sup_last(sv->core), &img) : NULL;
	if (!k) {
		steer_done(sv, request, 1, "%s: %s", spec ? spec_string(&img, spec->path) : "add",
		    errno == EEXIST    ? "there is a child of this name already" :
		    errno == EOVERFLOW ? "max_children is reached" :
		    errno == EINVAL    ? "does not go with its supervisor (significant?)" :
					 strerror(errno));
		spec_close(&img);
		return;
	}
	memcpy(by.path, k->path, sizeof by.path);
	(void)steer_call(sv, k, SUP_OP_START, false, &by);
}

/* --- receiving --- */

static void dispatch(struct supervisor *sv, struct wire_in *w, int *fds, size_t n_fds)
{
	char id[TEXT_ID_MAX + 1];
	uint8_t kind = wire_get_u8(w), verb, no_wait;
	uint32_t request = wire_get_u32(w);
	int32_t sig;

	switch (kind) {
	case STEER_STATUS:
		if (wire_done(w))
			on_status(sv, request);
		return;
	case STEER_CALL:
		verb = wire_get_u8(w);
		wire_get_str(w, id, sizeof id);
		no_wait = wire_get_u8(w);
		if (wire_done(w))
			on_call(sv, request, verb, id, no_wait != 0);
		return;
	case STEER_SIGNAL:
		wire_get_str(w, id, sizeof id);
		sig = wire_get_i32(w);
		if (wire_done(w))
			on_signal(sv, request, id, sig);
		return;
	case STEER_WHERE:
		wire_get_str(w, id, sizeof id);
		if (wire_done(w))
			on_where(sv, request, id);
		return;
	case STEER_ADD:
		wire_get_str(w, id, sizeof id);
		if (wire_done(w))
			on_add(sv, request, n_fds > 0 ? &fds[0] : &(int){ -1 });
		return;
	case STEER_RELOAD:
		if (wire_done(w))
			reload_begin(sv, request, fds, n_fds);
		return;
	default:
		return; /* a newer control's */
	}
}

/* Control died: its successor is found the same way. At once, unless it does not want us (it may be out of
 * descriptors), which must not become a loop. */
static void link_lost(struct supervisor *sv)
{
	if (sv_now(sv) - sv->steer_since_ms >= HELLO_AGAIN_MS) {
		steer_hello(sv);
		return;
	}
	drop_link(sv);
	loop_timer_set(&sv->loop, &sv->hello_timer, sv_now(sv) + HELLO_AGAIN_MS, hello_again, sv);
}

static bool receive(struct supervisor *sv)
{
	static uint8_t buf[PROTO_PACKET_MAX];
	int fds[NODE_SOCKETS_MAX + 1];
	struct wire_in w;
	size_t n_fds, i;
	ssize_t n = fds_recv(sv->steer_fd, buf, sizeof buf, fds, sizeof fds / sizeof fds[0], &n_fds);

	if (n < 0 && errno == EMFILE)
		loop_pause(&sv->loop, &sv->steer_src, &sv->steer_pause, STEER_PAUSE_MS);
	if (n < 0 && (errno == EAGAIN || errno == EMFILE))
		return false;
	if (n <= 0) {
		link_lost(sv);
		return false;
	}
	wire_in_init(&w, buf, (size_t)n);
	dispatch(sv, &w, fds, n_fds);
	for (i = 0; i < n_fds; i++)
		fds_close(&fds[i]); /* what was taken over is -1 */
	return sv->steer_fd >= 0;
}

static void send_waiting(struct supervisor *sv)
{
	uint32_t i = 0;

	while (i < sv->done_n && send_done(sv, sv->done[i].request, sv->done[i].status, sv->done[i].text) == 0)
		i++;
	memmove(sv->done, sv->done + i, (sv->done_n - i) * sizeof sv->done[0]);
	sv->done_n -= i;
	if (sv->done_n == 0 && sv->dump.active)
		dump(sv);
}

static void steer_ready(struct loop_source *src, uint32_t events)
{
	struct supervisor *sv = src->ctx;
	int budget = 32; /* packets a turn: supervision comes first */

	if (events & EPOLLOUT)
		send_waiting(sv);
	while (budget-- > 0 && sv->steer_fd >= 0 && receive(sv))
		;
	if (sv->steer_fd >= 0 && src->events != 0)
		loop_modify(&sv->loop, src, EPOLLIN | (sv->done_n > 0 || sv->dump.active ? (uint32_t)EPOLLOUT : 0));
}
