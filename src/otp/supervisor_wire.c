/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Child specifications: judging them, and carrying them to a supervisor in another process, subtrees
 * included. Functions go as addresses: both processes were forked from one. What arrives is checked for
 * sense and for addresses that belong to a program or library. Pure, but for the memory it makes.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <coppice/registry.h>

#include "base/wire.h"
#include "otp/supervisor_private.h"

#define DEPTH_MAX 16
#define CHILDREN_MAX 100000u

/* --- judging --- */

const char *supervisor_child_fault(const struct cop_child *c, const struct cop_supervisor *of)
{
	int kinds = (c->server != NULL) + (c->run != NULL) + (c->supervisor != NULL) + (c->exec != NULL);

	if (!c->id || !c->id[0])
		return "missing_id";
	if (strlen(c->id) > SUPERVISOR_ID_MAX)
		return "invalid_id";
	if (kinds == 0)
		return "missing_start";
	if (kinds != 1 || (c->exec && !c->exec[0]))
		return "invalid_start";
	if (c->restart > COP_TEMPORARY)
		return "invalid_restart_type";
	if (c->shutdown_ms < COP_SHUTDOWN_AT_ONCE)
		return "invalid_shutdown";
	if (c->significant && (c->restart == COP_PERMANENT || of->auto_shutdown == COP_AUTO_NEVER))
		return of->dynamic ? "invalid_significant" : "bad_combination";
	return NULL; /* a nested supervisor judges its own */
}

static int by_id(const void *a, const void *b)
{
	return strcmp((*(const struct cop_child *const *)a)->id, (*(const struct cop_child *const *)b)->id);
}

static bool ids_repeat(const struct cop_supervisor *s)
{
	const struct cop_child **c = malloc(s->n_children * sizeof *c);
	bool repeat = false;
	size_t i;

	if (!c)
		return false; /* without memory the start fails anyway */
	for (i = 0; i < s->n_children; i++)
		c[i] = &s->children[i];
	qsort(c, s->n_children, sizeof *c, by_id);
	for (i = 1; i < s->n_children; i++)
		repeat |= strcmp(c[i - 1]->id, c[i]->id) == 0;
	free(c);
	return repeat;
}

const char *supervisor_flags_fault(const struct cop_supervisor *s)
{
	if (s->strategy > COP_REST_FOR_ONE || (s->dynamic && s->strategy != COP_ONE_FOR_ONE))
		return "invalid_strategy";
	if (s->max_restarts < COP_NOT_ONE)
		return "invalid_intensity";
	if (s->max_seconds < 0)
		return "invalid_period";
	if (s->auto_shutdown > COP_AUTO_ALL_SIGNIFICANT || (s->dynamic && s->auto_shutdown != COP_AUTO_NEVER))
		return "invalid_auto_shutdown";
	if (s->max_children < COP_NOT_ONE)
		return "invalid_max_children";
	return partition_fault(s);
}

const char *supervisor_children_fault(const struct cop_supervisor *s)
{
	const char *fault;
	size_t i;

	if (s->dynamic)
		return s->n_children ? "bad_start_spec" : NULL;
	for (i = 0; i < s->n_children; i++) {
		fault = supervisor_child_fault(&s->children[i], s);
		if (fault)
			return fault;
	}
	return s->n_children > 1 && ids_repeat(s) ? "duplicate_child_name" : NULL;
}

/* --- writing --- */

static void put_child(struct wire_out *w, const struct cop_child *c, int depth);

static void put_supervisor(struct wire_out *w, const struct cop_supervisor *s, int depth)
{
	size_t i;

	wire_put_u8(w, s->name != NULL);
	wire_put_str(w, s->name);
	wire_put_u8(w, s->strategy);
	wire_put_u8(w, s->auto_shutdown);
	wire_put_u8(w, s->dynamic);
	wire_put_i32(w, s->max_restarts);
	wire_put_i32(w, s->max_seconds);
	wire_put_i32(w, s->max_children);
	wire_put_i32(w, s->partitions);
	wire_put_u32(w, s->dynamic ? 0 : (uint32_t)s->n_children);
	for (i = 0; i < s->n_children && !s->dynamic; i++)
		put_child(w, &s->children[i], depth + 1);
}

