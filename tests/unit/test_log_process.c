/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The log process as a whole, with a stand-in for root: what it does with odd files, full disks,
 * few descriptors, vanished directories, and what it tells whom.
 */
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "t.h"

#include "base/clock.h"
#include "base/fds.h"
#include "log_rig.h"
#include "node/event.h"

#define WAIT_MS 20000

static struct rig rig;

static void end(void)
{
	T_EQ_INT(rig_finish(&rig), 0);
	rig_close(&rig);
}

static bool readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, WAIT_MS) == 1;
}

static const char *in_dir(const struct rig_stream *s, const char *name)
{
	static char path[2][4600];
	static int i;

	i = !i;
	snprintf(path[i], sizeof(path[i]), "%s/%s", s->keep.dir, name);
	return path[i];
}

/* The files' text, in a buffer that stays until the next call. */
static const char *text(const struct rig_stream *s)
{
	static char *last;
	size_t n;

	free(last);
	last = rig_read(s, &n);
	last[n] = '\0';
	return last;
}

static bool wait_text(const struct rig_stream *s, const char *part)
{
	int64_t until = clock_mono_ms() + WAIT_MS;

	while (!strstr(text(s), part)) {
		if (clock_mono_ms() > until)
			return false;
		poll(NULL, 0, 2);
	}
	return true;
}

/* Counts notes (events) whose text holds a word. */
static int notes_with(const char *word)
{
	static uint8_t buf[65536];
	char scratch[65536];
	struct event_parts *parts = event_parts_create(65536);
	ssize_t n = read(rig.node.fd[NODE_FD_EVENT_R], buf, sizeof(buf)), used = 1;
	size_t at = 0, len;
	const uint8_t *msg;
	struct event e;
	int found = 0;

	while (n > 0 && at < (size_t)n && used > 0) {
		used = event_parts_take(parts, buf + at, (size_t)n - at, &msg, &len);
		at += used > 0 ? (size_t)used : 0;
		if (msg && event_get(msg, len, &e, scratch, sizeof(scratch)) == 0 && e.type == EVENT_NOTE)
			found += strstr(e.why, word) != NULL;
	}
	event_parts_destroy(&parts);
	return found;
}

/* --- coming and going --------------------------------------------------------------------- */

T_CASE(adopts_writes_and_drops)
{
	struct rig_stream *a, *b;
	struct stat st;

	rig_open(&rig);
	a = rig_add(&rig, 0, 0, 0, false, NULL);
	rig_start(&rig, false);
	b = rig_add(&rig, 0, 0, 0, true, NULL);
	rig_adopt(&rig, b);
	rig_adopt(&rig, b); /* twice is once */
	T_CHECK(rig_puts(a, "from a\n") && rig_puts(b, "from b\nwithout an end"));
	T_CHECK(rig_wait(a, WAIT_MS) && rig_wait(b, WAIT_MS));
	T_CHECK(stat(in_dir(a, "current"), &st) == 0 && (st.st_mode & 07777) == 0640);
	T_CHECK(stat(a->keep.dir, &st) == 0 && (st.st_mode & 07777) == 0750);
	fds_close(&b->wr);
	T_CHECK(readable(rig.node.fd[NODE_FD_LOG_ROOT]));
	rig_take_drops(&rig);
	T_CHECK(a->kept && !b->kept);
	end();
}

/* After a reload a supervisor may hand the same pipe over once more: root gives it another slot. */
T_CASE(same_pipe_in_another_slot)
{
	struct rig_stream *a, *b;

	rig_open(&rig);
	a = rig_add(&rig, 0, 0, 0, false, NULL);
	rig_start(&rig, false);
	T_CHECK(rig_puts(a, "a begun line"));
	T_CHECK(rig_wait(a, WAIT_MS));
	b = rig_add(&rig, 0, 0, 0, true, NULL);
	fds_close(&b->rd);
	b->rd = fcntl(a->rd, F_DUPFD_CLOEXEC, 0);
	memcpy(&b->keep, &a->keep, sizeof(a->keep));
	b->keep.timestamps = 1;
	rig_adopt(&rig, b);
	T_CHECK(readable(rig.node.fd[NODE_FD_LOG_ROOT]));
	rig_take_drops(&rig);
	T_CHECK(!a->kept && b->kept);
	T_CHECK(rig_puts(a, ", now finished\n"));
	T_CHECK(rig_wait(a, WAIT_MS));
	rig_kill(&rig);
	rig_start(&rig, false);
	T_CHECK(rig_puts(a, "last\n"));
	end();
}

