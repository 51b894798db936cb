/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The parser process, which may crash, loop, or take all memory, and what is not a file: words of
 * `coppice add`, commands of `coppice run --`.
 */
#include <sys/resource.h>

#include "config_rig.h"

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

T_CASE(a_parser_out_of_memory_is_an_error)
{
	/* Sanitizers need address space without a limit. */
	if (!is_sanitized())
		expect_failure(eats_memory, 0, 20000, "FILE: the parser failed: it ran out of memory\n");
}

struct starvation {
	const char *text;
	size_t spare; /* bytes of address space beyond what is there at the beginning */
};

/* Parses with hardly any memory, so that it runs out here or there, in our code or the library's. */
static int starved(void *ctx, int memfd, int err_fd)
{
	const struct starvation *s = ctx;
	unsigned long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");
	struct rlimit rl;

	if (!f || fscanf(f, "%lu", &pages) != 1)
		return 9;
	fclose(f);
	rl.rlim_cur = rl.rlim_max = pages * (rlim_t)sysconf(_SC_PAGESIZE) + s->spare;
	if (setrlimit(RLIMIT_AS, &rl) < 0)
		return 9;
	return conf_job_run_text("./x.conf", s->text, strlen(s->text), memfd, err_fd);
}

T_CASE(running_out_of_memory_anywhere_is_an_error)
{
	static char text[600000] = "supervisor: { children = ( ";
	struct starvation s = { .text = text };
	unsigned good = 0, bad = 0;
	size_t len = strlen(text);
	int i;

	if (is_sanitized())
		return;
	for (i = 0; i < 5000; i++)
		len += (size_t)sprintf(text + len, "%s{ id = \"c%d\"; exec = [ \"x\" ]; restart = \"transient\"; }\n",
		    i ? "," : "", i);
	strcpy(text + len, " ); };");
	for (s.spare = 0; s.spare < 24u << 20; s.spare += 256u << 10) {
		int err = scratch(), fd = conf_proc_run("./x.conf", starved, &s, 20000, err);
		char *said = take_text(err);

		if (fd >= 0)
			close(fd), good++;
		else if (strncmp(said, "./x.conf: the parser failed: it ", 32) == 0)
			bad++;
		else
			T_FAIL("with %zu bytes to spare: \"%s\"", s.spare, said);
		free(said);
	}
	T_CHECK(good > 0 && bad > 0);
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

T_MAIN(T_RUN(words), T_RUN(words_without_id), T_RUN(words_that_are_wrong), T_RUN(commands),
    T_RUN(a_broken_parser_is_an_error), T_RUN(a_parser_out_of_memory_is_an_error),
    T_RUN(running_out_of_memory_anywhere_is_an_error),
    T_RUN(a_parser_that_floods_is_read_to_its_end), T_RUN(works_with_sigchld_ignored))
