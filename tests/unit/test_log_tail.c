/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Reading log directories: the last lines, and following them while they are written and rotated. */
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "t.h"

#include "base/clock.h"
#include "base/fds.h"
#include "cli/cli_log_tail.h"
#include "log_rig.h"

static struct rig rig;

static void put_lines(struct rig_stream *s, int from, int to)
{
	char line[128];
	int i;

	for (i = from; i < to; i++) {
		snprintf(line, sizeof(line), "line %d%.*s\n", i, i % 40, "........................................");
		T_CHECK(rig_puts(s, line));
	}
}

/* Where the last n lines of a text begin, by the plainest means. */
static size_t last(const char *text, size_t len, long n)
{
	size_t at = len;

	if (n == 0)
		return len;
	if (at > 0 && text[at - 1] == '\n')
		at--;
	for (; at > 0; at--)
		if (text[at - 1] == '\n' && --n == 0)
			return at;
	return 0;
}

static void check_tail(const struct rig_stream *s, long n)
{
	size_t len, got_len, from;
	char *all = rig_read(s, &len), *got;
	FILE *f = open_memstream(&got, &got_len);

	T_EQ_INT(log_tail(s->keep.dir, n, f), 0);
	fclose(f);
	from = n < 0 ? 0 : last(all, len, n);
	T_EQ_INT(got_len, len - from);
	T_CHECK(got_len == len - from && memcmp(got, all + from, got_len) == 0);
	free(got);
	free(all);
}

static void check_tails(const struct rig_stream *s)
{
	long n;

	for (n = -1; n < 120; n++)
		check_tail(s, n);
	check_tail(s, 1000000);
}

static void with_files(uint64_t max_bytes, int lines, const char *end)
{
	struct rig_stream *a;

	rig_open(&rig);
	a = rig_add(&rig, 0, max_bytes, 1000, false, NULL);
	put_lines(a, 0, lines);
	T_CHECK(rig_puts(a, end));
	rig_start(&rig, false);
	T_EQ_INT(rig_finish(&rig), 0);
	check_tails(a);
	rig_close(&rig);
}

T_CASE(last_lines_of_one_file) { with_files(0, 100, ""); }
T_CASE(last_lines_of_many_files) { with_files(100, 100, ""); }
T_CASE(last_line_without_an_end) { with_files(100, 50, "an unfinished one"); }
T_CASE(one_line_in_many_files)
{
	char line[3000];

	memset(line, 'x', sizeof(line));
	line[sizeof(line) - 1] = '\0';
	with_files(100, 10, line);
}

T_CASE(no_directory_and_no_file)
{
	char *got;
	size_t len;
	FILE *f = open_memstream(&got, &len);

	rig_open(&rig);
	T_EQ_INT(log_tail("/nonexistent/log", 10, f), -1);
	T_EQ_INT(errno, ENOENT);
	T_EQ_INT(log_follow("/nonexistent/log", 10, f, -1), -1);
	T_EQ_INT(errno, ENOENT);
	T_EQ_INT(log_tail(rig.dir, 10, f), 0);
	fclose(f);
	T_EQ_INT(len, 0);
	free(got);
	rig_close(&rig);
}

/* Bigger than what is read at once. */
T_CASE(big_files)
{
	static char line[50000];
	struct rig_stream *a;
	int i;

	rig_open(&rig);
	a = rig_add(&rig, 1 << 20, 0, 0, false, NULL);
	memset(line, 'y', sizeof(line));
	line[sizeof(line) - 1] = '\n';
	for (i = 0; i < 9; i++)
		T_CHECK(rig_put(a, line, sizeof(line)));
	rig_start(&rig, false);
	T_EQ_INT(rig_finish(&rig), 0);
	for (i = -1; i < 12; i++)
		check_tail(a, i);
	rig_close(&rig);
}

/* --- following ---------------------------------------------------------------------------- */

struct follower {
	pid_t pid;
	int stop[2];
	char path[300];
};

static void follow(struct follower *f, const struct rig_stream *s, long n)
{
	FILE *out;

	snprintf(f->path, sizeof(f->path), "%s/followed", rig.dir);
	T_CHECK(pipe2(f->stop, O_CLOEXEC) == 0);
	out = fopen(f->path, "we");
	fflush(stdout);
	f->pid = fork();
	if (f->pid == 0)
		close(f->stop[1]);
	if (f->pid == 0)
		_exit(log_follow(s->keep.dir, n, out, f->stop[0]) == 0 ? 0 : 1);
	fclose(out);
}

