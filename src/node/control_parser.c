/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Configuration is parsed beside this process. Hides the helper: parsing waits for a parser that
 * may take seconds, so a forked helper waits for it, while control serves its clients, and hands
 * back the image as a descriptor and the errors as text. The helper lives no longer than control,
 * holds none of its descriptors and has a deadline; only so many run at once, the others queue.
 *
 * Regime: errors are kept up to a limit. A helper that cannot be made is an error like any other.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fds.h"
#include "node/control_private.h"
#include "node/member.h"

#define PARSES_MAX 4
#define PARSE_MS 30000
#define ERRORS_MAX (256 * 1024)
#define HELPER_RESULT 3 /* its descriptors */
#define HELPER_ERRORS 4

static void parse_next(struct control *c);

/* --- the helper --- */

/* Brings two descriptors to their places and closes everything else. Both were made by us and are
 * above the places, or on them. */
static int helper_fds(int result, int errors)
{
	int high = fcntl(errors, F_DUPFD, HELPER_ERRORS + 1);

	if (high < 0 || dup2(result, HELPER_RESULT) < 0 || dup2(high, HELPER_ERRORS) < 0)
		return -1;
	fds_close_from(HELPER_ERRORS + 1);
	return 0;
}

static _Noreturn void helper_main(struct parse *p, pid_t control, int result, int errors)
{
	int memfd;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != control)
		_exit(1);
	member_leave();
	if (helper_fds(result, errors) < 0)
		_exit(1);
	memfd = p->load(p, HELPER_ERRORS);
	if (memfd >= 0 && fds_send(HELPER_RESULT, "", 1, &memfd, 1) == 1)
		_exit(0);
	_exit(1);
}

/* --- the end --- */

static void release(struct parse *p)
{
	struct control *c = p->ctl;

	loop_timer_cancel(&c->loop, &p->deadline);
	if (p->errors_fd >= 0)
		loop_detach(&c->loop, &p->errors_src);
	if (p->result_fd >= 0)
		loop_detach(&c->loop, &p->result_src);
	fds_close(&p->errors_fd);
	fds_close(&p->result_fd);
	if (p->pid > 0) {
		/* It is at its end, or not needed: neither takes long. */
		kill(p->pid, SIGKILL);
		while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
			;
		p->pid = 0;
	}
	if (p->running)
		c->n_parses--;
	p->running = false;
}

static void add_errors(struct parse *p, const char *text, size_t len)
{
	char *buf;

	if (len > ERRORS_MAX - p->errors_len)
		len = ERRORS_MAX - p->errors_len;
	if (p->errors_len + len > p->errors_cap) {
		buf = realloc(p->errors, p->errors_len + len + 4096);
		if (buf == NULL)
			return;
		p->errors = buf;
		p->errors_cap = p->errors_len + len + 4096;
	}
	memcpy(p->errors + p->errors_len, text, len);
	p->errors_len += len;
}

static void finish(struct parse *p)
{
	struct control *c = p->ctl;
	char *errors;
	size_t len;
	int memfd;

	release(p);
	if (p->memfd < 0 && p->errors_len == 0)
		add_errors(p, "the parser died\n", 16);
	errors = p->errors;
	len = p->errors_len;
	memfd = p->memfd;
	p->errors = NULL;
	p->errors_len = p->errors_cap = 0;
	p->memfd = -1;
	p->done(p, memfd, errors, len);
	free(errors);
	parse_next(c);
}

static void fail(struct parse *p, const char *what, int why)
{
	char text[256];

	snprintf(text, sizeof(text), "%s%s%s\n", what, why != 0 ? ": " : "", why != 0 ? strerror(why) : "");
	add_errors(p, text, strlen(text));
	finish(p);
}

/* --- while it runs --- */

/* Reads what there is; true at the end. */
static bool read_errors(struct parse *p)
{
	char buf[4096];
	ssize_t n;

	do {
		n = read(p->errors_fd, buf, sizeof(buf));
		if (n > 0)
			add_errors(p, buf, (size_t)n);
	} while (n > 0 || (n < 0 && errno == EINTR));
	return n == 0 || errno != EAGAIN;
}

static void errors_ready(struct loop_source *src, uint32_t events)
{
	struct parse *p = src->ctx;

	(void)events;
	if (read_errors(p))
		loop_detach(&p->ctl->loop, src); /* the other channel tells the end */
}

