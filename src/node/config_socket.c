/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Listening sockets of the node: addresses are numeric and brought into one form, so that equal
 * addresses are one socket, which all workers that name it share. Parser process.
 */
#include <arpa/inet.h>
#include <stdalign.h>
#include <string.h>
#include <sys/un.h>

#include "base/text.h"
#include "node/config_private.h"
#include "node/node.h"

#define NAME_MAX_BYTES 255
#define MODE_DEFAULT 0600

struct conf_listen {
	const char *key, *name, *addr;
	uint8_t kind;
	uint32_t mode, port;
	struct conf_pos pos;
};

const char *conf_listen_key(const struct conf_listen *l, uint32_t i)
{
	return l[i].key;
}

const char *conf_listen_name(const struct conf_listen *l, uint32_t i)
{
	return l[i].name;
}

uint32_t conf_listen_mode(const struct conf_listen *l, uint32_t i)
{
	return l[i].mode;
}

/* --- addresses --- */

/* A numeric address in its shortest form, "" for any; NULL if it is none. */
static const char *numeric(const char *addr)
{
	char buf[INET6_ADDRSTRLEN];
	unsigned char bin[sizeof(struct in6_addr)];
	size_t len = strlen(addr);

	if (len == 0 || strcmp(addr, "*") == 0)
		return "";
	if (inet_pton(AF_INET, addr, bin) == 1)
		return conf_strdup(inet_ntop(AF_INET, bin, buf, sizeof buf));
	if (addr[0] == '[' && addr[len - 1] == ']')
		addr = conf_printf("%.*s", (int)len - 2, addr + 1);
	if (inet_pton(AF_INET6, addr, bin) == 1)
		return conf_strdup(inet_ntop(AF_INET6, bin, buf, sizeof buf));
	return NULL;
}

static bool inet_address(struct conf *c, const config_setting_t *at, const char *listen, struct conf_listen *l)
{
	const char *colon = strrchr(listen + 4, ':'), *addr;
	int64_t port;

	if (!colon) {
		conf_error(c, at, "`listen` is \"%s\"; it must be \"%.3s:ADDR:PORT\"", listen, listen);
		return false;
	}
	addr = conf_printf("%.*s", (int)(colon - listen - 4), listen + 4);
	l->addr = numeric(addr);
	if (!l->addr)
		conf_error(c, at, "`listen`: \"%s\" is no address; write one in numbers, or nothing (or *) for any",
		    addr);
	if (text_to_i64(colon + 1, 1, 65535, &port) < 0) {
		conf_error(c, at, "`listen`: the port is \"%s\"; it must be from 1 to 65535", colon + 1);
		return false;
	}
	l->port = (uint32_t)port;
	l->kind = (uint8_t)listen[0];
	if (l->addr)
		l->key = conf_printf(strchr(l->addr, ':') ? "%.3s:[%s]:%u" : "%.3s:%s:%u", listen, l->addr, l->port);
	return l->addr != NULL;
}

static bool unix_address(struct conf *c, const config_setting_t *at, const char *listen, struct conf_listen *l)
{
	struct sockaddr_un sun;

	l->addr = listen + strlen("unix:");
	l->key = listen;
	l->kind = 'x';
	return conf_path_ok(c, at, "the path of `listen`", l->addr, sizeof sun.sun_path);
}

static bool address(struct conf *c, const config_setting_t *at, const char *listen, struct conf_listen *l)
{
	if (strncmp(listen, "tcp:", 4) == 0 || strncmp(listen, "udp:", 4) == 0)
		return inet_address(c, at, listen, l);
	if (strncmp(listen, "unix:", 5) == 0)
		return unix_address(c, at, listen, l);
	conf_error(c, at, "`listen` is \"%s\"; it must be \"tcp:ADDR:PORT\", \"udp:ADDR:PORT\" or \"unix:PATH\"",
	    listen);
	return false;
}

/* --- names and modes --- */

/* LISTEN_FDNAMES is a list with colons. */
static bool name_ok(struct conf *c, const config_setting_t *at, const char *name)
{
	const char *p;

	for (p = name; *p > ' ' && *p < 0x7f && *p != ':'; p++)
		;
	if (*p == '\0' && p > name && p - name <= NAME_MAX_BYTES)
		return true;
	conf_error(c, at, "the name of a socket is \"%s\"; it must be 1 to %d printable ASCII characters without "
	    "blanks and colons", name, NAME_MAX_BYTES);
	return false;
}