/* The log process has taken what root said last. */
static bool wait_heard(void)
{
	struct pollfd p = { .fd = rig.node.fd[NODE_FD_LOG_LOG], .events = POLLIN };
	int64_t until = clock_mono_ms() + WAIT_MS;

	while (poll(&p, 1, 0) == 1) {
		if (clock_mono_ms() > until)
			return false;
		poll(NULL, 0, 1);
	}
	return true;
}

T_CASE(new_settings_apply)
{
	struct rig_stream *a;

	rig_open(&rig);
	a = rig_add(&rig, 0, 0, 0, false, NULL);
	rig_start(&rig, false);
	T_CHECK(rig_puts(a, "plain\n"));
	T_CHECK(rig_wait(a, WAIT_MS));
	a->keep.timestamps = 1;
	a->keep.max_bytes = 64;
	a->keep.max_files = 3;
	rig_adopt(&rig, a);
	T_CHECK(wait_heard()); /* or the lines may come first */
	T_CHECK(rig_puts(a, "stamped\nstamped\nstamped\n"));
	T_CHECK(wait_text(a, "Z stamped\n"));
	T_EQ_INT(rig_finish(&rig), 0);
	T_EQ_INT(rig_rotated(a), 2);
	rig_close(&rig);
}

/* --- what it tells ------------------------------------------------------------------------ */

T_CASE(ready_is_told_for_each_run)
{
	struct rig_stream *a;
	int32_t pid = 0;

	rig_open(&rig);
	a = rig_add(&rig, 0, 0, 0, false, "ready|set");
	T_CHECK(rig_puts(a, "ready before the start is not meant\n"));
	rig_start_mark(&rig, a, 11);
	T_CHECK(rig_puts(a, "rea"));
	rig_start(&rig, false);
	T_CHECK(rig_wait(a, WAIT_MS));
	rig_kill(&rig);
	rig_start(&rig, false);
	T_CHECK(rig_puts(a, "dy\nready\n"));
	T_CHECK(readable(a->ready_rd));
	T_EQ_INT(read(a->ready_rd, &pid, sizeof(pid)), sizeof(pid));
	T_EQ_INT(pid, 11);
	rig_exit_mark(&rig, a, 11, "normal");
	T_CHECK(rig_puts(a, "ready between runs\n"));
	rig_start_mark(&rig, a, 12);
	T_CHECK(rig_puts(a, "all set\n"));
	T_CHECK(readable(a->ready_rd));
	T_EQ_INT(read(a->ready_rd, &pid, sizeof(pid)), sizeof(pid));
	T_EQ_INT(pid, 12);
	T_CHECK(rig_wait(a, WAIT_MS));
	fcntl(a->ready_rd, F_SETFL, O_NONBLOCK);
	T_EQ_INT(read(a->ready_rd, &pid, sizeof(pid)), -1);
	end();
}

/* The lines of the next death that is told; the pid is returned. */
static int next_death(char *path, char *lines, size_t size)
{
	uint8_t buf[8192];
	struct wire_in w;
	const void *p;
	ssize_t n;
	size_t len;
	int pid;

	T_REQUIRE(readable(rig.node.fd[NODE_FD_LINES_R]));
	n = read(rig.node.fd[NODE_FD_LINES_R], buf, sizeof(buf));
	T_REQUIRE(n > 0);
	wire_in_init(&w, buf, (size_t)n);
	T_EQ_INT(wire_get_u8(&w), KEEP_DEATH);
	wire_get_str(&w, path, SPEC_PATH_MAX);
	pid = wire_get_i32(&w);
	len = wire_get_bytes(&w, &p);
	T_REQUIRE(wire_done(&w) && len < size);
	memcpy(lines, p, len);
	lines[len] = '\0';
	return pid;
}

