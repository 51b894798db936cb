/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * What keys become in the image: defaults, all keys, ranges, users, environments, hashes, and the
 * worst case that `coppice check` prints.
 */
#include "config_rig.h"

/* --- what keys become --- */

T_CASE(defaults)
{
	const struct spec_child *top, *c;
	struct spec_image img;

	enter_dir();
	must_load("supervisor: { children = ( { id = \"a\"; exec = [ \"x\", \"y\" ]; },\n"
	    "{ id = \"s\"; type = \"supervisor\"; }, { id = \"d\"; type = \"dynamic_supervisor\"; } ); };", &img);
	T_EQ_STR(spec_string(&img, img.h->node), "x");
	T_EQ_INT(img.h->generation, 7);
	T_CHECK(spec_string(&img, img.h->file)[0] == '/' && has(spec_string(&img, img.h->file), "/x.conf"));
	T_EQ_INT(img.h->n_children, 3);
	T_EQ_INT(img.h->n_supervisors, 3);
	top = spec_top(&img);
	T_EQ_STR(spec_string(&img, top->path), "/");
	T_EQ_INT(top->flags.strategy, SUP_ONE_FOR_ONE);
	T_EQ_INT(top->flags.max_restarts, 3);
	T_EQ_INT(top->flags.max_seconds, 5);
	T_EQ_INT(top->flags.auto_shutdown, SUP_AUTO_NEVER);
	T_EQ_INT(top->flags.max_children, SUP_NO_LIMIT);
	T_EQ_INT(top->line, 1);
	c = spec_find(&img, "a");
	T_REQUIRE(c);
	T_EQ_INT(c->line, 1);
	T_EQ_STR(spec_string(&img, c->file), "x.conf");
	T_EQ_INT(c->type, SPEC_WORKER);
	T_EQ_INT(c->sup.restart, SUP_PERMANENT);
	T_EQ_INT(c->sup.shutdown_ms, 5000);
	T_CHECK(c->sup.enabled && !c->sup.significant && !c->sup.supervisor);
	T_EQ_INT(c->sup.backoff.max_ms, 0);
	T_EQ_INT(c->worker.exec.count, 2);
	T_EQ_STR(spec_list_str(&img, &c->worker.exec, 1), "y");
	T_EQ_INT(c->worker.umask, 022);
	T_EQ_INT(c->worker.uid, SPEC_UNSET_ID);
	T_EQ_INT(c->worker.gid, SPEC_UNSET_ID);
	T_EQ_INT(c->worker.set_groups, 0);
	T_EQ_INT(c->worker.nice, SPEC_NICE_UNSET);
	T_EQ_INT(c->worker.env.count, 0);
	T_EQ_INT(c->worker.ready, SPEC_READY_EXEC);
	T_EQ_INT(c->worker.ready_timeout_ms, 30000);
	T_EQ_INT(c->worker.stop_signal, SIGTERM);
	T_EQ_INT(c->worker.kill_group, 1);
	T_EQ_INT(c->worker.success_codes[0], 1);
	T_EQ_INT(c->worker.success_signals, 0);
	T_EQ_INT(c->worker.watchdog_ms, 0);
	T_EQ_INT(c->worker.log, SPEC_LOG_DIR);
	T_EQ_INT(c->worker.log_dir, 0);
	T_CHECK(c->worker.limits[SPEC_LIMIT_NOFILE] == SPEC_LIMIT_UNSET);
	c = spec_find(&img, "s");
	T_EQ_INT(c->sup.shutdown_ms, SUP_SHUTDOWN_INFINITY);
	T_CHECK(c->sup.supervisor && !c->flags.dynamic);
	c = spec_find(&img, "d");
	T_CHECK(c->sup.supervisor && c->flags.dynamic);
	spec_close(&img);
	leave_dir();
}

