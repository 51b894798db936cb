/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Talking to a node: orders, streams, and nodes that are slow, broken, dead or somebody else's. */
#include <pwd.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "fake_node.h"
#include "node/event.h"
#include "t.h"

static struct ran ran;

static void expect(const char *words, int status, const char *out, const char *err)
{
	run_coppice(&ran, words);
	T_EQ_INT(ran.status, status);
	T_EQ_STR(ran.out, out);
	T_EQ_STR(ran.err, err);
}

/* --- orders --- */

static void answer_orders(struct fake_request *r)
{
	char path[SPEC_PATH_MAX];

	wire_get_str(&r->args, path, sizeof path);
	if (r->verb == PROTO_SIGNAL && wire_get_i32(&r->args) != SIGUSR1)
		fake_end(r->fd, 1, "another signal than USR1");
	else if (!wire_done(&r->args))
		fake_end(r->fd, 2, "malformed");
	else if (strcmp(path, "none") == 0)
		fake_end(r->fd, 4, "no such child: none");
	else if (strcmp(path, "bad") == 0)
		fake_end(r->fd, 1, "unable to start bad:\nexec:ENOENT");
	else if (strcmp(path, "up") == 0) {
		fake_text(r->fd, PROTO_R_TEXT, "already running");
		fake_end(r->fd, 0, "");
	} else
		fake_end(r->fd, r->flags == PROTO_F_NO_WAIT || r->flags == 0 ? 0 : 2, "");
}

T_CASE(orders)
{
	struct fake f;

	fake_start(&f, answer_orders);
	expect("start a up", 0, "a: started\nup: already running\n", "");
	expect("stop a -q", 0, "", "");
	expect("restart a --no-wait", 0, "a: restart asked for\n", "");
	expect("remove a", 0, "a: removed\n", "");
	expect("signal a SIGUSR1", 0, "a: signalled\n", "");
	expect("signal a 10", 0, "a: signalled\n", "");
	expect("start none a", 4, "a: started\n", "coppice: no such child: none\n");
	expect("start none bad a", 1, "a: started\n",
	    "coppice: no such child: none\ncoppice: unable to start bad:\\x0aexec:ENOENT\n");
	expect("stop a none --json", 4,
	    "{\"results\":[{\"path\":\"a\",\"status\":0,\"message\":\"stopped\"},"
	    "{\"path\":\"none\",\"status\":4,\"message\":\"no such child: none\"}]}\n",
	    "coppice: no such child: none\n");
	fake_stop(&f);
}

static void answer_add(struct fake_request *r)
{
	char word[64], all[256] = "";
	uint32_t n, i, k;

	strlcat(all, wire_get_str(&r->args, word, sizeof word), sizeof all);
	for (k = 0; k < 2; k++) {
		n = wire_get_u32(&r->args);
		for (i = 0; i < n; i++) {
			strlcat(all, k == 0 ? "," : " ", sizeof all);
			strlcat(all, wire_get_str(&r->args, word, sizeof word), sizeof all);
		}
	}
	if (!wire_done(&r->args) || strcmp(all, "pool,id=x,restart=transient sleep --json") != 0) {
		fake_text(r->fd, PROTO_R_ERROR_LINE, all);
		fake_end(r->fd, 2, "malformed");
		return;
	}
	fake_text(r->fd, PROTO_R_TEXT, "pool/x");
	fake_end(r->fd, 0, "");
}

T_CASE(add)
{
	struct fake f;

	fake_start(&f, answer_add);
	expect("add pool id=x restart=transient -- sleep --json", 0, "pool/x\n", "");
	expect("add pool --json id=x restart=transient -- sleep --json", 0, "{\"path\":\"pool/x\"}\n", "");
	expect("add pool id=y -- sleep", 2, "", "coppice: pool,id=y sleep\ncoppice: malformed\n");
	fake_stop(&f);
}