T_CASE(deaths_have_their_last_lines)
{
	char path[SPEC_PATH_MAX], lines[5000], line[2001];
	struct rig_stream *a;
	int i;

	rig_open(&rig);
	a = rig_add(&rig, 0, 0, 0, true, NULL);
	rig_start(&rig, false);
	rig_start_mark(&rig, a, 1);
	rig_exit_mark(&rig, a, 1, "normal");
	T_EQ_INT(next_death(path, lines, sizeof(lines)), 1);
	T_EQ_STR(path, "child0");
	T_EQ_STR(lines, "");
	rig_start_mark(&rig, a, 2);
	T_CHECK(rig_puts(a, "seen by the first\n"));
	T_CHECK(rig_wait(a, WAIT_MS));
	rig_kill(&rig);
	rig_start(&rig, false);
	T_CHECK(rig_puts(a, "Segmentation fault"));
	rig_exit_mark(&rig, a, 2, "signal:SEGV");
	T_EQ_INT(next_death(path, lines, sizeof(lines)), 2);
	T_EQ_STR(lines, "seen by the first\nSegmentation fault\n");
	rig_start_mark(&rig, a, 3);
	for (i = 0; i < 12; i++) {
		snprintf(line, sizeof(line), "%d\n", i);
		T_CHECK(rig_puts(a, line));
	}
	rig_exit_mark(&rig, a, 3, "exit:1");
	T_EQ_INT(next_death(path, lines, sizeof(lines)), 3);
	T_EQ_STR(lines, "2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n");
	rig_start_mark(&rig, a, 4);
	memset(line, 'x', 2000);
	line[1999] = '\n';
	for (i = 0; i < 3; i++)
		T_CHECK(rig_put(a, line, 2000));
	rig_exit_mark(&rig, a, 4, "exit:1");
	T_EQ_INT(next_death(path, lines, sizeof(lines)), 4);
	T_EQ_INT(strlen(lines), 4000);
	end();
}

/* --- files -------------------------------------------------------------------------------- */

T_CASE(oldest_files_are_removed)
{
	struct rig_stream *a;
	int i;

	rig_open(&rig);
	a = rig_add(&rig, 0, 64, 3, false, NULL);
	rig_start(&rig, false);
	for (i = 0; i < 40; i++)
		T_CHECK(rig_puts(a, "0123456789012345678901234567890123456789\n"));
	T_CHECK(rig_puts(a, "the last line\n"));
	T_EQ_INT(rig_finish(&rig), 0);
	T_EQ_INT(rig_rotated(a), 3);
	T_CHECK(strstr(text(a), "the last line\n") != NULL);
	rig_close(&rig);
}

