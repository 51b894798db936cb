/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * coppice task-run NAME: the node's side of `coppice task` (cli_task.h). It is the child that the node sees; it goes to
 * the socket NAME for its order, makes the command's process, passes signals on, tells how the command ended, and
 * ends in the same way. Is whoever gave the order gone, the command is killed: nobody waits for it.
 */
#include "cli/cli_task.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fds.h"
#include "cli/cli.h"

#define INVOCATION "INVOCATION_ID"
enum { NO_ORDER = 125 };

struct order {
	char **dir;    /* one word */
	char **argv, **env;
	mode_t umask;
	int fd[TASK_FDS];
};

/* --- the order --- */

static int go_to(const char *name)
{
	struct sockaddr_un at;
	struct ucred peer;
	socklen_t len = sizeof peer;
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&at, task_address(name, &at)) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
		return -1;
	if (peer.uid != geteuid() && peer.uid != 0) {
		errno = EACCES;
		return -1;
	}
	return fd;
}

/* The n words from *at on, before end, as a vector; NULL: there are not so many. */
static char **vector(char **at, const char *end, uint32_t n)
{
	char **v;
	uint32_t i;

	if (n > TASK_WORDS_MAX)
		return NULL;
	v = calloc((size_t)n + 1, sizeof *v);
	for (i = 0; v && i < n; i++) {
		char *nul = *at < end ? memchr(*at, '\0', (size_t)(end - *at)) : NULL;

		if (!nul) {
			free(v);
			return NULL;
		}
		v[i] = *at;
		*at = nul + 1;
	}
	return v;
}

static bool read_words(struct order *o, const struct task_order *said)
{
	char *words, *at;
	const char *end;
	struct stat st;

	if (said->magic != TASK_MAGIC || said->len == 0 || said->len > TASK_WORDS_MAX || said->n_args == 0 ||
	    fstat(o->fd[3], &st) < 0 || (uint64_t)st.st_size != said->len)
		return false;
	words = malloc(said->len);
	if (!words || pread(o->fd[3], words, said->len, 0) != (ssize_t)said->len)
		return false;
	at = words;
	end = words + said->len;
	o->dir = vector(&at, end, 1);
	o->argv = vector(&at, end, said->n_args);
	o->env = vector(&at, end, said->n_env);
	o->umask = (mode_t)said->umask & 0777;
	return o->dir && o->argv && o->env;
}

static bool take_order(int sock, struct order *o)
{
	struct pollfd p = { .fd = sock, .events = POLLIN };
	struct task_order said;
	size_t n = 0;

	return poll(&p, 1, TASK_MEET_MS) > 0 && fds_recv(sock, &said, sizeof said, o->fd, TASK_FDS, &n) == sizeof said &&
	    n == TASK_FDS && read_words(o, &said);
}

/* --- the command's process --- */

static _Noreturn void become(const struct order *o, const sigset_t *mask, pid_t parent, int failed)
{
	const char *ours = getenv(INVOCATION);
	char invocation[128] = "";
	int i, err;

	if (ours)
		snprintf(invocation, sizeof invocation, "%s", ours);
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		_exit(NO_ORDER);
	setpgid(0, 0);
	umask(o->umask);
	environ = o->env;
	if (invocation[0])
		setenv(INVOCATION, invocation, 1); /* by it the node knows whom the command has started */
	sigprocmask(SIG_SETMASK, mask, NULL);
	for (i = 0; i < 3; i++)
		if (dup2(o->fd[i], i) < 0)
			break;
	if (i == 3 && chdir(o->dir[0]) == 0)
		execvp(o->argv[0], o->argv);
	err = errno;
	(void)!write(failed, &err, sizeof err);
	_exit(NO_ORDER);
}

