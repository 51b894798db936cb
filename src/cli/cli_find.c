/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Finding a node's control socket (cli_find.h) and refusing one that somebody else put there: the
 * directory must belong to this user or root and be writable by nobody else, and the listener must
 * run as one of them. Root may name a socket in another user's directory; then that user's node
 * is believed, and nobody else's. Runs in the command's process.
 */
#include "cli/cli_find.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fds.h"
#include "base/text.h"
#include "cli/cli_call.h"
#include "node/node.h"

#define NO_OWNER ((uid_t)-1)
#define NAMES_MAX 512 /* bytes of the list of nodes in a message */

/* The user whom the directory of path belongs to, if nobody else can write there. */
static uid_t owner_of_dir(const char *path)
{
	const char *slash = strrchr(path, '/');
	char dir[NODE_PATH_MAX] = ".";
	struct stat st;

	if (slash)
		snprintf(dir, sizeof dir, "%.*s", slash == path ? 1 : (int)(slash - path), path);
	if (stat(dir, &st) < 0 || !S_ISDIR(st.st_mode) || (st.st_mode & (S_IWGRP | S_IWOTH)))
		return NO_OWNER;
	return st.st_uid;
}

/* Says why path could not be connected to. */
static int say_connect(const struct cli_args *a, const char *path)
{
	char esc[256];

	if (errno == ETIMEDOUT)
		return call_say_errno(a, ETIMEDOUT);
	if (errno != ENOENT && errno != ECONNREFUSED && errno != ENOTDIR) {
		diag_error_errno("unable to connect to %s", text_escape(path, strlen(path), esc, sizeof esc));
		return CLI_FAILED;
	}
	if (a->node)
		diag_error("node %s is not running", a->node);
	else
		diag_error("no node is running (at %s)", text_escape(path, strlen(path), esc, sizeof esc));
	return CLI_NOT_RUNNING;
}

static int refuse(struct client *c, const char *path)
{
	char esc[256];

	diag_error("refused to talk to %s: user %u listens there", text_escape(path, strlen(path), esc, sizeof esc),
	    (unsigned)c->peer.uid);
	return CLI_FAILED;
}

static int connect_to(struct client *c, const char *path, const struct cli_args *a)
{
	if (client_connect(c, path, true) < 0)
		return say_connect(a, path);
	if (!client_trusts(c, owner_of_dir(path)))
		return refuse(c, path);
	return 0;
}

/* A directory in which only this user and root can have put something. */
static bool is_safe(const char *dir)
{
	struct stat st;

	return lstat(dir, &st) == 0 && S_ISDIR(st.st_mode) && (st.st_uid == geteuid() || st.st_uid == 0) &&
	    !(st.st_mode & (S_IWGRP | S_IWOTH));
}

/* What a search has found so far. */
struct search {
	struct client *c;      /* connected to the first */
	unsigned n;
	char names[NAMES_MAX]; /* "a, b" */
};

static void found(struct search *s, struct client *c, const char *name)
{
	size_t used = strlen(s->names);

	snprintf(s->names + used, sizeof s->names - used, "%s%s", s->n > 0 ? ", " : "", name);
	if (s->n++ == 0) {
		int64_t deadline_ms = s->c->deadline_ms;

		*s->c = *c;
		s->c->deadline_ms = deadline_ms;
	} else {
		client_fini(c);
	}
}

/* A node runs below base when something listens at its socket. One whose queue is full does. */
static void try_node(struct search *s, const char *base, const char *name)
{
	char dir[NODE_PATH_MAX], path[NODE_PATH_MAX + 16];
	struct client c;

	if (strlen(name) >= SPEC_NODE_MAX || !text_is_id(name))
		return;
	snprintf(dir, sizeof dir, "%s/%s", base, name);
	snprintf(path, sizeof path, "%s/%s", dir, PROTO_SOCKET_NAME);
	if (!is_safe(dir))
		return;
	client_init(&c, s->c->deadline_ms);
	if (client_connect(&c, path, false) < 0 && (errno != EAGAIN || client_connect(&c, path, true) < 0))
		return;
	if (client_trusts(&c, NO_OWNER))
		found(s, &c, name);
	else
		client_fini(&c);
}

static void search_base(struct search *s, const char *base)
{
	struct dirent *e;
	DIR *d;

	d = opendir(base);
	if (!d)
		return;
	while ((e = readdir(d)) != NULL)
		try_node(s, base, e->d_name);
	closedir(d);
}

static int by_search(struct client *c)
{
	struct search s = { .c = c };
	const char *base;
	int i;

	for (i = 0; i < 2 && (base = node_dirs_base(i)) != NULL; i++)
		search_base(&s, base);
	if (s.n == 1)
		return 0;
	if (s.n == 0) {
		diag_error("no node is running");
		return CLI_NOT_RUNNING;
	}
	client_fini(c);
	diag_error("several nodes are running: %s; choose one with --node", s.names);
	return CLI_USAGE;
}

static int by_name(struct client *c, const char *name)
{
	struct search s = { .c = c };
	const char *base;
	int i;

	for (i = 0; i < 2 && s.n == 0 && (base = node_dirs_base(i)) != NULL; i++)
		try_node(&s, base, name);
	if (s.n > 0)
		return 0;
	diag_error("node %s is not running", name);
	return CLI_NOT_RUNNING;
}

/* Asks the node at c for its name. 0, or -1 if it does not tell. */
static int ask_name(struct client *c, struct proto_node *node)
{
	struct request r;
	struct wire_in body;
	int result = -1;

	request_init(&r, PROTO_STATUS, 0);
	wire_put_str(&r.w, "/");
	if (client_send(c, &r) == 0 && client_next(c, &body) == PROTO_R_NODE) {
		proto_get_node(&body, node);
		result = body.bad ? -1 : 0;
	}
	request_fini(&r);
	return result;
}

/* A socket was named beside the node's name: is it that node's? The connection is spent on the
 * question. */
static int check_name(struct client *c, const char *name)
{
	struct proto_node node = { 0 };
	int result = ask_name(c, &node);

	fds_close(&c->fd);
	if (result < 0) {
		diag_error("the node does not tell its name");
		return CLI_FAILED;
	}
	if (strcmp(node.node, name) != 0) {
		diag_error("node %s is not running there, another one is", name);
		return CLI_NOT_RUNNING;
	}
	return CLI_OK;
}

static int by_path(struct client *c, const char *path, const struct cli_args *a)
{
	int status = connect_to(c, path, a);

	if (status != 0 || !a->node)
		return status;
	status = check_name(c, a->node);
	return status != 0 ? status : connect_to(c, path, a);
}

int find_node(struct client *c, const struct cli_args *a)
{
	const char *path = a->socket ? a->socket : getenv("COPPICE_SOCKET");
	char esc[128];

	if (a->node && (!text_is_id(a->node) || strlen(a->node) >= SPEC_NODE_MAX))
		return cli_usage(a->command, "`%s` is not the name of a node",
		    text_escape(a->node, strlen(a->node), esc, sizeof esc));
	if (path && *path)
		return by_path(c, path, a);
	if (a->node)
		return by_name(c, a->node);
	return by_search(c);
}