static void check_full(const struct spec_image *img, const struct spec_child *c)
{
	const struct spec_worker *w = &c->worker;

	T_EQ_INT(c->sup.restart, SUP_TRANSIENT);
	T_EQ_INT(c->sup.shutdown_ms, 2500);
	T_CHECK(c->sup.significant && !c->sup.enabled);
	T_EQ_INT(c->sup.backoff.min_ms, 50);
	T_EQ_INT(c->sup.backoff.max_ms, 2000);
	T_EQ_INT(c->sup.backoff.factor_milli, 1500);
	T_EQ_INT(c->sup.backoff.reset_ms, 10000);
	T_EQ_STR(spec_list_str(img, &w->exec, 2), "1 of %d%");
	T_EQ_STR(spec_list_str(img, &w->exec, 3), "x\"y\\z");
	T_EQ_STR(spec_string(img, w->dir), "/");
	T_EQ_INT(w->umask, 027);
	T_EQ_INT(w->uid, 0);
	T_EQ_INT(w->gid, 0);
	T_EQ_STR(spec_string(img, w->user_name), "root");
	T_EQ_INT(w->set_groups, 1);
	T_EQ_INT(w->groups.count, 2);
	T_EQ_INT(w->nice, 5);
	T_EQ_STR(spec_list_str(img, &w->env, 0), "PATH=/usr/bin:/bin");
	T_EQ_STR(spec_list_str(img, &w->env, 1), "NUMBER=1");
	T_EQ_INT(w->env_clear, 1);
	T_CHECK(w->limits[SPEC_LIMIT_AS] == UINT64_C(8589934592));
	T_CHECK(w->limits[SPEC_LIMIT_CORE] == 0);
	T_CHECK(w->limits[SPEC_LIMIT_CPU] == SPEC_LIMIT_UNLIMITED);
	T_CHECK(w->limits[SPEC_LIMIT_FSIZE] == UINT64_C(1099511627776));
	T_CHECK(w->limits[SPEC_LIMIT_STACK] == 0x800000);
	T_EQ_INT(w->ready, SPEC_READY_FD);
	T_EQ_INT(w->ready_arg, 6);
	T_EQ_INT(w->ready_timeout_ms, 1000);
	T_EQ_INT(w->stop_signal, SIGHUP);
	T_EQ_INT(w->kill_group, 0);
	T_EQ_INT(w->success_codes[0], 5);
	T_CHECK(w->success_codes[2] == UINT64_C(1) << (143 - 128));
	T_CHECK(w->success_signals == (UINT64_C(1) << SIGTERM | UINT64_C(1) << (SIGRTMIN + 1)));
	T_EQ_INT(w->watchdog_ms, 5000);
	T_EQ_STR(spec_string(img, w->log_dir), "/var/log/full/1");
	T_EQ_INT(w->log_max_bytes, 1048576);
	T_EQ_INT(w->log_max_files, 3);
	T_EQ_INT(w->log_timestamps, 1);
}

static void check_sockets(const struct spec_image *img, const struct spec_child *c)
{
	const struct spec_socket *s;

	T_EQ_INT(img->h->n_sockets, 4);
	T_EQ_INT(c->worker.sockets.count, 3);
	s = spec_socket_at(img, spec_list_num(img, &c->worker.sockets, 0));
	T_EQ_STR(spec_string(img, s->key), "tcp:127.0.0.1:8080");
	T_EQ_STR(spec_string(img, s->name), "http");
	T_EQ_INT(s->kind, 't');
	T_EQ_INT(s->port, 8080);
	s = spec_socket_at(img, spec_list_num(img, &c->worker.sockets, 1));
	T_EQ_STR(spec_string(img, s->key), "udp:[::1]:53");
	T_EQ_STR(spec_string(img, s->addr), "::1");
	T_EQ_STR(spec_string(img, s->name), "full");
	s = spec_socket_at(img, spec_list_num(img, &c->worker.sockets, 2));
	T_EQ_INT(s->kind, 'x');
	T_EQ_STR(spec_string(img, s->addr), "/run/full/1.sock");
	T_EQ_INT(s->mode, 0660);
}