static void is_set_aside(void (*make)(struct rig_stream *s))
{
	struct rig_stream *a;
	char got[64] = "";
	int fd;

	rig_open(&rig);
	a = rig_add(&rig, 0, 0, 0, false, NULL);
	rig_make_dirs(a);
	fd = open(in_dir(a, "victim"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	T_CHECK(write(fd, "secret", 6) == 6);
	close(fd);
	make(a);
	rig_start(&rig, false);
	T_CHECK(rig_puts(a, "a line\n"));
	T_CHECK(rig_wait(a, WAIT_MS));
	fd = open(in_dir(a, "victim"), O_RDONLY | O_CLOEXEC);
	T_EQ_INT(read(fd, got, sizeof(got)), 6);
	close(fd);
	T_CHECK(notes_with("set aside") == 1);
	end();
}

static void make_link(struct rig_stream *s)
{
	T_CHECK(symlink("victim", in_dir(s, "current")) == 0);
}

static void make_hard_link(struct rig_stream *s)
{
	T_CHECK(link(in_dir(s, "victim"), in_dir(s, "current")) == 0);
}

static void make_fifo(struct rig_stream *s)
{
	T_CHECK(mkfifo(in_dir(s, "current"), 0666) == 0);
}

static void make_directory(struct rig_stream *s)
{
	T_CHECK(mkdir(in_dir(s, "current"), 0777) == 0);
}

T_CASE(links_are_set_aside) { is_set_aside(make_link); }
T_CASE(hard_links_are_set_aside) { is_set_aside(make_hard_link); }
T_CASE(pipes_are_set_aside) { is_set_aside(make_fifo); }
T_CASE(directories_are_set_aside) { is_set_aside(make_directory); }

/* Somebody who may write into the directory exchanges `current` for a link all the time. */
T_CASE(links_are_never_followed)
{
	struct rig_stream *a;
	struct stat st;
	int i;

	rig_open(&rig);
	a = rig_add(&rig, 0, 0, 0, false, NULL);
	rig_make_dirs(a);
	close(open(in_dir(a, "victim"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	rig_start(&rig, false);
	for (i = 0; i < 300; i++) {
		unlink(in_dir(a, "current"));
		(void)!symlink("victim", in_dir(a, "current"));
		T_CHECK(rig_puts(a, "a line\n"));
	}
	T_EQ_INT(rig_finish(&rig), 0);
	T_CHECK(stat(in_dir(a, "victim"), &st) == 0 && st.st_size == 0);
	rig_close(&rig);
}

T_CASE(links_of_others_in_the_path_are_refused)
{
	struct rig_stream *a;
	char path[512];

	if (geteuid() != 0)
		return;
	rig_open(&rig);
	T_CHECK(chmod(rig.dir, 0755) == 0);
	a = rig_add(&rig, 0, 0, 0, false, NULL);
	snprintf(path, sizeof(path), "%s/elsewhere", rig.dir);
	T_CHECK(mkdir(path, 0755) == 0);
	snprintf(path, sizeof(path), "%s/0", rig.dir);
	T_CHECK(symlink("elsewhere", path) == 0 && lchown(path, 65534, 65534) == 0);
	rig_start(&rig, false);
	T_CHECK(rig_puts(a, "lost\n"));
	T_CHECK(readable(rig.node.fd[NODE_FD_EVENT_R]));
	T_CHECK(notes_with("Too many levels of symbolic links") == 1);
	/* An administrator's own link is his business. */
	T_CHECK(lchown(path, 0, 0) == 0);
	T_CHECK(wait_text(a, "coppice: 1 line (5 bytes) lost: Too many levels"));
	T_CHECK(rig_puts(a, "kept\n"));
	T_CHECK(wait_text(a, "kept\n"));
	end();
}

T_CASE(vanished_files_are_made_again)
{
	struct rig_stream *a;
	char cmd[300];

	rig_open(&rig);
	a = rig_add(&rig, 0, 0, 0, false, NULL);
	rig_start(&rig, false);
	T_CHECK(rig_puts(a, "1\n") && rig_wait(a, WAIT_MS));
	T_CHECK(rename(in_dir(a, "current"), in_dir(a, "mine")) == 0);
	a->want_len = 0;
	T_CHECK(rig_puts(a, "2\n") && rig_wait(a, WAIT_MS));
	unlink(in_dir(a, "current"));
	unlink(in_dir(a, "mine"));
	snprintf(cmd, sizeof(cmd), "%s/0/log", rig.dir);
	T_CHECK(rmdir(cmd) == 0);
	a->want_len = 0;
	T_CHECK(rig_puts(a, "3\n") && rig_wait(a, WAIT_MS));
	T_CHECK(truncate(in_dir(a, "current"), 0) == 0);
	a->want_len = 0;
	T_CHECK(rig_puts(a, "4\n") && rig_wait(a, WAIT_MS));
	T_CHECK(rename(in_dir(a, "current"), in_dir(a, "mine")) == 0);
	a->want_len = 0;
	rig_say(&rig, KEEP_REOPEN);
	T_CHECK(rig_wait(a, WAIT_MS));
	end();
	T_CHECK(access(in_dir(a, "current"), F_OK) < 0);
}

T_CASE(a_file_of_before_goes_on)
{
	struct rig_stream *a;
	int fd;

	rig_open(&rig);
	a = rig_add(&rig, 0, 0, 0, false, NULL);
	rig_make_dirs(a);
	fd = open(in_dir(a, "current"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	T_CHECK(write(fd, "of another node, cut", 20) == 20);
	close(fd);
	rig_start(&rig, false);
	T_CHECK(rig_puts(a, "ours\n"));
	T_EQ_INT(rig_finish(&rig), 0);
	T_EQ_STR(text(a), "of another node, cut\nours\n");
	rig_close(&rig);
}

/* --- want of everything ------------------------------------------------------------------- */

static void full_disk(bool killed)
{
	struct rig_stream *a, *b;
	long lines, lost;
	int filler;

	rig_open(&rig);
	a = rig_add(&rig, 0, 0, 0, false, NULL);
	b = rig_add(&rig, 0, 0, 0, false, NULL);
	if (!rig_small_disk(a)) {
		printf("# skipped: no file system may be mounted\n");
		rig_close(&rig);
		return;
	}
	filler = open(in_dir(a, "filler"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	T_CHECK(posix_fallocate(filler, 0, 40000) == 0);
	rig_start(&rig, false);
	rig_put_numbered(a, 0, 5000); /* does not block, although hardly any of it is kept */
	T_CHECK(rig_puts(b, "not affected\n") && rig_wait(b, WAIT_MS));
	T_CHECK(readable(rig.node.fd[NODE_FD_EVENT_R]));
	T_EQ_INT(notes_with("No space left on device"), 1);
	if (killed) {
		rig_kill(&rig);
		rig_start(&rig, false);
		rig_put_numbered(a, 5000, 5100);
		rig_kill(&rig);
		rig_start(&rig, false);
	}
	T_CHECK(ftruncate(filler, 0) == 0);
	close(filler);
	T_CHECK(wait_text(a, "lost: No space left on device\n"));
	rig_put_numbered(a, killed ? 5100 : 5000, 5110);
	T_CHECK(wait_text(a, "line 5109 "));
	T_CHECK(rig_count_numbered(a, &lines, &lost));
	T_EQ_INT(lines + lost, 5110);
	T_CHECK(lost > 4000);
	T_EQ_INT(rig_finish(&rig), 0);
	rig_no_small_disk(a);
	rig_close(&rig);
}

T_CASE(full_disk_slows_nothing_down) { full_disk(false); }
T_CASE(full_disk_and_killed) { full_disk(true); }

/* EFBIG without SIGXFSZ. */
T_CASE(file_size_limit)
{
	struct rig_stream *a;
	struct rlimit rl = { 1000, 1000 };
	size_t n;

	rig_open(&rig);
	a = rig_add(&rig, 0, 0, 0, false, NULL);
	rig_start(&rig, false);
	T_CHECK(rig_puts(a, "1\n") && rig_wait(a, WAIT_MS));
	T_CHECK(prlimit(rig.pid, RLIMIT_FSIZE, &rl, NULL) == 0);
	rig_put_numbered(a, 0, 40);
	T_EQ_INT(rig_finish(&rig), 0);
	free(rig_read(a, &n));
	T_CHECK(n <= 1000);
	T_CHECK(n > 800);
	T_CHECK(text(a)[n - 1] == '\n');
	T_EQ_INT(notes_with("File too large"), 1);
	rig_close(&rig);
}

/* More streams than there are descriptors for files: they take turns. */
T_CASE(few_descriptors)
{
	struct rlimit rl;
	uint32_t i;
	int round;
	char line[64];

	rig_open(&rig);
	for (i = 0; i < 40; i++)
		rig_add(&rig, 0, 64, 100, false, NULL);
	rig_start(&rig, false);
	T_CHECK(rig_puts(&rig.s[39], "up\n") && rig_wait(&rig.s[39], WAIT_MS));
	getrlimit(RLIMIT_NOFILE, &rl);
	rl.rlim_cur = 120 + 15;
	T_CHECK(prlimit(rig.pid, RLIMIT_NOFILE, &rl, NULL) == 0);
	for (round = 0; round < 20; round++)
		for (i = 0; i < 40; i++) {
			snprintf(line, sizeof(line), "stream %u round %d\n", i, round);
			T_CHECK(rig_puts(&rig.s[i], line));
		}
	T_EQ_INT(rig_finish(&rig), 0);
	for (i = 0; i < 40; i++)
		T_CHECK(rig_verdict(&rig.s[i]) == NULL);
	rig_close(&rig);
}

/* --- the process -------------------------------------------------------------------------- */

static long switches(pid_t pid)
{
	char path[64], line[256];
	long n = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f))
		if (strncmp(line, "voluntary_ctxt_switches:", 24) == 0)
			n = strtol(line + 24, NULL, 10);
	if (f)
		fclose(f);
	return n;
}

T_CASE(sleeps_when_nothing_is_written)
{
	struct rig_stream *a;
	long before;

	rig_open(&rig);
	a = rig_add(&rig, 0, 0, 0, false, NULL);
	rig_start(&rig, false);
	T_CHECK(rig_puts(a, "1\n") && rig_wait(a, WAIT_MS));
	do { /* until it has gone to sleep */
		before = switches(rig.pid);
		poll(NULL, 0, 50);
	} while (switches(rig.pid) != before);
	poll(NULL, 0, 1300);
	T_EQ_INT(switches(rig.pid), before);
	end();
}

/* One child that never stops writing does not keep the others waiting. */
T_CASE(noisy_children_are_not_alone)
{
	struct rig_stream *a, *b;
	static char noise[65536];
	pid_t writer;
	int64_t before;
	int i;

	rig_open(&rig);
	a = rig_add(&rig, 0, 1 << 20, 2, false, NULL);
	b = rig_add(&rig, 0, 0, 0, false, NULL);
	memset(noise, '\n', sizeof(noise));
	rig_start(&rig, false);
	writer = fork();
	if (writer == 0) {
		fcntl(a->wr, F_SETFL, 0);
		while (write(a->wr, noise, sizeof(noise)) > 0)
			;
		_exit(0);
	}
	for (i = 0; i < 20; i++) {
		before = clock_mono_ms();
		T_CHECK(rig_puts(b, "quiet\n") && rig_wait(b, WAIT_MS));
		T_CHECK(clock_mono_ms() - before < 1000);
	}
	kill(writer, SIGKILL);
	waitpid(writer, NULL, 0);
	rig_kill(&rig);
	rig_close(&rig);
}

T_CASE(signals_mean_nothing)
{
	static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE };
	struct rig_stream *a;
	size_t i;

	rig_open(&rig);
	a = rig_add(&rig, 0, 0, 0, false, NULL);
	rig_start(&rig, false);
	T_CHECK(rig_puts(a, "1\n") && rig_wait(a, WAIT_MS));
	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		T_CHECK(kill(rig.pid, signals[i]) == 0);
	T_CHECK(rig_puts(a, "2\n") && rig_wait(a, WAIT_MS));
	end();
}

/* Root is killed: what the children have written is kept, and then nothing is left running. */
T_CASE(root_is_killed)
{
	struct rig_stream *a;
	int status, told[2];
	pid_t root, log = 0;

	rig_open(&rig);
	a = rig_add(&rig, 0, 0, 0, false, NULL);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	T_CHECK(pipe2(told, O_CLOEXEC) == 0);
	root = fork();
	if (root == 0) {
		rig_start(&rig, false);
		(void)!write(told[1], &rig.pid, sizeof(rig.pid));
		pause();
	}
	T_EQ_INT(read(told[0], &log, sizeof(log)), sizeof(log));
	T_CHECK(rig_puts(a, "1\n") && rig_wait(a, WAIT_MS));
	kill(log, SIGSTOP);
	T_CHECK(rig_puts(a, "last words\n"));
	fds_close(&rig.node.fd[NODE_FD_LOG_ROOT]);
	kill(root, SIGKILL);
	waitpid(root, NULL, 0);
	kill(log, SIGCONT);
	fds_close(&a->wr);
	T_EQ_INT(waitpid(log, &status, 0), log);
	T_EQ_INT(status, 0);
	T_CHECK(rig_verdict(a) == NULL);
	close(told[0]);
	close(told[1]);
	rig_close(&rig);
}

T_MAIN(T_RUN(adopts_writes_and_drops), T_RUN(same_pipe_in_another_slot), T_RUN(new_settings_apply),
    T_RUN(ready_is_told_for_each_run), T_RUN(deaths_have_their_last_lines), T_RUN(oldest_files_are_removed),
    T_RUN(links_are_set_aside), T_RUN(hard_links_are_set_aside), T_RUN(pipes_are_set_aside),
    T_RUN(directories_are_set_aside), T_RUN(links_are_never_followed),
    T_RUN(links_of_others_in_the_path_are_refused), T_RUN(vanished_files_are_made_again),
    T_RUN(a_file_of_before_goes_on), T_RUN(full_disk_slows_nothing_down), T_RUN(full_disk_and_killed),
    T_RUN(file_size_limit), T_RUN(few_descriptors), T_RUN(sleeps_when_nothing_is_written),
    T_RUN(noisy_children_are_not_alone), T_RUN(signals_mean_nothing), T_RUN(root_is_killed))
