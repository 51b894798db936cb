/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * coppice task: a command under a supervisor of a running node, as if it ran here: with our standard descriptors,
 * directory and environment; signals reach it, and we end as it does. The node is asked for a temporary child,
 * `coppice task-run`, which comes to us for the rest (cli_task.h). Whoever of the two ends takes the other along.
 */
#include "cli/cli_task.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/diag.h"
#include "base/fds.h"
#include "cli/cli.h"
#include "cli/cli_call.h"

enum { TASK_BROKEN = 125, TASK_NO_EXEC = 126, TASK_NO_PROGRAM = 127 };

static const int passed[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH, SIGTSTP, SIGCONT };

struct meeting {
	char name[TASK_NAME_LEN + 1];
	char path[SPEC_PATH_MAX];  /* of the child, "" */
	char self[PATH_MAX];       /* our program */
	int listener, signals, peer;
	sigset_t mask;             /* as it was */
};

/* --- the order to the node --- */

socklen_t task_address(const char *name, struct sockaddr_un *at_r)
{
	memset(at_r, 0, sizeof *at_r);
	at_r->sun_family = AF_UNIX;
	memcpy(at_r->sun_path + 1, name, TASK_NAME_LEN);
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + TASK_NAME_LEN);
}

static int open_listener(struct meeting *m)
{
	struct sockaddr_un at;
	unsigned char bits[TASK_NAME_LEN / 2];
	size_t i;

	if (getrandom(bits, sizeof bits, 0) != sizeof bits)
		return -1;
	for (i = 0; i < sizeof bits; i++)
		snprintf(m->name + 2 * i, 3, "%02x", bits[i]);
	m->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (m->listener < 0 || bind(m->listener, (struct sockaddr *)&at, task_address(m->name, &at)) < 0)
		return -1;
	return listen(m->listener, 8);
}

static int open_signals(struct meeting *m)
{
	sigset_t set;
	size_t i;

	sigemptyset(&set);
	for (i = 0; i < sizeof passed / sizeof passed[0]; i++)
		sigaddset(&set, passed[i]);
	sigprocmask(SIG_BLOCK, &set, &m->mask);
	m->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return m->signals < 0 ? -1 : 0;
}

struct add {
	const struct cli_args *args;
	struct meeting *m;
};

static void put_add(struct wire_out *w, const void *ctx)
{
	const struct add *add = ctx;
	char id[32];

	snprintf(id, sizeof id, "id=task-%d", (int)getpid());
	wire_put_str(w, add->args->operands[0]);
	wire_put_u32(w, 3);
	wire_put_str(w, id);
	wire_put_str(w, "restart=temporary");
	wire_put_str(w, "log=null");
	wire_put_u32(w, 3);
	wire_put_str(w, add->m->self);
	wire_put_str(w, "task-run");
	wire_put_str(w, add->m->name);
}

static void take_added(void *ctx, int kind, struct wire_in *body)
{
	struct add *add = ctx;
	char esc[CALL_MESSAGE_MAX];

	if (kind == PROTO_R_TEXT) {
		wire_get_str(body, add->m->path, sizeof add->m->path);
	} else if (kind == PROTO_R_ERROR_LINE) {
		client_get_text(body, esc, sizeof esc);
		diag_error("%s", esc);
	}
}

/* --- meeting who does it --- */

static bool is_ours(int fd, uid_t node)
{
	struct ucred peer;
	socklen_t len = sizeof peer;

	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && peer.uid == node;
}

/* Our socket's name can be seen by anybody who looks at the node's processes, so others may come first. */
static int meet(struct meeting *m, uid_t node)
{
	int64_t until = clock_mono_ms() + TASK_MEET_MS, left;

	while ((left = until - clock_mono_ms()) > 0) {
		struct pollfd p = { .fd = m->listener, .events = POLLIN };

		if (poll(&p, 1, (int)left) <= 0)
			continue;
		m->peer = accept4(m->listener, NULL, NULL, SOCK_CLOEXEC);
		if (m->peer >= 0 && is_ours(m->peer, node))
			return 0;
		fds_close(&m->peer);
	}
	errno = ETIMEDOUT;
	return -1;
}

static int put_word(int fd, const char *word, uint64_t *len)
{
	*len += strlen(word) + 1;
	return fds_write_all(fd, word, strlen(word) + 1);
}

