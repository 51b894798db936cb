/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* Events: encoding, JSON, the writing end with its queue, and parts put together again. */
#include "t.h"

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <unistd.h>

#include "node/event.h"

#define LONG_LIST 20000

static struct event exit_event(void)
{
	struct event e = {
		.type = EVENT_EXIT, .time_us = 1769860800123456, .pid = 4250, .asked = 0, .ran_ms = 77, .path = "cache",
	};

	e.reason = cop_exit_make(COP_EXIT_SIGNAL, SIGKILL);
	return e;
}

static size_t encode(const struct event *e, uint8_t *buf, size_t size)
{
	struct wire_out w;

	wire_out_init(&w, buf, size);
	event_put(&w, e);
	T_CHECK(!w.overflow);
	return w.len;
}

/* The event as JSON, in memory to be freed. */
static char *json_of(const struct event *e, uint64_t seq)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	event_json(f, seq, e);
	fclose(f);
	return text;
}

static void expect_json(const struct event *e, uint64_t seq, const char *expected)
{
	char *text = json_of(e, seq);

	T_EQ_STR(text, expected);
	free(text);
}

T_CASE(round_trip)
{
	static const char list[] = "a\0b/c";
	struct event e = exit_event(), back;
	uint8_t buf[1024];
	char scratch[1024];
	size_t len;

	e.list = list;
	e.list_len = sizeof(list);
	e.cause = "web";
	len = encode(&e, buf, sizeof(buf));
	T_EQ_INT(event_get(buf, len, &back, scratch, sizeof(scratch)), 0);
	T_EQ_INT(back.type, EVENT_EXIT);
	T_EQ_INT(back.pid, 4250);
	T_EQ_INT(back.ran_ms, 77);
	T_EQ_INT(back.reason.value, SIGKILL);
	T_EQ_STR(back.path, "cache");
	T_EQ_STR(back.cause, "web");
	T_EQ_STR(back.how, "");
	T_EQ_INT(back.list_len, sizeof(list));
	T_CHECK(memcmp(back.list, list, sizeof(list)) == 0);
}

T_CASE(scratch_as_long_as_the_message_is_enough)
{
	struct event e = exit_event(), back;
	uint8_t buf[1024];
	char scratch[1024];
	size_t len = encode(&e, buf, sizeof(buf));

	T_EQ_INT(event_get(buf, len, &back, scratch, len), 0);
}

T_CASE(every_truncation_and_flip_is_survived)
{
	struct event e = exit_event(), back;
	uint8_t buf[1024], copy[1024];
	char scratch[1024];
	size_t len, i;

	e.list = "x\0y";
	e.list_len = 4;
	len = encode(&e, buf, sizeof(buf));
	for (i = 0; i < len; i++)
		T_EQ_INT(event_get(buf, i, &back, scratch, sizeof(scratch)), -1);
	for (i = 0; i < len * 8; i++) {
		memcpy(copy, buf, len);
		copy[i / 8] ^= (uint8_t)(1u << i % 8);
		if (event_get(copy, len, &back, scratch, sizeof(scratch)) == 0)
			free(json_of(&back, 1));
	}
}

T_CASE(long_texts_are_cut)
{
	struct event e = exit_event(), back;
	char text[2000], scratch[4096];
	uint8_t buf[4096];
	size_t len;

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	e.why = text;
	len = encode(&e, buf, sizeof(buf));
	T_EQ_INT(event_get(buf, len, &back, scratch, sizeof(scratch)), 0);
	T_EQ_INT(strlen(back.why), EVENT_TEXT_MAX - 1);
}

T_CASE(json_of_an_exit)
{
	struct event e = exit_event();

	expect_json(&e, 17, "{\"seq\":17,\"time\":\"2026-01-31T12:00:00.123456Z\",\"event\":\"exit\","
	    "\"path\":\"cache\",\"pid\":4250,\"reason\":\"signal:KILL\",\"asked\":false,\"ran_ms\":77}");
}