T_CASE(all_keys_arrive)
{
	struct spec_image img;
	const struct spec_child *c;
	char *text = all_keys(NULL);

	if (geteuid() != 0) {
		free(text);
		return; /* it names users */
	}
	enter_dir();
	must_load(text, &img);
	free(text);
	T_EQ_STR(spec_string(&img, img.h->node), "all-keys");
	T_EQ_INT(spec_top(&img)->flags.strategy, SUP_REST_FOR_ONE);
	T_EQ_INT(spec_top(&img)->flags.auto_shutdown, SUP_AUTO_ANY_SIGNIFICANT);
	T_CHECK(!spec_find(&img, "full") && spec_find(&img, "full@0") && !spec_find(&img, "full@2"));
	check_full(&img, spec_find(&img, "full@1"));
	check_sockets(&img, spec_find(&img, "full@1"));
	T_EQ_INT(spec_find(&img, "quiet")->sup.shutdown_ms, SUP_SHUTDOWN_BRUTAL);
	T_EQ_INT(spec_find(&img, "quiet")->worker.log, SPEC_LOG_NULL);
	c = spec_find(&img, "group/log");
	T_EQ_STR(spec_string(&img, c->worker.ready_str), "^listening( on)?");
	T_EQ_INT(spec_find(&img, "group/tcp")->worker.ready_arg, 80);
	T_EQ_STR(spec_list_str(&img, &spec_find(&img, "group/notify")->worker.env, 0), "_A=1");
	T_EQ_INT(spec_find(&img, "pool")->flags.max_children, 64);
	spec_close(&img);
	leave_dir();
}

T_CASE(instances)
{
	struct spec_image img;

	enter_dir();
	must_load(worker("instances = 1; env = { A = \"%i\"; };"), &img);
	T_CHECK(!spec_find(&img, "a"));
	T_EQ_STR(spec_list_str(&img, &spec_find(&img, "a@0")->worker.env, 0), "A=0");
	spec_close(&img);
	must_load(worker("env = { A = \"%i %%\"; };"), &img);
	T_EQ_STR(spec_list_str(&img, &spec_find(&img, "a")->worker.env, 0), "A=%i %%");
	spec_close(&img);
	leave_dir();
}

struct limit_row {
	const char *key;
	int64_t lo, hi;
};

static bool taken(const char *keys)
{
	const char *text = worker(keys);
	char *err = try_text(text, strlen(text));
	bool ok = !err;

	free(err);
	return ok;
}

/* Each limit, and one beyond it on either side. */
T_CASE(limits_of_numbers)
{
	static const struct limit_row rows[] = {
		{ "shutdown = %lldL;", 0, INT32_MAX }, { "nice = %lld;", -20, 19 },
		{ "ready_timeout = %lld;", 1, INT32_MAX }, { "watchdog = %lld;", 1, INT32_MAX },
		{ "backoff = { min = %lld; max = 2147483647; };", 1, INT32_MAX },
		{ "backoff = { min = 1; max = %lld; };", 1, INT32_MAX },
		{ "backoff = { reset = %lld; };", 1, INT32_MAX },
		{ "backoff = { factor = %lld; };", 1, 1000 },
		{ "success = [ %lld ];", 0, 255 }, { "instances = %lld;", 1, 10000 },
		{ "ready = \"fd:%lld\";", 3, 255 }, { "ready = \"tcp:%lld\";", 1, 65535 },
		{ "ready_timeout = 2147483647; ready = \"after:%lld\";", 0, INT32_MAX - 1 },
		{ "sockets = ( { listen = \"tcp::%lld\"; } );", 1, 65535 },
		{ "log = { max_files = %lld; };", 0, 100000 },
		{ "stop_signal = \"%lld\";", 1, 64 },
	};
	char keys[256];
	size_t i;
	int k;

	enter_dir();
	for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		int64_t v[4] = { rows[i].lo - 1, rows[i].lo, rows[i].hi, rows[i].hi + 1 };

		for (k = 0; k < 4; k++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
			snprintf(keys, sizeof keys, rows[i].key, (long long)v[k]);
#pragma GCC diagnostic pop
			if (taken(keys) != (k == 1 || k == 2))
				T_FAIL("%s is %s", keys, k == 1 || k == 2 ? "refused" : "taken");
		}
	}
	T_CHECK(taken("limits = { nofile = 9223372036854775807L; };"));
	T_CHECK(!taken("limits = { nofile = 9223372036854775808L; };"));
	T_CHECK(!taken("backoff = { factor = 1000.1; };") && !taken("backoff = { factor = .99; };"));
	T_CHECK(taken("umask = \"0777\";") && taken("umask = 0777;") && taken("umask = 00;") && taken("umask = 0;"));
	T_CHECK(!taken("umask = 0x12;") && !taken("umask = 18;") && !taken("umask = 9;") && !taken("umask = 88;"));
	T_CHECK(!taken("umask = 0x200;") && !taken("umask = \"\";") && !taken("umask = 77;"));
	leave_dir();
}

