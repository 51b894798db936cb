/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * A scripted child for tests: does what its arguments say, one after the other, then exits with
 * 0. It knows nothing of Coppice. What it prints goes to standard output, or to a file after
 * --out. Also part of the unit tests, which run themselves as workers (WORKER_IS_PART).
 *
 *   --ignore SIG, --exit-on SIG:N   before anything that waits
 *   --exit N, --raise SIG, --segv, --stop-self, --hold, --sleep MS
 *   --fork N          so many children that hold
 *   --setsid          a child in a session of its own that holds
 *   --daemonize       the same by a double fork, all descriptors closed, environment kept
 *   --escape          the same with an empty environment
 *   --notify TEXT     to NOTIFY_SOCKET; \n is a newline
 *   --notify-by-child TEXT   by a child that is waited for
 *   --notify-size N   a datagram of N bytes 'x'; --notify-garbage N: N datagrams of noise
 *   --notify-fds      READY=1 with descriptors
 *   --pings N:MS      WATCHDOG=1 N times, every MS
 *   --ready-fd N      a newline to descriptor N; --write N:TEXT: a text without it
 *   --garbage N       N lines of noise to standard output
 *   --listen unix:PATH, dgram:PATH, tcp:PORT, tcp6:PORT
 *   --touch FILE, --print TEXT, --out FILE
 *   --listen-check, --print-limits, --print-ids, --print-env, --print-fds, --print-signals,
 *   --print-session, --print-umask, --print-dir, --print-tty
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static FILE *worker_out;
static volatile sig_atomic_t worker_exit_on[65];

static int worker_signal(const char *name)
{
	static const struct { const char *name; int sig; } table[] = {
		{ "TERM", SIGTERM }, { "INT", SIGINT }, { "HUP", SIGHUP }, { "KILL", SIGKILL }, { "ABRT", SIGABRT },
		{ "SEGV", SIGSEGV }, { "USR1", SIGUSR1 }, { "USR2", SIGUSR2 }, { "STOP", SIGSTOP },
		{ "CONT", SIGCONT }, { "QUIT", SIGQUIT }, { "PIPE", SIGPIPE },
	};
	size_t i;

	for (i = 0; i < sizeof table / sizeof table[0]; i++)
		if (strncasecmp(name, table[i].name, strlen(table[i].name)) == 0)
			return table[i].sig;
	return atoi(name);
}

static void worker_hold(void)
{
	for (;;)
		pause();
}

static void worker_sleep(int ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L };

	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

/* --- signals --- */

static void worker_handler(int sig)
{
	_exit(worker_exit_on[sig]);
}

static void worker_do_exit_on(const char *arg)
{
	struct sigaction sa = { .sa_handler = worker_handler };
	int sig = worker_signal(arg);

	worker_exit_on[sig] = atoi(strchr(arg, ':') + 1);
	sigaction(sig, &sa, NULL);
}

/* --- children --- */

static void worker_fork(int n)
{
	while (n-- > 0)
		if (fork() == 0)
			worker_hold();
}

static void worker_setsid(void)
{
	if (fork() == 0) {
		setsid();
		worker_hold();
	}
}

/* The environment of a process is where the kernel put it: only exec changes what others see. */
static void worker_daemonize(int empty)
{
	char *argv[] = { "worker", "worker", "--hold", NULL }, *none[] = { NULL };
	extern char **environ;
	pid_t pid = fork();
	int fd;

	if (pid != 0) {
		waitpid(pid, NULL, 0);
		return;
	}
	setsid();
	if (fork() != 0)
		_exit(0);
	setsid();
	for (fd = 0; fd < 1024; fd++)
		close(fd);
	execve("/proc/self/exe", argv, empty ? none : environ);
	_exit(1);
}

/* --- notify --- */

static int worker_notify_socket(struct sockaddr_un *a, socklen_t *len_r)
{
	const char *name = getenv("NOTIFY_SOCKET");

	*a = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (!name || strlen(name) >= sizeof a->sun_path)
		return -1;
	memcpy(a->sun_path, name, strlen(name));
	if (name[0] == '@')
		a->sun_path[0] = '\0';
	*len_r = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
	return socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
}