T_CASE(json_of_the_others)
{
	struct event e = { .type = EVENT_RESTART, .time_us = 0, .path = "app", .cause = "app/db", .restarts_left = 2,
		.list = "app/db\0app/api", .list_len = sizeof("app/db\0app/api") };

	expect_json(&e, 1, "{\"seq\":1,\"time\":\"1970-01-01T00:00:00.000000Z\",\"event\":\"restart\",\"path\":\"app\","
	    "\"children\":[\"app/db\",\"app/api\"],\"strategy\":\"one_for_one\",\"restarts_left\":2,"
	    "\"cause\":\"app/db\"}");
	e = (struct event){ .type = EVENT_START_FAILED, .path = "x" };
	e.reason = cop_exit_make_text(COP_EXIT_EXEC, ENOENT, "exec");
	expect_json(&e, 2, "{\"seq\":2,\"time\":\"1970-01-01T00:00:00.000000Z\",\"event\":\"start_failed\",\"path\":\"x\","
	    "\"reason\":\"exec:ENOENT\",\"step\":\"exec\"}");
	e = (struct event){ .type = EVENT_RELOAD, .list = "n", .list_len = 2 };
	expect_json(&e, 3, "{\"seq\":3,\"time\":\"1970-01-01T00:00:00.000000Z\",\"event\":\"reload\",\"added\":[\"n\"],"
	    "\"changed\":[],\"removed\":[]}");
	e = (struct event){ .type = EVENT_SHUTDOWN, .why = "a\"\n" };
	expect_json(&e, 4, "{\"seq\":4,\"time\":\"1970-01-01T00:00:00.000000Z\",\"event\":\"shutdown\","
	    "\"why\":\"a\\\"\\n\"}");
}

T_CASE(text_is_one_line_whatever_is_in_it)
{
	struct event e = { .type = EVENT_NOTE, .why = "a\nb\x1b[2J" };
	char *text = NULL;
	size_t size;
	FILE *f;

	setenv("TZ", "UTC", 1);
	f = open_memstream(&text, &size);
	event_text(f, 1, &e);
	fclose(f);
	T_CHECK(strchr(text, '\n') == NULL && strchr(text, '\x1b') == NULL);
	free(text);
	e = exit_event();
	f = open_memstream(&text, &size);
	event_text(f, 1, &e);
	fclose(f);
	T_EQ_STR(text, "12:00:00.123 exit cache pid 4250 signal:KILL");
	free(text);
}

/* --- the pipe --- */

struct ends {
	int r, w;
	struct event_pipe p;
	struct event_parts *parts;
	uint8_t buf[1 << 20];
	size_t len;
};

static struct ends *ends_open(size_t queue)
{
	struct ends *e = calloc(1, sizeof(*e));
	int fd[2];

	T_REQUIRE(e != NULL && pipe2(fd, O_NONBLOCK | O_CLOEXEC) == 0);
	e->r = fd[0];
	e->w = fd[1];
	T_REQUIRE(event_pipe_init(&e->p, fd[1], queue) == 0);
	e->parts = event_parts_create(8 * EVENT_MSG_MAX);
	T_REQUIRE(e->parts != NULL);
	return e;
}

static void ends_close(struct ends *e)
{
	close(e->r);
	close(e->w);
	free(e->p.q);
	event_parts_destroy(&e->parts);
	free(e);
}

/* Takes the next event out of the pipe; false: there is none. */
static bool next_event(struct ends *e, struct event *ev)
{
	static char scratch[EVENT_MSG_MAX];
	const uint8_t *msg;
	size_t msg_len;
	ssize_t n;

	for (;;) {
		n = event_parts_take(e->parts, e->buf, e->len, &msg, &msg_len);
		T_CHECK(n >= 0);
		if (n == 0) {
			ssize_t got = read(e->r, e->buf + e->len, sizeof(e->buf) - e->len);

			if (got <= 0)
				return false;
			e->len += (size_t)got;
			continue;
		}
		if (msg != NULL)
			T_EQ_INT(event_get(msg, msg_len, ev, scratch, sizeof(scratch)), 0);
		e->len -= (size_t)n;
		memmove(e->buf, e->buf + n, e->len);
		if (msg != NULL)
			return true;
	}
}