/* A memfd with the directory, the arguments and the environment; -1. */
static int write_words(const struct cli_args *a, struct task_order *order)
{
	char dir[PATH_MAX];
	int fd = memfd_create("coppice-task", MFD_CLOEXEC);
	size_t i;

	if (fd < 0 || !getcwd(dir, sizeof dir) || put_word(fd, dir, &order->len) < 0)
		return -1;
	for (i = 0; i < a->n_tail; i++, order->n_args++)
		if (put_word(fd, a->tail[i], &order->len) < 0)
			return -1;
	for (i = 0; environ[i]; i++, order->n_env++)
		if (put_word(fd, environ[i], &order->len) < 0)
			return -1;
	return fd;
}

static int send_order(const struct meeting *m, const struct cli_args *a)
{
	struct task_order order = { .magic = TASK_MAGIC };
	int fds[TASK_FDS] = { STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, write_words(a, &order) };
	ssize_t n;

	if (fds[3] < 0)
		return -1;
	if (order.len > TASK_WORDS_MAX) {
		errno = E2BIG;
		return -1;
	}
	order.umask = umask(0);
	umask((mode_t)order.umask);
	n = fds_send(m->peer, &order, sizeof order, fds, TASK_FDS);
	fds_close(&fds[3]);
	return n == sizeof order ? 0 : -1;
}

/* --- until it ends --- */

int task_end_as(int sig)
{
	struct rlimit none = { 0, 0 };
	sigset_t set;

	setrlimit(RLIMIT_CORE, &none);
	signal(sig, SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, sig);
	fflush(NULL);
	raise(sig);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	return 128 + sig; /* one that does not end anybody */
}

static void pass_on(const struct meeting *m)
{
	struct signalfd_siginfo si;

	while (read(m->signals, &si, sizeof si) == sizeof si) {
		struct task_word w = { .what = TASK_SIGNAL, .value = (int32_t)si.ssi_signo };

		(void)send(m->peer, &w, sizeof w, MSG_NOSIGNAL);
		if (si.ssi_signo == SIGTSTP)
			raise(SIGSTOP); /* CONT is passed on as well */
	}
}

static int ended(const struct cli_args *a, const struct task_word *w)
{
	switch (w->what) {
	case TASK_EXITED:
		return w->value & 0xff;
	case TASK_KILLED:
		return w->value > 0 && w->value < NSIG ? task_end_as(w->value) : TASK_BROKEN;
	case TASK_FAILED:
		errno = w->value;
		diag_error_errno("task: unable to execute %s", a->tail[0]);
		return w->value == ENOENT ? TASK_NO_PROGRAM : TASK_NO_EXEC;
	default:
		diag_error("task: the node's side says what we do not understand");
		return TASK_BROKEN;
	}
}

static int attend(const struct meeting *m, const struct cli_args *a)
{
	struct pollfd p[2] = { { .fd = m->peer, .events = POLLIN }, { .fd = m->signals, .events = POLLIN } };
	struct task_word w;
	ssize_t n;

	for (;;) {
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return TASK_BROKEN;
		if (p[1].revents)
			pass_on(m);
		if (!p[0].revents)
			continue;
		n = recv(m->peer, &w, sizeof w, 0);
		if (n == sizeof w)
			return ended(a, &w);
		if (n < 0 && errno == EINTR)
			continue;
		diag_error("task: %s was killed", m->path);
		return task_end_as(SIGKILL);
	}
}

static int broken(const char *what)
{
	diag_error_errno("task: %s", what);
	return TASK_BROKEN;
}

static int run(struct meeting *m, const struct cli_args *a)
{
	struct add add = { .args = a, .m = m };
	struct call c = { .args = a, .deadline_ms = call_deadline(a, CALL_QUERY_MS), .verb = PROTO_ADD, .put = put_add,
		.put_ctx = &add, .frame = take_added, .frame_ctx = &add };
	ssize_t n = readlink("/proc/self/exe", m->self, sizeof m->self - 1);
	int status;

	if (n < 0 || open_listener(m) < 0 || open_signals(m) < 0)
		return broken("unable to begin");
	status = call_run_or_say(&c);
	if (status != 0)
		return TASK_BROKEN;
	if (meet(m, c.node_uid) < 0 || send_order(m, a) < 0)
		return broken("unable to give the task its order");
	return attend(m, a);
}

int cli_task(const struct cli_args *a)
{
	struct meeting m = { .listener = -1, .signals = -1, .peer = -1 };
	int status;

	if (a->n_tail == 0)
		return cli_usage("task", "it needs SUPERVISOR -- CMD [ARG...]");
	status = run(&m, a);
	fds_close(&m.peer);
	fds_close(&m.signals);
	fds_close(&m.listener);
	return status;
}