static void put_change(int fd, uint8_t what, const char *path)
{
	uint8_t buf[1024];
	struct wire_out w;

	wire_out_init(&w, buf, sizeof buf);
	wire_put_u8(&w, PROTO_R_CHANGE);
	wire_put_u8(&w, what);
	wire_put_str(&w, path);
	fake_send(fd, &w);
}

static void answer_reload(struct fake_request *r)
{
	if (r->flags & PROTO_F_NO_WAIT) { /* stands for a wrong file */
		fake_text(r->fd, PROTO_R_ERROR_LINE, "a.conf:3: unknown key \"exce\"");
		fake_text(r->fd, PROTO_R_ERROR_LINE, "a.conf:5: no exec");
		fake_end(r->fd, 78, "");
		return;
	}
	if (!(r->flags & PROTO_F_DRY_RUN)) {
		put_change(r->fd, SPEC_REMOVED, "old");
		put_change(r->fd, SPEC_CHANGED, "web");
		put_change(r->fd, SPEC_ADDED, "new");
	}
	fake_end(r->fd, 0, "");
}

T_CASE(reload)
{
	struct fake f;

	fake_start(&f, answer_reload);
	expect("reload", 0, "removed old\nchanged web\nadded new\n", "");
	expect("reload --json", 0, "{\"added\":[\"new\"],\"changed\":[\"web\"],\"removed\":[\"old\"]}\n", "");
	expect("reload --dry-run", 0, "no changes\n", "");
	expect("reload --dry-run --json", 0, "{\"added\":[],\"changed\":[],\"removed\":[]}\n", "");
	expect("reload --no-wait", 78, "", "a.conf:3: unknown key \"exce\"\na.conf:5: no exec\n");
	expect("reload --no-wait --json", 78, "", "a.conf:3: unknown key \"exce\"\na.conf:5: no exec\n");
	fake_stop(&f);
}

/* --- events --- */

static void put_event(int fd, uint64_t seq)
{
	struct event e = { .type = EVENT_START, .path = "web", .pid = 7, .time_us = 1769860800123456 };
	uint8_t buf[4096];
	struct wire_out w;

	wire_out_init(&w, buf, sizeof buf);
	wire_put_u8(&w, PROTO_R_EVENT);
	wire_put_u64(&w, seq);
	event_put(&w, &e);
	fake_send(fd, &w);
}

/* Breaks off after two events; then goes on where it is asked to, and ends at 5. */
static void answer_events(struct fake_request *r)
{
	uint64_t since = wire_get_u64(&r->args);

	if (since == UINT64_MAX && r->flags == PROTO_F_FOLLOW) {
		fake_end(r->fd, 0, "");
		return;
	}
	put_event(r->fd, since);
	put_event(r->fd, since + 1);
	if (since < 4 && r->flags == PROTO_F_FOLLOW)
		return;
	fake_end(r->fd, 0, "");
}

#define EVENT(seq) \
	"{\"seq\":" #seq ",\"time\":\"2026-01-31T12:00:00.123456Z\",\"event\":\"start\",\"path\":\"web\",\"pid\":7}\n"

T_CASE(events)
{
	struct fake f;

	fake_start(&f, answer_events);
	expect("events --json", 0, EVENT(0) EVENT(1), "");
	expect("events --json --since 3", 0, EVENT(3) EVENT(4), "");
	expect("events --follow", 0, "", "");
	expect("events --follow --json --since 0", 0, EVENT(0) EVENT(1) EVENT(2) EVENT(3) EVENT(4) EVENT(5), "");
	run_coppice(&ran, "events");
	T_CHECK(strstr(ran.out, " start web pid 7\n") != NULL);
	fake_stop(&f);
}

/* --- nodes that are no good --- */

static void answer_never(struct fake_request *r)
{
	char c;

	(void)!recv(r->fd, &c, 1, 0); /* until the client has had enough */
}