static void worker_notify_bytes(const void *p, size_t n)
{
	struct sockaddr_un a;
	socklen_t len;
	int fd = worker_notify_socket(&a, &len);

	if (fd < 0 || sendto(fd, p, n, MSG_NOSIGNAL, (struct sockaddr *)&a, len) < 0)
		fprintf(stderr, "worker: notify: %s\n", strerror(errno));
	close(fd);
}

static void worker_notify(const char *arg)
{
	char text[4096], *to = text;

	for (; *arg && to < text + sizeof text - 1; arg++, to++) {
		*to = *arg;
		if (arg[0] == '\\' && arg[1] == 'n') {
			*to = '\n';
			arg++;
		}
	}
	worker_notify_bytes(text, (size_t)(to - text));
}

static void worker_notify_by_child(const char *arg)
{
	pid_t pid = fork();

	if (pid == 0) {
		worker_notify(arg);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

static void worker_notify_size(size_t n)
{
	char *p = malloc(n + 1);

	memset(p, 'x', n + 1);
	worker_notify_bytes(p, n);
	free(p);
}

static void worker_notify_garbage(int n)
{
	unsigned char buf[2000];
	unsigned seed = 7;
	size_t i;

	while (n-- > 0) {
		for (i = 0; i < sizeof buf; i++)
			buf[i] = (unsigned char)((seed = seed * 1103515245 + 12345) >> 16);
		worker_notify_bytes(buf, seed % sizeof buf);
	}
}

static void worker_notify_fds(void)
{
	union {
		char buf[CMSG_SPACE(sizeof(int) * 100)];
		struct cmsghdr align;
	} c;
	static char text[] = "READY=1";
	struct iovec iov = { .iov_base = text, .iov_len = sizeof text - 1 };
	struct sockaddr_un a;
	socklen_t len;
	int fd = worker_notify_socket(&a, &len), i;
	struct msghdr m = { .msg_name = &a, .msg_namelen = len, .msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = c.buf, .msg_controllen = sizeof c.buf };
	struct cmsghdr *h;

	memset(&c, 0, sizeof c);
	h = CMSG_FIRSTHDR(&m);
	h->cmsg_level = SOL_SOCKET;
	h->cmsg_type = SCM_RIGHTS;
	h->cmsg_len = CMSG_LEN(sizeof(int) * 100);
	for (i = 0; i < 100; i++)
		memcpy(CMSG_DATA(h) + (size_t)i * sizeof fd, &fd, sizeof fd);
	if (sendmsg(fd, &m, MSG_NOSIGNAL) < 0)
		fprintf(stderr, "worker: notify: %s\n", strerror(errno));
	close(fd);
}

static void worker_pings(const char *arg)
{
	int n = atoi(arg), ms = atoi(strchr(arg, ':') + 1);

	while (n-- > 0) {
		worker_notify("WATCHDOG=1");
		worker_sleep(ms);
	}
}

/* --- sockets and files --- */

static void worker_listen_on(int fd, const void *a, socklen_t len, int type)
{
	if (bind(fd, a, len) < 0 || (type == SOCK_STREAM && listen(fd, 16) < 0))
		fprintf(stderr, "worker: listen: %s\n", strerror(errno));
}

static void worker_listen(const char *arg)
{
	const char *what = strchr(arg, ':') + 1;
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct sockaddr_in in4 = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(what)) };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = in4.sin_port };
	int on = 1, fd, type = strncmp(arg, "dgram", 5) == 0 ? SOCK_DGRAM : SOCK_STREAM;

	if (strncmp(arg, "tcp6", 4) == 0) {
		fd = socket(AF_INET6, type, 0);
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
		worker_listen_on(fd, &in6, sizeof in6, type);
	} else if (strncmp(arg, "tcp", 3) == 0) {
		fd = socket(AF_INET, type, 0);
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
		worker_listen_on(fd, &in4, sizeof in4, type);
	} else {
		unlink(what);
		strncpy(un.sun_path, what, sizeof un.sun_path - 1);
		worker_listen_on(socket(AF_UNIX, type, 0), &un, sizeof un, type);
	}
}

static void worker_touch(const char *path)
{
	FILE *f = fopen(path, "a");

	if (f) {
		fprintf(f, "%d\n", (int)getpid());
		fclose(f);
	}
}