T_CASE(odd_users_are_refused)
{
	static const char *const names[] = { "0day", "0x10", "-1", "4294967295", "4294967296", "m\\xc3\\xbcller", "",
		" root", "root ", "root\\n", "ro/ot", "+0", "$", "no:body", "0" };
	char keys[128];
	size_t i;

	enter_dir();
	for (i = 0; i < sizeof names / sizeof names[0]; i++) {
		snprintf(keys, sizeof keys, "user = \"%s\";", names[i]);
		T_CHECK(is_refused(worker(keys)));
		snprintf(keys, sizeof keys, "group = \"%s\";", names[i]);
		T_CHECK(is_refused(worker(keys)));
		snprintf(keys, sizeof keys, "groups = [ \"%s\" ];", names[i]);
		T_CHECK(is_refused(worker(keys)));
	}
	leave_dir();
}

T_CASE(users_are_resolved)
{
	struct spec_image img;
	const struct spec_worker *w;

	if (geteuid() != 0)
		return;
	enter_dir();
	must_load(worker("user = \"daemon\";"), &img);
	w = &spec_find(&img, "a")->worker;
	T_EQ_INT(w->uid, 1);
	T_EQ_INT(w->gid, 1);
	T_EQ_INT(w->set_groups, 1);
	T_CHECK(w->groups.count >= 1 && spec_string(&img, w->user_home) && spec_string(&img, w->user_shell));
	spec_close(&img);
	must_load(worker("group = \"daemon\";"), &img);
	w = &spec_find(&img, "a")->worker;
	T_EQ_INT(w->uid, SPEC_UNSET_ID);
	T_EQ_INT(w->gid, 1);
	T_EQ_INT(spec_list_num(&img, &w->groups, 0), 1);
	T_EQ_INT(w->groups.count, 1);
	spec_close(&img);
	must_load(worker("user = \"daemon\"; groups = [ ];"), &img);
	w = &spec_find(&img, "a")->worker;
	T_EQ_INT(w->set_groups, 1);
	T_EQ_INT(w->groups.count, 0);
	spec_close(&img);
	leave_dir();
}

#define MODULE_CHILD(keys) "supervisor: { children = ( { id = \"a\"; module = \"a.so\"; server = \"a_ops\"; " keys " } ); };"

static uint64_t module_hash(const char *text)
{
	struct spec_image img;
	uint64_t h;

	must_load(text, &img);
	h = spec_first_child(&img, spec_top(&img))->hash_process;
	spec_close(&img);
	return h;
}

T_CASE(modules)
{
	const struct spec_worker *w;
	struct spec_image img;
	char real[PATH_MAX], want[PATH_MAX + 16];

	enter_dir();
	T_REQUIRE(getcwd(real, sizeof real));
	must_load(MODULE_CHILD("name = \"n%i\"; instances = 2; args = { a = (1, \"%i\", { b = [true]; }); c = 0.5; d = \"\\t\\\"\"; };"),
	    &img);
	w = &spec_find(&img, "a@1")->worker;
	snprintf(want, sizeof want, "%s/a.so", real);
	T_EQ_INT(w->server, SPEC_SERVER_MODULE);
	T_EQ_INT(w->ready, SPEC_READY_INIT);
	T_EQ_INT(w->exec.count, 0);
	T_EQ_STR(spec_string(&img, w->module), want);
	T_EQ_STR(spec_string(&img, w->symbol), "a_ops");
	T_EQ_STR(spec_string(&img, w->name), "n1");
	T_EQ_STR(spec_string(&img, w->args), "{\"a\":[1,\"1\",{\"b\":[true]}],\"c\":0.5,\"d\":\"\\u0009\\\"\"}");
	spec_close(&img);
	T_CHECK(module_hash(MODULE_CHILD("")) == module_hash(MODULE_CHILD("")));
	T_CHECK(module_hash(MODULE_CHILD("")) != module_hash(MODULE_CHILD("name = \"n\";")));
	T_CHECK(module_hash(MODULE_CHILD("")) != module_hash(MODULE_CHILD("args = 0;")));
	T_CHECK(module_hash(MODULE_CHILD("args = 0;")) != module_hash(MODULE_CHILD("args = 1;")));
	leave_dir();
}

