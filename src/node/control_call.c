/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Requests about one child that its supervisor answers: start, stop, restart, remove, signal,
 * log. Hides who that is and what is said when it cannot be asked. A client that goes away is
 * forgotten, what it asked for is done all the same.
 *
 * Regime: one block for each request; without memory the client is dropped.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "node/control_private.h"

#define ANSWER_MS 5000 /* for what a supervisor answers at once */

struct call_job {
	struct request request; /* first */
	struct steer q;
	struct loop_timer late; /* signal, log */
	struct control *ctl;
	uint8_t verb;
	char path[SPEC_PATH_MAX];
};

static void call_free(struct call_job *job)
{
	steer_cancel(&job->q);
	loop_timer_cancel(&job->ctl->loop, &job->late);
	free(job);
}

static void call_cancel(struct request *r)
{
	call_free((struct call_job *)r);
}

static void call_end(struct call_job *job, int status, const char *text)
{
	struct client *cl = job->request.client;

	if (status == STEER_BROKE)
		client_end(cl, END_FAILED, "%s: %s", job->path, text);
	else if (status == END_NO_CHILD)
		client_end(cl, status, "%s: no such child", job->path);
	else
		client_end(cl, status, "%s", text);
	call_free(job);
}

static void call_late(struct loop_timer *t)
{
	call_end(t->ctx, STEER_BROKE, "its supervisor does not answer");
}

static void call_packet(struct steer *q, uint8_t kind, struct wire_in *w)
{
	struct call_job *job = q->ctx;
	char dir[NODE_PATH_MAX];

	if (kind != STEER_LOGDIR || job->verb != PROTO_LOG)
		return;
	wire_get_str(w, dir, sizeof(dir));
	if (!w->bad)
		frame_text(job->request.client, PROTO_R_TEXT, dir);
}

/* What is said about a success is a remark, not an error. */
static void call_done(struct steer *q, int status, const char *text)
{
	struct call_job *job = q->ctx;

	if (status == END_OK && text[0] != '\0') {
		frame_text(job->request.client, PROTO_R_TEXT, text);
		text = "";
	}
	call_end(job, status, text);
}

/* --- asking --- */

static uint8_t steer_kind(uint8_t verb)
{
	if (verb == PROTO_SIGNAL)
		return STEER_SIGNAL;
	return verb == PROTO_LOG ? STEER_WHERE : STEER_CALL;
}

static void put_args(struct wire_out *w, uint8_t verb, const char *id, int32_t sig, bool no_wait)
{
	uint8_t kind = steer_kind(verb);

	if (kind == STEER_CALL)
		wire_put_u8(w, verb);
	wire_put_str(w, id);
	if (kind == STEER_CALL)
		wire_put_u8(w, no_wait);
	else if (kind == STEER_SIGNAL)
		wire_put_i32(w, sig);
}

static struct call_job *call_create(struct control *c, uint8_t verb, const char *path)
{
	struct call_job *job = calloc(1, sizeof(*job));

	if (job == NULL)
		return NULL;
	job->request.cancel = call_cancel;
	job->request.is_long = steer_kind(verb) == STEER_CALL;
	job->q.packet = call_packet;
	job->q.done = call_done;
	job->q.ctx = job;
	job->ctl = c;
	job->verb = verb;
	strlcpy(job->path, path, sizeof(job->path));
	return job;
}

static void ask(struct control *c, struct client *cl, struct super *s, struct call_job *job, const void *args,
    size_t len)
{
	client_wait(cl, &job->request);
	if (steer_ask(c, s, &job->q, steer_kind(job->verb), args, len, NULL, 0) < 0)
		call_end(job, STEER_BROKE, errno == EAGAIN ? "its supervisor does not answer" : "its supervisor died");
	else if (!job->request.is_long)
		loop_timer_set(&c->loop, &job->late, c->loop.now_ms + ANSWER_MS, call_late, job);
}

/* --- without a supervisor --- */

/* The log of a child whose supervisor does not run is where it always was. */
static bool tell_log_dir(struct control *c, struct client *cl, const struct spec_child *spec, const char *path)
{
	const char *dir = spec_string(&c->n->img, spec->worker.log_dir);
	char buf[NODE_PATH_MAX + SPEC_PATH_MAX];

	if (spec->type != SPEC_WORKER)
		return false;
	buf[0] = '\0';
	if (spec->worker.log == SPEC_LOG_DIR && dir != NULL)
		strlcpy(buf, dir, sizeof(buf));
	else if (spec->worker.log == SPEC_LOG_DIR && c->n->dirs.log[0] != '\0')
		snprintf(buf, sizeof(buf), "%s/%s", c->n->dirs.log, path);
	frame_text(cl, PROTO_R_TEXT, buf);
	client_end(cl, END_OK, "%s", "");
	return true;
}

static void without_super(struct control *c, struct client *cl, uint8_t verb, const char *path)
{
	const struct spec_child *spec = path_valid(path) ? spec_find(&c->n->img, path) : NULL;

	if (spec == NULL)
		client_end(cl, END_NO_CHILD, "%s: no such child", path);
	else if (verb != PROTO_LOG || !tell_log_dir(c, cl, spec, path))
		client_end(cl, END_FAILED, "%s: its supervisor is not running", path);
}

/* What can be done instead of what was asked of the top supervisor. */
static const char *about_top(uint8_t verb)
{
	switch (verb) {
	case PROTO_LOG:
		return "a supervisor has no log of its own";
	case PROTO_SIGNAL:
		return "the top supervisor takes no signals; the node is stopped with `coppice shutdown`";
	case PROTO_START:
		return "the top supervisor runs as long as the node does";
	case PROTO_RESTART:
		return "the top supervisor cannot be restarted; stop the node with `coppice shutdown` and run it again";
	case PROTO_REMOVE:
		return "the top supervisor cannot be removed; the node is stopped with `coppice shutdown`";
	default:
		return "the top supervisor is stopped with `coppice shutdown`";
	}
}

static bool is_supervisor(const struct control *c, const char *path)
{
	const struct spec_child *spec = path_valid(path) ? spec_find(&c->n->img, path) : NULL;

	return spec != NULL && spec->type != SPEC_WORKER;
}

void call_begin(struct control *c, struct client *cl, uint8_t verb, const char *path, int32_t sig, bool no_wait)
{
	struct call_job *job;
	struct super *s;
	struct wire_out w;
	uint8_t args[128];
	const char *id;

	if (path[0] == '\0' || strcmp(path, "/") == 0) {
		client_end(cl, END_FAILED, "/: %s", about_top(verb));
		return;
	}
	if (verb == PROTO_LOG && is_supervisor(c, path)) {
		client_end(cl, END_FAILED, "%s: a supervisor has no log of its own", path);
		return;
	}
	if (verb == PROTO_SIGNAL && (sig < 1 || sig > SIGRTMAX)) {
		client_end(cl, END_USAGE, "there is no signal %ld", (long)sig);
		return;
	}
	s = strlen(path) < SPEC_PATH_MAX ? super_of(c, path, &id) : NULL;
	if (s == NULL) {
		without_super(c, cl, verb, path);
		return;
	}
	job = call_create(c, verb, path);
	if (job == NULL) {
		client_kill(cl);
		return;
	}
	wire_out_init(&w, args, sizeof(args));
	put_args(&w, verb, id, sig, no_wait);
	ask(c, cl, s, job, args, w.len);
}