static void put_exec(struct wire_out *w, const char *const *exec)
{
	uint32_t n = 0, i;

	while (exec[n])
		n++;
	wire_put_u32(w, n);
	for (i = 0; i < n; i++)
		wire_put_str(w, exec[i]);
}

static void put_term(struct wire_out *w, const struct cop_term *t)
{
	wire_put_u8(w, t->type);
	wire_put_u64(w, t->type == COP_TERM_PID ? t->pid.id : (uint64_t)t->number);
	wire_put_bytes(w, t->type == COP_TERM_BYTES && t->len ? t->data : "", t->type == COP_TERM_BYTES ? t->len : 0);
}

static void put_via(struct wire_out *w, const struct cop_via *via)
{
	wire_put_u8(w, via != NULL);
	if (!via)
		return;
	wire_put_str(w, via->registry);
	put_term(w, &via->key);
	put_term(w, &via->value);
}

static void put_child(struct wire_out *w, const struct cop_child *c, int depth)
{
	if (depth > DEPTH_MAX) {
		w->overflow = true;
		return;
	}
	wire_put_str(w, c->id);
	wire_put_u8(w, c->name != NULL);
	wire_put_str(w, c->name);
	wire_put_u8(w, c->restart);
	wire_put_u8(w, c->significant);
	wire_put_i32(w, c->shutdown_ms);
	wire_put_u64(w, (uintptr_t)c->server);
	wire_put_u64(w, (uintptr_t)c->run);
	wire_put_bytes(w, c->arg ? c->arg : "", c->arg ? c->arg_size : 0);
	wire_put_u8(w, c->arg != NULL);
	put_via(w, c->via);
	wire_put_u8(w, (uint8_t)(c->supervisor ? 1 : c->exec ? 2 : 0));
	if (c->supervisor)
		put_supervisor(w, c->supervisor, depth);
	else if (c->exec)
		put_exec(w, c->exec);
}

size_t supervisor_pack(const struct cop_child *child, void *buf, size_t size)
{
	struct wire_out w;

	wire_out_init(&w, buf, size);
	put_child(&w, child, 0);
	return w.overflow ? 0 : w.len;
}

/* --- reading: into one block, from its front --- */

struct reader {
	struct wire_in in;
	char *at, *end;
	bool full;
};

static void *make(struct reader *r, size_t size)
{
	char *p = r->at;

	size = (size + 15) & ~(size_t)15;
	if (r->full || size > (size_t)(r->end - r->at)) {
		r->full = true;
		return NULL;
	}
	r->at += size;
	return memset(p, 0, size);
}

static void *get_bytes(struct reader *r, size_t *len_r)
{
	const void *from;
	char *to;

	*len_r = wire_get_bytes(&r->in, &from);
	to = make(r, *len_r + 1);
	if (to && *len_r)
		memcpy(to, from, *len_r);
	return to;
}

static const char *get_string(struct reader *r)
{
	size_t len;

	return get_bytes(r, &len);
}

static bool is_known(uint64_t address)
{
	Dl_info info;

	return address == 0 || dladdr((void *)(uintptr_t)address, &info) != 0;
}

static void get_child(struct reader *r, struct cop_child *c, int depth);

