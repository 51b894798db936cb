/* SPDX-FileCopyrightText: The Coppice authors */
/* SPDX-License-Identifier: ISC */

/*
 * Fuzz target: the control process as a client and a supervisor of ill will see it. The input is
 * what both send, in turns: two bytes say who and how much, then come the bytes; a client's are its
 * stream, a supervisor's are one packet, in which the number of the last question is put, so that
 * answers reach somebody. Whatever comes, nothing crashes, and what the client is sent is whole
 * frames. Also compiled into a unit test, which plays fixed inputs.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/diag.h"
#include "base/fds.h"
#include "node/control_client.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { STRINGS = 64 };

/* The smallest image: a top supervisor, and a nested one called "s". */
static struct {
	struct spec_header h;
	char strings[STRINGS];
	struct spec_child top, nested;
} image;

static struct node node;
static struct control control;
static int supervisor = -1; /* its end of a link */

static uint32_t offset(const void *p)
{
	return (uint32_t)((const char *)p - (const char *)&image);
}

static void make_image(void)
{
	memcpy(image.strings, "/\0s\0fuzz", 9);
	image.h.magic = SPEC_MAGIC;
	image.h.size = sizeof(image);
	image.h.node = offset(image.strings + 4);
	image.h.top = offset(&image.top);
	image.h.n_children = 1;
	image.h.n_supervisors = 2;
	image.top.id = image.top.path = offset(image.strings);
	image.top.first = offset(&image.nested);
	image.top.n_children = 1;
	image.top.type = image.nested.type = SPEC_SUPERVISOR;
	image.nested.id = image.nested.path = offset(image.strings + 2);
	image.nested.parent = image.h.top;
}

/* Everything that happens at once. */
static void turn(void)
{
	for (int i = 0; i < 4; i++) {
		DIAG_ASSERT(loop_turn(&control.loop, 0) == 0);
		clients_reap(&control);
	}
}

static void say_hello(void)
{
	uint8_t buf[64];
	struct wire_out w;
	int fd[2];

	DIAG_ASSERT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) == 0);
	wire_out_init(&w, buf, sizeof(buf));
	wire_put_u8(&w, STEER_HELLO);
	wire_put_u32(&w, 0);
	wire_put_str(&w, "/");
	wire_put_i32(&w, getpid());
	wire_put_u32(&w, 0);
	DIAG_ASSERT(fds_send(node.fd[NODE_FD_HELLO_W], buf, w.len, &fd[1], 1) > 0);
	close(fd[1]);
	fds_close(&supervisor);
	supervisor = fd[0];
	super_hello(&control);
}

static void init(void)
{
	int fd[2], memfd = memfd_create("history", MFD_CLOEXEC);

	make_image();
	node.root_pid = getpid();
	strlcpy(node.name, "fuzz", sizeof(node.name));
	for (int i = 0; i < NODE_FDS; i++)
		node.fd[i] = -1;
	for (int i = 0; i < NODE_SOCKETS_MAX; i++)
		node.sockets[i] = -1;
	node.img.h = &image.h;
	node.img.fd = -1;
	DIAG_ASSERT(pipe2(fd, O_CLOEXEC | O_NONBLOCK) == 0);
	node.fd[NODE_FD_EVENT_R] = fd[0];
	node.fd[NODE_FD_EVENT_W] = fd[1];
	DIAG_ASSERT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) == 0);
	node.fd[NODE_FD_HELLO_R] = fd[0];
	node.fd[NODE_FD_HELLO_W] = fd[1];
	DIAG_ASSERT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) == 0);
	node.fd[NODE_FD_CTL_CTL] = fd[0];
	node.fd[NODE_FD_CTL_ROOT] = fd[1];

	control.n = &node;
	control.listen_fd = control.spare_fd = control.listen_src.fd = -1;
	control.n_parses = 1000; /* none is started: they queue, and are taken back */
	TAILQ_INIT(&control.clients);
	TAILQ_INIT(&control.dead);
	TAILQ_INIT(&control.parse_queue);
	TAILQ_INIT(&control.reloads);
	RB_INIT(&control.supers);
	DIAG_ASSERT(loop_open(&control.loop) == 0);
	DIAG_ASSERT(history_open(&control.history, memfd) == 0);
	close(memfd);
	DIAG_ASSERT(event_pipe_init(&control.events, node.fd[NODE_FD_EVENT_W], 4096) == 0);
	for (int i = 0; i < 100; i++)
		control_note(&control, "event %d", i);
	while (history_take(&control.history, node.fd[NODE_FD_EVENT_R]) > 0)
		event_pipe_flush(&control.events);
}