static size_t size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (size_t)st.st_size : 0;
}

static bool wait_size(const struct follower *f, size_t len)
{
	int64_t until = clock_mono_ms() + 20000;

	while (size_of(f->path) < len && clock_mono_ms() < until)
		poll(NULL, 0, 2);
	return size_of(f->path) == len;
}

/* Stops it; true if it wrote exactly what the stream was given. */
static bool stop(struct follower *f, const struct rig_stream *s)
{
	char *got = malloc(s->want_len + 1);
	int status = -1, fd;
	bool same;

	close(f->stop[1]);
	waitpid(f->pid, &status, 0);
	T_EQ_INT(status, 0);
	close(f->stop[0]);
	fd = open(f->path, O_RDONLY | O_CLOEXEC);
	same = size_of(f->path) == s->want_len && read(fd, got, s->want_len) == (ssize_t)s->want_len &&
	    memcmp(got, s->want, s->want_len) == 0;
	if (!same)
		T_FAIL("%zu bytes were followed, %zu written", size_of(f->path), s->want_len);
	close(fd);
	free(got);
	return same;
}

/* Lines come whole and in pieces; the process is killed now and then. */
static void follow_live(uint64_t max_bytes, bool kill_it)
{
	struct rig_stream *a;
	struct follower f;
	char piece[64];
	int i;

	rig_open(&rig);
	a = rig_add(&rig, 0, max_bytes, 100000, false, NULL);
	rig_start(&rig, false);
	put_lines(a, 0, 10);
	T_CHECK(rig_wait(a, 20000));
	follow(&f, a, -1);
	for (i = 0; i < 400; i++) {
		put_lines(a, i, i + 1);
		snprintf(piece, sizeof(piece), "piece %d ", i);
		T_CHECK(rig_puts(a, piece));
		if (i % 5 == 0)
			T_CHECK(wait_size(&f, a->want_len));
		if (kill_it && i % 20 == 10) {
			rig_kill(&rig);
			rig_start(&rig, false);
		}
	}
	T_CHECK(wait_size(&f, a->want_len));
	T_EQ_INT(rig_finish(&rig), 0);
	stop(&f, a);
	rig_close(&rig);
}

T_CASE(follows_one_file) { follow_live(0, false); }
T_CASE(follows_rotations) { follow_live(100, false); }
T_CASE(follows_kills) { follow_live(150, true); }

T_CASE(follows_with_the_last_lines_only)
{
	struct rig_stream *a;
	struct follower f;

	rig_open(&rig);
	a = rig_add(&rig, 0, 100, 1000, false, NULL);
	rig_start(&rig, false);
	put_lines(a, 0, 50);
	T_CHECK(rig_wait(a, 20000));
	follow(&f, a, 2);
	T_CHECK(wait_size(&f, strlen("line 48........\nline 49.........\n")));
	memmove(a->want, a->want + a->want_len - size_of(f.path), size_of(f.path));
	a->want_len = size_of(f.path);
	put_lines(a, 50, 60);
	T_CHECK(wait_size(&f, a->want_len));
	T_EQ_INT(rig_finish(&rig), 0);
	stop(&f, a);
	rig_close(&rig);
}

/* What is written right before the end is still shown. */
T_CASE(stops_after_the_last_word)
{
	struct rig_stream *a;
	struct follower f;

	rig_open(&rig);
	a = rig_add(&rig, 0, 100, 1000, false, NULL);
	rig_start(&rig, false);
	put_lines(a, 0, 1);
	T_CHECK(rig_wait(a, 20000));
	follow(&f, a, -1);
	T_CHECK(wait_size(&f, a->want_len));
	kill(f.pid, SIGSTOP);
	put_lines(a, 1, 60);
	T_EQ_INT(rig_finish(&rig), 0);
	kill(f.pid, SIGCONT);
	stop(&f, a);
	rig_close(&rig);
}

T_MAIN(T_RUN(last_lines_of_one_file), T_RUN(last_lines_of_many_files), T_RUN(last_line_without_an_end),
    T_RUN(one_line_in_many_files), T_RUN(no_directory_and_no_file), T_RUN(big_files), T_RUN(follows_one_file),
    T_RUN(follows_rotations), T_RUN(follows_kills), T_RUN(follows_with_the_last_lines_only),
    T_RUN(stops_after_the_last_word))
