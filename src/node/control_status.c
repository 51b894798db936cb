/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * PROTO_STATUS: asks the supervisors all at once, then tells the tree in order. Hides that they
 * answer one by one, some not at all (a stopped one is shown by what its parent knows of it,
 * and those below it answer for themselves), and that a supervisor tells one status at a time:
 * who asks meanwhile gets the next one, together with everybody else who waits, so that no
 * answer is older than its question.
 *
 * Regime: one block for each status, one for each supervisor's records, bounded; without memory
 * the client is dropped.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "node/control_private.h"

#define ANSWER_MS 1000
#define RECORDS_MAX (8u << 20) /* bytes told by one supervisor */
#define CHILD_MAX (sizeof(struct proto_child) + 128)

struct status_job;

/* What one supervisor says for one status. */
struct collect {
	LIST_ENTRY(collect) entry;
	bool linked;                /* in a round, or waiting for one */
	bool answered, told;
	struct status_job *job;
	char path[SPEC_PATH_MAX];
	int32_t pid;                /* as it said hello */
	bool has_self;
	struct proto_child self;
	uint8_t *records;           /* its children, one encoded after the other */
	size_t len, cap;
};

/* One status being told by one supervisor. */
struct status_round {
	struct steer q;
	struct super *super;
	LIST_HEAD(, collect) members;
};

struct status_job {
	struct request request;     /* first */
	struct control *ctl;
	struct loop_timer late;
	char path[SPEC_PATH_MAX];   /* "/": everything */
	size_t n, n_waiting;
	struct collect collects[];  /* by path */
};

static void round_next(struct super *s);
static void job_tell(struct status_job *job);

/* --- the end --- */

static void collect_unlink(struct collect *cc)
{
	if (cc->linked)
		LIST_REMOVE(cc, entry);
	cc->linked = false;
}

static void job_free(struct status_job *job)
{
	loop_timer_cancel(&job->ctl->loop, &job->late);
	for (size_t i = 0; i < job->n; i++) {
		collect_unlink(&job->collects[i]);
		free(job->collects[i].records);
	}
	free(job);
}

static void job_cancel(struct request *r)
{
	job_free((struct status_job *)r);
}

static void job_late(struct loop_timer *t)
{
	job_tell(t->ctx);
}

/* One supervisor has said all it will. */
static void collect_over(struct collect *cc, bool answered)
{
	struct status_job *job = cc->job;

	collect_unlink(cc);
	cc->answered = answered;
	if (--job->n_waiting == 0)
		job_tell(job);
}

/* --- rounds --- */

static bool keep_records(struct collect *cc, const uint8_t *p, size_t n)
{
	size_t cap = cc->cap > 0 ? cc->cap : 4096;
	uint8_t *buf;

	while (cap < cc->len + n)
		cap *= 2;
	if (cap > RECORDS_MAX)
		return false;
	if (cap > cc->cap) {
		buf = realloc(cc->records, cap);
		if (buf == NULL)
			return false;
		cc->records = buf;
		cc->cap = cap;
	}
	memcpy(cc->records + cc->len, p, n);
	cc->len += n;
	return true;
}

static void round_packet(struct steer *q, uint8_t kind, struct wire_in *w)
{
	struct status_round *round = q->ctx;
	struct proto_child self;
	struct collect *cc;

	if (kind == STEER_SELF) {
		proto_get_child(w, &self);
		LIST_FOREACH(cc, &round->members, entry) {
			cc->self = self;
			cc->has_self = !w->bad;
		}
	} else if (kind == STEER_CHILD) {
		(void)wire_get_u16(w);
		LIST_FOREACH(cc, &round->members, entry)
			if (!w->bad && !keep_records(cc, w->buf + w->pos, w->len - w->pos))
				client_kill(cc->job->request.client);
	}
}

/* Ends a round for all its members, and begins the next. */
static void round_over(struct status_round *round, bool answered)
{
	struct super *s = round->super;
	struct collect *cc;

	s->round = NULL;
	while ((cc = LIST_FIRST(&round->members)) != NULL)
		collect_over(cc, answered);
	free(round);
	round_next(s);
}

static void round_done(struct steer *q, int status, const char *text)
{
	(void)text;
	round_over(q->ctx, status == 0);
}

