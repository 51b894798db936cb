/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Workers that are servers: which shared object or protocol, under which name, with which arguments.
 * `args` is turned into JSON text here, once, so that nobody who starts a worker needs libconfig.
 * What an executable has and a module cannot have is an error, so that nobody relies on it. Parser
 * process.
 */
#include <ctype.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <coppice/process.h>
#include "node/config_private.h"

#define ARGS_MAX (64u << 10) /* bytes of JSON */

/* --- args --- */

static void json_value(struct conf_scope *s, struct conf_buf *b, const config_setting_t *e);

static void json_string(struct conf_buf *b, const char *text)
{
	conf_buf_puts(b, "\"");
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '"' || c == '\\')
			conf_buf_puts(b, conf_printf("\\%c", c));
		else if (c < ' ')
			conf_buf_puts(b, conf_printf("\\u%04x", c));
		else
			conf_buf_add(b, text, 1);
	}
	conf_buf_puts(b, "\"");
}

static void json_number(struct conf_scope *s, struct conf_buf *b, const config_setting_t *e)
{
	double f = config_setting_get_float(e);
	const char *text = conf_printf("%.17g", f);

	if (!isfinite(f))
		conf_error(s->c, e, "`args` has a number that JSON does not have");
	conf_buf_puts(b, text);
	if (!strpbrk(text, ".e"))
		conf_buf_puts(b, ".0"); /* it stays a number with a fraction */
}

static void json_members(struct conf_scope *s, struct conf_buf *b, const config_setting_t *g)
{
	int i, n = config_setting_length(g);
	bool object = config_setting_is_group(g);

	conf_buf_puts(b, object ? "{" : "[");
	for (i = 0; i < n; i++) {
		const config_setting_t *e = config_setting_get_elem(g, (unsigned)i);

		if (i > 0)
			conf_buf_puts(b, ",");
		if (object) {
			json_string(b, config_setting_name(e));
			conf_buf_puts(b, ":");
		}
		json_value(s, b, e);
	}
	conf_buf_puts(b, object ? "}" : "]");
}

/* libconfig's own limits bound the depth. */
static void json_value(struct conf_scope *s, struct conf_buf *b, const config_setting_t *e)
{
	switch (config_setting_type(e)) {
	case CONFIG_TYPE_INT:
	case CONFIG_TYPE_INT64:
		conf_buf_puts(b, conf_printf("%lld", (long long)conf_int(e)));
		break;
	case CONFIG_TYPE_FLOAT:
		json_number(s, b, e);
		break;
	case CONFIG_TYPE_BOOL:
		conf_buf_puts(b, config_setting_get_bool(e) ? "true" : "false");
		break;
	case CONFIG_TYPE_STRING:
		json_string(b, conf_expand(s, config_setting_get_string(e)));
		break;
	default:
		json_members(s, b, e);
		break;
	}
}

static void args(struct conf_scope *s)
{
	const config_setting_t *at = conf_get(s->g, "args");
	struct conf_buf b = { 0 };

	if (!at)
		return;
	json_value(s, &b, at);
	if (b.len > ARGS_MAX)
		conf_error(s->c, at, "`args` is %zu bytes long as JSON; at most %u are possible", b.len, ARGS_MAX);
	s->spec.worker.args = conf_image_str(&s->c->img, b.data);
}

/* --- name --- */

static bool is_name(const char *name)
{
	size_t i;

	for (i = 0; name[i]; i++)
		if ((unsigned char)name[i] < ' ' || name[i] == 127)
			return false;
	return i > 0 && i < COP_NAME_MAX;
}

static void name(struct conf_scope *s)
{
	const config_setting_t *at = conf_get(s->g, "name");
	const struct conf_pos *first;
	const char *text;

	if (!at)
		return;
	text = conf_expand(s, config_setting_get_string(at));
	if (!is_name(text)) {
		conf_error(s->c, at, "`name` is \"%s\"; it must be 1 to %d bytes without control characters", text,
		    COP_NAME_MAX - 1);
		return;
	}
	first = conf_map_put(s->c->names, text, conf_pos(at));
	if (first && s->instance >= 0 && strcmp(text, config_setting_get_string(at)) == 0)
		conf_error(s->c, at, "all instances have the name \"%s\"; put %%i in it", text);
	else if (first)
		conf_error(s->c, at, "duplicate name \"%s\"; the first is in %s", text,
		    conf_place(s->c, conf_pos(at), *first));
	s->spec.worker.name = conf_image_str(&s->c->img, text);
}

