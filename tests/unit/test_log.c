/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* The pure parts of the log process: names, marks, and what a batch becomes. */
#include <stdbool.h>

#include "t.h"

#include "node/log_feed.h"
#include "node/log_mark.h"
#include "node/log_name.h"
#include "node/log_private.h"

#define SECRET "0123456789abcdef0123456789abcdef"

/* --- names --- */

T_CASE(names_are_times)
{
	char name[LOG_NAME_SIZE];

	log_name_make(INT64_C(1767225600123456), name);
	T_EQ_STR(name, "@20260101T000000.123456Z.s");
	T_CHECK(log_name_is_rotated(name));
	T_EQ_INT(log_name_time(name), INT64_C(1767225600123456));
	T_CHECK(!log_name_is_rotated("current"));
	T_CHECK(!log_name_is_rotated("@20260101T000000.123456Z.sx"));
	T_CHECK(!log_name_is_rotated("@20260101T000000.12345"));
	T_CHECK(!log_name_is_rotated(""));
	T_EQ_INT(log_name_time("@2026"), -1);
}

/* --- marks --- */

static size_t mark(char *buf, const char *text)
{
	int n = snprintf(buf + 1, 300, SECRET "%s", text);

	buf[0] = '\0';
	return (size_t)n + 1;
}

T_CASE(marks_are_found_and_read)
{
	char buf[512] = "out", record[LOG_RECORD_MAX];
	size_t n = 3 + mark(buf + 3, "X 42 1767225600123456 3141 signal:SEGV+core\n");
	struct log_mark m;

	memcpy(buf + n, "more", 4);
	T_REQUIRE(log_mark_find(SECRET, (uint8_t *)buf, n + 4, 0, &m));
	T_EQ_INT(m.at, 3);
	T_EQ_INT(m.len, n - 3);
	T_EQ_INT(m.kind, 'X');
	T_EQ_INT(m.pid, 42);
	T_EQ_STR(m.reason, "signal:SEGV+core");
	n = log_mark_record(&m, record);
	record[n] = '\0';
	T_EQ_STR(record, "2026-01-01T00:00:00.123456Z coppice: exit pid 42 signal:SEGV+core after 3.141 s\n");
	T_CHECK(!log_mark_find(SECRET, (uint8_t *)buf, n, m.at + 1, &m));
}

/* What has the secret but is no mark never reaches a file, where a child could read it. */
T_CASE(damaged_marks_are_skipped)
{
	static const char *const bad[] = { "", "S", "S 1\n", "Q 1 2\n", "S 1 2 3\n", "X 1 2 3\n",
		"S 99999999999999999999 x\n", "X 1 2 3 a\nb" };
	char buf[512], record[LOG_RECORD_MAX];
	struct log_mark m;
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		size_t n = mark(buf, bad[i]);

		T_REQUIRE(log_mark_find(SECRET, (uint8_t *)buf, n, 0, &m));
		T_CHECK(m.kind == 0 ? m.len == 33 : m.kind == 'X');
		T_CHECK((log_mark_record(&m, record) > 0) == (m.kind != 0));
	}
}

T_CASE(forgeries_are_output)
{
	char buf[512];
	size_t n = mark(buf, "S 1 1\n");
	struct log_mark m;

	buf[7] ^= 1;
	T_CHECK(!log_mark_find(SECRET, (uint8_t *)buf, n, 0, &m));
	T_EQ_INT(log_mark_tail(SECRET, (uint8_t *)buf, n), 0);
}

/* Every proper beginning of a mark is recognised, whatever stands before it. */
T_CASE(cut_marks_are_held)
{
	char buf[1024];
	size_t n, cut, before;

	for (before = 0; before < 300; before += 7) {
		memset(buf, before & 1 ? '\0' : 'x', before);
		n = mark(buf + before, "S 42 1767225600000000\n");
		for (cut = 1; cut < n; cut++)
			T_EQ_INT(log_mark_tail(SECRET, (uint8_t *)buf, before + cut), cut);
		T_EQ_INT(log_mark_tail(SECRET, (uint8_t *)buf, before + n), 0);
	}
}

/* --- the feed --- */

static struct log_feed feed;

struct sink {
	char text[8192];
	size_t len;
	int rotations;
	size_t largest;
	struct log_state st;
};

static void feed_init(const char *in, size_t len, bool stamps, uint64_t max_bytes)
{
	struct log_batch b = { .len = (uint32_t)len, .time_us = INT64_C(1767225600000000),
		.max_bytes = max_bytes, .timestamps = stamps };

	log_feed_init(&feed, (const uint8_t *)in, &b, SECRET);
}