/* The image, or the end: nobody holds the other end any more, so all errors are in the pipe. */
static void result_ready(struct loop_source *src, uint32_t events)
{
	struct parse *p = src->ctx;
	size_t n_fds;
	char byte;
	int fd;
	ssize_t n = fds_recv(p->result_fd, &byte, 1, &fd, 1, &n_fds);

	(void)events;
	if (n_fds == 1) {
		fds_close(&p->memfd);
		p->memfd = fd;
	}
	if (n > 0 || (n < 0 && errno == EAGAIN))
		return;
	read_errors(p);
	finish(p);
}

static void parse_late(struct loop_timer *t)
{
	struct parse *p = t->ctx;

	fds_close(&p->memfd);
	fail(p, "the parser takes too long", 0);
}

/* --- the beginning --- */

static int watch(struct parse *p, int result, int errors)
{
	struct control *c = p->ctl;

	p->result_fd = result;
	p->errors_fd = errors;
	if (fds_set_nonblock(errors, true) < 0 || fds_set_nonblock(result, true) < 0)
		return -1;
	if (loop_attach(&c->loop, &p->errors_src, errors, EPOLLIN, errors_ready, p) < 0)
		return -1;
	return loop_attach(&c->loop, &p->result_src, result, EPOLLIN, result_ready, p);
}

static pid_t fork_helper(struct parse *p, int result, int errors)
{
	pid_t control = getpid(), pid = fork();

	if (pid == 0)
		helper_main(p, control, result, errors);
	return pid;
}

/* Makes the channels and the helper; -1 with errno. */
static int start(struct parse *p)
{
	int result[2], errors[2], saved;

	if (pipe2(errors, O_CLOEXEC) < 0)
		return -1;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, result) < 0) {
		saved = errno;
		fds_close(&errors[0]);
		fds_close(&errors[1]);
		errno = saved;
		return -1;
	}
	if (watch(p, result[0], errors[0]) == 0)
		p->pid = fork_helper(p, result[1], errors[1]);
	saved = errno;
	fds_close(&result[1]);
	fds_close(&errors[1]);
	errno = saved;
	return p->pid > 0 ? 0 : -1;
}

static void parse_start(struct parse *p)
{
	struct control *c = p->ctl;

	p->running = true;
	c->n_parses++;
	p->errors_src.fd = p->result_src.fd = -1;
	if (start(p) < 0)
		fail(p, "unable to start the parser", errno);
	else
		loop_timer_set(&c->loop, &p->deadline, c->loop.now_ms + PARSE_MS, parse_late, p);
}

static void parse_next(struct control *c)
{
	struct parse *p;

	while (c->n_parses < PARSES_MAX && (p = TAILQ_FIRST(&c->parse_queue)) != NULL) {
		TAILQ_REMOVE(&c->parse_queue, p, entry);
		p->queued = false;
		parse_start(p);
	}
}

void parse_submit(struct control *c, struct parse *p)
{
	p->ctl = c;
	p->errors_fd = p->result_fd = p->memfd = -1;
	p->pid = 0;
	p->queued = true;
	TAILQ_INSERT_TAIL(&c->parse_queue, p, entry);
	parse_next(c);
}

void parse_cancel(struct parse *p)
{
	bool ran = p->running;

	if (p->queued)
		TAILQ_REMOVE(&p->ctl->parse_queue, p, entry);
	if (ran)
		release(p);
	p->queued = false;
	fds_close(&p->memfd);
	free(p->errors);
	p->errors = NULL;
	p->errors_len = p->errors_cap = 0;
	if (ran)
		parse_next(p->ctl);
}

void parse_lines(const char *errors, size_t len, void (*f)(void *ctx, const char *line), void *ctx)
{
	char line[CONTROL_TEXT_MAX];
	size_t at = 0;

	while (at < len) {
		const char *nl = memchr(errors + at, '\n', len - at);
		size_t n = nl != NULL ? (size_t)(nl - errors) - at : len - at;
		size_t take = n < sizeof(line) ? n : sizeof(line) - 1;

		memcpy(line, errors + at, take);
		line[take] = '\0';
		if (take > 0)
			f(ctx, line);
		at += n + 1;
	}
}