/* 0 and the process; or the errno with which it could not be executed. */
static int start(struct order *o, const sigset_t *mask, pid_t *pid_r)
{
	pid_t self = getpid();
	int failed[2], err = 0, i;

	if (pipe2(failed, O_CLOEXEC) < 0)
		return errno;
	*pid_r = fork();
	if (*pid_r == 0)
		become(o, mask, self, failed[1]);
	if (*pid_r < 0)
		err = errno;
	fds_close(&failed[1]);
	if (*pid_r > 0 && read(failed[0], &err, sizeof err) != sizeof err)
		err = 0; /* closed by its execve */
	fds_close(&failed[0]);
	for (i = 0; i < TASK_FDS; i++)
		fds_close(&o->fd[i]);
	return err;
}

/* --- until it ends --- */

static void say(int sock, uint32_t what, int value)
{
	struct task_word w = { .what = what, .value = value };

	(void)send(sock, &w, sizeof w, MSG_NOSIGNAL);
}

/* The node's signals are the command's. */
static bool take_signals(int signals, pid_t pid)
{
	struct signalfd_siginfo si;
	bool died = false;

	while (read(signals, &si, sizeof si) == sizeof si) {
		if (si.ssi_signo == SIGCHLD)
			died = true;
		else
			kill(-pid, (int)si.ssi_signo);
	}
	return died;
}

/* False: nobody waits for the command any more. */
static bool take_word(int sock, pid_t pid)
{
	struct task_word w;
	ssize_t n = recv(sock, &w, sizeof w, MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n == sizeof w && w.what == TASK_SIGNAL && w.value > 0 && w.value < NSIG)
		kill(-pid, w.value);
	return n > 0;
}

static bool is_over(pid_t pid, siginfo_t *si)
{
	memset(si, 0, sizeof *si);
	return waitid(P_PID, (id_t)pid, si, WEXITED | WNOHANG | WNOWAIT) == 0 && si->si_pid == pid;
}

static int attend(int sock, int signals, pid_t pid)
{
	struct pollfd p[2] = { { .fd = sock, .events = POLLIN }, { .fd = signals, .events = POLLIN } };
	siginfo_t si;

	while (!is_over(pid, &si)) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return NO_ORDER;
		if (p[1].revents)
			(void)take_signals(signals, pid);
		if (p[0].revents && !take_word(sock, pid)) {
			kill(-pid, SIGKILL);
			p[0].fd = -1;
		}
	}
	kill(-pid, SIGKILL); /* whom it leaves behind; its number is its own until it is reaped */
	waitpid(pid, NULL, 0);
	if (si.si_code == CLD_EXITED) {
		say(sock, TASK_EXITED, si.si_status);
		return si.si_status;
	}
	say(sock, TASK_KILLED, si.si_status);
	return task_end_as(si.si_status);
}

static int open_signals(sigset_t *mask)
{
	static const int ours[] = { SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT };
	sigset_t set;
	size_t i;

	sigemptyset(&set);
	for (i = 0; i < sizeof ours / sizeof ours[0]; i++)
		sigaddset(&set, ours[i]);
	sigprocmask(SIG_BLOCK, &set, mask);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int cli_task_run(const struct cli_args *a)
{
	static struct order o = { .fd = { -1, -1, -1, -1 } };
	sigset_t mask;
	int sock, signals, err;
	pid_t pid = -1;

	if (strlen(a->operands[0]) != TASK_NAME_LEN)
		return cli_usage("task-run", "it is for `coppice task` to start");
	sock = go_to(a->operands[0]);
	if (sock < 0) {
		diag_error_errno("task-run: unable to find who gives the order");
		return NO_ORDER;
	}
	signals = open_signals(&mask);
	if (signals < 0 || !take_order(sock, &o)) {
		diag_error("task-run: there is no order");
		return NO_ORDER;
	}
	err = start(&o, &mask, &pid);
	if (err != 0) {
		say(sock, TASK_FAILED, err);
		return err == ENOENT ? 127 : 126;
	}
	return attend(sock, signals, pid);
}