/* Plays the file: a rotation puts '|' into the text. */
static void play(struct sink *s)
{
	struct log_step step;

	s->st.in_pos = 0;
	for (;;) {
		log_feed_next(&feed, &s->st, &step);
		if (step.kind == LOG_STEP_END)
			return;
		if (step.kind == LOG_STEP_ROTATE) {
			size_t begun = s->st.mid && s->st.line_off > 0 ? s->st.off - s->st.line_off : 0;

			memmove(s->text + s->len - begun + 1, s->text + s->len - begun, begun);
			s->text[s->len - begun] = '|';
			s->len++;
			s->st.off = begun;
			s->st.line_off = 0;
			s->st.fresh = 0;
			s->rotations++;
			continue;
		}
		memcpy(s->text + s->len, step.out ? (const char *)step.out : "", step.out_len);
		s->len += step.out_len;
		s->st = step.after;
		T_REQUIRE(s->len < sizeof(s->text) / 2 && s->rotations < 1000);
		if (s->st.off > s->largest)
			s->largest = s->st.off;
	}
}

static const char *text_of(struct sink *s)
{
	s->text[s->len] = '\0';
	return s->text;
}

T_CASE(lines_get_their_time_once)
{
	struct sink s = { 0 };

	feed_init("one\ntwo", 7, true, 0);
	play(&s);
	feed_init(" and more\n\n", 11, true, 0);
	play(&s);
	T_EQ_STR(text_of(&s), "2026-01-01T00:00:00.000000Z one\n2026-01-01T00:00:00.000000Z two and more\n"
	    "2026-01-01T00:00:00.000000Z \n");
	T_EQ_INT(s.st.mid, 0);
	T_EQ_INT(s.st.off, s.len);
}

T_CASE(files_are_cut_between_lines)
{
	char in[1000];
	struct sink s = { 0 };
	int i, n = 0;

	for (i = 0; i < 20; i++)
		n += snprintf(in + n, sizeof(in) - (size_t)n, "line %d%.*s\n", i, i, "....................");
	feed_init(in, (size_t)n, false, 64);
	play(&s);
	T_CHECK(s.largest <= 64);
	T_CHECK(s.rotations > 4);
	for (i = 1; i < (int)s.len; i++)
		T_CHECK(s.text[i] != '|' || s.text[i - 1] == '\n');
}

/* A line that is begun in a full file goes over to the next one with what is there of it. */
T_CASE(begun_lines_move)
{
	struct sink s = { 0 };
	char rest[60];

	feed_init("first line\nsecond, begun", 24, false, 64);
	play(&s);
	memset(rest, '.', sizeof(rest));
	rest[sizeof(rest) - 1] = '\n';
	feed_init(rest, 45, false, 64);
	play(&s);
	T_EQ_STR(text_of(&s), "first line\n|second, begun.............................................");
	T_EQ_INT(s.st.mid, 1);
	T_EQ_INT(s.st.line_off, 0);
	feed_init(rest, sizeof(rest), false, 64);
	play(&s);
	T_CHECK(s.largest <= 64);
}

T_CASE(long_lines_are_split)
{
	struct sink s = { 0 };
	char in[300];
	size_t i, pieces = 0;

	memset(in, 'x', sizeof(in));
	in[sizeof(in) - 1] = '\n';
	feed_init(in, sizeof(in), true, 100);
	play(&s);
	T_CHECK(s.largest <= 100);
	for (i = 0; i < s.len; i++)
		pieces += s.text[i] == 'x';
	T_EQ_INT(pieces, sizeof(in) - 1);
	T_EQ_INT(s.len, sizeof(in) + 28 + (size_t)s.rotations);
}

T_CASE(records_stand_on_lines_of_their_own)
{
	char in[512] = "half a line";
	struct sink s = { 0 };
	size_t n = 11 + mark(in + 11, "X 7 1767225600000000 1 exit:3\n");

	n += mark(in + n, "S 8 1767225600000000\n");
	memcpy(in + n, "next\n", 5);
	feed_init(in, n + 5, false, 0);
	play(&s);
	T_EQ_STR(text_of(&s), "half a line\n2026-01-01T00:00:00.000000Z coppice: exit pid 7 exit:3 after 0.001 s\n"
	    "2026-01-01T00:00:00.000000Z coppice: start pid 8\nnext\n");
	T_EQ_INT(s.st.pid, 8);
	T_EQ_INT(s.st.armed, 1);
	T_EQ_INT(s.st.ring_pos - s.st.run_pos, 5);
}

T_CASE(only_whole_lines_are_cut_off)
{
	struct log_state st = { 0 };
	struct log_step step;

	feed_init("one\ntwo\nthree\n", 14, false, 0);
	T_REQUIRE(log_feed_cut(&feed, &st, 10, &step));
	T_EQ_INT(step.out_len, 8);
	T_EQ_INT(step.after.in_pos, 8);
	T_CHECK(!log_feed_cut(&feed, &st, 3, &step));
}

