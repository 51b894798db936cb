/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * PROTO_ADD: a child that is in no file. The words of the request are parsed beside this process
 * like a file, into an image with one child, which goes to the supervisor. Hides that the
 * supervisor may be unknown, may be no supervisor at all (which only its parent can tell for
 * children that were added themselves), or may have died while the words were being parsed.
 *
 * Regime: one block for each request, as big as its words.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fds.h"
#include "node/config.h"
#include "node/control_private.h"

struct add_job {
	struct request request;      /* first */
	struct steer q;
	struct parse parse;
	struct control *ctl;
	bool no_wait;
	unsigned n_errors;
	char first_error[CONTROL_TEXT_MAX];
	char super[SPEC_PATH_MAX];   /* as super_find() wants it */
	char child[SPEC_PATH_MAX];   /* what is added */
	const char **keys, **argv;   /* NULL-terminated, into words */
	char *words;
	uint32_t generation;
};

static void add_free(struct add_job *job)
{
	steer_cancel(&job->q);
	if (job->parse.ctl != NULL)
		parse_cancel(&job->parse);
	free(job->keys);
	free(job->argv);
	free(job->words);
	free(job);
}

static void add_cancel(struct request *r)
{
	add_free((struct add_job *)r);
}

/* Says how it ended; the text is about `about`, unless that is NULL. */
static void add_end(struct add_job *job, int status, const char *about, const char *text)
{
	struct client *cl = job->request.client;

	client_end(cl, status, "%s%s%s", about != NULL ? about : "", about != NULL ? ": " : "", text);
	add_free(job);
}

/* --- to the supervisor --- */

static void add_done(struct steer *q, int status, const char *text)
{
	struct add_job *job = q->ctx;

	if (status == STEER_BROKE) {
		add_end(job, END_FAILED, job->child, text);
	} else if (status != END_OK) {
		add_end(job, status, NULL, text);
	} else {
		frame_text(job->request.client, PROTO_R_TEXT, job->child);
		add_end(job, END_OK, NULL, "");
	}
}

/* Reads the child's path and id out of the image. */
static int read_child(struct add_job *job, int memfd, char id[SPEC_PATH_MAX])
{
	const struct spec_child *child;
	struct spec_image img;

	if (memfd < 0 || spec_open(&img, memfd) < 0) {
		fds_close(&memfd);
		return -1;
	}
	child = spec_first_child(&img, spec_top(&img));
	if (child != NULL) {
		strlcpy(job->child, spec_string(&img, child->path), sizeof(job->child));
		strlcpy(id, spec_string(&img, child->id), SPEC_PATH_MAX);
	}
	spec_close(&img);
	return child != NULL ? 0 : -1;
}

/* Sends the image; the link has it then. */
static void send_add(struct add_job *job, int memfd)
{
	struct super *s = super_find(job->ctl, job->super);
	uint8_t args[SPEC_PATH_MAX + 16];
	char id[SPEC_PATH_MAX];
	struct wire_out w;

	if (read_child(job, dup(memfd), id) < 0) {
		add_end(job, END_FAILED, job->super, "the new child could not be read");
		return;
	}
	wire_out_init(&w, args, sizeof(args));
	wire_put_str(&w, id);
	job->q.done = add_done;
	job->q.ctx = job;
	if (s == NULL || steer_ask(job->ctl, s, &job->q, STEER_ADD, args, w.len, &memfd, 1) < 0) {
		add_end(job, END_FAILED, job->super, s == NULL ? "the supervisor died" : "the supervisor does not answer");
	} else if (job->no_wait) {
		frame_text(job->request.client, PROTO_R_TEXT, job->child);
		add_end(job, END_OK, NULL, "");
	}
}

/* --- parsing --- */

static int load(struct parse *p, int err_fd)
{
	const struct add_job *job = p->ctx;

	return config_load_child(job->super, job->keys, job->argv, job->generation, err_fd);
}

/* Several errors are told one by one, a single one ends the request. */
static void take_error(void *ctx, const char *line)
{
	struct add_job *job = ctx;

	if (job->n_errors++ == 0) {
		strlcpy(job->first_error, line, sizeof(job->first_error));
		return;
	}
	if (job->n_errors == 2)
		frame_text(job->request.client, PROTO_R_ERROR_LINE, job->first_error);
	frame_text(job->request.client, PROTO_R_ERROR_LINE, line);
}