static void waiting_over(struct super *s)
{
	struct collect *cc;

	while ((cc = LIST_FIRST(&s->waiting)) != NULL)
		collect_over(cc, false);
}

/* Asks on behalf of all who wait, unless an answer is still coming. */
static void round_next(struct super *s)
{
	struct status_round *round;
	struct collect *cc;

	if (s->round != NULL || LIST_EMPTY(&s->waiting))
		return;
	round = calloc(1, sizeof(*round));
	if (round == NULL) {
		waiting_over(s);
		return;
	}
	round->super = s;
	round->q.packet = round_packet;
	round->q.done = round_done;
	round->q.ctx = round;
	LIST_INIT(&round->members);
	if (s->fd < 0 || steer_ask(s->ctl, s, &round->q, STEER_STATUS, NULL, 0, NULL, 0) < 0) {
		free(round);
		waiting_over(s);
		return;
	}
	s->round = round;
	while ((cc = LIST_FIRST(&s->waiting)) != NULL) {
		LIST_REMOVE(cc, entry);
		LIST_INSERT_HEAD(&round->members, cc, entry);
	}
}

/* Its round ended with its link; nobody begins another one. */
void status_super_gone(struct super *s)
{
	waiting_over(s);
}

/* --- telling --- */

static void tell_child(struct status_job *job, const struct proto_child *child)
{
	struct client *cl = job->request.client;
	struct wire_out w;

	if (!frame_begin(cl, &w, PROTO_R_CHILD, CHILD_MAX))
		return;
	proto_put_child(&w, child);
	frame_end(cl, &w);
}

static int collect_cmp(const void *key, const void *member)
{
	return strcmp(key, ((const struct collect *)member)->path);
}

static struct collect *collect_of(struct status_job *job, const char *path)
{
	return bsearch(path, job->collects, job->n, sizeof(job->collects[0]), collect_cmp);
}

/* What only the supervisor itself knows. Whether it is being stopped its parent knows first. */
static void merge_self(struct proto_child *child, const struct collect *cc)
{
	if (!cc->answered || !cc->has_self || child->pid != cc->pid)
		return;
	child->strategy = cc->self.strategy;
	child->auto_shutdown = cc->self.auto_shutdown;
	child->max_restarts = cc->self.max_restarts;
	child->max_seconds = cc->self.max_seconds;
	child->restarts_left = cc->self.restarts_left;
	child->max_children = cc->self.max_children;
	if (child->state == PROTO_ST_RUNNING || child->state == PROTO_ST_STARTING)
		child->state = cc->self.state;
}

/* What its specification says of a child whose supervisor does not run. */
static void from_spec(const struct status_job *job, const struct spec_child *spec, struct proto_child *child)
{
	const struct spec_image *img = &job->ctl->n->img;

	*child = (struct proto_child){
		.type = spec->type,
		.state = PROTO_ST_STOPPED,
		.restart = spec->sup.restart,
		.significant = spec->sup.significant,
		.uptime_ms = -1,
		.shutdown_ms = spec->sup.shutdown_ms,
		.strategy = spec->flags.strategy,
		.auto_shutdown = spec->flags.auto_shutdown,
		.max_restarts = spec->flags.max_restarts,
		.max_seconds = spec->flags.max_seconds,
		.restarts_left = spec->flags.max_restarts,
		.max_children = spec->flags.dynamic ? spec->flags.max_children : SUP_NO_LIMIT,
	};
	strlcpy(child->path, spec_string(img, spec->path), sizeof(child->path));
	if (spec->type == SPEC_WORKER)
		spec_command(img, spec, child->command, sizeof(child->command));
}

/* All that is below a supervisor of the file that does not run. */
static void tell_specs(struct status_job *job, const struct spec_child *above)
{
	const struct spec_image *img = &job->ctl->n->img;
	const struct spec_child *c;
	struct proto_child child;

	for (c = spec_first_child(img, above); c != NULL; c = spec_next_child(img, c)) {
		from_spec(job, c, &child);
		tell_child(job, &child);
		if (c->type != SPEC_WORKER)
			tell_specs(job, c);
	}
}

