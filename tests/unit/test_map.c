/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* The parts of coppice map that decide without a process: words, the ledger, the log. */
#include <fcntl.h>
#include <sys/stat.h>

#include "map/map_private.h"
#include "t.h"

/* --- words --- */

static struct item item_with(char *text, size_t len, size_t n)
{
	return (struct item){ .text = text, .len = len, .n_args = n, .seq = 7, .chunk = -1 };
}

static void expect_words(char *const *cmd, size_t n, const struct item *it, const char *expected)
{
	struct map_options o = { .cmd = cmd, .n_cmd = n };
	struct strings s = { 0 };
	struct words w;
	char line[512];

	words_init(&w, &o);
	words_expand(&w, it, 3, &s);
	line[words_quote(&s, true, line, sizeof line - 1)] = '\0';
	T_EQ_STR(line, expected);
	strings_fini(&s);
}

T_CASE(words_are_replaced)
{
	char one[] = "d/f.tar.gz", two[] = "a\0b c";
	struct item a = item_with(one, sizeof one, 1), b = item_with(two, sizeof two, 2);
	char *const all[] = { "x", "{}", "{.}", "{/}", "{//}", "{/.}", "{#}", "{%}", "{", "{x}", "{{}}", NULL };
	char *const none[] = { "echo", NULL };
	char *const some[] = { "echo", "<{}>", "{#}", NULL };

	expect_words(all, 11, &a, "x d/f.tar.gz d/f.tar f.tar.gz d f.tar 7 3 '{' '{x}' '{d/f.tar.gz}'");
	expect_words(none, 1, &b, "echo a 'b c'");
	expect_words(some, 3, &b, "echo '<a>' '<b c>' 7");
}

T_CASE(words_are_quoted)
{
	char odd[] = "it's\n\\\001\t$x";
	struct item it = item_with(odd, sizeof odd, 1);
	char *const cmd[] = { "a b", "", "$(x)", NULL };

	expect_words(cmd, 3, &it, "'a b' '' '$(x)' $'it\\'s\\n\\\\\\x01\\t$x'");
}

T_CASE(first_words_are_quoted_that_a_shell_would_obey)
{
	char *argv[] = { "if", "if", "A=1", "a\n\tb", NULL };
	struct strings s = { .argv = argv, .n = 4 };
	char buf[64];

	buf[words_quote(&s, false, buf, sizeof buf - 1)] = '\0';
	T_EQ_STR(buf, "'if' if A=1 'a\n\tb'");
	s.argv = argv + 2;
	s.n = 2;
	buf[words_quote(&s, true, buf, sizeof buf - 1)] = '\0';
	T_EQ_STR(buf, "'A=1' $'a\\n\\tb'");
}

T_CASE(a_line_is_cut_where_it_must_be)
{
	char *argv[] = { "abc", "d e", NULL };
	struct strings s = { .argv = argv, .n = 2 };
	char buf[8] = "......#";

	T_EQ_INT(words_quote(&s, true, buf, 6), 6);
	T_EQ_STR(buf, "abc 'd#");
}

T_CASE(programs_are_found)
{
	char path[64];

	T_EQ_INT(words_find("sh", path, sizeof path), 0);
	T_CHECK(path[0] == '/');
	T_EQ_INT(words_find("/nonexistent", path, sizeof path), ENOENT);
	T_EQ_INT(words_find("no-such-program", path, sizeof path), ENOENT);
	T_EQ_INT(words_find("/tmp", path, sizeof path), EACCES);
	T_EQ_INT(words_find("/etc/passwd", path, sizeof path), EACCES);
	T_EQ_INT(words_find("sh", path, 2), ENAMETOOLONG);
	T_EQ_INT(words_find("", path, sizeof path), ENOENT);
}

/* --- the ledger --- */

static int temporary(int as)
{
	int fd = open("/tmp", O_TMPFILE | O_RDWR | O_APPEND, 0600);

	T_REQUIRE(fd >= 0);
	if (as >= 0) {
		T_REQUIRE(dup2(fd, as) == as);
		close(fd);
		return as;
	}
	return fd;
}

static off_t size_of(int fd)
{
	struct stat st;

	T_REQUIRE(fstat(fd, &st) == 0);
	return st.st_size;
}