/* What the control process asked last, or sent to root. */
static uint32_t drain(int fd, uint32_t last)
{
	uint8_t buf[PROTO_PACKET_MAX];
	struct wire_in w;
	size_t n_fds;
	ssize_t n;

	while ((n = fds_recv(fd, buf, sizeof(buf), NULL, 0, &n_fds)) > 0) {
		wire_in_init(&w, buf, (size_t)n);
		(void)wire_get_u8(&w);
		last = wire_get_u32(&w);
	}
	return last;
}

/* A packet of a supervisor, as an answer to its last question. */
static void supervisor_says(const uint8_t *data, size_t n)
{
	static uint32_t no;
	uint8_t buf[300];

	no = drain(supervisor, no);
	memcpy(buf, data, n);
	if (n >= 5)
		memcpy(buf + 1, &no, sizeof(no));
	if (n > 0 && fds_send(supervisor, buf, n, NULL, 0) < 0)
		say_hello();
}

/* Checks the frames in what a client has got; returns what is left of the last one. */
static size_t check_frames(uint8_t *buf, size_t len)
{
	size_t at = 0;
	uint32_t n;

	while (len - at >= sizeof(n)) {
		memcpy(&n, buf + at, sizeof(n));
		DIAG_ASSERT(n > 0 && n <= PROTO_FRAME_MAX);
		if (len - at - sizeof(n) < n)
			break;
		DIAG_ASSERT(buf[at + sizeof(n)] >= PROTO_R_NODE && buf[at + sizeof(n)] <= PROTO_END);
		at += sizeof(n) + n;
	}
	memmove(buf, buf + at, len - at);
	return len - at;
}

/* A client reads all there is. */
static void client_reads(int fd)
{
	static uint8_t buf[PROTO_FRAME_MAX + 8];
	static size_t len;
	ssize_t n;

	if (fd < 0) {
		len = 0;
		return;
	}
	while ((n = recv(fd, buf + len, sizeof(buf) - len, MSG_DONTWAIT)) > 0)
		len = check_frames(buf, len + (size_t)n);
}

static void play(int client, const uint8_t *data, size_t size)
{
	size_t at = 0;

	while (at < size) { /* who, how many, that many bytes */
		uint8_t how = data[at++];
		size_t n = at < size ? data[at++] : 0;

		n = n < size - at ? n : size - at;
		if (how & 0x80)
			supervisor_says(data + at, n);
		else if (n > 0)
			(void)!send(client, data + at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		at += n;
		turn();
		if (how & 0x40)
			client_reads(client);
		(void)drain(node.fd[NODE_FD_CTL_ROOT], 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool ready;
	int fd[2];

	if (!ready)
		init();
	ready = true;
	if (supervisor < 0)
		say_hello();
	DIAG_ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fd) == 0);
	client_reads(-1);
	if (client_open(&control, fd[0]) == NULL)
		abort();
	play(fd[1], data, size);
	shutdown(fd[1], SHUT_WR);
	turn();
	client_reads(fd[1]);
	close(fd[1]);
	turn();
	DIAG_ASSERT(control.n_clients == 0);
	DIAG_ASSERT(control.out_bytes == 0);
	return 0;
}
