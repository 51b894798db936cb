/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * player FILE: plays a conformance scenario and prints its trace (README.md). Exit status 0; or 2 with one line on
 * standard error if the scenario cannot be read or played, or the node fails.
 *
 * Two processes. The node is a child of this one, which is outside of it: this one reads what happens from one
 * pipe, writes the trace, and tells the node's first process through another when the next command's time has
 * come. So nothing that blocks in the node blocks the trace, a pipe never fills, and a node that hangs, or
 * dies, is noticed and ended.
 *
 * A command is over when its result is known and then nothing has happened for the settle time. On a machine that
 * is too busy to let this process run, time passes that the node did not have either; that does not count, up to a
 * limit that scenarios leave room for.
 *
 *	SETTLE_MS    the settle time in milliseconds (150)
 *	JITTER_MS    every event is held up before and after by a random time up to that (0)
 */
#include "player.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	SLICE_MS = 20,         /* longest look away while waiting for quiet */
	SETTLE_SLACK_MS = 200, /* longest that the settle time is prolonged */
	END_MS = 10000,        /* for the node to end when its script has */
	LEFT_MS = 2000,        /* ... when it is killed */
};

static struct player {
	int settle_ms;
	int jitter_ms;
	pid_t group;           /* the node's process group, and the Unix pid of its root */
	bool ended;            /* that is reaped */
	int status;            /* of it */
	int events;            /* read */
	int commands;          /* written */
	bool over;             /* no more of them; what happens now is not of the scenario */
	bool eof;              /* nobody is left who could write an event */
	char buf[2 * PIPE_LINE_MAX];
	size_t len;
	FILE *trace;
	char *text;            /* what is in it */
	size_t text_len;
	bool known;            /* the command's result */
	FILE *result;
	char *result_text;
	size_t result_len;
	int64_t last_ms;       /* when something happened */
	char impossible[PIPE_LINE_MAX];
} player;

static volatile sig_atomic_t interrupted;

static void on_signal(int signo)
{
	interrupted = signo;
}

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "player: unable to %s: %s\n", what, strerror(errno));
	exit(2);
}

/* --- the node --- */

static int node_main(int commands_fd, int events_fd)
{
	struct cop_node_options options = { .name = "conformance", .report = events_report, .quiet = true };
	int status;

	events_open(events_fd, player.jitter_ms);
	/* Standard output is the trace's. */
	if (dup2(STDERR_FILENO, STDOUT_FILENO) < 0)
		emit_impossible("unable to redirect standard output: %m");
	status = cop_run(&options, script_main, &commands_fd);
	if (status < 0)
		emit_impossible("unable to run a node: %m");
	return status < 0 ? 2 : status;
}

static int environment_ms(const char *name, int otherwise)
{
	const char *text = getenv(name);
	int64_t n = otherwise;

	if (text && *text && !parse_number(text, 0, COMMAND_LIMIT_MS, &n)) {
		fprintf(stderr, "player: %s is no number of milliseconds\n", name);
		exit(2);
	}
	return (int)n;
}

static void start_node(void)
{
	int commands[2], events[2];

	if (names_create() < 0)
		die("map memory");
	if (pipe2(commands, O_CLOEXEC) < 0 || pipe2(events, O_CLOEXEC) < 0)
		die("make a pipe");
	player.group = fork();
	if (player.group < 0)
		die("fork");
	if (player.group == 0) {
		/* A group of its own, so that it can be ended whatever it has become. */
		setpgid(0, 0);
		close(commands[1]);
		close(events[0]);
		exit(node_main(commands[0], events[1]));
	}
	setpgid(player.group, player.group);
	close(commands[0]);
	close(events[1]);
	player.commands = commands[1];
	player.events = events[0];
}

static void reap(void)
{
	if (!player.ended && waitpid(player.group, &player.status, WNOHANG) == player.group)
		player.ended = true;
}

/* The script ends, and with it the node. */
static void close_commands(void)
{
	if (!player.over)
		close(player.commands);
	player.over = true;
}

/* --- what happens --- */

static void take_line(char *line)
{
	if (player.over)
		return;
	switch (line[0]) {
	case '!':
		if (player.impossible[0] == '\0')
			snprintf(player.impossible, sizeof player.impossible, "%s", line + 1);
		break;
	case '<':
		player.known = true;
		fputs(line + 1, player.result);
		break;
	case '+':
		fputs(line + 1, player.result);
		break;
	default:
		fprintf(player.trace, "%s\n", line);
		break;
	}
	player.last_ms = now_ms();
}

static void take_lines(void)
{
	char *line = player.buf, *end;
	size_t left = player.len;

	while ((end = memchr(line, '\n', left)) != NULL) {
		*end++ = '\0';
		take_line(line);
		left -= (size_t)(end - line);
		line = end;
	}
	memmove(player.buf, line, left);
	player.len = left;
}

/* Waits for at most ms for something to happen, and takes it. False: nothing did. */
static bool listen_for(int ms)
{
	struct pollfd fd = { .fd = player.eof ? -1 : player.events, .events = POLLIN };
	ssize_t n;

	if (poll(&fd, 1, ms) <= 0)
		return false;
	n = read(player.events, player.buf + player.len, sizeof player.buf - player.len);
	if (n < 0)
		return errno == EINTR;
	if (n == 0) {
		player.eof = true;
		return false;
	}
	player.len += (size_t)n;
	take_lines();
	/* No line is that long. */
	if (player.len == sizeof player.buf)
		player.len = 0;
	return true;
}

/* --- the end --- */

