/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The records of the control protocol as bytes. Hides the order of the fields; both directions
 * of one record stand next to each other so that they are changed together. Used by every
 * process of a node and by the command.
 *
 * Regime: never allocates. What is decoded is the peer's: every number that names something is
 * checked against its range, every text against the room for it.
 */
#include "node/proto.h"

#include <string.h>

const char *proto_state_name(uint8_t state)
{
	static const char *const names[] = {
		[PROTO_ST_STARTING] = "starting",
		[PROTO_ST_RUNNING] = "running",
		[PROTO_ST_STOPPING] = "stopping",
		[PROTO_ST_BACKOFF] = "backoff",
		[PROTO_ST_STOPPED] = "stopped",
		[PROTO_ST_EXITED] = "exited",
		[PROTO_ST_FAILED] = "failed",
	};

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

const char *proto_node_state_name(uint8_t state)
{
	static const char *const names[] = {
		[PROTO_NODE_STARTING] = "starting",
		[PROTO_NODE_RUNNING] = "running",
		[PROTO_NODE_STOPPING] = "stopping",
	};

	return state < sizeof(names) / sizeof(names[0]) ? names[state] : "unknown";
}

/* Reads a number that must not be above max. */
static uint8_t get_enum(struct wire_in *w, uint8_t max)
{
	uint8_t v = wire_get_u8(w);

	if (v > max) {
		w->bad = true;
		return 0;
	}
	return v;
}

void proto_put_exit(struct wire_out *w, const struct cop_exit *e)
{
	wire_put_u8(w, e->kind);
	wire_put_u8(w, e->core);
	wire_put_i32(w, e->value);
	wire_put_str(w, e->text);
}

void proto_get_exit(struct wire_in *w, struct cop_exit *e)
{
	memset(e, 0, sizeof(*e));
	e->kind = get_enum(w, COP_EXIT_OTHER);
	e->core = get_enum(w, 1);
	e->value = wire_get_i32(w);
	wire_get_str(w, e->text, sizeof(e->text));
}

void proto_put_node(struct wire_out *w, const struct proto_node *n)
{
	wire_put_str(w, n->node);
	wire_put_i32(w, n->pid);
	wire_put_str(w, n->version);
	wire_put_u8(w, n->state);
	wire_put_i64(w, n->uptime_ms);
	wire_put_str(w, n->file);
}

void proto_get_node(struct wire_in *w, struct proto_node *n)
{
	memset(n, 0, sizeof(*n));
	wire_get_str(w, n->node, sizeof(n->node));
	n->pid = wire_get_i32(w);
	wire_get_str(w, n->version, sizeof(n->version));
	n->state = get_enum(w, PROTO_NODE_STOPPING);
	n->uptime_ms = wire_get_i64(w);
	wire_get_str(w, n->file, sizeof(n->file));
}

void proto_put_child(struct wire_out *w, const struct proto_child *c)
{
	wire_put_str(w, c->path);
	wire_put_u8(w, c->type);
	wire_put_u8(w, c->state);
	wire_put_u8(w, c->restart);
	wire_put_u8(w, c->significant);
	wire_put_u8(w, c->has_last_exit);
	wire_put_u8(w, c->dynamic);
	wire_put_i32(w, c->pid);
	wire_put_u32(w, c->restarts);
	wire_put_i64(w, c->uptime_ms);
	wire_put_i32(w, c->shutdown_ms);
	proto_put_exit(w, &c->last_exit);
	wire_put_str(w, c->status_text);
	wire_put_str(w, c->command);
	wire_put_u8(w, c->strategy);
	wire_put_u8(w, c->auto_shutdown);
	wire_put_u32(w, c->max_restarts);
	wire_put_u32(w, c->max_seconds);
	wire_put_u32(w, c->restarts_left);
	wire_put_u32(w, c->max_children);
	wire_put_u32(w, c->order);
}

void proto_get_child(struct wire_in *w, struct proto_child *c)
{
	wire_get_str(w, c->path, sizeof(c->path));
	c->type = get_enum(w, SPEC_DYNAMIC_SUPERVISOR);
	c->state = get_enum(w, PROTO_ST_FAILED);
	c->restart = get_enum(w, SUP_TEMPORARY);
	c->significant = get_enum(w, 1);
	c->has_last_exit = get_enum(w, 1);
	c->dynamic = get_enum(w, 1);
	c->pid = wire_get_i32(w);
	c->restarts = wire_get_u32(w);
	c->uptime_ms = wire_get_i64(w);
	c->shutdown_ms = wire_get_i32(w);
	proto_get_exit(w, &c->last_exit);
	wire_get_str(w, c->status_text, sizeof(c->status_text));
	wire_get_str(w, c->command, sizeof(c->command));
	c->strategy = get_enum(w, SUP_REST_FOR_ONE);
	c->auto_shutdown = get_enum(w, SUP_AUTO_ALL_SIGNIFICANT);
	c->max_restarts = wire_get_u32(w);
	c->max_seconds = wire_get_u32(w);
	c->restarts_left = wire_get_u32(w);
	c->max_children = wire_get_u32(w);
	c->order = wire_get_u32(w);
}

void proto_put_death(struct wire_out *w, const struct proto_death *d)
{
	wire_put_str(w, d->path);
	wire_put_i64(w, d->time_us);
	wire_put_i32(w, d->pid);
	wire_put_u64(w, d->ran_ms);
	wire_put_u8(w, d->asked);
	proto_put_exit(w, &d->reason);
	wire_put_str(w, d->restarted);
	wire_put_str(w, d->lines);
}

void proto_get_death(struct wire_in *w, struct proto_death *d)
{
	memset(d, 0, sizeof(*d));
	wire_get_str(w, d->path, sizeof(d->path));
	d->time_us = wire_get_i64(w);
	d->pid = wire_get_i32(w);
	d->ran_ms = wire_get_u64(w);
	d->asked = get_enum(w, 1);
	proto_get_exit(w, &d->reason);
	wire_get_str(w, d->restarted, sizeof(d->restarted));
	wire_get_str(w, d->lines, sizeof(d->lines));
}

void proto_put_keep_log(struct wire_out *w, const struct proto_keep_log *k)
{
	wire_put_str(w, k->path);
	wire_put_str(w, k->dir);
	wire_put_u64(w, k->max_bytes);
	wire_put_u32(w, k->max_files);
	wire_put_u8(w, k->timestamps);
	wire_put_str(w, k->regex);
}

void proto_get_keep_log(struct wire_in *w, struct proto_keep_log *k)
{
	memset(k, 0, sizeof(*k));
	wire_get_str(w, k->path, sizeof(k->path));
	wire_get_str(w, k->dir, sizeof(k->dir));
	k->max_bytes = wire_get_u64(w);
	k->max_files = wire_get_u32(w);
	k->timestamps = get_enum(w, 1);
	wire_get_str(w, k->regex, sizeof(k->regex));
}