static bool mode(struct conf *c, const config_setting_t *g, struct conf_listen *l)
{
	int m = conf_get_octal(c, g, "mode", MODE_DEFAULT);

	l->mode = m < 0 ? MODE_DEFAULT : (uint32_t)m;
	if (conf_get(g, "mode") && (l->kind == 't' || l->kind == 'u')) {
		conf_error(c, conf_get(g, "mode"), "`mode` belongs to unix: sockets only");
		return false;
	}
	return m >= 0;
}

/* Without a name of its own a socket has the name of the child, the number of an instance left out. */
static const char *default_name(const struct conf_scope *s)
{
	const char *at = strrchr(s->id, '@');

	return s->instance >= 0 && at ? conf_printf("%.*s", (int)(at - s->id), s->id) : s->id;
}

/* --- the table --- */

static bool same(struct conf *c, const struct conf_listen *old, const struct conf_listen *l)
{
	if (strcmp(old->name, l->name) == 0 && old->mode == l->mode)
		return true;
	conf_error_pos(c, l->pos, "%s is also listened on in %s, with %s; who share a socket must give the same",
	    l->key, conf_place(c, l->pos, old->pos), old->mode == l->mode ?
	    conf_printf("the name \"%s\", not \"%s\"", old->name, l->name) :
	    conf_printf("mode %04o, not %04o", old->mode, l->mode));
	return false;
}

/* The index of a socket; -1 after an error. */
static int enter(struct conf *c, const struct conf_listen *l)
{
	size_t i;

	for (i = 0; i < c->n_listens; i++)
		if (strcmp(c->listens[i].key, l->key) == 0)
			return same(c, &c->listens[i], l) ? (int)i : -1;
	if (c->n_listens == NODE_SOCKETS_MAX) {
		conf_error_pos(c, l->pos, "more than %d listening sockets", NODE_SOCKETS_MAX);
		return -1;
	}
	c->listens = conf_realloc(c->listens, (c->n_listens + 1) * sizeof(*c->listens));
	c->listens[c->n_listens] = *l;
	return (int)c->n_listens++;
}

/* Returns its index, or -1 after an error. */
static int one_socket(struct conf_scope *s, config_setting_t *g)
{
	struct conf_listen l = { .pos = conf_pos(g) };
	const config_setting_t *at;
	const char *name;
	bool ok;

	conf_keys_check(s->c, g, WHERE_SOCKET);
	at = conf_get(g, "listen");
	name = conf_get_str(g, "name");
	l.name = name ? conf_expand(s, name) : default_name(s);
	if (!conf_has(g, "listen"))
		conf_error(s->c, g, "a socket needs `listen = \"tcp:ADDR:PORT\"`, \"udp:ADDR:PORT\" or \"unix:PATH\"");
	if (!at)
		return -1;
	ok = !name || name_ok(s->c, conf_get(g, "name"), l.name);
	ok = address(s->c, at, conf_expand(s, config_setting_get_string(at)), &l) && ok;
	ok = mode(s->c, g, &l) && ok;
	return ok ? enter(s->c, &l) : -1;
}

static bool contains(const struct conf_vec *v, uint32_t n)
{
	size_t i;

	for (i = 0; i < v->n; i++)
		if (v->v[i] == n)
			return true;
	return false;
}

void conf_sockets(struct conf_scope *s)
{
	const config_setting_t *list = conf_get(s->g, "sockets");
	int i, r, n = list ? config_setting_length(list) : 0;
	struct conf_vec v = { 0 };

	for (i = 0; i < n; i++) {
		config_setting_t *g = config_setting_get_elem(list, (unsigned)i);

		r = conf_is_marked(g) ? -1 : one_socket(s, g);
		if (r >= 0 && contains(&v, (uint32_t)r))
			conf_error(s->c, g, "%s stands twice in `sockets`", s->c->listens[r].key);
		else if (r >= 0)
			conf_vec_add(&v, (uint32_t)r);
	}
	s->spec.worker.sockets = conf_image_list(&s->c->img, &v);
}

uint32_t conf_sockets_write(struct conf *c)
{
	struct conf_image *img = &c->img;
	uint32_t off, i;

	off = conf_image_reserve(img, c->n_listens * sizeof(struct spec_socket), alignof(struct spec_socket));
	for (i = 0; i < c->n_listens && !img->full; i++) {
		const struct conf_listen *l = &c->listens[i];
		struct spec_socket sock = { .kind = l->kind, .mode = l->mode, .port = l->port };

		sock.key = conf_image_str(img, l->key);
		sock.name = conf_image_str(img, l->name);
		sock.addr = conf_image_str(img, l->addr);
		if (!img->full)
			memcpy(conf_image_at(img, off + i * (uint32_t)sizeof sock), &sock, sizeof sock);
	}
	return off;
}