T_CASE(deadline)
{
	struct fake f;

	fake_start(&f, answer_never);
	expect("status --timeout 50", 1, "", "coppice: timed out after 50 ms\n");
	expect("stop a b --timeout 50", 1, "", "coppice: timed out after 50 ms\n");
	expect("events --follow --timeout 50", 1, "", "coppice: timed out after 50 ms\n");
	expect("shutdown --timeout 50", 1, "", "coppice: timed out after 50 ms\n");
	expect("status --timeout 0", 1, "", "coppice: timed out after 0 ms\n");
	fake_stop(&f);
}

static void answer_late(struct fake_request *r)
{
	if (r->n < 2)
		return; /* as if killed */
	fake_text(r->fd, PROTO_R_TEXT, "/nowhere/at/all");
	if (r->verb == PROTO_LOG)
		fake_end(r->fd, 4, "asked three times");
	else
		fake_end(r->fd, 0, "");
}

T_CASE(questions_are_asked_again_orders_are_not)
{
	struct fake f;

	fake_start(&f, answer_late);
	expect("log x", 4, "", "coppice: asked three times\n");
	fake_stop(&f);
	fake_start(&f, answer_late);
	expect("restart x", 1, "", "coppice: the node closed the connection before it had answered\n");
	fake_stop(&f);
}

static void answer_bytewise(struct fake_request *r)
{
	static const uint8_t end[] = { 6, 0, 0, 0, PROTO_END, 0, 0, 0, 0, 0 };
	size_t i;

	for (i = 0; i < sizeof end; i++)
		(void)!send(r->fd, &end[i], 1, MSG_NOSIGNAL);
}

T_CASE(frames_may_come_in_pieces)
{
	struct fake f;

	fake_start(&f, answer_bytewise);
	expect("stop x", 0, "x: stopped\n", "");
	fake_stop(&f);
}

/* Garbage, by the number of the connection. */
static void answer_garbage(struct fake_request *r)
{
	static const struct { uint8_t bytes[16]; size_t n; } garbage[] = {
		{ { 0, 0, 0, 0 }, 4 },                              /* an empty frame */
		{ { 0xff, 0xff, 0xff, 0xff, 1 }, 5 },               /* an endless one */
		{ { 1, 0, 0, 0, 0 }, 5 },                           /* no kind */
		{ { 3, 0, 0, 0, PROTO_END, 0, 0 }, 7 },             /* cut */
		{ { 6, 0, 0, 0, PROTO_END, 0, 9, 0, 0, 0 }, 10 },   /* a string that is not there */
		{ { 2, 0, 0, 0, PROTO_R_CHILD, 0 }, 6 },
		{ { 2, 0, 0, 0, PROTO_R_EVENT, 0 }, 6 },
	};

	if (r->n < sizeof garbage / sizeof garbage[0])
		(void)!send(r->fd, garbage[r->n].bytes, garbage[r->n].n, MSG_NOSIGNAL);
}

T_CASE(garbage)
{
	static const char not_understood[] = "coppice: the node's answer cannot be understood\n";
	struct fake f;
	int i;

	fake_start(&f, answer_garbage);
	for (i = 0; i < 6; i++)
		expect("status", 1, "", not_understood);
	expect("events", 1, "", not_understood);
	fake_stop(&f);
}

T_CASE(nobody_there)
{
	char words[128], err[256];
	struct fake f;

	fake_start(&f, answer_never);
	setenv("COPPICE_SOCKET", "/nonexistent/control", 1);
	expect("status", 3, "", "coppice: no node is running (at /nonexistent/control)\n");
	expect("status web", 3, "", "coppice: no node is running (at /nonexistent/control)\n");
	expect("status --node demo", 3, "", "coppice: node demo is not running\n");
	/* the option goes before the variable; a socket whose listener is dead is no node */
	kill(f.pid, SIGKILL);
	waitpid(f.pid, NULL, 0);
	snprintf(words, sizeof words, "--socket %s shutdown", f.path);
	snprintf(err, sizeof err, "coppice: no node is running (at %s)\n", f.path);
	expect(words, 3, "", err);
	fake_stop(&f);
}