static void put(int fd, const char *s)
{
	T_REQUIRE(write(fd, s, strlen(s)) == (ssize_t)strlen(s));
}

/* Standard output is a file for as long as the case looks at it. */
struct stage {
	struct ledger *ledger;
	int out, log;
};

static struct stage stage(void)
{
	struct stage s = { .ledger = ledger_make(), .log = temporary(-1) };

	fflush(stdout);
	s.out = dup(STDOUT_FILENO);
	T_REQUIRE(s.ledger && s.out >= 0);
	temporary(STDOUT_FILENO);
	put(STDOUT_FILENO, "before");
	put(s.log, "head\n");
	memcpy(s.ledger->line, "line\n", 5);
	s.ledger->len = 5;
	ledger_output(s.ledger, s.log);
	return s;
}

static void unstage(struct stage *s, off_t *out_r, off_t *log_r)
{
	*out_r = size_of(STDOUT_FILENO);
	*log_r = size_of(s->log);
	T_EQ_INT(atomic_load(&s->ledger->phase), LEDGER_IDLE);
	dup2(s->out, STDOUT_FILENO);
	close(s->out);
	close(s->log);
}

T_CASE(output_without_a_line_is_taken_back)
{
	struct stage s = stage();
	off_t out, log;

	put(STDOUT_FILENO, "half");
	atomic_store(&s.ledger->done[0], 2);
	atomic_store(&s.ledger->want[0], 9);
	ledger_settle(s.ledger, s.log);
	unstage(&s, &out, &log);
	T_EQ_INT(out, 6);
	T_EQ_INT(log, 5);
}

T_CASE(what_others_wrote_stays)
{
	struct stage s = stage();
	off_t out, log;

	put(STDOUT_FILENO, "half, and somebody else");
	atomic_store(&s.ledger->done[0], 4);
	ledger_settle(s.ledger, s.log);
	unstage(&s, &out, &log);
	T_EQ_INT(out, 6 + 23);
	T_EQ_INT(log, 5);
}

T_CASE(a_line_that_is_due_is_completed)
{
	struct stage s = stage();
	off_t out, log;

	put(STDOUT_FILENO, "all");
	ledger_line(s.ledger);
	put(s.log, "li");
	ledger_settle(s.ledger, s.log);
	unstage(&s, &out, &log);
	T_EQ_INT(out, 9);
	T_EQ_INT(log, 10);
}

/* --- the log --- */

T_CASE(a_log_is_read_whatever_is_in_it)
{
	char name[] = "/tmp/cop-map-XXXXXX";
	int fd = mkstemp(name);
	struct map_options o = { .joblog = name, .resume = true };
	struct joblog l;

	T_REQUIRE(fd >= 0);
	put(fd, "Seq\tHost\n3\t:\t1.0\t0.1\t0\t4\t0\t0\tx\n1\t:\t1.0\t0.1\t0\t4\t1\t0\tx\n\n-4\t\n0\t\n"
		"99999999999999999999999\t:\n18446744073709551614\t:\t1\t1\t0\t0\t0\t0\tx\n2\t:\t1\t1\t0\t0\t0\t9\tx\n7\t:");
	T_EQ_INT(joblog_open(&l, &o), 0);
	T_CHECK(joblog_has(&l, 1) && joblog_has(&l, 2) && joblog_has(&l, 3));
	T_CHECK(!joblog_has(&l, 4) && !joblog_has(&l, 7));
	T_CHECK(joblog_has(&l, UINT64_MAX - 1));
	close(l.fd);
	free(l.done);
	o.resume_failed = true;
	T_EQ_INT(joblog_open(&l, &o), 0);
	T_CHECK(!joblog_has(&l, 1) && !joblog_has(&l, 2) && joblog_has(&l, 3));
	close(l.fd);
	free(l.done);
	close(fd);
	unlink(name);
}

T_MAIN(T_RUN(words_are_replaced), T_RUN(words_are_quoted), T_RUN(a_line_is_cut_where_it_must_be),
    T_RUN(first_words_are_quoted_that_a_shell_would_obey), T_RUN(programs_are_found), T_RUN(output_without_a_line_is_taken_back), T_RUN(what_others_wrote_stays),
    T_RUN(a_line_that_is_due_is_completed), T_RUN(a_log_is_read_whatever_is_in_it))