/* Waits until the node, and everybody in it, is gone. */
static bool gone_within(int limit_ms)
{
	int64_t limit = now_ms() + limit_ms;

	for (;;) {
		reap();
		if (player.ended && player.eof)
			return true;
		if (now_ms() > limit)
			return false;
		listen_for(SLICE_MS);
	}
}

static void signal_node(int signo)
{
	reap();
	if (!player.ended)
		kill(player.group, signo);
}

static void kill_node(void)
{
	close_commands();
	/* As its user would: the first asks, the second kills. */
	signal_node(SIGTERM);
	if (gone_within(5 * SLICE_MS))
		return;
	signal_node(SIGTERM);
	if (gone_within(LEFT_MS))
		return;
	kill(-player.group, SIGKILL);
	gone_within(LEFT_MS);
}

static void print_trace(void)
{
	if (fflush(player.trace) != 0 || fwrite(player.text, 1, player.text_len, stdout) != player.text_len ||
		fflush(stdout) != 0)
		die("write the trace");
}

/* The scenario cannot be played. */
static _Noreturn void give_up_scenario(void)
{
	char text[sizeof player.impossible];

	memcpy(text, player.impossible, sizeof text);
	kill_node();
	fprintf(stderr, "player: %s: %s\n", scenario.file, text);
	exit(2);
}

/* The node fails: prints what there is of a trace, which may tell why. */
__attribute__((format(printf, 2, 3))) static _Noreturn void give_up(const struct command *c, const char *format, ...)
{
	va_list ap;

	kill_node();
	print_trace();
	fprintf(stderr, "player: %s: ", scenario.file);
	if (c)
		fprintf(stderr, "line %d (%s): ", c->line, c->text);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(2);
}

static void end_node(void)
{
	close_commands();
	if (!gone_within(END_MS))
		give_up(NULL, player.ended ? "processes outlive their node" : "the node does not end with its script");
	if (!WIFEXITED(player.status) || WEXITSTATUS(player.status) != 0)
		give_up(NULL, "the node ended with wait status %d", player.status);
}

/* --- the scenario --- */

static void look_after(const struct command *c, int64_t limit_ms)
{
	if (player.impossible[0] != '\0')
		give_up_scenario();
	if (interrupted)
		give_up(c, "interrupted by signal %d", (int)interrupted);
	reap();
	if (player.ended || player.eof) {
		/* What it said last. */
		while (listen_for(0))
			;
		if (player.impossible[0] != '\0')
			give_up_scenario();
		give_up(c, "the node ended");
	}
	if (now_ms() > limit_ms)
		give_up(c, "not over after %d s", COMMAND_LIMIT_MS / 1000);
}

/* Waits until nothing has happened for the settle time. */
static void settle(const struct command *c, int64_t limit_ms)
{
	int64_t before, passed;
	int quiet_ms = 0, slice_ms;

	while (quiet_ms < player.settle_ms && now_ms() - player.last_ms < player.settle_ms + SETTLE_SLACK_MS) {
		slice_ms = player.settle_ms - quiet_ms < SLICE_MS ? player.settle_ms - quiet_ms : SLICE_MS;
		before = now_ms();
		if (listen_for(slice_ms)) {
			quiet_ms = 0;
		} else {
			passed = now_ms() - before;
			quiet_ms += passed < slice_ms ? (int)passed : slice_ms;
		}
		look_after(c, limit_ms);
	}
}

static void play_command(uint32_t index)
{
	const struct command *c = &scenario.commands[index];
	int64_t limit_ms = now_ms() + COMMAND_LIMIT_MS + (c->verb == V_WAIT ? c->number : 0);

	fprintf(player.trace, "> %s\n", c->text);
	player.known = false;
	player.result = open_memstream(&player.result_text, &player.result_len);
	if (player.result == NULL)
		die("keep a result");
	if (write(player.commands, &index, sizeof index) != (ssize_t)sizeof index)
		give_up(c, "the node ended");
	while (!player.known) {
		listen_for(5 * SLICE_MS);
		look_after(c, limit_ms);
	}
	settle(c, limit_ms);
	if (fclose(player.result) != 0)
		die("keep a result");
	fprintf(player.trace, "< %s\n", player.result_text);
	free(player.result_text);
}

static void handle(int signo, void (*handler)(int))
{
	struct sigaction action = { .sa_handler = handler };

	sigaction(signo, &action, NULL);
}

static int play(const char *file)
{
	uint32_t i;

	parse_scenario(file);
	player.settle_ms = environment_ms("SETTLE_MS", 150);
	player.jitter_ms = environment_ms("JITTER_MS", 0);
	start_node();
	handle(SIGTERM, on_signal);
	handle(SIGINT, on_signal);
	handle(SIGHUP, on_signal);
	handle(SIGPIPE, SIG_IGN);
	player.trace = open_memstream(&player.text, &player.text_len);
	if (player.trace == NULL)
		die("keep a trace");
	for (i = 0; i < scenario.n_commands; i++)
		play_command(i);
	end_node();
	print_trace();
	return 0;
}

/* Each in a process of its own, as if it were the only one. */
static int play_each(int n, char **files)
{
	int i, status, worst = 0;
	const char *base;
	pid_t pid;

	for (i = 0; i < n; i++) {
		base = strrchr(files[i], '/') ? strrchr(files[i], '/') + 1 : files[i];
		printf("== %.*s\n", (int)strcspn(base, "."), base);
		fflush(stdout);
		pid = fork();
		if (pid == 0)
			exit(play(files[i]));
		if (pid < 0 || waitpid(pid, &status, 0) < 0)
			die("play a file");
		if (status != 0)
			worst = 2;
	}
	return worst;
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: player FILE...\n");
		return 2;
	}
	return argc == 2 ? play(argv[1]) : play_each(argc - 1, argv + 1);
}