/* --- modules --- */

/* What belongs to executables. */
static const struct { const char *key, *why; } not_for_modules[] = {
	{ "user", "a module runs within the node, as the node's user" },
	{ "group", "a module runs within the node, as the node's user" },
	{ "groups", "a module runs within the node, as the node's user" },
	{ "ready", "a module is ready when its init has answered" },
	{ "watchdog", "a module has none" },
	{ "stop_signal", "a module is stopped by the exit signal `shutdown`" },
	{ "success", "a module says itself how it ended" },
};

static void refuse_others(struct conf_scope *s)
{
	size_t i;

	for (i = 0; i < sizeof not_for_modules / sizeof not_for_modules[0]; i++)
		if (conf_get(s->g, not_for_modules[i].key))
			conf_error(s->c, conf_get(s->g, not_for_modules[i].key), "`%s` is for executables: %s",
			    not_for_modules[i].key, not_for_modules[i].why);
}

/* A relative name is beside the configuration, wherever the node was started. */
static const char *module_path(struct conf_scope *s, const char *path)
{
	const char *dir = s->c->home;

	if (path[0] == '/' || !dir)
		return path;
	return conf_printf("%s/%s", strcmp(dir, "/") == 0 ? "" : dir, path);
}

static bool is_symbol(const char *text)
{
	size_t i;

	if (!isalpha((unsigned char)text[0]) && text[0] != '_')
		return false;
	for (i = 1; isalnum((unsigned char)text[i]) || text[i] == '_'; i++)
		;
	return text[i] == '\0';
}

static void module_server(struct conf_scope *s)
{
	const config_setting_t *at = conf_get(s->g, "module"), *server = conf_get(s->g, "server");
	struct spec_worker *w = &s->spec.worker;
	const char *path;

	if (conf_has(s->g, "exec"))
		conf_error(s->c, at, "`module` and `exec` exclude each other");
	if (!conf_has(s->g, "server"))
		conf_error(s->c, at, "`module` needs `server`: the name of a struct cop_server_ops in it");
	else if (server && !is_symbol(config_setting_get_string(server)))
		conf_error(s->c, server, "`server` is \"%s\"; with `module` it must be the name of a struct cop_server_ops "
		    "in it", config_setting_get_string(server));
	refuse_others(s);
	path = module_path(s, conf_expand(s, config_setting_get_string(at)));
	if (!conf_path_ok(s->c, at, "`module`", path, PATH_MAX))
		return;
	w->server = SPEC_SERVER_MODULE;
	w->ready = SPEC_READY_INIT;
	w->module = conf_image_str(&s->c->img, path);
	w->symbol = conf_image_str(&s->c->img, server ? config_setting_get_string(server) : "");
	args(s);
}

/* --- executables --- */

static void json_server(struct conf_scope *s, const config_setting_t *server)
{
	if (strcmp(config_setting_get_string(server), "json") != 0) {
		conf_error(s->c, server, "`server` is \"%s\"; of an executable it must be \"json\"",
		    config_setting_get_string(server));
		return;
	}
#ifndef HAVE_JANSSON
	conf_error(s->c, server, "JSON servers are not built into this coppice (configure --with-jansson)");
#endif
	s->spec.worker.server = SPEC_SERVER_JSON;
}

void conf_server(struct conf_scope *s)
{
	const config_setting_t *server = conf_get(s->g, "server");

	if (conf_get(s->g, "module"))
		module_server(s);
	else if (server && !conf_has(s->g, "module"))
		json_server(s, server);
	if (conf_get(s->g, "args") && !conf_has(s->g, "module"))
		conf_error(s->c, conf_get(s->g, "args"), "`args` is for modules; an executable has its arguments in `exec`");
	if (conf_get(s->g, "name") && !conf_has(s->g, "server"))
		conf_error(s->c, conf_get(s->g, "name"), "`name` is for servers: it needs `server`");
	else
		name(s);
}