T_CASE(env_file)
{
	struct spec_image img;
	const struct spec_worker *w;
	char *err;

	enter_dir();
	put_text("a.env", "# comment\n\nA=1\r\nB = no\n");
	err = errors_of(worker("env_file = \"a.env\";"));
	T_EQ_STR(err, "a.env:4: a line of an env_file is NAME=value, a comment (#) or empty; there must be no blanks around =\n");
	free(err);
	put_text("a.env", "# comment\n\n  A=1\r\nB=\"two words\" \nC='x'\nD=a=b\nA=2\nE=");
	must_load(worker("env_file = \"a.env\"; env = { C = \"3\"; F = \"\"; };"), &img);
	w = &spec_find(&img, "a")->worker;
	T_EQ_INT(w->env.count, 6);
	T_EQ_STR(spec_list_str(&img, &w->env, 0), "A=2");
	T_EQ_STR(spec_list_str(&img, &w->env, 1), "B=two words");
	T_EQ_STR(spec_list_str(&img, &w->env, 2), "C=3");
	T_EQ_STR(spec_list_str(&img, &w->env, 3), "D=a=b");
	T_EQ_STR(spec_list_str(&img, &w->env, 4), "E=");
	spec_close(&img);
	T_REQUIRE(chmod("a.env", 0666) == 0);
	T_CHECK(is_refused(worker("env_file = \"a.env\";")));
	T_CHECK(is_refused(worker("env_file = \"b.env\";")));
	must_load(worker("env_file = \"-b.env\";"), &img);
	spec_close(&img);
	leave_dir();
}

/* --- hashes --- */

struct hash_row {
	const char *keys;
	bool process, supervision; /* which of the two it changes */
};

static void hashes_of(const char *keys, uint64_t h[2])
{
	const struct spec_child *c;
	struct spec_image img;

	must_load(worker(keys), &img);
	c = spec_first_child(&img, spec_top(&img));
	h[0] = c->hash_process;
	h[1] = c->hash_supervision;
	spec_close(&img);
}

T_CASE(hashes_tell_what_a_change_needs)
{
	static const struct hash_row rows[] = {
		{ "", false, false }, { "# a comment", false, false }, { "umask = 022;", false, false },
		{ "dir = \"/\";", true, false }, { "umask = 0;", true, false }, { "nice = 1;", true, false },
		{ "env = { A = \"1\"; };", true, false }, { "env_clear = true;", true, false },
		{ "limits = { core = 0; };", true, false }, { "watchdog = 5;", true, false },
		{ "log = \"null\";", true, false }, { "log = { max_files = 5; };", true, false },
		{ "sockets = ( { listen = \"tcp::80\"; } );", true, false },
		{ "ready = \"notify\";", true, true }, { "ready = \"fd:3\";", true, true },
		{ "ready = \"after:5\";", false, true }, { "ready_timeout = 5;", false, true },
		{ "restart = \"transient\";", false, true }, { "shutdown = 1;", false, true },
		{ "enabled = false;", false, true }, { "stop_signal = \"HUP\";", false, true },
		{ "kill_group = false;", false, true }, { "success = [ 1 ];", false, true },
		{ "backoff = { };", false, true },
	};
	uint64_t plain[2], h[2];
	size_t i;

	enter_dir();
	hashes_of("", plain);
	for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		hashes_of(rows[i].keys, h);
		if ((h[0] != plain[0]) != rows[i].process || (h[1] != plain[1]) != rows[i].supervision)
			T_FAIL("%s: process %d, supervision %d", rows[i].keys, h[0] != plain[0], h[1] != plain[1]);
	}
	leave_dir();
}