static const struct cop_supervisor *get_supervisor(struct reader *r, int depth)
{
	struct cop_supervisor *s = make(r, sizeof *s);
	struct cop_child *children;
	const char *name;
	uint32_t i, n;
	bool named;

	if (!s)
		return NULL;
	named = wire_get_u8(&r->in);
	name = get_string(r);
	s->name = named ? name : NULL;
	s->strategy = wire_get_u8(&r->in);
	s->auto_shutdown = wire_get_u8(&r->in);
	s->dynamic = wire_get_u8(&r->in);
	s->max_restarts = wire_get_i32(&r->in);
	s->max_seconds = wire_get_i32(&r->in);
	s->max_children = wire_get_i32(&r->in);
	s->partitions = wire_get_i32(&r->in);
	n = wire_get_u32(&r->in);
	if (n > CHILDREN_MAX || r->in.bad) {
		r->in.bad = true;
		return NULL;
	}
	children = make(r, n * sizeof *children);
	for (i = 0; i < n && children && !r->in.bad; i++)
		get_child(r, &children[i], depth + 1);
	s->children = children;
	s->n_children = n;
	return s;
}

static const char *const *get_exec(struct reader *r)
{
	uint32_t n = wire_get_u32(&r->in), i;
	const char **exec;

	if (n > CHILDREN_MAX || r->in.bad) {
		r->in.bad = true;
		return NULL;
	}
	exec = make(r, (n + 1) * sizeof *exec);
	for (i = 0; i < n && exec; i++)
		exec[i] = get_string(r);
	return exec;
}

static struct cop_term get_term(struct reader *r)
{
	struct cop_term t = { .type = wire_get_u8(&r->in) };
	uint64_t number = wire_get_u64(&r->in);

	t.number = (int64_t)number;
	t.pid.id = number;
	t.data = get_bytes(r, &t.len);
	r->in.bad |= t.type > COP_TERM_BYTES;
	return t;
}

static const struct cop_via *get_via(struct reader *r)
{
	struct cop_via *via;

	if (!wire_get_u8(&r->in))
		return NULL;
	via = make(r, sizeof *via);
	if (!via)
		return NULL;
	via->registry = get_string(r);
	via->key = get_term(r);
	via->value = get_term(r);
	return via;
}

static void get_child(struct reader *r, struct cop_child *c, int depth)
{
	uint64_t server, run;
	const char *name;
	bool named;
	uint8_t kind;

	if (depth > DEPTH_MAX) {
		r->in.bad = true;
		return;
	}
	c->id = get_string(r);
	named = wire_get_u8(&r->in);
	name = get_string(r);
	c->name = named ? name : NULL;
	c->restart = wire_get_u8(&r->in);
	c->significant = wire_get_u8(&r->in);
	c->shutdown_ms = wire_get_i32(&r->in);
	server = wire_get_u64(&r->in);
	run = wire_get_u64(&r->in);
	c->arg = get_bytes(r, &c->arg_size);
	if (!wire_get_u8(&r->in))
		c->arg = NULL;
	c->via = get_via(r);
	kind = wire_get_u8(&r->in);
	if (r->in.bad || !is_known(server) || !is_known(run)) {
		r->in.bad = true;
		return;
	}
	c->server = (const struct cop_server_ops *)(uintptr_t)server;
	c->run = (cop_proc_f *)(uintptr_t)run;
	if (kind == 1)
		c->supervisor = get_supervisor(r, depth);
	else if (kind == 2)
		c->exec = get_exec(r);
}

static struct cop_child *unpack(const void *buf, size_t len, size_t room, size_t *used_r)
{
	struct reader r = { .full = false };
	struct cop_child *c = malloc(room);

	if (!c) {
		errno = ENOMEM;
		return NULL;
	}
	r.at = (char *)c;
	r.end = r.at + room;
	wire_in_init(&r.in, buf, len);
	(void)make(&r, sizeof *c);
	get_child(&r, c, 0);
	if (r.full || !wire_done(&r.in)) {
		free(c);
		errno = EBADMSG;
		return NULL;
	}
	*used_r = (size_t)(r.at - (char *)c);
	return c;
}

struct cop_child *supervisor_unpack(const void *buf, size_t len)
{
	size_t used;

	return unpack(buf, len, sizeof(struct cop_child) + 24 * len + 4096, &used); /* a byte becomes no more */
}