static void put_numbered(struct ends *e, unsigned n)
{
	struct event ev = { .type = EVENT_READY, .path = "x", .after_ms = n };

	event_pipe_put(&e->p, &ev);
}

T_CASE(what_does_not_fit_waits_and_what_does_not_fit_there_is_counted)
{
	struct ends *e = ends_open(64 * 1024);
	unsigned expect = 0, lost = 0, sent = 5000;
	struct event ev;

	for (unsigned i = 0; i < sent; i++)
		put_numbered(e, i);
	T_CHECK(e->p.lost > 0 && e->p.q_len > 0);
	while (next_event(e, &ev) || (event_pipe_flush(&e->p), next_event(e, &ev))) {
		if (ev.type == EVENT_LOST) {
			lost += ev.count;
			continue;
		}
		T_EQ_INT(ev.after_ms, expect);
		expect++;
	}
	T_EQ_INT(expect + lost, sent);
	T_CHECK(lost > 0);
	ends_close(e);
}

/* A list of n strings of 4 characters. */
static char *make_list(size_t n)
{
	char *list = malloc(n * 5);

	T_REQUIRE(list != NULL);
	for (size_t i = 0; i < n; i++)
		snprintf(list + i * 5, 5, "%04x", (unsigned)(i & 0xffff));
	return list;
}

T_CASE(a_long_event_comes_whole)
{
	struct ends *e = ends_open(256 * 1024);
	char *list = make_list(10000);
	struct event ev = { .type = EVENT_RESTART, .path = "/", .cause = "x", .list = list, .list_len = 50000 }, back;

	event_pipe_put(&e->p, &ev);
	put_numbered(e, 9);
	T_CHECK(next_event(e, &back));
	T_EQ_INT(back.list_len, 50000);
	T_CHECK(memcmp(back.list, list, 50000) == 0);
	T_CHECK(next_event(e, &back));
	T_EQ_INT(back.after_ms, 9);
	free(list);
	ends_close(e);
}

T_CASE(a_list_too_long_is_cut_between_two_strings)
{
	struct ends *e = ends_open(256 * 1024);
	char *list = make_list(LONG_LIST);
	struct event ev = { .type = EVENT_RESTART, .path = "/", .list = list, .list_len = 5 * LONG_LIST }, back;

	event_pipe_put(&e->p, &ev);
	while (!next_event(e, &back))
		event_pipe_flush(&e->p);
	T_CHECK(back.list_len <= EVENT_LIST_MAX && back.list_len > EVENT_LIST_MAX - 5);
	T_EQ_INT(back.list_len % 5, 0);
	free(list);
	ends_close(e);
}

T_CASE(a_long_event_that_finds_no_room_is_lost_whole)
{
	struct ends *e = ends_open(1024);
	char *list = make_list(12000);
	struct event ev = { .type = EVENT_RESTART, .path = "/", .list = list, .list_len = 60000 }, back;
	unsigned i, seen = 0;

	for (i = 0; i < 50; i++)
		put_numbered(e, i);
	event_pipe_put(&e->p, &ev);
	T_EQ_INT(e->p.lost, 1);
	while (next_event(e, &back))
		seen++;
	T_EQ_INT(seen, 50);
	T_CHECK(event_pipe_flush(&e->p));
	T_CHECK(next_event(e, &back));
	T_EQ_INT(back.type, EVENT_LOST);
	free(list);
	ends_close(e);
}

/* --- parts of several writers --- */

struct rec {
	uint8_t bytes[PIPE_BUF];
	size_t len;
};

static void make_part(struct rec *r, int32_t pid, uint32_t id, uint32_t number, uint32_t more, char fill, size_t n)
{
	struct wire_out w;

	wire_out_init(&w, r->bytes, sizeof(r->bytes));
	wire_put_u32(&w, (uint32_t)n);
	wire_put_i32(&w, pid);
	wire_put_u32(&w, id);
	wire_put_u32(&w, number);
	wire_put_u32(&w, more);
	memset(r->bytes + w.len, fill, n);
	r->len = w.len + n;
}