static void worker_write(const char *arg)
{
	const char *text = strchr(arg, ':') + 1;

	if (write(atoi(arg), text, strlen(text)) < 0)
		fprintf(stderr, "worker: write: %s\n", strerror(errno));
}

static void worker_garbage(int n)
{
	unsigned seed = 3;
	int i;

	while (n-- > 0)
		for (i = 0; i < 64; i++)
			putc((int)((seed = seed * 1103515245 + 12345) >> 16 & 255), worker_out);
}

/* --- what it sees --- */

static void worker_print_limits(void)
{
	static const struct { const char *name; int resource; } table[] = {
		{ "nofile", RLIMIT_NOFILE }, { "nproc", RLIMIT_NPROC }, { "as", RLIMIT_AS }, { "core", RLIMIT_CORE },
		{ "cpu", RLIMIT_CPU }, { "fsize", RLIMIT_FSIZE }, { "stack", RLIMIT_STACK },
		{ "memlock", RLIMIT_MEMLOCK },
	};
	struct rlimit rl;
	size_t i;

	for (i = 0; i < sizeof table / sizeof table[0]; i++) {
		getrlimit((__rlimit_resource_t)table[i].resource, &rl);
		fprintf(worker_out, "%s=%lld:%lld\n", table[i].name, (long long)rl.rlim_cur, (long long)rl.rlim_max);
	}
	fprintf(worker_out, "nice=%d\n", getpriority(PRIO_PROCESS, 0));
}

/* Lines of /proc/self/status that begin with one of the words. */
static void worker_print_status(const char *const *words)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[1024];
	int i;

	while (f && fgets(line, sizeof line, f))
		for (i = 0; words[i]; i++)
			if (strncmp(line, words[i], strlen(words[i])) == 0)
				fputs(line, worker_out);
	if (f)
		fclose(f);
}

static void worker_print_ids(void)
{
	static const char *const words[] = { "Uid:", "Gid:", "Groups:", "Cap", "NoNewPrivs:", NULL };

	worker_print_status(words);
}

static void worker_print_signals(void)
{
	static const char *const words[] = { "SigPnd:", "SigBlk:", "SigIgn:", "SigCgt:", NULL };

	worker_print_status(words);
}

static void worker_print_env(void)
{
	extern char **environ;
	char **e;

	for (e = environ; *e; e++)
		fprintf(worker_out, "%s\n", *e);
}

static void worker_print_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	char link[300], to[300];
	struct dirent *e;
	ssize_t n;

	while (d && (e = readdir(d))) {
		if (e->d_name[0] == '.' || atoi(e->d_name) == dirfd(d) || atoi(e->d_name) == fileno(worker_out))
			continue;
		snprintf(link, sizeof link, "/proc/self/fd/%s", e->d_name);
		n = readlink(link, to, sizeof to - 1);
		to[n < 0 ? 0 : n] = '\0';
		fprintf(worker_out, "fd %s %s\n", e->d_name, to);
	}
	if (d)
		closedir(d);
}

static void worker_listen_check(void)
{
	const char *fds = getenv("LISTEN_FDS"), *pid = getenv("LISTEN_PID"), *names = getenv("LISTEN_FDNAMES");
	int i, n = fds ? atoi(fds) : 0, accepting;
	socklen_t len = sizeof accepting;

	fprintf(worker_out, "listen fds=%s mine=%d names=%s\n", fds ? fds : "-", pid && atoi(pid) == getpid(),
	    names ? names : "-");
	for (i = 3; i < 3 + n; i++) {
		if (getsockopt(i, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &len) < 0)
			accepting = -1;
		fprintf(worker_out, "listen fd %d accepting=%d nonblock=%d cloexec=%d\n", i, accepting,
		    !!(fcntl(i, F_GETFL) & O_NONBLOCK), !!fcntl(i, F_GETFD));
	}
}

static void worker_print_tty(void)
{
	int fd = open("/dev/tty", O_RDWR | O_CLOEXEC);

	fprintf(worker_out, "tty=%s\n", fd < 0 ? strerror(errno) : "yes");
	if (fd >= 0)
		close(fd);
}

static void worker_print_dir(void)
{
	char dir[4096];

	fprintf(worker_out, "dir=%s\n", getcwd(dir, sizeof dir) ? dir : strerror(errno));
}

