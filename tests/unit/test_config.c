/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The configuration parser: golden pairs of errors (tests/config), what each key becomes in the
 * image, every prefix and mutation of a file with all keys, words of `coppice add`, includes, the
 * rights of files, and parsers that crash, loop or take all memory.
 */
#include <fcntl.h>
#include <glob.h>
#include <limits.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "t.h"

#include "base/text.h"
#include "node/config.h"
#include "node/config_private.h"

/* --- helpers --- */

static char dir[1024]; /* of this case, removed at its end */

static void remove_dir(void)
{
	if (dir[0] != '\0' && fork() == 0) {
		execl("/bin/rm", "rm", "-rf", dir, (char *)NULL);
		_exit(127);
	}
	while (wait(NULL) > 0)
		;
}

/* Makes a directory for this case and goes there. */
static void enter_dir(void)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(dir, sizeof dir, "%s/coppice-test.XXXXXX", tmp ? tmp : "/tmp");
	T_REQUIRE(mkdtemp(dir) && chdir(dir) == 0 && mkdir("conf", 0755) == 0);
}

static void leave_dir(void)
{
	T_REQUIRE(chdir("/") == 0);
	remove_dir();
}

static void put_file(const char *name, const char *text, size_t len)
{
	FILE *f = fopen(name, "w");

	T_REQUIRE(f);
	T_REQUIRE(fwrite(text, 1, len, f) == len);
	T_REQUIRE(fclose(f) == 0);
	T_REQUIRE(chmod(name, 0644) == 0);
}

static void put_text(const char *name, const char *text)
{
	put_file(name, text, strlen(text));
}

static char *read_all(const char *name, size_t *len_r)
{
	struct stat st;
	FILE *f = fopen(name, "r");
	char *s;

	T_REQUIRE(f && fstat(fileno(f), &st) == 0);
	s = calloc(1, (size_t)st.st_size + 1);
	T_REQUIRE(s && fread(s, 1, (size_t)st.st_size, f) == (size_t)st.st_size);
	fclose(f);
	if (len_r)
		*len_r = (size_t)st.st_size;
	return s;
}

static const char *srcdir(void)
{
	const char *s = getenv("COP_SRCDIR");

	return s ? s : ".";
}