static bool is_down(const struct proto_child *child)
{
	return child->pid == 0 && (child->state == PROTO_ST_STOPPED || child->state == PROTO_ST_EXITED ||
	    child->state == PROTO_ST_FAILED);
}

static void tell_below(struct status_job *job, struct collect *cc);

static void tell_with_below(struct status_job *job, struct proto_child *child)
{
	struct collect *cc = child->type == SPEC_WORKER ? NULL : collect_of(job, child->path);
	const struct spec_child *spec;

	if (cc != NULL)
		merge_self(child, cc);
	tell_child(job, child);
	if (cc != NULL) {
		tell_below(job, cc);
	} else if (child->type == SPEC_SUPERVISOR && is_down(child)) {
		spec = spec_find(&job->ctl->n->img, child->path);
		if (spec != NULL)
			tell_specs(job, spec);
	}
}

/* Tells whether path is one step below above ("/" is above "app"). */
static bool is_child_of(const char *path, const char *above)
{
	size_t n = strcmp(above, "/") == 0 ? 0 : strlen(above) + 1;

	if (strcmp(path, "/") == 0 || (n > 0 && (strncmp(path, above, n - 1) != 0 || path[n - 1] != '/')))
		return false;
	return strchr(path + n, '/') == NULL;
}

/* A supervisor that its parent did not tell of: the parent does not answer, it does. */
static void tell_orphans(struct status_job *job, const struct collect *parent)
{
	for (size_t i = 0; i < job->n; i++) {
		struct collect *cc = &job->collects[i];
		struct proto_child child = cc->self;

		if (cc->told || !cc->has_self || !cc->answered || !is_child_of(cc->path, parent->path))
			continue;
		strlcpy(child.path, cc->path, sizeof(child.path));
		child.pid = cc->pid;
		tell_with_below(job, &child);
	}
}

/* Its children, and what is below them. Each supervisor once, whatever the records say. */
static void tell_below(struct status_job *job, struct collect *cc)
{
	struct proto_child child;
	struct wire_in w;

	if (cc->told)
		return;
	cc->told = true;
	if (!cc->answered) {
		tell_orphans(job, cc);
		return;
	}
	wire_in_init(&w, cc->records, cc->len);
	while (w.pos < w.len) {
		proto_get_child(&w, &child);
		if (w.bad)
			return;
		tell_with_below(job, &child);
	}
}

/* The top has no parent: if it is silent, its specification must do. */
static void tell_top(struct status_job *job)
{
	const struct spec_child *spec = spec_top(&job->ctl->n->img);
	struct collect *cc = collect_of(job, "/");
	struct proto_child top = {
		.path = "/",
		.type = spec->type,
		.state = job->ctl->state == PROTO_NODE_STOPPING ? PROTO_ST_STOPPING : PROTO_ST_RUNNING,
		.restart = spec->sup.restart,
		.uptime_ms = -1,
		.shutdown_ms = spec->sup.shutdown_ms,
		.strategy = spec->flags.strategy,
		.auto_shutdown = spec->flags.auto_shutdown,
		.max_restarts = spec->flags.max_restarts,
		.max_seconds = spec->flags.max_seconds,
		.restarts_left = spec->flags.max_restarts,
		.max_children = SUP_NO_LIMIT,
	};

	if (cc != NULL) {
		top.pid = cc->pid;
		if (cc->answered && cc->has_self) {
			top = cc->self;
			strlcpy(top.path, "/", sizeof(top.path));
		}
	}
	tell_child(job, &top);
	if (cc != NULL)
		tell_below(job, cc);
}

static void tell_death(void *ctx, const struct proto_death *d)
{
	struct client *cl = ctx;
	struct wire_out w;

	if (!frame_begin(cl, &w, PROTO_R_DEATH, sizeof(*d) + 128))
		return;
	proto_put_death(&w, d);
	frame_end(cl, &w);
}

/* --- one child --- */

static bool find_record(struct collect *cc, const char *path, struct proto_child *child)
{
	struct wire_in w;

	wire_in_init(&w, cc->records, cc->len);
	while (w.pos < w.len) {
		proto_get_child(&w, child);
		if (w.bad)
			return false;
		if (strcmp(child->path, path) == 0)
			return true;
	}
	return false;
}

