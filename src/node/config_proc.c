/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * The process in which a configuration is parsed. It is not trusted: it may crash, take all
 * memory, loop or write nonsense; it has limits, a deadline, one memfd for the result and one pipe
 * for text. The parent takes a result only if it is sealed and passes spec_check(), and
 * turns every other end into an error like any other. Linux only (memfd, seals).
 *
 * Runs in root (before the first fork), in control (reload) and in the command; blocks until the
 * parser is gone. The parent's side does not allocate.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fds.h"
#include "base/text.h"
#include "node/config_private.h"
#include "node/member.h"

#define TEXT_MAX ((size_t)4 << 20) /* bytes of errors passed on */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SHADOW_MEMORY 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SHADOW_MEMORY 1
#endif
#endif

/* Sanitizers report to standard error; what the libraries print there is no business of a user. */
#ifdef HAS_SHADOW_MEMORY
#define STANDARD_EMPTIED 2
#else
#define STANDARD_EMPTIED 3
#endif

enum { CHILD_MEMFD = 3, CHILD_TEXT = 4, CHILD_FDS = 5 };

struct parser {
	pid_t pid;
	int memfd;
	int text;          /* the pipe's read end */
	int err_fd;
	const char *label;
	bool late;         /* killed at the deadline */
};

/* --- the parser's side --- */

static void limit(int resource, rlim_t soft, rlim_t hard)
{
	struct rlimit now, want = { soft, hard };

	/* Never above what is there already. */
	if (getrlimit((__rlimit_resource_t)resource, &now) < 0)
		return;
	if (now.rlim_max < want.rlim_max)
		want.rlim_max = now.rlim_max;
	if (want.rlim_max < want.rlim_cur)
		want.rlim_cur = want.rlim_max;
	setrlimit((__rlimit_resource_t)resource, &want);
}

static void confine(void)
{
#ifndef HAS_SHADOW_MEMORY
	limit(RLIMIT_AS, CONF_PROC_MEMORY, CONF_PROC_MEMORY);
#endif
	limit(RLIMIT_CPU, CONF_PROC_CPU_SEC, CONF_PROC_CPU_SEC + 1);
	limit(RLIMIT_CORE, 0, 0);
	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
}

/* Signals as a new program would find them: handlers of the parent have no place here. */
static void reset_signals(void)
{
	struct sigaction dfl = { .sa_handler = SIG_DFL };
	sigset_t none;
	int sig;

	for (sig = 1; sig < NSIG; sig++)
		sigaction(sig, &dfl, NULL); /* KILL, STOP and the C library's own say no */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Only the two descriptors it needs stay, and the standard ones, leading nowhere. */
static bool keep_descriptors(int memfd, int text)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int high_memfd = fcntl(memfd, F_DUPFD_CLOEXEC, 16), high_text = fcntl(text, F_DUPFD_CLOEXEC, 16);
	int i;

	if (null < 0 || high_memfd < 0 || high_text < 0)
		return false;
	for (i = 0; i < STANDARD_EMPTIED; i++)
		if (dup2(null, i) < 0)
			return false;
	if (dup2(high_memfd, CHILD_MEMFD) < 0 || dup2(high_text, CHILD_TEXT) < 0)
		return false;
	fds_close_from(CHILD_FDS);
	return true;
}

_Noreturn static void parser_main(pid_t parent, int memfd, int text, conf_work_f *work, void *ctx)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	member_leave();
	if (getppid() != parent || !keep_descriptors(memfd, text))
		_exit(CONF_EXIT_SYSTEM);
	reset_signals();
	confine();
	_exit(work(ctx, CHILD_MEMFD, CHILD_TEXT));
}

/* --- the parent's side --- */

static void say(const struct parser *p, const char *what)
{
	char label[1024], line[2048];
	int n;

	text_escape(p->label, strlen(p->label), label, sizeof label);
	n = snprintf(line, sizeof line, "%s: the parser failed: %s\n", label, what);
	if (fds_write_all(p->err_fd, line, (size_t)n) < 0)
		return; /* nobody listens */
}