static int scratch(void)
{
	int fd = memfd_create("scratch", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	T_REQUIRE(fd >= 0);
	return fd;
}

static char *take_text(int fd)
{
	off_t len = lseek(fd, 0, SEEK_END);
	char *s = calloc(1, (size_t)len + 1);

	T_REQUIRE(s && pread(fd, s, (size_t)len, 0) == len);
	close(fd);
	return s;
}

/* Loads a file; *err_r is its errors. */
static int load(const char *file, struct spec_image *img, char **err_r)
{
	int err = scratch(), fd = config_load(file, 7, err);

	*err_r = take_text(err);
	if (fd < 0)
		return -1;
	T_REQUIRE(spec_open(img, fd) == 0);
	return 0;
}

/* The image of a text; a case that cannot have it ends. */
static void must_load(const char *text, struct spec_image *img)
{
	char *err;

	put_text("x.conf", text);
	if (load("x.conf", img, &err) < 0) {
		T_FAIL("%s", err);
		fflush(stdout);
		remove_dir();
		_exit(1);
	}
	T_EQ_STR(err, "");
	free(err);
}

/* The errors of a text, which must have some. */
static char *errors_of(const char *text)
{
	struct spec_image img;
	char *err;

	put_text("x.conf", text);
	if (load("x.conf", &img, &err) == 0) {
		T_FAIL("this is taken: %s", text);
		spec_close(&img);
	}
	return err;
}

static bool is_refused(const char *text)
{
	char *err = errors_of(text);
	bool r = err[0] != '\0';

	free(err);
	return r;
}

/* One worker with these keys. */
static const char *worker(const char *keys)
{
	static char text[8192];

	snprintf(text, sizeof text, "supervisor: { children = (\n{ id = \"a\"; exec = [ \"x\" ];\n%s\n} ); };\n", keys);
	return text;
}

static bool has(const char *text, const char *what)
{
	return strstr(text, what) != NULL;
}

#define T_HAS(text, what) \
	do { \
		if (!has((text), (what))) \
			T_FAIL("\"%s\" is not in \"%s\"", (what), (text)); \
	} while (0)

/* --- golden pairs --- */

static void one_pair(const char *conf)
{
	const char *name = strrchr(conf, '/') + 1;
	int out = scratch(), err = scratch(), status;
	char *want, *got, *printed, err_name[PATH_MAX], copy[PATH_MAX];
	size_t len;

	if (strncmp(name, "root-", 5) == 0 && geteuid() != 0)
		return;
	snprintf(err_name, sizeof err_name, "%.*s.err", (int)(strlen(conf) - 5), conf);
	snprintf(copy, sizeof copy, "%s", name);
	got = read_all(conf, &len);
	put_file(copy, got, len);
	free(got);
	status = config_check(copy, out, err);
	want = read_all(err_name, NULL);
	got = take_text(err);
	printed = take_text(out);
	if (strcmp(got, want) != 0)
		T_FAIL("%s\n# expected: %s# got: %s", name, want, got);
	T_EQ_INT(status, want[0] == '\0' ? 0 : 78);
	T_CHECK((printed[0] != '\0') == (want[0] == '\0'));
	free(got);
	free(want);
	free(printed);
}

T_CASE(golden_pairs)
{
	char pattern[PATH_MAX];
	glob_t g;
	size_t i;

	T_REQUIRE(realpath(srcdir(), pattern));
	strcat(pattern, "/tests/config/*.conf");
	T_REQUIRE(glob(pattern, 0, NULL, &g) == 0);
	enter_dir();
	put_text("outside.conf", "");
	T_REQUIRE(chdir("conf") == 0);
	for (i = 0; i < g.gl_pathc; i++)
		one_pair(g.gl_pathv[i]);
	T_CHECK(g.gl_pathc >= 60);
	globfree(&g);
	leave_dir();
}

/* --- prefixes and mutations --- */

static char *all_keys(size_t *len_r)
{
	char name[PATH_MAX];

	snprintf(name, sizeof name, "%s/tests/config/root-all-keys.conf", srcdir());
	return read_all(name, len_r);
}

/* Every line is FILE:LINE: TEXT with a line of the file. */
static bool well_formed(const char *errors, const char *file, unsigned lines)
{
	size_t len = strlen(file);
	unsigned line;
	int n;

	if (errors[0] == '\0')
		return false;
	for (; *errors; errors = strchr(errors, '\n') + 1) {
		n = 0;
		if (strncmp(errors, file, len) != 0 || sscanf(errors + len, ":%u: %n", &line, &n) != 1 || n == 0 ||
		    line < 1 || line > lines || !strchr(errors, '\n'))
			return false;
	}
	return true;
}

static unsigned count_lines(const char *text, size_t len)
{
	unsigned n = 1;

	while (len-- > 0)
		n += text[len] == '\n';
	return n;
}

/* The errors of a text, found in this process; NULL if it has none. */
static char *try_text(const char *text, size_t len)
{
	int err = scratch(), mem = scratch();
	int r = conf_job_run_text("x.conf", text, len, mem, err);
	char *s = take_text(err);

	close(mem);
	if (r == CONF_EXIT_OK && s[0] == '\0') {
		free(s);
		return NULL;
	}
	return s;
}

T_CASE(every_prefix_has_a_line)
{
	size_t len, i, whole, good = 0;
	char *text = all_keys(&len), *err;

	enter_dir();
	whole = len;
	while (whole > 0 && text[whole - 1] != '}')
		whole--;
	for (i = 0; i <= len; i++) {
		err = try_text(text, i);
		good += !err;
		if (err && !well_formed(err, "x.conf", count_lines(text, i)))
			T_FAIL("prefix of %zu bytes: \"%s\"", i, err);
		if (!err && i < whole)
			T_FAIL("prefix of %zu bytes is taken", i);
		free(err);
	}
	T_EQ_INT(good, geteuid() == 0 ? len - whole + 1 : 0);
	free(text);
	leave_dir();
}

T_CASE(every_byte_may_be_wrong)
{
	static const char bytes[] = "\"{}()[];=@/*#\\\n0\x80";
	size_t len, i, b;
	char *text = all_keys(&len), *err, was;

	enter_dir();
	for (i = 0; i < len; i++) {
		for (b = i % 3; b < sizeof bytes; b += 3) { /* NUL among them */
			was = text[i];
			text[i] = bytes[b];
			err = try_text(text, len);
			if (err && !well_formed(err, "x.conf", count_lines(text, len)))
				T_FAIL("byte %zu as %d: \"%s\"", i, bytes[b], err);
			free(err);
			text[i] = was;
		}
	}
	free(text);
	leave_dir();
}

struct line {
	const char *begin, *end;   /* without the newline */
	unsigned number;
	char key[32];              /* "" unless the line is KEY = VALUE; */
};

static bool next_line(const char **p, struct line *l)
{
	const char *end = strchr(*p, '\n');

	if (!end)
		return false;
	l->begin = *p;
	l->end = end;
	l->number++;
	if (sscanf(l->begin, " %31[a-z_] = ", l->key) != 1 || end[-1] != ';')
		l->key[0] = '\0';
	*p = end + 1;
	return true;
}

/* The file with a line replaced. */
static char *with_line(const char *text, const struct line *l, const char *fmt, ...)
{
	char line[512], *r = calloc(1, strlen(text) + sizeof line);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	sprintf(r, "%.*s%s%s", (int)(l->begin - text), text, line, l->end);
	return r;
}

static void expect_error(char *text, unsigned line, const char *what)
{
	char *err = try_text(text, strlen(text)), place[64];

	snprintf(place, sizeof place, "x.conf:%u: ", line);
	if (!err || !has(err, place) || !has(err, what))
		T_FAIL("line %u, expected %s: %s", line, what, err ? err : "(taken)");
	free(err);
	free(text);
}

T_CASE(every_key_may_be_wrong)
{
	struct line l = { .number = 0 };
	size_t len;
	char *text = all_keys(&len);
	const char *p = text;
	unsigned n = 0;

	enter_dir();
	while (next_line(&p, &l)) {
		int size = (int)(l.end - l.begin);

		if (l.key[0] == '\0')
			continue;
		n++;
		expect_error(with_line(text, &l, "q%s = 1;", l.key), l.number, "unknown key");
		expect_error(with_line(text, &l, "%.*s %.*s", size, l.begin, size, l.begin), l.number, "duplicate key");
		expect_error(with_line(text, &l, "%s = { zz = 1; };", l.key), l.number,
		    strcmp(l.key, "log") == 0 ? "unknown key" : "must be");
	}
	T_CHECK(n > 45);
	free(text);
	leave_dir();
}

T_CASE(hostile_text_is_bounded)
{
	size_t len = 200000, i;
	char *text = malloc(len), *err;
	static const char *const fill[] = { "(", "{a=", "\"", "a=1;", "@include \"x\"\n", "/*", "1,", "\\", "[", "-" };

	enter_dir();
	T_REQUIRE(text);
	for (i = 0; i < sizeof fill / sizeof fill[0]; i++) {
		size_t n = strlen(fill[i]), k;

		for (k = 0; k + n <= len; k += n)
			memcpy(text + k, fill[i], n);
		err = try_text(text, k);
		T_CHECK(err && strncmp(err, "x.conf:", 7) == 0);
		free(err);
	}
	free(text);
	leave_dir();
}

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
	T_CHECK(taken("umask = \"0777\";") && taken("umask = 0x1ff;") && taken("umask = 18;") && taken("umask = 0;"));
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

T_CASE(env_file)
{
	struct spec_image img;
	const struct spec_worker *w;
	char *err;

	enter_dir();
	put_text("a.env", "# comment\n\nA=1\r\nB = no\n");
	err = errors_of(worker("env_file = \"a.env\";"));
	T_EQ_STR(err, "a.env:4: a line of an env_file is NAME=value, a comment (#) or empty\n");
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

/* --- includes --- */

T_CASE(includes_name_their_own_lines)
{
	struct spec_image img;
	char *err;

	enter_dir();
	put_text("conf/main.conf", "# one\nsupervisor: {\n  @include \"flags.inc\" # here\n  strategy = \"x\";\n"
	    "  children = (\n@include \"sub/kids.inc\"\n  );\n};\n");
	T_REQUIRE(mkdir("conf/sub", 0755) == 0);
	put_text("conf/flags.inc", "max_restarts = 1;\nmax_seconds = 0;");
	put_text("conf/sub/kids.inc", "{ id = \"a\"; exec = [ \"x\" ]; },\n@include \"more.inc\"\n");
	put_text("conf/sub/more.inc", "{ id = \"a\";\n exec = [ ]; }\n");
	T_EQ_INT(load("conf/main.conf", &img, &err), -1);
	T_EQ_STR(err, "conf/main.conf:4: `strategy` is \"x\"; it must be \"one_for_one\", \"one_for_all\" or "
	    "\"rest_for_one\"\n"
	    "conf/flags.inc:2: `max_seconds` is 0; it must be a whole number from 1 to 2147483647\n"
	    "conf/sub/more.inc:1: duplicate id \"a\"; the first is in conf/sub/kids.inc:1\n"
	    "conf/sub/more.inc:2: `exec` is empty; its first element is the program\n");
	free(err);
	put_text("conf/sub/more.inc", "{ id = \"b\";\n exec = \"\n");
	T_EQ_INT(load("conf/main.conf", &img, &err), -1);
	T_HAS(err, "conf/sub/more.inc:2: syntax error: the string that begins here is never closed");
	free(err);
	leave_dir();
}

T_CASE(included_from_the_first_line)
{
	struct spec_image img;

	enter_dir();
	put_text("a.inc", "node = \"z\";");
	must_load("@include \"a.inc\"\nsupervisor: { children = (\n{ id = \"a\"; exec = [ \"x\" ]; } ); };", &img);
	T_EQ_STR(spec_string(&img, img.h->node), "z");
	T_EQ_INT(spec_find(&img, "a")->line, 3);
	spec_close(&img);
	leave_dir();
}

static void expect_include(const char *name, const char *why)
{
	char text[PATH_MAX + 64], *err;

	snprintf(text, sizeof text, "@include \"%s\"\nsupervisor: { };\n", name);
	put_text("conf/x.conf", text);
	T_REQUIRE(chdir("conf") == 0);
	err = errors_of(text);
	T_HAS(err, "x.conf:1: unable to include");
	T_HAS(err, why);
	free(err);
	snprintf(text, sizeof text, "\ninclude = [ \"%s\" ];\nsupervisor: { };\n", name);
	err = errors_of(text);
	T_HAS(err, "x.conf:2: unable to include");
	T_HAS(err, why);
	free(err);
	T_REQUIRE(chdir("..") == 0);
}

T_CASE(includes_stay_inside)
{
	char name[PATH_MAX];
	struct spec_image img;

	enter_dir();
	put_text("secret", "");
	put_text("conf/inside", "");
	T_REQUIRE(mkdir("confused", 0755) == 0);
	put_text("confused/x", "");
	expect_include("../secret", "outside");
	expect_include("../confused/x", "outside");
	snprintf(name, sizeof name, "%s/secret", dir);
	expect_include(name, "outside");
	T_REQUIRE(symlink("../secret", "conf/link") == 0 && symlink("..", "conf/up") == 0);
	expect_include("link", "outside");
	expect_include("up/secret", "outside");
	T_REQUIRE(mkfifo("conf/fifo", 0600) == 0);
	expect_include("fifo", "a fifo");
	T_REQUIRE(symlink("/dev/zero", "conf/zero") == 0);
	expect_include("zero", "a device");
	expect_include("/dev/zero", "a device");
	expect_include(".", "a directory");
	T_REQUIRE(symlink("loop", "conf/loop") == 0);
	expect_include("loop", "Too many levels");
	T_REQUIRE(chdir("conf") == 0);
	T_REQUIRE(symlink("inside", "fine") == 0);
	snprintf(name, sizeof name, "@include \"fine\"\n@include \"../conf/inside\"\n@include \"%s/conf/inside\"\n"
	    "supervisor: { };", dir);
	must_load(name, &img);
	spec_close(&img);
	leave_dir();
}

T_CASE(includes_end)
{
	char name[32], text[64], *err;
	int i;

	enter_dir();
	put_text("a.inc", "@include \"b.inc\"\n");
	put_text("b.inc", "\n@include \"a.inc\"\n");
	err = errors_of("@include \"a.inc\"\nsupervisor: { };");
	T_EQ_STR(err, "b.inc:2: unable to include a.inc: refused: it includes itself\n");
	free(err);
	for (i = 0; i < 20; i++) {
		snprintf(name, sizeof name, "d%d.inc", i);
		snprintf(text, sizeof text, "@include \"d%d.inc\"\n", i + 1);
		put_text(name, text);
	}
	err = errors_of("@include \"d0.inc\"\nsupervisor: { };");
	T_HAS(err, "deeper than 16");
	free(err);
	leave_dir();
}

T_CASE(parts)
{
	struct spec_image img;
	const struct spec_child *c;
	char *err;

	enter_dir();
	T_REQUIRE(mkdir("conf.d", 0755) == 0);
	put_text("conf.d/20-b.conf", "children = ( { id = \"b\"; exec = [ \"x\" ]; } );");
	put_text("conf.d/10-c.conf", "children = (\n{ id = \"c\"; exec = [ \"x\" ]; } );");
	put_text("conf.d/.hidden.conf", "rubbish");
	put_text("conf.d/other.txt", "rubbish");
	put_text("conf.d/30-empty.conf", "");
	must_load("include = [ \"conf.d/*.conf\", \"conf.d/2*\", \"no.d/*\" ];\n"
	    "supervisor: { children = ( { id = \"a\"; exec = [ \"x\" ]; } ); };", &img);
	c = spec_first_child(&img, spec_top(&img));
	T_EQ_STR(spec_string(&img, c->id), "a");
	c = spec_next_child(&img, c);
	T_EQ_STR(spec_string(&img, c->id), "c");
	T_EQ_STR(spec_string(&img, c->file), "conf.d/10-c.conf");
	T_EQ_INT(c->line, 2);
	c = spec_next_child(&img, c);
	T_EQ_STR(spec_string(&img, c->id), "b");
	T_CHECK(!spec_next_child(&img, c));
	spec_close(&img);
	put_text("conf.d/20-b.conf", "\nchildren = ( { id = \"a\"; exec = [ \"x\" ]; },\n { id = \"c\"; exec = [ ]; } );\n"
	    "strategy = \"one_for_all\";");
	put_text("conf.d/40.conf", "children = ");
	err = errors_of("include = [ \"conf.d/*.conf\" ];\n"
	    "supervisor: { children = ( { id = \"a\"; exec = [ \"x\" ]; } ); };");
	T_EQ_STR(err, "conf.d/20-b.conf:2: duplicate id \"a\"; the first is in x.conf:2\n"
	    "conf.d/20-b.conf:3: duplicate id \"c\"; the first is in conf.d/10-c.conf:2\n"
	    "conf.d/20-b.conf:3: `exec` is empty; its first element is the program\n"
	    "conf.d/20-b.conf:4: `strategy` is not a key of an included file; it belongs to the top supervisor "
	    "or a supervisor\n"
	    "conf.d/40.conf:1: syntax error at `children =`\n");
	free(err);
	leave_dir();
}

/* --- the fuzz target, for a short while --- */

#include "../fuzz/fuzz_config.c"

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Cuts, doubles or overwrites a piece; returns the new length, at most twice the old one. */
static size_t mutate(char *text, size_t len, uint64_t *state)
{
	size_t from = next_random(state) % len, n = next_random(state) % 40 % (len - from) + 1;

	switch (next_random(state) % 4) {
	case 0:
		memmove(text + from, text + from + n, len - from - n);
		return len - n;
	case 1:
		memmove(text + from + n, text + from, len - from);
		return len + n;
	case 2:
		memmove(text + next_random(state) % (len - n + 1), text + from, n);
		return len;
	default:
		text[from] = (char)next_random(state);
		return len;
	}
}

static void play(const char *name, uint64_t *state)
{
	size_t len, size;
	char *text = read_all(name, &len), *copy = malloc(len * 4 + 1);
	int round, k;

	T_REQUIRE(copy);
	LLVMFuzzerTestOneInput((const uint8_t *)text, len);
	for (round = 0; round < 60 && len > 0 && len < 5000; round++) {
		memcpy(copy, text, len);
		size = len;
		for (k = 0; k <= round % 4 && size > 1 && size < len * 2; k++)
			size = mutate(copy, size, state);
		LLVMFuzzerTestOneInput((const uint8_t *)copy, size);
	}
	free(copy);
	free(text);
}

T_CASE(fuzzing_for_a_short_while)
{
	uint64_t state = 0x2545f4914f6cdd1du;
	char pattern[PATH_MAX];
	glob_t g;
	size_t i;

	T_REQUIRE(realpath(srcdir(), pattern));
	strcat(pattern, "/tests/config/*.conf");
	T_REQUIRE(glob(pattern, 0, NULL, &g) == 0);
	enter_dir();
	for (i = 0; i < g.gl_pathc; i++)
		play(g.gl_pathv[i], &state);
	globfree(&g);
	leave_dir();
}

/* --- whose files --- */

static void expect_safe(const char *what, mode_t file, mode_t parent, uid_t owner, gid_t group, bool good)
{
	struct spec_image img;
	char *err;
	int r;

	T_REQUIRE(chmod("conf/x.conf", file) == 0 && chmod("conf", parent) == 0);
	if (geteuid() == 0)
		T_REQUIRE(chown("conf/x.conf", owner, group) == 0);
	r = load("conf/x.conf", &img, &err);
	if ((r == 0) != good)
		T_FAIL("%s is %s: %s", what, r == 0 ? "taken" : "refused", err);
	if (r == 0)
		spec_close(&img);
	else
		T_HAS(err, "conf/x.conf: refused: ");
	free(err);
}

T_CASE(files_that_others_can_write)
{
	bool root = geteuid() == 0;
	uid_t me = geteuid();
	gid_t mine = getegid();

	enter_dir();
	put_text("conf/x.conf", "supervisor: { };");
	expect_safe("0600", 0600, 0755, me, mine, true);
	expect_safe("0644", 0644, 0755, me, mine, true);
	expect_safe("0664 of my group", 0664, 0755, me, mine, true);
	expect_safe("0666", 0666, 0755, me, mine, false);
	expect_safe("0602", 0602, 0755, me, mine, false);
	expect_safe("directory 0777", 0644, 0777, me, mine, false);
	expect_safe("directory 01777", 0644, 01777, me, mine, true);
	expect_safe("directory 0775 of my group", 0644, 0775, me, mine, true);
	if (root) {
		expect_safe("0664 of another group", 0664, 0755, me, 1, false);
		expect_safe("0644 of another group", 0644, 0755, me, 1, true);
		expect_safe("another owner", 0600, 0755, 1, mine, false);
		T_REQUIRE(chown("conf", 1, 0) == 0);
		expect_safe("directory of another owner", 0644, 0755, me, mine, false);
		expect_safe("sticky directory of another owner", 0644, 01777, me, mine, false);
		T_REQUIRE(chown("conf", 0, 1) == 0);
		expect_safe("directory 0775 of another group", 0644, 0775, me, mine, false);
		expect_safe("directory 0755 of another group", 0644, 0755, me, mine, true);
	}
	leave_dir();
}

T_CASE(links_to_unsafe_places)
{
	struct spec_image img;
	char *err;

	enter_dir();
	T_REQUIRE(mkdir("open", 0755) == 0 && chmod("open", 0777) == 0);
	put_text("open/real.conf", "supervisor: { };");
	T_REQUIRE(symlink("../open/real.conf", "conf/l.conf") == 0);
	T_EQ_INT(load("conf/l.conf", &img, &err), -1);
	T_HAS(err, "conf/l.conf: refused: ");
	free(err);
	T_REQUIRE(chmod("open", 0755) == 0);
	T_EQ_INT(load("conf/l.conf", &img, &err), 0);
	spec_close(&img);
	free(err);
	/* The way to the link matters, too. */
	T_REQUIRE(chmod("conf", 0777) == 0);
	T_EQ_INT(load("conf/l.conf", &img, &err), -1);
	free(err);
	if (geteuid() == 0) {
		T_REQUIRE(chmod("conf", 01777) == 0 && lchown("conf/l.conf", 1, 1) == 0);
		T_EQ_INT(load("conf/l.conf", &img, &err), -1);
		T_HAS(err, "belongs to user 1");
		free(err);
	}
	leave_dir();
}

T_CASE(files_that_cannot_be_read)
{
	struct spec_image img;
	char *err;

	enter_dir();
	T_EQ_INT(load("none.conf", &img, &err), -1);
	T_EQ_STR(err, "none.conf: unable to open: No such file or directory\n");
	free(err);
	T_EQ_INT(load("conf", &img, &err), -1);
	T_EQ_STR(err, "conf: refused: it is a directory, not a file\n");
	free(err);
	T_EQ_INT(load("conf/../conf/./none", &img, &err), -1);
	free(err);
	T_EQ_INT(load("", &img, &err), -1);
	free(err);
	put_text("odd name.conf", "supervisor: { };");
	T_EQ_INT(load("odd name.conf", &img, &err), -1);
	T_EQ_STR(err, "odd name.conf:1: the file's name cannot be the node's name (\"odd name\"); add node = \"NAME\"\n");
	free(err);
	put_text("b\nc\x1b.conf", "supervisor: { ");
	T_EQ_INT(load("b\nc\x1b.conf", &img, &err), -1);
	T_HAS(err, "b\\x0ac\\x1b.conf:1: ");
	free(err);
	leave_dir();
}

/* --- the other ways in --- */

static int load_words(const char *const *keys, const char *const *argv, struct spec_image *img, char **err_r)
{
	int err = scratch(), fd = config_load_child("pool", keys, argv, 3, err);

	*err_r = take_text(err);
	if (fd < 0)
		return -1;
	T_REQUIRE(spec_open(img, fd) == 0);
	return 0;
}

#define WORDS(...) (const char *const[]){ __VA_ARGS__, NULL }

T_CASE(words)
{
	const struct spec_child *c;
	struct spec_image img;
	char *err;

	T_EQ_INT(load_words(WORDS("id=7", "restart=transient", "shutdown=infinity", "env={A=\"1;\"; B=\"\"}", "nice=3",
	    "success=[0,2]", "log=null", "dir=/tmp/a b"), WORDS("/bin/x", "a b", "q\"\\\n%i"), &img, &err), 0);
	T_EQ_STR(err, "");
	free(err);
	c = spec_first_child(&img, spec_top(&img));
	T_EQ_STR(spec_string(&img, c->id), "7");
	T_EQ_STR(spec_string(&img, c->path), "pool/7");
	T_CHECK(!spec_next_child(&img, c));
	T_EQ_INT(c->sup.restart, SUP_TRANSIENT);
	T_EQ_INT(c->sup.shutdown_ms, SUP_SHUTDOWN_INFINITY);
	T_EQ_INT(c->worker.nice, 3);
	T_EQ_INT(c->worker.success_codes[0], 5);
	T_EQ_INT(c->worker.env.count, 2);
	T_EQ_STR(spec_string(&img, c->worker.dir), "/tmp/a b");
	T_EQ_STR(spec_list_str(&img, &c->worker.exec, 1), "a b");
	T_EQ_STR(spec_list_str(&img, &c->worker.exec, 2), "q\"\\\n%i");
	T_EQ_INT(img.h->generation, 3);
	spec_close(&img);
}

T_CASE(words_without_id)
{
	const struct spec_child *c;
	struct spec_image img;
	const char *id;
	char *err;

	T_EQ_INT(load_words(NULL, WORDS("/usr/bin/.we ird"), &img, &err), 0);
	free(err);
	c = spec_first_child(&img, spec_top(&img));
	id = spec_string(&img, c->id);
	T_EQ_INT(strlen(id), strlen("_we_ird-012345"));
	T_CHECK(strncmp(id, "_we_ird-", 8) == 0 && strspn(id + 8, "0123456789abcdef") == 6);
	spec_close(&img);
}

static void expect_words(const char *const *keys, const char *const *argv, const char *want)
{
	struct spec_image img;
	char *err;

	T_EQ_INT(load_words(keys, argv, &img, &err), -1);
	T_EQ_STR(err, want);
	free(err);
}

T_CASE(words_that_are_wrong)
{
	expect_words(WORDS("nise=3", "novalue", "restart=maybe", "restart=temporary", "a b=1"), WORDS("x"),
	    "add: \"novalue\" is not key=value\n"
	    "add: unknown key `a b`\n"
	    "add: unknown key `nise`; did you mean `nice`?\n"
	    "add: `restart` is \"maybe\"; it must be \"permanent\", \"transient\" or \"temporary\"\n"
	    "add: duplicate key `restart`; the first is in another word\n");
	expect_words(WORDS("nice=1; exec = [ \"evil\" ]"), WORDS("x"),
	    "add: `nice` must be a whole number from -20 to 19, not a string\n");
	expect_words(WORDS("nice=1 } evil = {"), WORDS("x"),
	    "add: `nice` must be a whole number from -20 to 19, not a string\n");
	expect_words(WORDS("nice=1\n@include \"/etc/passwd\""), WORDS("x"),
	    "add: `nice` must be a whole number from -20 to 19, not a string\n");
	expect_words(WORDS("nice=1 /*"), WORDS("x"),
	    "add: `nice` must be a whole number from -20 to 19, not a string\n");
	expect_words(WORDS("instances=2"), WORDS("x"),
	    "add: `instances` is for the configuration file; add children one by one\n");
	expect_words(WORDS("significant=true", "restart=transient"), WORDS("x"),
	    "add: `significant` has no meaning here; the supervisor needs auto_shutdown = "
	    "\"any_significant\" or \"all_significant\"\n");
	expect_words(NULL, NULL, "add: a child needs an `id`\n"
	    "add: a worker needs `exec = [ \"/path/of/program\", \"argument\", ... ]`\n");
	expect_words(WORDS("id=x", "exec=[\"y\"]"), WORDS("z"), "add: duplicate key `exec`; the first is in another word\n");
	expect_words(NULL, WORDS(""), "add: `exec` begins with an empty string; its first element is the program\n");
}

static void expect_command(const char *restart, int type, bool significant)
{
	int err = scratch(), fd = config_load_command("n", restart, WORDS("/bin/sh", "-c", "%i"), err);
	const struct spec_child *c;
	struct spec_image img;

	close(err);
	T_REQUIRE(fd >= 0 && spec_open(&img, fd) == 0);
	T_EQ_STR(spec_string(&img, img.h->node), "n");
	T_CHECK(!spec_string(&img, img.h->file));
	c = spec_find(&img, "sh");
	T_REQUIRE(c);
	T_EQ_INT(c->sup.restart, type);
	T_EQ_INT(c->sup.significant, significant);
	T_EQ_INT(spec_top(&img)->flags.auto_shutdown, significant ? SUP_AUTO_ANY_SIGNIFICANT : SUP_AUTO_NEVER);
	T_EQ_INT(c->worker.log, SPEC_LOG_INHERIT);
	T_CHECK(c->worker.foreground && c->worker.kill_orphans_softly);
	T_EQ_STR(spec_list_str(&img, &c->worker.exec, 2), "%i");
	spec_close(&img);
}

T_CASE(commands)
{
	int err = scratch();
	char *text;

	expect_command(NULL, SUP_TEMPORARY, true);
	expect_command("permanent", SUP_PERMANENT, false);
	expect_command("transient", SUP_TRANSIENT, true);
	T_EQ_INT(config_load_command("n", "always", WORDS("x"), err), -1);
	text = take_text(err);
	T_HAS(text, "run: `restart` is \"always\"");
	free(text);
}

/* --- the parser process --- */

static int crashes(void *ctx, int memfd, int err_fd)
{
	(void)memfd, (void)err_fd;
	raise(*(int *)ctx);
	return 0;
}

static int loops(void *ctx, int memfd, int err_fd)
{
	(void)ctx, (void)memfd, (void)err_fd;
	for (;;)
		pause();
	return 0;
}

static int exits(void *ctx, int memfd, int err_fd)
{
	(void)memfd, (void)err_fd;
	return *(int *)ctx;
}

static int writes_rubbish(void *ctx, int memfd, int err_fd)
{
	(void)ctx, (void)err_fd;
	if (write(memfd, "rubbish", 7) == 7)
		fcntl(memfd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW);
	return CONF_EXIT_OK;
}

static int floods(void *ctx, int memfd, int err_fd)
{
	char buf[65536];

	(void)ctx, (void)memfd;
	memset(buf, 'x', sizeof buf);
	for (int i = 0; i < 1024; i++)
		if (write(err_fd, buf, sizeof buf) < 0)
			return 9;
	return CONF_EXIT_ERRORS;
}

static int eats_memory(void *ctx, int memfd, int err_fd)
{
	(void)ctx, (void)memfd, (void)err_fd;
	while (conf_alloc(1 << 24))
		;
	return 0;
}

static int lists_descriptors(void *ctx, int memfd, int err_fd)
{
	int fd;

	(void)ctx;
	for (fd = 0; fd < 64; fd++)
		if (fcntl(fd, F_GETFD) >= 0 && fd > 2 && fd != memfd && fd != err_fd)
			return 9;
	return CONF_EXIT_ERRORS;
}

static void expect_failure(conf_work_f *work, int value, int timeout_ms, const char *want)
{
	int err = scratch(), fd = conf_proc_run("FILE", work, &value, timeout_ms, err);
	char *text;

	T_EQ_INT(fd, -1);
	text = take_text(err);
	T_EQ_STR(text, want);
	free(text);
}

T_CASE(a_broken_parser_is_an_error)
{
	expect_failure(crashes, SIGKILL, 10000, "FILE: the parser failed: it was ended by signal KILL\n");
	expect_failure(crashes, SIGXCPU, 10000, "FILE: the parser failed: it used too much processor time\n");
	expect_failure(exits, 9, 10000, "FILE: the parser failed: it ended with status 9\n");
	expect_failure(exits, CONF_EXIT_MEMORY, 10000, "FILE: the parser failed: it ran out of memory\n");
	expect_failure(exits, CONF_EXIT_OK, 10000, "FILE: the parser failed: its result is unusable\n");
	expect_failure(writes_rubbish, 0, 10000, "FILE: the parser failed: its result is unusable\n");
	expect_failure(loops, 0, 50, "FILE: the parser failed: it took too long\n");
	expect_failure(lists_descriptors, 0, 10000, "");
}

static bool is_sanitized(void)
{
	const char *sanitizers = getenv("COP_SANITIZERS");

	return sanitizers && strspn(sanitizers, " ") != strlen(sanitizers);
}

T_CASE(a_parser_out_of_memory_is_an_error)
{
	/* Sanitizers need address space without a limit. */
	if (!is_sanitized())
		expect_failure(eats_memory, 0, 20000, "FILE: the parser failed: it ran out of memory\n");
}

T_CASE(a_parser_that_floods_is_read_to_its_end)
{
	int err = scratch(), zero = 0;
	char *text;

	T_EQ_INT(conf_proc_run("FILE", floods, &zero, 20000, err), -1);
	text = take_text(err);
	T_CHECK(strlen(text) <= 4u << 20);
	free(text);
}

T_CASE(works_with_sigchld_ignored)
{
	struct spec_image img;

	enter_dir();
	signal(SIGCHLD, SIG_IGN);
	must_load("supervisor: { };", &img);
	spec_close(&img);
	T_CHECK(is_refused("supervisor: { "));
	signal(SIGCHLD, SIG_DFL);
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

T_MAIN(T_RUN(golden_pairs), T_RUN(every_prefix_has_a_line), T_RUN(every_byte_may_be_wrong),
    T_RUN(every_key_may_be_wrong), T_RUN(hostile_text_is_bounded), T_RUN(defaults), T_RUN(all_keys_arrive),
    T_RUN(instances), T_RUN(limits_of_numbers), T_RUN(odd_users_are_refused), T_RUN(users_are_resolved),
    T_RUN(env_file), T_RUN(includes_name_their_own_lines), T_RUN(included_from_the_first_line),
    T_RUN(includes_stay_inside), T_RUN(includes_end), T_RUN(parts), T_RUN(fuzzing_for_a_short_while), T_RUN(files_that_others_can_write),
    T_RUN(links_to_unsafe_places), T_RUN(files_that_cannot_be_read), T_RUN(words), T_RUN(words_without_id),
    T_RUN(words_that_are_wrong), T_RUN(commands), T_RUN(a_broken_parser_is_an_error),
    T_RUN(a_parser_out_of_memory_is_an_error), T_RUN(a_parser_that_floods_is_read_to_its_end),
    T_RUN(works_with_sigchld_ignored), T_RUN(hashes_tell_what_a_change_needs),
    T_RUN(check_prints_the_worst_case), T_RUN(many_children))