/* A child of a supervisor that does not run. */
static bool find_spec(struct status_job *job, struct proto_child *child)
{
	const struct spec_child *spec = spec_find(&job->ctl->n->img, job->path);

	if (spec == NULL)
		return false;
	from_spec(job, spec, child);
	return true;
}

/* The child by its own supervisor's word, if it is a supervisor whose parent is silent. */
static bool find_self(struct status_job *job, struct proto_child *child)
{
	struct collect *cc = collect_of(job, job->path);

	if (cc == NULL || !cc->answered || !cc->has_self)
		return false;
	*child = cc->self;
	strlcpy(child->path, cc->path, sizeof(child->path));
	return true;
}

/* The collect of the child's parent: the one that is not the child's own nor below it. */
static struct collect *parent_of(struct status_job *job)
{
	for (size_t i = 0; i < job->n; i++)
		if (is_child_of(job->path, job->collects[i].path))
			return &job->collects[i];
	return NULL;
}

/* 0: found; else the status to end with. */
static int find_child(struct status_job *job, struct proto_child *child)
{
	struct collect *parent = parent_of(job);

	if (parent == NULL)
		return find_spec(job, child) ? END_OK : END_NO_CHILD;
	if (parent->answered)
		return find_record(parent, job->path, child) ? END_OK : END_NO_CHILD;
	return find_self(job, child) ? END_OK : END_FAILED;
}

static int tell_one(struct status_job *job)
{
	struct proto_child child;
	int status = find_child(job, &child);

	if (status != END_OK)
		return status;
	tell_with_below(job, &child);
	history_deaths(&job->ctl->history, job->path, tell_death, job->request.client);
	return END_OK;
}

/* Everybody has answered, or will not. */
static void job_tell(struct status_job *job)
{
	struct client *cl = job->request.client;
	int status = END_OK;

	node_frame(job->ctl, cl);
	if (strcmp(job->path, "/") == 0)
		tell_top(job);
	else
		status = tell_one(job);
	if (status == END_OK)
		client_end(cl, status, "%s", "");
	else
		client_end(cl, status, "%s: %s", job->path,
		    status == END_NO_CHILD ? "no such child" : "its supervisor does not answer");
	job_free(job);
}

/* --- the beginning --- */

static bool is_below(const char *path, const char *above)
{
	size_t n = strlen(above);

	return strncmp(path, above, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

static bool is_wanted(const char *path, const struct super *s)
{
	return strcmp(path, "/") == 0 || is_below(s->path, path) || is_child_of(path, s->path);
}

static struct status_job *job_create(struct control *c, const char *path)
{
	struct status_job *job;
	struct super *s;
	size_t n = 0;

	RB_FOREACH(s, supers, &c->supers)
		n += is_wanted(path, s);
	job = calloc(1, sizeof(*job) + n * sizeof(job->collects[0]));
	if (job == NULL)
		return NULL;
	job->request.cancel = job_cancel;
	job->ctl = c;
	strlcpy(job->path, path, sizeof(job->path));
	RB_FOREACH(s, supers, &c->supers) {
		struct collect *cc = &job->collects[job->n];

		if (!is_wanted(path, s))
			continue;
		cc->job = job;
		cc->pid = s->pid;
		memcpy(cc->path, s->path, sizeof(cc->path));
		LIST_INSERT_HEAD(&s->waiting, cc, entry);
		cc->linked = true;
		job->n++;
	}
	return job;
}

void status_begin(struct control *c, struct client *cl, const char *path)
{
	struct status_job *job;
	struct super *s;

	if (path[0] == '\0')
		path = "/";
	if (strlen(path) >= SPEC_PATH_MAX || (strcmp(path, "/") != 0 && !path_valid(path))) {
		node_frame(c, cl);
		client_end(cl, END_NO_CHILD, "%s: no such child", path);
		return;
	}
	job = job_create(c, path);
	if (job == NULL) {
		client_kill(cl);
		return;
	}
	client_wait(cl, &job->request);
	job->n_waiting = job->n + 1; /* not over before all are asked */
	loop_timer_set(&c->loop, &job->late, c->loop.now_ms + ANSWER_MS, job_late, job);
	RB_FOREACH(s, supers, &c->supers)
		round_next(s);
	if (--job->n_waiting == 0)
		job_tell(job);
}