/* --- the bound --- */

static void expect_bound(const char *text, const char *want)
{
	int out = scratch(), err = scratch();
	char *printed;

	put_text("b.conf", text);
	T_EQ_INT(config_check("b.conf", out, err), 0);
	printed = take_text(out);
	T_EQ_STR(printed, want);
	free(printed);
	close(err);
}

#define WORKER "{ id = \"w\"; exec = [ \"x\" ]; }"
#define BOUND(n, m, r, s) "b.conf: ok: " n " children, " m " supervisors, at most " r " restarts in " s \
	" s before the node gives up\n"

T_CASE(check_prints_the_worst_case)
{
	enter_dir();
	expect_bound("supervisor: { };", BOUND("0", "1", "0", "5"));
	expect_bound("supervisor: { children = (" WORKER "); };", BOUND("1", "1", "3", "5"));
	expect_bound("supervisor: { children = ({ id = \"w\"; exec = [ \"x\" ]; restart = \"temporary\"; }); };",
	    BOUND("1", "1", "0", "5"));
	/* The inner one uses up its ten in each of its eleven lives, ten of them begun by the outer one. */
	expect_bound("supervisor: { max_restarts = 10; max_seconds = 10; children = ( { id = \"s\"; type = \"supervisor\";"
	    " max_restarts = 10; max_seconds = 10; children = (" WORKER "); } ); };", BOUND("2", "2", "120", "10"));
	/* Two inner ones: alone each is renewed, together both are. */
	expect_bound("supervisor: { max_restarts = 2; children = ("
	    "{ id = \"a\"; type = \"supervisor\"; max_restarts = 3; children = (" WORKER "); },"
	    "{ id = \"b\"; type = \"supervisor\"; max_restarts = 5; children = (" WORKER "); } ); };",
	    BOUND("4", "3", "20", "5"));
	expect_bound("supervisor: { max_restarts = 2; strategy = \"one_for_all\"; children = ("
	    "{ id = \"a\"; type = \"supervisor\"; max_restarts = 3; children = (" WORKER "); },"
	    "{ id = \"b\"; type = \"supervisor\"; max_restarts = 5; children = (" WORKER "); } ); };",
	    BOUND("4", "3", "26", "5"));
	/* A shorter window comes again: 3 in 5 s are 33 in a minute. */
	expect_bound("supervisor: { max_restarts = 1; max_seconds = 60; children = ( { id = \"s\"; type = \"supervisor\";"
	    " children = (" WORKER "); } ); };", BOUND("2", "2", "37", "60"));
	leave_dir();
}

T_CASE(many_children)
{
	size_t len = 0, cap = 100 + 100001 * 40;
	char *text = malloc(cap), *err;
	struct spec_image img;
	int i;

	T_REQUIRE(text);
	if (is_sanitized()) {
		free(text);
		return; /* too slow for the parser's limits */
	}
	enter_dir();
	len += (size_t)sprintf(text + len, "supervisor: { children = (\n");
	for (i = 0; i < 100000; i++)
		len += (size_t)sprintf(text + len, "%s{id=\"c%d\" exec=[\"x\"]}\n", i ? "," : "", i);
	strcpy(text + len, ")}\n");
	must_load(text, &img);
	T_EQ_INT(img.h->n_children, 100000);
	spec_close(&img);
	strcpy(text + len, ",{id=\"over\" exec=[\"x\"]})}\n");
	err = errors_of(text);
	T_EQ_STR(err, "x.conf:100002: more than 100000 children\n");
	free(err);
	free(text);
	leave_dir();
}

T_MAIN(T_RUN(defaults), T_RUN(all_keys_arrive), T_RUN(instances), T_RUN(limits_of_numbers),
    T_RUN(odd_users_are_refused), T_RUN(users_are_resolved), T_RUN(modules), T_RUN(env_file),
    T_RUN(hashes_tell_what_a_change_needs), T_RUN(check_prints_the_worst_case),
    T_RUN(many_children))
