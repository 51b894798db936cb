/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Errors of configurations: the golden pairs of tests/config, every prefix of a file with all keys,
 * every byte and every key of it wrong, hostile text, and the fuzz target for a short while.
 */
#include <glob.h>
#include <stdarg.h>

#include "config_rig.h"

/* --- golden pairs --- */

static void one_pair(const char *conf)
{
	const char *name = strrchr(conf, '/') + 1;
	int out = scratch(), err = scratch(), status;
	char *want, *got, *printed, err_name[PATH_MAX], copy[PATH_MAX];
	size_t len;

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
		if (geteuid() == 0 || !strstr(g.gl_pathv[i], "/root-"))
			one_pair(g.gl_pathv[i]);
	T_CHECK(g.gl_pathc >= 60);
	globfree(&g);
	leave_dir();
}

/* --- prefixes and mutations --- */

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

/* A text that ends with its number, in memory that ends with the text: found by fuzzing. */
T_CASE(the_last_byte_may_be_a_digit)
{
	static const char *const numbers[] = { "00000000006000000000000000000000000000000", "08", "0x", "-",
	    "99999999999999999999" };
	size_t i;

	enter_dir();
	for (i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
		uint8_t *exact = malloc(strlen(numbers[i]));

		T_REQUIRE(exact);
		memcpy(exact, numbers[i], strlen(numbers[i]));
		LLVMFuzzerTestOneInput(exact, strlen(numbers[i]));
		free(exact);
	}
	leave_dir();
}

T_MAIN(T_RUN(golden_pairs), T_RUN(every_prefix_has_a_line), T_RUN(every_byte_may_be_wrong),
    T_RUN(every_key_may_be_wrong), T_RUN(hostile_text_is_bounded), T_RUN(the_last_byte_may_be_a_digit),
    T_RUN(fuzzing_for_a_short_while))