static int start(struct parser *p, conf_work_f *work, void *ctx)
{
	pid_t self = getpid();
	int pipe_fd[2];

	p->memfd = memfd_create("coppice-image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (p->memfd < 0 || pipe2(pipe_fd, O_CLOEXEC) < 0)
		return -1;
	p->text = pipe_fd[0];
	p->pid = fork();
	if (p->pid == 0)
		parser_main(self, p->memfd, pipe_fd[1], work, ctx);
	fds_close(&pipe_fd[1]);
	return p->pid < 0 ? -1 : 0;
}

/* Passes the parser's text on until it ends, or the deadline. */
static void copy_text(struct parser *p, int64_t deadline)
{
	struct pollfd pfd = { .fd = p->text, .events = POLLIN };
	size_t total = 0;
	char buf[4096];

	for (;;) {
		int64_t left = deadline - clock_mono_ms();
		int r = left > 0 ? poll(&pfd, 1, (int)left) : 0;
		ssize_t n;

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0) {
			p->late = true;
			return;
		}
		n = read(p->text, buf, sizeof buf);
		if (n == 0 || (n < 0 && errno != EINTR))
			return;
		if (n > 0 && (total += (size_t)n) <= TEXT_MAX && fds_write_all(p->err_fd, buf, (size_t)n) < 0)
			total = TEXT_MAX; /* nobody listens; read on, so that the parser ends */
	}
}

/* Waits for its end. False if somebody else took the status (SIGCHLD ignored). */
static bool reap(const struct parser *p, int *status_r)
{
	pid_t r;

	if (p->late)
		kill(p->pid, SIGKILL);
	do {
		r = waitpid(p->pid, status_r, 0);
	} while (r < 0 && errno == EINTR);
	return r == p->pid;
}

static const char *how_it_ended(const struct parser *p, int status, char buf[64])
{
	if (p->late)
		return "it took too long";
	if (WIFSIGNALED(status) && (WTERMSIG(status) == SIGXCPU))
		return "it used too much processor time";
	if (WIFSIGNALED(status))
		snprintf(buf, 64, "it was ended by signal %s", text_signal_name(WTERMSIG(status)));
	else if (WEXITSTATUS(status) == CONF_EXIT_MEMORY)
		return "it ran out of memory";
	else if (WEXITSTATUS(status) == CONF_EXIT_SYSTEM)
		return "it could not be set up";
	else
		snprintf(buf, 64, "it ended with status %d", WEXITSTATUS(status));
	return buf;
}

/* Tells whether the result can be used; the descriptor itself stays the caller's. */
static bool is_image(int memfd)
{
	struct spec_image img;
	int fd = fcntl(memfd, F_DUPFD_CLOEXEC, 0);

	if (fd < 0 || spec_open(&img, fd) < 0) {
		fds_close(&fd);
		return false;
	}
	spec_close(&img);
	return true;
}

/* Judges what has become of it: the memfd, or -1 after something was said. */
static int result(struct parser *p, bool known, int status)
{
	char buf[64];

	if (known && WIFEXITED(status) && WEXITSTATUS(status) == CONF_EXIT_ERRORS)
		return -1; /* it has said why */
	if (known && !(WIFEXITED(status) && WEXITSTATUS(status) == CONF_EXIT_OK))
		say(p, how_it_ended(p, status, buf));
	else if (!is_image(p->memfd))
		say(p, known ? "its result is unusable" : "it left no result");
	else
		return p->memfd;
	return -1;
}

int conf_proc_run(const char *label, conf_work_f *work, void *ctx, int timeout_ms, int err_fd)
{
	struct parser p = { .pid = -1, .memfd = -1, .text = -1, .err_fd = err_fd, .label = label };
	int status = 0, fd = -1;

	if (start(&p, work, ctx) < 0) {
		char why[128];

		snprintf(why, sizeof why, "unable to start it: %s", strerror(errno));
		say(&p, why);
	} else {
		bool known;

		copy_text(&p, clock_mono_ms() + timeout_ms);
		known = reap(&p, &status);
		fd = result(&p, known, status);
	}
	fds_close(&p.text);
	if (fd < 0)
		fds_close(&p.memfd);
	return fd;
}