static void parsed(struct parse *p, int memfd, const char *errors, size_t len)
{
	struct add_job *job = p->ctx;

	if (memfd >= 0) {
		send_add(job, memfd);
		close(memfd);
		return;
	}
	parse_lines(errors, len, take_error, job);
	add_end(job, END_CONFIG, NULL, job->n_errors == 1 ? job->first_error : "the child's specification is wrong");
}

/* --- who is meant --- */

static void parent_done(struct steer *q, int status, const char *text)
{
	struct add_job *job = q->ctx;

	(void)text;
	if (status == END_OK)
		add_end(job, END_FAILED, job->super, "not a supervisor");
	else if (status == END_NO_CHILD)
		add_end(job, END_NO_CHILD, job->super, "no such child");
	else
		add_end(job, END_FAILED, job->super, "its supervisor does not answer");
}

/* There is no supervisor of this name: is it a worker, or nothing? */
static void without_super(struct add_job *job)
{
	const struct spec_child *spec = path_valid(job->super) ? spec_find(&job->ctl->n->img, job->super) : NULL;
	uint8_t args[SPEC_PATH_MAX + 16];
	struct super *parent;
	struct wire_out w;
	const char *id;

	if (strcmp(job->super, "/") == 0 || (spec != NULL && spec->type != SPEC_WORKER)) {
		add_end(job, END_FAILED, job->super, "the supervisor is not running");
		return;
	}
	parent = super_of(job->ctl, job->super, &id);
	wire_out_init(&w, args, sizeof(args));
	wire_put_str(&w, id);
	job->q.done = parent_done;
	job->q.ctx = job;
	if (spec != NULL)
		add_end(job, END_FAILED, job->super, "not a supervisor");
	else if (parent == NULL || steer_ask(job->ctl, parent, &job->q, STEER_WHERE, args, w.len, NULL, 0) < 0)
		add_end(job, END_NO_CHILD, job->super, "no such child");
}

/* --- the request --- */

/* Copies strings behind *at, each with its NUL; the list of them ends with NULL. */
static const char **get_words(struct wire_in *w, char **at)
{
	uint32_t n = wire_get_u32(w);
	const char **list;

	if (w->bad || n > (w->len - w->pos) / sizeof(uint32_t)) {
		w->bad = true;
		return NULL;
	}
	list = calloc((size_t)n + 1, sizeof(list[0]));
	for (uint32_t i = 0; i < n && list != NULL; i++) {
		size_t room = w->len - w->pos + 1;

		list[i] = wire_get_str(w, *at, room);
		*at += strlen(*at) + 1;
	}
	return list;
}

static struct add_job *add_create(struct control *c, struct wire_in *w, bool no_wait)
{
	struct add_job *job = calloc(1, sizeof(*job));
	char *at;

	if (job == NULL)
		return NULL;
	job->request.cancel = add_cancel;
	job->request.is_long = true;
	job->ctl = c;
	job->no_wait = no_wait;
	job->generation = c->n->img.h->generation;
	job->words = malloc(w->len + 1); /* a length takes more room than a NUL */
	if (job->words != NULL) {
		at = job->words;
		wire_get_str(w, job->super, sizeof(job->super));
		job->keys = get_words(w, &at);
		job->argv = get_words(w, &at);
	}
	if (job->words == NULL || (!w->bad && (job->keys == NULL || job->argv == NULL))) {
		add_free(job);
		return NULL;
	}
	if (job->super[0] == '\0')
		strlcpy(job->super, "/", sizeof(job->super));
	return job;
}

void add_begin(struct control *c, struct client *cl, struct wire_in *w, bool no_wait)
{
	struct add_job *job = add_create(c, w, no_wait);

	if (job == NULL) {
		client_kill(cl);
		return;
	}
	if (!wire_done(w)) {
		add_free(job);
		client_end(cl, END_USAGE, "the request is malformed");
		return;
	}
	client_wait(cl, &job->request);
	if (super_find(c, job->super) == NULL) {
		without_super(job);
		return;
	}
	job->parse.load = load;
	job->parse.done = parsed;
	job->parse.ctx = job;
	parse_submit(c, &job->parse);
}
