/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/* A node that is none (fake_node.h). Whatever goes wrong here ends the test. */
#include "fake_node.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>
#include <signal.h>

#include "cli/cli.h"

static void must(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	_exit(99);
}

static void get_all(int fd, void *buf, size_t len)
{
	must(recv(fd, buf, len, MSG_WAITALL) == (ssize_t)len, "request");
}

static void serve_one(int fd, unsigned n, fake_answer_f *answer)
{
	static uint8_t body[PROTO_REQUEST_MAX];
	struct fake_request r = { .fd = fd, .n = n };
	uint32_t len;

	get_all(fd, &len, sizeof len);
	must(len <= sizeof body, "length");
	get_all(fd, body, len);
	wire_in_init(&r.args, body, len);
	must(wire_get_u8(&r.args) == PROTO_REQUEST && wire_get_u8(&r.args) == PROTO_VERSION, "head");
	r.verb = wire_get_u8(&r.args);
	r.flags = wire_get_u32(&r.args);
	answer(&r);
}

static void serve(int listener, fake_answer_f *answer)
{
	unsigned n;
	char c;

	for (n = 0;; n++) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		must(fd >= 0, "accept");
		/* one that only looked whether somebody listens has closed already */
		if (recv(fd, &c, 1, MSG_PEEK) > 0)
			serve_one(fd, n, answer);
		else
			n--;
		close(fd);
	}
}

static void fake_main(struct fake *f, fake_answer_f *answer, uid_t uid, int ready)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int fd;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (uid != geteuid())
		must(setresuid(uid, uid, uid) == 0, "setresuid");
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(sa.sun_path, sizeof sa.sun_path, "%s", f->path);
	must(bind(fd, (struct sockaddr *)&sa, sizeof sa) == 0 && listen(fd, 64) == 0, "listen");
	must(write(ready, "", 1) == 1, "ready");
	close(ready);
	serve(fd, answer);
}

void fake_start_as(struct fake *f, fake_answer_f *answer, uid_t uid)
{
	int ready[2];
	char c;

	snprintf(f->dir, sizeof f->dir, "/tmp/copfake.XXXXXX");
	must(mkdtemp(f->dir) != NULL, "mkdtemp");
	if (uid != geteuid())
		must(chmod(f->dir, 01777) == 0, "chmod");
	snprintf(f->path, sizeof f->path, "%s/control", f->dir);
	must(pipe(ready) == 0, "pipe");
	f->pid = fork();
	must(f->pid >= 0, "fork");
	if (f->pid == 0) {
		close(ready[0]);
		fake_main(f, answer, uid, ready[1]);
		_exit(0);
	}
	close(ready[1]);
	must(read(ready[0], &c, 1) == 1, "the fake node");
	close(ready[0]);
	setenv("COPPICE_SOCKET", f->path, 1);
}

void fake_start(struct fake *f, fake_answer_f *answer)
{
	fake_start_as(f, answer, geteuid());
}

void fake_stop(struct fake *f)
{
	kill(f->pid, SIGKILL);
	waitpid(f->pid, NULL, 0);
	unlink(f->path);
	rmdir(f->dir);
	unsetenv("COPPICE_SOCKET");
}

/* --- frames --- */

void fake_send(int fd, const struct wire_out *body)
{
	uint32_t len = (uint32_t)body->len;

	must(!body->overflow, "frame");
	/* a client that has left is no fault of the fake */
	if (send(fd, &len, sizeof len, MSG_NOSIGNAL | MSG_MORE) > 0)
		(void)!send(fd, body->buf, body->len, MSG_NOSIGNAL);
}

void fake_node(int fd)
{
	struct proto_node n = { .node = "demo", .pid = 4242, .version = "0.1.0", .state = PROTO_NODE_RUNNING,
		.uptime_ms = 123456, .file = "/etc/coppice/demo.conf" };
	uint8_t buf[8192];
	struct wire_out w;

	wire_out_init(&w, buf, sizeof buf);
	wire_put_u8(&w, PROTO_R_NODE);
	proto_put_node(&w, &n);
	fake_send(fd, &w);
}

void fake_end(int fd, uint8_t status, const char *message)
{
	uint8_t buf[8192];
	struct wire_out w;

	wire_out_init(&w, buf, sizeof buf);
	wire_put_u8(&w, PROTO_END);
	wire_put_u8(&w, status);
	wire_put_str(&w, message);
	fake_send(fd, &w);
}

void fake_text(int fd, uint8_t kind, const char *text)
{
	uint8_t buf[8192];
	struct wire_out w;

	wire_out_init(&w, buf, sizeof buf);
	wire_put_u8(&w, kind);
	wire_put_str(&w, text);
	fake_send(fd, &w);
}

void fake_child(int fd, const struct proto_child *c)
{
	uint8_t buf[8192];
	struct wire_out w;

	wire_out_init(&w, buf, sizeof buf);
	wire_put_u8(&w, PROTO_R_CHILD);
	proto_put_child(&w, c);
	fake_send(fd, &w);
}

struct proto_child fake_worker(const char *path, uint32_t order)
{
	struct proto_child c = { .type = SPEC_WORKER, .state = PROTO_ST_RUNNING, .restart = SUP_PERMANENT,
		.pid = 100 + (int32_t)order, .uptime_ms = 125000, .shutdown_ms = 5000, .order = order,
		.command = "/bin/worker --port 1", .max_children = SUP_NO_LIMIT };

	snprintf(c.path, sizeof c.path, "%s", path);
	return c;
}

struct proto_child fake_supervisor(const char *path, uint32_t order)
{
	struct proto_child c = { .type = SPEC_SUPERVISOR, .state = PROTO_ST_RUNNING, .restart = SUP_PERMANENT,
		.pid = 100 + (int32_t)order, .uptime_ms = 125000, .shutdown_ms = SUP_SHUTDOWN_INFINITY,
		.order = order, .max_restarts = 3, .max_seconds = 5, .restarts_left = 3,
		.max_children = SUP_NO_LIMIT };

	snprintf(c.path, sizeof c.path, "%s", path);
	return c;
}

/* --- the command --- */

static void slurp(int fd, char *buf, size_t size)
{
	ssize_t n = pread(fd, buf, size - 1, 0);

	buf[n > 0 ? n : 0] = '\0';
	close(fd);
}

static int split(char *words, char **argv, int max)
{
	int argc = 0;
	char *at = words, *w;

	while ((w = strsep(&at, " ")) != NULL && argc < max - 1)
		if (*w != '\0')
			argv[argc++] = w;
	argv[argc] = NULL;
	return argc;
}

void run_coppice(struct ran *r, const char *words)
{
	int out = memfd_create("out", MFD_CLOEXEC), err = memfd_create("err", MFD_CLOEXEC), status;
	char line[1024], *argv[64];
	pid_t pid;

	fflush(NULL);
	pid = fork();
	must(pid >= 0, "fork");
	if (pid == 0) {
		snprintf(line, sizeof line, "coppice %s", words);
		dup2(out, STDOUT_FILENO);
		dup2(err, STDERR_FILENO);
		exit(cli_main(split(line, argv, 64), argv));
	}
	must(waitpid(pid, &status, 0) == pid, "waitpid");
	r->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
	slurp(out, r->out, sizeof r->out);
	slurp(err, r->err, sizeof r->err);
}