static void worker_set_out(const char *path)
{
	worker_out = fopen(path, "ae");
	if (!worker_out)
		worker_out = stdout;
}

/* --- the script --- */

/* Options without a value; true if it was one. */
static int worker_simple(const char *o)
{
	if (strcmp(o, "--hold") == 0)
		worker_hold();
	else if (strcmp(o, "--segv") == 0)
		raise(SIGSEGV);
	else if (strcmp(o, "--stop-self") == 0)
		raise(SIGSTOP);
	else if (strcmp(o, "--setsid") == 0)
		worker_setsid();
	else if (strcmp(o, "--daemonize") == 0)
		worker_daemonize(0);
	else if (strcmp(o, "--escape") == 0)
		worker_daemonize(1);
	else if (strcmp(o, "--notify-fds") == 0)
		worker_notify_fds();
	else if (strcmp(o, "--listen-check") == 0)
		worker_listen_check();
	else if (strcmp(o, "--print-limits") == 0)
		worker_print_limits();
	else if (strcmp(o, "--print-ids") == 0)
		worker_print_ids();
	else if (strcmp(o, "--print-signals") == 0)
		worker_print_signals();
	else if (strcmp(o, "--print-env") == 0)
		worker_print_env();
	else if (strcmp(o, "--print-fds") == 0)
		worker_print_fds();
	else if (strcmp(o, "--print-session") == 0)
		fprintf(worker_out, "session=%d\n", getsid(0) == getpid());
	else if (strcmp(o, "--print-umask") == 0)
		fprintf(worker_out, "umask=%04o\n", (unsigned)umask(0));
	else if (strcmp(o, "--print-dir") == 0)
		worker_print_dir();
	else if (strcmp(o, "--print-tty") == 0)
		worker_print_tty();
	else
		return 0;
	return 1;
}

/* Options with a value; true if it was one. */
static int worker_valued(const char *o, const char *v)
{
	if (strcmp(o, "--exit") == 0)
		exit(atoi(v));
	else if (strcmp(o, "--raise") == 0)
		raise(worker_signal(v));
	else if (strcmp(o, "--ignore") == 0)
		signal(worker_signal(v), SIG_IGN);
	else if (strcmp(o, "--exit-on") == 0)
		worker_do_exit_on(v);
	else if (strcmp(o, "--sleep") == 0)
		worker_sleep(atoi(v));
	else if (strcmp(o, "--fork") == 0)
		worker_fork(atoi(v));
	else if (strcmp(o, "--notify") == 0)
		worker_notify(v);
	else if (strcmp(o, "--notify-by-child") == 0)
		worker_notify_by_child(v);
	else if (strcmp(o, "--notify-size") == 0)
		worker_notify_size((size_t)atol(v));
	else if (strcmp(o, "--notify-garbage") == 0)
		worker_notify_garbage(atoi(v));
	else if (strcmp(o, "--pings") == 0)
		worker_pings(v);
	else if (strcmp(o, "--ready-fd") == 0)
		dprintf(atoi(v), "\n");
	else if (strcmp(o, "--write") == 0)
		worker_write(v);
	else if (strcmp(o, "--garbage") == 0)
		worker_garbage(atoi(v));
	else if (strcmp(o, "--listen") == 0)
		worker_listen(v);
	else if (strcmp(o, "--touch") == 0)
		worker_touch(v);
	else if (strcmp(o, "--print") == 0)
		fprintf(worker_out, "%s\n", v);
	else if (strcmp(o, "--out") == 0)
		worker_set_out(v);
	else
		return 0;
	return 1;
}

static int worker_main(int argc, char **argv)
{
	int i;

	worker_out = stdout;
	for (i = 1; i < argc; i++) {
		if (worker_simple(argv[i])) {
			fflush(worker_out);
			continue;
		}
		if (i + 1 == argc || !worker_valued(argv[i], argv[i + 1])) {
			fprintf(stderr, "worker: unknown option: %s\n", argv[i]);
			return 2;
		}
		fflush(worker_out);
		i++;
	}
	return 0;
}

#ifndef WORKER_IS_PART
int main(int argc, char **argv)
{
	/* "worker worker ..." is how it runs itself again. */
	if (argc > 1 && strcmp(argv[1], "worker") == 0)
		return worker_main(argc - 1, argv + 1);
	return worker_main(argc, argv);
}
#endif