/* What cannot be written is counted, with the begun line in the file, and said once. */
T_CASE(losses_are_counted)
{
	struct sink s = { 0 };
	struct log_step step;

	feed_init("kept\nbegun", 10, false, 0);
	play(&s);
	s.st.in_pos = 0;
	feed_init(" line\nlost\nand thi", 18, false, 0);
	log_feed_drop(&feed, &s.st, 28, &step);
	T_EQ_INT(step.kind, LOG_STEP_SKIP);
	T_EQ_INT(step.after.lost_lines, 2);
	T_EQ_INT(step.after.lost_bytes, 5 + 18);
	T_EQ_INT(step.after.off, 5);
	T_EQ_INT(step.after.cut, 1);
	T_EQ_INT(step.after.dropping, 1);
	s.st = step.after;
	s.len = 5;
	feed_init("s too\nseen\n", 11, false, 0);
	play(&s);
	T_EQ_STR(text_of(&s), "kept\n2026-01-01T00:00:00.000000Z coppice: 3 lines (29 bytes) lost: "
	    "No space left on device\nseen\n");
	T_EQ_INT(s.st.lost_errno, 0);
}

/* The same batch in pieces of any size gives the same text. */
T_CASE(pieces_do_not_matter)
{
	char in[1024];
	struct sink whole = { 0 };
	size_t n = 0, piece, at, i;

	for (i = 0; i < 12; i++)
		n += (size_t)snprintf(in + n, sizeof(in) - n, "line %zu %.*s\n", i, (int)(i * 3),
		    "..............................");
	feed_init(in, n, true, 0);
	play(&whole);
	for (piece = 1; piece < n; piece++) {
		struct sink s = { 0 };

		for (at = 0; at < n; at += piece) {
			feed_init(in + at, n - at < piece ? n - at : piece, true, 0);
			play(&s);
		}
		T_EQ_INT(s.len, whole.len);
		T_CHECK(memcmp(s.text, whole.text, whole.len) == 0);
	}
}

/* --- last lines, ready --- */

T_CASE(last_lines)
{
	T_EQ_INT(log_death_tail("a\nb\nc\n", 6), 0);
	T_EQ_INT(log_death_tail("0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n", 23), 2);
	T_EQ_INT(log_death_tail("0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10", 22), 2);
	T_EQ_INT(log_death_tail("", 0), 0);
}

static bool ready(struct log_ready *r, const char *s)
{
	return log_ready_feed(r, (const uint8_t *)s, strlen(s));
}

T_CASE(ready_lines)
{
	char why[64], longer[20000];
	struct log_ready *r = log_ready_create("^listening on (port )?[0-9]+$", why, sizeof(why));

	T_REQUIRE(r != NULL);
	T_CHECK(!ready(r, "not listening on 80\n"));
	T_CHECK(!ready(r, "listening "));
	T_CHECK(!ready(r, "on port 80"));
	T_CHECK(ready(r, "80\n"));
	T_CHECK(ready(r, "x\nlistening on 1\ny\n"));
	T_CHECK(!ready(r, "listening on 1"));
	log_ready_reset(r, (const uint8_t *)"list", 4);
	T_CHECK(ready(r, "ening on 22\n"));
	memset(longer, 'a', sizeof(longer));
	T_CHECK(!log_ready_feed(r, (uint8_t *)longer, sizeof(longer)));
	T_CHECK(!log_ready_feed(r, (uint8_t *)longer, sizeof(longer)));
	T_CHECK(!ready(r, "\n"));
	T_CHECK(ready(r, "listening on 1\n"));
	log_ready_destroy(&r);
	T_CHECK(r == NULL);
	T_CHECK(log_ready_create("(a)\\1", why, sizeof(why)) == NULL);
	T_CHECK(log_ready_create("(a", why, sizeof(why)) == NULL && why[0] != '\0');
	r = log_ready_create("a\\\\1", why, sizeof(why));
	T_CHECK(r != NULL);
	log_ready_destroy(&r);
}

T_MAIN(T_RUN(names_are_times), T_RUN(marks_are_found_and_read), T_RUN(damaged_marks_are_skipped),
    T_RUN(forgeries_are_output), T_RUN(cut_marks_are_held), T_RUN(lines_get_their_time_once),
    T_RUN(files_are_cut_between_lines), T_RUN(begun_lines_move), T_RUN(long_lines_are_split),
    T_RUN(records_stand_on_lines_of_their_own), T_RUN(only_whole_lines_are_cut_off),
    T_RUN(losses_are_counted), T_RUN(pieces_do_not_matter), T_RUN(last_lines), T_RUN(ready_lines))
