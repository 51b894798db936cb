/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The log process is killed: at every system call of several scenarios, within the code between
 * two of them, twice in a row, and many times a second while children write. Each time a
 * replacement must leave files that hold what was written, once, in order, with no line torn.
 *
 *     test_log_kill              about 5 seconds
 *     test_log_kill --long [SEED]  every boundary, many instructions; minutes
 *     test_log_kill CASE
 */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/ptrace.h>
#include <sys/stat.h>

#define T_DEADLINE_SEC (long_form ? 3600 : 60)
static bool long_form;
#include "t.h"

#include "base/clock.h"
#include "log_rig.h"

static struct rig rig;
static uint64_t seed = 20260131;

/* SplitMix64: any state is a good one. */
static uint64_t draw(void)
{
	uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static unsigned below(unsigned n)
{
	return (unsigned)(draw() % n);
}

/* --- scenarios: what is put before, and what while the process is traced ------------------ */

static void put_lines(struct rig_stream *s, int from, int to, const char *pad)
{
	char line[512];
	int i;

	for (i = from; i < to; i++) {
		snprintf(line, sizeof(line), "line %d of a child%s\n", i, pad);
		T_CHECK(rig_puts(s, line));
	}
}

static void run_to_end(void)
{
	rig_start(&rig, false);
	T_EQ_INT(rig_finish(&rig), 0);
}

/* Two children, one with a partial line at its exit, one that ends for good. */
static void scene_plain(void)
{
	struct rig_stream *a = rig_add(&rig, 0, 0, 0, false, NULL);
	struct rig_stream *b = rig_add(&rig, 0, 0, 0, false, NULL);

	rig_start_mark(&rig, a, 42);
	put_lines(a, 0, 20, "");
	rig_puts(a, "an unfinished line");
	rig_exit_mark(&rig, a, 42, "signal:SEGV");
	rig_start_mark(&rig, a, 43);
	rig_puts(b, "nothing but a line\n\nand a half");
	close(b->wr);
	b->wr = -1;
}

static void scene_rotation(void)
{
	struct rig_stream *a = rig_add(&rig, 0, 200, 1000, false, NULL);

	rig_start_mark(&rig, a, 42);
	put_lines(a, 0, 30, "");
	rig_exit_mark(&rig, a, 42, "exit:1");
}

static void scene_stamped_rotation(void)
{
	struct rig_stream *a = rig_add(&rig, 0, 400, 1000, true, NULL);

	rig_start_mark(&rig, a, 42);
	put_lines(a, 0, 30, ", with a timestamp");
	rig_puts(a, "no newline here");
	rig_exit_mark(&rig, a, 42, "exit:1");
}

/* A line is begun, seen, and then finished with more than its file has room for. */
static void scene_begun_line(void)
{
	struct rig_stream *a = rig_add(&rig, 0, 200, 1000, false, NULL);
	char rest[120];

	put_lines(a, 0, 5, "");
	rig_puts(a, "a begun line which");
	run_to_end();
	memset(rest, '.', sizeof(rest));
	rest[sizeof(rest) - 1] = '\n';
	rig_put(a, rest, sizeof(rest));
	put_lines(a, 5, 9, "");
}

/* Marks that are cut by the border of a batch, at every place of them in turn. */
static void scene_cut_mark(void)
{
	struct rig_stream *a = rig_add(&rig, 1 << 18, 0, 0, false, NULL);
	static char fill[65536];
	size_t before = 65536 - 1 - below(60);

	memset(fill, 'x', sizeof(fill));
	fill[before - 1] = '\n';
	rig_put(a, fill, before);
	rig_start_mark(&rig, a, 42);
	memset(fill, 'y', sizeof(fill));
	fill[sizeof(fill) - 1] = '\n';
	rig_put(a, fill, 65000);
	rig_exit_mark(&rig, a, 42, "exit:1");
	rig_put(a, fill, sizeof(fill));
}

/* Lines longer than a file, NULs and what looks like a mark. */
static void scene_hostile(void)
{
	struct rig_stream *a = rig_add(&rig, 0, 100, 1000, false, NULL);
	char forged[128] = "\0zaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaS 1 1\n", longest[350];

	rig_put(a, forged, 40);
	memset(longest, 'z', sizeof(longest));
	rig_put(a, longest, sizeof(longest));
	rig_puts(a, "\n");
	rig_put(a, "\0\0\0\n", 4);
	rig_start_mark(&rig, a, 42);
	rig_put(a, longest, sizeof(longest));
	rig_put(a, "\0", 1);
}

typedef void scene_f(void);
static scene_f *const scenes[] = { scene_plain, scene_rotation, scene_stamped_rotation,
	scene_begun_line, scene_cut_mark, scene_hostile };
#define SCENES (sizeof(scenes) / sizeof(scenes[0]))

/* Forced splits tear lines at file borders by design, so those scenes are compared as a whole. */
static bool check_all(const char *when, size_t scene, unsigned n)
{
	const char *why;
	uint32_t i;

	for (i = 0; i < rig.n; i++) {
		why = rig_verdict(&rig.s[i]);
		if (why && !(scenes[scene] == scene_hostile && strstr(why, "torn"))) {
			T_FAIL("scene %zu, killed %s %u, stream %u: %s", scene, when, n, i, why);
			return false;
		}
	}
	return true;
}

/* --- killing at a chosen point ------------------------------------------------------------ */

/* Lets the traced process run over n stops at system calls (each has two). False: it ended. */
static bool run_stops(unsigned n)
{
	int status;

	waitpid(rig.pid, &status, 0);
	while (n-- > 0) {
		ptrace(PTRACE_SYSCALL, rig.pid, NULL, NULL);
		waitpid(rig.pid, &status, 0);
		if (!WIFSTOPPED(status)) {
			rig.pid = 0;
			return false;
		}
	}
	return true;
}

static bool run_instructions(unsigned n)
{
	int status;

	while (n-- > 0) {
		ptrace(PTRACE_SINGLESTEP, rig.pid, NULL, NULL);
		waitpid(rig.pid, &status, 0);
		if (!WIFSTOPPED(status)) {
			rig.pid = 0;
			return false;
		}
	}
	return true;
}

/* Starts a process that is told to finish, and kills it after so many stops and instructions.
 * False if it ended before. */
static bool killed_at(unsigned stops, unsigned instructions)
{
	bool alive;

	rig_start(&rig, true);
	rig_say(&rig, KEEP_FINISH);
	alive = run_stops(stops) && run_instructions(instructions);
	if (alive)
		rig_kill(&rig);
	rig_take_drops(&rig);
	return alive;
}

static void at_every_call(size_t scene, unsigned stride)
{
	unsigned n = below(stride);
	bool alive = true;

	for (; alive; n += stride) {
		rig_clear(&rig);
		scenes[scene]();
		alive = killed_at(n, 0);
		run_to_end();
		if (!check_all("at stop", scene, n))
			return;
	}
}

T_CASE(at_every_system_call)
{
	size_t i;

	rig_open(&rig);
	for (i = 0; i < SCENES && !t_failures; i++)
		at_every_call(i, long_form ? 1 : 16);
	rig_close(&rig);
}

T_CASE(between_system_calls)
{
	unsigned i, rounds = long_form ? 20000 : 60;

	rig_open(&rig);
	for (i = 0; i < rounds && !t_failures; i++) {
		size_t scene = below(SCENES);
		unsigned stops = below(150);

		rig_clear(&rig);
		scenes[scene]();
		killed_at(stops, below(1500));
		run_to_end();
		check_all("after stop", scene, stops);
	}
	rig_close(&rig);
}

T_CASE(again_and_again)
{
	unsigned i, k, rounds = long_form ? 20000 : 30;

	rig_open(&rig);
	for (i = 0; i < rounds && !t_failures; i++) {
		size_t scene = below(SCENES);

		rig_clear(&rig);
		scenes[scene]();
		for (k = 0; k < 6; k++)
			killed_at(60 + below(60), below(2) ? below(300) : 0);
		run_to_end();
		check_all("six times in round", scene, i);
	}
	rig_close(&rig);
}

/* --- killing while the disk is full ------------------------------------------------------- */

#define DISK_LINES 400

/* One run of it; false if the process ended before it could be killed, or something is wrong. */
static bool full_disk_once(unsigned stops, uint64_t max_bytes)
{
	struct rig_stream *a = rig_add(&rig, 0, max_bytes, 1000, false, NULL);
	long lines, lost;
	bool alive;
	int filler;

	if (!rig_small_disk(a)) {
		printf("# skipped: no file system may be mounted\n");
		return false;
	}
	filler = openat(AT_FDCWD, a->keep.dir, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	T_CHECK(posix_fallocate(filler, 0, 65536 - 4096 * 3) == 0);
	rig_put_numbered(a, 0, DISK_LINES);
	alive = killed_at(stops, 0);
	run_to_end();
	T_CHECK(ftruncate(filler, 0) == 0);
	close(filler);
	rig_put_numbered(a, DISK_LINES, DISK_LINES + 5);
	run_to_end();
	if (!rig_count_numbered(a, &lines, &lost) || lines + lost != DISK_LINES + 5 || lost < 10)
		T_FAIL("killed at stop %u: %ld lines, %ld lost", stops, lines, lost);
	rig_no_small_disk(a);
	return alive && !t_failures;
}

T_CASE(while_the_disk_is_full)
{
	static const uint64_t max_bytes[] = { 0, 3000 };
	unsigned n, i, stride = long_form ? 1 : 13;

	rig_open(&rig);
	for (i = 0; i < 2 && !t_failures; i++) {
		for (n = below(stride); full_disk_once(n, max_bytes[i]); n += stride)
			rig_clear(&rig);
		rig_clear(&rig);
	}
	rig_close(&rig);
}

/* --- killing while children write --------------------------------------------------------- */

#define WRITERS 4

/* Writes numbered lines in blocks as stdio would, cutting them anywhere. */
static _Noreturn void write_lines(int fd, unsigned lines, unsigned id)
{
	char buf[8192];
	size_t len = 0, out;
	unsigned i;

	fcntl(fd, F_SETFL, 0);
	for (i = 0; i < lines; i++) {
		len += (size_t)snprintf(buf + len, sizeof(buf) - len, "writer %u line %u%.*s\n", id, i,
		    (int)(i % 90), "............................................................."
		    ".............................");
		out = i + 1 == lines || i % 7 == 0 ? len : len > 4096 ? 4096 : 0;
		if (out && write(fd, buf, out) != (ssize_t)out)
			_exit(1);
		memmove(buf, buf + out, len - out);
		len -= out;
	}
	_exit(0);
}

/* What write_lines has written. */
static void want_lines(struct rig_stream *s, unsigned lines, unsigned id)
{
	FILE *f = open_memstream(&s->want, &s->want_len);
	unsigned i;

	for (i = 0; i < lines; i++)
		fprintf(f, "writer %u line %u%.*s\n", id, i, (int)(i % 90), "......................"
		    "....................................................................");
	fclose(f);
}

static pid_t start_writer(struct rig_stream *s, unsigned lines, unsigned id)
{
	pid_t pid = fork();

	if (pid == 0)
		write_lines(s->wr, lines, id);
	close(s->wr);
	s->wr = -1;
	return pid;
}

static bool all_gone(void)
{
	uint32_t i;

	for (i = 0; i < rig.n; i++)
		if (rig.s[i].kept)
			return false;
	return true;
}

T_CASE(while_children_write)
{
	unsigned i, kills = 0, lines = long_form ? 400000 : 60000;
	pid_t writers[WRITERS];

	rig_open(&rig);
	for (i = 0; i < WRITERS; i++)
		rig_add(&rig, 0, i & 1 ? 50000 : 0, 100000, i & 2, NULL);
	for (i = 0; i < WRITERS; i++)
		writers[i] = start_writer(&rig.s[i], lines, i);
	while (!all_gone()) {
		rig_start(&rig, false);
		poll(NULL, 0, (int)below(8));
		rig_take_drops(&rig);
		rig_kill(&rig);
		rig_take_drops(&rig);
		kills++;
	}
	for (i = 0; i < WRITERS; i++) {
		const char *why;

		waitpid(writers[i], NULL, 0);
		want_lines(&rig.s[i], lines, i);
		why = rig_verdict(&rig.s[i]);
		if (why)
			T_FAIL("stream %u after %u kills: %s", i, kills, why);
	}
	printf("# killed %u times\n", kills);
	rig_close(&rig);
}

int main(int argc, char **argv)
{
	static const struct t_case cases[] = { T_RUN(at_every_system_call), T_RUN(between_system_calls),
		T_RUN(again_and_again), T_RUN(while_the_disk_is_full),
		T_RUN(while_children_write) };

	long_form = argc > 1 && strcmp(argv[1], "--long") == 0;
	if (long_form)
		seed = argc > 2 ? strtoull(argv[2], NULL, 0) : (uint64_t)clock_mono_ns();
	printf("# seed %llu\n", (unsigned long long)seed);
	return t_main(cases, (int)(sizeof(cases) / sizeof(cases[0])), argc > 1 && !long_form ? argv[1] : NULL);
}