static void answer_status(struct fake_request *r)
{
	struct proto_child top = fake_supervisor("/", 0);

	fake_node(r->fd);
	fake_child(r->fd, &top);
	fake_end(r->fd, 0, "");
}

/* Makes the fake reachable as BASE/demo and BASE/other. */
static void make_base(char *base, const struct fake *f, const char *name, int make)
{
	char from[128];

	snprintf(from, sizeof from, "%s/%s", base, name);
	if (make) {
		T_REQUIRE(mkdir(from, 0700) == 0);
		strlcat(from, "/control", sizeof from);
		T_REQUIRE(link(f->path, from) == 0);
	} else {
		strlcat(from, "/control", sizeof from);
		unlink(from);
		*strrchr(from, '/') = '\0';
		rmdir(from);
	}
}

T_CASE(finding)
{
	char base[] = "/tmp/copbase.XXXXXX";
	struct fake f;

	T_REQUIRE(mkdtemp(base) != NULL);
	fake_start(&f, answer_status);
	expect("status -q --node demo", 0, "", "");
	expect("status -q --node other", 3, "", "coppice: node other is not running there, another one is\n");
	unsetenv("COPPICE_SOCKET");
	setenv("COPPICE_RUNTIME_DIR", base, 1);
	expect("status", 3, "", "coppice: no node is running\n");
	make_base(base, &f, "demo", 1);
	expect("status -q", 0, "", "");
	expect("status -q --node demo", 0, "", "");
	expect("status -q --node other", 3, "", "coppice: node other is not running\n");
	make_base(base, &f, "other", 1);
	run_coppice(&ran, "status");
	T_EQ_INT(ran.status, 2);
	T_CHECK(strstr(ran.err, "several nodes are running: ") && strstr(ran.err, "demo") && strstr(ran.err, "other"));
	expect("status -q --node other", 0, "", "");
	make_base(base, &f, "demo", 0);
	make_base(base, &f, "other", 0);
	fake_stop(&f);
	rmdir(base);
}

T_CASE(strangers_are_refused)
{
	const struct passwd *nobody = getpwnam("nobody");
	struct fake f;
	uid_t uid = nobody ? nobody->pw_uid : 65534;

	if (geteuid() != 0)
		return; /* nobody else to be */
	fake_start_as(&f, answer_orders, uid);
	run_coppice(&ran, "stop x");
	T_EQ_INT(ran.status, 1);
	T_CHECK(strstr(ran.err, "refused to talk to") != NULL);
	/* root may name a node in a directory of that node's user */
	T_REQUIRE(chmod(f.dir, 0700) == 0 && chown(f.dir, uid, (gid_t)-1) == 0);
	expect("stop x", 0, "x: stopped\n", "");
	fake_stop(&f);
}

static void answer_shutdown(struct fake_request *r)
{
	if (r->verb == PROTO_SHUTDOWN) {
		fake_end(r->fd, 0, "");
		if (r->flags == 0)
			_exit(0);
	}
}

T_CASE(shutdown_waits_for_the_end)
{
	struct fake f;
	char out[64];

	fake_start(&f, answer_shutdown);
	expect("shutdown --no-wait", 0, "", "");
	expect("shutdown", 0, "", "");
	fake_stop(&f);
	fake_start(&f, answer_shutdown);
	snprintf(out, sizeof out, "{\"ended\":true,\"pid\":%d}\n", (int)f.pid);
	expect("shutdown --json --timeout 10000", 0, out, "");
	fake_stop(&f);
}

T_MAIN(T_RUN(orders), T_RUN(add), T_RUN(reload), T_RUN(events), T_RUN(deadline),
    T_RUN(questions_are_asked_again_orders_are_not), T_RUN(frames_may_come_in_pieces), T_RUN(garbage),
    T_RUN(nobody_there), T_RUN(finding), T_RUN(strangers_are_refused), T_RUN(shutdown_waits_for_the_end))