/* Feeds a part; the completed message's length, 0 if none. */
static size_t feed(struct event_parts *p, int32_t pid, uint32_t id, uint32_t number, uint32_t more)
{
	const uint8_t *msg;
	size_t len;
	struct rec r;

	make_part(&r, pid, id, number, more, 'a', 10);
	T_EQ_INT(event_parts_take(p, r.bytes, r.len, &msg, &len), (ssize_t)r.len);
	return msg != NULL ? len : 0;
}

T_CASE(parts_of_several_writers_do_not_mix)
{
	struct event_parts *p = event_parts_create(8 * 1000);

	T_EQ_INT(feed(p, 1, 1, 0, 1), 0);
	T_EQ_INT(feed(p, 2, 1, 0, 1), 0);
	T_EQ_INT(feed(p, 1, 1, 1, 1), 0);
	T_EQ_INT(event_parts_pending(p), 2);
	T_EQ_INT(feed(p, 2, 1, 1, 0), 20);
	T_EQ_INT(feed(p, 1, 1, 2, 0), 30);
	T_EQ_INT(event_parts_pending(p), 0);
	T_EQ_INT(event_parts_lost(p), 0);
	event_parts_destroy(&p);
}

T_CASE(an_event_whose_writer_died_is_given_up)
{
	struct event_parts *p = event_parts_create(8 * 1000);

	T_EQ_INT(feed(p, 1, 1, 0, 1), 0);
	T_EQ_INT(feed(p, 1, 2, 0, 1), 0); /* its successor with the same pid, or its next event */
	T_EQ_INT(event_parts_lost(p), 1);
	T_EQ_INT(feed(p, 1, 2, 2, 0), 0); /* a hole */
	T_EQ_INT(event_parts_lost(p), 1);
	T_EQ_INT(event_parts_pending(p), 0);
	for (int32_t pid = 1; pid <= 9; pid++)
		T_EQ_INT(feed(p, pid, 1, 0, 1), 0);
	T_EQ_INT(event_parts_lost(p), 1); /* the first made room */
	T_EQ_INT(feed(p, 9, 1, 1, 0), 20);
	event_parts_destroy(&p);
}

T_CASE(what_is_no_record_is_refused)
{
	struct event_parts *p = event_parts_create(8 * 1000);
	const uint8_t *msg;
	struct rec r;
	size_t len;

	make_part(&r, 1, 0, 0, 0, 'a', 10);
	for (size_t i = 0; i < r.len; i++)
		T_EQ_INT(event_parts_take(p, r.bytes, i, &msg, &len), 0);
	make_part(&r, 1, 0, 1, 0, 'a', 10);
	T_EQ_INT(event_parts_take(p, r.bytes, r.len, &msg, &len), -1);
	make_part(&r, 0, 1, 0, 0, 'a', 10);
	T_EQ_INT(event_parts_take(p, r.bytes, r.len, &msg, &len), -1);
	memset(r.bytes, 0xff, sizeof(r.bytes));
	T_EQ_INT(event_parts_take(p, r.bytes, sizeof(r.bytes), &msg, &len), -1);
	event_parts_destroy(&p);
}

T_MAIN(T_RUN(round_trip), T_RUN(scratch_as_long_as_the_message_is_enough),
    T_RUN(every_truncation_and_flip_is_survived), T_RUN(long_texts_are_cut), T_RUN(json_of_an_exit),
    T_RUN(json_of_the_others), T_RUN(text_is_one_line_whatever_is_in_it),
    T_RUN(what_does_not_fit_waits_and_what_does_not_fit_there_is_counted), T_RUN(a_long_event_comes_whole),
    T_RUN(a_list_too_long_is_cut_between_two_strings), T_RUN(a_long_event_that_finds_no_room_is_lost_whole),
    T_RUN(parts_of_several_writers_do_not_mix), T_RUN(an_event_whose_writer_died_is_given_up),
    T_RUN(what_is_no_record_is_refused))
